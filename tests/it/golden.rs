//! Golden incidents: what was decided in incidents on the real engine is decided the same by today's rules.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use covalence::golden;
use covalence_actors::backtest::{Backtest, Report, Under};
use covalence_events::fleet;
use covalence_events::{Fact, Recorded};
use covalence_incidents::Moment;
use covalence_incidents::cause::{CauseKind, Sure};
use covalence_incidents::golden::Case;
use covalence_incidents::report::{self, About};

use super::support::eventually::eventually;
use super::support::platform::{COVALENCE, ONLINE_LIMIT, Platform, Settings};

/// As many as are recorded on the real engine, at least.
const CASES_MIN: usize = 5;

/// Every case of the repository; `scripts/record-golden` records them.
fn cases() -> Vec<PathBuf> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let mut found: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "case"))
        .collect();
    found.sort();
    assert!(found.len() >= CASES_MIN, "{found:?}");
    found
}

#[test]
fn what_was_decided_in_golden_incidents_is_decided_today() {
    let replayed = Command::new(COVALENCE).args(["incidents", "replay"]).args(cases()).output().unwrap();
    let said = String::from_utf8_lossy(&replayed.stdout);
    assert!(replayed.status.success(), "{said}{}", String::from_utf8_lossy(&replayed.stderr));
    assert_eq!(said.lines().count(), cases().len(), "{said}");
}

/// A case whose facts call for other decisions says so: here decisions were only to be recorded whenever a
/// restart was admitted.
#[tokio::test]
async fn a_case_that_is_decided_otherwise_says_where_and_how() {
    for path in cases() {
        let mut case = Case::read(&std::fs::read(&path).unwrap()).unwrap();
        assert!(!case.header.expected.decisions.is_empty(), "{} expects nothing", path.display());
        let mut admitted = 0;
        for event in &mut case.facts {
            admitted += usize::from(only_advise(event));
        }
        let found = golden::replay(&case).await.unwrap();
        let refused = found.iter().filter(|one| {
            one.today.as_deref().is_some_and(|today| today.contains("deferred by advise_only"))
        });
        assert!(refused.count() >= admitted.min(1), "{}: {found:#?}", path.display());
    }
}

fn case(name: &str) -> Case {
    let path = format!("{}/tests/golden/{name}.case", env!("CARGO_MANIFEST_DIR"));
    Case::read(&std::fs::read(path).unwrap()).unwrap()
}

fn backtest(case: &Case, under: Under) -> Report {
    let mut backtest = Backtest::new(under, case.header.since, case.header.until);
    for event in &case.facts {
        backtest.take(event).unwrap();
    }
    backtest.finish()
}

/// The same fault of a real engine under two supervisors: each one's record says what the other would have done.
#[tokio::test]
async fn the_recorded_cascade_is_the_engines_fault_and_the_policy_would_have_spared_it() {
    let cascade = case("naive-cascade");
    let (log, who) = (cascade.log(), cascade.who());
    let (since, until) = (Moment::Time(cascade.header.since), Moment::Time(cascade.header.until));
    let about = About::Span { since, until, workspaces: BTreeSet::new() };
    let looked = report::show(&log, &about, cascade.header.until, &who).await.unwrap();
    let first = &looked.causes[0];
    assert_eq!(
        (first.kind, first.subject.as_deref()),
        (CauseKind::EngineSlow, Some("docker")),
        "{:#?}",
        looked.causes
    );
    assert_ne!(first.sure, Sure::Low, "{:#?}", looked.causes);
    assert!(looked.impact.restarts_begun >= 10, "{:#?}", looked.impact);

    let spared = backtest(&cascade, Under::Policy(Box::default()));
    assert!(spared.restarts >= 10 && spared.avoided * 2 > spared.restarts, "{spared:#?}");
    let frozen = case("frozen-engine");
    let naive = backtest(&frozen, Under::Naive);
    assert_eq!((naive.restarts, naive.added), (0, 6), "everything that ran: {naive:#?}");
}

/// Pretends that decisions were only recorded when a restart was admitted.
fn only_advise(event: &mut Arc<Recorded>) -> bool {
    let Fact::Fleet(fleet::Event::RestartAdmitted(admitted)) = &event.fact else { return false };
    let mut admitted = admitted.clone();
    if let Some(inputs) = &mut admitted.inputs {
        inputs.advise_only = true;
    }
    *event = Arc::new(Recorded { fact: Fact::Fleet(admitted.into()), ..(**event).clone() });
    true
}

/// From a server and, once that is down, from a copy of its log: the same facts, and the same expectations.
#[tokio::test]
async fn an_incident_is_exported_with_a_server_and_without_and_replayed() {
    let mut platform = Platform::start(Settings::process()).await;
    let admin = platform.admin();
    let id = admin.create_online(&["Ada".to_owned()]).await.remove(0);
    platform.kill_workspace(&id);
    eventually("its restart has settled", ONLINE_LIMIT, async || {
        let facts = admin.log(None, 0).await?;
        let settled = facts.iter().any(|fact| fact.tag == "fleet.restart_settled.v1");
        if settled { Ok(()) } else { Err(format!("{} facts", facts.len())) }
    })
    .await;
    let head = admin.log(None, 0).await.unwrap().last().unwrap().position.to_string();
    let (with, without) = (platform.home().join("with.case"), platform.home().join("without.case"));

    let export = ["incidents", "export", "--since", "1", "--until", &head, "--name", "Ada", "--to"];
    let written = platform.cli(&[&export[..], &[with.to_str().unwrap()]].concat());
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    platform.terminate();
    let written = platform.cli_without_url(&[&export[..], &[without.to_str().unwrap()]].concat());
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));

    let read = |path: &PathBuf| Case::read(&std::fs::read(path).unwrap()).unwrap();
    let (with, without) = (read(&with), read(&without));
    assert_eq!(with.header, without.header);
    assert_eq!(with.facts, without.facts);
    let decided: Vec<_> = with.header.expected.decisions.iter().map(|one| one.decided.as_str()).collect();
    assert!(decided.contains(&"restart for death admitted"), "{decided:?}");
    assert!(
        with.header.expected.explained[0].line.starts_with("Ada died"),
        "{:?}",
        with.header.expected.explained
    );
    assert_eq!(golden::replay(&with).await.unwrap(), []);
    let text = format!("{:?}", with.facts);
    assert!(text.contains("[redacted]"), "the token's first letters are in it");
}
