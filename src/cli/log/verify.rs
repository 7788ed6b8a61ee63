//! `covalence log verify`: whether a log, or its segments, are whole and are what they were.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use covalence_events::log::checkpoint::{self, Book, Checkpoint, PublicKey};
use covalence_events::log::segments::check::check;
use covalence_events::log::sled::ClosedLog;
use covalence_events::log::{OpenError, Verified};
use reqwest::Method;
use serde_json::{Value, json};

use super::{log_path, segment_failure, source};
use crate::cli::Shared;
use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::keys::sealed_by;
use crate::cli::output::{note, text};
use crate::segments::Destination;

/// Checkpoints in one request: half of the megabyte that the server takes.
const CHECKPOINTS_PER_REQUEST: usize = 1500;

const EXAMPLES: &str = "\
Examples:
  covalence log verify
  covalence log verify --data-dir /var/lib/covalence --json
  covalence log verify --checkpoint /media/usb/checkpoints --public-key 3f9a…
  covalence log verify --segments s3://backups/covalence

Exit code 1 where something is wrong.";

#[expect(clippy::doc_markdown, reason = "these comments are help texts, where backticks would show")]
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Verify {
    /// Check these segments instead of the log: a directory, or s3://bucket/prefix
    #[arg(long, value_name = "PLACE")]
    segments: Option<Destination>,
    /// Checkpoints that were kept elsewhere, one a line: they show a history that was rewritten
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Believe only checkpoints that this key signed; can be repeated
    #[arg(long, value_name = "HEX")]
    public_key: Vec<PublicKey>,
}

/// What a check said, whoever did it.
struct Report {
    value: Value,
    problems: Vec<String>,
}

impl Verify {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let kept = self.checkpoint.as_deref().map(read_kept).transpose()?.unwrap_or_default();
        let report = match &self.segments {
            Some(from) => self.segments(from, &kept).await?,
            None => self.log(shared, kept).await?,
        };
        report.print(shared)
    }

    async fn segments(&self, from: &Destination, kept: &[Checkpoint]) -> Outcome<Report> {
        let place = source(from)?;
        let verified = check(&place, kept, &self.public_key).await.map_err(segment_failure)?;
        let (own, _) = place.checkpoints(verified.head).await.map_err(segment_failure)?;
        let problems = unsigned(own.iter().chain(kept), &self.public_key);
        Ok(Report::new(&verified, problems.into_iter().take(1).collect()))
    }

    async fn log(&self, shared: &Shared, kept: Vec<Checkpoint>) -> Outcome<Report> {
        let path = log_path(shared)?;
        let sealed_by = sealed_by(shared)?;
        let (keys, mine) = (self.public_key.clone(), kept.clone());
        let offline = tokio::task::spawn_blocking(move || {
            ClosedLog::open(&path).map(|log| -> anyhow::Result<Report> {
                let log = log.with_keys(sealed_by);
                let verified = log.verify()?;
                let own = Book::new(&path).read().context("the log's checkpoints")?.0;
                let mut problems = unsigned(own.iter().chain(&mine), &keys);
                problems.extend(checkpoint::check(&log, &mine, &keys));
                Ok(Report::new(&verified, problems))
            })
        });
        match offline.await.map_err(anyhow::Error::from)? {
            Ok(report) => Ok(report?),
            Err(locked @ OpenError::Locked { .. }) => self.ask_server(shared, locked, &kept).await,
            Err(error) => {
                let failure = Failure::from(anyhow::Error::from(error));
                Err(failure.hint("`covalence log verify --segments` checks what it could be restored from"))
            }
        }
    }

    /// Its server has the log open, and can read it. Whoever else holds it is named.
    async fn ask_server(&self, shared: &Shared, locked: OpenError, kept: &[Checkpoint]) -> Outcome<Report> {
        let client = shared.client()?;
        note(&format!("the log is in use: asking the server at {}", client.url()));
        let value = match client.get(&["admin", "log", "verify"]).await {
            Err(failure) if failure.exit == Exit::Unreachable => return Err(held(locked)),
            answer => answer?,
        };
        let own = own_checkpoints(&client).await?;
        let mut problems = strings(&value["problems"]);
        problems.extend(unsigned(own.iter().chain(kept), &self.public_key));
        for some in kept.chunks(CHECKPOINTS_PER_REQUEST) {
            let lines: Vec<String> = some.iter().map(Checkpoint::to_string).collect();
            let keys: Vec<String> = self.public_key.iter().map(PublicKey::to_string).collect();
            let body = json!({ "checkpoints": lines.join("\n"), "public_keys": keys });
            let request = client.request(Method::POST, &["admin", "log", "checkpoints", "check"]).json(&body);
            problems.extend(strings(&client.json(request).await?["problems"]));
        }
        Ok(Report { value, problems })
    }
}

