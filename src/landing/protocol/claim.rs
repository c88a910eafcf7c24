//! A claim, from the assignment to where to start: read, fence the older writer, compare with
//! Kafka, decide. Event in, action out; the checkpoint actor does what it says and answers.

use crate::config::Start;
use crate::landing::broker::{RecordAt, TopicView};
use crate::landing::layout::Layout;
use crate::store::{Condition, ETag};

use super::Now;
use super::batch::{column_records, is_other_log, refused_layout, stopped, with_word, written};
use super::checkpoint::{Checkpoint, FORMAT, Root, Sibling};
use super::footer::differ;
use super::swap::SwapOutcome;
use super::words::{FOREIGN, OTHER_LOG, gap};

/// What a claim is made with: the configuration's part of the decision.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Terms {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// Unique per generation.
    pub writer: String,
    /// Folder of the data files.
    pub data: String,
    /// Folder of the dead letters.
    pub dead_letters: String,
    /// How records become rows from now on.
    pub layout: Layout,
    /// Where a partition without a checkpoint starts.
    pub start: Start,
    /// `first_offset` of every `[[skip]]` of this partition.
    pub skips: Vec<i64>,
    /// The highest epoch that this process has held of the partition: the next one lies above it
    /// even if the checkpoint was deleted and is made anew, or blocks of before would count again.
    pub held_epoch: u64,
}

/// The partition's log, as the broker sees it now.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LogView {
    /// The topic and the cluster.
    pub topic: TopicView,
    /// First offset of the log.
    pub low: i64,
    /// Behind the last offset of the log.
    pub high: i64,
}

/// What was found under the checkpoint's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Absent,
    /// A checkpoint that we understand.
    Checkpoint(Box<Checkpoint>, ETag),
    /// Something else: why it cannot be used.
    Unreadable(String),
}

/// An answer to an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimEvent {
    /// To [`ClaimAction::Read`].
    Read(Found),
    /// To [`ClaimAction::ListObjects`]: an object of this topic and partition, if there is any.
    Objects(Option<String>),
    /// To [`ClaimAction::ReadSibling`]: what any checkpoint of the group and topic tells of the
    /// group's beginning.
    Sibling(Option<Sibling>),
    /// To [`ClaimAction::AskLog`].
    Log(LogView),
    /// To [`ClaimAction::AskStart`].
    Start(i64),
    /// To [`ClaimAction::CompareLast`].
    Last(RecordAt),
    /// To [`ClaimAction::Swap`].
    Swapped(SwapOutcome),
    /// To [`ClaimAction::ReadGroups`]: keys and checkpoints of other groups for this topic and
    /// partition.
    Groups(Vec<(String, Checkpoint)>),
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ClaimAction {
    /// Read the checkpoint.
    Read,
    /// List the data and dead-letter folders (partitions claimed together share one list).
    ListObjects,
    /// Read any checkpoint of the group and topic.
    ReadSibling,
    /// Ask the broker (no cache) for topic, cluster and both watermarks.
    AskLog,
    /// Ask the broker for the offset to start at.
    AskStart(StartQuestion),
    /// Read the record at this offset.
    CompareLast(i64),
    /// Swap this in.
    Swap {
        /// The new checkpoint.
        checkpoint: Box<Checkpoint>,
        /// What it replaces.
        condition: Condition,
    },
    /// Read the other groups' checkpoints of this topic and partition.
    ReadGroups,
    /// The claim is decided.
    Done(Box<Claimed>),
}

/// Which offset to ask the broker for; the answer is clamped to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StartQuestion {
    /// The first record at or after this time (milliseconds since 1970 UTC), else the log's end.
    Time(i64),
    /// The group's committed offset, else the log's start.
    Committed,
}

