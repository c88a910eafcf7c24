//! `groundtrack verify` with a real Kafka and MinIO: beside the service while it lands, and what
//! only the topic can tell.
//!
//! `tests/servers/servers.py run --only kafka,minio -- cargo test --test verify_kafka -- --ignored`

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use groundtrack::config::{Compression, Config, Sources};
use groundtrack::landing::offsets::OffsetSet;
use groundtrack::landing::parquet_file::{
    Codec, DEAD_LETTERS_OFFSET_COLUMN, FileWriter, dead_letters_schema, only, read_back,
};
use groundtrack::landing::protocol::footer::Footer;
use groundtrack::store::{SharedStore, open};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

/// No event takes so long unless it never comes.
const PATIENCE: Duration = Duration::from_secs(120);

const CODEC: Codec = Codec {
    compression: Compression::Zstd(1),
    row_group_rows: 1_000_000,
};

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name}: start it by tests/servers/servers.py"))
}

fn client() -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", variable("GROUNDTRACK_TEST_KAFKA"));
    client
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A topic, a group and a prefix in the bucket that no other test uses.
struct Rig {
    folder: tempfile::TempDir,
    topic: String,
    partitions: i32,
    runtime: tokio::runtime::Runtime,
}

impl Rig {
    fn new(name: &str, partitions: i32, settings: &[(&str, &str)]) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let topic = format!("{name}-{}-{:x}", std::process::id(), fastrand::u32(..));
        let admin: AdminClient<DefaultClientContext> = client().create().unwrap();
        let mut new = NewTopic::new(&topic, partitions, TopicReplication::Fixed(1));
        for (name, value) in settings {
            new = new.set(name, value);
        }
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        for made in runtime
            .block_on(admin.create_topics([&new], &options))
            .unwrap()
        {
            made.unwrap();
        }
        let rig = Self {
            folder: tempfile::tempdir().unwrap(),
            topic,
            partitions,
            runtime,
        };
        let text = format!(
            "[kafka]\nbrokers = [{:?}]\ntopic = {topic:?}\ngroup = {topic:?}\ninstance_id = \"\"\n\
             [files]\nmax_rows = 300\nmax_age = \"300ms\"\npartition_by = []\n\
             [store]\nurl = \"s3://{}/{topic}\"\n\
             [store.s3]\nendpoint = {:?}\npath_style = true\n\
             [web]\nlisten = \"\"\n[log]\nformat = \"json\"\n",
            variable("GROUNDTRACK_TEST_KAFKA"),
            variable("GROUNDTRACK_TEST_BUCKET"),
            variable("GROUNDTRACK_TEST_MINIO"),
            topic = rig.topic,
        );
        std::fs::write(rig.folder.path().join("c.toml"), text).unwrap();
        rig
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_groundtrack"));
        command
            .args(arguments)
            .arg("--config")
            .arg(self.folder.path().join("c.toml"));
        command
    }

    fn catch_up(&self) {
        let output = self
            .command(&["run", "--until-caught-up"])
            .output()
            .unwrap();
        let code = output.status.code();
        assert_eq!(code, Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn verify(&self, arguments: &[&str]) -> (i32, Value) {
        let output = self
            .command(&["verify", "--json"])
            .args(arguments)
            .output()
            .unwrap();
        let document = serde_json::from_slice(&output.stdout);
        let document =
            document.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap(), document)
    }

    #[track_caller]
    fn proven(&self, arguments: &[&str]) -> Value {
        let (code, document) = self.verify(arguments);
        assert_eq!(code, 0, "{document:#}");
        document
    }

    #[track_caller]
    fn disproved(&self, arguments: &[&str], kind: &str, offsets: (i64, i64)) {
        let (code, document) = self.verify(arguments);
        assert_eq!(code, 3, "{document:#}");
        let found = document["findings"]
            .as_array()
            .unwrap()
            .iter()
            .any(|finding| {
                finding["kind"] == kind
                    && finding["from"] == offsets.0
                    && finding["to"] == offsets.1
            });
        assert!(found, "no {kind} {offsets:?} in {document:#}");
    }

    fn store(&self) -> SharedStore {
        let sources = Sources::of_process(Some(self.folder.path().join("c.toml")), Vec::new());
        open(&Config::load(&sources).unwrap().store, None).unwrap()
    }

    /// The keys of the data files, in the order of their offsets.
    fn keys(&self) -> Vec<String> {
        let listed = self
            .runtime
            .block_on(self.store().list("parquet_files/"))
            .unwrap();
        listed.into_iter().map(|object| object.key).collect()
    }

    fn body(&self, key: &str) -> Bytes {
        self.runtime.block_on(self.store().get(key)).unwrap().body
    }

    fn put(&self, key: &str, body: Bytes) {
        self.runtime
            .block_on(self.store().put(key, body, None))
            .unwrap();
    }

    fn remove(&self, key: &str) {
        self.runtime.block_on(self.store().delete(key)).unwrap();
    }

    /// Takes a row out of an object and lets its footer say that there never was one. Returns the
    /// footer and the row's offset.
    fn forge(&self, key: &str, gap: bool) -> (Footer, i64) {
        let body = self.body(key);
        let (footer, offsets) = read_back(body.clone()).unwrap();
        let mut footer = footer.unwrap();
        let removed = offsets.iter().nth(3).unwrap();
        let keep = offsets.minus(&OffsetSet::from_range(removed, removed + 1));
        footer.file.offsets = keep.digest();
        footer.batch.offsets = keep.digest();
        footer.file.gap = gap.then_some([removed, removed + 1]);
        self.put(key, only(body, &keep, CODEC, &footer).unwrap());
        (footer, removed)
    }

    fn read_committed(&self) -> usize {
        let reader: BaseConsumer = client()
            .set("group.id", "auditor")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .create()
            .unwrap();
        let mut from = TopicPartitionList::new();
        for partition in 0..self.partitions {
            let offset = Offset::Offset(0);
            from.add_partition_offset(&self.topic, partition, offset)
                .unwrap();
        }
        reader.assign(&from).unwrap();
        let (mut count, mut open) = (0, self.partitions);
        let deadline = Instant::now() + PATIENCE;
        while open > 0 {
            assert!(Instant::now() < deadline, "the topic cannot be read");
            match reader.poll(Duration::from_millis(100)) {
                Some(Ok(_)) => count += 1,
                Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
                Some(Err(error)) => panic!("{error}"),
                None => {}
            }
        }
        reader.unassign().unwrap();
        count
    }
}

