//! Subscriptions over HTTP: who may, what is refused and how, and the way of a fact from its delivery to its end.

use actix_web::http::Method;
use covalence_events::WorkspaceId;
use covalence_projections::subscriptions::ACK_WITHIN_DEFAULT;
use covalence_projections::subscriptions::place::WINDOW;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::platform::{ADMIN, PATIENCE, Platform, Reply};

const ALL: &str = "/admin/subscriptions";

async fn post(platform: &Platform, path: &str, body: Value) -> Reply {
    platform.post(&format!("{ALL}{path}"), body).bearer(ADMIN).send().await
}

async fn done(platform: &Platform, path: &str, body: Value) -> Value {
    let reply = post(platform, path, body).await;
    assert!(reply.status < 300, "{path}: {reply:?}");
    reply.json
}

fn positions(batch: &Value) -> Vec<u64> {
    batch["facts"].as_array().unwrap().iter().map(|fact| fact["position"].as_u64().unwrap()).collect()
}

#[actix_web::test]
async fn a_fact_is_delivered_acknowledged_refused_parked_and_replayed() {
    let platform = Platform::start().await;
    let wish = json!({"name": "audit", "kinds": ["workspace.created"], "start": "beginning", "nacks_max": 1});
    assert_eq!(post(&platform, "", wish.clone()).await.status, 201);
    assert_eq!(post(&platform, "", wish).await.status, 200, "a consumer may ask at each of its starts");
    for name in ["a", "b"] {
        platform.external(name, None).await;
    }
    let batch = done(&platform, "/audit/fetch", json!({"consumer": "one"})).await;
    let [first, second] = positions(&batch)[..] else { panic!("{batch}") };
    assert_eq!(
        (&batch["facts"][0]["attempt"], &batch["facts"][0]["type"]),
        (&json!(1), &json!("workspace.created.v1"))
    );
    let other = post(&platform, "/audit/fetch", json!({"consumer": "two"})).await;
    assert_eq!(
        (other.status, &other.json["code"], &other.json["consumer"]),
        (409, &json!("subscription_taken"), &json!("one"))
    );
    assert!(other.json["expires_in"].as_f64().unwrap() > 0.0);
    let lease = &batch["lease"];
    let acked = done(&platform, "/audit/ack", json!({"lease": lease, "positions": [first]})).await;
    assert_eq!((&acked["count"], &acked["subscription"]["open"]), (&json!(1), &json!(1)));
    let nack = json!({"lease": lease, "positions": [second], "reason": "the disk is full"});
    assert_eq!(done(&platform, "/audit/nack", nack).await["count"], 1);
    let parked = platform.get(&format!("{ALL}/audit/parked")).bearer(ADMIN).send().await.json;
    assert_eq!((&parked[0]["position"], &parked[0]["reason"]), (&json!(second), &json!("the disk is full")));
    assert_eq!(parked[0]["fact"]["data"]["name"], "b");
    assert_eq!(done(&platform, "/audit/parked/replay", json!({})).await["count"], 1);
    let again = done(&platform, "/audit/fetch", json!({"consumer": "one", "lease": lease, "wait": 10})).await;
    assert_eq!((positions(&again), &again["facts"][0]["replayed"]), (vec![second], &json!(true)));
    done(&platform, "/audit/ack", json!({"lease": lease, "up_to": second})).await;
    done(&platform, "/audit/release", json!({"lease": lease})).await;
    let late = post(&platform, "/audit/ack", json!({"lease": lease, "positions": [first]})).await;
    assert_eq!((late.status, &late.json["code"]), (409, &json!("lease_lost")));
    let removed = platform.ask(Method::DELETE, &format!("{ALL}/audit")).bearer(ADMIN).send().await;
    assert_eq!(removed.status, 200);
    assert_eq!(post(&platform, "/audit/fetch", json!({"consumer": "one"})).await.status, 404);
}

#[actix_web::test]
async fn what_a_subscription_can_not_be_names_the_field_and_nobody_but_the_admin_may() {
    let platform = Platform::start().await;
    for (body, field) in [
        (json!({}), "name"),
        (json!({"name": "../x"}), "name"),
        (json!({"name": "x", "category": "org"}), "category"),
        (json!({"name": "x", "workspace": "lead"}), "workspace"),
        (json!({"name": "x", "kinds": ["workspace.sang"]}), "kinds"),
        (json!({"name": "x", "kinds": [""]}), "kinds"),
        (json!({"name": "x", "start": "soon"}), "start"),
        (json!({"name": "x", "start": -1}), "start"),
        (json!({"name": "x", "nacks_max": 0}), "nacks_max"),
        (json!({"name": "x", "ack_within": 0.5}), "ack_within"),
    ] {
        let reply = post(&platform, "", body.clone()).await;
        assert_eq!((reply.status, &reply.json["field"]), (400, &json!(field)), "{body}: {reply:?}");
    }
    let reserved = post(&platform, "", json!({"name": "alarms"})).await;
    assert_eq!((reserved.status, &reserved.json["code"]), (409, &json!("name_reserved")));
    done(&platform, "", json!({"name": "x"})).await;
    for (path, body, field) in [
        ("fetch", json!({}), "consumer"),
        ("fetch", json!({"consumer": "a", "limit": 1001}), "limit"),
        ("fetch", json!({"consumer": "a", "wait": 61}), "wait"),
        ("fetch", json!({"consumer": "a", "lease": "7"}), "lease"),
        ("ack", json!({"positions": [1]}), "lease"),
        ("ack", json!({"lease": uuid::Uuid::nil()}), "positions"),
        ("nack", json!({"lease": uuid::Uuid::nil()}), "positions"),
        ("nack", json!({"lease": uuid::Uuid::nil(), "positions": [1], "reason": "x".repeat(501)}), "reason"),
    ] {
        let reply = post(&platform, &format!("/x/{path}"), body.clone()).await;
        assert_eq!((reply.status, &reply.json["field"]), (400, &json!(field)), "{path} {body}: {reply:?}");
    }
    for path in ["", "/x", "/x/parked", "/x/stream?consumer=a"] {
        assert_eq!(platform.get(&format!("{ALL}{path}")).send().await.status, 401, "{path}");
    }
}

