//! Calls through the platform to an agent that answers on a socket of its own.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::http::Method;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use bytes::Bytes;
use covalence_events::workspace::{CallFinished, CallOutcome};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::platform::{ADMIN, Platform};

/// What the agent was sent last, and a gate that its slow answers wait for.
#[derive(Debug, Default)]
pub(super) struct Seen {
    headers: Mutex<Vec<(String, String)>>,
    pub(super) body: Mutex<Value>,
    gate: Notify,
}

async fn agent(request: HttpRequest, seen: web::Data<Seen>, body: Bytes) -> HttpResponse {
    let headers = request.headers().iter();
    *seen.headers.lock().unwrap() = headers
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()))
        .collect();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    seen.body.lock().unwrap().clone_from(&body);
    match body["method"].as_str().unwrap_or_default() {
        "fail" => HttpResponse::build(actix_web::http::StatusCode::UNPROCESSABLE_ENTITY)
            .json(json!({"error": "no such skill"})),
        "empty" => HttpResponse::Ok().finish(),
        "slow" => {
            seen.gate.notified().await;
            HttpResponse::Ok().json(json!({"jsonrpc": "2.0", "id": body["id"], "result": "slow"}))
        }
        "message/stream" => {
            let pieces = futures_util::stream::unfold((0, seen), |(n, seen)| async move {
                if n == 2 {
                    return None;
                }
                if n == 1 {
                    seen.gate.notified().await;
                }
                Some((Ok::<_, std::io::Error>(Bytes::from(format!("data: {n}\n\n"))), (n + 1, seen)))
            });
            HttpResponse::Ok().content_type("text/event-stream").streaming(Box::pin(pieces))
        }
        _ => HttpResponse::Ok()
            .json(json!({"jsonrpc": "2.0", "id": body["id"], "result": {"kind": "message"}})),
    }
}

/// Starts an agent; its port.
pub(super) fn serve_agent() -> (u16, Arc<Seen>) {
    let seen = web::Data::new(Seen::default());
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let shared = seen.clone();
    let server = HttpServer::new(move || App::new().app_data(shared.clone()).default_service(web::to(agent)))
        .workers(1)
        .disable_signals()
        .listen(socket)
        .unwrap()
        .run();
    drop(actix_web::rt::spawn(server));
    (port, seen.into_inner())
}

/// Loopback agents can be called, as in development, but nobody gets in without a credential.
async fn platform() -> Platform {
    Platform::tuned(|config| config.surroundings.development = true).await
}

/// An external workspace whose agent is registered at a port of this machine; its id and token.
pub(super) async fn registered(
    platform: &Platform,
    name: &str,
    parent: Option<&str>,
    port: u16,
) -> (String, String) {
    let (id, token) = platform.external(name, parent).await;
    let body = json!({"id": id, "url": format!("http://localhost:{port}/"), "delivery_mode": "push",
        "agent_card": {"name": name, "url": "http://inside:8000/", "protocolVersion": "0.3.0", "capabilities": {"streaming": true}}});
    let reply = platform.post("/registry/register", body).bearer(&token).send().await;
    assert_eq!(reply.status, 200, "{reply:?}");
    (id, token)
}

pub(super) async fn finished(platform: &Platform, id: &str, count: usize) -> Vec<CallFinished> {
    let id = id.parse().unwrap();
    for _ in 0..100 {
        let calls = platform.state.views.calls.read().recent(id, 50);
        if calls.len() >= count {
            return calls.iter().map(|call| call.finished.clone()).collect();
        }
        let mut watch = platform.state.views.calls.watch();
        let _ = tokio::time::timeout(Duration::from_millis(100), watch.changed()).await;
    }
    panic!("fewer than {count} calls were recorded");
}

#[actix_web::test]
async fn a_call_reaches_the_agent_and_its_answer_comes_back_unchanged() {
    let platform = platform().await;
    let (port, seen) = serve_agent();
    let (id, _) = registered(&platform, "agent", None, port).await;
    let body = json!({"method": "message/send", "params": {"message": {"role": "user", "content": "hi"}}});
    let call = platform.post(&format!("/workspaces/{id}/a2a"), body).bearer(ADMIN);
    let reply = call.header("a2a-version", "0.3").header("traceparent", "00-1-2-03").send().await;
    assert_eq!(
        (reply.status, reply.headers["content-type"].as_str()),
        (200, "application/json"),
        "{reply:?}"
    );
    assert_eq!(reply.json["result"], json!({"kind": "message"}));
    let sent = seen.body.lock().unwrap().clone();
    assert_eq!((&sent["jsonrpc"], &sent["id"]), (&json!("2.0"), &reply.json["id"]));
    assert_eq!(sent["params"]["message"]["parts"], json!([{"kind": "text", "text": "hi"}]));
    let headers = seen.headers.lock().unwrap().clone();
    let has = |name: &str| headers.iter().any(|(known, _)| known == name);
    assert!(
        has("a2a-version") && has("traceparent") && !has("authorization") && !has("x-workspace-id"),
        "{headers:?}"
    );
    let call = &finished(&platform, &id, 1).await[0];
    assert_eq!(
        (call.outcome, call.status, call.method.as_str()),
        (CallOutcome::Answered, Some(200), "message/send")
    );
    assert_eq!(call.call.to_string(), reply.headers["x-covalence-call"]);
}

