//! The contract of named subscriptions, over the log in memory and real files.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use covalence_events::log::memory::MemoryLog;
use covalence_events::log::{Ack, Append, Appending, Expected, ReadOnly, Verified};
use covalence_events::workspace::{BackendKind, Renamed};
use covalence_events::{
    BootId, CorrelationId, EventId, Fact, Meta, NewEvent, Principal, StreamId, Version, fleet, workspace,
};
use tempfile::TempDir;

use super::place::Nack;
use super::*;

struct World {
    dir: TempDir,
    log: Arc<MemoryLog>,
    subscriptions: Subscriptions,
}

impl World {
    fn new() -> Self {
        let (dir, log) = (TempDir::new().unwrap(), Arc::new(MemoryLog::new()));
        let subscriptions = open(&dir, &log);
        Self { dir, log, subscriptions }
    }

    /// As after the process was killed.
    fn again(self) -> Self {
        let Self { dir, log, .. } = self;
        let subscriptions = open(&dir, &log);
        Self { dir, log, subscriptions }
    }

    async fn record(&self, stream: StreamId, fact: Fact) -> Position {
        let meta = Meta {
            id: EventId::generate(),
            at: chrono::Utc::now(),
            boot: BootId::generate(),
            mono_ns: 0,
            correlation: CorrelationId::generate(),
            causation: None,
            principal: Principal::System,
            policy: None,
        };
        let append = Append { stream, expected: Expected::Any, events: vec![NewEvent { meta, fact }] };
        let receipt = self.log.append(vec![append], Ack::Durable).await.unwrap();
        receipt.last().unwrap()
    }

    async fn renamed(&self, number: u128, name: &str) -> Position {
        let event = workspace::Event::from(Renamed { name: name.to_owned() });
        self.record(StreamId::Workspace(id(number)), Fact::Workspace(event)).await
    }

    async fn lost(&self) -> Position {
        let (cell, reason) = (BackendKind::Process, "platform_ended".to_owned());
        let event = fleet::Event::from(fleet::FlightLost { cell, reason });
        self.record(StreamId::Fleet, Fact::Fleet(event)).await
    }

    async fn create(&self, named: &str, wanted: Wanted, start: Start) -> Standing {
        self.subscriptions.create(definition(named, wanted, start)).await.unwrap().0
    }

    async fn fetch(&self, named: &str, lease: Option<Uuid>) -> Result<Batch, Refused> {
        let ask = Ask { lease, ..ask("a") };
        self.subscriptions.fetch(&name(named), &ask).await
    }
}

fn open(dir: &TempDir, log: &Arc<MemoryLog>) -> Subscriptions {
    let log = Arc::clone(log) as Arc<dyn EventLog>;
    Subscriptions::open(dir.path().join("subscriptions"), log).unwrap()
}

fn id(number: u128) -> WorkspaceId {
    WorkspaceId(Uuid::from_u128(number))
}

fn name(text: &str) -> Name {
    text.to_owned().try_into().unwrap()
}

fn ask(consumer: &str) -> Ask {
    Ask { consumer: consumer.to_owned(), lease: None, limit: 100, wait: Duration::ZERO, standby: false }
}

fn definition(named: &str, wanted: Wanted, start: Start) -> Definition {
    Definition {
        name: name(named),
        wanted,
        start,
        nacks_max: 3,
        ack_within_ms: 30_000,
        created: chrono::Utc::now(),
        by: "admin".to_owned(),
    }
}

fn positions(batch: &Batch) -> Vec<u64> {
    batch.facts.iter().map(|delivered| delivered.fact.position.0).collect()
}

