//! The team below a workspace (contract 1.11). Its members are streams of their own; this one says that they belong together.

use covalence_events::workspace::{TeamCollapsed, TeamExpanded, TeamMember};

use super::Facts;
use super::asked::alive;
use crate::context::{Context, Decision};
use crate::workspace::rejection::Rejection;
use crate::workspace::state::State;

/// A team that is known already is not told again. One that was made before a kill, and not told, is.
pub(super) fn expanded(
    state: &State,
    children: &[TeamMember],
    ctx: &Context<'_>,
) -> Result<Facts, Rejection> {
    alive(state)?;
    let mut facts = Decision::default();
    if children.iter().any(|child| !state.team.contains(&child.id)) {
        facts.push(ctx, TeamExpanded { children: children.to_vec() });
    }
    Ok(facts)
}

pub(super) fn collapsed(
    state: &State,
    children: &[TeamMember],
    ctx: &Context<'_>,
) -> Result<Facts, Rejection> {
    alive(state)?;
    let mut facts = Decision::default();
    if !children.is_empty() {
        facts.push(ctx, TeamCollapsed { children: children.to_vec() });
    }
    Ok(facts)
}
