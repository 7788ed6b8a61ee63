//! Hand-written logs, each with the sentence, the state and the reasons that an operator reads.

use covalence_events::fleet::{HoldSet, PlatformStopped, RestartSuppressed, Scope};
use covalence_events::log::EventLog as _;
use covalence_events::log::memory::MemoryLog;
use covalence_events::workspace::{
    DeathRefuted, EvidenceSource, HeartbeatReceived, InstanceRef, Paused, Quarantined, RestartCause,
    SuspicionCleared, VerdictWithheld, WentOffline,
};
use covalence_events::{Generation, HoldId, Position};
use uuid::Uuid;

use super::{Explanation, Stage};
use crate::testing::{LEAD, Story, all, at, id, restart, who};
use crate::{Failure, Moment, Which, explain};

/// As it stands at the story's own moment.
async fn told(story: &Story) -> Explanation {
    asked(&story.log().await, Moment::Now(story.now())).await
}

async fn asked(log: &MemoryLog, moment: Moment) -> Explanation {
    explain::workspace(log, id(LEAD), moment, &who(log).await).await.unwrap()
}

fn rules(explained: &Explanation) -> Vec<&str> {
    explained.reasons.iter().map(|reason| reason.rule.as_str()).collect()
}

fn words(explained: &Explanation) -> Vec<&str> {
    explained.steps.iter().map(|step| step.word.as_str()).collect()
}

fn killed() -> Story {
    let mut story = Story::of_lead();
    story.after(60_000);
    let wish = story.death(LEAD, restart(1));
    let admission = story.after(10).admitted(LEAD, restart(1), wish, 3.0);
    story.restarted(LEAD, restart(1), admission);
    story.proved(LEAD, restart(1));
    story
}

#[tokio::test]
async fn a_death_is_followed_from_the_evidence_to_its_proof() {
    let explained = told(&killed()).await;
    assert_eq!(
        explained.summary,
        "lead died (exit status 137 (SIGKILL)), was restarted, and was back online as generation 2 after 1.0 s; \
         it has been well for 20.0 s since"
    );
    assert_eq!((explained.state.as_str(), rules(&explained)), ("healthy", vec!["nothing_against_it"]));
    assert_eq!(
        words(&explained),
        [
            "evidence_observed",
            "verdict_reached",
            "restart_requested",
            "restart_admitted",
            "confirm_requested",
            "restart_started",
            "provision_requested",
            "instance_started",
            "came_online",
            "restart_proved",
        ]
    );
    let admission = &explained.steps[3];
    assert_eq!((admission.stage, admission.cause), (Stage::Admission, Some(explained.steps[2].position)));
    assert_eq!(admission.led_to, [explained.steps[4].position]);
    assert_eq!((&admission.numbers["tokens"], &admission.numbers["in_flight_max"]), (&3.0.into(), &2.into()));
    assert_eq!(explained.looked_back_to, None, "its whole life was looked at");
}

#[tokio::test]
async fn as_of_a_moment_nothing_later_is_known() {
    let story = killed();
    let log = story.log().await;
    let before = asked(&log, Moment::Time(at(30_000))).await;
    assert_eq!(
        before.summary,
        "lead is well: nothing speaks against it, and it was heard from 29.0 s before"
    );
    let admitted = explain::fact(&log, Which::Position(Position(8)), &who(&log).await).await.unwrap();
    let position = admitted.steps.iter().find(|step| step.word == "restart_admitted").unwrap().position;
    let then = asked(&log, Moment::Position(Position(position))).await;
    assert_eq!(
        (then.summary.as_str(), then.state.as_str()),
        ("lead died (exit status 137 (SIGKILL)); its restart is admitted, and has not begun", "candidate")
    );
    let early = explain::workspace(&log, id(LEAD), Moment::Time(at(-1)), &who(&log).await).await;
    assert!(matches!(early, Err(Failure::NotYet(_))), "{early:?}");
}

#[tokio::test]
async fn every_fact_of_a_chain_leads_to_the_whole_chain_by_id_and_by_position() {
    let log = killed().log().await;
    let who = who(&log).await;
    let whole = explain::fact(&log, Which::Position(Position(9)), &who).await.unwrap();
    for event in all(&log).await.iter().skip(5) {
        let by_id = explain::fact(&log, Which::Id(event.meta.id), &who).await.unwrap();
        assert_eq!(by_id.steps, whole.steps, "from {}", event.fact.tag());
    }
    let missing = explain::fact(&log, Which::Position(Position(999)), &who).await;
    assert!(matches!(missing, Err(Failure::NoFact(_))), "{missing:?}");
}

