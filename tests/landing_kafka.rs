//! The real binary lands from a real Kafka into a folder, and every offset that a read_committed
//! reader sees is looked for in the files: once, as a row or as a dead letter.
//!
//! `tests/servers/servers.py run --only kafka -- cargo test --test landing_kafka -- --ignored`

mod common;

use common::{COOPERATIVE, EAGER, KIP_848, PATIENCE, Rig, STATIC, Setup, Stream, until};
use rdkafka::producer::Producer;

// What holds under each of the group protocols.

fn lands_everything(name: &str, options: &[(&str, &str)]) {
    for instance_id in ["", STATIC] {
        let rig = Rig::new(name, 4);
        let setup = Setup {
            options,
            instance_id,
            ..Setup::default()
        };
        let source = rig.producer();
        source.fill(4, 3000);
        assert_eq!(rig.catch_up("first", &setup), 0);
        rig.audit_all();
        source.fill(3, 100);
        assert_eq!(rig.catch_up("first", &setup), 0);
        rig.audit_all();
    }
}

fn members_come_and_go(name: &str, options: &[(&str, &str)]) {
    let rig = Rig::new(name, 4);
    let setup = Setup {
        options,
        ..Setup::default()
    };
    let stream = Stream::start(&rig, 4);
    let first = rig.member("first", &setup);
    first.wait_for("file landed", 4);
    let second = rig.member("second", &setup);
    second.wait_for("file landed", 2);
    first.drain();
    let third = rig.member("third", &setup);
    third.wait_for("file landed", 2);
    second.drain();
    stream.end();
    rig.wait_until_landed();
    third.drain();
    rig.audit_all();
}

#[test]
#[ignore = "needs real servers"]
fn an_eager_member_lands_everything_once() {
    lands_everything("eager", EAGER);
}

#[test]
#[ignore = "needs real servers"]
fn a_cooperative_member_lands_everything_once() {
    lands_everything("cooperative", COOPERATIVE);
}

#[test]
#[ignore = "needs real servers"]
fn a_member_under_kip_848_lands_everything_once() {
    lands_everything("kip-848", KIP_848);
}

#[test]
#[ignore = "needs real servers"]
fn eager_members_come_and_go_and_every_record_lands_once() {
    members_come_and_go("eager-two", EAGER);
}

#[test]
#[ignore = "needs real servers"]
fn cooperative_members_come_and_go_and_every_record_lands_once() {
    members_come_and_go("cooperative-two", COOPERATIVE);
}

#[test]
#[ignore = "needs real servers"]
fn members_under_kip_848_come_and_go_and_every_record_lands_once() {
    members_come_and_go("kip-848-two", KIP_848);
}

// Ends.

#[test]
#[ignore = "needs real servers"]
fn a_drain_lands_what_was_read_and_exits_with_0() {
    let rig = Rig::new("drain", 2);
    let setup = Setup {
        max_rows: 1_000_000,
        max_age: "1h",
        ..Setup::default()
    };
    rig.producer().fill(2, 2000);
    let member = rig.member("only", &setup);
    member.wait_for("partition claimed", 2);
    until("the topic to be read", || {
        rig.checkpoint(1).is_some().then_some(())
    });
    member.drain();
    // How far it had read when it was told is its own affair; a second run lands the rest.
    assert_eq!(rig.catch_up("only", &setup), 0);
    rig.audit_all();
}

#[test]
#[ignore = "needs real servers"]
fn a_killed_member_is_followed_without_a_record_lost_or_doubled() {
    let rig = Rig::new("killed", 3);
    let setup = Setup {
        instance_id: STATIC,
        max_rows: 200,
        ..Setup::default()
    };
    let stream = Stream::start(&rig, 3);
    for files in [1, 3, 6] {
        let member = rig.member("only", &setup);
        member.wait_for("file landed", files);
        member.kill();
    }
    stream.end();
    let last = rig.member("only", &setup);
    rig.wait_until_landed();
    last.drain();
    rig.audit_all();
}

