//! From a provisioning's specification to the engine's words: image, environment, mounts, limits, network.
//!
//! Pure. The same plan also prints as a `docker run` for people to try by hand (R20).

use std::collections::{BTreeMap, HashMap};

use bollard::models::{
    ContainerCreateBody, EndpointSettings, HostConfig, HostConfigLogConfig, Mount, MountType,
    NetworkingConfig, PortBinding, RestartPolicy, RestartPolicyNameEnum,
};
use covalence_actors::effect::ProvisionSpec;
use covalence_events::workspace::WorkspaceAccess;

use super::engine::Host;
use super::observe::AGENT_PORT_KEY;
use super::tiers::{self, Privileges};
use super::{DockerConfig, names};
use crate::backends::environment::variables;
use crate::runtimes::{Runner, Runtime};

/// Where an agent answers inside its container.
pub(super) const AGENT_PORT: u16 = 8000;
/// Where a workspace finds its configuration and token.
pub(super) const CONFIG_PATH: &str = "/configs";
/// Where a workspace keeps its files.
const WORKSPACE_PATH: &str = "/workspace";
/// Docker's name for the machine that the engine runs on.
const HOST_ALIAS: &str = "host.docker.internal:host-gateway";
/// Tier 1 may write here and nowhere else but its configuration.
const TIER1_TMPFS: &str = "rw,noexec,nosuid,size=64m";
/// An agent that logs a lot must not fill the engine's disk: 3 × 10 MB hold days of a chatty one.
const LOG_FILE_SIZE: &str = "10m";
const LOG_FILES: &str = "3";
/// Parts of variables' names whose value does not belong on a command line.
const CREDENTIAL_NAMES: [&str; 4] = ["TOKEN", "SECRET", "PASSWORD", "KEY"];

/// A container to create.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Its name, if that is free.
    pub(super) name: String,
    /// Everything else.
    pub(super) body: ContainerCreateBody,
    /// Named volumes that it mounts, and where.
    pub(super) volumes: Vec<(String, String)>,
    /// Privileges of its tier that it does not get.
    pub(super) withheld: Vec<String>,
    /// Whether its root file system can't be written.
    pub(super) read_only: bool,
    /// Names of variables whose values nobody is shown.
    pub(super) hidden: Vec<String>,
}

impl Plan {
    /// Names the network by its id, where the container has one of its own. The command for people keeps the name.
    pub(super) fn join_network(&mut self, id: &str) {
        let Some(networking) = self.body.networking_config.as_mut() else { return };
        let endpoints = networking.endpoints_config.take().unwrap_or_default();
        networking.endpoints_config =
            Some(endpoints.into_values().map(|endpoint| (id.to_owned(), endpoint)).collect());
        if let Some(host) = self.body.host_config.as_mut() {
            host.network_mode = Some(id.to_owned());
        }
    }
}

/// Plans the container of one generation. `host_port` is the port of its own that an agent on the host's network gets.
pub(super) fn plan(
    config: &DockerConfig,
    host: &Host,
    spec: &ProvisionSpec,
    runtime: &Runtime,
    host_port: Option<u16>,
) -> Plan {
    let (privileges, withheld) = tiers::privileges(spec.tier, config.privileged_tier_max);
    let host_port = host_port.filter(|_| privileges.host);
    let read_only = spec.tier == 1;
    let (volumes, mut binds) = mounts(spec, runtime);
    if let (true, Host::Unix(socket)) = (privileges.host, host) {
        binds.push(bind(socket, "/var/run/docker.sock", false));
    }
    let mounts = volumes.iter().map(|(name, target)| volume(name, target)).chain(binds).collect();
    let mut labels = names::container_labels(&config.instance, spec.workspace, spec.generation);
    labels.extend(host_port.map(|port| (names::LABEL_PORT.to_owned(), port.to_string())));
    let env = environment(config, spec, runtime, host_port);
    let body = ContainerCreateBody {
        image: runtime.image.clone(),
        env: Some(env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()),
        labels: Some(labels),
        exposed_ports: host_port.is_none().then(|| vec![AGENT_PORT_KEY.to_owned()]),
        networking_config: host_port.is_none().then(|| network(config, spec)),
        host_config: Some(HostConfig {
            mounts: Some(mounts),
            log_config: Some(log_config()),
            restart_policy: Some(RestartPolicy {
                // There is one supervisor, and it is not the engine (R32).
                name: Some(RestartPolicyNameEnum::NO),
                maximum_retry_count: None,
            }),
            extra_hosts: Some(vec![HOST_ALIAS.to_owned()]),
            readonly_rootfs: Some(read_only),
            tmpfs: read_only.then(|| HashMap::from([("/tmp".to_owned(), TIER1_TMPFS.to_owned())])),
            ..limits(config, spec.tier, privileges, host_port)
        }),
        ..ContainerCreateBody::default()
    };
    let hidden = spec.secrets.iter().map(|(name, _)| name.clone()).collect();
    Plan { name: names::container(spec.workspace), body, volumes, withheld, read_only, hidden }
}

