//! Checkpoint: the one who writes the checkpoints.
//!
//! Receives [`Claim`] and [`Release`] from the subscriber, [`Begin`], [`Landed`], [`Upset`] and
//! [`Closed`] from the uploader, [`Holes`] from the accumulator, [`Unreadable`] from the
//! subscriber. Sends [`Command`] to the consumer's thread: commit, claim again. Owns the claimed
//! checkpoints with their versions. Whatever it decides, `protocol` decided. When it fails, the
//! whole generation is restarted, and claims again what the bucket says.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::fut::wrap_future;
use actix::{Actor, ActorFutureExt, Context, Handler, ResponseActFuture};
use slog::{Logger, error, info, warn};
use tokio::sync::{Mutex, Notify};

use crate::config::{Config, Start};
use crate::landing::broker::{Broker, TopicView};
use crate::landing::claims::{Claims, Holding, Purpose, Replay};
use crate::landing::layout::Layout;
use crate::landing::ledger::{Ledger, Read};
use crate::landing::offsets::OffsetSet;
use crate::landing::patience::Patience;
use crate::landing::protocol::Now;
use crate::landing::protocol::batch::{BeginRefused, Intent, begun, holes, landed, stopped};
use crate::landing::protocol::checkpoint::Checkpoint;
use crate::landing::protocol::claim::{
    self, ClaimAction, ClaimEvent, Claimed, LogView, StartQuestion, Terms, VANISHED, gap_message,
};
use crate::landing::protocol::footer::{Identity, is_unknown};
use crate::landing::protocol::keys::Names;
use crate::landing::protocol::swap::SwapOutcome;
use crate::messages::{
    Begin, Claim, ClaimAnswer, ClaimId, Closed, Command, Commands, Holes, Landed, Release,
    STOPPED_RECHECK, Sealed, Unreadable, Upset, UpsetReason,
};
use crate::status::{PartitionState, Pulse, Status, now_ms};
use crate::store::{Condition, ETag};

/// After another writer was faster the partition is claimed again within this and twice this:
/// long enough for the winner, if it lives, to have told us that it has the partition.
const FENCED_RETRY: Duration = Duration::from_secs(2);

/// How often a claim looks whether the claim before it has closed, beside being told.
const CLOSED_RECHECK: Duration = Duration::from_secs(1);

/// What the checkpoint actor is made with.
#[derive(Debug)]
pub struct CheckpointParts {
    /// The configuration.
    pub config: Arc<Config>,
    /// How records become rows from now on.
    pub layout: Arc<Layout>,
    /// Unique per generation.
    pub writer: String,
    /// The checkpoints in the store.
    pub ledger: Ledger,
    /// What Kafka is asked.
    pub broker: Arc<dyn Broker>,
    /// Patience with Kafka.
    pub kafka_patience: Patience,
    /// Which claims count: this actor says so.
    pub claims: Claims,
    /// The consumer's thread.
    pub commands: Commands,
    /// States and counters.
    pub status: Arc<Status>,
    /// Life sign.
    pub pulse: Arc<Pulse>,
    /// Log.
    pub log: Logger,
}

/// The actor. Its work for different partitions interleaves; that for one partition does not.
#[derive(Debug)]
pub struct CheckpointActor(Rc<Desk>);

#[derive(Debug)]
struct Desk {
    parts: CheckpointParts,
    names: Names,
    /// What we hold of each partition. The lock is held for a whole operation.
    held: RefCell<HashMap<i32, Rc<Mutex<Option<Held>>>>>,
    /// Offsets that the next replay of a partition must place among the dead letters.
    forced: RefCell<HashMap<i32, OffsetSet>>,
    /// Counts claims and releases of a partition: a claim that was overtaken is dropped.
    turns: RefCell<HashMap<i32, u64>>,
    /// Wakes claims that wait for the one before them to close.
    closed: Notify,
    /// Work under way.
    working: RefCell<usize>,
}

/// A claimed checkpoint.
#[derive(Debug, Clone)]
struct Held {
    claim: ClaimId,
    checkpoint: Checkpoint,
    etag: ETag,
}

