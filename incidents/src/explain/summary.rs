//! One sentence for somebody who is tired: what happened, and how it stands.

use covalence_events::workspace::{self, EvidenceClass, EvidenceSource, RestartCause};
use covalence_events::{Fact, Recorded, Timestamp, fleet};

use super::Reason;
use super::chain::Chain;
use super::standing::{Life, Progress, Standing};
use crate::who::Who;
use crate::words::{self, between, exit_status, lasting};

/// What a sentence is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    pub(super) name: &'a str,
    pub(super) chain: &'a Chain,
    pub(super) standing: &'a Standing,
    pub(super) reasons: &'a [Reason],
    pub(super) at: Timestamp,
}

/// A fact about the fleet as a whole.
pub(super) fn of_fleet(anchor: &Recorded, who: &Who) -> String {
    words::say(anchor, who).text
}

/// A workspace's story.
pub(super) fn of_workspace(about: &About<'_>) -> String {
    let name = about.name;
    if let Some(text) = restarted(about) {
        return text;
    }
    if about.standing.life == Life::Removed {
        return format!("{name} was removed");
    }
    let cleared = about.chain.last(|event| match &event.fact {
        Fact::Workspace(workspace::Event::SuspicionCleared(e)) => Some((e.lasted_ms, e.by.clone())),
        Fact::Workspace(_) | Fact::Fleet(_) => None,
    });
    match (cleared, about.reasons.first()) {
        (Some((lasted, by)), _) if about.standing.is_settled() => format!(
            "{name} was suspect for {} and was then heard from ({by}): it was not restarted, and did not need it",
            lasting(lasted)
        ),
        (_, Some(reason)) if reason.rule == "nothing_against_it" => {
            format!("{name} is well: {}", reason.text)
        }
        (_, Some(reason)) => {
            let looked = looked_again(reason, about.at);
            let more = match about.reasons.len() {
                0 | 1 => String::new(),
                count => format!(" (and {} more)", count - 1),
            };
            format!("{name} was not restarted: {}{looked}{more}", reason.text)
        }
        (_, None) => format!("{name} was not restarted: no restart was asked for"),
    }
}

/// The sentence where a restart was asked for.
fn restarted(about: &About<'_>) -> Option<String> {
    let name = about.name;
    let (cause, asked) = about.chain.last(|event| match &event.fact {
        Fact::Workspace(workspace::Event::RestartRequested(e)) => Some((e.cause, event.meta.at)),
        Fact::Workspace(_) | Fact::Fleet(_) => None,
    })?;
    let began = about
        .chain
        .first(|event| (event.subject().is_some() && !is_expected(event)).then_some(event.meta.at));
    let what = format!("{name} {}", happened(about.chain, cause));
    let since = |at: Timestamp| lasting(between(began.unwrap_or(asked), at));
    Some(match ending(about.chain) {
        Some(Ending::Online(at, generation)) => {
            let proved = about.chain.last(|event| match &event.fact {
                Fact::Workspace(workspace::Event::RestartProved(e)) => Some(e.after_ms),
                Fact::Workspace(_) | Fact::Fleet(_) => None,
            });
            let proved = match proved {
                Some(ms) => format!("; it has been well for {} since", lasting(ms)),
                None => "; whether it stays well is not proved yet".to_owned(),
            };
            format!(
                "{what}, was restarted, and was back online as generation {generation} after {}{proved}",
                since(at)
            )
        }
        Some(Ending::Refuted) => {
            format!("{what}, but a fresh look found it running: it was not restarted")
        }
        Some(Ending::Abandoned(reason)) => format!("{what}; its restart was given up: {reason}"),
        Some(Ending::Quarantined(message)) => format!("{what}, and was not restarted: {message}"),
        Some(Ending::Refused(rule)) => format!("{what}, and was not restarted: refused by {rule}"),
        Some(Ending::Failed(message)) => format!("{what}, and its restart failed: {message}"),
        None => match &about.standing.wish {
            Some(wish) => format!("{what}; {}", under_way(&wish.progress, about)),
            None => format!("{what}; a restart was asked for"),
        },
    })
}

