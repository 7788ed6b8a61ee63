//! What there is to be explained: who got into trouble, and how, and what befell everybody.
//!
//! A workspace counts once for each way in which it suffered; what befell a whole cell, or the platform, counts as much as a
//! fifth of everybody, three at least, so that it weighs more than one workspace's bad luck.

use std::collections::BTreeSet;

use covalence_events::workspace::RestartCause;
use covalence_events::{EventId, Timestamp, WorkspaceId};

use crate::scene::{Case, Scene};

/// In which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EffectKind {
    /// It was proved dead.
    Death,
    /// It fell silent.
    Doubt,
    /// It was restarted, or was to be, for anything but its death.
    Restart,
    /// It could not be started.
    Unstarted,
    /// Its session is damaged.
    Session,
    /// An answer to a caller was lost.
    Call,
    /// It was stopped or removed by a person.
    Stopped,
    /// Its restart waited because a person held it back.
    Held,
    /// An engine was not seen.
    Blind,
    /// The platform stood still, or was late.
    Stalled,
    /// The platform was not there.
    Gone,
    /// The log took nothing, or slowly.
    Unrecorded,
    /// A bug of the platform showed.
    Bug,
}

/// Something that there is to be explained.
#[derive(Debug)]
pub(super) struct Effect {
    pub(super) kind: EffectKind,
    /// When it showed.
    pub(super) at: Timestamp,
    /// Since when it was so.
    pub(super) since: Timestamp,
    pub(super) workspace: Option<WorkspaceId>,
    pub(super) weight: f64,
    /// The facts that it came from, with itself.
    pub(super) chain: BTreeSet<EventId>,
}

/// A lost answer is a nuisance beside a death.
const CALL_WEIGHT: f64 = 0.3;
/// What dies is back within seconds; what is held back stays away for as long as a person likes.
const HELD_WEIGHT: f64 = 1.5;

/// Whether a restart that waits by this rule waits because a person wants it so.
pub(super) fn is_by_hand(rule: &str) -> bool {
    matches!(rule, "hold" | "emergency_stop" | "ancestor_paused")
}

pub(super) fn of(scene: &Scene) -> Vec<Effect> {
    let mut effects: Vec<Effect> = scene.cases.values().flat_map(|case| of_case(scene, case)).collect();
    let everybody = everybody(scene);
    let mut whole = |kind, mark: crate::scene::Mark, since: Timestamp| {
        let chain = scene.chain(mark.id);
        effects.push(Effect { kind, at: mark.at, since, workspace: None, weight: everybody, chain });
    };
    for engine in scene.engines.values() {
        if let Some(first) = engine.troubles.first() {
            whole(EffectKind::Blind, first.mark, first.mark.at);
        }
    }
    let pause = scene.platform.pauses.iter().max_by_key(|(_, lasted)| *lasted);
    if let Some((mark, lasted)) = pause {
        whole(EffectKind::Stalled, *mark, before(mark.at, *lasted));
    } else if let Some(mark) = scene.platform.late.first() {
        whole(EffectKind::Stalled, *mark, mark.at);
    }
    if let Some(started) = scene.platform.starts.first() {
        whole(EffectKind::Gone, started.mark, started.gone_since.unwrap_or(started.mark.at));
    }
    if let Some((mark, _)) = scene.platform.log.first() {
        whole(EffectKind::Unrecorded, *mark, mark.at);
    }
    if let Some((mark, _)) = scene.platform.bugs.first() {
        whole(EffectKind::Bug, *mark, mark.at);
    }
    effects
}

fn everybody(scene: &Scene) -> f64 {
    let fifth = u32::try_from(scene.cases.len() / 5).unwrap_or(u32::MAX);
    f64::from(fifth.max(3))
}

pub(super) fn before(at: Timestamp, ms: u64) -> Timestamp {
    let ms = chrono::TimeDelta::milliseconds(i64::try_from(ms).unwrap_or(i64::MAX / 2));
    at.checked_sub_signed(ms).unwrap_or(at)
}

fn of_case(scene: &Scene, case: &Case) -> Vec<Effect> {
    let mut effects = Vec::new();
    let mut add = |kind, mark: crate::scene::Mark, since, weight| {
        let chain = scene.chain(mark.id);
        effects.push(Effect { kind, at: mark.at, since, workspace: Some(case.id), weight, chain });
    };
    if let Some(death) = case.deaths.first() {
        add(EffectKind::Death, death.mark, death.mark.at, 1.0);
    }
    // Dying again is a story of its own.
    if let Some(death) = case.deaths.get(2) {
        add(EffectKind::Death, death.mark, death.mark.at, 1.0);
    }
    if let Some(doubt) = case.doubts.first() {
        add(EffectKind::Doubt, doubt.mark, doubt.silent_since, 1.0);
    }
    let for_else = case.restarts.iter().find(|restart| {
        restart.cause != RestartCause::Death
            || !case.deaths.iter().any(|death| death.mark.at <= restart.mark.at)
    });
    if let Some(restart) = for_else {
        add(EffectKind::Restart, restart.mark, restart.mark.at, 1.0);
    }
    if let Some((mark, _)) = case.unstarted.first() {
        add(EffectKind::Unstarted, *mark, mark.at, 1.0);
    }
    if let Some(mark) = case.poisoned {
        add(EffectKind::Session, mark, mark.at, 1.0);
    }
    if let Some(mark) = case.cut_calls.first() {
        add(EffectKind::Call, *mark, mark.at, CALL_WEIGHT);
    }
    let stopped = scene.acts.iter().find(|act| {
        act.workspace == Some(case.id) && matches!(act.word, "paused" | "hibernation_requested" | "removed")
    });
    if let Some(act) = stopped {
        add(EffectKind::Stopped, act.mark, act.mark.at, 1.0);
    }
    if let Some((mark, _)) = case.held.iter().find(|(_, rule)| is_by_hand(rule)) {
        // Why it died is a story of its own: that it stayed dead does not follow from it.
        let (kind, chain) = (EffectKind::Held, BTreeSet::from([mark.id]));
        let (at, workspace) = (mark.at, Some(case.id));
        effects.push(Effect { kind, at, since: at, workspace, weight: HELD_WEIGHT, chain });
    }
    effects
}
