//! Kafka: whether brokers answer and can be reached at the addresses that they give out, and
//! whether the topic is there and keeps its records long enough.
//!
//! A producer's handle asks, which never produces: it belongs to no group.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rdkafka::admin::AdminClient;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataTopic};
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer, ProducerContext};
use rdkafka::types::RDKafkaRespErr;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{Finding, Item, Problem, interrupted};
use crate::config::{self, Config};
use crate::kafka::client_config;
use crate::kafka::retention::{self, Retention};

/// Of each question; a broker that answers does so in milliseconds, TLS and SASL take a second.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Of a connection to an address that a broker gives out.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// As many of librdkafka's reasons are shown: the first tells most, the rest repeats it.
const REASONS_MAX: usize = 3;

/// What Kafka answered.
pub(super) struct Kafka {
    /// `brokers` and `topic`.
    pub(super) items: [Item; 2],
    /// Of the topic, where it exists.
    pub(super) partitions: Option<u64>,
}

pub(super) async fn ask(config: &Config, stop: &CancellationToken) -> Kafka {
    tokio::select! {
        () = stop.cancelled() => Kafka {
            items: ["brokers", "topic"].map(|name| Item::new(name, Instant::now(), interrupted())),
            partitions: None,
        },
        kafka = ask_all(config) => kafka,
    }
}

async fn ask_all(config: &Config) -> Kafka {
    let since = Instant::now();
    let kafka = config.kafka.clone();
    // librdkafka's call blocks for up to its time-out.
    let view = tokio::task::spawn_blocking(move || look(&kafka)).await;
    let view = match view {
        Ok(view) => view,
        Err(panic) => Err(Problem::new(panic.to_string(), "report this")),
    };
    let view = match view {
        Ok(view) => view,
        Err(problem) => {
            let unasked = Problem::new("not asked: no broker answers", "mend the brokers first");
            return Kafka {
                items: [
                    Item::new("brokers", since, Err(problem)),
                    Item::new("topic", Instant::now(), Err(unasked)),
                ],
                partitions: None,
            };
        }
    };
    let unreachable = unreachable(&view.brokers).await;
    let brokers = Item::new("brokers", since, judge_brokers(&view, &unreachable));
    let since = Instant::now();
    let partitions = view.topic.as_ref().ok().map(|count| *count as u64);
    let topic = match view.topic {
        Err(problem) => Err(problem),
        Ok(count) => {
            let retention = retention(&config.kafka).await;
            judge_topic(config, count, &retention)
        }
    };
    Kafka {
        items: [brokers, Item::new("topic", since, topic)],
        partitions,
    }
}

/// What one look at the metadata shows.
struct View {
    cluster_id: Option<String>,
    /// `host:port` as the brokers give them out.
    brokers: Vec<String>,
    /// The number of its partitions.
    topic: Result<usize, Problem>,
}

fn look(kafka: &config::Kafka) -> Result<View, Problem> {
    let client: BaseProducer<Reasons> = client_config(kafka)
        .create_with_context(Reasons::default())
        .map_err(|error| Problem::new(error.to_string(), "correct [kafka.options]"))?;
    let metadata = client
        .client()
        .fetch_metadata(Some(&kafka.topic), ANSWER_TIMEOUT)
        .map_err(|error| {
            client.poll(Duration::from_millis(100));
            no_answer(&error, &client.context().heard())
        })?;
    Ok(View {
        cluster_id: client.client().fetch_cluster_id(ANSWER_TIMEOUT),
        brokers: addresses(&metadata),
        topic: match metadata.topics().first() {
            Some(topic) => count_partitions(topic),
            None => Err(no_topic(&kafka.topic)),
        },
    })
}

fn addresses(metadata: &Metadata) -> Vec<String> {
    let brokers = metadata.brokers().iter();
    brokers
        .map(|broker| match broker.host().contains(':') {
            true => format!("[{}]:{}", broker.host(), broker.port()),
            false => format!("{}:{}", broker.host(), broker.port()),
        })
        .collect()
}

fn no_answer(error: &KafkaError, heard: &[String]) -> Problem {
    let answer = match heard {
        [] => error.to_string(),
        heard => heard.join("; "),
    };
    let mend = mend_connection(&answer);
    Problem::new(answer, mend)
}

/// What to do about brokers that do not answer, by librdkafka's words for it.
fn mend_connection(words: &str) -> &'static str {
    let words = words.to_lowercase();
    let has = |any: &[&str]| any.iter().any(|word| words.contains(word));
    if has(&["sasl", "authentication"]) {
        "correct sasl.mechanism, sasl.username and sasl.password in [kafka.options]"
    } else if has(&["ssl", "certificate"]) {
        "set security.protocol in [kafka.options] as the listener has it, and ssl.ca.location if its authority is your own"
    } else if has(&["resolve"]) {
        "correct the hosts in kafka.brokers, or this machine's name servers"
    } else if has(&["disconnected", "apiversion"]) {
        "set security.protocol in [kafka.options] as the listener at kafka.brokers has it"
    } else {
        "correct kafka.brokers, start the brokers, or let this machine reach them"
    }
}

