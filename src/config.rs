//! The configuration: one tree, read and validated once, before anything starts.
//!
//! Values come from four layers, each over the one before: built-in, file, environment, flag. An unknown key in the file
//! is an error, and so is a value that can't be meant. Nothing else in the program reads the environment (a lint holds
//! that), and nothing reads this twice: parts of the tree are handed to whoever needs them.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::TimeDelta;
use covalence_actors::effect::Secret;
use covalence_actors::policy::Policy;
use covalence_events::keyring::MasterKey;
use covalence_events::retention::Rules;
use url::Url;

use crate::http::workspaces::traces::Tracing;
use crate::runtimes::{ImageNames, Runtimes, RuntimesError};
use crate::segments::Destination;

pub mod layers;
mod parse;
pub mod settings;
pub mod token;

#[cfg(test)]
mod tests;

pub use layers::{Entry, Environment, Flags, Layers, Lookup, Source};
pub(crate) use parse::{duration, encryption_key, master_key};

/// Why there is no configuration. Texts name what is wrong and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("configuration file {path}", path = path.display())]
    ReadFile {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("configuration file {path}", path = path.display())]
    ParseFile {
        /// Which.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: toml::de::Error,
    },
    /// The file is too long to be one.
    #[error("configuration file {path} has {length} bytes, at most 1 MiB is read", path = path.display())]
    FileTooLong {
        /// Which.
        path: PathBuf,
        /// Its length.
        length: u64,
    },
    /// The file has a key that means nothing.
    #[error("unknown key `{key}` in {path}{hint}", path = path.display(), hint = hint.map(|hint| format!(" (did you mean `{hint}`?)")).unwrap_or_default())]
    UnknownKey {
        /// Which file.
        path: PathBuf,
        /// The key, dotted.
        key: String,
        /// A key that it may be meant to be.
        hint: Option<&'static str>,
    },
    /// The file says where the data directory is, but may have been found through it.
    #[error("`data_dir` in {path}: the data directory is set by `--data-dir` or `COVALENCE_DATA_DIR` only", path = path.display())]
    DataDirInFile {
        /// Which file.
        path: PathBuf,
    },
    /// A value that is not one.
    #[error("{origin}{shown}: expected {allowed}", shown = value.as_ref().map(|value| format!(" is `{value}`")).unwrap_or_default())]
    Invalid {
        /// What it is called where it was set.
        origin: String,
        /// The value, unless it is a secret.
        value: Option<String>,
        /// What would be accepted.
        allowed: String,
    },
    /// The `[runtimes]` tables can't be read.
    #[error("`runtimes` in {path}: {reason}", path = path.display())]
    ReadRuntimes {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The `[runtimes]` tables can be read and make no sense.
    #[error(transparent)]
    Runtimes(#[from] RuntimesError),
    /// Without credentials only on loopback.
    #[error(
        "development mode lets everyone in, so it listens on loopback only, not on {listen}: set `ADMIN_TOKEN`, or listen on 127.0.0.1"
    )]
    OpenListener {
        /// Where it was to listen.
        listen: SocketAddr,
    },
    /// The settings choose a backend that this version does not have.
    #[error(
        "{origin} chooses the `{name}` backend, which this version does not have: set `COVALENCE_BACKEND` to `process` or `docker`"
    )]
    NoSuchBackend {
        /// What chose it.
        origin: &'static str,
        /// Its name.
        name: &'static str,
    },
}

/// Where the keys of a data directory are.
pub fn keys_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("keys")
}

/// Where the event log of a data directory is.
pub fn log_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("events")
}

impl ConfigError {
    fn invalid(origin: String, value: Option<String>, allowed: &str) -> Self {
        Self::Invalid { origin, value, allowed: allowed.to_owned() }
    }
}

