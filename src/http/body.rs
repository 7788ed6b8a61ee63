//! Reading JSON the way the contract's clients expect it: the content type is not looked at, what follows the first value
//! is ignored, and anything else is the endpoint's one generic 400.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::http::error::ApiError;

/// A JSON body of anything but a call. Agent cards are the largest thing in it; a megabyte is ten times the largest seen.
pub const JSON_BYTES_MAX: usize = 1024 * 1024;

/// Reads a body; `generic` is the endpoint's text for one that it can't use.
pub fn json<T: DeserializeOwned>(body: &[u8], generic: &'static str) -> Result<T, ApiError> {
    let invalid = |detail: String| ApiError::bad("invalid_body", generic).detail(detail);
    // The derived readers would take an array as the fields in the order of our source.
    if body.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        return Err(invalid("expected a JSON object".to_owned()));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    T::deserialize(&mut reader).map_err(|reason| invalid(without_values(&reason.to_string())))
}

/// What the reader says of a body, without what it found there: a secret of the wrong type is a secret all the same.
fn without_values(reason: &str) -> String {
    match reason.rfind(", expected ") {
        Some(at) => reason[at + 2..].to_owned(),
        None => reason.to_owned(),
    }
}

/// What a change says about a field: nothing, that it shall be empty, or what it shall be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Wish<T> {
    /// It is not mentioned.
    #[default]
    Absent,
    /// It is `null`.
    Clear,
    /// It has a value.
    Set(T),
}

impl<T> Wish<T> {
    /// Whether the field is mentioned.
    pub const fn is_mentioned(&self) -> bool {
        !matches!(self, Self::Absent)
    }
}

impl Wish<String> {
    /// An empty text is as good as `null`.
    #[must_use]
    pub fn empty_as_clear(self) -> Self {
        match self {
            Self::Set(text) if text.is_empty() => Self::Clear,
            wish => wish,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Wish<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::<T>::deserialize(deserializer).map(|value| value.map_or(Self::Clear, Self::Set))
    }
}

/// A `null` where a value is expected is as good as nothing: the contract's reference decoder takes it so, and Python's
/// clients send it.
pub fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::{Wish, json};

    #[derive(Debug, Deserialize, PartialEq)]
    struct Thing {
        #[serde(default)]
        parent: Wish<u8>,
    }

    #[test]
    fn ignores_what_follows_the_first_value_and_unknown_fields() {
        assert_eq!(json::<Thing>(b"{\"x\":1} trailing", "no").unwrap(), Thing { parent: Wish::Absent });
    }

    #[test]
    fn tells_absent_from_null() {
        assert_eq!(json::<Thing>(b"{}", "no").unwrap().parent, Wish::Absent);
        assert_eq!(json::<Thing>(b"{\"parent\":null}", "no").unwrap().parent, Wish::Clear);
        assert_eq!(json::<Thing>(b"{\"parent\":3}", "no").unwrap().parent, Wish::Set(3));
    }

    #[test]
    fn refuses_what_is_no_object_without_naming_our_types() {
        for body in ["[3]", " [] ", "7", "null"] {
            let error = json::<Thing>(body.as_bytes(), "no").unwrap_err();
            assert!(format!("{error:?}").contains("expected a JSON object"), "{body}: {error:?}");
        }
    }

    #[test]
    fn says_what_was_expected_and_where_and_never_what_was_found() {
        for (body, detail) in [
            ("{\"parent\":\"hush, expected hush\"}", "expected u8 at line 1 column 31"),
            ("{\"parent\":9876543}", "expected u8 at line 1 column 17"),
        ] {
            let error = format!("{:?}", json::<Thing>(body.as_bytes(), "no").unwrap_err());
            assert!(error.contains(detail) && !error.contains("hush") && !error.contains("9876"), "{error}");
        }
    }

    #[test]
    fn answers_an_empty_body_with_the_endpoint_s_own_text() {
        assert_eq!(json::<Thing>(b"", "invalid request body").unwrap_err().text, "invalid request body");
    }
}
