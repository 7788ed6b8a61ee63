//! Facts about the fleet in words.

use covalence_events::fleet::{
    AdmissionInputs, CircuitState, Event, Mode, ObserverChanged, RestartDeferred, RestartOutcome, Scope,
};

use super::workspace::{cause, cut};
use super::{Said, Weight, between, lasting, plain};
use crate::flight::why;
use crate::who::Who;

#[expect(clippy::too_many_lines, reason = "one arm for each fact there is, most of one line")]
pub(super) fn say(event: &Event, who: &Who) -> Said {
    use Weight::{Bad, Doubt, Good, Plain};
    let name = |id| who.name(id);
    match event {
        Event::PlatformStarted(e) => Said::new(
            Plain,
            format!("the platform is up: {} workspaces, version {}", e.workspaces, e.version),
        ),
        Event::PlatformStopped(e) => Said::new(
            Plain,
            format!(
                "the platform goes down: {}{}",
                e.reason,
                if e.workspaces_stopped { ", with its workspaces" } else { "" }
            ),
        ),
        Event::TailRepaired(e) => Said::new(
            Bad,
            format!("a damaged end of the log was cut off after {}: {} bytes", e.kept, e.cut_bytes),
        ),
        Event::LogMended(e) => Said::new(
            Bad,
            format!(
                "the log's {} was damaged, and {}: {}",
                e.part.replace('_', "-"),
                match e.action.as_str() {
                    "set_aside" => "the log is whole without what was set aside",
                    "written_anew" => "was written anew",
                    other => other,
                },
                e.reason
            ),
        ),
        Event::RestartAdmitted(e) => {
            let cost = e.cost.map(|cost| format!(", costs {cost}")).unwrap_or_default();
            let passed = match e.overridden.as_slice() {
                [] => String::new(),
                rules => format!(", passing over {}", rules.join(" and ")),
            };
            let team = match e.taken_along.len() {
                0 => String::new(),
                count => format!(", and {count} of its team with it"),
            };
            Said::new(
                Good,
                format!(
                    "admitted ({}): {}{cost}, {} of {} in flight, {} of {} restarts in the window{passed}{team}",
                    cause(e.cause),
                    tokens(e.inputs.as_deref()),
                    e.in_flight,
                    e.in_flight_max,
                    e.recent,
                    e.recent_max
                ),
            )
        }
        Event::RestartDeferred(e) => {
            Said::new(Doubt, format!("waits, by {}: {}", e.rule, deferred(e))).rule(&e.rule).until(e.until)
        }
        Event::RestartSuppressed(e) => Said::new(
            Bad,
            format!(
                "refused, by {}: {} of {} restarts in {}",
                e.rule,
                e.recent,
                e.recent_max,
                lasting(e.window_s.saturating_mul(1000))
            ),
        )
        .rule(&e.rule)
        .until(e.until),
        Event::RestartSettled(e) => match e.outcome {
            RestartOutcome::Online => Said::new(Good, "the restart's slot is free: it is online"),
            RestartOutcome::Failed => Said::new(Bad, "the restart failed"),
            RestartOutcome::Abandoned => Said::new(Plain, "the restart was given up"),
            RestartOutcome::Unstarted => {
                Said::new(Bad, "the engine could not start it, which says nothing about it")
            }
        },
        Event::EngineLost(e) => {
            Said::new(Bad, format!("{} does not answer us: {}: {}", e.engine, e.code, cut(&e.detail)))
                .rule(&e.code)
        }
        Event::EngineFound(e) => {
            Said::new(Good, format!("{} answers again after {}", e.engine, lasting(e.after_ms)))
        }
        Event::AlarmRaised(e) => {
            Said::new(Bad, format!("alarm {}: {}", e.kind, cut(&e.message))).rule(&e.kind)
        }
        Event::AlarmResolved(e) => Said::new(Good, format!("alarm {} is over", e.kind)).rule(&e.kind),
        Event::StrangerFound(e) => Said::new(
            Doubt,
            format!("{} runs something that the log does not know: {}", e.engine, cut(&e.name)),
        ),
        Event::RestartProved(_) => Said::new(Good, "it has proved itself: a token comes back"),
        Event::BrakeEngaged(e) => Said::new(
            Bad,
            format!(
                "brake {}, by {}: {} of {}, from {} on",
                e.mode.as_str(),
                e.trigger.as_str(),
                e.count,
                e.of,
                e.threshold
            ),
        )
        .rule(e.trigger.as_str()),
        Event::BrakeReleased(e) => {
            Said::new(Good, format!("brake released after {}: {}", lasting(e.after_ms), e.reason))
                .rule(&e.reason)
        }
        Event::ObserverChanged(e) => observer(e),
        Event::CircuitChanged(e) => {
            let (weight, state) = match e.state {
                CircuitState::Closed => (Good, "asked as usual again"),
                CircuitState::HalfOpen => (Plain, "probed"),
                CircuitState::Open => (Bad, "asked less"),
            };
            let numbers = format!("{} of {} calls failed, p95 {}", e.failed, e.calls, lasting(e.p95_ms));
            Said::new(weight, format!("{} is {state}, by {}: {numbers}", e.cell.as_str(), e.rule))
                .rule(&e.rule)
                .until(e.probe_at)
        }
        Event::GraceStarted(e) => Said::new(
            Doubt,
            format!("silence proves nothing yet: the platform has just started, {} should run", e.workspaces),
        )
        .until(Some(e.until)),
        Event::GraceEnded(e) => Said::new(
            Good,
            format!("silence counts again on {} after {}", e.cell.as_str(), lasting(e.after_ms)),
        ),
        Event::HoldSet(e) => {
            let what = if e.emergency { "emergency stop" } else { "hold" };
            Said::new(Doubt, format!("{what} of {}: {}", scope(e.scope, who), cut(&e.reason))).until(e.until)
        }
        Event::HoldReleased(e) => Said::new(
            Good,
            match &e.comment {
                Some(comment) => format!("a hold is over: {}: {}", e.reason, cut(comment)),
                None => format!("a hold is over: {}", e.reason),
            },
        ),
        Event::ModeSet(e) => Said::new(
            Plain,
            match e.mode {
                Mode::Act => {
                    format!("decisions about {} are acted on: {}", scope(e.scope, who), cut(&e.reason))
                }
                Mode::Advise => {
                    format!("decisions about {} are only recorded: {}", scope(e.scope, who), cut(&e.reason))
                }
            },
        ),
        Event::SecretSet(_) => Said::new(Plain, "a secret of all workspaces was set"),
        Event::SecretRemoved(_) => Said::new(Plain, "a secret of all workspaces was removed"),
        Event::MasterKeyRotated(e) if e.in_force => Said::new(
            Plain,
            format!("the master key was replaced: {} keys are wrapped by {}", e.keys, e.master),
        ),
        Event::MasterKeyRotated(e) => {
            Said::new(Plain, format!("the master key is being replaced: the next start needs {}", e.master))
        }
        Event::OrgTokenIssued(e) => Said::new(Plain, format!("organisation token {} was made", e.prefix)),
        Event::OrgTokenRevoked(_) => Said::new(Plain, "an organisation token was revoked"),
        Event::StrategySet(e) => {
            Said::new(Plain, format!("the team below {} restarts {}", name(e.team), e.strategy.as_str()))
        }
        Event::PolicyChanged(e) => {
            let changes: Vec<String> = e
                .changed
                .iter()
                .map(|change| format!("{} {} → {}", change.name, change.from, change.to))
                .collect();
            let changes =
                if changes.is_empty() { String::new() } else { format!(": {}", changes.join(", ")) };
            Said::new(Plain, cut(&format!("policy {} by {}{changes}", e.hash, e.origin)))
        }
        Event::QuarantineProbed(e) => {
            Said::new(Plain, format!("tried out of quarantine: {} of {}", e.attempt, e.attempts_max))
        }
        Event::QuarantineLifted(e) => Said::new(Good, format!("quarantine lifted: {}", e.reason)),
        Event::ProvisionLimitChanged(e) => {
            Said::new(Plain, format!("{} starts at once instead of {}: {}", e.to, e.from, e.reason))
        }
        Event::IncidentOpened(e) => Said::new(Plain, format!("incident opened: {}", cut(&e.title))),
        Event::IncidentNoted(e) => Said::new(Plain, format!("incident note: {}", cut(&e.text))),
        Event::IncidentClosed(e) => Said::new(
            Good,
            match &e.comment {
                Some(comment) => format!("incident closed: {}", cut(comment)),
                None => "incident closed".to_owned(),
            },
        ),
        Event::FlightRecorded(e) => Said::new(
            Plain,
            format!(
                "flight recorded: {} observations of {}",
                e.counts.observations,
                lasting(between(e.since, e.until))
            ),
        ),
        Event::FlightLost(e) => {
            Said::new(Doubt, format!("what was observed before the brake is lost: {}", why(&e.reason)))
        }
        Event::InvariantViolated(e) => {
            Said::new(Bad, format!("a bug of the platform: {}: {}", e.invariant, cut(&e.detail)))
        }
    }
}

