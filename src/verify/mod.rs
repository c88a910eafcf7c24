//! `groundtrack verify`: proves from the bucket alone that each record has landed exactly once.
//!
//! ```text
//! checkpoints before -> listing, sorted by partition and offset -> checkpoints after
//!     -> objects, several at once -> batches in order -> partitions -> verdict
//!                                        '--topic--> Kafka, a batch's range at a time
//! ```
//!
//! What is judged is pure: `scope` (what is to be proven), `member` (an object), `batch` (what its
//! objects hold together), `partition` (whether batches tile the range), `compare` (with Kafka's
//! records). `checkpoints`, `objects` and `topic` read; `report` tells. Its memory does not grow
//! with the bucket: a sort of fixed size
//! ([`BUFFERED_MAX`](crate::inventory::sorted::BUFFERED_MAX) objects), [`READERS_MAX`] objects at
//! once of which only offsets are kept, one batch that is judged, and what each partition comes to.

mod batch;
mod checkpoints;
mod compare;
mod finding;
mod member;
mod objects;
mod partition;
mod report;
mod scope;
#[cfg(test)]
mod tests;
mod topic;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};

use crate::config::Config;
use crate::inventory::{Entry, Sorter, each_page, folders_of, listing::ListingError};
use crate::landing::protocol::footer::Identity;
use crate::landing::protocol::keys::Names;
use crate::status::Status;
use crate::store::{Counted, ObjectStore, SharedStore};

use self::checkpoints::Checkpoints;
use self::compare::Comparison;
use self::objects::{Looked, look};
use self::partition::{Group, PartitionProof};
use self::scope::Scope;

pub use self::finding::{Finding, Kind, Weight};
pub use self::partition::Totals;
pub use self::report::{Bar, JsonReport, TextReport};

/// Objects that are read at once: enough to hide a store's latency from two cores, and with the
/// objects that are read whole 16 MiB at most. Larger ones are read a row group's offsets at a
/// time: 8 MiB for each million rows of it.
pub const READERS_MAX: usize = 16;

/// What is to be found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Question {
    /// Whether to compare with what the topic still holds.
    pub topic: bool,
    /// Files written before this time, milliseconds since 1970 UTC, may have been removed by the
    /// bucket's owner.
    pub since_ms: Option<i64>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Objects looked at.
    pub done: u64,
    /// Objects listed so far; all of them once the first is looked at.
    pub listed: u64,
}

/// Hears what is found, as it is found: there may be more of it than fits in memory.
pub trait Output {
    /// One thing found.
    ///
    /// # Errors
    /// When it cannot be written.
    fn finding(&mut self, finding: &Finding) -> io::Result<()>;

    /// How far it is.
    fn progress(&mut self, progress: Progress);
}

/// What it came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The store's address.
    pub location: String,
    /// The consumer group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// Whether it was asked to compare with the topic.
    pub with_topic: bool,
    /// See [`Question::since_ms`].
    pub since_ms: Option<i64>,
    /// The prefixes that were listed.
    pub folders: Vec<String>,
    /// Objects in them.
    pub objects: u64,
    /// Requests to the store.
    pub requests: u64,
    /// How long it took.
    pub took: Duration,
    /// Findings by kind.
    pub found: BTreeMap<Kind, u64>,
    /// What of each partition was to be proven, and what it came to.
    pub partitions: Vec<PartitionSummary>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionSummary {
    /// Its number.
    pub partition: i32,
    /// [first_offset, next_offset) of its checkpoint; `None`: none could be read.
    pub range: Option<(i64, i64)>,
    /// How far batches reach that were under way.
    pub in_flight_to: Option<i64>,
    /// What it holds.
    pub totals: Totals,
}

impl Summary {
    /// The heaviest finding.
    pub fn weight(&self) -> Weight {
        let found = self.found.keys().map(|kind| kind.weight());
        found.max().unwrap_or(Weight::Told)
    }
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The store has no answer.
    #[error("{what}: {error}; nothing is proven")]
    Store {
        /// What was asked.
        what: String,
        /// The answer.
        error: ListingError,
    },
    /// The objects' names could not be sorted.
    #[error("a temporary file (TMPDIR names the folder): {0}; nothing is proven")]
    Temporary(io::Error),
    /// What is found cannot be told.
    #[error("standard output cannot be written: {0}")]
    Output(io::Error),
}

