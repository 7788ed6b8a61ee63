//! The fold of the fleet's stream. No rules: what was decided, with the numbers that it was decided with.

use std::collections::VecDeque;

use covalence_events::fleet::{
    AdmissionInputs, BrakeEngaged, BrakeMode, BrakeTrigger, CircuitState, Event, HoldSet, Mode,
    PolicyChanged, QuarantineProbed, RestartAdmitted, RestartDeferred, RestartOutcome, RestartSettled,
    RestartSuppressed, Strategy,
};
use covalence_events::workspace::{BackendKind, RestartCause};
use covalence_events::{EventId, Fact, Position, Recorded, RestartId, Timestamp, WorkspaceId};
use serde_json::Value;

use super::state::{
    Cell, ENDED_MAX, FLIGHT_REST, FlightDue, Flights, GlobalSecret, HISTORY, Hold, INCIDENTS_MAX, InFlight,
    Incident, POLICIES_MAX, Quarantine, State, Trial, Tried, Waiting,
};
use crate::context::Corrupt;
use crate::policy::brake::{Brake, Canary};
use crate::policy::bucket::Bucket;
use crate::policy::{Policy, admission};

/// Deaths that a cell remembers; a trigger's window is short.
const DEATHS_MAX: usize = 4096;

/// Where and when a fact was recorded, as far as the fold needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) position: Position,
    pub(super) id: EventId,
    pub(super) at: Timestamp,
}

/// The fold.
pub fn evolve(mut state: State, recorded: &Recorded) -> Result<State, Corrupt> {
    let Fact::Fleet(event) = &recorded.fact else {
        return Err(Corrupt::new(recorded, "a fact of another kind of stream"));
    };
    let place = Place { position: recorded.position, id: recorded.meta.id, at: recorded.meta.at };
    apply(&mut state, event, place);
    Ok(state)
}

#[expect(clippy::too_many_lines, reason = "one arm for every kind of fact, exhaustive on purpose")]
pub(super) fn apply(state: &mut State, event: &Event, place: Place) {
    match event {
        Event::RestartAdmitted(e) => admitted(state, e, place),
        Event::RestartDeferred(e) => deferred(state, e, place),
        Event::RestartSuppressed(e) => suppressed(state, e, place),
        Event::RestartSettled(e) => settled(state, e, place.at),
        Event::RestartProved(e) => proved(state, e.restart, e.cell, place.at),
        Event::BrakeEngaged(e) => {
            braked(state, e, place.at);
            ask_for_flight(&mut state.flights, e.cell, place);
        }
        Event::BrakeReleased(e) => {
            let cell = state.cells.entry(e.cell).or_default();
            (cell.brake, cell.trial) = (None, None);
            cell.released = Some(place.at);
        }
        Event::HoldSet(e) => held(state, e, place.at),
        Event::HoldReleased(e) => drop(state.holds.remove(&e.hold)),
        Event::ModeSet(e) => {
            state.advised.retain(|scope| *scope != e.scope);
            if e.mode == Mode::Advise {
                state.advised.push(e.scope);
            }
        }
        Event::SecretSet(e) => keep(state, &e.name, Some(e.value.clone()), place),
        Event::SecretRemoved(e) => keep(state, &e.name, None, place),
        Event::OrgTokenIssued(e) => drop(state.org_tokens.insert(e.token)),
        Event::OrgTokenRevoked(e) => drop(state.org_tokens.remove(&e.token)),
        Event::StrategySet(e) => {
            state.strategies.remove(&e.team);
            if e.strategy != Strategy::OneForOne {
                state.strategies.insert(e.team, e.strategy);
            }
        }
        Event::PolicyChanged(e) => policy_changed(state, e),
        Event::QuarantineProbed(e) => quarantine_probed(state, e, place.at),
        Event::QuarantineLifted(e) => drop(state.quarantined.remove(&e.workspace)),
        Event::AlarmRaised(e) => drop(state.alarms.insert((e.kind.clone(), e.workspace))),
        Event::AlarmResolved(e) => drop(state.alarms.remove(&(e.kind.clone(), e.workspace))),
        Event::EngineLost(e) => drop(state.lost.insert(e.engine.clone(), place.at)),
        Event::EngineFound(e) => drop(state.lost.remove(&e.engine)),
        // What was let through while the engine could start nothing says nothing, and holds nobody up any longer.
        Event::CircuitChanged(e) if e.state == CircuitState::Closed => let_next(state, e.cell),
        Event::CircuitChanged(_) => {}
        Event::StrangerFound(e) => state.strangers.push(e.instance.clone()),
        // A new run of the platform looks at its backends afresh.
        Event::PlatformStarted(_) => {
            state.lost.clear();
            state.strangers.clear();
            state.grace = None;
        }
        Event::GraceStarted(e) => {
            state.grace = Some((e.until, place.at));
            for cell in state.cells.values_mut() {
                cell.grace_over = false;
            }
        }
        Event::GraceEnded(e) => state.cells.entry(e.cell).or_default().grace_over = true,
        Event::FlightRecorded(_) => state.flights = Flights { last: Some(place.at), due: None },
        Event::FlightLost(_) => state.flights.due = None,
        Event::IncidentOpened(e) => {
            if state.incidents.len() == INCIDENTS_MAX {
                state.incidents.pop_first();
            }
            let opened = Incident { cell: e.cell, opened: place.at, closed: false };
            state.incidents.insert(e.incident, opened);
        }
        Event::IncidentClosed(e) => {
            if let Some(incident) = state.incidents.get_mut(&e.incident) {
                incident.closed = true;
            }
        }
        // For people: no decision rests on them.
        Event::PlatformStopped(_)
        | Event::TailRepaired(_)
        | Event::LogMended(_)
        | Event::ObserverChanged(_)
        | Event::ProvisionLimitChanged(_)
        | Event::IncidentNoted(_)
        | Event::MasterKeyRotated(_)
        | Event::InvariantViolated(_) => {}
    }
}

