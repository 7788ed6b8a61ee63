//! Tokens of the organisation: what they open, who makes them, how many, and when they end.

use std::collections::BTreeMap;

use actix_web::http::Method;
use covalence_events::fleet::Event;
use covalence_events::{Fact, Position, Principal};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::live;
use super::platform::{ADMIN, PATIENCE, Platform};

/// Makes one with this credential; its id and text.
async fn made(platform: &Platform, by: &str, body: Value) -> (String, String) {
    let reply = platform.post("/org/tokens", body).bearer(by).send().await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let text = |key: &str| reply.json[key].as_str().unwrap().to_owned();
    assert_eq!((text("auth_token").len(), text("prefix")), (43, text("auth_token")[..8].to_owned()));
    (text("id"), text("auth_token"))
}

#[actix_web::test]
async fn an_organisation_token_opens_what_the_admin_s_does_until_it_is_revoked() {
    let platform = Platform::start().await;
    let (agent, own) = platform.external("agent", None).await;
    let (id, text) = made(&platform, ADMIN, json!({"name": " deploy "})).await;
    let (later, its_text) = made(&platform, &text, json!({})).await;

    let listed = platform.get("/org/tokens").bearer(&its_text).send().await;
    assert!(!listed.text.contains(&text) && !listed.text.contains(&its_text), "the list shows no text");
    let [newest, first] = listed.json["tokens"].as_array().unwrap().as_slice() else { panic!("{listed:?}") };
    assert_eq!((&newest["id"], &first["id"], &listed.json["count"]), (&json!(later), &json!(id), &json!(2)));
    assert_eq!((&first["name"], &first["created_by"]), (&json!("deploy"), &json!("admin-token")));
    assert_eq!(newest["created_by"], json!(format!("org-token:{}", &text[..8])));
    assert!(first["last_used_at"].is_string() && newest.get("name").is_none(), "{listed:?}");

    for path in [format!("/workspaces/{agent}/details"), "/admin/liveness".to_owned()] {
        assert_eq!(platform.get(&path).bearer(&text).send().await.status, 200, "{path}");
    }
    let head = platform.settled_head().await;
    let renamed = platform.ask(Method::PATCH, &format!("/workspaces/{agent}")).json(json!({"name": "b"}));
    assert_eq!(renamed.bearer(&text).send().await.status, 200);
    let facts = platform.state.log.read_all(head.next(), 10).await.unwrap();
    assert_eq!(facts[0].meta.principal, Principal::OrgToken(id.parse().unwrap()), "its use is on record");
    let values = platform.get(&format!("/workspaces/{agent}/secrets/values"));
    assert_eq!(values.bearer(&text).send().await.says(), (401, "invalid workspace auth token"));
    let test = platform.get(&format!("/admin/workspaces/{agent}/test-token")).bearer(&text).send().await;
    assert_eq!(test.says(), (401, "admin auth required"));
    for wrong in [own.as_str(), "wrong"] {
        let refused = platform.post("/org/tokens", json!({})).bearer(wrong).send().await;
        assert_eq!(refused.says(), (401, "invalid admin auth token"));
    }

    let one = format!("/org/tokens/{id}");
    let mut listening = live::open(&platform, "", &text).await;
    let revoked = platform.ask(Method::DELETE, &one).bearer(ADMIN).send().await;
    assert_eq!((revoked.status, revoked.json), (200, json!({"revoked": id})));
    assert_eq!(
        platform.get("/workspaces").bearer(&text).send().await.says(),
        (401, "invalid admin auth token")
    );
    let closed = live::next(&mut listening).await["closed"].clone();
    assert!(closed.as_str().unwrap().starts_with("token revoked"), "{closed}");
    assert_eq!(platform.get("/workspaces").bearer(&its_text).send().await.status, 200, "its own go on");
    let again = platform.ask(Method::DELETE, &one).bearer(ADMIN).send().await;
    assert_eq!(again.says(), (404, "token not found or already revoked"));
    let no_id = platform.ask(Method::DELETE, "/org/tokens/x").bearer(ADMIN).send().await;
    assert_eq!((no_id.status, &no_id.json["field"]), (400, &json!("id")));
}

/// What an answer says until it ends, which it has to do within the time of one look at its credential.
async fn rest(mut answer: awc::ClientResponse) -> String {
    let mut said = Vec::new();
    while let Some(piece) = tokio::time::timeout(PATIENCE, answer.next()).await.expect("it ends") {
        said.extend_from_slice(&piece.unwrap_or_default());
    }
    String::from_utf8(said).unwrap()
}

#[actix_web::test]
async fn answers_that_go_on_end_with_the_token_that_opened_them_and_say_nothing_more() {
    let platform = Platform::start().await;
    let (id, text) = made(&platform, ADMIN, json!({})).await;
    let subscribed = platform.post("/admin/subscriptions", json!({"name": "audit", "start": "end"}));
    assert_eq!(subscribed.bearer(&text).send().await.status, 201);
    let mut answers = Vec::new();
    for path in ["/admin/log?follow=true", "/admin/subscriptions/audit/stream?consumer=one"] {
        let answer = platform.get(path).bearer(&text).open().await;
        assert_eq!(answer.status(), 200, "{path}");
        answers.push(answer);
    }
    platform.external("before", None).await;
    let revoked = platform.ask(Method::DELETE, &format!("/org/tokens/{id}")).bearer(ADMIN).send().await;
    assert_eq!(revoked.status, 200);
    let (after, _) = platform.external("after", None).await;
    for answer in answers {
        let said = rest(answer).await;
        assert!(said.contains("workspace.created") && !said.contains(&after), "{said}");
    }
}

