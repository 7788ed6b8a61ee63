//! A platform in this process: a server on a port of its own, and a client.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use actix_web::http::Method;
use async_trait::async_trait;
use bytes::Bytes;
use covalence_actors::effect::files::{FileError, FilePath, FoundFile, NewFile};
use covalence_actors::effect::{
    Backend, BackendError, Clock, Inspection, Listed, ListedState, LogQuery, LogStream, Moment,
    ProvisionError, ProvisionSpec, Provisioned, Secret, Signal,
};
use covalence_actors::runtime::{Ports, Recovery, Runtime, Settings};
use covalence_events::keyring::Keyring;
use covalence_events::log::memory::MemoryLog;
use covalence_events::log::{Ack, Append, EventLog, Expected};
use covalence_events::vault::Vault;
use covalence_events::workspace::{BackendKind, HeartbeatReceived, InstanceRef};
use covalence_events::{EventId, Fact, Generation, Meta, NewEvent, Position, StreamId, WorkspaceId};
use covalence_projections::{History, Rebuilder, Subscriptions, Views};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::backends::external::ExternalBackend;
use crate::http::address::Surroundings;
use crate::http::{HttpConfig, HttpState, Listener, Parts, listen};

/// The admin token of these platforms.
pub(super) const ADMIN: &str = "the-admin-token-of-a-test-platform";
/// Nothing here takes longer, unless it hangs.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct WallClock(Instant);

impl Clock for WallClock {
    fn now(&self) -> Moment {
        Moment { at: chrono::Utc::now(), mono_ns: u64::try_from(self.0.elapsed().as_nanos()).unwrap() }
    }
}

/// A backend that starts nothing and says that it did: the edge needs generations, not processes.
#[derive(Debug, Default)]
pub(super) struct Table {
    running: Mutex<HashMap<WorkspaceId, Generation>>,
    /// Gone, though the list still shows it: only a look by its exact id tells.
    gone: Mutex<HashSet<(WorkspaceId, Generation)>>,
    /// What was put into workspaces.
    files: Mutex<HashMap<(WorkspaceId, String), Bytes>>,
    /// Where generations after the first answer; nobody does where the first one says that it is.
    successors: Mutex<Option<String>>,
}

impl Table {
    /// The instance that runs is gone, and nobody has noticed.
    pub(super) fn lose(&self, workspace: WorkspaceId) {
        let generation = self.running.lock().unwrap()[&workspace];
        self.gone.lock().unwrap().insert((workspace, generation));
    }

    /// Where generations after the first answer from now on.
    pub(super) fn successors_answer_at(&self, url: String) {
        *self.successors.lock().unwrap() = Some(url);
    }

    /// Files that were put into workspaces.
    pub(super) fn files(&self) -> usize {
        self.files.lock().unwrap().len()
    }

    fn answer(&self, workspace: WorkspaceId, generation: Generation) -> Provisioned {
        let successor = self.successors.lock().unwrap().clone().filter(|_| generation > Generation(1));
        Provisioned {
            instance: Some(InstanceRef { id: format!("{workspace}:{generation}") }),
            url: Some(successor.unwrap_or_else(|| "http://127.0.0.1:9".to_owned())),
            withheld: Vec::new(),
            image: None,
        }
    }
}

#[async_trait]
impl Backend for Table {
    fn kind(&self) -> BackendKind {
        BackendKind::Process
    }

    async fn provision(&self, spec: &ProvisionSpec) -> Result<Provisioned, ProvisionError> {
        self.running.lock().unwrap().insert(spec.workspace, spec.generation);
        Ok(self.answer(spec.workspace, spec.generation))
    }

    async fn find(&self, workspace: WorkspaceId, generation: Generation) -> Inspection {
        let running = self.running.lock().unwrap().get(&workspace).copied();
        let gone = self.gone.lock().unwrap().contains(&(workspace, generation));
        match running {
            Some(running) if running == generation && !gone => {
                Inspection::Running(self.answer(workspace, generation))
            }
            _ => Inspection::NotThere { code: "not_found", detail: String::new(), exit_status: None },
        }
    }

