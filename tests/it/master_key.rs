//! The key behind all keys: replaced while the server runs, and whenever it is killed meanwhile; and what becomes of lost keys.

use std::fs;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};

use super::support::client::Client;
use super::support::platform::{Platform, Settings};

/// Workspaces with a secret each: enough keys that a kill finds the change in its middle.
const WORKSPACES: usize = 24;
/// Kills, spread evenly over the time that a change takes.
const KILLS: u32 = 10;

/// A workspace and its token.
type Agent = (String, String);

async fn agents(platform: &Platform, count: usize) -> Vec<Agent> {
    let admin = platform.admin();
    let mut agents = Vec::new();
    for number in 0..count {
        let wish = json!({
            "name": format!("agent {number}"), "external": true, "secrets": {"OWN_KEY": format!("secret {number}")},
        });
        let created = admin.post("/workspaces", &wish).await.unwrap().expect(201);
        let text = |pointer: &str| created.pointer(pointer).unwrap().as_str().unwrap().to_owned();
        agents.push((text("/id"), text("/connection/auth_token")));
    }
    agents
}

/// Every secret opens for its agent, and every name is readable.
async fn nothing_is_lost(platform: &Platform, agents: &[Agent]) {
    for (number, (id, token)) in agents.iter().enumerate() {
        let agent = Client::new(platform.url.clone(), token.clone());
        let values = agent.get(&format!("/workspaces/{id}/secrets/values")).await.unwrap().expect(200);
        assert_eq!(values["OWN_KEY"], format!("secret {number}"));
        let details = agent.get(&format!("/workspaces/{id}/details")).await.unwrap().expect(200);
        assert_eq!(details["name"], format!("agent {number}"));
    }
}

async fn rotations(platform: &Platform) -> Vec<Value> {
    let facts = platform.admin().log(None, 0).await.unwrap();
    let rotated = facts.iter().filter(|fact| fact.tag == "fleet.master_key_rotated.v1");
    rotated.map(|fact| json!({"in_force": fact.get("in_force"), "master": fact.get("master")})).collect()
}

#[tokio::test]
async fn the_master_key_is_replaced_while_the_server_runs_and_a_kill_in_the_middle_loses_nothing() {
    let mut platform = Platform::start(Settings::process()).await;
    let agents = agents(&platform, WORKSPACES).await;
    let master = platform.data_dir().join("keys/master");
    let first = fs::read_to_string(&master).unwrap();
    let began = Instant::now();
    let output = platform.cli(&["secrets", "rotate-key", "--json"]);
    let whole = began.elapsed();
    assert!(output.status.success(), "{output:?}");
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&said["status"], said["keys"].as_u64().unwrap() > 20), (&json!("replaced"), true), "{said}");
    assert_ne!(fs::read_to_string(&master).unwrap(), first);
    nothing_is_lost(&platform, &agents).await;
    let facts = rotations(&platform).await;
    assert_eq!(facts, [json!({"in_force": true, "master": said["master"]})]);

    let mut changed = 0;
    for kill in 0..KILLS {
        let before = fs::read_to_string(&master).unwrap();
        let admin = platform.admin();
        let asked = tokio::spawn(async move { admin.post("/admin/master-key/rotate", &json!({})).await });
        tokio::time::sleep(whole.mul_f64(f64::from(kill) / f64::from(KILLS))).await;
        platform.kill();
        drop(asked.await);
        platform.launch();
        platform.wait_ready().await;
        nothing_is_lost(&platform, &agents).await;
        let unfinished = platform.data_dir().join("keys/next");
        assert!(!unfinished.exists(), "what a run began the next one ends");
        changed += u32::from(fs::read_to_string(&master).unwrap() != before);
    }
    assert!(changed > 0, "no kill came after the change had begun");
    let keys = fs::read_dir(platform.data_dir().join("keys")).unwrap();
    for path in keys.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some()) {
        let wraps = fs::read_to_string(&path).unwrap().matches("\"master\"").count();
        assert_eq!(wraps, 1, "{} is left under one master key", path.display());
    }
}

