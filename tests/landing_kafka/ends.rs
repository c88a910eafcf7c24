//! Members that end, or are ended.

use crate::common::{
    COOPERATIVE, EAGER, KIP_848, Member, OwnKafka, Rig, STATIC, Setup, Stream, until,
};

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

#[test]
#[ignore = "needs real servers"]
fn members_end_cleanly_while_their_coordinator_is_gone() {
    let kafka = OwnKafka::start();
    let mut members: Vec<(Rig, Member)> = Vec::new();
    for options in [EAGER, COOPERATIVE, KIP_848] {
        for instance_id in ["", STATIC] {
            let rig = Rig::on(kafka.brokers(), "coordinator", 2);
            rig.producer().fill(2, 300);
            let setup = Setup {
                options,
                instance_id,
                ..Setup::default()
            };
            let member = rig.member("only", &setup);
            members.push((rig, member));
        }
    }
    members.iter().for_each(|(rig, _)| rig.wait_until_landed());
    kafka.kill();
    let rigs: Vec<Rig> = members
        .into_iter()
        .map(|(rig, member)| {
            member.drain();
            rig
        })
        .collect();
    kafka.start_again();
    rigs.iter().for_each(Rig::audit_all);
}
