//! Waiting for what a command led to: facts that others record after it, found by following the log.

use std::sync::Arc;
use std::time::Duration;

use covalence_events::log::Subscription;
use covalence_events::{Position, Recorded};
use tokio::time::{Instant, timeout_at};

use crate::http::HttpState;

/// Facts read at a time.
const BATCH: usize = 256;

/// Follows the log from after `from` until `seen` answers something, or the time is up.
pub async fn await_fact<T>(
    state: &HttpState,
    from: Position,
    within: Duration,
    mut seen: impl FnMut(&Recorded) -> Option<T>,
) -> Option<T> {
    let deadline = Instant::now() + within;
    let mut facts = Subscription::new(Arc::clone(&state.log), from.next());
    loop {
        let batch = timeout_at(deadline, facts.next(BATCH)).await.ok()?.ok()??;
        if let Some(found) = batch.iter().find_map(|fact| seen(fact)) {
            return Some(found);
        }
    }
}