fn count_partitions(topic: &MetadataTopic) -> Result<usize, Problem> {
    if let Some(error) = topic.error() {
        return Err(topic_error(topic.name(), error));
    }
    let leaderless: Vec<String> = topic
        .partitions()
        .iter()
        .filter(|partition| partition.leader() < 0)
        .map(|partition| partition.id().to_string())
        .collect();
    match (topic.partitions().len(), leaderless.is_empty()) {
        (0, _) => Err(no_topic(topic.name())),
        (count, true) => Ok(count),
        (_, false) => Err(Problem::new(
            format!(
                "{}: without a leader: partitions {}",
                topic.name(),
                leaderless.join(", ")
            ),
            "start the brokers that hold them: until then these partitions wait",
        )),
    }
}

fn topic_error(topic: &str, error: RDKafkaRespErr) -> Problem {
    let code = RDKafkaErrorCode::from(error);
    match code {
        RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
            no_topic(topic)
        }
        RDKafkaErrorCode::TopicAuthorizationFailed => Problem::new(
            format!("{topic}: {code}"),
            "allow this user to describe and read the topic, and with a [source] to write it",
        ),
        code => Problem::new(
            format!("{topic}: {code}"),
            "correct kafka.topic, or ask again later",
        ),
    }
}

fn no_topic(topic: &str) -> Problem {
    Problem::new(
        format!("there is no topic {topic}, or this user may not see it"),
        format!(
            "correct kafka.topic, or create it: kafka-topics.sh --create --topic {topic}; \
             groundtrack waits for a topic and never creates one"
        ),
    )
}

/// Those that take no connection.
async fn unreachable(addresses: &[String]) -> Vec<String> {
    let tries = addresses.iter().map(|address| async move {
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address));
        let is_there = matches!(connecting.await, Ok(Ok(_)));
        (!is_there).then(|| address.clone())
    });
    join_all(tries).await.into_iter().flatten().collect()
}

fn judge_brokers(view: &View, unreachable: &[String]) -> Finding {
    let cluster = view.cluster_id.as_deref().unwrap_or("unknown");
    let answer = format!("cluster {cluster}, brokers {}", view.brokers.join(", "));
    if unreachable.is_empty() {
        return Ok(answer);
    }
    Err(Problem::new(
        format!("{answer}; no connection to {}", unreachable.join(", ")),
        "start these brokers, or let them give out addresses that this machine reaches (advertised.listeners)",
    ))
}

/// How long the topic keeps its records.
async fn retention(kafka: &config::Kafka) -> Result<Retention, String> {
    let mut client = client_config(kafka);
    client.set_log_level(RDKafkaLogLevel::Emerg);
    let admin: AdminClient<Reasons> = client
        .create_with_context(Reasons::default())
        .map_err(|error: KafkaError| error.to_string())?;
    retention::ask(&admin, &kafka.topic).await
}

/// Whether records stay long enough: one `max_age` for the file that they are in, and as much again
/// for the pause between a failure and the next start. Of a bound in size no time can be told.
fn judge_topic(
    config: &Config,
    partitions: usize,
    retention: &Result<Retention, String>,
) -> Finding {
    let topic = &config.kafka.topic;
    let partitions = match partitions {
        1 => "1 partition".to_owned(),
        count => format!("{count} partitions"),
    };
    let retention = match retention {
        Ok(retention) => retention,
        Err(why) => {
            return Ok(format!(
                "{topic}: {partitions}, retention not known ({why})"
            ));
        }
    };
    let sized = match retention.bytes {
        Some(bytes) => format!(
            ", each cut to {bytes} bytes (retention.bytes), however young its records are: make \
             that more than comes while nothing lands"
        ),
        None => String::new(),
    };
    let Some(ms) = retention.ms else {
        let kept = if retention.bytes.is_some() {
            "without a limit in time"
        } else {
            "for ever"
        };
        return Ok(format!("{topic}: {partitions}, kept {kept}{sized}"));
    };
    let kept = Duration::from_millis(ms.unsigned_abs());
    let words = humantime::format_duration(kept);
    let answer = format!("{topic}: {partitions}, kept for {words}{sized}");
    if kept >= config.files.max_age * 2 {
        return Ok(answer);
    }
    let wanted = config.files.max_age * 2;
    Err(Problem::new(
        format!("{answer}: records may be gone before they land"),
        format!(
            "keep them for twice files.max_age at least: kafka-configs.sh --bootstrap-server {} \
             --alter --entity-type topics --entity-name {topic} --add-config retention.ms={}; or \
             lower files.max_age ({})",
            config.kafka.brokers.join(","),
            wanted.as_millis(),
            humantime::format_duration(config.files.max_age)
        ),
    ))
}

