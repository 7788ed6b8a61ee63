//! `covalence supervision show`, `mode`, `strategy`: why, and how far the supervisor goes.

use chrono::{DateTime, Local};
use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::Shared;
use crate::cli::as_of::AsOf;
use crate::cli::failure::Outcome;
use crate::cli::hold::{line, named, scope};
use crate::cli::name::{self, Named};
use crate::cli::output::{Cell, Output, printable, text};

/// Show why a workspace was restarted, and why not
#[derive(Debug, Args)]
pub(super) struct Supervision {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what speaks against a workspace, what holds it back, and the last decisions about it
    #[command(
        after_help = "Examples:\n  covalence supervision show lead\n  covalence supervision show lead --json | jq '.decisions[0].numbers'\n  covalence supervision show lead --as-of 03:07"
    )]
    Show {
        /// Workspace: name, id, or the beginning of either
        workspace: String,
        #[command(flatten)]
        as_of: AsOf,
    },
}

impl Supervision {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let Command::Show { workspace, as_of } = self.command;
        let (client, output) = (shared.client()?, shared.output());
        let roster: Vec<Named> = as_of.roster(&client).await?.iter().map(Named::from_row).collect();
        let id = name::resolve(&workspace, &roster)?.id;
        let answer = as_of.get(&client, &["workspaces", &id, "supervision"]).await?;
        if output.json {
            return output.document(&answer);
        }
        show(output, &answer)
    }
}

fn show(output: Output, answer: &Value) -> Outcome {
    let standing = &answer["supervision"];
    let field = |name: &str, value: &str| output.line(&printable(&format!("{name:12}{value}")));
    field("workspace", &format!("{}  {}", text(answer, "name"), text(answer, "status")))?;
    field("state", &standing_words(standing))?;
    if let Some(advice) = standing.get("advice").filter(|advice| !advice.is_null()) {
        field("advice", text(advice, "text"))?;
    }
    if text(answer, "mode") == "advise" {
        field("mode", "advise: decisions about it are only recorded")?;
    }
    if text(answer, "strategy") != "one_for_one" {
        field("team", text(answer, "strategy"))?;
    }
    for doubt in items(answer, "doubts") {
        let since = local(text(doubt, "since"));
        field("doubt", &format!("{}: {}, since {since}", text(doubt, "source"), text(doubt, "detail")))?;
    }
    if let Some(withheld) = answer.get("withheld").filter(|withheld| !withheld.is_null()) {
        field("withheld", &format!("not called hung because of {}", text(withheld, "rule")))?;
    }
    if let Some(quarantine) = answer.get("quarantine").filter(|quarantine| !quarantine.is_null()) {
        let since = local(text(quarantine, "since"));
        field("quarantine", &format!("since {since}, {} tries out of it", quarantine["tries"]))?;
    }
    for hold in items(answer, "holds") {
        field("hold", &line(hold))?;
    }
    if let Some(last) = items(answer, "evidence").first() {
        let (class, code) = (text(last, "class"), text(last, "code"));
        let at = local(text(last, "at"));
        field(
            "evidence",
            &format!("{class} from {}: {code}, {} ({at})", text(last, "source"), text(last, "detail")),
        )?;
    }
    decisions(output, items(answer, "decisions"))
}

/// Where a workspace stands, in a few words.
pub(super) fn standing_words(standing: &Value) -> String {
    let mut words = text(standing, "state").to_owned();
    if !text(standing, "rule").is_empty() {
        words = format!("{words} ({})", text(standing, "rule"));
    }
    if let Some(restart) = standing.get("restart").filter(|restart| !restart.is_null()) {
        words = format!("{words}, restart {} for {}", text(restart, "stage"), text(restart, "cause"));
        let until = text(restart, "until");
        if !until.is_empty() {
            words = format!("{words}, looked at again at {}", local(until));
        }
    }
    words
}

/// The table of decisions, newest first.
pub(super) fn decisions(output: Output, decisions: &[Value]) -> Outcome {
    if decisions.is_empty() {
        return output.line("no decision yet");
    }
    let rows: Vec<Vec<Cell>> = decisions.iter().map(decision).collect();
    output.table(&["WHEN", "WORKSPACE", "DECISION", "RULE", "CAUSE", "UNTIL", "NUMBERS"], &rows)
}

fn decision(decision: &Value) -> Vec<Cell> {
    let word = text(decision, "decision");
    let until = text(decision, "until");
    vec![
        Cell::dim(&local(text(decision, "at"))),
        Cell::new(decision.pointer("/workspace/name").and_then(Value::as_str).unwrap_or_default()),
        Cell::judged(word),
        Cell::new(text(decision, "rule")),
        Cell::new(text(decision, "cause")),
        Cell::new(&if until.is_empty() { String::new() } else { local(until) }),
        Cell::dim(&numbers(&decision["numbers"])),
    ]
}

