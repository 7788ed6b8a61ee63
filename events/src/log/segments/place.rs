//! Where segments are: a directory, or any store that the `object_store` crate reaches.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path as FilePath;
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt as _};

use super::format::Name;
use super::{Segment, SegmentError};
use crate::id::Position;
use crate::log::checkpoint::Checkpoint;

/// Begins the names of checkpoints.
const CHECKPOINT: &str = "checkpoint-";

/// See the module.
#[derive(Clone, Debug)]
pub struct Place {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    shown: String,
}

impl Place {
    /// Below a prefix of a store. `shown` is what people know it by.
    pub const fn new(store: Arc<dyn ObjectStore>, prefix: Path, shown: String) -> Self {
        Self { store, prefix, shown }
    }

    /// A directory, which is made if it is missing, for its owner alone. Files in it are written beside, synced, renamed,
    /// and their directory synced.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn directory(path: &FilePath) -> Result<Self, SegmentError> {
        let shown = path.display().to_string();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|source| SegmentError::Io { step: format!("creating `{shown}`"), source })?;
        Self::existing(path)
    }

    /// A directory that has to be there.
    ///
    /// # Errors
    /// When it is not.
    pub fn existing(path: &FilePath) -> Result<Self, SegmentError> {
        let shown = path.display().to_string();
        match LocalFileSystem::new_with_prefix(path) {
            Ok(store) => Ok(Self::new(Arc::new(store.with_fsync(true)), Path::default(), shown)),
            Err(source) => Err(SegmentError::Place { place: shown, step: "opening it".to_owned(), source }),
        }
    }

    /// What people know it by.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The segments that are there, by position.
    ///
    /// # Errors
    /// When the place does not answer.
    pub async fn segments(&self) -> Result<Vec<Name>, SegmentError> {
        let mut names: Vec<Name> = self.names().await?.iter().filter_map(|name| Name::parse(name)).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Writes a segment, whole and durable on return, or not at all.
    ///
    /// # Errors
    /// When the place does not take it.
    pub async fn put(&self, name: Name, file: Vec<u8>) -> Result<(), SegmentError> {
        self.write(&name.to_string(), file).await
    }

    /// Reads a segment and checks it on its own.
    ///
    /// # Errors
    /// When it is not there, or is not what it was.
    pub async fn get(&self, name: Name) -> Result<Segment, SegmentError> {
        let file = self.read(&name.to_string()).await?;
        let damaged = |flaw| SegmentError::Damaged { place: self.shown.clone(), name, flaw };
        // Decompressing and hashing takes a tenth of a second: too long for a thread that serves others.
        let decoded = tokio::task::spawn_blocking(move || Segment::decode(&file)).await;
        let segment = decoded.map_err(|error| damaged(error.to_string().into()))?.map_err(damaged)?;
        if segment.name == name {
            Ok(segment)
        } else {
            Err(damaged(format!("it holds `{}`", segment.name).into()))
        }
    }

    /// Writes a checkpoint beside the segments.
    ///
    /// # Errors
    /// When the place does not take it.
    pub async fn put_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), SegmentError> {
        let name = format!("{CHECKPOINT}{:020}.json", checkpoint.position.0);
        self.write(&name, format!("{checkpoint}\n").into_bytes()).await
    }

    /// The checkpoints beside the segments, up to a position, in order; what can't be read as one is told apart.
    ///
    /// # Errors
    /// When the place does not answer.
    pub async fn checkpoints(&self, until: Position) -> Result<(Vec<Checkpoint>, Vec<String>), SegmentError> {
        let (mut checkpoints, mut unreadable) = (Vec::new(), Vec::new());
        for name in self.names().await? {
            let Some(position) = name.strip_prefix(CHECKPOINT).and_then(|rest| rest.strip_suffix(".json"))
            else {
                continue;
            };
            if position.parse().is_ok_and(|position: u64| position > until.0) {
                continue;
            }
            let text = self.read(&name).await?;
            match std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok()) {
                Some(checkpoint) => checkpoints.push(checkpoint),
                None => unreadable.push(format!("`{name}` is not a checkpoint")),
            }
        }
        checkpoints.sort_by_key(|checkpoint: &Checkpoint| checkpoint.position);
        Ok((checkpoints, unreadable))
    }

    async fn names(&self) -> Result<Vec<String>, SegmentError> {
        let prefix = (!self.prefix.as_ref().is_empty()).then_some(&self.prefix);
        let listed = self.store.list_with_delimiter(prefix).await;
        let listed = listed.map_err(self.failed("listing it"))?;
        Ok(listed.objects.iter().filter_map(|object| object.location.filename()).map(str::to_owned).collect())
    }

    async fn write(&self, name: &str, bytes: Vec<u8>) -> Result<(), SegmentError> {
        let written = self.store.put(&self.prefix.clone().join(name), bytes.into()).await;
        written.map(drop).map_err(self.failed(&format!("writing `{name}`")))
    }

    async fn read(&self, name: &str) -> Result<Vec<u8>, SegmentError> {
        let failed = self.failed(&format!("reading `{name}`"));
        let found = match self.store.get(&self.prefix.clone().join(name)).await {
            Ok(found) => found.bytes().await,
            Err(error) => Err(error),
        };
        found.map(|bytes| bytes.to_vec()).map_err(failed)
    }

    fn failed(&self, step: &str) -> impl FnOnce(Error) -> SegmentError + use<> {
        let (place, step) = (self.shown.clone(), step.to_owned());
        move |source| SegmentError::Place { place, step, source }
    }
}
