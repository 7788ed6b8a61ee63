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
