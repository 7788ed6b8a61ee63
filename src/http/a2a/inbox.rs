//! Messages for an agent that fetches them, and its answers (contract 4.10).
//!
//! A message is acknowledged once it is a durable row of the agent's feed, and not before. What such an agent answers to a
//! delegated task ends that task, and is no call: its sender gets the result once, where it gets all of them.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use covalence_actors::effect::AgentReply;
use covalence_actors::runtime::CommandError;
use covalence_actors::workspace::command::Reply;
use covalence_actors::workspace::{Command, Rejection, answer};
use covalence_events::workspace::{Event, MessageQueued, Text};
use covalence_events::{CallId, DelegationId, EventId, Fact, Principal, WorkspaceId};
use covalence_projections::delegations::Stage;
use serde::Serialize;
use serde_json::{Value, json};

use super::normalise::Call;
use crate::http::activity::row;
use crate::http::error::{Answer, ApiError};
use crate::http::idempotency::recognisable;
use crate::http::request::Ctx;
use crate::http::workspaces::settled;

/// That a message waits.
#[derive(Debug, Serialize)]
struct QueuedView {
    status: &'static str,
    delivery_mode: &'static str,
    method: String,
}

/// Puts a message into the feed of an agent that fetches it. `None`: it is called, after all.
pub(super) async fn queue(
    ctx: &Ctx,
    id: WorkspaceId,
    caller: &Principal,
    call: &Call,
) -> Result<Option<HttpResponse>, ApiError> {
    let request = String::from_utf8_lossy(&call.body).into_owned();
    let message = MessageQueued {
        call: CallId::generate(),
        caller: caller.clone(),
        method: call.method.clone(),
        digest: digest(caller, &request),
        delegation: None,
        request,
    };
    let command = Command::Queue(Box::new(message));
    let receipt = match ctx.state.runtime.command(id, command, ctx.origin(caller.clone())).await {
        Ok(receipt) => receipt,
        Err(CommandError::Rejected(Rejection::NotPolling)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let view = QueuedView { status: "queued", delivery_mode: "poll", method: call.method.clone() };
    Ok(Some(settled(ctx, receipt.position, StatusCode::OK, view).await))
}

/// By what a message that is sent again is known: who sent it, and its own id.
pub(super) fn digest(caller: &Principal, request: &str) -> Option<String> {
    let request: Value = serde_json::from_str(request).ok()?;
    let id = request.pointer("/params/message/messageId")?.as_str()?;
    Some(recognisable(&format!("{caller}\n{id}")))
}

/// Takes a message for the answer to a delegated task, where it is one: from an agent that fetches its messages to a workspace
/// which waits for it. It names the task, by the row that it answers or by the task's own id; or it is said in the agent's
/// role, and then it answers the one that has waited for longest.
pub(super) async fn answered(ctx: &Ctx, id: WorkspaceId, caller: &Principal, call: &Call) -> Option<Answer> {
    let Principal::Workspace(from) = *caller else { return None };
    if from == id || !ctx.state.views.activity.read().polls(from) {
        return None;
    }
    let waits = ctx.state.views.delegations.read().of(id, usize::MAX);
    let waits = waits.iter().filter(|task| task.target == from && task.stage == Stage::Queued);
    let waiting: Vec<DelegationId> = waits.map(|task| task.delegation).collect();
    if waiting.is_empty() {
        return None;
    }
    let request: Value = serde_json::from_slice(&call.body).ok()?;
    let message = request.pointer("/params/message")?;
    let named = match named(&request) {
        Some(id) if waiting.contains(&DelegationId(id)) => Some(DelegationId(id)),
        Some(id) => task_of(ctx, from, EventId(id)).await,
        None => None,
    };
    let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
    let speaks_as_agent = matches!(role, "agent" | "assistant" | "ROLE_AGENT");
    if named.is_none() && !speaks_as_agent {
        return None;
    }
    let text = answer::text_of(message)?;
    let reply = Reply { from, named, text: Text::within(&text, AgentReply::BODY_MAX) };
    Some(record(ctx, id, reply, &request).await)
}

async fn record(ctx: &Ctx, id: WorkspaceId, reply: Reply, request: &Value) -> Answer {
    let origin = ctx.origin(Principal::Workspace(reply.from));
    let command = Command::RecordReply(Box::new(reply));
    let receipt = ctx.state.runtime.command(id, command, origin).await?;
    let result = json!({"kind": "message", "role": "agent", "messageId": uuid::Uuid::new_v4(), "parts": []});
    let view = json!({"jsonrpc": "2.0", "id": request.get("id"), "status": "recorded", "result": result});
    Ok(settled(ctx, receipt.position, StatusCode::OK, view).await)
}

/// What an answer says that it answers, as an id.
fn named(request: &Value) -> Option<uuid::Uuid> {
    let places = [
        "/params/message/metadata/delegation_id",
        "/params/metadata/delegation_id",
        "/params/message/metadata/in_reply_to",
        "/params/message/taskId",
        "/id",
    ];
    places.iter().find_map(|place| request.pointer(place)?.as_str()?.parse().ok())
}

/// The delegated task that a queued message carries.
async fn task_of(ctx: &Ctx, agent: WorkspaceId, message: EventId) -> Option<DelegationId> {
    let row = ctx.state.views.activity.read().find(agent, message)?;
    let fact = row::fact(ctx, row.position, row.id).await.ok()??;
    match &fact.fact {
        Fact::Workspace(Event::MessageQueued(queued)) => queued.delegation,
        _ => None,
    }
}
