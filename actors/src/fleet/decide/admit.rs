//! One request judged, and those that wait judged again.

use covalence_events::fleet::{
    AdmissionInputs, QuarantineProbed, RestartAdmitted, RestartDeferred, RestartSuppressed, Strategy,
};
use covalence_events::workspace::{BackendKind, RestartCause};
use covalence_events::{EventId, RestartId, Timestamp, WorkspaceId};

use super::{Draft, braking, persons};
use crate::context::ancestors;
use crate::fleet::state::{Waiting, many};
use crate::policy::admission::{self, Admission};
use crate::policy::brake;

struct Asked {
    workspace: WorkspaceId,
    restart: RestartId,
    cause: RestartCause,
    cell: BackendKind,
    since: Timestamp,
    waited: bool,
    forced: bool,
    half_open: Option<u32>,
    because: Option<EventId>,
}

/// A request that is heard for the first time; repetitions change nothing.
pub(super) fn requested(
    draft: &mut Draft<'_>,
    (workspace, restart): (WorkspaceId, RestartId),
    cause: RestartCause,
    forced: bool,
) {
    let state = &draft.state;
    let known = state.waiting.contains_key(&restart) || state.in_flight.contains_key(&restart);
    if known || state.ended.get(&workspace).is_some_and(|ended| ended.contains(&restart)) {
        return;
    }
    let half_open = draft.state.quarantined.get(&workspace).filter(|q| q.open).map(|q| q.tries);
    let asked = Asked {
        workspace,
        restart,
        cause,
        cell: draft.ctx.roster.cell(workspace).unwrap_or(BackendKind::Process),
        since: draft.now(),
        waited: false,
        forced,
        half_open,
        because: draft.ctx.origin.causation,
    };
    if cause == RestartCause::Death {
        braking::deaths(draft, workspace, asked.cell);
    }
    judge(draft, &asked, None);
}

/// Looks again at what waits: roots first, then in the order of the requests.
pub(super) fn waiting(draft: &mut Draft<'_>) {
    let now = draft.now();
    let due = |waiting: &Waiting| {
        waiting.rule != admission::BACKOFF || waiting.until.is_none_or(|until| until <= now)
    };
    let mut queue: Vec<_> = draft
        .state
        .waiting
        .iter()
        .filter(|(_, waiting)| due(waiting))
        .map(|(restart, waiting)| {
            let depth = ancestors(draft.ctx.roster, waiting.workspace).count();
            (depth, waiting.order, *restart, waiting.clone())
        })
        .collect();
    queue.sort_by_key(|(depth, order, ..)| (*depth, *order));
    for (_, _, restart, waiting) in queue {
        let asked = Asked {
            workspace: waiting.workspace,
            restart,
            cause: waiting.cause,
            cell: waiting.cell,
            since: waiting.since,
            waited: waiting.waited || waiting.rule == admission::BACKOFF,
            forced: waiting.forced,
            half_open: waiting.half_open,
            because: Some(waiting.deferral),
        };
        judge(draft, &asked, Some(&waiting));
    }
}

/// Judges one request. Nothing is said about one that goes on waiting for the same reason.
fn judge(draft: &mut Draft<'_>, asked: &Asked, before: Option<&Waiting>) {
    let inputs = inputs(draft, asked);
    let decision = admission::admit(draft.policy(), asked.cause, &inputs);
    let now = draft.now();
    match decision {
        Admission::Deferred { rule, .. }
            if before.is_some_and(|w| w.rule == rule && w.until.is_none_or(|until| until > now)) => {}
        Admission::Admitted { cost, overridden } => admitted(draft, asked, inputs, (cost, overridden)),
        Admission::Deferred { rule, until } => {
            let deferred = RestartDeferred {
                workspace: asked.workspace,
                restart: asked.restart,
                cause: asked.cause,
                rule: rule.to_owned(),
                until,
                in_flight: inputs.in_flight,
                in_flight_max: inputs.in_flight_max,
                recent: inputs.recent,
                recent_max: draft.policy().intensity_max,
                inputs: Some(Box::new(inputs)),
            };
            draft.push_because(asked.because, deferred);
        }
        Admission::Suppressed { rule, until } => suppressed(draft, asked, inputs, (rule, until)),
    }
}

