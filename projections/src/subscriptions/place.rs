//! How far a subscription is: what was delivered and is not settled, what is parked, and what comes next.
//!
//! A pure state machine: facts and moments come in, deliveries come out. What has to outlast the process is serialized; when
//! something is due again is not, since after a start everything that is open is due.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use covalence_events::{EventId, Position, WorkspaceId};
use serde::{Deserialize, Serialize};

/// Facts that are delivered and not settled; at so many nothing new is delivered. A consumer that never acknowledges gets no
/// further, and costs no more memory than this.
pub const WINDOW: usize = 1000;
/// Facts that are parked at most; while there are so many, what should be parked is tried again instead.
pub const PARKED_MAX: usize = 1000;
/// Deliveries without any word about them, after which a fact is parked: it may be what ends its consumer.
pub const DELIVERIES_MAX: u32 = 20;
/// The pause after the first refusal, doubling up to [`RETRY_CAP`].
pub const RETRY_BASE: Duration = Duration::from_secs(1);
/// The longest pause that doubling leads to.
pub const RETRY_CAP: Duration = Duration::from_secs(60);
/// Bytes of a reason that are kept.
pub const REASON_MAX: usize = 500;
/// Why a fact is parked that nobody ever said a word about.
pub const NEVER_SETTLED: &str = "delivered again and again, and never acknowledged or refused";
/// Why a fact is tried again that should be parked.
const PARKED_FULL: &str = "too many facts are parked";

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// What is looked at next; everything before it is settled, open, parked, or was not wanted.
    next: Position,
    /// The last fact that was looked at, by which the log is known to be the same one.
    #[serde(default)]
    last: Option<(Position, EventId)>,
    #[serde(default)]
    open: BTreeMap<Position, Open>,
    #[serde(default)]
    parked: BTreeMap<Position, Parked>,
}

/// A fact that is delivered and not settled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Open {
    workspace: Option<WorkspaceId>,
    deliveries: u32,
    nacks: u32,
    /// Why it was refused last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// It was parked before, and lies behind the checkpoint.
    #[serde(default)]
    replayed: bool,
    #[serde(skip)]
    state: State,
}

/// Where an open fact is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum State {
    /// Due.
    #[default]
    Due,
    /// Due from then on.
    Later(Instant),
    /// With the consumer, who has until then.
    Sent(Instant),
}

/// A fact that is put aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// The workspace that it is about.
    pub workspace: Option<WorkspaceId>,
    /// How often it was delivered.
    pub deliveries: u32,
    /// How often it was refused.
    pub nacks: u32,
    /// Why it was refused last.
    pub reason: String,
}

/// One delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Which fact.
    pub position: Position,
    /// How often it has been delivered, this time included.
    pub attempt: u32,
    /// Whether it was parked before.
    pub replayed: bool,
}

/// What becomes of a fact that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nack {
    /// Why.
    pub reason: String,
    /// When it is tried again; a pause that doubles with each refusal where nothing is said.
    pub retry_after: Option<Duration>,
    /// Whether it is parked at once.
    pub park: bool,
}

impl Place {
    /// Before a position.
    pub const fn before(next: Position) -> Self {
        Self { next, last: None, open: BTreeMap::new(), parked: BTreeMap::new() }
    }

    /// What is looked at next.
    pub const fn next(&self) -> Position {
        self.next
    }

    /// The last fact that was looked at.
    pub const fn last(&self) -> Option<(Position, EventId)> {
        self.last
    }

    /// Everything up to here is settled or parked.
    pub fn checkpoint(&self) -> Position {
        let first = self.open.iter().find(|(_, open)| !open.replayed);
        let next = first.map_or(self.next, |(position, _)| *position);
        Position(next.0.saturating_sub(1))
    }

    /// Facts that are delivered and not settled.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// What is parked, oldest first.
    pub const fn parked(&self) -> &BTreeMap<Position, Parked> {
        &self.parked
    }

    /// How many new facts may be delivered.
    pub fn room(&self) -> usize {
        WINDOW.saturating_sub(self.open.len())
    }

    /// A fact that is not wanted.
    pub const fn pass(&mut self, position: Position, id: EventId) {
        self.last = Some((position, id));
        self.next = position.next();
    }

    /// A wanted fact that is delivered for the first time.
    pub fn send(
        &mut self,
        (position, id): (Position, EventId),
        workspace: Option<WorkspaceId>,
        until: Instant,
    ) -> Delivery {
        self.pass(position, id);
        let state = State::Sent(until);
        let open = Open { workspace, deliveries: 1, nacks: 0, reason: None, replayed: false, state };
        self.open.insert(position, open);
        Delivery { position, attempt: 1, replayed: false }
    }

