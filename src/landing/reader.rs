//! What one partition's reading may believe: pure. Records are taken in order from our own next
//! offset; a jump counts as a hole only when reading once more from there shows it again.
//!
//! librdkafka can skip records in silence (a look-up outdated by a seek, a position counted one
//! too high): the second reading, which begins with a seek, finds them. Control records, aborted
//! ones and compaction leave true holes: to keep these cheap, everything behind a jump is noted
//! for a while before the seek, and one reading confirms all jumps among what was noted.

use crate::landing::offsets::OffsetSet;

/// So many records behind a jump are noted before the second reading: every transaction leaves a
/// jump, and each seek throws away what was fetched ahead.
const NOTED_MAX: u32 = 50_000;

/// The reading of one partition under one claim.
#[derive(Debug)]
pub(crate) struct Reader {
    next: i64,
    end: Option<i64>,
    /// What was met behind the last unconfirmed jump, before the second reading.
    noted: OffsetSet,
    noted_count: u32,
    noting: bool,
    /// A position above `next` without a record, before the second reading.
    noted_position: Option<i64>,
}

/// What to do with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the next one: take it, then call [`Reader::took`].
    Take,
    /// It was taken before, or is not to be taken now.
    Drop,
    /// It lies at or behind the end of the range, which is complete.
    Complete,
}

/// What a position means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moved {
    /// Nothing new.
    No,
    /// Over holes, to [`Reader::next`].
    Holes,
    /// A jump not seen twice: seek to [`Reader::next`].
    Reread,
}

impl Reader {
    /// Reads on from here.
    pub(crate) fn land(from: i64) -> Self {
        Self {
            next: from,
            end: None,
            noted: OffsetSet::default(),
            noted_count: 0,
            noting: false,
            noted_position: None,
        }
    }

    /// Reads exactly [from, end).
    pub(crate) fn replay(from: i64, end: i64) -> Self {
        Self {
            end: Some(end),
            ..Self::land(from)
        }
    }

    /// The offset to read next: above the last record taken, confirmed holes included.
    pub(crate) fn next(&self) -> i64 {
        self.next
    }

    /// Where a replay ends.
    pub(crate) fn end(&self) -> Option<i64> {
        self.end
    }

    /// Whether a replay has all of its range.
    pub(crate) fn is_complete(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }

    /// Judges a record in the order of reading. A jump is noted here.
    pub(crate) fn judge(&mut self, offset: i64) -> Verdict {
        if self.is_complete() || offset < self.next {
            return Verdict::Drop;
        }
        if self.noting {
            self.note(offset);
            return Verdict::Drop;
        }
        if offset > self.next && !self.is_hole(self.next, offset) {
            self.noted = OffsetSet::default();
            self.noted_count = 0;
            self.noting = true;
            self.note(offset);
            return Verdict::Drop;
        }
        match self.end {
            Some(end) if offset >= end => {
                self.next = end;
                Verdict::Complete
            }
            _ => Verdict::Take,
        }
    }

    /// The record that was judged [`Verdict::Take`] has been taken.
    pub(crate) fn took(&mut self, offset: i64) {
        self.next = offset + 1;
        self.noted_position = None;
    }

    /// Whether a jump waits for its second reading and it is time for it: enough was noted, or
    /// nothing more is at hand.
    pub(crate) fn wants_reread(&self, is_idle: bool) -> bool {
        self.noting && (is_idle || self.noted_count >= NOTED_MAX)
    }

    /// The second reading begins at [`Reader::next`] now.
    pub(crate) fn reread(&mut self) {
        self.noting = false;
    }

    /// An error or a new assignment: what was noted no longer counts.
    pub(crate) fn disturbed(&mut self) {
        self.noting = false;
        self.noted = OffsetSet::default();
        self.noted_count = 0;
        self.noted_position = None;
    }

    /// The consumer's position while no record comes. Control records advance it.
    pub(crate) fn position(&mut self, position: i64) -> Moved {
        if self.noting || self.is_complete() || position <= self.next {
            return Moved::No;
        }
        match self.noted_position.take() {
            None => {
                self.noted_position = Some(position);
                Moved::Reread
            }
            Some(noted) => {
                self.next = position.min(noted).min(self.end.unwrap_or(i64::MAX));
                Moved::Holes
            }
        }
    }

    fn note(&mut self, offset: i64) {
        if self.noted_to() <= offset {
            self.noted.insert(offset);
        }
        self.noted_count += 1;
    }

    fn noted_to(&self) -> i64 {
        self.noted.ranges().last().map_or(i64::MIN, |range| range.1)
    }

