//! The HTTP server: accepts, bounds and drains connections. What a request means is in [`service`].

pub mod body;
pub mod call;
pub mod service;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::server::service::Service;

/// Connections at one time. The platform keeps a few hundred to one agent at most; more wait in the backlog.
const CONNECTIONS_MAX: usize = 1024;
/// A caller that has connected and sends no complete header within this is not a caller.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// After `accept` fails (mostly: too many open files), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until `draining` is cancelled. Connections are tasks of `tracker`, and each is closed after
/// the answer that it is working on.
pub(crate) async fn serve(
    listener: TcpListener,
    service: Arc<Service>,
    tracker: TaskTracker,
    draining: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            () = draining.cancelled() => return,
            accepted = accept(&listener, &slots) => accepted,
        };
        let Some((stream, peer, slot)) = accepted else { continue };
        let service = Arc::clone(&service);
        let draining = draining.clone();
        tracker.spawn(async move {
            if let Err(error) = connection(stream, service, draining).await {
                // Callers hang up in many ways, none of which needs a person.
                tracing::debug!(%peer, %error, "connection ended early");
            }
            drop(slot);
        });
    }
}

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> Option<Accepted> {
    // The semaphore is never closed, so this waits for a slot and does not fail.
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, slot)),
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn connection(
    stream: TcpStream,
    service: Arc<Service>,
    draining: CancellationToken,
) -> Result<(), hyper::Error> {
    // Answers are small and waited for; a failure only costs latency.
    drop(stream.set_nodelay(true));
    let handler = service_fn(move |request| {
        let service = Arc::clone(&service);
        async move { Ok::<_, std::convert::Infallible>(service.handle(request).await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(stream), handler)
    );
    tokio::select! {
        done = connection.as_mut() => return done,
        () = draining.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}
