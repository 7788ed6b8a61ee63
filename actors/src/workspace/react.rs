//! Facts to effects: plain data that says what has to be done now. Live only, never during replay.
//!
//! [`outstanding`] asks the same of a state: what was asked for and has no outcome. A crash anywhere resumes from it.

use covalence_events::fleet::RestartOutcome;
use covalence_events::workspace::{Assigned, DelegationRunner, Event, InstanceRef, RestartCause};
use covalence_events::{DelegationId, EventId, Generation, RestartId, WorkspaceId};

use super::delegations::{Open, Stage};
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
        /// Whether a person asked to pass over holds.
        forced: bool,
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
    /// Look at the instance of an admitted restart once more, by its exact id.
    Confirm {
        /// Which restart.
        restart: RestartId,
        /// The generation to look at.
        generation: Generation,
        /// The instance to look at.
        instance: InstanceRef,
        /// The fact that asks.
        because: EventId,
    },
    /// Tell the fleet's supervisor that a restarted workspace has proved itself.
    ProveRestart {
        /// Which.
        restart: RestartId,
        /// The fact that says so.
        because: EventId,
    },
    /// Let the open calls of what is replaced finish, for a bounded time.
    Drain {
        /// The restart that waits for it.
        restart: RestartId,
        /// The fact that asks.
        because: EventId,
    },
    /// Carry a task to another workspace.
    Delegate {
        /// Which.
        delegation: DelegationId,
        /// The fact that asks.
        because: EventId,
    },
    /// Bring the agent the calls that wait for it, as it has time.
    ServeQueue {
        /// The fact that asks.
        because: EventId,
    },
    /// Tell a workspace that the task which it handed to this one won't be done.
    ReturnTask {
        /// Whose task it is.
        source: WorkspaceId,
        /// Which.
        delegation: DelegationId,
        /// The fact that says so.
        because: EventId,
    },
    /// Give another workspace what was assigned to this one.
    PassAgent {
        /// What it is.
        assigned: Assigned,
        /// Who gets it.
        to: WorkspaceId,
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
#[expect(clippy::too_many_lines, reason = "one arm for every kind of fact, exhaustive on purpose")]
pub fn react(id: EventId, event: &Event, state: &State) -> Vec<Effect> {
    match event {
        Event::ProvisionRequested(e) => vec![Effect::Provision { generation: e.generation, because: id }],
        Event::StopRequested(e) => vec![Effect::Stop { generation: e.generation, because: id }],
        Event::InstanceStopped(_) if state.status == Status::Removed => vec![Effect::Purge { because: id }],
        Event::RestartRequested(e) => {
            vec![Effect::RequestAdmission {
                restart: e.restart,
                cause: e.cause,
                forced: e.forced,
                because: id,
            }]
        }
        Event::ConfirmRequested(e) => vec![Effect::Confirm {
            restart: e.restart,
            generation: e.generation,
            instance: e.instance.clone(),
            because: id,
        }],
        Event::RestartProved(e) => vec![Effect::ProveRestart { restart: e.restart, because: id }],
        Event::CallQueued(_) => vec![Effect::ServeQueue { because: id }],
        Event::DelegationRequested(e) => match e.runner {
            DelegationRunner::Platform => vec![Effect::Delegate { delegation: e.delegation, because: id }],
            DelegationRunner::Agent => Vec::new(),
        },
        Event::Removed(_) => {
            let tasks = state.inbox.tasks();
            tasks.map(|(source, delegation)| Effect::ReturnTask { source, delegation, because: id }).collect()
        }
        Event::AgentRemoved(_) => pass_agent(state).into_iter().collect(),
        Event::DrainRequested(e) => vec![Effect::Drain { restart: e.restart, because: id }],
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
        | Event::DrainEnded(_)
        | Event::Quarantined(_)
        | Event::RestartAnnounced(_)
        | Event::Registered(_)
        | Event::CardUpdated(_)
        | Event::HeartbeatReceived(_)
        | Event::Paused(_)
        | Event::Resumed(_)
        | Event::HibernationRequested(_)
        | Event::Hibernated(_)
        | Event::Erased(_)
        | Event::TokenIssued(_)
        | Event::TokensRevoked(_)
        | Event::EnrolmentOpened(_)
        | Event::RegistrationRefused(_)
        | Event::CallFinished(_)
        | Event::CallRecorded(_)
        | Event::SecretSet(_)
        | Event::SecretRemoved(_)
        | Event::MessageQueued(_)
        | Event::ActivityReported(_)
        | Event::Notified(_)
        | Event::DelegationDispatched(_)
        | Event::DelegationQueued(_)
        | Event::DelegationEnded(_)
        | Event::CallDispatched(_)
        | Event::CallReturned(_)
        | Event::CallDequeued(_)
        | Event::ActivityAcked(_)
        | Event::AgentAssigned(_)
        | Event::AgentMoveEnded(_)
        | Event::TeamExpanded(_)
        | Event::TeamCollapsed(_)
        | Event::SessionSuspected(_)
        | Event::SessionPoisoned(_)
        | Event::SessionCleared(_)
        | Event::HandlerPanicked(_)
        | Event::SuspicionRaised(_)
        | Event::SuspicionCleared(_)
        | Event::VerdictWithheld(_)
        | Event::DeathRefuted(_)
        | Event::OutcomeUnknown(_) => Vec::new(),
    }
}

/// What was assigned and is to move is given to the other workspace until it is known what became of it.
fn pass_agent(state: &State) -> Option<Effect> {
    let moving = state.moving.as_ref()?;
    Some(Effect::PassAgent { assigned: moving.assigned.clone(), to: moving.to, because: moving.requested })
}

/// The instance that a pending restart would replace.
pub(crate) fn suspected(state: &State) -> Option<&InstanceRef> {
    match (&state.instance, &state.lost) {
        (Instance::Running { instance }, _) => instance.as_ref(),
        (_, Some(lost)) => Some(&lost.instance),
        (_, None) => None,
    }
}

/// The reason of a restart that ended because the engine could not start it.
pub(super) const NOT_STARTED: &str = "not_started";
/// The reason of a restart that ended because somebody asked for another one.
pub(super) const SUPERSEDED: &str = "superseded";
/// The reason of a restart that ended because the engine could not stop what it was to replace.
pub(super) const NOT_STOPPED: &str = "not_stopped";

fn ending(reason: &str) -> RestartOutcome {
    match reason {
        "died" | "provision_failed" => RestartOutcome::Failed,
        NOT_STARTED | NOT_STOPPED => RestartOutcome::Unstarted,
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
        // An unknown outcome is found out by lists, never by asking again.
        Instance::None | Instance::Running { .. } | Instance::Unknown { .. } => {}
    }
    if let Some(pending) = state.restart.as_ref().filter(|pending| pending.admission.is_none()) {
        effects.push(match (pending.confirming, suspected(state)) {
            (Some((_, because)), Some(instance)) => Effect::Confirm {
                restart: pending.restart,
                generation: state.generation,
                instance: instance.clone(),
                because,
            },
            _ => Effect::RequestAdmission {
                restart: pending.restart,
                cause: pending.cause,
                forced: pending.forced,
                because: pending.requested,
            },
        });
    }
    let carried = |open: &Open| open.runner == DelegationRunner::Platform && open.stage != Stage::Queued;
    for (delegation, open) in state.delegations.open().filter(|(_, open)| carried(open)) {
        effects.push(Effect::Delegate { delegation, because: open.requested });
    }
    if let Some(untold) = &state.untold {
        effects.push(Effect::Announce { restart: untold.restart, because: untold.online });
    }
    effects.extend(state.queue.calls().next().map(|call| Effect::ServeQueue { because: call.queued }));
    effects.extend(pass_agent(state));
    if let Some((restart, because)) = state.proved {
        effects.push(Effect::ProveRestart { restart, because });
    }
    if let Some((pending, drain)) = state.restart.as_ref().and_then(|pending| Some((pending, pending.drain?)))
    {
        effects.push(Effect::Drain { restart: pending.restart, because: drain.requested });
    }
    effects
}
