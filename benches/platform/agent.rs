//! An agent that costs next to nothing, so that the relay is what shows: it answers every message with the same KiB.
//!
//! The server starts this very program in its place (`COVALENCE_AGENT_PROGRAM`): the relay then calls an address that its own
//! backend reported, as for any agent that it runs.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;

use crate::http;

const THREADS: usize = 2;
/// As often as real agents do.
const BEAT: Duration = Duration::from_secs(30);
/// Size of an answer's body.
const ANSWER_BYTES: usize = 1024;

#[expect(clippy::disallowed_methods, reason = "an agent's configuration is its environment")]
fn variable(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("`{name}` is not set"))
}

/// Whether a backend started us.
pub(crate) fn is_asked_for() -> bool {
    variable("WORKSPACE_ID").is_ok() && variable("PORT").is_ok()
}

/// A JSON-RPC answer of one KiB.
fn answer() -> Bytes {
    let of = |text: &str| {
        json!({"jsonrpc": "2.0", "id": "1", "result": {"kind": "message", "messageId": "a", "role": "agent",
               "parts": [{"kind": "text", "text": text}]}})
        .to_string()
    };
    Bytes::from(of(&"x".repeat(ANSWER_BYTES - of("").len())))
}

/// Serves until it is killed.
pub(crate) fn run() -> Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, variable("PORT")?.parse()?));
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let listener = listener.try_clone()?;
            Ok(std::thread::spawn(move || serve(listener)))
        })
        .collect::<Result<_>>()?;
    beat()?;
    for thread in threads {
        thread.join().ok().context("a thread panicked")??;
    }
    Ok(())
}

fn serve(listener: TcpListener) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let body = answer();
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let body = body.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let body = body.clone();
                async move {
                    let _ = request.into_body().collect().await;
                    let response = Response::builder().header("content-type", "application/json");
                    Ok::<_, Infallible>(response.body(Full::new(body)).unwrap_or_default())
                }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::task::spawn_local(connection);
        }
    })
}

/// Says that it lives, from time to time.
fn beat() -> Result<()> {
    let id = variable("WORKSPACE_ID")?;
    let token = std::fs::read_to_string(Path::new(&variable("WORKSPACE_CONFIG_PATH")?).join(".auth_token"))?;
    let platform = variable("PLATFORM_URL")?;
    let platform: SocketAddr = platform.trim_start_matches("http://").parse()?;
    let body = json!({ "workspace_id": id, "active_tasks": 1 });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        loop {
            // The platform may be going down; it stops us then.
            let _ = http::json(platform, ("POST", "/registry/heartbeat"), token.trim(), Some(&body)).await;
            tokio::time::sleep(BEAT).await;
        }
    })
}
