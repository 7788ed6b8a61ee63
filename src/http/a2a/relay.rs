//! One call through the platform: request to the agent, answer to the caller, outcome to the mailbox.
//!
//! The forward runs in its caller's task, and goes on in one of its own when that is dropped: a caller that hangs up changes
//! nothing but that nobody reads the answer. Every way out reports to the permit; a panic does so by dropping it.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use actix_web::http::header::{
    ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use actix_web::http::{StatusCode, Version};
use actix_web::{HttpResponse, web};
use awc::error::{ConnectError, SendRequestError};
use bytes::{Bytes, BytesMut};
use covalence_actors::context::Origin;
use covalence_actors::runtime::{CallReport, Permit};
use covalence_events::workspace::{CallOutcome, FailureKind, FailureSign};
use covalence_events::{Generation, Principal, WorkspaceId};
use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::mpsc;

use crate::http::HttpState;
use crate::http::a2a::patience::{Patience, RanOut};
use crate::http::a2a::restarting::{Delivery, broke_off};
use crate::http::a2a::{REQUEST_BYTES_MAX, error_text, failure, retry, sse};
use crate::http::address::{self, Occasion};
use crate::http::auth::Identity;
use crate::http::error::{Answer, ApiError, BUSY};
use crate::http::request::{Ctx, text};

/// An answer that is not a stream is held whole; the contract's later servers take this much.
pub const RESPONSE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// To reach an agent that is there takes milliseconds; an overloaded host may need a few seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle connections are dropped before the agents' servers drop them (five seconds is common): a request sent into a
/// closing connection has an unknown outcome, and can't be repeated.
const IDLE_CONNECTION: Duration = Duration::from_secs(3);
/// Connections of one HTTP worker; more calls than that wait for one.
const CONNECTIONS_MAX: usize = 4096;
/// An agent's call without a deadline of its own.
const AGENT_CALL_MAX: Duration = Duration::from_secs(30 * 60);

