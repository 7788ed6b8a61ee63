//! `covalence hold|release|stop-all`: a person's hand on restarts.

use std::time::Duration;

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::Shared;
use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::name::{self, Named};
use crate::cli::output::{Output, confirm, printable, text};
use crate::cli::wait::parse_timeout;

/// Hold restarts back
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  covalence hold --reason 'new disk' --for 30m              everybody\n  covalence hold lead --reason 'under investigation' --for 2h\n  covalence hold lead --subtree --reason 'release day' --for 4h\n\nAutomatic restarts wait until the hold ends; a person's is refused without --force. What runs goes on running."
)]
pub(super) struct Hold {
    /// Workspace: name, id, or the beginning of either; everybody without one
    workspace: Option<String>,
    /// Everything below it too
    #[arg(long, requires = "workspace")]
    subtree: bool,
    /// Why; whoever looks at the status reads it
    #[arg(long, short)]
    reason: String,
    /// How long it lasts; it ends by itself
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_timeout)]
    lasts: Duration,
}

impl Hold {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let (client, output) = (shared.client()?, shared.output());
        let named = named(&client, self.workspace.as_deref()).await?;
        let wish = json!({
            "scope": scope(named.as_ref(), self.subtree),
            "workspace": named.as_ref().map(|named| &named.id),
            "reason": self.reason,
            "lasts": format!("{}ms", self.lasts.as_millis()),
        });
        let answer = client.json(client.request(Method::POST, &["admin", "holds"]).json(&wish)).await?;
        told(output, &answer)
    }
}

/// Start nothing any more, whoever asks
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  covalence stop-all --reason 'agents write nonsense'\n  covalence release --fleet        the end of it\n\nIt never ends by itself. What runs goes on running: `covalence workspaces pause` stops it."
)]
pub(super) struct StopAll {
    /// Why; whoever looks at the status reads it
    #[arg(long, short)]
    reason: String,
    /// Ask no question
    #[arg(long, short)]
    yes: bool,
}

impl StopAll {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let (client, output) = (shared.client()?, shared.output());
        confirm("starting nothing any more until you release it", self.yes)?;
        let request = client.request(Method::POST, &["admin", "emergency-stop"]);
        let answer = client.json(request.json(&json!({"reason": self.reason}))).await?;
        told(output, &answer)
    }
}

/// End a hold, a quarantine or a brake
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  covalence release lead              its holds, and its quarantine\n  covalence release --fleet           holds over everybody, an emergency stop too\n  covalence release 0198c0de-…        one hold, by its id\n  covalence release --brake docker    the brake of a backend; it engages again if its cause goes on"
)]
#[group(id = "what", required = true)]
pub(super) struct Release {
    /// Hold by its id, or workspace by name, id or the beginning of either
    #[arg(group = "what")]
    subject: Option<String>,
    /// The holds over everybody
    #[arg(long, group = "what")]
    fleet: bool,
    /// The brake of this backend
    #[arg(long, value_name = "BACKEND", group = "what")]
    brake: Option<String>,
    /// Why
    #[arg(long, short)]
    reason: Option<String>,
}

impl Release {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let (client, output) = (shared.client()?, shared.output());
        let done = if let Some(brake) = &self.brake {
            vec![client.json(client.request(Method::POST, &["admin", "brakes", brake, "release"])).await?]
        } else {
            self.holds(&client).await?
        };
        if output.json {
            return output.document(&Value::Array(done));
        }
        for answer in &done {
            let what =
                ["hold", "cell", "workspace"].into_iter().find(|field| !text(answer, field).is_empty());
            let what = what.map_or(String::new(), |field| format!("{field} {}", text(answer, field)));
            output.line(&printable(&format!("{}  {what}", text(answer, "status"))))?;
        }
        Ok(())
    }

    async fn holds(&self, client: &Client) -> Outcome<Vec<Value>> {
        let holds = client.get(&["admin", "holds"]).await?;
        let holds = holds.as_array().map(Vec::as_slice).unwrap_or_default();
        let subject = self.subject.as_deref().unwrap_or_default();
        let mut quarantined = None;
        let chosen: Vec<&Value> = if self.fleet {
            holds.iter().filter(|hold| text(hold, "scope") == "fleet").collect()
        } else if let Some(hold) = holds.iter().find(|hold| text(hold, "id") == subject) {
            vec![hold]
        } else {
            let (rows, _) = client.roster().await?;
            let roster: Vec<Named> = rows.iter().map(Named::from_row).collect();
            let named = name::resolve(subject, &roster)?;
            let row = rows.iter().find(|row| text(row, "id") == named.id);
            let state = row.and_then(|row| row.pointer("/supervision/state")).and_then(Value::as_str);
            quarantined = (state == Some("quarantined")).then(|| named.id.clone());
            let its =
                |hold: &&Value| hold.pointer("/workspace/id").and_then(Value::as_str) == Some(&named.id);
            holds.iter().filter(its).collect()
        };
        if chosen.is_empty() && quarantined.is_none() {
            return Err(Failure::new(Exit::Refused, "nothing to release")
                .hint("`covalence status` shows the holds, brakes and quarantines that are on"));
        }
        let mut done = Vec::new();
        for hold in chosen {
            let request = client.request(Method::DELETE, &["admin", "holds", text(hold, "id")]);
            done.push(client.json(request.json(&json!({"reason": self.reason}))).await?);
        }
        if let Some(id) = quarantined {
            let request = client.request(Method::POST, &["workspaces", &id, "quarantine", "lift"]);
            done.push(client.json(request).await?);
        }
        Ok(done)
    }
}

/// The workspace that is meant, if one is.
pub(super) async fn named(client: &Client, wanted: Option<&str>) -> Outcome<Option<Named>> {
    let Some(wanted) = wanted else { return Ok(None) };
    let (rows, _) = client.roster().await?;
    let roster: Vec<Named> = rows.iter().map(Named::from_row).collect();
    name::resolve(wanted, &roster).map(Some)
}

/// The word for whom it is about.
pub(super) const fn scope(named: Option<&Named>, subtree: bool) -> &'static str {
    match (named, subtree) {
        (None, _) => "fleet",
        (Some(_), true) => "subtree",
        (Some(_), false) => "workspace",
    }
}

fn told(output: Output, hold: &Value) -> Outcome {
    if output.json {
        return output.document(hold);
    }
    output.line(&printable(&line(hold)))
}

/// A hold on one line.
pub(super) fn line(hold: &Value) -> String {
    let whose = hold.pointer("/workspace/name").and_then(Value::as_str).unwrap_or("everybody");
    let below = if text(hold, "scope") == "subtree" { " and below" } else { "" };
    let end = match (hold["emergency"] == true, text(hold, "until")) {
        (true, _) => "emergency stop, until it is released".to_owned(),
        (false, until) => format!("until {}", super::supervision::local(until)),
    };
    format!("{}  {whose}{below}, {end}: {}", text(hold, "id"), text(hold, "reason"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_says_whom_it_is_about_until_when_and_why() {
        let hold = json!({
            "id": "h1", "scope": "subtree", "workspace": {"id": "w", "name": "lead"}, "reason": "new disk",
            "until": null, "emergency": false,
        });
        assert!(line(&hold).starts_with("h1  lead and below, until "), "{}", line(&hold));
        let stop = json!({"id": "h2", "scope": "fleet", "reason": "fire", "until": null, "emergency": true});
        assert_eq!(line(&stop), "h2  everybody, emergency stop, until it is released: fire");
    }
}
