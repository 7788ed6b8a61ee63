//! One row of a feed as clients read it: every field of the contract, and what the Python client reads beside it
//! (contract data 4.2).

use std::sync::Arc;

use chrono::{DateTime, Utc};
use covalence_actors::workspace::answer;
use covalence_events::workspace::{
    ActivityReported, CallOutcome, CallRecorded, DelegationOutcome, Event, MessageQueued, Notified, Text,
};
use covalence_events::{DelegationId, EventId, Fact, Position, Recorded, WorkspaceId};
use covalence_projections::Row as Workspace;
use covalence_projections::activity::Row;
use covalence_projections::delegations::Stage;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::boundary;
use crate::http::error::ApiError;
use crate::http::request::Ctx;

/// Characters of a message in a summary.
const SUMMARY_CHARS: usize = 80;

/// One row.
#[derive(Debug, Serialize, ToSchema)]
pub struct ActivityRow {
    /// The fact behind it; the cursor for `since_id`.
    #[schema(value_type = String, format = Uuid)]
    id: EventId,
    /// Whose feed it is in.
    #[schema(value_type = String, format = Uuid)]
    workspace_id: WorkspaceId,
    /// `a2a_receive`, `delegation`, or what an agent may report.
    activity_type: &'static str,
    /// The same under another name.
    r#type: &'static str,
    /// Grows from row to row.
    seq: u64,
    /// Which workspace it came from; none: a person.
    #[schema(value_type = Option<String>, format = Uuid)]
    source_id: Option<WorkspaceId>,
    /// Which one it went to.
    #[schema(value_type = Option<String>, format = Uuid)]
    target_id: Option<WorkspaceId>,
    /// What was called.
    method: Option<String>,
    /// One line about it.
    summary: Option<String>,
    /// How long it took.
    duration_ms: Option<i64>,
    /// `ok`, `error`; of delegations how far they are.
    status: String,
    /// What went wrong.
    error_detail: Option<String>,
    /// When.
    created_at: DateTime<Utc>,
    /// What was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    request_body: Option<Value>,
    /// What came back.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    response_body: Option<Value>,
    /// The tools that the agent used, as it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    tool_trace: Option<Value>,
    /// Who says what, for clients that look here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    data: Option<Value>,
    /// What the sender is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_name: Option<String>,
    /// The sender's job.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_role: Option<String>,
    /// Where the sender is found.
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_card_url: Option<String>,
    /// Files in the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<Object>)]
    attachments: Option<Value>,
}

/// Rows with their words, in the order given. One whose fact has expired is left out.
pub async fn shown(
    ctx: &Ctx,
    workspace: &Workspace,
    rows: &[Arc<Row>],
    with_peers: bool,
) -> Result<Vec<ActivityRow>, ApiError> {
    let mut shown = Vec::with_capacity(rows.len());
    for row in rows {
        if let Some(recorded) = fact(ctx, row.position, row.id).await? {
            shown.extend(Shown { ctx, workspace, row, with_peers }.of(&recorded));
        }
    }
    Ok(shown)
}

/// The fact behind an entry of a list, by its place and its id, if it is still there.
pub async fn fact(ctx: &Ctx, position: Position, id: EventId) -> Result<Option<Arc<Recorded>>, ApiError> {
    let read = ctx.state.log.read_all(position, 1).await;
    let read = read.map_err(|error| ApiError::internal("query failed", error))?;
    Ok(read.into_iter().next().filter(|recorded| recorded.meta.id == id))
}

/// What it takes to show one row.
struct Shown<'a> {
    ctx: &'a Ctx,
    workspace: &'a Workspace,
    row: &'a Row,
    with_peers: bool,
}

