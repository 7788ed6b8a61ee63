//! Every number of the supervision policy, once: its name, kind, default, range, meaning and source.
//!
//! The list is the policy's document: files, the API, the log and the table in `docs/supervision.md` are made from it. What is
//! not here can't be configured: an error is never proof, a restart rests on evidence, evidence names its generation.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Map, Value};

use super::SessionRestart;

/// What kind of value a parameter has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A span of time, such as `1500ms`, `30s`, `5m` or `4h`.
    Time,
    /// A whole number.
    Count,
    /// A number.
    Number,
    /// One of a few words.
    Word,
}

/// One parameter as the document shows it.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its name, the same in files, in the API and in Rust.
    pub name: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// Smallest and largest value; times in seconds.
    pub range: RangeInclusive<f64>,
    /// What it does, in a sentence.
    pub meaning: &'static str,
    /// Where the default comes from.
    pub source: &'static str,
}

/// A document that is no policy.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ParameterError {
    /// There is no such parameter.
    #[error("unknown parameter `{name}`{}", hint.map(|hint| format!(" (did you mean `{hint}`?)")).unwrap_or_default())]
    Unknown {
        /// As given.
        name: String,
        /// One that it may be meant to be.
        hint: Option<&'static str>,
    },
    /// The value is not of its kind, or out of range.
    #[error("parameter `{name}` is `{value}`: expected {allowed}")]
    Invalid {
        /// Whose.
        name: String,
        /// As given.
        value: String,
        /// What would be accepted.
        allowed: String,
    },
    /// Two parameters contradict each other.
    #[error("parameter `{name}` must be at most `{limit}`")]
    Order {
        /// The one that is too large.
        name: &'static str,
        /// The one that bounds it.
        limit: &'static str,
    },
}

/// How one kind of value is read, written and bounded.
trait Field: Copy {
    const KIND: Kind;
    fn read(text: &str) -> Option<Self>;
    fn write(self) -> String;
    fn number(self) -> f64;
}

impl Field for Duration {
    const KIND: Kind = Kind::Time;

    fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor = match unit.trim() {
            "" | "s" => 1.0,
            "ms" => 0.001,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => DAY,
            _ => return None,
        };
        Self::try_from_secs_f64(number.parse::<f64>().ok()? * factor).ok()
    }

    fn write(self) -> String {
        if self.subsec_millis() == 0 {
            format!("{}s", self.as_secs())
        } else {
            format!("{}ms", self.as_millis())
        }
    }

    fn number(self) -> f64 {
        self.as_secs_f64()
    }
}

impl Field for u32 {
    const KIND: Kind = Kind::Count;

    fn read(text: &str) -> Option<Self> {
        text.trim().parse().ok()
    }

    fn write(self) -> String {
        self.to_string()
    }

    fn number(self) -> f64 {
        f64::from(self)
    }
}

impl Field for f64 {
    const KIND: Kind = Kind::Number;

    fn read(text: &str) -> Option<Self> {
        text.trim().parse().ok().filter(|number: &Self| number.is_finite())
    }

    fn write(self) -> String {
        self.to_string()
    }

    fn number(self) -> f64 {
        self
    }
}

impl Field for SessionRestart {
    const KIND: Kind = Kind::Word;

    fn read(text: &str) -> Option<Self> {
        [Self::Advise, Self::Automatic].into_iter().find(|known| known.as_str() == text.trim())
    }

    fn write(self) -> String {
        self.as_str().to_owned()
    }

    fn number(self) -> f64 {
        f64::from(u8::from(self == Self::Automatic))
    }
}