/// Keeps the first of librdkafka's reasons for what fails.
#[derive(Debug, Default)]
struct Reasons {
    heard: Mutex<Vec<String>>,
}

impl Reasons {
    fn heard(&self) -> Vec<String> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.clone()
    }
}

impl ClientContext for Reasons {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        let says_nothing_new = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.len() < REASONS_MAX && !says_nothing_new && !heard.iter().any(|had| had == reason)
        {
            heard.push(reason.to_owned());
        }
    }
}

impl ProducerContext for Reasons {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::broker::Broker;

    fn config_of(broker: &Broker) -> Config {
        let mut config = crate::testing::config();
        config.kafka.brokers = vec![broker.bootstrap_servers().unwrap()];
        config
    }

    fn broker() -> Broker {
        Broker::start(&slog::Logger::root(slog::Discard, slog::o!())).unwrap()
    }

    #[tokio::test]
    async fn a_topic_that_exists_is_well_and_its_partitions_are_counted() {
        let broker = broker();
        broker.create_topic("project_topic", 3).unwrap();
        let kafka = ask(&config_of(&broker), &CancellationToken::new()).await;
        let [brokers, topic] = kafka.items;
        assert!(brokers.finding.is_ok(), "{brokers:?}");
        assert!(topic.finding.unwrap().contains("3 partitions"));
        assert_eq!(kafka.partitions, Some(3));
    }

    #[tokio::test]
    async fn a_missing_topic_is_said_and_not_created() {
        let broker = broker();
        let config = config_of(&broker);
        for _ in 0..2 {
            let kafka = ask(&config, &CancellationToken::new()).await;
            let [brokers, topic] = kafka.items;
            assert!(brokers.finding.is_ok(), "{brokers:?}");
            let problem = topic.finding.unwrap_err();
            assert!(
                problem.mend.contains("kafka-topics.sh --create"),
                "{problem:?}"
            );
            assert_eq!(kafka.partitions, None);
        }
    }

    #[tokio::test]
    async fn brokers_that_are_away_are_told_with_the_reason() {
        let config = crate::testing::config();
        let kafka = ask(&config, &CancellationToken::new()).await;
        let [brokers, topic] = kafka.items;
        let problem = brokers.finding.unwrap_err();
        assert!(problem.answer.contains("127.0.0.1:9"), "{problem:?}");
        assert!(problem.mend.contains("kafka.brokers"), "{problem:?}");
        assert!(topic.finding.is_err());
    }

    #[tokio::test]
    async fn an_address_that_takes_no_connection_is_named() {
        let view = View {
            cluster_id: None,
            brokers: vec!["127.0.0.1:9".to_owned()],
            topic: Ok(1),
        };
        let unreachable = unreachable(&view.brokers).await;
        let problem = judge_brokers(&view, &unreachable).unwrap_err();
        assert!(problem.mend.contains("advertised.listeners"), "{problem:?}");
    }

    #[test]
    fn a_retention_below_twice_the_age_of_a_file_is_not_well() {
        let config = crate::testing::config();
        let judged = |ms, bytes| {
            let is_compacted = false;
            let retention = Retention {
                ms,
                bytes,
                is_compacted,
            };
            judge_topic(&config, 1, &Ok(retention))
        };
        let problem = judged(Some(599_999), None).unwrap_err();
        assert!(problem.mend.contains("retention.ms=600000"), "{problem:?}");
        assert!(judged(Some(600_000), None).is_ok());
        assert!(judged(None, None).unwrap().contains("for ever"));
        let sized = judged(None, Some(7)).unwrap();
        assert!(
            sized.contains("cut to 7 bytes") && !sized.contains("for ever"),
            "{sized}"
        );
        assert!(judge_topic(&config, 1, &Err("no".to_owned())).is_ok());
    }

    #[test]
    fn the_mend_fits_the_reason() {
        for (words, key) in [
            (
                "Connect to ipv4#127.0.0.1:9 failed: Connection refused",
                "kafka.brokers",
            ),
            (
                "Failed to resolve 'k:9092': Name or service not known",
                "hosts",
            ),
            (
                "SASL authentication error: Authentication failed",
                "sasl.password",
            ),
            (
                "SSL handshake failed: certificate verify failed",
                "ssl.ca.location",
            ),
            (
                "Disconnected while requesting ApiVersion",
                "security.protocol",
            ),
        ] {
            assert!(mend_connection(words).contains(key), "{words}");
        }
    }
}
