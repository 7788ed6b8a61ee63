//! Workspace templates: directories with a `config.yaml`, which may name a team (contract content 2.1, 4.3).
//!
//! Nothing here is ever read from outside of the templates' directory, neither by a name that leads out of it nor by a link.

use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::backends::config_files::CONFIG_FILE;

/// A longer file is no configuration.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
/// Directories looked through for a template by the name in its configuration. Real installations have a few dozen.
const TEMPLATES_MAX: usize = 1_000;
/// Characters of what the parser says about a file: enough for the place and the reason.
const REASON_MAX: usize = 300;

/// What matters here of a template's `config.yaml`. It has many more keys, which are for the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Config {
    /// What the template is called.
    #[serde(default)]
    pub name: Option<String>,
    /// The runtime that it is made for.
    #[serde(default)]
    pub runtime: Option<String>,
    /// Its team.
    #[serde(default)]
    pub sub_workspaces: Option<Vec<Entry>>,
}

/// One of a team, as the template says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Entry {
    /// The template that it is made from.
    #[serde(default)]
    pub config: Option<String>,
    /// What it is called; where absent, like its template.
    #[serde(default)]
    pub name: Option<String>,
    /// Its job.
    #[serde(default)]
    pub role: Option<String>,
}

/// Why there is no configuration. Texts name the template and never a path of the host: agents are shown them.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// There is no such template, or it lies outside of the templates' directory.
    #[error("there is no template `{name}`")]
    Missing {
        /// What was asked for.
        name: String,
    },
    /// Its file can't be read.
    #[error("`config.yaml` of `{name}` can't be read: {source}")]
    Read {
        /// Which template.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// Its file is not what it should be.
    #[error("`config.yaml` of `{name}`: {reason}")]
    Parse {
        /// Which template.
        name: String,
        /// Where and why.
        reason: String,
    },
}

/// The templates of an installation. Everything here blocks: it reads files.
#[derive(Clone, Copy, Debug)]
pub struct Templates<'a> {
    root: &'a Path,
}

impl<'a> Templates<'a> {
    /// Those in a directory.
    pub const fn in_directory(root: &'a Path) -> Self {
        Self { root }
    }

    /// The configuration that a workspace comes from: of the template that it names; else of the one with its name, as a
    /// directory or as the `name` in a configuration.
    pub fn of_workspace(self, template: Option<&str>, name: &str) -> Result<Config, TemplateError> {
        if let Some(template) = template {
            return self.config(template);
        }
        for candidate in [name, &directory_name(name)] {
            match self.config(candidate) {
                Err(TemplateError::Missing { .. }) => {}
                found => return found,
            }
        }
        self.by_its_name(name)
    }

    /// The configuration of a template.
    pub fn config(self, name: &str) -> Result<Config, TemplateError> {
        let missing = || TemplateError::Missing { name: name.to_owned() };
        let unread = |source| TemplateError::Read { name: name.to_owned(), source };
        let directory = inside(self.root, name).ok_or_else(missing)?;
        let file = resolved(self.root, &directory.join(CONFIG_FILE)).map_err(unread)?.ok_or_else(missing)?;
        let text = read(&file).map_err(unread)?;
        // Without the lines around a mistake: who asks is not always who may read the file.
        let options = serde_saphyr::options! { with_snippet: false };
        serde_saphyr::from_str_with_options(&text, options).map_err(|error| {
            let reason = error.to_string();
            let reason = reason.lines().next().unwrap_or_default().chars().take(REASON_MAX).collect();
            TemplateError::Parse { name: name.to_owned(), reason }
        })
    }

    /// The first one, in the order of directories' names, whose configuration has this name. What can't be read is nobody's:
    /// one broken template must not hide the others.
    fn by_its_name(self, name: &str) -> Result<Config, TemplateError> {
        let missing = || TemplateError::Missing { name: name.to_owned() };
        let unread = |source| TemplateError::Read { name: name.to_owned(), source };
        let mut directories = Vec::new();
        for entry in std::fs::read_dir(self.root).map_err(unread)?.take(TEMPLATES_MAX) {
            directories.extend(entry.map_err(unread)?.file_name().into_string());
        }
        directories.sort();
        let configs = directories.iter().filter_map(|directory| self.config(directory).ok());
        configs.into_iter().find(|config| config.name.as_deref() == Some(name)).ok_or_else(missing)
    }
}

/// A workspace's name as a directory would have it: lower-case letters and digits, joined by single dashes.
fn directory_name(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}

