//! Workspaces that sleep until somebody needs them (contract 1.8, 4.5).

use actix_web::http::Method;
use serde_json::{Value, json};

use super::activity::message;
use super::calls::serve_agent;
use super::lifecycle::beat;
use super::platform::{ADMIN, Platform, Reply};

async fn act(platform: &Platform, id: &str, act: &str) -> Reply {
    platform.ask(Method::POST, &format!("/workspaces/{id}/{act}")).bearer(ADMIN).send().await
}

async fn awake(platform: &Platform, name: &str) -> String {
    let id = platform.create(json!({"name": name, "runtime": "echo"})).await;
    beat(platform, &id).await;
    id
}

async fn asleep(platform: &Platform, name: &str) -> String {
    let id = awake(platform, name).await;
    let reply = act(platform, &id, "hibernate").await;
    assert_eq!((reply.status, reply.text.as_str()), (200, "{\"status\":\"hibernated\"}"), "{reply:?}");
    id
}

async fn call(platform: &Platform, id: &str) -> Reply {
    platform.post(&format!("/workspaces/{id}/a2a"), message("m1", "hi")).bearer(ADMIN).send().await
}

#[actix_web::test]
async fn a_workspace_that_nobody_needs_is_stopped_and_shown_asleep_everywhere() {
    let platform = Platform::start().await;
    let id = asleep(&platform, "scout").await;
    let view = platform.get(&format!("/workspaces/{id}")).send().await.json;
    assert_eq!(
        (&view["status"], &view["url"], &view["supervision"]["state"]),
        (&json!("hibernated"), &json!(""), &json!("stopped"))
    );
    let state = platform.get(&format!("/workspaces/{id}/state")).bearer(ADMIN).send().await;
    assert_eq!(state.status, 401, "it has a token of its own: {state:?}");
    let events = platform.get(&format!("/events/{id}")).bearer(ADMIN).send().await.json;
    assert_eq!(
        (&events[0]["event_type"], &events[0]["payload"]),
        (&json!("WORKSPACE_HIBERNATED"), &json!({"name": "scout", "tier": 2}))
    );
    let gone = (404, "workspace not found or not in a hibernatable state (must be online or degraded)");
    assert_eq!(act(&platform, &id, "hibernate").await.says(), gone, "it sleeps already");
    assert_eq!(act(&platform, "f0000000-0000-4000-8000-000000000000", "hibernate").await.says(), gone);
    let new = platform.create(json!({"name": "new", "runtime": "echo"})).await;
    assert_eq!(act(&platform, &new, "hibernate").await.says(), gone, "it was never heard from");
    let (agent, token) = platform.external("agent", None).await;
    let refused =
        platform.ask(Method::POST, &format!("/workspaces/{agent}/hibernate")).bearer(&token).send().await;
    assert_eq!((refused.status, &refused.json["code"]), (409, &json!("external_workspace")));
}

#[actix_web::test]
async fn work_under_way_is_told_in_numbers_and_cut_off_only_by_force() {
    let platform = Platform::start().await;
    let id = awake(&platform, "scout").await;
    let works = covalence_events::workspace::HeartbeatReceived { active_tasks: 3, ..Default::default() };
    let origin = covalence_actors::context::Origin::new(covalence_events::Principal::Anonymous);
    let command = covalence_actors::workspace::Command::Heartbeat(Box::new(works));
    platform.state.runtime.command(id.parse().unwrap(), command, origin).await.unwrap();
    let refused = act(&platform, &id, "hibernate").await;
    assert_eq!(refused.says(), (409, "workspace has active tasks; use ?force=true to terminate them"));
    assert_eq!(refused.json["active_tasks"], 3);
    platform.wait_for(&id, "online").await;
    assert_eq!(act(&platform, &id, "hibernate?force=true").await.text, "{\"status\":\"hibernated\"}");
}

#[actix_web::test]
async fn a_call_wakes_it_and_is_told_when_to_come_back_and_then_gets_its_answer() {
    let platform = Platform::start().await;
    let (port, _) = serve_agent();
    platform.table.successors_answer_at(format!("http://127.0.0.1:{port}"));
    let id = asleep(&platform, "scout").await;
    let waking = call(&platform, &id).await;
    assert_eq!(waking.says(), (503, "workspace is waking from hibernation — retry in ~15 seconds"));
    assert_eq!(waking.headers["retry-after"], "15");
    assert_eq!(
        (&waking.json["waking"], &waking.json["retry_after"], &waking.json["delivery"]),
        (&json!(true), &json!(15), &json!("not_delivered"))
    );
    beat(&platform, &id).await;
    assert_eq!(call(&platform, &id).await.status, 200);
    let row = platform.state.views.roster.read().get(id.parse().unwrap()).unwrap();
    assert_eq!((row.generation.0, row.restarts), (2, 0), "woken once, and no restart");
}

#[actix_web::test]
async fn a_person_wakes_it_by_hand_and_a_pause_ends_its_sleep_for_good() {
    let platform = Platform::start().await;
    let id = asleep(&platform, "scout").await;
    assert_eq!(act(&platform, &id, "resume").await.text, "{\"status\":\"provisioning\",\"resumed_count\":1}");
    beat(&platform, &id).await;
    let id = asleep(&platform, "other").await;
    assert_eq!(act(&platform, &id, "pause").await.text, "{\"status\":\"paused\",\"paused_count\":1}");
    assert_eq!(call(&platform, &id).await.json["status"], "paused", "a person's word outweighs need");
}

#[actix_web::test]
async fn who_may_not_be_started_sleeps_on_and_its_caller_is_told_why() {
    let platform = Platform::start().await;
    let id = asleep(&platform, "scout").await;
    let stop = json!({"reason": "under investigation"});
    let stopped = platform.post("/admin/emergency-stop", stop).bearer(ADMIN).send().await;
    assert!(stopped.status < 300, "{stopped:?}");
    let refused = call(&platform, &id).await;
    assert_eq!((refused.status, &refused.json["code"]), (503, &json!("workspace_hibernated")));
    assert_eq!(
        (&refused.json["waking"], &refused.json["status"], &refused.json["retry_after"]),
        (&json!(false), &json!("hibernated"), &json!(60))
    );
    assert!(refused.json["detail"].as_str().unwrap().contains("emergency stop"), "{refused:?}");
    platform.wait_for(&id, "hibernated").await;
}

/// Tasks that are handed on wake who is to do them.
#[actix_web::test]
async fn a_delegated_task_wakes_its_target_and_is_done() {
    let platform = Platform::start().await;
    let (port, _) = serve_agent();
    platform.table.successors_answer_at(format!("http://127.0.0.1:{port}"));
    let target = asleep(&platform, "worker").await;
    let (boss, token) = platform.external("boss", None).await;
    let body = json!({"target_id": target, "task": "dig"});
    let taken = platform.post(&format!("/workspaces/{boss}/delegate"), body).bearer(&token).send().await;
    assert_eq!(taken.status, 202, "{taken:?}");
    let over = async {
        loop {
            let rows =
                platform.get(&format!("/workspaces/{boss}/delegations")).bearer(&token).send().await.json;
            let ended = |row: &&Value| row["type"] == "delegate_result";
            if let Some(row) = rows.as_array().unwrap().iter().find(ended) {
                return row.clone();
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let row = tokio::time::timeout(std::time::Duration::from_secs(20), over).await.expect("it ends");
    assert_eq!(row["status"], "completed", "{row:?}");
}
