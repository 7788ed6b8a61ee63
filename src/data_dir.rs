//! The data directory: private to its owner, and with a name of its own.
//!
//! The name (`instance`) is in the labels and environments of everything that this platform starts, so that two platforms
//! on one machine or one engine never touch each other's workspaces. It must outlive every restart.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// What makes answers about the past quick. Disposable: made again from the log.
pub const SNAPSHOTS: &str = "snapshots";

/// How far those are who follow the log under a name.
pub const SUBSCRIPTIONS: &str = "subscriptions";

/// Why the data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
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
    /// The file with the name holds something else.
    #[error("`{path}` does not hold the platform's id: restore it, since running workspaces are known by it", path = path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
    },
}

/// Creates the directory if it is missing, for its owner alone.
///
/// # Errors
/// When the file system refuses.
pub fn create(data_dir: &Path) -> Result<(), DataDirError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(|source| DataDirError::Io {
        path: data_dir.to_owned(),
        step: "creating the data directory",
        source,
    })
}

/// The platform's own id; made and written, durably, before it is first used. Call it only with the log's lock held.
///
/// # Errors
/// When the file system refuses, or the file holds something else.
pub fn instance(data_dir: &Path) -> Result<String, DataDirError> {
    let path = data_dir.join("instance");
    let failed = |step| {
        let path = path.clone();
        move |source| DataDirError::Io { path, step, source }
    };
    match fs::read_to_string(&path) {
        Ok(text) => match Uuid::parse_str(text.trim()) {
            Ok(id) => Ok(id.to_string()),
            Err(_) => Err(DataDirError::Malformed { path }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = Uuid::new_v4().to_string();
            let temporary = data_dir.join(".instance.new");
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)
                .map_err(failed("creating"))?;
            file.write_all(id.as_bytes()).and_then(|()| file.sync_all()).map_err(failed("writing"))?;
            fs::rename(&temporary, &path).map_err(failed("renaming"))?;
            fs::File::open(data_dir).and_then(|dir| dir.sync_all()).map_err(failed("syncing"))?;
            Ok(id)
        }
        Err(source) => Err(failed("reading")(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_made_once_and_stays() {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = directory.path().join("data");
        create(&data_dir).unwrap();
        let first = instance(&data_dir).unwrap();
        assert_eq!(instance(&data_dir).unwrap(), first);
    }

    #[test]
    fn a_file_that_holds_something_else_is_refused_and_left() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("instance"), "what").unwrap();
        let error = instance(directory.path()).unwrap_err();
        assert!(matches!(error, DataDirError::Malformed { .. }), "{error}");
        assert_eq!(fs::read_to_string(directory.path().join("instance")).unwrap(), "what");
    }
}
