//! The Python SDK for remote agents: it registers without a credential, keeps the token that it gets once, and does
//! everything else with it.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::super::support::eventually::eventually;
use super::super::support::platform::{Platform, Settings};
use super::{Answered, external, sent, speaker, tell, told};

/// Longer than any task of an echo takes.
const TASK_LIMIT: Duration = Duration::from_secs(30);
/// What the SDK writes where it can't be called.
const NO_INBOUND: &str = "remote://no-inbound";
const KEY: &str = "5f0c5dd8e1b0e4c1a8f1a0f4d5ad5f0b4d2b3b77d9f1f4f1e3dbd40b7b9a1f0c";

/// The SDK in a program of somebody's.
struct Sdk<'a> {
    platform: &'a Platform,
    id: String,
    token: String,
}

impl Sdk<'_> {
    /// What its HTTP library sends with everything, and the origin that its main line adds.
    fn usual(&self) -> String {
        format!(
            "User-Agent: python-requests/2.32.3\nAccept-Encoding: gzip, deflate\nAccept: */*\nConnection: keep-alive\n\
             Origin: {}",
            self.platform.url
        )
    }

    fn bearer(&self) -> String {
        format!("{}\nAuthorization: Bearer {}", self.usual(), self.token)
    }

    /// Beside the bearer, who calls.
    fn caller(&self) -> String {
        format!("{}\nX-Workspace-ID: {}", self.bearer(), self.id)
    }

    fn get(&self, path: &str) -> Answered {
        sent(self.platform, &format!("GET {path}\n{}", self.bearer()))
    }

    fn post(&self, path: &str, headers: &str, body: &str) -> Answered {
        sent(self.platform, &format!("POST {path}\n{headers}\nContent-Type: application/json\n\n{body}"))
    }

    fn registers(&self) -> Value {
        let id = &self.id;
        let body = format!(
            "{{\"id\": \"{id}\", \"url\": \"{NO_INBOUND}\", \"agent_card\": {{\"name\": \"scout\", \"skills\": []}}}}"
        );
        self.post("/registry/register", &self.usual(), &body).expect(200)
    }

    fn beats(&self, task: &str) -> Answered {
        let id = &self.id;
        let body = format!(
            "{{\"workspace_id\": \"{id}\", \"current_task\": \"{task}\", \"active_tasks\": 1, \"error_rate\": 0.0, \
             \"sample_error\": \"\", \"uptime_seconds\": 12}}"
        );
        self.post("/registry/heartbeat", &self.bearer(), &body)
    }

    fn state(&self) -> Answered {
        self.get(&format!("/workspaces/{}/state", self.id))
    }

    /// One look for messages, as the SDK reads them.
    fn fetches(&self, narrowed: &str) -> Vec<Inbound> {
        let rows = self.get(&self.feed(narrowed)).expect(200);
        rows.as_array().expect("a list").iter().map(Inbound::read).collect()
    }

    fn feed(&self, narrowed: &str) -> String {
        format!("/workspaces/{}/activity?type=a2a_receive&limit=100{narrowed}", self.id)
    }

    /// A call to a peer, by the path that is left of the address that it was told.
    fn calls(&self, path: &str, text: &str) -> Value {
        let body = format!(
            "{{\"jsonrpc\": \"2.0\", \"id\": \"0b0d5c5e-31b2-4f0e-8d9a-2d9c4d7b4a11\", \"method\": \"message/send\", \
             \"params\": {{\"message\": {{\"role\": \"user\", \"messageId\": \"6a2a7d0e-6f3a-4d55-9a39-0d6c1f2f7b10\", \
             \"parts\": [{{\"kind\": \"text\", \"text\": \"{text}\"}}]}}}}}}"
        );
        self.post(path, &self.caller(), &body).expect(200)
    }

    fn answers_peer(&self, peer: &str, text: &str) -> Answered {
        let headers = format!("{}\nX-Source-Workspace-Id: {}", self.caller(), self.id);
        let body = format!(
            "{{\"jsonrpc\": \"2.0\", \"id\": \"8f1f7c1c-9b39-4ad8-b6cf-6c2f5a3e8f02\", \"method\": \"message/send\", \
             \"params\": {{\"message\": {{\"role\": \"agent\", \"messageId\": \"b6f5a9ae-5df4-4b6e-9a0c-6f6f5f0b1c3d\", \
             \"parts\": [{{\"kind\": \"text\", \"text\": \"{text}\"}}]}}}}}}"
        );
        self.post(&format!("/workspaces/{peer}/a2a"), &headers, &body)
    }

    /// The target is in the path, the caller in the bearer.
    fn delegates(&self, target: &str, task: &str) -> Answered {
        let body = format!("{{\"task\": \"{task}\", \"idempotency_key\": \"{KEY}\"}}");
        self.post(&format!("/workspaces/{target}/delegate"), &self.caller(), &body)
    }
}

/// A row as the SDK understands it.
#[derive(Debug, PartialEq, Eq)]
struct Inbound {
    id: String,
    source: &'static str,
    source_id: String,
    text: String,
}

