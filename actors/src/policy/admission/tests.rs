//! The rules in their order, each at its border, and what holds for any inputs.

use covalence_events::HoldId;
use covalence_events::fleet::BrakeMode;
use covalence_events::workspace::BackendKind;
use proptest::prelude::*;

use super::*;

fn at(seconds: i64) -> Timestamp {
    chrono::DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

/// The first restart of a quiet fleet.
fn quiet() -> AdmissionInputs {
    AdmissionInputs::quiet(BackendKind::Docker, at(0))
}

fn held() -> AdmissionInputs {
    AdmissionInputs { hold: Some(HoldId(uuid::Uuid::from_u128(1))), hold_until: Some(at(60)), ..quiet() }
}

fn judged(cause: RestartCause, inputs: &AdmissionInputs) -> Admission {
    admit(&Policy::default(), cause, inputs)
}

fn rule(cause: RestartCause, inputs: &AdmissionInputs) -> &'static str {
    match judged(cause, inputs) {
        Admission::Admitted { .. } => "admitted",
        Admission::Deferred { rule, .. } | Admission::Suppressed { rule, .. } => rule,
    }
}

#[test]
fn the_first_restart_of_a_quiet_fleet_is_immediate() {
    assert_eq!(judged(RestartCause::Death, &quiet()), Admission::Admitted { cost: 1.0, overridden: vec![] });
    assert_eq!(judged(RestartCause::Hung, &quiet()), Admission::Admitted { cost: 2.0, overridden: vec![] });
}

#[test]
fn each_rule_holds_a_death_back_at_its_border() {
    let table: [(&str, AdmissionInputs); 11] = [
        (EMERGENCY_STOP, AdmissionInputs { emergency: true, ..held() }),
        (HOLD, held()),
        (ANCESTOR_PAUSED, AdmissionInputs { ancestor_paused: true, ..quiet() }),
        (ADVISE_ONLY, AdmissionInputs { advise_only: true, ..quiet() }),
        (INTENSITY, AdmissionInputs { recent: 5, ..quiet() }),
        (BACKOFF, AdmissionInputs { recent: 1, in_a_row: 1, ..quiet() }),
        (BRAKE, AdmissionInputs { brake: Some(BrakeMode::Canary), brake_lets_one: false, ..quiet() }),
        (ORDER, AdmissionInputs { after_ancestor: true, ..quiet() }),
        (TOKENS, AdmissionInputs { tokens: 0.99, ..quiet() }),
        (IN_FLIGHT, AdmissionInputs { in_flight: 2, ..quiet() }),
        (IN_FLIGHT, AdmissionInputs { in_flight_all: 20, ..quiet() }),
    ];
    for (expected, inputs) in table {
        assert_eq!(rule(RestartCause::Death, &inputs), expected);
    }
    for inputs in [
        AdmissionInputs { recent: 4, in_a_row: 4, waited: true, ..quiet() },
        AdmissionInputs { brake: Some(BrakeMode::Canary), ..quiet() },
        AdmissionInputs { tokens: 1.0, ..quiet() },
        AdmissionInputs { in_flight: 1, in_flight_all: 19, ..quiet() },
        AdmissionInputs { in_grace: true, ..quiet() },
    ] {
        assert_eq!(rule(RestartCause::Death, &inputs), "admitted");
    }
}

#[test]
fn silence_waits_for_the_end_of_the_grace_and_for_twice_the_tokens() {
    assert_eq!(rule(RestartCause::Hung, &AdmissionInputs { in_grace: true, ..quiet() }), GRACE);
    assert_eq!(rule(RestartCause::Hung, &AdmissionInputs { tokens: 1.99, ..quiet() }), TOKENS);
}

#[test]
fn tokens_say_when_there_will_be_enough() {
    let Admission::Deferred { rule: TOKENS, until: Some(until) } =
        judged(RestartCause::Death, &AdmissionInputs { tokens: 0.5, ..quiet() })
    else {
        panic!("not deferred by tokens");
    };
    assert!((5_000..5_010).contains(&(until - at(0)).num_milliseconds()), "{until}");
}

#[test]
fn a_person_passes_over_the_brake_and_is_refused_by_a_hold() {
    let braked =
        AdmissionInputs { brake: Some(BrakeMode::Freeze), tokens: 0.0, recent: 9, in_a_row: 9, ..quiet() };
    assert_eq!(
        judged(RestartCause::Operator, &braked),
        Admission::Admitted { cost: 0.0, overridden: vec![BRAKE] }
    );
    assert_eq!(
        judged(RestartCause::Operator, &held()),
        Admission::Suppressed { rule: HOLD, until: Some(at(60)) }
    );
    assert_eq!(rule(RestartCause::Operator, &AdmissionInputs { in_flight: 2, ..quiet() }), IN_FLIGHT);
}

