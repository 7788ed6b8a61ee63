//! What admission promises, followed anew from the facts and with arithmetic of its own.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use covalence_events::fleet::{Event, RestartAdmitted, RestartOutcome};
use covalence_events::workspace::{self, RestartCause};
use covalence_events::{Fact, RestartId, Timestamp, WorkspaceId};

use super::super::history::History;
use super::seconds;
use crate::policy::{Policy, admission};

/// Facts of one stream may be this much newer than what the decisions of another know.
const KNOWN_WITHIN: TimeDelta = TimeDelta::seconds(10);
/// Time stamps are cut.
const HAIR: TimeDelta = TimeDelta::milliseconds(20);
/// And so are tokens that come back meanwhile.
const TOKEN_HAIR: f64 = 0.01;

fn delta(time: std::time::Duration) -> TimeDelta {
    TimeDelta::from_std(time).unwrap_or(TimeDelta::MAX)
}

/// The shortest and the longest delay of a restart that follows so many.
fn delay(policy: &Policy, before: usize) -> (TimeDelta, TimeDelta) {
    let mut plain = policy.backoff_base.as_secs_f64();
    for _ in 1..before {
        plain = (plain * 2.0).min(policy.backoff_cap.as_secs_f64());
    }
    let scaled = |factor: f64| delta(std::time::Duration::from_secs_f64(plain * factor));
    if before == 0 {
        (TimeDelta::zero(), TimeDelta::zero())
    } else {
        (scaled(1.0 - policy.backoff_jitter), scaled(1.0 + policy.backoff_jitter))
    }
}

/// Restarts of one workspace keep their distance, and no longer one than they should.
pub(super) fn delays(history: History<'_>, policy: &Policy) -> Vec<String> {
    let mut row: BTreeMap<WorkspaceId, Vec<(Timestamp, RestartId)>> = BTreeMap::new();
    let mut asked: BTreeMap<RestartId, Timestamp> = BTreeMap::new();
    let mut out_of_quarantine = BTreeSet::new();
    let mut places = Vec::new();
    let before = |row: &BTreeMap<WorkspaceId, Vec<(Timestamp, RestartId)>>, id, now| {
        let recent = |(at, _): &&(Timestamp, RestartId)| *at > now - delta(policy.backoff_reset);
        row.get(&id).into_iter().flatten().filter(recent).count()
    };
    for (at, event, recorded) in history.fleet() {
        let now = recorded.meta.at;
        match event {
            Event::QuarantineProbed(e) => _ = out_of_quarantine.insert(e.workspace),
            Event::RestartDeferred(e) => {
                let since = *asked.entry(e.restart).or_insert(now);
                let (_, longest) = delay(policy, before(&row, e.workspace, now));
                let late = e.until.is_some_and(|until| until > since + longest + HAIR);
                if e.rule == admission::BACKOFF && late {
                    places.push(format!("{} {}: until {:?}", seconds(at), e.workspace, e.until));
                }
            }
            Event::RestartAdmitted(e) => {
                let since = *asked.entry(e.restart).or_insert(now);
                let tried = out_of_quarantine.remove(&e.workspace);
                if !e.cause.is_automatic() {
                    continue;
                }
                let (shortest, _) = delay(policy, before(&row, e.workspace, now));
                if !tried && now + HAIR < since + shortest {
                    places.push(format!("{} {}: after {}", seconds(at), e.workspace, now - since));
                }
                row.entry(e.workspace).or_default().push((now, e.restart));
            }
            Event::RestartSettled(e) if e.outcome == RestartOutcome::Abandoned => {
                row.entry(e.workspace).or_default().retain(|(_, restart)| *restart != e.restart);
            }
            _ => {}
        }
    }
    places
}

struct Quarantine {
    since: Timestamp,
    /// Restarts that it lets through.
    left: u32,
}

