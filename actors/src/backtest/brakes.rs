//! Brakes that were engaged, and others that would have been.

use covalence_events::fleet::{BrakeMode, BrakeReading, BrakeTrigger, CircuitState, Event};
use covalence_events::workspace::BackendKind;
use covalence_events::{Fact, Recorded, Timestamp, WorkspaceId};

use super::{Backtest, Decision, Difference, Kind, Under};
use crate::context::Roster;
use crate::fleet::decide::braking;
use crate::fleet::state::many;
use crate::policy::{Policy, brake};
use crate::workspace::state::Instance;

/// The parameters that engage a brake.
const PARAMETERS: &[&str] = &[
    "brake_window",
    "brake_suspects_min",
    "brake_suspects_share",
    "brake_deaths_min",
    "brake_deaths_share",
    "score_brake",
    "grace_deaths_share",
];
const CELLS: [BackendKind; 2] = [BackendKind::Process, BackendKind::Docker];

const RELEASED: &str = "released";

/// Which brake a reading speaks for.
fn speaks_for(policy: &Policy, reading: &BrakeReading) -> Option<(BrakeMode, BrakeTrigger, u32, u32)> {
    let deaths = brake::deaths_threshold(policy, reading);
    if reading.deaths_recent >= deaths {
        let trigger = if reading.in_grace { BrakeTrigger::Grace } else { BrakeTrigger::Deaths };
        return Some((BrakeMode::Canary, trigger, reading.deaths_recent, deaths));
    }
    let freeze = brake::freeze_trigger(policy, reading);
    freeze.map(|(trigger, count, threshold)| (BrakeMode::Freeze, trigger, count, threshold))
}

fn words(mode: BrakeMode, trigger: BrakeTrigger, count: u32, threshold: u32) -> String {
    format!("{} for {}: {count} of {threshold}", mode.as_str(), trigger.as_str())
}

impl Backtest {
    /// A brake that was engaged for what could be counted. What follows from its canary rests on how that went.
    pub(super) fn judge_brake(&mut self, event: &Event, recorded: &Recorded) {
        let Event::BrakeEngaged(e) = event else { return };
        if matches!(self.under, Under::Recorded) {
            return;
        }
        let counted = matches!(
            (e.mode, e.trigger),
            (BrakeMode::Freeze, BrakeTrigger::Suspicion | BrakeTrigger::Observer | BrakeTrigger::Everybody)
                | (BrakeMode::Canary, BrakeTrigger::Deaths | BrakeTrigger::Grace)
        );
        // A canary that is tried again after its pause rests on the pause.
        let retried = self.scene.fleet.brake_mode(e.cell) == Some(BrakeMode::Freeze)
            && e.mode == BrakeMode::Canary
            && e.count < e.threshold;
        if !counted || retried {
            return;
        }
        self.report.judged += 1;
        let would = match &self.under {
            Under::Naive | Under::Recorded => None,
            Under::Policy(policy) => {
                let mut reading = e.reading.clone();
                if self.differ.contains("brake_window") {
                    let now = recorded.meta.at;
                    (reading.suspects_recent, reading.deaths_recent) =
                        self.recent(e.cell, policy, &e.members, now);
                }
                speaks_for(policy, &reading)
            }
        };
        if would.is_some_and(|(mode, ..)| mode == e.mode) {
            self.braked.insert(e.cell);
            return;
        }
        self.note(Difference {
            at: recorded.meta.at,
            position: recorded.position,
            kind: Kind::Brake,
            workspace: None,
            recorded: format!(
                "{} braked: {}",
                e.cell.as_str(),
                words(e.mode, e.trigger, e.count, e.threshold)
            ),
            under: would.map_or_else(
                || "no brake".to_owned(),
                |(mode, trigger, count, threshold)| words(mode, trigger, count, threshold),
            ),
            seconds: None,
            extrapolated: false,
        });
    }

