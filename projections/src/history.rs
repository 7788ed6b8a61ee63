//! What was known at a position: the projections as they were when the log ended there.
//!
//! # Guarantees
//! - What is answered is a fold of the facts up to that position and of none after it, so it is the same at any time and in
//!   any run.
//! - The serving projections are neither read nor held up.
//! - Snapshots only save time. One that is missing, damaged, of another log or of another version of a projection is passed
//!   over, and made again by [`History::keep_snapshots`].

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use covalence_events::log::{EventLog, ReadError};
use covalence_events::{Position, Timestamp};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::runner::Views;

mod snapshot;
pub mod snapshots;

use snapshots::Snapshots;

/// Answers that are worked out at once: each takes a core and the memory of all projections.
const AT_ONCE: usize = 2;
/// Answers kept: somebody who looks at a moment asks several questions about it, and then goes to one nearby.
const KEPT: usize = 2;

/// See the module.
#[derive(Clone, Debug)]
pub struct History {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    log: Arc<dyn EventLog>,
    snapshots: Option<Snapshots>,
    recent: Mutex<VecDeque<(Position, Arc<Views>)>>,
    /// How often everything was thrown away. Held while something is kept: what was folded before must not come back after.
    thrown: Mutex<u64>,
    gate: Arc<Semaphore>,
}

impl History {
    /// The history of a log. `snapshots` is the directory of what makes it quick; without one each answer reads the log from
    /// its beginning. A log whose store keeps no frames has no snapshots.
    pub fn new(log: Arc<dyn EventLog>, snapshots: Option<PathBuf>) -> Self {
        Self::with(log, snapshots, snapshots::EVERY)
    }

    /// Like [`History::new`], with a snapshot each so many facts.
    pub fn with(log: Arc<dyn EventLog>, snapshots: Option<PathBuf>, every: u64) -> Self {
        let snapshots = snapshots.zip(log.frames()).map(|(path, log)| Snapshots::new(path, log, every));
        let gate = Arc::new(Semaphore::new(AT_ONCE));
        Self {
            inner: Arc::new(Inner {
                log,
                snapshots,
                recent: Mutex::default(),
                thrown: Mutex::default(),
                gate,
            }),
        }
    }

    /// The projections at a position. One beyond the log's end gives what is known at its end; position 0 gives empty ones.
    ///
    /// Works on a thread that may block, a few at once, and gives up when the answer is not waited for any more.
    ///
    /// # Errors
    /// When the log can't be read that far.
    pub async fn at(&self, position: Position) -> Result<Arc<Views>, ReadError> {
        let position = position.min(self.inner.log.head());
        if let Some(known) = self.inner.known(position) {
            return Ok(known);
        }
        let failed = |reason: String| ReadError::Store { what: "the past".to_owned(), reason };
        let permit = Arc::clone(&self.inner.gate).acquire_owned().await;
        let permit = permit.map_err(|error| failed(error.to_string()))?;
        let waiting = Arc::new(());
        let (inner, waits) = (Arc::clone(&self.inner), Arc::downgrade(&waiting));
        let runtime = Handle::current();
        let work = move || runtime.block_on(inner.work_out(position, waits, permit));
        let worked_out = tokio::task::spawn_blocking(work).await;
        drop(waiting);
        worked_out.map_err(|error| failed(error.to_string()))?
    }

    /// Makes the snapshots that are due, and those that come due, until the log is closed. Does nothing where there are none.
    pub async fn keep_snapshots(&self) {
        let Some(snapshots) = &self.inner.snapshots else { return };
        let mut head = self.inner.log.watch();
        loop {
            head.borrow_and_update();
            let (inner, runtime) = (Arc::clone(&self.inner), Handle::current());
            let kept = tokio::task::spawn_blocking(move || runtime.block_on(inner.keep_due())).await;
            if let Err(error) = kept {
                tracing::error!(%error, "making a snapshot of the projections failed");
            }
            let due = snapshots.next_due(self.inner.log.head());
            if head.wait_for(|head| *head >= due).await.is_err() {
                return;
            }
        }
    }

