//! What was decompressed of the archive lately: blocks, and what stands where facts were removed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::log::removal::Signed;

/// Blocks that are kept: with 64 KiB each, 8 MiB. A binary search over the whole log touches some twenty, a page of a stream
/// a few.
const BLOCKS_MAX: usize = 128;

/// Names a block or a segment: the first position of its part, how often that was rewritten, and its number there.
pub(super) type Key = (u64, u32, usize);

/// See the module. The least recently used goes first.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    kept: Mutex<VecDeque<(Key, Arc<Vec<u8>>)>>,
    /// What was removed from the segment that was asked about last: whoever asks goes through the log in order.
    removal: Mutex<Option<(Key, Arc<Signed>)>>,
}

impl Blocks {
    /// A block; read where it is not kept.
    pub(super) fn get<E>(
        &self,
        key: Key,
        read: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Arc<Vec<u8>>, E> {
        if let Some(block) = self.kept(key) {
            return Ok(block);
        }
        // Not under the lock: two readers may both decompress it, and neither waits for the other.
        let block = Arc::new(read()?);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == BLOCKS_MAX {
            kept.pop_back();
        }
        kept.push_front((key, Arc::clone(&block)));
        Ok(block)
    }

    /// What was removed from a segment; read where it is not kept.
    pub(super) fn removal<E>(
        &self,
        key: Key,
        read: impl FnOnce() -> Result<Option<Signed>, E>,
    ) -> Result<Option<Arc<Signed>>, E> {
        let mut kept = self.removal.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, removal)) = &*kept
            && *of == key
        {
            return Ok(Some(Arc::clone(removal)));
        }
        let removal = read()?.map(Arc::new);
        *kept = removal.clone().map(|removal| (key, removal));
        Ok(removal)
    }

    /// Has the next reader take a block from the file again.
    pub(super) fn forget(&self, key: Key) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).retain(|(other, _)| *other != key);
    }

    fn kept(&self, key: Key) -> Option<Arc<Vec<u8>>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(other, _)| *other == key)?;
        let found = kept.remove(at)?;
        let block = Arc::clone(&found.1);
        kept.push_front(found);
        Some(block)
    }
}
