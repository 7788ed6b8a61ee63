//! What the supervisor and its observers say, in words: doubts, brakes, holds, circuits.

use serde_json::Value;

use super::{Fields, value_text};

/// The words of a fact about supervision; none for any other.
pub(super) fn summary(word: &str, data: &Value) -> Option<String> {
    of_workspace(word, data).or_else(|| of_fleet(word, data))
}

/// What is thought of one workspace.
fn of_workspace(word: &str, data: &Value) -> Option<String> {
    let fields = Fields(data);
    let field = |name: &str| fields.of(name);
    Some(match word {
        "suspicion_raised" => format!(
            "by {}, silent for {}{}, observer {}",
            field("source"),
            seconds(data, "silent_ms"),
            data["phi"].as_f64().map(|phi| format!(", phi {phi:.1}")).unwrap_or_default(),
            field("observer_score"),
        ),
        "suspicion_cleared" => format!("by {} after {}", field("by"), seconds(data, "lasted_ms")),
        "verdict_withheld" => format!(
            "not called hung by {}: silent for {}, {} speak against it, observer {}",
            field("rule"),
            seconds(data, "silent_ms"),
            list(data, "sources"),
            field("observer_score"),
        ),
        "confirm_requested" => {
            format!(
                "a fresh look at generation {}, admitted at position {}",
                field("generation"),
                field("admission")
            )
        }
        "death_refuted" => format!("it runs: generation {} is taken back as it was", field("generation")),
        "outcome_unknown" => {
            format!(
                "of a {}, generation {}: lists will tell{}",
                field("operation"),
                field("generation"),
                fields.after("detail", ": ")
            )
        }
        "restart_proved" => fields.after("after_ms", "well for ms: "),
        _ => return None,
    })
}

/// What holds for an engine, or for everybody.
fn of_fleet(word: &str, data: &Value) -> Option<String> {
    let fields = Fields(data);
    let field = |name: &str| fields.of(name);
    Some(match word {
        "brake_engaged" => format!(
            "{} on {} by {}: {} of {}, from {} on{}",
            field("mode"),
            field("cell"),
            field("trigger"),
            field("count"),
            field("of"),
            field("threshold"),
            reading(&data["reading"]),
        ),
        "brake_released" => {
            format!("on {}: {} after {}", field("cell"), field("reason"), seconds(data, "after_ms"))
        }
        "observer_changed" => format!(
            "score {} after {}: engine {}, loop {}, log {}, beats {}{}",
            field("score"),
            field("from"),
            field("engine"),
            field("loop_lag"),
            field("log"),
            field("beats"),
            fields.after("pause_ms", ", stood still for ms: "),
        ),
        "circuit_changed" => format!(
            "{} is {} by {}: {} of {} calls failed, p95 {} ms{}",
            field("cell"),
            field("state"),
            field("rule"),
            field("failed"),
            field("calls"),
            field("p95_ms"),
            fields.after("probe_at", ", next probe "),
        ),
        "grace_started" => format!("{} workspaces, until {}", field("workspaces"), field("until")),
        "grace_ended" => format!("on {} after {}", field("cell"), seconds(data, "after_ms")),
        "incident_opened" => format!("{} {}", field("incident"), field("title")),
        "incident_noted" => format!("{}: {}", field("incident"), field("text")),
        "incident_closed" => format!("{}{}", field("incident"), fields.after("comment", ": ")),
        "hold_set" => format!(
            "{}{}{}: {}",
            if data["emergency"] == true { "emergency stop, " } else { "" },
            field("scope"),
            fields.after("until", " until "),
            field("reason"),
        ),
        "flight_recorded" => flight(data),
        "policy_changed" => {
            format!("to {} by {}: {}", hash(&data["hash"]), field("origin"), changes(&data["changed"]))
        }
        "quarantine_probed" => format!("try {} of {}", field("attempt"), field("attempts_max")),
        "provision_limit_changed" => {
            format!(
                "{} starts at once on {} after {}: {}",
                field("to"),
                field("cell"),
                field("from"),
                field("reason")
            )
        }
        _ => return None,
    })
}

/// How the questions of a flight were answered.
fn flight(data: &Value) -> String {
    let count = |name: &str| {
        let found = data["counts"].pointer(name).and_then(value_text);
        found.unwrap_or_else(|| "?".to_owned())
    };
    format!(
        "{} observations since {}: {} of {} lists failed, {} of {} looks",
        count("/observations"),
        Fields(data).of("since"),
        count("/lists/failed"),
        count("/lists/answered"),
        count("/looks/failed"),
        count("/looks/answered"),
    )
}

fn seconds(data: &Value, name: &str) -> String {
    data[name].as_u64().map_or_else(|| "?".to_owned(), |ms| format!("{}.{} s", ms / 1000, ms % 1000 / 100))
}

fn list(data: &Value, name: &str) -> String {
    let words: Vec<&str> = data[name].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(" and ") }
}

fn reading(reading: &Value) -> String {
    let number = |name: &str| value_text(&reading[name]).unwrap_or_else(|| "?".to_owned());
    format!(
        " (suspects {}, deaths {}, observer {}, circuit {})",
        number("suspects"),
        number("deaths_recent"),
        number("observer_score"),
        if reading["circuit_open"] == true { "open" } else { "closed" },
    )
}

/// A policy's name as everybody else writes it.
fn hash(value: &Value) -> String {
    value.as_u64().map_or_else(|| "?".to_owned(), |hash| format!("{hash:016x}"))
}

/// The parameters that changed, with both values.
fn changes(changed: &Value) -> String {
    let one = |change: &Value| {
        let part = |name: &str| change[name].as_str().unwrap_or("?").to_owned();
        format!("{} {} → {}", part("name"), part("from"), part("to"))
    };
    let said: Vec<String> = changed.as_array().into_iter().flatten().map(one).collect();
    if said.is_empty() { "nothing differs".to_owned() } else { said.join(", ") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_brake_says_its_mode_trigger_and_numbers() {
        let engaged = json!({
            "mode": "freeze", "cell": "docker", "trigger": "observer", "count": 5, "of": 15, "threshold": 4,
            "reading": {"suspects": 0, "deaths_recent": 0, "observer_score": 5, "circuit_open": true},
        });
        assert_eq!(
            summary("brake_engaged", &engaged).unwrap(),
            "freeze on docker by observer: 5 of 15, from 4 on (suspects 0, deaths 0, observer 5, circuit open)"
        );
    }

    #[test]
    fn a_verdict_that_was_withheld_says_why() {
        let withheld = json!({
            "rule": "one_source", "silent_ms": 180_000, "sources": ["heartbeat"], "observer_score": 0,
        });
        assert_eq!(
            summary("verdict_withheld", &withheld).unwrap(),
            "not called hung by one_source: silent for 180.0 s, heartbeat speak against it, observer 0"
        );
    }

    #[test]
    fn a_policy_names_what_differs() {
        let changed = json!({
            "hash": 255, "origin": "set", "changed": [{"name": "intensity_max", "from": "5", "to": "7"}],
        });
        assert_eq!(
            summary("policy_changed", &changed).unwrap(),
            "to 00000000000000ff by set: intensity_max 5 → 7"
        );
    }

    #[test]
    fn other_facts_are_somebody_elses() {
        assert_eq!(summary("came_online", &json!({})), None);
    }
}