    async fn inspect(&self, workspace: WorkspaceId, _: &InstanceRef) -> Inspection {
        let generation = self.running.lock().unwrap().get(&workspace).copied().unwrap_or_default();
        self.find(workspace, generation).await
    }

    async fn list(&self) -> Result<Vec<Listed>, BackendError> {
        let running = self.running.lock().unwrap();
        let listed = running.iter().map(|(workspace, generation)| Listed {
            workspace: Some(*workspace),
            generation: Some(*generation),
            instance: InstanceRef { id: format!("{workspace}:{generation}") },
            name: workspace.to_string(),
            state: ListedState::Running,
            url: Some("http://127.0.0.1:9".to_owned()),
        });
        Ok(listed.collect())
    }

    async fn stop(&self, workspace: WorkspaceId, _: Generation, _: Duration) -> Result<(), BackendError> {
        self.running.lock().unwrap().remove(&workspace);
        Ok(())
    }

    async fn purge(&self, _: WorkspaceId) -> Result<(), BackendError> {
        Ok(())
    }

    async fn remove_stranger(&self, _: &InstanceRef) -> Result<(), BackendError> {
        Ok(())
    }

    async fn watch(&self, signals: mpsc::Sender<Signal>) {
        signals.closed().await;
    }

    async fn logs(&self, _: WorkspaceId, _: LogQuery) -> Result<LogStream, BackendError> {
        Ok(Box::pin(futures_util::stream::iter([Ok(Bytes::from_static(b"one line\n"))])))
    }

    async fn put_files(&self, workspace: WorkspaceId, files: Vec<NewFile>) -> Result<(), FileError> {
        self.running.lock().unwrap().get(&workspace).ok_or(FileError::NotRunning)?;
        let files = files.into_iter().map(|file| ((workspace, file.path.to_string()), file.body));
        self.files.lock().unwrap().extend(files);
        Ok(())
    }

    async fn open_file(&self, workspace: WorkspaceId, path: &FilePath) -> Result<FoundFile, FileError> {
        self.running.lock().unwrap().get(&workspace).ok_or(FileError::NotRunning)?;
        let found = self.files.lock().unwrap().get(&(workspace, path.to_string())).cloned();
        let body = found.ok_or(FileError::NotFound)?;
        let bytes = body.len() as u64;
        Ok(FoundFile { bytes, body: Box::pin(futures_util::stream::iter([Ok(body)])) })
    }
}

/// See the module.
pub(super) struct Platform {
    pub(super) base: String,
    pub(super) state: Arc<HttpState>,
    pub(super) table: Arc<Table>,
    client: awc::Client,
}

fn recorder() -> PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER.get_or_init(|| PrometheusBuilder::new().install_recorder().unwrap()).clone()
}

fn config() -> HttpConfig {
    HttpConfig {
        open_on_loopback: false,
        enrolment: chrono::TimeDelta::minutes(15),
        test_tokens: true,
        surroundings: Surroundings::default(),
        public_url: None,
        hosts: BTreeSet::new(),
        cors_origins: vec!["http://localhost:3000".to_owned()],
        rate_limit: 600,
        organisation: None,
        slug: None,
        control_plane: None,
        canvas: None,
        tracing: None,
        workspace_roots: Vec::new(),
        templates: None,
        workspace_dir: None,
        default_runtime: None,
        runtimes: BTreeSet::from(["echo".to_owned(), "command".to_owned()]),
        backend: BackendKind::Process,
        call_idle_timeout: Duration::from_secs(300),
        call_busy_patience: Duration::from_secs(15),
    }
}

/// A place for keys that is this test's own.
fn keys_dir() -> std::path::PathBuf {
    tempfile::tempdir().unwrap().keep()
}

/// A state without a server.
pub(super) async fn state(tune: impl FnOnce(&mut HttpConfig)) -> Arc<HttpState> {
    state_over(tune, Arc::default()).await
}

