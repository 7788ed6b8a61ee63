//! The fold: a state and a fact make the next state. No rules, no refusals; the same for replay and live.

use covalence_events::workspace::{
    Assigned, BackendKind, CallOutcome, Created, Event, OnlineVia, RestartRequested, StopReason,
};
use covalence_events::{Fact, Generation, Recorded, StreamId, Timestamp};

use super::delegations::{Delegations, Stage};
use super::inbox::Inbox;
use super::queue::Queue;
use super::react::SUPERSEDED;
use super::session::Session;
use super::state::{
    Drain, Instance, Lost, Moving, Operation, PendingRestart, Probation, State, Status, Untold,
};
use crate::context::Corrupt;
use crate::policy::phi::Beats;

mod doubt;

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
        provision: None,
        url: profile.url.clone(),
        url_trusted: false,
        delivery_mode: profile.delivery_mode,
        has_card: false,
        tokens: Vec::new(),
        created: at,
        enrolment: None,
        refused: None,
        last_life: (status == Status::Online).then_some(at),
        restart: None,
        shut_down: false,
        untold: None,
        previous_life: None,
        beats: Beats::default(),
        active_tasks: 0,
        last_beat: None,
        doubts: std::collections::BTreeMap::new(),
        withheld: false,
        lost: None,
        probation: None,
        proved: None,
        owed: None,
        quarantined: false,
        erased: false,
        session: Session::default(),
        secrets: std::collections::BTreeMap::new(),
        provisioned: None,
        inbox: Inbox::default(),
        queue: Queue::default(),
        delegations: Delegations::default(),
        agent: None,
        team: std::collections::BTreeSet::new(),
        moving: None,
        acked: 0,
        profile,
    }
}

fn apply(mut state: State, event: &Event, recorded: &Recorded) -> State {
    describe(&mut state, event, recorded);
    live(&mut state, event, recorded);
    doubt::fold(&mut state, event, recorded);
    state
}

/// The facts that say what the workspace is, and that it was heard from.
#[expect(clippy::too_many_lines, reason = "one arm for every kind of fact, exhaustive on purpose")]
fn describe(state: &mut State, event: &Event, recorded: &Recorded) {
    let (id, at) = (recorded.meta.id, recorded.meta.at);
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
        Event::Erased(_) => state.erase(),
        Event::HeartbeatReceived(e) => {
            state.has_card |= e.agent_card.is_some();
            if state.hears(e.generation) {
                state.active_tasks = u32::try_from(e.active_tasks.max(0)).unwrap_or(u32::MAX);
            }
            beat(state, e.generation, recorded);
            heard(state, e.generation, at);
        }
        Event::CallFinished(e) => {
            state.session.fold(e, id, at);
            // One that ends while the next generation is started was answered by the one before.
            if e.outcome == CallOutcome::Answered && state.is_reachable() {
                heard(state, None, at);
            }
        }
        Event::SecretSet(e) => _ = state.secrets.insert(e.name.clone(), e.value.clone()),
        Event::SecretRemoved(e) => _ = state.secrets.remove(&e.name),
        Event::MessageQueued(e) => state.inbox.queued(e),
        Event::CallQueued(e) => state.queue.queued(e, id, (recorded.version, at)),
        Event::CallDispatched(e) => state.queue.dispatched(e),
        Event::CallReturned(e) => state.queue.returned(e),
        Event::CallDequeued(e) => state.queue.ended(e.queue),
        Event::ActivityAcked(e) => state.acked = e.seq,
        Event::AgentAssigned(e) => {
            state.agent = Some(Assigned { agent: e.agent, model: e.model.clone() });
        }
        Event::AgentRemoved(e) => {
            let assigned = Assigned { agent: e.agent, model: e.model.clone() };
            state.agent = None;
            state.moving = e.to.map(|to| Moving { assigned, to, requested: id });
        }
        Event::AgentMoveEnded(_) => state.moving = None,
        Event::TeamExpanded(e) => state.team.extend(e.children.iter().map(|child| child.id)),
        Event::TeamCollapsed(_) => state.team.clear(),
        Event::DelegationRequested(e) => state.delegations.requested(e, id, at),
        Event::DelegationDispatched(e) => state.delegations.moved(e.delegation, Stage::Dispatched, at),
        Event::DelegationQueued(e) => state.delegations.moved(e.delegation, Stage::Queued, at),
        Event::DelegationEnded(e) => state.delegations.ended(e),
        Event::TokenIssued(e) => state.issue(e),
        Event::TokensRevoked(e) => state.revoke(&e.tokens),
        Event::EnrolmentOpened(e) => state.enrolment = Some(e.until),
        Event::RegistrationRefused(_) => state.refused = Some(at),
        // The canvas's own, and the trail of reasons: no decision rests on them.
        Event::Folded(_)
        | Event::EvidenceObserved(_)
        | Event::HandlerPanicked(_)
        | Event::Created(_)
        | Event::CallRecorded(_)
        | Event::ActivityReported(_)
        | Event::Notified(_) => {}
        Event::SessionSuspected(e) => state.session.suspected(&e.failure),
        Event::SessionPoisoned(e) => state.session.poisoned(&e.failure),
        Event::SessionCleared(_) => state.session.cleared(),
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
        | Event::DrainRequested(_)
        | Event::DrainEnded(_)
        | Event::RestartAbandoned(_)
        | Event::Quarantined(_)
        | Event::RestartAnnounced(_)
        | Event::Paused(_)
        | Event::Resumed(_)
        | Event::HibernationRequested(_)
        | Event::Hibernated(_)
        | Event::Removed(_)
        | Event::SuspicionRaised(_)
        | Event::SuspicionCleared(_)
        | Event::VerdictWithheld(_)
        | Event::ConfirmRequested(_)
        | Event::DeathRefuted(_)
        | Event::OutcomeUnknown(_)
        | Event::RestartProved(_) => {}
    }
}

