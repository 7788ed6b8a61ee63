//! Reading JSON the way the contract's clients expect it: the content type is not looked at, what follows the first value
//! is ignored, and anything else is the endpoint's one generic 400.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::http::error::ApiError;

/// A JSON body of anything but a call. Agent cards are the largest thing in it; a megabyte is ten times the largest seen.
pub const JSON_BYTES_MAX: usize = 1024 * 1024;

/// Reads a body; `generic` is the endpoint's text for one that it can't use.
pub fn json<T: DeserializeOwned>(body: &[u8], generic: &'static str) -> Result<T, ApiError> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    T::deserialize(&mut reader)
        .map_err(|reason| ApiError::bad("invalid_body", generic).detail(reason.to_string()))
}

/// Tells an absent field from a `null` one: `None` is absent, `Some(None)` is `null`.
pub fn present<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Some)
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

    use super::{json, present};

    #[derive(Debug, Deserialize, PartialEq)]
    struct Thing {
        #[serde(default, deserialize_with = "present")]
        parent: Option<Option<u8>>,
    }

    #[test]
    fn ignores_what_follows_the_first_value_and_unknown_fields() {
        assert_eq!(json::<Thing>(b"{\"x\":1} trailing", "no").unwrap(), Thing { parent: None });
    }

    #[test]
    fn tells_absent_from_null() {
        assert_eq!(json::<Thing>(b"{}", "no").unwrap().parent, None);
        assert_eq!(json::<Thing>(b"{\"parent\":null}", "no").unwrap().parent, Some(None));
        assert_eq!(json::<Thing>(b"{\"parent\":3}", "no").unwrap().parent, Some(Some(3)));
    }

    #[test]
    fn answers_an_empty_body_with_the_endpoint_s_own_text() {
        assert_eq!(json::<Thing>(b"", "invalid request body").unwrap_err().text, "invalid request body");
    }
}