    /// Open facts that are due, at most so many, each delivered once more.
    pub fn send_again(&mut self, now: Instant, until: Instant, limit: usize) -> Vec<Delivery> {
        let due = |open: &Open| match open.state {
            State::Due => true,
            State::Later(at) | State::Sent(at) => at <= now,
        };
        let worn: Vec<Position> = self
            .open
            .iter()
            .filter(|(_, open)| due(open) && open.deliveries >= DELIVERIES_MAX)
            .map(|(position, _)| *position)
            .collect();
        for position in worn {
            self.park(position, NEVER_SETTLED, now);
        }
        let mut sent = Vec::new();
        for (position, open) in self.open.iter_mut().filter(|(_, open)| due(open)).take(limit) {
            open.deliveries = open.deliveries.saturating_add(1);
            open.state = State::Sent(until);
            sent.push(Delivery { position: *position, attempt: open.deliveries, replayed: open.replayed });
        }
        sent
    }

    /// When the next open fact is due, if one waits.
    pub fn next_due(&self) -> Option<Instant> {
        let at = |open: &Open| match open.state {
            State::Due => None,
            State::Later(at) | State::Sent(at) => Some(at),
        };
        self.open.values().filter_map(at).min()
    }

    /// These are settled; answers how many of them were open.
    pub fn ack(&mut self, positions: impl IntoIterator<Item = Position>) -> usize {
        positions.into_iter().filter(|position| self.open.remove(position).is_some()).count()
    }

    /// All that are open up to here.
    pub fn open_up_to(&self, through: Position) -> Vec<Position> {
        self.open.range(..=through).map(|(position, _)| *position).collect()
    }

    /// One is refused, and parked at so many refusals; answers whether it is parked now. One that is not open is left as it is.
    pub fn nack(&mut self, position: Position, nack: &Nack, nacks_max: u32, now: Instant) -> bool {
        let Some(open) = self.open.get_mut(&position) else { return false };
        open.nacks = open.nacks.saturating_add(1);
        open.reason = Some(cut(&nack.reason));
        if nack.park || open.nacks >= nacks_max {
            return self.park(position, &nack.reason, now);
        }
        let doubled = RETRY_BASE.saturating_mul(1_u32.checked_shl(open.nacks - 1).unwrap_or(u32::MAX));
        open.state = State::Later(now + nack.retry_after.unwrap_or_else(|| doubled.min(RETRY_CAP)));
        false
    }

    fn park(&mut self, position: Position, reason: &str, now: Instant) -> bool {
        if self.parked.len() >= PARKED_MAX && !self.parked.contains_key(&position) {
            if let Some(open) = self.open.get_mut(&position) {
                open.reason = Some(PARKED_FULL.to_owned());
                // Counted anew, or it would be due for parking, and only that, for ever.
                open.deliveries = open.deliveries.min(DELIVERIES_MAX - 1);
                open.state = State::Later(now + RETRY_CAP);
            }
            return false;
        }
        let Some(open) = self.open.remove(&position) else { return false };
        let Open { workspace, deliveries, nacks, .. } = open;
        self.parked.insert(position, Parked { workspace, deliveries, nacks, reason: cut(reason) });
        true
    }

    /// The consumer is another one: what the one before had is due.
    pub fn take_back(&mut self) {
        for open in self.open.values_mut().filter(|open| matches!(open.state, State::Sent(_))) {
            open.state = State::Due;
        }
    }

    /// Parked facts are due again, these or all; answers how many.
    pub fn replay(&mut self, positions: Option<&[Position]>) -> usize {
        let chosen = self.chosen(positions);
        for position in &chosen {
            if let Some(Parked { workspace, .. }) = self.parked.remove(position) {
                let state = State::Due;
                let open = Open { workspace, deliveries: 0, nacks: 0, reason: None, replayed: true, state };
                self.open.insert(*position, open);
            }
        }
        chosen.len()
    }

    /// Parked facts are given up, these or all; answers how many.
    pub fn give_up(&mut self, positions: Option<&[Position]>) -> usize {
        let chosen = self.chosen(positions);
        for position in &chosen {
            self.parked.remove(position);
        }
        chosen.len()
    }

    fn chosen(&self, positions: Option<&[Position]>) -> Vec<Position> {
        match positions {
            None => self.parked.keys().copied().collect(),
            Some(positions) => {
                let known = positions.iter().filter(|position| self.parked.contains_key(position));
                known.copied().collect::<std::collections::BTreeSet<_>>().into_iter().collect()
            }
        }
    }

    /// What consumers said about a workspace's facts is forgotten; answers whether there was anything.
    pub fn forget(&mut self, workspace: WorkspaceId) -> bool {
        let mut changed = false;
        for open in self.open.values_mut().filter(|open| open.workspace == Some(workspace)) {
            changed |= open.reason.take().is_some();
        }
        for parked in self.parked.values_mut().filter(|parked| parked.workspace == Some(workspace)) {
            changed |= parked.reason != covalence_events::seal::ERASED;
            covalence_events::seal::ERASED.clone_into(&mut parked.reason);
        }
        changed
    }
}

/// A text of at most [`REASON_MAX`] bytes.
fn cut(text: &str) -> String {
    let end = (0..=text.len().min(REASON_MAX)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests;
