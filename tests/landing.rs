//! Landing from end to end in one process: the real supervisor and the real actors between an
//! embedded Kafka and a folder, then an audit of every object by Arrow's own Parquet reader.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use groundtrack::config::{Config, LogLevel, PartitionUnit, Source, Web};
use groundtrack::demo;
use groundtrack::demo::broker::Broker;
use groundtrack::demo::open_notify::Simulator;
use groundtrack::landing::layout::Layout;
use groundtrack::landing::offsets::{OffsetDigest, OffsetSet};
use groundtrack::landing::protocol::checkpoint::Checkpoint;
use groundtrack::landing::protocol::footer::{FOOTER_KEY, Footer};
use groundtrack::logging::LevelSwitch;
use groundtrack::status::{PartitionState, Status};
use groundtrack::supervisor::{ExitReason, GONE_WITHIN, Group, GroupName, Plan, supervise};
use groundtrack::{fault, ingest, landing, web};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use slog::Drain;
use tokio_util::sync::CancellationToken;

/// No event takes so long unless it never comes.
const PATIENCE: Duration = Duration::from_secs(30);

const TOPIC: &str = "t";

/// 2023-11-14T22:13:20Z.
const START_S: i64 = 1_700_000_000;

/// Planned faults are the process's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    fault::clear();
    guard
}

/// Waits until it holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// To the test's captured output, shown where it fails.
fn log() -> slog::Logger {
    let to = slog_term::PlainSyncDecorator::new(slog_term::TestStdoutWriter);
    let drain = slog_term::FullFormat::new(to).build();
    let drain = slog::LevelFilter::new(drain, slog::Level::Info);
    slog::Logger::root(drain.fuse(), slog::o!())
}

/// An embedded Kafka with one topic, and a folder.
struct Bench {
    dir: tempfile::TempDir,
    broker: Arc<Broker>,
    partitions: i32,
}

/// A record as it was sent, or as Kafka holds it.
#[derive(Debug, Clone, PartialEq)]
struct Record {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    timestamp_ms: i64,
}

type Records = BTreeMap<(i32, i64), Record>;

impl Bench {
    fn new(partitions: i32) -> Self {
        let broker = Broker::start(&log()).unwrap();
        broker.create_topic(TOPIC, partitions).unwrap();
        Self {
            dir: tempfile::tempdir().unwrap(),
            broker: Arc::new(broker),
            partitions,
        }
    }

    /// No source and no page, files every half a second, short back-offs.
    fn config(&self) -> Config {
        let servers = self.broker.bootstrap_servers().unwrap();
        let listen = ([127, 0, 0, 1], 0).into();
        let mut config = demo::configuration(self.dir.path(), &servers, "", TOPIC, listen);
        config.source = None;
        config.web = None;
        config.files.max_age = Duration::from_millis(500);
        // The mock holds a group that its last member has left for a session less a second.
        for (name, value) in [
            ("session.timeout.ms", "1200"),
            ("heartbeat.interval.ms", "200"),
        ] {
            let options = &mut config.kafka.options;
            options.insert(name.to_owned(), value.to_owned());
        }
        config.supervision.backoff = Duration::from_millis(50);
        config.supervision.backoff_max = Duration::from_millis(200);
        config
    }

    /// Sends to a partition in this order; all are acknowledged when it returns.
    fn send(&self, partition: i32, records: &[Record]) {
        send(
            &self.broker.bootstrap_servers().unwrap(),
            partition,
            records,
        );
    }

    /// All that Kafka holds.
    fn kept(&self) -> Records {
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

    fn checkpoint_path(&self, partition: i32) -> PathBuf {
        let folder = self.dir.path().join("checkpoints/demo").join(TOPIC);
        folder.join(format!("{partition}.json"))
    }

    fn checkpoint(&self, partition: i32) -> Option<Checkpoint> {
        let text = std::fs::read(self.checkpoint_path(partition)).ok()?;
        Some(serde_json::from_slice(&text).unwrap())
    }

    fn next_offset(&self, partition: i32) -> i64 {
        self.checkpoint(partition)
            .map_or(0, |checkpoint| checkpoint.next_offset)
    }

    /// Every file below the folder, with its content.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        walk(self.dir.path(), self.dir.path(), &mut files);
        files
    }

