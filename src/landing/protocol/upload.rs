//! Which object of a batch holds what: the listed keys are created one after another, each with
//! what this writer would place there minus every offset that the keys before it are found to
//! hold; the dead letters last.

use crate::landing::offsets::{OffsetDigest, OffsetSet};

use super::footer::{Footer, Identity};

/// The upload of a batch under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Upload {
    identity: Identity,
    start: i64,
    end: i64,
    /// Full keys in the order of their creation; the dead letters' is the last.
    keys: Vec<String>,
    /// What this writer would place in each key.
    planned: Vec<OffsetSet>,
    /// Every offset that this writer read in the range.
    read: OffsetSet,
    /// What the keys so far are found to hold.
    held: OffsetSet,
    /// The largest set that a found footer names as read by its writer; footers that tell of a
    /// loss prove nothing and do not count.
    named: Option<OffsetDigest>,
    /// Offsets of the range that Kafka no longer had when it was read.
    lost: Option<[i64; 2]>,
    /// The loss that the operator has given his word for.
    word: Option<[i64; 2]>,
    /// What the dead letters are being created with.
    recording: Option<[i64; 2]>,
    /// Whether the dead letters record a loss.
    loss_recorded: bool,
    index: usize,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadEvent {
    /// The object was created with the content asked for, or exists with exactly these bytes.
    Created,
    /// An object of this key exists: its footer (or why it has none of ours) and the offsets read
    /// from its rows.
    Exists(Result<Box<Footer>, String>, OffsetSet),
    /// To [`UploadAction::Look`]: there is no object of this key.
    Absent,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UploadAction {
    /// Create the object `keys[index]` with the rows of these offsets; retried until it is
    /// created or found.
    Create {
        /// Which key.
        index: usize,
        /// The offsets of its rows, a subset of what was planned for it.
        offsets: OffsetSet,
        /// Goes into its footer.
        gap: Option<[i64; 2]>,
    },
    /// Read the object `keys[index]`, if there is one: what it holds may prove the range complete.
    Look {
        /// Which key.
        index: usize,
    },
    /// All objects of the range are there.
    Finished,
    /// The objects found leave no place for these records but the dead letters: read the range
    /// again with them forced there.
    ReplayForced(OffsetSet),
    /// Records of the range are lost: the dead letters' key waits for the operator's word.
    AwaitWord,
    /// An object of a listed key is somebody else's, or contradicts the protocol.
    Foreign {
        /// Its key.
        key: String,
        /// What differs.
        why: String,
    },
}

/// Why an upload cannot be finished.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UpsetReason {
    /// Read the range again with these offsets forced among the dead letters.
    ReplayForced(OffsetSet),
    /// Records of the range are lost, and the operator has not given his word.
    AwaitWord,
    /// An object of a listed key is somebody else's.
    Foreign {
        /// Its key.
        key: String,
        /// What differs.
        why: String,
    },
}

/// What an upload begins with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UploadPlan {
    /// Whose records these are.
    pub identity: Identity,
    /// First offset of the range.
    pub start: i64,
    /// Behind the last offset of the range.
    pub end: i64,
    /// Full keys in the order of their creation; the dead letters' is the last.
    pub keys: Vec<String>,
    /// What this writer would place in each key.
    pub planned: Vec<OffsetSet>,
    /// Every offset that this writer read in the range.
    pub read: OffsetSet,
    /// Offsets of the range that Kafka no longer had when it was read.
    pub lost: Option<[i64; 2]>,
    /// The loss that the operator has given his word for.
    pub word: Option<[i64; 2]>,
}

impl Upload {
    /// An upload, and its first action.
    pub fn new(plan: UploadPlan) -> (Self, UploadAction) {
        let mut upload = Self {
            identity: plan.identity,
            start: plan.start,
            end: plan.end,
            keys: plan.keys,
            planned: plan.planned,
            read: plan.read,
            held: OffsetSet::default(),
            named: None,
            // What is lost behind the range is not this batch's.
            lost: plan.lost.map(|[from, to]| [from, to.min(plan.end)]),
            word: plan.word,
            recording: None,
            loss_recorded: false,
            index: 0,
        };
        let action = upload.next();
        (upload, action)
    }

