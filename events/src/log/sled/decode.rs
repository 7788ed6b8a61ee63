//! From a frame to a fact, opened with the keys that are there.

use crate::codec::CodecError;
use crate::envelope::{Fact, Recorded};
use crate::keyring::Keyring;
use crate::log::frame::Frame;
use crate::seal::{self, Unread};

/// What decoding takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoder<'a> {
    /// Keys, where there are some.
    pub(super) keys: Option<&'a Keyring>,
}

/// Why a frame is no fact.
#[derive(Debug)]
pub(super) enum Undecoded {
    /// Its payload is not what it should be.
    Codec(CodecError),
    /// Its envelope is wrong.
    Envelope(&'static str),
}

impl Undecoded {
    /// In one line.
    pub(super) fn words(self) -> String {
        match self {
            Self::Codec(error) => match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            },
            Self::Envelope(wrong) => wrong.to_owned(),
        }
    }
}

impl Decoder<'_> {
    /// A frame and its payload as a fact, and what of it could not be read. Of what was erased nothing is shown, even where it
    /// was recorded before fields were sealed.
    pub(super) fn decode(self, frame: &Frame<'_>, payload: &[u8]) -> Result<(Recorded, Unread), Undecoded> {
        let (payload, unread) = seal::open((frame.id, frame.tag()), frame.stream, payload, self.keys)
            .map_err(Undecoded::Codec)?;
        let mut fact = Fact::decode(frame.tag(), &payload).map_err(Undecoded::Codec)?;
        if self.keys.is_some_and(|keys| keys.is_erased(seal::owner(frame.stream, &fact))) {
            fact = seal::erased(&fact).map_err(Undecoded::Codec)?;
        }
        Ok((frame.recorded(fact).map_err(Undecoded::Envelope)?, unread))
    }
}
