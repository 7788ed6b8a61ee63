//! The observer of one cell, without its hands: what it sees goes in, what is to be done and reported comes out.
//!
//! A pure state machine, so that the simulator runs the very code that watches real engines. It decides nothing about
//! workspaces: it looks, compares, and reports evidence. What costs an engine something is the same in good and in bad
//! times: one list per [`Policy::list_every`], however many workspaces there are; an engine's signals are hints for speed;
//! what a complete list does not show is looked at once more by its exact id, [`Policy::confirm_at_once`] at a time.
//!
//! It also watches itself: its own lateness, its engine's errors, the log's slowness raise a [`Score`], which stretches its
//! patience and in the end freezes restarts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use covalence_events::fleet::{CircuitChanged, CircuitState, EngineLost, ObserverChanged};
use covalence_events::workspace::{BackendKind, EvidenceObserved, InstanceRef};
use covalence_events::{Generation, Timestamp, WorkspaceId};

use crate::effect::{BackendError, Inspection, Listed, Probe, ProvisionError, Provisioned, Signal};
use crate::fleet::state::many;
use crate::fleet::{Command, Survey};
use crate::policy::circuit::Circuit;
use crate::policy::score::{MAX, Score};
use crate::policy::{Policy, brake};
use crate::workspace;
use crate::workspace::command::ProvisionFailure;

mod compare;
mod eye;
mod probing;
pub(crate) mod seen;

pub use compare::{inspected, is_observer_failure, looked};
pub use eye::Eye;
pub use seen::{Seen, Unknown};

#[cfg(test)]
mod tests;

/// Between two turns of the observer. Short, so that its own lateness is noticed.
pub const TURN: Duration = Duration::from_secs(1);

/// What the observer is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Its turn has come.
    Turn,
    /// A list came back.
    Listed {
        /// What it says.
        result: Result<Vec<Listed>, BackendError>,
        /// How long it took.
        took: Duration,
    },
    /// A look at one instance came back.
    Inspected {
        /// Whose.
        workspace: WorkspaceId,
        /// Which generation.
        generation: Generation,
        /// Which instance.
        instance: InstanceRef,
        /// What was seen.
        inspection: Inspection,
        /// How long it took.
        took: Duration,
    },
    /// A request for an agent's card came back.
    Probed {
        /// Whose.
        workspace: WorkspaceId,
        /// Which generation.
        generation: Generation,
        /// What came of it.
        probe: Probe,
        /// How long it took.
        took: Duration,
    },
    /// The engine told something unasked; all that was waiting, at once.
    Signals(Vec<Signal>),
    /// Somebody else's call to the engine ended: a start, a stop, a look on behalf of a caller.
    Called {
        /// Whether it failed in a way that says something about the engine.
        failed: bool,
        /// How long it took.
        took: Duration,
    },
    /// The 99th percentile of recent appends to the log.
    AppendsTook(Duration),
    /// An append to the log failed.
    AppendFailed,
    /// A heartbeat was refused because we were too busy.
    BeatRefused,
    /// The log takes no facts, so no sign of life can be taken down.
    LogShut,
}

/// What is to be done or reported.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Ask the engine for the list.
    List,
    /// Look at this very instance.
    Inspect {
        /// Whose.
        workspace: WorkspaceId,
        /// Which generation.
        generation: Generation,
        /// Which instance.
        instance: InstanceRef,
    },
    /// Ask an agent for its card.
    Probe {
        /// Whose.
        workspace: WorkspaceId,
        /// Which generation.
        generation: Generation,
        /// Where.
        url: String,
    },
    /// Report evidence.
    Evidence {
        /// About whom.
        workspace: WorkspaceId,
        /// What.
        evidence: EvidenceObserved,
    },
    /// After our start, its instance was found running.
    Adopted {
        /// Whose.
        workspace: WorkspaceId,
        /// Which generation.
        generation: Generation,
        /// Which instance.
        instance: InstanceRef,
    },
    /// A start or stop whose outcome was unknown: this is what came of it.
    Outcome {
        /// Whose.
        workspace: WorkspaceId,
        /// Which generation.
        generation: Generation,
        /// What came of it.
        outcome: Outcome,
    },
    /// A workspace that is silent for the whole window is to be judged again.
    Recheck {
        /// Which.
        workspace: WorkspaceId,
    },
    /// Tell the fleet's supervisor.
    Fleet(Command),
}

