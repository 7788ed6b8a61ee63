//! The command line: one file for each command, and what they share.
//!
//! Data goes to stdout, everything else to stderr. Every command takes `--json`. Exit codes are those of
//! [`failure::Exit`]. Commands other than `serve` talk to a server over its HTTP API and hold no rule of their own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{Environment, Flags, Layers};

mod as_of;
mod backtest;
pub mod client;
mod completions;
mod config;
mod diff;
mod events;
mod explain;
mod fact;
pub mod failure;
mod health;
mod hold;
mod images;
mod incidents;
mod keys;
mod log;
mod log_reader;
mod logs;
mod name;
pub mod output;
mod policy;
mod projections;
mod replay;
mod secrets;
mod send;
mod serve;
mod status;
mod strangers;
mod subscriptions;
mod supervision;
mod timeline;
mod tokens;
mod value;
mod wait;
mod when;
mod workspaces;

use client::{Client, Target};
use failure::Outcome;
use output::Output;

const EXAMPLES: &str = "\
Examples:
  covalence serve --demo                      a team of five, on this machine
  covalence workspaces ls                     who is there, and how they are
  covalence send lead 'hello'                 send a message, print the answer
  covalence events --workspace lead --since -15m
                                              what happened to it, and why
  covalence explain lead                      why it was restarted, or was not
  covalence status                            what holds restarts back, who fails, what was decided
  covalence hold --reason 'new disk' --for 30m
                                              restart nothing for half an hour

Exit codes:
  0 done   1 failed   2 wrong usage   3 not found   4 refused by the current state
  5 server unreachable   6 not authorised   7 timed out   8 server busy";

/// Control plane for teams of AI-agent workspaces.
#[derive(Debug, Parser)]
#[command(name = "covalence", version, after_help = EXAMPLES, max_term_width = 100, subcommand_required = true)]
pub struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[expect(clippy::doc_markdown, reason = "these comments are help texts, where backticks would show")]
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Common options")]
struct Common {
    /// Data directory [env: COVALENCE_DATA_DIR] [default: .covalence]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    // Not a doc comment: rustdoc would take `<data-dir>` for a tag.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help = "Configuration file [env: COVALENCE_CONFIG] [default: <data-dir>/covalence.toml]"
    )]
    config: Option<PathBuf>,
    /// Server to talk to [env: COVALENCE_URL] [default: the configured one on this machine]
    #[arg(long, global = true, value_name = "URL")]
    url: Option<String>,
    /// Token to send [env: COVALENCE_TOKEN] [default: the data directory's admin token]
    #[arg(long, global = true, value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(serve::Serve),
    /// List, show and change workspaces
    #[command(visible_alias = "ws")]
    Workspaces(workspaces::Workspaces),
    /// List, set and remove secrets; replace the key that wraps their keys
    Secrets(secrets::Secrets),
    /// List, make and end tokens that open what the admin's does
    Tokens(tokens::Tokens),
    /// Restart a workspace
    Restart(workspaces::Restart),
    /// Hold restarts back
    Hold(hold::Hold),
    /// End a hold, a quarantine or a brake
    Release(hold::Release),
    /// Start nothing any more, whoever asks
    StopAll(hold::StopAll),
    /// Show, check and change the supervision policy
    Policy(policy::Policy),
    /// Say what another policy would have decided
    Backtest(backtest::Backtest),
    /// Say whether automatic restarts are done, or only recorded
    Mode(supervision::Mode),
    /// Say who is restarted when a member of a team dies
    Strategy(supervision::Strategy),
    /// Show why a workspace was restarted, and why not
    Supervision(supervision::Supervision),
    /// Send a message to a workspace and print its answer
    Send(send::Send),
    /// Print what a workspace's agent wrote
    Logs(logs::Logs),
    /// Print what happened, from the event log
    Events(events::Events),
    /// Explain why something happened to a workspace, or did not
    Explain(explain::Explain),
    /// Print what happened between two moments, in lanes
    Timeline(timeline::Show),
    /// Say what differs between two moments, and which fact changed it
    Diff(diff::Diff),
    /// Step the fleet through its past: play, pause, back and on
    Replay(replay::Replay),
    /// List, look into, open, note on, close and keep incidents
    Incidents(incidents::Incidents),
    /// Check, back up, restore and keep up the event log
    Log(log::Log),
    /// List the projections, and fold them anew from the log
    Projections(projections::Projections),
    /// Follow the log under a name, and see who does
    Subscriptions(subscriptions::Subscriptions),
    /// Build images of runtimes
    Images(images::Images),
    /// List and remove instances that the log does not know
    Strangers(strangers::Strangers),
    /// Show the configuration
    Config(config::Config),
    /// Show the fleet on one screen: what holds restarts back, who fails, what was decided
    Status(status::Status),
    /// Ask whether the server lives: exit code 0 or 1
    Health(health::Health),
    /// Print a completion script for a shell
    Completions(completions::Completions),
}

