//! Whether the topic is there, and keeps its records long enough.

use std::time::{Duration, Instant};

use rdkafka::admin::AdminClient;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;

use super::super::item::Limit;
use super::super::policy::{Resource, tool};
use super::super::{Finding, Item, Problem};
use super::TOPIC;
use super::client::Reasons;
use crate::config::{self, Config};
use crate::kafka::client_config;
use crate::kafka::retention::{self, Retention};

/// A week, which is Kafka's own default: time to mend what keeps a topic from landing.
const RETENTION_FOR_NEW_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// What a broker says instead of the topic's partitions.
pub(super) fn wrong(kafka: &config::Kafka, brokers: usize, error: RDKafkaRespErr) -> Problem {
    let topic = &kafka.topic;
    match RDKafkaErrorCode::from(error) {
        RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
            absent(kafka, brokers)
        }
        RDKafkaErrorCode::TopicAuthorizationFailed => super::access::lacks(
            kafka,
            "Describe",
            Resource::Topic,
            "so it does not even see whether there is one",
        ),
        code => Problem::new(
            format!("{topic}: {code}"),
            "correct kafka.topic, or ask again later",
        ),
    }
}

/// There is none: with the command that makes one.
pub(super) fn absent(kafka: &config::Kafka, brokers: usize) -> Problem {
    let topic = &kafka.topic;
    let problem = Problem::new(
        format!("there is no topic {topic}"),
        "correct kafka.topic, or create it, which groundtrack never does (partitions can be added \
         at any time, never taken away; each makes files of its own)",
    );
    problem.by(format!(
        "{} --create --topic {topic} --partitions 1 \
         --replication-factor {} --config retention.ms={RETENTION_FOR_NEW_MS}",
        tool(kafka, "kafka-topics.sh"),
        brokers.clamp(1, 3),
    ))
}

pub(super) async fn ask(config: &Config, partitions: usize, limit: &Limit) -> Item {
    let since = Instant::now();
    let retention = match limit.wait(retention(&config.kafka)).await {
        Ok(retention) => retention,
        Err(_) => Err("no answer in time".to_owned()),
    };
    Item::new(TOPIC, since, judge(config, partitions, &retention))
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
pub(super) fn judge(
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
            return Finding::Noted(Problem::new(
                format!("{topic}: {partitions}, retention not known ({why})"),
                "let this user describe the topic's settings (DescribeConfigs), or see yourself \
                 that it keeps records for twice files.max_age at least",
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
        return Finding::Well(format!("{topic}: {partitions}, kept {kept}{sized}"));
    };
    let kept = Duration::from_millis(ms.unsigned_abs());
    let words = humantime::format_duration(kept);
    let answer = format!("{topic}: {partitions}, kept for {words}{sized}");
    if kept >= config.files.max_age * 2 {
        return Finding::Well(answer);
    }
    let wanted = config.files.max_age * 2;
    let problem = Problem::new(
        format!("{answer}: records may be gone before they land"),
        format!(
            "lower files.max_age ({}), or keep them for twice that at least",
            humantime::format_duration(config.files.max_age)
        ),
    );
    Finding::Wrong(problem.by(format!(
        "{} --alter --entity-type topics --entity-name {topic} \
         --add-config retention.ms={}",
        tool(&config.kafka, "kafka-configs.sh"),
        wanted.as_millis(),
    )))
}
