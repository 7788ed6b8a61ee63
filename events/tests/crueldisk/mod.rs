//! A disk that keeps what was synced and, of the rest, whatever it likes.
//!
//! A file system in memory, mounted through FUSE. Of every file and directory it knows what processes see, what would survive a
//! power cut for certain, and the changes in between. At a given change it goes dead: nothing is answered any more but an
//! error. What is left then is decided change by change: a write that was not followed by a sync of its file is kept, dropped, torn
//! between sectors, or applied in another order; a name that was made, moved or removed without a sync of its directory may or
//! may not have been. Nothing here is synced by itself, and a sync of a file says nothing about its name, which is what POSIX promises and
//! less than any file system that is in use does. A rename within a directory is one change.

mod disk;
mod luck;
mod mounted;

pub(crate) use disk::Image;
pub(crate) use luck::{Luck, Tally};
pub(crate) use mounted::Mounted;
