//! What this user may do: each tried in a way that leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Message, Offset, TopicPartitionList};

use super::super::policy::{self, Resource};
use super::super::{Finding, Problem};
use super::client::{ANSWER_TIMEOUT, Asking, LOOK_EVERY, Partition, consumer};
use crate::config;
use crate::landing::topic_id::{Described, controller, describe};

/// How soon a fetch that does not come is looked after.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);

/// This user may not do it: with the command that allows it.
pub(super) fn lacks(
    kafka: &config::Kafka,
    operation: &str,
    resource: Resource,
    so: &str,
) -> Problem {
    let (what, name) = match resource {
        Resource::Topic => ("topic", &kafka.topic),
        Resource::Group => ("group", &kafka.group),
    };
    let problem = Problem::new(
        format!("this user lacks {operation} on the {what} {name}: {so}"),
        "let an administrator allow it (`groundtrack check --policy` prints all of them)",
    );
    problem.by(policy::acl(kafka, &[operation], resource))
}

/// Reads the newest record, or that there is none, from each broker that leads a partition.
pub(super) fn read(asking: &Asking, partitions: &[Partition]) -> Finding {
    read_newest(asking, partitions).into()
}

fn read_newest(asking: &Asking, partitions: &[Partition]) -> Result<String, Problem> {
    let kafka = &asking.kafka;
    let mut leaders = BTreeMap::new();
    for partition in partitions {
        leaders.entry(partition.leader).or_insert(partition.id);
    }
    let ends = asking.offsets(leaders.values().copied(), Offset::End)?;
    let starts = asking.offsets(leaders.values().copied(), Offset::Beginning)?;
    let mut list = TopicPartitionList::with_capacity(ends.len());
    for (partition, end) in &ends {
        let start = starts.get(partition).copied().unwrap_or(0);
        let newest = Offset::Offset((end - 1).max(start));
        list.add_partition_offset(&kafka.topic, *partition, newest)
            .map_err(|error| failed(asking, &error))?;
    }
    asking
        .consumer
        .assign(&list)
        .map_err(|error| failed(asking, &error))?;
    let found = await_each(asking, leaders.values().copied().collect());
    // A consumer that is destroyed may hang on what is assigned.
    let _ = asking.consumer.unassign();
    found.map(|records| {
        let brokers = match leaders.len() {
            1 => "1 broker".to_owned(),
            count => format!("{count} brokers"),
        };
        match records {
            0 => format!("{}: read from {brokers}, nothing is there yet", kafka.topic),
            _ => format!("{}: read from {brokers}", kafka.topic),
        }
    })
}

/// Waits until each of these partitions has given a record or its end; how many gave a record.
fn await_each(asking: &Asking, mut waiting: BTreeSet<i32>) -> Result<usize, Problem> {
    let mut records = 0;
    while !waiting.is_empty() {
        if let Some(cut) = asking.limit.cut() {
            let which: Vec<String> = waiting.iter().map(i32::to_string).collect();
            let whom = format!("a record of partition {}", which.join(", "));
            return Err(cut.problem(&asking.limit, &whom, "look at the brokers that lead them"));
        }
        match asking.consumer.poll(asking.limit.left(POLL_TIMEOUT)) {
            None => {}
            Some(Ok(record)) => {
                records += usize::from(waiting.remove(&record.partition()));
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                waiting.remove(&partition);
            }
            Some(Err(error)) => match error.rdkafka_error_code() {
                // Of the coordinator, which the group's item asks.
                Some(RDKafkaErrorCode::GroupAuthorizationFailed) => {}
                // The newest record was removed meanwhile: the fetch was allowed.
                Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                    return Ok(records);
                }
                _ => return Err(failed(asking, &error)),
            },
        }
    }
    Ok(records)
}

fn failed(asking: &Asking, error: &KafkaError) -> Problem {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
            lacks(&asking.kafka, "Read", Resource::Topic, "it cannot be read")
        }
        Some(RDKafkaErrorCode::GroupAuthorizationFailed) => lacks(
            &asking.kafka,
            "Read",
            Resource::Group,
            "the group cannot be joined",
        ),
        _ => Problem::new(
            error.to_string(),
            "ask again later; look at the brokers' log",
        ),
    }
}

