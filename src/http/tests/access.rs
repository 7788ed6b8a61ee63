//! Who gets in: gates, hosts, origins, budgets, and what every answer carries.

use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpResponse, test, web};
use serde_json::json;

use super::platform::{ADMIN, Platform, state};
use crate::http::edge;

#[actix_web::test]
async fn admin_routes_take_the_admin_token_and_nothing_else() {
    let platform = Platform::start().await;
    let (id, token) = platform.external("agent", None).await;
    let head = platform.settled_head().await;
    for (method, path) in [
        (Method::GET, "/workspaces".to_owned()),
        (Method::POST, "/workspaces".to_owned()),
        (Method::DELETE, format!("/workspaces/{id}")),
        (Method::POST, format!("/workspaces/{id}/erase")),
        (Method::GET, "/events".to_owned()),
        (Method::GET, format!("/events/{id}")),
        (Method::GET, "/admin/log".to_owned()),
        (Method::GET, "/admin/liveness".to_owned()),
        (Method::GET, "/admin/strangers".to_owned()),
        (Method::GET, "/admin/projections".to_owned()),
        (Method::POST, "/admin/projections/rebuild".to_owned()),
        (Method::GET, "/admin/supervision".to_owned()),
        (Method::GET, "/admin/holds".to_owned()),
        (Method::POST, "/admin/holds".to_owned()),
        (Method::DELETE, format!("/admin/holds/{id}")),
        (Method::POST, "/admin/emergency-stop".to_owned()),
        (Method::POST, "/admin/brakes/process/release".to_owned()),
        (Method::GET, "/admin/policy".to_owned()),
        (Method::PUT, "/admin/policy".to_owned()),
        (Method::POST, "/admin/policy/check".to_owned()),
        (Method::POST, "/admin/policy/rollback".to_owned()),
        (Method::POST, "/admin/backtest".to_owned()),
        (Method::PUT, "/admin/mode".to_owned()),
        (Method::GET, "/incidents".to_owned()),
        (Method::POST, "/incidents".to_owned()),
        (Method::GET, "/incidents/span".to_owned()),
        (Method::GET, format!("/incidents/{id}")),
        (Method::POST, format!("/incidents/{id}/notes")),
        (Method::POST, format!("/incidents/{id}/close")),
        (Method::POST, format!("/workspaces/{id}/quarantine/lift")),
        (Method::PUT, format!("/workspaces/{id}/strategy")),
    ] {
        let ask = || platform.ask(method.clone(), &path);
        let nobody = ask().send().await;
        assert_eq!(nobody.says(), (401, "admin auth required"), "{path}");
        assert!(nobody.headers["www-authenticate"].starts_with("Bearer"));
        for wrong in [token.as_str(), "wrong", &ADMIN[1..]] {
            assert_eq!(ask().bearer(wrong).send().await.says(), (401, "invalid admin auth token"), "{path}");
        }
    }
    assert_eq!(platform.settled_head().await, head);
    assert_eq!(platform.get("/workspaces").bearer(ADMIN).send().await.status, 200);
}

#[actix_web::test]
async fn a_workspace_s_routes_take_its_own_token_or_the_admin_s() {
    let platform = Platform::start().await;
    let (id, token) = platform.external("one", None).await;
    let (_, other) = platform.external("two", None).await;
    let head = platform.settled_head().await;
    for (method, route) in [
        (Method::PATCH, ""),
        (Method::POST, "/restart"),
        (Method::POST, "/pause"),
        (Method::GET, "/details"),
        (Method::GET, "/supervision"),
    ] {
        let path = format!("/workspaces/{id}{route}");
        let ask = || platform.ask(method.clone(), &path);
        assert_eq!(ask().send().await.says(), (401, "missing workspace auth token"), "{path}");
        assert_eq!(
            ask().bearer("wrong").send().await.says(),
            (401, "invalid workspace auth token"),
            "{path}"
        );
        assert_eq!(ask().bearer(&other).send().await.says(), (401, "invalid workspace auth token"), "{path}");
    }
    assert_eq!(platform.settled_head().await, head);
    let state = format!("/workspaces/{id}/state");
    assert_eq!(platform.get(&state).bearer(ADMIN).send().await.says(), (401, "invalid workspace auth token"));
    let own = platform.get(&state).bearer(&token).send().await;
    assert_eq!(
        own.json,
        json!({"workspace_id": id, "status": "awaiting_agent", "paused": false, "deleted": false})
    );
    let lower = platform.get(&state).header("authorization", &format!("bearer {token}")).send().await;
    assert_eq!(lower.says(), (401, "missing workspace auth token"), "the scheme is case-sensitive");
}

