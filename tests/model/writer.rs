//! One process as it lands the partition: what its stages hold and say to each other. Whatever is
//! decided, `landing::protocol` decides; what is here is what the actors do about it.

use std::collections::VecDeque;
use std::sync::Arc;

use groundtrack::config::Start;
use groundtrack::landing::layout::Layout;
use groundtrack::landing::ledger::{decode, encode};
use groundtrack::landing::offsets::OffsetSet;
use groundtrack::landing::protocol::Now;
use groundtrack::landing::protocol::batch::Intent;
use groundtrack::landing::protocol::checkpoint::{Checkpoint, LastRecord, Pending};
use groundtrack::landing::protocol::claim::{
    Claim, ClaimAction, ClaimEvent, Claimed, Found, Terms,
};
use groundtrack::landing::protocol::footer::{BatchFooter, Footer, Identity};
use groundtrack::landing::protocol::held::{
    Ending, Held, Request, Settled, Task, Work, WorkAction, WorkEvent,
};
use groundtrack::landing::protocol::keys::Names;
use groundtrack::landing::protocol::passage::{
    Passage, PassageAction, PassageEvent, PassagePlan, continues,
};
use groundtrack::landing::protocol::swap::{Swap, SwapAction, SwapEvent, SwapOutcome};
use groundtrack::landing::protocol::upload::{UploadAction, UploadEvent, UploadPlan, UpsetReason};
use groundtrack::store::{Condition, ETag, StoreError};

use crate::model::Shared;
use crate::seeded::{Seed, version_of};
use crate::world::{File, Log, Put, Store};

mod desk;
mod pipeline;
mod uploader;

use self::desk::send;
use self::pipeline::fresh_batch;
use self::uploader::{file, intent, plan};

pub const TOPIC: &str = "t";
pub const PARTITION: i32 = 0;

/// How a process is configured, and its decoder's opinions.
#[derive(Debug, Clone)]
pub struct Setup {
    pub names: Names,
    pub layout: Arc<Layout>,
    /// The version: part of every footer.
    pub decoder: u8,
    /// Offsets that this decoder rejects.
    pub rejects: OffsetSet,
    /// Offsets that belong into the second folder, where a layout has folders.
    pub second: OffsetSet,
    /// Blocks that may wait between consumer and accumulator.
    pub blocks_max: usize,
}

impl Setup {
    pub(super) fn terms(&self, writer: String, skips: Vec<i64>, held_epoch: u64) -> Terms {
        Terms {
            topic: TOPIC.into(),
            partition: PARTITION,
            writer,
            data: self.names.data.clone(),
            dead_letters: self.names.dead_letters.clone(),
            layout: (*self.layout).clone(),
            start: Start::Earliest,
            skips,
            held_epoch,
        }
    }

    pub fn checkpoint_key(&self) -> String {
        self.names.checkpoint(PARTITION)
    }

    /// The Hive folder of a record.
    pub(super) fn folder(&self, layout: &Layout, offset: i64) -> &'static str {
        match (layout.partition_by.is_empty(), self.second.contains(offset)) {
            (true, _) => "",
            (false, false) => "date=1970-01-01/",
            (false, true) => "date=1970-01-02/",
        }
    }
}

/// What is around a writer's step.
pub struct Around<'a> {
    pub setup: &'a Setup,
    pub seed: Option<Seed>,
    pub store: &'a mut Shared<Store>,
    pub log: &'a Log,
    /// Puts that were sent and may take effect at any time.
    pub late: &'a mut Vec<Arc<Put>>,
    /// The operator's words so far.
    pub skips: &'a [i64],
    /// Every version that a checkpoint has had, where that is looked at.
    pub versions: Option<&'a mut Vec<String>>,
    pub index: usize,
}

/// How a put goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It takes effect and is answered.
    Answered,
    /// It takes effect, and the answer is lost.
    AnswerLost,
    /// No answer comes, and it may take effect at any time from now on.
    Late,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Writer {
    /// One more with each crash: a writer's name is unique.
    pub generation: u8,
    /// Whether it believes to have the partition.
    pub is_assigned: bool,
    /// Whether it is to be claimed.
    pub claim_due: bool,
    /// Why it stopped.
    pub stopped: Option<String>,
    pub desk: Option<Box<Desk>>,
    pub slot: Option<Box<Held>>,
    /// The claim that counts.
    pub holding: Option<Arc<Holding>>,
    /// The highest epoch that was held since the last crash.
    held_epoch: u64,
    forced: OffsetSet,
    pub reading: Option<Reading>,
    /// Between consumer and accumulator.
    pub blocks: VecDeque<Block>,
    pub queue: VecDeque<Arc<Batch>>,
    pub travelling: Option<Box<Travelling>>,
}

