//! Tokens: how many automatic restarts a cell may begin, in a burst and in the long run.
//!
//! A restart takes its cost; tokens come back with time, and one comes back when a restarted workspace has proved itself, so
//! that healing goes on as fast as it succeeds.

use std::time::Duration;

use covalence_events::Timestamp;

use super::Policy;

/// The level at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    tokens: f64,
    at: Timestamp,
}

impl Bucket {
    /// A full bucket.
    pub fn full(policy: &Policy, at: Timestamp) -> Self {
        Self { tokens: policy.bucket_capacity, at }
    }

    /// A bucket that held so many tokens at one moment.
    pub const fn holding(tokens: f64, at: Timestamp) -> Self {
        Self { tokens, at }
    }

    /// The tokens in it at a later moment.
    pub fn level(&self, policy: &Policy, now: Timestamp) -> f64 {
        let seconds = (now - self.at).to_std().unwrap_or_default().as_secs_f64();
        (self.tokens + policy.bucket_refill * seconds).min(policy.bucket_capacity)
    }

    /// After a restart has taken its cost.
    #[must_use]
    pub fn take(self, policy: &Policy, cost: f64, now: Timestamp) -> Self {
        Self { tokens: (self.level(policy, now) - cost).max(0.0), at: self.at.max(now) }
    }

    /// After a restarted workspace has proved itself.
    #[must_use]
    pub fn reward(self, policy: &Policy, now: Timestamp) -> Self {
        Self { tokens: (self.level(policy, now) + 1.0).min(policy.bucket_capacity), at: self.at.max(now) }
    }
}

/// How long until so many tokens are there, if nothing else happens.
pub fn wait(policy: &Policy, tokens: f64, cost: f64) -> Duration {
    // A millisecond more than exact, so that rounding never leaves a waiter a hair short.
    let seconds = ((cost - tokens) / policy.bucket_refill).max(0.0) + 0.001;
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        chrono::DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn a_burst_empties_it_and_time_fills_it_again() {
        let policy = Policy::default();
        let mut bucket = Bucket::full(&policy, at(0));
        for _ in 0..3 {
            assert!(bucket.level(&policy, at(0)) >= 1.0);
            bucket = bucket.take(&policy, 1.0, at(0));
        }
        assert!(bucket.level(&policy, at(9)) < 1.0);
        assert!(bucket.level(&policy, at(10)) >= 1.0 - 1e-9);
        assert!((bucket.level(&policy, at(1000)) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_restart_that_proves_itself_brings_one_token_back() {
        let policy = Policy::default();
        let close = |bucket: Bucket, level: f64| (bucket.level(&policy, at(0)) - level).abs() < 1e-9;
        let left = Bucket::full(&policy, at(0)).take(&policy, 2.5, at(0));
        assert!(close(left, 0.5), "{left:?}");
        assert!(close(left.reward(&policy, at(0)), 1.5), "one more than was left");
        assert!(close(Bucket::full(&policy, at(0)).reward(&policy, at(0)), 3.0), "never more than fit in");
    }

    #[test]
    fn a_wait_is_as_long_as_the_missing_tokens_take_to_come_back() {
        let policy = Policy::default();
        let waits = [(0.0, 1.0), (0.5, 1.0), (0.0, 2.0), (1.0, 1.0), (3.0, 1.0)]
            .map(|(tokens, cost)| wait(&policy, tokens, cost).as_millis());
        assert_eq!(waits, [10_001, 5_001, 20_001, 1, 1]);
    }

    proptest! {
        #[test]
        fn the_level_stays_between_nothing_and_the_capacity(
            steps in prop::collection::vec((0_i64..600, 0_u8..3, 0.0_f64..3.0), 1..60),
        ) {
            let policy = Policy::default();
            let mut now = 0;
            let mut bucket = Bucket::full(&policy, at(0));
            for (seconds, what, cost) in steps {
                now += seconds;
                bucket = match what {
                    0 => bucket.take(&policy, cost, at(now)),
                    1 => bucket.reward(&policy, at(now)),
                    _ => bucket,
                };
                let level = bucket.level(&policy, at(now));
                prop_assert!((0.0..=policy.bucket_capacity).contains(&level), "{level}");
            }
        }

        #[test]
        fn after_the_wait_there_is_enough(tokens in 0.0_f64..3.0, cost in 0.0_f64..3.0) {
            let policy = Policy::default();
            let bucket = Bucket { tokens, at: at(0) };
            let later = at(0) + wait(&policy, tokens, cost);
            prop_assert!(bucket.level(&policy, later) >= cost);
        }
    }
}
