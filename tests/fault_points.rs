//! Every fault at every step from poll to commit, before and after its effect: the service as a
//! process of its own is started again whenever it ends, until all has landed, and every record is
//! accounted for. `docs/fault-points.md` is the table that it goes through.
//!
//! A third of the cases, the same each time. `GROUNDTRACK_FAULT_POINTS=all` goes through all of
//! them, and any other value through those whose name holds it (`decode:after=panic`).
#![cfg(debug_assertions)]

mod embedded;

use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use groundtrack::config::{Config, Sources};
use groundtrack::demo::open_notify::Simulator;
use groundtrack::fault::{By, Step, Then};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rustix::process::{Pid, Signal, kill_process};

use embedded::raw_produce;
use embedded::{Bench, Record, Records, START_S, TOPIC, log, raw, record};

/// What a case takes at most: those with a gap or a long delay take ten seconds alone, and a dozen
/// of them share two cores.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often files are looked at.
const LOOK: Duration = Duration::from_millis(25);
/// Cases at a time: they mostly wait.
const AT_A_TIME: usize = 28;
/// A delay that nobody should mind.
const SHORT: &str = "delay-300";
/// A delay behind the heartbeat of [`Case::heartbeat`].
const LONG: &str = "delay-4000";
/// Records of a case: two batches that are full and one that is closed by its age.
const RECORDS: i64 = 50;
const MAX_ROWS: i64 = 20;

/// What happens around the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scene {
    /// A topic with records and no checkpoint.
    Fresh,
    /// The same where the group's committed offset is asked for.
    Committed,
    /// A checkpoint is there, and records behind it.
    Second,
    /// `--until-caught-up`.
    CatchUp,
    /// A source is polled.
    Polled,
    /// The last records are landed by the drain.
    Drained,
    /// A second member joins.
    Joined,
    /// The log ends with the commit of a transaction.
    Holes,
    /// A batch was begun by a writer that made other bytes.
    Replayed,
    /// Something else lies where an object is to be.
    Foreign,
    /// Records were lost to retention, and the operator has given his word.
    Gap,
    /// A batch cannot be read.
    Corrupt,
    /// A batch is damaged in a way that librdkafka does not tell of.
    Damaged,
    /// The group is of the new protocol, of which the embedded Kafka knows half.
    BrokerManaged,
}

fn scene(step: Step) -> Scene {
    match step {
        Step::Poll
        | Step::HandSample
        | Step::FindTopic
        | Step::Produce
        | Step::DeliveryReport
        | Step::Flush
        | Step::DeliverRest => Scene::Polled,
        Step::AskEnds => Scene::CatchUp,
        Step::AskSession => Scene::BrokerManaged,
        Step::AskStart => Scene::Committed,
        Step::CompareLast => Scene::Second,
        Step::GapSwap => Scene::Gap,
        Step::Leave | Step::HandClosed | Step::TellDrain | Step::HandDrain | Step::TellLeave => {
            Scene::Drained
        }
        Step::Revoke | Step::HandRelease => Scene::Joined,
        Step::HandHoles | Step::HolesSwap => Scene::Holes,
        Step::ReadBack => Scene::Replayed,
        Step::HandUpset | Step::StoppedSwap => Scene::Foreign,
        Step::HandUnreadable => Scene::Corrupt,
        Step::WatchStandstill => Scene::Damaged,
        Step::AwaitTopic
        | Step::WatchRetention
        | Step::Join
        | Step::PollEvents
        | Step::Assign
        | Step::HandEvent
        | Step::Seek
        | Step::Resume
        | Step::WakeLeaders
        | Step::Take
        | Step::AskPosition
        | Step::Pause
        | Step::HandBlock
        | Step::Commit
        | Step::HandClaim
        | Step::ReadCheckpoint
        | Step::ListObjects
        | Step::ReadSibling
        | Step::ClaimAskTopic
        | Step::ClaimAskLog
        | Step::ClaimSwap
        | Step::ReadGroups
        | Step::Probe
        | Step::LookAtSwap
        | Step::HandAnswer
        | Step::HandRecords
        | Step::Decode
        | Step::HandRows
        | Step::Absorb
        | Step::CloseBatch
        | Step::EncodeFile
        | Step::HandBatch
        | Step::HandBegin
        | Step::BeginAskTopic
        | Step::BeginSwap
        | Step::PrepareObject
        | Step::CreateData
        | Step::CreateLaterData
        | Step::CreateDeadLetters
        | Step::LookAtObject
        | Step::HandLanded
        | Step::LandedSwap
        | Step::LandedAndBeginSwap
        | Step::HandCommand => Scene::Fresh,
    }
}

