//! Restarts that come to nothing: refused, or the engine could not start them.

use covalence_events::workspace::{BackendKind, EvidenceClass, RestartCause};
use covalence_events::{Generation, Position};

use super::{asked, begin, confirmed, create, evidence, online};
use crate::scenario::Scenario;
use crate::workspace::Command;
use crate::workspace::command::{ProvisionFailure, Restart};
use crate::workspace::state::Status;

fn unavailable(generation: u64) -> Command {
    Command::RecordProvisionFailed(ProvisionFailure {
        generation: Generation(generation),
        code: "engine_unavailable".to_owned(),
        message: "the engine does not answer".to_owned(),
        retryable: true,
        command: None,
    })
}

#[test]
fn a_refused_wish_of_a_person_leaves_the_dead_waiting() {
    let mut story = online();
    story.when(&evidence(EvidenceClass::Death, 1)).unwrap();
    let first = asked(&story);
    let wish = Command::Restart(Restart::because_of(RestartCause::Operator));
    story.when(&wish).unwrap();
    let refused =
        |restart| Command::RecordSuppression { restart, rule: "hold".to_owned(), message: String::new() };
    let tags = story.tags_when(&refused(asked(&story)));
    assert_eq!(tags, ["workspace.restart_abandoned.v1", "workspace.restart_requested.v1"]);
    let pending = story.state().restart.clone().unwrap();
    assert_eq!(pending.cause, RestartCause::Death);
    assert_ne!(pending.restart, first);

    story.when(&Command::RecordAdmission { restart: pending.restart, admission: Position(9) }).unwrap();
    story.when(&confirmed(pending.restart, EvidenceClass::Death)).unwrap();
    story.when(&unavailable(2)).unwrap();
    assert_eq!(
        story.state().status,
        Status::Failed,
        "its replacement could not be started, and is tried again"
    );
    story.when(&wish).unwrap();
    let tags = story.tags_when(&refused(asked(&story)));
    assert_eq!(tags, ["workspace.restart_abandoned.v1", "workspace.restart_requested.v1"]);

    let mut alive = online();
    alive.when(&wish).unwrap();
    assert_eq!(alive.tags_when(&refused(asked(&alive))), ["workspace.restart_abandoned.v1"]);
    assert_eq!(alive.state().restart, None);
}

#[test]
fn a_failed_first_start_stays_failed_and_a_failed_restart_is_asked_for_again_if_that_can_help() {
    let mut story = Scenario::new();
    story.when(&create(BackendKind::Docker)).unwrap();
    assert_eq!(story.tags_when(&unavailable(1)), ["workspace.provision_failed.v1"]);

    let mut story = online();
    story.when(&evidence(EvidenceClass::Death, 1)).unwrap();
    let restart = asked(&story);
    begin(&mut story, restart);
    assert_eq!(
        story.tags_when(&unavailable(2)),
        ["workspace.provision_failed.v1", "workspace.restart_abandoned.v1", "workspace.restart_requested.v1"]
    );
}
