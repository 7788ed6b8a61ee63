//! Alarms reach somebody: follows the log and posts what a person should know of to a configured address, as JSON.
//!
//! # Guarantees
//! - At least once, in the log's order: it follows the log under the name [`SUBSCRIPTION`], and a notice is settled only after the
//!   receiver has accepted it, so a crash repeats the last one and loses none. Each has the fact's `id` to tell a repetition by.
//! - The same condition is told once: an alarm that is on is not told again, and its end is told with `"resolved": true`.
//! - What can't be told is parked, with the reason, and told when a person replays it: what a receiver refuses for good (4xx but
//!   408 and 429), and what nobody accepted within [`STALE_AFTER`]. Neither holds up what comes later.
//!
//! # Caveats
//! - What is wrong with the platform's own disk and log is told past the log ([`conditions`]), by [`tell_past_the_log`].
//! - The first start with an address begins at the log's present end; one after a version that kept its position in
//!   `<data-dir>/alarms-position` goes on from there.
//! - After a restore of the log to an earlier point it begins at the log's end, and says so.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use covalence_events::fleet::Event;
use covalence_events::log::ReadError;
use covalence_events::pulse::{IDLE_ROUND, Pulse};
use covalence_events::{Fact, Position, Recorded, Timestamp, WorkspaceId};
use covalence_projections::subscriptions::place::Nack;
use covalence_projections::subscriptions::{Ask, Category, Definition, Name, Refused, Start, Wanted};
use covalence_projections::{Subscriptions, Views};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::conditions;

mod webhook;

pub use webhook::Webhook;

/// The name under which it follows the log.
pub const SUBSCRIPTION: &str = "alarms";
/// Nobody is woken for what happened before yesterday.
pub const STALE_AFTER: chrono::TimeDelta = chrono::TimeDelta::hours(24);
/// Conditions remembered as told; far more than there are kinds.
const TOLD_MAX: usize = 4096;
/// Facts read at a time.
const BATCH: usize = 256;
/// Pause before the log is read again after its store failed.
const READ_RETRY: Duration = Duration::from_secs(1);

/// Tells alarms to one address.
#[derive(Debug)]
pub struct Alarms {
    webhook: Webhook,
    file: PathBuf,
    subscriptions: Arc<Subscriptions>,
    views: Arc<Views>,
    /// Conditions that were told to be on.
    told: BTreeSet<(String, Option<WorkspaceId>)>,
    pulse: Arc<Pulse>,
}

impl Alarms {
    /// Ready to follow the log.
    pub fn new(
        webhook: Webhook,
        data_dir: &Path,
        subscriptions: Arc<Subscriptions>,
        views: Arc<Views>,
    ) -> Self {
        let (file, told) = (data_dir.join("alarms-position"), BTreeSet::new());
        Self { webhook, file, subscriptions, views, told, pulse: Pulse::new("alarms") }
    }

    /// The loop's pulse. A receiver that is away does not stop it.
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Follows the log for as long as the platform runs.
    pub async fn run(mut self, now: impl Fn() -> Timestamp) {
        let Ok(name) = Name::try_from(SUBSCRIPTION.to_owned()) else { return };
        info!(host = self.webhook.host(), "telling alarms");
        let mut lease = None;
        loop {
            let followed = match self.begin(&name, &now).await {
                Ok(()) => self.follow(&name, &mut lease, &now).await,
                Err(error) => Err(error),
            };
            match followed {
                Ok(()) => continue,
                Err(Refused::Read(error @ ReadError::Corrupt { .. })) => {
                    error!(%error, "alarms are not told any more");
                    return;
                }
                Err(Refused::PlaceLost(why)) => {
                    error!(why, "the place of told alarms is of another log: beginning at its end");
                    if let Err(error) = self.subscriptions.remove_own(&name).await {
                        warn!(%error, "the place of told alarms could not be removed");
                    }
                }
                Err(error) => warn!(%error, "following the log for alarms failed, trying again"),
            }
            lease = None;
            self.pulse.waiting(tokio::time::sleep(READ_RETRY), || true).await;
        }
    }

