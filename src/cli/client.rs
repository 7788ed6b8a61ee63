//! The commands' side of the HTTP API: one client, one place where answers become failures.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use chrono::{DateTime, Utc};
use covalence_actors::effect::Secret;
use futures_util::StreamExt as _;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use url::{Host, Url};

use crate::cli::failure::{Exit, Failure, Outcome};
use crate::config::{Layers, token};

/// A server on this machine answers at once; one across the world within seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For requests that do not wait for an agent. The slowest is a removal, which gives each stop its grace.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);
/// A longer error body is not read by anybody.
const ERROR_TEXT_MAX: usize = 4096;
/// A recorded fact is far smaller; a line of an agent's output that is longer is passed on in pieces.
const LINE_MAX: usize = 1024 * 1024;

/// Which server, and as whom.
#[derive(Debug)]
pub struct Target {
    /// Its address.
    pub url: Url,
    /// The bearer token, if there is one.
    pub token: Option<Secret>,
}

impl Target {
    /// What was said explicitly, else the server that this configuration describes. The data directory's admin token is
    /// for a server on this machine only: it is never sent to another host.
    pub fn from_layers(layers: &Layers) -> Outcome<Self> {
        let url = match layers.text("client.url") {
            Some(text) => explicit_url(text)?,
            None => local_url(layers)?,
        };
        let explicit = layers.text("client.token").map(|text| Secret::new(text.to_owned()));
        let token = match explicit {
            Some(token) => Some(token),
            None if !is_loopback(&url) => None,
            None => match layers.text("access.admin_token") {
                Some(text) => Some(Secret::new(text.to_owned())),
                None => stored_token(layers)?,
            },
        };
        Ok(Self { url, token })
    }
}

fn explicit_url(text: &str) -> Outcome<Url> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host()).ok_or_else(
        || {
            Failure::new(
                Exit::Usage,
                format!("server address `{text}`: expected `http://` or `https://` and a host"),
            )
        },
    )
}

fn local_url(layers: &Layers) -> Outcome<Url> {
    let listen = layers.text("server.listen").unwrap_or_default();
    let address: SocketAddr = listen.parse().map_err(|_| {
        Failure::new(
            Exit::Usage,
            format!("the configuration's `server.listen` is `{listen}`, which is no address"),
        )
    })?;
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    explicit_url(&format!("http://{}", SocketAddr::new(ip, address.port())))
}

/// A file that only the server's user may read is no token for us; the server then says what it thinks of that.
fn stored_token(layers: &Layers) -> Outcome<Option<Secret>> {
    match token::read(layers.text("data_dir").unwrap_or_default().as_ref()) {
        Ok(token) => Ok(token),
        Err(token::TokenError::Io { source, .. })
            if source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            Ok(None)
        }
        Err(error) => Err(anyhow::Error::from(error).into()),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// A connection to one server.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    target: Target,
}

impl Client {
    /// A client of this server. Nothing is sent yet.
    pub fn new(target: Target) -> Outcome<Self> {
        // The program installs it at its start; whoever uses this module alone gets it here.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("covalence/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT);
        if target.url.scheme() == "http" {
            // The machine's certificates are not needed, and a minimal image has none.
            builder = builder.tls_certs_only([]);
        }
        if is_loopback(&target.url) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(anyhow::Error::from)?;
        Ok(Self { http, target })
    }

    /// The server's address, for people.
    pub fn url(&self) -> &Url {
        &self.target.url
    }

