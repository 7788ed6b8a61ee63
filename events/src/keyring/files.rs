//! Key files: each one line of JSON, whole or not there, for their owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{Key as CipherKey, XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{KeyId, KeyringError, MasterKey, NONCE, random};
use crate::envelope::StreamId;
use crate::log::checkpoint::{hex, unhex};

const FORMAT: u32 = 1;
/// The file of the master key, where it is kept beside the keys.
const MASTER: &str = "master";

/// A wrapped key.
#[derive(Debug)]
pub(super) struct KeyFile {
    pub(super) id: KeyId,
    pub(super) owner: StreamId,
    /// The key under one master key; under two while the master key is being replaced.
    wraps: Vec<Sealed>,
}

/// A key under one master key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sealed {
    /// The master key's name.
    master: String,
    /// Nonce and ciphertext.
    bytes: String,
}

impl Sealed {
    /// Wraps a key, tied to what it is.
    pub(super) fn new(secret: &[u8; 32], master: &MasterKey, bound: &[u8]) -> io::Result<Self> {
        let nonce: [u8; NONCE] = random()?;
        let wrapped = cipher(master)
            .encrypt(&XNonce::from(nonce), Payload { msg: secret, aad: bound })
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(Self { master: name_of(master), bytes: hex(&[&nonce[..], &wrapped].concat()) })
    }

    /// The name of the master key that opens it.
    pub(super) fn by(&self) -> &str {
        &self.master
    }

    /// The key; none if it is not what was wrapped, or not by this master key.
    pub(super) fn open(&self, master: &MasterKey, bound: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
        let bytes: [u8; NONCE + 32 + 16] = unhex(&self.bytes)?;
        let nonce: [u8; NONCE] = bytes[..NONCE].try_into().ok()?;
        let payload = Payload { msg: &bytes[NONCE..], aad: bound };
        let secret = Zeroizing::new(cipher(master).decrypt(&XNonce::from(nonce), payload).ok()?);
        let secret: [u8; 32] = secret.as_slice().try_into().ok()?;
        Some(Zeroizing::new(secret))
    }
}

/// A master key's name: nothing can be learned of the key from it.
pub(super) fn name_of(master: &MasterKey) -> String {
    hex(&master.fingerprint())
}

/// A key file as text.
#[derive(Serialize, Deserialize)]
struct KeyText {
    format: u32,
    owner: String,
    id: String,
    wraps: Vec<Sealed>,
}

/// What is left of a key that was destroyed.
#[derive(Debug)]
pub(super) struct Tombstone {
    pub(super) owner: StreamId,
    pub(super) ids: Vec<KeyId>,
}

#[derive(Serialize, Deserialize)]
struct TombstoneText {
    format: u32,
    owner: String,
    ids: Vec<String>,
}

impl KeyFile {
    /// Wraps a key by these master keys.
    pub(super) fn wrap(
        (id, owner): (KeyId, StreamId),
        secret: &[u8; 32],
        wanted: &[&MasterKey],
    ) -> io::Result<Self> {
        let mut file = Self { id, owner, wraps: Vec::new() };
        file.wrap_by(secret, wanted)?;
        Ok(file)
    }

    /// Wraps the key by these master keys and no others; answers whether that changes anything.
    pub(super) fn wrap_by(&mut self, secret: &[u8; 32], wanted: &[&MasterKey]) -> io::Result<bool> {
        let names: Vec<String> = wanted.iter().map(|master| name_of(master)).collect();
        let before = self.wraps.len();
        self.wraps.retain(|wrap| names.contains(&wrap.master));
        let mut changed = self.wraps.len() != before;
        for master in wanted {
            if !self.wraps.iter().any(|wrap| wrap.master == name_of(master)) {
                self.wraps.push(Sealed::new(secret, master, &self.bound())?);
                changed = true;
            }
        }
        Ok(changed)
    }

