//! What works is drained before it is replaced; what died is not.

use std::time::Duration;

use covalence_events::workspace::{DrainOutcome, Event, EvidenceClass, HeartbeatReceived, RestartCause};
use covalence_events::{Generation, Position, RestartId};
use uuid::Uuid;

use super::{asked, beat, begin, evidence, online, provisioned};
use crate::scenario::Scenario;
use crate::workspace::command::{Drained, Remove, Restart};
use crate::workspace::{Command, Effect, Rejection, Status, outstanding};

const REQUESTED: &str = "workspace.drain_requested.v1";
const ENDED: &str = "workspace.drain_ended.v1";
const STARTED: &str = "workspace.restart_started.v1";
const PROVISION: &str = "workspace.provision_requested.v1";
const ABANDONED: &str = "workspace.restart_abandoned.v1";

/// The report that so many calls were open at the end.
pub(crate) fn drained(story: &Scenario, open: u32) -> Command {
    let restart =
        story.state().restart.as_ref().map_or(RestartId(Uuid::from_u128(99)), |pending| pending.restart);
    Command::RecordDrained(Drained { restart, open })
}

/// An online workspace whose restart for this cause was admitted.
fn admitted(cause: RestartCause) -> Scenario {
    let mut story = online();
    story.when(&Command::Restart(Restart::because_of(cause))).unwrap();
    let restart = asked(&story);
    story.when(&Command::RecordAdmission { restart, admission: Position(9) }).unwrap();
    story
}

fn draining() -> Scenario {
    let story = admitted(RestartCause::Operator);
    assert!(story.state().restart.as_ref().is_some_and(|pending| pending.drain.is_some()));
    story
}

fn last_tags(story: &Scenario, count: usize) -> Vec<&'static str> {
    story.story[story.story.len() - count..].iter().map(|recorded| recorded.fact.tag()).collect()
}

#[test]
fn a_restart_of_what_works_is_drained_whatever_the_wish_behind_it() {
    for cause in [RestartCause::Operator, RestartCause::Configuration, RestartCause::Session] {
        let story = admitted(cause);
        assert_eq!(last_tags(&story, 2), [STARTED, REQUESTED], "{cause:?}");
        assert!(matches!(story.effects[..], [Effect::Drain { .. }]), "{cause:?}");
        assert_eq!((story.state().status, story.generation()), (Status::Online, Generation(1)), "{cause:?}");
    }
}

#[test]
fn what_died_has_nothing_to_finish() {
    let mut story = online();
    story.when(&evidence(EvidenceClass::Death, 1)).unwrap();
    let restart = asked(&story);
    begin(&mut story, restart);
    assert_eq!(last_tags(&story, 2), [STARTED, PROVISION]);

    let mut story = online();
    story.when(&evidence(EvidenceClass::Death, 1)).unwrap();
    let by_hand = Restart::because_of(RestartCause::Operator);
    story.when(&Command::Restart(by_hand)).unwrap();
    let restart = asked(&story);
    let tags = story.tags_when(&Command::RecordAdmission { restart, admission: Position(9) });
    assert_eq!(tags, [STARTED, PROVISION], "a person's restart of what is dead does not wait either");
}

#[test]
fn a_drain_ends_by_a_fact_that_says_how_and_leads_to_the_next_generation() {
    for (open, outcome) in [(0, DrainOutcome::Drained), (2, DrainOutcome::TimedOut)] {
        let mut story = draining().after(Duration::from_millis(1_500));
        let report = drained(&story, open);
        let events = story.when(&report).unwrap();
        let [Event::DrainEnded(ended), Event::ProvisionRequested(next)] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!((ended.outcome, ended.open, ended.took_ms), (outcome, Some(open), 1_500));
        assert_eq!((next.generation, next.restart), (Generation(2), Some(ended.restart)));
        let chain = &story.story[story.story.len() - 3..];
        assert_eq!(
            chain[1].meta.causation,
            Some(chain[0].meta.id),
            "the request is the cause of its outcome"
        );
        assert_eq!(chain[2].meta.causation, Some(chain[1].meta.id));
        assert!(matches!(story.effects[..], [Effect::Provision { generation: Generation(2), .. }]));
        assert_eq!(story.when(&drained(&story, 0)), Err(Rejection::RestartNotPending), "it ends once");
    }
}

