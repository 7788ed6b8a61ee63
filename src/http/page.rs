//! `/docs`: the API's document as a page, to read and to try out. Everything that it loads comes from here.

use std::sync::Arc;

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, web};
use utoipa_swagger_ui::Config;

use crate::http::error::{Answer, ApiError, no_route};

/// The page itself. Its links are relative to its folder, which its address therefore has to name.
const PAGE: &str = "/docs/index.html";

/// Sends a browser on to the page.
pub async fn enter() -> HttpResponse {
    HttpResponse::Found().insert_header((LOCATION, PAGE)).finish()
}

/// A file of the page.
pub async fn file(name: web::Path<String>) -> Answer {
    let config = Config::new(["../openapi.json"])
        // A hundred routes at once are no overview.
        .doc_expansion("none")
        .default_models_expand_depth(-1)
        .filter(true)
        .display_request_duration(true)
        // The bar on top asks for the address of another document.
        .use_base_layout()
        // It would be asked over the internet.
        .validator_url("none");
    let file = utoipa_swagger_ui::serve(&name, Arc::new(config))
        .map_err(|error| ApiError::internal("the page can't be made", error))?
        .ok_or_else(no_route)?;
    Ok(HttpResponse::Ok().content_type(file.content_type).body(file.bytes.into_owned()))
}
