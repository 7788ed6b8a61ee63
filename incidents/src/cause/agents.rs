//! Causes on the side of what runs: instances that end, agents that fall silent, starts that can't be.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use covalence_events::workspace::BackendKind;

use super::effects::EffectKind::{Call, Death, Doubt, Restart, Session, Unstarted};
use super::{CauseKind, Explains, Finding};
use crate::scene::{Case, Death as Died, Doubt as Silence, Mark, Scene};
use crate::who::Who;
use crate::words::exit_status;

/// Deaths and silences that begin within this of each other are one event of the host.
const TOGETHER: TimeDelta = TimeDelta::seconds(60);
/// What follows from a death shows within this.
const AFTERMATH: TimeDelta = TimeDelta::seconds(120);
/// As often as this within the span is a loop.
const LOOP_MIN: usize = 3;

pub(super) fn findings(scene: &Scene, who: &Who) -> Vec<Finding> {
    let mut findings = Vec::new();
    let cells: BTreeSet<BackendKind> = scene.cases.values().filter_map(|case| case.cell).collect();
    for cell in cells {
        findings.extend(mass_death(scene, cell));
        findings.extend(silent_together(scene, cell));
    }
    for case in scene.cases.values() {
        findings.extend(crash_loop(case, who));
        findings.extend(died(case, who));
        findings.extend(hung(case, who));
        findings.extend(poisoned(case, who));
    }
    findings.extend(unstarted(scene, who));
    findings
}

/// The largest group of moments that lie together, as positions in the list, which is in order.
fn together<T>(all: &[T], at: impl Fn(&T) -> covalence_events::Timestamp) -> &[T] {
    let mut best = 0..0;
    let mut from = 0;
    for to in 0..all.len() {
        while from < to && all.get(from).is_some_and(|first| at(first) + TOGETHER < at(&all[to])) {
            from += 1;
        }
        if to + 1 - from > best.len() {
            best = from..to + 1;
        }
    }
    &all[best]
}

fn mass_death(scene: &Scene, cell: BackendKind) -> Option<Finding> {
    let of_cell = scene.cases.values().filter(|case| case.cell == Some(cell));
    let mut dead: Vec<(&Case, &Died)> =
        of_cell.flat_map(|case| case.deaths.iter().map(move |death| (case, death))).collect();
    dead.sort_by_key(|(_, death)| death.mark.position);
    let group = together(&dead, |(_, death)| death.mark.at);
    let whose: BTreeSet<_> = group.iter().map(|(case, _)| case.id).collect();
    if whose.len() < scene.many(cell) {
        return None;
    }
    let mut statuses: BTreeMap<String, usize> = BTreeMap::new();
    for (_, death) in group {
        let word = death.exit_status.map_or_else(|| death.code.clone(), exit_status);
        *statuses.entry(word).or_default() += 1;
    }
    let (status, alike) = statuses.into_iter().max_by_key(|(_, count)| *count)?;
    let same = alike * 4 >= group.len() * 3;
    let killed = status.contains("137");
    let hint = if killed { ": memory ran out, or somebody killed them" } else { "" };
    let (_, first) = *group.first()?;
    let (_, last) = *group.last()?;
    Some(Finding {
        kind: CauseKind::MassDeath,
        subject: Some(cell.as_str().to_owned()),
        since: first.mark.at,
        until: last.mark.at + AFTERMATH,
        strength: if same { 0.92 } else { 0.8 },
        reason: format!(
            "{} of {} on {} ended within {} s, {alike} of them with {status}{hint}",
            whose.len(),
            scene.size(cell),
            cell.as_str(),
            (last.mark.at - first.mark.at).num_seconds().max(1)
        ),
        evidence: group.iter().map(|(_, death)| death.mark).collect(),
        explains: Explains::of(&[Death, Restart, Call, Unstarted, Doubt]).only(whose),
    })
}

fn silent_together(scene: &Scene, cell: BackendKind) -> Option<Finding> {
    let of_cell = scene.cases.values().filter(|case| case.cell == Some(cell));
    let mut silent: Vec<(&Case, &Silence)> =
        of_cell.flat_map(|case| case.doubts.iter().map(move |doubt| (case, doubt))).collect();
    silent.sort_by_key(|(_, doubt)| doubt.silent_since);
    let group = together(&silent, |(_, doubt)| doubt.silent_since);
    let whose: BTreeSet<_> = group.iter().map(|(case, _)| case.id).collect();
    if whose.len() < scene.many(cell) {
        return None;
    }
    let first = group.iter().map(|(_, doubt)| doubt.silent_since).min()?;
    let raised = group.iter().map(|(_, doubt)| doubt.mark.at).max()?;
    let cleared = group.iter().filter_map(|(_, doubt)| doubt.cleared.as_ref().map(|(at, _)| *at)).max();
    let back = group.iter().filter(|(_, doubt)| doubt.cleared.is_some()).count();
    let all = whose.len() == scene.size(cell);
    Some(Finding {
        kind: CauseKind::AgentsUnreachable,
        subject: Some(cell.as_str().to_owned()),
        since: first,
        until: cleared.unwrap_or(raised) + AFTERMATH,
        strength: 0.92,
        reason: format!(
            "{} of {} on {} fell silent together while the engine said that they run, and {back} were heard from again: {}",
            whose.len(),
            scene.size(cell),
            cell.as_str(),
            if all {
                "the network between platform and agents, or their whole host"
            } else {
                "a part of the network, or a starved host"
            }
        ),
        evidence: group.iter().map(|(_, doubt)| doubt.mark).collect(),
        explains: Explains::of(&[Doubt, Restart, Call]).only(whose),
    })
}

