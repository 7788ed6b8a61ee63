//! `covalence logs`: what a workspace's agent wrote.

use clap::Args;
use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::json;

use crate::cli::client::{Lines, pieces};
use crate::cli::failure::Outcome;
use crate::cli::{Shared, name};

const EXAMPLES: &str = "\
Examples:
  covalence logs lead --tail 50
  covalence logs lead --follow
  covalence logs lead --previous              of the run before the last restart";

/// Print what a workspace's agent wrote
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Logs {
    /// Workspace: name, id, or the beginning of either
    workspace: String,
    /// Of the run before the current one
    #[arg(long, conflicts_with = "follow")]
    previous: bool,
    /// Go on as more is written
    #[arg(long, short)]
    follow: bool,
    /// Only the last so many lines
    #[arg(long, value_name = "LINES")]
    tail: Option<u32>,
}

impl Logs {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let client = shared.client()?;
        let (rows, _) = client.roster().await?;
        let roster: Vec<_> = rows.iter().map(name::Named::from_row).collect();
        let workspace = name::resolve(&self.workspace, &roster)?;
        let mut query = vec![("previous", self.previous.to_string()), ("follow", self.follow.to_string())];
        query.extend(self.tail.map(|tail| ("tail", tail.to_string())));
        let request = client.request(Method::GET, &["admin", "workspaces", &workspace.id, "logs"]);
        let response = client.send(request.query(&query)).await?;
        let output = shared.output();
        if output.json {
            let mut lines = Lines::new(response);
            while let Some(line) = lines.next().await.map_err(|error| client.transport_failure(error))? {
                output.line(&json!({ "line": String::from_utf8_lossy(&line) }).to_string())?;
            }
            return Ok(());
        }
        let mut body = pieces(response);
        while let Some(piece) = body.next().await {
            output.bytes(&piece.map_err(|error| client.transport_failure(error))?)?;
        }
        Ok(())
    }
}
