//! Creating, restarting, pausing, removing; and the raw log that says so.

use actix_web::http::Method;
use serde_json::{Value, json};

use super::platform::{ADMIN, Platform, Reply};

pub(super) async fn beat(platform: &Platform, id: &str) {
    platform.wait_for(id, "provisioning").await;
    // The backend of these platforms starts nothing, so nobody has the instance's token: the write side is told directly.
    let beat = covalence_events::workspace::HeartbeatReceived::default();
    let command = covalence_actors::workspace::Command::Heartbeat(Box::new(beat));
    let origin = covalence_actors::context::Origin::new(covalence_events::Principal::Anonymous);
    platform.state.runtime.command(id.parse().unwrap(), command, origin).await.unwrap();
    platform.wait_for(id, "online").await;
}

async fn act(platform: &Platform, id: &str, act: &str) -> Reply {
    platform.ask(Method::POST, &format!("/workspaces/{id}/{act}")).bearer(ADMIN).send().await
}

#[actix_web::test]
async fn a_created_workspace_is_provisioned_and_read_back_at_once() {
    let platform = Platform::start().await;
    let wish = json!({"name": "echo", "runtime": "echo", "role": "repeats", "canvas": {"x": 1.5, "y": 2}, "tier": 0});
    let reply = platform.post("/workspaces", wish).bearer(ADMIN).send().await;
    assert_eq!((reply.status, &reply.json["status"]), (201, &json!("provisioning")));
    let id = reply.json["id"].as_str().unwrap();
    assert_eq!(reply.json["awareness_namespace"], format!("workspace:{id}"));
    let row = &platform.get("/workspaces").bearer(ADMIN).send().await.json[0];
    assert_eq!(
        (&row["role"], &row["x"], &row["tier"], &row["runtime"]),
        (&json!("repeats"), &json!(1.5), &json!(2), &json!("echo"))
    );
    beat(&platform, id).await;
}

#[actix_web::test]
async fn a_taken_name_gets_a_suffix_and_in_the_end_a_409() {
    let platform = Platform::start().await;
    for n in 1..=20 {
        let id = platform.create(json!({"name": "twin", "external": true})).await;
        let expected = if n == 1 { "twin".to_owned() } else { format!("twin ({n})") };
        assert_eq!(platform.get(&format!("/workspaces/{id}")).send().await.json["name"], expected);
    }
    let reply =
        platform.post("/workspaces", json!({"name": "twin", "external": true})).bearer(ADMIN).send().await;
    assert_eq!(reply.says(), (409, "workspace name already in use; please pick a different name"));
}

