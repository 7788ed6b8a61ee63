//! What is there: one row for each workspace that ever was, and the hierarchy between them.
//!
//! Rows are shared (`Arc`) and never change under a reader: a fact about a workspace makes a new row where somebody
//! still holds the old one. Order is the order of creation. Removed workspaces keep their row, so that a caller can be
//! told that they are gone, but no list shows them unasked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use covalence_events::{Position, WorkspaceId};
use serde::{Deserialize, Serialize};

mod fold;
pub mod hierarchy;
pub mod row;
pub mod standing;

pub use hierarchy::{Access, AccessRule, RootTalk};
pub use row::{Advice, Card, Failure, Instance, Restart, RestartStage, Row, Status};
pub use standing::{Condition, Standing};

/// Candidates named when a text fits several workspaces; a person can't compare more.
pub const CANDIDATES_MAX: usize = 10;

/// Whether removed workspaces are wanted too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Removed {
    /// As if they had never been.
    #[default]
    Hide,
    /// Shown, with status `removed`.
    Show,
}

/// A part of the list.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The rows, in order of creation.
    pub rows: Vec<Arc<Row>>,
    /// What to ask for `after` next; none at the end.
    pub next: Option<WorkspaceId>,
}

/// Why a text names no workspace.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FindError {
    /// Nothing has that name, id or prefix.
    #[error("no workspace is called `{0}`")]
    Unknown(String),
    /// More than one fits; at most [`CANDIDATES_MAX`] of them.
    #[error("`{text}` fits {} workspaces or more", candidates.len())]
    Ambiguous {
        /// What was asked.
        text: String,
        /// Some that fit.
        candidates: Vec<Arc<Row>>,
    },
}

/// How many workspaces have which status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts([usize; Status::ALL.len()]);

impl Counts {
    /// Those with this status.
    pub const fn of(&self, status: Status) -> usize {
        self.0[status as usize]
    }

    /// Those that are not removed.
    pub fn present(&self) -> usize {
        self.0.iter().sum::<usize>() - self.of(Status::Removed)
    }

    fn add(&mut self, status: Status) {
        self.0[status as usize] += 1;
    }

    fn subtract(&mut self, status: Status) {
        self.0[status as usize] -= 1;
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Roster {
    #[serde(serialize_with = "crate::state::sorted")]
    rows: HashMap<WorkspaceId, Arc<Row>>,
    order: BTreeMap<Position, WorkspaceId>,
    /// Under each parent, in order of creation; under none: the roots.
    #[serde(serialize_with = "crate::state::sorted")]
    children: HashMap<Option<WorkspaceId>, BTreeSet<(Position, WorkspaceId)>>,
    counts: Counts,
    /// Words that many rows share, kept once.
    words: BTreeSet<Arc<str>>,
}

impl Roster {
    /// A workspace's row, removed or not.
    pub fn get(&self, id: WorkspaceId) -> Option<Arc<Row>> {
        self.rows.get(&id).cloned()
    }

    /// All rows in order of creation.
    pub fn list(&self, removed: Removed) -> Vec<Arc<Row>> {
        self.order.values().filter_map(|id| self.shown(*id, removed)).cloned().collect()
    }

    /// At most `limit` rows in order of creation, after the workspace `after`. An unknown `after` starts at the
    /// beginning.
    pub fn page(&self, after: Option<WorkspaceId>, limit: usize, removed: Removed) -> Page {
        let start = after.and_then(|id| self.rows.get(&id)).map_or(Position(0), |row| row.created_position);
        let mut rest = self
            .order
            .range((Bound::Excluded(start), Bound::Unbounded))
            .filter_map(|(_, id)| self.shown(*id, removed));
        let rows: Vec<_> = rest.by_ref().take(limit).cloned().collect();
        let next = rest.next().and_then(|_| rows.last().map(|row| row.id));
        Page { rows, next }
    }

    /// How many have which status.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// The workspace that a person means: by id, by name, or by a prefix of either that fits no other one. An id finds
    /// removed ones too. Looks at every row: for people, not for hot paths.
    pub fn find(&self, text: &str) -> Result<Arc<Row>, FindError> {
        let text = text.trim();
        if let Some(row) = text.parse().ok().and_then(|id| self.get(id)) {
            return Ok(row);
        }
        let named = self.matching(|row| row.name == text);
        let found = if named.is_empty() && !text.is_empty() {
            let lower = text.to_lowercase();
            // Most texts can't begin an id, and writing out every id is what takes long.
            let like_an_id = lower.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
            self.matching(|row| {
                row.name.starts_with(text) || like_an_id && row.id.to_string().starts_with(&lower)
            })
        } else {
            named
        };
        match <[Arc<Row>; 1]>::try_from(found) {
            Ok([row]) => Ok(row),
            Err(none) if none.is_empty() => Err(FindError::Unknown(text.to_owned())),
            Err(candidates) => Err(FindError::Ambiguous { text: text.to_owned(), candidates }),
        }
    }

    fn matching(&self, fits: impl Fn(&Row) -> bool) -> Vec<Arc<Row>> {
        let present = self.order.values().filter_map(|id| self.shown(*id, Removed::Hide));
        present.filter(|row| fits(row)).take(CANDIDATES_MAX).cloned().collect()
    }

    fn shown(&self, id: WorkspaceId, removed: Removed) -> Option<&Arc<Row>> {
        self.rows.get(&id).filter(|row| removed == Removed::Show || row.status != Status::Removed)
    }
}
