//! What the platform believes and does, held against what really runs, and against what it has recorded itself.

use std::collections::{BTreeMap, BTreeSet};

use covalence_events::workspace::{
    Event, EvidenceClass, EvidenceObserved, EvidenceSource, OnlineVia, RestartCause, Verdict,
};
use covalence_events::{Fact, Generation, RestartId, Timestamp, WorkspaceId};

use super::super::fault::{Failure, Fault};
use super::super::history::History;
use super::super::{Millis, What};
use super::awake::Awake;
use super::seconds;
use crate::effect::ProvisionError;
use crate::policy::Policy;

/// *No such container* is believed if the engine answered something else within this.
const PROOF_WITHIN: Millis = 10_000;
/// A pause of ours that is longer than this is noticed with the first turn after it.
const NOTICED_PAUSE: Millis = 7_500;
/// Longer than any distance between two lists: the cap of an open circuit, and the patience of an unwell observer.
const LISTS_APART: Millis = 50_000;

/// Time stamps are cut.
const HAIR: chrono::TimeDelta = chrono::TimeDelta::milliseconds(20);

/// The generation of a container, and from when to when it ran.
type Run = (Generation, Vec<(Millis, Millis)>);

/// Every container that ran.
fn runs(history: History<'_>) -> BTreeMap<&str, Run> {
    let mut runs: BTreeMap<&str, Run> = BTreeMap::new();
    for note in history.notes {
        match &note.what {
            What::Started { generation, instance, .. } => {
                let (_, spans) = runs.entry(instance).or_insert((*generation, Vec::new()));
                spans.push((note.at, Millis::MAX));
            }
            What::Exited { instance, .. } => {
                if let Some((_, until)) =
                    runs.get_mut(instance.as_str()).and_then(|(_, spans)| spans.last_mut())
                {
                    *until = note.at;
                }
            }
            _ => {}
        }
    }
    runs
}

/// Nobody is taken for dead who runs, unless the engine itself says so and answers other things meanwhile.
pub(super) fn proof(history: History<'_>, _: &Policy) -> Vec<String> {
    let runs = runs(history);
    let running = |e: &EvidenceObserved, at: Millis| {
        let spans = e.instance.as_ref().and_then(|instance| runs.get(instance.id.as_str()));
        spans.is_some_and(|(_, spans)| spans.iter().any(|(from, until)| *from <= at && at < *until))
    };
    let lied = |at: Millis| {
        let before = || history.notes.iter().rev().skip_while(move |note| note.at > at);
        let lost = |fault: &Fault| matches!(fault, Fault::EngineErrors { failure: Failure::Lost404, .. });
        let lost = before().any(|note| {
            matches!(&note.what, What::Fault(fault) if lost(fault) && at <= note.at + fault.lasts() + PROOF_WITHIN)
        });
        let recent = before().take_while(|note| at <= note.at + PROOF_WITHIN);
        lost && recent.into_iter().any(|note| matches!(note.what, What::Answered { .. }))
    };
    let deaths = history.all().filter_map(|(at, id, event, _)| match event {
        Event::EvidenceObserved(e) if e.class == EvidenceClass::Death => Some((at, id, e)),
        _ => None,
    });
    let wrong = deaths.filter(|(at, _, e)| running(e, *at) && !lied(*at));
    wrong.map(|(at, id, e)| format!("{} {id}: {e:?}", seconds(at))).collect()
}

/// What is recorded as started is of the generation that it is recorded for.
pub(super) fn generations(history: History<'_>, _: &Policy) -> Vec<String> {
    let runs = runs(history);
    let wrong = history.all().filter_map(|(at, id, event, _)| {
        let Event::InstanceStarted(e) = event else { return None };
        let (generation, _) = runs.get(e.instance.as_ref()?.id.as_str())?;
        (*generation != e.generation)
            .then(|| format!("{} {id}: {generation} for {}", seconds(at), e.generation))
    });
    wrong.collect()
}

