//! `DELETE /workspaces/{id}`.

#![expect(unused_qualifications, reason = "the OpenAPI macro repeats the names of query types")]

use std::collections::HashSet;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, delete, web};
use covalence_actors::runtime::{CommandError, Receipt};
use covalence_actors::workspace::command::Remove;
use covalence_actors::workspace::{Command, Rejection};
use covalence_events::workspace::Event;
use covalence_events::{Fact, Generation, Position, Principal, Recorded, WorkspaceId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::http::auth;
use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::outcome::await_fact;
use crate::http::request::{Ctx, workspace_id};
use crate::http::workspaces::{present, settled};

/// The contract's budget for stopping what was removed.
const STOPS_WITHIN: Duration = Duration::from_secs(30);

/// How it is removed.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RemoveQuery {
    /// `true`: also with everything below it.
    confirm: Option<String>,
    /// `true`: volumes and files go too. The history stays.
    purge: Option<String>,
    /// The workspace that stands in for it from now on: whoever asks where it is, is sent there.
    forward_to: Option<String>,
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct RemovedView {
    /// `removed` or `purged`.
    status: &'static str,
    /// How many went with it.
    cascade_deleted: usize,
}

/// Removes a workspace and everything below it, for good: first all are marked removed, then they are stopped. A repeated
/// removal stops again what could not be stopped before.
#[utoipa::path(
    tag = "workspaces", params(("id" = String, Path), RemoveQuery),
    responses(
        (status = 200, body = RemovedView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 409, description = "it has children, and `confirm` was not given; or `forward_to` is not there to stay"), (status = 500, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[delete("/workspaces/{id}")]
pub(crate) async fn remove(ctx: Ctx, path: web::Path<String>, query: web::Query<RemoveQuery>) -> Answer {
    let principal = auth::admin(&ctx)?;
    let id = workspace_id(&path)?;
    let is = |flag: &Option<String>| flag.as_deref() == Some("true");
    let wish = Wish {
        confirm: is(&query.confirm),
        purge: is(&query.purge),
        forward_to: query.forward_to.as_deref().map(successor).transpose()?,
    };
    // A task of its own: once begun, a removal is finished, whether its caller waits or not.
    let state = std::sync::Arc::clone(&ctx.state);
    let task = state.inner.calls.track_future(run(ctx, id, principal, wish));
    actix_web::rt::spawn(task).await.map_err(|reason| ApiError::internal("internal error", reason))?
}

/// What a removal is asked to do.
#[derive(Clone, Copy, Debug)]
struct Wish {
    confirm: bool,
    purge: bool,
    forward_to: Option<WorkspaceId>,
}

fn no_successor() -> ApiError {
    ApiError::conflict("unknown_successor", "forward_to must be another workspace that stays")
        .field("forward_to")
}

fn successor(id: &str) -> Result<WorkspaceId, ApiError> {
    workspace_id(id).map_err(|error| error.field("forward_to"))
}

async fn run(ctx: Ctx, id: WorkspaceId, principal: Principal, wish: Wish) -> Answer {
    let (below, marked) = {
        let _structure = ctx.state.inner.structure.lock().await;
        let (children, below, unstopped) = {
            let roster = ctx.state.views.roster.read();
            (roster.children(id), roster.descendants(id), roster.unstopped(id))
        };
        if !children.is_empty() && !wish.confirm {
            return Ok(confirmation(&children));
        }
        let below: Vec<WorkspaceId> = below.iter().map(|row| row.id).collect();
        if let Some(successor) = wish.forward_to {
            present(&ctx, successor).map_err(|_| no_successor())?;
            if successor == id || below.contains(&successor) {
                return Err(no_successor());
            }
        }
        let cascade_deleted = Some(u32::try_from(below.len()).unwrap_or(u32::MAX));
        let root = Remove { cascade_deleted, purge: wish.purge, forwarded_to: wish.forward_to };
        let others = Remove { purge: wish.purge, ..Remove::default() };
        let others = below.iter().chain(&unstopped).map(|id| (*id, others));
        let marked = mark(&ctx, std::iter::once((id, root)).chain(others), &principal).await?;
        (below, marked)
    };
    stopped(&ctx, &marked, below.len() + 1).await?;
    let status = if wish.purge { "purged" } else { "removed" };
    Ok(settled(&ctx, last(&marked), StatusCode::OK, RemovedView { status, cascade_deleted: below.len() })
        .await)
}

fn confirmation(children: &[std::sync::Arc<covalence_projections::Row>]) -> HttpResponse {
    let named: Vec<_> = children.iter().map(|row| json!({"id": row.id, "name": row.name})).collect();
    HttpResponse::Conflict().json(json!({
        "status": "confirmation_required",
        "code": "confirmation_required",
        "message": "this workspace has children: repeat with ?confirm=true to remove them too",
        "children": named,
        "children_count": children.len(),
    }))
}

/// What was marked removed, and the facts about it.
pub(super) type Marked = Vec<(WorkspaceId, Receipt)>;

/// The last fact about what was marked.
pub(super) fn last(marked: &Marked) -> Option<Position> {
    marked.iter().filter_map(|(_, receipt)| receipt.position).max()
}

/// Marks each of them removed; those that are not there any more count as done, and are stopped again where that failed.
pub(super) async fn mark(
    ctx: &Ctx,
    all: impl Iterator<Item = (WorkspaceId, Remove)>,
    principal: &Principal,
) -> Result<Marked, ApiError> {
    let mut marked = Vec::new();
    for (id, order) in all {
        match ctx.state.runtime.command(id, Command::Remove(order), ctx.origin(principal.clone())).await {
            Ok(receipt) => marked.push((id, receipt)),
            Err(CommandError::Rejected(Rejection::NotFound | Rejection::Removed)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    ctx.caught_up(last(&marked)).await;
    Ok(marked)
}

/// Waits for the stops that the removals asked for, of `count` workspaces; an error says which failed.
pub(super) async fn stopped(ctx: &Ctx, marked: &Marked, count: usize) -> Result<(), ApiError> {
    let failed = stops(ctx, marked).await;
    if failed.is_empty() {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "stop_failed",
        format!(
            "workspace marked removed, but {} stop call(s) failed — please retry: {}",
            failed.len(),
            failed.join("; ")
        ),
    )
    .with("removed_count", count)
    .with("stop_failures", failed.len()))
}

/// Waits for the stops that the removals asked for; answers which failed, in words.
async fn stops(ctx: &Ctx, marked: &Marked) -> Vec<String> {
    let asked = |fact: &Recorded| match (&fact.fact, fact.subject()) {
        (Fact::Workspace(Event::StopRequested(stop)), Some(id)) => Some((id, stop.generation)),
        _ => None,
    };
    let mut open: HashSet<(WorkspaceId, Generation)> =
        marked.iter().flat_map(|(_, receipt)| &receipt.events).filter_map(|fact| asked(fact)).collect();
    let mut failed = Vec::new();
    let from = marked.iter().filter_map(|(_, receipt)| receipt.position).min().unwrap_or(Position(0));
    if !open.is_empty() {
        await_fact(&ctx.state, from, STOPS_WITHIN, |fact| {
            match (&fact.fact, fact.subject()) {
                (Fact::Workspace(Event::InstanceStopped(stopped)), Some(id)) => {
                    open.remove(&(id, stopped.generation));
                }
                (Fact::Workspace(Event::StopFailed(failure)), Some(id))
                    if open.remove(&(id, failure.generation)) =>
                {
                    failed.push(format!("{id}: {}", failure.message));
                }
                _ => {}
            }
            open.is_empty().then_some(())
        })
        .await;
    }
    failed.extend(
        open.into_iter().map(|(id, _)| format!("{id}: not stopped within {} s", STOPS_WITHIN.as_secs())),
    );
    failed
}
