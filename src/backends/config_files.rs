//! Where a workspace's configuration files come from: a template directory, or generated (R26).
//!
//! Order: the template that the workspace names; else the runtime's default templates; else a generated `config.yaml`,
//! unless the runtime needs a template. A template without `config.yaml` is no source. What an agent or a person wrote
//! into a configuration that is already there is for the adapter to keep.

use std::io;
use std::path::{Component, Path, PathBuf};

use covalence_actors::effect::{ProvisionError, ProvisionSpec};
use covalence_events::WorkspaceId;

use crate::runtimes::Runtime;

/// The file that every workspace needs.
pub const CONFIG_FILE: &str = "config.yaml";
/// First line of a generated `config.yaml`. A file that still begins with it is generated anew at each start, so that a
/// changed name or tier arrives; a person who edits the file removes the line to keep the edits.
pub const GENERATED_MARK: &str = "# Generated at each start; remove this line to keep your changes.";

/// Real templates have a handful of files; more means that the directory is something else.
const TEMPLATE_FILES_MAX: usize = 1_000;
/// Templates are text. This still fits a request to an engine comfortably.
const TEMPLATE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Deeper nesting than any real template's.
const TEMPLATE_DEPTH_MAX: usize = 16;

/// One file, relative to the configuration directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    /// Relative path with only plain components.
    pub path: PathBuf,
    /// What is in it.
    pub body: Vec<u8>,
}

/// The configuration of a workspace that has none yet.
///
/// Blocking: reads the template directory. `templates` is the directory that holds the templates, if there is one.
///
/// # Errors
/// `config_missing` where there is no source, with the text of the wire contract; `invalid_config` where the template
/// can't be used.
pub fn gather(
    spec: &ProvisionSpec,
    runtime: &Runtime,
    templates: Option<&Path>,
) -> Result<Vec<ConfigFile>, ProvisionError> {
    let named = spec.template.as_slice();
    let candidates = if named.is_empty() { runtime.default_templates.as_slice() } else { named };
    for name in candidates {
        let Some(directory) = template_directory(templates, name) else { continue };
        if directory.join(CONFIG_FILE).is_file() {
            return read_template(&directory).map_err(|error| unusable(name, &error));
        }
    }
    if named.is_empty() && !runtime.needs_template {
        let body = generate(spec, runtime).into_bytes();
        return Ok(vec![ConfigFile { path: PathBuf::from(CONFIG_FILE), body }]);
    }
    Err(missing(spec.workspace))
}

/// The error of a workspace without any source for its `config.yaml`.
pub fn missing(workspace: WorkspaceId) -> ProvisionError {
    ProvisionError {
        code: "config_missing",
        message: format!(
            "cannot start workspace {workspace}: no config.yaml source and config volume is empty — \
             delete the workspace or provide a template"
        ),
        retryable: false,
        command: None,
    }
}

/// The `config.yaml` of a workspace without a template.
pub fn generate(spec: &ProvisionSpec, runtime: &Runtime) -> String {
    let mut lines = vec![
        GENERATED_MARK.to_owned(),
        format!("name: {}", quoted(&spec.name)),
        format!("description: {}", quoted(spec.role.as_deref().unwrap_or(""))),
        "version: \"1.0.0\"".to_owned(),
        format!("tier: {}", spec.tier),
        format!("runtime: {}", quoted(&spec.runtime)),
    ];
    if let Some(model) = spec.model.as_deref().or(runtime.default_model.as_deref()) {
        lines.push(format!("model: {}", quoted(model)));
    }
    // These two set their own limits and reject the key.
    if !matches!(spec.runtime.as_str(), "langgraph" | "deepagents") {
        lines.push("runtime_config:".to_owned());
        lines.push("  timeout: 0".to_owned());
    }
    lines.push(String::new());
    lines.join("\n")
}

/// A YAML double-quoted scalar on one line. Control characters are dropped: they have no business in a name.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars().filter(|c| !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')) {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// A template is named by one plain path component, so that no name leads out of the templates' directory.
fn template_directory(templates: Option<&Path>, name: &str) -> Option<PathBuf> {
    let mut components = Path::new(name).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(_)), None) => templates.map(|root| root.join(name)),
        _ => None,
    }
}

fn unusable(name: &str, error: &io::Error) -> ProvisionError {
    ProvisionError {
        code: "invalid_config",
        message: format!("template `{name}` can't be used: {error}"),
        retryable: false,
        command: None,
    }
}

