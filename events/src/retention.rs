//! What becomes of facts when they are old: a rule, without a clock.
//!
//! Two kinds of facts ever expire. Heartbeats say again and again that nothing has changed: what is left of them are hourly
//! summaries, the first and the last of each run of them between two other facts of their workspace ([`Sieve`]), and a workspace's
//! very last ones ([`Rhythm`]). What was said in calls, and what agents report of themselves, is shown in feeds for
//! [`FEED_KEPT`] and decides nothing; a day after that it goes as a whole. So every state folded from the log is the same with
//! them and without. Lifecycle, supervision, what operators did, how calls ended and what waits to be fetched are kept for ever.

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

/// Feeds show what is younger than this, measured back from the log's last fact (contract data 4.1: the ceiling of a row's life).
pub const FEED_KEPT: chrono::TimeDelta = chrono::TimeDelta::days(30);
/// Activity older than this goes, and the shortest that it may be kept: a day longer than feeds show it, whatever the clocks
/// of two processes make of the same moment.
pub const ACTIVITY_DEFAULT: chrono::TimeDelta = chrono::TimeDelta::days(31);

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
    /// What was left for an agent to fetch. What is sent again is known by the last of them.
    Message,
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
        match kind {
            "workspace" => Self::of_workspace(name),
            "fleet" => Some(Self::of_fleet(name)),
            _ => None,
        }
    }

    fn of_workspace(name: &str) -> Option<Self> {
        Some(match name {
            "heartbeat_received" => Self::Heartbeat,
            "call_finished" => Self::Call,
            "message_queued" => Self::Message,
            "activity_reported" | "call_recorded" | "notified" => Self::Activity,
            "activity_acked"
            | "call_dequeued"
            | "call_dispatched"
            | "call_queued"
            | "call_returned"
            | "card_updated"
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
            | "team_collapsed"
            | "team_expanded"
            | "token_issued"
            | "tokens_revoked"
            | "went_offline" => Self::Lifecycle,
            "confirm_requested" | "death_refuted" | "drain_ended" | "drain_requested"
            | "evidence_observed" | "quarantined" | "restart_abandoned" | "restart_announced"
            | "restart_proved" | "restart_requested" | "restart_started" | "session_cleared"
            | "session_poisoned" | "session_suspected" | "suspicion_cleared" | "suspicion_raised"
            | "verdict_reached" | "verdict_withheld" => Self::Supervision,
            "agent_assigned"
            | "agent_move_ended"
            | "agent_removed"
            | "directory_changed"
            | "enrolment_opened"
            | "erased"
            | "folded"
            | "hibernated"
            | "hibernation_requested"
            | "moved"
            | "paused"
            | "placed"
            | "removed"
            | "secret_removed"
            | "secret_set"
            | "renamed"
            | "resumed"
            | "role_changed"
            | "runtime_changed"
            | "tier_changed" => Self::Operator,
            _ => return None,
        })
    }

    fn of_fleet(name: &str) -> Self {
        match name {
            "platform_started" | "platform_stopped" | "tail_repaired" | "log_mended" => Self::Lifecycle,
            "hold_released" | "hold_set" | "incident_closed" | "incident_noted" | "incident_opened"
            | "master_key_rotated" | "mode_set" | "org_token_issued" | "org_token_revoked"
            | "secret_removed" | "secret_set" | "strategy_set" => Self::Operator,
            _ => Self::Supervision,
        }
    }

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lifecycle => "lifecycle",
            Self::Supervision => "supervision",
            Self::Operator => "operator",
            Self::Call => "calls",
            Self::Message => "messages",
            Self::Activity => "activity",
            Self::Heartbeat => "heartbeats",
        }
    }

    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Lifecycle,
        Self::Supervision,
        Self::Operator,
        Self::Call,
        Self::Message,
        Self::Activity,
        Self::Heartbeat,
    ];
}

/// What is to become of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays.
    Keep,
    /// It goes, but for what its hour's summary says of it, unless it begins or ends a run of its like.
    RollUp,
    /// It goes, and is counted.
    Drop,
}

/// How long what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rules {
    /// Heartbeats; `None`: for ever.
    pub heartbeats: Option<chrono::TimeDelta>,
    /// Activity; `None`: for ever.
    pub activity: Option<chrono::TimeDelta>,
}

impl Default for Rules {
    fn default() -> Self {
        Self { heartbeats: Some(HEARTBEATS_DEFAULT), activity: Some(ACTIVITY_DEFAULT) }
    }
}

impl Rules {
    /// The limit of a class; `None`: for ever.
    pub const fn limit(&self, class: Class) -> Option<chrono::TimeDelta> {
        match class {
            Class::Heartbeat => self.heartbeats,
            Class::Activity => self.activity,
            Class::Lifecycle | Class::Supervision | Class::Operator | Class::Call | Class::Message => None,
        }
    }

    /// Whether everything is kept for ever.
    pub const fn keep_all(&self) -> bool {
        self.heartbeats.is_none() && self.activity.is_none()
    }

    /// The classes of which something goes where the youngest fact is of this age.
    pub fn reach(&self, age: chrono::TimeDelta) -> Reach {
        let beyond = |limit: Option<chrono::TimeDelta>| limit.is_some_and(|limit| age > limit);
        Reach { heartbeats: beyond(self.heartbeats), activity: beyond(self.activity) }
    }

