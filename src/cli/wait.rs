//! `--wait`: blocks until what was asked for has happened, by the facts themselves, with progress on stderr.
//!
//! The moment before the request, by the server's clock, is where reading begins, so nothing is missed however fast it
//! happens; what was already there is told apart by the fact that begins each story.

use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::Value;

use crate::cli::client::Client;
use crate::cli::fact::{self, Names};
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::log_reader::{Filter, Reader, Record};
use crate::cli::output::{Output, note, stderr_has_colours, text};
use crate::cli::when::When;

/// How long nothing may follow a fact that needs nothing more, before it counts as all there is: a workspace that did
/// not run has nothing to stop.
const QUIET: Duration = Duration::from_secs(1);

/// What commands that can wait take.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct WaitArgs {
    /// Wait until it is done, with progress on stderr
    #[arg(long, short)]
    wait: bool,
    /// With --wait: give up after this long
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = parse_timeout)]
    timeout: Duration,
}

/// A duration on the command line.
pub(super) fn parse_timeout(text: &str) -> Result<Duration, String> {
    crate::config::duration(text).ok_or_else(|| "expected a duration such as `90s`, `10m` or `2h`".to_owned())
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// After its creation it is heard from.
    Created,
    /// After a resume it is heard from.
    Resumed,
    /// A restart has its outcome.
    Restarted,
    /// It is paused and stopped.
    Paused,
    /// It is stopped until somebody needs it.
    Hibernated,
    /// It is removed and stopped.
    Removed,
}

impl Goal {
    /// The fact that begins the story, and those of earlier stories that are still in view are before it.
    const fn beginning(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Resumed => "resumed",
            Self::Restarted => "restart_requested",
            Self::Paused => "paused",
            Self::Hibernated => "hibernation_requested",
            Self::Removed => "removed",
        }
    }

    /// Whether a fact begins the story. What hibernates is not resumed but woken.
    fn begins(self, word: &str, data: &Value) -> bool {
        let woken = || word == "provision_requested" && text(data, "origin") == "wake";
        word == self.beginning() || (self == Self::Resumed && woken())
    }

    const fn is_stop(self) -> bool {
        matches!(self, Self::Paused | Self::Hibernated | Self::Removed)
    }
}

/// What was begun, and where to look for its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun<'a> {
    /// What is waited for.
    pub(super) goal: Goal,
    /// Whose.
    pub(super) workspace: &'a str,
    /// What it is called.
    pub(super) name: &'a str,
    /// The server's clock before it was begun.
    pub(super) since: DateTime<Utc>,
    /// The restart's name, where the server told it.
    pub(super) restart: Option<&'a str>,
}

/// How far a story has come.
#[derive(Debug)]
struct Story {
    goal: Goal,
    begun: bool,
    stopping: bool,
    restart: Option<String>,
}

/// What one fact means for a story.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Goes,
    Done,
    Failed(String),
}

impl Story {
    fn new(goal: Goal, restart: Option<&str>) -> Self {
        Self { goal, begun: false, stopping: false, restart: restart.map(str::to_owned) }
    }

