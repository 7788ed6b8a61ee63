//! Secrets of a workspace and of all of them: what agents find in their environment, and fetch where we don't start them.
//!
//! A value is sealed before it leaves its request (`events/src/vault.rs`); no list, error, log line, event or metric ever shows
//! one. Only `GET …/secrets/values` does, to the workspace's own token.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, delete, get, post, put, web};
use chrono::{DateTime, Utc};
use covalence_actors::fleet;
use covalence_actors::workspace::Command;
use covalence_events::workspace::SecretSet;
use covalence_events::{StreamId, WorkspaceId};
use covalence_projections::secrets::Secret;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::backends::environment::NEVER;
use crate::http::auth::{self, Identity};
use crate::http::body;
use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::request::{Ctx, workspace_id};
use crate::http::workspaces::{present, settled};

pub mod global;
pub mod master;
pub mod model;

/// The contract's one text for a body that it can't use.
pub(crate) const INVALID: &str = "invalid request body";
/// Bytes of a name.
const NAME_MAX: usize = 128;
/// Bytes of a value. Environments are limited by the kernel, to 128 KiB a variable.
const VALUE_MAX: usize = 64 * 1024;
/// Names that say which instance an agent is, and what the vault itself is opened with.
const RESERVED: [&str; 3] = ["WORKSPACE_ID", "PORT", "SECRETS_ENCRYPTION_KEY"];

/// A secret.
#[derive(Deserialize, ToSchema)]
pub struct SecretBody {
    /// Its name: letters, digits and `_`, not beginning with a digit; needed.
    #[serde(default, deserialize_with = "body::or_default")]
    #[schema(required = true, pattern = "^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
    key: String,
    /// Its value, not empty; needed.
    #[serde(default, deserialize_with = "body::or_default")]
    #[schema(required = true, min_length = 1, max_length = 65536, pattern = r"^[^\x00]*$")]
    value: String,
}

impl std::fmt::Debug for SecretBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretBody").field("key", &self.key).finish_non_exhaustive()
    }
}

/// What is said of a secret: never its value.
#[derive(Debug, Serialize, ToSchema)]
pub struct SecretView {
    /// Its name.
    key: String,
    /// Always true: what has no value is not there.
    has_value: bool,
    /// `workspace` or `global`.
    scope: &'static str,
    /// When there was first one of this name.
    created_at: DateTime<Utc>,
    /// When it got its value.
    updated_at: DateTime<Utc>,
}

impl SecretView {
    fn of(name: &str, secret: &Secret, scope: &'static str) -> Self {
        let (created_at, updated_at) = (secret.created, secret.updated);
        Self { key: name.to_owned(), has_value: true, scope, created_at, updated_at }
    }
}

/// Checks a name and a value; what is wrong is named, what was sent is not repeated.
pub(crate) fn checked(name: &str, value: &str) -> Result<(), ApiError> {
    let bad = |field, detail: String| ApiError::bad("invalid_body", INVALID).field(field).detail(detail);
    checked_name(name)?;
    if value.is_empty() {
        return Err(bad("value", "a value may not be empty: delete the secret instead".to_owned()));
    }
    if value.len() > VALUE_MAX || value.contains('\0') {
        return Err(bad("value", format!("at most {VALUE_MAX} bytes, and no NUL")));
    }
    Ok(())
}

fn checked_name(name: &str) -> Result<(), ApiError> {
    let bad = |detail: String| ApiError::bad("invalid_body", INVALID).field("key").detail(detail);
    let begins = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let goes_on = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !begins || !goes_on || name.len() > NAME_MAX {
        return Err(bad(format!(
            "a name is 1 to {NAME_MAX} letters, digits and `_`, and does not begin with a digit"
        )));
    }
    if RESERVED.contains(&name) || NEVER.contains(&name) || name.starts_with("COVALENCE_") {
        return Err(bad("this name is the platform's own".to_owned()));
    }
    Ok(())
}

