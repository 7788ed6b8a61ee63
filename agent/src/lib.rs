//! The workspace runtime: the program inside each workspace.
//!
//! An agent serves A2A (JSON-RPC, an agent card, a health check), registers with the platform, sends heartbeats,
//! and hands every message to one [`runtime::Runtime`]. It keeps no truth: it can be killed at any instruction and
//! started again, and the platform's log stays the only history.
//!
//! In reading order:
//!
//! - [`config`]: everything that can be set, from flags and the environment, validated once.
//! - [`agent`]: where the pieces meet; start, stop, drain.
//! - [`server`]: HTTP; which path means what, limits, one task a call.
//! - [`a2a`]: the wire shapes of A2A 0.3 and 1.0, pure.
//! - [`runtime`]: who answers: `echo`, or `command`, or a runtime of your own.
//! - [`activity`]: what runs and how calls ended lately, for the heartbeat.
//! - [`platform`]: the other direction: registration, heartbeats, the token file.
//!
//! A runtime of your own implements [`runtime::Runtime`] and is passed to [`agent::Agent::start_with`].

pub mod a2a;
pub mod activity;
pub mod agent;
pub mod cli;
pub mod config;
pub mod health;
pub mod platform;
pub mod runtime;
pub mod server;
mod text;
