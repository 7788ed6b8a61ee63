//! Whether the runtime's session is to blame: the same opaque failure again and again, whatever is asked.
//!
//! A fold over the outcomes of calls, and nothing else. A failure counts if the agent answered with it and it says nothing
//! about the request; a success, or a failure of another kind, begins the count anew. Calls that ask no work of the
//! session (the state of a task and the like) and calls that no answer came to leave it as it is.
//!
//! Outcomes of calls are telemetry, many at a time and on the path of every call. So what they amount to is recorded apart,
//! a moment later: [`Session::unsaid`] is what no fact says yet, and a crash in between changes nothing about it.

use covalence_events::workspace::{CallFinished, CallOutcome, FailureKind, FailureSign};
use covalence_events::{CallId, EventId, Timestamp};

/// So many failures alike in a row, and the session counts as poisoned: one may be chance and two a bad moment.
pub const POISONED_AT: u32 = 3;

/// Methods that ask for no work, in both spellings of A2A; what else an agent is asked goes to its session.
const WITHOUT_WORK: [&str; 20] = [
    "tasks/get",
    "tasks/list",
    "tasks/cancel",
    "tasks/resubscribe",
    "tasks/pushNotificationConfig/set",
    "tasks/pushNotificationConfig/get",
    "tasks/pushNotificationConfig/list",
    "tasks/pushNotificationConfig/delete",
    "agent/getAuthenticatedExtendedCard",
    "GetTask",
    "ListTasks",
    "CancelTask",
    "SubscribeToTask",
    "CreateTaskPushNotificationConfig",
    "GetTaskPushNotificationConfig",
    "ListTaskPushNotificationConfigs",
    "ListTaskPushNotificationConfig",
    "DeleteTaskPushNotificationConfig",
    "GetExtendedAgentCard",
    "agent/card",
];

/// What the calls so far say about a workspace's session: nothing for most, so it takes no room in their state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session(Option<Box<Course>>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Course {
    /// The failures that the last calls ended with, if they failed.
    run: Option<Run>,
    /// The call that ended a run, until that is recorded.
    cured: Option<Cured>,
    /// What is recorded of it.
    said: Said,
    /// The failure that the session was thrown away for, until a call is answered.
    reset_for: Option<String>,
}

/// Failures alike, one after another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The last of them.
    pub sign: FailureSign,
    /// Its call.
    pub call: CallId,
    /// The fact that says how that call ended.
    pub fact: EventId,
    /// When it did.
    pub at: Timestamp,
    /// How many there are.
    pub in_a_row: u32,
}

/// A call that was answered after others had failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cured {
    /// The call.
    pub call: CallId,
    /// The fact that says how it ended.
    pub fact: EventId,
    /// When it did.
    pub at: Timestamp,
    /// How many had failed alike before it.
    pub in_a_row: u32,
}

/// What is recorded of a run, by its fingerprint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Said {
    #[default]
    Nothing,
    Suspected(String),
    Poisoned(String),
}

/// What the calls say and no fact does yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsaid<'a> {
    /// The first failure of its kind.
    Suspected(&'a Run),
    /// Enough of them.
    Poisoned {
        /// The failures.
        run: &'a Run,
        /// Whether the session was thrown away for the same failure before, and no call was answered since.
        after_reset: bool,
    },
    /// It works again.
    Cleared(Cured),
}

impl Unsaid<'_> {
    /// Since when it could be said.
    pub const fn since(&self) -> Timestamp {
        match self {
            Self::Suspected(run) | Self::Poisoned { run, .. } => run.at,
            Self::Cleared(cured) => cured.at,
        }
    }
}

/// What one call says by itself.
enum Says<'a> {
    Nothing,
    Works,
    Fails(&'a FailureSign),
}

