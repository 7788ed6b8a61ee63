//! Facts in words: one short sentence each, how much it matters, and the numbers that it carries.
//!
//! Times inside a fact are not part of its sentence: where it holds until a moment, that moment stands beside it, so that
//! whoever shows it can write it as its reader reads times.

use covalence_events::{Fact, Recorded, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::who::Who;

mod fleet;
mod workspace;

pub(crate) use fleet::deferred;
pub(crate) use workspace::{cause, cut};

/// How much a line matters, and which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// Routine: it says that things go on as ever.
    Routine,
    /// It happened, and is neither good nor bad.
    Plain,
    /// Something got better.
    Good,
    /// Something is in doubt, or has to wait.
    Doubt,
    /// Something got worse.
    Bad,
}

/// A fact in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// How much it matters, and which way.
    pub weight: Weight,
    /// One short sentence without a subject: whom the fact is about stands beside it.
    pub text: String,
    /// The rule that it names, where it names one.
    pub rule: Option<String>,
    /// Until when it holds, or when it is looked at again.
    pub until: Option<Timestamp>,
}

impl Said {
    fn new(weight: Weight, text: impl Into<String>) -> Self {
        Self { weight, text: text.into(), rule: None, until: None }
    }

    fn rule(mut self, rule: &str) -> Self {
        self.rule = Some(rule.to_owned());
        self
    }

    fn until(mut self, until: Option<Timestamp>) -> Self {
        self.until = until;
        self
    }
}

/// What a fact says.
pub fn say(recorded: &Recorded, who: &Who) -> Said {
    match &recorded.fact {
        Fact::Workspace(event) => workspace::say(event, who),
        Fact::Fleet(event) => fleet::say(event, who),
    }
}

/// A fact's word, such as `verdict_reached`: its wire tag without stream and version.
pub(crate) fn word(fact: &Fact) -> &'static str {
    fact.tag().split('.').nth(1).unwrap_or_else(|| fact.tag())
}

/// A duration in milliseconds as people say it.
pub(crate) fn lasting(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..120 => format!("{seconds}.{} s", ms % 1000 / 100),
        120..7200 => format!("{} min {} s", seconds / 60, seconds % 60),
        7200..172_800 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// From one moment to a later one; nothing if it is not later.
pub(crate) fn between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from((to - from).num_milliseconds()).unwrap_or(0)
}

/// A word of a closed list as the log writes it.
pub(crate) fn plain<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

/// An exit status, with the signal's name where it was one that operators meet.
pub(crate) fn exit_status(status: i32) -> String {
    let signal = match status {
        130 => " (SIGINT)",
        134 => " (SIGABRT)",
        137 => " (SIGKILL)",
        139 => " (SIGSEGV)",
        143 => " (SIGTERM)",
        _ => "",
    };
    format!("exit status {status}{signal}")
}

/// Numbers and stable words of a fact. What names something is left out: the steps name it already.
pub(crate) fn numbers(fact: &Fact) -> Map<String, Value> {
    let mut found = Map::new();
    gather(&fact.to_json(), &mut found);
    found
}

fn gather(value: &Value, found: &mut Map<String, Value>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::Number(_) | Value::Bool(_) => {
                found.insert(name.clone(), value.clone());
            }
            Value::String(_) if is_word(name) => {
                found.insert(name.clone(), value.clone());
            }
            Value::Array(items) if matches!(name.as_str(), "sources" | "overridden") => {
                found.insert(name.clone(), Value::Array(items.clone()));
            }
            Value::Object(_) if matches!(name.as_str(), "inputs" | "reading") => gather(value, found),
            Value::String(_) | Value::Array(_) | Value::Object(_) => {}
        }
    }
}

fn is_word(name: &str) -> bool {
    [
        "class",
        "source",
        "code",
        "verdict",
        "rule",
        "cause",
        "cell",
        "mode",
        "trigger",
        "brake",
        "outcome",
        "reason",
        "until",
        "now",
        "requested_at",
        "hold_until",
    ]
    .contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_in_the_unit_that_fits() {
        for (ms, said) in [
            (0, "0 ms"),
            (340, "340 ms"),
            (1_900, "1.9 s"),
            (119_999, "119.9 s"),
            (185_000, "3 min 5 s"),
            (7_260_000, "2 h 1 min"),
            (90_000_000_000, "1041 d 16 h"),
        ] {
            assert_eq!(lasting(ms), said);
        }
    }

    #[test]
    fn a_signal_is_named() {
        assert_eq!(exit_status(137), "exit status 137 (SIGKILL)");
        assert_eq!(exit_status(3), "exit status 3");
    }
}
