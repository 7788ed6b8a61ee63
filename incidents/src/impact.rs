//! Whom it hit and for how long, and what did not happen thanks to brakes and limits.

use chrono::{DateTime, Utc};
use covalence_events::Timestamp;
use covalence_events::fleet::RestartOutcome;
use covalence_events::workspace::RestartCause;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::incident::Named;
use crate::scene::{Case, Scene};
use crate::who::Who;
use crate::words::between;

/// Workspaces that are listed.
pub const HIT_MAX: usize = 100;

/// One workspace that was hit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Hit {
    /// Which.
    pub workspace: Named,
    /// When it began for it.
    pub since: DateTime<Utc>,
    /// What happened to it: `died`, `suspected`, `offline`, `restarted`, `not_started`, `quarantined`, `held`, `calls_cut`,
    /// `session_poisoned`.
    pub what: Vec<String>,
    /// For how long nobody answered for it, in milliseconds.
    pub offline_ms: u64,
    /// How often its restart began.
    pub restarts: u32,
    /// Answers of it that were lost.
    pub calls_cut: u32,
}

/// Restarts that a rule held back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Held {
    /// The rule.
    pub rule: String,
    /// Workspaces.
    pub workspaces: u32,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Impact {
    /// Workspaces that were hit.
    pub workspaces: u32,
    /// Workspaces that there were.
    pub of: u32,
    /// Restarts that were asked for.
    pub restarts_asked: u32,
    /// Restarts that began.
    pub restarts_begun: u32,
    /// Restarts that failed.
    pub restarts_failed: u32,
    /// Restarts that began for another reason than a proven death.
    pub restarted_alive: u32,
    /// Answers that were lost.
    pub calls_cut: u32,
    /// The longest time in which nobody answered for one workspace, in milliseconds.
    pub offline_longest_ms: u64,
    /// The time in which engines did not answer, all of them together, in milliseconds.
    pub engine_away_ms: u64,
    /// The time in which the platform was not there, in milliseconds.
    pub platform_down_ms: u64,
    /// Suspects that were heard from again and had not been restarted: wrong restarts that did not happen.
    pub spared: u32,
    /// Restarts that a rule held back, by rule.
    pub held: Vec<Held>,
    /// Who was hit, the first first.
    pub hit: Vec<Hit>,
    /// Hit workspaces that are not listed.
    pub not_listed: u32,
}

fn many(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

pub(crate) fn of(scene: &Scene, until: Timestamp, who: &Who) -> Impact {
    let mut hit: Vec<Hit> =
        scene.cases.values().filter(|case| case.is_affected()).map(|case| hit(case, until, who)).collect();
    hit.sort_by_key(|hit| hit.since);
    let restarts = || scene.cases.values().flat_map(|case| &case.restarts);
    let away = scene.engines.values().flat_map(|engine| &engine.away);
    let down = scene.platform.starts.iter().filter_map(|start| Some((start.gone_since?, start.mark.at)));
    let failed = |restart: &&crate::scene::Restart| {
        matches!(restart.settled, Some((_, RestartOutcome::Failed | RestartOutcome::Unstarted)))
    };
    let mut held: Vec<Held> = scene
        .deferred
        .iter()
        .map(|(rule, whose)| Held { rule: rule.clone(), workspaces: many(whose.len()) })
        .collect();
    held.sort_by(|a, b| b.workspaces.cmp(&a.workspaces).then(a.rule.cmp(&b.rule)));
    let listed = hit.len().min(HIT_MAX);
    Impact {
        workspaces: many(hit.len()),
        of: many(scene.cases.len()),
        restarts_asked: many(restarts().count()),
        restarts_begun: many(restarts().filter(|restart| restart.began).count()),
        restarts_failed: many(restarts().filter(failed).count()),
        restarted_alive: many(
            restarts().filter(|restart| restart.began && restart.cause != RestartCause::Death).count(),
        ),
        calls_cut: hit.iter().map(|hit| hit.calls_cut).sum(),
        offline_longest_ms: hit.iter().map(|hit| hit.offline_ms).max().unwrap_or(0),
        engine_away_ms: away.map(|(from, to)| between(from.at, to.unwrap_or(until))).sum(),
        platform_down_ms: down.map(|(from, to)| between(from, to)).sum(),
        spared: many(scene.cases.values().filter(|case| is_spared(case)).count()),
        held,
        not_listed: many(hit.len() - listed),
        hit: hit.into_iter().take(HIT_MAX).collect(),
    }
}

fn is_spared(case: &Case) -> bool {
    case.doubts.iter().any(|doubt| doubt.cleared.is_some())
        && case.deaths.is_empty()
        && !case.restarts.iter().any(|restart| restart.began)
}

fn hit(case: &Case, until: Timestamp, who: &Who) -> Hit {
    let begun = case.restarts.iter().filter(|restart| restart.began).count();
    let words = [
        (!case.deaths.is_empty(), "died"),
        (!case.doubts.is_empty(), "suspected"),
        (!case.offline.is_empty(), "offline"),
        (begun > 0, "restarted"),
        (!case.unstarted.is_empty(), "not_started"),
        (case.quarantined.is_some(), "quarantined"),
        (!case.held.is_empty(), "held"),
        (!case.cut_calls.is_empty(), "calls_cut"),
        (case.poisoned.is_some(), "session_poisoned"),
    ];
    let calls = case.cut_calls.first().map(|mark| mark.at);
    let poisoned = case.poisoned.map(|mark| mark.at);
    Hit {
        workspace: Named::of(case.id, who),
        since: case.troubled().into_iter().chain(calls).chain(poisoned).min().unwrap_or(until),
        what: words.iter().filter(|(is, _)| *is).map(|(_, word)| (*word).to_owned()).collect(),
        offline_ms: case.offline.iter().map(|(from, to)| between(from.at, to.unwrap_or(until))).sum(),
        restarts: many(begun),
        calls_cut: many(case.cut_calls.len()),
    }
}
