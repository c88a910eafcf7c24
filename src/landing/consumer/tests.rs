//! The consumer's thread against a broker: librdkafka's mock cluster, and a real Kafka for what
//! the mock does not have (transactions, retention, KIP-848). The other end, the stages and the
//! checkpoint actor, is played by [`Member`], which counts every record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};
use slog::Logger;
use tokio::sync::mpsc;

use crate::budget::Budget;
use crate::landing::claims::Claims;
use crate::landing::consumer::{Event, ThreadParts};
use crate::landing::layout::Layout;
use crate::landing::subscriber::{BLOCKS_MAX, start_thread};
use crate::logging::Repeated;
use crate::messages::{BlockEnd, ClaimAnswer, ClaimId, Command, Commands, RecordBlock};
use crate::status::Status;

/// Whatever a test waits for comes within this, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(90);
const TOPIC: &str = "iss";

/// What the checkpoints of a topic would say: shared by the members of a group.
#[derive(Debug, Default)]
struct Ledger {
    epoch: AtomicU64,
    partitions: Mutex<BTreeMap<i32, Landed>>,
}

#[derive(Debug, Default, Clone)]
struct Landed {
    /// The newest claim's epoch: blocks of any other are fenced.
    epoch: u64,
    next: i64,
    /// A range to be read again before anything else.
    replay: Option<(i64, i64)>,
    offsets: Vec<i64>,
    values: Vec<String>,
    closes: u32,
}

impl Ledger {
    fn claim(&self, partition: i32) -> (ClaimId, ClaimAnswer) {
        let epoch = self.epoch.fetch_add(1, Ordering::Relaxed) + 1;
        let claim = ClaimId { partition, epoch };
        let mut partitions = self.partitions.lock().unwrap();
        let landed = partitions.entry(partition).or_default();
        landed.epoch = epoch;
        let answer = match landed.replay {
            None => ClaimAnswer::Land {
                claim,
                from: landed.next,
            },
            Some((from, end)) => ClaimAnswer::Replay {
                claim,
                from,
                end,
                layout: Layout::of(&crate::testing::config()),
                forced: Arc::default(),
            },
        };
        (claim, answer)
    }

    /// Takes a block as landed, unless it is fenced. Whether it closed a replay.
    fn land(&self, block: &RecordBlock) -> bool {
        let mut partitions = self.partitions.lock().unwrap();
        let landed = partitions.entry(block.claim.partition).or_default();
        if landed.epoch != block.claim.epoch {
            return false;
        }
        assert_eq!(block.start, landed.next, "blocks tile");
        for record in &block.records.spans {
            assert!(record.offset >= landed.next, "offsets rise");
            landed.next = record.offset + 1;
            landed.offsets.push(record.offset);
            let value = record.value.map(|span| block.records.bytes(span));
            let value = String::from_utf8_lossy(value.unwrap_or_default());
            landed.values.push(value.into_owned());
        }
        assert!(block.position >= landed.next);
        landed.next = block.position;
        landed.closes += u32::from(block.end == BlockEnd::Close);
        block.end == BlockEnd::Close && landed.replay.take().is_some()
    }

    fn of(&self, partition: i32) -> Landed {
        let partitions = self.partitions.lock().unwrap();
        partitions.get(&partition).cloned().unwrap_or_default()
    }

    fn count(&self) -> usize {
        let partitions = self.partitions.lock().unwrap();
        partitions.values().map(|landed| landed.offsets.len()).sum()
    }
}

/// A member of the group: the thread, and who takes what it reads.
struct Member {
    commands: Commands,
    blocks: mpsc::Receiver<RecordBlock>,
    events: mpsc::UnboundedReceiver<Event>,
    thread: std::thread::JoinHandle<()>,
    claims: Claims,
    status: Arc<Status>,
    budget: Budget,
    ledger: Arc<Ledger>,
    /// Partitions that it has claimed, and how often.
    claimed: BTreeMap<i32, u32>,
    /// Claims are kept unanswered while set.
    holds_claims: bool,
    held_claims: Vec<i32>,
    /// What is closed is kept from landing while set.
    holds_batches: bool,
    /// How often a partition was claimed, in all.
    assignments: u32,
    stream_ended: bool,
    fenced: Option<String>,
}

impl Member {
    fn join(
        brokers: &str,
        topic: &str,
        group: &str,
        ledger: &Arc<Ledger>,
        options: &[(&str, &str)],
    ) -> Self {
        let log = Logger::root(slog::Discard, slog::o!());
        Self::join_logging(brokers, topic, group, ledger, options, log)
    }