#[tokio::test]
async fn each_filter_and_each_start_delivers_what_it_says() {
    let world = World::new();
    for n in 1..=3 {
        world.renamed(n, "x").await;
    }
    world.lost().await;
    let everything = Wanted::default();
    let of_one = Wanted { workspace: Some(id(2)), ..Wanted::default() };
    let fleet = Wanted { category: Some(Category::Fleet), ..Wanted::default() };
    let kinds = Wanted {
        kinds: vec!["fleet.engine_".to_owned(), "fleet.flight_lost.v1".to_owned()],
        ..Wanted::default()
    };
    let workspaces = Wanted { category: Some(Category::Workspace), ..Wanted::default() };
    for (named, wanted, start) in [
        ("all", everything.clone(), Start::Beginning),
        ("late", everything.clone(), Start::After(Position(2))),
        ("new", everything, Start::End),
        ("one", of_one, Start::Beginning),
        ("fleet", fleet, Start::Beginning),
        ("kinds", kinds, Start::Beginning),
        ("workspaces", workspaces, Start::Beginning),
    ] {
        world.create(named, wanted, start).await;
    }
    world.lost().await;
    for (named, expected) in [
        ("all", vec![1, 2, 3, 4, 5]),
        ("late", vec![3, 4, 5]),
        ("new", vec![5]),
        ("one", vec![2]),
        ("fleet", vec![4, 5]),
        ("kinds", vec![4, 5]),
        ("workspaces", vec![1, 2, 3]),
    ] {
        assert_eq!(positions(&world.fetch(named, None).await.unwrap()), expected, "{named}");
    }
}

#[tokio::test]
async fn what_was_acknowledged_never_comes_again_and_what_was_not_does_after_a_kill() {
    let mut world = World::new();
    world.create("audit", Wanted::default(), Start::Beginning).await;
    for n in 1..=6 {
        world.renamed(n, "x").await;
    }
    let first = world.fetch("audit", None).await.unwrap();
    assert_eq!(positions(&first), [1, 2, 3, 4, 5, 6]);
    let acked = [Position(1), Position(2), Position(5)];
    let (count, standing) = world.subscriptions.ack(&name("audit"), first.lease, &acked, None).await.unwrap();
    assert_eq!((count, standing.checkpoint, standing.lag, standing.open), (3, Position(2), 4, 3));
    let repeated = world.subscriptions.ack(&name("audit"), first.lease, &acked, None).await.unwrap();
    assert_eq!(repeated.0, 0, "an acknowledgement may be repeated");

    world = world.again();
    assert!(matches!(
        world.subscriptions.ack(&name("audit"), first.lease, &acked, None).await,
        Err(Refused::LeaseLost)
    ));
    world.renamed(7, "x").await;
    let second = world.fetch("audit", None).await.unwrap();
    assert_eq!(positions(&second), [3, 4, 6, 7]);
    assert_eq!(second.facts.iter().map(|fact| fact.attempt).collect::<Vec<_>>(), [2, 2, 2, 1]);
    let through =
        world.subscriptions.ack(&name("audit"), second.lease, &[], Some(Position(6))).await.unwrap();
    assert_eq!((through.0, through.1.checkpoint), (3, Position(6)));

    world = world.again();
    assert_eq!(positions(&world.fetch("audit", None).await.unwrap()), [7]);
    assert_eq!(world.subscriptions.list().await[0].definition.name, name("audit"));
}

#[tokio::test]
async fn a_name_has_one_consumer_and_others_are_told_who_it_is_or_wait_for_their_turn() {
    let world = Arc::new(World::new());
    world.create("audit", Wanted::default(), Start::Beginning).await;
    world.renamed(1, "x").await;
    let held = world.fetch("audit", None).await.unwrap();
    let other = world.subscriptions.fetch(&name("audit"), &ask("b")).await.unwrap_err();
    assert!(
        matches!(&other, Refused::Taken { consumer, remaining } if consumer == "a" && *remaining > Duration::ZERO),
        "{other}"
    );
    let waiting = {
        let world = Arc::clone(&world);
        let ask = Ask { wait: WAIT_MAX, standby: true, ..ask("b") };
        tokio::spawn(async move { world.subscriptions.fetch(&name("audit"), &ask).await })
    };
    world.subscriptions.release(&name("audit"), held.lease).await.unwrap();
    let taken = waiting.await.unwrap().unwrap();
    assert_eq!((positions(&taken), taken.facts[0].attempt), (vec![1], 2));
    for refused in [
        world.fetch("audit", Some(held.lease)).await.map(drop),
        world.subscriptions.ack(&name("audit"), held.lease, &[Position(1)], None).await.map(drop),
        world.subscriptions.release(&name("audit"), held.lease).await,
    ] {
        assert!(matches!(refused, Err(Refused::LeaseLost)), "{refused:?}");
    }
    let restarted = world.subscriptions.fetch(&name("audit"), &ask("b")).await.unwrap();
    assert_eq!(positions(&restarted), [1], "who comes back begins with what it had");
}

