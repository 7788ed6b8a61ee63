//! The machine's clocks as one port: wall time that never runs backwards within a run, and time since our start.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use chrono::{DateTime, Utc};
use covalence_actors::effect::{Clock, Moment};
use covalence_events::Timestamp;

/// See the module.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
    /// Microseconds since the epoch; the latest that was ever told.
    latest: AtomicI64,
}

impl SystemClock {
    /// A clock that never tells a time before `floor`: the last one in the log, so that facts stay in order though
    /// somebody set the clock back between two runs.
    pub fn starting_after(floor: Option<Timestamp>) -> Self {
        let latest = floor.map_or(i64::MIN, |at| at.timestamp_micros());
        Self { started: Instant::now(), latest: AtomicI64::new(latest) }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        let wall = Utc::now().timestamp_micros();
        let latest = self.latest.fetch_max(wall, Ordering::Relaxed).max(wall);
        let mono_ns = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // Out of range only beyond the year 262000.
        Moment { at: DateTime::from_timestamp_micros(latest).unwrap_or(DateTime::<Utc>::MAX_UTC), mono_ns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_tells_a_time_before_the_last_one_in_the_log() {
        let ahead = Utc::now() + chrono::TimeDelta::hours(1);
        let clock = SystemClock::starting_after(Some(ahead));
        assert!(clock.now().at >= DateTime::from_timestamp_micros(ahead.timestamp_micros()).unwrap());
    }

    #[test]
    fn its_second_hand_goes_forward() {
        let clock = SystemClock::starting_after(None);
        let (first, second) = (clock.now(), clock.now());
        assert!(first.at <= second.at && first.mono_ns <= second.mono_ns);
    }
}
