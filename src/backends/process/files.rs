//! Files into and out of the directories of a workspace that runs as a process.
//!
//! An agent may put links where it likes; none of them leads out of its directory: the kernel is asked to stay below it
//! (`openat2(2)`).

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use covalence_actors::effect::files::{FileError, FilePath, FoundFile, NewFile, Root};
use futures_util::StreamExt as _;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use super::record::{Layout, Record, file_error};

/// What is read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Of files: the agent's user is ours.
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);
/// Of directories on the way to them.
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);

/// Where a workspace's directories are on this host.
#[derive(Clone, Debug)]
pub(super) struct Places {
    configs: PathBuf,
    work: PathBuf,
}

impl Places {
    pub(super) fn new(layout: &Layout, record: &Record) -> Self {
        Self { configs: layout.configs(), work: record.directory.clone().unwrap_or_else(|| layout.work()) }
    }

    /// A directory, opened. A process has the home of whoever runs the platform, which is not the workspace's to show.
    fn open(&self, root: Root) -> io::Result<Option<OwnedFd>> {
        let path = match root {
            Root::Configs => &self.configs,
            Root::Workspace => &self.work,
            Root::Home | Root::Plugins => return Ok(None),
        };
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(Some(rustix::fs::open(path, flags, Mode::empty())?))
    }
}

/// Opens something below a directory, wherever links in it point.
fn below(directory: impl AsFd, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(directory, path, flags | OFlags::CLOEXEC, mode, within)
}

/// Writes files, durable on return; all of them, or none is left. Blocking.
pub(super) fn put(places: &Places, files: &[NewFile]) -> Result<(), FileError> {
    let mut written: Vec<(OwnedFd, &str)> = Vec::new();
    for file in files {
        match put_one(places, file) {
            Ok(place) => written.push(place),
            Err(error) => {
                for (directory, name) in written {
                    if let Err(error) = rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
                        tracing::warn!(%error, name, "a file of an upload that failed could not be removed");
                    }
                }
                return Err(file_error(&format!("write `{}`", file.path), &error).into());
            }
        }
    }
    Ok(())
}

