//! The simulator's incidents, put to other policies.

use chrono::DateTime;
use covalence_events::workspace::RestartCause;

use super::*;
use crate::simulation::storm::Plan;
use crate::simulation::{Fault, Setup, World};

const T0: u64 = 240_000;
const SECOND: u64 = 1_000;

fn put(world: &World, under: Under) -> Report {
    put_between(world, under, DateTime::UNIX_EPOCH, DateTime::<chrono::Utc>::MAX_UTC)
}

fn put_between(world: &World, under: Under, since: Timestamp, until: Timestamp) -> Report {
    let mut backtest = Backtest::new(under, since, until);
    for (_, recorded) in world.ledger().facts() {
        backtest.take(recorded).expect("the world's log can be folded");
    }
    backtest.finish()
}

fn policy(change: impl FnOnce(&mut Policy)) -> Under {
    let mut policy = Policy::default();
    change(&mut policy);
    Under::Policy(Box::new(policy))
}

/// Fifteen workspaces, well for four minutes, and then these.
fn after(faults: &[(u64, Fault)], lasts: u64) -> World {
    let mut world = World::new(7, Setup::default());
    for (at, fault) in faults {
        world.inject(T0 + at, fault.clone());
    }
    world.run(T0 + lasts);
    world
}

fn kinds(report: &Report) -> Vec<(Kind, &str, &str)> {
    report.differences.iter().map(|d| (d.kind, d.recorded.as_str(), d.under.as_str())).collect()
}

#[test]
fn under_the_policy_that_was_in_force_nothing_differs() {
    let mut judged = 0;
    for seed in 0..120 {
        let (world, _) = Plan::draw(seed).live();
        let report = put(&world, policy(|_| {}));
        assert!(report.differences.is_empty(), "seed {seed}: {:?}", report.differences);
        assert_eq!((report.avoided, report.added, report.unjudged), (0, 0, 0), "seed {seed}");
        judged += report.judged;
    }
    assert!(judged > 1_000, "{judged}");
}

/// Verdicts, admissions and brakes alike, with everything counted anew from the facts.
#[test]
fn what_was_decided_is_decided_again_from_the_facts_alone() {
    let mut kinds = BTreeMap::new();
    for seed in 0..120 {
        let (world, _) = Plan::draw(seed).live();
        let decisions = again(&world);
        let differ: Vec<_> = decisions.iter().filter(|one| one.recorded != one.under).collect();
        assert!(differ.is_empty(), "seed {seed}: {differ:#?}");
        for decision in decisions {
            *kinds.entry(decision.kind).or_insert(0) += 1;
        }
    }
    let enough = kinds.len() == 3 && kinds.values().all(|many| *many > 300);
    assert!(enough, "{kinds:?}");
}

fn again(world: &World) -> Vec<Decision> {
    let mut backtest = Backtest::new(Under::Recorded, DateTime::UNIX_EPOCH, DateTime::<chrono::Utc>::MAX_UTC);
    for (_, recorded) in world.ledger().facts() {
        backtest.take(recorded).expect("the world's log can be folded");
    }
    backtest.finish_with_decisions().1
}

/// The incident that this supervisor exists for: an engine that is too busy to answer, and somebody who takes its silence for
/// death.
#[test]
fn without_a_policy_an_engine_that_does_not_answer_costs_everybody_a_restart() {
    let world = after(&[(0, Fault::EngineFrozen { lasts: 30 * SECOND })], 120 * SECOND);
    assert_eq!(world.history().restarts().len(), 0, "nothing was restarted");
    let report = put(&world, Under::Naive);
    assert_eq!(report.added, 15, "{:?}", kinds(&report));
    let verdicts = report.differences.iter().filter(|d| d.kind == Kind::Verdict);
    let first = verdicts.clone().next().expect("a verdict");
    assert!(first.recorded.starts_with("alive: the engine's"), "{first:?}");
    assert_eq!(first.under, "dead, and restarted at once");
    assert!(verdicts.clone().all(|d| d.at == first.at), "a cascade");
}