/// Everything that can be set, validated.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory of the log, the admin token and the workspaces' files.
    pub data_dir: PathBuf,
    /// Where and how the API is served.
    pub server: Server,
    /// Who gets in.
    pub access: Access,
    /// Where workspaces run.
    pub backend: Backend,
    /// What workspaces get.
    pub workspaces: Workspaces,
    /// A2A calls.
    pub calls: Calls,
    /// Who is told of alarms.
    pub alarms: Alarms,
    /// Where the log is exported to.
    pub segments: Segments,
    /// What leaves the log when it is too old.
    pub retention: Rules,
    /// The numbers of the supervision policy.
    pub supervision: Policy,
    /// Who is asked for traces of workspaces.
    pub tracing: Option<Tracing>,
    /// What runtimes' names stand for: the built-in ones with the file's `[runtimes]` laid over them.
    pub runtimes: Runtimes,
    /// What the program says about itself.
    pub log: Logging,
    /// Whether a demo team is created.
    pub demo: bool,
    /// Whether a stop of the server stops the workspaces too.
    pub stop_workspaces: bool,
    /// Whether every error of an engine is taken for an absence: see `backends::naive`.
    #[cfg(feature = "fault-hooks")]
    pub naive: bool,
    /// Values that were ignored, for the first log lines.
    pub warnings: Vec<String>,
}

/// Where and how the API is served.
#[derive(Clone, Debug)]
pub struct Server {
    /// The address; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where workspaces reach the platform, if the operator says so.
    pub platform_url: Option<Url>,
    /// What external agents are told, if the operator says so.
    pub external_platform_url: Option<Url>,
    /// Origins of pages that may call the API.
    pub cors_origins: Vec<String>,
    /// Requests a minute for each token or address.
    pub rate_limit: NonZeroU32,
    /// HTTP worker threads; `None`: one for each core.
    pub workers: Option<NonZeroUsize>,
}

/// Who gets in.
#[derive(Clone, Debug)]
pub struct Access {
    /// The admin token of the environment or file; `None`: the one in the data directory.
    pub admin_token: Option<Secret>,
    /// What `MOLECULE_ENV` says, in lower case.
    pub environment: Option<String>,
    /// For how long after a workspace's creation its agent gets its first token by registering.
    pub enrolment: TimeDelta,
    /// Whether the admin may fetch tokens for tests.
    pub test_tokens: bool,
    /// The tenant that every request must name.
    pub organisation: Option<String>,
    /// The organisation's name at the control plane.
    pub organisation_slug: Option<String>,
    /// The control plane behind `/cp/`.
    pub control_plane: Option<Url>,
    /// The canvas that is served where no route is.
    pub canvas: Option<Url>,
    /// `saas` or `self-hosted`, if set.
    pub deploy_mode: Option<String>,
    /// What wraps the keys; `None`: the one in the data directory.
    pub encryption_key: Option<MasterKey>,
}

impl Access {
    /// Whether calls without a credential are let in (on the loopback listener only).
    pub fn is_development(&self) -> bool {
        let open = matches!(self.environment.as_deref(), Some("development" | "dev"));
        open && self.admin_token.is_none()
    }
}

/// A kind of backend that this version has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendChoice {
    /// Child processes.
    Process,
    /// Containers of a Docker engine.
    Docker,
}

/// Where workspaces run.
#[derive(Clone, Debug)]
pub struct Backend {
    /// The backend that was asked for; `None`: Docker where an engine answers, else processes.
    pub choice: Option<BackendChoice>,
    /// The Docker engine's address; `None`: the local socket.
    pub docker_host: Option<String>,
    /// The Docker network of the workspaces.
    pub network: String,
    /// How images are named.
    pub images: ImageNames,
    /// Path of `covalence-agent`; `None`: beside this program, then in `PATH`.
    pub agent_program: Option<PathBuf>,
}

/// What workspaces get.
#[derive(Clone, Debug)]
pub struct Workspaces {
    /// Runtime of a workspace that names none.
    pub default_runtime: Option<String>,
    /// The highest tier, 3 or 4, whose privileges are granted.
    pub privileged_tier_max: Option<u8>,
    /// Directories below which a `workspace_dir` must lie, absolute.
    pub roots: Vec<PathBuf>,
    /// Directory of templates.
    pub configs_dir: Option<PathBuf>,
    /// Host directory for workspaces that name none; lies below a root.
    pub workspace_dir: Option<PathBuf>,
    /// Memory service that workspaces are told of.
    pub awareness_url: Option<Url>,
    /// Limits of tiers 2, 3 and 4, in this order.
    pub tiers: [TierLimits; 3],
}

