//! What people ask of the supervisor: holds, releases, modes, strategies, policies.

use std::collections::BTreeMap;

use covalence_events::fleet::{
    HoldReleased, HoldSet, ModeSet, ParameterChange, PolicyChanged, QuarantineLifted, QuarantineProbed,
    Scope, StrategySet,
};
use covalence_events::{EventId, HoldId, Timestamp, WorkspaceId};

use super::{Draft, admit, braking};
use crate::fleet::command::Command;
use crate::fleet::state::{Hold, State};
use crate::policy::Policy;
use crate::workspace::Rejection;

/// The origin of a policy that came with the configuration.
pub(crate) const FROM_CONFIGURATION: &str = "configuration";
/// The alarm about a workspace that died too often.
pub(super) const CRASH_LOOP: &str = "crash_loop";

#[expect(clippy::too_many_lines, reason = "one arm for every command, exhaustive on purpose")]
pub(super) fn asked(draft: &mut Draft<'_>, command: &Command) -> Result<(), Rejection> {
    match command {
        Command::SetHold { scope, reason, lasts, emergency } => {
            if !emergency && *lasts > draft.policy().hold_max {
                return Err(Rejection::HoldTooLong { max_s: draft.policy().hold_max.as_secs() });
            }
            let until = (!emergency).then(|| draft.now() + *lasts);
            let scope = if *emergency { Scope::Fleet } else { *scope };
            let hold = draft.ctx.hold_id();
            draft.push(HoldSet { hold, scope, reason: reason.clone(), until, emergency: *emergency });
        }
        Command::ReleaseHold { hold, comment } => {
            if !draft.state.holds.contains_key(hold) {
                return Err(Rejection::NoSuchHold);
            }
            release(draft, *hold, "released", comment.clone());
        }
        Command::ReleaseBrake { cell } => {
            if draft.state.brake_mode(*cell).is_none() {
                return Err(Rejection::NoBrake);
            }
            braking::release(draft, *cell, "operator", covalence_events::fleet::BrakeReading::default());
            admit::waiting(draft);
        }
        Command::LiftQuarantine { workspace } => {
            let Some(quarantine) = draft.state.quarantined.get(workspace).copied() else {
                return Err(Rejection::NotQuarantined);
            };
            // Lifted by being tried: the try passes over the crash loop's limits, and ends the quarantine when it holds.
            let attempts_max = draft.policy().quarantine_tries;
            let attempt = quarantine.tries.saturating_add(1);
            draft.push(QuarantineProbed { workspace: *workspace, attempt, attempts_max });
        }
        Command::SetMode { scope, mode, reason } => {
            draft.push(ModeSet { scope: *scope, mode: *mode, reason: reason.clone() });
            admit::waiting(draft);
        }
        Command::SetStrategy { team, strategy } => {
            draft.push(StrategySet { team: *team, strategy: *strategy });
        }
        Command::SetPolicy { policy, reason } => {
            policy.check().map_err(|error| Rejection::InvalidPolicy { reason: error.to_string() })?;
            change_policy(draft, policy, ("set", reason));
        }
        Command::RollBackPolicy { hash, reason } => {
            let earlier = draft.state.earlier.iter().rev();
            let found = earlier.clone().find(|(known, _)| hash.is_none_or(|hash| hash == *known));
            let policy = found.map(|(_, policy)| policy.clone()).ok_or(Rejection::NoSuchPolicy)?;
            change_policy(draft, &policy, ("rollback", reason));
        }
        Command::SetSecret { .. }
        | Command::RemoveSecret { .. }
        | Command::IssueOrgToken(_)
        | Command::RevokeOrgToken { .. }
        | Command::RecordKeyRotated(_)
        | Command::RequestAdmission { .. }
        | Command::SettleRestart { .. }
        | Command::ProveRestart { .. }
        | Command::RecordSurvey(_)
        | Command::RecordDeadline
        | Command::OpenIncident(_)
        | Command::NoteIncident { .. }
        | Command::CloseIncident { .. }
        | Command::RaiseAlarm { .. }
        | Command::ResolveAlarm { .. }
        | Command::Configure(_)
        | Command::RecordStart(_)
        | Command::RecordStop(_)
        | Command::RecordRepair(_)
        | Command::RecordMended(_)
        | Command::RecordEngineLost(_)
        | Command::RecordEngineFound { .. }
        | Command::RecordStranger(_)
        | Command::RecordObserver(_)
        | Command::RecordCircuit(_)
        | Command::RecordProvisionLimit(_)
        | Command::RecordFlight(_) => {}
    }
    Ok(())
}

