//! `covalence secrets`: what agents find in their environment, and the key behind all keys. A value is never an argument: those
//! of a running process are everybody's to read.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use covalence_actors::effect::Secret;
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::Shared;
use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::name::{self, Named};
use crate::cli::output::{Cell, Output, note, printable, text};

mod lost;

/// A value is at most 64 KiB; a longer file is something else.
const VALUE_BYTES_MAX: u64 = 64 * 1024 + 2;

/// List, set and remove secrets; replace the key that wraps their keys
#[derive(Debug, Args)]
pub(super) struct Secrets {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List names, never values: those that every workspace gets, or those that one gets
    #[command(after_help = "Examples:\n  covalence secrets ls\n  covalence secrets ls --workspace lead")]
    Ls {
        /// Workspace: name, id, or the beginning of either
        #[arg(long)]
        workspace: Option<String>,
    },
    /// Give a secret, or another value of one; its value comes from stdin or a file. What runs is restarted, a few at a time
    #[command(
        after_help = "Examples:\n  covalence secrets set GITHUB_TOKEN --from token.txt\n  pass show anthropic | covalence secrets set ANTHROPIC_API_KEY --workspace lead\n\nOne line break at the end is not part of the value."
    )]
    Set {
        /// Name: letters, digits and _, not beginning with a digit
        #[arg(value_name = "NAME")]
        key: String,
        /// Only for this workspace: name, id, or the beginning of either
        #[arg(long)]
        workspace: Option<String>,
        /// File that holds the value; stdin otherwise
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
    },
    /// Take a secret away. What runs is restarted, a few at a time
    #[command(
        after_help = "Examples:\n  covalence secrets unset GITHUB_TOKEN\n  covalence secrets unset ANTHROPIC_API_KEY --workspace lead"
    )]
    Unset {
        /// Name
        #[arg(value_name = "NAME")]
        key: String,
        /// Only this workspace's own: name, id, or the beginning of either
        #[arg(long)]
        workspace: Option<String>,
    },
    /// Replace the master key, which wraps the keys of all workspaces, while the server runs
    #[command(
        after_help = "Examples:\n  covalence secrets rotate-key\n  openssl rand -base64 32 > next.key && covalence secrets rotate-key --to next.key\n\nWhere the server has its master key from SECRETS_ENCRYPTION_KEY, the next one is named with --to, and the next start needs it in\nthat variable. Until then both open the keys: keep both."
    )]
    RotateKey {
        /// File that holds the next master key, 32 bytes as base64; - is stdin
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Give up what lost keys sealed, so that the server starts without them. Works without the server alone
    AcceptLostKeys(lost::AcceptLostKeys),
}

impl Secrets {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let output = shared.output();
        match self.command {
            Command::Ls { workspace } => {
                let client = shared.client()?;
                let path = Whose::find(&client, workspace).await?.path();
                list(output, &client.get(&segments(&path)).await?)
            }
            Command::Set { key, workspace, from } => {
                let value = value(from.as_deref())?;
                let client = shared.client()?;
                let whose = Whose::find(&client, workspace).await?;
                let path = whose.path();
                let body = json!({"key": key, "value": value.expose()});
                let answer = client.json(client.request(Method::PUT, &segments(&path)).json(&body)).await?;
                said(output, &answer, &format!("{key}  set for {}", whose.shown()))
            }
            Command::Unset { key, workspace } => {
                let client = shared.client()?;
                let whose = Whose::find(&client, workspace).await?;
                let mut path = whose.path();
                path.push(key.clone());
                let answer = client.json(client.request(Method::DELETE, &segments(&path))).await?;
                said(output, &answer, &format!("{key}  removed from {}", whose.shown()))
            }
            Command::RotateKey { to } => rotate(shared, to.as_deref()).await,
            Command::AcceptLostKeys(command) => command.run(shared),
        }
    }
}

/// Who gets a secret.
enum Whose {
    Everybody,
    One(Named),
}

impl Whose {
    async fn find(client: &Client, workspace: Option<String>) -> Outcome<Self> {
        let Some(wanted) = workspace else { return Ok(Self::Everybody) };
        let (rows, _) = client.roster().await?;
        let roster: Vec<Named> = rows.iter().map(Named::from_row).collect();
        name::resolve(&wanted, &roster).map(Self::One)
    }

    fn path(&self) -> Vec<String> {
        match self {
            Self::Everybody => vec!["settings".to_owned(), "secrets".to_owned()],
            Self::One(named) => vec!["workspaces".to_owned(), named.id.clone(), "secrets".to_owned()],
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Everybody => "every workspace".to_owned(),
            Self::One(named) => named.name.clone(),
        }
    }
}

fn segments(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}

fn said(output: Output, answer: &Value, line: &str) -> Outcome {
    if output.json { output.document(answer) } else { output.line(&printable(line)) }
}

fn list(output: Output, secrets: &Value) -> Outcome {
    if output.json {
        return output.document(secrets);
    }
    let rows: Vec<Vec<Cell>> = secrets
        .as_array()
        .into_iter()
        .flatten()
        .map(|secret| {
            vec![
                Cell::new(text(secret, "key")),
                Cell::new(text(secret, "scope")),
                Cell::dim(text(secret, "created_at")),
                Cell::dim(text(secret, "updated_at")),
            ]
        })
        .collect();
    output.table(&["NAME", "SCOPE", "SINCE", "CHANGED"], &rows)
}

/// What a file or stdin holds, without the line break at its end.
fn value(from: Option<&Path>) -> Outcome<Secret> {
    let mut bytes = Vec::new();
    let read = match from.filter(|path| *path != Path::new("-")) {
        Some(path) => {
            std::fs::File::open(path).and_then(|file| file.take(VALUE_BYTES_MAX).read_to_end(&mut bytes))
        }
        None if std::io::stdin().is_terminal() => {
            return Err(Failure::new(
                Exit::Usage,
                "the value comes from stdin or a file, never as an argument",
            )
            .hint("`… < FILE`, or `--from FILE`"));
        }
        None => std::io::stdin().take(VALUE_BYTES_MAX).read_to_end(&mut bytes),
    };
    let named = from.map_or_else(|| "stdin".to_owned(), |path| path.display().to_string());
    read.map_err(|error| anyhow::Error::from(error).context(format!("reading {named}")))?;
    if bytes.len() as u64 == VALUE_BYTES_MAX {
        return Err(Failure::new(Exit::Usage, format!("{named}: a value has at most 64 KiB")));
    }
    let mut text = String::from_utf8(bytes)
        .map_err(|_| Failure::new(Exit::Usage, format!("{named}: a value is UTF-8 text")))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(Secret::new(text))
}

async fn rotate(shared: &Shared, to: Option<&Path>) -> Outcome {
    let next = to.map(|path| value(Some(path))).transpose()?;
    let (client, output) = (shared.client()?, shared.output());
    let body = json!({"key": next.as_ref().map(Secret::expose)});
    let path = ["admin", "master-key", "rotate"];
    let answer = client.json(client.request(Method::POST, &path).json(&body)).await?;
    if output.json {
        return output.document(&answer);
    }
    output.line(&format!(
        "{}  {} keys  master key {}",
        text(&answer, "status"),
        answer["keys"],
        text(&answer, "master")
    ))?;
    if text(&answer, "status") == "announced" {
        note(
            "start the server with the next key in `SECRETS_ENCRYPTION_KEY`: that ends the change. Keep the present one until then.",
        );
    }
    Ok(())
}
