//! What works is replaced with care: its open calls may finish first, and no new ones come in.
//!
//! The drain is asked for by a fact and ends with one. It keeps nobody waiting: it is over when no call is open, when its
//! time is up, when the instance dies, and when a person wants something else.

use covalence_events::workspace::{
    DrainEnded, DrainOutcome, DrainRequested, ProvisionOrigin, ProvisionRequested,
};
use covalence_events::{EventId, RestartId, Timestamp};

use super::Facts;
use crate::context::{Context, Decision};
use crate::workspace::command::Drained;
use crate::workspace::rejection::Rejection;
use crate::workspace::state::{Drain, Instance, PendingRestart, State};

/// An admitted restart has begun: the next generation at once, or after a drain.
pub(super) fn replace(
    state: &State,
    pending: &PendingRestart,
    (ctx, started): (&Context<'_>, EventId),
    facts: &mut Facts,
) {
    if !pending.is_graceful() || !matches!(state.instance, Instance::Running { .. }) {
        return provision(state, pending, (ctx, started), facts);
    }
    facts.push_because(
        ctx,
        Some(started),
        DrainRequested {
            restart: pending.restart,
            generation: state.generation,
            within_ms: millis(ctx.policy.drain_timeout),
        },
    );
}

/// The next generation is asked for.
pub(super) fn provision(
    state: &State,
    pending: &PendingRestart,
    (ctx, cause): (&Context<'_>, EventId),
    facts: &mut Facts,
) {
    facts.push_because(
        ctx,
        Some(cause),
        ProvisionRequested {
            generation: state.generation.next(),
            origin: ProvisionOrigin::Restart,
            restart: Some(pending.restart),
            reset_session: pending.reset_session,
        },
    );
}

/// The calls are finished, or their time is up.
pub(super) fn ended(state: &State, drained: Drained, ctx: &Context<'_>) -> Result<Facts, Rejection> {
    let (pending, drain) = draining(state, drained.restart).ok_or(Rejection::RestartNotPending)?;
    let mut facts = Decision::default();
    let ended = DrainEnded {
        restart: pending.restart,
        outcome: if drained.open == 0 { DrainOutcome::Drained } else { DrainOutcome::TimedOut },
        open: Some(drained.open),
        took_ms: since(drain, ctx.at()),
    };
    let ended = facts.push_because(ctx, Some(drain.requested), ended);
    provision(state, pending, (ctx, ended), &mut facts);
    Ok(facts)
}

/// The instance died while it was drained: its replacement begins at once, and under the name of the restart that was
/// under way, since that is what is wanted and it counts for nothing.
pub(super) fn cut_short(state: &State, (ctx, reached): (&Context<'_>, EventId), facts: &mut Facts) -> bool {
    let Some((pending, drain)) = state.restart.as_ref().and_then(|pending| Some((pending, pending.drain?)))
    else {
        return false;
    };
    let ended = facts.push_because(ctx, Some(reached), overtaken(pending, drain, ctx));
    provision(state, pending, (ctx, ended), facts);
    true
}

/// A restart that is given up while it drains.
pub(super) fn given_up(pending: &PendingRestart, ctx: &Context<'_>, facts: &mut Facts) {
    if let Some(drain) = pending.drain {
        facts.push_because(ctx, Some(drain.requested), overtaken(pending, drain, ctx));
    }
}

fn overtaken(pending: &PendingRestart, drain: Drain, ctx: &Context<'_>) -> DrainEnded {
    let (restart, took_ms) = (pending.restart, since(drain, ctx.at()));
    DrainEnded { restart, outcome: DrainOutcome::Overtaken, open: None, took_ms }
}

fn draining(state: &State, restart: RestartId) -> Option<(&PendingRestart, Drain)> {
    let pending = state.restart.as_ref().filter(|pending| pending.restart == restart)?;
    Some((pending, pending.drain?))
}

fn since(drain: Drain, now: Timestamp) -> u64 {
    crate::context::millis(now - drain.since)
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
