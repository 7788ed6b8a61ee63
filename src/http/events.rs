//! `/events`: what happened to the structure, in the contract's names, newest first.

#![expect(unused_qualifications, reason = "the OpenAPI macro repeats the names of query types")]

use std::sync::Arc;

use actix_web::{HttpResponse, get, web};
use chrono::{DateTime, Utc};
use covalence_events::{EventId, WorkspaceId};
use covalence_projections::structure::{NEWEST, Payload, StructureEvent};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::as_of::AsOf;
use crate::http::auth;
use crate::http::error::{Answer, ErrorBody};
use crate::http::request::{Ctx, workspace_id};

/// One event of the structure.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventView {
    /// The fact behind it.
    #[schema(value_type = String, format = Uuid)]
    id: EventId,
    /// `WORKSPACE_ONLINE` and the like.
    event_type: &'static str,
    /// Whom it is about.
    #[schema(value_type = String, format = Uuid)]
    workspace_id: WorkspaceId,
    /// What there is to say.
    #[schema(value_type = Object)]
    payload: Payload,
    /// When it happened.
    created_at: DateTime<Utc>,
}

impl From<&StructureEvent> for EventView {
    fn from(event: &StructureEvent) -> Self {
        Self {
            id: event.id,
            event_type: event.event_type,
            workspace_id: event.workspace,
            payload: event.payload.clone(),
            created_at: event.created_at,
        }
    }
}

/// How many are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Newest {
    /// At most so many, and never more than 100.
    limit: Option<usize>,
}

fn shown(events: &[Arc<StructureEvent>]) -> HttpResponse {
    HttpResponse::Ok().json(events.iter().map(|event| event.as_ref().into()).collect::<Vec<EventView>>())
}

/// The newest events of all workspaces.
#[utoipa::path(
    tag = "events", params(Newest, AsOf),
    responses((status = 200, body = [EventView]), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
    security(("bearer" = []))
)]
#[get("/events")]
pub(crate) async fn all(ctx: Ctx, as_of: AsOf, query: web::Query<Newest>) -> Answer {
    auth::admin(&ctx)?;
    let seen = as_of.seen(&ctx).await?;
    Ok(shown(&seen.structure.read().newest(query.limit.unwrap_or(NEWEST))))
}

/// The newest events of one workspace.
#[utoipa::path(
    tag = "events", params(("workspaceId" = String, Path), Newest, AsOf),
    responses((status = 200, body = [EventView]), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
    security(("bearer" = []))
)]
#[get("/events/{workspaceId}")]
pub(crate) async fn of_workspace(
    ctx: Ctx,
    as_of: AsOf,
    path: web::Path<String>,
    query: web::Query<Newest>,
) -> Answer {
    auth::admin(&ctx)?;
    let id = workspace_id(&path)?;
    let seen = as_of.seen(&ctx).await?;
    Ok(shown(&seen.structure.read().of(id, query.limit.unwrap_or(NEWEST))))
}
