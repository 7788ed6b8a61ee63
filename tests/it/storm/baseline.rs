//! Three other ways to supervise the same containers through the same faults.
//!
//! Two are what control planes do that inspect each container in turn, and once more when a call fails; they differ in
//! what an error of the inspect means. The third is the engine's own restart policy, and nobody else acts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::engine::{Engine, IMAGE, SLOW, WORKSPACE_LABEL};
use super::round::{Ended, Fleet, MEMBERS, Round, Weapon};
use crate::support::client::{Client, message};
use crate::support::eventually::eventually;

/// Between two rounds of inspects: the same as the platform's between two lists.
const INSPECT_EVERY: Duration = Duration::from_secs(5);
/// The platform's own limits for a look and for a change.
const LOOK_LIMIT: Duration = Duration::from_secs(3);
const CHANGE_LIMIT: Duration = Duration::from_secs(30);
/// Seconds that a restart leaves a container between SIGTERM and SIGKILL.
const GRACE: u32 = 1;
/// A container's agent answers within this after its start.
const UP_LIMIT: Duration = Duration::from_secs(60);
/// An agent that is there says so at once.
const CARD_LIMIT: Duration = Duration::from_secs(1);

/// Who restarts what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    /// An inspect that fails means that the container is gone.
    InspectErrorIsDead,
    /// An inspect that fails means nothing; and there is nothing else.
    UnknownIsAlive,
    /// Containers are created with `restart=always`.
    LeftToTheEngine,
}

impl Policy {
    /// Its name in reports.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::InspectErrorIsDead => "inspect error = dead",
            Self::UnknownIsAlive => "unknown means alive, nothing else",
            Self::LeftToTheEngine => "the engine's restart policy",
        }
    }
}

/// What an inspect says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Running,
    NotThere,
    Error,
}

/// Looks, judges and restarts.
struct Supervisor {
    policy: Policy,
    socket: PathBuf,
    /// Containers that are being restarted: one restart at a time for each.
    busy: Mutex<BTreeSet<String>>,
}

impl Supervisor {
    async fn watch(self: Arc<Self>, containers: Vec<String>) {
        let mut tick = tokio::time::interval(INSPECT_EVERY);
        loop {
            tick.tick().await;
            for container in &containers {
                tokio::spawn(Arc::clone(&self).look_at(container.clone()));
            }
        }
    }

    async fn look_at(self: Arc<Self>, container: String) {
        let seen = self.inspect(&container).await;
        let dead = match self.policy {
            Policy::InspectErrorIsDead => seen != Seen::Running,
            Policy::UnknownIsAlive => seen == Seen::NotThere,
            Policy::LeftToTheEngine => false,
        };
        if !dead || !self.busy.lock().unwrap().insert(container.clone()) {
            return;
        }
        // Its error is not looked at: the next inspect says how it went.
        let path = format!("/containers/{container}/restart?t={GRACE}");
        let _answer = tokio::time::timeout(CHANGE_LIMIT, self.ask(Method::POST, &path)).await;
        self.busy.lock().unwrap().remove(&container);
    }

    async fn inspect(&self, container: &str) -> Seen {
        let path = format!("/containers/{container}/json");
        match tokio::time::timeout(LOOK_LIMIT, self.ask(Method::GET, &path)).await {
            Ok(Some((StatusCode::OK, body))) => match body["State"]["Running"].as_bool() {
                Some(true) => Seen::Running,
                Some(false) => Seen::NotThere,
                None => Seen::Error,
            },
            Ok(Some((StatusCode::NOT_FOUND, _))) => Seen::NotThere,
            Ok(_) | Err(_) => Seen::Error,
        }
    }

    /// One request on a connection of its own. None: no answer, or none that can be read.
    async fn ask(&self, method: Method, path: &str) -> Option<(StatusCode, Value)> {
        let stream = UnixStream::connect(&self.socket).await.ok()?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.ok()?;
        let request = Request::builder().method(method).uri(path).header("host", "engine").body(Empty::new());
        let exchange = async {
            let answer = sender.send_request(request.expect("a request")).await.ok()?;
            let status = answer.status();
            let body = answer.into_body().collect().await.ok()?.to_bytes();
            let value = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).ok()? };
            Some((status, value))
        };
        tokio::select! {
            answer = exchange => answer,
            _ended = connection => None,
        }
    }
}

