//! Security headers of every answer (contract data 1.17).

use actix_web::http::header::{
    CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
const API_POLICY: &str = "default-src 'self'";
const PAGE_POLICY: &str = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data: blob:; connect-src 'self' ws: wss:; font-src 'self' data:";

/// First segments of API paths; everything else may be a page.
const API: &[&str] = &[
    "workspaces",
    "registry",
    "health",
    "ready",
    "admin",
    "metrics",
    "settings",
    "bundles",
    "org",
    "orgs",
    "templates",
    "plugins",
    "webhooks",
    "channels",
    "ws",
    "events",
    "approvals",
    "openapi.json",
];

/// Whether a path belongs to the API.
pub fn is_api(path: &str) -> bool {
    path.trim_start_matches('/').split('/').next().is_some_and(|first| API.contains(&first))
}

/// Adds the headers; what a handler has set stays.
pub fn secure(headers: &mut HeaderMap, api: bool) {
    let set = [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (STRICT_TRANSPORT_SECURITY, "max-age=31536000; includeSubDomains"),
        (REFERRER_POLICY, "strict-origin-when-cross-origin"),
        (PERMISSIONS_POLICY, "camera=(), microphone=(), geolocation=()"),
        (CONTENT_SECURITY_POLICY, if api { API_POLICY } else { PAGE_POLICY }),
    ];
    for (name, value) in set {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_api;

    #[test]
    fn a_path_is_api_by_its_first_segment() {
        assert!(is_api("/workspaces") && is_api("/workspaces/x/a2a") && is_api("/events"));
        assert!(!is_api("/") && !is_api("/canvas") && !is_api("/workspacesx"));
    }
}