impl CheckpointActor {
    /// An actor that holds nothing.
    pub fn new(parts: CheckpointParts) -> Self {
        let names = Names::of(&parts.config);
        Self(Rc::new(Desk {
            parts,
            names,
            held: RefCell::default(),
            forced: RefCell::default(),
            turns: RefCell::default(),
            closed: Notify::new(),
            working: RefCell::new(0),
        }))
    }

    /// Does work as a future of the actor's own: its panic is the actor's.
    fn work<T: 'static>(
        &self,
        work: impl AsyncFnOnce(Rc<Desk>) -> T + 'static,
    ) -> ResponseActFuture<Self, T> {
        let desk = self.0.clone();
        *desk.working.borrow_mut() += 1;
        desk.parts.pulse.works();
        let work = async move { work(desk).await };
        Box::pin(wrap_future::<_, Self>(work).map(|done, actor, _| {
            let desk = &actor.0;
            *desk.working.borrow_mut() -= 1;
            match *desk.working.borrow() {
                0 => desk.parts.pulse.waits("claims and batches"),
                _ => desk.parts.pulse.works(),
            }
            done
        }))
    }
}

impl Actor for CheckpointActor {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.0.parts.pulse.waits("claims and batches");
    }
}

impl Handler<Claim> for CheckpointActor {
    type Result = ResponseActFuture<Self, ClaimAnswer>;

    fn handle(&mut self, message: Claim, _: &mut Self::Context) -> Self::Result {
        let turn = self.0.next_turn(message.partition);
        self.work(async move |desk| desk.claim(message.partition, turn).await)
    }
}

impl Handler<Release> for CheckpointActor {
    type Result = ();

    fn handle(&mut self, message: Release, _: &mut Self::Context) {
        for partition in message.partitions {
            self.0.parts.claims.release(partition);
            self.0.next_turn(partition);
            self.0.set_state(partition, PartitionState::NotOurs);
        }
        self.0.closed.notify_waiters();
    }
}

impl Handler<Begin> for CheckpointActor {
    type Result = ResponseActFuture<Self, Sealed>;

    fn handle(&mut self, message: Begin, _: &mut Self::Context) -> Self::Result {
        self.work(async move |desk| desk.begin(message).await)
    }
}

impl Handler<Landed> for CheckpointActor {
    type Result = ResponseActFuture<Self, Sealed>;

    fn handle(&mut self, message: Landed, _: &mut Self::Context) -> Self::Result {
        self.work(async move |desk| desk.landed(message).await)
    }
}

impl Handler<Holes> for CheckpointActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, message: Holes, _: &mut Self::Context) -> Self::Result {
        self.work(async move |desk| desk.holes(message).await)
    }
}

impl Handler<Upset> for CheckpointActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, message: Upset, _: &mut Self::Context) -> Self::Result {
        self.work(async move |desk| desk.upset(message).await)
    }
}

impl Handler<Closed> for CheckpointActor {
    type Result = ();

    fn handle(&mut self, message: Closed, _: &mut Self::Context) {
        self.0.parts.claims.end(message.claim);
        self.0.closed.notify_waiters();
    }
}

impl Handler<Unreadable> for CheckpointActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, message: Unreadable, _: &mut Self::Context) -> Self::Result {
        self.work(async move |desk| desk.unreadable(message).await)
    }
}

impl Desk {
    fn slot(&self, partition: i32) -> Rc<Mutex<Option<Held>>> {
        self.held.borrow_mut().entry(partition).or_default().clone()
    }

    fn next_turn(&self, partition: i32) -> u64 {
        let mut turns = self.turns.borrow_mut();
        let turn = turns.entry(partition).or_default();
        *turn += 1;
        *turn
    }

    fn is_overtaken(&self, partition: i32, turn: u64) -> bool {
        self.turns.borrow().get(&partition) != Some(&turn)
    }

    fn set_state(&self, partition: i32, state: PartitionState) {
        self.parts
            .status
            .partition(&self.names.topic, partition)
            .set_state(state);
    }

    // The claim.

