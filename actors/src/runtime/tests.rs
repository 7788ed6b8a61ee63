//! The machinery, run for real over the log in memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use covalence_events::keyring::Keyring;
use covalence_events::log::memory::MemoryLog;
use covalence_events::log::{Ack, Append, EventLog, Expected};
use covalence_events::pulse::Pulse;
use covalence_events::vault::Vault;
use covalence_events::workspace::{BackendKind, CallOutcome, HeartbeatReceived, InstanceRef};
use covalence_events::{Generation, NewEvent, Position, Principal, Recorded, Version, WorkspaceId};
use futures_util::future::join_all;
use tokio::sync::mpsc;

use super::{
    CallReport, CommandError, Examined, Permit, PermitRefused, PermitRequest, Ports, Recovery, Runtime,
    Settings,
};
use crate::context::Origin;
use crate::effect::{
    AgentChannel, AgentReply, Backend, BackendError, Clock, Errand, Inspection, Listed, ListedState,
    LogQuery, LogStream, Moment, Notice, NoticeError, Probe, ProvisionError, ProvisionSpec, Provisioned,
    Signal,
};
use crate::policy::Policy;
use crate::workspace::tests::create;
use crate::workspace::{Command, State, Status};

mod announce;
mod calls;
mod delegations;
mod drain;
mod flight;
mod full_log;
mod hibernation;
mod shut_log;
mod shutdown;
mod silence;
mod watchdog;

#[derive(Debug)]
struct WallClock(std::time::Instant);

impl Clock for WallClock {
    fn now(&self) -> Moment {
        let mono_ns = u64::try_from(self.0.elapsed().as_nanos()).unwrap();
        Moment { at: chrono::Utc::now(), mono_ns }
    }
}

/// An engine of our own making: what runs is what this table says.
#[derive(Debug, Default)]
struct Engine {
    running: Mutex<HashMap<WorkspaceId, Generation>>,
    provisioned: AtomicUsize,
    silent: Mutex<bool>,
    /// What agents were told.
    told: Mutex<Vec<Notice>>,
    /// What they were sent, and what they answer, the last first.
    sent: Mutex<Vec<Errand>>,
    replies: Mutex<Vec<Result<AgentReply, NoticeError>>>,
    /// What telling them ends with, for so many tries.
    deaf: Mutex<Vec<NoticeError>>,
    signals: Mutex<Option<mpsc::Sender<Signal>>>,
}

impl Engine {
    fn reference(workspace: WorkspaceId, generation: Generation) -> InstanceRef {
        InstanceRef { id: format!("{workspace}:{generation}") }
    }

    fn answer(workspace: WorkspaceId, generation: Generation) -> Provisioned {
        Provisioned {
            instance: Some(Self::reference(workspace, generation)),
            url: Some("http://127.0.0.1:1".to_owned()),
            withheld: Vec::new(),
            image: None,
        }
    }

    fn kill(&self, workspace: WorkspaceId) -> Signal {
        let generation = self.running.lock().unwrap().remove(&workspace).expect("it ran");
        Signal::Exited {
            workspace,
            generation,
            instance: Self::reference(workspace, generation),
            exit_status: Some(137),
            detail: "killed".to_owned(),
        }
    }

    async fn signal(&self, signal: Signal) {
        let tx = eventually("the backend is watched", || self.signals.lock().unwrap().clone()).await;
        tx.send(signal).await.unwrap();
    }

    fn unavailable(&self) -> Option<BackendError> {
        self.silent.lock().unwrap().then(|| BackendError { code: "timeout", detail: "silent".to_owned() })
    }

    fn look(&self, workspace: WorkspaceId, is_it: impl Fn(Generation) -> bool) -> Inspection {
        if let Some(error) = self.unavailable() {
            return Inspection::Unknown(error);
        }
        match self.running.lock().unwrap().get(&workspace) {
            Some(running) if is_it(*running) => Inspection::Running(Self::answer(workspace, *running)),
            _ => Inspection::NotThere { code: "not_found", detail: String::new(), exit_status: None },
        }
    }
}

#[async_trait]
impl Backend for Engine {
    fn kind(&self) -> BackendKind {
        BackendKind::Process
    }

    async fn provision(&self, spec: &ProvisionSpec) -> Result<Provisioned, ProvisionError> {
        self.provisioned.fetch_add(1, Ordering::SeqCst);
        self.running.lock().unwrap().insert(spec.workspace, spec.generation);
        Ok(Self::answer(spec.workspace, spec.generation))
    }

    async fn find(&self, workspace: WorkspaceId, generation: Generation) -> Inspection {
        self.look(workspace, |running| running == generation)
    }

