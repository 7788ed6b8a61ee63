//! Tasks that workspaces hand to each other.

use std::time::Duration;

use actix_web::http::Method;
use serde_json::{Value, json};

use super::activity::{feed, message, platform};
use super::calls::{registered, serve_agent};
use super::platform::{ADMIN, Platform};

async fn delegate(platform: &Platform, source: &str, token: &str, body: Value) -> super::platform::Reply {
    platform.post(&format!("/workspaces/{source}/delegate"), body).bearer(token).send().await
}

async fn rows(platform: &Platform, source: &str, token: &str) -> Vec<Value> {
    let reply = platform.get(&format!("/workspaces/{source}/delegations")).bearer(token).send().await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json.as_array().unwrap().clone()
}

/// The row of what came of a task, once it is there.
async fn result(platform: &Platform, source: &str, token: &str, delegation: &Value) -> Value {
    for _ in 0..1500 {
        let rows = rows(platform, source, token).await;
        let of_it =
            rows.iter().find(|row| row["type"] == "delegate_result" && row["delegation_id"] == *delegation);
        if let Some(row) = of_it {
            return row.clone();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never ended: {:?}", rows(platform, source, token).await)
}

async fn until(platform: &Platform, source: &str, delegation: &Value, status: &str) {
    for _ in 0..1500 {
        let rows = rows(platform, source, ADMIN).await;
        if rows.iter().any(|row| row["delegation_id"] == *delegation && row["status"] == status) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never `{status}`: {:?}", rows(platform, source, ADMIN).await)
}

#[actix_web::test]
async fn a_task_is_taken_on_at_once_and_its_result_comes_once() {
    let platform = platform().await;
    let (port, seen) = serve_agent();
    let (target, _) = registered(&platform, "worker", None, port).await;
    let (source, token) = platform.external("boss", None).await;
    let taken = delegate(&platform, &source, &token, json!({"target_id": target, "task": "dig"})).await;
    assert_eq!(
        (taken.status, &taken.json["status"], &taken.json["target_id"]),
        (202, &json!("delegated"), &json!(target))
    );
    let delegation = &taken.json["delegation_id"];
    let done = result(&platform, &source, &token, delegation).await;
    assert_eq!(
        (&done["status"], &done["source_id"], &done["target_id"]),
        (&json!("completed"), &json!(source), &json!(target))
    );
    let preview = done["response_preview"].as_str().unwrap();
    assert!(
        preview.starts_with("[A2A_RESULT_FROM_PEER]") && preview.ends_with("[/A2A_RESULT_FROM_PEER]"),
        "{preview}"
    );
    let sent = seen.body.lock().unwrap().clone();
    assert_eq!(
        (&sent["params"]["message"]["messageId"], &sent["params"]["message"]["parts"][0]["text"]),
        (delegation, &json!("dig"))
    );
    assert_eq!(sent["params"]["message"]["metadata"]["delegation_id"], *delegation);

    let all = rows(&platform, &source, &token).await;
    assert_eq!(all.len(), 2, "the task and what came of it: {all:?}");
    assert_eq!((&all[1]["type"], &all[1]["status"]), (&json!("delegate"), &json!("completed")));
    let inbox = feed(&platform, &source, &token, "type=a2a_receive").await;
    assert_eq!(inbox.len(), 1, "whoever fetches messages finds it there, once: {inbox:?}");
    assert_eq!(
        (&inbox[0]["method"], &inbox[0]["data"]["source"]),
        (&json!("delegate_result"), &json!("peer_agent"))
    );
    assert_eq!(inbox[0]["data"]["source_id"], json!(target));
    assert!(inbox[0]["data"]["text"].as_str().unwrap().starts_with("[A2A_RESULT_FROM_PEER]"));
    let received = feed(&platform, &target, ADMIN, "type=a2a_receive").await;
    assert_eq!((&received[0]["source_id"], &received[0]["method"]), (&json!(source), &json!("message/send")));
}

#[actix_web::test]
async fn of_many_that_race_with_one_key_one_wins_and_the_others_are_told_its_name() {
    let platform = platform().await;
    let (source, token) = platform.external("boss", None).await;
    let (target, _) = platform.external("worker", None).await;
    let body = json!({"target_id": target, "task": "dig", "idempotency_key": "monday"});
    let racing = (0..24).map(|_| delegate(&platform, &source, &token, body.clone()));
    let replies = futures_util::future::join_all(racing).await;
    let won: Vec<_> = replies.iter().filter(|reply| reply.status == 202).collect();
    assert_eq!(won.len(), 1, "{replies:?}");
    for reply in replies.iter().filter(|reply| reply.status != 202) {
        assert_eq!((reply.status, &reply.json["idempotent_hit"]), (200, &json!(true)));
        assert_eq!(reply.json["delegation_id"], won[0].json["delegation_id"]);
    }
    until(&platform, &source, &won[0].json["delegation_id"], "queued").await;
    assert_eq!(feed(&platform, &target, ADMIN, "type=a2a_receive").await.len(), 1, "it was handed over once");

    // One that failed may be tried again under its key.
    let gone = platform
        .ask(Method::DELETE, &format!("/workspaces/{target}?confirm=true"))
        .bearer(ADMIN)
        .send()
        .await;
    assert_eq!(gone.status, 200, "{gone:?}");
    let failed = result(&platform, &source, &token, &won[0].json["delegation_id"]).await;
    assert_eq!((&failed["status"], &failed["reason"]), (&json!("failed"), &json!("target_removed")));
    assert_eq!(delegate(&platform, &source, &token, body).await.status, 202);
}

#[actix_web::test]
async fn an_agent_that_fetches_its_messages_ends_a_task_by_its_answer() {
    let platform = platform().await;
    let (source, token) = platform.external("boss", None).await;
    let (target, target_token) = platform.external("worker", None).await;
    let mut names = Vec::new();
    for task in ["dig", "sow", "reap"] {
        let taken = delegate(&platform, &source, &token, json!({"target_id": target, "task": task})).await;
        until(&platform, &source, &taken.json["delegation_id"], "queued").await;
        names.push(taken.json["delegation_id"].clone());
    }
    let inbox = feed(&platform, &target, &target_token, "type=a2a_receive").await;
    let row = |text: &str| inbox.iter().find(|row| row["data"]["text"] == text).unwrap()["id"].clone();
    let a2a = format!("/workspaces/{source}/a2a");
    // The command-line client answers with the row's id, and no header that says who it is.
    let cli = json!({"jsonrpc": "2.0", "id": row("sow"), "method": "message/send", "params": {"message": {
        "role": "assistant", "parts": [{"type": "text", "text": "sown"}]}}});
    let reply = platform.post(&a2a, cli).bearer(&target_token).send().await;
    assert_eq!((reply.status, &reply.json["status"]), (200, &json!("recorded")));
    let sown = result(&platform, &source, ADMIN, &names[1]).await;
    assert!(sown["response_preview"].as_str().unwrap().contains("sown"), "{sown}");
    // The Python client answers in the agent's role and names nothing: the oldest task has waited for it for longest.
    let sdk = json!({"jsonrpc": "2.0", "id": "x", "method": "message/send", "params": {"message": {
        "role": "agent", "messageId": "r1", "parts": [{"kind": "text", "text": "dug"}]}}});
    platform.post(&a2a, sdk).bearer(&target_token).send().await;
    assert!(
        result(&platform, &source, ADMIN, &names[0]).await["response_preview"]
            .as_str()
            .unwrap()
            .contains("dug")
    );
    // By the task's own name.
    let named = json!({"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {"message": {
        "role": "user", "messageId": "r2", "parts": [{"kind": "text", "text": "reaped"}], "metadata": {"delegation_id": names[2]}}}});
    platform.post(&a2a, named).bearer(&target_token).send().await;
    assert!(
        result(&platform, &source, ADMIN, &names[2]).await["response_preview"]
            .as_str()
            .unwrap()
            .contains("reaped")
    );
    assert_eq!(
        feed(&platform, &source, &token, "type=a2a_receive").await.len(),
        3,
        "each result once, and nothing else"
    );
    // With nothing open, what it says is a message like any other.
    let word = platform.post(&a2a, message("m9", "by the way")).bearer(&target_token).send().await;
    assert_eq!(word.json["status"], "queued");
}

#[actix_web::test]
async fn what_can_not_be_done_ends_as_failed_with_its_reason() {
    let platform = platform().await;
    let (port, _) = serve_agent();
    let (parent, token) = platform.external("boss", None).await;
    let (child, _) = platform.external("child", Some(&parent)).await;
    let (stranger, _) =
        platform.external("grandchild of another", Some(&platform.external("another", None).await.0)).await;
    for (source, target, reason) in [
        (&child, stranger.as_str(), "access_denied"),
        (&parent, "6a0c7a52-0000-4000-8000-000000000000", "target_not_found"),
    ] {
        let taken = delegate(&platform, source, ADMIN, json!({"target_id": target, "task": "dig"})).await;
        assert_eq!(taken.status, 202, "a refusal shows later, where all failures show: {taken:?}");
        let failed = result(&platform, source, ADMIN, &taken.json["delegation_id"]).await;
        assert_eq!((&failed["status"], &failed["reason"]), (&json!("failed"), &json!(reason)));
        assert!(failed["error"].as_str().is_some_and(|error| !error.is_empty()));
    }
    let (broken, _) = registered(&platform, "broken", None, port).await;
    for (task, body, reply) in [
        ("no target", json!({"task": "dig"}), (400, "invalid delegation request")),
        ("no task", json!({"target_id": broken}), (400, "invalid delegation request")),
        ("no id", json!({"target_id": "x", "task": "dig"}), (400, "target_id must be a valid UUID")),
        ("itself", json!({"target_id": parent, "task": "dig"}), (400, "self-delegation not permitted")),
    ] {
        assert_eq!(delegate(&platform, &parent, &token, body).await.says(), reply, "{task}");
    }
}

#[actix_web::test]
async fn the_python_client_names_the_target_in_the_path_and_itself_by_its_token() {
    let platform = platform().await;
    let (source, token) = platform.external("boss", None).await;
    let (target, target_token) = platform.external("worker", None).await;
    let body = json!({"task": "dig", "idempotency_key": "k"});
    let taken = delegate(&platform, &target, &token, body).await;
    assert_eq!((taken.status, &taken.json["target_id"]), (202, &json!(target)));
    until(&platform, &source, &taken.json["delegation_id"], "queued").await;
    let forged = delegate(&platform, &target, &token, json!({"target_id": source, "task": "dig"})).await;
    assert_eq!(forged.says(), (401, "invalid workspace auth token"), "nobody hands on another's tasks");
    let own = delegate(&platform, &target, &target_token, json!({"target_id": source, "task": "dig"})).await;
    assert_eq!(own.status, 202);
}

#[actix_web::test]
async fn an_agent_has_its_own_errands_on_record_and_what_is_over_stays_as_it_ended() {
    let platform = platform().await;
    let (source, token) = platform.external("boss", None).await;
    let (target, _) = platform.external("worker", None).await;
    let name = "0190a0b0-c0d0-4e00-8f00-000000000001";
    let record = format!("/workspaces/{source}/delegations/record");
    let body = json!({"target_id": target, "task": "dig", "delegation_id": name});
    let recorded = platform.post(&record, body).bearer(&token).send().await;
    assert_eq!(
        (recorded.status, recorded.text.as_str()),
        (202, format!(r#"{{"delegation_id":"{name}","status":"recorded"}}"#).as_str())
    );
    let update = format!("/workspaces/{source}/delegations/{name}/update");
    let note = platform.post(&update, json!({"status": "queued"})).bearer(&token).send().await;
    assert_eq!(note.status, 200);
    let done = platform
        .post(&update, json!({"status": "completed", "response_preview": "dug"}))
        .bearer(&token)
        .send()
        .await;
    assert_eq!((done.status, &done.json["status"]), (200, &json!("completed")));
    let late = platform.post(&update, json!({"status": "failed", "error": "no"})).bearer(&token).send().await;
    assert_eq!(late.status, 200, "a late word is taken and changes nothing");
    let ended = result(&platform, &source, &token, &json!(name)).await;
    assert_eq!(ended["status"], "completed");
    for (body, reply) in [
        (json!({"status": "x"}), (400, "status must be 'completed' or 'failed'")),
        (json!([]), (400, "invalid request body")),
    ] {
        assert_eq!(platform.post(&update, body).bearer(&token).send().await.says(), reply);
    }
    let missing = platform.post(&record, json!({"task": "dig"})).bearer(&token).send().await;
    assert_eq!(
        (missing.says(), &missing.json["field"]),
        ((400, "invalid request body"), &json!("target_id"))
    );
}
