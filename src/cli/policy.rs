//! `covalence policy show|check|set|rollback`: the policy as a document.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::cli::Shared;
use crate::cli::as_of::AsOf;
use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::output::{Cell, Output, note, printable, text};
use crate::cli::supervision::{items, local};

/// A policy's file longer than this is a mistake, not a policy.
const FILE_MAX: u64 = 1024 * 1024;
/// The table of a configuration file that holds the same parameters.
const SECTION: &str = "supervision";

/// Show, check and change the supervision policy
#[derive(Debug, Args)]
pub(super) struct Policy {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print every parameter as a TOML document, with its meaning, default and source
    #[command(
        after_help = "Examples:\n  covalence policy show > policy.toml\n  covalence policy show --history\n  covalence policy show --as-of 2026-03-01T03:07:00Z"
    )]
    Show {
        /// The last changes instead, with what changed, who and why
        #[arg(long)]
        history: bool,
        #[command(flatten)]
        as_of: AsOf,
    },
    /// Say what a document would change, and change nothing
    #[command(after_help = "Examples:\n  covalence policy check policy.toml")]
    Check {
        /// TOML file; what it leaves out has its built-in value
        file: PathBuf,
    },
    /// Change the policy
    Set(Set),
    /// Go back to a policy that was in force before
    #[command(
        after_help = "Examples:\n  covalence policy rollback --reason 'too eager'      the one before\n  covalence policy rollback 0123456789abcdef --reason 'as in May'"
    )]
    Rollback {
        /// Its hash, as `policy show --history` prints it
        hash: Option<String>,
        /// Why
        #[arg(long, short)]
        reason: String,
    },
}

/// Change the policy
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  covalence policy set intensity_max=7 backoff_cap=4m --reason 'slow images'\n  covalence policy set policy.toml --reason 'reviewed' --dry-run"
)]
struct Set {
    /// TOML file, whose missing parameters go back to their built-in values; or NAME=VALUE, and the others stay
    #[arg(required = true, value_name = "FILE|NAME=VALUE")]
    parameters: Vec<String>,
    /// Why
    #[arg(long, short, required_unless_present = "dry_run")]
    reason: Option<String>,
    /// Only say what would change
    #[arg(long)]
    dry_run: bool,
}

impl Policy {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let (client, output) = (shared.client()?, shared.output());
        match self.command {
            Command::Show { history, as_of } => show(&client, output, history, as_of).await,
            Command::Check { file } => {
                let wish = json!({"parameters": read(&file)?, "replace": true});
                changed(output, &send(&client, Method::POST, &["admin", "policy", "check"], &wish).await?)
            }
            Command::Set(set) => set.run(&client, output).await,
            Command::Rollback { hash, reason } => {
                let wish = json!({"hash": hash, "reason": reason});
                changed(output, &send(&client, Method::POST, &["admin", "policy", "rollback"], &wish).await?)
            }
        }
    }
}

impl Set {
    async fn run(self, client: &Client, output: Output) -> Outcome {
        let (parameters, replace) = match self.parameters.as_slice() {
            [file] if !file.contains('=') => (read(Path::new(file))?, true),
            pairs => (assignments(pairs)?, false),
        };
        let wish = json!({"parameters": parameters, "replace": replace, "reason": self.reason});
        let answer = if self.dry_run {
            send(client, Method::POST, &["admin", "policy", "check"], &wish).await?
        } else {
            send(client, Method::PUT, &["admin", "policy"], &wish).await?
        };
        changed(output, &answer)
    }
}

pub(super) async fn send(client: &Client, method: Method, path: &[&str], wish: &Value) -> Outcome<Value> {
    client.json(client.request(method, path).json(wish)).await
}

pub(super) fn assignments(pairs: &[String]) -> Outcome<Map<String, Value>> {
    let pair = |pair: &String| {
        let (name, value) = pair.split_once('=').ok_or_else(|| {
            Failure::new(
                Exit::Usage,
                format!("`{}` is neither NAME=VALUE nor a single file", printable(pair)),
            )
        })?;
        Ok((name.trim().to_owned(), Value::from(value.trim())))
    };
    pairs.iter().map(pair).collect()
}