fn admitted(
    draft: &mut Draft<'_>,
    asked: &Asked,
    inputs: AdmissionInputs,
    (cost, overridden): (f64, Vec<&'static str>),
) {
    let admitted = RestartAdmitted {
        workspace: asked.workspace,
        restart: asked.restart,
        cause: asked.cause,
        in_flight: inputs.in_flight,
        in_flight_max: inputs.in_flight_max,
        recent: inputs.recent,
        recent_max: draft.policy().intensity_max,
        inputs: Some(Box::new(inputs)),
        cost: Some(cost),
        overridden: overridden.into_iter().map(str::to_owned).collect(),
        taken_along: taken_along(draft, asked),
    };
    let id = draft.push_because(asked.because, admitted);
    if asked.cause == RestartCause::Operator {
        persons::lift_quarantine(draft, asked.workspace, "operator", Some(id));
    }
}

fn suppressed(
    draft: &mut Draft<'_>,
    asked: &Asked,
    inputs: AdmissionInputs,
    (rule, until): (&'static str, Option<Timestamp>),
) {
    let recent = inputs.recent;
    let suppressed = RestartSuppressed {
        workspace: asked.workspace,
        restart: asked.restart,
        cause: asked.cause,
        rule: rule.to_owned(),
        recent,
        recent_max: draft.policy().intensity_max,
        window_s: draft.policy().intensity_window.as_secs(),
        inputs: Some(Box::new(inputs)),
        until,
    };
    draft.push_because(asked.because, suppressed);
    if rule == admission::INTENSITY {
        let message = format!(
            "it died {recent} times in a row and is quarantined: see its log, then restart it by hand"
        );
        draft.raise(persons::CRASH_LOOP.to_owned(), Some(asked.workspace), message);
    }
}

fn inputs(draft: &Draft<'_>, asked: &Asked) -> AdmissionInputs {
    let (state, policy, now, roster) = (&*draft.state, draft.policy(), draft.now(), draft.ctx.roster);
    let hold = state.hold_over(asked.workspace, roster);
    let brake = state.cells.get(&asked.cell).and_then(|cell| cell.brake.as_ref());
    let canary = braking::canary_now(state, asked.cell, now);
    AdmissionInputs {
        cell: asked.cell,
        requested_at: asked.since,
        now,
        in_a_row: state.since(asked.workspace, now - policy.backoff_reset),
        recent: state.started_since(asked.workspace, now - policy.intensity_window),
        in_flight: state.in_flight_of(asked.cell),
        in_flight_max: policy.in_flight_max(roster.size(asked.cell)),
        in_flight_all: many(state.in_flight.len()),
        tokens: state.tokens(asked.cell, now),
        brake: brake.map(|brake| brake.mode),
        brake_lets_one: brake.is_none_or(|brake| brake::lets(policy, brake, asked.cause, canary, now)),
        in_grace: state.in_grace(asked.cell),
        hold: hold.map(|(id, _)| id),
        hold_until: hold.and_then(|(_, hold)| hold.until),
        emergency: hold.is_some_and(|(_, hold)| hold.emergency),
        after_ancestor: ancestors(roster, asked.workspace).any(|ancestor| goes_first(draft, ancestor)),
        ancestor_paused: ancestors(roster, asked.workspace).any(|ancestor| roster.is_paused(ancestor)),
        advise_only: state.advises(asked.workspace, roster),
        quarantined: state
            .quarantined
            .get(&asked.workspace)
            .is_some_and(|quarantine| now < quarantine.last + policy.intensity_window),
        half_open: asked.half_open,
        forced: asked.forced,
        waited: asked.waited,
        chance: draft.ctx.chance,
    }
}

/// Whether a workspace's restart is under way, or only waits for its turn: then what is below it waits too.
fn goes_first(draft: &Draft<'_>, workspace: WorkspaceId) -> bool {
    let turn = [admission::ORDER, admission::TOKENS, admission::IN_FLIGHT];
    let waits = |w: &Waiting| w.workspace == workspace && turn.contains(&w.rule.as_str());
    draft.state.in_flight.values().any(|one| one.workspace == workspace)
        || draft.state.waiting.values().any(waits)
}

/// Who is restarted with it, by the strategy of its team.
fn taken_along(draft: &Draft<'_>, asked: &Asked) -> Vec<WorkspaceId> {
    let roster = draft.ctx.roster;
    let team = roster.parent(asked.workspace).filter(|_| asked.cause.is_automatic());
    let Some((team, strategy)) = team.and_then(|team| Some((team, *draft.state.strategies.get(&team)?)))
    else {
        return Vec::new();
    };
    let others = roster.team(team);
    let from = match strategy {
        Strategy::OneForOne => others.len(),
        Strategy::RestForOne => others.iter().position(|id| *id == asked.workspace).unwrap_or(others.len()),
        Strategy::OneForAll => 0,
    };
    others.into_iter().skip(from).filter(|id| *id != asked.workspace).collect()
}

/// Calls for the next try of those whose quarantine has lasted long enough.
pub(super) fn probe_quarantines(draft: &mut Draft<'_>) {
    let (now, attempts_max, pause) =
        (draft.now(), draft.policy().quarantine_tries, draft.policy().quarantine_pause);
    let due: Vec<_> = draft
        .state
        .quarantined
        .iter()
        .filter(|(_, q)| !q.open && q.tries < attempts_max && now >= q.last + pause)
        .map(|(workspace, q)| (*workspace, q.tries + 1))
        .collect();
    for (workspace, attempt) in due {
        draft.push(QuarantineProbed { workspace, attempt, attempts_max });
    }
}
