//! Why nothing was done, or nothing more: every hindrance that the facts name, the weightiest first.

use covalence_events::Timestamp;

use super::Reason;
use super::standing::{Life, Mark, Progress, Standing, Wish};
use crate::words::{between, cause, lasting, plain};

/// What stood in the way of a workspace's restart at a moment. Empty while one is under way, and after one that is over.
pub(super) fn of(standing: &Standing, name: &str, at: Timestamp) -> Vec<Reason> {
    let mut reasons = Vec::new();
    by_people(standing, name, at, &mut reasons);
    by_rules(standing, name, at, &mut reasons);
    if reasons.is_empty() && standing.wish.is_none() {
        reasons.extend(nothing(standing, at));
    }
    reasons
}

fn reason(rule: &str, text: impl Into<String>, mark: Option<Mark>) -> Reason {
    Reason {
        rule: rule.to_owned(),
        text: text.into(),
        since: mark.map(|mark| mark.at),
        until: None,
        position: mark.map(|mark| mark.position),
        remedy: None,
    }
}

/// What a person wanted.
fn by_people(standing: &Standing, name: &str, at: Timestamp, reasons: &mut Vec<Reason>) {
    match standing.life {
        Life::Removed => {
            reasons.push(reason("removed", "it was removed, and is never started again", standing.since));
            return;
        }
        Life::Paused => {
            let mut paused = reason("paused", "a person paused it", standing.since);
            paused.remedy = Some(format!("covalence workspaces resume {name}"));
            reasons.push(paused);
            return;
        }
        Life::Asleep => {
            let mut asleep = reason("hibernated", "it hibernates until somebody needs it", standing.since);
            asleep.remedy = Some(format!("covalence workspaces resume {name}"));
            reasons.push(asleep);
            return;
        }
        Life::Unknown | Life::Starting | Life::Running | Life::Offline | Life::Failed => {}
    }
    if let Some(down) = standing.platform_down.filter(|_| !standing.is_settled()) {
        let text = "the platform went down in order, and decides nothing until it runs again";
        reasons.push(reason("platform_down", text, Some(down)));
    }
    // A hold matters where there is something that it holds back.
    let needed = !standing.is_settled();
    if let Some((mark, hold)) = standing.hold(at).filter(|_| needed) {
        let (rule, what) = if hold.emergency {
            ("emergency_stop", "an emergency stop is on")
        } else {
            ("hold", "a person holds it back")
        };
        let mut held = reason(rule, format!("{what}: {}", crate::words::cut(&hold.reason)), Some(*mark));
        held.until = hold.until;
        held.remedy = Some(format!("covalence release {}", hold.hold));
        reasons.push(held);
    }
    if let Some((mark, why)) = standing.advised.as_ref().filter(|_| needed) {
        let text = format!("decisions about it are only recorded: {}", crate::words::cut(why));
        let mut advised = reason("advise_only", text, Some(*mark));
        advised.remedy = Some(format!("covalence mode act {name} --reason …"));
        reasons.push(advised);
    }
}

