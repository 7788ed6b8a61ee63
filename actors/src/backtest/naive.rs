//! No policy at all: whoever does not answer is dead.

use std::collections::BTreeSet;

use covalence_events::fleet;
use covalence_events::workspace::{Event, EvidenceClass};
use covalence_events::{Generation, Recorded, WorkspaceId};

use super::{Backtest, Difference, Kind, Under};
use crate::workspace::State;
use crate::workspace::state::Instance;

/// Each instance dies once.
pub(super) type Condemned = BTreeSet<(WorkspaceId, Generation)>;

const AT_ONCE: &str = "dead, and restarted at once";

impl Backtest {
    /// An error of the way to an instance.
    pub(super) fn judge_error(&mut self, id: WorkspaceId, event: &Event, recorded: &Recorded) {
        let Event::EvidenceObserved(e) = event else { return };
        if matches!(self.under, Under::Naive) && e.class == EvidenceClass::ObserverFailure {
            self.report.judged += 1;
            self.condemn(id, &format!("alive: {} proves nothing", e.code), recorded);
        }
    }

    /// An engine that does not answer: each inspect of what it runs fails.
    pub(super) fn judge_lost_engine(&mut self, event: &fleet::Event, recorded: &Recorded) {
        let fleet::Event::EngineLost(e) = event else { return };
        if !matches!(self.under, Under::Naive) {
            return;
        }
        self.report.judged += 1;
        let of_engine = |state: &&State| state.profile.backend.as_str() == e.engine;
        let ids: Vec<_> = self.scene.workspaces.values().filter(of_engine).map(|state| state.id).collect();
        for id in ids {
            self.condemn(id, &format!("alive: the engine's {} proves nothing", e.code), recorded);
        }
    }

    fn condemn(&mut self, id: WorkspaceId, was: &str, recorded: &Recorded) {
        let Some(state) = self.scene.workspaces.get(&id) else { return };
        let runs = state.is_desired() && matches!(state.instance, Instance::Running { .. });
        if !runs || !self.condemned.insert((id, state.generation)) {
            return;
        }
        self.report.added += 1;
        self.note(Difference {
            at: recorded.meta.at,
            position: recorded.position,
            kind: Kind::Verdict,
            workspace: Some(id),
            recorded: was.to_owned(),
            under: AT_ONCE.to_owned(),
            seconds: None,
            extrapolated: false,
        });
    }
}
