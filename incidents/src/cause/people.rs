//! Causes on the side of people: what they did, and what they changed.

use std::collections::BTreeSet;

use chrono::TimeDelta;

use super::effects::EffectKind::{Call, Death, Doubt, Held, Restart, Stopped, Unstarted};
use super::effects::is_by_hand;
use super::{CauseKind, Explains, Finding};
use crate::scene::{Act, Mark, Scene};
use crate::who::Who;

/// What a person did shows within this.
const AFTERMATH: TimeDelta = TimeDelta::seconds(120);
/// A change of configuration or policy may take longer to show: until the next start, or until the window of a rule is over.
const CHANGE_SHOWS: TimeDelta = TimeDelta::minutes(15);

pub(super) fn findings(scene: &Scene, who: &Who) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        [restarts(scene, who), stops(scene, who), holds(scene, who), policy(scene)]
            .into_iter()
            .flatten()
            .collect();
    findings.extend(changes(scene, who));
    findings
}

/// Names of a few, or how many.
fn whom(whose: &BTreeSet<covalence_events::WorkspaceId>, who: &Who) -> String {
    match whose.len() {
        1..=3 => whose.iter().map(|id| who.name(*id)).collect::<Vec<_>>().join(", "),
        many => format!("{many} workspaces"),
    }
}

fn by_hand(scene: &Scene, who: &Who, words: &[&str], did: &str, explains: Explains) -> Option<Finding> {
    let acts: Vec<&Act> = scene.acts.iter().filter(|act| words.contains(&act.word)).collect();
    let (first, last) = (acts.first()?, acts.last()?);
    let whose: BTreeSet<_> = acts.iter().filter_map(|act| act.workspace).collect();
    Some(Finding {
        kind: CauseKind::Operator,
        subject: None,
        since: first.mark.at,
        until: last.mark.at + AFTERMATH,
        strength: 0.95,
        reason: format!("a person {did} {}", whom(&whose, who)),
        evidence: acts.iter().map(|act| act.mark).collect(),
        explains: explains.only(whose),
    })
}

fn restarts(scene: &Scene, who: &Who) -> Option<Finding> {
    by_hand(scene, who, &["restart_requested"], "restarted", Explains::of(&[Restart, Call]))
}

fn stops(scene: &Scene, who: &Who) -> Option<Finding> {
    by_hand(
        scene,
        who,
        &["paused", "hibernation_requested", "removed"],
        "stopped",
        Explains::of(&[Stopped, Call]),
    )
}

/// A hold or an emergency stop by which restarts waited.
fn holds(scene: &Scene, who: &Who) -> Option<Finding> {
    let acts: Vec<&Act> = scene.acts.iter().filter(|act| act.word == "hold_set").collect();
    let first = acts.first()?;
    let mut whose = BTreeSet::new();
    let mut waited: Vec<Mark> = Vec::new();
    for case in scene.cases.values() {
        let by_hand = case.held.iter().filter(|(mark, rule)| is_by_hand(rule) && mark.at >= first.mark.at);
        let marks: Vec<Mark> = by_hand.map(|(mark, _)| *mark).collect();
        whose.extend((!marks.is_empty()).then_some(case.id));
        waited.extend(marks);
    }
    let last = waited.iter().map(|mark| mark.at).max()?;
    Some(Finding {
        kind: CauseKind::Operator,
        subject: None,
        since: first.mark.at,
        until: last + AFTERMATH,
        strength: 0.95,
        reason: format!("by a person {}: the restarts of {} waited", first.what, whom(&whose, who)),
        evidence: acts.iter().map(|act| act.mark).chain(waited).collect(),
        explains: Explains::of(&[Held]).only(whose),
    })
}

/// Another policy: what was decided differently from then on.
fn policy(scene: &Scene) -> Option<Finding> {
    let act = scene.acts.iter().find(|act| act.word == "policy_changed")?;
    Some(Finding {
        kind: CauseKind::PolicyChange,
        subject: None,
        since: act.mark.at,
        until: act.mark.at + CHANGE_SHOWS,
        strength: 0.6,
        reason: act.what.clone(),
        evidence: vec![act.mark],
        // It makes nobody die; it makes silence count earlier, and restarts come sooner.
        explains: Explains::of(&[Restart, Doubt]),
    })
}

/// A workspace that was changed, and was in trouble only after that.
fn changes(scene: &Scene, who: &Who) -> Vec<Finding> {
    let mut findings = Vec::new();
    for case in scene.cases.values() {
        let Some((mark, what)) = case.changes.first() else { continue };
        let well_before = case.troubled().is_none_or(|at| at >= mark.at);
        let name = who.name(case.id);
        findings.push(Finding {
            kind: CauseKind::ConfigurationChange,
            subject: Some(name.clone()),
            since: mark.at,
            until: mark.at + CHANGE_SHOWS,
            strength: if well_before { 0.97 } else { 0.4 },
            reason: format!("{name} was well until {what}"),
            evidence: case.changes.iter().map(|(mark, _)| *mark).collect(),
            explains: Explains::of(&[Death, Doubt, Restart, Unstarted, Call]).only([case.id]),
        });
    }
    findings
}
