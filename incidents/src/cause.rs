//! Which first cause the facts of a span speak for, how sure that is, and which facts say so.
//!
//! Each kind of cause is a rule over the [`Scene`]: what speaks for it, since when, and which of the effects it would explain.
//! An effect whose own chain of causes holds a fact of the evidence is explained in full; one that only fits in kind and time,
//! for the most part. What came later than a cause that explains the same counts less. Nothing here is a rule of the
//! supervisor, and nothing is drawn from anything but facts.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use covalence_events::{EventId, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::scene::{Mark, Scene};
use crate::who::Who;

mod agents;
mod effects;
mod engines;
mod ours;
mod people;
#[cfg(test)]
mod tests;

use effects::{Effect, EffectKind};

/// Candidates that are shown.
pub const CANDIDATES_MAX: usize = 6;

/// Positions that one candidate names.
pub const POSITIONS_MAX: usize = 12;

/// A score below this explains too little to be called a cause.
const SCORE_MIN: f64 = 0.2;
/// From this score on, and with this lead over the next one, a cause is called sure.
const SURE: (f64, f64) = (0.6, 1.3);
/// The same for a cause that is likely.
const LIKELY: (f64, f64) = (0.35, 1.1);
/// What an effect that fits in kind and time counts, against one that the chain of causes ties to the evidence.
const FITS: f64 = 0.8;
/// What a cause is worth that came after another one which explains most of the same.
const LATER: f64 = 0.6;

/// What kind of cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CauseKind {
    /// The engine did not answer in time: slow, or frozen.
    EngineSlow,
    /// The engine was not there.
    EngineUnreachable,
    /// The engine answered with errors, or with what was not so.
    EngineFailing,
    /// The engine went away and took what it ran with it.
    EngineRestarted,
    /// The platform itself stood still.
    OwnPause,
    /// The platform's own loop was late: it had too much to do, or too little processor.
    OwnLoad,
    /// The platform's process was gone without a word.
    PlatformCrash,
    /// The platform was stopped and started in order.
    PlatformRestart,
    /// A bug of the platform.
    PlatformBug,
    /// The log was slow, or failed.
    LogTrouble,
    /// Many instances ended at about the same time.
    MassDeath,
    /// One workspace died again and again.
    CrashLoop,
    /// One instance ended by itself.
    InstanceDied,
    /// One instance was killed or removed from outside: by somebody, or because its memory ran out.
    InstanceKilled,
    /// An agent fell silent though its instance ran.
    AgentHung,
    /// Many agents fell silent together though their instances ran: the network, or a starved host.
    AgentsUnreachable,
    /// A person did it.
    Operator,
    /// A change of the policy.
    PolicyChange,
    /// A change of a workspace's configuration.
    ConfigurationChange,
    /// A runtime's session was poisoned.
    SessionPoisoned,
    /// What was to be started can't be: its image, its configuration, its resources.
    StartFailed,
    /// Nothing speaks clearly for anything.
    Unknown,
}

impl CauseKind {
    /// The word used everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EngineSlow => "engine_slow",
            Self::EngineUnreachable => "engine_unreachable",
            Self::EngineFailing => "engine_failing",
            Self::EngineRestarted => "engine_restarted",
            Self::OwnPause => "own_pause",
            Self::OwnLoad => "own_load",
            Self::PlatformCrash => "platform_crash",
            Self::PlatformRestart => "platform_restart",
            Self::PlatformBug => "platform_bug",
            Self::LogTrouble => "log_trouble",
            Self::MassDeath => "mass_death",
            Self::CrashLoop => "crash_loop",
            Self::InstanceDied => "instance_died",
            Self::InstanceKilled => "instance_killed",
            Self::AgentHung => "agent_hung",
            Self::AgentsUnreachable => "agents_unreachable",
            Self::Operator => "operator",
            Self::PolicyChange => "policy_change",
            Self::ConfigurationChange => "configuration_change",
            Self::SessionPoisoned => "session_poisoned",
            Self::StartFailed => "start_failed",
            Self::Unknown => "unknown",
        }
    }
}

/// How sure a proposed cause is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sure {
    /// It explains little, or another one explains as much.
    Low,
    /// It explains much, and more than any other.
    Medium,
    /// It explains nearly everything, and no other comes near.
    High,
}

impl Sure {
    /// The word used everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// A cause that the facts speak for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Candidate {
    /// What kind.
    pub kind: CauseKind,
    /// Whose: an engine, a workspace; none for what has no name.
    pub subject: Option<String>,
    /// How sure.
    pub sure: Sure,
    /// How much it explains, 0 to 1; comparable within one answer only.
    pub score: f64,
    /// Since when, as far as the facts show; the last sign of life before a silence.
    pub since: DateTime<Utc>,
    /// What speaks for it, in words.
    pub reason: String,
    /// Effects that it explains, of all.
    pub explains: usize,
    /// All effects of the span.
    pub effects: usize,
    /// The first of the facts that speak for it.
    pub positions: Vec<u64>,
}

/// What a rule found.
#[derive(Debug)]
struct Finding {
    kind: CauseKind,
    subject: Option<String>,
    since: Timestamp,
    /// Until when it goes on making effects.
    until: Timestamp,
    /// How characteristic the evidence is, 0 to 1.
    strength: f64,
    reason: String,
    evidence: Vec<Mark>,
    /// Which effects it would explain by kind, where they fall into its time.
    explains: Explains,
}

