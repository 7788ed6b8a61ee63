//! What the platform itself sends to agents: its own word, to where our own backend said that they answer, and tasks that
//! workspaces hand to each other.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use async_trait::async_trait;
use bytes::BytesMut;
use covalence_actors::effect::{AgentChannel, AgentReply, BackendError, Errand, Notice, NoticeError, Probe};
use url::Url;

use crate::http::a2a::failure;
use crate::http::address::{self, Occasion, Surroundings};

/// To reach an agent on this machine's engine takes milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An agent may think about what it is told; what it says then is not read, so nobody needs to wait for longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// Where an agent's card is, below the address that it answers at (A2A 0.3, section 5.3).
const CARD_PATH: &str = "/.well-known/agent-card.json";

/// See the module.
#[derive(Debug)]
pub struct HttpChannel {
    http: reqwest::Client,
    surroundings: Surroundings,
}

impl HttpChannel {
    /// A channel without a proxy: agents are reached as the engine says, never by way of somebody else.
    ///
    /// # Errors
    /// When the TLS library can't be set up.
    pub fn new(surroundings: Surroundings) -> Result<Self, reqwest::Error> {
        // The program installs it at its start; whoever uses this module alone gets it here.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = client()
            .timeout(ANSWER_TIMEOUT)
            // What our own backends start speaks plain HTTP; a minimal image has no certificates.
            .tls_certs_only([])
            .build()?;
        Ok(Self { http, surroundings })
    }

    /// A client for an address that somebody else states: it reaches exactly what was looked at (decision 2).
    async fn stranger(&self, url: &str) -> Result<reqwest::Client, NoticeError> {
        let refused = |reason: String| NoticeError::NotDelivered(reason);
        let checked = address::check(url, self.surroundings, Occasion::Call).await;
        let addresses = checked.map_err(|reason| refused(reason.to_string()))?;
        let host = Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
        let builder = client().resolve_to_addrs(&host.unwrap_or_default(), &addresses);
        builder.build().map_err(|error| refused(chain(&error)))
    }
}

fn client() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("covalence/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .no_proxy()
        // Messages are rare. One that is sent into a connection which is just being closed has an unknown fate.
        .pool_max_idle_per_host(0)
}

/// Whether a request that failed may have arrived.
fn lost(error: &reqwest::Error) -> NoticeError {
    let text = chain(error);
    if error.is_connect() || error.is_builder() {
        NoticeError::NotDelivered(text)
    } else {
        NoticeError::Unknown(text)
    }
}

#[async_trait]
impl AgentChannel for HttpChannel {
    async fn tell(&self, notice: &Notice) -> Result<(), NoticeError> {
        let sent = self.http.post(&notice.url).json(&notice.request).send().await;
        let response = sent.map_err(|error| lost(&error))?;
        if response.status().is_success() {
            Ok(())
        } else {
            Err(NoticeError::Unknown(format!("answered with status {}", response.status().as_u16())))
        }
    }

    async fn send(&self, errand: &Errand) -> Result<AgentReply, NoticeError> {
        let strange = if errand.trusted { None } else { Some(self.stranger(&errand.url).await?) };
        let http = strange.as_ref().unwrap_or(&self.http);
        let request = http
            .post(&errand.url)
            .header(CONTENT_TYPE.as_str(), "application/json")
            .timeout(errand.limit)
            .body(errand.request.clone());
        let mut response = request.send().await.map_err(|error| lost(&error))?;
        let (status, mut body, mut cut) = (response.status(), BytesMut::new(), false);
        while let Some(piece) = response.chunk().await.map_err(|error| NoticeError::Unknown(chain(&error)))? {
            let room = AgentReply::BODY_MAX - body.len();
            body.extend_from_slice(&piece[..piece.len().min(room)]);
            cut |= piece.len() > room;
        }
        let body = body.freeze();
        let failure = StatusCode::from_u16(status.as_u16()).ok();
        let failure = failure.and_then(|status| failure::sign(status, &body, &errand.request));
        Ok(AgentReply { status: status.as_u16(), body, cut, failure })
    }

