//! What is wrong with the platform's own disk and log, for as long as it is.
//!
//! These alarms are about what alarms are usually kept in, so they don't rest on it: they are told past the log, shown from memory, and
//! recorded as soon as the log takes them. A log that was shut says afterwards that it was, and since when.
//!
//! # Guarantees
//! - Each condition is told once when it begins and once when it ends, however often it is looked at.
//! - Both are recorded in order, once the log takes facts. What a crash keeps from being recorded is looked at anew by the next start.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use covalence_actors::context::Origin;
use covalence_actors::fleet::Command;
use covalence_actors::runtime::Runtime;
use covalence_events::log::EventLog;
use covalence_events::log::segments::export::Status;
use covalence_events::pulse::{IDLE_ROUND, Pulse};
use covalence_events::{EventId, Principal, Timestamp};
use metrics::gauge;
use serde_json::json;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use crate::metrics_names as names;

mod space;

use space::{LEVELS, Space};

/// The first words of the kinds of these alarms.
pub const KINDS: [&str; 4] = ["low_space", "log_read_only", "log_damaged", "export_failing"];

/// Beginnings and ends that wait to be recorded; more than there are conditions, several times over.
const UNRECORDED_MAX: usize = 64;
/// Notices that wait for a receiver who is away.
pub const UNTOLD_MAX: usize = 64;
/// Damaged places that one message names.
const PLACES_MAX: usize = 3;

/// Whether a kind of alarm is one of these.
pub fn is_ours(kind: &str) -> bool {
    kind.split(':').next().is_some_and(|first| KINDS.contains(&first))
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// A stable word, with what it is about behind a colon where there are several.
    pub kind: String,
    /// For people: what is wrong, and what to do.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
}

/// A condition that began or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub condition: Condition,
    /// Whether it is over.
    pub over: bool,
    /// When it began or ended.
    pub at: Timestamp,
}

impl Change {
    /// As the receiver of alarms gets it. It has no position: it is told whether or not it is in the log.
    pub fn notice(&self) -> serde_json::Value {
        let (event, message) = if self.over {
            ("fleet.alarm_resolved.v1", format!("{} is over", self.condition.kind))
        } else {
            ("fleet.alarm_raised.v1", self.condition.message.clone())
        };
        json!({
            "id": EventId::generate(),
            "position": null,
            "at": self.at,
            "event": event,
            "kind": self.condition.kind,
            "workspace": null,
            "message": message,
            "resolved": self.over,
            "by": Principal::System.to_string(),
            "text": message,
        })
    }

    fn command(&self) -> Command {
        let kind = self.condition.kind.clone();
        if self.over {
            Command::ResolveAlarm { kind, workspace: None }
        } else {
            Command::RaiseAlarm { kind, workspace: None, message: self.condition.message.clone() }
        }
    }
}

/// What is wrong now, for whoever shows it.
#[derive(Debug, Default)]
pub struct Conditions {
    on: Mutex<BTreeMap<String, Condition>>,
}

impl Conditions {
    /// Those that are on when the platform starts, as the log has them: they begin no second time, and end if they are over.
    pub fn beginning_with(known: impl IntoIterator<Item = Condition>) -> Self {
        let known = known.into_iter().map(|condition| (condition.kind.clone(), condition));
        Self { on: Mutex::new(known.collect()) }
    }

    /// All that are on.
    pub fn list(&self) -> Vec<Condition> {
        self.on().values().cloned().collect()
    }

    fn is_on(&self, kind: &str) -> bool {
        self.on().contains_key(kind)
    }

    /// Takes in what holds now; answers what that changes.
    fn update(&self, holding: Vec<(String, String)>, now: Timestamp) -> Vec<Change> {
        let mut on = self.on();
        let is_over = |kind: &String| !holding.iter().any(|(holds, _)| holds == kind);
        let over: Vec<String> = on.keys().filter(|kind| is_over(kind)).cloned().collect();
        let ended = over.iter().filter_map(|kind| on.remove(kind));
        let mut changes: Vec<Change> =
            ended.map(|condition| Change { condition, over: true, at: now }).collect();
        for (kind, message) in holding {
            if let Some(known) = on.get_mut(&kind) {
                known.message = message;
                continue;
            }
            let condition = Condition { kind: kind.clone(), message, since: now };
            on.insert(kind, condition.clone());
            changes.push(Change { condition, over: false, at: now });
        }
        changes
    }