/// Nothing is concluded right after we have stood still.
pub(super) fn quiet(history: History<'_>, policy: &Policy) -> Vec<String> {
    let awake = Awake::of(history);
    let long = u64::try_from(policy.pause_max.as_millis()).unwrap_or(0);
    let mut places = Vec::new();
    for (from, until) in awake.pauses(NOTICED_PAUSE) {
        let undisturbed = !history.notes.iter().any(|note| {
            let fault = matches!(&note.what, What::Fault(fault) if note.at + fault.lasts() > from && matches!(
                fault,
                Fault::Lag { .. } | Fault::LogBusy { .. } | Fault::LogSlow { .. } | Fault::LogFull { .. } | Fault::Pause { .. }
            ) && note.at != from);
            note.at <= until + long && (fault || (note.at > from && matches!(note.what, What::Boot | What::Killed)))
        });
        if !undisturbed {
            continue;
        }
        let concluded = history.all().filter(|(at, _, event, _)| {
            *at >= until
                && *at < until + long
                && matches!(event, Event::VerdictReached(e) if e.verdict == Verdict::Dead)
        });
        places.extend(concluded.map(|(at, id, event, _)| format!("{} {id}: {event:?}", seconds(at))));
    }
    places
}

/// A restart that is asked for, and what was seen since.
#[derive(Default)]
struct Wish {
    restart: Option<(RestartId, RestartCause)>,
    about_instance: bool,
    confirming: bool,
    seen: Option<EvidenceClass>,
    heard: bool,
}

/// An automatic restart of an instance begins only after a fresh look that does not speak against it, and one for silence only
/// if nothing was heard meanwhile.
pub(super) fn looked(history: History<'_>, _: &Policy) -> Vec<String> {
    let known = history.by_id();
    let about_instance = |id| {
        matches!(
            known.get(id).map(|recorded| &recorded.fact),
            Some(Fact::Workspace(Event::EvidenceObserved(e))) if e.instance.is_some()
        )
    };
    let mut wishes: BTreeMap<WorkspaceId, Wish> = BTreeMap::new();
    let mut places = Vec::new();
    for (at, id, event, _) in history.all() {
        let wish = wishes.entry(id).or_default();
        match event {
            Event::RestartRequested(e) => {
                *wish = Wish {
                    restart: Some((e.restart, e.cause)),
                    about_instance: e.evidence.iter().any(about_instance),
                    ..Wish::default()
                };
            }
            Event::ConfirmRequested(_) => wish.confirming = true,
            Event::EvidenceObserved(e) if e.source == EvidenceSource::Inspect => wish.seen = Some(e.class),
            Event::HeartbeatReceived(_) | Event::Registered(_) => wish.heard = true,
            Event::RestartStarted(e) => {
                let Some((_, cause)) = wish.restart.filter(|(restart, _)| *restart == e.restart) else {
                    continue;
                };
                let looked = match (cause, wish.seen) {
                    (RestartCause::Death, seen) => seen == Some(EvidenceClass::Death),
                    (RestartCause::Hung, seen) => {
                        matches!(seen, Some(EvidenceClass::Death | EvidenceClass::Life)) && !wish.heard
                    }
                    _ => continue,
                };
                if (wish.about_instance || wish.confirming) && !(wish.confirming && looked) {
                    places.push(format!(
                        "{} {id}: a restart for {cause:?} after {:?}",
                        seconds(at),
                        wish.seen
                    ));
                }
            }
            _ => {}
        }
    }
    places
}

