//! Large payloads, each in a file that is named by its digest.
//!
//! A file is whole and durable before any fact refers to it, and is never changed. A crash in between leaves a file that
//! nothing refers to, which costs space and nothing else.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::directory::sync_dir;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Blobs {
    root: PathBuf,
}

impl Blobs {
    /// The files below `root`, which exists.
    pub(super) const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Keeps a payload; returns when it is durable.
    pub(super) fn put(&self, digest: &blake3::Hash, payload: &[u8]) -> io::Result<()> {
        let path = self.path(digest);
        if path.exists() {
            return Ok(());
        }
        let folder = path.parent().unwrap_or(&self.root);
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
