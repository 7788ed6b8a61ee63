//! What must not leave with an export: of the log for other programs, or of a golden incident.

use serde_json::Value;

const REDACTED: &str = "[redacted]";
/// Whatever a key with one of these words holds.
const SECRET: [&str; 8] =
    ["secret", "password", "passwd", "authorization", "api_key", "apikey", "sha256", "prefix"];

/// Replaces what is secret by a word, wherever it is.
pub(crate) fn redact(value: &mut Value) {
    replace(value, &|secret| *secret = REDACTED.into());
}

/// The same, where what is left has to be read as a fact again: numbers become zeros, and only texts the word.
pub(crate) fn redact_in_shape(value: &mut Value) {
    replace(value, &blank);
}

fn blank(secret: &mut Value) {
    match secret {
        Value::Object(members) => members.values_mut().for_each(blank),
        Value::Array(members) => members.iter_mut().for_each(blank),
        Value::String(text) => REDACTED.clone_into(text),
        Value::Number(number) => *number = 0.into(),
        Value::Null | Value::Bool(_) => {}
    }
}

fn replace(value: &mut Value, by: &impl Fn(&mut Value)) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                if is_secret(key, value) {
                    by(value);
                } else {
                    replace(value, by);
                }
            }
        }
        Value::Array(members) => members.iter_mut().for_each(|member| replace(member, by)),
        Value::String(text) => {
            if let Some(clean) = cleaned(text) {
                *text = clean;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn is_secret(key: &str, value: &Value) -> bool {
    let key = key.to_ascii_lowercase();
    // A token's public name is a UUID; anything else under that key may be the token itself.
    let token =
        key.contains("token") && value.as_str().is_some_and(|text| uuid::Uuid::parse_str(text).is_err());
    token || (!value.is_null() && SECRET.iter().any(|secret| key.contains(secret)))
}

/// A text without the password of an address and without a bearer token; none if it has neither.
fn cleaned(text: &str) -> Option<String> {
    let mut words = text.split_inclusive(char::is_whitespace).map(str::to_owned).collect::<Vec<_>>();
    let mut changed = false;
    let mut bearer = false;
    for word in &mut words {
        let (shown, space) = word.split_at(word.trim_end().len());
        if bearer && !shown.is_empty() {
            *word = format!("{REDACTED}{space}");
            (bearer, changed) = (false, true);
            continue;
        }
        bearer = shown.eq_ignore_ascii_case("bearer");
        let Some((scheme, rest)) = shown.split_once("://") else { continue };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        if let Some((user, _)) = authority.rsplit_once('@') {
            *word = format!("{scheme}://{REDACTED}{}{space}", &rest[user.len()..]);
            changed = true;
        }
    }
    changed.then(|| words.concat())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn digests_passwords_and_bearers_go_and_names_stay() {
        let mut fact = json!({
            "type": "workspace.token_issued.v1",
            "data": {
                "token": "250fcaa4-47b8-4753-b2ad-e7649a4cd011", "sha256": [1, 2], "prefix": "gtO1LD3H",
                "url": "https://u:p@host:1/x?a=b@c", "plain": "http://host/a@b", "note": "sent Bearer abc.def to it",
                "deep": [{"client_secret": "s", "access_token": "abc", "password": null}],
            },
        });
        redact(&mut fact);
        assert_eq!(
            fact["data"],
            json!({
                "token": "250fcaa4-47b8-4753-b2ad-e7649a4cd011", "sha256": "[redacted]", "prefix": "[redacted]",
                "url": "https://[redacted]@host:1/x?a=b@c", "plain": "http://host/a@b",
                "note": "sent Bearer [redacted] to it",
                "deep": [{"client_secret": "[redacted]", "access_token": "[redacted]", "password": null}],
            })
        );
    }

    #[test]
    fn in_shape_bytes_stay_bytes() {
        let mut fact =
            json!({"sha256": [1, 2], "prefix": "gtO1LD3H", "token": "abc", "password": null, "n": 3});
        redact_in_shape(&mut fact);
        let left = json!({"sha256": [0, 0], "prefix": "[redacted]", "token": "[redacted]", "password": null, "n": 3});
        assert_eq!(fact, left);
    }
}
