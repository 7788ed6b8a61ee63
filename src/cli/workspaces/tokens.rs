//! `covalence workspaces tokens|enroll`.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::name::{self, Named};
use crate::cli::output::{Cell, Output, confirm, printable, text};

/// List, make and end a workspace's tokens
#[derive(Debug, Args)]
pub(super) struct Tokens {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the tokens that work
    #[command(after_help = "Examples:\n  covalence workspaces tokens ls lead")]
    Ls {
        /// Workspace: name, id, or the beginning of either
        workspace: String,
    },
    /// Make a token for a person or a tool; printed once
    #[command(after_help = "Examples:\n  covalence workspaces tokens create lead > lead.token")]
    Create {
        /// Workspace: name, id, or the beginning of either
        workspace: String,
    },
    /// End a token
    #[command(after_help = "Examples:\n  covalence workspaces tokens revoke lead qV3xT9aZ")]
    Revoke {
        /// Workspace: name, id, or the beginning of either
        workspace: String,
        /// Token: id, or the beginning of its id or of its text
        // `token` is the name of the option that says whose authority is shown.
        #[arg(value_name = "TOKEN")]
        ended: String,
    },
    /// End all tokens of an external workspace and make one in their place; printed once
    #[command(after_help = "Examples:\n  covalence workspaces tokens rotate scout --yes > scout.token")]
    Rotate {
        /// Workspace: name, id, or the beginning of either
        workspace: String,
        /// Ask no question
        #[arg(long, short)]
        yes: bool,
    },
}

/// Tokens asked for: as many as a workspace may have.
const ALL: u64 = 200;

impl Tokens {
    pub(super) async fn run(self, client: &Client, output: Output) -> Outcome {
        match self.command {
            Command::Ls { workspace } => {
                let named = named(client, &workspace).await?;
                let tokens = tokens(client, &named.id).await?;
                if output.json {
                    return output.document(&Value::Array(tokens));
                }
                let cells: Vec<Vec<Cell>> = tokens.iter().map(cells).collect();
                output.table(&["ID", "BEGINS WITH", "FOR", "MADE", "LAST USED"], &cells)
            }
            Command::Create { workspace } => {
                let named = named(client, &workspace).await?;
                let request = client.request(Method::POST, &["workspaces", &named.id, "tokens"]);
                let made = client.json(request.json(&json!({}))).await?;
                if output.json { output.document(&made) } else { output.line(text(&made, "auth_token")) }
            }
            Command::Revoke { workspace, ended } => revoke(client, output, &workspace, &ended).await,
            Command::Rotate { workspace, yes } => {
                let named = named(client, &workspace).await?;
                confirm(&format!("ending all tokens of `{}`", printable(&named.name)), yes)?;
                let path = ["workspaces", &named.id, "external", "rotate"];
                let made = client.json(client.request(Method::POST, &path).json(&json!({}))).await?;
                if output.json {
                    return output.document(&made);
                }
                output.line(text(&made["connection"], "auth_token"))
            }
        }
    }
}

async fn named(client: &Client, wanted: &str) -> Outcome<Named> {
    let (rows, _) = client.roster().await?;
    let roster: Vec<Named> = rows.iter().map(Named::from_row).collect();
    name::resolve(wanted, &roster)
}

async fn tokens(client: &Client, id: &str) -> Outcome<Vec<Value>> {
    let request = client.request(Method::GET, &["workspaces", id, "tokens"]).query(&[("limit", ALL)]);
    let listed = client.json(request).await?;
    Ok(listed.get("tokens").and_then(Value::as_array).cloned().unwrap_or_default())
}

fn cells(token: &Value) -> Vec<Cell> {
    vec![
        Cell::new(text(token, "id")),
        Cell::new(text(token, "prefix")),
        Cell::new(text(token, "purpose")),
        Cell::dim(text(token, "created_at")),
        Cell::dim(text(token, "last_used_at")),
    ]
}

async fn revoke(client: &Client, output: Output, workspace: &str, wanted: &str) -> Outcome {
    let named = named(client, workspace).await?;
    let tokens = tokens(client, &named.id).await?;
    let fitting = |token: &&Value| ["id", "prefix"].iter().any(|key| text(token, key).starts_with(wanted));
    let chosen: Vec<&str> = tokens.iter().filter(fitting).map(|token| text(token, "id")).collect();
    let [chosen] = chosen.as_slice() else {
        let (exit, what) = match chosen.len() {
            0 => (Exit::NotFound, "no token".to_owned()),
            several => (Exit::Usage, format!("{several} tokens")),
        };
        let message = format!("`{}` has {what} whose id or text begins with `{}`", named.name, wanted);
        return Err(Failure::new(exit, printable(&message))
            .hint(format!("`covalence workspaces tokens ls {}` lists them", named.id)));
    };
    let path = ["workspaces", &named.id, "tokens", chosen];
    let answer = client.json(client.request(Method::DELETE, &path)).await?;
    if output.json {
        return output.document(&answer);
    }
    output.line(&printable(&format!("{chosen}  {}", text(&answer, "status"))))
}

/// Let an agent without a token fetch its first one by registering
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  covalence workspaces enroll scout\n  covalence workspaces enroll scout --minutes 60"
)]
pub(super) struct Enroll {
    /// Workspace: name, id, or the beginning of either
    workspace: String,
    /// For how long, 1 to 1440; the server's default otherwise
    #[arg(long)]
    minutes: Option<u32>,
}

impl Enroll {
    pub(super) async fn run(self, client: &Client, output: Output) -> Outcome {
        let named = named(client, &self.workspace).await?;
        let request = client.request(Method::POST, &["workspaces", &named.id, "enroll"]);
        let answer = client.json(request.json(&json!({"minutes": self.minutes}))).await?;
        if output.json {
            return output.document(&answer);
        }
        output.line(&printable(&format!("{}  open until {}", named.name, text(&answer, "until"))))
    }
}
