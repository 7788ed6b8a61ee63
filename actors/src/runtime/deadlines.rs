//! One timer for all actors: knocks on those whose time has come.
//!
//! Actors arm early and lazily: a heartbeat moves a deadline without touching the timer, and the actor that is knocked
//! on too soon arms again. So the timer costs one entry per actor and one knock per window, whatever the beats.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::Recipient;
use covalence_events::Timestamp;
use covalence_events::pulse::{IDLE_ROUND, Pulse};
use tokio::sync::Notify;

use super::cell::Knock;
use crate::effect::Clock;

/// A mailbox that was full is knocked on again after this long.
const FULL_RETRY: Duration = Duration::from_millis(200);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    armed: Mutex<Armed>,
    changed: Notify,
}

#[derive(Default)]
struct Armed {
    by_time: BTreeMap<(Timestamp, u64), Recipient<Knock>>,
    count: u64,
}

impl std::fmt::Debug for Armed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Armed").field("len", &self.by_time.len()).finish_non_exhaustive()
    }
}

impl Deadlines {
    /// Knock at this time or soon after.
    pub(super) fn arm(&self, at: Timestamp, whom: Recipient<Knock>) {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        armed.count += 1;
        let key = (at, armed.count);
        let first = armed.by_time.first_key_value().is_none_or(|(earliest, _)| key < *earliest);
        armed.by_time.insert(key, whom);
        drop(armed);
        if first {
            self.changed.notify_one();
        }
    }

    /// Knocks until cancelled.
    pub(super) async fn run(self: Arc<Self>, clock: Arc<dyn Clock>, pulse: Arc<Pulse>) {
        loop {
            pulse.tick();
            let now = clock.now().at;
            let next = self.knock_due(now);
            let sleep = next.map_or(IDLE_ROUND, |at| (at - now).to_std().unwrap_or_default().min(IDLE_ROUND));
            tokio::select! {
                () = tokio::time::sleep(sleep) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    fn knock_due(&self, now: Timestamp) -> Option<Timestamp> {
        loop {
            let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
            let (&(at, _), _) = armed.by_time.first_key_value()?;
            if at > now {
                return Some(at);
            }
            let (_, whom) = armed.by_time.pop_first()?;
            drop(armed);
            if let Err(actix::prelude::SendError::Full(_)) = whom.try_send(Knock) {
                self.arm(now + FULL_RETRY, whom);
            }
        }
    }
}
