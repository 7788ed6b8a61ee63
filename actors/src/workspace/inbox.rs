//! What was queued for an agent that fetches its messages, as far as decisions rest on it.

use std::collections::VecDeque;

use covalence_events::workspace::MessageQueued;
use covalence_events::{DelegationId, Principal, WorkspaceId};

/// Messages remembered, so that one that is sent again is known. A client that tries again does so within minutes.
const REMEMBERED_MAX: usize = 256;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inbox {
    digests: VecDeque<String>,
    tasks: VecDeque<(WorkspaceId, DelegationId)>,
}

impl Inbox {
    /// Whether a message with this digest is in it already.
    pub fn knows(&self, digest: &str) -> bool {
        self.digests.iter().any(|known| known == digest)
    }

    /// Delegated tasks among what was queued last, each with the workspace that waits for its outcome.
    pub fn tasks(&self) -> impl Iterator<Item = (WorkspaceId, DelegationId)> {
        self.tasks.iter().copied()
    }

    pub(super) fn queued(&mut self, message: &MessageQueued) {
        if let Some(digest) = &message.digest {
            remember(&mut self.digests, digest.clone());
        }
        if let (Some(delegation), Principal::Workspace(source)) = (message.delegation, &message.caller) {
            remember(&mut self.tasks, (*source, delegation));
        }
    }
}

fn remember<T>(kept: &mut VecDeque<T>, new: T) {
    if kept.len() == REMEMBERED_MAX {
        kept.pop_front();
    }
    kept.push_back(new);
}
