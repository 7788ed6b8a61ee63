//! Containers that really end.

use covalence_actors::simulation::{Fault, What, World};
use covalence_events::fleet::{BrakeMode, Event};
use covalence_events::workspace::{EvidenceClass, RestartCause};

use super::{MINUTE, SECOND, T0, after, calm, no_restarts, nothing_wrong, since};

fn kill(world: &mut World, whom: impl IntoIterator<Item = usize>, at: u64) {
    for whom in whom {
        after(world, at, Fault::Exit { whom, status: 137 });
    }
}

/// Scenario 4 (R11): one container exits; the engine's event tells.
#[test]
fn a_container_that_exits_is_started_within_a_second_of_the_event() {
    let mut world = calm();
    kill(&mut world, [3], 0);
    world.run(T0 + 2 * MINUTE);
    nothing_wrong(&world);
    let restarts = since(&world.history().restarts_of(3));
    assert_eq!(restarts.len(), 1);
    assert!(restarts[0] <= SECOND, "{restarts:?}");
    let [(_, admitted)] = &world.history().admitted()[..] else { panic!("one admission") };
    let tokens = admitted.inputs.as_ref().expect("recorded").tokens;
    assert_eq!((admitted.cause, tokens, admitted.cost), (RestartCause::Death, 3.0, Some(1.0)));
    assert!(world.is_healed(), "{}", world.ailing());
}

/// Scenario 4, without the event: the next list tells.
#[test]
fn a_container_that_exits_unheard_is_started_within_a_list_tick() {
    let mut world = calm();
    after(&mut world, 0, Fault::EventsLost { rate: 1.0, lasts: MINUTE });
    kill(&mut world, [3], SECOND);
    world.run(T0 + 2 * MINUTE);
    nothing_wrong(&world);
    let restarts = since(&world.history().restarts_of(3));
    assert_eq!(restarts.len(), 1);
    assert!(restarts[0] <= SECOND + 5_500, "{restarts:?}");
}

/// Scenario 5: a container that is not there any more, on an engine that lists the others.
#[test]
fn a_container_that_vanished_is_provisioned_once() {
    let mut world = calm();
    after(&mut world, 0, Fault::EventsLost { rate: 1.0, lasts: MINUTE });
    after(&mut world, SECOND, Fault::Vanish { whom: 8 });
    world.run(T0 + 2 * MINUTE);
    nothing_wrong(&world);
    assert_eq!(world.history().restarts_of(8).len(), 1);
    assert_eq!(world.history().restarts().len(), 1);
    assert!(world.is_healed(), "{}", world.ailing());
}

/// Scenario 11: six of fifteen at once. The canary goes at once, the next when it has proved itself, never more than two.
#[test]
fn six_of_fifteen_dead_are_started_by_a_canary_and_then_two_at_a_time() {
    let mut world = calm();
    // In one list, so that they are announced together.
    after(&mut world, 0, Fault::EventsLost { rate: 1.0, lasts: 10 * SECOND });
    kill(&mut world, 2..8, SECOND);
    world.run(T0 + 4 * MINUTE);
    nothing_wrong(&world);
    let restarts = since(&world.history().restarts());
    let from_first: Vec<_> = restarts.iter().map(|at| (at - restarts[0]) / SECOND).collect();
    // The table's 0, 26, 26, 32, 36, 46: six seconds to the first sign of life, twenty of probation.
    let expected = [0..=1, 25..=28, 25..=28, 31..=36, 31..=40, 36..=50];
    assert!(
        from_first.len() == 6 && from_first.iter().zip(expected).all(|(at, within)| within.contains(at)),
        "{from_first:?}"
    );
    assert!(world.history().in_flight_max() <= 2);
    let modes: Vec<_> = world.history().brakes()[0].modes.iter().map(|(_, mode, _)| *mode).collect();
    assert_eq!(modes, [BrakeMode::Canary, BrakeMode::SlowStart]);
    assert!(world.is_healed(), "{}", world.ailing());
}

/// Scenario 12: the canary fails, since the image is broken.
#[test]
fn a_canary_that_fails_freezes_the_others_and_calls_a_person() {
    let mut world = calm();
    after(&mut world, 0, Fault::CrashLoop { whom: None, after: 500, lasts: 4 * MINUTE });
    after(&mut world, 0, Fault::EventsLost { rate: 1.0, lasts: 10 * SECOND });
    kill(&mut world, 2..8, SECOND);
    world.run(T0 + 4 * MINUTE);
    nothing_wrong(&world);
    assert_eq!(world.history().restarts().len(), 1, "{:?}", since(&world.history().restarts()));
    let denied: std::collections::BTreeSet<_> = world
        .history()
        .deferred()
        .iter()
        .filter(|(_, e)| e.rule == "brake")
        .map(|(_, e)| e.workspace)
        .collect();
    assert!(denied.len() >= 5, "{denied:?}");
    let alarm = world.history().alarms().into_iter().find(|(_, kind)| kind.starts_with("brake"));
    assert!(alarm.is_some_and(|(at, _)| at <= T0 + 90 * SECOND), "{alarm:?}");
}

