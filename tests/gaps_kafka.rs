//! Where Kafka and the checkpoint disagree, on a real Kafka: retention, topics made anew, logs cut
//! short, corrupt batches, and holes that are no gaps. The partition stops and says how to go on,
//! and the others go on.
//!
//! `tests/servers/servers.py run --only kafka -- cargo test --test gaps_kafka -- --ignored`

mod common;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{COOPERATIVE, EAGER, KIP_848, OwnKafka, PATIENCE, Rig, Setup, footers, until};
use rdkafka::producer::Producer;
use serde_json::Value;

/// What the message about a gap asks to be added to the configuration.
fn skip(rig: &Rig, partition: i32, first_offset: i64) -> String {
    format!(
        "[[skip]]\ntopic = \"{}\"\npartition = {partition}\nfirst_offset = {first_offset}\n",
        rig.topic
    )
}

fn with<'a>(setup: &Setup<'a>, more: &'a str) -> Setup<'a> {
    Setup { more, ..*setup }
}

/// One batch holds all that a test produces before its member starts.
fn one_batch() -> Setup<'static> {
    Setup {
        max_rows: 100_000,
        ..Setup::default()
    }
}

/// The gaps that the dead letters record, in the order of their offsets.
fn gaps(rig: &Rig) -> Vec<[i64; 2]> {
    let folder = rig.store().join("dead_letters");
    if !folder.exists() {
        return Vec::new();
    }
    let gap = |footer: Value| -> Option<[i64; 2]> {
        let gap = footer["file"]["gap"].as_array()?;
        Some([gap[0].as_i64()?, gap[1].as_i64()?])
    };
    let mut found: Vec<[i64; 2]> = footers(&folder).into_iter().filter_map(gap).collect();
    found.sort_unstable();
    found
}

/// A file where a folder of the store should be: no object can be created there.
struct Blocked(PathBuf);

