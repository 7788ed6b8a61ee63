//! For whom a browser speaks, and whom it thinks that it speaks to: `Host`, `Origin`, CORS, and the tenant guard.
//!
//! A page on another origin must not reach this API through a visitor's browser, neither openly (`Origin`) nor by
//! pointing its own name at our address (`Host`).

use std::net::IpAddr;

use actix_web::HttpResponse;
use actix_web::dev::ServiceRequest;
use actix_web::http::Method;
use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_REQUEST_METHOD, HOST, HeaderMap, HeaderValue, REFERER, VARY,
};
use url::Url;

use crate::http::HttpState;
use crate::http::error::ApiError;
use crate::http::request::{Ends, page, text};

/// Names under which every installation may be addressed: what people type, and what containers are told.
const HOSTS: &[&str] = &["localhost", "host.docker.internal"];
const METHODS: &str = "GET, POST, PUT, PATCH, DELETE, OPTIONS";
/// The contract's four, and those of ours that a page can't send otherwise.
const HEADERS: &str = "Origin, Content-Type, X-Workspace-ID, Authorization, Idempotency-Key, Last-Event-ID, \
    X-Request-Id, X-Timeout, A2A-Version, A2A-Extensions";

/// The host name of a `Host` header or an authority, without its port.
pub fn host_name(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

/// The host name of a URL.
pub fn host_of_url(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    url.host_str().map(|host| host.trim_matches(['[', ']']).to_ascii_lowercase())
}

/// Whether a request is addressed to a name of ours. Without a `Host` it comes from no browser.
pub fn host_is_ours(request: &ServiceRequest, state: &HttpState) -> bool {
    let Some(host) = text(request.headers(), HOST) else {
        return !request.headers().contains_key(HOST);
    };
    let host = host_name(host).trim_end_matches('.').to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    let ours = request.conn_data::<Ends>().map(|ends| ends.local.ip());
    HOSTS.contains(&host.as_str())
        // An address can't be rebound to another one, as a name can: loopback, or the one that the connection came to.
        || address.is_some_and(|address| address.is_loopback() || Some(address) == ours)
        || state.config.hosts.contains(&host)
}

/// What an `Origin` amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// None, or our own.
    Untouched,
    /// A page that may call us.
    Allowed(String),
    /// A page that may not.
    Foreign,
}

/// Judges a request's `Origin`.
pub fn judge(request: &ServiceRequest, state: &HttpState) -> Judgement {
    let Some(page) = page(request.headers()) else {
        let unreadable = request.headers().contains_key(actix_web::http::header::ORIGIN);
        return if unreadable { Judgement::Foreign } else { Judgement::Untouched };
    };
    let host = text(request.headers(), HOST).unwrap_or_default();
    let own = page.strip_prefix("http://").or_else(|| page.strip_prefix("https://"));
    if !host.is_empty() && own.is_some_and(|own| own.eq_ignore_ascii_case(host)) {
        return Judgement::Untouched;
    }
    if state.config.cors_origins.iter().any(|allowed| allowed == page) {
        return Judgement::Allowed(page.to_owned());
    }
    Judgement::Foreign
}

/// The refusal of a page that may not call us.
pub fn foreign() -> ApiError {
    ApiError::forbidden("foreign_origin", "origin not allowed")
        .detail("add the page's origin to `CORS_ORIGINS`")
}

/// Whether a browser asks first.
pub fn is_preflight(request: &ServiceRequest) -> bool {
    *request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a browser that asks first.
pub fn preflight(page: &str) -> HttpResponse {
    let mut response = HttpResponse::NoContent();
    response.insert_header((ACCESS_CONTROL_ALLOW_METHODS, METHODS));
    response.insert_header((ACCESS_CONTROL_ALLOW_HEADERS, HEADERS));
    let mut response = response.finish();
    admit(response.headers_mut(), page);
    response
}

/// Lets the page see the answer.
pub fn admit(headers: &mut HeaderMap, page: &str) {
    if let Ok(page) = HeaderValue::from_str(page) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, page);
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.insert(VARY, HeaderValue::from_static("Origin"));
    }
}

/// Whether a page of the canvas that we serve asks (contract data 1.5). Other programs can say so too: it opens nothing by itself.
pub fn is_own_page(headers: &HeaderMap, state: &HttpState) -> bool {
    let (Some(_), Some(host)) = (&state.config.canvas, text(headers, HOST)) else { return false };
    let is_ours = |url: &str| {
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        rest.and_then(|rest| rest.strip_prefix(host))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    page(headers).or_else(|| text(headers, REFERER)).is_some_and(is_ours)
}

/// Paths that belong to no tenant.
const ANY_TENANT: &[&str] = &["/health", "/ready", "/metrics", "/registry/register", "/registry/heartbeat"];

/// Whether a request names the tenant that this installation belongs to, if it belongs to one.
pub fn tenant_fits(request: &ServiceRequest, state: &HttpState) -> bool {
    let Some(tenant) = &state.config.organisation else { return true };
    if ANY_TENANT.contains(&request.path()) || request.path().starts_with("/cp/") {
        return true;
    }
    let named = text(request.headers(), "x-molecule-org-id").is_some_and(|id| id == tenant);
    let replayed = text(request.headers(), "fly-replay-src").is_some_and(|source| {
        source.split(';').any(|part| part.trim().strip_prefix("state=") == Some(tenant))
    });
    named || replayed || is_own_page(request.headers(), state)
}

#[cfg(test)]
mod tests {
    use super::{host_name, host_of_url};

    #[test]
    fn a_host_name_loses_its_port_and_brackets() {
        assert_eq!(host_name("localhost:8080"), "localhost");
        assert_eq!(host_name("example.com"), "example.com");
        assert_eq!(host_name("[::1]:80"), "::1");
        assert_eq!(host_name("127.0.0.1:1"), "127.0.0.1");
    }

    #[test]
    fn a_url_has_a_host_name() {
        assert_eq!(host_of_url("https://Example.com:8443/x"), Some("example.com".to_owned()));
        assert_eq!(host_of_url("http://[::1]:80"), Some("::1".to_owned()));
        assert_eq!(host_of_url("nothing"), None);
    }
}
