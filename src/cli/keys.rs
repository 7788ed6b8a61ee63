//! The keys of a data directory, for commands that read a log without its server.

use std::path::Path;
use std::sync::Arc;

use covalence_events::keyring::Keyring;

use crate::cli::Shared;
use crate::cli::failure::Outcome;
use crate::cli::output::note;
use crate::config::{encryption_key, keys_dir};

/// The keys that fields of the log are sealed by. Where they don't open, that is said, and what is sealed is shown as such:
/// an investigation must not fail for want of a name.
pub(super) fn sealed_by(shared: &Shared) -> Outcome<Option<Arc<Keyring>>> {
    let mut layers = shared.layers()?;
    let given = encryption_key(&mut layers)?;
    let dir = keys_dir(Path::new(layers.text("data_dir").unwrap_or_default()));
    match Keyring::read(&dir, given) {
        Ok(keys) => Ok(Some(Arc::new(keys))),
        Err(error) => {
            note(&format!(
                "warning: {:#}: sealed fields are shown as `[sealed]`",
                anyhow::Error::from(error)
            ));
            Ok(None)
        }
    }
}
