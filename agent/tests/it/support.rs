//! What the stories share: a recording platform, an HTTP client, agents in this process.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use covalence_agent::agent::Agent;
use covalence_agent::config::{CommandConfig, CommandInput, Config, RuntimeConfig};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Generous, because the machine may be busy; a condition that holds ends the wait at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One request that the platform got.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) path: String,
    pub(crate) bearer: Option<String>,
    pub(crate) body: Value,
}

/// Path, status and body of an answer to come.
type Planned = (&'static str, u16, Value);

/// A platform that records, and answers 200 unless told otherwise.
#[derive(Clone)]
pub(crate) struct Platform {
    pub(crate) address: SocketAddr,
    told: watch::Sender<Vec<Told>>,
    /// Answers given in order to requests of a path.
    answers: Arc<Mutex<VecDeque<Planned>>>,
    /// The only bearer that is accepted, where one is required.
    required: Arc<Mutex<Option<String>>>,
}

impl Platform {
    pub(crate) async fn start() -> Self {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
    }

    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let platform = Self {
            address: listener.local_addr().unwrap(),
            told: watch::channel(Vec::new()).0,
            answers: Arc::default(),
            required: Arc::default(),
        };
        let serving = platform.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let platform = serving.clone();
                let service = hyper::service::service_fn(move |request| platform.clone().answer(request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        platform
    }

    /// The next request of `path` gets this answer.
    pub(crate) fn will_answer(&self, path: &'static str, status: u16, body: Value) {
        self.answers.lock().unwrap().push_back((path, status, body));
    }

    /// From now on every other bearer is answered with 401.
    pub(crate) fn require(&self, bearer: &str) {
        *self.required.lock().unwrap() = Some(format!("Bearer {bearer}"));
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let path = request.uri().path().to_owned();
        let bearer =
            request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let told =
            Told { path: path.clone(), bearer: bearer.clone(), body: serde_json::from_slice(&body).unwrap() };
        let required = self.required.lock().unwrap().clone();
        let (status, body) = if required.is_some() && required != bearer {
            (401, json!({"error": "invalid workspace auth token"}))
        } else {
            let mut answers = self.answers.lock().unwrap();
            let planned = answers.iter().position(|(planned, _, _)| *planned == path);
            planned
                .and_then(|index| answers.remove(index))
                .map_or_else(|| (200, json!({"status": "ok"})), |(_, status, body)| (status, body))
        };
        self.told.send_modify(|all| all.push(told));
        let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        Ok(response)
    }

    /// Waits for a request of `path` that satisfies `wanted`.
    pub(crate) async fn told(&self, path: &str, wanted: impl Fn(&Told) -> bool) -> Told {
        let mut seen = self.told.subscribe();
        let find = |all: &Vec<Told>| all.iter().any(|told| told.path == path && wanted(told));
        let Ok(all) =
            tokio::time::timeout(PATIENCE, seen.wait_for(find)).await.map(|all| all.unwrap().clone())
        else {
            panic!("no such request of {path} in: {:#?}", self.told.borrow());
        };
        all.into_iter().find(|told| told.path == path && wanted(told)).unwrap()
    }

    pub(crate) fn count(&self, path: &str) -> usize {
        self.told.borrow().iter().filter(|told| told.path == path).count()
    }
}

pub(crate) const REGISTER: &str = "/registry/register";
pub(crate) const HEARTBEAT: &str = "/registry/heartbeat";

/// A configuration for a test: loopback, any port, a heartbeat each second.
pub(crate) fn config(platform: SocketAddr, directory: &Path, runtime: RuntimeConfig) -> Config {
    Config {
        workspace_id: "w-1".to_owned(),
        workspace_name: "Ada".to_owned(),
        role: Some("Answers the phone".to_owned()),
        platform_url: format!("http://{platform}"),
        api_key: None,
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        agent_url: None,
        url_host: "127.0.0.1".to_owned(),
        config_dir: directory.to_owned(),
        runtime,
        heartbeat_interval: Duration::from_secs(1),
        log_filter: "info".to_owned(),
    }
}

/// A shell script as the command of an agent.
pub(crate) fn shell(script: &str, input: CommandInput) -> CommandConfig {
    CommandConfig {
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        input,
        timeout: Duration::from_mins(1),
        concurrency_max: 5,
    }
}

/// An agent in this process, with its platform and its directory.
pub(crate) struct Running {
    pub(crate) agent: Agent,
    pub(crate) platform: Platform,
    /// Holds the token file; gone with this value.
    _directory: tempfile::TempDir,
}

impl Running {
    pub(crate) async fn echo() -> Self {
        Self::start(RuntimeConfig::Echo).await
    }

    pub(crate) async fn command(command: CommandConfig) -> Self {
        Self::start(RuntimeConfig::Command(command)).await
    }

    async fn start(runtime: RuntimeConfig) -> Self {
        let platform = Platform::start().await;
        let directory = tempfile::tempdir().unwrap();
        let agent = Agent::start(config(platform.address, directory.path(), runtime)).await.unwrap();
        Self { agent, platform, _directory: directory }
    }

    pub(crate) async fn ask(&self, text: &str) -> Value {
        let reply = post(self.agent.address, "/", &message_send(text)).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    }
}

/// An answer, completely read.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub(crate) fn client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

pub(crate) async fn send(request: Request<Full<Bytes>>) -> Reply {
    let response = tokio::time::timeout(PATIENCE, client().request(request)).await.unwrap().unwrap();
    let (parts, body) = response.into_parts();
    let body = tokio::time::timeout(PATIENCE, body.collect()).await.unwrap().unwrap().to_bytes();
    Reply { status: parts.status.as_u16(), headers: parts.headers, body }
}

pub(crate) fn json_request(address: SocketAddr, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(format!("http://{address}{path}"))
        .header("content-type", "application/json")
        .body(Full::new(body.into()))
        .unwrap()
}

pub(crate) async fn post(address: SocketAddr, path: &str, body: &Value) -> Reply {
    send(json_request(address, path, body.to_string())).await
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Reply {
    send(Request::get(format!("http://{address}{path}")).body(Full::default()).unwrap()).await
}

/// A call as the platform sends it.
pub(crate) fn message_send(text: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": "call-1", "method": "message/send", "params": {"message": {
        "kind": "message", "role": "user", "messageId": "m-1", "parts": [{"kind": "text", "text": text}],
    }}})
}

/// Waits until `holds` says so; `what` names the condition in the failure.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        // A poll, not a delay: files and processes of others have no event to wait for.
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        while !holds() {
            ticks.tick().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "never came true: {what}");
}
