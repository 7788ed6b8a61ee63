//! `covalence status`: the fleet on one screen.

use std::collections::BTreeMap;

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::Shared;
use crate::cli::as_of::AsOf;
use crate::cli::failure::Outcome;
use crate::cli::hold;
use crate::cli::output::{Cell, Colour, Output, printable, text};
use crate::cli::supervision::{decisions, items, local};

/// Show the fleet on one screen: what holds restarts back, who fails, what was decided
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  covalence status\n  covalence status --json | jq '.supervision.cells[].allowed'\n  covalence status --as-of 03:07              as things stood then; whether the server is ready is about now"
)]
pub(super) struct Status {
    #[command(flatten)]
    as_of: AsOf,
}

impl Status {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let client = shared.client()?;
        let ready = client.send(client.request(Method::GET, &["ready"])).await.is_ok();
        let rows = self.as_of.roster(&client).await?;
        let supervision = self.as_of.get(&client, &["admin", "supervision"]).await?;
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
                "supervision": supervision,
            }));
        }
        let readiness =
            if ready { output.paint(Colour::Green, "ready") } else { output.paint(Colour::Red, "not ready") };
        output.line(&format!("server      {}  {readiness}", client.url()))?;
        if self.as_of.is_past() {
            output.line(&format!("as of       {}", local(text(&supervision, "at"))))?;
        }
        output.line(&format!("workspaces  {}", counted(&counts)))?;
        screen(output, &supervision)
    }
}

fn counted(counts: &BTreeMap<&str, usize>) -> String {
    let total: usize = counts.values().sum();
    let each: Vec<String> = counts.iter().map(|(status, count)| format!("{count} {status}")).collect();
    if each.is_empty() { "none".to_owned() } else { format!("{total}: {}", each.join(", ")) }
}

fn screen(output: Output, fleet: &Value) -> Outcome {
    let policy = &fleet["policy"];
    let mode = match text(fleet, "mode") {
        "advise" => output.paint(Colour::Yellow, "advise: nothing is restarted by itself"),
        mode => mode.to_owned(),
    };
    output.line(&format!("policy      {}  mode {mode}", text(policy, "hash")))?;
    for alarm in items(fleet, "alarms") {
        let whose = alarm.pointer("/workspace/name").and_then(Value::as_str).unwrap_or_default();
        let (kind, since) = (text(alarm, "kind"), local(text(alarm, "since")));
        let line = format!("{kind} {whose} since {since}: {}", text(alarm, "message"));
        output.line(&format!("alarm       {}", output.paint(Colour::Red, &printable(&line))))?;
    }
    for held in items(fleet, "holds") {
        let line = printable(&hold::line(held));
        output.line(&format!("hold        {}", output.paint(Colour::Yellow, &line)))?;
    }
    output.line("")?;
    let cells: Vec<Vec<Cell>> = items(fleet, "cells").iter().map(cell).collect();
    output.table(
        &["BACKEND", "SIZE", "BRAKE", "TOKENS", "IN FLIGHT", "OBSERVER", "CIRCUIT", "COULD RESTART NOW"],
        &cells,
    )?;
    let failing = items(fleet, "failing");
    if !failing.is_empty() {
        let rows: Vec<Vec<Cell>> = failing.iter().map(failing_row).collect();
        output.line("")?;
        output.table(&["FAILING", "STATUS", "STATE", "RULE", "SINCE"], &rows)?;
        let more = fleet["failing_total"].as_u64().unwrap_or(0).saturating_sub(failing.len() as u64);
        if more > 0 {
            output.line(&format!("and {more} more"))?;
        }
    }
    output.line("")?;
    decisions(output, items(fleet, "decisions"))
}

fn cell(cell: &Value) -> Vec<Cell> {
    let number = |value: &Value| if value.is_null() { String::new() } else { value.to_string() };
    let brake = match &cell["brake"] {
        Value::Null if cell["grace"].is_null() => Cell::dim("none"),
        Value::Null => Cell::warning("grace"),
        brake => Cell::alarming(&format!("{} ({})", text(brake, "mode"), text(brake, "trigger"))),
    };
    let death = &cell["allowed"]["death"];
    let room = format!("{}, then {}", number(&death["restarts"]), text(death, "limited_by"));
    let score = number(&cell["observer"]["score"]);
    let circuit = text(&cell["circuit"], "state");
    vec![
        Cell::new(text(cell, "cell")),
        Cell::new(&number(&cell["size"])),
        brake,
        Cell::new(&format!("{}/{}", number(&cell["tokens"]["level"]), number(&cell["tokens"]["capacity"]))),
        Cell::new(&format!("{}/{}", number(&cell["in_flight"]), number(&cell["in_flight_max"]))),
        if score == "0" { Cell::new("well") } else { Cell::warning(&format!("{score} of 8")) },
        if circuit == "closed" { Cell::new(circuit) } else { Cell::alarming(circuit) },
        if death["restarts"] == 0 { Cell::warning(&room) } else { Cell::new(&room) },
    ]
}

fn failing_row(one: &Value) -> Vec<Cell> {
    let standing = &one["supervision"];
    vec![
        Cell::new(one.pointer("/workspace/name").and_then(Value::as_str).unwrap_or_default()),
        Cell::status(text(one, "status")),
        Cell::new(text(standing, "state")),
        Cell::new(text(standing, "rule")),
        Cell::dim(&local(text(standing, "since"))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_counted_in_one_line() {
        assert_eq!(counted(&BTreeMap::from([("online", 13), ("offline", 2)])), "15: 2 offline, 13 online");
        assert_eq!(counted(&BTreeMap::new()), "none");
    }
}
