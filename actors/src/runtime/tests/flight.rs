//! The flight recorder: what was observed when a brake engages, or that it is lost.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use covalence_events::fleet::Event;
use covalence_events::log::EventLog;
use covalence_events::log::memory::MemoryLog;
use covalence_events::{Fact, Position, Recorded};

use super::{Platform, full_log, left_behind, platform_over, platform_writing_to};
use crate::effect::BackendError;
use crate::effect::Signal;
use crate::policy::Policy;
use crate::runtime::Settings;

const BRAKED: &str = "fleet.brake_engaged.v1";
const RECORDED: &str = "fleet.flight_recorded.v1";
const LOST: &str = "fleet.flight_lost.v1";

/// Few failures freeze, and the engine is asked often.
fn nervous() -> Settings {
    let policy =
        Policy { list_every: std::time::Duration::from_millis(10), score_brake: 1, ..Policy::default() };
    Settings { policy, ..Settings::default() }
}

impl Platform {
    async fn tagged(&self, tag: &str) -> Arc<Recorded> {
        for _ in 0..2000 {
            let all = self.log.read_all(Position(1), usize::MAX).await.unwrap();
            if let Some(found) = all.iter().find(|recorded| recorded.fact.tag() == tag) {
                return Arc::clone(found);
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("not within ten seconds: {tag}");
    }

    async fn freeze(&self) {
        *self.engine.silent.lock().unwrap() = true;
        let error = BackendError { code: "timeout", detail: "Ada's machine".to_owned() };
        self.engine.signal(Signal::Lost(error)).await;
    }
}

#[actix::test]
async fn a_brake_puts_what_was_observed_into_the_log_with_the_brake_as_its_cause() {
    let platform = platform_over(Arc::default(), Arc::default(), nervous()).await;
    let id = platform.online().await;
    platform.freeze().await;
    let recorded = platform.tagged(RECORDED).await;
    let brake = platform.tagged(BRAKED).await;
    assert_eq!(recorded.meta.causation, Some(brake.meta.id));
    let Fact::Fleet(Event::FlightRecorded(flight)) = &recorded.fact else { panic!("{recorded:?}") };
    assert!(flight.counts.lists.answered > flight.counts.lists.failed, "the list that went well is in it");
    assert!(flight.counts.lists.failed > 0 && flight.counts.beats > 0, "{flight:?}");
    let lines = String::from_utf8(flight.observations.lines().unwrap()).unwrap();
    for part in [r#""what":"lost","code":"timeout""#, r#""what":"called","call":"start""#, &id.to_string()] {
        assert!(lines.contains(part), "no {part} in\n{lines}");
    }
    assert!(!lines.contains("Ada"), "what the engine said in words stays in the facts that seal it");
}

#[actix::test]
async fn a_flight_that_a_full_log_refuses_comes_later() {
    let log = Arc::new(MemoryLog::new());
    let full = full_log::FullAtFirst::refusing(2, RECORDED, Arc::clone(&log));
    let platform = platform_writing_to(Arc::new(full), log, Arc::default(), nervous()).await;
    platform.online().await;
    platform.freeze().await;
    platform.tagged(RECORDED).await;
}

#[actix::test]
async fn what_the_process_that_ended_had_observed_is_said_to_be_lost() {
    let first = platform_over(Arc::default(), Arc::default(), nervous()).await;
    first.online().await;
    first.freeze().await;
    first.tagged(RECORDED).await;
    let log = left_behind(&first.log, Some(RECORDED)).await;
    let brake = first.tagged(BRAKED).await;
    first.runtime.shut_down(false).await;
    let second = platform_over(log, Arc::clone(&first.engine), nervous()).await;
    let lost = second.tagged(LOST).await;
    assert_eq!(lost.meta.causation, Some(brake.meta.id));
    let Fact::Fleet(Event::FlightLost(lost)) = &lost.fact else { panic!("{lost:?}") };
    assert_eq!(lost.reason, "platform_ended");
    assert_eq!(second.engine.provisioned.load(Ordering::SeqCst), 1);
}