/// Names the call, as in the log.
const CALL: HeaderName = HeaderName::from_static("x-covalence-call");
/// Seconds after which a caller gives up.
pub(super) const TIMEOUT: HeaderName = HeaderName::from_static("x-timeout");
/// Passed on to the agent beside the content type. No credential: the caller's ends here.
static PASSED: [HeaderName; 6] = [
    ACCEPT,
    HeaderName::from_static("a2a-version"),
    HeaderName::from_static("a2a-extensions"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("baggage"),
];
/// Passed back to the caller.
static PASSED_BACK: [HeaderName; 2] =
    [HeaderName::from_static("a2a-version"), HeaderName::from_static("a2a-extensions")];

/// A client for one HTTP worker.
pub fn client() -> awc::Client {
    let connector = awc::Connector::new()
        .timeout(CONNECT_TIMEOUT)
        .conn_keep_alive(IDLE_CONNECTION)
        .limit(CONNECTIONS_MAX);
    awc::Client::builder()
        .connector(connector)
        .disable_timeout()
        .disable_redirects()
        .no_default_headers()
        .finish()
}

/// Reads a call's body.
pub async fn read(mut payload: web::Payload) -> Result<Bytes, ApiError> {
    let mut body = BytesMut::new();
    while let Some(piece) = payload.next().await {
        let piece = piece.map_err(|_| ApiError::bad("invalid_body", "request body could not be read"))?;
        if body.len() + piece.len() > REQUEST_BYTES_MAX {
            return Err(ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                "request body too large",
            )
            .with("truncated", true)
            .with("max_bytes", REQUEST_BYTES_MAX));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

/// Carries out a call for which there is a permit.
pub async fn relay(ctx: Ctx, id: WorkspaceId, mut permit: Permit, body: Bytes) -> Answer {
    permit.sends(body.clone());
    let around = ctx.state.config.surroundings;
    let addresses = if permit.trusted {
        Vec::new()
    } else {
        match address::check(&permit.url, around, Occasion::Call).await {
            Ok(addresses) => addresses,
            Err(reason) => {
                permit.finish(report(CallOutcome::NotDelivered, None, Some(reason.to_string())));
                return Err(ApiError::new(
                    StatusCode::BAD_GATEWAY,
                    "url_not_allowed",
                    "workspace URL is not publicly routable",
                )
                .detail(reason.to_string()));
            }
        }
    };
    let client = ctx.request.app_data::<awc::Client>().cloned();
    let client = client
        .ok_or_else(|| ApiError::internal("failed to create proxy request", "no client in this worker"))?;
    let forward = Forward {
        patience: patience(&ctx, id, &permit),
        began: ctx.known.began,
        asked: retry::asked(&ctx),
        generation: permit.generation,
        headers: passed(ctx.request.headers(), &PASSED),
        origin: ctx.origin(Principal::System),
        state: Arc::clone(&ctx.state),
        client,
        id,
        addresses,
        body,
    };
    let tracker = ctx.state.inner.calls.clone();
    OutliveCaller { work: Some(tracker.track_future(forward.run(permit)).boxed_local()) }.await
}

/// Work that goes on in a task of its own when whoever waits for it is gone.
struct OutliveCaller {
    work: Option<LocalBoxFuture<'static, Answer>>,
}

impl Future for OutliveCaller {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Answer> {
        // Taken out while it is polled: work that panicked must not be polled again.
        let Some(mut work) = self.work.take() else {
            return Poll::Ready(Err(ApiError::internal(
                "internal error",
                "a forward was polled after its end",
            )));
        };
        let polled = work.as_mut().poll(cx);
        if polled.is_pending() {
            self.work = Some(work);
        }
        polled
    }
}

impl Drop for OutliveCaller {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            actix_web::rt::spawn(work);
        }
    }
}

fn patience(ctx: &Ctx, id: WorkspaceId, permit: &Permit) -> Patience {
    let is_agent = matches!(ctx.known.identity, Identity::Workspace(_)) || ctx.claimed().is_some();
    let whole = retry::asked(ctx).or_else(|| is_agent.then_some(AGENT_CALL_MAX));
    // A call that got its slot at once has used none of its time.
    let waited = if permit.tries > 1 { ctx.known.began.elapsed() } else { Duration::ZERO };
    let whole = whole.map(|whole| whole.saturating_sub(waited));
    Patience::new(Arc::clone(&ctx.state), id, whole)
}

fn passed(headers: &HeaderMap, names: &[HeaderName]) -> Vec<(HeaderName, HeaderValue)> {
    names.iter().filter_map(|name| Some((name.clone(), headers.get(name)?.clone()))).collect()
}

fn report(outcome: CallOutcome, status: Option<StatusCode>, error: Option<String>) -> CallReport {
    CallReport {
        outcome,
        status: status.map(|status| status.as_u16()),
        request_bytes: 0,
        response_bytes: 0,
        error,
        failure: None,
    }
}

/// What is recorded of an agent that failed because it was stopped under its call.
fn interrupted(done: CallReport) -> CallReport {
    let failure = done.failure.map(|sign| FailureSign { kind: FailureKind::Stopped, ..sign });
    CallReport { failure, error: Some("interrupted by a restart".to_owned()), ..done }
}

pub(super) type AgentResponse = awc::ClientResponse;

/// A piece of an event stream, or why there are no more.
type Piece = Result<Bytes, std::io::Error>;

/// Why there is no response from the agent.
pub(super) enum Failure {
    /// It never got the request.
    NotReached(String),
    /// It may have.
    Lost(String),
    /// It took too long.
    RanOut(RanOut),
}

/// One call on its way.
pub(super) struct Forward {
    pub(super) state: Arc<HttpState>,
    client: awc::Client,
    pub(super) id: WorkspaceId,
    /// Which generation was called.
    pub(super) generation: Generation,
    /// When the request came.
    pub(super) began: Instant,
    /// The time that its caller gives it.
    pub(super) asked: Option<Duration>,
    addresses: Vec<SocketAddr>,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    pub(super) origin: Origin,
    patience: Patience,
}

impl Forward {
    async fn run(self, mut permit: Permit) -> Answer {
        let call = HeaderValue::from_str(&permit.call.to_string()).ok();
        let name = |mut response: HttpResponse| {
            if let Some(call) = call {
                response.headers_mut().insert(CALL, call);
            }
            response
        };
        match self.deliver(&mut permit).await {
            Ok(response) if is_stream(&response) && !is_unreadable(&response) => {
                Ok(name(self.stream(permit, response)))
            }
            Ok(response) => {
                let (report, answer) = self.whole(&mut permit, response).await;
                permit.finish(report);
                answer.map(name)
            }
            Err(failure) => {
                let (outcome, error) = failure.outcome();
                permit.finish(CallReport {
                    request_bytes: self.body.len() as u64,
                    ..report(outcome, None, Some(error.clone()))
                });
                Err(self.failed(&failure).await)
            }
        }
    }

    /// Sends to the checked addresses in turn, while nothing has been sent to any of them.
    pub(super) async fn send(&self, url: &str) -> Result<AgentResponse, Failure> {
        let mut failure = None;
        for address in
            self.addresses.iter().copied().map(Some).chain(self.addresses.is_empty().then_some(None))
        {
            match self.send_to(url, address).await {
                Err(reason @ Failure::NotReached(_)) => failure = Some(reason),
                answer => return answer,
            }
        }
        Err(failure.unwrap_or_else(|| Failure::NotReached("no address".to_owned())))
    }

    async fn send_to(&self, url: &str, address: Option<SocketAddr>) -> Result<AgentResponse, Failure> {
        let mut request =
            self.client.post(url).no_decompress().insert_header((CONTENT_TYPE, "application/json"));
        for (name, value) in &self.headers {
            request = request.insert_header((name.clone(), value.clone()));
        }
        if let Some(address) = address {
            request = request.address(address);
        }
        match self.patience.wait(request.send_body(self.body.clone())).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(classify(&error)),
            Err(ran_out) => Err(Failure::RanOut(ran_out)),
        }
    }

    /// Reads an answer that is no stream.
    async fn whole(&self, permit: &mut Permit, mut response: AgentResponse) -> (CallReport, Answer) {
        let status = response.status();
        let headers = passed(response.headers(), &PASSED_BACK);
        let mut body = BytesMut::with_capacity(announced(response.headers()));
        let request_bytes = self.body.len() as u64;
        let broken = |error: String, read: usize| CallReport {
            request_bytes,
            response_bytes: read as u64,
            ..report(CallOutcome::Unknown, Some(status), Some(error))
        };
        loop {
            match self.patience.wait(response.next()).await {
                Ok(None) => break,
                Ok(Some(Ok(piece))) if body.len() + piece.len() > RESPONSE_BYTES_MAX => {
                    let error = ApiError::new(
                        StatusCode::BAD_GATEWAY,
                        "response_too_large",
                        "agent response too large",
                    )
                    .with("max_bytes", RESPONSE_BYTES_MAX)
                    .with("delivery_confirmed", status.as_u16() < 400);
                    return (broken("response too large".to_owned(), body.len()), Err(error));
                }
                Ok(Some(Ok(piece))) => {
                    permit.progressed();
                    body.extend_from_slice(&piece);
                }
                Ok(Some(Err(error))) => {
                    let restarting = self.restarting().await;
                    return (broken(error.to_string(), body.len()), Err(broke_off(status, restarting)));
                }
                Err(ran_out) => {
                    return (
                        broken(ran_out.to_string(), body.len()),
                        Err(broke_off(status, self.replaced())),
                    );
                }
            }
        }
        if body.is_empty() && status.is_success() && is_unreadable(&response) {
            let error = "the answer has neither a length nor chunks".to_owned();
            return (broken(error, 0), Err(broke_off(status, None)));
        }
        let done = CallReport {
            request_bytes,
            response_bytes: body.len() as u64,
            failure: failure::sign(status, &body, &self.body),
            ..report(CallOutcome::Answered, Some(status), None)
        };
        if done.failure.is_some()
            && let Some(restarting) = self.replaced()
        {
            return (interrupted(done), Ok(restarting.answer(status, &self.body)));
        }
        permit.receives(&body);
        let wished = self.wished(&response);
        (done, self.answer(status, headers, body.freeze(), wished).await)
    }

    /// The contract's table for what an agent answered.
    async fn answer(
        &self,
        status: StatusCode,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: Bytes,
        wished: Option<Duration>,
    ) -> Answer {
        if !status.is_success() && status.as_u16() >= 300 {
            if is_gateway_trouble(status)
                && let Some(restarting) = self.restarting().await
            {
                return Err(restarting.error(Delivery::of_answer(status)));
            }
            if status == StatusCode::SERVICE_UNAVAILABLE {
                return Err(retry::busy(error_text(status, &body), wished));
            }
            return Err(ApiError::new(status, "agent_error", error_text(status, &body)));
        }
        if body.is_empty() {
            return Err(ApiError::new(status, "agent_empty", "agent returned empty response body"));
        }
        let mut response = HttpResponse::build(status);
        for (name, value) in headers {
            response.insert_header((name, value));
        }
        Ok(response.content_type("application/json").body(body))
    }

    /// Begins to pass an event stream on as it comes, to its end, whether anybody listens or not.
    fn stream(self, permit: Permit, response: AgentResponse) -> HttpResponse {
        let (pieces, receive) = mpsc::channel(sse::PIECES);
        let mut head = HttpResponse::build(response.status());
        for (name, value) in passed(response.headers(), &PASSED_BACK) {
            head.insert_header((name, value));
        }
        head.insert_header((CONTENT_TYPE, "text/event-stream"));
        head.insert_header(("cache-control", "no-cache")).insert_header(("x-accel-buffering", "no"));
        let tracker = self.state.inner.calls.clone();
        actix_web::rt::spawn(tracker.track_future(self.pass_on(permit, response, pieces)));
        head.streaming(Box::pin(sse::kept_alive(receive, sse::KEEP_ALIVE)))
    }

    async fn pass_on(self, mut permit: Permit, mut response: AgentResponse, pieces: mpsc::Sender<Piece>) {
        let (mut read, mut broken, mut last) = (0_u64, None, Bytes::new());
        loop {
            let (error, restarting) = match self.patience.wait(response.next()).await {
                Ok(None) => break,
                Ok(Some(Ok(piece))) => {
                    permit.progressed();
                    permit.receives(&piece);
                    read += piece.len() as u64;
                    last = piece.clone();
                    let _ = pieces.send(Ok(piece)).await;
                    continue;
                }
                Ok(Some(Err(error))) => (error.to_string(), self.restarting().await),
                Err(ran_out) => (ran_out.to_string(), self.replaced()),
            };
            let end = match restarting {
                Some(restarting) if sse::is_between_events(&last) => Ok(restarting.event(&self.body)),
                _ => Err(std::io::Error::other(error.clone())),
            };
            let _ = pieces.send(end).await;
            broken = Some(error);
            break;
        }
        let outcome = if broken.is_some() { CallOutcome::Unknown } else { CallOutcome::Answered };
        permit.finish(CallReport {
            request_bytes: self.body.len() as u64,
            response_bytes: read,
            failure: failure::sign_of_stream(&last, &self.body),
            ..report(outcome, Some(response.status()), broken)
        });
    }

    /// What a caller is told of a call without a response; a fresh look at the instance says whether it is being restarted.
    async fn failed(&self, failure: &Failure) -> ApiError {
        if !matches!(failure, Failure::RanOut(_))
            && let Some(restarting) = self.restarting().await
        {
            return restarting.error(Delivery::of(failure));
        }
        let delivery = Delivery::of(failure).as_str();
        let busy = |code| ApiError::unavailable(code, BUSY, retry::RETRY_BUSY).with("busy", true);
        let error = match failure {
            Failure::NotReached(_) => {
                ApiError::new(StatusCode::BAD_GATEWAY, "agent_unreachable", "failed to reach workspace agent")
            }
            Failure::Lost(_) => busy("agent_connection_lost"),
            Failure::RanOut(ran_out) => busy("agent_timeout").detail(ran_out.to_string()),
        };
        error.with("delivery", delivery)
    }
}