    /// Throws all snapshots away, and what is kept in memory, also what is being made. They are made again. Called when a
    /// workspace was erased: they may hold what it had said.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn forget(&self) -> std::io::Result<()> {
        let mut thrown = self.inner.thrown();
        *thrown += 1;
        self.inner.recent.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.inner.snapshots.as_ref().map_or(Ok(()), Snapshots::remove_all)
    }

    /// Throws away what is kept of the past between two positions, also what is being made: facts were removed there, and what was
    /// folded before knows more than a fold would say today. The snapshots are made again when the next one comes due.
    pub fn forget_between(&self, first: Position, last: Position) {
        let mut thrown = self.inner.thrown();
        *thrown += 1;
        let mut recent = self.inner.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|(at, _)| !(first..=last).contains(at));
        drop(recent);
        if let Some(snapshots) = &self.inner.snapshots {
            snapshots.remove_between(first, last);
        }
    }

    /// Throws all snapshots away if one was written at a time or before: the last erasure, whose end a crash may have kept
    /// from us.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn forget_until(&self, at: Timestamp) -> std::io::Result<()> {
        match &self.inner.snapshots {
            Some(snapshots) if snapshots.oldest_written().is_some_and(|oldest| oldest <= at) => self.forget(),
            Some(_) | None => Ok(()),
        }
    }
}

impl Inner {
    fn thrown(&self) -> std::sync::MutexGuard<'_, u64> {
        self.thrown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, position: Position) -> Option<Arc<Views>> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.iter().find(|(at, _)| *at == position).map(|(_, views)| Arc::clone(views))
    }

    /// What is nearest before a position: an answer that is kept, a snapshot, or nothing at all.
    fn nearest(&self, position: Position) -> Views {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = recent.iter().filter(|(at, _)| *at <= position).max_by_key(|(at, _)| *at).cloned();
        drop(recent);
        let after = kept.as_ref().map_or(Position(0), |(at, _)| *at);
        let restored = self.snapshots.as_ref().and_then(|snapshots| snapshots.load(after, position));
        restored.or_else(|| kept.map(|(_, views)| views.fork())).unwrap_or_default()
    }

    async fn work_out(
        &self,
        position: Position,
        waits: Weak<()>,
        _permit: OwnedSemaphorePermit,
    ) -> Result<Arc<Views>, ReadError> {
        if let Some(known) = self.known(position) {
            return Ok(known);
        }
        let begun = *self.thrown();
        let mut views = self.nearest(position);
        if !views.fold_to(self.log.as_ref(), position, || waits.strong_count() > 0).await? {
            let reason = "nobody waits for it any more".to_owned();
            return Err(ReadError::Store { what: "the past".to_owned(), reason });
        }
        let views = Arc::new(views);
        let thrown = self.thrown();
        if *thrown != begun {
            return Ok(views);
        }
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == KEPT {
            recent.pop_front();
        }
        recent.push_back((position, Arc::clone(&views)));
        Ok(views)
    }

    /// Makes every snapshot that should be there and is not, from the oldest on.
    async fn keep_due(&self) {
        let Some(snapshots) = &self.snapshots else { return };
        let mut views: Option<Views> = None;
        while let Some(due) = snapshots.due(self.log.head()) {
            let begun = *self.thrown();
            let before = views.take().filter(|views| views.checkpoint() <= due);
            let mut folded = before.unwrap_or_else(|| snapshots.load(Position(0), due).unwrap_or_default());
            let end = self.log.watch();
            // A closed log ends the work: what is missing is made in the next run.
            match folded.fold_to(self.log.as_ref(), due, || end.has_changed().is_ok()).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(%error, position = due.0, "no snapshot: the log can't be read");
                    return;
                }
            }
            let thrown = self.thrown();
            if *thrown != begun {
                views = None;
                continue;
            }
            if !snapshots.save(due, &folded) {
                return;
            }
            drop(thrown);
            views = Some(folded);
        }
    }
}
