//! The HTTP API: parses requests into commands, checks authority, and answers from projections.
//!
//! No domain rule lives here. A handler may send commands to the write side and read projections; it never appends to
//! the log, builds a fact, or looks into an actor. Every mutation waits until the projections have passed its position
//! (read your own writes), and answers from them.
//!
//! Read in this order: [`router`] (what there is), [`edge`] (what every request passes), [`auth`] (who may), [`error`]
//! (the one status table), then the resources: [`workspaces`], [`registry`], [`a2a`], [`events`], [`supervision`], [`admin`],
//! [`health`].

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use covalence_actors::effect::{Backend, Clock, Secret};
use covalence_actors::runtime::Runtime;
use covalence_events::log::EventLog;
use covalence_events::log::checkpoint::Book;
use covalence_events::log::segments::export::Status;
use covalence_events::vault::Vault;
use covalence_events::workspace::BackendKind;
use covalence_projections::{History, Rebuilder, Subscriptions, Views};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::conditions::Conditions;
use crate::retention::Retention;

pub mod a2a;
pub mod activity;
pub mod address;
pub mod admin;
pub mod as_of;
pub mod auth;
pub mod body;
pub mod chat;
pub mod delegations;
pub mod document;
pub mod edge;
pub mod error;
pub mod events;
#[cfg(feature = "fault-hooks")]
mod fault;
pub mod fields;
pub mod health;
pub mod idempotency;
pub mod incidents;
pub mod live;
pub mod moments;
pub mod org;
pub mod outcome;
pub mod page;
pub mod registry;
pub mod request;
pub mod router;
pub mod secrets;
pub mod server;
pub mod subscriptions;
pub mod supervision;
#[cfg(test)]
mod tests;
pub mod upstream;
pub mod view;
pub mod workspaces;

use live::hub::Hub;
pub use server::{Listener, listen};
use workspaces::traces::Tracing;

/// What the operator decided about this edge.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Credential-free use on loopback: `MOLECULE_ENV` says development and no admin token was configured.
    pub open_on_loopback: bool,
    /// For how long after a workspace's creation its agent gets its first token by registering.
    pub enrolment: TimeDelta,
    /// Whether `GET /admin/workspaces/{id}/test-token` exists.
    pub test_tokens: bool,
    /// How strict agents' addresses are judged.
    pub surroundings: address::Surroundings,
    /// Where agents and callers reach us, if it is configured (`EXTERNAL_PLATFORM_URL`); else the request says.
    pub public_url: Option<String>,
    /// Host names under which we may be addressed, besides `localhost`, `host.docker.internal` and our own addresses.
    pub hosts: BTreeSet<String>,
    /// Origins of pages that may call us.
    pub cors_origins: Vec<String>,
    /// Requests a minute for each token, or each address without one.
    pub rate_limit: u32,
    /// The tenant that every request must name.
    pub organisation: Option<String>,
    /// Its name at the control plane, which says whose session is a member's.
    pub slug: Option<String>,
    /// The control plane behind `/cp/`.
    pub control_plane: Option<Url>,
    /// The canvas that is served where no route is.
    pub canvas: Option<Url>,
    /// Who is asked for traces of workspaces.
    pub tracing: Option<Tracing>,
    /// Directories below which a `workspace_dir` must lie.
    pub workspace_roots: Vec<PathBuf>,
    /// The directory of templates, if there is one.
    pub templates: Option<PathBuf>,
    /// The host directory of a workspace that asks for access to one and names none.
    pub workspace_dir: Option<String>,
    /// The runtime of a workspace that names none.
    pub default_runtime: Option<String>,
    /// Every runtime's name.
    pub runtimes: BTreeSet<String>,
    /// The adapter for new workspaces that are not external.
    pub backend: BackendKind,
    /// A call is given up when the workspace showed no sign of life for this long.
    pub call_idle_timeout: Duration,
    /// A call without a deadline of its own is tried again at a busy agent for this long.
    pub call_busy_patience: Duration,
}

