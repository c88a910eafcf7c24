//! One generation of landing: started downstream first, ended from the source down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use actix::Context;
use slog::{Logger, info, warn};
use tokio::sync::{mpsc, oneshot};

use crate::budget::Budget;
use crate::fault::{Step, Stepped};
use crate::generation::{ActorSet, End, Failure, Generation};
use crate::landing::broker::Broker;
use crate::landing::claims::Claims;
use crate::landing::consumer::ThreadParts;
use crate::landing::kafka_broker::KafkaBroker;
use crate::landing::layout::Layout;
use crate::landing::ledger::Ledger;
use crate::landing::patience::{Patience, Place, Question};
use crate::landing::protocol::checkpoint::Checkpoint;
use crate::landing::protocol::claim::{Found, LogView, other_log};
use crate::landing::protocol::keys::Names;
use crate::landing::retention::RetentionWatch;
use crate::landing::session::session_timeout;
use crate::landing::stages::{Shared, Stages};
use crate::landing::standstill::StandstillWatch;
use crate::landing::subscriber::{BLOCKS_MAX, Subscriber, SubscriberParts, Verdict, start_thread};
use crate::logging::Repeated;
use crate::messages::{Command, CommandWay};
use crate::status::PartitionState;
use crate::store::{self, ObjectStore, Observer, SharedStore};

/// How often progress towards the end offsets is looked at: a look reads a few atomics.
const CAUGHT_UP_LOOK: Duration = Duration::from_millis(20);
/// How often a partition of another member is looked up in its checkpoint.
const OTHERS_LOOK: Duration = Duration::from_secs(5);
/// A consumer is destroyed within this, or its generation does not end and the supervisor says
/// so.
const LEAVE_LOOK: Duration = Duration::from_millis(20);

/// Runs a generation of landing until it is told to end, has caught up, or fails.
///
/// # Errors
/// See [`Failure`].
pub async fn run(generation: Generation) -> Result<End, Failure> {
    let observer = Observer {
        status: generation.status.clone(),
        log: generation.log_of("store"),
    };
    let store = store::open(&generation.config.store, Some(observer))
        .map_err(|error| Failure::Group(error.to_string()))?;
    actix::spawn(name_identity(store.clone(), generation.log_of("store")));
    let broker = KafkaBroker::new(&generation.config.kafka, &generation.log_of("checkpoint"))
        .map_err(|error| Failure::Group(format!("kafka's client cannot start: {error}")))?;
    let (drain, stop) = (generation.drain.clone(), generation.stop.clone());
    let landing = tokio::select! {
        landing = Landing::start(generation, Stepped::new(store), Stepped::new(Arc::new(broker))) => landing?,
        // It may have waited for the topic; nothing was read yet.
        () = drain.cancelled() => return Ok(End::Drained),
        () = stop.cancelled() => return Ok(End::Stopped),
    };
    landing.run().await
}

/// Who signs is said before anything is asked of the store, which may be long after the start.
async fn name_identity(store: SharedStore, log: Logger) {
    if let Err(error) = store.identity().await {
        warn!(log, "no credentials for the store yet"; "error" => %error);
    }
}

/// A generation under way.
struct Landing {
    generation: Generation,
    actors: ActorSet,
    /// An actor that nobody can reach any more ends.
    _stages: Stages,
    commands: CommandWay,
    drained: oneshot::Receiver<()>,
    verdict: Verdict,
    thread: JoinHandle<()>,
    goal: Option<Goal>,
    log: Logger,
}

/// What `--until-caught-up` waits for.
struct Goal {
    /// The read_committed end of each partition, before anything was assigned.
    ends: BTreeMap<i32, i64>,
    broker: Stepped<dyn Broker>,
    /// Patience with it.
    kafka: Patience,
    ledger: Ledger,
    looked_at: Option<Instant>,
    /// Partitions of other members: where they stood, and since when.
    others: BTreeMap<i32, (i64, Instant)>,
    /// A member that has not moved for so long is taken for stopped.
    patience: Duration,
    /// A partition that is stopped in its checkpoint may yet become ours, which claims it anew:
    /// it counts once a rebalance has had so long.
    session: Duration,
}