fn cell_of(inputs: Option<&AdmissionInputs>) -> BackendKind {
    // Facts of before the inputs were kept don't say; then there was one limit for all.
    inputs.map_or(BackendKind::Process, |inputs| inputs.cell)
}

fn keep(state: &mut State, name: &str, value: Option<String>, place: Place) {
    let secret = GlobalSecret { value, changed: place.at, because: place.id };
    state.secrets.insert(name.to_owned(), secret);
}

fn admitted(state: &mut State, e: &RestartAdmitted, place: Place) {
    let inputs = e.inputs.as_deref();
    let kind = cell_of(inputs);
    note_death(state, (e.workspace, e.restart, e.cause), kind, place.at);
    state.waiting.remove(&e.restart);
    state.proving.retain(|_, (workspace, _)| *workspace != e.workspace);
    let admission = (place.position, place.id);
    let automatic = e.cause.is_automatic();
    state.in_flight.insert(e.restart, InFlight { workspace: e.workspace, cell: kind, automatic, admission });
    if automatic {
        let history = state.history.entry(e.workspace).or_default();
        history.retain(|earlier| earlier.at > place.at - HISTORY);
        history.push(Tried { at: place.at, unstarted: false });
    }
    if let Some(quarantine) = state.quarantined.get_mut(&e.workspace) {
        quarantine.open = false;
    }
    let policy = &state.policy;
    let cell = state.cells.entry(kind).or_default();
    if let (Some(cost), Some(_)) = (e.cost, inputs) {
        let bucket = cell.bucket.unwrap_or_else(|| Bucket::full(policy, place.at));
        cell.bucket = Some(bucket.take(policy, cost, place.at));
    }
    if let Some(brake) = &mut cell.brake
        && e.cause == RestartCause::Death
    {
        brake.last_let = Some(place.at);
        if brake.mode == BrakeMode::Canary {
            cell.trial = Some(Trial {
                restart: e.restart,
                workspace: e.workspace,
                at: place.at,
                canary: Canary::Trying,
                settled: false,
            });
        }
    }
}

fn deferred(state: &mut State, e: &RestartDeferred, place: Place) {
    let inputs = e.inputs.as_deref();
    let kind = cell_of(inputs);
    note_death(state, (e.workspace, e.restart, e.cause), kind, place.at);
    let earlier = state.waiting.remove(&e.restart);
    let waiting = Waiting {
        workspace: e.workspace,
        cause: e.cause,
        cell: kind,
        since: inputs.map_or_else(|| earlier.as_ref().map_or(place.at, |w| w.since), |i| i.requested_at),
        order: earlier.as_ref().map_or(place.position, |w| w.order),
        rule: e.rule.clone(),
        until: e.until,
        waited: earlier.is_some_and(|w| w.waited || w.rule == admission::BACKOFF),
        forced: inputs.is_some_and(|inputs| inputs.forced),
        half_open: inputs.and_then(|inputs| inputs.half_open),
        deferral: place.id,
    };
    state.waiting.insert(e.restart, waiting);
}

fn suppressed(state: &mut State, e: &RestartSuppressed, place: Place) {
    note_death(state, (e.workspace, e.restart, e.cause), cell_of(e.inputs.as_deref()), place.at);
    state.waiting.remove(&e.restart);
    ended(state, e.workspace, e.restart);
    if e.rule == admission::INTENSITY {
        let fresh = Quarantine { tries: 0, last: place.at, open: false };
        let quarantine = state.quarantined.entry(e.workspace).or_insert(fresh);
        quarantine.last = place.at;
    }
}

/// A proven death that is heard of for the first time. A canary that dies again has failed.
fn note_death(
    state: &mut State,
    (workspace, restart, cause): (WorkspaceId, RestartId, RestartCause),
    kind: BackendKind,
    at: Timestamp,
) {
    if cause != RestartCause::Death || state.waiting.contains_key(&restart) {
        return;
    }
    let cell = state.cells.entry(kind).or_default();
    if let Some(trial) = &mut cell.trial
        && trial.workspace == workspace
        && trial.restart != restart
        && trial.canary == Canary::Trying
    {
        trial.canary = Canary::Failed;
    }
    if cell.deaths.len() == DEATHS_MAX {
        cell.deaths.pop_front();
    }
    cell.deaths.push_back((workspace, at));
    forget(&mut cell.deaths, at - HISTORY);
}

