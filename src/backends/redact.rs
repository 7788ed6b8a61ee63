//! Takes paths and secrets out of error texts that people outside the machine may read (R20).
//!
//! A text that is redacted too much still helps; one that leaks can't be taken back. So every absolute path keeps only its
//! last component, and whatever looks like the value of a credential goes.

use covalence_actors::effect::ProvisionSpec;

/// Error texts are cut here: enough for the last lines of a log, small enough for an event.
const TEXT_BYTES_MAX: usize = 2_000;
const MASK: &str = "[redacted]";
/// Parts of names whose value is a credential.
const CREDENTIAL_NAMES: [&str; 7] =
    ["token", "secret", "password", "passwd", "api_key", "apikey", "authorization"];
/// How common providers' keys begin.
const CREDENTIAL_PREFIXES: [&str; 7] = ["sk-", "ghp_", "gho_", "github_pat_", "xoxb-", "AKIA", "eyJ"];
/// Shorter than any real key; keeps words such as `sk-ill` readable.
const CREDENTIAL_CHARS_MIN: usize = 12;

/// Shorter values are words: masking them would hide the error, and whoever reads "1" learns nothing.
const SECRET_CHARS_MIN: usize = 6;

/// What nobody may read who reads why a workspace did not start: its token, and what it was given as secrets, whatever its
/// own output says of them.
pub fn values(spec: &ProvisionSpec) -> Vec<&str> {
    let given = spec.secrets.iter().map(|(_, value)| value.expose());
    let given = given.filter(|value| value.len() >= SECRET_CHARS_MIN);
    let mut values: Vec<&str> = given.chain([spec.token.expose()]).collect();
    // One may be part of another: the longer goes first, or its rest would stay.
    values.sort_unstable_by_key(|value| std::cmp::Reverse(value.len()));
    values
}

/// The text without the given secrets, without values that look like credentials, and with absolute paths cut to their
/// last component. Of a text that is too long the end is kept, since that is where errors are.
pub fn redact(text: &str, secrets: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, MASK);
    }
    let mut out = String::with_capacity(text.len());
    let mut mask_next = false;
    for piece in text.split_inclusive(char::is_whitespace) {
        let word = piece.trim_end_matches(char::is_whitespace);
        let space = &piece[word.len()..];
        if word.is_empty() {
            out.push_str(space);
            continue;
        }
        let lower = word.to_ascii_lowercase();
        if mask_next {
            // `Authorization: Bearer x` has its value two words on.
            mask_next = lower == "bearer" || lower == "basic";
            out.push_str(if mask_next { word } else { MASK });
        } else {
            mask_next = lower == "bearer"
                || (lower.ends_with(':') && !lower.contains('/') && names_credential(&lower));
            out.push_str(&redact_word(word));
        }
        out.push_str(space);
    }
    tail(&out, TEXT_BYTES_MAX)
}

fn names_credential(lower: &str) -> bool {
    CREDENTIAL_NAMES.iter().any(|name| lower.contains(name))
}

fn redact_word(word: &str) -> String {
    if let Some((name, value)) = word.split_once('=')
        && !value.is_empty()
        && (names_credential(&name.to_ascii_lowercase()) || name.to_ascii_uppercase().ends_with("_KEY"))
    {
        return format!("{name}={MASK}");
    }
    let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if bare.len() >= CREDENTIAL_CHARS_MIN && CREDENTIAL_PREFIXES.iter().any(|prefix| bare.starts_with(prefix))
    {
        return word.replace(bare, MASK);
    }
    shorten_paths(word)
}

/// `"/a/b/c":` becomes `"…/c":`. URLs keep their `//`, since that is not the start of a path.
fn shorten_paths(word: &str) -> String {
    let is_path_char = |c: char| c.is_alphanumeric() || "/._-+@~%".contains(c);
    let mut out = String::with_capacity(word.len());
    let mut rest = word;
    while let Some(start) = rest.find('/') {
        let (before, from) = rest.split_at(start);
        let length = from.find(|c: char| !is_path_char(c)).unwrap_or(from.len());
        let (path, after) = from.split_at(length);
        out.push_str(before);
        let is_url = before.ends_with(':') && path.starts_with("//");
        let inside_word = is_url || before.ends_with(is_path_char);
        let trimmed = path.trim_end_matches('/');
        match trimmed.rfind('/') {
            Some(last) if last > 0 && !inside_word => {
                out.push('…');
                out.push_str(&trimmed[last..]);
            }
            _ => out.push_str(path),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The last `bytes_max` bytes, on a character boundary.
fn tail(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let mut start = text.len() - bytes_max;
    while !text.is_char_boundary(start) {
        start += 1;
    }
    format!("…{}", &text[start..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_keep_only_their_last_component() {
        assert_eq!(
            redact("can't open `/home/ann/x/configs/.auth_token`: denied", &[]),
            "can't open `…/.auth_token`: denied"
        );
        assert_eq!(
            redact("see http://127.0.0.1:8080/health and a/b", &[]),
            "see http://127.0.0.1:8080/health and a/b"
        );
    }

    #[test]
    fn credentials_are_masked_by_value_by_name_and_by_shape() {
        let text =
            "token is hunter2; OPENAI_API_KEY=abc password: pw Authorization: Bearer t0p sk-abcdefghijklmnop";
        let safe = redact(text, &["hunter2"]);
        for leak in ["hunter2", "abc", "pw", "t0p", "sk-"] {
            assert!(!safe.contains(leak), "`{leak}` in `{safe}`");
        }
    }

    #[test]
    fn of_a_long_text_the_end_stays() {
        let safe = redact(&format!("{}é the end", "é".repeat(5_000)), &[]);
        assert!(safe.len() <= TEXT_BYTES_MAX + '…'.len_utf8() && safe.ends_with("the end"));
    }
}
