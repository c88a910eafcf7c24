//! A topic, a group and a folder that no other test uses.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::Producer;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use super::{EAGER, Member, PATIENCE, Source, brokers, client, until};

/// A topic, a group and a folder that no other test uses.
pub struct Rig {
    pub folder: tempfile::TempDir,
    pub topic: String,
    pub brokers: String,
    pub admin: AdminClient<DefaultClientContext>,
    pub runtime: tokio::runtime::Runtime,
}

fn admin_options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(PATIENCE))
        .operation_timeout(Some(PATIENCE))
}

impl Rig {
    /// With a topic of so many partitions; none where it is 0.
    pub fn new(name: &str, partitions: i32) -> Self {
        Self::on(brokers(), name, partitions)
    }

    /// The same on another Kafka.
    pub fn on(brokers: String, name: &str, partitions: i32) -> Self {
        let rig = Self::without_topic(brokers, name);
        if partitions > 0 {
            rig.create_topic(partitions);
        }
        rig
    }

    /// With a topic of these settings.
    pub fn with_configs(name: &str, partitions: i32, configs: &[(&str, &str)]) -> Self {
        let rig = Self::without_topic(brokers(), name);
        rig.create_topic_with(partitions, configs);
        rig
    }

    /// A topic of the same name on another Kafka.
    pub fn twin(&self, brokers: String) -> Self {
        let twin = Self {
            topic: self.topic.clone(),
            ..Self::without_topic(brokers, "twin")
        };
        twin.create_topic(1);
        twin
    }

    fn without_topic(brokers: String, name: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Self {
            folder: tempfile::tempdir().unwrap(),
            topic: format!("{name}-{}-{:x}", std::process::id(), fastrand::u32(..)),
            admin: client(&brokers).create().unwrap(),
            brokers,
            runtime,
        }
    }

    pub fn create_topic(&self, partitions: i32) {
        self.create_topic_with(partitions, &[]);
    }

    fn create_topic_with(&self, partitions: i32, configs: &[(&str, &str)]) {
        let topic = NewTopic::new(&self.topic, partitions, TopicReplication::Fixed(1));
        let topic = configs
            .iter()
            .fold(topic, |topic, (key, value)| topic.set(key, value));
        let made = self.admin.create_topics([&topic], &admin_options());
        for one in self.runtime.block_on(made).unwrap() {
            one.unwrap();
        }
        until("the topic", || {
            let metadata = self.metadata();
            (metadata == partitions as usize).then_some(())
        });
    }

    pub fn metadata(&self) -> usize {
        let asked = self
            .admin
            .inner()
            .fetch_metadata(Some(&self.topic), Duration::from_secs(10));
        asked.map_or(0, |metadata| metadata.topics()[0].partitions().len())
    }

    pub fn alter_configs(&self, configs: &[(&str, &str)]) {
        let resource = AlterConfig::new(ResourceSpecifier::Topic(&self.topic));
        let resource = configs
            .iter()
            .fold(resource, |resource, (key, value)| resource.set(key, value));
        let altered = self.admin.alter_configs([&resource], &admin_options());
        for one in self.runtime.block_on(altered).unwrap() {
            one.unwrap();
        }
    }

    pub fn delete_topic(&self) {
        let deleted = self.admin.delete_topics(&[&self.topic], &admin_options());
        for one in self.runtime.block_on(deleted).unwrap() {
            one.unwrap();
        }
        until("the topic's end", || (self.metadata() == 0).then_some(()));
    }

    pub fn add_partitions(&self, count: usize) {
        let more = NewPartitions::new(&self.topic, count);
        let made = self.admin.create_partitions([&more], &admin_options());
        for one in self.runtime.block_on(made).unwrap() {
            one.unwrap();
        }
        until("the partitions", || {
            (self.metadata() == count).then_some(())
        });
    }

