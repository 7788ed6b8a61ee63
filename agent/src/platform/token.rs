//! The workspace's token: a file in the configuration directory, private to its owner.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config::Secret;

/// Name of the file, by the platform's contract.
pub const FILE_NAME: &str = ".auth_token";

/// Holds the token. The file wins over the key from the environment.
#[derive(Debug)]
pub struct TokenStore {
    directory: PathBuf,
    fallback: Option<Secret>,
    current: Mutex<Option<Secret>>,
}

impl TokenStore {
    /// Reads the token from `directory`, else uses `fallback`.
    pub fn open(directory: &Path, fallback: Option<Secret>) -> Self {
        let store = Self { directory: directory.to_owned(), fallback, current: Mutex::new(None) };
        store.reload();
        store
    }

    /// The token to send.
    pub fn current(&self) -> Option<Secret> {
        self.lock().clone()
    }

    /// Reads the file again. `true` if the token is another one than before.
    pub fn reload(&self) -> bool {
        let path = self.directory.join(FILE_NAME);
        let read = match fs::read_to_string(&path) {
            Ok(text) => Some(Secret(text.trim().to_owned())).filter(|token| !token.0.is_empty()),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(path = %path.display(), %error, "cannot read the token file");
                }
                None
            }
        };
        let mut current = self.lock();
        // A token that could not be written to the file is only in memory; keep it rather than none.
        let next = read.or_else(|| current.clone()).or_else(|| self.fallback.clone());
        let changed = *current != next;
        *current = next;
        changed
    }

    /// Takes over a new token and writes it to the file, readable by the owner only from its first byte on. If
    /// that fails the token still counts until the agent ends.
    pub fn save(&self, token: String) -> io::Result<()> {
        let written = write_private(&self.directory, token.as_bytes());
        *self.lock() = Some(Secret(token));
        written
    }

    fn lock(&self) -> MutexGuard<'_, Option<Secret>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes beside the file and renames: a reader, or a crash, sees the old token or the new one, never half.
fn write_private(directory: &Path, token: &[u8]) -> io::Result<()> {
    let temporary = directory.join(format!("{FILE_NAME}.{}", std::process::id()));
    // Left behind by a crash under the same process id, perhaps with other permissions.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let stored = file
        .write_all(token)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, directory.join(FILE_NAME)));
    if stored.is_err() {
        drop(fs::remove_file(&temporary));
    }
    stored.and_then(|()| File::open(directory)?.sync_all())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn value(store: &TokenStore) -> Option<String> {
        store.current().map(|token| token.0)
    }

    #[test]
    fn a_saved_token_is_private_and_replaces_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        fs::write(&path, "old\n").unwrap();
        let store = TokenStore::open(directory.path(), None);
        assert_eq!(value(&store).as_deref(), Some("old"));

        store.save("new".to_owned()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(!store.reload());
    }

    #[test]
    fn a_token_that_cannot_be_written_still_counts() {
        let store = TokenStore::open(Path::new("/no/such/directory"), Some(Secret("key".to_owned())));
        assert_eq!(value(&store).as_deref(), Some("key"));
        assert!(store.save("token".to_owned()).is_err());
        assert_eq!(value(&store).as_deref(), Some("token"));
        store.reload();
        assert_eq!(value(&store).as_deref(), Some("token"));
    }
}