fn limits(config: &DockerConfig, tier: u8, privileges: Privileges, host_port: Option<u16>) -> HostConfig {
    let limits = usize::from(tier).checked_sub(2).and_then(|index| config.limits.get(index)).copied();
    let loopback = PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: Some(String::new()) };
    HostConfig {
        memory: limits.map(tiers::memory_bytes),
        nano_cpus: limits.map(tiers::nano_cpus),
        privileged: Some(privileges.privileged),
        pid_mode: privileges.privileged.then(|| "host".to_owned()),
        network_mode: Some(if host_port.is_some() { "host".to_owned() } else { config.network.clone() }),
        // On the host's network there is nothing to publish: the agent has a port of its own there.
        port_bindings: host_port
            .is_none()
            .then(|| HashMap::from([(AGENT_PORT_KEY.to_owned(), Some(vec![loopback]))])),
        ..HostConfig::default()
    }
}

fn network(config: &DockerConfig, spec: &ProvisionSpec) -> NetworkingConfig {
    let endpoint = EndpointSettings {
        aliases: Some(vec![names::container(spec.workspace)]),
        ..EndpointSettings::default()
    };
    NetworkingConfig { endpoints_config: Some(HashMap::from([(config.network.clone(), endpoint)])) }
}

fn log_config() -> HostConfigLogConfig {
    let options = [("max-size", LOG_FILE_SIZE), ("max-file", LOG_FILES)];
    HostConfigLogConfig {
        typ: Some("json-file".to_owned()),
        config: Some(options.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
    }
}

/// Named volumes with their targets, and directories of the host.
fn mounts(spec: &ProvisionSpec, runtime: &Runtime) -> (Vec<(String, String)>, Vec<Mount>) {
    let mut volumes = vec![(names::config_volume(spec.workspace), CONFIG_PATH.to_owned())];
    let mut binds = Vec::new();
    if spec.tier == 1 {
        return (volumes, binds);
    }
    match (&spec.workspace_dir, spec.workspace_access) {
        (Some(path), WorkspaceAccess::ReadOnly) => binds.push(bind(path, WORKSPACE_PATH, true)),
        (Some(path), WorkspaceAccess::ReadWrite) => binds.push(bind(path, WORKSPACE_PATH, false)),
        (Some(_), WorkspaceAccess::None) | (None, _) => {
            volumes.push((names::workspace_volume(spec.workspace), WORKSPACE_PATH.to_owned()));
        }
    }
    if let Some(path) = &runtime.session_path {
        volumes.push((names::session_volume(spec.workspace), path.clone()));
    }
    (volumes, binds)
}

fn volume(name: &str, target: &str) -> Mount {
    Mount {
        typ: Some(MountType::VOLUME),
        source: Some(name.to_owned()),
        target: Some(target.to_owned()),
        ..Mount::default()
    }
}

fn bind(source: &str, target: &str, read_only: bool) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_owned()),
        target: Some(target.to_owned()),
        read_only: Some(read_only),
        ..Mount::default()
    }
}

