//! The truth table of R10 and what surrounds it, through a misbehaving proxy in front of the real engine.
//!
//! Only the engine's own "No such container" and an exit are *not there*. Everything else, however much it looks like
//! one of the two, is *unknown*.

use std::path::Path;
use std::time::Duration;

use covalence_actors::effect::{Backend, Inspection, Signal};
use covalence_events::workspace::InstanceRef;
use tokio::sync::mpsc;

use crate::support::docker::{Platform, SOCKET, docker, provision, spec};
use crate::support::fault_proxy::{Fault, FaultProxy};

/// Twice the adapter's limit for an observation.
const ANSWERED_WITHIN: Duration = Duration::from_secs(6);

fn answer(status: u16, body: impl Into<String>) -> Fault {
    Fault::Answer { status, content_type: "application/json", body: body.into() }
}

fn page(status: u16, body: &str) -> Fault {
    Fault::Answer { status, content_type: "text/html", body: body.to_owned() }
}

/// A platform whose adapter sees the engine through a proxy.
async fn behind_proxy() -> (Platform, FaultProxy) {
    let proxy = FaultProxy::start(Path::new(SOCKET));
    let platform = Platform::with(|config| config.host = Some(proxy.host())).await;
    (platform, proxy)
}

fn code(inspection: &Inspection) -> &'static str {
    match inspection {
        Inspection::Running(_) => "running",
        Inspection::NotThere { code, .. } => code,
        Inspection::Unknown(error) => error.code,
    }
}