    /// What retention does, at once: the log starts at `offset` from now on.
    pub fn delete_records(&self, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, partition, Offset::Offset(offset))
            .unwrap();
        let deleted = self.admin.delete_records(&list, &admin_options());
        let list = self.runtime.block_on(deleted).unwrap();
        for element in list.elements() {
            element.error().unwrap();
        }
    }

    /// Writes a configuration.
    pub fn config(&self, name: &str, setup: &Setup) -> PathBuf {
        let options: String = setup
            .options
            .iter()
            .map(|(key, value)| format!("{key:?} = {value:?}\n"))
            .collect();
        let text = format!(
            "[kafka]\nbrokers = [{:?}]\ntopic = {topic:?}\ngroup = {topic:?}\ninstance_id = {:?}\nstart = {:?}\n\
             [kafka.options]\n\"topic.metadata.refresh.interval.ms\" = 1000\n{options}\
             [files]\nmax_rows = {}\nmax_age = {:?}\n\
             [store]\nurl = \"file://{}\"\n\
             [web]\nlisten = {:?}\n[log]\nformat = \"json\"\n{}",
            self.brokers,
            setup.instance_id,
            setup.start,
            setup.max_rows,
            setup.max_age,
            self.store().display(),
            setup.listen,
            setup.more,
            topic = self.topic,
        );
        let path = self.folder.path().join(format!("{name}.toml"));
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// Runs the service.
    pub fn member(&self, name: &str, setup: &Setup) -> Member {
        Member::start(&self.config(name, setup), &[], setup.faults)
    }

    /// Lands all that the topic holds; returns the exit code.
    pub fn catch_up(&self, name: &str, setup: &Setup) -> i32 {
        self.once(name, setup).exit_code()
    }

    /// The process that lands all that the topic holds.
    pub fn once(&self, name: &str, setup: &Setup) -> Member {
        let config = self.config(name, setup);
        Member::start(&config, &["--until-caught-up"], setup.faults)
    }

    pub fn producer(&self) -> Source {
        Source::new(&self.topic, client(&self.brokers).set("linger.ms", "2"))
    }

    pub fn transactional(&self) -> Source {
        let source = Source::new(
            &self.topic,
            client(&self.brokers).set("transactional.id", &self.topic),
        );
        source.producer.init_transactions(PATIENCE).unwrap();
        source
    }

    /// First and last stable offset of each partition.
    pub fn watermarks(&self) -> BTreeMap<i32, (i64, i64)> {
        let reader = reader(&self.brokers);
        (0..self.metadata() as i32)
            .map(|partition| {
                let marks = reader.fetch_watermarks(&self.topic, partition, PATIENCE);
                (partition, marks.unwrap())
            })
            .collect()
    }

    /// What a read_committed reader sees now.
    pub fn committed(&self) -> BTreeSet<(i32, i64)> {
        let marks = self.watermarks();
        let mut from = TopicPartitionList::new();
        for (partition, (low, _)) in &marks {
            from.add_partition_offset(&self.topic, *partition, Offset::Offset(*low))
                .unwrap();
        }
        let reader = reader(&self.brokers);
        reader.assign(&from).unwrap();
        let mut open: BTreeSet<i32> = marks.keys().copied().collect();
        let mut seen = BTreeSet::new();
        let deadline = Instant::now() + PATIENCE;
        while !open.is_empty() {
            assert!(Instant::now() < deadline, "the topic cannot be read");
            match reader.poll(Duration::from_millis(100)) {
                Some(Ok(record)) => {
                    assert!(seen.insert((record.partition(), record.offset())));
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                }
                Some(Err(error)) => panic!("{error}"),
                None => {}
            }
        }
        seen
    }

    /// Commits this offset to Kafka for so many partitions, as another consumer of the group would
    /// have.
    pub fn commit(&self, partitions: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            let offset = Offset::Offset(offset);
            list.add_partition_offset(&self.topic, partition, offset)
                .unwrap();
        }
        let consumer: BaseConsumer = client(&self.brokers)
            .set("group.id", &self.topic)
            // Its end reads on, and would commit that.
            .set("enable.auto.commit", "false")
            .create()
            .unwrap();
        consumer.assign(&list).unwrap();
        consumer.commit(&list, CommitMode::Sync).unwrap();
    }

    fn checkpoint_file(&self, partition: i32) -> PathBuf {
        self.store()
            .join(format!("checkpoints/{0}/{0}/{partition}.json", self.topic))
    }

    /// As if the partition had never been claimed.
    pub fn forget(&self, partition: i32) {
        std::fs::remove_file(self.checkpoint_file(partition)).unwrap();
    }

    pub fn checkpoint(&self, partition: i32) -> Option<Value> {
        serde_json::from_slice(&std::fs::read(self.checkpoint_file(partition)).ok()?).ok()
    }

    /// How far a partition has landed, holes behind it included; -1 before its first claim.
    pub fn landed_to(&self, partition: i32) -> i64 {
        self.checkpoint(partition).map_or(-1, |checkpoint| {
            let of = |field: &str| checkpoint[field].as_i64().unwrap();
            of("next_offset").max(of("holes_to"))
        })
    }

    pub fn wait_until_landed(&self) {
        for (partition, (_, end)) in self.watermarks() {
            let what = format!("partition {partition} to land up to {end}");
            until(&what, || (self.landed_to(partition) >= end).then_some(()));
        }
    }

    /// What has landed, each offset once.
    pub fn landed(&self) -> BTreeSet<(i32, i64)> {
        let landed = landed(&self.store());
        let twice: Vec<_> = landed.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "landed more than once: {twice:?}");
        landed.into_keys().collect()
    }

    /// Each of these offsets is there once, and nothing else is; the checkpoints are at the end.
    pub fn audit(&self, expected: &BTreeSet<(i32, i64)>) {
        let landed = self.landed();
        let missing: Vec<_> = expected.difference(&landed).collect();
        assert!(
            missing.is_empty(),
            "{} of {} missing, first {:?}",
            missing.len(),
            expected.len(),
            missing.first()
        );
        let strange: Vec<_> = landed.difference(expected).collect();
        assert!(strange.is_empty(), "nobody committed {strange:?}");
    }

    /// All that the topic holds has landed once, and every checkpoint says so.
    pub fn audit_all(&self) {
        self.audit(&self.committed());
        for (partition, (_, end)) in self.watermarks() {
            assert_eq!(self.landed_to(partition), end, "partition {partition}");
            let checkpoint = self.checkpoint(partition).unwrap();
            assert!(checkpoint["pending"].is_null(), "{checkpoint}");
            assert!(checkpoint["stopped"].is_null(), "{checkpoint}");
        }
    }

    pub fn wait_until_stopped(&self, partition: i32) -> String {
        until("a partition that stops", || {
            let checkpoint = self.checkpoint(partition)?;
            Some(checkpoint["stopped"]["cause"].as_str()?.to_owned())
        })
    }
}