fn read_template(root: &Path) -> io::Result<Vec<ConfigFile>> {
    let mut files = Vec::new();
    let mut bytes = 0_u64;
    let mut pending = vec![(root.to_owned(), 0_usize)];
    while let Some((directory, depth)) = pending.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let entry = entry?;
            // The entry's own type: links are left out, since they could lead anywhere on the host.
            let kind = entry.file_type()?;
            if kind.is_dir() && depth < TEMPLATE_DEPTH_MAX {
                pending.push((entry.path(), depth + 1));
            } else if kind.is_file() {
                bytes += entry.metadata()?.len();
                if files.len() >= TEMPLATE_FILES_MAX || bytes > TEMPLATE_BYTES_MAX {
                    return Err(io::Error::other(format!(
                        "more than {TEMPLATE_FILES_MAX} files or {TEMPLATE_BYTES_MAX} bytes"
                    )));
                }
                let full = entry.path();
                let path = full.strip_prefix(root).map_err(io::Error::other)?.to_owned();
                files.push(ConfigFile { body: normalised(&path, std::fs::read(&full)?), path });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// Templates edited on Windows carry CR LF, which breaks scripts' first lines.
fn normalised(path: &Path, body: Vec<u8>) -> Vec<u8> {
    let is_text = path.extension().is_some_and(|ext| ["sh", "py", "md"].iter().any(|known| ext == *known));
    if !is_text || !body.contains(&b'\r') {
        return body;
    }
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'\r' || rest.peek() != Some(&b'\n') {
            out.push(byte);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use covalence_actors::effect::Secret;
    use covalence_events::Generation;
    use covalence_events::workspace::WorkspaceAccess;

    use super::*;
    use crate::runtimes::{ImageNames, Runtimes, RuntimesConfig};

    fn spec(name: &str, template: Option<&str>) -> ProvisionSpec {
        ProvisionSpec {
            workspace: WorkspaceId::generate(),
            generation: Generation(1),
            name: name.to_owned(),
            role: None,
            tier: 2,
            runtime: "claude-code".to_owned(),
            model: None,
            template: template.map(str::to_owned),
            parent: None,
            workspace_dir: None,
            workspace_access: WorkspaceAccess::None,
            reset_session: false,
            token: Secret::new("t".to_owned()),
            secrets: Vec::new(),
        }
    }

    fn runtime() -> Runtime {
        let runtimes = Runtimes::new(&RuntimesConfig::default(), &ImageNames::default()).unwrap();
        runtimes.get("claude-code").unwrap().clone()
    }

    #[test]
    fn generated_strings_are_quoted_and_stay_on_one_line() {
        let text = generate(&spec("a \"b\"\\c\nd: [e]", None), &runtime());
        assert!(text.contains("name: \"a \\\"b\\\"\\\\cd: [e]\"\n"), "{text}");
        assert!(text.contains("model: \"sonnet\"\nruntime_config:\n  timeout: 0\n"), "{text}");
    }

    #[test]
    fn a_default_template_wins_over_a_generated_configuration() {
        let templates = tempfile::tempdir().unwrap();
        let directory = templates.path().join("claude-code-default");
        std::fs::create_dir_all(directory.join("skills")).unwrap();
        std::fs::write(directory.join(CONFIG_FILE), "name: x\n").unwrap();
        std::fs::write(directory.join("skills/run.sh"), "#!/bin/sh\r\necho \r x\r\n").unwrap();
        let files = gather(&spec("n", None), &runtime(), Some(templates.path())).unwrap();
        assert_eq!(files.len(), 2);
        assert_eq!(files[1].path, Path::new("skills/run.sh"));
        assert_eq!(files[1].body, b"#!/bin/sh\necho \r x\n");
    }

    #[test]
    fn a_named_template_that_is_not_there_is_config_missing() {
        let templates = tempfile::tempdir().unwrap();
        std::fs::create_dir(templates.path().join("empty")).unwrap();
        for name in ["absent", "empty", "../empty", "/etc", "."] {
            let error = gather(&spec("n", Some(name)), &runtime(), Some(templates.path())).unwrap_err();
            assert_eq!(error.code, "config_missing", "{name}");
        }
    }

    #[test]
    fn links_in_a_template_are_left_out() {
        let templates = tempfile::tempdir().unwrap();
        let directory = templates.path().join("t");
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join(CONFIG_FILE), "a: 1\n").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", directory.join("leak")).unwrap();
        assert_eq!(gather(&spec("n", Some("t")), &runtime(), Some(templates.path())).unwrap().len(), 1);
    }
}
