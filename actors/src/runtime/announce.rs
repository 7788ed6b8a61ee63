//! Tells an agent that it was restarted: the wire contract's restart context message.
//!
//! It is the platform's own word: it takes no permit, so that no caller is refused because of it, it is no call in
//! anybody's statistics, and how it ends is never evidence about the agent. It is sent until it is delivered once; a
//! crash of the platform between delivery and record sends it again under the same message id.

use std::time::{Duration, Instant};

use covalence_events::workspace::{CallOutcome, DeliveryMode, RestartAnnounced};
use covalence_events::{RestartId, WorkspaceId};

use super::Runtime;
use crate::context::Origin;
use crate::effect::{Notice, NoticeError};
use crate::workspace::{Command, State, restart_context};

/// How long an agent that was just heard from may refuse connections (the contract's wait).
const REACH_WITHIN: Duration = Duration::from_secs(30);
/// Between two tries (the contract's poll).
const TRY_EVERY: Duration = Duration::from_millis(500);

impl Runtime {
    /// Sends the message of this restart, and records how that ended.
    pub(super) async fn announce(self, workspace: WorkspaceId, restart: RestartId, origin: Origin) {
        let begun = Instant::now();
        loop {
            let Some(state) = self.peek(workspace).await.filter(|state| is_untold(state, restart)) else {
                return;
            };
            let Some(notice) = notice(&state) else {
                let error = NoticeError::NotDelivered("it takes no calls of the platform's own".to_owned());
                return self.announced(&state, restart, Err(error), &origin).await;
            };
            match self.shared.channel.tell(&notice).await {
                Err(NoticeError::NotDelivered(_)) if begun.elapsed() < REACH_WITHIN => {
                    tokio::time::sleep(TRY_EVERY).await;
                }
                told => return self.announced(&state, restart, told, &origin).await,
            }
        }
    }

    async fn announced(
        &self,
        state: &State,
        restart: RestartId,
        told: Result<(), NoticeError>,
        origin: &Origin,
    ) {
        let (outcome, error) = match told {
            Ok(()) => (CallOutcome::Answered, None),
            Err(error @ NoticeError::NotDelivered(_)) => (CallOutcome::NotDelivered, Some(error)),
            Err(error @ NoticeError::Unknown(_)) => (CallOutcome::Unknown, Some(error)),
        };
        let announced = RestartAnnounced {
            restart,
            generation: state.generation,
            outcome,
            error: error.map(|error| error.to_string()),
        };
        let _ = self.insist(state.id, Command::RecordRestartAnnounced(announced), origin).await;
    }
}

fn is_untold(state: &State, restart: RestartId) -> bool {
    state.untold.is_some_and(|untold| untold.restart == restart)
}

/// An agent that asks for its messages is not called, and an address that it states itself is not ours to trust.
fn notice(state: &State) -> Option<Notice> {
    let pushed = state.delivery_mode != Some(DeliveryMode::Poll);
    let url = state.url.clone().filter(|_| state.url_trusted && pushed)?;
    Some(Notice { url, request: restart_context::request(state)? })
}
