//! Decisions about one workspace, as given / when / then.

use covalence_events::workspace::{
    BackendKind, Created, EvidenceClass, EvidenceObserved, EvidenceSource, HeartbeatReceived, InstanceRef,
    ProvisionOrigin, RestartCause, TokenPurpose, WorkspaceAccess,
};
use covalence_events::{Generation, Position, RestartId, TokenId, WorkspaceId};
use uuid::Uuid;

use super::command::{Change, Create, NewToken, Register, Remove, Restart};
use super::state::Instance;
use super::{Command, Effect, Rejection, Status, outstanding};
use crate::effect::Provisioned;
use crate::scenario::Scenario;

mod assignment;
mod delegations;
mod drain;
mod hibernation;
mod hung;
mod platform;
mod properties;
mod queued;
mod session;
mod supervision;
mod team;
mod unstarted;

pub(crate) fn profile(backend: BackendKind) -> Created {
    Created {
        name: "scout".to_owned(),
        role: None,
        tier: 2,
        runtime: "echo".to_owned(),
        backend,
        model: None,
        template: None,
        entry: None,
        parent: None,
        workspace_dir: None,
        workspace_access: WorkspaceAccess::None,
        url: None,
        delivery_mode: None,
        budget_limit: None,
        max_concurrent_tasks: 5,
        x: 0.0,
        y: 0.0,
    }
}

pub(crate) fn instance(generation: u64) -> InstanceRef {
    InstanceRef { id: format!("instance-{generation}") }
}

pub(crate) fn create(backend: BackendKind) -> Command {
    Command::Create(Box::new(Create { profile: profile(backend), token: None, secrets: Vec::new() }))
}

pub(crate) fn provisioned(generation: u64) -> Command {
    Command::RecordProvisioned {
        generation: Generation(generation),
        provisioned: Provisioned {
            instance: Some(instance(generation)),
            url: Some("http://127.0.0.1:4000".to_owned()),
            withheld: Vec::new(),
            image: None,
        },
    }
}

pub(crate) fn beat(generation: u64) -> Command {
    let generation = Some(Generation(generation));
    Command::Heartbeat(Box::new(HeartbeatReceived { generation, ..HeartbeatReceived::default() }))
}

pub(crate) fn evidence(class: EvidenceClass, generation: u64) -> Command {
    Command::RecordEvidence(Box::new(EvidenceObserved {
        source: EvidenceSource::Exit,
        class,
        generation: Generation(generation),
        instance: Some(instance(generation)),
        code: "exited".to_owned(),
        detail: "exited with status 137".to_owned(),
        exit_status: Some(137),
    }))
}

/// A workspace that runs and was heard from.
pub(crate) fn online() -> Scenario {
    let mut story = Scenario::new();
    for command in [create(BackendKind::Process), provisioned(1), beat(1)] {
        story.when(&command).expect("a plain life");
    }
    assert_eq!(story.state().status, Status::Online);
    story
}

/// The restart that the last decision asked for.
pub(crate) fn asked(story: &Scenario) -> RestartId {
    story.state().restart.as_ref().expect("a restart was asked for").restart
}

/// What a fresh look at the first generation's instance finds.
pub(crate) fn confirmed(restart: RestartId, class: EvidenceClass) -> Command {
    let Command::RecordEvidence(evidence) = evidence(class, 1) else { unreachable!("evidence is evidence") };
    Command::RecordConfirmed { restart, evidence, url: None }
}

/// Admitted, and confirmed by a fresh look.
pub(crate) fn begin(story: &mut Scenario, restart: RestartId) {
    story.when(&Command::RecordAdmission { restart, admission: Position(9) }).unwrap();
    story.when(&confirmed(restart, EvidenceClass::Death)).unwrap();
}

#[test]
fn creation_asks_for_the_first_generation() {
    let mut story = Scenario::new();
    let tags = story.tags_when(&create(BackendKind::Process));
    assert_eq!(tags, ["workspace.created.v1", "workspace.provision_requested.v1"]);
    assert_eq!(story.state().status, Status::Provisioning);
    assert!(matches!(story.effects[..], [Effect::Provision { generation: Generation(1), .. }]));
}

#[test]
fn an_external_workspace_waits_for_its_agent_and_is_never_provisioned() {
    let mut story = Scenario::new();
    let tags = story.tags_when(&create(BackendKind::External));
    assert_eq!(tags, ["workspace.created.v1"]);
    assert_eq!(story.state().status, Status::AwaitingAgent);
    assert_eq!(
        story.when(&Command::Restart(Restart::because_of(RestartCause::Operator))),
        Err(Rejection::External)
    );
}