#[test]
#[ignore = "needs real servers"]
fn under_kip_848_the_successor_of_a_killed_static_member_waits_for_its_session() {
    let rig = Rig::new("unreleased", 2);
    let setup = Setup {
        options: KIP_848,
        instance_id: STATIC,
        ..Setup::default()
    };
    let source = rig.producer();
    source.fill(2, 500);
    let first = rig.member("only", &setup);
    first.wait_for("file landed", 2);
    first.kill();
    source.fill(2, 500);
    let second = rig.member("only", &setup);
    second.wait_for(
        "kafka has not released our instance id yet, waiting for the session of our predecessor",
        1,
    );
    second.wait_for("partition claimed", 2);
    rig.wait_until_landed();
    second.drain();
    rig.audit_all();
}

#[test]
#[ignore = "needs real servers"]
fn the_older_of_two_with_one_instance_id_ends_with_5() {
    let rig = Rig::new("fenced", 1);
    let setup = Setup {
        instance_id: STATIC,
        ..Setup::default()
    };
    rig.producer().fill(1, 100);
    let mut older = rig.member("older", &setup);
    older.wait_for("file landed", 1);
    let younger = rig.member("younger", &setup);
    assert_eq!(older.exit_code(), 5);
    rig.producer().fill(1, 100);
    rig.wait_until_landed();
    younger.drain();
    rig.audit_all();
}

// The log.

#[test]
#[ignore = "needs real servers"]
fn a_record_that_comes_while_idle_at_the_end_of_the_log_lands() {
    let rig = Rig::new("idle", 2);
    let source = rig.producer();
    source.fill(2, 10);
    let member = rig.member("only", &Setup::default());
    rig.wait_until_landed();
    for _ in 0..3 {
        source.fill(1, 1);
        rig.wait_until_landed();
    }
    source.fill(2, 1);
    rig.wait_until_landed();
    member.drain();
    rig.audit_all();
}

#[test]
#[ignore = "needs real servers"]
fn only_committed_transactions_land_and_control_records_are_no_obstacle() {
    let rig = Rig::new("transactions", 2);
    let source = rig.transactional();
    let setup = Setup::default();
    source.transaction(2, 300, true);
    source.transaction(2, 200, false);
    source.transaction(1, 100, true);
    source.transaction(2, 400, false);
    // The log ends with control records alone.
    assert_eq!(rig.catch_up("once", &setup), 0);
    rig.audit_all();
    // What is aborted under a running member, and what is open while it runs.
    let member = rig.member("only", &setup);
    for number in 0..20 {
        source.transaction(2, 20, number % 2 == 0);
    }
    source.producer.begin_transaction().unwrap();
    source.fill(2, 50);
    rig.wait_until_landed();
    rig.audit(&rig.committed());
    source.producer.commit_transaction(PATIENCE).unwrap();
    rig.wait_until_landed();
    member.drain();
    rig.audit_all();
}

#[test]
#[ignore = "needs real servers"]
fn a_topic_of_aborted_records_alone_is_caught_up_with() {
    let rig = Rig::new("aborted", 1);
    rig.transactional().transaction(1, 50, false);
    assert_eq!(rig.catch_up("once", &Setup::default()), 0);
    assert!(rig.committed().is_empty());
    rig.audit_all();
}

#[test]
#[ignore = "needs real servers"]
fn an_added_partition_is_landed_from_its_first_record() {
    let rig = Rig::new("added", 1);
    let setup = Setup {
        start: "latest",
        ..Setup::default()
    };
    let member = rig.member("only", &setup);
    member.wait_for("partition claimed", 1);
    let source = rig.producer();
    source.fill(1, 100);
    rig.wait_until_landed();
    rig.add_partitions(3);
    let source = rig.producer();
    source.fill(3, 100);
    rig.wait_until_landed();
    member.drain();
    rig.audit_all();
}

#[test]
#[ignore = "needs real servers"]
fn a_topic_that_does_not_exist_yet_is_waited_for() {
    for options in [EAGER, KIP_848] {
        let rig = Rig::new("awaited", 0);
        let setup = Setup {
            options,
            ..Setup::default()
        };
        let member = rig.member("only", &setup);
        member.wait_for("request failed, asking again", 1);
        assert_eq!(rig.metadata(), 0, "nobody but the operator creates it");
        rig.create_topic(2);
        rig.producer().fill(2, 100);
        rig.wait_until_landed();
        assert!(!member.has_said("subscriber ends"));
        member.drain();
        rig.audit_all();
    }
}