    /// Sees to the subscription: made at the first start, where the file of an earlier version says, else at the log's end.
    async fn begin(&self, name: &Name, now: &impl Fn() -> Timestamp) -> Result<(), Refused> {
        match self.subscriptions.show(name).await {
            Err(Refused::NoSuch) => {}
            known => return known.map(drop),
        }
        let start = match read_position(&self.file) {
            Ok(position) => position.map_or(Start::End, Start::After),
            Err(error) => {
                error!(file = %self.file.display(), %error, "the position of told alarms can't be read: beginning at the log's end");
                Start::End
            }
        };
        let wanted = Wanted { category: Some(Category::Fleet), ..Wanted::default() };
        self.subscriptions.create(Definition::ours(name.clone(), wanted, start, now())).await?;
        // Its place is kept elsewhere now; left behind, it would be taken for one after the next restore.
        match std::fs::remove_file(&self.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(file = %self.file.display(), %error, "the old position of told alarms can't be removed");
            }
            Ok(()) | Err(_) => {}
        }
        Ok(())
    }

    /// Tells what one delivery holds.
    async fn follow(
        &mut self,
        name: &Name,
        lease: &mut Option<Uuid>,
        now: &impl Fn() -> Timestamp,
    ) -> Result<(), Refused> {
        let ask = Ask {
            consumer: "the platform".to_owned(),
            lease: *lease,
            limit: BATCH,
            wait: IDLE_ROUND,
            standby: false,
        };
        let batch = self.subscriptions.fetch_own(name, &ask).await?;
        self.pulse.tick();
        *lease = Some(batch.lease);
        let mut settled = Vec::new();
        for delivered in &batch.facts {
            let position = delivered.fact.position;
            let Some(notice) = self.notice(&delivered.fact, delivered.replayed) else {
                settled.push(position);
                continue;
            };
            let since = if delivered.replayed { now() } else { delivered.fact.meta.at };
            match self.webhook.tell(&notice, since + STALE_AFTER, (now, &self.pulse)).await {
                Ok(()) => {
                    settled.push(position);
                    self.subscriptions.ack(name, batch.lease, &std::mem::take(&mut settled), None).await?;
                }
                Err(reason) => {
                    let nack = Nack { reason, retry_after: None, park: true };
                    self.subscriptions.nack(name, batch.lease, &[position], &nack).await?;
                }
            }
        }
        if !settled.is_empty() {
            self.subscriptions.ack(name, batch.lease, &settled, None).await?;
        }
        Ok(())
    }

    /// What is told of a fact, if anything is.
    fn notice(&mut self, recorded: &Recorded, replayed: bool) -> Option<Value> {
        let Fact::Fleet(event) = &recorded.fact else { return None };
        let (kind, workspace, message, resolved) = told_of(event)?;
        // Told when they are, in the log or not.
        if conditions::is_ours(&kind) && !replayed {
            return None;
        }
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
            // A person wants to have it told, whatever was told before.
            if !changed && !replayed {
                return None;
            }
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
}

/// Posts what can't wait for the log, in order, until the platform ends. Answers where to hand it in, and the loop's pulse.
pub fn tell_past_the_log(
    webhook: Webhook,
    tasks: &Handle,
    now: impl Fn() -> Timestamp + Send + Sync + 'static,
) -> (mpsc::Sender<Value>, Arc<Pulse>) {
    let (sender, mut notices) = mpsc::channel::<Value>(conditions::UNTOLD_MAX);
    let pulse = Pulse::new("alarms-own");
    let own = Arc::clone(&pulse);
    drop(tasks.spawn(async move {
        while let Some(notice) = own.waiting(notices.recv(), || true).await {
            if let Err(reason) = webhook.tell(&notice, now() + STALE_AFTER, (&now, &own)).await {
                error!(kind = %notice["kind"], reason, "an alarm was not told");
            }
        }
    }));
    (sender, pulse)
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

#[cfg(test)]
mod tests;
