//! How surprising a silence is: a phi-accrual failure detector over the intervals between heartbeats.
//!
//! `phi = -log10(probability that a beat still comes)`, with the intervals taken for normally distributed (Hayashibara et al.
//! 2004, with the logistic approximation that Akka and Orleans use). Instead of asking for phi again and again, the moment
//! at which it crosses the threshold is worked out, so that watching costs one timer a workspace.
//!
//! What arrives after a suspicion was raised is not learned: an outage must not teach that outages are usual.

use std::collections::VecDeque;
use std::time::Duration;

use covalence_events::retention::INTERVALS_KEPT;

use super::Policy;

/// Intervals that are remembered; older ones are forgotten.
pub const SAMPLES_MAX: usize = 100;
// What is remembered is folded from the log, and old heartbeats leave it but for these.
const _: () = assert!(SAMPLES_MAX <= INTERVALS_KEPT, "the log keeps the heartbeats that they come from");
/// Intervals are kept in tenths of a second: finer than any network, and small.
const TICK: Duration = Duration::from_millis(100);

/// The intervals between the last heartbeats of one generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beats {
    ticks: VecDeque<u16>,
    sum: u64,
    squares: u64,
}

impl Beats {
    /// Learns one interval.
    pub fn learn(&mut self, interval: Duration) {
        let ticks = u16::try_from(interval.as_millis() / TICK.as_millis()).unwrap_or(u16::MAX);
        if self.ticks.len() == SAMPLES_MAX
            && let Some(oldest) = self.ticks.pop_front()
        {
            self.sum -= u64::from(oldest);
            self.squares -= u64::from(oldest) * u64::from(oldest);
        }
        self.ticks.push_back(ticks);
        self.sum += u64::from(ticks);
        self.squares += u64::from(ticks) * u64::from(ticks);
    }

    /// Mean and deviation in seconds, the deviation not below the policy's floor; none while too few intervals are known.
    fn shape(&self, policy: &Policy) -> Option<(f64, f64)> {
        if self.ticks.len() < policy.phi_samples_min as usize {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "at most a hundred numbers of 16 bits")]
        let (count, sum, squares) = (self.ticks.len() as f64, self.sum as f64, self.squares as f64);
        let mean = sum / count;
        let variance = (squares / count - mean * mean).max(0.0);
        let tick = TICK.as_secs_f64();
        Some((mean * tick, (variance.sqrt() * tick).max(policy.phi_sigma_min.as_secs_f64())))
    }

    /// After how much silence phi crosses the threshold; none while too few intervals are known.
    pub fn suspicious_after(&self, policy: &Policy) -> Option<Duration> {
        let (mean, sigma) = self.shape(policy)?;
        let silence = mean + policy.phi_pause.as_secs_f64() + deviations(policy.phi_threshold) * sigma;
        Duration::try_from_secs_f64(silence).ok()
    }

    /// Phi after this much silence; none while too few intervals are known.
    pub fn phi(&self, policy: &Policy, silence: Duration) -> Option<f64> {
        let (mean, sigma) = self.shape(policy)?;
        Some(phi((silence.as_secs_f64() - mean - policy.phi_pause.as_secs_f64()) / sigma))
    }
}

/// The cubic of the logistic approximation of the normal distribution's tail.
fn exponent(deviations: f64) -> f64 {
    deviations * (1.5976 + 0.070_566 * deviations * deviations)
}

/// Phi at so many deviations above the acceptable silence.
fn phi(deviations: f64) -> f64 {
    // ln(1 + e^x) without overflow, where x is large.
    let x = exponent(deviations);
    let log = if x > 30.0 { x } else { x.exp().ln_1p() };
    (log / std::f64::consts::LN_10).max(0.0)
}

/// The inverse of [`phi`], by halving: sixty steps are as exact as the type.
fn deviations(threshold: f64) -> f64 {
    let (mut low, mut high) = (-20.0, 40.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if phi(middle) < threshold {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn steady(seconds: u64, count: usize) -> Beats {
        let mut beats = Beats::default();
        for _ in 0..count {
            beats.learn(Duration::from_secs(seconds));
        }
        beats
    }

    #[test]
    fn thresholds_match_the_published_deviations() {
        for (threshold, published) in [(5.0, 4.12), (8.0, 5.23), (10.0, 5.80), (12.0, 6.29)] {
            let worked_out = deviations(threshold);
            assert!((worked_out - published).abs() < 0.02, "phi {threshold}: {worked_out}");
        }
    }

    #[test]
    fn a_steady_agent_is_suspect_after_seventy_six_seconds() {
        let after = steady(30, 10).suspicious_after(&Policy::default()).unwrap().as_secs_f64();
        assert!((75.0..77.0).contains(&after), "{after}");
    }

    /// Mean 30 s, deviation 10 s.
    #[test]
    fn an_agent_that_beats_irregularly_is_given_more_time() {
        let mut beats = Beats::default();
        for n in 0..20 {
            beats.learn(Duration::from_secs(if n % 2 == 0 { 20 } else { 40 }));
        }
        let after = beats.suspicious_after(&Policy::default()).unwrap().as_secs_f64();
        assert!((112.0..112.6).contains(&after), "{after}");
    }

    #[test]
    fn half_of_the_beats_come_by_their_mean_and_the_longest_silence_is_a_number() {
        assert!((phi(0.0) - 2.0_f64.log10()).abs() < 1e-9);
        assert!(phi(-5.0) < 1e-3);
        assert!(phi(1e6).is_finite());
    }

    #[test]
    fn too_few_beats_say_nothing() {
        assert_eq!(steady(30, 3).suspicious_after(&Policy::default()), None);
        assert!(steady(30, 4).suspicious_after(&Policy::default()).is_some());
    }

    #[test]
    fn old_intervals_are_forgotten() {
        let mut beats = steady(300, SAMPLES_MAX);
        for _ in 0..SAMPLES_MAX {
            beats.learn(Duration::from_secs(30));
        }
        assert_eq!(beats, steady(30, SAMPLES_MAX));
    }

    proptest! {
        #[test]
        fn phi_crosses_the_threshold_exactly_when_it_is_said_to(
            intervals in prop::collection::vec(1_u64..120, 4..120),
        ) {
            let policy = Policy::default();
            let mut beats = Beats::default();
            for interval in intervals {
                beats.learn(Duration::from_secs(interval));
            }
            let after = beats.suspicious_after(&policy).unwrap();
            let around = Duration::from_millis(20);
            prop_assert!(beats.phi(&policy, after.saturating_sub(around)).unwrap() < policy.phi_threshold);
            prop_assert!(beats.phi(&policy, after + around).unwrap() >= policy.phi_threshold);
        }

        #[test]
        fn longer_silence_is_never_less_surprising(
            intervals in prop::collection::vec(1_u64..120, 4..20),
            silences in prop::collection::vec(0_u64..600_000, 2..20),
        ) {
            let policy = Policy::default();
            let mut beats = Beats::default();
            for interval in intervals {
                beats.learn(Duration::from_secs(interval));
            }
            let mut silences = silences;
            silences.sort_unstable();
            let phis: Vec<_> =
                silences.into_iter().filter_map(|ms| beats.phi(&policy, Duration::from_millis(ms))).collect();
            prop_assert!(phis.is_sorted());
        }
    }
}
