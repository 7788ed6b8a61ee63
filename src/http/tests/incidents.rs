//! Explanations and timelines over HTTP: who may ask, what is refused and how, and that pages follow each other.

use actix_web::http::Method;
use serde_json::{Value, json};

use super::lifecycle::beat;
use super::platform::{ADMIN, Platform, Reply};

async fn ask(platform: &Platform, path: &str) -> Reply {
    platform.get(path).bearer(ADMIN).send().await
}

async fn get(platform: &Platform, path: &str) -> Value {
    let reply = ask(platform, path).await;
    assert_eq!(reply.status, 200, "{path}: {reply:?}");
    reply.json
}

async fn online(platform: &Platform, name: &str) -> String {
    let id = platform.create(json!({"name": name, "runtime": "echo"})).await;
    beat(platform, &id).await;
    id
}

#[actix_web::test]
async fn a_restart_is_explained_from_its_wish_and_from_each_of_its_facts() {
    let platform = Platform::start().await;
    let id = online(&platform, "lead").await;
    let path = format!("/workspaces/{id}/restart");
    let asked = platform.ask(Method::POST, &path).bearer(ADMIN).json(json!({})).send().await;
    assert_eq!(asked.status, 200, "{asked:?}");
    beat(&platform, &id).await;
    platform.settled_head().await;

    let explained = get(&platform, &format!("/workspaces/{id}/explain")).await;
    let summary = explained["summary"].as_str().unwrap();
    assert!(summary.starts_with("lead was to be restarted because admin asked"), "{summary}");
    let steps = explained["steps"].as_array().unwrap();
    let admission = steps.iter().find(|step| step["word"] == "restart_admitted").unwrap();
    assert_eq!(admission["id"], asked.json["decision"]);
    assert!(admission["numbers"]["tokens"].is_number(), "{admission}");
    for which in [&admission["position"], &admission["id"]] {
        let which = which.as_str().map_or_else(|| which.to_string(), str::to_owned);
        let whole = get(&platform, &format!("/admin/explain?event={which}")).await;
        assert_eq!(whole["steps"], explained["steps"], "{which}");
    }
    let before = admission["position"].as_u64().unwrap() - 2;
    let then = get(&platform, &format!("/workspaces/{id}/explain?at={before}")).await;
    assert_eq!(then["position"], before);
    assert_eq!(then["reasons"][0]["rule"], "nothing_against_it", "{then}");
}

