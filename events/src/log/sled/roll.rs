//! Rolling: the log goes on in a new database, and the old one becomes a part of the archive.
//!
//! ```text
//! writer:  … commit, full? wants a database … commit, there it is: goes on in it …
//! roller:                       └─ opens one, empty ─┘        └─ archives the old one ─ swaps ─ removes it
//! ```
//! The writer never waits: it goes on in the old database until the new one is open. The old one is removed when the part
//! is durable, has been read back, and is what readers use. A crash at any point leaves both or one of them, and the next start
//! begins again or removes what is there twice.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Shared;
use super::directory::{discard, sync_dir, unfinished};
use super::index::Index;
use super::store::Store;
use crate::envelope::Timestamp;
use crate::log::archive::Builder;
use crate::log::frame::{Frames, Payload};
use crate::metrics as names;
use crate::pulse::{IDLE_ROUND, Pulse};

/// Between two tries, after one that failed.
const RETRY: Duration = Duration::from_mins(1);

/// Between two looks whether the last reader has let go of a database.
const RELEASE_ROUND: Duration = Duration::from_millis(20);

/// What the writer and the roller tell each other.
#[derive(Debug)]
pub(super) struct Roll {
    state: Mutex<State>,
    wake: Condvar,
    pulse: Arc<Pulse>,
}

#[derive(Debug, Default)]
struct State {
    /// The writer's database is full.
    wanted: bool,
    /// The one to go on in.
    next: Option<Arc<Store>>,
    /// There is something to archive.
    sealed: bool,
    stopped: bool,
}

impl Roll {
    /// `sealed`: whether there is something to archive from the beginning.
    pub(super) fn new(sealed: bool) -> Self {
        let state = State { sealed, ..State::default() };
        Self { state: Mutex::new(state), wake: Condvar::new(), pulse: Pulse::new("log-roller") }
    }

    /// The roller's pulse: while it archives, it comes round with each segment.
    pub(super) fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// The database to go on in, if it is ready; it is made ready otherwise. For the writer; never blocks for long.
    pub(super) fn next(&self) -> Option<Arc<Store>> {
        let mut state = self.lock();
        let next = state.next.take();
        if next.is_some() {
            (state.wanted, state.sealed) = (false, true);
        } else if !state.wanted {
            state.wanted = true;
        } else {
            return None;
        }
        drop(state);
        self.wake.notify_one();
        next
    }

    /// Whether the writer waits for a database.
    #[cfg(any(test, feature = "test-support"))]
    pub(super) fn is_preparing(&self) -> bool {
        let state = self.lock();
        state.wanted && state.next.is_none()
    }

    /// Ends the roller at its next step.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.wake.notify_one();
    }

    fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Waits for this long, or until stopped; whether it was.
    fn pause(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            self.pulse.tick();
            if state.stopped || now >= until {
                return state.stopped;
            }
            let wait = (until - now).min(IDLE_ROUND);
            state = self.wake.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// The database to go on in, if the one that is written to is full and the next one is open. For the writer.
    pub(super) fn next_store(&self, index: &mut Index, now: Timestamp) -> Option<Arc<Store>> {
        let full = self.full.filter(|&full| index.is_full(full, now));
        let next = full.and_then(|_| self.roll.next())?;
        index.begin(Arc::clone(&next));
        Some(next)
    }
}

/// What there is to do.
enum Job {
    Archive,
    Prepare,
}

/// See the module.
pub(super) struct Roller {
    shared: Arc<Shared>,
    cache_bytes: u64,
}

impl Roller {
    /// The roller of a log.
    pub(super) const fn new(shared: Arc<Shared>, cache_bytes: u64) -> Self {
        Self { shared, cache_bytes }
    }

    /// Rolls until it is stopped.
    pub(super) fn run(self) {
        while let Some(job) = self.wait() {
            let done = match job {
                Job::Archive => self.archive(),
                Job::Prepare => self.prepare(),
            };
            if let Err(reason) = done {
                if self.shared.roll.is_stopped() {
                    return;
                }
                tracing::warn!(reason, "the log could not be rolled; trying again in a minute");
                if self.shared.roll.pause(RETRY) {
                    return;
                }
            }
        }
    }

