//! What happened between two moments: one line a fact, lanes for each workspace and for what holds all of them.
//!
//! Facts that repeat in a lane become one line with a count. Where nobody watched (the platform was down, an engine did not
//! answer, we stood still ourselves) there is a gap, so that silence is not taken for calm.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use covalence_events::log::{EventLog, ReadError};
use covalence_events::{EventId, Position, Recorded, StreamId, Timestamp, Version, WorkspaceId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::reading::{self, Failure, Moment};
use crate::who::Who;
use crate::words::Weight;

mod fold;
mod lane;
#[cfg(test)]
mod tests;

use fold::Fold;

/// Facts that one page looks at. At 1 000 workspaces that beat each 30 s that is about ten minutes, and takes a fraction of a
/// second to read.
pub const FACTS_MAX: usize = 20_000;

/// Lines of one page, where nobody says.
pub const LINES_DEFAULT: usize = 500;

/// Lines of one page at most.
pub const LINES_MAX: usize = 5_000;

/// How far before its end a span begins where nobody says.
pub const SINCE_DEFAULT: TimeDelta = TimeDelta::minutes(15);

/// Workspaces that a question may name.
pub const WORKSPACES_MAX: usize = 100;

/// Facts that are read at once.
const PAGE: usize = 2_000;

/// Facts of the fleet before the first moment that are looked at to know what held then.
const BEFORE: usize = 500;

/// Between two moments.
#[derive(Clone, Debug)]
pub struct Span {
    /// From here on: a position is inclusive. [`SINCE_DEFAULT`] before the end where nobody says.
    pub since: Option<Moment>,
    /// Up to here, inclusive.
    pub until: Moment,
    /// Go on after this position: the cursor of the page before.
    pub after: Option<Position>,
    /// Only about these, and about what holds everybody; all where empty. At most [`WORKSPACES_MAX`].
    pub workspaces: BTreeSet<WorkspaceId>,
    /// Lines that are wanted, at most [`LINES_MAX`].
    pub lines: usize,
}

/// A page of what happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Timeline {
    /// From here on.
    pub since: DateTime<Utc>,
    /// Up to here.
    pub until: DateTime<Utc>,
    /// Who and what has a line, in the order in which they are shown.
    pub lanes: Vec<Lane>,
    /// In the log's order.
    pub lines: Vec<Line>,
    /// Facts that were looked at.
    pub facts: u64,
    /// What to ask for as `after` to go on; none where this is the last page.
    pub next_after: Option<u64>,
}

impl Timeline {
    /// Appends the page after this one.
    pub fn go_on_with(&mut self, next: &Self) {
        let mut lanes: Vec<Lane> = self.lanes.iter().chain(&next.lanes).cloned().collect();
        lanes.sort();
        lanes.dedup();
        let place = |known: &[Lane], index: usize| {
            known.get(index).and_then(|lane| lanes.binary_search(lane).ok()).unwrap_or_default()
        };
        let mut lines = Vec::with_capacity(self.lines.len() + next.lines.len());
        for (known, page) in [(&self.lanes, &self.lines), (&next.lanes, &next.lines)] {
            lines.extend(page.iter().map(|line| Line {
                lane: place(known, line.lane),
                also: line.also.iter().map(|index| place(known, *index)).collect(),
                ..line.clone()
            }));
        }
        self.lines = lines;
        self.lanes = lanes;
        self.facts += next.facts;
        self.next_after = next.next_after;
    }
}

/// What a lane is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LaneKind {
    /// The platform's own starts, stops, and alarms.
    Platform,
    /// What people did.
    Operator,
    /// Whether an engine answers.
    Engine,
    /// How well we see.
    Observer,
    /// What holds a cell back.
    Brake,
    /// A cell's tokens, as decisions saw them.
    Tokens,
    /// One workspace.
    Workspace,
}

/// One lane.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct Lane {
    /// What it is about.
    pub kind: LaneKind,
    /// What it is called: `engine:docker`, `brake:process`, or the workspace's name.
    pub name: String,
    /// The workspace.
    #[schema(value_type = Option<String>, format = Uuid)]
    pub workspace: Option<WorkspaceId>,
}

/// One line: a fact, facts that repeat, or a gap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Line {
    /// When; of facts that repeat, the first.
    pub at: DateTime<Utc>,
    /// When the last of those that repeat was, or when a gap ended; none for a gap that is still open.
    pub to: Option<DateTime<Utc>>,
    /// Its place in the log; of those that repeat, the first's.
    pub position: u64,
    /// The id of the fact.
    #[schema(value_type = String, format = Uuid)]
    pub id: EventId,
    /// Which of the lanes.
    pub lane: usize,
    /// Other lanes that it is about.
    pub also: Vec<usize>,
    /// Its type's word, such as `verdict_reached`, or what kind of gap: `platform_down`, `engine_away`, `own_pause`.
    pub word: String,
    /// In words.
    pub text: String,
    /// How much it matters, and which way.
    pub weight: Weight,
    /// Until when it holds, or when it is looked at again.
    pub until: Option<DateTime<Utc>>,
    /// How many facts it stands for.
    pub count: u64,
    /// Whether it is a gap in what was observed.
    pub gap: bool,
}

