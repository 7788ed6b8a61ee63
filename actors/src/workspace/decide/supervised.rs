//! What follows from evidence, from silence, and from the fleet's answer to a wish for a restart.

use covalence_events::workspace::{
    CameOnline, ConfirmRequested, DeathRefuted, EvidenceClass, EvidenceObserved, EvidenceSource, OnlineVia,
    ProvisionFailed, Quarantined, RestartCause, RestartRequested, RestartStarted, StopReason, StopRequested,
    VerdictReached, WentOffline,
};
use covalence_events::{EventId, Position, RestartId, Timestamp};

use super::asked::{abandon, end_restart};
use super::{Facts, doubt, drain, reported};
use crate::context::{Context, Decision};
use crate::policy::verdict::{self, Judgement, Target};
use crate::policy::{Policy, admission};
use crate::workspace::command::ProvisionFailure;
use crate::workspace::react::suspected;
use crate::workspace::rejection::Rejection;
use crate::workspace::state::{Instance, PendingRestart, State, Status};

pub(super) fn target<'a>(state: &'a State, ctx: &Context<'_>) -> Target<'a> {
    Target {
        generation: state.generation,
        instance: match &state.instance {
            Instance::Running { instance } => instance.as_ref(),
            Instance::None
            | Instance::Starting { .. }
            | Instance::Stopping { .. }
            | Instance::Unknown { .. } => None,
        },
        present: state.is_external() || matches!(state.instance, Instance::Running { .. }),
        stopping: matches!(state.instance, Instance::Stopping { .. }),
        external: state.is_external(),
        quiet: ctx.observer.quiet,
    }
}

