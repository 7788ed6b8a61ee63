//! Sealing: what a fact says about persons, and what only its workspace may know, is kept encrypted, field by field.
//!
//! A sealed field's value is a `MessagePack` extension of type 1: format (1), key id (8), nonce (24), and the field's packed
//! value under XChaCha20-Poly1305, tied to the fact's id, tag and field. Everything else of a payload stays as it is, so that
//! a log without keys can still be followed. Digest and chain run over the payload as it is kept.
//!
//! Where a key is gone, a text that says so stands in the field's place, which every field of [`fields`] takes. A key that
//! is there and does not fit is an error: somebody changed the log.

use std::borrow::Cow;

use crate::codec::CodecError;
use crate::envelope::{Fact, StreamId};
use crate::fleet::{self, Scope};
use crate::id::EventId;
use crate::keyring::{Damaged, KeyName, Keyring, KeyringError, Unsealed, key_id};

pub mod fields;
mod pack;
#[cfg(test)]
mod tests;

/// Stands for what was sealed by a key that was destroyed.
pub const ERASED: &str = "[erased]";

/// Stands for what is sealed by a key that is not at hand.
pub const SEALED: &str = "[sealed]";

/// What could not be read of one or of many payloads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unread {
    /// Fields whose key was destroyed.
    pub(crate) erased: u64,
    /// Fields whose key is not at hand.
    pub(crate) sealed: u64,
    /// The key of the last one of these, where a keyring was asked.
    pub(crate) missing: Option<KeyName>,
}

impl Unread {
    /// Adds what could not be read of another payload.
    pub(crate) fn add(&mut self, other: &Self) {
        self.erased += other.erased;
        self.sealed += other.sealed;
    }
}

impl From<pack::Broken> for CodecError {
    fn from(_: pack::Broken) -> Self {
        Self::NotPacked
    }
}

/// Whose key a fact's fields are sealed by: the workspace's that it names, else the fleet's.
pub fn owner(stream: StreamId, fact: &Fact) -> StreamId {
    let named = match (stream, fact) {
        (StreamId::Fleet, Fact::Fleet(event)) => match event {
            fleet::Event::HoldSet(set) => named(set.scope),
            fleet::Event::ModeSet(set) => named(set.scope),
            _ => event.subject(),
        },
        (StreamId::Workspace(_), _) | (_, Fact::Workspace(_)) => None,
    };
    named.map_or(stream, StreamId::Workspace)
}

const fn named(scope: Scope) -> Option<crate::id::WorkspaceId> {
    match scope {
        Scope::Workspace(id) | Scope::Subtree(id) => Some(id),
        Scope::Fleet => None,
    }
}

/// Seals the fields of a packed payload that are to be sealed. Where the owner's key was destroyed they become [`ERASED`].
pub(crate) fn seal(
    (id, tag): (EventId, &str),
    owner: StreamId,
    payload: Vec<u8>,
    keys: &Keyring,
) -> Result<Vec<u8>, CodecError> {
    let paths = fields::sealed(tag);
    if paths.is_empty() {
        return Ok(payload);
    }
    let changed = pack::replace(&payload, paths, &mut |path, value| {
        if pack::is_empty(value) {
            return Ok(None);
        }
        let sealed = keys.seal(owner, &context(id, tag, path), value);
        let sealed = sealed.map_err(|error: KeyringError| CodecError::Seal { source: Box::new(error) })?;
        Ok::<_, CodecError>(Some(
            sealed.map_or_else(|| pack::short_text(ERASED), |sealed| pack::seal(&sealed)),
        ))
    })?;
    Ok(changed.unwrap_or(payload))
}

/// Opens the fields of a payload that are sealed, and says what of them could not be read.
pub(crate) fn open<'a>(
    (id, tag): (EventId, &str),
    stream: StreamId,
    payload: &'a [u8],
    keys: Option<&Keyring>,
) -> Result<(Cow<'a, [u8]>, Unread), CodecError> {
    let mut unread = Unread::default();
    let paths = fields::sealed(tag);
    if paths.is_empty() || !pack::may_hold_sealed(payload) {
        return Ok((Cow::Borrowed(payload), unread));
    }
    let changed = pack::replace(payload, paths, &mut |path, value| {
        let Some(sealed) = pack::sealed(value) else { return Ok(None) };
        let damaged = |_: Damaged| CodecError::Sealed { tag: tag.to_owned(), field: path.to_owned() };
        let opened = match keys {
            Some(keys) => keys.unseal(&context(id, tag, path), sealed).map_err(damaged)?,
            None => Unsealed::Missing(KeyName(key_id(sealed).map_err(damaged)?)),
        };
        match opened {
            Unsealed::Plain(value) => Ok(Some(value)),
            Unsealed::Missing(name) if !keys.is_some_and(|keys| keys.is_erased(stream)) => {
                unread.sealed += 1;
                unread.missing = keys.is_some().then_some(name);
                Ok::<_, CodecError>(Some(pack::short_text(SEALED)))
            }
            Unsealed::Lost if !keys.is_some_and(|keys| keys.is_erased(stream)) => {
                unread.sealed += 1;
                Ok(Some(pack::short_text(SEALED)))
            }
            Unsealed::Missing(_) | Unsealed::Lost | Unsealed::Erased => {
                unread.erased += 1;
                Ok(Some(pack::short_text(ERASED)))
            }
        }
    })?;
    Ok((changed.map_or(Cow::Borrowed(payload), Cow::Owned), unread))
}

/// A fact without what would be sealed of it: [`ERASED`] stands there.
pub fn erased(fact: &Fact) -> Result<Fact, CodecError> {
    let payload = fact.encode()?;
    let changed = pack::replace(&payload, fields::sealed(fact.tag()), &mut |_, value| {
        Ok::<_, CodecError>((!pack::is_empty(value)).then(|| pack::short_text(ERASED)))
    })?;
    match changed {
        Some(payload) => Fact::decode(fact.tag(), &payload),
        None => Ok(fact.clone()),
    }
}

/// A fact with one text in place of everything that is sealed of it, and which fields these are.
#[cfg(any(test, feature = "test-support"))]
pub fn planted(fact: &Fact, text: &str) -> Result<(Fact, Vec<String>), CodecError> {
    let (payload, mut paths) = (fact.encode()?, Vec::new());
    let changed = pack::replace(&payload, fields::sealed(fact.tag()), &mut |path, _| {
        paths.push(path.to_owned());
        Ok::<_, CodecError>(Some(pack::short_text(text)))
    })?;
    match changed {
        Some(payload) => Ok((Fact::decode(fact.tag(), &payload)?, paths)),
        None => Ok((fact.clone(), paths)),
    }
}

/// What a sealed field is tied to, besides its owner.
fn context(id: EventId, tag: &str, path: &str) -> Vec<u8> {
    let mut context = Vec::with_capacity(16 + tag.len() + 1 + path.len());
    context.extend_from_slice(id.0.as_bytes());
    context.extend_from_slice(tag.as_bytes());
    context.push(0);
    context.extend_from_slice(path.as_bytes());
    context
}
