//! What the outside did about what we asked for.

use covalence_events::Generation;
use covalence_events::workspace::{
    CallFinished, CallOutcome, CallRecorded, HandlerPanicked, Hibernated, InstanceAdopted, InstanceRef,
    InstanceStarted, InstanceStopped, OnlineVia, OutcomeUnknown, ProvisionFailed, ProvisionOrigin,
    RestartAnnounced, RestartCause, StopFailed, StopReason, TokensRevoked,
};

use super::asked::{abandon, come_online, end_restart};
use super::supervised::wish;
use super::{Facts, doubt, drain, tokens};
use crate::context::{Context, Decision};
use crate::effect::Provisioned;
use crate::workspace::command::{NewToken, ProvisionFailure};
use crate::workspace::react::{NOT_STARTED, NOT_STOPPED};
use crate::workspace::rejection::Rejection;
use crate::workspace::state::{Instance, Operation, State, Status};

/// Which start was asked for and has no outcome, if it is this generation's.
fn starting(state: &State, generation: Generation) -> Result<ProvisionOrigin, Rejection> {
    match &state.instance {
        Instance::Starting { origin, .. }
        | Instance::Unknown { operation: Operation::Provision { origin, .. }, .. }
            if generation == state.generation =>
        {
            Ok(*origin)
        }
        _ => Err(Rejection::StaleGeneration { reported: generation, current: state.generation }),
    }
}

/// All earlier tokens of instances end: an instance of an older generation must not speak for this one.
pub(super) fn provision_token(
    state: &State,
    token: &NewToken,
    ctx: &Context<'_>,
) -> Result<Facts, Rejection> {
    starting(state, token.generation.unwrap_or_default())?;
    let mut facts = Decision::default();
    if !state.tokens.is_empty() {
        facts.push(ctx, TokensRevoked { tokens: Vec::new(), reason: "provision".to_owned() });
    }
    facts.push(ctx, tokens::issued(token));
    Ok(facts)
}

pub(super) fn provisioned(
    state: &State,
    generation: Generation,
    provisioned: &Provisioned,
    ctx: &Context<'_>,
) -> Result<Facts, Rejection> {
    starting(state, generation)?;
    let mut facts = Decision::default();
    let started = facts.push(
        ctx,
        InstanceStarted {
            generation,
            instance: provisioned.instance.clone(),
            url: provisioned.url.clone(),
            withheld: provisioned.withheld.clone(),
            image: provisioned.image.clone(),
        },
    );
    if state.last_life.is_some() && state.status == Status::Provisioning {
        let via = if state.has_card { OnlineVia::Register } else { OnlineVia::Heartbeat };
        come_online(state, via, (ctx, started), &mut facts);
    }
    Ok(facts)
}

/// A restart that failed for a reason that may pass (the engine was away) is asked for again, through the same
/// admission: what was running before must not stay down because of a bad moment.
pub(super) fn provision_failed(
    state: &State,
    failure: &ProvisionFailure,
    ctx: &Context<'_>,
) -> Result<Facts, Rejection> {
    let origin = starting(state, failure.generation)?;
    let mut facts = Decision::default();
    let failed = facts.push(
        ctx,
        ProvisionFailed {
            generation: failure.generation,
            code: failure.code.clone(),
            message: failure.message.clone(),
            retryable: failure.retryable,
            command: failure.command.clone(),
        },
    );
    abandon(state, if failure.retryable { NOT_STARTED } else { "provision_failed" }, ctx, &mut facts);
    if failure.retryable && origin == ProvisionOrigin::Restart {
        facts.push_because(ctx, Some(failed), wish(state, RestartCause::Death, vec![failed], ctx));
    }
    Ok(facts)
}

/// Why this generation is stopped, if a stop was asked for and has no outcome.
fn stopping(state: &State, generation: Generation) -> Option<StopReason> {
    let reason = match &state.instance {
        Instance::Stopping { reason, .. }
        | Instance::Unknown { operation: Operation::Stop { reason, .. }, .. } => Some(*reason),
        Instance::None | Instance::Starting { .. } | Instance::Running { .. } | Instance::Unknown { .. } => {
            None
        }
    };
    reason.filter(|_| generation == state.generation)
}

