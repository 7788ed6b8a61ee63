//! What chance makes of changes that were not synced.

use std::ops::AddAssign;

use super::disk::Change;

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// Of a hundred changes, how many a power cut keeps. One of these holds for a whole cut: were each change kept by even chances,
/// no cut would ever keep nearly all of many, or nearly none.
const KEPT: [u64; 6] = [0, 10, 50, 90, 98, 100];

/// How many changes met which end, over any number of power cuts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Writes and new lengths that are there.
    pub(crate) kept: u64,
    /// Writes and new lengths that never were.
    pub(crate) dropped: u64,
    /// Writes of which some sectors are there.
    pub(crate) torn: u64,
    /// Files whose changes came in another order.
    pub(crate) reordered: u64,
    /// Names made, moved or removed for good.
    pub(crate) names_kept: u64,
    /// Names made, moved or removed in vain.
    pub(crate) names_dropped: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.kept += other.kept;
        self.dropped += other.dropped;
        self.torn += other.torn;
        self.reordered += other.reordered;
        self.names_kept += other.names_kept;
        self.names_dropped += other.names_dropped;
    }
}

/// One power cut's chances.
#[derive(Debug)]
pub(crate) struct Luck {
    seed: u64,
    kept: u64,
    torn: u64,
    reorders: bool,
    tally: Tally,
}

impl Luck {
    /// The same seed has the same chances.
    pub(crate) fn new(mut seed: u64) -> Self {
        let kept = KEPT[below(&mut seed, KEPT.len())];
        let torn = [0, 20, 80][below(&mut seed, 3)];
        let reorders = below(&mut seed, 2) == 0;
        Self { seed, kept, torn, reorders, tally: Tally::default() }
    }

    /// What it came to.
    pub(crate) const fn tally(&self) -> Tally {
        self.tally
    }

    /// Whether a name is made, moved or removed.
    pub(super) fn keeps_name(&mut self) -> bool {
        let kept = self.hundred() < self.kept;
        *(if kept { &mut self.tally.names_kept } else { &mut self.tally.names_dropped }) += 1;
        kept
    }

    /// A file's content, of what was synced and what came after.
    pub(super) fn content(&mut self, synced: &[u8], since: &[Change]) -> Vec<u8> {
        let mut content = synced.to_vec();
        let mut order: Vec<&Change> = since.iter().collect();
        if self.reorders && order.len() > 1 {
            for last in (1..order.len()).rev() {
                order.swap(last, below(&mut self.seed, last + 1));
            }
            self.tally.reordered += 1;
        }
        for change in order {
            if self.hundred() >= self.kept {
                self.tally.dropped += 1;
                continue;
            }
            match change {
                Change::Write { at, bytes } if self.hundred() < self.torn => {
                    self.tear(&mut content, *at, bytes);
                }
                Change::Write { .. } | Change::Resize(_) => {
                    change.apply(&mut content);
                    self.tally.kept += 1;
                }
            }
        }
        content
    }

    /// Applies some sectors of a write: up to one, from one on, or any.
    fn tear(&mut self, content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
        self.tally.torn += 1;
        let sectors = (at + bytes.len()).div_ceil(SECTOR_BYTES) - at / SECTOR_BYTES;
        let (way, cut) = (below(&mut self.seed, 3), below(&mut self.seed, sectors));
        let mut from = 0;
        for sector in 0..sectors {
            let end = ((at / SECTOR_BYTES + sector + 1) * SECTOR_BYTES - at).min(bytes.len());
            let kept = match way {
                0 => sector < cut,
                1 => sector > cut,
                _ => below(&mut self.seed, 2) == 0,
            };
            if kept {
                Change::Write { at: at + from, bytes: bytes[from..end].to_vec() }.apply(content);
            }
            from = end;
        }
    }

    fn hundred(&mut self) -> u64 {
        random(&mut self.seed) % 100
    }
}

fn below(seed: &mut u64, bound: usize) -> usize {
    usize::try_from(random(seed) % bound.max(1) as u64).unwrap_or(0)
}

/// Xorshift: repeatable, and random enough for a disk.
fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}
