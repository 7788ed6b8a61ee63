//! All projections together, and the one task that makes them follow the log.
//!
//! # Guarantees
//! - Facts at or below a projection's checkpoint are ignored, so the log may be read again from anywhere.
//! - A fact that a projection cannot apply stops *that* projection, loudly; the others go on. It goes on when a
//!   [rebuild](crate::rebuild) gets past that fact.
//! - Readers hold a shared lock for as long as they look; the writer holds it for one batch at most.
//!
//! At boot the composition root feeds every fact through [`Views::fold`] while the log is opened, then calls
//! [`Views::start`].

use std::sync::Arc;
use std::time::Duration;

use covalence_events::log::{EventLog, ReadError, Subscription};
use covalence_events::pulse::Pulse;
use covalence_events::{Position, Recorded, WorkspaceId};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::activity::Activity;
use crate::calls::Calls;
use crate::credentials::Credentials;
use crate::delegations::Delegations;
use crate::metrics as names;
use crate::projection::Projection;
use crate::roster::{Roster, Row};
use crate::secrets::Secrets;
use crate::structure::Structure;
use crate::supervision::Supervision;
use crate::view::{AnyView, EncodedState, Health, Stalled, View};

/// Facts applied under one write lock: at about a microsecond each, readers wait well under a millisecond.
pub const BATCH: usize = 256;
/// Facts read from the log at once where nobody waits for a lock: a thread is woken for each read, a few megabytes are held.
pub(crate) const READ: usize = 4096;
/// How long a reader waits for its own write (decision 14's two seconds).
pub const READ_YOUR_WRITES: Duration = Duration::from_secs(2);
/// Pause before the log is read again after its store failed: short enough to recover unnoticed, no busy loop.
const READ_RETRY: Duration = Duration::from_millis(500);

