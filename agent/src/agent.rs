//! Where the pieces meet: start, run, drain.
//!
//! Order of the start: listen first, register then, because the platform may fetch the card at once. Order of the
//! stop: take no new connections, finish the calls that run, and give up on those that take too long.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::a2a::card::{Card, CardFacts};
use crate::activity::Activity;
use crate::config::Config;
use crate::platform::Platform;
use crate::platform::client::Client;
use crate::platform::token::TokenStore;
use crate::platform::wire::Register;
use crate::runtime::{self, Runtime};
use crate::server;
use crate::server::call::Caller;
use crate::server::service::Service;

/// Calls in flight get this long after a signal. The platform and engines kill after 10 s.
const DRAIN_MAX: Duration = Duration::from_secs(7);
/// Time to send the error answers of calls that were given up.
const ABANDON_MAX: Duration = Duration::from_secs(1);

/// Why an agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address as configured.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The client for the platform could not be built.
    #[error("cannot build the client for the platform")]
    Client(#[from] reqwest::Error),
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    /// Address that it listens on, with the real port.
    pub address: SocketAddr,
    tracker: TaskTracker,
    draining: CancellationToken,
    abandon: CancellationToken,
    failed: watch::Receiver<Option<&'static str>>,
}

impl Agent {
    /// Starts an agent with the runtime that the configuration names.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let runtime = runtime::from_config(&config);
        Self::start_with(config, runtime).await
    }

    /// Starts an agent whose messages are answered by `runtime`.
    pub async fn start_with(config: Config, runtime: Arc<dyn Runtime>) -> Result<Self, StartError> {
        let listen_error = |source| StartError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let url = config
            .agent_url
            .clone()
            .unwrap_or_else(|| format!("http://{}:{}", config.url_host, address.port()));
        let card = card(&config, &url, runtime.name());
        let token = TokenStore::open(&config.config_dir, config.api_key.clone());
        let client = Client::new(config.platform_url.clone(), token)?;
        tracing::info!(
            %address,
            url,
            workspace_id = config.workspace_id,
            platform = config.platform_url,
            runtime = runtime.name(),
            "agent started"
        );

        let activity = Activity::new();
        let register = Register { id: config.workspace_id, url, agent_card: card.document.clone() };
        let platform =
            Arc::new(Platform::new(client, register, Arc::clone(&activity), config.heartbeat_interval));
        let tracker = TaskTracker::new();
        let draining = CancellationToken::new();
        let abandon = CancellationToken::new();
        let caller = Caller::new(runtime, activity, tracker.clone(), abandon.clone());
        let service = Arc::new(Service::new(card, caller));
        let (report, failed) = watch::channel(None);
        let parts = Parts { tracker: tracker.clone(), draining: draining.clone(), report };
        parts.run("server", server::serve(listener, service, tracker.clone(), draining.clone()));
        parts.run("registration", {
            let platform = Arc::clone(&platform);
            async move {
                platform.register().await;
                std::future::pending::<()>().await;
            }
        });
        parts.run("heartbeats", async move { platform.heartbeats().await });
        Ok(Self { address, tracker, draining, abandon, failed })
    }

    /// Waits until a part of the agent ended by itself, which is a bug; gives its name.
    pub async fn failed(&self) -> &'static str {
        let mut failed = self.failed.clone();
        // The sender lives as long as the parts; if all are gone, so is the agent.
        failed.wait_for(Option::is_some).await.ok().and_then(|part| *part).unwrap_or("agent")
    }

    /// Stops: no new connections, calls in flight are answered, or given up after a grace.
    pub async fn stop(self) {
        self.draining.cancel();
        self.tracker.close();
        if tokio::time::timeout(DRAIN_MAX, self.tracker.wait()).await.is_ok() {
            return;
        }
        tracing::warn!(tasks = self.tracker.len(), "calls take too long, giving them up");
        self.abandon.cancel();
        drop(tokio::time::timeout(ABANDON_MAX, self.tracker.wait()).await);
    }
}

fn card(config: &Config, url: &str, runtime: &str) -> Card {
    let default = format!("Workspace that answers with the runtime `{runtime}`");
    Card::new(&CardFacts {
        name: &config.workspace_name,
        description: config.role.as_deref().unwrap_or(&default),
        url,
        runtime,
    })
}

/// The loops that must run until the agent stops.
struct Parts {
    tracker: TaskTracker,
    draining: CancellationToken,
    report: watch::Sender<Option<&'static str>>,
}

impl Parts {
    /// Runs `part` until draining. Should it end or panic before, that is reported: an agent without heartbeats
    /// looks alive to itself and dead to everybody else.
    fn run(&self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        let task = self.tracker.spawn(self.draining.clone().run_until_cancelled_owned(part));
        let draining = self.draining.clone();
        let report = self.report.clone();
        self.tracker.spawn(async move {
            let ended = task.await;
            if !draining.is_cancelled() {
                if let Err(error) = ended {
                    tracing::error!(part = name, %error, "part failed");
                }
                report.send_replace(Some(name));
            }
        });
    }
}
