//! A disk that answers the server's flush with an error: the log shuts until a restart, which finds everything that was acknowledged.
//!
//! The log lies on a file system in user space that fails syncs when told to, so that the error comes from the kernel.

use serde_json::{Value, json};

use super::support::client::said;
use super::support::eventually::eventually;
use super::support::platform::{ONLINE_LIMIT, Platform, Settings};
use super::support::receiver::receiver;

#[path = "../../events/tests/crueldisk/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    clippy::print_stdout,
    reason = "a disk that fails is all that is needed of it here; it says where it is still mounted"
)]
mod crueldisk;

use crueldisk::{Image, Mounted};

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_that_fails_shuts_the_log_until_a_restart_and_calls_and_reads_go_on() {
    let (url, heard) = receiver().await;
    let disk = Mounted::new(&Image::default());
    let settings = Settings::process();
    let settings = settings.env("COVALENCE_ALARMS_EVERY", "100ms").env("COVALENCE_ALARM_WEBHOOK", &url);
    let mut platform = Platform::prepare(settings);
    std::fs::create_dir_all(platform.data_dir()).unwrap();
    std::os::unix::fs::symlink(disk.root(), platform.data_dir().join("events")).unwrap();
    platform.launch();
    platform.wait_ready().await;
    let admin = platform.admin();
    let id = admin.create_online(&["Ada".to_owned()]).await.remove(0);
    let before = admin.log(None, 0).await.unwrap();
    let instance = platform.running()[&id].clone();

    disk.disk().refuse_syncs(true);
    let refused = admin.post("/workspaces", &json!({"name": "Bob", "runtime": "echo"})).await.unwrap();
    let refused = refused.expect(503);
    let detail = refused["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("sync the store") && detail.contains("restart the server"), "{refused}");
    let asked = disk.disk().refused_syncs();
    assert!(asked > 0);
    // The disk is well again, and whether what was written is on it nobody can know.
    disk.disk().refuse_syncs(false);
    for _ in 0..3 {
        let refused = admin.post(&format!("/workspaces/{id}/pause"), &json!({})).await.unwrap();
        assert_eq!(refused.status, 503, "{}", refused.text);
    }
    let reply = admin.message(&id, "hello").await.unwrap();
    assert_eq!(reply.headers["x-covalence-recorded"], "false");
    assert_eq!(said(&reply.expect(200)), "echo Ada: hello");
    let shown = admin.log(None, 0).await.unwrap();
    assert!(
        shown.iter().all(|fact| !fact.line.to_string().contains("Bob")),
        "what was not durable is not shown"
    );
    let ready = admin.get("/ready").await.unwrap();
    assert!(ready.status == 503 && ready.text.contains("restart the server"), "{}", ready.text);
    eventually("somebody is called", ONLINE_LIMIT, async || {
        let heard = heard.lock().unwrap();
        let called = heard.iter().any(|notice| notice["kind"] == "log_read_only");
        if called { Ok(()) } else { Err(format!("{heard:?}")) }
    })
    .await;

    assert!(platform.terminate().success());
    platform.launch();
    platform.wait_ready().await;
    let admin = platform.admin();
    admin.wait_status(&id, "online").await;
    assert_eq!(platform.running()[&id], instance, "a restart of the platform restarts no workspace");
    let after = admin.log(None, 0).await.unwrap();
    assert!(after.iter().zip(&before).all(|(after, before)| after.line == before.line));
    admin.create_online(&["Eve".to_owned()]).await;
    let verified = platform.cli(&["log", "verify", "--json"]);
    let verified: Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!(verified["problems"], json!([]), "{verified}");
    assert!(platform.terminate().success());
}
