//! Keys that a person gave up: neither destroyed nor at hand. What they sealed stays sealed, and their owners get other keys.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::files::Folder;
use super::{KeyName, Keyring, KeyringError, MasterKey, source_of};
use crate::envelope::StreamId;

/// Where keys are kept that don't open.
const ASIDE: &str = "lost";

impl Keyring {
    /// Moves every key that the master key does not open into the directory `lost`, with what else keeps the others from being
    /// used: a person accepts that they are lost. Answers what was moved. Nobody may have the keys open. Blocks.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn set_aside(dir: &Path, given: Option<&MasterKey>) -> Result<Vec<PathBuf>, KeyringError> {
        let folder = Folder::new(dir);
        let mut moved = Vec::new();
        let master = match (given, folder.master()) {
            (Some(master), _) => Some(master.clone()),
            (None, Ok(master)) => master,
            (None, Err(KeyringError::Malformed { path, .. })) => {
                moved.push(aside(&folder, &path)?);
                None
            }
            (None, Err(error)) => return Err(error),
        };
        for path in folder.key_paths()? {
            let opens = match (&master, Folder::key_at(&path)) {
                (_, Ok(None)) => true,
                (Some(master), Ok(Some(file))) => file.unwrap(master, &path).is_ok_and(|key| key.is_some()),
                (None, Ok(Some(_))) | (_, Err(KeyringError::Malformed { .. })) => false,
                (_, Err(error)) => return Err(error),
            };
            if !opens {
                moved.push(aside(&folder, &path)?);
            }
        }
        let change = master.map(|master| super::next::read(&folder, &master, source_of(given.is_some())));
        if let Some(Err(KeyringError::Malformed { path, .. } | KeyringError::WrongMaster { path, .. })) =
            change
        {
            moved.push(aside(&folder, &path)?);
        }
        if !moved.is_empty() {
            folder.sync()?;
        }
        Ok(moved)
    }

    /// Gives up keys of an owner that are not here, for good, durably: what they sealed is no reason any more to refuse a start.
    /// Blocks.
    ///
    /// # Errors
    /// When the file system refuses.
    pub(crate) fn give_up(&self, owner: StreamId, names: &BTreeSet<KeyName>) -> Result<(), KeyringError> {
        self.check_writes()?;
        self.folder.create()?;
        let ids: Vec<_> = names.iter().map(|name| name.0).collect();
        let mut keys = self.lock_mut();
        self.folder.give_up(owner, &ids)?;
        keys.lost_ids.extend(ids);
        Ok(())
    }
}

fn aside(folder: &Folder, path: &Path) -> Result<PathBuf, KeyringError> {
    let dir = folder.path().join(ASIDE);
    Folder::new(&dir).create()?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // What an earlier loss left there stays.
    let places = std::iter::once(name.clone()).chain((1..).map(|number| format!("{name}.{number}")));
    let to = places.map(|name| dir.join(name)).find(|place| !place.exists());
    let to = to.unwrap_or_else(|| dir.join(name));
    fs::rename(path, &to).map_err(Folder::new(path).failed("moving aside"))?;
    Folder::new(&dir).sync()?;
    Ok(to)
}
