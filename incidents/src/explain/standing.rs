//! How a workspace, and what holds it back, stood at a moment: a fold over the facts that a question looked at.
//!
//! It repeats no rule of the supervisor. It only keeps what the facts themselves say, so that the last of each kind can be named.

use std::collections::BTreeMap;

use covalence_events::fleet::{self, BrakeMode, BrakeTrigger, HoldSet, Mode, Scope};
use covalence_events::workspace::{
    self, BackendKind, EvidenceClass, RestartCause, SuspicionRaised, Verdict, VerdictWithheld,
};
use covalence_events::{Fact, HoldId, Recorded, RestartId, StreamId, Timestamp, WorkspaceId};

use crate::words;

/// A fact's time and place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) at: Timestamp,
    pub(super) position: u64,
}

impl Mark {
    fn of(event: &Recorded) -> Self {
        Self { at: event.meta.at, position: event.position.0 }
    }
}

/// Where it is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Nothing is known yet.
    Unknown,
    /// Its next generation is being started.
    Starting,
    /// It runs, as far as anybody knows.
    Running,
    /// Nobody answers for it.
    Offline,
    /// It could not be started.
    Failed,
    /// A person paused it.
    Paused,
    /// It hibernates.
    Asleep,
    /// It is gone for good.
    Removed,
}

/// How far a wished restart is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Progress {
    /// Nobody has decided.
    Asked,
    /// It waits.
    Deferred {
        /// The rule.
        rule: String,
        /// What the rule means here.
        text: String,
        /// When it is looked at again.
        until: Option<Timestamp>,
    },
    /// It may begin.
    Admitted,
    /// One fresh look decides.
    Confirming,
    /// Open calls may finish.
    Draining,
    /// It has begun.
    Started,
}

/// A restart that is wished for and not over.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) restart: RestartId,
    pub(super) cause: RestartCause,
    pub(super) asked: Mark,
    pub(super) progress: Progress,
    pub(super) mark: Mark,
}

/// The brake of its cell.
#[derive(Clone, Debug)]
pub(super) struct Brake {
    pub(super) mode: BrakeMode,
    pub(super) trigger: BrakeTrigger,
    pub(super) mark: Mark,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Standing {
    workspace: Option<WorkspaceId>,
    above: Vec<WorkspaceId>,
    cell: Option<BackendKind>,
    pub(super) life: Life,
    pub(super) since: Option<Mark>,
    /// Its last sign of life.
    pub(super) heard: Option<Mark>,
    pub(super) suspicion: Option<(Mark, SuspicionRaised)>,
    pub(super) withheld: Option<(Mark, VerdictWithheld)>,
    pub(super) wish: Option<Wish>,
    /// The last refusal, while nothing better has come.
    pub(super) refused: Option<(Mark, String, Option<Timestamp>)>,
    pub(super) quarantine: Option<(Mark, String)>,
    pub(super) outcome_unknown: Option<(Mark, String)>,
    pub(super) failed: Option<(Mark, String)>,
    /// Why nobody answers for it, while that is so.
    pub(super) offline: Option<(Mark, String)>,
    /// Since when the platform itself is down, if it said so.
    pub(super) platform_down: Option<Mark>,
    probation: bool,
    pub(super) brake: Option<Brake>,
    pub(super) observer_score: u32,
    pub(super) engine_lost: Option<(Mark, String)>,
    pub(super) grace: Option<(Mark, Timestamp)>,
    holds: BTreeMap<HoldId, (Mark, HoldSet)>,
    pub(super) advised: Option<(Mark, String)>,
}

impl Standing {
    /// Of a workspace, or of the fleet as a whole, before any fact.
    pub(super) fn new(workspace: Option<WorkspaceId>, above: Vec<WorkspaceId>) -> Self {
        Self {
            workspace,
            above,
            cell: None,
            life: Life::Unknown,
            since: None,
            heard: None,
            suspicion: None,
            withheld: None,
            wish: None,
            refused: None,
            quarantine: None,
            outcome_unknown: None,
            failed: None,
            offline: None,
            platform_down: None,
            probation: false,
            brake: None,
            observer_score: 0,
            engine_lost: None,
            grace: None,
            holds: BTreeMap::new(),
            advised: None,
        }
    }

    /// Takes the next fact; one about another workspace changes nothing.
    pub(super) fn follow(&mut self, event: &Recorded) {
        let mark = Mark::of(event);
        match (&event.fact, event.stream) {
            (Fact::Workspace(fact), StreamId::Workspace(id)) if Some(id) == self.workspace => {
                self.own(fact, mark);
            }
            (Fact::Fleet(fact), _) => {
                if fact.subject().is_none() {
                    self.fleet(fact, mark);
                } else if fact.subject() == self.workspace {
                    self.decision(fact, mark);
                }
            }
            (Fact::Workspace(_), _) => {}
        }
    }

