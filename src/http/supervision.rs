//! The operator's side of supervision: what was decided and why, what could begin right now, and the hand on the brake.
//!
//! Everything shown is read from the projections. What could begin is not worked out here: the policy's own rules are asked,
//! with the numbers that the projections have.

use std::sync::Arc;

use actix_web::{HttpResponse, get, web};
use covalence_events::WorkspaceId;
use covalence_events::fleet::{Mode, Scope};
use covalence_events::workspace::BackendKind;
use covalence_projections::roster::{Removed, Roster, Row};
use covalence_projections::supervision::Supervision;

use crate::http::as_of::AsOf;
use crate::http::auth;
use crate::http::error::{Answer, ErrorBody};
use crate::http::request::{Ctx, workspace_id};
use crate::http::view::SupervisionView;

pub mod backtest;
pub(crate) mod gauges;
pub mod holds;
pub mod policy;
mod room;
pub mod view;

use view::person::{AlarmView, Names};
use view::reasons::{self, WorkspaceSupervision};
use view::{FailingView, FleetView, PolicyName};

/// Decisions on the one screen that an operator looks at first.
const LAST_DECISIONS: usize = 10;
/// Workspaces, restarts and alarms that one answer names at most; beside `waiting` and `failing` stands how many there are.
const LIST_MAX: usize = 100;

/// What the supervisor does, would do and has done: for each cell how many automatic restarts could begin right now and what
/// stops the next one, and beside that everything that holds restarts back.
#[utoipa::path(
    tag = "supervision", params(AsOf),
    responses((status = 200, body = FleetView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
    security(("bearer" = []))
)]
#[get("/admin/supervision")]
pub(crate) async fn fleet(ctx: Ctx, as_of: AsOf) -> Answer {
    auth::admin(&ctx)?;
    let seen = as_of.seen(&ctx).await?;
    let at = seen.at(&ctx);
    let in_force = seen.policy(&ctx);
    let roster = seen.roster.read();
    let supervision = seen.supervision.read();
    let names = Names(&roster);
    let rows = roster.list(Removed::Hide);
    let failing: Vec<&Arc<Row>> =
        rows.iter().filter(|row| row.standing.condition.needs_attention()).collect();
    let mut cells: Vec<BackendKind> = ctx.state.backends.keys().copied().collect();
    cells.sort_unstable();
    // Nobody of ours can restart what somebody else runs.
    cells.retain(|cell| *cell != BackendKind::External);
    let around = room::Around { policy: &in_force, supervision: &supervision, rows: &rows, at };
    let everybody = |scope: &Scope| *scope == Scope::Fleet;
    let body = FleetView {
        at,
        policy: PolicyName::of(in_force.hash(), supervision.policy()),
        mode: if supervision.advised().iter().any(|one| everybody(&one.scope)) { "advise" } else { "act" },
        advised: supervision.advised().iter().map(|one| names.advised(one)).collect(),
        cells: cells.into_iter().map(|cell| around.cell(cell)).collect(),
        in_flight: supervision.in_flight().take(LIST_MAX).map(|one| names.in_flight(one)).collect(),
        in_flight_max: in_force.in_flight_ceiling,
        waiting: supervision.waiting().take(LIST_MAX).map(|one| names.waiting(one)).collect(),
        waiting_total: supervision.waiting().count(),
        holds: supervision.holds().take(LIST_MAX).map(|hold| names.hold(hold)).collect(),
        alarms: alarms(&ctx, as_of.is_past(), &supervision, &names),
        quarantined: supervision.quarantined().take(LIST_MAX).map(|one| names.quarantined(one)).collect(),
        failing: failing.iter().take(LIST_MAX).map(|row| FailingView::of(row)).collect(),
        failing_total: failing.len(),
        workspaces: rows.len(),
        platform_score: supervision.platform().map_or(0, |observer| observer.change.score),
        decisions: supervision.decisions(LAST_DECISIONS).iter().map(|one| names.decision(one)).collect(),
    };
    drop((supervision, roster));
    Ok(HttpResponse::Ok().json(body))
}

/// The alarms that are on; what is wrong now with our own disk and log also where the log has not taken it.
fn alarms(ctx: &Ctx, past: bool, supervision: &Supervision, names: &Names<'_>) -> Vec<AlarmView> {
    let recorded = supervision.alarms().map(|alarm| names.alarm(alarm));
    let mut alarms: Vec<AlarmView> = recorded.take(LIST_MAX).collect();
    if !past {
        let own = ctx.state.conditions.list();
        let own = own.into_iter().filter(|own| !supervision.alarms().any(|known| known.kind == own.kind));
        alarms.extend(own.map(AlarmView::own));
    }
    alarms
}

/// Why a workspace was restarted, and why it was not: what speaks against it, what holds it back, and the last decisions
/// about it with the numbers that they were made from. For its operator and for itself.
#[utoipa::path(
    tag = "supervision", params(("id" = String, Path), AsOf),
    responses(
        (status = 200, body = WorkspaceSupervision), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[get("/workspaces/{id}/supervision")]
pub(crate) async fn of_workspace(ctx: Ctx, as_of: AsOf, path: web::Path<String>) -> Answer {
    let id = workspace_id(&path)?;
    auth::workspace(&ctx, id)?;
    let seen = as_of.seen(&ctx).await?;
    let row = seen.row(&ctx, id)?;
    let roster = seen.roster.read();
    let supervision = seen.supervision.read();
    let names = Names(&roster);
    let above = above(&roster, id);
    let advised = supervision.advised().iter().find(|one| one.scope.covers(id, above.iter().copied()));
    let watch = supervision.watch(id);
    let body = WorkspaceSupervision {
        workspace: id,
        name: row.name.clone(),
        status: row.status.as_str(),
        supervision: SupervisionView::advised(&row),
        doubts: watch.map(reasons::doubts).unwrap_or_default(),
        suspicion: watch.and_then(|watch| watch.suspicion.as_ref()).map(reasons::suspicion),
        withheld: watch.and_then(|watch| watch.withheld.as_ref()).map(reasons::withheld),
        evidence: watch.map(reasons::seen).unwrap_or_default(),
        quarantine: supervision.quarantine(id).map(|one| names.quarantined((id, one))),
        holds: supervision
            .holds()
            .filter(|hold| hold.scope.covers(id, above.iter().copied()))
            .map(|hold| names.hold(hold))
            .collect(),
        mode: advised.map_or(Mode::Act, |_| Mode::Advise).into(),
        strategy: supervision.strategy(id).as_str(),
        decisions: supervision
            .decisions_about(id, usize::MAX)
            .iter()
            .map(|decision| names.decision(decision))
            .collect(),
    };
    drop((supervision, roster));
    Ok(HttpResponse::Ok().json(body))
}

/// The ancestors of a workspace; a damaged hierarchy has none.
fn above(roster: &Roster, id: WorkspaceId) -> Vec<WorkspaceId> {
    roster.ancestors(id).map(|rows| rows.iter().map(|row| row.id).collect()).unwrap_or_default()
}
