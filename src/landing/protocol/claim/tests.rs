use super::*;
use crate::config::ColumnType;
use crate::landing::protocol::checkpoint::{Adopted, Pending, Stopped};
use crate::landing::protocol::samples::{
    checkpoint, column, layout, layout_of, now, pending, root, topic,
};

const MADE: &str = "made";
const WON: &str = "won";
const WON_AGAIN: &str = "won-again";

fn tag(tag: &str) -> ETag {
    ETag(tag.into())
}

fn terms() -> Terms {
    Terms {
        topic: "iss".into(),
        partition: 0,
        writer: "me".into(),
        data: "data".into(),
        dead_letters: "dead".into(),
        layout: layout(),
        start: Start::Earliest,
        skips: Vec::new(),
        held_epoch: 0,
    }
}

fn log(low: i64, high: i64) -> LogView {
    LogView {
        topic: topic(),
        low,
        high,
    }
}

fn matches(etag: &str) -> Condition {
    Condition::Matches(tag(etag))
}

fn won(etag: &str) -> ClaimEvent {
    ClaimEvent::Swapped(SwapOutcome::Won(tag(etag)))
}

fn same_last() -> ClaimEvent {
    ClaimEvent::Last(RecordAt::Found {
        timestamp_ms: 7,
        hash: 11,
    })
}

fn found(checkpoint: &Checkpoint) -> ClaimEvent {
    ClaimEvent::Read(Found::Checkpoint(Box::new(checkpoint.clone()), tag("read")))
}

/// What the claim swaps in first: our epoch and writer.
fn fenced_off(found: &Checkpoint) -> Checkpoint {
    Checkpoint {
        epoch: found.epoch + 1,
        writer: "me".into(),
        ..written(found, &now())
    }
}

fn swap(checkpoint: Checkpoint, condition: Condition) -> ClaimAction {
    ClaimAction::Swap {
        checkpoint: Box::new(checkpoint),
        condition,
    }
}

/// A claim that holds the checkpoint found, and asks the broker.
fn holding(terms: Terms, current: &Checkpoint) -> Claim {
    let (mut claim, action) = Claim::new(terms);
    assert_eq!(action, ClaimAction::Read);
    let action = claim.step(found(current), &now());
    assert_eq!(action, swap(fenced_off(current), matches("read")));
    let action = claim.step(won(WON), &now());
    assert_eq!(action, ClaimAction::AskLog);
    claim
}

/// What a checkpoint comes to over this log, whose record at `last` is the one that landed.
fn compared(terms: Terms, current: &Checkpoint, log: LogView) -> ClaimAction {
    let mut claim = holding(terms, current);
    match claim.step(ClaimEvent::Log(log), &now()) {
        ClaimAction::CompareLast(offset) => {
            assert_eq!(Some(offset), current.last.map(|last| last.offset));
            claim.step(same_last(), &now())
        }
        action => action,
    }
}

fn stopped_by(current: &Checkpoint, action: &ClaimAction) -> String {
    let held = fenced_off(current);
    let ClaimAction::Swap {
        checkpoint,
        condition,
    } = action
    else {
        panic!("{action:?} swaps no cause in");
    };
    let cause = checkpoint.stopped.as_ref().unwrap().cause.clone();
    let expected = Checkpoint {
        stopped: checkpoint.stopped.clone(),
        ..written(&held, &now())
    };
    assert_eq!((&**checkpoint, condition), (&expected, &matches(WON)));
    cause
}

/// The cause by which a claim stops over this log.
fn stop_cause(terms: Terms, current: &Checkpoint, log: LogView) -> String {
    stopped_by(current, &compared(terms, current, log))
}

fn land(checkpoint: Checkpoint, etag: &str, from: i64) -> ClaimAction {
    done(Claimed::Land {
        checkpoint,
        etag: tag(etag),
        from,
    })
}

// Nothing under the checkpoint's key.

