//! Whether this user may read and commit the group's offsets: what the group has committed is read,
//! and one of the offsets is committed again as it was, by a client that is no member.
//!
//! Kafka refuses that of a group with members, so that nothing can be moved under the running
//! service. Of one without, a member that came, landed, committed and went between the two would see
//! its last commit go back: that is told to lag tools alone, until its next.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::super::{Finding, Problem};
use super::access::failed;
use super::client::{ANSWER_TIMEOUT, Asking, LOOK_EVERY, Partition, Reasons, consumer};

/// How it went.
enum Tried {
    /// The group has committed nothing.
    NothingThere,
    Committed,
    /// The group has members.
    AtWork,
}

pub(super) fn ask(asking: &Asking, partitions: &[Partition]) -> Finding {
    wait_and_try(asking, partitions).into()
}

/// Again and again, while the coordinator is looked for or takes over the group.
fn wait_and_try(asking: &Asking, partitions: &[Partition]) -> Result<String, Problem> {
    let group = &asking.kafka.group;
    // One of its own: what the coordinator refuses comes between the records of the other.
    let consumer = consumer(&asking.kafka).map_err(|error| failed(asking, &error))?;
    loop {
        let error = match try_once(asking, &consumer, partitions) {
            Ok(Tried::NothingThere) => {
                return Ok(format!(
                    "{group}: its offsets may be read; it has committed none yet, so none was \
                     committed to try (reading and committing are one permission: Read on the \
                     group)"
                ));
            }
            Ok(Tried::Committed) => {
                return Ok(format!("{group}: its offsets may be read, and committed"));
            }
            Ok(Tried::AtWork) => {
                return Ok(format!(
                    "{group}: its offsets may be read, and committed by its members, who are at \
                     work"
                ));
            }
            Err(error) => error,
        };
        // A coordinator that may not be asked is waited for in vain.
        if let Some(Err(refused)) = consumer.poll(Duration::ZERO)
            && refused.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed)
        {
            return Err(failed(asking, &refused));
        }
        if !passes(&error) || asking.limit.cut().is_some() {
            return Err(failed(asking, &error));
        }
        std::thread::sleep(asking.limit.left(LOOK_EVERY));
    }
}

fn try_once(
    asking: &Asking,
    consumer: &BaseConsumer<Reasons>,
    partitions: &[Partition],
) -> Result<Tried, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(&asking.kafka.topic, partition.id);
    }
    let wait = asking.limit.left(ANSWER_TIMEOUT.min(LOOK_EVERY * 2));
    let committed = consumer.committed_offsets(list, wait)?;
    let elements = committed.elements();
    for element in &elements {
        element.error()?;
    }
    let one = elements
        .iter()
        .find(|element| matches!(element.offset(), Offset::Offset(offset) if offset >= 0));
    let Some(one) = one else {
        return Ok(Tried::NothingThere);
    };
    let mut again = TopicPartitionList::with_capacity(1);
    let mut element = again.add_partition(one.topic(), one.partition());
    element.set_metadata(one.metadata());
    element.set_offset(one.offset())?;
    match consumer.commit(&again, CommitMode::Sync) {
        Ok(()) => Ok(Tried::Committed),
        Err(error) if is_at_work(&error) => Ok(Tried::AtWork),
        Err(error) => Err(error),
    }
}

/// What a broker says that has just started, or that no longer coordinates the group.
fn passes(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::WaitingForCoordinator
                | RDKafkaErrorCode::NotCoordinator
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::CoordinatorLoadInProgress
        )
    )
}

/// Kafka asks for the permission first, and then refuses a commit from outside of a group that has
/// members.
fn is_at_work(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::UnknownMemberId
                | RDKafkaErrorCode::IllegalGeneration
                | RDKafkaErrorCode::RebalanceInProgress
                | RDKafkaErrorCode::FencedInstanceId
                | RDKafkaErrorCode::StaleMemberEpoch
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coordinator_that_has_just_started_is_waited_for() {
        let of = |code| KafkaError::MetadataFetch(code);
        assert!(passes(&of(RDKafkaErrorCode::NotCoordinator)));
        assert!(passes(&of(RDKafkaErrorCode::CoordinatorLoadInProgress)));
        assert!(!passes(&of(RDKafkaErrorCode::GroupAuthorizationFailed)));
        assert!(!passes(&of(RDKafkaErrorCode::TopicAuthorizationFailed)));
    }
}