/// What happened between two moments.
pub async fn between(log: &dyn EventLog, span: &Span, who: &Who) -> Result<Timeline, Failure> {
    let (until, end) = edge(log, span.until, Edge::Last).await?;
    let usual = || Moment::Time(until.checked_sub_signed(SINCE_DEFAULT).unwrap_or(until));
    let (since, begin) = edge(log, span.since.unwrap_or_else(usual), Edge::First).await?;
    if since > until {
        return Err(Failure::Backwards);
    }
    let start = span.after.map_or(begin, |after| after.next().max(begin));
    let mut fold = Fold::new(who, span.lines.clamp(1, LINES_MAX));
    let before = Position(start.0.saturating_sub(1));
    for event in log.read_back(StreamId::Fleet, before, BEFORE).await? {
        fold.before(&event);
    }
    let mut pages = Pages::new(log, &span.workspaces, start, end).await?;
    let mut facts = 0;
    let mut reached = None;
    while let Some(page) = pages.next(FACTS_MAX - facts).await? {
        for event in &page {
            if fold.is_full() {
                break;
            }
            if fold.begins_another_run(event) {
                // The fact before it in the log, whoever it is about: the span may leave most of them out.
                let last = log.read_all(Position(event.position.0.saturating_sub(1)), 1).await?;
                fold.another_run(last.first().unwrap_or(event), event);
            }
            if is_wanted(event, &span.workspaces) {
                fold.follow(event);
            }
            facts += 1;
            reached = Some(event.position);
        }
        if fold.is_full() || facts >= FACTS_MAX {
            break;
        }
    }
    let more = (fold.is_full() || facts >= FACTS_MAX).then_some(reached).flatten();
    let next_after = more.filter(|reached| *reached < end).map(|reached| reached.0);
    let (lanes, lines) = fold.finish();
    Ok(Timeline { since, until, lanes, lines, facts: facts as u64, next_after })
}

/// Whether a fact is about somebody who was asked about, or about everybody.
fn is_wanted(event: &Recorded, wanted: &BTreeSet<WorkspaceId>) -> bool {
    wanted.is_empty() || event.subject().is_none_or(|id| wanted.contains(&id))
}

#[derive(Clone, Copy)]
enum Edge {
    First,
    Last,
}

/// The time of a moment, and the first or last position that belongs to the span that it bounds.
async fn edge(log: &dyn EventLog, moment: Moment, edge: Edge) -> Result<(Timestamp, Position), Failure> {
    match (moment, edge) {
        (Moment::Position(position), Edge::First) if position > log.head() => {
            let (_, at) = reading::resolve(log, Moment::Position(log.head())).await?;
            Ok((at, position))
        }
        (Moment::Position(_) | Moment::Now(_), _) | (Moment::Time(_), Edge::Last) => {
            let (position, at) = reading::resolve(log, moment).await?;
            Ok((at, position))
        }
        // What was recorded at that very time belongs to it.
        (Moment::Time(at), Edge::First) => {
            let before = at.checked_sub_signed(TimeDelta::microseconds(1)).unwrap_or(at);
            Ok((at, log.position_at(before).await?.next()))
        }
    }
}

/// Facts of a span in the log's order, page by page: of everybody, or of a few streams that are merged.
struct Pages<'a> {
    log: &'a dyn EventLog,
    next: Position,
    end: Position,
    /// Where each stream goes on; empty where everybody is wanted.
    streams: BTreeMap<StreamId, Version>,
}

impl<'a> Pages<'a> {
    async fn new(
        log: &'a dyn EventLog,
        wanted: &BTreeSet<WorkspaceId>,
        start: Position,
        end: Position,
    ) -> Result<Self, ReadError> {
        let mut streams = BTreeMap::new();
        if !wanted.is_empty() {
            let before = Position(start.0.saturating_sub(1));
            let ours = wanted.iter().copied().map(StreamId::Workspace).chain([StreamId::Fleet]);
            for stream in ours {
                let last = log.read_back(stream, before, 1).await?;
                let version = last.first().map_or(Version(1), |event| event.version.next());
                streams.insert(stream, version);
            }
        }
        Ok(Self { log, next: Position(start.0.max(1)), end, streams })
    }

    /// The next facts, at most `limit` and [`PAGE`] of them; none where the span is over.
    async fn next(&mut self, limit: usize) -> Result<Option<Vec<Arc<Recorded>>>, ReadError> {
        if self.next > self.end || limit == 0 {
            return Ok(None);
        }
        let page = if self.streams.is_empty() {
            let mut page = self.log.read_all(self.next, limit.min(PAGE)).await?;
            page.retain(|event| event.position <= self.end);
            page
        } else {
            self.merged(limit.min(PAGE)).await?
        };
        match page.last() {
            Some(last) => self.next = last.position.next(),
            None => return Ok(None),
        }
        Ok(Some(page))
    }

    async fn merged(&mut self, limit: usize) -> Result<Vec<Arc<Recorded>>, ReadError> {
        let share = (limit / self.streams.len()).max(1);
        let mut horizon = self.end;
        let mut page = Vec::new();
        for (stream, from) in &self.streams {
            let facts = self.log.read(*stream, *from, share).await?;
            // Beyond the last one of a stream that has more, the others would come too early.
            if let Some(last) = facts.last().filter(|_| facts.len() == share) {
                horizon = horizon.min(last.position);
            }
            page.extend(facts);
        }
        page.retain(|event| event.position <= horizon);
        page.sort_by_key(|event| event.position);
        for event in &page {
            self.streams.insert(event.stream, event.version.next());
        }
        Ok(page)
    }
}
