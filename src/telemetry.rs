//! What the program says about itself: log lines on stderr and metrics for `/metrics`.
//!
//! Log lines go to stderr only, never to a file of our own: a supervisor such as systemd keeps, rotates and timestamps
//! them already, and stdout stays free for data. Field names are the constants in [`fields`].

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogFormat, Logging};

/// Buckets of all durations, in seconds: 0.1 ms, where a mailbox answers, to 5 minutes, where a call is cut.
const SECONDS_BUCKETS: &[f64] =
    &[0.0001, 0.000_25, 0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0, 60.0, 300.0];

/// What the libraries say at `info` is about their insides, on each start and stop. Directives of the same target win.
const QUIET: &str = "actix_server=warn";

/// Names of structured fields, so that one thing has one name in every line.
pub mod fields {
    /// The kind of a command.
    pub const COMMAND: &str = "command";
    /// Whose facts.
    pub const STREAM: &str = "stream";
    /// One workspace's id.
    pub const WORKSPACE: &str = "workspace";
    /// Which provisioning of it.
    pub const GENERATION: &str = "generation";
    /// One HTTP request.
    pub const REQUEST_ID: &str = "request_id";
    /// One request or incident.
    pub const CORRELATION_ID: &str = "correlation_id";
    /// The fact that led here.
    pub const CAUSATION_ID: &str = "causation_id";
    /// A place in the log.
    pub const POSITION: &str = "position";
}

/// Why there is no telemetry.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The directives are not any. The configuration checks them, so this is for other callers.
    #[error("log filter `{filter}`")]
    Filter {
        /// The directives.
        filter: String,
        /// What is wrong with them.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// A subscriber is there already.
    #[error("a log subscriber is already installed")]
    Installed(#[source] tracing_subscriber::util::TryInitError),
    /// The metrics recorder could not be installed.
    #[error("metrics recorder")]
    Metrics(#[source] metrics_exporter_prometheus::BuildError),
}

/// Installs the subscriber of this process. Call it once, before anything worth a line happens.
pub fn init(logging: &Logging) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", logging.filter))
        .map_err(|source| TelemetryError::Filter { filter: logging.filter.clone(), source })?;
    let registry = tracing_subscriber::registry().with(filter);
    let installed = match logging.format {
        LogFormat::Human => {
            let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
            registry.with(layer.with_ansi(crate::cli::output::stderr_has_colours())).try_init()
        }
        LogFormat::Json => {
            let layer = tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(true);
            registry.with(layer.with_writer(std::io::stderr)).try_init()
        }
    };
    installed.map_err(TelemetryError::Installed)
}

/// Installs the metrics recorder of this process; the handle renders `/metrics`. Whoever holds it calls its
/// `run_upkeep` every few seconds, or histograms grow without bound between scrapes.
pub fn install_metrics() -> Result<PrometheusHandle, TelemetryError> {
    PrometheusBuilder::new()
        .set_buckets(SECONDS_BUCKETS)
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(TelemetryError::Metrics)
}
