//! What is known of one request besides its body: its name, where it came in, and who shows which credential.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{AsHeaderName, HOST, HeaderMap, HeaderName, ORIGIN};
use actix_web::{FromRequest, HttpMessage, HttpRequest, dev, web};
use covalence_actors::context::Origin;
use covalence_events::{CorrelationId, Position, Principal, WorkspaceId};
use covalence_projections::runner::READ_YOUR_WRITES;
use uuid::Uuid;

use crate::http::HttpState;
use crate::http::auth::Identity;
use crate::http::auth::session::Session;
use crate::http::edge::origin;
use crate::http::error::{ApiError, REQUEST_ID};

/// A request id longer than this is not an id.
const REQUEST_ID_MAX: usize = 128;

/// The claimed caller of an agent.
const CALLER: HeaderName = HeaderName::from_static("x-workspace-id");

/// Both ends of a connection, noted when it is accepted.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Our end: which listener took it.
    pub local: SocketAddr,
    /// The other end.
    pub peer: SocketAddr,
}

impl Ends {
    /// Whether both ends are on this machine's loopback: then no container and no neighbour is behind it.
    pub fn on_loopback(self) -> bool {
        self.local.ip().is_loopback() && self.peer.ip().is_loopback()
    }
}

/// One request.
#[derive(Debug)]
pub struct Known {
    /// Its name, given by the client or by us; also in the answer.
    pub id: String,
    /// What its facts belong to: the request id, if that is a UUID.
    pub correlation: CorrelationId,
    /// When it came.
    pub began: Instant,
    /// Where it came in; none in unit tests without a socket.
    pub ends: Option<Ends>,
    /// Who shows which credential.
    pub identity: Identity,
    /// What his cookie amounts to; known from before the handler on.
    pub session: Cell<Session>,
}

impl Known {
    /// Looks at a request that just came in.
    pub fn of(request: &ServiceRequest, state: &HttpState) -> Rc<Self> {
        let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
        let given = given.filter(|id| {
            !id.is_empty() && id.len() <= REQUEST_ID_MAX && id.bytes().all(|byte| byte.is_ascii_graphic())
        });
        let correlation =
            given.and_then(|id| Uuid::parse_str(id).ok()).map_or_else(CorrelationId::generate, CorrelationId);
        let id = given.map_or_else(|| correlation.to_string(), str::to_owned);
        Rc::new(Self {
            id,
            correlation,
            began: Instant::now(),
            ends: request.conn_data::<Ends>().copied(),
            identity: Identity::of(request.headers(), state),
            session: Cell::default(),
        })
    }
}

/// What a handler works with: the state and the request's surroundings.
#[derive(Clone, Debug)]
pub struct Ctx {
    /// The edge's state.
    pub state: Arc<HttpState>,
    /// The request's surroundings.
    pub known: Rc<Known>,
    /// The request itself.
    pub request: HttpRequest,
}

impl FromRequest for Ctx {
    type Error = ApiError;
    type Future = std::future::Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let state = request.app_data::<web::Data<HttpState>>().cloned().map(web::Data::into_inner);
        let known = request.extensions().get::<Rc<Known>>().cloned();
        std::future::ready(match (state, known) {
            (Some(state), Some(known)) => Ok(Self { state, known, request: request.clone() }),
            _ => Err(ApiError::internal("internal error", "a handler runs outside of the edge")),
        })
    }
}

impl Ctx {
    /// Whether this request may go without a credential at all (decision 1).
    pub fn is_open(&self) -> bool {
        self.state.config.open_on_loopback && self.known.ends.is_some_and(Ends::on_loopback)
    }

    /// Whether a member of the organisation asks.
    pub fn is_member(&self) -> bool {
        self.known.session.get() == Session::Member
    }

    /// Whether a member of the organisation asks from our own canvas (decision 1).
    pub fn is_canvas(&self) -> bool {
        self.is_member() && origin::is_own_page(self.request.headers(), &self.state)
    }

    /// A header's text.
    pub fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        text(self.request.headers(), name)
    }

    /// The origin of the facts that this request leads to.
    pub fn origin(&self, principal: Principal) -> Origin {
        Origin::part_of(self.known.correlation, principal)
    }

    /// Waits until the projections have passed a position; answers how far they are behind if they don't get there.
    pub async fn caught_up(&self, position: Option<Position>) -> u64 {
        match position {
            Some(position) => self
                .state
                .views
                .caught_up(position, READ_YOUR_WRITES)
                .await
                .map_or_else(|behind| behind.by, |()| 0),
            None => 0,
        }
    }

    /// Where the outside reaches us, without a trailing slash: configured, else as this request did.
    pub fn public_base(&self) -> String {
        if let Some(url) = &self.state.config.public_url {
            return url.trim_end_matches('/').to_owned();
        }
        let info = self.request.connection_info();
        // No proxy header is trusted; the Host header has passed the edge's list of our names.
        let host = text(self.request.headers(), HOST).map_or_else(|| info.host().to_owned(), str::to_owned);
        let scheme = if self.request.app_config().secure() { "https" } else { "http" };
        format!("{scheme}://{host}")
    }

    /// The claimed caller, `X-Workspace-ID`.
    pub fn claimed(&self) -> Option<&str> {
        self.header(CALLER).map(str::trim).filter(|id| !id.is_empty())
    }
}

/// A header's text, if it is text.
pub fn text(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The page that a browser speaks for.
pub fn page(headers: &HeaderMap) -> Option<&str> {
    text(headers, ORIGIN)
}

/// The workspace that a path names.
pub fn workspace_id(text: &str) -> Result<WorkspaceId, ApiError> {
    text.parse().map_err(|_| ApiError::bad("invalid_workspace_id", "invalid workspace ID").field("id"))
}