impl Shown<'_> {
    fn of(&self, recorded: &Recorded) -> Option<ActivityRow> {
        let Fact::Workspace(event) = &recorded.fact else { return None };
        let bare = self.bare();
        Some(match event {
            Event::CallRecorded(e) => self.with_sender(self.call(e, bare)),
            Event::MessageQueued(e) => self.with_sender(self.message(e, bare)),
            Event::ActivityReported(e) => reported(e, bare),
            Event::Notified(e) => notice(e, bare),
            Event::DelegationRequested(e) => self.delegated(e.delegation, &e.task, bare),
            Event::DelegationEnded(e) => {
                let said = Ended {
                    delegation: e.delegation,
                    outcome: e.outcome,
                    text: e.response.as_ref().map(|text| text.text.as_str()),
                    error: e.error.as_deref(),
                };
                let row = self.result(&said, bare);
                if self.row.polled { self.with_sender(row) } else { row }
            }
            _ => return None,
        })
    }

    fn bare(&self) -> ActivityRow {
        let activity_type = self.row.activity_type();
        ActivityRow {
            id: self.row.id,
            workspace_id: self.workspace.id,
            activity_type,
            r#type: activity_type,
            seq: self.row.position.0,
            source_id: self.row.source,
            target_id: self.row.target,
            method: None,
            summary: None,
            duration_ms: None,
            status: "ok".to_owned(),
            error_detail: None,
            created_at: self.row.at,
            request_body: None,
            response_body: None,
            tool_trace: None,
            data: None,
            peer_name: None,
            peer_role: None,
            agent_card_url: None,
            attachments: None,
        }
    }

    fn call(&self, e: &CallRecorded, bare: ActivityRow) -> ActivityRow {
        let failed = e.outcome != CallOutcome::Answered || e.status.is_some_and(|status| status >= 400);
        let name = &self.workspace.name;
        let response_body = e.response.as_ref().map(json_of);
        let trace = response_body.as_ref().and_then(|body| body.pointer("/result/metadata/tool_trace"));
        ActivityRow {
            method: Some(e.method.clone()),
            summary: Some(match (&e.error, failed) {
                (Some(error), _) => format!("A2A request to {name} failed: {error}"),
                (None, true) => format!("A2A request to {name} failed"),
                (None, false) => format!("{} → {name}", e.method),
            }),
            duration_ms: i64::try_from(e.duration_ms).ok(),
            status: if failed { "error" } else { "ok" }.to_owned(),
            error_detail: e.error.clone(),
            request_body: Some(json_of(&e.request)),
            tool_trace: trace.cloned(),
            response_body,
            ..bare
        }
    }

    fn message(&self, e: &MessageQueued, bare: ActivityRow) -> ActivityRow {
        let mut request = parsed(&e.request);
        both_words(&mut request);
        ActivityRow {
            method: Some(e.method.clone()),
            summary: Some(format!("{} → {} (queued for poll)", e.method, self.workspace.name)),
            request_body: Some(request),
            ..bare
        }
    }

    fn delegated(&self, delegation: DelegationId, task: &str, bare: ActivityRow) -> ActivityRow {
        let known = self.ctx.state.views.delegations.read().find(self.workspace.id, delegation);
        let stage = known.map_or(Stage::Pending, |known| known.stage);
        ActivityRow {
            method: Some("delegate".to_owned()),
            summary: Some(format!("Delegating to {}", self.name(bare.target_id))),
            status: stage.as_str().to_owned(),
            request_body: Some(json!({"task": task, "delegation_id": delegation})),
            ..bare
        }
    }

    fn result(&self, said: &Ended<'_>, bare: ActivityRow) -> ActivityRow {
        let delegation = said.delegation;
        let text = said.text.map(|text| self.handed_over(text));
        let told = text.clone().or_else(|| said.error.map(|error| format!("Delegation failed: {error}")));
        ActivityRow {
            method: Some("delegate_result".to_owned()),
            summary: Some(match said.outcome {
                DelegationOutcome::Completed => {
                    format!("Delegation completed ({})", beginning(said.text.unwrap_or_default()))
                }
                DelegationOutcome::Failed => {
                    format!("Delegation failed: {}", said.error.unwrap_or("no reason given"))
                }
            }),
            status: said.outcome.as_str().to_owned(),
            error_detail: said.error.map(str::to_owned),
            // Who fetches messages reads this as one.
            request_body: self.row.polled.then(|| {
                let part = json!({"kind": "text", "type": "text", "text": told.unwrap_or_default()});
                let metadata = json!({"delegation_id": delegation, "status": said.outcome.as_str()});
                let message = json!({"role": "agent", "messageId": bare.id, "parts": [part], "metadata": metadata});
                json!({"jsonrpc": "2.0", "id": delegation, "method": "message/send", "params": {"message": message}})
            }),
            response_body: Some(json!({"text": text, "delegation_id": delegation})),
            ..bare
        }
    }

    /// A peer's words on their way out of the platform are marked as a peer's (R55). The runtimes that we start mark them
    /// themselves.
    fn handed_over(&self, text: &str) -> String {
        if self.row.polled { boundary::wrap(text) } else { text.to_owned() }
    }

    fn name(&self, workspace: Option<WorkspaceId>) -> String {
        let known = workspace.and_then(|id| self.ctx.state.views.roster.read().get(id));
        known.map_or_else(|| "an unknown workspace".to_owned(), |row| row.name.clone())
    }

    /// Adds who sent it, where the client reads that.
    fn with_sender(&self, row: ActivityRow) -> ActivityRow {
        let peer = row.source_id.and_then(|id| self.ctx.state.views.roster.read().get(id));
        let card_url = row.source_id.map(|id| format!("{}/registry/discover/{id}", self.ctx.public_base()));
        let message = row.request_body.as_ref().and_then(message_of);
        let data = json!({
            "source": if row.source_id.is_some() { "peer_agent" } else { "canvas_user" },
            "source_id": row.source_id,
            "text": message.and_then(answer::text_of).unwrap_or_default(),
            "peer_name": peer.as_ref().map(|peer| &peer.name),
            "peer_role": peer.as_ref().and_then(|peer| peer.role.as_ref()),
            "agent_card_url": card_url,
        });
        let attachments = message.and_then(files);
        let with_peers = self.with_peers;
        ActivityRow {
            data: Some(data),
            peer_name: peer.as_ref().filter(|_| with_peers).map(|peer| peer.name.clone()),
            peer_role: peer.as_ref().filter(|_| with_peers).and_then(|peer| peer.role.clone()),
            agent_card_url: card_url.filter(|_| with_peers && peer.is_some()),
            attachments: attachments.filter(|_| with_peers),
            ..row
        }
    }
}

