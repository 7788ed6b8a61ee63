//! `covalence incidents export`: an incident, or a span of the log, as a golden case.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use chrono::Utc;
use clap::Args;
use covalence_incidents::golden::{Case, CaseError};
use reqwest::{Method, RequestBuilder};

use super::show::find;
use crate::cli::Shared;
use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::incidents::{Source, moment, query};
use crate::cli::output::note;
use crate::cli::when::When;
use crate::golden::{self, GoldenError, Wish};

const EXAMPLES: &str = "\
Examples:
  covalence incidents export --to frozen-engine.case
                                              the last incident, from its first sign to its end
  covalence incidents export 0198c0de --to frozen-engine.case
                                              one of them, by the beginning of its id
  covalence incidents export --since 03:00 --until 03:30 --to frozen-engine.case
                                              any time, also where no brake engaged
  covalence incidents export --since 1200 --until 1900 --about 'the disk was full' --to full-disk.case
  covalence incidents export --since -1h --workspace lead --to lead.case --data-dir /var/lib/covalence
                                              without its server, from a copy of the log

A case holds all facts up to the end of the span, without what is secret in them, and the decisions and explanations that are
expected of them. `covalence incidents replay` puts it to the rules of a later version.

Times: RFC 3339, a time of day (03:07), an age (-15m; s, m, h, d), or a position (1200).";

/// Write an incident, or a span of the log, as a case
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Export {
    /// Incident: its id, or the beginning of it [default: the last one]
    incident: Option<String>,
    /// Keep any time instead: decisions from this time or position on are expected
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = When::parse, conflicts_with = "incident")]
    since: Option<When>,
    /// And up to this one [default: now]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = When::parse, requires = "since")]
    until: Option<When>,
    /// Of that time, only about this workspace, and the brakes: name, id, or the beginning of either; may be repeated
    #[arg(long = "workspace", short, value_name = "WORKSPACE", requires = "since")]
    workspaces: Vec<String>,
    /// What it is called [default: the file's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// What happened, in a sentence [default: the incident's title]
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    about: String,
    /// To this file, which must not be there yet
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

impl Export {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let source = Source::find(shared).await?;
        let stem = self.to.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let name = self.name.clone().or(stem).unwrap_or_default();
        let file = match self.since {
            Some(since) => self.of_span(&source, since, name).await?,
            None => self.of_incident(&source, name).await?,
        };
        let case = Case::read(&file)?;
        let sink = File::options().write(true).create_new(true).open(&self.to);
        sink.and_then(|mut sink| sink.write_all(&file))
            .map_err(|error| Failure::new(Exit::Failure, format!("--to: {}: {error}", self.to.display())))?;
        let header = &case.header;
        note(&format!(
            "{}: {} decisions expected of {} facts ({} left out), {} bytes",
            self.to.display(),
            header.expected.decisions.len(),
            header.facts,
            header.left_out,
            file.len()
        ));
        Ok(())
    }

    async fn of_incident(&self, source: &Source, name: String) -> Outcome<Vec<u8>> {
        let id = find(source, self.incident.as_deref()).await?;
        let about = self.about.clone();
        match source {
            Source::Server(client) => {
                let request = client.request(Method::GET, &["incidents", &id.to_string(), "case"]);
                bytes(client, request.query(&[("name", name), ("about", about)])).await
            }
            Source::Copied(copied) => {
                let (log, around) = (copied.log.as_ref(), (Utc::now(), &copied.who));
                let wish = Wish::of_incident(log, id, (name, about), around).await?;
                Ok(golden::make(log, wish).await?.write()?)
            }
        }
    }

    async fn of_span(&self, source: &Source, since: When, name: String) -> Outcome<Vec<u8>> {
        let mut workspaces = BTreeSet::new();
        for wanted in &self.workspaces {
            workspaces.insert(source.workspace(wanted).await?);
        }
        let about = self.about.clone();
        match source {
            Source::Server(client) => {
                let mut asked = vec![("since", query(since)), ("name", name), ("about", about)];
                asked.extend(self.until.map(|until| ("until", query(until))));
                if !workspaces.is_empty() {
                    asked.push(("workspace", workspaces.into_iter().collect::<Vec<_>>().join(",")));
                }
                bytes(client, client.request(Method::GET, &["admin", "case"]).query(&asked)).await
            }
            Source::Copied(copied) => {
                let ids = workspaces.iter().map(|id| id.parse()).collect::<Result<_, _>>();
                let wish = Wish {
                    name,
                    about,
                    since: moment(Some(since)),
                    until: moment(self.until),
                    workspaces: ids.map_err(anyhow::Error::from)?,
                };
                Ok(golden::make(copied.log.as_ref(), wish).await?.write()?)
            }
        }
    }
}

async fn bytes(client: &Client, request: RequestBuilder) -> Outcome<Vec<u8>> {
    let answer = client.send(request).await?;
    Ok(answer.bytes().await.map_err(|error| client.transport_failure(error))?.to_vec())
}

impl From<CaseError> for Failure {
    fn from(error: CaseError) -> Self {
        match error {
            CaseError::Question(failure) => failure.into(),
            CaseError::TooLong => Self::new(Exit::Usage, error),
            other => anyhow::Error::from(other).into(),
        }
    }
}

impl From<GoldenError> for Failure {
    fn from(error: GoldenError) -> Self {
        match error {
            GoldenError::Case(error) => error.into(),
            other => anyhow::Error::from(other).into(),
        }
    }
}
