//! Whether a requested restart may begin, seen from the fleet.
//!
//! Layers, each covering another's hole: *intensity* ends a crash loop, *backoff* spaces it out, the *brake* stops what looks
//! like our own mistake, *tokens* pace what is real, the *in-flight limit* keeps a mass death from becoming a mass start.
//! A person's wish passes over all but holds, paused ancestors and the in-flight limit; a changed configuration and a poisoned session
//! obey what concerns the fleet, and never count towards a workspace's own limits (decision 17).
//!
//! The judgement looks at nothing but the policy, the cause and [`AdmissionInputs`], which every decision carries: it can be
//! made again, under this policy or another one.

use std::time::Duration;

use covalence_events::Timestamp;
use covalence_events::fleet::AdmissionInputs;
use covalence_events::workspace::RestartCause;

use super::{Policy, bucket};

/// The rule's name: too many restarts of this workspace in the window.
pub const INTENSITY: &str = "intensity";
/// The rule's name: too soon after the last restart of this workspace.
pub const BACKOFF: &str = "backoff";
/// The rule's name: too many restarts in flight.
pub const IN_FLIGHT: &str = "in_flight";
/// The rule's name: a brake is engaged.
pub const BRAKE: &str = "brake";
/// The rule's name: not enough tokens.
pub const TOKENS: &str = "tokens";
/// The rule's name: a person holds it.
pub const HOLD: &str = "hold";
/// The rule's name: a person stopped everything.
pub const EMERGENCY_STOP: &str = "emergency_stop";
/// The rule's name: an ancestor's turn comes first.
pub const ORDER: &str = "order";
/// The rule's name: an ancestor is paused.
pub const ANCESTOR_PAUSED: &str = "ancestor_paused";
/// The rule's name: we have just started.
pub const GRACE: &str = "grace";
/// The rule's name: decisions about it are only recorded.
pub const ADVISE_ONLY: &str = "advise_only";

/// Every rule, for metrics and for people.
pub const RULES: &[&str] = &[
    EMERGENCY_STOP,
    HOLD,
    ANCESTOR_PAUSED,
    ADVISE_ONLY,
    INTENSITY,
    BACKOFF,
    GRACE,
    BRAKE,
    ORDER,
    TOKENS,
    IN_FLIGHT,
];

/// The rule of this name, if what it holds back waits for a person and not only for a while.
pub fn waits_for_a_person(rule: &str) -> Option<&'static str> {
    [EMERGENCY_STOP, HOLD, ANCESTOR_PAUSED, ADVISE_ONLY, INTENSITY].into_iter().find(|known| *known == rule)
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub enum Admission {
    /// Go ahead.
    Admitted {
        /// Tokens that it costs.
        cost: f64,
        /// Rules that a person's wish passed over.
        overridden: Vec<&'static str>,
    },
    /// Not yet.
    Deferred {
        /// The rule's stable name.
        rule: &'static str,
        /// When to look again; none waits for something to happen.
        until: Option<Timestamp>,
    },
    /// No.
    Suppressed {
        /// The rule's stable name.
        rule: &'static str,
        /// When it may be asked for again, if that is known.
        until: Option<Timestamp>,
    },
}

/// What a restart for this cause costs, in tokens.
pub fn cost(policy: &Policy, cause: RestartCause) -> f64 {
    match cause {
        // Nothing died; the in-flight limit alone keeps a whole fleet from starting at once.
        RestartCause::Operator | RestartCause::Shutdown => 0.0,
        RestartCause::Hung => policy.cost_hung,
        RestartCause::Death | RestartCause::Configuration | RestartCause::Session | RestartCause::Team => {
            policy.cost_death
        }
    }
}

/// Judges one request.
pub fn admit(policy: &Policy, cause: RestartCause, inputs: &AdmissionInputs) -> Admission {
    let mut overridden = Vec::new();
    if let Some(refusal) = persons(cause, inputs, &mut overridden) {
        return refusal;
    }
    if cause.is_automatic()
        && let Some(refusal) = own_limits(policy, cause, inputs)
    {
        return refusal;
    }
    let deferred = |rule, until| Admission::Deferred { rule, until };
    let passes = cause == RestartCause::Operator;
    if inputs.brake.is_some() && !inputs.brake_lets_one {
        return deferred(BRAKE, None);
    }
    if passes && inputs.brake.is_some() {
        overridden.push(BRAKE);
    }
    if inputs.after_ancestor && !passes {
        return deferred(ORDER, None);
    }
    let cost = cost(policy, cause);
    if inputs.tokens < cost {
        return deferred(TOKENS, Some(inputs.now + bucket::wait(policy, inputs.tokens, cost)));
    }
    if inputs.in_flight >= inputs.in_flight_max || inputs.in_flight_all >= policy.in_flight_ceiling {
        return deferred(IN_FLIGHT, None);
    }
    Admission::Admitted { cost, overridden }
}

/// What people said: it refuses a person, and makes everybody else wait.
fn persons(
    cause: RestartCause,
    inputs: &AdmissionInputs,
    overridden: &mut Vec<&'static str>,
) -> Option<Admission> {
    let person = cause == RestartCause::Operator;
    let refuse = |rule, until| {
        Some(if person { Admission::Suppressed { rule, until } } else { Admission::Deferred { rule, until } })
    };
    if inputs.hold.is_some() {
        match (inputs.emergency, inputs.forced) {
            (true, _) => return refuse(EMERGENCY_STOP, None),
            (false, true) => overridden.push(HOLD),
            (false, false) => return refuse(HOLD, inputs.hold_until),
        }
    }
    if inputs.ancestor_paused {
        if !inputs.forced {
            return refuse(ANCESTOR_PAUSED, None);
        }
        overridden.push(ANCESTOR_PAUSED);
    }
    if inputs.advise_only && !person {
        return Some(Admission::Deferred { rule: ADVISE_ONLY, until: None });
    }
    None
}

/// What holds back the workspace that keeps dying, and whoever is only silent.
fn own_limits(policy: &Policy, cause: RestartCause, inputs: &AdmissionInputs) -> Option<Admission> {
    if inputs.half_open.is_none() {
        // A try out of quarantine is one start, not the first of another row.
        if inputs.quarantined || inputs.recent >= policy.intensity_max {
            return Some(Admission::Suppressed {
                rule: INTENSITY,
                until: Some(inputs.now + policy.quarantine_pause),
            });
        }
        let until = inputs.requested_at + backoff(policy, inputs.in_a_row, inputs.chance);
        if !inputs.waited && until > inputs.now {
            return Some(Admission::Deferred { rule: BACKOFF, until: Some(until) });
        }
    }
    (cause == RestartCause::Hung && inputs.in_grace)
        .then_some(Admission::Deferred { rule: GRACE, until: None })
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
