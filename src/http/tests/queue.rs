//! Calls that wait until a busy agent has time (contract 4.7, 4.9).

use std::collections::VecDeque;
use std::net::TcpListener;
use std::sync::Mutex;
use std::time::Duration;

use actix_web::http::{Method, StatusCode};
use actix_web::{App, HttpResponse, HttpServer, web};
use covalence_actors::context::Origin;
use covalence_actors::runtime::{Permit, PermitRequest};
use covalence_events::Principal;
use serde_json::{Value, json};

use super::activity::{feed, message};
use super::calls::registered;
use super::platform::{ADMIN, Platform, Reply};

/// An agent: the statuses that it answers with before all is well, and what it was asked.
#[derive(Debug, Default)]
struct Script {
    statuses: Mutex<VecDeque<u16>>,
    asked: Mutex<Vec<String>>,
}

async fn agent(script: web::Data<Script>, body: web::Json<Value>) -> HttpResponse {
    let text = body.pointer("/params/message/parts/0/text").and_then(Value::as_str).unwrap_or_default();
    script.asked.lock().unwrap().push(text.to_owned());
    let status = script.statuses.lock().unwrap().pop_front().unwrap_or(200);
    let status = StatusCode::from_u16(status).unwrap();
    if !status.is_success() {
        return HttpResponse::build(status).json(json!({"error": "not now"}));
    }
    let parts = json!([{"kind": "text", "text": format!("did {text}")}]);
    HttpResponse::Ok()
        .json(json!({"jsonrpc": "2.0", "id": body["id"], "result": {"kind": "message", "parts": parts}}))
}

struct Stage {
    platform: Platform,
    script: web::Data<Script>,
    id: String,
    token: String,
}

impl Stage {
    /// Callers wait a moment only, so that what does not fit is queued at once.
    async fn with(statuses: impl IntoIterator<Item = u16>) -> Self {
        let script = web::Data::new(Script {
            statuses: Mutex::new(statuses.into_iter().collect()),
            ..Script::default()
        });
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let shared = script.clone();
        let server =
            HttpServer::new(move || App::new().app_data(shared.clone()).default_service(web::to(agent)))
                .workers(1)
                .disable_signals()
                .listen(socket)
                .unwrap()
                .run();
        drop(actix_web::rt::spawn(server));
        let platform = Platform::tuned(|config| {
            config.surroundings.development = true;
            config.call_busy_patience = Duration::from_millis(50);
        })
        .await;
        let (id, token) = registered(&platform, "agent", None, port).await;
        Self { platform, script, id, token }
    }

    /// All slots of the agent.
    fn fill(&self) -> Vec<Permit> {
        let take = || {
            let request = PermitRequest { caller: Principal::Admin, method: "message/send".to_owned() };
            let id = self.id.parse().unwrap();
            self.platform.state.runtime.permit(id, request, Origin::new(Principal::Admin))
        };
        (0..5).map(|_| take().unwrap()).collect()
    }

    async fn send(&self, token: &str, message: Value) -> Reply {
        self.platform.post(&format!("/workspaces/{}/a2a", self.id), message).bearer(token).send().await
    }

    async fn queue(&self, name: &str) -> String {
        let reply = self.send(ADMIN, message(name, name)).await;
        assert_eq!((reply.status, &reply.json["queued"]), (202, &json!(true)), "{reply:?}");
        reply.json["queue_id"].as_str().unwrap().to_owned()
    }

    async fn show(&self, queue: &str, token: &str) -> Reply {
        self.platform.get(&format!("/workspaces/{}/a2a/queue/{queue}", self.id)).bearer(token).send().await
    }

