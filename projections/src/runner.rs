//! All projections together, and the one task that makes them follow the log.
//!
//! # Guarantees
//! - Facts at or below a projection's checkpoint are ignored, so the log may be read again from anywhere.
//! - A fact that a projection cannot apply stops *that* projection, loudly and for good; the others go on.
//! - Readers hold a shared lock for as long as they look; the writer holds it for one batch at most.
//!
//! At boot the composition root feeds every fact through [`Views::fold`] while the log is opened, then calls
//! [`Views::start`].

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use covalence_events::log::{EventLog, ReadError, Subscription};
use covalence_events::pulse::Pulse;
use covalence_events::{Position, Recorded, WorkspaceId};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::calls::Calls;
use crate::credentials::Credentials;
use crate::metrics as names;
use crate::projection::Projection;
use crate::roster::{Roster, Row};
use crate::structure::Structure;
use crate::supervision::Supervision;

/// Facts applied under one write lock: at about a microsecond each, readers wait well under a millisecond.
pub const BATCH: usize = 256;
/// Facts read from the log at once where nobody waits for a lock: a thread is woken for each read, a few megabytes are held.
const READ: usize = 4096;
/// How long a reader waits for its own write (decision 14's two seconds).
pub const READ_YOUR_WRITES: Duration = Duration::from_secs(2);
/// Pause before the log is read again after its store failed: short enough to recover unnoticed, no busy loop.
const READ_RETRY: Duration = Duration::from_millis(500);

/// Why a projection does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stalled {
    /// The fact that it could not apply, or could not be read.
    pub position: Position,
    /// Why.
    pub reason: String,
}

/// The projections that a caller wanted to read had not got that far in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the read side is {by} facts behind")]
pub struct Behind {
    /// How far, in positions.
    pub by: u64,
}

/// One projection's state as `/ready` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: u32,
    /// The last fact that it has taken in.
    pub checkpoint: Position,
    /// Facts in the log after that.
    pub lag: u64,
    /// Why it stopped, if it did.
    pub stalled: Option<Stalled>,
}

#[derive(Debug)]
struct Inner<P> {
    state: P,
    at: Position,
    stalled: Option<Stalled>,
}

/// One projection with its checkpoint.
pub struct View<P> {
    inner: RwLock<Inner<P>>,
    checkpoint: watch::Sender<Position>,
}

impl<P> fmt::Debug for View<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("checkpoint", &*self.checkpoint.borrow()).finish_non_exhaustive()
    }
}

impl<P: Projection> Default for View<P> {
    fn default() -> Self {
        let inner = Inner { state: P::default(), at: Position(0), stalled: None };
        Self { inner: RwLock::new(inner), checkpoint: watch::Sender::new(Position(0)) }
    }
}

/// A look at a projection. Short: the writer waits for it. Never kept across an `.await`.
#[derive(Debug)]
pub struct Reading<'a, P>(RwLockReadGuard<'a, Inner<P>>);

impl<P> std::ops::Deref for Reading<'_, P> {
    type Target = P;

    fn deref(&self) -> &P {
        &self.0.state
    }
}

impl<P: Projection> View<P> {
    /// A look at it as it is.
    pub fn read(&self) -> Reading<'_, P> {
        // Only a panic inside a fold poisons; what it left is still the last thing known.
        Reading(self.inner.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The last fact that it has taken in.
    pub fn checkpoint(&self) -> Position {
        *self.checkpoint.borrow()
    }

    /// Tells of each new checkpoint. A wake-up, not a queue.
    pub fn watch(&self) -> watch::Receiver<Position> {
        self.checkpoint.subscribe()
    }

    /// Why it stopped, if it did.
    pub fn stalled(&self) -> Option<Stalled> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).stalled.clone()
    }

    fn fold(&mut self, recorded: &Recorded) {
        self.inner.get_mut().unwrap_or_else(PoisonError::into_inner).take(recorded);
    }

    fn apply(&self, batch: &[Arc<Recorded>]) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let applied: u64 = batch.iter().map(|recorded| u64::from(inner.take(recorded))).sum();
        let at = inner.at;
        drop(inner);
        metrics::counter!(names::APPLIED, names::PROJECTION => P::NAME).increment(applied);
        self.checkpoint.send_replace(at);
    }

    fn publish(&self) {
        let at = self.inner.read().unwrap_or_else(PoisonError::into_inner).at;
        self.checkpoint.send_replace(at);
    }

    fn stop(&self, stalled: Stalled) {
        self.inner.write().unwrap_or_else(PoisonError::into_inner).stall::<P>(stalled);
    }

    fn health(&self, head: Position) -> Health {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        Health {
            name: P::NAME,
            version: P::VERSION,
            checkpoint: inner.at,
            lag: head.0.saturating_sub(inner.at.0),
            stalled: inner.stalled.clone(),
        }
    }
}