#[actix_web::test]
async fn development_opens_loopback_but_never_rescues_a_bad_bearer() {
    let platform = Platform::open().await;
    let list = platform.get("/workspaces").send().await;
    assert_eq!((list.status, list.text.as_str()), (200, "[]"));
    assert_eq!(list.headers["x-ratelimit-limit"], "unlimited");
    let (id, _) = platform.external("agent", None).await;
    let path = format!("/workspaces/{id}");
    let patch = || platform.ask(Method::PATCH, &path).json(json!({"role": "r"}));
    assert_eq!(patch().send().await.text, "{\"status\":\"updated\"}");
    assert_eq!(patch().bearer("wrong").send().await.says(), (401, "invalid workspace auth token"));
}

#[actix_web::test]
async fn one_look_at_a_workspace_is_open_and_shows_nothing_private() {
    let platform = Platform::start().await;
    let (id, _) = platform.external("agent", None).await;
    let row = platform.get(&format!("/workspaces/{id}/")).send().await;
    assert_eq!((row.status, &row.json["name"]), (200, &json!("agent")));
    for private in ["budget_limit", "monthly_spend", "current_task", "last_sample_error", "workspace_dir"] {
        assert!(row.json.get(private).is_none(), "{private}");
    }
    let listed = platform.get("/workspaces").bearer(ADMIN).send().await;
    for key in
        ["budget_limit", "monthly_spend", "current_task", "last_sample_error", "workspace_dir", "x", "url"]
    {
        assert!(listed.json[0].get(key).is_some(), "{key}");
    }
}

#[actix_web::test]
async fn a_foreign_host_or_page_is_turned_away_before_anything_happens() {
    let platform =
        Platform::tuned(|config| config.cors_origins.push("https://canvas.example".to_owned())).await;
    let head = platform.settled_head().await;
    let create = || platform.post("/workspaces", json!({"name": "a", "runtime": "echo"})).bearer(ADMIN);
    assert_eq!(create().header("host", "evil.example").send().await.says(), (403, "host not allowed"));
    for page in ["http://evil.example", "null", "https://localhost:3000"] {
        let reply = create().header("origin", page).send().await;
        assert_eq!(reply.says(), (403, "origin not allowed"), "{page}");
        assert!(reply.is_named() && reply.json["code"] == "foreign_origin", "{reply:?}");
    }
    assert_eq!(platform.settled_head().await, head);
    for host in ["localhost", "host.docker.internal:8080", "[::1]:80", "canvas.example:8443"] {
        assert_eq!(platform.get("/health").header("host", host).send().await.status, 200, "{host}");
    }
    let same = platform.get("/health").header("origin", &platform.base).send().await;
    assert!(same.status == 200 && !same.headers.contains_key("access-control-allow-origin"));
    let page = "http://localhost:3000";
    let allowed = platform.get("/health").header("origin", page).send().await;
    assert_eq!((allowed.status, allowed.headers["access-control-allow-origin"].as_str()), (200, page));
    let preflight = platform.ask(Method::OPTIONS, "/workspaces").header("origin", page);
    let preflight = preflight.header("access-control-request-method", "POST").send().await;
    assert_eq!(
        (preflight.status, preflight.headers["access-control-allow-credentials"].as_str()),
        (204, "true")
    );
}

#[actix_web::test]
async fn a_spent_budget_is_a_429_and_heartbeats_have_their_own() {
    let platform = Platform::tuned(|config| config.rate_limit = 3).await;
    for left in ["2", "1", "0"] {
        let reply = platform.get("/health").send().await;
        assert_eq!((reply.status, reply.headers["x-ratelimit-remaining"].as_str()), (200, left));
    }
    let over = platform.get("/health").send().await;
    assert_eq!(over.says(), (429, "rate limit exceeded"));
    assert_eq!(over.json["request_id"], over.headers["x-request-id"]);
    assert_eq!(over.headers["retry-after"], over.json["retry_after"].to_string());
    let beat =
        platform.post("/registry/heartbeat", json!({"workspace_id": "f0000000-0000-4000-8000-000000000000"}));
    assert_eq!(beat.send().await.status, 200);
    assert_eq!(
        platform.get("/workspaces").bearer(ADMIN).send().await.status,
        200,
        "a token has its own budget"
    );
}

