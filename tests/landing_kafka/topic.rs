//! Topics that come, go and grow.

use crate::common::{COOPERATIVE, EAGER, KIP_848, Rig, Setup};

#[test]
#[ignore = "needs real servers"]
fn an_added_partition_is_landed_from_its_first_record() {
    for options in [EAGER, COOPERATIVE, KIP_848] {
        let rig = Rig::new("added", 1);
        let setup = Setup {
            options,
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