#[test]
fn an_id_can_not_be_created_twice() {
    let mut story = online();
    assert_eq!(story.when(&create(BackendKind::Process)), Err(Rejection::AlreadyExists));
}

#[test]
fn nothing_but_creation_reaches_a_workspace_that_never_was() {
    let mut story = Scenario::new();
    assert_eq!(story.when(&Command::Pause), Err(Rejection::NotFound));
    assert_eq!(story.when(&beat(1)), Err(Rejection::NotFound));
}

#[test]
fn the_first_sign_of_life_brings_it_online() {
    let mut story = Scenario::new();
    story.when(&create(BackendKind::Process)).unwrap();
    story.when(&provisioned(1)).unwrap();
    assert_eq!(story.state().status, Status::Provisioning);
    assert_eq!(story.tags_when(&beat(1)), ["workspace.heartbeat_received.v1", "workspace.came_online.v1"]);
}

#[test]
fn an_agent_that_is_quicker_than_the_backends_answer_comes_online_with_that_answer() {
    let mut story = Scenario::new();
    story.when(&create(BackendKind::Process)).unwrap();
    assert_eq!(story.tags_when(&beat(1)), ["workspace.heartbeat_received.v1"]);
    assert_eq!(
        story.tags_when(&provisioned(1)),
        ["workspace.instance_started.v1", "workspace.came_online.v1"]
    );
    assert_eq!(story.state().status, Status::Online);
}

#[test]
fn a_token_of_a_new_generation_ends_all_earlier_ones() {
    let token = |generation| {
        Command::RecordProvisionToken(NewToken {
            token: TokenId(Uuid::from_u128(generation)),
            sha256: [0; 32],
            prefix: "abcdefgh".to_owned(),
            purpose: TokenPurpose::Provision,
            generation: Some(Generation(u64::try_from(generation).unwrap())),
        })
    };
    let mut story = Scenario::new();
    story.when(&create(BackendKind::Process)).unwrap();
    assert_eq!(story.tags_when(&token(1)), ["workspace.token_issued.v1"]);
    assert_eq!(story.tags_when(&token(1)), ["workspace.tokens_revoked.v1", "workspace.token_issued.v1"]);
    assert_eq!(story.state().tokens.len(), 1);
}

#[test]
fn pausing_stops_the_instance_and_drops_a_restart_that_waits() {
    let mut story = online();
    story.when(&evidence(EvidenceClass::Death, 1)).unwrap();
    assert_eq!(
        story.tags_when(&Command::Pause),
        ["workspace.paused.v1", "workspace.restart_abandoned.v1"],
        "nothing runs, so nothing is stopped"
    );
    let mut story = online();
    assert_eq!(story.tags_when(&Command::Pause), ["workspace.paused.v1", "workspace.stop_requested.v1"]);
    assert_eq!(story.when(&Command::Pause), Err(Rejection::AlreadyPaused));
    assert_eq!(story.tags_when(&evidence(EvidenceClass::Death, 1)), ["workspace.evidence_observed.v1"]);
    assert_eq!(story.state().status, Status::Paused);
}

#[test]
fn only_what_was_removed_is_erased_and_once() {
    let mut story = online();
    assert_eq!(story.when(&Command::Erase), Err(Rejection::NotRemoved));
    story.when(&Command::Remove(Remove::default())).unwrap();
    assert_eq!(story.tags_when(&Command::Erase), ["workspace.erased.v1"]);
    assert_eq!(story.state().profile.name, covalence_events::seal::ERASED);
    assert_eq!(story.state().status, Status::Removed);
    assert!(story.tags_when(&Command::Erase).is_empty(), "it is so already");
}

/// Contract 1.8: a late register or beat must not lift a pause.
#[test]
fn a_paused_workspace_is_not_lifted_by_its_agent() {
    let mut story = online();
    story.when(&Command::Pause).unwrap();
    let register = Register {
        url: None,
        agent_card: serde_json::json!({}),
        delivery_mode: None,
        generation: Some(Generation(1)),
        mint: None,
        enrolment: chrono::TimeDelta::zero(),
    };
    story.when(&Command::Register(Box::new(register))).unwrap();
    story.when(&beat(1)).unwrap();
    assert_eq!(story.state().status, Status::Paused);
}

