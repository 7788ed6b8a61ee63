//! Golden incidents: a span of a log in one file, a *case*, with the decisions that were made in it.
//!
//! A case has the facts before the span too, so that every state is complete, and says what is expected of them: each decision,
//! and the first line of the explanation of everybody whom one was about. What decides is not known here; who makes a case and
//! who replays it put the same facts to the same rules and hand in what came of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use covalence_events::codec::CodecError;
use covalence_events::log::memory::MemoryLog;
use covalence_events::log::{EventLog, ReadError};
use covalence_events::{Fact, Position, Recorded, WorkspaceId, fleet, workspace};
use serde::{Deserialize, Serialize};

use crate::explain;
use crate::reading::{self, Failure, Moment};
use crate::who::Who;

mod compare;
mod file;
#[cfg(test)]
mod tests;

pub use compare::{Mismatch, compare};

/// Facts of one case. Sixteen bytes a fact compressed, and a second to replay: more than that is no incident, but a history.
pub const FACTS_MAX: usize = 200_000;
/// Workspaces whose explanations are expected of a case: those whom its first decisions were about.
pub const EXPLAINED_MAX: usize = 50;
/// Beats and calls that are older than this before a span may be left out: four times as long as the longest window of the policy
/// looks back, and long enough for the usual pace of everybody's beats to be known.
pub const BEATS_BEFORE: TimeDelta = TimeDelta::hours(1);
/// Facts that are read at once.
const PAGE: usize = 4096;

/// What a case says about itself: a JSON document at the beginning of its file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Which format the file has.
    pub format: u32,
    /// What it is called.
    pub name: String,
    /// What happened, in a person's words.
    pub about: String,
    /// The version of the program that made it.
    pub made_by: String,
    /// Decisions from this moment on are expected.
    pub since: DateTime<Utc>,
    /// And up to this one.
    pub until: DateTime<Utc>,
    /// Whose; everybody's where empty.
    pub workspaces: BTreeSet<WorkspaceId>,
    /// Facts in the file.
    pub facts: u64,
    /// Beats and calls from long before the span that are not in it; without them everything is decided the same.
    pub left_out: u64,
    /// The hash of the policy that was in force when the span ended.
    pub policy: Option<String>,
    /// The BLAKE3 digest of the facts before compression.
    pub digest: String,
    /// What is expected.
    pub expected: Expected,
}

/// What the facts of a case lead to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    /// Every decision of the span, in the log's order.
    pub decisions: Vec<Decision>,
    /// What became of those whom these were about, as of the end of the span.
    pub explained: Vec<Explained>,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The fact that it is about, or that it begins with.
    pub position: u64,
    /// When.
    pub at: DateTime<Utc>,
    /// `verdict`, `admission` or `brake`.
    pub kind: String,
    /// About whom; none where it is about a cell.
    pub workspace: Option<WorkspaceId>,
    /// What the facts say was decided.
    pub recorded: String,
    /// What the rules decide, put to the facts before it.
    pub decided: String,
}

/// The first line of an explanation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// Of whom.
    pub workspace: WorkspaceId,
    /// What that is called.
    pub name: String,
    /// In a sentence.
    pub line: String,
}

/// A case: what it says about itself, and its facts.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it says about itself.
    pub header: Header,
    /// The facts, in the log's order; with gaps where some were left out.
    pub facts: Vec<Arc<Recorded>>,
}

