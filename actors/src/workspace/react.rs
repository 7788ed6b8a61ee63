//! Facts to effects: plain data that says what has to be done now. Live only, never during replay.
//!
//! [`outstanding`] asks the same of a state: what was asked for and has no outcome. A crash anywhere resumes from it.

use covalence_events::fleet::RestartOutcome;
use covalence_events::workspace::{Event, RestartCause};
use covalence_events::{EventId, Generation, RestartId};

use super::state::{Instance, State, Status};

/// A work order. Carried out at least once, idempotent by what it names.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Start the generation.
    Provision {
        /// Which.
        generation: Generation,
        /// The fact that asks.
        because: EventId,
    },
    /// Stop everything up to the generation.
    Stop {
        /// Which.
        generation: Generation,
        /// The fact that asks.
        because: EventId,
    },
    /// Remove what a removed workspace left behind.
    Purge {
        /// The fact that asks.
        because: EventId,
    },
    /// Ask the fleet's supervisor for a restart.
    RequestAdmission {
        /// Which.
        restart: RestartId,
        /// Why.
        cause: RestartCause,
        /// The fact that asks.
        because: EventId,
    },
    /// Tell the agent that it was restarted.
    Announce {
        /// By which restart.
        restart: RestartId,
        /// The fact that asks.
        because: EventId,
    },
    /// Tell the fleet's supervisor how a restart ended.
    SettleRestart {
        /// Which.
        restart: RestartId,
        /// How.
        outcome: RestartOutcome,
        /// The fact that says so.
        because: EventId,
    },
}

/// What a fact that just happened asks for. `state` is the one after it.
pub fn react(id: EventId, event: &Event, state: &State) -> Vec<Effect> {
    match event {
        Event::ProvisionRequested(e) => vec![Effect::Provision { generation: e.generation, because: id }],
        Event::StopRequested(e) => vec![Effect::Stop { generation: e.generation, because: id }],
        Event::InstanceStopped(_) if state.status == Status::Removed => vec![Effect::Purge { because: id }],
        Event::RestartRequested(e) => {
            vec![Effect::RequestAdmission { restart: e.restart, cause: e.cause, because: id }]
        }
        Event::RestartAbandoned(e) => {
            vec![Effect::SettleRestart { restart: e.restart, outcome: ending(&e.reason), because: id }]
        }
        Event::CameOnline(e) => match e.restart {
            Some(restart) => vec![
                Effect::SettleRestart { restart, outcome: RestartOutcome::Online, because: id },
                Effect::Announce { restart, because: id },
            ],
            None => Vec::new(),
        },
        // Nothing outside has to learn of these.
        Event::Created(_)
        | Event::Renamed(_)
        | Event::RoleChanged(_)
        | Event::TierChanged(_)
        | Event::Moved(_)
        | Event::RuntimeChanged(_)
        | Event::DirectoryChanged(_)
        | Event::Placed(_)
        | Event::Folded(_)
        | Event::InstanceStarted(_)
        | Event::ProvisionFailed(_)
        | Event::InstanceStopped(_)
        | Event::StopFailed(_)
        | Event::InstanceAdopted(_)
        | Event::EvidenceObserved(_)
        | Event::VerdictReached(_)
        | Event::WentOffline(_)
        | Event::Degraded(_)
        | Event::RestartStarted(_)
        | Event::Quarantined(_)
        | Event::RestartAnnounced(_)
        | Event::Registered(_)
        | Event::CardUpdated(_)
        | Event::HeartbeatReceived(_)
        | Event::Paused(_)
        | Event::Resumed(_)
        | Event::Removed(_)
        | Event::TokenIssued(_)
        | Event::TokensRevoked(_)
        | Event::CallFinished(_)
        | Event::HandlerPanicked(_) => Vec::new(),
    }
}

fn ending(reason: &str) -> RestartOutcome {
    match reason {
        "died" | "provision_failed" => RestartOutcome::Failed,
        _ => RestartOutcome::Abandoned,
    }
}

/// What this state still waits for.
pub fn outstanding(state: &State) -> Vec<Effect> {
    let mut effects = Vec::new();
    match &state.instance {
        Instance::Starting { requested, .. } => {
            effects.push(Effect::Provision { generation: state.generation, because: *requested });
        }
        Instance::Stopping { requested, .. } => {
            effects.push(Effect::Stop { generation: state.generation, because: *requested });
        }
        Instance::None | Instance::Running { .. } => {}
    }
    if let Some(pending) = state.restart.as_ref().filter(|pending| pending.admission.is_none()) {
        effects.push(Effect::RequestAdmission {
            restart: pending.restart,
            cause: pending.cause,
            because: pending.requested,
        });
    }
    if let Some(untold) = &state.untold {
        effects.push(Effect::Announce { restart: untold.restart, because: untold.online });
    }
    effects
}
