//! Causes on the engine's side.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use covalence_events::Timestamp;
use covalence_events::workspace::BackendKind;

use super::effects::EffectKind::{Blind, Call, Death, Doubt, Restart, Unstarted};
use super::{CauseKind, Explains, Finding};
use crate::scene::{Engine, Scene, TroubleKind};
use crate::words::lasting;

/// After an engine is back, what it did shows within this: the next list, and what waits for it.
const AFTERMATH: TimeDelta = TimeDelta::seconds(60);
/// A single failed call is weather.
const SIGNS_FEW: usize = 2;

pub(super) fn findings(scene: &Scene) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (cell, engine) in &scene.engines {
        findings.extend(trouble(*cell, engine));
        findings.extend(restarted(scene, *cell, engine));
    }
    findings
}

/// It is slow, away or failing: the kind that most of the signs are of.
fn trouble(cell: BackendKind, engine: &Engine) -> Option<Finding> {
    let first = engine.troubles.first()?;
    let mut kinds: BTreeMap<TroubleKind, usize> = BTreeMap::new();
    for trouble in &engine.troubles {
        *kinds.entry(trouble.kind).or_default() += 1;
    }
    // What the engine said before its circuit was opened counts: later there are fewer questions.
    let most =
        kinds.iter().max_by_key(|(kind, count)| (**count, **kind == first.kind)).map(|(kind, _)| *kind)?;
    let mut codes: BTreeMap<&str, usize> = BTreeMap::new();
    for trouble in engine.troubles.iter().filter(|trouble| trouble.kind == most) {
        *codes.entry(trouble.code.as_str()).or_default() += 1;
    }
    let said: Vec<String> = codes.iter().map(|(code, count)| format!("{code} ×{count}")).collect();
    let (kind, does) = match most {
        TroubleKind::Slow => (CauseKind::EngineSlow, "did not answer in time"),
        TroubleKind::Unreachable => (CauseKind::EngineUnreachable, "was not there"),
        TroubleKind::Failing => (CauseKind::EngineFailing, "answered with errors, or with what was not so"),
    };
    let until = end(engine);
    let lasted = lasting(crate::words::between(first.mark.at, until));
    let lost = !engine.away.is_empty() || !engine.opened.is_empty();
    let strength = match (engine.troubles.len(), lost) {
        (_, true) => 0.95,
        (count, false) if count <= SIGNS_FEW => 0.55,
        (_, false) => 0.8,
    };
    let opened = if engine.opened.is_empty() { "" } else { "; its circuit was opened" };
    Some(Finding {
        kind,
        subject: Some(cell.as_str().to_owned()),
        since: first.mark.at,
        until: until + AFTERMATH,
        strength,
        reason: format!("{} {does} for {lasted} ({}){opened}", cell.as_str(), said.join(", ")),
        evidence: engine.troubles.iter().map(|trouble| trouble.mark).chain(engine.opened.clone()).collect(),
        explains: Explains::of(&[Blind, Unstarted, Restart, Call]),
    })
}

fn end(engine: &Engine) -> Timestamp {
    let last = engine.troubles.iter().map(|trouble| trouble.mark.at);
    let away = engine.away.iter().filter_map(|(_, until)| *until);
    last.chain(away).max().unwrap_or_default()
}

/// It went away, and when it was back most of what it had run was dead.
fn restarted(scene: &Scene, cell: BackendKind, engine: &Engine) -> Option<Finding> {
    let (gone, back) = *engine.away.first()?;
    let unreachable = engine.troubles.iter().any(|trouble| trouble.kind == TroubleKind::Unreachable);
    let until = back.unwrap_or_else(|| end(engine)) + AFTERMATH;
    let dead: Vec<_> = scene
        .cases
        .values()
        .filter(|case| case.cell == Some(cell))
        .filter_map(|case| case.deaths.first().map(|death| (case.id, death)))
        .filter(|(_, death)| death.mark.at + TimeDelta::seconds(5) >= gone.at && death.mark.at <= until)
        .collect();
    if !unreachable || dead.len() < scene.many(cell).max(scene.size(cell) / 2) {
        return None;
    }
    let evidence = engine.troubles.iter().map(|trouble| trouble.mark);
    Some(Finding {
        kind: CauseKind::EngineRestarted,
        subject: Some(cell.as_str().to_owned()),
        since: gone.at - TimeDelta::seconds(5),
        until,
        strength: 0.98,
        reason: format!(
            "{} was away, and {} of {} that it ran were dead when it was back",
            cell.as_str(),
            dead.len(),
            scene.size(cell)
        ),
        evidence: evidence.chain(dead.iter().map(|(_, death)| death.mark)).collect(),
        explains: Explains::of(&[Blind, Death, Restart, Unstarted, Call, Doubt]),
    })
}
