//! The storm (R11): a batch of calls fans out over fifteen workspaces while the engine fails in every way it can, and then
//! says nothing at all. What runs is left alone, every call comes to an end, and what is really dead comes back.
//!
//! Three other policies go through the same storm, for comparison; one of them must do damage, or the storm is no storm.
//! `scripts/storm` runs all of them and makes a table. What a story reads from the environment:
//!
//! | variable | default | meaning |
//! |---|---|---|
//! | `COVALENCE_STORM_SEEDS` | 1 | rounds: the first so many seeds, or those from A to B (`A-B`) |
//! | `COVALENCE_STORM_BASELINE_SEEDS` | 1 | the same, for the other policies |
//! | `COVALENCE_STORM_PERCENT` | 30 | of a hundred requests to the engine, so many meet a fault |
//! | `COVALENCE_STORM_FREEZE` | 20 | for so many seconds the engine is silent |
//! | `COVALENCE_STORM_REPORT` | | a file that each round adds a line to |
//! | `COVALENCE_STORM_CASES` | | a directory where each round of ours leaves a golden case (`docs/incidents.md`) |

use std::io::Write as _;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use self::baseline::{Baseline, Policy};
use self::engine::Engine;
use self::ours::Ours;
use self::round::{Ended, HEALED_AFTER_SILENCE, HEALED_UNDER_FAULTS, MEMBERS, Outcome, Round};
use super::support::fault_proxy::FaultProxy;

mod baseline;
mod cascade;
mod engine;
mod ours;
mod round;
mod weather;

/// A start asks the engine about ten times, so hardly one in thirty gets through untouched.
const FAULT_PERCENT: u64 = 30;
/// Short enough for every change; `scripts/storm` asks for a minute.
const FREEZE_SECONDS: u64 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_engine_does_only_what_is_dead_is_restarted() {
    let engine = Engine::start().await;
    let mut broken = Vec::new();
    for seed in seeds("COVALENCE_STORM_SEEDS") {
        let proxy = FaultProxy::start(&engine.socket());
        let round = round(&engine, &proxy, seed);
        let fleet = Ours::start(&round).await;
        let outcome = round.run("covalence", &fleet).await;
        report(&outcome);
        if let Some(directory) = knob("COVALENCE_STORM_CASES") {
            let about = "an engine that fails in every way, then says nothing; two of fifteen were killed";
            fleet.keep(Path::new(&directory), (&format!("storm-{seed}"), about), 1);
        }
        let found = broken_promises(&outcome, &fleet.admitted().await);
        if !found.is_empty() {
            eprintln!("--- the platform's own words in storm {seed} ---\n{}", fleet.words());
            broken.extend(found.into_iter().map(|promise| format!("storm {seed}: {promise}")));
        }
        drop(fleet);
        drop(proxy);
        engine.clear().await;
    }
    // All rounds are told of, not only the first that fails.
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// What a round of ours must hold, and did not.
fn broken_promises(outcome: &Outcome, admitted: &[String]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut must = |holds: bool, promise: String| broken.extend((!holds).then_some(promise));
    let alive = |id: &&String| outcome.calls.contains_key(*id) && !outcome.killed.contains(id);
    let wrong: Vec<_> = admitted.iter().filter(alive).collect();
    must(
        outcome.wrong_restarts == 0,
        format!("{} running containers were restarted", outcome.wrong_restarts),
    );
    must(wrong.is_empty(), format!("restarts were admitted though nobody had died: {wrong:?}"));
    must(outcome.terminal() == MEMBERS, format!("{} of {MEMBERS} calls ended", outcome.terminal()));
    for (member, ended) in &outcome.calls {
        let kept = match ended {
            Ended::Answered => true,
            // Its agent was killed in the middle of the call; the caller is told so in a whole answer.
            Ended::Refused(_) => outcome.killed.contains(member),
            Ended::CutOff(_) | Ended::Endless => false,
        };
        must(kept, format!("the caller of {member} got {ended:?}"));
    }
    for (when, healed, limit) in [
        ("while faults last", outcome.healed_under_faults, HEALED_UNDER_FAULTS),
        ("after the engine's silence", outcome.healed_after_silence, HEALED_AFTER_SILENCE),
    ] {
        let kept = healed.is_some_and(|time| time <= limit);
        must(kept, format!("a killed container was back after {healed:?} {when}, at most {limit:?} allowed"));
    }
    broken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_an_error_for_a_death_restarts_what_runs() {
    for outcome in endured(Policy::InspectErrorIsDead).await {
        assert!(outcome.wrong_restarts > 0, "the storm does no harm, so it proves nothing: {outcome}");
        assert!(outcome.cut_off() > 0, "restarts that no caller noticed: {outcome}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, for comparison: scripts/storm takes it"]
async fn who_takes_an_error_for_nothing_restarts_only_what_is_dead() {
    for outcome in endured(Policy::UnknownIsAlive).await {
        assert_eq!(outcome.wrong_restarts, 0, "{outcome}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, for comparison: scripts/storm takes it"]
async fn the_engines_own_policy_restarts_only_what_is_dead() {
    for outcome in endured(Policy::LeftToTheEngine).await {
        assert_eq!(outcome.wrong_restarts, 0, "{outcome}");
    }
}

/// The rounds of another policy.
async fn endured(policy: Policy) -> Vec<Outcome> {
    let engine = Engine::start().await;
    let mut outcomes = Vec::new();
    for seed in seeds("COVALENCE_STORM_BASELINE_SEEDS") {
        let proxy = FaultProxy::start(&engine.socket());
        let round = round(&engine, &proxy, seed);
        let fleet = Baseline::start(policy, &round).await;
        let outcome = round.run(policy.name(), &fleet).await;
        report(&outcome);
        outcomes.push(outcome);
        drop(fleet);
        drop(proxy);
        engine.clear().await;
    }
    outcomes
}

fn report(outcome: &Outcome) {
    eprintln!("{outcome}");
    if let Some(path) = knob("COVALENCE_STORM_REPORT") {
        let file = std::fs::File::options().create(true).append(true).open(&path);
        writeln!(file.expect("the report's file"), "{}", outcome.line()).expect("a line is written");
    }
}

/// `N` is the first N seeds, `A-B` those from A to B; one where nothing is said.
fn seeds(name: &str) -> RangeInclusive<u64> {
    let Some(text) = knob(name) else { return 1..=1 };
    let number = |text: &str| {
        text.trim().parse().unwrap_or_else(|_| panic!("`{name}` is a number or a range: {text}"))
    };
    match text.split_once('-') {
        Some((first, last)) => number(first)..=number(last),
        None => 1..=number(&text),
    }
}

fn round<'a>(engine: &'a Engine, proxy: &'a FaultProxy, seed: u64) -> Round<'a> {
    let number = |name: &str, default: u64| {
        knob(name)
            .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("`{name}` is a number: {text}")))
    };
    let percent = number("COVALENCE_STORM_PERCENT", FAULT_PERCENT).try_into().expect("at most a hundred");
    let freeze = Duration::from_secs(number("COVALENCE_STORM_FREEZE", FREEZE_SECONDS));
    Round { engine, proxy, seed, percent, freeze }
}

fn knob(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "knobs of a test, documented above")]
    std::env::var(name).ok().filter(|text| !text.is_empty())
}
