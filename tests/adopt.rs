//! `groundtrack adopt` from end to end: an embedded Kafka, a folder, and the folders that a Spark
//! job would leave; then landing goes on, and every record is in one object.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use groundtrack::adopt::{self, Place, Rebuilding, Report, Takeover};
use groundtrack::config::{Config, LogLevel, PartitionTime, Skip};
use groundtrack::demo;
use groundtrack::demo::broker::Broker;
use groundtrack::landing;
use groundtrack::landing::kafka_broker::KafkaBroker;
use groundtrack::landing::parquet_file::read_back;
use groundtrack::landing::protocol::checkpoint::Checkpoint;
use groundtrack::logging::LevelSwitch;
use groundtrack::status::Status;
use groundtrack::store;
use groundtrack::supervisor::reload::reloads;
use groundtrack::supervisor::{ExitReason, GONE_WITHIN, Group, GroupName, Plan, supervise};
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use slog::Drain;
use tokio_util::sync::CancellationToken;

/// No event takes so long unless it never comes.
const PATIENCE: Duration = Duration::from_secs(30);

const TOPIC: &str = "iss";
const JOB: &str = "d92bd669-dcbe-4432-a816-e1a97395575f";

/// To the test's captured output, shown where it fails.
fn log() -> slog::Logger {
    let to = slog_term::PlainSyncDecorator::new(slog_term::TestStdoutWriter);
    let drain = slog_term::FullFormat::new(to).build();
    let drain = slog::LevelFilter::new(drain, slog::Level::Info);
    slog::Logger::root(drain.fuse(), slog::o!())
}

/// An embedded Kafka, a folder of ours and the folders of a job.
struct Bench {
    dir: tempfile::TempDir,
    broker: Broker,
    partitions: i32,
}

impl Bench {
    /// Each partition holds so many records.
    fn new(records: &[i64]) -> Self {
        let broker = Broker::start(&log()).unwrap();
        let partitions = i32::try_from(records.len()).unwrap();
        broker.create_topic(TOPIC, partitions).unwrap();
        let bench = Self {
            dir: tempfile::tempdir().unwrap(),
            broker,
            partitions,
        };
        for (partition, records) in (0..).zip(records) {
            bench.send(partition, 0..*records);
        }
        bench
    }

    fn config(&self) -> Config {
        let servers = self.broker.bootstrap_servers().unwrap();
        let listen = ([127, 0, 0, 1], 0).into();
        let ours = self.dir.path().join("ours");
        let mut config = demo::configuration(&ours, &servers, "", TOPIC, listen);
        config.source = None;
        config.web = None;
        // Two folders, and so two objects of a batch beside its dead letters.
        config.files.partition_time = PartitionTime::Column("timestamp".to_owned());
        config.files.max_age = Duration::from_millis(300);
        // The mock holds a group that its last member has left for a session less a second.
        for (name, value) in [
            ("session.timeout.ms", "1200"),
            ("heartbeat.interval.ms", "200"),
        ] {
            let options = &mut config.kafka.options;
            options.insert(name.to_owned(), value.into());
        }
        config
    }

    /// Every tenth record is no JSON; every second one is of another day.
    fn send(&self, partition: i32, numbers: std::ops::Range<i64>) {
        let producer: BaseProducer = ClientConfig::new()
            .set(
                "bootstrap.servers",
                self.broker.bootstrap_servers().unwrap(),
            )
            .create()
            .unwrap();
        for number in numbers {
            let body = match number % 10 {
                9 => "no JSON".to_owned(),
                _ => serde_json::json!({
                    "timestamp": number % 2 * 86_400,
                    "message": "success",
                    "iss_position": {"latitude": "1.5", "longitude": "2.5"},
                })
                .to_string(),
            };
            let record = BaseRecord::<(), str>::to(TOPIC)
                .partition(partition)
                .payload(&body);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
    }

    fn job(&self) -> PathBuf {
        self.dir.path().join("job")
    }

    /// A file of the job's, below its folder.
    fn write(&self, key: &str, body: &str) {
        let path = self.job().join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, body).unwrap();
    }