    async fn until(&self, queue: &str, status: &str) -> Value {
        for _ in 0..1500 {
            let shown = self.show(queue, ADMIN).await.json;
            if shown["status"] == status {
                return shown;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never `{status}`: {:?}", self.show(queue, ADMIN).await)
    }

    fn asked(&self) -> Vec<String> {
        self.script.asked.lock().unwrap().clone()
    }
}

#[actix_web::test]
async fn calls_without_a_slot_wait_in_their_order_and_each_gets_its_answer_once() {
    let stage = Stage::with([]).await;
    let mut slots = stage.fill();
    let mut names = Vec::new();
    for (n, name) in ["one", "two", "three"].into_iter().enumerate() {
        let reply = stage.send(ADMIN, message(name, name)).await;
        assert_eq!((reply.status, &reply.json["queue_depth"]), (202, &json!(n + 1)), "{reply:?}");
        assert!(reply.json["error"].is_null(), "a wait is no error");
        names.push(reply.json["queue_id"].as_str().unwrap().to_owned());
    }
    let again = stage.send(ADMIN, message("one", "one")).await;
    assert_eq!(
        (again.status, &again.json["queue_id"]),
        (202, &json!(names[0])),
        "the same message waits once"
    );
    let list =
        stage.platform.get(&format!("/workspaces/{}/a2a/queue", stage.id)).bearer(&stage.token).send().await;
    let waiting: Vec<_> = list.json.as_array().unwrap().iter().map(|call| call["queue_id"].clone()).collect();
    assert_eq!(waiting, names);
    assert!(stage.asked().is_empty());
    // One slot: with several, calls that leave in order may arrive in another.
    drop(slots.pop());
    for (queue, name) in names.iter().zip(["one", "two", "three"]) {
        let shown = stage.until(queue, "completed").await;
        assert_eq!(
            shown.pointer("/response_body/result/parts/0/text"),
            Some(&json!(format!("did {name}"))),
            "{shown}"
        );
        assert_eq!(
            (&shown["attempts"], &shown["priority"], &shown["caller_id"]),
            (&json!(1), &json!(50), &Value::Null)
        );
    }
    assert_eq!(stage.asked(), ["one", "two", "three"]);
    let rows = feed(&stage.platform, &stage.id, ADMIN, "type=a2a_receive").await;
    let texts = rows.iter().filter_map(|row| row.pointer("/response_body/result/parts/0/text")).count();
    assert_eq!(texts, 3, "each is a row of the feed, once: {rows:?}");
}

/// Contract 4.9: put back as it was, and not lost.
#[actix_web::test]
async fn an_agent_that_says_that_it_has_no_time_is_asked_again_later() {
    let stage = Stage::with([503, 503]).await;
    let queue = stage.queue("dig").await;
    assert_eq!(stage.asked().len(), 1, "the call itself");
    let shown = stage.until(&queue, "completed").await;
    assert_eq!((&shown["attempts"], stage.asked().len()), (&json!(2), 3));
    assert_eq!(shown["last_error"], "not now");
}

#[actix_web::test]
async fn an_answer_that_is_an_error_ends_the_wait_and_is_not_tried_again() {
    let stage = Stage::with([500]).await;
    let slots = stage.fill();
    let queue = stage.queue("dig").await;
    drop(slots);
    let shown = stage.until(&queue, "failed").await;
    assert_eq!((&shown["reason"], stage.asked().len()), (&json!("agent_error"), 1));
}

#[actix_web::test]
async fn who_called_and_who_is_called_may_ask_and_nobody_else() {
    let stage = Stage::with([]).await;
    let (caller, callers) = stage.platform.external("caller", None).await;
    let (_, strangers) = stage.platform.external("stranger", None).await;
    let _slots = stage.fill();
    let reply = stage.send(&callers, message("m", "hi")).await;
    let queue = reply.json["queue_id"].as_str().unwrap();
    for token in [callers.as_str(), stage.token.as_str(), ADMIN] {
        let shown = stage.show(queue, token).await;
        assert_eq!((shown.status, &shown.json["caller_id"]), (200, &json!(caller)));
    }
    assert_eq!(stage.show(queue, &strangers).await.says(), (403, "access denied"));
    assert_eq!(stage.show(queue, "made-up").await.says(), (401, "caller identity required"));
    let missing = stage.show("f0000000-0000-4000-8000-000000000000", ADMIN).await;
    assert_eq!((missing.status, &missing.json["retryable"]), (404, &json!(true)));
}

#[actix_web::test]
async fn the_queue_is_bounded_and_what_is_too_much_is_busy() {
    let stage = Stage::with([]).await;
    let _slots = stage.fill();
    for n in 0..covalence_actors::workspace::queue::WAITING_MAX {
        let id = stage.id.parse().unwrap();
        let call = covalence_events::workspace::CallQueued {
            queue: covalence_events::QueueId::generate(),
            caller: Principal::Admin,
            method: "message/send".to_owned(),
            digest: Some(n.to_string()),
            not_before: None,
            expires: chrono::Utc::now() + chrono::TimeDelta::hours(1),
            request: "{}".to_owned(),
        };
        let command = covalence_actors::workspace::Command::QueueCall(Box::new(call));
        stage.platform.state.runtime.command(id, command, Origin::new(Principal::Admin)).await.unwrap();
    }
    let full = stage.send(ADMIN, message("m", "hi")).await;
    assert_eq!(
        (full.status, &full.json["busy"], full.headers["retry-after"].as_str()),
        (503, &json!(true), "30")
    );
    let dropped = stage
        .platform
        .ask(
            Method::POST,
            &format!("/admin/a2a-queue/drop-stale?max_age_minutes=1&workspace_id={}", stage.id),
        )
        .bearer(ADMIN)
        .send()
        .await;
    assert_eq!(dropped.text, "{\"dropped\":0}", "nothing is that old");
    for bad in ["0", "-1", "x", "99999999999999999"] {
        let path = format!("/admin/a2a-queue/drop-stale?max_age_minutes={bad}");
        let refused = stage.platform.ask(Method::POST, &path).bearer(ADMIN).send().await;
        assert_eq!(refused.says(), (400, "max_age_minutes must be a positive integer"));
    }
}

#[actix_web::test]
async fn what_its_caller_wants_no_longer_and_what_is_for_a_removed_workspace_is_dropped() {
    let stage = Stage::with([]).await;
    let _slots = stage.fill();
    let mut brief = message("brief", "brief");
    brief["params"]["expires_in_seconds"] = json!(1);
    let reply = stage.send(ADMIN, brief).await;
    let expired = stage.until(reply.json["queue_id"].as_str().unwrap(), "dropped").await;
    assert_eq!(expired["reason"], "expired");
    let queue = stage.queue("late").await;
    let path = format!("/workspaces/{}?confirm=true", stage.id);
    assert_eq!(stage.platform.ask(Method::DELETE, &path).bearer(ADMIN).send().await.status, 200);
    let removed = stage.until(&queue, "dropped").await;
    assert_eq!(removed["reason"], "removed");
    assert!(stage.asked().is_empty());
}

/// Nobody listens to a stream later, and a call to oneself would wait for itself.
#[actix_web::test]
async fn what_can_not_wait_is_told_that_the_agent_is_busy() {
    let stage = Stage::with([]).await;
    let _slots = stage.fill();
    let mut stream = message("m", "hi");
    stream["method"] = json!("message/stream");
    let refused = stage.send(ADMIN, stream).await;
    assert_eq!((refused.status, &refused.json["code"]), (503, &json!("workspace_busy")));
    let newer = stage.platform.post(&format!("/workspaces/{}/a2a", stage.id), message("m", "hi"));
    let refused = newer.bearer(ADMIN).header("a2a-version", "1.0").send().await;
    assert_eq!(refused.status, 503, "{refused:?}");
}
