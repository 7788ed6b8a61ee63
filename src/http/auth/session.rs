//! Sessions of people at the canvas: whether a cookie belongs to a member of this organisation is for the control plane to say
//! (contract data 1.6). Its answers hold for a while, so that a page with many requests asks once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::http::header::{COOKIE, USER_AGENT};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use url::Url;

/// How long the control plane may take.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How long a member stays one without being asked after.
const MEMBER_FOR: Duration = Duration::from_secs(30);
/// The same for others: somebody may just have joined.
const STRANGER_FOR: Duration = Duration::from_secs(5);
/// Cookies remembered; those that are over are forgotten then, and all if none is.
const REMEMBERED_MAX: usize = 10_000;
/// An answer that is longer is none.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What a request's cookie amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Session {
    /// There is none, or nobody to ask.
    #[default]
    None,
    /// A member's.
    Member,
    /// Somebody else's, or over.
    Refused,
}

/// Who is a member.
#[derive(Clone, Debug)]
pub struct Membership {
    /// The control plane's address.
    pub control_plane: Url,
    /// The organisation's name there.
    pub slug: String,
}

/// What the control plane said lately.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<HashMap<[u8; 32], (Instant, bool)>>);

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    member: bool,
    #[serde(default)]
    user_id: String,
}

impl Sessions {
    /// Whether a whole `Cookie` header is a member's.
    pub async fn of(&self, client: &awc::Client, membership: &Membership, cookie: &str) -> Session {
        let key: [u8; 32] = Sha256::new()
            .chain_update(&membership.slug)
            .chain_update([0])
            .chain_update(cookie)
            .finalize()
            .into();
        let is_member = match self.known(&key, Instant::now()) {
            Some(known) => known,
            None => match ask(client, membership, cookie).await {
                Ok(said) => {
                    self.note(key, said, Instant::now());
                    said
                }
                Err(reason) => {
                    tracing::warn!(%reason, "the control plane did not say whose session it is");
                    false
                }
            },
        };
        if is_member { Session::Member } else { Session::Refused }
    }

    fn known(&self, key: &[u8; 32], now: Instant) -> Option<bool> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).filter(|(until, _)| now < *until).map(|(_, member)| *member)
    }

    fn note(&self, key: [u8; 32], member: bool, now: Instant) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED_MAX {
            known.retain(|_, (until, _)| now < *until);
        }
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(key, (now + if member { MEMBER_FOR } else { STRANGER_FOR }, member));
    }
}

/// The control plane's word; an error says nothing about the cookie.
async fn ask(client: &awc::Client, membership: &Membership, cookie: &str) -> Result<bool, String> {
    let mut url = membership.control_plane.clone();
    url.set_path(&format!("{}/cp/auth/tenant-member", url.path().trim_end_matches('/')));
    url.query_pairs_mut().append_pair("slug", &membership.slug);
    let request = client
        .get(url.as_str())
        .insert_header((USER_AGENT, "molecule-tenant-platform/session-verifier"))
        .insert_header((COOKIE, cookie));
    let asked = async {
        let mut answer = request.send().await.map_err(|error| error.to_string())?;
        if answer.status() != StatusCode::OK {
            // Who is not logged in there gets a refusal, and a broken control plane has no opinion.
            let broken = answer.status().is_server_error();
            return if broken { Err(answer.status().to_string()) } else { Ok(false) };
        }
        let body = answer.body().limit(ANSWER_BYTES_MAX).await.map_err(|error| error.to_string())?;
        let said = serde_json::from_slice::<Said>(&body);
        Ok(said.is_ok_and(|said| said.member && !said.user_id.is_empty()))
    };
    tokio::time::timeout(TIMEOUT, asked).await.unwrap_or_else(|_| Err("it took too long".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_cookie_holds_for_a_while_and_the_memory_is_bounded() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        sessions.note([1; 32], true, now);
        sessions.note([2; 32], false, now);
        let after = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(
            (sessions.known(&[1; 32], after(29)), sessions.known(&[1; 32], after(30))),
            (Some(true), None)
        );
        assert_eq!(
            (sessions.known(&[2; 32], after(4)), sessions.known(&[2; 32], after(5))),
            (Some(false), None)
        );
        for n in 0..=REMEMBERED_MAX as u64 {
            let mut key = [3; 32];
            key[..8].copy_from_slice(&n.to_be_bytes());
            sessions.note(key, false, now);
        }
        assert!(sessions.0.lock().unwrap().len() <= REMEMBERED_MAX);
    }
}
