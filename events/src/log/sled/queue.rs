//! The bounded queue between those who append and the one writer.
//!
//! One mutex rather than a channel: the writer takes everything that waits in one step, the bound counts bytes as well
//! as appends, and nothing can slip in behind a close.
//!
//! An append that somebody waits for wakes the writer at once. Telemetry alone ([`Ack::Accepted`](crate::log::Ack), which is
//! answered before the flush) rests a moment first, so that a commit carries many beats and outcomes: it costs the same
//! system calls and wake-ups for one as for a hundred.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::writer::Request;
use crate::pulse::Pulse;

/// Appends that may wait. At the slowest commit seen on a busy disk (5 ms) and a few hundred appends per commit this is
/// well under a second of work; more would only be latency.
pub const QUEUE_APPENDS_MAX: usize = 4096;

/// Bytes that may wait, so that large request bodies can't fill the memory: four of the largest (16 MiB).
pub const QUEUE_BYTES_MAX: usize = 64 << 20;

/// How long telemetry rests. Of the second that a power cut may take from it this is nothing, and no reader of the log
/// notices it.
pub(super) const REST: Duration = Duration::from_millis(5);

/// Appends with which the queue is too full to rest: half of it has to stay free for what comes while they are written.
const REST_APPENDS_MAX: usize = QUEUE_APPENDS_MAX / 2;

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
    /// Whether somebody waits for one of the requests.
    awaited: bool,
    writer: Writer,
}

/// What the writer is doing.
#[derive(Debug, Default)]
enum Writer {
    /// It looks here again before it sleeps.
    #[default]
    Awake,
    /// It sleeps until there is something.
    Idle,
    /// It lets telemetry rest.
    Resting,
}

impl Waiting {
    fn is_urgent(&self) -> bool {
        self.awaited
            || self.closed
            || self.requests.len() >= REST_APPENDS_MAX
            || self.bytes >= QUEUE_BYTES_MAX / 2
    }
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
        waiting.awaited |= request.is_awaited();
        waiting.requests.push_back(request);
        let wake = match waiting.writer {
            Writer::Awake => false,
            Writer::Idle => true,
            Writer::Resting => waiting.is_urgent(),
        };
        if wake {
            waiting.writer = Writer::Awake;
            drop(waiting);
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Everything that waits, as soon as anything does that should not rest; nothing where none came for a `round`. `None` once
    /// closed and empty.
    pub(super) fn drain(&self, pulse: &Pulse, round: Duration) -> Option<VecDeque<Request>> {
        let mut waiting = self.lock();
        let (mut rested_at, until) = (None, Instant::now() + round);
        loop {
            let now = Instant::now();
            pulse.tick();
            if waiting.requests.is_empty() {
                if waiting.closed {
                    return None;
                }
                if now >= until {
                    waiting.writer = Writer::Awake;
                    return Some(VecDeque::new());
                }
                waiting.writer = Writer::Idle;
                let wait = self.wake.wait_timeout(waiting, until - now);
                waiting = wait.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let rested_at = *rested_at.get_or_insert(now + REST);
            if waiting.is_urgent() || now >= rested_at {
                waiting.bytes = 0;
                waiting.awaited = false;
                waiting.writer = Writer::Awake;
                return Some(std::mem::take(&mut waiting.requests));
            }
            waiting.writer = Writer::Resting;
            let rest = rested_at - now;
            waiting = self.wake.wait_timeout(waiting, rest).unwrap_or_else(PoisonError::into_inner).0;
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::sync::oneshot;

    use super::{Queue, REST, REST_APPENDS_MAX};
    use crate::log::conformance::{event, stream, to};
    use crate::log::sled::writer::Request;
    use crate::log::{Ack, Expected};
    use crate::pulse::{IDLE_ROUND, Pulse};

    fn push(queue: &Queue, ack: Ack) {
        let append = to(stream(), Expected::Any, vec![event("one")]);
        queue.push(Request::new(append, ack, oneshot::channel().0, None).unwrap()).unwrap();
    }

    #[test]
    fn telemetry_rests_before_it_is_taken_together() {
        let (queue, pulse) = (Queue::default(), Pulse::new("test"));
        push(&queue, Ack::Accepted);
        push(&queue, Ack::Accepted);
        let began = Instant::now();
        assert_eq!(queue.drain(&pulse, IDLE_ROUND).unwrap().len(), 2);
        assert!(began.elapsed() >= REST);
    }

    #[test]
    fn what_somebody_waits_for_and_what_is_too_much_does_not_rest() {
        let (queue, pulse) = (Queue::default(), Pulse::new("test"));
        push(&queue, Ack::Accepted);
        assert!(!queue.lock().is_urgent());
        push(&queue, Ack::Durable);
        assert!(queue.lock().is_urgent());
        assert_eq!(queue.drain(&pulse, IDLE_ROUND).unwrap().len(), 2);
        (1..REST_APPENDS_MAX).for_each(|_| push(&queue, Ack::Accepted));
        assert!(!queue.lock().is_urgent());
        push(&queue, Ack::Accepted);
        assert!(queue.lock().is_urgent());
        assert_eq!(queue.drain(&pulse, IDLE_ROUND).unwrap().len(), REST_APPENDS_MAX);
        push(&queue, Ack::Accepted);
        queue.close();
        assert_eq!(queue.drain(&pulse, IDLE_ROUND).unwrap().len(), 1);
        assert!(queue.drain(&pulse, IDLE_ROUND).is_none());
    }
}
