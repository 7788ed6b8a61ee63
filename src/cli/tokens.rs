//! `covalence tokens ls|create|revoke`: tokens of the organisation.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::Shared;
use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::output::{Cell, Output, printable, text};

/// List, make and end tokens that open what the admin's does
#[derive(Debug, Args)]
pub(super) struct Tokens {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the tokens that work, newest first
    #[command(after_help = "Examples:\n  covalence tokens ls\n  covalence tokens ls --json")]
    Ls,
    /// Make a token for a colleague or a tool; printed once
    #[command(
        after_help = "Examples:\n  covalence tokens create > me.token\n  covalence tokens create --name deploy > deploy.token"
    )]
    Create {
        /// What to call it, 100 bytes at most
        #[arg(long)]
        name: Option<String>,
    },
    /// End a token
    #[command(after_help = "Examples:\n  covalence tokens revoke deploy\n  covalence tokens revoke qV3xT9aZ")]
    Revoke {
        /// Token: its name, or the beginning of its id or of its text
        // `token` is the name of the option that says whose authority is shown.
        #[arg(value_name = "TOKEN")]
        ended: String,
    },
}

impl Tokens {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let (client, output) = (shared.client()?, shared.output());
        match self.command {
            Command::Ls => list(output, tokens(&client).await?),
            Command::Create { name } => {
                let request = client.request(Method::POST, &["org", "tokens"]).json(&json!({"name": name}));
                let made = client.json(request).await?;
                if output.json { output.document(&made) } else { output.line(text(&made, "auth_token")) }
            }
            Command::Revoke { ended } => revoke(&client, output, &ended).await,
        }
    }
}

async fn tokens(client: &Client) -> Outcome<Vec<Value>> {
    let listed = client.get(&["org", "tokens"]).await?;
    Ok(listed.get("tokens").and_then(Value::as_array).cloned().unwrap_or_default())
}

fn list(output: Output, tokens: Vec<Value>) -> Outcome {
    if output.json {
        return output.document(&Value::Array(tokens));
    }
    let rows: Vec<Vec<Cell>> = tokens
        .iter()
        .map(|token| {
            vec![
                Cell::new(text(token, "id")),
                Cell::new(text(token, "prefix")),
                Cell::new(text(token, "name")),
                Cell::new(text(token, "created_by")),
                Cell::dim(text(token, "created_at")),
                Cell::dim(text(token, "last_used_at")),
            ]
        })
        .collect();
    output.table(&["ID", "BEGINS WITH", "NAME", "MADE BY", "MADE", "LAST USED"], &rows)
}

async fn revoke(client: &Client, output: Output, wanted: &str) -> Outcome {
    let tokens = tokens(client).await?;
    let named = tokens.iter().filter(|token| text(token, "name") == wanted);
    let mut chosen: Vec<&str> = named.map(|token| text(token, "id")).collect();
    if chosen.is_empty() {
        let begins = |token: &&Value| ["id", "prefix"].iter().any(|key| text(token, key).starts_with(wanted));
        chosen = tokens.iter().filter(begins).map(|token| text(token, "id")).collect();
    }
    let [chosen] = chosen.as_slice() else {
        let (exit, what) = match chosen.len() {
            0 => (Exit::NotFound, "no token".to_owned()),
            several => (Exit::Usage, format!("{several} tokens")),
        };
        let message = format!("there is {what} with the name `{wanted}`, or whose id or text begins with it");
        return Err(Failure::new(exit, printable(&message)).hint("`covalence tokens ls` lists them"));
    };
    let answer = client.json(client.request(Method::DELETE, &["org", "tokens", chosen])).await?;
    if output.json {
        return output.document(&answer);
    }
    output.line(&printable(&format!("{chosen}  revoked")))
}
