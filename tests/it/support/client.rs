//! A small client for the wire: whatever comes back is looked at as it came, status, headers and body.

use std::sync::Once;
use std::time::Duration;

use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};

use super::eventually::eventually;
use super::platform::ONLINE_LIMIT;

/// Nothing here takes longer; a test that waits for ever tells nothing.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// An answer as it came.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// The status code.
    pub(crate) status: u16,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) text: String,
}

impl Reply {
    /// The body as JSON; null where it is not.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// The body as JSON, of an answer that must have this status.
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }
}

/// One line of the log.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    /// Its place in the global order.
    pub(crate) position: u64,
    /// Its name.
    pub(crate) id: String,
    /// The wire tag.
    pub(crate) tag: String,
    /// The fact that led to it.
    pub(crate) causation: Option<String>,
    /// The whole line.
    pub(crate) line: Value,
}

impl Fact {
    /// A value of the payload.
    pub(crate) fn get(&self, name: &str) -> &Value {
        &self.line["data"][name]
    }
}

/// A caller of one platform.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    token: String,
}

impl Client {
    /// Speaks with this bearer token, or without any if it is empty.
    pub(crate) fn new(url: String, token: String) -> Self {
        static CRYPTO: Once = Once::new();
        CRYPTO.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        Self { http: http(REQUEST_LIMIT), url, token }
    }

    /// The same caller with another patience.
    pub(crate) fn with_limit(&self, limit: Duration) -> Self {
        Self { http: http(limit), ..self.clone() }
    }

    /// Another caller of the same platform.
    pub(crate) fn speaking_as(&self, token: String) -> Self {
        Self { token, ..self.clone() }
    }

    /// The token that it shows.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Any request.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Reply, reqwest::Error> {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Reply { status, headers, text: response.text().await? })
    }

    /// GET.
    pub(crate) async fn get(&self, path: &str) -> Result<Reply, reqwest::Error> {
        self.send(Method::GET, path, None, &[]).await
    }

    /// POST with a JSON body.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Reply, reqwest::Error> {
        self.send(Method::POST, path, Some(body), &[]).await
    }

    /// Creates an echo workspace; answers its id without waiting for it.
    pub(crate) async fn create(&self, name: &str) -> String {
        let body = json!({ "name": name, "runtime": "echo" });
        let created = self.post("/workspaces", &body).await.expect("the platform answers").expect(201);
        created["id"].as_str().expect("an id").to_owned()
    }

    /// Creates so many, all at once, and waits until all are online.
    pub(crate) async fn create_online(&self, names: &[String]) -> Vec<String> {
        let ids = futures_util::future::join_all(names.iter().map(|name| self.create(name))).await;
        for id in &ids {
            self.wait_status(id, "online").await;
        }
        ids
    }

    /// The row of one workspace, as admins see it.
    pub(crate) async fn row(&self, id: &str) -> Result<Value, String> {
        let reply = self.get("/workspaces").await.map_err(|error| error.to_string())?;
        let rows = reply.json();
        let found = rows.as_array().and_then(|rows| rows.iter().find(|row| row["id"] == id));
        found.cloned().ok_or_else(|| format!("no row of {id} in {}", reply.text))
    }

    /// Waits until the roster shows this status; answers the row.
    pub(crate) async fn wait_status(&self, id: &str, status: &str) -> Value {
        let what = format!("workspace {id} is {status}");
        eventually(&what, ONLINE_LIMIT, async || {
            let row = self.row(id).await?;
            if row["status"] == status { Ok(row) } else { Err(row.to_string()) }
        })
        .await
    }

    /// Sends a text to an agent through the platform.
    pub(crate) async fn message(&self, id: &str, text: &str) -> Result<Reply, reqwest::Error> {
        self.post(&format!("/workspaces/{id}/a2a"), &message(text)).await
    }

    /// Sends a text and answers what the agent said.
    pub(crate) async fn ask(&self, id: &str, text: &str) -> String {
        said(&self.message(id, text).await.expect("the platform answers").expect(200))
    }

    /// The log after a position; of one workspace, or all of it.
    pub(crate) async fn log(&self, workspace: Option<&str>, after: u64) -> Result<Vec<Fact>, String> {
        let mut facts: Vec<Fact> = Vec::new();
        loop {
            let from = facts.last().map_or(after, |fact| fact.position);
            let filter = workspace.map(|id| format!("&workspace={id}")).unwrap_or_default();
            let path = format!("/admin/log?after={from}&limit=1000{filter}");
            let reply = self.get(&path).await.map_err(|error| error.to_string())?;
            if reply.status != 200 {
                return Err(format!("{path}: {} {}", reply.status, reply.text));
            }
            let page: Vec<Fact> = reply.text.lines().filter(|line| !line.is_empty()).map(fact).collect();
            if page.is_empty() {
                return Ok(facts);
            }
            facts.extend(page);
        }
    }
}

fn http(limit: Duration) -> reqwest::Client {
    // The server closes what is idle for five seconds, and a request that is just being sent would be lost with it.
    let idle = Duration::from_secs(2);
    reqwest::Client::builder().no_proxy().timeout(limit).pool_idle_timeout(idle).build().expect("a client")
}

/// A `message/send` request with one text.
pub(crate) fn message(text: &str) -> Value {
    json!({
        "jsonrpc": "2.0", "id": "1", "method": "message/send",
        "params": { "message": {
            "kind": "message", "role": "user", "messageId": uuid::Uuid::now_v7().to_string(),
            "parts": [{ "kind": "text", "text": text }],
        } },
    })
}

/// The first text in an A2A answer, wherever the agent put it: a message's part, a task's status or an artifact.
pub(crate) fn said(answer: &Value) -> String {
    fn first_text(value: &Value) -> Option<&str> {
        match value {
            Value::Object(map) => match map.get("text") {
                Some(Value::String(text)) => Some(text),
                _ => {
                    map.iter().filter(|(name, _)| *name != "history").find_map(|(_, inner)| first_text(inner))
                }
            },
            Value::Array(items) => items.iter().find_map(first_text),
            _ => None,
        }
    }
    first_text(&answer["result"]).unwrap_or_else(|| panic!("no text in {answer}")).to_owned()
}

fn fact(line: &str) -> Fact {
    let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in log line {line}"));
    let text = |name: &str| line[name].as_str().map(ToOwned::to_owned);
    Fact {
        position: line["position"].as_u64().unwrap_or_else(|| panic!("no position in {line}")),
        id: text("id").unwrap_or_else(|| panic!("no id in {line}")),
        tag: text("type").unwrap_or_else(|| panic!("no type in {line}")),
        causation: text("causation"),
        line,
    }
}
