//! Busy is not dead (R13): what is known not to have been taken in is tried again, within the caller's time, before
//! anything else is thought of.
//!
//! Three things are known not to have been taken in: a call for which there was no slot, one that the agent itself
//! answered with 503, and one whose connection was refused. The last is tried again only while the instance is being
//! replaced. A request whose fate is unknown is never sent twice.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, HttpDate, RETRY_AFTER};
use covalence_actors::runtime::{CommandError, Permit, PermitRefused, PermitRequest};
use covalence_events::WorkspaceId;
use rand::Rng as _;
use tokio::sync::Semaphore;

use crate::http::a2a::relay::{AgentResponse, Failure, Forward, TIMEOUT};
use crate::http::error::{ApiError, BUSY};
use crate::http::request::{Ctx, text};

/// Counter: calls that were tried again, by reason.
pub const RETRIES: &str = "covalence_call_retries_total";

/// The first pause: a slot frees in less, an agent between two turns in little more.
const PAUSE_BASE: Duration = Duration::from_millis(100);
/// Pauses double up to this: who waits long for an agent that answers in minutes asks it some times a minute.
const PAUSE_CAP: Duration = Duration::from_secs(3);
/// Calls that wait for a slot at once, with their bodies in memory; more are told at once that the workspace is full.
const WAITING_MAX: usize = 256;
/// The word for an agent that said itself that it has no time.
pub(super) const AGENT_BUSY: &str = "agent_busy";
/// What a caller is told to wait, in seconds, where the agent does not say (contract 4.7).
pub(super) const RETRY_BUSY: u64 = 30;

/// Says what the series mean. Once, after the recorder is installed.
pub fn describe() {
    metrics::describe_counter!(
        RETRIES,
        "calls that were tried again because they were known not to be taken in"
    );
}

/// Places for calls that wait for a slot.
#[derive(Debug)]
pub struct Waiting(Semaphore);

impl Default for Waiting {
    fn default() -> Self {
        Self(Semaphore::new(WAITING_MAX))
    }
}

/// Whether a permit may be had a moment later.
pub(super) const fn is_busy(refused: &PermitRefused) -> bool {
    matches!(refused, PermitRefused::Full { .. } | PermitRefused::Command(CommandError::Busy { .. }))
}

/// Waits for a slot of a workspace that refused one; answers the last refusal when the caller's time is up.
pub(super) async fn slot(
    ctx: &Ctx,
    id: WorkspaceId,
    request: PermitRequest,
    refused: PermitRefused,
) -> Result<Permit, PermitRefused> {
    let Ok(_place) = ctx.state.inner.waiting.0.try_acquire() else { return Err(refused) };
    let until = until(ctx.known.began, asked(ctx), ctx.state.config.call_busy_patience);
    let (mut last, mut tries) = (refused, 1);
    loop {
        let pause = pause(tries, rand::rng().random());
        if Instant::now() + pause > until {
            return Err(last);
        }
        tokio::time::sleep(pause).await;
        tries += 1;
        metrics::counter!(RETRIES, "reason" => "full").increment(1);
        let origin = ctx.origin(request.caller.clone());
        match ctx.state.runtime.permit(id, request.clone(), origin) {
            Ok(mut permit) => {
                permit.tries = tries;
                return Ok(permit);
            }
            Err(refused) if is_busy(&refused) => last = refused,
            Err(refused) => return Err(refused),
        }
    }
}

