//! One readable line for each fact: time, position, workspace, type, the numbers that matter, its id and its cause.
//!
//! Works on the server's JSON, not on our own types: an older command still shows what a newer server recorded.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{DateTime, FixedOffset, Local};
use serde_json::Value;

use crate::cli::log_reader::Record;
use crate::cli::output::{Colour, Output, printable, text};

mod supervision;

/// Longer values are cut: a line is for reading, `--json` has everything.
const VALUE_MAX: usize = 120;
/// Names get this much room; longer ones push the rest of their line.
const NAME_WIDTH: usize = 16;
/// The longest type's word of what is read most.
const WORD_WIDTH: usize = 19;

/// What workspaces are called, learned from the roster and from facts as they pass.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(BTreeMap<String, String>);

impl Names {
    /// The names that the rows of `GET /workspaces` tell.
    pub(super) fn from_roster(rows: &[Value]) -> Self {
        Self(rows.iter().map(|row| (text(row, "id").to_owned(), text(row, "name").to_owned())).collect())
    }

    /// One that is known already.
    pub(super) fn of_one(id: &str, name: &str) -> Self {
        Self(BTreeMap::from([(id.to_owned(), name.to_owned())]))
    }

    /// Learns from a creation or a new name.
    pub(super) fn learn(&mut self, record: &Record) {
        let name = text(record.data(), "name");
        if let (Some(id), "created" | "renamed") = (record.workspace(), record.word())
            && !name.is_empty()
        {
            self.0.insert(id.to_owned(), name.to_owned());
        }
    }

    fn of(&self, record: &Record) -> String {
        match record.workspace() {
            None => "-".to_owned(),
            Some(id) => self.0.get(id).cloned().unwrap_or_else(|| id.chars().take(8).collect()),
        }
    }
}

/// The line of one fact.
pub(super) fn line(record: &Record, names: &Names, output: Output) -> String {
    let raw = &record.raw;
    let at = DateTime::parse_from_rfc3339(text(raw, "at")).map_or_else(|_| text(raw, "at").to_owned(), local);
    let mut origin = short(text(raw, "id")).to_owned();
    if let Some(cause) = raw.get("causation").and_then(Value::as_str) {
        let _ = write!(origin, " <- {}", short(cause));
    }
    let word = format!("{:WORD_WIDTH$}", printable(record.word()));
    format!(
        "{at}  {:>6}  {:NAME_WIDTH$}  {}  {}  {}",
        record.position,
        printable(&names.of(record)),
        colour(record).map_or_else(|| word.clone(), |colour| output.paint(colour, &word)),
        printable(&summary(record)),
        output.paint(Colour::Dim, &format!("[{origin}]")),
    )
}

/// A time as people here read it, to the millisecond.
fn local(at: DateTime<FixedOffset>) -> String {
    at.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// The end of an id. Its beginning is a time, the same for everything that happened together; its last four digits count
/// the facts of one decision; the six before them tell decisions apart.
fn short(id: &str) -> &str {
    id.get(id.len().saturating_sub(10)..).unwrap_or(id)
}

fn colour(record: &Record) -> Option<Colour> {
    match record.word() {
        "came_online" | "restart_admitted" | "restart_proved" | "suspicion_cleared" | "death_refuted"
        | "brake_released" | "hold_released" | "session_cleared" | "engine_found" | "alarm_resolved" => {
            Some(Colour::Green)
        }
        "went_offline" | "provision_failed" | "stop_failed" | "quarantined" | "restart_suppressed"
        | "session_poisoned" | "brake_engaged" | "engine_lost" | "alarm_raised" | "handler_panicked" => {
            Some(Colour::Red)
        }
        "degraded" | "restart_requested" | "restart_deferred" | "restart_started" | "verdict_reached"
        | "session_suspected" | "suspicion_raised" | "verdict_withheld" | "outcome_unknown"
        | "observer_changed" | "circuit_changed" | "hold_set" | "incident_opened" | "evidence_observed" => {
            Some(Colour::Yellow)
        }
        "heartbeat_received" => Some(Colour::Dim),
        _ => None,
    }
}

/// A fact's fields as words of a line.
struct Fields<'a>(&'a Value);

impl Fields<'_> {
    fn of(&self, name: &str) -> String {
        self.0.get(name).and_then(value_text).unwrap_or_else(|| "?".to_owned())
    }

    /// With something before it, where it is there.
    fn after(&self, name: &str, before: &str) -> String {
        self.0.get(name).and_then(value_text).map(|value| format!("{before}{value}")).unwrap_or_default()
    }
}

