//! Reading the raw log.

use std::sync::Arc;
use std::time::Duration;

use covalence_events::Position;
use covalence_events::log::EventLog;
use covalence_events::log::memory::MemoryLog;
use covalence_events::workspace::Paused;
use serde_json::json;
use uuid::Uuid;

use crate::tail::{Filter, Follow, json, last, page, position_at, wait_for_event};
use crate::testing::{History, admitted, append, at, created, id, provision};

const PATIENCE: Duration = Duration::from_secs(10);
/// For what never comes: the test takes this long.
const SHORT: Duration = Duration::from_millis(20);

/// 1: created a, 2: created b, 3: provision a, 4: paused b, 5: admission of b in the fleet's stream, 6: paused a.
async fn log() -> Arc<MemoryLog> {
    let mut history = History::default();
    history.of(1, created("a", None));
    history.of(2, created("b", None));
    history.of(1, provision(1));
    history.of(2, Paused {});
    history.fleet(admitted(2));
    history.of(1, Paused {});
    let log = Arc::new(MemoryLog::new());
    append(&log, &history.0).await;
    log
}

fn places(events: &[Arc<covalence_events::Recorded>]) -> Vec<u64> {
    events.iter().map(|recorded| recorded.position.0).collect()
}

#[tokio::test]
async fn a_filter_picks_by_tag_workspace_time_and_correlation() {
    let log = log().await;
    let tag = |tag: &str| Filter { tag: Some(tag.to_owned()), ..Filter::default() };
    for (filter, expected) in [
        (Filter::default(), vec![1, 2, 3, 4, 5, 6]),
        (tag("workspace.paused.v1"), vec![4, 6]),
        (tag("workspace.p"), vec![3, 4, 6]),
        (Filter { workspace: Some(id(2)), ..Filter::default() }, vec![2, 4, 5]),
        (Filter { since: Some(at(3)), until: Some(at(5)), ..Filter::default() }, vec![3, 4]),
        (
            Filter {
                correlation: Some(covalence_events::CorrelationId(Uuid::from_u128(8))),
                ..Filter::default()
            },
            vec![],
        ),
    ] {
        let found = page(log.as_ref(), &filter, Position(0), 100).await.unwrap();
        assert_eq!(places(&found.events), expected, "{filter:?}");
        assert!(found.complete);
        assert_eq!(places(&last(log.as_ref(), &filter, 100).await.unwrap()), expected, "{filter:?}");
    }
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_repetition() {
    let log = log().await;
    let filter = Filter::default();
    let first = page(log.as_ref(), &filter, Position(0), 4).await.unwrap();
    assert_eq!((places(&first.events), first.complete), (vec![1, 2, 3, 4], false));
    let second = page(log.as_ref(), &filter, first.next_after, 4).await.unwrap();
    assert_eq!((places(&second.events), second.complete), (vec![5, 6], true));
    assert_eq!(second.next_after, Position(6));
    let none = page(log.as_ref(), &filter, second.next_after, 4).await.unwrap();
    assert_eq!((none.events.len(), none.next_after, none.complete), (0, Position(6), true));
}

#[tokio::test]
async fn the_last_ones_are_the_newest_in_their_order() {
    let log = log().await;
    assert_eq!(places(&last(log.as_ref(), &Filter::default(), 2).await.unwrap()), [5, 6]);
    let own = Filter { workspace: Some(id(1)), ..Filter::default() };
    assert_eq!(places(&last(log.as_ref(), &own, 2).await.unwrap()), [3, 6]);
}

#[tokio::test]
async fn a_time_is_found_by_halving() {
    let log = log().await;
    for (seconds, expected) in [(0, 1), (1, 1), (4, 4), (6, 6), (7, 7)] {
        assert_eq!(position_at(log.as_ref(), at(seconds)).await.unwrap(), Position(expected));
    }
    assert_eq!(position_at(&MemoryLog::new(), at(0)).await.unwrap(), Position(1));
}

#[tokio::test]
async fn following_gives_what_is_there_then_what_comes() {
    let log = log().await;
    let filter = Filter { workspace: Some(id(2)), ..Filter::default() };
    let mut follow = Follow::new(Arc::clone(&log) as Arc<dyn EventLog>, filter, Position(2));
    assert_eq!(places(&follow.next().await.unwrap().unwrap()), [4, 5]);
    log.close().await;
    let end = tokio::time::timeout(PATIENCE, follow.next()).await.unwrap().unwrap();
    assert!(end.is_none());
}

#[tokio::test]
async fn waiting_for_a_fact_finds_it_or_gives_up_in_time() {
    let log = log().await;
    let log = log as Arc<dyn EventLog>;
    let paused = |recorded: &covalence_events::Recorded| recorded.fact.tag() == "workspace.paused.v1";
    let found = wait_for_event(Arc::clone(&log), Position(5), PATIENCE, paused).await.unwrap();
    assert_eq!(found.position, Position(6));
    assert!(wait_for_event(log, Position(7), SHORT, paused).await.is_none());
}

#[test]
fn a_fact_as_json_has_the_envelope_beside_its_data() {
    let mut history = History::default();
    let recorded = history.of(1, provision(1));
    assert_eq!(
        json(&recorded),
        json!({
            "position": 1,
            "stream": "workspace/00000000-0000-0000-0000-000000000001",
            "version": 1,
            "id": "00000000-0000-0000-0000-000000000001",
            "type": "workspace.provision_requested.v1",
            "at": "2023-11-14T22:13:21.000000Z",
            "boot": "00000000-0000-0000-0000-000000000000",
            "mono_ns": 1,
            "correlation": "00000000-0000-0000-0000-000000000007",
            "causation": null,
            "principal": "system",
            "policy": null,
            "workspace": "00000000-0000-0000-0000-000000000001",
            "data": {"generation": 1, "origin": "create", "restart": null, "reset_session": false},
        })
    );
}