    /// A request for `segments` below the server's address; each is escaped.
    pub fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        let mut url = self.target.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        let request = self.http.request(method, url);
        match &self.target.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        }
    }

    /// Sends it; an answer that is not a success becomes a failure. The body is not read, so streams pass through.
    pub async fn send(&self, request: RequestBuilder) -> Outcome<Response> {
        let response = request.send().await.map_err(|error| self.transport_failure(error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.unwrap_or_default();
        Err(answer_failure(status, &body, self.target.token.is_some()))
    }

    /// Sends it and reads the JSON answer, within [`REQUEST_TIMEOUT`].
    pub async fn json(&self, request: RequestBuilder) -> Outcome<Value> {
        let response = self.send(request.timeout(REQUEST_TIMEOUT)).await?;
        let body = response.bytes().await.map_err(|error| self.transport_failure(error))?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|_| {
            Failure::new(Exit::Failure, format!("{} answered something that is not JSON", self.target.url))
                .hint("does the address belong to a Covalence server?")
        })
    }

    /// `GET` of JSON.
    pub async fn get(&self, segments: &[&str]) -> Outcome<Value> {
        self.json(self.request(Method::GET, segments)).await
    }

    /// All workspaces that are not removed, and the server's clock when it answered.
    pub async fn roster(&self) -> Outcome<(Vec<Value>, DateTime<Utc>)> {
        let request = self.request(Method::GET, &["workspaces"]).timeout(REQUEST_TIMEOUT);
        let response = self.send(request).await?;
        let date = response.headers().get(reqwest::header::DATE).and_then(|value| value.to_str().ok());
        let at = date.and_then(|text| DateTime::parse_from_rfc2822(text).ok());
        let at = at.map_or_else(Utc::now, |at| at.to_utc());
        let rows = response.json().await.map_err(|error| self.transport_failure(error))?;
        Ok((rows, at))
    }

    /// What a failure of the connection means.
    pub fn transport_failure(&self, error: reqwest::Error) -> Failure {
        let url = &self.target.url;
        let exit = if error.is_timeout() && !error.is_connect() { Exit::TimedOut } else { Exit::Unreachable };
        let connecting = error.is_connect();
        let error = anyhow::Error::from(error.without_url()).context(format!("server {url}"));
        let failure = Failure { exit, error, hint: None };
        if connecting {
            failure.hint("start one with `covalence serve`, or name another with --url or COVALENCE_URL")
        } else {
            failure
        }
    }
}

/// What an answer that is not a success means.
fn answer_failure(status: StatusCode, body: &[u8], had_token: bool) -> Failure {
    let value: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let field = |name: &str| value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let plain = String::from_utf8_lossy(body.get(..ERROR_TEXT_MAX).unwrap_or(body)).trim().to_owned();
    let mut message = match field("error").or_else(|| field("message")) {
        Some(text) => text.to_owned(),
        None if plain.is_empty() || value.is_object() => status.to_string(),
        None => plain,
    };
    if let Some(detail) = field("detail").filter(|detail| *detail != message) {
        message = format!("{message}: {detail}");
    }
    if let Some(name) = field("field") {
        message = format!("{message} (`{name}`)");
    }
    if let (true, Some(id)) = (status.is_server_error(), field("request_id")) {
        message = format!("{message} (request {id})");
    }
    let exit = match status.as_u16() {
        400 | 413 | 422 => Exit::Usage,
        401 | 403 => Exit::Unauthorised,
        404 => Exit::NotFound,
        409 | 410 => Exit::Refused,
        408 | 504 => Exit::TimedOut,
        429 | 503 => Exit::Busy,
        _ => Exit::Failure,
    };
    let failure = Failure::new(exit, message);
    match (exit, had_token) {
        (Exit::Unauthorised, false) => failure.hint(
            "pass --token, set COVALENCE_TOKEN, or point --data-dir at the server's data directory, which holds the admin token",
        ),
        (Exit::Unauthorised, true) => failure.hint("the token that was sent is not one that this server accepts here"),
        _ if field("code") == Some("has_descendants") => failure.hint("--cascade takes those below along"),
        // Of a call to a workspace that is not running: the contract's text does not say which state it is in.
        _ if field("status").is_some_and(|status| status == "paused") => {
            failure.hint("it is paused: `covalence workspaces resume` starts it")
        }
        _ if field("code") == Some("active_tasks") => failure.hint("--force cuts them off"),
        _ if field("status").is_some() => {
            failure.hint(format!("its status is `{}`", field("status").unwrap_or_default()))
        }
        _ => failure,
    }
}

/// The lines of an answer, as they come.
#[derive(Debug)]
pub struct Lines {
    response: Response,
    buffer: Vec<u8>,
    ended: bool,
}

