//! The consumer's thread: it polls, and never blocks on the pipeline.
//!
//! Events (rebalances, statistics, errors) come from the consumer's own queue, records from a
//! queue that the assigned partitions are forwarded to, a thousand at a time. When the pipeline
//! or the budget is full, the records' queue is left alone: librdkafka stops fetching by itself at
//! its limit, and events are polled on, so that the member is never evicted. (Pausing would throw
//! away what was fetched.)
//!
//! On assignment a partition is forwarded, paused, and only then assigned at an absolute offset;
//! on its claim's answer it is sought and resumed. A logical offset (END, BEGINNING, "stored") is
//! never assigned or sought: its look-up, outdated meanwhile, is made again later and jumps there.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use slog::{Logger, debug, info, warn};
use tokio::sync::mpsc;

use crate::budget::Budget;
use crate::config::Config;
use crate::kafka::client_config;
use crate::landing::claims::Claims;
use crate::landing::layout::Layout;
use crate::landing::partition::{Partition, Phase, Purse, Reading};
use crate::landing::queue::{Batch, BatchQueue, Message};
use crate::landing::reader::{Moved, Reader, Verdict};
use crate::landing::rebalance::{Context, Notice, Statistics};
use crate::messages::{
    BlockEnd, ClaimAnswer, ClaimId, Command, RecordBlock, STOPPED_RECHECK, Unreadable,
};
use crate::status::{Pulse, Status};

/// The longest wait for records: a command is heard within it.
const TAKE_TIMEOUT: Duration = Duration::from_millis(100);
/// The same while records come: what follows them (a drain, the end of a replay) is then near.
const TAKE_TIMEOUT_BUSY: Duration = Duration::from_millis(10);
/// The wait while the pipeline is full: it empties in about this time.
const FULL_WAIT: Duration = Duration::from_millis(5);
/// Blocks that wait for the pipeline beyond its own slots. More would only be memory.
const OUTBOX_MAX: usize = 4;
/// A seek that takes longer is tried again: events must be polled meanwhile.
const SEEK_TIMEOUT: Duration = Duration::from_secs(5);
/// A leader that does not answer within it is not there to be woken.
const WAKE_TIMEOUT: Duration = Duration::from_millis(500);
/// Before a failed seek, or an error of a partition, is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// A partition without a record for so long is asked for its position, which control records and
/// compaction move.
const POSITION_AFTER: Duration = Duration::from_secs(1);
/// A replay that waits for its end for so long waits for an open transaction.
const OPEN_TRANSACTION_AFTER: Duration = Duration::from_secs(10);
/// librdkafka's share of the budget, with what each message takes in it beside its bytes: its
/// limit counts the bytes alone.
const QUEUE_SHARE: u64 = 8;
/// Of that share, what the bytes may take: a small queue stays in the processor's cache, and with
/// a short fetch back-off is never empty (measured: a third less CPU than with eight times as
/// much).
const QUEUE_BYTES_SHARE: u64 = 8;
/// Messages that librdkafka keeps ahead: about half a KiB each beside their bytes.
const QUEUE_MESSAGES: &str = "10000";
/// Of one partition and fetch, unless a single batch is larger.
const FETCH_BYTES_MAX: u64 = 256 << 10;
/// A partition assigned anew can be sought after about this.
const REVIVE_TIME: Duration = Duration::from_millis(50);
/// A fetcher that refuses to be sought for so long is started anew.
const SEEK_PATIENCE: Duration = Duration::from_secs(5);
/// A jump waits no longer for its second reading, however busy other partitions are.
const JUMP_PATIENCE: Duration = Duration::from_secs(1);
/// How often librdkafka tells watermarks and connections.
const STATISTICS_INTERVAL_MS: u32 = 5000;

/// What is wrong with the client: mended when a broker is connected.
const CONSUMER_PLACE: &str = "kafka's consumer";
/// What is wrong with the topic: librdkafka says it once, so it lasts until a partition is ours.
const TOPIC_PLACE: &str = "kafka's topic";

/// What the thread is made with.
#[derive(Debug)]
pub(crate) struct ThreadParts {
    pub(crate) config: Arc<Config>,
    pub(crate) instance_id: Option<String>,
    pub(crate) layout: Arc<Layout>,
    pub(crate) claims: Claims,
    pub(crate) budget: Budget,
    pub(crate) commands: Receiver<Command>,
    /// `None` behind the last block of a drain.
    pub(crate) blocks: Option<mpsc::Sender<RecordBlock>>,
    pub(crate) events: mpsc::UnboundedSender<Event>,
    pub(crate) status: Arc<Status>,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) log: Logger,
}

