//! Silence and other signs that prove nothing: when they make a workspace suspect, when it is cleared, and when, in the end,
//! they amount to *hung*.

use covalence_events::workspace::{
    EvidenceClass, EvidenceObserved, EvidenceSource, RestartProved, SuspicionCleared, SuspicionRaised,
    VerdictWithheld,
};
use covalence_events::{EventId, Timestamp};

use super::Facts;
use super::supervised::target;
use crate::context::{Context, Decision, ObserverView, millis};
use crate::policy::Policy;
use crate::policy::verdict::{self, Withheld};
use crate::workspace::state::{Instance, State, Status};

/// Whether silence is anything to wonder about: something of ours or of somebody else's should be answering.
fn listens(state: &State) -> bool {
    let runs = matches!(state.instance, Instance::Running { .. });
    // A restart for silence that was called off, because no fresh look was to be had, leaves it offline and running.
    let called_off = state.status == Status::Offline && state.restart.is_none();
    if state.is_external() { state.status.is_up() } else { runs && (state.status.is_up() || called_off) }
}

fn late_at(state: &State, policy: &Policy, since: Timestamp) -> Option<Timestamp> {
    let known = listens(state) && !state.doubts.contains_key(&EvidenceSource::Heartbeat);
    known.then(|| state.heard(since) + state.beats.suspicious_after(policy).unwrap_or(policy.liveness_ttl))
}

fn hung_at(state: &State, policy: &Policy, since: Timestamp) -> Option<Timestamp> {
    let may = listens(state) && !state.is_external();
    may.then(|| state.heard(since) + policy.liveness_ttl)
}

fn proved_at(state: &State, policy: &Policy) -> Option<Timestamp> {
    let probation = state.probation.as_ref().filter(|_| state.status.is_up() && state.doubts.is_empty())?;
    Some(probation.since + policy.probation)
}

/// When this workspace has to be looked at again though nothing happens. A hung one whose verdict was withheld is looked at
/// again by its observer, not by a timer.
pub(super) fn deadline(state: &State, policy: &Policy, since: Timestamp) -> Option<Timestamp> {
    let hung = hung_at(state, policy, since).filter(|_| !state.withheld);
    [late_at(state, policy, since), hung, proved_at(state, policy)].into_iter().flatten().min()
}

/// What time alone has brought about.
pub(super) fn overdue(state: &State, ctx: &Context<'_>, facts: &mut Facts) {
    let (now, since) = (ctx.at(), ctx.observer.since);
    let silent_ms = millis(now - state.heard(since));
    if late_at(state, ctx.policy, since).is_some_and(|at| at <= now) && !ctx.observer.quiet {
        let late = EvidenceObserved {
            source: EvidenceSource::Heartbeat,
            class: EvidenceClass::Suspicion,
            generation: state.generation,
            instance: target(state, ctx).instance.cloned(),
            code: "late".to_owned(),
            detail: format!("no heartbeat for {} s", silent_ms / 1000),
            exit_status: None,
        };
        suspect(state, &late, ctx, facts);
    }
    if let (Some(at), Some(probation)) = (proved_at(state, ctx.policy), &state.probation)
        && at <= now
    {
        let (restart, generation) = (probation.restart, state.generation);
        facts.push(ctx, RestartProved { restart, generation, after_ms: millis(now - probation.since) });
    }
}

/// The verdict on a workspace that has been silent for the whole window: evidence for *hung*, or the rule that says to wait.
pub(super) fn hung(state: &State, ctx: &Context<'_>) -> Option<Result<EvidenceObserved, VerdictWithheld>> {
    let (now, since) = (ctx.at(), ctx.observer.since);
    if hung_at(state, ctx.policy, since).is_none_or(|at| at > now) || state.restart.is_some() {
        return None;
    }
    let silent_ms = millis(now - state.heard(since));
    match withheld(state, ctx.policy, &ctx.observer) {
        None => Some(Ok(EvidenceObserved {
            source: EvidenceSource::Heartbeat,
            class: EvidenceClass::Silence,
            generation: state.generation,
            instance: target(state, ctx).instance.cloned(),
            code: "silent".to_owned(),
            detail: format!(
                "no sign of life for {} s, {} sources agree",
                silent_ms / 1000,
                state.doubts.len()
            ),
            exit_status: None,
        })),
        Some(_) if state.withheld => None,
        Some(rule) => Some(Err(VerdictWithheld {
            generation: state.generation,
            rule: rule.as_str().to_owned(),
            sources: state.doubts.keys().copied().collect(),
            silent_ms,
            observer_score: ctx.observer.score,
        })),
    }
}

fn withheld(state: &State, policy: &Policy, observer: &ObserverView) -> Option<Withheld> {
    let sources = u32::try_from(state.doubts.len()).unwrap_or(u32::MAX);
    verdict::withheld(policy, sources, observer)
}

/// Something speaks against it. Each source is heard once; the first raises the suspicion.
pub(super) fn suspect(state: &State, evidence: &EvidenceObserved, ctx: &Context<'_>, facts: &mut Facts) {
    if state.doubts.contains_key(&evidence.source) || !listens(state) || is_overtaken(state, evidence, ctx) {
        return;
    }
    let observed = facts.push(ctx, evidence.clone());
    if state.doubts.is_empty() {
        let silence = ctx.at() - state.heard(ctx.observer.since);
        let phi = state.beats.phi(ctx.policy, silence.to_std().unwrap_or_default());
        let raised = SuspicionRaised {
            generation: state.generation,
            source: evidence.source,
            phi: phi.filter(|_| evidence.source == EvidenceSource::Heartbeat),
            silent_ms: millis(silence),
            observer_score: ctx.observer.score,
            evidence: vec![observed],
        };
        facts.push_because(ctx, Some(observed), raised);
    }
}

/// A request for its card that was under way when it was last heard from says nothing: it is asked only while its beat is late.
fn is_overtaken(state: &State, evidence: &EvidenceObserved, ctx: &Context<'_>) -> bool {
    let late = ctx.policy.heartbeat_interval + ctx.policy.probe_late;
    evidence.source == EvidenceSource::Probe && ctx.at() < state.last_heard() + late
}

/// A sign of life that nobody sent as such, an answered probe or an answer that goes on: clears a suspicion, and counts as
/// heard.
pub(super) fn lives(state: &State, evidence: &EvidenceObserved, ctx: &Context<'_>) -> Facts {
    let mut facts = Decision::default();
    // That a list or an inspect shows it running says nothing about whether it still thinks.
    let by = match evidence.source {
        EvidenceSource::Probe => "probe",
        EvidenceSource::Call => "progress",
        EvidenceSource::Exit | EvidenceSource::Inspect | EvidenceSource::List | EvidenceSource::Heartbeat => {
            return facts;
        }
    };
    if listens(state) {
        let observed = facts.push(ctx, evidence.clone());
        clear(state, by, (ctx, observed), &mut facts);
    }
    facts
}

/// Whatever spoke against it is refuted.
pub(super) fn clear(state: &State, by: &str, (ctx, cause): (&Context<'_>, EventId), facts: &mut Facts) {
    if let Some(since) = state.doubts.values().min() {
        let lasted_ms = millis(ctx.at() - *since);
        let cleared = SuspicionCleared { generation: state.generation, by: by.to_owned(), lasted_ms };
        facts.push_because(ctx, Some(cause), cleared);
    }
}
