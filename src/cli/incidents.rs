//! `covalence incidents …`, and where answers about incidents come from: a server, or a copy of the log of one that is down.

use std::sync::Arc;

use chrono::Utc;
use clap::{Args, Subcommand};
use covalence_actors::policy::Policy;
use covalence_events::keyring::Keyring;
use covalence_events::log::OpenError;
use covalence_events::log::sled::{Opened, SledLog};
use covalence_events::{Fact, Position, Recorded, WorkspaceId, fleet};
use covalence_incidents::{Failure as NoAnswer, Moment, Who};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::keys::sealed_by;
use crate::cli::name::Named;
use crate::cli::output::note;
use crate::cli::when::{When, rfc3339};
use crate::cli::{Shared, events};
use crate::config::log_dir;

mod change;
mod export;
mod flight;
mod ls;
mod replay;
mod show;

/// List, look into, open, note on, close and keep incidents
#[derive(Debug, Args)]
pub(super) struct Incidents {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List incidents, newest first
    Ls(ls::Ls),
    /// Say what first caused an incident, whom it hit, and what those have in common
    Show(show::Show),
    /// Show what observers saw in the quarter of an hour before a brake engaged
    Flight(flight::Flight),
    /// Open an incident by hand
    Open(change::Open),
    /// Say something about an incident
    Note(change::Note),
    /// Close an incident: nothing is left to be done about it
    Close(change::Close),
    /// Write a span of the log as a case: its facts, and the decisions that are expected of them
    Export(export::Export),
    /// Put the facts of cases to today's rules, and say what is decided otherwise
    Replay(replay::Replay),
}

impl Incidents {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        match self.command {
            Command::Ls(command) => command.run(shared).await,
            Command::Show(command) => command.run(shared).await,
            Command::Flight(command) => command.run(shared).await,
            Command::Open(command) => command.run(shared).await,
            Command::Note(command) => command.run(shared).await,
            Command::Close(command) => command.run(shared).await,
            Command::Export(command) => command.run(shared).await,
            Command::Replay(command) => command.run(shared).await,
        }
    }
}

/// Who answers.
#[derive(Debug)]
pub(super) enum Source {
    /// The server that has the log open.
    Server(Box<Client>),
    /// Nobody has it open: a copy of it.
    Copied(Box<Copied>),
}

/// A copy of a log, gone with this value.
#[derive(Debug)]
pub(super) struct Copied {
    /// The copy, opened.
    pub(super) log: Arc<SledLog>,
    /// Names and parents as the log tells them.
    pub(super) who: Who,
    /// The policy that was last in force.
    pub(super) policy: Policy,
    /// What is not in it, in a sentence; an answer that rests on half a log says so.
    lost: Option<String>,
    // Last, so that the log is closed before its directory goes.
    _scratch: TempDir,
}

impl Source {
    /// A server that was named is asked, and nobody else. Without one, the log of the data directory is read where no process
    /// has it open; else its server is asked.
    pub(super) async fn find(shared: &Shared) -> Outcome<Self> {
        let layers = shared.layers()?;
        let path = log_dir(layers.text("data_dir").unwrap_or_default().as_ref());
        let named = layers.text("client.url").is_some();
        if named || !path.join("format").exists() {
            return Ok(Self::Server(Box::new(shared.client()?)));
        }
        let opened = {
            let (path, keys) = (path.clone(), sealed_by(shared)?);
            tokio::task::spawn_blocking(move || Copied::open(&path, keys))
                .await
                .map_err(anyhow::Error::from)?
        };
        match opened {
            Ok(copied) => {
                note(&format!("no server has `{}` open: reading a copy of it", path.display()));
                if let Some(lost) = &copied.lost {
                    note(lost);
                }
                Ok(Self::Copied(Box::new(copied)))
            }
            Err(OpenError::Locked { .. }) => Ok(Self::Server(Box::new(shared.client()?))),
            Err(error) => Err(anyhow::Error::from(error).into()),
        }
    }

    /// The id of the workspace that a person names.
    pub(super) async fn workspace(&self, wanted: &str) -> Outcome<String> {
        let roster: Vec<Named> = match self {
            Self::Server(client) => client.roster().await?.0.iter().map(Named::from_row).collect(),
            Self::Copied(copied) => {
                let named =
                    |(id, name): (WorkspaceId, &str)| Named { id: id.to_string(), name: name.to_owned() };
                copied.who.living().map(named).collect()
            }
        };
        events::workspace_id(wanted, &roster)
    }
}

