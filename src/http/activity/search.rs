//! `/workspaces/{id}/session-search`: finds words in a workspace's feed.

#![expect(unused_qualifications, reason = "the OpenAPI macro repeats the names of query types")]

use actix_web::{HttpResponse, get, web};
use covalence_projections::activity::Wanted;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;

use super::row;
use crate::http::auth;
use crate::http::error::{Answer, ErrorBody};
use crate::http::request::{Ctx, workspace_id};
use crate::http::workspaces::present;

/// Rows found where nothing is said (contract data 4.6).
const LIMIT_DEFAULT: usize = 50;
/// Rows found at most.
const LIMIT_MAX: usize = 200;
/// Rows looked at for one answer, the newest: a search must not keep a request busy for minutes.
const LOOKED_AT_MAX: usize = 2_000;
/// Rows read at once.
const CHUNK: usize = 100;

/// What is looked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Search {
    /// Words; every row where empty.
    q: Option<String>,
    /// At most so many; 50 where absent, never more than 200.
    limit: Option<String>,
}

/// Rows of the feed that have these words in them, newest first: in the summary, the method, the status, or what was said.
#[utoipa::path(
    tag = "activity", params(("id" = String, Path), Search),
    responses((status = 200, body = [Object]), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
    security(("bearer" = []))
)]
#[get("/workspaces/{id}/session-search")]
pub(crate) async fn search(ctx: Ctx, path: web::Path<String>, query: web::Query<Search>) -> Answer {
    let id = workspace_id(&path)?;
    auth::workspace(&ctx, id)?;
    let workspace = present(&ctx, id)?;
    let limit = super::rows(query.limit.as_deref(), LIMIT_DEFAULT, LIMIT_MAX);
    let words = query.q.as_deref().unwrap_or_default().trim().to_lowercase();
    let rows = ctx.state.views.activity.read().newest(id, &Wanted::default(), LOOKED_AT_MAX);
    let mut found = Vec::new();
    for chunk in rows.chunks(CHUNK) {
        for row in row::shown(&ctx, &workspace, chunk, false).await? {
            let row = json!(row);
            if found.len() < limit && has(&row, &words) {
                found.push(hit(&row));
            }
        }
        if found.len() == limit {
            break;
        }
    }
    Ok(HttpResponse::Ok().json(found))
}

fn has(row: &Value, words: &str) -> bool {
    let texts = ["summary", "activity_type", "method", "status", "request_body", "response_body"];
    texts.iter().filter_map(|key| row.get(*key)).any(|value| match value {
        Value::Null => false,
        Value::String(text) => text.to_lowercase().contains(words),
        other => other.to_string().to_lowercase().contains(words),
    })
}

/// As the contract shows what was found.
fn hit(row: &Value) -> Value {
    let text = |key: &str| row[key].as_str().unwrap_or_default();
    let mut hit = json!({
        "kind": "activity",
        "id": row["id"],
        "workspace_id": row["workspace_id"],
        "label": row["activity_type"],
        "content": text("summary"),
        "method": text("method"),
        "status": text("status"),
        "created_at": row["created_at"],
    });
    for key in ["request_body", "response_body"] {
        if let Some(body) = row.get(key) {
            hit[key] = body.clone();
        }
    }
    hit
}
