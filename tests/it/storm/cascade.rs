//! The cascade that the supervisor exists to prevent, on a real engine: it stands still for a while, somebody takes that for the death
//! of everything that it runs, and what ran well is ended and started anew.
//!
//! The somebody is this platform itself, made naive by a fault hook. Its log is then looked into as the log of any incident.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::engine::Engine;
use super::ours::Ours;
use super::round::{Fleet as _, MEMBERS};
use crate::support::eventually::eventually;
use crate::support::platform::Settings;

/// Longer than a list, a look at each, and the second look before a restart, for which all of them queue up, two at a time.
const FREEZE: Duration = Duration::from_secs(40);
/// Fifteen starts on two cores that others use too, and the platform's limits for those that hung.
const BACK_LIMIT: Duration = Duration::from_secs(240);
/// Of fifteen containers that ran all the time, so many are ended, or it is no cascade.
const ENDED_MIN: usize = 10;

/// Nothing brakes: whatever would hold restarts back is out of reach.
const UNLIMITED: &str = r#"
[supervision]
grace = "0s"
observe_timeout = "5s"
confirm_at_once = 64
bucket_capacity = 1000
brake_deaths_min = 1000
brake_suspects_min = 1000
score_brake = 8
circuit_pings = 10
circuit_calls_min = 10000
circuit_slow = "60s"
in_flight_min = 1000
in_flight_ceiling = 1000
intensity_max = 1000
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cascade_is_explained_by_the_engine_that_stood_still_and_prevented_by_the_policy() {
    let engine = Engine::start().await;
    let host = format!("unix://{}", engine.socket().display());
    let settings = Settings::docker().arg("--naive").env("DOCKER_HOST", host);
    let fleet = Ours::with(&engine, settings, UNLIMITED).await;
    let (begun, before) = (fleet.mark().await + 1, engine.running().await);

    engine.freeze();
    tokio::time::sleep(FREEZE).await;
    engine.thaw();
    eventually("all are online again", BACK_LIMIT, async || {
        let (admitted, online) = (fleet.admitted().await.len(), fleet.online().await?.len());
        let proved = fleet.facts_of("fleet.restart_settled.v1").await;
        if online == MEMBERS && proved >= admitted && admitted >= ENDED_MIN {
            Ok(())
        } else {
            Err(format!("{online} online, {admitted} restarts admitted, {proved} over"))
        }
    })
    .await;
    let after = engine.running().await;
    let ended = before.iter().filter(|(member, container)| after.get(*member) != Some(container)).count();
    assert!(
        ended >= ENDED_MIN,
        "only {ended} containers were ended: the fault is no cascade\n{}",
        fleet.words()
    );

    explained(&fleet, begun, ended);
    prevented(&fleet);
    if let Some(directory) = super::knob("COVALENCE_STORM_CASES") {
        let about = "the engine's process was stopped for 40 s under a naive supervisor; nothing had died";
        fleet.keep(Path::new(&directory), ("naive-cascade", about), begun);
    }
    drop(fleet);
    engine.clear().await;
}

/// The first cause is what was done to the engine, and not what the supervisor made of it.
fn explained(fleet: &Ours, begun: u64, ended: usize) {
    let shown = fleet.said(&["incidents", "show", "--since", &begun.to_string(), "--json"]);
    let report: Value = serde_json::from_str(&shown).expect("JSON");
    let first = &report["causes"][0];
    assert_eq!((&first["kind"], &first["subject"]), (&"engine_slow".into(), &"docker".into()), "{report:#}");
    assert_ne!(first["sure"], "low", "{report:#}");
    let restarts = report["impact"]["restarts_begun"].as_u64().expect("a number");
    assert!(restarts >= ended as u64, "{ended} containers were ended: {report:#}");
}

/// The policy as it is built in would have let hardly any of these restarts begin.
fn prevented(fleet: &Ours) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let built_in = file.path().display().to_string();
    let shown = fleet.said(&["backtest", &built_in, "--json"]);
    let report: Value = serde_json::from_str(&shown).expect("JSON");
    let count = |field: &str| report[field].as_u64().expect("a number");
    let (restarts, avoided) = (count("restarts"), count("avoided"));
    assert!(restarts >= ENDED_MIN as u64, "{report:#}");
    assert!(avoided * 2 > restarts, "only {avoided} of {restarts} restarts avoided: {report:#}");
}
