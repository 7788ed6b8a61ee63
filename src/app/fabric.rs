//! What runs workspaces: the adapters, which of them is chosen, and where containers reach us.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::Context as _;
use covalence_actors::effect::Backend;
use covalence_events::workspace::BackendKind;
use tracing::{info, warn};

use crate::backends::docker::{DockerBackend, DockerConfig};
use crate::backends::environment::CommonEnvironment;
use crate::backends::external::ExternalBackend;
use crate::backends::process::{ProcessBackend, ProcessSettings, agent_program};
use crate::config::{BackendChoice, Config};
use crate::data_dir;
use crate::runtimes::Runtimes;

/// What runs workspaces.
pub(super) struct Fabric {
    pub(super) backends: HashMap<BackendKind, Arc<dyn Backend>>,
    pub(super) chosen: BackendKind,
    /// A second listener where containers reach us.
    pub(super) bridge: Option<TcpListener>,
}

pub(super) async fn backends(
    config: Config,
    in_use: BTreeSet<BackendKind>,
    address: SocketAddr,
) -> anyhow::Result<Fabric> {
    let instance = data_dir::instance(&config.data_dir)?;
    let data_dir = config.data_dir.canonicalize().context("the data directory")?;
    let runtimes = Arc::new(config.runtimes.clone());
    let mut backends: HashMap<BackendKind, Arc<dyn Backend>> = HashMap::new();
    backends.insert(BackendKind::External, Arc::new(ExternalBackend));
    let process = ProcessBackend::new(ProcessSettings {
        data_dir: data_dir.clone(),
        platform_instance: instance.clone(),
        agent: vec![agent_program(config.backend.agent_program.as_deref()).display().to_string()],
        templates: config.workspaces.configs_dir.clone(),
        environment: environment(&config, format!("http://127.0.0.1:{}", address.port())),
        runtimes: Arc::clone(&runtimes),
    })
    .context("the directory of the workspaces")?;
    backends.insert(BackendKind::Process, Arc::new(process));

    let docker = docker(&config, (instance, data_dir), runtimes, address);
    let chosen = choose(&config, &docker).await;
    let mut bridge = None;
    if chosen == BackendKind::Docker || in_use.contains(&BackendKind::Docker) {
        bridge = listen_on_bridge(&config, &docker, address).await;
        backends.insert(BackendKind::Docker, supervised(&config, docker));
    }
    Ok(Fabric { backends, chosen, bridge })
}

/// The adapter as it is; or, for a test that asks for it, as a naive supervisor would read it.
fn supervised(config: &Config, docker: DockerBackend) -> Arc<dyn Backend> {
    #[cfg(feature = "fault-hooks")]
    if config.naive {
        warn!("every error of the engine is taken for a death: this server is a test's");
        return Arc::new(crate::backends::naive::NaiveBackend(Arc::new(docker)));
    }
    #[cfg(not(feature = "fault-hooks"))]
    let _ = config;
    Arc::new(docker)
}

fn environment(config: &Config, default_url: String) -> CommonEnvironment {
    CommonEnvironment {
        platform_url: config.server.platform_url.as_ref().map_or(default_url, trimmed),
        awareness_url: config.workspaces.awareness_url.as_ref().map(trimmed),
        operator: BTreeMap::new(),
    }
}

/// A URL as agents concatenate it: without a trailing slash.
pub(super) fn trimmed(url: &url::Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

fn docker(
    config: &Config,
    (instance, data_dir): (String, std::path::PathBuf),
    runtimes: Arc<Runtimes>,
    address: SocketAddr,
) -> DockerBackend {
    DockerBackend::new(DockerConfig {
        host: config.backend.docker_host.clone(),
        instance,
        network: config.backend.network.clone(),
        privileged_tier_max: config.workspaces.privileged_tier_max,
        limits: config.workspaces.tiers,
        environment: environment(config, format!("http://host.docker.internal:{}", address.port())),
        runtimes,
        templates: config.workspaces.configs_dir.clone(),
        data_dir,
    })
}

/// What is said explicitly, else processes for a demo, else Docker where an engine answers, else processes.
async fn choose(config: &Config, docker: &DockerBackend) -> BackendKind {
    match config.backend.choice {
        Some(BackendChoice::Process) => BackendKind::Process,
        Some(BackendChoice::Docker) => BackendKind::Docker,
        None if config.demo => BackendKind::Process,
        None => match docker.check().await {
            Ok(()) => BackendKind::Docker,
            Err(error) => {
                info!(reason = %error, "no Docker engine answers: workspaces run as processes");
                BackendKind::Process
            }
        },
    }
}

/// Containers reach us at the gateway of the engine's bridge; never on all interfaces unless told.
async fn listen_on_bridge(
    config: &Config,
    docker: &DockerBackend,
    address: SocketAddr,
) -> Option<TcpListener> {
    let hint = "set `PLATFORM_URL` to where workspaces reach this server";
    let gateway: IpAddr = match docker.bridge_gateway().await {
        Ok(Some(gateway)) => gateway,
        Ok(None) => {
            if config.server.platform_url.is_none() {
                warn!(
                    hint,
                    "the engine has no bridge on this machine: containers may not reach the platform"
                );
            }
            return None;
        }
        Err(error) => {
            warn!(%error, hint, "the engine's bridge is not known: containers may not reach the platform");
            return None;
        }
    };
    if address.ip().is_unspecified() || address.ip() == gateway {
        return None;
    }
    let bridge = SocketAddr::new(gateway, address.port());
    match TcpListener::bind(bridge) {
        Ok(socket) => {
            info!(address = %bridge, "serving containers");
            Some(socket)
        }
        Err(error) => {
            warn!(address = %bridge, %error, hint, "containers may not reach the platform");
            None
        }
    }
}
