//! Publishes samples to Kafka.
//!
//! Receives: [`Sample`], answered with whether it is held; [`Flush`], answered with how many are
//! left. Sends: nothing to other actors. Owns: the producer, and the samples that Kafka does not
//! have yet, oldest first, in memory within a limit. When it fails: a batch is under way at a time,
//! and what of it was not delivered is sent again before anything newer. A topic that does not
//! exist is waited for and never created. A record that Kafka refuses for good is dropped, loudly.
//! A fatal error of the producer ends the actor, and with it what it held. So does a panic, but
//! what was already under way is still delivered.
//!
//! Twice in the topic is a sample only if the producer ended without knowing whether the broker
//! had it and it was fetched again; the poller never fetches the same answer twice, so nothing
//! here is sent by two producers.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture,
    SpawnHandle, WrapFuture,
};
use futures_util::future::join_all;
use rdkafka::error::KafkaError;
use tokio::sync::oneshot;

use super::producer::{
    BATCH_BYTES, BATCH_SAMPLES, KafkaProducer, Report, Topic, fatal, fate, look_up, producer,
};
use super::queue::{Fate, Queue};
use crate::fault::{self, Step};
use crate::generation::Generation;
use crate::landing::cpu::on_cpu;
use crate::logging::{Repeated, Say, events};
use crate::messages::Sample;
use crate::status::{Pulse, Status};

/// Where the status says that nothing can be published.
pub(super) const FAILING: &str = "publisher";

/// At most so many samples are held: more than thirteen hours of one in five seconds.
const HELD_SAMPLES: usize = 10_000;

/// Of the process's memory the samples may hold this part: the rest is the landing's.
const HELD_SHARE: u64 = 16;

/// Delivery reports that do not come within this are a trouble: a broker that answers does so in
/// milliseconds, one that is restarted in seconds.
const SLOW: Duration = Duration::from_secs(10);

/// Between two attempts after a failure, and between two looks for a topic that does not exist: a
/// person's work of minutes, and one small request.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// The actor.
pub struct Publisher {
    producer: KafkaProducer,
    topic: Arc<str>,
    queue: Queue,
    /// A batch is under way, or the topic is looked for, or an attempt is waited for.
    busy: bool,
    /// The topic was found by this producer.
    topic_found: bool,
    /// What is said of attempts that fail.
    failing: Repeated,
    /// Fires while delivery reports are late.
    late: Option<SpawnHandle>,
    /// Whoever waits for the queue to be empty.
    flushing: Vec<oneshot::Sender<usize>>,
    /// Why it ended by itself.
    gave_up: Arc<OnceLock<String>>,
    status: Arc<Status>,
    pulse: Arc<Pulse>,
    log: slog::Logger,
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher")
            .field("topic", &self.topic)
            .field("held", &self.queue.len())
            .finish_non_exhaustive()
    }
}

/// Publishes what is held, for so long at most; the answer is how many are left.
#[derive(Debug, Message)]
#[rtype(result = "usize")]
pub struct Flush {
    /// The longest wait.
    pub within: Duration,
}

/// It is time to try again.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct TryAgain;

impl Publisher {
    /// A publisher to the generation's topic. If it gives up by itself, it leaves the reason in
    /// `gave_up`.
    ///
    /// # Errors
    /// When librdkafka refuses a property.
    pub fn new(
        generation: &Generation,
        gave_up: Arc<OnceLock<String>>,
    ) -> Result<Self, KafkaError> {
        let log = generation.log_of("publisher");
        let config = &generation.config;
        Ok(Self {
            producer: producer(&config.kafka, log.clone())?,
            topic: config.kafka.topic.as_str().into(),
            queue: Queue::new(HELD_SAMPLES, config.limits.memory_bytes / HELD_SHARE),
            busy: false,
            topic_found: false,
            failing: Repeated::default(),
            late: None,
            flushing: Vec::new(),
            gave_up,
            status: generation.status.clone(),
            pulse: generation.pulse("publisher"),
            log,
        })
    }

