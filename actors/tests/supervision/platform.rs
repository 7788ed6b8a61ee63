//! The platform's own pauses, restarts, full logs and wrong clocks.

use covalence_actors::simulation::{Fault, Person, Setup, World};
use covalence_actors::workspace::state::Instance;
use covalence_events::fleet::{BrakeMode, BrakeTrigger, Event};
use covalence_events::workspace::Event as Workspace;

use super::{MINUTE, SECOND, T0, after, calm, no_restarts, nothing_wrong, since};

/// Scenario 24: our process stands still for 8 s.
#[test]
fn a_pause_of_our_own_concludes_nothing_and_is_recorded() {
    let mut world = calm();
    after(&mut world, 0, Fault::Pause { lasts: 8 * SECOND });
    world.run(T0 + 3 * MINUTE);
    no_restarts(&world);
    let paused = world.history().fleet().find_map(|(_, event, _)| match event {
        Event::ObserverChanged(e) => e.pause_ms.map(|pause| (e.score, pause)),
        _ => None,
    });
    let Some((8, pause)) = paused else { panic!("not recorded: {paused:?}") };
    assert!((6_000..=9_000).contains(&pause), "{pause}");
}

/// What piled up during the pause may not hold any more: it is believed when it is seen again.
#[test]
fn a_death_during_a_pause_of_our_own_is_believed_only_when_we_have_been_awake_for_a_while() {
    let mut world = calm();
    after(&mut world, 0, Fault::Pause { lasts: 20 * SECOND });
    after(&mut world, 10 * SECOND, Fault::Exit { whom: 3, status: 1 });
    world.run(T0 + 24 * SECOND);
    no_restarts(&world);
    world.run(T0 + 2 * MINUTE);
    assert_eq!(world.history().restarts_of(3).len(), 1);
    assert!(world.is_healed(), "{}", world.ailing());
}

/// Scenario 24, longer than every heartbeat and the liveness window: what was not heard then is held against nobody.
#[test]
fn a_pause_longer_than_the_liveness_window_restarts_nothing() {
    let mut world = calm();
    after(&mut world, 0, Fault::Pause { lasts: 4 * MINUTE });
    world.run(T0 + 10 * MINUTE);
    no_restarts(&world);
    assert!(world.is_healed(), "{}", world.ailing());
}

/// Scenario 25: our loop is 2 s late for half a minute.
#[test]
fn a_slow_loop_raises_our_score_and_our_patience_and_restarts_nothing() {
    let mut world = calm();
    after(&mut world, 0, Fault::Lag { lag: 2 * SECOND, lasts: 30 * SECOND });
    world.run(T0 + 20 * SECOND);
    let watch = world.watch().expect("up");
    let policy = &world.fleet().expect("up").policy;
    let now = world.moment();
    assert_eq!((watch.eye(now).score, watch.patience(policy, now).as_secs()), (2, 9));
    world.run(T0 + 3 * MINUTE);
    no_restarts(&world);
}

/// Scenario 26: one died while we were away.
#[test]
fn after_our_own_restart_the_one_that_died_is_started_and_nobody_else() {
    let mut world = calm();
    after(&mut world, 0, Fault::Kill { down: 20 * SECOND });
    after(&mut world, 5 * SECOND, Fault::Exit { whom: 11, status: 1 });
    world.run(T0 + 3 * MINUTE);
    nothing_wrong(&world);
    let restarts = since(&world.history().restarts());
    assert_eq!(restarts.len(), 1);
    assert!(restarts[0] <= 30 * SECOND, "{restarts:?}");
    assert_eq!(world.history().restarts_of(11).len(), 1);
    assert!(world.is_healed(), "{}", world.ailing());
}

/// Scenario 27: nine of fifteen died while we were away.
#[test]
fn after_our_own_restart_many_dead_are_started_by_canary() {
    let mut world = calm();
    after(&mut world, 0, Fault::Kill { down: 20 * SECOND });
    for whom in 0..9 {
        after(&mut world, 5 * SECOND, Fault::Exit { whom, status: 1 });
    }
    world.run(T0 + 5 * MINUTE);
    nothing_wrong(&world);
    let restarts = since(&world.history().restarts());
    assert_eq!(restarts.len(), 9);
    assert!(restarts[1] >= restarts[0] + 20 * SECOND, "the canary first: {restarts:?}");
    assert!(
        world
            .history()
            .engagements()
            .iter()
            .any(|(_, e)| e.mode == BrakeMode::Canary && e.trigger == BrakeTrigger::Grace)
    );
    assert!(world.history().in_flight_max() <= 2);
    assert!(world.is_healed(), "{}", world.ailing());
}

