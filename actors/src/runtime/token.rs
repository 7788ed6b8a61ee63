//! Bearer tokens: 32 random bytes as base64url without padding (contract 0.3). The log sees only their digest.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use covalence_events::workspace::TokenPurpose;
use covalence_events::{Generation, TokenId};
use rand::RngCore;
use sha2::{Digest, Sha256};

use crate::effect::Secret;
use crate::fleet::command::NewOrgToken;
use crate::workspace::command::NewToken;

/// Characters of a token that people may see, to tell it from others.
const PREFIX_LEN: usize = 8;

/// A fresh token of a workspace: its text, shown once, and what the log may know of it.
pub fn mint(purpose: TokenPurpose, generation: Option<Generation>) -> (Secret, NewToken) {
    let (text, sha256, prefix) = fresh();
    (text, NewToken { token: TokenId::generate(), sha256, prefix, purpose, generation })
}

/// The same for the organisation.
pub fn mint_org(name: Option<String>) -> (Secret, NewOrgToken) {
    let (text, sha256, prefix) = fresh();
    (text, NewOrgToken { token: TokenId::generate(), sha256, prefix, name })
}

fn fresh() -> (Secret, [u8; 32], String) {
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    let text = URL_SAFE_NO_PAD.encode(bytes);
    let (sha256, prefix) = (digest(&text), text.chars().take(PREFIX_LEN).collect());
    (Secret::new(text), sha256, prefix)
}

/// What a token is recognised by.
pub fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}