pub(super) fn evidence(state: &State, evidence: &EvidenceObserved, ctx: &Context<'_>) -> Facts {
    let mut facts = Decision::default();
    match verdict::judge(evidence, &target(state, ctx)) {
        Judgement::Irrelevant => irrelevant(state, evidence, ctx, &mut facts),
        Judgement::Verdict { .. } if evidence.class == EvidenceClass::Life => {
            return doubt::lives(state, evidence, ctx);
        }
        Judgement::Verdict { .. } if evidence.class == EvidenceClass::Suspicion => {
            doubt::suspect(state, evidence, ctx, &mut facts);
        }
        Judgement::Verdict { verdict, rule, cause } => {
            let observed = facts.push(ctx, evidence.clone());
            let reached = VerdictReached {
                verdict,
                rule: rule.to_owned(),
                generation: state.generation,
                evidence: vec![observed],
                observer_score: Some(ctx.observer.score),
            };
            let reached = facts.push_because(ctx, Some(observed), reached);
            if let Some(cause) = cause {
                lost(state, (rule, &evidence.detail), (ctx, reached), &mut facts);
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
        Instance::Unknown { .. } => true,
        Instance::None | Instance::Starting { .. } | Instance::Running { .. } => false,
    };
    let between = matches!(state.instance, Instance::Starting { .. } | Instance::Unknown { .. });
    match evidence.class {
        EvidenceClass::Life if !state.is_desired() && !state.is_external() && !stopping => {
            let observed =
                facts.push(ctx, EvidenceObserved { class: EvidenceClass::Expected, ..evidence.clone() });
            let reason = match state.status {
                Status::Removed => StopReason::Remove,
                status if status.is_asleep() => StopReason::Hibernate,
                _ => StopReason::Pause,
            };
            facts.push_because(ctx, Some(observed), StopRequested { generation: state.generation, reason });
        }
        EvidenceClass::Death if stopping || between || evidence.generation < state.generation => {
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
    (ctx, reached): (&Context<'_>, EventId),
    facts: &mut Facts,
) {
    doubt::clear(state, "gone", (ctx, reached), facts);
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
    if drain::cut_short(state, (ctx, reached), facts) {
        return;
    }
    abandon(state, "died", ctx, facts);
    facts.push_because(ctx, Some(reached), wish(state, cause, vec![observed], ctx));
}

/// A restart of the current generation that keeps its session and passes over nothing.
pub(super) fn wish(
    state: &State,
    cause: RestartCause,
    evidence: Vec<EventId>,
    ctx: &Context<'_>,
) -> RestartRequested {
    RestartRequested {
        restart: ctx.restart_id(),
        cause,
        generation: state.generation,
        reset_session: false,
        evidence,
        forced: false,
        reason: None,
    }
}

/// When a start takes too long.
fn start_over_at(state: &State, policy: &Policy, since: Timestamp) -> Option<Timestamp> {
    let starts = state.status == Status::Provisioning;
    starts.then(|| state.status_since.max(since) + policy.provision_timeout)
}

/// When somebody else's agent has been silent for too long.
fn stale_at(state: &State, policy: &Policy, since: Timestamp) -> Option<Timestamp> {
    let listens = state.is_external() && state.status.is_up();
    listens.then(|| state.heard(since) + policy.external_stale)
}

/// When this workspace has to be looked at again though nothing happens: a start that takes too long, or silence.
pub(super) fn deadline(state: &State, policy: &Policy, since: Timestamp) -> Option<Timestamp> {
    let silent = doubt::deadline(state, policy, since);
    [start_over_at(state, policy, since), stale_at(state, policy, since), silent].into_iter().flatten().min()
}

pub(super) fn overdue(state: &State, ctx: &Context<'_>) -> Facts {
    let since = ctx.observer.since;
    let is_past = |at: Option<Timestamp>| at.is_some_and(|at| at <= ctx.at());
    if is_past(start_over_at(state, ctx.policy, since)) {
        return start_timed_out(state, ctx);
    }
    if is_past(stale_at(state, ctx.policy, since)) {
        return went_silent(state, (ctx.at() - state.heard(since)).num_seconds(), ctx);
    }
    match doubt::hung(state, ctx) {
        Some(Ok(silence)) => return evidence(state, &silence, ctx),
        Some(Err(withheld)) => {
            let mut facts = Decision::default();
            facts.push(ctx, withheld);
            return facts;
        }
        None => {}
    }
    let mut facts = Decision::default();
    doubt::overdue(state, ctx, &mut facts);
    facts
}

/// An external workspace is shown offline; nobody of ours can restart it.
fn went_silent(state: &State, silent_s: i64, ctx: &Context<'_>) -> Facts {
    let mut facts = Decision::default();
    let detail = format!("no heartbeat for {silent_s} s");
    let silence = EvidenceObserved {
        source: EvidenceSource::Heartbeat,
        class: EvidenceClass::Silence,
        generation: state.generation,
        instance: None,
        code: "silent".to_owned(),
        detail: detail.clone(),
        exit_status: None,
    };
    let observed = facts.push(ctx, silence);
    lost(state, (verdict::HEARTBEAT_STALE, &detail), (ctx, observed), &mut facts);
    facts
}

/// An agent that runs and was never heard from is for a person to look at. A start that the engine never answered for says
/// nothing about the workspace, and is asked for again where a restart was.
fn start_timed_out(state: &State, ctx: &Context<'_>) -> Facts {
    let seconds = ctx.policy.provision_timeout.as_secs();
    let runs = matches!(state.instance, Instance::Running { .. });
    let message = if runs {
        format!(
            "the agent was not heard from within {seconds} s of its start: see its log, and whether it can reach the \
             platform"
        )
    } else {
        format!("the engine did not say within {seconds} s whether it started")
    };
    let (generation, code) = (state.generation, "timeout".to_owned());
    let failure = ProvisionFailure { generation, code, message, retryable: !runs, command: None };
    if let (false, Ok(facts)) = (runs, reported::provision_failed(state, &failure, ctx)) {
        return facts;
    }
    let mut facts = Decision::default();
    let ProvisionFailure { generation, code, message, retryable, command } = failure;
    facts.push(ctx, ProvisionFailed { generation, code, message, retryable, command });
    abandon(state, "provision_failed", ctx, &mut facts);
    facts
}

fn pending(state: &State, restart: RestartId) -> Result<&PendingRestart, Rejection> {
    state.restart.as_ref().filter(|pending| pending.restart == restart).ok_or(Rejection::RestartNotPending)
}

/// An admitted restart begins; one that rests on evidence after a fresh look at the very instance (rule V4).
pub(super) fn admitted(
    state: &State,
    restart: RestartId,
    admission: Position,
    ctx: &Context<'_>,
) -> Result<Facts, Rejection> {
    let mut facts = Decision::default();
    let pending = pending(state, restart)?;
    if pending.admission.is_some() || pending.confirming.is_some() {
        return Ok(facts);
    }
    match suspected(state).filter(|_| pending.cause.is_automatic()) {
        Some(instance) => {
            let (generation, instance) = (state.generation, instance.clone());
            facts.push(ctx, ConfirmRequested { restart, admission, generation, instance });
        }
        None => begin(state, pending, (admission, ctx.origin.causation), ctx, &mut facts),
    }
    Ok(facts)
}

fn begin(
    state: &State,
    pending: &PendingRestart,
    (admission, cause): (Position, Option<EventId>),
    ctx: &Context<'_>,
    facts: &mut Facts,
) {
    let started = facts.push_because(ctx, cause, RestartStarted { restart: pending.restart, admission });
    drain::replace(state, pending, (ctx, started), facts);
}

/// What the fresh look found. Only *not there* lets a restart for death begin; one for hanging begins unless something was
/// heard since, and by stopping what hangs: until that is done, it may still be found alive.
pub(super) fn confirmed(
    state: &State,
    restart: RestartId,
    (seen, url): (&EvidenceObserved, Option<&str>),
    ctx: &Context<'_>,
) -> Result<Facts, Rejection> {
    let pending = pending(state, restart)?;
    let admission = pending.confirming.filter(|_| pending.admission.is_none());
    let (admission, _) = admission.ok_or(Rejection::RestartNotPending)?;
    let mut facts = Decision::default();
    let observed = facts.push(ctx, seen.clone());
    match (seen.class, pending.cause) {
        (EvidenceClass::Death, _) => begin(state, pending, (admission, Some(observed)), ctx, &mut facts),
        (EvidenceClass::Life, RestartCause::Hung) => {
            let begun = RestartStarted { restart, admission };
            let begun = facts.push_because(ctx, Some(observed), begun);
            let stop = StopRequested { generation: state.generation, reason: StopReason::Restart };
            facts.push_because(ctx, Some(begun), stop);
        }
        (EvidenceClass::Life, _) => {
            if let Some(lost) = &state.lost {
                let refuted = DeathRefuted {
                    restart,
                    generation: state.generation,
                    instance: lost.instance.clone(),
                    url: url.map(str::to_owned).or_else(|| lost.url.clone()),
                };
                let refuted = facts.push_because(ctx, Some(observed), refuted);
                back(state, (ctx, refuted), &mut facts);
            }
            end_restart(pending, "evidence_refuted", (ctx, observed), &mut facts);
        }
        (
            EvidenceClass::Suspicion
            | EvidenceClass::Silence
            | EvidenceClass::ObserverFailure
            | EvidenceClass::Expected,
            _,
        ) => end_restart(pending, "evidence_unconfirmed", (ctx, observed), &mut facts),
    }
    Ok(facts)
}

/// It was there all the time.
fn back(state: &State, (ctx, refuted): (&Context<'_>, EventId), facts: &mut Facts) {
    if state.status == Status::Offline {
        let online = CameOnline {
            via: OnlineVia::Inspect,
            from: state.status.as_str().to_owned(),
            generation: state.generation,
            restart: None,
        };
        facts.push_because(ctx, Some(refuted), online);
    }
}

pub(super) fn suppressed(
    state: &State,
    restart: RestartId,
    (rule, message): (&str, &str),
    ctx: &Context<'_>,
) -> Result<Facts, Rejection> {
    let waits = pending(state, restart)?;
    if waits.admission.is_some() || waits.confirming.is_some() {
        return Err(Rejection::RestartNotPending);
    }
    let mut facts = Decision::default();
    if rule == admission::INTENSITY {
        facts.push(ctx, Quarantined { restart, rule: rule.to_owned(), message: message.to_owned() });
        return Ok(facts);
    }
    abandon(state, rule, ctx, &mut facts);
    // A refused wish took the place of one for its death, if there was one: what is dead goes on waiting.
    if let Some(proof) = &state.owed
        && state.instance == Instance::None
        && !waits.cause.is_automatic()
    {
        facts.push(ctx, wish(state, RestartCause::Death, proof.clone(), ctx));
    }
    Ok(facts)
}

/// The supervisor tries a quarantined workspace once more.
pub(super) fn quarantine_probed(state: &State, ctx: &Context<'_>) -> Facts {
    let mut facts = Decision::default();
    if state.quarantined && state.restart.is_none() && state.is_desired() {
        let because = ctx.origin.causation.into_iter().collect();
        facts.push(ctx, wish(state, RestartCause::Death, because, ctx));
    }
    facts
}

/// A member of its team is restarted, and the team's strategy takes it along.
pub(super) fn taken_along(state: &State, ctx: &Context<'_>) -> Facts {
    let mut facts = Decision::default();
    let runs = matches!(state.instance, Instance::Running { .. });
    if runs && state.restart.is_none() && state.is_desired() {
        let because = ctx.origin.causation.into_iter().collect();
        facts.push(ctx, wish(state, RestartCause::Team, because, ctx));
    }
    facts
}