#[actix_web::test]
async fn no_fact_holds_the_text_of_an_organisation_token() {
    let platform = Platform::start().await;
    let (_, text) = made(&platform, ADMIN, json!({"name": "ci"})).await;
    platform.settled_head().await;
    let facts = platform.state.log.read_all(Position(1), 1000).await.unwrap();
    let issued = facts.iter().find_map(|recorded| match &recorded.fact {
        Fact::Fleet(Event::OrgTokenIssued(issued)) => Some(issued.clone()),
        _ => None,
    });
    let issued = issued.unwrap();
    assert_eq!(issued.sha256, covalence_actors::runtime::token::digest(&text));
    assert!(!format!("{facts:?}").contains(&text));
}

#[actix_web::test]
async fn ten_organisation_tokens_an_hour_are_made_also_when_all_are_asked_for_at_once() {
    let platform = Platform::start().await;
    let (_, org) = made(&platform, ADMIN, json!({})).await;
    let mint = |n: usize| {
        let by = if n.is_multiple_of(2) { ADMIN } else { org.as_str() };
        platform.post("/org/tokens", json!({})).bearer(by).send()
    };
    let replies = join_all((0..30).map(mint)).await;
    let mut counts = BTreeMap::<u16, usize>::new();
    for reply in &replies {
        *counts.entry(reply.status).or_default() += 1;
        assert_eq!(reply.headers["x-ratelimit-limit"], "10", "{reply:?}");
    }
    assert_eq!(counts, BTreeMap::from([(200, 9), (429, 21)]));
    let over = replies.iter().find(|reply| reply.status == 429).unwrap();
    assert_eq!(over.says(), (429, "rate limit exceeded"));
    assert!(over.headers["retry-after"].parse::<u64>().unwrap() > 3500, "{over:?}");
    assert_eq!(over.headers["retry-after"], over.json["retry_after"].to_string());
    let listed = platform.get("/org/tokens").bearer(ADMIN).send().await;
    assert_eq!((&listed.json["count"], listed.headers["x-ratelimit-limit"].as_str()), (&json!(10), "600"));
}

#[actix_web::test]
async fn fifty_workspace_tokens_are_made_also_when_all_are_asked_for_at_once() {
    let platform = Platform::start().await;
    let (id, _) = platform.external("agent", None).await;
    let tokens = format!("/workspaces/{id}/tokens");
    let replies = join_all((0..70).map(|_| platform.post(&tokens, json!({})).bearer(ADMIN).send())).await;
    let made = replies.iter().filter(|reply| reply.status == 201).count();
    let refused = replies.iter().filter(|reply| reply.status == 429).count();
    assert_eq!((made, refused), (49, 21), "with the one that the agent has");
    let listed = platform.get(&format!("{tokens}?limit=200")).bearer(ADMIN).send().await;
    assert_eq!(listed.json["count"], 50);
}

#[actix_web::test]
async fn a_name_is_a_short_text_and_a_body_that_is_no_json_is_as_good_as_none() {
    let platform = Platform::start().await;
    let mint = |body: &'static str| platform.ask(Method::POST, "/org/tokens").bearer(ADMIN).body(body).send();
    for body in ["", "not json", "[1]", "{\"name\": \"\"}", "{\"name\": null}"] {
        let made = mint(body).await;
        assert!(made.status == 200 && made.json.get("name").is_none(), "{body}: {made:?}");
    }
    let long = platform.post("/org/tokens", json!({"name": "x".repeat(101)})).bearer(ADMIN).send().await;
    assert_eq!((long.says(), &long.json["field"]), ((400, "name too long (max 100 chars)"), &json!("name")));
    let odd = platform.post("/org/tokens", json!({"name": "a\nb"})).bearer(ADMIN).send().await;
    assert_eq!((odd.status, &odd.json["field"]), (400, &json!("name")));
    let number = mint("{\"name\": 5}").await;
    assert_eq!((number.says(), &number.json["field"]), ((400, "invalid request body"), &json!("name")));
}

#[actix_web::test]
async fn development_opens_the_organisation_s_tokens_and_limits_nobody() {
    let platform = Platform::open().await;
    for _ in 0..11 {
        let made = platform.post("/org/tokens", json!({})).send().await;
        assert_eq!((made.status, made.headers["x-ratelimit-limit"].as_str()), (200, "unlimited"));
    }
    let listed = platform.get("/org/tokens").send().await;
    assert_eq!(
        (&listed.json["count"], &listed.json["tokens"][0]["created_by"]),
        (&json!(11), &json!("anonymous"))
    );
}
