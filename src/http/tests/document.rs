//! The published document is the one that the handlers make, and people can browse it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::platform::Platform;
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

#[actix_web::test]
async fn the_document_has_a_page_that_loads_nothing_from_elsewhere() {
    let platform = Platform::start().await;
    let first = platform.get("/docs").send().await;
    assert_eq!((first.status, first.headers["location"].as_str()), (302, "/docs/index.html"));
    let page = platform.get("/docs/index.html").send().await;
    assert_eq!((page.status, page.headers["content-type"].as_str()), (200, "text/html"));
    let links = |attribute: &str| {
        let pieces = page.text.split(attribute).skip(1).filter_map(|piece| piece.split('"').next());
        pieces.map(str::to_owned).collect::<Vec<_>>()
    };
    let files = [links("src=\""), links("href=\"")].concat();
    assert!(files.len() > 4, "{files:?}");
    for file in files {
        let name = file.strip_prefix("./").unwrap_or(&file);
        let served = platform.get(&format!("/docs/{name}")).send().await;
        assert_eq!(served.status, 200, "{name}");
    }
    let begins = platform.get("/docs/swagger-initializer.js").send().await.text;
    assert!(begins.contains("../openapi.json") && !begins.contains("http"), "{begins}");
    assert_eq!(platform.get("/docs/nothing.js").send().await.says(), (404, "404 page not found"));
}

/// The files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Of two types with the same name the document has the one that came last, for both, and nothing says so.
#[test]
fn every_schema_has_a_name_of_its_own() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut known = BTreeMap::new();
    for file in ["src", "incidents/src"].iter().flat_map(|part| files(&root.join(part))) {
        let text = std::fs::read_to_string(&file).unwrap();
        for derived in text.split("#[derive(").skip(1) {
            let Some((traits, item)) = derived.split_once(")]") else { continue };
            if !traits.contains("ToSchema") {
                continue;
            }
            let mut lines = item.lines().map(str::trim);
            let mut renamed = None;
            let declared = lines.find(|line| {
                renamed = renamed.or_else(|| line.strip_prefix("#[schema(as = "));
                !line.starts_with(['#', '/']) && (line.contains("struct ") || line.contains("enum "))
            });
            let mut words = declared.unwrap_or_default().split_whitespace();
            let name = renamed.or_else(|| {
                words.find(|word| !matches!(*word, "struct" | "enum") && !word.starts_with("pub"))
            });
            let name = name.unwrap_or_default().split([',', ')', '(', '<', ';']).next().unwrap_or_default();
            if let Some(other) = known.insert(name.to_owned(), file.clone()) {
                panic!("`{name}` of {} and of {}", file.display(), other.display());
            }
        }
    }
    assert!(known.len() > 100, "{known:?}");
}
