//! Who may do what: the contract's gates, tightened as `docs/api.md` says.
//!
//! A request's credential is looked up once, before any gate; the gates only compare. Credential-free use exists only
//! where [`Ctx::is_open`] says so. A workspace's token never opens an admin route, and an `Origin` never opens anything.

use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use covalence_actors::runtime::token::digest;
use covalence_events::{Principal, WorkspaceId};
use covalence_projections::credentials::Credential;
use covalence_projections::roster::RootTalk;

use crate::http::HttpState;
use crate::http::error::ApiError;
use crate::http::request::{Ctx, text};

pub mod used;

/// What a request's bearer amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// There is none.
    Missing,
    /// There is one that nobody knows.
    Unknown,
    /// The admin token.
    Admin,
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
        let bearer = bearer.trim();
        if bearer.is_empty() {
            return Self::Missing;
        }
        let sha256 = digest(bearer);
        if state.is_admin(&sha256) {
            return Self::Admin;
        }
        let known = state.views.credentials.read().lookup(&sha256);
        match known {
            Some(credential) if credential.is_live() => {
                state.inner.used.mark(credential.token, state.clock.now().at);
                Self::Workspace(credential)
            }
            Some(credential) => Self::Spent(credential),
            None => Self::Unknown,
        }
    }

    /// Whose budget a request counts against, if the credential is good for one.
    pub const fn credential(&self) -> Option<&Credential> {
        match self {
            Self::Workspace(credential) => Some(credential),
            Self::Missing | Self::Unknown | Self::Admin | Self::Spent(_) => None,
        }
    }
}

/// Admin routes. A workspace's token is never enough.
pub fn admin(ctx: &Ctx) -> Result<Principal, ApiError> {
    match ctx.known.identity {
        Identity::Admin => Ok(Principal::Admin),
        _ if ctx.is_open() => Ok(Principal::Anonymous),
        Identity::Missing => Err(ApiError::unauthorized("admin_auth_required", "admin auth required")),
        Identity::Unknown | Identity::Workspace(_) | Identity::Spent(_) => {
            Err(ApiError::unauthorized("invalid_admin_token", "invalid admin auth token"))
        }
    }
}

/// Routes of one workspace: its own token or the admin's. A bearer that is wrong is never rescued.
pub fn workspace(ctx: &Ctx, id: WorkspaceId) -> Result<Principal, ApiError> {
    match ctx.known.identity {
        Identity::Admin => Ok(Principal::Admin),
        Identity::Workspace(credential) if credential.workspace == id => Ok(Principal::Workspace(id)),
        Identity::Missing if ctx.is_open() => Ok(Principal::Anonymous),
        Identity::Missing => Err(missing()),
        Identity::Unknown | Identity::Workspace(_) | Identity::Spent(_) => Err(invalid()),
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
        Identity::Admin | Identity::Unknown | Identity::Workspace(_) | Identity::Spent(_) => Err(invalid()),
    }
}

/// Discovery and peers, keyed on the caller: its own token, the admin's, or none where it has none yet.
pub fn discovery(ctx: &Ctx, caller: WorkspaceId) -> Result<Principal, ApiError> {
    match ctx.known.identity {
        Identity::Admin => Ok(Principal::Admin),
        Identity::Missing if ctx.is_open() => Ok(Principal::Anonymous),
        Identity::Missing | Identity::Unknown | Identity::Workspace(_) | Identity::Spent(_) => {
            registry(ctx, caller).map(|(principal, _)| principal)
        }
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
    let principal = match ctx.known.identity {
        Identity::Admin => return Ok(Principal::Admin),
        Identity::Workspace(credential) => match claimed {
            Some(claimed) if claimed != credential.workspace => return Err(invalid_caller()),
            Some(_) | None => Principal::Workspace(credential.workspace),
        },
        Identity::Unknown | Identity::Spent(_) => return Err(invalid_caller()),
        Identity::Missing => uncredentialed(ctx, claimed, target)?,
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
