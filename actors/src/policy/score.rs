//! How well the observer itself is, 0 (well) to 8: the sum of what makes us see badly (Lifeguard, Orleans).
//!
//! An unwell observer waits longer for answers, concludes nothing from silence, and in the end freezes restarts. It never
//! holds its own state against what it watches.

use std::collections::VecDeque;
use std::time::Duration;

use covalence_events::Timestamp;

use super::Policy;

/// The worst score.
pub const MAX: u32 = 8;
/// A failure to append speaks against us for this long.
const LOG_TROUBLE: Duration = Duration::from_secs(30);
/// And so does a heartbeat that we refused.
const BEATS_REFUSED: Duration = Duration::from_secs(30);
/// Loop lag below this is scheduling, not trouble.
const LAG_MIN: Duration = Duration::from_secs(1);
/// A measured lag is forgotten after this.
const LAG_KEPT: Duration = Duration::from_secs(15);
/// What slow or failing appends add.
const LOG_PART: u32 = 2;
/// What appends that fail outright add: enough to freeze, since nothing can be decided without a log.
const LOG_FAILED_PART: u32 = 4;
/// Lags remembered at once.
const LAGS_MAX: usize = 16;

/// The parts of the score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Engine calls that failed, less those that went well.
    pub engine: u32,
    /// Whole seconds that our own loop ran late.
    pub loop_lag: u32,
    /// Appends that were slow or failed.
    pub log: u32,
    /// Heartbeats that we refused or were too slow to take.
    pub beats: u32,
    /// We have just stood still.
    pub paused: bool,
}

