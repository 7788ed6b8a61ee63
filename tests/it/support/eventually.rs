//! Waiting for a condition, never for a time.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// How often a condition is looked at: often enough to time what takes tens of milliseconds, rare enough to cost nothing.
const PACE: Duration = Duration::from_millis(20);

/// Looks at `probe` until it answers `Ok`, for at most `limit`. What it said last is in the failure's message.
pub(crate) async fn eventually<T, E: Display>(
    what: &str,
    limit: Duration,
    mut probe: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let begun = Instant::now();
    loop {
        let last = match probe().await {
            Ok(found) => return found,
            Err(error) => error,
        };
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}; last seen: {last}");
        tokio::time::sleep(PACE).await;
    }
}

/// [`eventually`] for a condition that needs no waiting to be looked at.
pub(crate) fn eventually_blocking<T, E: Display>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<T, E>,
) -> T {
    let begun = Instant::now();
    loop {
        let last = match probe() {
            Ok(found) => return found,
            Err(error) => error,
        };
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}; last seen: {last}");
        std::thread::sleep(PACE);
    }
}
