//! Judgement: what evidence amounts to, and whether a restart may go ahead. Pure functions over numbers in one place.
//!
//! The numbers are those of `docs/supervision.md`. The verdict looks at one workspace, the admission at the fleet.

use std::time::Duration;

use covalence_events::PolicyHash;

pub mod admission;
pub mod verdict;

/// Every number of the supervision policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Without any sign of life for this long, a running workspace counts as hung (R12: more than five missed beats).
    pub liveness_ttl: Duration,
    /// An external workspace without a heartbeat for this long is shown offline (R52).
    pub external_stale: Duration,
    /// A provisioning without a sign of life for this long has failed.
    pub provision_timeout: Duration,
    /// From SIGTERM to SIGKILL.
    pub stop_grace: Duration,
    /// The delay before the second restart in a row; the first is immediate (as in Docker and OTP).
    pub backoff_base: Duration,
    /// The delay never exceeds this.
    pub backoff_cap: Duration,
    /// Each delay is stretched or shrunk by up to this share, so that many do not come at once.
    pub backoff_jitter: f64,
    /// Healthy for this long, and the backoff starts from the beginning.
    pub backoff_reset: Duration,
    /// So many restarts of one workspace within the window, and the next one is refused.
    pub intensity_max: u32,
    /// Longer than the capped delay times the number, so that the rule can fire.
    pub intensity_window: Duration,
    /// At least so many restarts may be in flight at once.
    pub in_flight_min: u32,
    /// And this share of the fleet, if that is more.
    pub in_flight_share: f64,
    /// An unknown answer that lasts this long raises an alarm (R10).
    pub unknown_alarm: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            liveness_ttl: Duration::from_secs(180),
            external_stale: Duration::from_secs(90),
            provision_timeout: Duration::from_secs(600),
            stop_grace: Duration::from_secs(10),
            backoff_base: Duration::from_secs(5),
            backoff_cap: Duration::from_secs(300),
            backoff_jitter: 0.2,
            backoff_reset: Duration::from_secs(600),
            intensity_max: 5,
            intensity_window: Duration::from_secs(600),
            in_flight_min: 2,
            in_flight_share: 0.1,
            unknown_alarm: Duration::from_secs(300),
        }
    }
}

impl Policy {
    /// Names exactly these numbers: FNV-1a over their text, stable across builds.
    pub fn hash(&self) -> PolicyHash {
        let text = format!("{self:?}");
        PolicyHash(text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }

    /// How many restarts may be in flight in a fleet of this size.
    pub fn in_flight_max(&self, fleet: usize) -> u32 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a fleet is far smaller than 2^32, and the share is not negative"
        )]
        let share = (fleet as f64 * self.in_flight_share) as u32;
        share.max(self.in_flight_min)
    }
}
