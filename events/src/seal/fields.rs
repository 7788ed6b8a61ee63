//! Which fields of which facts are sealed, and why the others are not.
//!
//! Every field that can hold text is named here, by the frozen tag of its fact; a test holds this table to the types. What
//! was sealed once stays in the list for ever, or old logs become unreadable.

use std::collections::HashMap;
use std::sync::OnceLock;

/// The text fields of one kind of fact.
#[derive(Debug)]
pub struct Fields {
    /// The frozen wire tag.
    pub tag: &'static str,
    /// Those that are sealed: what persons and agents wrote, what names or finds them, what only the workspace may know.
    pub sealed: &'static [&'static str],
    /// Those that are not, each with the reason.
    pub plain: &'static [(&'static str, &'static str)],
}

/// The fields of a kind of fact that are sealed; none for a tag that has no text worth sealing.
pub(super) fn sealed(tag: &str) -> &'static [&'static str] {
    static BY_TAG: OnceLock<HashMap<&'static str, &'static [&'static str]>> = OnceLock::new();
    let by_tag = BY_TAG.get_or_init(|| {
        ALL.iter()
            .filter(|fields| !fields.sealed.is_empty())
            .map(|fields| (fields.tag, fields.sealed))
            .collect()
    });
    by_tag.get(tag).copied().unwrap_or_default()
}

const WORD: &str = "one of a few words of ours";
const PARAMETER: &str = "a parameter of the policy";
const OPERATORS: &str = "a name that the operator's configuration gives";
const INSTANCE: &str = "a name that the engine or the kernel gave";
const OUR_ADDRESS: &str = "an address of our own backend";
const SEALED: &str = "sealed already, by the vault";
const DIGEST: &str = "a digest, which nothing can be read from";

const fn fields(
    tag: &'static str,
    sealed: &'static [&'static str],
    plain: &'static [(&'static str, &'static str)],
) -> Fields {
    Fields { tag, sealed, plain }
}

