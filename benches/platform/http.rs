//! One HTTP request at a time, for what is set up and looked up around a measurement.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A request that takes longer is stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends a request over a connection of its own.
pub(crate) async fn once<S>(stream: S, request: Request<Full<Bytes>>) -> Result<(u16, Bytes)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let exchange = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        driver.abort();
        anyhow::Ok((status, body))
    };
    tokio::time::timeout(PATIENCE, exchange).await.context("no answer in time")?
}

/// Calls an API that speaks JSON. An error status is an error.
pub(crate) async fn json(
    address: SocketAddr,
    (method, path): (&str, &str),
    token: &str,
    body: Option<&serde_json::Value>,
) -> Result<Bytes> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", address.to_string())
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.map(ToString::to_string).unwrap_or_default())))?;
    let (status, body) = once(TcpStream::connect(address).await?, request).await?;
    if status >= 300 {
        bail!("{method} {path}: {status} {}", String::from_utf8_lossy(&body));
    }
    Ok(body)
}

/// A whole request as it goes over the wire, for the load generator.
pub(crate) fn wire(address: SocketAddr, path: &str, token: &str, body: &str) -> Bytes {
    Bytes::from(format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    ))
}
