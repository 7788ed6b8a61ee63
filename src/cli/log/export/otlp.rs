//! Restarts as traces: OTLP in JSON, one request of an exporter a line
//! (<https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/>).
//!
//! A restart is a trace that bears its id. Its root lasts from the wish to the outcome; below it are its waiting, its fresh look,
//! its drain or stop, its start, and its way back. What it rests on is linked: each piece of evidence is a trace of its own.

use std::collections::BTreeMap;

use chrono::DateTime;
use serde_json::{Value, json};

use super::word;
use crate::cli::output::text;

/// Evidence that may still be asked for by a restart.
const EVIDENCE_MAX: usize = 10_000;

/// The parts of a restart: what begins each, and what ends it.
const PARTS: [(&str, &[&str], &[&str]); 6] = [
    ("wait", &["restart_requested"], &["restart_admitted", "restart_suppressed", "restart_abandoned"]),
    ("look", &["confirm_requested"], &["restart_started", "restart_abandoned"]),
    ("drain", &["drain_requested"], &["drain_ended"]),
    ("stop", &["stop_requested"], &["instance_stopped", "stop_failed"]),
    ("start", &["provision_requested"], &["instance_started", "provision_failed"]),
    ("return", &["instance_started"], &["came_online", "verdict_reached"]),
];

/// Facts that end a restart, and whether it ended well.
const ENDS: [(&str, bool); 4] = [
    ("restart_settled", true),
    ("restart_suppressed", false),
    ("quarantined", false),
    ("restart_abandoned", false),
];

/// Restarts so far.
#[derive(Debug, Default)]
pub(super) struct Traces {
    restarts: BTreeMap<String, Vec<Value>>,
    order: Vec<String>,
    /// The restart that each workspace is in.
    current: BTreeMap<String, String>,
    evidence: BTreeMap<String, Value>,
    ids: std::collections::VecDeque<String>,
}

impl Traces {
    pub(super) fn take(&mut self, fact: Value) {
        let workspace = text(&fact, "workspace").to_owned();
        if word(&fact) == "evidence_observed" {
            let id = text(&fact, "id").to_owned();
            self.ids.push_back(id.clone());
            self.evidence.insert(id, fact);
            while self.ids.len() > EVIDENCE_MAX {
                let oldest = self.ids.pop_front();
                oldest.map(|id| self.evidence.remove(&id));
            }
            return;
        }
        let named = fact["data"]["restart"].as_str().map(str::to_owned);
        let restart = match named {
            Some(restart) => {
                if word(&fact) == "restart_requested" {
                    self.current.insert(workspace, restart.clone());
                    self.order.push(restart.clone());
                }
                restart
            }
            None => match self.current.get(&workspace) {
                Some(current) => current.clone(),
                None => return,
            },
        };
        let is_part = |(_, begins, ends): &(_, &[&str], &[&str])| {
            begins.contains(&word(&fact)) || ends.contains(&word(&fact))
        };
        let about = fact["data"]["restart"].is_string() || PARTS.iter().any(is_part);
        if let Some(facts) = self.restarts.get_mut(&restart).filter(|_| about) {
            facts.push(fact);
        } else if about && word(&fact) == "restart_requested" {
            self.restarts.insert(restart, vec![fact]);
        }
    }

    /// One request for each restart that was asked for, in that order.
    pub(super) fn finish(self) -> impl Iterator<Item = Value> {
        let Self { mut restarts, order, evidence, .. } = self;
        order.into_iter().filter_map(move |restart| {
            let facts = restarts.remove(&restart)?;
            Some(request(&spans(&restart, &facts, &evidence)))
        })
    }
}

fn request(spans: &[Value]) -> Value {
    json!({"resourceSpans": [{
        "resource": {"attributes": [attribute("service.name", "covalence")]},
        "scopeSpans": [{
            "scope": {"name": "covalence", "version": env!("CARGO_PKG_VERSION")},
            "spans": spans,
        }],
    }]})
}

