//! When restarts of a whole cell are held back: if too many look dead at once, the common cause is rather ours.
//!
//! ```text
//!            T1 suspicion, T3 observer, T4 everybody                 calm for `release_after`, few suspects
//!   (off) ─────────────────────────────────────────────► freeze ───────────────────────────────────────────► (off)
//!     │ T2 deaths, or many deaths in grace                  │ ▲                                                ▲
//!     └───────────────────────────────────► canary ◄────────┘ │ canary failed                                  │
//!                                             │  └────────────┘                                                │
//!                                             └─ canary proved itself ─► slow start ───────────────────────────┘
//! ```
//!
//! Proven deaths must heal, so *canary* wins over *freeze*: one is tried, and only when it has proved itself do the others
//! follow at the pace of the tokens. Nothing in here looks at a clock: the reading says what was seen, and for how long it
//! has been calm.

use covalence_events::Timestamp;
use covalence_events::fleet::{BrakeMode, BrakeReading, BrakeTrigger};
use covalence_events::workspace::RestartCause;

use super::{Policy, at_least, share_of};

/// A brake that is engaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brake {
    /// What it lets through.
    pub mode: BrakeMode,
    /// What engaged this mode.
    pub trigger: BrakeTrigger,
    /// Since when some brake has been engaged.
    pub since: Timestamp,
    /// Since when in this mode.
    pub mode_since: Timestamp,
    /// When the last proven death was let through.
    pub last_let: Option<Timestamp>,
}

/// What became of the canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// None was sent yet.
    None,
    /// It is being started, or on probation.
    Trying,
    /// It has been well for the whole probation.
    Proved,
    /// It could not be started, was not heard from in time, or died again.
    Failed,
}

impl Canary {
    /// What became of it by now: one that is not heard from within its budget has failed, one that neither proves itself nor
    /// dies is forgotten. `settled`: it has been heard from since it was let through at `at`.
    #[must_use]
    pub fn by(self, policy: &Policy, settled: bool, at: Timestamp, now: Timestamp) -> Self {
        let late = !settled && now >= at + policy.start_budget;
        // A person paused it, or it fell silent: it says nothing, and the next one is tried.
        let mute = settled && now >= at + policy.start_budget * 2 + policy.probation;
        match self {
            Self::Trying if late => Self::Failed,
            Self::Trying if mute => Self::None,
            canary => canary,
        }
    }
}

/// What a judgement changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A brake is engaged, or another mode of it.
    Engage {
        /// What it lets through from here on.
        mode: BrakeMode,
        /// What engaged it.
        trigger: BrakeTrigger,
        /// How many it was.
        count: u32,
        /// From how many on it engages.
        threshold: u32,
    },
    /// It is released.
    Release,
}

/// Suspects from which on T1 and T4 engage.
fn suspects_threshold(policy: &Policy, size: u32) -> u32 {
    at_least(size, policy.brake_suspects_share).max(policy.brake_suspects_min)
}

/// Suspects up to which a brake may be released: their share of a large cell, and in a small one as many as do not engage
/// T1. A brake that a single hung workspace kept on would keep that workspace from ever being restarted.
fn release_threshold(policy: &Policy, size: u32) -> u32 {
    share_of(size, policy.release_suspects_share).max(policy.brake_suspects_min.saturating_sub(1))
}

/// Deaths from which on T2 engages; fewer within the grace after our own start.
pub fn deaths_threshold(policy: &Policy, reading: &BrakeReading) -> u32 {
    let usual = at_least(reading.size, policy.brake_deaths_share).max(policy.brake_deaths_min);
    if reading.in_grace {
        usual.min(share_of(reading.size, policy.grace_deaths_share).saturating_add(1).max(2))
    } else {
        usual
    }
}

/// Whether a reading speaks for a freeze, and by which trigger.
pub fn freeze_trigger(policy: &Policy, reading: &BrakeReading) -> Option<(BrakeTrigger, u32, u32)> {
    let threshold = suspects_threshold(policy, reading.size);
    if reading.size >= policy.brake_suspects_min && reading.suspects >= reading.size {
        return Some((BrakeTrigger::Everybody, reading.suspects, reading.size));
    }
    if reading.circuit_open || reading.observer_score >= policy.score_brake {
        return Some((BrakeTrigger::Observer, reading.observer_score, policy.score_brake));
    }
    (reading.suspects_recent >= threshold).then_some((
        BrakeTrigger::Suspicion,
        reading.suspects_recent,
        threshold,
    ))
}

