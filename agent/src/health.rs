//! The subcommand `health`: is the agent of this host alive? For images without curl.

use std::net::SocketAddr;
use std::time::Duration;

use crate::platform::client::http_client;

/// Health checks of container engines give up after 5 s; ours must say why before.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Why the agent counts as not healthy.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// No answer.
    #[error("no answer")]
    Transport(#[from] reqwest::Error),
    /// An answer other than 200.
    #[error("status {0}")]
    Status(u16),
}

/// Fetches the agent's card from `address`.
pub async fn check(address: SocketAddr) -> Result<(), HealthError> {
    let response =
        http_client(false)?.get(format!("http://{address}/agent/card")).timeout(TIMEOUT).send().await?;
    match response.status().as_u16() {
        200 => Ok(()),
        status => Err(HealthError::Status(status)),
    }
}
