//! The policy as a document, and what a person changes about how it is applied.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, get, post, put, web};
use chrono::{DateTime, Utc};
use covalence_actors::fleet::Command;
use covalence_actors::policy::parameters::PARAMETERS;
use covalence_actors::policy::{ParameterError, Policy};
use covalence_events::PolicyHash;
use covalence_events::fleet::{Mode, Strategy};
use covalence_projections::supervision::PolicyInForce;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::holds::{reason, scope};
use super::view::PolicyName;
use crate::http::as_of::AsOf;
use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::request::{Ctx, workspace_id};
use crate::http::workspaces::{present, settled};
use crate::http::{auth, body};

/// The generic text for a body that can't be used.
pub(super) const INVALID: &str = "invalid request body";

/// The policy in force, and those before it.
#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyView {
    /// Which.
    #[serde(flatten)]
    name: PolicyName,
    /// Every parameter, in the document's order.
    parameters: Vec<ParameterView>,
    /// The last changes, newest first; what is named here can be gone back to.
    history: Vec<ChangeView>,
}

/// One parameter.
#[derive(Debug, Serialize, ToSchema)]
pub struct ParameterView {
    /// Its name, the same in files, on the command line and here.
    name: &'static str,
    /// Its value as the document writes it.
    value: String,
    /// Its built-in value.
    default: String,
    /// `time`, `count`, `number`, `flag` or `word`.
    kind: String,
    /// What values are accepted.
    allowed: String,
    /// What it does.
    meaning: &'static str,
    /// Where the default comes from.
    source: &'static str,
}

/// One change of the policy.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangeView {
    /// The policy from then on.
    hash: String,
    /// `configuration`, `set` or `rollback`.
    origin: String,
    /// Why.
    reason: String,
    /// Who.
    by: String,
    /// When.
    since: DateTime<Utc>,
    /// What changed.
    changed: Vec<DifferenceView>,
}

/// A parameter that differs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ParameterDifferenceView)]
pub struct DifferenceView {
    /// Its name.
    name: String,
    /// Its value before.
    from: String,
    /// Its value after.
    to: String,
}

impl ChangeView {
    fn of(policy: &PolicyInForce) -> Self {
        let changed = policy.changed.iter();
        Self {
            hash: policy.hash.to_string(),
            origin: policy.origin.clone(),
            reason: policy.reason.clone(),
            by: policy.by.to_string(),
            since: policy.since,
            changed: changed
                .map(|(name, from, to)| DifferenceView {
                    name: name.clone(),
                    from: from.clone(),
                    to: to.clone(),
                })
                .collect(),
        }
    }
}

fn parameters(policy: &Policy) -> Vec<ParameterView> {
    let built_in = Policy::default();
    let view = |parameter: &covalence_actors::policy::Parameter| ParameterView {
        name: parameter.name,
        value: policy.get(parameter.name).unwrap_or_default(),
        default: built_in.get(parameter.name).unwrap_or_default(),
        kind: parameter.kind.to_string(),
        allowed: parameter.allowed(),
        meaning: parameter.meaning,
        source: parameter.source,
    };
    PARAMETERS.iter().map(view).collect()
}

/// The policy in force with every parameter's meaning, and its history.
#[utoipa::path(
    tag = "supervision", params(AsOf),
    responses((status = 200, body = PolicyView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
    security(("bearer" = []))
)]
#[get("/admin/policy")]
pub(crate) async fn show(ctx: Ctx, as_of: AsOf) -> Answer {
    auth::admin(&ctx)?;
    let seen = as_of.seen(&ctx).await?;
    let policy = seen.policy(&ctx);
    let supervision = seen.supervision.read();
    let view = PolicyView {
        name: PolicyName::of(policy.hash(), supervision.policy()),
        parameters: parameters(&policy),
        history: supervision.policies().map(ChangeView::of).collect(),
    };
    drop(supervision);
    Ok(HttpResponse::Ok().json(view))
}

