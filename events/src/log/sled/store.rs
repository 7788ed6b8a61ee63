//! sled, with what it takes to make its writes durable.
//!
//! sled's `flush` hands pages to the disk but syncs neither the file's size nor the disk's cache, so a power cut after it
//! can lose everything. A commit here is the write, `flush`, then `sync_data` on the same file through a second
//! descriptor. See `docs/decisions/0001-sled-needs-its-own-fsync.md`.

use std::any::Any;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::sled::{Batch, Config, Db, IVec, Tree};

use super::directory::{failed, sync_dir};
use super::mend::snapshots;
use crate::id::Position;
use crate::log::OpenError;
use crate::log::frame::{Frames, Link, locate};

/// The tree of chunks. Keys are the position of a chunk's first fact, big-endian.
const TREE: &str = "chunks";

/// How often sled's own thread flushes, in milliseconds. Our commits flush themselves; this thread also gives back
/// segments that are not needed any more.
const FLUSH_EVERY_MS: u64 = 500;

/// How often a pass over the log touches each chunk. sled collects 64 accesses in each of 256 queues before it looks
/// whether its cache is over its limit, so a pass that touches each leaf once would keep up to 16 384 leaves (over 1 GiB)
/// in memory. At up to 16 chunks a leaf this fills a queue with every leaf or two.
const TOUCHES: usize = 3;

/// How long a store that was just dropped may take to let go of its file.
const RELEASE: Duration = Duration::from_secs(2);

/// Where bytes become durable, apart from the store itself, so that tests can make it fail.
pub(super) trait Disk: Send + Sync + std::fmt::Debug {
    /// Makes the store's file durable.
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Bytes that this process may still write below a path.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
}

/// The real one.
#[derive(Debug)]
pub(super) struct RealDisk;

impl Disk for RealDisk {
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// One that takes sled's word for it.
#[cfg(any(test, feature = "test-support"))]
#[derive(Debug)]
pub(super) struct NoSync;

#[cfg(any(test, feature = "test-support"))]
impl Disk for NoSync {
    fn sync(&self, _: &File) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(path)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    db: Db,
    tree: Tree,
    file: File,
    disk: Arc<dyn Disk>,
}

impl Store {
    /// Opens or creates the store in a directory that exists.
    pub(super) fn open(path: &Path, cache_bytes: u64, disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        let file = path.join("db");
        released(&file).map_err(failed(&file, "wait for the store's last holder"))?;
        remove_unfinished_snapshots(path)
            .map_err(failed(path, "remove snapshots that were never finished"))?;
        let opened = guarded(|| {
            let config =
                Config::new().path(path).cache_capacity(cache_bytes).flush_every_ms(Some(FLUSH_EVERY_MS));
            let db = config.open()?;
            let tree = db.open_tree(TREE)?;
            db.flush()?;
            Ok((db, tree))
        });
        let (db, tree) = opened.map_err(|reason| OpenError::Store {
            path: path.to_owned(),
            step: "open the store",
            reason,
        })?;
        let file = File::open(&file).map_err(failed(&file, "open the store's file"))?;
        // sled never syncs its `conf`, and a new file needs its directory entry to be durable too.
        let sync_all = || {
            File::open(path.join("conf"))?.sync_all()?;
            file.sync_all()?;
            sync_dir(path)
        };
        sync_all().map_err(failed(path, "sync the store"))?;
        Ok(Self { path: path.to_owned(), db, tree, file, disk })
    }

    /// Writes chunks in order, durable on return. After a crash before that some may be there, from the first on; a batch would
    /// leave none, and wait for a marker of its own before it (see `docs/decisions/0001-sled-needs-its-own-fsync.md`).
    pub(super) fn commit(&self, chunks: &[(Position, Vec<u8>)]) -> Result<(), String> {
        guarded(|| {
            for (first, bytes) in chunks {
                self.tree.insert(first.0.to_be_bytes(), bytes.as_slice())?;
            }
            self.db.flush().map(|_| ())
        })
        .map_err(|reason| format!("write to the store: {reason}"))?;
        self.sync()
    }

    /// Cuts the log's end: all at once, and durable on return.
    pub(super) fn repair(&self, removed: &[u64], shortened: Option<&(u64, Vec<u8>)>) -> Result<(), String> {
        guarded(|| {
            let mut batch = Batch::default();
            for first in removed {
                batch.remove(&first.to_be_bytes());
            }
            if let Some((first, bytes)) = shortened {
                batch.insert(&first.to_be_bytes(), bytes.as_slice());
            }
            self.tree.apply_batch(batch)?;
            self.db.flush().map(|_| ())
        })?;
        self.sync()
    }

    /// Its directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its file is still the one that has its name.
    pub(super) fn in_place(&self) -> Result<(), String> {
        let path = self.path.join("db");
        let wrong = |what: &str| {
            format!(
                "`{}`: {what}, and a restart would not find what is written: make a backup with `covalence log backup` first",
                path.display()
            )
        };
        let found = std::fs::metadata(&path).map_err(|error| wrong(&error.to_string()))?;
        let ours = self.file.metadata().map_err(|error| wrong(&error.to_string()))?;
        if (found.dev(), found.ino()) == (ours.dev(), ours.ino()) {
            Ok(())
        } else {
            Err(wrong("it was replaced by another file"))
        }
    }

