//! Flights: what observers had seen when a brake engaged, as it came, and the words for it.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use covalence_events::fleet::{self, Event, FlightCounts, FlightLost, FlightRecorded};
use covalence_events::log::{EventLog, ReadError};
use covalence_events::{Fact, Position, Recorded};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::incident::Incident;
use crate::reading::{self, Failure, Which};
use crate::words::{between, lasting};

mod words;

pub use words::say;

/// What the flight recorder left of a brake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Flight {
    /// Its place in the log.
    pub position: u64,
    /// When it was recorded.
    pub at: DateTime<Utc>,
    /// The cell whose brake engaged. The observations of all cells are in it.
    pub cell: String,
    /// Why there are no observations: `platform_ended` (the process that had made them ended before it wrote them), `not_packed`.
    pub lost: Option<String>,
    /// What there is; none where it is lost.
    pub recorded: Option<Observed>,
}

/// The observations of a flight, counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Observed {
    /// From here on they are complete, heartbeats excepted.
    pub since: DateTime<Utc>,
    /// From here on heartbeats are.
    pub beats_since: DateTime<Utc>,
    /// Up to here.
    pub until: DateTime<Utc>,
    /// Whether there was no room for all of the last quarter of an hour.
    pub cut: bool,
    /// All of them.
    pub observations: u32,
    /// Lists; what failed is one that brought nothing.
    pub lists: Answers,
    /// Looks at one instance; what failed is one after which nothing is known.
    pub looks: Answers,
    /// Requests for agents' cards; what failed is one without an answer.
    pub probes: Answers,
    /// Starts, looks before restarts, looks for callers; what failed says something about the engine.
    pub calls: Answers,
    /// Ends of instances that were told unasked.
    pub exits: u32,
    /// Heartbeats.
    pub beats: u32,
    /// Those among them that were refused.
    pub beats_refused: u32,
    /// Turns of an observer that came late.
    pub late_turns: u32,
    /// How late the latest was, in milliseconds.
    pub latest_turn_ms: u64,
    /// Turns before which an append to the log had failed.
    pub appends_failed: u32,
    /// The highest 99th percentile of appends, in milliseconds.
    pub append_p99_ms: u64,
}

/// How one kind of question was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = FlightAnswers)]
pub struct Answers {
    /// Answers that came, failed ones among them.
    pub answered: u32,
    /// Those that failed.
    pub failed: u32,
    /// Those that took a second or more.
    pub slow: u32,
    /// How long the slowest took, in milliseconds.
    pub slowest_ms: u64,
    /// Questions that had no answer yet.
    pub pending: u32,
}

impl From<fleet::Answers> for Answers {
    fn from(answers: fleet::Answers) -> Self {
        let fleet::Answers { answered, failed, slow, slowest_ms, pending } = answers;
        Self { answered, failed, slow, slowest_ms, pending }
    }
}

impl Flight {
    pub(crate) fn recorded(e: &FlightRecorded, event: &Recorded) -> Self {
        let FlightCounts {
            observations,
            lists,
            looks,
            probes,
            calls,
            exits,
            beats,
            beats_refused,
            late_turns,
            latest_turn_ms,
            appends_failed,
            append_p99_ms,
        } = e.counts;
        let recorded = Observed {
            since: e.since,
            beats_since: e.beats_since,
            until: e.until,
            cut: e.cut,
            observations,
            lists: lists.into(),
            looks: looks.into(),
            probes: probes.into(),
            calls: calls.into(),
            exits,
            beats,
            beats_refused,
            late_turns,
            latest_turn_ms,
            appends_failed,
            append_p99_ms,
        };
        Self { lost: None, recorded: Some(recorded), ..Self::of(e.cell.as_str(), event) }
    }

    pub(crate) fn lost(e: &FlightLost, event: &Recorded) -> Self {
        Self { lost: Some(e.reason.clone()), ..Self::of(e.cell.as_str(), event) }
    }

    fn of(cell: &str, event: &Recorded) -> Self {
        let (position, at, cell) = (event.position.0, event.meta.at, cell.to_owned());
        Self { position, at, cell, lost: None, recorded: None }
    }

    /// What is in it, in a sentence without times.
    pub fn summary(&self) -> String {
        match (&self.recorded, &self.lost) {
            (Some(observed), _) => observed.summary(),
            (None, Some(reason)) => format!("lost: {}", why(reason)),
            (None, None) => "nothing is known of it".to_owned(),
        }
    }
}

/// The words for why a flight is lost.
pub(crate) fn why(reason: &str) -> &str {
    match reason {
        "platform_ended" => "the process that had observed ended before it wrote",
        other => other,
    }
}

impl Observed {
    fn summary(&self) -> String {
        let mut parts = Vec::new();
        for (what, answers) in [
            ("lists", self.lists),
            ("looks", self.looks),
            ("probes", self.probes),
            ("other calls", self.calls),
        ] {
            parts.extend(answers.summary(what));
        }
        let mut count = |count: u32, what: &str| {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        };
        count(self.exits, "exits");
        count(self.beats, "heartbeats");
        count(self.beats_refused, "heartbeats refused");
        count(self.appends_failed, "turns after failed appends");
        if self.late_turns > 0 {
            let latest = lasting(self.latest_turn_ms);
            parts.push(format!("{} turns of ours late, the latest by {latest}", self.late_turns));
        }
        let lasted = lasting(between(self.since, self.until));
        let cut = if self.cut { ", of more than there was room for" } else { "" };
        format!("{} observations of {lasted}{cut}: {}", self.observations, parts.join("; "))
    }
}

impl Answers {
    fn summary(self, what: &str) -> Option<String> {
        if self.answered + self.pending == 0 {
            return None;
        }
        let mut said = format!("{} {what}, the slowest {}", self.answered, lasting(self.slowest_ms));
        for (count, word) in
            [(self.failed, "failed"), (self.slow, "slow"), (self.pending, "without an answer")]
        {
            if count > 0 {
                // Writing to a string can't fail.
                let _ = write!(said, ", {count} {word}");
            }
        }
        Some(said)
    }
}

/// The observations of an incident's flight as JSON lines: of the one at this position, or of the first that has any.
///
/// # Errors
/// The incident has no such flight, or the log can't be read.
pub async fn lines(
    log: &dyn EventLog,
    incident: &Incident,
    position: Option<u64>,
) -> Result<Vec<u8>, Failure> {
    let wanted = |flight: &&Flight| match position {
        Some(position) => flight.position == position,
        None => flight.recorded.is_some(),
    };
    let Some(flight) = incident.flights.iter().find(wanted) else {
        let none = "no brake of this incident left a flight";
        let lost = incident.flights.iter().find_map(|flight| flight.lost.as_deref());
        return Err(Failure::NoFlight(match (position, lost) {
            (Some(position), _) => format!("this incident has no flight at position {position}"),
            (None, Some(reason)) => format!("{none}: {}", why(reason)),
            (None, None) => none.to_owned(),
        }));
    };
    let event = reading::locate(log, Which::Position(Position(flight.position))).await?;
    match &event.fact {
        Fact::Fleet(Event::FlightRecorded(e)) => e.observations.lines().map_err(|error| {
            let what = format!("the flight at position {}", flight.position);
            Failure::Read(ReadError::Store { what, reason: error.to_string() })
        }),
        Fact::Fleet(Event::FlightLost(e)) => {
            Err(Failure::NoFlight(format!("it is lost: {}", why(&e.reason))))
        }
        Fact::Fleet(_) | Fact::Workspace(_) => Err(Failure::NoFact(flight.position.to_string())),
    }
}

#[cfg(test)]
mod tests;
