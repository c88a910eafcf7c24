//! The topic as Kafka has it, for those who look: by a consumer that is assigned at absolute
//! offsets. It joins no group, commits nothing and has no `instance_id`. Everything here blocks.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::{Message as _, Offset, TopicPartitionList};
use serde::Serialize;

use crate::config;
use crate::kafka::client_config;
use crate::landing::topic_id::controller;

/// Of each question: someone waits in front of a page.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Of reading, likewise.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Keys, values and headers of one page together.
const PAGE_BYTES: usize = 8 << 20;
/// Records of all partitions that are read for a page of the newest, many of them to be left out
/// again.
const READ_MAX: i64 = 2_000;
/// What a client may have fetched ahead, in KiB: the pages are small, and four may be asked for at
/// once.
const QUEUE_KIBIBYTES: &str = "4096";

/// Why the topic cannot be shown.
#[derive(Debug, thiserror::Error)]
pub(in crate::web) enum BrowseError {
    #[error("{what}: {error}; `groundtrack check` tells more")]
    Kafka {
        what: &'static str,
        error: KafkaError,
    },
    #[error("the topic {0} does not exist")]
    NoTopic(String),
    #[error("the topic has no partition {0}")]
    NoPartition(i32),
}

fn failed(what: &'static str) -> impl Fn(KafkaError) -> BrowseError {
    move |error| BrowseError::Kafka { what, error }
}

/// The topic and the cluster that has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::web) struct Topic {
    pub(in crate::web) name: String,
    /// Empty: the brokers tell none.
    pub(in crate::web) cluster_id: String,
    pub(in crate::web) controller: Option<i32>,
    pub(in crate::web) brokers: Vec<Broker>,
    pub(in crate::web) partitions: Vec<Partition>,
}

/// A broker that the others know to be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::web) struct Broker {
    pub(in crate::web) id: i32,
    pub(in crate::web) address: String,
}

/// A partition and where its log begins and ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::web) struct Partition {
    pub(in crate::web) id: i32,
    /// `None`: it has none, and can neither be read nor written.
    pub(in crate::web) leader: Option<i32>,
    pub(in crate::web) replicas: Vec<i32>,
    pub(in crate::web) in_sync: Vec<i32>,
    /// `None`: not told, as where its leader is away.
    pub(in crate::web) first_offset: Option<i64>,
    /// Behind the last record that is committed.
    pub(in crate::web) end_offset: Option<i64>,
    /// What the group has committed to Kafka; `None`: nothing, or it is not told.
    pub(in crate::web) committed: Option<i64>,
}

impl Partition {
    pub(in crate::web) fn is_under_replicated(&self) -> bool {
        self.in_sync.len() < self.replicas.len()
    }
}

/// A record as it lies in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::web) struct Message {
    pub(in crate::web) partition: i32,
    pub(in crate::web) offset: i64,
    /// Milliseconds since 1970 UTC; -1: Kafka knows none.
    pub(in crate::web) timestamp_ms: i64,
    pub(in crate::web) key: Option<Vec<u8>>,
    /// `None`: a tombstone.
    pub(in crate::web) value: Option<Vec<u8>>,
    pub(in crate::web) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Message {
    /// Key, value and headers.
    pub(in crate::web) fn size_bytes(&self) -> usize {
        let length = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
        let headers = self.headers.iter();
        let headers: usize = headers
            .map(|(name, value)| name.len() + length(value))
            .sum();
        length(&self.key) + length(&self.value) + headers
    }
}

/// Which records are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::web) enum Which {
    /// The newest of all partitions.
    Newest,
    /// The newest of one.
    NewestOf(i32),
    /// From this offset of this partition on.
    From(i32, i64),
    /// Of all partitions, or of one, from this time on (milliseconds since 1970 UTC).
    Since(Option<i32>, i64),
}

/// A page of records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::web) struct Messages {
    /// The newest first.
    pub(in crate::web) messages: Vec<Message>,
    /// Why there may be more than these, in words; `None`: these are all that were asked for.
    pub(in crate::web) cut: Option<String>,
}

/// A half-open range of offsets of a partition.
pub(super) type Wanted = BTreeMap<i32, [i64; 2]>;

/// What a log gives next.
#[derive(Debug)]
pub(super) enum Step {
    Record(Message),
    /// This partition's end.
    End(i32),
    Nothing,
}

/// A connection to the brokers, for one page.
pub(in crate::web) struct Log<'a> {
    consumer: BaseConsumer,
    topic: &'a str,
}