/// Everything that handlers reach. Shared by all HTTP workers.
pub struct HttpState {
    /// The write side.
    pub runtime: Runtime,
    /// The read side.
    pub views: Arc<Views>,
    /// The read side as it was.
    pub history: History,
    /// Folds the read side anew.
    pub rebuilder: Rebuilder,
    /// Who follows the log under a name.
    pub subscriptions: Arc<Subscriptions>,
    /// The log, for reading it raw and for waiting on outcomes.
    pub log: Arc<dyn EventLog>,
    /// What seals and opens secrets.
    pub vault: Vault,
    /// How its export fares, if it has one.
    pub export: Option<Arc<Status>>,
    /// Who listens to what happens.
    pub hub: Arc<Hub>,
    /// Its signed checkpoints, if it has any.
    pub checkpoints: Option<Book>,
    /// What is wrong with our own disk and log.
    pub conditions: Arc<Conditions>,
    /// What leaves it when it is too old, if anything can.
    pub retention: Option<Retention>,
    /// The adapters, for logs and strangers only.
    pub backends: HashMap<BackendKind, Arc<dyn Backend>>,
    /// What the operator decided.
    pub config: HttpConfig,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Renders `/metrics`.
    pub metrics: PrometheusHandle,
    inner: Inner,
}

/// What this edge keeps in memory for itself.
#[derive(Debug)]
struct Inner {
    door: auth::Door,
    sessions: auth::session::Sessions,
    /// Changes of the hierarchy happen one after the other, so that checks against it hold until they are recorded.
    structure: tokio::sync::Mutex<()>,
    limits: edge::limit::Limits,
    replies: idempotency::Replies,
    calls: TaskTracker,
    waiting: a2a::retry::Waiting,
    replays: Arc<tokio::sync::Semaphore>,
    uploads: chat::turn::Turns,
}

/// The parts that the composition root hands in; see [`HttpState`].
pub struct Parts {
    /// The write side.
    pub runtime: Runtime,
    /// The read side.
    pub views: Arc<Views>,
    /// The read side as it was.
    pub history: History,
    /// Folds the read side anew.
    pub rebuilder: Rebuilder,
    /// Who follows the log under a name.
    pub subscriptions: Arc<Subscriptions>,
    /// The log.
    pub log: Arc<dyn EventLog>,
    /// What seals and opens secrets.
    pub vault: Vault,
    /// How its export fares, if it has one.
    pub export: Option<Arc<Status>>,
    /// Who listens to what happens.
    pub hub: Arc<Hub>,
    /// Its signed checkpoints, if it has any.
    pub checkpoints: Option<Book>,
    /// What is wrong with our own disk and log.
    pub conditions: Arc<Conditions>,
    /// What leaves it when it is too old, if anything can.
    pub retention: Option<Retention>,
    /// The adapters.
    pub backends: HashMap<BackendKind, Arc<dyn Backend>>,
    /// What the operator decided.
    pub config: HttpConfig,
    /// The admin token.
    pub admin_token: Secret,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Renders `/metrics`.
    pub metrics: PrometheusHandle,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("config", &self.config).finish_non_exhaustive()
    }
}

impl HttpState {
    /// The edge's state.
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts {
            runtime,
            views,
            history,
            rebuilder,
            subscriptions,
            log,
            vault,
            export,
            hub,
            checkpoints,
            conditions,
            retention,
            backends,
            mut config,
            admin_token,
            clock,
            metrics,
        } = parts;
        // Whoever may call us from a page of that host may be served under its name too (a canvas and its API behind one proxy).
        let urls = config.cors_origins.iter().chain(config.public_url.iter());
        let named: Vec<String> = urls.filter_map(|url| edge::origin::host_of_url(url)).collect();
        config.hosts.extend(named);
        Arc::new(Self {
            runtime,
            views,
            history,
            rebuilder,
            subscriptions,
            log,
            vault,
            export,
            hub,
            checkpoints,
            conditions,
            retention,
            backends,
            config,
            clock,
            metrics,
            inner: Inner {
                door: auth::Door::new(&admin_token),
                sessions: auth::session::Sessions::default(),
                structure: tokio::sync::Mutex::default(),
                limits: edge::limit::Limits::default(),
                waiting: a2a::retry::Waiting::default(),
                replies: idempotency::Replies::default(),
                calls: TaskTracker::new(),
                replays: Arc::new(tokio::sync::Semaphore::new(moments::replay::REPLAYS_MAX)),
                uploads: chat::turn::Turns::default(),
            },
        })
    }

    /// What a replay needs a permit of, so that there are not too many at once.
    fn replays(&self) -> Arc<tokio::sync::Semaphore> {
        Arc::clone(&self.inner.replays)
    }

    /// Waits until no call is under way any more. For an orderly shutdown, after the server has stopped.
    pub async fn calls_finished(&self) {
        self.inner.calls.close();
        self.inner.calls.wait().await;
    }
}

impl fmt::Debug for HttpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpState").field("config", &self.config).finish_non_exhaustive()
    }
}
