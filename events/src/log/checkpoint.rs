//! Signed checkpoints: at a position the chain had this link, said a key at a time.
//!
//! The chain alone shows that a log is consistent, not that it is the one that was. Who can write the data directory
//! can write another history with a chain of its own, and sign it anew with the key that lies there. What such a person
//! can't do is change a checkpoint that was copied elsewhere: held against it, the rewritten log no longer fits.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, Utc};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde_json::{Value, json};

use super::{Frames, ReadError, Verified};
use crate::envelope::Timestamp;
use crate::id::Position;
use crate::log::frame::Link;

/// Before what is signed, so that a signature can't be taken for one of anything else.
const DOMAIN: &[u8] = b"covalence checkpoint 1\n";

/// A file of checkpoints longer than this is not one: 64 MiB are more than ten years of them.
const BYTES_MAX: u64 = 64 << 20;

/// The public half of a checkpoint key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    pub(super) const fn new(key: [u8; 32]) -> Self {
        Self(key)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl FromStr for PublicKey {
    type Err = NoCheckpoint;

    fn from_str(text: &str) -> Result<Self, NoCheckpoint> {
        let bytes = unhex(text).ok_or(NoCheckpoint("a public key has 64 hexadecimal digits"))?;
        VerifyingKey::from_bytes(&bytes).map_err(|_| NoCheckpoint("these digits are no public key"))?;
        Ok(Self(bytes))
    }
}

/// Why a text is not a checkpoint, or not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoCheckpoint(&'static str);

/// See the module. As text it is one line of JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// After this position …
    pub position: Position,
    /// … the chain had this link.
    pub link: Link,
    /// When that was said.
    pub at: Timestamp,
    /// Who said it.
    pub key: PublicKey,
    signature: [u8; 64],
}

impl Checkpoint {
    /// Whether it is signed by the key that it names.
    pub fn is_signed(&self) -> bool {
        let message = message(self.position, &self.link, self.at);
        is_signed_by(&self.key.0, &message, &self.signature)
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = json!({
            "position": self.position.0,
            "chain": hex(&self.link),
            "at": self.at.to_rfc3339_opts(SecondsFormat::Micros, true),
            "key": hex(&self.key.0),
            "signature": hex(&self.signature),
        });
        line.fmt(f)
    }
}

impl FromStr for Checkpoint {
    type Err = NoCheckpoint;

    fn from_str(text: &str) -> Result<Self, NoCheckpoint> {
        let wrong = NoCheckpoint("it is not a checkpoint");
        let line: Value = serde_json::from_str(text).map_err(|_| wrong)?;
        let field = |name: &str| line.get(name).and_then(Value::as_str).ok_or(wrong);
        let at = DateTime::parse_from_rfc3339(field("at")?).map_err(|_| wrong)?;
        Ok(Self {
            position: Position(line.get("position").and_then(Value::as_u64).ok_or(wrong)?),
            link: unhex(field("chain")?).ok_or(wrong)?,
            at: at.with_timezone(&Utc),
            key: field("key")?.parse()?,
            signature: unhex(field("signature")?).ok_or(wrong)?,
        })
    }
}

/// Signs checkpoints.
pub struct Signer {
    key: SigningKey,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("public", &self.public()).finish_non_exhaustive()
    }
}

impl Signer {
    /// Says which link the chain has at a position.
    pub fn sign(&self, position: Position, link: Link, at: Timestamp) -> Checkpoint {
        // As much of the time as its text keeps.
        let at = DateTime::from_timestamp_micros(at.timestamp_micros()).unwrap_or(at);
        let signature = self.key.sign(&message(position, &link, at)).to_bytes();
        Checkpoint { position, link, at, key: self.public(), signature }
    }

    /// Signs anything: the key's public half, and the signature.
    pub(super) fn sign_message(&self, message: &[u8]) -> ([u8; 32], [u8; 64]) {
        (self.public().0, self.key.sign(message).to_bytes())
    }

    /// What its signatures are checked by.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.key.verifying_key().to_bytes())
    }
}

/// A log's own checkpoints, and the key that signs them.
#[derive(Clone, Debug)]
pub struct Book {
    root: PathBuf,
}

