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

/// A wrapped key.
#[derive(Debug)]
pub(super) struct KeyFile {
    pub(super) id: KeyId,
    pub(super) owner: StreamId,
    /// The key under one master key; under two while the master key is being replaced.
    wraps: Vec<Wrap>,
}

/// A key under one master key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Wrap {
    /// The master key's fingerprint.
    master: String,
    /// Nonce and ciphertext.
    bytes: String,
}

/// A key file as text.
#[derive(Serialize, Deserialize)]
struct KeyText {
    format: u32,
    owner: String,
    id: String,
    wraps: Vec<Wrap>,
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
    /// Wraps a key.
    pub(super) fn wrap(
        (id, owner): (KeyId, StreamId),
        secret: &[u8; 32],
        master: &MasterKey,
    ) -> io::Result<Self> {
        let mut file = Self { id, owner, wraps: Vec::new() };
        file.add(secret, master)?;
        Ok(file)
    }

    /// Wraps the key under one more master key.
    pub(super) fn add(&mut self, secret: &[u8; 32], master: &MasterKey) -> io::Result<()> {
        let nonce: [u8; NONCE] = random()?;
        let aad = self.bound();
        let wrapped = cipher(master)
            .encrypt(&XNonce::from(nonce), Payload { msg: secret, aad: &aad })
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let name = hex(&master.fingerprint());
        self.wraps.retain(|wrap| wrap.master != name);
        self.wraps.push(Wrap { master: name, bytes: hex(&[&nonce[..], &wrapped].concat()) });
        Ok(())
    }

    /// Leaves it under this master key alone.
    pub(super) fn keep_only(&mut self, master: &MasterKey) {
        let name = hex(&master.fingerprint());
        self.wraps.retain(|wrap| wrap.master == name);
    }

