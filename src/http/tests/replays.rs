//! What bounds replays over HTTP: how many there are at once, how much they make that nobody reads, how far one goes.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use covalence_events::WorkspaceId;
use serde_json::{Value, json};

use super::platform::{ADMIN, PATIENCE, Platform, Reply};
use crate::http::moments::replay::REPLAYS_MAX;
use crate::moments::replay::FACTS_MAX;

async fn ask(platform: &Platform, query: &str) -> Reply {
    platform.get(&format!("/replay?{query}")).bearer(ADMIN).send().await
}

/// A platform with at least so many facts, and its last position.
async fn with_facts(count: u64, apart: TimeDelta) -> (Platform, u64) {
    let platform = Platform::start().await;
    let id: WorkspaceId = platform.external("lead", None).await.0.parse().unwrap();
    let head = platform.settled_head().await.0;
    platform.beats(id, usize::try_from(count.saturating_sub(head)).unwrap(), apart).await;
    (platform, count.max(head))
}

/// A request whose answer nobody reads.
fn unread(platform: &Platform, query: &str) -> TcpStream {
    let host = platform.base.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let request = format!(
        "GET /replay?{query} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {ADMIN}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// The same, once the answer has begun: its replay holds its place.
fn begun(platform: &Platform, query: &str) -> TcpStream {
    let (mut stream, mut first) = (unread(platform, query), [0; 12]);
    stream.read_exact(&mut first).unwrap();
    assert_eq!(String::from_utf8_lossy(&first), "HTTP/1.1 200");
    stream
}

/// Status and body of an answer that is read at once.
fn answer(platform: &Platform, query: &str) -> (u16, Value) {
    let mut text = String::new();
    unread(platform, query).read_to_string(&mut text).unwrap();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = text.split("\r\n").last().and_then(|body| serde_json::from_str(body).ok());
    (status.unwrap_or_else(|| panic!("{text}")), body.unwrap_or_default())
}

/// Asks until the answer has this status.
fn until(platform: &Platform, query: &str, status: u16) -> Value {
    let begun = Instant::now();
    loop {
        let (found, body) = answer(platform, query);
        if found == status {
            return body;
        }
        assert!(begun.elapsed() < PATIENCE, "never {status}: {found} {body}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[actix_web::test]
async fn of_more_replays_than_eight_the_next_is_refused_until_one_is_over() {
    let (platform, head) = with_facts(30, TimeDelta::seconds(1)).await;
    let slow = format!("from=1&to={head}&speed=0.01");
    let mut playing: Vec<TcpStream> = (0..REPLAYS_MAX).map(|_| begun(&platform, &slow)).collect();
    let refused = until(&platform, "from=1&to=1", 503);
    assert_eq!(refused["code"], json!("too_many_replays"), "{refused}");
    // Whoever closes a connection makes room, though its replay was not over.
    drop(playing.pop());
    until(&platform, "from=1&to=1", 200);
}

#[actix_web::test]
async fn what_nobody_reads_is_not_made_and_nothing_of_it_is_lost() {
    let (platform, head) = with_facts(60_000, TimeDelta::zero()).await;
    let all = format!("from=1&to={head}");
    let mut waiting: Vec<TcpStream> = (0..REPLAYS_MAX).map(|_| begun(&platform, &all)).collect();
    until(&platform, "from=1&to=1", 503);
    // Made ahead of its readers, each of them would be over by now, and its place free.
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(3) {
        assert_eq!(answer(&platform, "from=1&to=1").0, 503);
        std::thread::sleep(Duration::from_millis(200));
    }

    let mut slow = waiting.pop().unwrap();
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = String::new();
    slow.read_to_string(&mut text).unwrap();
    let facts = text.matches(r#"{"kind":"fact","#).count() as u64;
    assert_eq!((facts, text.matches(r#"{"kind":"end","#).count()), (head - 1, 1));
    until(&platform, "from=1&to=1", 200);
}

#[actix_web::test]
async fn a_replay_goes_over_a_hundred_thousand_facts_and_no_more() {
    let (platform, head) = with_facts(FACTS_MAX + 2, TimeDelta::zero()).await;
    assert_eq!(head, FACTS_MAX + 2);
    // The platform may have recorded something of its own since.
    let longer = ask(&platform, &format!("from=1&to={head}")).await;
    assert_eq!((longer.status, &longer.json["field"]), (400, &json!("from")), "{longer:?}");
    assert!(longer.json["detail"].as_str().unwrap().contains("100000"), "{longer:?}");
    let longest = ask(&platform, &format!("from=2&to={head}&step=notable")).await;
    assert_eq!(longest.status, 200, "{longest:?}");
    let lines: Vec<Value> = longest.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (first, last) = (lines.first().unwrap(), lines.last().unwrap());
    assert_eq!((&first["from"]["position"], &first["to"]["position"]), (&json!(2), &json!(head)));
    assert_eq!((&last["kind"], &last["position"]), (&json!("end"), &json!(head)));
}
