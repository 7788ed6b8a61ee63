//! `covalence config show`: the effective configuration and where each value comes from.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::cli::Shared;
use crate::cli::failure::Outcome;
use crate::cli::output::{Cell, note};
use crate::config::{Config as Tree, Entry, Source};

/// What is printed instead of a secret.
const REDACTED: &str = "(secret)";

/// Show the configuration
#[derive(Debug, Args)]
pub(super) struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print every setting's effective value and its source; secrets are not printed
    #[command(
        after_help = "Examples:\n  covalence config show\n  covalence config show --set\n  covalence config show --json | jq '.settings[\"server.listen\"]'"
    )]
    Show {
        /// Only what is not built in
        #[arg(long)]
        set: bool,
    },
}

impl Config {
    pub(super) fn run(self, shared: &Shared) -> Outcome {
        let Command::Show { set } = self.command;
        let mut layers = shared.layers()?;
        let checked = Tree::from_layers(&mut layers, &shared.flags);
        let output = shared.output();
        let entries: Vec<&Entry> =
            layers.entries().filter(|entry| !set || entry.source != Source::Default).collect();
        if output.json {
            let settings: Map<String, Value> = entries.iter().map(|entry| json_of(entry)).collect();
            let file = layers.file.as_ref().map(|path| path.display().to_string());
            let runtimes = checked
                .as_ref()
                .map(|config| config.runtimes.iter().map(|runtime| runtime.name.clone()).collect::<Vec<_>>());
            output.document(&json!({
                "settings": settings,
                "file": file,
                "runtimes": runtimes.unwrap_or_default(),
                "warnings": layers.warnings,
            }))?;
        } else {
            let rows: Vec<Vec<Cell>> = entries
                .iter()
                .map(|entry| {
                    let value = shown(entry).unwrap_or_default();
                    vec![Cell::new(entry.setting.key), Cell::new(value), Cell::dim(&entry.source.to_string())]
                })
                .collect();
            output.table(&["SETTING", "VALUE", "SOURCE"], &rows)?;
            for warning in &layers.warnings {
                note(&format!("warning: {warning}"));
            }
        }
        checked?;
        Ok(())
    }
}

fn shown(entry: &Entry) -> Option<&str> {
    let value = entry.value.as_deref()?;
    Some(if entry.setting.secret { REDACTED } else { value })
}

fn json_of(entry: &Entry) -> (String, Value) {
    let value = json!({
        "value": shown(entry),
        "source": entry.source.to_string(),
        "environment": entry.setting.env,
        "about": entry.setting.about,
    });
    (entry.setting.key.to_owned(), value)
}
