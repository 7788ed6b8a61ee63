//! The log leaves the machine in segments and comes back: backup of a running server, a destroyed store, a damaged one.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use super::support::eventually::eventually;
use super::support::platform::{ONLINE_LIMIT, Platform, Settings};

fn path(path: &Path) -> String {
    path.display().to_string()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a command that succeeds prints.
fn done(output: &Output) -> Value {
    assert!(output.status.success(), "{}{}", stderr(output), String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {output:?}"))
}

/// The end of a start that does not come about: its exit code and its words.
fn refused(platform: &Platform) -> String {
    let start = platform.cli_without_url(&["serve", "--listen", "127.0.0.1:0", "--backend", "process"]);
    assert_eq!(start.status.code(), Some(1), "{}", stderr(&start));
    stderr(&start)
}

#[tokio::test]
async fn a_log_that_was_backed_up_online_gives_the_same_answers_after_its_store_is_destroyed() {
    let mut platform = Platform::start(Settings::process()).await;
    let admin = platform.admin();
    let team = admin.create_online(&["one".to_owned(), "two".to_owned()]).await;
    admin.post(&format!("/workspaces/{}/pause", team[1]), &json!({})).await.unwrap().expect(200);
    admin.wait_status(&team[1], "paused").await;

    let backup = path(&platform.home().join("backup"));
    let first = done(&platform.cli(&["log", "backup", &backup, "--json"]));
    assert_eq!((&first["had"], &first["segments"]), (&json!(0), &json!(1)), "{first}");
    let sound = done(&platform.cli(&["log", "verify", "--segments", &backup, "--json"]));
    assert_eq!((&sound["head"], &sound["problems"]), (&first["position"], &json!([])));

    assert!(platform.terminate().success());
    let second = done(&platform.cli(&["log", "backup", &backup, "--json"]));
    assert_eq!(second["had"], first["position"], "only what is new");
    let whole = done(&platform.cli(&["log", "verify", "--json"]));
    assert_eq!(whole["head"], second["position"]);
    assert!(whole["checkpoints"].as_u64() >= Some(1), "one is signed when the server stops: {whole}");

    let log = platform.data_dir().join("events");
    let occupied = platform.cli(&["log", "restore", "--from", &backup]);
    assert_eq!(occupied.status.code(), Some(4));
    assert!(stderr(&occupied).contains("is not empty"), "{}", stderr(&occupied));
    fs::remove_dir_all(&log).unwrap();
    let words = refused(&platform);
    assert!(
        words.contains("there is no log in") && words.contains("covalence log restore --from"),
        "{words}"
    );
    assert!(!log.exists(), "an empty log was begun");

    let restored = done(&platform.cli(&["log", "restore", "--from", &backup, "--json"]));
    assert_eq!(restored["head"], whole["head"]);
    assert_eq!(restored["missing"], Value::Null);
    let again = done(&platform.cli(&["log", "verify", "--json"]));
    assert_eq!(again, whole, "the same facts, the same chain, the same checkpoints");

    platform.launch();
    platform.wait_ready().await;
    let admin = platform.admin();
    assert_eq!(admin.row(&team[0]).await.unwrap()["name"], "one");
    admin.wait_status(&team[0], "online").await;
    admin.wait_status(&team[1], "paused").await;
    let export = admin.get("/ready").await.unwrap().expect(200)["export"].clone();
    assert_eq!(export["failing"], json!(false), "the segments go on where they were: {export}");
}

#[tokio::test]
async fn a_store_that_can_t_be_read_names_its_remedy_and_what_it_had_is_missed() {
    let mut platform = Platform::start(Settings::process()).await;
    platform.terminate();
    platform.launch();
    platform.wait_ready().await;
    let admin = platform.admin();
    eventually("the export has looked what there is", ONLINE_LIMIT, async || {
        let ready = admin.get("/ready").await.map_err(|error| error.to_string())?.json();
        if ready["export"]["succeeded_at"].is_string() { Ok(()) } else { Err(ready.to_string()) }
    })
    .await;
    // From here on facts rest in the store alone, for up to an hour.
    admin.create_online(&["one".to_owned()]).await;
    platform.kill();
    let (log, segments) = (platform.data_dir().join("events"), platform.data_dir().join("segments"));
    let store = log.join("store/db");
    let mut bytes = fs::read(&store).unwrap();
    for byte in &mut bytes {
        *byte ^= 0xA5;
    }
    fs::write(&store, &bytes).unwrap();
    let acknowledged: [u8; 8] = fs::read(log.join("high-water")).unwrap()[..8].try_into().unwrap();
    let acknowledged = u64::from_be_bytes(acknowledged);

    let words = refused(&platform);
    let command = format!(
        "covalence log restore --from {} --data-dir {} --move-aside",
        path(&segments),
        path(&platform.data_dir())
    );
    assert!(words.contains(&command), "{words}");
    let restored =
        done(&platform.cli(&["log", "restore", "--from", &path(&segments), "--move-aside", "--json"]));
    let head = restored["head"].as_u64().unwrap();
    let missing = &restored["missing"];
    assert!(head < acknowledged, "{head} of {acknowledged} came back");
    assert_eq!(missing, &json!({ "from": head + 1, "to": acknowledged }));
    let kept = restored["moved_to"].as_str().unwrap();
    assert_eq!(
        fs::read(Path::new(kept).join("store/db")).unwrap(),
        bytes,
        "the damaged log is kept as it was"
    );

    platform.launch();
    platform.wait_ready().await;
    let export = platform.admin().get("/ready").await.unwrap().expect(200)["export"].clone();
    assert_eq!(export["failing"], json!(false), "{export}");
}

#[tokio::test]
async fn a_rewritten_log_is_found_out_by_a_checkpoint_from_elsewhere() {
    let mut platform = Platform::start(Settings::process()).await;
    platform.terminate();
    let key = platform.cli(&["log", "checkpoint", "key"]);
    let key = String::from_utf8(key.stdout).unwrap().trim().to_owned();
    let kept = platform.home().join("kept");
    fs::write(&kept, platform.cli(&["log", "checkpoint", "ls"]).stdout).unwrap();
    let against = ["log", "verify", "--checkpoint", &path(&kept), "--public-key", &key];
    assert!(platform.cli(&against).status.success());

    // Another history in its place, whose own chain and checkpoints hold, signed by the same key.
    let log = platform.data_dir().join("events");
    let secret = fs::read(log.join("checkpoint-key")).unwrap();
    fs::remove_dir_all(&log).unwrap();
    fs::remove_dir_all(platform.data_dir().join("segments")).unwrap();
    fs::create_dir(&log).unwrap();
    fs::write(log.join("checkpoint-key"), secret).unwrap();
    platform.launch();
    platform.wait_ready().await;
    let online = platform.cli(&against);
    platform.terminate();
    assert!(platform.cli(&["log", "verify"]).status.success(), "alone it can't be told");
    for found_out in [online, platform.cli(&against)] {
        assert_eq!(found_out.status.code(), Some(1));
        let words = String::from_utf8_lossy(&found_out.stdout).into_owned();
        assert!(words.contains("history was rewritten") || words.contains("before it"), "{words}");
    }
}
