//! What is decided today, held against what a case expects.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use covalence_events::WorkspaceId;
use serde::{Deserialize, Serialize};

use super::{Decision, Expected, Explained};

/// One thing that came out otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mismatch {
    /// The fact that a decision is about; none for an explanation.
    pub position: Option<u64>,
    /// When.
    pub at: Option<DateTime<Utc>>,
    /// `verdict`, `admission`, `brake` or `explanation`.
    pub kind: String,
    /// About whom.
    pub workspace: Option<WorkspaceId>,
    /// What the case expects; none where it expects nothing.
    pub expected: Option<String>,
    /// What came of it; none where nothing did.
    pub today: Option<String>,
}

/// Everything that came out otherwise, decisions first, in the log's order.
pub fn compare(expected: &Expected, today: &Expected) -> Vec<Mismatch> {
    let mut found = Vec::new();
    pair(&expected.decisions, &today.decisions, &mut found);
    let now: BTreeMap<WorkspaceId, &Explained> =
        today.explained.iter().map(|one| (one.workspace, one)).collect();
    for one in &expected.explained {
        let line = now.get(&one.workspace).map(|now| now.line.clone());
        if line.as_ref() != Some(&one.line) {
            found.push(Mismatch {
                position: None,
                at: None,
                kind: "explanation".to_owned(),
                workspace: Some(one.workspace),
                expected: Some(one.line.clone()),
                today: line,
            });
        }
    }
    found
}

/// A decision is the same one where it is of the same kind about the same fact.
fn pair(expected: &[Decision], today: &[Decision], found: &mut Vec<Mismatch>) {
    type Both<'a> = (Option<&'a Decision>, Option<&'a Decision>);
    let mut both: BTreeMap<(u64, &str), Both<'_>> = BTreeMap::new();
    for decision in expected {
        both.entry((decision.position, &decision.kind)).or_default().0 = Some(decision);
    }
    for decision in today {
        both.entry((decision.position, &decision.kind)).or_default().1 = Some(decision);
    }
    for (before, now) in both.into_values() {
        let words = |decision: Option<&Decision>| decision.map(|decision| decision.decided.clone());
        let Some(decision) = before.or(now) else { continue };
        if words(before) != words(now) {
            found.push(Mismatch {
                position: Some(decision.position),
                at: Some(decision.at),
                kind: decision.kind.clone(),
                workspace: decision.workspace,
                expected: words(before),
                today: words(now),
            });
        }
    }
}