/// See [`Output::Outcome`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was started after all.
    Started {
        /// What runs.
        instance: InstanceRef,
        /// Where it answers.
        url: Option<String>,
    },
    /// It was not started.
    NotStarted,
    /// It was stopped after all.
    Stopped,
    /// It still runs.
    NotStopped,
}

impl Outcome {
    /// What the workspace is told of its operation.
    pub fn command(self, generation: Generation) -> workspace::Command {
        match self {
            Self::Started { instance, url } => workspace::Command::RecordProvisioned {
                generation,
                provisioned: Provisioned { instance: Some(instance), url, withheld: Vec::new(), image: None },
            },
            Self::NotStarted => workspace::Command::RecordProvisionFailed(ProvisionFailure {
                generation,
                code: ProvisionError::OUTCOME_UNKNOWN.to_owned(),
                message: "the engine did not say whether it started, and its list does not show it"
                    .to_owned(),
                retryable: true,
                command: None,
            }),
            Self::Stopped => workspace::Command::RecordStopped { generation },
            Self::NotStopped => workspace::Command::RecordStopFailed {
                generation,
                message: "the engine did not say whether it stopped, and its list still shows it".to_owned(),
            },
        }
    }
}

/// What one turn rests on.
#[derive(Clone, Copy)]
struct Around<'a> {
    policy: &'a Policy,
    seen: &'a [Seen],
    now: Timestamp,
}

/// See the module.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a thing that was said or is under way, not a state"
)]
pub struct Watch {
    cell: BackendKind,
    score: Score,
    circuit: Circuit,
    /// Silence before this is ours.
    since: Timestamp,
    last_turn: Option<Timestamp>,
    next_list: Timestamp,
    listing: bool,
    /// Asked for while a list was under way.
    list_again: bool,
    /// Whether a complete list has been seen.
    listed: bool,
    lost: bool,
    calm_since: Option<Timestamp>,
    told: u32,
    told_pause: bool,
    waiting: VecDeque<(WorkspaceId, Generation, InstanceRef)>,
    looking: BTreeSet<WorkspaceId>,
    probes: BTreeMap<WorkspaceId, probing::Probing>,
    strangers: BTreeSet<String>,
}

impl Watch {
    /// The observer of a cell that has just begun.
    pub fn new(cell: BackendKind, now: Timestamp) -> Self {
        Self {
            cell,
            score: Score::default(),
            circuit: Circuit::default(),
            since: now,
            last_turn: None,
            next_list: now,
            listing: false,
            list_again: false,
            listed: false,
            // So that the first answer is told even if the last run of the platform had lost the engine.
            lost: true,
            calm_since: Some(now),
            told: 0,
            told_pause: false,
            waiting: VecDeque::new(),
            looking: BTreeSet::new(),
            probes: BTreeMap::new(),
            strangers: BTreeSet::new(),
        }
    }

    /// What it says of itself.
    pub fn eye(&self, now: Timestamp) -> Eye {
        Eye {
            score: self.score.total(now),
            since: self.since,
            last_turn: self.last_turn,
            quiet_until: self.score.quiet_until(now),
        }
    }

    /// The engine's circuit.
    pub fn circuit(&self) -> CircuitState {
        self.circuit.state()
    }

    /// Our own limit for one observation, stretched by the score.
    pub fn patience(&self, policy: &Policy, now: Timestamp) -> Duration {
        self.score.stretch(policy.observe_timeout, now)
    }

