//! The cascade that the supervisor exists to prevent: an engine that is too busy to answer, somebody who takes that for the death
//! of everything that it runs, and a host that is kept busy by the restarts.

use std::time::Duration;

use chrono::TimeDelta;
use covalence_actors::policy::Policy;
use covalence_actors::simulation::{Fault, Millis, Setup, World};
use covalence_incidents::cause::{CauseKind, Sure};
use covalence_incidents::postmortem;
use covalence_incidents::report::Report;

use super::lived::Lived;

const ONSET: Millis = 300_000;
const LASTS: Millis = 60_000;

/// Nothing brakes: every limit that would have held restarts back is out of reach.
fn unlimited() -> Policy {
    Policy {
        bucket_capacity: 1_000.0,
        brake_deaths_min: 1_000,
        brake_suspects_min: 1_000,
        score_brake: 100,
        circuit_pings: 1_000,
        circuit_calls_min: 100_000,
        in_flight_min: 1_000,
        in_flight_ceiling: 1_000,
        intensity_max: 1_000,
        grace: Duration::ZERO,
        ..Policy::default()
    }
}

async fn cascade(seed: u64, fault: Fault) -> (World, Report) {
    let setup = Setup { policy: unlimited(), naive: true, ..Setup::default() };
    let mut world = World::new(seed, setup);
    let begun = world.moment();
    // Somebody's container had died a while ago; that is another story.
    world.inject(ONSET - 60_000, Fault::Exit { whom: 3, status: 1 });
    world.inject(ONSET, fault);
    world.run(ONSET + LASTS + 120_000);
    let at = |ms: Millis| begun + TimeDelta::milliseconds(i64::try_from(ms).expect("a time"));
    let report = Lived::of(&world).await.span(at(ONSET - 90_000), at(ONSET + LASTS + 120_000)).await;
    (world, report)
}

#[tokio::test]
async fn a_cascade_under_a_naive_policy_is_explained_by_the_engine_that_did_not_answer() {
    for seed in 0..10 {
        for fault in [Fault::EngineFrozen { lasts: LASTS }, Fault::EngineSlow { factor: 200, lasts: LASTS }] {
            let (world, report) = cascade(seed, fault.clone()).await;
            let wrong = world.history().wrong_restarts(0).len();
            assert!(wrong >= 12, "seed {seed}, {fault:?}: only {wrong} running containers were replaced");
            let first = &report.causes[0];
            assert!(
                first.kind == CauseKind::EngineSlow && first.sure != Sure::Low,
                "seed {seed}, {fault:?}: {:#?}",
                report.causes
            );
            assert!(report.impact.restarts_begun >= 12, "{:?}", report.impact);
            let draft = postmortem::draft(&report);
            assert!(draft.contains("did not answer in time"), "{draft}");
        }
    }
}