/// How far it is to a goal.
enum Distance {
    Far,
    Reached,
    /// Only these are left, and they do not move.
    OnlyStopped(String),
}

impl Landing {
    async fn start(
        generation: Generation,
        store: Stepped<dyn ObjectStore>,
        broker: Stepped<dyn Broker>,
    ) -> Result<Self, Failure> {
        let kafka = &generation.config.kafka;
        let session = session_timeout(kafka, &generation.log_of("subscriber")).await;
        let goal = match generation.until_caught_up {
            true => Some(Goal::set(&generation, &store, &broker, session).await),
            false => {
                wait_for_topic(&generation, &broker).await;
                None
            }
        };
        let config = generation.config.clone();
        let log = generation.log_of("subscriber");
        let (commands, heard) = std::sync::mpsc::channel();
        let commands = CommandWay::from(commands);
        let budget = Budget::new(config.limits.memory_bytes);
        let claims = Claims::default();
        let layout = Layout::of(&config);
        let shared = Shared {
            generation: generation.clone(),
            store,
            broker,
            commands: commands.clone(),
            claims: claims.clone(),
            budget: budget.clone(),
            layout: layout.clone(),
        };
        let mut actors = ActorSet::default();
        let stages = Stages::start(&mut actors, &shared);
        watch_budget(&mut actors, &generation, &budget);
        watch_retention(&mut actors, &shared)?;
        watch_standstill(&mut actors, &shared);

        let (blocks, blocks_out) = mpsc::channel(BLOCKS_MAX);
        let (events, events_out) = mpsc::unbounded_channel();
        let (drained_in, drained) = oneshot::channel();
        let verdict = Verdict::default();
        let subscriber = Subscriber::new(SubscriberParts {
            blocks: blocks_out,
            events: events_out,
            commands: commands.clone(),
            records: stages.records.clone(),
            drain: stages.drain.clone(),
            checkpoint: stages.checkpoint.clone(),
            drained: drained_in,
            verdict: verdict.clone(),
            pulse: generation.pulse("subscriber"),
            log: log.clone(),
        });
        actors.start("subscriber", Context::new(), subscriber);
        let instance_id =
            config
                .kafka
                .instance_id
                .clone()
                .map(|id| match generation.until_caught_up {
                    true => format!("{id}-once"),
                    false => id,
                });
        let thread = start_thread(ThreadParts {
            config,
            instance_id,
            session,
            layout,
            claims,
            budget,
            commands: heard,
            blocks: Some(blocks),
            events,
            status: generation.status.clone(),
            pulse: generation.pulse("consumer"),
            log: log.clone(),
            unreachable: Repeated::default(),
            rebalances: Repeated::default(),
        })
        .map_err(|error| Failure::Group(format!("the consumer's thread cannot start: {error}")))?;
        Ok(Self {
            generation,
            actors,
            _stages: stages,
            commands,
            drained,
            verdict,
            thread,
            goal,
            log,
        })
    }

    async fn run(mut self) -> Result<End, Failure> {
        let (drain, stop) = (self.generation.drain.clone(), self.generation.stop.clone());
        let outcome = tokio::select! {
            () = stop.cancelled() => Ok(End::Stopped),
            () = drain.cancelled() => Ok(End::Drained),
            distance = self.goal.as_mut().map(|goal| goal.wait(&self.generation)).unwrap_or_wait() => match distance {
                Distance::OnlyStopped(which) => Ok(End::OnlyStoppedLeft(which)),
                Distance::Far | Distance::Reached => Ok(End::CaughtUp),
            },
            failure = self.actors.ended() => Err(failure),
        };
        let outcome = match outcome {
            Ok(end @ (End::Drained | End::CaughtUp | End::OnlyStoppedLeft(_))) => {
                self.drain(end).await
            }
            other => other,
        };
        self.leave().await;
        outcome.map_err(|failure| self.verdict.take().unwrap_or(failure))
    }