fn summary(record: &Record) -> String {
    let data = record.data();
    let fields = Fields(data);
    let field = |name: &str| fields.of(name);
    let optional = |name: &str, before: &str| fields.after(name, before);
    match record.word() {
        "evidence_observed" => {
            format!(
                "{} from {}: {}{}, generation {}{}",
                field("class"),
                field("source"),
                field("code"),
                optional("exit_status", ", status "),
                field("generation"),
                optional("detail", ": "),
            )
        }
        "verdict_reached" => {
            format!("{} by {}, generation {}", field("verdict"), field("rule"), field("generation"))
        }
        "went_offline" => format!("by {}{}", field("rule"), optional("message", ": ")),
        "restart_requested" => {
            let (cause, generation) = (field("cause"), field("generation"));
            format!("because of {cause}, generation {generation}{}", optional("reason", ": "))
        }
        "restart_admitted" => format!("for {}: {}{}", field("cause"), limits(&field), tokens(data)),
        "restart_deferred" => {
            let until = optional("until", " until ");
            format!("by {}{until}: {}{}", field("rule"), limits(&field), tokens(data))
        }
        "restart_suppressed" => format!(
            "by {}: {} of {} restarts in {} s",
            field("rule"),
            field("recent"),
            field("recent_max"),
            field("window_s")
        ),
        "restart_started" => format!("admitted at position {}", field("admission")),
        "drain_requested" => format!("generation {}, within {} ms", field("generation"), field("within_ms")),
        "drain_ended" => {
            format!(
                "{} after {} ms{}",
                field("outcome"),
                field("took_ms"),
                optional("open", ", open calls: ")
            )
        }
        "session_suspected" => failure(data),
        "session_poisoned" => field("message"),
        "session_cleared" => format!("answered after {} that failed alike", field("in_a_row")),
        "provision_requested" => format!("generation {} for {}", field("generation"), field("origin")),
        "instance_started" => format!("generation {}{}", field("generation"), optional("url", " at ")),
        "provision_failed" => {
            format!("generation {}: {}: {}", field("generation"), field("code"), field("message"))
        }
        "came_online" => {
            format!("by {}, was {}, generation {}", field("via"), field("from"), field("generation"))
        }
        word => said(word, &fields)
            .or_else(|| supervision::summary(word, data))
            .unwrap_or_else(|| every_field(data)),
    }
}

/// What agents say and hand on: never the words themselves, which may be long.
fn said(word: &str, fields: &Fields<'_>) -> Option<String> {
    let field = |name: &str| fields.of(name);
    let optional = |name: &str, before: &str| fields.after(name, before);
    Some(match word {
        "call_finished" => format!(
            "{} from {}: {}{} after {} ms{}{}",
            field("method"),
            field("caller"),
            field("outcome"),
            optional("status", " "),
            field("duration_ms"),
            optional("tries", ", tries: "),
            optional("error", ": "),
        ),
        "call_recorded" => format!("{} from {}: {}", field("method"), field("caller"), field("outcome")),
        "message_queued" => format!("{} from {}", field("method"), field("caller")),
        "activity_reported" => format!("{}{}", field("kind"), optional("summary", ": ")),
        "notified" => field("message"),
        "delegation_requested" => format!("{} to {}", field("delegation"), field("target")),
        "delegation_ended" => {
            format!("{}: {}{}", field("delegation"), field("outcome"), optional("reason", ", "))
        }
        _ => return None,
    })
}

/// What a failed answer is recognised by.
fn failure(data: &Value) -> String {
    let part = |name: &str| value_text(&data["failure"][name]).unwrap_or_default();
    format!("{} {}: {}", part("kind"), part("fingerprint"), part("excerpt"))
}

fn limits(field: &impl Fn(&str) -> String) -> String {
    format!(
        "{} of {} in flight, {} of {} restarts in the window",
        field("in_flight"),
        field("in_flight_max"),
        field("recent"),
        field("recent_max")
    )
}

/// The tokens that there were, where the fact keeps what it was decided with.
fn tokens(data: &Value) -> String {
    data["inputs"]["tokens"].as_f64().map(|tokens| format!(", {tokens:.1} tokens")).unwrap_or_default()
}

fn every_field(data: &Value) -> String {
    let fields = data.as_object().into_iter().flatten();
    let shown: Vec<String> = fields
        .filter(|(name, _)| !matches!(name.as_str(), "sha256" | "agent_card" | "workspace" | "restart"))
        .filter_map(|(name, value)| value_text(value).map(|value| format!("{name}={value}")))
        .collect();
    shown.join(" ")
}

