//! What an answer of the engine's client means: one table from every error to a stable code and a class.
//!
//! The rule behind the table: an error is never evidence of death (R10). Only one row says that something is not there,
//! the engine's own "No such container" about the very id that was asked for, and even that row counts only while the
//! engine has proved that it is the engine (see [`super::engine`]). Every other row is *unknown*. The match names each
//! variant, so that an upgrade of the client that adds one does not compile until somebody decides.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use bollard::errors::Error;
use covalence_actors::effect::BackendError;

use crate::backends::redact::redact;

/// What a failed call means to the code that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// The engine's own words for a container that does not exist.
    NoSuchContainer,
    /// The engine's own words for an image that does not exist.
    NoSuchImage,
    /// A file, network or volume that does not exist, in the engine's own words.
    NoSuchThing,
    /// In use, being removed, or a name that is taken.
    Conflict,
    /// The engine understood and refused; nothing was done.
    Refused,
    /// The request never reached an engine; nothing was done.
    NotSent,
    /// Anything may have happened.
    Unknown,
}

/// A call that did not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// A stable word for events and metrics.
    pub(super) code: &'static str,
    /// What it means.
    pub(super) class: Class,
    /// What was being done and what was said, redacted.
    pub(super) detail: String,
}

impl Failure {
    /// Our own limit ran out; the engine may still be at it.
    pub(super) fn timeout(what: &str, limit: Duration) -> Self {
        let detail = format!("{what}: no answer within {} s", limit.as_secs());
        Self { code: "timeout", class: Class::Unknown, detail }
    }

    /// An answer that parses and still cannot be the engine's.
    pub(super) fn garbage(what: &str, why: &str) -> Self {
        Self { code: "garbage", class: Class::Unknown, detail: redact(&format!("{what}: {why}"), &[]) }
    }

    /// Classifies what the client said.
    pub(super) fn from_client(what: &str, error: &Error) -> Self {
        let (code, class) = classify(error);
        Self { code, class, detail: redact(&format!("{what}: {}", chain(error)), &[]) }
    }

    /// Whether the mutation may have happened, or may still happen.
    pub(super) fn outcome_unknown(&self) -> bool {
        self.class == Class::Unknown
    }
}

impl From<Failure> for BackendError {
    fn from(failure: Failure) -> Self {
        Self { code: failure.code, detail: failure.detail }
    }
}

fn classify(error: &Error) -> (&'static str, Class) {
    match error {
        Error::DockerResponseServerError { status_code, message } => answered(*status_code, message),
        Error::RequestTimeoutError => ("timeout", Class::Unknown),
        Error::SocketNotFoundError(_) => ("socket_missing", Class::NotSent),
        Error::IOError { err } => (io_code(err), Class::Unknown),
        Error::HyperLegacyError { err } => {
            let class = if err.is_connect() { Class::NotSent } else { Class::Unknown };
            (transport_code(err), class)
        }
        Error::HyperResponseError { err } => (transport_code(err), Class::Unknown),
        // A body that ends early is told apart from one that never was JSON: the first is a dying engine.
        Error::JsonSerdeError { err } if err.is_eof() => ("eof", Class::Unknown),
        Error::JsonSerdeError { .. } | Error::JsonDataError { .. } | Error::StrParseError { .. } => {
            ("garbage", Class::Unknown)
        }
        Error::DockerStreamError { .. } => ("stream", Class::Unknown),
        Error::DockerContainerWaitError { .. } => ("wait", Class::Unknown),
        // Nothing below is ever seen with a running engine; each says that the request or its answer could not be put
        // into words, which is as unknown as the rest.
        Error::APIVersionParseError {}
        | Error::MissingSessionBuildkitError {}
        | Error::MissingVersionBuildkitError {}
        | Error::StrFmtError { .. }
        | Error::HttpClientError { .. }
        | Error::URLEncodedError { .. }
        | Error::URLParseError { .. }
        | Error::InvalidURIError { .. }
        | Error::InvalidURIPartsError { .. }
        | Error::UnsupportedURISchemeError { .. }
        | Error::HttpHeaderNotFoundError(_)
        | Error::HttpHeaderToStrError { .. }
        | Error::Base64DecodeError { .. } => ("client", Class::Unknown),
    }
}

fn answered(status: u16, message: &str) -> (&'static str, Class) {
    match status {
        404 => not_found(message),
        409 => ("http_409", Class::Conflict),
        400 | 401 | 403 | 405 | 406 | 422 => (status_code(status), Class::Refused),
        _ => (status_code(status), Class::Unknown),
    }
}

/// The engine's own sentences. A proxy or a wrong path also says 404, in other words.
fn not_found(message: &str) -> (&'static str, Class) {
    let text = message.trim().to_ascii_lowercase();
    if text.starts_with("no such container: ") {
        ("not_found", Class::NoSuchContainer)
    } else if text.starts_with("no such image: ") {
        ("image_missing", Class::NoSuchImage)
    } else if (text.starts_with("network ") && text.ends_with(" not found"))
        || text.contains("no such volume")
        || text.starts_with("could not find the file ")
    {
        ("not_found", Class::NoSuchThing)
    } else {
        ("http_404", Class::Unknown)
    }
}

fn status_code(status: u16) -> &'static str {
    match status {
        400 => "http_400",
        401 => "http_401",
        403 => "http_403",
        404 => "http_404",
        405 => "http_405",
        406 => "http_406",
        409 => "http_409",
        422 => "http_422",
        429 => "http_429",
        500 => "http_500",
        501 => "http_501",
        502 => "http_502",
        503 => "http_503",
        504 => "http_504",
        _ => "http_other",
    }
}

