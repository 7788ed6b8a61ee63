//! One workspace: what it can be asked, what it can be, and what follows.
//!
//! ```text
//!            create                register / heartbeat            proof of death, or silence for the liveness window
//!   (none) ─────────► provisioning ─────────────────────► online ─────────────────────────────────────────► offline
//!                       │   ▲  ▲                          │   ▲                                                │
//!        start failed,  │   │  │ admitted restart         ▼   │ errors rise / fall        restart requested,   │
//!        out of time    │   │  └───────────────────┐    degraded                         admitted by the fleet │
//!                       ▼   │ restart              └───────────────────────────────────────────────────────────┘
//!                     failed┘
//!   any but removed ── pause ──► paused ── resume ──► provisioning        any ── remove ──► removed (for good)
//!   online, degraded ── hibernate ──► hibernating ── stopped ──► hibernated      hibernat{ing,ed} ── needed ──► provisioning
//!   any that runs ── shutdown of the platform with its workspaces ──► offline ── its next start, admitted ──► provisioning
//!   external: created as awaiting_agent (or online, with a URL); never provisioned, never restarted.
//! ```
//!
//! Invariants
//! - Only proof of death (the engine or the kernel says that this very instance is not there) or silence for the whole
//!   liveness window leads to a restart request; an error of the observer never does.
//! - A generation is requested once, and has one outcome. Evidence about an older generation changes nothing.
//! - A restart of what works is drained first: no new calls, and a bounded time for those under way.
//! - A hibernated workspace is not dead: only who needs it starts it, and never the supervisor.
//! - After `Removed` only clean-up facts follow. A paused workspace is not started by anything but a resume or a restart
//!   that a person asks for.

pub mod answer;
pub mod command;
pub mod decide;
pub mod delegations;
pub mod evolve;
pub mod inbox;
pub mod queue;
pub mod react;
pub mod rejection;
pub mod restart_context;
pub mod session;
pub mod state;

pub use command::Command;
pub use decide::decide;
pub use evolve::evolve;
pub use react::{Effect, outstanding, react};
pub use rejection::Rejection;
pub use state::{State, Status};

#[cfg(test)]
pub(crate) mod tests;