impl Session {
    /// Takes in how a call ended: `fact` says so, and `at` is when.
    pub fn fold(&mut self, call: &CallFinished, fact: EventId, at: Timestamp) {
        if call.failure.is_none() && self.0.is_none() {
            return;
        }
        match says(call) {
            Says::Nothing => {}
            Says::Works => self.change(|course| course.works(call, fact, at)),
            Says::Fails(sign) => self.change(|course| {
                let in_a_row = course.count(sign);
                course.cured = None;
                course.run = Some(Run { sign: sign.clone(), call: call.call, fact, at, in_a_row });
            }),
        }
    }

    /// The next thing to record, if there is one.
    pub fn unsaid(&self) -> Option<Unsaid<'_>> {
        self.0.as_deref().and_then(Course::unsaid)
    }

    /// It is recorded that it is suspect.
    pub fn suspected(&mut self, failure: &FailureSign) {
        self.change(|course| course.said = Said::Suspected(failure.fingerprint.clone()));
    }

    /// It is recorded that it is poisoned.
    pub fn poisoned(&mut self, failure: &FailureSign) {
        self.change(|course| course.said = Said::Poisoned(failure.fingerprint.clone()));
    }

    /// It is recorded that it works.
    pub fn cleared(&mut self) {
        self.change(|course| (course.said, course.cured) = (Said::Nothing, None));
    }

    /// It was thrown away.
    pub fn reset(&mut self) {
        self.change(|course| {
            let poison = course.run.take().filter(|run| run.in_a_row >= POISONED_AT);
            let reset_for = poison.map(|run| run.sign.fingerprint);
            *course = Course { reset_for, ..Course::default() };
        });
    }

    fn change(&mut self, change: impl FnOnce(&mut Course)) {
        let mut course = self.0.take().unwrap_or_default();
        change(&mut course);
        self.0 = Some(course).filter(|course| **course != Course::default());
    }
}

impl Course {
    fn works(&mut self, call: &CallFinished, fact: EventId, at: Timestamp) {
        self.reset_for = None;
        let run = self.run.take().filter(|_| self.said != Said::Nothing);
        self.cured =
            run.map(|run| Cured { call: call.call, fact, at, in_a_row: run.in_a_row }).or(self.cured);
    }

    fn unsaid(&self) -> Option<Unsaid<'_>> {
        let Some(run) = &self.run else { return self.cured.map(Unsaid::Cleared) };
        let fingerprint = &run.sign.fingerprint;
        match &self.said {
            // It worked for a moment too short to be recorded.
            Said::Poisoned(known) if known == fingerprint => {
                (run.in_a_row < POISONED_AT).then_some(Unsaid::Suspected(run))
            }
            Said::Suspected(known) if known == fingerprint => {
                let after_reset = self.reset_for.as_ref() == Some(fingerprint);
                (run.in_a_row >= POISONED_AT).then_some(Unsaid::Poisoned { run, after_reset })
            }
            Said::Nothing | Said::Suspected(_) | Said::Poisoned(_) => Some(Unsaid::Suspected(run)),
        }
    }

    /// How many are alike with this one.
    fn count(&self, sign: &FailureSign) -> u32 {
        match self.run.as_ref().filter(|run| run.sign.fingerprint == sign.fingerprint) {
            None => 1,
            // The same message sent again fails again: that is the message's fault as likely as the session's.
            Some(run) if sign.message.is_some() && run.sign.message == sign.message => run.in_a_row,
            Some(run) => run.in_a_row.saturating_add(1),
        }
    }
}

fn says(call: &CallFinished) -> Says<'_> {
    if call.outcome != CallOutcome::Answered || WITHOUT_WORK.contains(&call.method.as_str()) {
        return Says::Nothing;
    }
    match &call.failure {
        Some(sign) if matches!(sign.kind, FailureKind::Request | FailureKind::Stopped) => Says::Nothing,
        Some(sign) => Says::Fails(sign),
        None if call.status.is_some_and(|status| (200..300).contains(&status)) => Says::Works,
        // Busy, refused, unreachable behind a gateway: the session was not asked.
        None => Says::Nothing,
    }
}