#[actix_web::test]
async fn who_may_call_whom() {
    let platform = platform().await;
    let (port, _) = serve_agent();
    let (lead, lead_token) = registered(&platform, "lead", None, port).await;
    let (child, child_token) = registered(&platform, "child", Some(&lead), port).await;
    let (_, stranger_token) =
        platform.external("stranger's child", Some(&platform.external("other", None).await.0)).await;
    let call = |target: &str| platform.post(&format!("/workspaces/{target}/a2a"), json!({"method": "m"}));

    let nobody = call(&child).send().await;
    assert_eq!(nobody.says(), (401, "missing caller auth token"));
    assert!(nobody.headers["www-authenticate"].starts_with("Bearer"));
    assert_eq!(call(&child).bearer("wrong").send().await.says(), (401, "invalid caller auth token"));
    assert_eq!(call(&child).bearer(&lead_token).send().await.status, 200);
    assert_eq!(call(&child).bearer(&child_token).send().await.status, 200, "to itself");
    let borrowed = call(&lead).bearer(&child_token).header("x-workspace-id", &lead).send().await;
    assert_eq!(borrowed.says(), (401, "invalid caller auth token"));
    let denied = "access denied: workspaces cannot communicate per hierarchy rules";
    assert_eq!(call(&child).bearer(&stranger_token).send().await.says(), (403, denied));
    let forged = call(&child).bearer(ADMIN).header("x-workspace-id", "system:restart-context").send().await;
    assert_eq!(forged.says(), (403, "invalid caller ID"));
    let unknown = call("f0000000-0000-4000-8000-000000000000").bearer(ADMIN).send().await;
    assert_eq!(unknown.says(), (404, "workspace not found"));
}

#[actix_web::test]
async fn an_agent_s_errors_come_back_with_its_status_and_text() {
    let platform = platform().await;
    let (port, _) = serve_agent();
    let (id, token) = registered(&platform, "agent", None, port).await;
    let call = |method: &str| {
        platform.post(&format!("/workspaces/{id}/a2a"), json!({"method": method})).bearer(&token).send()
    };
    assert_eq!(call("fail").await.says(), (422, "no such skill"));
    assert_eq!(call("empty").await.says(), (200, "agent returned empty response body"));
}

#[actix_web::test]
async fn an_agent_that_refuses_is_a_502_and_undelivered() {
    let platform = platform().await;
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (id, token) = registered(&platform, "agent", None, gone).await;
    let reply =
        platform.post(&format!("/workspaces/{id}/a2a"), json!({"method": "m"})).bearer(&token).send().await;
    assert_eq!(reply.says(), (502, "failed to reach workspace agent"));
    assert_eq!(finished(&platform, &id, 1).await[0].outcome, CallOutcome::NotDelivered);
}

#[actix_web::test]
async fn an_answer_without_length_or_chunks_is_said_to_be_lost() {
    let platform = platform().await;
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut connection, _) = socket.accept().unwrap();
        let _ = connection.read(&mut [0; 4096]).unwrap();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
        connection.write_all(format!("{head}data: 1\n\n").as_bytes()).unwrap();
    });
    let (id, token) = registered(&platform, "agent", None, port).await;
    let reply =
        platform.post(&format!("/workspaces/{id}/a2a"), json!({"method": "m"})).bearer(&token).send().await;
    assert_eq!(reply.says(), (502, "failed to read agent response"));
    assert_eq!(reply.json["delivery_confirmed"], true);
    assert_eq!(finished(&platform, &id, 1).await[0].outcome, CallOutcome::Unknown);
}

#[actix_web::test]
async fn an_address_that_somebody_stated_is_looked_at_again_before_the_call() {
    let platform = Platform::start().await;
    let (port, _) = serve_agent();
    let (id, token) = registered(&platform, "agent", None, port).await;
    let reply =
        platform.post(&format!("/workspaces/{id}/a2a"), json!({"method": "m"})).bearer(&token).send().await;
    assert_eq!(reply.says(), (502, "workspace URL is not publicly routable"));
}

