//! Subscriber: records come in, a block of one partition at a time.
//!
//! Receives blocks and events from the consumer's thread, which it owns. Sends [`RecordBlock`] to
//! the flattener, whose reply it awaits before it sends the next; [`Claim`], [`Release`] and
//! [`Unreadable`] to the checkpoint actor, whose answer to a claim goes back to the thread. Behind
//! the last block of a drain it passes [`Drain`] on, and says when all has landed. When it fails,
//! or the consumer cannot go on, the generation ends; what it held is read again.
//!
//! [`Unreadable`]: crate::messages::Unreadable

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use actix::fut::wrap_future;
use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, StreamHandler};
use slog::{Logger, error};
use tokio::sync::{mpsc, oneshot};

use crate::fault::Way;
use crate::generation::Failure;
use crate::landing::consumer::{self, Event, ThreadParts};
use crate::messages::{Claim, Command, CommandWay, Drain, Gone, RecordBlock, Release, Unreadable};
use crate::status::Pulse;

/// Blocks between the thread and the actor: one is decoded while the next waits. More would only
/// be memory.
pub(crate) const BLOCKS_MAX: usize = 2;

/// What the subscriber is made with.
#[derive(Debug)]
pub struct SubscriberParts {
    pub(crate) blocks: mpsc::Receiver<RecordBlock>,
    pub(crate) events: mpsc::UnboundedReceiver<Event>,
    /// The way back to the thread.
    pub commands: CommandWay,
    /// Takes blocks.
    pub records: Way<RecordBlock>,
    /// Is drained behind the last block.
    pub drain: Way<Drain>,
    /// Answers claims.
    pub checkpoint: ClaimWays,
    /// Told when all that was read has landed.
    pub drained: oneshot::Sender<()>,
    /// Why no restart can help, if so.
    pub verdict: Verdict,
    /// Life sign.
    pub pulse: Arc<Pulse>,
    /// Log.
    pub log: Logger,
}

/// The ways to the checkpoint actor.
#[derive(Debug, Clone)]
pub struct ClaimWays {
    /// Asks for a partition.
    pub claim: Way<Claim>,
    /// Gives partitions up.
    pub release: Way<Release>,
    /// Tells of an offset that cannot be read.
    pub unreadable: Way<Unreadable>,
}

/// Where the subscriber leaves the reason for its end, for who sees that it ended.
#[derive(Debug, Clone, Default)]
pub struct Verdict(Arc<Mutex<Option<Failure>>>);

impl Verdict {
    /// The reason, if it left one.
    pub fn take(&self) -> Option<Failure> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, failure: Failure) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
    }
}

/// The actor.
#[derive(Debug)]
pub struct Subscriber {
    /// Taken when the actor starts.
    flow: Option<Flow>,
    events: Option<mpsc::UnboundedReceiver<Event>>,
    commands: CommandWay,
    checkpoint: ClaimWays,
    verdict: Verdict,
    log: Logger,
}

/// What carries the blocks.
#[derive(Debug)]
struct Flow {
    blocks: mpsc::Receiver<RecordBlock>,
    records: Way<RecordBlock>,
    drain: Way<Drain>,
    drained: oneshot::Sender<()>,
    pulse: Arc<Pulse>,
}

impl Subscriber {
    /// A subscriber that listens to a thread.
    pub fn new(parts: SubscriberParts) -> Self {
        let SubscriberParts {
            blocks,
            records,
            drain,
            drained,
            pulse,
            ..
        } = parts;
        Self {
            flow: Some(Flow {
                blocks,
                records,
                drain,
                drained,
                pulse,
            }),
            events: Some(parts.events),
            commands: parts.commands,
            checkpoint: parts.checkpoint,
            verdict: parts.verdict,
            log: parts.log,
        }
    }

    fn end(&self, reason: &str, context: &mut Context<Self>) {
        error!(self.log, "subscriber ends"; "error" => reason);
        context.stop();
    }

    /// Asks for a partition; the answer goes to the thread whenever it comes.
    fn claim(&self, partition: i32, context: &mut Context<Self>) {
        let asked = self.checkpoint.claim.send(Claim { partition });
        let commands = self.commands.clone();
        let told = async move { commands.send(Command::Start(asked.await?)).await };
        let told = wrap_future::<_, Self>(told);
        context.spawn(told.map(|told, actor, context| actor.told(told, context)));
    }

    fn told(&self, told: Result<(), Gone>, context: &mut Context<Self>) {
        if told.is_err() {
            self.end(
                "the consumer's thread or the checkpoint actor is gone",
                context,
            );
        }
    }
}

/// Starts the consumer's thread.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn start_thread(parts: ThreadParts) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("consumer".to_owned())
        .spawn(move || consumer::run(parts))
}

impl Actor for Subscriber {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        if let Some(flow) = self.flow.take() {
            context.spawn(
                wrap_future::<_, Self>(flow.run()).map(|passed, actor, context| {
                    if let Err(error) = passed {
                        actor.end(&error.to_string(), context);
                    }
                }),
            );
        }
        if let Some(events) = self.events.take() {
            context.add_stream(futures_util::stream::unfold(events, async |mut events| {
                events.recv().await.map(|event| (event, events))
            }));
        }
    }
}

impl Flow {
    /// Passes blocks on until the stream ends, then drains the stages behind.
    async fn run(mut self) -> Result<(), Gone> {
        self.pulse.waits("records");
        while let Some(block) = self.blocks.recv().await {
            self.pulse.works();
            let taken = self
                .records
                .send_waiting(block, &self.pulse, "the flattener");
            taken.await?;
            self.pulse.waits("records");
        }
        self.pulse.waits("the stages behind to drain");
        self.drain.send(Drain).await??;
        // Who asked for the drain may be gone.
        let _ = self.drained.send(());
        Ok(())
    }
}

impl StreamHandler<Event> for Subscriber {
    fn handle(&mut self, event: Event, context: &mut Self::Context) {
        match event {
            Event::Claim(partition) => self.claim(partition, context),
            // These do not wait for an answer, and keep their order with the claims.
            Event::Release(partitions) => {
                self.told(
                    self.checkpoint.release.tell(Release { partitions }),
                    context,
                );
            }
            Event::Unreadable(unreadable) => {
                self.told(self.checkpoint.unreadable.tell(unreadable), context);
            }
            Event::Fenced(text) => {
                self.verdict.set(Failure::Fenced(text.clone()));
                self.end(&text, context);
            }
            Event::Failed(text) => self.end(&text, context),
        }
    }

    /// The thread has ended.
    fn finished(&mut self, context: &mut Self::Context) {
        context.stop();
    }
}