#[test]
fn force_passes_over_a_hold_and_not_over_an_emergency_stop() {
    let forced = AdmissionInputs { forced: true, ..held() };
    assert_eq!(
        judged(RestartCause::Operator, &forced),
        Admission::Admitted { cost: 0.0, overridden: vec![HOLD] }
    );
    let stopped = AdmissionInputs { emergency: true, hold_until: None, ..forced };
    assert_eq!(
        judged(RestartCause::Operator, &stopped),
        Admission::Suppressed { rule: EMERGENCY_STOP, until: None }
    );
}

#[test]
fn a_changed_configuration_waits_for_the_brake_and_not_for_the_crash_loop() {
    let looping = AdmissionInputs { recent: 9, in_a_row: 9, ..quiet() };
    assert_eq!(rule(RestartCause::Configuration, &looping), "admitted");
    let braked = AdmissionInputs { brake: Some(BrakeMode::Freeze), brake_lets_one: false, ..quiet() };
    assert_eq!(rule(RestartCause::Configuration, &braked), BRAKE);
}

#[test]
fn a_try_out_of_quarantine_passes_intensity_and_backoff_only() {
    let tried = AdmissionInputs { half_open: Some(1), recent: 5, in_a_row: 5, ..quiet() };
    assert_eq!(rule(RestartCause::Death, &tried), "admitted");
    let braked = AdmissionInputs { brake: Some(BrakeMode::Freeze), brake_lets_one: false, ..tried };
    assert_eq!(rule(RestartCause::Death, &braked), BRAKE);
}

/// What a person holds, and what has died too often, is not looked at again by itself.
#[test]
fn only_what_a_person_can_end_waits_for_a_person() {
    let waits: Vec<_> = RULES.iter().copied().filter_map(waits_for_a_person).collect();
    assert_eq!(waits, [EMERGENCY_STOP, HOLD, ANCESTOR_PAUSED, ADVISE_ONLY, INTENSITY]);
    assert_eq!(waits_for_a_person("no such rule"), None);
}

#[test]
fn advice_holds_back_everybody_but_a_person() {
    let advised = AdmissionInputs { advise_only: true, ..quiet() };
    for cause in [RestartCause::Hung, RestartCause::Configuration, RestartCause::Session, RestartCause::Team]
    {
        assert_eq!(judged(cause, &advised), Admission::Deferred { rule: ADVISE_ONLY, until: None });
    }
    assert_eq!(rule(RestartCause::Operator, &advised), "admitted");
}

#[test]
fn what_is_below_a_paused_workspace_starts_by_force_only() {
    let below = AdmissionInputs { ancestor_paused: true, ..quiet() };
    assert_eq!(
        judged(RestartCause::Operator, &below),
        Admission::Suppressed { rule: ANCESTOR_PAUSED, until: None }
    );
    let forced = AdmissionInputs { forced: true, ..below };
    assert_eq!(
        judged(RestartCause::Operator, &forced),
        Admission::Admitted { cost: 0.0, overridden: vec![ANCESTOR_PAUSED] }
    );
}

#[test]
fn a_persons_restart_does_not_wait_for_its_ancestors_turn() {
    let below = AdmissionInputs { after_ancestor: true, ..quiet() };
    assert_eq!(rule(RestartCause::Operator, &below), "admitted");
    assert_eq!(rule(RestartCause::Team, &below), ORDER);
}

#[test]
fn only_a_death_pays_for_what_died() {
    let policy = Policy::default();
    let costs = [
        RestartCause::Death,
        RestartCause::Hung,
        RestartCause::Configuration,
        RestartCause::Session,
        RestartCause::Team,
        RestartCause::Operator,
        RestartCause::Shutdown,
    ]
    .map(|cause| cost(&policy, cause));
    assert!(costs.into_iter().eq([1.0, 2.0, 1.0, 1.0, 1.0, 0.0, 0.0]), "{costs:?}");
}

#[test]
fn a_crash_loop_is_quarantined_for_a_quarter_of_an_hour_from_now() {
    let looping = AdmissionInputs { recent: 5, now: at(100), ..quiet() };
    assert_eq!(
        judged(RestartCause::Death, &looping),
        Admission::Suppressed { rule: INTENSITY, until: Some(at(1_000)) }
    );
}

