use rdkafka::error::RDKafkaErrorCode;
use tokio_util::sync::CancellationToken;

use super::client::{Partition, View};
use super::*;
use crate::demo::broker::Broker;
use crate::kafka::retention::Retention;

fn config_of(broker: &Broker) -> Config {
    let mut config = crate::testing::config();
    config.kafka.brokers = vec![broker.bootstrap_servers().unwrap()];
    config
}

fn broker() -> Broker {
    Broker::start(&slog::Logger::root(slog::Discard, slog::o!())).unwrap()
}

fn named<'a>(kafka: &'a Kafka, name: &str) -> &'a Finding {
    &kafka
        .items
        .iter()
        .find(|item| item.name == name)
        .unwrap()
        .finding
}

fn wrong(finding: &Finding) -> Problem {
    match finding {
        Finding::Wrong(problem) => problem.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_topic_that_exists_is_well_and_its_partitions_are_counted() {
    let broker = broker();
    broker.create_topic("project_topic", 3).unwrap();
    let kafka = ask(&config_of(&broker), &Limit::for_tests()).await;
    for name in [BROKERS, READ, PUBLISH, GROUP, CLOCK] {
        let finding = named(&kafka, name);
        assert!(matches!(finding, Finding::Well(_)), "{name}: {finding:?}");
    }
    // The embedded broker cannot tell its retention.
    let Finding::Noted(topic) = named(&kafka, TOPIC) else {
        panic!("{:?}", kafka.items);
    };
    assert!(topic.answer.contains("3 partitions"), "{topic:?}");
    assert_eq!(kafka.partitions, Some(3));
}

#[tokio::test]
async fn a_missing_topic_is_said_and_not_created() {
    let broker = broker();
    let config = config_of(&broker);
    for _ in 0..2 {
        let kafka = ask(&config, &Limit::for_tests()).await;
        assert!(named(&kafka, BROKERS).is_well());
        let command = wrong(named(&kafka, TOPIC)).command.unwrap();
        assert!(
            command.contains("--create --topic project_topic --partitions 1"),
            "{command}"
        );
        assert!(!named(&kafka, READ).is_well());
        assert_eq!(kafka.partitions, None);
    }
}

#[tokio::test]
async fn brokers_that_are_away_are_told_with_the_reason() {
    let config = crate::testing::config();
    let kafka = ask(&config, &Limit::for_tests()).await;
    let problem = wrong(named(&kafka, BROKERS));
    assert!(problem.answer.contains("127.0.0.1:9"), "{problem:?}");
    assert!(problem.mend.contains("kafka.brokers"), "{problem:?}");
    assert!(kafka.items[1..].iter().all(|item| !item.finding.is_well()));
}

#[tokio::test]
async fn a_check_that_is_interrupted_says_so() {
    let stop = CancellationToken::new();
    stop.cancel();
    let kafka = ask(&crate::testing::config(), &Limit::from_now(stop)).await;
    assert_eq!(wrong(named(&kafka, BROKERS)).answer, "interrupted");
}

#[tokio::test]
async fn an_address_that_takes_no_connection_is_named() {
    let view = View {
        cluster_id: None,
        brokers: vec!["127.0.0.1:9".to_owned()],
        topic: Ok(vec![Partition { id: 0, leader: 1 }]),
    };
    let unreachable = brokers::unreachable(&view.brokers, &Limit::for_tests()).await;
    let problem = brokers::judge(&view, &unreachable).unwrap_err();
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
        topic::judge(&config, 1, &Ok(retention))
    };
    let command = wrong(&judged(Some(599_999), None)).command.unwrap();
    assert!(command.contains("retention.ms=600000"), "{command}");
    assert!(judged(Some(600_000), None).is_well());
    let Finding::Well(kept) = judged(None, None) else {
        panic!("kept for ever");
    };
    assert!(kept.contains("for ever"), "{kept}");
    let Finding::Well(sized) = judged(None, Some(7)) else {
        panic!("bounded in size");
    };
    assert!(
        sized.contains("cut to 7 bytes") && !sized.contains("for ever"),
        "{sized}"
    );
    let unknown = topic::judge(&config, 1, &Err("no".to_owned()));
    assert!(matches!(unknown, Finding::Noted(_)), "{unknown:?}");
}

#[test]
fn a_topic_that_may_not_be_seen_is_no_missing_topic() {
    let kafka = crate::testing::config().kafka;
    let denied = rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    assert_eq!(
        RDKafkaErrorCode::from(denied),
        RDKafkaErrorCode::TopicAuthorizationFailed
    );
    let command = topic::wrong(&kafka, 1, denied).command.unwrap();
    assert!(
        command.contains("--operation Describe --topic project_topic"),
        "{command}"
    );
}