    async fn inspect(&self, workspace: WorkspaceId, instance: &InstanceRef) -> Inspection {
        self.look(workspace, |running| Self::reference(workspace, running) == *instance)
    }

    async fn list(&self) -> Result<Vec<Listed>, BackendError> {
        if let Some(error) = self.unavailable() {
            return Err(error);
        }
        let running = self.running.lock().unwrap();
        Ok(running
            .iter()
            .map(|(workspace, generation)| Listed {
                workspace: Some(*workspace),
                generation: Some(*generation),
                instance: Self::reference(*workspace, *generation),
                name: workspace.to_string(),
                state: ListedState::Running,
                url: None,
            })
            .collect())
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
        *self.signals.lock().unwrap() = Some(signals.clone());
        signals.closed().await;
    }

    async fn logs(&self, _: WorkspaceId, _: LogQuery) -> Result<LogStream, BackendError> {
        Ok(Box::pin(futures_util::stream::empty()))
    }
}

#[async_trait]
impl AgentChannel for Engine {
    async fn probe(&self, _: &str, _: Duration) -> Probe {
        Probe::Silent { code: "refused", detail: "nobody listens".to_owned() }
    }

    async fn send(&self, errand: &Errand) -> Result<AgentReply, NoticeError> {
        self.sent.lock().unwrap().push(errand.clone());
        self.replies.lock().unwrap().pop().unwrap_or_else(|| {
            let body = r#"{"result":{"parts":[{"kind":"text","text":"done"}]}}"#.into();
            Ok(AgentReply { status: 200, body, cut: false, failure: None })
        })
    }

    async fn tell(&self, notice: &Notice) -> Result<(), NoticeError> {
        if let Some(error) = self.deaf.lock().unwrap().pop() {
            return Err(error);
        }
        self.told.lock().unwrap().push(notice.clone());
        Ok(())
    }
}

struct Platform {
    runtime: Runtime,
    log: Arc<MemoryLog>,
    engine: Arc<Engine>,
}

async fn platform_over(log: Arc<MemoryLog>, engine: Arc<Engine>, settings: Settings) -> Platform {
    platform_writing_to(Arc::clone(&log) as Arc<dyn EventLog>, log, engine, settings).await
}

async fn platform_writing_to(
    port: Arc<dyn EventLog>,
    log: Arc<MemoryLog>,
    engine: Arc<Engine>,
    settings: Settings,
) -> Platform {
    platform_with((port, log), engine, settings, Vec::new()).await
}

async fn platform_with(
    (port, log): (Arc<dyn EventLog>, Arc<MemoryLog>),
    engine: Arc<Engine>,
    settings: Settings,
    pulses: Vec<Arc<Pulse>>,
) -> Platform {
    let mut recovery = Recovery::default();
    for recorded in log.read_all(Position(1), usize::MAX).await.unwrap() {
        recovery.fold(&recorded);
    }
    let ports = Ports {
        log: port,
        clock: Arc::new(WallClock(std::time::Instant::now())),
        backends: HashMap::from([(BackendKind::Process, Arc::clone(&engine) as Arc<dyn Backend>)]),
        vault: vault(),
        channel: Arc::clone(&engine) as Arc<dyn AgentChannel>,
        tasks: tokio::runtime::Handle::current(),
        pulses,
    };
    let runtime = Runtime::start(recovery, ports, settings, Vec::new()).await.unwrap();
    Platform { runtime, log, engine }
}

async fn platform() -> Platform {
    platform_over(Arc::default(), Arc::default(), Settings::default()).await
}

/// The keys of all tests of this process: a platform that starts again has those of the one before.
fn vault() -> Vault {
    static VAULT: std::sync::OnceLock<Vault> = std::sync::OnceLock::new();
    let open = || Keyring::open(&tempfile::tempdir().unwrap().keep(), None).unwrap();
    VAULT.get_or_init(|| Vault::new(Arc::new(open()))).clone()
}

fn by_admin() -> Origin {
    Origin::new(Principal::Admin)
}

async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..2000 {
        if let Some(found) = look() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not within ten seconds: {what}");
}

impl Platform {
    async fn events(&self, workspace: WorkspaceId) -> Vec<Arc<Recorded>> {
        let stream = covalence_events::StreamId::Workspace(workspace);
        self.log.read(stream, Version(1), usize::MAX).await.unwrap()
    }

