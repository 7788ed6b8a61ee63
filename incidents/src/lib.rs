//! Questions about what happened and why, answered from the event log alone.
//!
//! [`explain`] follows one workspace, or one fact, from the evidence to the outcome, and says what held back what was not done.
//! [`timeline`] shows everybody between two moments. [`incident`] lists what brakes and people made one of, [`flight`] shows what observers saw before a brake, and [`report`]
//! looks into one of them, or into any span: what first caused it, whom it hit, what those have in common. A question reads a
//! bounded number of facts of the log (the constants of [`reading`], [`timeline`] and [`report`]), whatever the log's length,
//! and answers with plain data; everything after the read is a function of the facts, without clock or chance. Nothing is kept
//! between two questions, so this is no projection, and it works as well on a log whose server is down.

pub mod cause;
pub mod explain;
pub mod factors;
pub mod flight;
pub mod golden;
pub mod impact;
pub mod incident;
pub mod postmortem;
#[cfg(test)]
mod properties;
pub mod reading;
pub mod report;
mod scene;
#[cfg(test)]
mod testing;
pub mod timeline;
pub mod who;
pub mod words;

pub use reading::{Failure, Moment, Which};
pub use who::Who;
pub use words::Weight;