/// The contract's path rule: not empty, not absolute, and within the root however many `..` there are.
fn inside(root: &Path, relative: &str) -> Option<PathBuf> {
    let mut clean: Vec<&std::ffi::OsStr> = Vec::new();
    for component in Path::new(relative).components() {
        match component {
            Component::Normal(part) => clean.push(part),
            Component::CurDir => {}
            Component::ParentDir => _ = clean.pop()?,
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    let is_a_path = !relative.is_empty() && !relative.contains('\0');
    is_a_path.then(|| root.join(clean.iter().collect::<PathBuf>()))
}

/// Where a path leads once its links are resolved; nothing if that is nowhere, or not within the root.
fn resolved(root: &Path, path: &Path) -> io::Result<Option<PathBuf>> {
    let real = match path.canonicalize() {
        Ok(real) => real,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    Ok(real.starts_with(root.canonicalize()?).then_some(real))
}

fn read(path: &Path) -> io::Result<String> {
    // Opening a pipe would wait for whoever writes to it.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut text = String::new();
    let length = std::fs::File::open(path)?.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text)?;
    if u64::try_from(length).is_ok_and(|length| length <= CONFIG_BYTES_MAX) {
        return Ok(text);
    }
    Err(io::Error::other(format!("it has more than {CONFIG_BYTES_MAX} bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, directory: &str, config: &str) {
        std::fs::create_dir_all(root.join(directory)).unwrap();
        std::fs::write(root.join(directory).join(CONFIG_FILE), config).unwrap();
    }

    #[test]
    fn a_template_is_found_by_what_the_workspace_names_else_by_its_own_name() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "chief-of-staff", "runtime: by-directory\n");
        write(root.path(), "broken", "runtime: [\n");
        write(root.path(), "zeta", "name: Head of Digging\nruntime: by-name\n");
        write(root.path(), "Exactly_this", "runtime: exact\n");
        let templates = Templates::in_directory(root.path());
        let found = |template, name| templates.of_workspace(template, name).ok().and_then(|it| it.runtime);
        for (template, name, expected) in [
            (None, "Chief of  Staff!", Some("by-directory")),
            (None, "Exactly_this", Some("exact")),
            (None, "Head of Digging", Some("by-name")),
            (None, "head of digging", None),
            (None, "nobody", None),
            (Some("zeta"), "Chief of Staff", Some("by-name")),
            (Some("gone"), "Chief of Staff", None),
        ] {
            assert_eq!(found(template, name).as_deref(), expected, "{template:?}, {name}");
        }
    }

    #[test]
    fn no_name_and_no_link_leads_out_of_the_directory() {
        let outside = tempfile::tempdir().unwrap();
        write(outside.path(), "secret", "runtime: leaked\n");
        let root = outside.path().join("templates");
        write(&root, "good/deeper", "runtime: fine\n");
        std::os::unix::fs::symlink(outside.path().join("secret"), root.join("link")).unwrap();
        std::os::unix::fs::symlink("good/deeper", root.join("own-link")).unwrap();
        std::fs::create_dir(root.join("file-link")).unwrap();
        let leak = outside.path().join("secret").join(CONFIG_FILE);
        std::os::unix::fs::symlink(&leak, root.join("file-link").join(CONFIG_FILE)).unwrap();
        let absolute = outside.path().join("secret").display().to_string();
        let templates = Templates::in_directory(&root);
        for bad in ["../secret", "good/../../secret", "", "\0", "link", "file-link", "nothing", &absolute] {
            let found = templates.config(bad);
            assert!(matches!(found, Err(TemplateError::Missing { .. })), "{bad}: {found:?}");
        }
        for good in ["good/deeper", "good/../good/./deeper", "own-link"] {
            assert_eq!(templates.config(good).unwrap().runtime.as_deref(), Some("fine"), "{good}");
        }
    }

    #[test]
    fn what_is_no_configuration_says_where_and_shows_nothing_of_it() {
        let root = tempfile::tempdir().unwrap();
        let templates = Templates::in_directory(root.path());
        write(root.path(), "long", &"#".repeat(1024 * 1024 + 1));
        assert!(matches!(templates.config("long"), Err(TemplateError::Read { .. })));
        std::fs::create_dir_all(root.path().join("odd").join(CONFIG_FILE)).unwrap();
        assert!(matches!(templates.config("odd"), Err(TemplateError::Read { .. })));
        write(root.path(), "broken", "key: a-secret-value\nsub_workspaces: 7\n");
        let Err(TemplateError::Parse { reason, .. }) = templates.config("broken") else {
            panic!("it is parsed")
        };
        assert!(!reason.is_empty() && !reason.contains("a-secret-value"), "{reason}");
        write(root.path(), "bare", "sub_workspaces:\n");
        assert_eq!(templates.config("bare").unwrap(), Config::default());
        write(root.path(), "team", "tier: 3\nsub_workspaces:\n  - {config: a, role: digs}\n  - name: b\n");
        let entries = templates.config("team").unwrap().sub_workspaces.unwrap();
        assert_eq!(entries[0], Entry { config: Some("a".into()), name: None, role: Some("digs".into()) });
        assert_eq!(entries[1].name.as_deref(), Some("b"));
    }
}
