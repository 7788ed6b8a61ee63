//! What the roster shows of restarts that wait for calls, and of sessions that are taken for poisoned.

use std::sync::Arc;

use chrono::TimeDelta;
use covalence_events::workspace::{
    DrainEnded, DrainOutcome, DrainRequested, Event, FailureKind, FailureSign, ProvisionRequested,
    RestartCause, RestartRequested, RestartStarted, SessionCleared, SessionPoisoned, SessionSuspected,
};
use covalence_events::{CallId, Generation, Position, RestartId};
use uuid::Uuid;

use super::roster::fold;
use crate::roster::{RestartStage, Row};
use crate::testing::{History, created, id, provision, started};

const RESTART: RestartId = RestartId(Uuid::from_u128(7));
const CALL: CallId = CallId(Uuid::from_u128(8));

fn row(events: impl IntoIterator<Item = Event>) -> Arc<Row> {
    let mut history = History::default();
    history.of(1, created("a", None));
    history.of(1, provision(1));
    history.of(1, started(1));
    for event in events {
        history.of(1, event);
    }
    fold(&history).get(id(1)).unwrap()
}

fn failure() -> FailureSign {
    FailureSign {
        kind: FailureKind::Process,
        fingerprint: "ab".to_owned(),
        excerpt: "boom".to_owned(),
        message: None,
    }
}

fn poisoned() -> Event {
    let message = "restart it with a fresh session".to_owned();
    SessionPoisoned { call: CALL, failure: failure(), in_a_row: 3, after_reset: false, message }.into()
}

#[test]
fn a_restart_that_waits_for_calls_is_shown_as_draining_and_says_until_when() {
    let mut events: Vec<Event> = vec![
        RestartRequested {
            restart: RESTART,
            cause: RestartCause::Operator,
            generation: Generation(1),
            reset_session: false,
            evidence: Vec::new(),
            forced: false,
            reason: None,
        }
        .into(),
        RestartStarted { restart: RESTART, admission: Position(4) }.into(),
        DrainRequested { restart: RESTART, generation: Generation(1), within_ms: 30_000 }.into(),
    ];
    let draining = row(events.clone());
    let until = draining.updated_at + TimeDelta::seconds(30);
    assert_eq!(draining.restart.as_ref().unwrap().stage, RestartStage::Draining { until });
    let (outcome, open) = (DrainOutcome::TimedOut, Some(1));
    events.push(DrainEnded { restart: RESTART, outcome, open, took_ms: 30_000 }.into());
    assert_eq!(row(events).restart.as_ref().unwrap().stage, RestartStage::Started);
}

#[test]
fn advice_about_a_session_stands_until_it_would_not_help_any_more() {
    let suspected: Event = SessionSuspected { call: CALL, failure: failure() }.into();
    assert_eq!(row([suspected.clone()]).advice, None, "one failure is no reason to act");
    let advised = row([suspected.clone(), poisoned()]);
    let advice = advised.advice.as_deref().unwrap();
    assert_eq!((advice.code, advice.text.as_str()), ("session_poisoned", "restart it with a fresh session"));
    let cleared = SessionCleared { call: CALL, in_a_row: 3 }.into();
    assert_eq!(row([poisoned(), cleared]).advice, None);
    assert_eq!(row([poisoned(), suspected]).advice, None, "it fails otherwise now");
    let again = |reset_session| ProvisionRequested { reset_session, ..provision(2) }.into();
    assert_eq!(row([poisoned(), again(true)]).advice, None);
    assert!(row([poisoned(), again(false)]).advice.is_some(), "the session outlives a plain restart");
}
