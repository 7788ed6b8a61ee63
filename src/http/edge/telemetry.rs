//! Span, access log and counters of a request.

use std::cell::RefCell;
use std::collections::HashMap;

use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, StatusCode};
use tracing::Span;

use crate::http::request::Known;

/// Requests, by method, route pattern and status (contract data 7.2).
pub const REQUESTS: &str = "molecule_http_requests_total";
/// Seconds spent, by the same labels.
pub const SECONDS: &str = "molecule_http_request_duration_seconds_total";
/// Web sockets that are open, as of each scrape (contract data 7.2).
pub const SOCKETS: &str = "molecule_websocket_connections_active";
/// Handlers that panicked.
pub const PANICS: &str = "covalence_http_panics_total";

/// Series that a worker keeps at hand: a few hundred routes and statuses; more can only be methods that somebody invented.
const SERIES_MAX: usize = 1024;

/// Says what the series mean. Once, after the recorder is installed.
pub fn describe() {
    metrics::describe_counter!(REQUESTS, "HTTP requests by method, route and status");
    metrics::describe_gauge!(SECONDS, metrics::Unit::Seconds, "seconds spent in HTTP requests, summed");
    metrics::describe_gauge!(SOCKETS, metrics::Unit::Count, "web sockets that are open");
    metrics::describe_counter!(PANICS, "HTTP handlers that panicked");
    crate::http::a2a::retry::describe();
}

/// The request's span.
pub fn span(request: &ServiceRequest, known: &Known) -> Span {
    tracing::info_span!("request", method = %request.method(), path = request.path(), request_id = known.id)
}

/// Counts a request that got past the edge's refusals.
pub fn count(response: &ServiceResponse, known: &Known) {
    let request = response.request();
    let key = (request.method().clone(), request.match_pattern(), response.status());
    SERIES.with_borrow_mut(|known_series| {
        if known_series.len() >= SERIES_MAX {
            known_series.clear();
        }
        let series = known_series
            .entry(key)
            .or_insert_with_key(|(method, pattern, status)| Series::new(method, pattern.as_deref(), *status));
        series.requests.increment(1);
        series.seconds.increment(known.began.elapsed().as_secs_f64());
    });
}

/// The two series of one kind of answer.
struct Series {
    requests: metrics::Counter,
    seconds: metrics::Gauge,
}

impl Series {
    fn new(method: &Method, pattern: Option<&str>, status: StatusCode) -> Self {
        let (method, status) = (method.to_string(), status.as_str().to_owned());
        let path = pattern.map_or_else(|| "unmatched".to_owned(), colons);
        let labels = [("method", method), ("path", path), ("status", status)];
        Self { requests: metrics::counter!(REQUESTS, &labels), seconds: metrics::gauge!(SECONDS, &labels) }
    }
}

/// What one series counts: method, route pattern, status.
type Kind = (Method, Option<String>, StatusCode);

thread_local! {
    /// Handles of the series that a worker has counted in: to look them up by their labels costs more than the counting.
    static SERIES: RefCell<HashMap<Kind, Series>> = RefCell::default();
}

/// `/a/{id}/b` as the contract's label, `/a/:id/b`.
fn colons(pattern: &str) -> String {
    pattern
        .split('/')
        .map(|part| match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            Some(name) => format!(":{name}"),
            None => part.to_owned(),
        })
        .collect::<Vec<_>>()
        .join("/")
}

/// One line for each request: a timeline of answers that a person must look at, the rest for those who ask.
pub fn finished(span: &Span, response: &ServiceResponse, known: &Known) {
    let (status, elapsed_us) = (response.status().as_u16(), known.began.elapsed().as_micros());
    span.in_scope(|| {
        if status == 500 {
            tracing::warn!(status, elapsed_us, "answered");
        } else {
            tracing::debug!(status, elapsed_us, "answered");
        }
    });
}

/// The same for a request whose handler panicked.
pub fn finished_by_panic(span: &Span, known: &Known) {
    metrics::counter!(PANICS).increment(1);
    let elapsed_us = known.began.elapsed().as_micros();
    span.in_scope(|| tracing::warn!(status = 500, elapsed_us, "answered"));
}

#[cfg(test)]
mod tests {
    use super::colons;

    #[test]
    fn a_route_s_label_is_spelled_with_colons() {
        assert_eq!(colons("/workspaces/{id}/a2a"), "/workspaces/:id/a2a");
        assert_eq!(colons("/health"), "/health");
    }
}