/// A policy, or a part of one.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct NewPolicy {
    /// Parameters by name; times as `1500ms`, `30s`, `5m` or `4h`.
    #[schema(value_type = Object)]
    parameters: Map<String, Value>,
    /// Whether what is left out goes back to its built-in value; else it stays as it is.
    #[serde(default)]
    replace: bool,
    /// Why; needed to change anything.
    reason: Option<String>,
}

/// What a change comes to.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangedView {
    /// `changed`, `unchanged` or `checked`.
    status: &'static str,
    /// The policy from here on, or the one that it would be.
    hash: String,
    /// The policy before.
    from: String,
    /// What differs.
    changed: Vec<DifferenceView>,
}

impl ChangedView {
    fn between(before: &Policy, after: &Policy, status: &'static str) -> Self {
        let differences = before.differences(after).into_iter();
        let changed: Vec<_> =
            differences.map(|(name, from, to)| DifferenceView { name: name.to_owned(), from, to }).collect();
        Self {
            status: if changed.is_empty() && status == "changed" { "unchanged" } else { status },
            hash: after.hash().to_string(),
            from: before.hash().to_string(),
            changed,
        }
    }
}

/// Reads a policy; an error names the parameter.
pub(super) fn read(
    current: &Policy,
    parameters: &Map<String, Value>,
    replace: bool,
) -> Result<Policy, ApiError> {
    let built_in = Policy::default();
    let base = if replace { &built_in } else { current };
    Policy::from_document(base, parameters).map_err(|error| {
        let name = match &error {
            ParameterError::Unknown { name, .. } | ParameterError::Invalid { name, .. } => name.as_str(),
            ParameterError::Order { name, .. } => name,
        };
        ApiError::bad("invalid_policy", error.to_string()).with("field", name)
    })
}

/// Says what a policy would change, and changes nothing.
#[utoipa::path(
    tag = "supervision", request_body = NewPolicy,
    responses((status = 200, body = ChangedView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
    security(("bearer" = []))
)]
#[post("/admin/policy/check")]
pub(crate) async fn check(ctx: Ctx, body: web::Bytes) -> Answer {
    auth::admin(&ctx)?;
    let wish: NewPolicy = body::json(&body, INVALID)?;
    let current = ctx.state.runtime.policy();
    let policy = read(&current, &wish.parameters, wish.replace)?;
    Ok(HttpResponse::Ok().json(ChangedView::between(&current, &policy, "checked")))
}

/// Changes the policy. Every decision from then on carries its hash, and what waits is judged again at once.
#[utoipa::path(
    tag = "supervision", request_body = NewPolicy,
    responses((status = 200, body = ChangedView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
    security(("bearer" = []))
)]
#[put("/admin/policy")]
pub(crate) async fn set(ctx: Ctx, body: web::Bytes) -> Answer {
    let principal = auth::admin(&ctx)?;
    let wish: NewPolicy = body::json(&body, INVALID)?;
    let current = ctx.state.runtime.policy();
    let policy = read(&current, &wish.parameters, wish.replace)?;
    let reason = reason(wish.reason)?;
    let view = ChangedView::between(&current, &policy, "changed");
    let command = Command::SetPolicy { policy: Box::new(policy), reason };
    let position = ctx.state.runtime.fleet(command, ctx.origin(principal)).await?;
    Ok(settled(&ctx, position, StatusCode::OK, view).await)
}

/// Which policy to go back to.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct Rollback {
    /// Its hash; the one before the current where it is absent.
    #[schema(pattern = "^[0-9a-f]{16}$")]
    hash: Option<String>,
    /// Why; needed.
    #[schema(value_type = String, required = true, max_length = 500, pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$")]
    reason: Option<String>,
}

