//! A page's facts in pieces, each decoded by a thread of its own.
//!
//! Who folds the log from its beginning waits for decoding and decompression, not for the disk. A page is short work, and threads
//! for it live as long as it does: starting one takes some tens of microseconds, a thousand facts take a millisecond.

use std::ops::Range;
use std::thread::{self, Builder};

/// Facts that are worth a thread.
const PIECE_MIN: usize = 1024;
/// Threads for one page, at most: writers and workers need processors too.
const PIECES_MAX: usize = 4;

/// Cuts a page of so many facts, in order; one piece where more would not help.
pub(super) fn pieces(facts: usize) -> impl Iterator<Item = Range<usize>> {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let number = (facts / PIECE_MIN).min(PIECES_MAX).min(processors).max(1);
    let each = facts.div_ceil(number);
    (0..number).map(move |piece| (piece * each).min(facts)..((piece + 1) * each).min(facts))
}

/// What `work` makes of each piece, in order. The first is done by the caller's thread, and so is what the system has no thread
/// for. A panic goes on in the caller.
pub(super) fn in_parallel<P: Copy + Send + Sync, R: Send>(
    pieces: impl Iterator<Item = P>,
    work: impl Fn(P) -> R + Sync,
) -> Vec<R> {
    let work = &work;
    let mut pieces = pieces;
    let Some(first) = pieces.next() else { return Vec::new() };
    thread::scope(|scope| {
        let rest: Vec<_> = pieces
            .map(|piece| {
                let started =
                    Builder::new().name("log-reader".to_owned()).spawn_scoped(scope, move || work(piece));
                (piece, started)
            })
            .collect();
        let mut done = Vec::with_capacity(rest.len() + 1);
        done.push(work(first));
        done.extend(rest.into_iter().map(|(piece, started)| match started {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => work(piece),
        }));
        done
    })
}

#[cfg(test)]
mod tests {
    use super::{PIECE_MIN, PIECES_MAX, in_parallel, pieces};

    #[test]
    fn pieces_are_a_whole_page_in_order() {
        for facts in [0, 1, PIECE_MIN - 1, PIECE_MIN, 2 * PIECE_MIN, 4 * PIECE_MIN + 3, 100 * PIECE_MIN] {
            let cut: Vec<_> = pieces(facts).collect();
            assert!((1..=PIECES_MAX).contains(&cut.len()), "{facts} facts in {} pieces", cut.len());
            let all: Vec<usize> =
                in_parallel(cut.into_iter().map(|piece| (piece.start, piece.end)), |(from, to)| {
                    (from..to).collect::<Vec<_>>()
                })
                .concat();
            assert_eq!(all, (0..facts).collect::<Vec<_>>());
        }
    }
}
