//! `covalence projections ls|rebuild`: how the read side fares, and folding it anew.

use std::time::Duration;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::Shared;
use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::output::{Cell, Output, note, text};

/// Between two looks at a rebuild that is going on.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// List the projections, and fold them anew from the log
#[derive(Debug, Args)]
pub(super) struct Projections {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List them: version, checkpoint, lag, whether they stopped, and the hash of their state
    #[command(after_help = "Examples:\n  covalence projections ls\n  covalence projections ls --json")]
    Ls,
    /// Fold one, or all, from the log's beginning beside what serves, compare, and swap
    Rebuild(Rebuild),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  covalence projections rebuild roster\n  covalence projections rebuild --all\n\nNothing is interrupted: what serves goes on until the fresh one has caught up. Exit code 1 says that they differed, or that the\nfresh one could not take over."
)]
struct Rebuild {
    /// Name, as `projections ls` prints it
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    projection: Option<String>,
    /// Every one of them
    #[arg(long)]
    all: bool,
}

impl Projections {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let (client, output) = (shared.client()?, shared.output());
        match self.command {
            Command::Ls => list(output, &client.get(&["admin", "projections"]).await?),
            Command::Rebuild(rebuild) => rebuild.run(&client, output).await,
        }
    }
}

fn list(output: Output, answer: &Value) -> Outcome {
    if output.json {
        return output.document(answer);
    }
    let rows: Vec<Vec<Cell>> = answer.as_array().into_iter().flatten().map(row).collect();
    output.table(&["NAME", "VERSION", "CHECKPOINT", "LAG", "STALLED", "HASH", "LAST REBUILD"], &rows)
}

fn row(one: &Value) -> Vec<Cell> {
    let stalled = &one["stalled"];
    let rebuild = &one["rebuild"];
    vec![
        Cell::new(text(one, "name")),
        Cell::new(&one["version"].to_string()),
        Cell::new(&one["checkpoint"].to_string()),
        Cell::new(&one["lag"].to_string()),
        if stalled.is_null() {
            Cell::dim("no")
        } else {
            Cell::alarming(&format!("at {}: {}", stalled["position"], text(stalled, "reason")))
        },
        Cell::dim(text(&one["state"], "hash").get(..16).unwrap_or_default()),
        match text(rebuild, "outcome") {
            "running" => Cell::new(&format!("running, {}", progress(rebuild))),
            outcome @ ("differed" | "stalled" | "failed") => Cell::alarming(outcome),
            outcome => Cell::new(outcome),
        },
    ]
}

/// How far a rebuild is.
fn progress(rebuild: &Value) -> String {
    let (position, through) = (&rebuild["position"], &rebuild["through"]);
    let share = position.as_u64().unwrap_or(0).saturating_mul(100) / through.as_u64().unwrap_or(1).max(1);
    format!("{} %: position {position} of {through}", share.min(100))
}

impl Rebuild {
    async fn run(self, client: &Client, output: Output) -> Outcome {
        let wish = json!({"projection": self.projection, "all": self.all});
        client.json(client.request(Method::POST, &["admin", "projections", "rebuild"]).json(&wish)).await?;
        let mut told = String::new();
        let ended = loop {
            let request = client.request(Method::GET, &["admin", "projections"]).query(&[("hash", "false")]);
            let mut answer = client.json(request).await?;
            let wanted = |one: &Value| self.all || self.projection.as_deref() == Some(text(one, "name"));
            let rows = answer.as_array_mut().map(std::mem::take).unwrap_or_default();
            let rows: Vec<Value> = rows.into_iter().filter(wanted).collect();
            let running = rows.iter().find(|one| text(&one["rebuild"], "outcome") == "running");
            let Some(running) = running else { break rows };
            let line = progress(&running["rebuild"]);
            if line != told {
                note(&line);
                told = line;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        if output.json {
            output.document(&json!(ended))?;
        } else {
            for one in &ended {
                output.line(&words(one))?;
            }
        }
        verdict(&ended)
    }
}

/// What became of one rebuild, on a line.
fn words(one: &Value) -> String {
    let (name, rebuild) = (text(one, "name"), &one["rebuild"]);
    let hash = |field: &str| text(&rebuild[field], "hash").get(..16).unwrap_or("unknown").to_owned();
    let at = &rebuild["fresh"]["position"];
    match text(rebuild, "outcome") {
        "agreed" => format!("{name:12} agreed: {} at position {at}", hash("fresh")),
        "differed" => format!(
            "{name:12} differed at position {at}: {} served, {} serves from here on",
            hash("serving"),
            hash("fresh")
        ),
        "healed" => format!("{name:12} healed: it serves and follows again"),
        outcome => format!("{name:12} {outcome}: {}", text(rebuild, "reason")),
    }
}

fn verdict(ended: &[Value]) -> Outcome {
    let bad = |one: &&Value| !matches!(text(&one["rebuild"], "outcome"), "agreed" | "healed");
    let names: Vec<&str> = ended.iter().filter(bad).map(|one| text(one, "name")).collect();
    if names.is_empty() && !ended.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Failure, format!("not as it should be: {}", names.join(", ")))
        .hint("the server's own log says more; please report it with both hashes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(outcome: &str) -> Value {
        json!({"name": "roster", "rebuild": {
            "outcome": outcome, "reason": "position 4: why", "position": 5, "through": 10,
            "serving": {"position": 9, "hash": "aaaaaaaaaaaaaaaaaaaa"}, "fresh": {"position": 9, "hash": "bbbbbbbbbbbbbbbbbbbb"},
        }})
    }

    #[test]
    fn only_what_agrees_or_was_healed_is_a_success() {
        for (outcome, good) in
            [("agreed", true), ("healed", true), ("differed", false), ("stalled", false), ("failed", false)]
        {
            assert_eq!(verdict(&[ended(outcome)]).is_ok(), good, "{outcome}");
        }
        assert!(verdict(&[]).is_err(), "nothing is no success");
    }

    #[test]
    fn a_difference_names_both_hashes_and_a_stop_its_reason() {
        let differed = words(&ended("differed"));
        assert!(differed.contains("aaaaaaaaaaaaaaaa served, bbbbbbbbbbbbbbbb serves"), "{differed}");
        assert!(words(&ended("stalled")).ends_with("stalled: position 4: why"));
        assert_eq!(progress(&ended("running")["rebuild"]), "50 %: position 5 of 10");
    }
}