#[tokio::test]
async fn a_suspicion_that_is_cleared_restarts_nothing() {
    let mut story = Story::of_lead();
    story.after(100_000).doubt(LEAD, EvidenceSource::Heartbeat, "late");
    story.suspicion(LEAD);
    story.after(2000).doubt(LEAD, EvidenceSource::Probe, "timeout");
    let doubted = told(&story).await;
    assert_eq!(words(&doubted), ["evidence_observed", "suspicion_raised", "evidence_observed"]);
    assert_eq!(
        doubted.summary,
        "lead was not restarted: heartbeat speaks against it, and a suspicion proves nothing: it has been silent for 78.0 s"
    );
    assert_eq!((doubted.state.as_str(), rules(&doubted)), ("suspect", vec!["suspicion_only"]));
    story.after(12_000).of(
        LEAD,
        SuspicionCleared { generation: Generation(1), by: "heartbeat".to_owned(), lasted_ms: 12_000 },
    );
    let cleared = told(&story).await;
    assert_eq!(cleared.state, "healthy");
    assert!(cleared.summary.contains("was suspect for 12.0 s"), "{}", cleared.summary);
}

#[tokio::test]
async fn a_verdict_that_the_brake_withholds_names_the_brake() {
    let mut story = Story::of_lead();
    story.after(100_000).suspicion(LEAD);
    story.after(1_000).brake(&[LEAD]);
    story.after(100_000).of(
        LEAD,
        VerdictWithheld {
            generation: Generation(1),
            rule: "brake".to_owned(),
            sources: vec![EvidenceSource::Heartbeat, EvidenceSource::Probe],
            silent_ms: 181_000,
            observer_score: 1,
        },
    );
    let explained = told(&story).await;
    assert_eq!(
        explained.summary,
        "lead was not restarted: it would count as hung, but the brake is on: too many look alike for it to be theirs; \
         it had been silent for 3 min 1 s (and 1 more)"
    );
    assert_eq!(rules(&explained), ["brake", "brake"]);
    let brake = explained.steps.iter().find(|step| step.word == "brake_engaged").unwrap();
    assert_eq!((brake.stage, &brake.numbers["suspects"]), (Stage::Around, &5.into()));
}

#[tokio::test]
async fn a_restart_that_waits_for_tokens_says_so_and_then_that_it_came() {
    let mut story = Story::of_lead();
    story.after(60_000);
    let wish = story.death(LEAD, restart(1));
    story.after(10).deferred(LEAD, restart(1), wish, "tokens");
    story.after(2_000);
    let waits = told(&story).await;
    assert_eq!(
        waits.summary,
        "lead died (exit status 137 (SIGKILL)); its restart waits, by tokens: 0.2 tokens are left, too few for a \
         restart for death, for 8.0 s more"
    );
    assert_eq!((waits.state.as_str(), rules(&waits)), ("held", vec!["tokens"]));
    let admission = story.after(8_000).admitted(LEAD, restart(1), wish, 1.2);
    story.restarted(LEAD, restart(1), admission);
    let came = told(&story).await;
    assert!(
        came.summary.ends_with("after 11.0 s; whether it stays well is not proved yet"),
        "{}",
        came.summary
    );
    assert_eq!(came.state, "probation");
}

#[tokio::test]
async fn a_quarantine_says_what_lifts_it() {
    let mut story = Story::of_lead();
    story.after(60_000);
    let wish = story.death(LEAD, restart(1));
    let refused = story.decided(
        Some(wish),
        RestartSuppressed {
            workspace: id(LEAD),
            restart: restart(1),
            cause: RestartCause::Death,
            rule: "intensity".to_owned(),
            recent: 5,
            recent_max: 5,
            window_s: 600,
            inputs: None,
            until: None,
        },
    );
    story.caused(
        LEAD,
        Some(refused),
        Quarantined {
            restart: restart(1),
            rule: "intensity".to_owned(),
            message: "restarted 5 times within 10 minutes".to_owned(),
        },
    );
    let explained = told(&story).await;
    assert_eq!(
        explained.summary,
        "lead died (exit status 137 (SIGKILL)), and was not restarted: restarted 5 times within 10 minutes"
    );
    assert_eq!((explained.state.as_str(), rules(&explained)), ("quarantined", vec!["quarantine"]));
    assert_eq!(explained.reasons[0].remedy.as_deref(), Some("covalence release lead"));
}