    fn join_logging(
        brokers: &str,
        topic: &str,
        group: &str,
        ledger: &Arc<Ledger>,
        options: &[(&str, &str)],
        log: Logger,
    ) -> Self {
        let mut config = crate::testing::config();
        config.kafka.brokers = vec![brokers.to_owned()];
        config.kafka.topic = topic.to_owned();
        config.kafka.group = group.to_owned();
        config.limits.memory_bytes = 32 << 20;
        // Holes alone are handed on after a quarter of it.
        config.files.max_age = Duration::from_secs(2);
        for (key, value) in options {
            config
                .kafka
                .options
                .insert((*key).to_owned(), (*value).into());
        }
        let (commands, heard) = std::sync::mpsc::channel();
        let (blocks_in, blocks) = mpsc::channel(BLOCKS_MAX);
        let (events_in, events) = mpsc::unbounded_channel();
        let (claims, status) = (Claims::default(), Status::new());
        let budget = Budget::new(config.limits.memory_bytes);
        let thread = start_thread(ThreadParts {
            instance_id: config
                .kafka
                .options
                .remove("group.instance.id")
                .map(|id| id.expose().into_owned()),
            session: config.kafka.session_timeout(),
            layout: Layout::of(&config),
            claims: claims.clone(),
            budget: budget.clone(),
            commands: heard,
            blocks: Some(blocks_in),
            events: events_in,
            status: status.clone(),
            pulse: status.group("landing").pulse("consumer"),
            log,
            unreachable: Repeated::default(),
            rebalances: Repeated::default(),
            config: Arc::new(config),
        })
        .unwrap();
        Self {
            commands,
            blocks,
            events,
            thread,
            claims,
            status,
            budget,
            ledger: ledger.clone(),
            claimed: BTreeMap::new(),
            holds_claims: false,
            held_claims: Vec::new(),
            holds_batches: false,
            assignments: 0,
            stream_ended: false,
            fenced: None,
        }
    }

    fn claim(&mut self, partition: i32) {
        let (claim, answer) = self.ledger.claim(partition);
        self.claims.hold_landing(claim);
        self.commands.send(Command::Start(answer)).unwrap();
    }

    /// Takes whatever is there: events first, as the actors would.
    fn step(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            match event {
                Event::Claim(partition) => {
                    *self.claimed.entry(partition).or_default() += 1;
                    self.assignments += 1;
                    match self.holds_claims {
                        true => self.held_claims.push(partition),
                        false => self.claim(partition),
                    }
                }
                Event::Release(partitions) => {
                    for partition in partitions {
                        self.claimed.remove(&partition);
                    }
                }
                Event::Unreadable(unreadable) => panic!("{unreadable:?}"),
                Event::Fenced(text) => self.fenced = Some(text),
                Event::Failed(text) => panic!("{text}"),
            }
        }
        match self.blocks.try_recv() {
            Ok(block) if self.claims.is_current(block.claim) => {
                if self.ledger.land(&block) {
                    self.claim(block.claim.partition);
                } else if block.end == BlockEnd::Close && !self.holds_batches {
                    self.claims.end(block.claim);
                }
            }
            Ok(_) => {}
            Err(mpsc::error::TryRecvError::Empty) => std::thread::sleep(Duration::from_millis(1)),
            Err(mpsc::error::TryRecvError::Disconnected) => self.stream_ended = true,
        }
    }

    fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let since = Instant::now();
        while !done(self) {
            assert!(
                since.elapsed() < PATIENCE,
                "waited in vain: {what}; {} records landed",
                self.ledger.count()
            );
            self.step();
        }
    }

    fn until_landed(&mut self, records: usize) {
        self.until("records to land", |member| member.ledger.count() >= records);
    }

    fn drain(&mut self) {
        self.commands.send(Command::Drain).unwrap();
        self.until("the drain", |member| member.stream_ended);
    }

    fn leave(self) {
        self.commands.send(Command::Leave).unwrap();
        let since = Instant::now();
        while !self.thread.is_finished() {
            assert!(since.elapsed() < PATIENCE, "the thread does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        self.thread.join().unwrap();
    }
}

fn producer(brokers: &str, options: &[(&str, &str)]) -> ThreadedProducer<DefaultProducerContext> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("linger.ms", "5");
    for (key, value) in options {
        config.set(*key, *value);
    }
    config.create().unwrap()
}

fn produce(
    producer: &ThreadedProducer<DefaultProducerContext>,
    topic: &str,
    partition: i32,
    numbers: std::ops::Range<i64>,
) {
    for number in numbers {
        let value = number.to_string();
        let header = Header {
            key: "n",
            value: Some(&value),
        };
        let mut record = BaseRecord::<str, str>::to(topic)
            .partition(partition)
            .payload(&value)
            .headers(OwnedHeaders::new().insert(header));
        while let Err((error, again)) = producer.send(record) {
            assert_eq!(
                error.rdkafka_error_code(),
                Some(rdkafka::types::RDKafkaErrorCode::QueueFull)
            );
            std::thread::sleep(Duration::from_millis(5));
            record = again;
        }
    }
    producer.flush(PATIENCE).unwrap();
}

