//! The listening side: one server over several listeners, on threads of its own.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use actix_web::body::BoxBody;
use actix_web::dev::{Server, ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::{NormalizePath, from_fn};
use actix_web::rt::net::TcpStream;
use actix_web::{App, Error, HttpServer, web};
use utoipa_actix_web::AppExt as _;

use crate::http::a2a::relay;
use crate::http::body::JSON_BYTES_MAX;
use crate::http::request::Ends;
use crate::http::{HttpState, edge, idempotency, router};

/// The contract's drain: requests under way when the platform goes down get so many seconds.
const DRAIN_S: u64 = 30;

/// Where the API is served.
#[derive(Debug)]
pub struct Listener {
    /// The bound socket.
    pub socket: TcpListener,
}

/// The application, for one worker or for a test without a socket.
pub fn app(
    state: Arc<HttpState>,
    document: web::Data<String>,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<BoxBody>,
        Error = Error,
        InitError = (),
    >,
> {
    let (app, _) = App::new().into_utoipa_app().configure(router::routes).split_for_parts();
    app.configure(|config| router::unlisted(config, document))
        .app_data(web::Data::from(state))
        .app_data(web::PayloadConfig::new(JSON_BYTES_MAX))
        .app_data(relay::client())
        .wrap(from_fn(idempotency::pass))
        .wrap(from_fn(edge::pass))
        .wrap(NormalizePath::trim())
}

/// Starts to serve. The server runs when it is awaited or spawned, and stops by its handle: first no new connections, then
/// up to 30 s for requests under way. It handles no signals.
pub fn listen(state: &Arc<HttpState>, listeners: Vec<Listener>, workers: usize) -> io::Result<Server> {
    edge::telemetry::describe();
    let document = web::Data::new(router::document());
    let shared = Arc::clone(state);
    let mut server = HttpServer::new(move || app(Arc::clone(&shared), document.clone()))
        .on_connect(|io, data| {
            if let Some(stream) = io.downcast_ref::<TcpStream>()
                && let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr())
            {
                data.insert(Ends { local, peer });
            }
        })
        .workers(workers.max(1))
        .shutdown_timeout(DRAIN_S)
        .disable_signals();
    for listener in listeners {
        server = server.listen(listener.socket)?;
    }
    Ok(server.run())
}
