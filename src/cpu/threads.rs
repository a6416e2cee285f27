//! Equal pieces of work on several threads.

use std::ops::Range;
use std::panic::resume_unwind;
use std::thread;

/// Somebody's threads.
pub trait Threads: Sync {
    /// How many may work at once, this one included.
    fn count(&self) -> usize;

    /// The least work worth a thread of its own, in elements.
    fn least(&self) -> usize;

    /// Calls `work` once with each number below `pieces`, side by side.
    fn each(&self, pieces: usize, work: &(dyn Fn(usize) + Sync));
}

/// As many threads as this, started anew for each call.
#[derive(Debug, Clone, Copy)]
pub struct Spawned(pub usize);

impl Threads for Spawned {
    fn count(&self) -> usize {
        self.0
    }

    fn least(&self) -> usize {
        // Starting a thread costs about what a core needs for half of this.
        1 << 17
    }

    fn each(&self, pieces: usize, work: &(dyn Fn(usize) + Sync)) {
        thread::scope(|scope| {
            let mut others = Vec::new();
            for k in 1..pieces {
                match thread::Builder::new().spawn_scoped(scope, move || work(k)) {
                    Ok(other) => others.push(other),
                    // A thread that the system refuses is no reason to leave its piece undone.
                    Err(_) => work(k),
                }
            }
            work(0);
            // Joined one by one, which ThreadSanitizer understands, and the end of the scope it does not.
            for other in others {
                if let Err(panic) = other.join() {
                    resume_unwind(panic);
                }
            }
        });
    }
}

/// Cuts `0..total` at multiples of `unit` into equal pieces, one for each thread that is worth it, and calls `work` with
/// all of them.
pub(super) fn in_pieces(total: usize, unit: usize, threads: &dyn Threads, work: impl Fn(Range<usize>) + Sync) {
    let units = total.div_ceil(unit);
    let pieces = threads.count().min(total / threads.least().max(1)).min(units);
    if pieces <= 1 {
        return work(0..total);
    }
    let begin = |k: usize| ((units / pieces * k + (units % pieces).min(k)) * unit).min(total);
    threads.each(pieces, &|k| work(begin(k)..begin(k + 1)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Mutex;

    proptest! {
        #[test]
        fn pieces_are_equal_and_cover_all_once(total in 0_usize..3_000_000, unit in 1_usize..9000, threads in 0_usize..9) {
            let seen = Mutex::new(Vec::new());
            in_pieces(total, unit, &Spawned(threads), |range| seen.lock().unwrap().push(range));
            let mut seen = seen.into_inner().unwrap();
            seen.sort_by_key(|range| range.start);
            prop_assert_eq!(seen[0].start, 0);
            prop_assert_eq!(seen[seen.len() - 1].end, total);
            prop_assert!(seen.windows(2).all(|pair| pair[0].end == pair[1].start));
            prop_assert!(seen.iter().all(|range| range.start % unit == 0));
            let lengths = || seen.iter().map(|range| range.len().div_ceil(unit));
            prop_assert!(lengths().max().unwrap() - lengths().min().unwrap() <= 1);
            prop_assert!(seen.len() <= threads.max(1));
        }
    }
}
