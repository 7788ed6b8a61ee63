//! The same history for the same seed, and one that hangs together.

use std::collections::HashMap;

use super::{Fleet, Options, Step};
use crate::envelope::Fact;
use crate::fleet::Event as FleetEvent;
use crate::id::Position;
use crate::log::memory::MemoryLog;
use crate::log::{EventLog, check_shape};
use crate::workspace::Event;

const FACTS: u64 = 300_000;

/// The steps that have so many facts.
fn history(options: Options, facts: u64) -> Vec<Step> {
    let mut told = 0;
    Fleet::new(options)
        .take_while(|step| {
            told += step.events().count() as u64;
            told <= facts
        })
        .collect()
}

#[test]
fn the_same_seed_tells_the_same_history_and_another_one_a_different_one() {
    let options = Options { workspaces: 20, ..Options::default() };
    let all = |options| -> Vec<_> {
        history(options, 5000).iter().flat_map(|step| step.events().cloned().collect::<Vec<_>>()).collect()
    };
    assert_eq!(all(options), all(options));
    assert_ne!(all(options), all(Options { seed: 2, ..options }));
}

#[test]
fn nine_facts_of_ten_are_beats_and_everything_else_is_there() {
    let mut counts: HashMap<&str, u64> = HashMap::new();
    let (mut all, mut large) = (0_u64, 0_u64);
    for step in history(Options::default(), FACTS) {
        check_shape(&step.appends).unwrap();
        for event in step.events() {
            all += 1;
            *counts.entry(event.fact.tag()).or_default() += 1;
            large += u64::from(event.fact.encode().unwrap().len() > 4096);
        }
    }
    let of = |tag: &str| counts.get(tag).copied().unwrap_or_default();
    let beats = of("workspace.heartbeat_received.v1");
    assert!((88..97).contains(&(beats * 100 / all)), "{beats} of {all}: {counts:?}");
    assert!(of("workspace.call_finished.v1") > all / 20, "{counts:?}");
    for tag in ["workspace.created.v1", "workspace.registered.v1"] {
        assert_eq!(
            of(tag),
            1000 + if tag == "workspace.registered.v1" { of("workspace.restart_started.v1") } else { 0 }
        );
    }
    for tag in ["workspace.restart_proved.v1", "fleet.restart_settled.v1", "workspace.suspicion_cleared.v1"] {
        assert!(of(tag) > 0, "no {tag}: {counts:?}");
    }
    assert!(large >= 20, "{large} large payloads");
}

#[tokio::test]
async fn times_never_run_backwards_by_more_than_a_story_and_positions_that_facts_name_are_true() {
    let log = MemoryLog::default();
    for step in history(Options { workspaces: 10, ..Options::default() }, 60_000) {
        log.append(step.appends, step.ack).await.unwrap();
    }
    let (mut newest, mut admissions) = (None, 0);
    for event in log.read_all(Position(1), usize::MAX).await.unwrap() {
        let slack = chrono::TimeDelta::milliseconds(50);
        assert!(newest.is_none_or(|newest| event.meta.at + slack >= newest), "{event:?}");
        newest = newest.max(Some(event.meta.at));
        if let Fact::Workspace(Event::RestartStarted(started)) = &event.fact {
            let admission = log.read_all(started.admission, 1).await.unwrap();
            assert!(
                matches!(&admission[0].fact, Fact::Fleet(FleetEvent::RestartAdmitted(admitted))
                    if admitted.restart == started.restart),
                "{started:?} names {admission:?}"
            );
            admissions += 1;
        }
    }
    assert!(admissions > 0, "nobody was restarted");
}