pub(super) fn read(path: &Path) -> Outcome<Map<String, Value>> {
    let named = |reason: String| Failure::new(Exit::Usage, format!("{}: {reason}", path.display()));
    let length = std::fs::metadata(path).map_err(|error| named(error.to_string()))?.len();
    if length > FILE_MAX {
        return Err(named(format!("{length} bytes are no policy")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
    document(&text).map_err(named)
}

/// A TOML document's parameters: its own, or those of its section `[supervision]`.
fn document(text: &str) -> Result<Map<String, Value>, String> {
    let mut table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    let table = match table.remove(SECTION) {
        Some(toml::Value::Table(section)) => section,
        Some(_) => return Err(format!("`{SECTION}` is no table")),
        None => table,
    };
    let plain = |(name, value): (String, toml::Value)| match value {
        toml::Value::String(text) => Ok((name, Value::from(text))),
        toml::Value::Integer(number) => Ok((name, Value::from(number))),
        toml::Value::Float(number) => Ok((name, Value::from(number))),
        toml::Value::Boolean(flag) => Ok((name, Value::from(flag))),
        toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => {
            Err(format!("parameter `{name}` is no text, number, true or false"))
        }
    };
    table.into_iter().map(plain).collect()
}

async fn show(client: &Client, output: Output, history: bool, as_of: AsOf) -> Outcome {
    let answer = as_of.get(client, &["admin", "policy"]).await?;
    if output.json {
        return output.document(&answer);
    }
    if history { changes(output, &answer) } else { output.line(&as_toml(&answer)) }
}

fn as_toml(answer: &Value) -> String {
    let mut lines =
        vec![format!("# Supervision policy {}. Times have a unit: ms, s, m, h, d.", text(answer, "hash"))];
    for parameter in items(answer, "parameters") {
        let (name, value) = (text(parameter, "name"), text(parameter, "value"));
        let (default, source) = (text(parameter, "default"), text(parameter, "source"));
        // A number stands bare in TOML, a time or a word does not.
        let bare = matches!(text(parameter, "kind"), "count" | "number" | "flag");
        let shown = if bare { value.to_owned() } else { format!("\"{value}\"") };
        lines.push(String::new());
        lines.push(format!("# {} ({})", text(parameter, "meaning"), text(parameter, "allowed")));
        lines.push(format!("# default {default}: {source}"));
        lines.push(format!("{name} = {shown}"));
    }
    lines.join("\n")
}

fn changes(output: Output, answer: &Value) -> Outcome {
    let mut rows = Vec::new();
    for change in items(answer, "history") {
        let differences = items(change, "changed").iter().map(difference);
        rows.push(vec![
            Cell::dim(&local(text(change, "since"))),
            Cell::new(text(change, "hash")),
            Cell::new(text(change, "origin")),
            Cell::new(text(change, "by")),
            Cell::new(&differences.collect::<Vec<_>>().join(", ")),
            Cell::dim(text(change, "reason")),
        ]);
    }
    output.table(&["SINCE", "HASH", "ORIGIN", "BY", "CHANGED", "REASON"], &rows)
}

fn difference(of: &Value) -> String {
    format!("{} {} → {}", text(of, "name"), text(of, "from"), text(of, "to"))
}

fn changed(output: Output, answer: &Value) -> Outcome {
    if output.json {
        return output.document(answer);
    }
    let differences = items(answer, "changed");
    for one in differences {
        output.line(&printable(&difference(one)))?;
    }
    if differences.is_empty() {
        note("nothing differs");
    }
    output.line(&format!("{}  policy {}", text(answer, "status"), text(answer, "hash")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_show_prints_is_read_again() {
        let answer = json!({"hash": "00", "parameters": [
            {"name": "grace", "value": "60s", "default": "60s", "kind": "time", "allowed": "a time", "meaning": "m",
             "source": "Nomad"},
            {"name": "intensity_max", "value": "7", "default": "5", "kind": "count", "allowed": "a number",
             "meaning": "m", "source": "OTP"},
        ]});
        let toml = as_toml(&answer);
        assert!(toml.contains("# default 5: OTP\nintensity_max = 7"), "{toml}");
        let read = document(&toml).unwrap();
        assert_eq!(Value::Object(read), json!({"grace": "60s", "intensity_max": 7}));
    }

    #[test]
    fn a_section_of_a_configuration_file_is_a_document_too() {
        let read = document("[server]\nport = 1\n[supervision]\nbackoff_jitter = 0.1\n").unwrap();
        assert_eq!(Value::Object(read), json!({"backoff_jitter": 0.1}));
        assert!(document("grace = [1]").unwrap_err().contains("`grace`"));
    }

    #[test]
    fn assignments_need_a_name_and_a_value() {
        let pairs = ["grace = 30s".to_owned(), "x".to_owned()];
        assert_eq!(Value::Object(assignments(&pairs[..1]).unwrap()), json!({"grace": "30s"}));
        assert_eq!(assignments(&pairs).unwrap_err().exit, Exit::Usage);
    }
}
