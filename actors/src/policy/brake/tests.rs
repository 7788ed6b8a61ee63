//! The brake's triggers at their exact borders, its modes, and its release.

use proptest::prelude::*;

use super::*;

fn at(seconds: i64) -> Timestamp {
    chrono::DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn of(size: u32) -> BrakeReading {
    BrakeReading { size, calm_ms: 60_000, ..BrakeReading::default() }
}

fn engaged(mode: BrakeMode, trigger: BrakeTrigger) -> Brake {
    Brake { mode, trigger, since: at(0), mode_since: at(0), last_let: None }
}

fn mode(change: Option<Change>) -> Option<(BrakeMode, BrakeTrigger)> {
    match change? {
        Change::Engage { mode, trigger, .. } => Some((mode, trigger)),
        Change::Release => None,
    }
}

fn first(reading: &BrakeReading) -> Option<(BrakeMode, BrakeTrigger)> {
    mode(judge(&Policy::default(), None, reading, Canary::None, at(0)))
}

#[test]
fn a_hundred_freeze_at_twenty_suspects_and_not_at_nineteen() {
    assert_eq!(first(&BrakeReading { suspects: 19, suspects_recent: 19, ..of(100) }), None);
    let twenty = BrakeReading { suspects: 20, suspects_recent: 20, ..of(100) };
    assert_eq!(first(&twenty), Some((BrakeMode::Freeze, BrakeTrigger::Suspicion)));
}

#[test]
fn fewer_than_three_suspects_never_freeze() {
    for size in 1..=2 {
        assert_eq!(first(&BrakeReading { suspects: size, suspects_recent: size, ..of(size) }), None);
    }
    let three = BrakeReading { suspects: 3, suspects_recent: 0, ..of(3) };
    assert_eq!(first(&three), Some((BrakeMode::Freeze, BrakeTrigger::Everybody)));
}

#[test]
fn an_unwell_observer_freezes() {
    assert_eq!(first(&BrakeReading { observer_score: 3, ..of(15) }), None);
    for reading in
        [BrakeReading { observer_score: 4, ..of(15) }, BrakeReading { circuit_open: true, ..of(15) }]
    {
        assert_eq!(first(&reading), Some((BrakeMode::Freeze, BrakeTrigger::Observer)));
    }
}

#[test]
fn six_of_fifteen_deaths_are_started_by_canary_and_three_are_not() {
    assert_eq!(first(&BrakeReading { deaths_recent: 3, ..of(15) }), None);
    let six = BrakeReading { deaths_recent: 6, ..of(15) };
    assert_eq!(first(&six), Some((BrakeMode::Canary, BrakeTrigger::Deaths)));
}

#[test]
fn in_grace_more_than_a_fifth_is_enough() {
    assert_eq!(first(&BrakeReading { deaths_recent: 3, in_grace: true, ..of(15) }), None);
    let four = BrakeReading { deaths_recent: 4, in_grace: true, ..of(15) };
    assert_eq!(first(&four), Some((BrakeMode::Canary, BrakeTrigger::Grace)));
}

#[test]
fn canary_wins_over_freeze_for_proven_deaths() {
    let both = BrakeReading { deaths_recent: 15, circuit_open: true, observer_score: 8, ..of(15) };
    assert_eq!(first(&both), Some((BrakeMode::Canary, BrakeTrigger::Deaths)));
    let frozen = engaged(BrakeMode::Freeze, BrakeTrigger::Observer);
    let change = judge(&Policy::default(), Some(&frozen), &both, Canary::None, at(5));
    assert_eq!(mode(change), Some((BrakeMode::Canary, BrakeTrigger::Deaths)));
}

#[test]
fn a_canary_decides_what_follows() {
    let policy = Policy::default();
    let brake = engaged(BrakeMode::Canary, BrakeTrigger::Deaths);
    let reading = BrakeReading { deaths_recent: 0, ..of(15) };
    let after = |canary| judge(&policy, Some(&brake), &reading, canary, at(5));
    assert_eq!(after(Canary::Trying), None);
    assert_eq!(mode(after(Canary::Proved)), Some((BrakeMode::SlowStart, BrakeTrigger::Deaths)));
    assert_eq!(mode(after(Canary::Failed)), Some((BrakeMode::Freeze, BrakeTrigger::CanaryFailed)));
}

#[test]
fn after_a_canary_that_failed_the_next_is_tried_in_five_minutes() {
    let policy = Policy::default();
    let brake = engaged(BrakeMode::Freeze, BrakeTrigger::CanaryFailed);
    let reading = BrakeReading { deaths_recent: 6, calm_ms: 0, ..of(15) };
    assert!(!lets(&policy, &brake, RestartCause::Death, Canary::None, at(100)));
    assert_eq!(judge(&policy, Some(&brake), &reading, Canary::None, at(299)), None);
    let change = judge(&policy, Some(&brake), &reading, Canary::None, at(300));
    assert_eq!(mode(change), Some((BrakeMode::Canary, BrakeTrigger::Deaths)));
}

#[test]
fn it_is_released_after_thirty_calm_seconds_with_few_suspects() {
    let policy = Policy::default();
    let brake = engaged(BrakeMode::Freeze, BrakeTrigger::Observer);
    let judged = |reading: BrakeReading| judge(&policy, Some(&brake), &reading, Canary::None, at(60));
    assert_eq!(judged(BrakeReading { calm_ms: 29_999, ..of(15) }), None);
    assert_eq!(judged(BrakeReading { suspects: 3, calm_ms: 30_000, ..of(15) }), None);
    assert_eq!(judged(BrakeReading { suspects: 2, calm_ms: 30_000, ..of(15) }), Some(Change::Release));
    assert_eq!(judged(BrakeReading { suspects: 11, calm_ms: 30_000, ..of(100) }), None);
    assert_eq!(judged(BrakeReading { suspects: 10, calm_ms: 30_000, ..of(100) }), Some(Change::Release));
}

#[test]
fn a_freeze_lets_one_proven_death_through_a_minute() {
    let policy = Policy::default();
    let mut brake = engaged(BrakeMode::Freeze, BrakeTrigger::Observer);
    assert!(lets(&policy, &brake, RestartCause::Death, Canary::None, at(0)));
    brake.last_let = Some(at(0));
    assert!(!lets(&policy, &brake, RestartCause::Death, Canary::None, at(59)));
    assert!(lets(&policy, &brake, RestartCause::Death, Canary::None, at(60)));
}

fn readings() -> impl Strategy<Value = BrakeReading> {
    (0_u32..200, 0_u32..200, 0_u32..200, 0_u32..200, 0_u32..9, any::<(bool, bool)>(), 0_u64..120_000)
        .prop_map(|(size, suspects, recent, deaths, observer_score, (circuit_open, in_grace), calm_ms)| {
            BrakeReading {
                size,
                suspects: suspects.min(size),
                suspects_recent: recent.min(suspects).min(size),
                deaths_recent: deaths.min(size),
                observer_score,
                circuit_open,
                in_grace,
                calm_ms,
            }
        })
}

proptest! {
    #[test]
    fn what_engages_a_brake_never_releases_it(reading in readings()) {
        let policy = Policy::default();
        let engages = matches!(judge(&policy, None, &reading, Canary::None, at(0)), Some(Change::Engage { .. }));
        prop_assert!(!(engages && is_calm(&policy, &reading)));
    }

    #[test]
    fn nobody_counts_as_hung_under_a_brake(
        mode in prop::sample::select(vec![BrakeMode::Freeze, BrakeMode::Canary, BrakeMode::SlowStart]),
        seconds in 0_i64..10_000,
    ) {
        let brake = engaged(mode, BrakeTrigger::Observer);
        prop_assert!(!lets(&Policy::default(), &brake, RestartCause::Hung, Canary::None, at(seconds)));
        prop_assert!(lets(&Policy::default(), &brake, RestartCause::Operator, Canary::Trying, at(seconds)));
    }

    #[test]
    fn more_suspects_never_release(reading in readings(), more in 0_u32..50) {
        let policy = Policy::default();
        let calm = is_calm(&policy, &reading);
        let worse = BrakeReading { suspects: (reading.suspects + more).min(reading.size), ..reading };
        prop_assert!(calm || !is_calm(&policy, &worse));
    }
}
