//! The fleet's supervisor: one actor that says which restarts may begin, and keeps the platform's own diary.
//!
//! Invariants
//! - Every admitted restart is settled exactly once; until then it holds one of the in-flight slots.
//! - A deferred restart is looked at again when its time has come or a slot is free, in the order of the requests.
//! - Counts live in the log: a restart of the platform forgets no crash.

use std::collections::BTreeMap;

use covalence_events::fleet::{
    AlarmRaised, AlarmResolved, EngineFound, EngineLost, Event, PlatformStarted, PlatformStopped,
    RestartAdmitted, RestartDeferred, RestartOutcome, RestartSettled, RestartSuppressed, StrangerFound,
    TailRepaired,
};
use covalence_events::workspace::RestartCause;
use covalence_events::{EventId, Fact, Position, Recorded, RestartId, Timestamp, WorkspaceId};

use crate::context::{Context, Corrupt, Decision};
use crate::policy::Policy;
use crate::policy::admission::{self, Admission, Request};

#[cfg(test)]
mod tests;

/// The longest intensity window that a policy may have; older admissions are forgotten by the fold, which can't know
/// the policy that was in force.
const HISTORY: chrono::Duration = chrono::Duration::hours(24);

/// What the supervisor is asked or told.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// A workspace asks for a restart. Repeated requests for the same restart change nothing.
    RequestAdmission {
        /// Whose.
        workspace: WorkspaceId,
        /// Which.
        restart: RestartId,
        /// Why.
        cause: RestartCause,
    },
    /// A workspace says how a restart ended.
    SettleRestart {
        /// Whose.
        workspace: WorkspaceId,
        /// Which.
        restart: RestartId,
        /// How.
        outcome: RestartOutcome,
    },
    /// A deferred restart's time may have come, or an alarm's.
    RecordDeadline,
    /// The platform's process is up.
    RecordStart(PlatformStarted),
    /// The platform's process goes down in order.
    RecordStop(PlatformStopped),
    /// The log's end was cut at open.
    RecordRepair(TailRepaired),
    /// A backend does not answer.
    RecordEngineLost(EngineLost),
    /// A backend answers.
    RecordEngineFound {
        /// Which.
        engine: String,
    },
    /// A backend runs something of ours that the log does not know.
    RecordStranger(StrangerFound),
}

impl Command {
    /// The name used in spans, metrics and panics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::RequestAdmission { .. } => "request_admission",
            Self::SettleRestart { .. } => "settle_restart",
            Self::RecordDeadline => "record_deadline",
            Self::RecordStart(_) => "record_start",
            Self::RecordStop(_) => "record_stop",
            Self::RecordRepair(_) => "record_repair",
            Self::RecordEngineLost(_) => "record_engine_lost",
            Self::RecordEngineFound { .. } => "record_engine_found",
            Self::RecordStranger(_) => "record_stranger",
        }
    }
}

/// A restart that has to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Whose.
    pub workspace: WorkspaceId,
    /// Why it was asked for.
    pub cause: RestartCause,
    /// When it was first deferred; backoff runs from there.
    pub since: Timestamp,
    /// Its place in the queue.
    pub order: Position,
    /// When to look again; none waits for a slot.
    pub until: Option<Timestamp>,
    /// Whether it has sat out its backoff.
    pub waited: bool,
    /// The fact that deferred it last: what comes of it comes from there, not from the timer or the slot that let it go on.
    pub deferral: EventId,
}

/// A restart that was admitted and has no outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// Whose.
    pub workspace: WorkspaceId,
    /// The fact that admits it.
    pub admission: (Position, EventId),
}

/// A backend that does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Since when.
    pub since: Timestamp,
    /// Whether a person was told.
    pub alarmed: bool,
}

