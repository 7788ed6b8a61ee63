//! What the receiver hears, and how often.

use std::sync::Mutex;

use actix_web::{App, HttpResponse, HttpServer, web};
use covalence_events::fleet::{AlarmRaised, AlarmResolved, StrangerFound};
use covalence_events::log::memory::MemoryLog;
use covalence_events::log::{Ack, Append, EventLog, Expected};
use covalence_events::{BootId, CorrelationId, EventId, Meta, NewEvent, Principal, StreamId};
use covalence_projections::subscriptions::Standing;
use url::Url;

use super::*;

/// Statuses to answer with, the last one for ever; and what was heard.
#[derive(Debug)]
struct Receiver {
    answers: Mutex<Vec<u16>>,
    heard: mpsc::Sender<Value>,
}

fn receiver(answers: &[u16]) -> (Url, mpsc::Receiver<Value>) {
    let (heard, hearing) = mpsc::channel(100);
    let state = web::Data::new(Receiver { answers: Mutex::new(answers.to_vec()), heard });
    let server = HttpServer::new(move || {
        App::new().app_data(state.clone()).default_service(web::to(
            |state: web::Data<Receiver>, body: web::Json<Value>| async move {
                let mut answers = state.answers.lock().unwrap();
                let status = if answers.len() > 1 { answers.remove(0) } else { answers[0] };
                state.heard.try_send(body.into_inner()).unwrap();
                HttpResponse::build(status.try_into().unwrap()).finish()
            },
        ))
    })
    .workers(1)
    .disable_signals()
    .bind("127.0.0.1:0")
    .unwrap();
    let url = format!("http://{}/alarms?secret=1", server.addrs()[0]).parse().unwrap();
    drop(actix_web::rt::spawn(server.run()));
    (url, hearing)
}

async fn record(log: &MemoryLog, at: Timestamp, event: impl Into<Event>) -> Position {
    let meta = Meta {
        id: EventId::generate(),
        at,
        boot: BootId::generate(),
        mono_ns: 0,
        correlation: CorrelationId::generate(),
        causation: None,
        principal: Principal::System,
        policy: None,
    };
    let event = NewEvent { meta, fact: Fact::Fleet(event.into()) };
    let append = Append { stream: StreamId::Fleet, expected: Expected::Any, events: vec![event] };
    log.append(vec![append], Ack::Durable).await.unwrap();
    log.head()
}

fn raised(kind: &str) -> AlarmRaised {
    AlarmRaised { kind: kind.to_owned(), workspace: None, message: format!("{kind} is wrong") }
}

fn resolved(kind: &str) -> AlarmResolved {
    AlarmResolved { kind: kind.to_owned(), workspace: None }
}