#[test]
fn fewer_tokens_make_the_dead_wait_longer() {
    let deaths: Vec<_> = (0..3).map(|whom| (whom as u64 * 200, Fault::Exit { whom, status: 1 })).collect();
    let world = after(&deaths, 120 * SECOND);
    let report = put(&world, policy(|policy| policy.bucket_capacity = 1.0));
    let deferred = report.differences.iter().find(|d| d.under.starts_with("deferred by tokens until"));
    let deferred = deferred.unwrap_or_else(|| panic!("{:?}", kinds(&report)));
    assert!(deferred.recorded.starts_with("restart for death admitted"), "{deferred:?}");
    assert!(report.differences.iter().skip(1).all(|d| d.extrapolated || d.at == report.differences[0].at));
    assert!(!report.differences[0].extrapolated);
}

#[test]
fn a_shorter_window_finds_the_hung_earlier_and_a_longer_one_not_yet() {
    let world = after(&[(0, Fault::Hang { whom: 4 })], 400 * SECOND);
    let hung = world.history().admitted().iter().filter(|(_, e)| e.cause == RestartCause::Hung).count();
    assert_eq!(hung, 1);
    let earlier = put(&world, policy(|policy| policy.liveness_ttl = std::time::Duration::from_secs(120)));
    assert_eq!((earlier.found_earlier, earlier.added), (1, 0), "{:?}", kinds(&earlier));
    let by = earlier.differences[0].seconds.expect("a time");
    assert!((-65..=-55).contains(&by), "{by}");
    let later = put(&world, policy(|policy| policy.liveness_ttl = std::time::Duration::from_secs(300)));
    assert_eq!(later.found_later, 1, "{:?}", kinds(&later));
    assert_eq!(later.differences[0].under, "not yet: not silent for long enough");
}

#[test]
fn impatience_would_have_restarted_who_recovered() {
    let world = after(&[(0, Fault::Starved { from: 2, many: 2, lasts: 150 * SECOND })], 400 * SECOND);
    assert_eq!(world.history().restarts().len(), 0);
    let report = put(&world, policy(|policy| policy.liveness_ttl = std::time::Duration::from_secs(100)));
    assert_eq!(report.added, 2, "{:?}", kinds(&report));
    assert!(report.differences[0].recorded.starts_with("alive: the suspicion was cleared by"));
}

#[test]
fn a_brake_with_other_borders_engages_where_none_did_and_not_where_one_did() {
    let many = after(&[(0, Fault::Deaths { from: 0, many: 8, lasts: 5 * SECOND })], 180 * SECOND);
    let never = put(&many, policy(|policy| policy.brake_deaths_min = 100));
    assert!(
        kinds(&never).iter().any(|(kind, was, would)| {
            *kind == Kind::Brake
                && was.starts_with("docker braked: canary for deaths")
                && *would == "no brake"
        }),
        "{:?}",
        kinds(&never)
    );
    let few = after(&[(0, Fault::Deaths { from: 0, many: 3, lasts: SECOND })], 180 * SECOND);
    let early = put(
        &few,
        policy(|policy| {
            policy.brake_deaths_min = 2;
            policy.brake_deaths_share = 0.1;
        }),
    );
    assert!(
        kinds(&early).contains(&(Kind::Brake, "docker not braked", "canary for deaths: 2 of 2")),
        "{:?}",
        kinds(&early)
    );
}

#[test]
fn only_decisions_within_the_range_are_put() {
    let deaths = [(0, Fault::Exit { whom: 1, status: 1 }), (60 * SECOND, Fault::Exit { whom: 2, status: 1 })];
    let world = after(&deaths, 120 * SECOND);
    let admitted = world.ledger().facts().iter().filter_map(|(_, recorded)| match &recorded.fact {
        Fact::Fleet(facts::Event::RestartAdmitted(_)) => Some(recorded.meta.at),
        _ => None,
    });
    let second = admitted.max().expect("admitted");
    let report = put_between(&world, policy(|_| {}), second, second);
    assert_eq!((report.restarts, report.judged), (1, 1));
    assert!(report.facts < 10, "{}", report.facts);
}