    /// Its producer, which outlives a panic of the actor.
    pub(super) fn producer(&self) -> KafkaProducer {
        self.producer.clone()
    }

    /// Begins to publish the oldest samples, unless something is under way.
    fn publish(&mut self, context: &mut Context<Self>) {
        if self.busy || self.queue.is_empty() {
            return;
        }
        self.busy = true;
        if !self.topic_found {
            return self.find_topic(context);
        }
        self.pulse.works();
        let batch = self.queue.oldest(BATCH_SAMPLES, BATCH_BYTES);
        let (producer, topic) = (self.producer.clone(), self.topic.clone());
        let pulse = self.pulse.clone();
        let reports = async move {
            let handed = fault::within(Step::Produce, || {
                let sent = batch.iter().map(|sample| producer.send(&topic, sample));
                std::future::ready(Ok(sent.collect::<Vec<_>>()))
            });
            let handed = handed.await;
            pulse.waits("Kafka");
            match handed {
                Ok(sent) => join_all(sent.into_iter().map(report)).await,
                Err::<_, KafkaError>(error) => vec![Err(error); batch.len()],
            }
        };
        self.watch_for_lateness(context);
        context.spawn(reports.into_actor(self).map(
            |reports, actor, context: &mut Context<Self>| {
                if let Some(late) = actor.late.take() {
                    context.cancel_future(late);
                }
                actor.delivered(&reports, context);
            },
        ));
    }

    /// Says, until it is cancelled, that no delivery report comes: librdkafka itself waits for
    /// ever.
    fn watch_for_lateness(&mut self, context: &mut Context<Self>) {
        self.late = Some(context.run_later(SLOW, |actor, context| {
            actor.failed("no delivery report comes");
            actor.watch_for_lateness(context);
        }));
    }

    /// The delivery reports of the oldest samples, in their order.
    fn delivered(&mut self, reports: &[Result<(), KafkaError>], context: &mut Context<Self>) {
        self.pulse.works();
        self.busy = false;
        let fates: Vec<_> = reports
            .iter()
            .map(|report| report.as_ref().map_or_else(fate, |()| Fate::Published))
            .collect();
        self.queue.settle(&fates);
        self.account(reports, &fates);
        if let Some(reason) = fatal(&self.producer) {
            return self.give_up(reason, context);
        }
        let again = reports
            .iter()
            .zip(&fates)
            .find(|(_, fate)| **fate == Fate::Again);
        if let Some((Err(error), _)) = again {
            self.failed(&error.to_string());
            // Whatever it was, the topic may be gone.
            self.topic_found = false;
            self.try_again(context);
            return;
        }
        self.mended();
        self.rest();
        self.publish(context);
    }

    /// Counts what became of the samples, and says which were refused.
    fn account(&self, reports: &[Result<(), KafkaError>], fates: &[Fate]) {
        let published = fates
            .iter()
            .filter(|fate| **fate == Fate::Published)
            .count();
        self.status
            .count("groundtrack_samples_published_total", &[], published as u64);
        for (report, fate) in reports.iter().zip(fates) {
            if let (Err(error), Fate::Refused) = (report, fate) {
                self.status
                    .count("groundtrack_samples_refused_total", &[], 1);
                slog::error!(self.log, "kafka refuses a sample for good; it is dropped"; events::SAMPLES_LOST,
                    "error" => %error);
            }
        }
    }

    fn find_topic(&mut self, context: &mut Context<Self>) {
        self.pulse.waits("the topic");
        let producer = self.producer.clone();
        let topic = self.topic.clone();
        let looked = on_cpu(Step::FindTopic, move || look_up(&producer, &topic));
        context.spawn(
            looked
                .into_actor(self)
                .map(|found, actor, context: &mut Context<Self>| {
                    actor.busy = false;
                    match found {
                        Ok(Topic::There) => {
                            actor.topic_found = true;
                            return actor.publish(context);
                        }
                        Ok(Topic::Unknown) => actor.failed(
                            "the topic does not exist; it is waited for and must be created by its \
                         owner",
                        ),
                        Err(error) => actor.failed(&error.to_string()),
                    }
                    match fatal(&actor.producer) {
                        Some(reason) => actor.give_up(reason, context),
                        None => actor.try_again(context),
                    }
                }),
        );
    }

