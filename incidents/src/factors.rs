//! What those who were hit have in common that others don't: every property that the log knows of a workspace is compared
//! between the two.
//!
//! How unlikely it is that chance alone put so many of the hit among those with a property is Fisher's exact test, one-sided.
//! With many properties some look unlikely by chance, so a factor is a hint, and the numbers are shown.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use covalence_events::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::scene::{Case, Scene};
use crate::who::Who;

/// Factors that are shown.
pub const FACTORS_MAX: usize = 8;
/// What chance alone brings about more often than this is no factor.
const CHANCE_MAX: f64 = 0.1;
/// An operation this long before the trouble may have to do with it.
const LATELY: TimeDelta = TimeDelta::minutes(15);

/// A property that the hit have more often than the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Factor {
    /// The property: `runtime`, `image`, `backend`, `tier`, `team`, `generation_age`, `last_operation`, `started_together`.
    pub property: String,
    /// Its value.
    pub value: String,
    /// Those who were hit and have it.
    pub hit_with: u32,
    /// Those who were hit.
    pub hit: u32,
    /// The others who have it.
    pub others_with: u32,
    /// The others.
    pub others: u32,
    /// How likely chance alone makes it as uneven, 0 to 1.
    pub chance: f64,
}

pub(crate) fn of(scene: &Scene, since: Timestamp, who: &Who) -> Vec<Factor> {
    let (hit, others): (Vec<&Case>, Vec<&Case>) = scene.cases.values().partition(|case| case.is_affected());
    let mut counts: BTreeMap<(&'static str, String), (u32, u32)> = BTreeMap::new();
    for case in &hit {
        for property in properties(case, since, who) {
            counts.entry(property).or_default().0 += 1;
        }
    }
    for case in &others {
        for property in properties(case, since, who) {
            counts.entry(property).or_default().1 += 1;
        }
    }
    let size = |cases: &[&Case]| u32::try_from(cases.len()).unwrap_or(u32::MAX);
    let (hit, others) = (size(&hit), size(&others));
    let mut factors: Vec<Factor> = counts
        .into_iter()
        .map(|((property, value), (hit_with, others_with))| Factor {
            property: property.to_owned(),
            value,
            hit_with,
            hit,
            others_with,
            others,
            chance: chance((hit_with, hit), (others_with, others)),
        })
        .filter(|factor| factor.chance <= CHANCE_MAX)
        .collect();
    factors.sort_by(|a, b| a.chance.total_cmp(&b.chance).then(b.hit_with.cmp(&a.hit_with)));
    factors.truncate(FACTORS_MAX);
    factors
}

fn properties(case: &Case, since: Timestamp, who: &Who) -> Vec<(&'static str, String)> {
    let mut properties = Vec::new();
    properties.extend(case.runtime.clone().map(|runtime| ("runtime", runtime)));
    properties.extend(case.image.clone().map(|image| ("image", image)));
    properties.extend(case.cell.map(|cell| ("backend", cell.as_str().to_owned())));
    properties.extend(case.tier.map(|tier| ("tier", tier.to_string())));
    properties.extend(case.parent.map(|parent| ("team", format!("below {}", who.name(parent)))));
    if let Some(started) = case.started.filter(|started| *started <= since) {
        let age = since - started;
        let word = match age.num_minutes() {
            ..10 => "less than 10 min",
            10..60 => "10 min to 1 h",
            60..1440 => "1 h to 1 d",
            _ => "more than 1 d",
        };
        properties.push(("generation_age", word.to_owned()));
        // Those that were started within the same minute were started by the same hand, or by the same batch.
        properties.push(("started_together", started.format("%Y-%m-%d %H:%M UTC").to_string()));
    }
    if let Some((at, word)) = case.last_operation {
        let lately = at + LATELY >= case.troubled().unwrap_or(since);
        let word =
            if lately { format!("{word} within 15 min before") } else { "none within 15 min".to_owned() };
        properties.push(("last_operation", word));
    }
    properties
}

/// Fisher's exact test, one-sided: the chance that of so many drawn as were hit at least `hit_with` have the property.
fn chance((hit_with, hit): (u32, u32), (others_with, others): (u32, u32)) -> f64 {
    if hit == 0 || others == 0 {
        return 1.0;
    }
    let (with, all) = (hit_with + others_with, hit + others);
    let most = with.min(hit);
    let total: f64 = (hit_with..=most)
        .filter(|drawn| hit - drawn <= all - with)
        .map(|drawn| (choose(with, drawn) + choose(all - with, hit - drawn) - choose(all, hit)).exp())
        .sum();
    (total.min(1.0) * 1e6).round() / 1e6
}

/// The logarithm of a binomial coefficient.
fn choose(n: u32, k: u32) -> f64 {
    (1..=k).map(|i| (f64::from(n - k + i) / f64::from(i)).ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::chance;

    #[test]
    fn chance_is_that_of_the_hypergeometric_tail() {
        // A tea taster who is right about all four of eight cups: one in seventy.
        assert!((chance((4, 4), (0, 4)) - 1.0 / 70.0).abs() < 1e-6);
        assert!((chance((3, 4), (1, 4)) - 17.0 / 70.0).abs() < 1e-6);
        assert!((chance((0, 4), (4, 4)) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn without_anybody_to_compare_with_nothing_is_a_factor() {
        assert!((chance((6, 6), (0, 0)) - 1.0).abs() < f64::EPSILON);
        assert!((chance((0, 0), (9, 9)) - 1.0).abs() < f64::EPSILON);
    }
}
