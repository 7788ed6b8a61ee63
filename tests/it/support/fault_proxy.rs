//! A proxy in front of the real engine's socket that misbehaves on demand.
//!
//! Each connection carries one request, since the engine's client keeps none alive. A rule names a part of the request
//! line and what happens to requests that have it; what no rule is about meets the weather, if there is any, and else goes
//! through to the real engine.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// No request head of the engine's client is longer.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What happens to a request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Answered late, by the real engine.
    Delay(Duration),
    /// Taken and never answered.
    BlackHole,
    /// The connection is closed before the request is read.
    CloseAtAccept,
    /// The connection is closed when the request was read; the engine never sees it.
    CloseAfterRequest,
    /// The engine does what it is asked; its answer is lost.
    LoseAnswer,
    /// The engine's answer breaks off in the middle of its body.
    EofInBody,
    /// Somebody else's answer.
    Answer { status: u16, content_type: &'static str, body: String },
    /// Bytes that are no HTTP at all.
    Garbage,
}

#[derive(Clone, Debug)]
struct Rule {
    part: String,
    fault: Fault,
    /// How many more requests it hits; none is all.
    left: Option<usize>,
}

/// What a request meets, if anything, by its request line.
pub(crate) type Weather = Box<dyn FnMut(&str) -> Option<Fault> + Send>;

#[derive(Default)]
struct Shared {
    rules: Mutex<Vec<Rule>>,
    weather: Mutex<Option<Weather>>,
    requests: Mutex<Vec<String>>,
    /// Ends the connections that are open; a new one stands for those that come.
    open: Mutex<CancellationToken>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// The proxy. Ends with its value.
#[derive(Debug)]
pub(crate) struct FaultProxy {
    directory: tempfile::TempDir,
    engine: PathBuf,
    shared: Arc<Shared>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

impl FaultProxy {
    /// In front of this engine's socket; no rules yet.
    pub(crate) fn start(engine: &Path) -> Self {
        let proxy = Self {
            directory: tempfile::tempdir().unwrap(),
            engine: engine.to_owned(),
            shared: Arc::default(),
            accepting: Mutex::new(None),
        };
        proxy.listen();
        proxy
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("engine.sock")
    }

    /// What to use as `DOCKER_HOST`.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Requests whose request line has this part meet this fault.
    pub(crate) fn fault(&self, part: &str, fault: Fault) {
        self.rule(part, fault, None);
    }

    /// The next request whose request line has this part meets this fault.
    pub(crate) fn fault_once(&self, part: &str, fault: Fault) {
        self.rule(part, fault, Some(1));
    }

    fn rule(&self, part: &str, fault: Fault, left: Option<usize>) {
        self.shared.rules.lock().unwrap().push(Rule { part: part.to_owned(), fault, left });
    }

    /// No faults any more.
    pub(crate) fn heal(&self) {
        self.shared.rules.lock().unwrap().clear();
    }

    /// Requests that no rule is about meet this from now on; `None`: nothing.
    pub(crate) fn weather(&self, weather: Option<Weather>) {
        *self.shared.weather.lock().unwrap() = weather;
    }

    /// Cuts every connection that is open, streams of events among them.
    pub(crate) fn cut_open(&self) {
        std::mem::take(&mut *self.shared.open.lock().unwrap()).cancel();
    }

    /// Request lines so far that have this part.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.shared.requests.lock().unwrap().iter().filter(|line| line.contains(part)).count()
    }

    /// Stops listening: connections are refused, as by an engine that died and left its socket.
    pub(crate) async fn refuse(&self) {
        let accepting = self.accepting.lock().unwrap().take();
        if let Some(accepting) = accepting {
            accepting.abort();
            let _cancelled = accepting.await;
        }
    }

    /// Listens (again).
    pub(crate) fn listen(&self) {
        let socket = self.socket();
        let _stale = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let (engine, shared) = (self.engine.clone(), Arc::clone(&self.shared));
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let open = shared.open.lock().unwrap().clone();
                let serving = serve(client, engine.clone(), Arc::clone(&shared));
                tokio::spawn(async move { open.run_until_cancelled(serving).await });
            }
        });
        *self.accepting.lock().unwrap() = Some(accepting);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        if let Some(accepting) = self.accepting.lock().unwrap().take() {
            accepting.abort();
        }
        self.cut_open();
    }
}