/// How a claim ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Claimed {
    /// Read on from here.
    Land {
        /// The checkpoint that we hold.
        checkpoint: Checkpoint,
        /// Its version.
        etag: ETag,
        /// The next offset to read: `next_offset`, or behind the holes that follow it.
        from: i64,
    },
    /// The pending range is to be read again.
    Replay {
        /// The checkpoint that we hold.
        checkpoint: Checkpoint,
        /// Its version.
        etag: ETag,
        /// First offset that can still be read.
        from: i64,
        /// Offsets [from, to) that Kafka no longer has, from the range on: what is lost behind it
        /// included.
        lost: Option<[i64; 2]>,
    },
    /// The operator gave his word: [`next_offset`, to) lands as a batch of one dead-letters object
    /// that records the loss.
    Gap {
        /// The checkpoint that we hold.
        checkpoint: Checkpoint,
        /// Its version.
        etag: ETag,
        /// The log's start.
        to: i64,
    },
    /// The partition stops; why, and how to go on. The others go on.
    Stopped(String),
    /// Another writer was faster: claim again after a jittered delay, since it may have been our
    /// own dead predecessor.
    Fenced,
}

/// A claim under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Claim {
    terms: Terms,
    step: Step,
    /// Whether the folders were listed and hold nothing of this partition.
    found_object: Option<String>,
    sibling: Option<Sibling>,
    log: Option<LogView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Step {
    /// Before or between reads.
    Reading,
    /// Deciding where a partition without a checkpoint starts.
    Starting,
    /// A swap is under way; what follows it.
    Swapping(Box<Checkpoint>, Then),
    /// We hold this checkpoint, and compare it with Kafka.
    Holding(Box<Checkpoint>, ETag),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Then {
    /// Ask the broker.
    Compare,
    /// Done with this, whose checkpoint and version are those swapped in.
    Finish(Box<Claimed>),
}

impl Claim {
    /// A claim, and its first action.
    pub fn new(terms: Terms) -> (Self, ClaimAction) {
        let claim = Self {
            terms,
            step: Step::Reading,
            found_object: None,
            sibling: None,
            log: None,
        };
        (claim, ClaimAction::Read)
    }

    /// The next step. An event that does not answer the last action ends the claim as fenced:
    /// claiming again is always safe.
    pub fn step(&mut self, event: ClaimEvent, now: &Now) -> ClaimAction {
        match (std::mem::replace(&mut self.step, Step::Reading), event) {
            (Step::Reading, ClaimEvent::Read(found)) => self.read(found, now),
            (Step::Reading, ClaimEvent::Objects(Some(key))) => {
                self.found_object = Some(key);
                ClaimAction::Read
            }
            (Step::Reading, ClaimEvent::Objects(None)) => {
                self.go(Step::Starting, ClaimAction::ReadSibling)
            }
            (Step::Starting, ClaimEvent::Sibling(sibling)) => self.born(sibling),
            (Step::Starting, ClaimEvent::Log(log)) => self.choose_start(log, now),
            (Step::Starting, ClaimEvent::Start(offset)) => self.create(offset, now),
            (Step::Swapping(checkpoint, then), ClaimEvent::Swapped(outcome)) => {
                self.swapped(checkpoint, then, outcome)
            }
            (Step::Holding(checkpoint, etag), ClaimEvent::Log(log)) => {
                self.log = Some(log);
                self.compare(checkpoint, etag, now)
            }
            (Step::Holding(checkpoint, etag), ClaimEvent::Last(record)) => {
                self.compared(checkpoint, etag, record, now)
            }
            (Step::Holding(checkpoint, etag), ClaimEvent::Groups(groups)) => {
                self.checked_groups(checkpoint, etag, &groups, now)
            }
            _ => done(Claimed::Fenced),
        }
    }

    fn go(&mut self, step: Step, action: ClaimAction) -> ClaimAction {
        self.step = step;
        action
    }

    fn read(&mut self, found: Found, now: &Now) -> ClaimAction {
        match found {
            Found::Unreadable(why) => done(Claimed::Stopped(why)),
            Found::Checkpoint(current, etag) => {
                let mut next = written(&current, now);
                next.epoch = self.next_epoch(current.epoch);
                next.writer.clone_from(&self.terms.writer);
                self.swap(next, Condition::Matches(etag), Then::Compare)
            }
            Found::Absent => match &self.found_object {
                None => ClaimAction::ListObjects,
                Some(key) => done(Claimed::Stopped(foreign_objects(&self.terms, key))),
            },
        }
    }

    /// A group that took over from a Spark job has a checkpoint of each partition that the job
    /// knew, or was interrupted in making them: any other start would lose or double records.
    fn born(&mut self, sibling: Option<Sibling>) -> ClaimAction {
        let is_interrupted = sibling.as_ref().is_some_and(|sibling| {
            sibling.adopted.is_some() && self.terms.partition < sibling.partitions
        });
        if is_interrupted {
            return done(Claimed::Stopped(INTERRUPTED_TAKEOVER.to_owned()));
        }
        self.sibling = sibling;
        self.go(Step::Starting, ClaimAction::AskLog)
    }

    /// A partition whose number is at or above `partitions` of the group's first claim is new and
    /// starts at its earliest offset; else `start` applies, and `latest` means the offset at the
    /// time of the group's first claim: a process killed, or a second member, half-way through the
    /// first claims must not pass over records.
    fn choose_start(&mut self, log: LogView, now: &Now) -> ClaimAction {
        let (low, high) = (log.low, log.high);
        let is_new = self
            .sibling
            .as_ref()
            .is_some_and(|sibling| self.terms.partition >= sibling.partitions);
        self.log = Some(log);
        let question = match (self.terms.start, &self.sibling) {
            _ if is_new => return self.create(low, now),
            (Start::Earliest, _) => return self.create(low, now),
            (Start::Latest, None) => return self.create(high, now),
            (Start::Latest, Some(sibling)) => StartQuestion::Time(sibling.started_ms),
            (Start::Time(time_ms), _) => StartQuestion::Time(time_ms),
            (Start::Committed, _) => StartQuestion::Committed,
        };
        self.go(Step::Starting, ClaimAction::AskStart(question))
    }

    fn create(&mut self, offset: i64, now: &Now) -> ClaimAction {
        let Some(log) = &self.log else {
            return done(Claimed::Fenced);
        };
        let offset = offset.clamp(log.low, log.high.max(log.low));
        let first = self.sibling.clone().unwrap_or(Sibling {
            partitions: log.topic.partitions,
            started_ms: now.ms,
            adopted: None,
        });
        let checkpoint = Checkpoint {
            format: FORMAT,
            revision: 1,
            epoch: self.next_epoch(0),
            writer: self.terms.writer.clone(),
            time: now.text.clone(),
            cluster_id: log.topic.cluster_id.clone(),
            topic_id: log.topic.topic_id.clone(),
            first_offset: offset,
            next_offset: offset,
            holes_to: offset,
            last: None,
            pending: None,
            partitions: first.partitions,
            started_ms: first.started_ms,
            adopted: first.adopted,
            columns: column_records(&self.terms.layout),
            roots: vec![Root {
                from_offset: offset,
                data: self.terms.data.clone(),
                dead_letters: self.terms.dead_letters.clone(),
                columns: Vec::new(),
            }],
            stopped: None,
        };
        self.swap(checkpoint, Condition::Absent, Then::Compare)
    }

    fn next_epoch(&self, current: u64) -> u64 {
        current.max(self.terms.held_epoch) + 1
    }

    fn swap(&mut self, next: Checkpoint, condition: Condition, then: Then) -> ClaimAction {
        let checkpoint = Box::new(next);
        let action = ClaimAction::Swap {
            checkpoint: checkpoint.clone(),
            condition,
        };
        self.go(Step::Swapping(checkpoint, then), action)
    }

    fn swapped(
        &mut self,
        checkpoint: Box<Checkpoint>,
        then: Then,
        outcome: SwapOutcome,
    ) -> ClaimAction {
        let etag = match outcome {
            SwapOutcome::Won(etag) => etag,
            SwapOutcome::Fenced => return done(Claimed::Fenced),
            SwapOutcome::Vanished => return done(Claimed::Stopped(VANISHED.to_owned())),
        };
        match then {
            Then::Compare => self.go(Step::Holding(checkpoint, etag), ClaimAction::AskLog),
            Then::Finish(mut claimed) => {
                match claimed.as_mut() {
                    Claimed::Land {
                        checkpoint: held,
                        etag: version,
                        ..
                    }
                    | Claimed::Replay {
                        checkpoint: held,
                        etag: version,
                        ..
                    }
                    | Claimed::Gap {
                        checkpoint: held,
                        etag: version,
                        ..
                    } => {
                        *held = *checkpoint;
                        *version = etag;
                    }
                    Claimed::Stopped(_) | Claimed::Fenced => {}
                }
                ClaimAction::Done(claimed)
            }
        }
    }

    fn compare(&mut self, checkpoint: Box<Checkpoint>, etag: ETag, now: &Now) -> ClaimAction {
        let Some(log) = &self.log else {
            return done(Claimed::Fenced);
        };
        if let Some(cause) = other_log(&checkpoint, log) {
            return self.stop(*checkpoint, etag, &cause, now);
        }
        match checkpoint.last {
            Some(last) if last.offset >= log.low => {
                let action = ClaimAction::CompareLast(last.offset);
                self.go(Step::Holding(checkpoint, etag), action)
            }
            _ => self.check_groups(checkpoint, etag, now),
        }
    }

    fn compared(
        &mut self,
        checkpoint: Box<Checkpoint>,
        etag: ETag,
        record: RecordAt,
        now: &Now,
    ) -> ClaimAction {
        match (checkpoint.last, record) {
            (Some(last), RecordAt::Found { timestamp_ms, hash })
                if (last.timestamp_ms, last.hash) != (timestamp_ms, hash) =>
            {
                let cause = format!(
                    "kafka holds another log: the record at offset {} is not the one that landed; {}",
                    last.offset, NEW_GROUP
                );
                self.stop(*checkpoint, etag, &cause, now)
            }
            _ => self.check_groups(checkpoint, etag, now),
        }
    }

    /// Two groups that start at once in one folder never meet in a key, so each looks for the
    /// other before its first Begin, also where a crash came between creating and looking.
    fn check_groups(&mut self, checkpoint: Box<Checkpoint>, etag: ETag, now: &Now) -> ClaimAction {
        if checkpoint.next_offset == checkpoint.first_offset && checkpoint.pending.is_none() {
            return self.go(Step::Holding(checkpoint, etag), ClaimAction::ReadGroups);
        }
        self.decide(*checkpoint, etag, now)
    }

    fn checked_groups(
        &mut self,
        checkpoint: Box<Checkpoint>,
        etag: ETag,
        groups: &[(String, Checkpoint)],
        now: &Now,
    ) -> ClaimAction {
        let shares_our_folder = |root: &Root| {
            root.data == self.terms.data || root.dead_letters == self.terms.dead_letters
        };
        match groups
            .iter()
            .find(|(_, other)| other.roots.iter().any(shares_our_folder))
        {
            Some((key, _)) => {
                let cause = format!(
                    "{FOREIGN}another group lands this topic in the same folders ({key}): give \
                     each group folders of its own (store.data, store.dead_letters)"
                );
                self.stop(*checkpoint, etag, &cause, now)
            }
            None => self.decide(*checkpoint, etag, now),
        }
    }

    /// Where to start, now that it is our log.
    fn decide(&mut self, checkpoint: Checkpoint, etag: ETag, now: &Now) -> ClaimAction {
        let Some(log) = self.log.clone() else {
            return done(Claimed::Fenced);
        };
        let position = checkpoint.next_offset.max(checkpoint.holes_to);
        let word = self.terms.skips.contains(&checkpoint.next_offset);
        if let Some(pending) = checkpoint.pending.clone() {
            let lost =
                (log.low > position && position < pending.end).then_some([position, log.low]);
            let word_covers = pending.gap.is_some_and(|gap| gap[1] >= log.low);
            let from = position.max(log.low).min(pending.end);
            let replay = |checkpoint: Checkpoint, etag| Claimed::Replay {
                checkpoint,
                etag,
                from,
                lost,
            };
            return match lost {
                Some(gap) if word && !word_covers => {
                    let mut next = with_word(&checkpoint, gap, now);
                    next.stopped = None;
                    let then = Then::Finish(Box::new(replay(next.clone(), etag.clone())));
                    self.swap(next, Condition::Matches(etag), then)
                }
                _ => self.finish(replay(checkpoint, etag), now),
            };
        }
        let layout = &self.terms.layout;
        if let Some(cause) = refused_layout(
            &checkpoint,
            layout,
            &self.terms.data,
            &self.terms.dead_letters,
        ) {
            return self.stop(checkpoint, etag, &cause, now);
        }
        if log.low > position && !word {
            let terms = &self.terms;
            let lost = [position, log.low];
            let cause = gap(&terms.topic, terms.partition, checkpoint.next_offset, lost);
            return self.stop(checkpoint, etag, &cause, now);
        }
        if log.low > position {
            return self.finish(
                Claimed::Gap {
                    checkpoint,
                    etag,
                    to: log.low,
                },
                now,
            );
        }
        self.finish(
            Claimed::Land {
                checkpoint,
                etag,
                from: position,
            },
            now,
        )
    }

    /// A partition that goes on is no longer marked as stopped.
    fn finish(&mut self, claimed: Claimed, now: &Now) -> ClaimAction {
        let (checkpoint, etag) = match &claimed {
            Claimed::Land {
                checkpoint, etag, ..
            }
            | Claimed::Gap {
                checkpoint, etag, ..
            } => (checkpoint, etag),
            // A replay may yet wait for the operator's word: its mark goes with what lands.
            Claimed::Replay { .. } | Claimed::Stopped(_) | Claimed::Fenced => {
                return done(claimed);
            }
        };
        if checkpoint.stopped.is_none() {
            return done(claimed);
        }
        let next = Checkpoint {
            stopped: None,
            ..written(checkpoint, now)
        };
        let condition = Condition::Matches(etag.clone());
        self.swap(next, condition, Then::Finish(Box::new(claimed)))
    }

    fn stop(&mut self, checkpoint: Checkpoint, etag: ETag, cause: &str, now: &Now) -> ClaimAction {
        let claimed = Claimed::Stopped(cause.to_owned());
        match stopped(&checkpoint, cause, now) {
            None => done(claimed),
            Some(next) => self.swap(
                next,
                Condition::Matches(etag),
                Then::Finish(Box::new(claimed)),
            ),
        }
    }
}

const NEW_GROUP: &str = "nothing read there continues what has landed; to land it, set a new \
    kafka.group, store.data and store.dead_letters";

/// What is said when a checkpoint that we held is gone.
pub const VANISHED: &str = "the checkpoint was deleted while it was held: nothing is written any \
    more, since a new one would land everything again; put it back, or rebuild it from the files \
    (groundtrack adopt --from-files)";

const INTERRUPTED_TAKEOVER: &str = "the takeover from a Spark job was interrupted before this \
    partition had its checkpoint: run groundtrack adopt again, as it was run before";

/// Why Kafka's log is not the checkpoint's; `None`: nothing says so.
pub fn other_log(checkpoint: &Checkpoint, log: &LogView) -> Option<String> {
    if is_other_log(checkpoint, &log.topic) {
        let (what, ours, theirs) = if differ(&checkpoint.cluster_id, &log.topic.cluster_id) {
            ("cluster", &checkpoint.cluster_id, &log.topic.cluster_id)
        } else {
            ("topic", &checkpoint.topic_id, &log.topic.topic_id)
        };
        return Some(format!(
            "{OTHER_LOG}{what} id {theirs}, the checkpoint's is {ours}; {NEW_GROUP}"
        ));
    }
    let pending_end = checkpoint.pending.as_ref().map_or(0, |pending| pending.end);
    let reached = checkpoint
        .next_offset
        .max(checkpoint.holes_to)
        .max(pending_end);
    (log.high < reached).then(|| {
        format!(
            "{OTHER_LOG}it ends at offset {}, the checkpoint has reached {reached}; \
             {NEW_GROUP}",
            log.high
        )
    })
}

fn foreign_objects(terms: &Terms, key: &str) -> String {
    format!(
        "{FOREIGN}there is no checkpoint, but {key} is an object of topic {} partition {}: a lost \
         checkpoint or a renamed group would land everything again; put the checkpoint back, or \
         rebuild it from the files (groundtrack adopt --from-files), or name another folder for \
         store.data and store.dead_letters",
        terms.topic, terms.partition
    )
}

fn done(claimed: Claimed) -> ClaimAction {
    ClaimAction::Done(Box::new(claimed))
}

#[cfg(test)]
mod tests;