impl Book {
    /// Those of the log in this directory.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The key; made, for its owner alone, where there is none yet.
    ///
    /// # Errors
    /// When the file system refuses, or the file holds something else.
    pub fn signer(&self) -> io::Result<Signer> {
        let path = self.root.join("checkpoint-key");
        match fs::read_to_string(&path) {
            Ok(text) => match unhex(text.trim()) {
                Some(secret) => Ok(Signer { key: SigningKey::from_bytes(&secret) }),
                None => Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!(
                        "`{}` does not hold a key: restore it, or move it away for a new one",
                        path.display()
                    ),
                )),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make(&path),
            Err(error) => Err(error),
        }
    }

    /// The public half of the key, if there is one.
    ///
    /// # Errors
    /// As [`Book::signer`].
    pub fn public(&self) -> io::Result<Option<PublicKey>> {
        if !self.root.join("checkpoint-key").try_exists()? {
            return Ok(None);
        }
        self.signer().map(|signer| Some(signer.public()))
    }

    /// The keys that this log's own signatures may be of: the one that is there, and those of its checkpoints, which come along when
    /// a log is restored without its key.
    pub(super) fn keys(&self) -> Vec<PublicKey> {
        let checkpoints = self.read().map(|(checkpoints, _)| checkpoints).unwrap_or_default();
        let signed = checkpoints.iter().filter(|checkpoint| checkpoint.is_signed()).map(|one| one.key);
        let mut keys: Vec<PublicKey> = Vec::new();
        for key in self.public().ok().flatten().into_iter().chain(signed) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys
    }

    fn make(&self, path: &Path) -> io::Result<Signer> {
        let mut secret = [0; 32];
        let mut filled = 0;
        while filled < secret.len() {
            filled += rustix::rand::getrandom(&mut secret[filled..], rustix::rand::GetRandomFlags::empty())?;
        }
        let temporary = self.root.join("checkpoint-key.tmp");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(format!("{}\n", hex(&secret)).as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(&self.root)?.sync_all()?;
        Ok(Signer { key: SigningKey::from_bytes(&secret) })
    }

    /// Adds checkpoints; durable on return.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn add(&self, checkpoints: &[Checkpoint]) -> io::Result<()> {
        let path = self.path();
        let is_new = !path.try_exists()?;
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        // What a crash left half written was never a checkpoint.
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64)?;
        file.seek(SeekFrom::End(0))?;
        // In one write, so that a crash leaves at most one line half written.
        let lines: Vec<String> = checkpoints.iter().map(Checkpoint::to_string).collect();
        if !lines.is_empty() {
            file.write_all((lines.join("\n") + "\n").as_bytes())?;
        }
        file.sync_all()?;
        if is_new {
            File::open(&self.root)?.sync_all()?;
        }
        Ok(())
    }

    /// All checkpoints, and what is wrong with lines that are none.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn read(&self) -> io::Result<(Vec<Checkpoint>, Vec<String>)> {
        match File::open(self.path()) {
            Ok(file) => {
                let mut text = String::new();
                file.take(BYTES_MAX).read_to_string(&mut text)?;
                Ok(parse(&text))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((Vec::new(), Vec::new())),
            Err(error) => Err(error),
        }
    }

    fn path(&self) -> PathBuf {
        self.root.join("checkpoints")
    }
}

/// The checkpoints of a text with one a line, and what is wrong with the other lines.
pub fn parse(text: &str) -> (Vec<Checkpoint>, Vec<String>) {
    let (mut checkpoints, mut problems) = (Vec::new(), Vec::new());
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match line.parse() {
            Ok(checkpoint) => checkpoints.push(checkpoint),
            Err(wrong) => problems.push(format!("line {} of the checkpoints: {wrong}", number + 1)),
        }
    }
    (checkpoints, problems)
}

/// What is wrong with a log by these checkpoints. With `keys`, only theirs are believed; otherwise each is checked by
/// the key that it names. Blocks.
pub fn check(log: &dyn Frames, checkpoints: &[Checkpoint], keys: &[PublicKey]) -> Vec<String> {
    let link = |position| log.link(position);
    checkpoints.iter().filter_map(|checkpoint| flaw(checkpoint, keys, &link, log.head())).collect()
}

/// What is wrong with one checkpoint, or with the log by it.
pub(super) fn flaw(
    checkpoint: &Checkpoint,
    keys: &[PublicKey],
    link: &dyn Fn(Position) -> Result<Option<Link>, ReadError>,
    head: Position,
) -> Option<String> {
    let Checkpoint { position, at, key, .. } = checkpoint;
    let at = at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let wrong = if !checkpoint.is_signed() {
        "its signature does not fit".to_owned()
    } else if !keys.is_empty() && !keys.contains(key) {
        format!("it is signed by another key, {key}")
    } else {
        match link(*position) {
            Ok(Some(link)) if link == checkpoint.link => return None,
            Ok(Some(link)) => format!(
                "history was rewritten: the chain had {}, it has {}",
                hex(&checkpoint.link),
                hex(&link)
            ),
            Ok(None) => format!("the log ends at {head}, before it"),
            Err(error) => format!("the chain can't be read there: {error}"),
        }
    };
    Some(format!("checkpoint at position {position} of {at}: {wrong}"))
}

/// Adds what the log's own checkpoints say to a check of the log.
pub(super) fn complete(mut verified: Verified, root: &Path, log: &dyn Frames) -> Result<Verified, ReadError> {
    let read = Book::new(root).read();
    let (checkpoints, unreadable) = read.map_err(|error| ReadError::Store {
        what: "the checkpoints".to_owned(),
        reason: error.to_string(),
    })?;
    verified.checkpoints = checkpoints.len() as u64;
    verified.problems.extend(unreadable);
    verified.problems.extend(check(log, &checkpoints, &[]));
    Ok(verified)
}

/// Whether a signature of a message is this key's.
pub(super) fn is_signed_by(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(key)
        .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
}

fn message(position: Position, link: &Link, at: Timestamp) -> Vec<u8> {
    let mut message = DOMAIN.to_vec();
    message.extend_from_slice(&position.0.to_be_bytes());
    message.extend_from_slice(link);
    message.extend_from_slice(&at.timestamp_micros().to_be_bytes());
    message
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]).collect()
}

pub(crate) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != N * 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}
