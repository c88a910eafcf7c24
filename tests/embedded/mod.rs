//! What the tests with an embedded Kafka share: a Kafka with one topic beside a folder ([`Bench`]),
//! records whose values follow from their numbers, and an audit of every object by Arrow's own
//! Parquet reader ([`Audit`]).

// Each test target uses a part of it.
#![allow(dead_code)]

pub mod raw_produce;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use groundtrack::config::{Config, PartitionUnit};
use groundtrack::demo::broker::Broker;
use groundtrack::landing::layout::Layout;
use groundtrack::landing::offsets::{OffsetDigest, OffsetSet};
use groundtrack::landing::protocol::checkpoint::Checkpoint;
use groundtrack::landing::protocol::footer::{FOOTER_KEY, Footer};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use slog::Drain;

/// No event takes so long unless it never comes.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const TOPIC: &str = "t";

/// 2023-11-14T22:13:20Z.
pub const START_S: i64 = 1_700_000_000;

/// Waits until it holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// To the test's captured output, shown where it fails.
pub fn log() -> slog::Logger {
    let to = slog_term::PlainSyncDecorator::new(slog_term::TestStdoutWriter);
    let drain = slog_term::FullFormat::new(to).build();
    let drain = slog::LevelFilter::new(drain, slog::Level::Info);
    slog::Logger::root(drain.fuse(), slog::o!())
}

/// An embedded Kafka with one topic, and a folder.
pub struct Bench {
    pub dir: tempfile::TempDir,
    pub broker: Arc<Broker>,
    pub partitions: i32,
}

/// A record as it was sent, or as Kafka holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub timestamp_ms: i64,
}

pub type Records = BTreeMap<(i32, i64), Record>;

impl Bench {
    pub fn new(partitions: i32) -> Self {
        let broker = Broker::start(&log()).unwrap();
        broker.create_topic(TOPIC, partitions).unwrap();
        Self {
            dir: tempfile::tempdir().unwrap(),
            broker: Arc::new(broker),
            partitions,
        }
    }

    /// Sends to a partition in this order; all are acknowledged when it returns.
    pub fn send(&self, partition: i32, records: &[Record]) {
        send(
            &self.broker.bootstrap_servers().unwrap(),
            partition,
            records,
        );
    }

    /// All that Kafka holds.
    pub fn kept(&self) -> Records {
        let consumer: BaseConsumer = ClientConfig::new()
            .set(
                "bootstrap.servers",
                self.broker.bootstrap_servers().unwrap(),
            )
            .set("group.id", "auditor")
            .create()
            .unwrap();
        let mut from = TopicPartitionList::new();
        let mut missing = 0;
        for partition in 0..self.partitions {
            let (low, high) = consumer
                .fetch_watermarks(TOPIC, partition, PATIENCE)
                .unwrap();
            assert_eq!(low, 0, "the broker has lost the oldest");
            missing += high;
            from.add_partition_offset(TOPIC, partition, Offset::Offset(0))
                .unwrap();
        }
        consumer.assign(&from).unwrap();
        let mut records = Records::new();
        until("everything is read", || {
            if let Some(message) = consumer.poll(Duration::from_millis(100)) {
                let message = message.unwrap();
                let record = Record {
                    key: message.key().map(<[u8]>::to_vec),
                    value: message.payload().map(<[u8]>::to_vec),
                    timestamp_ms: message.timestamp().to_millis().unwrap(),
                };
                records.insert((message.partition(), message.offset()), record);
            }
            records.len() as i64 >= missing
        });
        records
    }

    pub fn checkpoint_path(&self, partition: i32) -> PathBuf {
        let folder = self.dir.path().join("checkpoints/demo").join(TOPIC);
        folder.join(format!("{partition}.json"))
    }

    pub fn checkpoint(&self, partition: i32) -> Option<Checkpoint> {
        let text = std::fs::read(self.checkpoint_path(partition)).ok()?;
        Some(serde_json::from_slice(&text).unwrap())
    }

    pub fn next_offset(&self, partition: i32) -> i64 {
        self.checkpoint(partition)
            .map_or(0, |checkpoint| checkpoint.next_offset)
    }