impl<'a> Log<'a> {
    pub(in crate::web) fn open(kafka: &'a config::Kafka) -> Result<Self, BrowseError> {
        let mut client = client_config(kafka);
        // A name is needed to assign partitions at all; the group is never joined. The group's own
        // is the one that this user may surely name.
        client
            .remove("group.protocol")
            .remove("group.remote.assignor");
        client
            .set("group.id", &kafka.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("queued.max.messages.kbytes", QUEUE_KIBIBYTES)
            .set("fetch.wait.max.ms", "100");
        // Errors come from the calls.
        client.set_log_level(RDKafkaLogLevel::Emerg);
        let consumer = client.create().map_err(failed("no client can be made"))?;
        Ok(Self {
            consumer,
            topic: &kafka.topic,
        })
    }

    /// The topic, its partitions and the brokers.
    pub(in crate::web) fn topic(&self) -> Result<Topic, BrowseError> {
        let metadata = self
            .consumer
            .fetch_metadata(Some(self.topic), ANSWER_TIMEOUT)
            .map_err(failed("looking for the topic"))?;
        let found = metadata
            .topics()
            .iter()
            .find(|one| one.name() == self.topic);
        let found = found.filter(|one| !one.partitions().is_empty());
        let Some(topic) = found else {
            return Err(BrowseError::NoTopic(self.topic.to_owned()));
        };
        let mut partitions: Vec<Partition> = topic
            .partitions()
            .iter()
            .map(|one| Partition {
                id: one.id(),
                leader: (one.leader() >= 0).then_some(one.leader()),
                replicas: one.replicas().to_vec(),
                in_sync: one.isr().to_vec(),
                first_offset: None,
                end_offset: None,
                committed: None,
            })
            .collect();
        partitions.sort_by_key(|one| one.id);
        // One broker that is away tells nothing of its partitions, and hides no other.
        let led: Vec<i32> = partitions
            .iter()
            .filter(|one| one.leader.is_some())
            .map(|one| one.id)
            .collect();
        let first = self.edges(&led, Offset::Beginning).unwrap_or_default();
        let end = self.edges(&led, Offset::End).unwrap_or_default();
        let committed = self.committed(&led).unwrap_or_default();
        for one in &mut partitions {
            one.committed = committed.get(&one.id).copied();
            one.first_offset = first.get(&one.id).copied();
            one.end_offset = end.get(&one.id).copied();
        }
        let brokers = metadata.brokers().iter().map(|broker| Broker {
            id: broker.id(),
            address: format!("{}:{}", broker.host(), broker.port()),
        });
        let client = self.consumer.client();
        Ok(Topic {
            name: self.topic.to_owned(),
            cluster_id: client.fetch_cluster_id(ANSWER_TIMEOUT).unwrap_or_default(),
            controller: controller(client, ANSWER_TIMEOUT),
            brokers: brokers.collect(),
            partitions,
        })
    }

    /// Where each partition's log ends now.
    pub(super) fn ends(&self) -> Result<BTreeMap<i32, i64>, BrowseError> {
        let metadata = self
            .consumer
            .fetch_metadata(Some(self.topic), ANSWER_TIMEOUT)
            .map_err(failed("looking for the topic"))?;
        let topics = metadata.topics().iter();
        let partitions: Vec<i32> = topics
            .filter(|topic| topic.name() == self.topic)
            .flat_map(|topic| topic.partitions().iter().map(|one| one.id()))
            .collect();
        if partitions.is_empty() {
            return Err(BrowseError::NoTopic(self.topic.to_owned()));
        }
        self.edges(&partitions, Offset::End)
            .map_err(failed("asking for the ends of the log"))
    }

    /// Reads these partitions from these offsets on, whatever was read before.
    pub(super) fn follow(&self, positions: &BTreeMap<i32, i64>) -> Result<(), BrowseError> {
        let mut list = TopicPartitionList::with_capacity(positions.len());
        let added = positions.iter().try_for_each(|(partition, offset)| {
            list.add_partition_offset(self.topic, *partition, Offset::Offset(*offset))
        });
        added
            .and_then(|()| self.consumer.assign(&list))
            .map_err(failed("reading"))
    }

    /// What comes next within this time.
    pub(super) fn step(&self, within: Duration) -> Result<Step, BrowseError> {
        match self.consumer.poll(within) {
            Some(Ok(record)) => Ok(Step::Record(message_of(&record))),
            Some(Err(KafkaError::PartitionEOF(partition))) => Ok(Step::End(partition)),
            Some(Err(error)) if is_final(&error) => Err(failed("reading")(error)),
            Some(Err(_)) | None => Ok(Step::Nothing),
        }
    }

    /// Reads nothing any more: destroying a consumer may hang on partitions that are assigned.
    pub(super) fn leave(&self) -> Result<(), BrowseError> {
        self.consumer.unassign().map_err(failed("reading"))
    }

    /// An edge of each partition's log, or the offset for a time; all in one question.
    fn edges(&self, partitions: &[i32], which: Offset) -> Result<BTreeMap<i32, i64>, KafkaError> {
        let asked = self.list(partitions, which)?;
        Ok(absolute(
            &self.consumer.offsets_for_times(asked, ANSWER_TIMEOUT)?,
        ))
    }

    /// What the group has committed.
    fn committed(&self, partitions: &[i32]) -> Result<BTreeMap<i32, i64>, KafkaError> {
        let asked = self.list(partitions, Offset::Invalid)?;
        Ok(absolute(
            &self.consumer.committed_offsets(asked, ANSWER_TIMEOUT)?,
        ))
    }

    fn list(&self, partitions: &[i32], at: Offset) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition_offset(self.topic, *partition, at)?;
        }
        Ok(list)
    }

    /// At most `limit` of the records asked for.
    pub(in crate::web) fn messages(
        &self,
        which: Which,
        limit: usize,
    ) -> Result<Messages, BrowseError> {
        let topic = self.topic()?;
        let wanted = self.wanted(&topic, which, limit)?;
        let (mut messages, cut) = self.read(&wanted)?;
        sort(&mut messages, which, limit);
        Ok(Messages { messages, cut })
    }

    pub(super) fn wanted(
        &self,
        topic: &Topic,
        which: Which,
        limit: usize,
    ) -> Result<Wanted, BrowseError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let ranges = topic.partitions.iter();
        let logs: Wanted = ranges
            .filter_map(|one| Some((one.id, [one.first_offset?, one.end_offset?])))
            .collect();
        let one = |partition: i32| {
            let known = topic.partitions.iter().any(|one| one.id == partition);
            match logs.get(&partition) {
                Some(log) => Ok(*log),
                None if known => Ok([0, 0]),
                None => Err(BrowseError::NoPartition(partition)),
            }
        };
        Ok(match which {
            Which::Newest => newest(&logs, limit, READ_MAX.max(limit)),
            Which::NewestOf(partition) => {
                let [first, end] = one(partition)?;
                Wanted::from([(partition, [first.max(end - limit), end])])
            }
            Which::From(partition, offset) => {
                let [first, end] = one(partition)?;
                let from = offset.clamp(first, end);
                Wanted::from([(partition, [from, end.min(from.saturating_add(limit))])])
            }
            Which::Since(partition, time_ms) => {
                if let Some(partition) = partition {
                    one(partition)?;
                }
                let asked: Vec<i32> = logs
                    .keys()
                    .copied()
                    .filter(|one| partition.is_none_or(|partition| partition == *one))
                    .collect();
                let found = self
                    .edges(&asked, Offset::Offset(time_ms))
                    .map_err(failed("asking for the offsets of a time"))?;
                let from = |partition: &i32, [first, end]: [i64; 2]| {
                    let from = found.get(partition).copied().unwrap_or(end).max(first);
                    [from, end.min(from.saturating_add(limit))]
                };
                let asked = asked.iter();
                asked.map(|one| (*one, from(one, logs[one]))).collect()
            }
        })
    }

    /// Reads the ranges, as far as room and time go.
    fn read(&self, wanted: &Wanted) -> Result<(Vec<Message>, Option<String>), BrowseError> {
        let mut open: Wanted = wanted.clone();
        open.retain(|_, [from, to]| from < to);
        self.follow(&open.iter().map(|(one, [from, _])| (*one, *from)).collect())?;
        let read = self.poll(&mut open);
        self.leave()?;
        read
    }

    fn poll(&self, open: &mut Wanted) -> Result<(Vec<Message>, Option<String>), BrowseError> {
        let deadline = Instant::now() + READ_TIMEOUT;
        let (mut messages, mut bytes) = (Vec::new(), 0);
        while !open.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let words = "Kafka did not deliver all of them in time: these are what came";
                return Ok((messages, Some(words.to_owned())));
            }
            if bytes > PAGE_BYTES {
                let words =
                    "these are as many as fit into a page: ask for fewer, or from an offset";
                return Ok((messages, Some(words.to_owned())));
            }
            match self.step(left)? {
                Step::Nothing => {}
                Step::End(partition) => self.done(open, partition)?,
                Step::Record(message) => {
                    let Some([_, to]) = open.get(&message.partition).copied() else {
                        continue;
                    };
                    if message.offset + 1 >= to {
                        self.done(open, message.partition)?;
                    }
                    if message.offset < to {
                        bytes += message.size_bytes();
                        messages.push(message);
                    }
                }
            }
        }
        Ok((messages, None))
    }

    /// No more is wanted of this partition.
    pub(super) fn done(&self, open: &mut Wanted, partition: i32) -> Result<(), BrowseError> {
        open.remove(&partition);
        let paused = self.list(&[partition], Offset::Invalid);
        paused
            .and_then(|list| self.consumer.pause(&list))
            .map_err(failed("reading"))
    }
}

