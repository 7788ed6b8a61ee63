//! `covalence secrets accept-lost-keys`: a person says that keys are not coming back, so that the server starts without them.

use std::sync::Arc;

use clap::Args;
use covalence_events::keyring::Keyring;
use covalence_events::log::sled::{Options, SledLog};
use serde_json::json;

use crate::cli::Shared;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::output::{confirm, note};
use crate::config::{encryption_key, keys_dir, log_dir};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  covalence secrets accept-lost-keys\n  covalence secrets accept-lost-keys --data-dir /srv/covalence --yes\n\nThe server must not run. What the lost keys sealed stays in the log, is shown as [sealed], and can't be read any more: names, texts and\nsecrets. Nothing else is lost, and workspaces go on under keys of their own. Keys that don't open under the master key are kept in\nkeys/lost. Bring keys back from where they are kept instead, if you can."
)]
pub(super) struct AcceptLostKeys {
    /// Ask no question
    #[arg(long, short)]
    yes: bool,
}

impl AcceptLostKeys {
    pub(super) fn run(self, shared: &Shared) -> Outcome {
        let mut layers = shared.layers()?;
        let given = encryption_key(&mut layers)?;
        let data_dir = std::path::PathBuf::from(layers.text("data_dir").unwrap_or_default());
        let (log, keys) = (log_dir(&data_dir), keys_dir(&data_dir));
        if !log.is_dir() {
            return Err(Failure::new(Exit::NotFound, format!("there is no log in {}", data_dir.display())));
        }
        confirm("giving up what lost keys sealed", self.yes)?;
        // Refused while a server has the log open; nobody else uses the keys then.
        let looking = Options { roll_events: None, ..Options::default() };
        drop(SledLog::open_with(&log, &looking, &mut |_| {}).map_err(anyhow::Error::from)?);
        let moved = Keyring::set_aside(&keys, given.as_ref()).map_err(anyhow::Error::from)?;
        let moved: Vec<String> = moved.iter().map(|path| path.display().to_string()).collect();
        for path in &moved {
            note(&format!("moved aside: {path}"));
        }
        let keyring = Arc::new(Keyring::open(&keys, given).map_err(anyhow::Error::from)?);
        let accepting = Options { keys: Some(keyring), accept_lost_keys: true, ..looking };
        let (_, opened) = SledLog::open_with(&log, &accepting, &mut |_| {}).map_err(anyhow::Error::from)?;
        let output = shared.output();
        if output.json {
            return output.document(&json!({"fields": opened.lost_fields, "moved_aside": moved}));
        }
        output.line(&format!(
            "{} fields can't be read any more; {} keys moved aside",
            opened.lost_fields,
            moved.len()
        ))
    }
}
