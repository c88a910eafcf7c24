//! Accumulator: rows of many blocks become files of batches.
//!
//! Receives [`RowBlock`] from the flattener. Sends [`Batch`] to the uploader when a batch is
//! closed (rows, bytes, age, too many folders, the end of its claim, no memory left), and
//! [`Holes`] to the checkpoint actor. Owns the open batch of each partition, with its files being
//! encoded in memory. When it fails, the whole generation is restarted: what was open is read
//! again from the checkpoint, which knows nothing of it yet.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::fut::wrap_future;
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseActFuture};
use actix::{ActorContext, ActorFuture};
use slog::{Logger, error, info, warn};

use crate::budget::Budget;
use crate::fault::{Step, Way};
use crate::landing::claims::{Claims, Purpose};
use crate::landing::cpu::on_cpu;
use crate::landing::open_batch::{CloseReason, OpenBatch, Rotation};
use crate::landing::parquet_file::ParquetFileError;
use crate::messages::{Batch, Drain, Gone, Holes, RowBlock};
use crate::status::{Pulse, Status};

/// How often ages are looked at: small against any sensible `max_age`, and nothing against a
/// core.
const TICK: Duration = Duration::from_millis(500);

/// What the accumulator is made with.
#[derive(Debug)]
pub struct AccumulatorParts {
    /// When and how batches are closed.
    pub rotation: Rotation,
    /// Which claims count.
    pub claims: Claims,
    /// Asked for room when it is used up.
    pub budget: Budget,
    /// Where batches go.
    pub uploader: Way<Batch>,
    /// Where holes are noted.
    pub checkpoint: Way<Holes>,
    /// Who is drained next.
    pub drain: Way<Drain>,
    /// Counters.
    pub status: Arc<Status>,
    /// Life sign.
    pub pulse: Arc<Pulse>,
    /// Log.
    pub log: Logger,
}

/// The actor.
#[derive(Debug)]
pub struct Accumulator {
    parts: AccumulatorParts,
    rotation: Arc<Rotation>,
    open: HashMap<i32, OpenBatch>,
    /// Where the next batch of a claim begins, once one of it was closed.
    begins: HashMap<i32, (u64, i64)>,
    /// Shared with every batch of the partition that has not landed yet.
    in_flight: HashMap<i32, Arc<()>>,
}