    fn read(&mut self, record: &Record) -> Step {
        let data = record.data();
        let word = record.word();
        let restart = data.get("restart").and_then(Value::as_str);
        if !self.begun {
            // Facts of the same second may be older than the request: a restart that the server named begins with the
            // first fact that names it.
            self.begun = match &self.restart {
                Some(wanted) => restart == Some(wanted),
                None => self.goal.begins(word, data),
            };
            if self.begun {
                self.restart = restart.map(str::to_owned);
            }
        }
        // A stop may be recorded just before the pause that it is for; both are of this story.
        match word {
            "stop_requested" => self.stopping = true,
            "instance_stopped" => self.stopping = false,
            _ => {}
        }
        let ours = match restart {
            Some(restart) => self.restart.as_deref().is_none_or(|wanted| wanted == restart),
            None => true,
        };
        // A restart that was already under way is joined, not begun again: its own end is ours too.
        let joined = self.goal == Goal::Restarted && restart.is_some();
        if !ours || !(self.begun || joined) {
            return Step::Goes;
        }
        let said = |field: &str| text(data, field).to_owned();
        match (self.goal.is_stop(), word) {
            (false, "came_online") | (true, "instance_stopped") => Step::Done,
            (false, "provision_failed") => Step::Failed(format!("{}: {}", said("code"), said("message"))),
            (false, "quarantined") => Step::Failed(said("message")),
            (false, "restart_abandoned") => {
                Step::Failed(format!("the restart was abandoned: {}", said("reason")))
            }
            (false, "restart_suppressed") => {
                Step::Failed(format!("the restart was refused by {}", said("rule")))
            }
            (false, "removed") => Step::Failed("it was removed".to_owned()),
            (false, "paused") => Step::Failed("it was paused".to_owned()),
            (false, "hibernation_requested") => Step::Failed("it was sent to sleep".to_owned()),
            (true, "provision_requested") if self.goal == Goal::Hibernated => {
                Step::Failed("it was woken".to_owned())
            }
            (true, "stop_failed") => Step::Failed(format!("it could not be stopped: {}", said("message"))),
            _ => Step::Goes,
        }
    }

    /// Whether silence means that all is done.
    const fn is_done_if_quiet(&self) -> bool {
        self.goal.is_stop() && self.begun && !self.stopping
    }
}

impl WaitArgs {
    /// [`Self::until`], and then the status that the workspace has, in place of the one in the first answer: what is
    /// printed after a wait is how things are, not how they were.
    pub(super) async fn settle(self, client: &Client, begun: Begun<'_>, answer: &mut Value) -> Outcome {
        let waited = self.until(client, begun).await;
        if self.wait {
            // The wait's outcome matters more than a read that fails.
            if let Ok(row) = client.get(&["workspaces", begun.workspace]).await {
                answer["status"] = row["status"].clone();
            }
        }
        waited
    }

    /// Waits, if that was asked for, until what was begun has its end.
    pub(super) async fn until(self, client: &Client, begun: Begun<'_>) -> Outcome {
        if !self.wait {
            return Ok(());
        }
        let workspace = begun.workspace;
        let told = tokio::time::timeout(self.timeout, follow(client, begun)).await;
        told.unwrap_or_else(|_| {
            let message = format!("not done after {} s; it goes on by itself", self.timeout.as_secs());
            Err(Failure::new(Exit::TimedOut, message)
                .hint(format!("`covalence events --workspace {workspace} --follow` shows what it waits for")))
        })
    }
}

