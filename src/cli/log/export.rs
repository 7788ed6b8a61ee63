//! `covalence log export`: facts for other programs, without what is secret in them.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use covalence_events::log::EventLog as _;
use covalence_events::{Position, Recorded};
use covalence_projections::tail;
use serde_json::Value;

use crate::cli::Shared;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::incidents::{Copied, Source};
use crate::cli::log_reader::{Filter, Reader};
use crate::cli::output::{note, text};
use crate::cli::when::When;
use crate::redaction::redact;

mod otlp;

/// Facts of a copy that are read at once.
const PAGE: usize = 4096;

const EXAMPLES: &str = "\
Examples:
  covalence log export --since -1d > day.ndjson
  covalence log export --format csv --workspace lead -o lead.csv
  covalence log export --format otlp --since 03:00 --until 04:00 -o restarts.jsonl
                                              a trace for each restart, for any OpenTelemetry collector
  covalence log export --data-dir /var/lib/covalence
                                              without its server, from a copy of the log

Digests of tokens, passwords in addresses and the like are replaced by [redacted].
Times: RFC 3339, a time of day (03:07), an age (-15m; s, m, h, d), or a position (1200).";

/// How facts are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One JSON object a line
    Ndjson,
    /// RFC 4180, with a header; what a fact says is a column of JSON
    Csv,
    /// OTLP in JSON lines: one trace for each restart, with links to its evidence
    Otlp,
}

/// Write facts for other programs
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Export {
    /// How
    #[arg(long, value_enum, default_value_t = Format::Ndjson)]
    format: Format,
    /// From this time or position on
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = When::parse)]
    since: Option<When>,
    /// Up to this time or position
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = When::parse)]
    until: Option<When>,
    /// Only about this workspace: name, id, or the beginning of either
    #[arg(long, short, value_name = "WORKSPACE")]
    workspace: Option<String>,
    /// To this file, which must not be there yet, instead of stdout
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Export {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let source = Source::find(shared).await?;
        let workspace = match &self.workspace {
            None => None,
            Some(wanted) => Some(source.workspace(wanted).await?),
        };
        let mut writer = Writer::new(self.format, self.sink()?);
        writer.begin()?;
        match &source {
            Source::Server(client) => {
                let (since, until) = (self.since, self.until);
                let filter = Filter { workspace, since, until, ..Filter::default() };
                let mut reader = Reader::new(client, filter);
                while let Some(record) = reader.next().await? {
                    writer.take(record.raw)?;
                }
            }
            Source::Copied(copied) => self.copied(copied, workspace.as_deref(), &mut writer).await?,
        }
        let count = writer.finish()?;
        note(&format!("{count} facts"));
        Ok(())
    }

    async fn copied(&self, copied: &Copied, workspace: Option<&str>, writer: &mut Writer) -> Outcome {
        let mut next = Position(1);
        loop {
            let facts = copied.log.read_all(next, PAGE).await.map_err(anyhow::Error::from)?;
            let Some(last) = facts.last() else { return Ok(()) };
            next = last.position.next();
            for fact in &facts {
                if self.until.is_some_and(|until| is_after(fact, until)) {
                    return Ok(());
                }
                let early = self.since.is_some_and(|since| is_before(fact, since));
                let subject = fact.subject().map(|id| id.to_string());
                if !early && workspace.is_none_or(|id| subject.as_deref() == Some(id)) {
                    writer.take(tail::json(fact))?;
                }
            }
        }
    }

    fn sink(&self) -> Outcome<Box<dyn Write>> {
        let Some(path) = &self.output else { return Ok(Box::new(std::io::stdout().lock())) };
        let file = File::options().write(true).create_new(true).open(path);
        let file = file
            .map_err(|error| Failure::new(Exit::Failure, format!("--output: {}: {error}", path.display())))?;
        Ok(Box::new(file))
    }
}

fn is_before(fact: &Recorded, since: When) -> bool {
    match since {
        When::Time(at) => fact.meta.at < at,
        When::Position(position) => fact.position.0 < position,
    }
}

fn is_after(fact: &Recorded, until: When) -> bool {
    match until {
        When::Time(at) => fact.meta.at > at,
        When::Position(position) => fact.position.0 > position,
    }
}

/// Columns of a table, and where they are in a fact.
const COLUMNS: [&str; 9] =
    ["position", "at", "type", "workspace", "id", "causation", "correlation", "principal", "policy"];

struct Writer {
    format: Format,
    sink: BufWriter<Box<dyn Write>>,
    traces: otlp::Traces,
    count: u64,
}

impl Writer {
    fn new(format: Format, sink: Box<dyn Write>) -> Self {
        Self { format, sink: BufWriter::new(sink), traces: otlp::Traces::default(), count: 0 }
    }

    fn begin(&mut self) -> Outcome {
        match self.format {
            Format::Csv => self.line(&format!("{},data", COLUMNS.join(","))),
            Format::Ndjson | Format::Otlp => Ok(()),
        }
    }

    fn take(&mut self, mut fact: Value) -> Outcome {
        self.count += 1;
        redact(&mut fact);
        match self.format {
            Format::Ndjson => self.line(&fact.to_string()),
            Format::Csv => self.line(&row(&fact)),
            Format::Otlp => {
                self.traces.take(fact);
                Ok(())
            }
        }
    }

    fn finish(mut self) -> Outcome<u64> {
        for trace in std::mem::take(&mut self.traces).finish() {
            self.line(&trace.to_string())?;
        }
        self.sink.flush().map_err(anyhow::Error::from)?;
        Ok(self.count)
    }

    fn line(&mut self, line: &str) -> Outcome {
        writeln!(self.sink, "{line}").map_err(|error| anyhow::Error::from(error).into())
    }
}

fn row(fact: &Value) -> String {
    let plain = |column: &str| match &fact[column] {
        Value::String(text) => quoted(text),
        Value::Null => String::new(),
        other => quoted(&other.to_string()),
    };
    let mut cells: Vec<String> = COLUMNS.iter().map(|column| plain(column)).collect();
    cells.push(quoted(&fact["data"].to_string()));
    cells.join(",")
}

/// A cell (RFC 4180). One that a spreadsheet would take for a formula is kept a text.
fn quoted(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// The tag without stream and version, `went_offline`.
fn word(fact: &Value) -> &str {
    let tag = text(fact, "type");
    tag.split('.').nth(1).unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_quotes_what_needs_it_and_is_no_formula() {
        let fact = json!({"position": 7, "at": "t", "type": "a.b.v1", "workspace": null, "principal": "=1+1",
            "data": {"text": "say \"no\", now"}});
        assert_eq!(row(&fact), "7,t,a.b.v1,,,,,'=1+1,,\"{\"\"text\"\":\"\"say \\\"\"no\\\"\", now\"\"}\"");
    }
}