/// Every record of [0, count) of each partition once, in order, with its own value.
fn assert_all(ledger: &Ledger, partitions: i32, count: i64) {
    for partition in 0..partitions {
        let landed = ledger.of(partition);
        assert_eq!(
            landed.offsets,
            (0..count).collect::<Vec<_>>(),
            "partition {partition}"
        );
        let expected: Vec<String> = (0..count).map(|number| number.to_string()).collect();
        assert_eq!(landed.values, expected, "partition {partition}");
    }
}

mod mock {
    use super::*;
    use crate::demo::broker::Broker;

    /// The mock tells a member of a rebalance in the answer to its heartbeat.
    const QUICK: &[(&str, &str)] = &[
        ("session.timeout.ms", "2000"),
        ("heartbeat.interval.ms", "100"),
    ];

    fn cluster(partitions: i32) -> (Broker, String) {
        let broker = Broker::start(&Logger::root(slog::Discard, slog::o!())).unwrap();
        broker.create_topic(TOPIC, partitions).unwrap();
        let brokers = broker.bootstrap_servers().unwrap();
        (broker, brokers)
    }

    #[test]
    fn every_record_arrives_once_in_order_and_a_drain_closes_each_partition() {
        let (_cluster, brokers) = cluster(3);
        let producer = producer(&brokers, &[]);
        (0..3).for_each(|partition| produce(&producer, TOPIC, partition, 0..5000));
        let ledger = Arc::<Ledger>::default();
        let mut member = Member::join(&brokers, TOPIC, "g", &ledger, &[]);
        member.until_landed(15_000);
        (0..3).for_each(|partition| produce(&producer, TOPIC, partition, 5000..5010));
        member.until_landed(15_030);
        member.drain();
        assert_all(&ledger, 3, 5010);
        for partition in 0..3 {
            assert_eq!(ledger.of(partition).closes, 1);
        }
        member.leave();
    }

    #[test]
    fn a_replay_takes_exactly_its_range_and_landing_goes_on_behind_it() {
        let (_cluster, brokers) = cluster(1);
        let producer = producer(&brokers, &[]);
        produce(&producer, TOPIC, 0, 0..3000);
        let ledger = Arc::<Ledger>::default();
        ledger.partitions.lock().unwrap().insert(
            0,
            Landed {
                replay: Some((0, 1234)),
                ..Landed::default()
            },
        );
        let mut member = Member::join(&brokers, TOPIC, "g", &ledger, &[]);
        member.until_landed(3000);
        assert_all(&ledger, 1, 3000);
        assert_eq!(ledger.of(0).closes, 1, "the replay's end");
        member.leave();
    }

    #[test]
    fn a_full_pipeline_neither_stops_polling_nor_takes_more_than_its_memory() {
        let (_cluster, brokers) = cluster(1);
        let producer = producer(&brokers, &[]);
        produce(&producer, TOPIC, 0, 0..60_000);
        let ledger = Arc::<Ledger>::default();
        let mut member = Member::join(&brokers, TOPIC, "g", &ledger, &[]);
        member.until("the claim", |member| member.claimed.contains_key(&0));
        let beats = |member: &Member| {
            let actors = member.status.group("landing").actors();
            actors[0].1.beats.load(Ordering::Relaxed)
        };
        // Nobody takes blocks from here on.
        let since = Instant::now();
        while member.blocks.len() < BLOCKS_MAX {
            assert!(since.elapsed() < PATIENCE);
            std::thread::sleep(Duration::from_millis(5));
        }
        let before = beats(&member);
        while beats(&member) < before + 50 {
            assert!(since.elapsed() < PATIENCE, "the thread polls no more");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(member.budget.held_bytes() <= member.budget.limit_bytes());
        member.until_landed(60_000);
        assert_all(&ledger, 1, 60_000);
        member.leave();
    }

    /// What the group has committed of a partition.
    fn committed(brokers: &str, partition: i32) -> Offset {
        let asker: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "g")
            .create()
            .unwrap();
        let mut asked = TopicPartitionList::new();
        asked.add_partition(TOPIC, partition);
        let known = asker.committed_offsets(asked, PATIENCE).unwrap();
        known.elements()[0].offset()
    }

