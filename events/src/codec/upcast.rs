//! Old encodings to the newest: one arm per retired tag.
//!
//! No encoding has been retired, so every tag passes through. A retired tag's arm decodes the old payload, fills in what
//! the new meaning needs, and returns the new tag with the new payload; its fixture stays for ever.

use std::borrow::Cow;

use super::CodecError;

/// Lifts a payload to the newest version of its tag.
#[expect(clippy::unnecessary_wraps, reason = "an old payload may not decode, once there is one")]
pub(super) fn to_newest<'a>(
    tag: &'a str,
    payload: &'a [u8],
) -> Result<(Cow<'a, str>, Cow<'a, [u8]>), CodecError> {
    Ok((Cow::Borrowed(tag), Cow::Borrowed(payload)))
}
