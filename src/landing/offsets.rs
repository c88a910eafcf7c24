//! Sets of offsets: what an object holds, what a writer read.

use serde::{Deserialize, Serialize};

/// A set of offsets as sorted half-open ranges that neither touch nor overlap: small where the
/// offsets are dense, which they are but for rejects, compaction and late folders.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct OffsetSet {
    ranges: Vec<(i64, i64)>,
}

/// Number and digest of a set: equal for equal sets, whatever the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct OffsetDigest {
    /// How many offsets.
    pub count: u64,
    /// Wrapping sum of `mix` over the offsets, so that the digest of a union of disjoint sets is
    /// the sum of theirs.
    pub sum: u64,
}

impl OffsetSet {
    /// Adds an offset; cheapest in rising order.
    pub fn insert(&mut self, offset: i64) {
        match self.ranges.last_mut() {
            Some(last) if last.1 == offset => last.1 += 1,
            Some(last) if offset < last.1 => {
                *self = self.union(&Self::from_range(offset, offset + 1))
            }
            _ => self.ranges.push((offset, offset + 1)),
        }
    }

    /// Adds [from, to), which begins at or above all that is in it.
    pub fn append(&mut self, from: i64, to: i64) {
        debug_assert!(
            self.ranges.last().is_none_or(|last| last.1 <= from),
            "appended in rising order"
        );
        match self.ranges.last_mut() {
            _ if from >= to => {}
            Some(last) if last.1 == from => last.1 = to,
            _ => self.ranges.push((from, to)),
        }
    }

    /// The set [from, to).
    pub fn from_range(from: i64, to: i64) -> Self {
        Self {
            ranges: if from < to {
                vec![(from, to)]
            } else {
                Vec::new()
            },
        }
    }

    /// The ranges, sorted.
    pub fn ranges(&self) -> &[(i64, i64)] {
        &self.ranges
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many offsets.
    pub fn len(&self) -> u64 {
        self.ranges
            .iter()
            .map(|(from, to)| (to - from) as u64)
            .sum()
    }

    /// Whether the offset is in it.
    pub fn contains(&self, offset: i64) -> bool {
        let after = self.ranges.partition_point(|range| range.0 <= offset);
        after > 0 && offset < self.ranges[after - 1].1
    }

    /// What is in either.
    pub fn union(&self, other: &Self) -> Self {
        let mut all: Vec<(i64, i64)> = self.ranges.iter().chain(&other.ranges).copied().collect();
        all.sort_unstable();
        let mut ranges: Vec<(i64, i64)> = Vec::with_capacity(all.len());
        for (from, to) in all {
            match ranges.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => ranges.push((from, to)),
            }
        }
        Self { ranges }
    }

    /// What is in this and not in the other.
    pub fn minus(&self, other: &Self) -> Self {
        let mut ranges = Vec::new();
        let mut cut = other.ranges.iter().peekable();
        for &(mut from, to) in &self.ranges {
            while let Some(&&(cut_from, cut_to)) = cut.peek() {
                if cut_to <= from {
                    cut.next();
                    continue;
                }
                if cut_from >= to {
                    break;
                }
                if cut_from > from {
                    ranges.push((from, cut_from));
                }
                from = cut_to;
                if from >= to {
                    break;
                }
                cut.next();
            }
            if from < to {
                ranges.push((from, to));
            }
        }
        Self { ranges }
    }

    /// Every offset, rising.
    pub fn iter(&self) -> impl Iterator<Item = i64> {
        self.ranges.iter().flat_map(|&(from, to)| from..to)
    }

    /// Number and digest.
    pub fn digest(&self) -> OffsetDigest {
        let sum = self.iter().map(mix).fold(0u64, u64::wrapping_add);
        OffsetDigest {
            count: self.len(),
            sum,
        }
    }
}

impl FromIterator<i64> for OffsetSet {
    fn from_iter<I: IntoIterator<Item = i64>>(offsets: I) -> Self {
        let mut offsets: Vec<i64> = offsets.into_iter().collect();
        offsets.sort_unstable();
        offsets.dedup();
        let mut set = Self::default();
        offsets.into_iter().for_each(|offset| set.insert(offset));
        set
    }
}

/// The finalizer of SplitMix64 over the offset: a bijection without visible structure, so that
/// sums of sets that differ collide by chance only.
fn mix(offset: i64) -> u64 {
    let mut word = (offset as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sets_behave_as_sets(a in prop::collection::btree_set(0i64..60, 0..40), b in prop::collection::btree_set(0i64..60, 0..40)) {
            let (left, right): (OffsetSet, OffsetSet) = (a.iter().copied().collect(), b.iter().copied().collect());
            let union: BTreeSet<i64> = a.union(&b).copied().collect();
            let minus: BTreeSet<i64> = a.difference(&b).copied().collect();
            prop_assert_eq!(left.union(&right).iter().collect::<BTreeSet<_>>(), union.clone());
            prop_assert_eq!(left.minus(&right).iter().collect::<BTreeSet<_>>(), minus.clone());
            prop_assert_eq!(left.union(&right), union.into_iter().collect::<OffsetSet>());
            prop_assert_eq!(left.minus(&right), minus.into_iter().collect::<OffsetSet>());
            prop_assert_eq!(left.len(), a.len() as u64);
            for offset in 0..60 {
                prop_assert_eq!(left.contains(offset), a.contains(&offset));
            }
        }

        #[test]
        fn a_digest_does_not_depend_on_the_order_of_insertion(mut offsets in prop::collection::vec(0i64..1000, 0..50)) {
            let sorted: OffsetSet = offsets.iter().copied().collect();
            let mut inserted = OffsetSet::default();
            offsets.reverse();
            offsets.iter().for_each(|offset| inserted.insert(*offset));
            prop_assert_eq!(inserted.digest(), sorted.digest());
        }
    }

    #[test]
    fn sets_that_differ_in_one_offset_differ_in_digest() {
        let all = OffsetSet::from_range(0, 1000);
        let one_less = all.minus(&OffsetSet::from_range(500, 501));
        assert_ne!(all.digest(), one_less.digest());
    }
}