    #[test]
    fn an_offset_of_a_partition_that_is_no_longer_ours_is_not_committed() {
        let (_cluster, brokers) = cluster(2);
        let ledger = Arc::<Ledger>::default();
        let mut first = Member::join(&brokers, TOPIC, "g", &ledger, QUICK);
        let mut second = Member::join(&brokers, TOPIC, "g", &ledger, QUICK);
        let since = Instant::now();
        while (first.claimed.len(), second.claimed.len()) != (1, 1) {
            assert!(since.elapsed() < PATIENCE, "the partitions are not shared");
            first.step();
            second.step();
        }
        let ours = *first.claimed.keys().next().unwrap();
        let theirs = 1 - ours;
        for (partition, offset) in [(theirs, 77), (ours, 3)] {
            let commit = Command::Commit { partition, offset };
            first.commands.send(commit).unwrap();
        }
        while committed(&brokers, ours) != Offset::Offset(3) {
            assert!(since.elapsed() < PATIENCE, "ours is not committed");
        }
        assert_eq!(committed(&brokers, theirs), Offset::Invalid);
        first.leave();
        second.leave();
    }

    #[test]
    fn a_second_member_takes_over_what_is_revoked_and_nothing_is_lost_or_doubled() {
        let (_cluster, brokers) = cluster(4);
        let producer = producer(&brokers, &[]);
        let ledger = Arc::<Ledger>::default();
        let mut first = Member::join(&brokers, TOPIC, "g", &ledger, QUICK);
        first.until("all partitions", |member| member.claimed.len() == 4);
        (0..4).for_each(|partition| produce(&producer, TOPIC, partition, 0..2000));
        let mut second = Member::join(&brokers, TOPIC, "g", &ledger, QUICK);
        let since = Instant::now();
        while second.claimed.len() != 2 || first.claimed.len() != 2 || ledger.count() < 8000 {
            assert!(since.elapsed() < PATIENCE, "no rebalance: {ledger:?}");
            first.step();
            second.step();
        }
        first.leave();
        (0..4).for_each(|partition| produce(&producer, TOPIC, partition, 2000..2500));
        second.until_landed(10_000);
        assert_all(&ledger, 4, 2500);
        second.leave();
    }

    #[test]
    fn revoked_partitions_are_given_back_once_what_was_read_has_landed() {
        let (_cluster, brokers) = cluster(4);
        let producer = producer(&brokers, &[]);
        (0..4).for_each(|partition| produce(&producer, TOPIC, partition, 0..500));
        let ledger = Arc::<Ledger>::default();
        let mut first = Member::join(&brokers, TOPIC, "g", &ledger, QUICK);
        first.until_landed(2000);
        first.holds_batches = true;
        let mut second = Member::join(&brokers, TOPIC, "g", &ledger, QUICK);
        first.until("what is open to be closed", |member| {
            (0..4).all(|partition| member.ledger.of(partition).closes == 1)
        });
        second.step();
        assert_eq!(first.claimed.len(), 4, "nothing is given back");
        assert!(second.claimed.is_empty());
        for partition in 0..4 {
            let epoch = ledger.of(partition).epoch;
            first.claims.end(ClaimId { partition, epoch });
        }
        first.holds_batches = false;
        let since = Instant::now();
        while second.claimed.len() != 2 || first.claimed.len() != 2 {
            assert!(since.elapsed() < PATIENCE, "no rebalance: {ledger:?}");
            first.step();
            second.step();
        }
        assert_all(&ledger, 4, 500);
        first.leave();
        second.leave();
    }

    #[test]
    fn revoked_partitions_whose_batches_do_not_land_are_given_up_in_time() {
        let (_cluster, brokers) = cluster(1);
        let producer = producer(&brokers, &[]);
        produce(&producer, TOPIC, 0, 0..500);
        let ledger = Arc::<Ledger>::default();
        let options = [QUICK, &[("max.poll.interval.ms", "2000")]].concat();
        let mut first = Member::join(&brokers, TOPIC, "g", &ledger, &options);
        first.until_landed(500);
        first.holds_batches = true;
        let second = Member::join(&brokers, TOPIC, "g", &ledger, &options);
        let held = ClaimId {
            partition: 0,
            epoch: ledger.of(0).epoch,
        };
        first.until("the partition to be given up", |member| {
            !member.claims.is_current(held)
        });
        assert_eq!(ledger.of(0).closes, 1);
        first.leave();
        second.leave();
    }

