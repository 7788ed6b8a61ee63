//! Who may do what: the contract's gates, tightened as `docs/api.md` says.
//!
//! A request's credential is looked up once, before any gate; the gates only compare. Credential-free use exists only
//! where [`Ctx::is_open`] says so. A workspace's token opens nothing of the operator's, and an `Origin` never opens anything.

use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use covalence_actors::effect::{Clock, Secret};
use covalence_actors::runtime::token::digest;
use covalence_events::{Principal, TokenId, WorkspaceId};
use covalence_projections::Views;
use covalence_projections::credentials::Credential;
use covalence_projections::roster::RootTalk;
use subtle::ConstantTimeEq as _;

use crate::http::HttpState;
use crate::http::error::ApiError;
use crate::http::request::{Ctx, text};

pub mod lasting;
pub mod session;
pub mod used;

use session::Session;
use used::Used;

/// What a request's bearer amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// There is none.
    Missing,
    /// There is one that nobody knows.
    Unknown,
    /// The admin token.
    Admin,
    /// A live organisation token, by its public name: it opens what the admin's does, with few exceptions.
    Org(TokenId),
    /// A live workspace token.
    Workspace(Credential),
    /// A workspace token that opens nothing any more: revoked, or its workspace is removed.
    Spent(Credential),
}

impl Identity {
    /// Looks up what a request shows. Only the exact scheme `Bearer ` counts, as clients rely on.
    pub fn of(headers: &HeaderMap, state: &HttpState) -> Self {
        let Some(bearer) = text(headers, AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "))
        else {
            return Self::Missing;
        };
        match bearer.trim() {
            "" => Self::Missing,
            bearer => state.inner.door.recognise(bearer, &state.views, &*state.clock),
        }
    }

    /// The token that works, if one was shown; the admin's has no name.
    pub const fn token(&self) -> Option<TokenId> {
        match self {
            Self::Workspace(credential) => Some(credential.token),
            Self::Org(token) => Some(*token),
            Self::Missing | Self::Unknown | Self::Admin | Self::Spent(_) => None,
        }
    }

    /// Whose hand this is, if it has the operator's authority.
    pub const fn operator(&self) -> Option<Principal> {
        match self {
            Self::Admin => Some(Principal::Admin),
            Self::Org(token) => Some(Principal::OrgToken(*token)),
            Self::Missing | Self::Unknown | Self::Workspace(_) | Self::Spent(_) => None,
        }
    }
}

/// What bearers are recognised by.
///
/// Nothing that depends on a token's text is compared but its SHA-256, and the admin's is compared in constant time: how long a
/// check takes says nothing about how close a guess is. Its cost does not grow with the number of tokens.
#[derive(Debug)]
pub struct Door {
    admin_sha256: [u8; 32],
    /// When each token was last shown.
    pub used: Used,
}

impl Door {
    /// Opened by this admin token, besides the tokens that the log knows.
    pub fn new(admin: &Secret) -> Self {
        Self { admin_sha256: digest(admin.expose()), used: Used::default() }
    }

    /// Whether this is the admin token.
    pub fn is_admin(&self, bearer: &str) -> bool {
        self.is_admin_s(&digest(bearer))
    }

    fn is_admin_s(&self, sha256: &[u8; 32]) -> bool {
        sha256.ct_eq(&self.admin_sha256).into()
    }

