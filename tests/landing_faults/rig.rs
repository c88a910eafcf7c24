//! The stages that ship, between a log in memory and a store that fails as it is told.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use groundtrack::budget::Budget;
use groundtrack::config::{Column, ColumnSource, ColumnType, Config};
use groundtrack::demo;
use groundtrack::fault::{self, Stepped};
use groundtrack::generation::{ActorSet, Generation};
use groundtrack::landing::claims::Claims;
use groundtrack::landing::layout::Layout;
use groundtrack::landing::offsets::{OffsetDigest, OffsetSet};
use groundtrack::landing::parquet_file::read_back;
use groundtrack::landing::protocol::footer::Footer;
use groundtrack::landing::protocol::keys::Names;
use groundtrack::landing::stages::{Shared, Stages};
use groundtrack::messages::{
    BlockEnd, Claim, ClaimAnswer, ClaimId, Command, RecordBlock, Records, Release, STOPPED_RECHECK,
};
use groundtrack::status::{PartitionState, Status};
use groundtrack::store::ObjectStore;
use groundtrack::store::faulty::FaultyStore;
use slog::Drain;
use tokio_util::sync::CancellationToken;

use crate::kafka::Kafka;
use crate::witness::Witness;

pub const TOPIC: &str = "t";
/// Three batches of a log of fourteen records, the first two closed at once.
const MAX_ROWS: u64 = 5;
/// Of the clock that jumps: no case waits so long unless it waits for ever.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Planned faults of the actors are the process's: such a case runs alone.
static FAULTS: RwLock<()> = RwLock::new(());

/// Runs a case on a clock that jumps over every wait.
pub fn run<T>(case: impl Future<Output = T>) -> T {
    let _shared = FAULTS.read().unwrap_or_else(PoisonError::into_inner);
    on_a_jumping_clock(case)
}

/// Runs a case that plans faults of the actors.
pub fn run_alone<T>(case: impl Future<Output = T>) -> T {
    let _alone = FAULTS.write().unwrap_or_else(PoisonError::into_inner);
    let _cleared = Cleared;
    on_a_jumping_clock(case)
}

struct Cleared;

impl Drop for Cleared {
    fn drop(&mut self) {
        fault::clear();
    }
}

fn on_a_jumping_clock<T>(case: impl Future<Output = T>) -> T {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
    };
    actix::System::with_tokio_rt(runtime).block_on(async {
        let case = tokio::time::timeout(PATIENCE, case);
        case.await.expect("the case waits for ever")
    })
}

/// A topic, a bucket, and what is configured.
pub struct Rig {
    pub kafka: Kafka,
    pub witness: Arc<Witness>,
    pub store: Arc<FaultyStore>,
    pub config: Config,
}

/// One generation of a process.
pub struct Member {
    pub actors: ActorSet,
    pub stages: Stages,
    pub claims: Claims,
    pub status: Arc<Status>,
    heard: Receiver<Command>,
    /// Of that what nobody has taken yet.
    told: RefCell<Vec<Command>>,
    kafka: Kafka,
    budget: Budget,
    layout: Arc<Layout>,
}

/// How the reading of a partition ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// All of the log has landed.
    Landed,
    /// It stopped, for this cause.
    Stopped(String),
}

fn log() -> slog::Logger {
    let to = slog_term::PlainSyncDecorator::new(slog_term::TestStdoutWriter);
    let drain = slog_term::FullFormat::new(to).build();
    slog::Logger::root(drain.fuse(), slog::o!())
}

impl Rig {
    /// A log of so many records, which has not landed.
    pub fn new(records: i64) -> Self {
        let listen = ([127, 0, 0, 1], 0).into();
        let mut config = demo::configuration(Path::new("/"), "", "", TOPIC, listen);
        config.table.extra = false;
        config.table.columns = vec![Column {
            name: "n".into(),
            source: ColumnSource::Path(vec!["n".into()]),
            kind: ColumnType::Int64,
            nullable: false,
        }];
        config.files.max_rows = MAX_ROWS;
        config.files.max_age = PATIENCE;
        let witness = Arc::new(Witness::new(Names::of(&config)));
        Self {
            kafka: Kafka::with(records),
            store: Arc::new(FaultyStore::new(witness.clone(), "checkpoints")),
            witness,
            config,
        }
    }

    /// Starts a generation.
    pub fn member(&self) -> Member {
        self.member_on(self.store.clone())
    }

