//! Where the log's segments go, and what keeps them there: the adapter between the settings and the log's own export.
//!
//! `s3://bucket/prefix` is reached as the `AWS_…` variables say, which are read by the library that speaks to it, so that
//! what is set for other programs holds for this one.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use covalence_events::log::EventLog as _;
use covalence_events::log::OpenError;
use covalence_events::log::segments::export::{Exporter, Rules, Status};
use covalence_events::log::segments::{Place, SegmentError};
use covalence_events::log::sled::{SledLog, is_there};
use covalence_events::pulse::Pulse;
use object_store::aws::AmazonS3Builder;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use url::Url;

use crate::config::Config;

/// What a destination may be, for error texts.
pub const ALLOWED: &str = "a directory, `s3://bucket/prefix`, or `off`";

/// How long the last segment may take to reach its place.
const END_GRACE: Duration = Duration::from_secs(10);

/// Where segments go, or come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Nowhere.
    Off,
    /// A directory.
    Directory(PathBuf),
    /// A bucket, with a prefix as path.
    S3(Url),
}

impl FromStr for Destination {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self::Off);
        }
        match text.split_once("://") {
            None if text.is_empty() => Err(ALLOWED),
            None => Ok(Self::Directory(PathBuf::from(text))),
            Some(("s3", _)) => Url::parse(text)
                .ok()
                .filter(|url| url.has_host() && url.query().is_none())
                .map(Self::S3)
                .ok_or(ALLOWED),
            Some(_) => Err(ALLOWED),
        }
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Directory(path) => path.display().fmt(f),
            Self::S3(url) => url.fmt(f),
        }
    }
}

impl Destination {
    /// The place to write to; a directory is made if it is missing. `None` for nowhere.
    ///
    /// # Errors
    /// When the directory can't be made, or the bucket's address or credentials make no sense. Nothing is sent yet.
    pub fn to_write(&self) -> Result<Option<Place>, SegmentError> {
        match self {
            Self::Off => Ok(None),
            Self::Directory(path) => Place::directory(path).map(Some),
            Self::S3(url) => s3(url).map(Some),
        }
    }

    /// The place to read from, which has to be there. `None` for nowhere.
    ///
    /// # Errors
    /// As [`Destination::to_write`], and when the directory is not there.
    pub fn to_read(&self) -> Result<Option<Place>, SegmentError> {
        match self {
            Self::Off => Ok(None),
            Self::Directory(path) => Place::existing(path).map(Some),
            Self::S3(url) => s3(url).map(Some),
        }
    }
}

fn s3(url: &Url) -> Result<Place, SegmentError> {
    let shown = url.as_str().trim_end_matches('/').to_owned();
    let failed = |source| SegmentError::Place { place: shown.clone(), step: "opening it".to_owned(), source };
    let bucket = format!("s3://{}", url.host_str().unwrap_or_default());
    let store = AmazonS3Builder::from_env().with_url(bucket).build().map_err(failed)?;
    let prefix = object_store::path::Path::from_url_path(url.path());
    let prefix = prefix.map_err(|error| failed(error.into()))?;
    Ok(Place::new(Arc::new(store), prefix, shown))
}

/// The command that makes a log anew.
pub fn restore_command(from: &Destination, data_dir: &Path) -> String {
    let from = match from {
        Destination::Off => String::new(),
        from => format!("--from {from} "),
    };
    format!("covalence log restore {from}--data-dir {} --move-aside", data_dir.display())
}

/// Facts may have been lost, and segments may have them.
#[derive(Debug, thiserror::Error)]
#[error("there is no log in `{log}`, but `{place}` has one up to position {last}", log = log.display())]
pub struct LogGone {
    log: PathBuf,
    place: String,
    last: u64,
}

/// What helps against an error of the start, if a restore does.
pub fn remedy(error: &anyhow::Error, config: &Config) -> Option<String> {
    let command = restore_command(&config.segments.to, &config.data_dir);
    if error.downcast_ref::<LogGone>().is_some() {
        return Some(format!("make it of its segments: `{command}`; or, for a new one, move them away"));
    }
    match error.downcast_ref::<OpenError>()? {
        OpenError::Lost { .. } | OpenError::Damaged { .. } | OpenError::Store { .. } => {
            let sources = match config.segments.to {
                Destination::Off => "what is left of this one (`--from` adds a backup)",
                Destination::Directory(_) | Destination::S3(_) => {
                    "the segments and of what is left of this one"
                }
            };
            Some(format!(
                "`{command}` makes a log of {sources}, says what is lacking, and keeps the damaged one beside it"
            ))
        }
        OpenError::KeysMissing { .. } => Some(
            "segments don't hold keys: bring `keys` back from where it is kept; where there is no copy, \
                 `covalence secrets accept-lost-keys` gives up what they sealed"
                .to_owned(),
        ),
        OpenError::Locked { .. } | OpenError::NewerFormat { .. } => None,
    }
}

/// Refuses to begin an empty log where segments say that there was one.
///
/// # Errors
/// [`LogGone`], or that the segments' place does not answer.
pub async fn guard(config: &Config) -> anyhow::Result<()> {
    let log = config.log_dir();
    if is_there(&log) {
        return Ok(());
    }
    if let Destination::Directory(path) = &config.segments.to
        && !path.exists()
    {
        return Ok(());
    }
    let Some(place) = config.segments.to.to_read()? else { return Ok(()) };
    let names = place.segments().await.context("looking whether there was a log before this one")?;
    match names.iter().map(|name| name.last.0).max() {
        None => Ok(()),
        Some(last) => Err(LogGone { log, place: place.shown().to_owned(), last }.into()),
    }
}

/// What keeps the segments and the checkpoints of a log up to date.
///
/// # Errors
/// When the place can't be opened, or the key can't be read.
pub fn exporter(config: &Config, log: &SledLog) -> anyhow::Result<Exporter> {
    let place = config.segments.to.to_write().context("the place of the log's segments")?;
    let rules = Rules { every: config.segments.every, ..Rules::default() };
    let frames = log.frames().context("the log on disk has frames")?;
    Exporter::new((frames, log.watch()), log.checkpoints(), place, rules).context("the log's checkpoints")
}

/// An export under way.
#[derive(Debug)]
pub struct Export {
    status: Arc<Status>,
    pulse: Arc<Pulse>,
    task: JoinHandle<()>,
}

impl Export {
    /// Begins it on these threads. It ends by itself when the log is closed.
    pub fn begin(exporter: Exporter, tasks: &Handle) -> Self {
        let (status, pulse) = (exporter.status(), exporter.pulse());
        Self { status, pulse, task: tasks.spawn(exporter.run()) }
    }

    /// How it fares.
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    /// Comes round about once a second.
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Waits, once the log is closed, until its last facts are in a segment, for ten seconds at most. The next start goes
    /// on from wherever this ends.
    pub async fn end(self) {
        if tokio::time::timeout(END_GRACE, self.task).await.is_err() {
            tracing::warn!("the log's last facts are not exported yet, the next start goes on");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_a_directory_a_bucket_or_off() {
        assert_eq!("off".parse(), Ok(Destination::Off));
        assert_eq!("/var/log".parse(), Ok(Destination::Directory("/var/log".into())));
        let bucket: Destination = "s3://bucket/a/b".parse().unwrap();
        assert_eq!(bucket.to_string(), "s3://bucket/a/b");
        for wrong in ["", "http://x/y", "s3://", "s3://b?x=1"] {
            assert_eq!(wrong.parse::<Destination>(), Err(ALLOWED), "{wrong}");
        }
    }
}
