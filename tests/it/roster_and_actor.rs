//! What people are shown and what decisions rest on are two folds of the same facts, in crates that don't know each
//! other. Here they are held together: whatever is decided, after every fact both say the same.

use std::time::Duration;

use covalence_actors::effect::Provisioned;
use covalence_actors::scenario::{Scenario, WORKSPACE};
use covalence_actors::workspace::command::{Create, ProvisionFailure, Register, Remove, Restart};
use covalence_actors::workspace::{self, Command, State, state};
use covalence_events::workspace::{
    BackendKind, Created, EvidenceClass, EvidenceObserved, EvidenceSource, HeartbeatReceived, InstanceRef,
    RestartCause, WorkspaceAccess,
};
use covalence_events::{Generation, Position, RestartId};
use covalence_projections::Projection as _;
use covalence_projections::roster::{self, Roster, Row};
use proptest::prelude::*;

/// One thing that may happen next.
#[derive(Clone, Debug)]
enum Step {
    Beat { error_rate: f64, stale: bool },
    Register,
    Evidence { class: EvidenceClass, stale: bool },
    Provisioned,
    ProvisionFailed { retryable: bool },
    Admit,
    Confirm { class: EvidenceClass },
    OutcomeUnknown,
    Suppress,
    Pause,
    Resume,
    Restart,
    Remove,
    Stopped,
    StopFailed,
    ShutDown,
    PlatformStart,
    Wait { seconds: u64 },
}

fn class() -> impl Strategy<Value = EvidenceClass> {
    prop::sample::select(vec![
        EvidenceClass::Death,
        EvidenceClass::Life,
        EvidenceClass::Suspicion,
        EvidenceClass::Silence,
        EvidenceClass::ObserverFailure,
        EvidenceClass::Expected,
    ])
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0.0..1.0, any::<bool>()).prop_map(|(error_rate, stale)| Step::Beat { error_rate, stale }),
        1 => Just(Step::Register),
        3 => (class(), any::<bool>()).prop_map(|(class, stale)| Step::Evidence { class, stale }),
        4 => Just(Step::Provisioned),
        1 => any::<bool>().prop_map(|retryable| Step::ProvisionFailed { retryable }),
        4 => Just(Step::Admit),
        4 => class().prop_map(|class| Step::Confirm { class }),
        1 => Just(Step::OutcomeUnknown),
        1 => Just(Step::Suppress),
        1 => Just(Step::Pause),
        2 => Just(Step::Resume),
        1 => Just(Step::Restart),
        1 => Just(Step::Stopped),
        1 => Just(Step::StopFailed),
        1 => Just(Step::ShutDown),
        2 => Just(Step::PlatformStart),
        2 => (0_u64..700).prop_map(|seconds| Step::Wait { seconds }),
        1 => prop::bool::weighted(0.2).prop_map(|remove| if remove { Step::Remove } else { Step::Pause }),
    ]
}

fn create(backend: BackendKind) -> Command {
    let profile = Created {
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
    };
    Command::Create(Box::new(Create { profile, token: None, secrets: Vec::new() }))
}

fn instance(generation: Generation) -> InstanceRef {
    InstanceRef { id: format!("instance-{generation}") }
}

fn evidence(class: EvidenceClass, generation: Generation) -> EvidenceObserved {
    EvidenceObserved {
        source: EvidenceSource::Exit,
        class,
        generation,
        instance: Some(instance(generation)),
        code: "exited".to_owned(),
        detail: String::new(),
        exit_status: None,
    }
}