impl Shared {
    fn fault_for(&self, line: &str) -> Option<Fault> {
        let mut rules = self.rules.lock().unwrap();
        if let Some(rule) = rules.iter_mut().find(|rule| line.contains(&rule.part) && rule.left != Some(0)) {
            rule.left = rule.left.map(|left| left - 1);
            return Some(rule.fault.clone());
        }
        self.weather.lock().unwrap().as_mut()?(line)
    }

    fn closes_at_accept(&self) -> bool {
        self.rules.lock().unwrap().iter().any(|rule| matches!(rule.fault, Fault::CloseAtAccept))
    }
}

async fn serve(mut client: UnixStream, engine: PathBuf, shared: Arc<Shared>) {
    if shared.closes_at_accept() {
        return;
    }
    let Some(head) = read_head(&mut client).await else { return };
    let text = String::from_utf8_lossy(&head);
    let line = text.lines().next().unwrap_or_default().to_owned();
    let fault = shared.fault_for(&line);
    shared.requests.lock().unwrap().push(line);
    let Some(fault) = fault else { return forward(client, &engine, &head).await };
    match fault {
        Fault::Delay(time) => {
            tokio::time::sleep(time).await;
            forward(client, &engine, &head).await;
        }
        Fault::BlackHole => std::future::pending().await,
        Fault::CloseAtAccept | Fault::CloseAfterRequest => {}
        Fault::LoseAnswer => {
            let _answer = ask(&mut client, &engine, &head, 1).await;
        }
        Fault::EofInBody => {
            let answer = ask(&mut client, &engine, &head, 64).await;
            let _closed = client.write_all(&answer).await;
        }
        Fault::Answer { status, content_type, body } => {
            let answer = format!(
                "HTTP/1.1 {status} Said So\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let _closed = client.write_all(answer.as_bytes()).await;
        }
        Fault::Garbage => {
            let _closed = client.write_all(b"\x00\x01\x02 this is not HTTP\r\n\r\n").await;
        }
    }
}

async fn read_head(client: &mut UnixStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = client.read_buf(&mut head).await.ok()?;
        if read == 0 || head.len() > HEAD_BYTES_MAX {
            return None;
        }
    }
    Some(head)
}

async fn forward(mut client: UnixStream, engine: &Path, head: &[u8]) {
    let Ok(mut upstream) = UnixStream::connect(engine).await else { return };
    if upstream.write_all(head).await.is_ok() {
        let _ended = copy_bidirectional(&mut client, &mut upstream).await;
    }
}

/// The engine's answer: its head and at least so many bytes of its body, then no more. The request's body is copied as
/// it comes.
async fn ask(client: &mut UnixStream, engine: &Path, head: &[u8], body_bytes: usize) -> Vec<u8> {
    let mut answer = Vec::new();
    let Ok(mut upstream) = UnixStream::connect(engine).await else { return answer };
    if upstream.write_all(head).await.is_err() {
        return answer;
    }
    let mut more = Vec::new();
    loop {
        let end = answer.windows(4).position(|end: &[u8]| end == b"\r\n\r\n").map(|place| place + 4);
        if let Some(end) = end
            && (answer.len() >= end + body_bytes || is_bodyless(&answer[..end]))
        {
            answer.truncate(end + body_bytes);
            return answer;
        }
        tokio::select! {
            read = upstream.read_buf(&mut answer) => if read.unwrap_or(0) == 0 { return answer },
            read = client.read_buf(&mut more) => {
                if read.unwrap_or(0) == 0 || upstream.write_all(&more).await.is_err() {
                    return answer;
                }
                more.clear();
            }
        }
    }
}

fn is_bodyless(head: &[u8]) -> bool {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    head.starts_with("http/1.1 204")
        || head.starts_with("http/1.1 304")
        || head.contains("\r\ncontent-length: 0\r\n")
}