    async fn claim(&self, partition: i32, turn: u64) -> ClaimAnswer {
        self.wait_until_closed(partition).await;
        let slot = self.slot(partition);
        let mut slot = slot.lock().await;
        if self.is_overtaken(partition, turn) {
            return ClaimAnswer::Dropped;
        }
        *slot = None;
        self.set_state(partition, PartitionState::Claiming);
        loop {
            if self.is_overtaken(partition, turn) {
                return ClaimAnswer::Dropped;
            }
            let claimed = self.decide_claim(partition).await;
            crate::fault::point("checkpoint").await;
            if let Some(answer) = self.answer(&mut slot, partition, turn, claimed).await {
                return answer;
            }
            self.say_fenced(partition);
            let _waiting = self.parts.pulse.waiting("the turn of another writer");
            tokio::time::sleep(jittered(FENCED_RETRY)).await;
        }
    }

    /// What a decided claim comes to; `None`: another writer was faster.
    async fn answer(
        &self,
        slot: &mut Option<Held>,
        partition: i32,
        turn: u64,
        claimed: Claimed,
    ) -> Option<ClaimAnswer> {
        if let Some(unfit) = self.unfit_store(partition, &claimed).await {
            return Some(self.answer_stopped(partition, &unfit));
        }
        if self.is_overtaken(partition, turn) {
            return Some(ClaimAnswer::Dropped);
        }
        match claimed {
            Claimed::Fenced => None,
            Claimed::Stopped(cause) => Some(self.answer_stopped(partition, &cause)),
            Claimed::Land {
                checkpoint,
                etag,
                from,
            } => {
                let claim = self.hold(slot, partition, checkpoint, etag, None);
                info!(self.parts.log, "partition claimed"; "partition" => partition, "epoch" => claim.epoch, "offset" => from);
                Some(ClaimAnswer::Land { claim, from })
            }
            Claimed::Replay {
                checkpoint,
                etag,
                from,
                lost,
            } => Some(self.answer_replay(slot, partition, checkpoint, etag, from, lost)),
            Claimed::Gap {
                checkpoint,
                etag,
                to,
            } => self.begin_gap(slot, partition, checkpoint, etag, to).await,
        }
    }

    /// A claim before this one may still have batches on their way: they land first, since what
    /// is in memory may be all that is left of the records.
    async fn wait_until_closed(&self, partition: i32) {
        loop {
            let held = self
                .slot(partition)
                .lock()
                .await
                .as_ref()
                .map(|held| held.claim);
            let Some(claim) = held.filter(|claim| self.parts.claims.is_current(*claim)) else {
                return;
            };
            let closed = self.closed.notified();
            if !self.parts.claims.is_current(claim) {
                return;
            }
            let _waiting = self.parts.pulse.waiting("the batches of the claim before");
            // A time-out only looks again.
            let _ = tokio::time::timeout(CLOSED_RECHECK, closed).await;
        }
    }

    /// Asks and swaps what the claim's protocol says, until it is decided.
    async fn decide_claim(&self, partition: i32) -> Claimed {
        let ledger = &self.parts.ledger;
        let (mut claim, mut action) = claim::Claim::new(self.terms(partition));
        let mut absent_since = Instant::now();
        loop {
            let event = match action {
                ClaimAction::Done(claimed) => return *claimed,
                ClaimAction::Read => {
                    let Read { found, at } = ledger.read(partition).await;
                    absent_since = at;
                    ClaimEvent::Read(found)
                }
                ClaimAction::ListObjects => {
                    ClaimEvent::Objects(ledger.any_object(partition, absent_since).await)
                }
                ClaimAction::ReadSibling => ClaimEvent::Sibling(ledger.sibling(absent_since).await),
                ClaimAction::AskLog => ClaimEvent::Log(self.ask_log(partition).await),
                ClaimAction::AskStart(question) => {
                    ClaimEvent::Start(self.ask_start(partition, question).await)
                }
                ClaimAction::CompareLast(offset) => {
                    let what = "reading the last landed record";
                    let record = self.parts.kafka_patience.until_answered(what, async || {
                        self.parts.broker.record_at(partition, offset).await
                    });
                    ClaimEvent::Last(record.await)
                }
                ClaimAction::Swap {
                    checkpoint,
                    condition,
                } => {
                    let is_new = condition == Condition::Absent;
                    let outcome = ledger.swap(partition, &checkpoint, condition).await;
                    absent_since = Instant::now();
                    if is_new && matches!(outcome, SwapOutcome::Won(_)) {
                        self.say_start(partition, &checkpoint);
                    }
                    ClaimEvent::Swapped(outcome)
                }
                ClaimAction::ReadGroups => {
                    ClaimEvent::Groups(ledger.other_groups(partition, absent_since).await)
                }
            };
            action = claim.step(event, &Now::at(now_ms()));
        }
    }

