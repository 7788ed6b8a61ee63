//! The other direction: what the agent tells the platform.
//!
//! Two loops. One registers until it succeeded once, the other sends a heartbeat at once and then at every
//! interval. They are independent, because a heartbeat brings a workspace online even where the registration is
//! refused. Neither ever gives up: a platform that is away comes back.

pub mod client;
mod retry;
pub mod token;
pub mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::activity::Activity;
use crate::platform::client::{CallError, Client};
use crate::platform::wire::{Heartbeat, Register};

/// The first heartbeat waits this long for the first registration, whose answer may carry the token it needs.
const FIRST_REGISTER_MAX: Duration = Duration::from_secs(2);

/// The link to the platform.
#[derive(Debug)]
pub struct Platform {
    client: Client,
    register: Register,
    activity: Arc<Activity>,
    heartbeat_interval: Duration,
    is_registered: AtomicBool,
    first_attempt_done: Notify,
}

impl Platform {
    /// A link that reports `register` and what `activity` sees.
    pub fn new(
        client: Client,
        register: Register,
        activity: Arc<Activity>,
        heartbeat_interval: Duration,
    ) -> Self {
        Self {
            client,
            register,
            activity,
            heartbeat_interval,
            is_registered: AtomicBool::new(false),
            first_attempt_done: Notify::new(),
        }
    }

    /// Registers; tries again until it succeeds, then returns.
    pub async fn register(&self) {
        for attempt in 0_u32.. {
            let outcome = self.client.register(&self.register).await;
            if outcome.is_ok() {
                self.is_registered.store(true, Ordering::Relaxed);
            }
            // A permit is kept if the heartbeat does not wait yet.
            self.first_attempt_done.notify_one();
            let Err(error) = outcome else {
                tracing::info!(url = self.register.url, "registered");
                return;
            };
            let pause = retry::pause(&error, attempt);
            if error.is_refusal() {
                let pause_seconds = pause.as_secs();
                tracing::error!(%error, pause_seconds, "the platform refuses the registration; it will not change its mind by itself");
            } else {
                tracing::warn!(%error, pause_ms = pause.as_millis(), "cannot register yet");
            }
            sleep(pause).await;
        }
    }

    /// Sends heartbeats for ever.
    pub async fn heartbeats(&self) {
        drop(timeout(FIRST_REGISTER_MAX, self.first_attempt_done.notified()).await);
        let mut ticks = interval(self.heartbeat_interval);
        // After a suspended host woke up, one beat tells as much as all that were missed.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failures = 0_u32;
        loop {
            ticks.tick().await;
            match self.client.heartbeat(&self.beat()).await {
                Ok(()) if failures > 0 => {
                    failures = 0;
                    tracing::info!("heartbeats arrive again");
                }
                Ok(()) => tracing::debug!("heartbeat sent"),
                Err(error) => {
                    log_heartbeat_failure(&error);
                    // Sooner than the next beat: a platform that was away for a moment should not miss us for long.
                    ticks.reset_after(retry::pause(&error, failures).min(self.heartbeat_interval));
                    failures = failures.saturating_add(1);
                }
            }
        }
    }

    fn beat(&self) -> Heartbeat {
        // The card rides along only while the platform does not have it from a registration.
        let is_registered = self.is_registered.load(Ordering::Relaxed);
        let card = (!is_registered).then(|| self.register.agent_card.clone());
        Heartbeat::new(&self.register.id, self.activity.snapshot(Instant::now()), card)
    }
}

fn log_heartbeat_failure(error: &CallError) {
    if error.is_refusal() {
        tracing::error!(%error, "the platform refuses the heartbeat");
    } else {
        tracing::warn!(%error, "heartbeat not delivered");
    }
}
