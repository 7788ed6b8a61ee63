//! The connection to one engine: every call bounded, every error classified, and the engine's identity proved.
//!
//! The client's own timeout covers only the head of an answer and whole seconds, so each call here, body included, runs
//! under a limit of ours. A limit that runs out on a mutation leaves its outcome unknown: the engine goes on with it.

use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::future::BoxFuture;

use super::errors::{Class, Failure};

/// Looking at something takes 0.4 ms on an idle engine and 80 ms under churn. Three seconds without an answer say
/// something about the engine, and nothing about what was looked at.
pub(super) const OBSERVATION_TIMEOUT: Duration = Duration::from_secs(3);
/// Creating, starting, removing: half a second under load; an image layer or a volume copy may take much longer.
pub(super) const MUTATION_TIMEOUT: Duration = Duration::from_secs(30);
/// A "not there" counts while the engine has proved itself within this time (`V1` of the supervision policy).
const PROOF_TTL: Duration = Duration::from_secs(10);
/// The client's own limit, for the head of an answer. Ours are shorter; this one only must never fire first.
const CLIENT_TIMEOUT_SECONDS: u64 = 900;
/// Where an engine listens unless `DOCKER_HOST` says otherwise.
pub const DEFAULT_SOCKET: &str = "unix:///var/run/docker.sock";

/// Where the engine listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// A socket of this machine.
    Unix(String),
    /// `host:port`, in the clear.
    Tcp(String),
}

impl Host {
    /// Reads a `DOCKER_HOST`.
    pub(super) fn parse(text: Option<&str>) -> Result<Self, Failure> {
        let text = text.filter(|text| !text.is_empty()).unwrap_or(DEFAULT_SOCKET);
        let host = match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Some(Self::Unix(path.to_owned())),
            Some(("tcp" | "http", address)) if !address.trim_end_matches('/').is_empty() => {
                Some(Self::Tcp(address.trim_end_matches('/').to_owned()))
            }
            _ => None,
        };
        host.ok_or_else(|| Failure {
            code: "invalid_host",
            class: Class::NotSent,
            detail: format!("`DOCKER_HOST` is `{text}`, but must be `unix:///path` or `tcp://host:port`"),
        })
    }

    /// The machine's name, if it is not this one.
    pub(super) fn remote_name(&self) -> Option<&str> {
        let Self::Tcp(address) = self else { return None };
        let name = address.rsplit_once(':').map_or(address.as_str(), |(name, _)| name);
        let is_local = matches!(name, "localhost" | "[::1]") || name.starts_with("127.");
        (!is_local).then_some(name)
    }
}

/// One engine.
#[derive(Debug)]
pub(super) struct Engine {
    host: Result<Host, Failure>,
    client: OnceLock<Docker>,
    proved_at: Mutex<Option<Instant>>,
}

impl Engine {
    /// Connects to nothing yet: an engine that is down is an answer of each call, not of the start.
    pub(super) fn new(host: Option<&str>) -> Self {
        Self { host: Host::parse(host), client: OnceLock::new(), proved_at: Mutex::new(None) }
    }

    pub(super) fn host(&self) -> Result<&Host, Failure> {
        self.host.as_ref().map_err(Clone::clone)
    }

    /// The client. It holds no connection: each request opens its own.
    pub(super) fn client(&self) -> Result<Docker, Failure> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let client = match self.host()? {
            // Asked here and not left to the client, whose check would come before every other answer.
            Host::Unix(path) if !Path::new(path).exists() => Err(Error::SocketNotFoundError(path.clone())),
            Host::Unix(path) => Docker::connect_with_unix(path, CLIENT_TIMEOUT_SECONDS, API_DEFAULT_VERSION),
            Host::Tcp(address) => {
                Docker::connect_with_http(address, CLIENT_TIMEOUT_SECONDS, API_DEFAULT_VERSION)
            }
        };
        let client = client.map_err(|error| Failure::from_client("connect to the engine", &error))?;
        Ok(self.client.get_or_init(|| client).clone())
    }

    /// Notes an answer that nothing but an engine gives.
    pub(super) fn note_proof(&self) {
        *self.proved_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn proved_recently(&self) -> bool {
        let proved_at = *self.proved_at.lock().unwrap_or_else(PoisonError::into_inner);
        proved_at.is_some_and(|at| at.elapsed() <= PROOF_TTL)
    }

    /// Whether what answers is an engine. A proxy's, a load balancer's or a wrong port's answers look like an engine's
    /// "not found" at first sight, so a "not there" is believed only after this.
    pub(super) async fn prove(&self) -> Result<(), Failure> {
        if self.proved_recently() {
            return Ok(());
        }
        self.ask_identity().await
    }

    /// Asks now, whatever was proved before.
    pub(super) async fn ask_identity(&self) -> Result<(), Failure> {
        let what = "ask the engine who it is";
        let docker = self.client()?;
        let version = observe(what, docker.version()).await?;
        if version.api_version.is_none_or(|version| version.is_empty()) {
            return Err(Failure::garbage(what, "the answer names no API version"));
        }
        self.note_proof();
        Ok(())
    }
}

