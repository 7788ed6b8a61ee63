//! When failures that repeat are taken for a poisoned session (R14).

use covalence_events::workspace::{
    BackendKind, CallFinished, CallOutcome, Event, EvidenceClass, FailureKind, FailureSign, RestartCause,
};
use covalence_events::{CallId, Position, Principal};
use proptest::prelude::*;
use uuid::Uuid;

use super::{asked, create, evidence, online, provisioned};
use crate::policy::SessionRestart;
use crate::scenario::Scenario;
use crate::workspace::command::Remove;
use crate::workspace::session::POISONED_AT;
use crate::workspace::{Command, Effect};

const SUSPECTED: &str = "workspace.session_suspected.v1";
const POISONED: &str = "workspace.session_poisoned.v1";
const CLEARED: &str = "workspace.session_cleared.v1";
const FINISHED: &str = "workspace.call_finished.v1";
const REQUESTED: &str = "workspace.restart_requested.v1";

fn sign(kind: FailureKind, text: &str) -> FailureSign {
    FailureSign { kind, fingerprint: text.to_owned(), excerpt: text.to_owned(), message: None }
}

fn answered(failure: Option<FailureSign>) -> CallFinished {
    CallFinished {
        call: CallId(Uuid::from_u128(5)),
        caller: Principal::Admin,
        method: "message/send".to_owned(),
        outcome: CallOutcome::Answered,
        status: Some(200),
        duration_ms: 3,
        request_bytes: 1,
        response_bytes: 1,
        error: None,
        tries: 1,
        failure,
    }
}

pub(crate) fn failed(text: &str) -> CallFinished {
    answered(Some(sign(FailureKind::Process, text)))
}

pub(crate) fn ends(call: CallFinished) -> Command {
    Command::RecordCallFinished(Box::new(call), None)
}

/// A call ends so, and the knock comes that follows what it says: the tags of both.
fn tags(story: &mut Scenario, call: CallFinished) -> Vec<&'static str> {
    events(story, call).iter().map(Event::tag).collect()
}

fn events(story: &mut Scenario, call: CallFinished) -> Vec<Event> {
    let mut events = story.when(&ends(call)).unwrap();
    events.extend(story.when(&Command::RecordDeadline).unwrap());
    events
}

