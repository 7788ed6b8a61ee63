//! A world in one thread, on its own time, in which the real decisions run: [`crate::workspace`], [`crate::fleet`] and
//! [`crate::watch`] against an engine, agents, a network, a log and people that are made up. One seed gives the same story
//! for ever.
//!
//! ```text
//!   world ── what happens next, and when ──► engine, agents, people ──► platform (killed and started again at will)
//!                                                                          │ decide ► ledger ► evolve ► react
//!                                                                          └──► dispatch, observing ──► engine …
//! ```
//!
//! What is made up here is what the ports of [`crate::effect`] stand for, and the runtime around the pure functions; every
//! judgement is the product's own. [`history`] tells what happened, [`invariants`] what must never happen, [`storm`] draws
//! faults at random and shortens what broke something.

use crate::policy::Policy;

mod chance;
mod deadlines;
mod dispatch;
mod engine;
mod fault;
pub mod history;
pub mod invariants;
mod ledger;
mod observing;
mod outside;
mod platform;
pub mod storm;
mod trace;
mod world;

pub use chance::Chance;
pub use fault::{Calls, Failure, Fault, Person, Whom};
pub use ledger::{Ledger, Refused};
pub use trace::{Note, What};
pub use world::World;

/// Milliseconds, since the world began or of a span.
pub type Millis = u64;

/// What a world begins with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How many workspaces are created at the beginning.
    pub workspaces: usize,
    /// Teams of so many: the first of each is the parent of the others. None is a flat fleet.
    pub teams: Option<usize>,
    /// The policy of the configuration.
    pub policy: Policy,
    /// The share of messages between actors that are carried twice.
    pub repeated: f64,
    /// Whoever looks takes an engine's error for the death of everything that it runs, and asks nobody again: what the policy
    /// is there to prevent.
    pub naive: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self { workspaces: 15, teams: None, policy: Policy::default(), repeated: 0.0, naive: false }
    }
}
