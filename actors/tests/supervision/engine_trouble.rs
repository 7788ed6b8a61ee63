//! An engine that errs, hangs, goes away or comes back: it says nothing about what it runs.

use covalence_actors::simulation::{Calls, Failure, Fault, Person, Setup, World};
use covalence_events::fleet::{BrakeMode, BrakeTrigger, CircuitState, Event};

use super::{MINUTE, SECOND, T0, after, calm, fleet_of, no_restarts, nothing_wrong, since};

/// Fifteen workspaces run, fifteen more are asked for at once; the engine slows down, and most looks at it fail.
fn incident(failure: Failure) -> World {
    let mut world = World::new(7, Setup::default());
    // A fresh run of the platform, whose limit on starts has learned nothing yet.
    world.inject(T0 - 2 * MINUTE, Fault::Kill { down: SECOND });
    world.run(T0);
    for _ in 0..15 {
        after(&mut world, 0, Fault::Person(Person::Create { parent: None }));
    }
    let lasts = 60 * SECOND;
    after(&mut world, 100, Fault::EngineErrors { failure, calls: Calls::All, rate: 0.6, lasts });
    after(&mut world, 100, Fault::EngineSlow { factor: 4, lasts });
    world
}

fn survives_the_incident(mut world: World) {
    world.run(T0 + 60 * SECOND);
    let (most, lowest) = world.starts_at_once();
    // One that goes well proves room for a fourth.
    assert!(most <= 4 && lowest < 3, "at most {most} starts at once, the limit fell to {lowest}");
    // What was made and never started is given up four minutes after its start was.
    world.run(T0 + 7 * MINUTE);
    nothing_wrong(&world);
    assert_eq!(since(&world.history().restarts()), [0_u64; 0]);
    let brakes = world.history().brakes();
    assert_eq!(brakes.len(), 1, "{brakes:?}");
    let brake = &brakes[0];
    assert_eq!(brake.modes.iter().map(|(_, mode, _)| *mode).collect::<Vec<_>>(), [BrakeMode::Freeze]);
    // The table's ten seconds are those of a look at each workspace in each tick; one list a tick tells less, and later.
    assert!(since(&[brake.from])[0] <= 60 * SECOND, "{brake:?}");
    let released = since(&[brake.until.expect("released")])[0];
    assert!(released <= 61 * SECOND + 60 * SECOND, "{brake:?}");
    for whom in 15..world.workspaces().len() {
        let state = world.state_of(whom).expect("known");
        assert!(
            !state.status.as_str().starts_with("prov"),
            "ws-{whom} is started, or said not to be: {}",
            state.status
        );
    }
}

/// Scenario 1 (R10): the incident. Provisions are fewer at once, nothing that runs is touched, the freeze ends with its cause.
#[test]
fn a_batch_of_starts_under_which_the_engine_times_out_restarts_nothing() {
    survives_the_incident(incident(Failure::Timeout));
}

/// Scenario 2 (R10): the same with HTTP 500.
#[test]
fn a_batch_of_starts_under_which_the_engine_answers_500_restarts_nothing() {
    survives_the_incident(incident(Failure::Error500));
}

/// Scenario 3 (R10): the same, and six agents are starved for 45 s.
#[test]
fn an_engine_in_trouble_and_starved_agents_at_once_restart_nothing() {
    let mut world = incident(Failure::Timeout);
    after(&mut world, SECOND, Fault::Starved { from: 2, many: 6, lasts: 45 * SECOND });
    // Their callers get no answer, and each such call makes the platform look at the container.
    for whom in 2..8 {
        after(&mut world, SECOND, Fault::Traffic { whom, every: 3 * SECOND, lasts: 45 * SECOND });
    }
    survives_the_incident(world);
}

/// Scenario 6: an instance is known by its id, whatever somebody calls it.
#[test]
fn a_container_that_somebody_renames_is_left_alone() {
    let mut world = calm();
    after(&mut world, 0, Fault::Rename { whom: 4 });
    world.run(T0 + 3 * MINUTE);
    no_restarts(&world);
}