/// One call, answer and body, under the limit of an observation.
pub(super) async fn observe<T>(
    what: &str,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Failure> {
    within(what, OBSERVATION_TIMEOUT, call).await
}

/// One call under the limit of a mutation.
pub(super) async fn mutate<T>(
    what: &str,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Failure> {
    within(what, MUTATION_TIMEOUT, call).await
}

/// How often a step of a start that changes nothing when it is repeated is tried at least, before its error counts.
const TRIES: u32 = 4;
/// And for how long: an engine that refuses everything for a few seconds is one that is being restarted.
const TRY_FOR: Duration = Duration::from_secs(10);
/// After the first try; doubled after each, up to [`TRY_PAUSE_MAX`].
const TRY_PAUSE: Duration = Duration::from_millis(250);
const TRY_PAUSE_MAX: Duration = Duration::from_secs(2);

/// Makes a call that may be repeated until the engine answers in words of its own, or has failed to for [`TRIES`] times and
/// [`TRY_FOR`]. A start asks ten times and more: with three in ten answers lost, one in thirty would get through else.
pub(super) async fn persist<T, F: Future<Output = Result<T, Failure>>>(
    mut call: impl FnMut() -> F,
) -> Result<T, Failure> {
    let (began, mut tries, mut pause) = (tokio::time::Instant::now(), 0, TRY_PAUSE);
    loop {
        tries += 1;
        match call().await {
            Err(failure)
                if matches!(failure.class, Class::Unknown | Class::NotSent)
                    && (tries < TRIES || began.elapsed() < TRY_FOR) =>
            {
                tracing::debug!(error = failure.detail, "asked again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(TRY_PAUSE_MAX);
            }
            answer => return answer,
        }
    }
}

/// A mutation that gave no answer for so long is looked after while it is waited for: half a second is usual under load.
pub(super) const LOOK_AFTER: Duration = Duration::from_secs(3);

/// Makes a mutation, and after a while looks beside it what becomes of it: a lost answer would be waited for to the end else.
/// Whichever knows first is believed; `watch` ends when it does, and an error of it says nothing.
pub(super) async fn watched<T>(
    call: impl Future<Output = Result<T, Failure>>,
    after: Duration,
    watch: BoxFuture<'_, Result<T, Failure>>,
) -> Result<T, Failure> {
    let watching = async {
        tokio::time::sleep(after).await;
        match watch.await {
            Ok(seen) => Ok(seen),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        answered = call => answered,
        seen = watching => seen,
    }
}

/// One call under a limit.
pub(super) async fn within<T>(
    what: &str,
    limit: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Failure::from_client(what, &error)),
        Err(_) => Err(Failure::timeout(what, limit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_host_is_a_socket_or_an_address() {
        assert_eq!(Host::parse(None).unwrap(), Host::Unix("/var/run/docker.sock".to_owned()));
        assert_eq!(Host::parse(Some("")).unwrap(), Host::Unix("/var/run/docker.sock".to_owned()));
        assert_eq!(Host::parse(Some("unix:///x")).unwrap(), Host::Unix("/x".to_owned()));
        let tcp = Host::parse(Some("tcp://10.0.0.5:2375/")).unwrap();
        assert_eq!(tcp, Host::Tcp("10.0.0.5:2375".to_owned()));
        for bad in ["ssh://x", "unix://x", "tcp://", "/var/run/docker.sock"] {
            assert_eq!(Host::parse(Some(bad)).unwrap_err().code, "invalid_host", "{bad}");
        }
    }

    #[test]
    fn only_another_machine_is_remote() {
        for (text, remote) in [
            ("tcp://10.0.0.5:2375", Some("10.0.0.5")),
            ("tcp://engine.example:2376", Some("engine.example")),
            ("tcp://127.0.0.1:2375", None),
            ("tcp://localhost:2375", None),
            ("unix:///x", None),
        ] {
            assert_eq!(Host::parse(Some(text)).unwrap().remote_name(), remote, "{text}");
        }
    }
}