/// Fifteen containers under one of the policies.
pub(super) struct Baseline<'a> {
    engine: &'a Engine,
    members: Vec<String>,
    /// Where each member's agent answers.
    urls: BTreeMap<String, String>,
    containers: BTreeMap<String, String>,
    supervisor: Arc<Supervisor>,
    watching: JoinHandle<()>,
    patience: Duration,
}

impl<'a> Baseline<'a> {
    /// Starts the containers and, when all answer, who watches them through the proxy.
    pub(super) async fn start(policy: Policy, round: &Round<'a>) -> Self {
        let engine = round.engine;
        let members: Vec<String> = (1..=MEMBERS).map(|number| format!("member-{number}")).collect();
        let (mut urls, mut containers) = (BTreeMap::new(), BTreeMap::new());
        for member in &members {
            let port = free_port();
            let restart = if policy == Policy::LeftToTheEngine { "always" } else { "no" };
            containers.insert(member.clone(), run(engine, member, (port, restart)).await);
            urls.insert(member.clone(), format!("http://127.0.0.1:{port}"));
        }
        for url in urls.values() {
            eventually(
                "the agent answers",
                UP_LIMIT,
                async || {
                    if answers(url).await { Ok(()) } else { Err(url) }
                },
            )
            .await;
        }
        let supervisor =
            Arc::new(Supervisor { policy, socket: round.proxy.socket(), busy: Mutex::default() });
        let watched = containers.values().cloned().collect();
        let watching = tokio::spawn(Arc::clone(&supervisor).watch(watched));
        Self { engine, members, urls, containers, supervisor, watching, patience: round.patience() }
    }
}

impl Drop for Baseline<'_> {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

impl Fleet for Baseline<'_> {
    fn members(&self) -> &[String] {
        &self.members
    }

    fn weapon(&self) -> Weapon {
        match self.supervisor.policy {
            Policy::InspectErrorIsDead | Policy::UnknownIsAlive => Weapon::Engine,
            Policy::LeftToTheEngine => Weapon::Kernel,
        }
    }

    async fn call(&self, member: &str, seconds: f64) -> Ended {
        let agent = Client::new(self.urls[member].clone(), String::new()).with_limit(self.patience);
        let ended = match agent.post("/", &message(&seconds.to_string())).await {
            Ok(reply) if reply.status == 200 && reply.json()["result"].is_object() => return Ended::Answered,
            Ok(reply) => Ended::Refused(format!("{} {}", reply.status, reply.text)),
            Err(error) if error.is_timeout() => Ended::Endless,
            Err(error) => Ended::CutOff(error.to_string()),
        };
        Arc::clone(&self.supervisor).look_at(self.containers[member].clone()).await;
        ended
    }

    async fn mark(&self) -> u64 {
        0
    }

    async fn is_back(&self, member: &str, _mark: u64) -> bool {
        answers(&self.urls[member]).await
    }

    async fn provision(&self, name: &str) {
        run(self.engine, name, (free_port(), "no")).await;
    }

    async fn newcomers_up(&self) -> usize {
        let running = self.engine.running().await;
        running.keys().filter(|name| !self.members.contains(name)).count()
    }
}

/// Whether an agent answers there, now.
async fn answers(url: &str) -> bool {
    let agent = Client::new(url.to_owned(), String::new()).with_limit(CARD_LIMIT);
    agent.get("/.well-known/agent-card.json").await.is_ok_and(|reply| reply.status == 200)
}

/// Starts one container; answers its id.
async fn run(engine: &Engine, name: &str, (port, restart): (u16, &str)) -> String {
    let label = format!("{WORKSPACE_LABEL}={name}");
    let publish = format!("127.0.0.1:{port}:8000");
    let workspace = format!("WORKSPACE_ID={name}");
    let command = format!("AGENT_COMMAND=[\"{SLOW}\"]");
    let environment = [&*workspace, "PLATFORM_URL=http://127.0.0.1:9", "AGENT_RUNTIME=command", &*command];
    let mut arguments = vec!["run", "--detach", "--name", name, "--label", &label, "--restart", restart];
    arguments.extend(["--publish", &publish, "--memory", "512m", "--cpus", "1"]);
    arguments.extend(environment.iter().flat_map(|pair| ["--env", pair]));
    arguments.push(IMAGE);
    engine.docker(&arguments).await
}

/// A port that is free at this moment, and the same after a restart.
fn free_port() -> u16 {
    let socket = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    socket.local_addr().expect("an address").port()
}
