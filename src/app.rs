//! The composition root: the only place where a concrete log, backend and clock meet.

use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// Serves until `shutdown` is cancelled.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let _ = (config, shutdown);
    anyhow::bail!("this build has no server")
}