#[test]
fn backoff_runs_from_the_request_and_ends_with_its_last_moment() {
    let again = AdmissionInputs { recent: 2, in_a_row: 2, ..quiet() };
    let asked = |seconds| judged(RestartCause::Death, &AdmissionInputs { now: at(seconds), ..again.clone() });
    assert_eq!(asked(0), Admission::Deferred { rule: BACKOFF, until: Some(at(10)) });
    assert_eq!(asked(9), Admission::Deferred { rule: BACKOFF, until: Some(at(10)) });
    assert!(matches!(asked(10), Admission::Admitted { .. }));
    assert!(matches!(asked(11), Admission::Admitted { .. }));
    let waited = AdmissionInputs { waited: true, ..again };
    assert_eq!(rule(RestartCause::Death, &waited), "admitted", "a new draw makes nobody wait twice");
}

#[test]
fn chance_shrinks_or_stretches_a_delay_by_a_fifth() {
    let delays = [0.0, 0.5, 1.0].map(|chance| backoff(&Policy::default(), 2, chance).as_secs());
    assert_eq!(delays, [8, 10, 12]);
}

#[test]
fn delays_double_to_the_cap() {
    let delays: Vec<_> = (0..9).map(|n| backoff(&Policy::default(), n, 0.5).as_secs()).collect();
    assert_eq!(delays, [0, 5, 10, 20, 40, 80, 160, 300, 300]);
}

fn causes() -> impl Strategy<Value = RestartCause> {
    prop::sample::select(vec![
        RestartCause::Death,
        RestartCause::Hung,
        RestartCause::Operator,
        RestartCause::Configuration,
        RestartCause::Session,
        RestartCause::Team,
    ])
}

fn any_inputs() -> impl Strategy<Value = AdmissionInputs> {
    let numbers = (0_u32..8, 0_u32..8, 0_u32..4, 0_u32..25, 0.0_f64..3.0, 0.0_f64..1.0, 0_i64..400);
    (numbers, any::<[bool; 10]>()).prop_map(
        |((in_a_row, recent, in_flight, all, tokens, chance, age), flags)| {
            let [braked, lets, in_grace, hold, emergency, ancestor, paused, advise, forced, waited] = flags;
            AdmissionInputs {
                in_a_row,
                recent,
                in_flight,
                in_flight_all: all,
                tokens,
                chance,
                now: at(age),
                brake: braked.then_some(BrakeMode::Freeze),
                brake_lets_one: !braked || lets,
                in_grace,
                hold: hold.then(|| HoldId(uuid::Uuid::from_u128(1))),
                hold_until: hold.then(|| at(60)),
                emergency,
                after_ancestor: ancestor,
                ancestor_paused: paused,
                advise_only: advise,
                forced,
                waited,
                ..quiet()
            }
        },
    )
}

proptest! {
    #[test]
    fn nothing_is_admitted_beyond_the_in_flight_limits(cause in causes(), inputs in any_inputs()) {
        if matches!(judged(cause, &inputs), Admission::Admitted { .. }) {
            prop_assert!(inputs.in_flight < inputs.in_flight_max);
            prop_assert!(inputs.in_flight_all < Policy::default().in_flight_ceiling);
        }
    }

    #[test]
    fn nothing_is_admitted_on_credit(cause in causes(), inputs in any_inputs()) {
        if let Admission::Admitted { cost, .. } = judged(cause, &inputs) {
            prop_assert!(cost <= inputs.tokens);
        }
    }

    #[test]
    fn nobody_passes_an_emergency_stop(cause in causes(), inputs in any_inputs()) {
        let stopped = AdmissionInputs { hold: Some(HoldId(uuid::Uuid::nil())), emergency: true, ..inputs };
        prop_assert_eq!(rule(cause, &stopped), EMERGENCY_STOP);
    }

    #[test]
    fn jitter_stays_within_its_share(in_a_row in 1_u32..40, chance in 0.0_f64..1.0) {
        let policy = Policy::default();
        let (plain, delay) = (backoff(&policy, in_a_row, 0.5), backoff(&policy, in_a_row, chance));
        prop_assert!(delay >= plain.mul_f64(0.799) && delay <= plain.mul_f64(1.201));
    }
}

#[test]
fn a_try_out_of_quarantine_that_dies_is_not_the_first_of_another_row() {
    let policy = Policy::default();
    let died_again = AdmissionInputs { quarantined: true, recent: 1, in_a_row: 1, ..quiet() };
    let refused = admit(&policy, RestartCause::Death, &died_again);
    assert!(matches!(refused, Admission::Suppressed { rule: INTENSITY, .. }), "{refused:?}");
    let tried = AdmissionInputs { half_open: Some(2), ..died_again };
    assert!(matches!(admit(&policy, RestartCause::Death, &tried), Admission::Admitted { .. }));
}