/// What the thread tells the subscriber. Limited by the number of partitions, of which each has
/// one claim under way.
#[derive(Debug)]
pub(crate) enum Event {
    /// A partition is ours: claim it.
    Claim(i32),
    /// Partitions were taken away.
    Release(Vec<i32>),
    /// An offset cannot be read.
    Unreadable(Unreadable),
    /// Another process has our `instance_id`.
    Fenced(String),
    /// The consumer cannot go on.
    Failed(String),
}

/// Why the loop ended.
enum Ended {
    /// It was told to leave, or nobody listens any more.
    Left,
    /// The broker has not yet released our `instance_id` (KIP-848, after a kill): a new consumer
    /// is needed.
    Unreleased,
    /// Said already.
    Failed,
}

/// Runs until it is told to leave, or cannot go on. A member that was killed under KIP-848 keeps
/// its `instance_id` until its session has expired: that is waited for, up to twice.
pub(crate) fn run(mut parts: ThreadParts) {
    let session = parts.config.kafka.session_timeout();
    let mut since = Instant::now();
    loop {
        let ended = match Thread::start(&mut parts) {
            Ok(mut thread) => {
                let ended = thread.poll_until_end();
                if thread.has_joined {
                    since = Instant::now();
                }
                thread.leave();
                ended
            }
            Err(error) => {
                let _ = parts
                    .events
                    .send(Event::Failed(format!("the consumer cannot start: {error}")));
                return;
            }
        };
        match ended {
            Ended::Left | Ended::Failed => return,
            Ended::Unreleased if since.elapsed() > 2 * session => {
                let id = parts.instance_id.unwrap_or_default();
                let text = format!(
                    "another member of the group has the instance_id {id} and does not leave: give each process its own kafka.instance_id"
                );
                let _ = parts.events.send(Event::Fenced(text));
                return;
            }
            Ended::Unreleased => {
                parts.pulse.waits("the session of our predecessor");
                std::thread::sleep(RETRY_AFTER * 4);
            }
        }
    }
}

/// The thread's state.
struct Thread<'a> {
    parts: &'a mut ThreadParts,
    queue: BatchQueue<Context>,
    consumer: Arc<BaseConsumer<Context>>,
    purse: Purse,
    partitions: BTreeMap<i32, Partition>,
    /// Blocks that wait for a slot of the pipeline.
    outbox: VecDeque<RecordBlock>,
    /// Records that were taken and wait for room, and the first of them.
    stalled: Option<(Batch<Context>, usize)>,
    /// Nothing more is taken; `blocks` is closed when the outbox is empty.
    is_draining: bool,
    positions_at: Instant,
    /// Whether records came at the last turn.
    is_busy: bool,
    /// Whether the group has taken it.
    has_joined: bool,
}