/// What the supervisor's rules said.
fn by_rules(standing: &Standing, name: &str, at: Timestamp, reasons: &mut Vec<Reason>) {
    if let Some((mark, message)) = &standing.quarantine {
        let mut quarantined = reason("quarantine", format!("quarantined: {message}"), Some(*mark));
        quarantined.remedy = Some(format!("covalence release {name}"));
        reasons.push(quarantined);
    } else if let Some((mark, rule, until)) = &standing.refused {
        let mut refused = reason(rule, "its restart was refused", Some(*mark));
        refused.until = *until;
        reasons.push(refused);
    }
    if let Some(wish) = &standing.wish {
        // The person's own words say more than the rule that goes by them.
        let waits = waiting(wish);
        reasons.extend(waits.filter(|waits| reasons.iter().all(|known| known.rule != waits.rule)));
    }
    if let Some((mark, operation)) = &standing.outcome_unknown {
        let text = format!("whether its {operation} happened is unknown; lists of its engine will tell");
        reasons.push(reason("outcome_unknown", text, Some(*mark)));
    }
    if let Some((mark, message)) = standing.failed.as_ref().filter(|_| standing.wish.is_none()) {
        let mut failed =
            reason("provision_failed", format!("it could not be started: {message}"), Some(*mark));
        failed.remedy = Some(format!("covalence restart {name}"));
        reasons.push(failed);
    }
    if standing.wish.is_some() || standing.quarantine.is_some() {
        return;
    }
    if let Some((mark, withheld)) = &standing.withheld {
        let text = format!(
            "{}; it had been silent for {}",
            withheld_by(&withheld.rule),
            lasting(withheld.silent_ms)
        );
        reasons.push(reason(&withheld.rule, text, Some(*mark)));
    } else if let Some((mark, suspicion)) = &standing.suspicion {
        let silent = suspicion.silent_ms.saturating_add(between(mark.at, at));
        let text = format!(
            "{} speaks against it, and a suspicion proves nothing: it has been silent for {}",
            plain(&suspicion.source),
            lasting(silent)
        );
        reasons.push(reason("suspicion_only", text, Some(*mark)));
    }
    if let Some((mark, why)) = standing.offline.as_ref().filter(|_| offline_for_good(standing)) {
        reasons.push(reason(
            "offline",
            format!("it is offline, and no restart was asked for: {why}"),
            Some(*mark),
        ));
    }
    if let Some((mark, code)) = standing.engine_lost.as_ref() {
        let text = format!("its engine does not answer us ({code}), which says nothing about it");
        reasons.push(reason("engine_unknown", text, Some(*mark)));
    }
    if let Some(brake) = standing.brake.as_ref().filter(|_| !standing.is_settled()) {
        let text = format!("the brake is on: {}, by {}", brake.mode.as_str(), brake.trigger.as_str());
        reasons.push(reason("brake", text, Some(brake.mark)));
    }
}

/// Whether it is offline for another reason than those that are named already.
fn offline_for_good(standing: &Standing) -> bool {
    standing.life == Life::Offline && standing.refused.is_none() && standing.outcome_unknown.is_none()
}

fn waiting(wish: &Wish) -> Option<Reason> {
    match &wish.progress {
        Progress::Asked => {
            let text = format!("a restart is asked for ({}), and nobody has decided yet", cause(wish.cause));
            Some(reason("undecided", text, Some(wish.asked)))
        }
        Progress::Deferred { rule, text, until } => {
            let mut waits = reason(rule, text.clone(), Some(wish.mark));
            waits.until = *until;
            Some(waits)
        }
        Progress::Admitted | Progress::Confirming | Progress::Draining | Progress::Started => None,
    }
}

fn withheld_by(rule: &str) -> &'static str {
    match rule {
        "one_source" => "it would count as hung, but only one source speaks against it",
        "observer_unwell" => "it would count as hung, but we see badly ourselves",
        "brake" => "it would count as hung, but the brake is on: too many look alike for it to be theirs",
        "grace" => "it would count as hung, but the platform had just started",
        _ => "it would count as hung, but a rule withholds that",
    }
}

/// Nothing was to be done: says how well that is known.
fn nothing(standing: &Standing, at: Timestamp) -> Option<Reason> {
    match standing.life {
        Life::Running => {
            let heard = standing.heard.map_or_else(String::new, |mark| {
                format!(", and it was heard from {} before", lasting(between(mark.at, at)))
            });
            let mut well = reason("nothing_against_it", format!("nothing speaks against it{heard}"), None);
            well.position = standing.heard.map(|mark| mark.position);
            Some(well)
        }
        Life::Starting => Some(reason("starting", "it is being started", standing.since)),
        Life::Unknown => Some(reason("never_started", "it was never started", None)),
        Life::Offline | Life::Failed | Life::Paused | Life::Asleep | Life::Removed => None,
    }
}
