//! Another master key for the same keys, while they are in use.
//!
//! ```text
//! 1  `next` says which key takes over, wrapped by the present one
//! 2  every key is wrapped by both; from 1 on, new ones are too
//! 3  the one that takes over is in force: its file is in the place of the other's, or a start was given it
//! 4  every key is wrapped by it alone; `next` is gone
//! ```
//! Each step is durable before the next one begins, and each file is whole, so whenever a run ends, the master key that is in
//! force opens every key, and the next [`Keyring::open`] goes on where it stopped. Sealing and opening never wait.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::files::{Folder, name_of};
use super::next::{self, Change, Keeper, Next};
use super::{Keyring, KeyringError, Keys, MasterKey};

/// What became of a change of the master key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Keys that it wraps.
    pub keys: usize,
    /// The name of the master key that takes over; nothing can be learned of the key from it.
    pub master: String,
    /// Whether it is in force. Else both open the keys, and the first start that is given it ends the change.
    pub in_force: bool,
}

impl Keyring {
    /// Wraps every key by another master key. With `next`, that one, which the caller keeps and gives to the next start: it
    /// ends the change, and until then the present one stays in force. Without, a fresh one in the file `master`, at once.
    /// Keys are made, used and erased meanwhile. Blocks.
    ///
    /// # Errors
    /// When another change is under way, when a fresh one is asked for and the present one is not in the file, when the present
    /// one does not open every key, or the file system refuses. Every key opens all the same, now and after a restart, which
    /// goes on with what was begun.
    pub fn rotate(&self, next: Option<MasterKey>) -> Result<Rotation, KeyringError> {
        let Ok(_alone) = self.rotating.try_lock() else { return Err(KeyringError::Rotating) };
        self.check_writes()?;
        let Some(present) = self.lock().master.clone() else { return Err(KeyringError::NoKeys) };
        let keeper = if next.is_some() { Keeper::Operator } else { Keeper::File };
        if keeper == Keeper::File && self.is_given {
            return Err(KeyringError::KeptOutside);
        }
        let master = match next {
            Some(master) => master,
            None => {
                MasterKey::generate().map_err(self.folder.failed("asking for random numbers for a key in"))?
            }
        };
        if name_of(&master) == name_of(&present) {
            return Err(KeyringError::SameMaster);
        }
        self.check_all(&present)?;
        let next = Next { master, keeper };
        {
            // No key is written between the two: it would be wrapped by the present one alone.
            let mut keys = self.lock_mut();
            next::announce(&self.folder, &present, &next)?;
            keys.next = Some(next.clone());
        }
        let both = [&present, &next.master];
        let count = wrap_all(&self.folder, &self.files, &present, &both)?;
        let in_force = keeper == Keeper::File;
        if in_force {
            {
                let mut keys = self.lock_mut();
                self.folder.replace_master(&next.master)?;
                take_over(&mut keys);
            }
            finish(&self.folder, &self.files, &next.master, keeper)?;
        }
        Ok(Rotation { keys: count, master: name_of(&next.master), in_force })
    }

    /// The change of the master key that opening the keys has ended, if there was one.
    pub const fn rotated(&self) -> Option<&Rotation> {
        self.rotated.as_ref()
    }

    /// Whether the present master key opens every key, before any is touched.
    fn check_all(&self, present: &MasterKey) -> Result<(), KeyringError> {
        for path in self.folder.key_paths()? {
            let _alone = alone(&self.files);
            let Some(file) = Folder::key_at(&path)? else { continue };
            if file.unwrap(present, &path)?.is_none() {
                return Err(KeyringError::WrongMaster { path, source_of: "the one in force" });
            }
        }
        Ok(())
    }
}

/// Goes on with a change that an earlier run began; answers what became of it if that ended it.
pub(super) fn resume(
    folder: &Folder,
    keys: &mut Keys,
    change: Change,
) -> Result<Option<Rotation>, KeyringError> {
    let Some(present) = keys.master.clone() else { return Ok(None) };
    let nobody_else = Mutex::new(());
    let (master, keeper) = match change {
        Change::Arrived(keeper) => (present, keeper),
        Change::Coming(next) => {
            wrap_all(folder, &nobody_else, &present, &[&present, &next.master])?;
            let (master, keeper) = (next.master.clone(), next.keeper);
            keys.next = Some(next);
            if keeper == Keeper::Operator {
                return Ok(None);
            }
            folder.replace_master(&master)?;
            take_over(keys);
            (master, keeper)
        }
    };
    let count = finish(folder, &nobody_else, &master, keeper)?;
    Ok(Some(Rotation { keys: count, master: name_of(&master), in_force: true }))
}

fn take_over(keys: &mut Keys) {
    if let Some(next) = keys.next.take() {
        keys.master = Some(next.master);
    }
}

/// Leaves every key under the master key that is in force alone.
fn finish(
    folder: &Folder,
    files: &Mutex<()>,
    master: &MasterKey,
    keeper: Keeper,
) -> Result<usize, KeyringError> {
    let count = wrap_all(folder, files, master, &[master])?;
    if keeper == Keeper::Operator {
        folder.retire("master")?;
    }
    next::over(folder)?;
    folder.sync()?;
    Ok(count)
}

/// Wraps every key by these master keys and no others, durably; answers how many. Those that are erased meanwhile are left out.
fn wrap_all(
    folder: &Folder,
    files: &Mutex<()>,
    present: &MasterKey,
    wanted: &[&MasterKey],
) -> Result<usize, KeyringError> {
    let mut count = 0;
    for path in folder.key_paths()? {
        // One file at a time: whoever makes or erases a key waits for one write and not for all.
        let _alone = alone(files);
        let Some(mut file) = Folder::key_at(&path)? else { continue };
        let Some(secret) = file.unwrap(present, &path)? else {
            return Err(KeyringError::WrongMaster { path, source_of: "the one in force" });
        };
        if file.wrap_by(&secret, wanted).map_err(folder.failed("wrapping a key for"))? {
            folder.write(&file)?;
        }
        count += 1;
    }
    folder.sync()?;
    Ok(count)
}

/// The right to change key files.
pub(super) fn alone(files: &Mutex<()>) -> MutexGuard<'_, ()> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}
