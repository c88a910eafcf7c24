//! `groundtrack verify` with a real Kafka and MinIO: beside the service while it lands, and what
//! only the topic can tell.
//!
//! `tests/servers/servers.py run --only kafka,minio -- cargo test --test verify_kafka -- --ignored`

mod common;

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
use rdkafka::producer::Producer;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use common::{PATIENCE, Source, until};

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

    /// What an object says of itself, and its offsets.
    fn read(&self, key: &str) -> (Footer, OffsetSet) {
        let (footer, offsets) = read_back(self.body(key)).unwrap();
        (footer.unwrap(), offsets)
    }

    /// Writes an object again with only these rows, and a footer that was changed.
    fn rewrite(&self, key: &str, keep: &OffsetSet, change: impl FnOnce(&mut Footer)) {
        let (mut footer, _) = self.read(key);
        change(&mut footer);
        self.put(key, only(self.body(key), keep, CODEC, &footer).unwrap());
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
    let source = Source::new(&rig.topic, client().set("linger.ms", "2"));
    let service = rig.command(&["run"]).stderr(Stdio::null()).spawn().unwrap();
    let mut service = Service(service);
    let mut number = 0;
    let mut proven = 0;
    let mut in_flight = 0;
    let mut last = 0;
    until("files that land while it looks", || {
        source.fill(3, 700);
        number += 2100;
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
    rig.catch_up();
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
    let source = Source::new(&rig.topic, client().set("transactional.id", &rig.topic));
    source.producer.init_transactions(PATIENCE).unwrap();
    for commit in [true, false, true, true, false] {
        source.transaction(2, 250, commit);
    }
    rig.catch_up();
    // A batch of partition 0 without dead letters.
    source.transaction(1, 40, true);
    rig.catch_up();
    for arguments in [&[][..], &["--topic"]] {
        let document = rig.proven(arguments);
        let sum = |field: &str| -> u64 {
            let partitions = document["partitions"].as_array().unwrap();
            let counts = partitions.iter().map(|partition| partition[field].as_u64());
            counts.map(Option::unwrap).sum()
        };
        assert_eq!(sum("rows") + sum("dead_letters"), 1540, "{document:#}");
        assert!(sum("holes") >= 500, "{document:#}");
        let compared = if arguments.is_empty() { 0 } else { 1540 };
        assert_eq!(sum("compared"), compared, "{document:#}");
    }
    let keys = rig.keys();
    let alone = keys.iter().rfind(|key| key.contains("-00000-")).unwrap();
    footers_of_one_object_are_forged(&rig, alone);
    let beside = keys.iter().find(|key| key.contains("-00001-")).unwrap();
    footers_of_two_objects_are_forged(&rig, beside);
    objects_are_tampered_with(&rig, alone);
}

/// A batch of one data file: its footer can say whatever somebody likes, and only Kafka knows.
fn footers_of_one_object_are_forged(rig: &Rig, key: &str) {
    let whole = rig.body(key);
    let (footer, offsets) = rig.read(key);
    let removed = offsets.iter().nth(3).unwrap();
    let keep = offsets.minus(&OffsetSet::from_range(removed, removed + 1));
    rig.rewrite(key, &keep, |footer| {
        footer.file.offsets = keep.digest();
        footer.batch.offsets = keep.digest();
    });
    rig.proven(&[]);
    rig.disproved(&["--topic"], "missing", (removed, removed + 1));

    // A gap that is claimed over the record, with the object that has to record it.
    let gap = Some([removed, removed + 1]);
    rig.rewrite(key, &keep, |footer| footer.file.gap = gap);
    let (mut claim, _) = rig.read(key);
    claim.file.offsets = OffsetSet::default().digest();
    let schema = dead_letters_schema();
    let writer = FileWriter::new(schema, DEAD_LETTERS_OFFSET_COLUMN, CODEC).unwrap();
    let dead_letters = footer.batch.keys.last().unwrap();
    rig.put(dead_letters, writer.finish(&claim).unwrap());
    assert_eq!(rig.proven(&[])["found"]["gap"], 1);
    rig.disproved(&["--topic"], "missing", (removed, removed + 1));
    rig.remove(dead_letters);
    rig.put(key, whole);
    rig.proven(&["--topic"]);
}

/// Data and dead letters: one lie contradicts the other object, two of them only Kafka.
fn footers_of_two_objects_are_forged(rig: &Rig, key: &str) {
    let (footer, offsets) = rig.read(key);
    let dead_key = footer.batch.keys.last().unwrap().clone();
    let (whole, whole_dead) = (rig.body(key), rig.body(&dead_key));
    let (_, dead_letters) = rig.read(&dead_key);
    let removed = offsets.iter().nth(3).unwrap();
    let keep = offsets.minus(&OffsetSet::from_range(removed, removed + 1));
    let all = keep.union(&dead_letters).digest();
    rig.rewrite(key, &keep, |footer| {
        footer.file.offsets = keep.digest();
        footer.batch.offsets = all;
    });
    assert_eq!(rig.verify(&[]).0, 3);
    rig.rewrite(&dead_key, &dead_letters, |footer| {
        footer.batch.offsets = all
    });
    rig.proven(&[]);
    rig.disproved(&["--topic"], "missing", (removed, removed + 1));
    rig.put(&dead_key, whole_dead.clone());
    rig.put(key, whole);
    rig.remove(&dead_key);
    let range = (footer.batch.start, footer.batch.end);
    let (code, document) = rig.verify(&[]);
    assert_eq!(code, 3, "{document:#}");
    let missing = &document["findings"][0];
    assert_eq!(missing["kind"], "missing");
    let from = missing["from"].as_i64().unwrap();
    assert!((range.0..range.1).contains(&from), "{document:#}");
    rig.put(&dead_key, whole_dead);
    rig.proven(&["--topic"]);
}

fn objects_are_tampered_with(rig: &Rig, key: &str) {
    let whole = rig.body(key);
    let (footer, offsets) = rig.read(key);
    let range = (footer.batch.start, footer.batch.end);
    rig.put("parquet_files/copy.parquet", whole.clone());
    rig.disproved(&[], "doubled", range);
    rig.remove("parquet_files/copy.parquet");
    rig.remove(key);
    rig.disproved(&[], "missing", range);
    rig.put(key, whole.clone());
    let first = offsets.iter().next().unwrap();
    let keep = offsets.minus(&OffsetSet::from_range(first, first + 1));
    rig.rewrite(key, &keep, |_| {});
    rig.disproved(&[], "missing", range);
    rig.put(key, whole);
    rig.proven(&["--topic"]);
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
    let source = Source::new(&rig.topic, client().set("linger.ms", "2"));
    let compacted = |from: usize| {
        until("the compaction", || {
            // A segment is closed by the record behind it.
            source.fill_keyed(1, 1);
            (rig.read_committed() < from).then_some(())
        });
    };
    source.fill_keyed(400, 3);
    // Removed before it landed: holes.
    compacted(300);
    rig.catch_up();
    let document = rig.proven(&["--topic"]);
    assert!(
        document["partitions"][0]["holes"].as_u64().unwrap() > 100,
        "{document:#}"
    );
    // Removed after it landed.
    source.fill_keyed(400, 3);
    rig.catch_up();
    let landed = |document: &Value| -> u64 {
        let partition = &document["partitions"][0];
        partition["rows"].as_u64().unwrap() + partition["dead_letters"].as_u64().unwrap()
    };
    let rows = landed(&rig.proven(&["--topic"]));
    compacted(300);
    let document = rig.proven(&["--topic"]);
    assert_eq!(landed(&document), rows);
    assert!(
        document["partitions"][0]["compared"].as_u64().unwrap() < rows,
        "{document:#}"
    );
}