/// Goes back to a policy that was in force before.
#[utoipa::path(
    tag = "supervision", request_body = Rollback,
    responses(
        (status = 200, body = ChangedView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/admin/policy/rollback")]
pub(crate) async fn roll_back(ctx: Ctx, body: web::Bytes) -> Answer {
    let principal = auth::admin(&ctx)?;
    let wish: Rollback = body::json(&body, INVALID)?;
    let hash = wish.hash.as_deref().map(named).transpose()?;
    let reason = reason(wish.reason)?;
    let before = ctx.state.runtime.policy();
    let command = Command::RollBackPolicy { hash, reason };
    let position = ctx.state.runtime.fleet(command, ctx.origin(principal)).await?;
    let view = ChangedView::between(&before, &ctx.state.runtime.policy(), "changed");
    Ok(settled(&ctx, position, StatusCode::OK, view).await)
}

fn named(text: &str) -> Result<PolicyHash, ApiError> {
    text.parse().map_err(|_| {
        ApiError::bad("invalid_field", "`hash` must be the 16 hex digits that name a policy").field("hash")
    })
}

/// Whether decisions are acted on.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct NewMode {
    /// `act` or `advise`; needed.
    #[schema(value_type = String, required = true, pattern = "^(act|advise)$")]
    mode: Option<String>,
    /// `fleet`, `subtree` or `workspace`; `fleet` where it is absent.
    #[schema(pattern = "^(fleet|subtree|workspace)$")]
    scope: Option<String>,
    /// Whose, unless it is about everybody.
    #[schema(value_type = Option<String>, format = Uuid)]
    workspace: Option<String>,
    /// Why; needed.
    #[schema(value_type = String, required = true, max_length = 500, pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$")]
    reason: Option<String>,
}

/// Says whether automatic decisions are acted on (`act`) or only recorded (`advise`).
#[utoipa::path(
    tag = "supervision", request_body = NewMode,
    responses(
        (status = 200, description = "`{\"status\":\"set\",\"mode\":mode}`"), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[put("/admin/mode")]
pub(crate) async fn set_mode(ctx: Ctx, body: web::Bytes) -> Answer {
    let principal = auth::admin(&ctx)?;
    let wish: NewMode = body::json(&body, INVALID)?;
    let (mode, word) = match wish.mode.as_deref() {
        Some("act") => (Mode::Act, "act"),
        Some("advise") => (Mode::Advise, "advise"),
        _ => {
            return Err(ApiError::bad("invalid_field", "`mode` must be `act` or `advise`").field("mode"));
        }
    };
    let scope = scope(&ctx, wish.scope.as_deref(), wish.workspace.as_deref())?;
    let reason = reason(wish.reason)?;
    let command = Command::SetMode { scope, mode, reason };
    let position = ctx.state.runtime.fleet(command, ctx.origin(principal)).await?;
    Ok(settled(&ctx, position, StatusCode::OK, json!({"status": "set", "mode": word})).await)
}

/// Who is restarted when a member of a team dies.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct NewStrategy {
    /// `one_for_one`, `rest_for_one` or `one_for_all`; needed.
    #[schema(value_type = String, required = true, pattern = "^(one_for_one|rest_for_one|one_for_all)$")]
    strategy: Option<String>,
}

/// Says who is restarted when one of the workspaces right below this one dies.
#[utoipa::path(
    tag = "supervision", params(("id" = String, Path)), request_body = NewStrategy,
    responses(
        (status = 200, description = "`{\"status\":\"set\",\"strategy\":strategy}`"), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[put("/workspaces/{id}/strategy")]
pub(crate) async fn set_strategy(ctx: Ctx, path: web::Path<String>, body: web::Bytes) -> Answer {
    let id = workspace_id(&path)?;
    let principal = auth::admin(&ctx)?;
    present(&ctx, id)?;
    let wish: NewStrategy = body::json(&body, INVALID)?;
    let known = [Strategy::OneForOne, Strategy::RestForOne, Strategy::OneForAll];
    let strategy = known.into_iter().find(|one| Some(one.as_str()) == wish.strategy.as_deref());
    let strategy = strategy.ok_or_else(|| {
        let allowed = "`strategy` must be `one_for_one`, `rest_for_one` or `one_for_all`";
        ApiError::bad("invalid_field", allowed).field("strategy")
    })?;
    let command = Command::SetStrategy { team: id, strategy };
    let position = ctx.state.runtime.fleet(command, ctx.origin(principal)).await?;
    let body = json!({"status": "set", "strategy": strategy.as_str()});
    Ok(settled(&ctx, position, StatusCode::OK, body).await)
}
