//! A consumer of a named subscription, and a platform that is killed again and again: nothing is missed, and what was
//! acknowledged never comes again.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::support::client::Client;
use super::support::eventually::eventually;
use super::support::platform::{ONLINE_LIMIT, Platform, Settings, kill_rounds};

async fn post(admin: &Client, path: &str, body: Value) -> Value {
    let path = format!("/admin/subscriptions/audit/{path}");
    admin.post(&path, &body).await.expect("the platform answers").expect(200)
}

async fn fetch(admin: &Client, lease: &Value) -> Value {
    post(admin, "fetch", json!({"consumer": "story", "lease": lease, "limit": 7, "wait": 0})).await
}

/// Position and id of each fact.
fn facts(batch: &Value) -> Vec<(u64, String)> {
    let all = batch["facts"].as_array().into_iter().flatten();
    all.map(|fact| {
        (fact["position"].as_u64().expect("a position"), fact["id"].as_str().expect("an id").to_owned())
    })
    .collect()
}

#[tokio::test]
async fn whenever_the_platform_is_killed_each_fact_is_seen_and_none_again_that_was_acknowledged() {
    let mut platform = Platform::start(Settings::process()).await;
    let admin = platform.admin();
    let wish = json!({"name": "audit", "start": "beginning"});
    admin.post("/admin/subscriptions", &wish).await.unwrap().expect(201);
    let (mut seen, mut acked) = (BTreeMap::new(), BTreeSet::new());
    for round in 0..kill_rounds() {
        admin.create(&format!("w{round}")).await;
        let mut lease = Value::Null;
        // Half of each delivery is acknowledged; then the kill comes between a delivery and its answer.
        for _ in 0..2 {
            let batch = fetch(&admin, &lease).await;
            lease = batch["lease"].clone();
            let got = facts(&batch);
            for (position, id) in &got {
                assert!(!acked.contains(position), "{position} was acknowledged, and came again");
                let before = seen.insert(*position, id.clone());
                assert!(before.is_none_or(|before| before == *id), "{position} is another fact now");
            }
            let half: Vec<u64> = got.iter().step_by(2).map(|(position, _)| *position).collect();
            if !half.is_empty() {
                post(&admin, "ack", json!({"lease": lease, "positions": half})).await;
                acked.extend(half);
            }
        }
        fetch(&admin, &lease).await;
        platform.kill();
        platform.launch();
        platform.wait_ready().await;
    }
    let mut lease = Value::Null;
    eventually("everything is settled", ONLINE_LIMIT, async || {
        let batch = fetch(&admin, &lease).await;
        lease = batch["lease"].clone();
        let got = facts(&batch);
        assert!(got.iter().all(|(position, _)| !acked.contains(position)), "came again: {got:?}");
        seen.extend(got.iter().cloned());
        let positions: Vec<u64> = got.iter().map(|(position, _)| *position).collect();
        acked.extend(positions.clone());
        if positions.is_empty() {
            return Ok(());
        }
        post(&admin, "ack", json!({"lease": lease, "positions": positions})).await;
        Err(batch["subscription"].to_string())
    })
    .await;
    let last = acked.last().copied().unwrap_or_default();
    let log = admin.log(None, 0).await.unwrap();
    for fact in log.iter().filter(|fact| fact.position <= last) {
        assert_eq!(seen.get(&fact.position), Some(&fact.id), "position {} was missed", fact.position);
    }
    assert!(seen.len() > 10, "the story saw something: {}", seen.len());
    let listed = platform.cli(&["subscriptions", "ls"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("audit"), "{listed:?}");
    let read = platform.cli(&["subscriptions", "read", "audit", "--ack"]);
    assert_eq!(read.status.code(), Some(4), "the story's consumer has it: {read:?}");
}

fn printed(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// Positions of what `read` printed, and the lease that it named for what is open.
fn read(platform: &Platform, limit: &str) -> (Vec<u64>, String) {
    let output = platform.cli(&["subscriptions", "read", "audit", "--limit", limit]);
    let text = printed(&output);
    let positions = text.lines().map(|line| {
        let fact: Value = serde_json::from_str(line).expect("a line is JSON");
        fact["position"].as_u64().expect("a position")
    });
    let hint = String::from_utf8_lossy(&output.stderr).into_owned();
    let lease = hint.split("--lease ").nth(1).and_then(|rest| rest.split(' ').next());
    (positions.collect(), lease.unwrap_or_else(|| panic!("no lease in {hint}")).to_owned())
}

#[tokio::test]
async fn on_the_command_line_facts_are_read_acknowledged_refused_told_again_and_given_up() {
    let platform = Platform::start(Settings::process()).await;
    let admin = platform.admin();
    for name in ["Ada", "Bob", "Cleo"] {
        admin.create(name).await;
    }
    let audit = |what: &str, rest: &[&str]| {
        let output = platform.cli(&[&["subscriptions", what, "audit"], rest].concat());
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let wish =
        ["--from", "beginning", "--kind", "workspace.created", "--nacks-max", "1", "--ack-within", "300"];
    assert_eq!(audit("create", &wish).0, Some(0));

    let (given, lease) = read(&platform, "2");
    let [ada, bob] = given[..] else { panic!("{given:?}") };
    let (ada, bob) = (ada.to_string(), bob.to_string());
    let (code, said) = audit("ack", &["--lease", &lease, &ada]);
    assert!(code == Some(0) && said.contains("audit: 1 acknowledged"), "{code:?} {said}");
    let (code, said) = audit("nack", &["--lease", &lease, &bob, "--reason", "the disk is full"]);
    assert!(code == Some(0) && said.contains("parked now: 1"), "{code:?} {said}");
    let parked = printed(&platform.cli(&["subscriptions", "parked", "audit"]));
    assert!(
        parked.contains(&bob)
            && parked.contains("workspace.created.v1")
            && parked.contains("the disk is full"),
        "{parked}"
    );
    assert!(!parked.contains(&format!("{ada} ")), "{parked}");

    let (code, said) = audit("replay", &[&bob]);
    assert!(code == Some(0) && said.contains("audit: 1 delivered again"), "{code:?} {said}");
    let (given, again) = read(&platform, "10");
    assert_eq!(given.len(), 2, "the refused one and Cleo's, and not what was acknowledged: {given:?}");
    let cleo = given.iter().max().expect("two").to_string();
    assert!(given.iter().any(|position| position.to_string() == bob), "{given:?}");
    let (code, said) = audit("ack", &["--lease", &lease, &bob]);
    assert_eq!(code, Some(4), "the lease before is lost: {said}");
    assert_eq!(audit("ack", &["--lease", &again, "--up-to", &bob]).0, Some(0));
    let (code, said) = audit("nack", &["--lease", &again, &cleo, "--park"]);
    assert!(code == Some(0) && said.contains("parked now: 1"), "{code:?} {said}");

    let (code, said) = audit("discard", &["--all"]);
    assert!(code == Some(0) && said.contains("audit: 1 given up"), "{code:?} {said}");
    assert_eq!(audit("replay", &[]).0, Some(2), "positions or --all");
    let shown: Value =
        serde_json::from_str(&printed(&platform.cli(&["subscriptions", "show", "audit", "--json"]))).unwrap();
    assert_eq!((&shown["open"], &shown["parked"]), (&json!(0), &json!(0)), "{shown}");
    let left = platform.cli(&["subscriptions", "read", "audit", "--ack"]);
    assert_eq!(printed(&left), "", "each was settled");
    assert_eq!(audit("rm", &[]).0, Some(0));
    assert_eq!(audit("show", &[]).0, Some(3), "it is gone");
}
