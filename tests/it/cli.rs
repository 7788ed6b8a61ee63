//! The commands as a person and a script see them: exit codes, what goes to which stream, and nothing from our own
//! environment.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

use covalence_events::log::sled::{Options, SledLog};
use covalence_events::log::{Ack, Append, EventLog as _, Expected};
use covalence_events::{BootId, CorrelationId, EventId, Fact, Meta, NewEvent, Principal, StreamId, fleet};

/// Runs the program in an empty environment; a data directory of its own is its working directory.
fn run(dir: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_covalence"))
        .args(arguments)
        .current_dir(dir)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .expect("the program starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A port where nobody listens: it was free a moment ago.
fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port().to_string()
}

#[test]
fn config_show_prints_values_with_their_sources_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(".covalence")).unwrap();
    std::fs::write(dir.path().join(".covalence/covalence.toml"), "[server]\nrate_limit = 77\n").unwrap();
    let variables = [("PORT", "9123"), ("ADMIN_TOKEN", "hunter2")];

    let shown = run(dir.path(), &variables, &["config", "show", "--json"]);
    assert_eq!(shown.status.code(), Some(0), "{}", stderr(&shown));
    let json: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    let settings = &json["settings"];
    assert_eq!(settings["server.listen"]["value"], "127.0.0.1:9123");
    assert_eq!(settings["server.listen"]["source"], "environment PORT");
    assert_eq!(settings["server.rate_limit"]["source"], ".covalence/covalence.toml");
    assert_eq!(settings["access.admin_token"]["value"], "(secret)");

    let text = run(dir.path(), &variables, &["config", "show"]);
    assert!(stdout(&text).contains("server.rate_limit"));
    assert!(!stdout(&text).contains("hunter2") && !stdout(&shown).contains("hunter2"));
    assert!(!stdout(&text).contains('\x1b'), "colour without a terminal");
}

#[test]
fn a_wrong_setting_ends_the_start_with_its_name_and_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), &[("PORT", "eighty")], &["serve"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stdout(&output).is_empty());
    assert_eq!(
        stderr(&output),
        "error: environment variable `PORT` is `eighty`: expected a port, 0 to 65535\n"
    );
}

#[test]
fn an_open_server_refuses_to_listen_beyond_loopback() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [&["serve", "--demo", "--listen", "0.0.0.0:0"][..], &["serve", "--listen", "0.0.0.0:0"]]
    {
        let output = run(dir.path(), &[("MOLECULE_ENV", "development")], arguments);
        assert_eq!(output.status.code(), Some(2));
        assert!(
            stderr(&output).contains("listens on loopback only, not on 0.0.0.0:0"),
            "{}",
            stderr(&output)
        );
    }
    assert!(!dir.path().join(".covalence").exists(), "a refused start writes nothing");
}

#[test]
fn an_absent_server_is_exit_code_5_with_a_hint_and_1_for_health() {
    let dir = tempfile::tempdir().unwrap();
    let port = closed_port();
    let variables = [("PORT", port.as_str())];
    let listed = run(dir.path(), &variables, &["workspaces", "ls"]);
    assert_eq!(listed.status.code(), Some(5), "{}", stderr(&listed));
    assert!(stdout(&listed).is_empty());
    assert!(stderr(&listed).contains("\nhint: start one with `covalence serve`"), "{}", stderr(&listed));
    let health = run(dir.path(), &variables, &["health"]);
    assert_eq!(health.status.code(), Some(1));
}

#[test]
fn wrong_usage_is_exit_code_2_and_says_what_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), &[], &["events", "--since", "whenever"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("a time of day (`03:07`)"), "{}", stderr(&output));
    let output = run(dir.path(), &[], &["events", "--type", "went_away"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("hint: known are created, renamed"), "{}", stderr(&output));
}

#[test]
fn verifying_a_log_that_is_not_there_creates_none() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), &[], &["log", "verify", "--data-dir", "nowhere"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("nowhere/events"), "{}", stderr(&output));
    assert!(!dir.path().join("nowhere").exists());
}

/// A log with `count` facts in the default place below `dir`.
async fn write_log(dir: &Path, count: u32) -> SledLog {
    let path = dir.join(".covalence/events");
    std::fs::create_dir_all(&path).unwrap();
    let (log, _) = SledLog::open(&path, &Options::default()).unwrap();
    for number in 0..count {
        let meta = Meta {
            id: EventId::generate(),
            at: chrono::Utc::now(),
            boot: BootId::generate(),
            mono_ns: 0,
            correlation: CorrelationId::generate(),
            causation: None,
            principal: Principal::System,
            policy: None,
        };
        let stopped = fleet::PlatformStopped { reason: number.to_string(), workspaces_stopped: false };
        let events = vec![NewEvent { meta, fact: Fact::Fleet(stopped.into()) }];
        let append = Append { stream: StreamId::Fleet, expected: Expected::Any, events };
        log.append(vec![append], Ack::Durable).await.unwrap();
    }
    log
}

#[tokio::test]
async fn a_whole_log_verifies_and_one_in_use_is_refused_by_its_state() {
    let dir = tempfile::tempdir().unwrap();
    let log = write_log(dir.path(), 3).await;
    let busy = run(dir.path(), &[], &["log", "verify"]);
    assert_eq!(busy.status.code(), Some(4), "{}", stderr(&busy));
    assert!(stderr(&busy).contains("in use by"), "{}", stderr(&busy));

    log.close().await;
    drop(log);
    let whole = run(dir.path(), &[], &["log", "verify", "--json"]);
    assert_eq!(whole.status.code(), Some(0), "{}", stderr(&whole));
    let json: serde_json::Value = serde_json::from_slice(&whole.stdout).unwrap();
    assert_eq!((&json["events"], &json["head"]), (&3.into(), &3.into()));
    assert_eq!(json["problems"], serde_json::json!([]));
}

/// All bytes below a directory, with the time at which each file was changed.
fn contents(of: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(of).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            let changed = path.metadata().unwrap().modified().unwrap();
            found.insert(path.clone(), (std::fs::read(&path).unwrap(), changed));
        }
    }
    found
}

#[tokio::test]
async fn commands_that_look_into_a_stopped_log_change_no_byte_and_no_time_of_the_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let log = write_log(dir.path(), 30).await;
    let data = dir.path().join(".covalence");
    // As `kill -9` leaves it: with work for whoever opens it next.
    let crashed = dir.path().join("crashed");
    let copied = Command::new("cp").arg("-a").arg(&data).arg(&crashed).status().unwrap();
    assert!(copied.success());
    log.close().await;
    drop(log);
    for data in [data, crashed] {
        let before = contents(&data);
        let named = data.display().to_string();
        let backup = dir.path().join("backup").display().to_string();
        for command in [
            &["log", "verify"][..],
            &["log", "backup", &backup],
            &["log", "checkpoint", "ls"],
            &["incidents", "ls"],
        ] {
            let looked = run(dir.path(), &[], &[command, &["--data-dir", &named]].concat());
            assert_eq!(looked.status.code(), Some(0), "{command:?}: {}", stderr(&looked));
            assert_eq!(contents(&data), before, "{command:?}");
        }
    }
}

#[test]
fn completions_are_a_script_on_stdout() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), &[], &["completions", "bash"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).contains("complete -F _covalence"));
    assert!(stderr(&output).is_empty());
}
