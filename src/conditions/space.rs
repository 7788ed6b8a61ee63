//! How much of the data directory's disk is free, and which levels that has fallen below.

use std::io;
use std::path::Path;

/// Percent free below which there is an alarm, each its own (issue 4).
pub(super) const LEVELS: [u8; 3] = [20, 10, 5];

/// An alarm is over when so many percent more than its level are free, so that one that hovers there is told once.
const MARGIN: f64 = 2.0;

/// What the file system says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Space {
    /// Bytes that this process may still write.
    pub(super) free: u64,
    /// Bytes that it could write on an empty disk.
    pub(super) whole: u64,
}

impl Space {
    /// Asks for the file system of a directory. What is reserved for root counts as used, as `df` counts it.
    pub(super) fn of(directory: &Path) -> io::Result<Self> {
        let stat = rustix::fs::statvfs(directory)?;
        let used = stat.f_blocks.saturating_sub(stat.f_bfree);
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Self { free: bytes(stat.f_bavail), whole: bytes(used.saturating_add(stat.f_bavail)) })
    }

    /// Between 0 and 1; an empty file system is free.
    #[expect(clippy::cast_precision_loss, reason = "a share; bytes of no disk need more than 53 bits")]
    pub(super) fn share(self) -> f64 {
        if self.whole == 0 { 1.0 } else { self.free as f64 / self.whole as f64 }
    }

    /// Whether the alarm of a level is on, given whether it was.
    pub(super) fn is_below(self, level: u8, was: bool) -> bool {
        let limit = f64::from(level) + if was { MARGIN } else { 0.0 };
        self.share() * 100.0 < limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_left_only_well_above_it() {
        let at = |free| Space { free, whole: 1000 };
        assert!(!at(200).is_below(20, false), "20 % are free");
        assert!(at(199).is_below(20, false));
        assert!(at(219).is_below(20, true), "it hovers");
        assert!(!at(220).is_below(20, true));
        assert_eq!(LEVELS.map(|level| at(70).is_below(level, false)), [true, true, false]);
    }

    #[test]
    fn a_file_system_without_blocks_is_not_full() {
        assert!(!Space { free: 0, whole: 0 }.is_below(5, false));
    }

    #[test]
    fn the_kernel_is_asked_about_the_directory_itself() {
        let space = Space::of(Path::new("/")).unwrap();
        assert!(space.free > 0 && space.free <= space.whole, "{space:?}");
        assert!(Space::of(Path::new("/nowhere/at/all")).is_err());
    }
}
