//! Names of the metrics that the write side reports.

/// Counter: handlers that panicked, by command.
pub const PANICS: &str = "covalence_handler_panics_total";
/// Counter: answers of a backend that said nothing about a workspace, by backend and kind of error (R61).
pub const TRANSIENT_ERRORS: &str = "covalence_transient_inspect_errors_total";
/// Gauge: when an observer last had a turn, in seconds since the epoch.
pub const OBSERVER_TICK: &str = "covalence_observer_last_tick_seconds";
