//! What becomes of facts when they are old: a rule, without a clock.
//!
//! Only what says again and again that nothing has changed ever expires: heartbeats. What is left of them are hourly
//! summaries, the first and the last of each run of them between two other facts of their workspace ([`Sieve`]), and a workspace's
//! very last ones ([`Rhythm`]), so that every state folded from the log is the same with them and without. Lifecycle, supervision,
//! what operators did and how calls ended are kept for ever.

use serde::{Deserialize, Serialize};

use crate::envelope::Timestamp;
use crate::workspace::HeartbeatReceived;

mod rhythm;
mod sieve;

pub use rhythm::{INTERVALS_KEPT, Rhythm};
pub use sieve::{Seen, Sieve};

/// Heartbeats older than this are rolled up (decision 8).
pub const HEARTBEATS_DEFAULT: chrono::TimeDelta = chrono::TimeDelta::days(7);
/// The shortest that they may be kept one by one: an incident of last night is looked into the next morning.
pub const HEARTBEATS_MIN: chrono::TimeDelta = chrono::TimeDelta::days(1);

/// What kind of fact a tag is of, as far as its age matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Life of a workspace, and what was seen of it.
    Lifecycle,
    /// Why something was restarted, or not.
    Supervision,
    /// What a person asked for.
    Operator,
    /// How calls ended. Decisions about sessions rest on it, and there are no bodies in it.
    Call,
    /// What was said in calls, and what agents say that they did.
    Activity,
    /// The agent says that it is well.
    Heartbeat,
}

impl Class {
    /// The class of a wire tag; `None` for one that nobody has classified.
    pub fn of(tag: &str) -> Option<Self> {
        let (kind, name) = tag.split_once('.')?;
        let name = name.rsplit_once('.').map_or(name, |(name, _)| name);
        match (kind, name) {
            ("workspace", "heartbeat_received") => Some(Self::Heartbeat),
            ("workspace", "call_finished") => Some(Self::Call),
            ("workspace", "activity_reported" | "call_recorded" | "message_queued" | "notified") => {
                Some(Self::Activity)
            }
            (
                "workspace",
                "card_updated"
                | "came_online"
                | "created"
                | "degraded"
                | "delegation_dispatched"
                | "delegation_ended"
                | "delegation_queued"
                | "delegation_requested"
                | "handler_panicked"
                | "instance_adopted"
                | "instance_started"
                | "instance_stopped"
                | "outcome_unknown"
                | "provision_failed"
                | "provision_requested"
                | "registered"
                | "registration_refused"
                | "stop_failed"
                | "stop_requested"
                | "token_issued"
                | "tokens_revoked"
                | "went_offline",
            )
            | ("fleet", "platform_started" | "platform_stopped" | "tail_repaired" | "log_mended") => {
                Some(Self::Lifecycle)
            }
            (
                "workspace",
                "confirm_requested" | "death_refuted" | "drain_ended" | "drain_requested"
                | "evidence_observed" | "quarantined" | "restart_abandoned" | "restart_announced"
                | "restart_proved" | "restart_requested" | "restart_started" | "session_cleared"
                | "session_poisoned" | "session_suspected" | "suspicion_cleared" | "suspicion_raised"
                | "verdict_reached" | "verdict_withheld",
            ) => Some(Self::Supervision),
            (
                "workspace",
                "directory_changed" | "enrolment_opened" | "erased" | "folded" | "moved" | "paused"
                | "placed" | "removed" | "secret_removed" | "secret_set" | "renamed" | "resumed"
                | "role_changed" | "runtime_changed" | "tier_changed",
            )
            | (
                "fleet",
                "hold_released" | "hold_set" | "incident_closed" | "incident_noted" | "incident_opened"
                | "mode_set" | "secret_removed" | "secret_set" | "strategy_set",
            ) => Some(Self::Operator),
            ("fleet", _) => Some(Self::Supervision),
            _ => None,
        }
    }

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lifecycle => "lifecycle",
            Self::Supervision => "supervision",
            Self::Operator => "operator",
            Self::Call => "calls",
            Self::Activity => "activity",
            Self::Heartbeat => "heartbeats",
        }
    }

    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Lifecycle, Self::Supervision, Self::Operator, Self::Call, Self::Activity, Self::Heartbeat];
}

/// What is to become of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays.
    Keep,
    /// It goes, but for what its hour's summary says of it, unless it begins or ends a run of its like.
    RollUp,
}

/// How long what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Heartbeats; `None`: for ever.
    pub heartbeats: Option<chrono::TimeDelta>,
}

