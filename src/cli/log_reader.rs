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
/// Who follows hears from the server at least every 15 s, if only an empty line; after four times that it is gone.
const SILENCE_MAX: Duration = Duration::from_mins(1);
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
            let Ok(next) = tokio::time::timeout(SILENCE_MAX, lines.next()).await else {
                self.lines = None;
                let failure = Failure::new(Exit::Unreachable, "the server has gone silent");
                self.wait_to_reconnect(failure, &mut reconnects).await?;
                continue;
            };
            match next {
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::cli::client::Target;

    /// Answers one connection after the other with these bodies, each cut off where it ends, and then no more. Its result
    /// is the request lines that it saw.
    async fn server(bodies: &[&'static str]) -> (Client, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let bodies = bodies.to_vec();
        let answering = tokio::spawn(async move {
            let mut seen = Vec::new();
            for body in bodies {
                let (mut connection, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(connection.read_u8().await.unwrap());
                }
                let text = String::from_utf8(request).unwrap();
                seen.push(text.lines().next().unwrap_or_default().to_owned());
                let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{body}");
                connection.write_all(answer.as_bytes()).await.unwrap();
                connection.shutdown().await.unwrap();
            }
            seen
        });
        (Client::new(Target { url, token: None }).unwrap(), answering)
    }

    async fn positions(reader: &mut Reader<'_>, count: usize) -> Vec<u64> {
        let mut positions = Vec::new();
        while positions.len() < count {
            let Some(record) = reader.next().await.unwrap() else { break };
            positions.push(record.position);
        }
        positions
    }

    #[tokio::test]
    async fn pages_are_read_until_one_is_empty() {
        let (client, answering) =
            server(&["{\"position\":5}\n{\"position\":7}\n", "{\"position\":9}\n", ""]).await;
        let filter = Filter { since: Some(When::Position(5)), ..Filter::default() };
        assert_eq!(positions(&mut Reader::new(&client, filter), usize::MAX).await, [5, 7, 9]);
        let seen = answering.await.unwrap();
        let after = |line: &String| line.split(['=', '&']).nth(1).unwrap_or_default().to_owned();
        assert_eq!(seen.iter().map(after).collect::<Vec<_>>(), ["4", "7", "9"]);
        assert!(seen.iter().all(|line| line.contains("limit=1000") && !line.contains("follow")), "{seen:?}");
    }

    #[tokio::test]
    async fn who_follows_goes_on_after_a_break_where_it_was() {
        let (client, answering) =
            server(&["{\"position\":5}\n\n{\"position\":6}\n", "{\"position\":7}\n"]).await;
        let filter = Filter { follow: true, ..Filter::default() };
        assert_eq!(positions(&mut Reader::new(&client, filter), 3).await, [5, 6, 7]);
        let seen = answering.await.unwrap();
        assert!(
            seen[0].contains("after=0&follow=true") && seen[1].contains("after=6&follow=true"),
            "{seen:?}"
        );
    }

    #[tokio::test]
    async fn several_types_and_an_end_are_told_apart_here() {
        let page = "{\"position\":1,\"type\":\"a\"}\n{\"position\":2,\"type\":\"b\"}\n{\"position\":3,\"type\":\"c\"}\n\
                    {\"position\":4,\"type\":\"a\"}\n{\"position\":5,\"type\":\"a\"}\n";
        let (client, answering) = server(&[page]).await;
        let filter = Filter {
            tags: vec!["a".to_owned(), "c".to_owned()],
            until: Some(When::Position(4)),
            ..Filter::default()
        };
        assert_eq!(positions(&mut Reader::new(&client, filter), usize::MAX).await, [1, 3, 4]);
        assert!(!answering.await.unwrap()[0].contains("type="));
    }

    #[tokio::test]
    async fn a_line_that_is_no_fact_is_an_error_that_shows_it() {
        let (client, _answering) = server(&["<html>\n"]).await;
        let failure = Reader::new(&client, Filter::default()).next().await.unwrap_err();
        assert!(failure.to_string().contains("no fact: <html>"), "{failure}");
    }
}
