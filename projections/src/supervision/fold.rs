//! The fold. It repeats what the facts say, by the same rules as the supervisor's own state.

use covalence_events::fleet::Scope;
use covalence_events::fleet::{
    AdmissionInputs, BrakeMode, CircuitState, Event, HoldSet, Mode, ModeSet, PolicyChanged, RestartAdmitted,
    RestartDeferred, RestartOutcome, RestartSettled, RestartSuppressed, Strategy,
};
use covalence_events::seal::ERASED;
use covalence_events::workspace::{self, BackendKind, RestartCause};
use covalence_events::{Fact, Recorded, RestartId, StreamId, Timestamp, WorkspaceId};

use super::cell::{Brake, Circuit, Observer, Tokens, Trial, TrialOutcome};
use super::{
    Advised, Alarm, Decided, Decision, Grace, Hold, InFlight, POLICIES_MAX, PolicyInForce, Quarantine,
    Supervision, Waiting,
};
use crate::projection::{ApplyError, Projection};

/// The rule that quarantines.
const INTENSITY: &str = "intensity";

impl Projection for Supervision {
    const NAME: &'static str = "supervision";
    const VERSION: u32 = 1;

    fn apply(&mut self, recorded: &Recorded) -> Result<(), ApplyError> {
        match (recorded.stream, &recorded.fact) {
            (StreamId::Workspace(id), Fact::Workspace(event)) => self.workspace(id, event, recorded),
            (StreamId::Fleet, Fact::Fleet(event)) => self.fleet(event, recorded),
            (StreamId::Workspace(_), Fact::Fleet(_)) | (StreamId::Fleet, Fact::Workspace(_)) => {
                return Err(ApplyError::WrongStream {
                    position: recorded.position,
                    tag: recorded.fact.tag(),
                });
            }
        }
        Ok(())
    }
}

/// What most decisions have in common.
fn decision(recorded: &Recorded, workspace: WorkspaceId, decided: Decided) -> Decision {
    Decision {
        position: recorded.position,
        id: recorded.meta.id,
        at: recorded.meta.at,
        workspace,
        decided,
        rule: None,
        restart: None,
        cause: None,
        until: None,
        overridden: Vec::new(),
        policy: recorded.meta.policy,
        inputs: None,
    }
}

impl Supervision {
    fn workspace(&mut self, id: WorkspaceId, event: &workspace::Event, recorded: &Recorded) {
        // A chain, not a match: the others say nothing about supervision.
        if let workspace::Event::VerdictWithheld(e) = event {
            let rule = Some(e.rule.clone());
            self.note(Decision { rule, ..decision(recorded, id, Decided::Withheld) });
        } else if let workspace::Event::DeathRefuted(e) = event {
            let restart = Some(e.restart);
            self.note(Decision { restart, ..decision(recorded, id, Decided::Refuted) });
        }
        if let workspace::Event::Erased(_) = event {
            self.erase(id);
            return;
        }
        if let workspace::Event::Removed(_) = event {
            self.watches.remove(&id);
            self.quarantined.remove(&id);
            self.strategies.remove(&id);
            return;
        }
        if let Some(watch) = self.watches.get_mut(&id) {
            watch.take(event, recorded);
        } else {
            let mut watch = super::Watch::default();
            watch.take(event, recorded);
            if !watch.is_empty() {
                self.watches.insert(id, watch);
            }
        }
    }

    /// What can't be read in the log any more is not shown either.
    fn erase(&mut self, id: WorkspaceId) {
        let named =
            |scope: &Scope| matches!(scope, Scope::Workspace(named) | Scope::Subtree(named) if *named == id);
        self.watches.remove(&id);
        for hold in self.holds.values_mut().filter(|hold| named(&hold.scope)) {
            ERASED.clone_into(&mut hold.reason);
        }
        for advised in self.advised.iter_mut().filter(|advised| named(&advised.scope)) {
            ERASED.clone_into(&mut advised.reason);
        }
        for alarm in self.alarms.values_mut().filter(|alarm| alarm.workspace == Some(id)) {
            ERASED.clone_into(&mut alarm.message);
        }
    }

