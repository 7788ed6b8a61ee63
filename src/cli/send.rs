//! `covalence send`: one A2A message through the platform, and its answer.

use std::time::Duration;

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::output::{note, printable, text};
use crate::cli::{Shared, name, wait};

/// Between two looks at a message that waits.
const LOOK: Duration = Duration::from_millis(500);

const EXAMPLES: &str = "\
Examples:
  covalence send lead 'what are you working on?'
  covalence send lead --json 'hello' | jq .result";

/// Send a message to a workspace and print its answer
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Send {
    /// Workspace: name, id, or the beginning of either
    workspace: String,
    /// What to say
    text: String,
    /// Give up after this long
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = wait::parse_timeout)]
    timeout: Duration,
}

impl Send {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let client = shared.client()?;
        let (rows, _) = client.roster().await?;
        let roster: Vec<_> = rows.iter().map(name::Named::from_row).collect();
        let workspace = name::resolve(&self.workspace, &roster)?;
        let call = json!({
            "jsonrpc": "2.0",
            "id": uuid::Uuid::new_v4().to_string(),
            "method": "message/send",
            "params": { "message": {
                "kind": "message",
                "role": "user",
                "messageId": uuid::Uuid::new_v4().to_string(),
                "parts": [{ "kind": "text", "text": self.text }],
            }},
        });
        let request = client.request(Method::POST, &["workspaces", &workspace.id, "a2a"]);
        let response = client.send(request.json(&call).timeout(self.timeout)).await?;
        let mut answer: Value = response.json().await.map_err(|error| client.transport_failure(error))?;
        if let Some(queue) = answer.get("queue_id").and_then(Value::as_str) {
            note(&format!("`{}` is busy: the message waits as {queue}", printable(&workspace.name)));
            answer = until_answered(&client, &workspace.id, queue, self.timeout).await?;
        }
        let output = shared.output();
        if output.json {
            output.document(&answer)?;
        }
        if let Some(error) = answer.get("error") {
            let code = error.get("code").and_then(Value::as_i64).unwrap_or_default();
            let message = format!("`{}` answered error {code}: {}", workspace.name, text(error, "message"));
            return Err(Failure::new(Exit::Failure, message));
        }
        if output.json {
            return Ok(());
        }
        output.line(&said(answer.get("result").unwrap_or(&Value::Null)))
    }
}

/// What came of a message that waits for a busy agent.
async fn until_answered(client: &Client, workspace: &str, queue: &str, within: Duration) -> Outcome<Value> {
    let asked = async {
        loop {
            let call = client.get(&["workspaces", workspace, "a2a", "queue", queue]).await?;
            match text(&call, "status") {
                "completed" => return Ok(call["response_body"].clone()),
                "queued" | "dispatched" => tokio::time::sleep(LOOK).await,
                status => {
                    let why = format!("the message was {status}: {}", text(&call, "last_error"));
                    return Err(Failure::new(Exit::Failure, why));
                }
            }
        }
    };
    tokio::time::timeout(within, asked).await.unwrap_or_else(|_| {
        let message = format!("no answer after {} s; the message still waits", within.as_secs());
        Err(Failure::new(Exit::TimedOut, message))
    })
}

/// The text of a message, or of a task's artifacts, or of its status; the JSON itself where there is no text.
fn said(result: &Value) -> String {
    let artifacts = result.get("artifacts").and_then(Value::as_array);
    let mut places: Vec<&Value> = vec![result];
    places.extend(artifacts.into_iter().flatten());
    places.extend(result.pointer("/status/message"));
    for place in places {
        let parts = place.get("parts").and_then(Value::as_array).into_iter().flatten();
        let texts: Vec<&str> = parts.map(|part| text(part, "text")).filter(|text| !text.is_empty()).collect();
        if !texts.is_empty() {
            return texts.join("\n");
        }
    }
    result.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_the_text_of_a_message_or_of_a_task() {
        let message = json!({"kind": "message", "parts": [{"kind": "text", "text": "a"}, {"kind": "text", "text": "b"}]});
        assert_eq!(said(&message), "a\nb");
        let task = json!({"kind": "task", "artifacts": [{"parts": [{"kind": "text", "text": "done"}]}]});
        assert_eq!(said(&task), "done");
        let status = json!({"kind": "task", "status": {"message": {"parts": [{"text": "working"}]}}});
        assert_eq!(said(&status), "working");
        assert_eq!(said(&json!({"x": 1})), r#"{"x":1}"#);
    }
}
