//! What the caller of a call learns whose instance is being replaced: which restart, whether something holds it back, and
//! whether its request was taken in.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use bytes::Bytes;
use covalence_actors::policy::admission;
use covalence_actors::runtime::Examined;
use covalence_events::{RestartId, WorkspaceId};
use covalence_projections::roster::Condition;
use serde_json::{Map, Value, json};

use crate::http::HttpState;
use crate::http::a2a::relay::{Failure, Forward};
use crate::http::error::{ApiError, RESTART_HELD, RESTARTING, RETRY_HELD, RETRY_RESTART};

/// The instance that was called is being replaced, or will be once a person lets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Restarting {
    restart: Option<RestartId>,
    /// The rule that holds it back until a person acts.
    held: Option<&'static str>,
}

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
    /// Of a workspace whose call met this restart, as its row shows it by now.
    pub(super) fn of(state: &HttpState, id: WorkspaceId, restart: Option<RestartId>) -> Self {
        let row = state.views.roster.read().get(id);
        let held = row.and_then(|row| {
            let standing = &row.standing;
            let held = matches!(standing.condition, Condition::Held | Condition::Quarantined);
            standing.rule.as_deref().filter(|_| held).and_then(admission::waits_for_a_person)
        });
        Self { restart, held }
    }

    /// The contract's answer; where a person holds the restart back, it says that instead.
    pub(super) fn error(self, delivery: Delivery) -> ApiError {
        let code = if self.held.is_some() { "agent_restart_held" } else { "agent_restarting" };
        self.explain(ApiError::unavailable(code, self.text(), self.retry_after()), delivery)
    }

    /// An answer that broke off because of it keeps its status and text.
    pub(super) fn explain(self, error: ApiError, delivery: Delivery) -> ApiError {
        let error = error.with("restarting", self.held.is_none()).with("delivery", delivery.as_str());
        let error = error.retry_after(self.retry_after());
        let error = match self.restart {
            Some(restart) => error.with("restart_id", restart.to_string()),
            None => error,
        };
        match self.held {
            Some(rule) => error.with("held_by", rule),
            None => error,
        }
    }

    /// The last event of a stream that broke off because of it: the stream's own binding says errors as JSON-RPC.
    pub(super) fn event(self, request: &[u8]) -> Bytes {
        Bytes::from(format!("data: {}\n\n", self.rpc(request)))
    }

    /// In place of what an agent answered that was stopped under its call: an error either way, which now says why.
    pub(super) fn answer(self, status: StatusCode, request: &[u8]) -> HttpResponse {
        HttpResponse::build(status).insert_header((RETRY_AFTER, self.retry_after())).json(self.rpc(request))
    }

    fn rpc(self, request: &[u8]) -> Value {
        let id = serde_json::from_slice(request)
            .ok()
            .and_then(|mut request: Map<String, Value>| request.remove("id"));
        let mut data = json!({
            "restarting": self.held.is_none(),
            "delivery": Delivery::Unknown.as_str(),
            "restart_id": self.restart.map(|restart| restart.to_string()),
            "retry_after": self.retry_after(),
        });
        if let Some(rule) = self.held {
            data["held_by"] = json!(rule);
        }
        let error = json!({"code": INTERNAL_ERROR, "message": self.text(), "data": data});
        json!({"jsonrpc": "2.0", "id": id.unwrap_or_default(), "error": error})
    }

    const fn text(self) -> &'static str {
        if self.held.is_some() { RESTART_HELD } else { RESTARTING }
    }

    const fn retry_after(self) -> u64 {
        if self.held.is_some() { RETRY_HELD } else { RETRY_RESTART }
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
            Ok(Examined::Dead { restart }) => Some(Restarting::of(&self.state, self.id, restart)),
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
        let restart = row.restart.as_ref().map(|restart| restart.id);
        newer.then(|| Restarting::of(&self.state, self.id, restart))
    }
}

/// What a caller is told of an answer that broke off.
pub(super) fn broke_off(status: StatusCode, restarting: Option<Restarting>) -> ApiError {
    let error =
        ApiError::new(StatusCode::BAD_GATEWAY, "agent_response_lost", "failed to read agent response")
            .with("delivery_confirmed", status.as_u16() < 400);
    match restarting {
        Some(restarting) => restarting.explain(error, Delivery::Unknown),
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
        let event = Restarting { restart: Some(restart), held: None }
            .event(br#"{"jsonrpc":"2.0","id":"call-7","method":"message/stream"}"#);
        let text = std::str::from_utf8(&event).unwrap();
        let data = text.strip_prefix("data: ").unwrap().strip_suffix("\n\n").unwrap();
        let event: Value = serde_json::from_str(data).unwrap();
        assert_eq!((&event["id"], &event["error"]["code"]), (&"call-7".into(), &(-32603).into()));
        assert_eq!(event["error"]["data"]["restart_id"], restart.to_string());
        assert_eq!(event["error"]["data"]["delivery"], "unknown");
    }
}
