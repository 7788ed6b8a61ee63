//! Reads facts from `GET /admin/log`, page by page or as they come.

use std::time::Duration;

use chrono::DateTime;
use reqwest::Method;
use serde_json::Value;

use crate::cli::client::{Client, Lines};
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::output::{note, text};
use crate::cli::when::{When, rfc3339};

/// Facts asked for at once: few enough to arrive within a second, enough that the round trip does not matter.
const PAGE: u64 = 1000;
/// How often a broken connection is tried again before giving up; with [`RECONNECT_DELAY`], a restart of the server.
const RECONNECTS_MAX: u32 = 30;
/// Between two tries.
const RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// One fact as the server wrote it.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// The whole line.
    pub(super) raw: Value,
    /// Its place in the log.
    pub(super) position: u64,
}

impl Record {
    fn parse(line: &[u8]) -> Outcome<Self> {
        let broken = || {
            let start = String::from_utf8_lossy(line.get(..80).unwrap_or(line)).into_owned();
            Failure::new(Exit::Failure, format!("the server's log has a line that is no fact: {start}"))
        };
        let raw: Value = serde_json::from_slice(line).map_err(|_| broken())?;
        let position = raw.get("position").and_then(Value::as_u64).ok_or_else(broken)?;
        Ok(Self { raw, position })
    }

    #[cfg(test)]
    pub(super) fn from_value(raw: Value) -> Self {
        Self { position: raw["position"].as_u64().unwrap_or(1), raw }
    }

    /// The wire tag, `workspace.went_offline.v1`.
    pub(super) fn tag(&self) -> &str {
        text(&self.raw, "type")
    }

    /// The tag without stream and version, `went_offline`.
    pub(super) fn word(&self) -> &str {
        self.tag().split('.').nth(1).unwrap_or_else(|| self.tag())
    }

    /// The workspace that it is about.
    pub(super) fn workspace(&self) -> Option<&str> {
        self.raw.get("workspace").and_then(Value::as_str)
    }

    /// What it says.
    pub(super) fn data(&self) -> &Value {
        self.raw.get("data").unwrap_or(&Value::Null)
    }
}

/// Which facts are wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    /// About this workspace.
    pub(super) workspace: Option<String>,
    /// Of this request or incident.
    pub(super) correlation: Option<String>,
    /// Of these wire tags; any where empty.
    pub(super) tags: Vec<String>,
    /// From here on.
    pub(super) since: Option<When>,
    /// Up to here.
    pub(super) until: Option<When>,
    /// And those that come.
    pub(super) follow: bool,
}

impl Filter {
    fn query(&self, after: u64) -> Vec<(&'static str, String)> {
        let time = |when: Option<When>| match when {
            Some(When::Time(time)) => Some(rfc3339(time)),
            Some(When::Position(_)) | None => None,
        };
        let mut query = vec![("after", after.to_string())];
        query.extend(self.workspace.clone().map(|id| ("workspace", id)));
        query.extend(self.correlation.clone().map(|id| ("correlation", id)));
        query.extend(time(self.since).map(|time| ("since", time)));
        query.extend(time(self.until).map(|time| ("until", time)));
        // Several are told apart here: the server takes one.
        if let [tag] = self.tags.as_slice() {
            query.push(("type", tag.clone()));
        }
        if self.follow {
            query.push(("follow", "true".to_owned()));
        } else {
            query.push(("limit", PAGE.to_string()));
        }
        query
    }

    /// The position before the first wanted one.
    fn start(&self) -> u64 {
        match self.since {
            Some(When::Position(position)) => position.saturating_sub(1),
            Some(When::Time(_)) | None => 0,
        }
    }

    fn is_past(&self, record: &Record) -> bool {
        match self.until {
            Some(When::Position(position)) => record.position > position,
            Some(When::Time(until)) => {
                let at = DateTime::parse_from_rfc3339(text(&record.raw, "at"));
                at.is_ok_and(|at| at.to_utc() > until)
            }
            None => false,
        }
    }

    fn wants(&self, record: &Record) -> bool {
        self.tags.is_empty() || self.tags.iter().any(|tag| tag == record.tag())
    }
}

/// A reader of the facts that a filter wants, in order, without gap or duplicate.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    client: &'a Client,
    filter: Filter,
    after: u64,
    lines: Option<Lines>,
    page_is_empty: bool,
}

impl<'a> Reader<'a> {
    /// Reads with this filter. Nothing is sent yet.
    pub(super) fn new(client: &'a Client, filter: Filter) -> Self {
        let after = filter.start();
        Self { client, filter, after, lines: None, page_is_empty: false }
    }

    /// The next wanted fact; `None` when there are no more. Waits for one if the filter follows.
    pub(super) async fn next(&mut self) -> Outcome<Option<Record>> {
        loop {
            let Some(record) = self.next_line().await? else { return Ok(None) };
            self.after = record.position;
            if self.filter.is_past(&record) {
                return Ok(None);
            }
            if self.filter.wants(&record) {
                return Ok(Some(record));
            }
        }
    }

    async fn next_line(&mut self) -> Outcome<Option<Record>> {
        let mut reconnects = 0;
        loop {
            let Some(lines) = &mut self.lines else {
                match self.request().await {
                    Ok(lines) => self.lines = Some(lines),
                    Err(failure) => self.wait_to_reconnect(failure, &mut reconnects).await?,
                }
                continue;
            };
            match lines.next().await {
                Ok(Some(line)) if line.is_empty() => {}
                Ok(Some(line)) => {
                    self.page_is_empty = false;
                    return Record::parse(&line).map(Some);
                }
                Ok(None) => {
                    self.lines = None;
                    if self.filter.follow {
                        let failure = Failure::new(Exit::Unreachable, "the server closed the connection");
                        self.wait_to_reconnect(failure, &mut reconnects).await?;
                    } else if self.page_is_empty {
                        return Ok(None);
                    }
                }
                Err(error) => {
                    self.lines = None;
                    let failure = self.client.transport_failure(error);
                    self.wait_to_reconnect(failure, &mut reconnects).await?;
                }
            }
        }
    }

    async fn request(&mut self) -> Outcome<Lines> {
        self.page_is_empty = true;
        let request =
            self.client.request(Method::GET, &["admin", "log"]).query(&self.filter.query(self.after));
        let request = request.header(reqwest::header::ACCEPT, "application/x-ndjson");
        self.client.send(request).await.map(Lines::new)
    }

    /// Only who follows, and has seen something, goes on after a break: positions say where.
    async fn wait_to_reconnect(&self, failure: Failure, reconnects: &mut u32) -> Outcome {
        let may_pass = matches!(failure.exit, Exit::Unreachable | Exit::Busy);
        if !may_pass || !self.filter.follow || self.after == 0 || *reconnects >= RECONNECTS_MAX {
            return Err(failure);
        }
        if *reconnects == 0 {
            note(&format!("{failure}; trying again"));
        }
        *reconnects += 1;
        tokio::time::sleep(RECONNECT_DELAY).await;
        Ok(())
    }
}
