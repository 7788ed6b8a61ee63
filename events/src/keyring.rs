//! Keys: one per workspace and one for the fleet, outside of the log, so that what is sealed by one is gone with it.
//!
//! ```text
//! <keys>/master                the key that wraps the others, where none is given from outside
//! <keys>/next                  the one that takes over from it, while that lasts
//! <keys>/fleet.key             a wrapped key, one line of JSON
//! <keys>/workspace-<id>.key    likewise
//! <keys>/workspace-<id>.erased what is left of a key that was destroyed: its name
//! <keys>/workspace-<id>.lost   the names of keys that were given up as lost
//! <keys>/lost/                 keys that did not open when others were given up
//! ```
//!
//! # Guarantees
//! - A key is durable once [`Keyring::settle`] has returned, and is never made where one was destroyed.
//! - Nothing is made, and nothing opened, while keys are there that the master key does not fit.
//! - [`Keyring::erase`] has returned: the key is in no file and no memory of ours. What a file system or a disk keeps of
//!   overwritten files is beyond it; a master key that is given from outside makes that worthless too.
//!
//! It knows no facts: whoever has something to seal names the owner and a context that the sealed bytes are tied to.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{Key as CipherKey, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::envelope::StreamId;

mod files;
mod lost;
mod next;
mod rotate;
#[cfg(test)]
mod tests;

use files::{Folder, KeyFile};
use next::Next;
pub use rotate::Rotation;

/// The layout of what is sealed.
const FORMAT: u8 = 1;
const KEY_ID: usize = 8;
const NONCE: usize = 24;
const HEADER: usize = 1 + KEY_ID + NONCE;
/// How often keys are read again while somebody replaces their master key.
const READ_AGAIN: usize = 3;

/// A key's public name, by which what is sealed finds it.
pub(crate) type KeyId = [u8; KEY_ID];

/// The key that wraps all others.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; 32]>);

impl MasterKey {
    /// These bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A fresh one.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn generate() -> io::Result<Self> {
        random().map(Self::new)
    }

    /// Names it without giving it away.
    fn fingerprint(&self) -> [u8; 8] {
        let digest = blake3::derive_key("covalence 1 master key fingerprint", &*self.0);
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        first
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

/// Why keys can't be used. Nothing was made or changed then.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The file system said no.
    #[error("{step} `{path}`", path = path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Doing what.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file holds something else.
    #[error("`{path}` does not hold {what}: restore it", path = path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// Keys are there, and nothing to unwrap them with.
    #[error("`{dir}` has keys, but the master key that wraps them is not there: restore `{dir}/master`, or give the key", dir = dir.display())]
    NoMaster {
        /// The directory of the keys.
        dir: PathBuf,
    },
    /// Keys are there, and the master key is not theirs.
    #[error("`{path}` is wrapped by another master key than {source_of}: nothing was changed", path = path.display())]
    WrongMaster {
        /// The first of the keys that it does not fit.
        path: PathBuf,
        /// Where the master key came from.
        source_of: &'static str,
    },
    /// A change of the master key is under way.
    #[error("the master key is being replaced already")]
    Rotating,
    /// There is nothing to wrap.
    #[error("there is no master key yet: it is made with the first key")]
    NoKeys,
    /// A fresh master key can't be put where the present one is.
    #[error("the master key is not in a file of ours but given from outside: give the next one too")]
    KeptOutside,
    /// The next master key is the present one.
    #[error("that is the master key already")]
    SameMaster,
}

/// What sealed bytes turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Unsealed {
    /// Readable.
    Plain(Vec<u8>),
    /// Their key was destroyed.
    Erased,
    /// Their key is not here.
    Missing(KeyName),
    /// Their key is not here, and a person gave it up.
    Lost,
}

/// The name of a key that is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(pub(crate) KeyId);

/// Sealed bytes that are not what was sealed, or not in this context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sealed bytes are damaged, or were sealed elsewhere")]
pub struct Damaged;

struct Key {
    id: KeyId,
    owner: StreamId,
    cipher: XChaCha20Poly1305,
}

