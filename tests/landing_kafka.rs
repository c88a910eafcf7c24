//! The real binary lands from a real Kafka into a folder, and every offset that a read_committed
//! reader sees is looked for in the files: once, as a row or as a dead letter.
//!
//! `tests/servers/servers.py run --only kafka -- cargo test --test landing_kafka -- --ignored`

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

/// No event takes so long unless it never comes.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often a file or a broker is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// The shortest session that the broker allows under the classic protocol.
const SESSION: (&str, &str) = ("session.timeout.ms", "6000");
const EAGER: &[(&str, &str)] = &[SESSION];
const COOPERATIVE: &[(&str, &str)] = &[
    SESSION,
    ("partition.assignment.strategy", "cooperative-sticky"),
];
const KIP_848: &[(&str, &str)] = &[("group.protocol", "consumer")];
const STATIC: &str = "host-1";

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(LOOK);
    }
}

// The rig of one test.

/// A topic, a group and a folder that no other test uses.
struct Rig {
    folder: tempfile::TempDir,
    topic: String,
    admin: AdminClient<DefaultClientContext>,
    runtime: tokio::runtime::Runtime,
}

fn brokers() -> String {
    std::env::var("GROUNDTRACK_TEST_KAFKA")
        .expect("GROUNDTRACK_TEST_KAFKA: start it by tests/servers/servers.py")
}

fn client() -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", brokers());
    client
}

fn admin_options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(PATIENCE))
        .operation_timeout(Some(PATIENCE))
}

