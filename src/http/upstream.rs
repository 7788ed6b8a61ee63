//! What is answered by others under our own address: the control plane below `/cp/`, and the canvas for everything that is no
//! route of ours (contract data 1.13). Neither is there unless the operator names its address.

use std::time::Duration;

use actix_web::http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderName, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use actix_web::{HttpRequest, HttpResponse, web};
use url::Url;

use crate::http::HttpState;
use crate::http::error::{Answer, no_route};

/// From a request to the first byte of its answer: a page that takes longer is broken.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Of one connection and not of a request.
static HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authorization"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];
/// First segments below `/cp/` that browsers and agents may reach; the rest of the control plane is the operator's.
const CONTROL_PLANE: [&str; 5] = ["auth", "orgs", "billing", "templates", "legal"];

/// `/cp/…`: the control plane, with the caller's own credentials. Who may do what there is for it to say.
pub(crate) async fn control_plane(
    state: web::Data<HttpState>,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer {
    let upstream = state.config.control_plane.as_ref().filter(|_| is_for_callers(request.path()));
    let upstream = upstream.ok_or_else(no_route)?;
    let passed = pass(upstream, (&request, payload), &[]).await;
    Ok(passed.unwrap_or_else(|| bad_gateway("control plane unavailable")))
}

/// What is no route of ours: the canvas, which gets nobody's credentials; 404 without one.
pub(crate) async fn canvas(
    state: web::Data<HttpState>,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer {
    let upstream = state.config.canvas.as_ref().ok_or_else(no_route)?;
    let passed = pass(upstream, (&request, payload), &[AUTHORIZATION, COOKIE]).await;
    Ok(passed.unwrap_or_else(|| bad_gateway("canvas unavailable")))
}

/// Whether a path leads to a part of the control plane that callers may reach, whoever reads it, and however.
fn is_for_callers(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    if lower.contains('\\') || ["%2e", "%2f", "%5c", "%25"].iter().any(|escaped| lower.contains(escaped)) {
        return false;
    }
    let mut segments = path.split('/').skip(2);
    let Some(first) = segments.next() else { return false };
    let mut below: Vec<&str> = segments.collect();
    // A slash at the end begins nothing.
    below.pop_if(|last| last.is_empty());
    CONTROL_PLANE.contains(&first)
        && below.iter().all(|segment| !matches!(*segment, "" | "." | ".."))
        && (matches!(first, "orgs" | "templates") || !below.is_empty())
}

/// The upstream's answer; none if it has none.
async fn pass(
    upstream: &Url,
    (request, payload): (&HttpRequest, web::Payload),
    kept_back: &[HeaderName],
) -> Option<HttpResponse> {
    let client = request.app_data::<awc::Client>()?;
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let url = format!("{}{path}", upstream.as_str().trim_end_matches('/'));
    let mut passed = client.request(request.method().clone(), url).no_decompress();
    for (name, value) in request.headers() {
        if *name != HOST && *name != CONTENT_LENGTH && !HOP_BY_HOP.contains(name) && !kept_back.contains(name)
        {
            passed = passed.append_header((name, value));
        }
    }
    let has_body =
        request.headers().contains_key(CONTENT_LENGTH) || request.headers().contains_key(TRANSFER_ENCODING);
    let sent = async move { if has_body { passed.send_stream(payload).await } else { passed.send().await } };
    let answer = match tokio::time::timeout(ANSWER_TIMEOUT, sent).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            tracing::warn!(upstream = %upstream.host_str().unwrap_or_default(), %error, "no answer from upstream");
            return None;
        }
        Err(_) => {
            tracing::warn!(upstream = %upstream.host_str().unwrap_or_default(), "upstream took too long");
            return None;
        }
    };
    let mut response = HttpResponse::build(answer.status());
    for (name, value) in answer.headers() {
        if *name != CONTENT_LENGTH && !HOP_BY_HOP.contains(name) {
            response.append_header((name, value));
        }
    }
    Some(response.streaming(answer))
}

fn bad_gateway(text: &'static str) -> HttpResponse {
    HttpResponse::BadGateway().content_type("text/plain; charset=utf-8").body(text)
}

#[cfg(test)]
mod tests {
    use super::is_for_callers;

    #[test]
    fn callers_reach_five_parts_of_the_control_plane_however_a_path_is_written() {
        for path in ["/cp/auth/login", "/cp/orgs", "/cp/orgs/acme/", "/cp/templates/a/b", "/cp/legal/terms"] {
            assert!(is_for_callers(path), "{path}");
        }
        for path in [
            "/cp",
            "/cp/",
            "/cp/auth",
            "/cp/admin/partner-keys",
            "/cp/tenants/config",
            "/cp/workspaces/provision",
            "/cp/auth/../admin/x",
            "/cp/auth/%2e%2e/admin/x",
            "/cp/auth/%252e%252e/admin/x",
            "/cp/auth%2f..%2fadmin",
            "/cp/auth/..\\admin",
            "/cp/auth//admin",
            "/cp/orgsx",
        ] {
            assert!(!is_for_callers(path), "{path}");
        }
    }
}