fn observer(e: &ObserverChanged) -> Said {
    let weight = if e.score > e.from { Weight::Doubt } else { Weight::Good };
    let whose = e.cell.map_or("platform", |cell| cell.as_str());
    let parts: Vec<String> = [("engine", e.engine), ("loop", e.loop_lag), ("log", e.log), ("beats", e.beats)]
        .into_iter()
        .filter(|(_, points)| *points > 0)
        .map(|(part, points)| format!("{part} {points}"))
        .collect();
    let parts = if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) };
    let pause = e.pause_ms.map(|ms| format!("; we stood still for {}", lasting(ms))).unwrap_or_default();
    Said::new(weight, format!("our score for {whose} is {} after {}{parts}{pause}", e.score, e.from))
}

/// Whom a hold or a mode is about.
pub(crate) fn scope(scope: Scope, who: &Who) -> String {
    match scope {
        Scope::Fleet => "everybody".to_owned(),
        Scope::Subtree(id) => format!("{} and everything below it", who.name(id)),
        Scope::Workspace(id) => who.name(id),
    }
}

fn tokens(inputs: Option<&AdmissionInputs>) -> String {
    inputs.map_or_else(|| "tokens unknown".to_owned(), |inputs| format!("{:.1} tokens", inputs.tokens))
}