impl Rig {
    /// With a topic of so many partitions; none where it is 0.
    fn new(name: &str, partitions: i32) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let rig = Self {
            folder: tempfile::tempdir().unwrap(),
            topic: format!("{name}-{}-{:x}", std::process::id(), fastrand::u32(..)),
            admin: client().create().unwrap(),
            runtime,
        };
        if partitions > 0 {
            rig.create_topic(partitions);
        }
        rig
    }

    fn create_topic(&self, partitions: i32) {
        let topic = NewTopic::new(&self.topic, partitions, TopicReplication::Fixed(1));
        let made = self.admin.create_topics([&topic], &admin_options());
        for one in self.runtime.block_on(made).unwrap() {
            one.unwrap();
        }
        until("the topic", || {
            let metadata = self.metadata();
            (metadata == partitions as usize).then_some(())
        });
    }

    fn metadata(&self) -> usize {
        let asked = self
            .admin
            .inner()
            .fetch_metadata(Some(&self.topic), Duration::from_secs(10));
        asked.map_or(0, |metadata| metadata.topics()[0].partitions().len())
    }

    fn delete_topic(&self) {
        let deleted = self.admin.delete_topics(&[&self.topic], &admin_options());
        for one in self.runtime.block_on(deleted).unwrap() {
            one.unwrap();
        }
        until("the topic's end", || (self.metadata() == 0).then_some(()));
    }

    fn add_partitions(&self, count: usize) {
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
    fn delete_records(&self, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, partition, Offset::Offset(offset))
            .unwrap();
        let deleted = self.admin.delete_records(&list, &admin_options());
        let list = self.runtime.block_on(deleted).unwrap();
        for element in list.elements() {
            element.error().unwrap();
        }
    }

    /// Writes a configuration; `more` is added to its end.
    fn config(&self, name: &str, setup: &Setup) -> PathBuf {
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
             [web]\nlisten = \"\"\n[log]\nformat = \"json\"\n{}",
            brokers(),
            setup.instance_id,
            setup.start,
            setup.max_rows,
            setup.max_age,
            self.store().display(),
            setup.more,
            topic = self.topic,
        );
        let path = self.folder.path().join(format!("{name}.toml"));
        std::fs::write(&path, text).unwrap();
        path
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// Runs the service.
    fn member(&self, name: &str, setup: &Setup) -> Member {
        Member::start(&self.config(name, setup), &[])
    }

    /// Lands all that the topic holds; returns the exit code.
    fn catch_up(&self, name: &str, setup: &Setup) -> i32 {
        let mut member = Member::start(&self.config(name, setup), &["--until-caught-up"]);
        member.exit_code()
    }

    fn producer(&self) -> Source {
        Source::new(&self.topic, client().set("linger.ms", "2"))
    }

    fn transactional(&self) -> Source {
        let source = Source::new(&self.topic, client().set("transactional.id", &self.topic));
        source.producer.init_transactions(PATIENCE).unwrap();
        source
    }

    /// First and last stable offset of each partition.
    fn watermarks(&self) -> BTreeMap<i32, (i64, i64)> {
        let reader = reader();
        (0..self.metadata() as i32)
            .map(|partition| {
                let marks = reader.fetch_watermarks(&self.topic, partition, PATIENCE);
                (partition, marks.unwrap())
            })
            .collect()
    }

    /// What a read_committed reader sees now.
    fn committed(&self) -> BTreeSet<(i32, i64)> {
        let marks = self.watermarks();
        let mut from = TopicPartitionList::new();
        for (partition, (low, _)) in &marks {
            from.add_partition_offset(&self.topic, *partition, Offset::Offset(*low))
                .unwrap();
        }
        let reader = reader();
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

    fn checkpoint(&self, partition: i32) -> Option<Value> {
        let path = self
            .store()
            .join(format!("checkpoints/{0}/{0}/{partition}.json", self.topic));
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    /// How far a partition has landed, holes behind it included; -1 before its first claim.
    fn landed_to(&self, partition: i32) -> i64 {
        self.checkpoint(partition).map_or(-1, |checkpoint| {
            let of = |field: &str| checkpoint[field].as_i64().unwrap();
            of("next_offset").max(of("holes_to"))
        })
    }

    fn wait_until_landed(&self) {
        for (partition, (_, end)) in self.watermarks() {
            let what = format!("partition {partition} to land up to {end}");
            until(&what, || (self.landed_to(partition) >= end).then_some(()));
        }
    }

    /// Each of these offsets is there once, and nothing else is; the checkpoints are at the end.
    fn audit(&self, expected: &BTreeSet<(i32, i64)>) {
        let landed = landed(&self.store());
        let twice: Vec<_> = landed.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "landed more than once: {twice:?}");
        let landed: BTreeSet<(i32, i64)> = landed.into_keys().collect();
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
    fn audit_all(&self) {
        self.audit(&self.committed());
        for (partition, (_, end)) in self.watermarks() {
            assert_eq!(self.landed_to(partition), end, "partition {partition}");
            let checkpoint = self.checkpoint(partition).unwrap();
            assert!(checkpoint["pending"].is_null(), "{checkpoint}");
            assert!(checkpoint["stopped"].is_null(), "{checkpoint}");
        }
    }

    fn wait_until_stopped(&self, partition: i32) -> String {
        until("a partition that stops", || {
            let checkpoint = self.checkpoint(partition)?;
            Some(checkpoint["stopped"]["cause"].as_str()?.to_owned())
        })
    }
}

fn reader() -> BaseConsumer {
    client()
        .set("group.id", "auditor")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap()
}

/// What differs between the tests' configurations.
#[derive(Clone, Copy)]
struct Setup<'a> {
    options: &'a [(&'a str, &'a str)],
    instance_id: &'a str,
    start: &'a str,
    max_rows: u32,
    max_age: &'a str,
    more: &'a str,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            options: EAGER,
            instance_id: "",
            start: "earliest",
            max_rows: 700,
            max_age: "500ms",
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

// Who produces.

struct Source {
    topic: String,
    producer: BaseProducer,
}

impl Source {
    fn new(topic: &str, config: &ClientConfig) -> Self {
        Self {
            topic: topic.to_owned(),
            producer: config.create().unwrap(),
        }
    }

    /// One record; every fiftieth cannot be decoded.
    fn send(&self, partition: i32, number: usize) {
        let body = match number % 50 {
            49 => "not json".to_owned(),
            _ => format!(
                r#"{{"message":"success","timestamp":{},"iss_position":{{"latitude":"1.5","longitude":"-2.25"}}}}"#,
                1_700_000_000 + number
            ),
        };
        let mut record = BaseRecord::<(), str>::to(&self.topic)
            .partition(partition)
            .payload(&body);
        while let Err((error, back)) = self.producer.send(record) {
            let full =
                error.rdkafka_error_code() == Some(rdkafka::types::RDKafkaErrorCode::QueueFull);
            assert!(full, "{error}");
            self.producer.poll(Duration::from_millis(10));
            record = back;
        }
    }

    /// So many records to each of the partitions, acknowledged.
    fn fill(&self, partitions: i32, each: usize) {
        for number in 0..each {
            for partition in 0..partitions {
                self.send(partition, number);
            }
        }
        self.flush();
    }

    fn flush(&self) {
        self.producer.flush(PATIENCE).unwrap();
    }

    fn transaction(&self, partitions: i32, each: usize, commit: bool) {
        self.producer.begin_transaction().unwrap();
        self.fill(partitions, each);
        match commit {
            true => self.producer.commit_transaction(PATIENCE).unwrap(),
            false => self.producer.abort_transaction(PATIENCE).unwrap(),
        }
    }
}

/// Produces until it is told to stop.
struct Stream {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Stream {
    fn start(rig: &Rig, partitions: i32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (source, stopped) = (rig.producer(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut number = 0;
            while !stopped.load(Ordering::Relaxed) {
                for partition in 0..partitions {
                    source.send(partition, number);
                }
                number += 1;
                // About a thousand a second and partition: a flow, not a flood.
                source.producer.poll(Duration::from_millis(1));
            }
            source.flush();
        });
        Self { stop, thread }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

// The process.

type Lines = Arc<(Mutex<Vec<Value>>, Condvar)>;

struct Member {
    child: Child,
    lines: Lines,
}

impl Member {
    fn start(config: &Path, more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_groundtrack"))
            .args(["run", "--config"])
            .arg(config)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Lines::default();
        let (from, to) = (child.stderr.take().unwrap(), lines.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                // A panic of the process may say more than its log.
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                to.0.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(line);
                to.1.notify_all();
            }
        });
        Self { child, lines }
    }

    /// Waits for the n-th line with this message (from 1); returns it.
    fn wait_for(&self, message: &str, count: usize) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.lines();
        loop {
            let mut found = lines.iter().filter(|line| line["msg"] == message);
            if let Some(line) = found.nth(count - 1) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{message:?} was not said");
            lines = self.lines.1.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Also after a test has failed while it held them.
    fn lines(&self) -> MutexGuard<'_, Vec<Value>> {
        self.lines.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_said(&self, message: &str) -> bool {
        let lines = self.lines();
        lines.iter().any(|line| line["msg"] == message)
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([name, &id]).status().unwrap();
        assert!(sent.success());
    }

    fn exit_code(&mut self) -> i32 {
        let ended = {
            let deadline = Instant::now() + PATIENCE;
            loop {
                match self.child.try_wait().unwrap() {
                    Some(status) => break Some(status),
                    None if Instant::now() > deadline => break None,
                    None => std::thread::sleep(LOOK),
                }
            }
        };
        let code = ended.expect("does not end").code().unwrap_or(-1);
        if code != 0 {
            eprintln!("exit code {code}\n{}", text(&self.lines()));
        }
        code
    }

    /// A clean end.
    fn drain(mut self) {
        self.signal("-TERM");
        assert_eq!(self.exit_code(), 0);
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", text(&self.lines()));
        }
    }
}

fn text(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

// What holds under each of the group protocols.

fn lands_everything(name: &str, options: &[(&str, &str)]) {
    for instance_id in ["", STATIC] {
        let rig = Rig::new(name, 4);
        let setup = Setup {
            options,
            instance_id,
            ..Setup::default()
        };
        let source = rig.producer();
        source.fill(4, 3000);
        assert_eq!(rig.catch_up("first", &setup), 0);
        rig.audit_all();
        source.fill(3, 100);
        assert_eq!(rig.catch_up("first", &setup), 0);
        rig.audit_all();
    }
}

fn members_come_and_go(name: &str, options: &[(&str, &str)]) {
    let rig = Rig::new(name, 4);
    let setup = Setup {
        options,
        ..Setup::default()
    };
    let stream = Stream::start(&rig, 4);
    let first = rig.member("first", &setup);
    first.wait_for("file landed", 4);
    let second = rig.member("second", &setup);
    second.wait_for("file landed", 2);
    first.drain();
    let third = rig.member("third", &setup);
    third.wait_for("file landed", 2);
    second.drain();
    stream.end();
    rig.wait_until_landed();
    third.drain();
    rig.audit_all();
}

#[test]
#[ignore = "needs real servers"]
fn an_eager_member_lands_everything_once() {
    lands_everything("eager", EAGER);
}

#[test]
#[ignore = "needs real servers"]
fn a_cooperative_member_lands_everything_once() {
    lands_everything("cooperative", COOPERATIVE);
}

#[test]
#[ignore = "needs real servers"]
fn a_member_under_kip_848_lands_everything_once() {
    lands_everything("kip-848", KIP_848);
}

#[test]
#[ignore = "needs real servers"]
fn eager_members_come_and_go_and_every_record_lands_once() {
    members_come_and_go("eager-two", EAGER);
}

#[test]
#[ignore = "needs real servers"]
fn cooperative_members_come_and_go_and_every_record_lands_once() {
    members_come_and_go("cooperative-two", COOPERATIVE);
}

#[test]
#[ignore = "needs real servers"]
fn members_under_kip_848_come_and_go_and_every_record_lands_once() {
    members_come_and_go("kip-848-two", KIP_848);
}

// Ends.

#[test]
#[ignore = "needs real servers"]
fn a_drain_lands_what_was_read_and_exits_with_0() {
    let rig = Rig::new("drain", 2);
    let setup = Setup {
        max_rows: 1_000_000,
        max_age: "1h",
        ..Setup::default()
    };
    rig.producer().fill(2, 2000);
    let member = rig.member("only", &setup);
    member.wait_for("partition claimed", 2);
    until("the topic to be read", || {
        rig.checkpoint(1).is_some().then_some(())
    });
    member.drain();
    // How far it had read when it was told is its own affair; a second run lands the rest.
    assert_eq!(rig.catch_up("only", &setup), 0);
    rig.audit_all();
}

#[test]
#[ignore = "needs real servers"]
fn a_killed_member_is_followed_without_a_record_lost_or_doubled() {
    let rig = Rig::new("killed", 3);
    let setup = Setup {
        instance_id: STATIC,
        max_rows: 200,
        ..Setup::default()
    };
    let stream = Stream::start(&rig, 3);
    for files in [1, 3, 6] {
        let member = rig.member("only", &setup);
        member.wait_for("file landed", files);
        member.kill();
    }
    stream.end();
    let last = rig.member("only", &setup);
    rig.wait_until_landed();
    last.drain();
    rig.audit_all();
}

#[test]
#[ignore = "needs real servers"]
fn under_kip_848_the_successor_of_a_killed_static_member_waits_for_its_session() {
    let rig = Rig::new("unreleased", 2);
    let setup = Setup {
        options: KIP_848,
        instance_id: STATIC,
        ..Setup::default()
    };
    let source = rig.producer();
    source.fill(2, 500);
    let first = rig.member("only", &setup);
    first.wait_for("file landed", 2);
    first.kill();
    source.fill(2, 500);
    let second = rig.member("only", &setup);
    second.wait_for(
        "kafka has not released our instance id yet, waiting for the session of our predecessor",
        1,
    );
    second.wait_for("partition claimed", 2);
    rig.wait_until_landed();
    second.drain();
    rig.audit_all();
}

#[test]
#[ignore = "needs real servers"]
fn the_older_of_two_with_one_instance_id_ends_with_5() {
    let rig = Rig::new("fenced", 1);
    let setup = Setup {
        instance_id: STATIC,
        ..Setup::default()
    };
    rig.producer().fill(1, 100);
    let mut older = rig.member("older", &setup);
    older.wait_for("file landed", 1);
    let younger = rig.member("younger", &setup);
    assert_eq!(older.exit_code(), 5);
    rig.producer().fill(1, 100);
    rig.wait_until_landed();
    younger.drain();
    rig.audit_all();
}

// The log.

#[test]
#[ignore = "needs real servers"]
fn a_record_that_comes_while_idle_at_the_end_of_the_log_lands() {
    let rig = Rig::new("idle", 2);
    let source = rig.producer();
    source.fill(2, 10);
    let member = rig.member("only", &Setup::default());
    rig.wait_until_landed();
    for _ in 0..3 {
        source.fill(1, 1);
        rig.wait_until_landed();
    }
    source.fill(2, 1);
    rig.wait_until_landed();
    member.drain();
    rig.audit_all();
}

#[test]
#[ignore = "needs real servers"]
fn only_committed_transactions_land_and_control_records_are_no_obstacle() {
    let rig = Rig::new("transactions", 2);
    let source = rig.transactional();
    let setup = Setup::default();
    source.transaction(2, 300, true);
    source.transaction(2, 200, false);
    source.transaction(1, 100, true);
    source.transaction(2, 400, false);
    // The log ends with control records alone.
    assert_eq!(rig.catch_up("once", &setup), 0);
    rig.audit_all();
    // What is aborted under a running member, and what is open while it runs.
    let member = rig.member("only", &setup);
    for number in 0..20 {
        source.transaction(2, 20, number % 2 == 0);
    }
    source.producer.begin_transaction().unwrap();
    source.fill(2, 50);
    rig.wait_until_landed();
    rig.audit(&rig.committed());
    source.producer.commit_transaction(PATIENCE).unwrap();
    rig.wait_until_landed();
    member.drain();
    rig.audit_all();
}

#[test]
#[ignore = "needs real servers"]
fn a_topic_of_aborted_records_alone_is_caught_up_with() {
    let rig = Rig::new("aborted", 1);
    rig.transactional().transaction(1, 50, false);
    assert_eq!(rig.catch_up("once", &Setup::default()), 0);
    assert!(rig.committed().is_empty());
    rig.audit_all();
}

#[test]
#[ignore = "needs real servers"]
fn lost_records_stop_their_partition_until_the_operator_passes_them() {
    let rig = Rig::new("gap", 2);
    let setup = Setup::default();
    let source = rig.producer();
    source.fill(2, 100);
    assert_eq!(rig.catch_up("once", &setup), 0);
    let mut expected = rig.committed();
    source.fill(2, 100);
    rig.delete_records(0, 150);
    assert_eq!(
        rig.catch_up("once", &setup),
        1,
        "only a stopped one is left"
    );
    let cause = rig.wait_until_stopped(0);
    let asks = format!(
        "[[skip]] topic = \"{}\" partition = 0 first_offset = 100",
        rig.topic
    );
    assert!(cause.contains(&asks), "{cause}");
    assert_eq!(rig.landed_to(0), 100);
    assert_eq!(rig.landed_to(1), 200, "the other goes on");
    let skip = format!(
        "[[skip]]\ntopic = \"{}\"\npartition = 0\nfirst_offset = 100\n",
        rig.topic
    );
    let passed = Setup {
        more: &skip,
        ..setup
    };
    assert_eq!(rig.catch_up("once", &passed), 0);
    expected.extend(rig.committed());
    rig.audit(&expected);
    assert_eq!(rig.landed_to(0), 200);
    assert!(rig.checkpoint(0).unwrap()["stopped"].is_null());
    let gap = footers(&rig.store().join("dead_letters"))
        .into_iter()
        .find_map(|footer| footer["file"]["gap"].as_array().cloned());
    assert_eq!(gap.unwrap(), [100, 150]);
}

/// What each file of a folder says of itself.
fn footers(folder: &Path) -> Vec<Value> {
    let entries = std::fs::read_dir(folder).unwrap();
    let read = |path: PathBuf| -> Value {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
        let pairs = reader.metadata().file_metadata().key_value_metadata();
        let ours = pairs.unwrap().iter().find(|pair| pair.key == "groundtrack");
        serde_json::from_str(ours.unwrap().value.as_ref().unwrap()).unwrap()
    };
    entries.map(|entry| read(entry.unwrap().path())).collect()
}

#[test]
#[ignore = "needs real servers"]
fn a_topic_made_anew_is_another_log() {
    let rig = Rig::new("anew", 1);
    let setup = Setup::default();
    rig.producer().fill(1, 100);
    assert_eq!(rig.catch_up("once", &setup), 0);
    let expected = rig.committed();
    rig.delete_topic();
    rig.create_topic(1);
    // More than before: no offset is out of range.
    rig.producer().fill(1, 300);
    assert_eq!(rig.catch_up("once", &setup), 1);
    let cause = rig.wait_until_stopped(0);
    assert!(
        cause.contains("another log") && cause.contains("kafka.group"),
        "{cause}"
    );
    rig.audit(&expected);
}

#[test]
#[ignore = "needs real servers"]
fn a_topic_made_anew_under_a_running_member_stops_it() {
    let rig = Rig::new("anew-running", 1);
    rig.producer().fill(1, 100);
    let member = rig.member("only", &Setup::default());
    rig.wait_until_landed();
    let expected = rig.committed();
    rig.delete_topic();
    rig.create_topic(1);
    rig.producer().fill(1, 300);
    let cause = rig.wait_until_stopped(0);
    assert!(cause.contains("another log"), "{cause}");
    member.drain();
    rig.audit(&expected);
}

#[test]
#[ignore = "needs real servers"]
fn an_added_partition_is_landed_from_its_first_record() {
    let rig = Rig::new("added", 1);
    let setup = Setup {
        start: "latest",
        ..Setup::default()
    };
    let member = rig.member("only", &setup);
    member.wait_for("partition claimed", 1);
    let source = rig.producer();
    source.fill(1, 100);
    rig.wait_until_landed();
    rig.add_partitions(3);
    let source = rig.producer();
    source.fill(3, 100);
    rig.wait_until_landed();
    member.drain();
    rig.audit_all();
}

#[test]
#[ignore = "needs real servers"]
fn a_topic_that_does_not_exist_yet_is_waited_for() {
    for options in [EAGER, KIP_848] {
        let rig = Rig::new("awaited", 0);
        let setup = Setup {
            options,
            ..Setup::default()
        };
        let member = rig.member("only", &setup);
        member.wait_for("request failed, asking again", 1);
        assert_eq!(rig.metadata(), 0, "nobody but the operator creates it");
        rig.create_topic(2);
        rig.producer().fill(2, 100);
        rig.wait_until_landed();
        assert!(!member.has_said("subscriber ends"));
        member.drain();
        rig.audit_all();
    }
}
