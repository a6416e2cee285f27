//! Equal pieces of work on several threads.

use std::ops::Range;
use std::thread;

/// The least work worth a thread of its own, in elements: starting one costs about what a core needs for half of this.
const LEAST: usize = 1 << 17;

/// Cuts `0..total` into equal pieces, at most `threads` of them, and calls `work` with each, on as many threads.
pub(super) fn in_pieces(total: usize, threads: usize, work: impl Fn(Range<usize>) + Sync) {
    let pieces = threads.min(total / LEAST).max(1);
    let piece = |k: usize| total / pieces * k + (total % pieces).min(k);
    thread::scope(|scope| {
        let work = &work;
        for k in 1..pieces {
            let range = piece(k)..piece(k + 1);
            // A thread that the system refuses is no reason to leave its piece undone.
            if thread::Builder::new()
                .spawn_scoped(scope, {
                    let range = range.clone();
                    move || work(range)
                })
                .is_err()
            {
                work(range);
            }
        }
        work(0..piece(1));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Mutex;

    proptest! {
        #[test]
        fn pieces_are_equal_and_cover_all_once(total in 0_usize..3_000_000, threads in 0_usize..9) {
            let seen = Mutex::new(Vec::new());
            in_pieces(total, threads, |range| seen.lock().unwrap().push(range));
            let mut seen = seen.into_inner().unwrap();
            seen.sort_by_key(|range| range.start);
            prop_assert_eq!(seen[0].start, 0);
            prop_assert_eq!(seen[seen.len() - 1].end, total);
            prop_assert!(seen.windows(2).all(|pair| pair[0].end == pair[1].start));
            let lengths = || seen.iter().map(|range| range.len());
            prop_assert!(lengths().max().unwrap() - lengths().min().unwrap() <= 1);
            prop_assert!(seen.len() <= threads.max(1));
        }
    }
}