    /// Starts a generation on this store.
    pub fn member_on(&self, store: Arc<dyn ObjectStore>) -> Member {
        let status = Status::new();
        let generation = Generation {
            config: Arc::new(self.config.clone()),
            status: status.clone(),
            group: status.group("landing"),
            log: log(),
            number: 1,
            until_caught_up: false,
            drain: CancellationToken::new(),
            stop: CancellationToken::new(),
        };
        let (commands, heard) = std::sync::mpsc::channel();
        let claims = Claims::default();
        let budget = Budget::new(1 << 30);
        let layout = Layout::of(&self.config);
        let shared = Shared {
            generation,
            store: Stepped::new(store),
            broker: Stepped::new(Arc::new(self.kafka.clone())),
            commands: commands.into(),
            claims: claims.clone(),
            budget: budget.clone(),
            layout: layout.clone(),
        };
        let mut actors = ActorSet::default();
        let stages = Stages::start(&mut actors, &shared);
        Member {
            actors,
            stages,
            claims,
            status,
            heard,
            told: RefCell::default(),
            kafka: self.kafka.clone(),
            budget,
            layout,
        }
    }

    /// Holds what is in the bucket to the log: each record in exactly one row or dead letter, each
    /// object as its footer says, no object without its batch, batches that tile, a checkpoint at
    /// the log's end, and no write against the rules. Returns the footers by key.
    pub async fn audit(&self, partition: i32) -> BTreeMap<String, Footer> {
        assert_eq!(self.witness.wrongs(), Vec::<String>::new());
        let checkpoint = self.witness.checkpoint(partition).await.unwrap();
        let end = self.kafka.end();
        assert_eq!(checkpoint.next_offset, end);
        assert_eq!((&checkpoint.pending, &checkpoint.stopped), (&None, &None));
        let mut found: BTreeMap<i64, String> = BTreeMap::new();
        let mut footers = BTreeMap::new();
        let folders: BTreeSet<String> = checkpoint
            .roots
            .iter()
            .flat_map(|root| [root.data.clone(), root.dead_letters.clone()])
            .collect();
        for folder in &folders {
            for key in self.witness.keys(folder).await {
                let named = Names::of(&self.config).range_in(&key).unwrap();
                if named.partition != partition {
                    continue;
                }
                let object = self.witness.get(&key).await.unwrap();
                let (footer, offsets) = read_back(object.body).unwrap();
                let footer = footer.unwrap();
                assert_eq!(footer.file.offsets, offsets.digest(), "{key}");
                assert!(footer.batch.keys.contains(&key), "{key}");
                assert_eq!(
                    (named.first, named.last + 1),
                    (footer.batch.start, footer.batch.end)
                );
                for offset in offsets.iter() {
                    let before = found.insert(offset, key.clone());
                    assert_eq!(before, None, "offset {offset} is also in {key}");
                }
                footers.insert(key, footer);
            }
        }
        self.audit_batches(&footers, checkpoint.first_offset, end);
        let low = self.kafka.state().low;
        for (offset, record) in self.kafka.read(low.max(checkpoint.first_offset), end) {
            let key = found.get(&offset);
            let key = key.unwrap_or_else(|| panic!("offset {offset} is nowhere: {found:?}"));
            assert_eq!(
                key.starts_with("dead"),
                record.is_reject(),
                "{offset} in {key}"
            );
        }
        if let Some(last) = checkpoint.last {
            let record = self.kafka.read(last.offset, last.offset + 1).pop();
            let (offset, record) = record.expect("the last record is in the log");
            assert_eq!(
                (last.offset, last.timestamp_ms, last.hash),
                (offset, record.timestamp_ms, record.hash())
            );
        }
        footers
    }

    fn audit_batches(&self, footers: &BTreeMap<String, Footer>, first: i64, end: i64) {
        let mut batches: BTreeMap<i64, (OffsetDigest, &Footer)> = BTreeMap::new();
        for footer in footers.values() {
            let none = || (OffsetDigest::default(), footer);
            let (sum, first) = batches.entry(footer.batch.start).or_insert_with(none);
            sum.count += footer.file.offsets.count;
            sum.sum = sum.sum.wrapping_add(footer.file.offsets.sum);
            assert_eq!(first.batch.end, footer.batch.end);
            assert_eq!(first.batch.keys, footer.batch.keys);
            for key in &footer.batch.keys[..footer.batch.keys.len() - 1] {
                assert!(footers.contains_key(key), "{key} is missing");
            }
        }
        let reached = batches.values().fold(first, |at, (sum, footer)| {
            assert_eq!(footer.batch.start, at, "batches tile");
            let has_gap = footers
                .values()
                .any(|other| other.batch.start == at && other.file.gap.is_some());
            assert!(
                has_gap || *sum == footer.batch.offsets,
                "batch {at} is whole"
            );
            footer.batch.end
        });
        assert_eq!(reached, end, "the batches reach the log's end");
    }
}