    /// The next step.
    pub fn step(&mut self, event: UploadEvent) -> UploadAction {
        match event {
            UploadEvent::Absent => return UploadAction::AwaitWord,
            UploadEvent::Created => {
                self.held = self.held.union(&self.planned_here());
                self.loss_recorded |= self.recording.is_some();
            }
            UploadEvent::Exists(footer, offsets) => {
                let key = self.keys[self.index].clone();
                let footer =
                    footer.and_then(|footer| self.believe(&footer, &offsets).map(|()| footer));
                match footer {
                    Err(why) => return UploadAction::Foreign { key, why },
                    Ok(footer) => self.found(&footer, &offsets),
                }
            }
        }
        self.index += 1;
        self.next()
    }

    /// Whether an object that exists is what its footer says, and one of this batch.
    fn believe(&self, footer: &Footer, offsets: &OffsetSet) -> Result<(), String> {
        footer.matches(&self.identity, self.start, self.end)?;
        if footer.batch.keys != self.keys {
            return Err("its batch lists other objects than ours".to_owned());
        }
        if footer.file.offsets != offsets.digest() {
            let (named, held) = (footer.file.offsets.count, offsets.len());
            return Err(format!(
                "its rows are not those that its footer names ({named} named, {held} there)"
            ));
        }
        let outside = offsets.minus(&OffsetSet::from_range(self.start, self.end));
        if let Some(offset) = outside.iter().next() {
            return Err(format!("it holds offset {offset}, outside of its range"));
        }
        if self.held.union(offsets).len() < self.held.len() + offsets.len() {
            return Err("it holds offsets that an object listed before it holds too".to_owned());
        }
        Ok(())
    }

    fn found(&mut self, footer: &Footer, offsets: &OffsetSet) {
        self.held = self.held.union(offsets);
        self.loss_recorded |= self.is_at_dead_letters() && footer.file.gap.is_some();
        let named = footer.batch.offsets;
        if footer.file.gap.is_none() && self.named.is_none_or(|known| known.count < named.count) {
            self.named = Some(named);
        }
    }

    fn is_at_dead_letters(&self) -> bool {
        self.index + 1 == self.keys.len()
    }

    /// What belongs into the current key and no key before it holds.
    fn planned_here(&self) -> OffsetSet {
        self.planned[self.index].minus(&self.held)
    }

    fn next(&mut self) -> UploadAction {
        if self.index >= self.keys.len() {
            return self.after_dead_letters();
        }
        if self.index + 1 < self.keys.len() {
            let offsets = self.planned_here();
            return UploadAction::Create {
                index: self.index,
                offsets,
                gap: self.lost,
            };
        }
        self.dead_letters()
    }

    fn dead_letters(&mut self) -> UploadAction {
        let offsets = self.planned_here();
        let all = self.held.union(&offsets);
        let unplaced = self.read.minus(&all);
        if !unplaced.is_empty() {
            return UploadAction::ReplayForced(unplaced);
        }
        let complete = self.is_complete(&all);
        if complete && offsets.is_empty() {
            return UploadAction::Finished;
        }
        self.recording = if complete { None } else { self.loss(&all) };
        match (complete || self.recording.is_some(), self.lost) {
            (true, _) => UploadAction::Create {
                index: self.index,
                offsets,
                gap: self.recording,
            },
            (false, Some(_)) => UploadAction::Look { index: self.index },
            (false, None) => self.contradicted(),
        }
    }

    /// What the dead letters may record as lost; `None`: that waits for the operator's word.
    fn loss(&self, all: &OffsetSet) -> Option<[i64; 2]> {
        match (self.lost, self.named) {
            // A word that was given before more was lost does not cover what was lost since.
            (Some(lost), _) => self
                .word
                .filter(|word| word[1] >= lost[1])
                .map(|[from, to]| [from, to.min(self.end)]),
            // Kafka has the range, but no longer all that a writer before us read of it:
            // compaction, which is no loss to stop for.
            (None, Some(named)) if named.count > all.len() => {
                let gone = OffsetSet::from_range(self.start, self.end).minus(all);
                let (first, last) = (gone.ranges().first()?, gone.ranges().last()?);
                Some([first.0, last.1])
            }
            (None, _) => self.word.map(|[from, to]| [from, to.min(self.end)]),
        }
    }

