//! The agent card: one document that carries the fields of 0.3 and the interfaces of 1.0.
//!
//! SDKs compare interface URLs as strings, so the same URL is spelled the same way everywhere. The card is not
//! signed: one signature cannot cover the canonical forms of both versions.

use std::hash::{DefaultHasher, Hasher};

use bytes::Bytes;
use serde_json::{Value, json};

/// Paths at which the card is served: 0.3 and 1.0, older clients, and the platform's health checks.
pub const PATHS: [&str; 3] = ["/.well-known/agent-card.json", "/.well-known/agent.json", "/agent/card"];

/// A card, ready to be served.
#[derive(Debug, Clone)]
pub struct Card {
    /// The document.
    pub document: Value,
    /// Its bytes.
    pub body: Bytes,
    /// A quoted entity tag over the bytes.
    pub etag: String,
}

/// What a card is made of.
#[derive(Debug, Clone)]
pub struct CardFacts<'a> {
    /// Name of the workspace.
    pub name: &'a str,
    /// What the agent is for.
    pub description: &'a str,
    /// Where to call it.
    pub url: &'a str,
    /// The runtime's name, which becomes its one skill's tag.
    pub runtime: &'a str,
}

impl Card {
    /// Writes the card.
    pub fn new(facts: &CardFacts<'_>) -> Self {
        let document = document(facts);
        let body = Bytes::from(document.to_string());
        let mut hasher = DefaultHasher::new();
        hasher.write(&body);
        Self { etag: format!("\"{:016x}\"", hasher.finish()), document, body }
    }
}

fn document(facts: &CardFacts<'_>) -> Value {
    json!({
        "protocolVersion": "0.3.0",
        "name": facts.name,
        "description": facts.description,
        "url": facts.url,
        "preferredTransport": "JSONRPC",
        "additionalInterfaces": [{"url": facts.url, "transport": "JSONRPC"}],
        "supportedInterfaces": [
            {"url": facts.url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"},
            {"url": facts.url, "protocolBinding": "JSONRPC", "protocolVersion": "0.3"},
        ],
        "version": env!("CARGO_PKG_VERSION"),
        "capabilities": {
            "streaming": true,
            "pushNotifications": false,
        },
        "defaultInputModes": ["text/plain"],
        "defaultOutputModes": ["text/plain"],
        "skills": [{
            "id": "answer",
            "name": "Answer a message",
            "description": facts.description,
            "tags": [facts.runtime],
        }],
    })
}