    /// Every step of a brake, by the rules as they are, with the brake and its canary as the facts before tell them.
    pub(super) fn judge_brake_again(&mut self, event: &Event, recorded: &Recorded) {
        if !matches!(self.under, Under::Recorded) {
            return;
        }
        let (cell, reading, was) = match event {
            Event::BrakeEngaged(e) => (e.cell, &e.reading, words(e.mode, e.trigger, e.count, e.threshold)),
            // What a person releases is no decision of ours.
            Event::BrakeReleased(e) if e.reason == braking::TRIGGER_GONE => {
                (e.cell, &e.reading, RELEASED.to_owned())
            }
            _ => return,
        };
        self.report.judged += 1;
        let (state, now) = (&self.scene.other, recorded.meta.at);
        let engaged = state.cells.get(&cell).and_then(|cell| cell.brake.as_ref());
        let canary = braking::canary_now(state, cell, now);
        let would = match brake::judge(&state.policy, engaged, reading, canary, now) {
            Some(brake::Change::Engage { mode, trigger, count, threshold }) => {
                words(mode, trigger, count, threshold)
            }
            Some(brake::Change::Release) => RELEASED.to_owned(),
            None => "as it was".to_owned(),
        };
        self.list(Decision {
            at: now,
            position: recorded.position,
            kind: Kind::Brake,
            workspace: None,
            recorded: format!("brake of {}: {was}", cell.as_str()),
            under: format!("brake of {}: {would}", cell.as_str()),
        });
    }

    /// Whether the other policy would engage a brake by now that was not engaged.
    pub(super) fn look_around(&mut self, recorded: &Recorded) {
        let Under::Policy(policy) = &self.under else { return };
        if !self.differs_in(PARAMETERS) || !counts(&recorded.fact) {
            return;
        }
        let (policy, now) = (policy.clone(), recorded.meta.at);
        for cell in CELLS {
            let engaged = self.scene.fleet.brake_mode(cell).is_some();
            let reading = self.reading(cell, &policy, now);
            match speaks_for(&policy, &reading) {
                Some(would) if !engaged && self.braked.insert(cell) => {
                    let (mode, trigger, count, threshold) = would;
                    self.note(Difference {
                        at: now,
                        position: recorded.position,
                        kind: Kind::Brake,
                        workspace: None,
                        recorded: format!("{} not braked", cell.as_str()),
                        under: words(mode, trigger, count, threshold),
                        seconds: None,
                        extrapolated: false,
                    });
                }
                None if !engaged => _ = self.braked.remove(&cell),
                Some(_) | None => {}
            }
        }
    }

    fn reading(&self, cell: BackendKind, policy: &Policy, now: Timestamp) -> BrakeReading {
        let view = self.scene.view(cell, now);
        let (suspects_recent, deaths_recent) = self.recent(cell, policy, &[], now);
        BrakeReading {
            size: self.scene.table.size(cell),
            suspects: many(self.suspects(cell).count()),
            suspects_recent,
            deaths_recent,
            observer_score: view.score,
            circuit_open: self.scene.circuits.get(&cell).is_some_and(|state| *state != CircuitState::Closed),
            in_grace: view.in_grace,
            calm_ms: 0,
        }
    }

    fn suspects(&self, cell: BackendKind) -> impl Iterator<Item = Timestamp> {
        let suspects = self.scene.suspects.iter().filter_map(|id| self.scene.workspaces.get(id));
        suspects
            .filter(move |state| {
                state.profile.backend == cell
                    && state.is_desired()
                    && matches!(state.instance, Instance::Running { .. })
            })
            .filter_map(|state| state.doubts.values().min().copied())
    }

    /// Suspects and deaths within the policy's window.
    fn recent(
        &self,
        cell: BackendKind,
        policy: &Policy,
        announced: &[WorkspaceId],
        now: Timestamp,
    ) -> (u32, u32) {
        let since = now - policy.brake_window;
        let suspects = self.suspects(cell).filter(|at| *at > since).count();
        (many(suspects), many(self.scene.fleet.deaths_since(cell, since, announced).len()))
    }
}

/// Whether a fact changes what a reading counts.
fn counts(fact: &Fact) -> bool {
    use covalence_events::workspace::Event as Workspace;
    matches!(
        fact,
        Fact::Workspace(Workspace::SuspicionRaised(_) | Workspace::SuspicionCleared(_))
            | Fact::Fleet(
                Event::RestartAdmitted(_)
                    | Event::RestartDeferred(_)
                    | Event::RestartSuppressed(_)
                    | Event::ObserverChanged(_)
                    | Event::CircuitChanged(_)
                    | Event::BrakeReleased(_)
            )
    )
}
