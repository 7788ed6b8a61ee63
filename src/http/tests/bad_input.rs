//! Bad input gets the contract's status and text, and nothing is written.

use actix_web::http::Method;
use serde_json::{Value, json};

use super::platform::{ADMIN, Platform};

#[actix_web::test]
async fn a_create_with_a_bad_field_is_refused_and_writes_nothing() {
    let platform = Platform::start().await;
    let head = platform.settled_head().await;
    let fields = "invalid workspace fields";
    let cases: &[(Value, &str, &str)] = &[
        (json!({"name": "a", "runtime": "nonsense"}), fields, "runtime"),
        (json!({"name": "a"}), fields, "runtime"),
        (json!({"name": "n".repeat(256), "runtime": "echo"}), fields, "name"),
        (json!({"name": "a\nb", "runtime": "echo"}), fields, "name"),
        (json!({"name": "a{b}", "runtime": "echo"}), fields, "name"),
        (json!({"name": "a", "runtime": "echo", "role": "r".repeat(1001)}), fields, "role"),
        (json!({"name": "a", "runtime": "echo", "tier": 5}), fields, "tier"),
        (json!({"name": "a", "runtime": "echo", "secrets": {"1K": "V"}}), fields, "secrets"),
        (
            json!({"name": "a", "runtime": "echo", "initial_memories": [{"content": "c"}]}),
            fields,
            "initial_memories",
        ),
        (json!({"name": "", "runtime": "echo"}), "invalid workspace payload", "name"),
        (json!({"name": "a", "runtime": "echo", "template": "../../etc"}), "invalid template", "template"),
        (
            json!({"name": "a", "runtime": "echo", "parent_id": "f0000000-0000-4000-8000-000000000000"}),
            "unknown parent",
            "parent_id",
        ),
        (json!({"name": "a", "runtime": "echo", "parent_id": "nobody"}), "unknown parent", "parent_id"),
        (
            json!({"name": "a", "runtime": "echo", "workspace_dir": "/tmp"}),
            "invalid workspace directory",
            "workspace_dir",
        ),
        (
            json!({"name": "a", "runtime": "echo", "workspace_access": "read_only"}),
            "invalid workspace access",
            "workspace_access",
        ),
        (
            json!({"name": "a", "runtime": "echo", "delivery_mode": "pigeon"}),
            "delivery_mode must be 'push' or 'poll'",
            "delivery_mode",
        ),
        (
            json!({"name": "a", "external": true, "url": "http://10.0.0.1/"}),
            "workspace URL not allowed",
            "url",
        ),
        (
            json!({"name": "a", "external": true, "url": "http://169.254.169.254/"}),
            "workspace URL not allowed",
            "url",
        ),
    ];
    for (body, text, field) in cases {
        let reply = platform.post("/workspaces", body.clone()).bearer(ADMIN).send().await;
        assert_eq!(reply.says(), (400, *text), "{body}: {reply:?}");
        assert_eq!(reply.json["field"], *field, "{reply:?}");
        assert!(reply.is_named(), "{reply:?}");
    }
    assert_eq!(platform.settled_head().await, head);
}

#[actix_web::test]
async fn a_missing_runtime_says_what_to_do_about_it() {
    let platform = Platform::start().await;
    let reply = platform.post("/workspaces", json!({"name": "a"})).bearer(ADMIN).send().await;
    let detail = reply.json["detail"].as_str().unwrap();
    assert!(detail.contains("COVALENCE_DEFAULT_RUNTIME") && detail.contains("echo"), "{detail}");
}

#[actix_web::test]
async fn a_body_that_is_no_json_or_too_long_is_refused_and_writes_nothing() {
    let platform = Platform::start().await;
    let (id, token) = platform.external("agent", None).await;
    let head = platform.settled_head().await;
    let broken = platform.ask(Method::POST, "/workspaces").bearer(ADMIN).body("{").send().await;
    assert_eq!(broken.says(), (400, "invalid workspace payload"));
    let long = platform.ask(Method::POST, "/workspaces").bearer(ADMIN).body(vec![b' '; 2 << 20]).send().await;
    assert_eq!(long.says(), (413, "request body too large"));
    assert!(long.is_named(), "{long:?}");
    let path = format!("/workspaces/{id}/a2a");
    let call = platform.ask(Method::POST, &path).bearer(&token).body(vec![b' '; (16 << 20) + 1]).send().await;
    assert_eq!(call.says(), (413, "request body too large"));
    assert_eq!((&call.json["truncated"], &call.json["max_bytes"]), (&json!(true), &json!(16 << 20)));
    let call = platform.ask(Method::POST, &path).bearer(&token).body("no json").send().await;
    assert_eq!(call.says(), (400, "invalid JSON"));
    assert_eq!(platform.settled_head().await, head);
}

#[actix_web::test]
async fn a_query_or_a_path_that_can_t_be_read_says_why_and_is_named() {
    let platform = Platform::start().await;
    for path in ["/workspaces?limit=many", "/admin/log?after=-1", "/workspaces/%FF"] {
        let reply = platform.get(path).bearer(ADMIN).send().await;
        assert_eq!(reply.says().0, 400, "{path}: {reply:?}");
        assert!(reply.is_named(), "{path}: {reply:?}");
    }
    let reply = platform.get("/admin/log?after=-1").bearer(ADMIN).send().await;
    assert!(reply.json["detail"].as_str().unwrap().contains("invalid digit"), "{reply:?}");
}

