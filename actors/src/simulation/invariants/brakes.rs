//! What the brake promises, followed anew from the facts and with arithmetic of its own.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use covalence_events::fleet::{
    BrakeEngaged, BrakeMode, BrakeReleased, BrakeTrigger, CircuitState, Event, RestartAdmitted,
    RestartOutcome, Scope,
};
use covalence_events::workspace::{self, RestartCause};
use covalence_events::{Fact, HoldId, RestartId, Timestamp, WorkspaceId};

use super::super::history::History;
use super::super::{Millis, What};
use super::awake::Awake;
use super::seconds;
use crate::policy::Policy;

/// Within this, what speaks for a brake engages it: a survey comes every five seconds, every fifteen while a circuit is open.
const NOTICED_WITHIN: Millis = 25_000;
/// Time stamps are cut.
const HAIR: TimeDelta = TimeDelta::milliseconds(20);

fn delta(time: std::time::Duration) -> TimeDelta {
    TimeDelta::from_std(time).unwrap_or(TimeDelta::MAX)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "shares of small fleets")]
fn share(size: u32, share: f64) -> (u32, u32) {
    let exact = f64::from(size) * share;
    ((exact + 1e-6).floor() as u32, (exact - 1e-6).ceil().max(0.0) as u32)
}

/// Deaths of a cell of this size that are too many at once.
fn too_many(policy: &Policy, size: u32, in_grace: bool) -> usize {
    let usual = share(size, policy.brake_deaths_share).1.max(policy.brake_deaths_min);
    let in_grace = in_grace.then(|| (share(size, policy.grace_deaths_share).0 + 1).max(2));
    in_grace.map_or(usual, |many| usual.min(many)) as usize
}

struct Trial {
    restart: RestartId,
    workspace: WorkspaceId,
    at: Timestamp,
    settled: bool,
    proved: bool,
    /// When it was plain that it had failed.
    failed: Option<Millis>,
}

#[derive(Clone, Copy)]
struct Engaged {
    mode: BrakeMode,
    trigger: BrakeTrigger,
    since: Timestamp,
    at: Millis,
}

/// The brake as the facts show it.
#[derive(Default)]
struct Brake {
    created: u32,
    engaged: Option<Engaged>,
    last_let: Option<Timestamp>,
    trial: Option<Trial>,
    waiting: BTreeMap<RestartId, (WorkspaceId, bool)>,
    deaths: Vec<(WorkspaceId, Timestamp)>,
    in_grace: bool,
}

impl Brake {
    /// Those who died within the window, as the supervisor was told.
    fn died(&self, policy: &Policy, now: Timestamp) -> usize {
        let recent = self.deaths.iter().filter(|(_, at)| *at > now - delta(policy.brake_window));
        recent.map(|(id, _)| *id).collect::<BTreeSet<_>>().len()
    }

    fn mode(&self) -> Option<BrakeMode> {
        self.engaged.map(|engaged| engaged.mode)
    }

    /// A request that is heard of. Whether it tells of a death.
    fn hear(
        &mut self,
        (workspace, restart): (WorkspaceId, RestartId),
        cause: RestartCause,
        at: Millis,
        now: Timestamp,
    ) -> bool {
        if cause != RestartCause::Death || self.waiting.contains_key(&restart) {
            return false;
        }
        self.deaths.push((workspace, now));
        if let Some(trial) = &mut self.trial
            && trial.workspace == workspace
            && trial.restart != restart
            && !trial.proved
        {
            trial.failed.get_or_insert(at);
        }
        true
    }

    fn admit(&mut self, e: &RestartAdmitted, now: Timestamp) {
        self.waiting.remove(&e.restart);
        if self.engaged.is_some() && e.cause == RestartCause::Death {
            self.last_let = Some(now);
            if self.mode() == Some(BrakeMode::Canary) {
                let (restart, workspace) = (e.restart, e.workspace);
                let trial =
                    Trial { restart, workspace, at: now, settled: false, proved: false, failed: None };
                self.trial = Some(trial);
            }
        }
    }

    /// Under a freeze about the engine alone, one that came back and an engine that answers again make room for the next.
    fn let_next(&mut self) {
        if self.engaged.is_some_and(|engaged| engaged.trigger == BrakeTrigger::Observer) {
            self.last_let = None;
        }
    }