async fn state_over(tune: impl FnOnce(&mut HttpConfig), table: Arc<Table>) -> Arc<HttpState> {
    let mut config = config();
    tune(&mut config);
    let log: Arc<dyn EventLog> = Arc::new(MemoryLog::default());
    let clock: Arc<dyn Clock> = Arc::new(WallClock(Instant::now()));
    let backends: HashMap<BackendKind, Arc<dyn Backend>> = HashMap::from([
        (BackendKind::Process, table as Arc<dyn Backend>),
        (BackendKind::External, Arc::new(ExternalBackend)),
    ]);
    let surroundings = config.surroundings;
    let vault = Vault::new(Arc::new(Keyring::open(&keys_dir(), None).unwrap()));
    let ports = Ports {
        log: Arc::clone(&log),
        clock: Arc::clone(&clock),
        backends: backends.clone(),
        vault: vault.clone(),
        channel: Arc::new(crate::channel::HttpChannel::new(surroundings).unwrap()),
        tasks: tokio::runtime::Handle::current(),
        pulses: Vec::new(),
    };
    let runtime = Runtime::start(Recovery::default(), ports, Settings::default(), Vec::new()).await.unwrap();
    let views = Arc::new(Views::new());
    drop(views.start(Arc::clone(&log)));
    let hub = Arc::new(crate::http::live::hub::Hub::default());
    let (live, told, seen) = (Arc::clone(&hub), Arc::clone(&log), Arc::clone(&views));
    tokio::spawn(async move { live.follow(told, seen, &covalence_events::pulse::Pulse::new("live")).await });
    HttpState::new(Parts {
        runtime,
        history: History::new(Arc::clone(&log), None),
        subscriptions: Arc::new(
            Subscriptions::open(keys_dir().join("subscriptions"), Arc::clone(&log)).unwrap(),
        ),
        rebuilder: Rebuilder::new(Arc::clone(&views), Arc::clone(&log), tokio::runtime::Handle::current()),
        views,
        log,
        vault,
        export: None,
        hub,
        checkpoints: None,
        conditions: Arc::default(),
        retention: None,
        backends,
        config,
        admin_token: Secret::new(ADMIN.to_owned()),
        clock,
        metrics: recorder(),
    })
}

impl Platform {
    /// As installed: no credential, no entry.
    pub(super) async fn start() -> Self {
        Self::tuned(|_| {}).await
    }

    /// With development's freedom on loopback.
    pub(super) async fn open() -> Self {
        Self::tuned(|config| {
            config.open_on_loopback = true;
            config.surroundings.development = true;
        })
        .await
    }

    pub(super) async fn tuned(tune: impl FnOnce(&mut HttpConfig)) -> Self {
        let table = Arc::<Table>::default();
        let state = state_over(tune, Arc::clone(&table)).await;
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", socket.local_addr().unwrap());
        let server = listen(&state, vec![Listener { socket }], 1).unwrap();
        drop(actix_web::rt::spawn(server));
        let client = awc::Client::builder().timeout(PATIENCE).disable_redirects().finish();
        Self { base, state, table, client }
    }

    pub(super) fn ask(&self, method: Method, path: &str) -> Ask {
        Ask(self.client.request(method, format!("{}{path}", self.base)).no_decompress(), None)
    }

    pub(super) fn get(&self, path: &str) -> Ask {
        self.ask(Method::GET, path)
    }

    pub(super) fn post(&self, path: &str, body: Value) -> Ask {
        self.ask(Method::POST, path).json(body)
    }

    /// The log's last position once nothing moves in it any more.
    pub(super) async fn settled_head(&self) -> Position {
        let mut head = self.state.log.head();
        let mut watch = self.state.log.watch();
        while tokio::time::timeout(Duration::from_millis(300), watch.changed()).await.is_ok() {
            head = self.state.log.head();
        }
        head
    }