/// While nobody knows what became of a start or a stop, nothing else is asked for; and that it is not there proves nothing before
/// the engine has had its time.
pub(super) fn unknown(history: History<'_>, policy: &Policy) -> Vec<String> {
    let mut since: BTreeMap<WorkspaceId, (Millis, bool)> = BTreeMap::new();
    let mut stopping: BTreeSet<WorkspaceId> = BTreeSet::new();
    let (mut places, mut concluded) = (Vec::new(), Vec::new());
    let patience = u64::try_from(policy.outcome_wait.as_millis()).unwrap_or(0);
    let mut asked_again = |id: WorkspaceId, (from, stop): (Millis, bool), until: Millis| {
        let within = history.notes.iter().filter(|note| from < note.at && note.at < until);
        let again = within.filter(|note| {
            matches!(&note.what, What::Mutation { workspace, op } if *workspace == Some(id) && (stop || !op.starts_with("Stop")))
        });
        places.extend(again.map(|note| format!("{} {id}: {:?}", seconds(note.at), note.what)));
    };
    for (at, id, event, _) in history.all() {
        match event {
            // A stop that was asked for during a start is carried out after it.
            Event::OutcomeUnknown(e) if e.operation == "stop" || !stopping.contains(&id) => {
                since.insert(id, (at, e.operation == "stop"));
            }
            Event::StopRequested(_) => _ = stopping.insert(id),
            Event::ProvisionRequested(_) => _ = stopping.remove(&id),
            _ => {}
        }
        let ends = matches!(
            event,
            Event::InstanceStarted(_)
                | Event::ProvisionFailed(_)
                | Event::StopRequested(_)
                | Event::StopFailed(_)
                | Event::ProvisionRequested(_)
                | Event::InstanceStopped(_)
        );
        if ends && let Some(from) = since.remove(&id) {
            asked_again(id, from, at);
            let absent =
                matches!(event, Event::ProvisionFailed(e) if e.code == ProvisionError::OUTCOME_UNKNOWN);
            if absent && at + 100 < from.0 + patience {
                concluded.push(format!("{} {id}: not started, after {} ms", seconds(at), at - from.0));
            }
        }
    }
    places.extend(concluded);
    places
}

/// How far a workspace's current generation is.
#[derive(Default)]
struct Steps {
    runs: bool,
    drains: Option<RestartId>,
    heard: bool,
    online: Option<Timestamp>,
}

/// What works is drained before a person's restart replaces it; what is online was heard from; and what has proved itself was
/// well for as long as that takes.
pub(super) fn steps(history: History<'_>, policy: &Policy) -> Vec<String> {
    let mut all: BTreeMap<WorkspaceId, Steps> = BTreeMap::new();
    let (causes, mut places) = (history.causes(), Vec::new());
    for (at, id, event, recorded) in history.all() {
        let now = recorded.meta.at;
        let steps = all.entry(id).or_default();
        let wrong = match event {
            Event::RestartStarted(e)
                if steps.runs && causes.get(&e.restart) == Some(&RestartCause::Operator) =>
            {
                steps.drains = Some(e.restart);
                None
            }
            Event::DrainRequested(_) => {
                steps.drains = None;
                None
            }
            Event::ProvisionRequested(e) => {
                let cut_off = e.restart.is_some() && e.restart == steps.drains;
                *steps = Steps::default();
                cut_off.then_some("not drained")
            }
            Event::InstanceStarted(_) | Event::InstanceAdopted(_) | Event::DeathRefuted(_) => {
                steps.runs = true;
                None
            }
            Event::StopRequested(_) | Event::InstanceStopped(_) | Event::ProvisionFailed(_) => {
                steps.runs = false;
                None
            }
            Event::VerdictReached(e) if e.verdict == Verdict::Dead => {
                steps.runs = false;
                None
            }
            Event::Registered(_) | Event::HeartbeatReceived(_) => {
                steps.heard = true;
                None
            }
            Event::CameOnline(e) => {
                steps.online = Some(now);
                (!steps.heard && e.via != OnlineVia::Inspect).then_some("online, and never heard from")
            }
            Event::WentOffline(_) => {
                steps.online = None;
                None
            }
            Event::RestartProved(_) => {
                let well = steps.online.is_some_and(|since| now + HAIR >= since + policy.probation);
                (!well).then_some("proved too soon")
            }
            _ => None,
        };
        if let Some(wrong) = wrong {
            places.push(format!("{} {id}: {wrong}", seconds(at)));
        }
    }
    places
}

/// An engine is asked for its list at least so often, however it answers.
pub(super) fn asked(history: History<'_>, _: &Policy) -> Vec<String> {
    let awake = Awake::of(history);
    let asked: Vec<_> = history
        .notes
        .iter()
        .filter(|note| matches!(note.what, What::ListAsked | What::Boot))
        .map(|note| note.at)
        .collect();
    let apart = asked
        .windows(2)
        .filter(|pair| pair[1] - pair[0] > LISTS_APART && awake.throughout(pair[0] + 1, pair[1]));
    apart.map(|pair| format!("{}: none since {}", seconds(pair[1]), seconds(pair[0]))).collect()
}
