//! Where a group's first claims start, whatever happens half-way through them.

use std::collections::BTreeSet;

use crate::common::{COOPERATIVE, Member, Rig, STATIC, Setup, until};

const PARTITIONS: i32 = 6;
/// So many records of each partition lie before the start, and so many come after it.
const EACH: i64 = 20;
/// Where the group has committed.
const COMMITTED: i64 = 7;

/// A topic with a past, the `start` and the first offset that it means.
fn begun(rig: &Rig, start: &str) -> (String, i64) {
    rig.producer().fill(PARTITIONS, EACH as usize);
    match start {
        "latest" => (start.to_owned(), EACH),
        "committed" => {
            rig.commit(PARTITIONS, COMMITTED);
            (start.to_owned(), COMMITTED)
        }
        "a time" => {
            // Behind every record's time so far, which Kafka knows to the millisecond.
            let before = chrono::Utc::now().timestamp_millis();
            let now = until("the next millisecond", || {
                Some(chrono::Utc::now()).filter(|now| now.timestamp_millis() > before)
            });
            let text = now.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
            (text, EACH)
        }
        _ => (start.to_owned(), 0),
    }
}

fn from(first: i64) -> BTreeSet<(i32, i64)> {
    (0..PARTITIONS)
        .flat_map(|partition| (first..2 * EACH).map(move |offset| (partition, offset)))
        .collect()
}

fn a_crash_half_way_passes_nothing_over(start: &str) {
    let rig = Rig::new("half-way", PARTITIONS);
    let (start, first) = begun(&rig, start);
    let setup = Setup {
        instance_id: STATIC,
        start: &start,
        max_age: "1h",
        ..Setup::default()
    };
    let member = rig.member("only", &setup);
    member.wait_for("partition claimed", PARTITIONS as usize);
    member.kill();
    // Nothing has landed; without these files it is as if it had been killed before they were
    // written.
    for partition in PARTITIONS / 2..PARTITIONS {
        rig.forget(partition);
    }
    rig.producer().fill(PARTITIONS, EACH as usize);
    assert_eq!(rig.catch_up("only", &setup), 0);
    rig.audit(&from(first));
}

fn two_at_once_pass_nothing_over(start: &str) {
    let rig = Rig::new("at-once", PARTITIONS);
    let (start, first) = begun(&rig, start);
    let setup = Setup {
        options: COOPERATIVE,
        start: &start,
        ..Setup::default()
    };
    let members: Vec<Member> = ["first", "second"]
        .into_iter()
        .map(|name| rig.member(name, &setup))
        .collect();
    for member in &members {
        member.wait_for("partition claimed", 1);
    }
    rig.producer().fill(PARTITIONS, EACH as usize);
    rig.wait_until_landed();
    members.into_iter().for_each(Member::drain);
    rig.audit(&from(first));
}

#[test]
#[ignore = "needs real servers"]
fn a_crash_half_way_through_the_first_claims_passes_nothing_over_from_earliest() {
    a_crash_half_way_passes_nothing_over("earliest");
}

#[test]
#[ignore = "needs real servers"]
fn a_crash_half_way_through_the_first_claims_passes_nothing_over_from_latest() {
    a_crash_half_way_passes_nothing_over("latest");
}

#[test]
#[ignore = "needs real servers"]
fn a_crash_half_way_through_the_first_claims_passes_nothing_over_from_committed() {
    a_crash_half_way_passes_nothing_over("committed");
}

#[test]
#[ignore = "needs real servers"]
fn a_crash_half_way_through_the_first_claims_passes_nothing_over_from_a_time() {
    a_crash_half_way_passes_nothing_over("a time");
}

#[test]
#[ignore = "needs real servers"]
fn two_members_at_once_pass_nothing_over_from_earliest() {
    two_at_once_pass_nothing_over("earliest");
}

#[test]
#[ignore = "needs real servers"]
fn two_members_at_once_pass_nothing_over_from_latest() {
    two_at_once_pass_nothing_over("latest");
}

#[test]
#[ignore = "needs real servers"]
fn two_members_at_once_pass_nothing_over_from_committed() {
    two_at_once_pass_nothing_over("committed");
}

#[test]
#[ignore = "needs real servers"]
fn two_members_at_once_pass_nothing_over_from_a_time() {
    two_at_once_pass_nothing_over("a time");
}
