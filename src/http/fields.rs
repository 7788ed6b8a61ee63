//! The contract's rules for the fields of a workspace, with its texts (1.1 and 1.4).

use std::path::{Component, Path, PathBuf};

use covalence_events::workspace::WorkspaceAccess;

use crate::http::error::ApiError;

/// Bytes.
pub const NAME_MAX: usize = 255;
/// Bytes.
pub const ROLE_MAX: usize = 1000;
/// Bytes of a model's or runtime's name.
pub const WORD_MAX: usize = 100;
/// Characters that mean something in YAML, where names and roles end up.
const FORBIDDEN: &[char] = &['{', '}', '[', ']', '|', '>', '*', '&', '!'];
/// Directories of the system, never handed to an agent whatever the roots say.
const SYSTEM: &[&str] = &["/etc", "/var", "/proc", "/sys", "/dev", "/boot", "/sbin", "/bin", "/lib", "/usr"];

/// What is wrong with a field, in the words that PATCH answers with.
pub fn text(field: &'static str, value: &str) -> Result<(), ApiError> {
    let (max, strict) = match field {
        "name" => (NAME_MAX, true),
        "role" => (ROLE_MAX, true),
        _ => (WORD_MAX, false),
    };
    let problem = if value.len() > max {
        format!("{field} must be at most {max} characters")
    } else if field == "name" && value.trim().is_empty() {
        "name must not be blank".to_owned()
    } else if value.contains(['\n', '\r']) {
        format!("{field} must not contain newline characters")
    } else if value.contains(char::is_control) || strict && value.contains(FORBIDDEN) {
        // Control characters move the cursor of whoever lists workspaces, and the agent refuses them.
        format!("{field} contains invalid characters")
    } else {
        return Ok(());
    };
    Err(ApiError::bad("invalid_field", problem).field(field))
}

/// The same with POST's one text, the reason beside it.
pub fn text_on_create(field: &'static str, value: &str) -> Result<(), ApiError> {
    text(field, value).map_err(|error| invalid_fields(field, error.text.into_owned()))
}

/// POST's text for a field that is no good.
pub fn invalid_fields(field: &'static str, detail: impl Into<String>) -> ApiError {
    ApiError::bad("invalid_field", "invalid workspace fields").field(field).detail(detail)
}

/// Tier 1 to 4; none or 0 means 2.
pub fn tier(tier: Option<i64>) -> Result<u8, ApiError> {
    match tier {
        None | Some(0) => Ok(2),
        Some(tier @ 1..=4) => Ok(u8::try_from(tier).unwrap_or(2)),
        Some(_) => Err(invalid_fields("tier", "tier must be 1, 2, 3 or 4")),
    }
}

/// What the agent may do in its directory, which must then be there.
pub fn access(word: Option<&str>, has_directory: bool) -> Result<WorkspaceAccess, ApiError> {
    let invalid = |detail: &str| {
        ApiError::bad("invalid_workspace_access", "invalid workspace access")
            .field("workspace_access")
            .detail(detail)
    };
    let access = match word.unwrap_or_default() {
        "" | "none" => WorkspaceAccess::None,
        "read_only" => WorkspaceAccess::ReadOnly,
        "read_write" => WorkspaceAccess::ReadWrite,
        _ => return Err(invalid("must be `none`, `read_only` or `read_write`")),
    };
    if access != WorkspaceAccess::None && !has_directory {
        return Err(invalid("access to a directory needs `workspace_dir`"));
    }
    Ok(access)
}

/// A template is the name of a directory, never a path.
pub fn template(name: &str) -> Result<(), ApiError> {
    let is_name = !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if is_name && name.len() <= WORD_MAX {
        return Ok(());
    }
    Err(ApiError::bad("invalid_template", "invalid template")
        .field("template")
        .detail("must be the name of a template"))
}

