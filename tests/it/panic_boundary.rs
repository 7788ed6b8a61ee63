//! A handler that panics takes down nothing but its own command.
//!
//! The panic comes from a fault hook that release builds refuse, so this story needs `--features fault-hooks`
//! (`scripts/test` sets it).

use std::fs;

use futures_util::future::join_all;
use serde_json::json;

use super::support::eventually::eventually;
use super::support::platform::{ONLINE_LIMIT, Platform, Settings};

/// As many workspaces have a call under way while another one's handler panics.
const SIBLINGS: usize = 99;

/// A runtime that answers when it is let: every call is still under way when the panic happens.
const PATIENT: &str = r#"
[runtimes.patient]
command = ["sh", "-c", "touch {home}/called.$$; until [ -e {home}/go ]; do sleep 0.1; done; echo $(cat)"]
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_costs_one_command_and_ninety_nine_calls_in_flight_are_answered() {
    let platform = Platform::start(Settings::process().config(PATIENT)).await;
    let admin = platform.admin();
    let victim = admin.create_online(&["victim".to_owned()]).await.remove(0);
    let siblings = join_all((0..SIBLINGS).map(async |index| {
        let body = json!({ "name": format!("sibling-{index}"), "runtime": "patient" });
        admin.post("/workspaces", &body).await.unwrap().expect(201)["id"].as_str().unwrap().to_owned()
    }))
    .await;
    for id in &siblings {
        admin.wait_status(id, "online").await;
    }
    let calls: Vec<_> = siblings
        .iter()
        .map(|id| {
            let (admin, id) = (admin.clone(), id.clone());
            tokio::spawn(async move { admin.message(&id, "take your time").await })
        })
        .collect();
    eventually("every sibling has a call under way", ONLINE_LIMIT, async || {
        let called = fs::read_dir(platform.home()).map_err(|error| error.to_string())?;
        let open =
            called.flatten().filter(|file| file.file_name().to_string_lossy().starts_with("called.")).count();
        if open == SIBLINGS { Ok(()) } else { Err(format!("{open} calls are under way")) }
    })
    .await;
    let panicked = admin.post(&format!("/workspaces/{victim}/fault/panic"), &json!({})).await.unwrap();

    let missing = "nothing can be made to panic: use `scripts/test`, or --features fault-hooks";
    assert_ne!(panicked.status, 404, "{missing}");
    assert_eq!(panicked.status, 500, "{}", panicked.text);
    assert_eq!(panicked.json()["code"], "internal", "{}", panicked.text);
    fs::write(platform.home().join("go"), "").unwrap();
    for answered in join_all(calls).await {
        let reply = answered.unwrap().expect("the connection holds");
        assert_eq!(reply.status, 200, "{}", reply.text);
    }
    assert_eq!(
        admin.ask(&victim, "still there?").await,
        "echo victim: still there?",
        "the actor was rebuilt"
    );
    let facts = admin.log(Some(&victim), 0).await.expect("the log answers");
    assert!(facts.iter().any(|fact| fact.tag == "workspace.handler_panicked.v1"), "the panic is recorded");
}
