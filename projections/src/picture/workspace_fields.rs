//! The fields of a workspace: its row in the roster, and what its supervision knows.

use covalence_events::workspace::DeliveryMode;
use serde_json::Value;

use super::{Fields, say};
use crate::roster::{Card, Instance, RestartStage, Row};
use crate::supervision::Supervision;
use crate::tail::time;

/// All of them.
pub(super) fn of(row: &Row, supervision: &Supervision) -> Fields {
    let mut fields = Fields::new();
    identity(&mut fields, row);
    address(&mut fields, row);
    reported(&mut fields, row);
    life(&mut fields, row);
    supervised(&mut fields, row, supervision);
    fields
}

fn identity(fields: &mut Fields, row: &Row) {
    say(fields, "name", row.name.as_str());
    say(fields, "role", row.role.as_deref());
    say(fields, "tier", row.tier);
    say(fields, "backend", row.backend.as_str());
    say(fields, "runtime", row.runtime.as_ref());
    say(fields, "model", row.model.as_deref());
    say(fields, "template", row.template.as_deref());
    say(fields, "entry", row.entry.as_deref());
    say(fields, "parent", row.parent.map(|id| id.to_string()));
    say(fields, "workspace_dir", row.workspace_dir.as_deref());
    say(fields, "workspace_access", row.workspace_access.as_str());
    say(fields, "budget_limit", row.budget_limit);
    say(fields, "max_concurrent_tasks", row.max_concurrent_tasks);
    say(fields, "x", row.x);
    say(fields, "y", row.y);
    say(fields, "collapsed", row.collapsed);
    say(fields, "created_at", time(row.created_at));
    say(fields, "updated_at", time(row.updated_at));
    say(fields, "removed_at", row.removed_at.map(time));
    say(fields, "forwarded_to", row.forwarded_to.map(|id| id.to_string()));
    say(fields, "agent", row.assigned.as_deref().map(|assigned| assigned.model.as_str()));
}

fn address(fields: &mut Fields, row: &Row) {
    say(fields, "url", row.url.as_deref());
    say(fields, "url_trusted", row.url_trusted);
    say(fields, "delivery_mode", row.delivery_mode.map(DeliveryMode::as_str));
    say(fields, "agent_card", row.agent_card.as_ref().map(Card::to_value));
}

/// What the agent says of itself.
fn reported(fields: &mut Fields, row: &Row) {
    say(fields, "monthly_spend", row.monthly_spend);
    say(fields, "last_acked_seq", row.last_acked_seq);
    say(fields, "active_tasks", row.active_tasks);
    say(fields, "uptime_seconds", row.uptime_seconds);
    say(fields, "current_task", row.current_task.as_str());
    say(fields, "last_error_rate", row.last_error_rate);
    say(fields, "last_sample_error", row.last_sample_error.as_str());
    say(fields, "runtime_state", row.runtime_state.as_str());
    say(fields, "last_heartbeat_at", row.last_heartbeat_at.map(time));
    say(fields, "last_outbound_at", row.last_outbound_at.map(time));
}

fn life(fields: &mut Fields, row: &Row) {
    say(fields, "status", row.status.as_str());
    say(fields, "status_since", time(row.status_since));
    say(fields, "generation", row.generation.0);
    let (instance, which, error) = match &row.instance {
        Instance::None => ("none", None, None),
        Instance::Starting => ("starting", None, None),
        Instance::Running { instance } => ("running", instance.as_ref().map(|one| one.id.as_str()), None),
        Instance::Stopping { error, .. } => ("stopping", None, error.as_deref()),
        Instance::Unknown { .. } => ("unknown", None, None),
    };
    say(fields, "instance", instance);
    say(fields, "instance_id", which);
    say(fields, "stop_error", error);
    say(fields, "image", row.image.as_deref());
    say(fields, "withheld", row.withheld.iter().map(|one| Value::from(one.as_str())).collect::<Vec<_>>());
    if let Some(failure) = &row.failure {
        say(fields, "failure", failure.code.as_str());
        say(fields, "failure_message", failure.message.as_str());
        say(fields, "failure_generation", failure.generation.0);
    }
    say(fields, "restarts", row.restarts);
    if let Some(restart) = &row.restart {
        say(fields, "restart", restart.stage.as_str());
        say(fields, "restart_id", restart.id.to_string());
        say(fields, "restart_cause", restart.cause.as_str());
        say(fields, "restart_requested_at", time(restart.requested_at));
        let (rule, until) = match &restart.stage {
            RestartStage::Deferred { rule, until } => (Some(rule.as_str()), *until),
            RestartStage::Draining { until } => (None, Some(*until)),
            RestartStage::Requested | RestartStage::Admitted | RestartStage::Started => (None, None),
        };
        say(fields, "restart_rule", rule);
        say(fields, "restart_until", until.map(time));
    }
}

fn supervised(fields: &mut Fields, row: &Row, supervision: &Supervision) {
    say(fields, "supervision", row.standing.condition.as_str());
    say(fields, "supervision_rule", row.standing.rule.as_deref());
    say(fields, "supervision_since", time(row.standing.since));
    say(fields, "advice", row.advice.as_ref().map(|advice| advice.code));
    if let Some(evidence) = &row.evidence {
        say(fields, "evidence", evidence.code.as_str());
        say(fields, "evidence_detail", evidence.detail.as_str());
        say(fields, "evidence_at", time(evidence.at));
        say(fields, "exit_status", evidence.exit_status);
    }
    if let Some(quarantine) = supervision.quarantine(row.id) {
        say(fields, "quarantine_since", time(quarantine.since));
        say(fields, "quarantine_tries", quarantine.tries);
    }
    let flight = supervision.in_flight().find(|(_, one)| one.workspace == row.id);
    say(fields, "in_flight_since", flight.map(|(_, one)| time(one.since)));
    let waiting = supervision.waiting().find(|(_, one)| one.workspace == row.id);
    say(fields, "waiting_for", waiting.map(|(_, one)| one.rule.as_str()));
    say(fields, "strategy", supervision.strategy(row.id).as_str());
    if let Some(watch) = supervision.watch(row.id) {
        if let Some(suspicion) = &watch.suspicion {
            say(fields, "suspect_since", time(suspicion.since));
        }
        say(fields, "verdict_withheld", watch.withheld.as_ref().map(|one| one.rule.as_str()));
        let against = watch.doubts.keys().map(|source| crate::roster::standing::source_word(*source));
        say(fields, "speaks_against_it", against.map(Value::from).collect::<Vec<_>>());
    }
}
