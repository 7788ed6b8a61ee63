//! Busy is not dead (R13), and failures that repeat (R14), with an agent that answers as it is told.

use std::collections::VecDeque;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::{App, HttpResponse, HttpServer, web};
use covalence_actors::context::Origin;
use covalence_actors::runtime::PermitRequest;
use covalence_events::Principal;
use covalence_events::workspace::{CallOutcome, FailureKind};
use serde_json::{Value, json};

use super::calls::{finished, registered};
use super::platform::{ADMIN, Platform, Reply};

const BUSY: &str = "workspace agent busy — retry after a short backoff";

/// What the agent says next; when the script has ended, that all is well.
#[derive(Debug, Default)]
struct Script {
    answers: Mutex<VecDeque<Says>>,
    asked: AtomicUsize,
}

#[derive(Clone, Debug)]
enum Says {
    Busy { retry_after: Option<&'static str> },
    Error(Value),
    FailedTask(&'static str),
    FailedStream(&'static str),
    Works,
}

async fn agent(script: web::Data<Script>, body: web::Json<Value>) -> HttpResponse {
    script.asked.fetch_add(1, Ordering::SeqCst);
    let next = script.answers.lock().unwrap().pop_front().unwrap_or(Says::Works);
    let id = &body["id"];
    let failed = |text| {
        let message = json!({"parts": [{"kind": "text", "text": text}]});
        json!({"jsonrpc": "2.0", "id": id, "result": {"kind": "task", "status": {"state": "failed", "message": message}}})
    };
    match next {
        Says::Busy { retry_after } => {
            let mut answer = HttpResponse::build(StatusCode::SERVICE_UNAVAILABLE);
            if let Some(wish) = retry_after {
                answer.insert_header(("retry-after", wish));
            }
            answer.json(json!({"error": "all 2 slots taken"}))
        }
        Says::Error(error) => HttpResponse::Ok().json(json!({"jsonrpc": "2.0", "id": id, "error": error})),
        Says::FailedTask(text) => HttpResponse::Ok().json(failed(text)),
        Says::FailedStream(text) => {
            HttpResponse::Ok().content_type("text/event-stream").body(format!("data: {}\n\n", failed(text)))
        }
        Says::Works => {
            HttpResponse::Ok().json(json!({"jsonrpc": "2.0", "id": id, "result": {"kind": "message"}}))
        }
    }
}

fn serve(answers: impl IntoIterator<Item = Says>) -> (u16, web::Data<Script>) {
    let answers = Mutex::new(answers.into_iter().collect());
    let script = web::Data::new(Script { answers, ..Script::default() });
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let shared = script.clone();
    let server = HttpServer::new(move || App::new().app_data(shared.clone()).default_service(web::to(agent)))
        .workers(1)
        .disable_signals()
        .listen(socket)
        .unwrap()
        .run();
    drop(actix_web::rt::spawn(server));
    (port, script)
}

/// A platform, and a workspace whose agent follows a script.
struct Stage {
    platform: Platform,
    script: web::Data<Script>,
    id: String,
    token: String,
}

impl Stage {
    async fn with(answers: impl IntoIterator<Item = Says>) -> Self {
        let (port, script) = serve(answers);
        let platform = Platform::tuned(|config| config.surroundings.development = true).await;
        let (id, token) = registered(&platform, "agent", None, port).await;
        Self { platform, script, id, token }
    }

    async fn call(&self, method: &str, headers: &[(&str, &str)]) -> Reply {
        let body = json!({"method": method, "params": {"message": {"role": "user", "content": "work"}}});
        let call = self.platform.post(&format!("/workspaces/{}/a2a", self.id), body).bearer(ADMIN);
        headers.iter().fold(call, |call, (name, value)| call.header(name, value)).send().await
    }

    fn asked(&self) -> usize {
        self.script.asked.load(Ordering::SeqCst)
    }

    async fn facts(&self, tag: &str) -> Vec<Value> {
        let path = format!("/admin/log?workspace={}&type={tag}", self.id);
        let text = self.platform.get(&path).bearer(ADMIN).send().await.text;
        text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until the log has this many facts of a kind.
    async fn until(&self, tag: &str, count: usize) -> Vec<Value> {
        for _ in 0..100 {
            let facts = self.facts(tag).await;
            if facts.len() >= count {
                return facts;
            }
            let mut watch = self.platform.state.log.watch();
            let _ = tokio::time::timeout(Duration::from_millis(100), watch.changed()).await;
        }
        panic!("never {count} of {tag}: {:?}", self.facts("workspace").await);
    }

    /// The word of the advice that a holder of this token sees.
    async fn advice(&self, path: &str, token: Option<&str>) -> Value {
        let head = self.platform.settled_head().await;
        self.platform.state.views.caught_up(head, Duration::from_secs(5)).await.unwrap();
        let request = self.platform.get(&format!("/workspaces/{}{path}", self.id));
        let request = match token {
            Some(token) => request.bearer(token),
            None => request,
        };
        request.send().await.json["supervision"]["advice"]["code"].clone()
    }
}

fn busy() -> Says {
    Says::Busy { retry_after: None }
}

/// R13: the caller of an agent that is busy for a moment notices nothing, and nothing is looked at or restarted.
#[actix_web::test]
async fn a_call_that_meets_a_busy_agent_is_tried_again_until_it_is_taken_in() {
    let stage = Stage::with([busy(), busy()]).await;
    let reply = stage.call("message/send", &[]).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(stage.asked(), 3);
    let call = &finished(&stage.platform, &stage.id, 1).await[0];
    assert_eq!((call.outcome, call.status, call.tries), (CallOutcome::Answered, Some(200), 3));
    assert_eq!(stage.facts("workspace.evidence_observed").await.len(), 0, "busy is no evidence");
    let metrics = stage.platform.get("/metrics").bearer(ADMIN).send().await.text;
    assert!(metrics.contains("covalence_call_retries_total{reason=\"busy\"}"), "each retry is counted");
}

/// R13: the wish of an agent is respected, so a call whose time is shorter is answered at once.
#[actix_web::test]
async fn an_agent_that_says_when_to_come_back_is_not_asked_before() {
    let stage = Stage::with([Says::Busy { retry_after: Some("1") }]).await;
    let began = Instant::now();
    assert_eq!(stage.call("message/send", &[]).await.status, 200);
    assert!(began.elapsed() >= Duration::from_secs(1), "it came back after {:?}", began.elapsed());

    let stage = Stage::with([Says::Busy { retry_after: Some("3600") }]).await;
    let reply = stage.call("tasks/get", &[]).await;
    assert_eq!(reply.says(), (503, BUSY));
    assert_eq!(reply.headers["retry-after"], "3600");
    assert_eq!((&reply.json["busy"], &reply.json["delivery"]), (&json!(true), &json!("not_delivered")));
    assert_eq!(reply.json["detail"], "all 2 slots taken", "what the agent said itself");
    assert_eq!(stage.asked(), 1);
}

#[actix_web::test]
async fn an_agent_that_stays_busy_is_a_503_when_the_caller_s_time_is_up() {
    let stage = Stage::with(std::iter::repeat_n(busy(), 50)).await;
    let began = Instant::now();
    let reply = stage.call("tasks/get", &[("x-timeout", "1")]).await;
    assert_eq!(reply.says(), (503, BUSY));
    assert_eq!((&reply.json["code"], &reply.json["busy"]), (&json!("agent_busy"), &json!(true)));
    assert_eq!(reply.headers["retry-after"], "30");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let call = &finished(&stage.platform, &stage.id, 1).await[0];
    assert_eq!((call.outcome, call.status), (CallOutcome::Answered, Some(503)));
    assert!(call.tries > 2, "{call:?}");
    assert_eq!(usize::try_from(call.tries).unwrap(), stage.asked(), "every try is told");
}

#[actix_web::test]
async fn a_call_of_unknown_fate_is_never_sent_twice() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let accepted = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&accepted);
    std::thread::spawn(move || {
        for connection in socket.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = std::io::Read::read(&mut connection.unwrap(), &mut [0; 4096]);
        }
    });
    let platform = Platform::tuned(|config| config.surroundings.development = true).await;
    let (id, token) = registered(&platform, "agent", None, port).await;
    let call = platform.post(&format!("/workspaces/{id}/a2a"), json!({"method": "m"})).bearer(&token);
    let reply = call.send().await;
    assert_eq!((reply.status, &reply.json["delivery"]), (503, &json!("unknown")), "{reply:?}");
    let call = &finished(&platform, &id, 1).await[0];
    assert_eq!((call.outcome, call.tries), (CallOutcome::Unknown, 1));
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}

#[actix_web::test]
async fn a_call_without_a_slot_gets_the_next_one_that_is_free() {
    let platform = Platform::tuned(|config| config.surroundings.development = true).await;
    let (port, _) = serve([]);
    let (id, _) = registered(&platform, "agent", None, port).await;
    let workspace = id.parse().unwrap();
    let mut open = Vec::new();
    for _ in 0..5 {
        let request = PermitRequest { caller: Principal::Admin, method: "message/send".to_owned() };
        let permit = platform.state.runtime.permit(workspace, request, Origin::new(Principal::Admin));
        open.push(permit.unwrap());
    }
    let call = platform.post(&format!("/workspaces/{id}/a2a"), json!({"method": "m"})).bearer(ADMIN).send();
    let mut call = std::pin::pin!(call);
    let waits = tokio::time::timeout(Duration::from_millis(300), &mut call).await;
    assert!(waits.is_err(), "there is no slot: {waits:?}");
    drop(open.pop());
    assert_eq!(call.await.status, 200);
    drop(open);
    let calls = finished(&platform, &id, 6).await;
    let answered = calls.iter().find(|call| call.outcome == CallOutcome::Answered).unwrap();
    assert!(answered.tries > 1, "{answered:?}");
}

/// A workspace of ours whose instance is gone, which nobody has noticed: its port refuses connections.
async fn lost(platform: &Platform) -> String {
    let id = platform.create(json!({"name": "agent", "runtime": "echo"})).await;
    let workspace = id.parse().unwrap();
    let runs = |row: &covalence_projections::Row| row.url_trusted;
    platform.state.views.wait_for(workspace, Duration::from_secs(10), runs).await.expect("it runs");
    platform.table.lose(workspace);
    id
}

#[actix_web::test]
async fn a_call_that_was_refused_goes_on_to_the_instance_that_replaces_the_lost_one() {
    let platform = Platform::start().await;
    let (port, script) = serve([]);
    platform.table.successors_answer_at(format!("http://127.0.0.1:{port}"));
    let id = lost(&platform).await;
    let reply =
        platform.post(&format!("/workspaces/{id}/a2a"), json!({"method": "m"})).bearer(ADMIN).send().await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(script.asked.load(Ordering::SeqCst), 1);
    let call = &finished(&platform, &id, 1).await[0];
    assert_eq!((call.outcome, call.tries), (CallOutcome::Answered, 2));
}

#[actix_web::test]
async fn a_call_that_was_refused_and_runs_out_of_time_is_told_of_the_restart() {
    let platform = Platform::start().await;
    let id = lost(&platform).await;
    let call = platform.post(&format!("/workspaces/{id}/a2a"), json!({"method": "m"})).bearer(ADMIN);
    let reply = call.header("x-timeout", "1").send().await;
    assert_eq!(reply.says(), (503, "workspace agent unreachable — container restart triggered"));
    assert_eq!(reply.headers["retry-after"], "15");
    assert_eq!((&reply.json["restarting"], &reply.json["delivery"]), (&json!(true), &json!("not_delivered")));
    let row = platform.state.views.roster.read().get(id.parse().unwrap()).unwrap();
    assert_eq!(reply.json["restart_id"], row.restart.as_ref().unwrap().id.to_string());
    assert_eq!(finished(&platform, &id, 1).await[0].outcome, CallOutcome::NotDelivered);
}

/// Nobody restarts it until the hold ends: a caller that was told otherwise would wait for nothing.
#[actix_web::test]
async fn a_call_whose_target_is_dead_and_held_is_told_so_and_by_which_rule() {
    let platform = Platform::start().await;
    let id = lost(&platform).await;
    let hold = json!({"scope": "fleet", "reason": "under investigation", "lasts": "30m"});
    let held = platform.post("/admin/holds", hold).bearer(ADMIN).send().await;
    assert_eq!(held.status, 201, "{held:?}");
    for _ in 0..2 {
        let call = platform.post(&format!("/workspaces/{id}/a2a"), json!({"method": "m"})).bearer(ADMIN);
        let reply = call.header("x-timeout", "1").send().await;
        let text = "workspace agent unreachable — its restart is held back until a person lets it";
        assert_eq!(reply.says(), (503, text));
        let told = (&reply.json["restarting"], &reply.json["held_by"], &reply.json["delivery"]);
        assert_eq!(told, (&json!(false), &json!("hold"), &json!("not_delivered")));
        assert_eq!(reply.headers["retry-after"], "60");
    }
}

/// R14: the third failure alike, whatever is asked and however it is told, is advice in the views of those who may act.
#[actix_web::test]
async fn failures_alike_are_recognised_and_whoever_may_act_is_told_what_to_do() {
    let error = |session: &str| {
        let message = format!("No conversation found with session ID: {session}");
        Says::Error(json!({"code": -32603, "message": message}))
    };
    let told = Says::FailedTask("no conversation found with session ID 17");
    let stage = Stage::with([error("0190a0b0-0000-4000-8000-000000000001"), told, error("2")]).await;
    for _ in 0..3 {
        assert_eq!(stage.call("message/send", &[]).await.status, 200, "an agent's errors pass as they are");
    }
    let poisoned = &stage.until("workspace.session_poisoned", 1).await[0]["data"];
    assert_eq!((&poisoned["in_a_row"], &poisoned["failure"]["kind"]), (&json!(3), &json!("no_conversation")));
    assert_eq!(stage.until("workspace.session_suspected", 1).await.len(), 1);
    let calls = finished(&stage.platform, &stage.id, 3).await;
    let kinds = calls.iter().filter_map(|call| Some(call.failure.as_ref()?.kind));
    assert_eq!(kinds.collect::<Vec<_>>(), [FailureKind::NoConversation; 3]);

    for token in [ADMIN, &stage.token] {
        assert_eq!(stage.advice("", Some(token)).await, "session_poisoned");
        assert_eq!(stage.advice("/details", Some(token)).await, "session_poisoned");
    }
    assert_eq!(stage.advice("", None).await, Value::Null, "errors are quoted to nobody else");

    assert_eq!(stage.call("message/send", &[]).await.status, 200);
    stage.until("workspace.session_cleared", 1).await;
    assert_eq!(stage.advice("", Some(ADMIN)).await, Value::Null, "it works again");
}

#[actix_web::test]
async fn a_stream_that_ends_with_a_failed_task_is_a_failure_too() {
    let stage = Stage::with(std::iter::repeat_n(Says::FailedStream("boom"), 3)).await;
    for _ in 0..3 {
        let reply = stage.call("message/stream", &[]).await;
        assert!(reply.text.contains("boom"), "{reply:?}");
    }
    let poisoned = stage.until("workspace.session_poisoned", 1).await;
    assert_eq!(poisoned[0]["data"]["failure"]["excerpt"], "boom");
}
