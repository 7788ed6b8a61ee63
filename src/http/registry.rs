//! `/registry`: what agents say of themselves, and what they may know of each other.

#![expect(unused_qualifications, reason = "the OpenAPI macro repeats the names of query types")]

use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, get, post, web};
use covalence_actors::runtime::CommandError;
use covalence_actors::workspace::{Command, Rejection};
use covalence_events::{Principal, WorkspaceId};
use covalence_projections::roster::{AccessRule, RootTalk};
use covalence_projections::{Row, Status};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use crate::http::as_of::AsOf;
use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::request::Ctx;
use crate::http::view::PeerView;
use crate::http::workspaces::settled;
use crate::http::{auth, body};

pub mod heartbeat;
pub mod register;

/// The registry's one text for a body that it can't use.
const INVALID: &str = "invalid request body";

/// An id in a body: one that is none names nobody.
fn id_in_body(text: &str, field: &'static str) -> Result<WorkspaceId, ApiError> {
    text.parse().map_err(|_| ApiError::bad("invalid_body", INVALID).field(field).detail("not a UUID"))
}

/// A new card.
#[derive(Debug, Deserialize, ToSchema)]
pub struct CardBody {
    /// Whose.
    #[schema(format = Uuid)]
    workspace_id: String,
    /// The card.
    #[schema(value_type = Object)]
    agent_card: Value,
}

/// Replaces an agent's card.
#[utoipa::path(
    tag = "registry", request_body = CardBody,
    responses((status = 200, description = "`{\"status\":\"updated\"}`"), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
    security(("bearer" = []), ())
)]
#[post("/registry/update-card")]
pub(crate) async fn update_card(ctx: Ctx, body: web::Bytes) -> Answer {
    let card: CardBody = body::json(&body, INVALID)?;
    let id = id_in_body(&card.workspace_id, "workspace_id")?;
    if card.agent_card.is_null() {
        return Err(ApiError::bad("invalid_body", INVALID).field("agent_card"));
    }
    let (principal, _) = auth::registry(&ctx, id)?;
    let command = Command::UpdateCard { agent_card: card.agent_card };
    let position = match ctx.state.runtime.command(id, command, ctx.origin(principal)).await {
        Ok(receipt) => receipt.position,
        // The contract checks no existence here.
        Err(CommandError::Rejected(Rejection::NotFound | Rejection::Removed)) => None,
        Err(error) => return Err(error.into()),
    };
    Ok(settled(&ctx, position, StatusCode::OK, json!({"status": "updated"})).await)
}

/// Where a peer is.
#[derive(Debug, Serialize, ToSchema)]
pub struct DiscoveredView {
    /// Which.
    #[schema(value_type = String, format = Uuid)]
    id: WorkspaceId,
    /// Where it answers.
    url: String,
    /// What people call it.
    name: String,
}