#[actix_web::test]
async fn a_timeline_comes_in_pages_and_only_about_whom_was_asked() {
    let platform = Platform::start().await;
    let lead = online(&platform, "lead").await;
    online(&platform, "coder").await;
    let whole = get(&platform, "/admin/timeline").await;
    let names = |timeline: &Value| {
        let lanes = timeline["lanes"].as_array().unwrap();
        lanes.iter().map(|lane| lane["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(names(&whole).contains(&"coder".to_owned()), "{whole}");
    let only = get(&platform, &format!("/admin/timeline?workspace={lead}")).await;
    assert!(names(&only).contains(&"lead".to_owned()) && !names(&only).contains(&"coder".to_owned()));

    let first = get(&platform, "/admin/timeline?limit=2&since=1").await;
    assert_eq!(first["lines"].as_array().unwrap().len(), 2);
    let after = &first["next_after"];
    let second = get(&platform, &format!("/admin/timeline?since=1&after={after}")).await;
    assert!(second["lines"][0]["position"].as_u64() > after.as_u64(), "{second}");
}

#[actix_web::test]
async fn what_can_not_be_answered_names_the_field_and_what_is_allowed() {
    let platform = Platform::start().await;
    let id = online(&platform, "lead").await;
    let nobody = "0b8f2a54-1111-4222-8333-444455556666";
    for (path, status, field, detail) in [
        (format!("/workspaces/{id}/explain?at=soon"), 400, "at", "RFC 3339"),
        (format!("/workspaces/{id}/explain?at=2001-01-01T00:00:00Z"), 404, "at", "created later"),
        ("/admin/explain".to_owned(), 400, "event", "UUID"),
        ("/admin/explain?event=999999".to_owned(), 404, "event", "999999"),
        (format!("/admin/explain?event={nobody}"), 404, "event", nobody),
        ("/admin/timeline?since=soon".to_owned(), 400, "since", "RFC 3339"),
        ("/admin/case".to_owned(), 400, "since", "a position"),
        ("/admin/case?since=2&until=1".to_owned(), 400, "since", "before `until`"),
        ("/admin/timeline?since=2&until=1".to_owned(), 400, "since", "before `until`"),
        ("/admin/timeline?limit=0".to_owned(), 400, "limit", "1 to 5000"),
        ("/admin/timeline?workspace=lead".to_owned(), 400, "workspace", "commas"),
    ] {
        let reply = ask(&platform, &path).await;
        assert_eq!((reply.status, &reply.json["field"]), (status, &json!(field)), "{path}: {reply:?}");
        assert!(reply.json["detail"].as_str().unwrap().contains(detail), "{path}: {reply:?}");
    }
    let unknown = ask(&platform, &format!("/workspaces/{nobody}/explain")).await;
    assert_eq!(unknown.says(), (404, "workspace not found"));
    let missing = ask(&platform, &format!("/incidents/{nobody}/case")).await;
    assert_eq!((missing.status, &missing.json["code"]), (404, &json!("incident_not_found")), "{missing:?}");
    let unnamed = ask(&platform, "/incidents/last/case").await;
    assert_eq!((unnamed.status, &unnamed.json["field"]), (400, &json!("id")), "{unnamed:?}");
    for path in [
        &*format!("/workspaces/{id}/explain"),
        "/admin/explain?event=1",
        "/admin/timeline",
        &*format!("/incidents/{nobody}/case"),
    ] {
        assert_eq!(platform.get(path).send().await.status, 401, "{path}");
    }
}

#[actix_web::test]
async fn an_incident_is_opened_noted_on_closed_once_and_looked_into() {
    let platform = Platform::start().await;
    let id = online(&platform, "lead").await;
    let post = async |path: &str, body: Value| {
        platform.ask(Method::POST, path).bearer(ADMIN).json(body).send().await
    };
    let wish = json!({"title": "slow answers", "workspaces": [id]});
    let opened = post("/incidents", wish).await;
    assert_eq!((opened.status, &opened.json["status"]), (201, &json!("open")), "{opened:?}");
    let path = format!("/incidents/{}", opened.json["id"].as_str().unwrap());
    let kept = ask(&platform, &format!("{path}/case?name=slow")).await;
    let header = serde_json::Deserializer::from_str(&kept.text).into_iter::<Value>().next().unwrap().unwrap();
    assert_eq!(
        (kept.status, &header["name"], &header["about"], &header["workspaces"]),
        (200, &json!("slow"), &json!("slow answers"), &json!([id])),
        "{header}"
    );
    let noted = post(&format!("{path}/notes"), json!({"text": "it was the proxy"})).await;
    assert_eq!(noted.status, 201, "{noted:?}");
    let close = format!("{path}/close");
    assert_eq!(post(&close, json!({"comment": "a full disk"})).await.status, 200);
    let again = post(&close, json!({})).await;
    assert_eq!((again.status, &again.json["code"]), (409, &json!("incident_closed")), "{again:?}");

    let listed = get(&platform, "/incidents").await;
    assert_eq!(listed["incidents"][0]["notes"][0]["text"], "it was the proxy", "{listed}");
    assert_eq!(listed["incidents"][0]["closed"]["by"], "admin", "{listed}");
    let report = get(&platform, &path).await;
    assert_eq!(report["incident"], listed["incidents"][0]);
    assert_eq!(report["causes"][0]["kind"], "unknown", "nothing went wrong: {report}");
    let span = get(&platform, &format!("/incidents/span?since=1&workspace={id}")).await;
    assert_eq!((&span["incident"], &span["from"]), (&Value::Null, &json!(1)), "{span}");
}

#[actix_web::test]
async fn what_an_incident_can_not_be_names_the_field() {
    let platform = Platform::start().await;
    let nobody = "0b8f2a54-1111-4222-8333-444455556666";
    for (path, body, status, field) in [
        ("/incidents", json!({}), 400, json!("title")),
        ("/incidents", json!({"title": " "}), 400, json!("title")),
        ("/incidents", json!({"title": "two\nlines"}), 400, json!("title")),
        ("/incidents", json!({"title": "x".repeat(201)}), 400, json!("title")),
        ("/incidents", json!({"title": "x", "since": "soon"}), 400, json!("since")),
        ("/incidents", json!({"title": "x", "since": "2999-01-01T00:00:00Z"}), 400, json!("since")),
        ("/incidents", json!({"title": "x", "workspaces": ["lead"]}), 400, json!("workspaces")),
        ("/incidents/7/notes", json!({"text": "x"}), 400, json!("id")),
        (&*format!("/incidents/{nobody}/notes"), json!({"text": ""}), 400, json!("text")),
        (&*format!("/incidents/{nobody}/notes"), json!({"text": "x".repeat(4001)}), 400, json!("text")),
    ] {
        let reply = platform.ask(Method::POST, path).bearer(ADMIN).json(body.clone()).send().await;
        assert_eq!((reply.status, &reply.json["field"]), (status, &field), "{path} {body}: {reply:?}");
    }
    for path in ["notes", "close"] {
        let path = format!("/incidents/{nobody}/{path}");
        let reply = platform.ask(Method::POST, &path).bearer(ADMIN).json(json!({"text": "x"})).send().await;
        assert_eq!(reply.says(), (404, "no such incident"), "{path}");
    }
    let unknown = ask(&platform, &format!("/incidents/{nobody}")).await;
    assert_eq!(unknown.says(), (404, "no such incident"));
    for (path, field) in [("/incidents?limit=0", "limit"), ("/incidents/span?since=soon", "since")] {
        let reply = ask(&platform, path).await;
        assert_eq!((reply.status, &reply.json["field"]), (400, &json!(field)), "{path}: {reply:?}");
    }
}
