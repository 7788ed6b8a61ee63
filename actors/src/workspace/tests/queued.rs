//! What is decided about calls that wait until an agent has time.

use std::time::Duration;

use chrono::TimeDelta;
use covalence_events::workspace::{
    CallDequeued, CallDispatched, CallFinished, CallOutcome, CallQueued, QueueOutcome,
};
use covalence_events::{CallId, Principal, QueueId};

use super::*;
use crate::workspace::command::Hibernate;
use crate::workspace::queue::{ATTEMPTS_MAX, Delivered, Returned, WAITING_MAX};

const QUEUED: &str = "workspace.call_queued.v1";
const DEQUEUED: &str = "workspace.call_dequeued.v1";
const RETURNED: &str = "workspace.call_returned.v1";

fn name(n: u128) -> QueueId {
    QueueId(Uuid::from_u128(n))
}

fn call(n: u128, digest: Option<&str>) -> Command {
    Command::QueueCall(Box::new(CallQueued {
        queue: name(n),
        caller: Principal::Admin,
        method: "message/send".to_owned(),
        digest: digest.map(str::to_owned),
        not_before: None,
        expires: chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap() + TimeDelta::hours(1),
        request: "{}".to_owned(),
    }))
}

fn dispatched(n: u128) -> Command {
    Command::RecordCallDispatched(CallDispatched { queue: name(n), call: CallId(Uuid::from_u128(n)) })
}

fn returned(n: u128, busy: bool) -> Command {
    let (pause, error) = (TimeDelta::seconds(5), "not now".to_owned());
    Command::RecordCallReturned(Returned { queue: name(n), busy, pause, error })
}

fn answered(n: u128) -> Command {
    let finished = CallFinished {
        call: CallId(Uuid::from_u128(n)),
        caller: Principal::Admin,
        method: "message/send".to_owned(),
        outcome: CallOutcome::Answered,
        status: Some(200),
        duration_ms: 1,
        request_bytes: 2,
        response_bytes: 2,
        error: None,
        tries: 1,
        failure: None,
    };
    let ended = CallDequeued { queue: name(n), outcome: QueueOutcome::Completed, reason: None, error: None };
    Command::RecordCallDelivered(Box::new(Delivered { ended, call: Some((finished, None)) }))
}

fn served(story: &Scenario) -> bool {
    outstanding(story.state()).iter().any(|effect| matches!(effect, Effect::ServeQueue { .. }))
}

#[test]
fn a_call_waits_once_leaves_once_and_ends_once_together_with_what_is_known_of_it() {
    let mut story = online();
    assert_eq!(story.tags_when(&call(1, Some("d"))), [QUEUED]);
    assert!(story.tags_when(&call(2, Some("d"))).is_empty(), "it waits already");
    assert!(served(&story), "a kill here goes on with it");
    assert_eq!(story.tags_when(&dispatched(1)), ["workspace.call_dispatched.v1"]);
    assert_eq!(story.when(&dispatched(1)).unwrap_err(), Rejection::NotQueued, "it has left");
    assert!(served(&story), "a kill here has to be told from an answer");
    assert_eq!(story.tags_when(&answered(1)), ["workspace.call_finished.v1", DEQUEUED]);
    assert_eq!(story.tags_when(&answered(1)), ["workspace.call_finished.v1"], "it ended once");
    assert!(!served(&story));
    assert_eq!(story.tags_when(&call(3, Some("d"))), [QUEUED], "the one before is over");
}

#[test]
fn an_agent_without_time_is_asked_for_ever_and_one_that_is_not_there_so_many_times() {
    let mut story = online();
    story.when(&call(1, None)).unwrap();
    for _ in 0..ATTEMPTS_MAX * 2 {
        story.when(&dispatched(1)).unwrap();
        assert_eq!(story.tags_when(&returned(1, true)), [RETURNED]);
    }
    assert!(story.state().queue.not_before().is_some());
    for _ in 1..ATTEMPTS_MAX {
        story.when(&dispatched(1)).unwrap();
        assert_eq!(story.tags_when(&returned(1, false)), [RETURNED]);
    }
    story.when(&dispatched(1)).unwrap();
    assert_eq!(story.tags_when(&returned(1, false)), [DEQUEUED]);
    assert_eq!(story.when(&returned(1, true)).unwrap_err(), Rejection::NotQueued);
    assert_eq!(story.state().queue.not_before(), None, "nobody waits, so nothing is kept");
}

#[test]
fn no_more_than_so_many_wait() {
    let mut story = online();
    for n in 0..WAITING_MAX as u128 {
        story.when(&call(n, None)).unwrap();
    }
    assert_eq!(story.when(&call(9_999, None)).unwrap_err(), Rejection::QueueFull);
    story.when(&answered(0)).unwrap();
    story.when(&call(9_999, None)).unwrap();
}

#[test]
fn what_is_not_wanted_any_more_is_dropped_and_what_is_with_the_agent_goes_on() {
    let mut story = online();
    for n in [1, 2] {
        story.when(&call(n, None)).unwrap();
    }
    story.when(&dispatched(1)).unwrap();
    story = story.after(Duration::from_secs(1800));
    story.when(&beat(1)).unwrap();
    let before = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap() + TimeDelta::minutes(10);
    let mut stale = story.clone();
    assert_eq!(stale.tags_when(&Command::DropStale { before }), [DEQUEUED]);
    assert!(stale.state().queue.get(name(1)).is_some() && stale.state().queue.get(name(2)).is_none());
    assert!(!story.tags_when(&Command::RecordDeadline).contains(&DEQUEUED));
    story = story.after(Duration::from_secs(1900));
    story.when(&beat(1)).unwrap();
    assert!(story.tags_when(&Command::RecordDeadline).contains(&DEQUEUED));
    assert!(story.state().queue.get(name(1)).is_some() && story.state().queue.get(name(2)).is_none());
}

#[test]
fn a_call_that_waits_wakes_who_sleeps_and_nothing_waits_for_who_is_removed() {
    let mut story = online();
    story.when(&Command::Hibernate(Hibernate::default())).unwrap();
    story.when(&Command::RecordStopped { generation: Generation(1) }).unwrap();
    assert_eq!(story.tags_when(&call(1, None)), [QUEUED, "workspace.provision_requested.v1"]);
    story.when(&Command::Remove(Remove::default())).unwrap();
    assert!(story.state().queue.is_empty() && !served(&story));
    assert_eq!(story.when(&call(2, None)).unwrap_err(), Rejection::Removed);
}
