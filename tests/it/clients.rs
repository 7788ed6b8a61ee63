//! Existing clients, each request with the bytes that the client sends, each answer held against what the client relies on
//! and nothing else.
//!
//! The requests are written out here and not made by a library, because names, order and spelling of what is sent are the
//! point. One file per client.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use super::support::client::{Client, message};
use super::support::eventually::eventually;
use super::support::platform::Platform;

mod connect;
mod python_sdk;
mod runtime;

/// No answer here takes longer; the clients give up after 10 to 30 s.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Far longer than a record takes.
const RECORDED_LIMIT: Duration = Duration::from_secs(10);

/// An answer as it came.
#[derive(Debug)]
struct Answered {
    status: u16,
    head: Vec<(String, String)>,
    body: String,
}

impl Answered {
    /// The body as JSON, of an answer that must have this status.
    fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A header's value.
    fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// Sends a request as it is written: the method and the path, a line for each header, an empty line, the body. Only what a
/// client can't choose is added: version, `Host` and `Content-Length`.
fn sent(platform: &Platform, request: &str) -> Answered {
    let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
    let (line, headers) = head.split_once('\n').unwrap_or((head, ""));
    let mut wire = format!("{line} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n", platform.port());
    for header in headers.lines() {
        write!(wire, "{header}\r\n").expect("a string takes it");
    }
    if !body.is_empty() {
        write!(wire, "Content-Length: {}\r\n", body.len()).expect("a string takes it");
    }
    write!(wire, "\r\n{body}").expect("a string takes it");
    let mut stream = TcpStream::connect(("127.0.0.1", platform.port())).expect("the platform listens");
    stream.set_read_timeout(Some(ANSWER_LIMIT)).expect("a limit");
    stream.write_all(wire.as_bytes()).expect("the platform reads");
    read(&mut BufReader::new(stream))
}

fn read(stream: &mut impl BufRead) -> Answered {
    let status = line(stream).split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
    let mut answered = Answered { status, head: Vec::new(), body: String::new() };
    loop {
        let header = line(stream);
        let Some((name, value)) = header.split_once(':') else { break };
        answered.head.push((name.to_owned(), value.trim().to_owned()));
    }
    let bytes = match answered.header("content-length").map(str::parse) {
        Some(length) => taken(stream, length.expect("a length")),
        None if answered.header("transfer-encoding") == Some("chunked") => chunks(stream),
        None => Vec::new(),
    };
    answered.body = String::from_utf8(bytes).expect("text");
    answered
}

fn line(stream: &mut impl BufRead) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).expect("the platform answers");
    line.trim_end().to_owned()
}

fn taken(stream: &mut impl Read, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).expect("the platform sends what it announced");
    bytes
}

fn chunks(stream: &mut impl BufRead) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let length = usize::from_str_radix(&line(stream), 16).expect("a chunk's length");
        bytes.extend(taken(stream, length));
        line(stream);
        if length == 0 {
            return bytes;
        }
    }
}

/// An external workspace and its token.
async fn external(admin: &Client, name: &str) -> (String, String) {
    let wish = json!({"name": name, "runtime": "external"});
    let made = admin.post("/workspaces", &wish).await.expect("the platform answers").expect(201);
    let text = |place: &str| made.pointer(place).and_then(Value::as_str).expect("it is there").to_owned();
    (text("/id"), text("/connection/auth_token"))
}

/// Somebody who speaks for a workspace.
async fn speaker(platform: &Platform, id: &str) -> Client {
    let path = format!("/workspaces/{id}/tokens");
    let made = platform.admin().post(&path, &json!({})).await.expect("the platform answers").expect(201);
    Client::new(platform.url.clone(), made["auth_token"].as_str().expect("a token").to_owned())
}

/// What a workspace was told last, once that is this text: calls are recorded a moment after their answer.
async fn told(speaker: &Client, id: &str, text: &str) -> Value {
    eventually("a call is in the feed", RECORDED_LIMIT, async || {
        let path = format!("/workspaces/{id}/activity?type=a2a_receive&limit=1");
        let rows = speaker.get(&path).await.map_err(|error| error.to_string())?.json();
        let newest = rows[0].clone();
        if newest["data"]["text"] == text { Ok(newest) } else { Err(newest.to_string()) }
    })
    .await
}

/// Somebody says something to an agent that fetches its messages.
async fn tell(from: &Client, id: &str, text: &str) {
    let queued = from.post(&format!("/workspaces/{id}/a2a"), &message(text)).await;
    let queued = queued.expect("the platform answers").expect(200);
    assert_eq!(queued, json!({"status": "queued", "delivery_mode": "poll", "method": "message/send"}));
}