/// Scenario 7: a *no such container* that nothing else of the engine stands behind proves nothing.
#[test]
fn not_found_from_an_engine_that_answers_nothing_else_restarts_nothing() {
    let mut world = calm();
    let lasts = 40 * SECOND;
    after(
        &mut world,
        0,
        Fault::EngineErrors { failure: Failure::Refused, calls: Calls::Lists, rate: 1.0, lasts },
    );
    let lost = Fault::EngineErrors {
        failure: Failure::Lost404,
        calls: Calls::Inspects,
        rate: 1.0,
        lasts: 25 * SECOND,
    };
    after(&mut world, 12 * SECOND, lost);
    // Somebody calls an agent that can't be reached, which makes the platform look at its container.
    after(&mut world, 12 * SECOND, Fault::Starved { from: 3, many: 1, lasts: 25 * SECOND });
    after(&mut world, 13 * SECOND, Fault::Traffic { whom: 3, every: 2 * SECOND, lasts: 20 * SECOND });
    world.run(T0 + 3 * MINUTE);
    no_restarts(&world);
}

/// Scenario 8: the socket is gone for five minutes while agents go on. An alarm after five minutes (decision 20 scales the
/// ten of the table), and only once.
#[test]
fn a_missing_socket_freezes_and_leaves_everybody_alone() {
    let mut world = calm();
    after(&mut world, 0, Fault::SocketMissing { lasts: 5 * MINUTE + 30 * SECOND });
    world.run(T0 + MINUTE);
    assert_ne!(world.watch().expect("up").circuit(), CircuitState::Closed);
    world.run(T0 + 10 * MINUTE);
    no_restarts(&world);
    let brakes = world.history().brakes();
    assert_eq!(brakes.len(), 1, "{brakes:?}");
    assert!(brakes[0].until.is_some(), "{brakes:?}");
    let alarms = since(&world.history().alarms().iter().map(|(at, _)| *at).collect::<Vec<_>>());
    assert!(
        !alarms.is_empty() && alarms.iter().all(|at| *at >= 5 * MINUTE),
        "{:?}",
        world.history().alarms()
    );
    assert!(world.is_healed(), "{}", world.ailing());
}

/// Scenario 8, shorter: what is over before five minutes wakes nobody up.
#[test]
fn a_socket_that_is_back_within_five_minutes_raises_no_alarm() {
    let mut world = calm();
    after(&mut world, 0, Fault::SocketMissing { lasts: 4 * MINUTE });
    world.run(T0 + 10 * MINUTE);
    no_restarts(&world);
    assert_eq!(world.history().alarms(), []);
}

/// Scenario 9: the engine is restarted, and restores its containers.
#[test]
fn an_engine_restart_that_keeps_its_containers_restarts_nothing() {
    let mut world = calm();
    after(&mut world, 0, Fault::EngineRestart { down: 20 * SECOND, live_restore: true });
    world.run(T0 + 5 * MINUTE);
    no_restarts(&world);
    assert!(world.is_healed(), "{}", world.ailing());
}

/// Scenario 10: the engine is restarted, and all containers with it. A canary, then the others, two at a time.
#[test]
fn an_engine_restart_that_ends_all_containers_heals_two_at_a_time_within_two_minutes() {
    let mut world = calm();
    after(&mut world, 0, Fault::EngineRestart { down: 10 * SECOND, live_restore: false });
    world.run(T0 + 5 * MINUTE);
    nothing_wrong(&world);
    let restarts = since(&world.history().restarts());
    assert_eq!(restarts.len(), 15, "{restarts:?}");
    // The engine is back at 10 s; the probe of its open circuit, at most 15 s later, brings the first good list.
    let first = good_list_after(&world, T0 + 10 * SECOND) - T0;
    assert!(restarts[0] <= first + 5 * SECOND, "first at {} after the list at {first}", restarts[0]);
    assert!(restarts[14] <= first + 120 * SECOND, "{restarts:?}");
    assert!(world.history().in_flight_max() <= 2);
    assert!(world.history().engagements().iter().any(|(_, e)| e.mode == BrakeMode::Canary));
    assert!(world.is_healed(), "{}", world.ailing());
}

