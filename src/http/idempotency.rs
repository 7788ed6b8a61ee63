//! `Idempotency-Key`: the same request twice is one request, and both get the one answer.
//!
//! # Guarantees
//! - For a day, or until [`KEPT_MAX`] newer answers push it out, a repeated POST with the same key, principal and path
//!   gets the first one's answer, marked `Idempotency-Replayed: true`; with another body it is a 422.
//! - Repeats that come while the first is under way wait for it. The first goes on if its caller hangs up.
//!
//! # Caveats
//! - In memory: a restart of the platform forgets. Streams, and answers that invite another try (429, 5xx), are not kept.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::body::{BodySize, BoxBody, MessageBody as _, to_bytes_limited};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _, HttpResponse, web};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use sha2::{Digest as _, Sha256};

use crate::http::HttpState;
use crate::http::a2a::REQUEST_BYTES_MAX;
use crate::http::auth::Identity;
use crate::http::error::ApiError;
use crate::http::request::{Ends, Known, text};
const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: &str = "idempotency-replayed";
/// A key longer than this is not a key.
const KEY_MAX: usize = 255;
/// Answers kept: with the next bound at most 64 MiB.
const KEPT_MAX: usize = 4096;
/// An answer longer than this is not kept.
const ANSWER_MAX: usize = 16 * 1024;
/// How long an answer is kept.
const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    whose: String,
    path: String,
    given: String,
}

#[derive(Clone, Debug)]
struct Reply {
    at: Instant,
    body_sha256: [u8; 32],
    status: StatusCode,
    content_type: Option<HeaderValue>,
    body: Bytes,
}

type Slot = Arc<tokio::sync::Mutex<Option<Reply>>>;

/// The answers that are kept.
#[derive(Debug, Default)]
pub struct Replies {
    slots: Mutex<(HashMap<Key, Slot>, VecDeque<Key>)>,
}

impl Replies {
    fn slot(&self, key: &Key) -> Slot {
        let mut guard = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let (slots, order) = &mut *guard;
        if let Some(slot) = slots.get(key) {
            return Arc::clone(slot);
        }
        while slots.len() >= KEPT_MAX {
            let Some(oldest) = order.pop_front() else { break };
            slots.remove(&oldest);
        }
        order.push_back(key.clone());
        Arc::clone(slots.entry(key.clone()).or_default())
    }
}

/// The layer: does nothing but for POSTs with a key.
pub async fn pass(mut request: ServiceRequest, next: Next<BoxBody>) -> Result<ServiceResponse, Error> {
    let key = match (request.method(), text(request.headers(), HEADER)) {
        (&Method::POST, Some(key)) => key.to_owned(),
        _ => return next.call(request).await,
    };
    if key.is_empty() || key.len() > KEY_MAX {
        let refusal =
            ApiError::bad("invalid_idempotency_key", "Idempotency-Key must have 1 to 255 characters");
        return Ok(request.error_response(refusal));
    }
    let body = match read(&mut request).await {
        Ok(body) => body,
        Err(refusal) => return Ok(request.error_response(refusal)),
    };
    let Some(state) = request.app_data::<web::Data<HttpState>>().cloned().map(web::Data::into_inner) else {
        return next.call(request).await;
    };
    let key = Key { whose: whose(&request), path: request.path().to_owned(), given: key };
    let slot = state.inner.replies.slot(&key).lock_owned().await;
    let body_sha256: [u8; 32] = Sha256::digest(&body).into();
    if let Some(reply) = slot.as_ref().filter(|reply| reply.at.elapsed() < KEPT_FOR) {
        return Ok(replay(request, reply, body_sha256));
    }
    let whole = stream::once(std::future::ready(Ok::<_, PayloadError>(body)));
    request.set_payload(Payload::from(whole.boxed_local() as BoxedPayload));
    // A task of its own, on this thread: the first caller's hanging up must not cancel what others wait for.
    let task = actix_web::rt::spawn(state.inner.calls.track_future(answer(request, next, slot, body_sha256)));
    task.await.unwrap_or_else(|reason| Err(ApiError::internal("internal error", reason).into()))
}

type BoxedPayload = std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<Bytes, PayloadError>>>>;

async fn answer(
    request: ServiceRequest,
    next: Next<BoxBody>,
    mut slot: tokio::sync::OwnedMutexGuard<Option<Reply>>,
    body_sha256: [u8; 32],
) -> Result<ServiceResponse, Error> {
    let response = next.call(request).await?;
    let status = response.status();
    let is_short =
        matches!(response.response().body().size(), BodySize::Sized(size) if size <= ANSWER_MAX as u64);
    if !is_short || status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return Ok(response);
    }
    // An error is named by the edge, above here; kept is what it says, not which request heard it first.
    let (request, response) = response.into_parts();
    let (head, body) = response.into_parts();
    let Ok(Ok(body)) = to_bytes_limited(body, ANSWER_MAX).await else {
        return Err(ApiError::internal("internal error", "an answer of known size could not be read").into());
    };
    let content_type = head.headers().get(CONTENT_TYPE).cloned();
    *slot = Some(Reply { at: Instant::now(), body_sha256, status, content_type, body: body.clone() });
    Ok(ServiceResponse::new(request, head.set_body(BoxBody::new(body))))
}

fn replay(request: ServiceRequest, reply: &Reply, body_sha256: [u8; 32]) -> ServiceResponse {
    if reply.body_sha256 != body_sha256 {
        let refusal = ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency_key_reused",
            "Idempotency-Key was used with another body",
        );
        return request.error_response(refusal);
    }
    let mut response = HttpResponse::build(reply.status);
    response.insert_header((REPLAYED, "true"));
    if let Some(content_type) = &reply.content_type {
        response.insert_header((CONTENT_TYPE, content_type.clone()));
    }
    request.into_response(response.body(reply.body.clone()))
}

async fn read(request: &mut ServiceRequest) -> Result<Bytes, ApiError> {
    let mut payload = request.take_payload();
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| ApiError::bad("invalid_body", "invalid request body"))?;
        if body.len() + chunk.len() > REQUEST_BYTES_MAX {
            return Err(ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                "request body too large",
            ));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn whose(request: &ServiceRequest) -> String {
    let extensions = request.extensions();
    let known = extensions.get::<Rc<Known>>();
    let address = || request.conn_data::<Ends>().map(|ends| ends.peer.ip().to_string()).unwrap_or_default();
    match known.map(|known| known.identity) {
        Some(Identity::Admin) => "admin".to_owned(),
        Some(Identity::Org(token)) => token.to_string(),
        Some(Identity::Workspace(credential)) => credential.workspace.to_string(),
        Some(Identity::Missing | Identity::Unknown | Identity::Spent(_)) | None => address(),
    }
}
/// What a repetition is recognised by, as it is kept: clients put names and dates into their keys. 128 bits of a digest, in hex.
pub fn recognisable(key: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(key.as_bytes()).into();
    let half = u128::from_be_bytes(std::array::from_fn(|at| digest[at]));
    format!("{half:032x}")
}
