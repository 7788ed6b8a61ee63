//! The disk of the data directory fills while the server runs: it calls somebody, shuts its log and nothing else, and goes on by
//! itself when there is room.
//!
//! Each story has a small ext4 of its own in a loop device. Needs to be root, to mount it; without that it says so and checks nothing.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::support::client::{Client, Fact, Reply, said};
use super::support::eventually::eventually;
use super::support::platform::{ONLINE_LIMIT, Platform, Settings};
use super::support::receiver::receiver;

const MIB: u64 = 1 << 20;
/// Large enough that its last five percent are more than the log keeps in reserve.
const DISK: u64 = 2048 * MIB;
const UNRECORDED: &str = "x-covalence-recorded";

/// An ext4 where the data directory of a platform will be. Unmounted when it goes out of scope.
struct SmallDisk {
    mounted: PathBuf,
    filler: PathBuf,
}

impl SmallDisk {
    fn mount(platform: &Platform) -> Option<Self> {
        let (image, mounted) = (platform.home().join("disk"), platform.data_dir());
        File::create(&image).unwrap().set_len(DISK).unwrap();
        std::fs::create_dir_all(&mounted).unwrap();
        let made = run("mkfs.ext4", &["-q", "-m", "0", "-O", "^has_journal"], &[&image])
            && run("mount", &["-o", "loop"], &[&image, &mounted]);
        if !made {
            eprintln!("no file system can be mounted: nothing was checked");
            return None;
        }
        Some(Self { filler: mounted.join("filler"), mounted })
    }

    /// Leaves so many bytes free, and never more than that or than there are.
    fn leave(&self, bytes: u64) {
        let (free, filled) = (self.free(), std::fs::metadata(&self.filler).map_or(0, |file| file.len()));
        let length = (filled + free).checked_sub(bytes).unwrap();
        if length > filled {
            assert!(run("fallocate", &["-l", &length.to_string()], &[&self.filler]));
        } else {
            File::options().write(true).open(&self.filler).unwrap().set_len(length).unwrap();
        }
        let left = self.free();
        assert!(left.abs_diff(bytes) < 2 * MIB, "{left} instead of {bytes}");
    }

    fn empty(&self) {
        std::fs::remove_file(&self.filler).unwrap();
    }

    fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.mounted).unwrap();
        stat.f_bavail * stat.f_frsize
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run("umount", &["--lazy"], &[&self.mounted]);
    }
}

fn run(program: &str, args: &[&str], paths: &[&Path]) -> bool {
    Command::new(program).args(args).args(paths).output().is_ok_and(|output| output.status.success())
}

/// Which alarms were told so far, in order, and whether each is an end.
fn told(heard: &Arc<Mutex<Vec<Value>>>) -> Vec<(String, bool)> {
    let heard = heard.lock().unwrap();
    let kind = |notice: &Value| notice["kind"].as_str().unwrap_or_default().to_owned();
    heard.iter().map(|notice| (kind(notice), notice["resolved"] == true)).collect()
}

async fn until_told(heard: &Arc<Mutex<Vec<Value>>>, expected: &[(&str, bool)]) {
    let expected: Vec<_> = expected.iter().map(|(kind, over)| ((*kind).to_owned(), *over)).collect();
    eventually("somebody is called", ONLINE_LIMIT, async || {
        let told = told(heard);
        if told == expected { Ok(()) } else { Err(format!("{told:?} instead of {expected:?}")) }
    })
    .await;
}

/// Waits until the server says that its log is shut, or open again.
async fn until_recording(anonymous: &Client, recording: bool) {
    eventually("the log shuts or opens", ONLINE_LIMIT, async || {
        let health = anonymous.get("/health").await.map_err(|error| error.to_string())?;
        if health.json()["recording"] == recording { Ok(()) } else { Err(health.text) }
    })
    .await;
}

/// Makes the server notice: it looks when it has something to write.
async fn shut(disk: &SmallDisk, platform: &Platform) {
    disk.leave(30 * MIB);
    let admin = platform.admin();
    eventually("a write is refused", ONLINE_LIMIT, async || {
        let body = json!({"title": "something that needs room"});
        let reply = admin.post("/incidents", &body).await.map_err(|error| error.to_string())?;
        if reply.status == 503 { Ok(()) } else { Err(reply.text) }
    })
    .await;
    until_recording(&platform.anonymous(), false).await;
}

fn unrecorded(reply: &Reply) -> bool {
    reply.headers.get(UNRECORDED).is_some_and(|value| value == "false")
}

