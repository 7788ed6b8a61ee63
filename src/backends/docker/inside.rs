//! Files into and out of a container that runs.

use std::path::Path;
use std::time::Duration;

use bollard::models::ContainerSummaryStateEnum;
use bollard::query_parameters::DownloadFromContainerOptionsBuilder;
use bytes::{Buf as _, Bytes, BytesMut};
use covalence_actors::effect::BackendError;
use covalence_actors::effect::files::{FileError, FilePath, FoundFile, NewFile, Root};
use covalence_events::WorkspaceId;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, stream};

use super::DockerBackend;
use super::engine::{OBSERVATION_TIMEOUT, within};
use super::errors::{Class, Failure};
use super::files::{Archive, Owner, upload_within};
use super::observe::{State, generation_of, inspected_state};

/// For as much as a person sends at once: clients wait for as long.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two pieces of a file, which the engine reads from a local disk.
const PIECE_TIMEOUT: Duration = Duration::from_secs(10);
/// Of an archive's beginning, before it has to be clear what its first entry is.
const HEAD_BYTES_MAX: usize = 64 * 1024;

const READ: &str = "read a file of the container";

impl DockerBackend {
    /// The newest container of a workspace that runs.
    async fn running_container(&self, workspace: WorkspaceId) -> Result<String, FileError> {
        let found = self.containers_of(Some(workspace)).await.map_err(BackendError::from)?;
        let running =
            found.into_iter().filter(|container| container.state == Some(ContainerSummaryStateEnum::RUNNING));
        running.max_by_key(generation_of).and_then(|container| container.id).ok_or(FileError::NotRunning)
    }

    pub(super) async fn put_inside(
        &self,
        workspace: WorkspaceId,
        files: Vec<NewFile>,
    ) -> Result<(), FileError> {
        let id = self.running_container(workspace).await?;
        let container = self.inspect_container(&id).await.map_err(BackendError::from)?;
        let container = container.filter(|container| inspected_state(container) == Some(State::Running));
        let container = container.ok_or(FileError::NotRunning)?;
        let owner = Owner::of_image(container.config.and_then(|config| config.user).as_deref());
        let docker = self.engine.client().map_err(BackendError::from)?;
        for root in Root::ALL {
            let packed = pack(&files, root, owner)
                .map_err(|error| Failure::garbage("pack the files", &error.to_string()));
            let Some(packed) = packed.map_err(BackendError::from)? else { continue };
            let sent = upload_within(UPLOAD_TIMEOUT, &docker, (&id, root.path()), packed).await;
            sent.map_err(no_place)?;
        }
        Ok(())
    }

    pub(super) async fn open_inside(
        &self,
        workspace: WorkspaceId,
        path: &FilePath,
    ) -> Result<FoundFile, FileError> {
        let id = self.running_container(workspace).await?;
        let docker = self.engine.client().map_err(BackendError::from)?;
        let options = DownloadFromContainerOptionsBuilder::new().path(&path.to_string()).build();
        let mut archive = docker.download_from_container(&id, Some(options)).boxed();
        let mut head = BytesMut::new();
        let (begin, bytes) = loop {
            let next = async { archive.next().await.transpose() };
            let piece = within(READ, OBSERVATION_TIMEOUT, next).await.map_err(not_there)?;
            let ended = piece.is_none();
            head.extend_from_slice(&piece.unwrap_or_default());
            match first_entry(&head) {
                Ok(entry) => break entry.ok_or(FileError::NotRegular)?,
                Err(error) if ended || head.len() >= HEAD_BYTES_MAX => {
                    return Err(BackendError::from(Failure::garbage(READ, &error.to_string())).into());
                }
                // The head is cut off; the next piece may have the rest of it.
                Err(_) => {}
            }
        };
        head.advance(begin.min(head.len()));
        Ok(FoundFile { bytes, body: body(head.freeze(), archive, bytes) })
    }
}

/// An archive of those files that are below a root; none without any.
fn pack(files: &[NewFile], root: Root, owner: Owner) -> std::io::Result<Option<Bytes>> {
    let mut archive = Archive::new(owner);
    let mut is_empty = true;
    for file in files.iter().filter(|file| file.path.root() == root) {
        archive.file_below(Path::new(""), file.path.relative(), &file.body)?;
        is_empty = false;
    }
    if is_empty { Ok(None) } else { archive.finish().map(Some) }
}

