//! A field's value on one line.

use serde_json::Value;

use crate::cli::incidents::day_and_clock;
use crate::cli::output::printable;

/// Longer values are cut; `--json` has them whole.
const VALUE_MAX: usize = 60;

/// The value as a person reads it; times as people here read them.
pub(super) fn short(value: &Value) -> String {
    let text = match value {
        Value::Null => return "none".to_owned(),
        Value::String(text) => match chrono::DateTime::parse_from_rfc3339(text) {
            Ok(time) => return day_and_clock(time.to_utc()),
            Err(_) => text.clone(),
        },
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    let text = printable(&text);
    match text.char_indices().nth(VALUE_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
