//! Files into and out of a container that exists and does not run yet, as tar archives through the engine.
//!
//! No helper image is needed, and no moment exists in which the token's file has another mode than 0600: the archive
//! says so before the file is there.

use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use bollard::query_parameters::{DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder};
use bollard::{Docker, body_full};
use bytes::Bytes;
use futures_util::StreamExt;

use super::engine::{OBSERVATION_TIMEOUT, within};
use super::errors::{Class, Failure};
use super::spec::CONFIG_PATH;
use crate::backends::config_files::{CONFIG_FILE, ConfigFile, GENERATED_MARK};

/// The file with the bearer token, inside the configuration directory.
const TOKEN_FILE: &str = ".auth_token";
const TOKEN_MODE: u32 = 0o600;
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;
/// A few files of a few kilobytes, and asked for again when the answer is lost.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Enough of an existing `config.yaml` to see its first line; a longer one is cut, not refused.
const PEEK_BYTES_MAX: usize = 64 * 1024;

/// Whom files in a workspace belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: u64,
    pub(super) gid: u64,
}

impl Owner {
    /// The agent's user in images of ours, and in those that don't say a number.
    pub(super) const AGENT: Self = Self { uid: 10_001, gid: 10_001 };

    /// Reads an image's `USER`. Names can't be resolved from outside; images that begin as root prepare their volumes
    /// and drop to the agent's user (R30).
    pub(super) fn of_image(user: Option<&str>) -> Self {
        let mut parts = user.unwrap_or_default().splitn(2, ':');
        match parts.next().and_then(|uid| uid.parse().ok()) {
            Some(uid) if uid > 0 => {
                Self { uid, gid: parts.next().and_then(|gid| gid.parse().ok()).unwrap_or(uid) }
            }
            Some(_) | None => Self::AGENT,
        }
    }
}

/// What an archive holds. Paths in it begin at the directory that it is unpacked in.
pub(super) struct Archive {
    builder: tar::Builder<Vec<u8>>,
    owner: Owner,
}

impl Archive {
    pub(super) fn new(owner: Owner) -> Self {
        Self { builder: tar::Builder::new(Vec::new()), owner }
    }

    pub(super) fn directory(&mut self, path: &Path) -> io::Result<()> {
        let mut header = self.header(tar::EntryType::Directory, DIRECTORY_MODE, 0);
        self.builder.append_data(&mut header, path, io::empty())
    }

    pub(super) fn file(&mut self, path: &Path, body: &[u8]) -> io::Result<()> {
        let mut header = self.header(tar::EntryType::Regular, FILE_MODE, body.len());
        self.builder.append_data(&mut header, path, body)
    }

    pub(super) fn token(&mut self, directory: &Path, token: &str) -> io::Result<()> {
        let mut header = self.header(tar::EntryType::Regular, TOKEN_MODE, token.len());
        self.builder.append_data(&mut header, directory.join(TOKEN_FILE), token.as_bytes())
    }

    pub(super) fn configuration(&mut self, directory: &Path, files: &[ConfigFile]) -> io::Result<()> {
        files.iter().try_for_each(|file| self.file_below(directory, &file.path, &file.body))
    }

    /// A file and the directories between it and the one that is there: entries of their own, so that the agent's user may write
    /// there too.
    pub(super) fn file_below(&mut self, directory: &Path, path: &Path, body: &[u8]) -> io::Result<()> {
        for parent in path.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
            if !parent.as_os_str().is_empty() {
                self.directory(&directory.join(parent))?;
            }
        }
        self.file(&directory.join(path), body)
    }

    pub(super) fn finish(self) -> io::Result<Bytes> {
        self.builder.into_inner().map(Bytes::from)
    }

    fn header(&self, kind: tar::EntryType, mode: u32, length: usize) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(self.owner.uid);
        header.set_gid(self.owner.gid);
        header.set_mtime(u64::try_from(chrono::Utc::now().timestamp()).unwrap_or(0));
        header.set_size(length as u64);
        header
    }
}

/// Unpacks an archive with a configuration at a path of the container.
pub(super) async fn upload(docker: &Docker, id: &str, path: &str, archive: Bytes) -> Result<(), Failure> {
    upload_within(UPLOAD_TIMEOUT, docker, (id, path), archive).await
}

