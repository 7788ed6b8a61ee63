//! What agents say of themselves, and what they learn of each other.

use actix_web::http::Method;
use serde_json::{Value, json};

use super::platform::{ADMIN, Platform};

#[actix_web::test]
async fn the_first_registration_hands_out_the_token_and_the_second_none() {
    let platform = Platform::start().await;
    let id = platform.create(json!({"name": "agent", "external": true, "url": "http://8.8.8.8/"})).await;
    let body = json!({"id": id, "url": "http://8.8.8.8/", "agent_card": {"name": "agent"}});
    let first = platform.post("/registry/register", body.clone()).send().await;
    assert_eq!((first.status, &first.json["status"]), (200, &json!("registered")));
    let token = first.json["auth_token"].as_str().unwrap().to_owned();
    assert_eq!(token.len(), 43);
    let bare = platform.post("/registry/register", body.clone()).send().await;
    assert_eq!(bare.says(), (401, "missing workspace auth token"));
    let wrong = platform.post("/registry/register", body.clone()).bearer("wrong").send().await;
    assert_eq!(wrong.says(), (401, "invalid workspace auth token"));
    let second = platform.post("/registry/register", body).bearer(&token).send().await;
    assert_eq!((second.status, second.json.get("auth_token")), (200, None));
    assert_eq!(platform.get(&format!("/workspaces/{id}")).send().await.json["status"], "online");
}

#[actix_web::test]
async fn registering_again_without_bearer_and_url_is_fine_and_changes_nothing() {
    let platform = Platform::start().await;
    let (id, _) = platform.external("agent", None).await;
    let head = platform.settled_head().await;
    for url in [json!("remote://no-inbound"), json!(null), json!("")] {
        let body = json!({"id": id, "url": url, "agent_card": {"name": "agent"}});
        let reply = platform.post("/registry/register", body).send().await;
        assert_eq!((reply.status, reply.json.get("auth_token")), (200, None), "{reply:?}");
    }
    assert_eq!(platform.settled_head().await, head);
}

#[actix_web::test]
async fn an_agent_without_inbound_is_in_poll_mode() {
    let platform = Platform::start().await;
    let (id, token) = platform.external("agent", None).await;
    let body = json!({"id": id, "agent_card": {"name": "agent"}, "delivery_mode": "poll"});
    let reply = platform.post("/registry/register", body).bearer(&token).send().await;
    assert_eq!(reply.json, json!({"status": "registered", "delivery_mode": "poll"}));
    let call =
        platform.post(&format!("/workspaces/{id}/a2a"), json!({"method": "m"})).bearer(ADMIN).send().await;
    assert_eq!(call.json, json!({"status": "queued", "delivery_mode": "poll", "method": "m"}));
}

#[actix_web::test]
async fn a_registration_needs_a_workspace_and_a_card() {
    let platform = Platform::start().await;
    let (id, _) = platform.external("agent", None).await;
    let nobody =
        json!({"id": "f0000000-0000-4000-8000-000000000000", "url": "http://8.8.8.8/", "agent_card": {}});
    assert_eq!(platform.post("/registry/register", nobody).send().await.says(), (404, "workspace not found"));
    for body in [json!({"id": id}), json!({"agent_card": {}}), json!({"id": "x", "agent_card": {}})] {
        assert_eq!(
            platform.post("/registry/register", body).send().await.says(),
            (400, "invalid request body")
        );
    }
}

#[actix_web::test]
async fn a_beat_lifts_a_workspace_and_takes_what_clients_send() {
    let platform = Platform::start().await;
    let (id, token) = platform.external("agent", None).await;
    let beat = json!({"workspace_id": id, "current_task": null, "active_tasks": 2, "error_rate": 0, "sample_error": null,
        "uptime_seconds": 5, "runtime_state": "ok"});
    let reply = platform.post("/registry/heartbeat", beat).bearer(&token).send().await;
    assert_eq!((reply.status, reply.text.as_str()), (200, "{\"status\":\"ok\"}"));
    platform.wait_for(&id, "online").await;
    let row = platform.get(&format!("/workspaces/{id}")).send().await.json;
    assert_eq!(
        (&row["active_tasks"], &row["uptime_seconds"], &row["wedged"]),
        (&json!(2), &json!(5), &json!(false))
    );
    let bare = platform.post("/registry/heartbeat", json!({"workspace_id": id})).send().await;
    assert_eq!(bare.says(), (401, "missing workspace auth token"));
    assert_eq!(
        platform.post("/registry/heartbeat", json!({})).send().await.says(),
        (400, "invalid request body")
    );
}

#[actix_web::test]
async fn an_agent_replaces_its_card() {
    let platform = Platform::start().await;
    let (id, token) = platform.external("agent", None).await;
    let body = json!({"workspace_id": id, "agent_card": {"name": "agent", "version": "2"}});
    let reply = platform.post("/registry/update-card", body).bearer(&token).send().await;
    assert_eq!(reply.text, "{\"status\":\"updated\"}");
    assert_eq!(platform.get(&format!("/workspaces/{id}")).send().await.json["agent_card"]["version"], "2");
    let events = platform.get(&format!("/events/{id}?limit=1")).bearer(ADMIN).send().await.json;
    assert_eq!(events[0]["event_type"], "AGENT_CARD_UPDATED");
}

