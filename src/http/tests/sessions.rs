//! What a session at the control plane opens, and what others answer under our address.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::http::Method;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::{Value, json};

use super::platform::{ADMIN, Ask, Platform};
use crate::http::HttpConfig;

const MEMBER: &str = "theme=dark; session=member";

/// A control plane and a canvas in one: says what it was asked, and who is a member.
struct Upstream {
    base: String,
    asked: Arc<AtomicUsize>,
}

impl Upstream {
    fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", socket.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = web::Data::from(Arc::clone(&asked));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(counted.clone())
                .route("/cp/auth/tenant-member", web::get().to(member))
                .default_service(web::to(echo))
        });
        drop(actix_web::rt::spawn(server.workers(1).disable_signals().listen(socket).unwrap().run()));
        Self { base, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn header(request: &HttpRequest, name: &str) -> Value {
    request.headers().get(name).map_or(Value::Null, |value| value.to_str().unwrap().into())
}

async fn member(request: HttpRequest, asked: web::Data<AtomicUsize>) -> HttpResponse {
    asked.fetch_add(1, Ordering::Relaxed);
    let cookie = header(&request, "cookie");
    if cookie.as_str().unwrap().contains("broken") {
        return HttpResponse::BadGateway().finish();
    }
    let is_member = request.query_string() == "slug=acme" && cookie == MEMBER;
    HttpResponse::Ok().json(json!({"member": is_member, "user_id": if is_member { "u-1" } else { "" }}))
}

async fn echo(request: HttpRequest, body: String) -> HttpResponse {
    HttpResponse::Accepted().insert_header(("x-upstream", "yes")).append_header(("set-cookie", "a=1")).json(
        json!({
            "path": request.uri().to_string(), "method": request.method().as_str(), "body": body,
            "host": header(&request, "host"), "cookie": header(&request, "cookie"),
            "authorization": header(&request, "authorization"),
        }),
    )
}

fn with(upstream: &Upstream, has_canvas: bool) -> impl FnOnce(&mut HttpConfig) + use<> {
    let base: url::Url = upstream.base.parse().unwrap();
    move |config| {
        config.slug = Some("acme".to_owned());
        config.canvas = has_canvas.then(|| base.clone());
        config.control_plane = Some(base);
    }
}

#[actix_web::test]
async fn a_member_s_session_opens_admin_routes_and_is_asked_after_once() {
    let upstream = Upstream::start();
    let platform = Platform::tuned(with(&upstream, false)).await;
    let (agent, _) = platform.external("agent", None).await;
    for _ in 0..3 {
        assert_eq!(platform.get("/workspaces").header("cookie", MEMBER).send().await.status, 200);
        let stranger = platform.get("/workspaces").header("cookie", "session=other").send().await;
        assert_eq!(stranger.says(), (401, "admin auth required"));
    }
    assert_eq!(upstream.asked(), 2, "once for each cookie");
    let made = platform.post("/org/tokens", json!({})).header("cookie", MEMBER).send().await;
    assert_eq!(made.status, 200, "{made:?}");
    let listed = platform.get("/org/tokens").bearer(ADMIN).header("cookie", "session=third").send().await;
    assert_eq!(listed.json["tokens"][0]["created_by"], "session");
    assert_eq!(upstream.asked(), 2, "nobody is asked about a cookie beside the admin token");
    // A failed bearer does not spoil it here, and it does not open a workspace's own routes.
    let both = platform.get("/workspaces").bearer("wrong").header("cookie", MEMBER).send().await;
    assert_eq!(both.status, 200);
    let details = platform.get(&format!("/workspaces/{agent}/details")).header("cookie", MEMBER).send().await;
    assert_eq!(details.says(), (401, "missing workspace auth token"));
    let peers = |cookie| platform.get(&format!("/registry/{agent}/peers")).header("cookie", cookie).send();
    assert_eq!(peers(MEMBER).await.status, 200);
    assert_eq!(peers("session=other").await.says(), (401, "invalid session"));
    let broken = platform.get("/workspaces").header("cookie", "broken");
    assert_eq!(broken.send().await.status, 401, "who can't be asked about is no member");
}

#[actix_web::test]
async fn our_own_canvas_opens_a_workspace_s_routes_with_a_session_and_not_without() {
    let upstream = Upstream::start();
    let platform = Platform::tuned(with(&upstream, true)).await;
    let (agent, _) = platform.external("agent", None).await;
    let details = format!("/workspaces/{agent}/details");
    let page = format!("{}/team", platform.base);
    let of_canvas = |ask: Ask| ask.header("cookie", MEMBER).header("referer", &page);
    assert_eq!(of_canvas(platform.get(&details)).send().await.status, 200);
    let origin = platform.get(&details).header("cookie", MEMBER).header("origin", &platform.base);
    assert_eq!(origin.send().await.status, 200);
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {"message": {
        "messageId": "m", "role": "user", "parts": [{"kind": "text", "text": "hello"}]}}});
    let call = || platform.post(&format!("/workspaces/{agent}/a2a"), message.clone());
    assert_eq!(call().send().await.status, 401);
    assert!(of_canvas(call()).send().await.status < 400);
    assert_eq!(of_canvas(platform.get("/ws")).send().await.status, 400, "let in, and no handshake");
    let missing = (401, "missing workspace auth token");
    for (name, value) in [("referer", page.as_str()), ("cookie", MEMBER), ("x-nothing", "")] {
        assert_eq!(platform.get(&details).header(name, value).send().await.says(), missing, "{name} alone");
    }
    let elsewhere = format!("{}.evil.example/", platform.base);
    let foreign = platform.get(&details).header("cookie", MEMBER).header("referer", &elsewhere).send().await;
    assert_eq!(foreign.says(), missing, "another page's");
    let wrong = of_canvas(platform.get(&details)).bearer("wrong").send().await;
    assert_eq!(wrong.says(), (401, "invalid workspace auth token"), "a wrong bearer is never rescued");
    let values = of_canvas(platform.get(&format!("/workspaces/{agent}/secrets/values"))).send().await;
    assert_eq!(values.says(), missing, "nobody but the agent reads values");
}

