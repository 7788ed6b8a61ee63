//! Names of the metrics that the write side reports.

use metrics::{Unit, describe_counter, describe_histogram};

/// Histogram: how long one pure decision took.
pub const DECIDE_SECONDS: &str = "covalence_decide_duration_seconds";
/// Counter: commands refused because a mailbox was full.
pub const MAILBOX_FULL: &str = "covalence_mailbox_full_total";
/// Counter: calls whose outcome was forgotten because the log took nothing for too long.
pub const CALLS_UNRECORDED: &str = "covalence_calls_unrecorded_total";
/// Counter: handlers that panicked, by command.
pub const PANICS: &str = "covalence_handler_panics_total";
/// Counter: answers of a backend that said nothing about a workspace, by backend and kind of error (R61).
pub const TRANSIENT_ERRORS: &str = "covalence_transient_inspect_errors_total";
/// Counter: what the supervisor said to wishes for a restart, by decision, rule and cause.
pub const RESTART_DECISIONS: &str = "covalence_restart_decisions_total";
/// Counter: sessions that were taken for poisoned (R14).
pub const POISONED_SESSIONS: &str = "covalence_poisoned_sessions_total";
/// Counter: verdicts on evidence, by verdict and rule.
pub const VERDICTS: &str = "covalence_verdicts_total";

/// Tells the recorder what they mean. Call it once, after the recorder is installed.
pub fn describe() {
    describe_histogram!(DECIDE_SECONDS, Unit::Seconds, "How long one pure decision took");
    describe_counter!(MAILBOX_FULL, "Commands refused because a mailbox was full");
    describe_counter!(CALLS_UNRECORDED, "Calls whose outcome was forgotten while the log took nothing");
    describe_counter!(PANICS, "Handlers that panicked");
    describe_counter!(TRANSIENT_ERRORS, "Answers of a backend that said nothing about a workspace");
    describe_counter!(RESTART_DECISIONS, "What the supervisor said to wishes for a restart");
    describe_counter!(POISONED_SESSIONS, "Sessions that were taken for poisoned");
    describe_counter!(VERDICTS, "Verdicts on evidence");
}