fn send(producer: &BaseProducer, topic: &str, partition: i32, number: usize, key: Option<&str>) {
    let body = match number % 50 {
        49 => "not json".to_owned(),
        _ => format!(
            r#"{{"message":"success","timestamp":{},"iss_position":{{"latitude":"1.5","longitude":"-2.25"}}}}"#,
            1_700_000_000 + number
        ),
    };
    let mut record = BaseRecord::<str, str>::to(topic)
        .partition(partition)
        .payload(&body);
    if let Some(key) = key {
        record = record.key(key);
    }
    while let Err((_, back)) = producer.send(record) {
        producer.poll(Duration::from_millis(10));
        record = back;
    }
}

struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs real servers"]
fn it_is_right_beside_a_service_that_lands_all_the_while() {
    let rig = Rig::new("beside", 3, &[]);
    let producer: BaseProducer = client().set("linger.ms", "2").create().unwrap();
    let service = rig.command(&["run"]).stderr(Stdio::null()).spawn().unwrap();
    let mut service = Service(service);
    let mut number = 0;
    let mut proven = 0;
    let mut in_flight = 0;
    let mut last = 0;
    until("files that land while it looks", || {
        for _ in 0..2000 {
            send(&producer, &rig.topic, (number % 3) as i32, number, None);
            number += 1;
        }
        producer.flush(PATIENCE).unwrap();
        let argument: &[&str] = if proven % 2 == 0 { &[] } else { &["--topic"] };
        let (code, document) = rig.verify(argument);
        if document["partitions"].as_array().unwrap().len() < 3 {
            // Not all are claimed yet.
            return None;
        }
        assert_eq!(code, 0, "{document:#}");
        proven += 1;
        for partition in document["partitions"].as_array().unwrap() {
            in_flight += u64::from(!partition["in_flight_to"].is_null());
            last = last.max(partition["next_offset"].as_u64().unwrap());
        }
        (proven >= 12 && in_flight > 0 && last > 2000).then_some(())
    });
    let pid = service.0.id().to_string();
    Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    assert!(service.0.wait().unwrap().success());
    let document = rig.proven(&["--topic"]);
    let rows: u64 = document["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|partition| {
            partition["rows"].as_u64().unwrap() + partition["dead_letters"].as_u64().unwrap()
        })
        .sum();
    assert_eq!(rows, number as u64, "{document:#}");
}

