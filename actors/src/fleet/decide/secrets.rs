//! Secrets that every workspace gets.

use covalence_events::fleet::{SecretRemoved, SecretSet};

use super::Draft;
use crate::workspace::Rejection;

pub(super) fn set(draft: &mut Draft<'_>, name: &str, value: &str) {
    draft.push(SecretSet { name: name.to_owned(), value: value.to_owned() });
}

pub(super) fn remove(draft: &mut Draft<'_>, name: &str) -> Result<(), Rejection> {
    let known = draft.state.secrets.get(name).is_some_and(|secret| secret.value.is_some());
    if !known {
        return Err(Rejection::NoSuchSecret);
    }
    draft.push(SecretRemoved { name: name.to_owned() });
    Ok(())
}
