//! Raw observations in words.

use covalence_events::flight::{Answer, Call, Observation, Observed, Question, Shown, ShownState};
use covalence_events::{Generation, WorkspaceId};

use crate::who::Who;
use crate::words::{Weight, exit_status, lasting};

/// Instances that a line names at most; a first list shows all.
const NAMED_MAX: usize = 8;

/// One observation in words, and how much it matters. What took a second or more is in doubt.
#[expect(clippy::too_many_lines, reason = "one arm for each kind of observation, most of one line")]
pub fn say(observation: &Observation, who: &Who) -> (Weight, String) {
    use Weight::{Bad, Doubt, Good, Plain, Routine};
    let whose =
        |id: &WorkspaceId, generation: &Generation| format!("{} generation {generation}", who.name(*id));
    match &observation.what {
        Observed::ShownBefore { instances } => (
            Plain,
            format!("the list before showed {} instances: {}", instances.len(), shown(instances, who)),
        ),
        Observed::Asked { question, workspace, .. } => {
            let about = workspace.map(|id| format!(" of {}", who.name(id))).unwrap_or_default();
            let what = match question {
                Question::List => "list",
                Question::Inspect => "look",
                Question::Probe => "card",
            };
            (Routine, format!("asked for a {what}{about}"))
        }
        Observed::Listed { took_us, running, stopped, between, changed } => {
            let changes = match changed.as_slice() {
                [] => String::new(),
                changed => format!("; otherwise than before: {}", shown(changed, who)),
            };
            let counts = format!("{running} run, {stopped} stopped, {between} between");
            (slow(*took_us, Routine), format!("list after {}: {counts}{changes}", after(*took_us)))
        }
        Observed::ListFailed { took_us, code } => (Bad, format!("no list: {code} after {}", after(*took_us))),
        Observed::Inspected { workspace, generation, took_us, answer, code, exit_status: status, .. } => {
            let code = code.as_deref().unwrap_or_default();
            let (weight, seen) = match answer {
                Answer::Running => (slow(*took_us, Good), "it runs".to_owned()),
                Answer::NotThere => (Bad, format!("not there: {code}{}", exited(*status))),
                Answer::Unknown => (Doubt, format!("unknown: {code}")),
            };
            (weight, format!("look at {} after {}: {seen}", whose(workspace, generation), after(*took_us)))
        }
        Observed::Probed { workspace, generation, took_us, answer, status, code } => {
            let (weight, seen) = match (answer, status) {
                (Answer::Running, Some(status)) => (slow(*took_us, Good), format!("HTTP {status}")),
                (Answer::Running, None) => (slow(*took_us, Good), "an answer".to_owned()),
                (Answer::NotThere | Answer::Unknown, _) => {
                    (Doubt, format!("none: {}", code.as_deref().unwrap_or("no word")))
                }
            };
            (weight, format!("card of {} after {}: {seen}", whose(workspace, generation), after(*took_us)))
        }
        Observed::Exited { workspace, generation, exit_status, .. } => {
            (Bad, format!("{} ended{}", whose(workspace, generation), exited(*exit_status)))
        }
        Observed::Gap => (Doubt, "what the engine told unasked may have been missed".to_owned()),
        Observed::Lost { code } => (Bad, format!("the engine does not answer: {code}")),
        Observed::Found => (Good, "the engine answers again".to_owned()),
        Observed::Called { call, took_us, failed } => {
            let what = match call {
                Call::Start => "start",
                Call::Confirm => "look before a restart",
                Call::Examine => "look for a caller",
            };
            let (weight, outcome) = if *failed { (Bad, "failed") } else { (slow(*took_us, Plain), "ended") };
            (weight, format!("{what} {outcome} after {}", after(*took_us)))
        }
        Observed::Late { late_us } => (Bad, format!("our own turn came {} late", after(*late_us))),
        Observed::Pressed { append_p99_us, append_failed, beat_refused } => {
            let failed = if *append_failed { ", one failed" } else { "" };
            let refused = if *beat_refused { ", a heartbeat was refused" } else { "" };
            let weight = if *append_failed || *beat_refused { Bad } else { slow(*append_p99_us, Plain) };
            (
                weight,
                format!("appends take {} at the 99th percentile{failed}{refused}", after(*append_p99_us)),
            )
        }
        Observed::Beat { workspace, refused } => {
            let (weight, outcome) = if *refused { (Bad, ", refused") } else { (Routine, "") };
            (weight, format!("heartbeat of {}{outcome}", who.name(*workspace)))
        }
    }
}

fn slow(took_us: u64, otherwise: Weight) -> Weight {
    if took_us >= covalence_events::flight::SLOW_US { Weight::Doubt } else { otherwise }
}

fn after(took_us: u64) -> String {
    if took_us < 10_000 {
        format!("{}.{} ms", took_us / 1000, took_us % 1000 / 100)
    } else {
        lasting(took_us / 1000)
    }
}

fn exited(status: Option<i32>) -> String {
    status.map(|status| format!(", {}", exit_status(status))).unwrap_or_default()
}

fn shown(instances: &[Shown], who: &Who) -> String {
    let one = |shown: &Shown| {
        let name = match (shown.workspace, shown.generation) {
            (Some(id), Some(generation)) => format!("{} generation {generation}", who.name(id)),
            (Some(id), None) => who.name(id),
            (None, _) => format!("a stranger ({})", shown.instance.chars().take(12).collect::<String>()),
        };
        let state = match shown.state {
            ShownState::Running => "runs",
            ShownState::Stopped => "stopped",
            ShownState::Between => "between",
            ShownState::Gone => "gone",
        };
        format!("{name} {state}{}", exited(shown.exit_status))
    };
    let mut said: Vec<String> = instances.iter().take(NAMED_MAX).map(one).collect();
    if let Some(more) = instances.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
        said.push(format!("and {more} more"));
    }
    said.join(", ")
}