fn spans(restart: &str, facts: &[Value], evidence: &BTreeMap<String, Value>) -> Vec<Value> {
    let Some(asked) = facts.first() else { return Vec::new() };
    let trace = hex(restart);
    let root = span_id(asked);
    let end = facts.iter().find_map(|fact| {
        let (_, well) = ENDS.iter().find(|(name, _)| *name == word(fact))?;
        // Settled says how; the others are no outcome to be glad of.
        let outcome = fact["data"]["outcome"].as_str().unwrap_or_else(|| word(fact)).to_owned();
        Some((fact, outcome.clone(), *well && outcome == "online"))
    });
    let proof: Vec<&Value> = asked["data"]["evidence"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|id| evidence.get(id.as_str()?))
        .collect();
    let last = facts.last().unwrap_or(asked);
    let mut top =
        span((&trace, &root, None), "restart", (asked, end.as_ref().map_or(last, |(fact, ..)| fact)));
    top["links"] =
        proof.iter().map(|fact| json!({"traceId": hex(text(fact, "id")), "spanId": span_id(fact)})).collect();
    top["events"] = facts.iter().map(event).collect();
    top["status"] = match &end {
        Some((_, _, true)) => json!({"code": 1}),
        Some((_, outcome, false)) => json!({"code": 2, "message": outcome}),
        None => json!({"code": 0}),
    };
    top["attributes"] = json!([
        attribute("covalence.workspace.id", text(asked, "workspace")),
        attribute("covalence.restart.cause", text(&asked["data"], "cause")),
        attribute("covalence.restart.outcome", end.as_ref().map_or("open", |(_, outcome, _)| outcome)),
        attribute("covalence.policy", text(asked, "policy")),
    ]);
    let mut spans = vec![top];
    for (name, begins, ends) in PARTS {
        let mut facts = facts.iter();
        while let Some(begin) = facts.by_ref().find(|fact| begins.contains(&word(fact))) {
            if let Some(end) = facts.clone().find(|fact| ends.contains(&word(fact))) {
                // Its name is that of what began it, which may have begun the root too.
                let id = format!("{:016x}", number(begin) ^ fnv(name));
                spans.push(span((&trace, &id, Some(&root)), name, (begin, end)));
            }
        }
    }
    spans.extend(proof.into_iter().map(|fact| {
        let mut alone = span((&hex(text(fact, "id")), &span_id(fact), None), "evidence", (fact, fact));
        let data = &fact["data"];
        alone["attributes"] = json!([
            attribute("covalence.workspace.id", text(fact, "workspace")),
            attribute("covalence.evidence.class", text(data, "class")),
            attribute("covalence.evidence.source", text(data, "source")),
            attribute("covalence.evidence.detail", text(data, "detail")),
        ]);
        alone
    }));
    spans
}

fn span(
    (trace, id, parent): (&str, &str, Option<&str>),
    name: &str,
    (begin, end): (&Value, &Value),
) -> Value {
    let mut span = json!({
        "traceId": trace, "spanId": id, "name": name, "kind": 1,
        "startTimeUnixNano": nanos(begin), "endTimeUnixNano": nanos(end),
    });
    if let Some(parent) = parent {
        span["parentSpanId"] = parent.into();
    }
    span
}

fn event(fact: &Value) -> Value {
    let mut attributes = vec![attribute("covalence.position", &fact["position"].to_string())];
    for field in ["rule", "reason", "outcome", "until"] {
        if let Some(said) = fact["data"][field].as_str() {
            attributes.push(attribute(&format!("covalence.{field}"), said));
        }
    }
    json!({"timeUnixNano": nanos(fact), "name": word(fact), "attributes": attributes})
}