    fn note(&mut self, decision: Decision) {
        self.decisions.push(decision.position, decision.workspace, 1, decision);
    }

    #[expect(clippy::too_many_lines, reason = "one arm for every kind of fact, exhaustive on purpose")]
    fn fleet(&mut self, event: &Event, recorded: &Recorded) {
        let at = recorded.meta.at;
        match event {
            Event::RestartAdmitted(e) => self.admitted(e, recorded),
            Event::RestartDeferred(e) => self.deferred(e, recorded),
            Event::RestartSuppressed(e) => self.suppressed(e, recorded),
            Event::RestartSettled(e) => self.settled(e, at),
            Event::RestartProved(e) => {
                let cell = self.cells.entry(e.cell).or_default();
                if let Some(tokens) = &mut cell.tokens {
                    tokens.reward(at);
                }
                if let Some(trial) = cell.trial.as_mut().filter(|trial| trial.restart == e.restart) {
                    trial.outcome = TrialOutcome::Proved;
                }
            }
            Event::BrakeEngaged(e) => {
                let cell = self.cells.entry(e.cell).or_default();
                cell.brake = Some(Brake::engaged(e, cell.brake.as_ref(), at));
                if e.mode == BrakeMode::Canary {
                    cell.trial = None;
                }
            }
            Event::BrakeReleased(e) => {
                let cell = self.cells.entry(e.cell).or_default();
                (cell.brake, cell.trial) = (None, None);
            }
            Event::ObserverChanged(e) => {
                let observer = Some(Observer { change: e.clone(), since: at });
                match e.cell {
                    Some(cell) => self.cells.entry(cell).or_default().observer = observer,
                    None => self.platform = observer,
                }
            }
            Event::CircuitChanged(e) => {
                let cell = self.cells.entry(e.cell).or_default();
                if e.state == CircuitState::Closed {
                    cell.let_next();
                }
                cell.circuit = Some(Circuit {
                    state: e.state,
                    rule: e.rule.clone(),
                    calls: e.calls,
                    failed: e.failed,
                    p95_ms: e.p95_ms,
                    probe_at: e.probe_at,
                    since: at,
                });
            }
            Event::ProvisionLimitChanged(e) => {
                self.cells.entry(e.cell).or_default().provisions = Some(e.to);
            }
            Event::GraceStarted(e) => {
                self.grace = Some(Grace { since: at, until: e.until });
                for cell in self.cells.values_mut() {
                    cell.grace_over = false;
                }
            }
            Event::GraceEnded(e) => self.cells.entry(e.cell).or_default().grace_over = true,
            Event::HoldSet(e) => self.held(e, recorded),
            Event::HoldReleased(e) => drop(self.holds.remove(&e.hold)),
            Event::ModeSet(e) => self.mode_set(e, recorded),
            Event::StrategySet(e) => {
                self.strategies.remove(&e.team);
                if e.strategy != Strategy::OneForOne {
                    self.strategies.insert(e.team, e.strategy);
                }
            }
            Event::PolicyChanged(e) => self.policy_changed(e, recorded),
            Event::QuarantineProbed(e) => {
                if let Some(quarantine) = self.quarantined.get_mut(&e.workspace) {
                    (quarantine.tries, quarantine.tries_max) = (e.attempt, Some(e.attempts_max));
                }
            }
            Event::QuarantineLifted(e) => drop(self.quarantined.remove(&e.workspace)),
            Event::AlarmRaised(e) => {
                let key = (e.kind.clone(), e.workspace);
                let (kind, workspace, message) = (e.kind.clone(), e.workspace, e.message.clone());
                self.alarms.insert(key, Alarm { kind, workspace, message, since: at });
            }
            Event::AlarmResolved(e) => drop(self.alarms.remove(&(e.kind.clone(), e.workspace))),
            Event::PlatformStarted(_) => self.restarted(),
            // What happened to the process, the log or somebody else's instances is no supervision; a lost engine is an alarm;
            // incidents are read from the log itself.
            Event::PlatformStopped(_)
            | Event::TailRepaired(_)
            | Event::LogMended(_)
            | Event::EngineLost(_)
            | Event::EngineFound(_)
            | Event::StrangerFound(_)
            | Event::IncidentOpened(_)
            | Event::IncidentNoted(_)
            | Event::IncidentClosed(_)
            | Event::SecretSet(_)
            | Event::SecretRemoved(_)
            | Event::MasterKeyRotated(_)
            | Event::OrgTokenIssued(_)
            | Event::OrgTokenRevoked(_)
            | Event::FlightRecorded(_)
            | Event::FlightLost(_)
            | Event::InvariantViolated(_) => {}
        }
    }

