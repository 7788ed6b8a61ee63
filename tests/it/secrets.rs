//! Secrets reach the agents that they are for, and nothing else that the platform writes or shows.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::support::client::{Client, said};
use super::support::eventually::eventually;
use super::support::platform::{Platform, Settings};

const CANARY: &str = "canary-4b7e19c2";
/// A change of one secret restarts a fleet within this on a loaded machine.
const SPREAD_LIMIT: Duration = Duration::from_secs(180);

/// An agent that says how long its secrets are, after the time that it is asked to take.
const TELLS: &str = r#"
[runtimes.tells]
input = "stdin"
command = ["sh", "-c", "read pause; [ $pause = 0 ] || touch {home}/began; sleep $pause; echo own=${#OWN_KEY} all=${#FLEET_KEY} first=${#FIRST_KEY} model=$MODEL_PROVIDER"]
timeout_seconds = 600
"#;

fn with_canary(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            with_canary(&path, found);
            continue;
        }
        let Ok(mut bytes) = fs::read(&path) else { continue };
        if path.extension().is_some_and(|ending| ending == "zst") {
            bytes.extend(zstd::decode_all(bytes.as_slice()).unwrap());
        }
        if bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()) {
            found.push(path);
        }
    }
}

/// Command lines of all processes of this machine.
fn command_lines() -> String {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let own = std::process::id().to_string();
    let others = processes.filter(|entry| entry.file_name().to_str() != Some(own.as_str()));
    others
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .collect()
}

async fn put(client: &Client, path: &str, key: &str, value: &str) -> u16 {
    let body = json!({"key": key, "value": value});
    client.send(Method::PUT, path, Some(&body), &[]).await.unwrap().status
}

/// Fleet members as a whole setting says, twenty where nothing does.
#[expect(clippy::disallowed_methods, reason = "a knob of the tests, documented in scripts/test")]
fn fleet_size() -> usize {
    std::env::var("COVALENCE_FLEET").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

/// Every answer of the API and of the command line that might have it, the server's own words, and all command lines.
async fn everything_shown(platform: &Platform, id: &str) -> String {
    let (admin, own) = (platform.admin(), format!("/workspaces/{id}/secrets"));
    let mut shown = String::new();
    for path in [
        own.as_str(),
        "/settings/secrets",
        "/admin/secrets",
        "/admin/log?limit=1000",
        "/events",
        "/metrics",
        "/workspaces",
        &format!("/workspaces/{id}/activity"),
        &format!("/workspaces/{id}/supervision"),
        &format!("/workspaces/{id}/secrets/values"),
        &format!("/admin/workspaces/{id}/logs"),
        "/diff?from=1&to=2",
        "/admin/timeline?since=1",
        "/openapi.json",
    ] {
        let reply = admin.get(path).await.unwrap();
        // The operator reads no values; everything else answers.
        assert_eq!(reply.status == 200, !path.ends_with("/values"), "{path}: {}", reply.text);
        shown += &reply.text;
    }
    for command in [
        vec!["log", "export"],
        vec!["log", "export", "--format", "csv"],
        vec!["log", "export", "--format", "otlp"],
        vec!["timeline"],
        vec!["explain", id],
        vec!["workspaces", "show", id],
        vec!["events"],
    ] {
        let output = platform.cli(&command);
        assert!(output.status.success(), "{command:?}: {output:?}");
        shown += &String::from_utf8_lossy(&output.stdout);
        shown += &String::from_utf8_lossy(&output.stderr);
    }
    shown += &platform.stderr();
    shown += &command_lines();
    shown
}

#[tokio::test]
async fn a_secret_reaches_its_agent_and_is_in_no_file_answer_log_line_or_command_line() {
    let platform = Platform::start(Settings::process().config(TELLS)).await;
    let admin = platform.admin();
    let wish = json!({"name": "Ada", "runtime": "tells", "secrets": {"FIRST_KEY": format!("{CANARY}-1")}});
    let created = admin.post("/workspaces", &wish).await.unwrap().expect(201);
    let id = created["id"].as_str().unwrap().to_owned();
    admin.wait_status(&id, "online").await;
    let own = format!("/workspaces/{id}/secrets");
    assert_eq!(put(&admin, &own, "OWN_KEY", &format!("{CANARY}-22")).await, 200);
    assert_eq!(put(&admin, "/settings/secrets", "FLEET_KEY", &format!("{CANARY}-333")).await, 200);
    let model = json!({"model": "anthropic:claude"});
    admin.send(Method::PUT, &format!("/workspaces/{id}/model"), Some(&model), &[]).await.unwrap().expect(200);
    let wanted = format!(
        "own={} all={} first={} model=anthropic:claude",
        CANARY.len() + 3,
        CANARY.len() + 4,
        CANARY.len() + 2
    );
    eventually("the agent has them all", SPREAD_LIMIT, async || {
        let answer = admin.message(&id, "0").await.map_err(|error| error.to_string())?;
        let text = if answer.status == 200 { said(&answer.json()) } else { answer.status.to_string() };
        if text.trim() == wanted { Ok(()) } else { Err(text) }
    })
    .await;

    // Bad input with the canary in it, too.
    let too_long = format!("{CANARY}{}", "x".repeat(70_000));
    let refused =
        admin.send(Method::PUT, &own, Some(&json!({"key": "K", "value": too_long})), &[]).await.unwrap();
    assert_eq!((refused.status, &refused.json()["field"]), (400, &json!("value")));
    let shown = refused.text.clone() + &everything_shown(&platform, &id).await;
    assert!(
        !shown.contains(CANARY),
        "{}",
        shown.lines().find(|line| line.contains(CANARY)).unwrap_or_default()
    );
    let mut files = Vec::new();
    with_canary(&platform.data_dir(), &mut files);
    assert!(files.is_empty(), "{files:?}");

    let listed = admin.get(&own).await.unwrap().expect(200);
    let named: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["key"].as_str().unwrap(), one["scope"].as_str().unwrap()))
        .collect();
    assert_eq!(
        named,
        [
            ("FIRST_KEY", "workspace"),
            ("MODEL_PROVIDER", "workspace"),
            ("OWN_KEY", "workspace"),
            ("FLEET_KEY", "global")
        ]
    );
}