fn attribute(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// Numbers of 64 bits are texts in OTLP's JSON.
fn nanos(fact: &Value) -> String {
    let at = DateTime::parse_from_rfc3339(text(fact, "at")).ok();
    at.and_then(|at| at.timestamp_nanos_opt()).unwrap_or_default().to_string()
}

fn hex(id: &str) -> String {
    id.chars().filter(char::is_ascii_hexdigit).collect()
}

fn number(fact: &Value) -> u64 {
    let hex = hex(text(fact, "id"));
    u64::from_str_radix(hex.get(16..).unwrap_or_default(), 16).unwrap_or_default()
}

/// The last eight bytes of a fact's id, which count the facts of one decision.
fn span_id(fact: &Value) -> String {
    format!("{:016x}", number(fact))
}

/// FNV-1a: tells spans apart that one fact begins.
fn fnv(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(n: u64, kind: &str, data: &Value) -> Value {
        json!({
            "position": n, "at": format!("2026-03-01T03:00:{n:02}Z"), "type": format!("workspace.{kind}.v1"),
            "workspace": "w", "id": format!("01a218f7-0000-7000-8000-{n:012x}"), "policy": "p", "data": data,
        })
    }

    #[test]
    fn a_restart_is_a_trace_with_its_parts_below_it_and_links_to_its_evidence() {
        let r = "01a218f7-3c97-748c-9b15-531aaad3ffff";
        let mut traces = Traces::default();
        for fact in [
            fact(1, "evidence_observed", &json!({"class": "death", "source": "exit", "detail": "exited"})),
            fact(
                2,
                "restart_requested",
                &json!({"restart": r, "cause": "death", "evidence": ["01a218f7-0000-7000-8000-000000000001"]}),
            ),
            fact(3, "restart_deferred", &json!({"restart": r, "rule": "tokens"})),
            fact(5, "restart_admitted", &json!({"restart": r})),
            fact(6, "confirm_requested", &json!({"restart": r})),
            fact(7, "restart_started", &json!({"restart": r})),
            fact(7, "provision_requested", &json!({"restart": r})),
            fact(8, "instance_started", &json!({})),
            fact(9, "heartbeat_received", &json!({})),
            fact(9, "came_online", &json!({"restart": r})),
            fact(10, "restart_settled", &json!({"restart": r, "outcome": "online"})),
        ] {
            traces.take(fact);
        }
        let requests: Vec<_> = traces.finish().collect();
        assert_eq!(requests.len(), 1);
        let spans = requests[0]["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
        let names: Vec<_> = spans.iter().map(|span| text(span, "name")).collect();
        assert_eq!(names, ["restart", "wait", "look", "start", "return", "evidence"]);
        let root = &spans[0];
        assert_eq!(root["traceId"], "01a218f73c97748c9b15531aaad3ffff");
        assert_eq!(root["status"], json!({"code": 1}));
        let lasted = |span: &Value| {
            let nanos = |field: &str| text(span, field).parse::<u64>().unwrap();
            (nanos("endTimeUnixNano") - nanos("startTimeUnixNano")) / 1_000_000_000
        };
        assert_eq!(spans.iter().map(lasted).collect::<Vec<_>>(), [8, 3, 1, 1, 1, 0]);
        assert!(spans[1..5].iter().all(|span| span["parentSpanId"] == root["spanId"]));
        let mut ids: Vec<_> = spans.iter().map(|span| text(span, "spanId")).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), spans.len(), "each span has an id of its own");
        assert_eq!(root["links"], json!([{"traceId": spans[5]["traceId"], "spanId": spans[5]["spanId"]}]));
        assert_eq!(root["events"].as_array().unwrap().len(), 9, "what is not about the restart is left out");
    }

    #[test]
    fn what_did_not_end_is_open_and_what_was_refused_is_an_error() {
        let mut traces = Traces::default();
        traces.take(fact(1, "restart_requested", &json!({"restart": "a", "cause": "death"})));
        traces.take(fact(2, "restart_requested", &json!({"restart": "b", "cause": "operator"})));
        traces.take(fact(3, "restart_suppressed", &json!({"restart": "b", "rule": "hold"})));
        let status: Vec<_> = traces
            .finish()
            .map(|request| request["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["status"].clone())
            .collect();
        assert_eq!(status, [json!({"code": 0}), json!({"code": 2, "message": "restart_suppressed"})]);
    }
}
