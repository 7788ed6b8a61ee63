//! Organisation tokens: what tools and colleagues of the operator show to be let in everywhere.

use serde::{Deserialize, Serialize};

use crate::id::TokenId;

/// See [`Event::OrgTokenIssued`](super::Event::OrgTokenIssued).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrgTokenIssued {
    /// Its public name.
    pub token: TokenId,
    /// SHA-256 of its text.
    #[serde(with = "serde_bytes")]
    pub sha256: [u8; 32],
    /// The first eight characters, to be recognised by.
    pub prefix: String,
    /// What the person who made it calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// See [`Event::OrgTokenRevoked`](super::Event::OrgTokenRevoked).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrgTokenRevoked {
    /// Which.
    pub token: TokenId,
}
