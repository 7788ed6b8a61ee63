//! Which lanes a fact belongs to.

use covalence_events::workspace::BackendKind;
use covalence_events::{Fact, Recorded, fleet, workspace};

use super::{Lane, LaneKind};
use crate::who::Who;

/// Workspaces whose lanes a fact about many is marked in; a brake names everybody that it is about.
const ALSO_MAX: usize = 50;

/// The lane of a fact, and the others that it is about; none for what no operator looks for.
pub(super) fn of(recorded: &Recorded, who: &Who) -> Option<(Lane, Vec<Lane>)> {
    match &recorded.fact {
        Fact::Workspace(event) => {
            let lane = workspace_lane(recorded, who)?;
            let by_person = recorded.meta.principal.is_operator() && !is_routine(event);
            let also = by_person.then(|| plain(LaneKind::Operator, "operator")).into_iter().collect();
            (!is_hidden(event)).then_some((lane, also))
        }
        Fact::Fleet(event) => Some(fleet(event, recorded, who)),
    }
}

/// Which engine's lane a name belongs to.
pub(super) fn engine(name: &str) -> Lane {
    plain(LaneKind::Engine, &format!("engine:{name}"))
}

/// The platform's own lane.
pub(super) fn platform() -> Lane {
    plain(LaneKind::Platform, "platform")
}

/// The lane of what sees for a cell, or for the platform as a whole.
pub(super) fn observer(cell: Option<BackendKind>) -> Lane {
    match cell {
        Some(cell) => plain(LaneKind::Observer, &format!("observer:{}", cell.as_str())),
        None => plain(LaneKind::Observer, "observer"),
    }
}

fn fleet(event: &fleet::Event, recorded: &Recorded, who: &Who) -> (Lane, Vec<Lane>) {
    use fleet::Event as F;
    let own = || workspace_lane(recorded, who);
    let person = || plain(LaneKind::Operator, "operator");
    let tokens = |inputs: Option<&fleet::AdmissionInputs>| {
        inputs.map(|inputs| plain(LaneKind::Tokens, &format!("tokens:{}", inputs.cell.as_str())))
    };
    let decided = |inputs: Option<&fleet::AdmissionInputs>| {
        (own().unwrap_or_else(platform), tokens(inputs).into_iter().collect())
    };
    match event {
        F::PlatformStarted(_)
        | F::PlatformStopped(_)
        | F::TailRepaired(_)
        | F::LogMended(_)
        | F::InvariantViolated(_) => (platform(), own().into_iter().collect()),
        F::AlarmRaised(_) | F::AlarmResolved(_) => (platform(), own().into_iter().collect()),
        F::RestartAdmitted(e) => decided(e.inputs.as_deref()),
        F::RestartDeferred(e) => decided(e.inputs.as_deref()),
        F::RestartSuppressed(e) => decided(e.inputs.as_deref()),
        F::RestartSettled(_) => (own().unwrap_or_else(platform), Vec::new()),
        F::RestartProved(e) => (
            own().unwrap_or_else(platform),
            vec![plain(LaneKind::Tokens, &format!("tokens:{}", e.cell.as_str()))],
        ),
        F::QuarantineProbed(_) => (own().unwrap_or_else(platform), Vec::new()),
        F::QuarantineLifted(_) => {
            let by_person = recorded.meta.principal.is_operator();
            (own().unwrap_or_else(platform), by_person.then(person).into_iter().collect())
        }
        F::EngineLost(e) => (engine(&e.engine), Vec::new()),
        F::EngineFound(e) => (engine(&e.engine), Vec::new()),
        F::StrangerFound(e) => (engine(&e.engine), Vec::new()),
        F::CircuitChanged(e) => (engine(e.cell.as_str()), Vec::new()),
        F::ProvisionLimitChanged(e) => (engine(e.cell.as_str()), Vec::new()),
        F::ObserverChanged(e) => (observer(e.cell), Vec::new()),
        F::GraceStarted(_) | F::GraceEnded(_) => (observer(None), Vec::new()),
        F::BrakeEngaged(e) => {
            let members = e.members.iter().take(ALSO_MAX).map(|id| one(*id, who)).collect();
            (plain(LaneKind::Brake, &format!("brake:{}", e.cell.as_str())), members)
        }
        F::FlightRecorded(e) => (plain(LaneKind::Brake, &format!("brake:{}", e.cell.as_str())), Vec::new()),
        F::FlightLost(e) => (plain(LaneKind::Brake, &format!("brake:{}", e.cell.as_str())), Vec::new()),
        F::BrakeReleased(e) => {
            let by_person = recorded.meta.principal.is_operator();
            let brake = plain(LaneKind::Brake, &format!("brake:{}", e.cell.as_str()));
            (brake, by_person.then(person).into_iter().collect())
        }
        F::HoldSet(e) => (person(), scoped(e.scope, who)),
        F::ModeSet(e) => (person(), scoped(e.scope, who)),
        F::StrategySet(e) => (person(), vec![one(e.team, who)]),
        F::SecretSet(_)
        | F::SecretRemoved(_)
        | F::MasterKeyRotated(_)
        | F::OrgTokenIssued(_)
        | F::OrgTokenRevoked(_) => (person(), Vec::new()),
        F::IncidentOpened(e) => {
            let brake = e.cell.map(|cell| plain(LaneKind::Brake, &format!("brake:{}", cell.as_str())));
            (
                brake.unwrap_or_else(person),
                e.workspaces.iter().take(ALSO_MAX).map(|id| one(*id, who)).collect(),
            )
        }
        F::HoldReleased(_) | F::PolicyChanged(_) | F::IncidentNoted(_) | F::IncidentClosed(_) => {
            (person(), Vec::new())
        }
    }
}

fn scoped(scope: fleet::Scope, who: &Who) -> Vec<Lane> {
    match scope {
        fleet::Scope::Fleet => Vec::new(),
        fleet::Scope::Subtree(id) | fleet::Scope::Workspace(id) => vec![one(id, who)],
    }
}

fn workspace_lane(recorded: &Recorded, who: &Who) -> Option<Lane> {
    recorded.subject().map(|id| one(id, who))
}

fn one(id: covalence_events::WorkspaceId, who: &Who) -> Lane {
    Lane { kind: LaneKind::Workspace, name: who.name(id), workspace: Some(id) }
}

fn plain(kind: LaneKind, name: &str) -> Lane {
    Lane { kind, name: name.to_owned(), workspace: None }
}

/// Facts that say nothing about how a workspace fares.
const fn is_hidden(event: &workspace::Event) -> bool {
    use workspace::Event as E;
    matches!(
        event,
        E::Placed(_)
            | E::Folded(_)
            | E::CardUpdated(_)
            | E::TokenIssued(_)
            | E::TokensRevoked(_)
            | E::RoleChanged(_)
    )
}

/// Facts that come by themselves even where a person's command led to them.
const fn is_routine(event: &workspace::Event) -> bool {
    use workspace::Event as E;
    matches!(
        event,
        E::CallFinished(_)
            | E::CallRecorded(_)
            | E::MessageQueued(_)
            | E::HeartbeatReceived(_)
            | E::Registered(_)
    )
}
