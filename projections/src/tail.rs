//! The raw log for people and tools: filtered reads forwards and backwards, places by time, and facts as JSON.

use std::sync::Arc;
use std::time::Duration;

use chrono::SecondsFormat;
use covalence_events::log::{EventLog, ReadError, Subscription};
use covalence_events::{CorrelationId, Position, Recorded, Timestamp, WorkspaceId};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

/// Facts read from the log at once.
const CHUNK: usize = 512;
/// Facts looked at for one answer. A filter that fits little must not keep a request busy for minutes: the answer says
/// where to go on.
pub const SCAN_MAX: u64 = 100_000;
/// Facts in one answer at most.
pub const LIMIT_MAX: usize = 1_000;

/// Which facts are wanted. Empty: all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// A wire tag, or the beginning of one.
    pub tag: Option<String>,
    /// About this workspace, wherever it is said.
    pub workspace: Option<WorkspaceId>,
    /// Of this request or incident.
    pub correlation: Option<CorrelationId>,
    /// Not before this.
    pub since: Option<Timestamp>,
    /// Before this.
    pub until: Option<Timestamp>,
}

impl Filter {
    /// Whether a fact is wanted.
    pub fn matches(&self, recorded: &Recorded) -> bool {
        self.tag.as_deref().is_none_or(|tag| recorded.fact.tag().starts_with(tag))
            && self.workspace.is_none_or(|workspace| recorded.subject() == Some(workspace))
            && self.correlation.is_none_or(|correlation| recorded.meta.correlation == correlation)
            && self.since.is_none_or(|since| recorded.meta.at >= since)
            && self.until.is_none_or(|until| recorded.meta.at < until)
    }
}

/// What one read found.
#[derive(Clone, Debug)]
pub struct Page {
    /// The facts, oldest first.
    pub events: Vec<Arc<Recorded>>,
    /// What to ask for `after` next.
    pub next_after: Position,
    /// Whether the end of the log was reached.
    pub complete: bool,
}

/// The wanted facts after a position, oldest first: at most `limit` ([`LIMIT_MAX`]), out of at most [`SCAN_MAX`]. When a
/// page is not `complete`, its `next_after` goes on, also where it is empty.
pub async fn page(
    log: &dyn EventLog,
    filter: &Filter,
    after: Position,
    limit: usize,
) -> Result<Page, ReadError> {
    let limit = limit.clamp(1, LIMIT_MAX);
    let mut from = after.next();
    if let Some(since) = filter.since {
        from = from.max(position_at(log, since).await?);
    }
    let (first, mut events) = (from.0, Vec::new());
    loop {
        let chunk = log.read_all(from, CHUNK).await?;
        let Some(last) = chunk.last() else {
            return Ok(Page { events, next_after: Position(from.0.saturating_sub(1)), complete: true });
        };
        from = last.position.next();
        for recorded in chunk {
            if filter.matches(&recorded) {
                events.push(Arc::clone(&recorded));
                if events.len() == limit {
                    let complete = recorded.position >= log.head();
                    return Ok(Page { events, next_after: recorded.position, complete });
                }
            }
        }
        if from.0 - first >= SCAN_MAX {
            return Ok(Page { events, next_after: Position(from.0 - 1), complete: false });
        }
    }
}

/// The last wanted facts, oldest first: at most `limit` ([`LIMIT_MAX`]), out of the last [`SCAN_MAX`].
pub async fn last(
    log: &dyn EventLog,
    filter: &Filter,
    limit: usize,
) -> Result<Vec<Arc<Recorded>>, ReadError> {
    let limit = limit.clamp(1, LIMIT_MAX);
    let head = log.head();
    let floor = head.0.saturating_sub(SCAN_MAX);
    let mut newest_first = Vec::new();
    let mut end = head.0;
    while end > floor && newest_first.len() < limit {
        let start = end.saturating_sub(CHUNK as u64).max(floor) + 1;
        let chunk = log.read_all(Position(start), CHUNK).await?;
        let wanted =
            chunk.iter().rev().filter(|recorded| recorded.position.0 <= end && filter.matches(recorded));
        newest_first.extend(wanted.take(limit - newest_first.len()).cloned());
        end = start - 1;
    }
    newest_first.reverse();
    Ok(newest_first)
}

/// The first position whose fact is not older than a time; one past the head if all are. Halves the log, so it takes
/// about twenty reads for a million facts.
pub async fn position_at(log: &dyn EventLog, time: Timestamp) -> Result<Position, ReadError> {
    let (mut low, mut high) = (1, log.head().0 + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        match log.read_all(Position(middle), 1).await?.first() {
            // Positions may have gaps, so what was found may lie beyond the middle.
            Some(recorded) if recorded.meta.at < time => low = recorded.position.0 + 1,
            _ => high = middle,
        }
    }
    Ok(Position(low))
}

/// Follows the log from a position on, through a filter.
#[derive(Debug)]
pub struct Follow {
    subscription: Subscription,
    filter: Filter,
}

impl Follow {
    /// What is wanted of everything after a position, then of everything that comes.
    pub fn new(log: Arc<dyn EventLog>, filter: Filter, after: Position) -> Self {
        Self { subscription: Subscription::new(log, after.next()), filter }
    }

    /// The next wanted facts, never empty; waits until there are some. `None` once the log is closed and read. Safe to
    /// cancel: what was not returned comes again only if the call ended in the middle of a read.
    pub async fn next(&mut self) -> Result<Option<Vec<Arc<Recorded>>>, ReadError> {
        while let Some(mut batch) = self.subscription.next(CHUNK).await? {
            batch.retain(|recorded| self.filter.matches(recorded));
            if !batch.is_empty() {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }
}

/// Waits for the first fact at or after `from` that is as wished; `None` when it was not in time, or the log can't be
/// read.
pub async fn wait_for_event(
    log: Arc<dyn EventLog>,
    from: Position,
    timeout: Duration,
    mut wished: impl FnMut(&Recorded) -> bool,
) -> Option<Arc<Recorded>> {
    let deadline = Instant::now() + timeout;
    let mut subscription = Subscription::new(log, from);
    loop {
        let batch = timeout_at(deadline, subscription.next(CHUNK)).await.ok()?.ok()??;
        if let Some(found) = batch.into_iter().find(|recorded| wished(recorded)) {
            return Some(found);
        }
    }
}

/// A time as the raw log writes it: RFC 3339, UTC, microseconds.
pub fn time(at: Timestamp) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// A fact as JSON, one object, the same everywhere that the raw log is shown.
pub fn json(recorded: &Recorded) -> Value {
    json!({
        "position": recorded.position,
        "stream": recorded.stream.to_string(),
        "version": recorded.version,
        "id": recorded.meta.id,
        "type": recorded.fact.tag(),
        "at": time(recorded.meta.at),
        "boot": recorded.meta.boot,
        "mono_ns": recorded.meta.mono_ns,
        "correlation": recorded.meta.correlation,
        "causation": recorded.meta.causation,
        "principal": recorded.meta.principal.to_string(),
        "policy": recorded.meta.policy.map(|policy| policy.to_string()),
        "workspace": recorded.subject(),
        "data": recorded.fact.to_json(),
    })
}
