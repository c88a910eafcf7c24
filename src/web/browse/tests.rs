//! The pages of the topic, through the app, on an embedded broker.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::test;
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::config::Config;
use crate::demo::broker::Broker;
use crate::status::{PartitionState, Status};
use crate::web::tests::{answer_by, get, header};

const GOOD: &str =
    r#"{"timestamp":1,"message":"success","iss_position":{"latitude":"1.5","longitude":"-2"}}"#;
const BAD: &str = "<script>alert(1)</script>";

/// A topic with one record that becomes a row and one that does not.
async fn topic() -> (Broker, Config) {
    let broker = Broker::start(&slog::Logger::root(slog::Discard, slog::o!())).unwrap();
    let mut config = crate::testing::config();
    broker.create_topic(&config.kafka.topic, 1).unwrap();
    config.kafka.brokers = vec![broker.bootstrap_servers().unwrap()];
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", config.kafka.brokers.join(","))
        .create()
        .unwrap();
    let topic = config.kafka.topic.clone();
    for value in [GOOD, BAD] {
        let headers = OwnedHeaders::new().insert(Header {
            key: "polled-at",
            value: Some("now"),
        });
        let record = FutureRecord::to(&topic)
            .key("k")
            .payload(value)
            .headers(headers);
        producer
            .send(record, Duration::from_secs(20))
            .await
            .unwrap();
    }
    (broker, config)
}

async fn ask(config: &Config, status: &Arc<Status>, path: &str) -> (StatusCode, String) {
    let answer = answer_by(config.clone(), status, get(path)).await;
    let code = answer.status();
    let body = test::read_body(answer).await;
    (code, String::from_utf8(body.to_vec()).unwrap())
}

#[actix::test]
async fn the_records_are_listed_the_newest_first_and_hostile_ones_are_text() {
    let (_broker, config) = topic().await;
    let (code, html) = ask(&config, &Status::new(), "/messages").await;
    assert_eq!(code, StatusCode::OK);
    let newest = html.find("/message?partition=0&amp;offset=1").unwrap();
    let oldest = html.find("/message?partition=0&amp;offset=0").unwrap();
    assert!(newest < oldest);
    assert!(!html.contains(BAD) && html.contains("&lt;script&gt;"));
}

#[actix::test]
async fn a_record_has_a_page_of_its_own_with_its_row_and_its_place() {
    let (_broker, config) = topic().await;
    let status = Status::new();
    let partition = status.partition(&config.kafka.topic, 0);
    partition.set_state(PartitionState::Landing);
    partition
        .next_offset
        .store(1, std::sync::atomic::Ordering::Relaxed);
    let (code, html) = ask(&config, &status, "/message?partition=0&offset=0").await;
    assert_eq!(code, StatusCode::OK);
    for part in [
        "It has landed.",
        "latitude",
        "1.5",
        "polled-at",
        "&quot;iss_position&quot;: {",
    ] {
        assert!(html.contains(part), "{part} is missing in {html}");
    }
    let (_, html) = ask(&config, &status, "/message?partition=0&offset=1").await;
    assert!(html.contains("A dead letter: syntax") && html.contains("It has not been read yet."));
    let (code, words) = ask(&config, &status, "/message?partition=0&offset=2").await;
    assert_eq!(code, StatusCode::NOT_FOUND);
    assert!(words.contains("has no record at offset 2"), "{words}");
}

#[actix::test]
async fn each_page_has_a_json_twin() {
    let (_broker, config) = topic().await;
    let json = async |path| {
        let (code, text) = ask(&config, &Status::new(), path).await;
        assert_eq!(code, StatusCode::OK, "{text}");
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let topic = json("/api/topic").await;
    assert_eq!(topic["partitions"][0]["end_offset"], 2);
    let messages = json("/api/messages?partition=0&offset=0&limit=1").await;
    assert_eq!(messages["messages"][0]["value"], GOOD);
    let message = json("/api/message?partition=0&offset=1").await;
    assert_eq!(message["decoded"]["dead_letter"]["cause"], "syntax");
}

#[actix::test]
async fn records_are_downloaded_under_the_topics_name() {
    let (_broker, config) = topic().await;
    let path = get("/messages.jsonl?partition=0");
    let answer = answer_by(config.clone(), &Status::new(), path).await;
    let name = format!("attachment; filename=\"{}.jsonl\"", config.kafka.topic);
    assert_eq!(header(&answer, "content-disposition"), name);
    let body = test::read_body(answer).await;
    assert_eq!(body.split(|byte| *byte == b'\n').count(), 3);
    let (_, csv) = ask(&config, &Status::new(), "/messages.csv?partition=0").await;
    assert!(
        csv.starts_with("partition,offset,timestamp_ms,key,value\r\n0,1,"),
        "{csv}"
    );
}

#[actix::test]
async fn a_wrong_question_and_an_absent_topic_are_answered_in_words() {
    let (_broker, mut config) = topic().await;
    let status = Status::new();
    let (code, html) = ask(&config, &status, "/messages?partition=%3Cb%3E").await;
    assert_eq!(code, StatusCode::BAD_REQUEST);
    assert!(html.contains("partition: must be a number from 0 on") && !html.contains("<b>"));
    let (code, _) = ask(&config, &status, "/messages?partition=9").await;
    assert_eq!(code, StatusCode::NOT_FOUND);
    config.kafka.topic = "nowhere".to_owned();
    let (code, html) = ask(&config, &status, "/topic").await;
    assert_eq!(code, StatusCode::NOT_FOUND);
    assert!(html.contains("the topic nowhere does not exist"), "{html}");
}
