//! Messages: what a caller asks, and what the agent answers.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::a2a::method::Dialect;
use crate::a2a::rpc::{CONTENT_TYPE_NOT_SUPPORTED, RpcError, TASK_NOT_FOUND};

/// What a runtime gets: the text of one message and where it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// All text parts, joined by line breaks.
    pub text: String,
    /// Conversation that the message belongs to; minted here if the caller named none.
    pub context_id: String,
    /// The caller's id of the message, if it gave one.
    pub message_id: Option<String>,
}

/// Reads `params.message`. Accepts the parts of 0.3 (`kind`), of older clients (`type`) and of 1.0 (neither).
pub fn prompt(params: &Value) -> Result<Prompt, RpcError> {
    let message = params
        .get("message")
        .filter(|message| message.is_object())
        .ok_or_else(|| RpcError::invalid_params("`params.message` must be an object"))?;
    let parts =
        message.get("parts").and_then(Value::as_array).filter(|parts| !parts.is_empty()).ok_or_else(
            || RpcError::invalid_params("`params.message.parts` must be a list that is not empty"),
        )?;
    if let Some(task) = text_member(message, "taskId")? {
        return Err(RpcError::new(TASK_NOT_FOUND, format!("task `{task}` does not exist")));
    }
    let mut lines = Vec::new();
    for part in parts {
        lines.extend(text_of(part)?);
    }
    if lines.is_empty() {
        let message = "no part of the message is text, and text is all that this agent reads";
        return Err(RpcError::new(CONTENT_TYPE_NOT_SUPPORTED, message));
    }
    Ok(Prompt {
        text: lines.join("\n"),
        context_id: text_member(message, "contextId")?
            .map_or_else(|| Uuid::new_v4().to_string(), str::to_owned),
        message_id: text_member(message, "messageId")?.map(str::to_owned),
    })
}

/// A string member that may be absent, null or empty.
fn text_member<'a>(message: &'a Value, name: &str) -> Result<Option<&'a str>, RpcError> {
    match message.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(_) => Err(RpcError::invalid_params(format!("`params.message.{name}` must be a string"))),
    }
}

/// The text of one part, or nothing if the part is a file or data.
fn text_of(part: &Value) -> Result<Option<&str>, RpcError> {
    let members = part
        .as_object()
        .ok_or_else(|| RpcError::invalid_params("each part of a message must be an object"))?;
    let kind = members.get("kind").or_else(|| members.get("type")).and_then(Value::as_str);
    match (kind, members.get("text")) {
        (Some("text") | None, Some(Value::String(text))) => Ok(Some(text)),
        (Some("text"), _) | (None, Some(_)) => {
            Err(RpcError::invalid_params("`text` of a text part must be a string"))
        }
        (Some(_) | None, _) => Ok(None),
    }
}

/// The result of a call that was answered with `text`.
pub fn answer(text: &str, context_id: &str, dialect: Dialect) -> Value {
    let message_id = Uuid::new_v4().to_string();
    match dialect {
        Dialect::V03 => json!({
            "kind": "message",
            "messageId": message_id,
            "contextId": context_id,
            "role": "agent",
            "parts": [{"kind": "text", "text": text}],
        }),
        Dialect::V10 => json!({"message": {
            "messageId": message_id,
            "contextId": context_id,
            "role": "ROLE_AGENT",
            "parts": [{"text": text}],
        }}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::a2a::rpc::INVALID_PARAMS;

    fn code(params: &Value) -> i64 {
        prompt(params).unwrap_err().code
    }

    #[test]
    fn text_is_read_from_the_parts_of_every_version() {
        let params = json!({"message": {"contextId": "c", "messageId": "m", "parts": [
            {"kind": "text", "text": "a"}, {"type": "text", "text": "b"}, {"text": "c"},
            {"kind": "data", "data": {}}, {"raw": "AA=="},
        ]}});
        let expected = Prompt {
            text: "a\nb\nc".to_owned(),
            context_id: "c".to_owned(),
            message_id: Some("m".to_owned()),
        };
        assert_eq!(prompt(&params), Ok(expected));
    }

    #[test]
    fn a_message_without_usable_parts_is_refused() {
        assert_eq!(code(&Value::Null), INVALID_PARAMS);
        assert_eq!(code(&json!({"message": "hi"})), INVALID_PARAMS);
        assert_eq!(code(&json!({"message": {"parts": []}})), INVALID_PARAMS);
        assert_eq!(code(&json!({"message": {"parts": ["hi"]}})), INVALID_PARAMS);
        assert_eq!(code(&json!({"message": {"parts": [{"kind": "text"}]}})), INVALID_PARAMS);
        let data = json!({"message": {"parts": [{"kind": "data", "data": {}}]}});
        assert_eq!(code(&data), CONTENT_TYPE_NOT_SUPPORTED);
        let task = json!({"message": {"taskId": "t", "parts": [{"kind": "text", "text": "a"}]}});
        assert_eq!(code(&task), TASK_NOT_FOUND);
    }
}
