//! `/admin/subscriptions`: who follows the log under a name, how far they are, and what they put aside. What consumers do is in
//! [`consume`].

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, delete, get, post, web};
use chrono::{DateTime, Utc};
use covalence_events::{Position, Recorded, Timestamp, fleet, workspace};
use covalence_projections::subscriptions::place::{PARKED_MAX, Parked};
use covalence_projections::subscriptions::{
    ACK_WITHIN_DEFAULT, ACK_WITHIN_MAX, Category, Definition, KINDS_MAX, NACKS_DEFAULT, NACKS_MAX, Name,
    Refused, SUBSCRIPTIONS_MAX, Standing, Start, Wanted,
};
use covalence_projections::tail;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::alarms;
use crate::http::error::{Answer, ApiError, ErrorBody, seconds};
use crate::http::request::{Ctx, workspace_id};
use crate::http::{auth, body};

pub mod consume;

/// The generic text for a body that can't be used.
const INVALID: &str = "invalid request body";
/// Names that the platform may need for itself.
const RESERVED: [&str; 1] = [alarms::SUBSCRIPTION];

/// A subscription to make.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct NewSubscription {
    /// Its name: 1 to 64 of a-z, 0-9, `-` and `_`; needed.
    #[schema(value_type = String, required = true, pattern = "^[a-z0-9][a-z0-9_-]{0,63}$")]
    name: Option<String>,
    /// Only facts of this kind of stream: `workspace` or `fleet`.
    #[schema(pattern = "^(workspace|fleet)?$")]
    category: Option<String>,
    /// Only facts about this workspace.
    #[schema(value_type = Option<String>, format = Uuid)]
    workspace: Option<String>,
    /// Only facts of these kinds: wire tags, or beginnings of them; at most 50.
    #[serde(default)]
    #[schema(max_items = 50)]
    kinds: Vec<String>,
    /// `beginning`, `end` (the default), or a position: with what comes after it.
    #[schema(value_type = Option<String>, pattern = "^(beginning|end|[0-9]{1,19})$")]
    start: Option<Value>,
    /// Refusals after which a fact is parked, 1 to 1000; 5 without it.
    #[schema(minimum = 1, maximum = 1000)]
    nacks_max: Option<u32>,
    /// Seconds that a consumer has for what it was given, and is waited for, 1 to 3600; 30 without it.
    #[schema(minimum = 1, maximum = 3600)]
    ack_within: Option<f64>,
}

/// A subscription.
#[derive(Debug, Serialize, ToSchema)]
pub struct SubscriptionView {
    /// Its name.
    name: String,
    /// Only facts of this kind of stream.
    category: Option<&'static str>,
    /// Only facts about this workspace.
    workspace: Option<String>,
    /// Only facts of these kinds; all where empty.
    kinds: Vec<String>,
    /// `beginning`, `end`, or the position that it began after.
    #[schema(value_type = String)]
    start: Value,
    /// Refusals after which a fact is parked.
    nacks_max: u32,
    /// Seconds that a consumer has for what it was given.
    ack_within: f64,
    /// When it was created.
    created_at: DateTime<Utc>,
    /// By whom: `admin`, or `system` for what the platform follows itself.
    by: String,
    /// Everything up to here is settled or parked.
    checkpoint: u64,
    /// Facts of the log after that.
    lag: u64,
    /// Facts that its consumer was given and has not settled.
    open: usize,
    /// Facts that are put aside.
    parked: usize,
    /// Who consumes it; null where nobody does.
    consumer: Option<ConsumerView>,
    /// Why it delivers nothing any more, if it has lost its place; else null.
    lost: Option<String>,
}

/// Who consumes a subscription.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConsumerView {
    /// What it calls itself.
    name: String,
    /// Seconds until another one may take its place, if nothing more is heard of it.
    expires_in: f64,
}

