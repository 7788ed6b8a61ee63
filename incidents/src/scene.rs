//! What the facts of a span show, sorted by whom it happened to: the ground that causes, impact and common factors are read off.
//!
//! Nothing is judged here. A death is one that was proved, a doubt one that was raised, and what an engine said is kept word for
//! word.

use std::collections::{BTreeMap, BTreeSet};

use covalence_events::fleet::{self, BrakeEngaged};
use covalence_events::workspace::BackendKind;
use covalence_events::{BootId, EventId, Fact, Position, Recorded, StreamId, Timestamp, WorkspaceId};

mod case;
mod engine;
mod platform;

pub(crate) use case::{Case, Death, Doubt, Restart};
pub(crate) use engine::{Engine, TroubleKind};
pub(crate) use platform::Platform;

/// How far back a chain of causes is followed; a longer one is damaged.
const CHAIN_MAX: usize = 64;

/// A fact's name, time and place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) at: Timestamp,
    pub(crate) position: u64,
    pub(crate) id: EventId,
}

impl Mark {
    pub(crate) fn of(event: &Recorded) -> Self {
        Self { at: event.meta.at, position: event.position.0, id: event.meta.id }
    }
}

/// Something that a person did.
#[derive(Clone, Debug)]
pub(crate) struct Act {
    pub(crate) mark: Mark,
    /// The word of the fact: `policy_changed`, `hold_set`, `paused` and the like.
    pub(crate) word: &'static str,
    /// To whom, if to one.
    pub(crate) workspace: Option<WorkspaceId>,
    /// What, for people.
    pub(crate) what: String,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Scene {
    pub(crate) cases: BTreeMap<WorkspaceId, Case>,
    pub(crate) engines: BTreeMap<BackendKind, Engine>,
    pub(crate) platform: Platform,
    pub(crate) acts: Vec<Act>,
    pub(crate) brakes: Vec<(Mark, BrakeEngaged)>,
    /// Restarts that a rule made wait, by rule.
    pub(crate) deferred: BTreeMap<String, BTreeSet<WorkspaceId>>,
    /// Facts to the facts that they rest on.
    causes: BTreeMap<EventId, Vec<EventId>>,
    boot: Option<BootId>,
    last: Option<Timestamp>,
    begun: Timestamp,
}

impl Scene {
    /// The span begins here.
    pub(crate) fn begin(&mut self, since: Timestamp) {
        self.begun = since;
    }

    /// When the span begins.
    pub(crate) fn since(&self) -> Timestamp {
        self.begun
    }

    /// Learns what a workspace was, from a fact that may lie long before the span.
    pub(crate) fn know(&mut self, event: &Recorded) {
        if let (StreamId::Workspace(id), Fact::Workspace(fact)) = (event.stream, &event.fact) {
            self.case(id).before(Mark::of(event), fact);
        }
    }

    /// It was removed before the span.
    pub(crate) fn forget(&mut self, id: WorkspaceId) {
        self.cases.remove(&id);
    }

    /// Learns what was so before the span; nothing of it is an effect.
    pub(crate) fn before(&mut self, event: &Recorded) {
        self.boot = Some(event.meta.boot);
        self.last = Some(event.meta.at);
        self.know(event);
    }

    /// Knows a workspace by what was recorded of it before the span.
    pub(crate) fn case(&mut self, id: WorkspaceId) -> &mut Case {
        self.cases.entry(id).or_insert_with(|| Case::new(id))
    }

    /// Takes the next fact of the span.
    pub(crate) fn follow(&mut self, event: &Recorded) {
        let mark = Mark::of(event);
        let mut rests_on: Vec<EventId> = event.meta.causation.into_iter().collect();
        if self.boot.replace(event.meta.boot).is_some_and(|boot| boot != event.meta.boot) {
            self.platform.another_run(mark, self.last);
        }
        self.last = Some(event.meta.at);
        match &event.fact {
            Fact::Fleet(fact) => self.fleet(mark, fact, event),
            Fact::Workspace(fact) => {
                if let StreamId::Workspace(id) = event.stream {
                    rests_on.extend(case::evidence(fact));
                    self.case(id).follow(mark, fact, &event.meta.principal);
                    let cell = self.case(id).cell;
                    if let (Some(cell), Some((kind, code))) = (cell, engine::trouble_of(fact)) {
                        self.engines.entry(cell).or_default().trouble(mark, kind, &code);
                    }
                    if let covalence_events::workspace::Event::HandlerPanicked(e) = fact {
                        self.platform.bugs.push((mark, format!("{} panicked: {}", e.command, e.message)));
                    }
                    if event.meta.principal.is_operator()
                        && let Some((word, what)) = case::act(fact)
                    {
                        self.acts.push(Act { mark, word, workspace: Some(id), what });
                    }
                }
            }
        }
        if !rests_on.is_empty() {
            self.causes.insert(mark.id, rests_on);
        }
    }