/// What the supervisor knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Admissions for death or hanging, newest last, by workspace.
    pub history: BTreeMap<WorkspaceId, Vec<Timestamp>>,
    /// Restarts that wait.
    pub waiting: BTreeMap<RestartId, Waiting>,
    /// Restarts in flight.
    pub in_flight: BTreeMap<RestartId, InFlight>,
    /// Backends that do not answer.
    pub lost: BTreeMap<String, Lost>,
    /// Instances that nobody knows, as reported in this log.
    pub strangers: Vec<String>,
}

impl State {
    /// Admissions of this workspace since then, for death or hanging.
    fn since(&self, workspace: WorkspaceId, since: Timestamp) -> u32 {
        let history = self.history.get(&workspace).map_or(&[][..], Vec::as_slice);
        u32::try_from(history.iter().filter(|at| **at > since).count()).unwrap_or(u32::MAX)
    }
}

/// What has to be told to whom.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Tell a workspace that its restart may begin.
    Grant {
        /// Whose.
        workspace: WorkspaceId,
        /// Which.
        restart: RestartId,
        /// Where the log says so.
        admission: Position,
        /// The fact that says so.
        because: EventId,
    },
    /// Tell a workspace that its restart is refused.
    Deny {
        /// Whose.
        workspace: WorkspaceId,
        /// Which.
        restart: RestartId,
        /// The rule.
        rule: String,
        /// For people.
        message: String,
        /// The fact that says so.
        because: EventId,
    },
}

/// State, command and context to facts. The supervisor rejects nothing: what it can't place, it ignores.
pub fn decide(state: &State, command: &Command, ctx: &Context<'_>) -> Decision<Event> {
    let mut facts = Decision::default();
    match command {
        Command::RequestAdmission { workspace, restart, cause } => {
            if !state.waiting.contains_key(restart) && !state.in_flight.contains_key(restart) {
                let asked = Asked {
                    workspace: *workspace,
                    restart: *restart,
                    cause: *cause,
                    since: ctx.at(),
                    waited: false,
                    because: ctx.origin.causation,
                };
                let taken = u32::try_from(state.in_flight.len()).unwrap_or(u32::MAX);
                judge(state, &asked, taken, ctx, &mut facts);
            }
        }
        Command::SettleRestart { workspace, restart, outcome } => {
            let known = state.waiting.contains_key(restart) || state.in_flight.contains_key(restart);
            if known {
                facts.push(
                    ctx,
                    RestartSettled { workspace: *workspace, restart: *restart, outcome: *outcome },
                );
                admit_waiting(state, Some(*restart), ctx, &mut facts);
            }
        }
        Command::RecordDeadline => {
            admit_waiting(state, None, ctx, &mut facts);
            raise_alarms(state, ctx, &mut facts);
        }
        Command::RecordStart(started) => {
            facts.push(ctx, started.clone());
        }
        Command::RecordStop(stopped) => {
            facts.push(ctx, stopped.clone());
        }
        Command::RecordRepair(repaired) => {
            facts.push(ctx, repaired.clone());
        }
        Command::RecordEngineLost(lost) => {
            if !state.lost.contains_key(&lost.engine) {
                facts.push(ctx, lost.clone());
            }
        }
        Command::RecordEngineFound { engine } => found(state, engine, ctx, &mut facts),
        Command::RecordStranger(stranger) => {
            if !state.strangers.contains(&stranger.instance) {
                facts.push(ctx, stranger.clone());
            }
        }
    }
    facts
}

struct Asked {
    workspace: WorkspaceId,
    restart: RestartId,
    cause: RestartCause,
    since: Timestamp,
    waited: bool,
    because: Option<EventId>,
}