    /// Every file below the folder, with its content.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        walk(self.dir.path(), self.dir.path(), &mut files);
        files
    }

    pub fn objects(&self, folder: &str) -> BTreeSet<String> {
        let files = self.files().into_keys();
        files.filter(|key| key.starts_with(folder)).collect()
    }

    /// Reads all objects and holds them to what Kafka has: each record in exactly one row or dead
    /// letter with its own values, each file as its footer says, the batches tiling the range up
    /// to the checkpoint, which is Kafka's end.
    pub fn audit(&self, config: &Config) -> Audit {
        self.audit_against(config, &self.kept())
    }

    /// The same where it is known what Kafka has, or had.
    pub fn audit_against(&self, config: &Config, kept: &Records) -> Audit {
        let audit = Audit::of(self, config);
        for (at, record) in kept {
            match (audit.rows.get(at), audit.dead_letters.get(at)) {
                (Some(row), None) => assert_eq!(Some(row), Row::of(record).as_ref(), "{at:?}"),
                (None, Some(letter)) => assert_eq!(&letter.record, record, "{at:?}"),
                (None, None) => panic!("{at:?} is nowhere"),
                (Some(_), Some(_)) => panic!("{at:?} is a row and a dead letter"),
            }
        }
        assert_eq!(
            audit.rows.len() + audit.dead_letters.len(),
            kept.len(),
            "no object holds what Kafka does not"
        );
        for partition in 0..self.partitions {
            let end = kept.range((partition, 0)..(partition, i64::MAX));
            let end = end.last().map_or(0, |((_, offset), _)| offset + 1);
            let checkpoint = self.checkpoint(partition).unwrap();
            assert_eq!(checkpoint.next_offset, end, "partition {partition}");
            assert_eq!(checkpoint.pending, None, "partition {partition}");
            assert_eq!(audit.tiled_to(partition), end, "partition {partition}");
        }
        audit
    }
}

pub fn send(servers: &str, partition: i32, records: &[Record]) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("linger.ms", "1")
        .create()
        .unwrap();
    for record in records {
        let mut sent = BaseRecord::<[u8], [u8]>::to(TOPIC)
            .partition(partition)
            .timestamp(record.timestamp_ms);
        sent.key = record.key.as_deref();
        sent.payload = record.value.as_deref();
        producer.send(sent).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

pub fn walk(root: &Path, folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    // A folder may be made, and a file be renamed, meanwhile.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(root, &path, files);
        } else if let Ok(content) = std::fs::read(&path) {
            let key = path.strip_prefix(root).unwrap().to_str().unwrap();
            files.insert(key.to_owned(), content);
        }
    }
}

/// Record `number` of a partition, all of whose values follow from these two.
pub fn record(partition: i32, number: i64) -> Record {
    let value = serde_json::json!({
        "timestamp": START_S + number,
        "message": format!("p{partition} n{number}"),
        "iss_position": {
            "latitude": (number as f64 / 8.0).to_string(),
            "longitude": (-number as f64 / 4.0).to_string(),
        },
        "number": number,
    });
    Record {
        key: None,
        value: Some(value.to_string().into_bytes()),
        timestamp_ms: (START_S + number) * 1000 + 7,
    }
}

pub fn records(partition: i32, numbers: std::ops::Range<i64>) -> Vec<Record> {
    numbers.map(|number| record(partition, number)).collect()
}

pub fn raw(value: &[u8], timestamp_ms: i64) -> Record {
    Record {
        key: Some(b"a key".to_vec()),
        value: Some(value.to_vec()),
        timestamp_ms,
    }
}

/// A row of a data file.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub timestamp_us: i64,
    pub message: String,
    pub latitude: f64,
    pub longitude: f64,
    pub extra: Option<serde_json::Value>,
    pub kafka_timestamp_us: i64,
}