/// The configuration's policy holds from our start on, if it is another one than the configuration had before. One that
/// a person set since stays otherwise.
pub(super) fn configured(draft: &mut Draft<'_>, policy: &Policy) {
    if draft.state.configured != Some(policy.hash()) {
        change_policy(draft, policy, (FROM_CONFIGURATION, "the platform started with another configuration"));
    }
}

fn change_policy(draft: &mut Draft<'_>, policy: &Policy, (origin, reason): (&str, &str)) {
    let differences = draft.policy().differences(policy);
    if differences.is_empty() && origin != FROM_CONFIGURATION {
        return;
    }
    let changed =
        differences.into_iter().map(|(name, from, to)| ParameterChange { name: name.to_owned(), from, to });
    let changed = PolicyChanged {
        hash: policy.hash(),
        from: draft.policy().hash(),
        parameters: policy.to_document(),
        changed: changed.collect(),
        reason: reason.to_owned(),
        origin: origin.to_owned(),
    };
    draft.push(changed);
    admit::waiting(draft);
}

pub(super) fn lift_quarantine(
    draft: &mut Draft<'_>,
    workspace: WorkspaceId,
    reason: &str,
    because: Option<EventId>,
) {
    if draft.state.quarantined.contains_key(&workspace) {
        let lifted = draft.push_because(because, QuarantineLifted { workspace, reason: reason.to_owned() });
        draft.resolve(CRASH_LOOP.to_owned(), Some(workspace), Some(lifted));
    }
}

fn release(draft: &mut Draft<'_>, hold: HoldId, reason: &str, comment: Option<String>) {
    let released = draft.push(HoldReleased { hold, reason: reason.to_owned(), comment });
    draft.resolve(expiry_alarm(hold), None, Some(released));
    braking::after_hold(draft);
    admit::waiting(draft);
}

/// Ends the holds whose time is over.
pub(super) fn expire(draft: &mut Draft<'_>) {
    let now = draft.now();
    let over = draft.state.holds.iter().filter(|(_, hold)| hold.until.is_some_and(|until| until <= now));
    let over: Vec<_> = over.map(|(id, _)| *id).collect();
    for hold in over {
        release(draft, hold, "expired", None);
    }
}

fn expiry_alarm(hold: HoldId) -> String {
    format!("hold_expiring:{hold}")
}

/// When a person is told that a hold is about to end; none for one that is too short to be warned of.
fn warn_at(state: &State, hold: &Hold) -> Option<Timestamp> {
    let at = hold.until? - state.policy.hold_warning;
    (at > hold.since).then_some(at)
}

pub(super) fn warn_of_expiry(draft: &mut Draft<'_>) {
    let now = draft.now();
    let ending: BTreeMap<_, _> = draft
        .state
        .holds
        .iter()
        .filter(|(_, hold)| warn_at(&draft.state, hold).is_some_and(|at| at <= now))
        .filter_map(|(id, hold)| Some((*id, (hold.until?, hold.reason.clone()))))
        .collect();
    for (hold, (until, reason)) in ending {
        let minutes = (until - now).num_minutes();
        draft.raise(expiry_alarm(hold), None, format!("a hold ends in {minutes} min: {reason}"));
    }
}

/// When holds want to be looked at again though nothing happens.
pub(super) fn deadlines(state: &State) -> impl Iterator<Item = Timestamp> + '_ {
    state.holds.iter().flat_map(|(id, hold)| {
        let unsaid = !state.alarms.contains(&(expiry_alarm(*id), None));
        [hold.until, warn_at(state, hold).filter(|_| unsaid)].into_iter().flatten()
    })
}