    fn settle(&mut self, restart: RestartId, outcome: RestartOutcome, at: Millis) {
        self.waiting.remove(&restart);
        if outcome == RestartOutcome::Online {
            self.let_next();
        }
        let Some(trial) = self.trial.as_mut().filter(|trial| trial.restart == restart) else { return };
        match outcome {
            RestartOutcome::Online => trial.settled = true,
            RestartOutcome::Failed | RestartOutcome::Unstarted => _ = trial.failed.get_or_insert(at),
            RestartOutcome::Abandoned => self.trial = None,
        }
    }

    /// Whether the event tells of a death.
    fn note(&mut self, event: &Event, at: Millis, now: Timestamp) -> bool {
        match event {
            Event::RestartAdmitted(e) => {
                let died = self.hear((e.workspace, e.restart), e.cause, at, now);
                self.admit(e, now);
                return died;
            }
            Event::RestartDeferred(e) => {
                let died = self.hear((e.workspace, e.restart), e.cause, at, now);
                self.waiting.insert(e.restart, (e.workspace, e.cause.is_automatic()));
                return died;
            }
            Event::RestartSuppressed(e) => {
                let died = self.hear((e.workspace, e.restart), e.cause, at, now);
                self.waiting.remove(&e.restart);
                return died;
            }
            Event::RestartSettled(e) => self.settle(e.restart, e.outcome, at),
            Event::RestartProved(e) => {
                if let Some(trial) = self.trial.as_mut().filter(|trial| trial.restart == e.restart) {
                    trial.proved = true;
                }
            }
            Event::BrakeEngaged(e) => {
                self.engaged = Some(Engaged { mode: e.mode, trigger: e.trigger, since: now, at });
                if e.mode == BrakeMode::Canary {
                    self.trial = None;
                }
            }
            Event::BrakeReleased(_) => (self.engaged, self.last_let, self.trial) = (None, None, None),
            Event::CircuitChanged(e) if e.state == CircuitState::Closed => self.let_next(),
            Event::GraceStarted(_) => self.in_grace = true,
            Event::GraceEnded(_) => self.in_grace = false,
            _ => {}
        }
        false
    }

