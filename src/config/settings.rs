//! Every setting there is: its key in the file, its environment variable, its default.
//!
//! This table is the only list. The file's unknown keys are found by it, `config show` prints it, and a test holds
//! `.env.example` and `docs/configuration.md` to it. The section `[supervision]` is the policy's own list.

use std::sync::LazyLock;

use covalence_actors::policy::Policy;
use covalence_actors::policy::parameters::{PARAMETERS, Parameter};

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its place in the file, dotted.
    pub key: &'static str,
    /// Its environment variable.
    pub env: Option<&'static str>,
    /// The built-in value, as text; `None` means unset.
    pub default: Option<&'static str>,
    /// What it is for, in one sentence.
    pub about: &'static str,
    /// Whether its value is never printed.
    pub secret: bool,
    /// Whether a malformed environment variable falls back to the default with a warning. The wire contract's deployments
    /// rely on that for these numbers; everywhere else, and in the file, a malformed value is an error.
    pub lenient: bool,
}

impl Setting {
    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    const fn lenient(mut self) -> Self {
        self.lenient = true;
        self
    }
}

/// An entry whose empty strings mean "none".
const fn setting(
    key: &'static str,
    env: &'static str,
    default: &'static str,
    about: &'static str,
) -> Setting {
    Setting {
        key,
        env: if env.is_empty() { None } else { Some(env) },
        default: if default.is_empty() { None } else { Some(default) },
        about,
        secret: false,
        lenient: false,
    }
}

/// The setting with this key.
pub fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// All settings, in the order in which they are shown.
pub static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    let supervision = PARAMETERS.iter().map(parameter);
    PLATFORM.iter().copied().chain(supervision).chain(OTHERS.iter().copied()).collect()
});

/// Parameters that the wire contract's deployments set by a variable, in seconds.
const VARIABLES: [(&str, &str); 2] =
    [("external_stale", "REMOTE_LIVENESS_STALE_AFTER"), ("provision_timeout", "PROVISION_TIMEOUT_SECONDS")];

/// A parameter of the supervision policy as a setting. Its key and its default are made once and kept for ever.
fn parameter(parameter: &Parameter) -> Setting {
    let env = VARIABLES.iter().find(|(name, _)| *name == parameter.name).map(|(_, variable)| *variable);
    let default = Policy::default().get(parameter.name).unwrap_or_default();
    let default = match env {
        Some(_) => default.trim_end_matches('s').to_owned(),
        None => default,
    };
    Setting {
        key: format!("supervision.{}", parameter.name).leak(),
        env,
        default: Some(default.leak()),
        about: parameter.meaning,
        secret: false,
        lenient: env.is_some(),
    }
}

