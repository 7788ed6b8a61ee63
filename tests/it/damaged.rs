//! The log is damaged while the server runs: who reads what is damaged is told where, somebody is called, and nobody else notices.

use std::fs;
use std::path::PathBuf;

use covalence_events::workspace::Notified;
use covalence_events::{EventId, Fact, Meta, NewEvent, StreamId};
use serde_json::{Value, json};

use super::rolled_up;
use super::support::client::Client;
use super::support::eventually::eventually;
use super::support::platform::{ONLINE_LIMIT, Platform, Settings};
use super::support::receiver::receiver;

/// The files of the archive's first part but its table.
fn first_segments(platform: &Platform) -> Vec<PathBuf> {
    let archive = platform.data_dir().join("events/archive");
    let part = fs::read_dir(archive).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    let files = fs::read_dir(part).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> = files.filter(|path| !path.ends_with("table")).collect();
    segments.sort();
    segments
}

async fn conditions(admin: &Client) -> Value {
    admin.get("/ready").await.unwrap().expect(200)["conditions"].clone()
}

/// What the command says of the running server's log: whether it is sound, and what is wrong.
fn verify(platform: &Platform) -> (bool, Value) {
    let output = platform.cli(&["log", "verify", "--json"]);
    let said: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.success(), said["problems"].clone())
}

/// A read of the log's first fact meets the damage, and names it.
async fn meets(admin: &Client, file: &str) {
    let refused = admin.get("/admin/log?after=0&limit=1").await.unwrap().expect(500);
    assert_eq!(refused["code"], "log_damaged", "{refused}");
    let detail = refused["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("position 1") && detail.contains(file), "{refused}");
}

async fn until_over(admin: &Client) {
    eventually("the alarm is over", ONLINE_LIMIT, async || match conditions(admin).await {
        on if on == json!([]) => Ok(()),
        on => Err(on.to_string()),
    })
    .await;
}

/// Facts of a page each: more than the log keeps of its archive in memory.
const PAGES: u64 = 2_500;

/// A log that does not fit into memory.
fn long_story() -> Vec<(StreamId, NewEvent)> {
    let mut facts = rolled_up::story(chrono::Utc::now());
    let (stream, last) = facts.last().cloned().unwrap();
    facts.extend((0..PAGES).map(|page| {
        let message = format!("{page} {}", "all is well ".repeat(330));
        let fact = Fact::Workspace(Notified { message, attachments: None }.into());
        let meta = Meta { id: EventId::generate(), ..last.meta.clone() };
        (stream, NewEvent { meta, fact })
    }));
    facts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_and_a_missing_file_are_named_told_and_held_against_nobody() {
    let (url, heard) = receiver().await;
    let settings = Settings::process();
    let settings = settings.env("COVALENCE_ALARMS_EVERY", "100ms").env("COVALENCE_ALARM_WEBHOOK", &url);
    let mut platform = Platform::prepare(settings);
    fs::create_dir_all(platform.data_dir()).unwrap();
    let facts = long_story();
    let log = rolled_up::recorded(&platform.data_dir().join("events"), facts.into_iter()).await;
    covalence_events::log::EventLog::close(&log).await;
    drop(log);
    platform.launch();
    platform.wait_ready().await;
    let admin = platform.admin();
    let id = admin.create_online(&["Ada".to_owned()]).await.remove(0);
    let instance = platform.running()[&id].clone();

    // Whoever read the beginning lately would go on from what is in memory, rightly: the end takes its place there.
    eventually("everything is exported", ONLINE_LIMIT, async || {
        let ready = admin.get("/ready").await.map_err(|error| error.to_string())?.json();
        if ready["export"]["position"].as_u64() > Some(PAGES) { Ok(()) } else { Err(ready.to_string()) }
    })
    .await;
    admin.log(None, 0).await.unwrap();

    let file = first_segments(&platform).remove(0);
    let (name, sound) = (file.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&file).unwrap());
    let mut flipped = sound.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    fs::write(&file, &flipped).unwrap();
    meets(&admin, &name).await;
    eventually("somebody is called", ONLINE_LIMIT, async || {
        let heard = heard.lock().unwrap();
        let notice = heard.iter().find(|notice| notice["kind"] == "log_damaged");
        let message = notice.and_then(|notice| notice["message"].as_str()).unwrap_or_default();
        if message.contains(&name) { Ok(()) } else { Err(format!("{heard:?}")) }
    })
    .await;
    assert_eq!(conditions(&admin).await[0]["kind"], "log_damaged");
    let metrics = admin.get("/metrics").await.unwrap().text;
    assert!(metrics.contains("covalence_log_read_failures_total"), "{metrics}");

    // Who has nothing to do with it: the rest of the log, the workspace, a new one.
    assert_eq!(admin.get("/admin/log?after=1000&limit=1").await.unwrap().status, 200);
    assert_eq!(admin.ask(&id, "there?").await, "echo Ada: there?");
    admin.create_online(&["Bob".to_owned()]).await;
    assert_eq!(platform.running()[&id], instance);

    let (is_sound, problems) = verify(&platform);
    assert!(!is_sound && problems.to_string().contains(&name), "{problems}");

    fs::remove_file(&file).unwrap();
    meets(&admin, &name).await;
    let (is_sound, problems) = verify(&platform);
    assert!(!is_sound && problems.to_string().contains(&name), "{problems}");

    fs::write(&file, &sound).unwrap();
    let (is_sound, problems) = verify(&platform);
    assert!(is_sound, "{problems}");
    until_over(&admin).await;
    assert_eq!(admin.get("/admin/log?after=0&limit=1").await.unwrap().status, 200);
    assert!(platform.terminate().success());
}