/// What the checkpoint actor is at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Desk {
    job: Job,
    io: Io,
    /// Revoked or claimed again meanwhile: the answer is dropped.
    is_overtaken: bool,
    /// Seeded: a listing taken before the checkpoint was read.
    listed: Option<Option<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Job {
    Claim(Box<Claim>),
    Work {
        work: Box<Work>,
        epoch: u64,
        asker: Asker,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Asker {
    /// The uploader's batch waits for the answer.
    Batch,
    /// The accumulator, which does not wait.
    Accumulator,
    /// A claim that passes a gap.
    Claim,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Io {
    Claim(ClaimAction),
    AskTopic,
    Put(Swap),
    Read(Swap),
}

/// What a claim holds: `landing::claims`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Holding {
    pub epoch: u64,
    identity: Identity,
    task: Task,
    /// Where the next batch begins.
    begin: i64,
    /// A replay's end, keys, layout and word.
    pending: Option<Pending>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reading {
    epoch: u64,
    pub next: i64,
    pub end: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Block {
    epoch: u64,
    position: i64,
    records: OffsetSet,
    log: u8,
    ends: bool,
    forced: OffsetSet,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Batch {
    epoch: u64,
    start: i64,
    end: i64,
    keys: Vec<String>,
    planned: Vec<OffsetSet>,
    read: OffsetSet,
    last: Option<LastRecord>,
    layout: Arc<Layout>,
    log: u8,
    closes_claim: bool,
}

/// A batch on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Travelling {
    passage: Passage,
    batch: Arc<Batch>,
    holding: Arc<Holding>,
    pub action: PassageAction,
    /// Whether the checkpoint actor has been asked.
    is_asked: bool,
    next: Option<Intent>,
    /// Seeded: objects were uploaded before the batch was begun.
    begins_late: bool,
    /// Seeded: puts that were sent before their turn.
    sent_ahead: bool,
}

pub(super) fn now() -> Now {
    Now::at(0)
}

impl Writer {
    pub fn name(&self, index: usize) -> String {
        format!("w{index}.{}", self.generation)
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.desk.is_none()
            && self.blocks.is_empty()
            && self.queue.is_empty()
            && self.travelling.is_none()
    }

    /// Whether the next I/O of the checkpoint actor is a put.
    pub fn desk_puts(&self) -> bool {
        matches!(&self.desk, Some(desk) if matches!(desk.io, Io::Put(_)))
    }

    /// Whether the uploader has an object to create (`Some(true)`) or to look at.
    pub fn object_puts(&self) -> Option<bool> {
        match &self.travelling.as_ref()?.action {
            PassageAction::Upload(UploadAction::Create { .. }) => Some(true),
            PassageAction::Upload(_) => Some(false),
            _ => None,
        }
    }

    /// Whether a claim of its own is under way that has read the checkpoint.
    pub fn is_claiming(&self) -> bool {
        self.desk.as_ref().is_some_and(|desk| {
            let is_claim = matches!(desk.job, Job::Claim(_));
            is_claim && desk.io != Io::Claim(ClaimAction::Read)
        })
    }

    /// Whether it holds a range that was begun before its claim, and so needs no begin.
    pub fn is_replaying(&self) -> bool {
        let holding = self.holding.as_ref();
        holding.is_some_and(|holding| holding.pending.is_some())
    }

    pub(super) fn is_current(&self, epoch: u64) -> bool {
        self.holding
            .as_ref()
            .is_some_and(|holding| holding.epoch == epoch)
    }

    pub(super) fn end_claim(&mut self, epoch: u64) {
        if self.is_current(epoch) {
            self.holding = None;
        }
    }

    // Assignment.

    pub fn assign(&mut self) {
        self.is_assigned = true;
        self.claim_due = true;
        self.stopped = None;
    }

    pub fn release(&mut self) {
        self.is_assigned = false;
        self.claim_due = false;
        self.stopped = None;
        self.holding = None;
        self.reading = None;
        if let Some(desk) = &mut self.desk {
            desk.is_overtaken = true;
        }
    }
}
