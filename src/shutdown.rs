//! From a signal to an orderly end.
//!
//! The first SIGTERM or SIGINT cancels the token: whoever serves stops accepting, drains and flushes. A second signal
//! means that somebody does not want to wait: the process ends at once, which the log survives like any crash.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit status of a process that a signal ended, by convention.
const SIGNALLED: i32 = 128;

/// Starts listening for signals; the token is cancelled by the first one. Call it once, within the runtime.
pub fn on_signal() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    // Lives as long as the process; nothing has to wait for it.
    actix_rt::spawn(async move {
        let mut next = async || -> (&'static str, i32) {
            tokio::select! {
                _ = terminate.recv() => ("SIGTERM", 15),
                _ = interrupt.recv() => ("SIGINT", 2),
            }
        };
        let (name, _) = next().await;
        tracing::info!(signal = name, "shutting down, a second signal ends the process at once");
        cancelled.cancel();
        let (name, number) = next().await;
        tracing::warn!(signal = name, "ending at once");
        end(SIGNALLED + number);
    });
    Ok(token)
}

#[expect(
    clippy::exit,
    reason = "a second signal asks for exactly this; destructors would wait for what is stuck"
)]
fn end(status: i32) -> ! {
    std::process::exit(status)
}
