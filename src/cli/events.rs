//! `covalence events`: what happened, and why.

use clap::Args;
use covalence_events::{fleet, workspace};

use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::log_reader::{Filter, Reader, Record};
use crate::cli::output::{Output, note};
use crate::cli::when::When;
use crate::cli::{Shared, fact, name};

const EXAMPLES: &str = "\
Each line: time, position, workspace, type, the numbers that matter, and [id <- id of its cause].

Examples:
  covalence events --workspace lead --since -15m
  covalence events --since 03:00 --until 03:30
  covalence events --follow --type went_offline --type came_online
  covalence events --since 1200 --limit 50 --json

Times: RFC 3339, a time of day (03:07), an age (-15m; s, m, h, d), or a position (1200).";

/// A fact about every beat of every workspace; shown on request.
const HEARTBEAT: &str = "workspace.heartbeat_received.v1";

/// Print what happened, from the event log
#[expect(clippy::doc_markdown, reason = "these comments are help texts, where backticks would show")]
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Events {
    /// Go on as more happens; without --since, from this moment on
    #[arg(long, short)]
    follow: bool,
    /// Only about this workspace: name, id, or the beginning of either
    #[arg(long, short, value_name = "WORKSPACE")]
    workspace: Option<String>,
    /// From this time or position on
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = When::parse)]
    since: Option<When>,
    /// Up to this time or position
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = When::parse)]
    until: Option<When>,
    /// Only of this type, such as went_offline; may be repeated
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Only what belongs to this request or incident
    #[arg(long, value_name = "ID")]
    correlation: Option<String>,
    /// At most so many
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// Heartbeats too
    #[arg(long, short)]
    all: bool,
}

impl Events {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let tags = self.types.iter().map(|word| tag(word)).collect::<Outcome<Vec<String>>>()?;
        let client = shared.client()?;
        let (rows, server_time) = client.roster().await?;
        let workspace = match &self.workspace {
            Some(wanted) => {
                let roster: Vec<_> = rows.iter().map(name::Named::from_row).collect();
                Some(workspace_id(wanted, &roster)?)
            }
            None => None,
        };
        let since = match self.since {
            None if self.follow => Some(When::Time(server_time)),
            since => since,
        };
        let shows_beats = self.all || shared.json || tags.iter().any(|tag| tag == HEARTBEAT);
        let filter = Filter {
            workspace,
            correlation: self.correlation,
            tags,
            since,
            until: self.until,
            follow: self.follow,
        };
        let mut printer = Printer {
            names: fact::Names::from_roster(&rows),
            output: shared.output(),
            shows_beats,
            shown: 0,
            hidden: 0,
        };
        let mut reader = Reader::new(&client, filter);
        while self.limit.is_none_or(|limit| printer.shown < limit) {
            let Some(record) = reader.next().await? else { break };
            printer.print(&record)?;
        }
        if printer.hidden > 0 {
            note(&match printer.hidden {
                1 => "1 heartbeat is not shown; --all shows it".to_owned(),
                hidden => format!("{hidden} heartbeats are not shown; --all shows them"),
            });
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Printer {
    names: fact::Names,
    output: Output,
    shows_beats: bool,
    shown: u64,
    hidden: u64,
}

impl Printer {
    fn print(&mut self, record: &Record) -> Outcome {
        self.names.learn(record);
        if record.tag() == HEARTBEAT && !self.shows_beats {
            self.hidden += 1;
            return Ok(());
        }
        self.shown += 1;
        if self.output.json {
            return self.output.line(&record.raw.to_string());
        }
        self.output.line(&fact::line(record, &self.names, self.output))
    }
}

/// Removed workspaces are in no roster, but their history stays: a whole id is taken as it is.
pub(super) fn workspace_id(wanted: &str, roster: &[name::Named]) -> Outcome<String> {
    if let Ok(id) = wanted.parse::<covalence_events::WorkspaceId>() {
        return Ok(id.to_string());
    }
    let failure = match name::resolve(wanted, roster) {
        Ok(named) => return Ok(named.id),
        Err(failure) => failure,
    };
    Err(if failure.exit == Exit::NotFound {
        failure.hint("a removed workspace is named by its whole id")
    } else {
        failure
    })
}

/// The wire tag of a type that a person names by its word.
fn tag(word: &str) -> Outcome<String> {
    // A server of another version may know types that we don't; it says so itself.
    if word.contains('.') {
        return Ok(word.to_owned());
    }
    let known = || workspace::Event::TAGS.iter().chain(fleet::Event::TAGS);
    let middle = |tag: &str| tag.split('.').nth(1).unwrap_or_default().to_owned();
    if let Some(tag) = known().find(|tag| middle(tag) == word) {
        return Ok((*tag).to_owned());
    }
    let words: Vec<String> = known().map(|tag| middle(tag)).collect();
    Err(Failure::new(Exit::Usage, format!("no event type `{word}`"))
        .hint(format!("known are {}; a whole wire tag is taken as it is", words.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_named_by_its_word_or_its_whole_tag() {
        assert_eq!(tag("went_offline").unwrap(), "workspace.went_offline.v1");
        assert_eq!(tag("restart_admitted").unwrap(), "fleet.restart_admitted.v1");
        assert_eq!(tag("workspace.future.v9").unwrap(), "workspace.future.v9");
        assert!(tag("offline").unwrap_err().to_string().contains("went_offline"));
    }

    #[test]
    fn a_removed_workspace_is_named_by_its_whole_id() {
        let id = "0b8f2a54-1111-4222-8333-444455556666";
        assert_eq!(workspace_id(id, &[]).unwrap(), id);
        assert!(workspace_id("0b8f", &[]).unwrap_err().to_string().contains("whole id"));
    }
}