    fn terms(&self, partition: i32) -> Terms {
        let config = &self.parts.config;
        let skips = config
            .skip
            .iter()
            .filter(|skip| skip.topic == self.names.topic && skip.partition == partition);
        Terms {
            topic: self.names.topic.clone(),
            partition,
            writer: self.parts.writer.clone(),
            data: self.names.data.clone(),
            dead_letters: self.names.dead_letters.clone(),
            layout: (*self.parts.layout).clone(),
            start: config.kafka.start,
            skips: skips.map(|skip| skip.first_offset).collect(),
        }
    }

    fn say_start(&self, partition: i32, checkpoint: &Checkpoint) {
        let start = match self.parts.config.kafka.start {
            Start::Earliest => "earliest",
            Start::Latest => "latest",
            Start::Committed => "committed",
            Start::Time(_) => "time",
        };
        info!(self.parts.log, "partition starts without a checkpoint"; "partition" => partition,
            "offset" => checkpoint.first_offset, "start" => start,
            "partitions_at_first_claim" => checkpoint.partitions);
    }

    async fn topic(&self) -> TopicView {
        self.parts.kafka_patience.topic(&*self.parts.broker).await
    }

    async fn ask_log(&self, partition: i32) -> LogView {
        let topic = self.topic().await;
        let what = "asking for the watermarks";
        let watermarks = self
            .parts
            .kafka_patience
            .until_answered(what, async || self.parts.broker.watermarks(partition).await);
        let (low, high) = watermarks.await;
        let status = self.parts.status.partition(&self.names.topic, partition);
        status.log_start.store(low, Ordering::Relaxed);
        status.log_end.store(high, Ordering::Relaxed);
        LogView { topic, low, high }
    }

    async fn ask_start(&self, partition: i32, question: StartQuestion) -> i64 {
        let broker = &self.parts.broker;
        let what = "asking for the start";
        // Past every log's end and before every log's start: the protocol clamps.
        let answer = self
            .parts
            .kafka_patience
            .until_answered(what, async || match question {
                StartQuestion::Time(time_ms) => {
                    let offset = broker.offset_for_time(partition, time_ms).await;
                    offset.map(|offset| offset.unwrap_or(i64::MAX))
                }
                StartQuestion::Committed => broker
                    .committed(partition)
                    .await
                    .map(|offset| offset.unwrap_or(0)),
            });
        answer.await
    }

    /// Once per generation: whether the server honours conditions. Without them nothing is safe.
    async fn unfit_store(&self, partition: i32, claimed: &Claimed) -> Option<String> {
        let checkpoint = match claimed {
            Claimed::Land { checkpoint, .. }
            | Claimed::Replay { checkpoint, .. }
            | Claimed::Gap { checkpoint, .. } => checkpoint,
            Claimed::Stopped(_) | Claimed::Fenced => return None,
        };
        self.parts.ledger.unfit(partition, checkpoint).await
    }

    fn answer_stopped(&self, partition: i32, cause: &str) -> ClaimAnswer {
        error!(self.parts.log, "partition stopped"; "partition" => partition, "error" => cause);
        self.set_state(partition, PartitionState::Stopped(cause.to_owned()));
        ClaimAnswer::Stopped { partition }
    }

    fn hold(
        &self,
        slot: &mut Option<Held>,
        partition: i32,
        checkpoint: Checkpoint,
        etag: ETag,
        replay: Option<Replay>,
    ) -> ClaimId {
        let claim = ClaimId {
            partition,
            epoch: checkpoint.epoch,
        };
        let identity = Arc::new(self.identity(partition, &checkpoint));
        let (state, purpose) = match replay {
            Some(replay) => (PartitionState::Replaying, Purpose::Replay(Arc::new(replay))),
            None => (
                PartitionState::Landing,
                Purpose::Land {
                    begin: checkpoint.next_offset,
                },
            ),
        };
        self.parts.claims.hold(claim, Holding { identity, purpose });
        self.note(partition, &checkpoint);
        self.set_state(partition, state);
        *slot = Some(Held {
            claim,
            checkpoint,
            etag,
        });
        claim
    }

