//! What should run against what does.

use std::collections::BTreeMap;
use std::time::Duration;

use covalence_events::fleet::StrangerFound;
use covalence_events::workspace::{EvidenceClass, EvidenceObserved, EvidenceSource, InstanceRef};
use covalence_events::{Generation, Timestamp, WorkspaceId};

use super::{Around, Input, Outcome, Output, Seen, Watch};
use crate::effect::{BackendError, Inspection, Listed, ListedState};
use crate::fleet::Command;
use crate::policy::Policy;

/// An instance that is made and does not run may still be on its way for so many times [`Policy::outcome_wait`]; one that was
/// made for a start which never came stays like that for ever.
const BETWEEN_WAITS: i32 = 4;
/// Unknown instances that are remembered as told.
const STRANGERS_MAX: usize = 1024;

impl Watch {
    pub(super) fn listed(
        &mut self,
        around: &Around<'_>,
        result: Result<Vec<Listed>, BackendError>,
        took: Duration,
        out: &mut Vec<Output>,
    ) {
        self.listing = false;
        self.called(around, (true, result.is_err()), took, out);
        match result {
            Err(error) => self.engine_lost(error, out),
            Ok(listed) => {
                if std::mem::take(&mut self.lost) {
                    let engine = self.cell.as_str().to_owned();
                    out.push(Output::Fleet(Command::RecordEngineFound { engine }));
                }
                let adopting = !std::mem::replace(&mut self.listed, true);
                self.compare(around, &listed, adopting, out);
            }
        }
        if std::mem::take(&mut self.list_again) {
            self.list(around.now, out);
        }
    }

    fn compare(&mut self, around: &Around<'_>, listed: &[Listed], adopting: bool, out: &mut Vec<Output>) {
        let &Around { policy, seen, now } = around;
        let by_instance: BTreeMap<&str, &Listed> =
            listed.iter().map(|item| (item.instance.id.as_str(), item)).collect();
        let mut dead = Vec::new();
        for one in seen {
            if let Some(outcome) = one.unknown.and_then(|_| outcome(policy, one, listed, now)) {
                let (workspace, generation) = (one.workspace, one.generation);
                out.push(Output::Outcome { workspace, generation, outcome });
            }
            let Some(instance) = &one.instance else { continue };
            match by_instance.get(instance.id.as_str()).map(|item| &item.state) {
                Some(ListedState::Running) if adopting => out.push(Output::Adopted {
                    workspace: one.workspace,
                    generation: one.generation,
                    instance: instance.clone(),
                }),
                Some(ListedState::Running | ListedState::Between) => {}
                Some(ListedState::Stopped { exit_status }) => {
                    dead.push((one.workspace, stopped(one.generation, instance, *exit_status)));
                }
                None => self.doubt(one, instance),
            }
        }
        self.announce(around, &dead, out);
        self.look(policy, out);
        let by_workspace: BTreeMap<WorkspaceId, &Seen> =
            seen.iter().map(|one| (one.workspace, one)).collect();
        for item in listed {
            let known = item.workspace.and_then(|id| by_workspace.get(&id).copied());
            self.misplaced(item, known, out);
        }
    }

    /// What a list does not show may have started a moment ago, or the list may be narrower than we think.
    fn doubt(&mut self, one: &Seen, instance: &InstanceRef) {
        let known = self.looking.contains(&one.workspace)
            || self.waiting.iter().any(|(workspace, ..)| *workspace == one.workspace);
        if !known {
            self.waiting.push_back((one.workspace, one.generation, instance.clone()));
        }
    }

    /// Sends as many looks at single instances as may be under way.
    pub(super) fn look(&mut self, policy: &Policy, out: &mut Vec<Output>) {
        while self.looking.len() < policy.confirm_at_once as usize
            && let Some((workspace, generation, instance)) = self.waiting.pop_front()
        {
            self.looking.insert(workspace);
            out.push(Output::Inspect { workspace, generation, instance });
        }
    }

    /// Something runs that should not: a workspace that is paused or removed, or that the log does not know.
    fn misplaced(&mut self, item: &Listed, known: Option<&Seen>, out: &mut Vec<Output>) {
        let Some(one) = known else {
            if self.strangers.len() < STRANGERS_MAX && self.strangers.insert(item.instance.id.clone()) {
                out.push(Output::Fleet(Command::RecordStranger(StrangerFound {
                    engine: self.cell.as_str().to_owned(),
                    name: item.name.clone(),
                    instance: item.instance.id.clone(),
                    workspace: item.workspace.map(|id| id.to_string()),
                })));
            }
            return;
        };
        if item.state == ListedState::Running && !one.desired && !one.between && one.unknown.is_none() {
            let evidence = EvidenceObserved {
                source: EvidenceSource::List,
                class: EvidenceClass::Life,
                generation: item.generation.unwrap_or(one.generation),
                instance: Some(item.instance.clone()),
                code: "running".to_owned(),
                detail: "it runs though it should not".to_owned(),
                exit_status: None,
            };
            out.push(Output::Evidence { workspace: one.workspace, evidence });
        }
    }
}

