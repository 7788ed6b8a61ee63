//! What a person or an agent asks for.

use covalence_events::workspace::{
    CameOnline, CardUpdated, Created, Degraded, DeliveryMode, DirectoryChanged, Erased, Event, Folded,
    HeartbeatReceived, Moved, OnlineVia, Paused, Placed, ProvisionOrigin, ProvisionRequested, Registered,
    Removed, Renamed, RestartAbandoned, RestartRequested, Resumed, RoleChanged, RuntimeChanged, StopReason,
    StopRequested, TierChanged, TokensRevoked,
};
use covalence_events::{EventId, Generation};

use super::supervised::wish;
use super::{Facts, doubt, drain, hibernation, tokens};
use crate::context::{Context, Decision};
use crate::workspace::command::{Change, Create, Register, Remove, Restart};
use crate::workspace::react::SUPERSEDED;
use crate::workspace::rejection::Rejection;
use crate::workspace::state::{Instance, PendingRestart, State, Status};

/// From this share of failed work on, a workspace is degraded (contract 2.3).
const ERROR_RATE_DEGRADED: f64 = 0.5;
/// Below this share, it has recovered. The gap keeps it from flapping.
const ERROR_RATE_RECOVERED: f64 = 0.1;
/// What a runtime calls itself when it runs and can't work.
const WEDGED: &str = "wedged";

/// Our own instances only: an emergency stop keeps nobody else's agent from being known.
pub(super) fn may_start(external: bool, ctx: &Context<'_>) -> Result<(), Rejection> {
    if ctx.stopped && !external { Err(Rejection::EmergencyStop) } else { Ok(()) }
}

pub(super) fn create(create: &Create, ctx: &Context<'_>) -> Result<Facts, Rejection> {
    let external = create.profile.backend == covalence_events::workspace::BackendKind::External;
    may_start(external, ctx)?;
    let mut facts = Decision::default();
    let created = facts.push(ctx, create.profile.clone());
    for secret in &create.secrets {
        facts.push_because(ctx, Some(created), secret.clone());
    }
    if external {
        if let Some(token) = &create.token {
            facts.push_because(ctx, Some(created), tokens::issued(token));
        }
    } else {
        facts.push_because(
            ctx,
            Some(created),
            ProvisionRequested {
                generation: Generation(1),
                origin: ProvisionOrigin::Create,
                restart: None,
                reset_session: false,
            },
        );
    }
    Ok(facts)
}

pub(super) fn amend(state: &State, changes: &[Change], ctx: &Context<'_>) -> Result<Facts, Rejection> {
    alive(state)?;
    let mut facts = Decision::default();
    for change in changes {
        if let Some(event) = amended(&state.profile, change) {
            facts.push(ctx, event);
        }
    }
    Ok(facts)
}

fn amended(profile: &Created, change: &Change) -> Option<Event> {
    match change {
        Change::Name(name) => (profile.name != *name).then(|| Renamed { name: name.clone() }.into()),
        Change::Role(role) => (profile.role != *role).then(|| RoleChanged { role: role.clone() }.into()),
        Change::Tier(tier) => (profile.tier != *tier).then(|| TierChanged { tier: *tier }.into()),
        Change::Parent(parent) => (profile.parent != *parent).then(|| Moved { parent: *parent }.into()),
        Change::Runtime(runtime) => {
            (profile.runtime != *runtime).then(|| RuntimeChanged { runtime: runtime.clone() }.into())
        }
        Change::Directory(directory) => (profile.workspace_dir != *directory)
            .then(|| DirectoryChanged { workspace_dir: directory.clone() }.into()),
        Change::Position { x, y } => Some(Placed { x: *x, y: *y }.into()),
        Change::Collapsed(collapsed) => Some(Folded { collapsed: *collapsed }.into()),
    }
}

pub(super) fn restart(state: &State, restart: &Restart, ctx: &Context<'_>) -> Result<Facts, Rejection> {
    alive(state)?;
    if state.is_external() {
        return Err(Rejection::External);
    }
    let mut facts = Decision::default();
    abandon(state, SUPERSEDED, ctx, &mut facts);
    facts.push(
        ctx,
        RestartRequested {
            reset_session: restart.reset_session,
            forced: restart.forced,
            reason: restart.reason.clone(),
            ..wish(state, restart.cause, Vec::new(), ctx)
        },
    );
    Ok(facts)
}

