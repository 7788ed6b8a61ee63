//! Alarms reach somebody: follows the log and posts what a person should know of to a configured address, as JSON.
//!
//! # Guarantees
//! - At least once, in the log's order: the position in `<data-dir>/alarms-position` moves on only after the receiver has
//!   accepted, so a crash repeats the last notice and loses none. Each has the fact's `id` to tell a repetition by.
//! - The same condition is told once: an alarm that is on is not told again, and its end is told with `"resolved": true`.
//! - Nothing else waits for it, and it holds no queue of its own: the log is the queue. What is older than
//!   [`STALE_AFTER`] when it could be told at last is left out.
//!
//! # Caveats
//! - A receiver that says that it will never take a notice (4xx but 408 and 429) is not asked again about that one.
//! - The first start with an address begins at the log's present end.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use covalence_events::fleet::Event;
use covalence_events::log::{EventLog, ReadError, Subscription};
use covalence_events::pulse::Pulse;
use covalence_events::{Fact, Position, Recorded, Timestamp, WorkspaceId};
use covalence_projections::Views;
use serde_json::{Value, json};
use tracing::{error, info, warn};
use url::Url;

use crate::metrics_names::{ALARM_NOTICES, OUTCOME};

/// A receiver that takes longer is not one that wakes anybody.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Before the second try, doubling up to [`RETRY_CAP`].
const RETRY_BASE: Duration = Duration::from_secs(1);
/// The longest pause between two tries: a minute late is late enough.
const RETRY_CAP: Duration = Duration::from_secs(60);
/// Nobody is woken for what happened before yesterday.
pub const STALE_AFTER: chrono::TimeDelta = chrono::TimeDelta::hours(24);
/// Conditions remembered as told; far more than there are kinds.
const TOLD_MAX: usize = 4096;
/// Facts read at a time.
const BATCH: usize = 256;
/// Facts without a notice after which the position is written all the same, so that a restart reads little again.
const POSITION_EVERY: u64 = 10_000;
/// Pause before the log is read again after its store failed.
const READ_RETRY: Duration = Duration::from_secs(1);

/// Tells alarms to one address.
#[derive(Debug)]
pub struct Alarms {
    webhook: Url,
    file: PathBuf,
    http: reqwest::Client,
    log: Arc<dyn EventLog>,
    views: Arc<Views>,
    /// Conditions that were told to be on.
    told: BTreeSet<(String, Option<WorkspaceId>)>,
    retry_base: Duration,
    pulse: Arc<Pulse>,
}

/// What a receiver said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Accepted,
    Later,
    Never,
}

impl Alarms {
    /// Ready to follow the log; keeps its position in the data directory.
    ///
    /// # Errors
    /// No HTTP client could be made.
    pub fn new(
        webhook: Url,
        data_dir: &Path,
        log: Arc<dyn EventLog>,
        views: Arc<Views>,
    ) -> Result<Self, reqwest::Error> {
        // The program installs it at its start; whoever uses this module alone gets it here.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("covalence/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT);
        if webhook.scheme() == "http" {
            // The machine's certificates are not needed, and a minimal image has none.
            builder = builder.tls_certs_only([]);
        }
        let file = data_dir.join("alarms-position");
        let (http, told) = (builder.build()?, BTreeSet::new());
        let pulse = Pulse::new("alarms");
        Ok(Self { webhook, file, http, log, views, told, retry_base: RETRY_BASE, pulse })
    }

    /// The same with another pause before the second try.
    #[cfg(test)]
    fn retrying_after(mut self, base: Duration) -> Self {
        self.retry_base = base;
        self
    }

    /// The loop's pulse. A receiver that is away does not stop it.
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Follows the log until it is closed.
    pub async fn run(mut self, now: impl Fn() -> Timestamp) {
        let mut told = match read_position(&self.file) {
            Ok(Some(position)) => position,
            Ok(None) => self.log.head(),
            Err(error) => {
                error!(file = %self.file.display(), %error, "the position of told alarms can't be read: beginning at the log's end");
                self.log.head()
            }
        };
        self.keep(told);
        info!(host = self.webhook.host_str().unwrap_or_default(), "telling alarms");
        loop {
            let mut facts = Subscription::new(Arc::clone(&self.log), told.next());
            match self.follow(&mut facts, &mut told, &now).await {
                Ok(()) => return,
                Err(error @ ReadError::Corrupt { .. }) => {
                    error!(%error, "alarms are not told any more");
                    return;
                }
                Err(error @ ReadError::Store { .. }) => {
                    warn!(%error, "reading the log failed, trying again");
                    tokio::time::sleep(READ_RETRY).await;
                }
            }
        }
    }

    async fn follow(
        &mut self,
        facts: &mut Subscription,
        told: &mut Position,
        now: &impl Fn() -> Timestamp,
    ) -> Result<(), ReadError> {
        let mut kept = *told;
        let (log, pulse) = (Arc::clone(&self.log), Arc::clone(&self.pulse));
        while let Some(batch) = pulse.waiting(facts.next(BATCH), || *told >= log.head()).await? {
            for recorded in &batch {
                if let Some(notice) = self.notice(recorded, now()) {
                    self.tell(&notice).await;
                    self.keep(recorded.position);
                    kept = recorded.position;
                }
                *told = recorded.position;
            }
            if told.0 - kept.0 >= POSITION_EVERY {
                self.keep(*told);
                kept = *told;
            }
        }
        Ok(())
    }