/// Another fault without which a step is not passed.
fn prelude(step: Step) -> Option<&'static str> {
    match step {
        Step::LookAtSwap => Some("claim-swap:after=error"),
        Step::LookAtObject => Some("create-data:after=error"),
        Step::DeliverRest => Some("produce:before=panic@2"),
        _ => None,
    }
}

/// One fault at one side of a step.
#[derive(Debug, Clone, Copy)]
struct Case {
    step: Step,
    side: &'static str,
    kind: &'static str,
    /// Which pass: a drain is handed on three times.
    pass: usize,
}

impl Case {
    fn all() -> Vec<Self> {
        let mut cases = Vec::new();
        for &step in Step::ALL {
            let passes = if step == Step::HandDrain { 3 } else { 1 };
            for side in ["before", "after"] {
                let of_put = match side {
                    _ if !step.row().is_put => None,
                    "before" => Some("conflict"),
                    _ => Some("precondition"),
                };
                let kinds = ["panic", "error", SHORT, LONG, "abort"];
                for kind in kinds.into_iter().chain(of_put) {
                    cases.extend((1..=passes).map(|pass| Self {
                        step,
                        side,
                        kind,
                        pass,
                    }));
                }
            }
        }
        cases
    }

    fn name(&self) -> String {
        let Self {
            side, kind, pass, ..
        } = self;
        format!("{}:{side}={kind}@{pass}", self.step.row().name)
    }

    /// Whether what happens has to end the generation.
    fn ends_generation(&self) -> bool {
        let row = self.step.row();
        match self.kind {
            "panic" => row.by != By::Leaver,
            "error" => row.then == Then::Restart,
            LONG => row.is_watched,
            _ => false,
        }
    }

    /// Short only where a delay is to be found out: on a loaded machine a short one finds more.
    fn heartbeat(&self) -> &'static str {
        if self.kind == LONG { "1500ms" } else { "30s" }
    }
}

