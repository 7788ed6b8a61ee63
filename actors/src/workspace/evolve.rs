//! The fold: a state and a fact make the next state. No rules, no refusals; the same for replay and live.

use covalence_events::workspace::{
    BackendKind, CallOutcome, Created, Event, OnlineVia, RestartRequested, StopReason,
};
use covalence_events::{Fact, Generation, Recorded, StreamId, Timestamp};

use super::state::{Instance, LiveToken, PendingRestart, State, Status, Untold};
use crate::context::Corrupt;

/// The next state. Fails only on a fact that can't follow that state: a damaged log, or a bug.
pub fn evolve(state: Option<State>, recorded: &Recorded) -> Result<State, Corrupt> {
    let (StreamId::Workspace(id), Fact::Workspace(event)) = (recorded.stream, &recorded.fact) else {
        return Err(Corrupt::new(recorded, "a fact of another kind of stream"));
    };
    let at = recorded.meta.at;
    match (state, event) {
        (None, Event::Created(profile)) => Ok(created(id, profile.clone(), at)),
        (None, _) => Err(Corrupt::new(recorded, "a stream that does not begin with `created`")),
        (Some(_), Event::Created(_)) => Err(Corrupt::new(recorded, "a second `created`")),
        (Some(state), event) => Ok(apply(state, event, recorded)),
    }
}

fn created(id: covalence_events::WorkspaceId, profile: Created, at: Timestamp) -> State {
    let external = profile.backend == BackendKind::External;
    let status = match (external, &profile.url) {
        (false, _) => Status::Provisioning,
        (true, Some(_)) => Status::Online,
        (true, None) => Status::AwaitingAgent,
    };
    State {
        id,
        status,
        status_since: at,
        generation: Generation(0),
        instance: Instance::None,
        url: profile.url.clone(),
        url_trusted: false,
        delivery_mode: profile.delivery_mode,
        has_card: false,
        tokens: Vec::new(),
        last_life: (status == Status::Online).then_some(at),
        restart: None,
        shut_down: false,
        untold: None,
        previous_life: None,
        profile,
    }
}

fn apply(mut state: State, event: &Event, recorded: &Recorded) -> State {
    describe(&mut state, event, recorded.meta.at);
    live(&mut state, event, recorded);
    state
}

/// The facts that say what the workspace is, and that it was heard from.
fn describe(state: &mut State, event: &Event, at: Timestamp) {
    match event {
        Event::Renamed(e) => state.profile.name.clone_from(&e.name),
        Event::RoleChanged(e) => state.profile.role.clone_from(&e.role),
        Event::TierChanged(e) => state.profile.tier = e.tier,
        Event::Moved(e) => state.profile.parent = e.parent,
        Event::RuntimeChanged(e) => state.profile.runtime.clone_from(&e.runtime),
        Event::DirectoryChanged(e) => state.profile.workspace_dir.clone_from(&e.workspace_dir),
        Event::Placed(e) => (state.profile.x, state.profile.y) = (e.x, e.y),
        Event::Registered(e) => {
            if !state.url_trusted {
                state.url.clone_from(&e.url);
            }
            state.has_card = true;
            state.delivery_mode = Some(e.delivery_mode);
            heard(state, e.generation, at);
        }
        Event::CardUpdated(_) => state.has_card = true,
        Event::HeartbeatReceived(e) => {
            state.has_card |= e.agent_card.is_some();
            heard(state, e.generation, at);
        }
        Event::CallFinished(e) => {
            if e.outcome == CallOutcome::Answered {
                heard(state, None, at);
            }
        }
        Event::TokenIssued(e) => state.tokens.push(LiveToken { token: e.token, generation: e.generation }),
        Event::TokensRevoked(e) => {
            state.tokens.retain(|live| !e.tokens.is_empty() && !e.tokens.contains(&live.token));
        }
        // The canvas's own, and the trail of reasons: no decision rests on them.
        Event::Folded(_) | Event::EvidenceObserved(_) | Event::HandlerPanicked(_) | Event::Created(_) => {}
        // The life of the workspace: see `live`.
        Event::ProvisionRequested(_)
        | Event::InstanceStarted(_)
        | Event::ProvisionFailed(_)
        | Event::StopRequested(_)
        | Event::InstanceStopped(_)
        | Event::StopFailed(_)
        | Event::InstanceAdopted(_)
        | Event::VerdictReached(_)
        | Event::WentOffline(_)
        | Event::CameOnline(_)
        | Event::Degraded(_)
        | Event::RestartRequested(_)
        | Event::RestartStarted(_)
        | Event::RestartAbandoned(_)
        | Event::Quarantined(_)
        | Event::RestartAnnounced(_)
        | Event::Paused(_)
        | Event::Resumed(_)
        | Event::Removed(_) => {}
    }
}

