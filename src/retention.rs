//! Retention in the running server: once an hour, and when somebody asks, what is too old leaves the log.
//!
//! What goes is decided by the log's own [`Rules`]; this is the loop around it. A run reads slowly and ends with the server, in the
//! middle if need be: what is due is found out anew each time, so nothing has to be remembered of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use covalence_actors::effect::Clock;
use covalence_events::log::ReadError;
use covalence_events::log::sled::{PACE_BYTES_PER_SECOND, PartReport, Progress, Scavenged, Scavenger};
use covalence_events::pulse::Pulse;
use covalence_events::retention::Rules;
use covalence_events::{Position, Timestamp};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::metrics_names as names;

/// Between two runs. What is too old by an hour takes next to no room.
pub const EVERY: Duration = Duration::from_hours(1);
/// Before the first run: a start has more urgent things to read.
const AFTER_START: Duration = Duration::from_mins(5);
/// How long a run may take to end: it is asked after each segment of 4 MiB.
const END_GRACE: Duration = Duration::from_secs(10);

/// What the loop asks of others.
pub struct Around {
    /// The last position that may go: what is behind it was neither exported nor taken in by everybody.
    pub through: Box<dyn Fn() -> Position + Send + Sync>,
    /// Told of each stretch in which facts were removed, by its first and last position.
    pub removed: Box<dyn Fn(Position, Position) + Send + Sync>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Around {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Around").finish_non_exhaustive()
    }
}

/// See the module. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Retention {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    log: Scavenger,
    rules: Rules,
    around: Around,
    state: Mutex<State>,
    asked: Notify,
    pulse: Arc<Pulse>,
}

/// How it stands.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The run that goes on.
    pub running: Option<Running>,
    /// The one that ended last.
    pub last: Option<Ended>,
    /// When the next begins by itself.
    pub next_at: Option<Timestamp>,
    /// How many were begun since the server started, which is the number of the last one.
    runs: u64,
    asked: bool,
}

/// A run that goes on.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    /// Which, counted from the server's start.
    pub run: u64,
    /// Since when.
    pub began: Timestamp,
    /// How far it is.
    pub progress: Progress,
}

/// A run that has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Which, counted from the server's start.
    pub run: u64,
    /// Since when.
    pub began: Timestamp,
    /// Until when.
    pub ended: Timestamp,
    /// What it did, also if it failed later.
    pub done: Scavenged,
    /// Why it failed, if it did.
    pub failed: Option<String>,
}

impl Ended {
    /// `done`, `stopped` by the server's end, or `failed`.
    pub const fn outcome(&self) -> &'static str {
        match (&self.failed, self.done.stopped) {
            (Some(_), _) => "failed",
            (None, true) => "stopped",
            (None, false) => "done",
        }
    }
}

/// Why no run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// One goes on, or is about to.
    Running,
    /// Everything is kept for ever.
    Off,
}

/// What is due and still there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Parts of the archive.
    pub parts: u64,
    /// Positions in them.
    pub positions: u64,
    /// Since when the first of them has been due.
    pub since: Option<Timestamp>,
}

impl Retention {
    /// Of a log, by these rules. Nothing runs yet.
    pub fn new(log: Scavenger, rules: Rules, around: Around) -> Self {
        let (state, asked, pulse) = (Mutex::default(), Notify::new(), Pulse::new("log-retention"));
        Self { shared: Arc::new(Shared { log, rules, around, state, asked, pulse }) }
    }

    /// The rules.
    pub fn rules(&self) -> Rules {
        self.shared.rules
    }

    /// How it stands.
    pub fn state(&self) -> State {
        self.shared.state().clone()
    }

    /// The last position that may go.
    pub fn through(&self) -> Position {
        (self.shared.around.through)()
    }

    /// The archive, oldest first. May block for a moment.
    ///
    /// # Errors
    /// When the archive can't be read.
    pub fn parts(&self) -> Result<Vec<PartReport>, ReadError> {
        self.shared.log.survey(&self.shared.rules)
    }

