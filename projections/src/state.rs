//! A projection's state as bytes: for snapshots, and for a hash that tells two folds apart.
//!
//! Maps are written in the order of their keys, so equal states are equal bytes. Fields have names, so a state of another
//! shape is not mistaken for one of this.

use std::collections::{BTreeMap, HashMap};

use serde::{Serialize, Serializer};

/// A word that the program knows. By this name serde does not try to borrow it from what it reads.
pub(crate) type Word = &'static str;

/// A map in the order of its keys.
pub(crate) fn sorted<K: Ord + Serialize, V: Serialize, S: Serializer>(
    map: &HashMap<K, V>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(map.iter().collect::<BTreeMap<_, _>>())
}

/// A card as its text. Elsewhere it is written as the JSON that it holds, which only JSON can take.
pub(crate) mod card {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use crate::roster::Card;

    #[expect(clippy::ref_option, reason = "serde hands over the field as it is")]
    pub(crate) fn serialize<S: Serializer>(card: &Option<Card>, serializer: S) -> Result<S::Ok, S::Error> {
        card.as_ref().map(Card::as_json).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Card>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        Card::from_json(text).map(Some).ok_or_else(|| D::Error::custom("a card is no JSON"))
    }
}
