//! What the log holds beside records that follow each other.

use rdkafka::producer::Producer;

use crate::common::{PATIENCE, Rig, Setup};

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