/// Whether a reading is calm: nothing in it speaks for a brake, and few are suspect.
pub fn is_calm(policy: &Policy, reading: &BrakeReading) -> bool {
    freeze_trigger(policy, reading).is_none()
        && reading.deaths_recent < deaths_threshold(policy, reading)
        && reading.suspects <= release_threshold(policy, reading.size)
}

/// Judges a reading. `None` leaves things as they are.
pub fn judge(
    policy: &Policy,
    engaged: Option<&Brake>,
    reading: &BrakeReading,
    canary: Canary,
    now: Timestamp,
) -> Option<Change> {
    let engage = |mode, trigger, count, threshold| Some(Change::Engage { mode, trigger, count, threshold });
    let deaths = deaths_threshold(policy, reading);
    let many_deaths = reading.deaths_recent >= deaths;
    let death_trigger = if reading.in_grace { BrakeTrigger::Grace } else { BrakeTrigger::Deaths };
    match engaged.map(|brake| (brake.mode, brake)) {
        None if many_deaths => engage(BrakeMode::Canary, death_trigger, reading.deaths_recent, deaths),
        None => freeze_trigger(policy, reading)
            .and_then(|(trigger, count, threshold)| engage(BrakeMode::Freeze, trigger, count, threshold)),
        Some((BrakeMode::Freeze, brake)) if brake.trigger == BrakeTrigger::CanaryFailed => {
            if now >= brake.mode_since + policy.canary_retry {
                engage(BrakeMode::Canary, BrakeTrigger::Deaths, reading.deaths_recent, deaths)
            } else {
                None
            }
        }
        Some((BrakeMode::Freeze, _)) if many_deaths => {
            engage(BrakeMode::Canary, death_trigger, reading.deaths_recent, deaths)
        }
        Some((BrakeMode::Canary, _)) if canary == Canary::Failed => {
            engage(BrakeMode::Freeze, BrakeTrigger::CanaryFailed, 1, 1)
        }
        Some((BrakeMode::Canary, _)) if canary == Canary::Proved => {
            engage(BrakeMode::SlowStart, BrakeTrigger::Deaths, reading.deaths_recent, deaths)
        }
        // A canary on its way is waited for, whatever else is calm.
        Some((BrakeMode::Canary, _)) if canary == Canary::Trying => None,
        Some((BrakeMode::Freeze | BrakeMode::Canary | BrakeMode::SlowStart, _)) => {
            let calm_for = std::time::Duration::from_millis(reading.calm_ms);
            (is_calm(policy, reading) && calm_for >= policy.release_after).then_some(Change::Release)
        }
    }
}

/// Whether an engaged brake lets a restart through now.
pub fn lets(policy: &Policy, brake: &Brake, cause: RestartCause, canary: Canary, now: Timestamp) -> bool {
    match (cause, brake.mode) {
        // A person has looked, and decided.
        (RestartCause::Operator, _) => true,
        // Silence concludes nothing while a brake is on.
        (RestartCause::Hung, _) => false,
        (
            RestartCause::Death
            | RestartCause::Configuration
            | RestartCause::Session
            | RestartCause::Team
            | RestartCause::Shutdown,
            BrakeMode::SlowStart,
        ) => true,
        (RestartCause::Death, BrakeMode::Canary) => canary == Canary::None,
        (RestartCause::Death, BrakeMode::Freeze) => {
            brake.trigger != BrakeTrigger::CanaryFailed
                && brake.last_let.is_none_or(|last| now >= last + policy.freeze_death_every)
        }
        // What can wait, waits.
        (
            RestartCause::Configuration | RestartCause::Session | RestartCause::Team | RestartCause::Shutdown,
            BrakeMode::Freeze | BrakeMode::Canary,
        ) => false,
    }
}

#[cfg(test)]
mod tests;
