//! `covalence diff`: the state of the fleet at two moments, side by side.

use std::collections::BTreeSet;
use std::sync::Arc;

use clap::Args;
use covalence_projections::History;
use reqwest::Method;

use crate::cli::Shared;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::incidents::{Copied, Source, moment, query, read};
use crate::cli::when::When;
use crate::moments::diff as differences;
use crate::moments::{Failure as NoAnswer, Past, Span};

mod show;

const EXAMPLES: &str = "\
Each field: before, after, and the fact that changed it last (its position, time and words).

Examples:
  covalence diff --from 03:00 --to 03:30      what the night has changed
  covalence diff --from -1h                   up to now
  covalence diff --from 1200 --to 1300 --workspace lead
  covalence diff --from -1d --json | jq '.subjects[] | select(.how == \"removed\") | .name'
  covalence diff --from 03:00 --to 03:30 --data-dir /var/lib/covalence
                                              without its server, from a copy of the log

Times: RFC 3339, a time of day (03:07), an age (-15m; s, m, h, d), or a position (1200).";

/// Say what differs between two moments, and which fact changed it
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Diff {
    /// The earlier moment: a time or a position
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = When::parse)]
    from: When,
    /// The later moment [default: now]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = When::parse)]
    to: Option<When>,
    /// Only about this workspace, and what holds everybody: name, id, or the beginning of either; may be repeated
    #[arg(long = "workspace", short, value_name = "WORKSPACE")]
    workspaces: Vec<String>,
    /// Also fields that each sign of life changes, such as the time of the last heartbeat
    #[arg(long)]
    pulse: bool,
    /// No colour, also on a terminal
    #[arg(long)]
    plain: bool,
}

impl Diff {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let output = shared.output();
        let source = Source::find(shared).await?;
        let ids = workspaces(&source, &self.workspaces).await?;
        let found: differences::Diff = match &source {
            Source::Server(client) => {
                let mut asked = vec![("from", query(self.from)), ("pulse", self.pulse.to_string())];
                asked.extend(self.to.map(|to| ("to", query(to))));
                if !ids.is_empty() {
                    asked.push(("workspace", ids.into_iter().collect::<Vec<_>>().join(",")));
                }
                read(client.json(client.request(Method::GET, &["diff"]).query(&asked)).await?)?
            }
            Source::Copied(copied) => {
                let span = span(self.from, self.to, &ids, self.pulse)?;
                differences::between(&past(copied), &span).await?
            }
        };
        if output.json {
            return output.document(&serde_json::to_value(&found).map_err(anyhow::Error::from)?);
        }
        output.line(&show::text(&found, if self.plain { output.plain() } else { output }))
    }
}

/// The ids of the workspaces that a person names.
pub(super) async fn workspaces(source: &Source, named: &[String]) -> Outcome<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    for wanted in named {
        ids.insert(source.workspace(wanted).await?);
    }
    Ok(ids)
}

/// A span as questions about a copy take it.
pub(super) fn span(from: When, to: Option<When>, ids: &BTreeSet<String>, pulse: bool) -> Outcome<Span> {
    let workspaces: Result<_, uuid::Error> = ids.iter().map(|id| id.parse()).collect();
    let workspaces = workspaces.map_err(anyhow::Error::from)?;
    Ok(Span { from: moment(Some(from)), to: moment(to), workspaces, pulse })
}

/// The past of a copied log.
pub(super) fn past(copied: &Copied) -> Past {
    let log: Arc<dyn covalence_events::log::EventLog> = Arc::clone(&copied.log) as _;
    Past { history: History::new(Arc::clone(&log), None), log, who: copied.who.clone() }
}

impl From<NoAnswer> for Failure {
    fn from(failure: NoAnswer) -> Self {
        match failure {
            NoAnswer::Question(failure) => failure.into(),
            NoAnswer::TooLong { .. } => {
                let short = "name a later --from or an earlier --to";
                Self { exit: Exit::Usage, error: failure.into(), hint: None }.hint(short)
            }
            NoAnswer::Damaged(_) => Self { exit: Exit::Failure, error: failure.into(), hint: None },
        }
    }
}