impl<P: Projection> Inner<P> {
    /// Whether the fact was new and was applied.
    fn take(&mut self, recorded: &Recorded) -> bool {
        if recorded.position <= self.at || self.stalled.is_some() {
            return false;
        }
        match self.state.apply(recorded) {
            Ok(()) => {
                self.at = recorded.position;
                true
            }
            Err(error) => {
                self.stall::<P>(Stalled { position: recorded.position, reason: error.to_string() });
                false
            }
        }
    }
}

impl<P> Inner<P> {
    fn stall<Q: Projection>(&mut self, stalled: Stalled) {
        if self.stalled.is_none() {
            tracing::error!(projection = Q::NAME, position = stalled.position.0, reason = %stalled.reason,
                "projection stopped: it answers with what it knew before this fact");
            metrics::gauge!(names::STALLED, names::PROJECTION => Q::NAME).set(1.0);
            self.stalled = Some(stalled);
        }
    }
}

/// Every read model of the platform.
#[derive(Debug, Default)]
pub struct Views {
    /// What is there.
    pub roster: View<Roster>,
    /// Who may speak for whom.
    pub credentials: View<Credentials>,
    /// What a canvas is told.
    pub structure: View<Structure>,
    /// How calls went.
    pub calls: View<Calls>,
    /// What the supervisor decided, and why.
    pub supervision: View<Supervision>,
}

impl Views {
    /// All of them, empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in one fact while the log is opened. Cheaper than following it: no lock, no wake-ups.
    pub fn fold(&mut self, recorded: &Recorded) {
        self.roster.fold(recorded);
        self.credentials.fold(recorded);
        self.structure.fold(recorded);
        self.calls.fold(recorded);
        self.supervision.fold(recorded);
    }

    /// Fresh ones, folded from the log's beginning to its present end.
    pub async fn rebuild(log: &dyn EventLog) -> Result<Self, ReadError> {
        Self::rebuild_to(log, log.head()).await
    }

    /// Fresh ones, folded from the log's beginning to a position, or to its present end where that comes first.
    pub async fn rebuild_to(log: &dyn EventLog, position: Position) -> Result<Self, ReadError> {
        let mut views = Self::new();
        let (mut next, through) = (Position(1), position.min(log.head()));
        while next <= through {
            let batch = log.read_all(next, READ).await?;
            let Some(last) = batch.last() else { break };
            next = last.position.next();
            for recorded in batch.iter().take_while(|recorded| recorded.position <= through) {
                views.fold(recorded);
            }
        }
        views.publish();
        Ok(views)
    }

    /// Makes them follow the log from where they are, until the log is closed. The task needs no stopping; dropping
    /// the handle leaves it running.
    pub fn start(self: &Arc<Self>, log: Arc<dyn EventLog>) -> JoinHandle<()> {
        self.publish();
        let views = Arc::clone(self);
        tokio::spawn(async move { views.follow(log, &Pulse::new("projections")).await })
    }

    /// What [`Views::start`] spawns, for those who have a spawner of their own and want to know whether it gets on.
    pub async fn follow(&self, log: Arc<dyn EventLog>, pulse: &Pulse) {
        self.publish();
        loop {
            let mut subscription = Subscription::new(Arc::clone(&log), self.checkpoint().next());
            match self.tail(&mut subscription, log.as_ref(), pulse).await {
                Ok(()) => return,
                Err(error @ ReadError::Corrupt { position, .. }) => {
                    self.stop(&Stalled { position, reason: error.to_string() });
                    return;
                }
                Err(error @ ReadError::Store { .. }) => {
                    tracing::warn!(%error, "reading the log failed, trying again");
                    tokio::time::sleep(READ_RETRY).await;
                }
            }
        }
    }