impl Member {
    /// Claims the partition and reads it to the log's end, as the consumer's thread would: again
    /// whenever it is told to, until all has landed or it stopped.
    pub async fn land(&self, partition: i32) -> Ended {
        loop {
            if let Some(ended) = self.one_claim(partition).await {
                return ended;
            }
        }
    }

    async fn one_claim(&self, partition: i32) -> Option<Ended> {
        let answer = self.claim(partition).await;
        let end = self.kafka.end();
        let claim = match answer {
            ClaimAnswer::Land { claim, from } => {
                self.send(self.block(claim, from, end, None)).await;
                claim
            }
            ClaimAnswer::Replay {
                claim,
                from,
                end,
                layout,
                forced,
            } => {
                self.send(self.block(claim, from, end, Some((layout, forced))))
                    .await;
                claim
            }
            ClaimAnswer::Stopped { .. } => return Some(Ended::Stopped(self.cause(partition))),
            // The claim was overtaken, which nobody did.
            ClaimAnswer::Dropped => panic!("dropped"),
        };
        match self.end_of(claim).await {
            None => Some(Ended::Landed),
            Some(STOPPED_RECHECK) => Some(Ended::Stopped(self.cause(partition))),
            Some(after) => {
                tokio::time::sleep(after).await;
                None
            }
        }
    }

    pub async fn claim(&self, partition: i32) -> ClaimAnswer {
        let claim = self.stages.checkpoint.claim.send(Claim { partition });
        claim.await.unwrap()
    }

    pub async fn release(&self, partition: i32) {
        let partitions = vec![partition];
        let release = self.stages.checkpoint.release.send(Release { partitions });
        release.await.unwrap();
    }

    pub async fn send(&self, block: RecordBlock) {
        self.stages.records.send(block).await.unwrap();
    }

    /// All that the log has of [from, to), which closes the claim.
    pub fn block(
        &self,
        claim: ClaimId,
        from: i64,
        to: i64,
        pinned: Option<(Arc<Layout>, Arc<OffsetSet>)>,
    ) -> RecordBlock {
        let mut records = Records::default();
        for (offset, record) in self.kafka.read(from, to) {
            let none = [].into_iter();
            records.push(offset, record.timestamp_ms, None, Some(&record.value), none);
        }
        let (layout, forced) = pinned.unwrap_or_else(|| (self.layout.clone(), Arc::default()));
        RecordBlock {
            claim,
            layout,
            forced,
            start: from,
            position: to,
            read_at: Instant::now(),
            records,
            end: BlockEnd::Close,
            grant: self.budget.take(1000),
        }
    }

    /// Waits until the claim has ended; when to claim again, if so.
    pub async fn end_of(&self, claim: ClaimId) -> Option<Duration> {
        while self.claims.is_current(claim) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // A claim that is to be made again is told right after its end, without a wait between.
        // What is told of others is left to those who wait for them.
        let mut told = self.told.borrow_mut();
        told.extend(self.heard.try_iter());
        let ours = told.iter().position(
            |command| matches!(command, Command::Reclaim { claim: ended, .. } if *ended == claim),
        )?;
        match told.remove(ours) {
            Command::Reclaim { after, .. } => Some(after),
            _ => None,
        }
    }

    /// What the consumer's thread was told since it was last asked.
    pub fn heard(&self) -> Vec<Command> {
        let mut told = self.told.borrow_mut();
        told.extend(self.heard.try_iter());
        std::mem::take(&mut told)
    }

    pub fn cause(&self, partition: i32) -> String {
        match self.status.partition(TOPIC, partition).state() {
            PartitionState::Stopped(cause) => cause,
            state => panic!("stopped, but its state is {state:?}"),
        }
    }

    /// As SIGKILL.
    pub async fn kill(mut self) {
        self.actors.shut_down().await;
    }
}
