//! How long to wait after a call to the platform failed.

use std::time::Duration;

use uuid::Uuid;

use crate::platform::client::CallError;

/// First pause: a platform that restarts beside us is back within a second.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// Longest pause: as long as a heartbeat's interval, so that a return is noticed as soon as by a beat.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// After a refusal: only a person's change helps, and the log should not fill up meanwhile.
const PAUSE_REFUSED: Duration = Duration::from_mins(1);
/// A `Retry-After` above this is taken as this.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(5);

/// The pause before the next attempt; `attempt` counts from 0. Half of it is random, so that agents which lost the
/// platform together do not come back together.
pub(crate) fn pause(error: &CallError, attempt: u32) -> Duration {
    with_jitter(plain_pause(error, attempt), Uuid::new_v4().as_u128())
}

fn plain_pause(error: &CallError, attempt: u32) -> Duration {
    if error.is_refusal() {
        return PAUSE_REFUSED;
    }
    let backoff = PAUSE_FIRST.saturating_mul(1 << attempt.min(16)).min(PAUSE_MAX);
    error.retry_after().map_or(backoff, |asked| asked.min(RETRY_AFTER_MAX).max(backoff))
}

/// A duration from `pause` to one and a half of it: never less than what was asked for.
fn with_jitter(pause: Duration, random: u128) -> Duration {
    // A version 4 UUID keeps its low 62 bits random; the version and variant bits are above them.
    let thousandths = u32::try_from(random % 1_000).unwrap_or_default();
    pause + pause.mul_f64(0.5) * thousandths / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, retry_after: Option<u64>) -> CallError {
        let retry_after = retry_after.map(Duration::from_secs);
        CallError::Status { route: "register", status, retry_after, body: String::new() }
    }

    #[test]
    fn an_absent_platform_is_asked_more_and_more_slowly_up_to_a_limit() {
        let pauses: Vec<_> = (0..10).map(|attempt| plain_pause(&status(503, None), attempt)).collect();
        assert_eq!(pauses[..3], [250, 500, 1000].map(Duration::from_millis));
        assert_eq!(pauses[9], PAUSE_MAX);
        assert_eq!(plain_pause(&status(503, None), u32::MAX), PAUSE_MAX);
    }

    #[test]
    fn a_refusal_is_repeated_slowly_and_a_full_platform_is_given_the_time_it_asks_for() {
        assert_eq!(plain_pause(&status(400, None), 0), PAUSE_REFUSED);
        assert_eq!(plain_pause(&status(429, Some(7)), 0), Duration::from_secs(7));
        assert_eq!(plain_pause(&status(429, Some(1_000_000)), 0), RETRY_AFTER_MAX);
    }

    #[test]
    fn jitter_only_lengthens() {
        for random in [0, 1, 499, 999, u128::MAX] {
            let pause = with_jitter(PAUSE_MAX, random);
            assert!((PAUSE_MAX..PAUSE_MAX * 3 / 2).contains(&pause), "{pause:?}");
        }
    }
}
