//! Real callers: an unmodified public A2A client, and curl, reach an agent through the platform (R6).

use std::process::{Command, Output};

use serde_json::Value;

use super::support::client::{message, said};
use super::support::platform::{Platform, Settings};
use super::support::python;

#[tokio::test]
async fn an_unmodified_public_client_fetches_the_card_and_gets_an_answer() {
    let platform = Platform::start(Settings::process()).await;
    let id = platform.admin().create_online(&["Ada".to_owned()]).await.remove(0);
    let base = format!("{}/workspaces/{id}", platform.url);

    let output = sdk_client(&base, platform.admin().token(), "do you hear me?");

    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_slice(&output.stdout).expect("the script prints JSON");
    assert_eq!(seen["answer"], "echo Ada: do you hear me?");
    assert_eq!(
        seen["url"],
        format!("{base}/a2a"),
        "the card's address is the platform's, not the agent's own"
    );
    assert_ne!(seen["schemes"], serde_json::json!([]), "the card says that callers need a credential");
}

#[tokio::test]
async fn an_unmodified_public_client_without_a_credential_is_refused() {
    let platform = Platform::start(Settings::process()).await;
    let id = platform.admin().create_online(&["Ada".to_owned()]).await.remove(0);

    let output = sdk_client(&format!("{}/workspaces/{id}", platform.url), "", "let me in");

    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && stderr.contains("401"), "{stderr}");
    let refused = platform.anonymous().message(&id, "let me in").await.expect("the platform answers");
    assert_eq!(refused.status, 401, "{}", refused.text);
    assert!(refused.headers.contains_key("www-authenticate"), "{:?}", refused.headers);
}

#[tokio::test]
async fn curl_gets_an_answer_through_the_platform() {
    let platform = Platform::start(Settings::process()).await;
    let id = platform.admin().create_online(&["Ada".to_owned()]).await.remove(0);

    let output = Command::new("curl")
        .args(["-sS", "--noproxy", "*", "--fail-with-body"])
        .args(["-H", &format!("Authorization: Bearer {}", platform.admin().token())])
        .args(["-H", "Content-Type: application/json"])
        .args(["-d", &message("hello").to_string()])
        .arg(format!("{}/workspaces/{id}/a2a", platform.url))
        .output()
        .expect("curl is installed (scripts/install-tools)");

    assert!(output.status.success(), "{output:?}");
    let answer: Value = serde_json::from_slice(&output.stdout).expect("the answer is JSON");
    assert_eq!(said(&answer), "echo Ada: hello");
}

fn sdk_client(base_url: &str, token: &str, text: &str) -> Output {
    Command::new(python::interpreter())
        .arg(python::root().join("tests/clients/a2a_sdk_client.py"))
        .args([base_url, token, text])
        .output()
        .expect("the interpreter runs")
}