fn poisoned(events: &[Event]) -> &covalence_events::workspace::SessionPoisoned {
    let found = events.iter().find_map(|event| match event {
        Event::SessionPoisoned(poisoned) => Some(poisoned),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("nothing is poisoned in {events:?}"))
}

#[test]
fn the_first_failure_is_suspect_and_the_third_alike_is_poison_with_advice_and_no_restart() {
    let mut story = online();
    assert_eq!(tags(&mut story, failed("boom")), [FINISHED, SUSPECTED]);
    assert_eq!(tags(&mut story, failed("boom")), [FINISHED]);
    let events = events(&mut story, failed("boom"));
    let found = poisoned(&events);
    assert_eq!((found.in_a_row, found.after_reset), (POISONED_AT, false));
    assert!(found.message.contains("`covalence workspaces restart scout --reset`"), "{}", found.message);
    assert_eq!(events.len(), 2, "advice is the default: {events:?}");
    assert!(story.effects.is_empty());
    assert_eq!(tags(&mut story, failed("boom")), [FINISHED], "it is said once");
    let chain = &story.story[story.story.len() - 3..];
    assert_eq!(chain[1].meta.causation, Some(chain[0].meta.id), "the verdict names the call that settled it");
}

#[test]
fn a_success_and_another_failure_begin_the_count_anew() {
    let mut story = online();
    tags(&mut story, failed("boom"));
    tags(&mut story, failed("boom"));
    assert_eq!(tags(&mut story, failed("bang")), [FINISHED, SUSPECTED]);
    tags(&mut story, failed("boom"));
    tags(&mut story, failed("boom"));
    assert_eq!(tags(&mut story, answered(None)), [FINISHED, CLEARED]);
    assert_eq!(tags(&mut story, answered(None)), [FINISHED], "nothing is left to clear");
    for _ in 0..2 {
        assert!(!tags(&mut story, failed("boom")).contains(&POISONED));
    }
    assert!(tags(&mut story, failed("boom")).contains(&POISONED));
}

/// What each kind of call does to a count that stands at two: `None` leaves it, `Some` is what it leads to.
#[test]
fn what_counts_and_what_does_not() {
    let boom = || failed("boom");
    let request = answered(Some(sign(FailureKind::Request, "boom")));
    let unanswered = |outcome| CallFinished { outcome, status: None, failure: None, ..boom() };
    let asks = |method: &str| CallFinished { method: method.to_owned(), ..answered(None) };
    let table = [
        ("the same failure", boom(), Some(POISONED)),
        (
            "of another method that works",
            CallFinished { method: "SendMessage".to_owned(), ..boom() },
            Some(POISONED),
        ),
        (
            "of a method that nobody knows",
            CallFinished { method: "work".to_owned(), ..boom() },
            Some(POISONED),
        ),
        ("with the agent's own status", CallFinished { status: Some(500), ..boom() }, Some(POISONED)),
        ("an answer", answered(None), Some(CLEARED)),
        ("another failure", failed("bang"), Some(SUSPECTED)),
        ("a request that was at fault", request, None),
        ("an agent that is stopped", answered(Some(sign(FailureKind::Stopped, "boom"))), None),
        ("a call that did not arrive", unanswered(CallOutcome::NotDelivered), None),
        ("a call of unknown fate", unanswered(CallOutcome::Unknown), None),
        ("an agent that is busy", CallFinished { status: Some(503), ..answered(None) }, None),
        ("a refused request", CallFinished { status: Some(422), ..answered(None) }, None),
        ("the state of a task", asks("tasks/get"), None),
        ("the state of a task in 1.0", asks("GetTask"), None),
    ];
    for (what, call, follows) in table {
        let mut story = online();
        tags(&mut story, failed("boom"));
        tags(&mut story, failed("boom"));
        let found = tags(&mut story, call);
        assert_eq!(found[1..], follows.into_iter().collect::<Vec<_>>(), "{what}");
        if follows.is_none() {
            assert!(tags(&mut story, failed("boom")).contains(&POISONED), "{what} leaves the count alone");
        }
    }
}

#[test]
fn a_message_that_is_repeated_counts_once() {
    let named = |message: &str| {
        let failure = FailureSign { message: Some(message.to_owned()), ..sign(FailureKind::Error, "boom") };
        answered(Some(failure))
    };
    let mut story = online();
    for _ in 0..5 {
        assert!(!tags(&mut story, named("one")).contains(&POISONED));
    }
    tags(&mut story, named("two"));
    assert!(tags(&mut story, named("three")).contains(&POISONED));
}

#[test]
fn failures_that_come_faster_than_they_are_recorded_are_all_counted() {
    let mut story = online();
    for _ in 0..POISONED_AT {
        assert_eq!(
            story.tags_when(&ends(failed("boom"))),
            [FINISHED],
            "an outcome is telemetry and nothing else"
        );
    }
    assert_eq!(story.tags_when(&Command::RecordDeadline), [SUSPECTED, POISONED]);
    assert_eq!(story.tags_when(&ends(answered(None))), [FINISHED]);
    story.when(&ends(failed("boom"))).unwrap();
    assert_eq!(story.tags_when(&Command::RecordDeadline), [SUSPECTED], "it worked in between");
}

#[test]
fn where_the_policy_says_so_it_is_restarted_with_a_fresh_session_through_admission() {
    let mut story = online();
    story.policy.session_restart = SessionRestart::Automatic;
    tags(&mut story, failed("boom"));
    tags(&mut story, failed("boom"));
    assert_eq!(tags(&mut story, failed("boom")), [FINISHED, POISONED, REQUESTED]);
    assert!(matches!(story.effects[..], [Effect::RequestAdmission { cause: RestartCause::Session, .. }]));
    let pending = story.state().restart.clone().unwrap();
    assert!(pending.reset_session);
    let request = story.story.last().unwrap();
    assert_eq!(request.meta.causation, Some(story.story[story.story.len() - 2].meta.id));
}

#[test]
fn a_fresh_session_that_fails_alike_is_not_thrown_away_again() {
    let mut story = online();
    story.policy.session_restart = SessionRestart::Automatic;
    for _ in 0..POISONED_AT {
        tags(&mut story, failed("boom"));
    }
    let restart = asked(&story);
    story.when(&Command::RecordAdmission { restart, admission: Position(9) }).unwrap();
    story.when(&super::drain::drained(&story, 0)).unwrap();
    story.when(&provisioned(2)).unwrap();
    story.when(&super::beat(2)).unwrap();
    assert_eq!(tags(&mut story, failed("boom")), [FINISHED, SUSPECTED], "the reset began the count anew");
    tags(&mut story, failed("boom"));
    let events = events(&mut story, failed("boom"));
    assert!(poisoned(&events).after_reset);
    assert!(poisoned(&events).message.contains("did not help"), "{events:?}");
    assert_eq!(story.state().restart, None);
    tags(&mut story, answered(None));
    for _ in 1..POISONED_AT {
        tags(&mut story, failed("boom"));
    }
    assert!(
        tags(&mut story, failed("boom")).contains(&REQUESTED),
        "it worked in between, so it may help again"
    );
}

#[test]
fn nothing_is_restarted_that_is_restarted_already_or_is_not_ours() {
    let mut story = online();
    story.policy.session_restart = SessionRestart::Automatic;
    tags(&mut story, failed("boom"));
    tags(&mut story, failed("boom"));
    story.when(&evidence(EvidenceClass::Death, 1)).unwrap();
    let before = asked(&story);
    assert_eq!(tags(&mut story, failed("boom")), [FINISHED, POISONED]);
    assert_eq!(asked(&story), before);

    let mut story = Scenario::new();
    story.policy.session_restart = SessionRestart::Automatic;
    story.when(&create(BackendKind::External)).unwrap();
    tags(&mut story, failed("boom"));
    tags(&mut story, failed("boom"));
    assert_eq!(tags(&mut story, failed("boom")), [FINISHED, POISONED]);

    let mut story = online();
    story.when(&Command::Remove(Remove::default())).unwrap();
    assert_eq!(tags(&mut story, failed("boom")), [FINISHED], "a call that ends after its workspace");
}

/// What a call may say, small enough to repeat.
fn call() -> impl Strategy<Value = CallFinished> {
    let kind = prop_oneof![Just(FailureKind::Process), Just(FailureKind::Empty), Just(FailureKind::Request)];
    let message = prop::option::of("[x-z]");
    let failure = prop::option::weighted(
        0.8,
        (kind, "[ab]", message)
            .prop_map(|(kind, text, message)| FailureSign { message, ..sign(kind, &text) }),
    );
    let method = prop_oneof![4 => Just("message/send"), 1 => Just("tasks/get")];
    (failure, method, prop_oneof![4 => Just(CallOutcome::Answered), 1 => Just(CallOutcome::Unknown)])
        .prop_map(|(failure, method, outcome)| CallFinished {
            outcome,
            method: method.to_owned(),
            ..answered(failure)
        })
}

proptest! {
    /// What is recorded is what a plain count over the history says, made anew for each call, whatever calls come together
    /// before the knock does: the run's length, and of what is recorded the last word.
    #[test]
    fn what_is_recorded_is_what_a_count_over_the_history_says(
        calls in prop::collection::vec((call(), any::<bool>()), 0..40),
    ) {
        let mut story = online();
        let mut history = Vec::new();
        let mut last_word = None;
        for (call, knock) in calls {
            story.when(&ends(call.clone())).unwrap();
            let neutral = call.outcome != CallOutcome::Answered
                || call.method == "tasks/get"
                || call.failure.as_ref().is_some_and(|sign| sign.kind == FailureKind::Request);
            if !neutral {
                history.push(call.failure);
            }
            if !knock {
                continue;
            }
            let said = story.when(&Command::RecordDeadline).unwrap();
            last_word = said.last().map(Event::tag).or(last_word);
            let expected = match run_length(&history) {
                0 => [None, Some(CLEARED)],
                1..POISONED_AT => [Some(SUSPECTED), Some(SUSPECTED)],
                POISONED_AT.. => [Some(POISONED), Some(POISONED)],
            };
            prop_assert!(expected.contains(&last_word), "{last_word:?} after {history:?}");
            prop_assert!(story.when(&Command::RecordDeadline).unwrap().is_empty(), "everything is said");
        }
    }
}

/// How many distinct messages in a row failed alike at the end of this history.
fn run_length(history: &[Option<FailureSign>]) -> u32 {
    let Some(Some(last)) = history.last() else { return 0 };
    let run: Vec<&FailureSign> = history
        .iter()
        .rev()
        .map_while(|entry| entry.as_ref().filter(|sign| sign.fingerprint == last.fingerprint))
        .collect();
    let repeats = run.windows(2).filter(|two| two[0].message.is_some() && two[0].message == two[1].message);
    u32::try_from(run.len() - repeats.count()).unwrap()
}
