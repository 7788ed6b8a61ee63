//! What a failed answer is recognised by (R14): kind, fingerprint, and the beginning of its text.
//!
//! Nothing else of an answer leaves this module. An answer that can't be a failure is told by a search for a few words;
//! only one that may be is parsed.

use actix_web::http::StatusCode;
use covalence_events::workspace::{FailureKind, FailureSign};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::backends::redact::redact;

/// Longer answers are not looked at: a failure says little.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Requests beyond this are not parsed for the name of their message.
const REQUEST_BYTES_MAX: usize = 1024 * 1024;
/// Of an error's text, so much is looked at.
const TEXT_CHARS_MAX: usize = 4096;
/// Of an error's text, so much is kept.
const EXCERPT_CHARS_MAX: usize = 200;
/// A word with so many digits is a name, a number or a time, and differs from failure to failure.
const NAME_DIGITS_MIN: usize = 4;
/// One of these is in every answer that says that something failed.
const FAILURE_WORDS: [&str; 3] = ["\"error\"", "\"failed\"", "_FAILED\""];
/// What runtimes say when a session that they were to go on with is not there.
const NO_CONVERSATION: &str = "no conversation found";

/// The sign of an answer that is no stream; `None` if it did not fail.
pub(crate) fn sign(status: StatusCode, answer: &[u8], request: &[u8]) -> Option<FailureSign> {
    if answer.len() > ANSWER_BYTES_MAX {
        return None;
    }
    if status.is_server_error() && !super::relay::is_gateway_trouble(status) {
        let failure = serde_json::from_slice(answer).map_or_else(
            |_| Failure { kind: None, text: String::from_utf8_lossy(answer).into_owned() },
            |body: Value| Failure::of_error(body.get("error").unwrap_or(&Value::Null)),
        );
        return Some(failure.sign(request));
    }
    let text = std::str::from_utf8(answer).ok().filter(|_| status.is_success())?;
    FAILURE_WORDS.iter().any(|word| text.contains(word)).then_some(())?;
    Failure::of(&serde_json::from_str(text).ok()?).map(|failure| failure.sign(request))
}

/// The sign of a stream by the last that came of it; `None` if it did not end with a failure.
pub(super) fn sign_of_stream(last: &[u8], request: &[u8]) -> Option<FailureSign> {
    let text = std::str::from_utf8(last).ok().filter(|text| text.len() <= ANSWER_BYTES_MAX)?;
    FAILURE_WORDS.iter().any(|word| text.contains(word)).then_some(())?;
    let events = text.lines().rev().filter_map(|line| line.strip_prefix("data:"));
    let mut events = events.filter_map(|data| serde_json::from_str(data.trim()).ok());
    events.find_map(|event| Failure::of(&event)).map(|failure| failure.sign(request))
}

/// A failure as the agent told it.
struct Failure {
    /// Where it told that too.
    kind: Option<FailureKind>,
    text: String,
}

impl Failure {
    /// A JSON-RPC answer's error, or the task that failed.
    fn of(answer: &Value) -> Option<Self> {
        if let Some(error) = answer.get("error").filter(|error| !error.is_null()) {
            return Some(Self::of_error(error));
        }
        let result = answer.get("result")?;
        let holders = [Some(result), result.get("task"), result.get("statusUpdate")];
        let mut statuses = holders.into_iter().flatten().filter_map(|holder| holder.get("status"));
        let failed =
            |status: &&Value| matches!(status["state"].as_str(), Some("failed" | "TASK_STATE_FAILED"));
        statuses.find(failed).map(|status| Self { kind: None, text: said(&status["message"]) })
    }

    fn of_error(error: &Value) -> Self {
        let Some(members) = error.as_object() else {
            return Self { kind: None, text: error.as_str().unwrap_or_default().to_owned() };
        };
        let text = members.get("message").and_then(Value::as_str).unwrap_or_default().to_owned();
        let data = members.get("data").unwrap_or(&Value::Null);
        // An object in 0.3, a list of `ErrorInfo` in 1.0.
        let says = |kind: &str, reason: &str| {
            let mut infos = data.as_array().into_iter().flatten();
            data["kind"] == kind || infos.any(|info| info["reason"] == reason)
        };
        let kind = match members.get("code").and_then(Value::as_i64) {
            _ if says("ProcessError", "PROCESS_ERROR") => Some(FailureKind::Process),
            _ if says("Stopped", "STOPPED") => Some(FailureKind::Stopped),
            // JSON-RPC's own errors but the internal one, and those that A2A defines.
            Some(-32700 | -32602..=-32600 | -32009..=-32001) => Some(FailureKind::Request),
            _ => None,
        };
        Self { kind, text }
    }

