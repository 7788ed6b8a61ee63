//! Files that go into workspaces and come out of them, by paths as an agent in a container sees them.

use std::fmt;
use std::path::{Component, Path};

use bytes::Bytes;

use super::{BackendError, LogStream};

/// The file with a workspace's own token, which is given to nobody.
const TOKEN_FILE: &str = ".auth_token";

/// A directory of a workspace that others than its agent may look into (contract content 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// Its configuration.
    Configs,
    /// What it works on.
    Workspace,
    /// Its user's home.
    Home,
    /// What was added to it.
    Plugins,
}

impl Root {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Configs, Self::Workspace, Self::Home, Self::Plugins];

    /// Where it is in a container.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Configs => "/configs",
            Self::Workspace => "/workspace",
            Self::Home => "/home",
            Self::Plugins => "/plugins",
        }
    }
}

/// Why a text names no file of a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFlaw {
    /// It does not begin at the root.
    #[error("path must be absolute")]
    NotAbsolute,
    /// It is in none of the directories that others may look into.
    #[error("path must be under /configs, /workspace, /home, or /plugins")]
    OutsideRoots,
    /// It is not the one way to write its path: `..`, `.`, `//`, a slash at its end, or a control character.
    #[error("invalid path")]
    NotCanonical,
    /// It names the workspace's token.
    #[error("invalid path")]
    Token,
}

/// A file below one of the [`Root`]s, written in the one way that there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePath {
    root: Root,
    relative: String,
}

impl FilePath {
    /// Reads a path as clients send it.
    ///
    /// # Errors
    /// The first thing that is wrong with it, in the order of the contract's table (data 4.7).
    pub fn parse(text: &str) -> Result<Self, PathFlaw> {
        if !text.starts_with('/') {
            return Err(PathFlaw::NotAbsolute);
        }
        let below = |root: Root| Some((root, text.strip_prefix(root.path())?.strip_prefix('/')?));
        let (root, relative) = Root::ALL.into_iter().find_map(below).ok_or(PathFlaw::OutsideRoots)?;
        Self::new(root, relative)
    }

    /// A path below a root.
    ///
    /// # Errors
    /// Where it is not written in the one way that there is, or names the workspace's token.
    pub fn new(root: Root, relative: &str) -> Result<Self, PathFlaw> {
        let plain = |component| matches!(component, Component::Normal(_));
        let joined = relative.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !joined || relative.contains(char::is_control) || !Path::new(relative).components().all(plain) {
            return Err(PathFlaw::NotCanonical);
        }
        if (root, relative) == (Root::Configs, TOKEN_FILE) {
            return Err(PathFlaw::Token);
        }
        Ok(Self { root, relative: relative.to_owned() })
    }

    /// Which directory it is below.
    pub const fn root(&self) -> Root {
        self.root
    }

    /// Its path below that.
    pub fn relative(&self) -> &Path {
        Path::new(&self.relative)
    }

    /// Its last component.
    pub fn name(&self) -> &str {
        self.relative.rsplit('/').next().unwrap_or_default()
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.root.path(), self.relative)
    }
}

/// A file to be put into a workspace.
#[derive(Clone, Debug)]
pub struct NewFile {
    /// Where. Directories on the way are made.
    pub path: FilePath,
    /// What is in it.
    pub body: Bytes,
}

/// A file of a workspace.
pub struct FoundFile {
    /// How many bytes it has.
    pub bytes: u64,
    /// Exactly so many, as they come; fewer only after an error.
    pub body: LogStream,
}

impl fmt::Debug for FoundFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FoundFile").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// Why files did not go in or come out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Nothing of the workspace runs here.
    #[error("nothing of the workspace runs here")]
    NotRunning,
    /// There is no such file.
    #[error("there is no such file")]
    NotFound,
    /// Nothing can be written there, by the workspace itself neither.
    #[error("nothing can be written there")]
    NoPlace,
    /// It is a directory, a link or a device.
    #[error("it is not a regular file")]
    NotRegular,
    /// The backend failed, or answered nothing within its time.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_taken_in_one_way_of_writing_only() {
        use PathFlaw::{NotAbsolute, NotCanonical, OutsideRoots, Token};
        let cases = [
            ("/workspace/a.txt", Ok(Root::Workspace)),
            ("/configs/skills/a b.md", Ok(Root::Configs)),
            ("/home/agent/.profile", Ok(Root::Home)),
            ("/plugins/x/..y", Ok(Root::Plugins)),
            ("workspace/a.txt", Err(NotAbsolute)),
            ("", Err(NotAbsolute)),
            ("/etc/passwd", Err(OutsideRoots)),
            ("/workspaces/a", Err(OutsideRoots)),
            ("/workspace", Err(OutsideRoots)),
            ("/workspace/", Err(NotCanonical)),
            ("/workspace/../etc/passwd", Err(NotCanonical)),
            ("/workspace/a/./b", Err(NotCanonical)),
            ("/workspace/a//b", Err(NotCanonical)),
            ("/workspace/a/", Err(NotCanonical)),
            ("/workspace/a\0b", Err(NotCanonical)),
            ("/workspace/a\nb", Err(NotCanonical)),
            ("/configs/.auth_token", Err(Token)),
        ];
        for (text, expected) in cases {
            let parsed = FilePath::parse(text);
            assert_eq!(parsed.as_ref().map(FilePath::root).map_err(|flaw| *flaw), expected, "{text:?}");
            if let Ok(path) = parsed {
                assert_eq!(path.to_string(), text);
            }
        }
    }
}
