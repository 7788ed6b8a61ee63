//! `covalence timeline`: what happened between two moments, in lanes.

use std::collections::BTreeSet;

use clap::Args;
use covalence_events::Position;
use covalence_incidents::timeline::{self, LINES_MAX, Span, Timeline};
use reqwest::Method;

use crate::cli::Shared;
use crate::cli::failure::Outcome;
use crate::cli::incidents::{Form, Source, moment, query, read};
use crate::cli::output::note;
use crate::cli::when::When;

mod show;

const EXAMPLES: &str = "\
Each line: time, position, lane, what. Facts that repeat are one line with a count; gaps are where nobody watched.

Examples:
  covalence timeline                          the last fifteen minutes of everybody
  covalence timeline --since 03:00 --until 03:30
  covalence timeline --since -1h --workspace lead --workspace coder
  covalence timeline --since 03:00 --until 03:30 --markdown > incident.md
  covalence timeline --since -1h --data-dir /var/lib/covalence
                                              without its server, from a copy of the log

Times: RFC 3339, a time of day (03:07), an age (-15m; s, m, h, d), or a position (1200).";

/// Print what happened between two moments, in lanes
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Show {
    /// From this time or position on [default: fifteen minutes before the end]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = When::parse)]
    since: Option<When>,
    /// Up to this time or position [default: now]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = When::parse)]
    until: Option<When>,
    /// Only about this workspace, and what holds everybody: name, id, or the beginning of either; may be repeated
    #[arg(long = "workspace", short, value_name = "WORKSPACE")]
    workspaces: Vec<String>,
    /// Go on after this position: the one that the output before ended with
    #[arg(long, value_name = "POSITION")]
    after: Option<u64>,
    /// At most so many lines
    #[arg(long, value_name = "COUNT", default_value_t = LINES_MAX as u64, value_parser = clap::value_parser!(u64).range(1..=LINES_MAX as u64))]
    limit: u64,
    #[command(flatten)]
    form: Form,
}

impl Show {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let output = shared.output();
        let source = Source::find(shared).await?;
        let mut ids = BTreeSet::new();
        for wanted in &self.workspaces {
            ids.insert(source.workspace(wanted).await?);
        }
        let wanted = usize::try_from(self.limit).unwrap_or(LINES_MAX);
        let mut found = self.page(&source, &ids, self.after, wanted).await?;
        while let Some(after) = found.next_after.filter(|_| found.lines.len() < wanted) {
            let next = self.page(&source, &ids, Some(after), wanted - found.lines.len()).await?;
            found.go_on_with(&next);
        }
        if output.json {
            return output.document(&serde_json::to_value(&found).map_err(anyhow::Error::from)?);
        }
        if self.form.markdown {
            output.line(&show::markdown(&found))?;
        } else {
            let output = if self.form.plain { output.plain() } else { output };
            output.line(&show::text(&found, output))?;
        }
        if let Some(after) = found.next_after {
            note(&format!("there is more: --after {after}"));
        }
        Ok(())
    }

    async fn page(
        &self,
        source: &Source,
        ids: &BTreeSet<String>,
        after: Option<u64>,
        lines: usize,
    ) -> Outcome<Timeline> {
        match source {
            Source::Server(client) => {
                let mut asked = vec![("limit", lines.to_string())];
                asked.extend(self.since.map(|since| ("since", query(since))));
                asked.extend(self.until.map(|until| ("until", query(until))));
                asked.extend(after.map(|after| ("after", after.to_string())));
                if !ids.is_empty() {
                    asked.push(("workspace", ids.iter().cloned().collect::<Vec<_>>().join(",")));
                }
                let request = client.request(Method::GET, &["admin", "timeline"]).query(&asked);
                read(client.json(request).await?)
            }
            Source::Copied(copied) => {
                let workspaces: Result<_, uuid::Error> = ids.iter().map(|id| id.parse()).collect();
                let span = Span {
                    since: self.since.map(|since| moment(Some(since))),
                    until: moment(self.until),
                    after: after.map(Position),
                    workspaces: workspaces.map_err(anyhow::Error::from)?,
                    lines,
                };
                Ok(timeline::between(copied.log.as_ref(), &span, &copied.who).await?)
            }
        }
    }
}
