//! The names under which the read side reports itself.

use metrics::{Unit, describe_counter, describe_gauge};

/// Gauge: facts in the log that a projection has not applied.
pub const LAG: &str = "covalence_projection_lag_events";
/// Counter: facts that a projection has applied by following the log.
pub const APPLIED: &str = "covalence_projection_applied_events_total";
/// Gauge: 1 while a projection is stopped by a fact that it could not apply.
pub const STALLED: &str = "covalence_projection_stalled";
/// Counter: snapshots that were found damaged, and are made again.
pub const SNAPSHOTS_DAMAGED: &str = "covalence_snapshots_damaged_total";
/// Counter: rebuilds that ended, by projection and outcome.
pub const REBUILDS: &str = "covalence_projection_rebuilds_total";
/// Gauge: facts of the log after a subscription's checkpoint.
pub const SUBSCRIPTION_LAG: &str = "covalence_subscription_lag_events";
/// Gauge: facts that a subscription's consumer was given and has not settled.
pub const SUBSCRIPTION_OPEN: &str = "covalence_subscription_open_events";
/// Gauge: facts that a subscription has put aside.
pub const SUBSCRIPTION_PARKED: &str = "covalence_subscription_parked_events";
/// Label: which subscription.
pub const SUBSCRIPTION: &str = "subscription";
/// Label: what a rebuild came to.
pub const OUTCOME: &str = "outcome";
/// Label: which projection.
pub const PROJECTION: &str = "projection";

/// Tells the recorder what the names mean. Once, after it is installed.
pub fn describe() {
    describe_gauge!(LAG, Unit::Count, "facts in the log that the projection has not applied");
    describe_counter!(APPLIED, Unit::Count, "facts that the projection has applied by following the log");
    describe_counter!(
        SNAPSHOTS_DAMAGED,
        Unit::Count,
        "snapshots that were found damaged, and are made again"
    );
    describe_counter!(REBUILDS, Unit::Count, "rebuilds of projections that ended, by outcome");
    describe_gauge!(SUBSCRIPTION_LAG, Unit::Count, "facts of the log after the subscription's checkpoint");
    describe_gauge!(
        SUBSCRIPTION_OPEN,
        Unit::Count,
        "facts that the subscription's consumer was given and has not settled"
    );
    describe_gauge!(SUBSCRIPTION_PARKED, Unit::Count, "facts that the subscription has put aside");
    describe_gauge!(
        STALLED,
        Unit::Count,
        "1 while the projection is stopped by a fact that it could not apply"
    );
}
