//! `/workspaces/{id}/model`: the model that an agent should use, kept as the secret `MODEL_PROVIDER` (contract data 2.2).

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, get, put, web};
use covalence_actors::runtime::CommandError;
use covalence_actors::workspace::{Command, Rejection};
use covalence_events::StreamId;
use covalence_events::workspace::SecretSet;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{INVALID, checked, sealed};
use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::request::{Ctx, workspace_id};
use crate::http::workspaces::{present, settled};
use crate::http::{auth, body, fields};

/// The name that it is kept under.
const NAME: &str = "MODEL_PROVIDER";

/// The model that was chosen for a workspace; empty where none was.
#[utoipa::path(
    tag = "secrets", params(("id" = String, Path)),
    responses((status = 200, description = "`{\"model\",\"source\"}`"), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 500, body = ErrorBody)),
    security(("bearer" = []))
)]
#[get("/workspaces/{id}/model")]
pub(crate) async fn show(ctx: Ctx, path: web::Path<String>) -> Answer {
    let id = workspace_id(&path)?;
    auth::workspace(&ctx, id)?;
    present(&ctx, id)?;
    let known = ctx.state.views.secrets.read().own(id).get(NAME).map(|secret| secret.value.clone());
    let Some(known) = known else {
        return Ok(HttpResponse::Ok().json(json!({"model": "", "source": "default"})));
    };
    let model = ctx.state.vault.open(NAME, &known);
    let model = model.map_err(|error| ApiError::internal("failed to decrypt", error))?;
    Ok(HttpResponse::Ok().json(json!({"model": model.as_str(), "source": "workspace_secrets"})))
}

/// The model that an agent should use.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ModelBody {
    /// `provider:model` or the like; empty for the runtime's own choice.
    model: String,
}

/// Chooses the model of a workspace. What runs is restarted within the fleet's limits.
#[utoipa::path(
    tag = "secrets", params(("id" = String, Path)), request_body = ModelBody,
    responses((status = 200, description = "`{\"status\":\"saved\",\"model\"}`, or `{\"status\":\"cleared\"}`"), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 500, body = ErrorBody)),
    security(("bearer" = []))
)]
#[put("/workspaces/{id}/model")]
pub(crate) async fn choose(ctx: Ctx, path: web::Path<String>, bytes: web::Bytes) -> Answer {
    let id = workspace_id(&path)?;
    let principal = auth::workspace(&ctx, id)?;
    present(&ctx, id)?;
    let ModelBody { model } = body::json(&bytes, INVALID)?;
    if model.is_empty() {
        let command = Command::RemoveSecret(NAME.to_owned());
        let position = match ctx.state.runtime.command(id, command, ctx.origin(principal)).await {
            Ok(receipt) => receipt.position,
            // None was chosen.
            Err(CommandError::Rejected(Rejection::NoSuchSecret)) => None,
            Err(error) => return Err(error.into()),
        };
        return Ok(settled(&ctx, position, StatusCode::OK, json!({"status": "cleared"})).await);
    }
    checked(NAME, &model).map_err(|error| error.field("model"))?;
    fields::text_on_create("model", &model)?;
    let value = sealed(&ctx, StreamId::Workspace(id), NAME.to_owned(), model.clone()).await?;
    let command = Command::SetSecret(SecretSet { name: NAME.to_owned(), value });
    let receipt = ctx.state.runtime.command(id, command, ctx.origin(principal)).await?;
    Ok(settled(&ctx, receipt.position, StatusCode::OK, json!({"status": "saved", "model": model})).await)
}