impl Row {
    /// What a record must have become, by another JSON parser; `None`: it is no row.
    pub fn of(record: &Record) -> Option<Self> {
        let value: serde_json::Value = serde_json::from_slice(record.value.as_ref()?).ok()?;
        let degrees = |name: &str| value["iss_position"][name].as_str()?.parse().ok();
        let mut extra = value.as_object()?.clone();
        for known in ["timestamp", "message", "iss_position"] {
            extra.remove(known)?;
        }
        Some(Self {
            timestamp_us: value["timestamp"].as_i64()? * 1_000_000,
            message: value["message"].as_str()?.to_owned(),
            latitude: degrees("latitude")?,
            longitude: degrees("longitude")?,
            extra: (!extra.is_empty()).then_some(extra.into()),
            kafka_timestamp_us: record.timestamp_ms * 1000,
        })
    }
}

#[derive(Debug)]
pub struct DeadLetter {
    pub record: Record,
    pub cause: String,
}

/// Everything in the folder's objects.
#[derive(Debug, Default)]
pub struct Audit {
    pub rows: BTreeMap<(i32, i64), Row>,
    pub dead_letters: BTreeMap<(i32, i64), DeadLetter>,
    /// By key.
    pub footers: BTreeMap<String, Footer>,
}

impl Audit {
    pub fn of(bench: &Bench, config: &Config) -> Self {
        let mut audit = Self::default();
        for key in bench.objects("") {
            match key.split('/').next().unwrap() {
                "parquet_files" => audit.data(bench, &key, config),
                "dead_letters" => audit.letters(bench, &key),
                "checkpoints" => {}
                other => panic!("what is {other}? {key}"),
            }
        }
        audit.check_batches();
        audit
    }

    pub fn data(&mut self, bench: &Bench, key: &str, config: &Config) {
        let (footer, batches) = open(&bench.dir.path().join(key));
        let mut offsets = Vec::new();
        for batch in &batches {
            assert_eq!(
                batch.schema().fields(),
                Layout::of(config).schema().fields()
            );
            check_types(batch);
            let partitions = batch["kafka_partition"].as_primitive::<Int32Type>();
            let found = batch["kafka_offset"].as_primitive::<Int64Type>();
            for row in 0..batch.num_rows() {
                assert_eq!(partitions.value(row), footer.identity.partition);
                offsets.push(found.value(row));
                let at = (partitions.value(row), found.value(row));
                let values = row_of(batch, row);
                check_folder(key, config, values.kafka_timestamp_us);
                assert!(self.rows.insert(at, values).is_none(), "{at:?} twice");
            }
        }
        assert_eq!(footer.file.rejects, 0);
        self.check_file(key, footer, &offsets);
    }

    pub fn letters(&mut self, bench: &Bench, key: &str) {
        let (footer, batches) = open(&bench.dir.path().join(key));
        let mut offsets = Vec::new();
        for batch in &batches {
            let found = batch["kafka_offset"].as_primitive::<Int64Type>();
            let partitions = batch["kafka_partition"].as_primitive::<Int32Type>();
            for row in 0..batch.num_rows() {
                assert_eq!(batch["topic"].as_string::<i32>().value(row), TOPIC);
                offsets.push(found.value(row));
                let at = (partitions.value(row), found.value(row));
                let letter = letter_of(batch, row);
                assert!(
                    self.dead_letters.insert(at, letter).is_none(),
                    "{at:?} twice"
                );
            }
        }
        assert_eq!(footer.file.rejects, offsets.len() as u64);
        self.check_file(key, footer, &offsets);
    }

    /// Rising offsets, as many and those that the footer names, under a key that it lists.
    pub fn check_file(&mut self, key: &str, footer: Footer, offsets: &[i64]) {
        assert!(offsets.is_sorted(), "{key}");
        let set: OffsetSet = offsets.iter().copied().collect();
        assert_eq!(footer.file.offsets, set.digest(), "{key}");
        let range = footer.batch.start..footer.batch.end;
        assert!(offsets.iter().all(|offset| range.contains(offset)), "{key}");
        assert!(
            footer.batch.keys.iter().any(|listed| listed == key),
            "{key}"
        );
        assert_eq!(
            (&*footer.identity.topic, &*footer.identity.group),
            (TOPIC, "demo")
        );
        self.footers.insert(key.to_owned(), footer);
    }

