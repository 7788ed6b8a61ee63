//! A workspace that can't be started says why, in words that a person can act on (R20, R26, R27).

use serde_json::{Value, json};

use super::support::eventually::eventually;
use super::support::platform::{ONLINE_LIMIT, Platform, Settings};

#[tokio::test]
async fn a_missing_program_is_named() {
    let settings = Settings::process().env("COVALENCE_AGENT_PROGRAM", "/nowhere/covalence-agent");
    let failed = provision(settings, &json!({ "name": "Ada", "runtime": "echo" })).await;
    let error = failed["last_sample_error"].as_str().expect("a reason");
    assert!(error.contains("covalence-agent"), "{error}");
}

#[tokio::test]
async fn a_program_that_ends_at_once_is_failed_and_not_started_for_ever() {
    let settings = Settings::process().env("COVALENCE_AGENT_PROGRAM", "/bin/false");
    let failed = provision(settings, &json!({ "name": "Ada", "runtime": "echo" })).await;
    let error = failed["last_sample_error"].as_str().expect("a reason");
    assert!(error.contains("exit") || error.contains("status"), "{error}");
}

#[tokio::test]
async fn a_missing_configuration_is_named() {
    let settings =
        Settings::process().config("[runtimes.bare]\ncommand = [\"cat\"]\nneeds_template = true\n");
    let failed = provision(settings, &json!({ "name": "Ada", "runtime": "bare" })).await;
    let error = failed["last_sample_error"].as_str().expect("a reason");
    assert!(error.contains("no config.yaml source"), "{error}");
}

#[tokio::test]
async fn an_engine_that_is_down_is_named() {
    let settings = Settings::default()
        .arg("--backend")
        .arg("docker")
        .env("DOCKER_HOST", "unix:///nowhere/docker.sock")
        .env("RATE_LIMIT", "1000000");
    let failed = provision(settings, &json!({ "name": "Ada", "runtime": "echo" })).await;
    let error = failed["last_sample_error"].as_str().expect("a reason");
    assert!(error.to_lowercase().contains("docker"), "{error}");
}

/// Creates a workspace that can't start; answers its row once it is `failed`.
async fn provision(settings: Settings, body: &Value) -> Value {
    let platform = Platform::start(settings).await;
    let admin = platform.admin();
    let created = admin.post("/workspaces", body).await.expect("the platform answers").expect(201);
    let id = created["id"].as_str().expect("an id");
    eventually("the workspace is failed, with a reason", ONLINE_LIMIT, async || {
        let row = admin.row(id).await?;
        let told = row["last_sample_error"].as_str().is_some_and(|error| !error.is_empty());
        if row["status"] == "failed" && told { Ok(row) } else { Err(row.to_string()) }
    })
    .await
}