/// A claim that found nothing at all, and asks whether the group has other checkpoints.
fn absent(terms: Terms) -> Claim {
    let (mut claim, _) = Claim::new(terms);
    let action = claim.step(ClaimEvent::Read(Found::Absent), &now());
    assert_eq!(action, ClaimAction::ListObjects);
    let action = claim.step(ClaimEvent::Objects(None), &now());
    assert_eq!(action, ClaimAction::ReadSibling);
    claim
}

/// What is done about the start over the log [10, 90), and the claim.
fn starting(terms: Terms, sibling: Option<(i32, i64)>) -> (Claim, ClaimAction) {
    let mut claim = absent(terms);
    let sibling = sibling.map(|(partitions, started_ms)| Sibling {
        partitions,
        started_ms,
        adopted: None,
    });
    let action = claim.step(ClaimEvent::Sibling(sibling), &now());
    assert_eq!(action, ClaimAction::AskLog);
    let action = claim.step(ClaimEvent::Log(log(10, 90)), &now());
    (claim, action)
}

fn created_at(action: &ClaimAction) -> i64 {
    match action {
        ClaimAction::Swap {
            checkpoint,
            condition: Condition::Absent,
        } => checkpoint.first_offset,
        other => panic!("{other:?} creates nothing"),
    }
}

fn with_start(start: Start) -> Terms {
    Terms { start, ..terms() }
}

fn new_checkpoint(offset: i64) -> Checkpoint {
    Checkpoint {
        revision: 1,
        epoch: 1,
        writer: "me".into(),
        time: now().text,
        first_offset: offset,
        next_offset: offset,
        holes_to: offset,
        last: None,
        started_ms: now().ms,
        roots: vec![root(offset, "data", "dead")],
        ..checkpoint()
    }
}

#[test]
fn a_partition_without_a_checkpoint_or_objects_is_created_and_lands() {
    let (mut claim, action) = starting(terms(), None);
    assert_eq!(action, swap(new_checkpoint(10), Condition::Absent));
    assert_eq!(claim.step(won(MADE), &now()), ClaimAction::AskLog);
    let action = claim.step(ClaimEvent::Log(log(10, 95)), &now());
    assert_eq!(action, ClaimAction::ReadGroups);
    let action = claim.step(ClaimEvent::Groups(Vec::new()), &now());
    assert_eq!(action, land(new_checkpoint(10), MADE, 10));
}

#[test]
fn the_groups_first_claim_starts_where_the_configuration_says() {
    assert_eq!(
        created_at(&starting(with_start(Start::Earliest), None).1),
        10
    );
    assert_eq!(created_at(&starting(with_start(Start::Latest), None).1), 90);
    for (start, question) in [
        (Start::Committed, StartQuestion::Committed),
        (Start::Time(55), StartQuestion::Time(55)),
    ] {
        for sibling in [None, Some((4, 1_000))] {
            let (mut claim, action) = starting(with_start(start), sibling);
            assert_eq!(action, ClaimAction::AskStart(question));
            let action = claim.step(ClaimEvent::Start(40), &now());
            assert_eq!(created_at(&action), 40);
        }
    }
}

#[test]
fn latest_means_the_offset_at_the_groups_first_claim() {
    let (mut claim, action) = starting(with_start(Start::Latest), Some((4, 1_000)));
    assert_eq!(action, ClaimAction::AskStart(StartQuestion::Time(1_000)));
    let action = claim.step(ClaimEvent::Start(33), &now());
    let expected = Checkpoint {
        started_ms: 1_000,
        ..new_checkpoint(33)
    };
    assert_eq!(action, swap(expected, Condition::Absent));
}

#[test]
fn a_partition_newer_than_the_group_starts_at_its_earliest_offset() {
    for start in [
        Start::Earliest,
        Start::Latest,
        Start::Committed,
        Start::Time(55),
    ] {
        let at = |partition| Terms {
            partition,
            ..with_start(start)
        };
        let (_, action) = starting(at(2), Some((2, 1_000)));
        let expected = Checkpoint {
            partitions: 2,
            started_ms: 1_000,
            ..new_checkpoint(10)
        };
        assert_eq!(action, swap(expected, Condition::Absent));
        let (_, action) = starting(at(1), Some((2, 1_000)));
        let asks = matches!(action, ClaimAction::AskStart(_));
        assert_eq!(asks, start != Start::Earliest, "{start:?}");
    }
}

