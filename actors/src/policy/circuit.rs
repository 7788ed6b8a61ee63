//! When an engine is asked less: a circuit breaker over the calls of the last while.
//!
//! Open means: no calls but one probe at a time, at growing distances. It protects the engine from us, and it is one of the
//! signs on which restarts are frozen. It says nothing about what the engine runs.

use std::collections::VecDeque;
use std::time::Duration;

use covalence_events::Timestamp;
use covalence_events::fleet::CircuitState;

use super::Policy;

/// Calls that are remembered; under more than this in a window, the oldest are forgotten first.
const CALLS_MAX: usize = 512;
/// The usual 95th percentile is that of this long.
const USUAL: Duration = Duration::from_secs(600);
/// Calls that the usual time is taken from, evenly thinned.
const USUAL_MAX: usize = 256;
/// Fewer are no custom yet.
const USUAL_MIN: usize = 20;

/// The share of errors opened it.
pub const ERROR_RATE: &str = "error_rate";
/// Lists or pings failed in a row.
pub const PING: &str = "ping";
/// It answers far slower than usual.
pub const SLOW: &str = "slow";
/// A probe was sent, or answered.
pub const PROBE: &str = "probe";

#[derive(Clone, Copy, Debug, PartialEq)]
struct Call {
    at: Timestamp,
    failed: bool,
    took: Duration,
}

/// What a change was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// From here on.
    pub state: CircuitState,
    /// The rule's stable name.
    pub rule: &'static str,
    /// Calls in the window.
    pub calls: u32,
    /// Those that failed.
    pub failed: u32,
    /// The 95th percentile of their times.
    pub p95: Duration,
    /// When the next probe is due.
    pub probe_at: Option<Timestamp>,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Circuit {
    state: CircuitState,
    calls: VecDeque<Call>,
    usual: VecDeque<(Timestamp, Duration)>,
    pings_failed: u32,
    probes: u32,
    probe_at: Option<Timestamp>,
}

impl Circuit {
    /// What it lets through.
    pub fn state(&self) -> CircuitState {
        self.state
    }

    /// Whether a call may be made now. `true` from an open circuit is the one probe: it is half open from here on.
    pub fn lets(&mut self, now: Timestamp) -> bool {
        match self.state {
            CircuitState::Closed => true,
            CircuitState::HalfOpen => false,
            CircuitState::Open => {
                let due = self.probe_at.is_none_or(|at| at <= now);
                if due {
                    self.state = CircuitState::HalfOpen;
                }
                due
            }
        }
    }

    /// A call ended. `ping` is a call that only asks whether the engine is there: the list, or a ping.
    pub fn ended(
        &mut self,
        policy: &Policy,
        (ping, failed): (bool, bool),
        took: Duration,
        now: Timestamp,
    ) -> Option<Changed> {
        if self.calls.len() == CALLS_MAX {
            self.calls.pop_front();
        }
        self.calls.push_back(Call { at: now, failed, took });
        while self.calls.front().is_some_and(|call| call.at + policy.circuit_window <= now) {
            self.calls.pop_front();
        }
        if ping {
            self.pings_failed = if failed { self.pings_failed + 1 } else { 0 };
        }
        match self.state {
            CircuitState::HalfOpen if ping => Some(self.probed(policy, failed, now)),
            CircuitState::HalfOpen | CircuitState::Open => None,
            CircuitState::Closed => {
                let rule = self.reason(policy, now);
                if rule.is_none() && !failed {
                    self.learn(took, now);
                }
                rule.map(|rule| self.open(policy, rule, now))
            }
        }
    }

    fn reason(&self, policy: &Policy, now: Timestamp) -> Option<&'static str> {
        if self.pings_failed >= policy.circuit_pings {
            return Some(PING);
        }
        let (calls, failed) = self.count();
        if calls < policy.circuit_calls_min {
            return None;
        }
        if f64::from(failed) >= policy.circuit_error_share * f64::from(calls) {
            return Some(ERROR_RATE);
        }
        let usual: Vec<Duration> =
            self.usual.iter().filter(|(at, _)| *at + USUAL > now).map(|(_, took)| *took).collect();
        if usual.len() < USUAL_MIN {
            return None;
        }
        let (p95, usual) = (self.p95(), percentile(usual));
        (p95 > policy.circuit_slow && p95 > usual.mul_f64(policy.circuit_slow_factor)).then_some(SLOW)
    }

    fn open(&mut self, policy: &Policy, rule: &'static str, now: Timestamp) -> Changed {
        let pause =
            policy.circuit_probe_base.saturating_mul(1_u32.checked_shl(self.probes).unwrap_or(u32::MAX));
        self.probes += 1;
        self.state = CircuitState::Open;
        self.probe_at = Some(now + pause.min(policy.circuit_probe_cap));
        self.changed(rule)
    }

    fn probed(&mut self, policy: &Policy, failed: bool, now: Timestamp) -> Changed {
        if failed {
            return self.open(policy, PROBE, now);
        }
        let changed = Changed { state: CircuitState::Closed, probe_at: None, ..self.changed(PROBE) };
        *self = Self { usual: std::mem::take(&mut self.usual), ..Self::default() };
        changed
    }

    fn changed(&self, rule: &'static str) -> Changed {
        let (calls, failed) = self.count();
        Changed { state: self.state, rule, calls, failed, p95: self.p95(), probe_at: self.probe_at }
    }

    fn count(&self) -> (u32, u32) {
        let many = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        (many(self.calls.len()), many(self.calls.iter().filter(|call| call.failed).count()))
    }

    fn p95(&self) -> Duration {
        percentile(self.calls.iter().map(|call| call.took).collect())
    }

    fn learn(&mut self, took: Duration, now: Timestamp) {
        let apart = USUAL / u32::try_from(USUAL_MAX).unwrap_or(u32::MAX);
        if self.usual.back().is_none_or(|(at, _)| *at + apart <= now) {
            if self.usual.len() == USUAL_MAX {
                self.usual.pop_front();
            }
            self.usual.push_back((now, took));
        }
    }
}