    /// Whether nothing of the range is missing from `all`: it is the set that the footers name,
    /// or, where none was found, Kafka still had all of the range when we read it.
    fn is_complete(&self, all: &OffsetSet) -> bool {
        let digest = all.digest();
        match self.named {
            Some(named) if self.lost.is_some() || named.count >= self.read.len() => digest == named,
            _ => self.lost.is_none() && digest == self.read.digest(),
        }
    }

    fn after_dead_letters(&self) -> UploadAction {
        let has_place = self.read.minus(&self.held).is_empty();
        if has_place && (self.loss_recorded || self.is_complete(&self.held)) {
            return UploadAction::Finished;
        }
        self.contradicted()
    }

    fn contradicted(&self) -> UploadAction {
        let missing = self.read.minus(&self.held).len();
        UploadAction::Foreign {
            key: self.keys.last().cloned().unwrap_or_default(),
            why: format!(
                "the objects of the range do not hold what they name, {missing} records have no place"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PartitionTime;
    use crate::landing::layout::Layout;
    use crate::landing::protocol::footer::{BatchFooter, FOOTER_FORMAT, FileFooter};

    fn identity() -> Identity {
        Identity {
            cluster_id: "c".into(),
            topic_id: "t".into(),
            topic: "iss".into(),
            partition: 0,
            group: "g".into(),
        }
    }

    fn set(offsets: &[i64]) -> OffsetSet {
        offsets.iter().copied().collect()
    }

    /// Two data keys and the dead letters, over [0, 10).
    fn plan(first: &[i64], second: &[i64], dead: &[i64]) -> UploadPlan {
        let planned = vec![set(first), set(second), set(dead)];
        let read = planned
            .iter()
            .fold(OffsetSet::default(), |all, part| all.union(part));
        let keys = ["a", "b", "dead"].map(str::to_owned).to_vec();
        UploadPlan {
            identity: identity(),
            start: 0,
            end: 10,
            keys,
            planned,
            read,
            lost: None,
            word: None,
        }
    }

    fn exists(holds: &[i64], batch: &[i64]) -> UploadEvent {
        exists_with(holds, batch, None)
    }

    fn exists_with(holds: &[i64], batch: &[i64], gap: Option<[i64; 2]>) -> UploadEvent {
        let footer = Footer {
            format: FOOTER_FORMAT,
            version: "0".into(),
            identity: identity(),
            fingerprint: String::new(),
            file: FileFooter {
                offsets: set(holds).digest(),
                rejects: 0,
                gap,
            },
            batch: BatchFooter {
                start: 0,
                end: 10,
                keys: ["a", "b", "dead"].map(str::to_owned).to_vec(),
                layout: Layout {
                    columns: Vec::new(),
                    extra: false,
                    partition_by: Vec::new(),
                    partition_time: PartitionTime::KafkaTimestamp,
                },
                offsets: set(batch).digest(),
            },
        };
        UploadEvent::Exists(Ok(Box::new(footer)), set(holds))
    }

    fn create(index: usize, offsets: &[i64]) -> UploadAction {
        UploadAction::Create {
            index,
            offsets: set(offsets),
            gap: None,
        }
    }

    #[test]
    fn a_fresh_batch_without_rejects_creates_its_data_keys_only() {
        let (mut upload, action) = Upload::new(plan(&[0, 1, 2], &[3, 4], &[]));
        assert_eq!(action, create(0, &[0, 1, 2]));
        assert_eq!(upload.step(UploadEvent::Created), create(1, &[3, 4]));
        assert_eq!(upload.step(UploadEvent::Created), UploadAction::Finished);
    }

    #[test]
    fn rejects_are_created_last() {
        let (mut upload, _) = Upload::new(plan(&[0], &[], &[5]));
        assert_eq!(upload.step(UploadEvent::Created), create(1, &[]));
        assert_eq!(upload.step(UploadEvent::Created), create(2, &[5]));
        assert_eq!(upload.step(UploadEvent::Created), UploadAction::Finished);
    }

    #[test]
    fn what_a_key_before_holds_is_not_written_again() {
        let (mut upload, _) = Upload::new(plan(&[0, 1], &[2, 3], &[]));
        let action = upload.step(exists(&[0, 1, 2], &[0, 1, 2, 3]));
        assert_eq!(action, create(1, &[3]));
        assert_eq!(upload.step(UploadEvent::Created), UploadAction::Finished);
    }

    #[test]
    fn a_record_that_no_key_took_is_forced_among_the_dead_letters() {
        let (mut upload, _) = Upload::new(plan(&[0, 1], &[2, 3], &[]));
        assert_eq!(upload.step(exists(&[0], &[0, 1, 2, 3])), create(1, &[2, 3]));
        assert_eq!(
            upload.step(UploadEvent::Created),
            UploadAction::ReplayForced(set(&[1]))
        );
        let (mut upload, _) = Upload::new(plan(&[0], &[2, 3], &[1]));
        upload.step(exists(&[0], &[0, 1, 2, 3]));
        assert_eq!(upload.step(exists(&[2, 3], &[0, 1, 2, 3])), create(2, &[1]));
        assert_eq!(upload.step(UploadEvent::Created), UploadAction::Finished);
    }

    #[test]
    fn another_opinion_of_the_dead_letters_lands_no_record_twice() {
        let (mut upload, _) = Upload::new(plan(&[0, 1], &[], &[2]));
        upload.step(exists(&[0, 1, 2], &[0, 1, 2]));
        assert_eq!(upload.step(exists(&[], &[0, 1, 2])), UploadAction::Finished);
    }

    #[test]
    fn an_object_of_another_range_is_foreign() {
        let mut other = plan(&[0], &[], &[]);
        other.end = 20;
        let (mut upload, _) = Upload::new(other);
        let action = upload.step(exists(&[0], &[0]));
        assert!(matches!(action, UploadAction::Foreign { key, .. } if key == "a"));
    }

    fn lost_plan(word: Option<[i64; 2]>) -> UploadPlan {
        UploadPlan {
            lost: Some([0, 4]),
            word,
            ..plan(&[4, 5], &[6], &[])
        }
    }

    #[test]
    fn a_loss_waits_for_the_word_behind_the_data_keys() {
        let (mut upload, action) = Upload::new(lost_plan(None));
        let gap = Some([0, 4]);
        assert_eq!(
            action,
            UploadAction::Create {
                index: 0,
                offsets: set(&[4, 5]),
                gap
            }
        );
        upload.step(UploadEvent::Created);
        assert_eq!(
            upload.step(UploadEvent::Created),
            UploadAction::Look { index: 2 }
        );
        assert_eq!(upload.step(UploadEvent::Absent), UploadAction::AwaitWord);
    }

    #[test]
    fn a_loss_with_the_word_is_recorded_by_the_dead_letters() {
        let (mut upload, _) = Upload::new(lost_plan(Some([0, 4])));
        upload.step(UploadEvent::Created);
        let action = upload.step(UploadEvent::Created);
        let gap = Some([0, 4]);
        assert_eq!(
            action,
            UploadAction::Create {
                index: 2,
                offsets: set(&[]),
                gap
            }
        );
        assert_eq!(upload.step(UploadEvent::Created), UploadAction::Finished);
    }

    #[test]
    fn a_word_does_not_cover_what_was_lost_after_it() {
        let (mut upload, _) = Upload::new(lost_plan(Some([0, 3])));
        upload.step(UploadEvent::Created);
        assert_eq!(
            upload.step(UploadEvent::Created),
            UploadAction::Look { index: 2 }
        );
    }

    #[test]
    fn objects_whose_footers_prove_the_range_need_no_word() {
        let all = [0, 1, 2, 3, 4, 5, 6];
        let (mut upload, _) = Upload::new(lost_plan(None));
        upload.step(exists(&[0, 1, 4, 5], &all));
        assert_eq!(
            upload.step(exists(&[2, 3, 6], &all)),
            UploadAction::Finished
        );
        let (mut upload, _) = Upload::new(lost_plan(None));
        upload.step(exists(&[0, 1, 4, 5], &all));
        assert_eq!(
            upload.step(exists(&[2, 6], &all)),
            UploadAction::Look { index: 2 }
        );
        assert_eq!(upload.step(exists(&[3], &all)), UploadAction::Finished);
    }

    #[test]
    fn a_footer_written_after_the_loss_proves_nothing() {
        let (mut upload, _) = Upload::new(lost_plan(None));
        upload.step(exists_with(&[4, 5], &[4, 5, 6], Some([0, 4])));
        let action = upload.step(exists_with(&[6], &[4, 5, 6], Some([0, 4])));
        assert_eq!(action, UploadAction::Look { index: 2 });
    }

    fn foreign_for(action: UploadAction) -> String {
        match action {
            UploadAction::Foreign { why, .. } => why,
            other => panic!("{other:?}"),
        }
    }

    /// The first data key, found with such a footer and rows.
    fn found_first(change: impl FnOnce(&mut Footer, &mut OffsetSet)) -> UploadAction {
        let (mut upload, _) = Upload::new(plan(&[0, 1], &[2], &[]));
        let UploadEvent::Exists(Ok(mut footer), mut offsets) = exists(&[0, 1], &[0, 1, 2]) else {
            unreachable!();
        };
        change(&mut footer, &mut offsets);
        upload.step(UploadEvent::Exists(Ok(footer), offsets))
    }

    #[test]
    fn a_footer_is_believed_only_where_all_of_it_is_right() {
        assert_eq!(found_first(|_, _| {}), create(1, &[2]));
        type Change = fn(&mut Footer, &mut OffsetSet);
        let cases: [(&str, Change); 9] = [
            ("cluster id", |footer, _| {
                footer.identity.cluster_id = "other".into()
            }),
            ("topic id", |footer, _| {
                footer.identity.topic_id = "other".into()
            }),
            ("topic is", |footer, _| {
                footer.identity.topic = "other".into()
            }),
            ("group", |footer, _| footer.identity.group = "other".into()),
            ("partition", |footer, _| footer.identity.partition = 9),
            ("range", |footer, _| footer.batch.start = 1),
            ("range", |footer, _| footer.batch.end = 11),
            ("other objects", |footer, _| {
                footer.batch.keys[1] = "c".into()
            }),
            ("2 named, 1 there", |_, offsets| *offsets = set(&[0])),
        ];
        for (what, change) in cases {
            let why = foreign_for(found_first(change));
            assert!(why.contains(what), "{what}: {why}");
        }
        let outside = found_first(|footer, offsets| {
            *offsets = set(&[0, 10]);
            footer.file.offsets = offsets.digest();
        });
        assert!(foreign_for(outside).contains("offset 10"));
    }

    #[test]
    fn an_unknown_id_in_a_footer_is_no_mismatch() {
        let action = found_first(|footer, _| footer.identity.topic_id.clear());
        assert_eq!(action, create(1, &[2]));
    }

    #[test]
    fn an_object_that_repeats_offsets_of_one_before_it_is_foreign() {
        let (mut upload, _) = Upload::new(plan(&[0, 1], &[2], &[]));
        upload.step(exists(&[0, 1], &[0, 1, 2]));
        let why = foreign_for(upload.step(exists(&[1, 2], &[0, 1, 2])));
        assert!(why.contains("listed before it"), "{why}");
    }

    #[test]
    fn what_was_compacted_since_the_batch_was_begun_is_recorded_and_stops_nothing() {
        let (mut upload, _) = Upload::new(plan(&[0, 1], &[5], &[]));
        assert_eq!(
            upload.step(exists(&[0, 1], &[0, 1, 3, 4, 5])),
            create(1, &[5])
        );
        let action = upload.step(UploadEvent::Created);
        let gap = Some([2, 10]);
        let offsets = OffsetSet::default();
        assert_eq!(
            action,
            UploadAction::Create {
                index: 2,
                offsets,
                gap
            }
        );
        assert_eq!(upload.step(UploadEvent::Created), UploadAction::Finished);
    }

    #[test]
    fn footers_that_name_other_records_than_kafka_holds_are_a_contradiction() {
        let (mut upload, _) = Upload::new(plan(&[0, 1], &[5], &[]));
        upload.step(exists(&[0, 1], &[0, 1, 7]));
        let action = upload.step(UploadEvent::Created);
        assert!(foreign_for(action).contains("do not hold what they name"));
    }
}
