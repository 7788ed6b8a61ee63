//! The names under which the edge reports itself, and the state of supervision as of each scrape.

use metrics::{Unit, describe_counter, describe_gauge};

/// Counter: notices of alarms, by what became of them.
pub const ALARM_NOTICES: &str = "covalence_alarm_notices_total";
/// Label of [`ALARM_NOTICES`] (`accepted`, `retried`, `refused`, `stale`) and [`RETENTION_RUNS`].
pub const OUTCOME: &str = "outcome";

/// Counter: runs of retention, by how they ended: `done`, `stopped`, `failed`.
pub const RETENTION_RUNS: &str = "covalence_log_retention_runs_total";
/// Gauge: for how long the oldest part of the archive has been due and still there, as of the last run.
pub const RETENTION_LAG: &str = "covalence_log_retention_lag_seconds";

/// Gauge: bytes that may still be written to the data directory's file system.
pub const DATA_FREE_BYTES: &str = "covalence_data_free_bytes";
/// Gauge: the same as a share of it, 0 to 1.
pub const DATA_FREE_RATIO: &str = "covalence_data_free_ratio";

/// Gauge: tokens of a cell.
pub const TOKENS: &str = "covalence_restart_tokens";
/// Gauge: the mode of a cell's brake: 0 none, 1 slow start, 2 canary, 3 freeze.
pub const BRAKE: &str = "covalence_brake_mode";
/// Gauge: our own score for a cell, 0 (well) to 8.
pub const OBSERVER_SCORE: &str = "covalence_observer_score";
/// Gauge: the state of a cell's circuit: 0 closed, 1 half open, 2 open.
pub const CIRCUIT: &str = "covalence_engine_circuit";
/// Gauge: restarts of a cell in flight.
pub const IN_FLIGHT: &str = "covalence_restarts_in_flight";
/// Gauge: automatic restarts of a cell that could begin, on proof of death.
pub const ALLOWED: &str = "covalence_restarts_allowed";
/// Gauge: restarts that wait, by rule.
pub const WAITING: &str = "covalence_restarts_waiting";
/// Gauge: workspaces that something speaks against.
pub const SUSPECTS: &str = "covalence_suspects";
/// Gauge: for how long the oldest suspicion has lasted.
pub const SUSPICION_AGE: &str = "covalence_suspicion_age_seconds";
/// Gauge: workspaces that died too often.
pub const QUARANTINED: &str = "covalence_quarantined";
/// Gauge: alarms that are on, by the first word of their kind.
pub const ALARMS: &str = "covalence_alarms_active";
/// Gauge: holds that are on, by scope.
pub const HOLDS: &str = "covalence_holds";
/// Gauge: 1 while decisions about the whole fleet are only recorded.
pub const ADVISE_ONLY: &str = "covalence_advise_only";

/// Gauge: how long ago each of the platform's own loops came round.
pub const LOOP_AGE: &str = "covalence_loop_age_seconds";

/// Label: which cell.
pub const CELL: &str = "cell";

/// Every gauge of supervision, for tests and for whoever writes rules.
pub const SUPERVISION: [&str; 14] = [
    TOKENS,
    BRAKE,
    OBSERVER_SCORE,
    CIRCUIT,
    IN_FLIGHT,
    ALLOWED,
    WAITING,
    SUSPECTS,
    SUSPICION_AGE,
    QUARANTINED,
    ALARMS,
    HOLDS,
    ADVISE_ONLY,
    LOOP_AGE,
];

/// Tells the recorder what the names mean. Once, after it is installed.
pub fn describe() {
    describe_counter!(ALARM_NOTICES, "Notices of alarms, by what became of them");
    describe_counter!(RETENTION_RUNS, "Runs of retention, by how they ended");
    describe_gauge!(RETENTION_LAG, Unit::Seconds, "For how long the oldest part that is due has been so");
    describe_gauge!(DATA_FREE_BYTES, Unit::Bytes, "Bytes free on the data directory's file system");
    describe_gauge!(DATA_FREE_RATIO, "The same as a share of it, 0 to 1");
    describe_gauge!(TOKENS, Unit::Count, "Tokens of a cell");
    describe_gauge!(BRAKE, "Mode of a cell's brake: 0 none, 1 slow start, 2 canary, 3 freeze");
    describe_gauge!(OBSERVER_SCORE, "Our own score for a cell, 0 (well) to 8");
    describe_gauge!(CIRCUIT, "State of a cell's circuit: 0 closed, 1 half open, 2 open");
    describe_gauge!(IN_FLIGHT, Unit::Count, "Restarts of a cell in flight");
    describe_gauge!(ALLOWED, Unit::Count, "Automatic restarts of a cell that could begin, on proof of death");
    describe_gauge!(WAITING, Unit::Count, "Restarts that wait, by rule");
    describe_gauge!(SUSPECTS, Unit::Count, "Workspaces that something speaks against");
    describe_gauge!(SUSPICION_AGE, Unit::Seconds, "For how long the oldest suspicion has lasted");
    describe_gauge!(QUARANTINED, Unit::Count, "Workspaces that died too often");
    describe_gauge!(ALARMS, Unit::Count, "Alarms that are on, by the first word of their kind");
    describe_gauge!(HOLDS, Unit::Count, "Holds that are on, by scope");
    describe_gauge!(ADVISE_ONLY, "1 while decisions about the whole fleet are only recorded");
    describe_gauge!(LOOP_AGE, Unit::Seconds, "How long ago each loop of the platform came round");
}