#[actix_web::test]
async fn an_event_stream_passes_piece_by_piece() {
    let platform = platform().await;
    let (port, seen) = serve_agent();
    let (id, token) = registered(&platform, "agent", None, port).await;
    let call =
        platform.post(&format!("/workspaces/{id}/a2a"), json!({"method": "message/stream"})).bearer(&token);
    let mut stream = call.open().await;
    let header = |name: &str| stream.headers().get(name).unwrap().to_str().unwrap().to_owned();
    assert_eq!(
        (header("content-type").as_str(), header("x-accel-buffering").as_str()),
        ("text/event-stream", "no")
    );
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!(first, "data: 0\n\n", "the first event arrives while the agent still works on the second");
    seen.gate.notify_one();
    let rest: Vec<Bytes> = stream.map(Result::unwrap).collect().await;
    assert_eq!(rest.concat(), b"data: 1\n\n");
    assert_eq!(finished(&platform, &id, 1).await[0].outcome, CallOutcome::Answered);
}

#[actix_web::test]
async fn a_caller_that_hangs_up_cancels_nothing() {
    let platform = platform().await;
    let (port, seen) = serve_agent();
    let (id, token) = registered(&platform, "agent", None, port).await;
    let call = platform.post(&format!("/workspaces/{id}/a2a"), json!({"method": "slow"})).bearer(&token);
    let hung_up = tokio::time::timeout(Duration::from_millis(500), call.open()).await;
    assert!(hung_up.is_err(), "the agent was to be slow");
    seen.gate.notify_one();
    assert_eq!(finished(&platform, &id, 1).await[0].outcome, CallOutcome::Answered);
}

#[actix_web::test]
async fn a_deadline_ends_a_call_with_unknown_outcome() {
    let platform = platform().await;
    let (port, _) = serve_agent();
    let (id, token) = registered(&platform, "agent", None, port).await;
    let call = platform.post(&format!("/workspaces/{id}/a2a"), json!({"method": "slow"})).bearer(&token);
    let reply = call.header("x-timeout", "1").send().await;
    assert_eq!(reply.says(), (503, "workspace agent busy — retry after a short backoff"));
    assert_eq!((&reply.json["code"], &reply.json["busy"]), (&json!("agent_timeout"), &json!(true)));
    assert_eq!(reply.headers["retry-after"], "30");
    assert_eq!(finished(&platform, &id, 1).await[0].outcome, CallOutcome::Unknown);
}

#[actix_web::test]
async fn a_full_workspace_is_busy() {
    let platform = Platform::tuned(|config| {
        config.surroundings.development = true;
        config.call_busy_patience = Duration::from_millis(300);
    })
    .await;
    let (port, seen) = serve_agent();
    let (lead, lead_token) = platform.external("lead", None).await;
    let (id, _) = registered(&platform, "agent", Some(&lead), port).await;
    let call = || {
        platform.post(&format!("/workspaces/{id}/a2a"), json!({"method": "slow"})).bearer(&lead_token).send()
    };
    let mut calls = futures_util::stream::FuturesUnordered::new();
    for _ in 0..6 {
        calls.push(call());
    }
    let sixth = calls.next().await.unwrap();
    assert_eq!(sixth.says(), (503, "workspace agent busy — retry after a short backoff"));
    assert_eq!((&sixth.json["busy"], &sixth.json["code"]), (&json!(true), &json!("workspace_busy")));
    assert!(sixth.headers.contains_key("retry-after"));
    for _ in 0..5 {
        seen.gate.notify_one();
        assert_eq!(calls.next().await.unwrap().status, 200);
    }
}

#[actix_web::test]
async fn the_served_card_leads_through_the_platform() {
    let platform = platform().await;
    let (port, _) = serve_agent();
    let (id, _) = registered(&platform, "agent", None, port).await;
    let path = format!("/workspaces/{id}/.well-known/agent-card.json");
    let card = platform.get(&path).send().await;
    assert_eq!(card.json["url"], format!("{}/workspaces/{id}/a2a", platform.base));
    assert_eq!(card.json["securitySchemes"]["covalence"]["scheme"], "bearer");
    assert!(card.headers["cache-control"].starts_with("max-age="));
    let again = platform.get(&path).header("if-none-match", &card.headers["etag"]).send().await;
    assert_eq!((again.status, again.text.as_str()), (304, ""));
    assert_eq!(platform.get(&format!("/workspaces/{id}/agent/card")).send().await.json, card.json);
    let (bare, _) = platform.external("bare", None).await;
    let none =
        platform.ask(Method::GET, &format!("/workspaces/{bare}/.well-known/agent-card.json")).send().await;
    assert_eq!((none.status, &none.json["code"]), (404, &json!("agent_card_unknown")));
}
