//! `GET /workspaces/{id}/transcript`: what an agent's runtime keeps of its session, asked of the agent itself (contract data 4.8).

#![expect(unused_qualifications, reason = "the OpenAPI macro repeats the names of query types")]

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, CONTENT_TYPE};
use actix_web::{HttpResponse, get, web};
use serde::Deserialize;
use url::Url;
use utoipa::IntoParams;

use crate::http::address::{self, Occasion};
use crate::http::auth::{self, Identity};
use crate::http::error::{Answer, ApiError, ErrorBody, RETRY_NO_URL};
use crate::http::request::{Ctx, text, workspace_id};
use crate::http::workspaces::present;

/// How long an agent may take.
const WITHIN: Duration = Duration::from_secs(10);
/// Bytes of an answer that are passed on; the agent says where to go on.
const BYTES_MAX: usize = 1024 * 1024;

/// Which part of it.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Part {
    /// The cursor that the agent gave with the last part.
    since: Option<String>,
    /// At most so many lines.
    limit: Option<String>,
}

/// What an agent's runtime keeps of its session; the agent's own answer, as it comes. An agent wants its own token for that, so
/// nobody else's is shown to it.
#[utoipa::path(
    tag = "workspaces", params(("id" = String, Path), Part),
    responses(
        (status = 200, description = "`{\"runtime\",\"supported\",\"lines\",\"cursor\",\"more\"}`, as the agent says it", body = Object),
        (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 502, body = ErrorBody), (status = 503, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[get("/workspaces/{id}/transcript")]
pub(crate) async fn show(ctx: Ctx, path: web::Path<String>, part: web::Query<Part>) -> Answer {
    let id = workspace_id(&path)?;
    auth::workspace(&ctx, id)?;
    let row = present(&ctx, id)?;
    let no_url = || {
        ApiError::unavailable("workspace_no_url", "workspace has no URL", RETRY_NO_URL)
            .with("status", row.status.as_str())
    };
    let invalid = || ApiError::bad("invalid_url", "invalid workspace URL");
    let mut url: Url = row.url.as_deref().ok_or_else(no_url)?.parse().map_err(|_| invalid())?;
    let addresses = if row.url_trusted {
        Vec::new()
    } else {
        let checked = address::check(url.as_str(), ctx.state.config.surroundings, Occasion::Call).await;
        checked.map_err(|reason| {
            ApiError::bad("url_not_allowed", "workspace URL not allowed").detail(reason.to_string())
        })?
    };
    url.set_path("/transcript");
    url.set_query(None);
    for (key, value) in [("since", &part.since), ("limit", &part.limit)] {
        if let Some(value) = value {
            url.query_pairs_mut().append_pair(key, value);
        }
    }
    let client = ctx.request.app_data::<awc::Client>().cloned();
    let client = client
        .ok_or_else(|| ApiError::internal("failed to create proxy request", "no client in this worker"))?;
    let mut request = client.get(url.as_str()).no_decompress();
    if let (Identity::Workspace(_), Some(own)) =
        (ctx.known.identity, text(ctx.request.headers(), AUTHORIZATION.as_str()))
    {
        request = request.insert_header((AUTHORIZATION, own));
    }
    if let Some(address) = addresses.first() {
        request = request.address(*address);
    }
    let unreachable = |why: String| {
        ApiError::new(StatusCode::BAD_GATEWAY, "agent_unreachable", "workspace unreachable").detail(why)
    };
    let asked = async {
        let mut response = request.send().await.map_err(|error| unreachable(error.to_string()))?;
        let body = response.body().limit(BYTES_MAX).await.map_err(|error| unreachable(error.to_string()))?;
        let kind = text(response.headers(), CONTENT_TYPE.as_str()).unwrap_or("application/json").to_owned();
        Ok(HttpResponse::build(response.status()).content_type(kind).body(body))
    };
    let late = |_| Err(unreachable(format!("no answer within {} s", WITHIN.as_secs())));
    tokio::time::timeout(WITHIN, asked).await.unwrap_or_else(late)
}
