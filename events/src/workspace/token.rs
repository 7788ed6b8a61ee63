//! Tokens: what a workspace or a tool of its shows to be let in.

use serde::{Deserialize, Serialize};

use crate::envelope::Timestamp;
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
    /// Made in place of all others by somebody who rotated the credentials of an external workspace.
    Rotation,
    /// Made through the API for a person or a tool.
    Person,
    /// Made for a test, by the route that production installations don't have.
    Test,
}

impl TokenPurpose {
    /// The word used in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provision => "provision",
            Self::Registration => "registration",
            Self::Creation => "creation",
            Self::Rotation => "rotation",
            Self::Person => "person",
            Self::Test => "test",
        }
    }

    /// Whether it is the agent's own. A token that was made for somebody else neither stands in for it nor keeps the agent from
    /// its first one (contract 0.3).
    pub const fn is_agents(self) -> bool {
        match self {
            Self::Provision | Self::Registration | Self::Creation | Self::Rotation => true,
            Self::Person | Self::Test => false,
        }
    }
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
    /// A stable word: `removed`, `provision`, `rotated`, `revoked`.
    pub reason: String,
}

/// See [`Event::EnrolmentOpened`](super::Event::EnrolmentOpened).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnrolmentOpened {
    /// Until when.
    #[serde(with = "chrono::serde::ts_microseconds")]
    pub until: Timestamp,
}

/// See [`Event::RegistrationRefused`](super::Event::RegistrationRefused).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegistrationRefused {
    /// Why.
    pub reason: RefusedBecause,
}

/// Why a registration was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusedBecause {
    /// The workspace has a token, and none was shown.
    NoToken,
    /// The token shown is nobody's, another workspace's or revoked.
    WrongToken,
    /// It has no token, and the time for its first one is over.
    EnrolmentClosed,
}