fn read<T: Field>(parameter: &Parameter, text: &str) -> Result<T, ParameterError> {
    T::read(text).filter(|value| parameter.range.contains(&value.number())).ok_or_else(|| {
        ParameterError::Invalid {
            name: parameter.name.to_owned(),
            value: text.to_owned(),
            allowed: parameter.allowed(),
        }
    })
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The struct, its defaults and the document come from one list.
macro_rules! parameters {
    ($($name:ident: $type:ty = $default:expr, $range:expr, $meaning:literal, $source:literal;)+) => {
        /// Every number of the supervision policy.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Policy {
            $(#[doc = $meaning] pub $name: $type,)+
        }

        impl Default for Policy {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        /// The document, in its order.
        pub const PARAMETERS: &[Parameter] = &[
            $(Parameter {
                name: stringify!($name),
                kind: <$type as Field>::KIND,
                range: $range,
                meaning: $meaning,
                source: $source,
            },)+
        ];

        impl Policy {
            /// A parameter's value as the document writes it.
            pub fn get(&self, name: &str) -> Option<String> {
                match name {
                    $(stringify!($name) => Some(self.$name.write()),)+
                    _ => None,
                }
            }

            /// A policy from a document that was in force once. No rule judges it again: what this build does not know, or
            /// can't read, keeps its default.
            pub fn restored(document: &Map<String, Value>) -> Self {
                let text = |name: &str| document.get(name).and_then(Value::as_str);
                let default = Self::default();
                Self { $($name: text(stringify!($name)).and_then(Field::read).unwrap_or(default.$name),)+ }
            }

            fn put(&mut self, parameter: &Parameter, text: &str) -> Result<(), ParameterError> {
                match parameter.name {
                    $(stringify!($name) => self.$name = read(parameter, text)?,)+
                    _ => {}
                }
                Ok(())
            }
        }
    };
}

const DAY: f64 = 86_400.0;
const ANY_COUNT: f64 = 100_000.0;

parameters! {
    list_every: Duration = seconds(5), 1.0..=300.0, "one list of everything that an engine runs, this often", "constant work (AWS); moby's list takes no container lock";
    observe_timeout: Duration = seconds(3), 0.1..=60.0, "our own limit around every observation, stretched by the observer's score", "Docker's own client waits 120 s";
    confirm_at_once: u32 = 2, 1.0..=64.0, "looks at single instances at the same time", "the engine locks per container";
    heartbeat_interval: Duration = seconds(30), 1.0..=600.0, "how often agents send a heartbeat", "R50";
    phi_threshold: f64 = 8.0, 1.0..=16.0, "from this phi on, silence is suspicious", "Akka, Cassandra";
    phi_pause: Duration = seconds(30), 0.0..=600.0, "silence beyond the usual interval that is acceptable", "one missed beat";
    phi_sigma_min: Duration = seconds(3), 0.1..=60.0, "beats vary by at least this much", "Akka, scaled";
    phi_samples_min: u32 = 4, 1.0..=100.0, "intervals that must be known before silence is judged by them", "Orleans";
    probe_late: Duration = seconds(45), 1.0..=600.0, "a heartbeat that is late by this much makes us ask for the agent's card", "a beat and a half";
    probe_timeout: Duration = seconds(3), 0.1..=30.0, "how long that may take", "as for the engine";
    probe_tries: u32 = 3, 1.0..=10.0, "unanswered requests for the card before they count as suspicion", "kubelet";
    liveness_ttl: Duration = seconds(180), 10.0..=DAY, "without any sign of life for this long, a running workspace counts as hung, if enough speaks for it", "R12: more than five missed beats";
    hung_sources: u32 = 2, 1.0..=4.0, "sources that must speak against a workspace before it counts as hung", "Orleans votes";
    hung_score_max: u32 = 1, 0.0..=8.0, "with a higher score of our own, nobody counts as hung", "Orleans";
    external_stale: Duration = seconds(90), 10.0..=DAY, "an external workspace without a heartbeat for this long is shown offline", "R52";
    provision_timeout: Duration = seconds(600), 1.0..=DAY, "a start without a sign of life for this long has failed", "contract";
    outcome_wait: Duration = seconds(60), 1.0..=600.0, "how long lists may take to tell what became of an operation that timed out", "moby does not cancel";
    stop_grace: Duration = seconds(10), 0.0..=600.0, "from SIGTERM to SIGKILL", "R56";
    drain_timeout: Duration = seconds(30), 0.0..=600.0, "for the open calls of what is restarted though it works", "Kubernetes' termination grace";
    session_restart: SessionRestart = SessionRestart::Advise, 0.0..=1.0, "what is done about a poisoned session", "R14";
    probation: Duration = seconds(20), 1.0..=600.0, "a restarted workspace that has been well for this long has proved itself", "Docker resets after 10 s";
    start_budget: Duration = seconds(60), 1.0..=600.0, "a canary that is not heard from within this has failed", "Docker";
    backoff_base: Duration = seconds(5), 0.0..=DAY, "delay before the second restart in a row; the first is immediate", "OTP, Docker";
    backoff_cap: Duration = seconds(300), 0.0..=DAY, "the delay never exceeds this", "Kubernetes";
    backoff_jitter: f64 = 0.2, 0.0..=1.0, "share by which each delay is stretched or shrunk, so that many do not come at once", "Nomad";
    backoff_reset: Duration = seconds(600), 1.0..=DAY, "healthy for this long, and the delays begin anew", "Kubernetes";
    intensity_max: u32 = 5, 1.0..=1000.0, "restarts of one workspace within the window; one more is a quarantine", "OTP, systemd";
    intensity_window: Duration = seconds(600), 1.0..=DAY, "the window, longer than the capped delay so that the rule can fire", "systemd's pitfall";
    quarantine_pause: Duration = seconds(900), 1.0..=DAY, "a quarantined workspace is tried once more after this", "half-open";
    quarantine_tries: u32 = 3, 0.0..=100.0, "such tries before only a person can lift it", "half-open";
    bucket_capacity: f64 = 3.0, 1.0..=ANY_COUNT, "restarts that may come in a burst", "AWS retry quota";
    bucket_refill: f64 = 0.1, 0.0001..=1000.0, "tokens that come back in a second", "Kubernetes: 0.1 evictions a second";
    cost_death: f64 = 1.0, 0.0..=100.0, "tokens for a proven death", "AWS";
    cost_hung: f64 = 2.0, 0.0..=100.0, "tokens for a hung workspace", "AWS charges double for timeouts";
    in_flight_min: u32 = 2, 1.0..=ANY_COUNT, "restarts of a cell that may be in flight at once, at least", "PDB";
    in_flight_share: f64 = 0.1, 0.0..=1.0, "share of the cell that may be, if that is more", "Envoy: 10 %";
    in_flight_ceiling: u32 = 20, 1.0..=ANY_COUNT, "restarts of all cells together", "blast radius";
    provisions_start: u32 = 3, 1.0..=64.0, "starts at once to begin with", "AIMD (Netflix)";
    provisions_min: u32 = 1, 1.0..=64.0, "starts at once, at least", "AIMD";
    provisions_max: u32 = 8, 1.0..=64.0, "starts at once, at most", "engines get no faster beyond about four";
    provisions_backoff: f64 = 0.9, 0.1..=0.99, "the limit is multiplied by this at each engine error", "AIMD";
    provisions_queue: u32 = 50, 0.0..=ANY_COUNT, "starts that may wait; more are refused with 503", "SRE: shed early";
    provisions_wait: Duration = seconds(120), 1.0..=DAY, "how long one may wait", "SRE";
    circuit_window: Duration = seconds(30), 1.0..=600.0, "engine calls that the circuit looks back on", "Finagle";
    circuit_calls_min: u32 = 10, 1.0..=10_000.0, "with fewer calls, their share of errors means nothing", "Envoy";
    circuit_error_share: f64 = 0.3, 0.01..=1.0, "share of errors that opens it", "Envoy";
    circuit_pings: u32 = 2, 1.0..=10.0, "lists or pings in a row that fail open it too", "two in a row are no accident";
    circuit_slow: Duration = seconds(2), 0.01..=60.0, "and a 95th percentile above this that is also far above the usual one", "an engine that is well answers in milliseconds";
    circuit_slow_factor: f64 = 5.0, 1.0..=100.0, "how far", "beyond a busy day's ups and downs";
    circuit_probe_base: Duration = seconds(5), 0.1..=60.0, "an open circuit is probed after this, doubling", "Linkerd";
    circuit_probe_cap: Duration = seconds(15), 0.1..=600.0, "and at least this often", "a recovery is seen soon";
    score_brake: u32 = 4, 1.0..=8.0, "from this score of our own on, restarts are frozen", "Lifeguard, Orleans";
    pause_max: Duration = seconds(5), 0.5..=60.0, "if we stood still for longer, nothing is concluded for as long again", "Cassandra";
    append_slow: Duration = Duration::from_millis(250), 0.001..=60.0, "appends whose 99th percentile is above this raise our score", "a disk that is well takes a few milliseconds";
    brake_window: Duration = seconds(30), 1.0..=600.0, "what happens within this counts as together", "Kubernetes";
    brake_suspects_min: u32 = 3, 1.0..=ANY_COUNT, "T1: so many suspects at least", "Kubernetes: 3";
    brake_suspects_share: f64 = 0.2, 0.01..=1.0, "T1: and this share of the cell", "stricter than 55 %, cells are small";
    brake_deaths_min: u32 = 4, 1.0..=ANY_COUNT, "T2: so many proven deaths at least", "one more than T1, since these are proved";
    brake_deaths_share: f64 = 0.34, 0.01..=1.0, "T2: and this share of the cell", "a third cannot be chance";
    freeze_death_every: Duration = seconds(60), 0.0..=DAY, "while frozen, one proven death is restarted this often", "Kubernetes: 0.01 a second";
    canary_retry: Duration = seconds(300), 1.0..=DAY, "after a canary that failed, the next is tried after this", "static stability";
    release_after: Duration = seconds(30), 0.0..=DAY, "a brake is released when nothing spoke for it for this long", "Akka stable-after";
    release_suspects_share: f64 = 0.1, 0.0..=1.0, "and no more than this share of the cell is suspect", "half of what engages it";
    grace: Duration = seconds(60), 0.0..=DAY, "after our own start, silence proves nothing for this long", "Nomad, Mesos";
    grace_deaths_share: f64 = 0.2, 0.0..=1.0, "more of the cell found dead meanwhile is started by canary", "Mesos";
    unknown_alarm: Duration = seconds(300), 1.0..=DAY, "a condition that lasts this long raises an alarm", "R10";
    hold_max: Duration = seconds(14_400), 1.0..=7.0 * DAY, "the longest that a hold may last", "half a shift";
    hold_warning: Duration = seconds(900), 0.0..=DAY, "so long before its end a person is told", "time enough to act";
}

impl Parameter {
    /// The parameter of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        PARAMETERS.iter().find(|parameter| parameter.name == name)
    }

    /// What values are accepted, for people.
    pub fn allowed(&self) -> String {
        let (low, high) = (self.range.start(), self.range.end());
        match self.kind {
            Kind::Time => format!("a time such as `30s` or `5m`, {low} s to {high} s"),
            Kind::Count => format!("a whole number, {low} to {high}"),
            Kind::Number => format!("a number, {low} to {high}"),
            Kind::Word => "`advise` or `automatic`".to_owned(),
        }
    }
}

impl Policy {
    /// Sets one parameter by its name.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), ParameterError> {
        let parameter = Parameter::find(name)
            .ok_or_else(|| ParameterError::Unknown { name: name.to_owned(), hint: similar(name) })?;
        self.put(parameter, text)
    }

    /// Whether the parameters fit each other.
    pub fn check(&self) -> Result<(), ParameterError> {
        let ordered = [
            ("backoff_base", self.backoff_base <= self.backoff_cap, "backoff_cap"),
            ("provisions_min", self.provisions_min <= self.provisions_max, "provisions_max"),
            ("provisions_start", self.provisions_start <= self.provisions_max, "provisions_max"),
            ("circuit_probe_base", self.circuit_probe_base <= self.circuit_probe_cap, "circuit_probe_cap"),
            ("cost_death", self.cost_death <= self.bucket_capacity, "bucket_capacity"),
            ("cost_hung", self.cost_hung <= self.bucket_capacity, "bucket_capacity"),
            ("backoff_cap", self.backoff_cap <= self.intensity_window, "intensity_window"),
            ("hold_warning", self.hold_warning <= self.hold_max, "hold_max"),
        ];
        match ordered.into_iter().find(|(_, fits, _)| !fits) {
            Some((name, _, limit)) => Err(ParameterError::Order { name, limit }),
            None => Ok(()),
        }
    }

    /// The whole document: every parameter by name.
    pub fn to_document(&self) -> Value {
        let entry = |parameter: &Parameter| (parameter.name.to_owned(), self.get(parameter.name).into());
        Value::Object(PARAMETERS.iter().map(entry).collect::<Map<_, _>>())
    }

    /// A policy from a document; what it leaves out is as in `base`.
    pub fn from_document(base: &Self, document: &Map<String, Value>) -> Result<Self, ParameterError> {
        let mut policy = base.clone();
        for (name, value) in document {
            let text = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            policy.set(name, &text)?;
        }
        policy.check()?;
        Ok(policy)
    }

    /// The parameters in which another policy differs, with both values.
    pub fn differences(&self, other: &Self) -> Vec<(&'static str, String, String)> {
        let differing = |parameter: &Parameter| {
            let (from, to) = (self.get(parameter.name)?, other.get(parameter.name)?);
            (from != to).then_some((parameter.name, from, to))
        };
        PARAMETERS.iter().filter_map(differing).collect()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Time => "time",
            Self::Count => "count",
            Self::Number => "number",
            Self::Word => "word",
        })
    }
}