/// The facts that move the workspace through its life.
#[expect(clippy::too_many_lines, reason = "one arm for every kind of fact, exhaustive on purpose")]
fn live(state: &mut State, event: &Event, recorded: &Recorded) {
    let at = recorded.meta.at;
    match event {
        Event::ProvisionRequested(e) => {
            state.generation = e.generation;
            state.provision = Some(recorded.meta.id);
            state.provisioned = Some(at);
            state.instance = Instance::Starting {
                requested: recorded.meta.id,
                origin: e.origin,
                reset_session: e.reset_session,
            };
            state.url = None;
            state.url_trusted = false;
            state.previous_life = state.last_life.take().or(state.previous_life);
            state.untold = None;
            (state.shut_down, state.owed) = (false, None);
            (state.last_beat, state.beats) = (None, Beats::default());
            state.active_tasks = 0;
            state.lost = None;
            if e.reset_session {
                state.session.reset();
            }
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
            if e.reason == StopReason::Restart {
                lost(state);
            }
            state.instance =
                Instance::Stopping { requested: recorded.meta.id, reason: e.reason, failed: false };
            state.untold = None;
            state.shut_down = e.reason == StopReason::Shutdown;
            state.url = None;
            state.url_trusted = false;
        }
        Event::StopFailed(_) => stop_failed(state),
        Event::InstanceStopped(_) => gone(state),
        Event::VerdictReached(e) => {
            if e.rule == crate::policy::verdict::PROOF_OF_DEATH {
                lost(state);
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
                state.probation = Some(Probation { restart, since: at });
            }
            (state.quarantined, state.owed) = (false, None);
            if e.via != OnlineVia::Create {
                state.last_life = Some(at);
            }
            enter(state, Status::Online, at);
        }
        Event::Degraded(_) => enter(state, Status::Degraded, at),
        Event::RestartRequested(e) => {
            if e.cause.is_automatic() {
                state.owed = Some(e.evidence.clone());
            }
            state.restart = Some(pending(e, recorded));
        }
        Event::RestartStarted(e) => {
            if let Some(pending) = &mut state.restart {
                pending.admission = Some(e.admission);
            }
        }
        Event::DrainRequested(_) => {
            if let Some(pending) = &mut state.restart {
                pending.drain = Some(Drain { requested: recorded.meta.id, since: at });
            }
        }
        Event::DrainEnded(_) => {
            if let Some(pending) = &mut state.restart {
                pending.drain = None;
            }
        }
        Event::RestartAbandoned(e) => {
            let ended = state.restart.take();
            if e.reason != SUPERSEDED && ended.is_some_and(|ended| ended.cause.is_automatic()) {
                state.owed = None;
            }
            if e.reason == "evidence_unconfirmed" {
                taken_back(state);
            }
        }
        Event::DeathRefuted(e) => {
            state.lost = Some(Lost { instance: e.instance.clone(), url: e.url.clone() });
            taken_back(state);
        }
        Event::ConfirmRequested(e) => {
            if let Some(pending) = &mut state.restart {
                pending.confirming = Some((e.admission, recorded.meta.id));
            }
        }
        Event::OutcomeUnknown(_) => {
            let operation = match state.instance {
                Instance::Starting { requested, origin, .. } => {
                    Some(Operation::Provision { requested, origin })
                }
                Instance::Stopping { requested, reason, .. } => Some(Operation::Stop { requested, reason }),
                Instance::None | Instance::Running { .. } | Instance::Unknown { .. } => None,
            };
            if let Some(operation) = operation {
                state.instance = Instance::Unknown { since: at, operation };
            }
        }
        Event::RestartAnnounced(_) => state.untold = None,
        Event::Quarantined(_) => {
            (state.quarantined, state.owed) = (true, None);
            state.restart = None;
            state.shut_down = false;
            enter(state, Status::Failed, at);
        }
        Event::Paused(_) => {
            state.owed = None;
            enter(state, Status::Paused, at);
        }
        Event::Resumed(_) => {
            // What we run goes on with `ProvisionRequested`; an external agent has to be heard from.
            if state.is_external() {
                enter(state, Status::AwaitingAgent, at);
            }
        }
        Event::HibernationRequested(_) => {
            state.owed = None;
            enter(state, Status::Hibernating, at);
        }
        Event::Hibernated(_) => enter(state, Status::Hibernated, at),
        Event::Removed(_) => {
            state.owed = None;
            state.delegations.abandoned();
            state.queue.abandoned();
            enter(state, Status::Removed, at);
        }
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
        | Event::EnrolmentOpened(_)
        | Event::RegistrationRefused(_)
        | Event::CallFinished(_)
        | Event::CallRecorded(_)
        | Event::SecretSet(_)
        | Event::SecretRemoved(_)
        | Event::MessageQueued(_)
        | Event::ActivityReported(_)
        | Event::Notified(_)
        | Event::DelegationRequested(_)
        | Event::DelegationDispatched(_)
        | Event::DelegationQueued(_)
        | Event::DelegationEnded(_)
        | Event::CallQueued(_)
        | Event::CallDispatched(_)
        | Event::CallReturned(_)
        | Event::CallDequeued(_)
        | Event::ActivityAcked(_)
        | Event::AgentAssigned(_)
        | Event::AgentRemoved(_)
        | Event::AgentMoveEnded(_)
        | Event::TeamExpanded(_)
        | Event::TeamCollapsed(_)
        | Event::SessionSuspected(_)
        | Event::SessionPoisoned(_)
        | Event::SessionCleared(_)
        | Event::HandlerPanicked(_)
        | Event::Erased(_) => {}
        // What speaks for and against it: see `doubt`.
        Event::SuspicionRaised(_)
        | Event::SuspicionCleared(_)
        | Event::VerdictWithheld(_)
        | Event::RestartProved(_) => {}
    }
}