    fn own(&mut self, event: &workspace::Event, mark: Mark) {
        use workspace::Event as E;
        match event {
            E::Created(e) => self.cell = Some(e.backend),
            E::EvidenceObserved(e) => self.evidence(e.class, mark),
            E::HeartbeatReceived(_) | E::Registered(_) => self.alive(mark),
            E::CallFinished(e) if e.outcome == workspace::CallOutcome::Answered => self.alive(mark),
            E::SuspicionRaised(e) => self.suspicion = Some((mark, e.clone())),
            E::SuspicionCleared(_) => self.nothing_against(),
            E::VerdictWithheld(e) => self.withheld = Some((mark, e.clone())),
            E::VerdictReached(e) if e.verdict == Verdict::Dead => self.withheld = None,
            E::ProvisionFailed(e) => {
                let text = format!("{}: {}", e.code, words::cut(&e.message));
                self.failed = Some((mark, text));
                self.live(Life::Failed, mark);
            }
            E::OutcomeUnknown(e) => self.outcome_unknown = Some((mark, e.operation.clone())),
            E::RestartRequested(e) => {
                self.refused = None;
                self.wish = Some(Wish {
                    restart: e.restart,
                    cause: e.cause,
                    asked: mark,
                    progress: Progress::Asked,
                    mark,
                });
            }
            E::ConfirmRequested(_) => self.progress(Progress::Confirming, mark),
            E::DrainRequested(_) => self.progress(Progress::Draining, mark),
            E::RestartStarted(_) => self.progress(Progress::Started, mark),
            E::RestartAbandoned(_) => self.wish = None,
            E::DeathRefuted(_) => {
                self.wish = None;
                self.live(Life::Running, mark);
                self.nothing_against();
            }
            E::Quarantined(e) => {
                self.wish = None;
                self.quarantine = Some((mark, e.message.clone()));
            }
            E::RestartProved(_) => self.probation = false,
            E::CameOnline(e) => {
                self.alive(mark);
                self.live(Life::Running, mark);
                self.nothing_against();
                self.quarantine = None;
                self.failed = None;
                self.probation = e.restart.is_some();
                if e.restart.is_some() {
                    self.wish = None;
                    self.refused = None;
                }
            }
            _ => self.life_of(event, mark),
        }
    }

    fn life_of(&mut self, event: &workspace::Event, mark: Mark) {
        use workspace::Event as E;
        match event {
            E::ProvisionRequested(_) => {
                self.outcome_unknown = None;
                self.failed = None;
                self.live(Life::Starting, mark);
            }
            E::InstanceStarted(_) | E::InstanceAdopted(_) => {
                self.outcome_unknown = None;
                if self.life != Life::Running {
                    self.live(Life::Starting, mark);
                }
            }
            E::InstanceStopped(_) | E::StopFailed(_) => self.outcome_unknown = None,
            E::WentOffline(e) => {
                let why = e.message.as_ref().map_or_else(|| e.rule.clone(), |message| words::cut(message));
                self.offline = Some((mark, why));
                self.live(Life::Offline, mark);
            }
            E::Paused(_) => {
                self.wish = None;
                self.live(Life::Paused, mark);
                self.nothing_against();
            }
            E::HibernationRequested(_) => {
                self.wish = None;
                self.live(Life::Asleep, mark);
                self.nothing_against();
            }
            E::Resumed(_) => self.live(Life::Starting, mark),
            E::Removed(_) => {
                self.wish = None;
                self.live(Life::Removed, mark);
            }
            _ => {}
        }
    }

    fn evidence(&mut self, class: EvidenceClass, mark: Mark) {
        if class == EvidenceClass::Life {
            self.alive(mark);
        }
    }

    /// What is decided about its restart.
    fn decision(&mut self, event: &fleet::Event, mark: Mark) {
        use fleet::Event as F;
        match event {
            F::RestartAdmitted(_) => self.progress(Progress::Admitted, mark),
            F::RestartDeferred(e) => {
                let text = words::deferred(e);
                self.progress(Progress::Deferred { rule: e.rule.clone(), text, until: e.until }, mark);
            }
            F::RestartSuppressed(e) => {
                self.wish = None;
                self.refused = Some((mark, e.rule.clone(), e.until));
            }
            F::RestartSettled(e) if self.wish.as_ref().is_some_and(|wish| wish.restart == e.restart) => {
                self.wish = None;
            }
            F::RestartProved(_) => self.probation = false,
            F::QuarantineLifted(_) => self.quarantine = None,
            _ => {}
        }
    }

