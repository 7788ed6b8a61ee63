//! `/org/tokens`: tokens of the organisation, which open what the admin's does (contract data 1.10).

use actix_web::http::StatusCode;
use actix_web::{HttpMessage as _, HttpResponse, delete, get, post, web};
use chrono::{DateTime, Utc};
use covalence_actors::fleet;
use covalence_actors::runtime::token;
use covalence_events::TokenId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::request::Ctx;
use crate::http::workspaces::settled;
use crate::http::{auth, body};

/// Bytes of a token's name (contract data 1.10).
const NAME_BYTES_MAX: usize = 100;

/// One organisation token, without its text.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrgTokenView {
    /// Its public name.
    #[schema(value_type = String, format = Uuid)]
    id: TokenId,
    /// The first eight characters of its text.
    prefix: String,
    /// What the person who made it calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Who made it: `admin-token`, or `org-token:` and the first characters of that one.
    created_by: String,
    /// When it was made.
    created_at: DateTime<Utc>,
    /// When it was last shown to us, since our start; absent where it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<DateTime<Utc>>,
}

/// The organisation's tokens.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrgTokensView {
    /// Those that work, newest first.
    tokens: Vec<OrgTokenView>,
    /// How many.
    count: usize,
}

/// The organisation tokens that work, newest first. Their texts are nowhere.
#[utoipa::path(
    tag = "organisation",
    responses((status = 200, body = OrgTokensView), (status = 401, body = ErrorBody)),
    security(("bearer" = []))
)]
#[get("/org/tokens")]
pub(crate) async fn list_org_tokens(ctx: Ctx) -> Answer {
    auth::admin(&ctx)?;
    let credentials = ctx.state.views.credentials.read();
    let tokens: Vec<OrgTokenView> = credentials
        .of_org()
        .into_iter()
        .map(|known| OrgTokenView {
            id: known.token,
            prefix: known.prefix.clone(),
            name: known.name.clone(),
            created_by: known.made_by.clone(),
            created_at: known.issued_at,
            last_used_at: ctx.state.inner.door.used.last(known.token),
        })
        .collect();
    drop(credentials);
    Ok(HttpResponse::Ok().json(OrgTokensView { count: tokens.len(), tokens }))
}

/// See [`create_org_token`].
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct OrgTokenBody {
    /// What to call it, 100 bytes at most.
    #[serde(default)]
    name: Option<String>,
}

/// A new organisation token, shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub struct MintedOrgView {
    /// Its public name.
    #[schema(value_type = String, format = Uuid)]
    id: TokenId,
    /// The first eight characters of its text.
    prefix: String,
    /// What it is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Its text.
    auth_token: String,
    /// What to do with it.
    warning: &'static str,
}

/// Makes a token that opens what the admin's does. Ten an hour from one address, five hundred at once. A body that is no JSON is
/// as good as none.
#[utoipa::path(
    tag = "organisation", request_body = Option<OrgTokenBody>,
    responses(
        (status = 200, body = MintedOrgView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 429, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/org/tokens")]
pub(crate) async fn create_org_token(ctx: Ctx, bytes: web::Bytes) -> Answer {
    let principal = auth::admin(&ctx)?;
    let granted = ctx.state.inner.limits.take_mint(&ctx.state, &ctx.known);
    ctx.request.extensions_mut().insert(granted);
    if granted.is_over() {
        let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "rate limit exceeded");
        return Err(error.retry_after(granted.reset_s()));
    }
    let name = name(&bytes)?;
    let (text, token) = token::mint_org(name);
    let (id, prefix, name) = (token.token, token.prefix.clone(), token.name.clone());
    let position =
        ctx.state.runtime.fleet(fleet::Command::IssueOrgToken(token), ctx.origin(principal)).await?;
    let view = MintedOrgView {
        id,
        prefix,
        name,
        auth_token: text.expose().to_owned(),
        warning: "Keep this token: it opens what the admin token does, and will not be shown again.",
    };
    Ok(settled(&ctx, position, StatusCode::OK, view).await)
}

/// The name in a body, if there is one.
fn name(bytes: &[u8]) -> Result<Option<String>, ApiError> {
    if !matches!(serde_json::from_slice(bytes), Ok(Value::Object(_))) {
        return Ok(None);
    }
    let OrgTokenBody { name } =
        body::json(bytes, "invalid request body").map_err(|error| error.field("name"))?;
    let name = name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    if name.as_ref().is_some_and(|name| name.len() > NAME_BYTES_MAX) {
        return Err(ApiError::bad("name_too_long", "name too long (max 100 chars)").field("name"));
    }
    if name.as_ref().is_some_and(|name| name.contains(char::is_control)) {
        return Err(ApiError::bad("invalid_field", "name contains invalid characters").field("name"));
    }
    Ok(name)
}

/// Ends an organisation token: its next use fails, and what it listens to is closed.
#[utoipa::path(
    tag = "organisation", params(("id" = String, Path)),
    responses(
        (status = 200, description = "`{\"revoked\":<id>}`"), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[delete("/org/tokens/{id}")]
pub(crate) async fn revoke_org_token(ctx: Ctx, path: web::Path<String>) -> Answer {
    let principal = auth::admin(&ctx)?;
    let token = path
        .parse::<TokenId>()
        .map_err(|_| ApiError::bad("invalid_token_id", "invalid token ID").field("id"))?;
    let command = fleet::Command::RevokeOrgToken { token };
    let position = ctx.state.runtime.fleet(command, ctx.origin(principal)).await?;
    Ok(settled(&ctx, position, StatusCode::OK, json!({"revoked": token})).await)
}
