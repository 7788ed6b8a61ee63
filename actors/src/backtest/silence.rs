//! When silence amounts to *hung*, under the other policy.

use std::collections::{BTreeMap, BTreeSet};

use covalence_events::workspace::{Event, Verdict};
use covalence_events::{Position, Recorded, Timestamp, WorkspaceId};

use super::{Backtest, Difference, Kind, Under};
use crate::policy::verdict::{self, LIVENESS_TTL};
use crate::workspace::State;
use crate::workspace::state::Instance;

/// The parameters that the verdict rests on.
const PARAMETERS: &[&str] = &["liveness_ttl", "hung_sources", "hung_score_max"];

/// Whom the other policy has found hung, when, and after which fact.
#[derive(Debug, Default)]
pub(super) struct Silences {
    found: BTreeMap<WorkspaceId, (Timestamp, Position)>,
    /// Whose silence was a verdict on record already, until something new is known of them.
    over: BTreeSet<WorkspaceId>,
    /// The moment up to which was listened.
    listened: Option<Timestamp>,
}

impl Backtest {
    fn other_silence(&self) -> bool {
        matches!(self.under, Under::Policy(_)) && self.differs_in(PARAMETERS)
    }

    /// Time goes on: who is silent for the whole window by now?
    pub(super) fn listen(&mut self, now: Timestamp, position: Position) {
        if !self.other_silence() {
            return;
        }
        let before = self.silences.listened.replace(now);
        let hung: Vec<_> = self
            .scene
            .suspects
            .iter()
            .filter(|id| !self.silences.found.contains_key(id) && !self.silences.over.contains(id))
            .filter_map(|id| Some((*id, self.hung(self.scene.workspaces.get(id)?, now).ok()?)))
            .collect();
        for (id, since) in hung {
            // Whatever else it rests on was so when the last fact had been taken, or came with that fact.
            let at = before.map_or(since, |before| since.max(before));
            self.silences.found.insert(id, (at, position));
        }
    }

    /// Since when it counts as hung, or why it does not.
    fn hung(&self, state: &State, now: Timestamp) -> Result<Timestamp, String> {
        let (policy, cell) = (&self.scene.other.policy, state.profile.backend);
        let listens = !state.is_external()
            && state.restart.is_none()
            && matches!(state.instance, Instance::Running { .. });
        let view = self.scene.view(cell, now);
        let due = state.heard(view.since) + policy.liveness_ttl;
        if !listens || due > now {
            return Err("not silent for long enough".to_owned());
        }
        let sources = u32::try_from(state.doubts.len()).unwrap_or(u32::MAX);
        match verdict::withheld(policy, sources, &view) {
            None => Ok(due),
            Some(rule) => Err(format!("withheld by {}", rule.as_str())),
        }
    }

    pub(super) fn judge_silence(&mut self, id: WorkspaceId, event: &Event, recorded: &Recorded) {
        if !self.other_silence() {
            return;
        }
        match event {
            Event::VerdictReached(e) if e.verdict == Verdict::Dead && e.rule == LIVENESS_TTL => {
                self.report.judged += 1;
                self.was_hung(id, recorded);
                self.silences.over.insert(id);
            }
            Event::SuspicionCleared(e) => {
                self.silences.over.remove(&id);
                let was = format!("alive: the suspicion was cleared by {}", e.by);
                self.was_not_hung(id, &was);
            }
            Event::ProvisionRequested(_) | Event::StopRequested(_) => _ = self.silences.found.remove(&id),
            _ => {}
        }
    }

    fn was_hung(&mut self, id: WorkspaceId, recorded: &Recorded) {
        let now = recorded.meta.at;
        let was = "hung".to_owned();
        let difference = if let Some((at, position)) = self.silences.found.remove(&id) {
            let seconds = (at - now).num_seconds();
            if seconds == 0 {
                return;
            }
            self.report.found_earlier += 1;
            (at, position, "hung, earlier".to_owned(), Some(seconds))
        } else {
            let state = self.scene.workspaces.get(&id);
            let Some(Err(why)) = state.map(|state| self.hung(state, now)) else { return };
            self.report.found_later += 1;
            (now, recorded.position, format!("not yet: {why}"), None)
        };
        let (at, position, under, seconds) = difference;
        self.note(Difference {
            at,
            position,
            kind: Kind::Verdict,
            workspace: Some(id),
            recorded: was,
            under,
            seconds,
            extrapolated: false,
        });
    }

    fn was_not_hung(&mut self, id: WorkspaceId, was: &str) {
        let Some((at, position)) = self.silences.found.remove(&id) else { return };
        self.report.added += 1;
        self.note(Difference {
            at,
            position,
            kind: Kind::Verdict,
            workspace: Some(id),
            recorded: was.to_owned(),
            under: "hung, and a restart asked for".to_owned(),
            seconds: None,
            extrapolated: false,
        });
    }

    /// The record ends: whoever is silent still was not found hung.
    pub(super) fn listened(&mut self) {
        let left: Vec<_> = self.silences.found.keys().copied().collect();
        for id in left {
            self.was_not_hung(id, "silent until the end of the range");
        }
    }
}
