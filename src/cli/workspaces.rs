//! `covalence workspaces`: who is there, how they are, and changes to them.

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use crate::cli::Shared;
use crate::cli::as_of::AsOf;
use crate::cli::client::Client;
use crate::cli::failure::Outcome;
use crate::cli::name::{self, Named};
use crate::cli::output::{Cell, Output, text};

mod change;
mod create;
mod erase;
mod queue;
mod team;
mod tokens;

pub(super) use change::Restart;

/// List, show and change workspaces
#[derive(Debug, Args)]
pub(super) struct Workspaces {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List all workspaces
    #[command(
        after_help = "Examples:\n  covalence workspaces ls\n  covalence workspaces ls --json | jq -r '.[].id'\n  covalence workspaces ls --as-of 03:07       as things stood then"
    )]
    Ls(AsOf),
    /// Show everything about one workspace
    #[command(
        after_help = "Examples:\n  covalence workspaces show lead\n  covalence workspaces show lead --as-of -15m"
    )]
    Show {
        /// Workspace: name, id, or the beginning of either
        workspace: String,
        #[command(flatten)]
        as_of: AsOf,
    },
    /// Create a workspace and start it
    Create(create::Create),
    /// Restart a workspace
    Restart(Restart),
    /// Stop a workspace and its descendants, and keep them
    Pause(change::Pause),
    /// Stop a workspace until somebody needs it
    Hibernate(change::Hibernate),
    /// Show the calls that wait until a workspace's agent has time
    Queue(queue::Queue),
    /// Start a paused or hibernated workspace again
    Resume(change::Resume),
    /// Stop a workspace and its descendants, and remove them
    Rm(change::Remove),
    /// Create and start the team that a workspace's template asks for
    Expand(team::Expand),
    /// Stop everything below a workspace, and remove it
    Collapse(team::Collapse),
    /// Make what was said about a removed workspace unreadable, for good
    Erase(erase::Erase),
    /// List, make and end a workspace's tokens
    Tokens(tokens::Tokens),
    /// Let an agent fetch its first token by registering
    Enroll(tokens::Enroll),
}

impl Workspaces {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let client = shared.client()?;
        let output = shared.output();
        match self.command {
            Command::Ls(as_of) => list(&client, output, as_of).await,
            Command::Show { workspace, as_of } => show(&client, output, &workspace, as_of).await,
            Command::Create(create) => create.run(&client, output).await,
            Command::Restart(restart) => restart.run(&client, output).await,
            Command::Pause(pause) => pause.run(&client, output).await,
            Command::Hibernate(hibernate) => hibernate.run(&client, output).await,
            Command::Queue(queue) => queue.run(&client, output).await,
            Command::Resume(resume) => resume.run(&client, output).await,
            Command::Rm(remove) => remove.run(&client, output).await,
            Command::Expand(expand) => expand.run(&client, output).await,
            Command::Collapse(collapse) => collapse.run(&client, output).await,
            Command::Erase(erase) => erase.run(&client, output).await,
            Command::Tokens(tokens) => tokens.run(&client, output).await,
            Command::Enroll(enroll) => enroll.run(&client, output).await,
        }
    }
}

async fn list(client: &Client, output: Output, as_of: AsOf) -> Outcome {
    let rows = as_of.roster(client).await?;
    if output.json {
        return output.document(&Value::Array(rows));
    }
    let roster: Vec<Named> = rows.iter().map(Named::from_row).collect();
    let cells: Vec<Vec<Cell>> = rows.iter().map(|row| row_cells(row, &roster)).collect();
    output.table(&["ID", "NAME", "STATUS", "RUNTIME", "TIER", "PARENT", "TASKS", "NOTE"], &cells)
}

fn row_cells(row: &Value, roster: &[Named]) -> Vec<Cell> {
    let number = |field: &str| row.get(field).map_or_else(String::new, Value::to_string);
    let parent = roster.iter().find(|named| named.id == text(row, "parent_id"));
    // The supervisor's view beside the status, where it says more than the status itself.
    let state = row.pointer("/supervision/state").and_then(Value::as_str).unwrap_or_default();
    let state = if matches!(state, "suspect" | "quarantined") { state } else { "" };
    let note = if text(row, "last_sample_error").is_empty() { state } else { text(row, "last_sample_error") };
    vec![
        Cell::dim(text(row, "id").get(..8).unwrap_or_default()),
        Cell::new(text(row, "name")),
        Cell::status(text(row, "status")),
        Cell::new(text(row, "runtime")),
        Cell::new(&number("tier")),
        Cell::new(parent.map_or("", |named| named.name.as_str())),
        Cell::new(&number("active_tasks")),
        Cell::dim(note),
    ]
}

async fn show(client: &Client, output: Output, wanted: &str, as_of: AsOf) -> Outcome {
    let rows = as_of.roster(client).await?;
    let roster: Vec<Named> = rows.iter().map(Named::from_row).collect();
    let named = name::resolve(wanted, &roster)?;
    let single = as_of.get(client, &["workspaces", &named.id]).await?;
    let row = rows.iter().find(|row| text(row, "id") == named.id).unwrap_or(&Value::Null);
    let merged = merge(row, &single);
    if output.json {
        return output.document(&Value::Object(merged));
    }
    let width = merged.keys().map(String::len).max().unwrap_or_default();
    for (field, value) in &merged {
        let shown = match value {
            Value::Null => continue,
            Value::String(text) if text.is_empty() => continue,
            Value::String(text) => crate::cli::output::printable(text),
            other => other.to_string(),
        };
        output.line(&format!("{field:width$}  {shown}"))?;
    }
    Ok(())
}

/// The list knows what only an admin may see, the single row what only it has; the single one is newer.
fn merge(row: &Value, single: &Value) -> Map<String, Value> {
    let mut merged = Map::new();
    for part in [row, single] {
        for (field, value) in part.as_object().into_iter().flatten() {
            merged.insert(field.clone(), value.clone());
        }
    }
    merged
}