/// The deepest cause decides: the client wraps an errno three times.
fn transport_code(error: &(dyn StdError + 'static)) -> &'static str {
    let mut code = "transport";
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            code = io_code(io);
        } else if let Some(hyper) = error.downcast_ref::<hyper::Error>() {
            if hyper.is_incomplete_message() || hyper.is_closed() {
                code = "eof";
            } else if hyper.is_parse() {
                code = "garbage";
            } else if hyper.is_timeout() {
                code = "timeout";
            }
        }
        next = error.source();
    }
    code
}

fn io_code(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused",
        io::ErrorKind::NotFound => "socket_missing",
        io::ErrorKind::PermissionDenied => "permission",
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => "eof",
        io::ErrorKind::TimedOut => "timeout",
        io::ErrorKind::InvalidData => "garbage",
        // `ErrorKind` grows with the standard library; the default is the harmless one. The client also wraps a body
        // that breaks off as `Other`, with the reason inside.
        _ => error.get_ref().map_or("io", |inner| match transport_code(inner) {
            "transport" => "io",
            code => code,
        }),
    }
}

/// The whole chain in one line. Layers that only repeat what is inside them are left out.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let layer = error.to_string();
        if !text.contains(&layer) {
            text.push_str(": ");
            text.push_str(&layer);
        }
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(status_code: u16, message: &str) -> Error {
        Error::DockerResponseServerError { status_code, message: message.to_owned() }
    }

    fn io_error(kind: io::ErrorKind) -> Error {
        Error::IOError { err: io::Error::new(kind, "x") }
    }

    /// R10: one row of the whole table is "not there"; every other answer is something else.
    #[test]
    fn only_the_engines_own_no_such_container_means_not_there() {
        let id = "a".repeat(64);
        let json = |text: &str| serde_json::from_str::<u8>(text).unwrap_err();
        let table: Vec<(Error, &str, Class)> = vec![
            (server(404, &format!("No such container: {id}")), "not_found", Class::NoSuchContainer),
            (server(404, "No such image: nosuch:1"), "image_missing", Class::NoSuchImage),
            (server(404, "network nonet not found"), "not_found", Class::NoSuchThing),
            (server(404, "get x: no such volume"), "not_found", Class::NoSuchThing),
            (
                server(404, "Could not find the file /configs/a in container b"),
                "not_found",
                Class::NoSuchThing,
            ),
            (server(404, "page not found"), "http_404", Class::Unknown),
            (server(404, "not found"), "http_404", Class::Unknown),
            (server(404, "container not found"), "http_404", Class::Unknown),
            (server(404, ""), "http_404", Class::Unknown),
            (server(400, "bad name"), "http_400", Class::Refused),
            (server(401, ""), "http_401", Class::Refused),
            (server(403, ""), "http_403", Class::Refused),
            (server(409, "removal in progress"), "http_409", Class::Conflict),
            (server(429, ""), "http_429", Class::Unknown),
            (server(500, "No such container: x"), "http_500", Class::Unknown),
            (server(502, ""), "http_502", Class::Unknown),
            (server(503, ""), "http_503", Class::Unknown),
            (server(504, ""), "http_504", Class::Unknown),
            (server(418, ""), "http_other", Class::Unknown),
            (Error::RequestTimeoutError, "timeout", Class::Unknown),
            (Error::SocketNotFoundError("/x".to_owned()), "socket_missing", Class::NotSent),
            (io_error(io::ErrorKind::ConnectionRefused), "refused", Class::Unknown),
            (io_error(io::ErrorKind::NotFound), "socket_missing", Class::Unknown),
            (io_error(io::ErrorKind::PermissionDenied), "permission", Class::Unknown),
            (io_error(io::ErrorKind::UnexpectedEof), "eof", Class::Unknown),
            (io_error(io::ErrorKind::ConnectionReset), "eof", Class::Unknown),
            (io_error(io::ErrorKind::BrokenPipe), "eof", Class::Unknown),
            (io_error(io::ErrorKind::TimedOut), "timeout", Class::Unknown),
            (io_error(io::ErrorKind::InvalidData), "garbage", Class::Unknown),
            (io_error(io::ErrorKind::Other), "io", Class::Unknown),
            (Error::JsonDataError { message: "x".to_owned(), column: 1 }, "garbage", Class::Unknown),
            (Error::JsonSerdeError { err: json("") }, "eof", Class::Unknown),
            (Error::JsonSerdeError { err: json("{") }, "garbage", Class::Unknown),
            (Error::DockerStreamError { error: String::new() }, "stream", Class::Unknown),
            (Error::DockerContainerWaitError { error: String::new(), code: 137 }, "wait", Class::Unknown),
            (Error::APIVersionParseError {}, "client", Class::Unknown),
            (Error::StrFmtError { err: std::fmt::Error }, "client", Class::Unknown),
            (Error::UnsupportedURISchemeError { uri: "x".to_owned() }, "client", Class::Unknown),
            (Error::HttpHeaderNotFoundError("x".to_owned()), "client", Class::Unknown),
        ];
        for (error, code, class) in table {
            assert_eq!(classify(&error), (code, class), "`{error:?}`");
        }
    }

    #[test]
    fn an_empty_error_text_is_unknown() {
        let failure = Failure::from_client("inspect", &server(500, ""));
        assert_eq!((failure.code, failure.class), ("http_500", Class::Unknown));
        assert!(failure.outcome_unknown());
    }
}
