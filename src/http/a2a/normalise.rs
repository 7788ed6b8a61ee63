//! What the relay mends in a request before the agent sees it (contract 4.4). A request that needs no mending goes on byte
//! for byte, so that nothing in it is lost that we have no word for.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::http::error::ApiError;

/// A request for an agent.
#[derive(Clone, Debug)]
pub struct Call {
    /// The JSON-RPC method; empty if there is none.
    pub method: String,
    /// The body to send.
    pub body: Bytes,
}

/// Bytes of a method's name that are kept in records: the longest real one has half of that.
const METHOD_MAX: usize = 100;

/// Mends a request.
pub fn normalise(body: Bytes) -> Result<Call, ApiError> {
    match whole(&body).map(|request| named(request.method.as_deref().unwrap_or_default())) {
        Some(method) => Ok(Call { method, body }),
        None => mended(body),
    }
}

/// The method's name as records keep it.
fn named(method: &str) -> String {
    method.chars().filter(|letter| !letter.is_control()).take(METHOD_MAX).collect()
}

/// What there is to mend in a request, found without a copy of the rest. What does not fit in here is looked at again in
/// full: as `Option` and not the value counts, an explicit `null` is such a thing too.
#[derive(Deserialize)]
struct Request<'a> {
    jsonrpc: Option<IgnoredAny>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    params: Option<Params>,
}

#[derive(Deserialize)]
struct Params {
    message: Option<Message>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(rename = "messageId")]
    id: Option<IgnoredAny>,
    role: Option<IgnoredAny>,
    parts: Option<Vec<Part>>,
}

#[derive(Deserialize)]
struct Part {
    kind: Option<IgnoredAny>,
    #[serde(rename = "type")]
    old_kind: Option<IgnoredAny>,
}

impl Message {
    fn is_whole(&self) -> bool {
        let named = |part: &Part| part.kind.is_some() || part.old_kind.is_none();
        self.id.is_some()
            && self.role.is_some()
            && self.parts.as_ref().is_some_and(|parts| parts.iter().all(named))
    }
}

/// A request that surely needs no mending.
fn whole(body: &[u8]) -> Option<Request<'_>> {
    // A list would be read as the members in their order.
    let text = std::str::from_utf8(body).ok().filter(|text| text.trim_start().starts_with('{'))?;
    let request: Request<'_> = serde_json::from_str(text).ok()?;
    let message = request.params.as_ref().and_then(|params| params.message.as_ref());
    let whole = request.jsonrpc.is_some() && message.is_none_or(Message::is_whole);
    whole.then_some(request)
}

fn mended(body: Bytes) -> Result<Call, ApiError> {
    let invalid = || ApiError::bad("invalid_json", "invalid JSON");
    let Ok(Value::Object(mut request)) = serde_json::from_slice(&body) else { return Err(invalid()) };
    let wrapped = !request.contains_key("jsonrpc");
    if wrapped {
        request = wrap(request);
    }
    let mended = match request.get_mut("params").and_then(|params| params.get_mut("message")) {
        Some(Value::Object(message)) => mend(message)?,
        _ => false,
    };
    let method = request.get("method").and_then(Value::as_str).unwrap_or_default();
    let method = named(method);
    let body = if wrapped || mended { Bytes::from(Value::Object(request).to_string()) } else { body };
    Ok(Call { method, body })
}

/// A bare `{method, params}` becomes a JSON-RPC request with an id of ours.
fn wrap(mut bare: Map<String, Value>) -> Map<String, Value> {
    let mut request = Map::new();
    request.insert("jsonrpc".to_owned(), "2.0".into());
    request.insert("id".to_owned(), Uuid::new_v4().to_string().into());
    for key in ["method", "params"] {
        if let Some(value) = bare.remove(key) {
            request.insert(key.to_owned(), value);
        }
    }
    request
}

/// Mends a message; answers whether something had to be.
fn mend(message: &mut Map<String, Value>) -> Result<bool, ApiError> {
    let mut mended = false;
    if !message.contains_key("messageId") {
        message.insert("messageId".to_owned(), Uuid::new_v4().to_string().into());
        mended = true;
    }
    if !message.contains_key("role") {
        message.insert("role".to_owned(), "user".into());
        mended = true;
    }
    if !message.contains_key("parts") {
        let parts = match message.remove("content") {
            Some(Value::String(text)) => json!([{"kind": "text", "text": text}]),
            Some(parts @ Value::Array(_)) => parts,
            Some(_) => {
                return Err(ApiError::bad("invalid_message", "invalid params.message.content type")
                    .with("hint", "content must be a text or a list of parts"));
            }
            None => {
                return Err(ApiError::bad(
                    "invalid_message",
                    "params.message must contain either 'parts' (v0.3) or 'content' (v0.2 compat)",
                )
                .with("hint", "send parts: [{\"kind\":\"text\",\"text\":\"…\"}]"));
            }
        };
        message.insert("parts".to_owned(), parts);
        mended = true;
    }
    if let Some(Value::Array(parts)) = message.get_mut("parts") {
        for part in parts {
            mended |= mend_part(part);
        }
    }
    Ok(mended)
}