fn forget(deaths: &mut VecDeque<(WorkspaceId, Timestamp)>, before: Timestamp) {
    while deaths.front().is_some_and(|(_, at)| *at < before) {
        deaths.pop_front();
    }
}

fn ended(state: &mut State, workspace: WorkspaceId, restart: RestartId) {
    let ended = state.ended.entry(workspace).or_default();
    if ended.len() == ENDED_MAX {
        ended.pop_front();
    }
    ended.push_back(restart);
}

fn settled(state: &mut State, e: &RestartSettled, at: Timestamp) {
    state.waiting.remove(&e.restart);
    ended(state, e.workspace, e.restart);
    let Some(in_flight) = state.in_flight.remove(&e.restart) else { return };
    if e.outcome == RestartOutcome::Online {
        state.proving.insert(e.restart, (e.workspace, in_flight.cell));
        let_next(state, in_flight.cell);
    }
    let cell: &mut Cell = state.cells.entry(in_flight.cell).or_default();
    if let Some(trial) = cell.trial.as_mut().filter(|trial| trial.restart == e.restart) {
        match e.outcome {
            RestartOutcome::Online => trial.settled = true,
            RestartOutcome::Failed | RestartOutcome::Unstarted => trial.canary = Canary::Failed,
            // It was not needed, or not wanted: another one is tried.
            RestartOutcome::Abandoned => cell.trial = None,
        }
    }
    if e.outcome == RestartOutcome::Abandoned && in_flight.automatic {
        // Nothing was restarted: it costs nothing, and does not count towards a crash loop.
        cell.bucket = cell.bucket.map(|bucket| bucket.reward(&state.policy, at));
        if let Some(history) = state.history.get_mut(&e.workspace) {
            history.pop();
        }
    }
    if e.outcome == RestartOutcome::Unstarted
        && in_flight.automatic
        && let Some(tried) = state.history.get_mut(&e.workspace).and_then(|history| history.last_mut())
    {
        tried.unstarted = true;
    }
}

/// The next proven death needs not wait where the freeze is about the engine alone: the one before it came back, or could
/// not, and the engine that confirms this death carries out its start as well.
fn let_next(state: &mut State, kind: BackendKind) {
    let brake = state.cells.get_mut(&kind).and_then(|cell| cell.brake.as_mut());
    if let Some(brake) = brake.filter(|brake| brake.trigger == BrakeTrigger::Observer) {
        brake.last_let = None;
    }
}

fn proved(state: &mut State, restart: RestartId, kind: BackendKind, at: Timestamp) {
    state.proving.remove(&restart);
    let policy = &state.policy;
    let cell = state.cells.entry(kind).or_default();
    cell.bucket = cell.bucket.map(|bucket| bucket.reward(policy, at));
    if let Some(trial) = cell.trial.as_mut().filter(|trial| trial.restart == restart) {
        trial.canary = Canary::Proved;
    }
}

fn braked(state: &mut State, e: &BrakeEngaged, at: Timestamp) {
    let cell = state.cells.entry(e.cell).or_default();
    let since = cell.brake.map_or(at, |brake| brake.since);
    // The pace of proven deaths goes on from one mode to the next.
    let last_let = cell.brake.and_then(|brake| brake.last_let);
    if e.mode == BrakeMode::Canary {
        cell.trial = None;
    }
    cell.brake = Some(Brake { mode: e.mode, trigger: e.trigger, since, mode_since: at, last_let });
}

fn ask_for_flight(flights: &mut Flights, cell: BackendKind, place: Place) {
    // One that is due for as long as this will not come any more.
    let last = flights.last.max(flights.due.map(|due| due.at));
    if last.is_none_or(|last| place.at >= last + FLIGHT_REST) {
        flights.due = Some(FlightDue { brake: place.id, cell, at: place.at });
    }
}

fn held(state: &mut State, e: &HoldSet, at: Timestamp) {
    let hold =
        Hold { scope: e.scope, reason: e.reason.clone(), since: at, until: e.until, emergency: e.emergency };
    state.holds.insert(e.hold, hold);
}

fn policy_changed(state: &mut State, e: &PolicyChanged) {
    let policy = match &e.parameters {
        Value::Object(document) => Policy::restored(document),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Policy::default()
        }
    };
    if e.origin == super::decide::FROM_CONFIGURATION {
        state.configured = Some(e.hash);
    }
    let before = std::mem::replace(&mut state.policy, policy);
    if state.earlier.len() == POLICIES_MAX {
        state.earlier.pop_front();
    }
    state.earlier.push_back((e.from, before));
}

fn quarantine_probed(state: &mut State, e: &QuarantineProbed, at: Timestamp) {
    if let Some(quarantine) = state.quarantined.get_mut(&e.workspace) {
        quarantine.tries = e.attempt;
        quarantine.last = at;
        quarantine.open = true;
    }
}
