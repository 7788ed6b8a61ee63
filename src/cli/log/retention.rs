//! `covalence log retention`: what leaves the log when it is too old, and doing it now.

use std::time::Duration;

use clap::Args;
use reqwest::Method;
use serde_json::Value;

use crate::cli::Shared;
use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::output::{Colour, Output, note, printable, text};
use crate::cli::supervision::local;

/// Between two looks at a run that goes on.
const LOOK_EVERY: Duration = Duration::from_millis(500);

const EXAMPLES: &str = "\
Examples:
  covalence log retention
  covalence log retention --run
  covalence log retention --json | jq .lag

A run goes through the archive slowly, so as not to be in the way; whoever asked for it may leave.
Exit code 1 where it failed.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Retention {
    /// Remove now what is due, and wait until that is done
    #[arg(long)]
    run: bool,
}

impl Retention {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let (client, output) = (shared.client()?, shared.output());
        let stands = if self.run { run(&client).await? } else { look(&client).await? };
        if output.json {
            output.document(&stands)?;
        } else {
            for line in lines(output, &stands) {
                output.line(&line)?;
            }
        }
        match text(&stands["last"], "outcome") {
            "failed" if self.run => {
                let reason = text(&stands["last"], "reason");
                Err(Failure::new(Exit::Failure, format!("not all that is due was removed: {reason}"))
                    .hint("the next run begins anew; what was removed stays removed"))
            }
            _ => Ok(()),
        }
    }
}

async fn look(client: &Client) -> Outcome<Value> {
    client.get(&["admin", "log", "retention"]).await
}

/// Begins a run and follows it to its end; one that goes on already is followed.
async fn run(client: &Client) -> Outcome<Value> {
    let asked = client.json(client.request(Method::POST, &["admin", "log", "retention", "run"])).await;
    let number = match asked {
        Ok(begun) => begun["run"].as_u64(),
        Err(failure) if failure.exit == Exit::Refused => {
            let running = look(client).await?["running"]["run"].as_u64();
            let number = running.ok_or(failure)?;
            note("a run goes on already: following it");
            Some(number)
        }
        Err(failure) => return Err(failure),
    };
    let mut told = String::new();
    loop {
        let stands = look(client).await?;
        if stands["last"]["run"].as_u64() >= number {
            return Ok(stands);
        }
        let running = &stands["running"];
        let line =
            format!("part {} of {}, {} facts removed", running["part"], running["parts"], running["events"]);
        if !running.is_null() && line != told {
            note(&line);
            told = line;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn lines(output: Output, stands: &Value) -> Vec<String> {
    let archive: &[Value] = stands["archive"].as_array().map_or(&[], Vec::as_slice);
    let sum = |field: &str| archive.iter().filter_map(|part| part[field].as_u64()).sum::<u64>();
    let mut lines = vec![
        format!("rule      {}", text(stands, "rule")),
        format!(
            "archive   {}, {}; {} facts were removed from it",
            counted(archive.len() as u64, "part"),
            bytes(sum("bytes")),
            sum("removed")
        ),
    ];
    let lag = &stands["lag"];
    lines.push(match lag["parts"].as_u64() {
        None | Some(0) => "due       nothing".to_owned(),
        Some(parts) => {
            let due = format!("{} since {}", counted(parts, "part"), local(text(lag, "since")));
            format!("due       {}", output.paint(Colour::Yellow, &due))
        }
    });
    let waits =
        archive.iter().any(|part| part["due"] == true && part["last"].as_u64() > stands["through"].as_u64());
    if waits {
        let waits = format!("what is behind position {} was not exported yet", stands["through"]);
        lines.push(format!("waits     {}", output.paint(Colour::Yellow, &waits)));
    }
    if let running @ Value::Object(_) = &stands["running"] {
        lines.push(format!(
            "running   since {}, part {} of {}, {} facts removed",
            local(text(running, "began")),
            running["part"],
            running["parts"],
            running["events"]
        ));
    }
    lines.push(match &stands["last"] {
        Value::Null => "last run  none since the server started".to_owned(),
        last => format!("last run  {}", ended(output, last)),
    });
    if let Some(next) = stands["next_at"].as_str() {
        lines.push(format!("next run  {}", local(next)));
    }
    lines
}

fn ended(output: Output, last: &Value) -> String {
    let done = format!(
        "{}: {} facts removed from {}, {} given back",
        local(text(last, "ended")),
        last["events"],
        counted(last["parts"].as_u64().unwrap_or(0), "part"),
        bytes(last["bytes"].as_u64().unwrap_or(0)),
    );
    match text(last, "outcome") {
        "failed" => {
            let reason = printable(text(last, "reason"));
            format!("{done}, then it {}: {reason}", output.paint(Colour::Red, "failed"))
        }
        "stopped" => format!("{done}, then it was stopped"),
        _ => done,
    }
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Bytes as people read them.
fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{}.{} MiB", bytes >> 20, ((bytes & 0xf_ffff) * 10) >> 20),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stands() -> Value {
        json!({
            "rule": "heartbeats older than 168 h are rolled up", "through": 200, "running": null,
            "last": {"run": 2, "ended": "x", "outcome": "done", "parts": 1, "events": 90, "bytes": 1_600_000},
            "next_at": "then", "lag": {"parts": 0, "positions": 0, "since": null},
            "archive": [
                {"first": 1, "last": 100, "bytes": 2048, "removed": 90, "due": false},
                {"first": 101, "last": 300, "bytes": 1_048_576, "removed": 0, "due": false},
            ],
        })
    }

    fn said(stands: &Value) -> Vec<String> {
        lines(Output { json: false, colours: false }, stands)
    }

    #[test]
    fn what_was_done_and_what_is_next_is_said_in_lines() {
        assert_eq!(
            said(&stands()),
            [
                "rule      heartbeats older than 168 h are rolled up",
                "archive   2 parts, 1.0 MiB; 90 facts were removed from it",
                "due       nothing",
                "last run  x: 90 facts removed from 1 part, 1.5 MiB given back",
                "next run  then",
            ]
        );
    }

    #[test]
    fn what_is_due_waits_for_the_export_and_a_failure_has_its_reason() {
        let mut stands = stands();
        stands["archive"][1]["due"] = json!(true);
        stands["lag"] = json!({"parts": 1, "positions": 200, "since": "then"});
        stands["last"]["outcome"] = json!("failed");
        stands["last"]["reason"] = json!("low space");
        let said = said(&stands);
        assert_eq!(said[2], "due       1 part since then");
        assert_eq!(said[3], "waits     what is behind position 200 was not exported yet");
        assert!(said[4].ends_with("then it failed: low space"), "{}", said[4]);
    }
}