/// Verifies. Findings go to `output`, in the order of partitions and offsets.
///
/// # Errors
/// [`VerifyError`]: then nothing is proven.
pub async fn verify(
    config: &Config,
    store: SharedStore,
    question: Question,
    output: &mut dyn Output,
) -> Result<Summary, VerifyError> {
    let began = Instant::now();
    let status = Status::new();
    let store = Counted::new(store, status.clone());
    let names = Names::of(config);
    let before = read_checkpoints(&store, &names).await?;
    let folders = folders_of(&names, before.values().flatten());
    let mut verification = Verification {
        names: &names,
        question,
        output,
        proofs: BTreeMap::new(),
        comparison: None,
        found: BTreeMap::new(),
        progress: Progress::default(),
    };
    let sorter = verification.list(&store, &folders).await?;
    let objects = sorter.count();
    let after = read_checkpoints(&store, &names).await?;
    verification.begin(&before, &after)?;
    if question.topic {
        verification.comparison = Some(Comparison::new(&config.kafka).await);
    }
    verification.judge_objects(&store, sorter).await?;
    verification.finish(&before, &after).await?;
    let Verification { proofs, found, .. } = verification;
    let partitions = proofs
        .into_iter()
        .map(|(partition, proof)| PartitionSummary {
            partition,
            range: proof.scope().map(|scope| (scope.first, scope.next)),
            in_flight_to: proof
                .scope()
                .map(Scope::in_flight_to)
                .filter(|to| proof.scope().is_some_and(|scope| *to > scope.next)),
            totals: proof.totals,
        });
    Ok(Summary {
        location: store.location(),
        group: names.group.clone(),
        topic: names.topic.clone(),
        with_topic: question.topic,
        since_ms: question.since_ms,
        folders,
        objects,
        requests: status.counters().iter().map(|(_, count)| count).sum(),
        took: began.elapsed(),
        found,
        partitions: partitions.collect(),
    })
}

async fn read_checkpoints(
    store: &dyn ObjectStore,
    names: &Names,
) -> Result<Checkpoints, VerifyError> {
    checkpoints::read(store, names)
        .await
        .map_err(|error| VerifyError::Store {
            what: format!(
                "reading the checkpoints in {}/{}",
                store.location(),
                names.checkpoints_of_topic()
            ),
            error,
        })
}

/// A verification under way.
struct Verification<'a> {
    names: &'a Names,
    question: Question,
    output: &'a mut dyn Output,
    proofs: BTreeMap<i32, PartitionProof>,
    /// `None`: the topic is not asked for.
    comparison: Option<Comparison>,
    found: BTreeMap<Kind, u64>,
    progress: Progress,
}