/// Why there is no case.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// Its span or its workspaces are not there.
    #[error(transparent)]
    Question(#[from] Failure),
    /// The log could not be read.
    #[error("read the log")]
    Read(#[from] ReadError),
    /// There are too many facts up to the end of the span.
    #[error("the case would have more than {FACTS_MAX} facts: name a span that ends earlier")]
    TooLong,
    /// The file is none, or a damaged one.
    #[error("this is no case: {0}")]
    NoCase(String),
    /// The file is of a newer format.
    #[error("the case has format {found}, this program knows {known}")]
    NewerFormat {
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// A fact of it can't be read or written.
    #[error("the fact at position {position}")]
    Fact {
        /// Which.
        position: u64,
        /// What is wrong with it.
        #[source]
        source: CodecError,
    },
    /// What can't be written.
    #[error("the case can't be written: {0}")]
    Write(String),
}

/// The span of a case.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Its first moment.
    pub since: DateTime<Utc>,
    /// Its last moment.
    pub until: DateTime<Utc>,
    /// Its last position.
    pub last: Position,
}

impl Span {
    /// The span between two moments of a log.
    pub async fn find(log: &dyn EventLog, since: Moment, until: Moment) -> Result<Self, CaseError> {
        let (last, until) = reading::resolve(log, until).await?;
        let (_, since) = reading::resolve(log, since).await?;
        if until < since {
            return Err(Failure::Backwards.into());
        }
        Ok(Self { since, until, last })
    }
}

/// The facts of a log up to the end of a span, each handed to `each` as well; and how many were left out. Without `all`,
/// beats and calls from long before the span are.
pub async fn collect(
    log: &dyn EventLog,
    span: Span,
    all: bool,
    mut each: impl FnMut(&Recorded) + Send,
) -> Result<(Vec<Arc<Recorded>>, u64), CaseError> {
    let (mut facts, mut left_out, mut next) = (Vec::new(), 0, Position(1));
    while next <= span.last {
        let page = log.read_all(next, PAGE).await?;
        let Some(last) = page.last() else { break };
        next = last.position.next();
        for event in page.into_iter().filter(|event| event.position <= span.last) {
            each(&event);
            if !all && event.meta.at < span.since - BEATS_BEFORE && is_routine(&event.fact) {
                left_out += 1;
                continue;
            }
            if facts.len() == FACTS_MAX {
                return Err(CaseError::TooLong);
            }
            facts.push(event);
        }
    }
    Ok((facts, left_out))
}

/// What is recorded all the time, and decides little.
fn is_routine(fact: &Fact) -> bool {
    use workspace::Event;
    matches!(
        fact,
        Fact::Workspace(Event::HeartbeatReceived(_) | Event::CallFinished(_) | Event::CallRecorded(_))
    )
}

/// What those whom decisions were about would be told, as of the last fact.
pub async fn explained(facts: &[Arc<Recorded>], decisions: &[Decision]) -> Result<Vec<Explained>, CaseError> {
    let (log, who) = (MemoryLog::holding(facts.iter().cloned()), who(facts));
    let mut affected: Vec<WorkspaceId> = Vec::new();
    for id in decisions.iter().filter_map(|decision| decision.workspace) {
        if affected.len() < EXPLAINED_MAX && !affected.contains(&id) {
            affected.push(id);
        }
    }
    let mut lines = Vec::new();
    for id in affected {
        let explanation = explain::workspace(&log, id, Moment::Position(log.head()), &who).await?;
        lines.push(Explained { workspace: id, name: explanation.name, line: explanation.summary });
    }
    Ok(lines)
}

/// Names and parents as the facts tell them.
pub fn who(facts: &[Arc<Recorded>]) -> Who {
    let mut who = Who::default();
    for event in facts {
        who.learn(event);
    }
    who
}

/// The hash of the policy that the last decision was made under, or that was set since.
pub fn policy_in_force(facts: &[Arc<Recorded>]) -> Option<String> {
    let named = |event: &Arc<Recorded>| match &event.fact {
        Fact::Fleet(fleet::Event::PolicyChanged(e)) => Some(e.hash.to_string()),
        Fact::Fleet(_) | Fact::Workspace(_) => event.meta.policy.map(|policy| policy.to_string()),
    };
    facts.iter().rev().find_map(named)
}

impl Case {
    /// Its facts as a log that can be asked like any other, though nothing is on a disk.
    pub fn log(&self) -> MemoryLog {
        MemoryLog::holding(self.facts.iter().cloned())
    }

    /// Names and parents as its facts tell them.
    pub fn who(&self) -> Who {
        who(&self.facts)
    }
}
