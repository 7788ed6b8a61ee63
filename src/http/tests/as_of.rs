//! Reads about the past: what they answer, whom they answer, and what they refuse.

use std::collections::BTreeSet;

use actix_web::http::Method;
use serde_json::{Value, json};

use super::platform::{ADMIN, Platform};
use crate::http::{as_of, router};

/// Reads of the API's document that take `as_of`.
fn documented() -> BTreeSet<String> {
    let document: Value = serde_json::from_str(&router::document()).unwrap();
    let takes = |read: &Value| {
        let parameters = read["parameters"].as_array().into_iter().flatten();
        parameters.into_iter().any(|one| one["name"] == "as_of" && one["in"] == "query")
    };
    let paths = document["paths"].as_object().unwrap().iter();
    paths.filter(|(_, path)| takes(&path["get"])).map(|(path, _)| path.clone()).collect()
}

#[test]
fn the_reads_that_take_it_are_those_of_the_document() {
    assert_eq!(documented(), as_of::ROUTES.iter().map(|&route| route.to_owned()).collect());
}

#[actix_web::test]
async fn a_read_answers_what_was_known_then_and_says_of_which_position() {
    let platform = Platform::start().await;
    let (id, _) = platform.external("before", None).await;
    let then = platform.settled_head().await;
    let path = format!("/workspaces/{id}");
    let renamed =
        platform.ask(Method::PATCH, &path).json(json!({"name": "after"})).bearer(ADMIN).send().await;
    assert_eq!(renamed.status, 200, "{renamed:?}");
    let (later, _) = platform.external("later", None).await;

    for path in ["/workspaces", &path, &format!("{path}/details"), &format!("{path}/supervision")] {
        let past = platform.get(&format!("{path}?as_of={then}")).bearer(ADMIN).send().await;
        let present = platform.get(path).bearer(ADMIN).send().await;
        assert_eq!((past.status, present.status), (200, 200), "{past:?}");
        assert_eq!(past.headers["x-covalence-as-of"], then.to_string());
        assert!(!present.headers.contains_key("x-covalence-as-of"));
        assert!(past.text.contains("before") && !past.text.contains("after"), "{past:?}");
        assert!(!past.text.contains("later") && present.text.contains("after"), "{present:?}");
    }
    let gone = platform.get(&format!("/workspaces/{later}/details?as_of={then}")).bearer(ADMIN).send().await;
    assert_eq!((gone.says(), &gone.json["field"]), ((404, "workspace not found"), &json!("as_of")));
    assert_eq!(gone.headers["x-covalence-as-of"], then.to_string(), "an error is of that position too");
    for path in ["/events", &format!("/events/{id}"), "/admin/holds", "/admin/policy", "/admin/supervision"] {
        let past = platform.get(&format!("{path}?as_of={then}")).bearer(ADMIN).send().await;
        assert_eq!(
            (past.status, past.headers["x-covalence-as-of"].as_str()),
            (200, then.to_string().as_str())
        );
    }
    let events = platform.get(&format!("/events?as_of={then}")).bearer(ADMIN).send().await;
    assert_eq!(events.json.as_array().unwrap().len(), 1);
}

#[actix_web::test]
async fn a_time_means_the_last_fact_up_to_it() {
    let platform = Platform::start().await;
    platform.external("one", None).await;
    let then = platform.settled_head().await;
    let at = platform.state.log.read_all(then, 1).await.unwrap()[0].meta.at;
    platform.external("two", None).await;
    let time = at.to_rfc3339_opts(chrono::SecondsFormat::Nanos, true);
    let past = platform.get(&format!("/workspaces?as_of={time}")).bearer(ADMIN).send().await;
    assert_eq!((past.status, past.headers["x-covalence-as-of"].as_str()), (200, then.to_string().as_str()));
    assert_eq!(past.json.as_array().unwrap().len(), 1);
    let fleet = platform.get(&format!("/admin/supervision?as_of={time}")).bearer(ADMIN).send().await;
    assert_eq!((fleet.status, &fleet.json["workspaces"]), (200, &json!(1)));
    let told = |at: &Value| chrono::DateTime::parse_from_rfc3339(at.as_str().unwrap()).unwrap().to_utc();
    assert_eq!(told(&fleet.json["at"]), at, "it is as of then");
}