#[actix_web::test]
async fn what_is_not_there_is_the_contract_s_404() {
    let platform = Platform::start().await;
    for (method, path) in
        [(Method::GET, "/nothing"), (Method::PUT, "/workspaces"), (Method::GET, "/registry/register")]
    {
        let reply = platform.ask(method, path).send().await;
        assert_eq!(reply.says(), (404, "404 page not found"), "{path}");
        assert!(reply.is_named() && reply.json["code"] == "no_route", "{reply:?}");
    }
}

#[actix_web::test]
async fn health_says_ok_and_every_answer_carries_the_security_headers() {
    let platform = Platform::start().await;
    let health = platform.get("/health").header("x-request-id", "mine-1").send().await;
    assert!(health.status == 200 && health.text.starts_with("{\"status\":\"ok\""), "{health:?}");
    assert_eq!(health.headers["x-request-id"], "mine-1");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("content-security-policy", "default-src 'self'"),
        ("referrer-policy", "strict-origin-when-cross-origin"),
    ] {
        assert_eq!(health.headers[name], value);
    }
    assert_eq!(platform.ask(Method::HEAD, "/health").send().await.status, 200);
    assert_eq!(platform.get("/ready").send().await.json["status"], "ready");
    let liveness = platform.get("/admin/liveness").bearer(ADMIN).send().await;
    assert_eq!(liveness.json["stuck"], false);
    for name in ["deadlines", "outcomes", "watchdog", "observer-external"] {
        let subsystem = &liveness.json["subsystems"][name];
        assert!(subsystem["seconds_ago"].is_u64() && subsystem["stuck"] == false, "{name}: {liveness:?}");
    }
    platform.get("/workspaces/f0000000-0000-4000-8000-000000000000").send().await;
    let metrics = platform.get("/metrics").send().await.text;
    assert!(
        metrics
            .contains("molecule_http_requests_total{method=\"GET\",path=\"/workspaces/:id\",status=\"404\"}"),
        "{metrics}"
    );
}

#[actix_web::test]
async fn a_tenant_s_installation_hides_from_others() {
    let platform = Platform::tuned(|config| config.organisation = Some("acme".to_owned())).await;
    let nobody = platform.get("/workspaces").bearer(ADMIN).send().await;
    assert_eq!(nobody.says(), (404, "404 page not found"), "as if nothing were there");
    assert!(nobody.is_named(), "{nobody:?}");
    let named = platform.get("/workspaces").bearer(ADMIN).header("x-molecule-org-id", "acme").send().await;
    assert_eq!(named.status, 200);
    let replayed = platform
        .get("/workspaces")
        .bearer(ADMIN)
        .header("fly-replay-src", "instance=1;state=acme")
        .send()
        .await;
    assert_eq!(replayed.status, 200);
    assert_eq!(platform.get("/health").send().await.status, 200);
}

async fn boom() -> HttpResponse {
    panic!("on purpose")
}

#[actix_web::test]
async fn a_handler_that_panics_is_a_500_with_the_request_s_id() {
    let app = App::new()
        .app_data(web::Data::from(state(|_| {}).await))
        .service(web::resource("/boom").to(boom))
        .wrap(from_fn(edge::pass));
    let app = test::init_service(app).await;
    let request = test::TestRequest::get().uri("/boom").insert_header(("x-request-id", "r-1")).to_request();
    let error = test::try_call_service(&app, request).await.unwrap_err();
    let response = error.error_response();
    assert_eq!(
        (response.status().as_u16(), response.headers().get("x-request-id").unwrap().to_str().unwrap()),
        (500, "r-1")
    );
    let body = actix_web::body::to_bytes(response.into_body()).await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body, json!({"error": "internal error", "code": "internal", "request_id": "r-1"}));
}

#[actix_web::test]
async fn a_repeated_post_with_the_same_key_is_one_post() {
    let platform = Platform::start().await;
    let post = |name: &str, key: &str| {
        platform
            .post("/workspaces", json!({"name": name, "external": true}))
            .bearer(ADMIN)
            .header("idempotency-key", key)
    };
    let (first, second) = futures_util::join!(post("a", "k1").send(), post("a", "k1").send());
    assert_eq!((first.status, second.status), (201, 201));
    assert_eq!(first.json, second.json);
    let replayed = post("a", "k1").send().await;
    assert_eq!((replayed.json, replayed.headers["idempotency-replayed"].as_str()), (first.json, "true"));
    assert_eq!(post("b", "k1").send().await.says(), (422, "Idempotency-Key was used with another body"));
    assert_eq!(post("b", "k2").send().await.status, 201);
    assert_eq!(platform.get("/workspaces").bearer(ADMIN).send().await.json.as_array().unwrap().len(), 2);
}
