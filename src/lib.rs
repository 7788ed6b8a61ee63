//! Covalence: a control plane for teams of AI-agent workspaces that never restarts what is not dead.
//!
//! What happened is a fact in a log. What is known is a fold over the log. What is decided is a pure function of both.
//! What is done is an effect, and its result comes back as another fact.
//!
//! ```text
//!  callers ─► http, cli ─► mailbox ─► decide ─► append ─► evolve ─► react ─► dispatch ─► backends
//!                ▲                                │                             ▲            │
//!                └──────── projections ◄───── event log ◄──── evidence ─────────┴────────────┘
//! ```
//!
//! The crates around this one hold the core: `covalence-events` the facts and the log, `covalence-actors` the decisions and
//! the machinery that runs them, `covalence-projections` what can be asked. This one is the edge: it parses, checks
//! authority, adapts engines to ports, and wires everything up. No domain rule lives here.
//!
//! In reading order: [`app`] puts everything together; [`config`] and [`cli`] are how people talk to it, [`http`] how
//! programs do, [`moments`] what both show of the past, [`alarms`] how it calls people, [`conditions`] what it calls them for past the log; [`segments`] is where the log is exported
//! to, [`retention`] what leaves it, [`golden`] what an incident is kept as; [`backends`], [`runtimes`] and [`images`] are what workspaces run in and
//! on, [`templates`] what they and their teams are made from; [`channel`] is the platform's own word to an agent; [`data_dir`], [`clock`], [`telemetry`], [`metrics_names`] and
//! [`shutdown`] are what a process needs; [`demo`] is a team to look at.

pub mod alarms;
pub mod app;
pub mod backends;
pub mod channel;
pub mod cli;
pub mod clock;
pub mod conditions;
pub mod config;
pub mod data_dir;
pub mod demo;
pub mod golden;
pub mod http;
pub mod images;
pub mod metrics_names;
pub mod moments;
mod redaction;
pub mod retention;
pub mod runtimes;
pub mod segments;
pub mod shutdown;
pub mod telemetry;
pub mod templates;
