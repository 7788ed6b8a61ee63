//! How many automatic restarts of a cell could begin at one moment, and what stops the next one.
//!
//! It judges imaginary deaths, one after the other, by the very rules that judge real ones, so the answer can't drift from
//! what would happen. Rules about one workspace (backoff, intensity, its ancestors) are left out: nothing is imagined about
//! who it is.

use covalence_events::fleet::AdmissionInputs;
use covalence_events::workspace::{BackendKind, RestartCause};
use covalence_events::{HoldId, Timestamp};

use super::Policy;
use super::admission::{self, Admission};
use super::brake::{self, Brake, Canary};
use super::bucket::Bucket;

/// What stands in the way, or does not, in a cell at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Surroundings {
    /// The cell.
    pub cell: BackendKind,
    /// Workspaces of it that should be running.
    pub size: u32,
    /// Restarts of it in flight.
    pub in_flight: u32,
    /// Restarts of all cells in flight.
    pub in_flight_all: u32,
    /// Its tokens.
    pub bucket: Bucket,
    /// Its brake, if one is engaged.
    pub brake: Option<Brake>,
    /// What became of the restart that the brake tries.
    pub canary: Canary,
    /// Whether the grace after our own start is on.
    pub in_grace: bool,
    /// The hold over everybody, if one is on, and when it ends by itself.
    pub hold: Option<(HoldId, Option<Timestamp>)>,
    /// Whether that hold is an emergency stop.
    pub emergency: bool,
    /// Whether decisions about everybody are only recorded.
    pub advise_only: bool,
}

/// What could begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headroom {
    /// How many restarts for this cause.
    pub restarts: u32,
    /// The rule that stops the next one.
    pub rule: &'static str,
    /// When that may change, if time alone changes it.
    pub until: Option<Timestamp>,
}

/// How many restarts for an automatic cause could begin at this moment.
pub fn headroom(policy: &Policy, cause: RestartCause, around: &Surroundings, now: Timestamp) -> Headroom {
    let (mut imagined, mut restarts) = (*around, 0);
    loop {
        let stopped = |rule, until| Headroom { restarts, rule, until };
        match admission::admit(policy, cause, &inputs(policy, cause, &imagined, now)) {
            Admission::Admitted { cost, .. } => {
                restarts += 1;
                imagined.bucket = imagined.bucket.take(policy, cost, now);
                imagined.in_flight = imagined.in_flight.saturating_add(1);
                imagined.in_flight_all = imagined.in_flight_all.saturating_add(1);
                if let Some(brake) = &mut imagined.brake {
                    brake.last_let = Some(now);
                    imagined.canary = Canary::Trying;
                }
            }
            // The in-flight limit ends the loop where nothing else does.
            Admission::Deferred { rule, until } | Admission::Suppressed { rule, until } => {
                return stopped(rule, until);
            }
        }
    }
}

fn inputs(policy: &Policy, cause: RestartCause, around: &Surroundings, now: Timestamp) -> AdmissionInputs {
    let brake = around.brake.as_ref();
    let lets = |brake| brake::lets(policy, brake, cause, around.canary, now);
    AdmissionInputs {
        cell: around.cell,
        requested_at: now,
        now,
        in_a_row: 0,
        recent: 0,
        in_flight: around.in_flight,
        in_flight_max: policy.in_flight_max(around.size),
        in_flight_all: around.in_flight_all,
        tokens: around.bucket.level(policy, now),
        brake: brake.map(|brake| brake.mode),
        brake_lets_one: brake.is_none_or(lets),
        in_grace: around.in_grace,
        hold: around.hold.map(|(hold, _)| hold),
        hold_until: around.hold.and_then(|(_, until)| until),
        emergency: around.emergency,
        after_ancestor: false,
        ancestor_paused: false,
        advise_only: around.advise_only,
        quarantined: false,
        half_open: None,
        forced: false,
        waited: true,
        chance: 0.5,
    }
}