fn crash_loop(case: &Case, who: &Who) -> Option<Finding> {
    let first = case.deaths.first()?;
    if case.deaths.len() < LOOP_MIN && case.quarantined.is_none() {
        return None;
    }
    let last = case.deaths.last().unwrap_or(first);
    let status = last.exit_status.map_or_else(|| last.code.clone(), exit_status);
    let quarantine = if case.quarantined.is_some() { ", and was quarantined" } else { "" };
    Some(Finding {
        kind: CauseKind::CrashLoop,
        subject: Some(who.name(case.id)),
        since: first.mark.at,
        until: last.mark.at + AFTERMATH,
        strength: 0.95,
        reason: format!(
            "{} died {} times, last with {status}{quarantine}",
            who.name(case.id),
            case.deaths.len()
        ),
        evidence: case.deaths.iter().map(|death| death.mark).chain(case.quarantined).collect(),
        explains: Explains::of(&[Death, Restart, Call, Unstarted, Doubt]).only([case.id]),
    })
}

/// Signals that a program does not send to itself: SIGKILL and SIGTERM.
const fn is_killed(status: i32) -> bool {
    matches!(status, 137 | 143)
}

/// One that ended, once or twice.
fn died(case: &Case, who: &Who) -> Option<Finding> {
    let first = case.deaths.first()?;
    if case.deaths.len() >= LOOP_MIN || case.quarantined.is_some() {
        return None;
    }
    let name = who.name(case.id);
    let status = first.exit_status.map_or_else(|| first.code.clone(), exit_status);
    let gone = first.exit_status.is_none() && first.code != "exited";
    let (kind, reason) = if gone {
        (CauseKind::InstanceKilled, format!("{name}'s instance was gone ({status}): somebody removed it"))
    } else if first.exit_status.is_some_and(is_killed) {
        let reason = format!(
            "{name}'s instance was killed from outside ({status}): by somebody, or its memory ran out"
        );
        (CauseKind::InstanceKilled, reason)
    } else {
        (CauseKind::InstanceDied, format!("{name}'s instance ended by itself: {status}"))
    };
    Some(Finding {
        kind,
        subject: Some(name),
        since: first.mark.at,
        until: first.mark.at + AFTERMATH,
        strength: 0.85,
        reason,
        evidence: case.deaths.iter().map(|death| death.mark).collect(),
        explains: Explains::of(&[Death, Restart, Call, Doubt]).only([case.id]),
    })
}

fn hung(case: &Case, who: &Who) -> Option<Finding> {
    let doubt = case.doubts.first()?;
    let name = who.name(case.id);
    let end = match &doubt.cleared {
        Some((_, by)) => format!("until it was heard from again ({by})"),
        None => "and was not heard from again by itself".to_owned(),
    };
    let restarts: Vec<Mark> = case.restarts.iter().map(|restart| restart.mark).collect();
    let until = doubt.cleared.as_ref().map_or(doubt.mark.at, |(at, _)| *at);
    Some(Finding {
        kind: CauseKind::AgentHung,
        subject: Some(name.clone()),
        since: doubt.silent_since,
        until: restarts.first().map_or(until, |mark| mark.at.max(until)) + AFTERMATH,
        strength: if doubt.cleared.is_some() { 0.75 } else { 0.88 },
        reason: format!("{name} fell silent though the engine said that it runs, {end}"),
        evidence: vec![doubt.mark],
        explains: Explains::of(&[Doubt, Restart, Call]).only([case.id]),
    })
}

fn poisoned(case: &Case, who: &Who) -> Option<Finding> {
    let mark = case.poisoned?;
    let name = who.name(case.id);
    Some(Finding {
        kind: CauseKind::SessionPoisoned,
        subject: Some(name.clone()),
        since: mark.at,
        until: mark.at + AFTERMATH,
        strength: 0.9,
        reason: format!("{name} answered every task with the same failure: its session is poisoned"),
        evidence: vec![mark],
        explains: Explains::of(&[Session, Restart, Call]).only([case.id]),
    })
}

/// Starts that failed for a reason of what was to be started.
fn unstarted(scene: &Scene, who: &Who) -> Option<Finding> {
    let mut failures: BTreeMap<&str, Vec<(&Case, Mark)>> = BTreeMap::new();
    for case in scene.cases.values() {
        for (mark, code) in &case.unstarted {
            failures.entry(code.as_str()).or_default().push((case, *mark));
        }
    }
    let (code, failed) = failures.into_iter().max_by_key(|(_, failed)| failed.len())?;
    let whose: BTreeSet<_> = failed.iter().map(|(case, _)| case.id).collect();
    let since = failed.iter().map(|(_, mark)| mark.at).min()?;
    let until = failed.iter().map(|(_, mark)| mark.at).max()? + AFTERMATH;
    let one = whose.first().filter(|_| whose.len() == 1).map(|id| who.name(*id));
    let whom = one.clone().unwrap_or_else(|| format!("{} workspaces", whose.len()));
    Some(Finding {
        kind: CauseKind::StartFailed,
        subject: one,
        since,
        until,
        strength: 0.9,
        reason: format!("{whom} could not be started: {code}, {} times", failed.len()),
        evidence: failed.iter().map(|(_, mark)| *mark).collect(),
        explains: Explains::of(&[Unstarted, Restart, Call]).only(whose),
    })
}