    fn sign(self, request: &[u8]) -> FailureSign {
        let text: String = self.text.chars().take(TEXT_CHARS_MAX).collect();
        let lower = text.to_lowercase();
        let kind = if lower.contains(NO_CONVERSATION) {
            FailureKind::NoConversation
        } else if let Some(kind) = self.kind {
            kind
        } else if lower.contains("processerror") {
            FailureKind::Process
        } else if lower.trim().is_empty() {
            FailureKind::Empty
        } else {
            FailureKind::Error
        };
        // Which session it was does not matter, and the text says little else.
        let same = if kind == FailureKind::NoConversation { String::new() } else { normal(&lower) };
        let readable = redact(&text.split_whitespace().collect::<Vec<_>>().join(" "), &[]);
        FailureSign {
            kind,
            fingerprint: digest(&[format!("{kind:?}").as_bytes(), same.as_bytes()]),
            excerpt: readable.chars().take(EXCERPT_CHARS_MAX).collect(),
            message: message(request),
        }
    }
}

/// The text of a message, whichever way it is told.
fn said(message: &Value) -> String {
    if let Some(text) = message.as_str() {
        return text.to_owned();
    }
    let parts = message["parts"].as_array().into_iter().flatten();
    parts.filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join(" ")
}

/// The same text for failures that are the same but for names, numbers and times.
fn normal(lower: &str) -> String {
    let is_inside = |letter: char| letter.is_alphanumeric() || matches!(letter, '-' | '_' | '.' | ':' | '+');
    let mut normal = String::with_capacity(lower.len());
    for word in lower.split_whitespace() {
        let mut rest = word;
        while !rest.is_empty() {
            let end = rest.find(|letter| !is_inside(letter)).unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            let digits = name.chars().filter(char::is_ascii_digit).count();
            normal.push_str(if digits >= NAME_DIGITS_MIN { "#" } else { name });
            let end = after.find(is_inside).unwrap_or(after.len());
            let (between, next) = after.split_at(end);
            normal.push_str(between);
            rest = next;
        }
        normal.push(' ');
    }
    normal
}

/// Names the message that a request carries, without keeping its name.
fn message(request: &[u8]) -> Option<String> {
    if request.len() > REQUEST_BYTES_MAX {
        return None;
    }
    let request: Value = serde_json::from_slice(request).ok()?;
    let id = request["params"]["message"]["messageId"].as_str()?;
    Some(digest(&[id.as_bytes()]))
}

/// The first 64 bits of a digest over all parts, each with its length.
fn digest(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    let first = hash.finalize().iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{first:016x}")
}

#[cfg(test)]
mod tests {
    use actix_web::http::StatusCode;
    use covalence_events::workspace::{FailureKind, FailureSign};
    use serde_json::{Value, json};

    use super::{EXCERPT_CHARS_MAX, sign, sign_of_stream};

    fn of(answer: &Value) -> Option<FailureSign> {
        sign(StatusCode::OK, answer.to_string().as_bytes(), b"")
    }

