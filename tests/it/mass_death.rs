//! Many at once: half of a fleet dies in the same second, a crash loop outlives the platform, and a whole fleet is found well.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::support::client::{Client, Fact};
use super::support::eventually::eventually;
use super::support::platform::{ONLINE_LIMIT, Platform, Settings};

/// A mass death heals behind a canary, at the pace of proofs; with two hundred on a loaded machine that takes a while.
const HEALED_LIMIT: Duration = Duration::from_secs(300);

/// How many workspaces these stories run.
fn fleet_size() -> usize {
    #[expect(clippy::disallowed_methods, reason = "a knob of the tests, documented in scripts/test")]
    std::env::var("COVALENCE_FLEET").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

async fn fleet(admin: &Client, size: usize) -> Vec<String> {
    admin.create_online(&(0..size).map(|n| format!("w{n}")).collect::<Vec<_>>()).await
}

/// Facts after a position, of everybody.
async fn facts(admin: &Client, after: u64) -> Vec<Fact> {
    admin.log(None, after).await.expect("the log answers")
}

async fn head(admin: &Client) -> u64 {
    facts(admin, 0).await.last().map_or(0, |fact| fact.position)
}

fn about(facts: &[Fact], tag: &str) -> BTreeSet<String> {
    let of = facts.iter().filter(|fact| fact.tag == tag);
    of.filter_map(|fact| fact.line["workspace"].as_str().map(str::to_owned)).collect()
}

/// The most restarts that were in flight at once.
fn in_flight_peak(facts: &[Fact]) -> usize {
    let (mut open, mut peak) = (BTreeSet::new(), 0);
    for fact in facts {
        let restart = || fact.get("restart").to_string();
        match fact.tag.as_str() {
            "fleet.restart_admitted.v1" => drop(open.insert(restart())),
            "fleet.restart_settled.v1" => drop(open.remove(&restart())),
            _ => {}
        }
        peak = peak.max(open.len());
    }
    peak
}

/// R11, R12: proven deaths heal, one first, then at the pace of the tokens, never more at once than the cap.
#[tokio::test]
async fn half_of_a_fleet_that_dies_at_once_heals_behind_a_canary_and_below_the_cap() {
    let size = fleet_size();
    // Proofs and tokens come quickly, so that the story is short; caps and triggers are the usual ones.
    let numbers = "[supervision]\nprobation = \"1s\"\nbucket_refill = 5\ngrace = \"0s\"\n";
    let platform = Platform::start(Settings::process().config(numbers)).await;
    let admin = platform.admin();
    let ids = fleet(&admin, size).await;
    // The other backend's cell has a grace of its own, which may end first.
    eventually("the grace after the start is over", HEALED_LIMIT, async || {
        let over = |fact: &Fact| fact.tag == "fleet.grace_ended.v1" && fact.get("cell") == "process";
        if facts(&admin, 0).await.iter().any(over) { Ok(()) } else { Err("it is not".to_owned()) }
    })
    .await;
    let (paused, rest) = ids.split_at(2);
    for id in paused {
        admin.post(&format!("/workspaces/{id}/pause"), &json!({})).await.unwrap().expect(200);
    }
    let (dead, alive) = rest.split_at(size / 2);
    let before = platform.running();
    let from = head(&admin).await;

    for id in dead {
        platform.kill_workspace(id);
    }

    eventually("all that died are back", HEALED_LIMIT, async || {
        let back = about(&facts(&admin, from).await, "workspace.came_online.v1");
        let missing: Vec<_> = dead.iter().filter(|id| !back.contains(*id)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{} of {} are not", missing.len(), dead.len())) }
    })
    .await;
    let facts = facts(&admin, from).await;
    let peak = in_flight_peak(&facts);
    assert!(peak <= (size / 10).max(2), "{peak} restarts at once");
    let brake = facts.iter().find(|fact| fact.tag == "fleet.brake_engaged.v1").expect("a brake engaged");
    assert_eq!((brake.get("mode"), brake.get("trigger")), (&json!("canary"), &json!("deaths")));
    let started = about(&facts, "workspace.provision_requested.v1");
    assert_eq!(started, dead.iter().cloned().collect(), "the dead are started, and nobody else");
    let after = platform.running();
    for id in alive {
        assert_eq!(before.get(id), after.get(id), "what lived goes on as it was");
    }
    for id in paused {
        assert!(!after.contains_key(id), "pause is a wish that every loop obeys");
    }
}

/// Crash counts live in the log: killing the platform in the middle of a crash loop forgets none.
#[tokio::test]
async fn a_crash_loop_ends_after_five_restarts_though_the_platform_is_killed_in_the_middle_of_it() {
    let numbers = "[supervision]\nbackoff_base = \"50ms\"\nbackoff_cap = \"50ms\"\nbucket_capacity = 20\n";
    let mut platform = Platform::start(Settings::process().config(numbers)).await;
    let admin = platform.admin();
    let id = admin.create_online(&["Ada".to_owned()]).await.remove(0);
    for death in 1..=6 {
        let known = platform.running()[&id].clone();
        if death == 4 {
            platform.kill();
            platform.kill_workspace(&id);
            platform.launch();
            platform.wait_ready().await;
        } else {
            platform.kill_workspace(&id);
        }
        if death <= 5 {
            eventually("its next generation is online", ONLINE_LIMIT, async || {
                let now = platform.running().get(&id).cloned();
                let row = admin.row(&id).await?;
                let back = now.is_some_and(|now| now != known) && row["status"] == "online";
                if back { Ok(()) } else { Err(row.to_string()) }
            })
            .await;
        }
    }
    admin.wait_status(&id, "failed").await;
    let facts = facts(&admin, 0).await;
    let admitted = facts.iter().filter(|fact| fact.tag == "fleet.restart_admitted.v1").count();
    assert_eq!(admitted, 5);
    let refused = facts.iter().find(|fact| fact.tag == "fleet.restart_suppressed.v1").expect("a refusal");
    assert_eq!(refused.get("rule"), "intensity");
}

/// R12, R52: our own absence is held against nobody.
#[tokio::test]
async fn a_platform_that_comes_back_over_a_healthy_fleet_restarts_nobody_and_calls_nobody_offline() {
    let size = fleet_size();
    let mut platform = Platform::start(Settings::process()).await;
    let admin = platform.admin();
    let ids = fleet(&admin, size).await;
    let (before, from) = (platform.running(), head(&admin).await);

    platform.kill();
    platform.launch();
    platform.wait_ready().await;

    eventually("everybody is adopted", ONLINE_LIMIT, async || {
        let adopted = about(&facts(&admin, from).await, "workspace.instance_adopted.v1");
        if adopted.len() == size { Ok(()) } else { Err(format!("{} of {size}", adopted.len())) }
    })
    .await;
    for tag in
        ["workspace.restart_requested.v1", "workspace.went_offline.v1", "workspace.provision_requested.v1"]
    {
        assert_eq!(about(&facts(&admin, from).await, tag), BTreeSet::new(), "{tag}");
    }
    assert_eq!(before, platform.running(), "the same processes");
    assert_eq!(admin.ask(&ids[0], "still there?").await, "echo w0: still there?");
}
