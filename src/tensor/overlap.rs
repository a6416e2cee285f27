//! Whether memory that a step writes is touched twice in it.

/// A stretch of memory, `from` its first address `to` one past its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// The first address.
    pub from: usize,
    /// One past the last.
    pub to: usize,
    /// Whether the step writes there.
    pub writes: bool,
}

/// Whether a written stretch shares an address with any other. Sorts `accesses`.
pub fn overlapping(accesses: &mut [Access]) -> bool {
    accesses.sort_unstable_by_key(|access| access.from);
    let (mut read_to, mut written_to) = (0, 0);
    for access in accesses.iter().filter(|access| access.from < access.to) {
        if access.from < written_to || (access.writes && access.from < read_to) {
            return true;
        }
        let seen_to = if access.writes { &mut written_to } else { &mut read_to };
        *seen_to = access.to.max(*seen_to);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn as_found_by_comparing_all_pairs(
            spans in prop::collection::vec((1_usize..60, 0_usize..6, any::<bool>()), 0..12),
        ) {
            let mut accesses: Vec<_> =
                spans.iter().map(|&(from, len, writes)| Access { from, to: from + len, writes }).collect();
            let naive = accesses.iter().enumerate().any(|(i, a)| {
                accesses[..i].iter().any(|b| (a.writes || b.writes) && a.from.max(b.from) < a.to.min(b.to))
            });
            prop_assert_eq!(overlapping(&mut accesses), naive);
        }
    }
}