#[actix_web::test]
async fn an_id_that_is_no_uuid_is_refused() {
    let platform = Platform::start().await;
    for (method, path) in [
        (Method::GET, "/workspaces/nonsense"),
        (Method::PATCH, "/workspaces/nonsense"),
        (Method::DELETE, "/workspaces/nonsense"),
        (Method::GET, "/workspaces/nonsense/state"),
        (Method::POST, "/workspaces/nonsense/restart"),
    ] {
        let reply = platform.ask(method, path).bearer(ADMIN).send().await;
        assert_eq!(reply.says(), (400, "invalid workspace ID"), "{path}");
    }
}

#[actix_web::test]
async fn a_cycle_in_the_hierarchy_is_refused_and_writes_nothing() {
    let platform = Platform::start().await;
    let (top, _) = platform.external("top", None).await;
    let (middle, _) = platform.external("middle", Some(&top)).await;
    let (bottom, _) = platform.external("bottom", Some(&middle)).await;
    let head = platform.settled_head().await;
    for parent in [&top, &middle, &bottom] {
        let patch = platform.ask(Method::PATCH, &format!("/workspaces/{top}")).bearer(ADMIN);
        let reply = patch.json(json!({"parent_id": parent})).send().await;
        assert_eq!(reply.says(), (409, "a workspace can't be below itself"), "{reply:?}");
        assert_eq!(reply.json["field"], "parent_id");
    }
    assert_eq!(platform.settled_head().await, head);
}

#[actix_web::test]
async fn a_patch_names_its_bad_field_in_words() {
    let platform = Platform::start().await;
    let (id, token) = platform.external("agent", None).await;
    let head = platform.settled_head().await;
    let path = format!("/workspaces/{id}");
    for (body, text) in [
        (json!({"name": "n".repeat(256)}), "name must be at most 255 characters"),
        (json!({"role": "a\nb"}), "role must not contain newline characters"),
        (json!({"name": "fine", "role": "a{b"}), "role contains invalid characters"),
        (json!({"workspace_dir": "/tmp"}), "invalid workspace directory"),
    ] {
        let reply = platform.ask(Method::PATCH, &path).bearer(ADMIN).json(body).send().await;
        assert_eq!(reply.says(), (400, text));
    }
    let tier = platform.ask(Method::PATCH, &path).bearer(&token).json(json!({"tier": 4})).send().await;
    assert_eq!(tier.says(), (403, "a workspace token can't change tier"));
    assert_eq!(platform.settled_head().await, head);
}

#[actix_web::test]
async fn an_agent_s_address_in_a_private_range_is_refused_and_writes_nothing() {
    let platform = Platform::start().await;
    let (id, token) = platform.external("agent", None).await;
    let head = platform.settled_head().await;
    for url in [
        "http://192.168.1.5:8000",
        "http://127.0.0.1:8000",
        "http://[::1]:80",
        "http://169.254.169.254/latest",
    ] {
        let body = json!({"id": id, "url": url, "agent_card": {"name": "a"}, "delivery_mode": "push"});
        let reply = platform.post("/registry/register", body).bearer(&token).send().await;
        assert_eq!(reply.says(), (400, "invalid request body"), "{url}");
        assert_eq!(reply.json["field"], "url");
    }
    assert_eq!(platform.settled_head().await, head);
}

#[actix_web::test]
async fn a_removed_workspace_is_gone_for_everybody_and_stays_silent_in_the_log() {
    let platform = Platform::start().await;
    let (id, token) = platform.external("agent", None).await;
    let path = format!("/workspaces/{id}");
    let removed = platform.ask(Method::DELETE, &path).bearer(ADMIN).send().await;
    assert_eq!(
        (removed.status, removed.text.as_str()),
        (200, "{\"status\":\"removed\",\"cascade_deleted\":0}")
    );
    let head = platform.settled_head().await;

    let shown = platform.get(&path).send().await;
    assert_eq!(shown.says(), (410, "workspace removed"));
    assert!(shown.json["removed_at"].is_string() && shown.json["hint"].is_string(), "{shown:?}");
    assert_eq!(platform.get(&format!("{path}?include_removed=true")).send().await.json["status"], "removed");

    let state = platform.get(&format!("{path}/state")).bearer(&token).send().await;
    assert_eq!(state.status, 404);
    assert_eq!(state.json, json!({"workspace_id": id, "status": "removed", "deleted": true}));

    let register = json!({"id": id, "url": "http://8.8.8.8/", "agent_card": {"name": "a"}});
    assert_eq!(
        platform.post("/registry/register", register).bearer(&token).send().await.says(),
        (410, "workspace removed")
    );
    let call = platform.post(&format!("{path}/a2a"), json!({"method": "m"})).bearer(ADMIN).send().await;
    assert_eq!(call.says(), (410, "workspace removed"));
    let beat = platform.post("/registry/heartbeat", json!({"workspace_id": id})).bearer(&token).send().await;
    assert_eq!(beat.says(), (401, "invalid workspace auth token"));
    assert_eq!(platform.ask(Method::PATCH, &path).bearer(&token).json(json!({})).send().await.status, 401);
    assert_eq!(platform.settled_head().await, head);
}

#[actix_web::test]
async fn nothing_comes_after_the_last_position_that_there_can_be() {
    let platform = Platform::start().await;
    let last = u64::MAX.to_string();
    let page = platform.get(&format!("/admin/log?after={last}")).bearer(ADMIN).send().await;
    assert_eq!((page.status, page.text.as_str()), (200, ""));
    let resumed = platform.get("/admin/log").header("last-event-id", &last).bearer(ADMIN).send().await;
    assert_eq!((resumed.status, resumed.text.as_str()), (200, ""));
}
