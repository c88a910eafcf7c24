//! Uploader: batches become objects.
//!
//! Receives [`Batch`] from the accumulator, and replies when it has it. Sends [`Begin`] to the
//! checkpoint actor before anything is uploaded, [`Landed`] when all objects are there (with the
//! next batch's intent, so that one swap does both), [`Upset`] when an upload cannot be finished,
//! [`Holes`] where nothing but holes was read, and [`Closed`] behind the last batch of a claim.
//! Owns the batches that wait: partitions upload concurrently, one batch of each at a time, one
//! object of it after another. Requests are repeated until they are answered. When it fails, the
//! whole generation is restarted; what was begun is pending in the checkpoint and is read again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::fut::wrap_future;
use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, MailboxError,
    ResponseFuture,
};
use bytes::Bytes;
use slog::{Logger, debug, error, info, warn};
use tokio::sync::Notify;

use crate::fault::{self, Step, Stepped, Way};
use crate::landing::claims::{Claims, Holding, Purpose};
use crate::landing::cpu::{off_thread, on_cpu};
use crate::landing::offsets::OffsetSet;
use crate::landing::open_batch::new_data_file;
use crate::landing::parquet_file::{
    Codec, DEAD_LETTERS_OFFSET_COLUMN, FileWriter, ParquetFileError, dead_letters_schema,
    fingerprint, only, read_back,
};
use crate::landing::patience::{Patience, Question};
use crate::landing::protocol::batch::Intent;
use crate::landing::protocol::footer::{BatchFooter, Footer};
use crate::landing::protocol::keys::Names;
use crate::landing::protocol::passage::{
    Passage, PassageAction, PassageEvent, PassagePlan, continues,
};
use crate::landing::protocol::upload::{UploadAction, UploadEvent, UploadPlan};
use crate::logging::events;
use crate::messages::{
    Batch, BatchFile, Begin, ClaimId, Closed, Drain, Gone, Holes, Landed, Sealed, Upset,
};
use crate::status::{LandedFile, Pulse, Status, now_ms};
use crate::store::{Condition, ObjectStore, StoreError};

/// What the uploader is made with.
#[derive(Debug, Clone)]
pub struct UploaderParts {
    /// Where objects go.
    pub store: Stepped<dyn ObjectStore>,
    /// How they are named.
    pub names: Names,
    /// How files are encoded that must be made again.
    pub codec: Codec,
    /// Which claims count.
    pub claims: Claims,
    /// The checkpoint actor.
    pub checkpoint: CheckpointRecipients,
    /// Patience with the store.
    pub patience: Patience,
    /// Counters.
    pub status: Arc<Status>,
    /// Life sign.
    pub pulse: Arc<Pulse>,
    /// Log.
    pub log: Logger,
}

/// The ways to the checkpoint actor.
#[derive(Debug, Clone)]
pub struct CheckpointRecipients {
    /// The intent before.
    pub begin: Way<Begin>,
    /// The proof after.
    pub landed: Way<Landed>,
    /// Holes behind the last batch of a claim.
    pub holes: Way<Holes>,
    /// What cannot be finished.
    pub upset: Way<Upset>,
    /// Claims whose last batch has landed.
    pub closed: Way<Closed>,
}

/// The actor.
#[derive(Debug)]
pub struct Uploader {
    parts: Arc<UploaderParts>,
    /// By partition: batches that wait behind the one that is uploaded. Their number is limited
    /// by the budget, of which each holds a part. An entry exists while a batch is uploaded.
    waiting: HashMap<i32, VecDeque<Batch>>,
    /// Wakes who waits for all to have landed.
    idle: Arc<Notify>,
}

/// A batch on its way.
#[derive(Debug)]
struct Travelling {
    batch: Batch,
    passage: Passage,
    holding: Holding,
    /// Begun in the swap that finishes it.
    next: Option<Intent>,
    /// The objects that this writer created.
    created: Vec<LandedFile>,
}

