//! What the platform's own end and start mean for a workspace.

use covalence_events::workspace::{RestartCause, StopReason, StopRequested, WentOffline};

use super::Facts;
use super::asked::abandon;
use super::supervised::wish;
use crate::context::{Context, Decision};
use crate::workspace::state::{Instance, State, Status};

/// The rule's name: the platform stopped it, and itself.
const PLATFORM_STOPPED: &str = "platform_stopped";

/// A restart that has begun ends here: what it started is stopped. One that still waits brings the workspace back by
/// itself at the next start, for the cause that it was asked for.
pub(super) fn shut_down(state: &State, ctx: &Context<'_>) -> Facts {
    let mut facts = Decision::default();
    let present = matches!(state.instance, Instance::Starting { .. } | Instance::Running { .. });
    if !present || !state.is_desired() {
        return facts;
    }
    let stop = StopRequested { generation: state.generation, reason: StopReason::Shutdown };
    let stopping = facts.push(ctx, stop);
    if state.restart.as_ref().is_some_and(|pending| pending.admission.is_some()) {
        abandon(state, "shutdown", ctx, &mut facts);
    }
    if !matches!(state.status, Status::Offline | Status::Failed) {
        let message = "stopped together with the platform, whose next start brings it back".to_owned();
        let offline = WentOffline { rule: PLATFORM_STOPPED.to_owned(), message: Some(message) };
        facts.push_because(ctx, Some(stopping), offline);
    }
    facts
}

/// Through admission like any restart, so that a whole fleet does not start at once; nothing died, so nothing counts.
pub(super) fn started(state: &State, ctx: &Context<'_>) -> Facts {
    let mut facts = Decision::default();
    if state.comes_back() {
        facts.push(ctx, wish(state, RestartCause::Shutdown, Vec::new(), ctx));
    }
    facts
}
