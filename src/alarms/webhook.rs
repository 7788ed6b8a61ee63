//! The address that alarms are posted to.

use std::time::Duration;

use covalence_events::Timestamp;
use covalence_events::pulse::Pulse;
use serde_json::Value;
use tracing::{error, warn};
use url::Url;

use super::STALE_AFTER;
use crate::metrics_names::{ALARM_NOTICES, OUTCOME};

/// A receiver that takes longer is not one that wakes anybody.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Before the second try, doubling up to [`RETRY_CAP`].
const RETRY_BASE: Duration = Duration::from_secs(1);
/// The longest pause between two tries: a minute late is late enough.
const RETRY_CAP: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Clone, Debug)]
pub struct Webhook {
    url: Url,
    http: reqwest::Client,
    retry_base: Duration,
}

/// What a receiver said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Accepted,
    Later,
    /// With this status.
    Never(u16),
}

impl Webhook {
    /// Ready to post.
    ///
    /// # Errors
    /// No HTTP client could be made.
    pub fn new(url: Url) -> Result<Self, reqwest::Error> {
        // The program installs it at its start; whoever uses this module alone gets it here.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("covalence/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT);
        if url.scheme() == "http" {
            // The machine's certificates are not needed, and a minimal image has none.
            builder = builder.tls_certs_only([]);
        }
        Ok(Self { url, http: builder.build()?, retry_base: RETRY_BASE })
    }

    /// The same with another pause before the second try.
    #[cfg(test)]
    pub(super) fn retrying_after(mut self, base: Duration) -> Self {
        self.retry_base = base;
        self
    }

    /// Whose it is; the rest of the address may hold a secret.
    pub(super) fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// Posts a notice until it is accepted; else says why it is given up: refused for good, or not accepted until `stale`.
    pub(super) async fn tell(
        &self,
        notice: &Value,
        stale: Timestamp,
        (now, pulse): (&impl Fn() -> Timestamp, &Pulse),
    ) -> Result<(), String> {
        let mut pause = self.retry_base;
        while now() <= stale {
            match self.post(notice).await {
                Answer::Accepted => {
                    metrics::counter!(ALARM_NOTICES, OUTCOME => "accepted").increment(1);
                    return Ok(());
                }
                Answer::Never(status) => {
                    metrics::counter!(ALARM_NOTICES, OUTCOME => "refused").increment(1);
                    error!(kind = %notice["kind"], "the receiver of alarms refuses this one for good");
                    return Err(format!("the receiver refused it: HTTP {status}"));
                }
                Answer::Later => {
                    metrics::counter!(ALARM_NOTICES, OUTCOME => "retried").increment(1);
                    pulse.waiting(tokio::time::sleep(pause), || true).await;
                    pause = (pause * 2).min(RETRY_CAP);
                }
            }
        }
        metrics::counter!(ALARM_NOTICES, OUTCOME => "stale").increment(1);
        Err(format!("not accepted within {} h", STALE_AFTER.num_hours()))
    }

    async fn post(&self, notice: &Value) -> Answer {
        match self.http.post(self.url.clone()).json(notice).send().await {
            Ok(response) if response.status().is_success() => Answer::Accepted,
            Ok(response) => {
                let status = response.status();
                warn!(status = status.as_u16(), "the receiver of alarms did not take one");
                let never = status.is_client_error() && !matches!(status.as_u16(), 408 | 429);
                if never { Answer::Never(status.as_u16()) } else { Answer::Later }
            }
            // The address may hold a secret and stays out of the log.
            Err(error) => {
                let error = anyhow::Error::from(error.without_url());
                warn!(error = format!("{error:#}"), "the receiver of alarms is not reached, trying again");
                Answer::Later
            }
        }
    }
}
