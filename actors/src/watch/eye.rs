//! What is known of an observer between its turns.

use std::time::Duration;

use covalence_events::Timestamp;

use super::TURN;
use crate::policy::Policy;

/// What an observer says of itself, for whoever has to decide before its next turn.
#[derive(Clone, Copy, Debug)]
pub struct Eye {
    /// How unwell it is, 0 to 8.
    pub score: u32,
    pub(super) since: Timestamp,
    pub(super) last_turn: Option<Timestamp>,
    pub(super) quiet_until: Option<Timestamp>,
}

impl Eye {
    /// Since when silence is the workspaces' own. A turn that is long overdue tells of a pause before the observer itself
    /// can: then nothing was listened to until now.
    pub fn since(&self, policy: &Policy, now: Timestamp) -> Timestamp {
        if stood_still(policy, self.last_turn, now) { now } else { self.since }
    }

    /// Whether we stand still or have just stood still, so that nothing may be concluded.
    pub fn is_quiet(&self, policy: &Policy, now: Timestamp) -> bool {
        stood_still(policy, self.last_turn, now) || self.quiet_until.is_some_and(|until| now < until)
    }
}

/// How much too late a turn is.
pub(super) fn lag(last_turn: Timestamp, now: Timestamp) -> Duration {
    (now - last_turn).to_std().unwrap_or_default().saturating_sub(TURN)
}

pub(super) fn stood_still(policy: &Policy, last_turn: Option<Timestamp>, now: Timestamp) -> bool {
    last_turn.is_some_and(|last| lag(last, now) > policy.pause_max)
}
