//! What a shutdown that takes the workspaces with it does to one of them, and what the next start does about it.

use covalence_events::workspace::{BackendKind, Event, EvidenceClass, RestartCause, StopReason};
use covalence_events::{Generation, Position};

use super::{asked, beat, begin, create, evidence, online, provisioned};
use crate::scenario::Scenario;
use crate::workspace::command::{ProvisionFailure, Restart};
use crate::workspace::{Command, Effect, Status, outstanding};

/// Stopped with the platform, and gone.
fn shut_down(mut story: Scenario) -> Scenario {
    story.when(&Command::ShutDown).unwrap();
    story.when(&Command::RecordStopped { generation: story.generation() }).unwrap();
    story
}

fn cause(story: &Scenario) -> Option<RestartCause> {
    story.state().restart.as_ref().map(|pending| pending.cause)
}

#[test]
fn a_shutdown_stops_what_runs_and_says_that_it_is_offline() {
    let mut story = online();
    let events = story.when(&Command::ShutDown).unwrap();
    let [Event::StopRequested(stop), Event::WentOffline(offline)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((stop.generation, stop.reason), (Generation(1), StopReason::Shutdown));
    assert_eq!(offline.rule, "platform_stopped");
    assert_eq!(story.state().status, Status::Offline);
    assert!(story.when(&Command::ShutDown).unwrap().is_empty(), "once is enough");
}

#[test]
fn its_end_is_expected_and_never_a_death() {
    let mut story = online();
    story.when(&Command::ShutDown).unwrap();
    assert_eq!(story.tags_when(&evidence(EvidenceClass::Death, 1)), ["workspace.evidence_observed.v1"]);
    assert_eq!(cause(&story), None);
    let stopped = Command::RecordStopped { generation: Generation(1) };
    assert_eq!(story.tags_when(&stopped), ["workspace.instance_stopped.v1"]);
    assert!(story.when(&evidence(EvidenceClass::Death, 1)).unwrap().is_empty());
}

#[test]
fn the_next_start_asks_for_it_once_through_admission() {
    let mut story = shut_down(online());
    assert_eq!(story.tags_when(&Command::RecordPlatformStart), ["workspace.restart_requested.v1"]);
    assert_eq!(cause(&story), Some(RestartCause::Shutdown));
    assert!(matches!(story.effects[..], [Effect::RequestAdmission { cause: RestartCause::Shutdown, .. }]));
    assert!(
        story.when(&Command::RecordPlatformStart).unwrap().is_empty(),
        "a second start finds it asked for"
    );
    let restart = asked(&story);
    story.when(&Command::RecordAdmission { restart, admission: Position(9) }).unwrap();
    story.when(&provisioned(2)).unwrap();
    story.when(&beat(2)).unwrap();
    assert_eq!(story.state().status, Status::Online);
    assert!(story.when(&Command::RecordPlatformStart).unwrap().is_empty(), "it is back");
}

/// The platform was killed between the fact that asks for the stop and the one that says that it is done.
#[test]
fn a_stop_that_was_cut_off_is_finished_and_the_workspace_still_comes_back() {
    let mut story = online();
    story.when(&Command::ShutDown).unwrap();
    assert!(matches!(outstanding(story.state())[..], [Effect::Stop { generation: Generation(1), .. }]));
    assert_eq!(story.tags_when(&Command::RecordPlatformStart), ["workspace.restart_requested.v1"]);
    let stopped = Command::RecordStopped { generation: Generation(1) };
    assert_eq!(story.tags_when(&stopped), ["workspace.instance_stopped.v1"]);
    let restart = asked(&story);
    let admitted = Command::RecordAdmission { restart, admission: Position(9) };
    assert!(story.tags_when(&admitted).contains(&"workspace.provision_requested.v1"));
}

#[test]
fn what_a_shutdown_finds_being_started_is_stopped_and_its_restart_ends() {
    let mut story = online();
    story.when(&evidence(EvidenceClass::Death, 1)).unwrap();
    let restart = asked(&story);
    begin(&mut story, restart);
    assert_eq!(
        story.tags_when(&Command::ShutDown),
        ["workspace.stop_requested.v1", "workspace.restart_abandoned.v1", "workspace.went_offline.v1"]
    );
    let mut story = shut_down(story);
    story.when(&Command::RecordPlatformStart).unwrap();
    assert_eq!(cause(&story), Some(RestartCause::Shutdown));
}

#[test]
fn a_death_that_waits_for_its_restart_is_still_one_after_the_shutdown() {
    let mut story = online();
    story.when(&evidence(EvidenceClass::Death, 1)).unwrap();
    assert!(story.when(&Command::ShutDown).unwrap().is_empty(), "nothing runs");
    assert!(story.when(&Command::RecordPlatformStart).unwrap().is_empty());
    assert_eq!(cause(&story), Some(RestartCause::Death));
}

#[test]
fn a_persons_restart_that_waits_brings_it_back_by_itself() {
    let mut story = online();
    let restart = Restart { reset_session: true, ..Restart::because_of(RestartCause::Operator) };
    story.when(&Command::Restart(restart)).unwrap();
    let mut story = shut_down(story);
    assert!(story.when(&Command::RecordPlatformStart).unwrap().is_empty());
    assert_eq!(cause(&story), Some(RestartCause::Operator));
}

#[test]
fn what_is_paused_external_or_given_up_stays_where_it_is() {
    let mut paused = online();
    paused.when(&Command::Pause).unwrap();
    let mut external = Scenario::new();
    external.when(&create(BackendKind::External)).unwrap();
    let mut failed = Scenario::new();
    failed.when(&create(BackendKind::Process)).unwrap();
    let failure = ProvisionFailure {
        generation: Generation(1),
        code: "image_missing".to_owned(),
        message: "build it".to_owned(),
        retryable: false,
        command: None,
    };
    failed.when(&Command::RecordProvisionFailed(failure)).unwrap();
    for story in [&mut paused, &mut external, &mut failed] {
        let before = story.state().clone();
        assert!(story.when(&Command::ShutDown).unwrap().is_empty());
        assert!(story.when(&Command::RecordPlatformStart).unwrap().is_empty());
        assert_eq!(story.state(), &before);
    }
}

#[test]
fn one_that_is_paused_after_the_shutdown_waits_for_a_person() {
    let mut story = shut_down(online());
    story.when(&Command::Pause).unwrap();
    assert!(story.when(&Command::RecordPlatformStart).unwrap().is_empty());
}

#[test]
fn one_that_is_refused_its_restart_after_the_shutdown_stays_in_quarantine() {
    let mut story = online();
    story.when(&Command::Restart(Restart::because_of(RestartCause::Operator))).unwrap();
    let mut story = shut_down(story);
    let restart = asked(&story);
    let rule = "intensity".to_owned();
    story.when(&Command::RecordSuppression { restart, rule, message: String::new() }).unwrap();
    assert!(story.when(&Command::RecordPlatformStart).unwrap().is_empty());
}
