//! Secrets: a change reaches what runs by a restart through the fleet's limits, like any other change of its configuration.

use std::collections::BTreeMap;

use covalence_events::workspace::{RestartCause, RestartRequested, SecretRemoved, SecretSet};
use covalence_events::{EventId, Timestamp};

use super::Facts;
use super::asked::{abandon, alive};
use super::supervised::wish;
use crate::context::{Context, Decision};
use crate::workspace::react::SUPERSEDED;
use crate::workspace::rejection::Rejection;
use crate::workspace::state::{Instance, State};

pub(super) fn set(state: &State, secret: &SecretSet, ctx: &Context<'_>) -> Result<Facts, Rejection> {
    alive(state)?;
    let mut facts = Decision::default();
    let changed = facts.push(ctx, secret.clone());
    configure(state, (ctx, Some(changed)), &mut facts);
    Ok(facts)
}

pub(super) fn remove(state: &State, name: &str, ctx: &Context<'_>) -> Result<Facts, Rejection> {
    alive(state)?;
    if !state.secrets.contains_key(name) {
        return Err(Rejection::NoSuchSecret);
    }
    let mut facts = Decision::default();
    let changed = facts.push(ctx, SecretRemoved { name: name.to_owned() });
    configure(state, (ctx, Some(changed)), &mut facts);
    Ok(facts)
}

/// The fleet's secrets, each with the time of its last change. Whoever was started after that has it, and whoever has a secret of
/// its own under that name does not get it.
pub(super) fn spread(state: &State, changes: &BTreeMap<String, Timestamp>, ctx: &Context<'_>) -> Facts {
    let mut facts = Decision::default();
    let news = |(name, changed): (&String, &Timestamp)| {
        !state.secrets.contains_key(name) && state.provisioned.is_some_and(|since| since < *changed)
    };
    if changes.iter().any(news) {
        configure(state, (ctx, None), &mut facts);
    }
    facts
}

/// A restart that has not begun will start it with what is set by then.
fn configure(state: &State, (ctx, because): (&Context<'_>, Option<EventId>), facts: &mut Facts) {
    let runs = matches!(state.instance, Instance::Starting { .. } | Instance::Running { .. });
    let waits = state.restart.as_ref().is_some_and(|pending| pending.admission.is_none());
    if !runs || !state.is_desired() || waits {
        return;
    }
    abandon(state, SUPERSEDED, ctx, facts);
    let restart: RestartRequested = wish(state, RestartCause::Configuration, Vec::new(), ctx);
    facts.push_because(ctx, because, restart);
}
