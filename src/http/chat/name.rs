//! What a file is called in a workspace, whatever its sender calls it (contract data 4.7).

/// Bytes of a name at most.
const NAME_BYTES_MAX: usize = 100;
/// Bytes of an extension that is kept when a name is cut; a longer one is none.
const EXTENSION_BYTES_MAX: usize = 16;
/// Where nothing is left of a name.
const NAMELESS: &str = "file";

/// A file name of letters, digits, `.`, `_` and `-`, at most 100 bytes of them.
pub(super) fn safe(said: &str) -> String {
    let base = said.rsplit('/').next().unwrap_or_default();
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name: String = base.chars().map(|c| if is_safe(c) { c } else { '_' }).collect();
    if matches!(name.as_str(), "" | "." | "..") {
        return NAMELESS.to_owned();
    }
    if name.len() <= NAME_BYTES_MAX {
        return name;
    }
    let extension = name.rfind('.').map_or("", |dot| &name[dot..]);
    let extension = if extension.len() > EXTENSION_BYTES_MAX { "" } else { extension };
    format!("{}{extension}", &name[..NAME_BYTES_MAX - extension.len()])
}

#[cfg(test)]
mod tests {
    use super::safe;

    #[test]
    fn names_are_safe_in_any_directory_and_keep_their_extension() {
        let long = "x".repeat(200);
        for (said, expected) in [
            ("report.pdf", "report.pdf".to_owned()),
            ("my report (1).pdf", "my_report__1_.pdf".to_owned()),
            ("../../etc/passwd", "passwd".to_owned()),
            ("C:\\files\\a.txt", "C__files_a.txt".to_owned()),
            ("größe.txt", "gr__e.txt".to_owned()),
            ("a\nb\0c", "a_b_c".to_owned()),
            ("", "file".to_owned()),
            (".", "file".to_owned()),
            ("..", "file".to_owned()),
            ("dir/", "file".to_owned()),
            (&format!("{long}.tar.gz"), format!("{}.gz", "x".repeat(97))),
            (&format!("a.{long}"), format!("a.{}", "x".repeat(98))),
        ] {
            assert_eq!(safe(said), expected, "{said:?}");
        }
    }
}