    /// Those of them that reach so far, in words: what stands where facts were removed.
    pub fn applied(&self, reach: Reach) -> String {
        let hours = |limit: Option<chrono::TimeDelta>| limit.unwrap_or_default().num_hours();
        let heartbeats = format!("{HEARTBEATS_GO} {} h are rolled up", hours(self.heartbeats));
        let activity = format!("{ACTIVITY_GOES} {} h goes", hours(self.activity));
        let said = [(reach.heartbeats, heartbeats), (reach.activity, activity)];
        let said = said.into_iter().filter_map(|(applies, words)| applies.then_some(words));
        said.collect::<Vec<_>>().join(", ")
    }

    /// What becomes of a fact of this age. What nobody has classified is kept.
    pub fn fate(&self, tag: &str, age: chrono::TimeDelta) -> Fate {
        let class = Class::of(tag);
        match class.and_then(|class| self.limit(class)) {
            Some(limit) if age > limit && class == Some(Class::Heartbeat) => Fate::RollUp,
            Some(limit) if age > limit => Fate::Drop,
            Some(_) | None => Fate::Keep,
        }
    }
}

/// How far rules reach into a stretch of the log: of which classes its facts are all too old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reach {
    /// Heartbeats.
    pub heartbeats: bool,
    /// Activity.
    pub activity: bool,
}

impl Reach {
    /// How far the rule that stands where facts were removed says that it reached.
    pub fn of_rule(words: &str) -> Self {
        Self { heartbeats: words.contains(HEARTBEATS_GO), activity: words.contains(ACTIVITY_GOES) }
    }

    /// What this one reaches and another does not.
    #[must_use]
    pub const fn beyond(self, other: Self) -> Self {
        Self { heartbeats: self.heartbeats && !other.heartbeats, activity: self.activity && !other.activity }
    }

    /// What either of them reaches.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self { heartbeats: self.heartbeats || other.heartbeats, activity: self.activity || other.activity }
    }

    /// Whether it reaches anything.
    pub const fn is_any(self) -> bool {
        self.heartbeats || self.activity
    }
}

/// The words of a rule by which heartbeats go.
const HEARTBEATS_GO: &str = "heartbeats older than";
/// The words of a rule by which activity goes.
const ACTIVITY_GOES: &str = "activity older than";

impl std::fmt::Display for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = Reach { heartbeats: self.heartbeats.is_some(), activity: self.activity.is_some() };
        match (all.heartbeats, all.activity) {
            (false, false) => f.write_str("everything is kept for ever"),
            (true, true) => f.write_str(&self.applied(all)),
            (true, false) => write!(f, "{}, activity is kept for ever", self.applied(all)),
            (false, true) => write!(f, "heartbeats are kept for ever, {}", self.applied(all)),
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
    fn nothing_but_heartbeats_and_what_was_said_ever_goes_and_they_only_when_they_are_old() {
        let rules = Rules::default();
        let century = chrono::TimeDelta::days(36_500);
        let gone = |fate: Fate| tags().filter(|tag| rules.fate(tag, century) == fate).collect::<Vec<_>>();
        assert_eq!(gone(Fate::RollUp), ["workspace.heartbeat_received.v1"]);
        let said = ["workspace.activity_reported.v1", "workspace.call_recorded.v1", "workspace.notified.v1"];
        assert_eq!(gone(Fate::Drop).into_iter().collect::<std::collections::BTreeSet<_>>(), said.into());
        assert_eq!(rules.fate("workspace.heartbeat_received.v1", HEARTBEATS_DEFAULT), Fate::Keep);
        assert_eq!(rules.fate(said[0], ACTIVITY_DEFAULT), Fate::Keep);
        let ever = Rules { heartbeats: None, activity: None };
        assert!(ever.keep_all() && tags().all(|tag| ever.fate(tag, century) == Fate::Keep));
        assert_eq!(rules.fate("workspace.never_heard_of.v1", century), Fate::Keep);
        assert!(ACTIVITY_DEFAULT > FEED_KEPT, "what a feed shows is there");
    }

    #[test]
    fn a_removal_says_how_far_it_reached() {
        let rules = Rules::default();
        let heartbeats = Reach { heartbeats: true, activity: false };
        let both = Reach { heartbeats: true, activity: true };
        assert_eq!(rules.reach(HEARTBEATS_DEFAULT * 2), heartbeats);
        assert_eq!(rules.reach(ACTIVITY_DEFAULT * 2), both);
        for reach in [heartbeats, both, both.beyond(heartbeats), Reach::default()] {
            assert_eq!(Reach::of_rule(&rules.applied(reach)), reach);
        }
        // What removals said before activity ever went.
        assert_eq!(Reach::of_rule("heartbeats older than 168 h are rolled up"), heartbeats);
        assert_eq!(heartbeats.with(both.beyond(heartbeats)), both);
        assert_eq!(rules.to_string(), rules.applied(both));
        let ever = Rules { heartbeats: None, activity: None };
        assert!(!ever.reach(ACTIVITY_DEFAULT * 2).is_any() && ever.to_string().contains("for ever"));
    }
}