/// Judges one request with so many slots taken; answers whether it took another.
fn judge(state: &State, asked: &Asked, taken: u32, ctx: &Context<'_>, facts: &mut Decision<Event>) -> bool {
    let recent = state.since(asked.workspace, ctx.at() - ctx.policy.intensity_window);
    let in_flight_max = ctx.policy.in_flight_max(ctx.fleet_size);
    let request = Request {
        cause: asked.cause,
        requested_at: asked.since,
        now: ctx.at(),
        recent,
        in_a_row: state.since(asked.workspace, ctx.at() - ctx.policy.backoff_reset),
        in_flight: taken,
        in_flight_max,
        chance: ctx.chance,
        waited: asked.waited,
    };
    let (workspace, restart, cause) = (asked.workspace, asked.restart, asked.cause);
    let recent_max = ctx.policy.intensity_max;
    match admission::admit(ctx.policy, &request) {
        Admission::Admitted => {
            facts.push_because(
                ctx,
                asked.because,
                RestartAdmitted {
                    workspace,
                    restart,
                    cause,
                    in_flight: taken,
                    in_flight_max,
                    recent,
                    recent_max,
                },
            );
            true
        }
        Admission::Deferred { rule, until } => {
            let rule = rule.to_owned();
            facts.push_because(
                ctx,
                asked.because,
                RestartDeferred {
                    workspace,
                    restart,
                    cause,
                    rule,
                    until,
                    in_flight: taken,
                    in_flight_max,
                    recent,
                    recent_max,
                },
            );
            false
        }
        Admission::Suppressed { rule } => {
            let window_s = ctx.policy.intensity_window.as_secs();
            facts.push_because(
                ctx,
                asked.because,
                RestartSuppressed {
                    workspace,
                    restart,
                    cause,
                    rule: rule.to_owned(),
                    recent,
                    recent_max,
                    window_s,
                },
            );
            false
        }
    }
}

/// Looks again at what waits, oldest first, as far as slots go. Nothing is said about those that still have to wait.
fn admit_waiting(state: &State, settled: Option<RestartId>, ctx: &Context<'_>, facts: &mut Decision<Event>) {
    let taken = state.in_flight.keys().filter(|restart| Some(**restart) != settled).count();
    let mut taken = u32::try_from(taken).unwrap_or(u32::MAX);
    let in_flight_max = ctx.policy.in_flight_max(ctx.fleet_size);
    let mut queue: Vec<_> = state
        .waiting
        .iter()
        .filter(|(restart, waiting)| {
            Some(**restart) != settled && waiting.until.is_none_or(|until| until <= ctx.at())
        })
        .collect();
    queue.sort_by_key(|(_, waiting)| waiting.order);
    for (restart, waiting) in queue {
        let full = taken >= in_flight_max;
        if full && waiting.until.is_none() {
            continue;
        }
        let asked = Asked {
            workspace: waiting.workspace,
            restart: *restart,
            cause: waiting.cause,
            since: waiting.since,
            waited: true,
            because: Some(waiting.deferral),
        };
        if judge(state, &asked, taken, ctx, facts) {
            taken += 1;
        }
    }
}

fn raise_alarms(state: &State, ctx: &Context<'_>, facts: &mut Decision<Event>) {
    for (engine, lost) in &state.lost {
        if !lost.alarmed && ctx.at() >= lost.since + ctx.policy.unknown_alarm {
            let minutes = (ctx.at() - lost.since).num_minutes();
            facts.push(
                ctx,
                AlarmRaised {
                    kind: alarm_kind(engine),
                    workspace: None,
                    message: format!(
                        "the {engine} backend has not answered for {minutes} min; its workspaces are left alone \
                         until it does"
                    ),
                },
            );
        }
    }
}

fn found(state: &State, engine: &str, ctx: &Context<'_>, facts: &mut Decision<Event>) {
    if let Some(lost) = state.lost.get(engine) {
        let after_ms = u64::try_from((ctx.at() - lost.since).num_milliseconds()).unwrap_or(0);
        let found = facts.push(ctx, EngineFound { engine: engine.to_owned(), after_ms });
        if lost.alarmed {
            facts.push_because(ctx, Some(found), AlarmResolved { kind: alarm_kind(engine), workspace: None });
        }
    }
}

fn alarm_kind(engine: &str) -> String {
    format!("engine_unknown:{engine}")
}

