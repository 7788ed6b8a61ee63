//! The published document is the one that the handlers make.

use std::path::Path;

use crate::http::router;

#[test]
fn the_document_in_docs_is_what_is_served() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let served = router::document();
    let published = std::fs::read_to_string(root.join("docs/openapi.json")).unwrap_or_default();
    if served.trim() != published.trim() {
        let fresh = root.join("target/openapi.json");
        std::fs::write(&fresh, format!("{served}\n")).unwrap();
        panic!("docs/openapi.json is stale; update it with: cp target/openapi.json docs/openapi.json");
    }
}