/// What a complete list says about a start or a stop whose outcome nobody knew. Absence means something only after a
/// while: the engine may still be at it (it does not stop because we stopped waiting).
fn outcome(policy: &Policy, one: &Seen, listed: &[Listed], now: Timestamp) -> Option<Outcome> {
    let unknown = one.unknown?;
    let patient = now < unknown.since + policy.outcome_wait;
    let mine = |item: &&Listed| item.workspace == Some(one.workspace);
    let running: Option<&Listed> = listed
        .iter()
        .filter(mine)
        .find(|item| item.state == ListedState::Running && item.generation == Some(one.generation));
    let on_its_way = now
        < unknown.since
            + chrono::TimeDelta::from_std(policy.outcome_wait).unwrap_or_default() * BETWEEN_WAITS;
    let between = on_its_way && listed.iter().filter(mine).any(|item| item.state == ListedState::Between);
    match (unknown.start, running) {
        (true, Some(item)) => {
            Some(Outcome::Started { instance: item.instance.clone(), url: item.url.clone() })
        }
        (true, None) => (!patient && !between).then_some(Outcome::NotStarted),
        (false, Some(_)) => (!patient).then_some(Outcome::NotStopped),
        (false, None) => (!between).then_some(Outcome::Stopped),
    }
}

pub(super) fn exited(
    generation: Generation,
    instance: InstanceRef,
    exit_status: Option<i32>,
    detail: String,
) -> EvidenceObserved {
    EvidenceObserved {
        source: EvidenceSource::Exit,
        class: EvidenceClass::Death,
        generation,
        instance: Some(instance),
        code: "exited".to_owned(),
        detail,
        exit_status,
    }
}

fn stopped(generation: Generation, instance: &InstanceRef, exit_status: Option<i32>) -> EvidenceObserved {
    let detail = exit_status.map_or_else(
        || "the list shows it stopped".to_owned(),
        |status| format!("exited with status {status}"),
    );
    EvidenceObserved {
        source: EvidenceSource::List,
        ..exited(generation, instance.clone(), exit_status, detail)
    }
}

/// What one look is worth; nothing for a running instance, which is what was expected.
pub fn inspected(
    inspection: Inspection,
    generation: Generation,
    instance: &InstanceRef,
) -> Option<EvidenceObserved> {
    match inspection {
        Inspection::Running(_) => None,
        seen => Some(looked(&seen, generation, instance)),
    }
}

/// One look at one instance, as evidence.
pub fn looked(inspection: &Inspection, generation: Generation, instance: &InstanceRef) -> EvidenceObserved {
    let (class, code, detail, exit_status) = match inspection {
        Inspection::Running(_) => (EvidenceClass::Life, "running", "it runs".to_owned(), None),
        Inspection::NotThere { code, detail, exit_status } => {
            (EvidenceClass::Death, *code, detail.clone(), *exit_status)
        }
        Inspection::Unknown(error) => {
            (EvidenceClass::ObserverFailure, error.code, error.detail.clone(), None)
        }
    };
    EvidenceObserved {
        source: EvidenceSource::Inspect,
        class,
        generation,
        instance: Some(instance.clone()),
        code: code.to_owned(),
        detail,
        exit_status,
    }
}

impl Input {
    /// Whether an observation failed in a way that says something about the engine. Fewer starts at once are asked of it from
    /// then on: a start that times out says so only much later.
    pub fn is_engine_trouble(&self) -> bool {
        matches!(
            self,
            Self::Listed { result: Err(_), .. } | Self::Inspected { inspection: Inspection::Unknown(_), .. }
        )
    }

    /// Whether everybody has to be shown for it. Under load there are many of the others, and many workspaces.
    pub fn looks_around(&self) -> bool {
        matches!(self, Self::Turn | Self::Listed { .. } | Self::Inspected { .. } | Self::Signals(_))
    }
}

/// Whose evidence is worth a note in the metrics.
pub fn is_observer_failure(evidence: &EvidenceObserved) -> bool {
    evidence.class == EvidenceClass::ObserverFailure
}
