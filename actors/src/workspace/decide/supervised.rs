//! What follows from evidence, from silence, and from the fleet's answer to a wish for a restart.

use covalence_events::workspace::{
    EvidenceClass, EvidenceObserved, EvidenceSource, ProvisionFailed, ProvisionOrigin, ProvisionRequested,
    Quarantined, RestartCause, RestartRequested, RestartStarted, StopReason, StopRequested, VerdictReached,
    WentOffline,
};
use covalence_events::{EventId, Position, RestartId, Timestamp};

use super::Facts;
use super::asked::abandon;
use crate::context::{Context, Decision};
use crate::policy::Policy;
use crate::policy::verdict::{self, Judgement, Target};
use crate::workspace::command::Rejection;
use crate::workspace::state::{Instance, State, Status};

fn target(state: &State) -> Target<'_> {
    Target {
        generation: state.generation,
        instance: match &state.instance {
            Instance::Running { instance } => instance.as_ref(),
            Instance::None | Instance::Starting { .. } | Instance::Stopping { .. } => None,
        },
        present: state.is_external() || matches!(state.instance, Instance::Running { .. }),
        stopping: matches!(state.instance, Instance::Stopping { .. }),
        external: state.is_external(),
    }
}

pub(super) fn evidence(state: &State, evidence: &EvidenceObserved, ctx: &Context<'_>) -> Facts {
    let mut facts = Decision::default();
    match verdict::judge(evidence, &target(state)) {
        Judgement::Irrelevant => irrelevant(state, evidence, ctx, &mut facts),
        // That a list or an inspect shows it running is worth a fact only where it changes something (decision 8).
        Judgement::Verdict { verdict: covalence_events::workspace::Verdict::Alive, .. } => {}
        Judgement::Verdict { verdict, rule, cause } => {
            let observed = facts.push(ctx, evidence.clone());
            let reached = VerdictReached {
                verdict,
                rule: rule.to_owned(),
                generation: state.generation,
                evidence: vec![observed],
            };
            let reached = facts.push_because(ctx, Some(observed), reached);
            if let Some(cause) = cause {
                lost(state, (rule, &evidence.detail), (ctx, reached, observed), &mut facts);
                ask_for_restart(state, cause, (ctx, reached, observed), &mut facts);
            }
        }
    }
    facts
}

/// Death of what we stopped or are just starting ourselves, or of an older generation, is recorded as expected; a running
/// instance of a workspace that should not run is stopped (again). Anything else is an echo of what is known.
fn irrelevant(state: &State, evidence: &EvidenceObserved, ctx: &Context<'_>, facts: &mut Facts) {
    let stopping = match &state.instance {
        Instance::Stopping { failed, .. } => !failed,
        Instance::None | Instance::Starting { .. } | Instance::Running { .. } => false,
    };
    let starting = matches!(state.instance, Instance::Starting { .. });
    match evidence.class {
        EvidenceClass::Life if !state.is_desired() && !state.is_external() && !stopping => {
            let observed =
                facts.push(ctx, EvidenceObserved { class: EvidenceClass::Expected, ..evidence.clone() });
            let reason = if state.status == Status::Removed { StopReason::Remove } else { StopReason::Pause };
            facts.push_because(ctx, Some(observed), StopRequested { generation: state.generation, reason });
        }
        EvidenceClass::Death if stopping || starting || evidence.generation < state.generation => {
            facts.push(ctx, EvidenceObserved { class: EvidenceClass::Expected, ..evidence.clone() });
        }
        EvidenceClass::Death
        | EvidenceClass::Life
        | EvidenceClass::Suspicion
        | EvidenceClass::Silence
        | EvidenceClass::ObserverFailure
        | EvidenceClass::Expected => {}
    }
}

