//! Configuration: flags over environment over built-in values, read and validated once.
//!
//! This is the only module that reads the environment. Errors name the variable (or flag) and what is allowed.
//! Command lines come from here and from nowhere else: no request can choose what is executed.

mod command_line;
mod environment;
mod setting;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;

use crate::cli::Options;
use crate::config::setting::Setting;

pub use crate::config::environment::{Environment, ProcessEnvironment};

/// Port of an agent in a container, by the platform's contract.
const PORT_DEFAULT: u16 = 8000;
/// Ten minutes: long enough for a tool-using model call, short enough that a stuck one is seen the same hour.
const COMMAND_TIMEOUT_DEFAULT: u64 = 600;
/// A day: beyond it a "timeout" guards nothing.
const COMMAND_TIMEOUT_MAX: u64 = 86_400;
/// Delegated tasks that run at once per workspace, by the platform's contract.
const COMMAND_CONCURRENCY_DEFAULT: u64 = 5;
/// Each command is a process with two pipes; a larger number would meet the descriptor limit first.
const COMMAND_CONCURRENCY_MAX: u64 = 256;
/// The platform counts a remote workspace as offline 90 s after its last beat: three beats may be late.
const HEARTBEAT_INTERVAL_DEFAULT: u64 = 30;
/// An interval above the platform's own liveness limit (180 s) can only make the workspace look dead.
const HEARTBEAT_INTERVAL_MAX: u64 = 180;
/// The platform's limit for names.
const NAME_BYTES_MAX: usize = 255;

/// Why the configuration cannot be used. Each names the variable or flag and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value without a default was not given.
    #[error("`{name}` is not set: {allowed}")]
    Missing {
        /// The variable.
        name: &'static str,
        /// What it should hold.
        allowed: &'static str,
    },
    /// A value was given and is not allowed.
    #[error("`{name}` is `{value}`, but must be {allowed}")]
    Invalid {
        /// The variable or flag that held the value.
        name: String,
        /// The value as given.
        value: String,
        /// What it should hold.
        allowed: String,
    },
}

/// How a command gets the text of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandInput {
    /// Written to its standard input, which is then closed.
    Stdin,
    /// Appended as its last argument. Put `--` at the end of the command if it parses options, since the text is a
    /// caller's and may begin with a dash.
    Argument,
}

/// Settings of the runtime `command`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandConfig {
    /// Program and arguments, never empty; no shell is involved.
    pub argv: Vec<String>,
    /// How the text is passed.
    pub input: CommandInput,
    /// After this its process group is killed.
    pub timeout: Duration,
    /// Commands at one time.
    pub concurrency_max: usize,
}

/// Which runtime answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeConfig {
    /// Answers what it was told, with the workspace's name.
    Echo,
    /// Runs a command for each message.
    Command(CommandConfig),
}

/// A credential. Its `Debug` shows nothing, so that a logged configuration leaks nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Everything that the agent can be told. Valid by construction through [`Config::resolve`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Id of this workspace.
    pub workspace_id: String,
    /// Name of this workspace; its id if it has none.
    pub workspace_name: String,
    /// Role, for the card's description.
    pub role: Option<String>,
    /// Address of the platform, `http` or `https`, without a trailing slash.
    pub platform_url: String,
    /// Bearer used while there is no token file.
    pub api_key: Option<Secret>,
    /// Address to listen on; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// URL of this agent as the platform should call it; `None` means by `url_host` and the port that was bound.
    pub agent_url: Option<String>,
    /// Host used in the default agent URL.
    pub url_host: String,
    /// Directory that holds `.auth_token`.
    pub config_dir: PathBuf,
    /// Who answers.
    pub runtime: RuntimeConfig,
    /// Time between heartbeats.
    pub heartbeat_interval: Duration,
    /// Filter for the log, in `tracing`'s syntax.
    pub log_filter: String,
}

impl Config {
    /// Merges flags with the environment and validates every value.
    pub fn resolve(options: &Options, env: &dyn Environment) -> Result<Self, ConfigError> {
        let workspace_id = Setting::new("--workspace-id", &["WORKSPACE_ID"])
            .read(options.workspace_id.as_deref(), env)
            .ok_or(ConfigError::Missing {
                name: "WORKSPACE_ID",
                allowed: "the id of this workspace is needed",
            })?
            .parse("letters, digits, `.`, `_` and `-`, at most 255 of them", valid_id)?;
        let workspace_name = Setting::new("--workspace-name", &["WORKSPACE_NAME"])
            .read(options.workspace_name.as_deref(), env)
            .map(|given| given.parse("one line of at most 255 bytes", valid_name))
            .transpose()?
            .unwrap_or_else(|| workspace_id.clone());
        let listen = listen_address(options, env)?;
        Ok(Self {
            role: env.var("MOLECULE_AGENT_ROLE").filter(|role| !role.trim().is_empty()),
            platform_url: platform_url(options, env)?,
            api_key: env.var("MOLECULE_API_KEY").filter(|key| !key.is_empty()).map(Secret),
            agent_url: agent_url(options, env)?,
            url_host: url_host(listen.ip(), env),
            config_dir: Setting::new("--config-path", &["WORKSPACE_CONFIG_PATH"])
                .read(options.config_path.as_deref(), env)
                .map_or_else(|| PathBuf::from("/configs"), |given| PathBuf::from(given.value)),
            runtime: runtime(options, env)?,
            heartbeat_interval: Duration::from_secs(
                Setting::new("--heartbeat-interval", &["HEARTBEAT_INTERVAL"]).whole_number(
                    options.heartbeat_interval.as_deref(),
                    env,
                    1..=HEARTBEAT_INTERVAL_MAX,
                    HEARTBEAT_INTERVAL_DEFAULT,
                )?,
            ),
            log_filter: Setting::new("--log", &["AGENT_LOG", "RUST_LOG"])
                .read(options.log.as_deref(), env)
                .map_or_else(|| "info".to_owned(), |given| given.value),
            workspace_id,
            workspace_name,
            listen,
        })
    }
}