/// The time that the caller gives its call, if it says so.
pub(super) fn asked(ctx: &Ctx) -> Option<Duration> {
    let seconds = ctx.header(TIMEOUT)?.trim().parse::<u64>().ok()?;
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// When trying again ends. A deadline beyond what the clock can say is none.
fn until(began: Instant, asked: Option<Duration>, otherwise: Duration) -> Instant {
    asked.and_then(|asked| began.checked_add(asked)).unwrap_or(began + otherwise)
}

/// The pause after so many tries: doubling, capped, and cut by up to a half so that many don't come at once.
fn pause(tries: u32, chance: f64) -> Duration {
    let doublings = tries.saturating_sub(1);
    let plain = PAUSE_BASE.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(PAUSE_CAP);
    plain.mul_f64(1.0 - 0.5 * chance.clamp(0.0, 1.0))
}

impl Forward {
    /// Sends until the agent has taken it in, as long as it is known that it did not.
    pub(super) async fn deliver(&self, permit: &mut Permit) -> Result<AgentResponse, Failure> {
        let sent = self.send(&permit.url).await;
        match &sent {
            Ok(response) if response.status() != StatusCode::SERVICE_UNAVAILABLE => sent,
            Err(Failure::Lost(_) | Failure::RanOut(_)) => sent,
            Ok(_) | Err(Failure::NotReached(_)) => self.again(permit, sent).await,
        }
    }

    async fn again(
        &self,
        permit: &mut Permit,
        mut last: Result<AgentResponse, Failure>,
    ) -> Result<AgentResponse, Failure> {
        let until = until(self.began, self.asked, self.state.config.call_busy_patience);
        loop {
            let (reason, wish) = match &last {
                Ok(response) if response.status() == StatusCode::SERVICE_UNAVAILABLE => {
                    ("busy", self.wished(response))
                }
                Err(Failure::NotReached(_)) if self.restarting().await.is_some() => ("restarting", None),
                Ok(_) | Err(_) => return last,
            };
            // Its wish and some more, so that not everybody whom it told the same comes at once.
            let pause = wish.unwrap_or_default() + pause(permit.tries, rand::rng().random());
            if Instant::now() + pause > until {
                return last;
            }
            tokio::time::sleep(pause).await;
            if last.is_err() && !self.wait_for_successor(permit, until).await {
                return last;
            }
            permit.tries += 1;
            metrics::counter!(RETRIES, "reason" => reason).increment(1);
            last = self.send(&permit.url).await;
        }
    }

    /// How long a busy agent wants not to be asked again.
    pub(super) fn wished(&self, response: &AgentResponse) -> Option<Duration> {
        if response.status() != StatusCode::SERVICE_UNAVAILABLE {
            return None;
        }
        wish(response.headers(), self.state.clock.now().at.into())
    }

    /// Waits until the next generation has an address of its own, and points the permit there.
    async fn wait_for_successor(&self, permit: &mut Permit, until: Instant) -> bool {
        let within = until.saturating_duration_since(Instant::now());
        let is_there = |row: &covalence_projections::Row| {
            row.generation > self.generation && row.url_trusted && row.url.is_some()
        };
        let row = self.state.views.wait_for(self.id, within, is_there).await;
        let url = row.and_then(|row| row.url.clone());
        if let Some(url) = &url {
            permit.url = Arc::from(url.as_str());
        }
        url.is_some()
    }
}

/// How long the agent wants not to be asked again: seconds, or a date.
fn wish(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let said = text(headers, RETRY_AFTER.as_str())?.trim();
    if let Ok(seconds) = said.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date: SystemTime = said.parse::<HttpDate>().ok()?.into();
    Some(date.duration_since(now).unwrap_or_default())
}

/// The contract's answer about an agent that stayed busy for as long as its caller would wait.
pub(super) fn busy(said: String, wished: Option<Duration>) -> ApiError {
    let seconds = wished.map_or(RETRY_BUSY, |wished| wished.as_secs().max(1));
    ApiError::unavailable(AGENT_BUSY, BUSY, seconds)
        .with("busy", true)
        .with("delivery", "not_delivered")
        .detail(said)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant, SystemTime};

    use actix_web::http::header::{HeaderMap, HeaderValue, HttpDate, RETRY_AFTER};
    use proptest::prelude::*;

    use super::{PAUSE_BASE, PAUSE_CAP, pause, until, wish};

    #[test]
    fn a_call_without_a_deadline_is_tried_for_as_long_as_the_platform_says() {
        let (now, otherwise) = (Instant::now(), Duration::from_secs(15));
        assert_eq!(until(now, Some(Duration::from_secs(2)), otherwise), now + Duration::from_secs(2));
        assert_eq!(until(now, None, otherwise), now + otherwise);
        assert_eq!(until(now, Some(Duration::MAX), otherwise), now + otherwise, "no clock goes that far");
    }

    #[test]
    fn an_agent_s_wish_is_read_in_both_spellings() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let said = |text: &str| {
            let headers: HeaderMap =
                [(RETRY_AFTER, HeaderValue::from_str(text).unwrap())].into_iter().collect();
            wish(&headers, now)
        };
        assert_eq!(said("7"), Some(Duration::from_secs(7)));
        let date = |time: SystemTime| HttpDate::from(time).to_string();
        assert_eq!(said(&date(now + Duration::from_secs(9))), Some(Duration::from_secs(9)));
        assert_eq!(said(&date(now - Duration::from_secs(9))), Some(Duration::ZERO));
        assert_eq!(said("soon"), None);
        assert_eq!(wish(&HeaderMap::new(), now), None);
    }

    proptest! {
        #[test]
        fn pauses_grow_within_their_bounds(tries in 1_u32..1000, chance in 0.0..=1.0_f64) {
            let taken = pause(tries, chance);
            prop_assert!(taken >= PAUSE_BASE / 2 && taken <= PAUSE_CAP);
            prop_assert!(pause(tries + 1, chance) >= taken);
        }
    }
}
