//! A workspace that can't be started says why, in words that a person can act on (R20, R26, R27).

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use super::support::eventually::eventually;
use super::support::platform::{ONLINE_LIMIT, Platform, Settings, agent_program};

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
async fn a_port_that_somebody_else_holds_is_named_with_what_to_do() {
    let held = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = held.local_addr().expect("an address").port();
    // Whatever port it is given, somebody was quicker: the real agent is told the one that is held here.
    let home = tempfile::tempdir().expect("a temporary directory");
    let program = home.path().join("unlucky-agent");
    let script = format!("#!/bin/sh\nPORT={port} exec {} \"$@\"\n", agent_program().display());
    fs::write(&program, script).expect("the script is written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it may run");
    let settings = Settings::process().env("COVALENCE_AGENT_PROGRAM", program.display().to_string());
    let failed = provision(settings, &json!({ "name": "Ada", "runtime": "echo" })).await;
    assert_eq!(failed["failure"]["code"], "port_taken", "{failed}");
    assert_eq!(failed["failure"]["retryable"], true, "{failed}");
    let error = failed["last_sample_error"].as_str().expect("a reason");
    assert!(error.contains("port") && error.contains("restart it"), "what to do: {error}");
    assert!(error.to_lowercase().contains("in use"), "what the agent said: {error}");
}

#[tokio::test]
async fn a_program_that_prints_its_secrets_and_ends_does_not_tell_them_in_its_error() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let program = home.path().join("talkative-agent");
    fs::write(&program, "#!/bin/sh\necho \"cannot log in as $WHO with [$DOOR] and $(cat $WORKSPACE_CONFIG_PATH/.auth_token)\"\nexit 3\n")
        .expect("the script is written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it may run");
    let settings = Settings::process().env("COVALENCE_AGENT_PROGRAM", program.display().to_string());
    let wish =
        json!({ "name": "Ada", "runtime": "echo", "secrets": { "DOOR": "open sesame", "WHO": "ann" } });
    let failed = provision(settings, &wish).await;
    let error = failed["last_sample_error"].as_str().expect("a reason");
    assert!(error.contains("cannot log in as ann with [[redacted]] and [redacted]"), "{error}");
    assert!(!failed.to_string().contains("sesame"), "{failed}");
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
