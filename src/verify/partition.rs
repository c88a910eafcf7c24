//! One partition: whether its batches tile the range that its checkpoint says has landed. Pure;
//! batches come in the order of their offsets.

use crate::landing::offsets::OffsetSet;

use super::batch::{Expiry, judge};
use super::finding::{Finding, Kind, Weight};
use super::member::Member;
use super::scope::{Place, Scope};

/// The proof of one partition under way.
#[derive(Debug)]
pub(super) struct PartitionProof {
    partition: i32,
    /// `None`: there is no checkpoint that could be read.
    scope: Option<Scope>,
    /// Files written before this may have been removed.
    since_ms: Option<i64>,
    /// Whether a file younger than that has come: none behind it may be missing.
    is_recent: bool,
    /// Behind the last batch.
    cursor: i64,
    /// First and last offset of objects without a checkpoint.
    orphaned: Option<(i64, i64)>,
    /// What it came to so far.
    pub(super) totals: Totals,
}

/// What a partition holds, and how its proof went.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Totals {
    /// Batches in the range that was to be proven.
    pub batches: u64,
    /// Their objects.
    pub files: u64,
    /// Rows of data files.
    pub rows: u64,
    /// Rows of dead-letter files.
    pub dead_letters: u64,
    /// Offsets that are recorded as lost.
    pub lost: u64,
    /// Offsets that were never read: control and aborted records, or removed by compaction.
    pub holes: u64,
    /// Objects of batches that were under way.
    pub files_in_flight: u64,
    /// Records of the topic that were compared.
    pub compared: u64,
    /// Findings by their weight: told, unread, disproving.
    pub findings: [u64; 3],
}

/// Objects of the same range, as far as they belong there.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) members: Vec<Member>,
    /// Keys that could not be read.
    pub(super) unread: Vec<String>,
}

/// What of a batch is to be compared with the topic.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Comparable {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) held: OffsetSet,
    pub(super) gap: Option<(i64, i64)>,
}

impl Totals {
    /// The heaviest finding.
    pub fn weight(&self) -> Weight {
        match self.findings {
            [_, _, disproving] if disproving > 0 => Weight::Disproves,
            [_, unread, _] if unread > 0 => Weight::Unread,
            _ => Weight::Told,
        }
    }

    /// Counts a finding.
    pub fn found(&mut self, finding: &Finding) {
        self.findings[finding.kind.weight() as usize] += 1;
    }
}

impl PartitionProof {
    /// Nothing of it seen yet.
    pub(super) fn new(partition: i32, scope: Option<Scope>, since_ms: Option<i64>) -> Self {
        Self {
            partition,
            cursor: scope.as_ref().map_or(0, |scope| scope.first),
            scope,
            since_ms,
            is_recent: false,
            orphaned: None,
            totals: Totals::default(),
        }
    }

    /// What of it is to be proven.
    pub(super) fn scope(&self) -> Option<&Scope> {
        self.scope.as_ref()
    }

    fn finding(&self, kind: Kind, from: i64, to: i64, why: String) -> Finding {
        Finding::new(kind, why).of(self.partition).at(from, to)
    }

    /// Takes the next batch.
    pub(super) fn batch(&mut self, group: Group) -> (Vec<Finding>, Option<Comparable>) {
        let Group {
            start,
            end,
            members,
            unread,
        } = group;
        let files = (members.len() + unread.len()) as u64;
        let Some(scope) = &self.scope else {
            let from = self.orphaned.map_or(start, |(from, _)| from.min(start));
            let to = self.orphaned.map_or(end, |(_, to)| to.max(end));
            self.orphaned = Some((from, to));
            self.totals.files += files;
            return (Vec::new(), None);
        };
        match scope.place(start, end) {
            Place::Proven => {}
            Place::InFlight => {
                self.totals.files_in_flight += files;
                return (Vec::new(), None);
            }
            Place::Outside(why) => {
                let keys = members.iter().map(|member| &member.key).chain(&unread);
                let findings = keys.map(|key| {
                    self.finding(Kind::Foreign, start, end, why.clone())
                        .in_object(key)
                });
                return (findings.collect(), None);
            }
        }
        let mut findings = Vec::new();
        if start > self.cursor {
            findings.push(self.absent(self.cursor, start));
        }
        if start < self.cursor {
            let to = self.cursor.min(end);
            let why = "batches overlap here".to_owned();
            let keys = members.iter().map(|member| &member.key).chain(&unread);
            findings.extend(keys.map(|key| {
                self.finding(Kind::Doubled, start, to, why.clone())
                    .in_object(key)
            }));
        }
        self.cursor = self.cursor.max(end);
        let was_recent = self.is_recent;
        self.is_recent |= !unread.is_empty()
            || self
                .since_ms
                .is_none_or(|since_ms| members.iter().any(|member| member.modified_ms >= since_ms));
        let expiry = match (self.since_ms, was_recent, self.is_recent) {
            (None, _, _) | (Some(_), true, _) => Expiry::None,
            (Some(_), false, true) => Expiry::Earlier,
            (Some(_), false, false) => Expiry::Any,
        };
        self.totals.batches += 1;
        self.totals.files += files;
        let judged = judge(members, &unread, expiry);
        self.totals.rows += judged.rows;
        self.totals.dead_letters += judged.dead_letters;
        self.totals.lost += judged.lost;
        self.totals.holes += judged.holes;
        findings.extend(judged.findings);
        let comparable = judged.is_whole.then_some(Comparable {
            start,
            end,
            held: judged.held,
            gap: judged.gap,
        });
        (findings, comparable)
    }

    /// What is left to be said behind the last batch. `checkpoint` is the checkpoint's key.
    pub(super) fn finish(&mut self, checkpoint: &str) -> Vec<Finding> {
        let Some(scope) = &self.scope else {
            let orphaned = self.orphaned.map(|(from, to)| {
                let why = "there are objects of this partition, and no checkpoint: it was removed, or the group was renamed".to_owned();
                self.finding(Kind::Missing, from, to, why).in_object(checkpoint)
            });
            return orphaned.into_iter().collect();
        };
        let (next, last_record_ms) = (scope.next, scope.last_record_ms);
        if self.cursor >= next {
            return Vec::new();
        }
        // Whether what comes last is old, only the last record's own time can tell.
        let is_old = last_record_ms
            .zip(self.since_ms)
            .is_some_and(|(time_ms, since_ms)| time_ms < since_ms);
        self.is_recent |= !is_old;
        vec![self.absent(self.cursor, next)]
    }

    /// A break between batches.
    fn absent(&self, from: i64, to: i64) -> Finding {
        match self.since_ms.is_some() && !self.is_recent {
            true => {
                let why =
                    "no object covers these offsets: they may have been removed for their age"
                        .to_owned();
                self.finding(Kind::Unproven, from, to, why)
            }
            false => {
                let why =
                    "no object covers these offsets, and the checkpoint says that they have landed"
                        .to_owned();
                self.finding(Kind::Missing, from, to, why)
            }
        }
    }
}
