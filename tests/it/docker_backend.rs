//! Workspaces as containers: the port's suite on a real engine, and what only containers have.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use covalence::backends::docker::DockerBackend;
use covalence::images::{self, BuildRequest};
use covalence::runtimes::ImageNames;
use covalence_actors::effect::conformance::{self, Fixture};
use covalence_actors::effect::files::{FileError, FilePath, NewFile};
use covalence_actors::effect::{Backend, Inspection, LogQuery, ProvisionSpec, Secret, Signal};
use covalence_events::workspace::InstanceRef;
use covalence_events::{Generation, WorkspaceId};
use futures_util::TryStreamExt;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::support::docker::{IMAGE, Platform, docker, ensure_engine, provision, spec, try_docker};
use crate::support::platform::Settings;

/// Longer than anything here takes; reached only by a failing test.
const PATIENCE: Duration = Duration::from_secs(20);

fn inspect(id: &str) -> Value {
    let all: Value = serde_json::from_str(&docker(&["inspect", id])).unwrap();
    all[0].clone()
}

/// A file of a container: its mode, owner and body.
fn file_in(id: &str, path: &str) -> (u32, u64, String) {
    let output =
        std::process::Command::new("docker").args(["cp", &format!("{id}:{path}"), "-"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut archive = tar::Archive::new(&output.stdout[..]);
    let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
    let (mode, uid) = (entry.header().mode().unwrap() & 0o7777, entry.header().uid().unwrap());
    let mut body = String::new();
    entry.read_to_string(&mut body).unwrap();
    (mode, uid, body)
}

async fn get(url: &str, path: &str) -> std::io::Result<String> {
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(value) => return value,
            Err(seen) if Instant::now() > deadline => {
                panic!("not within {PATIENCE:?}: {what}; last seen: {seen}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn output(platform: &Platform, spec: &ProvisionSpec, query: LogQuery) -> String {
    let chunks = platform.backend.logs(spec.workspace, query).await.unwrap();
    let chunks: Vec<_> = chunks.try_collect().await.unwrap();
    String::from_utf8_lossy(&chunks.concat()).into_owned()
}

struct Containers {
    platform: Platform,
}

#[async_trait]
impl Fixture for Containers {
    async fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(DockerBackend::new(self.platform.config.clone()))
    }

    fn spec(&self, workspace: WorkspaceId, generation: Generation) -> ProvisionSpec {
        ProvisionSpec { workspace, generation, ..spec(2) }
    }

    fn output(&self) -> &'static str {
        "agent started"
    }

    async fn kill(&self, instance: &InstanceRef) {
        docker(&["kill", &instance.id]);
    }
}

#[tokio::test]
async fn docker_keeps_the_promises_of_the_port() {
    let containers = Containers { platform: Platform::start().await };
    conformance::every_case(&containers).await;
    assert!(containers.platform.containers().is_empty());
    assert!(containers.platform.volumes().is_empty());
}

/// R20, R23, R30, R32.
#[tokio::test]
async fn a_container_has_the_labels_limits_and_user_of_its_workspace() {
    let platform = Platform::start().await;
    let spec = spec(2);
    let id = provision(&platform.backend, &spec).await;
    let seen = inspect(&id);
    let labels = &seen["Config"]["Labels"];
    assert_eq!(labels["molecule.platform.managed"], "true");
    assert_eq!(labels["molecule.platform.instance"], platform.config.instance);
    assert_eq!(labels["covalence.workspace"], spec.workspace.to_string());
    assert_eq!(labels["covalence.generation"], "1");
    assert_eq!(seen["Name"], format!("/ws-{}", &spec.workspace.to_string()[..12]));
    let host = &seen["HostConfig"];
    assert_eq!(host["Memory"], 512 << 20);
    assert_eq!(host["NanoCpus"], 1_000_000_000);
    assert_eq!(host["RestartPolicy"]["Name"], "no");
    assert_eq!(host["Privileged"], false);
    assert_eq!(seen["Config"]["User"], "10001:10001");
    assert_eq!(seen["NetworkSettings"]["Ports"]["8000/tcp"][0]["HostIp"], "127.0.0.1");
    let cgroup = std::fs::read_to_string(format!("/sys/fs/cgroup/memory/docker/{id}/memory.limit_in_bytes"));
    if let Ok(limit) = cgroup {
        assert_eq!(limit.trim(), (512_u64 << 20).to_string(), "what the kernel holds it to");
    }
    assert_eq!(platform.volumes().len(), 2, "configuration and workspace: {:?}", platform.volumes());
}

/// Decision 6: the token's file is 0600 and the agent's own, and the agent can read it.
#[tokio::test]
async fn the_token_reaches_the_agent_in_a_file_of_its_own() {
    let platform = Platform::start().await;
    let id = provision(&platform.backend, &spec(2)).await;
    assert_eq!(file_in(&id, "/configs/.auth_token"), (0o600, 10_001, "token-of-generation-1".to_owned()));
    let (mode, uid, body) = file_in(&id, "/configs/config.yaml");
    assert_eq!((mode, uid), (0o644, 10_001));
    assert!(body.contains("name: \"Ann\""), "{body}");
    assert!(!docker(&["inspect", &id]).contains("token-of-generation-1"), "no token in the engine's records");
}

#[tokio::test]
async fn the_agent_answers_at_the_url_that_was_learned() {
    let platform = Platform::start().await;
    for tier in [1, 2] {
        let provisioned = platform.backend.provision(&spec(tier)).await.unwrap();
        let url = provisioned.url.unwrap();
        let answer = until("the agent answers", async || match get(&url, "/health").await {
            Ok(text) if text.starts_with("HTTP/1.1 200") || text.starts_with("HTTP/1.0 200") => Ok(text),
            Ok(text) => Err(text),
            Err(error) => Err(error.to_string()),
        })
        .await;
        assert!(answer.contains("200"), "tier {tier}");
        assert_eq!(provisioned.image.as_deref(), Some(IMAGE));
    }
}

#[tokio::test]
async fn files_belong_to_the_agent_and_tier_1_has_no_place_for_them() {
    let platform = Platform::start().await;
    for (tier, expected) in [(1, Err(FileError::NoPlace)), (2, Ok(()))] {
        let spec = spec(tier);
        let id = provision(&platform.backend, &spec).await;
        let path = FilePath::parse("/workspace/in/a.txt").unwrap();
        let file = NewFile { path, body: Bytes::from_static(b"words") };
        assert_eq!(platform.backend.put_files(spec.workspace, vec![file]).await, expected, "tier {tier}");
        if expected.is_ok() {
            assert_eq!(file_in(&id, "/workspace/in/a.txt"), (0o644, 10_001, "words".to_owned()));
        }
        let config = FilePath::parse("/configs/config.yaml").unwrap();
        let found = platform.backend.open_file(spec.workspace, &config).await.unwrap();
        let body: Vec<Bytes> = found.body.try_collect().await.unwrap();
        assert!(body.concat().starts_with(b"# Generated"), "its configuration is there in any tier");
    }
}

/// A kill is seen through the engine's event stream, within a second.
#[tokio::test]
async fn a_killed_container_is_told_within_a_second() {
    let platform = Platform::start().await;
    let (sender, mut signals) = mpsc::channel(16);
    let backend = Arc::clone(&platform.backend);
    tokio::spawn(async move { backend.watch(sender).await });
    assert_eq!(tokio::time::timeout(PATIENCE, signals.recv()).await.unwrap(), Some(Signal::Gap));
    let spec = spec(2);
    let id = provision(&platform.backend, &spec).await;
    let pid = inspect(&id)["State"]["Pid"].as_i64().unwrap();
    let killed = Instant::now();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let signal = tokio::time::timeout(Duration::from_secs(1), signals.recv()).await.expect("within a second");
    eprintln!("exit told after {:?}", killed.elapsed());
    let Some(Signal::Exited { workspace, generation, instance, exit_status, .. }) = signal else {
        panic!("no exit: {signal:?}");
    };
    assert_eq!((workspace, generation), (spec.workspace, spec.generation));
    assert_eq!((instance.id, exit_status), (id, Some(137)));
}

/// A restarted platform adopts what runs, without a start, and gives it the token that counts.
#[tokio::test]
async fn a_second_adapter_adopts_what_runs_and_renews_its_token() {
    let platform = Platform::start().await;
    let first = spec(2);
    let id = provision(&platform.backend, &first).await;
    let started = inspect(&id)["State"]["StartedAt"].clone();
    let again = DockerBackend::new(platform.config.clone());
    let spec = ProvisionSpec { token: Secret::new("minted-again".to_owned()), ..first };
    assert_eq!(provision(&again, &spec).await, id);
    assert_eq!(inspect(&id)["State"]["StartedAt"], started);
    assert_eq!(file_in(&id, "/configs/.auth_token"), (0o600, 10_001, "minted-again".to_owned()));
    assert!(matches!(again.find(spec.workspace, Generation(1)).await, Inspection::Running(_)));
    assert_eq!(again.list().await.unwrap().len(), 1);
}

/// R23: limits always, privileges only where the operator allows them.
#[tokio::test]
async fn privileges_that_are_not_allowed_are_withheld_and_said() {
    let platform = Platform::start().await;
    let provisioned = platform.backend.provision(&spec(4)).await.unwrap();
    let words = ["privileged mode", "host process namespace", "host network", "engine socket"];
    assert_eq!(provisioned.withheld, words);
    let seen = inspect(&provisioned.instance.as_ref().unwrap().id);
    assert_eq!(seen["HostConfig"]["Memory"], 1024 << 20);
    assert_eq!(seen["HostConfig"]["Privileged"], false);
    assert_eq!(seen["HostConfig"]["PidMode"], "");
    assert_ne!(seen["HostConfig"]["NetworkMode"], "host");
}

#[tokio::test]
async fn an_allowed_tier_4_is_on_the_hosts_network_with_a_port_of_its_own() {
    let platform = Platform::with(|config| config.privileged_tier_max = Some(4)).await;
    let (one, two) = (spec(4), spec(4));
    let mut urls = Vec::new();
    for spec in [&one, &two] {
        let provisioned = platform.backend.provision(spec).await.unwrap();
        assert_eq!(provisioned.withheld, Vec::<String>::new());
        let url = provisioned.url.unwrap();
        until("the agent answers", async || get(&url, "/health").await.map_err(|error| error.to_string()))
            .await;
        urls.push(url);
    }
    assert_ne!(urls[0], urls[1]);
}

/// R25: the session survives a restart, and is thrown away on request.
#[tokio::test]
async fn a_session_volume_survives_a_restart_unless_it_is_reset() {
    // The runtime's name is one that the agent in the test's image does not know.
    let echo = ("AGENT_RUNTIME".to_owned(), "echo".to_owned());
    let platform = Platform::with(|config| config.environment.operator.extend([echo])).await;
    let first = ProvisionSpec { runtime: "keeper".to_owned(), ..spec(2) };
    let id = provision(&platform.backend, &first).await;
    let note = tempfile::tempdir().unwrap();
    std::fs::write(note.path().join("note"), "remember").unwrap();
    docker(&["cp", &format!("{}/note", note.path().display()), &format!("{id}:/sessions/note")]);
    let second = ProvisionSpec { generation: Generation(2), ..first.clone() };
    let id = provision(&platform.backend, &second).await;
    assert_eq!(file_in(&id, "/sessions/note").2, "remember");
    let third = ProvisionSpec { generation: Generation(3), reset_session: true, ..first };
    let id = provision(&platform.backend, &third).await;
    assert!(try_docker(&["cp", &format!("{id}:/sessions/note"), "-"]).is_err());
    assert!(inspect(&id)["Config"]["Env"].as_array().unwrap().contains(&"WORKSPACE_RESET_SESSION=1".into()));
}

#[tokio::test]
async fn the_log_of_the_previous_run_is_kept_when_its_container_goes() {
    let platform = Platform::start().await;
    let first = spec(2);
    provision(&platform.backend, &first).await;
    until("it has said something", async || {
        let said = output(&platform, &first, LogQuery::default()).await;
        if said.contains("agent started") { Ok(()) } else { Err(said) }
    })
    .await;
    let previous = LogQuery { previous: true, ..LogQuery::default() };
    assert!(platform.backend.logs(first.workspace, previous.clone()).await.is_err(), "no previous run yet");
    provision(&platform.backend, &ProvisionSpec { generation: Generation(2), ..first.clone() }).await;
    assert!(output(&platform, &first, previous).await.contains("agent started"));
}

/// R20, R26: what a person has to do is in the words.
#[tokio::test]
async fn a_start_that_can_not_be_says_why_and_leaves_no_container() {
    let platform = Platform::start().await;
    let absent = ProvisionSpec { runtime: "absent".to_owned(), ..spec(2) };
    let error = platform.backend.provision(&absent).await.unwrap_err();
    assert_eq!((error.code, error.retryable), ("image_missing", false));
    for words in ["covalence/absent:latest", "docker pull covalence/absent:latest"] {
        assert!(error.message.contains(words), "{}", error.message);
    }
    let unconfigured = ProvisionSpec { template: Some("nowhere".to_owned()), ..spec(2) };
    let error = platform.backend.provision(&unconfigured).await.unwrap_err();
    assert_eq!(error.code, "config_missing");
    assert!(error.message.contains("no config.yaml source and config volume is empty"), "{}", error.message);
    let error =
        platform.backend.provision(&ProvisionSpec { runtime: "nonsense".to_owned(), ..spec(2) }).await;
    assert_eq!(error.unwrap_err().code, "invalid_config");
    assert!(platform.containers().is_empty());
}

/// R26: a configuration that somebody wrote on the volume is kept, and is source enough.
#[tokio::test]
async fn a_configuration_on_the_volume_is_source_enough_and_is_kept() {
    let platform = Platform::start().await;
    let first = spec(2);
    let id = provision(&platform.backend, &first).await;
    let edited = tempfile::tempdir().unwrap();
    std::fs::write(edited.path().join("config.yaml"), "name: mine\n").unwrap();
    docker(&[
        "cp",
        &format!("{}/config.yaml", edited.path().display()),
        &format!("{id}:/configs/config.yaml"),
    ]);
    let second = ProvisionSpec { generation: Generation(2), template: Some("nowhere".to_owned()), ..first };
    let id = provision(&platform.backend, &second).await;
    assert_eq!(file_in(&id, "/configs/config.yaml").2, "name: mine\n");
}

#[tokio::test]
async fn a_stranger_is_removed_only_with_this_platforms_labels() {
    let (platform, other) = (Platform::start().await, Platform::start().await);
    let theirs = InstanceRef { id: provision(&other.backend, &spec(2)).await };
    let refused = platform.backend.remove_stranger(&theirs).await.unwrap_err();
    assert_eq!(refused.code, "not_ours");
    assert_eq!(
        platform.backend.list().await.unwrap(),
        Vec::new(),
        "another platform's containers are not listed"
    );
    let ours = InstanceRef { id: provision(&platform.backend, &spec(2)).await };
    platform.backend.remove_stranger(&ours).await.unwrap();
    platform.backend.remove_stranger(&ours).await.unwrap();
    assert!(platform.containers().is_empty() && other.containers().len() == 1);
}

#[tokio::test]
async fn a_name_that_somebody_else_holds_does_not_stop_a_start() {
    let platform = Platform::start().await;
    let spec = spec(2);
    let name = format!("ws-{}", &spec.workspace.to_string()[..12]);
    let foreign = docker(&["create", "--name", &name, IMAGE]);
    let started = platform.backend.provision(&spec).await;
    docker(&["rm", &foreign]);
    let id = started.unwrap().instance.unwrap().id;
    assert_eq!(inspect(&id)["Name"], format!("/{name}-g1"));
}

#[tokio::test]
async fn the_bridge_gateway_is_what_containers_know_as_the_host() {
    let platform = Platform::start().await;
    let gateway = platform.backend.bridge_gateway().await.unwrap().expect("a local engine has a bridge");
    let id = provision(&platform.backend, &spec(2)).await;
    let hosts = std::fs::read_to_string(inspect(&id)["HostsPath"].as_str().unwrap()).unwrap();
    assert!(hosts.contains(&format!("{gateway}\thost.docker.internal")), "{hosts}");
}

/// R28: the base comes first, and each image has been started once before it counts.
#[tokio::test]
async fn images_are_built_base_first_and_verified_by_a_start() {
    ensure_engine().await;
    let names =
        ImageNames { prefix: format!("covalence-test-{}", std::process::id()), channel: "t".to_owned() };
    let request = BuildRequest { names: names.clone(), ..BuildRequest::default() };
    let built = images::build(&request, &|line| eprintln!("{line}")).await;
    let wanted = ["base", "echo", "command"].map(|name| format!("{}/{name}:t", names.prefix));
    for image in &wanted {
        let _gone = try_docker(&["image", "rm", "--force", image]);
    }
    assert_eq!(built.unwrap(), wanted);
}

/// The machine's own `cat` and the libraries that it needs, as an image: programs without a registry.
fn import_programs(image: &str) {
    let ldd = std::process::Command::new("ldd").arg("/bin/cat").output().expect("ldd runs");
    let libraries = String::from_utf8_lossy(&ldd.stdout).into_owned();
    let files: Vec<&str> =
        libraries.split_whitespace().chain(["/bin/cat"]).filter_map(|word| word.strip_prefix('/')).collect();
    assert!(files.len() > 1, "`cat` is dynamically linked here: {libraries}");
    let home = tempfile::tempdir().unwrap();
    let archive = home.path().join("programs.tar");
    let archive = archive.to_str().unwrap();
    let tar = std::process::Command::new("tar")
        .args(["--create", "--dereference", "--file", archive, "--directory", "/"])
        .args(&files)
        .status();
    assert!(tar.expect("tar runs").success(), "{files:?}");
    docker(&["import", archive, image]);
}

#[tokio::test]
async fn a_command_runs_in_an_image_that_was_built_on_one_with_its_program() {
    ensure_engine().await;
    let prefix = format!("covalence-test-base-{}", std::process::id());
    let (programs, image) = (format!("{prefix}/programs:t"), format!("{prefix}/command:t"));
    import_programs(&programs);
    let request = BuildRequest {
        runtime: Some("command".to_owned()),
        base: Some(programs.clone()),
        names: ImageNames { prefix: prefix.clone(), channel: "t".to_owned() },
        ..BuildRequest::default()
    };
    let built = images::build(&request, &|line| eprintln!("{line}")).await;

    let config = format!("[runtimes.command]\nimage = \"{image}\"\ncommand = [\"/bin/cat\"]\n");
    let answer = async {
        let platform = crate::support::platform::Platform::start(Settings::docker().config(&config)).await;
        let admin = platform.admin();
        let body = serde_json::json!({ "name": "Ada", "runtime": "command" });
        let created = admin.post("/workspaces", &body).await.expect("the platform answers").expect(201);
        let id = created["id"].as_str().expect("an id");
        admin.wait_status(id, "online").await;
        admin.ask(id, "said and read back").await
    };
    let answer = if built.is_ok() { Some(answer.await) } else { None };
    for image in [&image, &programs] {
        let _gone = try_docker(&["image", "rm", "--force", image]);
    }
    assert_eq!(built.unwrap(), [image]);
    assert_eq!(answer.as_deref(), Some("said and read back"));
}