/// R10, and the list of what must never look like a death.
#[tokio::test]
async fn only_the_engines_not_found_and_an_exit_are_not_there() {
    let (platform, proxy) = behind_proxy().await;
    let spec = spec(2);
    let id = provision(&platform.backend, &spec).await;
    let instance = InstanceRef { id: id.clone() };
    let inspect = || async {
        tokio::time::timeout(ANSWERED_WITHIN, platform.backend.inspect(spec.workspace, &instance))
            .await
            .expect("an inspect is bounded")
    };
    assert!(matches!(inspect().await, Inspection::Running(_)), "no error is running");
    let other = "f".repeat(64);
    let faults = [
        ("generic not found", page(404, "not found"), "http_404"),
        ("a web server's 404", page(404, "<h1>404 page not found</h1>"), "http_404"),
        (
            "404 about another container",
            answer(404, format!(r#"{{"message":"No such container: {other}"}}"#)),
            "garbage",
        ),
        ("404 with an empty message", answer(404, r#"{"message":""}"#), "http_404"),
        ("404 with an empty body", answer(404, ""), "http_404"),
        ("500 from the engine", answer(500, r#"{"message":"context deadline exceeded"}"#), "http_500"),
        ("500 that says not found", answer(500, r#"{"message":"No such container"}"#), "http_500"),
        ("an empty error text", answer(500, r#"{"message":""}"#), "http_500"),
        ("503", page(503, "try again"), "http_503"),
        ("garbage JSON", answer(200, "{]"), "garbage"),
        ("JSON of another kind", answer(200, "[]"), "garbage"),
        ("an answer about nobody", answer(200, "{}"), "garbage"),
        ("an answer about another", answer(200, format!(r#"{{"Id":"{other}"}}"#)), "garbage"),
        ("no state", answer(200, format!(r#"{{"Id":"{id}"}}"#)), "garbage"),
        (
            "an unheard-of state",
            answer(200, format!(r#"{{"Id":"{id}","State":{{"Status":"gone"}}}}"#)),
            "garbage",
        ),
        ("an empty body", answer(200, ""), "eof"),
        ("EOF in the middle of a body", Fault::EofInBody, "eof"),
        ("closed after the request", Fault::CloseAfterRequest, "eof"),
        ("closed at accept", Fault::CloseAtAccept, "eof"),
        ("an answer that is lost", Fault::LoseAnswer, "eof"),
        ("no HTTP at all", Fault::Garbage, "garbage"),
        ("deadline exceeded", Fault::Delay(ANSWERED_WITHIN), "timeout"),
        ("no answer at all", Fault::BlackHole, "timeout"),
    ];
    for (name, fault, expected) in faults {
        proxy.fault(&format!("/containers/{id}/json"), fault);
        let seen = inspect().await;
        assert!(matches!(seen, Inspection::Unknown(_)), "{name} led to {seen:?}");
        assert_eq!(code(&seen), expected, "{name} led to {seen:?}");
        proxy.heal();
    }
    proxy.refuse().await;
    assert_eq!(code(&inspect().await), "refused");
    proxy.listen();
    docker(&["pause", &id]);
    assert_eq!(code(&inspect().await), "running", "a paused container is alive");
    docker(&["unpause", &id]);
    docker(&["kill", &id]);
    let Inspection::NotThere { code: "exited", exit_status, .. } = inspect().await else {
        panic!("not exited")
    };
    assert_eq!(exit_status, Some(137));
    docker(&["rm", &id]);
    assert_eq!(code(&inspect().await), "not_found");
}

#[tokio::test]
async fn a_not_found_from_something_that_never_proved_to_be_the_engine_is_unknown() {
    let (platform, proxy) = behind_proxy().await;
    let id = "a".repeat(64);
    let workspace = spec(2).workspace;
    proxy.fault("/json", answer(404, format!(r#"{{"message":"No such container: {id}"}}"#)));
    proxy.fault("/version", page(404, "nothing here"));
    let seen = platform.backend.inspect(workspace, &InstanceRef { id: id.clone() }).await;
    assert!(matches!(seen, Inspection::Unknown(_)), "{seen:?}");
    // The same words count once the engine says who it is.
    proxy.heal();
    let seen = platform.backend.inspect(workspace, &InstanceRef { id }).await;
    assert_eq!(code(&seen), "not_found");
}

#[tokio::test]
async fn an_empty_list_from_a_stranger_does_not_say_that_a_generation_is_gone() {
    let (platform, proxy) = behind_proxy().await;
    let spec = spec(2);
    proxy.fault("/containers/json", answer(200, "[]"));
    proxy.fault("/version", answer(200, "{}"));
    let seen = platform.backend.find(spec.workspace, spec.generation).await;
    assert_eq!(code(&seen), "garbage", "{seen:?}");
    proxy.heal();
    assert_eq!(code(&platform.backend.find(spec.workspace, spec.generation).await), "not_found");
}

#[tokio::test]
async fn a_create_whose_answer_is_lost_makes_one_container() {
    let (platform, proxy) = behind_proxy().await;
    proxy.fault_once("POST /containers/create", Fault::LoseAnswer);
    let spec = spec(2);
    let id = provision(&platform.backend, &spec).await;
    assert_eq!(platform.containers(), [id]);
    assert_eq!(
        proxy.count("POST /containers/create"),
        1,
        "the lost answer was looked for, not asked for again"
    );
}

#[tokio::test]
async fn a_create_that_never_arrived_is_issued_again() {
    let (platform, proxy) = behind_proxy().await;
    proxy.fault_once("POST /containers/create", Fault::CloseAfterRequest);
    let id = provision(&platform.backend, &spec(2)).await;
    assert_eq!(platform.containers(), [id]);
    assert_eq!(proxy.count("POST /containers/create"), 2);
}

#[tokio::test]
async fn a_start_whose_answer_is_lost_is_watched_to_its_end() {
    let (platform, proxy) = behind_proxy().await;
    proxy.fault_once("/start", Fault::LoseAnswer);
    let spec = spec(2);
    let id = provision(&platform.backend, &spec).await;
    assert_eq!(platform.containers(), [id]);
    assert_eq!(proxy.count("/start"), 1);
    assert_eq!(code(&platform.backend.find(spec.workspace, spec.generation).await), "running");
}

/// R20: what the engine says reaches a person, with a code, and nothing is left behind.
#[tokio::test]
async fn a_port_that_is_taken_fails_the_start_and_leaves_nothing() {
    let (platform, proxy) = behind_proxy().await;
    let text = "driver failed programming external connectivity on endpoint ws: Bind for 127.0.0.1:40000 failed: port is already allocated";
    proxy.fault_once("/start", answer(500, format!(r#"{{"message":"{text}"}}"#)));
    let error = platform.backend.provision(&spec(2)).await.unwrap_err();
    assert_eq!((error.code, error.retryable), ("port_taken", true));
    assert!(error.message.contains("port is already allocated"), "{}", error.message);
    assert!(error.command.unwrap().starts_with("docker run --detach --name ws-"));
    assert!(platform.containers().is_empty());
}

#[tokio::test]
async fn an_engine_that_is_down_is_unavailable_and_worth_another_try() {
    let (platform, proxy) = behind_proxy().await;
    proxy.refuse().await;
    let error = platform.backend.provision(&spec(2)).await.unwrap_err();
    assert_eq!((error.code, error.retryable), ("engine_unavailable", true));
    assert_eq!(platform.backend.list().await.unwrap_err().code, "refused");
}

#[tokio::test]
async fn a_lost_engine_is_reported_once_and_found_again() {
    let (platform, proxy) = behind_proxy().await;
    let (sender, mut signals) = mpsc::channel(16);
    let backend = std::sync::Arc::clone(&platform.backend);
    let watching = tokio::spawn(async move { backend.watch(sender).await });
    let mut next =
        async || tokio::time::timeout(Duration::from_secs(20), signals.recv()).await.unwrap().unwrap();
    assert_eq!(next().await, Signal::Gap);
    // Existing streams live on in the proxy, so this is an engine that hangs: only the probe beside the stream sees it.
    proxy.refuse().await;
    let Signal::Lost(error) = next().await else { panic!("not lost") };
    assert_eq!(error.code, "refused");
    proxy.listen();
    assert_eq!(next().await, Signal::Found);
    assert_eq!(next().await, Signal::Gap);
    drop(signals);
    tokio::time::timeout(Duration::from_secs(5), watching).await.expect("ends with its receiver").unwrap();
}
