//! Bearer tokens: 32 random bytes as base64url without padding (contract 0.3). The log sees only their digest.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use covalence_events::workspace::TokenPurpose;
use covalence_events::{Generation, TokenId};
use rand::RngCore;
use sha2::{Digest, Sha256};

use crate::effect::Secret;
use crate::workspace::command::NewToken;

/// Characters of a token that people may see, to tell it from others.
const PREFIX_LEN: usize = 8;

/// A fresh token: its text, shown once, and what the log may know of it.
pub fn mint(purpose: TokenPurpose, generation: Option<Generation>) -> (Secret, NewToken) {
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    let text = URL_SAFE_NO_PAD.encode(bytes);
    let token = NewToken {
        token: TokenId::generate(),
        sha256: digest(&text),
        prefix: text.chars().take(PREFIX_LEN).collect(),
        purpose,
        generation,
    };
    (Secret::new(text), token)
}

/// What a token is recognised by.
pub fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}