/// A platform's part that tells alarms, over a log and a data directory.
struct Teller {
    subscriptions: Arc<Subscriptions>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn start(url: Url, dir: &Path, log: &Arc<MemoryLog>) -> Teller {
    let log = Arc::clone(log) as Arc<dyn EventLog>;
    let subscriptions = Arc::new(Subscriptions::open(dir.join("subscriptions"), log).unwrap());
    let webhook = Webhook::new(url).unwrap().retrying_after(Duration::from_millis(1));
    let alarms = Alarms::new(webhook, dir, Arc::clone(&subscriptions), Arc::new(Views::new()));
    let task = tokio::spawn(alarms.run(chrono::Utc::now));
    Teller { subscriptions, task }
}

fn name() -> Name {
    SUBSCRIPTION.to_owned().try_into().unwrap()
}

impl Teller {
    /// Waits until this holds.
    async fn until(&self, what: &str, holds: impl Fn(&Standing) -> bool) {
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        let reached = async {
            while !self.subscriptions.show(&name()).await.is_ok_and(|standing| holds(&standing)) {
                tick.tick().await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(10), reached).await;
        assert!(in_time.is_ok(), "not {what}: {:?}", self.subscriptions.show(&name()).await);
    }

    async fn told(&self, position: Position) {
        self.until("told", |standing| standing.checkpoint >= position && standing.open == 0).await;
    }
}

async fn next(hearing: &mut mpsc::Receiver<Value>) -> (String, bool) {
    let heard = tokio::time::timeout(Duration::from_secs(10), hearing.recv()).await;
    let heard = heard.expect("the receiver hears of it").expect("the receiver lives");
    (heard["kind"].as_str().unwrap().to_owned(), heard["resolved"].as_bool().unwrap())
}

/// As a version before subscriptions left it.
fn write_position(dir: &Path, position: Position) {
    std::fs::write(dir.join("alarms-position"), format!("{position}\n")).unwrap();
}

#[actix_web::test]
async fn an_alarm_and_its_end_are_told_once_each_and_again_when_it_comes_back() {
    let (url, mut hearing) = receiver(&[200]);
    let (dir, log) = (tempfile::tempdir().unwrap(), Arc::new(MemoryLog::new()));
    let now = chrono::Utc::now();
    record(&log, now, raised("before")).await;
    let teller = start(url, dir.path(), &log);
    teller.told(Position(1)).await;
    record(&log, now, raised("a")).await;
    record(&log, now, raised("a")).await;
    let stranger = StrangerFound {
        engine: "docker".to_owned(),
        name: "n".to_owned(),
        instance: "i".to_owned(),
        workspace: None,
    };
    record(&log, now, stranger).await;
    record(&log, now, resolved("a")).await;
    record(&log, now, raised("a")).await;
    for expected in [("a", false), ("a", true), ("a", false)] {
        assert_eq!(next(&mut hearing).await, (expected.0.to_owned(), expected.1));
    }
}

#[actix_web::test]
async fn a_receiver_that_is_unwell_is_asked_again_until_it_accepts() {
    let (url, mut hearing) = receiver(&[503, 429, 204]);
    let (dir, log) = (tempfile::tempdir().unwrap(), Arc::new(MemoryLog::new()));
    write_position(dir.path(), Position(0));
    let position = record(&log, chrono::Utc::now(), raised("a")).await;
    let teller = start(url, dir.path(), &log);
    for _ in 0..3 {
        assert_eq!(next(&mut hearing).await.0, "a");
    }
    teller.told(position).await;
}

#[actix_web::test]
async fn a_notice_that_is_refused_for_good_holds_up_nothing_and_is_told_when_it_is_replayed() {
    let (url, mut hearing) = receiver(&[400, 200]);
    let (dir, log) = (tempfile::tempdir().unwrap(), Arc::new(MemoryLog::new()));
    write_position(dir.path(), Position(0));
    record(&log, chrono::Utc::now(), raised("a")).await;
    let last = record(&log, chrono::Utc::now(), raised("b")).await;
    let teller = start(url, dir.path(), &log);
    assert_eq!((next(&mut hearing).await.0, next(&mut hearing).await.0), ("a".to_owned(), "b".to_owned()));
    teller.told(last).await;
    let parked = teller.subscriptions.parked(&name()).await.unwrap();
    assert_eq!(parked.len(), 1);
    assert_eq!(
        (parked[0].0, parked[0].1.reason.as_str()),
        (Position(1), "the receiver refused it: HTTP 400")
    );
    assert_eq!(teller.subscriptions.replay(&name(), None).await.unwrap().0, 1);
    assert_eq!(next(&mut hearing).await.0, "a", "though it was said to be on before");
    teller.until("empty", |standing| standing.parked + standing.open == 0).await;
}

#[actix_web::test]
async fn the_position_of_an_earlier_version_is_gone_on_from_once_and_what_is_old_is_parked() {
    let (url, mut hearing) = receiver(&[200]);
    let (dir, log) = (tempfile::tempdir().unwrap(), Arc::new(MemoryLog::new()));
    let now = chrono::Utc::now();
    let told = record(&log, now, raised("told")).await;
    write_position(dir.path(), told);
    let old = now - STALE_AFTER - chrono::TimeDelta::seconds(1);
    let stale = record(&log, old, raised("old")).await;
    let last = record(&log, now, raised("missed")).await;
    let teller = start(url.clone(), dir.path(), &log);
    assert_eq!(next(&mut hearing).await, ("missed".to_owned(), false));
    teller.told(last).await;
    let parked = teller.subscriptions.parked(&name()).await.unwrap();
    assert_eq!((parked[0].0, parked[0].1.reason.as_str()), (stale, "not accepted within 24 h"));
    assert!(!dir.path().join("alarms-position").exists());
    drop(teller);
    let teller = start(url, dir.path(), &log);
    record(&log, now, raised("later")).await;
    assert_eq!(next(&mut hearing).await.0, "later", "nothing is told twice after a start");
    drop(teller);
}

#[actix_web::test]
async fn after_a_restore_of_the_log_to_an_earlier_point_what_comes_is_told() {
    let (url, mut hearing) = receiver(&[200]);
    let (dir, log) = (tempfile::tempdir().unwrap(), Arc::new(MemoryLog::new()));
    write_position(dir.path(), Position(0));
    for kind in ["a", "b"] {
        record(&log, chrono::Utc::now(), raised(kind)).await;
    }
    let teller = start(url.clone(), dir.path(), &log);
    teller.told(Position(2)).await;
    drop(teller);
    while hearing.try_recv().is_ok() {}
    let restored = Arc::new(MemoryLog::new());
    record(&restored, chrono::Utc::now(), raised("a")).await;
    let teller = start(url, dir.path(), &restored);
    teller.told(Position(1)).await;
    record(&restored, chrono::Utc::now(), raised("c")).await;
    assert_eq!(next(&mut hearing).await.0, "c");
}
