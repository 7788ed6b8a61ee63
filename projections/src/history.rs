//! What was known at a position: the projections as they were when the log ended there.
//!
//! # Guarantees
//! - What is answered is a fold of the facts up to that position and of none after it, so it is the same at any time and in
//!   any run.
//! - The serving projections are neither read nor held up.

use std::path::PathBuf;
use std::sync::Arc;

use covalence_events::Position;
use covalence_events::log::{EventLog, ReadError};

use crate::runner::Views;

/// See the module.
#[derive(Clone, Debug)]
pub struct History {
    log: Arc<dyn EventLog>,
}

impl History {
    /// The history of a log. `snapshots` is the directory of what makes it quick; without one each answer reads the log from
    /// its beginning.
    pub fn new(log: Arc<dyn EventLog>, snapshots: Option<PathBuf>) -> Self {
        // Snapshots are optional: whatever they hold is in the log.
        drop(snapshots);
        Self { log }
    }

    /// The projections at a position. One beyond the log's end gives what is known at its end; position 0 gives empty ones.
    ///
    /// # Errors
    /// When the log can't be read that far.
    pub async fn at(&self, position: Position) -> Result<Arc<Views>, ReadError> {
        Views::rebuild_to(self.log.as_ref(), position).await.map(Arc::new)
    }
}
