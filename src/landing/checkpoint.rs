//! Checkpoint: the one who writes the checkpoints.
//!
//! Receives [`Claim`] and [`Release`] from the subscriber, [`Begin`], [`Landed`], [`Upset`] and
//! [`Closed`] from the uploader, [`Holes`] from the accumulator, [`Unreadable`] from the
//! subscriber. Sends [`Command`](crate::messages::Command) to the consumer's thread: commit, claim again. Owns the claimed
//! checkpoints with their versions. Whatever it decides, `protocol` decided. When it fails, the
//! whole generation is restarted, and claims again what the bucket says.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::fut::wrap_future;
use actix::{Actor, ActorContext, ActorFutureExt, Context, Handler, ResponseActFuture};
use slog::{Logger, error};
use tokio::sync::{Mutex, MutexGuard, Notify};

use crate::config::Config;
use crate::fault::Stepped;
use crate::landing::broker::Broker;
use crate::landing::claims::{Claims, Holding, Purpose, Replay};
use crate::landing::layout::Layout;
use crate::landing::ledger::Ledger;
use crate::landing::offsets::OffsetSet;
use crate::landing::patience::Patience;
use crate::landing::protocol::checkpoint::Checkpoint;
use crate::landing::protocol::footer::Identity;
use crate::landing::protocol::held::{Held, Request, Task};
use crate::landing::protocol::keys::Names;
use crate::logging::Repeated;
use crate::messages::{
    Begin, Claim, ClaimAnswer, ClaimId, Closed, CommandWay, Holes, Landed, Release, Sealed,
    Unreadable, Upset,
};
use crate::status::{PartitionState, Pulse, Status};

mod asking;
mod claiming;
mod replaying;

use replaying::Replaying;

/// After another writer was faster the partition is claimed again within this and twice this:
/// long enough for the winner, if it lives, to have told us that it has the partition.
const FENCED_RETRY: Duration = Duration::from_secs(2);

/// What the checkpoint actor is made with.
#[derive(Debug, Clone)]
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
    pub broker: Stepped<dyn Broker>,
    /// Patience with Kafka.
    pub kafka_patience: Patience,
    /// Which claims count: this actor says so.
    pub claims: Claims,
    /// The consumer's thread.
    pub commands: CommandWay,
    /// States and counters.
    pub status: Arc<Status>,
    /// Life sign.
    pub pulse: Arc<Pulse>,
    /// Log.
    pub log: Logger,
}

/// The actor. Its work for different partitions interleaves; that for one partition does not.
#[derive(Debug)]
pub struct CheckpointActor(Desk);

/// What a piece of work has at hand: its own life sign, and what all of them share.
#[derive(Debug)]
struct Desk {
    parts: CheckpointParts,
    names: Names,
    shared: Rc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// What we hold of each partition. The lock is held for a whole operation.
    held: RefCell<HashMap<i32, Rc<Mutex<Option<Held>>>>>,
    /// Offsets that the next replay of a partition must place among the dead letters.
    forced: RefCell<HashMap<i32, OffsetSet>>,
    /// Counts claims and releases of a partition: a claim that was overtaken is dropped.
    turns: RefCell<HashMap<i32, u64>>,
    /// The highest epoch that was held of each partition.
    epochs: RefCell<HashMap<i32, u64>>,
    /// Wakes claims that wait for another to close or to end.
    closed: Notify,
    /// Partitions that stopped: why, and when a line said so.
    stopped: RefCell<HashMap<i32, (String, Repeated)>>,
    /// Partitions that another writer takes, or whose batches are refused.
    contested: RefCell<HashMap<i32, Repeated>>,
    /// The replay that was begun last.
    replaying: RefCell<Option<Replaying>>,
    /// The consumer's thread is gone, and with it the generation.
    is_cut_off: Cell<bool>,
}

impl CheckpointActor {
    /// An actor that holds nothing.
    pub fn new(parts: CheckpointParts) -> Self {
        let names = Names::of(&parts.config);
        Self(Desk {
            parts,
            names,
            shared: Rc::default(),
        })
    }

