//! Whose upload is read: so many at the same time, and so few of one workspace that it keeps nobody else from having a turn.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use covalence_events::WorkspaceId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Uploads that are read at the same time; each is in memory until it is in its workspace.
const ALL_MAX: usize = 8;
/// Of them, those of one workspace.
const OF_ONE_MAX: usize = 2;
/// How long an upload waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub struct Turns {
    all: Arc<Semaphore>,
    /// Only of workspaces that somebody uploads to.
    of_one: Mutex<HashMap<WorkspaceId, Arc<Semaphore>>>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(ALL_MAX)), of_one: Mutex::default() }
    }
}

/// Ends when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _of_all: OwnedSemaphorePermit,
    _of_one: OwnedSemaphorePermit,
}

impl Turns {
    /// Waits for a turn; `None` if none came in time.
    pub(super) async fn next(&self, workspace: WorkspaceId) -> Option<Turn> {
        let of_one = {
            let mut known = self.of_one.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|_, turns| turns.available_permits() < OF_ONE_MAX || Arc::strong_count(turns) > 1);
            let new = || Arc::new(Semaphore::new(OF_ONE_MAX));
            Arc::clone(known.entry(workspace).or_insert_with(new))
        };
        let turn = async {
            // Its own first: whoever waits for that holds nothing that others want.
            let of_one = of_one.acquire_owned().await.ok()?;
            let of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
            Some(Turn { _of_all: of_all, _of_one: of_one })
        };
        tokio::time::timeout(PATIENCE, turn).await.ok()?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_workspace_with_many_uploads_leaves_turns_to_the_others() {
        let (turns, busy, other) = (Turns::default(), WorkspaceId::generate(), WorkspaceId::generate());
        let held = [turns.next(busy).await.unwrap(), turns.next(busy).await.unwrap()];
        assert!(turns.next(busy).await.is_none(), "it has two");
        assert!(turns.next(other).await.is_some());
        drop(held);
        assert!(turns.next(busy).await.is_some());
        let mut all = Vec::new();
        for _ in 0..ALL_MAX {
            all.push(turns.next(WorkspaceId::generate()).await.unwrap());
        }
        assert!(turns.next(other).await.is_none(), "all are given");
        drop(all);
        assert!(turns.next(other).await.is_some());
        assert!(turns.of_one.lock().unwrap().len() <= 2, "nobody is remembered for ever");
    }
}
