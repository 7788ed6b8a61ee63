//! The past of the fleet as the command line and the API show it: its state at two moments, and the steps between.
//!
//! `covalence-projections` knows what the state was and which fact changed it, `covalence-incidents` has the words for the
//! facts; here the two are put together, as plain data that serves as the API's answers and as what the command line draws.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use covalence_events::log::{EventLog, ReadError};
use covalence_events::{Position, Recorded, WorkspaceId};
use covalence_incidents::{Moment, Who, reading, words};
use covalence_projections::picture::{Fields, Subject};
use covalence_projections::{ApplyError, History};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

pub mod diff;
pub mod replay;

/// Facts that are read at once.
const PAGE: usize = 1_000;

/// A log, what was known at each of its positions, and what its workspaces are called.
#[derive(Clone, Debug)]
pub struct Past {
    /// The facts.
    pub log: Arc<dyn EventLog>,
    /// What was known.
    pub history: History,
    /// Names.
    pub who: Who,
}

/// Why a question about the past has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A moment that is none, or a log that can't be read.
    #[error(transparent)]
    Question(#[from] covalence_incidents::Failure),
    /// The moments are too far apart to be stepped between.
    #[error("{facts} facts lie between the two moments, and a replay goes over {most} at most")]
    TooLong {
        /// Facts between them.
        facts: u64,
        /// How many there may be.
        most: u64,
    },
    /// The log is damaged.
    #[error("the facts do not follow each other")]
    Damaged(#[from] ApplyError),
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::Question(error.into())
    }
}

/// A moment that was found in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Edge {
    /// The last position that belongs to it.
    pub position: u64,
    /// Its time.
    pub at: DateTime<Utc>,
}

/// A fact, as far as it takes to know what it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Told {
    /// Its place in the log.
    pub position: u64,
    /// When it was recorded.
    pub at: DateTime<Utc>,
    /// Its wire tag, such as `workspace.went_offline.v1`.
    #[serde(rename = "type")]
    pub tag: String,
    /// What it says, in words.
    pub text: String,
}

impl Told {
    fn of(recorded: &Recorded, who: &Who) -> Self {
        Self {
            position: recorded.position.0,
            at: recorded.meta.at,
            tag: recorded.fact.tag().to_owned(),
            text: words::say(recorded, who).text,
        }
    }
}

/// From one moment up to another, about everybody or some.
#[derive(Clone, Debug)]
pub struct Span {
    /// The earlier moment; facts up to it belong to the state that it begins with.
    pub from: Moment,
    /// The later moment.
    pub to: Moment,
    /// Only about these, and about what holds everybody; all where empty.
    pub workspaces: BTreeSet<WorkspaceId>,
    /// Whether fields that each sign of life changes are wanted as well.
    pub pulse: bool,
}

impl Span {
    async fn edges(&self, past: &Past) -> Result<(Edge, Edge), Failure> {
        let (from, from_at) = reading::resolve(past.log.as_ref(), self.from).await?;
        let (to, to_at) = reading::resolve(past.log.as_ref(), self.to).await?;
        if from > to {
            return Err(covalence_incidents::Failure::Backwards.into());
        }
        Ok((Edge { position: from.0, at: from_at }, Edge { position: to.0, at: to_at }))
    }

    fn wants(&self, subject: &Subject, field: &str) -> bool {
        let whose =
            subject.workspace().is_none_or(|id| self.workspaces.is_empty() || self.workspaces.contains(&id));
        whose && (self.pulse || !covalence_projections::picture::PULSE.contains(&field))
    }
}

/// What a subject is called: a workspace's name, a hold's reason, else its key.
fn name(subject: &Subject, fields: &Fields, who: &Who) -> String {
    let said = |field: &str| fields.get(field).and_then(Value::as_str).map(str::to_owned);
    match subject {
        Subject::Workspace(id) => said("name").unwrap_or_else(|| who.name(*id)),
        Subject::Hold(_) => said("reason").unwrap_or_else(|| subject.key()),
        Subject::Alarm(kind, Some(workspace)) => format!("{kind} of {}", who.name(*workspace)),
        Subject::Platform
        | Subject::Policy
        | Subject::Mode(_)
        | Subject::Alarm(_, None)
        | Subject::Cell(_) => subject.key(),
    }
}

/// The facts after a moment up to another, page by page.
#[derive(Debug)]
struct Pages {
    log: Arc<dyn EventLog>,
    next: Position,
    end: Position,
}

impl Pages {
    fn new(past: &Past, after: Edge, to: Edge) -> Self {
        Self { log: Arc::clone(&past.log), next: Position(after.position).next(), end: Position(to.position) }
    }

    async fn next(&mut self) -> Result<Option<Vec<Arc<Recorded>>>, ReadError> {
        if self.next > self.end {
            return Ok(None);
        }
        let mut page = self.log.read_all(self.next, PAGE).await?;
        page.retain(|fact| fact.position <= self.end);
        let Some(last) = page.last() else { return Ok(None) };
        self.next = last.position.next();
        Ok(Some(page))
    }
}