    async fn tags(&self, workspace: WorkspaceId) -> Vec<&'static str> {
        self.events(workspace).await.iter().map(|recorded| recorded.fact.tag()).collect()
    }

    async fn until(&self, workspace: WorkspaceId, what: &str, done: impl Fn(&State) -> bool) {
        for _ in 0..2000 {
            if self.runtime.peek(workspace).await.is_some_and(|state| done(&state)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("not within ten seconds: {what}; {:?}", self.tags(workspace).await);
    }

    async fn until_tagged(&self, workspace: WorkspaceId, tag: &str) {
        for _ in 0..2000 {
            if self.tags(workspace).await.contains(&tag) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("not within ten seconds: {tag}; {:?}", self.tags(workspace).await);
    }

    fn permit(&self, workspace: WorkspaceId, caller: Principal) -> Result<Permit, PermitRefused> {
        let request = PermitRequest { caller, method: "message/send".to_owned() };
        self.runtime.permit(workspace, request, by_admin())
    }

    async fn online(&self) -> WorkspaceId {
        let id = WorkspaceId::generate();
        self.runtime.command(id, create(BackendKind::Process), by_admin()).await.unwrap();
        self.until(id, "it runs", |state| state.url.is_some()).await;
        self.beat(id).await;
        id
    }

    async fn beat(&self, id: WorkspaceId) {
        let receipt = self.runtime.command(id, Command::Heartbeat(Box::default()), by_admin()).await.unwrap();
        assert_eq!(receipt.status, Status::Online);
    }
}

#[actix::test]
async fn a_death_that_the_backend_signals_is_healed_and_the_log_says_why() {
    let platform = platform().await;
    let id = platform.online().await;
    platform.engine.signal(platform.engine.kill(id)).await;
    platform
        .until(id, "the next generation runs", |state| {
            state.generation == Generation(2) && state.url.is_some()
        })
        .await;
    platform.beat(id).await;
    let tags = platform.tags(id).await;
    let death = tags.iter().position(|tag| *tag == "workspace.evidence_observed.v1").unwrap();
    assert_eq!(
        tags[death..],
        [
            "workspace.evidence_observed.v1",
            "workspace.verdict_reached.v1",
            "workspace.went_offline.v1",
            "workspace.restart_requested.v1",
            "workspace.confirm_requested.v1",
            "workspace.evidence_observed.v1",
            "workspace.restart_started.v1",
            "workspace.provision_requested.v1",
            "workspace.tokens_revoked.v1",
            "workspace.token_issued.v1",
            "workspace.instance_started.v1",
            "workspace.heartbeat_received.v1",
            "workspace.came_online.v1",
        ]
    );
}

/// R10.
#[actix::test]
async fn an_engine_that_does_not_answer_restarts_nothing() {
    let platform = platform().await;
    let id = platform.online().await;
    *platform.engine.silent.lock().unwrap() = true;
    let error = BackendError { code: "timeout", detail: "silent".to_owned() };
    platform.engine.signal(Signal::Lost(error)).await;
    assert_eq!(platform.runtime.examine(id, by_admin()).await.unwrap(), Examined::Unknown);
    assert_eq!(platform.engine.provisioned.load(Ordering::SeqCst), 1);
    platform.until(id, "it stays online", |state| state.status == Status::Online).await;
}

#[actix::test]
async fn a_look_that_finds_nothing_there_asks_for_a_restart_and_says_so() {
    let platform = platform().await;
    let id = platform.online().await;
    drop(platform.engine.kill(id));
    let examined = platform.runtime.examine(id, by_admin()).await.unwrap();
    assert!(matches!(examined, Examined::Dead { restart: Some(_) }), "{examined:?}");
    platform.until(id, "it is restarted", |state| state.generation == Generation(2)).await;
}

/// The log as a crash left it: everything before the first fact with this tag, or everything.
async fn left_behind(log: &MemoryLog, before: Option<&str>) -> Arc<MemoryLog> {
    let cut = Arc::new(MemoryLog::new());
    for recorded in log.read_all(Position(1), usize::MAX).await.unwrap() {
        if Some(recorded.fact.tag()) == before {
            break;
        }
        let event = NewEvent { meta: recorded.meta.clone(), fact: recorded.fact.clone() };
        let append = Append { stream: recorded.stream, expected: Expected::Any, events: vec![event] };
        cut.append(vec![append], Ack::Durable).await.unwrap();
    }
    cut
}

#[actix::test]
async fn a_second_platform_over_the_same_facts_adopts_what_runs_and_starts_nothing() {
    let first = platform().await;
    let id = first.online().await;
    let log = left_behind(&first.log, None).await;
    let second = platform_over(log, Arc::clone(&first.engine), Settings::default()).await;
    for _ in 0..2000 {
        if second.tags(id).await.contains(&"workspace.instance_adopted.v1") {
            assert_eq!(second.engine.provisioned.load(Ordering::SeqCst), 1);
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not adopted: {:?}", second.tags(id).await);
}

#[actix::test]
async fn a_start_that_a_crash_interrupted_is_found_running_and_not_started_twice() {
    let first = platform().await;
    let id = first.online().await;
    let log = left_behind(&first.log, Some("workspace.instance_started.v1")).await;
    let second = platform_over(log, Arc::clone(&first.engine), Settings::default()).await;
    second.until(id, "the start is finished", |state| state.url.is_some()).await;
    assert_eq!(second.engine.provisioned.load(Ordering::SeqCst), 1);
}

#[actix::test]
async fn a_start_that_a_crash_interrupted_is_not_asked_for_again_while_nobody_can_say_what_became_of_it() {
    let first = platform().await;
    let id = first.online().await;
    let log = left_behind(&first.log, Some("workspace.instance_started.v1")).await;
    *first.engine.silent.lock().unwrap() = true;
    let second = platform_over(log, Arc::clone(&first.engine), Settings::default()).await;
    second.until_tagged(id, "workspace.outcome_unknown.v1").await;
    *second.engine.silent.lock().unwrap() = false;
    second.until(id, "a list shows that it runs", State::is_reachable).await;
    assert_eq!(second.engine.provisioned.load(Ordering::SeqCst), 1);
}

#[actix::test]
async fn a_panicking_handler_fails_its_caller_alone_and_its_actor_is_rebuilt() {
    let platform = platform().await;
    let mut siblings = Vec::new();
    for _ in 0..99 {
        siblings.push(platform.online().await);
    }
    let victim = platform.online().await;
    let permits: Vec<_> = siblings.iter().map(|id| platform.permit(*id, Principal::Admin)).collect();
    let error = platform.runtime.command(victim, Command::Panic, by_admin()).await.unwrap_err();
    assert!(matches!(error, CommandError::Panicked { command: "panic" }), "{error}");
    platform.beat(victim).await;
    assert!(platform.tags(victim).await.contains(&"workspace.handler_panicked.v1"));
    for (id, permit) in siblings.iter().zip(permits) {
        permit.unwrap().finish(CallReport {
            outcome: CallOutcome::Answered,
            status: Some(200),
            request_bytes: 1,
            response_bytes: 1,
            error: None,
            failure: None,
        });
        platform.beat(*id).await;
    }
    for id in siblings {
        platform.until_tagged(id, "workspace.call_finished.v1").await;
    }
}

#[actix::test]
async fn a_full_mailbox_is_busy_and_loses_nothing_that_it_took() {
    let settings = Settings { mailbox_capacity: 4, ..Settings::default() };
    let platform = platform_over(Arc::default(), Arc::default(), settings).await;
    let id = platform.online().await;
    let beats = (0..500).map(|n| {
        let beat = HeartbeatReceived { active_tasks: n, ..HeartbeatReceived::default() };
        platform.runtime.command(id, Command::Heartbeat(Box::new(beat)), by_admin())
    });
    let answers = join_all(beats).await;
    let taken = answers.iter().filter(|answer| answer.is_ok()).count();
    let busy = answers.iter().filter(|answer| matches!(answer, Err(CommandError::Busy { .. }))).count();
    assert_eq!(taken + busy, 500);
    assert!(busy > 0, "a bounded mailbox refuses");
    let tags = platform.tags(id).await;
    let recorded = tags.iter().filter(|tag| **tag == "workspace.heartbeat_received.v1").count();
    assert_eq!(recorded, taken + 1, "the one that brought it online included");
}

#[actix::test]
async fn a_crash_loop_ends_in_quarantine() {
    let policy = Policy {
        backoff_base: Duration::from_millis(5),
        backoff_cap: Duration::from_millis(5),
        bucket_capacity: 100.0,
        ..Policy::default()
    };
    let settings = Settings { policy, ..Settings::default() };
    let platform = platform_over(Arc::default(), Arc::default(), settings).await;
    let id = platform.online().await;
    for generation in 1..=6 {
        platform
            .until(id, "the next generation runs", |state| {
                state.generation == Generation(generation) && state.url.is_some()
            })
            .await;
        platform.engine.signal(platform.engine.kill(id)).await;
    }
    platform.until(id, "the supervisor gave up", |state| state.status == Status::Failed).await;
    assert_eq!(platform.engine.provisioned.load(Ordering::SeqCst), 6);
    assert_eq!(platform.tags(id).await.last(), Some(&"workspace.quarantined.v1"));
}