/// Every kind of fact that has text.
pub const ALL: &[Fields] = &[
    fields(
        "workspace.created.v1",
        &["name", "role", "entry", "workspace_dir", "url"],
        &[("runtime", OPERATORS), ("model", "a product's name"), ("template", OPERATORS)],
    ),
    fields("workspace.renamed.v1", &["name"], &[]),
    fields("workspace.role_changed.v1", &["role"], &[]),
    fields("workspace.runtime_changed.v1", &[], &[("runtime", OPERATORS)]),
    fields("workspace.directory_changed.v1", &["workspace_dir"], &[]),
    fields(
        "workspace.instance_started.v1",
        &[],
        &[("instance.id", INSTANCE), ("url", OUR_ADDRESS), ("withheld", WORD), ("image", OPERATORS)],
    ),
    fields("workspace.provision_failed.v1", &["message", "command"], &[("code", WORD)]),
    fields("workspace.stop_failed.v1", &["message"], &[]),
    fields("workspace.instance_adopted.v1", &[], &[("instance.id", INSTANCE)]),
    fields("workspace.evidence_observed.v1", &["detail"], &[("instance.id", INSTANCE), ("code", WORD)]),
    fields("workspace.verdict_reached.v1", &[], &[("rule", WORD)]),
    fields("workspace.went_offline.v1", &["message"], &[("rule", WORD)]),
    fields("workspace.came_online.v1", &[], &[("from", WORD)]),
    fields("workspace.degraded.v1", &["sample_error"], &[("runtime_state", WORD)]),
    fields("workspace.restart_requested.v1", &["reason"], &[]),
    fields("workspace.restart_abandoned.v1", &[], &[("reason", WORD)]),
    fields("workspace.quarantined.v1", &["message"], &[("rule", WORD)]),
    fields("workspace.restart_announced.v1", &["error"], &[]),
    fields("workspace.registered.v1", &["url", "agent_card"], &[]),
    fields("workspace.card_updated.v1", &["agent_card"], &[]),
    fields(
        "workspace.heartbeat_received.v1",
        &["sample_error", "current_task", "agent_card"],
        &[("runtime_state", WORD)],
    ),
    fields("workspace.token_issued.v1", &[], &[("prefix", "made at random, for showing")]),
    fields("workspace.tokens_revoked.v1", &[], &[("reason", WORD)]),
    fields(
        "workspace.call_finished.v1",
        &["error", "failure.excerpt", "failure.message"],
        &[("method", "a name of the protocol's"), ("failure.fingerprint", DIGEST)],
    ),
    fields(
        "workspace.call_queued.v1",
        &["request"],
        &[("method", "a name of the protocol's"), ("digest", DIGEST)],
    ),
    fields("workspace.call_returned.v1", &["error"], &[]),
    fields("workspace.call_dequeued.v1", &["error"], &[("reason", WORD)]),
    fields("workspace.secret_set.v1", &["name"], &[("value", SEALED)]),
    fields("workspace.secret_removed.v1", &["name"], &[]),
    fields("fleet.secret_set.v1", &["name"], &[("value", SEALED)]),
    fields("fleet.secret_removed.v1", &["name"], &[]),
    fields("fleet.master_key_rotated.v1", &[], &[("master", DIGEST)]),
    fields("fleet.org_token_issued.v1", &["name"], &[("prefix", "made at random, for showing")]),
    fields(
        "workspace.call_recorded.v1",
        &["request.text", "response.text", "error"],
        &[("method", "a name of the protocol's")],
    ),
    fields(
        "workspace.message_queued.v1",
        &["request"],
        &[("method", "a name of the protocol's"), ("digest", DIGEST)],
    ),
    fields(
        "workspace.activity_reported.v1",
        &["method", "summary", "status", "error_detail", "request", "response"],
        &[],
    ),
    fields("workspace.notified.v1", &["message", "attachments"], &[]),
    fields(
        "workspace.agent_assigned.v1",
        &[],
        &[("model", "a product's name"), ("replaces.model", "a product's name")],
    ),
    fields("workspace.agent_removed.v1", &[], &[("model", "a product's name")]),
    fields("workspace.team_expanded.v1", &["children.name", "children.role"], &[]),
    fields("workspace.team_collapsed.v1", &["children.name", "children.role"], &[]),
    fields("workspace.delegation_requested.v1", &["task"], &[("key", DIGEST)]),
    fields("workspace.delegation_ended.v1", &["response.text", "error"], &[("reason", WORD)]),
    fields(
        "workspace.session_suspected.v1",
        &["failure.excerpt", "failure.message"],
        &[("failure.fingerprint", DIGEST)],
    ),
    fields(
        "workspace.session_poisoned.v1",
        &["failure.excerpt", "failure.message", "message"],
        &[("failure.fingerprint", DIGEST)],
    ),
    fields("workspace.handler_panicked.v1", &["message"], &[("command", WORD)]),
    fields("workspace.suspicion_cleared.v1", &[], &[("by", WORD)]),
    fields("workspace.verdict_withheld.v1", &[], &[("rule", WORD)]),
    fields("workspace.confirm_requested.v1", &[], &[("instance.id", INSTANCE)]),
    fields("workspace.death_refuted.v1", &[], &[("instance.id", INSTANCE), ("url", OUR_ADDRESS)]),
    fields("workspace.outcome_unknown.v1", &["detail"], &[("operation", WORD)]),
    fields("fleet.platform_started.v1", &[], &[("version", "ours"), ("backend", WORD)]),
    fields("fleet.platform_stopped.v1", &[], &[("reason", WORD)]),
    fields("fleet.tail_repaired.v1", &[], &[("reason", WORD)]),
    fields(
        "fleet.log_mended.v1",
        &[],
        &[("part", WORD), ("reason", "the store's own words about its files"), ("action", WORD)],
    ),
    fields("fleet.restart_admitted.v1", &[], &[("overridden", WORD)]),
    fields("fleet.restart_deferred.v1", &[], &[("rule", WORD)]),
    fields("fleet.restart_suppressed.v1", &[], &[("rule", WORD)]),
    fields("fleet.engine_lost.v1", &["detail"], &[("engine", WORD), ("code", WORD)]),
    fields("fleet.engine_found.v1", &[], &[("engine", WORD)]),
    fields("fleet.alarm_raised.v1", &["message"], &[("kind", WORD)]),
    fields("fleet.alarm_resolved.v1", &[], &[("kind", WORD)]),
    fields(
        "fleet.stranger_found.v1",
        &[],
        &[("engine", WORD), ("name", INSTANCE), ("instance", INSTANCE), ("workspace", "an id")],
    ),
    fields("fleet.brake_released.v1", &[], &[("reason", WORD)]),
    fields("fleet.circuit_changed.v1", &[], &[("rule", WORD)]),
    fields("fleet.hold_set.v1", &["reason"], &[]),
    fields("fleet.hold_released.v1", &["comment"], &[("reason", WORD)]),
    fields("fleet.mode_set.v1", &["reason"], &[]),
    fields(
        "fleet.policy_changed.v1",
        &["reason"],
        &[
            ("parameters", PARAMETER),
            ("changed.name", PARAMETER),
            ("changed.from", PARAMETER),
            ("changed.to", PARAMETER),
            ("origin", WORD),
        ],
    ),
    fields("fleet.incident_opened.v1", &["title"], &[]),
    fields("fleet.incident_noted.v1", &["text"], &[]),
    fields("fleet.incident_closed.v1", &["comment"], &[]),
    fields("fleet.flight_lost.v1", &[], &[("reason", WORD)]),
    fields("fleet.quarantine_lifted.v1", &[], &[("reason", WORD)]),
    fields("fleet.provision_limit_changed.v1", &[], &[("reason", WORD)]),
    fields("fleet.invariant_violated.v1", &[], &[("invariant", WORD), ("detail", "our own numbers")]),
];
