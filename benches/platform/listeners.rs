//! Question: what does an event cost that many web sockets hear, for each of them?
//!
//! A thousand sockets listen as the operator's canvas while workspaces beat 200 times a second, each beat an event. What the
//! server spends on the same beats while nobody listens is taken off; the rest is divided by the frames that came. Readers
//! and server share the machine, and every socket must get every event in the end. Goal: 5 microseconds of processor time a
//! frame.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::server::Server;
use crate::{Args, http, median, verdict};

const GOAL_US: f64 = 5.0;
const LISTENERS: usize = 1000;
/// Between two beats: 200 a second.
const PACE: Duration = Duration::from_millis(5);
/// Beats that still are on their way at the end of a round reach their listeners within this.
const DRAINED_WITHIN: Duration = Duration::from_secs(10);

/// What one listener has heard so far.
type Heard = Arc<AtomicU64>;

struct Round {
    beats: u64,
    /// Processor time of the beats while nobody listened, and while all did.
    alone: Duration,
    heard: Duration,
    frames: u64,
    /// Fewest frames of any listener.
    least: u64,
}

/// Prints what came out.
pub(crate) fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let scratch = tempfile::TempDir::new_in(&args.dir)?;
    let listeners = if args.quick { 20 } else { LISTENERS };
    let rounds = runtime.block_on(async {
        let server = Server::start(args, &scratch.path().join("data"), "process", None).await?;
        let beats = beats(&server).await?;
        let mut rounds = Vec::new();
        for _ in 0..args.rounds {
            rounds.push(round(&server, &beats, listeners, args.span).await?);
        }
        anyhow::Ok(rounds)
    })?;
    report(args, listeners, &rounds);
    Ok(())
}

/// A request for each of ten workspaces that beat.
async fn beats(server: &Server) -> Result<Vec<Bytes>> {
    let mut beats = Vec::new();
    for n in 0..10 {
        let wish = json!({"name": format!("beats-{n}"), "runtime": "external", "delivery_mode": "poll"});
        let created = server.create(&wish).await?;
        let token = created["connection"]["auth_token"].as_str().context("no token")?;
        let beat = json!({"workspace_id": created["id"], "active_tasks": 1, "uptime_seconds": 60});
        beats.push(http::wire(server.address, "/registry/heartbeat", token, &beat.to_string()));
    }
    Ok(beats)
}

async fn round(server: &Server, beats: &[Bytes], listeners: usize, span: Duration) -> Result<Round> {
    let before = server.cpu()?;
    beat(server.address, beats, span).await?;
    let alone = server.cpu()?.saturating_sub(before);

    let mut readers = JoinSet::new();
    let mut heard = Vec::new();
    for _ in 0..listeners {
        let (stream, count) = (listen(server).await?, Heard::default());
        readers.spawn(read(stream, Arc::clone(&count)));
        heard.push(count);
    }
    let before = server.cpu()?;
    let sent = beat(server.address, beats, span).await?;
    drained(&heard, sent).await;
    let with = server.cpu()?.saturating_sub(before);
    let counts = || heard.iter().map(|count| count.load(Ordering::Relaxed));
    let least = counts().min().unwrap_or_default();
    Ok(Round { beats: sent, alone, heard: with, frames: counts().sum(), least })
}

/// Beats at the pace until the time is over; answers how often.
async fn beat(address: SocketAddr, beats: &[Bytes], span: Duration) -> Result<u64> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (started, mut sent, mut buffer) = (Instant::now(), 0, vec![0; 4096]);
    let mut pace = tokio::time::interval(PACE);
    for request in beats.iter().cycle() {
        pace.tick().await;
        if started.elapsed() >= span {
            break;
        }
        stream.write_all(request).await?;
        let length = stream.read(&mut buffer).await?;
        if buffer.get(9..12) != Some(b"200") {
            bail!("a beat was refused: {}", String::from_utf8_lossy(&buffer[..length]));
        }
        sent += 1;
    }
    Ok(sent)
}

/// Opens a web socket.
async fn listen(server: &Server) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(server.address).await?;
    let head = format!(
        "GET /ws HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        server.address, server.token
    );
    stream.write_all(head.as_bytes()).await?;
    // Byte by byte, so that no frame is taken for a part of the head.
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await?);
    }
    if answer.get(9..12) != Some(b"101") {
        bail!("no web socket: {}", String::from_utf8_lossy(&answer));
    }
    Ok(stream)
}

async fn read(mut stream: TcpStream, heard: Heard) {
    let (mut frames, mut buffer) = (Frames::default(), vec![0; 64 * 1024]);
    while let Ok(length) = stream.read(&mut buffer).await {
        if length == 0 {
            return;
        }
        heard.fetch_add(frames.seen(&buffer[..length]), Ordering::Relaxed);
    }
}

/// Waits until each listener has as many frames as there were beats.
async fn drained(heard: &[Heard], beats: u64) {
    let started = Instant::now();
    while started.elapsed() < DRAINED_WITHIN
        && heard.iter().any(|count| count.load(Ordering::Relaxed) < beats)
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Where in the stream of frames a listener is. Frames of a server are not masked.
#[derive(Debug, Default)]
struct Frames {
    head: Vec<u8>,
    body: usize,
}

impl Frames {
    /// Text frames that begin in these bytes.
    fn seen(&mut self, mut bytes: &[u8]) -> u64 {
        const TEXT: u8 = 0x81;
        let mut count = 0;
        loop {
            let within = self.body.min(bytes.len());
            self.body -= within;
            bytes = &bytes[within..];
            let Some((first, rest)) = bytes.split_first() else { return count };
            self.head.push(*first);
            bytes = rest;
            let length = match *self.head {
                [_, short] if short < 126 => usize::from(short),
                [_, 126, high, low] => usize::from(u16::from_be_bytes([high, low])),
                _ => continue,
            };
            count += u64::from(self.head[0] == TEXT);
            self.body = length;
            self.head.clear();
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a few million")]
fn report(args: &Args, listeners: usize, rounds: &[Round]) {
    let of = |pick: &dyn Fn(&Round) -> f64| median(rounds.iter().map(pick).collect());
    let frame =
        of(&|round| round.heard.saturating_sub(round.alone).as_secs_f64() * 1e6 / round.frames.max(1) as f64);
    let events = of(&|round| round.beats as f64) / args.span.as_secs_f64();
    // Who listened first may have heard of more than the beats.
    let complete = rounds.iter().all(|round| round.least >= round.beats);
    println!(
        "{listeners} listeners, {events:.0} events/s; a beat alone {:.0} us; {} frames; every listener has every event: {}",
        of(&|round| round.alone.as_secs_f64() * 1e6 / round.beats as f64),
        rounds.iter().map(|round| round.frames).sum::<u64>(),
        verdict(complete),
    );
    println!("CPU {frame:.2} us a frame, goal {GOAL_US:.0}: {}", verdict(frame <= GOAL_US));
    if args.quick {
        println!("(one short round: not a measurement)");
    }
}
