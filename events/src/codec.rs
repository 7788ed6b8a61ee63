//! Facts to bytes and back: the single place where encodings are known.
//!
//! Payloads are `MessagePack` with *named* fields, so that fields can be added with a default and an old log opens for
//! ever. The wire tag names type and version and is frozen: it is written out in the vocabulary and never derived from
//! a Rust name. A changed meaning gets a new version and an entry in [`upcast`], so that everyone above sees only the
//! newest shape.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::envelope::Fact;
use crate::{fleet, workspace};

pub mod upcast;

/// A payload that can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The log holds a fact that this build has no word for: it was written by a newer one, or is damaged.
    #[error("unknown event tag `{tag}`")]
    UnknownTag {
        /// The tag as found.
        tag: String,
    },
    /// The tag is known, the bytes are not what it promises.
    #[error("payload of `{tag}` does not decode")]
    Decode {
        /// The tag as found.
        tag: String,
        /// What the decoder said.
        #[source]
        source: rmp_serde::decode::Error,
    },
    /// The tag is known, the JSON is not what it promises.
    #[error("the JSON of `{tag}` is no such fact")]
    Json {
        /// The tag as found.
        tag: String,
        /// What the decoder said.
        #[source]
        source: serde_json::Error,
    },
    /// A fact that can't be expressed. Only a bug in its type leads here.
    #[error("payload of `{tag}` does not encode")]
    Encode {
        /// The fact's tag.
        tag: &'static str,
        /// What the encoder said.
        #[source]
        source: rmp_serde::encode::Error,
    },
    /// The payload is no map of fields, as every payload is.
    #[error("a payload is not packed as it should be")]
    NotPacked,
    /// A field could not be sealed.
    #[error("a field could not be sealed")]
    Seal {
        /// What the keyring said.
        #[source]
        source: Box<crate::keyring::KeyringError>,
    },
    /// A sealed field does not open, though its key is there.
    #[error("the sealed field `{field}` of `{tag}` is damaged, or was put there by somebody else")]
    Sealed {
        /// The fact's tag.
        tag: String,
        /// The field.
        field: String,
    },
}

/// Decodes a payload of any released version.
pub fn decode(tag: &str, payload: &[u8]) -> Result<Fact, CodecError> {
    let (tag, payload) = upcast::to_newest(tag, payload)?;
    if let Some(event) = workspace::Event::decode(&tag, &payload)? {
        return Ok(Fact::Workspace(event));
    }
    if let Some(event) = fleet::Event::decode(&tag, &payload)? {
        return Ok(Fact::Fleet(event));
    }
    Err(CodecError::UnknownTag { tag: tag.into_owned() })
}

/// Encodes one payload with named fields.
pub(crate) fn pack<T: Serialize>(tag: &'static str, payload: &T) -> Result<Vec<u8>, CodecError> {
    rmp_serde::to_vec_named(payload).map_err(|source| CodecError::Encode { tag, source })
}

/// Decodes one payload.
pub(crate) fn unpack<T: DeserializeOwned>(tag: &str, payload: &[u8]) -> Result<T, CodecError> {
    rmp_serde::from_slice(payload).map_err(|source| CodecError::Decode { tag: tag.to_owned(), source })
}

/// Declares the enum of one kind of stream: each variant holds its own payload type and a frozen wire tag.
macro_rules! vocabulary {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$vdoc:meta])* $variant:ident = $tag:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub enum $name { $($(#[$vdoc])* $variant($variant),)+ }

        impl $name {
            /// Every wire tag of this vocabulary, newest versions only.
            pub const TAGS: &'static [&'static str] = &[$($tag),+];

            /// The frozen wire tag.
            pub const fn tag(&self) -> &'static str {
                match self { $(Self::$variant(_) => $tag,)+ }
            }

            pub(crate) fn encode(&self) -> Result<Vec<u8>, $crate::codec::CodecError> {
                match self { $(Self::$variant(payload) => $crate::codec::pack($tag, payload),)+ }
            }

            /// `Ok(None)` when the tag is not of this vocabulary.
            pub(crate) fn decode(tag: &str, payload: &[u8]) -> Result<Option<Self>, $crate::codec::CodecError> {
                match tag {
                    $($tag => $crate::codec::unpack(tag, payload).map(|p| Some(Self::$variant(p))),)+
                    _ => Ok(None),
                }
            }

            /// `Ok(None)` when the tag is not of this vocabulary.
            pub(crate) fn from_json(tag: &str, value: serde_json::Value) -> Result<Option<Self>, serde_json::Error> {
                match tag {
                    $($tag => serde_json::from_value(value).map(|payload| Some(Self::$variant(payload))),)+
                    _ => Ok(None),
                }
            }

            pub(crate) fn to_json(&self) -> serde_json::Value {
                // Payload types hold nothing that JSON can't say, so the fallback is for a bug, not for data.
                match self {
                    $(Self::$variant(payload) => serde_json::to_value(payload).unwrap_or(serde_json::Value::Null),)+
                }
            }
        }

        $(impl From<$variant> for $name {
            fn from(payload: $variant) -> Self { Self::$variant(payload) }
        })+
    };
}
pub(crate) use vocabulary;
