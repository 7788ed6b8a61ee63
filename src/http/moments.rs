//! The past of the fleet: its state at two moments, side by side, and the steps between them.

#![expect(unused_qualifications, reason = "the OpenAPI macro repeats the names of query types")]

use std::sync::Arc;

use actix_web::{HttpResponse, get, web};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::http::auth;
use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::incidents::{invalid, moment, refused, who, workspaces};
use crate::http::request::Ctx;
use crate::moments::diff::{self, Diff};
use crate::moments::{Failure, Past, Span};

pub mod replay;

/// Which two moments, and about whom.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TwoMoments {
    /// The earlier moment: a time (RFC 3339) or a position; needed.
    #[param(required)]
    from: Option<String>,
    /// The later moment; now without it.
    to: Option<String>,
    /// Only about these workspaces, and about what holds everybody: ids with commas between them, at most 100.
    workspace: Option<String>,
    /// `true`: also fields that each sign of life changes, such as `last_heartbeat_at`.
    pulse: Option<bool>,
}

/// What differs between two moments: workspaces that came, went or changed, the policy, holds, brakes and engines; for each
/// field the fact that changed it last.
#[utoipa::path(
    tag = "incidents", params(TwoMoments),
    responses((status = 200, body = Diff), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
    security(("bearer" = []))
)]
#[get("/diff")]
pub(crate) async fn show_diff(ctx: Ctx, query: web::Query<TwoMoments>) -> Answer {
    auth::admin(&ctx)?;
    let span = span(&ctx, &query)?;
    let found = diff::between(&past(&ctx), &span).await;
    Ok(HttpResponse::Ok().json(found.map_err(no_answer)?))
}

fn span(ctx: &Ctx, query: &TwoMoments) -> Result<Span, ApiError> {
    let Some(from) = query.from.as_deref().filter(|from| !from.trim().is_empty()) else {
        return Err(invalid("from").detail("expected a moment to begin with"));
    };
    Ok(Span {
        from: moment(ctx, "from", Some(from))?,
        to: moment(ctx, "to", query.to.as_deref())?,
        workspaces: workspaces(query.workspace.as_deref())?,
        pulse: query.pulse.unwrap_or(false),
    })
}

fn past(ctx: &Ctx) -> Past {
    Past { log: Arc::clone(&ctx.state.log), history: ctx.state.history.clone(), who: who(ctx) }
}

fn no_answer(failure: Failure) -> ApiError {
    match failure {
        Failure::Question(covalence_incidents::Failure::Backwards) => {
            invalid("from").detail("expected a moment before `to`")
        }
        Failure::Question(failure) => refused(failure),
        Failure::TooLong { facts, most } => invalid("from").detail(format!(
            "{facts} facts lie between the two moments, and a replay goes over {most} at most"
        )),
        Failure::Damaged(error) => ApiError::internal("query failed", error),
    }
}