    /// The files of a batch hold together what its writer read.
    pub fn check_batches(&self) {
        let mut sums: BTreeMap<(i32, i64), (OffsetDigest, &Footer)> = BTreeMap::new();
        for footer in self.footers.values() {
            let batch = (footer.identity.partition, footer.batch.start);
            let (sum, first) = sums
                .entry(batch)
                .or_insert_with(|| (OffsetDigest::default(), footer));
            sum.count += footer.file.offsets.count;
            sum.sum = sum.sum.wrapping_add(footer.file.offsets.sum);
            assert_eq!(first.batch.end, footer.batch.end, "{batch:?}");
            assert_eq!(first.batch.keys, footer.batch.keys, "{batch:?}");
        }
        for (batch, (sum, footer)) in sums {
            assert_eq!(sum, footer.batch.offsets, "{batch:?}");
        }
    }

    /// Where the batches of a partition end, which begin at 0 and leave nothing out.
    pub fn tiled_to(&self, partition: i32) -> i64 {
        let ranges: BTreeSet<(i64, i64)> = self
            .footers
            .values()
            .filter(|footer| footer.identity.partition == partition)
            .map(|footer| (footer.batch.start, footer.batch.end))
            .collect();
        ranges.into_iter().fold(0, |end, (start, next)| {
            assert_eq!(start, end, "partition {partition}");
            next
        })
    }
}

pub fn open(path: &Path) -> (Footer, Vec<RecordBatch>) {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let entries = reader.metadata().file_metadata().key_value_metadata();
    let entry = entries
        .unwrap()
        .iter()
        .find(|entry| entry.key == FOOTER_KEY)
        .unwrap();
    let footer = serde_json::from_str(entry.value.as_ref().unwrap()).unwrap();
    let batches = reader.build().unwrap().map(Result::unwrap).collect();
    (footer, batches)
}

pub fn check_types(batch: &RecordBatch) {
    let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    for (name, kind) in [
        ("timestamp", &instant),
        ("message", &DataType::Utf8),
        ("latitude", &DataType::Float64),
        ("longitude", &DataType::Float64),
        ("_extra", &DataType::Utf8),
        ("kafka_partition", &DataType::Int32),
        ("kafka_offset", &DataType::Int64),
        ("kafka_timestamp", &instant),
    ] {
        assert_eq!(batch[name].data_type(), kind, "{name}");
    }
    assert_eq!(batch.num_columns(), 8);
}

pub fn row_of(batch: &RecordBatch, row: usize) -> Row {
    let instant = |name: &str| {
        let column = batch[name].as_primitive::<TimestampMicrosecondType>();
        column.value(row)
    };
    let float = |name: &str| batch[name].as_primitive::<Float64Type>().value(row);
    let extra = batch["_extra"].as_string::<i32>();
    Row {
        timestamp_us: instant("timestamp"),
        message: batch["message"].as_string::<i32>().value(row).to_owned(),
        latitude: float("latitude"),
        longitude: float("longitude"),
        extra: extra
            .is_valid(row)
            .then(|| serde_json::from_str(extra.value(row)).unwrap()),
        kafka_timestamp_us: instant("kafka_timestamp"),
    }
}

pub fn letter_of(batch: &RecordBatch, row: usize) -> DeadLetter {
    let binary = |name: &str| {
        let column = batch[name].as_binary::<i32>();
        column.is_valid(row).then(|| column.value(row).to_vec())
    };
    let timestamp = batch["kafka_timestamp"].as_primitive::<TimestampMicrosecondType>();
    DeadLetter {
        record: Record {
            key: binary("key"),
            value: binary("value"),
            timestamp_ms: timestamp.value(row) / 1000,
        },
        cause: batch["cause"].as_string::<i32>().value(row).to_owned(),
    }
}

/// A row lies in the folder of its time.
pub fn check_folder(key: &str, config: &Config, time_us: i64) {
    let time = chrono::DateTime::from_timestamp_micros(time_us).unwrap();
    let mut folder = "parquet_files/".to_owned();
    for unit in &config.files.partition_by {
        folder += &match unit {
            PartitionUnit::Date => time.format("date=%Y-%m-%d/").to_string(),
            PartitionUnit::Hour => time.format("hour=%H/").to_string(),
        };
    }
    let (found, _) = key.rsplit_once('/').unwrap();
    assert_eq!(format!("{found}/"), folder);
}
