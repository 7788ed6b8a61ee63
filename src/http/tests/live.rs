//! What is told as it happens, to whom, and how somebody goes on who was away.

use std::time::Duration;

use actix_web::http::Method;
use awc::ws::{Frame, Message};
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use serde_json::{Value, json};

use super::activity::platform;
use super::platform::{ADMIN, Platform};
use crate::http::live::hub::{QUEUE, Reason, Sees, Wire};

const PATIENCE: Duration = Duration::from_secs(20);

pub(super) trait Frames: Stream<Item = Result<Frame, awc::error::WsProtocolError>> + Unpin {}

impl<T: Stream<Item = Result<Frame, awc::error::WsProtocolError>> + Unpin> Frames for T {}

pub(super) async fn open(
    platform: &Platform,
    query: &str,
    token: &str,
) -> impl Frames + Sink<Message, Error = awc::error::WsProtocolError> + use<> {
    let url = format!("{}/ws{query}", platform.base);
    let (response, socket) = awc::Client::new().ws(url).bearer_auth(token).connect().await.unwrap();
    assert_eq!(response.status().as_u16(), 101);
    socket
}

/// The next event; a close is told as `{"closed": …}`.
pub(super) async fn next(socket: &mut impl Frames) -> Value {
    loop {
        let frame = tokio::time::timeout(PATIENCE, socket.next()).await.expect("in time");
        match frame {
            Some(Ok(Frame::Text(text))) => return serde_json::from_slice(&text).unwrap(),
            Some(Ok(Frame::Close(reason))) => {
                return json!({"closed": reason.and_then(|reason| reason.description)});
            }
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn say(platform: &Platform, id: &str, text: &str) {
    let reply = platform
        .post(&format!("/workspaces/{id}/notify"), json!({"message": text}))
        .bearer(ADMIN)
        .send()
        .await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

/// The words of the next messages to people; other events are passed over.
async fn words(socket: &mut impl Frames, count: usize) -> Vec<String> {
    let mut words = Vec::new();
    while words.len() < count {
        let event = next(socket).await;
        assert!(event.get("closed").is_none(), "{event}");
        if event["event"] == "AGENT_MESSAGE" {
            words.push(event["payload"]["message"].as_str().unwrap().to_owned());
        }
    }
    words
}

#[actix_web::test]
async fn everybody_is_told_what_he_may_see_in_order() {
    let platform = platform().await;
    let (team, token) = platform.external("team", None).await;
    let (member, _) = platform.external("member", Some(&team)).await;
    let (other_team, _) = platform.external("other team", None).await;
    let (stranger, _) = platform.external("stranger", Some(&other_team)).await;
    let (mut operator, mut lead) = (open(&platform, "", ADMIN).await, open(&platform, "", &token).await);
    for (id, text) in [(&member, "1"), (&stranger, "2"), (&team, "3"), (&stranger, "4"), (&member, "5")] {
        say(&platform, id, text).await;
    }
    assert_eq!(words(&mut operator, 5).await, ["1", "2", "3", "4", "5"]);
    assert_eq!(words(&mut lead, 3).await, ["1", "3", "5"], "its own people, and nobody else's");

    let beat =
        json!({"workspace_id": team, "current_task": "digging", "active_tasks": 1, "uptime_seconds": 9});
    platform.post("/registry/heartbeat", beat).bearer(&token).send().await;
    let mut told = Vec::new();
    while told.len() < 3 {
        let event = next(&mut lead).await;
        assert_eq!((&event["workspace_id"], event["position"].is_u64()), (&json!(team), true));
        assert!(event["timestamp"].as_str().unwrap().ends_with('Z'), "{event}");
        told.push(event["event"].as_str().unwrap().to_owned());
    }
    told.sort();
    assert_eq!(told, ["TASK_UPDATED", "WORKSPACE_HEARTBEAT", "WORKSPACE_ONLINE"]);
}

#[actix_web::test]
async fn somebody_who_was_away_goes_on_after_the_last_that_he_saw() {
    let platform = platform().await;
    let (id, _) = platform.external("agent", None).await;
    let mut first = open(&platform, "", ADMIN).await;
    say(&platform, &id, "seen").await;
    let seen = next(&mut first).await["position"].as_u64().unwrap();
    drop(first);
    for text in ["missed 1", "missed 2"] {
        say(&platform, &id, text).await;
    }
    let mut again = open(&platform, &format!("?after={seen}"), ADMIN).await;
    say(&platform, &id, "live").await;
    assert_eq!(words(&mut again, 3).await, ["missed 1", "missed 2", "live"]);
    let lost = platform.get("/workspaces/x/events/stream").bearer(ADMIN).send().await;
    assert_eq!(lost.says(), (400, "invalid workspace ID"));
    let ahead =
        platform.get(&format!("/workspaces/{id}/events/stream?after=999999")).bearer(ADMIN).send().await;
    assert_eq!((ahead.status, &ahead.json["code"]), (410, &json!("position_lost")));
}

/// What the next beats say that an agent does.
async fn tasks(socket: &mut impl Frames, beats: usize) -> Vec<Value> {
    let (mut seen, mut tasks) = (0, Vec::new());
    while seen < beats {
        let event = next(socket).await;
        match event["event"].as_str() {
            Some("WORKSPACE_HEARTBEAT") => seen += 1,
            Some("TASK_UPDATED") => tasks.push(event["payload"]["current_task"].clone()),
            _ => {}
        }
    }
    tasks
}

#[actix_web::test]
async fn whoever_was_away_learns_that_an_agent_is_done() {
    let platform = platform().await;
    let (id, token) = platform.external("agent", None).await;
    let beat = async |task: &str| {
        let beat = json!({"workspace_id": id, "active_tasks": 0, "current_task": task});
        let reply = platform.post("/registry/heartbeat", beat).bearer(&token).send().await;
        assert_eq!(reply.status, 200, "{reply:?}");
    };
    let mut first = open(&platform, "", ADMIN).await;
    beat("digging").await;
    let seen = loop {
        let event = next(&mut first).await;
        if event["event"] == "WORKSPACE_HEARTBEAT" {
            break event["position"].as_u64().unwrap();
        }
    };
    beat("").await;
    assert_eq!(tasks(&mut first, 1).await, [json!("")], "who stays is told");
    let mut again = open(&platform, &format!("?after={seen}"), ADMIN).await;
    assert_eq!(tasks(&mut again, 1).await, [json!("")], "who comes back is told");
    beat("").await;
    assert_eq!(tasks(&mut again, 1).await, [] as [Value; 0], "and not again while nothing changes");
}

#[actix_web::test]
async fn a_slow_listener_is_let_go_with_the_reason_and_holds_up_nobody() {
    let platform = platform().await;
    let (id, _) = platform.external("agent", None).await;
    let mut slow = platform.state.hub.listen(Sees::All, Wire::Socket, None).unwrap();
    let mut quick = platform.state.hub.listen(Sees::All, Wire::Socket, None).unwrap();
    let read = tokio::spawn(async move {
        let mut count = 0;
        while count < QUEUE + 10 {
            quick.queue.recv().await.unwrap();
            count += 1;
        }
    });
    let id = id.parse().unwrap();
    for n in 0..QUEUE + 10 {
        let notified = covalence_events::workspace::Notified { message: n.to_string(), attachments: None };
        let command = covalence_actors::workspace::Command::Notify(Box::new(notified));
        let origin = covalence_actors::context::Origin::new(covalence_events::Principal::Admin);
        platform.state.runtime.command(id, command, origin).await.unwrap();
    }
    tokio::time::timeout(PATIENCE, read).await.expect("the quick one has them all").unwrap();
    let mut got = 0;
    while slow.queue.recv().await.is_some() {
        got += 1;
    }
    assert_eq!((got, slow.end.reason()), (QUEUE, Some(Reason::Slow)));
    assert!(slow.end.last() > slow.from && slow.end.last() < platform.state.log.head(), "where to go on");
}

#[actix_web::test]
async fn a_revoked_token_ends_what_it_opened_and_nothing_opens_without_one() {
    let platform = platform().await;
    let (id, token) = platform.external("agent", None).await;
    let mut socket = open(&platform, "", &token).await;
    let listed = platform.get(&format!("/workspaces/{id}/tokens")).bearer(ADMIN).send().await;
    let one = format!("/workspaces/{id}/tokens/{}", listed.json["tokens"][0]["id"].as_str().unwrap());
    platform.ask(Method::DELETE, &one).bearer(ADMIN).send().await;
    let closed = next(&mut socket).await;
    assert!(closed["closed"].as_str().is_some_and(|why| why.contains("revoked")), "{closed}");
    for (path, token, says) in [
        ("/ws", None, (401, "missing workspace auth token")),
        ("/ws", Some("nobody's"), (401, "invalid workspace auth token")),
        ("/ws", Some(token.as_str()), (401, "invalid workspace auth token")),
        ("/ws", Some(ADMIN), (400, "a web socket is opened here")),
    ] {
        let ask = platform.get(path);
        let reply = match token {
            Some(token) => ask.bearer(token).send().await,
            None => ask.send().await,
        };
        assert_eq!(reply.says(), says);
    }
}

#[actix_web::test]
async fn an_event_stream_is_of_one_workspace_and_begins_at_once() {
    let platform = platform().await;
    let (id, token) = platform.external("agent", None).await;
    let (other, _) = platform.external("other", None).await;
    let mut stream = platform.get(&format!("/workspaces/{id}/events/stream")).bearer(&token).open().await;
    assert_eq!(stream.headers().get("content-type").unwrap(), "text/event-stream");
    let mut text = String::new();
    for said in ["mine", "also mine"] {
        say(&platform, &other, "not mine").await;
        say(&platform, &id, said).await;
        while !text.contains(said) {
            let piece = tokio::time::timeout(PATIENCE, stream.next()).await.unwrap().unwrap().unwrap();
            text.push_str(&String::from_utf8_lossy(&piece));
        }
    }
    assert!(text.starts_with(": ping\n\n") && !text.contains("not mine"), "{text}");
    let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let event: Value = serde_json::from_str(data).unwrap();
    assert_eq!((&event["type"], &event["data"]["message"]), (&json!("AGENT_MESSAGE"), &json!("mine")));
    assert!(event["timestamp"].is_i64());
}

#[actix_web::test]
async fn a_client_that_says_goodbye_is_forgotten() {
    let platform = platform().await;
    let mut socket = open(&platform, "", ADMIN).await;
    assert_eq!(platform.state.hub.len(), 1);
    let scraped = platform.get("/metrics").send().await.text;
    assert!(scraped.contains("\nmolecule_websocket_connections_active 1\n"), "{scraped}");
    socket.send(Message::Ping(bytes::Bytes::from_static(b"x"))).await.unwrap();
    let pong = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(pong, Frame::Pong(bytes::Bytes::from_static(b"x")));
    socket.send(Message::Close(None)).await.unwrap();
    for _ in 0..500 {
        if platform.state.hub.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?}", platform.state.hub);
}
