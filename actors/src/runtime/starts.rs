//! Starts under way: as many at once as an engine bears, a bounded queue, and a limit that learns ([`Limit`]).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use covalence_events::workspace::BackendKind;
use tokio::sync::Notify;

use crate::policy::Policy;
use crate::policy::limit::Limit;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Starts {
    cells: Mutex<HashMap<BackendKind, Queue>>,
    freed: Notify,
}

#[derive(Debug)]
struct Queue {
    limit: Limit,
    under_way: u32,
    waiting: u32,
}

/// A start that may go ahead. Gives its place back when dropped.
#[derive(Debug)]
pub(super) struct Start<'a> {
    starts: &'a Starts,
    cell: BackendKind,
}

/// Too many wait, or it waited for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shed;

impl Starts {
    fn with<T>(&self, cell: BackendKind, policy: &Policy, f: impl FnOnce(&mut Queue) -> T) -> T {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Queue { limit: Limit::new(policy), under_way: 0, waiting: 0 };
        f(cells.entry(cell).or_insert_with(fresh))
    }

    /// Whether so many more starts would find room in the queue.
    pub(super) fn has_room(&self, (cell, more): (BackendKind, u32), policy: &Policy) -> bool {
        self.with(cell, policy, |queue| queue.waiting.saturating_add(more) <= policy.provisions_queue.max(1))
    }

    /// Waits for a place. `patient` starts (restarts, which have been admitted already) are never shed.
    pub(super) async fn enter(
        &self,
        cell: BackendKind,
        policy: &Policy,
        patient: bool,
    ) -> Result<Start<'_>, Shed> {
        let full = self.with(cell, policy, |queue| {
            let full = !patient && queue.waiting > policy.provisions_queue;
            queue.waiting += u32::from(!full);
            full
        });
        if full {
            return Err(Shed);
        }
        let waiting = Waiting { starts: self, cell };
        let limit = if patient { Duration::MAX } else { policy.provisions_wait };
        let place = async {
            loop {
                let freed = self.freed.notified();
                let taken = self.with(cell, policy, |queue| {
                    let free = queue.under_way < queue.limit.get();
                    queue.under_way += u32::from(free);
                    free
                });
                if taken {
                    return Start { starts: self, cell };
                }
                freed.await;
            }
        };
        let entered = tokio::time::timeout(limit, place).await.map_err(|_| Shed);
        drop(waiting);
        entered
    }

    /// Learns from how a start went; answers the limit before and after where it changed.
    pub(super) fn learn(&self, cell: BackendKind, policy: &Policy, well: bool) -> Option<(u32, u32)> {
        let (before, after) = self.with(cell, policy, |queue| {
            let before = queue.limit.get();
            queue.limit = if well {
                queue.limit.went_well(policy, queue.under_way)
            } else {
                queue.limit.failed(policy)
            };
            (before, queue.limit.get())
        });
        if after > before {
            self.freed.notify_waiters();
        }
        (before != after).then_some((before, after))
    }
}

/// Somebody in the queue; leaves it when dropped, however that comes.
struct Waiting<'a> {
    starts: &'a Starts,
    cell: BackendKind,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut cells = self.starts.cells.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = cells.get_mut(&self.cell) {
            queue.waiting = queue.waiting.saturating_sub(1);
        }
    }
}

impl Drop for Start<'_> {
    fn drop(&mut self) {
        let mut cells = self.starts.cells.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = cells.get_mut(&self.cell) {
            queue.under_way = queue.under_way.saturating_sub(1);
        }
        drop(cells);
        self.starts.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn three_start_at_once_and_the_fourth_waits_for_a_place() {
        let (starts, policy) = (Starts::default(), Policy::default());
        let first = starts.enter(BackendKind::Docker, &policy, false).await.unwrap();
        let _second = starts.enter(BackendKind::Docker, &policy, false).await.unwrap();
        let _third = starts.enter(BackendKind::Docker, &policy, false).await.unwrap();
        let fourth = starts.enter(BackendKind::Docker, &policy, false);
        tokio::pin!(fourth);
        assert!(futures_util::poll!(&mut fourth).is_pending());
        drop(first);
        fourth.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_too_long_is_shed_and_an_admitted_restart_is_not() {
        let (starts, policy) = (Starts::default(), Policy { provisions_start: 1, ..Policy::default() });
        let held = starts.enter(BackendKind::Docker, &policy, false).await.unwrap();
        assert_eq!(starts.enter(BackendKind::Docker, &policy, false).await.err(), Some(Shed));
        let patient = starts.enter(BackendKind::Docker, &policy, true);
        tokio::pin!(patient);
        assert!(tokio::time::timeout(policy.provisions_wait * 3, &mut patient).await.is_err());
        drop(held);
        patient.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_has_no_room_until_somebody_leaves_it() {
        let policy = Policy { provisions_start: 1, provisions_queue: 1, ..Policy::default() };
        let starts = Starts::default();
        let held = starts.enter(BackendKind::Docker, &policy, false).await.unwrap();
        assert!(starts.has_room((BackendKind::Docker, 1), &policy), "one is under way, none waits");
        let waiting = starts.enter(BackendKind::Docker, &policy, false);
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        assert!(!starts.has_room((BackendKind::Docker, 1), &policy));
        drop(held);
        waiting.await.unwrap();
        assert!(starts.has_room((BackendKind::Docker, 1), &policy));
    }

    #[tokio::test(start_paused = true)]
    async fn one_engine_does_not_wait_for_another() {
        let (starts, policy) = (Starts::default(), Policy { provisions_start: 1, ..Policy::default() });
        let _held = starts.enter(BackendKind::Docker, &policy, false).await.unwrap();
        starts.enter(BackendKind::Process, &policy, false).await.unwrap();
    }
}
