//! What a check found wrong: the first of it in words, the rest as a number.

/// Problems that are listed. Damage comes in stretches; more than this tells a person nothing new.
const LISTED_MAX: usize = 100;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Problems {
    listed: Vec<String>,
    unlisted: u64,
}

impl Problems {
    /// Goes on from these.
    pub(super) const fn after(listed: Vec<String>) -> Self {
        Self { listed, unlisted: 0 }
    }

    /// One more.
    pub(super) fn note(&mut self, problem: String) {
        if self.listed.len() < LISTED_MAX {
            self.listed.push(problem);
        } else {
            self.unlisted += 1;
        }
    }

    /// All of it.
    pub(super) fn finish(mut self) -> Vec<String> {
        if self.unlisted > 0 {
            self.listed.push(format!("and {} more", self.unlisted));
        }
        self.listed
    }
}
