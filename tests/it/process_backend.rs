//! Workspaces as processes: the port's suite on real processes, and what only processes can do wrong.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use covalence::backends::environment::CommonEnvironment;
use covalence::backends::process::{ProcessBackend, ProcessSettings};
use covalence::runtimes::{ImageNames, Runtimes, RuntimesConfig};
use covalence_actors::effect::conformance::{self, Fixture};
use covalence_actors::effect::{Backend, Inspection, ListedState, LogQuery, ProvisionSpec, Secret};
use covalence_events::workspace::{InstanceRef, WorkspaceAccess};
use covalence_events::{Generation, WorkspaceId};
use futures_util::TryStreamExt;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Printed by every agent of these tests at its start.
const OUTPUT: &str = "agent of a test started";
/// Serves something on its port until it is told to end.
const SERVE: &str = "exec python3 -m http.server --bind 127.0.0.1 \"$PORT\"";
/// Longer than anything here takes; reached only by a failing test.
const PATIENCE: Duration = Duration::from_secs(20);
const TOKEN: &str = "the-token-of-this-generation";

/// A data directory, and how agents are run over it.
struct Processes {
    data: TempDir,
    agent: Vec<String>,
}

impl Processes {
    fn new(agent: Vec<String>) -> Self {
        Self { data: tempfile::tempdir().unwrap(), agent }
    }

    /// Agents are this shell script.
    fn script(script: &str) -> Self {
        Self::new(["/bin/sh", "-c", script].map(str::to_owned).to_vec())
    }

    fn open(&self) -> ProcessBackend {
        let operator = [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("ADMIN_TOKEN", "must not arrive")];
        ProcessBackend::new(ProcessSettings {
            data_dir: self.data.path().to_owned(),
            // Each test is an installation of its own, as far as its processes show.
            platform_instance: self.data.path().file_name().unwrap().to_string_lossy().into_owned(),
            agent: self.agent.clone(),
            templates: None,
            environment: CommonEnvironment {
                platform_url: "http://127.0.0.1:9".to_owned(),
                awareness_url: None,
                operator: operator.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            },
            runtimes: Arc::new(
                Runtimes::new(&RuntimesConfig(BTreeMap::new()), &ImageNames::default()).unwrap(),
            ),
        })
        .unwrap()
    }

    fn directory(&self, workspace: WorkspaceId) -> PathBuf {
        self.data.path().join("workspaces").join(workspace.to_string())
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        // A failed test must not leave its processes behind.
        let Ok(entries) = std::fs::read_dir(self.data.path().join("workspaces")) else { return };
        for record in
            entries.flatten().filter_map(|entry| std::fs::read(entry.path().join("instance.json")).ok())
        {
            let Ok(record) = serde_json::from_slice::<Value>(&record) else { continue };
            if record["exit"].is_null()
                && let Some(pid) = record["process"]["pid"].as_i64()
                && pid != i64::from(std::process::id())
            {
                kill(pid);
            }
        }
    }
}

fn spec(workspace: WorkspaceId, generation: u64) -> ProvisionSpec {
    ProvisionSpec {
        workspace,
        generation: Generation(generation),
        name: "Tester".to_owned(),
        role: None,
        tier: 2,
        runtime: "echo".to_owned(),
        model: None,
        template: None,
        parent: None,
        workspace_dir: None,
        workspace_access: WorkspaceAccess::None,
        reset_session: false,
        token: Secret::new(TOKEN.to_owned()),
        secrets: Vec::new(),
    }
}

fn pid_of(instance: &InstanceRef) -> i64 {
    instance.id.split(':').next().unwrap().parse().unwrap()
}

fn kill(pid: i64) {
    let _ = kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL);
}

