//! The member of the group that the thread drives: every call of librdkafka's that waits, takes or
//! moves something is a step.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{Message as _, TopicPartitionList};

use crate::fault::{self, Step};
use crate::landing::queue::{Batch, BatchQueue};
use crate::landing::rebalance::{Context, Notice};

/// The consumer, which nobody else calls, and the queue of its records.
pub(super) struct Member {
    queue: BatchQueue<Context>,
    consumer: Arc<BaseConsumer<Context>>,
}

impl Member {
    /// A consumer that has subscribed.
    pub(super) fn join(client: &ClientConfig, context: Context, topic: &str) -> KafkaResult<Self> {
        fault::on_thread(Step::Join, || {
            let consumer: BaseConsumer<Context> = client.create_with_context(context)?;
            let consumer = Arc::new(consumer);
            let queue = BatchQueue::new(consumer.clone()).ok_or(KafkaError::Canceled)?;
            consumer.subscribe(&[topic])?;
            Ok(Self { queue, consumer })
        })
    }

    /// The next event, if one is there: an error of the client, or the partition of a record that
    /// came beside the records' queue.
    pub(super) fn poll(&self) -> KafkaResult<Option<i32>> {
        fault::on_thread(Step::PollEvents, || {
            let polled = self.consumer.poll(Duration::ZERO).transpose()?;
            Ok(polled.map(|record| record.partition()))
        })
    }

    /// The oldest thing told during a poll that was not taken yet.
    pub(super) fn next_notice(&self) -> Option<Notice> {
        self.consumer.context().next_notice()
    }

    /// Why the consumer cannot go on.
    pub(super) fn fatal_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.consumer.client().fatal_error()
    }

    /// Cooperative-sticky and KIP-848.
    pub(super) fn is_cooperative(&self) -> bool {
        let protocol = self.consumer.rebalance_protocol();
        matches!(protocol, RebalanceProtocol::Cooperative)
    }

    /// See [`BatchQueue::forward`].
    pub(super) fn forward(&self, topic: &str, partition: i32) {
        self.queue.forward(topic, partition);
    }

    /// Under eager these are all that there are.
    pub(super) fn assign(&self, list: &TopicPartitionList) -> KafkaResult<()> {
        fault::on_thread(Step::Assign, || match self.is_cooperative() {
            true => self.consumer.incremental_assign(list),
            false => self.consumer.assign(list),
        })
    }

    /// Takes partitions out of a cooperative assignment, to put them in again.
    pub(super) fn take_out(&self, list: &TopicPartitionList) -> KafkaResult<()> {
        fault::on_thread(Step::Assign, || self.consumer.incremental_unassign(list))
    }

    /// Nothing more is fetched, and what was is thrown away.
    pub(super) fn pause(&self, list: &TopicPartitionList) -> KafkaResult<()> {
        fault::on_thread(Step::Pause, || self.consumer.pause(list))
    }

    /// To the offsets in the list. Which partitions could not be sought, and why.
    pub(super) fn seek(
        &self,
        list: TopicPartitionList,
        timeout: Duration,
    ) -> KafkaResult<Vec<(i32, KafkaError)>> {
        fault::on_thread(Step::Seek, || {
            let sought = self.consumer.seek_partitions(list, timeout)?;
            let failed = sought.elements().into_iter();
            let failed = failed.filter_map(|one| Some((one.partition(), one.error().err()?)));
            Ok(failed.collect())
        })
    }

    /// Fetches again.
    pub(super) fn resume(&self, list: &TopicPartitionList) -> KafkaResult<()> {
        fault::on_thread(Step::Resume, || self.consumer.resume(list))
    }

    /// Asks the partitions' leaders, all at once.
    pub(super) fn wake_leaders(
        &self,
        list: TopicPartitionList,
        timeout: Duration,
    ) -> KafkaResult<TopicPartitionList> {
        fault::on_thread(Step::WakeLeaders, || {
            self.consumer.offsets_for_times(list, timeout)
        })
    }

    /// See [`BatchQueue::take`].
    pub(super) fn take(&self, timeout: Duration) -> KafkaResult<Batch<Context>> {
        fault::on_thread(Step::Take, || self.queue.take(timeout))
    }

    /// Where librdkafka stands.
    pub(super) fn positions(&self) -> KafkaResult<TopicPartitionList> {
        fault::on_thread(Step::AskPosition, || self.consumer.position())
    }

    /// Does not wait for the answer.
    pub(super) fn commit(&self, list: &TopicPartitionList) -> KafkaResult<()> {
        fault::on_thread(Step::Commit, || {
            self.consumer.commit(list, CommitMode::Async)
        })
    }

    /// Gives partitions back; under eager these are all that there are. The step says why.
    pub(super) fn unassign(&self, step: Step, list: &TopicPartitionList) -> KafkaResult<()> {
        fault::on_thread(step, || match self.is_cooperative() {
            true => self.consumer.incremental_unassign(list),
            false => self.consumer.unassign(),
        })
    }

    /// Whether the group has given us up.
    pub(super) fn has_lost(&self) -> bool {
        self.consumer.assignment_lost()
    }

    /// The consumer is about to be destroyed; see [`Context::leave`].
    pub(super) fn leave(&self) {
        self.consumer.context().leave();
    }
}

/// A thread that panics leaves too: a consumer that is destroyed with partitions assigned waits for
/// an answer that nobody would give, and its generation would never end.
impl Drop for Member {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.leave();
            // Its error changes nothing: the consumer is destroyed in any case.
            let _ = self.consumer.unassign();
        }
    }
}
