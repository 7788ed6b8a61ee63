//! An agent's card, as the outside may see it: every address is ours, and it promises only what the relay carries.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// The one binding that the relay carries.
const BINDING: &str = "JSONRPC";
/// The name of our security scheme in the card.
const SCHEME: &str = "covalence";
/// Bytes of the digest that make an `ETag`.
const TAG_BYTES: usize = 16;

/// Rewrites a card for both protocol versions that may stand in it. `url` is where the workspace is called through us.
pub fn rewrite(mut card: Map<String, Value>, name: &str, url: &str, secured: bool) -> Map<String, Value> {
    card.insert("url".to_owned(), url.into());
    if card.get("name").and_then(Value::as_str).is_none_or(str::is_empty) {
        card.insert("name".to_owned(), name.into());
    }
    if card.contains_key("preferredTransport") || !card.contains_key("supportedInterfaces") {
        card.insert("preferredTransport".to_owned(), BINDING.into());
    }
    if let Some(interfaces) = card.get_mut("additionalInterfaces") {
        carried(interfaces, "transport", url);
    }
    if let Some(interfaces) = card.get_mut("supportedInterfaces") {
        carried(interfaces, "protocolBinding", url);
    }
    only_carried_capabilities(&mut card);
    // A signature is over the addresses as the agent wrote them: kept, it would be false.
    card.remove("signatures");
    secure(&mut card, secured);
    card
}

/// Keeps the interfaces of our binding, at our address.
fn carried(interfaces: &mut Value, binding: &str, url: &str) {
    let Value::Array(list) = interfaces else {
        *interfaces = json!([]);
        return;
    };
    list.retain(|interface| interface.get(binding).and_then(Value::as_str) == Some(BINDING));
    for interface in list {
        if let Value::Object(interface) = interface {
            interface.insert("url".to_owned(), url.into());
            interface.remove("tenant");
        }
    }
}

/// Streams pass unbuffered; an agent's own calls to a client's webhook, and a second card, don't pass at all.
fn only_carried_capabilities(card: &mut Map<String, Value>) {
    card.remove("supportsAuthenticatedExtendedCard");
    if let Some(Value::Object(capabilities)) = card.get_mut("capabilities") {
        capabilities.remove("extendedAgentCard");
        if capabilities.contains_key("pushNotifications") {
            capabilities.insert("pushNotifications".to_owned(), false.into());
        }
    } else {
        card.insert("capabilities".to_owned(), json!({}));
    }
}

/// The agent's own schemes end at us; ours is a bearer.
fn secure(card: &mut Map<String, Value>, secured: bool) {
    for key in ["securitySchemes", "security", "securityRequirements"] {
        card.remove(key);
    }
    if !secured {
        return;
    }
    let is_1_0 = card.contains_key("supportedInterfaces");
    let scheme =
        json!({"type": "http", "scheme": "bearer", "description": "a workspace's token, or the admin token"});
    // A 1.0 reader looks for the member named after the kind, a 0.3 reader for `type`: each ignores the other's.
    let scheme = if is_1_0 {
        let Value::Object(mut both) = scheme else { return };
        both.insert("httpAuthSecurityScheme".to_owned(), json!({"scheme": "Bearer"}));
        Value::Object(both)
    } else {
        scheme
    };
    card.insert("securitySchemes".to_owned(), json!({SCHEME: scheme}));
    card.insert("security".to_owned(), json!([{SCHEME: []}]));
    if is_1_0 {
        card.insert("securityRequirements".to_owned(), json!([{"schemes": {SCHEME: {"list": []}}}]));
    }
}

/// Names exactly this text.
pub fn tag(text: &str) -> String {
    use std::fmt::Write as _;
    Sha256::digest(text.as_bytes()).iter().take(TAG_BYTES).fold(String::new(), |mut hex, byte| {
        // Writing to a string can't fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::rewrite;

    const URL: &str = "http://platform/workspaces/w/a2a";

    #[expect(clippy::needless_pass_by_value, reason = "called with a literal each time")]
    fn object(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn a_0_3_card_points_at_us_and_promises_what_we_carry() {
        let card = rewrite(
            object(json!({
                "name": "echo", "url": "http://10.0.0.7:8000/", "protocolVersion": "0.3.0", "preferredTransport": "GRPC",
                "additionalInterfaces": [
                    {"transport": "JSONRPC", "url": "http://10.0.0.7:8000/"},
                    {"transport": "GRPC", "url": "10.0.0.7:9000"},
                ],
                "capabilities": {"streaming": true, "pushNotifications": true},
                "supportsAuthenticatedExtendedCard": true,
                "signatures": [{"protected": "x", "signature": "y"}],
                "securitySchemes": {"theirs": {"type": "apiKey", "in": "header", "name": "k"}},
                "skills": [{"id": "s"}],
            })),
            "echo",
            URL,
            true,
        );
        assert_eq!(card["url"], URL);
        assert_eq!(card["preferredTransport"], "JSONRPC");
        assert_eq!(card["additionalInterfaces"], json!([{"transport": "JSONRPC", "url": URL}]));
        assert_eq!(card["capabilities"], json!({"streaming": true, "pushNotifications": false}));
        assert_eq!(card["securitySchemes"]["covalence"]["scheme"], "bearer");
        assert_eq!(card["security"], json!([{"covalence": []}]));
        assert_eq!(card["skills"], json!([{"id": "s"}]));
        let text = Value::Object(card).to_string();
        assert!(!text.contains("10.0.0.7") && !text.contains("signature") && !text.contains("theirs"));
        assert!(!text.contains("supportsAuthenticatedExtendedCard"));
    }

    #[test]
    fn a_1_0_card_keeps_one_interface_at_our_address() {
        let card = rewrite(
            object(json!({
                "name": "echo",
                "supportedInterfaces": [
                    {"url": "grpc://x", "protocolBinding": "GRPC", "protocolVersion": "1.0"},
                    {"url": "http://x/", "protocolBinding": "JSONRPC", "protocolVersion": "1.0", "tenant": "t"},
                ],
                "capabilities": {"streaming": true, "extendedAgentCard": true},
            })),
            "echo",
            URL,
            true,
        );
        assert_eq!(
            card["supportedInterfaces"],
            json!([{"url": URL, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}])
        );
        assert_eq!(card["capabilities"], json!({"streaming": true}));
        assert_eq!(card["securityRequirements"], json!([{"schemes": {"covalence": {"list": []}}}]));
    }

    #[test]
    fn without_authentication_no_scheme_is_declared() {
        let card = rewrite(object(json!({"url": "x"})), "lead", URL, false);
        assert!(!card.contains_key("securitySchemes") && !card.contains_key("security"));
        assert_eq!(card["name"], "lead");
    }
}