fn lost(
    state: &State,
    (rule, detail): (&str, &str),
    (ctx, reached, _): (&Context<'_>, EventId, EventId),
    facts: &mut Facts,
) {
    if !matches!(state.status, Status::Offline | Status::Failed) {
        let offline = WentOffline { rule: rule.to_owned(), message: Some(detail.to_owned()) };
        facts.push_because(ctx, Some(reached), offline);
    }
}

/// A restart under way that has begun dies with what it started, and another one is asked for; one that has not begun
/// already asks for what is needed.
fn ask_for_restart(
    state: &State,
    cause: RestartCause,
    (ctx, reached, observed): (&Context<'_>, EventId, EventId),
    facts: &mut Facts,
) {
    if state.restart.as_ref().is_some_and(|pending| pending.admission.is_none()) {
        return;
    }
    abandon(state, "died", ctx, facts);
    facts.push_because(
        ctx,
        Some(reached),
        RestartRequested {
            restart: ctx.restart_id(),
            cause,
            generation: state.generation,
            reset_session: false,
            evidence: vec![observed],
        },
    );
}

/// When this workspace has to be looked at again though nothing happens: a start that takes too long, or silence.
pub fn deadline(state: &State, policy: &Policy, observing_since: Timestamp) -> Option<Timestamp> {
    let heard = state.last_life.unwrap_or(state.status_since).max(observing_since);
    match (state.status, &state.instance) {
        (Status::Provisioning, _) => Some(state.status_since.max(observing_since) + policy.provision_timeout),
        (Status::Online | Status::Degraded, _) if state.is_external() => Some(heard + policy.external_stale),
        (Status::Online | Status::Degraded, Instance::Running { .. } | Instance::Starting { .. }) => {
            Some(heard + policy.liveness_ttl)
        }
        (
            Status::Online
            | Status::Degraded
            | Status::Offline
            | Status::Failed
            | Status::Paused
            | Status::Removed
            | Status::AwaitingAgent,
            _,
        ) => None,
    }
}

pub(super) fn overdue(state: &State, ctx: &Context<'_>) -> Facts {
    let mut facts = Decision::default();
    let due = deadline(state, ctx.policy, ctx.observing_since);
    if due.is_none_or(|due| ctx.at() < due) {
        return facts;
    }
    if state.status == Status::Provisioning {
        return start_timed_out(state, ctx);
    }
    let silent = (ctx.at() - state.last_life.unwrap_or(state.status_since)).num_seconds();
    let silence = EvidenceObserved {
        source: EvidenceSource::Heartbeat,
        class: EvidenceClass::Silence,
        generation: state.generation,
        instance: target(state).instance.cloned(),
        code: "silent".to_owned(),
        detail: format!("no heartbeat for {silent} s"),
        exit_status: None,
    };
    if !state.is_external() {
        return evidence(state, &silence, ctx);
    }
    let detail = silence.detail.clone();
    let observed = facts.push(ctx, silence);
    lost(state, (verdict::HEARTBEAT_STALE, &detail), (ctx, observed, observed), &mut facts);
    facts
}

fn start_timed_out(state: &State, ctx: &Context<'_>) -> Facts {
    let mut facts = Decision::default();
    let seconds = ctx.policy.provision_timeout.as_secs();
    facts.push(
        ctx,
        ProvisionFailed {
            generation: state.generation,
            code: "timeout".to_owned(),
            message: format!(
                "the agent was not heard from within {seconds} s of its start: see its log, and whether it can reach \
                 the platform"
            ),
            retryable: false,
            command: None,
        },
    );
    abandon(state, "provision_failed", ctx, &mut facts);
    facts
}

pub(super) fn admitted(
    state: &State,
    restart: RestartId,
    admission: Position,
    ctx: &Context<'_>,
) -> Result<Facts, Rejection> {
    let mut facts = Decision::default();
    let pending = state.restart.as_ref().filter(|pending| pending.restart == restart);
    let pending = pending.ok_or(Rejection::RestartNotPending)?;
    if pending.admission.is_none() {
        let started = facts.push(ctx, RestartStarted { restart, admission });
        facts.push_because(
            ctx,
            Some(started),
            ProvisionRequested {
                generation: state.generation.next(),
                origin: ProvisionOrigin::Restart,
                restart: Some(restart),
                reset_session: pending.reset_session,
            },
        );
    }
    Ok(facts)
}

pub(super) fn suppressed(
    state: &State,
    restart: RestartId,
    (rule, message): (&str, &str),
    ctx: &Context<'_>,
) -> Result<Facts, Rejection> {
    let waiting = |pending: &&crate::workspace::state::PendingRestart| {
        pending.restart == restart && pending.admission.is_none()
    };
    state.restart.as_ref().filter(waiting).ok_or(Rejection::RestartNotPending)?;
    let mut facts = Decision::default();
    facts.push(ctx, Quarantined { restart, rule: rule.to_owned(), message: message.to_owned() });
    Ok(facts)
}
