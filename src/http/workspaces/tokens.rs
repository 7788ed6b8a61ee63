//! Who may speak for a workspace: its tokens, its agent's first one, and an external workspace's credentials.

#![expect(unused_qualifications, reason = "the OpenAPI macro repeats the names of query types")]

use actix_web::http::StatusCode;
use actix_web::http::header::AUTHORIZATION;
use actix_web::{HttpResponse, delete, get, post, web};
use chrono::{DateTime, TimeDelta, Utc};
use covalence_actors::fleet;
use covalence_actors::runtime::{CommandError, token};
use covalence_actors::workspace::{Command, Rejection};
use covalence_events::workspace::TokenPurpose;
use covalence_events::{Principal, TokenId, WorkspaceId};
use covalence_projections::credentials::Credential;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::warn;
use utoipa::{IntoParams, ToSchema};

use crate::http::auth::{self, Identity};
use crate::http::body;
use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::registry::register::REFUSED_ALARM;
use crate::http::request::{Ctx, text, workspace_id};
use crate::http::workspaces::create::Connection;
use crate::http::workspaces::{present, settled};

/// Tokens shown at once where nothing is said (contract data 1.9).
const PAGE_DEFAULT: usize = 50;
/// Tokens shown at once at most.
const PAGE_MAX: usize = 200;
/// The longest enrolment that somebody may open: whoever needs longer rotates the credentials instead.
const ENROLMENT_MAX: TimeDelta = TimeDelta::hours(24);

/// One token, without its text.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenView {
    /// Its public name.
    #[schema(value_type = String, format = Uuid)]
    id: TokenId,
    /// The first eight characters of its text.
    prefix: String,
    /// What it was made for: `provision`, `registration`, `creation`, `rotation`, `person` or `test`.
    purpose: &'static str,
    /// When it was made.
    created_at: DateTime<Utc>,
    /// When it was last shown to us, since our start.
    last_used_at: Option<DateTime<Utc>>,
}

/// Tokens of one workspace.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokensView {
    /// Those that work, newest first.
    tokens: Vec<TokenView>,
    /// How many are shown.
    count: usize,
}

/// A part of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TokensQuery {
    /// 1 to 200; 50 where absent or out of range.
    limit: Option<String>,
    /// How many are passed over.
    offset: Option<String>,
}

/// The tokens that work, newest first. Their texts are nowhere.
#[utoipa::path(
    tag = "workspaces", params(("id" = String, Path), TokensQuery),
    responses((status = 200, body = TokensView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
    security(("bearer" = []))
)]
#[get("/workspaces/{id}/tokens")]
pub(crate) async fn list_tokens(ctx: Ctx, path: web::Path<String>, query: web::Query<TokensQuery>) -> Answer {
    let id = workspace_id(&path)?;
    auth::workspace(&ctx, id)?;
    let number = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<usize>().ok());
    let limit = number(&query.limit).filter(|limit| (1..=PAGE_MAX).contains(limit)).unwrap_or(PAGE_DEFAULT);
    let offset = number(&query.offset).unwrap_or(0);
    let credentials = ctx.state.views.credentials.read();
    let mut live: Vec<_> = credentials.of(id).filter(Credential::is_live).collect();
    live.reverse();
    let tokens: Vec<TokenView> = live
        .iter()
        .skip(offset)
        .take(limit)
        .map(|credential| TokenView {
            id: credential.token,
            prefix: credential.prefix().to_owned(),
            purpose: credential.purpose.as_str(),
            created_at: credential.issued_at,
            last_used_at: ctx.state.inner.door.used.last(credential.token),
        })
        .collect();
    Ok(HttpResponse::Ok().json(TokensView { count: tokens.len(), tokens }))
}

/// A token, shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub struct MintedView {
    /// Its text.
    auth_token: String,
    /// Whom it speaks for.
    #[schema(value_type = String, format = Uuid)]
    workspace_id: WorkspaceId,
    /// What to do with it.
    message: &'static str,
}

