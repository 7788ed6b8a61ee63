//! A copy of a log that no process has open, to look into while its server is down.
//!
//! sled writes when it opens a store: it tidies the end of its file and takes a new snapshot. So a log that must stay as it is
//! is not opened at all; its databases are copied, and its archive and its large payloads, which never change, are read where they
//! are.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::Path;

use super::directory::{exists, failed, hold, store_name, stores};
use crate::log::OpenError;

/// Copies the log below `path` to `scratch`, which is created. Nothing below `path` is changed.
pub(super) fn copy(path: &Path, scratch: &Path) -> Result<(), OpenError> {
    exists(path)?;
    // Held until the copy is made: a server that starts meanwhile would write into what is being copied.
    let _lock = hold(path)?;
    copy_into(path, scratch)
}

/// The same of a log that the caller knows to be there, and holds.
pub(super) fn copy_into(path: &Path, scratch: &Path) -> Result<(), OpenError> {
    let private = fs::DirBuilder::new().recursive(true).mode(0o700).create(scratch);
    private.map_err(failed(scratch, "create a directory for a copy"))?;
    for name in ["format", "high-water"] {
        let from = path.join(name);
        match fs::copy(&from, scratch.join(name)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&from, "copy the log")(error)),
        }
    }
    for number in stores(path).map_err(failed(path, "list the log's directory"))? {
        let name = store_name(number);
        let store = path.join(&name);
        copy_tree(&store, &scratch.join(&name)).map_err(failed(&store, "copy the log"))?;
    }
    for name in ["blobs", "archive"] {
        let linked = match fs::canonicalize(path.join(name)) {
            Ok(target) => symlink(target, scratch.join(name)),
            // A log that was never rolled has no archive; one that lost its large payloads is read as far as it goes.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        linked.map_err(failed(path, "point at the log's archive and its large payloads"))?;
    }
    Ok(())
}

/// Two levels at most: sled keeps its files in one directory, and large values in one below it.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use crate::id::Position;
    use crate::log::conformance::{event, stream, to};
    use crate::log::sled::{Options, SledLog};
    use crate::log::{Ack, EventLog as _, Expected, OpenError};

    fn contents(of: &std::path::Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(of).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(contents(&path));
            } else {
                found.insert(path.clone(), std::fs::read(&path).unwrap());
            }
        }
        found
    }

    #[tokio::test]
    async fn a_copy_shows_every_fact_and_changes_no_byte_of_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let (log, scratch) = (dir.path().join("log"), dir.path().join("scratch"));
        let (opened, _) = SledLog::open(&log, &Options::default()).unwrap();
        let large = "z".repeat(100_000);
        for text in ["a", &large, "b"] {
            opened.append(to(stream(), Expected::Any, vec![event(text)]), Ack::Durable).await.unwrap();
        }
        let written = opened.read_all(Position(1), 10).await.unwrap();
        let locked = SledLog::open_copy(&log, &scratch, None, &mut |_| {});
        assert!(matches!(locked, Err(OpenError::Locked { .. })), "{locked:?}");
        assert!(!scratch.exists(), "nothing is copied of a log that is in use");
        drop(opened);
        let before = contents(&log);

        let mut seen = Vec::new();
        let (copy, found) =
            SledLog::open_copy(&log, &scratch, None, &mut |event| seen.push(std::sync::Arc::clone(event)))
                .unwrap();
        assert_eq!((found.head, &seen), (Position(3), &written));
        assert_eq!(copy.read_all(Position(1), 10).await.unwrap(), written);
        assert_eq!(copy.verify().await.unwrap().problems, Vec::<String>::new());
        drop(copy);
        assert_eq!(contents(&log), before);
    }

    #[test]
    fn where_there_is_no_log_none_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let missing = SledLog::open_copy(dir.path(), &dir.path().join("scratch"), None, &mut |_| {});
        assert!(missing.unwrap_err().to_string().contains("look for a log: there is none"));
        assert!(contents(dir.path()).is_empty());
    }
}