impl Workspaces {
    /// Whether workspaces of this tier get its privileges, or only its limits.
    pub fn is_privileged(&self, tier: u8) -> bool {
        tier >= 3 && self.privileged_tier_max.is_some_and(|max| tier <= max)
    }

    /// The limits of a tier; tier 1 has none.
    pub fn limits(&self, tier: u8) -> Option<TierLimits> {
        let index = usize::from(tier).checked_sub(2)?;
        self.tiers.get(index).copied()
    }
}

/// What one workspace may use (R23).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierLimits {
    /// Memory, MiB.
    pub memory_mb: NonZeroU32,
    /// CPU; 1024 is one core.
    pub cpu_shares: NonZeroU32,
}

impl TierLimits {
    /// The hard CPU allocation: 10⁹ is one core. Exact for shares of any size.
    pub fn nano_cpus(&self) -> i64 {
        i64::from(self.cpu_shares.get()) * 1_000_000_000 / 1024
    }

    /// The memory in bytes.
    pub fn memory_bytes(&self) -> i64 {
        i64::from(self.memory_mb.get()) * 1024 * 1024
    }
}

/// A2A calls.
#[derive(Clone, Debug)]
pub struct Calls {
    /// A call without any sign of its workspace for this long is cut.
    pub idle_timeout: Duration,
    /// A call without a deadline of its own is tried again at a busy agent for this long.
    pub busy_patience: Duration,
    /// A delegated task waits for a workspace that is away (paused, restarting, gone) for this long.
    pub away_patience: Duration,
}

/// Who is told of alarms besides the log.
#[derive(Clone, Debug)]
pub struct Alarms {
    /// Where they are posted to as JSON. The operator's own word: any host will do.
    pub webhook: Option<Url>,
    /// Between two looks at the platform's own disk and log.
    pub every: Duration,
}

/// The log's export.
#[derive(Clone, Debug)]
pub struct Segments {
    /// Where it goes.
    pub to: Destination,
    /// How old a fact may become that is in no segment yet.
    pub every: Duration,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// What the program says about itself, on stderr.
#[derive(Clone, Debug)]
pub struct Logging {
    /// Directives of `tracing_subscriber::EnvFilter`.
    pub filter: String,
    /// How lines look.
    pub format: LogFormat,
}

impl Config {
    /// Reads and validates all layers.
    pub fn load(flags: &Flags, environment: &dyn Lookup) -> Result<Self, ConfigError> {
        let mut layers = Layers::read(flags, environment)?;
        Self::from_layers(&mut layers, flags)
    }

    /// Validates what was read. Values that were ignored are noted in the layers, and replaced there by what holds.
    pub fn from_layers(layers: &mut Layers, flags: &Flags) -> Result<Self, ConfigError> {
        let backend = parse::backend(layers)?;
        let mut config = Self {
            data_dir: PathBuf::from(layers.text("data_dir").unwrap_or_default()),
            server: parse::server(layers)?,
            access: parse::access(layers)?,
            tracing: parse::tracing(layers)?,
            workspaces: parse::workspaces(layers)?,
            calls: parse::calls(layers)?,
            alarms: parse::alarms(layers)?,
            segments: parse::segments(layers)?,
            retention: parse::retention(layers)?,
            supervision: parse::supervision(layers)?,
            runtimes: parse::runtimes(layers, &backend.images)?,
            backend,
            log: parse::logging(layers)?,
            demo: flags.demo,
            stop_workspaces: flags.stop_workspaces,
            #[cfg(feature = "fault-hooks")]
            naive: flags.naive,
            warnings: Vec::new(),
        };
        if let Some(name) = &config.workspaces.default_runtime
            && let Err(unknown) = config.runtimes.get(name)
        {
            let origin = layers.entry("workspaces.default_runtime").map(Entry::origin).unwrap_or_default();
            let allowed = format!("one of {}", unknown.known.join(", "));
            return Err(ConfigError::invalid(origin, Some(name.clone()), &allowed));
        }
        if config.access.is_development() && !config.server.listen.ip().is_loopback() {
            return Err(ConfigError::OpenListener { listen: config.server.listen });
        }
        config.warnings.clone_from(&layers.warnings);
        Ok(config)
    }

    /// Where the event log is.
    pub fn log_dir(&self) -> PathBuf {
        log_dir(&self.data_dir)
    }
}
