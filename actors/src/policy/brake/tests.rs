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

#[test]
fn what_engages_a_brake_says_how_many_it_was_and_how_many_it_takes() {
    let numbers = |reading: &BrakeReading| match judge(&Policy::default(), None, reading, Canary::None, at(0))
    {
        Some(Change::Engage { trigger, count, threshold, .. }) => Some((trigger, count, threshold)),
        Some(Change::Release) | None => None,
    };
    let table = [
        (BrakeReading { suspects: 25, suspects_recent: 22, ..of(100) }, (BrakeTrigger::Suspicion, 22, 20)),
        (BrakeReading { suspects: 15, ..of(15) }, (BrakeTrigger::Everybody, 15, 15)),
        (BrakeReading { observer_score: 6, ..of(15) }, (BrakeTrigger::Observer, 6, 4)),
        (BrakeReading { deaths_recent: 7, ..of(15) }, (BrakeTrigger::Deaths, 7, 6)),
        (BrakeReading { deaths_recent: 5, in_grace: true, ..of(15) }, (BrakeTrigger::Grace, 5, 4)),
    ];
    for (reading, expected) in table {
        assert_eq!(numbers(&reading), Some(expected));
    }
}

#[test]
fn the_borders_follow_the_size_of_the_cell_and_never_fall_below_their_least() {
    let policy = Policy::default();
    let borders = |size| {
        let deaths = deaths_threshold(&policy, &of(size));
        let in_grace = deaths_threshold(&policy, &BrakeReading { in_grace: true, ..of(size) });
        (suspects_threshold(&policy, size), release_threshold(&policy, size), deaths, in_grace)
    };
    let table = [
        (1, (3, 2, 4, 2)),
        (4, (3, 2, 4, 2)),
        (15, (3, 2, 6, 4)),
        (16, (4, 2, 6, 4)),
        (30, (6, 3, 11, 7)),
        (100, (20, 10, 34, 21)),
    ];
    for (size, expected) in table {
        assert_eq!(borders(size), expected, "of {size}");
    }
}

#[test]
fn everybody_is_everybody_of_three_at_least() {
    let silent = |suspects, size| first(&BrakeReading { suspects, suspects_recent: 0, ..of(size) });
    assert_eq!(silent(14, 15), None, "one of them gives a sign of life");
    assert_eq!(silent(15, 15), Some((BrakeMode::Freeze, BrakeTrigger::Everybody)));
    assert_eq!(silent(0, 0), None, "nobody is there to be silent");
}

/// Each of what speaks for a brake keeps it on, at its exact border.
#[test]
fn calm_is_that_nothing_speaks_for_a_brake() {
    let calm = |reading: BrakeReading| is_calm(&Policy::default(), &reading);
    assert!(calm(of(15)));
    assert!(calm(BrakeReading { deaths_recent: 5, observer_score: 3, suspects: 2, ..of(15) }));
    assert!(!calm(BrakeReading { deaths_recent: 6, ..of(15) }));
    assert!(!calm(BrakeReading { deaths_recent: 7, ..of(15) }));
    assert!(!calm(BrakeReading { observer_score: 4, ..of(15) }));
    assert!(!calm(BrakeReading { circuit_open: true, ..of(15) }));
    assert!(!calm(BrakeReading { suspects: 3, ..of(15) }));
}

/// From not being heard of for `start_budget`; from neither proving itself nor dying for two of them and the probation.
#[test]
fn a_canary_fails_in_a_minute_of_silence_and_is_forgotten_when_it_proves_nothing() {
    let policy = Policy::default();
    let by = |settled, seconds: i64| Canary::Trying.by(&policy, settled, at(100), at(100 + seconds));
    let table = [
        (false, 0, Canary::Trying),
        (false, 59, Canary::Trying),
        (false, 60, Canary::Failed),
        (false, 200, Canary::Failed),
        (true, 60, Canary::Trying),
        (true, 139, Canary::Trying),
        (true, 140, Canary::None),
        (true, 200, Canary::None),
    ];
    for (settled, seconds, expected) in table {
        assert_eq!(by(settled, seconds), expected, "settled: {settled}, after {seconds} s");
    }
    for ended in [Canary::None, Canary::Proved, Canary::Failed] {
        for settled in [false, true] {
            assert_eq!(ended.by(&policy, settled, at(0), at(10_000)), ended, "what is over stays as it is");
        }
    }
}

#[test]
fn a_canary_on_its_way_keeps_the_brake_and_one_that_never_came_does_not() {
    let policy = Policy::default();
    let brake = engaged(BrakeMode::Canary, BrakeTrigger::Deaths);
    let after = |canary| judge(&policy, Some(&brake), &of(15), canary, at(600));
    assert_eq!(after(Canary::Trying), None, "though all is calm");
    assert_eq!(after(Canary::None), Some(Change::Release));
    let noisy = BrakeReading { deaths_recent: 6, ..of(15) };
    assert_eq!(judge(&policy, Some(&brake), &noisy, Canary::None, at(600)), None);
}

#[test]
fn slow_start_ends_when_it_is_calm_and_not_before() {
    let policy = Policy::default();
    let brake = engaged(BrakeMode::SlowStart, BrakeTrigger::Deaths);
    let after = |reading: BrakeReading, canary| judge(&policy, Some(&brake), &reading, canary, at(600));
    for canary in [Canary::None, Canary::Trying, Canary::Proved, Canary::Failed] {
        assert_eq!(after(of(15), canary), Some(Change::Release), "{canary:?} is of the mode before");
    }
    assert_eq!(after(BrakeReading { deaths_recent: 9, ..of(15) }, Canary::None), None);
    assert_eq!(after(BrakeReading { calm_ms: 29_999, ..of(15) }, Canary::None), None);
}

#[test]
fn each_cause_passes_the_modes_that_it_may() {
    let modes = [BrakeMode::Freeze, BrakeMode::Canary, BrakeMode::SlowStart];
    let table = [
        (RestartCause::Operator, [true, true, true]),
        (RestartCause::Hung, [false, false, false]),
        (RestartCause::Death, [true, true, true]),
        (RestartCause::Configuration, [false, false, true]),
        (RestartCause::Session, [false, false, true]),
        (RestartCause::Team, [false, false, true]),
        (RestartCause::Shutdown, [false, false, true]),
    ];
    for (cause, expected) in table {
        let brake = |mode| engaged(mode, BrakeTrigger::Deaths);
        let passes = modes.map(|mode| lets(&Policy::default(), &brake(mode), cause, Canary::None, at(0)));
        assert_eq!(passes, expected, "{cause:?}");
    }
    let canary = engaged(BrakeMode::Canary, BrakeTrigger::Deaths);
    for sent in [Canary::Trying, Canary::Proved, Canary::Failed] {
        assert!(
            !lets(&Policy::default(), &canary, RestartCause::Death, sent, at(0)),
            "one at a time: {sent:?}"
        );
    }
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
