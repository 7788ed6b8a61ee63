//! `covalence log verify`: whether the event log is whole.

use clap::{Args, Subcommand};
use covalence_events::log::OpenError;
use covalence_events::log::sled::SledLog;
use serde_json::json;

use crate::cli::Shared;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::config::log_dir;

/// Check the event log
#[derive(Debug, Args)]
pub(super) struct Log {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read the whole log of a stopped server: checksums, order, and the chain of hashes; changes nothing
    #[command(
        after_help = "Examples:\n  covalence log verify\n  covalence log verify --data-dir /var/lib/covalence --json\n\nExit code 1 where something is wrong."
    )]
    Verify {},
}

impl Log {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let Command::Verify {} = self.command;
        let path = log_dir(shared.layers()?.text("data_dir").unwrap_or_default().as_ref());
        let verified = tokio::task::spawn_blocking(move || SledLog::verify_path(&path))
            .await
            .map_err(anyhow::Error::from)?
            .map_err(unopened)?;
        let output = shared.output();
        if output.json {
            output.document(&json!({
                "events": verified.events,
                "head": verified.head,
                "chain": verified.chain,
                "problems": verified.problems,
            }))?;
        } else {
            output.line(&format!("events  {}", verified.events))?;
            output.line(&format!("head    {}", verified.head))?;
            output.line(&format!("chain   {}", verified.chain))?;
            for problem in &verified.problems {
                output.line(&format!("problem {problem}"))?;
            }
        }
        match verified.problems.len() {
            0 => Ok(()),
            1 => Err(Failure::new(Exit::Failure, "the log has a problem")),
            count => Err(Failure::new(Exit::Failure, format!("the log has {count} problems"))),
        }
    }
}

fn unopened(error: OpenError) -> Failure {
    let is_locked = matches!(error, OpenError::Locked { .. });
    let failure = Failure::from(anyhow::Error::from(error));
    if is_locked {
        Failure { exit: Exit::Refused, ..failure }
            .hint("stop that server first: it checks what it reads anyway")
    } else {
        failure
    }
}
