//! The runtime `command`: input, failures, limits.

use std::path::Path;
use std::time::Duration;

use covalence_agent::config::{CommandConfig, CommandInput};
use serde_json::json;

use crate::support::{HEARTBEAT, Running, eventually, message_send, post, shell};

#[tokio::test]
async fn the_prompt_arrives_on_standard_input() {
    let running = Running::command(shell("read line; echo \"got $line\"; echo", CommandInput::Stdin)).await;
    let answer = running.ask("hello").await;
    assert_eq!(answer["result"]["parts"][0]["text"], "got hello");
}

#[tokio::test]
async fn the_prompt_arrives_as_one_argument_that_no_shell_reads() {
    let command = CommandConfig {
        argv: ["printf", "%s|", "fixed"].map(str::to_owned).to_vec(),
        ..shell("", CommandInput::Argument)
    };
    let running = Running::command(command).await;
    let answer = running.ask("$(id) ; 'two words'").await;
    assert_eq!(answer["result"]["parts"][0]["text"], "fixed|$(id) ; 'two words'|");
}

#[tokio::test]
async fn a_text_that_cannot_be_an_argument_is_the_callers_mistake() {
    let running = Running::command(shell("echo", CommandInput::Argument)).await;
    assert_eq!(running.ask("a\0b").await["error"]["code"], -32602);
    let error = running.ask(&"x".repeat(200_000)).await["error"].clone();
    assert_eq!(error["code"], -32602);
    assert!(error["message"].as_str().unwrap().contains("AGENT_COMMAND_INPUT=stdin"), "{error}");
}

#[tokio::test]
async fn a_failure_surfaces_its_exit_code_and_the_end_of_its_complaint() {
    let running = Running::command(shell("echo 'no credit left' >&2; exit 3", CommandInput::Stdin)).await;
    let error = running.ask("x").await["error"].clone();
    assert_eq!(error["code"], -32603);
    assert_eq!(error["message"], "command ended with exit code 3: no credit left");
    assert_eq!(error["data"], json!({"kind": "ProcessError", "exit_code": 3, "timed_out": false}));

    let beat = running.platform.told(HEARTBEAT, |told| told.body["error_rate"] == 1.0).await;
    assert_eq!(beat.body["sample_error"], "command ended with exit code 3: no credit left");
}

#[tokio::test]
async fn a_timeout_kills_the_whole_process_group() {
    let marks = tempfile::tempdir().unwrap();
    let pid_file = marks.path().join("pid");
    // The helper ignores SIGTERM, so that only the SIGKILL for the whole group ends it.
    let script = format!(
        "sh -c 'trap \"\" TERM; echo $$ > {}; while :; do sleep 1; done' & echo waiting >&2; wait",
        pid_file.display()
    );
    let command = CommandConfig { timeout: Duration::from_secs(1), ..shell(&script, CommandInput::Stdin) };
    let running = Running::command(command).await;
    let error = running.ask("x").await["error"].clone();
    assert_eq!(error["message"], "command was killed after 1 s without an answer: waiting");
    assert_eq!(error["data"], json!({"kind": "ProcessError", "exit_code": null, "timed_out": true}));
    let pid = std::fs::read_to_string(&pid_file).unwrap().trim().to_owned();
    eventually("the helper is gone", || is_gone(&pid)).await;
}

/// Not there, or dead and waiting for whoever inherits orphans on this host.
fn is_gone(pid: &str) -> bool {
    std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"))
        .map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

#[tokio::test]
async fn more_calls_than_allowed_are_busy_and_heartbeats_go_on_meanwhile() {
    let marks = tempfile::tempdir().unwrap();
    let release = marks.path().join("release");
    let script = format!("until [ -e {} ]; do sleep 0.02; done; echo done", release.display());
    let command = CommandConfig { concurrency_max: 1, ..shell(&script, CommandInput::Stdin) };
    let running = Running::command(command).await;
    let address = running.agent.address;
    let first = tokio::spawn(async move { post(address, "/", &message_send("long work\nin detail")).await });

    let working = |told: &crate::support::Told| told.body["active_tasks"] == 1;
    let beat = running.platform.told(HEARTBEAT, working).await;
    assert_eq!(beat.body["current_task"], "long work");

    let second = post(address, "/", &message_send("x")).await;
    assert_eq!((second.status, second.header("retry-after")), (503, "5"));
    assert_eq!(second.json()["busy"], true);
    assert_eq!(second.json()["retry_after"], 5);

    std::fs::write(&release, "").unwrap();
    assert_eq!(first.await.unwrap().json()["result"]["parts"][0]["text"], "done");
    assert_eq!(running.ask("x").await["result"]["parts"][0]["text"], "done");
    let idle = running.platform.told(HEARTBEAT, |told| told.body["active_tasks"] == 0).await;
    assert_eq!(idle.body["sample_error"], "");
}