/// The actor ends when a stage behind it is gone or the encoder fails.
#[derive(Debug, thiserror::Error)]
enum AccumulatorError {
    #[error(transparent)]
    Encode(#[from] ParquetFileError),
    #[error("the next stage is gone")]
    Gone(#[from] actix::MailboxError),
}

/// The subscriber found no room in the budget.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct MakeRoom;

impl Accumulator {
    /// An accumulator without open batches.
    pub fn new(parts: AccumulatorParts) -> Self {
        let rotation = Arc::new(parts.rotation.clone());
        Self {
            parts,
            rotation,
            open: HashMap::new(),
            begins: HashMap::new(),
            in_flight: HashMap::new(),
        }
    }

    /// The open batch of a block's partition, or a new one; `None`: the claim no longer counts.
    fn batch_of(&mut self, block: &RowBlock) -> Option<OpenBatch> {
        let claim = block.claim;
        let holding = self.parts.claims.holding(claim)?;
        if let Some(open) = self
            .open
            .remove(&claim.partition)
            .filter(|open| open.claim() == claim)
        {
            return Some(open);
        }
        let begin = match &holding.purpose {
            Purpose::Replay(replay) => replay.start,
            Purpose::Land { begin } => match self.begins.get(&claim.partition) {
                Some((epoch, begin)) if *epoch == claim.epoch => *begin,
                _ => *begin,
            },
        };
        let grant = self.parts.budget.take(0);
        Some(OpenBatch::new(
            claim,
            holding,
            block.layout.clone(),
            begin,
            grant,
        ))
    }

    /// Partitions whose open batch is to be closed by age. One whose last batch has not landed yet
    /// goes on filling: closing it would only make files smaller.
    fn due(&self, now: Instant) -> Vec<i32> {
        let is_due = |(partition, open): (&i32, &OpenBatch)| {
            let waits = self.has_batch_in_flight(*partition);
            (!waits && open.is_due(self.rotation.max_age, now)).then_some(*partition)
        };
        self.open.iter().filter_map(is_due).collect()
    }

    fn has_batch_in_flight(&self, partition: i32) -> bool {
        has_batch_in_flight(&self.in_flight, partition)
    }

    /// Marks a closed batch as in flight, and remembers where the next one begins.
    fn sent_out(&mut self, reason: CloseReason, batch: &mut Batch) {
        let claim = batch.claim;
        batch.in_flight = self.in_flight.entry(claim.partition).or_default().clone();
        self.begins
            .insert(claim.partition, (claim.epoch, batch.end));
        self.parts.status.count(
            "groundtrack_batches_closed_total",
            &[("reason", reason.as_str())],
            1,
        );
        if reason == CloseReason::Folders {
            warn!(self.parts.log, "batch closed early, its records belong into too many folders";
                "partition" => claim.partition, "offset" => batch.end);
        }
        if reason == CloseReason::Memory {
            info!(self.parts.log, "batch closed early, the memory budget is used up";
                "partition" => claim.partition, "offset" => batch.end);
        }
    }

    /// Lets the status show what is open of this partition.
    fn show(&self, partition: i32) {
        let open = self.open.get(&partition).and_then(OpenBatch::shown);
        let topic = &self.rotation.names.topic;
        self.parts.status.partition(topic, partition).set_open(open);
    }

    /// Closes these partitions' batches and sends them on, with the context held.
    fn close_and_send(
        &mut self,
        partitions: &[i32],
        reason: CloseReason,
    ) -> impl ActorFuture<Self, Output = ()> + use<> {
        let rotation = self.rotation.clone();
        let opens: Vec<OpenBatch> = partitions
            .iter()
            .filter_map(|partition| self.open.remove(partition))
            .collect();
        for partition in partitions {
            self.show(*partition);
        }
        self.parts.pulse.works();
        let work = async move {
            on_cpu(Step::CloseBatch, move || {
                let close = |open: OpenBatch| Ok((reason, open.close(&rotation, false)?));
                opens
                    .into_iter()
                    .map(close)
                    .collect::<Result<Vec<_>, ParquetFileError>>()
            })
            .await
        };
        wrap_future::<_, Self>(work).then(|closed, actor, _| actor.send_out(closed, None))
    }

    /// Sends closed batches to the uploader, in order, and keeps the open one.
    fn send_out(
        &mut self,
        closed: Result<Vec<(CloseReason, Batch)>, ParquetFileError>,
        open: Option<OpenBatch>,
    ) -> impl ActorFuture<Self, Output = ()> + use<> {
        if let Some(open) = open {
            self.open.insert(open.claim().partition, open);
        }
        let closed = closed.map(|closed| {
            closed
                .into_iter()
                .map(|(reason, mut batch)| {
                    self.sent_out(reason, &mut batch);
                    batch
                })
                .collect::<Vec<_>>()
        });
        let uploader = self.parts.uploader.clone();
        let work = async move {
            for batch in closed? {
                uploader.send(batch).await?;
            }
            Ok::<_, AccumulatorError>(())
        };
        wrap_future::<_, Self>(work).map(|done, actor, context: &mut Context<Self>| {
            actor.parts.pulse.waits("rows");
            if let Err(error) = done {
                actor.end(&error, context);
            }
        })
    }

    fn end(&self, error: &AccumulatorError, context: &mut Context<Self>) {
        error!(self.parts.log, "accumulator ends"; "error" => %error);
        context.stop();
    }

    fn tick(&mut self, context: &mut Context<Self>) {
        let now = Instant::now();
        let claims = self.parts.claims.clone();
        let ended = |open: &OpenBatch| !claims.is_current(open.claim());
        let gone = self.open.extract_if(|_, open| ended(open));
        let gone: Vec<i32> = gone.map(|(partition, _)| partition).collect();
        for partition in gone {
            self.show(partition);
        }
        self.note_holes(now, context);
        let due = self.due(now);
        if !due.is_empty() {
            let work = self.close_and_send(&due, CloseReason::Age);
            context.wait(work);
        }
        context.notify_later(Tick, TICK);
    }

    fn note_holes(&mut self, now: Instant, context: &mut Context<Self>) {
        let max_age = self.rotation.max_age;
        // A checkpoint with a pending range notes no holes: they wait until that has landed.
        let in_flight = &self.in_flight;
        let quiet = self
            .open
            .iter_mut()
            .filter(|(partition, _)| !has_batch_in_flight(in_flight, **partition));
        for (_, open) in quiet {
            let Some(to) = open.holes_due(max_age, now) else {
                continue;
            };
            open.holes_noted();
            let sent = self.parts.checkpoint.send(Holes {
                claim: open.claim(),
                to,
            });
            context.spawn(wrap_future::<_, Self>(sent).map(
                |sent, actor, context: &mut Context<Self>| {
                    if let Err(error) = sent {
                        actor.end(&error.into(), context);
                    }
                },
            ));
        }
    }
}

impl Actor for Accumulator {
    type Context = Context<Self>;

    #[allow(clippy::disallowed_methods, reason = "it wakes itself")]
    fn started(&mut self, context: &mut Self::Context) {
        self.parts.pulse.waits("rows");
        // What the generation before had open was dropped with it.
        for (_, partition) in self.parts.status.partitions() {
            partition.set_open(None);
        }
        context.notify_later(Tick, TICK);
        let budget = self.parts.budget.clone();
        let address = context.address();
        context.spawn(wrap_future(async move {
            loop {
                budget.wait_asked().await;
                if address.send(MakeRoom).await.is_err() {
                    return;
                }
            }
        }));
    }
}

/// Time to look at ages.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Tick;

impl Handler<Tick> for Accumulator {
    type Result = ();

    fn handle(&mut self, _: Tick, context: &mut Self::Context) {
        self.tick(context);
    }
}

impl Handler<RowBlock> for Accumulator {
    type Result = ();

    fn handle(&mut self, block: RowBlock, context: &mut Self::Context) {
        let Some(open) = self.batch_of(&block) else {
            return;
        };
        self.parts.pulse.works();
        let rotation = self.rotation.clone();
        let partition = block.claim.partition;
        let work = on_cpu(Step::Absorb, move || open.absorb(block, &rotation));
        let work = wrap_future::<_, Self>(work).then(move |absorbed, actor, _| {
            let sent = match absorbed {
                Ok(absorbed) => actor.send_out(Ok(absorbed.closed), absorbed.open),
                Err(error) => actor.send_out(Err(error), None),
            };
            actor.show(partition);
            sent
        });
        context.wait(work);
    }
}

impl Handler<MakeRoom> for Accumulator {
    type Result = ();

    /// Only while nothing is on its way to the store: what is will give back more than a file
    /// closed early could.
    fn handle(&mut self, _: MakeRoom, context: &mut Self::Context) {
        if self
            .in_flight
            .keys()
            .any(|partition| self.has_batch_in_flight(*partition))
        {
            return;
        }
        let closable = self
            .open
            .iter()
            .filter(|(_, open)| open.has_records() && !open.is_replay());
        let largest = closable.max_by_key(|(_, open)| open.memory_bytes());
        if let Some(partition) = largest.map(|(partition, _)| *partition) {
            let work = self.close_and_send(&[partition], CloseReason::Memory);
            context.wait(work);
        }
    }
}

impl Handler<Drain> for Accumulator {
    type Result = ResponseActFuture<Self, Result<(), Gone>>;

    /// Claims were closed by the blocks before it; whatever is still open belongs to a claim that
    /// was not, and is read again.
    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        self.open.clear();
        let drained = self.parts.drain.send(Drain);
        Box::pin(wrap_future(async move { drained.await? }))
    }
}

/// Whether batches of the partition are on their way to the store.
fn has_batch_in_flight(in_flight: &HashMap<i32, Arc<()>>, partition: i32) -> bool {
    in_flight
        .get(&partition)
        .is_some_and(|shared| Arc::strong_count(shared) > 1)
}
