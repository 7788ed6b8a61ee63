//! `covalence log restore`: a log made of segments, and of what is left of a damaged one.

use clap::Args;
use covalence_events::Position;
use covalence_events::log::OpenError;
use covalence_events::log::restore::{RestoreError, Restored, Until, restore};
use covalence_events::log::segments::SegmentError;
use serde_json::json;

use super::{log_path, source};
use crate::cli::Shared;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::when::{When, rfc3339};
use crate::segments::Destination;

const EXAMPLES: &str = "\
Examples:
  covalence log restore --from /media/usb/covalence
  covalence log restore --from .covalence/segments --move-aside
  covalence log restore --move-aside
  covalence log restore --from s3://backups/covalence --to 2026-03-01T03:07:00Z --data-dir /tmp/then";

#[expect(clippy::doc_markdown, reason = "these comments are help texts, where backticks would show")]
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Restore {
    /// Where the segments are: a directory, or s3://bucket/prefix; without, only what is left of the log that is there
    #[arg(long, value_name = "PLACE")]
    from: Option<Destination>,
    /// Up to this position, or what had happened by this time (RFC 3339); otherwise all there is
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    to: Option<When>,
    /// Keep a log that is there already under another name, instead of refusing
    #[arg(long)]
    move_aside: bool,
}

impl Restore {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let place = self.from.as_ref().map(source).transpose()?;
        let path = log_path(shared)?;
        let until = match self.to {
            None => Until::End,
            Some(When::Position(position)) => Until::Position(Position(position)),
            Some(When::Time(time)) => Until::Time(time),
        };
        if let Some(data_dir) = path.parent() {
            crate::data_dir::create(data_dir).map_err(anyhow::Error::from)?;
        }
        let restored = restore(place.as_ref(), &path, until, self.move_aside).await.map_err(failure)?;
        let output = shared.output();
        if output.json {
            return output.document(&document(&restored));
        }
        for line in lines(&restored) {
            output.line(&line)?;
        }
        Ok(())
    }
}

fn failure(error: RestoreError) -> Failure {
    let hint = match &error {
        RestoreError::NotEmpty { .. } => {
            Some("`--move-aside` keeps what is there under another name".to_owned())
        }
        RestoreError::Segments(SegmentError::Gap { from, .. }) => before(*from),
        RestoreError::Segments(SegmentError::Damaged { name, .. }) => before(name.first),
        RestoreError::Segments(SegmentError::Log(OpenError::Locked { .. })) => {
            Some("stop the server first".to_owned())
        }
        RestoreError::NoSource { .. } => Some("name it with `--from`".to_owned()),
        RestoreError::Segments(_) | RestoreError::Nothing { .. } | RestoreError::Io { .. } => None,
    };
    let exit = match &error {
        RestoreError::NotEmpty { .. } => Exit::Refused,
        RestoreError::NoSource { .. } | RestoreError::Segments(SegmentError::None { .. }) => Exit::NotFound,
        RestoreError::Segments(_) | RestoreError::Nothing { .. } | RestoreError::Io { .. } => Exit::Failure,
    };
    Failure { exit, error: error.into(), hint }
}

fn before(position: Position) -> Option<String> {
    (position > Position(1)).then(|| format!("`--to {}` restores what comes before", position.0 - 1))
}

fn lines(restored: &Restored) -> Vec<String> {
    let mut lines = vec![
        format!("restored     positions 1 to {}", restored.head),
        format!("last fact    {}", restored.at.map(rfc3339).unwrap_or_default()),
        format!("chain        {}", restored.chain),
        format!("checkpoints  {}", restored.checkpoints),
    ];
    if restored.salvaged > 0 {
        lines.push(format!(
            "salvaged     {} of them, which were in no sound segment, from what was left of the log",
            restored.salvaged
        ));
    }
    lines.extend(restored.moved_to.as_ref().map(|path| format!("moved aside  {}", path.display())));
    lines.push(match restored.missing {
        Some((from, to)) => format!("missing      positions {from} to {to} were found nowhere"),
        None => "missing      nothing that is known of".to_owned(),
    });
    lines
}

fn document(restored: &Restored) -> serde_json::Value {
    json!({
        "head": restored.head,
        "at": restored.at.map(rfc3339),
        "chain": restored.chain,
        "salvaged": restored.salvaged,
        "checkpoints": restored.checkpoints,
        "moved_to": restored.moved_to,
        "missing": restored.missing.map(|(from, to)| json!({ "from": from, "to": to })),
    })
}