#[test]
fn resuming_starts_the_next_generation() {
    let mut story = online();
    assert_eq!(story.when(&Command::Resume), Err(Rejection::NotPaused));
    story.when(&Command::Pause).unwrap();
    story.when(&Command::Resume).unwrap();
    assert_eq!((story.state().status, story.generation()), (Status::Provisioning, Generation(2)));
    assert!(matches!(story.state().instance, Instance::Starting { origin: ProvisionOrigin::Resume, .. }));
}

#[test]
fn removal_revokes_stops_and_then_purges() {
    let mut story = online();
    assert_eq!(
        story.tags_when(&Command::Remove(Remove::default())),
        ["workspace.removed.v1", "workspace.tokens_revoked.v1", "workspace.stop_requested.v1"]
    );
    story.when(&Command::RecordStopped { generation: Generation(1) }).unwrap();
    assert!(matches!(story.effects[..], [Effect::Purge { .. }]));
    assert_eq!(story.when(&beat(1)), Err(Rejection::Removed));
    assert!(story.when(&Command::Remove(Remove::default())).unwrap().is_empty(), "removing twice is nothing");
}

#[test]
fn removing_again_retries_a_stop_that_failed() {
    let mut story = online();
    story.when(&Command::Remove(Remove::default())).unwrap();
    let failed = Command::RecordStopFailed { generation: Generation(1), message: "busy".to_owned() };
    story.when(&failed).unwrap();
    assert_eq!(story.tags_when(&Command::Remove(Remove::default())), ["workspace.stop_requested.v1"]);
}

#[test]
fn what_runs_though_it_should_not_is_stopped_again() {
    let mut story = online();
    story.when(&Command::Pause).unwrap();
    story.when(&Command::RecordStopped { generation: Generation(1) }).unwrap();
    assert_eq!(
        story.tags_when(&evidence(EvidenceClass::Life, 1)),
        ["workspace.evidence_observed.v1", "workspace.stop_requested.v1"]
    );
}

#[test]
fn only_changes_that_change_something_are_recorded() {
    let mut story = online();
    let changes = vec![Change::Name("scout".to_owned()), Change::Tier(3), Change::Parent(None)];
    assert_eq!(story.tags_when(&Command::Amend(changes)), ["workspace.tier_changed.v1"]);
    let moved = vec![Change::Parent(Some(WorkspaceId(Uuid::from_u128(3))))];
    assert_eq!(story.tags_when(&Command::Amend(moved)), ["workspace.moved.v1"]);
}

#[test]
fn errors_degrade_and_recover_with_a_gap_between() {
    let beat = |error_rate| {
        let generation = Some(Generation(1));
        Command::Heartbeat(Box::new(HeartbeatReceived { error_rate, generation, ..Default::default() }))
    };
    let mut story = online();
    story.when(&beat(0.49)).unwrap();
    assert_eq!(story.state().status, Status::Online);
    story.when(&beat(0.5)).unwrap();
    assert_eq!(story.state().status, Status::Degraded);
    story.when(&beat(0.1)).unwrap();
    assert_eq!(story.state().status, Status::Degraded);
    story.when(&beat(0.09)).unwrap();
    assert_eq!(story.state().status, Status::Online);
}

#[test]
fn a_person_replaces_a_restart_that_still_waits() {
    let mut story = online();
    story.when(&evidence(EvidenceClass::Death, 1)).unwrap();
    let by_hand =
        Command::Restart(Restart { reset_session: true, ..Restart::because_of(RestartCause::Operator) });
    assert_eq!(
        story.tags_when(&by_hand),
        ["workspace.restart_abandoned.v1", "workspace.restart_requested.v1"]
    );
    assert!(story.state().restart.as_ref().is_some_and(|pending| pending.reset_session));
}

#[test]
fn a_crash_anywhere_resumes_from_the_state() {
    let mut story = Scenario::new();
    story.when(&create(BackendKind::Process)).unwrap();
    assert!(matches!(outstanding(story.state())[..], [Effect::Provision { .. }]));
    story.when(&provisioned(1)).unwrap();
    assert!(outstanding(story.state()).is_empty());
    story.when(&evidence(EvidenceClass::Death, 1)).unwrap();
    assert!(matches!(outstanding(story.state())[..], [Effect::RequestAdmission { .. }]));
    story.when(&Command::Pause).unwrap();
    assert!(outstanding(story.state()).is_empty());
}