/// A value in a line; nothing for what is absent, empty or nested.
fn value_text(value: &Value) -> Option<String> {
    let text = match value {
        // Times stand in local time at the line's beginning too.
        Value::String(text) => match DateTime::parse_from_rfc3339(text) {
            Ok(at) => local(at),
            Err(_) => text.clone(),
        },
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Object(map) if map.len() == 1 => {
            // An enum with content, such as a caller that is a workspace.
            let (name, inner) = map.iter().next()?;
            format!("{name}:{}", inner.as_str()?)
        }
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    if text.is_empty() {
        return None;
    }
    match text.char_indices().nth(VALUE_MAX) {
        Some((end, _)) => Some(format!("{}…", text.get(..end)?)),
        None => Some(text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const WORKSPACE: &str = "0b8f2a54-1111-4222-8333-444455556666";
    const PLAIN: Output = Output { json: false, colours: false };

    fn record(tag: &str, data: &Value) -> Record {
        Record::from_value(json!({
            "position": 42, "type": tag, "at": "2026-03-01T03:07:00.123456Z", "workspace": WORKSPACE,
            "id": "0195-00aaaaaa0000", "causation": "0195-00bbbbbb0001", "data": data,
        }))
    }

    fn shown(tag: &str, data: &Value) -> String {
        let names = Names::from_roster(&[json!({"id": WORKSPACE, "name": "lead"})]);
        let line = line(&record(tag, data), &names, PLAIN);
        // The time is local; everything after it is not.
        line.split_at("2026-03-01 03:07:00.123  ".len()).1.to_owned()
    }

    #[test]
    fn a_line_has_position_name_type_numbers_and_cause() {
        let line = shown(
            "fleet.restart_admitted.v1",
            &json!({"cause": "death", "in_flight": 0, "in_flight_max": 2, "recent": 1, "recent_max": 5}),
        );
        assert_eq!(
            line,
            "    42  lead              restart_admitted     for death: 0 of 2 in flight, 1 of 5 restarts in the window  [aaaaaa0000 <- bbbbbb0001]"
        );
    }

    #[test]
    fn a_deferral_says_until_when_in_local_time() {
        let deferred = json!({"rule": "backoff", "until": "2026-03-01T03:07:00.474130649Z"});
        let line = shown("fleet.restart_deferred.v1", &deferred);
        assert!(!line.contains("474130649"), "{line}");
        assert!(line.contains(":00.474: "), "{line}");
    }

    #[test]
    fn a_drain_and_what_calls_say_of_a_session_are_told_in_words() {
        let ended = json!({"restart": "r", "outcome": "timed_out", "open": 2, "took_ms": 30_001});
        assert!(
            shown("workspace.drain_ended.v1", &ended).contains("timed_out after 30001 ms, open calls: 2"),
            "{}",
            shown("workspace.drain_ended.v1", &ended)
        );
        let failure = json!({"kind": "process", "fingerprint": "00ff", "excerpt": "boom"});
        let suspected = json!({"call": "c", "failure": failure});
        assert!(shown("workspace.session_suspected.v1", &suspected).contains("process 00ff: boom"));
    }

    #[test]
    fn the_steps_from_a_kill_to_its_end_are_told_in_words() {
        let evidence = json!({"source": "exit", "class": "death", "generation": 1, "code": "exited", "detail": "", "exit_status": 137});
        assert!(
            shown("workspace.evidence_observed.v1", &evidence)
                .contains("death from exit: exited, status 137, generation 1")
        );
        let verdict = json!({"verdict": "dead", "rule": "proof_of_death", "generation": 1, "evidence": []});
        assert!(
            shown("workspace.verdict_reached.v1", &verdict).contains("dead by proof_of_death, generation 1")
        );
        let online = json!({"via": "register", "from": "provisioning", "generation": 2, "restart": null});
        assert!(
            shown("workspace.came_online.v1", &online)
                .contains("by register, was provisioning, generation 2")
        );
    }

    #[test]
    fn an_unknown_fact_shows_its_plain_fields() {
        let line =
            shown("workspace.sang.v7", &json!({"song": "la\nla", "loud": true, "notes": [1, 2], "by": null}));
        assert!(line.contains("sang                 loud=true song=la\u{fffd}la  [aaaaaa0000"), "{line}");
    }

    #[test]
    fn a_long_text_is_cut_on_a_character() {
        let line = shown("workspace.sang.v7", &json!({"song": "ä".repeat(500)}));
        assert!(line.contains(&format!("song={}…", "ä".repeat(VALUE_MAX))), "{line}");
    }

    #[test]
    fn names_are_learned_from_facts_as_they_pass() {
        let mut names = Names::default();
        let created = record("workspace.created.v1", &json!({"name": "new"}));
        assert!(line(&created, &names, PLAIN).contains("  0b8f2a54  "));
        names.learn(&created);
        assert!(line(&created, &names, PLAIN).contains("  new  "));
    }
}