    /// What a job leaves that has read to these offsets by partition, in batches 0, 1, .. of which
    /// so many are in the sink's log and so many have a commit.
    fn leave(&self, batches: &[&[i64]], landed: usize, ended: usize) {
        self.write("checkpoints/metadata", &format!(r#"{{"id":"{JOB}"}}"#));
        self.write(
            "checkpoints/sources/0/0",
            &format!("\0v1\n{}", positions(&[0, 0])),
        );
        for (number, offsets) in batches.iter().enumerate() {
            let settings = r#"{"batchWatermarkMs":0,"batchTimestampMs":1795433550006,"conf":{}}"#;
            self.write(
                &format!("checkpoints/offsets/{number}"),
                &format!("v1\n{settings}\n{}", positions(offsets)),
            );
            let name = format!("part-00000-{number}-c000.snappy.parquet");
            self.write(&format!("parquet_files/{name}"), "rows");
            if number < landed {
                let entry = format!(
                    r#"{{"path":"file://{}/parquet_files/{name}","size":4,"isDir":false,"modificationTime":1,"blockReplication":1,"blockSize":1,"action":"add"}}"#,
                    self.job().display()
                );
                self.write(
                    &format!("parquet_files/_spark_metadata/{number}"),
                    &format!("v1\n{entry}"),
                );
            }
            if number < ended {
                self.write(
                    &format!("checkpoints/commits/{number}"),
                    "v1\n{\"nextBatchWatermarkMs\":0}",
                );
            }
        }
    }

    fn take_over_with(
        &self,
        config: &Config,
        asked: impl FnOnce(&mut Takeover),
    ) -> Result<Report, adopt::Error> {
        let mut takeover = Takeover {
            checkpoint: Place::parse(self.job().join("checkpoints").to_str().unwrap()).unwrap(),
            sink: None,
            is_stopped: false,
            dry_run: false,
            quiet: Duration::ZERO,
        };
        asked(&mut takeover);
        let broker = KafkaBroker::new(&config.kafka, &log()).unwrap();
        let store = store::open(&config.store, None).unwrap();
        block_on(adopt::take_over(config, store, &broker, &takeover, &|_| {}))
    }

    fn take_over(&self) -> Result<Report, adopt::Error> {
        self.take_over_with(&self.config(), |_| {})
    }

    /// The one refusal.
    fn refusal(&self) -> String {
        let refused = match self.take_over() {
            Ok(report) => report.refusals,
            Err(adopt::Error::Refused(refusals)) => refusals,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(!self.config_folder().exists(), "nothing is written");
        refused[0].clone()
    }

    fn rebuild(&self, dry_run: bool) -> Result<Report, adopt::Error> {
        let config = self.config();
        let store = store::open(&config.store, None).unwrap();
        let asked = Rebuilding {
            dry_run,
            quiet: Duration::ZERO,
        };
        block_on(adopt::from_files(&config, store, &asked, &|_| {}))
    }

    fn config_folder(&self) -> PathBuf {
        self.dir.path().join("ours/checkpoints/demo").join(TOPIC)
    }

    fn checkpoint_path(&self, partition: i32) -> PathBuf {
        self.config_folder().join(format!("{partition}.json"))
    }

    fn checkpoint(&self, partition: i32) -> Option<Checkpoint> {
        let text = std::fs::read(self.checkpoint_path(partition)).ok()?;
        Some(serde_json::from_slice(&text).unwrap())
    }

    fn forget(&self, partition: i32) {
        std::fs::remove_file(self.checkpoint_path(partition)).unwrap();
    }

    /// Lands all that the topic holds.
    fn land(&self) -> ExitReason {
        let (status, shutdown) = (Status::new(), CancellationToken::new());
        let (_, signals) = tokio::sync::mpsc::channel(1);
        let config = self.config();
        let again = config.clone();
        supervise(Plan {
            groups: vec![Group::new(GroupName::Landing, landing::run)],
            config,
            load: Box::new(move || Ok(again.clone())),
            status,
            log: log(),
            level: LevelSwitch::new(LogLevel::Info),
            notifier: groundtrack::notify::Notifier::silent(),
            signals,
            reloads: reloads().1,
            shutdown,
            until_caught_up: true,
            gone_within: GONE_WITHIN,
        })
    }

    /// Every object of ours, with its content.
    fn objects(&self) -> BTreeMap<String, Bytes> {
        let mut objects = BTreeMap::new();
        for folder in ["parquet_files", "dead_letters"] {
            walk(&self.dir.path().join("ours").join(folder), &mut objects);
        }
        objects
    }

    /// Each offset from these on is in one object, once, and the checkpoints are at the end.
    fn audit(&self, from: &[i64], to: &[i64]) {
        let mut found: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
        for (key, body) in self.objects() {
            let (footer, offsets) = read_back(body).unwrap();
            let partition = footer.unwrap_or_else(|| panic!("{key}")).identity.partition;
            found.entry(partition).or_default().extend(offsets.iter());
        }
        for partition in 0..self.partitions {
            let index = usize::try_from(partition).unwrap();
            let mut offsets = found.remove(&partition).unwrap_or_default();
            offsets.sort_unstable();
            let expected: Vec<i64> = (from[index]..to[index]).collect();
            assert_eq!(offsets, expected, "partition {partition}");
            let checkpoint = self.checkpoint(partition).unwrap();
            assert_eq!(checkpoint.first_offset, from[index]);
            assert_eq!(checkpoint.next_offset, to[index]);
            assert_eq!((checkpoint.pending, checkpoint.stopped), (None, None));
        }
    }
}

fn positions(offsets: &[i64]) -> String {
    let of = offsets.iter().enumerate();
    let of: BTreeMap<String, i64> = of.map(|(at, offset)| (at.to_string(), *offset)).collect();
    serde_json::json!({ TOPIC: of }).to_string()
}

fn walk(folder: &Path, objects: &mut BTreeMap<String, Bytes>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => walk(&path, objects),
            false => {
                let body = std::fs::read(&path).unwrap();
                objects.insert(path.to_str().unwrap().to_owned(), Bytes::from(body));
            }
        }
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(work)
}

fn adopted(report: Result<Report, adopt::Error>) -> String {
    let report = report.unwrap();
    assert_eq!(report.refusals, [""; 0]);
    report.to_string()
}

#[test]
fn a_job_is_taken_over_where_its_sinks_log_ends() {
    let bench = Bench::new(&[50, 40, 30]);
    // The second batch is in the sink's log without its commit, the third was planned and written.
    bench.leave(&[&[5, 5], &[20, 10], &[30, 30]], 2, 1);
    let dry = adopted(bench.take_over_with(&bench.config(), |asked| asked.dry_run = true));
    assert!(!bench.dir.path().join("ours").exists());
    let table = adopted(bench.take_over());
    for (table, words) in [(&dry, "to be made"), (&table, "made")] {
        for line in [
            ["0", "20", "0", "50", "30", words],
            ["1", "10", "0", "40", "30", words],
            ["2", "-", "0", "30", "30", "none:"],
        ] {
            let line = line.join(" ");
            let lines = table
                .lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
            assert!(
                lines.clone().any(|found| found.starts_with(&line)),
                "{line}\n{table}"
            );
        }
        assert!(
            table.contains("part-00000-2-c000.snappy.parquet"),
            "{table}"
        );
        assert!(!table.contains("part-00000-1-c000"), "{table}");
    }
    let checkpoint = bench.checkpoint(1).unwrap();
    assert_eq!((checkpoint.first_offset, checkpoint.next_offset), (10, 10));
    assert_eq!((checkpoint.partitions, checkpoint.epoch), (2, 0));
    // Until the service has taken them up a takeover may be run again.
    assert!(adopted(bench.take_over()).contains("no checkpoint is missing"));

    assert_eq!(bench.land(), ExitReason::CaughtUp);
    // The partition that the job did not know is landed from its start.
    bench.audit(&[20, 10, 0], &[50, 40, 30]);
    bench.send(0, 50..60);
    assert_eq!(bench.land(), ExitReason::CaughtUp);
    bench.audit(&[20, 10, 0], &[60, 40, 30]);
    let refused = bench.take_over().unwrap().refusals;
    assert!(
        refused[0].contains("every partition already"),
        "{refused:?}"
    );
    assert!(
        bench
            .job()
            .join("parquet_files/part-00000-2-c000.snappy.parquet")
            .exists()
    );
}

#[test]
fn a_job_that_landed_nothing_is_taken_over_where_it_began() {
    let bench = Bench::new(&[5, 5]);
    bench.leave(&[&[4, 4]], 0, 0);
    let config = bench.config();
    let report = bench.take_over_with(&config, |asked| {
        let sink = bench.job().join("parquet_files");
        asked.sink = Some(Place::parse(sink.to_str().unwrap()).unwrap());
    });
    let table = adopted(report);
    assert!(table.contains("part-00000-0-c000"), "{table}");
    assert_eq!(bench.land(), ExitReason::CaughtUp);
    bench.audit(&[0, 0], &[5, 5]);
}

#[test]
fn a_takeover_that_was_interrupted_stops_the_rest_and_is_completed() {
    let bench = Bench::new(&[50, 40]);
    bench.leave(&[&[20, 10]], 1, 1);
    adopted(bench.take_over());
    // As if it had been killed before the second.
    bench.forget(1);
    let ExitReason::OnlyStoppedLeft(which) = bench.land() else {
        panic!("a partition of the job started by itself");
    };
    assert!(which.contains('1'), "{which}");
    assert!(bench.checkpoint(1).is_none());
    assert_eq!(bench.checkpoint(0).unwrap().next_offset, 50);
    let table = adopted(bench.take_over());
    assert!(table.contains("1 checkpoints were made"), "{table}");
    assert_eq!(bench.land(), ExitReason::CaughtUp);
    bench.audit(&[20, 10], &[50, 40]);
}

#[test]
fn what_is_no_job_that_can_be_taken_over_is_refused() {
    let bench = Bench::new(&[50, 40]);
    assert!(bench.refusal().contains("_spark_metadata"));
    bench.leave(&[&[20, 10], &[30, 30]], 2, 1);
    std::fs::remove_file(bench.job().join("checkpoints/metadata")).unwrap();
    assert!(bench.refusal().contains("no file `metadata`"));

    bench.leave(&[&[20, 10], &[30, 30]], 2, 1);
    bench.write("checkpoints/commits/2", "v1\n{}");
    assert!(bench.refusal().contains("has ended batch 2"));
    std::fs::remove_file(bench.job().join("checkpoints/commits/2")).unwrap();

    bench.write("checkpoints/offsets/1", "v2\n{}\n{}");
    assert!(bench.refusal().contains("v2"));
    bench.write("checkpoints/offsets/1", "v1\n{}\n{\"other\":{\"0\":5}}");
    assert!(bench.refusal().contains("other"));
    bench.leave(&[&[20, 10], &[30, 30]], 2, 1);
    bench.write("parquet_files/_spark_metadata/1", "v1\n{\"path\":");
    assert!(bench.refusal().contains("_spark_metadata/1"));

    bench.leave(&[&[20, 10], &[51, 30]], 2, 1);
    assert!(bench.refusal().contains("kafka's log ends at 50"));
    bench.leave(&[&[20, 10, 5], &[30, 30, 5]], 2, 1);
    assert!(bench.refusal().contains("has 2 partitions"));
    bench.leave(&[&[20, 10], &[30, 30]], 2, 1);
    assert_eq!(bench.take_over().unwrap().refusals, [""; 0]);
}

#[test]
fn a_sink_that_cannot_be_told_is_asked_for() {
    let bench = Bench::new(&[50, 40]);
    bench.leave(&[&[20, 10]], 1, 1);
    bench.write("_spark_metadata/0", "v1");
    assert!(bench.refusal().contains("--sink"));
    let config = bench.config();
    let named = |name: &str| {
        let sink = bench.job().join(name);
        Some(Place::parse(sink.to_str().unwrap()).unwrap())
    };
    let report = bench.take_over_with(&config, |asked| asked.sink = named("nowhere"));
    let error = report.unwrap_err().to_string();
    assert!(error.contains("is empty"), "{error}");
    adopted(bench.take_over_with(&config, |asked| asked.sink = named("parquet_files")));
}

#[test]
fn a_folder_of_the_jobs_is_not_landed_in() {
    let bench = Bench::new(&[50, 40]);
    bench.leave(&[&[20, 10]], 1, 1);
    let mut config = bench.config();
    config.store.location = groundtrack::config::StoreLocation::File(bench.job());
    // The default of store.data is the folder that the job wrote to.
    let refused = bench.take_over_with(&config, |_| {}).unwrap().refusals;
    assert!(
        refused[0].contains("store.data = \"parquet_files\""),
        "{refused:?}"
    );
    config.store.data = "landed".to_owned();
    adopted(bench.take_over_with(&config, |_| {}));
}

#[test]
fn a_job_that_writes_while_we_look_is_refused() {
    let bench = Bench::new(&[50, 40]);
    bench.leave(&[&[20, 10], &[30, 30]], 1, 1);
    let config = bench.config();
    let broker = KafkaBroker::new(&config.kafka, &log()).unwrap();
    let store = store::open(&config.store, None).unwrap();
    let asked = Takeover {
        checkpoint: Place::parse(bench.job().join("checkpoints").to_str().unwrap()).unwrap(),
        sink: None,
        is_stopped: false,
        dry_run: false,
        quiet: Duration::from_secs(3),
    };
    // It is told before it waits: then the second batch lands.
    let lands = |_: &str| {
        bench.write("parquet_files/_spark_metadata/1", "v1");
    };
    let report = block_on(adopt::take_over(&config, store, &broker, &asked, &lands)).unwrap();
    assert!(
        report.refusals[0].contains("still writes (_spark_metadata/1"),
        "{report:?}"
    );
    assert!(!bench.config_folder().exists());
}

#[test]
fn a_group_with_checkpoints_of_its_own_is_refused() {
    let bench = Bench::new(&[50, 40]);
    assert_eq!(bench.land(), ExitReason::CaughtUp);
    bench.leave(&[&[20, 10]], 1, 1);
    let refused = bench.take_over().unwrap().refusals;
    assert!(refused[0].contains("exists already"), "{refused:?}");
    bench.audit(&[0, 0], &[50, 40]);
    // Nor over objects whose checkpoints were lost.
    let before = bench.objects();
    bench.forget(0);
    bench.forget(1);
    let refused = bench.take_over().unwrap().refusals;
    assert!(refused[0].contains("--from-files"), "{refused:?}");
    assert!(bench.checkpoint(0).is_none());
    assert_eq!(bench.objects(), before);
}

#[test]
fn a_word_for_what_kafka_lost_is_the_configurations() {
    // The mock forgets nothing in time; the words themselves are tested beside the decision.
    let bench = Bench::new(&[50, 40]);
    bench.leave(&[&[20, 10]], 1, 1);
    let mut config = bench.config();
    config.skip = vec![Skip {
        topic: TOPIC.to_owned(),
        partition: 0,
        first_offset: 20,
    }];
    adopted(bench.take_over_with(&config, |_| {}));
    assert_eq!(bench.land(), ExitReason::CaughtUp);
    bench.audit(&[20, 10], &[50, 40]);
}

// From files.

#[test]
fn lost_checkpoints_are_rebuilt_as_they_were() {
    let bench = Bench::new(&[50, 40]);
    assert_eq!(bench.land(), ExitReason::CaughtUp);
    bench.send(0, 50..75);
    assert_eq!(bench.land(), ExitReason::CaughtUp);
    let before = [0, 1].map(|partition| bench.checkpoint(partition).unwrap());
    bench.forget(0);
    bench.forget(1);
    let dry = adopted(bench.rebuild(true));
    assert!(
        dry.contains("to be made") && bench.checkpoint(0).is_none(),
        "{dry}"
    );
    adopted(bench.rebuild(false));
    for (partition, before) in (0..).zip(before) {
        let made = bench.checkpoint(partition).unwrap();
        let expected = Checkpoint {
            // What the files do not tell.
            revision: made.revision,
            epoch: 0,
            writer: made.writer.clone(),
            time: made.time.clone(),
            last: None,
            started_ms: 0,
            ..before
        };
        assert_eq!(made, expected);
    }
    bench.send(1, 40..55);
    assert_eq!(bench.land(), ExitReason::CaughtUp);
    bench.audit(&[0, 0], &[75, 55]);
}

#[test]
fn a_checkpoint_that_is_left_is_left_alone_and_tells_of_the_beginning() {
    let bench = Bench::new(&[50, 40]);
    assert_eq!(bench.land(), ExitReason::CaughtUp);
    let left = std::fs::read(bench.checkpoint_path(0)).unwrap();
    bench.forget(1);
    let table = adopted(bench.rebuild(false));
    assert!(table.contains("left alone"), "{table}");
    assert_eq!(std::fs::read(bench.checkpoint_path(0)).unwrap(), left);
    let started_ms = bench.checkpoint(0).unwrap().started_ms;
    assert_eq!(bench.checkpoint(1).unwrap().started_ms, started_ms);
    let table = adopted(bench.rebuild(false));
    assert!(table.contains("no checkpoint is missing"), "{table}");
}

/// Checkpoints lost in the midst of a batch: with each number of the last batch's objects, in the
/// order of their creation, what is rebuilt goes on to every record once.
#[test]
fn a_batch_that_was_cut_off_anywhere_is_finished() {
    for kept in 0..=3 {
        let bench = Bench::new(&[30]);
        assert_eq!(bench.land(), ExitReason::CaughtUp);
        bench.send(0, 30..60);
        assert_eq!(bench.land(), ExitReason::CaughtUp);
        let checkpoint = bench.checkpoint(0).unwrap();
        let last = bench.objects().into_iter().find_map(|(_, body)| {
            let footer = read_back(body).unwrap().0.unwrap();
            (footer.batch.end == checkpoint.next_offset).then_some(footer.batch)
        });
        let last = last.unwrap();
        assert_eq!(last.keys.len(), 3, "two days and the dead letters");
        for key in &last.keys[kept..] {
            std::fs::remove_file(bench.dir.path().join("ours").join(key)).unwrap();
        }
        bench.forget(0);
        adopted(bench.rebuild(false));
        let made = bench.checkpoint(0).unwrap();
        let expected = match kept {
            0 | 3 => None,
            _ => Some((last.end, last.keys.clone(), last.layout.clone())),
        };
        let pending = made
            .pending
            .map(|pending| (pending.end, pending.keys, pending.layout));
        assert_eq!(pending, expected, "{kept} objects");
        let next = if kept == 3 { last.end } else { last.start };
        assert_eq!(made.next_offset, next, "{kept} objects");
        bench.send(0, 60..70);
        assert_eq!(bench.land(), ExitReason::CaughtUp);
        bench.audit(&[0], &[70]);
    }
}

#[test]
fn what_speaks_against_the_files_is_named_and_nothing_is_made() {
    let bench = Bench::new(&[30, 30]);
    let why = bench.rebuild(false).unwrap().refusals;
    assert!(why[0].contains("no file of topic iss"), "{why:?}");
    for to in [40, 50] {
        assert_eq!(bench.land(), ExitReason::CaughtUp);
        bench.send(0, to - 10..to);
    }
    assert_eq!(bench.land(), ExitReason::CaughtUp);
    bench.forget(0);
    bench.forget(1);
    // The second batch of the first partition, whole.
    for key in bench
        .objects()
        .keys()
        .filter(|key| key.contains("iss-00000-00000000000000000030-00000000000000000039"))
    {
        std::fs::remove_file(key).unwrap();
    }
    let report = bench.rebuild(false).unwrap();
    assert_eq!(report.refusals.len(), 1, "{report}");
    assert!(
        report.refusals[0].contains("offsets [30, 40) are in no file"),
        "{report:?}"
    );
    assert!(bench.checkpoint(0).is_none() && bench.checkpoint(1).is_none());
}
