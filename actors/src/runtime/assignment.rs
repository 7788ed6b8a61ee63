//! Brings what was assigned to one workspace to another one, and says what became of it.

use covalence_events::WorkspaceId;
use covalence_events::workspace::Assigned;

use super::{CommandError, Runtime};
use crate::context::Origin;
use crate::workspace::Command;

impl Runtime {
    /// Done until it is known what became of it: taking the same twice changes nothing.
    pub(super) async fn pass_agent(
        self,
        (from, to): (WorkspaceId, WorkspaceId),
        assigned: Assigned,
        origin: Origin,
    ) {
        let agent = assigned.agent;
        let taken = match self.insist(to, Command::TakeAgent { assigned, from }, &origin).await {
            Ok(_) => true,
            Err(CommandError::Rejected(_)) => false,
            // The next start asks again.
            Err(_) => return,
        };
        let _ = self.insist(from, Command::RecordAgentMoved { agent, taken }, &origin).await;
    }
}
