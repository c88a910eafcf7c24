//! Beside the running service nothing moves, whatever a check tries.

use std::collections::BTreeMap;
use std::time::Instant;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::common::{Member, PATIENCE, Rig};
use super::place::{Place, Written};

/// So many records land while checks run.
const RECORDS: usize = 20_000;
const PARTITIONS: i32 = 3;

/// What the group has committed.
fn committed(rig: &Rig) -> BTreeMap<i32, i64> {
    let consumer: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", &rig.brokers)
        .set("group.id", &rig.topic)
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition(&rig.topic, partition);
    }
    let found = consumer.committed_offsets(list, PATIENCE).unwrap();
    let offsets = found.elements();
    let offsets = offsets.iter().map(|element| match element.offset() {
        Offset::Offset(offset) => (element.partition(), offset),
        _ => (element.partition(), -1),
    });
    offsets.collect()
}

fn beside(options: &[(&'static str, &str)], name: &str) {
    let rig = Rig::new(name, PARTITIONS);
    let mut written = Written {
        topic: rig.topic.clone(),
        ..Written::plain(name)
    };
    for (option, value) in options {
        written = written.with(option, value);
    }
    let place = Place::new(&written);
    let source = rig.producer();
    source.fill(PARTITIONS, 100);
    let member = Member::start(&place.config(), &[], "");
    member.wait_for("partition claimed", PARTITIONS as usize);
    let ends = rig.watermarks();
    let mut checks = 0;
    let mut sent = 0;
    let mut before = committed(&rig);
    let deadline = Instant::now() + PATIENCE;
    // Under load first, then at rest, when a commit would be the only one.
    loop {
        if sent < RECORDS {
            source.fill(PARTITIONS, 1_000);
            sent += 1_000 * PARTITIONS as usize;
        }
        place.check().assert_green();
        checks += 1;
        let now = committed(&rig);
        for (partition, offset) in &now {
            assert!(*offset >= before[partition], "{before:?} became {now:?}");
        }
        before = now;
        let end = rig.watermarks();
        let is_landed = end
            .iter()
            .all(|(partition, (_, end))| before[partition] == *end);
        if sent >= RECORDS && is_landed {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "{before:?} of {end:?}, from {ends:?}"
        );
    }
    let at_rest = committed(&rig);
    for _ in 0..3 {
        place.check().assert_green();
    }
    assert_eq!(committed(&rig), at_rest);
    for said in [
        "partitions revoked",
        "partitions lost, our session had ended",
        "a new consumer joins the group",
        "another writer was faster, the partition is claimed again while it is ours",
        "request failed, asking again",
    ] {
        assert!(
            !member.has_said(said),
            "{said} after {checks} checks: {}",
            member.text()
        );
    }
    assert_eq!(member.said("partitions assigned").len(), 1);
    member.drain();
    // Each record once, and nothing in the folders that is not the service's own.
    let verified = place.run("verify", &["--topic", "--json"]);
    let document: serde_json::Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert!(verified.status.success(), "{document:#}");
    assert!(!document.to_string().contains(".check-"), "{document:#}");
}

#[test]
#[ignore = "needs kafka and minio: tests/servers/servers.py run"]
fn checks_in_a_loop_beside_a_member_move_nothing() {
    beside(&[("session.timeout.ms", "6000")], "beside");
}

#[test]
#[ignore = "needs kafka and minio: tests/servers/servers.py run"]
fn checks_in_a_loop_beside_a_member_that_the_broker_manages_move_nothing() {
    beside(&[("group.protocol", "consumer")], "beside-848");
}
