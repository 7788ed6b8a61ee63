//! A log that takes no facts for a while: what happens meanwhile is not lost, and held against nobody.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use covalence_events::log::memory::MemoryLog;
use covalence_events::log::{Ack, Append, AppendError, Appending, EventLog, ReadError, ReadOnly, Verified};
use covalence_events::{EventId, Position, Recorded, StreamId, Version};

use super::*;
use crate::workspace::state::Instance;

const TOKEN: &str = "workspace.token_issued.v1";
const STOP_REQUESTED: &str = "workspace.stop_requested.v1";
const FINISHED: &str = "workspace.call_finished.v1";

/// A log that shuts itself when it has taken a fact of one kind, and opens when a test says so.
#[derive(Debug)]
struct Door {
    log: Arc<MemoryLog>,
    shut: Mutex<Option<ReadOnly>>,
    shuts_after: Mutex<Option<&'static str>>,
}

impl Door {
    fn after(tag: &'static str) -> Arc<Self> {
        Arc::new(Self { log: Arc::default(), shut: Mutex::default(), shuts_after: Mutex::new(Some(tag)) })
    }

    fn shut(&self) {
        let reason = "low space".into();
        *self.shut.lock().unwrap() = Some(ReadOnly { reason, since: chrono::Utc::now(), passes: true });
    }

    fn open(&self) {
        *self.shut.lock().unwrap() = None;
    }

    async fn platform(self: &Arc<Self>, settings: Settings) -> Platform {
        let (port, log) = (Arc::clone(self) as Arc<dyn EventLog>, Arc::clone(&self.log));
        platform_writing_to(port, log, Arc::default(), settings).await
    }
}

#[async_trait]
impl EventLog for Door {
    fn append(&self, appends: Vec<Append>, ack: Ack) -> Appending {
        if let Some(shut) = self.read_only() {
            return Box::pin(std::future::ready(Err(AppendError::ReadOnly(shut))));
        }
        let mut after = self.shuts_after.lock().unwrap();
        let last =
            appends.iter().flat_map(|append| &append.events).any(|event| Some(event.fact.tag()) == *after);
        let appending = self.log.append(appends, ack);
        if last {
            *after = None;
            self.shut();
        }
        appending
    }

    async fn read(
        &self,
        stream: StreamId,
        from: Version,
        limit: usize,
    ) -> Result<Vec<Arc<Recorded>>, ReadError> {
        self.log.read(stream, from, limit).await
    }

    async fn read_back(
        &self,
        stream: StreamId,
        through: Position,
        limit: usize,
    ) -> Result<Vec<Arc<Recorded>>, ReadError> {
        self.log.read_back(stream, through, limit).await
    }

    async fn read_all(&self, from: Position, limit: usize) -> Result<Vec<Arc<Recorded>>, ReadError> {
        self.log.read_all(from, limit).await
    }

    async fn find(&self, id: EventId) -> Result<Option<Position>, ReadError> {
        self.log.find(id).await
    }

    fn head(&self) -> Position {
        self.log.head()
    }

    fn watch(&self) -> tokio::sync::watch::Receiver<Position> {
        self.log.watch()
    }

    fn read_only(&self) -> Option<ReadOnly> {
        self.shut.lock().unwrap().clone()
    }

    async fn verify(&self) -> Result<Verified, ReadError> {
        self.log.verify().await
    }

    async fn close(&self) {
        self.log.close().await;
    }
}

#[actix::test]
async fn a_start_that_ends_while_the_log_is_shut_is_recorded_when_it_opens_and_not_done_again() {
    let door = Door::after(TOKEN);
    let platform = door.platform(Settings::default()).await;
    let id = WorkspaceId::generate();
    platform.runtime.command(id, create(BackendKind::Process), by_admin()).await.unwrap();
    eventually("it was started", || (platform.engine.provisioned.load(Ordering::SeqCst) == 1).then_some(()))
        .await;
    let refused = platform.runtime.command(id, Command::Pause, by_admin()).await;
    assert!(matches!(refused, Err(CommandError::LogUnavailable(_))), "{refused:?}");
    door.open();
    platform
        .until(id, "its start is known", |state| matches!(state.instance, Instance::Running { .. }))
        .await;
    platform.beat(id).await;
    assert_eq!(platform.engine.provisioned.load(Ordering::SeqCst), 1, "started once");
    assert_eq!(platform.tags(id).await.iter().filter(|tag| **tag == TOKEN).count(), 1);
}