/// Where the subcommand `health` finds the agent of this host: needs only the port and the listen address.
pub fn health_address(options: &Options, env: &dyn Environment) -> Result<SocketAddr, ConfigError> {
    let listen = listen_address(options, env)?;
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    Ok(SocketAddr::new(ip, listen.port()))
}

fn listen_address(options: &Options, env: &dyn Environment) -> Result<SocketAddr, ConfigError> {
    let port = Setting::new("--port", &["PORT"])
        .read(options.port.as_deref(), env)
        .map(|given| given.parse("a port from 0 to 65535", |text| text.parse().ok()))
        .transpose()?
        .unwrap_or(PORT_DEFAULT);
    let ip = Setting::new("--listen-host", &["AGENT_LISTEN_HOST"])
        .read(options.listen_host.as_deref(), env)
        .map(|given| given.parse("an IP address such as `127.0.0.1` or `0.0.0.0`", |text| text.parse().ok()))
        .transpose()?
        .unwrap_or_else(|| {
            // Inside a container only its own network reaches us; on a host every neighbour would.
            IpAddr::V4(if env.in_container() { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST })
        });
    Ok(SocketAddr::new(ip, port))
}

fn platform_url(options: &Options, env: &dyn Environment) -> Result<String, ConfigError> {
    Setting::new("--platform-url", &["PLATFORM_URL", "MOLECULE_URL", "MOLECULE_API_URL"])
        .read(options.platform_url.as_deref(), env)
        .map(|given| given.parse("an http or https URL without query", valid_base_url))
        .transpose()
        .map(|url| url.unwrap_or_else(|| "http://localhost:8080".to_owned()))
}

fn agent_url(options: &Options, env: &dyn Environment) -> Result<Option<String>, ConfigError> {
    const ALLOWED: &str = "an http or https URL that the platform can reach";
    let stated = Setting::new("--agent-url", &["AGENT_URL"]).read(options.agent_url.as_deref(), env);
    if let Some(given) = stated {
        return given.parse(ALLOWED, valid_base_url).map(Some);
    }
    Setting::new("--agent-url", &["AGENT_CARD_URL"])
        .read(None, env)
        .map(|given| given.parse(ALLOWED, |text| valid_base_url(text).map(|url| without_card_path(&url))))
        .transpose()
}

/// The agent's own URL, from that of its card.
fn without_card_path(card_url: &str) -> String {
    crate::a2a::card::PATHS.iter().find_map(|path| card_url.strip_suffix(path)).unwrap_or(card_url).to_owned()
}

fn url_host(listen: IpAddr, env: &dyn Environment) -> String {
    match listen {
        ip if ip.is_unspecified() => env
            .var("HOSTNAME")
            .filter(|name| valid_id(name).is_some())
            .unwrap_or_else(|| "localhost".to_owned()),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

fn runtime(options: &Options, env: &dyn Environment) -> Result<RuntimeConfig, ConfigError> {
    let is_command = Setting::new("--runtime", &["AGENT_RUNTIME"])
        .read(options.runtime.as_deref(), env)
        .map(|given| {
            given.parse("`echo` or `command`", |text| match text {
                "echo" => Some(false),
                "command" => Some(true),
                _ => None,
            })
        })
        .transpose()?
        .unwrap_or(false);
    if is_command { command(options, env).map(RuntimeConfig::Command) } else { Ok(RuntimeConfig::Echo) }
}

fn command(options: &Options, env: &dyn Environment) -> Result<CommandConfig, ConfigError> {
    let argv = Setting::new("--command-line", &["AGENT_COMMAND"])
        .read(options.command_line.as_deref(), env)
        .ok_or(ConfigError::Missing {
            name: "AGENT_COMMAND",
            allowed: "the runtime `command` needs a JSON array of strings or a command line",
        })?
        .parse("a JSON array of strings, or a command line with balanced quotes", command_line::parse)?;
    let input = Setting::new("--command-input", &["AGENT_COMMAND_INPUT"])
        .read(options.command_input.as_deref(), env)
        .map(|given| {
            given.parse("`stdin` or `argument`", |text| match text {
                "stdin" => Some(CommandInput::Stdin),
                "argument" => Some(CommandInput::Argument),
                _ => None,
            })
        })
        .transpose()?
        .unwrap_or(CommandInput::Stdin);
    let timeout = Setting::new("--command-timeout", &["AGENT_COMMAND_TIMEOUT"]).whole_number(
        options.command_timeout.as_deref(),
        env,
        1..=COMMAND_TIMEOUT_MAX,
        COMMAND_TIMEOUT_DEFAULT,
    )?;
    let concurrency = Setting::new("--command-concurrency", &["AGENT_COMMAND_CONCURRENCY"]).whole_number(
        options.command_concurrency.as_deref(),
        env,
        1..=COMMAND_CONCURRENCY_MAX,
        COMMAND_CONCURRENCY_DEFAULT,
    )?;
    Ok(CommandConfig {
        argv,
        input,
        timeout: Duration::from_secs(timeout),
        concurrency_max: usize::try_from(concurrency).unwrap_or(usize::MAX),
    })
}

fn valid_id(text: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (text.len() <= NAME_BYTES_MAX && text.chars().all(allowed)).then(|| text.to_owned())
}

fn valid_name(text: &str) -> Option<String> {
    (text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

fn valid_base_url(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let usable = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    usable.then(|| text.trim_end_matches('/').to_owned())
}