    fn try_again(&mut self, context: &mut Context<Self>) {
        self.busy = true;
        self.pulse.waits("the next attempt");
        context.notify_later(TryAgain, TRY_AGAIN);
    }

    fn failed(&mut self, error: &str) {
        let held = self.queue.len();
        let text = format!("nothing can be published to {}: {error}", self.topic);
        self.status.trouble(FAILING, &text, false);
        match self.failing.failed(Instant::now()) {
            Some(Say::Started) => slog::warn!(self.log, "cannot publish"; events::PUBLISHING_FAILS,
                "error" => error, "held" => held),
            Some(Say::Still { count, lasting }) => {
                slog::warn!(self.log, "still cannot publish"; events::PUBLISHING_FAILS,
                "error" => error, "held" => held,
                "failures" => count, "seconds" => lasting.as_secs())
            }
            _ => {}
        }
    }

    fn mended(&mut self) {
        self.status.mended(FAILING);
        if let Some(Say::Ended { count, lasting }) = self.failing.ended(Instant::now()) {
            slog::info!(self.log, "publishing again"; events::PUBLISHING_BACK,
                "failures" => count, "seconds" => lasting.as_secs());
        }
    }

    /// Nothing is under way any more.
    fn rest(&mut self) {
        self.pulse.waits("samples");
        if self.queue.is_empty() {
            for flushing in self.flushing.drain(..) {
                let _ = flushing.send(0);
            }
        }
    }

    fn give_up(&mut self, reason: String, context: &mut Context<Self>) {
        slog::error!(self.log, "the producer cannot go on; what it held is lost"; events::SAMPLES_LOST,
            "error" => &reason, "held" => self.queue.len());
        self.status.count(
            "groundtrack_samples_unpublished_total",
            &[],
            self.queue.len() as u64,
        );
        let _ = self.gave_up.set(reason);
        context.stop();
    }
}

impl Actor for Publisher {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        let producer = self.producer.clone();
        let polling = async move { match producer.poll().await {} };
        context.spawn(polling.into_actor(self));
        self.pulse.waits("samples");
    }
}

impl Handler<Sample> for Publisher {
    type Result = actix::MessageResult<Sample>;

    fn handle(&mut self, sample: Sample, context: &mut Context<Self>) -> Self::Result {
        let held = self.queue.offer(sample);
        self.publish(context);
        actix::MessageResult(held)
    }
}

impl Handler<TryAgain> for Publisher {
    type Result = ();

    fn handle(&mut self, _: TryAgain, context: &mut Context<Self>) {
        self.busy = false;
        self.publish(context);
    }
}

impl Handler<Flush> for Publisher {
    // It only waits for the answer; no data is in it.
    type Result = ResponseFuture<usize>;

    fn handle(&mut self, flush: Flush, context: &mut Context<Self>) -> Self::Result {
        if self.queue.is_empty() {
            return Box::pin(async { 0 });
        }
        let (empty, emptied) = oneshot::channel();
        self.flushing.push(empty);
        context.run_later(flush.within, |actor, _| {
            for flushing in actor.flushing.drain(..) {
                let _ = flushing.send(actor.queue.len());
            }
        });
        // A sender that is gone means that the actor is: its end is seen elsewhere.
        Box::pin(async { emptied.await.unwrap_or(0) })
    }
}

/// The delivery report of a sample that was handed to librdkafka, or why it was not.
async fn report(sent: Result<oneshot::Receiver<Report>, KafkaError>) -> Report {
    let sent = sent?;
    // Without an answer the producer is gone, and whether Kafka has it is not known.
    let delivered = async || sent.await.unwrap_or(Err(KafkaError::Canceled));
    fault::within(Step::DeliveryReport, delivered).await
}
