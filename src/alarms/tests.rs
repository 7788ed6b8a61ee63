//! What the receiver hears, and how often.

use std::sync::Mutex;

use actix_web::{App, HttpResponse, HttpServer, web};
use covalence_events::fleet::{AlarmRaised, AlarmResolved, StrangerFound};
use covalence_events::log::memory::MemoryLog;
use covalence_events::log::{Ack, Append, Expected};
use covalence_events::{BootId, CorrelationId, EventId, Meta, NewEvent, Principal, StreamId};

use super::*;

/// Statuses to answer with, the last one for ever; and what was heard.
#[derive(Debug)]
struct Receiver {
    answers: Mutex<Vec<u16>>,
    heard: tokio::sync::mpsc::Sender<Value>,
}

fn receiver(answers: &[u16]) -> (Url, tokio::sync::mpsc::Receiver<Value>) {
    let (heard, hearing) = tokio::sync::mpsc::channel(100);
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

fn start(url: Url, dir: &Path, log: &Arc<MemoryLog>) -> tokio::task::JoinHandle<()> {
    let log = Arc::clone(log) as Arc<dyn EventLog>;
    let alarms = Alarms::new(url, dir, log, Arc::new(Views::new())).unwrap();
    tokio::spawn(alarms.retrying_after(Duration::from_millis(1)).run(chrono::Utc::now))
}

async fn next(hearing: &mut tokio::sync::mpsc::Receiver<Value>) -> (String, bool) {
    let heard = tokio::time::timeout(Duration::from_secs(10), hearing.recv()).await;
    let heard = heard.expect("the receiver hears of it").expect("the receiver lives");
    (heard["kind"].as_str().unwrap().to_owned(), heard["resolved"].as_bool().unwrap())
}

/// Waits until this much is known to be told.
async fn kept(dir: &Path, position: Position) {
    let file = dir.join("alarms-position");
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    let written = async {
        while read_position(&file).unwrap() != Some(position) {
            tick.tick().await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(10), written).await;
    assert!(in_time.is_ok(), "never kept {position}: {:?}", read_position(&file));
}

#[actix_web::test]
async fn an_alarm_and_its_end_are_told_once_each_and_again_when_it_comes_back() {
    let (url, mut hearing) = receiver(&[200]);
    let (dir, log) = (tempfile::tempdir().unwrap(), Arc::new(MemoryLog::new()));
    let now = chrono::Utc::now();
    record(&log, now, raised("before")).await;
    let _task = start(url, dir.path(), &log);
    kept(dir.path(), Position(1)).await;
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
    write_position(&dir.path().join("alarms-position"), Position(0)).unwrap();
    let position = record(&log, chrono::Utc::now(), raised("a")).await;
    let _task = start(url, dir.path(), &log);
    for _ in 0..3 {
        assert_eq!(next(&mut hearing).await.0, "a");
    }
    kept(dir.path(), position).await;
}

#[actix_web::test]
async fn a_notice_that_is_refused_for_good_does_not_hold_up_the_next() {
    let (url, mut hearing) = receiver(&[400, 200]);
    let (dir, log) = (tempfile::tempdir().unwrap(), Arc::new(MemoryLog::new()));
    write_position(&dir.path().join("alarms-position"), Position(0)).unwrap();
    record(&log, chrono::Utc::now(), raised("a")).await;
    record(&log, chrono::Utc::now(), raised("b")).await;
    let _task = start(url, dir.path(), &log);
    assert_eq!((next(&mut hearing).await.0, next(&mut hearing).await.0), ("a".to_owned(), "b".to_owned()));
}

#[actix_web::test]
async fn after_a_restart_it_goes_on_where_it_was_and_leaves_out_what_is_old() {
    let (url, mut hearing) = receiver(&[200]);
    let (dir, log) = (tempfile::tempdir().unwrap(), Arc::new(MemoryLog::new()));
    let now = chrono::Utc::now();
    let told = record(&log, now, raised("told")).await;
    write_position(&dir.path().join("alarms-position"), told).unwrap();
    record(&log, now - STALE_AFTER - chrono::TimeDelta::seconds(1), raised("old")).await;
    record(&log, now, raised("missed")).await;
    let _task = start(url, dir.path(), &log);
    assert_eq!(next(&mut hearing).await, ("missed".to_owned(), false));
}
