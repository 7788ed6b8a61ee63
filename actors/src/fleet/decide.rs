//! State, command and context to facts. Pure; what it can't place, it ignores, and only people can be refused.
//!
//! One command may lead to several decisions that build on each other (a slot comes free, the next is admitted, the slot is
//! taken again), so facts are folded into a draft of the state as they are decided.

use std::borrow::Cow;

use covalence_events::fleet::{
    AlarmRaised, AlarmResolved, EngineFound, Event, FlightLost, FlightRecorded, GraceStarted,
    PlatformStarted, RestartOutcome, RestartProved, RestartSettled,
};
use covalence_events::workspace::BackendKind;
use covalence_events::{EventId, Position, RestartId, Timestamp, WorkspaceId};

use super::command::Command;
use super::evolve::{Place, apply};
use super::state::State;
use crate::context::{Context, Decision, millis};
use crate::policy::Policy;
use crate::workspace::Rejection;

mod admit;
pub(crate) mod braking;
mod incidents;
mod persons;
mod secrets;
mod tokens;

pub(super) use persons::FROM_CONFIGURATION;

/// Facts so far, and the state as it will be after them.
struct Draft<'a> {
    state: Cow<'a, State>,
    facts: Decision<Event>,
    ctx: &'a Context<'a>,
}

impl Draft<'_> {
    fn push(&mut self, event: impl Into<Event>) -> EventId {
        self.push_because(self.ctx.origin.causation, event)
    }

    fn push_because(&mut self, cause: Option<EventId>, event: impl Into<Event>) -> EventId {
        let event = event.into();
        let id = self.facts.push_because(self.ctx, cause, event.clone());
        // Facts of one decision come after everything that waits already.
        let position = Position(u64::MAX - 1_000_000 + self.facts.facts().len() as u64);
        apply(self.state.to_mut(), &event, Place { position, id, at: self.ctx.at() });
        id
    }

    fn now(&self) -> Timestamp {
        self.ctx.at()
    }

    fn policy(&self) -> &Policy {
        &self.state.policy
    }

    /// Says once that something lasts.
    fn raise(&mut self, kind: String, workspace: Option<WorkspaceId>, message: String) {
        if !self.state.alarms.contains(&(kind.clone(), workspace)) {
            self.push(AlarmRaised { kind, workspace, message });
        }
    }

    fn resolve(&mut self, kind: String, workspace: Option<WorkspaceId>, because: Option<EventId>) {
        if self.state.alarms.contains(&(kind.clone(), workspace)) {
            self.push_because(because, AlarmResolved { kind, workspace });
        }
    }
}

/// State, command and context to facts.
pub fn decide(state: &State, command: &Command, ctx: &Context<'_>) -> Result<Decision<Event>, Rejection> {
    let mut draft = Draft { state: Cow::Borrowed(state), facts: Decision::default(), ctx };
    match command {
        Command::RequestAdmission { workspace, restart, cause, forced } => {
            admit::requested(&mut draft, (*workspace, *restart), *cause, *forced);
        }
        Command::SettleRestart { workspace, restart, outcome } => {
            settle(&mut draft, *workspace, *restart, *outcome);
        }
        Command::ProveRestart { workspace, restart } => prove(&mut draft, *workspace, *restart),
        Command::RecordSurvey(survey) => braking::survey(&mut draft, survey),
        Command::RecordDeadline => due(&mut draft),
        Command::SetHold { .. }
        | Command::ReleaseHold { .. }
        | Command::ReleaseBrake { .. }
        | Command::LiftQuarantine { .. }
        | Command::SetMode { .. }
        | Command::SetStrategy { .. }
        | Command::SetPolicy { .. }
        | Command::RollBackPolicy { .. } => persons::asked(&mut draft, command)?,
        Command::SetSecret { name, value } => secrets::set(&mut draft, name, value),
        Command::RemoveSecret { name } => secrets::remove(&mut draft, name)?,
        Command::IssueOrgToken(token) => tokens::issue(&mut draft, token)?,
        Command::RevokeOrgToken { token } => tokens::revoke(&mut draft, *token)?,
        Command::OpenIncident(_) | Command::NoteIncident { .. } | Command::CloseIncident { .. } => {
            incidents::asked(&mut draft, command)?;
        }
        Command::RaiseAlarm { kind, workspace, message } => {
            draft.raise(kind.clone(), *workspace, message.clone());
        }
        Command::ResolveAlarm { kind, workspace } => draft.resolve(kind.clone(), *workspace, None),
        Command::Configure(policy) => persons::configured(&mut draft, policy),
        Command::RecordStart(started) => start(&mut draft, started),
        Command::RecordEngineFound { engine } => found(&mut draft, engine),
        Command::RecordEngineLost(lost) => {
            if !draft.state.lost.contains_key(&lost.engine) {
                draft.push(lost.clone());
            }
        }
        Command::RecordStranger(stranger) => {
            if !draft.state.strangers.contains(&stranger.instance) {
                draft.push(stranger.clone());
            }
        }
        Command::RecordStop(stopped) => drop(draft.push(stopped.clone())),
        Command::RecordRepair(repaired) => drop(draft.push(repaired.clone())),
        Command::RecordMended(mended) => drop(draft.push(mended.clone())),
        Command::RecordObserver(changed) => drop(draft.push(changed.clone())),
        Command::RecordCircuit(changed) => {
            draft.push(changed.clone());
            admit::waiting(&mut draft);
        }
        Command::RecordProvisionLimit(changed) => drop(draft.push(changed.clone())),
        Command::RecordKeyRotated(rotated) => drop(draft.push(rotated.clone())),
        Command::RecordFlight(flight) => flown(&mut draft, flight),
    }
    Ok(draft.facts)
}