    /// Does work as a future of the actor's own: its panic is the actor's. Its life sign is its
    /// own too: one that hangs must not be hidden by others that wait.
    fn work<T: 'static>(
        &self,
        work: impl AsyncFnOnce(Desk) -> T + 'static,
    ) -> ResponseActFuture<Self, T> {
        let desk = self.0.for_piece();
        let work = async move { work(desk).await };
        Box::pin(wrap_future::<_, Self>(work).map(|done, actor, context| {
            let desk = &actor.0;
            if desk.shared.is_cut_off.get() {
                error!(desk.parts.log, "checkpoint actor ends"; "error" => "the consumer's thread is gone");
                context.stop();
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
        self.0.shared.closed.notify_waiters();
    }
}

impl Handler<Begin> for CheckpointActor {
    type Result = ResponseActFuture<Self, Sealed>;

    fn handle(&mut self, message: Begin, _: &mut Self::Context) -> Self::Result {
        let Begin { claim, intent } = message;
        self.work(async move |desk| desk.ask(claim, Request::Begin(intent)).await)
    }
}

impl Handler<Landed> for CheckpointActor {
    type Result = ResponseActFuture<Self, Sealed>;

    fn handle(&mut self, message: Landed, _: &mut Self::Context) -> Self::Result {
        let Landed { claim, last, next } = message;
        self.work(async move |desk| desk.ask(claim, Request::Landed { last, next }).await)
    }
}

impl Handler<Holes> for CheckpointActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, message: Holes, _: &mut Self::Context) -> Self::Result {
        let Holes { claim, to } = message;
        self.work(async move |desk| {
            desk.ask(claim, Request::Holes { to }).await;
        })
    }
}

impl Handler<Upset> for CheckpointActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, message: Upset, _: &mut Self::Context) -> Self::Result {
        let Upset { claim, reason } = message;
        self.work(async move |desk| {
            desk.ask(claim, Request::Upset(reason)).await;
        })
    }
}

impl Handler<Closed> for CheckpointActor {
    type Result = ();

    fn handle(&mut self, message: Closed, _: &mut Self::Context) {
        self.0.parts.claims.end(message.claim);
        self.0.shared.closed.notify_waiters();
    }
}

impl Handler<Unreadable> for CheckpointActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, message: Unreadable, _: &mut Self::Context) -> Self::Result {
        self.work(async move |desk| desk.unreadable(message).await)
    }
}

impl Desk {
    /// The same for one piece of work.
    fn for_piece(&self) -> Self {
        let pulse = self.parts.pulse.piece();
        Self {
            parts: CheckpointParts {
                ledger: self.parts.ledger.of_piece(pulse.clone()),
                kafka_patience: self.parts.kafka_patience.of_piece(pulse.clone()),
                pulse,
                ..self.parts.clone()
            },
            names: self.names.clone(),
            shared: self.shared.clone(),
        }
    }

    fn slot(&self, partition: i32) -> Rc<Mutex<Option<Held>>> {
        let mut held = self.shared.held.borrow_mut();
        held.entry(partition).or_default().clone()
    }

    /// Waits for the work on the partition that came before.
    async fn turn_at<'a>(&self, slot: &'a Mutex<Option<Held>>) -> MutexGuard<'a, Option<Held>> {
        let _waiting = self
            .parts
            .pulse
            .waiting("the work on its partition before it");
        slot.lock().await
    }

    fn next_turn(&self, partition: i32) -> u64 {
        let mut turns = self.shared.turns.borrow_mut();
        let turn = turns.entry(partition).or_default();
        *turn += 1;
        *turn
    }

    fn is_overtaken(&self, partition: i32, turn: u64) -> bool {
        self.shared.turns.borrow().get(&partition) != Some(&turn)
    }

    fn held_epoch(&self, partition: i32) -> u64 {
        let epochs = self.shared.epochs.borrow();
        epochs.get(&partition).copied().unwrap_or(0)
    }

    fn set_state(&self, partition: i32, state: PartitionState) {
        self.parts
            .status
            .partition(&self.names.topic, partition)
            .set_state(state);
    }

    /// From now on this claim holds the partition.
    fn hold(&self, slot: &mut Option<Held>, partition: i32, held: Held) -> ClaimId {
        let claim = claim_id(partition, &held);
        self.shared
            .epochs
            .borrow_mut()
            .insert(partition, claim.epoch);
        let identity = Arc::new(self.identity(partition, &held.checkpoint));
        let start = held.checkpoint.next_offset;
        let (state, purpose) = match (held.task, &held.checkpoint.pending) {
            (Task::Replay { lost }, Some(pending)) => {
                let replay = Replay {
                    start,
                    pending: pending.clone(),
                    // What is lost behind the range is not this batch's.
                    lost: lost.map(|[from, to]| [from, to.min(pending.end)]),
                };
                let end = pending.end;
                let replaying = Replaying::new(claim, end);
                self.shared.replaying.replace(Some(replaying));
                (PartitionState::Replaying, Purpose::Replay(Arc::new(replay)))
            }
            _ => (PartitionState::Landing, Purpose::Land { begin: start }),
        };
        self.parts.claims.hold(claim, Holding { identity, purpose });
        self.note(partition, &held.checkpoint);
        self.set_state(partition, state);
        *slot = Some(held);
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
}

