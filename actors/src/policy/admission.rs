//! Whether a requested restart may begin, seen from the fleet.
//!
//! Three layers, each covering another's hole: *intensity* ends a crash loop, *backoff* spaces it out, the *in-flight
//! limit* keeps a mass death from becoming a mass start. A person's wish, a changed configuration and a poisoned session
//! pass the first two and obey the third (decision in `docs/supervision.md`).

use std::time::Duration;

use covalence_events::Timestamp;
use covalence_events::workspace::RestartCause;

use super::Policy;

/// The rule's name: too many restarts of this workspace in the window.
pub const INTENSITY: &str = "intensity";
/// The rule's name: too soon after the last restart of this workspace.
pub const BACKOFF: &str = "backoff";
/// The rule's name: too many restarts in flight.
pub const IN_FLIGHT: &str = "in_flight";

/// Everything that the judgement looks at.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Why the restart is asked for.
    pub cause: RestartCause,
    /// When it was asked for; delays run from here.
    pub requested_at: Timestamp,
    /// This moment.
    pub now: Timestamp,
    /// Restarts of this workspace for death or hanging within the intensity window.
    pub recent: u32,
    /// Such restarts in a row: without [`Policy::backoff_reset`] of health between them and now.
    pub in_a_row: u32,
    /// Restarts of the fleet in flight.
    pub in_flight: u32,
    /// How many may be.
    pub in_flight_max: u32,
    /// A number drawn for this decision, 0 to 1.
    pub chance: f64,
    /// Whether this one has sat out its backoff.
    pub waited: bool,
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Go ahead.
    Admitted,
    /// Not yet.
    Deferred {
        /// The rule's stable name.
        rule: &'static str,
        /// When to look again; none waits for a slot.
        until: Option<Timestamp>,
    },
    /// No.
    Suppressed {
        /// The rule's stable name.
        rule: &'static str,
    },
}

/// Whether restarts for this cause count towards, and are held by, the workspace's own limits.
pub const fn is_automatic(cause: RestartCause) -> bool {
    matches!(cause, RestartCause::Death | RestartCause::Hung)
}

/// Judges one request.
pub fn admit(policy: &Policy, request: &Request) -> Admission {
    if is_automatic(request.cause) {
        if request.recent >= policy.intensity_max {
            return Admission::Suppressed { rule: INTENSITY };
        }
        let until = request.requested_at + backoff(policy, request.in_a_row, request.chance);
        if !request.waited && until > request.now {
            return Admission::Deferred { rule: BACKOFF, until: Some(until) };
        }
    }
    if request.in_flight >= request.in_flight_max {
        return Admission::Deferred { rule: IN_FLIGHT, until: None };
    }
    Admission::Admitted
}

/// The delay before the restart that follows so many others: none, then base, doubling up to the cap, with jitter.
pub fn backoff(policy: &Policy, in_a_row: u32, chance: f64) -> Duration {
    let Some(doublings) = in_a_row.checked_sub(1) else {
        return Duration::ZERO;
    };
    let plain = policy.backoff_base.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX));
    let stretch = 1.0 + policy.backoff_jitter * (2.0 * chance - 1.0);
    plain.min(policy.backoff_cap).mul_f64(stretch.clamp(0.0, 2.0))
}

#[cfg(test)]
mod tests;