/// Where the body of an archive's first entry begins, and its bytes; none if that is no regular file. An error where the
/// archive is cut off before that is clear.
fn first_entry(archive: &[u8]) -> std::io::Result<Option<(usize, u64)>> {
    let mut archive = tar::Archive::new(archive);
    let cut = || std::io::Error::other("the archive ends before its first entry");
    let entry = archive.entries()?.next().ok_or_else(cut)??;
    let begin = usize::try_from(entry.raw_file_position()).map_err(std::io::Error::other)?;
    Ok(entry.header().entry_type().is_file().then_some((begin, entry.size())))
}

/// The next so many bytes of an archive, the first of which are here already.
fn body(
    head: Bytes,
    rest: BoxStream<'static, Result<Bytes, bollard::errors::Error>>,
    bytes: u64,
) -> BoxStream<'static, Result<Bytes, BackendError>> {
    let state = (Some(head), rest, bytes);
    let pieces = stream::unfold(state, |(head, mut rest, missing)| async move {
        if missing == 0 {
            return None;
        }
        let piece = match head {
            Some(head) => Ok(Some(head)),
            None => within(READ, PIECE_TIMEOUT, async { rest.next().await.transpose() }).await,
        };
        let piece = piece.and_then(|piece| {
            piece.ok_or_else(|| Failure::garbage(READ, "the answer ended before the file did"))
        });
        match piece {
            Ok(mut piece) => {
                piece.truncate(usize::try_from(missing).unwrap_or(usize::MAX));
                let missing = missing - piece.len() as u64;
                Some((Ok(piece), (None, rest, missing)))
            }
            // Nothing comes behind an error.
            Err(failure) => Some((Err(failure.into()), (None, rest, 0))),
        }
    });
    pieces.boxed()
}

/// What the engine says of a directory that files can't be put into: a workspace of tier 1 has none, and its image can't be
/// written.
fn no_place(failure: Failure) -> FileError {
    match not_there(failure) {
        FileError::NotFound => FileError::NoPlace,
        FileError::Backend(error) if error.detail.contains("marked read-only") => FileError::NoPlace,
        error => error,
    }
}

/// What the engine says of a file or a container that is not there.
fn not_there(failure: Failure) -> FileError {
    match failure.class {
        Class::NoSuchThing => FileError::NotFound,
        Class::NoSuchContainer => FileError::NotRunning,
        // Its word for a path that goes on behind a file, with a status that says that the fault is its own.
        Class::Unknown if failure.code == "http_500" && failure.detail.ends_with(": not a directory") => {
            FileError::NotFound
        }
        _ => FileError::Backend(failure.into()),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt as _;

    use super::*;

    fn archive(path: &str, body: &[u8]) -> Bytes {
        let mut archive = Archive::new(Owner::AGENT);
        archive.file(Path::new(path), body).unwrap();
        archive.finish().unwrap()
    }

    #[test]
    fn the_first_entry_is_known_as_soon_as_its_head_is_there() {
        // A name too long for one header has others before it.
        for name in ["a.txt".to_owned(), "x".repeat(180)] {
            let archive = archive(&name, &[7; 3000]);
            let known: Vec<usize> =
                (0..archive.len()).filter(|end| first_entry(&archive[..*end]).is_ok()).collect();
            let (begin, bytes) = first_entry(&archive[..known[0]]).unwrap().unwrap();
            assert_eq!((begin, bytes), (known[0], 3000), "{name}");
            assert_eq!(archive[begin..begin + 3000], [7; 3000]);
        }
        let mut links = Archive::new(Owner::AGENT);
        links.directory(Path::new("d")).unwrap();
        assert_eq!(first_entry(&links.finish().unwrap()).unwrap(), None);
    }

    #[tokio::test]
    async fn a_file_ends_where_its_length_says_and_a_short_one_is_an_error() {
        let piece = |bytes: &'static [u8]| Ok(Bytes::from_static(bytes));
        let whole =
            body(Bytes::from_static(b"ab"), stream::iter([piece(b"cd"), piece(b"ef\0\0")]).boxed(), 6);
        assert_eq!(whole.try_collect::<Vec<_>>().await.unwrap().concat(), b"abcdef");
        let none = body(Bytes::from_static(b"\0\0"), stream::iter([]).boxed(), 0);
        assert_eq!(none.try_collect::<Vec<_>>().await.unwrap().concat(), b"");
        let short = body(Bytes::new(), stream::iter([piece(b"abc")]).boxed(), 6);
        assert_eq!(short.try_collect::<Vec<_>>().await.unwrap_err().code, "garbage");
    }
}
