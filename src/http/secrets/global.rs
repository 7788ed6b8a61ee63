//! Secrets that every workspace gets, under both of the contract's paths.

use actix_web::{HttpResponse, delete, get, post, put, web};
use covalence_actors::fleet;
use covalence_events::StreamId;
use serde_json::json;

use super::{INVALID, SecretBody, SecretView, change_all, checked, sealed};
use crate::http::error::{Answer, ErrorBody};
use crate::http::request::Ctx;
use crate::http::{auth, body};

/// The secrets that every workspace gets, by name.
#[utoipa::path(
    tag = "secrets",
    responses((status = 200, body = [SecretView]), (status = 401, body = ErrorBody)),
    security(("bearer" = []))
)]
#[get("/settings/secrets")]
pub(crate) async fn list(ctx: Ctx) -> Answer {
    shown(&ctx)
}

/// The same under its other name.
#[utoipa::path(
    tag = "secrets",
    responses((status = 200, body = [SecretView]), (status = 401, body = ErrorBody)),
    security(("bearer" = []))
)]
#[get("/admin/secrets")]
pub(crate) async fn list_as_admin(ctx: Ctx) -> Answer {
    shown(&ctx)
}

fn shown(ctx: &Ctx) -> Answer {
    auth::admin(ctx)?;
    let secrets = ctx.state.views.secrets.read();
    let all: Vec<_> =
        secrets.global().iter().map(|(name, secret)| SecretView::of(name, secret, "global")).collect();
    drop(secrets);
    Ok(HttpResponse::Ok().json(all))
}

/// Gives every workspace a secret, or another value of one. Those that run and have none of their own under its name are
/// restarted, a few at a time, as the fleet's limits allow; calls under way finish first.
#[utoipa::path(
    tag = "secrets", request_body = SecretBody,
    responses((status = 200, description = "`{\"status\":\"saved\",\"key\",\"scope\":\"global\"}`"), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 500, body = ErrorBody)),
    security(("bearer" = []))
)]
#[put("/settings/secrets")]
pub(crate) async fn put_one(ctx: Ctx, bytes: web::Bytes) -> Answer {
    save_one(&ctx, &bytes).await
}

/// The same as `PUT`.
#[utoipa::path(
    tag = "secrets", request_body = SecretBody,
    responses((status = 200, description = "`{\"status\":\"saved\",\"key\",\"scope\":\"global\"}`"), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 500, body = ErrorBody)),
    security(("bearer" = []))
)]
#[post("/settings/secrets")]
pub(crate) async fn save(ctx: Ctx, bytes: web::Bytes) -> Answer {
    save_one(&ctx, &bytes).await
}

/// The same under its other name.
#[utoipa::path(
    tag = "secrets", request_body = SecretBody,
    responses((status = 200, description = "`{\"status\":\"saved\",\"key\",\"scope\":\"global\"}`"), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 500, body = ErrorBody)),
    security(("bearer" = []))
)]
#[post("/admin/secrets")]
pub(crate) async fn save_as_admin(ctx: Ctx, bytes: web::Bytes) -> Answer {
    save_one(&ctx, &bytes).await
}

async fn save_one(ctx: &Ctx, bytes: &[u8]) -> Answer {
    auth::admin(ctx)?;
    let SecretBody { key, value } = body::json(bytes, INVALID)?;
    checked(&key, &value)?;
    let value = sealed(ctx, StreamId::Fleet, key.clone(), value).await?;
    let view = json!({"status": "saved", "key": key, "scope": "global"});
    change_all(ctx, fleet::Command::SetSecret { name: key, value }, view).await
}

/// Takes a secret from every workspace.
#[utoipa::path(
    tag = "secrets", params(("key" = String, Path)),
    responses((status = 200, description = "`{\"status\":\"deleted\",\"key\",\"scope\":\"global\"}`"), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
    security(("bearer" = []))
)]
#[delete("/settings/secrets/{key}")]
pub(crate) async fn remove(ctx: Ctx, path: web::Path<String>) -> Answer {
    remove_one(&ctx, path.into_inner()).await
}

/// The same under its other name.
#[utoipa::path(
    tag = "secrets", params(("key" = String, Path)),
    responses((status = 200, description = "`{\"status\":\"deleted\",\"key\",\"scope\":\"global\"}`"), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
    security(("bearer" = []))
)]
#[delete("/admin/secrets/{key}")]
pub(crate) async fn remove_as_admin(ctx: Ctx, path: web::Path<String>) -> Answer {
    remove_one(&ctx, path.into_inner()).await
}

async fn remove_one(ctx: &Ctx, key: String) -> Answer {
    auth::admin(ctx)?;
    let view = json!({"status": "deleted", "key": key, "scope": "global"});
    change_all(ctx, fleet::Command::RemoveSecret { name: key }, view).await
}