/// A flight, unless the brake that it comes from has one already.
fn flown(draft: &mut Draft<'_>, flight: &Result<Box<FlightRecorded>, FlightLost>) {
    let due = draft.state.flights.due.map(|due| due.brake);
    if due.is_some() && due == draft.ctx.origin.causation {
        match flight {
            Ok(recorded) => draft.push((**recorded).clone()),
            Err(lost) => draft.push(lost.clone()),
        };
    }
}

fn settle(draft: &mut Draft<'_>, workspace: WorkspaceId, restart: RestartId, outcome: RestartOutcome) {
    let known = draft.state.waiting.contains_key(&restart) || draft.state.in_flight.contains_key(&restart);
    if known {
        draft.push(RestartSettled { workspace, restart, outcome });
        braking::canaries(draft);
        admit::waiting(draft);
    }
}

fn prove(draft: &mut Draft<'_>, workspace: WorkspaceId, restart: RestartId) {
    if let Some((_, cell)) = draft.state.proving.get(&restart).copied() {
        let proved = draft.push(RestartProved { workspace, restart, cell });
        persons::lift_quarantine(draft, workspace, "proved", Some(proved));
        braking::canaries(draft);
        admit::waiting(draft);
    }
}

fn start(draft: &mut Draft<'_>, started: &PlatformStarted) {
    draft.push(started.clone());
    let until = draft.now() + draft.policy().grace;
    let cells = [BackendKind::Process, BackendKind::Docker];
    let workspaces = cells.map(|cell| draft.ctx.roster.size(cell)).iter().sum();
    draft.push(GraceStarted { workspaces, until });
    // They were loops of the run before.
    let over = draft.state.alarms.iter().filter(|(kind, _)| kind.starts_with(LOOP_STUCK)).cloned();
    for (kind, workspace) in over.collect::<Vec<_>>() {
        draft.resolve(kind, workspace, None);
    }
}

fn found(draft: &mut Draft<'_>, engine: &str) {
    if let Some(since) = draft.state.lost.get(engine).copied() {
        let after_ms = millis(draft.now() - since);
        let found = draft.push(EngineFound { engine: engine.to_owned(), after_ms });
        draft.resolve(engine_alarm(engine), None, Some(found));
    }
}

/// The kind of alarm that says that a loop of the platform is stuck.
pub(crate) fn loop_alarm(name: &str) -> String {
    format!("{LOOP_STUCK}{name}")
}

const LOOP_STUCK: &str = "loop_stuck:";

fn engine_alarm(engine: &str) -> String {
    format!("engine_unknown:{engine}")
}

fn due(draft: &mut Draft<'_>) {
    persons::expire(draft);
    admit::probe_quarantines(draft);
    braking::canaries(draft);
    admit::waiting(draft);
    alarms(draft);
}

/// What has lasted for long enough that a person should know.
fn alarms(draft: &mut Draft<'_>) {
    let (now, patience) = (draft.now(), draft.policy().unknown_alarm);
    let lasting: Vec<_> = draft.state.lost.iter().map(|(engine, since)| (engine.clone(), *since)).collect();
    for (engine, since) in lasting.into_iter().filter(|(_, since)| now >= *since + patience) {
        let minutes = (now - since).num_minutes();
        let message = format!(
            "the {engine} backend has not answered for {minutes} min; its workspaces are left alone until it does"
        );
        draft.raise(engine_alarm(&engine), None, message);
    }
    braking::alarms(draft);
    persons::warn_of_expiry(draft);
}

/// When the supervisor has to look again though nothing happens.
pub fn deadline(state: &State) -> Option<Timestamp> {
    let policy = &state.policy;
    let deferred = state.waiting.values().filter_map(|waiting| waiting.until);
    let lost = state.lost.iter().filter(|(engine, _)| !state.alarms.contains(&(engine_alarm(engine), None)));
    let lost = lost.map(|(_, since)| *since + policy.unknown_alarm);
    let quarantines = state.quarantined.values().filter(|q| !q.open && q.tries < policy.quarantine_tries);
    let quarantines = quarantines.map(|q| q.last + policy.quarantine_pause);
    deferred
        .chain(lost)
        .chain(quarantines)
        .chain(braking::deadlines(state))
        .chain(persons::deadlines(state))
        .min()
}

/// How many of them a fact names at most: a list of thousands helps nobody.
const MEMBERS_MAX: usize = 100;

fn members(of: impl IntoIterator<Item = WorkspaceId>) -> Vec<WorkspaceId> {
    of.into_iter().take(MEMBERS_MAX).collect()
}
