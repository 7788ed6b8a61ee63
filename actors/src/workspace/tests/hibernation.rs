//! What is decided about a workspace that nobody needs for now.

use covalence_events::workspace::{DeliveryMode, MessageQueued, StopReason};
use covalence_events::{CallId, Principal};

use super::*;
use crate::workspace::command::Hibernate;

const GENTLY: Command = Command::Hibernate(Hibernate { forced: false, open: 0 });
const REQUESTED: &str = "workspace.hibernation_requested.v1";
const STOP: &str = "workspace.stop_requested.v1";
const STOPPED: &str = "workspace.instance_stopped.v1";
const HIBERNATED: &str = "workspace.hibernated.v1";
const PROVISION: &str = "workspace.provision_requested.v1";

fn stopped() -> Command {
    Command::RecordStopped { generation: Generation(1) }
}

fn asleep() -> Scenario {
    let mut story = online();
    assert_eq!(story.tags_when(&GENTLY), [REQUESTED, STOP]);
    assert_eq!(story.state().status, Status::Hibernating);
    assert_eq!(story.tags_when(&stopped()), [STOPPED, HIBERNATED]);
    assert_eq!(story.state().status, Status::Hibernated);
    story
}

fn works(tasks: i64) -> Command {
    Command::Heartbeat(Box::new(HeartbeatReceived {
        active_tasks: tasks,
        generation: Some(Generation(1)),
        ..HeartbeatReceived::default()
    }))
}

/// Contract 1.8: what works is refused, unless work is to be cut off; who counts more is right.
#[test]
fn work_under_way_is_a_reason_to_refuse_unless_it_is_forced() {
    for (agents, ours) in [(2, 0), (0, 2), (2, 1)] {
        let mut story = online();
        story.when(&works(agents)).unwrap();
        let hibernate = |forced| Command::Hibernate(Hibernate { forced, open: ours });
        assert_eq!(story.when(&hibernate(false)).unwrap_err(), Rejection::ActiveTasks { active_tasks: 2 });
        assert_eq!(story.tags_when(&hibernate(true)), [REQUESTED, STOP]);
    }
    let mut story = online();
    story.when(&works(2)).unwrap();
    story.when(&works(0)).unwrap();
    assert_eq!(story.tags_when(&GENTLY), [REQUESTED, STOP]);
}

#[test]
fn only_what_answers_and_is_ours_to_run_hibernates() {
    let mut story = Scenario::new();
    story.when(&create(BackendKind::Process)).unwrap();
    assert_eq!(story.when(&GENTLY).unwrap_err(), Rejection::NotHibernatable);
    assert_eq!(asleep().when(&GENTLY).unwrap_err(), Rejection::NotHibernatable);
    let mut external = Scenario::new();
    external.when(&create(BackendKind::External)).unwrap();
    assert_eq!(external.when(&GENTLY).unwrap_err(), Rejection::External);
}

/// What sleeps is not dead: nothing that is seen or heard of it moves it.
#[test]
fn neither_its_death_nor_its_silence_nor_a_late_word_of_its_agent_ends_its_sleep() {
    let mut story = online();
    story.when(&GENTLY).unwrap();
    assert_eq!(
        story.tags_when(&evidence(EvidenceClass::Death, 1)),
        ["workspace.evidence_observed.v1"],
        "the death that we ask for is expected"
    );
    for mut story in [story, asleep()] {
        let before = story.state().status;
        story.when(&beat(1)).unwrap();
        story = story.after(std::time::Duration::from_secs(3600));
        assert!(story.tags_when(&Command::RecordDeadline).is_empty());
        assert!(
            !story.tags_when(&evidence(EvidenceClass::Death, 1)).contains(&"workspace.restart_requested.v1")
        );
        assert_eq!(story.state().status, before);
    }
}

#[test]
fn what_is_seen_running_though_it_should_sleep_is_stopped_again() {
    let mut story = asleep();
    assert_eq!(story.tags_when(&evidence(EvidenceClass::Life, 1)), ["workspace.evidence_observed.v1", STOP]);
    assert!(matches!(story.state().instance, Instance::Stopping { reason: StopReason::Hibernate, .. }));
    assert_eq!(story.state().status, Status::Hibernated);
    assert_eq!(story.tags_when(&stopped()), [STOPPED], "it slept all the time");
}