/// Where it was written: its directory and its name.
fn put_one<'a>(places: &Places, file: &'a NewFile) -> io::Result<(OwnedFd, &'a str)> {
    let root = places.open(file.path.root())?;
    let mut directory = root.ok_or_else(|| io::Error::other("a process has no such directory of its own"))?;
    for part in file.path.relative().parent().into_iter().flat_map(Path::iter) {
        match rustix::fs::mkdirat(&directory, part, DIRECTORY_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        directory = below(&directory, Path::new(part), OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty())?;
    }
    let name = file.path.name();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let mut created = File::from(below(&directory, Path::new(name), flags, FILE_MODE)?);
    let filled = created.write_all(&file.body).and_then(|()| created.sync_all());
    if let Err(error) = filled.and_then(|()| rustix::fs::fsync(&directory).map_err(io::Error::from)) {
        let _ = rustix::fs::unlinkat(&directory, name, AtFlags::empty());
        return Err(error);
    }
    Ok((directory, name))
}

/// Opens a file for reading. Blocking.
pub(super) fn open(places: &Places, path: &FilePath) -> Result<FoundFile, FileError> {
    let failed = |error: io::Error| FileError::from(file_error(&format!("open `{path}`"), &error));
    let root = places.open(path.root()).map_err(failed)?.ok_or(FileError::NotFound)?;
    // Without waiting: a pipe with nobody at its other end would.
    let opened = below(&root, path.relative(), OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty());
    let file = File::from(opened.map_err(|error| match error {
        Errno::NOENT | Errno::NOTDIR => FileError::NotFound,
        // A link out of the directory, and one that leads to itself; a socket.
        Errno::XDEV | Errno::LOOP | Errno::NXIO => FileError::NotRegular,
        error => failed(error.into()),
    })?);
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(FileError::NotRegular);
    }
    // What is appended meanwhile is not part of the answer, whose length is told first.
    let read = tokio::fs::File::from_std(file).take(metadata.len());
    let body = ReaderStream::with_capacity(read, CHUNK_BYTES);
    let body = body.map(|chunk| chunk.map_err(|error| file_error("read the file", &error)));
    Ok(FoundFile { bytes: metadata.len(), body: Box::pin(body) })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use bytes::Bytes;
    use futures_util::TryStreamExt as _;

    use super::*;

    fn places(directory: &Path) -> Places {
        let places = Places { configs: directory.join("configs"), work: directory.join("workspace") };
        std::fs::create_dir(&places.configs).unwrap();
        std::fs::create_dir(&places.work).unwrap();
        places
    }

    fn file(path: &str, body: &'static [u8]) -> NewFile {
        NewFile { path: FilePath::parse(path).unwrap(), body: Bytes::from_static(body) }
    }

    fn refusal(places: &Places, path: &str) -> FileError {
        open(places, &FilePath::parse(path).unwrap()).unwrap_err()
    }

    #[tokio::test]
    async fn no_link_that_an_agent_makes_leads_out_of_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        let places = places(directory.path());
        std::fs::write(directory.path().join("outside"), "the platform's own").unwrap();
        symlink("../outside", places.work.join("relative")).unwrap();
        symlink(directory.path().join("outside"), places.work.join("absolute")).unwrap();
        symlink("..", places.work.join("up")).unwrap();
        symlink("/proc/self/root", places.work.join("magic")).unwrap();
        symlink("round", places.work.join("round")).unwrap();
        for name in ["relative", "absolute", "up/outside", "magic/etc/passwd", "round"] {
            assert_eq!(refusal(&places, &format!("/workspace/{name}")), FileError::NotRegular, "{name}");
        }
        put(&places, &[file("/workspace/up/new", b"x")]).unwrap_err();
        put(&places, &[file("/workspace/relative", b"x")]).unwrap_err();
        assert_eq!(std::fs::read_to_string(directory.path().join("outside")).unwrap(), "the platform's own");
        assert!(!directory.path().join("new").exists());
        // One that stays within is the agent's own affair.
        std::fs::write(places.work.join("a"), "here").unwrap();
        symlink("a", places.work.join("inner")).unwrap();
        let found = open(&places, &FilePath::parse("/workspace/inner").unwrap()).unwrap();
        let body: Vec<Bytes> = found.body.try_collect().await.unwrap();
        assert_eq!((found.bytes, body.concat()), (4, b"here".to_vec()));
    }

    #[tokio::test]
    async fn what_is_no_file_is_not_opened_and_a_pipe_without_a_writer_does_not_wait() {
        let directory = tempfile::tempdir().unwrap();
        let places = places(directory.path());
        std::fs::create_dir(places.work.join("directory")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            places.work.join("pipe"),
            rustix::fs::FileType::Fifo,
            FILE_MODE,
            0,
        )
        .unwrap();
        assert_eq!(refusal(&places, "/workspace/directory"), FileError::NotRegular);
        assert_eq!(refusal(&places, "/workspace/pipe"), FileError::NotRegular);
        assert_eq!(refusal(&places, "/workspace/missing"), FileError::NotFound);
        assert_eq!(refusal(&places, "/home/somebody/.ssh/id_rsa"), FileError::NotFound);
    }

    #[test]
    fn an_upload_of_which_one_file_fails_leaves_none() {
        let directory = tempfile::tempdir().unwrap();
        let places = places(directory.path());
        std::fs::write(places.work.join("taken"), "mine").unwrap();
        let files = [file("/workspace/new/first", b"1"), file("/workspace/taken", b"2")];
        put(&places, &files).unwrap_err();
        assert!(!places.work.join("new/first").exists());
        assert_eq!(std::fs::read_to_string(places.work.join("taken")).unwrap(), "mine");
        put(&places, &files[..1]).unwrap();
        assert_eq!(std::fs::read_to_string(places.work.join("new/first")).unwrap(), "1");
    }
}
