//! What another policy would have decided about what was recorded.
//!
//! The log is folded once more, fact by fact. Wherever something was decided, the same question is put to the other policy, with
//! the numbers that the decision carries; those that follow from a policy (a count within its window, the tokens of its bucket)
//! are counted anew. It never touches an engine.
//!
//! It is *open loop*: the evidence stays as it was recorded. Had the other policy been in force, the world would have gone on
//! differently from the first decision that differs; everything after that is marked as extrapolated. Under the policy that was in
//! force nothing differs, which is tested with every storm of the simulator.

use std::collections::{BTreeMap, BTreeSet};

use covalence_events::fleet::{self as facts, CircuitState};
use covalence_events::workspace::BackendKind;
use covalence_events::{Fact, Position, Recorded, RestartId, StreamId, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::context::{Corrupt, ObserverView};
use crate::policy::Policy;
use crate::roster::Table;
use crate::{fleet, workspace};

mod admissions;
mod brakes;
mod naive;
mod silence;
mod verdicts;

#[cfg(test)]
mod tests;

/// Differences that are listed; more are counted only.
pub const DIFFERENCES_MAX: usize = 10_000;

/// What is asked instead.
#[derive(Clone, Debug)]
pub enum Under {
    /// A policy with other numbers.
    Policy(Box<Policy>),
    /// No policy: whatever does not answer is dead and restarted at once, without limits. What the incident was like that this
    /// supervisor exists for.
    Naive,
    /// Whatever policy was in force, and the rules as they are: what is decided today about what happened then. Whatever can
    /// be counted from the facts is counted again.
    Recorded,
}

/// What kind of decision differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// What evidence amounts to.
    Verdict,
    /// Whether a restart may begin.
    Admission,
    /// Whether a brake holds restarts back.
    Brake,
}

/// One decision, as it was made and as it would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// When.
    pub at: Timestamp,
    /// The fact that it is about, or that it begins with.
    pub position: Position,
    /// What kind of decision.
    pub kind: Kind,
    /// About whom; none where it is about a cell.
    pub workspace: Option<WorkspaceId>,
    /// What was decided.
    pub recorded: String,
    /// What would be.
    pub under: String,
}

/// One decision that would have been another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// When.
    pub at: Timestamp,
    /// The fact that it is about, or after which it would have been decided.
    pub position: Position,
    /// What kind of decision.
    pub kind: Kind,
    /// About whom; none where it is about a cell.
    pub workspace: Option<WorkspaceId>,
    /// What was decided.
    pub recorded: String,
    /// What would have been.
    pub under: String,
    /// By how many seconds it would have come later; negative for earlier, none where that means nothing.
    pub seconds: Option<i64>,
    /// Whether an earlier decision differs already, after which the world would have gone on differently.
    pub extrapolated: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Facts within the range.
    pub facts: u64,
    /// Decisions that were put to the other policy.
    pub judged: u64,
    /// Decisions that carry no numbers, from before these were recorded, and can't be judged again.
    pub unjudged: u64,
    /// Restarts that were admitted.
    pub restarts: u64,
    /// Those among them that would not have been, as far as the record goes.
    pub avoided: u64,
    /// Restarts that would have been admitted, and were not.
    pub added: u64,
    /// Deaths by silence that would have been found earlier.
    pub found_earlier: u64,
    /// Those that would have been found later, or not.
    pub found_later: u64,
    /// Decisions that differ, all of them.
    pub differing: u64,
    /// The first [`DIFFERENCES_MAX`] of these, in the order of time.
    pub differences: Vec<Difference>,
}

/// The platform as the record shows it up to here.
#[derive(Debug, Default)]
struct Scene {
    /// The supervisor, as it was.
    fleet: fleet::State,
    /// The same facts under the other policy.
    other: fleet::State,
    workspaces: BTreeMap<WorkspaceId, workspace::State>,
    table: Table,
    /// Against whom something speaks.
    suspects: BTreeSet<WorkspaceId>,
    started: Timestamp,
    eyes: BTreeMap<Option<BackendKind>, Seen>,
    circuits: BTreeMap<BackendKind, CircuitState>,
}

/// What an observer last said of itself.
#[derive(Clone, Copy, Debug)]
struct Seen {
    score: u32,
    since: Timestamp,
    quiet_until: Timestamp,
}

/// See the module.
#[derive(Debug)]
pub struct Backtest {
    under: Under,
    range: (Timestamp, Timestamp),
    scene: Scene,
    /// Parameters in which the policies differ.
    differ: BTreeSet<&'static str>,
    silences: silence::Silences,
    braked: BTreeSet<BackendKind>,
    condemned: naive::Condemned,
    admitted: BTreeSet<RestartId>,
    would_be_admitted: BTreeSet<RestartId>,
    /// Decisions about single workspaces whose facts are not all read.
    open: BTreeMap<WorkspaceId, verdicts::Open>,
    decisions: Vec<Decision>,
    report: Report,
}

impl Backtest {
    /// Decisions between these moments, both included. Facts before them are needed too: a decision rests on what came before.
    pub fn new(under: Under, since: Timestamp, until: Timestamp) -> Self {
        let mut backtest = Self {
            under,
            range: (since, until),
            scene: Scene::default(),
            differ: BTreeSet::new(),
            silences: silence::Silences::default(),
            braked: BTreeSet::new(),
            condemned: naive::Condemned::default(),
            admitted: BTreeSet::new(),
            would_be_admitted: BTreeSet::new(),
            open: BTreeMap::new(),
            decisions: Vec::new(),
            report: Report::default(),
        };
        backtest.policy_in_force();
        backtest
    }

