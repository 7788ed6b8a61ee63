//! Who gets a token, and when it ends.

use actix_web::http::Method;
use covalence_events::Position;
use serde_json::json;

use super::platform::{ADMIN, Platform};

/// The wire tags of the facts after a position, in order.
async fn tags_after(platform: &Platform, head: Position) -> Vec<&'static str> {
    let facts = platform.state.log.read_all(head.next(), 1000).await.unwrap();
    facts.iter().map(|recorded| recorded.fact.tag()).collect()
}

#[actix_web::test]
async fn a_token_for_a_person_works_until_it_is_revoked_and_is_shown_once() {
    let platform = Platform::start().await;
    let (id, own) = platform.external("agent", None).await;
    let tokens = format!("/workspaces/{id}/tokens");
    let made = platform.post(&tokens, json!({})).bearer(&own).send().await;
    assert_eq!((made.status, &made.json["workspace_id"]), (201, &json!(id)));
    let text = made.json["auth_token"].as_str().unwrap().to_owned();
    let details = format!("/workspaces/{id}/details");
    assert_eq!(platform.get(&details).bearer(&text).send().await.status, 200);

    let listed = platform.get(&tokens).bearer(ADMIN).send().await;
    assert_eq!(listed.json["count"], 2);
    assert!(!listed.text.contains(&text), "the list shows no token's text");
    let newest = &listed.json["tokens"][0];
    assert_eq!((&newest["prefix"], &newest["purpose"]), (&json!(text[..8]), &json!("person")));
    assert!(newest["last_used_at"].is_string(), "{newest}");

    let one = format!("{tokens}/{}", newest["id"].as_str().unwrap());
    let gone = platform.ask(Method::DELETE, &one).bearer(ADMIN).send().await;
    assert_eq!(gone.text, "{\"status\":\"revoked\"}");
    assert_eq!(
        platform.get(&details).bearer(&text).send().await.says(),
        (401, "invalid workspace auth token")
    );
    assert_eq!(platform.get(&details).bearer(&own).send().await.status, 200, "the other one still works");
    let again = platform.ask(Method::DELETE, &one).bearer(ADMIN).send().await;
    assert_eq!(again.says(), (404, "token not found or already revoked"));
    let no_id = platform.ask(Method::DELETE, &format!("{tokens}/x")).bearer(ADMIN).send().await;
    assert_eq!((no_id.status, &no_id.json["field"]), (400, &json!("token")));
}

#[actix_web::test]
async fn fifty_tokens_work_at_once_and_not_one_more() {
    let platform = Platform::tuned(|config| config.rate_limit = 10_000).await;
    let (id, _) = platform.external("agent", None).await;
    let tokens = format!("/workspaces/{id}/tokens");
    for _ in 1..50 {
        assert_eq!(platform.post(&tokens, json!({})).bearer(ADMIN).send().await.status, 201);
    }
    let refused = platform.post(&tokens, json!({})).bearer(ADMIN).send().await;
    assert_eq!(refused.says(), (429, "maximum 50 active tokens per workspace"));
    let page = platform.get(&format!("{tokens}?limit=20&offset=45")).bearer(ADMIN).send().await;
    assert_eq!(page.json["count"], 5);
}

#[actix_web::test]
async fn an_agent_gets_its_first_token_while_enrolment_is_open_and_not_after() {
    let platform = Platform::tuned(|config| config.enrolment = chrono::TimeDelta::zero()).await;
    let id = platform.create(json!({"name": "agent", "external": true, "url": "http://8.8.8.8/"})).await;
    let body = json!({"id": id, "url": "http://8.8.8.8/", "agent_card": {"name": "agent"}});
    let late = platform.post("/registry/register", body.clone()).send().await;
    assert_eq!((late.status, &late.json["code"]), (401, &json!("enrolment_closed")), "{late:?}");
    assert!(late.json["detail"].as_str().unwrap().contains("covalence workspaces enroll"), "{late:?}");

    let enroll = format!("/workspaces/{id}/enroll");
    assert_eq!(platform.post(&enroll, json!({})).send().await.says(), (401, "admin auth required"));
    for minutes in [0, 1441, -1] {
        let refused = platform.post(&enroll, json!({"minutes": minutes})).bearer(ADMIN).send().await;
        assert_eq!((refused.status, &refused.json["field"]), (400, &json!("minutes")));
    }
    let open = platform.post(&enroll, json!({"minutes": 5})).bearer(ADMIN).send().await;
    assert_eq!((open.status, &open.json["status"]), (200, &json!("open")));
    let first = platform.post("/registry/register", body).send().await;
    assert_eq!(first.json["auth_token"].as_str().unwrap().len(), 43);
    let has_one = platform.post(&enroll, json!({})).bearer(ADMIN).send().await;
    assert_eq!(has_one.says().0, 409);
}

