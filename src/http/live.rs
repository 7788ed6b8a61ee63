//! `/ws` and `/workspaces/{id}/events/stream`: what happens, as it happens.

#![expect(unused_qualifications, reason = "the OpenAPI macro repeats the names of query types")]

use std::collections::VecDeque;
use std::sync::Arc;

use actix_http::ws::{self, Codec, Frame};
use actix_web::body::{BodyStream, BoxBody};
use actix_web::http::StatusCode;
use actix_web::http::header::HeaderName;
use actix_web::{HttpResponse, get, web};
use bytes::{Bytes, BytesMut};
use covalence_events::{Position, TokenId, WorkspaceId};
use futures_util::StreamExt as _;
use serde::Deserialize;
use tokio_util::codec::Decoder as _;
use utoipa::IntoParams;

use crate::http::auth::{self, Identity};
use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::request::{Ctx, workspace_id};
use crate::http::workspaces::row;

pub mod frame;
pub mod hub;
pub mod outgoing;

use hub::{Hub, Listening, Sees, Wire};
use outgoing::Outgoing;

/// Facts that somebody who comes back may have missed; who missed more reads the state anew.
const MISSED_MAX: u64 = 10_000;
/// Facts read at a time.
const BATCH: usize = 512;
/// Bytes of a client's frame. Clients have nothing to say here.
const FRAME_MAX: usize = 4096;
/// Where a browser's event source says where it was.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Where to begin.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct From {
    /// The last position that was seen: what came after it is told first. Without it, only what comes.
    after: Option<u64>,
}