    /// Whether the first reading went at least to `to` and met nothing in [from, to).
    fn is_hole(&self, from: i64, to: i64) -> bool {
        let ranges = self.noted.ranges();
        let first = ranges.partition_point(|range| range.1 <= from);
        ranges.get(first).is_some_and(|range| range.0 >= to)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Reads a log from the reader's next offset as the consumer's thread does, and seeks when
    /// the reader asks for it. At the n-th pass the offsets in `lost[n]` are not delivered.
    fn read(reader: &mut Reader, log: &BTreeSet<i64>, lost: &[BTreeSet<i64>]) -> Vec<i64> {
        let mut taken = Vec::new();
        for pass in 0..200 {
            let none = BTreeSet::new();
            let lost = lost.get(pass).unwrap_or(&none);
            let from = reader.next();
            for &offset in log.range(from..).filter(|offset| !lost.contains(offset)) {
                match reader.judge(offset) {
                    Verdict::Take => {
                        taken.push(offset);
                        reader.took(offset);
                    }
                    Verdict::Drop => {}
                    Verdict::Complete => return taken,
                }
            }
            if !reader.wants_reread(true) {
                return taken;
            }
            reader.reread();
        }
        panic!("reading does not come to an end");
    }

    proptest! {
        #[test]
        fn every_record_is_taken_once_in_order_whatever_one_reading_skips(
            log in prop::collection::btree_set(0i64..80, 0..60),
            lost in prop::collection::vec(prop::collection::btree_set(0i64..80, 0..30), 0..6),
            from in 0i64..20,
        ) {
            // What two readings one after the other both skip is a hole by definition; and the
            // end of the log skipped shows no jump until more comes.
            let mut lost: Vec<BTreeSet<i64>> = lost.into_iter().flat_map(|set| [set, BTreeSet::new()]).collect();
            if let Some(last) = log.last() {
                lost.iter_mut().for_each(|set| { set.remove(last); });
            }
            let mut reader = Reader::land(from);
            let taken = read(&mut reader, &log, &lost);
            let expected: Vec<i64> = log.range(from..).copied().collect();
            prop_assert_eq!(taken, expected);
        }

        #[test]
        fn a_replay_takes_exactly_its_range(
            log in prop::collection::btree_set(0i64..80, 1..60),
            from in 0i64..40,
            length in 1i64..40,
        ) {
            let end = from + length;
            let mut reader = Reader::replay(from, end);
            let taken = read(&mut reader, &log, &[]);
            let expected: Vec<i64> = log.range(from..end).copied().collect();
            prop_assert_eq!(taken, expected);
            let reached = log.last().is_some_and(|last| last + 1 >= end);
            prop_assert_eq!(reader.is_complete(), reached);
            if reached {
                prop_assert_eq!(reader.next(), end);
            }
        }
    }

    #[test]
    fn a_jump_is_no_hole_before_the_second_reading() {
        let mut reader = Reader::land(5);
        assert_eq!(reader.judge(9), Verdict::Drop);
        assert_eq!(reader.judge(10), Verdict::Drop);
        assert!(reader.wants_reread(true));
        assert!(!reader.wants_reread(false));
        reader.reread();
        assert_eq!(reader.judge(9), Verdict::Take);
    }

    #[test]
    fn one_second_reading_confirms_every_jump_that_the_first_has_met() {
        let mut reader = Reader::land(0);
        for offset in [2, 3, 7, 20] {
            assert_eq!(reader.judge(offset), Verdict::Drop);
        }
        reader.reread();
        for offset in [2, 3, 7, 20] {
            assert_eq!(reader.judge(offset), Verdict::Take);
            reader.took(offset);
        }
        assert_eq!(reader.judge(30), Verdict::Drop, "a new jump");
        assert!(reader.wants_reread(true));
    }

    #[test]
    fn a_jump_over_what_the_first_reading_met_is_read_again() {
        let mut reader = Reader::land(0);
        for offset in [2, 3, 7] {
            reader.judge(offset);
        }
        reader.reread();
        assert_eq!(reader.judge(2), Verdict::Take);
        reader.took(2);
        assert_eq!(reader.judge(7), Verdict::Drop, "3 was there");
        assert!(reader.wants_reread(true));
    }

    #[test]
    fn a_position_without_records_counts_when_seen_twice() {
        let mut reader = Reader::replay(3, 4);
        assert_eq!(reader.position(3), Moved::No);
        assert_eq!(reader.position(6), Moved::Reread);
        assert!(!reader.is_complete());
        assert_eq!(reader.position(6), Moved::Holes);
        assert!(reader.is_complete());
        assert_eq!(reader.next(), 4);
    }

    #[test]
    fn a_record_found_by_the_second_reading_undoes_the_position() {
        let mut reader = Reader::land(3);
        assert_eq!(reader.position(6), Moved::Reread);
        assert_eq!(reader.judge(3), Verdict::Take);
        reader.took(3);
        assert_eq!(reader.position(6), Moved::Reread, "seen once again only");
    }

    #[test]
    fn an_error_forgets_what_was_noted() {
        let mut reader = Reader::land(0);
        reader.judge(5);
        reader.disturbed();
        assert!(!reader.wants_reread(true));
        assert_eq!(reader.judge(5), Verdict::Drop);
        assert!(reader.wants_reread(true));
    }
}
