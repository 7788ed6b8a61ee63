//! The state of supervision as numbers, read afresh at each scrape.

use covalence_actors::policy::admission::RULES;
use covalence_events::fleet::{BrakeMode, CircuitState, Scope};
use covalence_events::workspace::BackendKind;
use covalence_projections::roster::Removed;
use covalence_projections::supervision::Cell;
use metrics::gauge;

use super::room::{Around, count};
use crate::conditions;
use crate::http::HttpState;
use crate::metrics_names as names;

/// The first words of the kinds of alarms that there are. Another one is shown too while it is on.
const KINDS: [&str; 5] = ["engine_unknown", "crash_loop", "brake", "hold_expiring", "loop_stuck"];

/// Sets every gauge.
pub(crate) fn set(state: &HttpState) {
    let at = state.clock.now().at;
    let policy = state.runtime.policy();
    let rows = state.views.roster.read().list(Removed::Hide);
    let supervision = state.views.supervision.read();
    let around = Around { policy: &policy, supervision: &supervision, rows: &rows, at };
    for kind in state.backends.keys().filter(|kind| **kind != BackendKind::External) {
        let (name, view) = (kind.as_str(), around.cell(*kind));
        gauge!(names::TOKENS, names::CELL => name).set(view.tokens.level);
        gauge!(names::IN_FLIGHT, names::CELL => name).set(view.in_flight);
        gauge!(names::ALLOWED, names::CELL => name).set(view.allowed.death.restarts);
        gauge!(names::OBSERVER_SCORE, names::CELL => name).set(view.observer.score);
        gauge!(names::SUSPECTS, names::CELL => name).set(view.suspects);
        let cell = supervision.cell(*kind);
        let mode = cell.and_then(|cell| cell.brake.as_ref()).map(|brake| brake.mode);
        gauge!(names::BRAKE, names::CELL => name).set(brake_level(mode));
        let circuit = cell.map_or(CircuitState::Closed, Cell::circuit_state);
        gauge!(names::CIRCUIT, names::CELL => name).set(circuit_level(circuit));
    }
    let oldest = supervision.suspects().map(|(_, suspicion)| suspicion.since).min();
    let age = oldest.map_or(0.0, |since| (at - since).to_std().unwrap_or_default().as_secs_f64());
    gauge!(names::SUSPICION_AGE).set(age);
    gauge!(names::QUARANTINED).set(count(supervision.quarantined().count()));
    for rule in RULES {
        let waiting = supervision.waiting().filter(|(_, one)| one.rule == *rule).count();
        gauge!(names::WAITING, "rule" => *rule).set(count(waiting));
    }
    let first = |kind: &str| kind.split(':').next().unwrap_or_default().to_owned();
    let recorded = supervision.alarms().filter(|alarm| !conditions::is_ours(&alarm.kind));
    let own = state.conditions.list();
    let on: Vec<String> = recorded
        .map(|alarm| first(&alarm.kind))
        .chain(own.iter().map(|condition| first(&condition.kind)))
        .collect();
    let kinds =
        KINDS.iter().chain(&conditions::KINDS).map(|kind| (*kind).to_owned()).chain(on.iter().cloned());
    for kind in kinds {
        let active = on.iter().filter(|one| **one == kind).count();
        gauge!(names::ALARMS, "kind" => kind).set(count(active));
    }
    for scope in ["fleet", "subtree", "workspace"] {
        let held = supervision.holds().filter(|hold| scope_word(&hold.scope) == scope).count();
        gauge!(names::HOLDS, "scope" => scope).set(count(held));
    }
    for pulse in state.runtime.pulses() {
        gauge!(names::LOOP_AGE, "loop" => pulse.name()).set(pulse.age().as_secs_f64());
    }
    let advised = supervision.advised().iter().any(|one| one.scope == Scope::Fleet);
    gauge!(names::ADVISE_ONLY).set(u8::from(advised));
}

const fn scope_word(scope: &Scope) -> &'static str {
    match scope {
        Scope::Fleet => "fleet",
        Scope::Subtree(_) => "subtree",
        Scope::Workspace(_) => "workspace",
    }
}

/// A brake's mode as a number: the more it holds back, the higher.
const fn brake_level(mode: Option<BrakeMode>) -> u8 {
    match mode {
        None => 0,
        Some(BrakeMode::SlowStart) => 1,
        Some(BrakeMode::Canary) => 2,
        Some(BrakeMode::Freeze) => 3,
    }
}

/// A circuit's state as a number.
const fn circuit_level(state: CircuitState) -> u8 {
    match state {
        CircuitState::Closed => 0,
        CircuitState::HalfOpen => 1,
        CircuitState::Open => 2,
    }
}
