//! What is told as it happens: facts as the wire's events, those that are kept in the list of events and those that are not.

use std::collections::HashMap;

use covalence_events::workspace::{
    ActivityReported, CallOutcome, CallRecorded, Event, HeartbeatReceived, Notified,
};
use covalence_events::{Fact, Position, Recorded, Timestamp, WorkspaceId};
use serde_json::{Value, json};

use crate::structure::{self, Moment};

/// One event for whoever listens.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The wire's name.
    pub event: &'static str,
    /// Whom it is about.
    pub workspace: WorkspaceId,
    /// When.
    pub at: Timestamp,
    /// Where in the log: a listener that comes back goes on after it.
    pub position: Position,
    /// What there is to say, JSON.
    pub payload: String,
}

/// Puts facts into the wire's words, in the log's order.
#[derive(Clone, Debug, Default)]
pub struct Teller {
    moment: Moment,
    /// What each agent said last that it does.
    tasks: HashMap<WorkspaceId, String>,
    /// Whether agents that said nothing so far may have said something before.
    begins_late: bool,
}

impl Teller {
    /// Goes on from what is known of workspaces, and from what their agents said last that they do.
    pub fn from(moment: Moment, tasks: HashMap<WorkspaceId, String>) -> Self {
        Self { moment, tasks, begins_late: false }
    }

    /// For what is over already: workspaces are named as they are now, and of each agent its first task is told, whether
    /// that is a new one or not.
    #[must_use]
    pub fn looking_back(&self) -> Self {
        Self { moment: self.moment.clone(), tasks: HashMap::new(), begins_late: true }
    }

    /// The events that the next fact is.
    pub fn tell(&mut self, recorded: &Recorded) -> Vec<Told> {
        self.moment.learn(recorded);
        let kept = structure::wire(recorded, &self.moment).map(|event| Told {
            event: event.event_type,
            workspace: event.workspace,
            at: event.created_at,
            position: event.position,
            payload: event.payload.as_json().to_owned(),
        });
        kept.into_iter().chain(self.passing(recorded)).collect()
    }

    /// Events that nobody keeps.
    fn passing(&mut self, recorded: &Recorded) -> Vec<Told> {
        let (Fact::Workspace(event), Some(workspace)) = (&recorded.fact, recorded.subject()) else {
            return Vec::new();
        };
        let said = match event {
            Event::HeartbeatReceived(e) => self.beat(workspace, e),
            Event::CallRecorded(e) => called(workspace, self.moment.name(workspace), e),
            Event::MessageQueued(e) => {
                let summary = format!("{} → {} (queued for poll)", e.method, self.moment.name(workspace));
                vec![(
                    "ACTIVITY_LOGGED",
                    logged(
                        ("a2a_receive", &e.method, &summary),
                        "ok",
                        (e.caller.workspace(), Some(workspace)),
                    ),
                )]
            }
            Event::ActivityReported(e) => vec![("ACTIVITY_LOGGED", reported(workspace, e))],
            Event::Notified(e) => vec![("AGENT_MESSAGE", notice(workspace, self.moment.name(workspace), e))],
            Event::Removed(_) | Event::Erased(_) => {
                self.tasks.remove(&workspace);
                Vec::new()
            }
            _ => Vec::new(),
        };
        let told = |(event, payload): (&'static str, Value)| Told {
            event,
            workspace,
            at: recorded.meta.at,
            position: recorded.position,
            payload: payload.to_string(),
        };
        said.into_iter().map(told).collect()
    }

    fn beat(&mut self, workspace: WorkspaceId, e: &HeartbeatReceived) -> Vec<(&'static str, Value)> {
        let mut said = Vec::with_capacity(2);
        let known = self.tasks.get(&workspace).map(String::as_str);
        let known = known.or_else(|| (!self.begins_late).then_some(""));
        if known != Some(e.current_task.as_str()) {
            self.tasks.insert(workspace, e.current_task.clone());
            let payload = json!({"current_task": e.current_task, "active_tasks": e.active_tasks});
            said.push(("TASK_UPDATED", payload));
        }
        let payload = json!({"active_tasks": e.active_tasks, "uptime_seconds": e.uptime_seconds});
        said.push(("WORKSPACE_HEARTBEAT", payload));
        said
    }
}

fn logged(
    (activity_type, method, summary): (&str, &str, &str),
    status: &str,
    (source, target): (Option<WorkspaceId>, Option<WorkspaceId>),
) -> Value {
    json!({
        "activity_type": activity_type, "method": method, "summary": summary, "status": status,
        "source_id": source, "target_id": target, "duration_ms": null,
    })
}

fn called(workspace: WorkspaceId, name: &str, e: &CallRecorded) -> Vec<(&'static str, Value)> {
    let failed = e.outcome != CallOutcome::Answered || e.status.is_some_and(|status| status >= 400);
    let summary = format!("{} → {name}", e.method);
    let ends = (e.caller.workspace(), Some(workspace));
    let status = if failed { "error" } else { "ok" };
    let mut activity = logged(("a2a_receive", &e.method, &summary), status, ends);
    activity["duration_ms"] = e.duration_ms.into();
    let response = e.response.as_ref().and_then(|text| serde_json::from_str::<Value>(&text.text).ok());
    if let Some(trace) = response.as_ref().and_then(|body| body.pointer("/result/metadata/tool_trace")) {
        activity["tool_trace"] = trace.clone();
    }
    let mut said = vec![("ACTIVITY_LOGGED", activity)];
    // A person's call is answered by this, too: his connection may be gone by then.
    if ends.0.is_none() && !failed {
        let answer = json!({"response_body": response, "method": e.method, "duration_ms": e.duration_ms});
        said.push(("A2A_RESPONSE", answer));
    }
    said
}

fn reported(workspace: WorkspaceId, e: &ActivityReported) -> Value {
    json!({
        "activity_type": e.kind.as_str(), "method": e.method, "summary": e.summary, "status": e.status,
        "source_id": workspace, "target_id": e.target, "duration_ms": e.duration_ms,
    })
}

fn notice(workspace: WorkspaceId, name: &str, e: &Notified) -> Value {
    let mut payload = json!({"message": e.message, "workspace_id": workspace, "name": name});
    if let Some(files) = e.attachments.as_deref().and_then(|files| serde_json::from_str::<Value>(files).ok())
    {
        payload["attachments"] = files;
    }
    payload
}
