//! What another policy would have decided about what is in the log.

use actix_web::{HttpResponse, post, web};
use chrono::{DateTime, Utc};
use covalence_actors::backtest::{Backtest, Difference, Kind, Report, Under};
use covalence_actors::policy::Policy;
use covalence_events::log::EventLog;
use covalence_events::{Position, WorkspaceId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use super::policy;
use super::view::person::{Names, Who};
use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::request::Ctx;
use crate::http::{auth, body};

/// The whole log is read for each: one at a time.
static TURN: Semaphore = Semaphore::const_new(1);
/// Seconds until the next may have its turn.
const RETRY_AFTER: u64 = 5;
/// Facts read at once.
const PAGE: usize = 4096;

/// What to ask instead of the policy that was in force.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct Wish {
    /// No policy at all: whatever does not answer is dead and restarted at once, without limits.
    #[serde(default)]
    naive: bool,
    /// Parameters by name; times as `1500ms`, `30s`, `5m` or `4h`.
    #[serde(default)]
    #[schema(value_type = Object)]
    parameters: Map<String, Value>,
    /// Whether what is left out has its built-in value; else the one that is in force now.
    #[serde(default)]
    replace: bool,
    /// Decisions from this moment on (RFC 3339); the beginning of the log where it is absent.
    since: Option<DateTime<Utc>>,
    /// Decisions up to this moment (RFC 3339); the end of the log where it is absent.
    until: Option<DateTime<Utc>>,
}

/// What would have been decided otherwise.
#[derive(Debug, Serialize, ToSchema)]
pub struct BacktestView {
    /// `naive`, or the hash of the policy.
    under: String,
    /// Facts within the range.
    facts: u64,
    /// Decisions that were put to it.
    judged: u64,
    /// Decisions that carry no numbers, and can't be judged again.
    unjudged: u64,
    /// Restarts that were admitted.
    restarts: u64,
    /// Those among them that would not have been.
    avoided: u64,
    /// Restarts that would have been admitted, and were not.
    added: u64,
    /// Deaths by silence that would have been found earlier.
    found_earlier: u64,
    /// Those that would have been found later, or not.
    found_later: u64,
    /// Decisions that differ.
    differing: u64,
    /// The first ten thousand of these, in the order of time.
    differences: Vec<DifferenceView>,
}

/// One decision that would have been another.
#[derive(Debug, Serialize, ToSchema)]
pub struct DifferenceView {
    /// When.
    at: DateTime<Utc>,
    /// The fact that it is about, or after which it would have been decided.
    #[schema(value_type = u64)]
    position: Position,
    /// `verdict`, `admission` or `brake`.
    kind: &'static str,
    /// About whom.
    workspace: Option<Who>,
    /// What was decided.
    recorded: String,
    /// What would have been.
    under: String,
    /// By how many seconds it would have come later; negative for earlier.
    seconds: Option<i64>,
    /// Whether an earlier decision differs already: the world would have gone on differently from there.
    extrapolated: bool,
}

impl DifferenceView {
    fn of(difference: Difference, who: &impl Fn(WorkspaceId) -> Who) -> Self {
        Self {
            at: difference.at,
            position: difference.position,
            kind: match difference.kind {
                Kind::Verdict => "verdict",
                Kind::Admission => "admission",
                Kind::Brake => "brake",
            },
            workspace: difference.workspace.map(who),
            recorded: difference.recorded,
            under: difference.under,
            seconds: difference.seconds,
            extrapolated: difference.extrapolated,
        }
    }
}

/// Runs what was recorded through another policy, and lists every decision that would differ. Changes nothing.
///
/// Open loop: the evidence stays as it was recorded. After the first decision that differs the world would have gone on
/// differently, and later ones are marked as extrapolated.
#[utoipa::path(
    tag = "supervision", request_body = Wish,
    responses(
        (status = 200, body = BacktestView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/admin/backtest")]
pub(crate) async fn run(ctx: Ctx, body: web::Bytes) -> Answer {
    auth::admin(&ctx)?;
    let wish: Wish = body::json(&body, policy::INVALID)?;
    let Ok(_turn) = TURN.try_acquire() else {
        let busy = "another backtest reads the log: try again when it is done";
        return Err(ApiError::unavailable("backtest_running", busy, RETRY_AFTER));
    };
    let current = ctx.state.runtime.policy();
    let (under, report) = answer(&*ctx.state.log, &wish, &current).await?;
    let roster = ctx.state.views.roster.read();
    let names = Names(&roster);
    Ok(HttpResponse::Ok().json(BacktestView::of(under, report, |id| names.who(id))))
}

/// Puts a log to what is wished for, and names that; `current` is the policy that a wish's parameters change.
pub(crate) async fn answer(
    log: &dyn EventLog,
    wish: &Wish,
    current: &Policy,
) -> Result<(String, Report), ApiError> {
    let (since, until) =
        (wish.since.unwrap_or(DateTime::<Utc>::MIN_UTC), wish.until.unwrap_or(DateTime::<Utc>::MAX_UTC));
    if until < since {
        return Err(ApiError::bad("invalid_range", "until: expected a time after since").field("until"));
    }
    if wish.naive && !wish.parameters.is_empty() {
        let error = "parameters: expected none with naive, which is no policy";
        return Err(ApiError::bad("invalid_policy", error).field("parameters"));
    }
    let (under, name) = if wish.naive {
        (Under::Naive, "naive".to_owned())
    } else {
        let policy = policy::read(current, &wish.parameters, wish.replace)?;
        let name = policy.hash().to_string();
        (Under::Policy(Box::new(policy)), name)
    };
    Ok((name, read(log, Backtest::new(under, since, until), until).await?))
}

/// The whole log, up to now.
async fn read(log: &dyn EventLog, mut backtest: Backtest, until: DateTime<Utc>) -> Result<Report, ApiError> {
    let head = log.head();
    let mut next = Position(1);
    while next <= head {
        let facts = log.read_all(next, PAGE).await?;
        let Some(last) = facts.last() else { break };
        next = last.position.next();
        let over = last.meta.at > until;
        for fact in facts.iter().filter(|fact| fact.position <= head) {
            backtest.take(fact).map_err(|corrupt| ApiError::internal("the log can't be folded", corrupt))?;
        }
        if over {
            break;
        }
        // Others have requests, too.
        tokio::task::yield_now().await;
    }
    Ok(backtest.finish())
}

impl BacktestView {
    /// The answer, with names put to ids.
    pub(crate) fn of(under: String, report: Report, who: impl Fn(WorkspaceId) -> Who) -> Self {
        Self {
            under,
            facts: report.facts,
            judged: report.judged,
            unjudged: report.unjudged,
            restarts: report.restarts,
            avoided: report.avoided,
            added: report.added,
            found_earlier: report.found_earlier,
            found_later: report.found_later,
            differing: report.differing,
            differences: report.differences.into_iter().map(|one| DifferenceView::of(one, &who)).collect(),
        }
    }
}