impl Cli {
    /// Runs the command within a runtime.
    pub async fn run(self) -> Outcome {
        let mut shared = Shared { flags: self.common.flags(), json: self.common.json };
        match self.command {
            Command::Serve(command) => Box::pin(command.run(&mut shared)).await,
            Command::Workspaces(command) => command.run(&shared).await,
            Command::Secrets(command) => command.run(&shared).await,
            Command::Tokens(command) => command.run(&shared).await,
            Command::Restart(command) => command.run(&shared.client()?, shared.output()).await,
            Command::Hold(command) => command.run(&shared).await,
            Command::Release(command) => command.run(&shared).await,
            Command::StopAll(command) => command.run(&shared).await,
            Command::Policy(command) => command.run(&shared).await,
            Command::Backtest(command) => command.run(&shared).await,
            Command::Mode(command) => command.run(&shared).await,
            Command::Strategy(command) => command.run(&shared).await,
            Command::Supervision(command) => command.run(&shared).await,
            Command::Send(command) => command.run(&shared).await,
            Command::Logs(command) => command.run(&shared).await,
            Command::Events(command) => command.run(&shared).await,
            Command::Explain(command) => command.run(&shared).await,
            Command::Timeline(command) => command.run(&shared).await,
            Command::Diff(command) => command.run(&shared).await,
            Command::Replay(command) => command.run(&shared).await,
            Command::Incidents(command) => command.run(&shared).await,
            Command::Log(command) => command.run(&shared).await,
            Command::Projections(command) => command.run(&shared).await,
            Command::Subscriptions(command) => command.run(&shared).await,
            Command::Images(command) => command.run(&shared).await,
            Command::Strangers(command) => command.run(&shared).await,
            Command::Config(command) => command.run(&shared),
            Command::Status(command) => command.run(&shared).await,
            Command::Health(command) => command.run(&shared).await,
            Command::Completions(command) => command.run(&shared),
        }
    }
}

impl Common {
    fn flags(&self) -> Flags {
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        let mut values = BTreeMap::new();
        let common = [
            ("data_dir", self.data_dir.as_ref().map(path)),
            ("client.url", self.url.clone()),
            ("client.token", self.token.clone()),
        ];
        for (key, value) in common {
            if let Some(value) = value {
                values.insert(key, value);
            }
        }
        Flags { config: self.config.clone(), values, ..Flags::default() }
    }
}

/// What a command gets besides its own arguments.
#[derive(Debug)]
struct Shared {
    flags: Flags,
    json: bool,
}

impl Shared {
    fn layers(&self) -> Outcome<Layers> {
        Ok(Layers::read(&self.flags, &Environment)?)
    }

    fn client(&self) -> Outcome<Client> {
        Client::new(Target::from_layers(&self.layers()?)?)
    }

    fn output(&self) -> Output {
        Output::new(self.json)
    }
}

#[cfg(test)]
mod tests;