/// The facts that move the workspace through its life.
#[expect(clippy::too_many_lines, reason = "one arm for every kind of fact, exhaustive on purpose")]
fn live(state: &mut State, event: &Event, recorded: &Recorded) {
    let at = recorded.meta.at;
    match event {
        Event::ProvisionRequested(e) => {
            state.generation = e.generation;
            state.instance = Instance::Starting {
                requested: recorded.meta.id,
                origin: e.origin,
                reset_session: e.reset_session,
            };
            state.url = None;
            state.url_trusted = false;
            state.previous_life = state.last_life.take().or(state.previous_life);
            state.untold = None;
            state.shut_down = false;
            enter(state, Status::Provisioning, at);
        }
        Event::InstanceStarted(e) => {
            state.instance = Instance::Running { instance: e.instance.clone() };
            if e.url.is_some() {
                state.url.clone_from(&e.url);
                state.url_trusted = true;
            }
        }
        Event::InstanceAdopted(e) => {
            state.instance = Instance::Running { instance: Some(e.instance.clone()) }
        }
        Event::ProvisionFailed(e) => {
            // Out of time is not proof: what runs may still be heard from, and then it is lifted again.
            if !(e.code == "timeout" && matches!(state.instance, Instance::Running { .. })) {
                gone(state);
            }
            enter(state, Status::Failed, at);
        }
        Event::StopRequested(e) => {
            state.instance =
                Instance::Stopping { requested: recorded.meta.id, reason: e.reason, failed: false };
            state.untold = None;
            state.shut_down = e.reason == StopReason::Shutdown;
            state.url = None;
            state.url_trusted = false;
        }
        Event::StopFailed(_) => {
            if let Instance::Stopping { failed, .. } = &mut state.instance {
                *failed = true;
            }
        }
        Event::InstanceStopped(_) => gone(state),
        Event::VerdictReached(e) => {
            if e.rule == crate::policy::verdict::PROOF_OF_DEATH {
                gone(state);
            }
        }
        Event::WentOffline(_) => enter(state, Status::Offline, at),
        Event::CameOnline(e) => {
            if let Some(restart) = e.restart {
                let pending = state.restart.take();
                state.untold = pending.map(|pending| Untold {
                    restart,
                    cause: pending.cause,
                    online: recorded.meta.id,
                    restarted: at,
                });
            }
            if e.via != OnlineVia::Create {
                state.last_life = Some(at);
            }
            enter(state, Status::Online, at);
        }
        Event::Degraded(_) => enter(state, Status::Degraded, at),
        Event::RestartRequested(e) => state.restart = Some(pending(e, recorded)),
        Event::RestartStarted(e) => {
            if let Some(pending) = &mut state.restart {
                pending.admission = Some(e.admission);
            }
        }
        Event::RestartAbandoned(_) => state.restart = None,
        Event::RestartAnnounced(_) => state.untold = None,
        Event::Quarantined(_) => {
            state.restart = None;
            state.shut_down = false;
            enter(state, Status::Failed, at);
        }
        Event::Paused(_) => enter(state, Status::Paused, at),
        Event::Resumed(_) => {
            // What we run goes on with `ProvisionRequested`; an external agent has to be heard from.
            if state.is_external() {
                enter(state, Status::AwaitingAgent, at);
            }
        }
        Event::Removed(_) => enter(state, Status::Removed, at),
        // What the workspace is, and that it was heard from: see `describe`.
        Event::Created(_)
        | Event::Renamed(_)
        | Event::RoleChanged(_)
        | Event::TierChanged(_)
        | Event::Moved(_)
        | Event::RuntimeChanged(_)
        | Event::DirectoryChanged(_)
        | Event::Placed(_)
        | Event::Folded(_)
        | Event::EvidenceObserved(_)
        | Event::Registered(_)
        | Event::CardUpdated(_)
        | Event::HeartbeatReceived(_)
        | Event::TokenIssued(_)
        | Event::TokensRevoked(_)
        | Event::CallFinished(_)
        | Event::HandlerPanicked(_) => {}
    }
}

fn pending(e: &RestartRequested, recorded: &Recorded) -> PendingRestart {
    PendingRestart {
        restart: e.restart,
        cause: e.cause,
        requested: recorded.meta.id,
        reset_session: e.reset_session,
        admission: None,
    }
}

fn enter(state: &mut State, status: Status, at: Timestamp) {
    if state.status != status {
        state.status = status;
        state.status_since = at;
    }
}

fn gone(state: &mut State) {
    state.instance = Instance::None;
    state.untold = None;
    state.url_trusted = false;
    if !state.is_external() {
        state.url = None;
    }
}

fn heard(state: &mut State, generation: Option<Generation>, at: Timestamp) {
    if state.hears(generation) {
        state.last_life = Some(at);
    }
}
