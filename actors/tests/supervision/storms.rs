//! Random faults in random worlds.

use covalence_actors::simulation::storm::Plan;

/// Seeds that every run of the tests goes through; `COVALENCE_SIM_SEEDS` asks for more.
const SEEDS: u64 = 200;

/// Scenario 38: whatever goes wrong, no rule is broken, and once it is over everything runs again. A seed that breaks a rule
/// is told with the fewest faults that still break it.
#[test]
fn no_random_storm_breaks_a_rule_and_everything_heals() {
    let seeds = from_environment().and_then(|text| text.parse().ok()).unwrap_or(SEEDS);
    let mut restarts = 0;
    for seed in 0..seeds {
        let plan = Plan::draw(seed);
        let ending = plan.run();
        restarts += ending.restarts;
        if !ending.broken.is_empty() {
            let shortest = plan.shorten();
            let (world, told) = shortest.live();
            panic!(
                "seed {seed} breaks {:#?}\nwith these faults: {:#?}\n{}",
                told.broken,
                shortest.faults,
                world.history().story(shortest.faults.first().map_or(0, |(at, _)| *at))
            );
        }
    }
    assert!(restarts as u64 > seeds / 2, "storms in which {restarts} restarts happen test little");
}

#[expect(clippy::disallowed_methods, reason = "a test's size, not the product's configuration")]
fn from_environment() -> Option<String> {
    std::env::var("COVALENCE_SIM_SEEDS").ok()
}