/// Makes a token for a person or a tool; fifty may work at once.
#[utoipa::path(
    tag = "workspaces", params(("id" = String, Path)),
    responses(
        (status = 201, body = MintedView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 429, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/workspaces/{id}/tokens")]
pub(crate) async fn create_token(ctx: Ctx, path: web::Path<String>) -> Answer {
    let id = workspace_id(&path)?;
    let principal = auth::workspace(&ctx, id)?;
    present(&ctx, id)?;
    let (text, token) = token::mint(TokenPurpose::Person, None);
    let receipt = ctx.state.runtime.command(id, Command::IssueToken(token), ctx.origin(principal)).await?;
    let view = MintedView {
        auth_token: text.expose().to_owned(),
        workspace_id: id,
        message: "keep this token: it is not shown again",
    };
    Ok(settled(&ctx, receipt.position, StatusCode::CREATED, view).await)
}

/// Ends one token, by its id; it fails on its very next use.
#[utoipa::path(
    tag = "workspaces", params(("id" = String, Path), ("token" = String, Path)),
    responses(
        (status = 200, description = "`{\"status\":\"revoked\"}`"), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 410, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[delete("/workspaces/{id}/tokens/{token}")]
pub(crate) async fn revoke_token(ctx: Ctx, path: web::Path<(String, String)>) -> Answer {
    let (id, named) = path.into_inner();
    let id = workspace_id(&id)?;
    let principal = auth::workspace(&ctx, id)?;
    let named: TokenId =
        named.parse().map_err(|_| ApiError::bad("invalid_token_id", "invalid token ID").field("token"))?;
    let command = Command::RevokeToken(named);
    let receipt = ctx.state.runtime.command(id, command, ctx.origin(principal)).await?;
    Ok(settled(&ctx, receipt.position, StatusCode::OK, json!({"status": "revoked"})).await)
}

/// For how long an agent may fetch its first token.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct EnrollBody {
    /// Minutes, 1 to 1440; 15 where absent, unless `access.enrolment` says otherwise.
    #[schema(minimum = 1, maximum = 1440)]
    minutes: Option<i64>,
}

/// Lets an agent without a token fetch its first one by registering, for a while. The end of the alarm about refused
/// registrations, too.
#[utoipa::path(
    tag = "workspaces", params(("id" = String, Path)), request_body = Option<EnrollBody>,
    responses(
        (status = 200, description = "`{\"status\":\"open\",\"until\":…}`"), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, description = "its agent has a token", body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/workspaces/{id}/enroll")]
pub(crate) async fn enroll(ctx: Ctx, path: web::Path<String>, body: web::Bytes) -> Answer {
    let id = workspace_id(&path)?;
    let principal = auth::admin(&ctx)?;
    let wish: EnrollBody =
        if body.is_empty() { EnrollBody::default() } else { body::json(&body, "invalid request body")? };
    let window = match wish.minutes {
        None => ctx.state.config.enrolment,
        Some(minutes) => TimeDelta::try_minutes(minutes)
            .filter(|window| *window >= TimeDelta::minutes(1) && *window <= ENROLMENT_MAX)
            .ok_or_else(|| ApiError::bad("invalid_body", "minutes must be 1 to 1440").field("minutes"))?,
    };
    present(&ctx, id)?;
    if ctx.state.views.credentials.read().has_agents(id) {
        return Err(ApiError::conflict("has_token", "the agent has a token: revoke or rotate it first"));
    }
    let command = Command::OpenEnrolment { window };
    let receipt = ctx.state.runtime.command(id, command, ctx.origin(principal.clone())).await?;
    calm(&ctx, id, principal).await;
    let until = ctx.state.clock.now().at + window;
    Ok(settled(&ctx, receipt.position, StatusCode::OK, json!({"status": "open", "until": until})).await)
}

/// Somebody has looked after what the alarm about refused registrations was raised for.
async fn calm(ctx: &Ctx, id: WorkspaceId, principal: Principal) {
    let resolve = fleet::Command::ResolveAlarm { kind: REFUSED_ALARM.to_owned(), workspace: Some(id) };
    if let Err(error) = ctx.state.runtime.fleet(resolve, ctx.origin(principal)).await {
        warn!(workspace = %id, %error, "the alarm about refused registrations was not resolved");
    }
}

/// What an external workspace's agent needs to connect.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectionView {
    /// Everything in one place.
    connection: Connection,
}

/// Ends all tokens of an external workspace and makes one in their place, shown this once.
#[utoipa::path(
    tag = "workspaces", params(("id" = String, Path)),
    responses(
        (status = 200, body = ConnectionView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/workspaces/{id}/external/rotate")]
pub(crate) async fn rotate_credentials(ctx: Ctx, path: web::Path<String>) -> Answer {
    let id = workspace_id(&path)?;
    let principal = auth::workspace(&ctx, id)?;
    let row = present(&ctx, id)?;
    let (text, token) = token::mint(TokenPurpose::Rotation, None);
    let command = Command::RotateToken(token);
    let receipt = match ctx.state.runtime.command(id, command, ctx.origin(principal.clone())).await {
        Err(CommandError::Rejected(rejection @ Rejection::NotExternal)) => {
            return Err(ApiError::from(rejection)
                .with("runtime", row.runtime.as_ref())
                .with("hint", "restart the workspace: each generation gets a token of its own"));
        }
        receipt => receipt?,
    };
    calm(&ctx, id, principal).await;
    let connection = Connection::new(id, ctx.public_base(), text.expose().to_owned());
    Ok(settled(&ctx, receipt.position, StatusCode::OK, ConnectionView { connection }).await)
}

/// The same without a token.
#[utoipa::path(
    tag = "workspaces", params(("id" = String, Path)),
    responses(
        (status = 200, body = ConnectionView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[get("/workspaces/{id}/external/connection")]
pub(crate) async fn show_connection(ctx: Ctx, path: web::Path<String>) -> Answer {
    let id = workspace_id(&path)?;
    auth::workspace(&ctx, id)?;
    let row = present(&ctx, id)?;
    if !row.is_external() {
        let text = "connection is only valid for external/BYO-compute workspaces";
        return Err(ApiError::bad("not_external", text).with("runtime", row.runtime.as_ref()));
    }
    let connection = Connection::new(id, ctx.public_base(), String::new());
    Ok(HttpResponse::Ok().json(ConnectionView { connection }))
}

/// See [`test_token`].
#[derive(Debug, Serialize, ToSchema)]
pub struct TestTokenView {
    /// Its text, shown this once.
    auth_token: String,
    /// Whom it speaks for.
    #[schema(value_type = String, format = Uuid)]
    workspace_id: WorkspaceId,
}

/// A token for tests, where the operator allows it: 404 as if there were no such route elsewhere. Takes the admin token and
/// nothing else; in development, on loopback, no credential.
#[utoipa::path(
    tag = "operations", params(("id" = String, Path)),
    responses(
        (status = 200, body = TestTokenView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 429, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[get("/admin/workspaces/{id}/test-token")]
pub(crate) async fn test_token(ctx: Ctx, path: web::Path<String>) -> Answer {
    if !ctx.state.config.test_tokens {
        return Err(ApiError::not_found("not_found", "not found"));
    }
    let principal = match ctx.known.identity {
        Identity::Admin => Principal::Admin,
        _ if ctx.is_open() => Principal::Anonymous,
        // The contract takes the bare token here, too.
        _ if text(ctx.request.headers(), AUTHORIZATION)
            .is_some_and(|bare| ctx.state.inner.door.is_admin(bare)) =>
        {
            Principal::Admin
        }
        _ => return Err(ApiError::unauthorized("admin_auth_required", "admin auth required")),
    };
    let id = path.parse::<WorkspaceId>().map_err(|_| ApiError::no_workspace())?;
    present(&ctx, id)?;
    let (text, token) = token::mint(TokenPurpose::Test, None);
    let receipt = ctx.state.runtime.command(id, Command::IssueToken(token), ctx.origin(principal)).await?;
    let view = TestTokenView { auth_token: text.expose().to_owned(), workspace_id: id };
    Ok(settled(&ctx, receipt.position, StatusCode::OK, view).await)
}
