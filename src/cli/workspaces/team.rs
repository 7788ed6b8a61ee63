//! `covalence workspaces expand|collapse`.

use clap::Args;
use serde_json::Value;

use crate::cli::client::Client;
use crate::cli::failure::Outcome;
use crate::cli::output::{Cell, Output, confirm, note, printable, text};
use crate::cli::workspaces::change::{Chosen, choose, descendants, post};

/// Create and start the team that a workspace's template asks for
///
/// The template is the one that the workspace was created with, else the one with its name, in the server's `CONFIGS_DIR`. Who is there already
/// is left as it is.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  covalence workspaces expand lead")]
pub(super) struct Expand {
    /// Workspace: name, id, or the beginning of either
    workspace: String,
}

impl Expand {
    pub(super) async fn run(self, client: &Client, output: Output) -> Outcome {
        let Chosen { named, .. } = choose(client, &self.workspace).await?;
        let answer = post(client, &named.id, "expand", &[]).await?;
        if output.json {
            return output.document(&answer);
        }
        let children = answer.get("children").and_then(Value::as_array).into_iter().flatten();
        let cells: Vec<Vec<Cell>> = children.map(row).collect();
        output.table(&["ID", "NAME", "ROLE"], &cells)
    }
}

fn row(child: &Value) -> Vec<Cell> {
    vec![
        Cell::dim(text(child, "id").get(..8).unwrap_or_default()),
        Cell::new(text(child, "name")),
        Cell::new(text(child, "role")),
    ]
}

/// Stop everything below a workspace, and remove it
#[derive(Debug, Args)]
#[command(
    after_help = "The workspace itself stays, and the history of the others stays in the event log.\n\nExamples:\n  covalence workspaces collapse lead\n  covalence workspaces collapse lead --yes"
)]
pub(super) struct Collapse {
    /// Workspace: name, id, or the beginning of either
    workspace: String,
    /// Ask no question
    #[arg(long, short)]
    yes: bool,
}

impl Collapse {
    pub(super) async fn run(self, client: &Client, output: Output) -> Outcome {
        let Chosen { named, rows, .. } = choose(client, &self.workspace).await?;
        let below = descendants(&named.id, &rows);
        for name in &below {
            note(&format!("is removed: {}", printable(name)));
        }
        if !below.is_empty() {
            let question = format!("removing {} below `{}`", below.len(), printable(&named.name));
            confirm(&question, self.yes)?;
        }
        let answer = post(client, &named.id, "collapse", &[]).await?;
        if output.json {
            return output.document(&answer);
        }
        output.line(&printable(&format!("{}  {}", named.name, text(&answer, "status"))))
    }
}
