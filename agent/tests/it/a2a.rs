//! A2A over HTTP: both versions, errors, the card.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use serde_json::{Value, json};

use crate::support::{Running, client, eventually, get, json_request, message_send, post, send, shell};
use covalence_agent::config::CommandInput;
use covalence_agent::server::service::BODY_BYTES_MAX;

#[tokio::test]
async fn echo_answers_with_the_name_of_the_workspace() {
    let running = Running::echo().await;
    let answer = running.ask("hello").await;
    assert_eq!(answer["jsonrpc"], "2.0");
    assert_eq!(answer["id"], "call-1");
    let result = answer["result"].as_object().unwrap();
    let members: Vec<_> = result.keys().map(String::as_str).collect();
    assert_eq!(members, ["contextId", "kind", "messageId", "parts", "role"]);
    assert_eq!(result["kind"], "message");
    assert_eq!(result["role"], "agent");
    assert_eq!(result["parts"], json!([{"kind": "text", "text": "echo Ada: hello"}]));
}

#[tokio::test]
async fn a_call_in_version_1_0_is_answered_in_version_1_0() {
    let running = Running::echo().await;
    let call = json!({"jsonrpc": "2.0", "id": 7, "method": "SendMessage", "params": {"message": {
        "role": "ROLE_USER", "messageId": "m", "contextId": "c", "parts": [{"text": "hello"}],
    }}});
    let answer = post(running.agent.address, "/", &call).await.json();
    assert_eq!(answer["id"], 7);
    let message = answer["result"]["message"].as_object().unwrap();
    let members: Vec<_> = message.keys().map(String::as_str).collect();
    assert_eq!(members, ["contextId", "messageId", "parts", "role"]);
    assert_eq!(message["role"], "ROLE_AGENT");
    assert_eq!(message["contextId"], "c");
    assert_eq!(message["parts"], json!([{"text": "echo Ada: hello"}]));
}

#[tokio::test]
async fn every_path_takes_calls_and_older_parts_are_understood() {
    let running = Running::echo().await;
    let mut call = message_send("");
    call["params"]["message"]["parts"] = json!([{"type": "text", "text": "hi"}]);
    for path in ["/", "/a2a", "/a2a/"] {
        let answer = post(running.agent.address, path, &call).await.json();
        assert_eq!(answer["result"]["parts"][0]["text"], "echo Ada: hi", "{path}");
    }
}

#[tokio::test]
async fn bad_requests_get_the_codes_of_the_specification_with_status_200() {
    let running = Running::echo().await;
    for (body, code) in [
        ("{not json", -32700),
        ("[]", -32600),
        (r#"{"id":1,"method":"message/send"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tasks/launch"}"#, -32601),
        (r#"{"jsonrpc":"2.0","id":1,"method":"message/send"}"#, -32602),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"id":"t"}}"#, -32001),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tasks/pushNotificationConfig/set"}"#, -32003),
    ] {
        let reply = send(json_request(running.agent.address, "/", body)).await;
        assert_eq!(reply.status, 200, "{body}");
        assert_eq!(reply.json()["error"]["code"], code, "{body}");
        assert!(reply.json().get("result").is_none());
    }
    let mut request = json_request(running.agent.address, "/", message_send("x").to_string());
    request.headers_mut().insert("a2a-version", "2.0".parse().unwrap());
    assert_eq!(send(request).await.json()["error"]["code"], -32009);
}

#[tokio::test]
async fn a_body_over_the_limit_is_413() {
    let running = Running::echo().await;
    let large = Bytes::from(vec![b' '; BODY_BYTES_MAX + 1]);
    let reply = send(json_request(running.agent.address, "/", large)).await;
    assert_eq!(reply.status, 413);
    assert_eq!(reply.json()["max_bytes"], BODY_BYTES_MAX);
}

#[tokio::test]
async fn a_web_page_cannot_call_an_agent() {
    let running = Running::echo().await;
    let mut request = json_request(running.agent.address, "/", message_send("x").to_string());
    request.headers_mut().insert("origin", "http://pages.example".parse().unwrap());
    assert_eq!(send(request).await.status, 403);
}

#[tokio::test]
async fn the_card_has_what_both_versions_require_at_every_path() {
    let running = Running::echo().await;
    let address = running.agent.address;
    let url = format!("http://{address}");
    for path in ["/.well-known/agent-card.json", "/.well-known/agent.json", "/agent/card"] {
        let reply = get(address, path).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, "application/json"), "{path}");
        let card = reply.json();
        for required in [
            "protocolVersion",
            "name",
            "description",
            "url",
            "version",
            "capabilities",
            "defaultInputModes",
            "defaultOutputModes",
            "skills",
            "supportedInterfaces",
        ] {
            assert!(!card[required].is_null(), "{required} is missing from {card}");
        }
        for required in ["id", "name", "description", "tags"] {
            assert!(!card["skills"][0][required].is_null(), "{required} is missing from the skill");
        }
        assert_eq!(card["name"], "Ada");
        assert_eq!(card["description"], "Answers the phone");
        assert_eq!(card["url"], url);
        assert_eq!(
            card["supportedInterfaces"][0],
            json!({"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"})
        );
    }
}