/// Whether this user may write the topic, as the broker says: no record shows it.
pub(super) fn publish(asking: &Asking, _: &[Partition]) -> Finding {
    let kafka = &asking.kafka;
    let client = asking.consumer.client();
    let metadata = client.fetch_metadata(Some(&kafka.topic), asking.limit.left(ANSWER_TIMEOUT));
    let controller = controller(client, asking.limit.left(ANSWER_TIMEOUT));
    // DescribeTopics asks the controller, and waits in vain for one that is no broker.
    let can_ask = metadata.is_ok_and(|metadata| {
        let mut brokers = metadata.brokers().iter();
        brokers.any(|broker| Some(broker.id()) == controller)
    });
    let described = match can_ask {
        true => describe(
            client,
            &kafka.topic,
            true,
            asking.limit.left(ANSWER_TIMEOUT),
        ),
        false => Ok(Described::Unsupported),
    };
    match described {
        Ok(Described::Topic {
            rights: Some(rights),
            ..
        }) => match rights.write {
            true => Finding::Well(format!("{}: may be written", kafka.topic)),
            false => lacks(
                kafka,
                "Write",
                Resource::Topic,
                "nothing that is polled can be published",
            )
            .into(),
        },
        Ok(_) => Finding::Well(format!(
            "{}: whether it may be written this broker does not tell; the first record will",
            kafka.topic
        )),
        Err(error) => Problem::new(error, "ask again later; look at the brokers' log").into(),
    }
}

/// Reads what the group has committed, and commits the same again for one partition.
pub(super) fn group(asking: &Asking, partitions: &[Partition]) -> Finding {
    commit_again(asking, partitions).into()
}

fn commit_again(asking: &Asking, partitions: &[Partition]) -> Result<String, Problem> {
    let kafka = &asking.kafka;
    // One of its own: what the coordinator refuses comes between the records of the other.
    let consumer = consumer(kafka).map_err(|error| failed(asking, &error))?;
    let committed = loop {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition(&kafka.topic, partition.id);
        }
        match consumer.committed_offsets(list, asking.limit.left(LOOK_EVERY)) {
            Ok(committed) => break committed,
            Err(error) => match consumer.poll(Duration::ZERO) {
                // A coordinator that may not be asked is waited for in vain.
                Some(Err(refused)) if is_refused(&refused) => {
                    return Err(failed(asking, &refused));
                }
                _ if is_late(&error) && asking.limit.cut().is_none() => {}
                _ => return Err(failed(asking, &error)),
            },
        }
    };
    let elements = committed.elements();
    if let Some(error) = elements.iter().find_map(|element| element.error().err()) {
        return Err(failed(asking, &error));
    }
    let one = elements
        .iter()
        .find(|element| matches!(element.offset(), Offset::Offset(offset) if offset >= 0));
    let Some(one) = one else {
        return Ok(format!(
            "{}: its offsets may be read; it has committed none yet, so none was committed to try \
             (reading and committing are one permission: Read on the group)",
            kafka.group
        ));
    };
    let mut again = TopicPartitionList::with_capacity(1);
    let mut element = again.add_partition(one.topic(), one.partition());
    element.set_metadata(one.metadata());
    element
        .set_offset(one.offset())
        .map_err(|error| failed(asking, &error))?;
    match consumer.commit(&again, CommitMode::Sync) {
        Ok(()) => Ok(format!(
            "{}: its offsets may be read, and committed",
            kafka.group
        )),
        Err(error) if is_at_work(&error) => Ok(format!(
            "{}: its offsets may be read, and committed by its members, who are at work",
            kafka.group
        )),
        Err(error) => Err(failed(asking, &error)),
    }
}

fn is_refused(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed)
}

fn is_late(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::OperationTimedOut | RDKafkaErrorCode::WaitingForCoordinator)
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

impl Asking {
    /// The offset that each partition has there, or for a time in milliseconds.
    pub(super) fn offsets(
        &self,
        partitions: impl Iterator<Item = i32>,
        at: Offset,
    ) -> Result<BTreeMap<i32, i64>, Problem> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition_offset(&self.kafka.topic, partition, at)
                .map_err(|error| failed(self, &error))?;
        }
        let found = self
            .consumer
            .offsets_for_times(list, self.limit.left(ANSWER_TIMEOUT))
            .map_err(|error| failed(self, &error))?;
        let mut offsets = BTreeMap::new();
        for element in found.elements() {
            element.error().map_err(|error| failed(self, &error))?;
            if let Offset::Offset(offset) = element.offset() {
                offsets.insert(element.partition(), offset);
            }
        }
        Ok(offsets)
    }
}