    /// Takes what was seen; `seen` are the workspaces of this cell.
    pub fn handle(&mut self, policy: &Policy, input: Input, seen: &[Seen], now: Timestamp) -> Vec<Output> {
        let mut out = Vec::new();
        let around = &Around { policy, seen, now };
        match input {
            Input::Turn => self.turn(around, &mut out),
            Input::Listed { result, took } => self.listed(around, result, took, &mut out),
            Input::Inspected { workspace, generation, instance, inspection, took } => {
                let failed = matches!(inspection, Inspection::Unknown(_));
                self.called(around, (false, failed), took, &mut out);
                self.looking.remove(&workspace);
                if let Some(evidence) = inspected(inspection, generation, &instance) {
                    self.announce(around, &[(workspace, evidence)], &mut out);
                }
                self.look(policy, &mut out);
            }
            Input::Probed { workspace, generation, probe, took: _ } => {
                probing::probed(&mut self.probes, policy, (workspace, generation), &probe, &mut out);
            }
            Input::Signals(signals) => self.signals(around, signals, &mut out),
            Input::Called { failed, took } => self.called(around, (false, failed), took, &mut out),
            Input::AppendsTook(p99) => self.score.appends_took(policy, p99, now),
            Input::AppendFailed => self.score.append_failed(now),
            Input::BeatRefused => self.score.beat_refused(now),
            Input::LogShut => {
                self.score.append_failed(now);
                // What was not taken down is held against nobody.
                self.since = now;
            }
        }
        self.tell_score(policy, now, &mut out);
        out
    }

    fn turn(&mut self, around: &Around<'_>, out: &mut Vec<Output>) {
        let &Around { policy, seen, now } = around;
        if let Some(last) = self.last_turn {
            self.score.late_by(policy, eye::lag(last, now), now);
            if eye::stood_still(policy, self.last_turn, now) {
                // What was not heard while we stood still is held against nobody.
                self.since = now;
                self.next_list = now;
            }
        }
        self.last_turn = Some(now);
        if now >= self.next_list {
            self.next_list = now + policy.list_every;
            self.list(now, out);
            self.probe_late(around, out);
            let silent =
                |one: &&Seen| one.suspect.is_some() && now >= one.heard.max(self.since) + policy.liveness_ttl;
            out.extend(seen.iter().filter(silent).map(|one| Output::Recheck { workspace: one.workspace }));
            out.push(Output::Fleet(Command::RecordSurvey(self.survey(policy, seen, Vec::new(), now))));
        }
    }

    fn list(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        if self.listing {
            self.list_again = true;
        } else if self.circuit.lets(now) {
            self.listing = true;
            out.push(Output::List);
        }
    }

    fn signals(&mut self, around: &Around<'_>, signals: Vec<Signal>, out: &mut Vec<Output>) {
        let (mut dead, mut list) = (Vec::new(), false);
        for signal in signals {
            match signal {
                Signal::Exited { workspace, generation, instance, exit_status, detail } => {
                    dead.push((workspace, compare::exited(generation, instance, exit_status, detail)));
                }
                Signal::Gap | Signal::Found => list = true,
                Signal::Lost(error) => self.engine_lost(error, out),
            }
        }
        self.announce(around, &dead, out);
        if list {
            self.list(around.now, out);
        }
    }

    /// Reports evidence. Many deaths at once are announced first, so that the first of them is not taken for the only one.
    fn announce(
        &mut self,
        around: &Around<'_>,
        evidence: &[(WorkspaceId, EvidenceObserved)],
        out: &mut Vec<Output>,
    ) {
        let &Around { policy, seen, now } = around;
        let present = |workspace: WorkspaceId, about: &EvidenceObserved| {
            seen.iter().any(|one| {
                one.workspace == workspace
                    && one.desired
                    && one.generation == about.generation
                    && one.instance.is_some()
            })
        };
        let deaths = evidence.iter().filter(|(workspace, about)| {
            about.class == covalence_events::workspace::EvidenceClass::Death && present(*workspace, about)
        });
        let dead: Vec<_> = deaths.map(|(workspace, _)| *workspace).collect();
        if dead.len() > 1 {
            out.push(Output::Fleet(Command::RecordSurvey(self.survey(policy, seen, dead, now))));
        }
        for (workspace, evidence) in evidence {
            out.push(Output::Evidence { workspace: *workspace, evidence: evidence.clone() });
        }
    }