#[tokio::test]
async fn only_a_workspaces_own_token_reads_its_values_and_bad_names_are_refused() {
    let platform = Platform::start(Settings::process()).await;
    let admin = platform.admin();
    let created =
        admin.post("/workspaces", &json!({"name": "remote", "external": true})).await.unwrap().expect(201);
    let (id, token) =
        (created["id"].as_str().unwrap(), created["connection"]["auth_token"].as_str().unwrap());
    let agent = Client::new(platform.url.clone(), token.to_owned());
    let own = format!("/workspaces/{id}/secrets");
    for (path, value) in [("/settings/secrets", "for all"), (own.as_str(), "its own")] {
        assert_eq!(put(&admin, path, "SHARED", value).await, 200);
    }
    assert_eq!(put(&admin, "/settings/secrets", "OTHER", "o").await, 200);
    let values = agent.get(&format!("{own}/values")).await.unwrap().expect(200);
    assert_eq!(values, json!({"SHARED": "its own", "OTHER": "o"}));
    let refused = admin.get(&format!("{own}/values")).await.unwrap();
    assert_eq!((refused.status, &refused.json()["error"]), (401, &json!("invalid workspace auth token")));
    for key in ["", "1A", "A-B", "WORKSPACE_ID", "PORT", "COVALENCE_INSTANCE", "ADMIN_TOKEN"] {
        assert_eq!(put(&admin, &own, key, "v").await, 400, "{key}");
    }
    assert_eq!(put(&admin, &own, "EMPTY", "").await, 400);
    let gone = admin.send(Method::DELETE, &format!("{own}/SHARED"), None, &[]).await.unwrap().expect(200);
    assert_eq!(gone, json!({"status": "deleted", "key": "SHARED"}));
    let again = admin.send(Method::DELETE, &format!("{own}/SHARED"), None, &[]).await.unwrap();
    assert_eq!((again.status, &again.json()["error"]), (404, &json!("secret not found")));
    assert_eq!(agent.get(&format!("{own}/values")).await.unwrap().expect(200)["SHARED"], "for all");
}

#[tokio::test]
async fn a_secret_of_all_reaches_a_running_fleet_a_few_at_a_time_and_calls_under_way_finish() {
    let size = fleet_size();
    // Tokens come quickly, so that what may be in flight at once is what limits.
    let config = format!("{TELLS}\n[supervision]\nbucket_refill = 20\n");
    let settings = Settings::process().config(&config).env("RATE_LIMIT", "100000");
    let platform = Platform::start(settings).await;
    let admin = platform.admin().with_limit(SPREAD_LIMIT);
    let mut ids = Vec::new();
    for number in 0..size {
        let wish = json!({"name": format!("agent {number}"), "runtime": "tells"});
        let created = admin.post("/workspaces", &wish).await.unwrap().expect(201);
        ids.push(created["id"].as_str().unwrap().to_owned());
    }
    for id in &ids {
        admin.wait_status(id, "online").await;
    }
    let head = admin.get("/ready").await.unwrap().json()["head"].as_u64().unwrap();
    let (caller, called) = (admin.clone(), ids[0].clone());
    let call = tokio::spawn(async move { caller.message(&called, "3").await.unwrap() });
    let began = platform.home().join("began");
    eventually("the call is under way", SPREAD_LIMIT, async || {
        if began.exists() { Ok(()) } else { Err(format!("no {}", began.display())) }
    })
    .await;
    assert_eq!(put(&admin, "/settings/secrets", "FLEET_KEY", "four").await, 200);

    let answer = call.await.unwrap();
    assert_eq!(answer.status, 200, "a call under way finishes: {}", answer.text);
    assert!(said(&answer.json()).contains("all=0"), "by the agent that had begun it");
    for id in &ids {
        eventually("it has the secret", SPREAD_LIMIT, async || {
            let answer = admin.message(id, "0").await.map_err(|error| error.to_string())?;
            let text = if answer.status == 200 { said(&answer.json()) } else { answer.text };
            if text.contains("all=4") { Ok(()) } else { Err(text) }
        })
        .await;
    }
    let facts = admin.log(None, head).await.unwrap();
    let (mut open, mut restarted) = (BTreeSet::new(), BTreeSet::new());
    let (mut most, mut cap) = (0, 0);
    for fact in &facts {
        let restart = fact.get("restart").as_str().map(str::to_owned);
        match (fact.tag.as_str(), restart) {
            ("fleet.restart_admitted.v1", Some(restart)) => {
                assert_eq!(fact.get("cause"), "configuration");
                assert!(restarted.insert(fact.get("workspace").to_string()), "one restart each: {fact:?}");
                open.insert(restart);
                most = most.max(open.len());
                cap = usize::try_from(fact.get("in_flight_max").as_u64().unwrap()).unwrap();
            }
            ("fleet.restart_settled.v1", Some(restart)) => _ = open.remove(&restart),
            _ => {}
        }
    }
    assert_eq!(restarted.len(), size);
    assert!(most <= cap, "{most} at once, {cap} allowed");
}
