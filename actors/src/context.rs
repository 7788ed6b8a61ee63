//! What a decision may know besides state and command: time, identity, chance, and the names for new facts.

use covalence_events::{
    BootId, CorrelationId, EventId, Meta, NewEvent, PolicyHash, Principal, RestartId, Timestamp,
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

    /// The facts in their envelopes.
    pub fn into_new_events(
        self,
        ctx: &Context<'_>,
        wrap: impl Fn(E) -> covalence_events::Fact,
    ) -> Vec<NewEvent> {
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
                fact: wrap(fact.event),
            })
            .collect()
    }
}