/// Scenario 12, later: with the image mended, the next canary heals the others.
#[test]
fn after_a_failed_canary_the_next_one_is_tried_five_minutes_later() {
    let mut world = calm();
    after(&mut world, 0, Fault::CrashLoop { whom: None, after: 500, lasts: MINUTE });
    kill(&mut world, 2..8, SECOND);
    world.run(T0 + 12 * MINUTE);
    nothing_wrong(&world);
    assert!(world.is_healed(), "{}", world.ailing());
}

/// Scenario 19: one death every 15 s is slower than tokens come back.
#[test]
fn a_trickle_of_deaths_is_restarted_without_a_brake() {
    let mut world = calm();
    for n in 0..10 {
        kill(&mut world, [n], 15 * SECOND * n as u64);
    }
    world.run(T0 + 5 * MINUTE);
    nothing_wrong(&world);
    assert_eq!(world.history().restarts().len(), 10);
    assert_eq!(world.history().brakes(), []);
    assert!(world.is_healed(), "{}", world.ailing());
}

/// Scenario 20: three deaths within ten seconds are too few for a brake; the third waits for a slot.
#[test]
fn three_deaths_at_once_are_started_as_slots_allow() {
    let mut world = calm();
    kill(&mut world, [1, 2], 0);
    kill(&mut world, [3], SECOND);
    world.run(T0 + 2 * MINUTE);
    nothing_wrong(&world);
    let restarts = since(&world.history().restarts());
    assert_eq!(restarts.len(), 3);
    assert!(restarts[1] <= SECOND && restarts[2] > 4 * SECOND && restarts[2] <= 15 * SECOND, "{restarts:?}");
    assert_eq!(world.history().brakes(), []);
    assert!(world.history().deferred().iter().any(|(_, e)| e.rule == "in_flight"));
}

/// Scenario 23: an event about the container before the last one.
#[test]
fn late_evidence_about_an_older_container_is_recorded_and_restarts_nothing() {
    let mut world = calm();
    kill(&mut world, [6], 0);
    after(&mut world, MINUTE, Fault::StaleEvent { whom: 6 });
    world.run(T0 + 4 * MINUTE);
    nothing_wrong(&world);
    assert_eq!(world.history().restarts().len(), 1);
    let recorded = world.history().of(6).filter(|(at, event)| {
        *at >= T0 + MINUTE
            && matches!(event, covalence_events::workspace::Event::EvidenceObserved(e) if e.class == EvidenceClass::Expected)
    });
    assert_eq!(recorded.count(), 1);
}

/// The chain that decision 20 asks for: proven deaths heal while an unrelated freeze is on, one a minute.
#[test]
fn a_proven_death_under_a_freeze_is_restarted_one_a_minute() {
    let mut world = calm();
    after(&mut world, 0, Fault::Starved { from: 5, many: 8, lasts: 6 * MINUTE });
    kill(&mut world, [0], 2 * MINUTE);
    kill(&mut world, [1], 2 * MINUTE + 5 * SECOND);
    world.run(T0 + 5 * MINUTE);
    let restarts = since(&world.history().restarts());
    assert_eq!(restarts.len(), 2, "{restarts:?}");
    assert!(restarts[1] - restarts[0] >= 60 * SECOND, "{restarts:?}");
    assert!(world.history().fleet().any(|(_, event, _)| matches!(event, Event::BrakeEngaged(_))));
    nothing_wrong(&world);
}

/// What the simulator itself rests on: nothing goes wrong, nothing happens.
#[test]
fn a_calm_hour_restarts_nothing_and_suspects_nobody() {
    let mut world = calm();
    world.run(T0 + 60 * MINUTE);
    no_restarts(&world);
    assert_eq!(world.history().brakes(), []);
    let suspected = world
        .history()
        .all()
        .filter(|(_, _, event, _)| matches!(event, covalence_events::workspace::Event::SuspicionRaised(_)));
    assert_eq!(suspected.count(), 0);
    assert_eq!(world.history().mutations(T0, world.now()), 0);
    assert!(world.notes().iter().any(|note| matches!(note.what, What::Boot)));
}
