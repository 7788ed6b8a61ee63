//! Registration, heartbeats and the token, against a platform that says yes, no, later, or nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use covalence_agent::agent::Agent;
use covalence_agent::config::{Config, RuntimeConfig};
use serde_json::json;

use crate::support::{HEARTBEAT, Platform, REGISTER, Running, config, eventually};

async fn agent(platform: SocketAddr, directory: &tempfile::TempDir) -> Agent {
    Agent::start(config(platform, directory.path(), RuntimeConfig::Echo)).await.unwrap()
}

#[tokio::test]
async fn it_registers_its_url_and_card_and_beats_at_once() {
    let running = Running::echo().await;
    let register = running.platform.told(REGISTER, |_| true).await;
    let url = format!("http://{}", running.agent.address);
    assert_eq!(register.body["id"], "w-1");
    assert_eq!(register.body["url"], url);
    assert_eq!(register.body["agent_card"]["url"], url);
    assert_eq!(register.bearer, None);

    let beat = running.platform.told(HEARTBEAT, |_| true).await.body;
    let members: Vec<_> = beat.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        members,
        [
            "active_tasks",
            "current_task",
            "error_rate",
            "monthly_spend",
            "runtime_metadata",
            "runtime_state",
            "sample_error",
            "uptime_seconds",
            "workspace_id"
        ]
    );
    assert_eq!(beat["workspace_id"], "w-1");
    assert_eq!(beat["runtime_metadata"]["capabilities"]["status_mgmt"], false);
    running.platform.told(HEARTBEAT, |told| told.body["uptime_seconds"] == 2).await;
}

#[tokio::test]
async fn a_token_in_the_answer_is_stored_for_the_owner_only_and_used_from_then_on() {
    let platform = Platform::start().await;
    let directory = tempfile::tempdir().unwrap();
    platform.will_answer(REGISTER, 200, json!({"status": "registered", "auth_token": "fresh-token"}));
    let _agent = agent(platform.address, &directory).await;
    platform.told(HEARTBEAT, |told| told.bearer.as_deref() == Some("Bearer fresh-token")).await;
    let path = directory.path().join(".auth_token");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "fresh-token");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_token_in_the_file_is_sent_with_the_first_registration() {
    let platform = Platform::start().await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(".auth_token"), "given\n").unwrap();
    let _agent = agent(platform.address, &directory).await;
    assert_eq!(platform.told(REGISTER, |_| true).await.bearer.as_deref(), Some("Bearer given"));
}

#[tokio::test]
async fn a_401_makes_it_read_the_token_file_again() {
    let platform = Platform::start().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(".auth_token");
    std::fs::write(&path, "old").unwrap();
    let _agent = agent(platform.address, &directory).await;
    platform.told(HEARTBEAT, |told| told.bearer.as_deref() == Some("Bearer old")).await;
    platform.require("new");
    std::fs::write(&path, "new").unwrap();
    platform.told(HEARTBEAT, |told| told.bearer.as_deref() == Some("Bearer new")).await;
}

#[tokio::test]
async fn a_platform_that_stumbles_is_asked_again() {
    let platform = Platform::start().await;
    let directory = tempfile::tempdir().unwrap();
    platform.will_answer(REGISTER, 503, json!({"error": "not ready"}));
    platform.will_answer(REGISTER, 500, json!({"error": "registration failed"}));
    let _agent = agent(platform.address, &directory).await;
    eventually("three registrations", || platform.count(REGISTER) == 3).await;
}

#[tokio::test]
async fn a_platform_that_comes_later_finds_the_agent_waiting() {
    // A port that nobody listens on, at least for the moment.
    let reserved = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let directory = tempfile::tempdir().unwrap();
    let agent = agent(address, &directory).await;
    assert_eq!(crate::support::get(agent.address, "/health").await.status, 200);
    let platform = Platform::start_at(address).await;
    platform.told(REGISTER, |_| true).await;
    platform.told(HEARTBEAT, |_| true).await;
}

#[tokio::test]
async fn a_refused_registration_leaves_heartbeats_that_carry_the_card() {
    let platform = Platform::start().await;
    let directory = tempfile::tempdir().unwrap();
    platform.will_answer(REGISTER, 400, json!({"error": "invalid request body"}));
    let _agent = agent(platform.address, &directory).await;
    let beat = platform.told(HEARTBEAT, |told| told.body["uptime_seconds"] == 1).await;
    assert_eq!(beat.body["agent_card"]["name"], "Ada");
    assert_eq!(platform.count(REGISTER), 1);
}

#[tokio::test]
async fn a_lost_heartbeat_is_repeated_before_the_next_one_is_due() {
    let platform = Platform::start().await;
    let directory = tempfile::tempdir().unwrap();
    platform.will_answer(HEARTBEAT, 503, json!({"error": "not ready"}));
    let patient = Config {
        heartbeat_interval: Duration::from_hours(1),
        ..config(platform.address, directory.path(), RuntimeConfig::Echo)
    };
    let _agent = Agent::start(patient).await.unwrap();
    eventually("two heartbeats", || platform.count(HEARTBEAT) == 2).await;
}
