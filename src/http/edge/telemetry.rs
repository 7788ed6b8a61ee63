//! Span, access log and counters of a request.

use actix_web::dev::{ServiceRequest, ServiceResponse};
use tracing::Span;

use crate::http::request::Known;

/// Requests, by method, route pattern and status (contract data 7.2).
pub const REQUESTS: &str = "molecule_http_requests_total";
/// Seconds spent, by the same labels.
pub const SECONDS: &str = "molecule_http_request_duration_seconds_total";
/// Handlers that panicked.
pub const PANICS: &str = "covalence_http_panics_total";

/// Says what the series mean. Once, after the recorder is installed.
pub fn describe() {
    metrics::describe_counter!(REQUESTS, "HTTP requests by method, route and status");
    metrics::describe_gauge!(SECONDS, metrics::Unit::Seconds, "seconds spent in HTTP requests, summed");
    metrics::describe_counter!(PANICS, "HTTP handlers that panicked");
}

/// The request's span.
pub fn span(request: &ServiceRequest, known: &Known) -> Span {
    tracing::info_span!("request", method = %request.method(), path = request.path(), request_id = known.id)
}

/// Counts a request that got past the edge's refusals.
pub fn count(response: &ServiceResponse, known: &Known) {
    let method = response.request().method().to_string();
    let path =
        response.request().match_pattern().map_or_else(|| "unmatched".to_owned(), |pattern| colons(&pattern));
    let status = response.status().as_str().to_owned();
    metrics::counter!(REQUESTS, "method" => method.clone(), "path" => path.clone(), "status" => status.clone())
        .increment(1);
    metrics::gauge!(SECONDS, "method" => method, "path" => path, "status" => status)
        .increment(known.began.elapsed().as_secs_f64());
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
