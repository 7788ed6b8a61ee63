//! `GET /workspaces/{id}/traces`: what a tracing service knows of a workspace's work (contract data 4.9).

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, get, web};
use covalence_actors::effect::Secret;
use url::Url;

use crate::http::auth;
use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::request::{Ctx, workspace_id};
use crate::http::workspaces::present;

/// How long the service may take.
const WITHIN: Duration = Duration::from_secs(10);
/// Bytes of its answer that are passed on: twenty traces with all of their text.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// How many of the newest.
const LIMIT: &str = "20";

/// A Langfuse server, and what opens it.
#[derive(Clone, Debug)]
pub struct Tracing {
    /// Its address.
    pub host: Url,
    /// The name of the key.
    pub public_key: String,
    /// The key.
    pub secret_key: Secret,
}

impl Tracing {
    fn traces_of(&self, workspace: &str) -> Url {
        let mut url = self.host.clone();
        url.set_path(&format!("{}/api/public/traces", self.host.path().trim_end_matches('/')));
        url.query_pairs_mut().clear().extend_pairs([
            ("limit", LIMIT),
            ("orderBy", "timestamp"),
            ("orderDir", "desc"),
            ("tags", workspace),
        ]);
        url
    }
}

/// The newest traces of a workspace, as the operator's Langfuse server says them; `[]` where none is configured or none
/// answers.
#[utoipa::path(
    tag = "workspaces", params(("id" = String, Path)),
    responses(
        (status = 200, description = "what the service answers, or `[]`"),
        (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[get("/workspaces/{id}/traces")]
pub(crate) async fn list(ctx: Ctx, path: web::Path<String>) -> Answer {
    let id = workspace_id(&path)?;
    auth::workspace(&ctx, id)?;
    present(&ctx, id)?;
    let none = || HttpResponse::Ok().json([(); 0]);
    let Some(tracing) = &ctx.state.config.tracing else { return Ok(none()) };
    let client = ctx.request.app_data::<awc::Client>().cloned();
    let client = client
        .ok_or_else(|| ApiError::internal("failed to create proxy request", "no client in this worker"))?;
    let request = client
        .get(tracing.traces_of(&id.to_string()).as_str())
        .basic_auth(&tracing.public_key, tracing.secret_key.expose());
    let asked = async {
        let mut answer = request.send().await.map_err(|error| error.to_string())?;
        let body = answer.body().limit(BYTES_MAX).await.map_err(|error| error.to_string())?;
        Ok::<_, String>((answer.status(), body))
    };
    let late = |_| Err(format!("no answer within {} s", WITHIN.as_secs()));
    match tokio::time::timeout(WITHIN, asked).await.unwrap_or_else(late) {
        Ok((status, body)) => Ok(passed_on(status, body)),
        Err(reason) => {
            tracing::warn!(host = tracing.host.host_str(), reason, "the tracing service could not be asked");
            Ok(none())
        }
    }
}

fn passed_on(status: StatusCode, body: bytes::Bytes) -> HttpResponse {
    HttpResponse::build(status).content_type("application/json").body(body)
}
