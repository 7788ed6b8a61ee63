//! `covalence backtest`: what another policy would have decided.

use std::path::Path;

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::Shared;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::incidents::{Copied, Source};
use crate::cli::output::{Cell, Output, note, text};
use crate::cli::policy;
use crate::cli::supervision::{items, local};
use crate::cli::when::{When, rfc3339};
use crate::http::supervision::backtest::{BacktestView, Wish, answer};
use crate::http::supervision::view::person::Who;

/// No policy.
const NAIVE: &str = "naive";

const EXAMPLES: &str = "\
Examples:
  covalence backtest liveness_ttl=2m --since -1d      would a shorter window have found the dead earlier?
  covalence backtest policy.toml --since 03:00 --until 04:00
  covalence backtest naive --since -1h                what if whatever does not answer were dead?
  covalence backtest naive --data-dir /var/lib/covalence
                                                      without its server, from a copy of the log

The evidence stays as it was recorded. Had the other policy been in force, the world would have gone on differently from
the first decision that differs: those after it are marked with ~.

Times: RFC 3339, a time of day (03:07), an age (-15m; s, m, h, d).";

/// Run what was recorded through another policy, and list what it would have decided otherwise
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Backtest {
    /// TOML file, whose missing parameters have their built-in values; NAME=VALUE, and the others are as they are now; or
    /// the word naive: no policy, whatever does not answer is dead
    #[arg(required = true, value_name = "FILE|NAME=VALUE|naive")]
    policy: Vec<String>,
    /// Decisions from this time on
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = When::parse)]
    since: Option<When>,
    /// Decisions up to this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = When::parse)]
    until: Option<When>,
}

impl Backtest {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let output = shared.output();
        let mut wish = json!({"since": time("since", self.since)?, "until": time("until", self.until)?});
        match self.policy.as_slice() {
            [word] if word == NAIVE => wish["naive"] = true.into(),
            [file] if !file.contains('=') => {
                wish["parameters"] = policy::read(Path::new(file))?.into();
                wish["replace"] = true.into();
            }
            pairs => wish["parameters"] = policy::assignments(pairs)?.into(),
        }
        let answer = match Source::find(shared).await? {
            Source::Server(client) => {
                policy::send(&client, Method::POST, &["admin", "backtest"], &wish).await?
            }
            Source::Copied(copied) => offline(&copied, wish).await?,
        };
        if output.json { output.document(&answer) } else { shown(output, &answer) }
    }
}

/// The same without a server. The policy in force is the last that the log tells of.
async fn offline(copied: &Copied, wish: Value) -> Outcome<Value> {
    let wish: Wish = serde_json::from_value(wish).map_err(anyhow::Error::from)?;
    let (under, report) = answer(copied.log.as_ref(), &wish, &copied.policy)
        .await
        .map_err(|refused| Failure::new(Exit::Usage, refused.to_string()))?;
    let who = |id| Who { id, name: copied.who.name(id) };
    Ok(serde_json::to_value(BacktestView::of(under, report, who)).map_err(anyhow::Error::from)?)
}

fn time(flag: &str, when: Option<When>) -> Outcome<Option<String>> {
    match when {
        None => Ok(None),
        Some(When::Time(at)) => Ok(Some(rfc3339(at))),
        Some(When::Position(_)) => {
            let message = format!("--{flag}: expected a time, not a position");
            Err(Failure::new(Exit::Usage, message))
        }
    }
}

fn shown(output: Output, answer: &Value) -> Outcome {
    let differences = items(answer, "differences");
    if !differences.is_empty() {
        let rows: Vec<Vec<Cell>> = differences.iter().map(row).collect();
        output.table(&["WHEN", "", "POSITION", "WORKSPACE", "WAS", "WOULD BE", "BY"], &rows)?;
    }
    let listed = u64::try_from(differences.len()).unwrap_or(u64::MAX);
    let differing = answer["differing"].as_u64().unwrap_or_default();
    if differing > listed {
        note(&format!("the first {listed} of {differing}"));
    }
    let count = |field: &str| answer[field].as_u64().unwrap_or_default();
    output.line(&format!(
        "{differing} of {} decisions differ under {}: of {} restarts {} avoided, {} added; hung found earlier {}, later or not {}",
        count("judged"),
        text(answer, "under"),
        count("restarts"),
        count("avoided"),
        count("added"),
        count("found_earlier"),
        count("found_later"),
    ))?;
    if count("unjudged") > 0 {
        note(&format!("{} decisions carry no numbers and could not be judged again", count("unjudged")));
    }
    Ok(())
}

fn row(difference: &Value) -> Vec<Cell> {
    let by = difference["seconds"].as_i64().map(|seconds| format!("{seconds:+} s")).unwrap_or_default();
    let extrapolated = difference["extrapolated"].as_bool().unwrap_or_default();
    vec![
        Cell::dim(&local(text(difference, "at"))),
        Cell::dim(if extrapolated { "~" } else { "" }),
        Cell::dim(&difference["position"].to_string()),
        Cell::new(difference.pointer("/workspace/name").and_then(Value::as_str).unwrap_or_default()),
        Cell::new(text(difference, "recorded")),
        Cell::new(text(difference, "under")),
        Cell::new(&by),
    ]
}