impl Default for Rules {
    fn default() -> Self {
        Self { heartbeats: Some(HEARTBEATS_DEFAULT) }
    }
}

impl Rules {
    /// The limit of a class; `None`: for ever.
    pub const fn limit(&self, class: Class) -> Option<chrono::TimeDelta> {
        match class {
            Class::Heartbeat => self.heartbeats,
            Class::Lifecycle | Class::Supervision | Class::Operator | Class::Call | Class::Activity => None,
        }
    }

    /// What becomes of a fact of this age. What nobody has classified is kept.
    pub fn fate(&self, tag: &str, age: chrono::TimeDelta) -> Fate {
        let limit = Class::of(tag).and_then(|class| self.limit(class));
        if limit.is_some_and(|limit| age > limit) { Fate::RollUp } else { Fate::Keep }
    }
}

impl std::fmt::Display for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.heartbeats {
            Some(limit) => write!(f, "heartbeats older than {} h are rolled up", limit.num_hours()),
            None => f.write_str("heartbeats are kept for ever"),
        }
    }
}

/// An hour of one workspace's heartbeats that are not there one by one any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hour {
    /// Hours since 1970.
    pub hour: i64,
    /// How many.
    pub beats: u32,
    /// When the first came, in microseconds since 1970.
    pub first_at: i64,
    /// When the last came.
    pub last_at: i64,
    /// The longest time before one of them without another, in milliseconds.
    pub longest_ms: u64,
    /// How many reported errors.
    pub errors: u32,
    /// The highest share of failed work, in thousandths.
    pub worst_permille: u32,
    /// The most tasks under way.
    pub tasks_max: i64,
}

impl Hour {
    /// Takes in one heartbeat that goes; `before` is when the one before it came.
    pub fn add(hours: &mut Vec<Self>, beat: &HeartbeatReceived, at: Timestamp, before: Option<Timestamp>) {
        let micros = at.timestamp_micros();
        let hour = micros.div_euclid(3_600_000_000);
        let silent = before.map_or(0, |before| u64::try_from((at - before).num_milliseconds()).unwrap_or(0));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0 to 1000")]
        let permille = (beat.error_rate.clamp(0.0, 1.0) * 1000.0) as u32;
        let one = Self {
            hour,
            beats: 1,
            first_at: micros,
            last_at: micros,
            longest_ms: silent,
            errors: u32::from(permille > 0 || !beat.sample_error.is_empty()),
            worst_permille: permille,
            tasks_max: beat.active_tasks,
        };
        match hours.last_mut().filter(|last| last.hour == hour) {
            Some(last) => last.merge(&one),
            None => hours.push(one),
        }
    }

    fn merge(&mut self, other: &Self) {
        self.beats = self.beats.saturating_add(other.beats);
        self.first_at = self.first_at.min(other.first_at);
        self.last_at = self.last_at.max(other.last_at);
        self.longest_ms = self.longest_ms.max(other.longest_ms);
        self.errors = self.errors.saturating_add(other.errors);
        self.worst_permille = self.worst_permille.max(other.worst_permille);
        self.tasks_max = self.tasks_max.max(other.tasks_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAGS: &str = include_str!("../../tests/fixtures/event_tags.txt");

    fn tags() -> impl Iterator<Item = &'static str> {
        TAGS.lines().filter(|line| !line.starts_with('#') && !line.is_empty())
    }

    #[test]
    fn every_tag_ever_written_has_a_class() {
        let unknown: Vec<_> = tags().filter(|tag| Class::of(tag).is_none()).collect();
        assert_eq!(unknown, Vec::<&str>::new());
        assert_eq!(Class::of("workspace.never_heard_of.v1"), None);
        assert_eq!(Class::of("workspace.heartbeat_received.v9"), Some(Class::Heartbeat));
    }

    #[test]
    fn nothing_but_heartbeats_ever_goes_and_they_only_when_they_are_old() {
        let rules = Rules::default();
        let century = chrono::TimeDelta::days(36_500);
        let gone: Vec<_> = tags().filter(|tag| rules.fate(tag, century) != Fate::Keep).collect();
        assert_eq!(gone, ["workspace.heartbeat_received.v1"]);
        assert_eq!(rules.fate(gone[0], HEARTBEATS_DEFAULT), Fate::Keep);
        assert_eq!(Rules { heartbeats: None }.fate(gone[0], century), Fate::Keep);
        assert_eq!(rules.fate("workspace.never_heard_of.v1", century), Fate::Keep);
    }
}