#[actix_web::test]
async fn a_list_has_pages() {
    let platform = Platform::start().await;
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        ids.push(platform.external(name, None).await.0);
    }
    let page = |query: &str| platform.get(&format!("/workspaces{query}")).bearer(ADMIN).send();
    let names = |reply: Reply| {
        reply.json.as_array().unwrap().iter().map(|row| row["name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(page("?limit=2").await), ["a", "b"]);
    assert_eq!(names(page(&format!("?after={}", ids[1])).await), ["c"]);
    assert_eq!(page("?after=x").await.says(), (400, "invalid workspace ID"));
}

#[actix_web::test]
async fn a_person_s_restart_is_granted_and_names_its_decision() {
    let platform = Platform::start().await;
    let id = platform.create(json!({"name": "echo", "runtime": "echo"})).await;
    beat(&platform, &id).await;
    let reply = act(&platform, &id, "restart?reset=true").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(
        (&reply.json["status"], &reply.json["config_dir"]),
        (&json!("provisioning"), &json!("existing-volume"))
    );
    assert_eq!(reply.json["reset_session"], true);
    let log = platform.get("/admin/log?type=fleet.restart_admitted").bearer(ADMIN).send().await.text;
    let admitted: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!((&admitted["id"], &admitted["workspace"]), (&reply.json["decision"], &json!(id)));
    let broken =
        platform.ask(Method::POST, &format!("/workspaces/{id}/restart")).bearer(ADMIN).body("{").send().await;
    assert_eq!(broken.says(), (400, "invalid JSON body"));
    let unknown = act(&platform, "f0000000-0000-4000-8000-000000000000", "restart").await;
    assert_eq!(unknown.says(), (404, "workspace not found"));
}

#[actix_web::test]
async fn an_external_workspace_s_restart_is_a_noop() {
    let platform = Platform::start().await;
    let (id, token) = platform.external("agent", None).await;
    let reply = platform.ask(Method::POST, &format!("/workspaces/{id}/restart")).bearer(&token).send().await;
    assert_eq!(
        (reply.status, &reply.json["status"], &reply.json["runtime"]),
        (200, &json!("noop"), &json!("external"))
    );
}

#[actix_web::test]
async fn pausing_a_parent_needs_a_word_about_its_children() {
    let platform = Platform::start().await;
    let lead = platform.create(json!({"name": "lead", "runtime": "echo"})).await;
    let child = platform.create(json!({"name": "child", "runtime": "echo", "parent_id": lead})).await;
    beat(&platform, &lead).await;
    beat(&platform, &child).await;
    let asked = act(&platform, &lead, "pause").await;
    assert_eq!(asked.says(), (409, "workspace has descendants — use ?cascade=true to pause all"));
    assert_eq!(asked.json["descendants"], json!([{"id": child, "name": "child"}]));
    assert_eq!(
        act(&platform, &lead, "pause?cascade=true").await.text,
        "{\"status\":\"paused\",\"paused_count\":2}"
    );
    assert_eq!(act(&platform, &lead, "pause").await.says(), (404, "workspace not found or already paused"));
    assert_eq!(
        act(&platform, &child, "resume").await.says(),
        (409, "parent workspace \"lead\" is paused — resume it first")
    );
    assert_eq!(
        act(&platform, &lead, "resume?cascade=true").await.text,
        "{\"status\":\"provisioning\",\"resumed_count\":2}"
    );
    assert_eq!(act(&platform, &lead, "resume").await.says(), (404, "workspace not found or not paused"));
}

#[actix_web::test]
async fn removing_a_parent_needs_a_word_and_takes_everything_below_with_it() {
    let platform = Platform::start().await;
    let lead = platform.create(json!({"name": "lead", "runtime": "echo"})).await;
    let child = platform.create(json!({"name": "child", "runtime": "echo", "parent_id": lead})).await;
    beat(&platform, &child).await;
    let head = platform.settled_head().await;
    let path = format!("/workspaces/{lead}");
    let delete = |query: &str| platform.ask(Method::DELETE, &format!("{path}{query}")).bearer(ADMIN).send();
    let asked = delete("").await;
    assert_eq!((asked.status, &asked.json["status"]), (409, &json!("confirmation_required")));
    assert_eq!(
        (&asked.json["children"], &asked.json["children_count"]),
        (&json!([{"id": child, "name": "child"}]), &json!(1))
    );
    assert_eq!(platform.settled_head().await, head);
    assert_eq!(delete("?confirm=true").await.text, "{\"status\":\"removed\",\"cascade_deleted\":1}");
    assert_eq!(platform.get("/workspaces").bearer(ADMIN).send().await.text, "[]");
    assert_eq!(delete("?confirm=true").await.json["status"], "removed", "repeating it is harmless");
    let unknown =
        platform.ask(Method::DELETE, "/workspaces/f0000000-0000-4000-8000-000000000000").bearer(ADMIN);
    assert_eq!(unknown.send().await.text, "{\"status\":\"removed\",\"cascade_deleted\":0}");
}

#[actix_web::test]
async fn the_raw_log_is_read_in_pages_and_as_a_stream() {
    use futures_util::StreamExt as _;

    let platform = Platform::start().await;
    let (id, _) = platform.external("agent", None).await;
    let log = |query: &str| platform.get(&format!("/admin/log{query}")).bearer(ADMIN);
    let whole = log(&format!("?workspace={id}")).send().await;
    let lines: Vec<Value> = whole.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["type"], &lines[0]["workspace"]), (&json!("workspace.created.v1"), &json!(id)));
    let first = lines[0]["position"].as_u64().unwrap();
    let rest = log(&format!("?after={first}&workspace={id}&limit=1")).send().await;
    assert_eq!(serde_json::from_str::<Value>(rest.text.trim()).unwrap()["position"], lines[1]["position"]);
    assert_eq!(log("?after=100000").send().await.text, "");
    assert_eq!(log("?since=yesterday").send().await.says(), (400, "invalid filter"));

    let sse = log(&format!("?workspace={id}"))
        .header("accept", "text/event-stream")
        .header("last-event-id", &first.to_string());
    let mut stream = sse.open().await;
    let piece = stream.next().await.unwrap().unwrap();
    let second = lines[1]["position"].as_u64().unwrap();
    assert!(piece.starts_with(format!("id: {second}\ndata: {{").as_bytes()), "{piece:?}");
}