    /// The next thing to do; `None` when stopped.
    fn wait(&self) -> Option<Job> {
        let roll = &self.shared.roll;
        let mut state = roll.lock();
        loop {
            roll.pulse.tick();
            if state.stopped {
                return None;
            }
            // One after the other: while one is archived the next grows beyond its size, which costs nothing but that.
            if state.sealed {
                return Some(Job::Archive);
            }
            if state.wanted && state.next.is_none() {
                return Some(Job::Prepare);
            }
            state = roll.wake.wait_timeout(state, IDLE_ROUND).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Opens the next database.
    fn prepare(&self) -> Result<(), String> {
        let directory = &self.shared.directory;
        let numbers = directory.stores().map_err(|error| error.to_string())?;
        let path = directory.store(numbers.last().map_or(0, |last| last + 1));
        let step = |error: std::io::Error| format!("prepare `{}`: {error}", path.display());
        directory.raise_format().map_err(step)?;
        // Made beside its place: a database that a crash left half made does not open.
        let beside = unfinished(&path);
        if beside.exists() {
            std::fs::remove_dir_all(&beside).map_err(step)?;
        }
        std::fs::create_dir(&beside).map_err(step)?;
        let open = |path: &Path| {
            Store::open(path, self.cache_bytes, Arc::clone(&self.shared.disk))
                .map_err(|error| error.to_string())
        };
        drop(open(&beside)?);
        std::fs::rename(&beside, &path).map_err(step)?;
        let store = open(&path)?;
        sync_dir(directory.root()).map_err(step)?;
        self.shared.roll.lock().next = Some(Arc::new(store));
        Ok(())
    }

    /// Makes a part of the archive of the oldest database, and removes that.
    fn archive(&self) -> Result<(), String> {
        let Some(store) = self.shared.index().sealed() else {
            self.shared.roll.lock().sealed = false;
            return Ok(());
        };
        let began = Instant::now();
        let (part, payloads) = self.write(&store)?;
        drop(store);
        let held = self.shared.archiving.lock().unwrap_or_else(PoisonError::into_inner);
        let archive = self.shared.index().archive();
        let archive = match part {
            Some(path) => Arc::new(archive.with(&path).map_err(|error| error.to_string())?),
            // Nothing was ever written to it.
            None => archive,
        };
        let last = archive.last();
        let old = self.shared.index_mut().archived(archive);
        drop(held);
        self.shared.roll.lock().sealed = self.shared.index().sealed().is_some();
        for digest in &payloads {
            if let Err(error) = self.shared.blobs.release(digest) {
                tracing::warn!(%error, "a large payload that is in the archive could not be removed");
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a gauge; exact up to 2^53 facts")]
        metrics::gauge!(names::ARCHIVED).set(last.0 as f64);
        let took = began.elapsed();
        tracing::info!(through = %last, ?took, "a part of the log was archived");
        self.remove(old.store)
    }

    /// Writes a database's facts as a part. Its path, and the large payloads that are in it.
    fn write(&self, store: &Store) -> Result<(Option<std::path::PathBuf>, Vec<blake3::Hash>), String> {
        let directory = &self.shared.directory;
        let root = directory.archive();
        self.make_room(store)?;
        let archive = self.shared.index().archive();
        let failed = |error: std::io::Error| format!("write a part of the archive: {error}");
        let mut part = Builder::begin(&root, archive.last(), archive.link()).map_err(failed)?;
        sync_dir(directory.root()).map_err(failed)?;
        let mut payloads = Vec::new();
        let mut segments = 0;
        for chunk in store.chunks(0) {
            let (_, chunk) = chunk?;
            for frame in Frames::new(&chunk) {
                let frame = frame.map_err(|wrong| format!("position {}: {wrong}", part.last().next()))?;
                if frame.position != part.last().next() {
                    return Err(format!("position {} is not where it should be", part.last().next()));
                }
                let payload = match frame.payload() {
                    Payload::Inline(_) => None,
                    Payload::Elsewhere(digest) => {
                        payloads.push(digest);
                        Some((*digest.as_bytes(), self.shared.blobs.get(&digest).map_err(failed)?))
                    }
                };
                part.push(&frame, payload).map_err(failed)?;
            }
            if part.segments() > segments {
                segments = part.segments();
                self.shared.roll.pulse.tick();
                if self.shared.roll.is_stopped() {
                    return Err("the log is closed".to_owned());
                }
            }
        }
        Ok((part.finish().map_err(failed)?, payloads))
    }

    /// Makes sure that the part fits without touching the reserve. It takes about a third of its database; more than half of it is
    /// not to be expected.
    fn make_room(&self, store: &Store) -> Result<(), String> {
        let root = self.shared.directory.root();
        let free =
            self.shared.disk.free_bytes(root).map_err(|error| format!("ask for free space: {error}"))?;
        let wanted = store.file_bytes().map_err(|error| error.to_string())? / 2 + self.shared.reserve_bytes;
        if free < wanted {
            return Err(format!(
                "low space: {free} bytes free at `{}`, archiving needs {wanted}",
                root.display()
            ));
        }
        Ok(())
    }

    /// Removes a database once the last reader has let go of it.
    fn remove(&self, mut store: Arc<Store>) -> Result<(), String> {
        let path = store.path().to_owned();
        loop {
            match Arc::try_unwrap(store) {
                Ok(store) => {
                    drop(store);
                    return remove(&path, self.shared.directory.root());
                }
                Err(held) => store = held,
            }
            if self.shared.roll.pause(RELEASE_ROUND) {
                // The next start finds it in the archive, and removes it.
                return Ok(());
            }
        }
    }
}

/// Removes a database so that no crash leaves half of one in its place.
fn remove(path: &Path, root: &Path) -> Result<(), String> {
    let removed = discard(path).and_then(|()| sync_dir(root));
    removed.map_err(|error| format!("remove `{}`, which is archived: {error}", path.display()))
}