#[test]
fn an_interrupted_takeover_starts_no_partition_that_the_job_knew() {
    let adopted = Some(Adopted {
        job: "a-job".into(),
        batch: Some(57),
    });
    let at = |partition| {
        let terms = Terms {
            partition,
            ..terms()
        };
        let (mut claim, _) = Claim::new(terms);
        claim.step(ClaimEvent::Read(Found::Absent), &now());
        claim.step(ClaimEvent::Objects(None), &now());
        let sibling = Checkpoint {
            partitions: 2,
            adopted: adopted.clone(),
            ..checkpoint()
        };
        let action = claim.step(ClaimEvent::Sibling(Some(sibling.sibling())), &now());
        (claim, action)
    };
    for partition in [0, 1] {
        let (_, action) = at(partition);
        let stopped = Claimed::Stopped(INTERRUPTED_TAKEOVER.to_owned());
        assert_eq!(action, done(stopped));
    }
    // One that was added behind the job's back is new, and its own siblings still know.
    let (mut claim, action) = at(2);
    assert_eq!(action, ClaimAction::AskLog);
    let action = claim.step(ClaimEvent::Log(log(10, 90)), &now());
    let expected = Checkpoint {
        partitions: 2,
        started_ms: 1_000,
        adopted,
        ..new_checkpoint(10)
    };
    assert_eq!(action, swap(expected, Condition::Absent));
}

#[test]
fn a_start_outside_the_log_is_moved_to_its_edge() {
    for (answer, expected) in [(0, 10), (i64::MAX, 90), (10, 10), (90, 90)] {
        let (mut claim, _) = starting(with_start(Start::Committed), None);
        let action = claim.step(ClaimEvent::Start(answer), &now());
        assert_eq!(created_at(&action), expected);
    }
}

#[test]
fn objects_without_a_checkpoint_are_foreign_only_if_it_is_still_absent() {
    let listed = || {
        let (mut claim, _) = Claim::new(terms());
        claim.step(ClaimEvent::Read(Found::Absent), &now());
        let action = claim.step(ClaimEvent::Objects(Some("data/x".into())), &now());
        assert_eq!(action, ClaimAction::Read);
        claim
    };
    let action = listed().step(ClaimEvent::Read(Found::Absent), &now());
    let ClaimAction::Done(claimed) = action else {
        panic!("{action:?} is no end");
    };
    let Claimed::Stopped(cause) = *claimed else {
        panic!("{claimed:?} is no stop");
    };
    assert!(
        cause.starts_with("foreign:") && cause.contains("data/x"),
        "{cause}"
    );

    let action = listed().step(found(&checkpoint()), &now());
    assert_eq!(action, swap(fenced_off(&checkpoint()), matches("read")));
}

#[test]
fn a_partition_that_another_writer_creates_first_is_claimed_again() {
    let (mut claim, _) = starting(terms(), None);
    let action = claim.step(ClaimEvent::Swapped(SwapOutcome::Fenced), &now());
    assert_eq!(action, done(Claimed::Fenced));
}

// A checkpoint is found.

#[test]
fn the_older_writer_is_fenced_before_the_broker_is_asked() {
    let (mut claim, _) = Claim::new(terms());
    let ClaimAction::Swap {
        checkpoint: next,
        condition,
    } = claim.step(found(&checkpoint()), &now())
    else {
        panic!("nothing is swapped in");
    };
    assert_eq!(condition, matches("read"));
    assert_eq!((next.epoch, next.revision), (4, 6));
    assert_eq!((next.writer.as_str(), &next.time), ("me", &now().text));
    let untouched = Checkpoint {
        revision: 5,
        epoch: 3,
        writer: checkpoint().writer,
        time: checkpoint().time,
        ..*next
    };
    assert_eq!(untouched, checkpoint());
    assert_eq!(claim.step(won(WON), &now()), ClaimAction::AskLog);
}

