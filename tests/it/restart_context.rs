//! An agent that was restarted is told so: once for each restart, and never because it was started or adopted.

use std::fs;

use serde_json::json;

use super::support::client::{Client, Fact};
use super::support::eventually::eventually;
use super::support::platform::{ONLINE_LIMIT, Platform, Settings};

/// An agent that writes down every message that it gets, one a line.
const DIARY: &str = r#"
[runtimes.diary]
command = ["/bin/sh", "-c", "{ cat; echo; } >> {home}/heard; echo noted"]
"#;

fn heard(platform: &Platform) -> Vec<String> {
    let text = fs::read_to_string(platform.home().join("heard")).unwrap_or_default();
    text.lines().map(ToOwned::to_owned).collect()
}

/// Waits until so many restarts were announced; answers what is known then.
async fn announced(admin: &Client, id: &str, count: usize) -> Vec<Fact> {
    eventually(&format!("{count} restarts are announced"), ONLINE_LIMIT, async || {
        let facts = admin.log(Some(id), 0).await?;
        let found = facts.iter().filter(|fact| fact.tag == "workspace.restart_announced.v1").count();
        if found == count { Ok(facts) } else { Err(format!("{found}: {facts:#?}")) }
    })
    .await
}

#[tokio::test]
async fn an_agent_hears_of_each_restart_once_and_of_nothing_else() {
    let mut platform = Platform::start(Settings::process().config(DIARY)).await;
    let admin = platform.admin();
    let body = json!({ "name": "Ada", "runtime": "diary" });
    let created = admin.post("/workspaces", &body).await.expect("the platform answers").expect(201);
    let id = created["id"].as_str().expect("an id").to_owned();
    admin.wait_status(&id, "online").await;
    assert_eq!(admin.ask(&id, "hello").await, "noted");
    assert_eq!(heard(&platform), ["hello"], "a first start is nothing to tell");

    platform.kill_workspace(&id);
    let facts = announced(&admin, &id, 1).await;
    let lines = heard(&platform);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[1].starts_with("You were restarted at "), "{lines:?}");
    assert!(lines[1].contains("last heard from at"), "{lines:?}");
    let told = facts.iter().find(|fact| fact.tag == "workspace.restart_announced.v1").expect("it was");
    assert_eq!(told.get("outcome"), "answered");
    let calls = facts.iter().filter(|fact| fact.tag == "workspace.call_finished.v1").count();
    assert_eq!(calls, 1, "the platform's own word is nobody's call");

    platform.kill();
    platform.launch();
    platform.wait_ready().await;
    admin.wait_status(&id, "online").await;
    assert_eq!(admin.ask(&id, "again").await, "noted");
    assert_eq!(
        heard(&platform).len(),
        3,
        "a restart of the platform restarts nobody: {:?}",
        heard(&platform)
    );

    admin.post(&format!("/workspaces/{id}/restart"), &json!({})).await.expect("it answers").expect(200);
    announced(&admin, &id, 2).await;
    let lines = heard(&platform);
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[3].contains("a person asked for it"), "{lines:?}");
}