    fn called(
        &mut self,
        around: &Around<'_>,
        (ping, failed): (bool, bool),
        took: Duration,
        out: &mut Vec<Output>,
    ) {
        let &Around { policy, now, .. } = around;
        self.score.called(failed);
        if let Some(changed) = self.circuit.ended(policy, (ping, failed), took, now) {
            if changed.state == CircuitState::Closed {
                self.next_list = now;
            } else if let Some(probe_at) = changed.probe_at {
                self.next_list = probe_at;
            }
            out.push(Output::Fleet(Command::RecordCircuit(CircuitChanged {
                cell: self.cell,
                state: changed.state,
                rule: changed.rule.to_owned(),
                calls: changed.calls,
                failed: changed.failed,
                p95_ms: u64::try_from(changed.p95.as_millis()).unwrap_or(u64::MAX),
                probe_at: changed.probe_at,
            })));
        }
    }

    fn engine_lost(&mut self, error: BackendError, out: &mut Vec<Output>) {
        if !self.lost {
            self.lost = true;
            let engine = self.cell.as_str().to_owned();
            let lost = EngineLost { engine, code: error.code.to_owned(), detail: error.detail };
            out.push(Output::Fleet(Command::RecordEngineLost(lost)));
        }
    }

    /// What the supervisor should know of this cell.
    pub fn survey(
        &mut self,
        policy: &Policy,
        seen: &[Seen],
        dead: Vec<WorkspaceId>,
        now: Timestamp,
    ) -> Survey {
        let suspects: Vec<_> = seen
            .iter()
            .filter(|one| one.desired && one.instance.is_some() && !dead.contains(&one.workspace))
            .filter_map(|one| Some((one.workspace, one.suspect?)))
            .collect();
        let size = seen.iter().filter(|one| one.desired).count();
        let mut survey = Survey {
            cell: self.cell,
            listed: self.listed,
            suspects,
            dead,
            score: self.score.total(now),
            circuit_open: self.circuit.state() != CircuitState::Closed,
            calm_for: Duration::ZERO,
        };
        let reading = survey.reading(many(size), now - policy.brake_window);
        if brake::is_calm(policy, &reading) {
            let since = *self.calm_since.get_or_insert(now);
            survey.calm_for = (now - since).to_std().unwrap_or_default();
        } else {
            self.calm_since = None;
        }
        survey
    }

    /// Says when the score enters or leaves *unwell* or *frozen*; not each step of it.
    fn tell_score(&mut self, policy: &Policy, now: Timestamp, out: &mut Vec<Output>) {
        let parts = self.score.parts(now);
        let score = parts.total();
        let band = |score: u32| match score {
            0 => 0,
            _ if score >= MAX => 3,
            _ if score >= policy.score_brake => 2,
            _ => 1,
        };
        let pause_begins = parts.paused && !self.told_pause;
        self.told_pause = parts.paused;
        if band(score) == band(self.told) && !pause_begins {
            return;
        }
        let pause = pause_begins.then(|| self.last_pause_ms()).flatten();
        out.push(Output::Fleet(Command::RecordObserver(ObserverChanged {
            cell: Some(self.cell),
            score,
            from: self.told,
            engine: parts.engine,
            loop_lag: parts.loop_lag,
            log: parts.log,
            beats: parts.beats,
            pause_ms: pause,
        })));
        self.told = score;
    }

    fn last_pause_ms(&self) -> Option<u64> {
        self.score.last_pause().and_then(|pause| u64::try_from(pause.as_millis()).ok())
    }
}
