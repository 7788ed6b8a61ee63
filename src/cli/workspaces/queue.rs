//! `covalence workspaces queue`: calls that wait until an agent has time.

use std::time::Duration;

use clap::Args;
use reqwest::Method;
use serde_json::Value;

use crate::cli::client::Client;
use crate::cli::failure::Outcome;
use crate::cli::name::{self, Named};
use crate::cli::output::{Cell, Output, text};
use crate::cli::wait::parse_timeout;

/// Show the calls that wait until a workspace's agent has time
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  covalence workspaces queue lead\n  covalence workspaces queue lead --drop-older 1h    give up what has waited for longer"
)]
pub(super) struct Queue {
    /// Workspace: name, id, or the beginning of either
    workspace: String,
    /// Give up calls that have waited for longer than this, in whole minutes
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout)]
    drop_older: Option<Duration>,
}

impl Queue {
    pub(super) async fn run(self, client: &Client, output: Output) -> Outcome {
        let (rows, _) = client.roster().await?;
        let roster: Vec<Named> = rows.iter().map(Named::from_row).collect();
        let named = name::resolve(&self.workspace, &roster)?;
        if let Some(age) = self.drop_older {
            let minutes = age.as_secs().div_ceil(60).max(1).to_string();
            let request = client.request(Method::POST, &["admin", "a2a-queue", "drop-stale"]);
            let query = [("max_age_minutes", minutes.as_str()), ("workspace_id", named.id.as_str())];
            let answer = client.json(request.query(&query)).await?;
            if output.json {
                return output.document(&answer);
            }
            return output.line(&format!("{} dropped", answer["dropped"]));
        }
        let calls = client.get(&["workspaces", &named.id, "a2a", "queue"]).await?;
        if output.json {
            return output.document(&calls);
        }
        let cells: Vec<Vec<Cell>> =
            calls.as_array().into_iter().flatten().map(|call| cells(call, &roster)).collect();
        output.table(&["ID", "STATUS", "FROM", "SINCE", "TRIES", "LAST ERROR"], &cells)
    }
}

fn cells(call: &Value, roster: &[Named]) -> Vec<Cell> {
    let caller = text(call, "caller_id");
    let known = roster.iter().find(|named| named.id == caller).map(|named| named.name.as_str());
    vec![
        Cell::dim(text(call, "queue_id")),
        Cell::new(text(call, "status")),
        Cell::new(known.unwrap_or(if caller.is_empty() { "a person" } else { caller })),
        Cell::new(text(call, "enqueued_at")),
        Cell::new(&call["attempts"].to_string()),
        Cell::dim(text(call, "last_error")),
    ]
}