/// Remembers what runs, so that it can be taken back.
fn lost(state: &mut State) {
    if let Instance::Running { instance: Some(instance) } = &state.instance {
        state.lost = Some(Lost { instance: instance.clone(), url: state.url.clone() });
    }
}

/// What was to be replaced and could not be stopped is there still. Anything else waits for somebody to ask again.
fn stop_failed(state: &mut State) {
    let (Instance::Stopping { requested, reason, .. }
    | Instance::Unknown { operation: Operation::Stop { requested, reason }, .. }) = state.instance
    else {
        return;
    };
    state.instance = Instance::Stopping { requested, reason, failed: true };
    if reason == StopReason::Restart {
        taken_back(state);
    }
}

/// What was pronounced dead is there after all, or may be: lists will tell.
fn taken_back(state: &mut State) {
    if let Some(lost) = state.lost.take() {
        state.instance = Instance::Running { instance: Some(lost.instance) };
        state.url_trusted = lost.url.is_some();
        state.url = lost.url;
    }
}

/// Learns the interval since the last heartbeat: not across a restart of the platform, and nothing that was wondered about.
fn beat(state: &mut State, generation: Option<Generation>, recorded: &Recorded) {
    if !state.hears(generation) {
        return;
    }
    let (at, boot) = (recorded.meta.at, recorded.meta.boot);
    if let Some((last, same)) = state.last_beat
        && same == boot
    {
        state.beats.learn((at - last).to_std().unwrap_or_default());
    }
    state.last_beat = Some((at, boot));
}

fn pending(e: &RestartRequested, recorded: &Recorded) -> PendingRestart {
    PendingRestart {
        restart: e.restart,
        cause: e.cause,
        requested: recorded.meta.id,
        reset_session: e.reset_session,
        forced: e.forced,
        confirming: None,
        admission: None,
        drain: None,
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