    fn error(message: &str) -> Value {
        json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32603, "message": message}})
    }

    fn task(state: &str, text: &str) -> Value {
        let message = json!({"role": "agent", "parts": [{"kind": "text", "text": text}]});
        json!({"jsonrpc": "2.0", "id": 1, "result": {"kind": "task", "status": {"state": state, "message": message}}})
    }

    #[test]
    fn an_answer_that_works_has_no_sign_whatever_it_talks_about() {
        assert_eq!(of(&json!({"jsonrpc": "2.0", "id": 1, "result": {"kind": "message"}})), None);
        assert_eq!(of(&task("completed", "the build \"failed\" with \"error\" 3")), None);
        assert_eq!(of(&json!({"jsonrpc": "2.0", "id": 1, "result": {"error": "as data"}})), None);
        assert_eq!(of(&json!({"jsonrpc": "2.0", "id": 1, "error": null, "result": {}})), None);
        assert_eq!(
            sign(StatusCode::SERVICE_UNAVAILABLE, b"{\"error\":\"busy\"}", b""),
            None,
            "busy is no failure"
        );
        assert_eq!(sign(StatusCode::NOT_FOUND, b"{\"error\":\"no\"}", b""), None, "the request's fault");
    }

    #[test]
    fn each_way_to_fail_has_its_kind() {
        let in_0_3 = json!({"error": {"code": -32603, "message": "m", "data": {"kind": "ProcessError"}}});
        let in_1_0 =
            json!({"error": {"code": -32603, "message": "m", "data": [{"reason": "PROCESS_ERROR"}]}});
        let missing = "No conversation found with session ID: 0190a0b0-c0d0-7e00-8f00-000000000001";
        let table = [
            (in_0_3, FailureKind::Process),
            (in_1_0, FailureKind::Process),
            (json!({"error": {"code": -32603, "data": {"kind": "Stopped"}}}), FailureKind::Stopped),
            (error("ProcessError: Command failed"), FailureKind::Process),
            (error(missing), FailureKind::NoConversation),
            (task("failed", missing), FailureKind::NoConversation),
            (error("rate limited"), FailureKind::Error),
            (json!({"error": "just a text"}), FailureKind::Error),
            (error("  "), FailureKind::Empty),
            (json!({"error": {}}), FailureKind::Empty),
            (task("failed", ""), FailureKind::Empty),
            (json!({"result": {"task": {"status": {"state": "TASK_STATE_FAILED"}}}}), FailureKind::Empty),
            (json!({"error": {"code": -32601, "message": "no such method"}}), FailureKind::Request),
            (json!({"error": {"code": -32001, "message": "no such task"}}), FailureKind::Request),
        ];
        for (answer, kind) in table {
            assert_eq!(of(&answer).map(|sign| sign.kind), Some(kind), "{answer}");
        }
        let own = sign(StatusCode::INTERNAL_SERVER_ERROR, b"{\"error\":\"ProcessError\"}", b"").unwrap();
        assert_eq!(own.kind, FailureKind::Process);
        assert_eq!(sign(StatusCode::INTERNAL_SERVER_ERROR, b"", b"").unwrap().kind, FailureKind::Empty);
    }

    #[test]
    fn failures_alike_but_for_names_numbers_and_times_have_one_fingerprint() {
        let print = |text: &str| of(&error(text)).unwrap().fingerprint;
        let one = print("request req-0190a0b0 failed at 2026-11-25T10:00:01Z:  exit code 1");
        assert_eq!(one, print("request req-0190ffff failed at 2026-11-26T11:12:13Z: exit code 1"));
        assert_ne!(one, print("request req-0190a0b0 failed at 2026-11-25T10:00:01Z: exit code 137"));
        let missing = |id: &str| print(&format!("no conversation found with session ID {id}"));
        assert_eq!(missing("abc"), missing("another one"));
        assert_ne!(print("rate limited"), print("overloaded"));
        assert_eq!(
            of(&error("rate limited")).unwrap().fingerprint,
            of(&task("failed", "rate limited")).unwrap().fingerprint
        );
    }

    #[test]
    fn what_is_kept_of_a_text_is_short_and_redacted() {
        let text = format!("token=abcdefgh in /home/agent/secret/file: {}", "é".repeat(1000));
        let kept = of(&error(&text)).unwrap().excerpt;
        assert_eq!(kept.chars().count(), EXCERPT_CHARS_MAX);
        assert!(!kept.contains("abcdefgh") && !kept.contains("/home/agent"), "{kept}");
    }

    #[test]
    fn the_same_message_has_the_same_name_and_no_name_is_kept() {
        let named = |id: &str| {
            let request = json!({"params": {"message": {"messageId": id}}}).to_string();
            let answer = error("boom").to_string();
            sign(StatusCode::OK, answer.as_bytes(), request.as_bytes()).unwrap().message.unwrap()
        };
        assert_eq!(named("m-1"), named("m-1"));
        assert_ne!(named("m-1"), named("m-2"));
        assert!(!named("m-1").contains("m-1"));
        assert_eq!(of(&error("boom")).unwrap().message, None);
    }

    #[test]
    fn a_stream_fails_if_its_last_events_say_so() {
        let failed = format!("data: {}\n\n", task("failed", "boom"));
        let kind = |text: &str| sign_of_stream(text.as_bytes(), b"").map(|sign| sign.kind);
        assert_eq!(kind(&failed), Some(FailureKind::Error));
        assert_eq!(kind(&format!("event: x\r\ndata:{}\r\n\r\n", error(""))), Some(FailureKind::Empty));
        assert_eq!(kind(&format!("data: {}\n\n", task("completed", "not \"failed\""))), None);
        assert_eq!(kind(": keep-alive\n\n"), None);
    }
}