#[test]
fn need_starts_the_next_generation_also_while_the_last_one_is_being_stopped_and_once() {
    let mut being_stopped = online();
    being_stopped.when(&GENTLY).unwrap();
    for mut story in [being_stopped, asleep()] {
        assert_eq!(story.tags_when(&Command::Wake), [PROVISION]);
        assert_eq!((story.state().status, story.generation()), (Status::Provisioning, Generation(2)));
        assert!(story.state().is_waking());
        assert!(story.tags_when(&Command::Wake).is_empty(), "it is being woken");
        assert!(story.tags_when(&stopped()).is_empty(), "that was the generation before");
        story.when(&provisioned(2)).unwrap();
        story.when(&beat(2)).unwrap();
        assert_eq!(story.state().status, Status::Online);
        assert!(story.tags_when(&Command::Wake).is_empty());
    }
    assert_eq!(asleep().tags_when(&Command::Resume), [PROVISION], "a person's word does the same");
}

#[test]
fn a_message_for_an_agent_that_fetches_wakes_it_with_the_same_append() {
    let mut story = online();
    let register = Register {
        url: None,
        agent_card: serde_json::json!({}),
        delivery_mode: Some(DeliveryMode::Poll),
        generation: Some(Generation(1)),
        mint: None,
        enrolment: chrono::TimeDelta::zero(),
    };
    story.when(&Command::Register(Box::new(register))).unwrap();
    story.when(&GENTLY).unwrap();
    story.when(&stopped()).unwrap();
    let message = MessageQueued {
        call: CallId(Uuid::from_u128(1)),
        caller: Principal::Admin,
        method: "message/send".to_owned(),
        digest: None,
        delegation: None,
        request: "{}".to_owned(),
    };
    let queue = Command::Queue(Box::new(message));
    let mut held = story.clone();
    assert_eq!(story.tags_when(&queue), ["workspace.message_queued.v1", PROVISION]);
    held.stopped = true;
    assert_eq!(held.tags_when(&queue), ["workspace.message_queued.v1"], "it waits while nothing may start");
    assert_eq!(held.when(&Command::Wake).unwrap_err(), Rejection::EmergencyStop);
}

#[test]
fn nothing_is_woken_below_what_a_person_paused() {
    let mut story = asleep();
    let parent = WorkspaceId(Uuid::from_u128(5));
    story.everybody.parents.insert(story.state().id, parent);
    story.everybody.paused.insert(parent);
    assert_eq!(story.when(&Command::Wake).unwrap_err(), Rejection::PausedAbove);
    story.everybody.paused.clear();
    assert_eq!(story.tags_when(&Command::Wake), [PROVISION]);
}

#[test]
fn a_restart_that_waits_is_given_up_and_a_person_s_restart_ends_the_sleep() {
    let mut story = online();
    story.when(&Command::Restart(Restart::because_of(RestartCause::Configuration))).unwrap();
    assert_eq!(story.tags_when(&GENTLY), [REQUESTED, "workspace.restart_abandoned.v1", STOP]);
    let mut story = asleep();
    story.when(&Command::Restart(Restart::because_of(RestartCause::Operator))).unwrap();
    let restart = asked(&story);
    story.when(&Command::RecordAdmission { restart, admission: Position(9) }).unwrap();
    assert_eq!((story.state().status, story.generation()), (Status::Provisioning, Generation(2)));
}

#[test]
fn neither_a_shutdown_nor_a_start_of_the_platform_wakes_it() {
    let mut story = asleep();
    assert!(story.tags_when(&Command::ShutDown).is_empty());
    assert!(story.tags_when(&Command::RecordPlatformStart).is_empty());
    assert!(outstanding(story.state()).is_empty());
}

#[test]
fn a_stop_that_fails_leaves_it_on_its_way_to_sleep() {
    let mut story = online();
    story.when(&GENTLY).unwrap();
    story.when(&Command::RecordStopFailed { generation: Generation(1), message: "no".to_owned() }).unwrap();
    assert_eq!(story.state().status, Status::Hibernating);
    assert!(matches!(outstanding(story.state())[..], [Effect::Stop { generation: Generation(1), .. }]));
}
