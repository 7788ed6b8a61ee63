//! Secrets that every workspace gets, and the key behind all keys. Values are sealed before they get here (`vault.rs`).

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

/// See [`Event::MasterKeyRotated`](super::Event::MasterKeyRotated).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MasterKeyRotated {
    /// A name of the key, as the files of the keys have it; nothing can be learned of the key from it.
    pub master: String,
    /// Keys that it wraps.
    pub keys: u64,
    /// Whether it is in force; else it will be from the first start on that is given it.
    pub in_force: bool,
}