/// What a rule means where it makes a restart wait, with its numbers.
pub(crate) fn deferred(e: &RestartDeferred) -> String {
    let inputs = e.inputs.as_deref();
    match e.rule.as_str() {
        "emergency_stop" => "an emergency stop is on".to_owned(),
        "hold" => "a person holds it back".to_owned(),
        "ancestor_paused" => "a workspace above it is paused".to_owned(),
        "advise_only" => "decisions about it are only recorded".to_owned(),
        "backoff" => {
            let row = inputs.map_or(e.recent, |inputs| inputs.in_a_row);
            format!("it sits out its delay after {row} restarts in a row")
        }
        "grace" => "the platform has just started, and silence proves nothing yet".to_owned(),
        "brake" => match inputs.and_then(|inputs| inputs.brake) {
            Some(mode) => format!("the brake is on ({})", mode.as_str()),
            None => "the brake is on".to_owned(),
        },
        "order" => "a workspace above it comes first".to_owned(),
        "tokens" => format!("{} are left, too few for a restart for {}", tokens(inputs), plain(&e.cause)),
        "in_flight" => format!("{} of {} restarts are in flight", e.in_flight, e.in_flight_max),
        _ => format!("{} of {} in flight, {}", e.in_flight, e.in_flight_max, tokens(inputs)),
    }
}
