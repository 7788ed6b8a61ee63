//! What must never happen, whatever goes wrong: each rule once, as a function of what happened.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use covalence_events::fleet::{self, Scope};
use covalence_events::workspace::{self, EvidenceClass, ProvisionOrigin, RestartCause};
use covalence_events::{EventId, Fact, HoldId, RestartId, Timestamp, WorkspaceId};

use super::history::History;
use super::{Millis, What};
use crate::policy::admission::{self, Admission};
use crate::policy::{Policy, brake};

mod admissions;
mod awake;
mod brakes;
mod signs;
mod truth;

/// An agent that has been well for longer than this was heard: a beat comes every half minute, and one may be under way.
const SURELY_HEARD: Millis = 62_000;
/// More facts of one stream within a second than anything asks for.
const FACTS_A_SECOND: usize = 60;

/// A rule and where it is broken.
pub type Rule = (&'static str, fn(History<'_>, &Policy) -> Vec<String>);

/// Every rule.
pub const RULES: &[Rule] = &[
    ("no restart without proof or a verdict on silence", evidence),
    ("no running, healthy container is replaced automatically", healthy),
    ("no more restarts in flight than the cap allows", in_flight),
    ("tokens never run below nothing", tokens),
    ("a workspace is restarted at most five times in ten minutes", intensity),
    ("at most one container of a workspace runs", single),
    ("nothing starts while it is paused, held or stopped", held),
    ("every admission is settled at most once, every start is admitted", admitted),
    ("nothing goes in circles", calm),
    ("decisions made again are the same", replay),
    ("restarts of a workspace keep their distance", admissions::delays),
    (
        "a quarantine is for those who died too often, and lets through one restart a try",
        admissions::quarantines,
    ),
    ("a restart costs what its cause says", admissions::costs),
    ("tokens are counted right", admissions::tokens),
    ("nothing starts before or below what goes first", admissions::order),
    ("a brake is engaged, obeyed and released for what the facts show", brakes::obeyed),
    ("too many deaths at once are tried by canary", brakes::mass),
    ("an engine that does not answer freezes restarts", brakes::blind),
    ("the grace lasts until the engine has shown what it runs", brakes::grace),
    ("suspicion and the verdict on silence follow from silence", signs::silence),
    ("three requests for a card are unanswered before they count", signs::unanswered),
    ("nobody is taken for dead who runs", truth::proof),
    ("what started is of the generation that it is recorded for", truth::generations),
    ("nothing is concluded after a pause of our own", truth::quiet),
    ("a restart begins after a fresh look, and if nothing was heard since", truth::looked),
    ("what became of a start or a stop is found out before anything else is asked for", truth::unknown),
    ("a restart takes its steps in order", truth::steps),
    ("an engine is asked again and again", truth::asked),
];

/// All rules that are broken, with the places.
pub fn broken(history: History<'_>, policy: &Policy) -> Vec<String> {
    let named = |(name, rule): &Rule| {
        rule(history, policy).into_iter().map(|place| format!("{name}: {place}")).collect::<Vec<_>>()
    };
    RULES.iter().flat_map(named).collect()
}

fn seconds(at: Millis) -> String {
    format!("{}.{:03} s", at / 1000, at % 1000)
}

/// Every automatic restart names evidence, and that evidence is proof of death, or the verdict on silence, or the failure of
/// the restart before, or a try out of quarantine.
fn evidence(history: History<'_>, _: &Policy) -> Vec<String> {
    let known = history.by_id();
    let speaks = |cause: RestartCause, id: &EventId| {
        known.get(id).is_some_and(|recorded| match (&recorded.fact, cause) {
            (Fact::Workspace(workspace::Event::EvidenceObserved(e)), RestartCause::Death) => {
                e.class == EvidenceClass::Death
            }
            (Fact::Workspace(workspace::Event::EvidenceObserved(e)), RestartCause::Hung) => {
                e.class == EvidenceClass::Silence
            }
            (
                Fact::Workspace(workspace::Event::ProvisionFailed(_))
                | Fact::Fleet(fleet::Event::QuarantineProbed(_)),
                RestartCause::Death,
            ) => true,
            _ => false,
        })
    };
    let requests = history.all().filter_map(|(at, id, event, _)| match event {
        workspace::Event::RestartRequested(e) if e.cause.is_automatic() => Some((at, id, e)),
        _ => None,
    });
    let unfounded =
        requests.filter(|(.., e)| e.evidence.is_empty() || !e.evidence.iter().all(|id| speaks(e.cause, id)));
    unfounded.map(|(at, id, e)| format!("{} {id}: {e:?}", seconds(at))).collect()
}

