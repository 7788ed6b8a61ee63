//! Brakes: engaged, changed and released by what a survey shows and by what becomes of a canary.

use std::collections::BTreeSet;

use covalence_events::fleet::{
    BrakeEngaged, BrakeMode, BrakeReading, BrakeReleased, BrakeTrigger, GraceEnded,
};
use covalence_events::workspace::BackendKind;
use covalence_events::{Timestamp, WorkspaceId};

use super::{Draft, admit, incidents, members};
use crate::context::millis;
use crate::fleet::command::Survey;
use crate::fleet::state::{State, many};
use crate::policy::brake::{self, Brake, Canary, Change};

/// Why a brake is released that no person released.
pub(crate) const TRIGGER_GONE: &str = "trigger_gone";

/// What became of a cell's canary by now.
pub(crate) fn canary_now(state: &State, cell: BackendKind, now: Timestamp) -> Canary {
    let trial = state.cells.get(&cell).and_then(|cell| cell.trial);
    trial.map_or(Canary::None, |trial| trial.canary.by(&state.policy, trial.settled, trial.at, now))
}

pub(super) fn survey(draft: &mut Draft<'_>, survey: &Survey) {
    let (now, cell) = (draft.now(), survey.cell);
    if survey.listed
        && draft.state.in_grace(cell)
        && let Some((until, since)) = draft.state.grace
        && now >= until
    {
        draft.push(GraceEnded { cell, after_ms: millis(now - since) });
    }
    let reading = reading(draft, survey);
    judge(draft, reading, survey);
    admit::waiting(draft);
    super::alarms(draft);
}

fn reading(draft: &Draft<'_>, survey: &Survey) -> BrakeReading {
    let since = draft.now() - draft.policy().brake_window;
    BrakeReading {
        deaths_recent: many(draft.state.deaths_since(survey.cell, since, &survey.dead).len()),
        in_grace: draft.state.in_grace(survey.cell),
        ..survey.reading(draft.ctx.roster.size(survey.cell), since)
    }
}

fn judge(draft: &mut Draft<'_>, reading: BrakeReading, survey: &Survey) {
    let (now, cell) = (draft.now(), survey.cell);
    let engaged = draft.state.cells.get(&cell).and_then(|cell| cell.brake);
    let canary = canary_now(&draft.state, cell, now);
    match brake::judge(draft.policy(), engaged.as_ref(), &reading, canary, now) {
        None => {}
        Some(Change::Engage { mode, trigger, count, threshold }) => {
            let who = match trigger {
                BrakeTrigger::Suspicion | BrakeTrigger::Everybody => {
                    members(survey.suspects.iter().map(|(id, _)| *id))
                }
                BrakeTrigger::Deaths | BrakeTrigger::Grace => {
                    let since = now - draft.policy().brake_window;
                    members(draft.state.deaths_since(cell, since, &survey.dead))
                }
                BrakeTrigger::CanaryFailed => {
                    let trial = draft.state.cells.get(&cell).and_then(|cell| cell.trial);
                    members(trial.map(|trial| trial.workspace))
                }
                BrakeTrigger::Observer => Vec::new(),
            };
            let of = reading.size;
            let because =
                draft.push(BrakeEngaged { cell, mode, trigger, count, of, threshold, members: who, reading });
            if engaged.is_none() {
                incidents::braked(draft, cell, (mode, trigger), because);
            }
        }
        Some(Change::Release) => release(draft, cell, TRIGGER_GONE, reading),
    }
}

pub(super) fn release(draft: &mut Draft<'_>, cell: BackendKind, reason: &str, reading: BrakeReading) {
    let Some(brake) = draft.state.cells.get(&cell).and_then(|cell| cell.brake) else { return };
    let after_ms = millis(draft.now() - brake.since);
    let released = draft.push(BrakeReleased { cell, reason: reason.to_owned(), after_ms, reading });
    draft.resolve(alarm(cell), None, Some(released));
}

/// What a canary's end changes, without waiting for the next survey: its reading has nothing of the observer.
pub(super) fn canaries(draft: &mut Draft<'_>) {
    let cells: Vec<_> = draft.state.cells.keys().copied().collect();
    for cell in cells {
        let mode = draft.state.brake_mode(cell);
        let ended = matches!(canary_now(&draft.state, cell, draft.now()), Canary::Proved | Canary::Failed);
        if mode == Some(BrakeMode::Canary) && ended {
            let survey = unseen(cell);
            let reading = reading(draft, &survey);
            judge(draft, reading, &survey);
            alarms(draft);
        }
    }
}

