//! One run of a program in its own process group, with bounded output and a deadline.
//!
//! Guarantees: a run that passes its deadline, writes too much or is dropped takes its whole process group along.
//! After an ordinary exit, helpers that still hold the pipes are killed too: they would pile up, call after call.
//! Caveats: a helper that closed its pipes or left the group is a daemon by its own wish and lives on. If the
//! agent itself is killed with SIGKILL, a running command is left to its container or to whoever started the agent.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{sleep, timeout};

use crate::runtime::Failure;

/// An answer's limit: what the platform records of a response body, and far above any text that people read.
pub(super) const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// What of standard error reaches the caller: the last lines of a stack trace.
const STDERR_BYTES_MAX: usize = 2048;
/// Size of one read; the capacity of a pipe is 64 KiB, and stderr is mostly short.
const READ_BYTES: usize = 16 * 1024;
/// After SIGTERM, so that a program can save its session before SIGKILL.
const TERMINATE_GRACE: Duration = Duration::from_secs(2);
/// After the program's exit its output is in the pipes already; only a helper it left behind keeps them open.
const DRAIN_MAX: Duration = Duration::from_millis(500);
/// A killed process is gone at once, unless the kernel holds it (a dead network disk); the runtime reaps it later.
const REAP_MAX: Duration = Duration::from_secs(1);

/// A program, its input and its limit.
#[derive(Debug)]
pub(super) struct Job {
    /// Program and arguments, not empty.
    pub(super) argv: Vec<String>,
    /// Text for its standard input, closed afterwards; without one it is empty.
    pub(super) stdin: Option<String>,
    /// Deadline, counted from the start.
    pub(super) timeout: Duration,
}

/// Why a run was cut short.
#[derive(Debug)]
enum Cut {
    TimedOut,
    TooLong,
    Lost(io::Error),
}

/// Runs a job and returns its standard output.
pub(super) async fn run(job: Job) -> Result<String, Failure> {
    let mut child = spawn(&job)?;
    let mut group = Group::of(&child);
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let mut answer = Vec::new();
    let mut complaint = Vec::new();
    let transfer = async {
        let input = job.stdin.as_deref().unwrap_or_default();
        tokio::try_join!(
            feed(stdin, input),
            read_tail(stderr, &mut complaint),
            read_answer(stdout, &mut answer)
        )
        .map(drop)
    };
    let ended = supervise(&mut child, &mut group, transfer, job.timeout).await;
    if ended.is_err() {
        group.kill();
        // Kept in `child` otherwise, whose drop hands it to the runtime's reaper.
        drop(timeout(REAP_MAX, child.wait()).await);
    }
    let stderr = tail_text(&complaint);
    match ended {
        Ok(status) if status.success() => Ok(String::from_utf8_lossy(&answer).into_owned()),
        Ok(status) => Err(Failure::Exited { status, stderr }),
        Err(Cut::TimedOut) => Err(Failure::TimedOut { after: job.timeout, stderr }),
        Err(Cut::TooLong) => Err(Failure::TooLong { bytes_max: ANSWER_BYTES_MAX }),
        Err(Cut::Lost(error)) => Err(Failure::Lost(error)),
    }
}

fn spawn(job: &Job) -> Result<Child, Failure> {
    let (program, arguments) = job.argv.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
    Command::new(program)
        .args(arguments)
        .stdin(if job.stdin.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| Failure::NotStarted { program: program.to_owned(), source })
}

/// Waits for the program while its pipes are served.
async fn supervise(
    child: &mut Child,
    group: &mut Group,
    transfer: impl Future<Output = Result<(), Cut>>,
    limit: Duration,
) -> Result<ExitStatus, Cut> {
    tokio::pin!(transfer);
    let deadline = sleep(limit);
    tokio::pin!(deadline);
    let mut is_open = true;
    let status = loop {
        tokio::select! {
            done = &mut transfer, if is_open => {
                done?;
                is_open = false;
            }
            status = child.wait() => break status.map_err(Cut::Lost)?,
            () = &mut deadline => {
                group.signal(Signal::TERM);
                // Closed pipes mean that the group is gone. The leader stays unreaped meanwhile, so its number
                // cannot be somebody else's when SIGKILL follows.
                if is_open { drop(timeout(TERMINATE_GRACE, transfer).await) } else { sleep(TERMINATE_GRACE).await }
                return Err(Cut::TimedOut);
            }
        }
    };
    if is_open {
        match timeout(DRAIN_MAX, &mut transfer).await {
            Ok(done) => done?,
            Err(_still_open) => group.kill(),
        }
    }
    group.forget();
    Ok(status)
}

async fn feed(stdin: Option<ChildStdin>, text: &str) -> Result<(), Cut> {
    if let Some(mut stdin) = stdin {
        // A program that does not read all of its input is no failure; its exit code says what it thinks.
        drop(stdin.write_all(text.as_bytes()).await);
        drop(stdin.shutdown().await);
    }
    Ok(())
}

