//! The machine's clocks as one port: where the wall clock stood when we started, and time since then on a clock that nobody
//! can set. Deadlines and silences are differences of such times, so that setting the wall clock moves none of them; it is
//! read again at the next start.

use std::time::Instant;

use chrono::Utc;
use covalence_actors::effect::{Clock, Moment, TimeLine};
use covalence_events::Timestamp;

/// See the module.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
    time: TimeLine,
}

impl SystemClock {
    /// A clock that never tells a time before `floor`: the last one in the log, so that facts stay in order though
    /// somebody set the clock back between two runs.
    pub fn starting_after(floor: Option<Timestamp>) -> Self {
        Self { started: Instant::now(), time: TimeLine::new(Utc::now(), floor) }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        self.time.at(self.started.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_tells_a_time_before_the_last_one_in_the_log() {
        let ahead = Utc::now() + chrono::TimeDelta::hours(1);
        let clock = SystemClock::starting_after(Some(ahead));
        assert!(clock.now().at.timestamp_micros() >= ahead.timestamp_micros());
    }

    #[test]
    fn both_of_its_hands_go_at_the_same_pace() {
        let clock = SystemClock::starting_after(None);
        let (first, second) = (clock.now(), clock.now());
        let passed = i64::try_from((second.mono_ns - first.mono_ns) / 1_000).unwrap();
        assert!(((second.at - first.at).num_microseconds().unwrap() - passed).abs() <= 1);
    }
}
