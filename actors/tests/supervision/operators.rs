//! What people hold back, release and force.

use covalence_actors::simulation::{Fault, Person, Setup, Whom, World};
use covalence_events::Principal;
use covalence_events::fleet::Event;
use covalence_events::workspace::RestartCause;

use super::{MINUTE, SECOND, T0, after, calm, nothing_wrong, since};

fn hold(lasts: u64) -> Fault {
    Fault::Person(Person::Hold { scope: Whom::All, lasts })
}

/// Scenario 31: three die under a hold.
#[test]
fn deaths_under_a_hold_are_recorded_and_restarted_after_its_release() {
    let mut world = calm();
    after(&mut world, 0, hold(30 * MINUTE));
    for whom in [1, 2, 3] {
        after(&mut world, 10 * SECOND, Fault::Exit { whom, status: 1 });
    }
    world.run(T0 + 5 * MINUTE);
    assert_eq!(since(&world.history().restarts()), [0_u64; 0]);
    let denied: Vec<_> = world.history().deferred().iter().map(|(_, e)| e.rule.clone()).collect();
    assert_eq!(denied, ["hold", "hold", "hold"]);
    after(&mut world, 5 * MINUTE, Fault::Person(Person::Release));
    world.run(T0 + 8 * MINUTE);
    nothing_wrong(&world);
    assert_eq!(world.history().restarts().len(), 3);
    assert!(world.is_healed(), "{}", world.ailing());
}

/// Scenario 31, of a team: who is below what is held waits, and nobody else does.
#[test]
fn a_hold_over_a_team_holds_its_members_and_nobody_else() {
    let mut world = World::new(7, Setup { teams: Some(5), ..Setup::default() });
    world.run(T0);
    let held = Person::Hold { scope: Whom::Below(5), lasts: 30 * MINUTE };
    after(&mut world, 0, Fault::Person(held));
    for whom in [2, 7] {
        after(&mut world, 10 * SECOND, Fault::Exit { whom, status: 1 });
    }
    world.run(T0 + 5 * MINUTE);
    nothing_wrong(&world);
    let restarts = [2, 7].map(|whom| world.history().restarts_of(whom).len());
    assert_eq!(restarts, [1, 0]);
    after(&mut world, 5 * MINUTE, Fault::Person(Person::Release));
    world.run(T0 + 8 * MINUTE);
    nothing_wrong(&world);
    assert!(world.is_healed(), "{}", world.ailing());
}

/// Scenario 32: a person restarts a workspace while the cell is frozen.
#[test]
fn a_person_restarts_under_a_freeze_at_no_cost_and_says_what_was_passed_over() {
    let mut world = calm();
    after(&mut world, 0, Fault::Starved { from: 5, many: 8, lasts: 6 * MINUTE });
    after(&mut world, 3 * MINUTE, Fault::Person(Person::Restart { whom: 0, forced: false }));
    world.run(T0 + 4 * MINUTE);
    let history = world.history();
    let person = history.admitted().into_iter().find(|(_, e)| e.cause == RestartCause::Operator);
    let (_, admitted) = person.expect("admitted");
    assert_eq!((admitted.cost, &admitted.overridden[..]), (Some(0.0), &["brake".to_owned()][..]));
    assert!(admitted.in_flight < admitted.in_flight_max);
    let request = history.all().find_map(|(_, _, event, recorded)| match event {
        covalence_events::workspace::Event::RestartRequested(e) if e.cause == RestartCause::Operator => {
            Some(&recorded.meta)
        }
        _ => None,
    });
    assert_eq!(request.map(|meta| &meta.principal), Some(&Principal::Admin));
    assert_eq!(history.restarts_of(0).len(), 1);
    nothing_wrong(&world);
}

/// Scenario 33: a hold ends by itself after four hours; what died meanwhile is started by canary.
#[test]
fn a_hold_that_expires_lets_the_dead_start_by_canary() {
    let mut world = calm();
    after(&mut world, 0, hold(240 * MINUTE));
    for whom in 0..6 {
        after(&mut world, 10 * MINUTE, Fault::Exit { whom, status: 1 });
    }
    world.run(T0 + 239 * MINUTE);
    assert_eq!(since(&world.history().restarts()), [0_u64; 0]);
    assert!(world.history().alarms().iter().any(|(_, kind)| kind.starts_with("hold_expiring")));
    world.run(T0 + 245 * MINUTE);
    nothing_wrong(&world);
    let expired = world.history().fleet().find_map(|(at, event, _)| match event {
        Event::HoldReleased(e) => Some((since(&[at])[0], e.reason.clone())),
        _ => None,
    });
    let (at, reason) = expired.expect("expired");
    assert!((240 * MINUTE..240 * MINUTE + 2 * SECOND).contains(&at) && reason == "expired", "{at} {reason}");
    let restarts = since(&world.history().restarts());
    assert_eq!(restarts.len(), 6);
    assert!(restarts[1] >= restarts[0] + 20 * SECOND, "the canary first: {restarts:?}");
    assert!(world.is_healed(), "{}", world.ailing());
}

/// A hold for longer than the policy allows is refused.
#[test]
fn a_hold_for_longer_than_four_hours_is_refused() {
    let mut world = calm();
    after(&mut world, 0, hold(241 * MINUTE));
    world.run(T0 + MINUTE);
    assert_eq!(
        world.rejections().iter().map(|(_, rejection)| rejection.code()).collect::<Vec<_>>(),
        ["hold_too_long"]
    );
}

/// An emergency stop holds even a person's forced restart back, and costs nobody the restart that he needs.
#[test]
fn an_emergency_stop_holds_back_a_forced_restart_and_all_heal_after_it() {
    let mut world = calm();
    after(&mut world, 0, Fault::Person(Person::EmergencyStop));
    after(&mut world, 10 * SECOND, Fault::Exit { whom: 7, status: 1 });
    after(&mut world, 20 * SECOND, Fault::Person(Person::Restart { whom: 7, forced: true }));
    world.run(T0 + 5 * MINUTE);
    assert_eq!(since(&world.history().restarts()), [0_u64; 0]);
    after(&mut world, 5 * MINUTE, Fault::Person(Person::Release));
    world.run(T0 + 8 * MINUTE);
    nothing_wrong(&world);
    assert!(world.is_healed(), "{}", world.ailing());
}