async fn follow(client: &Client, begun: Begun<'_>) -> Outcome {
    let filter = Filter {
        workspace: Some(begun.workspace.to_owned()),
        since: Some(When::Time(begun.since)),
        follow: true,
        ..Filter::default()
    };
    let mut reader = Reader::new(client, filter);
    let mut story = Story::new(begun.goal, begun.restart);
    let mut names = Names::of_one(begun.workspace, begun.name);
    let progress = Output { json: false, colours: stderr_has_colours() };
    loop {
        let next = if story.is_done_if_quiet() {
            match tokio::time::timeout(QUIET, reader.next()).await {
                Ok(next) => next?,
                Err(_) => return Ok(()),
            }
        } else {
            reader.next().await?
        };
        let Some(record) = next else {
            return Err(Failure::new(Exit::Unreachable, "the server's log ended"));
        };
        names.learn(&record);
        let step = story.read(&record);
        // What was there before is not progress.
        if story.begun && record.word() != "heartbeat_received" {
            note(&fact::line(&record, &names, progress));
        }
        match step {
            Step::Goes => {}
            Step::Done => return Ok(()),
            Step::Failed(reason) => return Err(Failure::new(Exit::Failure, reason)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn end(goal: Goal, facts: &[(&str, Value)]) -> (Step, bool) {
        let mut story = Story::new(goal, None);
        let mut last = Step::Goes;
        for (word, data) in facts {
            assert_eq!(last, Step::Goes, "the story went on after its end");
            last = story
                .read(&Record::from_value(json!({"type": format!("workspace.{word}.v1"), "data": data})));
        }
        (last, story.is_done_if_quiet())
    }

    #[test]
    fn a_restart_ends_when_that_restart_is_online() {
        let facts = [
            ("came_online", json!({"restart": null})),
            ("restart_requested", json!({"restart": "r2", "cause": "operator"})),
            ("came_online", json!({"restart": "r1"})),
            ("restart_started", json!({"restart": "r2"})),
            ("came_online", json!({"restart": "r2"})),
        ];
        assert_eq!(end(Goal::Restarted, &facts).0, Step::Done);
    }

    #[test]
    fn a_restart_that_the_server_named_is_told_from_others() {
        let mut story = Story::new(Goal::Restarted, Some("r2"));
        let mut read = |word: &str, restart: Value| {
            let tag = format!("workspace.{word}.v1");
            story.read(&Record::from_value(json!({"type": tag, "data": {"restart": restart}})))
        };
        assert_eq!(read("came_online", json!(null)), Step::Goes, "the creation of a second ago");
        assert_eq!(read("came_online", json!("r1")), Step::Goes);
        assert_eq!(read("restart_requested", json!("r2")), Step::Goes);
        assert_eq!(read("came_online", json!("r2")), Step::Done);
    }

    #[test]
    fn a_restart_under_way_is_joined() {
        assert_eq!(end(Goal::Restarted, &[("came_online", json!({"restart": "r1"}))]).0, Step::Done);
    }

    #[test]
    fn a_failure_to_start_ends_the_wait_with_its_reason() {
        let facts = [
            ("created", json!({"name": "x"})),
            ("provision_requested", json!({"restart": null})),
            ("provision_failed", json!({"code": "image_missing", "message": "no image covalence/x:latest"})),
        ];
        let expected = Step::Failed("image_missing: no image covalence/x:latest".to_owned());
        assert_eq!(end(Goal::Created, &facts).0, expected);
    }

    #[test]
    fn a_suppressed_restart_fails() {
        let facts = [
            ("restart_requested", json!({"restart": "r"})),
            ("restart_suppressed", json!({"restart": "r", "rule": "intensity"})),
        ];
        assert_eq!(
            end(Goal::Restarted, &facts).0,
            Step::Failed("the restart was refused by intensity".to_owned())
        );
    }

    #[test]
    fn a_pause_ends_when_its_instance_is_gone_or_there_was_none() {
        let running = [("paused", json!({})), ("stop_requested", json!({})), ("instance_stopped", json!({}))];
        assert_eq!(end(Goal::Paused, &running).0, Step::Done);
        assert!(!end(Goal::Paused, &running[..2]).1, "a stop under way is waited for");
        let stop_first = [("stop_requested", json!({})), ("paused", json!({}))];
        assert_eq!(end(Goal::Paused, &stop_first), (Step::Goes, false));
        assert!(end(Goal::Paused, &running[..1]).1, "nothing to stop");
    }

    #[test]
    fn a_hibernation_ends_when_its_instance_is_gone_or_somebody_wakes_it() {
        let asleep = [
            ("hibernation_requested", json!({})),
            ("stop_requested", json!({})),
            ("instance_stopped", json!({})),
        ];
        assert_eq!(end(Goal::Hibernated, &asleep).0, Step::Done);
        let woken =
            [asleep[0].clone(), asleep[1].clone(), ("provision_requested", json!({"origin": "wake"}))];
        assert_eq!(end(Goal::Hibernated, &woken).0, Step::Failed("it was woken".to_owned()));
    }

    #[test]
    fn a_resume_of_what_hibernates_begins_with_its_start() {
        let woken =
            [("provision_requested", json!({"origin": "wake"})), ("came_online", json!({"restart": null}))];
        assert_eq!(end(Goal::Resumed, &woken).0, Step::Done);
        let created = [("provision_requested", json!({"origin": "create"})), ("came_online", json!({}))];
        assert_eq!(end(Goal::Resumed, &created).0, Step::Goes, "that was another start");
    }

    #[test]
    fn timeouts_are_durations() {
        assert_eq!(parse_timeout("90s"), Ok(Duration::from_secs(90)));
        assert!(parse_timeout("soon").is_err());
    }
}