    fn objects(&self, folder: &str) -> BTreeSet<String> {
        let files = self.files().into_keys();
        files.filter(|key| key.starts_with(folder)).collect()
    }

    /// Reads all objects and holds them to what Kafka has: each record in exactly one row or dead
    /// letter with its own values, each file as its footer says, the batches tiling the range up
    /// to the checkpoint, which is Kafka's end.
    fn audit(&self, config: &Config) -> Audit {
        let kept = self.kept();
        let audit = Audit::of(self, config);
        for (at, record) in &kept {
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

    fn start(&self, config: Config) -> Service {
        Service::start(config, false)
    }

    fn land_all(&self, config: Config) -> ExitReason {
        Service::start(config, true).ended()
    }
}

fn send(servers: &str, partition: i32, records: &[Record]) {
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

fn walk(root: &Path, folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
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

/// The process but for its signals.
struct Service {
    status: Arc<Status>,
    shutdown: CancellationToken,
    thread: Option<JoinHandle<ExitReason>>,
}

impl Service {
    fn start(config: Config, until_caught_up: bool) -> Self {
        let (status, shutdown) = (Status::new(), CancellationToken::new());
        let again = config.clone();
        let (_, signals) = tokio::sync::mpsc::channel(1);
        let plan = Plan {
            groups: vec![
                Group::new(GroupName::Ingest, ingest::run),
                Group::new(GroupName::Landing, landing::run),
                Group::new(GroupName::Web, web::run),
            ],
            config,
            load: Box::new(move || Ok(again.clone())),
            status: status.clone(),
            log: log(),
            level: LevelSwitch::new(LogLevel::Info),
            signals,
            shutdown: shutdown.clone(),
            until_caught_up,
            gone_within: GONE_WITHIN,
        };
        Self {
            status,
            shutdown,
            thread: Some(std::thread::spawn(|| supervise(plan))),
        }
    }

    /// Waits for the end.
    fn ended(&mut self) -> ExitReason {
        let thread = self.thread.take().unwrap();
        until("the process ends", || thread.is_finished());
        thread.join().unwrap()
    }

    /// As SIGTERM.
    fn drain(&mut self) -> ExitReason {
        self.shutdown.cancel();
        self.ended()
    }

    fn restarts(&self, group: &'static str) -> u64 {
        self.status.group(group).restarts.load(Ordering::Relaxed)
    }

    /// Waits until a file has landed from now on.
    fn await_file(&self) {
        let mut landed = self.status.watch_landed();
        until("a file lands", || landed.try_recv().is_ok());
    }

    fn state(&self, partition: i32) -> PartitionState {
        self.status.partition(TOPIC, partition).state()
    }
}

/// A test that fails leaves no service behind that passes another test's faults.
impl Drop for Service {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Record `number` of a partition, all of whose values follow from these two.
fn record(partition: i32, number: i64) -> Record {
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

fn records(partition: i32, numbers: std::ops::Range<i64>) -> Vec<Record> {
    numbers.map(|number| record(partition, number)).collect()
}

fn raw(value: &[u8], timestamp_ms: i64) -> Record {
    Record {
        key: Some(b"a key".to_vec()),
        value: Some(value.to_vec()),
        timestamp_ms,
    }
}

/// A row of a data file.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    timestamp_us: i64,
    message: String,
    latitude: f64,
    longitude: f64,
    extra: Option<serde_json::Value>,
    kafka_timestamp_us: i64,
}

impl Row {
    /// What a record must have become, by another JSON parser; `None`: it is no row.
    fn of(record: &Record) -> Option<Self> {
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
struct DeadLetter {
    record: Record,
    cause: String,
}

/// Everything in the folder's objects.
#[derive(Debug, Default)]
struct Audit {
    rows: BTreeMap<(i32, i64), Row>,
    dead_letters: BTreeMap<(i32, i64), DeadLetter>,
    /// By key.
    footers: BTreeMap<String, Footer>,
}

impl Audit {
    fn of(bench: &Bench, config: &Config) -> Self {
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

    fn data(&mut self, bench: &Bench, key: &str, config: &Config) {
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

    fn letters(&mut self, bench: &Bench, key: &str) {
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
    fn check_file(&mut self, key: &str, footer: Footer, offsets: &[i64]) {
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
    fn check_batches(&self) {
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
    fn tiled_to(&self, partition: i32) -> i64 {
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

fn open(path: &Path) -> (Footer, Vec<RecordBatch>) {
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

fn check_types(batch: &RecordBatch) {
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

fn row_of(batch: &RecordBatch, row: usize) -> Row {
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

fn letter_of(batch: &RecordBatch, row: usize) -> DeadLetter {
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
fn check_folder(key: &str, config: &Config, time_us: i64) {
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

/// Sends to every partition in turn until it is dropped.
struct Feed {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Feed {
    fn start(bench: &Bench) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, partitions) = (stop.clone(), bench.partitions);
        let servers = bench.broker.bootstrap_servers().unwrap();
        let thread = std::thread::spawn(move || {
            let mut number = 0;
            while !stopped.load(Ordering::Relaxed) {
                for partition in 0..partitions {
                    send(&servers, partition, &records(partition, number..number + 5));
                }
                number += 5;
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.end();
    }
}

const ACTORS: [(&str, &str); 7] = [
    ("poller", "ingest"),
    ("publisher", "ingest"),
    ("subscriber", "landing"),
    ("flattener", "landing"),
    ("accumulator", "landing"),
    ("uploader", "landing"),
    ("checkpoint", "landing"),
];

/// Lets one actor fail once in the midst of its work while records keep coming, and audits what
/// has landed after a drain.
fn fail_once(actor: &'static str, group: &'static str, kind: &str) {
    println!("{actor} {kind}");
    // The checkpoint actor has one life sign for all partitions.
    let bench = Bench::new(if actor == "checkpoint" { 1 } else { 2 });
    let simulator = Simulator::start(&log()).unwrap();
    let mut config = bench.config();
    config.source = Some(Source {
        url: simulator.url(),
        interval: Duration::from_millis(50),
        timeout: Duration::from_millis(900),
        stale_after: Duration::from_secs(60),
    });
    config.files.max_age = Duration::from_millis(200);
    if kind == "hang" {
        config.supervision.heartbeat = Duration::from_millis(1000);
    }
    let mut feed = Feed::start(&bench);
    let mut service = bench.start(config.clone());
    service.await_file();
    assert_eq!(service.restarts(group), 0);

    fault::plan(&format!("{actor}={kind}@2"));
    let status = service.status.group(group);
    until(
        &format!("{actor}'s {kind} is followed by a restart"),
        || {
            service.restarts(group) == 1
                && status.generation.load(Ordering::Relaxed) == 2
                && status.running.load(Ordering::Relaxed)
        },
    );
    let failure = status.last_failure.lock().unwrap().clone();
    assert!(failure.contains(actor), "{failure}");
    let other = if group == "ingest" {
        "landing"
    } else {
        "ingest"
    };
    assert_eq!(service.restarts(other), 0, "a group fails for itself");
    service.await_file();

    feed.end();
    assert_eq!(service.drain(), ExitReason::Drained);
    // What was published after the last read is left to the next start.
    assert_eq!(bench.land_all(config.clone()), ExitReason::CaughtUp);
    let audit = bench.audit(&config);
    assert!(audit.dead_letters.is_empty());
    let polled = audit.rows.values().any(|row| row.message == "success");
    assert!(polled, "what the source said is among the rows");
}

#[test]
fn every_record_becomes_one_row_with_its_values() {
    let _alone = alone();
    let bench = Bench::new(3);
    for partition in 0..3 {
        bench.send(partition, &records(partition, 0..1000));
    }
    let mut config = bench.config();
    config.files.max_rows = 300;
    assert_eq!(bench.land_all(config.clone()), ExitReason::CaughtUp);
    let audit = bench.audit(&config);
    assert_eq!(audit.rows.len(), 3000);
    for ((partition, offset), row) in &audit.rows {
        assert_eq!(Some(row), Row::of(&record(*partition, *offset)).as_ref());
    }
    let row = &audit.rows[&(2, 999)];
    assert_eq!((row.latitude, row.longitude), (124.875, -249.75));
    assert_eq!(row.extra, Some(serde_json::json!({"number": 999})));
    assert!(audit.footers.len() >= 12, "{}", audit.footers.len());
}

#[test]
fn an_actor_that_panics_is_restarted_and_nothing_is_lost_or_doubled() {
    let _alone = alone();
    for (actor, group) in ACTORS {
        fail_once(actor, group, "panic");
    }
}

#[test]
fn an_actor_that_hangs_is_found_by_its_heartbeat_and_nothing_is_lost_or_doubled() {
    let _alone = alone();
    for (actor, group) in ACTORS {
        fail_once(actor, group, "hang");
    }
}

#[test]
fn a_page_whose_port_is_taken_and_a_source_that_is_away_do_not_stop_landing() {
    let _alone = alone();
    let bench = Bench::new(1);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let away = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut config = bench.config();
    config.web = Some(Web {
        listen: taken.local_addr().unwrap(),
        hosts: Vec::new(),
    });
    config.source = Some(Source {
        url: format!("http://{away}/"),
        interval: Duration::from_millis(50),
        timeout: Duration::from_millis(40),
        stale_after: Duration::from_secs(60),
    });
    let mut service = bench.start(config.clone());
    until("the page has failed again", || service.restarts("web") >= 2);
    bench.send(0, &records(0, 0..10));
    until("they land", || bench.next_offset(0) == 10);
    assert_eq!(service.restarts("landing"), 0);
    assert_eq!(service.restarts("ingest"), 0);
    assert!(service.status.web_address().is_none());
    drop(taken);
    until("the page has its port", || {
        service.status.web_address().is_some()
    });
    assert_eq!(service.drain(), ExitReason::Drained);
    assert_eq!(bench.audit(&config).rows.len(), 10);
}

#[test]
fn what_is_no_row_becomes_a_dead_letter_with_every_byte() {
    let _alone = alone();
    let bench = Bench::new(1);
    let bad = [
        raw(b"{", START_S * 1000),
        raw(b"\xff\x00\xfe", START_S * 1000 + 1),
        raw(b"", START_S * 1000 + 2),
        raw(b"[1, 2]", START_S * 1000 + 3),
        raw(
            br#"{"timestamp": "never", "message": "m", "iss_position": {}}"#,
            START_S * 1000 + 4,
        ),
        Record {
            key: None,
            value: None,
            timestamp_ms: START_S * 1000 + 5,
        },
    ];
    bench.send(0, &records(0, 0..3));
    bench.send(0, &bad);
    bench.send(0, &records(0, 9..12));
    let config = bench.config();
    assert_eq!(bench.land_all(config.clone()), ExitReason::CaughtUp);
    let audit = bench.audit(&config);
    assert_eq!(audit.rows.len(), 6);
    assert!((3..9).eq(audit.dead_letters.keys().map(|(_, offset)| *offset)));
    for (sent, letter) in bad.iter().zip(audit.dead_letters.values()) {
        assert_eq!(sent, &letter.record);
        assert!(!letter.cause.is_empty());
    }
}

#[test]
fn a_feed_of_nothing_but_rejects_moves_the_checkpoint() {
    let _alone = alone();
    let bench = Bench::new(1);
    let config = bench.config();
    let mut service = bench.start(config.clone());
    for round in 1..=2 {
        let bad: Vec<Record> = (0..50)
            .map(|n| raw(b"no JSON", START_S * 1000 + n))
            .collect();
        bench.send(0, &bad);
        until("the checkpoint moves", || {
            bench.next_offset(0) == round * 50
        });
    }
    assert_eq!(service.drain(), ExitReason::Drained);
    let audit = bench.audit(&config);
    assert_eq!((audit.rows.len(), audit.dead_letters.len()), (0, 100));
    assert!(bench.objects("parquet_files").is_empty());
    assert_eq!(
        service
            .status
            .partition(TOPIC, 0)
            .dead_letters
            .load(Ordering::Relaxed),
        100
    );
}

#[test]
fn rows_lie_in_the_folder_of_their_hour_whatever_the_order_of_their_times() {
    let _alone = alone();
    let bench = Bench::new(1);
    let hours = [0, 3, 1, 0, 25, 3, 2, 1];
    let interleaved: Vec<Record> = (0..200)
        .map(|number| Record {
            timestamp_ms: (START_S + 3600 * hours[number as usize % hours.len()]) * 1000 + number,
            ..record(0, number)
        })
        .collect();
    bench.send(0, &interleaved);
    let mut config = bench.config();
    config.files.partition_by = vec![PartitionUnit::Date, PartitionUnit::Hour];
    assert_eq!(bench.land_all(config.clone()), ExitReason::CaughtUp);
    let audit = bench.audit(&config);
    assert_eq!(audit.rows.len(), 200);
    let folders: BTreeSet<&str> = audit
        .footers
        .keys()
        .map(|key| key.rsplit_once('/').unwrap().0)
        .collect();
    let expected = [
        "parquet_files/date=2023-11-14/hour=22",
        "parquet_files/date=2023-11-14/hour=23",
        "parquet_files/date=2023-11-15/hour=00",
        "parquet_files/date=2023-11-15/hour=01",
        "parquet_files/date=2023-11-15/hour=23",
    ];
    assert!(folders.iter().eq(&expected), "{folders:?}");
}

#[test]
fn a_second_run_goes_on_where_the_first_ended() {
    let _alone = alone();
    let bench = Bench::new(2);
    let config = bench.config();
    for (run, numbers) in [(1, 0..100), (2, 100..150), (3, 150..150)] {
        let before = bench.objects("parquet_files");
        for partition in 0..2 {
            bench.send(partition, &records(partition, numbers.clone()));
        }
        assert_eq!(
            bench.land_all(config.clone()),
            ExitReason::CaughtUp,
            "run {run}"
        );
        let audit = bench.audit(&config);
        assert_eq!(audit.rows.len() as i64, 2 * numbers.end);
        let after = bench.objects("parquet_files");
        assert!(after.is_superset(&before));
        assert_eq!(after == before, numbers.is_empty(), "run {run}");
    }
}

#[test]
fn without_its_checkpoints_a_group_finds_its_own_objects_foreign_and_writes_nothing() {
    let _alone = alone();
    let bench = Bench::new(2);
    bench.send(0, &records(0, 0..20));
    let config = bench.config();
    assert_eq!(bench.land_all(config.clone()), ExitReason::CaughtUp);
    std::fs::remove_dir_all(bench.dir.path().join("checkpoints")).unwrap();
    let before = bench.files();
    bench.send(0, &records(0, 20..30));
    bench.send(1, &records(1, 0..10));

    let mut service = bench.start(config.clone());
    until("the partition without anything in the folder lands", || {
        bench.next_offset(1) == 10
    });
    until(
        "the other stops",
        || matches!(service.state(0), PartitionState::Stopped(why) if why.contains("foreign")),
    );
    assert_eq!(service.drain(), ExitReason::Drained);
    let written: Vec<String> = bench
        .files()
        .into_iter()
        .filter(|(key, content)| before.get(key) != Some(content))
        .map(|(key, _)| key)
        .collect();
    assert!(
        written
            .iter()
            .all(|key| key.contains("t-00001-") || key.ends_with("/1.json")),
        "{written:?}"
    );
    let ended = bench.land_all(config);
    assert!(matches!(ended, ExitReason::OnlyStoppedLeft(_)), "{ended:?}");
}