fn good_list_after(world: &World, from: u64) -> u64 {
    let found =
        world.history().fleet().find(|(at, event, _)| *at >= from && matches!(event, Event::EngineFound(_)));
    found.map(|(at, ..)| at).expect("the engine was found again")
}

/// Scenario 21: a fleet of two, an error for each.
#[test]
fn one_failed_look_at_each_of_two_restarts_neither() {
    let mut world = fleet_of(2);
    let lasts = 2 * SECOND;
    after(
        &mut world,
        0,
        Fault::EngineErrors { failure: Failure::Error500, calls: Calls::Inspects, rate: 1.0, lasts },
    );
    for whom in 0..2 {
        after(&mut world, 0, Fault::Starved { from: whom, many: 1, lasts });
        after(&mut world, 0, Fault::Traffic { whom, every: SECOND, lasts: SECOND });
    }
    world.run(T0 + 3 * MINUTE);
    no_restarts(&world);
    let suspicion =
        world.history().engagements().into_iter().filter(|(_, e)| e.trigger != BrakeTrigger::Observer);
    assert_eq!(suspicion.count(), 0);
}

/// Scenario 29: a stop that times out at the client is done later all the same: nothing is started twice.
#[test]
fn a_stop_that_lingers_ends_in_exactly_one_new_container() {
    let mut world = calm();
    after(&mut world, 0, Fault::StopsLinger { lasts: 30 * SECOND });
    after(&mut world, SECOND, Fault::Person(Person::Pause { whom: 5 }));
    after(&mut world, 2 * MINUTE, Fault::Person(Person::Resume { whom: 5 }));
    world.run(T0 + 5 * MINUTE);
    nothing_wrong(&world);
    let unknown = world
        .history()
        .first(5, |event| matches!(event, covalence_events::workspace::Event::OutcomeUnknown(_)));
    assert!(unknown.is_some(), "{}", world.history().story(T0));
    let started = world.notes().iter().filter(|note| {
        note.at > T0 && matches!(note.what, covalence_actors::simulation::What::Started { .. })
    });
    assert_eq!(started.count(), 1, "{}", world.history().story(T0));
    assert!(world.is_healed(), "{}", world.ailing());
}

/// Scenario 30: an engine that flaps keeps one freeze on.
#[test]
fn a_flapping_engine_is_one_freeze_and_not_many() {
    let mut world = calm();
    for n in 0..22 {
        let lasts = 4 * SECOND;
        let errors = Fault::EngineErrors { failure: Failure::Error500, calls: Calls::All, rate: 1.0, lasts };
        after(&mut world, n * 8 * SECOND, errors);
    }
    world.run(T0 + 8 * MINUTE);
    no_restarts(&world);
    let brakes = world.history().brakes();
    assert_eq!(brakes.len(), 1, "{brakes:?}");
    assert!(brakes[0].until.is_some_and(|until| until > T0 + 3 * MINUTE), "{brakes:?}");
}

/// What a start has made and never started does not keep its workspace waiting for ever.
#[test]
fn a_container_that_was_made_and_never_started_is_made_anew() {
    let setup = Setup { workspaces: 3, ..Setup::default() };
    let healed = (0..40).filter(|seed| {
        let mut world = World::new(*seed, setup.clone());
        world.inject(T0, Fault::Vanish { whom: 1 });
        let errors = Fault::EngineErrors {
            failure: Failure::Timeout,
            calls: Calls::Mutations,
            rate: 0.5,
            lasts: 40 * SECOND,
        };
        world.inject(T0, errors);
        world.run(T0 + 8 * MINUTE);
        nothing_wrong(&world);
        world.is_healed()
    });
    assert_eq!(healed.count(), 40);
}