/// How a batch's way ended.
#[derive(Debug)]
enum Outcome {
    /// It landed, and whether the batch behind it was begun in the same swap.
    Landed { next_begun: bool },
    /// Its claim has ended.
    Dropped,
}

/// Why the actor ends.
#[derive(Debug, thiserror::Error)]
enum UploadError {
    #[error(transparent)]
    Encode(#[from] ParquetFileError),
    #[error("the checkpoint actor is gone")]
    Gone(#[from] MailboxError),
}

impl Uploader {
    /// An uploader with nothing to do.
    pub fn new(parts: UploaderParts) -> Self {
        Self {
            parts: Arc::new(parts),
            waiting: HashMap::new(),
            idle: Arc::default(),
        }
    }

    /// Uploads a batch, then those behind it, as a future of the actor's own: its panic is the
    /// actor's.
    fn upload(&mut self, batch: Batch, is_begun: bool, context: &mut Context<Self>) {
        let parts = Arc::new(self.parts.for_piece());
        let finishing = parts.clone();
        let partition = batch.claim.partition;
        let place = async move { parts.place(batch, is_begun).await };
        let work = wrap_future::<_, Self>(place).then(move |placed, actor, _| {
            // The batch that waits behind it is begun by the swap that finishes this one.
            let placed = placed.map(|placed| {
                placed.map(|mut placed| {
                    placed.next = actor.next_intent(&placed.batch);
                    placed
                })
            });
            let parts = finishing;
            wrap_future::<_, Self>(async move {
                match placed? {
                    Some(placed) => parts.finish(placed).await,
                    None => Ok(Outcome::Dropped),
                }
            })
        });
        context.spawn(work.map(move |outcome, actor, context| match outcome {
            Ok(outcome) => actor.uploaded(partition, &outcome, context),
            Err(error) => {
                error!(actor.parts.log, "uploader ends"; "error" => %error);
                context.stop();
            }
        }));
    }

    fn uploaded(&mut self, partition: i32, outcome: &Outcome, context: &mut Context<Self>) {
        let is_begun = matches!(outcome, Outcome::Landed { next_begun: true });
        match self
            .waiting
            .get_mut(&partition)
            .and_then(VecDeque::pop_front)
        {
            Some(batch) => self.upload(batch, is_begun, context),
            None => {
                self.waiting.remove(&partition);
                if self.waiting.is_empty() {
                    self.parts.pulse.waits("batches");
                    self.idle.notify_waiters();
                }
            }
        }
    }

    fn next_intent(&self, batch: &Batch) -> Option<Intent> {
        let next = self.waiting.get(&batch.claim.partition)?.front()?;
        let is_same_claim = next.claim == batch.claim;
        (is_same_claim && continues(batch.end, next.start, &next.keys))
            .then(|| self.parts.intent(next))
    }
}

impl UploaderParts {
    /// The same for one batch, with a life sign of its own: uploads of other partitions go on
    /// beside it.
    fn for_piece(&self) -> Self {
        let pulse = self.pulse.piece();
        Self {
            patience: self.patience.of_piece(pulse.clone()),
            pulse,
            ..self.clone()
        }
    }

    /// Begins a batch, unless that is done, and brings its objects into the store. `None`: its
    /// claim has ended.
    async fn place(&self, batch: Batch, is_begun: bool) -> Result<Option<Travelling>, UploadError> {
        self.pulse.works();
        let claim = batch.claim;
        let Some(holding) = self.claims.holding(claim) else {
            debug!(self.log, "batch dropped, its claim has ended"; "partition" => claim.partition, "offset" => batch.start);
            return Ok(None);
        };
        let (passage, action) = Passage::new(plan(&batch, &holding, is_begun));
        let mut travelling = Travelling {
            batch,
            passage,
            holding,
            next: None,
            created: Vec::new(),
        };
        let last = self.travel(&mut travelling, action).await?;
        Ok((last == PassageAction::Placed).then_some(travelling))
    }

    /// Lets the checkpoint say that a batch has landed.
    async fn finish(&self, mut placed: Travelling) -> Result<Outcome, UploadError> {
        let next_begun = placed.next.is_some();
        let action = placed.passage.step(PassageEvent::Told);
        Ok(match self.travel(&mut placed, action).await? {
            PassageAction::Done => Outcome::Landed { next_begun },
            _ => Outcome::Dropped,
        })
    }

    /// Does what the protocol says, until the batch is placed, done or dropped.
    async fn travel(
        &self,
        travelling: &mut Travelling,
        mut action: PassageAction,
    ) -> Result<PassageAction, UploadError> {
        let claim = travelling.batch.claim;
        loop {
            let event = match action {
                PassageAction::Placed | PassageAction::Done | PassageAction::Dropped => {
                    return Ok(action);
                }
                PassageAction::Upload(action) => {
                    PassageEvent::Upload(self.bring(travelling, action).await?)
                }
                told => self.tell_checkpoint(travelling, claim, told).await?,
            };
            self.pulse.works();
            action = travelling.passage.step(event);
        }
    }

    /// Says something to the checkpoint actor, which may wait for the store: no hang of ours.
    async fn tell_checkpoint(
        &self,
        travelling: &mut Travelling,
        claim: ClaimId,
        action: PassageAction,
    ) -> Result<PassageEvent, UploadError> {
        let _waiting = self.pulse.waiting("the checkpoint");
        let Travelling { batch, created, .. } = &*travelling;
        let sealed = match action {
            PassageAction::Begin => {
                let intent = self.intent(batch);
                let begin = self.checkpoint.begin.send(Begin { claim, intent });
                begin.await?
            }
            PassageAction::Landed => {
                let landed = Landed {
                    claim,
                    last: batch.last,
                    next: travelling.next.clone(),
                };
                let sealed = self.checkpoint.landed.send(landed).await?;
                if sealed == Sealed::Yes {
                    self.tell(batch, created);
                }
                sealed
            }
            PassageAction::Holes { to } => {
                self.checkpoint.holes.send(Holes { claim, to }).await?;
                return Ok(PassageEvent::Told);
            }
            PassageAction::Upset(reason) => {
                self.checkpoint.upset.send(Upset { claim, reason }).await?;
                return Ok(PassageEvent::Told);
            }
            _ => {
                self.checkpoint.closed.send(Closed { claim }).await?;
                return Ok(PassageEvent::Told);
            }
        };
        Ok(PassageEvent::Sealed(sealed == Sealed::Yes))
    }

    /// Creates or reads an object of a batch.
    async fn bring(
        &self,
        travelling: &mut Travelling,
        action: UploadAction,
    ) -> Result<UploadEvent, UploadError> {
        let Travelling {
            batch,
            holding,
            created,
            ..
        } = travelling;
        match action {
            UploadAction::Create {
                index,
                offsets,
                gap,
            } => {
                let rows = offsets.len();
                if let (Some([from, to]), None) = (gap, lost(holding)) {
                    warn!(self.log, "records of a batch that was begun were compacted away, which its dead letters record";
                        "partition" => batch.claim.partition, "offset" => from, "end" => to);
                }
                let body = fault::within(Step::PrepareObject, || {
                    self.body(batch, holding, index, offsets, gap)
                });
                let body = body.await?;
                let bytes = body.len() as u64;
                let key = &batch.keys[index];
                let event = self.create(creation(batch, index), key, body).await;
                if event == UploadEvent::Created {
                    created.push(LandedFile {
                        key: key.clone(),
                        rows,
                        bytes,
                        landed_at_ms: now_ms(),
                    });
                }
                Ok(event)
            }
            UploadAction::Look { index } => Ok(self.look(&batch.keys[index]).await),
            // The passage makes an end of every other.
            _ => Ok(UploadEvent::Absent),
        }
    }

    /// The file for a key: the one at hand where it holds just these offsets, else made again
    /// from it.
    async fn body(
        &self,
        batch: &Batch,
        holding: &Holding,
        index: usize,
        offsets: OffsetSet,
        gap: Option<[i64; 2]>,
    ) -> Result<Bytes, ParquetFileError> {
        let lost = lost(holding);
        let is_dead_letters = index + 1 == batch.keys.len();
        let file = if is_dead_letters {
            batch.dead_letters.as_ref()
        } else {
            batch.data.get(index)
        };
        if let Some(file) = file.filter(|file| file.offsets == offsets && gap == lost) {
            return Ok(file.body.clone());
        }
        let schema = if is_dead_letters {
            dead_letters_schema()
        } else {
            batch.layout.schema()
        };
        let footer = Footer::new(
            (*holding.identity).clone(),
            fingerprint(&schema),
            offsets.digest(),
            is_dead_letters,
            gap,
            BatchFooter {
                start: batch.start,
                end: batch.end,
                keys: batch.keys.clone(),
                layout: (*batch.layout).clone(),
                offsets: batch.read.digest(),
            },
        );
        let (codec, layout, file) = (self.codec, batch.layout.clone(), file.cloned());
        let remade = off_thread(move || match file {
            Some(BatchFile { body, .. }) => only(body, &offsets, codec, &footer),
            None if is_dead_letters => {
                FileWriter::new(schema, DEAD_LETTERS_OFFSET_COLUMN, codec)?.finish(&footer)
            }
            None => new_data_file(&layout, codec)?.finish(&footer),
        });
        remade.await?
    }

    /// Creates an object, however often it must be asked; finds out what is there where one is.
    async fn create(&self, step: Step, key: &str, body: Bytes) -> UploadEvent {
        let mut asking = self.patience.ask();
        loop {
            match self
                .store
                .at(step)
                .put(key, body.clone(), Some(Condition::Absent))
                .await
            {
                Ok(_) => {
                    asking.answered();
                    return UploadEvent::Created;
                }
                Err(StoreError::Precondition) => match self.look_at(key).await {
                    None => {
                        let error = "it was there (412), and is not";
                        asking.failed(Question::Key("creating", key), &error).await;
                    }
                    // An answer of ours was lost.
                    Some(found) if found == body => {
                        asking.answered();
                        return UploadEvent::Created;
                    }
                    found => {
                        asking.answered();
                        return judge(found).await;
                    }
                },
                Err(error) => asking.failed(Question::Key("creating", key), &error).await,
            }
        }
    }

    async fn look(&self, key: &str) -> UploadEvent {
        judge(self.look_at(key).await).await
    }

    async fn look_at(&self, key: &str) -> Option<Bytes> {
        let mut asking = self.patience.ask();
        loop {
            match self.store.at(Step::LookAtObject).get(key).await {
                Ok(object) => {
                    asking.answered();
                    return Some(object.body);
                }
                Err(StoreError::NotFound) => {
                    asking.answered();
                    return None;
                }
                Err(error) => asking.failed(Question::Key("reading", key), &error).await,
            }
        }
    }

    fn intent(&self, batch: &Batch) -> Intent {
        Intent {
            start: batch.start,
            end: batch.end,
            keys: batch.keys.clone(),
            layout: (*batch.layout).clone(),
            gap: None,
            data: self.names.data.clone(),
            dead_letters: self.names.dead_letters.clone(),
        }
    }

    /// Log, counters and status of a batch that landed.
    fn tell(&self, batch: &Batch, created: &[LandedFile]) {
        let claim: ClaimId = batch.claim;
        let topic = self.names.topic.as_str();
        let number = claim.partition.to_string();
        let labels = [("topic", topic), ("partition", number.as_str())];
        let records = batch.read.len();
        self.status
            .count("groundtrack_records_landed_total", &labels, records);
        for (cause, count) in &batch.causes {
            self.status.count(
                "groundtrack_dead_letters_total",
                &[("topic", topic), ("cause", cause.as_str())],
                *count,
            );
        }
        let partition = self.status.partition(topic, claim.partition);
        partition
            .records_landed
            .fetch_add(records, Ordering::Relaxed);
        partition.dead_letters.fetch_add(
            batch.causes.iter().map(|(_, count)| count).sum(),
            Ordering::Relaxed,
        );
        partition.landed_at_ms.store(now_ms(), Ordering::Relaxed);
        if let Some(last) = batch.last {
            partition
                .last_timestamp_ms
                .store(last.timestamp_ms, Ordering::Relaxed);
        }
        for file in created {
            self.status
                .count("groundtrack_files_landed_total", &[("topic", topic)], 1);
            self.status.count(
                "groundtrack_landed_bytes_total",
                &[("topic", topic)],
                file.bytes,
            );
            info!(self.log, "file landed"; events::LANDED, "key" => &file.key, "rows" => file.rows,
                "bytes" => file.bytes, "partition" => claim.partition, "offset" => batch.start,
                "seconds" => format!("{:.3}", batch.read_at.elapsed().as_secs_f64()));
            partition.set_last_file(file.clone());
            self.status.landed(file.clone());
        }
    }
}

impl Actor for Uploader {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.parts.pulse.waits("batches");
    }
}

impl Handler<Batch> for Uploader {
    type Result = ();

