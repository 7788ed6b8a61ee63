//! `covalence log verify`: whether the event log is whole.

use clap::{Args, Subcommand};
use covalence_events::log::sled::ClosedLog;
use covalence_events::log::{OpenError, Verified};
use serde_json::{Value, json};

use crate::cli::Shared;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::output::{note, text};
use crate::config::log_dir;

/// Check the event log
#[derive(Debug, Args)]
pub(super) struct Log {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read the whole log: checksums, order, and the chain of hashes; changes nothing. Works with and without its server
    #[command(
        after_help = "Examples:\n  covalence log verify\n  covalence log verify --data-dir /var/lib/covalence --json\n\nExit code 1 where something is wrong."
    )]
    Verify {},
}

impl Log {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let Command::Verify {} = self.command;
        let path = log_dir(shared.layers()?.text("data_dir").unwrap_or_default().as_ref());
        let offline = tokio::task::spawn_blocking(move || ClosedLog::open(&path).map(|log| log.verify()))
            .await
            .map_err(anyhow::Error::from)?;
        let verified = match offline {
            Ok(verified) => document(&verified.map_err(anyhow::Error::from)?),
            Err(locked @ OpenError::Locked { .. }) => ask_server(shared, locked).await?,
            Err(error) => return Err(anyhow::Error::from(error).into()),
        };
        let problems = verified["problems"].as_array().cloned().unwrap_or_default();
        let output = shared.output();
        if output.json {
            output.document(&verified)?;
        } else {
            output.line(&format!("events  {}", verified["events"]))?;
            output.line(&format!("head    {}", verified["head"]))?;
            output.line(&format!("chain   {}", text(&verified, "chain")))?;
            for problem in &problems {
                output.line(&format!("problem {}", problem.as_str().unwrap_or_default()))?;
            }
        }
        match problems.len() {
            0 => Ok(()),
            1 => Err(Failure::new(Exit::Failure, "the log has a problem")),
            count => Err(Failure::new(Exit::Failure, format!("the log has {count} problems"))),
        }
    }
}

/// Its server has the log open, and can read it. Whoever else holds it is named.
async fn ask_server(shared: &Shared, locked: OpenError) -> Outcome<Value> {
    let client = shared.client()?;
    note(&format!("the log is in use: asking the server at {}", client.url()));
    match client.get(&["admin", "log", "verify"]).await {
        Err(failure) if failure.exit == Exit::Unreachable => {
            let failure = Failure::from(anyhow::Error::from(locked));
            Err(Failure { exit: Exit::Refused, ..failure }
                .hint("name its server with --url, or stop what holds it"))
        }
        answer => answer,
    }
}

fn document(verified: &Verified) -> Value {
    json!({
        "events": verified.events,
        "head": verified.head,
        "chain": verified.chain,
        "problems": verified.problems,
    })
}
