//! How calls went.

use covalence_events::Principal;
use covalence_events::workspace::CallOutcome;

use crate::Projection;
use crate::calls::{Calls, RECENT_PER_WORKSPACE};
use crate::testing::{History, call, created, id};

fn fold(history: &History) -> Calls {
    let mut calls = Calls::default();
    for recorded in &history.0 {
        calls.apply(recorded).unwrap();
    }
    calls
}

#[test]
fn totals_count_each_outcome_for_the_workspace_and_overall() {
    let mut history = History::default();
    history.of(1, created("a", None));
    history.of(1, call(Principal::Admin, CallOutcome::Answered, 3));
    history.of(1, call(Principal::Admin, CallOutcome::NotDelivered, 40));
    history.of(2, call(Principal::Admin, CallOutcome::Unknown, 700_000));
    let calls = fold(&history);
    let own = calls.of(id(1)).unwrap();
    assert_eq!((own.answered, own.not_delivered, own.unknown), (1, 1, 0));
    let all = calls.overall();
    assert_eq!((all.count(), all.duration_ms_sum, all.duration_ms_max), (3, 700_043, 700_000));
    assert_eq!((all.request_bytes, all.response_bytes), (30, 60));
    assert_eq!(all.duration_buckets.iter().sum::<u64>(), 3);
    assert_eq!(all.duration_buckets.last(), Some(&1));
    assert_eq!(
        (all.quantile_ms(0.3), all.quantile_ms(0.5), all.quantile_ms(1.0)),
        (Some(5), Some(50), Some(700_000))
    );
    assert!(calls.of(id(3)).is_none());
}

#[test]
fn only_the_last_calls_of_a_workspace_are_kept_newest_first() {
    let mut history = History::default();
    history.of(1, created("a", None));
    for duration in 0..RECENT_PER_WORKSPACE as u64 + 3 {
        history.of(1, call(Principal::Admin, CallOutcome::Answered, duration));
    }
    let recent = fold(&history).recent(id(1), usize::MAX);
    assert_eq!(recent.len(), RECENT_PER_WORKSPACE);
    assert_eq!(recent[0].finished.duration_ms, RECENT_PER_WORKSPACE as u64 + 2);
    assert_eq!(recent[RECENT_PER_WORKSPACE - 1].finished.duration_ms, 3);
}
