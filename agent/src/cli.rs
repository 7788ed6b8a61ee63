//! Command line of `covalence-agent`.
//!
//! Every option is a plain text here; [`crate::config`] merges it with the environment and validates it, so that
//! a bad value is reported in the same words wherever it came from.

#![expect(clippy::doc_markdown, reason = "the comments are the text of --help, which knows no markdown")]

use clap::{Args, Parser, Subcommand};

/// A workspace runtime: serves A2A, registers with the platform and sends heartbeats.
#[derive(Debug, Parser)]
#[command(name = "covalence-agent", version, about)]
#[command(after_help = "Every option can be set by the environment variable named with it; a flag wins.\n\
    The token is read from `<config path>/.auth_token`, else from MOLECULE_API_KEY.")]
pub struct Cli {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Settings.
    #[command(flatten)]
    pub options: Options,
}

/// What to do instead of serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Ask the agent on this host for its card; exit 0 if it answers, 1 if not (for images without curl)
    Health,
}

/// Options as typed, not yet validated.
#[derive(Debug, Clone, Default, Args)]
pub struct Options {
    /// Id of this workspace [env: WORKSPACE_ID]
    #[arg(long, global = true, value_name = "ID")]
    pub workspace_id: Option<String>,
    /// Name that `echo` answers with and the card shows [env: WORKSPACE_NAME] [default: the id]
    #[arg(long, global = true, value_name = "NAME")]
    pub workspace_name: Option<String>,
    /// Address of the platform [env: PLATFORM_URL, MOLECULE_URL, MOLECULE_API_URL] [default: http://localhost:8080]
    #[arg(long, global = true, value_name = "URL")]
    pub platform_url: Option<String>,
    /// Port to listen on; 0 lets the system choose [env: PORT] [default: 8000]
    #[arg(long, global = true, value_name = "PORT")]
    pub port: Option<String>,
    /// IP address to listen on [env: AGENT_LISTEN_HOST] [default: 0.0.0.0 in a container, else 127.0.0.1]
    #[arg(long, global = true, value_name = "IP")]
    pub listen_host: Option<String>,
    /// URL under which the platform reaches this agent [env: AGENT_URL] [default: from host name and port]
    #[arg(long, global = true, value_name = "URL")]
    pub agent_url: Option<String>,
    /// Directory with `.auth_token` [env: WORKSPACE_CONFIG_PATH] [default: /configs]
    #[arg(long, global = true, value_name = "DIR")]
    pub config_path: Option<String>,
    /// Who answers: `echo` or `command` [env: AGENT_RUNTIME] [default: echo]
    #[arg(long, global = true, value_name = "RUNTIME")]
    pub runtime: Option<String>,
    /// Command of the runtime `command`: a JSON array or a command line [env: AGENT_COMMAND]
    #[arg(long, global = true, value_name = "ARGV")]
    pub command_line: Option<String>,
    /// How the command gets the prompt: `stdin` or `argument` [env: AGENT_COMMAND_INPUT] [default: stdin]
    #[arg(long, global = true, value_name = "INPUT")]
    pub command_input: Option<String>,
    /// Seconds after which a command is killed [env: AGENT_COMMAND_TIMEOUT] [default: 600]
    #[arg(long, global = true, value_name = "SECONDS")]
    pub command_timeout: Option<String>,
    /// Commands at one time; more are answered with 503 [env: AGENT_COMMAND_CONCURRENCY] [default: 5]
    #[arg(long, global = true, value_name = "COUNT")]
    pub command_concurrency: Option<String>,
    /// Seconds between heartbeats [env: HEARTBEAT_INTERVAL] [default: 30]
    #[arg(long, global = true, value_name = "SECONDS")]
    pub heartbeat_interval: Option<String>,
    /// Log filter, such as `info` or `covalence_agent=debug` [env: AGENT_LOG, RUST_LOG] [default: info]
    #[arg(long, global = true, value_name = "FILTER")]
    pub log: Option<String>,
}
