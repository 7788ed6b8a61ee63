//! The feed of a workspace, and messages for agents that fetch them.

use serde_json::{Value, json};

use super::calls::{registered, serve_agent};
use super::platform::{ADMIN, Platform};

/// Loopback agents can be called, as in development, but nobody gets in without a credential.
pub(super) async fn platform() -> Platform {
    Platform::tuned(|config| {
        config.surroundings.development = true;
        config.rate_limit = 100_000;
    })
    .await
}

/// As the Python client and the canvas write it.
pub(super) fn message(id: &str, text: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": "1", "method": "message/send", "params": {
        "message": {"role": "user", "messageId": id, "parts": [{"kind": "text", "text": text}]}}})
}

pub(super) async fn feed(platform: &Platform, id: &str, token: &str, query: &str) -> Vec<Value> {
    let reply = platform.get(&format!("/workspaces/{id}/activity?{query}")).bearer(token).send().await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json.as_array().unwrap().clone()
}

/// The feed once it has so many rows: what is said in calls is recorded a few milliseconds after their answers.
async fn feed_of(platform: &Platform, id: &str, query: &str, count: usize) -> Vec<Value> {
    for _ in 0..500 {
        let rows = feed(platform, id, ADMIN, query).await;
        if rows.len() >= count {
            return rows;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("never {count} rows: {:?}", feed(platform, id, ADMIN, query).await)
}

#[actix_web::test]
async fn a_call_is_a_row_in_the_feed_of_who_was_called_with_what_was_said() {
    let platform = platform().await;
    let (port, _) = serve_agent();
    let (id, _) = registered(&platform, "callee", None, port).await;
    let (peer, peer_token) = platform.external("caller", None).await;
    let a2a = format!("/workspaces/{id}/a2a");
    assert_eq!(platform.post(&a2a, message("m1", "hello")).bearer(ADMIN).send().await.status, 200);
    assert_eq!(platform.post(&a2a, message("m2", "peer")).bearer(&peer_token).send().await.status, 200);
    let failed = json!({"jsonrpc": "2.0", "id": 3, "method": "fail", "params": {}});
    assert_eq!(platform.post(&a2a, failed).bearer(ADMIN).send().await.status, 422);

    let rows = feed_of(&platform, &id, "type=a2a_receive", 3).await;
    let [failed, from_peer, from_person] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!(
        (&from_person["source_id"], &from_person["data"]["source"]),
        (&Value::Null, &json!("canvas_user"))
    );
    assert_eq!((&from_person["target_id"], &from_person["method"]), (&json!(id), &json!("message/send")));
    assert_eq!(from_person["summary"], "message/send → callee");
    assert_eq!(from_person["request_body"]["params"]["message"]["parts"][0]["text"], "hello");
    assert_eq!(from_person["response_body"]["result"]["kind"], "message");
    assert_eq!((&from_person["status"], &from_person["data"]["text"]), (&json!("ok"), &json!("hello")));
    assert_eq!((&from_peer["source_id"], &from_peer["data"]["peer_name"]), (&json!(peer), &json!("caller")));
    assert_eq!((&failed["status"], &failed["type"]), (&json!("error"), &json!("a2a_receive")));

    assert_eq!(feed(&platform, &id, ADMIN, "source=canvas").await.len(), 2);
    assert_eq!(feed(&platform, &id, ADMIN, &format!("peer_id={peer}")).await.len(), 1);
    let enriched = &feed(&platform, &id, ADMIN, "source=agent&include=peer_info").await[0];
    assert_eq!(enriched["peer_name"], "caller");
    assert!(enriched["agent_card_url"].as_str().unwrap().ends_with(&format!("/registry/discover/{peer}")));
    let found = platform.get(&format!("/workspaces/{id}/session-search?q=HELLO")).bearer(ADMIN).send().await;
    assert_eq!(found.json.as_array().unwrap().len(), 1, "{found:?}");
    assert_eq!(
        (&found.json[0]["kind"], &found.json[0]["label"]),
        (&json!("activity"), &json!("a2a_receive"))
    );
}

#[actix_web::test]
async fn a_message_for_an_agent_that_fetches_is_acknowledged_as_a_row_and_queued_once() {
    let platform = platform().await;
    let (id, token) = platform.external("poller", None).await;
    let a2a = format!("/workspaces/{id}/a2a");
    // It has not registered: the client's `connect --token` never does.
    let queued = platform.post(&a2a, message("m1", "one")).bearer(ADMIN).send().await;
    assert_eq!(queued.text, r#"{"status":"queued","delivery_mode":"poll","method":"message/send"}"#);
    let again = platform.post(&a2a, message("m1", "one")).bearer(ADMIN).send().await;
    assert_eq!(again.status, 200, "a repeated delivery is acknowledged as well");
    assert_eq!(platform.post(&a2a, message("m2", "two")).bearer(ADMIN).send().await.status, 200);

    let newest_first = feed(&platform, &id, &token, "type=a2a_receive&limit=50").await;
    let texts: Vec<_> = newest_first.iter().map(|row| row["data"]["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["two", "one"]);
    let part = &newest_first[1]["request_body"]["params"]["message"]["parts"][0];
    assert_eq!((&part["kind"], &part["type"]), (&json!("text"), &json!("text")), "each client's word");
    let cursor = newest_first[1]["id"].as_str().unwrap();
    let after = feed(&platform, &id, &token, &format!("type=a2a_receive&since_id={cursor}")).await;
    assert_eq!(after, newest_first[..1]);
    let (other, other_token) = platform.external("other", None).await;
    for (whose, bearer, cursor) in [
        (&id, &token, "00000000-0000-0000-0000-000000000000"),
        (&id, &token, "nonsense"),
        (&other, &other_token, cursor),
    ] {
        let path = format!("/workspaces/{whose}/activity?type=a2a_receive&since_id={cursor}&limit=1");
        assert_eq!(platform.get(&path).bearer(bearer).send().await.status, 410, "{cursor}");
    }
    for (query, text) in [
        ("source=x", "source must be 'canvas' or 'agent'"),
        ("since_secs=0", "since_secs must be a positive integer"),
        ("peer_id=x", "peer_id must be a UUID"),
        ("before_ts=yesterday", "before_ts must be an RFC3339 timestamp (e.g. 2026-05-01T00:00:00Z)"),
    ] {
        let reply = platform.get(&format!("/workspaces/{id}/activity?{query}")).bearer(&token).send().await;
        assert_eq!(reply.says(), (400, text));
    }
    assert_eq!(
        feed(&platform, &id, &token, "since_secs=60&before_ts=2030-01-01T00:00:00%2B02:00&limit=x")
            .await
            .len(),
        2
    );
}

#[actix_web::test]
async fn a_cursor_skips_no_row_and_gives_none_twice_while_others_write() {
    let platform = platform().await;
    let (id, token) = platform.external("poller", None).await;
    let a2a = format!("/workspaces/{id}/a2a");
    platform.post(&a2a, message("first", "first")).bearer(ADMIN).send().await;
    let mut cursor = feed(&platform, &id, &token, "limit=1").await[0]["id"].as_str().unwrap().to_owned();

    let writers = (0..8).map(|writer| {
        let (platform, a2a) = (&platform, &a2a);
        async move {
            for n in 0..25 {
                let text = format!("{writer}-{n}");
                let reply = platform.post(a2a, message(&text, &text)).bearer(ADMIN).send().await;
                assert_eq!(reply.status, 200, "{reply:?}");
            }
        }
    });
    let reader = async {
        let mut seen = Vec::new();
        while seen.len() < 200 {
            let rows =
                feed(&platform, &id, &token, &format!("type=a2a_receive&limit=7&since_id={cursor}")).await;
            if let Some(last) = rows.last() {
                cursor = last["id"].as_str().unwrap().to_owned();
            }
            seen.extend(rows.iter().map(|row| row["data"]["text"].as_str().unwrap().to_owned()));
        }
        seen
    };
    let (_, mut seen) = futures_util::future::join(futures_util::future::join_all(writers), reader).await;
    let in_order = |writer: usize| {
        seen.iter().filter(|text| text.starts_with(&format!("{writer}-"))).cloned().collect::<Vec<_>>()
    };
    for writer in 0..8 {
        assert_eq!(in_order(writer), (0..25).map(|n| format!("{writer}-{n}")).collect::<Vec<_>>());
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 200);
}

#[actix_web::test]
async fn an_agent_reports_what_it_does_and_speaks_to_people() {
    let platform = platform().await;
    let (id, token) = platform.external("agent", None).await;
    let (other, other_token) = platform.external("other", None).await;
    let activity = format!("/workspaces/{id}/activity");
    let report = json!({"activity_type": "task_update", "summary": "half done", "target_id": other, "duration_ms": 12,
        "metadata": {"step": 3}});
    let logged = platform.post(&activity, report).bearer(&token).send().await;
    assert_eq!(logged.text, r#"{"status":"logged"}"#);
    let row = &feed(&platform, &id, &token, "type=task_update").await[0];
    assert_eq!(
        (&row["summary"], &row["source_id"], &row["target_id"]),
        (&json!("half done"), &json!(id), &json!(other))
    );
    assert_eq!(
        (&row["request_body"]["step"], &row["status"], &row["duration_ms"]),
        (&json!(3), &json!("ok"), &json!(12))
    );

    let notify = format!("/workspaces/{id}/notify");
    let files =
        json!([{"uri": "workspace:/workspace/a.png", "name": "a.png", "mimeType": "image/png", "size": 3}]);
    let sent =
        platform.post(&notify, json!({"message": "look", "attachments": files})).bearer(&token).send().await;
    assert_eq!(sent.text, r#"{"status":"sent"}"#);
    let row = &feed(&platform, &id, &token, "type=a2a_receive").await[0];
    assert_eq!(
        (&row["method"], &row["source_id"], &row["summary"]),
        (&json!("notify"), &Value::Null, &json!("Agent message: look"))
    );
    assert_eq!(
        (&row["response_body"]["result"], &row["response_body"]["parts"][0]["file"]["name"]),
        (&json!("look"), &json!("a.png"))
    );
    assert!(
        row.get("request_body").is_none() && row.get("data").is_none(),
        "no client answers itself: {row}"
    );

    for (path, body, bearer, said) in [
        (
            &activity,
            json!({"activity_type": "x"}),
            &token,
            (
                400,
                "invalid activity_type, must be one of: a2a_send, a2a_receive, task_update, agent_log, skill_promotion, memory_write, error",
            ),
        ),
        (
            &activity,
            json!({"activity_type": "error", "source_id": other}),
            &token,
            (403, "source_id must match authenticated workspace"),
        ),
        (&activity, json!({"activity_type": "error"}), &other_token, (401, "invalid workspace auth token")),
        (&notify, json!({}), &token, (400, "message is required")),
        (
            &notify,
            json!({"message": "m", "attachments": [{"uri": "x"}]}),
            &token,
            (400, "attachment[0]: uri and name are required"),
        ),
    ] {
        let reply = platform.post(path, body.clone()).bearer(bearer).send().await;
        assert_eq!(reply.says(), said, "{body}");
        assert!(reply.is_named());
    }
}

/// Contract data 4.3: the furthest word counts, and operators see it.
#[actix_web::test]
async fn an_agent_says_how_far_it_has_read_and_never_less_than_before() {
    let platform = platform().await;
    let (id, token) = platform.external("agent", None).await;
    let ack =
        |body: Value| platform.post(&format!("/workspaces/{id}/activity/ack"), body).bearer(&token).send();
    assert_eq!(ack(json!({"acked_seq": 7})).await.text, "{\"last_acked_seq\":7}");
    assert_eq!(ack(json!({"acked_seq": 3})).await.text, "{\"last_acked_seq\":7}");
    assert_eq!(ack(json!({"acked_seq": 0})).await.text, "{\"last_acked_seq\":7}");
    assert_eq!(ack(json!({})).await.says(), (400, "acked_seq is required"));
    let negative = ack(json!({"acked_seq": -1})).await;
    assert_eq!(
        (negative.says(), &negative.json["field"]),
        ((400, "acked_seq must be >= 0"), &json!("acked_seq"))
    );
    assert_eq!(ack(json!({"acked_seq": "x"})).await.says(), (400, "acked_seq is required"));
    let details = platform.get(&format!("/workspaces/{id}/details")).bearer(ADMIN).send().await.json;
    assert_eq!(details["last_acked_seq"], 7);
    let log = platform.get(&format!("/admin/log?workspace={id}&type=workspace.activity_acked"));
    assert_eq!(log.bearer(ADMIN).send().await.text.lines().count(), 1, "only news is recorded");
}
