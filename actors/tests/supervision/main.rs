//! The acceptance scenarios of supervision, each one test, in the simulator: 15 workspaces that have been well for five
//! minutes, unless a scenario says otherwise. A *wrong* restart replaces a container that ran and whose agent was well.

mod crash_loop;
mod deaths;
mod engine_trouble;
mod operators;
mod platform;
mod replay;
mod silence;
mod storms;

use covalence_actors::simulation::{Fault, Millis, Setup, World};

const SECOND: Millis = 1_000;
const MINUTE: Millis = 60_000;
/// When the scenarios' faults begin.
const T0: Millis = 5 * MINUTE;

/// A fleet of so many that has been well for five minutes.
fn fleet_of(workspaces: usize) -> World {
    let mut world = World::new(7, Setup { workspaces, ..Setup::default() });
    world.run(T0);
    assert!(world.is_healed(), "before anything goes wrong: {}", world.ailing());
    world
}

/// Fifteen of them.
fn calm() -> World {
    fleet_of(15)
}

/// A fault that begins so long after [`T0`].
fn after(world: &mut World, at: Millis, fault: Fault) {
    world.inject(T0 + at, fault);
}

/// Times since [`T0`].
fn since(times: &[Millis]) -> Vec<Millis> {
    times.iter().map(|at| at.saturating_sub(T0)).collect()
}

/// No running container of a well agent was replaced, and nothing else happened that must not.
fn nothing_wrong(world: &World) {
    assert_eq!(world.history().wrong_restarts(0), [], "{}", world.history().story(T0));
    let broken = covalence_actors::simulation::invariants::broken(world.history(), &Setup::default().policy);
    assert!(broken.is_empty(), "{broken:#?}\n{}", world.history().story(T0));
}

/// Nothing was restarted at all.
fn no_restarts(world: &World) {
    nothing_wrong(world);
    assert_eq!(since(&world.history().restarts()), [0_u64; 0], "{}", world.history().story(T0));
}