#[cfg(test)]
mod tests {
    use covalence_events::fleet::{BrakeMode, BrakeTrigger};

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        chrono::DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn calm(size: u32) -> Surroundings {
        Surroundings {
            cell: BackendKind::Process,
            size,
            in_flight: 0,
            in_flight_all: 0,
            bucket: Bucket::full(&Policy::default(), at(0)),
            brake: None,
            canary: Canary::None,
            in_grace: false,
            hold: None,
            emergency: false,
            advise_only: false,
        }
    }

    fn braked(mode: BrakeMode, trigger: BrakeTrigger) -> Surroundings {
        let brake = Brake { mode, trigger, since: at(0), mode_since: at(0), last_let: None };
        Surroundings { brake: Some(brake), ..calm(100) }
    }

    fn deaths(around: &Surroundings) -> (u32, &'static str) {
        let found = headroom(&Policy::default(), RestartCause::Death, around, at(0));
        (found.restarts, found.rule)
    }

    fn hung(around: &Surroundings) -> (u32, &'static str) {
        let found = headroom(&Policy::default(), RestartCause::Hung, around, at(0));
        (found.restarts, found.rule)
    }

    #[test]
    fn a_small_cell_is_limited_by_what_is_in_flight_and_a_large_one_by_its_tokens() {
        assert_eq!(deaths(&calm(15)), (2, "in_flight"));
        assert_eq!(deaths(&Surroundings { in_flight: 1, in_flight_all: 1, ..calm(15) }), (1, "in_flight"));
        assert_eq!(deaths(&calm(100)), (3, "tokens"));
        assert_eq!(hung(&calm(100)), (1, "tokens"));
    }

    #[test]
    fn the_ceiling_over_all_cells_counts_too() {
        assert_eq!(deaths(&Surroundings { in_flight_all: 19, ..calm(100) }), (1, "in_flight"));
    }

    #[test]
    fn a_brake_lets_one_death_through_and_no_silence() {
        let freeze = braked(BrakeMode::Freeze, BrakeTrigger::Suspicion);
        assert_eq!((deaths(&freeze), hung(&freeze)), ((1, "brake"), (0, "brake")));
        let canary = braked(BrakeMode::Canary, BrakeTrigger::Deaths);
        assert_eq!(deaths(&canary), (1, "brake"));
        assert_eq!(deaths(&Surroundings { canary: Canary::Trying, ..canary }), (0, "brake"));
        assert_eq!(deaths(&braked(BrakeMode::Freeze, BrakeTrigger::CanaryFailed)), (0, "brake"));
        assert_eq!(deaths(&braked(BrakeMode::SlowStart, BrakeTrigger::Deaths)), (3, "tokens"));
    }

    #[test]
    fn people_come_first() {
        let hold = Some((HoldId(uuid::Uuid::nil()), Some(at(60))));
        let held =
            headroom(&Policy::default(), RestartCause::Death, &Surroundings { hold, ..calm(15) }, at(0));
        assert_eq!((held.restarts, held.rule, held.until), (0, "hold", Some(at(60))));
        assert_eq!(deaths(&Surroundings { hold, emergency: true, ..calm(15) }), (0, "emergency_stop"));
        assert_eq!(deaths(&Surroundings { advise_only: true, ..calm(15) }), (0, "advise_only"));
    }

    #[test]
    fn in_grace_silence_proves_nothing() {
        let grace = Surroundings { in_grace: true, ..calm(15) };
        assert_eq!((deaths(&grace).0, hung(&grace)), (2, (0, "grace")));
    }

    #[test]
    fn free_restarts_end_at_the_in_flight_limit() {
        let mut policy = Policy::default();
        policy.set("cost_death", "0").unwrap();
        let found = headroom(&policy, RestartCause::Death, &calm(1000), at(0));
        assert_eq!((found.restarts, found.rule), (20, "in_flight"));
    }

    #[test]
    fn an_empty_bucket_says_when_the_next_token_is_there() {
        let policy = Policy::default();
        let bucket = Bucket::full(&policy, at(0)).take(&policy, 3.0, at(0));
        let found = headroom(&policy, RestartCause::Death, &Surroundings { bucket, ..calm(15) }, at(0));
        assert_eq!((found.restarts, found.rule), (0, "tokens"));
        assert_eq!(found.until.map(|until| (until - at(0)).num_seconds()), Some(10));
    }
}