/// A host directory: absolute, without `..`, there, and below one of the roots once its links are resolved.
pub fn directory(text: &str, roots: &[PathBuf]) -> Result<String, ApiError> {
    let invalid = |detail: String| {
        ApiError::bad("invalid_workspace_dir", "invalid workspace directory")
            .field("workspace_dir")
            .detail(detail)
    };
    let path = Path::new(text);
    if !path.is_absolute()
        || path.components().any(|part| part == Component::ParentDir)
        || text.contains('\0')
    {
        return Err(invalid("must be absolute, without `..`".to_owned()));
    }
    if SYSTEM.iter().any(|system| path.starts_with(system)) {
        return Err(invalid("must not be a directory of the system".to_owned()));
    }
    if roots.is_empty() {
        return Err(invalid("no directory is allowed: `COVALENCE_WORKSPACE_ROOTS` is not set".to_owned()));
    }
    let real = path.canonicalize().map_err(|_| invalid("no such directory".to_owned()))?;
    let inside = roots.iter().filter_map(|root| root.canonicalize().ok()).any(|root| real.starts_with(root));
    if !inside || SYSTEM.iter().any(|system| real.starts_with(system)) {
        return Err(invalid("must lie below one of `COVALENCE_WORKSPACE_ROOTS`".to_owned()));
    }
    if !real.is_dir() {
        return Err(invalid("not a directory".to_owned()));
    }
    Ok(real.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use covalence_events::workspace::WorkspaceAccess;

    use super::{access, directory, template, text, tier};

    #[test]
    fn names_and_roles_have_their_limits_and_texts() {
        let says = |field, value: &str| text(field, value).unwrap_err().text.into_owned();
        assert!(text("name", &"n".repeat(255)).is_ok());
        assert_eq!(says("name", &"n".repeat(256)), "name must be at most 255 characters");
        assert_eq!(says("name", &"é".repeat(128)), "name must be at most 255 characters");
        assert_eq!(says("role", &"r".repeat(1001)), "role must be at most 1000 characters");
        assert_eq!(says("name", "a\nb"), "name must not contain newline characters");
        assert_eq!(says("model", "a\rb"), "model must not contain newline characters");
        assert_eq!(says("name", "a\tb"), "name contains invalid characters");
        assert_eq!(says("name", "  "), "name must not be blank");
        assert_eq!(says("model", "\u{1b}c"), "model contains invalid characters");
        for forbidden in "{}[]|>*&!".chars() {
            assert_eq!(says("name", &forbidden.to_string()), "name contains invalid characters");
        }
        assert!(text("model", "anthropic:claude[1m]").is_ok());
    }

    #[test]
    fn a_tier_is_1_to_4_and_2_where_nothing_is_said() {
        assert_eq!((tier(None).unwrap(), tier(Some(0)).unwrap(), tier(Some(4)).unwrap()), (2, 2, 4));
        assert!(tier(Some(5)).is_err() && tier(Some(-1)).is_err());
    }

    #[test]
    fn access_needs_a_directory() {
        assert_eq!(access(None, false).unwrap(), WorkspaceAccess::None);
        assert!(access(Some("read_only"), false).is_err());
        assert_eq!(access(Some("read_write"), true).unwrap(), WorkspaceAccess::ReadWrite);
        assert!(access(Some("all"), true).is_err());
    }

    #[test]
    fn a_template_is_never_a_path() {
        assert!(template("claude-code-default").is_ok());
        for bad in ["../etc", "a/b", ".hidden", "a b"] {
            assert!(template(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_directory_lies_below_a_root_after_its_links_are_resolved() {
        let root = tempfile::tempdir_in("/tmp").unwrap();
        let inside = root.path().join("work");
        std::fs::create_dir(&inside).unwrap();
        std::os::unix::fs::symlink("/", root.path().join("out")).unwrap();
        let roots = [root.path().to_owned()];
        let at = |path: &std::path::Path| directory(path.to_str().unwrap(), &roots);
        assert!(at(&inside).is_ok());
        for bad in [root.path().join("out/home"), root.path().join("none"), root.path().join("work/../../x")]
        {
            assert!(at(&bad).is_err(), "{}", bad.display());
        }
        assert!(directory("/etc/ssl", &["/".into()]).is_err());
        assert!(directory("relative", &roots).is_err());
        let none = directory(inside.to_str().unwrap(), &[]).unwrap_err();
        assert!(none.to_string().contains("invalid workspace directory"));
    }
}