    /// Takes nothing more, and waits until what was read has landed.
    async fn drain(&mut self, end: End) -> Result<End, Failure> {
        info!(self.log, "landing drains");
        self.commands.send(Command::Drain).await.map_err(|_| {
            Failure::Group("the consumer's thread ended before the drain".to_owned())
        })?;
        tokio::select! {
            biased;
            drained = &mut self.drained => match drained {
                Ok(()) => Ok(end),
                Err(_) => Err(Failure::Group("the subscriber ended during the drain".to_owned())),
            },
            () = self.generation.stop.cancelled() => {
                warn!(self.log, "the drain was cut off, the rest is read again at the next start");
                Ok(End::Stopped)
            }
            failure = self.actors.ended() => Err(failure),
        }
    }

    /// The consumer is destroyed before the generation has ended: no new one may begin before.
    async fn leave(&mut self) {
        if self.commands.send(Command::Leave).await.is_err() {
            // It sees that nobody listens, if it is still there.
            self.actors.shut_down().await;
        }
        while !self.thread.is_finished() {
            tokio::time::sleep(LEAVE_LOOK).await;
        }
        self.actors.shut_down().await;
    }
}

/// A future that never comes where there is nothing to wait for.
trait OrWait {
    async fn unwrap_or_wait(self) -> Distance;
}

impl<F: Future<Output = Distance>> OrWait for Option<F> {
    async fn unwrap_or_wait(self) -> Distance {
        match self {
            Some(future) => future.await,
            None => std::future::pending().await,
        }
    }
}

