//! HTTP client for the platform's registry.

use std::sync::Once;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde::Serialize;

use crate::platform::token::TokenStore;
use crate::platform::wire::{Heartbeat, Register, Registered};
use crate::text;

/// The platform is next door or one ocean away; beyond this it is away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A whole call. Below the interval of heartbeats, so that a hanging platform costs no beat.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Answers of the registry have a few hundred bytes; the rest of a longer one is not ours to read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// What of an error's body goes to the log.
const LOGGED_BYTES_MAX: usize = 300;

/// Why a call to the platform failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer.
    #[error("{route}: {}", chain(.source))]
    Transport {
        /// Which call.
        route: &'static str,
        /// What went wrong.
        source: reqwest::Error,
    },
    /// An answer other than success.
    #[error("{route}: status {status}: {body}")]
    Status {
        /// Which call.
        route: &'static str,
        /// Its status.
        status: u16,
        /// What its `Retry-After` asks for.
        retry_after: Option<Duration>,
        /// Beginning of its body.
        body: String,
    },
}

impl CallError {
    /// Whether the platform understood and refused, so that repeating the same call will not help.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Transport { .. } => false,
            // 408 and 429 are about this moment, not about us.
            Self::Status { status, .. } => matches!(status, 400..=499) && !matches!(status, 408 | 429),
        }
    }

    /// How long the platform asks us to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Transport { .. } => None,
            Self::Status { retry_after, .. } => *retry_after,
        }
    }

    fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Status { status: 401, .. })
    }
}

/// reqwest prints only its own layer; the cause (refused, no such host) is further down.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A client for one platform.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: TokenStore,
}

impl Client {
    /// A client for the platform at `base` (no trailing slash).
    pub fn new(base: String, token: TokenStore) -> Result<Self, reqwest::Error> {
        Ok(Self { http: http_client(base.starts_with("https:"))?, base, token })
    }

    /// Registers, and keeps the token if the answer has one.
    pub async fn register(&self, body: &Register) -> Result<(), CallError> {
        let bytes = self.post("register", body).await?;
        // An answer of another shape is a success all the same: the platform has what it needs.
        let answer: Registered = serde_json::from_slice(&bytes).unwrap_or_default();
        if let Some(token) = answer.auth_token.filter(|token| !token.is_empty()) {
            match self.token.save(token) {
                Ok(()) => tracing::info!("token stored"),
                Err(error) => {
                    tracing::error!(%error, "cannot store the token; it is lost when this process ends");
                }
            }
        }
        Ok(())
    }

    /// Sends a heartbeat.
    pub async fn heartbeat(&self, body: &Heartbeat) -> Result<(), CallError> {
        self.post("heartbeat", body).await.map(drop)
    }

    /// Posts with the token. After a 401 the token file is read again, since the platform may have written a new
    /// one, and a changed token is tried at once.
    async fn post(&self, route: &'static str, body: &impl Serialize) -> Result<Vec<u8>, CallError> {
        match self.post_once(route, body).await {
            Err(error) if error.is_unauthorized() && self.token.reload() => self.post_once(route, body).await,
            outcome => outcome,
        }
    }

    async fn post_once(&self, route: &'static str, body: &impl Serialize) -> Result<Vec<u8>, CallError> {
        let transport = |source: reqwest::Error| CallError::Transport { route, source: source.without_url() };
        let mut request = self.http.post(format!("{}/registry/{route}", self.base)).json(body);
        if let Some(bearer) = self.bearer() {
            request = request.header(AUTHORIZATION, bearer);
        }
        let response = request.send().await.map_err(transport)?;
        let status = response.status();
        let retry_after = retry_after(&response);
        let bytes = read(response).await.map_err(transport)?;
        if status.is_success() {
            return Ok(bytes);
        }
        let body = text::head(String::from_utf8_lossy(&bytes).trim(), LOGGED_BYTES_MAX).to_owned();
        Err(CallError::Status { route, status: StatusCode::as_u16(&status), retry_after, body })
    }

    fn bearer(&self) -> Option<HeaderValue> {
        let token = self.token.current()?;
        let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {}", token.0)) else {
            tracing::warn!("the token has characters that a header cannot carry; it is not sent");
            return None;
        };
        value.set_sensitive(true);
        Some(value)
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

async fn read(mut response: Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() >= ANSWER_BYTES_MAX {
            bytes.truncate(ANSWER_BYTES_MAX);
            break;
        }
    }
    Ok(bytes)
}

/// Builds an HTTP client. For `https` it trusts the system's certificates, and the bundled ones of webpki where the
/// system has none, as in a FROM scratch image. For `http` it reads nothing from disk and uses no proxy: such a
/// platform is on this host or this network.
pub(crate) fn http_client(is_https: bool) -> Result<reqwest::Client, reqwest::Error> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Fails only if a program that embeds us has installed one, which is then the one to use.
        drop(rustls::crypto::ring::default_provider().install_default());
    });
    let builder = || {
        reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            // A redirect would carry the token to wherever an answer points.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("covalence-agent/", env!("CARGO_PKG_VERSION")))
    };
    if is_https {
        if let Ok(client) = builder().build() {
            return Ok(client);
        }
        tracing::info!("no certificates on this system, using the bundled ones");
        return builder().tls_backend_preconfigured(bundled_roots()).build();
    }
    builder().no_proxy().tls_backend_preconfigured(bundled_roots()).build()
}

fn bundled_roots() -> rustls::ClientConfig {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
}
