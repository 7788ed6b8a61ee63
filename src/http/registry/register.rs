//! `POST /registry/register`.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, post, web};
use covalence_actors::fleet;
use covalence_actors::runtime::{CommandError, token};
use covalence_actors::workspace::command::Register;
use covalence_actors::workspace::{Command, Rejection};
use covalence_events::workspace::{DeliveryMode, Event, RefusedBecause, TokenPurpose};
use covalence_events::{Fact, Principal, Recorded, WorkspaceId};
use covalence_projections::{Row, Status};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::warn;
use utoipa::ToSchema;

use crate::http::address::{self, Occasion};
use crate::http::auth::{self, Identity};
use crate::http::body;
use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::registry::{INVALID, id_in_body};
use crate::http::request::Ctx;
use crate::http::workspaces::create::delivery_mode;
use crate::http::workspaces::{gone, row, settled};

/// What the Python SDK says instead of a URL when it can't be called.
pub(in crate::http) const NO_INBOUND: &str = "remote://no-inbound";

/// The alarm's word: somebody registered as an agent and could not show that he is.
pub(in crate::http) const REFUSED_ALARM: &str = "registration_refused";

/// An agent's introduction.
#[derive(Debug, Deserialize, ToSchema)]
pub struct RegisterBody {
    /// Whose agent it is. Some clients call it `workspace_id`.
    #[serde(alias = "workspace_id", default)]
    #[schema(format = Uuid, required = true)]
    id: String,
    /// Where it answers; none, or `remote://no-inbound`, for agents that ask instead.
    url: Option<String>,
    /// Its card.
    #[serde(default)]
    #[schema(value_type = Object, required = true)]
    agent_card: Value,
    /// `push` or `poll`.
    #[schema(pattern = "^(push|poll)?$")]
    delivery_mode: Option<String>,
}

/// What an agent is told.
#[derive(Debug, Serialize, ToSchema)]
pub struct RegisteredView {
    /// Always `registered`.
    status: &'static str,
    /// Its token, shown this once; only for a workspace that had none.
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_token: Option<String>,
    /// `push` or `poll`.
    delivery_mode: &'static str,
}

/// An agent introduces itself.
#[utoipa::path(
    tag = "registry", request_body = RegisterBody,
    responses(
        (status = 200, body = RegisteredView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 410, body = ErrorBody),
    ),
    security(("bearer" = []), ())
)]
#[post("/registry/register")]
pub(crate) async fn register(ctx: Ctx, body: web::Bytes) -> Answer {
    let body: RegisterBody = body::json(&body, INVALID)?;
    let id = id_in_body(&body.id, "id")?;
    if body.agent_card.is_null() {
        return Err(ApiError::bad("invalid_body", INVALID)
            .field("agent_card")
            .detail("agent_card is required"));
    }
    let asked = delivery_mode(body.delivery_mode.as_deref())?;
    let row = row(&ctx, id).ok_or_else(ApiError::no_workspace)?;
    if row.status == Status::Removed {
        return Err(gone(&row));
    }
    let stated = body.url.filter(|url| !url.is_empty() && url != NO_INBOUND);
    if is_repeat(&ctx, id, stated.as_deref()) {
        let mode = asked.or(row.delivery_mode).unwrap_or(DeliveryMode::Poll);
        return Ok(HttpResponse::Ok().json(view(None, mode)));
    }
    let (principal, credential) = match auth::registry(&ctx, id) {
        Ok(known) => known,
        Err(error) => return Err(refused(&ctx, &row, error).await),
    };
    let mode = mode(&row, asked, stated.is_some());
    let url = match mode {
        DeliveryMode::Poll => None,
        DeliveryMode::Push => push_url(&ctx, &row, stated, &body.agent_card).await?,
    };
    let (text, mint) = if ctx.state.views.credentials.read().has_agents(id) {
        (None, None)
    } else {
        let (text, token) = token::mint(TokenPurpose::Registration, None);
        (Some(text.expose().to_owned()), Some(token))
    };
    let command = Command::Register(Box::new(Register {
        url,
        agent_card: body.agent_card,
        delivery_mode: Some(mode),
        generation: credential.and_then(|credential| credential.generation),
        mint,
        enrolment: ctx.state.config.enrolment,
    }));
    let receipt = match ctx.state.runtime.command(id, command, ctx.origin(principal)).await {
        Err(CommandError::Rejected(Rejection::EnrolmentClosed)) => {
            return Err(closed(&ctx, &row).await);
        }
        receipt => receipt?,
    };
    // Two first registrations at once: the one whose token was not recorded must not be shown it.
    let auth_token = text.filter(|_| receipt.events.iter().any(|fact| is_issue(fact)));
    Ok(settled(&ctx, receipt.position, StatusCode::OK, view(auth_token, mode)).await)
}