    /// The key; `None` if it is wrapped by other master keys only.
    pub(super) fn unwrap(
        &self,
        master: &MasterKey,
        path: &Path,
    ) -> Result<Option<Zeroizing<[u8; 32]>>, KeyringError> {
        let name = name_of(master);
        let Some(wrap) = self.wraps.iter().find(|wrap| wrap.master == name) else { return Ok(None) };
        let malformed = || KeyringError::Malformed { path: path.to_owned(), what: "a key" };
        wrap.open(master, &self.bound()).map(Some).ok_or_else(malformed)
    }

    fn bound(&self) -> Vec<u8> {
        let mut bound = b"covalence key 1\n".to_vec();
        bound.extend_from_slice(&self.id);
        bound.extend_from_slice(self.owner.to_string().as_bytes());
        bound
    }

    fn parse(text: &str) -> Option<Self> {
        let text: KeyText = serde_json::from_str(text).ok()?;
        if text.format != FORMAT {
            return None;
        }
        Some(Self { id: unhex(&text.id)?, owner: text.owner.parse().ok()?, wraps: text.wraps })
    }

    fn text(&self) -> serde_json::Result<String> {
        serde_json::to_string(&KeyText {
            format: FORMAT,
            owner: self.owner.to_string(),
            id: hex(&self.id),
            wraps: self.wraps.clone(),
        })
    }
}

fn cipher(master: &MasterKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&CipherKey::from(*master.0))
}

/// What a directory has.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) keys: Vec<(PathBuf, KeyFile)>,
    pub(super) erased: Vec<Tombstone>,
    pub(super) lost: Vec<Tombstone>,
}

