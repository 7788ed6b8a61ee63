//! The read side: one read model per question that someone asks.
//!
//! Each is a pure fold over the log, kept in memory, with a checkpoint that says how far it has read. Any of them can be
//! thrown away and folded again; two folds of the same facts are equal. Nothing here decides, and nothing here knows
//! the write side: the two meet in the log only.
//!
//! Read in this order: [`projection`], [`runner`], then the questions: [`roster`] (what is there), [`credentials`] (who
//! may speak for whom), [`structure`] (what a canvas is told), [`calls`] (how calls went), [`activity`] (what was said), [`delegations`] (tasks
//! that were handed on), [`secrets`] (which there are), [`supervision`] (what was decided, and
//! why), [`live`] (what is told as it happens), [`tail`] (the raw log), [`subscriptions`] (who follows it under a name),
//! [`history`] (all of them as they were), [`rebuild`] (all of them anew), and [`picture`] (all of
//! them as fields that can be compared).

pub mod activity;
pub mod calls;
pub mod credentials;
pub mod delegations;
pub mod history;
pub mod live;
pub mod metrics;
pub mod newest;
pub mod picture;
pub mod projection;
pub mod rebuild;
pub mod roster;
pub mod runner;
pub mod secrets;
mod state;
pub mod structure;
pub mod subscriptions;
pub mod supervision;
pub mod tail;
pub mod view;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use history::History;
pub use projection::{ApplyError, Projection};
pub use rebuild::Rebuilder;
pub use roster::{Roster, Row, Status};
pub use runner::{Behind, Views};
pub use subscriptions::Subscriptions;
pub use view::View;