pub(super) fn pause(state: &State, ctx: &Context<'_>) -> Result<Facts, Rejection> {
    alive(state)?;
    if state.status == Status::Paused {
        return Err(Rejection::AlreadyPaused);
    }
    let mut facts = Decision::default();
    let paused = facts.push(ctx, Paused {});
    abandon(state, "paused", ctx, &mut facts);
    if state.instance != Instance::None {
        let stop = StopRequested { generation: state.generation, reason: StopReason::Pause };
        facts.push_because(ctx, Some(paused), stop);
    }
    Ok(facts)
}

pub(super) fn resume(state: &State, ctx: &Context<'_>) -> Result<Facts, Rejection> {
    alive(state)?;
    if state.status.is_asleep() {
        return hibernation::wake(state, ctx);
    }
    if state.status != Status::Paused {
        return Err(Rejection::NotPaused);
    }
    may_start(state.is_external(), ctx)?;
    let mut facts = Decision::default();
    let resumed = facts.push(ctx, Resumed {});
    if !state.is_external() {
        let provision = ProvisionRequested {
            generation: state.generation.next(),
            origin: ProvisionOrigin::Resume,
            restart: None,
            reset_session: false,
        };
        facts.push_because(ctx, Some(resumed), provision);
    }
    Ok(facts)
}

/// Removing what is removed asks the backend again if it could not stop the instance, and is nothing otherwise.
pub(super) fn remove(state: &State, remove: Remove, ctx: &Context<'_>) -> Facts {
    let mut facts = Decision::default();
    let stop = StopRequested { generation: state.generation, reason: StopReason::Remove };
    if state.status == Status::Removed {
        if matches!(state.instance, Instance::Stopping { failed: true, .. }) {
            facts.push(ctx, stop);
        }
        return facts;
    }
    let Remove { cascade_deleted, purge, forwarded_to } = remove;
    let removed = facts.push(ctx, Removed { cascade_deleted, purge, forwarded_to });
    let revoked = TokensRevoked { tokens: Vec::new(), reason: "removed".to_owned() };
    facts.push_because(ctx, Some(removed), revoked);
    abandon(state, "removed", ctx, &mut facts);
    if !state.is_external() {
        // Also where nothing should run: a stopped container of the last generation may be left.
        facts.push_because(ctx, Some(removed), stop);
    }
    facts
}

/// Its history stays, without what was said in it. What still runs of it would say more, so that has to be gone.
pub(super) fn erase(state: &State, ctx: &Context<'_>) -> Result<Facts, Rejection> {
    if state.status != Status::Removed {
        return Err(Rejection::NotRemoved);
    }
    let mut facts = Facts::default();
    if !state.erased {
        facts.push(ctx, Erased {});
    }
    Ok(facts)
}

pub(super) fn register(state: &State, register: &Register, ctx: &Context<'_>) -> Result<Facts, Rejection> {
    alive(state)?;
    current(state, register.generation)?;
    let delivery_mode = register
        .delivery_mode
        .or(state.delivery_mode)
        .unwrap_or_else(|| if state.is_external() { DeliveryMode::Poll } else { DeliveryMode::Push });
    let mut facts = Decision::default();
    let cause = ctx.origin.causation.or(state.provision);
    let registered = facts.push_because(
        ctx,
        cause,
        Registered {
            url: register.url.clone(),
            agent_card: register.agent_card.clone(),
            delivery_mode,
            generation: register.generation,
        },
    );
    if let Some(token) = tokens::first(state, register, ctx)? {
        facts.push_because(ctx, Some(registered), tokens::issued(token));
    }
    if state.hears(register.generation) {
        doubt::clear(state, "registration", (ctx, registered), &mut facts);
    }
    let stopped = state.status == Status::Paused || state.status.is_asleep();
    let lifts = !state.status.is_up() && !stopped;
    if lifts && state.hears(register.generation) && state.is_reachable() {
        come_online(state, OnlineVia::Register, (ctx, registered), &mut facts);
    }
    Ok(facts)
}

