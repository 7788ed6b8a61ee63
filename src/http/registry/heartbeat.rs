//! `POST /registry/heartbeat`.

use actix_web::{HttpResponse, post, web};
use covalence_actors::runtime::CommandError;
use covalence_actors::workspace::{Command, Rejection};
use covalence_events::workspace::HeartbeatReceived;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::http::error::{Answer, ErrorBody};
use crate::http::registry::{INVALID, id_in_body};
use crate::http::request::Ctx;
use crate::http::{auth, body};

/// Cents: ten billion dollars a month is a broken counter.
const SPEND_MAX: i64 = 1_000_000_000_000;
/// Bytes of an error or a task's text that are kept of one beat: a person reads the beginning.
const TEXT_MAX: usize = 2048;

/// A sign of life.
#[derive(Debug, Deserialize, ToSchema)]
pub struct HeartbeatBody {
    /// Whose.
    #[schema(format = Uuid)]
    workspace_id: String,
    /// Share of failed work, 0 to 1.
    #[serde(default, deserialize_with = "body::or_default")]
    error_rate: f64,
    /// One of the errors.
    #[serde(default, deserialize_with = "body::or_default")]
    sample_error: String,
    /// Tasks under way.
    #[serde(default, deserialize_with = "body::or_default")]
    active_tasks: i64,
    /// Seconds since the agent started.
    #[serde(default, deserialize_with = "body::or_default")]
    uptime_seconds: i64,
    /// What it is doing.
    #[serde(default, deserialize_with = "body::or_default")]
    current_task: String,
    /// Cents this month; 0 leaves what is known.
    #[serde(default, deserialize_with = "body::or_default")]
    monthly_spend: i64,
    /// `wedged`, or empty.
    #[serde(default, deserialize_with = "body::or_default")]
    runtime_state: String,
    /// A card for a workspace that has none yet.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    agent_card: Option<Value>,
}

/// See [`heartbeat`].
#[derive(Debug, Serialize, ToSchema)]
pub struct BeatView {
    /// Always `ok`.
    status: &'static str,
}

/// An agent is alive, and says how it fares. For a workspace that does not exist any more this has no effect.
#[utoipa::path(
    tag = "registry", request_body = HeartbeatBody,
    responses(
        (status = 200, body = BeatView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
    security(("bearer" = []), ())
)]
#[post("/registry/heartbeat")]
pub(crate) async fn heartbeat(ctx: Ctx, body: web::Bytes) -> Answer {
    let beat: HeartbeatBody = body::json(&body, INVALID)?;
    let id = id_in_body(&beat.workspace_id, "workspace_id")?;
    let (principal, credential) = auth::registry(&ctx, id)?;
    let command = Command::Heartbeat(Box::new(HeartbeatReceived {
        error_rate: if beat.error_rate.is_finite() { beat.error_rate.clamp(0.0, 1.0) } else { 0.0 },
        sample_error: cut(beat.sample_error),
        active_tasks: beat.active_tasks.max(0),
        uptime_seconds: beat.uptime_seconds.max(0),
        current_task: cut(beat.current_task),
        monthly_spend: (beat.monthly_spend != 0).then(|| beat.monthly_spend.clamp(0, SPEND_MAX)),
        // The CLI says `ok`, which is the same as nothing to report.
        runtime_state: if beat.runtime_state == "wedged" { beat.runtime_state } else { String::new() },
        agent_card: beat.agent_card.filter(|card| !card.is_null()),
        generation: credential.and_then(|credential| credential.generation),
    }));
    match ctx.state.runtime.command(id, command, ctx.origin(principal)).await {
        // No waiting for projections: nobody reads a beat back, and there are very many.
        Ok(_) | Err(CommandError::Rejected(Rejection::NotFound | Rejection::Removed)) => {
            Ok(HttpResponse::Ok().json(BeatView { status: "ok" }))
        }
        Err(error) => Err(error.into()),
    }
}

/// Cuts a text on a character's boundary.
fn cut(mut text: String) -> String {
    if text.len() > TEXT_MAX {
        let mut end = TEXT_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{TEXT_MAX, cut};

    #[test]
    fn long_texts_are_cut_between_characters() {
        let text = cut("é".repeat(TEXT_MAX));
        assert_eq!(text.len(), TEXT_MAX);
        assert!(cut(format!("x{text}")).len() == TEXT_MAX - 1);
    }
}
