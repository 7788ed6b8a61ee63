//! The command line's `connect`: it fetches messages for an agent on somebody's machine and brings the answers back.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::support::eventually::eventually;
use super::super::support::platform::{Platform, Settings};
use super::{Answered, external, sent, speaker, tell, told};

const TASK_LIMIT: Duration = Duration::from_secs(30);

struct Connect<'a> {
    platform: &'a Platform,
    id: String,
    token: String,
    /// The row that it handled last, as its state file has it.
    cursor: Option<String>,
}

impl Connect<'_> {
    /// Go sorts the headers by name after `User-Agent`, and the members of bodies that it writes from maps.
    fn post(&self, path: &str, body: &str) -> Answered {
        let token = &self.token;
        let headers = format!(
            "User-Agent: Go-http-client/1.1\nAuthorization: Bearer {token}\nContent-Type: application/json\n\
             Accept-Encoding: gzip"
        );
        sent(self.platform, &format!("POST {path}\n{headers}\n\n{body}"))
    }

    fn registers(&self) -> Answered {
        let id = &self.id;
        let card = "{\"description\":\"a bridge\",\"name\":\"laptop\",\"version\":\"0.1.0\"}";
        let body = format!("{{\"agent_card\":{card},\"delivery_mode\":\"poll\",\"id\":\"{id}\"}}");
        self.post("/registry/register", &body)
    }

    fn beats(&self) -> Answered {
        let id = &self.id;
        let body = format!("{{\"runtime_state\":\"ok\",\"uptime_seconds\":0,\"workspace_id\":\"{id}\"}}");
        self.post("/registry/heartbeat", &body)
    }

    fn asks(&self) -> Answered {
        let since = self.cursor.as_ref().map(|id| format!("&since_id={id}")).unwrap_or_default();
        let (id, token) = (&self.id, &self.token);
        let path = format!("/workspaces/{id}/activity?limit=50{since}&type=a2a_receive");
        let headers = format!(
            "User-Agent: Go-http-client/1.1\nAccept: application/json\nAuthorization: Bearer {token}\n\
             Accept-Encoding: gzip"
        );
        sent(self.platform, &format!("GET {path}\n{headers}"))
    }

    /// One round: fetches, answers each in capitals, and remembers each that it has handled.
    fn polls(&mut self) -> Vec<String> {
        let rows = self.asks().expect(200);
        let mut handled = Vec::new();
        for row in rows.as_array().expect("a list") {
            let text = text_of(row);
            // What people say is logged only; so is what has no text.
            if let (Some(source), false) = (row["source_id"].as_str(), text.is_empty()) {
                let answered = self.answers(source, row["id"].as_str().expect("an id"), &text.to_uppercase());
                assert!(answered.status < 400, "an error here would end its polling: {answered:?}");
            }
            self.cursor = row["id"].as_str().map(str::to_owned);
            handled.push(text);
        }
        handled
    }

    /// Who answers is in the bearer alone, what is answered in the request's id.
    fn answers(&self, source: &str, row: &str, text: &str) -> Answered {
        let body = format!(
            "{{\"id\":\"{row}\",\"jsonrpc\":\"2.0\",\"method\":\"message/send\",\"params\":{{\"message\":{{\"parts\":\
             [{{\"text\":\"{text}\",\"type\":\"text\"}}],\"role\":\"assistant\"}}}}}}"
        );
        self.post(&format!("/workspaces/{source}/a2a"), &body)
    }
}

/// It reads parts by their `type`, and no others.
fn text_of(row: &Value) -> String {
    let parts = row.pointer("/request_body/params/message/parts").and_then(Value::as_array);
    let texts = parts.into_iter().flatten().filter(|part| part["type"] == "text");
    texts.filter_map(|part| part["text"].as_str()).collect()
}

#[tokio::test]
async fn connect_fetches_answers_and_goes_on_after_a_lost_cursor() {
    let platform = Platform::start(Settings::process()).await;
    let admin = platform.admin();
    let peer = admin.create_online(&["Ada".to_owned()]).await.remove(0);
    let (id, token) = external(&admin, "laptop").await;
    let ada = speaker(&platform, &peer).await;
    let mut connect = Connect { platform: &platform, id, token, cursor: None };
    assert_eq!(connect.registers().status, 200);
    assert_eq!(connect.beats().status, 200);
    assert_eq!(admin.row(&connect.id).await.unwrap()["status"], "online");
    assert_eq!(connect.polls(), [""; 0]);

    // Ada's words have only `kind`, as those of most clients.
    tell(&ada, &connect.id, "how deep?").await;
    assert_eq!(connect.polls(), ["how deep?"]);
    let answer = told(&ada, &peer, "HOW DEEP?").await;
    assert_eq!(answer["source_id"], json!(connect.id));
    assert_eq!(connect.polls(), [""; 0], "each message once");
    for text in ["one", "two", "three"] {
        tell(&admin, &connect.id, text).await;
    }
    assert_eq!(connect.polls(), ["one", "two", "three"], "oldest first");

    let task = json!({"target_id": connect.id, "task": "dig"});
    let handed = ada.post(&format!("/workspaces/{peer}/delegate"), &task).await.unwrap().expect(202);
    eventually("the task comes to it", TASK_LIMIT, async || {
        let handled = connect.polls();
        if handled == ["dig"] { Ok(()) } else { Err(format!("{handled:?}")) }
    })
    .await;
    let listed = ada.get(&format!("/workspaces/{peer}/delegations")).await.unwrap().expect(200);
    assert_eq!(
        (&listed[0]["delegation_id"], &listed[0]["status"], &listed[0]["type"]),
        (&handed["delegation_id"], &json!("completed"), &json!("delegate_result"))
    );
    assert!(listed[0]["response_preview"].as_str().unwrap().contains("DIG"), "{listed}");

    for lost in [answer["id"].as_str().unwrap(), "00000000-0000-0000-0000-000000000000"] {
        connect.cursor = Some(lost.to_owned());
        assert_eq!(connect.asks().status, 410, "{lost}");
    }
    connect.cursor = None;
    assert_eq!(connect.asks().expect(200).as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn connect_is_told_for_good_when_its_token_is_worthless() {
    let platform = Platform::start(Settings::process()).await;
    let admin = platform.admin();
    let (id, _) = external(&admin, "laptop").await;
    let connect = Connect { platform: &platform, id, token: "nonsense".to_owned(), cursor: None };
    // A 4xx is final for it, anything else would be tried again.
    for answered in [connect.registers(), connect.beats(), connect.asks()] {
        assert_eq!(answered.status, 401, "{answered:?}");
        assert!(answered.header("www-authenticate").is_some(), "{answered:?}");
    }
}
