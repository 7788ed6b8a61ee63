//! The write side: what may happen, and who makes it happen.
//!
//! A [`workspace::Command`] reaches the mailbox of its workspace's actor. There it is *decided* (a pure function of state,
//! command and context), the resulting facts are *appended* to the log, the state *evolves*, the facts *react* into
//! effects (plain data), and *dispatch* carries those out through [`effect`]'s ports. What the outside answered comes
//! back as a command whose name starts with `Record`.
//!
//! [`workspace`], [`fleet`] and [`policy`] are pure: no clock, no dice, no I/O; time, ids and chance come in with the
//! [`context::Context`]. Only [`runtime`] knows actix and tokio. Nothing here knows HTTP or a container engine.

pub mod backtest;
pub mod context;
pub mod effect;
pub mod fleet;
pub mod policy;
mod roster;
pub mod runtime;
#[cfg(any(test, feature = "test-support"))]
pub mod scenario;
#[cfg(any(test, feature = "test-support"))]
pub mod simulation;
pub mod watch;
pub mod workspace;
