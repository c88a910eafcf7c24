//! Where Kafka and the checkpoint disagree, on a real Kafka: retention, topics made anew, corrupt
//! batches, and holes that are no gaps. The partition stops and says how to go on, the others do.
//!
//! `tests/servers/servers.py run --only kafka -- cargo test --test gaps_kafka -- --ignored`

mod common;

use common::{Rig, Setup, footers};

// Retention.

#[test]
#[ignore = "needs real servers"]
fn lost_records_stop_their_partition_until_the_operator_passes_them() {
    let rig = Rig::new("gap", 2);
    let setup = Setup::default();
    let source = rig.producer();
    source.fill(2, 100);
    assert_eq!(rig.catch_up("once", &setup), 0);
    let mut expected = rig.committed();
    source.fill(2, 100);
    rig.delete_records(0, 150);
    assert_eq!(
        rig.catch_up("once", &setup),
        1,
        "only a stopped one is left"
    );
    let cause = rig.wait_until_stopped(0);
    let asks = format!(
        "[[skip]] topic = \"{}\" partition = 0 first_offset = 100",
        rig.topic
    );
    assert!(cause.contains(&asks), "{cause}");
    assert_eq!(rig.landed_to(0), 100);
    assert_eq!(rig.landed_to(1), 200, "the other goes on");
    let skip = format!(
        "[[skip]]\ntopic = \"{}\"\npartition = 0\nfirst_offset = 100\n",
        rig.topic
    );
    let passed = Setup {
        more: &skip,
        ..setup
    };
    assert_eq!(rig.catch_up("once", &passed), 0);
    expected.extend(rig.committed());
    rig.audit(&expected);
    assert_eq!(rig.landed_to(0), 200);
    assert!(rig.checkpoint(0).unwrap()["stopped"].is_null());
    let gap = footers(&rig.store().join("dead_letters"))
        .into_iter()
        .find_map(|footer| footer["file"]["gap"].as_array().cloned());
    assert_eq!(gap.unwrap(), [100, 150]);
}

// Other logs.

#[test]
#[ignore = "needs real servers"]
fn a_topic_made_anew_is_another_log() {
    let rig = Rig::new("anew", 1);
    let setup = Setup::default();
    rig.producer().fill(1, 100);
    assert_eq!(rig.catch_up("once", &setup), 0);
    let expected = rig.committed();
    rig.delete_topic();
    rig.create_topic(1);
    // More than before: no offset is out of range.
    rig.producer().fill(1, 300);
    assert_eq!(rig.catch_up("once", &setup), 1);
    let cause = rig.wait_until_stopped(0);
    assert!(
        cause.contains("another log") && cause.contains("kafka.group"),
        "{cause}"
    );
    rig.audit(&expected);
}

#[test]
#[ignore = "needs real servers"]
fn a_topic_made_anew_under_a_running_member_stops_it() {
    let rig = Rig::new("anew-running", 1);
    rig.producer().fill(1, 100);
    let member = rig.member("only", &Setup::default());
    rig.wait_until_landed();
    let expected = rig.committed();
    rig.delete_topic();
    rig.create_topic(1);
    rig.producer().fill(1, 300);
    let cause = rig.wait_until_stopped(0);
    assert!(cause.contains("another log"), "{cause}");
    member.drain();
    rig.audit(&expected);
}