    /// Bytes that it takes on disk.
    pub(super) fn file_bytes(&self) -> io::Result<u64> {
        self.file.metadata().map(|file| file.len())
    }

    /// Makes everything written durable.
    pub(super) fn flush(&self) -> Result<(), String> {
        guarded(|| self.db.flush().map(|_| ()))?;
        self.sync()
    }

    /// One chunk by its key.
    pub(super) fn get(&self, first: u64) -> Result<Option<IVec>, String> {
        guarded(|| self.tree.get(first.to_be_bytes()))
    }

    /// The key of the first chunk; none in an empty store.
    pub(super) fn first(&self) -> Result<Option<u64>, String> {
        let first = guarded(|| self.tree.first())?;
        first.map(|(key, _)| key_position(&key)).transpose()
    }

    /// The end of the last whole append; what is torn behind it counts as not written.
    pub(super) fn head(&self) -> Result<Option<Position>, String> {
        let mut before = self.last()?;
        while let Some(first) = before {
            let bytes = self.get(first)?.unwrap_or_default();
            let whole = Frames::new(&bytes).map_while(Result::ok).filter(|frame| frame.last).last();
            if let Some(frame) = whole {
                return Ok(Some(frame.position));
            }
            before = match first {
                0 | 1 => None,
                first => self.chunk_of(Position(first - 1))?,
            };
        }
        Ok(None)
    }

    /// The chain's link of a position, if that is in here.
    pub(super) fn link(&self, position: Position) -> Result<Option<Link>, String> {
        let Some(first) = self.chunk_of(position)? else { return Ok(None) };
        let chunk = self.get(first)?.unwrap_or_default();
        Ok(locate(&chunk, position).ok().map(|frame| frame.link))
    }

    /// The key of the last chunk; none in an empty store.
    pub(super) fn last(&self) -> Result<Option<u64>, String> {
        let last = guarded(|| self.tree.last())?;
        last.map(|(key, _)| key_position(&key)).transpose()
    }

    /// The key of the chunk that holds a position, if the log reaches that far: the last that does not begin after it.
    pub(super) fn chunk_of(&self, position: Position) -> Result<Option<u64>, String> {
        let found = guarded(|| self.tree.range(..=position.0.to_be_bytes()).next_back().transpose())?;
        found.map(|(key, _)| key_position(&key)).transpose()
    }

    /// All chunks from a key on, in order.
    pub(super) fn chunks(&self, from: u64) -> impl Iterator<Item = Result<(u64, IVec), String>> + use<> {
        let mut chunks = self.tree.range(from.to_be_bytes()..);
        let tree = self.tree.clone();
        let mut next = move || {
            let chunk = chunks.next().transpose()?;
            if let Some((key, _)) = &chunk {
                for _ in 0..TOUCHES {
                    tree.contains_key(key)?;
                }
            }
            Ok(chunk)
        };
        std::iter::from_fn(move || match guarded(&mut next) {
            Ok(Some((key, bytes))) => Some(key_position(&key).map(|key| (key, bytes))),
            Ok(None) => None,
            Err(reason) => Some(Err(reason)),
        })
    }

    fn sync(&self) -> Result<(), String> {
        self.disk.sync(&self.file).map_err(|error| format!("sync the store: {error}"))
    }
}

/// sled takes a snapshot that a crash kept it from renaming for its newest, whole or not.
fn remove_unfinished_snapshots(path: &Path) -> io::Result<()> {
    for snapshot in snapshots(path)? {
        if snapshot.extension().is_some_and(|extension| extension == "generating") {
            std::fs::remove_file(snapshot)?;
        }
    }
    Ok(())
}

fn key_position(key: &[u8]) -> Result<u64, String> {
    key.try_into().map(u64::from_be_bytes).map_err(|_| "a key of the wrong length".to_owned())
}

/// Waits until nobody holds sled's own lock, for [`RELEASE`] at most. Who asks has the log's lock already, so what holds this
/// one can only be a remnant: a thread of sled's that a store just dropped has not ended yet, or a child between `fork`
/// and `exec`.
pub(super) fn released(file: &Path) -> io::Result<()> {
    let file = match File::open(file) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let until = Instant::now() + RELEASE;
    loop {
        match file.try_lock() {
            Ok(()) => return file.unlock(),
            Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(RELEASE / 200),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Runs something of sled's, which answers some damage with a panic.
pub(super) fn guarded<T>(step: impl FnOnce() -> ::sled::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(step)) {
        Ok(Ok(value)) => Ok(value),
        // Its words for damage end in a backtrace that is never there.
        Ok(Err(error)) => {
            Err(error.to_string().replace(" backtrace ()", "").replace(" at file offset None", ""))
        }
        Err(panic) => Err(format!("the store panicked: {}", panic_text(panic.as_ref()))),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a message")
}
