//! The real binary: signals, the subcommand, refusals.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Platform, eventually, message_send, post};

fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_covalence-agent"));
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
    command
}

fn output(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    binary().args(arguments).envs(variables.iter().copied()).output().unwrap()
}

struct Started {
    child: Child,
    address: SocketAddr,
}

impl Drop for Started {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Starts the binary on a free port and reads the port from its log.
fn start(platform: SocketAddr, directory: &std::path::Path, command: &str) -> Started {
    let mut child = binary()
        .env("WORKSPACE_ID", "w-1")
        .env("WORKSPACE_NAME", "Ada")
        .env("PLATFORM_URL", format!("http://{platform}"))
        .env("WORKSPACE_CONFIG_PATH", directory)
        .env("AGENT_LISTEN_HOST", "127.0.0.1")
        .env("PORT", "0")
        .env("AGENT_RUNTIME", "command")
        .env("AGENT_COMMAND", command)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let line = log.find(|line| line.contains("agent started")).unwrap();
    let address = line.split_whitespace().find_map(|word| word.strip_prefix("address=")).unwrap();
    let address = address.parse().unwrap();
    // The pipe is read on, so that the agent never blocks on its own log.
    std::thread::spawn(move || log.for_each(drop));
    Started { child, address }
}

async fn exit_code(started: &mut Started) -> Option<i32> {
    let status = std::sync::Mutex::new(None);
    let child = std::sync::Mutex::new(&mut started.child);
    eventually("the agent ends", || {
        let ended = child.lock().unwrap().try_wait().unwrap();
        *status.lock().unwrap() = ended;
        ended.is_some()
    })
    .await;
    status.into_inner().unwrap().unwrap().code()
}

fn terminate(child: &Child) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
}

#[tokio::test]
async fn sigterm_ends_it_with_0_after_the_call_in_flight_is_answered() {
    let platform = Platform::start().await;
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let script = format!(
        "touch {}; until [ -e {} ]; do sleep 0.02; done; echo done",
        path("began").display(),
        path("release").display()
    );
    let command = serde_json::json!(["sh", "-c", script]).to_string();
    let mut started = start(platform.address, directory.path(), &command);
    let address = started.address;
    let call = tokio::spawn(async move { post(address, "/", &message_send("x")).await });
    eventually("the command runs", || path("began").exists()).await;

    terminate(&started.child);
    eventually("it takes no new connections", || std::net::TcpStream::connect(address).is_err()).await;
    assert!(started.child.try_wait().unwrap().is_none());
    std::fs::write(path("release"), "").unwrap();
    assert_eq!(call.await.unwrap().json()["result"]["parts"][0]["text"], "done");
    assert_eq!(exit_code(&mut started).await, Some(0));
}

#[tokio::test]
async fn sigterm_ends_an_idle_agent_with_0() {
    let platform = Platform::start().await;
    let directory = tempfile::tempdir().unwrap();
    let mut started = start(platform.address, directory.path(), "cat");
    terminate(&started.child);
    assert_eq!(exit_code(&mut started).await, Some(0));
}

#[tokio::test]
async fn health_says_by_its_exit_code_whether_the_agent_answers() {
    let platform = Platform::start().await;
    let directory = tempfile::tempdir().unwrap();
    let mut started = start(platform.address, directory.path(), "cat");
    let port = started.address.port().to_string();
    let health = || output(&["health"], &[("PORT", &port), ("AGENT_LISTEN_HOST", "127.0.0.1")]);
    assert_eq!(health().status.code(), Some(0));
    terminate(&started.child);
    exit_code(&mut started).await;
    let dead = health();
    assert_eq!(dead.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&dead.stderr).contains("is not healthy"), "{dead:?}");
}

#[test]
fn a_bad_configuration_is_refused_with_the_variable_named() {
    let refused = output(&[], &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("WORKSPACE_ID"), "{refused:?}");
    let refused = output(&["--port", "x"], &[("WORKSPACE_ID", "w")]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("`--port` is `x`"), "{refused:?}");
}

#[test]
fn help_names_the_variables_and_version_the_version() {
    let help = output(&["--help"], &[]);
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    for name in ["WORKSPACE_ID", "PLATFORM_URL", "AGENT_COMMAND", "HEARTBEAT_INTERVAL", "health"] {
        assert!(text.contains(name), "{name} is missing from {text}");
    }
    let version = output(&["--version"], &[]);
    assert!(String::from_utf8_lossy(&version.stdout).contains(env!("CARGO_PKG_VERSION")));
}