    /// What is told of a fact, if anything is.
    fn notice(&mut self, recorded: &Recorded, now: Timestamp) -> Option<Value> {
        let Fact::Fleet(event) = &recorded.fact else { return None };
        let (kind, workspace, message, resolved) = told_of(event)?;
        if let Event::AlarmRaised(_) | Event::AlarmResolved(_) = event {
            let key = (kind.clone(), workspace);
            let changed = if resolved {
                // One that was told in an earlier run ends too.
                self.told.remove(&key);
                true
            } else {
                self.told.insert(key)
            };
            while self.told.len() > TOLD_MAX {
                self.told.pop_first();
            }
            if !changed {
                return None;
            }
        }
        if now - recorded.meta.at > STALE_AFTER {
            metrics::counter!(ALARM_NOTICES, OUTCOME => "stale").increment(1);
            return None;
        }
        let name = workspace.and_then(|id| self.views.roster.read().get(id)).map(|row| row.name.clone());
        let text = match &name {
            Some(name) => format!("{name}: {message}"),
            None => message.clone(),
        };
        Some(json!({
            "id": recorded.meta.id,
            "position": recorded.position,
            "at": recorded.meta.at,
            "event": recorded.fact.tag(),
            "kind": kind,
            "workspace": workspace.map(|id| json!({"id": id, "name": name})),
            "message": message,
            "resolved": resolved,
            "by": recorded.meta.principal.to_string(),
            // The one field that the common chat systems look at.
            "text": text,
        }))
    }

    /// Posts it until it is accepted, or refused for good.
    async fn tell(&self, notice: &Value) {
        let mut pause = self.retry_base;
        loop {
            match self.post(notice).await {
                Answer::Accepted => {
                    metrics::counter!(ALARM_NOTICES, OUTCOME => "accepted").increment(1);
                    return;
                }
                Answer::Never => {
                    metrics::counter!(ALARM_NOTICES, OUTCOME => "refused").increment(1);
                    error!(kind = %notice["kind"], "the receiver of alarms refuses this one for good");
                    return;
                }
                Answer::Later => {
                    metrics::counter!(ALARM_NOTICES, OUTCOME => "retried").increment(1);
                    self.pulse.waiting(tokio::time::sleep(pause), || true).await;
                    pause = (pause * 2).min(RETRY_CAP);
                }
            }
        }
    }

    async fn post(&self, notice: &Value) -> Answer {
        match self.http.post(self.webhook.clone()).json(notice).send().await {
            Ok(response) if response.status().is_success() => Answer::Accepted,
            Ok(response) => {
                let status = response.status();
                warn!(status = status.as_u16(), "the receiver of alarms did not take one");
                let never = status.is_client_error() && !matches!(status.as_u16(), 408 | 429);
                if never { Answer::Never } else { Answer::Later }
            }
            // The address may hold a secret and stays out of the log.
            Err(error) => {
                let error = anyhow::Error::from(error.without_url());
                warn!(error = format!("{error:#}"), "the receiver of alarms is not reached, trying again");
                Answer::Later
            }
        }
    }

    /// Writes the position; a failure costs a repetition after the next start.
    fn keep(&self, position: Position) {
        if let Err(error) = write_position(&self.file, position) {
            warn!(file = %self.file.display(), %error, "the position of told alarms can't be written");
        }
    }
}

/// Kind, whose, message, and whether it is the end of something.
fn told_of(event: &Event) -> Option<(String, Option<WorkspaceId>, String, bool)> {
    let told = |kind: &str, workspace, message: String, resolved| {
        Some((kind.to_owned(), workspace, message, resolved))
    };
    // A chain, not a match: whatever is not here wakes nobody.
    if let Event::AlarmRaised(e) = event {
        told(&e.kind, e.workspace, e.message.clone(), false)
    } else if let Event::AlarmResolved(e) = event {
        told(&e.kind, e.workspace, format!("{} is over", e.kind), true)
    } else if let Event::BrakeEngaged(e) = event {
        let (cell, mode, trigger) = (e.cell.as_str(), e.mode.as_str(), e.trigger.as_str());
        let message = format!(
            "the {cell} backend's brake is on: {mode}, because of {trigger} ({} of {})",
            e.count, e.of
        );
        told(&format!("brake_engaged:{cell}"), None, message, false)
    } else if let Event::BrakeReleased(e) = event {
        let cell = e.cell.as_str();
        let message =
            format!("the {cell} backend's brake is off after {} s: {}", e.after_ms / 1000, e.reason);
        told(&format!("brake_engaged:{cell}"), None, message, true)
    } else if let Event::QuarantineLifted(e) = event {
        told("quarantine", Some(e.workspace), format!("it is out of quarantine: {}", e.reason), true)
    } else if let Event::HoldSet(e) = event
        && e.emergency
    {
        told("emergency_stop", None, format!("nothing is started any more: {}", e.reason), false)
    } else if let Event::InvariantViolated(e) = event {
        let message = format!("a bug of the platform: `{}` does not hold: {}", e.invariant, e.detail);
        told("invariant_violated", e.workspace, message, false)
    } else {
        None
    }
}

fn read_position(file: &Path) -> io::Result<Option<Position>> {
    match std::fs::read_to_string(file) {
        Ok(text) => match text.trim().parse() {
            Ok(position) => Ok(Some(Position(position))),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whole or not at all: written beside, then moved over.
fn write_position(file: &Path, position: Position) -> io::Result<()> {
    let beside = file.with_extension("new");
    std::fs::write(&beside, format!("{position}\n"))?;
    std::fs::File::open(&beside)?.sync_data()?;
    std::fs::rename(&beside, file)
}

#[cfg(test)]
mod tests;
