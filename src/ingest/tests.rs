//! The group against the simulator of the source and the embedded broker.

use std::collections::VecDeque;
use std::sync::Mutex;

use actix::{Actor, Addr, Handler, MessageResult};
use rdkafka::Message as _;
use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, OwnedMessage};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tokio::sync::{RwLock, mpsc};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::Config;
use crate::demo::broker::Broker;
use crate::demo::open_notify::{self, Simulator};
use crate::messages::{Held, Sample};
use crate::status::Status;

/// No event takes so long unless it never comes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Planned faults hold for the whole process: whoever plans one runs alone.
static FAULTS: RwLock<()> = RwLock::const_new(());

fn discard() -> slog::Logger {
    slog::Logger::root(slog::Discard, slog::o!())
}

fn config() -> Config {
    let mut config = crate::testing::config();
    if let Some(source) = &mut config.source {
        source.interval = Duration::from_millis(20);
        source.timeout = Duration::from_millis(500);
        // Timestamps are whole seconds: a source that moves may stand still for one.
        source.stale_after = Duration::from_millis(1500);
    }
    config.supervision.backoff_max = Duration::from_millis(40);
    config
}

fn generation(config: Config, log: slog::Logger) -> Generation {
    let status = Status::new();
    Generation {
        config: Arc::new(config),
        group: status.group("ingest"),
        status,
        log,
        number: 1,
        until_caught_up: false,
        drain: CancellationToken::new(),
        stop: CancellationToken::new(),
    }
}

/// The value of the counter with this name and, if it has labels, with this one among them.
fn counted(status: &Status, name: &str, label: &str) -> u64 {
    let counters = status.counters();
    let of_label = counters.iter().filter(|(key, _)| {
        key.name == name && (label.is_empty() || key.labels.iter().any(|(_, value)| value == label))
    });
    of_label.map(|(_, value)| value).sum()
}

fn polls(generation: &Generation, result: &str) -> u64 {
    counted(&generation.status, "groundtrack_polls_total", result)
}

fn published(generation: &Generation) -> u64 {
    counted(
        &generation.status,
        "groundtrack_samples_published_total",
        "",
    )
}

fn trouble(generation: &Generation, place: &str) -> Option<String> {
    let troubles = generation.status.troubles();
    let trouble = troubles.into_iter().find(|(at, _)| at == place)?;
    Some(trouble.1.text)
}

/// The status tells of no event, so it is looked at until it says so.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Counts log records at info and above, by message.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl slog::Drain for Lines {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &slog::Record<'_>, _: &slog::OwnedKVList) -> Result<(), slog::Never> {
        if record.level().is_at_least(slog::Level::Info) {
            self.0.lock().unwrap().push(record.msg().to_string());
        }
        Ok(())
    }
}

impl Lines {
    fn count(&self, message: &str) -> usize {
        let lines = self.0.lock().unwrap();
        lines.iter().filter(|line| *line == message).count()
    }
}

/// Stands where the publisher stands; answers as told, then that it holds what it gets.
struct Collector {
    offered: mpsc::UnboundedSender<Sample>,
    answers: VecDeque<Held>,
    then: Held,
}

impl Actor for Collector {
    type Context = Context<Self>;
}

impl Handler<Sample> for Collector {
    type Result = MessageResult<Sample>;

    fn handle(&mut self, sample: Sample, _: &mut Context<Self>) -> Self::Result {
        let _ = self.offered.send(sample);
        MessageResult(self.answers.pop_front().unwrap_or(self.then))
    }
}

/// A poller of the simulator, and what it offers.
fn poll(
    generation: &Generation,
    answers: &[Held],
    then: Held,
) -> (ActorSet, mpsc::UnboundedReceiver<Sample>) {
    let (offered, samples) = mpsc::unbounded_channel();
    let collector = Collector {
        offered,
        answers: answers.iter().copied().collect(),
        then,
    };
    let source = generation.config.source.as_ref().unwrap();
    let poller = Poller::new(
        generation,
        source,
        Way::new(Step::HandSample, &collector.start()),
    )
    .unwrap();
    let mut actors = ActorSet::default();
    actors.start("poller", Context::new(), poller);
    (actors, samples)
}

fn simulated(log: slog::Logger) -> (Simulator, Generation) {
    let simulator = Simulator::start(&discard()).unwrap();
    let mut config = config();
    config.source.as_mut().unwrap().url = simulator.url();
    (simulator, generation(config, log))
}