/// The projections that a caller wanted to read had not got that far in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the read side is {by} facts behind")]
pub struct Behind {
    /// How far, in positions.
    pub by: u64,
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
    /// What was said to each agent, by it and about it.
    pub activity: View<Activity>,
    /// Tasks that were handed on.
    pub delegations: View<Delegations>,
    /// Which secrets there are.
    pub secrets: View<Secrets>,
    /// What the supervisor decided, and why.
    pub supervision: View<Supervision>,
    /// Wakes the follower after a stopped projection was replaced.
    mended: Notify,
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
        self.activity.fold(recorded);
        self.delegations.fold(recorded);
        self.secrets.fold(recorded);
        self.supervision.fold(recorded);
    }

    /// Fresh ones, folded from the log's beginning to its present end.
    pub async fn rebuild(log: &dyn EventLog) -> Result<Self, ReadError> {
        Self::rebuild_to(log, log.head()).await
    }

    /// Fresh ones, folded from the log's beginning to a position, or to its present end where that comes first.
    pub async fn rebuild_to(log: &dyn EventLog, position: Position) -> Result<Self, ReadError> {
        let mut views = Self::new();
        views.fold_to(log, position, || true).await?;
        Ok(views)
    }

    /// Takes in what the log has after the checkpoint, up to a position or to the log's present end where that comes first,
    /// for as long as it is `wanted`. Answers whether it got there.
    pub(crate) async fn fold_to(
        &mut self,
        log: &dyn EventLog,
        position: Position,
        wanted: impl Fn() -> bool,
    ) -> Result<bool, ReadError> {
        let (mut next, through) = (self.checkpoint().next(), position.min(log.head()));
        while next <= through {
            if !wanted() {
                self.publish();
                return Ok(false);
            }
            let batch = log.read_all(next, READ).await?;
            let Some(last) = batch.last() else { break };
            next = last.position.next();
            for recorded in batch.iter().take_while(|recorded| recorded.position <= through) {
                self.fold(recorded);
            }
        }
        self.publish();
        Ok(true)
    }

    /// Others that are like these, and go their own way from here. Nobody follows them.
    pub(crate) fn fork(&self) -> Self {
        Self {
            roster: self.roster.fork(),
            credentials: self.credentials.fork(),
            structure: self.structure.fork(),
            calls: self.calls.fork(),
            activity: self.activity.fork(),
            delegations: self.delegations.fork(),
            secrets: self.secrets.fork(),
            supervision: self.supervision.fork(),
            mended: Notify::new(),
        }
    }

    /// Their states, where all of them are at this position.
    pub(crate) fn encode(&self, position: Position) -> Result<Vec<EncodedState>, String> {
        let states: Result<Vec<_>, String> = self.each().into_iter().map(AnyView::encode).collect();
        let at_position = |(at, state): (Position, EncodedState)| {
            if at == position { Ok(state) } else { Err(format!("`{}` is at position {at}", state.name)) }
        };
        states?.into_iter().map(at_position).collect()
    }

    /// Each of them.
    pub(crate) fn each(&self) -> [&dyn AnyView; 8] {
        [
            &self.roster,
            &self.credentials,
            &self.structure,
            &self.calls,
            &self.activity,
            &self.delegations,
            &self.secrets,
            &self.supervision,
        ]
    }

    /// The follower goes on with what was replaced.
    pub(crate) fn mended(&self) {
        self.mended.notify_one();
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
        for view in self.each() {
            view.serve();
        }
        loop {
            let mut subscription = Subscription::new(Arc::clone(&log), self.checkpoint().next());
            match self.tail(&mut subscription, log.as_ref(), pulse).await {
                Ok(()) => return,
                Err(error @ ReadError::Corrupt { position, .. }) => {
                    self.stop(&Stalled { position, reason: error.to_string() });
                    if !pulse.waiting(self.mended_before_the_end(log.watch()), || true).await {
                        return;
                    }
                }
                Err(error @ (ReadError::Store { .. } | ReadError::Removed { .. })) => {
                    tracing::warn!(%error, "reading the log failed, trying again");
                    tokio::time::sleep(READ_RETRY).await;
                }
            }
        }
    }

    /// Waits until a rebuild has got past what stopped them all; `false` when the log is closed first.
    async fn mended_before_the_end(&self, mut head: watch::Receiver<Position>) -> bool {
        let closed = async { while head.changed().await.is_ok() {} };
        tokio::select! {
            () = self.mended.notified() => true,
            () = closed => false,
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
        self.activity.apply(batch);
        self.delegations.apply(batch);
        self.secrets.apply(batch);
        self.supervision.apply(batch);
        self.roster.apply(batch);
    }

    fn publish(&self) {
        for view in self.each() {
            view.publish();
        }
    }

    fn stop(&self, stalled: &Stalled) {
        for view in self.each() {
            view.stop(stalled);
        }
    }

    /// The last fact that all projections which still go on have taken in.
    pub fn checkpoint(&self) -> Position {
        let all = self.health(Position(0));
        let going =
            all.iter().filter(|health| health.stalled.is_none()).map(|health| health.checkpoint).min();
        going.or_else(|| all.iter().map(|health| health.checkpoint).max()).unwrap_or_default()
    }

    /// How each of them fares, against the log's head.
    pub fn health(&self, head: Position) -> [Health; 8] {
        self.each().map(|view| view.health(head))
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
            (self.activity.watch(), self.activity.stalled().is_some()),
            (self.delegations.watch(), self.delegations.stalled().is_some()),
            (self.secrets.watch(), self.secrets.stalled().is_some()),
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

/// Projections that are being put together from encoded states.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    roster: Option<Roster>,
    credentials: Option<Credentials>,
    structure: Option<Structure>,
    calls: Option<Calls>,
    activity: Option<Activity>,
    delegations: Option<Delegations>,
    secrets: Option<Secrets>,
    supervision: Option<Supervision>,
}

impl Restored {
    /// Takes one state; says why if this program has no use for it.
    pub(crate) fn add(&mut self, name: &str, version: u32, bytes: &[u8]) -> Result<(), String> {
        match name {
            Roster::NAME => self.roster = Some(decoded(version, bytes)?),
            Credentials::NAME => self.credentials = Some(decoded(version, bytes)?),
            Structure::NAME => self.structure = Some(decoded(version, bytes)?),
            Calls::NAME => self.calls = Some(decoded(version, bytes)?),
            Activity::NAME => self.activity = Some(decoded(version, bytes)?),
            Delegations::NAME => self.delegations = Some(decoded(version, bytes)?),
            Secrets::NAME => self.secrets = Some(decoded(version, bytes)?),
            Supervision::NAME => self.supervision = Some(decoded(version, bytes)?),
            unknown => return Err(format!("it has a projection `{unknown}`, which there is not")),
        }
        Ok(())
    }

    /// All of them, if all are there.
    pub(crate) fn views(self, at: Position) -> Result<Views, String> {
        fn view<P: Projection>(state: Option<P>, at: Position) -> Result<View<P>, String> {
            let state = state.ok_or_else(|| format!("it has no projection `{}`", P::NAME))?;
            Ok(View::restored(state, at))
        }
        Ok(Views {
            roster: view(self.roster, at)?,
            credentials: view(self.credentials, at)?,
            structure: view(self.structure, at)?,
            calls: view(self.calls, at)?,
            activity: view(self.activity, at)?,
            delegations: view(self.delegations, at)?,
            secrets: view(self.secrets, at)?,
            supervision: view(self.supervision, at)?,
            mended: Notify::new(),
        })
    }
}

fn decoded<P: Projection>(version: u32, bytes: &[u8]) -> Result<P, String> {
    if version != P::VERSION {
        return Err(format!("it has version {version} of `{}`, this program has {}", P::NAME, P::VERSION));
    }
    rmp_serde::from_slice(bytes).map_err(|error| format!("its `{}` has another shape: {error}", P::NAME))
}