impl Failure {
    fn outcome(&self) -> (CallOutcome, String) {
        match self {
            Self::NotReached(error) => (CallOutcome::NotDelivered, error.clone()),
            Self::Lost(error) => (CallOutcome::Unknown, error.clone()),
            Self::RanOut(ran_out) => (CallOutcome::Unknown, ran_out.to_string()),
        }
    }
}

/// Whether a request that failed may have reached the agent.
fn classify(error: &SendRequestError) -> Failure {
    match error {
        SendRequestError::Connect(ConnectError::Disconnected) => Failure::Lost("disconnected".to_owned()),
        SendRequestError::Url(_) | SendRequestError::Connect(_) | SendRequestError::Http(_) => {
            Failure::NotReached(error.to_string())
        }
        _ => Failure::Lost(error.to_string()),
    }
}

fn is_stream(response: &AgentResponse) -> bool {
    response.status().is_success()
        && text(response.headers(), CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/event-stream"))
}

/// Whether the body ends with the connection in HTTP/1.1: the client below us takes that for no body at all, and passing
/// an empty answer on as a success would lose it in silence.
fn is_unreadable(response: &AgentResponse) -> bool {
    let headers = response.headers();
    response.version() == Version::HTTP_11
        && response.status() != StatusCode::NO_CONTENT
        && !headers.contains_key(CONTENT_LENGTH)
        && !headers.contains_key(TRANSFER_ENCODING)
}

/// How much an answer says that it is, for one allocation; an exaggeration costs nothing.
fn announced(headers: &HeaderMap) -> usize {
    const BELIEVED_MAX: usize = 64 * 1024;
    let said = text(headers, CONTENT_LENGTH).and_then(|length| length.parse().ok());
    said.unwrap_or(0).min(BELIEVED_MAX)
}

/// Answers of something between us and the agent, rather than of the agent.
pub(super) fn is_gateway_trouble(status: StatusCode) -> bool {
    matches!(status.as_u16(), 502 | 503 | 504 | 521..=524)
}
