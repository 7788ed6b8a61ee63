//! The feed of each workspace: which facts of the last thirty days are rows of it, in order. What a row says is read from its fact.
//!
//! A row's id is its fact's, so a cursor stays good across restarts and rebuilds, and rows come in the order of the log: a
//! reader that goes on after its last row skips none and sees none twice, whoever else writes.

use std::collections::BTreeSet;
use std::sync::Arc;

use covalence_events::retention::FEED_KEPT;
use covalence_events::workspace::{ActivityKind, BackendKind, DeliveryMode, Event};
use covalence_events::{EventId, Fact, Position, Principal, Recorded, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::newest::{Limits, Newest};
use crate::projection::{ApplyError, Projection};

/// Rows kept of one workspace: a week of a busy one.
pub const PER_WORKSPACE: usize = 5_000;
/// Rows kept of all together: at about 300 bytes each, 120 MB.
pub const ROWS_MAX: usize = 400_000;

/// What kind of row it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A call to its agent, or a message that waits for it.
    Received,
    /// Its agent said something to people; clients know it by its method.
    Notice,
    /// It handed on a task.
    Delegated,
    /// What came of a task that it handed on.
    Result,
    /// Its agent says that it did this.
    Reported(ActivityKind),
}

/// One row, but for its words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The fact's own id; the cursor.
    pub id: EventId,
    /// Its place in the log.
    pub position: Position,
    /// When.
    pub at: Timestamp,
    /// What kind.
    pub kind: Kind,
    /// Whether its workspace's agent fetched its messages then.
    pub polled: bool,
    /// Which workspace it came from; none: a person.
    pub source: Option<WorkspaceId>,
    /// Which one it went to.
    pub target: Option<WorkspaceId>,
}

impl Row {
    /// The wire's `activity_type`. Who fetches messages finds the results of its tasks among them (contract 5.2).
    pub const fn activity_type(&self) -> &'static str {
        match self.kind {
            Kind::Received | Kind::Notice => ActivityKind::A2aReceive.as_str(),
            Kind::Result if self.polled => ActivityKind::A2aReceive.as_str(),
            Kind::Delegated | Kind::Result => "delegation",
            Kind::Reported(kind) => kind.as_str(),
        }
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Activity {
    rows: Newest<Row>,
    /// Workspaces whose agents fetch their messages.
    polling: BTreeSet<WorkspaceId>,
    /// When the last fact happened, whatever it was: rows are old as of then.
    now: Timestamp,
}

impl Default for Activity {
    fn default() -> Self {
        let limits = Limits { per_workspace: PER_WORKSPACE, weight_max: ROWS_MAX };
        Self { rows: Newest::new(limits), polling: BTreeSet::new(), now: Timestamp::default() }
    }
}

/// Which rows are wanted. Empty: all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Of this `activity_type`.
    pub activity_type: Option<String>,
    /// From persons, or from agents.
    pub from_person: Option<bool>,
    /// From or to this workspace.
    pub peer: Option<WorkspaceId>,
    /// Not before this.
    pub since: Option<Timestamp>,
    /// Before this.
    pub before: Option<Timestamp>,
}

impl Wanted {
    fn matches(&self, row: &Row) -> bool {
        self.activity_type.as_deref().is_none_or(|wanted| wanted == row.activity_type())
            && self.from_person.is_none_or(|person| person == row.source.is_none())
            && self.peer.is_none_or(|peer| row.source == Some(peer) || row.target == Some(peer))
            && self.since.is_none_or(|since| row.at >= since)
            && self.before.is_none_or(|before| row.at < before)
    }
}

/// The row that a reader wants to go on after is not there: it never was, is another's, or is too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorLost;

impl Activity {
    /// The newest rows of a workspace that are wanted, newest first.
    pub fn newest(&self, workspace: WorkspaceId, wanted: &Wanted, limit: usize) -> Vec<Arc<Row>> {
        self.rows.iter_of(workspace).rev().filter(|row| wanted.matches(row)).take(limit).cloned().collect()
    }

    /// The rows after one, oldest first.
    pub fn after(
        &self,
        workspace: WorkspaceId,
        cursor: EventId,
        wanted: &Wanted,
        limit: usize,
    ) -> Result<Vec<Arc<Row>>, CursorLost> {
        // A cursor is nearly always one of the last rows.
        let mut later = 0;
        let mut newest_first = self.rows.iter_of(workspace).rev();
        loop {
            match newest_first.next() {
                Some(row) if row.id == cursor => break,
                Some(_) => later += 1,
                None => return Err(CursorLost),
            }
        }
        let all = self.rows.iter_of(workspace);
        let before = all.len() - later;
        Ok(all.skip(before).filter(|row| wanted.matches(row)).take(limit).cloned().collect())
    }

    /// One row of a workspace.
    pub fn find(&self, workspace: WorkspaceId, id: EventId) -> Option<Arc<Row>> {
        self.rows.iter_of(workspace).rev().find(|row| row.id == id).cloned()
    }