fn command(step: &Step, story: &Scenario) -> Command {
    let current = story.generation();
    let named = |stale: bool| if stale { Generation(current.0.saturating_sub(1)) } else { current };
    let pending = story.state().restart.as_ref().map(|pending| pending.restart);
    let restart = pending.unwrap_or_else(RestartId::generate);
    match step {
        Step::Beat { error_rate, stale } => Command::Heartbeat(Box::new(HeartbeatReceived {
            error_rate: *error_rate,
            generation: Some(named(*stale)),
            ..HeartbeatReceived::default()
        })),
        Step::Register => Command::Register(Box::new(Register {
            url: Some("http://agent.example".to_owned()),
            agent_card: serde_json::json!({"name": "scout"}),
            delivery_mode: None,
            generation: Some(current),
            mint: None,
            enrolment: chrono::TimeDelta::days(1),
        })),
        Step::Evidence { class, stale } => Command::RecordEvidence(Box::new(evidence(*class, named(*stale)))),
        Step::Provisioned => Command::RecordProvisioned {
            generation: current,
            provisioned: Provisioned {
                instance: Some(instance(current)),
                url: Some("http://127.0.0.1:4000".to_owned()),
                withheld: Vec::new(),
                image: None,
            },
        },
        Step::ProvisionFailed { retryable } => Command::RecordProvisionFailed(ProvisionFailure {
            generation: current,
            code: "start_failed".to_owned(),
            message: "it broke".to_owned(),
            retryable: *retryable,
            command: None,
        }),
        Step::Admit => Command::RecordAdmission { restart, admission: Position(1) },
        Step::Confirm { class } => {
            Command::RecordConfirmed { restart, evidence: Box::new(evidence(*class, current)), url: None }
        }
        Step::OutcomeUnknown => Command::RecordOutcomeUnknown {
            generation: current,
            operation: "provision",
            detail: "timeout".to_owned(),
        },
        Step::Suppress => {
            Command::RecordSuppression { restart, rule: "intensity".to_owned(), message: String::new() }
        }
        Step::Pause => Command::Pause,
        Step::Resume => Command::Resume,
        Step::Restart => Command::Restart(Restart::because_of(RestartCause::Operator)),
        Step::Remove => Command::Remove(Remove::default()),
        Step::Stopped => Command::RecordStopped { generation: current },
        Step::StopFailed => Command::RecordStopFailed { generation: current, message: "no".to_owned() },
        Step::ShutDown => Command::ShutDown,
        Step::PlatformStart => Command::RecordPlatformStart,
        Step::Wait { .. } => Command::RecordDeadline,
    }
}

/// What both have to agree on, in words of neither.
#[derive(Debug, PartialEq)]
struct Agreed<'a> {
    status: &'static str,
    since: covalence_events::Timestamp,
    generation: Generation,
    instance: &'static str,
    url: Option<&'a str>,
    url_trusted: bool,
    restart: Option<RestartId>,
}

fn decided_on(state: &State) -> Agreed<'_> {
    Agreed {
        status: state.status.as_str(),
        since: state.status_since,
        generation: state.generation,
        instance: match state.instance {
            state::Instance::None => "none",
            state::Instance::Starting { .. } => "starting",
            state::Instance::Running { .. } => "running",
            state::Instance::Stopping { .. } => "stopping",
            state::Instance::Unknown { .. } => "unknown",
        },
        url: state.url.as_deref(),
        url_trusted: state.url_trusted,
        restart: state.restart.as_ref().map(|pending| pending.restart),
    }
}

fn shown(row: &Row) -> Agreed<'_> {
    Agreed {
        status: row.status.as_str(),
        since: row.status_since,
        generation: row.generation,
        instance: match row.instance {
            roster::Instance::None => "none",
            roster::Instance::Starting => "starting",
            roster::Instance::Running { .. } => "running",
            roster::Instance::Stopping { .. } => "stopping",
            roster::Instance::Unknown { .. } => "unknown",
        },
        url: row.url.as_deref(),
        url_trusted: row.url_trusted,
        restart: row.restart.as_ref().map(|restart| restart.id),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_shown_and_what_is_decided_on_agree_after_every_fact(
        backend in prop::sample::select(vec![BackendKind::Process, BackendKind::Docker, BackendKind::External]),
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut story = Scenario::new();
        story.when(&create(backend)).expect("creation");
        for step in &steps {
            if let Step::Wait { seconds } = step {
                story = story.after(Duration::from_secs(*seconds));
            }
            let command = command(step, &story);
            let _ = story.when(&command);
        }
        let (mut state, mut roster) = (None, Roster::default());
        for recorded in &story.story {
            let next = workspace::evolve(state, recorded).expect("a fact that can follow");
            roster.apply(recorded).expect("a fact that can follow");
            let row = roster.get(WORKSPACE).expect("it was created");
            prop_assert_eq!(decided_on(&next), shown(&row), "after {}", recorded.fact.tag());
            state = Some(next);
        }
    }
}