fn under_way(progress: &Progress, about: &About<'_>) -> String {
    match progress {
        Progress::Asked => "a restart is asked for, and not decided on yet".to_owned(),
        Progress::Deferred { rule, text, .. } => {
            let looked = about
                .reasons
                .iter()
                .find(|reason| reason.rule == *rule)
                .map(|reason| looked_again(reason, about.at))
                .unwrap_or_default();
            format!("its restart waits, by {rule}: {text}{looked}")
        }
        Progress::Admitted => "its restart is admitted, and has not begun".to_owned(),
        Progress::Confirming => "its restart is admitted, and one fresh look decides".to_owned(),
        Progress::Draining => "its restart is admitted, and waits for open calls to finish".to_owned(),
        Progress::Started => "it is being restarted, and was not heard from yet".to_owned(),
    }
}

/// When something is looked at again, or ends, seen from the moment of the question.
fn looked_again(reason: &Reason, at: Timestamp) -> String {
    match reason.until {
        Some(until) if until > at => format!(", for {} more", lasting(between(at, until))),
        Some(_) | None => String::new(),
    }
}

/// What befell it, by the first thing that says so.
fn happened(chain: &Chain, cause: RestartCause) -> String {
    match cause {
        RestartCause::Death => chain.first(death).unwrap_or_else(|| "died".to_owned()),
        RestartCause::Hung => {
            let silent = chain.last(|event| match &event.fact {
                Fact::Workspace(workspace::Event::SuspicionRaised(e)) => Some(e.silent_ms),
                Fact::Workspace(workspace::Event::VerdictWithheld(e)) => Some(e.silent_ms),
                Fact::Workspace(_) | Fact::Fleet(_) => None,
            });
            match silent {
                Some(ms) => {
                    format!("hung: it was suspect after {} of silence and stayed silent", lasting(ms))
                }
                None => "hung: it gave no sign of life".to_owned(),
            }
        }
        RestartCause::Operator => {
            let (by, reason) = chain.last(wish).unwrap_or_default();
            format!("was to be restarted because {by} asked{reason}")
        }
        RestartCause::Configuration | RestartCause::Session | RestartCause::Shutdown | RestartCause::Team => {
            format!("was to be restarted because {}", words::cause(cause))
        }
    }
}

fn death(event: &Recorded) -> Option<String> {
    let Fact::Workspace(workspace::Event::EvidenceObserved(e)) = &event.fact else { return None };
    (e.class == EvidenceClass::Death).then(|| match e.exit_status {
        Some(status) => format!("died ({})", exit_status(status)),
        None if e.source == EvidenceSource::Exit => format!("died ({})", e.code),
        None => format!("died (the {} says {})", words::plain(&e.source), e.code),
    })
}

fn wish(event: &Recorded) -> Option<(String, String)> {
    let Fact::Workspace(workspace::Event::RestartRequested(e)) = &event.fact else { return None };
    let reason = e.reason.as_ref().map(|reason| format!(" ({})", words::cut(reason))).unwrap_or_default();
    Some((event.meta.principal.to_string(), reason))
}

fn is_expected(event: &Recorded) -> bool {
    matches!(
        &event.fact,
        Fact::Workspace(workspace::Event::EvidenceObserved(e)) if e.class == EvidenceClass::Expected
    )
}

/// How a restart ended.
enum Ending {
    Online(Timestamp, u64),
    Refuted,
    Abandoned(String),
    Quarantined(String),
    Refused(String),
    Failed(String),
}

fn ending(chain: &Chain) -> Option<Ending> {
    chain.last(|event| match &event.fact {
        Fact::Workspace(workspace::Event::CameOnline(e)) if e.restart.is_some() => {
            Some(Some(Ending::Online(event.meta.at, e.generation.0)))
        }
        Fact::Workspace(workspace::Event::DeathRefuted(_)) => Some(Some(Ending::Refuted)),
        Fact::Workspace(workspace::Event::RestartAbandoned(e)) => {
            Some(Some(Ending::Abandoned(e.reason.clone())))
        }
        Fact::Workspace(workspace::Event::Quarantined(e)) => {
            Some(Some(Ending::Quarantined(e.message.clone())))
        }
        Fact::Workspace(workspace::Event::ProvisionFailed(e)) => {
            Some(Some(Ending::Failed(words::cut(&e.message))))
        }
        Fact::Fleet(fleet::Event::RestartSuppressed(e)) => Some(Some(Ending::Refused(e.rule.clone()))),
        // A newer wish has no end yet, whatever became of an older one.
        Fact::Workspace(workspace::Event::RestartRequested(_)) => Some(None),
        Fact::Workspace(_) | Fact::Fleet(_) => None,
    })?
}
