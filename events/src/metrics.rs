//! Names of what this crate measures. Each ends in its unit.

/// Histogram: from the call of `append` to its durable answer, in seconds.
pub const APPEND_DURATION: &str = "covalence_log_append_duration_seconds";
/// Histogram: facts made durable by one commit.
pub const COMMIT_EVENTS: &str = "covalence_log_commit_events";
/// Gauge: appends that wait for the writer.
pub const QUEUE_DEPTH: &str = "covalence_log_queue_depth_appends";
/// Gauge: the last durable position.
pub const HEAD: &str = "covalence_log_head_position";
/// Gauge: the last position that is in the archive.
pub const ARCHIVED: &str = "covalence_log_archived_position";
/// Counter: facts that retention removed.
pub const REMOVED: &str = "covalence_log_removed_events_total";
/// Counter: bytes that retention gave back to the disk.
pub const RECLAIMED: &str = "covalence_log_reclaimed_bytes_total";

/// Counter: reads that hit a place which could not be read as it was written.
pub const READ_FAILURES: &str = "covalence_log_read_failures_total";

/// Gauge: facts that are durable and in no segment yet.
pub const EXPORT_LAG: &str = "covalence_log_export_lag_events";
/// Gauge: when all segments that were due had been written last, in seconds since 1970.
pub const EXPORT_SUCCESS: &str = "covalence_log_export_last_success_timestamp_seconds";

/// Registers descriptions with the recorder that is installed, if one is.
pub fn describe() {
    use metrics::Unit;
    metrics::describe_histogram!(APPEND_DURATION, Unit::Seconds, "from append to durable answer");
    metrics::describe_histogram!(COMMIT_EVENTS, Unit::Count, "facts made durable by one commit");
    metrics::describe_gauge!(QUEUE_DEPTH, Unit::Count, "appends that wait for the log's writer");
    metrics::describe_gauge!(HEAD, Unit::Count, "last durable position of the log");
    metrics::describe_gauge!(ARCHIVED, Unit::Count, "last position of the log that is in the archive");
    metrics::describe_counter!(REMOVED, Unit::Count, "facts that retention removed");
    metrics::describe_counter!(RECLAIMED, Unit::Bytes, "bytes that retention gave back to the disk");
    metrics::describe_counter!(READ_FAILURES, Unit::Count, "reads of the log that hit damage");
    metrics::describe_gauge!(EXPORT_LAG, Unit::Count, "facts that are in no segment yet");
    metrics::describe_gauge!(EXPORT_SUCCESS, Unit::Seconds, "when the log was exported last, since 1970");
}
