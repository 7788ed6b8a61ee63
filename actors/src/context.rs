//! What a decision may know besides state and command: time, identity, chance, and the names for new facts.

use covalence_events::{
    BootId, CorrelationId, EventId, Fact, Meta, NewEvent, PolicyHash, Position, Principal, Recorded,
    RestartId, Timestamp,
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
        Self { principal, correlation: CorrelationId::generate(), causation: None }
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
    /// Since when this run of the platform has been listening. Silence before that is ours, not the workspace's.
    pub observing_since: Timestamp,
    /// How many workspaces the platform runs (the fleet's size, for limits that are a share of it).
    pub fleet_size: usize,
    /// Where ids for this decision's facts count from.
    pub ids: Uuid,
    /// A number drawn for this decision, 0 to 1 (jitter).
    pub chance: f64,
}

/// The low bits of [`Context::ids`] that count facts of one decision; the rest is time and chance.
const ID_BITS: u128 = 0xffff;

impl Context<'_> {
    /// Wall-clock time.
    pub fn at(&self) -> Timestamp {
        self.now.at
    }

    /// A name for a restart that this decision asks for.
    pub fn restart_id(&self) -> RestartId {
        RestartId(Uuid::from_u128(self.ids.as_u128() | ID_BITS))
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
