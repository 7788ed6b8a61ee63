//! The bounded queue between those who append and the one writer.
//!
//! One mutex rather than a channel: the writer takes everything that waits in one step, the bound counts bytes as well
//! as appends, and nothing can slip in behind a close.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::writer::Request;

/// Appends that may wait. At the slowest commit seen on a busy disk (5 ms) and a few hundred appends per commit this is
/// well under a second of work; more would only be latency.
pub const QUEUE_APPENDS_MAX: usize = 4096;

/// Bytes that may wait, so that large request bodies can't fill the memory: four of the largest (16 MiB).
pub const QUEUE_BYTES_MAX: usize = 64 << 20;

/// Why a request was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Too much waits already.
    Full,
    /// No more is taken.
    Closed,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: VecDeque<Request>,
    bytes: usize,
    closed: bool,
    writer_sleeps: bool,
}

impl Queue {
    /// Never blocks for longer than another caller takes to do the same.
    pub(super) fn push(&self, request: Request) -> Result<(), Refused> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(Refused::Closed);
        }
        let weight = request.weight();
        let over = waiting.bytes + weight > QUEUE_BYTES_MAX && !waiting.requests.is_empty();
        if over || waiting.requests.len() >= QUEUE_APPENDS_MAX {
            return Err(Refused::Full);
        }
        waiting.bytes += weight;
        waiting.requests.push_back(request);
        if std::mem::take(&mut waiting.writer_sleeps) {
            drop(waiting);
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Everything that waits, as soon as anything does. `None` once closed and empty.
    pub(super) fn drain(&self) -> Option<VecDeque<Request>> {
        let mut waiting = self.lock();
        loop {
            if !waiting.requests.is_empty() {
                waiting.bytes = 0;
                return Some(std::mem::take(&mut waiting.requests));
            }
            if waiting.closed {
                return None;
            }
            waiting.writer_sleeps = true;
            waiting = self.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes nothing more; what waits is still handed out.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that runs under the lock can panic half-way through a change.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