impl From<Standing> for SubscriptionView {
    fn from(standing: Standing) -> Self {
        let Standing { definition, checkpoint, next: _, lag, open, parked, holder, lost } = standing;
        let ack_within = definition.ack_within().as_secs_f64();
        Self {
            name: definition.name.to_string(),
            category: definition.wanted.category.map(Category::as_str),
            workspace: definition.wanted.workspace.map(|id| id.to_string()),
            kinds: definition.wanted.kinds,
            start: match definition.start {
                Start::Beginning => "beginning".into(),
                Start::End => "end".into(),
                Start::After(position) => position.0.into(),
            },
            nacks_max: definition.nacks_max,
            ack_within,
            created_at: definition.created,
            by: definition.by,
            checkpoint: checkpoint.0,
            lag,
            open,
            parked,
            consumer: holder.map(|(name, left)| ConsumerView { name, expires_in: left.as_secs_f64() }),
            lost,
        }
    }
}

/// A fact that was put aside.
#[derive(Debug, Serialize, ToSchema)]
pub struct ParkedView {
    /// Its place in the log.
    position: u64,
    /// How often it was delivered.
    deliveries: u32,
    /// How often it was refused.
    nacks: u32,
    /// Why, as its consumer said last.
    reason: String,
    /// The fact, as `GET /admin/log` shows it; null if retention took it.
    #[schema(value_type = Option<Object>)]
    fact: Option<Value>,
}

/// Which parked facts.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct WhichParked {
    /// Their positions; all of them without it.
    positions: Option<Vec<u64>>,
}

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
pub struct DoneView {
    /// To how many facts.
    count: usize,
    /// How the subscription stands now.
    subscription: SubscriptionView,
}

impl DoneView {
    fn of((count, standing): (usize, Standing)) -> HttpResponse {
        HttpResponse::Ok().json(Self { count, subscription: standing.into() })
    }
}

/// Makes a subscription. One that is there already with the same wishes is answered as it is (200), so that a consumer may ask at
/// each of its starts.
#[utoipa::path(
    tag = "subscriptions", request_body = NewSubscription,
    responses(
        (status = 200, body = SubscriptionView), (status = 201, body = SubscriptionView), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 409, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/admin/subscriptions")]
pub(crate) async fn create(ctx: Ctx, body: web::Bytes) -> Answer {
    let principal = auth::admin(&ctx)?;
    let wish: NewSubscription = body::json(&body, INVALID)?;
    let definition = definition(wish, ctx.state.clock.now().at, principal.to_string())?;
    let (standing, fresh) = ctx.state.subscriptions.create(definition).await?;
    let status = if fresh { StatusCode::CREATED } else { StatusCode::OK };
    Ok(HttpResponse::build(status).json(SubscriptionView::from(standing)))
}

fn definition(wish: NewSubscription, created: Timestamp, by: String) -> Result<Definition, ApiError> {
    let name = name(wish.name.unwrap_or_default())?;
    if RESERVED.contains(&name.as_ref()) {
        return Err(ApiError::conflict("name_reserved", "this name is the platform's own").field("name"));
    }
    let category = match wish.category.as_deref() {
        None | Some("") => None,
        Some("workspace") => Some(Category::Workspace),
        Some("fleet") => Some(Category::Fleet),
        Some(_) => return Err(invalid("category", "expected `workspace` or `fleet`")),
    };
    let workspace = wish.workspace.as_deref().map(workspace_id).transpose();
    let workspace = workspace.map_err(|error| error.field("workspace"))?;
    let wanted = Wanted { category, workspace, kinds: kinds(wish.kinds)? };
    let nacks_max = wish.nacks_max.unwrap_or(NACKS_DEFAULT);
    if !(1..=NACKS_MAX).contains(&nacks_max) {
        return Err(invalid("nacks_max", format!("expected 1 to {NACKS_MAX}")));
    }
    let within = wish.ack_within.unwrap_or(ACK_WITHIN_DEFAULT.as_secs_f64());
    if !(1.0..=ACK_WITHIN_MAX.as_secs_f64()).contains(&within) {
        return Err(invalid("ack_within", format!("expected 1 to {} seconds", ACK_WITHIN_MAX.as_secs())));
    }
    let ack_within_ms =
        u64::try_from(std::time::Duration::from_secs_f64(within).as_millis()).unwrap_or(u64::MAX);
    let start = start(wish.start.as_ref())?;
    Ok(Definition { name, wanted, start, nacks_max, ack_within_ms, created, by })
}

fn start(wish: Option<&Value>) -> Result<Start, ApiError> {
    let position = match wish {
        None | Some(Value::Null) => return Ok(Start::End),
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(text)) => match text.as_str() {
            "beginning" => return Ok(Start::Beginning),
            "end" => return Ok(Start::End),
            text => text.parse().ok(),
        },
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => None,
    };
    let position = position.ok_or_else(|| invalid("start", "expected `beginning`, `end`, or a position"))?;
    Ok(Start::After(Position(position)))
}