fn environment(
    config: &DockerConfig,
    spec: &ProvisionSpec,
    runtime: &Runtime,
    host_port: Option<u16>,
) -> BTreeMap<String, String> {
    let mut env = variables(&config.environment, spec, CONFIG_PATH);
    let mut set = |name: &str, value: String| {
        env.insert(name.to_owned(), value);
    };
    set("PORT", host_port.unwrap_or(AGENT_PORT).to_string());
    if let Some(port) = host_port {
        // On the host's network every neighbour would reach an agent that listens everywhere.
        set("AGENT_LISTEN_HOST", "127.0.0.1".to_owned());
        set("AGENT_URL", format!("http://127.0.0.1:{port}"));
    } else {
        set("AGENT_URL", format!("http://{}:{AGENT_PORT}", names::container(spec.workspace)));
    }
    if let Runner::Command(Some(line)) = &runtime.runner {
        set("AGENT_RUNTIME", "command".to_owned());
        set("AGENT_COMMAND", serde_json::Value::from(line.argv.clone()).to_string());
        set("AGENT_COMMAND_INPUT", line.input.as_str().to_owned());
        set("AGENT_COMMAND_TIMEOUT", line.timeout_seconds.to_string());
    }
    env
}

/// The same container as a command line. Values of credentials are left for the caller's own environment to give.
pub(super) fn docker_run(plan: &Plan) -> String {
    let mut words = vec!["docker run --detach".to_owned(), format!("--name {}", quoted(&plan.name))];
    let body = &plan.body;
    let mut labels: Vec<_> = body.labels.iter().flatten().collect();
    labels.sort();
    words.extend(
        labels.into_iter().map(|(name, value)| format!("--label {}", quoted(&format!("{name}={value}")))),
    );
    for pair in body.env.iter().flatten() {
        let name = pair.split('=').next().unwrap_or(pair);
        let hidden = plan.hidden.iter().any(|hidden| hidden == name)
            || CREDENTIAL_NAMES.iter().any(|part| name.to_ascii_uppercase().contains(part));
        words.push(format!("--env {}", quoted(if hidden { name } else { pair })));
    }
    if let Some(host) = &body.host_config {
        words.extend(host_words(host));
    }
    words.extend(body.image.as_deref().map(quoted));
    words.join(" ")
}

fn host_words(host: &HostConfig) -> Vec<String> {
    let mut words = Vec::new();
    for mount in host.mounts.iter().flatten() {
        let (source, target) = (mount.source.as_deref(), mount.target.as_deref());
        let read_only = if mount.read_only == Some(true) { ":ro" } else { "" };
        let text = format!("{}:{}{read_only}", source.unwrap_or_default(), target.unwrap_or_default());
        words.push(format!("--volume {}", quoted(&text)));
    }
    words.extend(host.network_mode.as_deref().map(|mode| format!("--network {}", quoted(mode))));
    words.extend(host.port_bindings.as_ref().map(|_| format!("--publish 127.0.0.1::{AGENT_PORT}")));
    words.extend(host.memory.map(|bytes| format!("--memory {bytes}")));
    // Three decimals are what the engine's own tools print; a millionth of a CPU is not worth a digit.
    words.extend(
        host.nano_cpus
            .map(|nanos| format!("--cpus {}.{:03}", nanos / 1_000_000_000, nanos / 1_000_000 % 1_000)),
    );
    words.extend(host.extra_hosts.iter().flatten().map(|entry| format!("--add-host {entry}")));
    words.extend(host.tmpfs.iter().flatten().map(|(path, options)| format!("--tmpfs {path}:{options}")));
    words.extend(host.pid_mode.as_deref().map(|mode| format!("--pid {mode}")));
    for (given, flag) in [(host.readonly_rootfs, "--read-only"), (host.privileged, "--privileged")] {
        words.extend((given == Some(true)).then(|| flag.to_owned()));
    }
    words.push("--restart no".to_owned());
    words
}

/// A word that a POSIX shell takes as it is.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests;