#[test]
fn a_checkpoint_that_continues_its_log_lands_from_its_position() {
    let held = fenced_off(&checkpoint());
    let action = compared(terms(), &checkpoint(), log(150, 500));
    assert_eq!(action, land(held, WON, 200));

    let behind_holes = Checkpoint {
        holes_to: 240,
        ..checkpoint()
    };
    let held = fenced_off(&behind_holes);
    for low in [150, 240] {
        let action = compared(terms(), &behind_holes, log(low, 500));
        assert_eq!(action, land(held.clone(), WON, 240));
    }
}

#[test]
fn a_claim_that_loses_its_swap_is_fenced() {
    let (mut claim, _) = Claim::new(terms());
    claim.step(found(&checkpoint()), &now());
    let action = claim.step(ClaimEvent::Swapped(SwapOutcome::Fenced), &now());
    assert_eq!(action, done(Claimed::Fenced));
}

#[test]
fn a_checkpoint_that_vanishes_stops_the_partition() {
    let (mut claim, _) = Claim::new(terms());
    claim.step(found(&checkpoint()), &now());
    let action = claim.step(ClaimEvent::Swapped(SwapOutcome::Vanished), &now());
    assert_eq!(action, done(Claimed::Stopped(VANISHED.into())));
}

#[test]
fn a_checkpoint_that_is_not_understood_is_never_written() {
    let (mut claim, _) = Claim::new(terms());
    let read = ClaimEvent::Read(Found::Unreadable("has format 2".into()));
    let action = claim.step(read, &now());
    assert_eq!(action, done(Claimed::Stopped("has format 2".into())));
}

#[test]
fn an_answer_to_another_question_ends_the_claim() {
    let (mut claim, _) = Claim::new(terms());
    assert_eq!(claim.step(same_last(), &now()), done(Claimed::Fenced));
    let mut claim = holding(terms(), &checkpoint());
    assert_eq!(claim.step(won(WON), &now()), done(Claimed::Fenced));
}

// Another log.

#[test]
fn another_cluster_or_topic_id_stops_the_partition() {
    let with = |cluster_id: &str, topic_id: &str| LogView {
        topic: TopicView {
            cluster_id: cluster_id.into(),
            topic_id: topic_id.into(),
            partitions: 4,
        },
        ..log(0, 500)
    };
    for (other, id) in [
        (with("cluster-2", "topic-1"), "cluster-2"),
        (with("cluster-1", "topic-2"), "topic-2"),
    ] {
        let skips = vec![200];
        let terms = Terms { skips, ..terms() };
        let cause = stop_cause(terms, &checkpoint(), other);
        assert!(
            cause.contains("another log") && cause.contains(id),
            "{cause}"
        );
    }
}

#[test]
fn an_unknown_id_is_never_a_mismatch() {
    let held = fenced_off(&checkpoint());
    for unknown in [
        "",
        "00000000-0000-0000-0000-000000000000",
        "AAAAAAAAAAAAAAAAAAAAAA",
    ] {
        let topic = TopicView {
            cluster_id: unknown.into(),
            topic_id: unknown.into(),
            partitions: 4,
        };
        let there = LogView {
            topic,
            ..log(0, 500)
        };
        let action = compared(terms(), &checkpoint(), there);
        assert_eq!(action, land(held.clone(), WON, 200));
        let ours = Checkpoint {
            cluster_id: unknown.into(),
            topic_id: unknown.into(),
            ..checkpoint()
        };
        let action = compared(terms(), &ours, log(0, 500));
        assert_eq!(action, land(fenced_off(&ours), WON, 200));
    }
}

#[test]
fn a_log_that_ends_below_what_was_reached_is_another() {
    let behind_holes = Checkpoint {
        holes_to: 240,
        ..checkpoint()
    };
    let begun = Checkpoint {
        pending: Some(pending(300)),
        ..checkpoint()
    };
    for (current, reached) in [(checkpoint(), 200), (behind_holes, 240), (begun, 300)] {
        let terms = || Terms {
            skips: vec![200],
            ..terms()
        };
        let cause = stop_cause(terms(), &current, log(0, reached - 1));
        assert!(cause.contains(&format!("has reached {reached}")), "{cause}");
        let goes_on = compared(terms(), &current, log(0, reached));
        assert!(matches!(goes_on, ClaimAction::Done(_)), "{goes_on:?}");
    }
}

