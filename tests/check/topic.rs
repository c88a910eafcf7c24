//! The topic and the bucket as they are: absent, short-lived, of the future, keeping versions.

use super::common::{Rig, Source};
use super::place::{Place, Written, variable};

#[test]
#[ignore = "needs kafka and minio: tests/servers/servers.py run"]
fn the_command_for_an_absent_topic_makes_one_that_fits() {
    let place = Place::new(&Written::plain("absent"));
    let found = place.check();
    assert_eq!(found.level("topic"), "fail", "{:#}", found.0);
    place.administrate(&found.text("topic", "command"));
    place.check().assert_green();
}

#[test]
#[ignore = "needs kafka and minio: tests/servers/servers.py run"]
fn a_topic_that_forgets_before_a_file_is_closed_is_told_with_the_command() {
    let written = Written::plain("short");
    let place = Place::new(&written);
    place.administrate(&format!(
        "kafka-topics.sh --bootstrap-server {} --create --topic {} --partitions 1 --config \
         retention.ms=900",
        written.brokers, place.topic
    ));
    let found = place.check();
    assert_eq!(found.level("topic"), "fail", "{:#}", found.0);
    place.administrate(&found.text("topic", "command"));
    place.check().assert_green();
}

#[test]
#[ignore = "needs kafka and minio: tests/servers/servers.py run"]
fn a_record_of_the_future_tells_of_a_wrong_clock() {
    let rig = Rig::new("future", 1);
    let written = Written {
        topic: rig.topic.clone(),
        ..Written::plain("future")
    };
    let place = Place::new(&written);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let now_ms = i64::try_from(now.as_millis()).unwrap();
    let source: Source = rig.producer();
    source.send_at(now_ms, 0);
    place.check().assert_green();
    source.send_at(now_ms + 1_800_000, 1);
    let found = place.check();
    assert_eq!(found.not_ok(), ["kafka clock"], "{:#}", found.0);
    let answer = found.text("kafka clock", "answer");
    assert!(answer.contains("offset 1 of partition 0"), "{answer}");
}

/// What MinIO answers its administrator.
fn minio(method: &str, path: &str, body: &str) -> String {
    let output = std::process::Command::new("python3")
        .arg(variable("CONTROL"))
        .args(["request", method, path, body])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[ignore = "needs kafka and minio: tests/servers/servers.py run"]
fn a_bucket_that_keeps_versions_for_ever_is_noted_and_none_is_left_there() {
    let rig = Rig::new("versions", 1);
    let bucket = rig.topic.to_lowercase();
    minio("PUT", &format!("/{bucket}"), "");
    minio(
        "PUT",
        &format!("/{bucket}?versioning="),
        "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>",
    );
    let written = Written {
        topic: rig.topic.clone(),
        store: format!("s3://{bucket}"),
        ..Written::plain("versions")
    };
    let place = Place::new(&written);
    let found = place.check();
    assert_eq!(found.not_ok(), ["versions"], "{:#}", found.0);
    let rule: serde_json::Value = serde_json::from_str(&found.text("versions", "command")).unwrap();
    minio(
        "PUT",
        &format!("/{bucket}?lifecycle="),
        &format!(
            "<LifecycleConfiguration><Rule><ID>{}</ID><Status>Enabled</Status><Filter><Prefix>{}\
             </Prefix></Filter><NoncurrentVersionExpiration><NoncurrentDays>{}</NoncurrentDays>\
             </NoncurrentVersionExpiration></Rule></LifecycleConfiguration>",
            rule["ID"].as_str().unwrap(),
            rule["Filter"]["Prefix"].as_str().unwrap(),
            rule["NoncurrentVersionExpiration"]["NoncurrentDays"],
        ),
    );
    place.check().assert_green();
    // Neither an object nor a mark that one was removed.
    let versions = minio("GET", &format!("/{bucket}?versions="), "");
    assert!(versions.contains("<ListVersionsResult"), "{versions}");
    assert!(
        !versions.contains("<Version>") && !versions.contains("<DeleteMarker>"),
        "{versions}"
    );
}