impl Copied {
    fn open(path: &std::path::Path, keys: Option<Arc<Keyring>>) -> Result<Self, OpenError> {
        let scratch = tempfile::Builder::new().prefix("covalence-log-").tempdir().map_err(|error| {
            OpenError::Store {
                path: std::env::temp_dir(),
                step: "make a directory for a copy of the log",
                reason: error.to_string(),
            }
        })?;
        let mut who = Who::default();
        let mut policy = Policy::default();
        let mut learn = |recorded: &Arc<Recorded>| {
            who.learn(recorded);
            if let Fact::Fleet(fleet::Event::PolicyChanged(changed)) = &recorded.fact
                && let Value::Object(document) = &changed.parameters
            {
                policy = Policy::restored(document);
            }
        };
        let (log, opened) = SledLog::open_copy(path, &scratch.path().join("log"), keys, &mut learn)?;
        Ok(Self { log: Arc::new(log), who, policy, lost: lost(&opened), _scratch: scratch })
    }
}

/// What a copy does not have.
fn lost(opened: &Opened) -> Option<String> {
    let (head, next) = (opened.head, opened.head.next());
    if let Some(acknowledged) = opened.accepted_loss {
        return Some(format!(
            "warning: the log is damaged: positions {next} to {acknowledged} were acknowledged and are not there. \
             `covalence log restore` brings back what is in the segments"
        ));
    }
    let repair = opened.repaired.as_ref()?;
    Some(format!("warning: the log's end is torn ({}): it is read up to position {head}", repair.reason))
}

/// A moment as the questions know it.
pub(super) fn moment(when: Option<When>) -> Moment {
    match when {
        None => Moment::Now(Utc::now()),
        Some(When::Time(at)) => Moment::Time(at),
        Some(When::Position(position)) => Moment::Position(Position(position)),
    }
}

/// A moment as the API takes it.
pub(super) fn query(when: When) -> String {
    match when {
        When::Time(at) => rfc3339(at),
        When::Position(position) => position.to_string(),
    }
}

/// The server's answer as data; one that another version wrote may not fit.
pub(super) fn read<T: DeserializeOwned>(answer: Value) -> Outcome<T> {
    serde_json::from_value(answer).map_err(|error| {
        Failure::new(Exit::Failure, format!("the server's answer is not understood: {error}"))
            .hint("does the server have this command's version? --json prints its answer as it is")
    })
}

impl From<NoAnswer> for Failure {
    fn from(failure: NoAnswer) -> Self {
        let exit = match failure {
            NoAnswer::NoWorkspace(_)
            | NoAnswer::NotYet(_)
            | NoAnswer::NoFact(_)
            | NoAnswer::NoIncident(_)
            | NoAnswer::NoFlight(_) => Exit::NotFound,
            NoAnswer::Backwards => Exit::Usage,
            NoAnswer::Read(_) => Exit::Failure,
        };
        Self { exit, error: failure.into(), hint: None }
    }
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Form {
    /// No colour, also on a terminal
    #[arg(long)]
    pub(super) plain: bool,
    /// Print Markdown, for a report
    #[arg(long, conflicts_with_all = ["plain", "json"])]
    pub(super) markdown: bool,
}

/// A time of day as people here read it, to the millisecond.
pub(super) fn clock(at: chrono::DateTime<Utc>) -> String {
    at.with_timezone(&chrono::Local).format("%H:%M:%S%.3f").to_string()
}

/// A time with its day, as people here read it.
pub(super) fn day_and_clock(at: chrono::DateTime<Utc>) -> String {
    at.with_timezone(&chrono::Local).format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// A text within a cell of a Markdown table.
pub(super) fn cell(text: &str) -> String {
    crate::cli::output::printable(text).replace('|', "\\|")
}

/// What is shown without what depends on where the tests run: each time is as many letters.
#[cfg(test)]
pub(super) fn without_times(text: &str) -> String {
    let is_time = |word: &str| {
        let digits = word.bytes().filter(u8::is_ascii_digit).count();
        digits >= 8 && word.bytes().all(|byte| byte.is_ascii_digit() || b":.-,;".contains(&byte))
    };
    let hide = |word: &str| {
        if is_time(word) {
            word.replace(|letter: char| letter.is_ascii_digit(), "t")
        } else {
            word.to_owned()
        }
    };
    text.split(' ')
        .map(|word| word.split('\n').map(hide).collect::<Vec<_>>().join("\n"))
        .collect::<Vec<_>>()
        .join(" ")
}