    fn identity(&self, partition: i32, checkpoint: &Checkpoint) -> Identity {
        Identity {
            cluster_id: checkpoint.cluster_id.clone(),
            topic_id: checkpoint.topic_id.clone(),
            topic: self.names.topic.clone(),
            partition,
            group: self.names.group.clone(),
        }
    }

    fn note(&self, partition: i32, checkpoint: &Checkpoint) {
        let status = self.parts.status.partition(&self.names.topic, partition);
        status.next_offset.store(
            checkpoint.next_offset.max(checkpoint.holes_to),
            Ordering::Relaxed,
        );
    }

    fn answer_replay(
        &self,
        slot: &mut Option<Held>,
        partition: i32,
        checkpoint: Checkpoint,
        etag: ETag,
        from: i64,
        lost: Option<[i64; 2]>,
    ) -> ClaimAnswer {
        let Some(pending) = checkpoint.pending.clone() else {
            return self.answer_stopped(partition, "nothing is pending");
        };
        let layout = Arc::new(pending.layout.clone());
        let end = pending.end;
        let forced = self
            .forced
            .borrow()
            .get(&partition)
            .cloned()
            .unwrap_or_default();
        let start = checkpoint.next_offset;
        let replay = Replay {
            start,
            pending,
            lost,
        };
        let claim = self.hold(slot, partition, checkpoint, etag, Some(replay));
        info!(self.parts.log, "partition claimed, a batch that was begun is read again";
            "partition" => partition, "epoch" => claim.epoch, "offset" => from, "end" => end);
        ClaimAnswer::Replay {
            claim,
            from,
            end,
            layout,
            forced: Arc::new(forced),
        }
    }

    /// A gap without a pending range is a batch of the dead letters' key alone.
    async fn begin_gap(
        &self,
        slot: &mut Option<Held>,
        partition: i32,
        checkpoint: Checkpoint,
        etag: ETag,
        to: i64,
    ) -> Option<ClaimAnswer> {
        let position = checkpoint.next_offset.max(checkpoint.holes_to);
        warn!(self.parts.log, "lost records are passed by the operator's word"; "partition" => partition,
            "offset" => position, "end" => to);
        let intent = self.gap_intent(partition, checkpoint.next_offset, [position, to]);
        let topic = self.topic().await;
        let next = match begun(&checkpoint, &intent, &topic, &Now::at(now_ms())) {
            Ok(next) => next,
            Err(refused) => return Some(self.answer_stopped(partition, &refused.to_string())),
        };
        match self
            .parts
            .ledger
            .swap(partition, &next, Condition::Matches(etag))
            .await
        {
            SwapOutcome::Won(etag) => {
                Some(self.answer_replay(slot, partition, next, etag, to, Some([position, to])))
            }
            SwapOutcome::Fenced => None,
            SwapOutcome::Vanished => Some(self.answer_stopped(partition, VANISHED)),
        }
    }

    fn gap_intent(&self, partition: i32, start: i64, gap: [i64; 2]) -> Intent {
        Intent {
            start,
            end: gap[1],
            keys: vec![self.names.dead_letters_file(partition, start, gap[1])],
            layout: (*self.parts.layout).clone(),
            gap: Some(gap),
            data: self.names.data.clone(),
            dead_letters: self.names.dead_letters.clone(),
        }
    }

    // The way of a batch.

    async fn begin(&self, message: Begin) -> Sealed {
        let slot = self.slot(message.claim.partition);
        let mut slot = slot.lock().await;
        let Some(held) = self.current(&slot, message.claim) else {
            return Sealed::Dropped;
        };
        let topic = self.topic().await;
        match begun(
            &held.checkpoint,
            &message.intent,
            &topic,
            &Now::at(now_ms()),
        ) {
            Ok(next) => self.replace(&mut slot, held, next).await,
            Err(refused) => self.refuse(message.claim, &refused),
        }
    }