/// Shows the budget in the status.
fn watch_budget(actors: &mut ActorSet, generation: &Generation, budget: &Budget) {
    let (status, budget) = (generation.status.clone(), budget.clone());
    actors.watch("budget", async move {
        loop {
            status
                .budget_held_bytes
                .store(budget.held_bytes(), Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
}

/// Tells in the status how long Kafka keeps what has not landed.
fn watch_retention(actors: &mut ActorSet, shared: &Shared) -> Result<(), Failure> {
    let generation = &shared.generation;
    let watch = RetentionWatch::new(
        &generation.config.kafka,
        shared.broker.clone(),
        generation.status.clone(),
        generation.log_of("retention"),
    )
    .map_err(|error| Failure::Group(format!("kafka's client cannot start: {error}")))?;
    actors.watch("retention", watch.run());
    Ok(())
}

/// Finds damage that librdkafka does not tell of.
fn watch_standstill(actors: &mut ActorSet, shared: &Shared) {
    let generation = &shared.generation;
    let watch = StandstillWatch {
        broker: shared.broker.clone(),
        topic: generation.config.kafka.topic.clone(),
        patience: generation.config.supervision.backoff_max,
        commands: shared.commands.clone(),
        status: generation.status.clone(),
        log: generation.log_of("standstill"),
    };
    actors.watch("standstill", watch.run());
}

impl Goal {
    async fn set(
        generation: &Generation,
        store: &Stepped<dyn ObjectStore>,
        broker: &Stepped<dyn Broker>,
        session: Duration,
    ) -> Self {
        let config = &generation.config;
        let log = generation.log_of("checkpoint");
        let patience = |place| {
            let (status, pulse) = (generation.status.clone(), generation.pulse("goal"));
            Patience::new(place, status, pulse, log.clone())
        };
        let kafka = patience(Place::Kafka);
        let checkpoints = patience(Place::Checkpoints);
        let names = Names::of(config);
        let ends = ends(broker, &kafka).await;
        generation.pulse("goal").waits("the end");
        info!(log, "landing up to the end of the topic"; "ends" => format!("{ends:?}"));
        Self {
            ends,
            broker: broker.clone(),
            kafka,
            ledger: Ledger::new(store.clone(), names, checkpoints, log),
            looked_at: None,
            others: BTreeMap::new(),
            patience: (3 * config.files.max_age).max(2 * session),
            session,
        }
    }

    async fn wait(&mut self, generation: &Generation) -> Distance {
        loop {
            match self.distance(generation).await {
                Distance::Far => tokio::time::sleep(CAUGHT_UP_LOOK).await,
                reached => return reached,
            }
        }
    }

    async fn distance(&mut self, generation: &Generation) -> Distance {
        let looks_at_others = self.looked_at.is_none_or(|at| at.elapsed() >= OTHERS_LOOK);
        let mut stopped = Vec::new();
        let mut far = false;
        for (partition, end) in self.ends.clone() {
            let status = generation
                .status
                .partition(&generation.config.kafka.topic, partition);
            let reached = status
                .position
                .load(Ordering::Relaxed)
                .max(status.next_offset.load(Ordering::Relaxed));
            match status.state() {
                PartitionState::Landing if reached >= end => {}
                PartitionState::Stopped(_) => stopped.push(partition),
                PartitionState::NotOurs if looks_at_others => {
                    match self.other(partition, end).await {
                        Distance::Far => far = true,
                        Distance::Reached => {}
                        Distance::OnlyStopped(_) => stopped.push(partition),
                    }
                }
                _ => far = true,
            }
        }
        if looks_at_others {
            self.looked_at = Some(Instant::now());
        }
        match (far, stopped.is_empty()) {
            (true, _) => Distance::Far,
            (false, true) => Distance::Reached,
            (false, false) => Distance::OnlyStopped(format!("partitions {stopped:?}")),
        }
    }

    /// A partition of another member counts by its checkpoint.
    async fn other(&mut self, partition: i32, end: i64) -> Distance {
        let (reached, is_stopped) = match self.ledger.read(partition).await.found {
            Found::Checkpoint(checkpoint, _) => {
                let reached = checkpoint.next_offset.max(checkpoint.holes_to);
                // What it has reached of another log says nothing: whoever claims it stops.
                let is_other = reached >= end && self.is_other_log(partition, &checkpoint).await;
                if reached >= end && !is_other {
                    return Distance::Reached;
                }
                (reached, is_other || checkpoint.stopped.is_some())
            }
            Found::Absent | Found::Unreadable(_) => (-1, false),
        };
        let now = Instant::now();
        let known = self.others.entry(partition).or_insert((reached, now));
        if known.0 != reached {
            *known = (reached, now);
        }
        let patience = if is_stopped {
            self.session
        } else {
            self.patience
        };
        match known.1.elapsed() >= patience {
            true => Distance::OnlyStopped(String::new()),
            false => Distance::Far,
        }
    }

    async fn is_other_log(&self, partition: i32, checkpoint: &Checkpoint) -> bool {
        let broker = self.broker.at(Step::AskEnds);
        let topic = self.kafka.topic(&broker).await;
        let (low, high) = watermarks(&broker, &self.kafka, partition).await;
        other_log(checkpoint, &LogView { topic, low, high }).is_some()
    }
}

/// Under KIP-848 a subscription to a topic that does not exist brings no error: it would be waited
/// for in silence.
async fn wait_for_topic(generation: &Generation, broker: &Stepped<dyn Broker>) {
    let pulse = generation.pulse("goal");
    let patience = Patience::new(
        Place::Kafka,
        generation.status.clone(),
        pulse.clone(),
        generation.log_of("subscriber"),
    );
    patience.topic(&broker.at(Step::AwaitTopic)).await;
    pulse.waits("the end");
}

/// The end of every partition, once the topic exists and a broker answers.
async fn ends(broker: &Stepped<dyn Broker>, patience: &Patience) -> BTreeMap<i32, i64> {
    let broker = broker.at(Step::AskEnds);
    let topic = patience.topic(&broker).await;
    let mut ends = BTreeMap::new();
    for partition in 0..topic.partitions {
        ends.insert(partition, watermarks(&broker, patience, partition).await.1);
    }
    ends
}

async fn watermarks(broker: &dyn Broker, patience: &Patience, partition: i32) -> (i64, i64) {
    let question = Question::Partition("asking for the end", partition);
    let asked = patience.until_answered(question, async || broker.watermarks(partition).await);
    asked.await
}
