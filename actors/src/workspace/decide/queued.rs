//! Calls that wait until an agent has time, from the moment that they wait to what came of them (contract 4.9). Each leaves at
//! most once without being known not to have arrived, and ends in one way.

use covalence_events::Timestamp;
use covalence_events::workspace::{CallDequeued, CallDispatched, CallQueued, CallReturned, QueueOutcome};

use super::asked::alive;
use super::{Facts, hibernation, reported};
use crate::context::{Context, Decision};
use crate::workspace::queue::{ATTEMPTS_MAX, Delivered, Returned, Waiting};
use crate::workspace::rejection::Rejection;
use crate::workspace::state::State;

/// A call that waits already does not wait twice.
pub(super) fn queue(state: &State, call: &CallQueued, ctx: &Context<'_>) -> Result<Facts, Rejection> {
    alive(state)?;
    let mut facts = Decision::default();
    if call.digest.as_deref().is_some_and(|digest| state.queue.knows(digest)) {
        return Ok(facts);
    }
    if state.queue.is_full() {
        return Err(Rejection::QueueFull);
    }
    let queued = facts.push(ctx, call.clone());
    hibernation::wake_for(state, (ctx, queued), &mut facts);
    Ok(facts)
}

pub(super) fn dispatched(
    state: &State,
    call: &CallDispatched,
    ctx: &Context<'_>,
) -> Result<Facts, Rejection> {
    let waiting = state.queue.get(call.queue).filter(|waiting| !waiting.dispatched);
    let waiting = waiting.ok_or(Rejection::NotQueued)?;
    let mut facts = Decision::default();
    facts.push_because(ctx, Some(waiting.queued), call.clone());
    Ok(facts)
}

/// An agent without time is asked again for as long as the call is wanted; one that can't be reached so many times.
pub(super) fn returned(state: &State, returned: &Returned, ctx: &Context<'_>) -> Result<Facts, Rejection> {
    let waiting = state.queue.get(returned.queue).ok_or(Rejection::NotQueued)?;
    let mut facts = Decision::default();
    if !returned.busy && waiting.attempts + 1 >= ATTEMPTS_MAX {
        let ended = ended(waiting, QueueOutcome::Failed, ("unreachable", &returned.error));
        facts.push_because(ctx, Some(waiting.queued), ended);
        return Ok(facts);
    }
    let back = CallReturned {
        queue: returned.queue,
        busy: returned.busy,
        not_before: ctx.at() + returned.pause,
        error: returned.error.clone(),
    };
    facts.push_because(ctx, Some(waiting.queued), back);
    Ok(facts)
}

/// What is known of the call is recorded in any case; the wait ends unless it has.
pub(super) fn delivered(state: &State, delivered: &Delivered, ctx: &Context<'_>) -> Facts {
    let mut facts = match &delivered.call {
        Some((call, said)) => reported::call_finished(state, (call, said.as_ref()), ctx),
        None => Decision::default(),
    };
    if let Some(waiting) = state.queue.get(delivered.ended.queue) {
        facts.push_because(ctx, Some(waiting.queued), delivered.ended.clone());
    }
    facts
}

/// A person gives up what has waited for too long. What is with the agent goes on.
pub(super) fn drop_stale(state: &State, before: Timestamp, ctx: &Context<'_>) -> Facts {
    let stale = state.queue.waiting().filter(|waiting| waiting.since < before);
    give_up(stale, ("dropped", "it had waited for too long: dropped by a person"), ctx)
}

/// Gives up what is not wanted any more.
pub(super) fn overdue(state: &State, ctx: &Context<'_>) -> Facts {
    let over = state.queue.waiting().filter(|waiting| waiting.expires <= ctx.at());
    give_up(over, ("expired", "its time was over before the agent had time"), ctx)
}

fn give_up<'a>(calls: impl Iterator<Item = &'a Waiting>, why: (&str, &str), ctx: &Context<'_>) -> Facts {
    let mut facts = Decision::default();
    for waiting in calls {
        facts.push_because(ctx, Some(waiting.queued), ended(waiting, QueueOutcome::Dropped, why));
    }
    facts
}

fn ended(waiting: &Waiting, outcome: QueueOutcome, (reason, error): (&str, &str)) -> CallDequeued {
    let (reason, error) = (Some(reason.to_owned()), Some(error.to_owned()));
    CallDequeued { queue: waiting.queue, outcome, reason, error }
}