impl Report {
    fn new(verified: &Verified, more: Vec<String>) -> Self {
        let value = json!({
            "events": verified.events,
            "head": verified.head,
            "chain": verified.chain,
            "checkpoints": verified.checkpoints,
            "erased": verified.erased,
            "sealed": verified.sealed,
        });
        let mut problems = verified.problems.clone();
        problems.extend(more);
        Self { value, problems }
    }

    fn print(mut self, shared: &Shared) -> Outcome {
        self.value["problems"] = json!(self.problems);
        let output = shared.output();
        if output.json {
            output.document(&self.value)?;
        } else {
            output.line(&format!("events       {}", self.value["events"]))?;
            output.line(&format!("head         {}", self.value["head"]))?;
            output.line(&format!("chain        {}", text(&self.value, "chain")))?;
            output.line(&format!("checkpoints  {}", self.value["checkpoints"]))?;
            for (name, why) in
                [("erased", "their keys were destroyed"), ("sealed", "their keys are not at hand")]
            {
                if let Some(fields @ 1..) = self.value[name].as_u64() {
                    output.line(&format!("{name}       {fields} fields can't be read: {why}"))?;
                }
            }
            for problem in &self.problems {
                output.line(&format!("problem      {problem}"))?;
            }
        }
        match self.problems.len() {
            0 => Ok(()),
            1 => Err(Failure::new(Exit::Failure, "the log has a problem")),
            count => Err(Failure::new(Exit::Failure, format!("the log has {count} problems"))),
        }
    }
}

/// With keys that are believed, checkpoints of others are a problem, and so is that there is none of theirs: who rewrites
/// history could have removed them.
fn unsigned<'a>(checkpoints: impl Iterator<Item = &'a Checkpoint>, keys: &[PublicKey]) -> Vec<String> {
    if keys.is_empty() {
        return Vec::new();
    }
    let (known, others): (Vec<_>, Vec<_>) =
        checkpoints.partition(|checkpoint| keys.contains(&checkpoint.key));
    let mut problems = Vec::new();
    if known.is_empty() {
        problems.push("no checkpoint is signed by a key that is believed".to_owned());
    }
    if let Some(first) = others.first() {
        problems.push(format!(
            "{} checkpoints, the first at position {}, are signed by other keys, such as {}",
            others.len(),
            first.position,
            first.key
        ));
    }
    problems
}

fn read_kept(path: &Path) -> Outcome<Vec<Checkpoint>> {
    let read = std::fs::read_to_string(path).with_context(|| format!("reading `{}`", path.display()))?;
    let (checkpoints, problems) = checkpoint::parse(&read);
    match problems.first() {
        None if checkpoints.is_empty() => {
            Err(Failure::new(Exit::Usage, format!("`{}` has no checkpoints", path.display())))
        }
        None => Ok(checkpoints),
        Some(problem) => Err(Failure::new(Exit::Usage, format!("`{}`: {problem}", path.display()))),
    }
}

/// The checkpoints of a server's log.
pub(super) async fn own_checkpoints(client: &Client) -> Outcome<Vec<Checkpoint>> {
    let response = client.send(client.request(Method::GET, &["admin", "log", "checkpoints"])).await?;
    let lines = response.text().await.map_err(|error| client.transport_failure(error))?;
    Ok(checkpoint::parse(&lines).0)
}

/// Somebody holds the log, and no server answers for it.
pub(super) fn held(locked: OpenError) -> Failure {
    let failure = Failure::from(anyhow::Error::from(locked));
    Failure { exit: Exit::Refused, ..failure }.hint("name its server with --url, or stop what holds it")
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
