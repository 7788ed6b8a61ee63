//! What the caller of a call learns whose instance is being replaced: which restart, and whether its request was taken in.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use bytes::Bytes;
use covalence_actors::runtime::Examined;
use covalence_events::RestartId;
use serde_json::{Map, Value, json};

use crate::http::a2a::relay::{Failure, Forward};
use crate::http::error::{ApiError, RESTARTING, RETRY_RESTART};

/// The instance that was called is being replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Restarting(Option<RestartId>);

/// Whether the agent got the request, as far as anybody can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    NotDelivered,
    Unknown,
}

impl Delivery {
    pub(super) const fn of(failure: &Failure) -> Self {
        match failure {
            Failure::NotReached(_) => Self::NotDelivered,
            Failure::Lost(_) | Failure::RanOut(_) => Self::Unknown,
        }
    }

    /// A 503 says that the request was not taken in, whoever gave it.
    pub(super) fn of_answer(status: StatusCode) -> Self {
        if status == StatusCode::SERVICE_UNAVAILABLE { Self::NotDelivered } else { Self::Unknown }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::NotDelivered => "not_delivered",
            Self::Unknown => "unknown",
        }
    }
}

impl Restarting {
    /// The contract's answer.
    pub(super) fn error(self, delivery: Delivery) -> ApiError {
        ApiError::restarting(self.0).with("delivery", delivery.as_str())
    }

    /// An answer that broke off because of it keeps its status and text.
    pub(super) fn explain(self, error: ApiError) -> ApiError {
        let error = error.with("restarting", true).with("delivery", Delivery::Unknown.as_str());
        let error = error.retry_after(RETRY_RESTART);
        match self.0 {
            Some(restart) => error.with("restart_id", restart.to_string()),
            None => error,
        }
    }

    /// The last event of a stream that broke off because of it: the stream's own binding says errors as JSON-RPC.
    pub(super) fn event(self, request: &[u8]) -> Bytes {
        Bytes::from(format!("data: {}\n\n", self.rpc(request)))
    }

    /// In place of what an agent answered that was stopped under its call: an error either way, which now says why.
    pub(super) fn answer(self, status: StatusCode, request: &[u8]) -> HttpResponse {
        HttpResponse::build(status).insert_header((RETRY_AFTER, RETRY_RESTART)).json(self.rpc(request))
    }

    fn rpc(self, request: &[u8]) -> Value {
        let id = serde_json::from_slice(request)
            .ok()
            .and_then(|mut request: Map<String, Value>| request.remove("id"));
        let data = json!({
            "restarting": true,
            "delivery": Delivery::Unknown.as_str(),
            "restart_id": self.0.map(|restart| restart.to_string()),
            "retry_after": RETRY_RESTART,
        });
        let error = json!({"code": INTERNAL_ERROR, "message": RESTARTING, "data": data});
        json!({"jsonrpc": "2.0", "id": id.unwrap_or_default(), "error": error})
    }
}

/// JSON-RPC's word for a failure of the server's; A2A has none of its own for a restart.
const INTERNAL_ERROR: i64 = -32603;

impl Forward {
    /// Whether the instance that was called is being replaced, or turns out to be gone when it is looked at.
    pub(super) async fn restarting(&self) -> Option<Restarting> {
        if let Some(restarting) = self.replaced() {
            return Some(restarting);
        }
        match self.state.runtime.examine(self.id, self.origin.clone()).await {
            Ok(Examined::Dead { restart }) => Some(Restarting(restart)),
            Ok(Examined::Alive | Examined::Unknown) => None,
            Err(error) => {
                tracing::debug!(workspace = %self.id, %error, "the instance could not be looked at");
                None
            }
        }
    }

    /// Whether another generation has taken the place of the one that was called.
    pub(super) fn replaced(&self) -> Option<Restarting> {
        let row = self.state.views.roster.read().get(self.id)?;
        let newer = row.generation > self.generation;
        newer.then(|| Restarting(row.restart.as_ref().map(|restart| restart.id)))
    }
}

/// What a caller is told of an answer that broke off.
pub(super) fn broke_off(status: StatusCode, restarting: Option<Restarting>) -> ApiError {
    let error =
        ApiError::new(StatusCode::BAD_GATEWAY, "agent_response_lost", "failed to read agent response")
            .with("delivery_confirmed", status.as_u16() < 400);
    match restarting {
        Some(restarting) => restarting.explain(error),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use covalence_events::RestartId;
    use serde_json::Value;

    use super::Restarting;

    #[test]
    fn a_stream_that_breaks_off_ends_with_an_error_of_its_own_request() {
        let restart = RestartId("0190a0b0-c0d0-7e00-8f00-000000000001".parse().unwrap());
        let event =
            Restarting(Some(restart)).event(br#"{"jsonrpc":"2.0","id":"call-7","method":"message/stream"}"#);
        let text = std::str::from_utf8(&event).unwrap();
        let data = text.strip_prefix("data: ").unwrap().strip_suffix("\n\n").unwrap();
        let event: Value = serde_json::from_str(data).unwrap();
        assert_eq!((&event["id"], &event["error"]["code"]), (&"call-7".into(), &(-32603).into()));
        assert_eq!(event["error"]["data"]["restart_id"], restart.to_string());
        assert_eq!(event["error"]["data"]["delivery"], "unknown");
    }
}
