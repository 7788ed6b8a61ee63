//! What is on disk for each workspace, and the record that lets a later run of the platform find its process again.
//!
//! ```text
//! <data-dir>/workspaces/<id>/
//!   instance.json   the record (0600), replaced atomically
//!   configs/        config.yaml, .auth_token (0600)
//!   workspace/      the working directory
//!   session/        what the runtime remembers; thrown away on request (R15)
//!   logs/           <generation>.log
//! ```
//!
//! The record is written twice for each start: as an intent before the process exists, and completed with its identity.
//! A crash in between leaves an intent, whose process is then looked for by its environment.
//!
//! Record and token are about processes of this boot, so they are not flushed: a power cut that takes them takes the
//! processes too, and what is left of a record can't be taken for one of a later boot, which its identity names. The
//! configuration outlives a reboot and is flushed.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use covalence_actors::effect::{BackendError, Provisioned};
use covalence_events::workspace::InstanceRef;
use covalence_events::{Generation, WorkspaceId};
use serde::{Deserialize, Serialize};

use super::identity::Identity;

/// The shape of the record. A larger one was written by a newer program.
const VERSION: u32 = 1;

/// Paths of one workspace.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) directory: PathBuf,
}

impl Layout {
    pub(super) fn new(root: &Path, workspace: WorkspaceId) -> Self {
        Self { directory: root.join(workspace.to_string()) }
    }

    pub(super) fn record(&self) -> PathBuf {
        self.directory.join("instance.json")
    }

    pub(super) fn configs(&self) -> PathBuf {
        self.directory.join("configs")
    }

    pub(super) fn work(&self) -> PathBuf {
        self.directory.join("workspace")
    }

    pub(super) fn session(&self) -> PathBuf {
        self.directory.join("session")
    }

    pub(super) fn logs(&self) -> PathBuf {
        self.directory.join("logs")
    }
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Exit {
    /// Exit status, a signal as 128 + its number; unknown for a process that is not our child.
    pub(super) status: Option<i32>,
}

impl Exit {
    /// For people.
    pub(super) fn detail(&self) -> String {
        match self.status {
            Some(status) if status > 128 => format!("the process was ended by signal {}", status - 128),
            Some(status) => format!("the process exited with status {status}"),
            None => "the process ended; its exit status is unknown, since an earlier run of the platform \
                     started it"
                .to_owned(),
        }
    }
}

/// One start of one workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) version: u32,
    pub(super) workspace: WorkspaceId,
    pub(super) generation: Generation,
    pub(super) port: u16,
    pub(super) argv: Vec<String>,
    pub(super) withheld: Vec<String>,
    /// Its working directory, where that is not the one of its layout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) directory: Option<PathBuf>,
    /// The process; none while it is only intended.
    pub(super) process: Option<Identity>,
    /// How it ended, if that was seen.
    pub(super) exit: Option<Exit>,
}

impl Record {
    /// The intent to start a process.
    pub(super) fn intent(workspace: WorkspaceId, generation: Generation, argv: Vec<String>) -> Self {
        let version = VERSION;
        Self {
            version,
            workspace,
            generation,
            port: 0,
            argv,
            withheld: Vec::new(),
            directory: None,
            process: None,
            exit: None,
        }
    }

    /// What callers of the port are told of it.
    pub(super) fn provisioned(&self, process: &Identity) -> Provisioned {
        Provisioned {
            instance: Some(InstanceRef { id: process.to_string() }),
            url: Some(self.url()),
            withheld: self.withheld.clone(),
            image: self.argv.first().cloned(),
        }
    }

    /// Where it answers.
    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The record of a workspace; `None` if it has none.
    pub(super) fn read(layout: &Layout) -> Result<Option<Self>, BackendError> {
        let bytes = match std::fs::read(layout.record()) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file_error("read the instance record", &error)),
        };
        match serde_json::from_slice::<Self>(&bytes) {
            Ok(record) if record.version <= VERSION => Ok(Some(record)),
            Ok(record) => Err(BackendError {
                code: "garbage",
                detail: format!(
                    "the instance record has version {}, newer than this program",
                    record.version
                ),
            }),
            Err(error) => Err(BackendError {
                code: "garbage",
                detail: format!("the instance record can't be read: {error}"),
            }),
        }
    }

    /// Replaces the record; on return it survives the platform.
    pub(super) fn write(&self, layout: &Layout) -> io::Result<()> {
        let body = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        write_private(&layout.record(), &body, Survives::Platform)
    }

    /// Removes the record; absent is fine.
    pub(super) fn remove(layout: &Layout) -> Result<(), BackendError> {
        match std::fs::remove_file(layout.record()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(file_error("remove the instance record", &error))
            }
            _ => Ok(()),
        }
    }
}

/// A failed file operation as the port's error, without the path.
pub(super) fn file_error(what: &str, error: &io::Error) -> BackendError {
    BackendError { code: "file", detail: format!("could not {what}: {error}") }
}

/// Creates a directory for nobody but us, with its parents; there already is fine.
pub(super) fn create_private(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// What a file outlives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Survives {
    /// The platform's own death, at any instant.
    Platform,
    /// A power cut as well.
    PowerCut,
}

/// Replaces a file atomically with one that only we may read (0600).
pub(super) fn write_private(path: &Path, body: &[u8], survives: Survives) -> io::Result<()> {
    let parent = path.parent().ok_or_else(|| io::Error::other("a file without a directory"))?;
    let name = path.file_name().ok_or_else(|| io::Error::other("a file without a name"))?;
    let draft = parent.join(format!(".{}.new", name.to_string_lossy()));
    // A leftover of a crash may have other permissions, and an existing file keeps its own.
    if let Err(error) = std::fs::remove_file(&draft)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(body)?;
    if survives == Survives::PowerCut {
        file.sync_all()?;
    }
    std::fs::rename(&draft, path)?;
    if survives == Survives::PowerCut {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}
