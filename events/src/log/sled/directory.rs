//! The log's directory: what lies where, who holds it, which format it has, and how far it was acknowledged.
//!
//! ```text
//! <log>/LOCK          held by an advisory lock while a process has the log open; says which
//! <log>/format        the number of the layout
//! <log>/high-water    the last acknowledged position, outside of sled: tells an empty log from a lost one
//! <log>/store/        sled; once it was rolled, store-1/, store-2/ and so on
//! <log>/archive/      what was rolled, compressed
//! <log>/blobs/        large payloads, by digest
//! <log>/quarantine/   what a repair cut off
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::id::Position;
use crate::log::OpenError;

/// The newest layout that this program reads, and the one it writes from the first time on that a log is rolled.
pub const FORMAT: u32 = 2;

/// The layout of a log that was never rolled: everything is in `store`.
const FORMAT_UNROLLED: u32 = 1;

/// Begins the names of sled's databases.
const STORE: &str = "store";

/// The directory of parts that were rolled.
pub(super) const ARCHIVE: &str = "archive";

/// The directory of large payloads.
pub(super) const BLOBS: &str = "blobs";

/// Ends the names of databases that are not finished, or not wanted any more.
const UNFINISHED: &str = "tmp";

const HIGH_WATER_LEN: usize = 12;

/// Turns an I/O error into an [`OpenError`] that says what was being done to what.
pub(super) fn failed(path: &Path, step: &'static str) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |error| OpenError::Store { path, step, reason: error.to_string() }
}

/// Makes a directory's entries durable.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// See the module. Holds the lock while it lives.
#[derive(Debug)]
pub(crate) struct Directory {
    root: PathBuf,
    _lock: File,
}

impl Directory {
    /// Takes the directory, creating it if it is not there.
    pub(super) fn take(root: &Path) -> Result<Self, OpenError> {
        // What workspaces said is in here: for its owner alone, whatever the directory around it allows.
        let private = fs::DirBuilder::new().recursive(true).mode(0o700).create(root);
        private.map_err(failed(root, "create the log's directory"))?;
        let lock = lock(root)?;
        let directory = Self { root: root.to_owned(), _lock: lock };
        directory.check_format()?;
        if directory.stores()?.is_empty() {
            let path = directory.store(0);
            fs::create_dir_all(&path).map_err(failed(&path, "create a directory"))?;
        }
        for path in [directory.blobs(), directory.quarantine()] {
            fs::create_dir_all(&path).map_err(failed(&path, "create a directory"))?;
        }
        sync_dir(root).map_err(failed(root, "sync the log's directory"))?;
        // A process that was killed may have left a folder in it whose name is only in memory.
        sync_dir(&directory.blobs()).map_err(failed(root, "sync the directory of large payloads"))?;
        if let Some(parent) = root.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_dir(parent).map_err(failed(parent, "sync the data directory"))?;
        }
        Ok(directory)
    }

    /// The directory itself.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of one of sled's databases.
    pub(super) fn store(&self, number: u32) -> PathBuf {
        self.root.join(store_name(number))
    }

    /// The numbers of sled's databases, oldest first.
    pub(super) fn stores(&self) -> Result<Vec<u32>, OpenError> {
        stores(&self.root).map_err(failed(&self.root, "list the log's directory"))
    }

    /// Where sled's databases are, oldest first.
    pub(super) fn store_places(&self) -> Result<Vec<PathBuf>, OpenError> {
        Ok(self.stores()?.into_iter().map(|number| self.store(number)).collect())
    }

    /// Removes databases that were never finished, or not removed as a whole.
    pub(super) fn tidy(&self) -> Result<(), OpenError> {
        let remove = || -> io::Result<()> {
            for entry in fs::read_dir(&self.root)? {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == UNFINISHED) && path.is_dir() {
                    fs::remove_dir_all(path)?;
                }
            }
            Ok(())
        };
        remove().map_err(failed(&self.root, "remove what was left unfinished"))
    }

    /// Parts that were rolled.
    pub(super) fn archive(&self) -> PathBuf {
        self.root.join(ARCHIVE)
    }

    /// Says that older programs can't read this log any more, from before the first thing on that they can't read.
    pub(super) fn raise_format(&self) -> io::Result<()> {
        let path = self.root.join("format");
        if fs::read_to_string(&path)?.trim() == FORMAT.to_string() {
            return Ok(());
        }
        write_durably(&path, format!("{FORMAT}\n").as_bytes())
    }

    /// Large payloads.
    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join(BLOBS)
    }

    /// What repairs cut off.
    pub(super) fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// Opens the high-water mark and reads it. `None` if there is none, or none that can be believed.
    pub(super) fn high_water(&self) -> Result<(HighWater, Option<Position>), OpenError> {
        let path = self.root.join("high-water");
        let is_new = !path.exists();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed(&path, "open the high-water mark"))?;
        if is_new {
            // A sync of the file says nothing about its name.
            sync_dir(&self.root).map_err(failed(&path, "keep the high-water mark"))?;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed(&path, "read the high-water mark"))?;
        Ok((HighWater { file }, parse_high_water(&bytes)))
    }

    fn check_format(&self) -> Result<(), OpenError> {
        let path = self.root.join("format");
        let found = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Of a log that was rolled it is lost, and an older program must not take it for one that was not.
                let format = if self.archive().exists() { FORMAT } else { FORMAT_UNROLLED };
                return write_durably(&path, format!("{format}\n").as_bytes())
                    .map_err(failed(&path, "write the format"));
            }
            Err(error) => return Err(failed(&path, "read the format")(error)),
        };
        let found: u32 = found.trim().parse().map_err(|_| OpenError::Store {
            path: path.clone(),
            step: "read the format",
            reason: format!("`{}` is not a number", found.trim()),
        })?;
        if found > FORMAT {
            return Err(OpenError::NewerFormat { path: self.root.clone(), found, known: FORMAT });
        }
        Ok(())
    }
}

