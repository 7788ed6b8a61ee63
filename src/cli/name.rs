//! Which workspace a person means: its id, its name, or the beginning of either.

use serde_json::Value;

use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::output::{printable, text};

/// More candidates than these don't help anybody to choose.
const CANDIDATES_MAX: usize = 10;

/// What a row of the roster says about who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// Its id.
    pub(super) id: String,
    /// Its name.
    pub(super) name: String,
}

impl Named {
    /// What a row of `GET /workspaces` says.
    pub(super) fn from_row(row: &Value) -> Self {
        Self { id: text(row, "id").to_owned(), name: text(row, "name").to_owned() }
    }
}

/// The one workspace that `wanted` names. A whole id or name wins over the beginning of another; several are an error
/// that lists them.
pub(super) fn resolve(wanted: &str, roster: &[Named]) -> Outcome<Named> {
    let by_id = roster.iter().filter(|row| row.id.eq_ignore_ascii_case(wanted));
    let by_name = roster.iter().filter(|row| row.name == wanted);
    let by_prefix = roster.iter().filter(|row| {
        !wanted.is_empty()
            && (row.id.starts_with(&wanted.to_ascii_lowercase()) || row.name.starts_with(wanted))
    });
    for candidates in [by_id.collect::<Vec<_>>(), by_name.collect(), by_prefix.collect()] {
        match candidates.as_slice() {
            [] => {}
            [one] => return Ok((*one).clone()),
            several => return Err(ambiguous(wanted, several)),
        }
    }
    Err(Failure::new(Exit::NotFound, format!("no workspace `{}`", printable(wanted)))
        .hint("`covalence workspaces ls` lists them"))
}

fn ambiguous(wanted: &str, candidates: &[&Named]) -> Failure {
    let mut lines: Vec<String> = candidates
        .iter()
        .take(CANDIDATES_MAX)
        .map(|row| format!("  {}  {}", row.id, printable(&row.name)))
        .collect();
    if candidates.len() > CANDIDATES_MAX {
        lines.push(format!("  and {} more", candidates.len() - CANDIDATES_MAX));
    }
    let message =
        format!("`{}` names {} workspaces:\n{}", printable(wanted), candidates.len(), lines.join("\n"));
    Failure::new(Exit::Usage, message).hint("use the id, or more of it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roster() -> Vec<Named> {
        [
            ("aaaa1111-0000-4000-8000-000000000000", "lead"),
            ("aaaa2222-0000-4000-8000-000000000000", "lead-designer"),
            ("bbbb3333-0000-4000-8000-000000000000", "tester"),
            ("cccc4444-0000-4000-8000-000000000000", "twin"),
            ("dddd5555-0000-4000-8000-000000000000", "twin"),
        ]
        .map(|(id, name)| Named { id: id.to_owned(), name: name.to_owned() })
        .to_vec()
    }

    fn id(wanted: &str) -> Result<String, Failure> {
        resolve(wanted, &roster()).map(|named| named.id[..8].to_owned())
    }

    #[test]
    fn an_id_a_name_or_a_unique_beginning_names_a_workspace() {
        assert_eq!(id("BBBB3333-0000-4000-8000-000000000000").unwrap(), "bbbb3333");
        assert_eq!(id("tester").unwrap(), "bbbb3333");
        assert_eq!(id("bb").unwrap(), "bbbb3333");
        assert_eq!(id("te").unwrap(), "bbbb3333");
    }

    #[test]
    fn a_whole_name_wins_over_the_beginning_of_another() {
        assert_eq!(id("lead").unwrap(), "aaaa1111");
        assert_eq!(id("lead-").unwrap(), "aaaa2222");
    }

    #[test]
    fn an_ambiguous_one_lists_the_candidates() {
        let failure = id("twin").unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        let text = failure.to_string();
        assert!(
            text.contains("names 2 workspaces") && text.contains("cccc4444") && text.contains("dddd5555"),
            "{text}"
        );
        assert!(id("aaaa").unwrap_err().to_string().contains("lead-designer"));
    }

    #[test]
    fn an_unknown_one_is_not_found() {
        assert_eq!(id("nobody").unwrap_err().exit, Exit::NotFound);
        assert_eq!(id("").unwrap_err().exit, Exit::NotFound);
    }
}