    /// Whether a workspace's agent fetches its messages.
    pub fn polls(&self, workspace: WorkspaceId) -> bool {
        self.polling.contains(&workspace)
    }

    /// Time goes on, and what is too old now is in no feed any more: its facts leave the log, and a fold of what is left must be the
    /// same as this one.
    fn pass(&mut self, at: Timestamp) {
        self.now = self.now.max(at);
        let since = self.now - FEED_KEPT;
        self.rows.drop_while(|row| row.at < since);
    }

    fn learn(&mut self, workspace: WorkspaceId, event: &Event) {
        let polls = match event {
            Event::Created(e) => {
                e.delivery_mode == Some(DeliveryMode::Poll)
                    || (e.backend == BackendKind::External && e.delivery_mode.is_none() && e.url.is_none())
            }
            Event::Registered(e) => e.delivery_mode == DeliveryMode::Poll,
            _ => return,
        };
        if polls {
            self.polling.insert(workspace);
        } else {
            self.polling.remove(&workspace);
        }
    }
}

/// The row that a fact is, if it is one.
fn row(workspace: WorkspaceId, event: &Event) -> Option<(Kind, Option<WorkspaceId>, Option<WorkspaceId>)> {
    let from = Principal::workspace;
    match event {
        Event::CallRecorded(e) => Some((Kind::Received, from(&e.caller), Some(workspace))),
        Event::MessageQueued(e) => Some((Kind::Received, from(&e.caller), Some(workspace))),
        Event::Notified(_) => Some((Kind::Notice, None, None)),
        Event::ActivityReported(e) => Some((Kind::Reported(e.kind), Some(workspace), e.target)),
        Event::DelegationRequested(e) => Some((Kind::Delegated, Some(workspace), Some(e.target))),
        // What came of it comes from the one who did it.
        Event::DelegationEnded(e) => Some((Kind::Result, Some(e.target), Some(workspace))),
        _ => None,
    }
}

impl Projection for Activity {
    const NAME: &'static str = "activity";
    const VERSION: u32 = 2;

    fn apply(&mut self, recorded: &Recorded) -> Result<(), ApplyError> {
        self.pass(recorded.meta.at);
        let (Fact::Workspace(event), Some(workspace)) = (&recorded.fact, recorded.subject()) else {
            return Ok(());
        };
        self.learn(workspace, event);
        if let Event::Erased(_) = event {
            self.rows.forget(workspace);
        }
        if let Some((kind, source, target)) = row(workspace, event) {
            let (id, position, at) = (recorded.meta.id, recorded.position, recorded.meta.at);
            let polled = self.polls(workspace);
            let row = Row { id, position, at, kind, polled, source, target };
            self.rows.push(position, workspace, 1, row);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use covalence_events::workspace::{HeartbeatReceived, Notified};
    use covalence_events::{BootId, CorrelationId, Meta, StreamId, Version};
    use uuid::Uuid;

    use super::*;

    const LEAD: WorkspaceId = WorkspaceId(Uuid::from_u128(1));

    fn fact(position: u64, days: i64, event: Event) -> Recorded {
        let id = Uuid::from_u128(u128::from(position));
        Recorded {
            position: Position(position),
            stream: StreamId::Workspace(LEAD),
            version: Version(position),
            meta: Meta {
                id: EventId(id),
                at: Timestamp::default() + TimeDelta::days(20_000 + days),
                boot: BootId(Uuid::nil()),
                mono_ns: 0,
                correlation: CorrelationId(Uuid::nil()),
                causation: None,
                principal: Principal::System,
                policy: None,
            },
            fact: Fact::Workspace(event),
        }
    }

    fn notice(position: u64, days: i64) -> Recorded {
        fact(position, days, Notified { message: "done".to_owned(), attachments: None }.into())
    }

    fn fold<'a>(facts: impl IntoIterator<Item = &'a Recorded>) -> Activity {
        let mut activity = Activity::default();
        facts.into_iter().for_each(|fact| activity.apply(fact).unwrap());
        activity
    }

    #[test]
    fn what_is_older_than_a_feed_goes_back_is_in_none_and_its_cursor_is_lost() {
        let all =
            [notice(1, 0), notice(2, 10), notice(3, 25), fact(4, 31, HeartbeatReceived::default().into())];
        let (early, now) = (fold(&all[..3]), fold(&all));
        let rows = |activity: &Activity| -> Vec<u64> {
            activity.newest(LEAD, &Wanted::default(), 10).iter().map(|row| row.position.0).collect()
        };
        assert_eq!((rows(&early), rows(&now)), (vec![3, 2, 1], vec![3, 2]));
        let cursor = all[0].meta.id;
        assert_eq!(early.after(LEAD, cursor, &Wanted::default(), 10).map(|rows| rows.len()), Ok(2));
        assert_eq!(now.after(LEAD, cursor, &Wanted::default(), 10), Err(CursorLost));
        assert_eq!(fold(&all[1..]), now, "the same where the fact is gone from the log");
    }
}
