//! The read side as operators see it, and folding it anew.

use serde_json::{Value, json};

use super::platform::{ADMIN, Platform, Reply};

async fn list(platform: &Platform) -> Vec<Value> {
    let reply = platform.get("/admin/projections").bearer(ADMIN).send().await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json.as_array().unwrap().clone()
}

async fn rebuild(platform: &Platform, body: Value) -> Reply {
    platform.post("/admin/projections/rebuild", body).bearer(ADMIN).send().await
}

#[actix_web::test]
async fn a_rebuild_of_all_agrees_with_what_serves_and_changes_no_hash() {
    let platform = Platform::start().await;
    platform.external("one", None).await;
    let head = platform.settled_head().await;
    let before = list(&platform).await;
    assert_eq!(before.len(), 8);
    for one in &before {
        assert_eq!((&one["lag"], &one["stalled"], &one["rebuild"]), (&json!(0), &Value::Null, &Value::Null));
        assert_eq!(one["state"]["position"], head.0);
        assert_eq!(one["state"]["hash"].as_str().unwrap().len(), 64);
    }
    let begun = rebuild(&platform, json!({"all": true})).await;
    assert_eq!((begun.status, &begun.json), (202, &json!({"status": "started"})));
    let after = loop {
        let now = list(&platform).await;
        if now.iter().all(|one| one["rebuild"]["outcome"] != "running") {
            break now;
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    };
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(after["rebuild"]["outcome"], "agreed", "{after}");
        assert_eq!(before["state"], after["state"]);
        assert_eq!(after["rebuild"]["fresh"], after["state"], "nothing was recorded since");
    }
}

#[actix_web::test]
async fn a_rebuild_of_nothing_or_of_what_is_not_there_says_what_there_is() {
    let platform = Platform::start().await;
    let unknown = rebuild(&platform, json!({"projection": "nothing"})).await;
    assert_eq!(unknown.says(), (404, "no such projection"));
    assert!(unknown.json["detail"].as_str().unwrap().contains("roster, credentials, events"), "{unknown:?}");
    for neither in [json!({}), json!({"projection": "roster", "all": true})] {
        let reply = rebuild(&platform, neither).await;
        assert_eq!((reply.status, &reply.json["field"]), (400, &json!("projection")));
    }
}
