//! Two moments side by side and the steps between them, over HTTP: what they say, who may ask, and what is refused.

use std::collections::BTreeMap;

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

async fn lines(platform: &Platform, path: &str) -> Vec<Value> {
    let reply = ask(platform, path).await;
    assert_eq!(reply.status, 200, "{path}: {reply:?}");
    reply.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn online(platform: &Platform, name: &str) -> String {
    let id = platform.create(json!({"name": name, "runtime": "echo"})).await;
    beat(platform, &id).await;
    id
}

fn subject<'a>(diff: &'a Value, key: &str) -> &'a Value {
    let subjects = diff["subjects"].as_array().unwrap();
    subjects.iter().find(|subject| subject["key"] == key).unwrap_or_else(|| panic!("no {key} in {diff}"))
}

fn field<'a>(subject: &'a Value, name: &str) -> &'a Value {
    let fields = subject["fields"].as_array().unwrap();
    fields.iter().find(|field| field["field"] == name).unwrap_or_else(|| panic!("no {name} in {subject}"))
}

#[actix_web::test]
async fn a_difference_names_what_came_went_and_changed_and_the_fact_behind_it() {
    let platform = Platform::start().await;
    let (lead, gone) = (online(&platform, "lead").await, online(&platform, "gone").await);
    let from = platform.settled_head().await;
    let change =
        |path: String, body: Value| platform.ask(Method::PATCH, &path).bearer(ADMIN).json(body).send();
    assert_eq!(change(format!("/workspaces/{lead}"), json!({"tier": 3})).await.status, 200);
    let removed = format!("/workspaces/{gone}?confirm=true");
    assert_eq!(platform.ask(Method::DELETE, &removed).bearer(ADMIN).send().await.status, 200);
    let coder = online(&platform, "coder").await;
    let hold = platform.post("/admin/holds", json!({"reason": "new disk", "lasts": "10m"})).bearer(ADMIN);
    let hold = hold.send().await;
    assert!((200..300).contains(&hold.status), "{hold:?}");
    let to = platform.settled_head().await;

    let diff = get(&platform, &format!("/diff?from={from}&to={to}")).await;
    assert_eq!((&diff["from"]["position"], &diff["to"]["position"]), (&json!(from), &json!(to)));
    let tier = field(subject(&diff, &lead), "tier");
    assert_eq!((&tier["before"], &tier["after"]), (&json!(2), &json!(3)));
    assert_eq!(tier["by"]["type"], "workspace.tier_changed.v1");
    assert!(tier["by"]["position"].as_u64().unwrap() > from.0, "{tier}");
    for (key, how, by) in
        [(&coder, "added", "workspace.created.v1"), (&gone, "removed", "workspace.removed.v1")]
    {
        let found = subject(&diff, key);
        assert_eq!((&found["how"], &found["by"]["type"]), (&json!(how), &json!(by)), "{found}");
    }
    let holds = diff["subjects"].as_array().unwrap().iter().filter(|subject| subject["what"] == "hold");
    let holds: Vec<&Value> = holds.collect();
    assert_eq!((holds.len(), &holds[0]["name"]), (1, &json!("new disk")), "{diff}");
    assert_eq!(holds[0]["by"]["type"], "fleet.hold_set.v1");

    let only = get(&platform, &format!("/diff?from={from}&to={to}&workspace={lead}")).await;
    let named = only["subjects"].as_array().unwrap().iter().filter(|subject| subject["what"] == "workspace");
    assert_eq!(named.map(|subject| subject["key"].as_str().unwrap()).collect::<Vec<_>>(), [lead.as_str()]);
    let none = get(&platform, &format!("/diff?from={to}&to={to}")).await;
    assert_eq!((&none["subjects"], &none["facts"]), (&json!([]), &json!(0)));
}

/// Fields by subject, as a reader of a replay keeps them.
type Kept = BTreeMap<(String, String), BTreeMap<String, Value>>;

fn change(kept: &mut Kept, change: &Value, forwards: bool) {
    let (from, to) = if forwards { ("before", "after") } else { ("after", "before") };
    let text = |name: &str| change[name].as_str().unwrap().to_owned();
    let key = (text("what"), text("key"));
    let fields = kept.entry(key.clone()).or_default();
    assert_eq!(fields.remove(&text("field")).unwrap_or_default(), change[from], "{change}");
    if !change[to].is_null() {
        fields.insert(text("field"), change[to].clone());
    }
    if fields.is_empty() {
        kept.remove(&key);
    }
}

