//! Why a workspace was restarted, or why it was not: the chain from the evidence to the outcome, and what held it back.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use covalence_events::log::EventLog;
use covalence_events::{EventId, Recorded, StreamId, Timestamp, Version, WorkspaceId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::reading::{self, Failure, Moment, Slice, Which};
use crate::who::Who;
use crate::words::{self, Weight};

mod chain;
mod reasons;
mod standing;
mod summary;
#[cfg(test)]
mod tests;

use chain::Chain;
use standing::Standing;

/// Steps that one explanation shows. A chain that is longer keeps its beginning and its end.
pub const STEPS_MAX: usize = 200;

/// What became of a workspace up to a moment, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// Whom it is about; none for a fact about the fleet as a whole.
    #[schema(value_type = Option<String>, format = Uuid)]
    pub workspace: Option<WorkspaceId>,
    /// What that is called now.
    pub name: String,
    /// The moment that was asked about.
    pub at: DateTime<Utc>,
    /// The last position that was taken into account.
    pub position: u64,
    /// What happened, in a sentence.
    pub summary: String,
    /// Where it stood at that moment, a word of `docs/supervision.md`; empty for the fleet.
    pub state: String,
    /// Why nothing was done, or nothing more, by then; the weightiest first. Empty where everything was done.
    pub reasons: Vec<Reason>,
    /// The chain, and what held meanwhile, in the log's order.
    pub steps: Vec<Step>,
    /// Steps of the middle that are left out.
    pub left_out: usize,
    /// Looking back ended here; what is older was not looked at. None where the workspace's whole life was.
    pub looked_back_to: Option<DateTime<Utc>>,
}

/// One reason why nothing was done, or nothing more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Reason {
    /// A stable word: the rule that decided, or `suspicion_only`, `nothing_against_it`, `paused` and the like.
    pub rule: String,
    /// For people.
    pub text: String,
    /// Since when it has held.
    pub since: Option<DateTime<Utc>>,
    /// Until when it holds, or when it is looked at again.
    pub until: Option<DateTime<Utc>>,
    /// The fact that says so.
    pub position: Option<u64>,
    /// What would lift it, as a command; none where only time or evidence does.
    pub remedy: Option<String>,
}

/// Which part of the chain a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// What was seen, and what spoke against it.
    Evidence,
    /// What that amounts to, also where it was withheld.
    Verdict,
    /// A restart is asked for.
    Request,
    /// The supervisor's decision.
    Admission,
    /// The fresh look before the start, and draining.
    Confirm,
    /// Its next generation.
    Start,
    /// How it ended.
    Outcome,
    /// What held meanwhile: brakes, holds, the observer, the engine.
    Around,
}

/// One fact of the chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// When.
    pub at: DateTime<Utc>,
    /// Its place in the log.
    pub position: u64,
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    pub id: EventId,
    /// Which part of the chain it is.
    pub stage: Stage,
    /// Its type's word, such as `verdict_reached`.
    pub word: String,
    /// In words.
    pub text: String,
    /// How much it matters, and which way.
    pub weight: Weight,
    /// The rule that decided, where one did.
    pub rule: Option<String>,
    /// Until when it holds, or when it is looked at again.
    pub until: Option<DateTime<Utc>>,
    /// Where the fact that led to it is; none where none is named.
    pub cause: Option<u64>,
    /// Where the facts are that it led to, among the steps.
    pub led_to: Vec<u64>,
    /// The numbers that it was decided with.
    #[schema(value_type = Object)]
    pub numbers: Map<String, Value>,
    /// The policy that it was decided under.
    pub policy: Option<String>,
    /// Who asked for it.
    pub by: String,
}

/// Explains what a workspace went through up to a moment.
pub async fn workspace(
    log: &dyn EventLog,
    workspace: WorkspaceId,
    moment: Moment,
    who: &Who,
) -> Result<Explanation, Failure> {
    let first = log.read(StreamId::Workspace(workspace), Version(1), 1).await?;
    let first = first.first().ok_or(Failure::NoWorkspace(workspace))?;
    let (through, at) = reading::resolve(log, moment).await?;
    if through < first.position {
        return Err(Failure::NotYet(workspace));
    }
    let slice = reading::back(log, workspace, through, chain::is_anchor).await?;
    let anchor = slice
        .facts
        .iter()
        .rposition(|event| event.subject() == Some(workspace) && chain::is_anchor(event))
        .map(|index| Arc::clone(&slice.facts[index]));
    Ok(answer(&slice, &Asked { workspace: Some(workspace), first: Some(first), anchor, at }, who))
}

