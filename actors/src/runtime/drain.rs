//! Waits for the open calls of a workspace that is about to be replaced, and reports how that went.
//!
//! Permits live in memory, so after a crash of the platform nothing is open any more, and a drain that was under way ends
//! at once: the calls ended with the platform that carried them.

use covalence_events::{RestartId, WorkspaceId};
use tokio::time::timeout;
use tracing::debug;

use super::Runtime;
use crate::context::Origin;
use crate::workspace::Command;
use crate::workspace::command::Drained;

impl Runtime {
    /// Carries a drain out, beside whatever else is done for the workspace: a pause or a removal does not wait for it.
    pub(super) fn drain(&self, workspace: WorkspaceId, restart: RestartId, origin: Origin) {
        let runtime = self.clone();
        self.shared.spawn(async move {
            let open = runtime.wait_until_idle(workspace).await;
            let command = Command::RecordDrained(Drained { restart, open });
            if let Err(error) = runtime.insist(workspace, command, &origin).await {
                debug!(%workspace, %error, "a drain was overtaken");
            }
        });
    }

    /// Answers how many calls are still open when the time is up.
    async fn wait_until_idle(&self, workspace: WorkspaceId) -> u32 {
        let Some(entry) = self.shared.registry.get(workspace) else { return 0 };
        let limit = self.shared.sight.policy().0.drain_timeout;
        let idle = timeout(limit, entry.permits.when_idle()).await;
        if matches!(idle, Ok(Ok(()))) { 0 } else { entry.permits.open() }
    }
}