/// The service, as often as it is started, and what is around it.
struct Stage {
    case: Case,
    scene: Scene,
    bench: Bench,
    scratch: tempfile::TempDir,
    simulator: Option<Simulator>,
    /// What must land.
    expected: Records,
    child: Option<Child>,
    /// Ends that nobody asked for.
    failed_ends: Vec<ExitStatus>,
    starts: usize,
    deadline: Instant,
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Stage {
    fn new(case: Case) -> Self {
        let scene = scene(case.step);
        Self {
            case,
            scene,
            bench: Bench::new(1),
            scratch: tempfile::tempdir().unwrap(),
            simulator: (scene == Scene::Polled).then(|| Simulator::start(&log()).unwrap()),
            expected: Records::new(),
            child: None,
            failed_ends: Vec::new(),
            starts: 0,
            deadline: Instant::now() + PATIENCE,
        }
    }

    fn send(&mut self, records: &[Record]) {
        self.bench.send(0, records);
        let first = self.expected.keys().last().map_or(0, |(_, last)| last + 1);
        for (offset, record) in (first..).zip(records) {
            self.expected.insert((0, offset), record.clone());
        }
    }

    fn config(&self, changes: &str) -> PathBuf {
        let max_age = match self.scene {
            Scene::Drained => "1h",
            _ => "700ms",
        };
        let start = match self.scene {
            Scene::Committed => "committed",
            _ => "earliest",
        };
        let source = self.simulator.as_ref().map(|simulator| {
            let url = simulator.url();
            format!("[source]\nurl = \"{url}\"\ninterval = \"50ms\"\ntimeout = \"40ms\"\n")
        });
        let text = format!(
            r#"{source}
[kafka]
brokers = ["{brokers}"]
topic = "{TOPIC}"
group = "demo"
instance_id = ""
start = "{start}"
[kafka.options]
"session.timeout.ms" = 5001
"heartbeat.interval.ms" = 200
[files]
max_rows = {MAX_ROWS}
max_age = "{max_age}"
[store]
url = "file://{folder}"
[web]
listen = ""
[limits]
drain = "15s"
[supervision]
backoff = "50ms"
backoff_max = "200ms"
restarts = 1000
heartbeat = "{heartbeat}"
[status]
socket = "{scratch}/socket"
[log]
format = "json"
{changes}
"#,
            source = source.unwrap_or_default(),
            brokers = self.bench.broker.bootstrap_servers().unwrap(),
            folder = self.bench.dir.path().display(),
            heartbeat = self.case.heartbeat(),
            scratch = self.scratch.path().display(),
        );
        let path = self.scratch.path().join("groundtrack.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    fn loaded(&self, config: &Path) -> Config {
        let sources = Sources {
            path: Some(config.to_owned()),
            environment: Vec::new(),
            sets: Vec::new(),
        };
        Config::load(&sources).unwrap()
    }

    fn fired_path(&self) -> PathBuf {
        self.scratch.path().join("fired")
    }

    /// Whether the fault of the case has happened.
    fn has_fired(&self) -> bool {
        let text = std::fs::read_to_string(self.fired_path()).unwrap_or_default();
        let name = self.case.step.row().name;
        let mut fired = text.lines().filter(|line| {
            let (point, _) = line.split_once('=').unwrap_or_default();
            point.eq_ignore_ascii_case(&format!("{name}:{}", self.case.side))
        });
        fired.next().is_some()
    }

    fn spawn(&mut self, config: &Path, arguments: &[&str], plan: Option<&str>) -> Child {
        self.starts += 1;
        let log = self.scratch.path().join(format!("log-{:02}", self.starts));
        let log = std::fs::File::create(log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_groundtrack"));
        command
            .args(["run", "--config"])
            .arg(config)
            .args(arguments)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        if let Some(plan) = plan {
            command
                .env("GROUNDTRACK_FAULTS", plan)
                .env("GROUNDTRACK_FAULTS_FIRED", self.fired_path());
        }
        command.spawn().unwrap()
    }

    fn start(&mut self, config: &Path, arguments: &[&str], plan: Option<&str>) {
        self.child = Some(self.spawn(config, arguments, plan));
    }

    /// The lines of the log with this message, over all starts.
    fn said(&self, message: &str) -> Vec<serde_json::Value> {
        let mut found = Vec::new();
        for number in 1..=self.starts {
            let path = self.scratch.path().join(format!("log-{number:02}"));
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let lines = text.lines().filter(|line| line.contains(message));
            found.extend(lines.filter_map(|line| serde_json::from_str(line).ok()));
        }
        found.retain(|line: &serde_json::Value| line["msg"] == message);
        found
    }

    /// How often a generation of the group of this step ended that should have run.
    fn failures(&self) -> usize {
        let group = match self.case.step.row().by {
            By::Ingest(_) | By::Group("ingest") => "ingest",
            _ => "landing",
        };
        let words = [
            "group failed",
            "group failed again",
            "group keeps failing",
            "drain failed, the rest is left to the next generation",
        ];
        let lines = words.iter().flat_map(|words| self.said(words));
        // Without a fault of the publisher's nothing is left to be delivered.
        let is_prelude = |line: &serde_json::Value| {
            let error = line["error"].as_str().unwrap_or_default();
            self.case.step == Step::DeliverRest && error.contains("planned fault: produce")
        };
        let lines = lines.filter(|line| line["group"] == group && !is_prelude(line));
        lines.count()
    }

    fn check_time(&self, what: &str) {
        assert!(Instant::now() < self.deadline, "never: {what}");
    }

    /// Waits until it holds; whenever the service ends meanwhile it is started again, without the
    /// fault where that has happened.
    fn until(
        &mut self,
        what: &str,
        config: &Path,
        plan: Option<&str>,
        holds: impl Fn(&Self) -> bool,
    ) {
        while !holds(self) {
            self.check_time(what);
            let ended = self
                .child
                .as_mut()
                .and_then(|child| child.try_wait().unwrap());
            if let Some(status) = ended {
                assert!(
                    self.failed_ends.len() < 3,
                    "it ends again and again: {status}"
                );
                self.failed_ends.push(status);
                let plan = plan.filter(|_| !self.has_fired());
                self.start(config, &[], plan);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Asks it to end; whether it did so as it should.
    fn end(&mut self) -> bool {
        let mut child = self.child.take().unwrap();
        let ended = self.end_of(&mut child);
        // One that has just been started does not hear the signal yet.
        if !ended.success() && ended.signal() != Some(Signal::TERM.as_raw()) {
            self.failed_ends.push(ended);
        }
        ended.success()
    }

    fn end_of(&self, child: &mut Child) -> ExitStatus {
        let id = Pid::from_child(child);
        // One that has ended by itself is found by the wait.
        let _ = kill_process(id, Signal::TERM);
        loop {
            if let Some(ended) = child.try_wait().unwrap() {
                return ended;
            }
            if Instant::now() > self.deadline {
                let _ = child.kill();
                let _ = child.wait();
                panic!("it does not end");
            }
            std::thread::sleep(LOOK);
        }
    }

    fn end_offset(&self) -> i64 {
        self.expected.keys().last().map_or(0, |(_, last)| last + 1)
    }

    fn has_landed(&self) -> bool {
        let Some(checkpoint) = self.bench.checkpoint(0) else {
            return false;
        };
        let end = self.end_offset();
        match self.scene {
            // Until the drain two batches are all that is full.
            Scene::Drained if self.child.is_some() && self.starts == 1 => {
                checkpoint.next_offset >= end - end % MAX_ROWS
            }
            Scene::Holes => checkpoint.holes_to > end,
            _ => checkpoint.next_offset >= end && checkpoint.pending.is_none(),
        }
    }

    fn is_stopped(&self, why: &str) -> bool {
        let stopped = self.said("partition stopped");
        let why_of =
            |line: &serde_json::Value| line["error"].as_str().unwrap_or_default().to_owned();
        stopped.iter().any(|line| why_of(line).contains(why))
    }

    /// The whole case.
    fn play(&mut self) {
        let mut config = self.config("");
        let plan = self.case.name();
        let plan = match prelude(self.case.step) {
            Some(before) => format!("{before},{plan}"),
            None => plan,
        };
        let plan = Some(plan.as_str());
        let many: Vec<Record> = (0..RECORDS).map(sent).collect();
        self.prepare(&config, &many);
        match self.scene {
            Scene::CatchUp => {
                self.start(&config, &["--until-caught-up"], plan);
                let caught_up = |stage: &Self| stage.has_landed();
                self.until("it catches up", &config, plan, caught_up);
            }
            Scene::Replayed => {
                self.start(&config, &["--set", "files.compression=snappy"], plan);
                let stops = self.case.step.row().then == Then::Stop && self.case.kind == "error";
                self.until("all has landed", &config, plan, |stage| match stops {
                    true => stage.is_stopped("foreign"),
                    false => stage.has_landed(),
                });
            }
            Scene::Gap => {
                let skip = format!(
                    "[[skip]]\ntopic = \"{TOPIC}\"\npartition = 0\nfirst_offset = {RECORDS}\n"
                );
                config = self.config(&skip);
                self.start(&config, &[], plan);
                self.until("the gap is passed", &config, plan, Self::has_landed);
            }
            Scene::BrokerManaged => {
                config = self.config("").with_file_name("managed.toml");
                let text = std::fs::read_to_string(self.config("")).unwrap();
                let ours = "\"session.timeout.ms\" = 5001\n\"heartbeat.interval.ms\" = 200\n";
                let text = text.replace(ours, "\"group.protocol\" = \"consumer\"\n");
                std::fs::write(&config, text).unwrap();
                self.start(&config, &[], plan);
                self.until("the fault", &config, plan, Self::has_fired);
            }
            Scene::Foreign | Scene::Corrupt | Scene::Damaged => {
                let why = match self.scene {
                    Scene::Foreign => "foreign",
                    _ => "unreadable",
                };
                self.start(&config, &[], plan);
                let is_stopped = |stage: &Self| stage.has_fired() && stage.is_stopped(why);
                self.until("the partition stops", &config, plan, is_stopped);
            }
            _ => {
                self.start(&config, &[], plan);
                self.until("all has landed", &config, plan, Self::has_landed);
            }
        }
        self.let_it_fire(&config, plan, &many);
        let clean = self.end();
        assert!(self.has_fired(), "the step was not passed");
        self.check_reaction(clean);
        self.land_the_rest();
        self.audit(&config);
    }

    /// What is there before the service starts.
    fn prepare(&mut self, config: &Path, many: &[Record]) {
        match self.scene {
            Scene::Polled => {}
            Scene::Second => {
                self.send(&many[..30]);
                self.start(config, &[], None);
                self.until("the first records land", config, None, Self::has_landed);
                assert!(self.end());
                self.send(&many[30..]);
            }
            Scene::Replayed => {
                self.send(many);
                self.start(config, &[], Some("create-later-data:after=abort"));
                let mut child = self.child.take().unwrap();
                let ended = child.wait().unwrap();
                assert!(!ended.success());
            }
            Scene::Foreign => {
                self.send(&many[..30]);
                self.start(config, &[], None);
                self.until("the first records land", config, None, Self::has_landed);
                assert!(self.end());
                self.send(&many[30..]);
                std::fs::create_dir_all(self.foreign().parent().unwrap()).unwrap();
                std::fs::write(self.foreign(), "somebody else's").unwrap();
            }
            Scene::Gap => {
                self.send(many);
                self.start(config, &[], None);
                self.until("the first records land", config, None, Self::has_landed);
                assert!(self.end());
                self.lose_some();
            }
            Scene::Holes => {
                self.send(many);
                raw_produce::commit_marker(&self.servers(), TOPIC);
            }
            Scene::Corrupt => {
                self.send(many);
                raw_produce::corrupt(&self.servers(), TOPIC);
            }
            Scene::Damaged => {
                self.send(many);
                raw_produce::cut_off(&self.servers(), TOPIC);
            }
            _ => self.send(many),
        }
    }

    fn servers(&self) -> String {
        self.bench.broker.bootstrap_servers().unwrap()
    }

    /// Where the first object of the next batch is to be.
    fn foreign(&self) -> PathBuf {
        let (first, last) = (30, RECORDS - 1);
        let name = format!("parquet_files/date=2023-11-14/t-00000-{first:020}-{last:020}.parquet");
        self.bench.dir.path().join(name)
    }

    /// Sends more than the broker keeps of a partition, 5 MiB: the first of it is lost.
    fn lose_some(&mut self) {
        let first = self.end_offset();
        let large: Vec<Record> = (0..8)
            .map(|number| {
                let mut record = record(0, RECORDS + number);
                let mut value: serde_json::Value =
                    serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
                value["message"] = "x".repeat(900_000).into();
                record.value = Some(value.to_string().into_bytes());
                record
            })
            .collect();
        for record in &large {
            self.send(std::slice::from_ref(record));
        }
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.servers())
            .create()
            .unwrap();
        let (low, _) = consumer.fetch_watermarks(TOPIC, 0, PATIENCE).unwrap();
        assert!(low > first, "the broker keeps everything");
        self.expected
            .retain(|(_, offset), _| *offset < first || *offset >= low);
    }

    /// What comes after all has landed and has to be waited for.
    fn let_it_fire(&mut self, config: &Path, plan: Option<&str>, many: &[Record]) {
        match self.scene {
            Scene::Joined => {
                let mut other = self.spawn(config, &[], None);
                self.until("the fault", config, plan, Self::has_fired);
                self.send(&many[..MAX_ROWS as usize]);
                self.until("more lands", config, plan, Self::has_landed);
                assert!(self.end_of(&mut other).success());
            }
            Scene::Polled if self.case.step != Step::Flush => {
                self.until("the fault", config, plan, Self::has_fired);
                self.await_reaction(config, plan);
                let polled = self.end_of_topic();
                self.until("it polls on", config, plan, |stage| {
                    stage.end_of_topic() > polled + 3
                });
            }
            Scene::Polled
            | Scene::Drained
            | Scene::Foreign
            | Scene::Corrupt
            | Scene::Damaged
            | Scene::CatchUp => {}
            Scene::BrokerManaged => self.await_reaction(config, plan),
            Scene::Replayed if self.is_stopped("foreign") => {}
            _ => {
                self.until("the fault", config, plan, Self::has_fired);
                self.await_reaction(config, plan);
                self.until("all has landed", config, plan, Self::has_landed);
            }
        }
    }

    /// What a fault does to the service comes behind it.
    fn await_reaction(&mut self, config: &Path, plan: Option<&str>) {
        if self.case.kind == "abort" {
            let ended = |stage: &Self| !stage.failed_ends.is_empty();
            self.until("it ends", config, plan, ended);
        }
        if self.case.ends_generation() {
            let failed = |stage: &Self| stage.failures() > 0;
            self.until("the generation ends", config, plan, failed);
        }
    }

    fn end_of_topic(&self) -> i64 {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.servers())
            .create()
            .unwrap();
        consumer.fetch_watermarks(TOPIC, 0, PATIENCE).unwrap().1
    }

    /// Whether what happened is what the step's row says.
    fn check_reaction(&self, _clean: bool) {
        let row = self.case.step.row();
        let failures = self.failures();
        let ends = self.failed_ends.len();
        match (self.case.kind, row.then) {
            ("abort", _) => assert_eq!(ends, 1, "the process ends"),
            _ if self.case.ends_generation() => assert!(failures > 0, "the generation ends"),
            (SHORT, _) => assert_eq!((failures, ends), (0, 0), "a delay is no failure"),
            (LONG, _) => {}
            ("conflict" | "precondition", _) | (_, Then::Again | Then::GoOn | Then::Restart) => {
                assert_eq!((failures, ends), (0, 0), "nothing is started again");
            }
            (_, Then::Stop) => assert!(self.is_stopped(""), "the partition stops"),
            (_, Then::Left) => {
                let left = self.said("drain failed, the rest is left to the next generation");
                assert!(!left.is_empty(), "the drain fails");
            }
        }
    }

    /// What a drain that failed, or a partition that stopped, has left.
    fn land_the_rest(&mut self) {
        match self.scene {
            Scene::Foreign => std::fs::remove_file(self.foreign()).unwrap(),
            Scene::Polled => self.expected = self.bench.kept(),
            Scene::Corrupt | Scene::Damaged => return,
            _ => {}
        }
        if self.has_landed() {
            return;
        }
        self.simulator = None;
        let config = self.config("");
        self.start(&config, &["--set", "files.max_age=300ms"], None);
        self.until("the rest lands", &config, None, Self::has_landed);
        let ended = self.end();
        assert!(ended, "{:?}", self.failed_ends);
    }

    fn audit(&self, config: &Path) {
        let config = self.loaded(config);
        self.bench.audit_against(&config, &self.expected);
    }

    fn logs(&self) -> String {
        let mut text = String::new();
        for number in 1..=self.starts {
            let path = self.scratch.path().join(format!("log-{number:02}"));
            let lines = std::fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<&str> = lines.lines().collect();
            let _ = writeln!(text, "  start {number}:");
            for line in lines.iter().skip(lines.len().saturating_sub(30)) {
                let _ = writeln!(text, "  | {}", &line[..line.len().min(500)]);
            }
        }
        text
    }
}

/// Records of two days in turn, of which every tenth is no row.
fn sent(number: i64) -> Record {
    let day_ms = 24 * 3600 * 1000 * (number % 2);
    match number % 10 {
        7 => raw(b"no JSON", START_S * 1000 + day_ms + number),
        _ => {
            let record = record(0, number);
            let timestamp_ms = record.timestamp_ms + day_ms;
            Record {
                timestamp_ms,
                ..record
            }
        }
    }
}

fn chosen() -> Vec<Case> {
    let all = Case::all();
    match std::env::var("GROUNDTRACK_FAULT_POINTS") {
        Ok(what) if what == "all" => all,
        Ok(what) => {
            let named = |case: &Case| what.split(',').any(|what| case.name().contains(what));
            all.into_iter().filter(named).collect()
        }
        Err(_) => {
            let mut number = 0_usize..;
            let mut of_third = |case: &Case| {
                let number = number.next().unwrap();
                (number + case.step as usize).is_multiple_of(3)
            };
            all.into_iter().filter(|case| of_third(case)).collect()
        }
    }
}

#[test]
fn whatever_happens_at_any_step_every_record_lands_once() {
    let cases = chosen();
    assert!(!cases.is_empty(), "no case has this name");
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let since = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let since = Instant::now();
                    let mut stage = Stage::new(*case);
                    let played =
                        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stage.play()));
                    let seconds = since.elapsed().as_secs_f64();
                    println!("{} {seconds:.1} s", case.name());
                    if let Err(panic) = played {
                        let why = groundtrack::generation::panic_message(panic.as_ref());
                        let text = format!("{}: {why}\n{}", case.name(), stage.logs());
                        failed.lock().unwrap().push(text);
                    }
                }
            });
        }
    });
    let seconds = since.elapsed().as_secs();
    println!("{} cases in {seconds} s", cases.len());
    let failed = failed.into_inner().unwrap();
    assert!(
        failed.is_empty(),
        "{} cases:\n{}",
        failed.len(),
        failed.join("\n")
    );
}