/// The offsets that were told.
fn absolute(list: &TopicPartitionList) -> BTreeMap<i32, i64> {
    let told = list
        .elements()
        .into_iter()
        .filter_map(|one| match one.offset() {
            Offset::Offset(offset) if offset >= 0 && one.error().is_ok() => {
                Some((one.partition(), offset))
            }
            _ => None,
        });
    told.collect()
}

fn is_final(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AutoOffsetReset, Fatal, OffsetOutOfRange, TopicAuthorizationFailed};
    matches!(
        error.rdkafka_error_code(),
        Some(AutoOffsetReset | Fatal | OffsetOutOfRange | TopicAuthorizationFailed)
    )
}

fn message_of(record: &BorrowedMessage<'_>) -> Message {
    let headers = record.headers().map(|headers| {
        let owned = |value: Option<&[u8]>| value.map(<[u8]>::to_vec);
        let all = headers.iter();
        all.map(|one| (one.key.to_owned(), owned(one.value)))
            .collect()
    });
    Message {
        partition: record.partition(),
        offset: record.offset(),
        timestamp_ms: record.timestamp().to_millis().unwrap_or(-1),
        key: record.key().map(<[u8]>::to_vec),
        value: record.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
    }
}

/// Where the newest `limit` of all partitions surely are: the share of each is what all of them
/// may come from, as long as there are few; with many partitions each gives a part.
fn newest(logs: &Wanted, limit: i64, read_max: i64) -> Wanted {
    let partitions = i64::try_from(logs.len()).unwrap_or(i64::MAX).max(1);
    let share = limit.min(read_max / partitions).max(1);
    let range = |[first, end]: [i64; 2]| [first.max(end - share), end];
    logs.iter().map(|(one, log)| (*one, range(*log))).collect()
}

