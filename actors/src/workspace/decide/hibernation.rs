//! A workspace that nobody needs is stopped until somebody does (contract 1.8, 4.5).
//!
//! Whoever asks for it while it sleeps wakes it, also while it is still being stopped. The supervisor has no part in this:
//! what sleeps is not dead.

use covalence_events::EventId;
use covalence_events::workspace::{
    Hibernated, HibernationRequested, ProvisionOrigin, ProvisionRequested, StopReason, StopRequested,
};

use super::Facts;
use super::asked::{abandon, alive, may_start};
use crate::context::{Context, Decision, ancestors};
use crate::workspace::command::Hibernate;
use crate::workspace::rejection::Rejection;
use crate::workspace::state::{Instance, State};

pub(super) fn hibernate(state: &State, hibernate: Hibernate, ctx: &Context<'_>) -> Result<Facts, Rejection> {
    alive(state)?;
    if state.is_external() {
        return Err(Rejection::External);
    }
    if !state.status.is_up() {
        return Err(Rejection::NotHibernatable);
    }
    let Hibernate { forced, open } = hibernate;
    // The agent and the platform count the same calls, and each may know of some that the other does not.
    let active_tasks = state.active_tasks.max(open);
    if active_tasks > 0 && !forced {
        return Err(Rejection::ActiveTasks { active_tasks });
    }
    let mut facts = Decision::default();
    let requested = facts.push(ctx, HibernationRequested { forced, active_tasks });
    abandon(state, "hibernated", ctx, &mut facts);
    if state.instance == Instance::None {
        facts.push_because(ctx, Some(requested), Hibernated {});
    } else {
        let stop = StopRequested { generation: state.generation, reason: StopReason::Hibernate };
        facts.push_because(ctx, Some(requested), stop);
    }
    Ok(facts)
}

pub(super) fn wake(state: &State, ctx: &Context<'_>) -> Result<Facts, Rejection> {
    alive(state)?;
    let mut facts = Decision::default();
    if state.status.is_asleep() {
        may_wake(state, ctx)?;
        begin(state, (ctx, ctx.origin.causation), &mut facts);
    }
    Ok(facts)
}

/// A message for an agent that fetches its messages is a reason to wake it, and waits where that can't be.
pub(super) fn wake_for(state: &State, (ctx, because): (&Context<'_>, EventId), facts: &mut Facts) {
    if state.status.is_asleep() && may_wake(state, ctx).is_ok() {
        begin(state, (ctx, Some(because)), facts);
    }
}

fn may_wake(state: &State, ctx: &Context<'_>) -> Result<(), Rejection> {
    may_start(state.is_external(), ctx)?;
    let paused = ancestors(ctx.roster, state.id).any(|above| ctx.roster.is_paused(above));
    if paused { Err(Rejection::PausedAbove) } else { Ok(()) }
}

fn begin(state: &State, (ctx, because): (&Context<'_>, Option<EventId>), facts: &mut Facts) {
    let provision = ProvisionRequested {
        generation: state.generation.next(),
        origin: ProvisionOrigin::Wake,
        restart: None,
        reset_session: false,
    };
    facts.push_because(ctx, because, provision);
}
