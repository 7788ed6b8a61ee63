//! `covalence log`: whether the event log is whole, copies of it, logs made of copies, and what leaves it.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use covalence_events::log::segments::{Place, SegmentError};

use crate::cli::Shared;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::config::log_dir;
use crate::segments::{ALLOWED, Destination};

mod backup;
mod checkpoint;
mod export;
mod restore;
mod retention;
mod verify;

/// Check, back up, restore and keep up the event log
#[derive(Debug, Args)]
pub(super) struct Log {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read the whole log: checksums, order, the chain of hashes, signed checkpoints; changes nothing. Works with and
    /// without its server
    Verify(verify::Verify),
    /// Copy the log in segments; a second time only what is new. Works with and without its server
    Backup(backup::Backup),
    /// Write facts for other programs: as JSON lines, a table, or traces. Works with and without its server
    Export(export::Export),
    /// Make a log of segments, all of it or up to a position or time
    Restore(restore::Restore),
    /// Show what leaves the log when it is too old and what did, or remove it now
    Retention(retention::Retention),
    /// Show signed checkpoints, and what they are checked by
    Checkpoint(checkpoint::Checkpoints),
}

impl Log {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        match self.command {
            Command::Verify(command) => command.run(shared).await,
            Command::Backup(command) => command.run(shared).await,
            Command::Export(command) => command.run(shared).await,
            Command::Restore(command) => command.run(shared).await,
            Command::Retention(command) => command.run(shared).await,
            Command::Checkpoint(command) => command.run(shared),
        }
    }
}

/// The data directory that is meant.
fn data_dir(shared: &Shared) -> Outcome<PathBuf> {
    Ok(PathBuf::from(shared.layers()?.text("data_dir").unwrap_or_default()))
}

/// The directory of its log.
fn log_path(shared: &Shared) -> Outcome<PathBuf> {
    Ok(log_dir(&data_dir(shared)?))
}

/// A place to read segments from.
fn source(from: &Destination) -> Outcome<Place> {
    found(from, from.to_read())
}

fn found(named: &Destination, place: Result<Option<Place>, SegmentError>) -> Outcome<Place> {
    let place = place.map_err(|error| Failure { exit: Exit::NotFound, ..segment_failure(error) })?;
    place.ok_or_else(|| {
        Failure::new(Exit::Usage, format!("`{named}` is no place for segments: expected {ALLOWED}"))
    })
}

fn segment_failure(error: SegmentError) -> Failure {
    anyhow::Error::from(error).into()
}
