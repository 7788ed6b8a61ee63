//! What a decision may know besides state and command: time, identity, chance, and the names for new facts.

use std::fmt;

use chrono::TimeDelta;
use covalence_events::workspace::BackendKind;
use covalence_events::{
    BootId, CorrelationId, EventId, Fact, HoldId, Meta, NewEvent, PolicyHash, Position, Principal, Recorded,
    RestartId, Timestamp, WorkspaceId,
};
use uuid::Uuid;

use crate::effect::Moment;
use crate::policy::Policy;

/// Who asked for something, and what it belongs to.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Who.
    pub principal: Principal,
    /// One request, or one incident.
    pub correlation: CorrelationId,
    /// The fact that led to this, if one did.
    pub causation: Option<EventId>,
}

impl Origin {
    /// Something that begins here.
    pub fn new(principal: Principal) -> Self {
        Self::part_of(CorrelationId::generate(), principal)
    }

    /// Something that belongs to a request or an incident that has a name.
    pub const fn part_of(correlation: CorrelationId, principal: Principal) -> Self {
        Self { principal, correlation, causation: None }
    }

    /// Something that the platform does because of a fact.
    pub fn caused_by(correlation: CorrelationId, cause: EventId) -> Self {
        Self { principal: Principal::System, correlation, causation: Some(cause) }
    }
}

/// A fact that can't follow what is known: a damaged log, or a bug. Stops the one actor whose stream it is, loudly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{tag}` at position {position} can't be folded: {reason}")]
pub struct Corrupt {
    /// The fact's tag.
    pub tag: &'static str,
    /// Its place.
    pub position: Position,
    /// Why.
    pub reason: &'static str,
}

impl Corrupt {
    /// This fact can't follow, for this reason.
    pub fn new(recorded: &Recorded, reason: &'static str) -> Self {
        Self { tag: recorded.fact.tag(), position: recorded.position, reason }
    }
}

/// How well a cell is seen at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObserverView {
    /// Since when somebody has been listening: our own start, the end of a pause of ours, or the release of a brake.
    /// Silence before that is ours, not the workspace's.
    pub since: Timestamp,
    /// 0 (well) to 8.
    pub score: u32,
    /// We have just stood still: nothing is concluded for now.
    pub quiet: bool,
    /// Whether the grace after our own start is on.
    pub in_grace: bool,
    /// Whether a brake is engaged.
    pub braked: bool,
}

impl ObserverView {
    /// A well observer that has been listening since then.
    pub const fn well(since: Timestamp) -> Self {
        Self { since, score: 0, quiet: false, in_grace: false, braked: false }
    }
}

/// Everybody, as far as decisions about one may know of the others. Answers may be a moment old.
pub trait Roster: fmt::Debug {
    /// What runs it; none for one that is not known.
    fn cell(&self, workspace: WorkspaceId) -> Option<BackendKind>;
    /// How many workspaces of this cell should be running.
    fn size(&self, cell: BackendKind) -> u32;
    /// Its place in the hierarchy.
    fn parent(&self, workspace: WorkspaceId) -> Option<WorkspaceId>;
    /// Whether a person paused it.
    fn is_paused(&self, workspace: WorkspaceId) -> bool;
    /// The workspaces right below this one that should be running, in the order in which they were created.
    fn team(&self, parent: WorkspaceId) -> Vec<WorkspaceId>;
}

/// Deeper hierarchies are cut here: a loop in a damaged one must not hang a decision.
const DEPTH_MAX: usize = 64;

/// The ancestors of a workspace, nearest first.
pub fn ancestors(roster: &dyn Roster, workspace: WorkspaceId) -> impl Iterator<Item = WorkspaceId> + '_ {
    std::iter::successors(roster.parent(workspace), |id| roster.parent(*id)).take(DEPTH_MAX)
}

