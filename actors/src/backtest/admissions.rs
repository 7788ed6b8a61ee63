//! Restarts that were judged, judged again.

use chrono::TimeDelta;
use covalence_events::fleet::{AdmissionInputs, Event};
use covalence_events::workspace::RestartCause;
use covalence_events::{Recorded, RestartId, Timestamp, WorkspaceId};

use super::{Backtest, Decision, Difference, Kind};
use crate::context::Roster;
use crate::fleet::decide::braking;
use crate::policy::admission::{self, Admission};
use crate::policy::brake;

/// Waits that end this close to each other are the same.
const SAME: TimeDelta = TimeDelta::seconds(1);

/// What was decided, in the words of either side.
#[derive(Clone, Debug, PartialEq)]
enum Decided {
    Admitted,
    Deferred { rule: String, until: Option<Timestamp> },
    Suppressed { rule: String },
}

impl Decided {
    /// By how many seconds the other one ends later, where both wait by the same rule.
    fn later(&self, other: &Self) -> Option<i64> {
        match (self, other) {
            (
                Self::Deferred { rule, until: Some(until) },
                Self::Deferred { rule: same, until: Some(other) },
            ) if rule == same => Some(*other - *until).filter(|later| later.abs() >= SAME),
            _ => None,
        }
        .map(|later| later.num_seconds())
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Deferred { rule, .. }, Self::Deferred { rule: same, .. }) if rule == same => {
                self.later(other).is_none()
            }
            _ => self == other,
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Admitted => "admitted".to_owned(),
            Self::Deferred { rule, until: None } => format!("deferred by {rule}"),
            Self::Deferred { rule, until: Some(until) } => {
                format!(
                    "deferred by {rule} until {}",
                    until.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
                )
            }
            Self::Suppressed { rule } => format!("refused by {rule}"),
        }
    }
}

impl From<Admission> for Decided {
    fn from(admission: Admission) -> Self {
        match admission {
            Admission::Admitted { .. } => Self::Admitted,
            Admission::Deferred { rule, until } => Self::Deferred { rule: rule.to_owned(), until },
            Admission::Suppressed { rule, .. } => Self::Suppressed { rule: rule.to_owned() },
        }
    }
}

struct Asked<'a> {
    workspace: WorkspaceId,
    restart: RestartId,
    cause: RestartCause,
    inputs: Option<&'a AdmissionInputs>,
}

impl Backtest {
    pub(super) fn judge_admission(&mut self, event: &Event, recorded: &Recorded) {
        let (asked, was) = match event {
            Event::RestartAdmitted(e) => {
                let inputs = e.inputs.as_deref();
                let asked = Asked { workspace: e.workspace, restart: e.restart, cause: e.cause, inputs };
                (asked, Decided::Admitted)
            }
            Event::RestartDeferred(e) => {
                let inputs = e.inputs.as_deref();
                let asked = Asked { workspace: e.workspace, restart: e.restart, cause: e.cause, inputs };
                (asked, Decided::Deferred { rule: e.rule.clone(), until: e.until })
            }
            Event::RestartSuppressed(e) => {
                let inputs = e.inputs.as_deref();
                let asked = Asked { workspace: e.workspace, restart: e.restart, cause: e.cause, inputs };
                (asked, Decided::Suppressed { rule: e.rule.clone() })
            }
            _ => return,
        };
        if was == Decided::Admitted {
            self.admitted.insert(asked.restart);
        }
        let Some(inputs) = asked.inputs else {
            self.report.unjudged += 1;
            if was == Decided::Admitted {
                self.would_be_admitted.insert(asked.restart);
            }
            return;
        };
        self.report.judged += 1;
        let would = match self.other_policy() {
            None => Decided::Admitted,
            Some(policy) => {
                admission::admit(policy, asked.cause, &self.seen_otherwise(&asked, inputs)).into()
            }
        };
        if would == Decided::Admitted {
            self.would_be_admitted.insert(asked.restart);
        }
        self.list(Decision {
            at: recorded.meta.at,
            position: recorded.position,
            kind: Kind::Admission,
            workspace: Some(asked.workspace),
            recorded: format!("restart for {} {}", asked.cause.as_str(), was.words()),
            under: format!("restart for {} {}", asked.cause.as_str(), would.words()),
        });
        if !was.is_same(&would) {
            self.note(Difference {
                at: recorded.meta.at,
                position: recorded.position,
                kind: Kind::Admission,
                workspace: Some(asked.workspace),
                recorded: format!("restart for {} {}", asked.cause.as_str(), was.words()),
                under: would.words(),
                seconds: was.later(&would),
                extrapolated: false,
            });
        }
    }

    /// The recorded numbers, less those that another policy counts differently.
    fn seen_otherwise(&self, asked: &Asked<'_>, inputs: &AdmissionInputs) -> AdmissionInputs {
        let (state, now, cell) = (&self.scene.other, inputs.now, inputs.cell);
        let policy = &state.policy;
        let mut inputs = inputs.clone();
        if self.differs_in(&["backoff_reset"]) {
            inputs.in_a_row = state.since(asked.workspace, now - policy.backoff_reset);
        }
        if self.differs_in(&["intensity_window"]) {
            inputs.recent = state.started_since(asked.workspace, now - policy.intensity_window);
            let quarantine = state.quarantined.get(&asked.workspace);
            inputs.quarantined = quarantine.is_some_and(|last| now < last.last + policy.intensity_window);
        }
        if self.differs_in(&["in_flight_min", "in_flight_share"]) {
            inputs.in_flight_max = policy.in_flight_max(self.scene.table.size(cell));
        }
        if self.differs_in(&["bucket_capacity", "bucket_refill", "cost_death", "cost_hung"]) {
            inputs.tokens = state.tokens(cell, now);
        }
        if self.differs_in(&["freeze_death_every", "start_budget", "probation"]) {
            let brake = state.cells.get(&cell).and_then(|cell| cell.brake.as_ref());
            let canary = braking::canary_now(state, cell, now);
            inputs.brake_lets_one =
                brake.is_none_or(|brake| brake::lets(policy, brake, asked.cause, canary, now));
        }
        inputs
    }
}
