//! The JSON-RPC 2.0 envelope. Batches are not part of A2A and are refused.

use serde_json::{Map, Value, json};

use crate::a2a::method::Dialect;

/// Body is not JSON.
pub const PARSE_ERROR: i64 = -32700;
/// Body is JSON, but not a request.
pub const INVALID_REQUEST: i64 = -32600;
/// The method is not known.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// The method is known and its parameters are wrong.
pub const INVALID_PARAMS: i64 = -32602;
/// The runtime failed.
pub const INTERNAL_ERROR: i64 = -32603;
/// A2A: the task does not exist.
pub const TASK_NOT_FOUND: i64 = -32001;
/// A2A: no push notifications here.
pub const PUSH_NOT_SUPPORTED: i64 = -32003;
/// A2A: no part of the message has a type that the agent reads.
pub const CONTENT_TYPE_NOT_SUPPORTED: i64 = -32005;
/// A2A: the version asked for is not served.
pub const VERSION_NOT_SUPPORTED: i64 = -32009;

/// A JSON-RPC error.
#[derive(Debug, Clone, PartialEq)]
pub struct RpcError {
    /// Code, see the constants.
    pub code: i64,
    /// What a person reads.
    pub message: String,
    /// What a program reads.
    pub data: Option<ErrorData>,
}

/// What a program can learn from an error.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorData {
    /// Kind of failure, in the words of the platform's contract: `ProcessError`.
    pub kind: &'static str,
    /// The same in the spelling of 1.0: `PROCESS_ERROR`.
    pub reason: &'static str,
    /// Further members.
    pub fields: Map<String, Value>,
}

impl RpcError {
    /// An error without data.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// Parameters that are wrong, with the reason.
    pub fn invalid_params(message: impl Into<String>) -> Self {
        Self::new(INVALID_PARAMS, message)
    }
}

/// A well-formed request.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The caller's id, given back unchanged; null if there was none.
    pub id: Value,
    /// Method name.
    pub method: String,
    /// Parameters; null if there were none.
    pub params: Value,
}

/// A refused request: the error, and the id if one could be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// The caller's id or null.
    pub id: Value,
    /// Why.
    pub error: RpcError,
}

/// Reads a request.
pub fn parse(body: &[u8]) -> Result<Request, Refused> {
    let value: Value = serde_json::from_slice(body).map_err(|error| Refused {
        id: Value::Null,
        error: RpcError::new(PARSE_ERROR, format!("body is not JSON: {error}")),
    })?;
    let Value::Object(mut members) = value else {
        let what = if value.is_array() { "batches are not supported" } else { "body is not an object" };
        return Err(Refused { id: Value::Null, error: RpcError::new(INVALID_REQUEST, what) });
    };
    let id = match members.remove("id") {
        None => Value::Null,
        Some(id @ (Value::Null | Value::String(_) | Value::Number(_))) => id,
        Some(_) => return Err(invalid(Value::Null, "`id` must be a string, a number or null")),
    };
    if members.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(invalid(id, "`jsonrpc` must be \"2.0\""));
    }
    let Some(Value::String(method)) = members.remove("method") else {
        return Err(invalid(id, "`method` must be a string"));
    };
    Ok(Request { id, method, params: members.remove("params").unwrap_or(Value::Null) })
}

fn invalid(id: Value, message: &str) -> Refused {
    Refused { id, error: RpcError::new(INVALID_REQUEST, message) }
}

/// The answer to a call that succeeded.
pub fn success(id: &Value, result: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

/// The answer to a call that failed. 1.0 wants its data as an array of `google.rpc.ErrorInfo`, 0.3 takes any value.
pub fn failure(id: &Value, error: &RpcError, dialect: Dialect) -> Value {
    let mut body = json!({"code": error.code, "message": error.message});
    if let Some(data) = &error.data {
        body["data"] = match dialect {
            Dialect::V03 => {
                let mut members = data.fields.clone();
                members.insert("kind".to_owned(), json!(data.kind));
                Value::Object(members)
            }
            Dialect::V10 => {
                let mut metadata: Map<String, Value> =
                    data.fields.iter().map(|(name, value)| (name.clone(), json!(plain(value)))).collect();
                metadata.insert("kind".to_owned(), json!(data.kind));
                json!([{
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": data.reason,
                    "domain": "covalence.dev",
                    "metadata": metadata,
                }])
            }
        };
    }
    json!({"jsonrpc": "2.0", "id": id, "error": body})
}

/// `ErrorInfo.metadata` maps strings to strings.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> (Value, i64) {
        let refused = parse(body.as_bytes()).unwrap_err();
        (refused.id, refused.error.code)
    }

    #[test]
    fn what_is_not_a_request_is_refused_with_the_code_of_the_specification() {
        assert_eq!(refused("{\"jsonrpc\":"), (Value::Null, PARSE_ERROR));
        assert_eq!(refused("[]"), (Value::Null, INVALID_REQUEST));
        assert_eq!(refused("7"), (Value::Null, INVALID_REQUEST));
        assert_eq!(refused(r#"{"id":1,"method":"x"}"#), (json!(1), INVALID_REQUEST));
        assert_eq!(refused(r#"{"jsonrpc":"2.0","id":"a","method":3}"#), (json!("a"), INVALID_REQUEST));
        assert_eq!(refused(r#"{"jsonrpc":"2.0","id":[1],"method":"x"}"#), (Value::Null, INVALID_REQUEST));
    }

    #[test]
    fn error_data_is_an_object_in_0_3_and_an_array_of_error_info_in_1_0() {
        let fields = [("exit_code".to_owned(), json!(3))].into_iter().collect();
        let data = Some(ErrorData { kind: "ProcessError", reason: "PROCESS_ERROR", fields });
        let error = RpcError { code: INTERNAL_ERROR, message: "m".to_owned(), data };
        assert_eq!(
            failure(&json!(1), &error, Dialect::V03)["error"]["data"],
            json!({"kind": "ProcessError", "exit_code": 3})
        );
        let info = &failure(&json!(1), &error, Dialect::V10)["error"]["data"][0];
        assert_eq!(info["reason"], "PROCESS_ERROR");
        assert_eq!(info["metadata"], json!({"kind": "ProcessError", "exit_code": "3"}));
    }
}