/// Events as text frames over a web socket: of all workspaces for the operator, of those that it may talk with for a workspace's
/// own token. What a client sends is not looked at.
#[utoipa::path(
    tag = "events", params(From, ("X-Workspace-ID" = Option<String>, Header, description = "the listening workspace; its bearer says the same")),
    responses(
        (status = 101, description = "frames `{event, workspace_id, timestamp, payload, position}`"), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 410, description = "too far behind", body = ErrorBody), (status = 503, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[get("/ws")]
pub(crate) async fn socket(ctx: Ctx, from: web::Query<From>, payload: web::Payload) -> Answer {
    let (sees, token) = listener(&ctx)?;
    let mut head = ws::handshake(ctx.request.head()).map_err(|error| {
        ApiError::bad("invalid_handshake", "a web socket is opened here").detail(error.to_string())
    })?;
    let (listening, backlog) = listen(&ctx, (sees, Wire::Socket, token), from.after).await?;
    actix_web::rt::spawn(hear(Arc::clone(&ctx.state.hub), listening.id, payload));
    let outgoing = Outgoing::new(Arc::clone(&ctx.state.hub), Wire::Socket, listening, backlog);
    Ok(HttpResponse::from(head.finish()).set_body(BoxBody::new(BodyStream::new(outgoing))))
}

/// Who listens, and to what.
fn listener(ctx: &Ctx) -> Result<(Sees, Option<TokenId>), ApiError> {
    let unknown = || ApiError::bad("invalid_workspace_id", "invalid workspace ID").field("X-Workspace-ID");
    let claimed = ctx.claimed().map(str::parse::<WorkspaceId>).transpose().map_err(|_| unknown())?;
    match (ctx.known.identity, claimed) {
        (Identity::Admin | Identity::Org(_), None) => Ok((Sees::All, ctx.known.identity.token())),
        (Identity::Missing, None) if ctx.is_open() || ctx.is_canvas() => Ok((Sees::All, None)),
        (Identity::Workspace(credential), None) => {
            Ok((Sees::Team(credential.workspace), Some(credential.token)))
        }
        (identity, claimed) => {
            let id = claimed.ok_or_else(|| match identity {
                Identity::Missing => {
                    ApiError::unauthorized("missing_workspace_token", "missing workspace auth token")
                }
                _ => ApiError::unauthorized("invalid_workspace_token", "invalid workspace auth token"),
            })?;
            auth::workspace(ctx, id)?;
            Ok((Sees::Team(id), identity.token()))
        }
    }
}

/// Events of one workspace as an event stream.
#[utoipa::path(
    tag = "events", params(("id" = String, Path), From),
    responses(
        (status = 200, description = "events `{type, timestamp, data}`", content_type = "text/event-stream", body = String),
        (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 410, description = "too far behind", body = ErrorBody), (status = 503, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[get("/workspaces/{id}/events/stream")]
pub(crate) async fn events(ctx: Ctx, path: web::Path<String>, from: web::Query<From>) -> Answer {
    let id = workspace_id(&path)?;
    auth::workspace(&ctx, id)?;
    row(&ctx, id).ok_or_else(ApiError::no_workspace)?;
    let token = ctx.known.identity.token();
    let after = from.after.or_else(|| ctx.header(LAST_EVENT_ID)?.parse().ok());
    let (listening, mut backlog) = listen(&ctx, (Sees::One(id), Wire::Events, token), after).await?;
    backlog.push_front(Bytes::from_static(b": ping\n\n"));
    let outgoing = Outgoing::new(Arc::clone(&ctx.state.hub), Wire::Events, listening, backlog);
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("cache-control", "no-cache"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(outgoing))
}

/// Begins to listen, and looks up what was missed.
async fn listen(
    ctx: &Ctx,
    (sees, wire, token): (Sees, Wire, Option<TokenId>),
    after: Option<u64>,
) -> Result<(Listening, VecDeque<Bytes>), ApiError> {
    let leaving = || ApiError::unavailable("shutting_down", "the platform goes down", 5);
    let listening = ctx.state.hub.listen(sees, wire, token).ok_or_else(leaving)?;
    let Some(after) = after else { return Ok((listening, VecDeque::new())) };
    match missed(ctx, (sees, wire), Position(after), listening.from).await {
        Ok(backlog) => Ok((listening, backlog)),
        Err(error) => {
            ctx.state.hub.leave(listening.id);
            Err(error)
        }
    }
}

async fn missed(
    ctx: &Ctx,
    (sees, wire): (Sees, Wire),
    after: Position,
    through: Position,
) -> Result<VecDeque<Bytes>, ApiError> {
    if after > through || through.0 - after.0 > MISSED_MAX {
        let text = "too far behind, or ahead: read the state anew, and listen without `after`";
        return Err(ApiError::new(StatusCode::GONE, "position_lost", text)
            .field("after")
            .with("head", through.0));
    }
    let (mut next, mut backlog) = (after.next(), VecDeque::new());
    // What workspaces are called is told as it is now.
    let mut teller = ctx.state.hub.teller();
    while next <= through {
        let batch = ctx.state.log.read_all(next, BATCH).await;
        let batch = batch.map_err(|error| ApiError::internal("query failed", error))?;
        let Some(last) = batch.last() else { break };
        next = last.position.next();
        for recorded in batch.iter().take_while(|recorded| recorded.position <= through) {
            let told = teller.tell(recorded);
            let admitted = told.iter().filter(|told| sees.admits(told.workspace, &ctx.state.views));
            backlog.extend(admitted.map(|told| frame::of(wire, told)));
        }
    }
    Ok(backlog)
}

/// Hears a client out until it leaves: it may ping and say that it goes, and nothing else matters.
async fn hear(hub: Arc<Hub>, id: u64, mut payload: web::Payload) {
    let (mut codec, mut read) = (Codec::new().max_size(FRAME_MAX), BytesMut::new());
    while let Some(Ok(piece)) = payload.next().await {
        read.extend_from_slice(&piece);
        loop {
            match codec.decode(&mut read) {
                Ok(Some(Frame::Ping(said))) => hub.send_to(id, &frame::pong(said)),
                Ok(Some(Frame::Close(_))) | Err(_) => return hub.leave(id),
                Ok(Some(_)) => {}
                Ok(None) => break,
            }
        }
    }
    hub.leave(id);
}
