//! What is said to an agent and by it. Nothing else is decided by these, but that a message wakes who sleeps.

use covalence_events::workspace::{ActivityAcked, ActivityReported, MessageQueued, Notified};

use super::asked::alive;
use super::{Facts, hibernation};
use crate::context::{Context, Decision};
use crate::workspace::rejection::Rejection;
use crate::workspace::state::State;

/// A message that was queued already is not queued again.
pub(super) fn queue(state: &State, message: &MessageQueued, ctx: &Context<'_>) -> Result<Facts, Rejection> {
    alive(state)?;
    if !state.polls() {
        return Err(Rejection::NotPolling);
    }
    let mut facts = Decision::default();
    if !message.digest.as_deref().is_some_and(|digest| state.inbox.knows(digest)) {
        let queued = facts.push(ctx, message.clone());
        hibernation::wake_for(state, (ctx, queued), &mut facts);
    }
    Ok(facts)
}

/// An agent that acknowledges less than before has forgotten, and nothing follows from it.
pub(super) fn ack(state: &State, seq: u64, ctx: &Context<'_>) -> Result<Facts, Rejection> {
    alive(state)?;
    let mut facts = Decision::default();
    if seq > state.acked {
        facts.push(ctx, ActivityAcked { seq });
    }
    Ok(facts)
}

pub(super) fn report(
    state: &State,
    activity: &ActivityReported,
    ctx: &Context<'_>,
) -> Result<Facts, Rejection> {
    alive(state)?;
    let mut facts = Decision::default();
    facts.push(ctx, activity.clone());
    Ok(facts)
}

pub(super) fn notify(state: &State, notified: &Notified, ctx: &Context<'_>) -> Result<Facts, Rejection> {
    alive(state)?;
    let mut facts = Decision::default();
    facts.push(ctx, notified.clone());
    Ok(facts)
}
