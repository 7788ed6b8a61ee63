//! How the runtime tells its own actors something that must not be lost because a queue is full or the log takes no facts.
//!
//! What was done is kept by the task that did it until the log takes it. There are no more such tasks than facts that asked
//! for something: one lane a workspace, and while the log is shut no fact asks for more.

use std::time::Duration;

use covalence_events::WorkspaceId;
use tracing::warn;

use super::{CommandError, LOG_RETRY_AFTER, Receipt, Runtime};
use crate::context::Origin;
use crate::fleet;
use crate::workspace::Command;

/// A message to another actor is tried again after this, doubling up to the cap, until the platform goes down.
const RETRY_BASE: Duration = Duration::from_millis(50);
/// See [`RETRY_BASE`].
const RETRY_CAP: Duration = Duration::from_secs(5);

impl Runtime {
    /// Sends a command until it is taken, however long the log is shut for want of room. A decision of the domain and the
    /// platform's end stop it, and a log that only a restart opens again, which finds in the state what is outstanding.
    pub(super) async fn insist(
        &self,
        workspace: WorkspaceId,
        command: Command,
        origin: &Origin,
    ) -> Result<Receipt, CommandError> {
        loop {
            let answer = self.offer(workspace, command.clone(), origin).await;
            match &answer {
                Err(error) if error.passes_after().is_some() && !self.shared.stop.is_cancelled() => {
                    self.log_opens().await;
                }
                Err(
                    error @ (CommandError::LogUnavailable(_)
                    | CommandError::Unrecordable { .. }
                    | CommandError::Panicked { .. }),
                ) => {
                    warn!(%workspace, command = command.name(), %error, "an outcome was not recorded");
                    return answer;
                }
                Ok(_) | Err(_) => return answer,
            }
        }
    }

    /// Sends a command until there is room for it in the queues. For what would be stale once the log takes facts again, and comes
    /// by itself then.
    pub(super) async fn offer(
        &self,
        workspace: WorkspaceId,
        command: Command,
        origin: &Origin,
    ) -> Result<Receipt, CommandError> {
        let mut pause = RETRY_BASE;
        loop {
            match self.command(workspace, command.clone(), origin.clone()).await {
                Err(CommandError::Busy { .. }) => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_CAP);
                }
                other => return other,
            }
        }
    }

    /// [`Runtime::insist`] for the fleet's supervisor, in a task of its own.
    pub(super) fn insist_fleet(&self, command: fleet::Command, origin: Origin) {
        let runtime = self.clone();
        self.shared.spawn(async move {
            let mut pause = RETRY_BASE;
            while let Err(error) = runtime.fleet(command.clone(), origin.clone()).await
                && error.passes_after().is_some()
            {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_CAP);
            }
        });
    }

    /// Waits until the log takes facts again, or until nothing but a restart can make it.
    pub(super) async fn log_opens(&self) {
        loop {
            tokio::time::sleep(LOG_RETRY_AFTER).await;
            if self.shared.log.read_only().is_none_or(|read_only| !read_only.passes) {
                return;
            }
        }
    }
}