fn opening(state: &Value) -> Kept {
    assert_eq!(state["kind"], "state", "{state}");
    let text = |subject: &Value, name: &str| subject[name].as_str().unwrap().to_owned();
    let subjects = state["subjects"].as_array().unwrap().iter().map(|subject| {
        let fields = subject["fields"].as_object().unwrap().clone().into_iter().collect();
        ((text(subject, "what"), text(subject, "key")), fields)
    });
    subjects.collect()
}

#[actix_web::test]
async fn a_replay_leads_from_one_state_to_the_other_and_back() {
    let platform = Platform::start().await;
    let lead = online(&platform, "lead").await;
    let begin = platform.settled_head().await;
    let restart = platform.ask(Method::POST, &format!("/workspaces/{lead}/restart")).bearer(ADMIN);
    assert_eq!(restart.json(json!({})).send().await.status, 200);
    beat(&platform, &lead).await;
    online(&platform, "coder").await;
    let end = platform.settled_head().await;

    let all = lines(&platform, &format!("/replay?from={begin}&to={end}")).await;
    let (first, last) = (all.first().unwrap(), all.last().unwrap());
    assert_eq!((&last["kind"], &last["position"]), (&json!("end"), &json!(end)));
    let positions: Vec<u64> =
        all[1..all.len() - 1].iter().map(|line| line["position"].as_u64().unwrap()).collect();
    assert_eq!(positions, (begin.0 + 1..=end.0).collect::<Vec<_>>());
    let before = opening(first);
    let mut kept = before.clone();
    let changes: Vec<&Value> = all[1..].iter().flat_map(|line| line["changes"].as_array().unwrap()).collect();
    for one in &changes {
        change(&mut kept, one, true);
    }
    let after = opening(&lines(&platform, &format!("/replay?from={end}&to={end}")).await[0]);
    assert_eq!(kept, after);
    for one in changes.iter().rev() {
        change(&mut kept, one, false);
    }
    assert_eq!(kept, before);

    // Who skips what is routine gets there as well.
    let notable = lines(&platform, &format!("/replay?from={begin}&to={end}&step=notable")).await;
    assert!(notable.len() < all.len(), "{} of {}", notable.len(), all.len());
    let mut kept = before;
    for one in notable[1..].iter().flat_map(|line| line["changes"].as_array().unwrap()) {
        change(&mut kept, one, true);
    }
    assert_eq!(kept, after);
}

#[actix_web::test]
async fn a_replay_keeps_the_pace_that_was_asked_for() {
    let platform = Platform::start().await;
    online(&platform, "lead").await;
    let head = platform.settled_head().await;
    let all = lines(&platform, &format!("/replay?from=1&to={head}")).await;
    let at =
        |line: &Value| chrono::DateTime::parse_from_rfc3339(line["at"].as_str().unwrap()).unwrap().to_utc();
    let facts = &all[1..all.len() - 1];
    let lasted = (at(facts.last().unwrap()) - at(facts.first().unwrap())).to_std().unwrap();
    assert!(lasted > std::time::Duration::ZERO);
    let begun = std::time::Instant::now();
    let paced = lines(&platform, &format!("/replay?from=1&to={head}&speed=0.5")).await;
    assert!(begun.elapsed() >= lasted * 2, "{:?} for {lasted:?}", begun.elapsed());
    assert_eq!(paced, all);
    let sse = platform.get(&format!("/replay?from=1&to={head}")).bearer(ADMIN);
    let sse = sse.header("accept", "text/event-stream").send().await;
    assert!(sse.text.starts_with("id: 1\ndata: {\"kind\":\"state\""), "{}", sse.text);
    assert_eq!(sse.text.matches("\n\n").count(), all.len());
}

#[actix_web::test]
async fn what_can_not_be_compared_or_replayed_names_the_field_and_what_is_allowed() {
    let platform = Platform::start().await;
    online(&platform, "lead").await;
    for (path, field, detail) in [
        ("/diff", "from", "a moment to begin with"),
        ("/diff?from=soon", "from", "RFC 3339"),
        ("/diff?from=1&to=soon", "to", "RFC 3339"),
        ("/diff?from=3&to=2", "from", "before `to`"),
        ("/diff?from=1&workspace=lead", "workspace", "commas"),
        ("/replay?to=2", "from", "a moment to begin with"),
        ("/replay?from=1&speed=0", "speed", "0.01 to 1000"),
        ("/replay?from=1&step=day", "step", "`notable`"),
    ] {
        let reply = ask(&platform, path).await;
        assert_eq!((reply.status, &reply.json["field"]), (400, &json!(field)), "{path}: {reply:?}");
        assert!(reply.json["detail"].as_str().unwrap().contains(detail), "{path}: {reply:?}");
    }
    for path in ["/diff?from=1", "/replay?from=1"] {
        assert_eq!(platform.get(path).send().await.status, 401, "{path}");
    }
}
