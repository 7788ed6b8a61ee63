//! What follows from how calls ended: a failure that repeats says something about the session.

use covalence_events::workspace::{
    FailureSign, RestartCause, RestartRequested, SessionCleared, SessionPoisoned, SessionSuspected,
};
use covalence_events::{EventId, Timestamp};

use super::Facts;
use super::supervised::wish;
use crate::context::{Context, Decision};
use crate::policy::SessionRestart;
use crate::workspace::session::{Run, Unsaid};
use crate::workspace::state::{Instance, State, Status};

/// When what the calls say has to be recorded: at once.
pub(super) fn due(state: &State) -> Option<Timestamp> {
    state.session.unsaid().filter(|_| state.status != Status::Removed).map(|unsaid| unsaid.since())
}

/// Records what the calls say and no fact does yet.
pub(super) fn overdue(state: &State, ctx: &Context<'_>) -> Facts {
    let mut facts = Decision::default();
    if state.status == Status::Removed {
        return facts;
    }
    // Calls may have failed faster than it was recorded.
    let mut session = state.session.clone();
    while let Some(unsaid) = session.unsaid() {
        match unsaid {
            Unsaid::Suspected(run) => {
                let failure = run.sign.clone();
                let suspected = SessionSuspected { call: run.call, failure: failure.clone() };
                facts.push_because(ctx, Some(run.fact), suspected);
                session.suspected(&failure);
            }
            Unsaid::Poisoned { run, after_reset } => {
                let failure = run.sign.clone();
                poisoned(state, (run, after_reset), ctx, &mut facts);
                session.poisoned(&failure);
            }
            Unsaid::Cleared(cured) => {
                let cleared = SessionCleared { call: cured.call, in_a_row: cured.in_a_row };
                facts.push_because(ctx, Some(cured.fact), cleared);
                session.cleared();
            }
        }
    }
    facts
}

fn poisoned(state: &State, (run, after_reset): (&Run, bool), ctx: &Context<'_>, facts: &mut Facts) {
    let remedy = Remedy::of(state, after_reset, ctx);
    let poisoned = SessionPoisoned {
        call: run.call,
        failure: run.sign.clone(),
        in_a_row: run.in_a_row,
        after_reset,
        message: remedy.message(state, run.in_a_row, &run.sign),
    };
    let poisoned = facts.push_because(ctx, Some(run.fact), poisoned);
    if remedy == Remedy::Restart {
        restart(state, (ctx, poisoned), facts);
    }
}

/// What helps against a poisoned session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    /// The platform restarts it with a fresh session.
    Restart,
    /// A person is to do so.
    Advise,
    /// A restart has been asked for already.
    Wait,
    /// Whoever runs it is to do so.
    Owner,
    /// A fresh session did not help.
    Look,
}

impl Remedy {
    fn of(state: &State, after_reset: bool, ctx: &Context<'_>) -> Self {
        if after_reset {
            return Self::Look;
        }
        if state.is_external() {
            return Self::Owner;
        }
        if state.restart.is_some() {
            return Self::Wait;
        }
        let runs = matches!(state.instance, Instance::Running { .. });
        match ctx.policy.session_restart {
            SessionRestart::Automatic if runs && state.is_desired() => Self::Restart,
            SessionRestart::Automatic | SessionRestart::Advise => Self::Advise,
        }
    }

    fn message(self, state: &State, in_a_row: u32, failure: &FailureSign) -> String {
        let name = &state.profile.name;
        let what = if failure.excerpt.is_empty() { "without a text" } else { failure.excerpt.as_str() };
        let todo = match self {
            Self::Restart => {
                "its session is taken for poisoned, and it is restarted with a fresh one".to_owned()
            }
            Self::Advise => format!(
                "its session is probably poisoned: trying the task again won't help, a fresh session will: \
                 `covalence workspaces restart {name} --reset`"
            ),
            Self::Wait => "its session is probably poisoned; a restart is under way already".to_owned(),
            Self::Owner => {
                "its session is probably poisoned: whoever runs it should restart it with a fresh one"
                    .to_owned()
            }
            Self::Look => format!(
                "a fresh session did not help, so the fault is elsewhere: see its output, `covalence logs {name}`"
            ),
        };
        format!("the last {in_a_row} calls failed alike ({what}): {todo}")
    }
}

fn restart(state: &State, (ctx, poisoned): (&Context<'_>, EventId), facts: &mut Facts) {
    facts.push_because(
        ctx,
        Some(poisoned),
        RestartRequested { reset_session: true, ..wish(state, RestartCause::Session, vec![poisoned], ctx) },
    );
}
