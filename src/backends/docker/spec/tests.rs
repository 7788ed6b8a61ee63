//! What a specification becomes in the engine's words, tier by tier.

use std::num::NonZeroU32;
use std::sync::Arc;

use covalence_actors::effect::Secret;
use covalence_events::{Generation, WorkspaceId};

use super::*;
use crate::backends::environment::CommonEnvironment;
use crate::config::TierLimits;
use crate::runtimes::{ImageNames, Runtimes, RuntimesConfig};

fn config(allowed: Option<u8>) -> DockerConfig {
    let limit = |memory_mb, cpu_shares| TierLimits {
        memory_mb: NonZeroU32::new(memory_mb).unwrap(),
        cpu_shares: NonZeroU32::new(cpu_shares).unwrap(),
    };
    DockerConfig {
        host: None,
        instance: "p1".to_owned(),
        network: "net".to_owned(),
        privileged_tier_max: allowed,
        limits: [limit(512, 1024), limit(2048, 2048), limit(4096, 4096)],
        environment: CommonEnvironment {
            platform_url: "http://host.docker.internal:8080".to_owned(),
            operator: [("OPENAI_API_KEY".to_owned(), "hunter2".to_owned())].into(),
            ..CommonEnvironment::default()
        },
        runtimes: Arc::new(Runtimes::new(&RuntimesConfig::default(), &ImageNames::default()).unwrap()),
        templates: None,
        data_dir: "/nowhere".into(),
    }
}

fn spec(tier: u8, runtime: &str) -> ProvisionSpec {
    ProvisionSpec {
        workspace: "01234567-89ab-4cde-8f01-23456789abcd".parse::<WorkspaceId>().unwrap(),
        generation: Generation(3),
        name: "Ann's".to_owned(),
        role: None,
        tier,
        runtime: runtime.to_owned(),
        model: None,
        template: None,
        parent: None,
        workspace_dir: None,
        workspace_access: WorkspaceAccess::None,
        reset_session: false,
        token: Secret::new("the-token".to_owned()),
        secrets: Vec::new(),
    }
}

fn planned(spec: &ProvisionSpec, allowed: Option<u8>) -> Plan {
    let config = config(allowed);
    let runtime = config.runtimes.get(&spec.runtime).unwrap().clone();
    plan(&config, &Host::Unix("/run/e.sock".to_owned()), spec, &runtime, Some(40_000))
}

fn host(plan: &Plan) -> &HostConfig {
    plan.body.host_config.as_ref().unwrap()
}

fn targets(plan: &Plan) -> Vec<&str> {
    host(plan).mounts.iter().flatten().filter_map(|mount| mount.target.as_deref()).collect()
}

fn env<'a>(plan: &'a Plan, name: &str) -> Option<&'a str> {
    let pairs = plan.body.env.as_ref()?;
    pairs.iter().find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// R24, R32.
#[test]
fn the_environment_is_that_of_the_contract() {
    let plan = planned(&spec(2, "echo"), None);
    for (name, value) in [
        ("WORKSPACE_ID", "01234567-89ab-4cde-8f01-23456789abcd"),
        ("WORKSPACE_CONFIG_PATH", "/configs"),
        ("PLATFORM_URL", "http://host.docker.internal:8080"),
        ("PYTHONPATH", "/app"),
        ("PORT", "8000"),
        ("TIER", "2"),
    ] {
        assert_eq!(env(&plan, name), Some(value), "{name}");
    }
    assert_eq!(env(&plan, "PARENT_ID"), None);
    assert_eq!(host(&plan).restart_policy.as_ref().unwrap().name, Some(RestartPolicyNameEnum::NO));
    assert_eq!(host(&plan).extra_hosts.as_deref(), Some(&[HOST_ALIAS.to_owned()][..]));
}

#[test]
fn tier_1_reaches_its_configuration_and_nothing_else() {
    let plan = planned(&spec(1, "claude-code"), None);
    assert_eq!(targets(&plan), ["/configs"]);
    assert_eq!(host(&plan).readonly_rootfs, Some(true));
    assert_eq!(host(&plan).tmpfs.as_ref().unwrap()["/tmp"], TIER1_TMPFS);
    assert_eq!((host(&plan).memory, host(&plan).nano_cpus), (None, None));
}

/// R23: limits always, privileges only where they are allowed.
#[test]
fn privileges_of_high_tiers_need_leave_and_their_limits_do_not() {
    let plan = planned(&spec(4, "echo"), None);
    assert_eq!(host(&plan).memory, Some(4096 << 20));
    assert_eq!(host(&plan).nano_cpus, Some(4_000_000_000));
    assert_eq!(host(&plan).privileged, Some(false));
    assert_eq!(host(&plan).pid_mode, None);
    assert_eq!(host(&plan).network_mode.as_deref(), Some("net"));
    assert_eq!(plan.withheld.len(), 4);
    let plan = planned(&spec(4, "echo"), Some(4));
    assert_eq!(host(&plan).privileged, Some(true));
    assert_eq!(host(&plan).network_mode.as_deref(), Some("host"));
    assert_eq!(env(&plan, "PORT"), Some("40000"));
    assert_eq!(env(&plan, "AGENT_LISTEN_HOST"), Some("127.0.0.1"));
    assert_eq!(plan.body.labels.as_ref().unwrap()[names::LABEL_PORT], "40000");
    assert!(plan.body.networking_config.is_none() && plan.body.exposed_ports.is_none());
    assert!(targets(&plan).contains(&"/var/run/docker.sock") && plan.withheld.is_empty());
}

/// R25: only runtimes that keep sessions have the volume.
#[test]
fn claude_code_has_a_session_volume_and_others_have_none() {
    assert!(targets(&planned(&spec(2, "claude-code"), None)).contains(&"/root/.claude/sessions"));
    assert_eq!(targets(&planned(&spec(2, "echo"), None)), ["/configs", "/workspace"]);
}

#[test]
fn a_workspace_directory_is_mounted_as_its_access_says() {
    for (access, read_only) in [
        (WorkspaceAccess::None, None),
        (WorkspaceAccess::ReadOnly, Some(true)),
        (WorkspaceAccess::ReadWrite, Some(false)),
    ] {
        let spec = ProvisionSpec {
            workspace_dir: Some("/srv/work".to_owned()),
            workspace_access: access,
            ..spec(2, "echo")
        };
        let plan = planned(&spec, None);
        let mount =
            host(&plan).mounts.iter().flatten().find(|mount| mount.target.as_deref() == Some("/workspace"));
        let mount = mount.unwrap();
        assert_eq!(mount.read_only, read_only, "{access:?}");
        let is_host_directory = mount.source.as_deref() == Some("/srv/work");
        assert_eq!(is_host_directory, access != WorkspaceAccess::None, "{access:?}");
    }
}

/// R20: the command line can be pasted, and holds no secret.
#[test]
fn the_equivalent_docker_run_can_be_pasted_and_holds_no_secret() {
    let command = docker_run(&planned(&spec(2, "echo"), None));
    assert!(command.starts_with("docker run --detach --name ws-01234567-89a "), "{command}");
    assert!(command.contains("--env 'WORKSPACE_NAME=Ann'\\''s'"), "{command}");
    assert!(command.contains("--env OPENAI_API_KEY ") && !command.contains("hunter2"), "{command}");
    assert!(command.contains("--memory 536870912 --cpus 1.000"), "{command}");
    assert!(command.contains("--publish 127.0.0.1::8000"), "{command}");
    assert!(command.ends_with("covalence/echo:latest"), "{command}");
    assert!(!command.contains("the-token"));
}
