//! Secrets of one workspace. Their values are sealed before they get here (`vault.rs`).

use serde::{Deserialize, Serialize};

/// See [`Event::SecretSet`](super::Event::SecretSet).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SecretSet {
    /// Its name: the variable that the agent finds it in.
    pub name: String,
    /// Its value as the vault sealed it, base64.
    pub value: String,
}

/// See [`Event::SecretRemoved`](super::Event::SecretRemoved).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SecretRemoved {
    /// Its name.
    pub name: String,
}
