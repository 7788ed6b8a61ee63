//! The real engine, an image on it, and adapters with a platform id of their own.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use covalence::backends::docker::{DockerBackend, DockerConfig};
use covalence::backends::environment::CommonEnvironment;
use covalence::config::TierLimits;
use covalence::images;
use covalence::runtimes::{ImageNames, Runtimes, RuntimesConfig};
use covalence_actors::effect::{Backend, ProvisionSpec, Secret};
use covalence_events::workspace::WorkspaceAccess;
use covalence_events::{Generation, WorkspaceId};

/// The engine of the tests.
pub(crate) const SOCKET: &str = "/var/run/docker.sock";
/// The image that the tests run.
pub(crate) const IMAGE: &str = "covalence/echo:latest";

/// Output of the `docker` command. Panics where it fails.
pub(crate) fn docker(arguments: &[&str]) -> String {
    let output = try_docker(arguments);
    output.unwrap_or_else(|error| panic!("`docker {}`: {error}", arguments.join(" ")))
}

/// Output of the `docker` command, or what it said on standard error.
pub(crate) fn try_docker(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("docker")
        .args(["--host", &format!("unix://{SOCKET}")])
        .args(arguments)
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

/// Sees to the engine and the image. Never skips: a test that did not run is not a test that passed.
pub(crate) async fn ensure_engine() {
    if let Err(error) = images_engine().check().await {
        panic!("no Docker engine answers at {SOCKET} ({error}); run `scripts/docker-engine` first");
    }
    if try_docker(&["image", "inspect", IMAGE]).is_err() {
        let request =
            images::BuildRequest { runtime: Some("echo".to_owned()), ..images::BuildRequest::default() };
        images::build(&request, &|line| eprintln!("{line}")).await.unwrap();
    }
}

fn images_engine() -> covalence::backends::docker::ImageEngine {
    covalence::backends::docker::ImageEngine::new(Some(&format!("unix://{SOCKET}")))
}

/// A platform of its own on the engine. Everything that it made is removed with it.
pub(crate) struct Platform {
    pub(crate) config: DockerConfig,
    pub(crate) backend: Arc<DockerBackend>,
    _data: tempfile::TempDir,
}

impl Platform {
    /// On the real engine.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// With settings of its own.
    pub(crate) async fn with(change: impl FnOnce(&mut DockerConfig)) -> Self {
        ensure_engine().await;
        let data = tempfile::tempdir().unwrap();
        let mut config = config(data.path().to_owned());
        change(&mut config);
        let backend = Arc::new(DockerBackend::new(config.clone()));
        Self { config, backend, _data: data }
    }

    /// Ids of its containers, running or not.
    pub(crate) fn containers(&self) -> Vec<String> {
        containers(&self.config.instance)
    }

    /// Names of its volumes.
    pub(crate) fn volumes(&self) -> Vec<String> {
        volumes(&self.config.instance)
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        remove_all(&self.config.instance);
    }
}

/// Removes every container and volume with this platform's label.
pub(crate) fn remove_all(instance: &str) {
    for id in containers(instance) {
        let _gone = try_docker(&["rm", "--force", "--volumes", &id]);
    }
    for name in volumes(instance) {
        let _gone = try_docker(&["volume", "rm", "--force", &name]);
    }
}

/// Ids of a platform's containers, running or not.
fn containers(instance: &str) -> Vec<String> {
    let filter = format!("label=molecule.platform.instance={instance}");
    let found = docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter]);
    found.lines().map(str::to_owned).collect()
}

/// Names of a platform's volumes.
fn volumes(instance: &str) -> Vec<String> {
    let filter = format!("label=molecule.platform.instance={instance}");
    docker(&["volume", "ls", "--quiet", "--filter", &filter]).lines().map(str::to_owned).collect()
}

/// A platform's running containers by workspace, each with its id and the time of its start.
pub(crate) fn containers_by_workspace(instance: &str) -> BTreeMap<String, String> {
    const FORMAT: &str =
        "{{index .Config.Labels \"covalence.workspace\"}} {{.State.Running}} {{.Id}} {{.State.StartedAt}}";
    let mut found = BTreeMap::new();
    for id in containers(instance) {
        // One that is removed at this moment does not run.
        let Ok(line) = try_docker(&["inspect", "--format", FORMAT, &id]) else { continue };
        if let [workspace, "true", container, started] = line.split(' ').collect::<Vec<_>>()[..] {
            let twin = found.insert(workspace.to_owned(), format!("{container} {started}"));
            assert!(twin.is_none(), "workspace {workspace} runs twice; one of its containers is {container}");
        }
    }
    found
}

fn config(data_dir: PathBuf) -> DockerConfig {
    let limit = |memory_mb, cpu_shares| TierLimits {
        memory_mb: NonZeroU32::new(memory_mb).unwrap(),
        cpu_shares: NonZeroU32::new(cpu_shares).unwrap(),
    };
    // A runtime whose sessions are kept, as the ones of `claude-code` are, in the image that is here.
    let runtimes: RuntimesConfig = toml::from_str(&format!(
        "[keeper]\nimage = \"{IMAGE}\"\nsession_path = \"/sessions\"\n\
         [absent]\nimage = \"covalence/absent:latest\"\n\
         [broken]\nimage = \"{IMAGE}\"\ncommand = [\"x\"]\n"
    ))
    .unwrap();
    DockerConfig {
        host: Some(format!("unix://{SOCKET}")),
        instance: format!("test-{}", uuid::Uuid::new_v4()),
        network: "covalence-net".to_owned(),
        privileged_tier_max: None,
        // More CPUs than the machine has are refused by the engine, so tier 4 is smaller here.
        limits: [limit(512, 1024), limit(1024, 1024), limit(1024, 2048)],
        environment: CommonEnvironment {
            platform_url: "http://host.docker.internal:9".to_owned(),
            ..CommonEnvironment::default()
        },
        runtimes: Arc::new(Runtimes::new(&runtimes, &ImageNames::default()).unwrap()),
        templates: None,
        data_dir,
    }
}

/// The first generation of a new workspace.
pub(crate) fn spec(tier: u8) -> ProvisionSpec {
    ProvisionSpec {
        workspace: WorkspaceId::generate(),
        generation: Generation(1),
        name: "Ann".to_owned(),
        role: None,
        tier,
        runtime: "echo".to_owned(),
        model: None,
        template: None,
        parent: None,
        workspace_dir: None,
        workspace_access: WorkspaceAccess::None,
        reset_session: false,
        token: Secret::new("token-of-generation-1".to_owned()),
        secrets: Vec::new(),
    }
}

/// Starts it and answers the container's id.
pub(crate) async fn provision(backend: &DockerBackend, spec: &ProvisionSpec) -> String {
    backend.provision(spec).await.unwrap().instance.unwrap().id
}
