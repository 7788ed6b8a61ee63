//! Names of the metrics that the write side reports.

/// Counter: handlers that panicked, by command.
pub const PANICS: &str = "covalence_handler_panics_total";
/// Counter: answers of a backend that said nothing about a workspace, by backend and kind of error (R61).
pub const TRANSIENT_ERRORS: &str = "covalence_transient_inspect_errors_total";