#[test]
fn a_crash_of_the_platform_resumes_the_drain_and_after_it_the_start() {
    let mut story = draining();
    assert!(matches!(outstanding(story.state())[..], [Effect::Drain { .. }]));
    let report = drained(&story, 0);
    story.when(&report).unwrap();
    assert!(matches!(outstanding(story.state())[..], [Effect::Provision { .. }]));
}

#[test]
fn a_pause_and_a_removal_do_not_wait_for_it() {
    for command in [Command::Pause, Command::Remove(Remove::default())] {
        let mut story = draining();
        let tags = story.tags_when(&command);
        let position =
            |tag| tags.iter().position(|known| *known == tag).unwrap_or_else(|| panic!("{tags:?}"));
        assert!(position(ENDED) < position(ABANDONED), "{tags:?}");
        assert!(position(ABANDONED) < position("workspace.stop_requested.v1"), "{tags:?}");
        assert_eq!(story.when(&drained(&story, 0)), Err(Rejection::RestartNotPending));
    }
}

#[test]
fn a_second_wish_ends_the_first_ones_drain() {
    let mut story = draining();
    let again =
        Command::Restart(Restart { reset_session: true, ..Restart::because_of(RestartCause::Operator) });
    assert_eq!(story.tags_when(&again), [ENDED, ABANDONED, "workspace.restart_requested.v1"]);
}

/// The death counts for nothing: the replacement was wanted anyway, and begins under its own name.
#[test]
fn a_death_while_it_drains_begins_the_replacement_at_once() {
    let mut story = draining();
    let restart = asked(&story);
    story.when(&evidence(EvidenceClass::Death, 1)).unwrap();
    assert_eq!(last_tags(&story, 2), [ENDED, PROVISION]);
    assert_eq!(asked(&story), restart);
    assert!(matches!(story.effects[..], [Effect::Provision { .. }]));
    story.when(&provisioned(2)).unwrap();
    story.when(&beat(2)).unwrap();
    assert_eq!((story.state().status, &story.state().restart), (Status::Online, &None));
}

#[test]
fn signs_of_life_of_what_is_drained_do_not_end_the_restart() {
    let rate = |error_rate| {
        let generation = Some(Generation(1));
        Command::Heartbeat(Box::new(HeartbeatReceived { error_rate, generation, ..Default::default() }))
    };
    let mut story = draining();
    let restart = asked(&story);
    story.when(&rate(0.9)).unwrap();
    let events = story.when(&rate(0.0)).unwrap();
    assert!(
        matches!(&events[..], [_, Event::CameOnline(online)] if online.restart.is_none()),
        "it recovered, and is replaced nevertheless: {events:?}"
    );
    assert_eq!(asked(&story), restart);
    assert!(!story.tags_when(&drained(&story, 0)).is_empty());
}

#[test]
fn a_sign_of_life_does_not_refute_what_a_person_wants() {
    let mut story = online();
    let rate = |error_rate| {
        let generation = Some(Generation(1));
        Command::Heartbeat(Box::new(HeartbeatReceived { error_rate, generation, ..Default::default() }))
    };
    story.when(&rate(0.9)).unwrap();
    story.when(&Command::Restart(Restart::because_of(RestartCause::Operator))).unwrap();
    let restart = asked(&story);
    story.when(&rate(0.0)).unwrap();
    assert_eq!(story.state().status, Status::Online);
    assert_eq!(asked(&story), restart, "it waits for a slot, and still has to happen");
}
