//! A file for each subscription: its definition, and how far it is. Whole or not at all, and on disk before anybody is told.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::definition::{Definition, Name};
use super::place::Place;

/// The layout of these files.
const FORMAT: u32 = 1;
const ENDING: &str = "json";

#[derive(Serialize, Deserialize)]
struct Kept<D, P> {
    format: u32,
    definition: D,
    place: P,
}

/// The directory of these files.
#[derive(Clone, Debug)]
pub(super) struct Store {
    dir: PathBuf,
}

impl Store {
    pub(super) const fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Every subscription that is kept.
    pub(super) fn load(&self) -> io::Result<Vec<(Definition, Place)>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| named(&self.dir, &error))?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == ENDING) {
                all.push(read(&path).map_err(|error| named(&path, &error))?);
            }
        }
        Ok(all)
    }

    /// Keeps one; on disk when it returns.
    pub(super) fn save(&self, definition: &Definition, place: &Place) -> io::Result<()> {
        let path = self.path(&definition.name);
        self.write(&path, definition, place).map_err(|error| named(&path, &error))
    }

    fn write(&self, path: &Path, definition: &Definition, place: &Place) -> io::Result<()> {
        if !self.dir.exists() {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
            self.dir.parent().map_or(Ok(()), sync)?;
        }
        let beside = path.with_extension("new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        let kept = Kept { format: FORMAT, definition, place };
        file.write_all(&serde_json::to_vec(&kept)?)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        sync(&self.dir)
    }

    /// Lets one go.
    pub(super) fn remove(&self, name: &Name) -> io::Result<()> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(named(&path, &error)),
            Ok(()) => sync(&self.dir),
        }
    }

    fn path(&self, name: &Name) -> PathBuf {
        self.dir.join(format!("{name}.{ENDING}"))
    }
}

fn read(path: &Path) -> io::Result<(Definition, Place)> {
    let kept: Kept<Definition, Place> = serde_json::from_slice(&fs::read(path)?)?;
    if kept.format > FORMAT {
        let text = format!("has format {}, this program knows up to {FORMAT}", kept.format);
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok((kept.definition, kept.place))
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("`{}`: {error}", path.display()))
}