    async fn landed(&self, message: Landed) -> Sealed {
        let claim = message.claim;
        let slot = self.slot(claim.partition);
        let mut slot = slot.lock().await;
        let Some(held) = self.current(&slot, claim) else {
            return Sealed::Dropped;
        };
        let pending = held.checkpoint.pending.clone();
        let gap_left = pending.and_then(|pending| {
            pending
                .gap
                .filter(|gap| gap[1] > pending.end)
                .map(|gap| (pending.end, gap[1]))
        });
        let next = match gap_left {
            Some((from, to)) => Some(self.gap_intent(claim.partition, from, [from, to])),
            None => message.next,
        };
        let topic = match &next {
            Some(_) => Some(self.topic().await),
            None => None,
        };
        let now = Now::at(now_ms());
        let begins = next.as_ref().zip(topic.as_ref());
        let checkpoint = match landed(&held.checkpoint, message.last, begins, &now) {
            Ok(checkpoint) => checkpoint,
            Err(_) => match landed(&held.checkpoint, message.last, None, &now) {
                Ok(checkpoint) => checkpoint,
                Err(refused) => return self.refuse(claim, &refused),
            },
        };
        let checkpoint = Checkpoint {
            stopped: None,
            ..checkpoint
        };
        let (next_offset, begun) = (checkpoint.next_offset, checkpoint.pending.is_some());
        let sealed = self.replace(&mut slot, held, checkpoint).await;
        if sealed == Sealed::Yes {
            self.parts.pulse.works();
            crate::fault::point("checkpoint").await;
            self.command(Command::Commit {
                partition: claim.partition,
                offset: next_offset,
            });
            self.forced.borrow_mut().remove(&claim.partition);
            let was_replay = self
                .parts
                .claims
                .holding(claim)
                .is_some_and(|holding| matches!(holding.purpose, Purpose::Replay(_)));
            if was_replay {
                self.end(claim, Duration::ZERO);
            } else if next.is_some() && !begun {
                return self.refuse(claim, &BeginRefused::OtherLog);
            }
        }
        sealed
    }

    async fn holes(&self, message: Holes) {
        let slot = self.slot(message.claim.partition);
        let mut slot = slot.lock().await;
        let Some(held) = self.current(&slot, message.claim) else {
            return;
        };
        if let Some(next) = holes(&held.checkpoint, message.to, &Now::at(now_ms())) {
            let offset = next.holes_to;
            if self.replace(&mut slot, held, next).await == Sealed::Yes {
                self.command(Command::Commit {
                    partition: message.claim.partition,
                    offset,
                });
            }
        }
    }

    fn current(&self, slot: &Option<Held>, claim: ClaimId) -> Option<Held> {
        let held = slot.as_ref().filter(|held| held.claim == claim)?;
        self.parts.claims.is_current(claim).then(|| held.clone())
    }

    /// Swaps a checkpoint that we hold for the next one.
    async fn replace(&self, slot: &mut Option<Held>, held: Held, next: Checkpoint) -> Sealed {
        let claim = held.claim;
        let partition = claim.partition;
        match self
            .parts
            .ledger
            .swap(partition, &next, Condition::Matches(held.etag))
            .await
        {
            SwapOutcome::Won(etag) => {
                self.note(partition, &next);
                self.update_identity(claim, &next);
                *slot = Some(Held {
                    claim,
                    checkpoint: next,
                    etag,
                });
                Sealed::Yes
            }
            SwapOutcome::Fenced => {
                *slot = None;
                self.say_fenced(partition);
                self.end(claim, jittered(FENCED_RETRY));
                Sealed::Dropped
            }
            SwapOutcome::Vanished => {
                *slot = None;
                self.answer_stopped(partition, VANISHED);
                self.end(claim, STOPPED_RECHECK);
                Sealed::Dropped
            }
        }
    }

    /// An id that was unknown at the claim may be known by now; footers name it from then on.
    fn update_identity(&self, claim: ClaimId, checkpoint: &Checkpoint) {
        let Some(holding) = self.parts.claims.holding(claim) else {
            return;
        };
        let known = &holding.identity;
        let learned = |known: &str, now: &str| is_unknown(known) && !is_unknown(now);
        if learned(&known.topic_id, &checkpoint.topic_id)
            || learned(&known.cluster_id, &checkpoint.cluster_id)
        {
            let identity = Arc::new(self.identity(claim.partition, checkpoint));
            self.parts.claims.hold(
                claim,
                Holding {
                    identity,
                    ..holding
                },
            );
        }
    }

