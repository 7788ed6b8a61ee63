//! Decisions made again from what they recorded.

use covalence_actors::policy::Policy;
use covalence_actors::policy::admission::{self, Admission};
use covalence_actors::simulation::invariants;
use covalence_actors::simulation::storm::Plan;

/// Scenario 37: every decision of a hundred random worlds, judged again, is the same. Each scenario judges its own anew, too.
#[test]
fn every_recorded_decision_is_made_again_the_same() {
    let mut decisions = 0;
    for seed in 0..100 {
        let (world, _) = Plan::draw(seed).live();
        let rule = invariants::RULES.iter().find(|(name, _)| *name == "decisions made again are the same");
        let (_, again) = rule.expect("the rule");
        let places = again(world.history(), &Policy::default());
        assert!(places.is_empty(), "seed {seed}: {places:#?}");
        let history = world.history();
        decisions += history.admitted().len() + history.deferred().len() + history.suppressed().len();
    }
    assert!(decisions > 300, "only {decisions} decisions");
}

/// The replay would notice: under another policy, the same inputs lead to other decisions.
#[test]
fn another_policy_decides_otherwise_on_the_same_inputs() {
    let mut stingy = Policy::default();
    stingy.set("cost_death", "3").expect("a parameter");
    let differs = (0..100).flat_map(|seed| {
        let (world, _) = Plan::draw(seed).live();
        let admitted = world.history().admitted().into_iter();
        let judged =
            admitted.filter_map(|(_, e)| Some(admission::admit(&stingy, e.cause, e.inputs.as_ref()?)));
        judged.collect::<Vec<_>>()
    });
    assert!(
        differs.into_iter().any(|decision| matches!(decision, Admission::Deferred { rule: "tokens", .. }))
    );
}