#[actix::test]
async fn every_kind_of_failure_is_counted_said_once_and_never_published() {
    use open_notify::Failure::*;
    let _guard = FAULTS.read().await;
    let lines = Lines::default();
    let (simulator, generation) = simulated(slog::Logger::root(lines.clone(), slog::o!()));
    let kinds = [
        (Error503, "status"),
        (Html500, "status"),
        (Html200, "not_json"),
        (NotSuccess, "not_success"),
        (Timeout, "timeout"),
        (Cut, "cut"),
        (TooLarge, "too_large"),
        (RedirectLoop, "redirect"),
        (HalfJson, "cut"),
    ];
    assert_eq!(kinds.len() + 1, open_notify::Failure::NAMES.len());
    simulator.fail(Error503);
    let (mut actors, mut samples) = poll(&generation, &[], Held::Yes);
    for (failure, kind) in kinds {
        simulator.fail(failure);
        let before = polls(&generation, kind);
        // The first may still be an answer to the failure before.
        until(kind, || polls(&generation, kind) >= before + 2).await;
        assert!(trouble(&generation, poller::FAILING).is_some());
    }
    assert_eq!(polls(&generation, "success"), 0);
    assert!(samples.try_recv().is_err());
    assert_eq!(lines.count("source fails"), 1);
    simulator.fail(None);
    assert!(samples.recv().await.is_some());
    assert_eq!(trouble(&generation, poller::FAILING), None);
    assert_eq!(lines.count("source answers again"), 1);
    simulator.stop();
    until("connect", || polls(&generation, "connect") > 1).await;
    assert_eq!(lines.count("source fails"), 2);
    actors.shut_down().await;
}

#[actix::test]
async fn a_frozen_source_is_reported_and_its_body_passed_on_as_received() {
    let _guard = FAULTS.read().await;
    let lines = Lines::default();
    let (simulator, generation) = simulated(slog::Logger::root(lines.clone(), slog::o!()));
    simulator.fail(open_notify::Failure::Frozen);
    let body = reqwest::get(simulator.url()).await.unwrap();
    let body = body.bytes().await.unwrap();
    let (mut actors, mut samples) = poll(&generation, &[], Held::Yes);
    let sample = samples.recv().await.unwrap();
    assert_eq!(sample.body, body);
    assert_eq!(&*sample.source, simulator.url());
    assert_eq!(sample.content_type.as_deref(), Some("application/json"));
    assert!(sample.http_date.unwrap().ends_with("GMT"));
    assert!(crate::status::now_ms() - sample.fetched_at_ms < 60_000);

    until("frozen", || trouble(&generation, poller::FROZEN).is_some()).await;
    assert_eq!(polls(&generation, "status"), 0);
    simulator.fail(None);
    until("moves", || trouble(&generation, poller::FROZEN).is_none()).await;
    assert_eq!(lines.count("source is frozen"), 1);
    assert_eq!(lines.count("source moves again"), 1);
    actors.shut_down().await;
}

#[actix::test]
async fn while_the_publisher_is_full_the_same_sample_waits_and_nothing_is_polled() {
    let _guard = FAULTS.read().await;
    let (_simulator, generation) = simulated(discard());
    let (mut actors, mut samples) = poll(&generation, &[Held::Full], Held::Yes);
    let first = samples.recv().await.unwrap();
    let again = samples.recv().await.unwrap();
    assert_eq!(polls(&generation, "success"), 1);
    assert_eq!(
        (first.body, first.fetched_at_ms),
        (again.body, again.fetched_at_ms)
    );
    actors.shut_down().await;
}

#[actix::test]
async fn a_sample_that_nobody_holds_at_the_drain_is_counted() {
    let _guard = FAULTS.read().await;
    let (_simulator, generation) = simulated(discard());
    let (mut actors, mut samples) = poll(&generation, &[], Held::Full);
    samples.recv().await.unwrap();
    generation.drain.cancel();
    let Failure::Actor { actor, reason } = actors.ended().await else {
        panic!("no actor");
    };
    assert_eq!((actor, reason.as_str()), ("poller", "it returned"));
    let name = "groundtrack_samples_unpublished_total";
    assert_eq!(counted(&generation.status, name, ""), 1);
}

/// A broker, and a generation that publishes to its topic `t`.
fn brokered(partitions: Option<i32>, change: impl FnOnce(&mut Config)) -> (Broker, Generation) {
    let broker = Broker::start(&discard()).unwrap();
    if let Some(partitions) = partitions {
        broker.create_topic("t", partitions).unwrap();
    }
    let mut config = config();
    config.kafka.brokers = vec![broker.bootstrap_servers().unwrap()];
    config.kafka.topic = "t".to_owned();
    change(&mut config);
    (broker, generation(config, discard()))
}