    /// A new run of the platform looks at its backends afresh.
    fn restarted(&mut self) {
        (self.grace, self.platform) = (None, None);
        for cell in self.cells.values_mut() {
            cell.restarted();
        }
    }

    fn admitted(&mut self, e: &RestartAdmitted, recorded: &Recorded) {
        let at = recorded.meta.at;
        let inputs = e.inputs.as_deref();
        let kind = inputs.map(|inputs| inputs.cell);
        self.died((e.workspace, e.restart, e.cause), kind);
        self.waiting.remove(&e.restart);
        let flight = InFlight { workspace: e.workspace, cause: e.cause, cell: kind, since: at };
        self.in_flight.insert(e.restart, flight);
        if let Some(inputs) = inputs {
            let cell = self.cells.entry(inputs.cell).or_default();
            cell.tokens = Some(Tokens::said(inputs.tokens - e.cost.unwrap_or_default(), at));
            if let Some(brake) = cell.brake.as_mut().filter(|_| e.cause == RestartCause::Death) {
                brake.last_let = Some(at);
                if brake.mode == BrakeMode::Canary {
                    let outcome = TrialOutcome::Starting;
                    cell.trial = Some(Trial { restart: e.restart, workspace: e.workspace, at, outcome });
                }
            }
        }
        self.note(Decision {
            restart: Some(e.restart),
            cause: Some(e.cause),
            overridden: e.overridden.clone(),
            inputs: e.inputs.clone(),
            ..decision(recorded, e.workspace, Decided::Admitted)
        });
    }

    fn deferred(&mut self, e: &RestartDeferred, recorded: &Recorded) {
        let inputs = e.inputs.as_deref();
        let kind = inputs.map(|inputs| inputs.cell);
        self.died((e.workspace, e.restart, e.cause), kind);
        self.said(inputs, recorded.meta.at);
        let earlier = self.waiting.get(&e.restart).map(|waiting| waiting.since);
        let waiting = Waiting {
            workspace: e.workspace,
            cause: e.cause,
            cell: kind,
            since: earlier.unwrap_or(recorded.meta.at),
            rule: e.rule.clone(),
            until: e.until,
        };
        self.waiting.insert(e.restart, waiting);
        self.note(Decision {
            rule: Some(e.rule.clone()),
            restart: Some(e.restart),
            cause: Some(e.cause),
            until: e.until,
            inputs: e.inputs.clone(),
            ..decision(recorded, e.workspace, Decided::Deferred)
        });
    }