#[test]
#[ignore = "needs real servers"]
fn on_transactions_holes_are_counted_and_a_footer_that_was_rewritten_is_found_by_the_topic() {
    let rig = Rig::new("transactions", 2, &[]);
    let producer: BaseProducer = client()
        .set("transactional.id", &rig.topic)
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    for commit in [true, false, true, true, false] {
        producer.begin_transaction().unwrap();
        for number in 0..500 {
            send(&producer, &rig.topic, (number % 2) as i32, number / 2, None);
        }
        match commit {
            true => producer.commit_transaction(PATIENCE).unwrap(),
            false => producer.abort_transaction(PATIENCE).unwrap(),
        }
    }
    rig.catch_up();
    for arguments in [&[][..], &["--topic"]] {
        let document = rig.proven(arguments);
        let sum = |field: &str| -> u64 {
            document["partitions"]
                .as_array()
                .unwrap()
                .iter()
                .map(|partition| partition[field].as_u64().unwrap())
                .sum()
        };
        assert_eq!(sum("rows") + sum("dead_letters"), 1500, "{document:#}");
        assert!(sum("holes") >= 500, "{document:#}");
        let compared = if arguments.is_empty() { 0 } else { 1500 };
        assert_eq!(sum("compared"), compared, "{document:#}");
    }

    let keys = rig.keys();
    let whole = rig.body(&keys[0]);
    let dead = |footer: &Footer| footer.batch.keys.last().unwrap().clone();
    // Of a batch without dead letters one object tells all; else both would have to lie.
    let (footer, _) = read_back(whole.clone()).unwrap();
    let dead_key = dead(&footer.unwrap());
    let had_dead = rig
        .runtime
        .block_on(rig.store().get(&dead_key))
        .ok()
        .map(|object| object.body);
    if let Some(body) = &had_dead {
        let (dead_footer, offsets) = read_back(body.clone()).unwrap();
        let (forged, removed) = forge_both(
            &rig,
            &keys[0],
            &dead_key,
            dead_footer.unwrap(),
            body,
            &offsets,
        );
        assert!(forged);
        rig.proven(&[]);
        rig.disproved(&["--topic"], "missing", (removed, removed + 1));
        rig.put(&dead_key, body.clone());
    } else {
        let (_, removed) = rig.forge(&keys[0], false);
        rig.proven(&[]);
        rig.disproved(&["--topic"], "missing", (removed, removed + 1));
    }
    rig.put(&keys[0], whole.clone());
    rig.proven(&["--topic"]);

    // A gap that is claimed over a record that Kafka still holds.
    if let Some(body) = &had_dead {
        rig.remove(&dead_key);
        rig.disproved(&[], "missing", range_of(&whole));
        rig.put(&dead_key, body.clone());
    }
    let alone = keys.iter().find(|key| {
        let (footer, _) = read_back(rig.body(key)).unwrap();
        rig.runtime
            .block_on(rig.store().get(&dead(&footer.unwrap())))
            .is_err()
    });
    if let Some(key) = alone {
        let whole = rig.body(key);
        let (mut footer, removed) = rig.forge(key, true);
        footer.file.offsets = OffsetSet::default().digest();
        let writer =
            FileWriter::new(dead_letters_schema(), DEAD_LETTERS_OFFSET_COLUMN, CODEC).unwrap();
        rig.put(&dead(&footer), writer.finish(&footer).unwrap());
        let document = rig.proven(&[]);
        assert_eq!(document["found"]["gap"], 1, "{document:#}");
        rig.disproved(&["--topic"], "missing", (removed, removed + 1));
        rig.remove(&dead(&footer));
        rig.put(key, whole);
    }

    // The plain ways, on MinIO.
    let document = rig.proven(&["--topic"]);
    assert!(document["requests"].as_u64().unwrap() > 0);
    rig.put("parquet_files/copy.parquet", whole.clone());
    rig.disproved(&[], "doubled", range_of(&whole));
    rig.remove("parquet_files/copy.parquet");
    rig.remove(&keys[0]);
    let (code, _) = rig.verify(&[]);
    assert_eq!(code, 3);
    rig.put(&keys[0], rig_body_without_a_row(&whole));
    let (code, _) = rig.verify(&[]);
    assert_eq!(code, 3);
    rig.put(&keys[0], whole);
    rig.proven(&[]);
}