/// A quarantine needs five restarts that started something, and each try out of it is one restart.
pub(super) fn quarantines(history: History<'_>, policy: &Policy) -> Vec<String> {
    let mut tries: BTreeMap<WorkspaceId, BTreeMap<RestartId, Timestamp>> = BTreeMap::new();
    let mut quarantined: BTreeMap<WorkspaceId, Quarantine> = BTreeMap::new();
    let mut places = Vec::new();
    let window = delta(policy.intensity_window);
    for (at, event, recorded) in history.fleet() {
        let now = recorded.meta.at;
        match event {
            Event::RestartAdmitted(e) if e.cause.is_automatic() => {
                if let Some(quarantine) = quarantined.get_mut(&e.workspace) {
                    if quarantine.left == 0 && now < quarantine.since + window {
                        places.push(format!("{} {}: out of quarantine", seconds(at), e.workspace));
                    }
                    quarantine.left = quarantine.left.saturating_sub(1);
                }
                tries.entry(e.workspace).or_default().insert(e.restart, now);
            }
            Event::RestartSettled(e) => {
                if matches!(e.outcome, RestartOutcome::Abandoned | RestartOutcome::Unstarted) {
                    tries.entry(e.workspace).or_default().remove(&e.restart);
                }
                if e.outcome == RestartOutcome::Abandoned
                    && let Some(quarantine) = quarantined.get_mut(&e.workspace)
                {
                    quarantine.left += 1;
                }
            }
            Event::RestartSuppressed(e) if e.rule == admission::INTENSITY => {
                let tries = tries.entry(e.workspace).or_default();
                let recent = tries.values().filter(|tried| **tried > now - window).count();
                if recent < policy.intensity_max as usize && !quarantined.contains_key(&e.workspace) {
                    places.push(format!("{} {}: quarantined after {recent}", seconds(at), e.workspace));
                }
                quarantined.insert(e.workspace, Quarantine { since: now, left: 0 });
            }
            Event::QuarantineProbed(e) => {
                quarantined.insert(e.workspace, Quarantine { since: now, left: 1 });
            }
            Event::QuarantineLifted(e) => drop(quarantined.remove(&e.workspace)),
            _ => {}
        }
    }
    places
}

/// A restart costs what its cause says.
pub(super) fn costs(history: History<'_>, policy: &Policy) -> Vec<String> {
    let cost = |cause| match cause {
        RestartCause::Operator | RestartCause::Shutdown => 0.0,
        RestartCause::Hung => policy.cost_hung,
        RestartCause::Death | RestartCause::Configuration | RestartCause::Session | RestartCause::Team => {
            policy.cost_death
        }
    };
    let admitted = history.admitted().into_iter();
    let wrong = admitted.filter(|(_, e)| {
        let told = e.inputs.as_ref().map_or(f64::INFINITY, |inputs| inputs.tokens);
        e.cost != Some(cost(e.cause)) || told < cost(e.cause)
    });
    wrong.map(|(at, e)| format!("{}: {e:?}", seconds(at))).collect()
}

/// The tokens that a decision was made with are those that were there: what was taken, what came back with time, and one for each
/// restart that was called off or has proved itself.
pub(super) fn tokens(history: History<'_>, policy: &Policy) -> Vec<String> {
    let (mut level, mut last, mut automatic) = (policy.bucket_capacity, None, BTreeSet::new());
    let mut places = Vec::new();
    for (at, event, recorded) in history.fleet() {
        let now = recorded.meta.at;
        let passed = last.map_or(0.0, |last: Timestamp| (now - last).as_seconds_f64());
        level = (level + policy.bucket_refill * passed).min(policy.bucket_capacity);
        last = Some(now);
        let told = match event {
            Event::RestartAdmitted(e) => e.inputs.as_ref(),
            Event::RestartDeferred(e) => e.inputs.as_ref(),
            _ => None,
        };
        if let Some(told) = told.map(|inputs| inputs.tokens).filter(|told| (told - level).abs() > TOKEN_HAIR)
        {
            places.push(format!("{}: {told} instead of {level}", seconds(at)));
        }
        let back = match event {
            Event::RestartAdmitted(e) => {
                if e.cause.is_automatic() {
                    automatic.insert(e.restart);
                }
                -e.cost.unwrap_or_default()
            }
            Event::RestartProved(_) => 1.0,
            Event::RestartSettled(e) => {
                let refunded = automatic.remove(&e.restart) && e.outcome == RestartOutcome::Abandoned;
                f64::from(u8::from(refunded))
            }
            _ => 0.0,
        };
        level = (level + back).clamp(0.0, policy.bucket_capacity);
    }
    places
}