async fn read_answer(stdout: Option<impl AsyncRead + Unpin>, answer: &mut Vec<u8>) -> Result<(), Cut> {
    if let Some(stdout) = stdout {
        let limit = u64::try_from(ANSWER_BYTES_MAX).unwrap_or(u64::MAX) + 1;
        stdout.take(limit).read_to_end(answer).await.map_err(Cut::Lost)?;
    }
    if answer.len() > ANSWER_BYTES_MAX { Err(Cut::TooLong) } else { Ok(()) }
}

/// Reads to the end and keeps at least the last [`STDERR_BYTES_MAX`] bytes.
async fn read_tail(stderr: Option<impl AsyncRead + Unpin>, tail: &mut Vec<u8>) -> Result<(), Cut> {
    let Some(mut stderr) = stderr else { return Ok(()) };
    let mut chunk = vec![0; READ_BYTES];
    loop {
        let count = stderr.read(&mut chunk).await.map_err(Cut::Lost)?;
        if count == 0 {
            return Ok(());
        }
        tail.extend_from_slice(&chunk[..count]);
        if tail.len() > 2 * STDERR_BYTES_MAX {
            tail.drain(..tail.len() - STDERR_BYTES_MAX);
        }
    }
}

fn tail_text(bytes: &[u8]) -> String {
    let mut start = bytes.len().saturating_sub(STDERR_BYTES_MAX);
    // Bytes 10xxxxxx continue a character whose beginning was cut off.
    while start > 0 && bytes.get(start).is_some_and(|byte| byte & 0b1100_0000 == 0b1000_0000) {
        start += 1;
    }
    String::from_utf8_lossy(&bytes[start..]).trim().to_owned()
}

/// A process group that is killed when this is dropped, unless it was killed or forgotten before.
#[derive(Debug)]
struct Group(Option<Pid>);

impl Group {
    /// The group that `child` leads.
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // The only likely error is that nobody is left, which is what the signal is for.
            let _nobody_left = kill_process_group(group, signal);
        }
    }

    fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.forget();
    }

    fn forget(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Job {
        let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
        Job { argv, stdin: None, timeout: Duration::from_secs(20) }
    }

    #[tokio::test]
    async fn a_helper_that_holds_the_pipes_does_not_hold_the_answer() {
        let answer = run(sh("sleep 300 & echo done")).await;
        assert_eq!(answer.ok().as_deref(), Some("done\n"));
    }

    #[tokio::test]
    async fn an_endless_answer_is_cut_off_and_its_writer_killed() {
        let failure = run(sh("yes")).await.unwrap_err();
        assert!(matches!(failure, Failure::TooLong { .. }), "{failure}");
    }

    #[tokio::test]
    async fn a_long_complaint_is_kept_by_its_end() {
        let failure = run(sh("yes complaint | head -n 20000 >&2; echo last >&2; exit 7")).await.unwrap_err();
        assert_eq!(failure.exit_code(), Some(7));
        let text = failure.to_string();
        assert!(text.starts_with("command ended with exit code 7: ") && text.ends_with("last"), "{text}");
        assert!(text.len() < STDERR_BYTES_MAX + 100);
    }

    #[tokio::test]
    async fn input_that_nobody_reads_is_no_failure() {
        let job = Job { stdin: Some("x".repeat(1024 * 1024)), ..sh("echo fine") };
        assert_eq!(run(job).await.ok().as_deref(), Some("fine\n"));
    }

    #[tokio::test]
    async fn a_run_that_is_dropped_takes_its_group_along() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("alive");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        // Reading the pipe ends when its last writer is gone, which is the helper.
        let script = format!("(sh -c 'trap \"\" TERM; echo here; sleep 300') > {} & wait", fifo.display());
        let job = tokio::spawn(run(sh(&script)));
        let mut reader = tokio::net::unix::pipe::OpenOptions::new().open_receiver(&fifo).unwrap();
        let mut first = [0; 5];
        timeout(Duration::from_secs(20), async {
            // Until a writer comes, reading gives the end of the pipe.
            while reader.read(&mut first).await.unwrap() == 0 {
                tokio::task::yield_now().await;
            }
            job.abort();
            reader.read_to_end(&mut Vec::new()).await.unwrap();
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let argv = vec!["/no/such/program".to_owned()];
        let job = Job { argv, stdin: None, timeout: Duration::from_secs(5) };
        assert!(run(job).await.unwrap_err().to_string().contains("`/no/such/program` did not start"));
    }

    #[test]
    fn a_tail_begins_at_a_character() {
        let mut bytes = vec![b'a'];
        bytes.extend("é".repeat(STDERR_BYTES_MAX).into_bytes());
        bytes.push(b'b');
        assert!(tail_text(&bytes).starts_with('é'));
    }
}
