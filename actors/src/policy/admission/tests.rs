//! Tables and properties over the admission of restarts.

use std::time::Duration;

use chrono::DateTime;
use covalence_events::Timestamp;
use covalence_events::workspace::RestartCause;
use proptest::prelude::*;

use super::{Admission, BACKOFF, IN_FLIGHT, INTENSITY, Request, admit, backoff};
use crate::policy::Policy;

fn moment(seconds: i64) -> Timestamp {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn request(cause: RestartCause) -> Request {
    Request {
        cause,
        requested_at: moment(0),
        now: moment(0),
        recent: 0,
        in_a_row: 0,
        in_flight: 0,
        in_flight_max: 2,
        chance: 0.5,
        waited: false,
    }
}

#[test]
fn the_first_restart_is_immediate_and_the_next_ones_wait_longer_and_longer() {
    let policy = Policy::default();
    let delays: Vec<u64> = (0..9).map(|recent| backoff(&policy, recent, 0.5).as_secs()).collect();
    assert_eq!(delays, [0, 5, 10, 20, 40, 80, 160, 300, 300]);
}

#[test]
fn jitter_moves_a_delay_by_at_most_a_fifth() {
    let policy = Policy::default();
    assert_eq!(backoff(&policy, 2, 0.0), Duration::from_secs(8));
    assert_eq!(backoff(&policy, 2, 1.0), Duration::from_secs(12));
}

#[test]
fn a_delay_runs_from_the_request_and_is_sat_out_once() {
    let policy = Policy::default();
    let soon = Request { in_a_row: 1, now: moment(4), ..request(RestartCause::Death) };
    assert_eq!(admit(&policy, &soon), Admission::Deferred { rule: BACKOFF, until: Some(moment(5)) });
    assert_eq!(admit(&policy, &Request { now: moment(5), ..soon }), Admission::Admitted);
    assert_eq!(admit(&policy, &Request { waited: true, ..soon }), Admission::Admitted);
}

#[test]
fn the_sixth_death_in_the_window_is_refused() {
    let policy = Policy::default();
    let fifth = Request { recent: 4, waited: true, ..request(RestartCause::Death) };
    assert_eq!(admit(&policy, &fifth), Admission::Admitted);
    assert_eq!(admit(&policy, &Request { recent: 5, ..fifth }), Admission::Suppressed { rule: INTENSITY });
}

/// A person's restart skips backoff and intensity but never the in-flight limit.
#[test]
fn a_person_passes_the_workspaces_own_limits_and_obeys_the_fleets() {
    let policy = Policy::default();
    for cause in [RestartCause::Operator, RestartCause::Configuration, RestartCause::Session] {
        let crashed = Request { recent: 9, ..request(cause) };
        assert_eq!(admit(&policy, &crashed), Admission::Admitted);
        let full = Request { in_flight: 2, ..crashed };
        assert_eq!(admit(&policy, &full), Admission::Deferred { rule: IN_FLIGHT, until: None });
    }
}

#[test]
fn two_restarts_may_be_in_flight_in_a_small_fleet_and_a_tenth_of_a_large_one() {
    let policy = Policy::default();
    let limits: Vec<u32> = [0, 1, 15, 29, 30, 200].map(|fleet| policy.in_flight_max(fleet)).into();
    assert_eq!(limits, [2, 2, 2, 2, 3, 20]);
}

proptest! {
    /// Nothing is admitted beyond the limits, whatever the numbers.
    #[test]
    fn nothing_is_admitted_beyond_a_limit(
        recent in 0_u32..20, in_flight in 0_u32..10, max in 0_u32..10, waited: bool, chance in 0.0_f64..1.0,
    ) {
        let policy = Policy::default();
        let cause = RestartCause::Death;
        let asked = Request { recent, in_a_row: recent, in_flight, in_flight_max: max, waited, chance, ..request(cause) };
        if admit(&policy, &asked) == Admission::Admitted {
            prop_assert!(recent < policy.intensity_max);
            prop_assert!(in_flight < max);
        }
    }

    /// A deferral for backoff always ends, and never later than the cap with its jitter.
    #[test]
    fn a_backoff_ends(recent in 0_u32..100, chance in 0.0_f64..=1.0) {
        let policy = Policy::default();
        let longest = policy.backoff_cap.mul_f64(1.0 + policy.backoff_jitter);
        prop_assert!(backoff(&policy, recent, chance) <= longest);
    }
}