    fn fleet(&mut self, event: &fleet::Event, mark: Mark) {
        use fleet::Event as F;
        match event {
            F::BrakeEngaged(e) if self.is_cell(e.cell) => {
                self.brake = Some(Brake { mode: e.mode, trigger: e.trigger, mark });
            }
            F::BrakeReleased(e) if self.is_cell(e.cell) => self.brake = None,
            F::ObserverChanged(e) if e.cell.is_none_or(|cell| self.is_cell(cell)) => {
                self.observer_score = e.score;
            }
            F::EngineLost(e) if self.is_engine(&e.engine) => {
                self.engine_lost = Some((mark, e.code.clone()));
            }
            F::EngineFound(e) if self.is_engine(&e.engine) => self.engine_lost = None,
            F::GraceStarted(e) => self.grace = Some((mark, e.until)),
            F::GraceEnded(e) if self.is_cell(e.cell) => self.grace = None,
            F::HoldSet(e) => {
                self.holds.insert(e.hold, (mark, e.clone()));
            }
            F::HoldReleased(e) => {
                self.holds.remove(&e.hold);
            }
            F::ModeSet(e) if self.covers(e.scope) => {
                self.advised = (e.mode == Mode::Advise).then(|| (mark, e.reason.clone()));
            }
            // What the run before saw is worth nothing to this one.
            F::PlatformStopped(_) => self.platform_down = Some(mark),
            F::PlatformStarted(_) => {
                self.platform_down = None;
                self.engine_lost = None;
                self.observer_score = 0;
            }
            _ => {}
        }
    }

    /// Whether a fact of the fleet that names no workspace is about what holds this one, too.
    pub(super) fn concerns(&self, event: &Recorded) -> bool {
        use fleet::Event as F;
        let Fact::Fleet(fact) = &event.fact else { return false };
        match fact {
            F::PlatformStarted(_)
            | F::PlatformStopped(_)
            | F::TailRepaired(_)
            | F::LogMended(_)
            | F::HoldReleased(_)
            | F::GraceStarted(_) => true,
            F::EngineLost(e) => self.is_engine(&e.engine),
            F::EngineFound(e) => self.is_engine(&e.engine),
            F::BrakeEngaged(e) => self.is_cell(e.cell),
            F::BrakeReleased(e) => self.is_cell(e.cell),
            F::CircuitChanged(e) => self.is_cell(e.cell),
            F::GraceEnded(e) => self.is_cell(e.cell),
            F::ObserverChanged(e) => e.cell.is_none_or(|cell| self.is_cell(cell)),
            F::HoldSet(e) => self.covers(e.scope),
            F::ModeSet(e) => self.covers(e.scope),
            F::PolicyChanged(e) => !e.changed.is_empty(),
            _ => false,
        }
    }

    /// The hold that covers it at a moment; an emergency stop before any other.
    pub(super) fn hold(&self, at: Timestamp) -> Option<&(Mark, HoldSet)> {
        let mut covering = self
            .holds
            .values()
            .filter(|(_, hold)| self.covers(hold.scope) && hold.until.is_none_or(|until| until > at));
        let first = covering.next()?;
        Some(covering.fold(first, |best, hold| if hold.1.emergency { hold } else { best }))
    }

    /// Whether nothing is under way or in doubt.
    pub(super) fn is_settled(&self) -> bool {
        self.wish.is_none()
            && self.suspicion.is_none()
            && self.withheld.is_none()
            && self.outcome_unknown.is_none()
            && self.quarantine.is_none()
            && self.life == Life::Running
    }

    /// Where it stands, in the word of `docs/supervision.md`.
    pub(super) fn word(&self) -> &'static str {
        match (self.life, &self.wish) {
            (Life::Paused | Life::Asleep | Life::Removed, _) => "stopped",
            _ if self.quarantine.is_some() => "quarantined",
            _ if self.outcome_unknown.is_some() => "outcome_unknown",
            (_, Some(wish)) => match wish.progress {
                Progress::Asked | Progress::Admitted => "candidate",
                Progress::Deferred { .. } => "held",
                Progress::Confirming => "confirming",
                Progress::Draining | Progress::Started => "restarting",
            },
            _ if self.refused.is_some() => "held",
            _ if self.suspicion.is_some() || self.withheld.is_some() => "suspect",
            (Life::Running, _) if self.probation => "probation",
            (Life::Running, _) => "healthy",
            (Life::Unknown | Life::Starting | Life::Offline | Life::Failed, _) => "unknown",
        }
    }

    fn is_cell(&self, cell: BackendKind) -> bool {
        self.cell.is_none_or(|own| own == cell)
    }

    fn is_engine(&self, engine: &str) -> bool {
        self.cell.is_none_or(|own| own.as_str() == engine)
    }

    fn covers(&self, scope: Scope) -> bool {
        match self.workspace {
            Some(id) => scope.covers(id, self.above.iter().copied()),
            None => scope == Scope::Fleet,
        }
    }

    fn progress(&mut self, progress: Progress, mark: Mark) {
        if let Some(wish) = &mut self.wish {
            wish.progress = progress;
            wish.mark = mark;
        }
    }

    fn live(&mut self, life: Life, mark: Mark) {
        if self.life != life {
            self.since = Some(mark);
        }
        self.life = life;
    }

    fn alive(&mut self, mark: Mark) {
        self.heard = Some(mark);
        // What began before the facts that were looked at goes on.
        if self.life == Life::Unknown {
            self.live(Life::Running, mark);
        }
    }

    fn nothing_against(&mut self) {
        self.suspicion = None;
        self.withheld = None;
    }
}