fn publish(generation: &Generation) -> (ActorSet, Addr<Publisher>) {
    let publisher = Publisher::new(generation, Arc::default()).unwrap();
    let mut actors = ActorSet::default();
    let address = actors.start("publisher", Context::new(), publisher);
    (actors, address)
}

fn sample(body: &[u8]) -> Sample {
    Sample {
        body: body.to_vec().into(),
        fetched_at_ms: 1_700_000_000_123,
        source: "http://source.example/iss-now.json".into(),
        http_date: Some("Tue, 14 Nov 2023 22:13:20 GMT".to_owned()),
        content_type: None,
    }
}

const ALL: Flush = Flush { within: PATIENCE };

fn consumer(broker: &Broker) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap_servers().unwrap())
        .set("group.id", "reader")
        .create()
        .unwrap()
}

/// How many records partition 0 of `t` holds.
fn end_of_topic(broker: &Broker) -> u64 {
    let (_, end) = consumer(broker).fetch_watermarks("t", 0, PATIENCE).unwrap();
    u64::try_from(end).unwrap()
}

/// Everything that partition 0 of `t` holds, which are so many.
fn read(broker: &Broker, number: u64) -> Vec<OwnedMessage> {
    assert_eq!(end_of_topic(broker), number);
    let consumer = consumer(broker);
    let mut from = TopicPartitionList::new();
    from.add_partition_offset("t", 0, Offset::Offset(0))
        .unwrap();
    consumer.assign(&from).unwrap();
    (0..number)
        .map(|_| consumer.poll(PATIENCE).unwrap().unwrap().detach())
        .collect()
}

#[actix::test]
async fn a_record_holds_the_body_byte_for_byte_and_says_where_it_came_from() {
    let _guard = FAULTS.read().await;
    let (broker, generation) = brokered(Some(1), |_| ());
    let (mut actors, publisher) = publish(&generation);
    let body = b" {\"b\": 1,\r\n\"a\":\xff\x00}\n\n";
    assert_eq!(publisher.send(sample(body)).await, Ok(Held::Yes));
    assert_eq!(publisher.send(ALL).await, Ok(0));
    assert_eq!(published(&generation), 1);
    let records = read(&broker, 1);
    let record = &records[0];
    assert_eq!(record.payload(), Some(&body[..]));
    assert_eq!(
        record.key(),
        Some(&b"http://source.example/iss-now.json"[..])
    );
    assert_eq!(record.timestamp().to_millis(), Some(1_700_000_000_123));
    let headers: Vec<_> = record
        .headers()
        .unwrap()
        .iter()
        .map(|header| {
            (
                header.key,
                std::str::from_utf8(header.value.unwrap()).unwrap(),
            )
        })
        .collect();
    assert_eq!(
        headers,
        [
            ("fetched-at", "2023-11-14T22:13:20.123Z"),
            ("source", "http://source.example/iss-now.json"),
            ("http-date", "Tue, 14 Nov 2023 22:13:20 GMT"),
        ]
    );
    actors.shut_down().await;
}

#[actix::test]
async fn a_topic_that_does_not_exist_is_waited_for_and_not_created() {
    let _guard = FAULTS.read().await;
    let (broker, generation) = brokered(None, |_| ());
    let (mut actors, publisher) = publish(&generation);
    for number in 0..3 {
        let sample = sample(&[number]);
        assert_eq!(publisher.send(sample).await, Ok(Held::Yes));
    }
    until("waited for", || {
        trouble(&generation, publisher::FAILING).is_some_and(|text| text.contains("not exist"))
    })
    .await;
    // It fails if the topic exists.
    broker.create_topic("t", 1).unwrap();
    assert_eq!(publisher.send(ALL).await, Ok(0));
    assert_eq!(trouble(&generation, publisher::FAILING), None);
    let bodies: Vec<_> = read(&broker, 3)
        .iter()
        .map(|record| record.payload().unwrap().to_vec())
        .collect();
    assert_eq!(bodies, [[0], [1], [2]]);
    actors.shut_down().await;
}

#[actix::test]
async fn at_the_limit_the_publisher_is_full_and_says_what_it_still_holds() {
    let _guard = FAULTS.read().await;
    // A sixteenth of it holds two samples of a thousand bytes, and not three.
    let (_broker, generation) = brokered(None, |config| config.limits.memory_bytes = 16 * 4000);
    let (mut actors, publisher) = publish(&generation);
    let large = sample(&[b'x'; 1000]);
    assert_eq!(publisher.send(large.clone()).await, Ok(Held::Yes));
    assert_eq!(publisher.send(large.clone()).await, Ok(Held::Yes));
    assert_eq!(publisher.send(large).await, Ok(Held::Full));
    let at_once = Flush {
        within: Duration::from_millis(1),
    };
    assert_eq!(publisher.send(at_once).await, Ok(2));
    assert_eq!(published(&generation), 0);
    actors.shut_down().await;
}