    #[test]
    fn an_answer_of_a_claim_that_was_overtaken_starts_nothing() {
        let (_cluster, brokers) = cluster(1);
        let producer = producer(&brokers, &[]);
        produce(&producer, TOPIC, 0, 0..100);
        let ledger = Arc::<Ledger>::default();
        let mut member = Member::join(&brokers, TOPIC, "g", &ledger, &[]);
        member.holds_claims = true;
        member.until("the claim", |member| member.held_claims == [0]);
        // Two answers are on their way; only the newer counts.
        let (_, older) = ledger.claim(0);
        let (claim, newer) = ledger.claim(0);
        member.claims.hold_landing(claim);
        member.commands.send(Command::Start(older)).unwrap();
        member.commands.send(Command::Start(newer)).unwrap();
        member.until_landed(100);
        assert_all(&ledger, 1, 100);
        member.leave();
    }

    #[test]
    fn a_partition_claimed_again_reads_on_from_the_answer() {
        let (_cluster, brokers) = cluster(2);
        let producer = producer(&brokers, &[]);
        (0..2).for_each(|partition| produce(&producer, TOPIC, partition, 0..1000));
        let ledger = Arc::<Ledger>::default();
        let mut member = Member::join(&brokers, TOPIC, "g", &ledger, &[]);
        for round in 1..=5 {
            member.until_landed(2000 * round);
            let claim = ClaimId {
                partition: 0,
                epoch: ledger.of(0).epoch,
            };
            let after = Duration::ZERO;
            let count = member.claimed[&0];
            member
                .commands
                .send(Command::Reclaim { claim, after })
                .unwrap();
            member.until("the claim", |member| member.claimed[&0] > count);
            let first = 1000 * round as i64;
            (0..2).for_each(|partition| produce(&producer, TOPIC, partition, first..first + 1000));
        }
        member.until_landed(12_000);
        assert_all(&ledger, 2, 6000);
        member.leave();
    }
}

/// What only a real Kafka does.
mod real {
    use super::*;

    const EAGER: &[(&str, &str)] = &[("partition.assignment.strategy", "range")];
    const COOPERATIVE: &[(&str, &str)] = &[("partition.assignment.strategy", "cooperative-sticky")];
    const KIP_848: &[(&str, &str)] = &[("group.protocol", "consumer")];
    const PROTOCOLS: [(&str, &[(&str, &str)]); 3] = [
        ("eager", EAGER),
        ("cooperative", COOPERATIVE),
        ("kip848", KIP_848),
    ];

    fn brokers() -> String {
        std::env::var("GROUNDTRACK_TEST_KAFKA").expect("GROUNDTRACK_TEST_KAFKA is host:port")
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    }

    fn admin(brokers: &str) -> AdminClient<DefaultClientContext> {
        ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .create()
            .unwrap()
    }

    /// A topic of its own for each test.
    fn topic(brokers: &str, name: &str, partitions: i32) -> String {
        let name = format!("{name}-{:016x}", fastrand::u64(..));
        let topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
        let made = runtime().block_on(admin(brokers).create_topics(&[topic], &AdminOptions::new()));
        made.unwrap().remove(0).unwrap();
        name
    }