fn numbers(numbers: &Value) -> String {
    if numbers.is_null() {
        return String::new();
    }
    let mut words = format!(
        "{} tokens, {}/{} in flight, {} recent",
        numbers["tokens"], numbers["in_flight"], numbers["in_flight_max"], numbers["recent"]
    );
    if let Some(brake) = numbers.get("brake").and_then(Value::as_str) {
        words = format!("{words}, brake {brake}");
    }
    words
}

/// The members of a list.
pub(super) fn items<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// A time as people here read it; what is no time stays as it is.
pub(super) fn local(at: &str) -> String {
    DateTime::parse_from_rfc3339(at)
        .map_or_else(|_| at.to_owned(), |at| at.with_timezone(&Local).format("%m-%d %H:%M:%S").to_string())
}

/// Whether decisions are acted on.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeWord {
    /// They are
    Act,
    /// They are only recorded
    Advise,
}

/// Say whether automatic restarts are done, or only recorded
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  covalence mode advise --reason 'first week'         everybody\n  covalence mode act lead --subtree --reason 'trusted now'"
)]
pub(super) struct Mode {
    /// What becomes of decisions
    #[arg(value_name = "MODE")]
    word: ModeWord,
    /// Workspace: name, id, or the beginning of either; everybody without one
    workspace: Option<String>,
    /// Everything below it too
    #[arg(long, requires = "workspace")]
    subtree: bool,
    /// Why
    #[arg(long, short)]
    reason: String,
}

impl Mode {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let (client, output) = (shared.client()?, shared.output());
        let named = named(&client, self.workspace.as_deref()).await?;
        let wish = json!({
            "mode": match self.word { ModeWord::Act => "act", ModeWord::Advise => "advise" },
            "scope": scope(named.as_ref(), self.subtree),
            "workspace": named.as_ref().map(|named| &named.id),
            "reason": self.reason,
        });
        let answer = client.json(client.request(Method::PUT, &["admin", "mode"]).json(&wish)).await?;
        if output.json {
            return output.document(&answer);
        }
        let whose = named.as_ref().map_or("everybody", |named| named.name.as_str());
        output.line(&printable(&format!("{whose}  {}", text(&answer, "mode"))))
    }
}

/// Who is restarted when a member of a team dies.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum StrategyWord {
    /// The dead one
    #[value(name = "one_for_one")]
    OneForOne,
    /// The dead one, and those that were created after it
    #[value(name = "rest_for_one")]
    RestForOne,
    /// All members
    #[value(name = "one_for_all")]
    OneForAll,
}

impl StrategyWord {
    const fn as_str(self) -> &'static str {
        match self {
            Self::OneForOne => "one_for_one",
            Self::RestForOne => "rest_for_one",
            Self::OneForAll => "one_for_all",
        }
    }
}

/// Say who is restarted when a member of a team dies
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  covalence strategy lead one_for_all")]
pub(super) struct Strategy {
    /// Workspace whose team it is: name, id, or the beginning of either
    workspace: String,
    /// Who is restarted
    strategy: StrategyWord,
}

impl Strategy {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let (client, output) = (shared.client()?, shared.output());
        let named = named(&client, Some(&self.workspace)).await?;
        let (id, name) = named.map(|named| (named.id, named.name)).unwrap_or_default();
        let request = client.request(Method::PUT, &["workspaces", &id, "strategy"]);
        let answer = client.json(request.json(&json!({"strategy": self.strategy.as_str()}))).await?;
        if output.json {
            return output.document(&answer);
        }
        output.line(&printable(&format!("{name}  {}", text(&answer, "strategy"))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standing_says_its_rule_and_what_its_restart_waits_for() {
        let held = json!({
            "state": "held", "rule": "tokens",
            "restart": {"stage": "deferred", "cause": "death", "until": "soon"},
        });
        assert_eq!(
            standing_words(&held),
            "held (tokens), restart deferred for death, looked at again at soon"
        );
        assert_eq!(standing_words(&json!({"state": "healthy"})), "healthy");
    }

    #[test]
    fn the_numbers_of_a_decision_are_named() {
        let of = json!({"tokens": 2.5, "in_flight": 1, "in_flight_max": 2, "recent": 3, "brake": "freeze"});
        assert_eq!(numbers(&of), "2.5 tokens, 1/2 in flight, 3 recent, brake freeze");
        assert_eq!(numbers(&Value::Null), "");
    }
}