    /// Why this restart should not have been let through.
    fn objection(&self, policy: &Policy, e: &RestartAdmitted, now: Timestamp) -> Option<&'static str> {
        let engaged = self.engaged?;
        let paced = self.last_let.is_some_and(|last| now + HAIR < last + delta(policy.freeze_death_every));
        match (e.cause, engaged.mode) {
            (RestartCause::Operator, _) => None,
            (RestartCause::Hung, _) => Some("hung under a brake"),
            (_, BrakeMode::SlowStart) => None,
            (RestartCause::Death, BrakeMode::Freeze) if engaged.trigger == BrakeTrigger::CanaryFailed => {
                Some("after a canary that failed")
            }
            (RestartCause::Death, BrakeMode::Freeze) => paced.then_some("more than one a minute in a freeze"),
            (RestartCause::Death, BrakeMode::Canary) => {
                let mute = delta(policy.start_budget * 2 + policy.probation);
                let waits = |trial: &Trial| {
                    !(trial.settled && trial.failed.is_none() && now + HAIR >= trial.at + mute)
                };
                self.trial.as_ref().is_some_and(waits).then_some("beside a canary")
            }
            _ => Some("what can wait, under a brake"),
        }
    }

    /// Why this brake should not have been engaged.
    fn unjustified(&self, policy: &Policy, e: &BrakeEngaged, now: Timestamp) -> Option<&'static str> {
        let reading = &e.reading;
        let suspects = share(reading.size, policy.brake_suspects_share).1.max(policy.brake_suspects_min);
        let everybody = reading.size >= policy.brake_suspects_min && reading.suspects >= reading.size;
        let observer = reading.circuit_open || reading.observer_score >= policy.score_brake;
        let after_failure = self.engaged.filter(|engaged| engaged.trigger == BrakeTrigger::CanaryFailed);
        let justified = match (e.mode, e.trigger) {
            (BrakeMode::Freeze, BrakeTrigger::Everybody) => everybody,
            (BrakeMode::Freeze, BrakeTrigger::Observer) => !everybody && observer,
            (BrakeMode::Freeze, BrakeTrigger::Suspicion) => {
                !everybody && !observer && reading.suspects_recent >= suspects
            }
            (BrakeMode::Freeze, BrakeTrigger::CanaryFailed) => self.trial.as_ref().is_some_and(|trial| {
                let late = !trial.settled && now + HAIR >= trial.at + delta(policy.start_budget);
                trial.failed.is_some() || late
            }),
            (BrakeMode::Canary, _) if after_failure.is_some() => {
                after_failure.is_some_and(|engaged| now + HAIR >= engaged.since + delta(policy.canary_retry))
            }
            (BrakeMode::Canary, _) => {
                let in_grace = e.trigger == BrakeTrigger::Grace;
                let distinct = e.members.iter().collect::<BTreeSet<_>>().len();
                e.count as usize >= too_many(policy, reading.size, in_grace) && e.count as usize == distinct
            }
            (BrakeMode::SlowStart, _) => self.trial.as_ref().is_some_and(|trial| trial.proved),
            (BrakeMode::Freeze, _) => false,
        };
        (!justified).then_some("nothing speaks for it")
    }

    /// Why this brake should not have been released.
    fn too_soon(
        &self,
        policy: &Policy,
        e: &BrakeReleased,
        awake: &Awake,
        (at, now): (Millis, Timestamp),
    ) -> Option<&'static str> {
        if e.reason == "operator" {
            return None;
        }
        let (suspects, _) = share(e.reading.size, policy.release_suspects_share);
        let calm = delta(policy.release_after);
        let observed = [BrakeTrigger::Suspicion, BrakeTrigger::Observer, BrakeTrigger::Everybody];
        // What engaged it may have been seen long before it was recorded.
        let fresh = self.engaged.is_some_and(|engaged| {
            observed.contains(&engaged.trigger)
                && now + TimeDelta::seconds(1) < engaged.since + calm
                && awake.throughout(engaged.at.saturating_sub(NOTICED_WITHIN), at)
        });
        if fresh || u128::from(e.reading.calm_ms) < policy.release_after.as_millis() {
            Some("it was not calm for long enough")
        } else if self.died(policy, now) >= too_many(policy, e.reading.size, self.in_grace) {
            Some("deaths go on")
        } else {
            let few = suspects.max(policy.brake_suspects_min.saturating_sub(1));
            (e.reading.suspects > few).then_some("too many are suspect")
        }
    }

    /// That a canary has failed, and nothing was done about it in time.
    fn overlooked(&self, policy: &Policy, awake: &Awake, at: Millis, now: Timestamp) -> bool {
        let Some(trial) = self.trial.as_ref().filter(|trial| !trial.proved) else { return false };
        let budget = delta(policy.start_budget);
        let late = (!trial.settled && now > trial.at + budget).then(|| {
            at.saturating_sub(u64::try_from((now - trial.at - budget).num_milliseconds()).unwrap_or(0))
        });
        let since = trial.failed.or(late);
        self.mode() == Some(BrakeMode::Canary)
            && since.is_some_and(|since| {
                at > since + NOTICED_WITHIN && awake.throughout(since, since + NOTICED_WITHIN)
            })
    }
}

/// A brake is engaged, changed and released for what the facts show, and lets through what its mode says.
pub(super) fn obeyed(history: History<'_>, policy: &Policy) -> Vec<String> {
    let (mut brake, awake, mut places) = (Brake::default(), Awake::of(history), Vec::new());
    for (at, event, recorded) in history.fleet() {
        let now = recorded.meta.at;
        let objection = match event {
            Event::RestartAdmitted(e) => brake.objection(policy, e, now),
            Event::BrakeEngaged(e) => brake.unjustified(policy, e, now),
            Event::BrakeReleased(e) => brake.too_soon(policy, e, &awake, (at, now)),
            _ => None,
        };
        if let Some(objection) = objection {
            places.push(format!("{}: {objection}: {event:?}", seconds(at)));
        }
        if brake.overlooked(policy, &awake, at, now) {
            places.push(format!("{}: a canary has failed, and the others still wait for it", seconds(at)));
            brake.trial = None;
        }
        brake.note(event, at, now);
    }
    places
}

