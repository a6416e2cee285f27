//! Whether memory that a step writes is touched twice in it.

/// A stretch of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first address.
    pub from: usize,
    /// One past the last.
    pub to: usize,
}

/// Remembers between steps that written memory shares nothing with itself, so that a step with mostly the same tensors
/// costs a comparison and no sort.
#[derive(Debug, Default)]
pub struct Territory {
    /// The written spans as they were given, which shared nothing.
    written: Vec<Span>,
    /// The same, sorted.
    sorted: Vec<Span>,
    /// Memory beside all written spans that a read span was found in, by its place in the list.
    free: Vec<Span>,
}

impl Territory {
    /// Whether no written span shares an address with another span, written or read.
    pub fn is_disjoint(&mut self, written: &[Span], read: &[Span]) -> bool {
        if self.written != written && !self.learn(written) {
            return false;
        }
        read.iter().enumerate().all(|(place, &span)| self.is_free(place, span))
    }

    /// Whether the `place`th span read shares no address with the written spans of the last time.
    pub fn is_free(&mut self, place: usize, span: Span) -> bool {
        if place >= self.free.len() {
            self.free.resize(place + 1, Span { from: 0, to: 0 });
        }
        let (sorted, free) = (&self.sorted, &mut self.free[place]);
        if span.from < free.from || span.to > free.to {
            let after = sorted.partition_point(|other| other.from < span.from);
            free.from = sorted[..after].last().map_or(0, |other| other.to);
            free.to = sorted.get(after).map_or(usize::MAX, |other| other.from);
        }
        free.from <= span.from && span.to <= free.to
    }

    fn learn(&mut self, written: &[Span]) -> bool {
        self.free.clear();
        self.written.clear();
        self.sorted.clear();
        self.sorted.extend_from_slice(written);
        self.sorted.sort_unstable_by_key(|span| span.from);
        let disjoint = self.sorted.windows(2).all(|pair| pair[0].to <= pair[1].from);
        if disjoint {
            self.written.extend_from_slice(written);
        } else {
            self.sorted.clear();
        }
        disjoint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spans(most: usize) -> impl Strategy<Value = Vec<Span>> {
        let span = (1_usize..200, 1_usize..6).prop_map(|(from, len)| Span { from, to: from + len });
        prop::collection::vec(span, 0..most)
    }

    fn naive(written: &[Span], read: &[Span]) -> bool {
        let apart = |a: &Span, b: &Span| a.from.max(b.from) >= a.to.min(b.to);
        written.iter().enumerate().all(|(i, a)| written[..i].iter().chain(read).all(|b| apart(a, b)))
    }

    proptest! {
        #[test]
        fn as_found_by_comparing_all_pairs(
            written in prop::collection::vec(spans(6), 2),
            read in prop::collection::vec(spans(6), 8),
        ) {
            let mut territory = Territory::default();
            for (step, read) in read.iter().enumerate() {
                let written = &written[usize::from(step > 4)];
                prop_assert_eq!(territory.is_disjoint(written, read), naive(written, read));
            }
        }
    }
}