    /// The key; `None` if it is wrapped by other master keys only.
    pub(super) fn unwrap(
        &self,
        master: &MasterKey,
        path: &Path,
    ) -> Result<Option<Zeroizing<[u8; 32]>>, KeyringError> {
        let name = hex(&master.fingerprint());
        let Some(wrap) = self.wraps.iter().find(|wrap| wrap.master == name) else { return Ok(None) };
        let malformed = || KeyringError::Malformed { path: path.to_owned(), what: "a key" };
        let bytes: [u8; NONCE + 32 + 16] = unhex(&wrap.bytes).ok_or_else(malformed)?;
        let nonce: [u8; NONCE] = bytes[..NONCE].try_into().map_err(|_| malformed())?;
        let payload = Payload { msg: &bytes[NONCE..], aad: &self.bound() };
        let secret = cipher(master).decrypt(&XNonce::from(nonce), payload).map_err(|_| malformed())?;
        let secret = Zeroizing::new(secret);
        let secret: [u8; 32] = secret.as_slice().try_into().map_err(|_| malformed())?;
        Ok(Some(Zeroizing::new(secret)))
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
}

/// The directory.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn failed(&self, step: &'static str) -> impl Fn(io::Error) -> KeyringError + use<> {
        failed(&self.path, step)
    }

    /// All keys and tombstones; nothing where the directory is not there.
    pub(super) fn list(&self) -> Result<Found, KeyringError> {
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::default()),
            Err(error) => return Err(self.failed("looking into")(error)),
        };
        let mut found = Found::default();
        for entry in entries {
            let path = entry.map_err(self.failed("looking into"))?.path();
            let Some(kind) = path.extension().and_then(std::ffi::OsStr::to_str) else { continue };
            if !matches!(kind, "key" | "erased") {
                continue;
            }
            let text = fs::read_to_string(&path).map_err(failed(&path, "reading"))?;
            if kind == "key" {
                let malformed = || KeyringError::Malformed { path: path.clone(), what: "a key" };
                let file = KeyFile::parse(&text).ok_or_else(malformed)?;
                found.keys.push((path, file));
            } else {
                let malformed =
                    || KeyringError::Malformed { path: path.clone(), what: "the name of a destroyed key" };
                found.erased.push(Tombstone::parse(&text).ok_or_else(malformed)?);
            }
        }
        Ok(found)
    }

    /// The master key in its file, if there is one.
    pub(super) fn master(&self) -> Result<Option<MasterKey>, KeyringError> {
        let path = self.path.join("master");
        let text = match fs::read_to_string(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&path, "reading")(error)),
        };
        let bytes = unhex(text.trim());
        bytes.map(|bytes| Some(MasterKey::new(bytes))).ok_or(KeyringError::Malformed { path, what: "a key" })
    }

    /// Makes a master key, durably.
    pub(super) fn make_master(&self) -> Result<MasterKey, KeyringError> {
        let master = MasterKey::generate().map_err(self.failed("asking for random numbers for a key in"))?;
        self.put_master("master", &master)?;
        Ok(master)
    }

    /// Writes a master key under a name, durably.
    pub(super) fn put_master(&self, name: &str, master: &MasterKey) -> Result<(), KeyringError> {
        let text = Zeroizing::new(format!("{}\n", hex(&*master.0)));
        Self::put(&self.path.join(name), text.as_bytes())?;
        self.sync()
    }

    /// Puts one master key's file in the place of another's.
    pub(super) fn promote(&self, from: &str, to: &str) -> Result<(), KeyringError> {
        let (from, to) = (self.path.join(from), self.path.join(to));
        fs::rename(&from, &to).map_err(failed(&to, "replacing"))?;
        self.sync()
    }

    /// Removes a file that may not be there, after overwriting it; durable after [`Folder::sync`].
    pub(super) fn shred(&self, name: &str) -> Result<(), KeyringError> {
        let path = self.path.join(name);
        let mut file = match OpenOptions::new().write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(&path, "overwriting")(error)),
        };
        let length = file.metadata().map_err(failed(&path, "overwriting"))?.len();
        let noise: [u8; 512] = random().map_err(failed(&path, "overwriting"))?;
        let noise = noise.iter().copied().cycle().take(usize::try_from(length).unwrap_or(usize::MAX));
        let noise: Vec<u8> = noise.collect();
        file.write_all(&noise).and_then(|()| file.sync_all()).map_err(failed(&path, "overwriting"))?;
        fs::remove_file(&path).map_err(failed(&path, "removing"))
    }

    /// Creates the directory for its owner alone.
    pub(super) fn create(&self) -> Result<(), KeyringError> {
        if self.path.is_dir() {
            return Ok(());
        }
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path);
        made.map_err(self.failed("creating"))?;
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        parent.map_or(Ok(()), sync_dir).map_err(self.failed("syncing the directory around"))
    }

    /// Writes a key's file; durable after [`Folder::sync`].
    pub(super) fn write(&self, file: &KeyFile) -> Result<(), KeyringError> {
        let path = self.path.join(file_name(file.owner, "key"));
        let text = file.text().map_err(|error| failed(&path, "writing")(error.into()))?;
        Self::put(&path, text.as_bytes())
    }

    /// Says, durably, that an owner's keys are destroyed.
    pub(super) fn bury(&self, owner: StreamId, ids: &[KeyId]) -> Result<(), KeyringError> {
        let path = self.path.join(file_name(owner, "erased"));
        let known = match fs::read_to_string(&path) {
            Ok(text) => Tombstone::parse(&text).map(|tombstone| tombstone.ids).unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        let text = TombstoneText {
            format: FORMAT,
            owner: owner.to_string(),
            ids: known.iter().chain(ids).map(|id| hex(id)).collect(),
        };
        let text = serde_json::to_string(&text).map_err(|error| failed(&path, "writing")(error.into()))?;
        Self::put(&path, text.as_bytes())?;
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

    fn put(path: &Path, text: &[u8]) -> Result<(), KeyringError> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(failed(&temporary, "creating"))?;
        file.write_all(text).and_then(|()| file.sync_all()).map_err(failed(&temporary, "writing"))?;
        fs::rename(&temporary, path).map_err(failed(path, "replacing"))
    }
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