/// Too many deaths at once are tried by canary.
pub(super) fn mass(history: History<'_>, policy: &Policy) -> Vec<String> {
    let (mut brake, mut places) = (Brake::default(), Vec::new());
    let mut holds: BTreeMap<HoldId, Scope> = BTreeMap::new();
    let mut parents: BTreeMap<WorkspaceId, WorkspaceId> = BTreeMap::new();
    // What was free to go when a hold ended, and the moment.
    let mut freed: Option<Timestamp> = None;
    for (at, recorded) in history.facts {
        let now = recorded.meta.at;
        let event = match &recorded.fact {
            Fact::Workspace(workspace::Event::Created(e)) => {
                brake.created += 1;
                parents.extend(recorded.subject().zip(e.parent));
                continue;
            }
            Fact::Workspace(_) => continue,
            Fact::Fleet(event) => event,
        };
        let many = too_many(policy, brake.created, brake.in_grace);
        let died = brake.note(event, *at, now);
        let engaged = brake.engaged.is_some_and(|engaged| {
            engaged.mode != BrakeMode::Freeze || engaged.trigger == BrakeTrigger::CanaryFailed
        });
        if died && !engaged && brake.died(policy, now) >= many {
            places.push(format!("{}: {} deaths", seconds(*at), brake.died(policy, now)));
        }
        match event {
            Event::HoldSet(e) => _ = holds.insert(e.hold, e.scope),
            Event::HoldReleased(e) => {
                holds.remove(&e.hold);
                let above = |id: &WorkspaceId| parents.get(id).copied();
                let held = |id: WorkspaceId| {
                    holds
                        .values()
                        .any(|scope| scope.covers(id, std::iter::successors(above(&id), above).take(64)))
                };
                let free = brake.waiting.values().filter(|(id, automatic)| *automatic && !held(*id)).count();
                freed = (free >= too_many(policy, brake.created, true)).then_some(now);
            }
            Event::RestartAdmitted(e)
                if e.cause.is_automatic() && brake.engaged.is_none() && freed == Some(now) =>
            {
                places.push(format!(
                    "{}: {} starts with the others when a hold ends",
                    seconds(*at),
                    e.workspace
                ));
            }
            _ => {}
        }
    }
    places
}

/// An engine that does not answer, and an observer that sees badly, freeze restarts.
pub(super) fn blind(history: History<'_>, policy: &Policy) -> Vec<String> {
    let awake = Awake::of(history);
    let (mut brake, mut places) = (Brake::default(), Vec::new());
    let (mut open, mut unwell): (Option<Millis>, Option<Millis>) = (None, None);
    for (at, event, recorded) in history.fleet() {
        for since in [open, unwell].into_iter().flatten() {
            let overdue = at > since + NOTICED_WITHIN && awake.throughout(since, since + NOTICED_WITHIN);
            if overdue && brake.engaged.is_none() {
                places.push(format!("{}: no brake since {}", seconds(at), seconds(since)));
                (open, unwell) = (None, None);
            }
        }
        match event {
            Event::PlatformStarted(_) => (open, unwell) = (None, None),
            Event::CircuitChanged(e) if e.state == CircuitState::Closed => open = None,
            Event::CircuitChanged(_) => _ = open.get_or_insert(at),
            Event::ObserverChanged(e) if e.score < policy.score_brake => unwell = None,
            Event::ObserverChanged(_) => _ = unwell.get_or_insert(at),
            _ => {}
        }
        brake.note(event, at, recorded.meta.at);
    }
    places
}

/// The grace ends only when the engine has shown what it runs.
pub(super) fn grace(history: History<'_>, _: &Policy) -> Vec<String> {
    let mut places = Vec::new();
    for (at, event, _) in history.fleet() {
        let before = || history.notes.iter().rev().skip_while(|note| note.at > at);
        let shown = || {
            before()
                .take_while(|note| note.what != What::Boot)
                .any(|note| note.what == What::Answered { list: true })
        };
        if matches!(event, Event::GraceEnded(_)) && !shown() {
            places.push(format!("{}: no list since the start", seconds(at)));
        }
    }
    places
}