    /// Takes the next fact of the log, from the first one on.
    pub fn take(&mut self, recorded: &Recorded) -> Result<(), Corrupt> {
        let at = recorded.meta.at;
        let within = (self.range.0..=self.range.1).contains(&at);
        if within {
            self.report.facts += 1;
            self.listen(at, recorded.position);
            self.judge(recorded);
        }
        self.fold(recorded)?;
        if within {
            self.look_around(recorded);
        }
        Ok(())
    }

    /// What differs.
    pub fn finish(self) -> Report {
        self.finish_with_decisions().0
    }

    /// What differs; and under [`Under::Recorded`] every decision that was made again, in the log's order.
    pub fn finish_with_decisions(mut self) -> (Report, Vec<Decision>) {
        let open: Vec<_> = self.open.keys().copied().collect();
        for id in open {
            self.close(id);
        }
        self.listened();
        let (was, would) = (&self.admitted, &self.would_be_admitted);
        self.report.restarts = count(was.len());
        self.report.avoided += count(was.difference(would).count());
        self.report.added += count(would.difference(was).count());
        // Some are known only once it is clear what did not come of them.
        self.report.differences.sort_by_key(|difference| (difference.at, difference.position));
        let first = self.report.differences.first().map(|first| first.at);
        for difference in &mut self.report.differences {
            difference.extrapolated = first.is_some_and(|first| difference.at > first);
        }
        self.decisions.sort_by_key(|decision| decision.position);
        (self.report, self.decisions)
    }

    fn judge(&mut self, recorded: &Recorded) {
        match &recorded.fact {
            Fact::Fleet(event) => {
                self.judge_admission(event, recorded);
                self.judge_brake(event, recorded);
                self.judge_brake_again(event, recorded);
                self.judge_lost_engine(event, recorded);
            }
            Fact::Workspace(event) => {
                if let StreamId::Workspace(id) = recorded.stream {
                    self.judge_silence(id, event, recorded);
                    self.judge_error(id, event, recorded);
                    self.judge_again(id, event, recorded);
                }
            }
        }
    }

    fn fold(&mut self, recorded: &Recorded) -> Result<(), Corrupt> {
        let scene = &mut self.scene;
        match (&recorded.fact, recorded.stream) {
            (Fact::Fleet(event), _) => {
                scene.fleet = fleet::evolve(std::mem::take(&mut scene.fleet), recorded)?;
                scene.other = fleet::evolve(std::mem::take(&mut scene.other), recorded)?;
                scene.note(event, recorded.meta.at);
                if let facts::Event::PolicyChanged(_) = event {
                    self.policy_in_force();
                }
            }
            (Fact::Workspace(_), StreamId::Workspace(id)) => {
                let state = workspace::evolve(scene.workspaces.remove(&id), recorded)?;
                scene.table.note(&state);
                if state.doubts.is_empty() {
                    scene.suspects.remove(&id);
                } else {
                    scene.suspects.insert(id);
                }
                scene.workspaces.insert(id, state);
            }
            (Fact::Workspace(_), StreamId::Fleet) => {
                return Err(Corrupt::new(recorded, "a fact of another kind of stream"));
            }
        }
        Ok(())
    }

    /// The other policy stays in force, whatever was changed.
    fn policy_in_force(&mut self) {
        let recorded = &self.scene.fleet.policy;
        let other = match &self.under {
            Under::Policy(policy) => (**policy).clone(),
            Under::Naive | Under::Recorded => recorded.clone(),
        };
        self.differ = recorded.differences(&other).into_iter().map(|(name, ..)| name).collect();
        self.scene.other.policy = other;
    }

    fn differs_in(&self, parameters: &[&str]) -> bool {
        matches!(self.under, Under::Recorded)
            || parameters.iter().any(|parameter| self.differ.contains(parameter))
    }

    /// The policy that is asked, unless it is none.
    fn other_policy(&self) -> Option<&Policy> {
        match &self.under {
            Under::Policy(policy) => Some(policy),
            Under::Recorded => Some(&self.scene.other.policy),
            Under::Naive => None,
        }
    }

    /// Keeps a decision. Only what is made again under the policy of its time is listed: the other lists are of differences.
    fn list(&mut self, decision: Decision) {
        if matches!(self.under, Under::Recorded) {
            self.decisions.push(decision);
        }
    }

    fn note(&mut self, difference: Difference) {
        self.report.differing += 1;
        if self.report.differences.len() < DIFFERENCES_MAX {
            self.report.differences.push(difference);
        }
    }
}

impl Scene {
    fn note(&mut self, event: &facts::Event, at: Timestamp) {
        match event {
            facts::Event::PlatformStarted(_) => {
                self.started = at;
                self.eyes.clear();
                self.circuits.clear();
            }
            facts::Event::ObserverChanged(e) => {
                let fresh = Seen { score: 0, since: self.started, quiet_until: self.started };
                let seen = self.eyes.entry(e.cell).or_insert(fresh);
                seen.score = e.score;
                if e.pause_ms.is_some() {
                    (seen.since, seen.quiet_until) = (at, at + self.fleet.policy.pause_max);
                }
            }
            facts::Event::CircuitChanged(e) => _ = self.circuits.insert(e.cell, e.state),
            _ => {}
        }
    }

    /// How well a cell was seen.
    fn view(&self, cell: BackendKind, now: Timestamp) -> ObserverView {
        let seen = self.eyes.get(&Some(cell));
        let since = seen.map_or(self.started, |seen| seen.since);
        let released = self.fleet.cells.get(&cell).and_then(|cell| cell.released);
        ObserverView {
            since: released.map_or(since, |released| since.max(released)),
            score: seen.map_or(0, |seen| seen.score),
            quiet: seen.is_some_and(|seen| now < seen.quiet_until),
            in_grace: self.fleet.in_grace(cell),
            braked: self.fleet.brake_mode(cell).is_some(),
        }
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