    /// What a bearer amounts to; a token that works is noted as used.
    pub fn recognise(&self, bearer: &str, views: &Views, clock: &dyn Clock) -> Identity {
        let sha256 = digest(bearer);
        if self.is_admin_s(&sha256) {
            return Identity::Admin;
        }
        let identity = {
            let credentials = views.credentials.read();
            match (credentials.lookup(&sha256), credentials.lookup_org(&sha256)) {
                (Some(credential), _) if credential.is_live() => Identity::Workspace(credential),
                (Some(credential), _) => Identity::Spent(credential),
                (None, Some(token)) => Identity::Org(token),
                (None, None) => Identity::Unknown,
            }
        };
        if let Some(token) = identity.token() {
            self.used.mark(token, clock.now().at);
        }
        identity
    }
}

/// Admin routes: the admin token, an organisation's, or a member's session. A workspace's token is never enough.
pub fn admin(ctx: &Ctx) -> Result<Principal, ApiError> {
    if let Some(principal) = ctx.known.identity.operator() {
        return Ok(principal);
    }
    match ctx.known.identity {
        _ if ctx.is_member() => Ok(Principal::Session),
        _ if ctx.is_open() => Ok(Principal::Anonymous),
        Identity::Missing => Err(ApiError::unauthorized("admin_auth_required", "admin auth required")),
        _ => Err(ApiError::unauthorized("invalid_admin_token", "invalid admin auth token")),
    }
}

/// Routes of one workspace: its own token, the admin's, an organisation's, or a member's session at our own canvas. A bearer that
/// is wrong is never rescued.
pub fn workspace(ctx: &Ctx, id: WorkspaceId) -> Result<Principal, ApiError> {
    if let Some(principal) = ctx.known.identity.operator() {
        return Ok(principal);
    }
    match ctx.known.identity {
        Identity::Workspace(credential) if credential.workspace == id => Ok(Principal::Workspace(id)),
        Identity::Missing if ctx.is_canvas() => Ok(Principal::Session),
        Identity::Missing if ctx.is_open() => Ok(Principal::Anonymous),
        Identity::Missing => Err(missing()),
        _ => Err(invalid()),
    }
}

/// Registration, heartbeats and card updates: once a workspace has a token, only that opens them. Answers whom the facts
/// are put down to, and what the token says about the generation.
pub fn registry(ctx: &Ctx, id: WorkspaceId) -> Result<(Principal, Option<Credential>), ApiError> {
    match ctx.known.identity {
        Identity::Workspace(credential) if credential.workspace == id => {
            Ok((Principal::Workspace(id), Some(credential)))
        }
        // What is worthless opens nothing, also where nothing would be needed.
        Identity::Spent(credential) if credential.workspace == id => Err(invalid()),
        _ if !ctx.state.views.credentials.read().has_agents(id) => Ok((Principal::Anonymous, None)),
        Identity::Missing => Err(missing()),
        _ => Err(invalid()),
    }
}

/// Discovery and peers, keyed on the caller: its own token, the operator's, or none where it has none yet.
pub fn discovery(ctx: &Ctx, caller: WorkspaceId) -> Result<Principal, ApiError> {
    if let Some(principal) = ctx.known.identity.operator() {
        return Ok(principal);
    }
    match (ctx.known.identity, ctx.known.session.get()) {
        (Identity::Missing, Session::Member) => Ok(Principal::Session),
        (Identity::Missing, Session::Refused) => {
            Err(ApiError::unauthorized("invalid_session", "invalid session"))
        }
        (Identity::Missing, Session::None) if ctx.is_open() => Ok(Principal::Anonymous),
        _ => registry(ctx, caller).map(|(principal, _)| principal),
    }
}

fn missing() -> ApiError {
    ApiError::unauthorized("missing_workspace_token", "missing workspace auth token")
}

fn invalid() -> ApiError {
    ApiError::unauthorized("invalid_workspace_token", "invalid workspace auth token")
}

/// The caller of an agent: the credential says who it is, `X-Workspace-ID` may only repeat it.
pub fn caller(ctx: &Ctx, target: WorkspaceId) -> Result<Principal, ApiError> {
    let claimed = ctx.claimed();
    if claimed.is_some_and(is_system) {
        return Err(ApiError::forbidden("invalid_caller_id", "invalid caller ID"));
    }
    let claimed = claimed.map(str::parse::<WorkspaceId>).transpose().map_err(|_| denied())?;
    if let Some(principal) = ctx.known.identity.operator() {
        return Ok(principal);
    }
    let principal = match ctx.known.identity {
        Identity::Workspace(credential) => match claimed {
            Some(claimed) if claimed != credential.workspace => return Err(invalid_caller()),
            Some(_) | None => Principal::Workspace(credential.workspace),
        },
        Identity::Missing => uncredentialed(ctx, claimed, target)?,
        _ => return Err(invalid_caller()),
    };
    match principal {
        Principal::Workspace(from) if !reachable(ctx, from, target) => Err(denied()),
        principal => Ok(principal),
    }
}

fn uncredentialed(
    ctx: &Ctx,
    claimed: Option<WorkspaceId>,
    target: WorkspaceId,
) -> Result<Principal, ApiError> {
    let missing = || ApiError::unauthorized("missing_caller_token", "missing caller auth token");
    match claimed {
        _ if ctx.is_canvas() => Ok(Principal::Session),
        _ if !ctx.is_open() => Err(missing()),
        // An agent's calls to itself carry no token in the contract.
        Some(claimed) if claimed == target => Ok(Principal::Workspace(claimed)),
        Some(claimed) if ctx.state.views.credentials.read().has_live(claimed) => Err(missing()),
        Some(claimed) => Ok(Principal::Workspace(claimed)),
        None => Ok(Principal::Anonymous),
    }
}

fn reachable(ctx: &Ctx, from: WorkspaceId, target: WorkspaceId) -> bool {
    from == target || ctx.state.views.roster.read().can_communicate(from, target, RootTalk::Open).allowed
}

fn invalid_caller() -> ApiError {
    ApiError::unauthorized("invalid_caller_token", "invalid caller auth token")
}

fn denied() -> ApiError {
    ApiError::forbidden("access_denied", "access denied: workspaces cannot communicate per hierarchy rules")
}

/// Names that only the platform itself may call under.
fn is_system(caller: &str) -> bool {
    ["webhook:", "system:", "test:", "channel:"].iter().any(|prefix| caller.starts_with(prefix))
}
