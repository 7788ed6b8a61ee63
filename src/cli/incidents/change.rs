//! `covalence incidents open|note|close`: what a person says about incidents. A server writes it down.

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use super::show::find;
use super::{Source, query};
use crate::cli::Shared;
use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::output::{Output, printable, text};
use crate::cli::when::When;

/// Open an incident by hand
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  covalence incidents open 'answers are slow'\n  covalence incidents open 'deploy went wrong' --since 14:00 --until 14:20 --workspace lead\n\nA brake that engages opens one by itself. Needs the server."
)]
pub(super) struct Open {
    /// What it is about, in a line
    title: String,
    /// When it began [default: fifteen minutes ago]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = When::parse)]
    since: Option<When>,
    /// When it ended; it goes on without it
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = When::parse)]
    until: Option<When>,
    /// Whom it is about: name, id, or the beginning of either; may be repeated; everybody without it
    #[arg(long = "workspace", short, value_name = "WORKSPACE")]
    workspaces: Vec<String>,
}

impl Open {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let source = Source::find(shared).await?;
        let client = writer(&source)?;
        let mut workspaces = Vec::new();
        for wanted in &self.workspaces {
            workspaces.push(source.workspace(wanted).await?);
        }
        let wish = json!({
            "title": self.title,
            "since": self.since.map(time).transpose()?,
            "until": self.until.map(time).transpose()?,
            "workspaces": workspaces,
        });
        let answer = client.json(client.request(Method::POST, &["incidents"]).json(&wish)).await?;
        let said = format!("{}  {}", text(&answer, "id"), text(&answer, "title"));
        told(shared.output(), &answer, &said)
    }
}

/// Say something about an incident
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  covalence incidents note 0198c0de 'the disk of host 3 was full'\n  covalence incidents note last 'seen on the dashboard, too'\n\nAlso about one that is closed. Needs the server."
)]
pub(super) struct Note {
    /// Incident: its id, the beginning of it, or `last`
    incident: String,
    /// What
    text: String,
}

impl Note {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let source = Source::find(shared).await?;
        let client = writer(&source)?;
        let id = find(&source, Some(&self.incident)).await?.to_string();
        let request = client.request(Method::POST, &["incidents", &id, "notes"]);
        let answer = client.json(request.json(&json!({"text": self.text}))).await?;
        told(shared.output(), &answer, &format!("noted  {id}"))
    }
}

/// Close an incident: nothing is left to be done about it
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  covalence incidents close 0198c0de --comment 'a full disk; alarm added'\n  covalence incidents close last\n\nNeeds the server."
)]
pub(super) struct Close {
    /// Incident: its id, the beginning of it, or `last`
    incident: String,
    /// What it was in the end
    #[arg(long, short)]
    comment: Option<String>,
}

impl Close {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let source = Source::find(shared).await?;
        let client = writer(&source)?;
        let id = find(&source, Some(&self.incident)).await?.to_string();
        let request = client.request(Method::POST, &["incidents", &id, "close"]);
        let answer = client.json(request.json(&json!({"comment": self.comment}))).await?;
        told(shared.output(), &answer, &format!("closed  {id}"))
    }
}

/// The server: a copy of a log takes no facts.
fn writer(source: &Source) -> Outcome<&Client> {
    match source {
        Source::Server(client) => Ok(client),
        Source::Copied(_) => {
            Err(Failure::new(Exit::Refused, "this is recorded by the server, and no server has the log open")
                .hint("start it with `covalence serve`; `incidents ls` and `show` work without it"))
        }
    }
}

fn time(when: When) -> Outcome<String> {
    match when {
        When::Time(_) => Ok(query(when)),
        When::Position(_) => {
            Err(Failure::new(Exit::Usage, "a position says when for `show`; `open` needs a time"))
        }
    }
}

fn told(output: Output, answer: &Value, said: &str) -> Outcome {
    if output.json { output.document(answer) } else { output.line(&printable(said)) }
}