#[test]
fn a_last_record_that_differs_means_another_log() {
    for (timestamp_ms, hash) in [(8, 11), (7, 12)] {
        let mut claim = holding(terms(), &checkpoint());
        let action = claim.step(ClaimEvent::Log(log(199, 500)), &now());
        assert_eq!(action, ClaimAction::CompareLast(199));
        let record = RecordAt::Found { timestamp_ms, hash };
        let action = claim.step(ClaimEvent::Last(record), &now());
        let cause = stopped_by(&checkpoint(), &action);
        assert!(cause.contains("record at offset 199"), "{cause}");
    }
}

#[test]
fn a_last_record_that_is_gone_says_nothing() {
    let held = fenced_off(&checkpoint());
    let mut claim = holding(terms(), &checkpoint());
    claim.step(ClaimEvent::Log(log(0, 500)), &now());
    let action = claim.step(ClaimEvent::Last(RecordAt::NotCompared), &now());
    assert_eq!(action, land(held.clone(), WON, 200));
    let mut claim = holding(terms(), &checkpoint());
    let action = claim.step(ClaimEvent::Log(log(200, 500)), &now());
    assert_eq!(action, land(held, WON, 200));
}

// A gap.

#[test]
fn a_gap_stops_the_partition_and_names_the_way_on() {
    let cause = stop_cause(terms(), &checkpoint(), log(230, 500));
    let way_on = "\n[[skip]]\ntopic = \"iss\"\npartition = 0\nfirst_offset = 200\n";
    assert!(
        cause.starts_with("gap:") && cause.contains("200 to 229"),
        "{cause}"
    );
    assert!(cause.contains(way_on), "{cause}");

    let behind_holes = Checkpoint {
        holes_to: 210,
        ..checkpoint()
    };
    let cause = stop_cause(terms(), &behind_holes, log(211, 500));
    assert!(
        cause.contains("210 to 210") && cause.contains(way_on),
        "{cause}"
    );
}

#[test]
fn the_operators_word_passes_a_gap_without_a_pending_range() {
    let terms = Terms {
        skips: vec![7, 200],
        ..terms()
    };
    let expected = done(Claimed::Gap {
        checkpoint: fenced_off(&checkpoint()),
        etag: tag(WON),
        to: 230,
    });
    assert_eq!(compared(terms, &checkpoint(), log(230, 500)), expected);
}

#[test]
fn a_word_for_any_other_offset_is_void() {
    let behind_holes = Checkpoint {
        holes_to: 210,
        ..checkpoint()
    };
    for skip in [0, 199, 201, 210, 230] {
        let terms = Terms {
            skips: vec![skip],
            ..terms()
        };
        let cause = stop_cause(terms, &behind_holes, log(230, 500));
        assert!(cause.starts_with("gap:"), "{cause}");
    }
    let terms = Terms {
        skips: vec![200],
        ..terms()
    };
    let action = compared(terms, &checkpoint(), log(200, 500));
    assert_eq!(action, land(fenced_off(&checkpoint()), WON, 200));
}

fn begun(gap: Option<[i64; 2]>) -> Checkpoint {
    Checkpoint {
        pending: Some(Pending {
            gap,
            ..pending(300)
        }),
        ..checkpoint()
    }
}

fn replay(checkpoint: Checkpoint, etag: &str, from: i64, lost: Option<[i64; 2]>) -> ClaimAction {
    done(Claimed::Replay {
        checkpoint,
        etag: tag(etag),
        from,
        lost,
    })
}

#[test]
fn a_pending_range_is_read_again_whatever_the_configuration_says() {
    let changed = Terms {
        layout: layout_of(vec![column("n", ColumnType::Float64, false)]),
        data: "data-2".into(),
        skips: vec![200],
        ..terms()
    };
    for terms in [terms(), changed] {
        let action = compared(terms, &begun(None), log(150, 500));
        assert_eq!(action, replay(fenced_off(&begun(None)), WON, 200, None));
    }
    let behind_holes = Checkpoint {
        holes_to: 220,
        ..begun(None)
    };
    let action = compared(terms(), &behind_holes, log(220, 500));
    assert_eq!(action, replay(fenced_off(&behind_holes), WON, 220, None));
}