#[actix_web::test]
async fn a_token_for_a_person_keeps_no_agent_from_its_first_one() {
    let platform = Platform::start().await;
    let id = platform.create(json!({"name": "agent", "external": true, "url": "http://8.8.8.8/"})).await;
    let made = platform.post(&format!("/workspaces/{id}/tokens"), json!({})).bearer(ADMIN).send().await;
    assert_eq!(made.status, 201);
    let body = json!({"id": id, "url": "http://8.8.8.8/", "agent_card": {"name": "agent"}});
    let first = platform.post("/registry/register", body).send().await;
    assert_eq!(first.json["auth_token"].as_str().unwrap().len(), 43);
}

#[actix_web::test]
async fn a_refused_registration_is_a_fact_and_an_alarm_and_neither_is_repeated() {
    let platform = Platform::start().await;
    let (id, _) = platform.external("agent", None).await;
    let body = json!({"id": id, "url": "http://8.8.8.8/", "agent_card": {"name": "stranger"}});
    let head = platform.settled_head().await;
    for _ in 0..3 {
        let refused = platform.post("/registry/register", body.clone()).send().await;
        assert_eq!(refused.says(), (401, "missing workspace auth token"));
    }
    platform.settled_head().await;
    assert_eq!(
        tags_after(&platform, head).await,
        ["workspace.registration_refused.v1", "fleet.alarm_raised.v1"]
    );
    let head = platform.state.log.head();
    let rotated = platform.post(&format!("/workspaces/{id}/external/rotate"), json!({})).bearer(ADMIN);
    assert_eq!(rotated.send().await.status, 200);
    platform.settled_head().await;
    let tags = tags_after(&platform, head).await;
    assert!(tags.contains(&"fleet.alarm_resolved.v1"), "{tags:?}");
}

#[actix_web::test]
async fn rotating_ends_all_tokens_and_makes_one() {
    let platform = Platform::start().await;
    let (id, old) = platform.external("agent", None).await;
    let rotate = format!("/workspaces/{id}/external/rotate");
    let rotated = platform.post(&rotate, json!({})).bearer(&old).send().await;
    let new = rotated.json["connection"]["auth_token"].as_str().unwrap().to_owned();
    let details = format!("/workspaces/{id}/details");
    assert_eq!(
        platform.get(&details).bearer(&old).send().await.says(),
        (401, "invalid workspace auth token")
    );
    assert_eq!(platform.get(&details).bearer(&new).send().await.status, 200);
    let shown = platform.get(&format!("/workspaces/{id}/external/connection")).bearer(&new).send().await;
    assert_eq!(shown.json["connection"]["auth_token"], "");
    assert_eq!(shown.json["connection"]["workspace_id"], json!(id));

    let ours = platform.create(json!({"name": "ours", "runtime": "echo"})).await;
    let refused = platform.post(&format!("/workspaces/{ours}/external/rotate"), json!({})).bearer(ADMIN);
    let refused = refused.send().await;
    assert_eq!(refused.says(), (400, "rotate is only valid for external/BYO-compute workspaces"));
    assert_eq!(refused.json["runtime"], "echo");
}

#[actix_web::test]
async fn tokens_for_tests_are_for_the_admin_and_only_where_they_are_allowed() {
    let platform = Platform::start().await;
    let (id, own) = platform.external("agent", None).await;
    let path = format!("/admin/workspaces/{id}/test-token");
    assert_eq!(platform.get(&path).send().await.says(), (401, "admin auth required"));
    assert_eq!(platform.get(&path).bearer(&own).send().await.says(), (401, "admin auth required"));
    for admin in [format!("Bearer {ADMIN}"), ADMIN.to_owned()] {
        let made = platform.get(&path).header("authorization", &admin).send().await;
        let text = made.json["auth_token"].as_str().unwrap().to_owned();
        let details = format!("/workspaces/{id}/details");
        assert_eq!(platform.get(&details).bearer(&text).send().await.status, 200);
    }
    let nobody = platform.get("/admin/workspaces/f0000000-0000-4000-8000-000000000000/test-token");
    assert_eq!(nobody.bearer(ADMIN).send().await.says(), (404, "workspace not found"));
    let closed = Platform::tuned(|config| config.test_tokens = false).await;
    let (id, _) = closed.external("agent", None).await;
    let path = format!("/admin/workspaces/{id}/test-token");
    assert_eq!(closed.get(&path).bearer(ADMIN).send().await.says(), (404, "not found"));
}

#[actix_web::test]
async fn the_token_of_a_removed_workspace_fails_on_its_very_next_use() {
    let platform = Platform::start().await;
    let (id, token) = platform.external("agent", None).await;
    let removed = platform.ask(Method::DELETE, &format!("/workspaces/{id}?confirm=true")).bearer(ADMIN);
    assert_eq!(removed.send().await.status, 200);
    let beat = platform.post("/registry/heartbeat", json!({"workspace_id": id})).bearer(&token).send().await;
    assert_eq!(beat.says(), (401, "invalid workspace auth token"));
    let tokens = platform.get(&format!("/workspaces/{id}/tokens")).bearer(&token).send().await;
    assert_eq!(tokens.says(), (401, "invalid workspace auth token"));
}