/// Tells a workspace where another one answers: through the platform, which both can reach wherever they run. Of the past
/// with the admin token only.
#[utoipa::path(
    tag = "registry", params(("id" = String, Path), ("X-Workspace-ID" = String, Header, description = "the caller"), AsOf),
    responses(
        (status = 200, body = DiscoveredView), (status = 301, description = "another workspace stands in for it: `forwarded_to`, and `Location`"),
        (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 503, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[get("/registry/discover/{id}")]
pub(crate) async fn discover(ctx: Ctx, as_of: AsOf, path: web::Path<String>) -> Answer {
    let denied = || ApiError::forbidden("not_authorized", "not authorized to discover this workspace");
    let caller = ctx
        .claimed()
        .ok_or_else(|| ApiError::bad("missing_workspace_id", "X-Workspace-ID header is required"))?
        .parse::<WorkspaceId>()
        .map_err(|_| denied())?;
    may_look(&ctx, &as_of, caller)?;
    let seen = as_of.seen(&ctx).await?;
    let target = path.parse::<WorkspaceId>().map_err(|_| denied())?;
    let roster = seen.roster.read();
    if !roster.can_communicate(caller, target, RootTalk::Open).allowed {
        return Err(denied());
    }
    let row = roster.get(target).ok_or_else(ApiError::no_workspace)?;
    if row.status == Status::Removed {
        return moved(&row);
    }
    if !row.status.is_up() {
        return Err(ApiError::unavailable("workspace_not_available", "workspace not available", RETRY)
            .with("status", row.status.as_str()));
    }
    let url = address_for_peers(row.as_ref(), &ctx.public_base());
    Ok(HttpResponse::Ok().json(DiscoveredView { id: target, url, name: row.name.clone() }))
}

/// Where others reach a workspace: an external agent where it says that it is, everybody else through us, wherever the
/// caller runs. What our backends report is an address of ours alone, and a caller that went there would leave its token
/// with whoever listens.
fn address_for_peers(row: &Row, base: &str) -> String {
    let stated = row.url.clone().filter(|_| row.is_external());
    stated.unwrap_or_else(|| format!("{base}/workspaces/{}/a2a", row.id))
}

/// Whoever looks for a removed workspace finds the one that stands in for it, or nobody: clients take a 404 for "nobody", and
/// anything else for a failure (contract, clients). The place that it is sent to asks again whether the two may talk.
fn moved(row: &Row) -> Answer {
    let successor = row.forwarded_to.ok_or_else(ApiError::no_workspace)?;
    let view = json!({"id": row.id, "forwarded_to": successor});
    let place = format!("/registry/discover/{successor}");
    Ok(HttpResponse::MovedPermanently().insert_header((LOCATION, place)).json(view))
}

/// Who may look around on behalf of this workspace. At present it knows its peers; whom it knew once is the operator's to see.
fn may_look(ctx: &Ctx, as_of: &AsOf, caller: WorkspaceId) -> Result<Principal, ApiError> {
    if as_of.is_past() { auth::admin(ctx) } else { auth::discovery(ctx, caller) }
}

/// Seconds: about what a start takes.
const RETRY: u64 = 5;

/// Which peers are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PeersQuery {
    /// Only those whose name or role contains this, in any case.
    q: Option<String>,
}

/// Whom a workspace knows: its siblings, its children, its parent. Of the past with the admin token only.
#[utoipa::path(
    tag = "registry", params(("id" = String, Path), PeersQuery, AsOf),
    responses((status = 200, body = [PeerView]), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
    security(("bearer" = []))
)]
#[get("/registry/{id}/peers")]
pub(crate) async fn list_peers(
    ctx: Ctx,
    as_of: AsOf,
    path: web::Path<String>,
    query: web::Query<PeersQuery>,
) -> Answer {
    let id = path.parse::<WorkspaceId>().map_err(|_| ApiError::no_workspace())?;
    may_look(&ctx, &as_of, id)?;
    let seen = as_of.seen(&ctx).await?;
    let peers = seen.roster.read().peers(id, RootTalk::Open).ok_or_else(ApiError::no_workspace)?;
    let wanted = query.q.as_deref().unwrap_or_default().trim().to_lowercase();
    let fits = |text: &str| text.to_lowercase().contains(&wanted);
    let base = ctx.public_base();
    let peers: Vec<PeerView> = peers
        .iter()
        .filter(|row| fits(&row.name) || row.role.as_deref().is_some_and(fits))
        .map(|row| PeerView::of(row, address_for_peers(row, &base)))
        .collect();
    Ok(HttpResponse::Ok().json(peers))
}

/// Who wants to talk to whom.
#[derive(Debug, Deserialize, ToSchema)]
pub struct AccessBody {
    /// The caller.
    #[schema(min_length = 1)]
    caller_id: String,
    /// Whom it calls.
    #[schema(min_length = 1)]
    target_id: String,
}

/// Whether one workspace may call another, and why.
#[derive(Debug, Serialize, ToSchema)]
pub struct AccessView {
    /// Whether it may.
    allowed: bool,
    /// The first rule that fits: `same`, `siblings`, `roots`, `parent` or `ancestor` allow it; `unknown`, `unrelated` and
    /// `broken_hierarchy` deny it.
    rule: &'static str,
    /// What the rule means.
    explanation: &'static str,
    /// The ids from the caller to the target along the hierarchy that the rule rests on; empty where it denies.
    #[schema(value_type = Vec<String>)]
    edge: Vec<WorkspaceId>,
}

/// Whether one workspace may call another: by which rule, and along which edge of the hierarchy.
#[utoipa::path(
    tag = "registry", request_body = AccessBody,
    responses((status = 200, body = AccessView), (status = 400, body = ErrorBody))
)]
#[post("/registry/check-access")]
pub(crate) async fn check_access(ctx: Ctx, body: web::Bytes) -> Answer {
    let asked: AccessBody = body::json(&body, INVALID)?;
    if asked.caller_id.is_empty() || asked.target_id.is_empty() {
        return Err(ApiError::bad("invalid_body", INVALID));
    }
    let roster = ctx.state.views.roster.read();
    let (access, edge) = match (asked.caller_id.parse(), asked.target_id.parse()) {
        (Ok(caller), Ok(target)) => {
            let access = roster.can_communicate(caller, target, RootTalk::Open);
            (access, roster.edge(caller, target, access.rule))
        }
        // What is no id names nobody.
        _ => (AccessRule::Unknown.into(), Vec::new()),
    };
    let view = AccessView {
        allowed: access.allowed,
        rule: access.rule.as_str(),
        explanation: access.rule.explained(),
        edge,
    };
    Ok(HttpResponse::Ok().json(view))
}