/// The surroundings of one decision. The same context always leads to the same facts with the same ids.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    /// When.
    pub now: Moment,
    /// Which run of the platform.
    pub boot: BootId,
    /// Who and why.
    pub origin: &'a Origin,
    /// The supervision policy in force.
    pub policy: &'a Policy,
    /// Its name, worked out once.
    pub policy_hash: PolicyHash,
    /// How well those see who watch the cell that this is about.
    pub observer: ObserverView,
    /// Whether an emergency stop is on: then nothing of ours is started.
    pub stopped: bool,
    /// Everybody, as far as decisions about one may know of the others.
    pub roster: &'a dyn Roster,
    /// Where ids for this decision's facts count from.
    pub ids: Uuid,
    /// A number drawn for this decision, 0 to 1 (jitter).
    pub chance: f64,
}

/// The low bits of [`Context::ids`] that count facts of one decision; the rest is time and chance.
const ID_BITS: u128 = 0xffff;

/// What the facts of one decision have in common: their ids but for the bits that count.
pub(crate) fn decision_of(fact: EventId) -> u128 {
    fact.0.as_u128() & !ID_BITS
}

impl Context<'_> {
    /// Wall-clock time.
    pub fn at(&self) -> Timestamp {
        self.now.at
    }

    /// A name for a restart that this decision asks for.
    pub fn restart_id(&self) -> RestartId {
        RestartId(Uuid::from_u128(self.ids.as_u128() | ID_BITS))
    }

    /// A name for a hold that this decision sets.
    pub fn hold_id(&self) -> HoldId {
        HoldId(Uuid::from_u128(self.ids.as_u128() | ID_BITS))
    }

    fn event_id(&self, index: usize) -> EventId {
        EventId(Uuid::from_u128((self.ids.as_u128() & !ID_BITS) + index as u128))
    }
}

/// The facts that a command leads to, in order, each with what caused it. Empty means "already so".
#[derive(Clone, Debug, PartialEq)]
pub struct Decision<E> {
    facts: Vec<Decided<E>>,
}

/// One fact of a decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided<E> {
    /// Its name.
    pub id: EventId,
    /// The fact that led to it.
    pub cause: Option<EventId>,
    /// What happened.
    pub event: E,
}

impl<E> Default for Decision<E> {
    fn default() -> Self {
        Self { facts: Vec::new() }
    }
}

impl<E> Decision<E> {
    /// Adds a fact caused by whatever caused the command; answers its name.
    pub fn push(&mut self, ctx: &Context<'_>, event: impl Into<E>) -> EventId {
        self.push_because(ctx, ctx.origin.causation, event)
    }

    /// Adds a fact caused by another one; answers its name.
    pub fn push_because(
        &mut self,
        ctx: &Context<'_>,
        cause: Option<EventId>,
        event: impl Into<E>,
    ) -> EventId {
        let id = ctx.event_id(self.facts.len());
        self.facts.push(Decided { id, cause, event: event.into() });
        id
    }

    /// The name that the next fact will have.
    pub fn next_id(&self, ctx: &Context<'_>) -> EventId {
        ctx.event_id(self.facts.len())
    }

    /// The facts.
    pub fn facts(&self) -> &[Decided<E>] {
        &self.facts
    }

    /// Whether nothing has to happen.
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// The same facts, said otherwise.
    #[must_use]
    pub fn map<F>(self, wrap: impl Fn(E) -> F) -> Decision<F> {
        let facts = self.facts.into_iter();
        Decision {
            facts: facts.map(|f| Decided { id: f.id, cause: f.cause, event: wrap(f.event) }).collect(),
        }
    }

    /// The facts in their envelopes.
    pub fn into_new_events(self, ctx: &Context<'_>) -> Vec<NewEvent>
    where
        E: Into<Fact>,
    {
        self.facts
            .into_iter()
            .map(|fact| NewEvent {
                meta: Meta {
                    id: fact.id,
                    at: ctx.now.at,
                    boot: ctx.boot,
                    mono_ns: ctx.now.mono_ns,
                    correlation: ctx.origin.correlation,
                    causation: fact.cause,
                    principal: ctx.origin.principal.clone(),
                    policy: Some(ctx.policy_hash),
                },
                fact: fact.event.into(),
            })
            .collect()
    }
}

/// A span as the facts write it; none is negative.
pub(crate) fn millis(span: TimeDelta) -> u64 {
    u64::try_from(span.num_milliseconds()).unwrap_or(0)
}