/// Nothing else is asked for until lists have told what became of it (rule V6).
pub(super) fn outcome_unknown(
    state: &State,
    generation: Generation,
    (operation, detail): (&str, &str),
    ctx: &Context<'_>,
) -> Facts {
    let mut facts = Decision::default();
    let under_way = matches!(state.instance, Instance::Starting { .. } | Instance::Stopping { .. });
    if under_way && generation == state.generation {
        let (operation, detail) = (operation.to_owned(), detail.to_owned());
        facts.push(ctx, OutcomeUnknown { generation, operation, detail });
    }
    facts
}

/// What was stopped for a restart makes room for the next generation. If that restart is not wanted any more, another one has
/// to bring back what we stopped.
pub(super) fn stopped(state: &State, generation: Generation, ctx: &Context<'_>) -> Facts {
    let mut facts = Decision::default();
    let Some(reason) = stopping(state, generation) else { return facts };
    let stopped = facts.push(ctx, InstanceStopped { generation });
    if reason == StopReason::Hibernate && state.status == Status::Hibernating {
        facts.push_because(ctx, Some(stopped), Hibernated {});
    }
    if reason == StopReason::Restart && state.is_desired() {
        match &state.restart {
            Some(pending) if pending.admission.is_some() => {
                drain::provision(state, pending, (ctx, stopped), &mut facts);
            }
            Some(_) => {}
            None => {
                let wish = wish(state, RestartCause::Death, vec![stopped], ctx);
                facts.push_because(ctx, Some(stopped), wish);
            }
        }
    }
    facts
}

/// What could not be stopped for a restart is taken back: it may have recovered, and is judged anew.
pub(super) fn stop_failed(state: &State, generation: Generation, message: &str, ctx: &Context<'_>) -> Facts {
    let mut facts = Decision::default();
    let Some(reason) = stopping(state, generation) else { return facts };
    let failed = facts.push(ctx, StopFailed { generation, message: message.to_owned() });
    if let (StopReason::Restart, Some(pending)) = (reason, &state.restart)
        && pending.admission.is_some()
    {
        end_restart(pending, NOT_STOPPED, (ctx, failed), &mut facts);
    }
    facts
}

pub(super) fn adopted(
    state: &State,
    generation: Generation,
    instance: &InstanceRef,
    ctx: &Context<'_>,
) -> Facts {
    let mut facts = Decision::default();
    if generation == state.generation && matches!(state.instance, Instance::Running { .. }) {
        facts.push(ctx, InstanceAdopted { generation, instance: instance.clone() });
    }
    facts
}

pub(super) fn call_finished(
    state: &State,
    (call, said): (&CallFinished, Option<&CallRecorded>),
    ctx: &Context<'_>,
) -> Facts {
    let mut facts = Decision::default();
    let finished = facts.push(ctx, call.clone());
    if let Some(said) = said {
        facts.push_because(ctx, Some(finished), said.clone());
    }
    if call.outcome == CallOutcome::Answered && state.hears(None) {
        doubt::clear(state, "answer", (ctx, finished), &mut facts);
    }
    facts
}

/// One that ended meanwhile, with its instance, needs no word.
pub(super) fn restart_announced(state: &State, announced: &RestartAnnounced, ctx: &Context<'_>) -> Facts {
    let mut facts = Decision::default();
    if state.untold.is_some_and(|untold| untold.restart == announced.restart) {
        facts.push(ctx, announced.clone());
    }
    facts
}

pub(super) fn panicked(command: &str, message: &str, ctx: &Context<'_>) -> Facts {
    let mut facts = Decision::default();
    facts.push(ctx, HandlerPanicked { command: command.to_owned(), message: message.to_owned() });
    facts
}
