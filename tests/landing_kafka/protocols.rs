//! What holds under each of the group protocols.

use crate::common::{COOPERATIVE, EAGER, KIP_848, Rig, STATIC, Setup, Stream, until};

const STATIC_TWO: [&str; 2] = ["host-1", "host-2"];
const READ_AGAIN: &str = "partition claimed, a batch that was begun is read again";
const GIVEN_UP: &str = "revoked partitions given up before all that was read had landed";
const LOST: &str = "partitions lost, our session had ended";

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

fn members_come_and_go(name: &str, options: &[(&str, &str)], ids: [&str; 3]) {
    let rig = Rig::new(name, 4);
    let member = |number: usize| {
        let setup = Setup {
            options,
            instance_id: ids[number],
            ..Setup::default()
        };
        rig.member(&format!("member-{number}"), &setup)
    };
    let stream = Stream::start(&rig, 4);
    let first = member(0);
    first.wait_for("file landed", 4);
    let second = member(1);
    second.wait_for("file landed", 2);
    first.drain();
    let third = member(2);
    third.wait_for("file landed", 2);
    second.drain();
    stream.end();
    rig.wait_until_landed();
    third.drain();
    rig.audit_all();
}

/// Partitions are taken away while batches of them are open: these land first, so that the next
/// owner has nothing to read again.
fn what_was_read_lands_before_it_is_given_back(name: &str, options: &[(&str, &str)]) {
    for ids in [["", ""], STATIC_TWO] {
        let rig = Rig::new(name, 4);
        let setup = Setup {
            options,
            max_rows: 300,
            max_age: "1h",
            ..Setup::default()
        };
        let of = |instance_id| Setup {
            instance_id,
            ..setup
        };
        rig.producer().fill(4, 500);
        let first = rig.member("first", &of(ids[0]));
        until("the first batches, the rest is open", || {
            (0..4)
                .all(|partition| rig.landed_to(partition) == 300)
                .then_some(())
        });
        let second = rig.member("second", &of(ids[1]));
        second.wait_for("partition claimed", 2);
        for claimed in second.said("partition claimed") {
            assert_eq!(claimed["offset"], 500, "{claimed}");
        }
        assert!(!second.has_said(READ_AGAIN) && !first.has_said(GIVEN_UP));
        first.drain();
        second.drain();
        assert_eq!(rig.catch_up("first", &setup), 0);
        rig.audit_all();
    }
}

/// A member is stopped for longer than its session, another takes over, and the first goes on with
/// what it had in hand.
fn a_lost_partition_is_dropped(name: &str, options: &[(&str, &str)]) {
    let rig = Rig::new(name, 2);
    let setup = Setup {
        options,
        max_rows: 200,
        ..Setup::default()
    };
    let stream = Stream::start(&rig, 2);
    let zombie = rig.member("zombie", &setup);
    zombie.wait_for("file landed", 4);
    zombie.signal("-STOP");
    let successor = rig.member("successor", &setup);
    successor.wait_for("file landed", 4);
    zombie.signal("-CONT");
    zombie.wait_for(LOST, 1);
    // It joins again, and lands again.
    let landed = zombie.said("file landed").len();
    zombie.wait_for("file landed", landed + 2);
    stream.end();
    rig.wait_until_landed();
    assert!(!zombie.has_said("subscriber ends"), "no restart is needed");
    zombie.drain();
    successor.drain();
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
    members_come_and_go("eager-two", EAGER, [""; 3]);
}

#[test]
#[ignore = "needs real servers"]
fn cooperative_members_come_and_go_and_every_record_lands_once() {
    members_come_and_go("cooperative-two", COOPERATIVE, [""; 3]);
}

#[test]
#[ignore = "needs real servers"]
fn members_under_kip_848_come_and_go_and_every_record_lands_once() {
    members_come_and_go("kip-848-two", KIP_848, [""; 3]);
}

#[test]
#[ignore = "needs real servers"]
fn eager_static_members_come_and_go_and_every_record_lands_once() {
    members_come_and_go("eager-static", EAGER, ["host-1", "host-2", "host-3"]);
}

#[test]
#[ignore = "needs real servers"]
fn under_eager_what_was_read_lands_before_its_partition_is_given_back() {
    what_was_read_lands_before_it_is_given_back("eager-revoked", EAGER);
}

#[test]
#[ignore = "needs real servers"]
fn under_eager_a_member_stopped_past_its_session_drops_its_partitions() {
    a_lost_partition_is_dropped("eager-lost", EAGER);
}

#[test]
#[ignore = "needs real servers"]
fn cooperative_static_members_come_and_go_and_every_record_lands_once() {
    members_come_and_go(
        "cooperative-static",
        COOPERATIVE,
        ["host-1", "host-2", "host-3"],
    );
}

#[test]
#[ignore = "needs real servers"]
fn under_cooperative_what_was_read_lands_before_its_partition_is_given_back() {
    what_was_read_lands_before_it_is_given_back("cooperative-revoked", COOPERATIVE);
}

#[test]
#[ignore = "needs real servers"]
fn under_cooperative_a_member_stopped_past_its_session_drops_its_partitions() {
    a_lost_partition_is_dropped("cooperative-lost", COOPERATIVE);
}

#[test]
#[ignore = "needs real servers"]
fn under_kip_848_what_was_read_lands_before_its_partition_is_given_back() {
    what_was_read_lands_before_it_is_given_back("kip-848-revoked", KIP_848);
}

#[test]
#[ignore = "needs real servers"]
fn under_kip_848_a_member_stopped_past_its_session_drops_its_partitions() {
    a_lost_partition_is_dropped("kip-848-lost", KIP_848);
}

#[test]
#[ignore = "needs real servers"]
fn an_upload_that_hangs_holds_a_rebalance_no_longer_than_a_drain() {
    let rig = Rig::new("revoked-hung", 1);
    let setup = Setup {
        more: "[limits]\ndrain = \"2s\"\n",
        ..Setup::default()
    };
    rig.producer().fill(1, 1000);
    let hung = Setup {
        instance_id: "host-2",
        faults: "prepare-object:before=hang@1",
        ..setup
    };
    let first = rig.member("first", &hung);
    until("the batch to be begun", || {
        let checkpoint = rig.checkpoint(0)?;
        (!checkpoint["pending"].is_null()).then_some(())
    });
    // The assignors give the one partition to the first by name.
    let second = rig.member(
        "second",
        &Setup {
            instance_id: "host-1",
            ..setup
        },
    );
    first.wait_for(GIVEN_UP, 1);
    second.wait_for(READ_AGAIN, 1);
    rig.wait_until_landed();
    first.kill();
    second.drain();
    rig.audit_all();
}

#[test]
#[ignore = "needs real servers"]
fn static_members_under_kip_848_come_and_go_and_every_record_lands_once() {
    members_come_and_go("kip-848-static", KIP_848, ["host-1", "host-2", "host-3"]);
}