/// The directory.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Changes that the disk still makes.
    #[cfg(test)]
    pub(super) steps: std::sync::atomic::AtomicUsize,
}

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            #[cfg(test)]
            steps: std::sync::atomic::AtomicUsize::new(usize::MAX),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn failed(&self, step: &'static str) -> impl Fn(io::Error) -> KeyringError + use<> {
        failed(&self.path, step)
    }

    /// All keys and tombstones; nothing where the directory is not there.
    pub(super) fn list(&self) -> Result<Found, KeyringError> {
        let mut found = Found::default();
        for path in self.key_paths()? {
            if let Some(file) = Self::key_at(&path)? {
                found.keys.push((path, file));
            }
        }
        found.erased = self.tombstones("erased")?;
        found.lost = self.tombstones("lost")?;
        Ok(found)
    }

    /// The files of keys.
    pub(super) fn key_paths(&self) -> Result<Vec<PathBuf>, KeyringError> {
        self.paths("key")
    }

    fn tombstones(&self, kind: &str) -> Result<Vec<Tombstone>, KeyringError> {
        let read = |path: PathBuf| {
            let text = fs::read_to_string(&path).map_err(failed(&path, "reading"))?;
            let malformed = || KeyringError::Malformed { path, what: "the names of keys" };
            Tombstone::parse(&text).ok_or_else(malformed)
        };
        self.paths(kind)?.into_iter().map(read).collect()
    }

    fn paths(&self, kind: &str) -> Result<Vec<PathBuf>, KeyringError> {
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.failed("looking into")(error)),
        };
        let paths = entries.map(|entry| entry.map(|entry| entry.path()).map_err(self.failed("looking into")));
        let paths = paths.collect::<Result<Vec<_>, _>>()?;
        Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == kind)).collect())
    }

    /// The key in a file; none if it is not there, or was destroyed as far as its name: a crash in the middle of that may have
    /// left anything in the file.
    pub(super) fn key_at(path: &Path) -> Result<Option<KeyFile>, KeyringError> {
        if path.with_extension("erased").exists() {
            return Ok(None);
        }
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(path, "reading")(error)),
        };
        let malformed = || KeyringError::Malformed { path: path.to_owned(), what: "a key" };
        KeyFile::parse(&text).map(Some).ok_or_else(malformed)
    }

    /// A file's text, if it is there.
    pub(super) fn get(&self, name: &str) -> Result<Option<String>, KeyringError> {
        let path = self.path.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&path, "reading")(error)),
        }
    }

    /// The master key in its file, if there is one.
    pub(super) fn master(&self) -> Result<Option<MasterKey>, KeyringError> {
        let Some(text) = self.get(MASTER)?.map(Zeroizing::new) else { return Ok(None) };
        let malformed = || KeyringError::Malformed { path: self.path.join(MASTER), what: "a key" };
        unhex(text.trim()).map(|bytes| Some(MasterKey::new(bytes))).ok_or_else(malformed)
    }

    /// Makes a master key, durably.
    pub(super) fn make_master(&self) -> Result<MasterKey, KeyringError> {
        let master = MasterKey::generate().map_err(self.failed("asking for random numbers for a key in"))?;
        self.put_master(&master)?;
        Ok(master)
    }

    /// Puts a master key in the place of another's, durably, and overwrites that one.
    pub(super) fn replace_master(&self, master: &MasterKey) -> Result<(), KeyringError> {
        let path = self.path.join(MASTER);
        let old = match OpenOptions::new().write(true).open(&path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(&path, "overwriting")(error)),
        };
        self.put_master(master)?;
        old.map_or(Ok(()), |file| overwrite(file).map_err(failed(&path, "overwriting")))
    }

    fn put_master(&self, master: &MasterKey) -> Result<(), KeyringError> {
        let text = Zeroizing::new(format!("{}\n", hex(&*master.0)));
        self.put(MASTER, text.as_bytes())?;
        self.sync()
    }

    /// Removes a file that may not be there, after overwriting it; durable after [`Folder::sync`].
    pub(super) fn shred(&self, name: &str) -> Result<(), KeyringError> {
        let path = self.path.join(name);
        let file = match OpenOptions::new().write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(&path, "overwriting")(error)),
        };
        self.spend(&path)?;
        overwrite(file).map_err(failed(&path, "overwriting"))?;
        self.spend(&path)?;
        fs::remove_file(&path).map_err(failed(&path, "removing"))
    }

    /// Removes a file that may not be there, and overwrites it then: a crash in between leaves nothing that can't be read.
    /// Durable after [`Folder::sync`].
    pub(super) fn retire(&self, name: &str) -> Result<(), KeyringError> {
        let path = self.path.join(name);
        let file = match OpenOptions::new().write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(&path, "overwriting")(error)),
        };
        self.spend(&path)?;
        fs::remove_file(&path).map_err(failed(&path, "removing"))?;
        self.sync()?;
        overwrite(file).map_err(failed(&path, "overwriting"))
    }

    /// Makes what is in it durable, if it is there: a process that was killed may have left keys whose names are only in memory, and
    /// facts are sealed by them from now on.
    pub(super) fn settle(&self) -> Result<(), KeyringError> {
        if self.path.is_dir() {
            self.sync()?;
            self.sync_parent()?;
        }
        Ok(())
    }

    /// Creates the directory for its owner alone.
    pub(super) fn create(&self) -> Result<(), KeyringError> {
        if self.path.is_dir() {
            return Ok(());
        }
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path);
        made.map_err(self.failed("creating"))?;
        self.sync_parent()
    }

    fn sync_parent(&self) -> Result<(), KeyringError> {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        parent.map_or(Ok(()), sync_dir).map_err(self.failed("syncing the directory around"))
    }

    /// Writes a key's file; durable after [`Folder::sync`].
    pub(super) fn write(&self, file: &KeyFile) -> Result<(), KeyringError> {
        let name = file_name(file.owner, "key");
        let text = file.text().map_err(|error| failed(&self.path.join(&name), "writing")(error.into()))?;
        self.put(&name, text.as_bytes())
    }

    /// Says, durably, that an owner's keys are destroyed.
    pub(super) fn bury(&self, owner: StreamId, ids: &[KeyId]) -> Result<(), KeyringError> {
        self.put_tombstone(owner, "erased", ids)
    }

    /// Says, durably, that an owner's keys are lost.
    pub(super) fn give_up(&self, owner: StreamId, ids: &[KeyId]) -> Result<(), KeyringError> {
        self.put_tombstone(owner, "lost", ids)
    }

    fn put_tombstone(&self, owner: StreamId, kind: &str, ids: &[KeyId]) -> Result<(), KeyringError> {
        let name = file_name(owner, kind);
        let known = self.get(&name)?.and_then(|text| Tombstone::parse(&text));
        let known = known.map(|tombstone| tombstone.ids).unwrap_or_default();
        let text = TombstoneText {
            format: FORMAT,
            owner: owner.to_string(),
            ids: known.iter().chain(ids).map(|id| hex(id)).collect(),
        };
        let text = serde_json::to_string(&text);
        let text = text.map_err(|error| failed(&self.path.join(&name), "writing")(error.into()))?;
        self.put(&name, text.as_bytes())?;
        self.sync()
    }

    /// Removes an owner's key file, durably, if there is one.
    pub(super) fn destroy(&self, owner: StreamId) -> Result<(), KeyringError> {
        if self.path.join(file_name(owner, "key")).exists() {
            self.shred(&file_name(owner, "key"))?;
            self.sync()?;
        }
        Ok(())
    }

    /// Whether nothing is left to do about a destroyed key.
    pub(super) fn is_destroyed(&self, owner: StreamId) -> bool {
        self.path.join(file_name(owner, "erased")).exists()
            && !self.path.join(file_name(owner, "key")).exists()
    }

    pub(super) fn sync(&self) -> Result<(), KeyringError> {
        sync_dir(&self.path).map_err(self.failed("syncing"))
    }

    /// Writes a file, whole or not at all; durable after [`Folder::sync`].
    pub(super) fn put(&self, name: &str, text: &[u8]) -> Result<(), KeyringError> {
        let path = self.path.join(name);
        let temporary = self.path.join(format!("{name}.tmp"));
        self.spend(&path)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(failed(&temporary, "creating"))?;
        file.write_all(text).and_then(|()| file.sync_all()).map_err(failed(&temporary, "writing"))?;
        self.spend(&path)?;
        fs::rename(&temporary, &path).map_err(failed(&path, "replacing"))
    }

    /// A step that changes a file. In tests the disk may refuse it, and every later one, as if the process had ended before it.
    #[cfg(test)]
    fn spend(&self, path: &Path) -> Result<(), KeyringError> {
        use std::sync::atomic::Ordering;
        let left = self.steps.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| failed(path, "changing")(io::ErrorKind::Interrupted.into()))
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "it does something in tests alone")]
    fn spend(&self, _: &Path) -> Result<(), KeyringError> {
        Ok(())
    }
}

/// Makes what a file holds unreadable, as far as the file system does what it says.
fn overwrite(mut file: File) -> io::Result<()> {
    let length = file.metadata()?.len();
    let noise: [u8; 512] = random()?;
    let noise = noise.iter().copied().cycle().take(usize::try_from(length).unwrap_or(usize::MAX));
    let noise: Vec<u8> = noise.collect();
    file.write_all(&noise).and_then(|()| file.sync_all())
}

impl Tombstone {
    fn parse(text: &str) -> Option<Self> {
        let text: TombstoneText = serde_json::from_str(text).ok()?;
        let ids = text.ids.iter().map(|id| unhex(id)).collect::<Option<_>>()?;
        (text.format == FORMAT).then_some(())?;
        Some(Self { owner: text.owner.parse().ok()?, ids })
    }
}

fn file_name(owner: StreamId, kind: &str) -> String {
    match owner {
        StreamId::Fleet => format!("fleet.{kind}"),
        StreamId::Workspace(id) => format!("workspace-{id}.{kind}"),
    }
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn failed(path: &Path, step: &'static str) -> impl Fn(io::Error) -> KeyringError + use<> {
    let path = path.to_owned();
    move |source| KeyringError::Io { path: path.clone(), step, source }
}