impl Parts {
    /// The score that they add up to.
    pub fn total(self) -> u32 {
        if self.paused { MAX } else { (self.engine + self.loop_lag + self.log + self.beats).min(MAX) }
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Score {
    engine: u32,
    lags: VecDeque<(Timestamp, u32)>,
    log_slow: Option<Timestamp>,
    log_failed: Option<Timestamp>,
    beats_refused: Option<Timestamp>,
    quiet_until: Option<Timestamp>,
    last_pause: Option<Duration>,
}

impl Score {
    /// An engine call ended: well, or in an error that says something about the way to the engine.
    pub fn called(&mut self, failed: bool) {
        self.engine = if failed { (self.engine + 1).min(MAX) } else { self.engine.saturating_sub(1) };
    }

    /// Our own loop had its turn this much too late. A lag above [`Policy::pause_max`] means that we stood still: nothing
    /// is concluded for as long again.
    pub fn late_by(&mut self, policy: &Policy, lag: Duration, now: Timestamp) {
        if lag > policy.pause_max {
            self.quiet_until = Some(now + policy.pause_max);
            self.last_pause = Some(lag);
        } else if lag >= LAG_MIN {
            if self.lags.len() == LAGS_MAX {
                self.lags.pop_front();
            }
            self.lags.push_back((now, u32::try_from(lag.as_secs()).unwrap_or(MAX)));
        }
    }

    /// The 99th percentile of recent appends.
    pub fn appends_took(&mut self, policy: &Policy, p99: Duration, now: Timestamp) {
        self.log_slow = (p99 > policy.append_slow).then_some(now);
    }

    /// An append failed, or the log takes no writes.
    pub fn append_failed(&mut self, now: Timestamp) {
        self.log_failed = Some(now);
    }

    /// A heartbeat was refused because we were too busy.
    pub fn beat_refused(&mut self, now: Timestamp) {
        self.beats_refused = Some(now);
    }

    /// Until when nothing may be concluded, because we stood still.
    pub fn quiet_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.quiet_until.filter(|until| *until > now)
    }

    /// How long we last stood still.
    pub fn last_pause(&self) -> Option<Duration> {
        self.last_pause
    }

    /// The score's parts at this moment.
    pub fn parts(&self, now: Timestamp) -> Parts {
        let recent = |at: Option<Timestamp>, kept: Duration| at.is_some_and(|at| now < at + kept);
        let log = if recent(self.log_failed, LOG_TROUBLE) {
            LOG_FAILED_PART
        } else if recent(self.log_slow, LOG_TROUBLE) {
            LOG_PART
        } else {
            0
        };
        Parts {
            engine: self.engine,
            loop_lag: self
                .lags
                .iter()
                .filter(|(at, _)| now < *at + LAG_KEPT)
                .map(|(_, lag)| *lag)
                .max()
                .unwrap_or(0),
            log,
            beats: u32::from(recent(self.beats_refused, BEATS_REFUSED)),
            paused: self.quiet_until(now).is_some(),
        }
    }

    /// The score at this moment.
    pub fn total(&self, now: Timestamp) -> u32 {
        self.parts(now).total()
    }

    /// An observation's limit, stretched by the score.
    pub fn stretch(&self, limit: Duration, now: Timestamp) -> Duration {
        limit * (1 + self.total(now))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        chrono::DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn each_engine_error_counts_and_each_good_answer_takes_one_back() {
        let mut score = Score::default();
        for failed in [true, true, true, false] {
            score.called(failed);
        }
        assert_eq!(score.total(at(0)), 2);
    }

    #[test]
    fn a_pause_of_our_own_is_the_worst_and_concludes_nothing_for_as_long_again() {
        let (policy, mut score) = (Policy::default(), Score::default());
        score.late_by(&policy, Duration::from_secs(8), at(8));
        assert_eq!((score.total(at(8)), score.quiet_until(at(8))), (MAX, Some(at(13))));
        assert_eq!((score.total(at(13)), score.quiet_until(at(13))), (0, None));
    }

    #[test]
    fn loop_lag_counts_in_seconds_and_stretches_our_patience() {
        let (policy, mut score) = (Policy::default(), Score::default());
        score.late_by(&policy, Duration::from_millis(2_100), at(0));
        assert_eq!(score.total(at(1)), 2);
        assert_eq!(score.stretch(Duration::from_secs(3), at(1)), Duration::from_secs(9));
        assert_eq!(score.total(at(60)), 0);
    }

    #[test]
    fn a_log_that_fails_is_enough_to_freeze() {
        let (policy, mut score) = (Policy::default(), Score::default());
        score.appends_took(&policy, Duration::from_millis(300), at(0));
        assert_eq!(score.total(at(1)), 2);
        score.append_failed(at(1));
        assert!(score.total(at(2)) >= policy.score_brake);
    }

    #[test]
    fn the_parts_add_up_to_eight_at_most() {
        let parts = Parts { engine: 1, loop_lag: 1, log: 2, beats: 1, paused: false };
        assert_eq!(parts.total(), 5);
        assert_eq!(Parts { engine: 8, ..parts }.total(), MAX);
        assert_eq!(Parts { paused: true, ..Parts::default() }.total(), MAX);
    }

    #[test]
    fn trouble_of_our_own_is_forgotten_after_its_time() {
        let mut score = Score::default();
        score.beat_refused(at(0));
        assert_eq!([0, 29, 30, 31].map(|now| score.parts(at(now)).beats), [1, 1, 0, 0]);
        score.append_failed(at(0));
        assert_eq!([0, 29, 30, 31].map(|now| score.parts(at(now)).log), [4, 4, 0, 0]);
        score.late_by(&Policy::default(), Duration::from_secs(3), at(0));
        assert_eq!([0, 14, 15, 16].map(|now| score.parts(at(now)).loop_lag), [3, 3, 0, 0]);
    }

    #[test]
    fn the_worst_of_the_recent_lags_counts() {
        let (policy, mut score) = (Policy::default(), Score::default());
        for (second, lag) in [(0, 4), (1, 2), (2, 1)] {
            score.late_by(&policy, Duration::from_secs(lag), at(second));
        }
        assert_eq!(score.parts(at(3)).loop_lag, 4);
        assert_eq!(score.parts(at(15)).loop_lag, 2);
    }

    #[test]
    fn a_lag_of_five_seconds_is_a_lag_and_a_longer_one_a_pause() {
        let (policy, mut score) = (Policy::default(), Score::default());
        score.late_by(&policy, Duration::from_secs(5), at(0));
        assert_eq!((score.parts(at(0)).loop_lag, score.last_pause()), (5, None));
        let longer = Duration::from_millis(5_001);
        score.late_by(&policy, longer, at(20));
        assert_eq!((score.parts(at(20)).paused, score.last_pause()), (true, Some(longer)));
        assert!(!score.parts(at(25)).paused);
        assert_eq!(score.last_pause(), Some(longer), "how long it was is told afterwards too");
    }

    #[test]
    fn appends_are_slow_above_a_quarter_of_a_second_and_well_again_below() {
        let (policy, mut score) = (Policy::default(), Score::default());
        let mut after = |ms| {
            score.appends_took(&policy, Duration::from_millis(ms), at(0));
            score.parts(at(0)).log
        };
        assert_eq!([251, 250, 251, 3].map(&mut after), [2, 0, 2, 0]);
    }

    proptest! {
        #[test]
        fn it_never_leaves_its_scale(steps in prop::collection::vec((0_u8..5, 0_u64..20), 0..200)) {
            let (policy, mut score) = (Policy::default(), Score::default());
            let mut now = 0;
            for (what, size) in steps {
                now += i64::try_from(size).unwrap();
                match what {
                    0 => score.called(true),
                    1 => score.called(false),
                    2 => score.late_by(&policy, Duration::from_secs(size), at(now)),
                    3 => score.append_failed(at(now)),
                    _ => score.beat_refused(at(now)),
                }
                prop_assert!(score.total(at(now)) <= MAX);
            }
        }
    }
}
