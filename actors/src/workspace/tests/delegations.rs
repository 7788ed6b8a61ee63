//! What is decided about tasks that are handed on.

use chrono::TimeDelta;
use covalence_events::workspace::{BackendKind, DelegationOutcome, DelegationRunner, MessageQueued, Text};
use covalence_events::{CallId, DelegationId, Principal};

use super::*;
use crate::workspace::command::{Delegate, DelegationEnd, Reply};
use crate::workspace::delegations::{OPEN_MAX, QUEUED_MAX};

const REQUESTED: &str = "workspace.delegation_requested.v1";
const QUEUED: &str = "workspace.delegation_queued.v1";
const ENDED: &str = "workspace.delegation_ended.v1";

fn name(n: u128) -> DelegationId {
    DelegationId(Uuid::from_u128(n))
}

fn target() -> WorkspaceId {
    WorkspaceId(Uuid::from_u128(99))
}

fn delegate(n: u128, key: Option<&str>) -> Command {
    Command::Delegate(Box::new(Delegate {
        delegation: name(n),
        target: target(),
        task: "dig".to_owned(),
        key: key.map(str::to_owned),
        runner: DelegationRunner::Platform,
        denied: false,
    }))
}

fn done(n: u128) -> Command {
    let end = DelegationEnd {
        outcome: DelegationOutcome::Completed,
        reason: None,
        response: Some(Text { text: "dug".to_owned(), cut: false }),
        error: None,
    };
    Command::EndDelegation { delegation: name(n), end: Box::new(end) }
}

fn failed(n: u128) -> Command {
    let end = DelegationEnd::failed("agent_error", "no spade");
    Command::EndDelegation { delegation: name(n), end: Box::new(end) }
}

fn story() -> Scenario {
    let mut story = Scenario::new();
    story.when(&create(BackendKind::External)).unwrap();
    story
}

#[test]
fn a_key_names_one_task_until_that_has_failed() {
    let mut story = story();
    assert_eq!(story.tags_when(&delegate(1, Some("k"))), [REQUESTED]);
    assert!(story.tags_when(&delegate(2, Some("k"))).is_empty(), "open");
    assert_eq!(story.tags_when(&failed(1)), [ENDED]);
    assert_eq!(story.tags_when(&delegate(3, Some("k"))), [REQUESTED], "the one before failed");
    story.when(&done(3)).unwrap();
    assert!(story.tags_when(&delegate(4, Some("k"))).is_empty(), "done");
    assert_eq!(story.tags_when(&delegate(5, Some("other"))), [REQUESTED]);
}

#[test]
fn what_is_over_stays_as_it_ended() {
    let mut story = story();
    story.when(&delegate(1, None)).unwrap();
    story.when(&done(1)).unwrap();
    for late in [failed(1), done(1), Command::RecordDelegationQueued(name(1))] {
        assert!(story.tags_when(&late).is_empty(), "{late:?}");
    }
    assert_eq!(
        story.when(&Command::RecordDelegationDispatched(name(1))).unwrap_err(),
        Rejection::DelegationOver,
        "what is over is not sent"
    );
    assert_eq!(story.when(&failed(7)).unwrap_err(), Rejection::NoSuchDelegation);
}

#[test]
fn no_more_than_so_many_are_open_at_once() {
    let mut story = story();
    for n in 0..OPEN_MAX as u128 {
        story.when(&delegate(n, None)).unwrap();
    }
    assert_eq!(story.when(&delegate(9_999, None)).unwrap_err(), Rejection::TooManyDelegations);
    story.when(&done(0)).unwrap();
    story.when(&delegate(9_999, None)).unwrap();
}

#[test]
fn an_answer_ends_the_task_that_it_names_or_the_one_that_has_waited_longest() {
    let mut story = story();
    let minute = std::time::Duration::from_secs(60);
    for n in [1, 2, 3] {
        story.when(&delegate(n, None)).unwrap();
        story = story.after(minute);
        assert_eq!(story.tags_when(&Command::RecordDelegationQueued(name(n))), [QUEUED]);
    }
    let reply = |from, named| {
        let text = Text { text: "done".to_owned(), cut: false };
        Command::RecordReply(Box::new(Reply { from, named, text }))
    };
    assert!(story.tags_when(&reply(WorkspaceId(Uuid::from_u128(5)), None)).is_empty(), "from somebody else");
    assert_eq!(story.tags_when(&reply(target(), Some(name(2)))), [ENDED]);
    assert!(story.state().delegations.get(name(2)).is_none());
    assert_eq!(story.tags_when(&reply(target(), None)), [ENDED]);
    assert!(story.state().delegations.get(name(1)).is_none(), "the oldest");
    assert!(story.tags_when(&reply(target(), Some(name(2)))).is_empty(), "once");
}

#[test]
fn one_that_nobody_fetches_is_given_up_after_a_day() {
    let mut story = story();
    story.when(&delegate(1, None)).unwrap();
    story.when(&Command::RecordDelegationQueued(name(1))).unwrap();
    let almost = (QUEUED_MAX - TimeDelta::minutes(1)).to_std().unwrap();
    story = story.after(almost);
    assert!(!story.tags_when(&Command::RecordDeadline).contains(&ENDED));
    story = story.after(std::time::Duration::from_secs(120));
    assert!(story.tags_when(&Command::RecordDeadline).contains(&ENDED));
}

#[test]
fn the_removal_of_who_should_do_it_sends_it_back_and_of_who_asked_ends_the_wait() {
    let mut story = story();
    let source = WorkspaceId(Uuid::from_u128(7));
    let message = MessageQueued {
        call: CallId(Uuid::from_u128(1)),
        caller: Principal::Workspace(source),
        method: "message/send".to_owned(),
        digest: Some("d".to_owned()),
        delegation: Some(name(1)),
        request: "{}".to_owned(),
    };
    let queue = Command::Queue(Box::new(message));
    assert_eq!(story.tags_when(&queue), ["workspace.message_queued.v1"]);
    assert!(story.tags_when(&queue).is_empty(), "the same again");
    story.when(&delegate(2, None)).unwrap();
    story.when(&Command::Remove(Remove::default())).unwrap();
    assert!(story.state().delegations.open().next().is_none());
    assert!(outstanding(story.state()).iter().all(|effect| !matches!(effect, Effect::Delegate { .. })));
    let removed =
        covalence_events::workspace::Removed { cascade_deleted: None, purge: false, forwarded_to: None };
    let because = covalence_events::EventId(Uuid::from_u128(3));
    let effects = super::super::react(because, &removed.into(), story.state());
    assert!(effects.contains(&Effect::ReturnTask { source, delegation: name(1), because }), "{effects:?}");
    assert_eq!(story.when(&queue).unwrap_err(), Rejection::Removed);
}
