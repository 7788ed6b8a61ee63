//! The fields of everything that holds several workspaces.

use std::borrow::Cow;
use std::collections::BTreeMap;

use covalence_events::fleet::CircuitState;
use covalence_events::workspace::BackendKind;
use serde_json::Value;

use super::{Fields, Subject, say, scope};
use crate::supervision::{Cell, Supervision};
use crate::tail::time;

/// All of them but the policy.
pub(super) fn all(supervision: &Supervision) -> BTreeMap<Subject, Fields> {
    let mut subjects = BTreeMap::new();
    let mut platform = Fields::new();
    if let Some(observer) = supervision.platform().filter(|observer| observer.change.score > 0) {
        say(&mut platform, "observer_score", observer.change.score);
        say(&mut platform, "observer_since", time(observer.since));
    }
    if !platform.is_empty() {
        subjects.insert(Subject::Platform, platform);
    }
    for advised in supervision.advised() {
        let mut fields = Fields::new();
        say(&mut fields, "mode", "advise");
        say(&mut fields, "reason", advised.reason.as_str());
        say(&mut fields, "by", advised.by.to_string());
        say(&mut fields, "since", time(advised.since));
        subjects.insert(Subject::Mode(scope(advised.scope)), fields);
    }
    for hold in supervision.holds() {
        let mut fields = Fields::new();
        say(&mut fields, "scope", scope(hold.scope));
        say(&mut fields, "reason", hold.reason.as_str());
        say(&mut fields, "by", hold.by.to_string());
        say(&mut fields, "since", time(hold.since));
        say(&mut fields, "until", hold.until.map(time));
        say(&mut fields, "emergency", hold.emergency.then_some(true));
        subjects.insert(Subject::Hold(hold.id), fields);
    }
    for alarm in supervision.alarms() {
        let mut fields = Fields::new();
        say(&mut fields, "message", alarm.message.as_str());
        say(&mut fields, "since", time(alarm.since));
        subjects.insert(Subject::Alarm(alarm.kind.clone(), alarm.workspace), fields);
    }
    for (kind, one) in supervision.cells() {
        let fields = cell(supervision, kind, one);
        if !fields.is_empty() {
            subjects.insert(Subject::Cell(kind), fields);
        }
    }
    subjects
}

/// The policy in force with its parameters, flat; none in a log of before policies were recorded.
pub(super) fn policy(supervision: &Supervision) -> Option<Fields> {
    let policy = supervision.policy()?;
    let mut fields = Fields::new();
    say(&mut fields, "hash", policy.hash.to_string());
    say(&mut fields, "origin", policy.origin.as_str());
    say(&mut fields, "reason", policy.reason.as_str());
    say(&mut fields, "by", policy.by.to_string());
    say(&mut fields, "since", time(policy.since));
    flatten("parameters", &policy.parameters, &mut fields);
    Some(fields)
}

fn flatten(path: &str, value: &Value, fields: &mut Fields) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                flatten(&format!("{path}.{name}"), value, fields);
            }
        }
        Value::Null => {}
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            fields.insert(Cow::Owned(path.to_owned()), value.clone());
        }
    }
}

fn cell(supervision: &Supervision, kind: BackendKind, cell: &Cell) -> Fields {
    let mut fields = Fields::new();
    if let Some(brake) = &cell.brake {
        say(&mut fields, "brake", brake.mode.as_str());
        say(&mut fields, "brake_trigger", brake.trigger.as_str());
        say(&mut fields, "brake_count", brake.count);
        say(&mut fields, "brake_of", brake.of);
        say(&mut fields, "brake_threshold", brake.threshold);
        say(&mut fields, "brake_since", time(brake.since));
        say(&mut fields, "brake_let_last", brake.last_let.map(time));
    }
    if let Some(trial) = &cell.trial {
        say(&mut fields, "trial", trial.outcome.as_str());
        say(&mut fields, "trial_workspace", trial.workspace.to_string());
    }
    if let Some(tokens) = &cell.tokens {
        say(&mut fields, "tokens", tokens.level);
        say(&mut fields, "tokens_back", (!tokens.rewards.is_empty()).then_some(tokens.rewards.len()));
    }
    if let Some(observer) = cell.observer.as_ref().filter(|observer| observer.change.score > 0) {
        say(&mut fields, "observer_score", observer.change.score);
        say(&mut fields, "observer_since", time(observer.since));
    }
    if let Some(circuit) = &cell.circuit {
        let state = match circuit.state {
            CircuitState::Closed => "closed",
            CircuitState::HalfOpen => "half_open",
            CircuitState::Open => "open",
        };
        say(&mut fields, "circuit", state);
        say(&mut fields, "circuit_rule", circuit.rule.as_str());
        say(&mut fields, "circuit_since", time(circuit.since));
        say(&mut fields, "circuit_probe_at", circuit.probe_at.map(time));
    }
    say(&mut fields, "provisions_at_once", cell.provisions);
    say(&mut fields, "grace_until", supervision.grace(kind).map(|grace| time(grace.until)));
    fields
}
