//! The admin token's file: written at the first start, read by the commands.
//!
//! It appears under its name complete and 0600, or not at all: a crash in between leaves a temporary file that nothing
//! reads. The token never appears in a log line or an error.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use covalence_actors::effect::Secret;
use rand::RngCore as _;
use rand::rngs::OsRng;

/// 256 bits, so that guessing needs no counter-measure.
const TOKEN_BYTES: usize = 32;

/// A longer file is not a token's.
const FILE_MAX: usize = 4096;

/// Why the file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file system refused.
    #[error("admin token file {path}: {step}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done.
        step: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It does not hold a token.
    #[error("admin token file {path} does not hold a token: delete it, and the next start writes one", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

/// Where the token of a data directory is.
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("admin-token")
}

/// The token, if there is one.
pub fn read(data_dir: &Path) -> Result<Option<Secret>, TokenError> {
    let path = path(data_dir);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(TokenError::Io { path, step: "read", source }),
    };
    let token = text.trim();
    let valid =
        !token.is_empty() && text.len() <= FILE_MAX && token.bytes().all(|byte| byte.is_ascii_graphic());
    if valid { Ok(Some(Secret::new(token.to_owned()))) } else { Err(TokenError::Malformed { path }) }
}

/// The token; made and written first if there is none. Call it only while holding the data directory's lock.
///
/// Two callers at once still agree: whoever links the name first wins, and the other reads that.
pub fn read_or_create(data_dir: &Path) -> Result<Secret, TokenError> {
    if let Some(token) = read(data_dir)? {
        return Ok(token);
    }
    let path = path(data_dir);
    let failed = |step| {
        let path = path.clone();
        move |source| TokenError::Io { path, step, source }
    };
    let mut bytes = [0u8; TOKEN_BYTES];
    rand::TryRngCore::unwrap_err(OsRng).fill_bytes(&mut bytes);
    let token = URL_SAFE_NO_PAD.encode(bytes);

    fs::create_dir_all(data_dir).map_err(failed("create directory"))?;
    let temporary = data_dir.join(format!(".admin-token.{}", uuid::Uuid::new_v4().simple()));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(failed("create"))?;
    let written = file.write_all(format!("{token}\n").as_bytes()).and_then(|()| file.sync_all());
    // A link, not a rename: it refuses to replace a token that somebody may already hold.
    let linked = written.and_then(|()| fs::hard_link(&temporary, &path));
    let removed = fs::remove_file(&temporary);
    match linked {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return read(data_dir)?.ok_or(TokenError::Malformed { path });
        }
        Err(source) => return Err(failed("write")(source)),
    }
    removed.map_err(failed("remove temporary file"))?;
    fs::File::open(data_dir).and_then(|directory| directory.sync_all()).map_err(failed("sync directory"))?;
    Ok(Secret::new(token))
}