impl Inbound {
    fn read(row: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let data = &row["data"];
        let source_id = if row["source_id"].is_string() { &row["source_id"] } else { &data["source_id"] };
        let source_id = text(source_id);
        let source = match data["source"].as_str() {
            Some("canvas_user" | "user") => "canvas_user",
            Some("peer_agent") => "peer_agent",
            _ if source_id.is_empty() => "unknown",
            _ => "peer_agent",
        };
        Self { id: text(&row["id"]), source, source_id, text: text(&data["text"]) }
    }

    fn seen(&self) -> (&str, &str, &str) {
        (self.source, &self.source_id, &self.text)
    }
}

#[tokio::test]
async fn the_python_sdk_lives_its_whole_life() {
    let platform = Platform::start(Settings::process()).await;
    let admin = platform.admin();
    let peer = admin.create_online(&["Ada".to_owned()]).await.remove(0);
    let wish = json!({"name": "scout", "runtime": "external", "url": NO_INBOUND});
    let made = admin.post("/workspaces", &wish).await.unwrap().expect(201);
    assert_eq!((&made["status"], made.get("connection")), (&json!("awaiting_agent"), None), "no token yet");
    let id = made["id"].as_str().unwrap().to_owned();
    let mut sdk = Sdk { platform: &platform, id, token: String::new() };

    let registered = sdk.registers();
    assert_eq!(registered["auth_token"].as_str().map(str::len), Some(43), "{registered}");
    registered["auth_token"].as_str().unwrap().clone_into(&mut sdk.token);
    assert_eq!(
        sdk.registers().get("auth_token"),
        None,
        "it registers at each start, and is shown a token once"
    );

    assert_eq!(sdk.beats("digging").status, 200);
    let state = sdk.state().expect(200);
    assert_eq!(
        (&state["status"], &state["paused"], &state["deleted"]),
        (&json!("online"), &json!(false), &json!(false))
    );
    eventually("its operator sees what it does", TASK_LIMIT, async || {
        let row = admin.row(&sdk.id).await?;
        if row["current_task"] == "digging" { Ok(()) } else { Err(row.to_string()) }
    })
    .await;
    its_secrets(&sdk).await;
    its_peers(&sdk, &peer);
    its_messages(&sdk, &peer).await;
    its_tasks(&sdk, &peer).await;
    its_end(&sdk, &peer).await;
}

async fn its_secrets(sdk: &Sdk<'_>) {
    let path = format!("/workspaces/{}/secrets/values", sdk.id);
    assert_eq!(sdk.get(&path).expect(200), json!({}));
    let secret = json!({"key": "REMOTE_KEY", "value": "hello"});
    let own = format!("/workspaces/{}/secrets", sdk.id);
    sdk.platform.admin().post(&own, &secret).await.unwrap().expect(200);
    assert_eq!(sdk.get(&path).expect(200), json!({"REMOTE_KEY": "hello"}));
}

/// Whom it may talk with. The addresses are reachable for somebody who reaches the platform.
fn its_peers(sdk: &Sdk<'_>, peer: &str) {
    let listed = sent(sdk.platform, &format!("GET /registry/{}/peers\n{}", sdk.id, sdk.caller())).expect(200);
    let [row] = listed.as_array().expect("a list").as_slice() else { panic!("{listed}") };
    for key in ["id", "name", "url", "role", "tier", "status", "agent_card"] {
        assert!(row.get(key).is_some(), "no {key} in {row}");
    }
    assert_eq!((&row["id"], &row["name"], &row["status"]), (&json!(peer), &json!("Ada"), &json!("online")));
    let listed = row["url"].as_str().unwrap().to_owned();

    let found = sent(sdk.platform, &format!("GET /registry/discover/{peer}\n{}", sdk.caller())).expect(200);
    for address in [found["url"].as_str().expect("an address"), &listed] {
        let path = address.strip_prefix(&sdk.platform.url).expect("one that it reaches").to_owned();
        assert_eq!(sdk.calls(&path, "hello")["result"]["parts"][0]["text"], "echo Ada: hello");
    }
    let through = sdk.calls(&format!("/workspaces/{peer}/a2a"), "hello again");
    assert_eq!(through["result"]["parts"][0]["text"], "echo Ada: hello again");
}