/// `type` is what `kind` was called before 0.3.
fn mend_part(part: &mut Value) -> bool {
    let Value::Object(part) = part else { return false };
    if part.contains_key("kind") {
        return false;
    }
    match part.remove("type") {
        Some(kind) => {
            part.insert("kind".to_owned(), kind);
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::normalise;

    fn mended(request: &Value) -> Value {
        serde_json::from_slice(&normalise(Bytes::from(request.to_string())).unwrap().body).unwrap()
    }

    fn refused(request: &str) -> String {
        normalise(Bytes::from(request.to_owned())).unwrap_err().text.into_owned()
    }

    #[test]
    fn a_whole_request_goes_on_byte_for_byte() {
        let body = Bytes::from_static(
            b"{ \"id\": 7,\"jsonrpc\":\"2.0\",  \"method\":\"message/send\",\"params\":{\"message\":{\"messageId\":\"m\",\
              \"role\":\"user\",\"parts\":[{\"kind\":\"text\",\"text\":\"x\"}]}}}",
        );
        let call = normalise(body.clone()).unwrap();
        assert_eq!((call.method.as_str(), &call.body), ("message/send", &body));
    }

    #[test]
    fn what_the_quick_look_passes_the_full_one_would_not_have_touched() {
        let message = |message: &str| {
            format!("{{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":{{\"message\":{message}}}}}")
        };
        let requests = [
            message(r#"{"messageId":"a","role":"user","parts":[{"kind":"text"},{"text":"1.0"}]}"#),
            message(r#"{"messageId":"a","role":"user","parts":[{"type":"text"}]}"#),
            message(r#"{"messageId":null,"role":"user","parts":[]}"#),
            message(r#"{"messageId":"a","role":"user","parts":"text"}"#),
            message(r#"{"messageId":"a","messageId":"b","role":"user","parts":["text"]}"#),
            message(r#"["a","user",[]]"#),
            message("null"),
            r#"{"jsonrpc":"2.0","method":5,"params":[]}"#.to_owned(),
            r#" {"jsonrpc":null,"method":"m"}"#.to_owned(),
            r#"{"jsonrpc":"2.0","method":"a\u0007\u0062"}"#.to_owned(),
            r#"["2.0","m"]"#.to_owned(),
            "{\"jsonrpc\":\"2.0\"".to_owned(),
        ];
        for request in requests.map(Bytes::from) {
            let (quick, full) = (normalise(request.clone()), super::mended(request.clone()));
            match (quick, full) {
                (Ok(quick), Ok(full)) => assert_eq!((quick.method, quick.body), (full.method, full.body)),
                (Err(_), Err(_)) => {}
                differing => panic!("{request:?}: {differing:?}"),
            }
        }
    }

    #[test]
    fn a_bare_request_is_wrapped() {
        let request = mended(&json!({
            "method": "message/send", "other": 1,
            "params": {"message": {"role": "user", "messageId": "initial-1", "parts": []}}
        }));
        assert_eq!(request["jsonrpc"], "2.0");
        assert!(request["id"].is_string() && request.get("other").is_none());
        assert_eq!(request["params"]["message"]["messageId"], "initial-1");
    }

    #[test]
    fn a_caller_s_id_comes_through_unchanged() {
        for id in [json!("a"), json!(7), Value::Null] {
            let request = mended(
                &json!({"jsonrpc": "2.0", "id": id, "method": "m", "params": {"message": {"parts": []}}}),
            );
            assert_eq!(request["id"], id);
            assert!(request["params"]["message"]["messageId"].is_string());
            assert_eq!(request["params"]["message"]["role"], "user");
        }
    }

    #[test]
    fn old_content_and_types_become_parts_and_kinds() {
        let message = |message: Value| {
            mended(&json!({"jsonrpc": "2.0", "id": 1, "method": "m", "params": {"message": message}}))
        };
        assert_eq!(
            message(json!({"content": "hi"}))["params"]["message"]["parts"],
            json!([{"kind": "text", "text": "hi"}])
        );
        assert_eq!(
            message(json!({"content": [{"type": "text", "text": "hi"}]}))["params"]["message"]["parts"],
            json!([{"kind": "text", "text": "hi"}])
        );
    }

    #[test]
    fn other_methods_and_1_0_messages_pass_as_they_are() {
        for request in [
            json!({"jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": {"id": "t"}}),
            json!({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message":
                {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "x"}]}}}),
        ] {
            let body = Bytes::from(request.to_string());
            assert_eq!(normalise(body.clone()).unwrap().body, body);
        }
    }

    #[test]
    fn what_is_no_request_is_refused_with_the_contract_s_texts() {
        assert_eq!(refused("[1]"), "invalid JSON");
        assert_eq!(refused("nonsense"), "invalid JSON");
        assert_eq!(
            refused("{\"jsonrpc\":\"2.0\",\"params\":{\"message\":{\"content\":5}}}"),
            "invalid params.message.content type"
        );
        assert!(
            refused("{\"jsonrpc\":\"2.0\",\"params\":{\"message\":{}}}")
                .starts_with("params.message must contain")
        );
    }
}
