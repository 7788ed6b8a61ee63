//! Whether the log can be written and read as it should: why it takes no facts, and which places could not be read.

use std::sync::{Mutex, OnceLock, PoisonError, RwLock};

use crate::log::{Damage, ReadError, ReadOnly};
use crate::metrics as names;

/// Damaged places that are kept. One is enough to restore; more than this nobody reads.
const DAMAGE_MAX: usize = 32;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// After a write or a flush that failed: until the log is opened again.
    stopped: OnceLock<ReadOnly>,
    /// While space is short. Nothing was written that failed, so the log goes on when there is room.
    short: RwLock<Option<ReadOnly>>,
    damage: Mutex<Vec<Damage>>,
}

impl Health {
    /// Why no facts are taken; what lasts comes first.
    pub(super) fn read_only(&self) -> Option<ReadOnly> {
        self.stopped
            .get()
            .cloned()
            .or_else(|| self.short.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Stops writing until the log is opened again; the first reason stays.
    pub(super) fn stop(&self, reason: &str) -> ReadOnly {
        let stopped = self.stopped.get_or_init(|| {
            tracing::error!(reason, "the log is read-only until the server is restarted");
            read_only(reason, false)
        });
        stopped.clone()
    }

    /// Stops writing until there is room again.
    pub(super) fn wait_for_room(&self, reason: &str) -> ReadOnly {
        let mut short = self.short.write().unwrap_or_else(PoisonError::into_inner);
        let short = short.get_or_insert_with(|| {
            tracing::error!(reason, "the log is read-only until there is room again");
            read_only(reason, true)
        });
        short.clone()
    }

    /// Whether it waits for room, and for nothing else.
    pub(super) fn waits_for_room(&self) -> bool {
        self.read_only().is_some_and(|read_only| read_only.passes)
    }

    /// There is room again.
    pub(super) fn go_on(&self) {
        if let Some(short) = self.short.write().unwrap_or_else(PoisonError::into_inner).take() {
            tracing::info!(since = %short.since, "there is room again: the log takes facts");
        }
    }

    /// Takes note of a read that failed; answers it.
    pub(super) fn note<T>(&self, read: Result<T, ReadError>) -> Result<T, ReadError> {
        if let Err(error @ (ReadError::Corrupt { .. } | ReadError::Store { .. })) = &read {
            metrics::counter!(names::READ_FAILURES).increment(1);
            self.found([in_full(error)]);
        }
        read
    }

    /// Takes note of what a check of everything found: what is not among it any more was mended, or never was.
    pub(super) fn checked(&self, problems: &[String]) {
        self.damage().retain(|known| problems.contains(&known.what));
        self.found(problems.iter().cloned());
    }

    /// See [`EventLog::damage`](crate::log::EventLog::damage).
    pub(super) fn known_damage(&self) -> Vec<Damage> {
        self.damage().clone()
    }

    fn found(&self, places: impl IntoIterator<Item = String>) {
        let mut damage = self.damage();
        for what in places {
            if damage.len() == DAMAGE_MAX || damage.iter().any(|known| known.what == what) {
                continue;
            }
            tracing::error!(what, "a place of the log can't be read as it was written");
            damage.push(Damage { what, since: chrono::Utc::now() });
        }
    }

    fn damage(&self) -> std::sync::MutexGuard<'_, Vec<Damage>> {
        // Nothing that runs under the lock can panic half-way through a change.
        self.damage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_only(reason: &str, passes: bool) -> ReadOnly {
    ReadOnly { reason: reason.into(), since: chrono::Utc::now(), passes }
}

fn in_full(error: &ReadError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
