//! How hard we are pressed ourselves: appends that are slow or fail, heartbeats that we refused.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Appends that are looked back on.
const APPENDS_MAX: usize = 512;
/// For how long.
const KEPT: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Strain {
    appends: Mutex<VecDeque<(Instant, Duration)>>,
    failed: AtomicU64,
    refused: AtomicU64,
}

/// What has happened since an observer last asked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    failed: u64,
    refused: u64,
}

impl Strain {
    /// A durable append ended.
    pub(super) fn appended(&self, took: Duration, failed: bool) {
        if failed {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        let mut appends = self.appends.lock().unwrap_or_else(PoisonError::into_inner);
        if appends.len() == APPENDS_MAX {
            appends.pop_front();
        }
        appends.push_back((Instant::now(), took));
    }

    /// A heartbeat was refused because a mailbox or the log's queue was full.
    pub(super) fn beat_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// The 99th percentile of recent appends.
    pub(super) fn append_p99(&self) -> Duration {
        let mut appends = self.appends.lock().unwrap_or_else(PoisonError::into_inner);
        while appends.front().is_some_and(|(at, _)| at.elapsed() > KEPT) {
            appends.pop_front();
        }
        let mut times: Vec<_> = appends.iter().map(|(_, took)| *took).collect();
        drop(appends);
        times.sort_unstable();
        let index = (times.len() * 99).div_ceil(100).saturating_sub(1);
        times.get(index).copied().unwrap_or_default()
    }

    /// Whether appends failed, and whether beats were refused, since `seen`.
    pub(super) fn since(&self, seen: &mut Seen) -> (bool, bool) {
        let now = Seen {
            failed: self.failed.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        };
        let before = std::mem::replace(seen, now);
        (now.failed > before.failed, now.refused > before.refused)
    }
}