#[actix_web::test]
async fn a_stream_of_the_log_ends_after_as_many_facts_as_were_asked_for() {
    let platform = Platform::start().await;
    let (id, _) = platform.external("agent", None).await;
    let log = |query: &str| platform.get(&format!("/admin/log?workspace={id}{query}")).bearer(ADMIN);
    let whole = log("").send().await.text.lines().count();
    assert!(whole > 1, "there is more than is asked for");
    let events = log("&limit=1").header("accept", "text/event-stream").send().await;
    assert_eq!(events.text.matches("\ndata: ").count(), 1, "{}", events.text);
    let lines = log(&format!("&follow=true&limit={whole}")).send().await;
    assert_eq!(lines.text.lines().count(), whole, "{}", lines.text);
}

#[actix_web::test]
async fn a_type_that_names_nothing_is_refused_with_the_types_that_there_are() {
    let platform = Platform::start().await;
    let log = |query: &str| platform.get(&format!("/admin/log{query}")).bearer(ADMIN);
    for query in ["?type=went_offline", "?type=workspace.levitated.v1&follow=true"] {
        let reply = log(query).send().await;
        assert_eq!(reply.says(), (400, "invalid filter"), "{query}");
        assert_eq!((&reply.json["field"], &reply.json["code"]), (&json!("type"), &json!("invalid_filter")));
        let detail = reply.json["detail"].as_str().unwrap();
        assert!(detail.contains("workspace.went_offline.v1") && detail.contains("fleet."), "{detail}");
    }
    for query in ["?type=workspace.went_offline.v1", "?type=workspace.", "?type="] {
        assert_eq!(log(query).send().await.status, 200, "{query}");
    }
}

#[actix_web::test]
async fn an_agent_s_output_is_for_its_operator_and_itself() {
    let platform = Platform::start().await;
    let id = platform.create(json!({"name": "echo", "runtime": "echo"})).await;
    let path = format!("/admin/workspaces/{id}/logs?tail=5");
    assert_eq!(platform.get(&path).bearer(ADMIN).send().await.text, "one line\n");
    assert_eq!(platform.get(&path).send().await.says(), (401, "missing workspace auth token"));
    let (external, token) = platform.external("agent", None).await;
    let elsewhere = platform.get(&format!("/admin/workspaces/{external}/logs")).bearer(&token).send().await;
    assert_eq!((elsewhere.status, &elsewhere.json["code"]), (409, &json!("no_logs")));
    let strangers = platform.get("/admin/strangers").bearer(ADMIN).send().await;
    assert_eq!((strangers.status, strangers.text.as_str()), (200, "[]"));
    let known =
        platform.ask(Method::DELETE, &format!("/admin/strangers/process/{id}:1")).bearer(ADMIN).send().await;
    assert_eq!(
        (known.status, &known.json["code"]),
        (404, &json!("not_a_stranger")),
        "what the log knows is no stranger"
    );
}
