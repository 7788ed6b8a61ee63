//! What could begin right now: the projections' numbers, put to the policy's own rules.

use std::sync::Arc;

use covalence_actors::policy::Policy;
use covalence_actors::policy::brake::{Brake, Canary};
use covalence_actors::policy::bucket::Bucket;
use covalence_actors::policy::headroom::{Surroundings, headroom};
use covalence_events::Timestamp;
use covalence_events::fleet::Scope;
use covalence_events::workspace::{BackendKind, RestartCause};
use covalence_projections::roster::{Row, Status};
use covalence_projections::supervision::cell::Cell;
use covalence_projections::supervision::{Supervision, Tokens, TrialOutcome};

use super::view::{self, AllowedView, CellView, RoomView, TokensView};

/// Everything that an answer about cells is made from.
pub(super) struct Around<'a> {
    pub(super) policy: &'a Policy,
    pub(super) supervision: &'a Supervision,
    pub(super) rows: &'a [Arc<Row>],
    pub(super) at: Timestamp,
}

impl Around<'_> {
    pub(super) fn cell(&self, kind: BackendKind) -> CellView {
        let (policy, at) = (self.policy, self.at);
        let unknown = Cell::default();
        let cell = self.supervision.cell(kind).unwrap_or(&unknown);
        let around = self.surroundings(kind, cell);
        let allowed = |cause| {
            let found = headroom(policy, cause, &around, at);
            RoomView { restarts: found.restarts, limited_by: found.rule, until: found.until }
        };
        CellView {
            cell: kind.as_str(),
            size: around.size,
            allowed: AllowedView { death: allowed(RestartCause::Death), hung: allowed(RestartCause::Hung) },
            in_flight: around.in_flight,
            in_flight_max: policy.in_flight_max(around.size),
            tokens: TokensView {
                level: view::rounded(around.bucket.level(policy, at)),
                capacity: policy.bucket_capacity,
                refill_per_second: policy.bucket_refill,
            },
            brake: cell.brake.as_ref().map(|brake| view::brake(brake, cell.trial.as_ref())),
            observer: view::observer(cell.observer.as_ref()),
            circuit: view::circuit(cell.circuit.as_ref()),
            grace: self.supervision.grace(kind).map(Into::into),
            provisions_max: cell.provisions.unwrap_or(policy.provisions_start),
            suspects: self.suspects(kind),
        }
    }

    fn surroundings(&self, kind: BackendKind, cell: &Cell) -> Surroundings {
        let (policy, at) = (self.policy, self.at);
        let everybody = self.supervision.holds().filter(|hold| hold.scope == Scope::Fleet);
        let hold = everybody.max_by_key(|hold| (hold.emergency, hold.until.is_none(), hold.until));
        let flying = self.supervision.in_flight().filter(|(_, one)| one.cell == Some(kind));
        Surroundings {
            cell: kind,
            size: self.size(kind),
            in_flight: count(flying.count()),
            in_flight_all: count(self.supervision.in_flight().count()),
            bucket: bucket(policy, cell.tokens.as_ref(), at),
            brake: cell.brake.as_ref().map(|brake| Brake {
                mode: brake.mode,
                trigger: brake.trigger,
                since: brake.since,
                mode_since: brake.mode_since,
                last_let: brake.last_let,
            }),
            canary: self.canary(cell),
            in_grace: self.supervision.grace(kind).is_some(),
            hold: hold.map(|hold| (hold.id, hold.until)),
            emergency: hold.is_some_and(|hold| hold.emergency),
            advise_only: self.supervision.advised().iter().any(|one| one.scope == Scope::Fleet),
        }
    }

    /// Workspaces of a cell that should be running.
    fn size(&self, kind: BackendKind) -> u32 {
        let wanted =
            |row: &Row| !matches!(row.status, Status::Paused | Status::Removed) && !row.status.is_asleep();
        count(self.rows.iter().filter(|row| row.backend == kind && wanted(row)).count())
    }

    fn suspects(&self, kind: BackendKind) -> u32 {
        let suspect = |row: &Arc<Row>| self.supervision.watch(row.id).is_some_and(|w| w.suspicion.is_some());
        count(self.rows.iter().filter(|row| row.backend == kind && suspect(row)).count())
    }

    fn canary(&self, cell: &Cell) -> Canary {
        let Some(trial) = cell.trial else { return Canary::None };
        let (canary, settled) = match trial.outcome {
            TrialOutcome::Starting => (Canary::Trying, false),
            TrialOutcome::Heard => (Canary::Trying, true),
            TrialOutcome::Proved => (Canary::Proved, true),
            TrialOutcome::Failed => (Canary::Failed, true),
        };
        canary.by(self.policy, settled, trial.at, self.at)
    }
}

pub(super) fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// The bucket as the facts have left it; time fills it.
fn bucket(policy: &Policy, tokens: Option<&Tokens>, at: Timestamp) -> Bucket {
    match tokens {
        None => Bucket::full(policy, at),
        Some(tokens) => {
            let said = Bucket::holding(tokens.level, tokens.at);
            tokens.rewards.iter().fold(said, |bucket, at| bucket.reward(policy, *at))
        }
    }
}

#[cfg(test)]
mod tests;
