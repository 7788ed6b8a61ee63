//! Large payloads, each in a file that is named by its digest.
//!
//! A file is whole and durable before any fact refers to it, and is never changed. A crash in between leaves a file that
//! nothing refers to. What is archived has its payloads in the archive; a file goes when the last fact goes there that refers to it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::directory::sync_dir;

/// See the module.
#[derive(Debug)]
pub(super) struct Blobs {
    root: PathBuf,
    /// How many facts outside of the archive refer to each.
    used: Mutex<HashMap<blake3::Hash, u32>>,
}

impl Blobs {
    /// The files below `root`, which exists.
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, used: Mutex::default() }
    }

    /// Notes that a fact refers to a payload that is there.
    pub(super) fn note(&self, digest: blake3::Hash) {
        *self.used().entry(digest).or_default() += 1;
    }

    /// Notes that a fact which referred to a payload is archived, with it.
    pub(super) fn release(&self, digest: &blake3::Hash) -> io::Result<()> {
        let mut used = self.used();
        let left = used.get_mut(digest).map_or(0, |count| {
            *count = count.saturating_sub(1);
            *count
        });
        if left > 0 {
            return Ok(());
        }
        used.remove(digest);
        // Under the lock, so that a fact that comes now finds no file that is about to go.
        match fs::remove_file(self.path(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes files that no fact refers to: every fact outside of the archive has been noted.
    pub(super) fn tidy(&self) -> io::Result<()> {
        let used = self.used();
        for folder in fs::read_dir(&self.root)? {
            for file in fs::read_dir(folder?.path())? {
                let file = file?;
                let digest = file.file_name().to_str().and_then(|name| blake3::Hash::from_hex(name).ok());
                if digest.is_none_or(|digest| !used.contains_key(&digest)) {
                    fs::remove_file(file.path())?;
                }
            }
        }
        Ok(())
    }

    fn used(&self) -> MutexGuard<'_, HashMap<blake3::Hash, u32>> {
        // Nothing that runs under the lock can panic half-way through a change.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a payload for a fact; returns when it is durable.
    pub(super) fn put(&self, digest: &blake3::Hash, payload: &[u8]) -> io::Result<()> {
        let mut used = self.used();
        *used.entry(*digest).or_default() += 1;
        let path = self.path(digest);
        let folder = path.parent().unwrap_or(&self.root);
        if path.exists() {
            // Its content was synced before it got its name; of the name, a process that was killed may not have seen to it.
            return sync_dir(folder);
        }
        if !folder.exists() {
            fs::create_dir_all(folder)?;
            sync_dir(&self.root)?;
        }
        let temporary = path.with_extension("tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(payload)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        sync_dir(folder)
    }

    /// Reads a payload back and checks that it is the one.
    pub(super) fn get(&self, digest: &blake3::Hash) -> io::Result<Vec<u8>> {
        let path = self.path(digest);
        let payload = fs::read(&path).map_err(|error| named(&path, &error))?;
        if blake3::hash(&payload) != *digest {
            let error = io::Error::new(io::ErrorKind::InvalidData, "content differs from its digest");
            return Err(named(&path, &error));
        }
        Ok(payload)
    }

    fn path(&self, digest: &blake3::Hash) -> PathBuf {
        let name = digest.to_hex();
        self.root.join(&name[..2]).join(name.as_str())
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("`{}`: {error}", path.display()))
}
