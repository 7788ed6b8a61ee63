//! Chance from a seed: `SplitMix64`, whose numbers no release of a library can change.

/// Draws numbers. The same seed draws the same ones for ever.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Chance of this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to just below 1.
    pub fn share(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
        let (drawn, all) = ((self.draw() >> 11) as f64, (1_u64 << 53) as f64);
        drawn / all
    }

    /// A number between these two, both included.
    pub const fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.draw() % (high - low + 1)
    }

    /// Whether something happens that happens in this share of all cases. Draws nothing where that is certain.
    pub fn hits(&mut self, share: f64) -> bool {
        share >= 1.0 || (share > 0.0 && self.share() < share)
    }

    /// An index below a length that is not 0.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.draw() % length.max(1) as u64).unwrap_or(0)
    }
}
