//! The master key that takes over. Its file says which one, wrapped by the present one, for as long as both open the keys: so
//! what one run began the next can finish, and keys that are made meanwhile are wrapped by both.

use serde::{Deserialize, Serialize};

use super::files::{Folder, Sealed, name_of};
use super::{KeyringError, MasterKey};

/// The file beside the keys.
const FILE: &str = "next";
const FORMAT: u32 = 1;

/// Who keeps a master key between starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Keeper {
    /// The file `master` beside the keys.
    File,
    /// The operator, who gives it to each start.
    Operator,
}

/// A master key that takes over from another.
#[derive(Clone, Debug)]
pub(super) struct Next {
    pub(super) master: MasterKey,
    pub(super) keeper: Keeper,
}

/// How far a change of the master key is, seen by the one that opens the keys now.
#[derive(Debug)]
pub(super) enum Change {
    /// This one takes over in the end.
    Coming(Next),
    /// The one that opens the keys is the one that takes over.
    Arrived(Keeper),
}

#[derive(Serialize, Deserialize)]
struct Text {
    format: u32,
    keeper: Keeper,
    /// The name of the key that takes over.
    master: String,
    /// That key, under the present one.
    wrapped: Sealed,
}

/// Says, durably, which master key takes over.
pub(super) fn announce(folder: &Folder, present: &MasterKey, next: &Next) -> Result<(), KeyringError> {
    let failed = folder.failed("wrapping the next master key for");
    let wrapped = Sealed::new(&next.master.0, present, &bound(next.keeper)).map_err(&failed)?;
    let text = Text { format: FORMAT, keeper: next.keeper, master: name_of(&next.master), wrapped };
    let text = serde_json::to_string(&text).map_err(|error| failed(error.into()))?;
    folder.put(FILE, text.as_bytes())?;
    folder.sync()
}

/// The change that is under way, if one is.
pub(super) fn read(
    folder: &Folder,
    master: &MasterKey,
    source_of: &'static str,
) -> Result<Option<Change>, KeyringError> {
    let Some(text) = folder.get(FILE)? else { return Ok(None) };
    let path = folder.path().join(FILE);
    let malformed = || KeyringError::Malformed { path: path.clone(), what: "the next master key" };
    let text: Text = serde_json::from_str(&text).map_err(|_| malformed())?;
    if text.format != FORMAT {
        return Err(malformed());
    }
    if text.master == name_of(master) {
        return Ok(Some(Change::Arrived(text.keeper)));
    }
    if text.wrapped.by() != name_of(master) {
        return Err(KeyringError::WrongMaster { path, source_of });
    }
    let next = text.wrapped.open(master, &bound(text.keeper)).ok_or_else(malformed)?;
    Ok(Some(Change::Coming(Next { master: MasterKey(next), keeper: text.keeper })))
}

/// The change is over; durable after [`Folder::sync`].
pub(super) fn over(folder: &Folder) -> Result<(), KeyringError> {
    folder.retire(FILE)
}

fn bound(keeper: Keeper) -> Vec<u8> {
    let keeper: &[u8] = match keeper {
        Keeper::File => b"file",
        Keeper::Operator => b"operator",
    };
    [b"covalence next master key 1\n".as_slice(), keeper].concat()
}