    async fn tail(
        &self,
        subscription: &mut Subscription,
        log: &dyn EventLog,
        pulse: &Pulse,
    ) -> Result<(), ReadError> {
        let idle = || self.checkpoint() >= log.head();
        while let Some(batch) = pulse.waiting(subscription.next(BATCH), idle).await? {
            self.apply(&batch);
            for health in self.health(log.head()) {
                // A gauge is a float; lags are far below where that loses anything.
                #[expect(clippy::cast_precision_loss, reason = "see above")]
                metrics::gauge!(names::LAG, names::PROJECTION => health.name).set(health.lag as f64);
            }
        }
        Ok(())
    }

    /// Takes in facts that were read from the log, in its order. Repeated ones change nothing.
    pub fn apply(&self, batch: &[Arc<Recorded>]) {
        self.credentials.apply(batch);
        self.structure.apply(batch);
        self.calls.apply(batch);
        self.supervision.apply(batch);
        self.roster.apply(batch);
    }

    fn publish(&self) {
        self.roster.publish();
        self.credentials.publish();
        self.structure.publish();
        self.calls.publish();
        self.supervision.publish();
    }

    fn stop(&self, stalled: &Stalled) {
        self.roster.stop(stalled.clone());
        self.credentials.stop(stalled.clone());
        self.structure.stop(stalled.clone());
        self.calls.stop(stalled.clone());
        self.supervision.stop(stalled.clone());
    }

    /// The last fact that all projections which still go on have taken in.
    pub fn checkpoint(&self) -> Position {
        let all = self.health(Position(0));
        let going =
            all.iter().filter(|health| health.stalled.is_none()).map(|health| health.checkpoint).min();
        going.or_else(|| all.iter().map(|health| health.checkpoint).max()).unwrap_or_default()
    }

    /// How each of them fares, against the log's head.
    pub fn health(&self, head: Position) -> [Health; 5] {
        [
            self.roster.health(head),
            self.credentials.health(head),
            self.structure.health(head),
            self.calls.health(head),
            self.supervision.health(head),
        ]
    }

    /// Read your own writes: waits until every projection has taken in a position, [`READ_YOUR_WRITES`] as a rule.
    ///
    /// A stopped projection is not waited for, and counts as behind.
    pub async fn caught_up(&self, position: Position, timeout: Duration) -> Result<(), Behind> {
        let deadline = Instant::now() + timeout;
        let watches = [
            (self.roster.watch(), self.roster.stalled().is_some()),
            (self.credentials.watch(), self.credentials.stalled().is_some()),
            (self.structure.watch(), self.structure.stalled().is_some()),
            (self.calls.watch(), self.calls.stalled().is_some()),
            (self.supervision.watch(), self.supervision.stalled().is_some()),
        ];
        for (mut watch, stalled) in watches {
            if !stalled {
                // Neither running out of time nor a gone sender needs handling here: what counts is compared below.
                let _ = timeout_at(deadline, watch.wait_for(|at| *at >= position)).await;
            }
        }
        let behind = |health: &Health| position.0.saturating_sub(health.checkpoint.0);
        match self.health(position).iter().map(behind).max().unwrap_or(0) {
            0 => Ok(()),
            by => Err(Behind { by }),
        }
    }

    /// Waits until a workspace's row is as wished and returns it; `None` when it was not in time.
    pub async fn wait_for(
        &self,
        id: WorkspaceId,
        timeout: Duration,
        mut wished: impl FnMut(&Row) -> bool,
    ) -> Option<Arc<Row>> {
        let deadline = Instant::now() + timeout;
        let mut watch = self.roster.watch();
        loop {
            watch.borrow_and_update();
            if let Some(row) = self.roster.read().get(id).filter(|row| wished(row)) {
                return Some(row);
            }
            timeout_at(deadline, watch.changed()).await.ok()?.ok()?;
        }
    }
}