/// Explains how a fact came about and what it led to, up to the log's head.
pub async fn fact(log: &dyn EventLog, which: Which, who: &Who) -> Result<Explanation, Failure> {
    let anchor = reading::locate(log, which).await?;
    let slice = reading::around(log, &anchor).await?;
    let workspace = anchor.subject();
    let first = match workspace {
        Some(id) => log.read(StreamId::Workspace(id), Version(1), 1).await?.into_iter().next(),
        None => None,
    };
    let at = slice.facts.last().map_or(anchor.meta.at, |last| last.meta.at);
    Ok(answer(&slice, &Asked { workspace, first: first.as_ref(), anchor: Some(anchor), at }, who))
}

/// What an explanation is about.
struct Asked<'a> {
    workspace: Option<WorkspaceId>,
    first: Option<&'a Arc<Recorded>>,
    anchor: Option<Arc<Recorded>>,
    at: Timestamp,
}

fn answer(slice: &Slice, asked: &Asked<'_>, who: &Who) -> Explanation {
    let above = asked.workspace.map(|id| who.above(id)).unwrap_or_default();
    let mut standing = Standing::new(asked.workspace, above);
    if let Some(first) = asked.first {
        standing.follow(first);
    }
    for event in &slice.facts {
        standing.follow(event);
    }
    let chain = match &asked.anchor {
        Some(anchor) => Chain::of(&slice.facts, anchor, &standing),
        None => Chain::routine(&slice.facts, asked.workspace),
    };
    let name = asked.workspace.map_or_else(|| "fleet".to_owned(), |id| who.name(id));
    let reasons =
        if asked.workspace.is_some() { reasons::of(&standing, &name, asked.at) } else { Vec::new() };
    let summary = match (&asked.anchor, asked.workspace) {
        (Some(anchor), None) => summary::of_fleet(anchor, who),
        _ => summary::of_workspace(&summary::About {
            name: &name,
            chain: &chain,
            standing: &standing,
            reasons: &reasons,
            at: asked.at,
        }),
    };
    let mut steps = steps(&chain, slice, who);
    let left_out = steps.len().saturating_sub(STEPS_MAX);
    if left_out > 0 {
        steps.drain(STEPS_MAX / 2..STEPS_MAX / 2 + left_out);
    }
    Explanation {
        workspace: asked.workspace,
        name,
        at: asked.at,
        position: slice.facts.last().map_or(0, |last| last.position.0),
        summary,
        state: if asked.workspace.is_some() { standing.word().to_owned() } else { String::new() },
        reasons,
        steps,
        left_out,
        looked_back_to: slice.looked_back_to,
    }
}

fn steps(chain: &Chain, slice: &Slice, who: &Who) -> Vec<Step> {
    let places: BTreeMap<EventId, u64> =
        slice.facts.iter().map(|event| (event.meta.id, event.position.0)).collect();
    let mut led_to: BTreeMap<EventId, Vec<u64>> = BTreeMap::new();
    for (event, _) in &chain.steps {
        if let Some(cause) = event.meta.causation {
            led_to.entry(cause).or_default().push(event.position.0);
        }
    }
    let step = |(event, stage): &(Arc<Recorded>, Stage)| {
        let said = words::say(event, who);
        Step {
            at: event.meta.at,
            position: event.position.0,
            id: event.meta.id,
            stage: *stage,
            word: words::word(&event.fact).to_owned(),
            text: said.text,
            weight: said.weight,
            rule: said.rule,
            until: said.until,
            cause: event.meta.causation.and_then(|cause| places.get(&cause).copied()),
            led_to: led_to.get(&event.meta.id).cloned().unwrap_or_default(),
            numbers: words::numbers(&event.fact),
            policy: event.meta.policy.map(|policy| policy.to_string()),
            by: event.meta.principal.to_string(),
        }
    };
    chain.steps.iter().map(step).collect()
}
