//! The load generator: closed loops of ready-made requests over kept-alive connections, two threads at most.
//!
//! It does as little as a client can (it finds the end of the answer and compares the status), so that what is measured is the
//! server. It shares the machine's cores with it, like everything here: ratios count.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const THREADS_MAX: usize = 2;

/// What a load met.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    /// Good answers a second.
    pub(crate) rate: f64,
    /// Median time of an answer, in microseconds.
    pub(crate) p50_us: f64,
    /// The 99th percentile, in microseconds.
    pub(crate) p99_us: f64,
    /// Good answers in all.
    pub(crate) answers: u64,
    /// Answers with another status than 200.
    pub(crate) refusals: u64,
}

/// Sends each connection's requests in turn, again and again, until the time is over.
pub(crate) fn run(address: SocketAddr, connections: &[Vec<Bytes>], span: Duration) -> Result<Outcome> {
    let threads = connections.len().min(THREADS_MAX);
    let started = Instant::now();
    let workers: Vec<_> = (0..threads)
        .map(|thread| {
            let own: Vec<_> = connections.iter().skip(thread).step_by(threads).cloned().collect();
            std::thread::spawn(move || work(address, own, started + span))
        })
        .collect();
    let (mut took, mut refusals) = (Vec::new(), 0);
    for worker in workers {
        let (times, refused) = worker.join().ok().context("a load thread panicked")??;
        took.extend(times);
        refusals += refused;
    }
    let elapsed = started.elapsed();
    took.sort_unstable();
    let at = |share: usize| took.get(took.len() * share / 100).map_or(0.0, |ns| f64::from(*ns) / 1e3);
    #[expect(clippy::cast_precision_loss, reason = "a count of a few million")]
    let rate = took.len() as f64 / elapsed.as_secs_f64();
    Ok(Outcome { rate, p50_us: at(50), p99_us: at(99), answers: took.len() as u64, refusals })
}

fn work(address: SocketAddr, connections: Vec<Vec<Bytes>>, until: Instant) -> Result<(Vec<u32>, u64)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async move {
        let loops: Vec<_> = connections
            .into_iter()
            .map(|requests| tokio::task::spawn_local(one(address, requests, until)))
            .collect();
        let (mut took, mut refusals) = (Vec::new(), 0);
        for each in loops {
            let (times, refused) = each.await??;
            took.extend(times);
            refusals += refused;
        }
        Ok((took, refusals))
    })
}

async fn one(address: SocketAddr, requests: Vec<Bytes>, until: Instant) -> Result<(Vec<u32>, u64)> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut took, mut refusals, mut buffer) = (Vec::new(), 0, vec![0; 64 * 1024]);
    for request in requests.iter().cycle() {
        let before = Instant::now();
        if before >= until {
            break;
        }
        stream.write_all(request).await?;
        if answer(&mut stream, &mut buffer).await? {
            took.push(u32::try_from(before.elapsed().as_nanos()).unwrap_or(u32::MAX));
        } else {
            refusals += 1;
        }
    }
    Ok((took, refusals))
}

/// Reads one answer; says whether it was a 200.
async fn answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<bool> {
    let (mut read, mut whole) = (0, None);
    loop {
        let space =
            buffer.get_mut(read..).filter(|space| !space.is_empty()).context("an answer is too long")?;
        let n = stream.read(space).await?;
        if n == 0 {
            bail!("the server closed a connection");
        }
        read += n;
        let so_far = &buffer[..read];
        if whole.is_none()
            && let Some(head) = so_far.windows(4).position(|four| four == b"\r\n\r\n")
        {
            whole = Some(head + 4 + length(&so_far[..head])?);
        }
        if whole.is_some_and(|whole| read >= whole) {
            return Ok(so_far.get(9..12) == Some(b"200"));
        }
    }
}

fn length(head: &[u8]) -> Result<usize> {
    const NAME: &[u8] = b"content-length:";
    head.split(|byte| *byte == b'\n')
        .find(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)))
        .and_then(|line| std::str::from_utf8(&line[NAME.len()..]).ok()?.trim().parse().ok())
        .context("an answer without a length")
}