/// A name that differs from what was typed in the middle only, or little at one end.
fn similar(name: &str) -> Option<&'static str> {
    let distance = |known: &str| {
        let (shorter, longer) = (known.len().min(name.len()), known.len().max(name.len()));
        let before = known.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
        let after = known.bytes().rev().zip(name.bytes().rev()).take_while(|(a, b)| a == b).count();
        longer - before - after.min(shorter - before)
    };
    PARAMETERS
        .iter()
        .map(|parameter| parameter.name)
        .min_by_key(|known| distance(known))
        .filter(|known| distance(known) <= known.len() / 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_lies_in_its_range_and_survives_the_document() {
        let policy = Policy::default();
        policy.check().unwrap();
        let Value::Object(document) = policy.to_document() else { panic!("no object") };
        assert_eq!(document.len(), PARAMETERS.len());
        assert_eq!(Policy::from_document(&Policy::default(), &document), Ok(policy));
    }

    #[test]
    fn a_wrong_value_is_named_with_what_is_allowed() {
        let mut policy = Policy::default();
        for (name, value, said) in [
            ("backoff_bse", "5s", "did you mean `backoff_base`?"),
            ("backoff_jitter", "1.5", "expected a number, 0 to 1"),
            ("intensity_max", "0", "expected a whole number, 1 to 1000"),
            ("liveness_ttl", "soon", "expected a time such as"),
            ("liveness_ttl", "5y", "expected a time such as"),
        ] {
            let error = policy.set(name, value).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        assert_eq!(policy, Policy::default());
    }

    #[test]
    fn parameters_that_contradict_each_other_are_refused() {
        let mut policy = Policy::default();
        policy.set("backoff_base", "10m").unwrap();
        assert_eq!(policy.check(), Err(ParameterError::Order { name: "backoff_base", limit: "backoff_cap" }));
    }

    #[test]
    fn times_are_read_in_every_unit_and_written_in_the_shortest_exact_one() {
        for (text, written) in
            [("1500ms", "1500ms"), ("30", "30s"), ("5m", "300s"), ("4h", "14400s"), ("0.5s", "500ms")]
        {
            assert_eq!(Duration::read(text).map(Field::write).as_deref(), Some(written));
        }
    }

    #[test]
    fn differences_name_both_values() {
        let mut other = Policy::default();
        other.set("intensity_max", "7").unwrap();
        assert_eq!(
            Policy::default().differences(&other),
            [("intensity_max", "5".to_owned(), "7".to_owned())]
        );
        assert_ne!(Policy::default().hash(), other.hash());
    }
}
