//! The fleet's supervisor: one actor that says which restarts may begin, and keeps the platform's own diary.
//!
//! ```text
//!                       ┌── deferred: hold, backoff, grace, brake, order, tokens, in flight ──┐
//!   asked for ──► judged┤            looked at again when that may have changed               ├──► judged …
//!                       ├── admitted ──► in flight ──► settled ──► proved (a token comes back)
//!                       └── suppressed: intensity (quarantine) ─ a try each quarantine_pause ─► asked for
//! ```
//!
//! Invariants
//! - Every admitted restart is settled exactly once; until then it holds one of the in-flight slots.
//! - A deferred restart is looked at again when what defers it may have changed: roots before what is below them, then in the
//!   order of the requests. Nothing is recorded while the same rule still defers it.
//! - Counts, tokens, brakes, holds and quarantines are folds of the log: a restart of the platform forgets none.
//! - Every decision carries all that it looked at, so that it can be made again.

pub mod command;
pub mod decide;
pub mod evolve;
pub mod react;
pub mod state;

pub use command::{Command, NewIncident, Survey};
pub(crate) use decide::loop_alarm;
pub use decide::{deadline, decide};
pub use evolve::evolve;
pub use react::{Effect, outstanding, react};
pub use state::State;

#[cfg(test)]
mod tests;