/// Which effects fit a cause.
#[derive(Debug)]
struct Explains {
    kinds: BTreeSet<EffectKind>,
    /// Only of these workspaces; of anybody where none.
    whose: Option<BTreeSet<WorkspaceId>>,
}

impl Explains {
    fn of(kinds: &[EffectKind]) -> Self {
        Self { kinds: kinds.iter().copied().collect(), whose: None }
    }

    fn only(self, whose: impl IntoIterator<Item = WorkspaceId>) -> Self {
        Self { whose: Some(whose.into_iter().collect()), ..self }
    }
}

impl Finding {
    /// How much of an effect it explains, 0 to 1.
    fn share(&self, effect: &Effect, ids: &BTreeSet<EventId>) -> f64 {
        if effect.chain.iter().any(|id| ids.contains(id)) {
            return 1.0;
        }
        let whose = match (&self.explains.whose, effect.workspace) {
            (Some(whose), Some(workspace)) => whose.contains(&workspace),
            (Some(_), None) => false,
            (None, _) => true,
        };
        // Clocks of two processes that write at the same moment may disagree by some milliseconds.
        let slack = chrono::TimeDelta::seconds(1);
        let in_time = effect.at + slack >= self.since && effect.since <= self.until;
        let fits = whose && in_time && self.explains.kinds.contains(&effect.kind);
        if fits { FITS } else { 0.0 }
    }
}

/// The causes that the facts of a scene speak for, the first of them on top. Never empty: where nothing speaks clearly, that is said.
pub(crate) fn propose(scene: &Scene, who: &Who) -> Vec<Candidate> {
    let effects = effects::of(scene);
    let mut findings = engines::findings(scene);
    findings.extend(ours::findings(scene));
    findings.extend(agents::findings(scene, who));
    findings.extend(people::findings(scene, who));
    let mut candidates = weighed(&findings, &effects);
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.since.cmp(&b.since)));
    candidates.retain(|candidate| candidate.score >= SCORE_MIN);
    candidates.truncate(CANDIDATES_MAX);
    rate(&mut candidates);
    if candidates.first().is_none_or(|first| first.sure == Sure::Low && first.score < LIKELY.0) {
        candidates.insert(0, unknown(scene, effects.len()));
    }
    candidates
}

fn unknown(scene: &Scene, effects: usize) -> Candidate {
    let reason = if effects == 0 {
        "nothing bad is recorded in this time"
    } else {
        "nothing that is recorded speaks clearly for one cause"
    };
    Candidate {
        kind: CauseKind::Unknown,
        subject: None,
        sure: Sure::Low,
        score: 0.0,
        since: scene.since(),
        reason: reason.to_owned(),
        explains: 0,
        effects,
        positions: Vec::new(),
    }
}

fn weighed(findings: &[Finding], effects: &[Effect]) -> Vec<Candidate> {
    let total: f64 = effects.iter().map(|effect| effect.weight).sum();
    let shares: Vec<Vec<f64>> = findings
        .iter()
        .map(|finding| {
            let ids: BTreeSet<EventId> = finding.evidence.iter().map(|mark| mark.id).collect();
            effects.iter().map(|effect| finding.share(effect, &ids)).collect()
        })
        .collect();
    let explained = |index: usize| -> f64 {
        shares[index].iter().zip(effects).map(|(share, effect)| share * effect.weight).sum()
    };
    let mut candidates = Vec::with_capacity(findings.len());
    for (index, finding) in findings.iter().enumerate() {
        let own = explained(index);
        let both = |other: usize| -> f64 {
            let pairs = shares[index].iter().zip(&shares[other]).zip(effects);
            pairs.map(|((mine, its), effect)| mine.min(*its) * effect.weight).sum()
        };
        let later = findings.iter().enumerate().any(|(other, earlier)| {
            other != index
                && earlier.since + chrono::TimeDelta::seconds(1) < finding.since
                && earlier.strength >= 0.5
                && both(other) >= 0.6 * own
                && explained(other) >= FITS * own
        });
        let share = if total > 0.0 { own / total } else { 0.0 };
        let score = finding.strength * share * if later { LATER } else { 1.0 };
        let positions: BTreeSet<u64> = finding.evidence.iter().map(|mark| mark.position).collect();
        candidates.push(Candidate {
            kind: finding.kind,
            subject: finding.subject.clone(),
            sure: Sure::Low,
            score: (score * 1000.0).round() / 1000.0,
            since: finding.since,
            reason: finding.reason.clone(),
            explains: shares[index].iter().filter(|share| **share > 0.0).count(),
            effects: effects.len(),
            positions: positions.into_iter().take(POSITIONS_MAX).collect(),
        });
    }
    candidates
}

/// How sure each is, by its score and by its lead over the next one.
fn rate(candidates: &mut [Candidate]) {
    let next = candidates.get(1).map_or(0.0, |second| second.score);
    let Some(first) = candidates.first_mut() else { return };
    let is = |(score, lead): (f64, f64)| first.score >= score && first.score >= next * lead;
    first.sure = if is(SURE) {
        Sure::High
    } else if is(LIKELY) {
        Sure::Medium
    } else {
        Sure::Low
    };
}