#[tokio::test]
async fn what_a_person_holds_or_paused_names_the_person() {
    let mut story = Story::of_lead();
    story.by_admin().fleet(HoldSet {
        hold: HoldId(Uuid::from_u128(9)),
        scope: Scope::Workspace(id(LEAD)),
        reason: "new disk".to_owned(),
        until: Some(at(3_600_000)),
        emergency: false,
    });
    assert_eq!(rules(&told(&story).await), ["nothing_against_it"], "a hold holds nothing back yet");
    story.after(60_000);
    let wish = story.death(LEAD, restart(1));
    story.deferred(LEAD, restart(1), wish, "hold");
    let held = told(&story).await;
    assert_eq!(rules(&held), ["hold"], "once, in the person's own words");
    assert_eq!(held.reasons[0].text, "a person holds it back: new disk");
    assert_eq!(held.reasons[0].until, Some(at(3_600_000)));
    assert!(held.reasons[0].remedy.as_deref().unwrap().starts_with("covalence release 00000000-"));

    let mut story = Story::of_lead();
    story.by_admin().of(LEAD, Paused {});
    let paused = told(&story).await;
    assert_eq!(paused.summary, "lead was not restarted: a person paused it");
    assert_eq!((paused.state.as_str(), rules(&paused)), ("stopped", vec!["paused"]));
}

#[tokio::test]
async fn what_was_stopped_with_the_platform_waits_for_it() {
    let mut story = Story::of_lead();
    story.after(60_000).fleet(PlatformStopped { reason: "signal".to_owned(), workspaces_stopped: true });
    let message = Some("stopped together with the platform".to_owned());
    story.of(LEAD, WentOffline { rule: "shutdown".to_owned(), message });
    let explained = told(&story).await;
    assert_eq!(
        explained.summary,
        "lead was not restarted: the platform went down in order, and decides nothing until it runs again (and 1 more)"
    );
    assert_eq!(rules(&explained), ["platform_down", "offline"]);
    assert!(explained.reasons[1].text.ends_with("stopped together with the platform"));
}

#[tokio::test]
async fn a_fresh_look_that_finds_it_running_takes_it_back() {
    let mut story = Story::of_lead();
    story.after(60_000);
    let wish = story.death(LEAD, restart(1));
    let admission = story.admitted(LEAD, restart(1), wish, 3.0);
    let refuted = DeathRefuted {
        restart: restart(1),
        generation: Generation(1),
        instance: InstanceRef { id: "1:2:3".to_owned() },
        url: None,
    };
    story.after(40).caused(LEAD, Some(admission), refuted);
    let explained = told(&story).await;
    assert!(
        explained.summary.ends_with("but a fresh look found it running: it was not restarted"),
        "{}",
        explained.summary
    );
    assert_eq!(explained.state, "healthy");
}

#[tokio::test]
async fn a_story_older_than_thousands_of_beats_is_found_and_one_that_is_not_says_how_far_was_looked() {
    let mut story = killed();
    for _ in 0..explain::STEPS_MAX * 12 {
        story.after(30_000).of(LEAD, HeartbeatReceived::default());
    }
    let found = told(&story).await;
    assert!(found.summary.starts_with("lead died"), "{}", found.summary);
    let mut story = Story::of_lead();
    story.after(1000).suspicion(LEAD);
    let cleared = SuspicionCleared { generation: Generation(1), by: "probe".to_owned(), lasted_ms: 1 };
    story.of(LEAD, cleared);
    for _ in 0..=crate::reading::OWN_BACK * crate::reading::OWN_STEPS_MAX {
        story.after(30_000).of(LEAD, HeartbeatReceived::default());
    }
    let log = story.log().await;
    let far = asked(&log, Moment::Position(log.head())).await;
    assert!(far.summary.starts_with("lead is well"), "{}", far.summary);
    assert!(far.looked_back_to.is_some());
}

#[tokio::test]
async fn whom_the_log_does_not_know_is_an_error() {
    let log = Story::of_lead().log().await;
    let nobody = explain::workspace(&log, id(99), Moment::Now(at(0)), &who(&log).await).await;
    assert!(matches!(nobody, Err(Failure::NoWorkspace(_))), "{nobody:?}");
}