#[tokio::test]
async fn a_master_key_from_outside_is_replaced_by_the_start_that_is_given_the_next_one() {
    let key = |byte: u8| STANDARD.encode([byte; 32]);
    let mut platform = Platform::start(Settings::process().env("SECRETS_ENCRYPTION_KEY", key(1))).await;
    let agents = agents(&platform, 3).await;
    let refused = platform.cli(&["secrets", "rotate-key"]);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    let next = platform.home().join("next.key");
    fs::write(&next, format!("{}\n", key(2))).unwrap();
    let output = platform.cli(&["secrets", "rotate-key", "--to", next.to_str().unwrap()]);
    assert!(
        output.status.success() && String::from_utf8_lossy(&output.stdout).starts_with("announced"),
        "{output:?}"
    );
    // A restart in between that has not heard of it.
    platform.terminate();
    platform.launch();
    platform.wait_ready().await;
    nothing_is_lost(&platform, &agents).await;
    platform.terminate();
    platform.set_env("SECRETS_ENCRYPTION_KEY", &key(2));
    platform.launch();
    platform.wait_ready().await;
    nothing_is_lost(&platform, &agents).await;
    let in_force: Vec<Value> =
        rotations(&platform).await.iter().map(|fact| fact["in_force"].clone()).collect();
    assert_eq!(in_force, [json!(false), json!(true)]);
    platform.terminate();
    platform.set_env("SECRETS_ENCRYPTION_KEY", &key(1));
    let refused = platform.cli_without_url(&["serve", "--listen", "127.0.0.1:0"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("is wrapped by another master key"), "{said}");
    for file in [platform.stderr(), said] {
        assert!(!file.contains(&key(1)) && !file.contains(&key(2)), "no line has a key");
    }
    platform.set_env("SECRETS_ENCRYPTION_KEY", &key(2));
    platform.launch();
    platform.wait_ready().await;
    nothing_is_lost(&platform, &agents).await;
}

#[tokio::test]
async fn keys_that_are_lost_are_given_up_by_a_person_alone_and_nothing_else_is() {
    let mut platform = Platform::start(Settings::process()).await;
    let agents = agents(&platform, 3).await;
    let running = platform.cli_without_url(&["secrets", "accept-lost-keys", "--yes"]);
    assert!(!running.status.success(), "not while the server runs: {running:?}");
    platform.terminate();
    let (lost, _) = &agents[2];
    fs::remove_file(platform.data_dir().join(format!("keys/workspace-{lost}.key"))).unwrap();
    let refused = platform.cli_without_url(&["serve", "--listen", "127.0.0.1:0"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("keys which are not there") && said.contains("accept-lost-keys"), "{said}");
    let unasked = platform.cli_without_url(&["secrets", "accept-lost-keys"]);
    assert_eq!(unasked.status.code(), Some(2), "{unasked:?}");
    let accepted = platform.cli_without_url(&["secrets", "accept-lost-keys", "--yes", "--json"]);
    assert!(accepted.status.success(), "{accepted:?}");
    let said: Value = serde_json::from_slice(&accepted.stdout).unwrap();
    assert!(said["fields"].as_u64().unwrap() > 0, "{said}");

    platform.launch();
    platform.wait_ready().await;
    nothing_is_lost(&platform, &agents[..2]).await;
    let admin = platform.admin();
    let path = format!("/workspaces/{lost}");
    assert_eq!(admin.get(&path).await.unwrap().expect(200)["name"], "[sealed]");
    let renamed = admin.send(Method::PATCH, &path, Some(&json!({"name": "again"})), &[]).await.unwrap();
    renamed.expect(200);
    platform.terminate();
    platform.launch();
    platform.wait_ready().await;
    let name = platform.admin().get(&path).await.unwrap().expect(200)["name"].clone();
    assert_eq!(name, "again", "it goes on under a key of its own");
}

#[tokio::test]
async fn a_value_comes_from_stdin_or_a_file_and_is_shown_nowhere() {
    let platform = Platform::start(Settings::process()).await;
    let (id, token) = agents(&platform, 1).await.remove(0);
    let agent = Client::new(platform.url.clone(), token);
    let run = |args: &[&str], input: &str| {
        let output = platform.cli_with_input(args, input);
        let shown =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!shown.contains("value-"), "{shown}");
        (output.status.code().unwrap(), shown)
    };
    let file = platform.home().join("value.txt");
    fs::write(&file, "value-1\nvalue-2\n\n").unwrap();
    assert_eq!(run(&["secrets", "set", "FLEET_KEY", "--from", file.to_str().unwrap()], "").0, 0);
    assert_eq!(run(&["secrets", "set", "OWN_KEY", "--workspace", "agent 0"], "value-3\n").0, 0);
    assert_eq!(run(&["secrets", "set", "EMPTY", "--workspace", &id], "").0, 2, "an empty value is refused");
    let values = async || agent.get(&format!("/workspaces/{id}/secrets/values")).await.unwrap().expect(200);
    assert_eq!(values().await, json!({"FLEET_KEY": "value-1\nvalue-2\n", "OWN_KEY": "value-3"}));
    let (_, listed) = run(&["secrets", "ls", "--workspace", "agent 0"], "");
    assert!(listed.contains("OWN_KEY") && listed.contains("global"), "{listed}");
    assert_eq!(run(&["secrets", "unset", "FLEET_KEY"], "").0, 0);
    assert_eq!(run(&["secrets", "unset", "FLEET_KEY"], "").0, 3, "it is gone");
    assert_eq!(values().await, json!({"OWN_KEY": "value-3"}));
    let argument = platform.cli_with_input(&["secrets", "set", "OWN_KEY", "an-argument"], "");
    assert_eq!(argument.status.code(), Some(2), "a value is never an argument");
}