impl Verification<'_> {
    fn tell(&mut self, finding: &Finding) -> Result<(), VerifyError> {
        *self.found.entry(finding.kind).or_default() += 1;
        let proof = finding
            .partition
            .and_then(|partition| self.proofs.get_mut(&partition));
        if let Some(proof) = proof {
            proof.totals.found(finding);
        }
        self.output.finding(finding).map_err(VerifyError::Output)
    }

    async fn list(
        &mut self,
        store: &dyn ObjectStore,
        folders: &[String],
    ) -> Result<Sorter, VerifyError> {
        let mut sorter = Sorter::default();
        let checkpoints = format!("{}/", self.names.checkpoints);
        for folder in folders {
            let listed = each_page(store, folder, |page| {
                for object in page {
                    // The folders may lie around that of the checkpoints.
                    if object.key.starts_with(&checkpoints) {
                        continue;
                    }
                    let name = self.names.range_in(&object.key);
                    let name = name.filter(|name| name.first <= name.last && name.last < i64::MAX);
                    sorter.push(Entry::new(object, name))?;
                }
                self.progress.listed = sorter.count();
                self.output.progress(self.progress);
                Ok(())
            });
            listed.await.map_err(|error| match error {
                ListingError::Kept(error) => VerifyError::Temporary(error),
                error => VerifyError::Store {
                    what: format!("listing {}/{folder}", store.location()),
                    error,
                },
            })?;
        }
        Ok(sorter)
    }

    /// Sets out what is to be proven of each partition.
    fn begin(&mut self, before: &Checkpoints, after: &Checkpoints) -> Result<(), VerifyError> {
        for (&partition, first) in before {
            let key = self.names.checkpoint(partition);
            let scope = match (first, after.get(&partition)) {
                (Ok(before), Some(Ok(after))) => {
                    let identity = self.identity(partition, &before.cluster_id, &before.topic_id);
                    Scope::of(before, after, identity)
                        .map_err(|why| Finding::new(Kind::Foreign, why))
                }
                (_, None) => {
                    let why = "the checkpoint was removed while it was verified";
                    Err(Finding::new(Kind::Missing, why))
                }
                (Err(why), _) | (_, Some(Err(why))) => {
                    Err(Finding::new(Kind::Unread, format!("the checkpoint {why}")))
                }
            };
            let (scope, finding) = match scope {
                Ok(scope) => (Some(scope), None),
                Err(finding) => (None, Some(finding.of(partition).in_object(&key))),
            };
            let proof = PartitionProof::new(partition, scope, self.question.since_ms);
            self.proofs.insert(partition, proof);
            if let Some(finding) = finding {
                self.tell(&finding)?;
            }
        }
        // All that is there of a partition that was claimed meanwhile is in flight.
        for (&partition, checkpoint) in after {
            if let (false, Ok(after)) = (before.contains_key(&partition), checkpoint) {
                let mut nothing = after.clone();
                nothing.next_offset = nothing.first_offset;
                nothing.holes_to = nothing.first_offset;
                let identity = self.identity(partition, &after.cluster_id, &after.topic_id);
                let scope = Scope::of(&nothing, after, identity).ok();
                let proof = PartitionProof::new(partition, scope, self.question.since_ms);
                self.proofs.insert(partition, proof);
            }
        }
        Ok(())
    }

    fn identity(&self, partition: i32, cluster_id: &str, topic_id: &str) -> Identity {
        Identity {
            cluster_id: cluster_id.to_owned(),
            topic_id: topic_id.to_owned(),
            topic: self.names.topic.clone(),
            partition,
            group: self.names.group.clone(),
        }
    }

    async fn judge_objects(
        &mut self,
        store: &dyn ObjectStore,
        sorter: Sorter,
    ) -> Result<(), VerifyError> {
        let sorted = sorter.finish().map_err(VerifyError::Temporary)?;
        let scopes: BTreeMap<i32, Scope> = self
            .proofs
            .iter()
            .filter_map(|(partition, proof)| Some((*partition, proof.scope()?.clone())))
            .collect();
        let scopes = Arc::new(scopes);
        let names = self.names;
        let mut seen = stream::iter(sorted)
            .map(|entry| {
                let scopes = scopes.clone();
                async move {
                    let entry = entry.map_err(VerifyError::Temporary)?;
                    let looked = look(store, names, &scopes, &entry).await;
                    Ok::<_, VerifyError>((entry, looked))
                }
            })
            .buffered(READERS_MAX);
        let mut open: Option<(i32, Group)> = None;
        while let Some(next) = seen.next().await {
            let (entry, looked) = next?;
            self.progress.done += 1;
            self.output.progress(self.progress);
            if let Some(name) = entry.name {
                let (start, end) = (name.first, name.last + 1);
                let is_open = open.as_ref().is_some_and(|(partition, group)| {
                    (*partition, group.start, group.end) == (name.partition, start, end)
                });
                if !is_open {
                    self.close(open.take()).await?;
                    let group = Group {
                        start,
                        end,
                        ..Group::default()
                    };
                    open = Some((name.partition, group));
                }
                self.proof(name.partition);
            }
            match (looked, &mut open) {
                (Looked::Member(member), Some((_, group))) => group.members.push(*member),
                (Looked::Unread(finding), Some((_, group))) if entry.name.is_some() => {
                    group.unread.push(entry.key);
                    self.tell(&finding)?;
                }
                (Looked::Found(finding) | Looked::Unread(finding), _) => self.tell(&finding)?,
                (Looked::Gone | Looked::Member(_), _) => {}
            }
        }
        self.close(open).await
    }

    fn proof(&mut self, partition: i32) -> &mut PartitionProof {
        let since_ms = self.question.since_ms;
        let proof = self.proofs.entry(partition);
        proof.or_insert_with(|| PartitionProof::new(partition, None, since_ms))
    }

    /// Judges a batch whose objects have all been looked at.
    async fn close(&mut self, group: Option<(i32, Group)>) -> Result<(), VerifyError> {
        let Some((partition, group)) = group else {
            return Ok(());
        };
        if group.members.is_empty() && group.unread.is_empty() {
            return Ok(());
        }
        let proof = self.proof(partition);
        let scope = proof.scope().cloned();
        let (findings, comparable) = proof.batch(group);
        for finding in findings {
            self.tell(&finding)?;
        }
        if let (Some(comparison), Some(batch), Some(scope)) =
            (&mut self.comparison, comparable, scope)
        {
            let (findings, compared) = comparison.batch(&scope, &batch).await;
            self.proof(partition).totals.compared += compared;
            for finding in findings {
                self.tell(&finding)?;
            }
        }
        Ok(())
    }

    async fn finish(
        &mut self,
        before: &Checkpoints,
        after: &Checkpoints,
    ) -> Result<(), VerifyError> {
        let partitions: Vec<i32> = self.proofs.keys().copied().collect();
        for &partition in &partitions {
            let key = self.names.checkpoint(partition);
            let is_told = before.contains_key(&partition);
            let proof = self.proof(partition);
            let scope = proof.scope().cloned();
            let findings = proof.finish(&key);
            // Why there is no scope was told at the beginning.
            for finding in findings.into_iter().filter(|_| scope.is_some() || !is_told) {
                self.tell(&finding)?;
            }
            if let (Some(comparison), Some(scope)) = (&mut self.comparison, scope) {
                for finding in comparison.holes(&scope).await {
                    self.tell(&finding)?;
                }
            }
        }
        if let Some(comparison) = &self.comparison {
            comparison.close().await;
        }
        let claimed = before
            .values()
            .chain(after.values())
            .flatten()
            .map(|checkpoint| checkpoint.partitions);
        for partition in 0..claimed.max().unwrap_or(0) {
            if !self.proofs.contains_key(&partition) {
                let why = "there is neither checkpoint nor object of this partition, which the topic had when the group began: it was never claimed, or all of it was removed";
                let key = self.names.checkpoint(partition);
                self.tell(
                    &Finding::new(Kind::Unread, why)
                        .of(partition)
                        .in_object(&key),
                )?;
            }
        }
        if self.proofs.is_empty() {
            let why = format!(
                "there is neither checkpoint nor object of the group {} and the topic {}: there is nothing to prove",
                self.names.group, self.names.topic
            );
            self.tell(&Finding::new(Kind::Unread, why))?;
        }
        Ok(())
    }
}