async fn metric(admin: &Client, name: &str) -> String {
    let text = admin.get("/metrics").await.unwrap().text;
    let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
    line.and_then(|line| line.split(' ').nth(1)).unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
}

fn settings() -> Settings {
    Settings::process().env("COVALENCE_ALARMS_EVERY", "100ms")
}

#[tokio::test]
async fn each_level_of_free_space_is_told_once_also_when_the_log_takes_nothing_any_more() {
    let (url, heard) = receiver().await;
    let mut platform = Platform::prepare(settings().env("COVALENCE_ALARM_WEBHOOK", &url));
    let Some(disk) = SmallDisk::mount(&platform) else { return };
    platform.launch();
    platform.wait_ready().await;
    let admin = platform.admin();
    let (twenty, ten, five) = (("low_space:20", false), ("low_space:10", false), ("low_space:5", false));

    disk.leave(DISK * 15 / 100);
    until_told(&heard, &[twenty]).await;
    disk.leave(DISK * 21 / 100);
    disk.leave(DISK * 19 / 100);
    disk.leave(DISK * 8 / 100);
    until_told(&heard, &[twenty, ten]).await;
    disk.leave(DISK * 4 / 100);
    until_told(&heard, &[twenty, ten, five]).await;
    let free: u64 = metric(&admin, "covalence_data_free_bytes").await.parse().unwrap();
    assert!(free.abs_diff(disk.free()) < 4 * MIB, "{free}");
    let share: f64 = metric(&admin, "covalence_data_free_ratio").await.parse().unwrap();
    assert!(share < 0.05, "{share}");
    let status = platform.cli(&["status"]);
    let shown = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(shown.contains("low_space:5") && shown.contains("make room"), "{shown}");
    assert_eq!(admin.get("/ready").await.unwrap().status, 200, "it takes work");

    shut(&disk, &platform).await;
    let shut_too = ("log_read_only", false);
    until_told(&heard, &[twenty, ten, five, shut_too]).await;
    let ready = admin.get("/ready").await.unwrap();
    assert!(ready.status == 503 && ready.text.contains("log_read_only"), "{}", ready.text);
    let gauge = r#"covalence_alarms_active{kind="log_read_only"}"#;
    assert_eq!(metric(&admin, gauge).await, "1");
    let shown = String::from_utf8_lossy(&platform.cli(&["status"]).stdout).into_owned();
    assert!(shown.contains("log_read_only"), "though no log has it: {shown}");

    disk.empty();
    eventually("all is over", ONLINE_LIMIT, async || {
        let told = told(&heard);
        if told.iter().filter(|(_, over)| *over).count() == 4 { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
    eventually("the log has all of it", ONLINE_LIMIT, async || {
        let facts = admin.log(None, 0).await?;
        let alarms: Vec<_> = facts.iter().filter(|fact| fact.tag.starts_with("fleet.alarm_")).collect();
        let raised = alarms.iter().filter(|fact| fact.tag == "fleet.alarm_raised.v1");
        let raised: Vec<_> = raised.filter_map(|fact| fact.get("kind").as_str()).collect();
        let all = ["low_space:20", "low_space:10", "low_space:5", "log_read_only"];
        if raised == all && alarms.len() == 8 { Ok(()) } else { Err(format!("{raised:?} {}", alarms.len())) }
    })
    .await;
    assert_eq!(told(&heard).len(), 8, "told once each: {:?}", told(&heard));
    assert!(platform.terminate().success());
}

#[tokio::test]
async fn a_full_disk_shuts_the_log_and_nothing_else_and_loses_nothing() {
    let mut platform = Platform::prepare(settings());
    let Some(disk) = SmallDisk::mount(&platform) else { return };
    platform.launch();
    platform.wait_ready().await;
    let admin = platform.admin();
    let id = admin.create_online(&["Ada".to_owned()]).await.remove(0);
    assert!(!unrecorded(&admin.get("/workspaces").await.unwrap()));
    let before = admin.log(None, 0).await.unwrap();

    shut(&disk, &platform).await;
    for path in ["/workspaces", "/admin/log?after=0", "/admin/supervision", "/metrics", "/ready", "/health"] {
        let reply = admin.get(path).await.unwrap();
        assert!(unrecorded(&reply), "{path}");
        assert_eq!(reply.status, if path == "/ready" { 503 } else { 200 }, "{path}: {}", reply.text);
    }
    for text in ["one", "two", "three"] {
        let reply = admin.message(&id, text).await.unwrap();
        assert!(unrecorded(&reply));
        assert_eq!(said(&reply.expect(200)), format!("echo Ada: {text}"));
    }
    let changes = [
        ("/workspaces".to_owned(), json!({"name": "Bob", "runtime": "echo"})),
        (format!("/workspaces/{id}/pause"), json!({})),
        ("/admin/secrets".to_owned(), json!({"key": "A_KEY", "value": "x"})),
        ("/admin/holds".to_owned(), json!({"scope": "fleet", "reason": "wait", "lasts": "1h"})),
    ];
    for (path, body) in changes {
        let reply = admin.post(&path, &body).await.unwrap();
        let refused = reply.clone().expect(503);
        assert!(unrecorded(&reply) && reply.headers.contains_key("retry-after"), "{path}");
        assert_eq!(refused["code"], "platform_unavailable", "{refused}");
        let detail = refused["detail"].as_str().unwrap_or_default();
        assert!(detail.contains("low space") && detail.contains("make room"), "{path}: {refused}");
    }
    assert_eq!(admin.row(&id).await.unwrap()["status"], "online", "it goes on");

    disk.empty();
    until_recording(&platform.anonymous(), true).await;
    assert!(!unrecorded(&admin.get("/workspaces").await.unwrap()));
    let bob = admin.create_online(&["Bob".to_owned()]).await.remove(0);
    eventually("the calls are recorded after all", ONLINE_LIMIT, async || {
        let facts = admin.log(Some(&id), 0).await?;
        let calls = facts.iter().filter(|fact| fact.tag == "workspace.call_finished.v1").count();
        if calls == 3 { Ok(()) } else { Err(calls.to_string()) }
    })
    .await;
    let after = admin.log(None, 0).await.unwrap();
    let lines = |facts: &[Fact]| facts.iter().map(|fact| fact.line.clone()).collect::<Vec<_>>();
    assert_eq!(lines(&after[..before.len()]), lines(&before));
    assert!(after.iter().zip(1..).all(|(fact, position)| fact.position == position), "no gap");
    let verified = platform.cli(&["log", "verify", "--json"]);
    let verified: Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!(verified["problems"], json!([]), "{verified}");
    assert!(platform.terminate().success());
    platform.launch();
    platform.wait_ready().await;
    platform.admin().wait_status(&bob, "online").await;
    assert!(platform.terminate().success());
}

#[tokio::test]
async fn who_dies_while_the_disk_is_full_is_restarted_afterwards_and_no_healthy_one_is() {
    let mut platform = Platform::prepare(settings());
    let Some(disk) = SmallDisk::mount(&platform) else { return };
    platform.launch();
    platform.wait_ready().await;
    let admin = platform.admin();
    let team = admin.create_online(&["Ada".to_owned(), "Bob".to_owned(), "Eve".to_owned()]).await;
    let (ada, bob, eve) = (&team[0], &team[1], &team[2]);
    let before = platform.running();

    shut(&disk, &platform).await;
    platform.kill_workspace(ada);
    eventually("it is gone", ONLINE_LIMIT, async || match platform.running().get(ada) {
        None => Ok(()),
        Some(running) => Err(running.clone()),
    })
    .await;
    // Several lists of what runs go by: none of what they show may be acted on.
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert!(!platform.running().contains_key(ada), "nothing is started that nobody records");
    assert_eq!(admin.ask(bob, "still there?").await, "echo Bob: still there?");

    disk.empty();
    until_recording(&platform.anonymous(), true).await;
    eventually("it runs again", ONLINE_LIMIT, async || match platform.running().get(ada) {
        Some(now) if *now != before[ada] => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    admin.wait_status(ada, "online").await;
    assert_eq!(admin.ask(ada, "again").await, "echo Ada: again");
    let requests =
        |facts: Vec<Fact>| facts.iter().filter(|fact| fact.tag == "workspace.restart_requested.v1").count();
    assert_eq!(requests(admin.log(Some(ada), 0).await.unwrap()), 1);
    for id in [bob, eve] {
        assert_eq!(platform.running()[id], before[id], "it was left alone");
        assert_eq!(requests(admin.log(Some(id), 0).await.unwrap()), 0);
        assert_eq!(admin.row(id).await.unwrap()["status"], "online");
    }
    let fleet = admin.get("/admin/supervision").await.unwrap().expect(200);
    assert_eq!((&fleet["in_flight"], &fleet["waiting"]), (&json!([]), &json!([])), "{fleet}");
    assert!(platform.terminate().success());
}
