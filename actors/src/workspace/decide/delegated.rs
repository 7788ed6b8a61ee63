//! Tasks that a workspace hands to others, from the request to what came of it. What is over stays as it ended.

use covalence_events::workspace::{
    DelegationDispatched, DelegationEnded, DelegationOutcome, DelegationQueued, DelegationRequested,
};
use covalence_events::{DelegationId, EventId, WorkspaceId};

use super::Facts;
use super::asked::alive;
use crate::context::{Context, Decision};
use crate::workspace::command::{Delegate, DelegationEnd, Reply};
use crate::workspace::delegations::{Open, QUEUED_MAX, Stage};
use crate::workspace::rejection::Rejection;
use crate::workspace::state::{State, Status};

/// A request whose key is known is a repetition: whoever came first has it.
pub(super) fn delegate(state: &State, delegate: &Delegate, ctx: &Context<'_>) -> Result<Facts, Rejection> {
    alive(state)?;
    let mut facts = Decision::default();
    let known = state.delegations.knows(delegate.delegation)
        || delegate.key.as_deref().is_some_and(|key| state.delegations.has_key(key));
    if known {
        return Ok(facts);
    }
    if state.delegations.is_full() {
        return Err(Rejection::TooManyDelegations);
    }
    let requested = DelegationRequested {
        delegation: delegate.delegation,
        target: delegate.target,
        task: delegate.task.clone(),
        key: delegate.key.clone(),
        runner: delegate.runner,
    };
    let requested = facts.push(ctx, requested);
    if delegate.denied {
        let end = DelegationEnd::failed(
            "access_denied",
            "access denied: workspaces cannot communicate per hierarchy rules",
        );
        facts.push_because(ctx, Some(requested), ended(delegate.delegation, delegate.target, &end));
    }
    Ok(facts)
}

pub(super) fn dispatched(
    state: &State,
    delegation: DelegationId,
    ctx: &Context<'_>,
) -> Result<Facts, Rejection> {
    let open = state.delegations.get(delegation).ok_or(Rejection::DelegationOver)?;
    let mut facts = Decision::default();
    if open.stage != Stage::Dispatched {
        facts.push_because(ctx, Some(open.requested), DelegationDispatched { delegation });
    }
    Ok(facts)
}

pub(super) fn queued(state: &State, delegation: DelegationId, ctx: &Context<'_>) -> Result<Facts, Rejection> {
    let mut facts = Decision::default();
    match state.delegations.get(delegation) {
        Some(open) if open.stage != Stage::Queued => {
            facts.push_because(ctx, Some(open.requested), DelegationQueued { delegation });
        }
        Some(_) => {}
        None if state.delegations.knows(delegation) => {}
        None => return Err(Rejection::NoSuchDelegation),
    }
    Ok(facts)
}

pub(super) fn end(
    state: &State,
    delegation: DelegationId,
    end: &DelegationEnd,
    ctx: &Context<'_>,
) -> Result<Facts, Rejection> {
    let mut facts = Decision::default();
    match state.delegations.get(delegation) {
        Some(open) => close(delegation, open, end, (ctx, open.requested), &mut facts),
        None if state.delegations.knows(delegation) || state.status == Status::Removed => {}
        None => return Err(Rejection::NoSuchDelegation),
    }
    Ok(facts)
}

/// An agent that fetches its messages answers by a message of its own.
pub(super) fn replied(state: &State, reply: &Reply, ctx: &Context<'_>) -> Facts {
    let mut facts = Decision::default();
    let answered = state.delegations.answered(reply.from, reply.named);
    if let Some((delegation, open)) = answered.and_then(|id| Some((id, state.delegations.get(id)?))) {
        let end = DelegationEnd {
            outcome: DelegationOutcome::Completed,
            reason: None,
            response: Some(reply.text.clone()),
            error: None,
        };
        close(delegation, open, &end, (ctx, open.requested), &mut facts);
    }
    facts
}

/// Gives up what has waited at another agent for too long.
pub(super) fn overdue(state: &State, ctx: &Context<'_>) -> Facts {
    let mut facts = Decision::default();
    for (delegation, open) in state.delegations.overdue(ctx.at()) {
        let end = DelegationEnd::failed(
            "expired",
            &format!("nobody fetched or answered it within {} h", QUEUED_MAX.num_hours()),
        );
        close(delegation, open, &end, (ctx, open.requested), &mut facts);
    }
    facts
}

fn close(
    delegation: DelegationId,
    open: &Open,
    end: &DelegationEnd,
    (ctx, because): (&Context<'_>, EventId),
    facts: &mut Facts,
) {
    facts.push_because(ctx, Some(because), ended(delegation, open.target, end));
}

fn ended(delegation: DelegationId, target: WorkspaceId, end: &DelegationEnd) -> DelegationEnded {
    DelegationEnded {
        delegation,
        target,
        outcome: end.outcome,
        reason: end.reason.clone(),
        response: end.response.clone(),
        error: end.error.clone(),
    }
}
