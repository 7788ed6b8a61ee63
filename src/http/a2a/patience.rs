//! How long a call is waited for: until its deadline, and no longer than the workspace shows no sign of life.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use covalence_events::WorkspaceId;

use crate::http::HttpState;

/// How often signs of life are looked for while a call is quiet.
const LOOK: Duration = Duration::from_secs(5);

/// Why a call is waited for no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RanOut {
    /// Its deadline has passed.
    Deadline,
    /// Neither the call nor the workspace's heartbeats showed any life for the idle timeout.
    Idle,
}

impl fmt::Display for RanOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deadline => "deadline passed",
            Self::Idle => "no sign of life from the workspace",
        })
    }
}

/// One call's patience.
#[derive(Debug)]
pub struct Patience {
    state: Arc<HttpState>,
    id: WorkspaceId,
    deadline: Option<Instant>,
}

impl Patience {
    /// Begins now. Without `whole` only idleness ends it.
    pub fn new(state: Arc<HttpState>, id: WorkspaceId, whole: Option<Duration>) -> Self {
        // A deadline beyond what the clock can say is none.
        let deadline = whole.and_then(|whole| Instant::now().checked_add(whole));
        Self { state, id, deadline }
    }

    /// Waits for one step of the call.
    pub async fn wait<F: Future>(&self, step: F) -> Result<F::Output, RanOut> {
        let began = Instant::now();
        let mut step = pin!(step);
        loop {
            let now = Instant::now();
            let look = self.deadline.map_or(now + LOOK, |deadline| deadline.min(now + LOOK));
            if let Ok(done) = tokio::time::timeout_at(look.into(), &mut step).await {
                return Ok(done);
            }
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(RanOut::Deadline);
            }
            if began.elapsed() >= self.state.config.call_idle_timeout
                && self.silence() >= self.state.config.call_idle_timeout
            {
                return Err(RanOut::Idle);
            }
        }
    }

    /// Since when nothing was heard from the workspace itself.
    fn silence(&self) -> Duration {
        let heard = self.state.views.roster.read().get(self.id).and_then(|row| row.last_heartbeat_at);
        heard.map_or(Duration::MAX, |at| (self.state.clock.now().at - at).to_std().unwrap_or_default())
    }
}
