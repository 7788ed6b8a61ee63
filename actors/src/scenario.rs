//! Given these facts, when this is asked, then these facts follow: the harness for tests of pure decisions.
//!
//! Time stands still until a scenario moves it, ids count up, chance is ½. Effects of what follows are collected, so that a
//! test can look at them as plain data.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use covalence_events::workspace::{BackendKind, Event};
use covalence_events::{
    BootId, CorrelationId, EventId, Fact, Generation, Meta, Position, Principal, Recorded, StreamId,
    Timestamp, Version, WorkspaceId,
};
use uuid::Uuid;

use crate::context::{Context, Decision, ObserverView, Origin, Roster};
use crate::effect::Moment;
use crate::policy::Policy;
use crate::workspace::{self, Command, Effect, Rejection, State};

/// The workspace of every scenario.
pub const WORKSPACE: WorkspaceId = WorkspaceId(Uuid::from_u128(0x00c0_ffee));

/// A roster that says what a test wants.
#[derive(Clone, Debug, Default)]
pub struct Everybody {
    /// How many should be running, by cell.
    pub sizes: BTreeMap<BackendKind, u32>,
    /// The cell of those that are not in the first one.
    pub cells: BTreeMap<WorkspaceId, BackendKind>,
    /// Parents.
    pub parents: BTreeMap<WorkspaceId, WorkspaceId>,
    /// Who is paused.
    pub paused: BTreeSet<WorkspaceId>,
    /// Who was created, in order.
    pub created: Vec<WorkspaceId>,
}

impl Everybody {
    /// So many in one cell.
    pub fn of(cell: BackendKind, size: u32) -> Self {
        Self { sizes: BTreeMap::from([(cell, size)]), ..Self::default() }
    }
}

impl Roster for Everybody {
    fn cell(&self, workspace: WorkspaceId) -> Option<BackendKind> {
        self.cells.get(&workspace).or_else(|| self.sizes.keys().next()).copied()
    }

    fn size(&self, cell: BackendKind) -> u32 {
        self.sizes.get(&cell).copied().unwrap_or(0)
    }

    fn parent(&self, workspace: WorkspaceId) -> Option<WorkspaceId> {
        self.parents.get(&workspace).copied()
    }

    fn is_paused(&self, workspace: WorkspaceId) -> bool {
        self.paused.contains(&workspace)
    }

    fn team(&self, parent: WorkspaceId) -> Vec<WorkspaceId> {
        let below = |id: &&WorkspaceId| self.parents.get(*id) == Some(&parent);
        self.created.iter().filter(below).copied().collect()
    }
}

/// One workspace's story so far.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What is known of it.
    pub state: Option<State>,
    /// The policy in force.
    pub policy: Policy,
    now: Timestamp,
    /// How well its observer sees.
    pub observer: ObserverView,
    /// Everybody else.
    pub everybody: Everybody,
    /// Whether an emergency stop is on.
    pub stopped: bool,
    version: Version,
    decisions: u128,
    /// Everything that happened, in order.
    pub story: Vec<Recorded>,
    /// Effects of the last decision.
    pub effects: Vec<Effect>,
}

impl Default for Scenario {
    fn default() -> Self {
        Self::new()
    }
}

impl Scenario {
    /// Nothing has happened.
    pub fn new() -> Self {
        let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default();
        Self {
            state: None,
            policy: Policy::default(),
            now: start,
            observer: ObserverView::well(start),
            everybody: Everybody::of(BackendKind::Process, 1),
            stopped: false,
            version: Version(0),
            decisions: 0,
            story: Vec::new(),
            effects: Vec::new(),
        }
    }

    /// These facts happened, whatever led to them.
    #[must_use]
    pub fn given(mut self, events: impl IntoIterator<Item = Event>) -> Self {
        for event in events {
            let id = EventId(Uuid::from_u128(0xfeed_0000 + u128::from(self.version.0)));
            self.happen(id, None, event);
        }
        self
    }

    /// Time goes by.
    #[must_use]
    pub fn after(mut self, time: Duration) -> Self {
        self.now += TimeDelta::from_std(time).unwrap_or_default();
        self
    }

    /// Decides a command, and lets what follows happen.
    pub fn when(&mut self, command: &Command) -> Result<Vec<Event>, Rejection> {
        self.decisions += 1;
        let origin = Origin {
            principal: Principal::System,
            correlation: CorrelationId(Uuid::from_u128(1)),
            causation: None,
        };
        let policy = self.policy.clone();
        let cx = Context {
            now: Moment { at: self.now, mono_ns: 0 },
            boot: BootId(Uuid::from_u128(2)),
            origin: &origin,
            policy: &policy,
            policy_hash: policy.hash(),
            observer: self.observer,
            stopped: self.stopped,
            roster: &self.everybody,
            ids: Uuid::from_u128(self.decisions << 32),
            chance: 0.5,
        };
        let facts: Decision<Event> = workspace::decide(self.state.as_ref(), command, &cx)?;
        self.effects.clear();
        let events: Vec<Event> = facts.facts().iter().map(|fact| fact.event.clone()).collect();
        for fact in facts.facts() {
            let (id, cause) = (fact.id, fact.cause);
            self.happen(id, cause, fact.event.clone());
            if let Some(state) = &self.state {
                self.effects.extend(workspace::react(id, &fact.event, state));
            }
        }
        Ok(events)
    }

    /// Decides a command and answers the tags of what follows, for tests that care for nothing else.
    pub fn tags_when(&mut self, command: &Command) -> Vec<&'static str> {
        self.when(command)
            .map_or_else(|rejection| vec![rejection.code()], |events| events.iter().map(Event::tag).collect())
    }

    /// The state; a scenario that never created its workspace has none, and its test is wrong.
    #[expect(clippy::expect_used, reason = "a harness for tests: a missing state is the test's mistake")]
    pub fn state(&self) -> &State {
        self.state.as_ref().expect("the scenario created its workspace")
    }

    /// The current generation.
    pub fn generation(&self) -> Generation {
        self.state().generation
    }

    #[expect(clippy::expect_used, reason = "a harness for tests: an impossible story is the test's mistake")]
    fn happen(&mut self, id: EventId, causation: Option<EventId>, event: Event) {
        self.version = self.version.next();
        let recorded = Recorded {
            position: Position(self.version.0),
            stream: StreamId::Workspace(WORKSPACE),
            version: self.version,
            meta: Meta {
                id,
                at: self.now,
                boot: BootId(Uuid::from_u128(2)),
                mono_ns: 0,
                correlation: CorrelationId(Uuid::from_u128(1)),
                causation,
                principal: Principal::System,
                policy: None,
            },
            fact: Fact::Workspace(event),
        };
        let next = workspace::evolve(self.state.take(), &recorded).expect("a fact that can follow");
        self.state = Some(next);
        self.story.push(recorded);
    }
}
