//! The disk where processes can reach it.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    AccessFlags, BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};
use tempfile::TempDir;

use super::disk::{Disk, Image, Node};

/// Nobody else changes anything here: what the kernel knows stays true.
const FOR_EVER: Duration = Duration::from_secs(3600);

const BLOCK_BYTES: u32 = 4096;

/// Free blocks that it claims to have: more than any log keeps in reserve.
const FREE_BLOCKS: u64 = 1 << 20;

#[derive(Debug)]
struct Shared {
    disk: Mutex<Disk>,
    gone: Condvar,
}

impl Shared {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A disk that is mounted; unmounted when it goes out of scope.
#[derive(Debug)]
pub(crate) struct Mounted {
    shared: Arc<Shared>,
    session: Option<BackgroundSession>,
    dir: TempDir,
}

impl Mounted {
    /// Mounts a disk that holds an image.
    pub(crate) fn new(image: &Image) -> Self {
        let dir = TempDir::new().expect("a directory");
        let shared = Arc::new(Shared { disk: Mutex::new(Disk::new(image)), gone: Condvar::new() });
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("crueldisk".to_owned())];
        let session = fuser::spawn_mount(Served(Arc::clone(&shared)), dir.path(), &config);
        let session = session.unwrap_or_else(|error| {
            panic!(
                "no file system in user space can be mounted: {error}. This test needs /dev/fuse (`modprobe fuse`), and root \
                 or fusermount3 (`scripts/install-tools`)"
            )
        });
        Self { shared, session: Some(session), dir }
    }

    /// Where it is.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// The disk itself.
    pub(crate) fn disk(&self) -> MutexGuard<'_, Disk> {
        self.shared.disk()
    }

    /// Waits until the power is gone, or for this long; whether it is.
    pub(crate) fn is_off_within(&self, patience: Duration) -> bool {
        let waited = self.shared.gone.wait_timeout_while(self.disk(), patience, |disk| !disk.is_off());
        waited.unwrap_or_else(PoisonError::into_inner).0.is_off()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(session) = self.session.take()
            && let Err(error) = session.umount_and_join()
        {
            println!("`{}` is still mounted: {error}", self.dir.path().display());
        }
    }
}

/// What answers the kernel.
struct Served(Arc<Shared>);

impl Served {
    fn attributes(&self, node: Node) -> Result<FileAttr, Errno> {
        let (directory, size) = self.0.disk().look(node)?;
        Ok(FileAttr {
            ino: INodeNo(node),
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: kind(directory),
            perm: if directory { 0o700 } else { 0o600 },
            nlink: 1,
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            rdev: 0,
            blksize: BLOCK_BYTES,
            flags: 0,
        })
    }

    /// Does something with the disk, and tells who waits for it when that was the end.
    fn with<T>(&self, step: impl FnOnce(&mut Disk) -> Result<T, Errno>) -> Result<T, Errno> {
        let mut disk = self.0.disk();
        let done = step(&mut disk);
        if disk.is_off() {
            self.0.gone.notify_all();
        }
        done
    }

    fn entry(&self, node: Result<Node, Errno>, reply: ReplyEntry) {
        match node.and_then(|node| self.attributes(node)) {
            Ok(attributes) => reply.entry(&FOR_EVER, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        }
    }
}

fn kind(directory: bool) -> FileType {
    if directory { FileType::Directory } else { FileType::RegularFile }
}

fn done(done: Result<(), Errno>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn usize_of(number: u64) -> Result<usize, Errno> {
    usize::try_from(number).map_err(|_| Errno::EFBIG)
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.with(|disk| disk.find(parent.0, name));
        self.entry(found, reply);
    }

    fn getattr(&self, _: &Request, node: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(node.0) {
            Ok(attributes) => reply.attr(&FOR_EVER, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        node: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let resized = match size {
            Some(size) => usize_of(size).and_then(|size| self.with(|disk| disk.resize(node.0, size))),
            None => Ok(()),
        };
        match resized.and_then(|()| self.attributes(node.0)) {
            Ok(attributes) => reply.attr(&FOR_EVER, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _mode: u32, _umask: u32, reply: ReplyEntry) {
        let made = self.with(|disk| disk.make(parent.0, name, true));
        self.entry(made, reply);
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let made = self.with(|disk| disk.make(parent.0, name, false));
        match made.and_then(|node| self.attributes(node)) {
            Ok(attributes) => {
                reply.created(&FOR_EVER, &attributes, Generation(0), FileHandle(0), FopenFlags::empty());
            }
            Err(error) => reply.error(error),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(self.with(|disk| disk.remove(parent.0, name)), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(self.with(|disk| disk.remove(parent.0, name)), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if flags != RenameFlags::empty() {
            return reply.error(Errno::EINVAL);
        }
        done(self.with(|disk| disk.move_to((parent.0, name), (newparent.0, newname))), reply);
    }

    fn read(
        &self,
        _: &Request,
        node: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = usize_of(offset).and_then(|at| self.with(|disk| disk.read(node.0, at, size as usize)));
        match read {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        node: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match usize_of(offset).and_then(|at| self.with(|disk| disk.write(node.0, at, data))) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _node: INodeNo, _fh: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // A close is no sync.
        reply.ok();
    }

    fn fsync(&self, _: &Request, node: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        done(self.with(|disk| disk.sync(node.0)), reply);
    }

    fn fsyncdir(&self, _: &Request, node: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        done(self.with(|disk| disk.sync(node.0)), reply);
    }

    fn readdir(&self, _: &Request, node: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let entries = match self.with(|disk| disk.list(node.0)) {
            Ok(entries) => entries,
            Err(error) => return reply.error(error),
        };
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        for (number, (name, node, directory)) in (1..).zip(entries).skip(skipped) {
            if reply.add(INodeNo(node), number, kind(directory), &name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _node: INodeNo, reply: ReplyStatfs) {
        reply.statfs(
            2 * FREE_BLOCKS,
            FREE_BLOCKS,
            FREE_BLOCKS,
            1 << 20,
            1 << 20,
            BLOCK_BYTES,
            255,
            BLOCK_BYTES,
        );
    }

    fn access(&self, _: &Request, _node: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        reply.ok();
    }
}