impl Blocked {
    fn new(rig: &Rig, folder: &str) -> Self {
        std::fs::create_dir_all(rig.store()).unwrap();
        let path = rig.store().join(folder);
        std::fs::write(&path, "").unwrap();
        Self(path)
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Kills a member between the begin of a batch and its landing, which this folder holds up.
fn kill_while_pending(rig: &Rig, setup: &Setup, blocked: &str) -> [i64; 2] {
    let _blocked = Blocked::new(rig, blocked);
    let member = rig.member("only", setup);
    let range = until("a batch that was begun", || {
        let checkpoint = rig.checkpoint(0)?;
        let end = checkpoint["pending"]["end"].as_i64()?;
        Some([checkpoint["next_offset"].as_i64()?, end])
    });
    if blocked == "dead_letters" {
        until("the data file", || {
            rig.store().join("parquet_files").exists().then_some(())
        });
    }
    member.kill();
    range
}

/// Stops once more, for a gap of just these offsets, and asks for the word at this one.
fn assert_gap(rig: &Rig, setup: &Setup, lost: [i64; 2], first_offset: i64) {
    assert_eq!(rig.catch_up("once", setup), 1, "it must stop");
    let cause = rig.wait_until_stopped(0);
    let numbers = format!("offsets {} to {} are lost", lost[0], lost[1] - 1);
    assert!(cause.contains(&numbers), "{numbers}: {cause}");
    let asks = skip(rig, 0, first_offset);
    assert!(cause.contains(&asks), "{cause}");
}

fn path_of_checkpoint(rig: &Rig) -> PathBuf {
    let path = format!("checkpoints/{0}/{0}/0.json", rig.topic);
    rig.store().join(path)
}

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
    assert_gap(&rig, &setup, [100, 150], 100);
    assert_eq!(rig.landed_to(0), 100);
    assert_eq!(rig.landed_to(1), 200, "the other goes on");
    for elsewhere in [0, 99, 101, 149, 150] {
        let skip = skip(&rig, 0, elsewhere);
        assert_gap(&rig, &with(&setup, &skip), [100, 150], 100);
    }
    let skip = skip(&rig, 0, 100);
    assert_eq!(rig.catch_up("once", &with(&setup, &skip)), 0);
    expected.extend(rig.committed());
    rig.audit(&expected);
    assert_eq!(rig.landed_to(0), 200);
    assert!(rig.checkpoint(0).unwrap()["stopped"].is_null());
    assert_eq!(gaps(&rig), [[100, 150]]);
    // The word was for that gap: the next one needs its own.
    source.fill(1, 100);
    rig.delete_records(0, 250);
    assert_gap(&rig, &with(&setup, &skip), [200, 250], 200);
}

#[test]
#[ignore = "needs real servers"]
fn a_gap_within_a_pending_range_waits_for_the_word_behind_its_data_files() {
    let rig = Rig::new("gap-within", 1);
    let setup = one_batch();
    rig.producer().fill(1, 100);
    let range = kill_while_pending(&rig, &setup, "parquet_files");
    assert_eq!(range, [0, 100]);
    rig.delete_records(0, 40);
    assert_gap(&rig, &setup, [0, 40], 0);
    let rows: BTreeSet<(i32, i64)> = (40..100).filter(|n| n % 50 != 49).map(|n| (0, n)).collect();
    rig.audit(&rows);
    let waits = rig.checkpoint(0).unwrap();
    assert_eq!(waits["pending"]["end"], 100);
    assert!(waits["pending"]["gap"].is_null(), "no word yet: {waits}");
    let void = skip(&rig, 0, 40);
    assert_gap(&rig, &with(&setup, &void), [0, 40], 0);
    let word = skip(&rig, 0, 0);
    assert_eq!(rig.catch_up("once", &with(&setup, &word)), 0);
    rig.audit_all();
    assert_eq!(gaps(&rig), [[0, 40]]);
}

#[test]
#[ignore = "needs real servers"]
fn one_word_passes_a_gap_that_spans_a_pending_range_and_what_follows() {
    let rig = Rig::new("gap-spans", 1);
    let setup = one_batch();
    let source = rig.producer();
    source.fill(1, 100);
    let range = kill_while_pending(&rig, &setup, "parquet_files");
    assert_eq!(range, [0, 100]);
    source.fill(1, 100);
    rig.delete_records(0, 150);
    assert_gap(&rig, &setup, [0, 150], 0);
    assert_eq!(rig.landed_to(0), 0);
    let word = skip(&rig, 0, 0);
    assert_eq!(rig.catch_up("once", &with(&setup, &word)), 0);
    rig.audit_all();
    assert_eq!(rig.landed_to(0), 200);
    assert_eq!(gaps(&rig), [[0, 100], [100, 150]]);
}

#[test]
#[ignore = "needs real servers"]
fn a_pending_range_whose_files_are_there_needs_no_word_but_the_gap_behind_it_does() {
    let rig = Rig::new("gap-behind", 1);
    let setup = one_batch();
    let source = rig.producer();
    // None of them is a dead letter.
    source.fill(1, 40);
    kill_while_pending(&rig, &setup, "parquet_files");
    let pending = std::fs::read(path_of_checkpoint(&rig)).unwrap();
    assert_eq!(rig.catch_up("once", &setup), 0);
    let mut expected = rig.committed();
    // As if it had been killed before the checkpoint said that the range has landed.
    std::fs::write(path_of_checkpoint(&rig), pending).unwrap();
    source.fill(1, 100);
    rig.delete_records(0, 100);
    assert_gap(&rig, &setup, [40, 100], 40);
    rig.audit(&expected);
    let word = skip(&rig, 0, 40);
    assert_eq!(rig.catch_up("once", &with(&setup, &word)), 0);
    expected.extend(rig.committed());
    rig.audit(&expected);
    assert_eq!(gaps(&rig), [[40, 100]]);
}

#[test]
#[ignore = "needs real servers"]
fn a_word_does_not_cover_what_is_lost_after_it_was_given() {
    let rig = Rig::new("gap-more", 1);
    let setup = one_batch();
    rig.producer().fill(1, 100);
    kill_while_pending(&rig, &setup, "parquet_files");
    rig.delete_records(0, 40);
    let word = skip(&rig, 0, 0);
    {
        // The word is given, and the file that records the loss cannot be written.
        let _blocked = Blocked::new(&rig, "dead_letters");
        let member = rig.member("only", &with(&setup, &word));
        until("the word in the checkpoint", || {
            let checkpoint = rig.checkpoint(0)?;
            (checkpoint["pending"]["gap"] == serde_json::json!([0, 40])).then_some(())
        });
        until("the data file", || {
            rig.store().join("parquet_files").exists().then_some(())
        });
        member.kill();
    }
    rig.delete_records(0, 70);
    // All the rows that Kafka no longer has are in the data file, but for the dead letter 49.
    assert_gap(&rig, &setup, [0, 70], 0);
    assert_eq!(rig.catch_up("once", &with(&setup, &word)), 0);
    let rows = (40..100).filter(|n| *n != 49);
    rig.audit(&rows.map(|n| (0, n)).collect());
    assert_eq!(gaps(&rig), [[0, 70]]);
}

#[test]
#[ignore = "needs real servers"]
fn a_reload_with_the_word_passes_a_gap_without_a_restart_of_the_process() {
    let rig = Rig::new("gap-reload", 2);
    let setup = Setup::default();
    let source = rig.producer();
    source.fill(2, 100);
    rig.delete_records(0, 50);
    assert_eq!(rig.catch_up("only", &setup), 0, "a first start is no gap");
    let mut expected = rig.committed();
    source.fill(2, 100);
    rig.delete_records(0, 130);
    let member = rig.member("only", &setup);
    rig.wait_until_stopped(0);
    until("the other partition", || {
        (rig.landed_to(1) == 200).then_some(())
    });
    let word = skip(&rig, 0, 100);
    rig.config("only", &with(&setup, &word));
    member.signal("-HUP");
    until("the stopped partition", || {
        (rig.landed_to(0) == 200).then_some(())
    });
    source.fill(2, 20);
    rig.wait_until_landed();
    member.drain();
    expected.extend(rig.committed());
    rig.audit(&expected);
    assert!(rig.checkpoint(0).unwrap()["stopped"].is_null());
    assert_eq!(gaps(&rig), [[100, 130]]);
}

#[test]
#[ignore = "needs real servers"]
fn what_was_read_before_a_gap_lands_before_the_partition_stops() {
    for options in [EAGER, COOPERATIVE, KIP_848] {
        let rig = Rig::new("gap-memory", 2);
        let setup = Setup {
            options,
            listen: "127.0.0.1:0",
            max_rows: 100_000,
            max_age: "1h",
            ..Setup::default()
        };
        let source = rig.producer();
        source.fill(2, 100);
        let member = rig.member("only", &setup);
        until("the records in memory", || {
            (member.position(0) == Some(100) && member.position(1) == Some(100)).then_some(())
        });
        assert_eq!(rig.landed_to(0), 0, "they are in memory alone");
        // Records that nobody may read yet, and some of them lost.
        let open = rig.transactional();
        open.producer.begin_transaction().unwrap();
        open.fill(1, 100);
        rig.delete_records(0, 150);
        let cause = rig.wait_until_stopped(0);
        assert!(cause.contains(&skip(&rig, 0, 100)), "{cause}");
        assert_eq!(rig.landed_to(0), 100);
        source.fill_one(1, 10);
        until("the other partition", || {
            (member.position(1) == Some(110)).then_some(())
        });
        member.drain();
        open.producer.commit_transaction(PATIENCE).unwrap();
        let expected = |partition, count| (0..count).map(move |offset| (partition, offset));
        let expected = expected(0, 100).chain(expected(1, 110)).collect();
        assert_eq!(rig.landed(), expected);
    }
}

// Other logs.

fn assert_other_log(rig: &Rig, expected: &BTreeSet<(i32, i64)>) {
    let cause = rig.wait_until_stopped(0);
    for part in [
        "another log",
        "kafka.group",
        "store.data",
        "store.dead_letters",
    ] {
        assert!(cause.contains(part), "{part}: {cause}");
    }
    rig.audit(expected);
}

/// A topic made anew with fewer records, and with more: those bring no offset out of range.
#[test]
#[ignore = "needs real servers"]
fn a_topic_made_anew_is_another_log_that_no_skip_passes() {
    for records in [50, 100, 300] {
        let rig = Rig::new("anew", 1);
        let setup = Setup::default();
        rig.producer().fill(1, 100);
        assert_eq!(rig.catch_up("once", &setup), 0);
        let expected = rig.committed();
        rig.delete_topic();
        rig.create_topic(1);
        rig.producer().fill(1, records);
        assert_eq!(rig.catch_up("once", &setup), 1);
        assert_other_log(&rig, &expected);
        rig.delete_records(0, records as i64);
        let word = skip(&rig, 0, 100);
        assert_eq!(rig.catch_up("once", &with(&setup, &word)), 1);
        assert_other_log(&rig, &expected);
    }
}

#[test]
#[ignore = "needs real servers"]
fn nothing_of_a_topic_made_anew_fills_a_pending_range() {
    let rig = Rig::new("anew-pending", 1);
    let setup = one_batch();
    rig.producer().fill(1, 100);
    kill_while_pending(&rig, &setup, "parquet_files");
    rig.delete_topic();
    rig.create_topic(1);
    rig.producer().fill(1, 300);
    let word = skip(&rig, 0, 0);
    assert_eq!(rig.catch_up("once", &with(&setup, &word)), 1);
    assert_other_log(&rig, &BTreeSet::new());
}

/// What a member holds in memory is all that is left of it. (Under cooperative-sticky librdkafka
/// calls the partitions lost, as after the end of a session, and what was read is dropped.)
fn deleted_while_running(name: &str, options: &[(&str, &str)]) {
    let rig = Rig::new(name, 1);
    let setup = Setup {
        options,
        listen: "127.0.0.1:0",
        max_rows: 100_000,
        max_age: "1h",
        ..Setup::default()
    };
    rig.producer().fill(1, 100);
    let member = rig.member("only", &setup);
    until("the records in memory", || {
        (member.position(0) == Some(100)).then_some(())
    });
    let expected = rig.committed();
    rig.delete_topic();
    until("the records in the store", || {
        (rig.landed_to(0) == 100).then_some(())
    });
    rig.create_topic(1);
    rig.producer().fill(1, 300);
    assert_other_log(&rig, &expected);
    member.drain();
    assert_other_log(&rig, &expected);
}

#[test]
#[ignore = "needs real servers"]
fn what_an_eager_member_read_of_a_topic_lands_when_the_topic_is_deleted() {
    deleted_while_running("deleted-eager", EAGER);
}

#[test]
#[ignore = "needs real servers"]
fn what_a_member_of_kip_848_read_of_a_topic_lands_when_the_topic_is_deleted() {
    deleted_while_running("deleted-kip-848", KIP_848);
}

fn made_anew_while_running(name: &str, options: &[(&str, &str)]) {
    for records in [50, 300] {
        let rig = Rig::new(name, 1);
        let setup = Setup {
            options,
            ..Setup::default()
        };
        rig.producer().fill(1, 100);
        let member = rig.member("only", &setup);
        rig.wait_until_landed();
        let expected = rig.committed();
        rig.delete_topic();
        rig.create_topic(1);
        rig.producer().fill(1, records);
        assert_other_log(&rig, &expected);
        member.drain();
        assert_other_log(&rig, &expected);
    }
}

#[test]
#[ignore = "needs real servers"]
fn a_topic_made_anew_under_an_eager_member_stops_it() {
    made_anew_while_running("anew-eager", EAGER);
}

#[test]
#[ignore = "needs real servers"]
fn a_topic_made_anew_under_a_cooperative_member_stops_it() {
    made_anew_while_running("anew-cooperative", COOPERATIVE);
}

#[test]
#[ignore = "needs real servers"]
fn a_topic_made_anew_under_a_member_of_kip_848_stops_it() {
    made_anew_while_running("anew-kip-848", KIP_848);
}

#[test]
#[ignore = "needs real servers"]
fn the_same_topic_of_another_cluster_is_another_log() {
    let other = OwnKafka::start();
    let mut rig = Rig::new("cluster", 1);
    rig.producer().fill(1, 100);
    assert_eq!(rig.catch_up("once", &Setup::default()), 0);
    let expected = rig.committed();
    let twin = Rig::twin(&rig, other.brokers());
    twin.producer().fill(1, 300);
    rig.brokers = other.brokers();
    let word = skip(&rig, 0, 100);
    let setup = with(&Setup::default(), &word);
    assert_eq!(rig.catch_up("once", &setup), 1);
    let cause = rig.wait_until_stopped(0);
    assert!(cause.contains("cluster id"), "{cause}");
    assert_other_log(&rig, &expected);
}

// Logs that were cut short or damaged on the broker's disk: a Kafka of their own.

/// Under the same ids: a disk that was lost, or an election of a leader that lagged behind.
#[test]
#[ignore = "needs real servers"]
fn a_log_cut_short_under_the_same_topic_id_is_another_log() {
    let other = OwnKafka::start();
    let make = |name: &str| {
        let rig = Rig::on(other.brokers(), name, 1);
        rig.producer().fill(1, 100);
        rig
    };
    let (fewer, more, running) = (make("cut-fewer"), make("cut-more"), make("cut-running"));
    let setup = Setup::default();
    for rig in [&fewer, &more] {
        assert_eq!(rig.catch_up("once", &setup), 0);
    }
    let member = running.member("only", &setup);
    running.wait_until_landed();
    let expected: BTreeSet<(i32, i64)> = (0..100).map(|offset| (0, offset)).collect();
    other.stop();
    for rig in [&fewer, &more, &running] {
        other.empty(&rig.topic);
    }
    other.start_again();
    fewer.producer().fill(1, 30);
    more.producer().fill(1, 300);
    running.producer().fill(1, 30);
    let word = skip(&fewer, 0, 100);
    assert_eq!(fewer.catch_up("once", &with(&setup, &word)), 1);
    let cause = fewer.wait_until_stopped(0);
    assert!(
        cause.contains("ends at offset 30") && cause.contains("reached 100"),
        "{cause}"
    );
    assert_other_log(&fewer, &expected);
    let word = skip(&more, 0, 100);
    assert_eq!(more.catch_up("once", &with(&setup, &word)), 1);
    let cause = more.wait_until_stopped(0);
    assert!(cause.contains("record at offset 99 is not"), "{cause}");
    assert_other_log(&more, &expected);
    assert_other_log(&running, &expected);
    member.drain();
}

#[test]
#[ignore = "needs real servers"]
fn a_corrupt_batch_stops_its_partition_until_its_records_are_deleted_and_passed() {
    let other = OwnKafka::start();
    let setup = Setup {
        more: "[supervision]\nbackoff_max = \"2s\"\n",
        ..Setup::default()
    };
    type Harm = fn(&mut [u8]);
    let harms: [(&str, Harm); 3] = [
        ("corrupt-records", |batch| batch[61..].fill(0xff)),
        ("corrupt-magic", |batch| batch[16] = 9),
        ("corrupt-length", |batch| batch[8..12].fill(0x7f)),
    ];
    let rigs: Vec<(Rig, Harm)> = harms
        .into_iter()
        .map(|(name, harm)| {
            let rig = Rig::on(other.brokers(), name, 2);
            for _ in 0..3 {
                rig.producer().fill(2, 100);
            }
            (rig, harm)
        })
        .collect();
    other.stop();
    let damaged: Vec<[i64; 2]> = rigs
        .iter()
        .map(|(rig, harm)| other.damage(&rig.topic, 100, *harm))
        .collect();
    other.start_again();
    for ((rig, _), [from, end]) in rigs.iter().zip(damaged) {
        assert_eq!(rig.catch_up("once", &setup), 1);
        let cause = rig.wait_until_stopped(0);
        let stopped = format!("unreadable: offset {from}");
        assert!(cause.starts_with(&stopped), "{cause}");
        assert!(cause.contains(&skip(rig, 0, from)), "{cause}");
        assert_eq!(rig.landed_to(0), from, "what was read before it has landed");
        assert_eq!(rig.landed_to(1), 300, "the other goes on");
        let to = asked_to_delete(&cause);
        assert!(
            (end..=300).contains(&to),
            "the batch ends at {end}: {cause}"
        );
        rig.delete_records(0, to);
        let word = format!("{}{}", setup.more, skip(rig, 0, from));
        assert_eq!(rig.catch_up("once", &with(&setup, &word)), 0);
        let of_first = (0..from).chain(to..300).map(|offset| (0, offset));
        let of_other = (0..300).map(|offset| (1, offset));
        rig.audit(&of_first.chain(of_other).collect());
        assert_eq!(gaps(rig), [[from, to]]);
    }
}

/// Behind the last offset that the message asks to be deleted.
fn asked_to_delete(cause: &str) -> i64 {
    let (_, json) = cause.split_once("<<< '").unwrap();
    let (json, _) = json.split_once('\'').unwrap();
    let json: Value = serde_json::from_str(json).unwrap();
    json["partitions"][0]["offset"].as_i64().unwrap()
}

// Holes are no gaps.

#[test]
#[ignore = "needs real servers"]
fn what_compaction_removed_is_a_hole() {
    let rig = Rig::new("compacted", 1);
    let source = rig.producer();
    let setup = Setup::default();
    source.fill_keyed(300, 10);
    assert_eq!(rig.catch_up("once", &setup), 0);
    let first: BTreeSet<(i32, i64)> = (0..300).map(|offset| (0, offset)).collect();
    rig.audit(&first);
    source.fill_keyed(300, 10);
    rig.alter_configs(&[
        ("cleanup.policy", "compact"),
        ("segment.ms", "200"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("delete.retention.ms", "0"),
    ]);
    until("compaction", || {
        // A record rolls a segment that is old enough; the newest is never compacted.
        source.fill_keyed(1, 10);
        std::thread::sleep(Duration::from_millis(250));
        let left = rig.committed();
        (left.range((0, 0)..(0, 600)).count() <= 10).then_some(())
    });
    let before = rig.committed();
    assert!(!before.contains(&(0, 299)), "the last record that landed");
    assert_eq!(rig.catch_up("once", &setup), 0);
    let after = rig.committed();
    let landed: BTreeSet<(i32, i64)> = &rig.landed() - &first;
    assert!(
        landed.is_subset(&before) && landed.is_superset(&after),
        "{landed:?}"
    );
    assert_eq!(rig.landed_to(0), rig.watermarks()[&0].1);
    assert!(gaps(&rig).is_empty());
}

#[test]
#[ignore = "needs real servers"]
fn an_open_transaction_is_named_and_lands_when_it_ends() {
    let rig = Rig::new("open", 1);
    let source = rig.transactional();
    source.transaction(1, 20, true);
    let setup = Setup {
        listen: "127.0.0.1:0",
        ..Setup::default()
    };
    let member = rig.member("only", &setup);
    rig.wait_until_landed();
    source.producer.begin_transaction().unwrap();
    source.fill(1, 50);
    until("the open transaction in the status", || {
        let partition = member.partition_status(0)?;
        (partition["held_back_records"] == 50).then_some(())
    });
    assert_eq!(rig.landed_to(0), 21, "nothing of it lands");
    source.producer.commit_transaction(PATIENCE).unwrap();
    rig.wait_until_landed();
    until("the end of the transaction in the status", || {
        let partition = member.partition_status(0)?;
        (partition["held_back_records"] == 0).then_some(())
    });
    member.drain();
    rig.audit_all();
}

#[test]
#[ignore = "needs real servers"]
fn retention_over_nothing_but_holes_is_no_gap() {
    let rig = Rig::new("holes", 1);
    let source = rig.transactional();
    let setup = Setup::default();
    source.transaction(1, 50, false);
    let member = rig.member("only", &setup);
    rig.wait_until_landed();
    source.transaction(1, 50, false);
    rig.wait_until_landed();
    member.drain();
    let checkpoint = rig.checkpoint(0).unwrap();
    assert_eq!(checkpoint["next_offset"], 0, "no batch is made of holes");
    assert_eq!(checkpoint["holes_to"], 102);
    rig.delete_records(0, 102);
    source.transaction(1, 10, true);
    assert_eq!(rig.catch_up("once", &setup), 0);
    rig.audit_all();
    assert!(gaps(&rig).is_empty());
}

#[test]
#[ignore = "needs real servers"]
fn a_batch_ends_behind_the_holes_at_its_end() {
    let rig = Rig::new("holes-end", 1);
    let source = rig.transactional();
    source.transaction(1, 50, true);
    source.transaction(1, 50, false);
    assert_eq!(rig.catch_up("once", &Setup::default()), 0);
    assert_eq!(rig.landed_to(0), 102);
    rig.delete_records(0, 102);
    source.transaction(1, 10, true);
    let expected = (0..50).chain(102..112).map(|offset| (0, offset));
    assert_eq!(rig.catch_up("once", &Setup::default()), 0);
    rig.audit(&expected.collect());
    assert!(gaps(&rig).is_empty());
}

// Before it happens.

#[test]
#[ignore = "needs real servers"]
fn the_time_until_retention_is_shown_and_warned_of_before_it_is_over() {
    let rig = Rig::with_configs("retention", 1, &[("retention.ms", "120000")]);
    let setup = Setup {
        listen: "127.0.0.1:0",
        max_rows: 100_000,
        max_age: "1h",
        ..Setup::default()
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now_ms = i64::try_from(now.as_millis()).unwrap();
    let source = rig.producer();
    source.send_at(now_ms - 80_000, 0);
    let member = rig.member("only", &setup);
    let left = until("the time that is left", || {
        member.partition_status(0)?["retention_left_s"].as_f64()
    });
    assert!((20.0..=40.0).contains(&left), "{left} s of 40");
    let status = member.get("/api/status").unwrap();
    assert_eq!(status["health"], "degraded", "{status}");
    let trouble = &status["troubles"][0];
    assert_eq!(trouble["place"], "partition 0's retention", "{status}");
    let text = trouble["text"].as_str().unwrap();
    assert!(
        text.contains("offset 0") && text.contains("retention.ms=240000"),
        "{text}"
    );
    let metrics = member.get_text("/metrics").unwrap();
    let family = format!(
        "groundtrack_retention_left_seconds{{topic=\"{}\",partition=\"0\"}} ",
        rig.topic
    );
    assert!(metrics.contains(&family), "{metrics}");
    assert_eq!(member.get("/healthz").unwrap()["health"], "degraded");
    rig.alter_configs(&[("retention.ms", "-1")]);
    until("a retention without end", || {
        let status = member.get("/api/status")?;
        (status["health"] == "healthy" && status["partitions"][0]["retention_left_s"].is_null())
            .then_some(())
    });
    member.drain();
    rig.audit_all();
}
