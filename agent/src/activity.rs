//! What runs at the moment, and how calls ended lately. Feeds the heartbeat; nothing else depends on it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::text;

/// Outcomes older than this no longer count: after five quiet minutes a workspace is not "failing" any more.
pub const OUTCOME_AGE_MAX: Duration = Duration::from_mins(5);
/// Outcomes kept at most; under heavy load the window is shorter than its five minutes.
pub const OUTCOMES_MAX: usize = 256;
/// The task shown on a board is a glimpse, not the prompt.
pub const TASK_BYTES_MAX: usize = 120;
/// Enough for the last lines of a stack trace.
pub const SAMPLE_BYTES_MAX: usize = 1024;

/// Counters shared between the server and the heartbeat.
#[derive(Debug)]
pub struct Activity {
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next_call: u64,
    running: BTreeMap<u64, String>,
    outcomes: VecDeque<Outcome>,
}

#[derive(Debug)]
struct Outcome {
    at: Instant,
    error: Option<String>,
}

/// What a heartbeat says about the agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Whole seconds since the agent started.
    pub uptime_seconds: u64,
    /// Calls that run.
    pub active_tasks: usize,
    /// Beginning of the call that began last, empty if none runs.
    pub current_task: String,
    /// Failed calls in the window over all calls in it; 0 if there were none.
    pub error_rate: f64,
    /// Text of the latest failure in the window, empty if there was none.
    pub sample_error: String,
}

impl Activity {
    /// Starts counting; uptime begins here.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { started: Instant::now(), state: Mutex::default() })
    }

    /// Notes that a call began. It counts as running until the returned value is finished or dropped.
    pub fn begin(self: &Arc<Self>, prompt: &str) -> Running {
        let glimpse = text::head(prompt.lines().next().unwrap_or_default(), TASK_BYTES_MAX).to_owned();
        let mut state = self.state();
        let call = state.next_call;
        state.next_call += 1;
        state.running.insert(call, glimpse);
        drop(state);
        Running { activity: Arc::clone(self), call }
    }

    /// The counters at `now`.
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let mut state = self.state();
        state.forget_before(now);
        let failed: Vec<&String> =
            state.outcomes.iter().filter_map(|outcome| outcome.error.as_ref()).collect();
        Snapshot {
            uptime_seconds: now.saturating_duration_since(self.started).as_secs(),
            active_tasks: state.running.len(),
            current_task: state.running.last_key_value().map(|(_, task)| task.clone()).unwrap_or_default(),
            error_rate: ratio(failed.len(), state.outcomes.len()),
            sample_error: failed.last().map(|error| (*error).clone()).unwrap_or_default(),
        }
    }

    // A panic while the lock was held leaves plain counters behind; they stay usable.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget_before(&mut self, now: Instant) {
        while self.outcomes.len() > OUTCOMES_MAX
            || self.outcomes.front().is_some_and(|outcome| now.duration_since(outcome.at) > OUTCOME_AGE_MAX)
        {
            self.outcomes.pop_front();
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "both are at most OUTCOMES_MAX")]
fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// A call that runs. Dropping it ends the call without an outcome: a call that was refused or cut off by our own
/// stop says nothing about the health of the runtime.
#[derive(Debug)]
pub struct Running {
    activity: Arc<Activity>,
    call: u64,
}

impl Running {
    /// Records how the call ended: `None` for an answer, else the error's text.
    pub fn finish(self, error: Option<&str>) {
        let now = Instant::now();
        let error = error.map(|error| text::head(error, SAMPLE_BYTES_MAX).to_owned());
        let mut state = self.activity.state();
        state.outcomes.push_back(Outcome { at: now, error });
        state.forget_before(now);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.activity.state().running.remove(&self.call);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_call_is_counted_until_it_ends() {
        let activity = Activity::new();
        let first = activity.begin("first\nsecond line");
        let second = activity.begin("second");
        let seen = activity.snapshot(Instant::now());
        assert_eq!((seen.active_tasks, seen.current_task.as_str()), (2, "second"));
        second.finish(None);
        assert_eq!(activity.snapshot(Instant::now()).current_task, "first");
        drop(first);
        let seen = activity.snapshot(Instant::now());
        assert_eq!((seen.active_tasks, seen.current_task.as_str()), (0, ""));
    }

    #[test]
    fn the_error_rate_covers_the_last_five_minutes_only() {
        let activity = Activity::new();
        activity.begin("a").finish(None);
        activity.begin("b").finish(Some("first error"));
        activity.begin("c").finish(Some("latest error"));
        activity.begin("d").finish(None);
        let seen = activity.snapshot(Instant::now());
        assert!((seen.error_rate - 0.5).abs() < f64::EPSILON);
        assert_eq!(seen.sample_error, "latest error");

        let later = activity.snapshot(Instant::now() + OUTCOME_AGE_MAX + Duration::from_secs(1));
        assert!(later.error_rate.abs() < f64::EPSILON);
        assert_eq!(later.sample_error, "");
    }

    #[test]
    fn the_window_is_bounded() {
        let activity = Activity::new();
        for _ in 0..OUTCOMES_MAX {
            activity.begin("a").finish(Some("e"));
        }
        for _ in 0..OUTCOMES_MAX {
            activity.begin("a").finish(None);
        }
        assert!(activity.snapshot(Instant::now()).error_rate.abs() < f64::EPSILON);
    }
}
