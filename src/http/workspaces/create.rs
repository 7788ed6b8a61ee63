//! `POST /workspaces`.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::{post, web};
use covalence_actors::effect::Secret;
use covalence_actors::runtime::{Receipt, token};
use covalence_actors::workspace::Command;
use covalence_actors::workspace::command::{Create, NewToken};
use covalence_events::workspace::{BackendKind, Created, DeliveryMode, TokenPurpose};
use covalence_events::{Principal, WorkspaceId};
use covalence_projections::Status;
use covalence_projections::roster::Removed;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::http::address::{self, Occasion};
use crate::http::auth;
use crate::http::body;
use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::fields::{self, invalid_fields};
use crate::http::registry::register::NO_INBOUND;
use crate::http::request::Ctx;
use crate::http::workspaces::settled;

/// Names tried before a person has to think of another one.
const SUFFIXES: u32 = 20;
/// Calls at once where nobody says.
const CONCURRENT_DEFAULT: u32 = 5;
/// Seconds: an engine under load takes that long for a handful of starts.
const RETRY_STARTS: u64 = 30;
/// More than this is no limit any more.
const CONCURRENT_MAX: i64 = 1000;

/// What a workspace shall be.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct CreateBody {
    /// What people call it; at most 255 bytes.
    #[serde(default, deserialize_with = "body::or_default")]
    pub(super) name: String,
    /// Its job description; at most 1000 bytes.
    pub(super) role: Option<String>,
    /// The name of the template that its configuration comes from.
    pub(super) template: Option<String>,
    /// 1 to 4: limits and privileges; 2 where absent.
    pub(super) tier: Option<i64>,
    /// The model that its agent should use.
    pub(super) model: Option<String>,
    /// A name of the runtime registry, or `external`.
    pub(super) runtime: Option<String>,
    /// Whether somebody else runs it.
    #[serde(default, deserialize_with = "body::or_default")]
    pub(super) external: bool,
    /// External only: where the agent answers. `remote://no-inbound`: it can't be called, and gets its token by registering.
    pub(super) url: Option<String>,
    /// A host directory below one of `COVALENCE_WORKSPACE_ROOTS`.
    pub(super) workspace_dir: Option<String>,
    /// `none`, `read_only` or `read_write`.
    pub(super) workspace_access: Option<String>,
    /// Its parent.
    pub(super) parent_id: Option<String>,
    /// Cents a month.
    pub(super) budget_limit: Option<i64>,
    /// The secrets that it begins with, by name.
    #[serde(default, deserialize_with = "body::or_default")]
    pub(super) secrets: BTreeMap<String, String>,
    /// How many calls it takes at once.
    pub(super) max_concurrent_tasks: Option<i64>,
    /// Place on the canvas.
    pub(super) canvas: Option<Place>,
    /// Not taken yet: a non-empty one is refused.
    #[serde(default, deserialize_with = "body::or_default")]
    pub(super) initial_memories: Vec<Value>,
    /// `push` or `poll`.
    pub(super) delivery_mode: Option<String>,
}

/// A place on the canvas.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Place {
    /// Horizontal.
    #[serde(default, deserialize_with = "body::or_default")]
    x: f64,
    /// Vertical.
    #[serde(default, deserialize_with = "body::or_default")]
    y: f64,
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreatedView {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    id: WorkspaceId,
    /// Its name, with a suffix if the wished one was taken.
    name: String,
    /// `provisioning`, `online` or `awaiting_agent`.
    status: &'static str,
    /// Whether somebody else runs it; absent if we do.
    #[serde(skip_serializing_if = "Option::is_none")]
    external: Option<bool>,
    /// Where its shared memory lives.
    awareness_namespace: String,
    /// `none`, `read_only` or `read_write`.
    workspace_access: &'static str,
    /// External without a URL: everything that its agent needs, shown once.
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<Connection>,
}

/// What an external agent needs.
#[derive(Debug, Serialize, ToSchema)]
pub struct Connection {
    /// Its workspace.
    #[schema(value_type = String, format = Uuid)]
    workspace_id: WorkspaceId,
    /// Where we are.
    platform_url: String,
    /// Its token, shown this once.
    auth_token: String,
    /// Where to register.
    registry_endpoint: String,
    /// Where to beat.
    heartbeat_endpoint: String,
    /// A command line to register with.
    curl_register_template: String,
    /// The same in Python.
    python_snippet: String,
}

impl Connection {
    /// What the agent of a workspace needs, where we are at `base`.
    pub(super) fn new(id: WorkspaceId, base: String, auth_token: String) -> Self {
        let registry_endpoint = format!("{base}/registry/register");
        let heartbeat_endpoint = format!("{base}/registry/heartbeat");
        let curl_register_template = format!(
            "curl -sS -X POST {registry_endpoint} -H 'Authorization: Bearer <AUTH_TOKEN>' \
             -H 'Content-Type: application/json' \
             -d '{{\"id\":\"{id}\",\"url\":\"https://your-agent.example/\",\"agent_card\":{{\"name\":\"your agent\"}}}}'"
        );
        let python_snippet = format!(
            "import requests\nrequests.post(\"{heartbeat_endpoint}\",\n    headers={{\"Authorization\": \"Bearer \
             <AUTH_TOKEN>\"}},\n    json={{\"workspace_id\": \"{id}\"}}).raise_for_status()\n"
        );
        Self {
            workspace_id: id,
            platform_url: base,
            auth_token,
            registry_endpoint,
            heartbeat_endpoint,
            curl_register_template,
            python_snippet,
        }
    }
}