fn healthy(history: History<'_>, _: &Policy) -> Vec<String> {
    let wrong = history.wrong_restarts(SURELY_HEARD);
    wrong.into_iter().map(|(at, id)| format!("{} {id}", seconds(at))).collect()
}

/// Counted anew, not taken from the decisions.
fn in_flight(history: History<'_>, _: &Policy) -> Vec<String> {
    let mut in_flight = BTreeSet::new();
    let (mut created, mut places) = (0, Vec::new());
    for (at, recorded) in history.facts {
        match &recorded.fact {
            Fact::Workspace(workspace::Event::Created(_)) => created += 1,
            Fact::Fleet(fleet::Event::RestartAdmitted(e)) => {
                in_flight.insert(e.restart);
                let most = (created / 10).max(2).min(e.in_flight_max as usize);
                if in_flight.len() > most {
                    places.push(format!("{}: {} of {most}", seconds(*at), in_flight.len()));
                }
            }
            Fact::Fleet(fleet::Event::RestartSettled(e)) => drop(in_flight.remove(&e.restart)),
            _ => {}
        }
    }
    places
}

/// What was taken fits into what was there at the beginning, what came back with time and what was given back.
fn tokens(history: History<'_>, policy: &Policy) -> Vec<String> {
    let mut places = Vec::new();
    let (mut level, mut last) = (policy.bucket_capacity, 0);
    let mut automatic = BTreeSet::new();
    for (at, event, _) in history.fleet() {
        #[expect(clippy::cast_precision_loss, reason = "a few hours of milliseconds")]
        let passed = (at - last) as f64 / 1000.0;
        level = (level + policy.bucket_refill * passed).min(policy.bucket_capacity);
        last = at;
        match event {
            fleet::Event::RestartAdmitted(e) => {
                level -= e.cost.unwrap_or_default();
                if e.cause.is_automatic() {
                    automatic.insert(e.restart);
                }
                let told = e.inputs.as_ref().map_or(0.0, |inputs| inputs.tokens);
                // Stamps of facts are cut to the microsecond.
                if level < -1e-3 || told < 0.0 {
                    places.push(format!("{}: {level}, told {told}", seconds(at)));
                }
            }
            fleet::Event::RestartProved(_) => level = (level + 1.0).min(policy.bucket_capacity),
            fleet::Event::RestartSettled(e)
                if e.outcome == fleet::RestartOutcome::Abandoned && automatic.contains(&e.restart) =>
            {
                level = (level + 1.0).min(policy.bucket_capacity);
            }
            _ => {}
        }
    }
    places
}

/// Restarts that the engine could not start say nothing about the workspace, and don't count. Minutes are those of the log: a
/// platform that is started again after its clock was set has no other.
fn intensity(history: History<'_>, policy: &Policy) -> Vec<String> {
    let causes = history.causes();
    let unstarted: BTreeSet<_> = history
        .fleet()
        .filter_map(|(_, event, _)| match event {
            fleet::Event::RestartSettled(e) if e.outcome == fleet::RestartOutcome::Unstarted => {
                Some(e.restart)
            }
            _ => None,
        })
        .collect();
    let mut recent: BTreeMap<WorkspaceId, VecDeque<Timestamp>> = BTreeMap::new();
    let mut places = Vec::new();
    for (at, id, event, recorded) in history.all() {
        let workspace::Event::RestartStarted(e) = event else { continue };
        if !causes.get(&e.restart).copied().is_some_and(RestartCause::is_automatic)
            || unstarted.contains(&e.restart)
        {
            continue;
        }
        let times = recent.entry(id).or_default();
        while times.front().is_some_and(|first| *first + policy.intensity_window <= recorded.meta.at) {
            times.pop_front();
        }
        times.push_back(recorded.meta.at);
        if times.len() > policy.intensity_max as usize {
            places.push(format!("{} {id}: {} restarts", seconds(at), times.len()));
        }
    }
    places
}