fn exists(pid: i64) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[async_trait]
impl Fixture for Processes {
    async fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(self.open())
    }

    fn spec(&self, workspace: WorkspaceId, generation: Generation) -> ProvisionSpec {
        spec(workspace, generation.0)
    }

    fn output(&self) -> &'static str {
        OUTPUT
    }

    async fn kill(&self, instance: &InstanceRef) {
        kill(pid_of(instance));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_keep_every_promise_of_the_port() {
    let processes = Processes::script(&format!("echo {OUTPUT}; {SERVE}"));
    conformance::every_case(&processes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_agent_keeps_every_promise_of_the_port() {
    let built = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("covalence-agent");
    if !built.is_file() {
        eprintln!("`{}` is not built: left out", built.display());
        return;
    }
    let mut processes = Processes::script(&format!("echo {OUTPUT}; exec \"$0\""));
    processes.agent.push(built.to_string_lossy().into_owned());
    conformance::every_case(&processes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_is_used_again_is_never_adopted_nor_signalled() {
    let processes = Processes::script(SERVE);
    let workspace = WorkspaceId::generate();
    let started = processes.open().provision(&spec(workspace, 1)).await.unwrap().instance.unwrap();
    kill(pid_of(&started));
    let record = processes.directory(workspace).join("instance.json");
    let mut forged: Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    let mut bystander = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    forged["process"]["pid"] = json!(bystander.id());
    forged["exit"] = Value::Null;
    eventually("the first process is gone", || !exists(pid_of(&started))).await;
    std::fs::write(&record, forged.to_string()).unwrap();

    let backend = processes.open();
    let found = backend.find(workspace, Generation(1)).await;
    assert!(matches!(found, Inspection::NotThere { .. }), "{found:?}");
    assert!(matches!(backend.list().await.unwrap()[0].state, ListedState::Stopped { .. }));
    backend.stop(workspace, Generation(1), Duration::from_millis(100)).await.unwrap();
    assert_eq!(bystander.try_wait().unwrap(), None, "the bystander still runs");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_a_crash_interrupted_is_found_again() {
    // The interpreter itself, since an interrupted start is recognised by its arguments.
    let processes = Processes::script("while :; do sleep 0.1; done");
    let workspace = WorkspaceId::generate();
    let started = processes.open().provision(&spec(workspace, 1)).await.unwrap();
    let record = processes.directory(workspace).join("instance.json");
    let mut intent: Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    intent["process"] = Value::Null;
    std::fs::write(&record, intent.to_string()).unwrap();

    let backend = processes.open();
    let Inspection::Running(found) = backend.find(workspace, Generation(1)).await else {
        panic!("not found")
    };
    assert_eq!(found, started);
    assert_eq!(backend.provision(&spec(workspace, 1)).await.unwrap(), started);
    backend.stop(workspace, Generation(1), Duration::ZERO).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_ends_helpers_and_processes_that_ignore_the_request() {
    let processes =
        Processes::script("trap '' TERM; setsid sleep 1000 & echo $! > helper; while :; do sleep 0.1; done");
    let workspace = WorkspaceId::generate();
    let backend = processes.open();
    let agent = pid_of(&backend.provision(&spec(workspace, 1)).await.unwrap().instance.unwrap());
    let helper = processes.directory(workspace).join("workspace/helper");
    let helper: i64 = std::fs::read_to_string(helper).unwrap().trim().parse().unwrap();
    assert!(exists(helper));
    backend.stop(workspace, Generation(1), Duration::from_millis(200)).await.unwrap();
    eventually("the agent is gone, not even a zombie", || !exists(agent)).await;
    let state = || std::fs::read_to_string(format!("/proc/{helper}/stat")).unwrap_or_default();
    eventually("the helper has ended", || state().is_empty() || state().contains(") Z ")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_finds_a_clean_environment_and_a_private_token() {
    let processes = Processes::script(&format!("env; {SERVE}"));
    let workspace = WorkspaceId::generate();
    let backend = processes.open();
    backend.provision(&spec(workspace, 7)).await.unwrap();
    let chunks: Vec<_> =
        backend.logs(workspace, LogQuery::default()).await.unwrap().try_collect().await.unwrap();
    let env = String::from_utf8(chunks.concat()).unwrap();
    for expected in
        ["COVALENCE_GENERATION=7\n", "AGENT_LISTEN_HOST=127.0.0.1\n", "AGENT_RUNTIME=echo\n", "TIER=2\n"]
    {
        assert!(env.contains(expected), "`{expected}` in {env}");
    }
    for leak in ["CARGO", "ADMIN_TOKEN", TOKEN] {
        assert!(!env.contains(leak), "`{leak}` in {env}");
    }
    let token = processes.directory(workspace).join("configs/.auth_token");
    assert_eq!(std::fs::read_to_string(&token).unwrap(), TOKEN);
    assert_eq!(std::fs::metadata(&token).unwrap().permissions().mode() & 0o777, 0o600);
    backend.stop(workspace, Generation(7), Duration::ZERO).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_says_why_and_leaves_nothing_running() {
    let failing = Processes::script(&format!("echo cannot open /home/somebody/key with {TOKEN}; exit 3"));
    let backend = failing.open();
    let error = backend.provision(&spec(WorkspaceId::generate(), 1)).await.unwrap_err();
    assert_eq!((error.code, error.retryable), ("start_failed", true));
    assert!(error.message.contains("status 3") && error.message.contains("cannot open …/key"), "{error}");
    assert!(!error.message.contains(TOKEN), "{error}");
    assert!(error.command.unwrap().contains("env -i"));
    assert_eq!(backend.list().await.unwrap(), Vec::new());

    let taken = Processes::script("echo 'Error: Address already in use (os error 98)'; exit 1");
    let error = taken.open().provision(&spec(WorkspaceId::generate(), 1)).await.unwrap_err();
    assert_eq!(error.code, "port_taken");

    let absent = Processes::new(vec!["/nowhere/covalence-agent".to_owned()]);
    let error = absent.open().provision(&spec(WorkspaceId::generate(), 1)).await.unwrap_err();
    assert_eq!((error.code, error.retryable), ("program_missing", false));
    assert!(error.message.contains("`covalence-agent` is not there"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_cannot_be_is_refused_before_anything_starts() {
    let backend_of = Processes::script(SERVE);
    let backend = backend_of.open();
    let with = |runtime: &str, template: Option<&str>| ProvisionSpec {
        runtime: runtime.to_owned(),
        template: template.map(str::to_owned),
        ..spec(WorkspaceId::generate(), 1)
    };
    for (spec, code, text) in [
        (with("langgraph", None), "image_missing", "--backend docker"),
        (with("command", None), "invalid_config", "[runtimes.command]"),
        (with("lang", None), "invalid_config", "unknown runtime `lang`; known are"),
        (with("echo", Some("absent")), "config_missing", "no config.yaml source and config volume is empty"),
    ] {
        let error = backend.provision(&spec).await.unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(error.message.contains(text), "{error}");
    }
    assert_eq!(backend.list().await.unwrap(), Vec::new());
}
