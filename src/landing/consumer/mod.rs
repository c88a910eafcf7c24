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
//!
//! In the order of a turn: [`client`] makes the [`member`] of the group; [`events`] and [`assignment`] hear what
//! librdkafka tells, [`commands`] what the actors do; [`due`] does what its time has come for;
//! [`records`] takes records, [`errors`] and [`positions`] what comes in their place.

mod assignment;
mod client;
mod commands;
mod due;
mod errors;
mod events;
mod member;
mod positions;
mod records;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rdkafka::{Offset, TopicPartitionList};
use slog::{Logger, info};
use tokio::sync::mpsc;

use crate::budget::Budget;
use crate::config::Config;
use crate::fault::{self, Step};
use crate::landing::claims::Claims;
use crate::landing::consumer::assignment::Revoking;
use crate::landing::consumer::member::Member;
use crate::landing::layout::Layout;
use crate::landing::partition::{Partition, Phase, Purse};
use crate::landing::queue::Batch;
use crate::landing::rebalance::Context;
use crate::logging::Repeated;
use crate::messages::{Command, Gone, RecordBlock, Unreadable};
use crate::status::{Pulse, Status};

/// Blocks that wait for the pipeline beyond its own slots. More would only be memory.
const OUTBOX_MAX: usize = 4;
/// Before a failed seek, or an error of a partition, is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// What the thread is made with.
#[derive(Debug)]
pub(crate) struct ThreadParts {
    pub(crate) config: Arc<Config>,
    pub(crate) instance_id: Option<String>,
    /// See [`session_timeout`](crate::landing::session::session_timeout).
    pub(crate) session: Duration,
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
    /// When a line told that no broker answers.
    pub(crate) unreachable: Repeated,
    /// When a line told that the group shares the partitions out anew.
    pub(crate) rebalances: Repeated,
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
    /// The group gave us up for good (KIP-848, after a poll that came too late): a new consumer
    /// joins again.
    Evicted,
    /// Said already.
    Failed,
}

/// Runs until it is told to leave, or cannot go on. A member that was killed under KIP-848 keeps
/// its `instance_id` until its session has expired: that is waited for, up to twice.
pub(crate) fn run(mut parts: ThreadParts) {
    let session = parts.session;
    let mut since = Instant::now();
    loop {
        parts.pulse.works();
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
            Ended::Evicted => info!(parts.log, "a new consumer joins the group"),
        }
    }
}

/// The thread's state.
struct Thread<'a> {
    parts: &'a mut ThreadParts,
    member: Member,
    purse: Purse,
    partitions: BTreeMap<i32, Partition>,
    /// Blocks that wait for a slot of the pipeline.
    outbox: VecDeque<RecordBlock>,
    /// Records that were taken and wait for room, and the first of them.
    stalled: Option<(Batch<Context>, usize)>,
    /// Nothing more is taken; `blocks` is closed when the outbox is empty.
    is_draining: bool,
    /// The group waits for these.
    revoking: Option<Revoking>,
    positions_at: Instant,
    /// Leaders are not woken before.
    wake_from: Instant,
    /// Whether records came at the last turn.
    is_busy: bool,
    /// Whether the group has taken it.
    has_joined: bool,
    /// The subscriber takes events and blocks.
    is_heard: bool,
}

impl Thread<'_> {
    fn poll_until_end(&mut self) -> Ended {
        loop {
            self.parts.pulse.works();
            if let Some(ended) = self.events() {
                return ended;
            }
            if self.commands() {
                return Ended::Left;
            }
            self.note_joined();
            let now = Instant::now();
            self.phases(now);
            self.hand_on_due(now);
            self.flush();
            self.give_back(now);
            if !self.is_heard || self.parts.events.is_closed() {
                return Ended::Left;
            }
            self.records();
        }
    }

    /// Says once that the group was joined: it has told what is ours, and the store has answered
    /// for all of that.
    fn note_joined(&mut self) {
        let status = &self.parts.status;
        if self.has_joined
            && !status.has_joined()
            && self.partitions.values().all(Partition::is_answered)
        {
            status.set_joined();
            let partitions: Vec<&i32> = self.partitions.keys().collect();
            info!(self.parts.log, "the group is joined and the store answers"; crate::logging::events::READY,
                "partitions" => format!("{partitions:?}"));
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

    fn phase(&self, partition: i32) -> Option<Phase> {
        self.partitions.get(&partition).map(|known| known.phase)
    }

    fn set_phase(&mut self, partition: i32, phase: Phase) {
        if let Some(known) = self.partitions.get_mut(&partition) {
            known.phase = phase;
        }
    }

    /// Tells the subscriber; without one the thread ends.
    fn tell(&mut self, event: Event) {
        let events = &self.parts.events;
        let told = fault::on_thread(Step::HandEvent, || events.send(event).map_err(|_| Gone));
        self.is_heard &= told.is_ok();
    }

    /// Unassigns before the consumer is destroyed, which would hang on assigned partitions.
    fn leave(mut self) {
        self.member.leave();
        self.stalled = None;
        if self.is_draining {
            self.parts.blocks = None;
        }
        let assigned: Vec<i32> = self.partitions.keys().copied().collect();
        // After a fatal error librdkafka may wait for an answer that was never given.
        let has_failed = self.member.fatal_error().is_some();
        if has_failed || !assigned.is_empty() || self.revoking.is_some() {
            self.unassign(Step::Leave, assigned);
        }
        self.parts.pulse.waits("the end of the consumer");
    }
}
