//! Which model is assigned to which workspace (contract 1.10).

use actix_web::http::Method;
use serde_json::{Value, json};

use super::platform::{ADMIN, Platform, Reply};

async fn ask(platform: &Platform, method: Method, id: &str, path: &str, body: Value) -> Reply {
    platform.ask(method, &format!("/workspaces/{id}{path}")).bearer(ADMIN).json(body).send().await
}

async fn shown(platform: &Platform, id: &str) -> Value {
    platform.get(&format!("/workspaces/{id}/details")).bearer(ADMIN).send().await.json["agent"].clone()
}

async fn told(platform: &Platform, id: &str) -> Vec<(String, Value)> {
    let events = platform.get(&format!("/events/{id}")).bearer(ADMIN).send().await.json;
    let told = events.as_array().unwrap().iter().rev().filter_map(|event| {
        let name = event["event_type"].as_str()?;
        name.starts_with("AGENT_").then(|| (name.to_owned(), event["payload"].clone()))
    });
    told.collect()
}

#[actix_web::test]
async fn a_model_is_assigned_replaced_and_removed_and_each_is_told() {
    let platform = Platform::start().await;
    let (id, token) = platform.external("scout", None).await;
    let path = format!("/workspaces/{id}/agent");
    let assigned = platform.post(&path, json!({"model": "sonnet"})).bearer(&token).send().await;
    assert_eq!((assigned.status, &assigned.json["model"]), (201, &json!("sonnet")));
    let first = assigned.json["agent_id"].clone();
    assert_eq!(shown(&platform, &id).await, json!({"agent_id": first, "model": "sonnet"}));
    let twice = ask(&platform, Method::POST, &id, "/agent", json!({"model": "opus"})).await;
    assert_eq!(twice.says(), (409, "workspace already has an active agent, use PATCH to replace"));

    let replaced = ask(&platform, Method::PATCH, &id, "/agent", json!({"model": "opus"})).await;
    let second = replaced.json["agent_id"].clone();
    assert_eq!(replaced.status, 200, "{replaced:?}");
    assert_eq!((&replaced.json["model"], &replaced.json["old_model"]), (&json!("opus"), &json!("sonnet")));
    assert_ne!(first, second);

    let removed = ask(&platform, Method::DELETE, &id, "/agent", Value::Null).await;
    assert_eq!((removed.status, &removed.json), (200, &json!({"status": "removed", "agent_id": second})));
    assert_eq!(shown(&platform, &id).await, Value::Null);
    assert_eq!(
        told(&platform, &id).await,
        [
            ("AGENT_ASSIGNED".to_owned(), json!({"agent_id": first, "model": "sonnet"})),
            (
                "AGENT_REPLACED".to_owned(),
                json!({"agent_id": second, "model": "opus", "old_model": "sonnet"})
            ),
            ("AGENT_REMOVED".to_owned(), json!({"agent_id": second, "model": "opus"})),
        ]
    );
    for (method, text) in
        [(Method::PATCH, "no active agent to replace"), (Method::DELETE, "no active agent to remove")]
    {
        let none = ask(&platform, method, &id, "/agent", json!({"model": "opus"})).await;
        assert_eq!(none.says(), (404, text));
    }
    for body in [json!({}), json!({"model": ""}), json!({"model": 7}), json!({"model": "x".repeat(101)})] {
        let bad = ask(&platform, Method::POST, &id, "/agent", body).await;
        assert_eq!(bad.status, 400, "{bad:?}");
    }
    let missing = "f0000000-0000-4000-8000-000000000000";
    let unknown = ask(&platform, Method::POST, missing, "/agent", json!({"model": "opus"})).await;
    assert_eq!(unknown.says(), (404, "workspace not found"));
}

#[actix_web::test]
async fn a_move_keeps_the_assignment_s_name_and_is_told_on_both_sides() {
    let platform = Platform::start().await;
    let (from, _) = platform.external("from", None).await;
    let (to, _) = platform.external("to", None).await;
    let agent =
        ask(&platform, Method::POST, &from, "/agent", json!({"model": "opus"})).await.json["agent_id"]
            .clone();
    let wish = json!({"target_workspace_id": to});
    let moved = ask(&platform, Method::POST, &from, "/agent/move", wish.clone()).await;
    assert_eq!(moved.status, 200, "{moved:?}");
    assert_eq!(
        moved.json,
        json!({"agent_id": agent, "model": "opus", "from_workspace": from, "to_workspace": to})
    );
    assert_eq!(shown(&platform, &from).await, Value::Null);
    assert_eq!(shown(&platform, &to).await, json!({"agent_id": agent, "model": "opus"}));
    let left = json!({"agent_id": agent, "model": "opus", "target_workspace_id": to});
    assert_eq!(told(&platform, &from).await[1], ("AGENT_MOVED".to_owned(), left));
    let came = json!({"agent_id": agent, "model": "opus", "source_workspace_id": from});
    assert_eq!(told(&platform, &to).await, [("AGENT_MOVED".to_owned(), came)]);

    let again = ask(&platform, Method::POST, &from, "/agent/move", wish.clone()).await;
    assert_eq!(again.says(), (409, "target workspace already has an active agent"));
    let (empty, _) = platform.external("empty", None).await;
    let nothing =
        ask(&platform, Method::POST, &from, "/agent/move", json!({"target_workspace_id": empty})).await;
    assert_eq!(nothing.says(), (404, "no active agent in source workspace"));
    let nowhere = json!({"target_workspace_id": "f0000000-0000-4000-8000-000000000000"});
    let nowhere = ask(&platform, Method::POST, &to, "/agent/move", nowhere).await;
    assert_eq!(nowhere.says(), (404, "target workspace not found"));
    let bad = ask(&platform, Method::POST, &to, "/agent/move", json!({"target_workspace_id": "x"})).await;
    assert_eq!(
        (bad.says(), &bad.json["field"]),
        ((400, "invalid request body"), &json!("target_workspace_id"))
    );
    ask(&platform, Method::POST, &from, "/agent", json!({"model": "sonnet"})).await;
    let full = ask(&platform, Method::POST, &from, "/agent/move", wish).await;
    assert_eq!(full.says(), (409, "target workspace already has an active agent"));
    assert_eq!(shown(&platform, &from).await["model"], "sonnet", "a refused move leaves it where it was");
}

#[actix_web::test]
async fn a_workspace_s_own_token_moves_it_only_to_whom_it_may_talk_to() {
    let platform = Platform::start().await;
    let (_, _) = platform.external("stranger's root", None).await;
    let (lead, _) = platform.external("lead", None).await;
    let (child, token) = platform.external("child", Some(&lead)).await;
    let (other, _) = platform.external("other", None).await;
    let (nephew, _) = platform.external("nephew", Some(&other)).await;
    ask(&platform, Method::POST, &child, "/agent", json!({"model": "opus"})).await;
    let path = format!("/workspaces/{child}/agent/move");
    let denied = platform.post(&path, json!({"target_workspace_id": nephew})).bearer(&token).send().await;
    assert_eq!(denied.status, 403, "{denied:?}");
    let moved = platform.post(&path, json!({"target_workspace_id": lead})).bearer(&token).send().await;
    assert_eq!(moved.status, 200, "{moved:?}");
}