#[actix::test]
async fn what_kafka_refuses_for_now_is_sent_again_in_its_order_and_once() {
    let _guard = FAULTS.read().await;
    let (broker, generation) = brokered(Some(1), |_| ());
    let errors = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED];
    broker
        .mock()
        .unwrap()
        .request_errors(RDKafkaApiKey::Produce, &errors);
    let (mut actors, publisher) = publish(&generation);
    for number in 0..5 {
        publisher.send(sample(&[number])).await.unwrap();
    }
    assert_eq!(publisher.send(ALL).await, Ok(0));
    let bodies: Vec<_> = read(&broker, 5)
        .iter()
        .map(|record| record.payload().unwrap()[0])
        .collect();
    assert_eq!(bodies, [0, 1, 2, 3, 4]);
    assert_eq!(published(&generation), 5);
    assert_eq!(trouble(&generation, publisher::FAILING), None);
    actors.shut_down().await;
}

/// The whole group: simulator, broker, and a generation of both.
fn whole() -> (Simulator, Broker, Generation) {
    let simulator = Simulator::start(&discard()).unwrap();
    let (broker, generation) = brokered(Some(1), |config| {
        config.source.as_mut().unwrap().url = simulator.url();
    });
    (simulator, broker, generation)
}

#[actix::test]
async fn at_a_drain_every_sample_is_published_once() {
    let _guard = FAULTS.read().await;
    let (_simulator, broker, generation) = whole();
    let running = actix::spawn(run(generation.clone()));
    until("published", || published(&generation) >= 3).await;
    generation.drain.cancel();
    assert_eq!(running.await.unwrap(), Ok(End::Drained));
    let number = published(&generation);
    assert_eq!(number, polls(&generation, "success"));
    let mut bodies: Vec<_> = read(&broker, number)
        .iter()
        .map(|record| {
            (
                record.timestamp().to_millis(),
                record.payload().unwrap().to_vec(),
            )
        })
        .collect();
    bodies.dedup();
    assert_eq!(bodies.len() as u64, number);
    assert!(generation.status.troubles().is_empty());
}

#[actix::test]
async fn a_panic_in_either_actor_ends_the_generation_and_loses_nothing_that_was_held() {
    let _guard = FAULTS.write().await;
    for (actor, point) in [
        ("poller", "hand-sample:before"),
        ("publisher", "produce:after"),
    ] {
        let (_simulator, broker, generation) = whole();
        crate::fault::plan(&format!("{point}=panic@2"));
        let ended = run(generation.clone()).await;
        let Err(Failure::Actor { actor: which, .. }) = ended else {
            panic!("{ended:?}");
        };
        assert_eq!(which, actor);
        // Only the last answer may not have been held: the poller panics before its second is.
        let answers = polls(&generation, "success");
        let kept = end_of_topic(&broker);
        assert!(kept + 1 == answers || (kept == answers && actor == "publisher"));
        let before = published(&generation);
        let running = actix::spawn(run(generation.clone()));
        until("goes on", || published(&generation) > before).await;
        generation.drain.cancel();
        assert_eq!(running.await.unwrap(), Ok(End::Drained));
    }
}

#[actix::test]
async fn a_hang_in_either_actor_is_seen_by_its_silence() {
    let _guard = FAULTS.write().await;
    for (actor, point) in [
        ("poller", "hand-sample:before"),
        ("publisher", "produce:after"),
    ] {
        let (_simulator, _broker, generation) = whole();
        crate::fault::plan(&format!("{point}=hang@2"));
        let running = actix::spawn(run(generation.clone()));
        until("hung", || {
            let actors = generation.group.actors();
            actors
                .iter()
                .any(|(name, pulse)| *name == actor && pulse.is_hung(Duration::from_millis(500)))
        })
        .await;
        generation.stop.cancel();
        assert_eq!(running.await.unwrap(), Ok(End::Stopped));
    }
}

#[actix::test]
async fn without_a_source_it_does_nothing_until_it_is_told_to_end() {
    let generation = generation(
        Config {
            source: None,
            ..config()
        },
        discard(),
    );
    let running = actix::spawn(run(generation.clone()));
    generation.drain.cancel();
    assert_eq!(running.await.unwrap(), Ok(End::Drained));
}