/// The newest first, and no more than were asked for: of a time the first ones, else the last.
fn sort(messages: &mut Vec<Message>, which: Which, limit: usize) {
    messages.sort_by_key(|one| (one.timestamp_ms, one.partition, one.offset));
    if matches!(which, Which::Since(..)) {
        messages.truncate(limit);
    }
    messages.reverse();
    messages.truncate(limit);
    if !matches!(which, Which::Newest | Which::Since(None, _)) {
        // Within a partition the offset is the order, whatever the clocks say.
        messages.sort_by_key(|one| std::cmp::Reverse(one.offset));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use rdkafka::config::ClientConfig;
    use rdkafka::producer::{FutureProducer, FutureRecord};

    use super::*;
    use crate::demo::broker::Broker;

    pub(in crate::web::browse) fn broker(partitions: i32) -> (Broker, config::Kafka) {
        let broker = Broker::start(&slog::Logger::root(slog::Discard, slog::o!())).unwrap();
        broker.create_topic("project_topic", partitions).unwrap();
        let mut kafka = crate::testing::config().kafka;
        kafka.brokers = vec![broker.bootstrap_servers().unwrap()];
        (broker, kafka)
    }

    /// So many records in each partition; their values are their numbers.
    pub(in crate::web::browse) async fn fill(kafka: &config::Kafka, partitions: i32, records: i64) {
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", kafka.brokers.join(","))
            .create()
            .unwrap();
        for number in 0..records {
            for partition in 0..partitions {
                let value = number.to_string();
                let record = FutureRecord::<str, str>::to(&kafka.topic)
                    .partition(partition)
                    .timestamp(1_000 + number * 10 + i64::from(partition))
                    .key("k")
                    .payload(&value);
                producer.send(record, ANSWER_TIMEOUT).await.unwrap();
            }
        }
    }

    async fn ask(kafka: &config::Kafka, which: Which, limit: usize) -> Vec<(i32, i64)> {
        let kafka = kafka.clone();
        let read = tokio::task::spawn_blocking(move || {
            let log = Log::open(&kafka).unwrap();
            log.messages(which, limit).unwrap()
        });
        let read = read.await.unwrap();
        assert_eq!(read.cut, None);
        let messages = read.messages.iter();
        messages.map(|one| (one.partition, one.offset)).collect()
    }

    #[tokio::test]
    async fn the_newest_come_first_of_all_partitions_and_of_one() {
        let (_broker, kafka) = broker(2);
        fill(&kafka, 2, 5).await;
        let newest = ask(&kafka, Which::Newest, 3).await;
        assert_eq!(newest.len(), 3);
        assert!(
            newest.contains(&(0, 4)) && newest.contains(&(1, 4)),
            "{newest:?}"
        );
        assert_eq!(ask(&kafka, Which::NewestOf(1), 2).await, [(1, 4), (1, 3)]);
    }

    #[tokio::test]
    async fn from_an_offset_on_there_are_as_many_as_were_asked_for() {
        let (_broker, kafka) = broker(1);
        fill(&kafka, 1, 5).await;
        assert_eq!(ask(&kafka, Which::From(0, 1), 2).await, [(0, 2), (0, 1)]);
        assert_eq!(ask(&kafka, Which::From(0, 4), 9).await, [(0, 4)]);
        assert_eq!(ask(&kafka, Which::From(0, 99), 9).await, []);
        assert_eq!(ask(&kafka, Which::From(0, -7), 1).await, [(0, 0)]);
    }

    #[tokio::test]
    async fn the_topic_is_told_with_its_logs() {
        let (_broker, kafka) = broker(3);
        fill(&kafka, 1, 4).await;
        let topic = tokio::task::spawn_blocking(move || Log::open(&kafka).unwrap().topic());
        let topic = topic.await.unwrap().unwrap();
        assert_eq!(topic.partitions.len(), 3);
        let first = &topic.partitions[0];
        assert_eq!((first.first_offset, first.end_offset), (Some(0), Some(4)));
        assert!(first.leader.is_some() && !first.is_under_replicated());
        assert!(!topic.brokers.is_empty());
    }

    #[tokio::test]
    async fn a_partition_that_is_not_there_is_said_so() {
        let (_broker, kafka) = broker(1);
        let read = tokio::task::spawn_blocking(move || {
            Log::open(&kafka).unwrap().messages(Which::NewestOf(7), 1)
        });
        let error = read.await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the topic has no partition 7");
    }

    #[test]
    fn brokers_that_are_away_are_an_error_and_no_wait_without_end() {
        let kafka = crate::testing::config().kafka;
        let asked = Log::open(&kafka).unwrap().topic();
        assert!(matches!(asked, Err(BrowseError::Kafka { .. })));
    }

    fn at(partition: i32, offset: i64, timestamp_ms: i64) -> Message {
        Message {
            partition,
            offset,
            timestamp_ms,
            key: None,
            value: None,
            headers: Vec::new(),
        }
    }

    #[test]
    fn within_a_partition_the_offset_is_the_order_whatever_the_clocks_say() {
        let mut messages = vec![at(0, 1, 900), at(0, 2, 100), at(0, 3, 500)];
        sort(&mut messages, Which::From(0, 1), 9);
        let offsets: Vec<i64> = messages.iter().map(|one| one.offset).collect();
        assert_eq!(offsets, [3, 2, 1]);
    }

    #[test]
    fn of_a_time_the_first_records_behind_it_are_shown() {
        let mut messages = vec![at(0, 1, 300), at(1, 2, 100), at(0, 3, 200)];
        sort(&mut messages, Which::Since(None, 100), 2);
        let times: Vec<i64> = messages.iter().map(|one| one.timestamp_ms).collect();
        assert_eq!(times, [200, 100]);
    }

    #[test]
    fn many_partitions_share_what_is_read_for_a_page() {
        let logs: Wanted = (0..1000).map(|one| (one, [0, 500])).collect();
        let read: i64 = newest(&logs, 50, 2_000)
            .values()
            .map(|[from, to]| to - from)
            .sum();
        assert_eq!(read, 2000);
        let few: Wanted = (0..2).map(|one| (one, [490, 500])).collect();
        assert_eq!(newest(&few, 50, 2_000)[&0], [490, 500]);
    }
}