#[actix_web::test]
async fn the_control_plane_answers_below_cp_with_the_caller_s_credentials_as_far_as_callers_go() {
    let upstream = Upstream::start();
    let platform = Platform::tuned(with(&upstream, false)).await;
    let asked = platform.ask(Method::POST, "/cp/orgs/acme?x=1").bearer("theirs").header("cookie", "c=1");
    let answer = asked.body("some body").send().await;
    assert_eq!((answer.status, answer.headers["x-upstream"].as_str()), (202, "yes"));
    assert_eq!(answer.headers["set-cookie"], "a=1");
    let host = upstream.base.strip_prefix("http://").unwrap();
    assert_eq!(
        answer.json,
        json!({"path": "/cp/orgs/acme?x=1", "method": "POST", "body": "some body", "host": host, "cookie": "c=1",
               "authorization": "Bearer theirs"})
    );
    for path in ["/cp/admin/partner-keys", "/cp/workspaces/provision", "/cp/auth/%2e%2e/admin/x", "/cp"] {
        assert_eq!(platform.get(path).send().await.says(), (404, "404 page not found"), "{path}");
    }
    let without = Platform::start().await;
    assert_eq!(without.get("/cp/orgs").send().await.says(), (404, "404 page not found"));
    let down = Platform::tuned(|config| config.control_plane = "http://127.0.0.1:1".parse().ok()).await;
    assert_eq!(down.get("/cp/orgs").send().await.says(), (502, "control plane unavailable"));
}

#[actix_web::test]
async fn the_canvas_is_served_where_no_route_is_and_gets_nobody_s_credentials() {
    let upstream = Upstream::start();
    let tune = with(&upstream, true);
    let platform = Platform::tuned(|config| {
        tune(config);
        config.organisation = Some("acme".to_owned());
    })
    .await;
    let page = platform.get("/team/lead").bearer(ADMIN).header("cookie", MEMBER);
    assert_eq!(page.send().await.status, 404, "a page is a tenant's, too");
    let own = format!("{}/", platform.base);
    let page = platform.get("/team/lead").bearer(ADMIN).header("cookie", MEMBER).header("referer", &own);
    let page = page.send().await;
    assert_eq!((page.status, &page.json["path"]), (202, &json!("/team/lead")));
    assert_eq!((&page.json["authorization"], &page.json["cookie"]), (&Value::Null, &Value::Null));
    let ours = platform.get("/workspaces").bearer(ADMIN).header("referer", &own).send().await;
    assert_eq!((ours.status, ours.text.starts_with('[')), (200, true), "our routes stay ours: {ours:?}");
    let down = Platform::tuned(|config| config.canvas = "http://127.0.0.1:1".parse().ok()).await;
    assert_eq!(down.get("/team").send().await.says(), (502, "canvas unavailable"));
}