async fn its_messages(sdk: &Sdk<'_>, peer: &str) {
    assert_eq!(sdk.fetches(""), []);
    let (admin, ada) = (sdk.platform.admin(), speaker(sdk.platform, peer).await);
    tell(&admin, &sdk.id, "dig here").await;
    let first = sdk.fetches("").remove(0);
    assert_eq!(first.seen(), ("canvas_user", "", "dig here"));
    let replied =
        sdk.post(&format!("/workspaces/{}/notify", sdk.id), &sdk.bearer(), "{\"message\": \"found a bone\"}");
    assert_eq!(replied.status, 200, "{replied:?}");

    tell(&ada, &sdk.id, "what did you find?").await;
    tell(&ada, &sdk.id, "well?").await;
    let after = format!("&since_id={}", first.id);
    let rows = sdk.fetches(&after);
    let seen: Vec<_> = rows.iter().map(Inbound::seen).collect();
    let ours = ("unknown", "", "");
    assert_eq!(
        seen,
        [ours, ("peer_agent", peer, "what did you find?"), ("peer_agent", peer, "well?")],
        "oldest first, its own word to people without a text that it could answer"
    );
    let narrowed = sdk.fetches(&format!("{after}&peer_id={peer}"));
    assert_eq!(narrowed.iter().collect::<Vec<_>>(), rows[1..].iter().collect::<Vec<_>>());
    assert_eq!(sdk.fetches("&before_ts=2026-01-01T00%3A00%3A00Z"), []);
    let row = &sdk.get(&sdk.feed(&after)).expect(200)[1];
    assert_eq!((&row["data"]["peer_name"], &row["data"]["peer_role"]), (&json!("Ada"), &json!(null)));
    assert!(row["data"]["agent_card_url"].as_str().is_some_and(|url| url.contains(peer)), "{row}");

    assert_eq!(sdk.answers_peer(peer, "a bone").status, 200);
    let answer = told(&ada, peer, "a bone").await;
    assert_eq!(answer["source_id"], json!(sdk.id));
    assert_eq!(sdk.fetches(&format!("&since_id={}", rows[2].id)), []);

    // A cursor of another feed is as lost as one that was thrown away: it begins again without.
    let foreign = answer["id"].as_str().unwrap();
    assert_eq!(sdk.get(&sdk.feed(&format!("&since_id={foreign}"))).status, 410);
    assert_eq!(sdk.fetches("").len(), 4);
}

async fn its_tasks(sdk: &Sdk<'_>, peer: &str) {
    let taken = sdk.delegates(peer, "dig deeper").expect(202);
    let delegation = taken["delegation_id"].as_str().expect("a name").to_owned();
    let again = sdk.delegates(peer, "dig deeper").expect(200);
    assert_eq!((&again["delegation_id"], &again["idempotent_hit"]), (&json!(delegation), &json!(true)));
    let row = eventually("the result is in its feed", TASK_LIMIT, async || {
        let rows = sdk.get(&sdk.feed("")).expect(200);
        let newest = rows[0].clone();
        if newest["method"] == "delegate_result" { Ok(newest) } else { Err(newest) }
    })
    .await;
    let result = Inbound::read(&row);
    assert_eq!((result.source, result.source_id.as_str()), ("peer_agent", peer));
    assert_eq!(result.text, "[A2A_RESULT_FROM_PEER]\necho Ada: dig deeper\n[/A2A_RESULT_FROM_PEER]");
    assert_eq!(row["request_body"]["params"]["message"]["metadata"]["delegation_id"], delegation);
}

/// It stops when it is told so, and that it is told.
async fn its_end(sdk: &Sdk<'_>, peer: &str) {
    let (admin, own) = (sdk.platform.admin(), format!("/workspaces/{}", sdk.id));
    admin.post(&format!("{own}/pause"), &json!({})).await.unwrap().expect(200);
    let paused = sdk.state().expect(200);
    assert_eq!((&paused["status"], &paused["paused"]), (&json!("paused"), &json!(true)));
    assert_eq!(sdk.beats("").status, 200, "a beat that comes late is no error");
    assert_eq!(sdk.state().expect(200)["status"], "paused", "and lifts nothing");
    admin.post(&format!("{own}/resume"), &json!({})).await.unwrap().expect(200);
    assert_eq!(sdk.beats("").status, 200);
    assert_eq!(sdk.state().expect(200)["status"], "online");

    for (id, is_last) in [(peer, false), (sdk.id.as_str(), true)] {
        let path = format!("/workspaces/{id}?confirm=true");
        admin.send(Method::DELETE, &path, None, &[]).await.unwrap().expect(200);
        if !is_last {
            let gone = sent(sdk.platform, &format!("GET /registry/discover/{id}\n{}", sdk.caller()));
            assert_eq!(gone.status, 404, "{gone:?}");
        }
    }
    assert_eq!(sdk.state().expect(404)["deleted"], true);
    assert!(sdk.beats("").status >= 400, "its token is worthless");
}

#[tokio::test]
async fn an_agent_that_connects_with_a_given_token_never_registers_and_is_reached_all_the_same() {
    let platform = Platform::start(Settings::process()).await;
    let admin = platform.admin();
    let (id, token) = external(&admin, "laptop").await;
    tell(&admin, &id, "are you there?").await;
    let sdk = Sdk { platform: &platform, id, token };
    assert_eq!(sdk.state().expect(200)["status"], "awaiting_agent");
    assert_eq!(sdk.beats("").status, 200);
    assert_eq!(sdk.state().expect(200)["status"], "online");
    assert_eq!(sdk.fetches("").remove(0).seen(), ("canvas_user", "", "are you there?"));
    // With the token in its file it registers at its start as well, and that takes nothing from it.
    assert_eq!(sdk.registers().get("auth_token"), None);
    assert_eq!(sdk.state().expect(200)["status"], "online");
}