#[test]
fn what_is_left_of_a_pending_range_is_read_again_without_the_word() {
    let held = fenced_off(&begun(None));
    for (low, from, lost) in [
        (230, 230, [200, 230]),
        (300, 300, [200, 300]),
        (350, 300, [200, 350]),
    ] {
        let action = compared(terms(), &begun(None), log(low, 500));
        assert_eq!(action, replay(held.clone(), WON, from, Some(lost)));
    }
}

#[test]
fn the_word_is_written_once_and_covers_what_is_lost_behind_the_range() {
    let terms = || Terms {
        skips: vec![200],
        ..terms()
    };
    let mut claim = holding(terms(), &begun(None));
    let action = claim.step(ClaimEvent::Log(log(350, 500)), &now());
    let with_word = written(
        &Checkpoint {
            pending: begun(Some([200, 350])).pending,
            ..fenced_off(&begun(None))
        },
        &now(),
    );
    assert_eq!(action, swap(with_word.clone(), matches(WON)));
    let action = claim.step(won(WON_AGAIN), &now());
    let lost = Some([200, 350]);
    assert_eq!(action, replay(with_word, WON_AGAIN, 300, lost));

    let spoken = begun(Some([200, 350]));
    let action = compared(terms(), &spoken, log(350, 500));
    assert_eq!(action, replay(fenced_off(&spoken), WON, 300, lost));
}

#[test]
fn a_word_that_no_longer_covers_the_loss_is_written_anew() {
    let terms = Terms {
        skips: vec![200],
        ..terms()
    };
    let action = compared(terms, &begun(Some([200, 230])), log(260, 500));
    let ClaimAction::Swap { checkpoint, .. } = action else {
        panic!("{action:?} swaps nothing in");
    };
    assert_eq!(checkpoint.pending, begun(Some([200, 260])).pending);
}

// Two groups in one folder.

#[test]
fn another_group_in_our_folders_is_foreign_before_the_first_batch() {
    let first = Checkpoint {
        first_offset: 200,
        last: None,
        ..checkpoint()
    };
    let other = |data: &str, dead_letters: &str| {
        let roots = vec![root(0, "old", "old"), root(9, data, dead_letters)];
        let theirs = Checkpoint {
            roots,
            ..checkpoint()
        };
        ClaimEvent::Groups(vec![("checkpoints/b/iss/0.json".into(), theirs)])
    };
    for (data, dead_letters) in [("data", "theirs"), ("theirs", "dead")] {
        let mut claim = holding(terms(), &first);
        let action = claim.step(ClaimEvent::Log(log(0, 500)), &now());
        assert_eq!(action, ClaimAction::ReadGroups);
        let action = claim.step(other(data, dead_letters), &now());
        let cause = stopped_by(&first, &action);
        assert!(
            cause.starts_with("foreign:") && cause.contains("checkpoints/b"),
            "{cause}"
        );
    }
    let mut claim = holding(terms(), &first);
    claim.step(ClaimEvent::Log(log(0, 500)), &now());
    let action = claim.step(other("theirs", "theirs"), &now());
    assert_eq!(action, land(fenced_off(&first), WON, 200));
}

// The mark of a partition that stopped.

fn marked(current: Checkpoint, cause: &str) -> Checkpoint {
    Checkpoint {
        stopped: Some(Stopped {
            cause: cause.into(),
            since: "2025-01-01T00:00:00.000Z".into(),
        }),
        ..current
    }
}

