//! Restarts for silence: what hangs may recover at any moment until it has been stopped.

use std::time::Duration;

use covalence_events::workspace::{Event, EvidenceClass, RestartCause};
use covalence_events::{Generation, Position, RestartId};

use super::supervision::{probed, steady};
use super::{asked, beat, confirmed, online, provisioned};
use crate::scenario::Scenario;
use crate::workspace::command::Restart;
use crate::workspace::state::{Instance, Status};
use crate::workspace::{Command, Effect};

/// Silent for the whole window by two sources, admitted, and seen to run: its replacement has begun.
fn hung() -> (Scenario, RestartId) {
    let mut story = steady(online(), 6).after(Duration::from_secs(77));
    story.when(&Command::RecordDeadline).unwrap();
    story.when(&probed(EvidenceClass::Suspicion)).unwrap();
    let mut story = story.after(Duration::from_secs(104));
    story.when(&Command::RecordDeadline).unwrap();
    let restart = asked(&story);
    story.when(&Command::RecordAdmission { restart, admission: Position(9) }).unwrap();
    (story, restart)
}

#[test]
fn what_hangs_is_stopped_before_the_next_generation_is_asked_for() {
    let (mut story, restart) = hung();
    assert_eq!(
        story.tags_when(&confirmed(restart, EvidenceClass::Life)),
        ["workspace.evidence_observed.v1", "workspace.restart_started.v1", "workspace.stop_requested.v1"]
    );
    assert!(matches!(story.effects[..], [Effect::Stop { generation: Generation(1), .. }]));
    let tags = story.tags_when(&Command::RecordStopped { generation: Generation(1) });
    assert_eq!(tags, ["workspace.instance_stopped.v1", "workspace.provision_requested.v1"]);
    assert_eq!(story.generation(), Generation(2));
    story.when(&provisioned(2)).unwrap();
    let events = story.when(&beat(2)).unwrap();
    assert!(
        matches!(events.last(), Some(Event::CameOnline(back)) if back.restart == Some(restart)),
        "{events:?}"
    );
}

#[test]
fn what_hangs_and_can_not_be_stopped_is_taken_back_and_may_recover() {
    let (mut story, restart) = hung();
    story.when(&confirmed(restart, EvidenceClass::Life)).unwrap();
    let failed = Command::RecordStopFailed { generation: Generation(1), message: "refused".to_owned() };
    assert_eq!(story.tags_when(&failed), ["workspace.stop_failed.v1", "workspace.restart_abandoned.v1"]);
    assert!(matches!(
        story.effects[..],
        [Effect::SettleRestart { outcome: covalence_events::fleet::RestartOutcome::Unstarted, .. }]
    ));
    assert!(matches!(story.state().instance, Instance::Running { instance: Some(_) }));
    assert_eq!((story.state().status, story.generation()), (Status::Offline, Generation(1)));
    let known = story.state().beats.clone();
    assert_eq!(
        story.tags_when(&beat(1)),
        ["workspace.heartbeat_received.v1", "workspace.came_online.v1"],
        "it works, and nothing is replaced"
    );
    assert_eq!(story.state().beats, known, "the outage is not its rhythm");
}

#[test]
fn what_hangs_on_and_could_not_be_stopped_is_judged_anew() {
    let (mut story, restart) = hung();
    story.when(&confirmed(restart, EvidenceClass::Life)).unwrap();
    let unknown = Command::RecordOutcomeUnknown {
        generation: Generation(1),
        operation: "stop",
        detail: "no answer".to_owned(),
    };
    story.when(&unknown).unwrap();
    let failed = Command::RecordStopFailed { generation: Generation(1), message: "still there".to_owned() };
    story.when(&failed).unwrap();
    story.when(&probed(EvidenceClass::Suspicion)).unwrap();
    let withheld = story.when(&Command::RecordDeadline).unwrap();
    assert!(matches!(withheld[..], [Event::VerdictWithheld(_)]), "one source is not enough: {withheld:?}");
    story.when(&Command::RecordDeadline).unwrap();
    assert_eq!(story.state().restart, None);
    let tags = story.tags_when(&Command::RecordDeadline);
    assert!(tags.ends_with(&["workspace.restart_requested.v1"]), "{tags:?}");
    assert_ne!(asked(&story), restart);
}

#[test]
fn a_beat_that_comes_while_it_is_stopped_counts_once_the_stop_has_failed() {
    let (mut story, restart) = hung();
    story.when(&confirmed(restart, EvidenceClass::Life)).unwrap();
    assert_eq!(story.tags_when(&beat(1)), ["workspace.heartbeat_received.v1"]);
    let failed = Command::RecordStopFailed { generation: Generation(1), message: "refused".to_owned() };
    story.when(&failed).unwrap();
    assert!(story.when(&Command::RecordDeadline).unwrap().is_empty(), "nobody wonders");
}

#[test]
fn what_was_stopped_for_a_restart_that_is_not_wanted_any_more_comes_back() {
    let (mut story, restart) = hung();
    story.when(&confirmed(restart, EvidenceClass::Life)).unwrap();
    let by_hand = Command::Restart(Restart::because_of(RestartCause::Operator));
    story.when(&by_hand).unwrap();
    let refused = Command::RecordSuppression {
        restart: asked(&story),
        rule: "hold".to_owned(),
        message: String::new(),
    };
    story.when(&refused).unwrap();
    assert_eq!(story.state().restart, None);
    let tags = story.tags_when(&Command::RecordStopped { generation: Generation(1) });
    assert_eq!(tags, ["workspace.instance_stopped.v1", "workspace.restart_requested.v1"]);
}
