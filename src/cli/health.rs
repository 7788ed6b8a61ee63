//! `covalence health`: whether the server's process lives, for images that have no `curl`.

use std::time::Duration;

use clap::Args;
use reqwest::Method;
use serde_json::json;

use crate::cli::Shared;
use crate::cli::failure::{Exit, Failure, Outcome};

/// An engine asks every few seconds; a process that does not answer for this long is not well.
const TIMEOUT: Duration = Duration::from_secs(3);

const EXAMPLES: &str = "\
Examples:
  HEALTHCHECK CMD [\"/covalence\", \"health\"]
  covalence health --ready && echo 'takes work'";

/// Ask whether the server lives: exit code 0 or 1
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Health {
    /// Ask whether it takes work: its log is writable and its views keep up
    #[arg(long)]
    ready: bool,
}

impl Health {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let client = shared.client()?;
        let path = if self.ready { "ready" } else { "health" };
        let asked = client.send(client.request(Method::GET, &[path]).timeout(TIMEOUT)).await;
        let output = shared.output();
        if output.json {
            output.document(&json!({ "url": client.url().as_str(), path: asked.is_ok() }))?;
        }
        match asked {
            Ok(_) if output.json => Ok(()),
            Ok(_) => output.line("ok"),
            // An engine's health check knows two codes only.
            Err(failure) => Err(Failure { exit: Exit::Failure, ..failure }),
        }
    }
}