/// The 95th percentile; nothing of nothing.
fn percentile(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let index = (times.len() * 95).div_ceil(100).saturating_sub(1);
    times.get(index).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        chrono::DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    const QUICK: Duration = Duration::from_millis(1);

    fn run(circuit: &mut Circuit, calls: impl IntoIterator<Item = (i64, bool)>) -> Option<Changed> {
        let policy = Policy::default();
        calls
            .into_iter()
            .filter_map(|(s, failed)| circuit.ended(&policy, (false, failed), QUICK, at(s)))
            .last()
    }

    #[test]
    fn a_third_of_ten_calls_opens_it() {
        let mut circuit = Circuit::default();
        assert_eq!(run(&mut circuit, (0..9).map(|n| (n, n % 3 == 0))), None);
        let changed = run(&mut circuit, [(9, true)]).unwrap();
        assert_eq!((changed.rule, changed.calls, changed.failed), (ERROR_RATE, 10, 4));
        assert_eq!(changed.probe_at, Some(at(14)));
    }

    #[test]
    fn a_few_errors_among_few_calls_do_not() {
        let mut circuit = Circuit::default();
        assert_eq!(run(&mut circuit, (0..5).map(|n| (n, true))), None);
        assert_eq!(circuit.state(), CircuitState::Closed);
    }

    #[test]
    fn errors_that_are_past_do_not_count() {
        let mut circuit = Circuit::default();
        assert_eq!(run(&mut circuit, (0..8).map(|n| (n, true))), None);
        assert_eq!(run(&mut circuit, (100..120).map(|n| (n, false))), None);
    }

    #[test]
    fn two_lists_that_fail_in_a_row_open_it() {
        let (policy, mut circuit) = (Policy::default(), Circuit::default());
        assert_eq!(circuit.ended(&policy, (true, true), QUICK, at(0)), None);
        assert_eq!(circuit.ended(&policy, (true, true), QUICK, at(5)).unwrap().rule, PING);
    }

    #[test]
    fn it_is_probed_at_growing_distances_and_closed_by_an_answer() {
        let (policy, mut circuit) = (Policy::default(), Circuit::default());
        circuit.ended(&policy, (true, true), QUICK, at(0));
        circuit.ended(&policy, (true, true), QUICK, at(5));
        let mut distances = Vec::new();
        let mut now = 5;
        for _ in 0..4 {
            let from = now;
            now = (from..from + 60).find(|now| circuit.lets(at(*now))).expect("a probe within a minute");
            assert!(!circuit.lets(at(now)), "one probe at a time");
            distances.push(now - from);
            circuit.ended(&policy, (true, true), QUICK, at(now));
        }
        assert_eq!(distances, [5, 10, 15, 15]);
        assert!(circuit.lets(at(now + 15)));
        let changed = circuit.ended(&policy, (true, false), QUICK, at(now + 15)).unwrap();
        assert_eq!(changed.state, CircuitState::Closed);
        assert!(circuit.lets(at(now + 15)));
    }

    #[test]
    fn an_engine_far_slower_than_usual_opens_it() {
        let (policy, mut circuit) = (Policy::default(), Circuit::default());
        for n in 0..200 {
            assert_eq!(circuit.ended(&policy, (true, false), QUICK, at(n * 3)), None);
        }
        let slow = Duration::from_millis(2_500);
        let changed = (600..700).find_map(|n| circuit.ended(&policy, (true, false), slow, at(n)));
        assert_eq!(changed.unwrap().rule, SLOW);
    }

    #[test]
    fn an_open_circuit_takes_only_the_answer_to_its_probe() {
        let (policy, mut circuit) = (Policy::default(), Circuit::default());
        circuit.ended(&policy, (true, true), QUICK, at(0));
        circuit.ended(&policy, (true, true), QUICK, at(5));
        assert_eq!(circuit.state(), CircuitState::Open);
        assert_eq!(circuit.ended(&policy, (true, false), QUICK, at(6)), None, "asked before it opened");
        assert!(!circuit.lets(at(9)) && circuit.lets(at(10)));
        assert_eq!(circuit.state(), CircuitState::HalfOpen);
        assert_eq!(circuit.ended(&policy, (false, false), QUICK, at(11)), None, "not the probe");
        assert_eq!(circuit.state(), CircuitState::HalfOpen);
        let closed = circuit.ended(&policy, (true, false), QUICK, at(12)).unwrap();
        assert_eq!((closed.state, closed.rule, closed.probe_at), (CircuitState::Closed, PROBE, None));
    }

    #[test]
    fn three_errors_of_ten_open_it_and_two_do_not() {
        assert_eq!(run(&mut Circuit::default(), (0..10).map(|n| (n, n < 2))), None);
        let opened = run(&mut Circuit::default(), (0..10).map(|n| (n, n < 3))).unwrap();
        assert_eq!((opened.rule, opened.calls, opened.failed), (ERROR_RATE, 10, 3));
    }

    /// What a slow answer leads to after so many usual ones, one each three seconds.
    fn slow_after(count: u8, usual: Duration, slow: Duration) -> Option<&'static str> {
        let (policy, mut circuit) = (Policy::default(), Circuit::default());
        for n in 0..count {
            assert_eq!(circuit.ended(&policy, (false, false), usual, at(i64::from(n) * 3)), None);
        }
        circuit.ended(&policy, (false, false), slow, at(i64::from(count) * 3)).map(|changed| changed.rule)
    }

    #[test]
    fn slow_is_above_two_seconds_and_above_five_times_the_usual() {
        let (ms, second) = (Duration::from_millis, Duration::from_secs(1));
        let table = [
            (QUICK, ms(1_000), None),
            (QUICK, ms(2_000), None),
            (QUICK, ms(2_001), Some(SLOW)),
            (second, ms(3_000), None),
            (second, ms(5_000), None),
            (second, ms(5_001), Some(SLOW)),
        ];
        for (usual, slow, expected) in table {
            assert_eq!(slow_after(30, usual, slow), expected, "{slow:?} after {usual:?}");
        }
    }

    #[test]
    fn nineteen_answers_are_no_custom_and_twenty_are() {
        assert_eq!(slow_after(19, QUICK, Duration::from_secs(3)), None);
        assert_eq!(slow_after(20, QUICK, Duration::from_secs(3)), Some(SLOW));
    }

    #[test]
    fn a_custom_of_more_than_ten_minutes_ago_is_forgotten() {
        let after = |pause: i64| {
            let (policy, mut circuit) = (Policy::default(), Circuit::default());
            for n in 0..20 {
                assert_eq!(circuit.ended(&policy, (false, false), QUICK, at(n * 3)), None);
            }
            // All at one moment: only the first of them is learned.
            let slow = Duration::from_secs(3);
            (0..10).find_map(|_| circuit.ended(&policy, (false, false), slow, at(pause)))
        };
        assert_eq!(after(599).map(|changed| changed.rule), Some(SLOW));
        // Two are forgotten by then, and one was learned.
        assert_eq!(after(603).map(|changed| changed.rule), None);
        assert_eq!(after(2_000), None);
    }

    #[test]
    fn what_failed_teaches_nothing_about_the_usual_time() {
        let (policy, mut circuit) = (Policy::default(), Circuit::default());
        for n in 0..60 {
            let (failed, took) = if n % 6 == 0 { (true, Duration::from_secs(3)) } else { (false, QUICK) };
            assert_eq!(circuit.ended(&policy, (false, failed), took, at(n * 5)), None);
        }
        let learned: Vec<_> = circuit.usual.iter().map(|(_, took)| *took).collect();
        assert_eq!(learned, [QUICK; 50]);
    }

    #[test]
    fn the_usual_time_is_taken_from_ten_minutes_evenly() {
        let mut circuit = Circuit::default();
        run(&mut circuit, (0..10).map(|_| (0, false)));
        assert_eq!(circuit.usual.len(), 1, "a burst counts once");
        run(&mut circuit, (1..=1_000).map(|second| (second, false)));
        assert_eq!(circuit.usual.len(), USUAL_MAX);
        let (first, last) = (circuit.usual.front().unwrap().0, circuit.usual.back().unwrap().0);
        assert!(last - first >= chrono::TimeDelta::seconds(600), "from {first} to {last}");
    }

    #[test]
    fn the_95th_percentile_is_the_value_that_95_of_100_do_not_exceed() {
        let of = |count: u64| percentile((1..=count).rev().map(Duration::from_secs).collect()).as_secs();
        assert_eq!([0, 1, 10, 19, 20, 21, 100].map(of), [0, 1, 10, 19, 19, 20, 95]);
    }
}
