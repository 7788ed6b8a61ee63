//! Which model is assigned to a workspace (contract 1.10). One that moves leaves first and is taken then, by facts of both
//! streams: it is never in two places, and a kill in between loses nothing, since what left is asked for until it has an
//! outcome.

use covalence_events::workspace::{AgentAssigned, AgentMoveEnded, AgentRemoved, Assigned};
use covalence_events::{AgentId, WorkspaceId};

use super::Facts;
use super::asked::alive;
use crate::context::{Context, Decision};
use crate::workspace::rejection::Rejection;
use crate::workspace::state::State;

pub(super) fn assign(state: &State, new: &Assigned, ctx: &Context<'_>) -> Result<Facts, Rejection> {
    alive(state)?;
    if state.agent.is_some() {
        return Err(Rejection::HasAgent);
    }
    Ok(assigned(new, None, None, ctx))
}

pub(super) fn replace(state: &State, new: &Assigned, ctx: &Context<'_>) -> Result<Facts, Rejection> {
    alive(state)?;
    let old = state.agent.clone().ok_or(Rejection::NoAgent)?;
    Ok(assigned(new, Some(old), None, ctx))
}

pub(super) fn remove(state: &State, ctx: &Context<'_>) -> Result<Facts, Rejection> {
    alive(state)?;
    left(state, None, ctx)
}

pub(super) fn leave(state: &State, to: WorkspaceId, ctx: &Context<'_>) -> Result<Facts, Rejection> {
    alive(state)?;
    if state.moving.is_some() {
        return Err(Rejection::AgentMoves);
    }
    left(state, Some(to), ctx)
}

/// What it has already it takes no second time.
pub(super) fn take(
    state: &State,
    new: &Assigned,
    from: WorkspaceId,
    ctx: &Context<'_>,
) -> Result<Facts, Rejection> {
    alive(state)?;
    match &state.agent {
        Some(known) if known.agent == new.agent => Ok(Decision::default()),
        Some(_) => Err(Rejection::HasAgent),
        None => Ok(assigned(new, None, Some(from), ctx)),
    }
}

/// What could not be taken comes back, unless something else was assigned meanwhile.
pub(super) fn moved(state: &State, agent: AgentId, taken: bool, ctx: &Context<'_>) -> Facts {
    let mut facts = Decision::default();
    let Some(moving) = state.moving.as_ref().filter(|moving| moving.assigned.agent == agent) else {
        return facts;
    };
    let ended = facts.push_because(ctx, Some(moving.requested), AgentMoveEnded { agent, taken });
    if !taken && state.agent.is_none() && alive(state).is_ok() {
        let Assigned { agent, model } = moving.assigned.clone();
        let back = AgentAssigned { agent, model, replaces: None, from: Some(moving.to) };
        facts.push_because(ctx, Some(ended), back);
    }
    facts
}

fn assigned(
    new: &Assigned,
    replaces: Option<Assigned>,
    from: Option<WorkspaceId>,
    ctx: &Context<'_>,
) -> Facts {
    let mut facts = Decision::default();
    let Assigned { agent, model } = new.clone();
    facts.push(ctx, AgentAssigned { agent, model, replaces, from });
    facts
}

fn left(state: &State, to: Option<WorkspaceId>, ctx: &Context<'_>) -> Result<Facts, Rejection> {
    let Assigned { agent, model } = state.agent.clone().ok_or(Rejection::NoAgent)?;
    let mut facts = Decision::default();
    facts.push(ctx, AgentRemoved { agent, model, to });
    Ok(facts)
}