    /// Creates a workspace as admin; its id.
    pub(super) async fn create(&self, body: Value) -> String {
        let reply = self.post("/workspaces", body).bearer(ADMIN).send().await;
        assert_eq!(reply.status, 201, "{reply:?}");
        reply.json["id"].as_str().unwrap().to_owned()
    }

    /// So many heartbeats of a workspace, each so much later than the one before, straight into the log: a request for each would
    /// take minutes.
    pub(super) async fn beats(&self, id: WorkspaceId, count: usize, apart: chrono::TimeDelta) {
        let (log, stream) = (&self.state.log, StreamId::Workspace(id));
        let last = log.read_back(stream, log.head(), 1).await.unwrap();
        let mut at = last[0].meta.at;
        let mut beat = || {
            at += apart;
            let meta = Meta { id: EventId(Uuid::now_v7()), at, ..last[0].meta.clone() };
            NewEvent { meta, fact: Fact::Workspace(HeartbeatReceived::default().into()) }
        };
        let mut left = count;
        while left > 0 {
            let events: Vec<NewEvent> = (0..left.min(1000)).map(|_| beat()).collect();
            left -= events.len();
            let append = Append { stream, expected: Expected::Any, events };
            log.append(vec![append], Ack::Durable).await.unwrap();
        }
    }

    /// An external workspace without a URL; its id and token.
    pub(super) async fn external(&self, name: &str, parent: Option<&str>) -> (String, String) {
        let body = json!({"name": name, "external": true, "parent_id": parent});
        let reply = self.post("/workspaces", body).bearer(ADMIN).send().await;
        assert_eq!(reply.status, 201, "{reply:?}");
        let text = |pointer: &str| reply.json.pointer(pointer).unwrap().as_str().unwrap().to_owned();
        (text("/id"), text("/connection/auth_token"))
    }

    /// Waits until a workspace has this status.
    pub(super) async fn wait_for(&self, id: &str, status: &str) {
        let found = self
            .state
            .views
            .wait_for(id.parse().unwrap(), PATIENCE, |row| row.status.as_str() == status)
            .await;
        let last = self.state.views.roster.read().get(id.parse().unwrap());
        assert!(found.is_some(), "never `{status}`: {last:?}");
    }
}

/// A request in the making.
pub(super) struct Ask(awc::ClientRequest, Option<Bytes>);

impl Ask {
    pub(super) fn header(self, name: &str, value: &str) -> Self {
        Self(self.0.insert_header((name, value)), self.1)
    }

    pub(super) fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    #[expect(clippy::needless_pass_by_value, reason = "called with a literal each time")]
    pub(super) fn json(self, body: Value) -> Self {
        Self(self.0, Some(Bytes::from(body.to_string())))
    }

    pub(super) fn body(self, body: impl Into<Bytes>) -> Self {
        Self(self.0, Some(body.into()))
    }

    pub(super) async fn open(self) -> awc::ClientResponse {
        match self.1 {
            Some(body) => self.0.send_body(body).await.unwrap(),
            None => self.0.send().await.unwrap(),
        }
    }

    pub(super) async fn send(self) -> Reply {
        let mut response = self.open().await;
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()))
            .collect();
        let status = response.status().as_u16();
        let body = response.body().limit(1 << 24).await.unwrap();
        let text = String::from_utf8_lossy(&body).into_owned();
        Reply { status, headers, json: serde_json::from_str(&text).unwrap_or(Value::Null), text }
    }
}

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HashMap<String, String>,
    pub(super) text: String,
    pub(super) json: Value,
}

impl Reply {
    /// Whether a refusal names itself for machines and for a support request.
    pub(super) fn is_named(&self) -> bool {
        let text = |key: &str| self.json[key].as_str().is_some_and(|text| !text.is_empty());
        text("code")
            && text("request_id")
            && self.headers["x-request-id"] == self.json["request_id"].as_str().unwrap_or_default()
    }

    /// Status and error text.
    pub(super) fn says(&self) -> (u16, &str) {
        (self.status, self.json["error"].as_str().unwrap_or(&self.text))
    }
}