impl Lines {
    /// Reads this answer's body.
    pub fn new(response: Response) -> Self {
        Self { response, buffer: Vec::new(), ended: false }
    }

    /// The next line without its end; `None` when the body is over.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, reqwest::Error> {
        loop {
            if let Some(line) = self.take_line() {
                return Ok(Some(line));
            }
            if self.ended {
                let rest = std::mem::take(&mut self.buffer);
                return Ok((!rest.is_empty()).then_some(rest));
            }
            match self.response.chunk().await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => self.ended = true,
            }
        }
    }

    fn take_line(&mut self) -> Option<Vec<u8>> {
        let end = self.buffer.iter().position(|byte| *byte == b'\n');
        let (length, skip) = match end {
            Some(end) => (end, end + 1),
            None if self.buffer.len() > LINE_MAX => (LINE_MAX, LINE_MAX),
            None => return None,
        };
        let mut line: Vec<u8> = self.buffer.drain(..skip).collect();
        line.truncate(length);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Some(line)
    }
}

/// The body as it comes, in pieces.
pub fn pieces(response: Response) -> impl futures_util::Stream<Item = reqwest::Result<bytes::Bytes>> + Unpin {
    response.bytes_stream().boxed_local()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::Flags;

    fn target(variables: &[(&'static str, &'static str)], data_dir: &std::path::Path) -> Outcome<Target> {
        let values = BTreeMap::from([("data_dir", data_dir.to_str().unwrap().to_owned())]);
        let flags = Flags { values, ..Flags::default() };
        let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
        Target::from_layers(&Layers::read(&flags, &variables).unwrap())
    }

    #[test]
    fn without_an_address_the_configured_server_on_this_machine_is_meant() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(target(&[("PORT", "9999")], dir.path()).unwrap().url.as_str(), "http://127.0.0.1:9999/");
        let everywhere = target(&[("COVALENCE_LISTEN", "[::]:9998")], dir.path()).unwrap();
        assert_eq!(everywhere.url.as_str(), "http://[::1]:9998/");
        assert_eq!(target(&[("COVALENCE_URL", "ftp://x")], dir.path()).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn the_stored_token_is_sent_to_this_machine_only() {
        let dir = tempfile::tempdir().unwrap();
        let stored = token::read_or_create(dir.path()).unwrap();
        let sent = |variables: &[_]| {
            target(variables, dir.path()).unwrap().token.map(|token| token.expose().to_owned())
        };
        assert_eq!(sent(&[]).as_deref(), Some(stored.expose()));
        assert_eq!(sent(&[("COVALENCE_URL", "http://localhost:1")]).as_deref(), Some(stored.expose()));
        assert_eq!(sent(&[("COVALENCE_URL", "https://other.example")]), None);
        let explicit = [("COVALENCE_URL", "https://other.example"), ("COVALENCE_TOKEN", "t")];
        assert_eq!(sent(&explicit).as_deref(), Some("t"));
    }

    #[test]
    fn answers_become_exit_codes_with_the_servers_words() {
        let failure = |status: u16, body: &str| {
            answer_failure(StatusCode::from_u16(status).unwrap(), body.as_bytes(), true)
        };
        let refused = failure(409, r#"{"error":"parent workspace \"x\" is paused","code":"parent_paused"}"#);
        assert_eq!(
            (refused.exit, refused.to_string().as_str()),
            (Exit::Refused, "parent workspace \"x\" is paused")
        );
        let invalid =
            failure(400, r#"{"error":"invalid workspace fields","field":"name","detail":"too long"}"#);
        assert_eq!(invalid.to_string(), "invalid workspace fields: too long (`name`)");
        let bug = failure(500, r#"{"error":"internal error","request_id":"r1"}"#);
        assert_eq!((bug.exit, bug.to_string().as_str()), (Exit::Failure, "internal error (request r1)"));
        assert_eq!(failure(503, "").exit, Exit::Busy);
        assert_eq!(failure(404, "not here").to_string(), "not here");
        assert!(failure(401, "{}").to_string().contains("hint: the token that was sent"));
    }
}