/// Who is above whom, who is paused, and whose restart is under way or waits for its turn.
#[derive(Default)]
struct Lineage {
    parents: BTreeMap<WorkspaceId, WorkspaceId>,
    paused: BTreeMap<WorkspaceId, Timestamp>,
    first: BTreeMap<RestartId, WorkspaceId>,
}

impl Lineage {
    fn note(&mut self, fact: &Fact, subject: Option<WorkspaceId>, now: Timestamp) {
        match (fact, subject) {
            (Fact::Fleet(Event::RestartAdmitted(e)), _) => _ = self.first.insert(e.restart, e.workspace),
            (Fact::Fleet(Event::RestartDeferred(e)), _) => {
                self.first.remove(&e.restart);
                if [admission::ORDER, admission::TOKENS, admission::IN_FLIGHT].contains(&e.rule.as_str()) {
                    self.first.insert(e.restart, e.workspace);
                }
            }
            (Fact::Fleet(Event::RestartSettled(e)), _) => _ = self.first.remove(&e.restart),
            (Fact::Fleet(Event::RestartSuppressed(e)), _) => _ = self.first.remove(&e.restart),
            (Fact::Workspace(event), Some(id)) => match event {
                workspace::Event::Created(e) => {
                    self.parents.extend(e.parent.map(|parent| (id, parent)));
                }
                workspace::Event::Paused(_) => _ = self.paused.insert(id, now),
                workspace::Event::Resumed(_)
                | workspace::Event::RestartRequested(_)
                | workspace::Event::ProvisionRequested(_) => _ = self.paused.remove(&id),
                _ => {}
            },
            _ => {}
        }
    }

    fn above(&self, id: WorkspaceId) -> impl Iterator<Item = WorkspaceId> + '_ {
        std::iter::successors(self.parents.get(&id).copied(), |id| self.parents.get(id).copied()).take(64)
    }

    fn objection(&self, e: &RestartAdmitted, now: Timestamp) -> Option<&'static str> {
        let forced = e.inputs.as_ref().is_some_and(|inputs| inputs.forced);
        let paused = |id: &WorkspaceId| self.paused.get(id).is_some_and(|at| *at < now - KNOWN_WITHIN);
        if !forced && self.above(e.workspace).any(|id| paused(&id)) {
            return Some("below a paused one");
        }
        let first = |id: WorkspaceId| self.first.values().any(|other| *other == id);
        (e.cause != RestartCause::Operator && self.above(e.workspace).any(first))
            .then_some("before the one above it")
    }
}

/// Nothing starts below what is paused, or before what is above it.
pub(super) fn order(history: History<'_>, _: &Policy) -> Vec<String> {
    let mut lineage = Lineage::default();
    let mut places = Vec::new();
    for (at, recorded) in history.facts {
        let now = recorded.meta.at;
        if let Fact::Fleet(Event::RestartAdmitted(e)) = &recorded.fact
            && let Some(objection) = lineage.objection(e, now)
        {
            places.push(format!("{} {}: {objection}", seconds(*at), e.workspace));
        }
        lineage.note(&recorded.fact, recorded.subject(), now);
    }
    places
}