    /// Asks for a run now; its number.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn begin(&self) -> Result<u64, Refused> {
        if self.shared.rules.keep_all() {
            return Err(Refused::Off);
        }
        let mut state = self.shared.state();
        if state.running.is_some() || state.asked {
            return Err(Refused::Running);
        }
        state.asked = true;
        self.shared.asked.notify_one();
        Ok(state.runs + 1)
    }

    /// Comes round every few seconds; while a run goes on, with each segment.
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.shared.pulse)
    }

    /// Runs once an hour and when asked, until stopped.
    pub async fn run(self, stop: CancellationToken) {
        if self.shared.rules.keep_all() {
            return;
        }
        let mut next = AFTER_START;
        loop {
            let at = self.shared.around.clock.now().at;
            self.shared.state().next_at = chrono::TimeDelta::from_std(next).ok().map(|next| at + next);
            let until = Instant::now() + next;
            let woken = async {
                tokio::select! {
                    () = stop.cancelled() => true,
                    () = self.shared.asked.notified() => false,
                    () = sleep_until(until) => false,
                }
            };
            if self.shared.pulse.waiting(woken, || true).await {
                return;
            }
            self.once(&stop).await;
            next = EVERY;
        }
    }

    async fn once(&self, stop: &CancellationToken) {
        let shared = Arc::clone(&self.shared);
        let began = shared.around.clock.now().at;
        {
            let mut state = shared.state();
            (state.runs, state.asked, state.next_at) = (state.runs + 1, false, None);
            state.running = Some(Running { run: state.runs, began, progress: Progress::default() });
        }
        let (worker, stop) = (Arc::clone(&shared), stop.clone());
        let ran = tokio::task::spawn_blocking(move || worker.scavenge(began, &stop)).await;
        let failed = match ran {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(format!("{:#}", anyhow::Error::from(error))),
            Err(error) => Some(error.to_string()),
        };
        shared.end(failed);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn scavenge(&self, now: Timestamp, stop: &CancellationToken) -> Result<Scavenged, ReadError> {
        let watch = |progress: &Progress| {
            self.pulse.tick();
            if let Some(running) = &mut self.state().running {
                running.progress = *progress;
            }
            // A crash before this leaves answers about that stretch which know more than the log. They are not wrong.
            if let Some((first, last)) = progress.replaced {
                (self.around.removed)(first, last);
            }
            !stop.is_cancelled()
        };
        let through = (self.around.through)();
        let done = self.log.run((&self.rules, now), through, PACE_BYTES_PER_SECOND, &watch)?;
        if let Some(running) = &mut self.state().running {
            running.progress.done = done;
        }
        Ok(done)
    }

    fn end(&self, failed: Option<String>) {
        let ended = self.around.clock.now().at;
        let mut state = self.state();
        let Some(Running { run, began, progress }) = state.running.take() else { return };
        let last = Ended { run, began, ended, done: progress.done, failed };
        state.last = Some(last.clone());
        drop(state);
        metrics::counter!(names::RETENTION_RUNS, names::OUTCOME => last.outcome()).increment(1);
        let Scavenged { parts, events, bytes, .. } = last.done;
        match &last.failed {
            Some(reason) => warn!(reason, events, "what is too old was not removed; trying again in an hour"),
            None if events > 0 => info!(parts, events, bytes, "what is too old was removed"),
            None => {}
        }
        match self.log.survey(&self.rules) {
            Ok(parts) => {
                let since = lag(&parts, &self.rules, ended).since;
                let seconds =
                    since.map_or(0.0, |since| (ended - since).to_std().unwrap_or_default().as_secs_f64());
                metrics::gauge!(names::RETENTION_LAG).set(seconds);
            }
            Err(error) => error!(%error, "the log's archive can't be read"),
        }
    }
}

/// What is due of an archive and still there.
pub fn lag(parts: &[PartReport], rules: &Rules, now: Timestamp) -> Lag {
    let due: Vec<_> = parts.iter().filter(|part| part.is_due(rules, now)).collect();
    let since = due.iter().filter_map(|part| part.due_since(rules)).min();
    Lag {
        parts: due.len() as u64,
        positions: due.iter().map(|part| part.last.0 - part.first.0 + 1).sum(),
        since,
    }
}

/// The loop as a task.
#[derive(Debug)]
pub struct Keeping {
    task: JoinHandle<()>,
}

impl Keeping {
    /// Begins it on these threads, until stopped.
    pub fn begin(retention: Retention, tasks: &tokio::runtime::Handle, stop: CancellationToken) -> Self {
        Self { task: tasks.spawn(retention.run(stop)) }
    }

    /// Waits until a run that goes on has ended, for ten seconds at most. What it leaves behind, the next start removes.
    pub async fn end(self) {
        if timeout(END_GRACE, self.task).await.is_err() {
            warn!("the removal of what is too old was cut off, the next run begins anew");
        }
    }
}

#[cfg(test)]
mod tests;