/// The fold.
pub fn evolve(mut state: State, recorded: &Recorded) -> Result<State, Corrupt> {
    let Fact::Fleet(event) = &recorded.fact else {
        return Err(Corrupt::new(recorded, "a fact of another kind of stream"));
    };
    let at = recorded.meta.at;
    match event {
        Event::RestartAdmitted(e) => {
            state.waiting.remove(&e.restart);
            let admission = (recorded.position, recorded.meta.id);
            state.in_flight.insert(e.restart, InFlight { workspace: e.workspace, admission });
            if admission::is_automatic(e.cause) {
                let history = state.history.entry(e.workspace).or_default();
                history.retain(|earlier| *earlier > at - HISTORY);
                history.push(at);
            }
        }
        Event::RestartDeferred(e) => {
            let earlier = state.waiting.remove(&e.restart);
            let waiting = Waiting {
                workspace: e.workspace,
                cause: e.cause,
                since: earlier.as_ref().map_or(at, |w| w.since),
                order: earlier.as_ref().map_or(recorded.position, |w| w.order),
                until: e.until,
                waited: earlier.is_some(),
                deferral: recorded.meta.id,
            };
            state.waiting.insert(e.restart, waiting);
        }
        Event::RestartSuppressed(e) => {
            state.waiting.remove(&e.restart);
        }
        Event::RestartSettled(e) => {
            state.waiting.remove(&e.restart);
            state.in_flight.remove(&e.restart);
        }
        Event::EngineLost(e) => {
            state.lost.insert(e.engine.clone(), Lost { since: at, alarmed: false });
        }
        Event::EngineFound(e) => {
            state.lost.remove(&e.engine);
        }
        Event::AlarmRaised(e) => {
            for (engine, lost) in &mut state.lost {
                lost.alarmed |= alarm_kind(engine) == e.kind;
            }
        }
        Event::StrangerFound(e) => state.strangers.push(e.instance.clone()),
        // A new run of the platform looks at its backends afresh.
        Event::PlatformStarted(_) => {
            state.lost.clear();
            state.strangers.clear();
        }
        Event::PlatformStopped(_) | Event::TailRepaired(_) | Event::AlarmResolved(_) => {}
    }
    Ok(state)
}

/// What a fact that just happened asks for.
pub fn react(recorded: &Recorded) -> Vec<Effect> {
    let Fact::Fleet(event) = &recorded.fact else { return Vec::new() };
    match event {
        Event::RestartAdmitted(e) => vec![Effect::Grant {
            workspace: e.workspace,
            restart: e.restart,
            admission: recorded.position,
            because: recorded.meta.id,
        }],
        Event::RestartSuppressed(e) => vec![Effect::Deny {
            workspace: e.workspace,
            restart: e.restart,
            rule: e.rule.clone(),
            message: format!(
                "restarted {} times within {} s and died each time; not restarted again by itself: see its log, then \
                 restart it by hand",
                e.recent, e.window_s
            ),
            because: recorded.meta.id,
        }],
        Event::PlatformStarted(_)
        | Event::PlatformStopped(_)
        | Event::TailRepaired(_)
        | Event::RestartDeferred(_)
        | Event::RestartSettled(_)
        | Event::EngineLost(_)
        | Event::EngineFound(_)
        | Event::AlarmRaised(_)
        | Event::AlarmResolved(_)
        | Event::StrangerFound(_) => Vec::new(),
    }
}

/// Restarts that were admitted and may not have heard of it.
pub fn outstanding(state: &State) -> Vec<Effect> {
    state
        .in_flight
        .iter()
        .map(|(restart, in_flight)| Effect::Grant {
            workspace: in_flight.workspace,
            restart: *restart,
            admission: in_flight.admission.0,
            because: in_flight.admission.1,
        })
        .collect()
}

/// When the supervisor has to look again though nothing happens.
pub fn deadline(state: &State, policy: &Policy) -> Option<Timestamp> {
    let deferred = state.waiting.values().filter_map(|waiting| waiting.until);
    let alarms =
        state.lost.values().filter(|lost| !lost.alarmed).map(|lost| lost.since + policy.unknown_alarm);
    deferred.chain(alarms).min()
}
