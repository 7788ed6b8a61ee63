//! `covalence status`: the server and its workspaces in a few lines.

use std::collections::BTreeMap;

use clap::Args;
use reqwest::Method;
use serde_json::json;

use crate::cli::Shared;
use crate::cli::failure::Outcome;
use crate::cli::output::{Cell, text};

/// Show the server and its workspaces in a few lines
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  covalence status\n  covalence status --json | jq .workspaces")]
pub(super) struct Status {}

impl Status {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let client = shared.client()?;
        let ready = client.send(client.request(Method::GET, &["ready"])).await.is_ok();
        let (rows, _) = client.roster().await?;
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for row in &rows {
            *counts.entry(text(row, "status")).or_default() += 1;
        }
        let output = shared.output();
        if output.json {
            return output.document(&json!({
                "url": client.url().as_str(),
                "ready": ready,
                "workspaces": counts,
            }));
        }
        output.line(&format!("server      {}", client.url()))?;
        output.line(&format!("ready       {}", if ready { "yes" } else { "no" }))?;
        output.line(&format!("workspaces  {}", rows.len()))?;
        let cells: Vec<Vec<Cell>> = counts
            .iter()
            .map(|(status, count)| vec![Cell::new(""), Cell::status(status), Cell::new(&count.to_string())])
            .collect();
        if cells.is_empty() { Ok(()) } else { output.table(&["          ", "STATUS", "COUNT"], &cells) }
    }
}
