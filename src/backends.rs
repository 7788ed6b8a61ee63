//! Adapters for the port [`covalence_actors::effect::Backend`]: where workspaces run.
//!
//! An adapter decides nothing: it does what it is asked and answers *running*, *not there* or *unknown*.
//! [`config_files`], [`environment`] and [`redact`] are what they share, so that a workspace finds the same things
//! wherever it runs.

pub mod config_files;
pub mod docker;
pub mod environment;
pub mod external;
#[cfg(feature = "fault-hooks")]
pub mod naive;
pub mod process;
pub mod redact;
