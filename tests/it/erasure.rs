//! A person's right to be forgotten: what was said about a workspace is gone, and the history is still whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};

use super::support::platform::{Platform, Settings};

const CANARY: &str = "canary-8c1f";

/// Files below a directory that have the canary in the clear, inside compressed segments too.
fn with_canary(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            with_canary(&path, found);
            continue;
        }
        let mut bytes = fs::read(&path).unwrap();
        if path.extension().is_some_and(|ending| ending == "zst") {
            bytes.extend(zstd::decode_all(bytes.as_slice()).unwrap());
        }
        if bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()) {
            found.push(path);
        }
    }
}

fn found(platform: &Platform) -> Vec<PathBuf> {
    let mut found = Vec::new();
    with_canary(&platform.data_dir(), &mut found);
    found
}

fn words(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Everything that the incident tools say about a workspace, of the server or without one.
fn told(platform: &Platform, id: &str, served: bool) -> String {
    let run = |command| if served { platform.cli(command) } else { platform.cli_without_url(command) };
    let asked: [&[&str]; 4] = [
        &["explain", id],
        &["timeline", "--workspace", id],
        &["timeline", "--workspace", id, "--json"],
        &["log", "export", "--workspace", id],
    ];
    asked.iter().map(|command| words(&run(command))).collect()
}

/// An external workspace whose every text is the canary.
async fn planted(platform: &Platform) -> String {
    let admin = platform.admin();
    let url = format!("http://8.8.8.8/{CANARY}");
    let wish = json!({
        "name": CANARY, "role": CANARY.repeat(50), "external": true, "url": url,
    });
    let created = admin.post("/workspaces", &wish).await.unwrap().expect(201);
    let id = created["id"].as_str().unwrap().to_owned();
    let card = json!({"name": CANARY, "description": CANARY, "skills": []});
    let register = json!({"id": id, "url": url, "agent_card": card});
    let registered = admin.post("/registry/register", &register).await.unwrap().json();
    let token = registered["auth_token"].as_str().unwrap_or_default().to_owned();
    let agent = super::support::client::Client::new(platform.url.clone(), token);
    let beat = json!({
        "workspace_id": id, "error_rate": 0.9, "sample_error": CANARY, "active_tasks": 1, "uptime_seconds": 1,
        "current_task": CANARY,
    });
    agent.post("/registry/heartbeat", &beat).await.unwrap().expect(200);
    let hold = json!({"scope": "workspace", "workspace": id, "reason": CANARY, "lasts": "5m"});
    let set = admin.post("/admin/holds", &hold).await.unwrap();
    assert!(matches!(set.status, 200 | 201), "{}", set.json());
    id
}

#[tokio::test]
async fn an_erased_workspace_leaves_a_sound_history_and_none_of_its_words() {
    let mut platform = Platform::start(Settings::process()).await;
    let admin = platform.admin();
    let id = planted(&platform).await;
    let path = format!("/workspaces/{id}");
    assert!(admin.row(&id).await.unwrap().to_string().matches(CANARY).count() >= 4, "it was planted");
    assert!(told(&platform, &id, true).contains(CANARY));
    assert_eq!(found(&platform), Vec::<PathBuf>::new(), "it never was on the disk in the clear");

    let early = platform.cli(&["workspaces", "erase", &id, "--yes"]);
    assert!(!early.status.success() && words(&early).contains("remove it first"), "{}", words(&early));
    let early = admin.post(&format!("{path}/erase"), &json!({})).await.unwrap().expect(409);
    assert_eq!(early["code"], "not_removed");
    assert!(platform.cli(&["workspaces", "rm", &id, "--yes"]).status.success());
    let key = platform.data_dir().join(format!("keys/workspace-{id}.key"));
    assert!(key.exists());
    let erased = platform.cli(&["workspaces", "erase", &id, "--yes"]);
    assert!(erased.status.success(), "{}", words(&erased));
    assert!(!key.exists());

    for _ in 0..2 {
        let row = admin.get(&format!("{path}?include_removed=true")).await.unwrap().expect(200);
        assert_eq!((&row["name"], row.to_string().contains(CANARY)), (&json!("[erased]"), false), "{row}");
        let told = told(&platform, &id, true);
        assert!(told.contains("[erased]") && !told.contains(CANARY), "{told}");
        for route in ["/events", "/admin/log?limit=1000", "/admin/supervision", "/admin/holds", "/workspaces"]
        {
            let answer = admin.get(route).await.unwrap().json().to_string();
            assert!(!answer.contains(CANARY), "{route}: {answer}");
        }
        let verified = platform.cli(&["log", "verify", "--json"]);
        let verified: Value = serde_json::from_slice(&verified.stdout).unwrap();
        assert_eq!((&verified["problems"], &verified["sealed"]), (&json!([]), &json!(0)));
        assert!(verified["erased"].as_u64() >= Some(5), "{verified}");
        assert!(platform.terminate().success());
        let told = self::told(&platform, &id, false);
        assert!(told.contains("[erased]") && !told.contains(CANARY), "without a server: {told}");
        platform.launch();
        platform.wait_ready().await;
    }
    platform.terminate();
    assert_eq!(found(&platform), Vec::<PathBuf>::new());
    assert!(!platform.stderr().contains(CANARY), "nor in what the server said");

    let segments = platform.data_dir().join("segments").display().to_string();
    let restored = platform.cli(&["log", "restore", "--from", &segments, "--move-aside"]);
    assert!(restored.status.success(), "{}", words(&restored));
    let told = told(&platform, &id, false);
    assert!(told.contains("[erased]") && !told.contains(CANARY), "{told}");
    platform.launch();
    platform.wait_ready().await;
}

#[tokio::test]
async fn a_start_without_the_keys_is_refused_and_loses_nothing() {
    let mut platform = Platform::start(Settings::process()).await;
    let id = planted(&platform).await;
    platform.terminate();
    let (keys, aside) = (platform.data_dir().join("keys"), platform.home().join("keys"));
    let refused = |platform: &Platform| {
        let start = platform.cli_without_url(&["serve", "--listen", "127.0.0.1:0", "--backend", "process"]);
        assert_eq!(start.status.code(), Some(1));
        words(&start)
    };
    fs::rename(&keys, &aside).unwrap();
    let said = refused(&platform);
    assert!(said.contains("sealed by keys which are not there"), "{said}");
    assert!(!keys.exists());
    let told = told(&platform, &id, false);
    assert!(told.contains("[sealed]") && !told.contains(CANARY), "the tools still tell: {told}");
    fs::rename(&aside, &keys).unwrap();
    let master = fs::read(keys.join("master")).unwrap();
    fs::remove_file(keys.join("master")).unwrap();
    assert!(refused(&platform).contains("the master key that wraps them is not there"));
    fs::write(keys.join("master"), master).unwrap();
    platform.launch();
    platform.wait_ready().await;
    assert_eq!(platform.admin().row(&id).await.unwrap()["name"], CANARY);
}