fn reader(brokers: &str) -> BaseConsumer {
    client(brokers)
        .set("group.id", "auditor")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap()
}

/// What differs between the tests' configurations.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    pub options: &'a [(&'a str, &'a str)],
    pub instance_id: &'a str,
    pub start: &'a str,
    pub max_rows: u32,
    pub max_age: &'a str,
    /// Where the page listens.
    pub listen: &'a str,
    /// Planned faults (see `src/fault/mod.rs`).
    pub faults: &'a str,
    /// Added to the end of the configuration.
    pub more: &'a str,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            options: EAGER,
            instance_id: "",
            start: "earliest",
            max_rows: 700,
            max_age: "500ms",
            listen: "",
            faults: "",
            more: "",
        }
    }
}

/// How often each offset is in the files.
fn landed(store: &Path) -> BTreeMap<(i32, i64), u32> {
    let mut found = BTreeMap::new();
    for folder in ["parquet_files", "dead_letters"] {
        read_folder(&store.join(folder), &mut found);
    }
    found
}

fn read_folder(folder: &Path, found: &mut BTreeMap<(i32, i64), u32>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_folder(&path, found);
            continue;
        }
        let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap());
        for batch in builder.unwrap().build().unwrap() {
            let batch = batch.unwrap();
            let column = |name: &str| batch.column_by_name(name).unwrap();
            let partitions = column("kafka_partition").as_primitive::<Int32Type>();
            let offsets = column("kafka_offset").as_primitive::<Int64Type>();
            for row in 0..partitions.len() {
                let at = (partitions.value(row), offsets.value(row));
                *found.entry(at).or_default() += 1;
            }
        }
    }
}

/// What each file of a folder says of itself.
pub fn footers(folder: &Path) -> Vec<Value> {
    let entries = std::fs::read_dir(folder).unwrap();
    let read = |path: PathBuf| -> Value {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
        let pairs = reader.metadata().file_metadata().key_value_metadata();
        let ours = pairs.unwrap().iter().find(|pair| pair.key == "groundtrack");
        serde_json::from_str(ours.unwrap().value.as_ref().unwrap()).unwrap()
    };
    entries.map(|entry| read(entry.unwrap().path())).collect()
}