    fn handle(&mut self, batch: Batch, context: &mut Self::Context) {
        match self.waiting.get_mut(&batch.claim.partition) {
            Some(waiting) => waiting.push_back(batch),
            None => {
                self.waiting.insert(batch.claim.partition, VecDeque::new());
                self.upload(batch, false, context);
            }
        }
    }
}

impl Handler<Drain> for Uploader {
    type Result = ResponseFuture<Result<(), Gone>>;

    /// Replies when all that it was given has landed. Only a wait: nothing of the data's way runs
    /// in this task, so that a panic there is still the actor's.
    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        let idle = (!self.waiting.is_empty()).then(|| self.idle.clone().notified_owned());
        Box::pin(async move {
            if let Some(idle) = idle {
                idle.await;
            }
            Ok(())
        })
    }
}

/// What a batch's way begins with.
fn plan(batch: &Batch, holding: &Holding, is_begun: bool) -> PassagePlan {
    let dead_letters = batch.dead_letters.as_ref().map(|file| file.offsets.clone());
    let data = batch.data.iter().map(|file| file.offsets.clone());
    let word = match &holding.purpose {
        Purpose::Replay(replay) => replay.pending.gap,
        Purpose::Land { .. } => None,
    };
    PassagePlan {
        upload: UploadPlan {
            identity: (*holding.identity).clone(),
            start: batch.start,
            end: batch.end,
            keys: batch.keys.clone(),
            planned: data.chain([dead_letters.unwrap_or_default()]).collect(),
            read: batch.read.clone(),
            lost: lost(holding),
            word,
        },
        is_begun,
        closes_claim: batch.closes_claim,
    }
}

/// The offsets of a replay's range that Kafka no longer has.
fn lost(holding: &Holding) -> Option<[i64; 2]> {
    match &holding.purpose {
        Purpose::Replay(replay) => replay.lost,
        Purpose::Land { .. } => None,
    }
}

/// Which step the creation of a batch's object is.
fn creation(batch: &Batch, index: usize) -> Step {
    match index {
        _ if index + 1 == batch.keys.len() => Step::CreateDeadLetters,
        0 => Step::CreateData,
        _ => Step::CreateLaterData,
    }
}

/// What an object that exists holds.
async fn judge(found: Option<Bytes>) -> UploadEvent {
    let Some(body) = found else {
        return UploadEvent::Absent;
    };
    match on_cpu(Step::ReadBack, move || read_back(body)).await {
        Ok((Some(footer), offsets)) => UploadEvent::Exists(Ok(Box::new(footer)), offsets),
        Ok((None, offsets)) => {
            UploadEvent::Exists(Err("it has no footer of groundtrack's".to_owned()), offsets)
        }
        Err(error) => UploadEvent::Exists(Err(error.to_string()), OffsetSet::default()),
    }
}