#[actix_web::test]
async fn lag_and_parked_facts_are_metrics() {
    let platform = Platform::start().await;
    done(&platform, "", json!({"name": "measured", "start": "beginning"})).await;
    let page = platform.get("/metrics").bearer(ADMIN).send().await;
    assert!(
        page.text.contains(r#"covalence_subscription_lag_events{subscription="measured"}"#),
        "{}",
        page.text
    );
}

/// The lines of an answer that goes on.
struct Lines {
    answer: awc::ClientResponse,
    read: Vec<u8>,
}

impl Lines {
    async fn open(platform: &Platform, consumer: &str) -> Self {
        let path = format!("{ALL}/audit/stream?consumer={consumer}");
        let answer = platform.get(&path).bearer(ADMIN).open().await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        Self { answer, read: Vec::new() }
    }

    /// The next line that says something; none where the answer ends.
    async fn next(&mut self) -> Option<Value> {
        loop {
            while let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                if line.len() > 1 {
                    return Some(serde_json::from_slice(&line).unwrap());
                }
            }
            let more = tokio::time::timeout(PATIENCE, self.answer.next()).await.expect("something comes");
            self.read.extend_from_slice(&more?.unwrap());
        }
    }

    async fn position(&mut self) -> u64 {
        let fact = self.next().await.expect("a fact");
        fact["position"].as_u64().unwrap_or_else(|| panic!("{fact}"))
    }
}

#[actix_web::test]
async fn a_stream_delivers_facts_as_they_come_and_its_lease_goes_with_it() {
    let platform = Platform::start().await;
    let wish = json!({"name": "audit", "kinds": ["workspace.created"], "start": "beginning"});
    done(&platform, "", wish).await;
    platform.external("a", None).await;
    let mut stream = Lines::open(&platform, "one").await;
    let lease = stream.next().await.unwrap()["lease"].clone();
    let first = stream.position().await;
    platform.external("b", None).await;
    let second = stream.position().await;
    assert!(second > first);
    done(&platform, "/audit/ack", json!({"lease": lease, "positions": [first]})).await;
    let other = post(&platform, "/audit/fetch", json!({"consumer": "two"})).await;
    assert_eq!((other.status, &other.json["code"]), (409, &json!("subscription_taken")), "{other:?}");

    // The same consumer once more: its first connection ends, and what it had not settled is due again.
    let mut again = Lines::open(&platform, "one").await;
    let lease = again.next().await.unwrap()["lease"].clone();
    assert_eq!(again.position().await, second);
    platform.external("c", None).await;
    let third = again.position().await;
    assert_eq!(stream.next().await, None, "it ends when another one has its place");
    done(&platform, "/audit/ack", json!({"lease": lease, "positions": [second]})).await;

    // A connection that is closed leaves its lease when the server can say nothing on it any more, before it would run out.
    drop(again);
    let begun = std::time::Instant::now();
    let batch = loop {
        let reply = post(&platform, "/audit/fetch", json!({"consumer": "two"})).await;
        if reply.status == 200 {
            break reply.json;
        }
        assert!(begun.elapsed() + PATIENCE < ACK_WITHIN_DEFAULT, "{reply:?}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!(positions(&batch), [third], "{batch}");
    assert_eq!(batch["facts"][0]["attempt"], 2);
}

#[actix_web::test]
async fn a_stream_holds_back_what_is_new_while_a_thousand_facts_are_not_settled() {
    let platform = Platform::start().await;
    let id: WorkspaceId = platform.external("a", None).await.0.parse().unwrap();
    let head = platform.settled_head().await;
    let wish = json!({"name": "audit", "kinds": ["workspace.heartbeat"], "start": head});
    done(&platform, "", wish).await;
    platform.beats(id, WINDOW + 1, chrono::TimeDelta::zero()).await;
    let mut stream = Lines::open(&platform, "one").await;
    let lease = stream.next().await.unwrap()["lease"].clone();
    let mut last = 0;
    for _ in 0..WINDOW {
        last = stream.position().await;
    }
    let open = async || platform.get(&format!("{ALL}/audit")).bearer(ADMIN).send().await.json;
    assert_eq!(open().await["open"], json!(WINDOW));
    let waits = tokio::time::timeout(std::time::Duration::from_millis(300), stream.next()).await;
    assert!(waits.is_err(), "nothing new comes: {waits:?}");
    assert_eq!(open().await["open"], json!(WINDOW));
    done(&platform, "/audit/ack", json!({"lease": lease, "up_to": last})).await;
    assert!(stream.position().await > last);
}