fn single(history: History<'_>, _: &Policy) -> Vec<String> {
    let doubled = history.notes.iter().filter_map(|note| match &note.what {
        What::Started { workspace, generation, others, .. } if !others.is_empty() => {
            Some(format!("{} {workspace} {generation} beside {others:?}", seconds(note.at)))
        }
        _ => None,
    });
    doubled.collect()
}

/// Holds and pauses, followed anew.
fn held(history: History<'_>, _: &Policy) -> Vec<String> {
    let mut holds: BTreeMap<HoldId, (Scope, bool)> = BTreeMap::new();
    let mut paused: BTreeSet<WorkspaceId> = BTreeSet::new();
    let mut parents: BTreeMap<WorkspaceId, WorkspaceId> = BTreeMap::new();
    let mut places = Vec::new();
    for (at, recorded) in history.facts {
        match &recorded.fact {
            Fact::Fleet(fleet::Event::HoldSet(e)) => drop(holds.insert(e.hold, (e.scope, e.emergency))),
            Fact::Fleet(fleet::Event::HoldReleased(e)) => drop(holds.remove(&e.hold)),
            Fact::Fleet(fleet::Event::RestartAdmitted(e)) => {
                let above = |id: &WorkspaceId| parents.get(id).copied();
                let lineage: Vec<_> = std::iter::successors(Some(e.workspace), above).take(64).collect();
                let covers = |scope: &Scope| match scope {
                    Scope::Fleet => true,
                    Scope::Workspace(id) => *id == e.workspace,
                    Scope::Subtree(id) => lineage.contains(id),
                };
                let over: Vec<_> = holds.values().filter(|(scope, _)| covers(scope)).collect();
                let stopped = over.iter().any(|(_, emergency)| *emergency);
                let forced = e.inputs.as_ref().is_some_and(|inputs| inputs.forced);
                if stopped || (!over.is_empty() && !forced) {
                    places.push(format!("{} {}: admitted under {over:?}", seconds(*at), e.workspace));
                }
            }
            Fact::Workspace(event) => {
                let Some(id) = recorded.subject() else { continue };
                if let Some(place) = starts_paused(event, &mut paused, id) {
                    places.push(format!("{} {id}: {place}", seconds(*at)));
                }
                if let workspace::Event::Created(e) = event
                    && let Some(parent) = e.parent
                {
                    parents.insert(id, parent);
                }
            }
            Fact::Fleet(_) => {}
        }
    }
    places
}

fn starts_paused(
    event: &workspace::Event,
    paused: &mut BTreeSet<WorkspaceId>,
    id: WorkspaceId,
) -> Option<&'static str> {
    match event {
        workspace::Event::Paused(_) => _ = paused.insert(id),
        workspace::Event::Resumed(_) => _ = paused.remove(&id),
        workspace::Event::RestartRequested(e) if e.cause == RestartCause::Operator => _ = paused.remove(&id),
        workspace::Event::ProvisionRequested(e)
            if paused.contains(&id) && e.origin != ProvisionOrigin::Resume =>
        {
            return Some("started while paused");
        }
        _ => {}
    }
    None
}

/// A restart begins only after the fleet's stream admits it, where it says that it does; and it has one outcome.
fn admitted(history: History<'_>, _: &Policy) -> Vec<String> {
    let mut open: BTreeSet<RestartId> = BTreeSet::new();
    let mut ever: BTreeMap<RestartId, covalence_events::Position> = BTreeMap::new();
    let mut settled: BTreeSet<RestartId> = BTreeSet::new();
    let mut places = Vec::new();
    for (at, recorded) in history.facts {
        match &recorded.fact {
            Fact::Fleet(fleet::Event::RestartAdmitted(e)) => {
                open.insert(e.restart);
                if ever.insert(e.restart, recorded.position).is_some() {
                    places.push(format!("{} {:?} admitted twice", seconds(*at), e.restart));
                }
            }
            Fact::Fleet(fleet::Event::RestartSettled(e)) => {
                open.remove(&e.restart);
                if !settled.insert(e.restart) {
                    places.push(format!("{} {:?} settled twice", seconds(*at), e.restart));
                }
            }
            Fact::Workspace(workspace::Event::RestartStarted(e))
                if ever.get(&e.restart) != Some(&e.admission) =>
            {
                places.push(format!("{} {:?} began without its admission", seconds(*at), e.restart));
            }
            Fact::Fleet(fleet::Event::InvariantViolated(e)) => {
                places.push(format!("{}: {e:?}", seconds(*at)));
            }
            _ => {}
        }
    }
    places
}

