//! `covalence incidents replay`: what today's rules decide about golden cases.

use std::path::PathBuf;

use clap::Args;
use covalence_incidents::golden::{Case, Mismatch};
use covalence_projections::tail;
use serde_json::json;

use crate::cli::Shared;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::output::{Cell, Output};
use crate::golden;

const EXAMPLES: &str = "\
Examples:
  covalence incidents replay frozen-engine.case
  covalence incidents replay tests/golden/*.case
  covalence incidents replay frozen-engine.case --facts | jq .type
                                              what is in it, as JSON lines

Neither a server nor a log is needed. Exit code 1: something is decided otherwise than the case expects.";

/// Put the facts of cases to today's rules
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Replay {
    /// Files that `covalence incidents export` wrote
    #[arg(required = true, value_name = "CASE")]
    cases: Vec<PathBuf>,
    /// Print the facts instead, as JSON lines
    #[arg(long, conflicts_with = "json")]
    facts: bool,
}

impl Replay {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let output = shared.output();
        let (mut answers, mut differing) = (Vec::new(), 0);
        for path in &self.cases {
            let named = |error: String| Failure::new(Exit::Failure, format!("{}: {error}", path.display()));
            let file = std::fs::read(path).map_err(|error| named(error.to_string()))?;
            let case =
                Case::read(&file).map_err(|error| named(format!("{:#}", anyhow::Error::from(error))))?;
            if self.facts {
                for event in &case.facts {
                    output.line(&tail::json(event).to_string())?;
                }
                continue;
            }
            let found = golden::replay(&case)
                .await
                .map_err(|error| named(format!("{:#}", anyhow::Error::from(error))))?;
            differing += usize::from(!found.is_empty());
            if output.json {
                let decisions = case.header.expected.decisions.len();
                answers.push(json!({"case": case.header.name, "decisions": decisions, "differences": found}));
            } else {
                shown(output, &case, &found)?;
            }
        }
        if output.json {
            output.document(&answers.into())?;
        }
        if differing == 0 {
            return Ok(());
        }
        let of = self.cases.len();
        Err(Failure::new(Exit::Failure, format!("{differing} of {of} cases are decided otherwise today")))
    }
}

fn shown(output: Output, case: &Case, found: &[Mismatch]) -> Outcome {
    let (header, expected) = (&case.header, case.header.expected.decisions.len());
    if found.is_empty() {
        return output.line(&format!("{}: all {expected} decisions are the recorded ones", header.name));
    }
    output.line(&format!("{}: {} of {expected} decisions differ", header.name, found.len()))?;
    let who = case.who();
    let row = |one: &Mismatch| {
        let text = |text: Option<&str>| Cell::new(text.unwrap_or("nothing"));
        vec![
            Cell::dim(&one.position.map(|position| position.to_string()).unwrap_or_default()),
            Cell::dim(&one.kind),
            Cell::new(&one.workspace.map(|id| who.name(id)).unwrap_or_default()),
            text(one.expected.as_deref()),
            text(one.today.as_deref()),
        ]
    };
    let rows: Vec<Vec<Cell>> = found.iter().map(row).collect();
    output.table(&["POSITION", "KIND", "WORKSPACE", "EXPECTED", "TODAY"], &rows)
}
