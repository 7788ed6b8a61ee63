//! Once a workspace is erased, nothing shows its text, and it makes no difference whether its key was gone when its facts were
//! read.

use std::sync::Arc;

use covalence_events::fleet::{AlarmRaised, HoldSet, Mode, ModeSet, Scope};
use covalence_events::seal;
use covalence_events::workspace::{
    CardUpdated, Degraded, DirectoryChanged, Erased, Event, EvidenceClass, EvidenceObserved, EvidenceSource,
    HeartbeatReceived, OnlineVia, ProvisionFailed, Quarantined, Removed, Renamed, RoleChanged, StopFailed,
    StopReason, StopRequested, WentOffline,
};
use covalence_events::{Fact, Generation, HoldId, Recorded, RestartId, StreamId};
use serde_json::json;

use crate::Views;
use crate::testing::{History, created, external, id, online, provision, registered, started};

const CANARY: &str = "canary-8c1f";

fn text() -> String {
    CANARY.to_owned()
}

fn said() -> Vec<Event> {
    let failed = ProvisionFailed {
        generation: Generation(1),
        code: "timeout".to_owned(),
        message: text(),
        retryable: true,
        command: Some(text()),
    };
    let evidence = EvidenceObserved {
        source: EvidenceSource::Inspect,
        class: EvidenceClass::Suspicion,
        generation: Generation(1),
        instance: None,
        code: "timeout".to_owned(),
        detail: text(),
        exit_status: None,
    };
    let beat = HeartbeatReceived {
        current_task: text(),
        sample_error: text(),
        agent_card: Some(json!({ "name": CANARY })),
        ..HeartbeatReceived::default()
    };
    let stop = StopRequested { generation: Generation(1), reason: StopReason::Pause };
    vec![
        Renamed { name: text() }.into(),
        RoleChanged { role: Some(text()) }.into(),
        DirectoryChanged { workspace_dir: Some(text()) }.into(),
        provision(1).into(),
        failed.into(),
        provision(1).into(),
        started(1).into(),
        registered(Some(CANARY)).into(),
        online(OnlineVia::Register, "provisioning").into(),
        beat.into(),
        CardUpdated { agent_card: json!({ "name": CANARY }) }.into(),
        Degraded { error_rate: 0.6, sample_error: text(), runtime_state: String::new() }.into(),
        evidence.into(),
        WentOffline { rule: "r".to_owned(), message: Some(text()) }.into(),
        Quarantined { restart: RestartId(uuid::Uuid::nil()), rule: "r".to_owned(), message: text() }.into(),
        stop.into(),
        StopFailed { generation: Generation(1), message: text() }.into(),
    ]
}

fn history() -> History {
    let mut history = History::default();
    history.of(1, created(CANARY, None));
    history.of(2, external(CANARY, Some(CANARY)));
    for number in [1, 2] {
        for event in said() {
            history.of(number, event);
        }
    }
    let (scope, reason) = (Scope::Workspace(id(1)), text());
    let hold = HoldId(uuid::Uuid::nil());
    for fact in [
        HoldSet { hold, scope, reason: reason.clone(), until: None, emergency: false }.into(),
        ModeSet { scope: Scope::Subtree(id(2)), mode: Mode::Advise, reason }.into(),
        AlarmRaised { kind: "crash_loop".to_owned(), workspace: Some(id(1)), message: text() }.into(),
    ] {
        history.push(StreamId::Fleet, Fact::Fleet(fact));
    }
    for number in [1, 2] {
        history.of(number, Removed { cascade_deleted: None, purge: false, forwarded_to: None });
    }
    history
}

fn folded(facts: &[Arc<Recorded>]) -> Views {
    let mut views = Views::new();
    for fact in facts {
        views.fold(fact);
    }
    views
}

fn shown(views: &Views) -> String {
    format!(
        "{:?}{:?}{:?}{:?}{:?}",
        &*views.roster.read(),
        &*views.credentials.read(),
        &*views.structure.read(),
        &*views.calls.read(),
        &*views.supervision.read()
    )
}

#[test]
fn what_was_erased_is_nowhere_and_both_ways_to_get_there_end_alike() {
    let mut history = history();
    assert!(shown(&folded(&history.0)).contains(CANARY));
    let before = history.0.len();
    for number in [1, 2] {
        history.of(number, Erased {});
    }
    let live = folded(&history.0);
    let without_keys: Vec<_> = history.0[..before]
        .iter()
        .map(|fact| {
            Arc::new(Recorded { fact: seal::erased(&fact.fact).unwrap(), meta: fact.meta.clone(), ..**fact })
        })
        .chain(history.0[before..].iter().cloned())
        .collect();
    let rebuilt = folded(&without_keys);
    assert!(!shown(&live).contains(CANARY), "{}", shown(&live));
    assert_eq!(*live.roster.read(), *rebuilt.roster.read());
    assert_eq!(*live.structure.read(), *rebuilt.structure.read());
    assert_eq!(*live.supervision.read(), *rebuilt.supervision.read());
    let row = live.roster.read().get(id(1)).unwrap();
    assert_eq!((row.name.as_str(), row.role.as_deref()), (seal::ERASED, Some(seal::ERASED)));
}
