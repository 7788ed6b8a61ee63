//! What each request means.
//!
//! | request | answer |
//! |---|---|
//! | `GET /health` | `{"status":"ok"}` |
//! | `GET` of a card path | the agent card |
//! | `POST` of any path | JSON-RPC: A2A 0.3 or 1.0 |
//!
//! JSON-RPC errors travel with status 200, because SDKs drop the body of any other. The exceptions are answers
//! about HTTP itself: 403 for a web page, 413 for a body over the limit, 503 with `Retry-After` when all slots are
//! taken, which is how the platform tells *busy* from *dead*.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, ORIGIN,
    RETRY_AFTER,
};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::a2a::card::{self, Card};
use crate::a2a::message;
use crate::a2a::method::{self, Action, Dialect};
use crate::a2a::rpc::{
    self, METHOD_NOT_FOUND, PUSH_NOT_SUPPORTED, RpcError, TASK_NOT_FOUND, VERSION_NOT_SUPPORTED,
};
use crate::server::body::AnswerBody;
use crate::server::call::{Busy, Caller};

/// The platform's own limit for a request body.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// 16 MiB within this need 0.5 MiB/s, which any link between platform and agent has.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// A busy agent frees a slot in seconds to minutes; the platform queues and asks again anyway.
const BUSY_RETRY_AFTER_SECONDS: u64 = 5;
/// SDKs give up on a stream that is silent for 5 s.
const KEEPALIVE: Duration = Duration::from_secs(3);
/// Events wait for a slow reader here: a comment, a keepalive, the answer.
const EVENTS_QUEUED_MAX: usize = 4;

/// Answers HTTP requests.
#[derive(Debug)]
pub struct Service {
    card: Card,
    caller: Caller,
}

type Reply = Response<AnswerBody>;

impl Service {
    /// A service with this card whose calls go to `caller`.
    pub fn new(card: Card, caller: Caller) -> Self {
        Self { card, caller }
    }

    /// Answers one request.
    pub async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Reply {
        let path = request.uri().path();
        match *request.method() {
            Method::POST => self.post(request).await,
            Method::GET | Method::HEAD if path == "/health" => {
                json_reply(StatusCode::OK, &json!({"status": "ok"}))
            }
            Method::GET | Method::HEAD if card::PATHS.contains(&path) => self.card(request.headers()),
            Method::GET | Method::HEAD => error_reply(StatusCode::NOT_FOUND, "not found"),
            _ => {
                let mut reply = error_reply(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
                set(&mut reply, ALLOW, "GET, HEAD, POST");
                reply
            }
        }
    }

    fn card(&self, headers: &HeaderMap) -> Reply {
        let known = headers.get(IF_NONE_MATCH).and_then(|tags| tags.to_str().ok()).is_some_and(|tags| {
            tags.split(',').map(|tag| tag.trim().trim_start_matches("W/")).any(|tag| tag == self.card.etag)
        });
        let mut reply = if known {
            let mut reply = Response::new(AnswerBody::whole(Bytes::new()));
            *reply.status_mut() = StatusCode::NOT_MODIFIED;
            reply
        } else {
            let mut reply = Response::new(AnswerBody::whole(self.card.body.clone()));
            set(&mut reply, CONTENT_TYPE, "application/json");
            reply
        };
        set(&mut reply, CACHE_CONTROL, "max-age=60");
        set(&mut reply, ETAG, &self.card.etag);
        reply
    }

    async fn post(&self, request: Request<Incoming>) -> Reply {
        // Browsers name the page's origin with every POST, programs do not. A page must not reach a port of this
        // host or network, not even by a name that it lets point here; its way is through the platform.
        if request.headers().contains_key(ORIGIN) {
            return error_reply(StatusCode::FORBIDDEN, "web pages reach an agent through the platform only");
        }
        let version = asked_version(&request);
        let body = match read(request).await {
            Ok(body) => body,
            Err(reply) => return *reply,
        };
        self.rpc(&body, version.as_deref()).await
    }

    async fn rpc(&self, body: &[u8], version: Option<&str>) -> Reply {
        let request = match rpc::parse(body) {
            Ok(request) => request,
            Err(refused) => return rpc_error(&refused.id, &refused.error, method::dialect_of(version)),
        };
        let Some((action, dialect)) = method::classify(&request.method) else {
            let error = RpcError::new(METHOD_NOT_FOUND, format!("method `{}` is not known", request.method));
            return rpc_error(&request.id, &error, method::dialect_of(version));
        };
        if !method::is_served(version) {
            let served = method::VERSIONS.join(", ");
            let error = RpcError::new(VERSION_NOT_SUPPORTED, format!("versions served here: {served}"));
            return rpc_error(&request.id, &error, dialect);
        }
        match action {
            Action::Send | Action::Stream => self.send(request, action, dialect).await,
            Action::Task => {
                let error =
                    RpcError::new(TASK_NOT_FOUND, "task does not exist: this agent answers with messages");
                rpc_error(&request.id, &error, dialect)
            }
            Action::Push => {
                let error = RpcError::new(PUSH_NOT_SUPPORTED, "push notifications are not supported");
                rpc_error(&request.id, &error, dialect)
            }
        }
    }

    async fn send(&self, request: rpc::Request, action: Action, dialect: Dialect) -> Reply {
        let prompt = match message::prompt(&request.params) {
            Ok(prompt) => prompt,
            Err(error) => return rpc_error(&request.id, &error, dialect),
        };
        let slot = match self.caller.admit() {
            Ok(slot) => slot,
            Err(busy) => return busy_reply(busy),
        };
        let answer = self.caller.start(slot, prompt, request.id.clone(), dialect);
        // Calls outlive their caller, so the task may end only by itself; a panic inside is caught further in.
        let answer = async move {
            answer.await.unwrap_or_else(|_| {
                let error = RpcError::new(rpc::INTERNAL_ERROR, "the call was lost");
                rpc::failure(&request.id, &error, dialect)
            })
        };
        if action == Action::Stream {
            stream_reply(answer)
        } else {
            json_reply(StatusCode::OK, &answer.await)
        }
    }
}

/// A stream of comments that keep it alive, then one event with the answer.
fn stream_reply(answer: impl Future<Output = Value> + Send + 'static) -> Reply {
    let (events, body) = mpsc::channel(EVENTS_QUEUED_MAX);
    let relay = async move {
        tokio::pin!(answer);
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => {
                    drop(events.send(Bytes::from(format!("data: {answer}\n\n"))).await);
                    return;
                }
                // A reader that is gone ends the relay; the call itself runs on in its own task.
                sent = keepalive(&events) => if !sent { return },
            }
        }
    };
    // Not in the tracker: it ends with the call, which is, or with the connection, which is as well.
    drop(tokio::spawn(relay));
    let mut reply = Response::new(AnswerBody::Events(body));
    set(&mut reply, CONTENT_TYPE, "text/event-stream");
    set(&mut reply, CACHE_CONTROL, "no-cache");
    set(&mut reply, HeaderName::from_static("x-accel-buffering"), "no");
    reply
}

