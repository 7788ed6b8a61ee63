//! Tokens: what a workspace or a tool of its shows to be let in.

use serde::{Deserialize, Serialize};

use crate::id::{Generation, TokenId};

/// What a token was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenPurpose {
    /// Handed to the instance of one generation by our own backend.
    Provision,
    /// Handed out by the first registration.
    Registration,
    /// Shown to the person who created an external workspace.
    Creation,
}

/// See [`Event::TokenIssued`](super::Event::TokenIssued).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenIssued {
    /// Its public name.
    pub token: TokenId,
    /// SHA-256 of its text.
    #[serde(with = "serde_bytes")]
    pub sha256: [u8; 32],
    /// The first eight characters, to be recognised by.
    pub prefix: String,
    /// What for.
    pub purpose: TokenPurpose,
    /// The generation that it speaks for, if it was made for one.
    pub generation: Option<Generation>,
}

/// See [`Event::TokensRevoked`](super::Event::TokensRevoked).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokensRevoked {
    /// Which; all live ones where empty.
    #[serde(default)]
    pub tokens: Vec<TokenId>,
    /// A stable word: `removed`, `provision`, `rotated`.
    pub reason: String,
}