impl Key {
    fn new(id: KeyId, owner: StreamId, secret: &[u8; 32]) -> Self {
        Self { id, owner, cipher: XChaCha20Poly1305::new(&CipherKey::from(*secret)) }
    }
}

#[derive(Default)]
struct Keys {
    master: Option<MasterKey>,
    /// The master key that takes over, while both open the keys.
    next: Option<Next>,
    by_id: HashMap<KeyId, Arc<Key>>,
    by_owner: HashMap<StreamId, Arc<Key>>,
    /// Made, and in no file yet.
    unsettled: Vec<(Arc<Key>, Zeroizing<[u8; 32]>)>,
    erased: HashSet<StreamId>,
    erased_ids: HashSet<KeyId>,
    lost_ids: HashSet<KeyId>,
}

/// See the module.
pub struct Keyring {
    folder: Folder,
    /// Whether it may change files.
    writes: bool,
    /// Whether the master key was given from outside.
    is_given: bool,
    /// The change of the master key that opening has ended.
    rotated: Option<Rotation>,
    /// Held while the master key is replaced.
    rotating: Mutex<()>,
    /// Held while a key's file is changed. Taken after `keys`, by whoever needs both.
    files: Mutex<()>,
    keys: RwLock<Keys>,
    is_unsettled: AtomicBool,
    has_erased: AtomicBool,
    /// Nonces are this and a count: unique without asking the system for each.
    nonce_prefix: [u8; 16],
    nonce_count: AtomicU64,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("folder", &self.folder.path()).finish_non_exhaustive()
    }
}

impl Keyring {
    /// The keys in a directory, which need not exist: it is made with the first key. `given` is a master key from outside.
    /// An erasure or a change of the master key that a crash interrupted is finished.
    ///
    /// # Errors
    /// When keys are there that the master key does not fit, or can't be read.
    pub fn open(dir: &Path, given: Option<MasterKey>) -> Result<Self, KeyringError> {
        Self::load(dir, given, true)
    }

    /// Like [`Keyring::open`], and changes no file, whatever it finds and is asked for.
    ///
    /// # Errors
    /// As [`Keyring::open`].
    pub fn read(dir: &Path, given: Option<MasterKey>) -> Result<Self, KeyringError> {
        // While a server replaces its master key, the keys may be read after the master key that does not open them any more.
        for _ in 0..READ_AGAIN {
            match Self::load(dir, given.clone(), false) {
                Err(KeyringError::WrongMaster { .. }) if given.is_none() => {}
                loaded => return loaded,
            }
        }
        Self::load(dir, given, false)
    }

    fn load(dir: &Path, given: Option<MasterKey>, finish: bool) -> Result<Self, KeyringError> {
        let folder = Folder::new(dir);
        let is_given = given.is_some();
        if finish {
            folder.settle()?;
        }
        let found = folder.list()?;
        let master = match given {
            Some(master) => Some(master),
            None => folder.master()?,
        };
        let mut keys = Keys::default();
        for tombstone in found.erased {
            if finish {
                folder.destroy(tombstone.owner)?;
            }
            keys.erased_ids.extend(tombstone.ids);
            keys.erased.insert(tombstone.owner);
        }
        keys.lost_ids.extend(found.lost.into_iter().flat_map(|tombstone| tombstone.ids));
        for (path, file) in found.keys {
            if keys.erased.contains(&file.owner) {
                continue;
            }
            let Some(master) = &master else { return Err(KeyringError::NoMaster { dir: dir.to_owned() }) };
            let source_of = source_of(is_given);
            let secret = file.unwrap(master, &path)?.ok_or(KeyringError::WrongMaster { path, source_of })?;
            let key = Arc::new(Key::new(file.id, file.owner, &secret));
            keys.by_id.insert(key.id, Arc::clone(&key));
            keys.by_owner.insert(key.owner, key);
        }
        keys.master = master;
        let change = match &keys.master {
            Some(master) => next::read(&folder, master, source_of(is_given))?,
            None => None,
        };
        let rotated = match change {
            Some(change) if finish => rotate::resume(&folder, &mut keys, change)?,
            Some(_) | None => None,
        };
        let nonce_prefix =
            random().map_err(|source| folder.failed("asking for random numbers for the keys in")(source))?;
        Ok(Self {
            folder,
            writes: finish,
            is_given,
            rotated,
            rotating: Mutex::default(),
            files: Mutex::default(),
            is_unsettled: AtomicBool::new(false),
            has_erased: AtomicBool::new(!keys.erased.is_empty()),
            keys: RwLock::new(keys),
            nonce_prefix,
            nonce_count: AtomicU64::new(0),
        })
    }

