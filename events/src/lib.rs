//! The vocabulary of facts, and the log that keeps them.
//!
//! A *fact* is something that happened, in the past tense, never to be changed. Facts are ordered in *streams* (one per
//! workspace, one for the fleet's supervision) and all of them together in one global order. This crate knows what
//! can be said and how it is kept; it holds no commands, no rules, and no word of HTTP or of any container engine.
//!
//! Read in this order: [`id`], [`envelope`], [`workspace`], [`fleet`], [`flight`], [`codec`], [`seal`], [`keyring`], [`vault`],
//! [`log`].

pub mod codec;
pub mod envelope;
pub mod fleet;
pub mod flight;
#[cfg(any(test, feature = "test-support"))]
pub mod generate;
pub mod id;
pub mod keyring;
pub mod log;
pub mod metrics;
pub mod pulse;
pub mod retention;
pub mod seal;
pub mod vault;
pub mod workspace;

pub use envelope::{Fact, Meta, NewEvent, Principal, Recorded, StreamId, Timestamp};
pub use id::{
    AgentId, BootId, CallId, CorrelationId, DelegationId, EventId, Generation, HoldId, IncidentId,
    PolicyHash, Position, QueueId, RestartId, TokenId, Version, WorkspaceId,
};
