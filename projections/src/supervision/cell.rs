//! One engine and what it runs, as the facts have left it.

use std::collections::VecDeque;

use covalence_events::fleet::{
    BrakeEngaged, BrakeMode, BrakeReading, BrakeTrigger, CircuitState, ObserverChanged,
};
use covalence_events::{RestartId, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

/// Tokens that came back since the level was last said; far more than it takes to fill a bucket.
const REWARDS_MAX: usize = 256;

/// The tokens of a cell, as of the last fact that said how many there were.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tokens {
    /// How many there were.
    pub level: f64,
    /// When.
    pub at: Timestamp,
    /// When one came back since, because a restart proved itself or was not needed; oldest first.
    pub rewards: VecDeque<Timestamp>,
}

impl Tokens {
    pub(super) fn said(level: f64, at: Timestamp) -> Self {
        Self { level: level.max(0.0), at, rewards: VecDeque::new() }
    }

    pub(super) fn reward(&mut self, at: Timestamp) {
        if self.rewards.len() == REWARDS_MAX {
            self.rewards.pop_front();
        }
        self.rewards.push_back(at);
    }
}

/// A brake that is engaged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Brake {
    /// What it lets through.
    pub mode: BrakeMode,
    /// What engaged this mode.
    pub trigger: BrakeTrigger,
    /// How many it was.
    pub count: u32,
    /// Out of how many.
    pub of: u32,
    /// From how many on it engages.
    pub threshold: u32,
    /// Who.
    pub members: Vec<WorkspaceId>,
    /// Everything that the judgement looked at.
    pub reading: BrakeReading,
    /// Since when some brake has been engaged.
    pub since: Timestamp,
    /// Since when in this mode.
    pub mode_since: Timestamp,
    /// When the last proven death was let through.
    pub last_let: Option<Timestamp>,
}

impl Brake {
    pub(super) fn engaged(e: &BrakeEngaged, before: Option<&Self>, at: Timestamp) -> Self {
        Self {
            mode: e.mode,
            trigger: e.trigger,
            count: e.count,
            of: e.of,
            threshold: e.threshold,
            members: e.members.clone(),
            reading: e.reading.clone(),
            since: before.map_or(at, |brake| brake.since),
            mode_since: at,
            // The pace of proven deaths goes on from one mode to the next.
            last_let: before.and_then(|brake| brake.last_let),
        }
    }
}

/// What became of the restart that a brake tries before the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrialOutcome {
    /// It is being started.
    Starting,
    /// It has been heard from, and is on probation.
    Heard,
    /// It has been well for the whole probation.
    Proved,
    /// It could not be started, or died again.
    Failed,
}

impl TrialOutcome {
    /// The word used everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Heard => "heard",
            Self::Proved => "proved",
            Self::Failed => "failed",
        }
    }
}

/// The restart that a brake tries before the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Which.
    pub restart: RestartId,
    /// Whose.
    pub workspace: WorkspaceId,
    /// When it was let through.
    pub at: Timestamp,
    /// What became of it.
    pub outcome: TrialOutcome,
}

/// How well we see.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observer {
    /// The last change, with the parts of the score.
    pub change: ObserverChanged,
    /// When that was.
    pub since: Timestamp,
}

/// What an engine's circuit lets through.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Circuit {
    /// Everything, one probe, or nothing.
    pub state: CircuitState,
    /// What put it there: `error_rate`, `ping`, `slow`, `probe`.
    pub rule: String,
    /// Calls in the window.
    pub calls: u32,
    /// Those that failed.
    pub failed: u32,
    /// The 95th percentile of their times, in milliseconds.
    pub p95_ms: u64,
    /// When the next probe is due.
    pub probe_at: Option<Timestamp>,
    /// Since when.
    pub since: Timestamp,
}

/// One engine and what it runs. What a fact has never said is none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Its tokens; none is a full bucket.
    pub tokens: Option<Tokens>,
    /// The brake, if one is engaged.
    pub brake: Option<Brake>,
    /// The restart that the brake tries.
    pub trial: Option<Trial>,
    /// How well we see it; none is well.
    pub observer: Option<Observer>,
    /// Its circuit; none is closed.
    pub circuit: Option<Circuit>,
    /// Starts at once; none is where the policy begins.
    pub provisions: Option<u32>,
    /// Whether its grace after our own start is over.
    pub grace_over: bool,
}

impl Cell {
    /// Under a freeze about the engine alone the next proven death needs not wait: the one before it came back, or the engine
    /// answers again.
    pub(super) fn let_next(&mut self) {
        if let Some(brake) = self.brake.as_mut().filter(|brake| brake.trigger == BrakeTrigger::Observer) {
            brake.last_let = None;
        }
    }

    /// Our score for it, 0 (well) to 8.
    pub fn score(&self) -> u32 {
        self.observer.as_ref().map_or(0, |observer| observer.change.score)
    }

    /// What its circuit lets through.
    pub fn circuit_state(&self) -> CircuitState {
        self.circuit.as_ref().map_or(CircuitState::Closed, |circuit| circuit.state)
    }

    /// Our own start: what the last run measured says nothing about this one.
    pub(super) fn restarted(&mut self) {
        (self.observer, self.circuit, self.provisions) = (None, None, None);
    }
}