const PLATFORM: &[Setting] = &[
    setting(
        "data_dir",
        "COVALENCE_DATA_DIR",
        ".covalence",
        "directory of the log, the admin token and the workspaces' files",
    ),
    setting(
        "server.listen",
        "COVALENCE_LISTEN",
        "",
        "address to listen on; unset: 127.0.0.1 and `server.port`",
    ),
    setting("server.port", "PORT", "8080", "port on 127.0.0.1 where `server.listen` is unset"),
    setting(
        "server.platform_url",
        "PLATFORM_URL",
        "",
        "address at which workspaces reach the platform; unset: chosen by the backend",
    ),
    setting(
        "server.external_platform_url",
        "EXTERNAL_PLATFORM_URL",
        "",
        "address that external agents are told; unset: taken from the request",
    ),
    setting(
        "server.cors_origins",
        "CORS_ORIGINS",
        "http://localhost:3000,http://localhost:3001",
        "origins of pages that may call the API",
    ),
    setting(
        "server.rate_limit",
        "RATE_LIMIT",
        "600",
        "requests a minute for each token, or each address without one",
    )
    .lenient(),
    setting("server.workers", "COVALENCE_WORKERS", "", "HTTP worker threads; unset: one for each core"),
    setting(
        "access.admin_token",
        "ADMIN_TOKEN",
        "",
        "admin token; unset: the one in `<data_dir>/admin-token`",
    )
    .secret(),
    setting(
        "access.environment",
        "MOLECULE_ENV",
        "",
        "`development` or `dev` without an admin token opens the API on loopback",
    ),
    setting(
        "access.enrolment",
        "COVALENCE_ENROLMENT",
        "15m",
        "how long after a workspace's creation its agent gets its first token by registering",
    ),
    setting(
        "access.test_tokens",
        "MOLECULE_ENABLE_TEST_TOKENS",
        "",
        "`1` or `0`: whether the admin may fetch tokens for tests; unset: not where `access.environment` is `production`",
    ),
    setting("access.organisation", "MOLECULE_ORG_ID", "", "tenant that every request must name"),
    setting(
        "access.organisation_slug",
        "MOLECULE_ORG_SLUG",
        "",
        "the organisation's name at the control plane, which says whose session is a member's",
    ),
    setting(
        "access.control_plane",
        "CP_UPSTREAM_URL",
        "",
        "address of the control plane behind `/cp/`; unset: there is none",
    ),
    setting(
        "access.canvas",
        "CANVAS_PROXY_URL",
        "",
        "address of the canvas that is served where no route is; unset: there is none",
    ),
    setting(
        "access.deploy_mode",
        "MOLECULE_DEPLOY_MODE",
        "",
        "`saas` or `self-hosted`: overrides the detection for address checks",
    ),
    setting(
        "access.encryption_key",
        "SECRETS_ENCRYPTION_KEY",
        "",
        "key that wraps the keys of the workspaces, 32 bytes as base64; unset: the one in `<data_dir>/keys/master`",
    )
    .secret(),
    setting(
        "backend.kind",
        "COVALENCE_BACKEND",
        "",
        "`process` or `docker`; unset: Docker where an engine answers, else processes",
    ),
    setting(
        "backend.container_backend",
        "CONTAINER_BACKEND",
        "",
        "the same under the contract's name; `backend.kind` wins",
    ),
    setting(
        "backend.docker_host",
        "DOCKER_HOST",
        "",
        "Docker engine, `unix://…` or `tcp://…`; unset: the local socket",
    ),
    setting(
        "backend.network",
        "COVALENCE_NETWORK",
        "covalence-net",
        "Docker network of the workspaces; created if missing",
    ),
    setting(
        "backend.image_registry",
        "MOLECULE_IMAGE_REGISTRY",
        "covalence",
        "prefix of image names: `<registry>/<runtime>:<channel>`",
    ),
    setting("backend.image_channel", "COVALENCE_IMAGE_CHANNEL", "latest", "tag of image names"),
    setting(
        "backend.agent_program",
        "COVALENCE_AGENT_PROGRAM",
        "",
        "path of `covalence-agent`; unset: beside this program, then in `PATH`",
    ),
    setting(
        "workspaces.default_runtime",
        "COVALENCE_DEFAULT_RUNTIME",
        "",
        "runtime of a workspace that names none; unset: naming one is required",
    ),
    setting(
        "workspaces.allow_privileged",
        "COVALENCE_ALLOW_PRIVILEGED",
        "",
        "highest tier, 3 or 4, that gets its privileges; unset: none",
    ),
    setting(
        "workspaces.roots",
        "COVALENCE_WORKSPACE_ROOTS",
        "",
        "directories below which a `workspace_dir` must lie; unset: none is accepted",
    ),
    setting("workspaces.configs_dir", "CONFIGS_DIR", "", "directory of workspace templates"),
    setting(
        "workspaces.workspace_dir",
        "WORKSPACE_DIR",
        "",
        "host directory for workspaces that name none; must lie below a root",
    ),
    setting("workspaces.awareness_url", "AWARENESS_URL", "", "memory service that workspaces are told of"),
    setting("workspaces.tier2.memory_mb", "TIER2_MEMORY_MB", "512", "memory of a tier 2 workspace, MiB")
        .lenient(),
    setting(
        "workspaces.tier2.cpu_shares",
        "TIER2_CPU_SHARES",
        "1024",
        "CPU of a tier 2 workspace, 1024 is one core",
    )
    .lenient(),
    setting("workspaces.tier3.memory_mb", "TIER3_MEMORY_MB", "2048", "memory of a tier 3 workspace, MiB")
        .lenient(),
    setting(
        "workspaces.tier3.cpu_shares",
        "TIER3_CPU_SHARES",
        "2048",
        "CPU of a tier 3 workspace, 1024 is one core",
    )
    .lenient(),
    setting("workspaces.tier4.memory_mb", "TIER4_MEMORY_MB", "4096", "memory of a tier 4 workspace, MiB")
        .lenient(),
    setting(
        "workspaces.tier4.cpu_shares",
        "TIER4_CPU_SHARES",
        "4096",
        "CPU of a tier 4 workspace, 1024 is one core",
    )
    .lenient(),
    setting(
        "calls.idle_timeout",
        "A2A_IDLE_TIMEOUT_SECONDS",
        "300",
        "a call without any sign of its workspace for this long is cut",
    )
    .lenient(),
    setting(
        "calls.busy_patience",
        "A2A_BUSY_PATIENCE_SECONDS",
        "15",
        "a call without a deadline is tried again at a busy agent for this long",
    )
    .lenient(),
    setting(
        "calls.away_patience",
        "A2A_AWAY_PATIENCE_SECONDS",
        "300",
        "a delegated task waits for a workspace that is away for this long",
    )
    .lenient(),
    setting(
        "alarms.webhook",
        "COVALENCE_ALARM_WEBHOOK",
        "",
        "address that alarms are posted to as JSON; unset: they are only recorded",
    )
    .secret(),
    setting(
        "alarms.every",
        "COVALENCE_ALARMS_EVERY",
        "10s",
        "how often the platform looks at its own disk and log",
    ),
    setting(
        "segments.to",
        "COVALENCE_SEGMENTS",
        "",
        "where the log is exported to: a directory, `s3://bucket/prefix` or `off`; unset: `segments` in the data directory",
    ),
    setting(
        "segments.every",
        "COVALENCE_SEGMENTS_EVERY",
        "1h",
        "a fact is exported after this long at the latest; a busy log, every 4 MiB",
    ),
    setting(
        "retention.heartbeats",
        "COVALENCE_RETENTION_HEARTBEATS",
        "7d",
        "heartbeats older than this are rolled up into hourly summaries: days, at least `1d`; `off` keeps them for ever",
    ),
    setting(
        "retention.activity",
        "COVALENCE_RETENTION_ACTIVITY",
        "31d",
        "what was said in calls and what agents reported leaves the log after this: days, at least `31d`, a day longer than feeds show it; `off` keeps it for ever",
    ),
];

const OTHERS: &[Setting] = &[
    setting(
        "tracing.host",
        "LANGFUSE_HOST",
        "",
        "Langfuse server that is asked for traces of workspaces, with both keys; unset: nobody is",
    ),
    setting("tracing.public_key", "LANGFUSE_PUBLIC_KEY", "", "public key there"),
    setting("tracing.secret_key", "LANGFUSE_SECRET_KEY", "", "secret key there").secret(),
    setting("log.filter", "COVALENCE_LOG", "info", "what is logged, for example `info,covalence=debug`"),
    setting("log.format", "COVALENCE_LOG_FORMAT", "human", "`human` or `json`"),
    setting(
        "client.url",
        "COVALENCE_URL",
        "",
        "server that the commands talk to; unset: 127.0.0.1 and `server.port`",
    ),
    setting(
        "client.token",
        "COVALENCE_TOKEN",
        "",
        "token that the commands send; unset: the admin token of the data directory",
    )
    .secret(),
];