/// The name beside a database under which it is made and removed.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    path.with_extension(UNFINISHED)
}

/// Removes a database: out of its place first, since half of one does not open.
pub(super) fn discard(path: &Path) -> io::Result<()> {
    let beside = unfinished(path);
    if beside.exists() {
        fs::remove_dir_all(&beside)?;
    }
    fs::rename(path, &beside)?;
    fs::remove_dir_all(&beside)
}

/// What one of sled's databases is called.
pub(super) fn store_name(number: u32) -> String {
    match number {
        0 => STORE.to_owned(),
        number => format!("{STORE}-{number}"),
    }
}

/// The numbers of sled's databases in a log's directory, oldest first.
pub(super) fn stores(root: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(root)? {
        let name = entry?.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(STORE)) else { continue };
        let number =
            if rest.is_empty() { Some(0) } else { rest.strip_prefix('-').and_then(|n| n.parse().ok()) };
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Writes a small file so that after a crash it is there whole or not at all.
pub(super) fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Whether a directory has a log in it, or what is left of one: a database or a part of the archive.
pub fn is_there(root: &Path) -> bool {
    let stores = stores(root).unwrap_or_default();
    let archived = || fs::read_dir(root.join(ARCHIVE)).is_ok_and(|mut entries| entries.next().is_some());
    stores.into_iter().any(|number| root.join(store_name(number)).join("db").exists()) || archived()
}

/// Refuses a directory that has no log in it.
pub(super) fn exists(root: &Path) -> Result<(), OpenError> {
    if root.join("format").exists() {
        return Ok(());
    }
    let (path, reason) = (root.to_owned(), "there is none".to_owned());
    Err(OpenError::Store { path, step: "look for a log", reason })
}

/// Somebody has the log. Who, is for the message only: the lock itself is held by the kernel, whatever the file says.
fn locked(root: &Path) -> OpenError {
    let holder = fs::read_to_string(root.join("LOCK")).unwrap_or_default();
    let holder = match holder.trim() {
        "" => "another process".to_owned(),
        holder => holder.to_owned(),
    };
    OpenError::Locked { path: root.to_owned(), holder }
}

/// Takes the log's lock without writing to it; none where there is no lock, since a log without one was never opened where it
/// lies, such as a backup.
pub(super) fn hold(root: &Path) -> Result<Option<File>, OpenError> {
    let path = root.join("LOCK");
    let lock = match File::open(&path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&path, "open the lock")(error)),
    };
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Err(locked(root)),
        Err(TryLockError::Error(error)) => Err(failed(&path, "lock")(error)),
    }
}

/// Takes the log's lock, and writes down who has it.
pub(super) fn lock(root: &Path) -> Result<File, OpenError> {
    let path = root.join("LOCK");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed(&path, "open the lock"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(locked(root)),
        Err(TryLockError::Error(error)) => return Err(failed(&path, "lock")(error)),
    }
    let since = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let text = format!("process {} since {since}\n", std::process::id());
    file.set_len(0)
        .and_then(|()| file.write_all_at(text.as_bytes(), 0))
        .map_err(failed(&path, "write the lock"))?;
    Ok(file)
}

/// The last acknowledged position, in a file of its own.
///
/// Written before each acknowledgement and flushed about once a second: a crash of the process never makes it too low, a
/// power cut by at most that second. It never is too high, because it is written after the log's own flush.
#[derive(Debug)]
pub(super) struct HighWater {
    file: File,
}

impl HighWater {
    /// Notes a position.
    pub(super) fn note(&self, head: Position) -> io::Result<()> {
        let mut bytes = [0; HIGH_WATER_LEN];
        bytes[..8].copy_from_slice(&head.0.to_be_bytes());
        let crc = crc32fast::hash(&bytes[..8]);
        bytes[8..].copy_from_slice(&crc.to_be_bytes());
        self.file.write_all_at(&bytes, 0)
    }

    /// Makes it durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// The high-water mark of a log that is only looked at. `None` if there is none, or none that can be believed.
pub(super) fn read_high_water(root: &Path) -> Result<Option<Position>, OpenError> {
    let path = root.join("high-water");
    match fs::read(&path) {
        Ok(bytes) => Ok(parse_high_water(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(&path, "read the high-water mark")(error)),
    }
}

fn parse_high_water(bytes: &[u8]) -> Option<Position> {
    let position = bytes.get(..8)?;
    let crc = bytes.get(8..HIGH_WATER_LEN)?;
    (crc32fast::hash(position).to_be_bytes() == crc)
        .then(|| position.try_into().ok().map(|position| Position(u64::from_be_bytes(position))))?
}