/// What came of a task.
struct Ended<'a> {
    delegation: DelegationId,
    outcome: DelegationOutcome,
    text: Option<&'a str>,
    error: Option<&'a str>,
}

fn reported(e: &ActivityReported, bare: ActivityRow) -> ActivityRow {
    ActivityRow {
        method: e.method.clone(),
        summary: e.summary.clone(),
        duration_ms: e.duration_ms,
        status: e.status.clone(),
        error_detail: e.error_detail.clone(),
        request_body: e.request.as_deref().map(parsed),
        response_body: e.response.as_deref().map(parsed),
        ..bare
    }
}

/// Its own word to people: no sender and no request, so that an agent which fetches it does not answer itself.
fn notice(e: &Notified, bare: ActivityRow) -> ActivityRow {
    let files = e.attachments.as_deref().map(parsed);
    let files = files.as_ref().and_then(Value::as_array).into_iter().flatten();
    let parts: Vec<Value> = files.map(|file| json!({"kind": "file", "file": file})).collect();
    let mut response = json!({"result": e.message});
    if !parts.is_empty() {
        response["parts"] = parts.into();
    }
    ActivityRow {
        method: Some("notify".to_owned()),
        summary: Some(format!("Agent message: {}", beginning(&e.message))),
        response_body: Some(response),
        ..bare
    }
}

/// The beginning of a text, for one line.
fn beginning(text: &str) -> String {
    let cut: String = text.chars().take(SUMMARY_CHARS).collect();
    if cut.len() < text.len() { format!("{cut}…") } else { cut }
}

/// JSON as JSON; anything else, also what was cut, as a text.
pub fn json_of(text: &Text) -> Value {
    if text.cut { Value::String(text.text.clone()) } else { parsed(&text.text) }
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// Where a request has its message: some clients leave layers out.
fn message_of(request: &Value) -> Option<&Value> {
    let has_parts = |value: &&Value| value.get("parts").is_some();
    [request.pointer("/params/message"), request.get("params"), Some(request)]
        .into_iter()
        .flatten()
        .find(has_parts)
}

/// Clients tell a part's kind by one of two words; queued messages have both.
fn both_words(request: &mut Value) {
    let parts = request.pointer_mut("/params/message/parts").and_then(Value::as_array_mut);
    for part in parts.into_iter().flatten().filter_map(Value::as_object_mut) {
        let kind = part.get("kind").or_else(|| part.get("type")).cloned();
        let kind = kind.or_else(|| part.contains_key("text").then(|| "text".into()));
        if let Some(kind) = kind {
            part.entry("kind").or_insert_with(|| kind.clone());
            part.entry("type").or_insert(kind);
        }
    }
}

/// The files in a message, flat.
fn files(message: &Value) -> Option<Value> {
    let parts = message.get("parts").and_then(Value::as_array)?;
    let mut files = Vec::new();
    for part in parts {
        let kind = part.get("kind").or_else(|| part.get("type")).and_then(Value::as_str).unwrap_or_default();
        if !matches!(kind, "file" | "image" | "audio" | "video") {
            continue;
        }
        let file = part.get("file").unwrap_or(part);
        let text = |keys: [&str; 2]| keys.iter().find_map(|key| file.get(*key)?.as_str());
        let (uri, name) = (text(["uri", "url"]), text(["name", "filename"]));
        if uri.is_none() && name.is_none() {
            continue;
        }
        let mut shown = json!({"kind": kind});
        for (key, value) in [("uri", uri), ("mime_type", text(["mimeType", "mime_type"])), ("name", name)] {
            if let Some(value) = value {
                shown[key] = value.into();
            }
        }
        files.push(shown);
    }
    (!files.is_empty()).then_some(Value::Array(files))
}