    /// Seals bytes under an owner's key, which is made in memory if there is none; call [`Keyring::settle`] before what is
    /// sealed counts. `None` if the owner's key was destroyed: nothing may be kept of it any more.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn seal(
        &self,
        owner: StreamId,
        context: &[u8],
        plain: &[u8],
    ) -> Result<Option<Vec<u8>>, KeyringError> {
        let Some(key) = self.key(owner)? else { return Ok(None) };
        let mut nonce = [0; NONCE];
        nonce[..16].copy_from_slice(&self.nonce_prefix);
        nonce[16..].copy_from_slice(&self.nonce_count.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        let aad = bound(owner, context);
        let sealed = key
            .cipher
            .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: &aad })
            // Only beyond 256 GiB.
            .map_err(|_| self.folder.failed("sealing under a key in")(io::ErrorKind::FileTooLarge.into()))?;
        let mut bytes = Vec::with_capacity(HEADER + sealed.len());
        bytes.push(FORMAT);
        bytes.extend_from_slice(&key.id);
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&sealed);
        Ok(Some(bytes))
    }

    /// Opens what [`Keyring::seal`] sealed in the same context.
    ///
    /// # Errors
    /// When the key is here and does not open them.
    pub fn unseal(&self, context: &[u8], sealed: &[u8]) -> Result<Unsealed, Damaged> {
        let id = key_id(sealed)?;
        let keys = self.lock();
        let Some(key) = keys.by_id.get(&id) else {
            return Ok(if keys.erased_ids.contains(&id) {
                Unsealed::Erased
            } else if keys.lost_ids.contains(&id) {
                Unsealed::Lost
            } else {
                Unsealed::Missing(KeyName(id))
            });
        };
        let nonce: [u8; NONCE] = sealed[1 + KEY_ID..HEADER].try_into().map_err(|_| Damaged)?;
        let aad = bound(key.owner, context);
        let plain = key.cipher.decrypt(&XNonce::from(nonce), Payload { msg: &sealed[HEADER..], aad: &aad });
        plain.map(Unsealed::Plain).map_err(|_| Damaged)
    }

    /// Whether an owner's key was destroyed.
    pub fn is_erased(&self, owner: StreamId) -> bool {
        self.has_erased.load(Ordering::Acquire) && self.lock().erased.contains(&owner)
    }

    /// Makes every key durable that was made since the last call. Costs nothing when there is none. Blocks.
    ///
    /// # Errors
    /// When the file system refuses; what was sealed under a new key must not be kept then.
    pub fn settle(&self) -> Result<(), KeyringError> {
        if !self.is_unsettled.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut keys = self.lock_mut();
        if keys.unsettled.is_empty() {
            return Ok(());
        }
        self.check_writes()?;
        self.folder.create()?;
        let master = if let Some(master) = &keys.master {
            master.clone()
        } else {
            let master = self.folder.make_master()?;
            keys.master.insert(master).clone()
        };
        let by: Vec<&MasterKey> =
            [&master].into_iter().chain(keys.next.as_ref().map(|next| &next.master)).collect();
        {
            let _alone = rotate::alone(&self.files);
            for (key, secret) in &keys.unsettled {
                let file = KeyFile::wrap((key.id, key.owner), secret, &by)
                    .map_err(self.folder.failed("wrapping a key for"))?;
                self.folder.write(&file)?;
            }
            self.folder.sync()?;
        }
        keys.unsettled.clear();
        self.is_unsettled.store(false, Ordering::Release);
        Ok(())
    }

    /// Destroys an owner's key for good, and says so before the key is gone, so that a crash in between is finished by the
    /// next [`Keyring::open`]. Idempotent. Blocks.
    ///
    /// # Errors
    /// When the file system refuses. The key can't be used any more all the same, and may still be in its file.
    pub fn erase(&self, owner: StreamId) -> Result<(), KeyringError> {
        let mut keys = self.lock_mut();
        let was_erased = !keys.erased.insert(owner);
        self.has_erased.store(true, Ordering::Release);
        let key = keys.by_owner.remove(&owner);
        let ids: Vec<KeyId> =
            keys.by_id.values().filter(|key| key.owner == owner).map(|key| key.id).collect();
        for id in &ids {
            keys.by_id.remove(id);
            keys.erased_ids.insert(*id);
        }
        keys.unsettled.retain(|(key, _)| key.owner != owner);
        drop(key);
        if !self.writes || (was_erased && self.folder.is_destroyed(owner)) {
            return Ok(());
        }
        self.folder.create()?;
        let _alone = rotate::alone(&self.files);
        self.folder.bury(owner, &ids)?;
        self.folder.destroy(owner)
    }

    /// The owner's key; made if there is none, unless it was destroyed.
    fn key(&self, owner: StreamId) -> Result<Option<Arc<Key>>, KeyringError> {
        {
            let keys = self.lock();
            if let Some(key) = keys.by_owner.get(&owner) {
                return Ok(Some(Arc::clone(key)));
            }
            if keys.erased.contains(&owner) {
                return Ok(None);
            }
        }
        let mut keys = self.lock_mut();
        if let Some(key) = keys.by_owner.get(&owner) {
            return Ok(Some(Arc::clone(key)));
        }
        if keys.erased.contains(&owner) {
            return Ok(None);
        }
        let failed = |source| self.folder.failed("asking for random numbers for the keys in")(source);
        let secret = Zeroizing::new(random::<32>().map_err(failed)?);
        let key = Arc::new(Key::new(random().map_err(failed)?, owner, &secret));
        keys.by_id.insert(key.id, Arc::clone(&key));
        keys.by_owner.insert(owner, Arc::clone(&key));
        keys.unsettled.push((Arc::clone(&key), secret));
        self.is_unsettled.store(true, Ordering::Release);
        Ok(Some(key))
    }

    fn check_writes(&self) -> Result<(), KeyringError> {
        if self.writes {
            return Ok(());
        }
        Err(self.folder.failed("making a key, opened for reading only, in")(
            io::ErrorKind::PermissionDenied.into(),
        ))
    }

    fn lock(&self) -> RwLockReadGuard<'_, Keys> {
        // Nothing that runs under the lock panics half-way through a change.
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_mut(&self) -> RwLockWriteGuard<'_, Keys> {
        self.keys.write().unwrap_or_else(PoisonError::into_inner)
    }
}

const fn source_of(is_given: bool) -> &'static str {
    if is_given { "the one given" } else { "the one in `master`" }
}

/// The name of the key that sealed these bytes.
pub(crate) fn key_id(sealed: &[u8]) -> Result<KeyId, Damaged> {
    if sealed.len() < HEADER || sealed[0] != FORMAT {
        return Err(Damaged);
    }
    sealed[1..=KEY_ID].try_into().map_err(|_| Damaged)
}

/// What sealed bytes are tied to: whose they are, and the caller's context.
fn bound(owner: StreamId, context: &[u8]) -> Vec<u8> {
    let mut bound = Vec::with_capacity(18 + context.len());
    match owner {
        StreamId::Fleet => bound.push(0),
        StreamId::Workspace(id) => {
            bound.push(1);
            bound.extend_from_slice(id.0.as_bytes());
        }
    }
    bound.extend_from_slice(context);
    bound
}

/// Random bytes from the system.
fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(bytes)
}