fn calm(history: History<'_>, _: &Policy) -> Vec<String> {
    let mut recent: BTreeMap<covalence_events::StreamId, VecDeque<Millis>> = BTreeMap::new();
    let mut places = Vec::new();
    for (at, recorded) in history.facts {
        // The fleet's stream has everybody's facts.
        let most = if recorded.stream == covalence_events::StreamId::Fleet {
            8 * FACTS_A_SECOND
        } else {
            FACTS_A_SECOND
        };
        if matches!(
            &recorded.fact,
            Fact::Workspace(workspace::Event::HeartbeatReceived(_) | workspace::Event::CallFinished(_))
        ) {
            // As many as others send.
            continue;
        }
        let times = recent.entry(recorded.stream).or_default();
        while times.front().is_some_and(|first| first + 1_000 <= *at) {
            times.pop_front();
        }
        times.push_back(*at);
        if times.len() == most {
            places.push(format!("{}: {} facts a second, the last {:?}", seconds(*at), most, recorded.fact));
        }
    }
    places
}

/// Every decision about a restart, and every engagement of a brake, judged again from what it recorded.
fn replay(history: History<'_>, configured: &Policy) -> Vec<String> {
    let mut policy = configured.clone();
    let mut places = Vec::new();
    for (at, event, _) in history.fleet() {
        let same = match event {
            fleet::Event::PolicyChanged(e) => {
                if let serde_json::Value::Object(document) = &e.parameters {
                    policy = Policy::from_document(&Policy::default(), document).unwrap_or(policy);
                }
                true
            }
            fleet::Event::RestartAdmitted(e) => e.inputs.as_ref().is_none_or(|inputs| {
                let overridden = |rules: &[&str]| rules.iter().eq(e.overridden.iter());
                matches!(
                    admission::admit(&policy, e.cause, inputs),
                    Admission::Admitted { cost, overridden: rules } if Some(cost) == e.cost && overridden(&rules)
                )
            }),
            fleet::Event::RestartDeferred(e) => e.inputs.as_ref().is_none_or(|inputs| {
                matches!(
                    admission::admit(&policy, e.cause, inputs),
                    Admission::Deferred { rule, until } if rule == e.rule && until == e.until
                )
            }),
            fleet::Event::RestartSuppressed(e) => e.inputs.as_ref().is_none_or(|inputs| {
                matches!(
                    admission::admit(&policy, e.cause, inputs),
                    Admission::Suppressed { rule, until } if rule == e.rule && until == e.until
                )
            }),
            fleet::Event::BrakeEngaged(e) => engages(&policy, e),
            _ => true,
        };
        if !same {
            places.push(format!("{}: {event:?}", seconds(at)));
        }
    }
    places
}

/// Whether a reading speaks for what was engaged on it. A canary's failure and its retry rest on more than the reading.
fn engages(policy: &Policy, e: &fleet::BrakeEngaged) -> bool {
    use fleet::{BrakeMode, BrakeTrigger};
    match (e.mode, e.trigger) {
        (BrakeMode::Freeze, BrakeTrigger::Suspicion | BrakeTrigger::Observer | BrakeTrigger::Everybody) => {
            brake::freeze_trigger(policy, &e.reading) == Some((e.trigger, e.count, e.threshold))
        }
        (BrakeMode::Canary, BrakeTrigger::Deaths | BrakeTrigger::Grace) => {
            let threshold = brake::deaths_threshold(policy, &e.reading);
            e.threshold == threshold && e.count == e.reading.deaths_recent
        }
        _ => true,
    }
}