#[actix_web::test]
async fn a_moment_that_is_none_is_refused_with_what_is_allowed() {
    let platform = Platform::start().await;
    platform.external("one", None).await;
    let head = platform.settled_head().await;
    let beyond = (head.0 + 1).to_string();
    for (asked, allowed) in [
        ("garbage", "expected a position"),
        ("", "expected a position"),
        ("-1", "expected a position"),
        ("0", "expected 1 to"),
        (beyond.as_str(), "expected 1 to"),
        ("1999-01-01T00:00:00Z", "expected a time from the first fact on"),
        ("2999-01-01T00:00:00Z", "expected a time that is past"),
    ] {
        let reply = platform.get(&format!("/workspaces?as_of={asked}")).bearer(ADMIN).send().await;
        assert_eq!(reply.says(), (400, "invalid point in time"), "{asked}");
        assert_eq!(reply.json["field"], "as_of");
        assert!(reply.json["detail"].as_str().unwrap().contains(allowed), "{asked}: {reply:?}");
    }
    let twice = platform.get("/workspaces?as_of=1&as_of=2").bearer(ADMIN).send().await;
    assert_eq!((twice.status, &twice.json["field"]), (400, &json!("as_of")));
}

#[actix_web::test]
async fn a_read_that_knows_only_now_refuses_it() {
    let platform = Platform::start().await;
    let (id, _) = platform.external("one", None).await;
    for path in [
        "/health".to_owned(),
        "/ready".to_owned(),
        "/metrics".to_owned(),
        "/admin/log".to_owned(),
        "/admin/timeline".to_owned(),
        format!("/workspaces/{id}/explain"),
        format!("/workspaces/{id}/agent/card"),
    ] {
        let reply = platform.get(&format!("{path}?limit=1&as_of=1")).bearer(ADMIN).send().await;
        assert_eq!(reply.says(), (400, "`as_of` is not supported here"), "{path}");
        assert_eq!(reply.json["field"], "as_of");
    }
    assert_eq!(platform.get("/nothing?as_of=1").send().await.status, 404);
}

#[actix_web::test]
async fn who_may_ask_about_the_past_is_who_may_ask_now() {
    let platform = Platform::start().await;
    let (id, token) = platform.external("one", None).await;
    let (other, _) = platform.external("two", None).await;
    let then = platform.settled_head().await;
    let ask = |path: &str| platform.get(&format!("{path}?as_of={then}"));
    let path = format!("/workspaces/{id}");
    for path in
        [path.clone(), format!("{path}/details"), format!("{path}/state"), format!("{path}/supervision")]
    {
        assert_eq!(ask(&path).send().await.status, 401, "{path}: also what anybody may see now");
        assert_eq!(ask(&path).bearer(&token).send().await.status, 200, "{path}");
        assert_eq!(ask(&path).bearer(ADMIN).send().await.status, 200, "{path}");
    }
    let peers = format!("/registry/{id}/peers");
    assert_eq!(platform.get(&peers).bearer(&token).send().await.status, 200);
    assert_eq!(ask(&peers).bearer(&token).send().await.status, 401, "whom it knew is the operator's to see");
    assert_eq!(ask(&peers).bearer(ADMIN).send().await.status, 200);
    let discover = format!("/registry/discover/{other}");
    assert_eq!(ask(&discover).header("x-workspace-id", &id).bearer(&token).send().await.status, 401);

    let removed = platform.ask(Method::DELETE, &format!("{path}?confirm=true")).bearer(ADMIN).send().await;
    assert_eq!(removed.status, 200, "{removed:?}");
    let revoked = ask(&format!("{path}/details")).bearer(&token).send().await;
    assert_eq!(revoked.says(), (401, "invalid workspace auth token"), "it was live at that position");
    let before = ask(&format!("{path}/details")).bearer(ADMIN).send().await;
    assert_eq!((before.status, &before.json["status"]), (200, &json!("awaiting_agent")));
}
