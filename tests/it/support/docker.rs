//! The real engine, an image on it, and adapters with a platform id of their own.

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
        let filter = format!("label=molecule.platform.instance={}", self.config.instance);
        docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter])
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// Names of its volumes.
    pub(crate) fn volumes(&self) -> Vec<String> {
        let filter = format!("label=molecule.platform.instance={}", self.config.instance);
        docker(&["volume", "ls", "--quiet", "--filter", &filter]).lines().map(str::to_owned).collect()
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        for id in self.containers() {
            let _gone = try_docker(&["rm", "--force", "--volumes", &id]);
        }
        for name in self.volumes() {
            let _gone = try_docker(&["volume", "rm", "--force", &name]);
        }
    }
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
    }
}

/// Starts it and answers the container's id.
pub(crate) async fn provision(backend: &DockerBackend, spec: &ProvisionSpec) -> String {
    backend.provision(spec).await.unwrap().instance.unwrap().id
}