    /// A batch that does not continue the checkpoint: claim again, which finds out why and stops
    /// with the reason where there is one.
    fn refuse(&self, claim: ClaimId, refused: &BeginRefused) -> Sealed {
        warn!(self.parts.log, "batch refused, the partition is claimed again"; "partition" => claim.partition,
            "epoch" => claim.epoch, "error" => %refused);
        self.end(claim, jittered(FENCED_RETRY));
        Sealed::Dropped
    }

    fn say_fenced(&self, partition: i32) {
        warn!(self.parts.log, "another writer was faster, the partition is claimed again while it is ours"; "partition" => partition);
        self.parts.status.count(
            "groundtrack_fenced_total",
            &[("topic", &self.names.topic)],
            1,
        );
    }

    /// Ends a claim, and has the partition claimed again after so long while it is still assigned.
    fn end(&self, claim: ClaimId, after: Duration) {
        self.parts.claims.end(claim);
        self.closed.notify_waiters();
        self.command(Command::Reclaim { claim, after });
    }

    fn command(&self, command: Command) {
        // The consumer's thread is gone only when the generation ends.
        let _ = self.parts.commands.send(command);
    }

    // What stops a partition behind its claim.

    async fn upset(&self, message: Upset) {
        let claim = message.claim;
        let slot = self.slot(claim.partition);
        let mut slot = slot.lock().await;
        let Some(held) = self.current(&slot, claim) else {
            return;
        };
        let cause = match message.reason {
            UpsetReason::ReplayForced(offsets) => {
                warn!(self.parts.log, "objects of a batch hold other records than ours would, the rest becomes dead letters";
                    "partition" => claim.partition, "records" => offsets.len());
                let mut forced = self.forced.borrow_mut();
                let known = forced.entry(claim.partition).or_default();
                *known = known.union(&offsets);
                *slot = None;
                return self.end(claim, Duration::ZERO);
            }
            UpsetReason::AwaitWord => self.lost_message(&held),
            UpsetReason::Foreign { key, why } => {
                format!(
                    "foreign: {key} is not an object of this batch: {why}; move it away, or name another folder"
                )
            }
        };
        self.stop(&mut slot, held, &cause).await;
    }

    fn lost_message(&self, held: &Held) -> String {
        let checkpoint = &held.checkpoint;
        let lost =
            self.parts
                .claims
                .holding(held.claim)
                .and_then(|holding| match &holding.purpose {
                    Purpose::Replay(replay) => replay.lost,
                    Purpose::Land { .. } => None,
                });
        let end = checkpoint
            .pending
            .as_ref()
            .map_or(checkpoint.next_offset, |pending| pending.end);
        let [from, to] = lost.unwrap_or([checkpoint.next_offset, end]);
        gap_message(
            &self.terms(held.claim.partition),
            checkpoint.next_offset,
            from,
            to,
        )
    }

    async fn stop(&self, slot: &mut Option<Held>, held: Held, cause: &str) {
        let claim = held.claim;
        if let Some(next) = stopped(&held.checkpoint, cause, &Now::at(now_ms()))
            && self.replace(slot, held, next).await == Sealed::Dropped
        {
            return;
        }
        self.answer_stopped(claim.partition, cause);
        *slot = None;
        self.end(claim, STOPPED_RECHECK);
    }

    async fn unreadable(&self, message: Unreadable) {
        let claim = message.claim;
        let held = {
            let slot = self.slot(claim.partition);
            let slot = slot.lock().await;
            self.current(&slot, claim)
        };
        self.wait_until_closed(claim.partition).await;
        let cause = format!(
            "unreadable: offset {} of kafka's log cannot be read ({}); to go on, delete the records up to behind it \
             (kafka-delete-records) and pass the gap that is then named",
            message.offset, message.error
        );
        let slot = self.slot(claim.partition);
        let mut slot = slot.lock().await;
        let newest = slot
            .as_ref()
            .filter(|newest| newest.claim == claim)
            .cloned()
            .or(held);
        if let Some(held) = newest {
            self.stop(&mut slot, held, &cause).await;
        }
    }
}

/// Between once and twice as long: two writers that were fenced at once must not meet again.
fn jittered(delay: Duration) -> Duration {
    delay.mul_f64(1.0 + fastrand::f64())
}