/// Scenario 28: we are killed in the middle of a restart, at every tenth of a second of it. The table's `OutcomeUnknown` is for
/// calls that time out; what a kill cuts off is looked for by its labels before it is started again.
#[test]
fn a_restart_that_our_own_end_cuts_off_never_runs_twice() {
    for tenth in 0..80 {
        let mut world = calm();
        after(&mut world, 0, Fault::Exit { whom: 2, status: 1 });
        after(&mut world, tenth * 100, Fault::Kill { down: SECOND });
        world.run(T0 + 3 * MINUTE);
        nothing_wrong(&world);
        assert_eq!(world.history().restarts_of(2).len(), 1, "killed after {tenth} tenths");
        assert!(world.is_healed(), "killed after {tenth} tenths: {}", world.ailing());
    }
}

/// Scenarios 28 and 29 together: we are killed while nobody knows what became of a stop. A list tells, nobody asks again.
#[test]
fn a_stop_of_unknown_outcome_is_not_asked_for_again_after_our_own_restart() {
    let mut world = calm();
    after(&mut world, 0, Fault::StopsLinger { lasts: 10 * SECOND });
    after(&mut world, SECOND, Fault::Person(Person::Pause { whom: 5 }));
    after(&mut world, 35 * SECOND, Fault::Kill { down: SECOND });
    world.run(T0 + 3 * MINUTE);
    nothing_wrong(&world);
    assert_eq!(world.history().mutations(T0, world.now()), 1, "{}", world.history().story(T0));
    assert_eq!(world.state_of(5).map(|state| &state.instance), Some(&Instance::None));
}

/// Scenario 34: the log's disk is full.
#[test]
fn a_full_disk_lets_nothing_be_done() {
    let mut world = calm();
    after(&mut world, 0, Fault::LogFull { lasts: 2 * MINUTE });
    after(&mut world, 10 * SECOND, Fault::Exit { whom: 2, status: 1 });
    world.run(T0 + 2 * MINUTE);
    assert_eq!(world.history().mutations(T0, world.now()), 0);
    assert!(world.watch().expect("up").eye(world.moment()).score >= 4);
    // A person frees the disk, and starts the platform again.
    after(&mut world, 2 * MINUTE + SECOND, Fault::Kill { down: SECOND });
    world.run(T0 + 5 * MINUTE);
    nothing_wrong(&world);
    assert_eq!(world.history().restarts_of(2).len(), 1);
    assert!(world.is_healed(), "{}", world.ailing());
}

/// Scenario 36: the wall clock is set back and forth by an hour.
#[test]
fn a_wall_clock_that_is_set_changes_nothing() {
    let decisions = |jumps: &[i64]| {
        let mut world = calm();
        for (n, by) in jumps.iter().enumerate() {
            after(&mut world, 10 * SECOND + 20 * SECOND * n as u64, Fault::WallJump { by: *by });
        }
        after(&mut world, 0, Fault::Hang { whom: 9 });
        after(&mut world, 15 * SECOND, Fault::Exit { whom: 1, status: 1 });
        world.run(T0 + 6 * MINUTE);
        nothing_wrong(&world);
        let tags: Vec<_> =
            world.history().facts.iter().map(|(at, recorded)| (*at, recorded.fact.tag())).collect();
        tags
    };
    assert_eq!(decisions(&[]), decisions(&[-3_600_000, 7_200_000]));
}

/// Across our own restarts time never runs backwards, wherever the wall clock is.
#[test]
fn a_clock_that_was_set_back_before_our_start_does_not_confuse_it() {
    let mut world = calm();
    after(&mut world, 0, Fault::WallJump { by: -3_600_000 });
    after(&mut world, SECOND, Fault::Kill { down: SECOND });
    after(&mut world, MINUTE, Fault::Exit { whom: 1, status: 1 });
    world.run(T0 + 4 * MINUTE);
    nothing_wrong(&world);
    assert!(world.history().facts.is_sorted_by_key(|(_, recorded)| recorded.meta.at));
    assert_eq!(world.history().restarts().len(), 1);
    assert!(world.is_healed(), "{}", world.ailing());
}

/// The same seed tells the same story, to the last id.
#[test]
fn one_seed_is_one_story() {
    let story = |seed| {
        let mut world = World::new(seed, Setup { repeated: 0.1, ..Setup::default() });
        world.inject(T0, Fault::EngineRestart { down: 10 * SECOND, live_restore: false });
        world.inject(T0 + 20 * SECOND, Fault::Kill { down: SECOND });
        world.run(T0 + 5 * MINUTE);
        format!("{:?}", world.history().facts)
    };
    assert!(story(3) == story(3));
    assert!(story(3) != story(4));
}

/// Nobody is adopted twice, or restarted, because we were started again.
#[test]
fn our_own_restart_adopts_everybody_as_they_are() {
    let mut world = calm();
    after(&mut world, 0, Fault::Kill { down: 5 * SECOND });
    world.run(T0 + 5 * MINUTE);
    no_restarts(&world);
    let adopted = world
        .history()
        .all()
        .filter(|(at, _, event, _)| *at > T0 && matches!(event, Workspace::InstanceAdopted(_)));
    assert_eq!(adopted.count(), 15);
    assert_eq!(world.history().mutations(T0, world.now()), 0);
}
