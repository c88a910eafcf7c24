//! What this user may do: each tried in a way that leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Message, Offset, TopicPartitionList};

use super::super::policy::{self, Resource};
use super::super::{Finding, Problem};
use super::client::{ANSWER_TIMEOUT, Asking, Partition};
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

pub(super) fn failed(asking: &Asking, error: &KafkaError) -> Problem {
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