    async fn probe(&self, url: &str, limit: Duration) -> Probe {
        let card = format!("{}{CARD_PATH}", url.trim_end_matches('/'));
        // The body is not read: that somebody answers is all there is to learn.
        match self.http.get(card).timeout(limit).send().await {
            Ok(response) => Probe::Answered { status: response.status().as_u16() },
            Err(error) if error.is_builder() => {
                Probe::Unknown(BackendError { code: "invalid_url", detail: chain(&error) })
            }
            Err(error) => {
                let code = if error.is_timeout() {
                    "timeout"
                } else if error.is_connect() {
                    "refused"
                } else {
                    "closed"
                };
                Probe::Silent { code, detail: chain(&error) }
            }
        }
    }
}

/// The library's own words name the address, which is an inside of ours; its causes say what happened.
fn chain(error: &reqwest::Error) -> String {
    let mut cause = std::error::Error::source(error);
    let mut text = String::new();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    if text.is_empty() { "no answer".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    fn notice(address: &str) -> Notice {
        Notice { url: format!("http://{address}/"), request: serde_json::json!({"method": "message/send"}) }
    }

    /// An agent that answers one request with this status line, or hangs up; what it was sent.
    fn agent(answer: Option<&'static str>) -> (String, std::thread::JoinHandle<String>) {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = socket.accept().unwrap();
            let mut seen = String::new();
            let mut buffer = [0; 1024];
            while !seen.contains("message/send") {
                let read = stream.read(&mut buffer).unwrap();
                seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
            if let Some(status) = answer {
                write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                    .unwrap();
            }
            seen
        });
        (address, serving)
    }

    #[tokio::test]
    async fn what_is_said_arrives_as_json() {
        let channel = HttpChannel::new(Surroundings::default()).unwrap();
        let (address, serving) = agent(Some("200 OK"));
        channel.tell(&notice(&address)).await.unwrap();
        let seen = serving.join().unwrap().to_ascii_lowercase();
        assert!(seen.starts_with("post / ") && seen.contains("content-type: application/json"), "{seen}");
    }

    #[tokio::test]
    async fn a_refused_connection_was_not_delivered_and_everything_else_may_have_been() {
        let channel = HttpChannel::new(Surroundings::default()).unwrap();
        let (address, serving) = agent(Some("503 Service Unavailable"));
        assert!(matches!(channel.tell(&notice(&address)).await, Err(NoticeError::Unknown(_))));
        serving.join().unwrap();
        assert!(matches!(channel.tell(&notice(&address)).await, Err(NoticeError::NotDelivered(_))));
        let (address, serving) = agent(None);
        assert!(matches!(channel.tell(&notice(&address)).await, Err(NoticeError::Unknown(_))));
        serving.join().unwrap();
    }

    #[tokio::test]
    async fn any_answer_to_a_request_for_the_card_is_life_and_none_is_silence() {
        let channel = HttpChannel::new(Surroundings::default()).unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", socket.local_addr().unwrap());
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = socket.accept().unwrap();
            let mut buffer = [0; 1024];
            let read = stream.read(&mut buffer).unwrap();
            write!(stream, "HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n").unwrap();
            String::from_utf8_lossy(&buffer[..read]).into_owned()
        });
        let patient = Duration::from_secs(10);
        assert_eq!(channel.probe(&url, patient).await, Probe::Answered { status: 500 });
        assert!(serving.join().unwrap().starts_with("GET /.well-known/agent-card.json "));
        assert!(matches!(channel.probe(&url, patient).await, Probe::Silent { code: "refused", .. }));
        let mute = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", mute.local_addr().unwrap());
        let brief = Duration::from_millis(50);
        assert!(matches!(channel.probe(&url, brief).await, Probe::Silent { code: "timeout", .. }));
    }
}