    fn delete_records(brokers: &str, topic: &str, partition: i32, before: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(before))
            .unwrap();
        runtime()
            .block_on(admin(brokers).delete_records(&list, &AdminOptions::new()))
            .unwrap();
    }

    #[test]
    #[ignore = "needs real servers"]
    fn members_come_and_go_under_each_protocol_and_every_record_arrives_once() {
        let brokers = brokers();
        for (protocol, options) in PROTOCOLS {
            let topic = topic(&brokers, protocol, 6);
            let producer = producer(&brokers, &[]);
            let ledger = Arc::<Ledger>::default();
            let mut members = vec![Member::join(&brokers, &topic, &topic, &ledger, options)];
            let rounds = 6;
            for round in 0..rounds {
                match round % 3 {
                    2 => members.remove(0).leave(),
                    _ => members.push(Member::join(&brokers, &topic, &topic, &ledger, options)),
                }
                for partition in 0..6 {
                    produce(
                        &producer,
                        &topic,
                        partition,
                        4000 * round..4000 * (round + 1),
                    );
                    members.iter_mut().for_each(Member::step);
                }
                let since = Instant::now();
                let members_now = members.len();
                while ledger.count() < 24_000 * (round as usize + 1)
                    || members.iter().map(|one| one.claimed.len()).sum::<usize>() != 6
                    || members.iter().any(|one| one.claimed.is_empty())
                {
                    assert!(
                        since.elapsed() < PATIENCE,
                        "{protocol} with {members_now} members"
                    );
                    members.iter_mut().for_each(Member::step);
                }
            }
            assert_all(&ledger, 6, 4000 * rounds);
            members.into_iter().for_each(Member::leave);
        }
    }

    /// Writes the messages; at the first line with this one the writer stands still for so long.
    struct Stall(&'static str, Duration, Mutex<bool>);

    impl slog::Drain for Stall {
        type Ok = ();
        type Err = slog::Never;

        fn log(&self, record: &slog::Record<'_>, _: &slog::OwnedKVList) -> Result<(), slog::Never> {
            eprintln!("{}", record.msg());
            let is_it = record.msg().to_string() == self.0;
            if is_it && !std::mem::replace(&mut *self.2.lock().unwrap(), true) {
                std::thread::sleep(self.1);
            }
            Ok(())
        }
    }

    /// librdkafka 2.12 makes a fatal error of it under KIP-848, which no retry of its own mends.
    #[test]
    #[ignore = "needs real servers"]
    fn a_member_that_polled_too_late_joins_again_without_a_new_generation() {
        let brokers = brokers();
        for (protocol, options) in PROTOCOLS {
            let topic = topic(&brokers, protocol, 2);
            let producer = producer(&brokers, &[]);
            (0..2).for_each(|partition| produce(&producer, &topic, partition, 0..500));
            let ledger = Arc::<Ledger>::default();
            let mut options = options.to_vec();
            options.push(("max.poll.interval.ms", "6000"));
            if protocol != "kip848" {
                options.push(("session.timeout.ms", "6000"));
            }
            let late = "claim's answer came too late";
            let log = Logger::root(
                Stall(late, Duration::from_secs(8), Mutex::default()),
                slog::o!(),
            );
            let mut member = Member::join_logging(&brokers, &topic, &topic, &ledger, &options, log);
            member.until_landed(1000);
            // The thread says that this is of no use to it, and stands still over that.
            let claim = ClaimId {
                partition: 0,
                epoch: 0,
            };
            let answer = ClaimAnswer::Land { claim, from: 0 };
            member.commands.send(Command::Start(answer)).unwrap();
            member.until("two assignments", |member| {
                member.assignments >= 4 && member.claimed.len() == 2
            });
            (0..2).for_each(|partition| produce(&producer, &topic, partition, 500..600));
            member.until_landed(1200);
            assert_all(&ledger, 2, 600);
            member.leave();
        }
    }

    /// librdkafka makes the look-up of a logical offset again 500 ms after a pause or a seek has
    /// outdated it, and goes there in the midst of the flow: none may be under way.
    #[test]
    #[ignore = "needs real servers"]
    fn no_look_up_comes_late_and_jumps_in_the_midst_of_the_flow() {
        let brokers = brokers();
        for (protocol, options) in PROTOCOLS {
            let topic = topic(&brokers, protocol, 4);
            let producer = producer(&brokers, &[]);
            (0..4).for_each(|partition| produce(&producer, &topic, partition, 0..30_000));
            let ledger = Arc::<Ledger>::default();
            let mut member = Member::join(&brokers, &topic, &topic, &ledger, options);
            let mut claims_again = vec![20_000, 50_000, 80_000];
            let since = Instant::now();
            while ledger.count() < 120_000 {
                assert!(since.elapsed() < PATIENCE, "{} landed", ledger.count());
                member.step();
                // A pipeline that takes seconds for it all: longer than a look-up may be late.
                std::thread::sleep(Duration::from_millis(20));
                if claims_again
                    .first()
                    .is_some_and(|count| ledger.count() > *count)
                {
                    claims_again.remove(0);
                    for partition in 0..4 {
                        let epoch = ledger.of(partition).epoch;
                        let claim = ClaimId { partition, epoch };
                        let after = Duration::ZERO;
                        let again = Command::Reclaim { claim, after };
                        member.commands.send(again).unwrap();
                    }
                }
            }
            assert!(claims_again.is_empty());
            assert_all(&ledger, 4, 30_000);
            member.leave();
        }
    }

    #[test]
    #[ignore = "needs real servers"]
    fn retention_past_our_next_offset_asks_for_the_claim_and_costs_no_other_partition_a_record() {
        let brokers = brokers();
        for (protocol, options) in PROTOCOLS {
            for round in 0..3 {
                let topic = topic(&brokers, &format!("retention-{protocol}-{round}"), 4);
                let producer = producer(&brokers, &[]);
                (0..4).for_each(|partition| produce(&producer, &topic, partition, 0..3000));
                delete_records(&brokers, &topic, 0, 500);
                let ledger = Arc::<Ledger>::default();
                let mut member = Member::join(&brokers, &topic, &topic, &ledger, options);
                member.holds_claims = true;
                member.until("all claims", |member| member.held_claims.len() == 4);
                member.held_claims.clear();
                (0..4).for_each(|partition| member.claim(partition));
                member.until("the second claim", |member| member.held_claims.contains(&0));
                member.holds_claims = false;
                // The word was given: on behind the gap.
                ledger.partitions.lock().unwrap().get_mut(&0).unwrap().next = 500;
                member.claim(0);
                member.until_landed(11_500);
                (0..4).for_each(|partition| produce(&producer, &topic, partition, 3000..4000));
                member.until_landed(15_500);
                for partition in 0..4 {
                    let from = if partition == 0 { 500 } else { 0 };
                    let expected: Vec<i64> = (from..4000).collect();
                    assert_eq!(
                        ledger.of(partition).offsets,
                        expected,
                        "{protocol} {partition}"
                    );
                }
                member.leave();
            }
        }
    }

    #[test]
    #[ignore = "needs real servers"]
    fn the_position_goes_over_control_and_aborted_records_and_no_committed_one_is_missed() {
        let brokers = brokers();
        let topic = topic(&brokers, "transactions", 1);
        let id = format!("tx-{topic}");
        let producer = producer(&brokers, &[("transactional.id", &id)]);
        producer.init_transactions(PATIENCE).unwrap();
        let mut expected = BTreeSet::new();
        let mut next = 0;
        for round in 0..40 {
            producer.begin_transaction().unwrap();
            produce(&producer, &topic, 0, 0..5);
            if round % 3 == 1 {
                producer.abort_transaction(PATIENCE).unwrap();
            } else {
                producer.commit_transaction(PATIENCE).unwrap();
                expected.extend(next..next + 5);
            }
            next += 6;
        }
        let ledger = Arc::<Ledger>::default();
        let mut member = Member::join(&brokers, &topic, &topic, &ledger, &[]);
        member.until("the end", |member| member.ledger.of(0).next == next);
        let offsets: BTreeSet<i64> = ledger.of(0).offsets.into_iter().collect();
        assert_eq!(offsets, expected);
        assert_eq!(ledger.of(0).offsets.len(), expected.len());
        member.leave();

        // A successor that begins at the last control record finds no record, and its end.
        ledger.partitions.lock().unwrap().get_mut(&0).unwrap().next = next - 1;
        let mut member = Member::join(&brokers, &topic, &topic, &ledger, &[]);
        member.until("the end again", |member| member.ledger.of(0).next == next);
        // A replay that ends with the control record is complete.
        let mut landed = ledger.of(0);
        (landed.next, landed.replay, landed.closes) = (next - 6, Some((next - 6, next)), 0);
        landed.offsets.clear();
        ledger.partitions.lock().unwrap().insert(0, landed);
        let claim = ClaimId {
            partition: 0,
            epoch: ledger.of(0).epoch,
        };
        let after = Duration::ZERO;
        member
            .commands
            .send(Command::Reclaim { claim, after })
            .unwrap();
        member.until("the replay", |member| member.ledger.of(0).closes == 1);
        assert_eq!(ledger.of(0).next, next);
        member.leave();
    }

    #[test]
    #[ignore = "needs real servers"]
    fn a_replay_over_an_open_transaction_waits_for_its_end() {
        let brokers = brokers();
        let topic = topic(&brokers, "open", 1);
        let plain = producer(&brokers, &[]);
        produce(&plain, &topic, 0, 0..10);
        let id = format!("tx-{topic}");
        let transactional = producer(&brokers, &[("transactional.id", &id)]);
        transactional.init_transactions(PATIENCE).unwrap();
        transactional.begin_transaction().unwrap();
        produce(&transactional, &topic, 0, 10..20);
        let ledger = Arc::<Ledger>::default();
        let replay = Landed {
            replay: Some((0, 20)),
            ..Landed::default()
        };
        ledger.partitions.lock().unwrap().insert(0, replay);
        let mut member = Member::join(&brokers, &topic, &topic, &ledger, &[]);
        member.until("the trouble", |member| !member.status.troubles().is_empty());
        assert_eq!(ledger.of(0).closes, 0);
        assert_eq!(ledger.of(0).offsets.len() as i64, ledger.of(0).next);
        transactional.commit_transaction(PATIENCE).unwrap();
        member.until_landed(20);
        assert_all(&ledger, 1, 20);
        member.until("the trouble's end", |member| {
            member.status.troubles().is_empty()
        });
        member.leave();
    }

    #[test]
    #[ignore = "needs real servers"]
    fn a_record_that_arrives_while_its_partition_is_paused_at_the_end_is_not_skipped() {
        let brokers = brokers();
        for (protocol, options) in PROTOCOLS {
            let topic = topic(&brokers, &format!("paused-{protocol}"), 2);
            let producer = producer(&brokers, &[]);
            let ledger = Arc::<Ledger>::default();
            let mut member = Member::join(&brokers, &topic, &topic, &ledger, options);
            member.until("all claims", |member| member.claimed.len() == 2);
            for round in 0..20 {
                if round % 2 == 0 {
                    (0..2).for_each(|one| produce(&producer, &topic, one, round..round + 1));
                }
                member.until_landed(2 * (round as usize + 1));
                member.holds_claims = true;
                let claim = ClaimId {
                    partition: 0,
                    epoch: ledger.of(0).epoch,
                };
                let after = Duration::ZERO;
                member
                    .commands
                    .send(Command::Reclaim { claim, after })
                    .unwrap();
                member.until("the claim", |member| member.held_claims == [0]);
                member.held_claims.clear();
                member.holds_claims = false;
                // Every other time the next record is there before the partition reads on.
                if round % 2 == 0 {
                    (0..2).for_each(|one| produce(&producer, &topic, one, round + 1..round + 2));
                }
                member.claim(0);
            }
            assert_all(&ledger, 2, 20);
            member.leave();
        }
    }

    #[test]
    #[ignore = "needs real servers"]
    fn a_slow_partition_with_transactions_is_not_starved_by_a_busy_one() {
        let brokers = brokers();
        let topic = topic(&brokers, "starved", 2);
        let busy = producer(&brokers, &[]);
        let id = format!("tx-{topic}");
        let slow = producer(&brokers, &[("transactional.id", &id)]);
        slow.init_transactions(PATIENCE).unwrap();
        for round in 0..20 {
            slow.begin_transaction().unwrap();
            produce(&slow, &topic, 1, round..round + 1);
            slow.commit_transaction(PATIENCE).unwrap();
        }
        let is_done = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let feeding = {
            let (is_done, topic) = (is_done.clone(), topic.clone());
            std::thread::spawn(move || {
                let mut number = 0;
                while !is_done.load(Ordering::Relaxed) {
                    produce(&busy, &topic, 0, number..number + 50_000);
                    number += 50_000;
                }
            })
        };
        let ledger = Arc::<Ledger>::default();
        let mut member = Member::join(&brokers, &topic, &topic, &ledger, &[]);
        member.until("the slow partition", |member| {
            member.ledger.of(1).offsets.len() == 20
        });
        is_done.store(true, Ordering::Relaxed);
        feeding.join().unwrap();
        member.leave();
    }

    /// The id of a static member, and how it joins.
    fn with_id<'a>(id: &'a str, options: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let mut all = options.to_vec();
        all.push(("group.instance.id", id));
        all
    }

    #[test]
    #[ignore = "needs real servers"]
    fn the_older_of_two_classic_members_with_one_id_is_fenced_and_the_newer_reads_on() {
        let brokers = brokers();
        for (protocol, options) in &PROTOCOLS[..2] {
            let topic = topic(&brokers, &format!("fenced-{protocol}"), 2);
            let producer = producer(&brokers, &[]);
            let options = with_id("one", options);
            let ledger = Arc::<Ledger>::default();
            let mut older = Member::join(&brokers, &topic, &topic, &ledger, &options);
            older.until("all claims", |member| member.claimed.len() == 2);
            (0..2).for_each(|one| produce(&producer, &topic, one, 0..100));
            older.until_landed(200);
            let mut newer = Member::join(&brokers, &topic, &topic, &ledger, &options);
            newer.until("all claims", |member| member.claimed.len() == 2);
            older.until("the fence", |member| member.fenced.is_some());
            assert!(older.fenced.unwrap().contains("one"));
            older.thread.join().unwrap();
            (0..2).for_each(|one| produce(&producer, &topic, one, 100..200));
            newer.until_landed(400);
            assert_all(&ledger, 2, 200);
            newer.leave();
        }
    }

    #[test]
    #[ignore = "needs real servers"]
    fn an_instance_id_that_kip_848_has_not_released_is_waited_for() {
        let brokers = brokers();
        let topic = topic(&brokers, "unreleased", 2);
        let producer = producer(&brokers, &[]);
        let options = with_id("one", KIP_848);
        let ledger = Arc::<Ledger>::default();
        let mut older = Member::join(&brokers, &topic, &topic, &ledger, &options);
        older.until("all claims", |member| member.claimed.len() == 2);
        (0..2).for_each(|one| produce(&producer, &topic, one, 0..100));
        older.until_landed(200);
        let mut newer = Member::join(&brokers, &topic, &topic, &ledger, &options);
        newer.until("the wait", |member| {
            let actors = member.status.group("landing").actors();
            actors[0].1.waits_for().contains("session")
        });
        assert!(newer.claimed.is_empty());
        older.leave();
        (0..2).for_each(|one| produce(&producer, &topic, one, 100..200));
        newer.until_landed(400);
        assert_all(&ledger, 2, 200);
        newer.leave();
    }
}