/// Unpacks an archive at a path of the container.
pub(super) async fn upload_within(
    limit: Duration,
    docker: &Docker,
    (id, path): (&str, &str),
    archive: Bytes,
) -> Result<(), Failure> {
    let options = UploadToContainerOptionsBuilder::new().path(path).build();
    let sent = docker.upload_to_container(id, Some(options), body_full(archive));
    within("copy files into the container", limit, sent).await
}

/// What is known of a configuration that is already there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Existing {
    /// There is no `config.yaml`.
    None,
    /// One that was generated, and may be again.
    Generated,
    /// One that somebody wrote.
    Written,
}

/// Looks for a `config.yaml` on the configuration volume of a created container (R26).
pub(super) async fn existing_configuration(docker: &Docker, id: &str) -> Result<Existing, Failure> {
    let what = "look for a configuration";
    let options =
        DownloadFromContainerOptionsBuilder::new().path(&format!("{CONFIG_PATH}/{CONFIG_FILE}")).build();
    let mut body = Vec::new();
    let read = async {
        let mut stream = std::pin::pin!(docker.download_from_container(id, Some(options)));
        while let Some(chunk) = stream.next().await {
            body.extend_from_slice(&chunk?);
            if body.len() >= PEEK_BYTES_MAX {
                break;
            }
        }
        Ok(())
    };
    match within(what, OBSERVATION_TIMEOUT, read).await {
        Ok(()) => {}
        Err(failure) if failure.class == Class::NoSuchThing => return Ok(Existing::None),
        Err(failure) => return Err(failure),
    }
    first_line(&body)
        .map(|line| if line.trim_end() == GENERATED_MARK { Existing::Generated } else { Existing::Written })
        .map_err(|error| Failure::garbage(what, &error.to_string()))
}

fn first_line(archive: &[u8]) -> io::Result<String> {
    let mut archive = tar::Archive::new(archive);
    let entry = archive.entries()?.next().ok_or_else(|| io::Error::other("an empty archive"))??;
    let mut head = Vec::new();
    // A cut archive ends in the middle of the body, which is fine: only its first line matters.
    let _cut = entry.take(GENERATED_MARK.len() as u64 + 2).read_to_end(&mut head);
    Ok(String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_the_images_user_where_it_is_a_number() {
        for (user, uid, gid) in [
            (Some("10001:10001"), 10_001, 10_001),
            (Some("1000"), 1_000, 1_000),
            (Some("1000:50"), 1_000, 50),
            (Some("agent"), 10_001, 10_001),
            (Some("0"), 10_001, 10_001),
            (Some(""), 10_001, 10_001),
            (None, 10_001, 10_001),
        ] {
            assert_eq!(Owner::of_image(user), Owner { uid, gid }, "{user:?}");
        }
    }

    #[test]
    fn the_token_is_in_the_archive_with_mode_0600_and_the_agents_owner() {
        let mut archive = Archive::new(Owner::AGENT);
        let files = [ConfigFile { path: "skills/a.md".into(), body: b"a".to_vec() }];
        archive.configuration(Path::new("configs"), &files).unwrap();
        archive.token(Path::new("configs"), "secret").unwrap();
        let bytes = archive.finish().unwrap();
        let mut seen = Vec::new();
        for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (10_001, 10_001));
            seen.push((entry.path().unwrap().display().to_string(), header.mode().unwrap()));
        }
        let expected =
            [("configs/skills", 0o755), ("configs/skills/a.md", 0o644), ("configs/.auth_token", 0o600)];
        let seen: Vec<_> = seen.iter().map(|(path, mode)| (path.trim_end_matches('/'), *mode)).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn the_first_line_is_read_out_of_a_cut_archive() {
        let mut archive = Archive::new(Owner::AGENT);
        let body = format!("{GENERATED_MARK}\nname: x\n{}", "y".repeat(10_000));
        archive.file(Path::new(CONFIG_FILE), body.as_bytes()).unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(first_line(&bytes[..2_000]).unwrap(), GENERATED_MARK);
        assert!(first_line(b"").is_err());
    }
}