/// Whether one more proven death makes too many of them: deaths come one by one, and the next survey may be seconds away.
pub(super) fn deaths(draft: &mut Draft<'_>, workspace: WorkspaceId, cell: BackendKind) {
    let survey = Survey { dead: vec![workspace], ..unseen(cell) };
    let reading = reading(draft, &survey);
    if reading.deaths_recent >= brake::deaths_threshold(draft.policy(), &reading) {
        judge(draft, reading, &survey);
    }
}

fn unseen(cell: BackendKind) -> Survey {
    Survey {
        cell,
        listed: false,
        suspects: Vec::new(),
        dead: Vec::new(),
        score: 0,
        circuit_open: false,
        calm_for: std::time::Duration::ZERO,
    }
}

/// After a hold, a good part of a cell that died meanwhile is started by canary.
pub(super) fn after_hold(draft: &mut Draft<'_>) {
    let cells: BTreeSet<_> = draft.state.waiting.values().map(|waiting| waiting.cell).collect();
    for cell in cells {
        let free = draft.state.waiting.values().filter(|waiting| {
            waiting.cell == cell
                && waiting.cause.is_automatic()
                && draft.state.hold_over(waiting.workspace, draft.ctx.roster).is_none()
        });
        let dead: Vec<_> = free.map(|waiting| waiting.workspace).collect();
        let mut reading = reading(draft, &unseen(cell));
        (reading.in_grace, reading.deaths_recent) = (true, many(dead.len()));
        let threshold = brake::deaths_threshold(draft.policy(), &reading);
        if draft.state.brake_mode(cell).is_none() && reading.deaths_recent >= threshold {
            let (mode, trigger) = (BrakeMode::Canary, BrakeTrigger::Grace);
            let (count, of) = (reading.deaths_recent, reading.size);
            let members = members(dead);
            let because =
                draft.push(BrakeEngaged { cell, mode, trigger, count, of, threshold, members, reading });
            incidents::braked(draft, cell, (mode, trigger), because);
        }
    }
}

fn alarm(cell: BackendKind) -> String {
    format!("brake:{}", cell.as_str())
}

/// When a brake that is engaged becomes an alarm: some at once, the others when they last.
fn alarm_at(state: &State, brake: &Brake) -> Timestamp {
    match brake.trigger {
        BrakeTrigger::Everybody | BrakeTrigger::CanaryFailed => brake.mode_since,
        BrakeTrigger::Suspicion | BrakeTrigger::Deaths | BrakeTrigger::Observer | BrakeTrigger::Grace => {
            brake.since + state.policy.unknown_alarm
        }
    }
}

pub(super) fn alarms(draft: &mut Draft<'_>) {
    let now = draft.now();
    let braked: Vec<_> =
        draft.state.cells.iter().filter_map(|(kind, cell)| Some((*kind, cell.brake?))).collect();
    for (cell, brake) in braked {
        if now < alarm_at(&draft.state, &brake) {
            continue;
        }
        let name = cell.as_str();
        let message = match brake.trigger {
            BrakeTrigger::Everybody => format!(
                "nobody on the {name} backend gives a sign of life: suspect the observer and its network first; nothing is \
                 restarted for silence"
            ),
            BrakeTrigger::CanaryFailed => format!(
                "the first of many dead workspaces on the {name} backend did not come back: the others are not started; see \
                 its log"
            ),
            BrakeTrigger::Suspicion | BrakeTrigger::Deaths | BrakeTrigger::Observer | BrakeTrigger::Grace => {
                let minutes = (now - brake.since).num_minutes();
                format!("restarts on the {name} backend have been held back for {minutes} min")
            }
        };
        draft.raise(alarm(cell), None, message);
    }
}

/// When brakes want to be looked at again though nothing happens.
pub(super) fn deadlines(state: &State) -> impl Iterator<Item = Timestamp> + '_ {
    state.cells.iter().flat_map(|(kind, cell)| {
        let unsaid = !state.alarms.contains(&(alarm(*kind), None));
        let alarm = cell.brake.filter(|_| unsaid).map(|brake| alarm_at(state, &brake));
        let waits = |trial: &crate::fleet::state::Trial| trial.canary == Canary::Trying && !trial.settled;
        let under_canary = cell.brake.is_some_and(|brake| brake.mode == BrakeMode::Canary);
        let budget = cell
            .trial
            .filter(|trial| under_canary && waits(trial))
            .map(|trial| trial.at + state.policy.start_budget);
        [alarm, budget].into_iter().flatten()
    })
}
