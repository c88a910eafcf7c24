//! Landing from end to end in one process: the real supervisor and the real actors between an
//! embedded Kafka and a folder, then an audit of every object by Arrow's own Parquet reader.

mod embedded;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use groundtrack::config::{Config, LogLevel, PartitionUnit, Source, Web};
use groundtrack::demo;
use groundtrack::demo::open_notify::Simulator;
use groundtrack::logging::LevelSwitch;
use groundtrack::status::{PartitionState, Status};
use groundtrack::supervisor::reload::reloads;
use groundtrack::supervisor::{ExitReason, GONE_WITHIN, Group, GroupName, Plan, supervise};
use groundtrack::{fault, ingest, landing, web};
use tokio_util::sync::CancellationToken;

use embedded::{Bench, Record, Row, START_S, TOPIC, log, raw, record, records, send, until};

/// Planned faults are the process's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    fault::clear();
    guard
}

impl Bench {
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
            options.insert(name.to_owned(), value.into());
        }
        config.supervision.backoff = Duration::from_millis(50);
        config.supervision.backoff_max = Duration::from_millis(200);
        config
    }

    fn start(&self, config: Config) -> Service {
        Service::start(config, false)
    }

    fn land_all(&self, config: Config) -> ExitReason {
        Service::start(config, true).ended()
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
            notifier: groundtrack::notify::Notifier::silent(),
            signals,
            reloads: reloads().1,
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

/// A step of each actor's own, during which its heartbeat is watched.
const STEPS: [(&str, &str, &str); 7] = [
    ("hand-sample", "poller", "ingest"),
    ("produce", "publisher", "ingest"),
    ("hand-records", "subscriber", "landing"),
    ("decode", "flattener", "landing"),
    ("absorb", "accumulator", "landing"),
    ("prepare-object", "uploader", "landing"),
    ("hand-command", "checkpoint", "landing"),
];

/// Lets one actor fail once in the midst of its work while records keep coming, and audits what
/// has landed after a drain.
fn fail_once(step: &str, actor: &str, group: &'static str, kind: &str) {
    println!("{step} {kind}");
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

    fault::plan(&format!("{step}:before={kind}@2"));
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
    for (step, actor, group) in STEPS {
        fail_once(step, actor, group, "panic");
    }
}

#[test]
fn an_actor_that_hangs_is_found_by_its_heartbeat_and_nothing_is_lost_or_doubled() {
    let _alone = alone();
    for (step, actor, group) in STEPS {
        fail_once(step, actor, group, "hang");
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
