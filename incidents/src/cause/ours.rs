//! Causes on our own side: the platform's pauses, load, crashes and bugs, and its log.

use chrono::TimeDelta;

use super::effects::EffectKind::{Blind, Bug, Call, Doubt, Gone, Restart, Stalled, Unrecorded, Unstarted};
use super::effects::before;
use super::{CauseKind, Explains, Finding};
use crate::scene::Scene;
use crate::words::{between, lasting};

/// After a pause, a start or a slow log, what it led to shows within this.
const AFTERMATH: TimeDelta = TimeDelta::seconds(30);
/// The grace after our own start.
const AFTER_START: TimeDelta = TimeDelta::seconds(60);
/// A loop that is late once is a busy second; this often is load.
const LATE_OFTEN: usize = 2;

pub(super) fn findings(scene: &Scene) -> Vec<Finding> {
    [pause(scene), load(scene), down(scene), log(scene), bug(scene)].into_iter().flatten().collect()
}

fn pause(scene: &Scene) -> Option<Finding> {
    let pauses = &scene.platform.pauses;
    let (longest, lasted) = pauses.iter().max_by_key(|(_, lasted)| *lasted)?;
    let since = pauses.iter().map(|(mark, lasted)| before(mark.at, *lasted)).min()?;
    let until = pauses.iter().map(|(mark, _)| mark.at).max()? + AFTERMATH;
    Some(Finding {
        kind: CauseKind::OwnPause,
        subject: None,
        since,
        until,
        strength: 0.95,
        reason: format!(
            "the platform itself stood still for {} until {}: a suspended host, a stopped process, or no processor",
            lasting(*lasted),
            longest.at.format("%H:%M:%S")
        ),
        evidence: pauses.iter().map(|(mark, _)| *mark).collect(),
        explains: Explains::of(&[Stalled, Blind, Doubt, Call]),
    })
}

fn load(scene: &Scene) -> Option<Finding> {
    let late = &scene.platform.late;
    let first = late.first()?;
    let paused = !scene.platform.pauses.is_empty();
    let strength = match (paused, late.len()) {
        (true, _) => 0.4,
        (false, count) if count < LATE_OFTEN => 0.7,
        (false, _) => 0.85,
    };
    Some(Finding {
        kind: CauseKind::OwnLoad,
        subject: None,
        since: first.at,
        until: late.iter().map(|mark| mark.at).max()? + AFTERMATH,
        strength,
        reason: format!("the platform's own loop was late, {} times", late.len()),
        evidence: late.clone(),
        explains: Explains::of(&[Stalled, Blind, Doubt, Call]),
    })
}

fn down(scene: &Scene) -> Option<Finding> {
    // Where the span begins with a start, nobody knows how the run before it ended.
    let mut starts = scene.platform.starts.iter();
    let crash = starts.find(|started| !started.in_order && started.gone_since.is_some());
    let started = crash.or_else(|| scene.platform.starts.first())?;
    let since = started.gone_since.unwrap_or(started.mark.at);
    let lasted = lasting(between(since, started.mark.at));
    let (kind, reason, strength) = match (started.in_order, started.gone_since) {
        (true, _) => {
            (CauseKind::PlatformRestart, format!("the platform was stopped in order for {lasted}"), 0.8)
        }
        (false, Some(_)) => {
            (CauseKind::PlatformCrash, format!("the platform was gone without a word for {lasted}"), 0.9)
        }
        (false, None) => (CauseKind::PlatformRestart, "the platform was started".to_owned(), 0.5),
    };
    Some(Finding {
        kind,
        subject: None,
        since,
        until: started.mark.at + AFTER_START,
        strength,
        reason,
        evidence: vec![started.mark],
        explains: Explains::of(&[Gone, Stalled, Blind, Unstarted, Restart, Call]),
    })
}

fn log(scene: &Scene) -> Option<Finding> {
    let (first, what) = scene.platform.log.first()?;
    let last = scene.platform.log.last().map_or(first, |(mark, _)| mark);
    Some(Finding {
        kind: CauseKind::LogTrouble,
        subject: None,
        since: first.at,
        until: last.at + AFTERMATH,
        strength: 0.9,
        reason: format!("the log: {what}"),
        evidence: scene.platform.log.iter().map(|(mark, _)| *mark).collect(),
        explains: Explains::of(&[Unrecorded, Stalled, Blind, Doubt, Unstarted]),
    })
}

fn bug(scene: &Scene) -> Option<Finding> {
    let (first, what) = scene.platform.bugs.first()?;
    Some(Finding {
        kind: CauseKind::PlatformBug,
        subject: None,
        since: first.at,
        until: first.at + AFTERMATH,
        strength: 0.8,
        reason: format!("a bug of the platform: {what}"),
        evidence: scene.platform.bugs.iter().map(|(mark, _)| *mark).collect(),
        explains: Explains::of(&[Bug, Restart, Unstarted, Stalled]),
    })
}
