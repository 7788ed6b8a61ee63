//! What a tracing service says of a workspace, passed on.

use std::net::TcpListener;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use covalence_actors::effect::Secret;
use serde_json::json;

use super::platform::{ADMIN, Platform};
use crate::http::workspaces::traces::Tracing;

/// A Langfuse server that says what it was asked, and by whom.
async fn langfuse(request: HttpRequest) -> HttpResponse {
    let shown = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    let mut answer = HttpResponse::Ok();
    if request.query_string().contains("tags=") && shown.is_none() {
        answer = HttpResponse::Unauthorized();
    }
    answer.json(json!({"data": [], "asked": request.uri().to_string(), "shown": shown}))
}

async fn over(host: String) -> Platform {
    Platform::tuned(move |config| {
        config.tracing = Some(Tracing {
            host: host.parse().unwrap(),
            public_key: "pk".to_owned(),
            secret_key: Secret::new("sk".to_owned()),
        });
    })
    .await
}

#[actix_web::test]
async fn the_service_is_asked_for_one_workspace_with_the_operators_keys_alone() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let server = HttpServer::new(|| App::new().default_service(web::to(langfuse)));
    drop(actix_web::rt::spawn(server.workers(1).disable_signals().listen(socket).unwrap().run()));
    let platform = over(format!("http://127.0.0.1:{port}/langfuse/")).await;
    let (id, token) = platform.external("agent", None).await;
    let reply = platform.get(&format!("/workspaces/{id}/traces?limit=9")).bearer(&token).send().await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let asked = format!("/langfuse/api/public/traces?limit=20&orderBy=timestamp&orderDir=desc&tags={id}");
    assert_eq!(reply.json["asked"], asked);
    assert_eq!(reply.json["shown"], "Basic cGs6c2s=");
    let (_, strangers) = platform.external("stranger", None).await;
    assert_eq!(platform.get(&format!("/workspaces/{id}/traces")).bearer(&strangers).send().await.status, 401);
}

#[actix_web::test]
async fn without_a_service_that_answers_there_are_no_traces() {
    for platform in [Platform::start().await, over("http://127.0.0.1:9".to_owned()).await] {
        let (id, _) = platform.external("agent", None).await;
        let reply = platform.get(&format!("/workspaces/{id}/traces")).bearer(ADMIN).send().await;
        assert_eq!((reply.status, reply.json), (200, json!([])));
    }
}