/// Sends a comment, then waits until the next one is due. `false` if nobody reads any more.
async fn keepalive(events: &mpsc::Sender<Bytes>) -> bool {
    let sent = events.send(Bytes::from_static(b": keepalive\n\n")).await.is_ok();
    tokio::time::sleep(KEEPALIVE).await;
    sent
}

async fn read(request: Request<Incoming>) -> Result<Bytes, Box<Reply>> {
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect();
    match timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let body = json!({
                "error": format!("body is over {BODY_BYTES_MAX} bytes"),
                "truncated": true,
                "max_bytes": BODY_BYTES_MAX,
            });
            Err(Box::new(json_reply(StatusCode::PAYLOAD_TOO_LARGE, &body)))
        }
        Ok(Err(_)) => Err(Box::new(error_reply(StatusCode::BAD_REQUEST, "body ended early"))),
        Err(_) => Err(Box::new(error_reply(StatusCode::REQUEST_TIMEOUT, "body did not arrive in time"))),
    }
}

/// The version from the header, or from the query where a client cannot set headers.
fn asked_version(request: &Request<Incoming>) -> Option<String> {
    let header = request.headers().get("a2a-version").and_then(|value| value.to_str().ok());
    let query = || request.uri().query()?.split('&').find_map(|pair| pair.strip_prefix("A2A-Version="));
    header.or_else(query).map(str::to_owned)
}

fn busy_reply(busy: Busy) -> Reply {
    let body = json!({
        "error": format!("agent is busy: {} calls are running, which is its limit", busy.running),
        "busy": true,
        "retry_after": BUSY_RETRY_AFTER_SECONDS,
    });
    let mut reply = json_reply(StatusCode::SERVICE_UNAVAILABLE, &body);
    set(&mut reply, RETRY_AFTER, &BUSY_RETRY_AFTER_SECONDS.to_string());
    reply
}

fn rpc_error(id: &Value, error: &RpcError, dialect: Dialect) -> Reply {
    json_reply(StatusCode::OK, &rpc::failure(id, error, dialect))
}

fn error_reply(status: StatusCode, message: &str) -> Reply {
    json_reply(status, &json!({"error": message}))
}

fn json_reply(status: StatusCode, body: &Value) -> Reply {
    let mut reply = Response::new(AnswerBody::whole(body.to_string()));
    *reply.status_mut() = status;
    set(&mut reply, CONTENT_TYPE, "application/json");
    reply
}

fn set(reply: &mut Reply, name: HeaderName, value: &str) {
    // All values are ours and visible ASCII; the match keeps a mistake from becoming a panic.
    if let Ok(value) = HeaderValue::from_str(value) {
        reply.headers_mut().insert(name, value);
    }
}