pub(super) fn heartbeat(
    state: &State,
    beat: &HeartbeatReceived,
    ctx: &Context<'_>,
) -> Result<Facts, Rejection> {
    alive(state)?;
    current(state, beat.generation)?;
    let mut facts = Decision::default();
    // What lifts it comes from the start that it speaks of; every other beat comes from nowhere.
    let lifts = matches!(state.status, Status::Provisioning | Status::Offline | Status::Failed);
    let cause = ctx.origin.causation.or_else(|| state.provision.filter(|_| lifts));
    let received = facts.push_because(ctx, cause, beat.clone());
    // An agent that is quicker than the backend's own answer comes online with that answer.
    if !state.hears(beat.generation) || !state.is_reachable() {
        return Ok(facts);
    }
    doubt::clear(state, "heartbeat", (ctx, received), &mut facts);
    let wedged = beat.runtime_state == WEDGED;
    match state.status {
        Status::Online if wedged || beat.error_rate >= ERROR_RATE_DEGRADED => {
            let degraded = Degraded {
                error_rate: beat.error_rate,
                sample_error: beat.sample_error.clone(),
                runtime_state: beat.runtime_state.clone(),
            };
            facts.push_because(ctx, Some(received), degraded);
        }
        Status::Degraded if !wedged && beat.error_rate < ERROR_RATE_RECOVERED => {
            come_online(state, OnlineVia::Heartbeat, (ctx, received), &mut facts);
        }
        Status::Provisioning | Status::Offline | Status::Failed | Status::AwaitingAgent => {
            come_online(state, OnlineVia::Heartbeat, (ctx, received), &mut facts);
        }
        Status::Online
        | Status::Degraded
        | Status::Paused
        | Status::Hibernating
        | Status::Hibernated
        | Status::Removed => {}
    }
    Ok(facts)
}

/// The agent was heard from: it is online, and a restart that has not begun is not needed any more, unless a person or a
/// policy wanted it for another reason than death.
pub(super) fn come_online(
    state: &State,
    via: OnlineVia,
    (ctx, cause): (&Context<'_>, EventId),
    facts: &mut Facts,
) {
    // What is still drained is the generation before the restart: its life ends nothing.
    let begun =
        state.restart.as_ref().filter(|pending| pending.admission.is_some() && pending.drain.is_none());
    let online = CameOnline {
        via,
        from: state.status.as_str().to_owned(),
        generation: state.generation,
        restart: begun.map(|pending| pending.restart),
    };
    facts.push_because(ctx, Some(cause), online);
    let refuted = |pending: &PendingRestart| pending.drain.is_none() && pending.cause.is_automatic();
    if begun.is_none() && state.restart.as_ref().is_some_and(refuted) {
        abandon(state, "evidence_refuted", ctx, facts);
    }
}

pub(super) fn update_card(
    state: &State,
    agent_card: &serde_json::Value,
    ctx: &Context<'_>,
) -> Result<Facts, Rejection> {
    alive(state)?;
    let mut facts = Decision::default();
    facts.push(ctx, CardUpdated { agent_card: agent_card.clone() });
    Ok(facts)
}

/// Ends a restart that is under way, with the reason that it will not be carried out.
pub(super) fn abandon(state: &State, reason: &str, ctx: &Context<'_>, facts: &mut Facts) {
    if let Some(pending) = &state.restart {
        end_restart(pending, reason, (ctx, pending.requested), facts);
    }
}

pub(super) fn end_restart(
    pending: &PendingRestart,
    reason: &str,
    (ctx, cause): (&Context<'_>, EventId),
    facts: &mut Facts,
) {
    drain::given_up(pending, ctx, facts);
    let abandoned = RestartAbandoned { restart: pending.restart, reason: reason.to_owned() };
    facts.push_because(ctx, Some(cause), abandoned);
}

pub(super) fn alive(state: &State) -> Result<(), Rejection> {
    if state.status == Status::Removed { Err(Rejection::Removed) } else { Ok(()) }
}

/// A report that names an older generation comes from something that should not be there any more.
fn current(state: &State, named: Option<Generation>) -> Result<(), Rejection> {
    match named {
        Some(reported) if reported != state.generation && !state.is_external() => {
            Err(Rejection::StaleGeneration { reported, current: state.generation })
        }
        _ => Ok(()),
    }
}