/// Creates a workspace; one that we run starts at once.
#[utoipa::path(
    tag = "workspaces", request_body = CreateBody,
    responses(
        (status = 201, body = CreatedView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 503, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/workspaces")]
pub(crate) async fn create(ctx: Ctx, body: web::Bytes) -> Answer {
    let principal = auth::admin(&ctx)?;
    let mut wish: CreateBody = body::json(&body, "invalid workspace payload")?;
    // Its agent comes without a credential: the token that is shown once is then that of its registration (R51).
    let enrols = wish.url.as_deref() == Some(NO_INBOUND);
    if enrols {
        wish.url = None;
    }
    let (mut profile, secrets) = profile(&ctx, wish)?;
    if let Some(url) = &profile.url {
        address::check(url, ctx.state.config.surroundings, Occasion::Register).await.map_err(|reason| {
            ApiError::bad("url_not_allowed", "workspace URL not allowed")
                .field("url")
                .detail(reason.to_string())
        })?;
    }
    let minted = match (profile.backend, &profile.url) {
        (BackendKind::External, None) if !enrols => Some(token::mint(TokenPurpose::Creation, None)),
        _ => None,
    };
    // Held until the projections show the result, so that the next one sees the name and the parent.
    let _structure = ctx.state.inner.structure.lock().await;
    place(&ctx, &mut profile, &mut Vec::new())?;
    submit(&ctx, principal, (profile, secrets), minted).await
}

async fn submit(
    ctx: &Ctx,
    principal: Principal,
    (profile, secrets): Checked,
    minted: Option<(Secret, NewToken)>,
) -> Answer {
    let (text, token) = minted.unzip();
    let external = profile.backend == BackendKind::External;
    if !external {
        room(ctx, profile.backend, 1)?;
    }
    let (name, workspace_access) = (profile.name.clone(), profile.workspace_access.as_str());
    let (id, receipt) = begin(ctx, principal, (profile, secrets), token).await?;
    let view = CreatedView {
        id,
        name,
        status: receipt.status.as_str(),
        external: external.then_some(true),
        awareness_namespace: format!("workspace:{id}"),
        workspace_access,
        connection: text.map(|text| Connection::new(id, ctx.public_base(), text.expose().to_owned())),
    };
    Ok(settled(ctx, receipt.position, StatusCode::CREATED, view).await)
}

/// What a workspace is to be, and the secrets that it begins with, checked as far as that needs no look at others.
pub(super) type Checked = (Created, BTreeMap<String, String>);

/// Whether so many more may be started.
pub(super) fn room(ctx: &Ctx, backend: BackendKind, more: u32) -> Result<(), ApiError> {
    if ctx.state.runtime.has_room_to_start(backend, more) {
        return Ok(());
    }
    Err(ApiError::unavailable(
        "too_many_starts",
        "too many workspaces wait to be started — retry shortly",
        RETRY_STARTS,
    ))
}

/// Has a workspace exist, and start where we run it. What it is has been checked and placed, and there is room.
pub(super) async fn begin(
    ctx: &Ctx,
    principal: Principal,
    (profile, secrets): Checked,
    token: Option<NewToken>,
) -> Result<(WorkspaceId, Receipt), ApiError> {
    let id = WorkspaceId::generate();
    let secrets = crate::http::secrets::sealed_all(ctx, id, secrets).await?;
    let command = Command::Create(Box::new(Create { profile, token, secrets }));
    let receipt = ctx.state.runtime.command(id, command, ctx.origin(principal)).await?;
    Ok((id, receipt))
}

/// Checks everything that needs no look at others.
pub(super) fn profile(ctx: &Ctx, wish: CreateBody) -> Result<Checked, ApiError> {
    let config = &ctx.state.config;
    if wish.name.trim().is_empty() {
        return Err(ApiError::bad("invalid_body", "invalid workspace payload")
            .field("name")
            .detail("name is required"));
    }
    for (field, value) in [
        ("name", Some(wish.name.as_str())),
        ("role", wish.role.as_deref()),
        ("model", wish.model.as_deref()),
        ("runtime", wish.runtime.as_deref()),
    ] {
        value.map_or(Ok(()), |value| fields::text_on_create(field, value))?;
    }
    crate::http::secrets::check_all(&wish.secrets)?;
    if !wish.initial_memories.is_empty() {
        return Err(invalid_fields("initial_memories", "memories are not stored yet: nothing was created"));
    }
    let template = wish.template.filter(|template| !template.is_empty());
    template.as_deref().map_or(Ok(()), fields::template)?;
    let directory = wish.workspace_dir.filter(|directory| !directory.is_empty());
    // The operator's default counts only where access to a directory is asked for.
    let asked = wish.workspace_access.as_deref().is_some_and(|access| !matches!(access, "" | "none"));
    let directory = directory.or_else(|| config.workspace_dir.clone().filter(|_| asked));
    let workspace_dir =
        directory.map(|directory| fields::directory(&directory, &config.workspace_roots)).transpose()?;
    let external = wish.external || wish.runtime.as_deref() == Some("external");
    let parent = wish.parent_id.filter(|id| !id.is_empty());
    let place = wish.canvas.unwrap_or(Place { x: 0.0, y: 0.0 });
    let profile = Created {
        tier: fields::tier(wish.tier)?,
        runtime: if external { "external".to_owned() } else { runtime(ctx, wish.runtime)? },
        backend: if external { BackendKind::External } else { config.backend },
        model: wish.model.filter(|model| !model.is_empty()),
        template,
        entry: None,
        parent: parent.map(|id| id.parse().map_err(|_| unknown_parent())).transpose()?,
        workspace_access: fields::access(wish.workspace_access.as_deref(), workspace_dir.is_some())?,
        workspace_dir,
        url: wish.url.filter(|url| external && !url.is_empty()),
        delivery_mode: delivery_mode(wish.delivery_mode.as_deref())?,
        budget_limit: budget(wish.budget_limit)?,
        max_concurrent_tasks: concurrent(wish.max_concurrent_tasks),
        x: place.x,
        y: place.y,
        name: wish.name,
        role: wish.role.filter(|role| !role.is_empty()),
    };
    Ok((profile, wish.secrets))
}

/// A runtime that the registry knows; the default where none is named.
pub(super) fn runtime(ctx: &Ctx, wished: Option<String>) -> Result<String, ApiError> {
    let config = &ctx.state.config;
    let runtime = wished.filter(|name| !name.is_empty()).or_else(|| config.default_runtime.clone());
    let known = || config.runtimes.iter().cloned().collect::<Vec<_>>().join(", ");
    let runtime = runtime.ok_or_else(|| {
        let detail =
            format!("runtime is required: `COVALENCE_DEFAULT_RUNTIME` is not set; known are {}", known());
        invalid_fields("runtime", detail)
    })?;
    if !config.runtimes.contains(&runtime) {
        return Err(invalid_fields("runtime", format!("unknown runtime `{runtime}`; known are {}", known())));
    }
    Ok(runtime)
}

fn budget(limit: Option<i64>) -> Result<Option<i64>, ApiError> {
    match limit {
        Some(limit) if limit < 0 => {
            Err(invalid_fields("budget_limit", "budget_limit must be >= 0 (USD cents)"))
        }
        limit => Ok(limit),
    }
}

fn concurrent(wished: Option<i64>) -> u32 {
    match wished {
        None => CONCURRENT_DEFAULT,
        Some(number) => u32::try_from(number.clamp(1, CONCURRENT_MAX)).unwrap_or(CONCURRENT_DEFAULT),
    }
}

/// The contract's words for how messages reach an agent.
pub(in crate::http) fn delivery_mode(word: Option<&str>) -> Result<Option<DeliveryMode>, ApiError> {
    match word.unwrap_or_default() {
        "" => Ok(None),
        "push" => Ok(Some(DeliveryMode::Push)),
        "poll" => Ok(Some(DeliveryMode::Poll)),
        _ => Err(ApiError::bad("invalid_delivery_mode", "delivery_mode must be 'push' or 'poll'")
            .field("delivery_mode")),
    }
}

pub(super) fn unknown_parent() -> ApiError {
    ApiError::bad("unknown_parent", "unknown parent").field("parent_id")
}

/// Checks what depends on others: the parent is there, the name is free below it. `promised` are names that others are about
/// to get there; this one's joins them.
pub(super) fn place(ctx: &Ctx, profile: &mut Created, promised: &mut Vec<String>) -> Result<(), ApiError> {
    let roster = ctx.state.views.roster.read();
    let siblings = match profile.parent {
        Some(parent) => {
            roster.get(parent).filter(|row| row.status != Status::Removed).ok_or_else(unknown_parent)?;
            roster.children(parent)
        }
        None => roster.list(Removed::Hide).into_iter().filter(|row| row.parent.is_none()).collect(),
    };
    let taken = |name: &str| {
        siblings.iter().any(|row| row.name == name) || promised.iter().any(|promised| promised == name)
    };
    if taken(&profile.name) {
        let free = (2..=SUFFIXES).map(|n| format!("{} ({n})", profile.name)).find(|name| !taken(name));
        profile.name = free.filter(|name| name.len() <= fields::NAME_MAX).ok_or_else(|| {
            let text = "workspace name already in use; please pick a different name";
            ApiError::conflict("name_taken", text).field("name")
        })?;
    }
    promised.push(profile.name.clone());
    Ok(())
}