#[actix::test]
async fn a_stop_that_ends_while_the_log_is_shut_is_recorded_when_it_opens() {
    let door = Door::after(STOP_REQUESTED);
    let platform = door.platform(Settings::default()).await;
    let id = platform.online().await;
    platform.runtime.command(id, Command::Pause, by_admin()).await.unwrap();
    eventually("it was stopped", || platform.engine.running.lock().unwrap().is_empty().then_some(())).await;
    assert!(matches!(platform.runtime.peek(id).await.unwrap().instance, Instance::Stopping { .. }));
    door.open();
    platform.until(id, "its stop is known", |state| matches!(state.instance, Instance::None)).await;
}

/// The exit is told once, and refused; the list tells it again.
#[actix::test]
async fn who_dies_while_the_log_is_shut_is_restarted_when_it_opens_and_nobody_else() {
    let policy = Policy { list_every: Duration::from_millis(50), ..Policy::default() };
    let door = Door::after("never");
    let platform = door.platform(Settings { policy, ..Settings::default() }).await;
    let (dead, well) = (platform.online().await, platform.online().await);
    door.shut();
    platform.engine.signal(platform.engine.kill(dead)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        platform.engine.provisioned.load(Ordering::SeqCst),
        2,
        "nothing is started that nobody records"
    );
    door.open();
    platform
        .until(dead, "the next generation runs", |state| {
            state.generation == Generation(2) && state.url.is_some()
        })
        .await;
    let state = platform.runtime.peek(well).await.unwrap();
    assert_eq!((state.generation, state.doubts.len()), (Generation(1), 0));
    assert_eq!(platform.engine.provisioned.load(Ordering::SeqCst), 3);
}

#[actix::test]
async fn a_start_that_gives_no_sign_of_life_fails_though_its_deadline_passed_while_the_log_was_shut() {
    let policy = Policy { provision_timeout: Duration::from_millis(500), ..Policy::default() };
    let door = Door::after("never");
    let platform = door.platform(Settings { policy, ..Settings::default() }).await;
    let id = WorkspaceId::generate();
    platform.runtime.command(id, create(BackendKind::Process), by_admin()).await.unwrap();
    platform.until(id, "it runs", |state| state.url.is_some()).await;
    door.shut();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(platform.runtime.peek(id).await.unwrap().status, Status::Provisioning);
    door.open();
    platform.until(id, "its start has failed", |state| state.status == Status::Failed).await;
}

#[actix::test]
async fn silence_while_the_log_is_shut_is_held_against_nobody() {
    let soon = Duration::from_millis(10);
    let policy = Policy {
        liveness_ttl: Duration::from_secs(3),
        heartbeat_interval: soon,
        list_every: soon,
        ..Policy::default()
    };
    let door = Door::after("never");
    let platform = door.platform(Settings { policy, ..Settings::default() }).await;
    let id = platform.online().await;
    door.shut();
    for _ in 0..20 {
        let beat = platform.runtime.command(id, Command::Heartbeat(Box::default()), by_admin()).await;
        assert!(matches!(beat, Err(CommandError::LogUnavailable(_))), "{beat:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    door.open();
    for _ in 0..10 {
        platform.beat(id).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let state = platform.runtime.peek(id).await.unwrap();
    assert_eq!((state.generation, state.restart.is_some(), state.doubts.len()), (Generation(1), false, 0));
}

#[actix::test]
async fn calls_go_on_while_the_log_is_shut_and_how_they_ended_is_recorded_afterwards() {
    let door = Door::after("never");
    let platform = door.platform(Settings::default()).await;
    let id = platform.online().await;
    door.shut();
    for _ in 0..10 {
        drop(platform.permit(id, Principal::Admin).unwrap());
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!platform.tags(id).await.contains(&FINISHED));
    door.open();
    for _ in 0..2000 {
        if platform.tags(id).await.iter().filter(|tag| **tag == FINISHED).count() == 10 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{:?}", platform.tags(id).await);
}