    fn suppressed(&mut self, e: &RestartSuppressed, recorded: &Recorded) {
        let at = recorded.meta.at;
        let inputs = e.inputs.as_deref();
        self.died((e.workspace, e.restart, e.cause), inputs.map(|inputs| inputs.cell));
        self.said(inputs, at);
        self.waiting.remove(&e.restart);
        if e.rule == INTENSITY {
            let fresh = Quarantine { since: at, tries: 0, tries_max: None };
            self.quarantined.entry(e.workspace).or_insert(fresh);
        }
        self.note(Decision {
            rule: Some(e.rule.clone()),
            restart: Some(e.restart),
            cause: Some(e.cause),
            until: e.until,
            inputs: e.inputs.clone(),
            ..decision(recorded, e.workspace, Decided::Suppressed)
        });
    }

    /// A decision that took no token says how many there were, too.
    fn said(&mut self, inputs: Option<&AdmissionInputs>, at: Timestamp) {
        if let Some(inputs) = inputs {
            self.cells.entry(inputs.cell).or_default().tokens = Some(Tokens::said(inputs.tokens, at));
        }
    }

    /// A canary that dies again has failed.
    fn died(
        &mut self,
        (workspace, restart, cause): (WorkspaceId, RestartId, RestartCause),
        kind: Option<BackendKind>,
    ) {
        if cause != RestartCause::Death || self.waiting.contains_key(&restart) {
            return;
        }
        let trial = kind.and_then(|kind| self.cells.get_mut(&kind)).and_then(|cell| cell.trial.as_mut());
        if let Some(trial) = trial.filter(|trial| {
            let trying = matches!(trial.outcome, TrialOutcome::Starting | TrialOutcome::Heard);
            trying && trial.workspace == workspace && trial.restart != restart
        }) {
            trial.outcome = TrialOutcome::Failed;
        }
    }

    fn settled(&mut self, e: &RestartSettled, at: Timestamp) {
        self.waiting.remove(&e.restart);
        let Some(flight) = self.in_flight.remove(&e.restart) else { return };
        let Some(cell) = flight.cell.map(|kind| self.cells.entry(kind).or_default()) else { return };
        if e.outcome == RestartOutcome::Online {
            cell.let_next();
        }
        if let Some(trial) = cell.trial.as_mut().filter(|trial| trial.restart == e.restart) {
            match e.outcome {
                RestartOutcome::Online => trial.outcome = TrialOutcome::Heard,
                RestartOutcome::Failed | RestartOutcome::Unstarted => {
                    trial.outcome = TrialOutcome::Failed;
                }
                // It was not needed, or not wanted: another one is tried.
                RestartOutcome::Abandoned => cell.trial = None,
            }
        }
        if e.outcome == RestartOutcome::Abandoned
            && flight.cause.is_automatic()
            && let Some(tokens) = &mut cell.tokens
        {
            tokens.reward(at);
        }
    }

    fn held(&mut self, e: &HoldSet, recorded: &Recorded) {
        let hold = Hold {
            id: e.hold,
            scope: e.scope,
            reason: e.reason.clone(),
            by: recorded.meta.principal.clone(),
            since: recorded.meta.at,
            until: e.until,
            emergency: e.emergency,
        };
        self.holds.insert(e.hold, hold);
    }

    fn mode_set(&mut self, e: &ModeSet, recorded: &Recorded) {
        self.advised.retain(|known| known.scope != e.scope);
        if e.mode == Mode::Advise {
            self.advised.push(Advised {
                scope: e.scope,
                reason: e.reason.clone(),
                by: recorded.meta.principal.clone(),
                since: recorded.meta.at,
            });
        }
    }

    fn policy_changed(&mut self, e: &PolicyChanged, recorded: &Recorded) {
        if self.policies.len() == POLICIES_MAX {
            self.policies.pop_front();
        }
        let changed = e.changed.iter();
        self.policies.push_back(PolicyInForce {
            hash: e.hash,
            parameters: e.parameters.clone(),
            changed: changed.map(|c| (c.name.clone(), c.from.clone(), c.to.clone())).collect(),
            reason: e.reason.clone(),
            origin: e.origin.clone(),
            by: recorded.meta.principal.clone(),
            since: recorded.meta.at,
        });
    }
}