/// What names nothing would be answered with silence, for ever.
fn kinds(kinds: Vec<String>) -> Result<Vec<String>, ApiError> {
    if kinds.len() > KINDS_MAX {
        return Err(invalid("kinds", format!("at most {KINDS_MAX}")));
    }
    let known = |kind: &str| {
        let mut tags = workspace::Event::TAGS.iter().chain(fleet::Event::TAGS);
        !kind.is_empty() && tags.any(|tag| tag.starts_with(kind))
    };
    match kinds.iter().find(|kind| !known(kind)) {
        None => Ok(kinds),
        Some(odd) => Err(invalid("kinds", format!("no fact's type begins with `{odd}`"))),
    }
}

/// All subscriptions, by name.
#[utoipa::path(
    tag = "subscriptions",
    responses((status = 200, body = [SubscriptionView]), (status = 401, body = ErrorBody)),
    security(("bearer" = []))
)]
#[get("/admin/subscriptions")]
pub(crate) async fn list(ctx: Ctx) -> Answer {
    auth::admin(&ctx)?;
    let all = ctx.state.subscriptions.list().await;
    Ok(HttpResponse::Ok().json(all.into_iter().map(SubscriptionView::from).collect::<Vec<_>>()))
}

/// One subscription.
#[utoipa::path(
    tag = "subscriptions", params(("name" = String, Path)),
    responses(
        (status = 200, body = SubscriptionView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[get("/admin/subscriptions/{name}")]
pub(crate) async fn show(ctx: Ctx, path: web::Path<String>) -> Answer {
    auth::admin(&ctx)?;
    let standing = ctx.state.subscriptions.show(&name(path.into_inner())?).await?;
    Ok(HttpResponse::Ok().json(SubscriptionView::from(standing)))
}

/// Removes a subscription, with what it put aside.
#[utoipa::path(
    tag = "subscriptions", params(("name" = String, Path)),
    responses(
        (status = 200, description = "`{\"status\":\"removed\",\"subscription\":name}`"), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[delete("/admin/subscriptions/{name}")]
pub(crate) async fn remove(ctx: Ctx, path: web::Path<String>) -> Answer {
    auth::admin(&ctx)?;
    let name = name(path.into_inner())?;
    ctx.state.subscriptions.remove(&name).await?;
    Ok(HttpResponse::Ok().json(json!({"status": "removed", "subscription": name.as_ref()})))
}

/// What was put aside, oldest first, with the reasons and the facts.
#[utoipa::path(
    tag = "subscriptions", params(("name" = String, Path)),
    responses(
        (status = 200, body = [ParkedView]), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[get("/admin/subscriptions/{name}/parked")]
pub(crate) async fn list_parked(ctx: Ctx, path: web::Path<String>) -> Answer {
    auth::admin(&ctx)?;
    let all = ctx.state.subscriptions.parked(&name(path.into_inner())?).await?;
    let view = |(position, parked, fact): (Position, Parked, Option<std::sync::Arc<Recorded>>)| ParkedView {
        position: position.0,
        deliveries: parked.deliveries,
        nacks: parked.nacks,
        reason: parked.reason,
        fact: fact.map(|fact| tail::json(&fact)),
    };
    Ok(HttpResponse::Ok().json(all.into_iter().map(view).collect::<Vec<_>>()))
}

/// Delivers facts again that were put aside: these, or all of them.
#[utoipa::path(
    tag = "subscriptions", params(("name" = String, Path)), request_body = Option<WhichParked>,
    responses(
        (status = 200, body = DoneView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/admin/subscriptions/{name}/parked/replay")]
pub(crate) async fn replay(ctx: Ctx, path: web::Path<String>, body: web::Bytes) -> Answer {
    auth::admin(&ctx)?;
    let (name, which) = (name(path.into_inner())?, which(&body)?);
    Ok(DoneView::of(ctx.state.subscriptions.replay(&name, which.as_deref()).await?))
}

/// Gives up facts that were put aside: these, or all of them. They are not delivered any more.
#[utoipa::path(
    tag = "subscriptions", params(("name" = String, Path)), request_body = Option<WhichParked>,
    responses(
        (status = 200, body = DoneView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/admin/subscriptions/{name}/parked/discard")]
pub(crate) async fn discard(ctx: Ctx, path: web::Path<String>, body: web::Bytes) -> Answer {
    auth::admin(&ctx)?;
    let (name, which) = (name(path.into_inner())?, which(&body)?);
    Ok(DoneView::of(ctx.state.subscriptions.give_up(&name, which.as_deref()).await?))
}

fn which(body: &web::Bytes) -> Result<Option<Vec<Position>>, ApiError> {
    let wish: WhichParked = if body.is_empty() { WhichParked::default() } else { body::json(body, INVALID)? };
    wish.positions.map(|positions| few(positions, PARKED_MAX)).transpose()
}

/// Positions as a body names them, not more than there can be.
fn few(positions: Vec<u64>, max: usize) -> Result<Vec<Position>, ApiError> {
    if positions.len() > max {
        return Err(invalid("positions", format!("at most {max}")));
    }
    Ok(positions.into_iter().map(Position).collect())
}

fn name(text: String) -> Result<Name, ApiError> {
    Name::try_from(text).map_err(|error| invalid("name", error.to_string()))
}

fn invalid(field: &'static str, detail: impl Into<String>) -> ApiError {
    ApiError::bad("invalid_subscription", "invalid subscription").field(field).detail(detail)
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        let text = refused.to_string();
        match refused {
            Refused::NoSuch => Self::not_found("subscription_not_found", text),
            Refused::Exists => Self::conflict("subscription_exists", text)
                .field("name")
                .detail("remove it first, or name another one"),
            Refused::TooMany => Self::conflict("too_many_subscriptions", text)
                .detail(format!("at most {SUBSCRIPTIONS_MAX}: remove one that nobody needs")),
            Refused::Ours => Self::conflict("subscription_ours", text),
            Refused::Taken { consumer, remaining } => {
                Self::conflict("subscription_taken", "another consumer has this subscription")
                    .with("consumer", consumer)
                    .with("expires_in", remaining.as_secs_f64())
                    .retry_after(seconds(remaining))
            }
            Refused::LeaseLost => Self::conflict("lease_lost", text)
                .field("lease")
                .detail("fetch without a lease to get one; what was not acknowledged comes again"),
            Refused::PlaceLost(why) => {
                Self::conflict("subscription_lost_its_place", "it has lost its place in the log")
                    .detail(format!("{why}: remove it and create it anew"))
            }
            Refused::Io(error) => {
                tracing::error!(%error, "a subscription could not be kept");
                Self::unavailable(
                    "subscription_not_kept",
                    "the subscription could not be kept — retry",
                    RETRY,
                )
            }
            Refused::Read(error) => error.into(),
        }
    }
}

/// Seconds: a file system that refuses may take it again soon.
const RETRY: u64 = 5;