/// The claim that holds this checkpoint.
fn claim_id(partition: i32, held: &Held) -> ClaimId {
    ClaimId {
        partition,
        epoch: held.checkpoint.epoch,
    }
}

/// Between once and twice as long: two writers that were fenced at once must not meet again.
fn jittered(delay: Duration) -> Duration {
    delay.mul_f64(1.0 + fastrand::f64())
}

#[cfg(test)]
mod tests {
    use crate::landing::patience::Place;
    use async_trait::async_trait;
    use slog::o;

    use super::*;
    use crate::landing::broker::{BrokerError, Met, RecordAt, TopicView};
    use crate::landing::protocol::batch::Intent;
    use crate::landing::protocol::upload::UpsetReason;
    use crate::store::ObjectStore;
    use crate::store::memory::MemoryStore;

    /// An empty log of one partition.
    #[derive(Debug)]
    struct Empty;

    #[async_trait]
    impl Broker for Empty {
        async fn topic(&self) -> Result<Option<TopicView>, BrokerError> {
            Ok(Some(TopicView {
                cluster_id: "c".into(),
                topic_id: "t".into(),
                partitions: 1,
            }))
        }

        async fn watermarks(&self, _: i32) -> Result<(i64, i64), BrokerError> {
            Ok((0, 0))
        }

        async fn offset_for_time(&self, _: i32, _: i64) -> Result<Option<i64>, BrokerError> {
            Ok(None)
        }

        async fn committed(&self, _: i32) -> Result<Option<i64>, BrokerError> {
            Ok(None)
        }

        async fn record_at(&self, _: i32, _: i64) -> Result<RecordAt, BrokerError> {
            Ok(RecordAt::NotCompared)
        }

        async fn first_at(&self, _: i32, _: i64) -> Result<Met, BrokerError> {
            Ok(Met::End)
        }
    }

    fn desk(store: &Arc<MemoryStore>) -> Desk {
        let config = crate::testing::config();
        let (status, log) = (Status::new(), Logger::root(slog::Discard, o!()));
        let pulse = status.group("landing").pulse("checkpoint");
        let patience = Patience::new(Place::Store, status.clone(), pulse.clone(), log.clone());
        let shared: Arc<dyn ObjectStore> = store.clone();
        let names = Names::of(&config);
        let parts = CheckpointParts {
            layout: Layout::of(&config),
            config: Arc::new(config),
            writer: "w".into(),
            ledger: Ledger::new(Stepped::new(shared), names, patience.clone(), log.clone()),
            broker: Stepped::new(Arc::new(Empty)),
            kafka_patience: patience,
            claims: Claims::default(),
            commands: std::sync::mpsc::channel().0.into(),
            status,
            pulse,
            log,
        };
        CheckpointActor::new(parts).0
    }

    async fn claimed(desk: &Desk) -> ClaimId {
        let turn = desk.next_turn(0);
        match desk.claim(0, turn).await {
            ClaimAnswer::Land { claim, .. } => claim,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_checkpoint_that_was_deleted_is_made_anew_with_an_epoch_never_held() {
        let store = Arc::new(MemoryStore::new());
        let desk = desk(&store);
        let old = claimed(&desk).await;
        store.delete(&desk.names.checkpoint(0)).await.unwrap();
        desk.parts.claims.release(0);
        let new = claimed(&desk).await;
        assert!(new.epoch > old.epoch);
        assert!(!desk.parts.claims.is_current(old));
    }

    #[tokio::test]
    async fn what_is_asked_for_an_ended_claim_is_dropped() {
        let store = Arc::new(MemoryStore::new());
        let desk = desk(&store);
        let old = claimed(&desk).await;
        desk.parts.claims.release(0);
        let new = claimed(&desk).await;
        assert!(new.epoch > old.epoch);
        let key = desk.names.checkpoint(0);
        let before = store.get(&key).await.unwrap();
        let intent = Intent {
            start: 0,
            end: 8,
            keys: vec!["dead_letters/x".into()],
            layout: (*desk.parts.layout).clone(),
            gap: None,
            data: "parquet_files".into(),
            dead_letters: "dead_letters".into(),
        };
        for request in [
            Request::Begin(intent),
            Request::Landed {
                last: None,
                next: None,
            },
            Request::Holes { to: 5 },
            Request::Upset(UpsetReason::AwaitWord),
        ] {
            assert_eq!(desk.ask(old, request).await, Sealed::Dropped);
        }
        assert_eq!(store.get(&key).await.unwrap(), before);
        assert!(desk.parts.claims.is_current(new));
        assert_eq!(desk.ask(new, Request::Holes { to: 5 }).await, Sealed::Yes);
    }
}
