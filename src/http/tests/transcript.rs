//! What an agent's runtime keeps of its session, asked of the agent.

use std::net::TcpListener;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::json;

use super::calls::registered;
use super::platform::{ADMIN, Platform};

/// An agent that says what it was asked and with which token.
async fn transcript(request: HttpRequest) -> HttpResponse {
    let token = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    let status = if token.is_some() { 200 } else { 401 };
    HttpResponse::build(actix_web::http::StatusCode::from_u16(status).unwrap())
        .json(json!({"token": token, "asked": request.uri().to_string()}))
}

#[actix_web::test]
async fn the_agent_answers_for_itself_and_is_shown_no_token_but_its_own() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let server = HttpServer::new(|| App::new().default_service(web::to(transcript)))
        .workers(1)
        .disable_signals()
        .listen(socket)
        .unwrap()
        .run();
    drop(actix_web::rt::spawn(server));
    let platform = Platform::tuned(|config| config.surroundings.development = true).await;
    let (id, token) = registered(&platform, "agent", None, port).await;
    let path = format!("/workspaces/{id}/transcript?since=7&limit=20&other=x");
    let own = platform.get(&path).bearer(&token).send().await;
    assert_eq!(own.status, 200, "{own:?}");
    assert_eq!(own.json["asked"], "/transcript?since=7&limit=20");
    assert_eq!(own.json["token"], format!("Bearer {token}"));
    let admins = platform.get(&path).bearer(ADMIN).send().await;
    assert_eq!((admins.status, &admins.json["token"]), (401, &json!(null)), "the admin token stays here");
    let (_, strangers) = platform.external("stranger", None).await;
    assert_eq!(platform.get(&path).bearer(&strangers).send().await.status, 401);

    let (silent, token) = platform.external("silent", None).await;
    let nowhere = platform.get(&format!("/workspaces/{silent}/transcript")).bearer(&token).send().await;
    assert_eq!(nowhere.says(), (503, "workspace has no URL"));
    let (gone, token) = registered(&platform, "gone", None, 9).await;
    let refused = platform.get(&format!("/workspaces/{gone}/transcript")).bearer(&token).send().await;
    assert_eq!(refused.says(), (502, "workspace unreachable"));
}

/// Outside development nobody has the platform call addresses on its own machine.
#[actix_web::test]
async fn an_address_that_an_agent_may_not_have_is_not_asked() {
    let platform = Platform::start().await;
    let (id, token) = registered(&platform, "agent", None, 9).await;
    let refused = platform.get(&format!("/workspaces/{id}/transcript")).bearer(&token).send().await;
    assert_eq!(refused.says(), (400, "workspace URL not allowed"));
}
