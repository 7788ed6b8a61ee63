//! `POST /admin/master-key/rotate`: another key behind the keys of the workspaces, while they are in use.

use actix_web::http::StatusCode;
use actix_web::{post, web};
use covalence_actors::fleet;
use covalence_events::fleet::MasterKeyRotated;
use covalence_events::keyring::{KeyringError, Rotation};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::INVALID;
use crate::config::master_key;
use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::request::Ctx;
use crate::http::workspaces::settled;
use crate::http::{auth, body};

/// See [`rotate_master_key`].
#[derive(Default, Deserialize, ToSchema)]
pub struct RotateBody {
    /// The next master key, 32 bytes as base64, where the present one is given to the server from outside.
    #[serde(default)]
    key: Option<String>,
}

impl std::fmt::Debug for RotateBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RotateBody").finish_non_exhaustive()
    }
}

/// What became of the master key.
#[derive(Debug, Serialize, ToSchema)]
pub struct RotatedView {
    /// `replaced`, or `announced`: then the next start needs the next master key, and ends the change.
    status: &'static str,
    /// The name of the master key that takes over. The key can't be learned from it.
    master: String,
    /// Keys that it wraps.
    keys: usize,
}

/// Replaces the master key, which wraps the keys of all workspaces; nothing is restarted, and nothing waits. Where it is in the
/// server's own file, at once by a fresh one. Where it is given from outside, the next one is given here, and to the next start.
#[utoipa::path(
    tag = "secrets", request_body = Option<RotateBody>,
    responses(
        (status = 200, body = RotatedView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 500, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/admin/master-key/rotate")]
pub(crate) async fn rotate_master_key(ctx: Ctx, bytes: web::Bytes) -> Answer {
    let principal = auth::admin(&ctx)?;
    let RotateBody { key } =
        if bytes.is_empty() { RotateBody::default() } else { body::json(&bytes, INVALID)? };
    let unusable = || {
        ApiError::bad("invalid_body", INVALID)
            .field("key")
            .detail("base64 of 32 bytes, or 32 bytes that are not base64")
    };
    let next = key.map(|key| master_key(&key).ok_or_else(unusable)).transpose()?;
    let vault = ctx.state.vault.clone();
    let rotated = web::block(move || vault.rotate(next)).await;
    let rotated = rotated.map_err(|error| ApiError::internal(FAILED, error))?.map_err(failure)?;
    let command = fleet::Command::RecordKeyRotated(fact(&rotated));
    let position = ctx.state.runtime.fleet(command, ctx.origin(principal)).await?;
    let status = if rotated.in_force { "replaced" } else { "announced" };
    let view = RotatedView { status, master: rotated.master, keys: rotated.keys };
    Ok(settled(&ctx, position, StatusCode::OK, view).await)
}

/// The fact that a master key takes over.
pub(crate) fn fact(rotated: &Rotation) -> MasterKeyRotated {
    MasterKeyRotated { master: rotated.master.clone(), keys: rotated.keys as u64, in_force: rotated.in_force }
}

const FAILED: &str = "failed to replace the master key";

fn failure(error: KeyringError) -> ApiError {
    let code = match &error {
        KeyringError::Rotating => "rotation_under_way",
        KeyringError::KeptOutside => "master_key_outside",
        KeyringError::SameMaster => "same_master_key",
        KeyringError::NoKeys => "no_keys",
        KeyringError::Io { .. }
        | KeyringError::Malformed { .. }
        | KeyringError::NoMaster { .. }
        | KeyringError::WrongMaster { .. } => return ApiError::internal(FAILED, error),
    };
    ApiError::conflict(code, error.to_string())
}