    fn on(&self) -> MutexGuard<'_, BTreeMap<String, Condition>> {
        // Nothing that runs under the lock can panic half-way through a change.
        self.on.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is looked at.
#[derive(Debug)]
pub struct Sources {
    /// Whose disk is measured.
    pub data_dir: PathBuf,
    /// Whether it takes facts, and what of it could not be read.
    pub log: Arc<dyn EventLog>,
    /// How the log's export fares.
    pub export: Arc<Status>,
}

impl Sources {
    /// What holds now, as kind and message. `failing_since`: when the export began to fail, kept from look to look.
    fn look(
        &self,
        conditions: &Conditions,
        (failing_since, patience): (&mut Option<Timestamp>, Duration),
        now: Timestamp,
    ) -> Vec<(String, String)> {
        let mut holding = Vec::new();
        match Space::of(&self.data_dir) {
            Ok(space) => {
                #[expect(clippy::cast_precision_loss, reason = "a gauge; bytes of no disk need more")]
                gauge!(names::DATA_FREE_BYTES).set(space.free as f64);
                gauge!(names::DATA_FREE_RATIO).set(space.share());
                holding.extend(low_space(space, conditions));
            }
            Err(error) => {
                warn!(%error, "the free space of the data directory can't be asked for");
                // Nothing is known, so nothing changes.
                let known = conditions.list().into_iter().filter(|one| one.kind.starts_with("low_space:"));
                holding.extend(known.map(|one| (one.kind, one.message)));
            }
        }
        if let Some(shut) = self.log.read_only() {
            let since = shut.since.format("%Y-%m-%d %H:%M:%S UTC");
            let message =
                format!("the log has taken no facts since {since}: {}; {}", shut.reason, shut.remedy());
            holding.push(("log_read_only".to_owned(), message));
        }
        let damage = self.log.damage();
        if !damage.is_empty() {
            let places: Vec<&str> = damage.iter().take(PLACES_MAX).map(|one| one.what.as_str()).collect();
            let more = damage.len().saturating_sub(places.len());
            let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
            let message = format!(
                "the log can't be read everywhere: {}{more}; `covalence log verify` shows all of it, `covalence log \
                 restore` makes it whole from its segments",
                places.join("; ")
            );
            holding.push(("log_damaged".to_owned(), message));
        }
        let progress = self.export.progress();
        *failing_since = progress.failed.as_ref().map(|_| failing_since.unwrap_or(now));
        if let (Some(since), Some(reason)) = (*failing_since, progress.failed)
            && (conditions.is_on("export_failing") || (now - since).to_std().unwrap_or_default() >= patience)
        {
            let lag = self.log.head().0.saturating_sub(progress.exported.0);
            let message = format!(
                "the log has not been exported for {} min, {lag} facts are in no segment: {reason}",
                (now - since).num_minutes()
            );
            holding.push(("export_failing".to_owned(), message));
        }
        holding
    }
}

fn low_space(space: Space, conditions: &Conditions) -> impl Iterator<Item = (String, String)> {
    let level = |level: u8| (level, format!("low_space:{level}"));
    let below = LEVELS.map(level).into_iter().filter(|(level, kind)| {
        let was = conditions.is_on(kind);
        space.is_below(*level, was)
    });
    let below: Vec<_> = below.collect();
    below.into_iter().map(move |(level, kind)| {
        let (percent, free) = (space.share() * 100.0, space.free >> 20);
        let message = format!(
            "{percent:.1} % of the disk of the data directory are free, {free} MiB, less than {level} %: make room; the log \
             takes no facts with less than 64 MiB"
        );
        (kind, message)
    })
}

/// Looks, and says what changed.
#[derive(Debug)]
pub struct Watcher {
    sources: Sources,
    conditions: Arc<Conditions>,
    every: Duration,
    pulse: Arc<Pulse>,
    /// To whoever posts notices.
    tell: Option<mpsc::Sender<serde_json::Value>>,
    unrecorded: VecDeque<Change>,
    failing_since: Option<Timestamp>,
}

impl Watcher {
    /// One that looks this often. `tell`: where notices go, if anywhere.
    pub fn new(
        sources: Sources,
        conditions: Arc<Conditions>,
        every: Duration,
        tell: Option<mpsc::Sender<serde_json::Value>>,
    ) -> Self {
        let pulse = Pulse::new("conditions");
        Self { sources, conditions, every, pulse, tell, unrecorded: VecDeque::new(), failing_since: None }
    }

    /// The loop's pulse.
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Looks for as long as the platform runs.
    pub async fn run(mut self, runtime: Runtime, now: impl Fn() -> Timestamp) {
        loop {
            let patience = runtime.policy().unknown_alarm;
            self.look(patience, now());
            self.record(&runtime).await;
            self.pulse.waiting(tokio::time::sleep(self.every), || true).await;
        }
    }

    fn look(&mut self, patience: Duration, now: Timestamp) {
        let holding = self.sources.look(&self.conditions, (&mut self.failing_since, patience), now);
        for change in self.conditions.update(holding, now) {
            let kind = change.condition.kind.as_str();
            if change.over {
                info!(kind, "the alarm is over");
            } else {
                error!(kind, "{}", change.condition.message);
            }
            if let Some(tell) = &self.tell
                && tell.try_send(change.notice()).is_err()
            {
                warn!(kind, "the receiver of alarms is away for too long to be told of this");
            }
            if self.unrecorded.len() == UNRECORDED_MAX {
                self.unrecorded.pop_front();
            }
            self.unrecorded.push_back(change);
        }
    }

    /// Records what the log does not have yet, in order.
    async fn record(&mut self, runtime: &Runtime) {
        while self.sources.log.read_only().is_none()
            && let Some(change) = self.unrecorded.front()
        {
            let recording = runtime.fleet(change.command(), Origin::new(Principal::System));
            match tokio::time::timeout(IDLE_ROUND, recording).await {
                Ok(Ok(_)) => drop(self.unrecorded.pop_front()),
                // Tried again in the next round.
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests;
