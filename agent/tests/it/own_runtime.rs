//! A runtime of one's own, through the library: what it is given, and what its failures cost.

use std::sync::Arc;

use covalence_agent::a2a::message::Prompt;
use covalence_agent::agent::Agent;
use covalence_agent::config::RuntimeConfig;
use covalence_agent::runtime::{Answer, Runtime};
use serde_json::json;

use crate::support::{HEARTBEAT, Platform, config, message_send, post};

/// Answers with the conversation that it was asked in, and panics when told to.
#[derive(Debug)]
struct Fragile;

impl Runtime for Fragile {
    fn name(&self) -> &'static str {
        "fragile"
    }

    fn concurrency_max(&self) -> Option<usize> {
        Some(1)
    }

    fn answer(&self, prompt: Prompt) -> Answer<'_> {
        Box::pin(async move {
            assert_ne!(prompt.text, "panic", "told to");
            Ok(format!("{} in {}", prompt.text, prompt.context_id))
        })
    }
}

#[tokio::test]
async fn a_panic_costs_one_call_and_frees_its_slot() {
    let platform = Platform::start().await;
    let directory = tempfile::tempdir().unwrap();
    let config = config(platform.address, directory.path(), RuntimeConfig::Echo);
    let agent = Agent::start_with(config, Arc::new(Fragile)).await.unwrap();

    let error = post(agent.address, "/", &message_send("panic")).await.json()["error"].clone();
    assert_eq!((error["code"].as_i64(), &error["data"]["kind"]), (Some(-32603), &json!("Panicked")));
    let mut call = message_send("hello");
    call["params"]["message"]["contextId"] = json!("c-9");
    let answer = post(agent.address, "/", &call).await.json();
    assert_eq!(answer["result"]["parts"][0]["text"], "hello in c-9");
    assert_eq!(answer["result"]["contextId"], "c-9");
    platform.told(HEARTBEAT, |told| told.body["error_rate"] == 0.5).await;
    agent.stop().await;
}