    fn fleet(&mut self, mark: Mark, fact: &fleet::Event, event: &Recorded) {
        use fleet::Event as F;
        match fact {
            F::EngineLost(e) => {
                if let Some(cell) = cell_of(&e.engine) {
                    self.engines.entry(cell).or_default().lost(mark, &e.code);
                }
            }
            F::EngineFound(e) => {
                if let Some(cell) = cell_of(&e.engine) {
                    self.engines.entry(cell).or_default().found(mark);
                }
            }
            F::CircuitChanged(e) => self.engines.entry(e.cell).or_default().circuit(mark, e),
            F::BrakeEngaged(e) => self.brakes.push((mark, e.clone())),
            F::RestartDeferred(e) => {
                self.deferred.entry(e.rule.clone()).or_default().insert(e.workspace);
                self.case(e.workspace).held.push((mark, e.rule.clone()));
            }
            F::RestartSuppressed(e) => self.case(e.workspace).held.push((mark, e.rule.clone())),
            F::RestartSettled(e) => self.case(e.workspace).settled(e, mark),
            F::PlatformStarted(e) => self.platform.started(mark, e.head == Position(0)),
            F::PlatformStopped(_) => self.platform.stopped = Some(mark),
            F::TailRepaired(e) => self.platform.log.push((mark, format!("its end was torn: {}", e.reason))),
            F::LogMended(e) => self
                .platform
                .log
                .push((mark, format!("its {} was damaged: {}", e.part.replace('_', "-"), e.reason))),
            F::ObserverChanged(e) => self.platform.observer(mark, e),
            F::InvariantViolated(e) => {
                self.platform.bugs.push((mark, format!("`{}` did not hold: {}", e.invariant, e.detail)));
            }
            F::PolicyChanged(e) if !e.changed.is_empty() => {
                let names: Vec<_> = e.changed.iter().map(|change| change.name.as_str()).collect();
                let what = format!("the policy was changed: {}", names.join(", "));
                self.acts.push(Act { mark, word: "policy_changed", workspace: None, what });
            }
            F::HoldSet(e) => {
                let what = if e.emergency { "everything was stopped" } else { "restarts were held back" };
                self.acts.push(Act { mark, word: "hold_set", workspace: None, what: what.to_owned() });
            }
            F::ModeSet(_) => {
                let what = "the mode was changed".to_owned();
                self.acts.push(Act { mark, word: "mode_set", workspace: None, what });
            }
            F::BrakeReleased(_) if event.meta.principal.is_operator() => {
                let what = "a brake was released by hand".to_owned();
                self.acts.push(Act { mark, word: "brake_released", workspace: None, what });
            }
            _ => {}
        }
    }

    /// Everything that a fact rests on, as far as the span shows it, with itself.
    pub(crate) fn chain(&self, from: EventId) -> BTreeSet<EventId> {
        let mut chain = BTreeSet::from([from]);
        let mut next = vec![from];
        for _ in 0..CHAIN_MAX {
            let Some(id) = next.pop() else { break };
            for cause in self.causes.get(&id).into_iter().flatten() {
                if chain.insert(*cause) {
                    next.push(*cause);
                }
            }
        }
        chain
    }

    /// How many workspaces a cell has that count: known, and not removed before the span.
    pub(crate) fn size(&self, cell: BackendKind) -> usize {
        self.cases.values().filter(|case| case.cell == Some(cell)).count()
    }

    /// So many of a cell at once are no coincidence: a fifth, at least three, or all of a tiny one (the borders that the
    /// brake's triggers have by default).
    pub(crate) fn many(&self, cell: BackendKind) -> usize {
        let size = self.size(cell);
        (size.div_ceil(5)).max(3).min(size.max(2))
    }
}

fn cell_of(engine: &str) -> Option<BackendKind> {
    [BackendKind::Process, BackendKind::Docker, BackendKind::External]
        .into_iter()
        .find(|cell| cell.as_str() == engine)
}
