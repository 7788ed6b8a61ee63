//! How many requests a minute: by token where there is a valid one, by address otherwise. Heartbeats and polls have a
//! budget of their own, so that a fleet on one machine never starves itself.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::dev::ServiceRequest;
use actix_web::http::Method;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use covalence_events::TokenId;

use crate::http::HttpState;
use crate::http::auth::Identity;
use crate::http::request::{Ends, Known};

/// The contract's window.
const WINDOW: Duration = Duration::from_secs(60);
/// The contract's window for organisation tokens, and how many are made in it (data 1.16).
const MINT_WINDOW: Duration = Duration::from_secs(3600);
const MINTS: u32 = 10;
/// Ordinary budgets for each budget of heartbeats and polls: 200 agents behind one address, each beating twice a minute
/// and, where they poll, asking once a second, need about 12 400 a minute; a token's own needs 62.
const BEATS_FACTOR: u32 = 24;
/// Locks: requests of different callers rarely meet at one.
const SHARDS: usize = 16;
/// Callers remembered in one shard before those whose window is over are forgotten.
const SHARD_MAX: usize = 4096;

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Who {
    Admin,
    Token(TokenId),
    Address(IpAddr),
    Nowhere,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Budget {
    Ordinary,
    Beats,
    /// Making organisation tokens.
    Mints,
}

impl Budget {
    const fn window(self) -> Duration {
        match self {
            Self::Ordinary | Self::Beats => WINDOW,
            Self::Mints => MINT_WINDOW,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    began: Instant,
    used: u32,
}

type Shard = Mutex<HashMap<(Who, Budget), Bucket>>;

/// All callers' buckets.
#[derive(Debug, Default)]
pub struct Limits {
    shards: [Shard; SHARDS],
}

/// What a request was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granted {
    /// No limit holds here.
    Unlimited,
    /// Within, or just over, a budget.
    Of {
        /// Requests in a window.
        limit: u32,
        /// Requests used, this one included.
        used: u32,
        /// Whole seconds until the window is over.
        reset_s: u64,
    },
}

impl Limits {
    /// Counts a request.
    pub fn take(&self, request: &ServiceRequest, state: &HttpState, known: &Known) -> Granted {
        if state.config.open_on_loopback && known.ends.is_some_and(Ends::on_loopback) {
            return Granted::Unlimited;
        }
        let limit = state.config.rate_limit;
        let (budget, limit) = if is_beat(request.method(), request.path()) {
            (Budget::Beats, limit.saturating_mul(BEATS_FACTOR))
        } else {
            (Budget::Ordinary, limit)
        };
        self.count((who(known), budget), limit, known.began)
    }

    /// Counts an organisation token that is about to be made. By address, whoever asks: every token that is made would
    /// otherwise bring a budget of its own.
    pub fn take_mint(&self, state: &HttpState, known: &Known) -> Granted {
        if state.config.open_on_loopback && known.ends.is_some_and(Ends::on_loopback) {
            return Granted::Unlimited;
        }
        self.count((address(known), Budget::Mints), MINTS, known.began)
    }

    fn count(&self, key: (Who, Budget), limit: u32, now: Instant) -> Granted {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        #[expect(clippy::cast_possible_truncation, reason = "only its last bits are used")]
        let shard = &self.shards[hasher.finish() as usize % SHARDS];
        let mut buckets = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= SHARD_MAX && !buckets.contains_key(&key) {
            buckets
                .retain(|(_, budget), bucket| now.saturating_duration_since(bucket.began) < budget.window());
        }
        let window = key.1.window();
        let bucket = buckets.entry(key).or_insert(Bucket { began: now, used: 0 });
        if now.saturating_duration_since(bucket.began) >= window {
            *bucket = Bucket { began: now, used: 0 };
        }
        bucket.used = bucket.used.saturating_add(1);
        let left = window.saturating_sub(now.saturating_duration_since(bucket.began));
        Granted::Of { limit, used: bucket.used, reset_s: left.as_secs().max(1) }
    }
}

impl Granted {
    /// Whether the budget is spent.
    pub const fn is_over(&self) -> bool {
        matches!(self, Self::Of { limit, used, .. } if *used > *limit)
    }

    /// Whole seconds until there is a new budget.
    pub const fn reset_s(&self) -> u64 {
        match self {
            Self::Unlimited => 0,
            Self::Of { reset_s, .. } => *reset_s,
        }
    }

    /// Says so in an answer's headers.
    pub fn show(&self, headers: &mut HeaderMap) {
        match *self {
            Self::Unlimited => headers.insert(LIMIT, HeaderValue::from_static("unlimited")),
            Self::Of { limit, used, reset_s } => {
                headers.insert(LIMIT, limit.into());
                headers.insert(REMAINING, limit.saturating_sub(used).into());
                headers.insert(RESET, reset_s.into())
            }
        };
    }
}

fn who(known: &Known) -> Who {
    match known.identity {
        Identity::Admin => Who::Admin,
        Identity::Org(token) => Who::Token(token),
        Identity::Workspace(credential) => Who::Token(credential.token),
        Identity::Missing | Identity::Unknown | Identity::Spent(_) => address(known),
    }
}

fn address(known: &Known) -> Who {
    known.ends.map_or(Who::Nowhere, |ends| Who::Address(ends.peer.ip()))
}

/// What agents do all the time, unasked.
fn is_beat(method: &Method, path: &str) -> bool {
    let path = path.trim_end_matches('/');
    match *method {
        Method::POST => path == "/registry/heartbeat",
        Method::GET => {
            path.starts_with("/workspaces/") && (path.ends_with("/state") || path.ends_with("/activity"))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use actix_web::http::Method;

    use super::{Budget, Granted, Limits, WINDOW, Who, is_beat};

    const KEY: (Who, Budget) = (Who::Admin, Budget::Ordinary);

    #[test]
    fn a_window_grants_its_limit_and_then_no_more() {
        let (limits, now) = (Limits::default(), Instant::now());
        assert!((0..3).all(|_| !limits.count(KEY, 3, now).is_over()));
        let over = limits.count(KEY, 3, now + Duration::from_secs(20));
        assert_eq!(over, Granted::Of { limit: 3, used: 4, reset_s: 40 });
        assert!(over.is_over());
    }

    #[test]
    fn the_next_window_starts_in_full() {
        let (limits, now) = (Limits::default(), Instant::now());
        for _ in 0..9 {
            limits.count(KEY, 3, now);
        }
        assert_eq!(limits.count(KEY, 3, now + WINDOW), Granted::Of { limit: 3, used: 1, reset_s: 60 });
    }

    #[test]
    fn callers_and_budgets_do_not_share() {
        let (limits, now) = (Limits::default(), Instant::now());
        limits.count(KEY, 1, now);
        assert!(!limits.count((Who::Admin, Budget::Beats), 1, now).is_over());
        assert!(!limits.count((Who::Nowhere, Budget::Ordinary), 1, now).is_over());
    }

    #[test]
    fn heartbeats_and_polls_are_beats() {
        assert!(is_beat(&Method::POST, "/registry/heartbeat/"));
        assert!(is_beat(&Method::GET, "/workspaces/x/state"));
        assert!(!is_beat(&Method::POST, "/registry/register"));
        assert!(!is_beat(&Method::GET, "/workspaces"));
    }
}
