//! Bounded reads of the log: how far a question looks, and how a moment or a fact is found without looking through everything.

use std::sync::Arc;

use covalence_events::log::{EventLog, ReadError};
use covalence_events::{EventId, IncidentId, Position, Recorded, StreamId, Timestamp, Version, WorkspaceId};

/// Facts of a workspace's own stream that one step back looks at: at a heartbeat each 30 s, eight hours. They lie scattered over
/// the log, and each may cost a read of the disk of its own: about 0.2 ms of a log that is not in memory.
pub const OWN_BACK: usize = 1000;

/// Steps back that are made until something that is worth explaining turns up. With three the answer takes less than a second
/// however cold the log is.
pub const OWN_STEPS_MAX: usize = 3;

/// Facts of the fleet's stream that a question looks back over.
pub const FLEET_BACK: usize = 2000;

/// Facts of a stream that a question about one fact looks ahead over.
pub const AHEAD: usize = 1000;

/// How far from the time in a fact's id the fact itself may lie, in milliseconds: an id is made when a command is decided,
/// and waits for the append before it.
const ID_SLACK_MS: i64 = 5000;

/// Facts that are looked at to find one whose id is not remembered any more.
const ID_SCAN_MAX: usize = 20_000;

/// Facts that are read at once.
const PAGE: usize = 2000;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The log has no such workspace.
    #[error("the log knows no workspace `{0}`")]
    NoWorkspace(WorkspaceId),
    /// The workspace did not exist yet.
    #[error("workspace `{0}` was created later than that")]
    NotYet(WorkspaceId),
    /// The log has no such fact.
    #[error("the log has no fact `{0}`")]
    NoFact(String),
    /// The log has no such incident.
    #[error("the log knows no incident `{0}`")]
    NoIncident(IncidentId),
    /// The incident has no such flight.
    #[error("{0}")]
    NoFlight(String),
    /// A span that ends before it begins.
    #[error("the span ends before it begins")]
    Backwards,
    /// The log could not be read.
    #[error("read the log")]
    Read(#[from] ReadError),
}

/// The moment that a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The log's head, looked at from this time.
    Now(Timestamp),
    /// As things stood at a time.
    Time(Timestamp),
    /// As things stood after a position.
    Position(Position),
}

/// Which fact a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// By its id.
    Id(EventId),
    /// By its place in the log.
    Position(Position),
}

/// What a question about one workspace looks at.
#[derive(Debug, Default)]
pub(crate) struct Slice {
    /// Its own facts and those of the fleet, in the log's order.
    pub(crate) facts: Vec<Arc<Recorded>>,
    /// Where looking back ended, if it did not reach the workspace's first fact.
    pub(crate) looked_back_to: Option<Timestamp>,
}

/// The last position of a moment, and its time.
///
/// # Errors
/// The log can't be read, or is empty and a position was named.
pub async fn resolve(log: &dyn EventLog, moment: Moment) -> Result<(Position, Timestamp), Failure> {
    match moment {
        Moment::Now(at) => Ok((log.head(), at)),
        Moment::Time(at) => Ok((log.position_at(at).await?, at)),
        Moment::Position(position) => {
            let position = position.min(log.head());
            let found = log.read_all(position, 1).await?;
            let at = found.first().map(|event| event.meta.at);
            Ok((position, at.ok_or_else(|| Failure::NoFact(position.to_string()))?))
        }
    }
}

/// The facts about a workspace up to a position; `enough` says whether they hold something that is worth explaining.
pub(crate) async fn back(
    log: &dyn EventLog,
    workspace: WorkspaceId,
    through: Position,
    enough: impl Fn(&Recorded) -> bool,
) -> Result<Slice, Failure> {
    let stream = StreamId::Workspace(workspace);
    let mut own: Vec<Arc<Recorded>> = Vec::new();
    for _ in 0..OWN_STEPS_MAX {
        let end = own.first().map_or(through, |first| Position(first.position.0.saturating_sub(1)));
        let mut older = log.read_back(stream, end, OWN_BACK).await?;
        let done = older.len() < OWN_BACK || older.iter().any(|event| enough(event));
        older.append(&mut own);
        own = older;
        if done {
            break;
        }
    }
    let looked_back_to = own.first().filter(|first| first.version > Version(1)).map(|first| first.meta.at);
    let fleet = log.read_back(StreamId::Fleet, through, FLEET_BACK).await?;
    Ok(Slice { facts: merged(own, fleet), looked_back_to })
}

/// The facts of a workspace, or of the fleet alone, around a fact.
pub(crate) async fn around(log: &dyn EventLog, fact: &Recorded) -> Result<Slice, Failure> {
    let stream = fact.subject().map(StreamId::Workspace);
    let own = match stream {
        Some(stream) => both_ways(log, stream, fact.position, OWN_BACK).await?,
        None => Vec::new(),
    };
    let fleet = both_ways(log, StreamId::Fleet, fact.position, FLEET_BACK).await?;
    let looked_back_to = own.first().filter(|first| first.version > Version(1)).map(|first| first.meta.at);
    Ok(Slice { facts: merged(own, fleet), looked_back_to })
}

async fn both_ways(
    log: &dyn EventLog,
    stream: StreamId,
    at: Position,
    limit: usize,
) -> Result<Vec<Arc<Recorded>>, Failure> {
    let mut facts = log.read_back(stream, at, limit).await?;
    let next = facts.last().map_or(Version(1), |last| last.version.next());
    facts.extend(log.read(stream, next, AHEAD).await?);
    Ok(facts)
}

fn merged(own: Vec<Arc<Recorded>>, fleet: Vec<Arc<Recorded>>) -> Vec<Arc<Recorded>> {
    let mut facts = own;
    facts.extend(fleet);
    facts.sort_by_key(|event| event.position);
    facts
}

/// A fact by its id or position.
pub(crate) async fn locate(log: &dyn EventLog, which: Which) -> Result<Arc<Recorded>, Failure> {
    match which {
        Which::Position(position) => {
            let found = log.read_all(position, 1).await?.into_iter().next();
            found
                .filter(|event| event.position == position)
                .ok_or_else(|| Failure::NoFact(position.to_string()))
        }
        Which::Id(id) => by_id(log, id).await?.ok_or_else(|| Failure::NoFact(id.to_string())),
    }
}

/// The log remembers recent ids only. An older one says by itself when it was made, and the fact is not far from there.
async fn by_id(log: &dyn EventLog, id: EventId) -> Result<Option<Arc<Recorded>>, Failure> {
    if let Some(position) = log.find(id).await? {
        return Ok(log.read_all(position, 1).await?.into_iter().next());
    }
    let Some(made) = made_at(id) else { return Ok(None) };
    let slack = chrono::TimeDelta::milliseconds(ID_SLACK_MS);
    let (Some(from), Some(until)) = (made.checked_sub_signed(slack), made.checked_add_signed(slack)) else {
        return Ok(None);
    };
    let mut next = log.position_at(from).await?.next();
    let end = log.position_at(until).await?;
    let mut left = ID_SCAN_MAX;
    while next <= end && left > 0 {
        let page = log.read_all(next, PAGE.min(left)).await?;
        let Some(last) = page.last() else { break };
        next = last.position.next();
        left = left.saturating_sub(page.len());
        if let Some(found) = page.iter().find(|event| event.meta.id == id) {
            return Ok(Some(Arc::clone(found)));
        }
    }
    Ok(None)
}

fn made_at(id: EventId) -> Option<Timestamp> {
    let (seconds, nanos) = id.0.get_timestamp()?.to_unix();
    Timestamp::from_timestamp(i64::try_from(seconds).ok()?, nanos)
}