#[test]
fn a_partition_that_stops_again_for_the_same_cause_keeps_its_mark() {
    let mut claim = holding(terms(), &checkpoint());
    claim.step(ClaimEvent::Log(log(230, 500)), &now());
    let cause = stop_cause(terms(), &checkpoint(), log(230, 500));
    let action = claim.step(won(WON_AGAIN), &now());
    assert_eq!(action, done(Claimed::Stopped(cause.clone())));

    let again = marked(checkpoint(), &cause);
    let action = compared(terms(), &again, log(230, 500));
    assert_eq!(action, done(Claimed::Stopped(cause)));

    let other = marked(checkpoint(), "something else");
    let cause = stop_cause(terms(), &other, log(230, 500));
    assert!(cause.starts_with("gap:"), "{cause}");
}

#[test]
fn a_partition_that_goes_on_loses_its_mark() {
    let current = marked(checkpoint(), "gap");
    let unmarked = Checkpoint {
        stopped: None,
        ..written(&fenced_off(&current), &now())
    };
    let mut claim = holding(terms(), &current);
    let action = claim.step(ClaimEvent::Log(log(200, 500)), &now());
    assert_eq!(action, swap(unmarked.clone(), matches(WON)));
    let action = claim.step(won(WON_AGAIN), &now());
    assert_eq!(action, land(unmarked.clone(), WON_AGAIN, 200));

    let skips = vec![200];
    let mut claim = holding(Terms { skips, ..terms() }, &current);
    let action = claim.step(ClaimEvent::Log(log(230, 500)), &now());
    assert_eq!(action, swap(unmarked.clone(), matches(WON)));
    let action = claim.step(won(WON_AGAIN), &now());
    let expected = Claimed::Gap {
        checkpoint: unmarked,
        etag: tag(WON_AGAIN),
        to: 230,
    };
    assert_eq!(action, done(expected));
}

#[test]
fn a_range_that_still_waits_for_the_word_keeps_its_mark() {
    let current = marked(begun(None), "gap");
    let action = compared(terms(), &current, log(230, 500));
    let lost = Some([200, 230]);
    assert_eq!(action, replay(fenced_off(&current), WON, 230, lost));
    let skips = vec![200];
    let action = compared(Terms { skips, ..terms() }, &current, log(230, 500));
    let ClaimAction::Swap { checkpoint, .. } = action else {
        panic!("{action:?} swaps nothing in");
    };
    assert_eq!(checkpoint.stopped, None);
}

#[test]
fn a_mark_whose_swap_is_lost_ends_the_claim() {
    for (outcome, expected) in [
        (SwapOutcome::Fenced, Claimed::Fenced),
        (SwapOutcome::Vanished, Claimed::Stopped(VANISHED.into())),
    ] {
        let mut claim = holding(terms(), &checkpoint());
        claim.step(ClaimEvent::Log(log(230, 500)), &now());
        let action = claim.step(ClaimEvent::Swapped(outcome), &now());
        assert_eq!(action, done(expected));
    }
}

// The configured layout.

#[test]
fn a_layout_that_the_folder_cannot_hold_stops_the_partition() {
    let other_type = layout_of(vec![column("n", ColumnType::Float64, false)]);
    let added = layout_of(vec![
        column("n", ColumnType::Int64, false),
        column("m", ColumnType::Int64, false),
    ]);
    for (layout, word) in [(other_type, "float64"), (added, "not nullable")] {
        let terms = |data: &str| Terms {
            layout: layout.clone(),
            data: data.into(),
            ..terms()
        };
        let cause = stop_cause(terms("data"), &checkpoint(), log(0, 500));
        assert!(cause.contains(word), "{cause}");
        let action = compared(terms("data-2"), &checkpoint(), log(0, 500));
        assert_eq!(action, land(fenced_off(&checkpoint()), WON, 200));
    }
}

#[test]
fn the_seventeenth_root_is_refused_at_claim() {
    let roots = |count: i64| Checkpoint {
        roots: (0..count)
            .map(|n| root(n, &format!("data-{n}"), "dead"))
            .collect(),
        ..checkpoint()
    };
    let cause = stop_cause(terms(), &roots(16), log(0, 500));
    assert!(cause.contains("use a new group"), "{cause}");
    let action = compared(terms(), &roots(15), log(0, 500));
    assert_eq!(action, land(fenced_off(&roots(15)), WON, 200));
}
