//! `--until-caught-up`, alone and beside the service.

use crate::common::{Rig, STATIC, Setup, Stream};

#[test]
#[ignore = "needs real servers"]
fn records_that_come_after_its_start_do_not_keep_it_from_its_end() {
    let rig = Rig::new("caught-up", 2);
    rig.producer().fill(2, 1000);
    let stream = Stream::start(&rig, 2);
    assert_eq!(rig.catch_up("once", &Setup::default()), 0);
    stream.end();
    for partition in 0..2 {
        assert!(
            rig.landed_to(partition) >= 1000,
            "what there was has landed"
        );
    }
    assert_eq!(rig.catch_up("once", &Setup::default()), 0);
    rig.audit_all();
}

/// As `{instance_id}-once` it does not fence the service, whose partitions count by their
/// checkpoints.
#[test]
#[ignore = "needs real servers"]
fn beside_the_service_it_ends_with_0_and_the_service_goes_on() {
    let rig = Rig::new("beside", 3);
    let setup = Setup {
        instance_id: STATIC,
        ..Setup::default()
    };
    let service = rig.member("service", &setup);
    let stream = Stream::start(&rig, 3);
    service.wait_for("file landed", 3);
    assert_eq!(rig.catch_up("once", &setup), 0);
    let landed = service.said("file landed").len();
    service.wait_for("file landed", landed + 3);
    stream.end();
    rig.wait_until_landed();
    assert!(!service.has_said("subscriber ends"));
    service.drain();
    rig.audit_all();
}

#[test]
#[ignore = "needs real servers"]
fn with_only_stopped_partitions_left_it_ends_with_1_and_names_them() {
    let rig = Rig::new("stopped", 3);
    let setup = Setup::default();
    let source = rig.producer();
    source.fill(3, 100);
    assert_eq!(rig.catch_up("once", &setup), 0);
    source.fill(3, 100);
    rig.delete_records(1, 150);
    let mut once = rig.once("once", &setup);
    assert_eq!(once.exit_code(), 1);
    let said = once.text();
    assert!(said.contains("partitions [1]"), "{said}");
    assert_eq!(
        [0, 1, 2].map(|partition| rig.landed_to(partition)),
        [200, 100, 200]
    );
}