fn range_of(body: &Bytes) -> (i64, i64) {
    let (footer, _) = read_back(body.clone()).unwrap();
    let batch = footer.unwrap().batch;
    (batch.start, batch.end)
}

fn rig_body_without_a_row(whole: &Bytes) -> Bytes {
    let (footer, offsets) = read_back(whole.clone()).unwrap();
    let first = offsets.iter().next().unwrap();
    let keep = offsets.minus(&OffsetSet::from_range(first, first + 1));
    only(whole.clone(), &keep, CODEC, &footer.unwrap()).unwrap()
}

/// A row less in the data file, and both footers say that it never was.
fn forge_both(
    rig: &Rig,
    key: &str,
    dead_key: &str,
    mut dead_footer: Footer,
    dead_body: &Bytes,
    dead_offsets: &OffsetSet,
) -> (bool, i64) {
    let body = rig.body(key);
    let (footer, offsets) = read_back(body.clone()).unwrap();
    let mut footer = footer.unwrap();
    let removed = offsets.iter().nth(3).unwrap();
    let keep = offsets.minus(&OffsetSet::from_range(removed, removed + 1));
    let all = keep.union(dead_offsets).digest();
    footer.file.offsets = keep.digest();
    footer.batch.offsets = all;
    dead_footer.batch.offsets = all;
    rig.put(key, only(body, &keep, CODEC, &footer).unwrap());
    // One lie alone contradicts the other object.
    let (code, _) = rig.verify(&[]);
    rig.put(
        dead_key,
        only(dead_body.clone(), dead_offsets, CODEC, &dead_footer).unwrap(),
    );
    (code == 3, removed)
}

#[test]
#[ignore = "needs real servers"]
fn on_a_compacted_topic_what_compaction_removed_is_no_contradiction() {
    let rig = Rig::new(
        "compacted",
        1,
        &[
            ("cleanup.policy", "compact"),
            ("segment.ms", "200"),
            ("min.cleanable.dirty.ratio", "0.01"),
            ("max.compaction.lag.ms", "200"),
        ],
    );
    let producer: BaseProducer = client().set("linger.ms", "2").create().unwrap();
    let fill = || {
        for number in 0..400 {
            send(
                &producer,
                &rig.topic,
                0,
                number % 49,
                Some(["a", "b", "c"][number % 3]),
            );
        }
        producer.flush(PATIENCE).unwrap();
    };
    let compacted = |from: usize| {
        until("the compaction", || {
            // A segment is closed by the record behind it.
            send(&producer, &rig.topic, 0, 0, Some("d"));
            producer.flush(PATIENCE).unwrap();
            (rig.read_committed() < from).then_some(())
        });
    };
    fill();
    // Removed before it landed: holes.
    compacted(300);
    rig.catch_up();
    let document = rig.proven(&["--topic"]);
    assert!(
        document["partitions"][0]["holes"].as_u64().unwrap() > 100,
        "{document:#}"
    );
    // Removed after it landed.
    fill();
    rig.catch_up();
    let rows = rig.proven(&["--topic"])["partitions"][0]["rows"]
        .as_u64()
        .unwrap();
    compacted(300);
    let document = rig.proven(&["--topic"]);
    assert_eq!(document["partitions"][0]["rows"], rows);
    assert!(
        document["partitions"][0]["compared"].as_u64().unwrap() < rows,
        "{document:#}"
    );
}