#[actix_web::test]
async fn peers_and_discovery_follow_the_hierarchy() {
    let platform = Platform::start().await;
    let (lead, lead_token) = platform.external("lead", None).await;
    let (left, left_token) = platform.external("left", Some(&lead)).await;
    let (right, _) = platform.external("right", Some(&lead)).await;
    let (other, _) = platform.external("other", None).await;
    let names = |reply: &super::platform::Reply| {
        let rows = reply.json.as_array().unwrap();
        rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let peers = |id: &str, token: &str, q: &str| {
        platform.get(&format!("/registry/{id}/peers{q}")).bearer(token).send()
    };
    assert_eq!(names(&peers(&left, &left_token, "").await), ["right", "lead"]);
    assert_eq!(names(&peers(&lead, &lead_token, "?q=RIG").await), ["right"]);
    assert_eq!(peers(&left, &lead_token, "").await.status, 401);

    let discover = |target: &str| platform.get(&format!("/registry/discover/{target}")).bearer(&left_token);
    assert_eq!(discover(&right).send().await.says(), (400, "X-Workspace-ID header is required"));
    let away = discover(&other).header("x-workspace-id", &left).send().await;
    assert_eq!(away.says(), (403, "not authorized to discover this workspace"));
    let down = discover(&right).header("x-workspace-id", &left).send().await;
    assert_eq!(
        (down.says(), &down.json["status"]),
        ((503, "workspace not available"), &json!("awaiting_agent"))
    );

    let access = |caller: &str, target: &str| {
        platform.post("/registry/check-access", json!({"caller_id": caller, "target_id": target})).send()
    };
    assert!(access(&left, &right).await.text.starts_with("{\"allowed\":true,"));
    assert!(access(&left, &other).await.text.starts_with("{\"allowed\":false,"));
    assert_eq!(access("", &other).await.says(), (400, "invalid request body"));
    assert_eq!(
        platform.ask(Method::GET, &format!("/registry/{}/peers", "x")).send().await.says(),
        (404, "workspace not found")
    );
}

#[actix_web::test]
async fn an_access_check_names_its_rule_and_the_edge_that_it_rests_on() {
    let platform = Platform::start().await;
    let (lead, _) = platform.external("lead", None).await;
    let (child, _) = platform.external("child", Some(&lead)).await;
    let (grandchild, _) = platform.external("grandchild", Some(&child)).await;
    let (other, _) = platform.external("other", None).await;
    let check = async |caller: &str, target: &str| {
        let body = json!({"caller_id": caller, "target_id": target});
        platform.post("/registry/check-access", body).send().await.json
    };
    let up = check(&grandchild, &lead).await;
    assert_eq!((&up["allowed"], &up["rule"]), (&json!(true), &json!("ancestor")));
    assert_eq!(up["edge"], json!([grandchild, child, lead]));
    let roots = check(&lead, &other).await;
    assert_eq!((&roots["rule"], &roots["edge"]), (&json!("roots"), &json!([lead, other])));
    let denied = check(&grandchild, &other).await;
    assert_eq!(
        (&denied["allowed"], &denied["rule"], &denied["edge"]),
        (&json!(false), &json!("unrelated"), &json!([]))
    );
    assert!(denied["explanation"].as_str().is_some_and(|text| !text.is_empty()));
    assert_eq!(check("nobody", &lead).await["rule"], "unknown");
}

#[actix_web::test]
async fn who_asks_for_a_removed_workspace_is_sent_to_the_one_that_stands_in_for_it() {
    let platform = Platform::start().await;
    let (asks, token) = platform.external("asks", None).await;
    let (old, _) = platform.external("old", None).await;
    let (new, _) = platform.external("new", None).await;
    let (newer, _) = platform.external("newer", None).await;
    let remove = async |id: &str, query: &str| {
        platform
            .ask(Method::DELETE, &format!("/workspaces/{id}?confirm=true{query}"))
            .bearer(ADMIN)
            .send()
            .await
    };
    let discover = async |id: &str| {
        let request = platform.get(&format!("/registry/discover/{id}")).bearer(&token);
        request.header("x-workspace-id", &asks).send().await
    };
    let unknown = "f0000000-0000-4000-8000-000000000000";
    for (nobody, status) in [(old.as_str(), 409), (unknown, 409), ("x", 400), ("", 400)] {
        let refused = remove(&old, &format!("&forward_to={nobody}")).await;
        assert_eq!((refused.status, &refused.json["field"]), (status, &json!("forward_to")), "{refused:?}");
    }
    assert_eq!(remove(&old, &format!("&forward_to={new}")).await.status, 200);
    let moved = discover(&old).await;
    assert_eq!((moved.status, &moved.json), (301, &json!({"id": old, "forwarded_to": new})));
    assert_eq!(moved.headers["location"], format!("/registry/discover/{new}"));
    let call =
        platform.post(&format!("/workspaces/{old}/a2a"), json!({"method": "m"})).bearer(&token).send().await;
    assert_eq!((call.status, &call.json["forwarded_to"]), (410, &json!(new)));
    let shown = platform.get(&format!("/workspaces/{old}")).send().await;
    assert_eq!((shown.status, &shown.json["forwarded_to"]), (410, &json!(new)));

    assert_eq!(remove(&new, &format!("&forward_to={newer}")).await.status, 200);
    assert_eq!(discover(&new).await.headers["location"], format!("/registry/discover/{newer}"));
    assert_eq!(remove(&newer, "").await.status, 200);
    let gone = discover(&newer).await;
    assert_eq!((gone.says(), &gone.json["forwarded_to"]), ((404, "workspace not found"), &Value::Null));
}