#[tokio::test]
async fn a_card_that_is_known_is_not_sent_again_and_head_sends_none() {
    let running = Running::echo().await;
    let url = format!("http://{}/agent/card", running.agent.address);
    let full = get(running.agent.address, "/agent/card").await;
    let known =
        Request::get(&url).header("if-none-match", full.header("etag")).body(Full::default()).unwrap();
    assert_eq!(send(known).await.status, 304);
    let head = send(Request::head(&url).body(Full::default()).unwrap()).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), full.body.len().to_string());
}

#[tokio::test]
async fn health_is_ok_and_unknown_paths_and_methods_are_named() {
    let running = Running::echo().await;
    let address = running.agent.address;
    assert_eq!(get(address, "/health").await.body, r#"{"status":"ok"}"#);
    assert_eq!(get(address, "/nowhere").await.status, 404);
    let delete = Request::delete(format!("http://{address}/")).body(Full::default()).unwrap();
    let reply = send(delete).await;
    assert_eq!((reply.status, reply.header("allow")), (405, "GET, HEAD, POST"));
}

#[tokio::test]
async fn a_stream_has_comments_while_the_runtime_works_and_then_one_message() {
    let marks = tempfile::tempdir().unwrap();
    let release = marks.path().join("release");
    let script = format!("until [ -e {} ]; do sleep 0.02; done; echo done", release.display());
    let running = Running::command(shell(&script, CommandInput::Stdin)).await;
    let mut call = message_send("go");
    call["method"] = json!("message/stream");

    let response =
        client().request(json_request(running.agent.address, "/", call.to_string())).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, ": keepalive\n\n");
    std::fs::write(&release, "").unwrap();
    let rest = body.collect().await.unwrap().to_bytes();
    let events: Vec<Value> = String::from_utf8(rest.to_vec())
        .unwrap()
        .split("\n\n")
        .filter_map(|event| event.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["id"], "call-1");
    assert_eq!(events[0]["result"]["parts"][0]["text"], "done");
}

#[tokio::test]
async fn a_caller_who_hangs_up_does_not_cancel_the_work() {
    let marks = tempfile::tempdir().unwrap();
    let path = |name: &str| marks.path().join(name);
    let script = format!(
        "touch {}; until [ -e {} ]; do sleep 0.02; done; touch {}",
        path("began").display(),
        path("release").display(),
        path("ended").display()
    );
    let running = Running::command(shell(&script, CommandInput::Stdin)).await;
    let call = tokio::spawn(client().request(json_request(
        running.agent.address,
        "/",
        message_send("go").to_string(),
    )));
    eventually("the command runs", || path("began").exists()).await;
    call.abort();
    assert!(call.await.is_err());
    std::fs::write(path("release"), "").unwrap();
    eventually("the command ends by itself", || path("ended").exists()).await;
}
