//! What an agent's answer says, as text (contract 5.2).

use serde_json::{Value, json};

/// What came of a task, by the agent's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It did it, and says this.
    Done(String),
    /// It could not, and says this.
    Failed(String),
}

/// The request that carries a task. The task's own name is the message's, so that an agent that is asked twice can know.
pub fn request(delegation: covalence_events::DelegationId, task: &str) -> Value {
    json!({
        "jsonrpc": "2.0",
        "id": delegation,
        "method": "message/send",
        "params": {
            "message": {
                "kind": "message",
                "role": "user",
                "messageId": delegation,
                "parts": [{"kind": "text", "type": "text", "text": task}],
                "metadata": {"delegation_id": delegation},
            },
            "metadata": {"delegation_id": delegation},
        },
    })
}

/// Reads an answer: the text parts of its message, or else of its artifacts or its status, or else all of it.
pub fn read(body: &str) -> Said {
    let Ok(answer) = serde_json::from_str::<Value>(body) else { return Said::Done(body.to_owned()) };
    if let Some(error) = answer.get("error").filter(|error| !error.is_null()) {
        let text = error.as_str().or_else(|| error.get("message").and_then(Value::as_str));
        return Said::Failed(text.map_or_else(|| error.to_string(), str::to_owned));
    }
    let Some(result) = answer.get("result") else { return Said::Done(body.to_owned()) };
    // A2A 1.0 wraps what 0.3 tells by its kind.
    let result = result.get("task").or_else(|| result.get("message")).unwrap_or(result);
    let text = text_of(result);
    let state = result.pointer("/status/state").and_then(Value::as_str).unwrap_or_default();
    if matches!(state, "failed" | "rejected" | "canceled")
        || matches!(state, "TASK_STATE_FAILED" | "TASK_STATE_REJECTED" | "TASK_STATE_CANCELED")
    {
        return Said::Failed(text.unwrap_or_else(|| format!("the agent ended the task as {state}")));
    }
    Said::Done(text.unwrap_or_else(|| body.to_owned()))
}

/// The text of a message or a task, where it has some.
pub fn text_of(message: &Value) -> Option<String> {
    let parts = |holder: &Value| -> Vec<String> {
        let parts = holder.get("parts").and_then(Value::as_array).into_iter().flatten();
        parts.filter_map(|part| part.get("text").and_then(Value::as_str)).map(str::to_owned).collect()
    };
    let mut texts = parts(message);
    if texts.is_empty() {
        let artifacts = message.get("artifacts").and_then(Value::as_array).into_iter().flatten();
        texts = artifacts.flat_map(parts).collect();
    }
    if texts.is_empty() {
        texts = message.pointer("/status/message").map(parts).unwrap_or_default();
    }
    (!texts.is_empty()).then(|| texts.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_says_is_found_wherever_its_protocol_puts_it() {
        let done = |text: &str| Said::Done(text.to_owned());
        let failed = |text: &str| Said::Failed(text.to_owned());
        let cases = [
            (
                json!({"result": {"kind": "message", "parts": [{"kind": "text", "text": "a"}, {"kind": "text", "text": "b"}]}}),
                done("a\nb"),
            ),
            (json!({"result": {"parts": [{"type": "text", "text": "old"}]}}), done("old")),
            (json!({"result": {"message": {"parts": [{"text": "new"}]}}}), done("new")),
            (
                json!({"result": {"task": {"status": {"state": "TASK_STATE_COMPLETED"}, "artifacts": [{"parts": [{"text": "made"}]}]}}}),
                done("made"),
            ),
            (
                json!({"result": {"kind": "task", "status": {"state": "failed", "message": {"parts": [{"kind": "text", "text": "no"}]}}}}),
                failed("no"),
            ),
            (
                json!({"result": {"kind": "task", "status": {"state": "canceled"}}}),
                failed("the agent ended the task as canceled"),
            ),
            (json!({"error": {"code": -32603, "message": "boom"}}), failed("boom")),
            (json!({"error": "plain"}), failed("plain")),
        ];
        for (answer, said) in cases {
            assert_eq!(read(&answer.to_string()), said, "{answer}");
        }
        assert_eq!(read("no json"), done("no json"));
        assert_eq!(read("{\"result\":{\"x\":1}}"), done("{\"result\":{\"x\":1}}"));
    }
}