/// Seals a value for whom it is. Blocks for the owner's first one.
pub(crate) async fn sealed(
    ctx: &Ctx,
    owner: StreamId,
    name: String,
    value: String,
) -> Result<String, ApiError> {
    let vault = ctx.state.vault.clone();
    let sealing = web::block(move || vault.seal(owner, &name, &value)).await;
    let sealed = sealing.map_err(|error| ApiError::internal("failed to encrypt secret", error))?;
    sealed.map_err(|error| ApiError::internal("failed to encrypt secret", error))
}

/// The secrets that a workspace gets, by name: its own, and those of all workspaces that it has none of its own for.
#[utoipa::path(
    tag = "secrets", params(("id" = String, Path)),
    responses((status = 200, body = [SecretView]), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
    security(("bearer" = []))
)]
#[get("/workspaces/{id}/secrets")]
pub(crate) async fn list(ctx: Ctx, path: web::Path<String>) -> Answer {
    let id = workspace_id(&path)?;
    auth::workspace(&ctx, id)?;
    present(&ctx, id)?;
    let secrets = ctx.state.views.secrets.read();
    let own = secrets.own(id);
    let global = secrets.global().iter().filter(|(name, _)| !own.contains_key(*name));
    let own = own.iter().map(|(name, secret)| SecretView::of(name, secret, "workspace"));
    let all: Vec<_> =
        own.chain(global.map(|(name, secret)| SecretView::of(name, secret, "global"))).collect();
    drop(secrets);
    Ok(HttpResponse::Ok().json(all))
}

