//! Another master key for the same keys.

use super::files::Folder;
use super::{Keyring, KeyringError, MasterKey};
use std::path::Path;

impl Keyring {
    /// Wraps every key by another master key; answers how many. With `next`, that one, which the caller keeps; without, a
    /// fresh one in the file `master`. No server may have the keys open. Blocks.
    ///
    /// First every key is wrapped by both, then by the new one alone: whenever this is interrupted, one of the two master
    /// keys opens all of them, and calling it again finishes it.
    ///
    /// # Errors
    /// When the present master key does not open every key, or the file system refuses.
    pub fn rotate(
        dir: &Path,
        present: Option<MasterKey>,
        next: Option<MasterKey>,
    ) -> Result<usize, KeyringError> {
        // Opening checks every key before any is touched.
        drop(Self::open(dir, present.clone())?);
        let folder = Folder::new(dir);
        let no_master = || KeyringError::NoMaster { dir: dir.to_owned() };
        let present = match present {
            Some(master) => master,
            None => folder.master()?.ok_or_else(no_master)?,
        };
        let in_file = next.is_none();
        let next = if let Some(master) = next {
            master
        } else {
            let master = MasterKey::generate().map_err(folder.failed("asking for a key for"))?;
            folder.put_master("master.next", &master)?;
            master
        };
        let mut files = folder.list()?.keys;
        for (path, file) in &mut files {
            let Some(secret) = file.unwrap(&present, path)? else { return Err(no_master()) };
            file.add(&secret, &next).map_err(folder.failed("wrapping a key for"))?;
            folder.write(file)?;
        }
        folder.sync()?;
        if in_file {
            folder.promote("master.next", "master")?;
        } else {
            folder.shred("master")?;
            folder.sync()?;
        }
        for (_, file) in &mut files {
            file.keep_only(&next);
            folder.write(file)?;
        }
        folder.sync()?;
        Ok(files.len())
    }
}