impl<'a> Thread<'a> {
    fn start(parts: &'a mut ThreadParts) -> KafkaResult<Self> {
        let kafka = &parts.config.kafka;
        let share_bytes = parts.config.limits.memory_bytes / QUEUE_SHARE;
        let mut client = client_config(kafka);
        let queue_kbytes = client
            .get("queued.max.messages.kbytes")
            .and_then(|text| text.parse::<u64>().ok());
        let queue_bytes =
            queue_kbytes.map_or(share_bytes / QUEUE_BYTES_SHARE, |kbytes| kbytes * 1024);
        let fetch_bytes = FETCH_BYTES_MAX.min(queue_bytes / 2);
        let defaults = [
            (
                "queued.max.messages.kbytes",
                (queue_bytes / 1024).to_string(),
            ),
            ("queued.min.messages", QUEUE_MESSAGES.to_owned()),
            // A second of waiting, the default, each time the queue is full makes a fast reader
            // ten times slower.
            ("fetch.queue.backoff.ms", "10".to_owned()),
            ("max.partition.fetch.bytes", fetch_bytes.to_string()),
        ];
        for (name, value) in defaults {
            if client.get(name).is_none() {
                client.set(name, value);
            }
        }
        client
            .set("group.id", &kafka.group)
            .set("auto.offset.reset", "error")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "false")
            .set("statistics.interval.ms", STATISTICS_INTERVAL_MS.to_string());
        if let Some(id) = &parts.instance_id {
            client.set("group.instance.id", id);
        }
        let context = Context::new(&kafka.topic, parts.log.clone());
        let consumer: Arc<BaseConsumer<Context>> = Arc::new(client.create_with_context(context)?);
        let queue = BatchQueue::new(consumer.clone()).ok_or(KafkaError::Canceled)?;
        consumer.subscribe(&[&kafka.topic])?;
        let purse = Purse::new(parts.budget.clone(), share_bytes.max(queue_bytes));
        Ok(Self {
            parts,
            queue,
            consumer,
            purse,
            partitions: BTreeMap::new(),
            outbox: VecDeque::new(),
            stalled: None,
            is_draining: false,
            positions_at: Instant::now(),
            is_busy: false,
            has_joined: false,
        })
    }

    fn poll_until_end(&mut self) -> Ended {
        loop {
            self.parts.pulse.works();
            if let Some(ended) = self.events() {
                return ended;
            }
            if self.commands() {
                return Ended::Left;
            }
            let now = Instant::now();
            self.phases(now);
            self.hand_on_due(now);
            self.flush();
            if self.parts.events.is_closed() {
                return Ended::Left;
            }
            self.records();
        }
    }

    // Events.

    fn events(&mut self) -> Option<Ended> {
        let consumer = self.consumer.clone();
        while let Some(polled) = consumer.poll(Duration::ZERO) {
            match polled {
                Ok(record) => self.misrouted(record.partition()),
                Err(error) => {
                    if let Some(ended) = self.client_error(&error, "") {
                        return Some(ended);
                    }
                }
            }
        }
        while let Some(notice) = self.consumer.context().next_notice() {
            match notice {
                Notice::Assigned(partitions) => self.assigned(&partitions),
                Notice::Revoked(partitions) => self.revoked(partitions),
                Notice::Statistics(statistics) => self.statistics(&statistics),
                Notice::Trouble(error, reason) => {
                    if let Some(ended) = self.client_error(&error, &reason) {
                        return Some(ended);
                    }
                }
            }
        }
        None
    }

    /// A record on the consumer's own queue: its partition is no longer forwarded. It is paused and
    /// read again from our own next offset, through the right queue.
    fn misrouted(&mut self, partition: i32) {
        if (self.partitions.get(&partition)).is_none_or(|known| known.phase != Phase::Reading) {
            return;
        }
        debug!(self.parts.log, "records came beside their queue"; "partition" => partition);
        let now = Instant::now();
        self.pause(&[partition]);
        self.set_phase(partition, Phase::SeekAt(now, now));
    }

    fn client_error(&mut self, error: &KafkaError, reason: &str) -> Option<Ended> {
        let code = error.rdkafka_error_code();
        // A fatal error comes under its own code where it is an event of the consumer.
        let is_fatal = matches!(error, KafkaError::MessageConsumptionFatal(_))
            || matches!(
                code,
                Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::FencedInstanceId)
            );
        if is_fatal {
            return Some(self.fatal());
        }
        let (place, text) = match code {
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => (
                TOPIC_PLACE,
                "the topic does not exist; it is waited for, create it".to_owned(),
            ),
            _ => (
                CONSUMER_PLACE,
                format!("{error} {reason}").trim().to_owned(),
            ),
        };
        if self.parts.status.trouble(place, &text, false) {
            warn!(self.parts.log, "kafka consumer waits"; "error" => text);
        }
        None
    }

    fn fatal(&mut self) -> Ended {
        let (code, text) = match self.consumer.client().fatal_error() {
            Some((code, text)) => (Some(code), text),
            None => (None, "fatal".to_owned()),
        };
        match code {
            Some(RDKafkaErrorCode::FencedInstanceId) => {
                let id = self.parts.instance_id.clone().unwrap_or_default();
                let text = format!(
                    "another process joined with the instance_id {id}: give each process its own kafka.instance_id"
                );
                let _ = self.parts.events.send(Event::Fenced(text));
                Ended::Failed
            }
            Some(RDKafkaErrorCode::UnreleasedInstanceId) => {
                info!(self.parts.log, "kafka has not released our instance id yet, waiting for the session of our predecessor"; "error" => text);
                Ended::Unreleased
            }
            _ => {
                let _ = self.parts.events.send(Event::Failed(format!(
                    "kafka's consumer cannot go on: {text}"
                )));
                Ended::Failed
            }
        }
    }

    fn statistics(&mut self, statistics: &Statistics) {
        for (partition, (low, stable)) in &statistics.watermarks {
            let Some(known) = self.partitions.get(partition) else {
                continue;
            };
            if *low >= 0 {
                known.status.log_start.store(*low, Ordering::Relaxed);
            }
            if *stable >= 0 {
                known.status.log_end.store(*stable, Ordering::Relaxed);
            }
        }
        if statistics.is_connected && self.parts.status.mended(CONSUMER_PLACE).is_some() {
            info!(self.parts.log, "kafka consumer is connected again");
        }
    }

    // Assignments.

    /// Forward, pause, and only then assign at an absolute offset; then ask for the claims.
    fn assigned(&mut self, partitions: &[i32]) {
        info!(self.parts.log, "partitions assigned"; "partitions" => format!("{partitions:?}"));
        self.has_joined = true;
        if !partitions.is_empty() {
            self.parts.status.mended(TOPIC_PLACE);
        }
        let now = Instant::now();
        for partition in partitions {
            let status = self.parts.status.partition(self.topic(), *partition);
            self.partitions
                .insert(*partition, Partition::new(status, now));
        }
        self.assign(partitions);
        if self.is_draining {
            return;
        }
        for partition in partitions {
            let _ = self.parts.events.send(Event::Claim(*partition));
        }
    }

    /// Under eager the partitions are all that there are: it knows only whole assignments.
    fn assign(&mut self, partitions: &[i32]) {
        for partition in partitions {
            self.queue.forward(self.topic(), *partition);
        }
        self.pause(partitions);
        let list = self.list(partitions, |partition| {
            Offset::Offset(partition.map_or(0, Partition::next))
        });
        let assigned = match self.is_cooperative() {
            true => self.consumer.incremental_assign(&list),
            false => self.consumer.assign(&list),
        };
        if let Err(error) = assigned {
            warn!(self.parts.log, "partitions not assigned"; "error" => %error);
        }
    }

    /// Cooperative-sticky and KIP-848.
    fn is_cooperative(&self) -> bool {
        let protocol = self.consumer.rebalance_protocol();
        matches!(protocol, RebalanceProtocol::Cooperative)
    }

    fn revoked(&mut self, partitions: Vec<i32>) {
        info!(self.parts.log, "partitions revoked"; "partitions" => format!("{partitions:?}"));
        for partition in &partitions {
            self.parts.claims.release(*partition);
            self.partitions.remove(partition);
        }
        self.outbox
            .retain(|block| !partitions.contains(&block.claim.partition));
        let _ = self.parts.events.send(Event::Release(partitions));
    }

    fn pause(&mut self, partitions: &[i32]) {
        let list = self.list(partitions, |_| Offset::Invalid);
        if let Err(error) = self.consumer.pause(&list) {
            warn!(self.parts.log, "partitions not paused"; "error" => %error);
        }
        for partition in partitions {
            if let Some(known) = self.partitions.get_mut(partition) {
                known.is_paused = true;
            }
        }
    }

    fn list(
        &self,
        partitions: &[i32],
        offset: impl Fn(Option<&Partition>) -> Offset,
    ) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            let offset = offset(self.partitions.get(partition));
            // Only an offset out of range fails, and none is.
            let _ = list.add_partition_offset(self.topic(), *partition, offset);
        }
        list
    }

    fn topic(&self) -> &str {
        &self.parts.config.kafka.topic
    }

    // Commands.

    /// Whether it was told to leave.
    fn commands(&mut self) -> bool {
        loop {
            match self.parts.commands.try_recv() {
                Ok(Command::Start(answer)) => self.start_reading(answer),
                Ok(Command::Commit { partition, offset }) => self.commit(partition, offset),
                Ok(Command::Reclaim { claim, after }) => self.reclaim(claim, after),
                Ok(Command::Drain) => self.drain(),
                Ok(Command::Leave) => return true,
                Err(std::sync::mpsc::TryRecvError::Empty) => return false,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return true,
            }
        }
    }

    fn start_reading(&mut self, answer: ClaimAnswer) {
        let now = Instant::now();
        let layout = self.parts.layout.clone();
        let (claim, layout, forced, reader) = match answer {
            ClaimAnswer::Land { claim, from } => {
                (claim, layout, Arc::default(), Reader::land(from))
            }
            ClaimAnswer::Replay {
                claim,
                from,
                end,
                layout,
                forced,
            } => (claim, layout, forced, Reader::replay(from, end)),
            ClaimAnswer::Stopped { partition, .. } => {
                if let Some(known) = self.partitions.get_mut(&partition) {
                    known.phase = Phase::ClaimAt(now + STOPPED_RECHECK);
                }
                return;
            }
            ClaimAnswer::Dropped => return,
        };
        // The answer to a claim before a rebalance may come behind it.
        let is_current = self.parts.claims.is_current(claim);
        let Some(known) = self.partitions.get_mut(&claim.partition) else {
            return;
        };
        if self.is_draining || known.phase != Phase::Waiting || !is_current {
            debug!(self.parts.log, "claim's answer came too late"; "partition" => claim.partition, "epoch" => claim.epoch);
            return;
        }
        known.reading = Some(Reading::new(claim, layout, forced, reader, now));
        known.failing = None;
        known.record_at = now;
        known.phase = Phase::SeekAt(now, now);
        self.note_position(claim.partition);
        self.complete(claim.partition);
    }

    /// After an offset out of range the fetcher has stopped, and no seek starts it again: the
    /// partition is assigned anew. Eager replaces the whole assignment by that, which stops all
    /// others too and undoes their forwards: each begins again at its own next offset.
    fn revive(&mut self, partition: i32) {
        info!(self.parts.log, "partition is assigned anew"; "partition" => partition);
        let now = Instant::now();
        if self.is_cooperative() {
            let list = self.list(&[partition], |_| Offset::Invalid);
            if let Err(error) = self.consumer.incremental_unassign(&list) {
                warn!(self.parts.log, "partition not unassigned"; "partition" => partition, "error" => %error);
            }
            self.assign(&[partition]);
        } else {
            let whole: Vec<i32> = self.partitions.keys().copied().collect();
            self.assign(&whole);
            for known in self.partitions.values_mut() {
                known.is_fetcher_dead = false;
                if known.phase == Phase::Reading {
                    known.phase = Phase::SeekAt(now, now);
                }
            }
        }
        if let Some(known) = self.partitions.get_mut(&partition) {
            known.is_fetcher_dead = false;
            known.phase = Phase::SeekAt(now + REVIVE_TIME, now);
        }
    }

    fn commit(&self, partition: i32, offset: i64) {
        let list = self.list(&[partition], |_| Offset::Offset(offset));
        if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
            debug!(self.parts.log, "offset not committed to kafka"; "partition" => partition, "error" => %error);
        }
    }

    fn reclaim(&mut self, claim: ClaimId, after: Duration) {
        let Some(known) = self.partitions.get_mut(&claim.partition) else {
            return;
        };
        if known
            .reading
            .as_ref()
            .is_some_and(|reading| reading.claim.epoch > claim.epoch)
        {
            return;
        }
        known.reading = None;
        known.phase = Phase::ClaimAt(Instant::now() + after);
        self.outbox.retain(|block| block.claim != claim);
        self.pause(&[claim.partition]);
    }

    /// Closes what is open. A range that is read again is not closed before its end: what is
    /// missing of it would count as holes.
    fn drain(&mut self) {
        self.is_draining = true;
        self.stalled = None;
        let now = Instant::now();
        for known in self.partitions.values_mut() {
            let is_reading = matches!(known.phase, Phase::Reading | Phase::SeekAt(..));
            if let Some(reading) = known
                .reading
                .as_mut()
                .filter(|reading| is_reading && reading.reader.end().is_none())
            {
                self.outbox
                    .push_back(reading.hand_on(BlockEnd::Close, &self.purse, now));
            }
            known.phase = Phase::Waiting;
        }
        let all: Vec<i32> = self.partitions.keys().copied().collect();
        self.pause(&all);
    }

    // What is due.

    fn phases(&mut self, now: Instant) {
        let due = |phase: Phase| match phase {
            Phase::ClaimAt(at) | Phase::SeekAt(at, _) => at <= now,
            Phase::Waiting | Phase::Reading => false,
        };
        let partitions: Vec<i32> = self
            .partitions
            .iter()
            .filter(|(_, known)| due(known.phase))
            .map(|(partition, _)| *partition)
            .collect();
        for partition in partitions {
            match self.partitions.get(&partition).map(|known| known.phase) {
                Some(Phase::ClaimAt(_)) if !self.is_draining => {
                    self.set_phase(partition, Phase::Waiting);
                    let _ = self.parts.events.send(Event::Claim(partition));
                }
                Some(Phase::SeekAt(_, since)) => self.seek(partition, since),
                _ => {}
            }
        }
    }

    fn set_phase(&mut self, partition: i32, phase: Phase) {
        if let Some(known) = self.partitions.get_mut(&partition) {
            known.phase = phase;
        }
    }

    /// To our own next offset, then on. What librdkafka believes is not asked. It is forwarded
    /// again: the end of an assignment before this one may have undone the forward after it was
    /// made, and a seek that is answered lies behind that.
    fn seek(&mut self, partition: i32, since: Instant) {
        let is_dead = |known: &Partition| known.is_fetcher_dead;
        if self.partitions.get(&partition).is_some_and(is_dead) {
            return self.revive(partition);
        }
        let list = self.list(&[partition], |known| {
            Offset::Offset(known.map_or(0, Partition::next))
        });
        let sought = self
            .consumer
            .seek_partitions(list, SEEK_TIMEOUT)
            .and_then(|list| {
                list.elements()
                    .into_iter()
                    .try_for_each(|element| element.error())
            });
        if let Err(error) = sought {
            debug!(self.parts.log, "seek is tried again"; "partition" => partition, "error" => %error, "seconds" => since.elapsed().as_secs());
            if let Some(known) = self.partitions.get_mut(&partition) {
                known.is_fetcher_dead = since.elapsed() > SEEK_PATIENCE;
                known.phase = Phase::SeekAt(Instant::now() + RETRY_AFTER, since);
            }
            return;
        }
        self.queue.forward(self.topic(), partition);
        let Some(known) = self.partitions.get_mut(&partition) else {
            return;
        };
        if let Some(reading) = &mut known.reading {
            reading.reader.reread();
        }
        known.record_at = Instant::now();
        known.phase = Phase::Reading;
        if !std::mem::take(&mut known.is_paused) {
            return;
        }
        let list = self.list(&[partition], |_| Offset::Invalid);
        if let Err(error) = self.consumer.resume(&list) {
            warn!(self.parts.log, "partition not resumed"; "partition" => partition, "error" => %error);
        }
        self.wake_leader(partition);
    }

    /// The thread of the partition's leader in librdkafka notices a resumed partition only at its
    /// next turn, up to a second later: a request to the leader wakes it. The answer is of use to
    /// the status; without one nothing is lost but that second.
    fn wake_leader(&self, partition: i32) {
        let Some(known) = self.partitions.get(&partition) else {
            return;
        };
        if let Ok((low, high)) =
            self.consumer
                .fetch_watermarks(self.topic(), partition, WAKE_TIMEOUT)
        {
            known.status.log_start.store(low, Ordering::Relaxed);
            known.status.log_end.store(high, Ordering::Relaxed);
        }
    }

    fn hand_on_due(&mut self, now: Instant) {
        let holes_after = self.parts.config.files.max_age / 4;
        for known in self.partitions.values_mut() {
            let is_read = matches!(known.phase, Phase::Reading | Phase::SeekAt(..));
            if !is_read || self.outbox.len() >= OUTBOX_MAX {
                continue;
            }
            if let Some(reading) = known
                .reading
                .as_mut()
                .filter(|reading| reading.is_due(now, holes_after))
            {
                self.outbox
                    .push_back(reading.hand_on(BlockEnd::More, &self.purse, now));
            }
        }
    }

    /// Moves blocks into the pipeline, as far as it has room. Behind the last block of a drain the
    /// stream ends.
    fn flush(&mut self) {
        let Some(blocks) = &self.parts.blocks else {
            return;
        };
        while let Some(block) = self.outbox.pop_front() {
            match blocks.try_send(block) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(block)) => {
                    return self.outbox.push_front(block);
                }
                Err(mpsc::error::TrySendError::Closed(_)) => return self.outbox.clear(),
            }
        }
        if self.is_draining {
            self.parts.blocks = None;
        }
    }

    // Records.

    fn records(&mut self) {
        if self.is_draining {
            return std::thread::sleep(FULL_WAIT);
        }
        if let Some((batch, first)) = self.stalled.take() {
            self.take(batch, first);
            if self.stalled.is_some() {
                std::thread::sleep(FULL_WAIT);
            }
            return;
        }
        if self.outbox.len() >= OUTBOX_MAX {
            return std::thread::sleep(FULL_WAIT);
        }
        let was_busy = self.is_busy;
        let batch = self.queue.take(if was_busy {
            TAKE_TIMEOUT_BUSY
        } else {
            TAKE_TIMEOUT
        });
        self.is_busy = batch.len() > 0;
        let is_idle = !self.is_busy && !was_busy;
        self.take(batch, 0);
        self.reread(is_idle);
        self.positions();
    }

    fn take(&mut self, batch: Batch<Context>, first: usize) {
        let now = Instant::now();
        let mut disturbed: Vec<i32> = Vec::new();
        for index in first..batch.len() {
            let Some(message) = batch.get(index) else {
                continue;
            };
            let partition = message.partition();
            if disturbed.contains(&partition) {
                continue;
            }
            match message.error() {
                Some(code) => {
                    disturbed.push(partition);
                    self.partition_error(partition, code, message);
                }
                None if !self.record(message, now) => {
                    self.stalled = Some((batch, index));
                    return;
                }
                None => {}
            }
        }
    }

    /// Takes one record; `false`: there is no room, and it must be offered again.
    fn record(&mut self, message: Message<'_>, now: Instant) -> bool {
        let Some(known) = self.partitions.get_mut(&message.partition()) else {
            return true;
        };
        if known.phase != Phase::Reading {
            return true;
        }
        let Some(reading) = &mut known.reading else {
            return true;
        };
        match reading.reader.judge(message.offset()) {
            Verdict::Drop => return true,
            Verdict::Complete => {}
            Verdict::Take => {
                if reading.is_full() {
                    if self.outbox.len() >= OUTBOX_MAX {
                        return false;
                    }
                    self.outbox
                        .push_back(reading.hand_on(BlockEnd::More, &self.purse, now));
                }
                if !reading.append(message, &self.purse, now) {
                    self.purse.ask();
                    return false;
                }
                known.record_at = now;
                known.failing = None;
            }
        }
        known.status.position.store(known.next(), Ordering::Relaxed);
        if known
            .reading
            .as_ref()
            .is_some_and(|reading| reading.reader.is_complete())
        {
            self.complete(message.partition());
        }
        true
    }

    /// A replay that has its whole range is closed; what follows waits for the next claim.
    fn complete(&mut self, partition: i32) {
        let Some(known) = self.partitions.get_mut(&partition) else {
            return;
        };
        let Some(reading) = known
            .reading
            .as_mut()
            .filter(|reading| reading.reader.is_complete())
        else {
            return;
        };
        let block = reading.hand_on(BlockEnd::Close, &self.purse, Instant::now());
        known.phase = Phase::Waiting;
        self.outbox.push_back(block);
        self.parts.status.mended(&open_transaction_place(partition));
        self.pause(&[partition]);
    }

    fn partition_error(&mut self, partition: i32, code: RDKafkaErrorCode, message: Message<'_>) {
        let now = Instant::now();
        let Some(known) = self.partitions.get_mut(&partition) else {
            return;
        };
        known.is_fetcher_dead |= code == RDKafkaErrorCode::AutoOffsetReset;
        let Some(reading) = known
            .reading
            .as_mut()
            .filter(|_| matches!(known.phase, Phase::Reading | Phase::SeekAt(..)))
        else {
            return;
        };
        reading.reader.disturbed();
        let error = message.error_text();
        if code == RDKafkaErrorCode::AutoOffsetReset {
            warn!(self.parts.log, "kafka no longer has our next offset, the partition is claimed again";
                "partition" => partition, "offset" => reading.reader.next(), "error" => &error);
            return self.close_and_reclaim(partition, None);
        }
        let failing = known.failed(code, now);
        debug!(self.parts.log, "partition is read again after an error"; "partition" => partition,
            "offset" => message.offset(), "error" => &error);
        let is_corrupt = matches!(
            code,
            RDKafkaErrorCode::BadMessage
                | RDKafkaErrorCode::InvalidMessage
                | RDKafkaErrorCode::BadCompression
                | RDKafkaErrorCode::InvalidMessageSize
        );
        if is_corrupt
            && now.duration_since(failing.since) >= self.parts.config.supervision.backoff_max
        {
            let offset = failing.offset;
            return self.close_and_reclaim(partition, Some((offset, error)));
        }
        if failing.times == 1 {
            warn!(self.parts.log, "partition cannot be read, trying again"; "partition" => partition,
                "offset" => failing.offset, "error" => error);
        }
        self.set_phase(partition, Phase::SeekAt(now + RETRY_AFTER, now));
    }

    /// What was read before is closed and lands first: it may be all that is left. A range that is
    /// read again is given up instead.
    fn close_and_reclaim(&mut self, partition: i32, unreadable: Option<(i64, String)>) {
        let Some(known) = self.partitions.get_mut(&partition) else {
            return;
        };
        let Some(reading) = &mut known.reading else {
            return;
        };
        let claim = reading.claim;
        match reading.reader.end() {
            Some(_) => self.parts.claims.end(claim),
            None => {
                self.outbox
                    .push_back(reading.hand_on(BlockEnd::Close, &self.purse, Instant::now()))
            }
        }
        known.phase = Phase::Waiting;
        self.pause(&[partition]);
        let event = match unreadable {
            Some((offset, error)) => Event::Unreadable(Unreadable {
                claim,
                offset,
                error,
            }),
            None => Event::Claim(partition),
        };
        let _ = self.parts.events.send(event);
    }

    /// Jumps that were noted are read once more from our own next offset.
    fn reread(&mut self, is_idle: bool) {
        let now = Instant::now();
        let wants = |known: &Partition| {
            let is_late = now.duration_since(known.record_at) >= JUMP_PATIENCE;
            let wants = |reading: &Reading| reading.reader.wants_reread(is_idle || is_late);
            known.phase == Phase::Reading && known.reading.as_ref().is_some_and(wants)
        };
        let partitions: Vec<i32> = self
            .partitions
            .iter()
            .filter(|(_, known)| wants(known))
            .map(|(partition, _)| *partition)
            .collect();
        for partition in partitions {
            self.seek(partition, Instant::now());
        }
    }

    /// Positions of partitions that were silent for a while: over holes there are no records.
    fn positions(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.positions_at) < POSITION_AFTER {
            return;
        }
        self.positions_at = now;
        let silent = |known: &Partition| {
            known.phase == Phase::Reading && now.duration_since(known.record_at) >= POSITION_AFTER
        };
        if !self.partitions.values().any(silent) {
            return;
        }
        let Ok(positions) = self.consumer.position() else {
            return;
        };
        for element in positions.elements() {
            let (partition, Offset::Offset(position)) = (element.partition(), element.offset())
            else {
                continue;
            };
            let Some(known) = self
                .partitions
                .get_mut(&partition)
                .filter(|known| silent(known))
            else {
                continue;
            };
            let Some(reading) = &mut known.reading else {
                continue;
            };
            match reading.reader.position(position) {
                Moved::No => self.name_open_transaction(partition, now),
                Moved::Reread => self.seek(partition, now),
                Moved::Holes => {
                    self.note_position(partition);
                    self.complete(partition);
                }
            }
        }
    }

    fn note_position(&self, partition: i32) {
        if let Some(known) = self.partitions.get(&partition) {
            known.status.position.store(known.next(), Ordering::Relaxed);
        }
    }

    fn name_open_transaction(&self, partition: i32, now: Instant) {
        let reading = self
            .partitions
            .get(&partition)
            .and_then(|known| known.reading.as_ref());
        let Some(reading) = reading.filter(|reading| reading.reader.end().is_some()) else {
            return;
        };
        if now.duration_since(reading.waits_since) < OPEN_TRANSACTION_AFTER {
            return;
        }
        let text = format!(
            "a batch that was begun is read again up to offset {}, and stands at {}: an open transaction holds it back",
            reading.reader.end().unwrap_or_default(),
            reading.reader.next()
        );
        if self
            .parts
            .status
            .trouble(&open_transaction_place(partition), &text, false)
        {
            warn!(self.parts.log, "a replay waits for an open transaction"; "partition" => partition, "offset" => reading.reader.next());
        }
    }

    // The end.

    /// Unassigns before the consumer is destroyed, which would hang on assigned partitions.
    fn leave(mut self) {
        self.stalled = None;
        let assigned: Vec<i32> = self.partitions.keys().copied().collect();
        for partition in &assigned {
            self.parts.claims.release(*partition);
        }
        let list = self.list(&assigned, |_| Offset::Invalid);
        let unassigned = match self.is_cooperative() {
            true if assigned.is_empty() => Ok(()),
            true => self.consumer.incremental_unassign(&list),
            false => self.consumer.unassign(),
        };
        if !assigned.is_empty() {
            let _ = self.parts.events.send(Event::Release(assigned));
        }
        if let Err(error) = unassigned {
            debug!(self.parts.log, "partitions not unassigned"; "error" => %error);
        }
        self.parts.pulse.waits("the end of the consumer");
    }
}

fn open_transaction_place(partition: i32) -> String {
    format!("partition {partition}'s replay")
}