/// Somebody says that he is the agent and can't show it: that is written down, and a person learns of it.
async fn refused(ctx: &Ctx, row: &Row, error: ApiError) -> ApiError {
    let reason = match ctx.known.identity {
        Identity::Missing => RefusedBecause::NoToken,
        _ => RefusedBecause::WrongToken,
    };
    tell(ctx, row, reason).await;
    error
}

async fn closed(ctx: &Ctx, row: &Row) -> ApiError {
    tell(ctx, row, RefusedBecause::EnrolmentClosed).await;
    ApiError::from(Rejection::EnrolmentClosed)
        .detail(format!("an admin opens it again: `covalence workspaces enroll {}`", row.id))
}

/// Neither record nor alarm may keep the caller from his answer: what fails here is in our own log.
async fn tell(ctx: &Ctx, row: &Row, reason: RefusedBecause) {
    warn!(workspace = %row.id, name = %row.name, ?reason, "registration refused");
    let origin = || ctx.origin(Principal::Anonymous);
    let record = Command::RecordRegistrationRefused(reason);
    if let Err(error) = ctx.state.runtime.command(row.id, record, origin()).await {
        warn!(workspace = %row.id, %error, "the refused registration was not recorded");
    }
    let alarm = fleet::Command::RaiseAlarm {
        kind: REFUSED_ALARM.to_owned(),
        workspace: Some(row.id),
        message: format!(
            "somebody registered as the agent of `{}` and was refused: its agent lost its token, or it is a stranger",
            row.name
        ),
    };
    if let Err(error) = ctx.state.runtime.fleet(alarm, origin()).await {
        warn!(workspace = %row.id, %error, "no alarm could be raised for the refused registration");
    }
}

fn view(auth_token: Option<String>, mode: DeliveryMode) -> RegisteredView {
    RegisteredView { status: "registered", auth_token, delivery_mode: mode.as_str() }
}

fn is_issue(fact: &Recorded) -> bool {
    matches!(&fact.fact, Fact::Workspace(Event::TokenIssued(_)))
}

/// Registering again without a bearer and without a URL changes nothing, and is no error: the Python SDK does it at each
/// start (decision 3).
fn is_repeat(ctx: &Ctx, id: WorkspaceId, stated: Option<&str>) -> bool {
    stated.is_none()
        && ctx.known.identity == Identity::Missing
        && ctx.state.views.credentials.read().has_live(id)
}

fn mode(row: &Row, asked: Option<DeliveryMode>, has_url: bool) -> DeliveryMode {
    let usual = if row.is_external() && !has_url { DeliveryMode::Poll } else { DeliveryMode::Push };
    asked.or(row.delivery_mode).unwrap_or(usual)
}

/// Where to call the agent. What we run ourselves is called where our own backend says, whatever the agent believes its
/// address to be (it may well introduce itself before the backend has answered); what others state is checked.
async fn push_url(
    ctx: &Ctx,
    row: &Row,
    stated: Option<String>,
    card: &Value,
) -> Result<Option<String>, ApiError> {
    if !row.is_external() {
        return Ok(row.url.clone().filter(|_| row.url_trusted));
    }
    let from_card =
        || card.get("url").and_then(Value::as_str).filter(|url| !url.is_empty()).map(str::to_owned);
    let url = stated.or_else(from_card).ok_or_else(|| {
        ApiError::bad("url_required", "url is required for push-mode workspaces").field("url")
    })?;
    address::check(&url, ctx.state.config.surroundings, Occasion::Register).await.map_err(|reason| {
        ApiError::bad("url_not_allowed", INVALID).field("url").detail(reason.to_string())
    })?;
    Ok(Some(url))
}
