//! Silence, noticed by the clock and by asking the agent.

use std::sync::Arc;
use std::time::Duration;

use covalence_events::Generation;
use covalence_events::log::memory::MemoryLog;

use super::{full_log, platform_over, platform_writing_to};
use crate::policy::Policy;
use crate::runtime::Settings;

/// Silence is noticed within a turn or two of the observer.
fn impatient() -> Policy {
    let soon = Duration::from_millis(10);
    Policy {
        liveness_ttl: Duration::from_millis(300),
        heartbeat_interval: soon,
        probe_late: soon,
        probe_tries: 1,
        list_every: soon,
        ..Policy::default()
    }
}

#[actix::test]
async fn silence_is_noticed_by_the_clock_alone() {
    let settings = Settings { policy: impatient(), ..Settings::default() };
    let platform = platform_over(Arc::default(), Arc::default(), settings).await;
    let id = platform.online().await;
    platform.until(id, "it is restarted as hung", |state| state.generation == Generation(2)).await;
}

#[actix::test]
async fn a_silence_that_a_full_log_refuses_is_noticed_later() {
    let log = Arc::new(MemoryLog::new());
    let full = full_log::FullAtFirst::refusing(1, "workspace.verdict_reached.v1", Arc::clone(&log));
    let settings = Settings { policy: impatient(), ..Settings::default() };
    let platform = platform_writing_to(Arc::new(full), log, Arc::default(), settings).await;
    let id = platform.online().await;
    platform.until(id, "it is restarted as hung", |state| state.generation == Generation(2)).await;
}