#[tokio::test(start_paused = true)]
async fn a_delivery_is_waited_for_and_ends_in_time() {
    let world = Arc::new(World::new());
    world.create("audit", Wanted::default(), Start::Beginning).await;
    let waiting = Ask { wait: Duration::from_secs(20), ..ask("a") };
    let empty = world.subscriptions.fetch(&name("audit"), &waiting).await.unwrap();
    assert_eq!(empty.facts.len(), 0);
    let task = {
        let (world, ask) = (Arc::clone(&world), Ask { lease: Some(empty.lease), ..waiting });
        tokio::spawn(async move { world.subscriptions.fetch(&name("audit"), &ask).await })
    };
    tokio::task::yield_now().await;
    let position = world.lost().await;
    assert_eq!(positions(&task.await.unwrap().unwrap()), [position.0]);
}

#[tokio::test]
async fn what_is_refused_again_and_again_is_parked_and_can_be_replayed_or_given_up() {
    let world = World::new();
    world.create("audit", Wanted::default(), Start::Beginning).await;
    for n in 1..=3 {
        world.renamed(n, "x").await;
    }
    let audit = name("audit");
    let batch = world.fetch("audit", None).await.unwrap();
    let nack = Nack { reason: "no room".to_owned(), retry_after: Some(Duration::ZERO), park: false };
    let lease = batch.lease;
    world.subscriptions.ack(&audit, lease, &[Position(3)], None).await.unwrap();
    for attempt in 1..=3 {
        let both = [Position(1), Position(2)];
        let (parked, standing) = world.subscriptions.nack(&audit, lease, &both, &nack).await.unwrap();
        let expected = if attempt == 3 { (2, 2, Position(3)) } else { (0, 0, Position(0)) };
        assert_eq!((parked, standing.parked, standing.checkpoint), expected);
        let again = world.fetch("audit", Some(lease)).await.unwrap();
        assert_eq!(positions(&again), if attempt == 3 { vec![] } else { vec![1, 2] });
    }
    let world = world.again();
    let parked = world.subscriptions.parked(&audit).await.unwrap();
    assert_eq!(parked.iter().map(|(position, ..)| position.0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((parked[0].1.nacks, parked[0].1.reason.as_str()), (3, "no room"));
    assert_eq!(parked[0].2.as_ref().unwrap().fact.tag(), "workspace.renamed.v1");
    assert_eq!(world.subscriptions.give_up(&audit, Some(&[Position(1)])).await.unwrap().0, 1);
    assert_eq!(world.subscriptions.replay(&audit, None).await.unwrap().0, 1);
    let replayed = world.fetch("audit", None).await.unwrap();
    assert_eq!((positions(&replayed), replayed.facts[0].replayed), (vec![2], true));
    assert_eq!(world.subscriptions.show(&audit).await.unwrap().checkpoint, Position(3));
}

#[tokio::test]
async fn a_log_that_is_another_one_is_not_gone_on_with() {
    let world = World::new();
    world.create("audit", Wanted::default(), Start::Beginning).await;
    for n in 1..=4 {
        world.renamed(n, "x").await;
    }
    let batch = world.fetch("audit", None).await.unwrap();
    world.subscriptions.ack(&name("audit"), batch.lease, &[Position(1)], None).await.unwrap();
    let shorter = World { log: Arc::new(MemoryLog::new()), ..world }.again();
    shorter.renamed(1, "x").await;
    let lost = shorter.fetch("audit", None).await.unwrap_err();
    assert!(lost.to_string().contains("the log ends at 1, and it had come to 4"), "{lost}");
    for n in 2..=5 {
        shorter.renamed(n, "y").await;
    }
    let other = shorter.again();
    let lost = other.fetch("audit", None).await.unwrap_err();
    assert!(lost.to_string().contains("another fact at 4"), "{lost}");
    assert!(other.subscriptions.list().await[0].lost.is_some());
    other.subscriptions.remove(&name("audit")).await.unwrap();
    assert!(matches!(other.fetch("audit", None).await, Err(Refused::NoSuch)));
    let other = other.again();
    assert_eq!(other.subscriptions.list().await, [], "it is gone for good");
}

#[tokio::test]
async fn to_create_one_again_is_no_error_unless_it_is_meant_otherwise() {
    let world = World::new();
    let audit = definition("audit", Wanted::default(), Start::Beginning);
    assert!(world.subscriptions.create(audit.clone()).await.unwrap().1);
    let again = Definition { created: chrono::Utc::now(), ..audit.clone() };
    assert!(!world.subscriptions.create(again).await.unwrap().1);
    let other = Definition { nacks_max: 7, ..audit };
    assert!(matches!(world.subscriptions.create(other).await, Err(Refused::Exists)));
    for n in 1..SUBSCRIPTIONS_MAX {
        world.create(&format!("s{n}"), Wanted::default(), Start::End).await;
    }
    let one_more = definition("one-more", Wanted::default(), Start::End);
    assert!(matches!(world.subscriptions.create(one_more).await, Err(Refused::TooMany)));
    for bad in ["", "Audit", "a/b", "../x", "-a", "ä", &"x".repeat(65)] {
        assert!(Name::try_from(bad.to_owned()).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn the_platforms_own_are_consumed_and_removed_by_nobody_else() {
    let world = World::new();
    let ours = Definition::ours(name("alarms"), Wanted::default(), Start::Beginning, chrono::Utc::now());
    world.subscriptions.create(ours).await.unwrap();
    world.renamed(1, "x").await;
    assert!(matches!(world.fetch("alarms", None).await, Err(Refused::Ours)));
    assert!(matches!(world.subscriptions.remove(&name("alarms")).await, Err(Refused::Ours)));
    assert_eq!(positions(&world.subscriptions.fetch_own(&name("alarms"), &ask("us")).await.unwrap()), [1]);
}

#[tokio::test]
async fn a_file_that_can_not_be_read_is_no_beginning() {
    let world = World::new();
    world.create("audit", Wanted::default(), Start::Beginning).await;
    let path = world.dir.path().join("subscriptions/audit.json");
    for broken in ["{", r#"{"format":2}"#, ""] {
        std::fs::write(&path, broken).unwrap();
        let log = Arc::clone(&world.log) as Arc<dyn EventLog>;
        let error = Subscriptions::open(world.dir.path().join("subscriptions"), log).unwrap_err();
        assert!(error.to_string().contains("audit.json"), "{error}");
    }
}

/// A log from which retention has taken facts.
#[derive(Debug)]
struct Thinned {
    log: Arc<MemoryLog>,
    gone: AtomicBool,
}

#[async_trait]
impl EventLog for Thinned {
    fn append(&self, appends: Vec<Append>, ack: Ack) -> Appending {
        self.log.append(appends, ack)
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
        let all = self.log.read_all(from, usize::MAX).await?;
        let gone = self.gone.load(Ordering::SeqCst);
        Ok(all.into_iter().filter(|fact| !gone || fact.position.0 > 2).take(limit).collect())
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
        None
    }

    async fn verify(&self) -> Result<Verified, ReadError> {
        self.log.verify().await
    }

    async fn close(&self) {
        self.log.close().await;
    }
}

#[tokio::test]
async fn what_retention_took_is_no_gap_that_anybody_waits_for() {
    let world = World::new();
    let thinned = Arc::new(Thinned { log: Arc::clone(&world.log), gone: AtomicBool::new(false) });
    let open = || {
        let log = Arc::clone(&thinned) as Arc<dyn EventLog>;
        Subscriptions::open(world.dir.path().join("subscriptions"), log).unwrap()
    };
    let subscriptions = open();
    let audit = definition("audit", Wanted::default(), Start::Beginning);
    subscriptions.create(audit).await.unwrap();
    for n in 1..=2 {
        world.renamed(n, "x").await;
    }
    let batch = subscriptions.fetch(&name("audit"), &ask("a")).await.unwrap();
    subscriptions.ack(&name("audit"), batch.lease, &[Position(2)], None).await.unwrap();
    thinned.gone.store(true, Ordering::SeqCst);
    world.renamed(3, "x").await;
    let subscriptions = open();
    let batch = subscriptions.fetch(&name("audit"), &ask("a")).await.unwrap();
    assert_eq!(positions(&batch), [3]);
    let (_, standing) = subscriptions.ack(&name("audit"), batch.lease, &[Position(3)], None).await.unwrap();
    assert_eq!((standing.checkpoint, standing.open), (Position(3), 0));
}
