//! The sign of life that each of the platform's own background loops gives: a loop that waits for ever inside one round says
//! nothing and fails at nothing, and only the age of its last round shows it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A loop that has nothing to do comes round this often all the same.
pub const IDLE_ROUND: Duration = Duration::from_secs(5);

/// One loop's last round, on the monotonic clock.
#[derive(Debug)]
pub struct Pulse {
    name: &'static str,
    began: Instant,
    /// Milliseconds from `began` to the last round.
    last: AtomicU64,
}

impl Pulse {
    /// The pulse of a loop that begins now. The name is shown to operators, and is part of an alarm's kind.
    pub fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self { name, began: Instant::now(), last: AtomicU64::new(0) })
    }

    /// As if the last round had been so long ago.
    #[cfg(any(test, feature = "test-support"))]
    pub fn aged(name: &'static str, by: Duration) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self { name, began: now.checked_sub(by).unwrap_or(now), last: AtomicU64::new(0) })
    }

    /// Which loop.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// It has come round.
    pub fn tick(&self) {
        let passed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(passed, Ordering::Relaxed);
    }

    /// How long ago it last came round, or began.
    pub fn age(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }

    /// Awaits what may be long in coming, and comes round meanwhile for as long as `idle` says that there is nothing to do.
    pub async fn waiting<T>(&self, work: impl Future<Output = T>, idle: impl Fn() -> bool) -> T {
        let mut work = pin!(work);
        loop {
            match tokio::time::timeout(IDLE_ROUND, &mut work).await {
                Ok(done) => {
                    self.tick();
                    return done;
                }
                Err(_) if idle() => self.tick(),
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ages_until_its_loop_comes_round() {
        let pulse = Pulse::aged("test", Duration::from_secs(90));
        assert!(pulse.age() >= Duration::from_secs(90));
        pulse.tick();
        assert!(pulse.age() < Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_is_a_round_only_while_there_is_nothing_to_do() {
        let never = std::future::pending::<()>;
        for (idle, young) in [(true, true), (false, false)] {
            let pulse = Pulse::aged("test", Duration::from_secs(90));
            let waited = tokio::time::timeout(IDLE_ROUND * 3, pulse.waiting(never(), || idle)).await;
            assert!(waited.is_err());
            assert_eq!(pulse.age() < Duration::from_secs(10), young, "idle: {idle}");
        }
        let pulse = Pulse::aged("test", Duration::from_secs(90));
        assert_eq!(pulse.waiting(std::future::ready(7), || false).await, 7);
        assert!(pulse.age() < Duration::from_secs(10), "what came is a round");
    }
}
