//! When each token was last shown: for people who tidy up, best effort, since our start.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{PoisonError, RwLock};

use chrono::{DateTime, Utc};
use covalence_events::TokenId;

/// See the module. Reading and marking a token that was seen before take a shared lock only.
#[derive(Debug, Default)]
pub struct Used(RwLock<HashMap<TokenId, AtomicI64>>);

/// Tokens remembered; then all are forgotten, which costs a few times in a list and bounds the memory to some megabytes.
const REMEMBERED_MAX: usize = 100_000;

impl Used {
    /// Notes that a token was shown.
    pub fn mark(&self, token: TokenId, at: DateTime<Utc>) {
        let micros = at.timestamp_micros();
        if let Some(last) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&token) {
            last.store(micros, Ordering::Relaxed);
            return;
        }
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REMEMBERED_MAX {
            all.clear();
        }
        all.insert(token, AtomicI64::new(micros));
    }

    /// When it was last shown.
    pub fn last(&self, token: TokenId) -> Option<DateTime<Utc>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&token).and_then(|last| DateTime::from_timestamp_micros(last.load(Ordering::Relaxed)))
    }
}