/// The values of a workspace's secrets, for its own agent: the one place that shows them.
#[utoipa::path(
    tag = "secrets", params(("id" = String, Path)),
    responses(
        (status = 200, description = "an object of names and values", body = Object), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 500, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[get("/workspaces/{id}/secrets/values")]
pub(crate) async fn values(ctx: Ctx, path: web::Path<String>) -> Answer {
    let id = workspace_id(&path)?;
    auth::workspace(&ctx, id)?;
    may_read_values(&ctx, id)?;
    present(&ctx, id)?;
    let secrets = {
        let secrets = ctx.state.views.secrets.read();
        let mut all = secrets
            .global()
            .iter()
            .map(|(name, secret)| (name.clone(), ("global", secret.value.clone())))
            .collect::<BTreeMap<_, _>>();
        all.extend(
            secrets.own(id).iter().map(|(name, secret)| (name.clone(), ("workspace", secret.value.clone()))),
        );
        all
    };
    let (mut values, mut failed) = (Map::new(), Vec::new());
    for (name, (scope, sealed)) in secrets {
        match ctx.state.vault.open(&name, &sealed) {
            Ok(value) => _ = values.insert(name, value.as_str().into()),
            Err(error) => {
                tracing::error!(workspace = %id, secret = %name, scope, %error, "a secret does not open");
                failed.push(Value::from(format!("{scope}:{name}")));
            }
        }
    }
    if !failed.is_empty() {
        return Err(ApiError::internal("failed to decrypt secrets", "some secrets do not open")
            .with("failed_keys", Value::Array(failed)));
    }
    Ok(HttpResponse::Ok().insert_header(("cache-control", "no-store")).json(values))
}

/// Once a workspace has a token, only that reads its values: neither the admin's nor development's freedom does.
fn may_read_values(ctx: &Ctx, id: WorkspaceId) -> Result<(), ApiError> {
    let own = matches!(ctx.known.identity, Identity::Workspace(credential) if credential.workspace == id);
    if own || !ctx.state.views.credentials.read().has_live(id) {
        return Ok(());
    }
    Err(match ctx.known.identity {
        Identity::Missing => {
            ApiError::unauthorized("missing_workspace_token", "missing workspace auth token")
        }
        _ => ApiError::unauthorized("invalid_workspace_token", "invalid workspace auth token"),
    })
}

/// Gives a workspace a secret, or another value of one. What runs is restarted within the fleet's limits.
#[utoipa::path(
    tag = "secrets", params(("id" = String, Path)), request_body = SecretBody,
    responses(
        (status = 200, description = "`{\"status\":\"saved\",\"key\"}`"), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 500, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/workspaces/{id}/secrets")]
pub(crate) async fn save(ctx: Ctx, path: web::Path<String>, bytes: web::Bytes) -> Answer {
    save_one(&ctx, &path, &bytes).await
}

/// The same as `POST`.
#[utoipa::path(
    tag = "secrets", params(("id" = String, Path)), request_body = SecretBody,
    responses(
        (status = 200, description = "`{\"status\":\"saved\",\"key\"}`"), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 500, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[put("/workspaces/{id}/secrets")]
pub(crate) async fn put_one(ctx: Ctx, path: web::Path<String>, bytes: web::Bytes) -> Answer {
    save_one(&ctx, &path, &bytes).await
}

async fn save_one(ctx: &Ctx, path: &str, bytes: &[u8]) -> Answer {
    let id = workspace_id(path)?;
    let principal = auth::workspace(ctx, id)?;
    present(ctx, id)?;
    let SecretBody { key, value } = body::json(bytes, INVALID)?;
    checked(&key, &value)?;
    let value = sealed(ctx, StreamId::Workspace(id), key.clone(), value).await?;
    let command = Command::SetSecret(SecretSet { name: key.clone(), value });
    let receipt = ctx.state.runtime.command(id, command, ctx.origin(principal)).await?;
    Ok(settled(ctx, receipt.position, StatusCode::OK, json!({"status": "saved", "key": key})).await)
}

/// Takes a secret from a workspace. What runs is restarted within the fleet's limits.
#[utoipa::path(
    tag = "secrets", params(("id" = String, Path), ("key" = String, Path)),
    responses(
        (status = 200, description = "`{\"status\":\"deleted\",\"key\"}`"), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[delete("/workspaces/{id}/secrets/{key}")]
pub(crate) async fn remove(ctx: Ctx, path: web::Path<(String, String)>) -> Answer {
    let (id, key) = path.into_inner();
    let id = workspace_id(&id)?;
    let principal = auth::workspace(&ctx, id)?;
    present(&ctx, id)?;
    let command = Command::RemoveSecret(key.clone());
    let receipt = ctx.state.runtime.command(id, command, ctx.origin(principal)).await?;
    Ok(settled(&ctx, receipt.position, StatusCode::OK, json!({"status": "deleted", "key": key})).await)
}

/// Checks the secrets that a workspace is to begin with.
pub(crate) fn check_all(secrets: &BTreeMap<String, String>) -> Result<(), ApiError> {
    let wrong = secrets.iter().find_map(|(name, value)| checked(name, value).err());
    wrong.map_or(Ok(()), |error| Err(error.text("invalid workspace fields").field("secrets")))
}

/// Seals the secrets that a workspace begins with, before it exists.
pub(crate) async fn sealed_all(
    ctx: &Ctx,
    id: WorkspaceId,
    secrets: BTreeMap<String, String>,
) -> Result<Vec<SecretSet>, ApiError> {
    let mut all = Vec::with_capacity(secrets.len());
    for (name, value) in secrets {
        let value = sealed(ctx, StreamId::Workspace(id), name.clone(), value).await?;
        all.push(SecretSet { name, value });
    }
    Ok(all)
}

/// Changes what every workspace gets.
pub(super) async fn change_all(ctx: &Ctx, command: fleet::Command, view: Value) -> Answer {
    let principal = auth::admin(ctx)?;
    let position = ctx.state.runtime.fleet(command, ctx.origin(principal)).await?;
    Ok(settled(ctx, position, StatusCode::OK, view).await)
}
