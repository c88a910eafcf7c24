use super::*;
use crate::config::{ColumnType, Start};
use crate::landing::protocol::checkpoint::ROOTS_MAX;
use crate::landing::protocol::samples::{
    checkpoint, column, last_record, layout, layout_of, now, pending, root, topic,
};

fn terms() -> Terms {
    Terms {
        topic: "iss".into(),
        partition: 0,
        writer: "an-older-writer".into(),
        data: "data".into(),
        dead_letters: "dead".into(),
        layout: layout(),
        start: Start::Earliest,
        skips: Vec::new(),
        held_epoch: 0,
    }
}

fn names() -> Names {
    Names {
        data: "data".into(),
        dead_letters: "dead".into(),
        checkpoints: "checkpoints".into(),
        group: "g".into(),
        topic: "iss".into(),
    }
}

fn etag(version: &str) -> ETag {
    ETag(version.into())
}

fn held(pending: Option<Pending>, task: Task) -> Held {
    let checkpoint = Checkpoint {
        pending,
        ..checkpoint()
    };
    Held {
        checkpoint,
        etag: etag("1"),
        task,
    }
}

fn intent(start: i64, end: i64) -> Intent {
    Intent {
        start,
        end,
        keys: vec!["data/b".into(), "dead/b".into()],
        layout: layout(),
        gap: None,
        data: "data".into(),
        dead_letters: "dead".into(),
    }
}

fn ask(held: Held, request: Request) -> (Work, WorkAction) {
    Work::new(terms(), names(), held, request, &now())
}

/// Asks, with a topic that is still ours, up to the swap.
fn swapping(held: Held, request: Request) -> (Work, Checkpoint) {
    let (mut work, mut action) = ask(held, request);
    if action == WorkAction::AskTopic {
        action = work.step(WorkEvent::Topic(topic()), &now());
    }
    match action {
        WorkAction::Swap {
            checkpoint,
            condition,
        } => {
            assert_eq!(condition, Condition::Matches(etag("1")));
            (work, *checkpoint)
        }
        other => panic!("no swap but {other:?}"),
    }
}

fn settled(action: WorkAction) -> Settled {
    match action {
        WorkAction::Done(settled) => *settled,
        other => panic!("not settled but {other:?}"),
    }
}

fn won(held: Held, request: Request) -> Settled {
    let (mut work, _) = swapping(held, request);
    settled(work.step(WorkEvent::Swapped(SwapOutcome::Won(etag("2"))), &now()))
}

#[test]
fn a_batch_is_begun_and_stays_held_in_its_new_version() {
    let done = won(held(None, Task::Land), Request::Begin(intent(200, 210)));
    let now_held = done.held.unwrap();
    assert_eq!(now_held.etag, etag("2"));
    assert_eq!(now_held.checkpoint.pending.unwrap().end, 210);
    assert!(done.sealed && done.commit.is_none() && done.ending.is_none());
}

#[test]
fn a_landed_batch_begins_the_next_in_the_same_swap() {
    let next = Some(intent(210, 220));
    let request = Request::Landed {
        last: Some(last_record(209)),
        next,
    };
    let done = won(held(Some(pending(210)), Task::Land), request);
    let checkpoint = done.held.unwrap().checkpoint;
    assert_eq!(checkpoint.next_offset, 210);
    assert_eq!(checkpoint.pending.unwrap().end, 220);
    assert_eq!((done.sealed, done.commit), (true, Some(210)));
    assert_eq!(done.ending, None);
}

#[test]
fn a_batch_with_none_behind_it_lands_and_its_claim_goes_on() {
    let request = Request::Landed {
        last: Some(last_record(209)),
        next: None,
    };
    let done = won(held(Some(pending(210)), Task::Land), request);
    assert_eq!((done.sealed, done.commit), (true, Some(210)));
    assert_eq!(done.ending, None);
}

#[test]
fn what_has_landed_is_said_although_the_topic_was_made_anew_before_the_next() {
    let request = Request::Landed {
        last: None,
        next: Some(intent(210, 220)),
    };
    let (mut work, action) = ask(held(Some(pending(210)), Task::Land), request);
    assert_eq!(action, WorkAction::AskTopic);
    let mut other = topic();
    other.topic_id = "topic-2".into();
    let WorkAction::Swap { checkpoint, .. } = work.step(WorkEvent::Topic(other), &now()) else {
        panic!("no swap");
    };
    assert_eq!((checkpoint.next_offset, checkpoint.pending), (210, None));
    let done = settled(work.step(WorkEvent::Swapped(SwapOutcome::Won(etag("2"))), &now()));
    assert_eq!((done.sealed, done.commit), (false, Some(210)));
    assert_eq!(done.ending, Some(Ending::Refused(BeginRefused::OtherLog)));
}

#[test]
fn a_replay_that_landed_ends_its_claim() {
    let request = Request::Landed {
        last: None,
        next: None,
    };
    let stopped = Checkpoint {
        stopped: Some(crate::landing::protocol::checkpoint::Stopped {
            cause: "gap".into(),
            since: now().text,
        }),
        ..checkpoint()
    };
    let mut replayed = held(Some(pending(210)), Task::Replay { lost: None });
    replayed.checkpoint.stopped = stopped.stopped;
    let done = won(replayed, request);
    assert_eq!((done.sealed, done.ending), (true, Some(Ending::Replayed)));
    assert_eq!(done.held.unwrap().checkpoint.stopped, None);
}

#[test]
fn the_rest_of_a_gap_is_a_batch_of_its_own_before_any_other() {
    let mut pending = pending(210);
    pending.gap = Some([205, 230]);
    let request = Request::Landed {
        last: None,
        next: Some(intent(210, 220)),
    };
    let lost = Some([205, 210]);
    let (_, next) = swapping(held(Some(pending), Task::Replay { lost }), request);
    let begun = next.pending.unwrap();
    assert_eq!((next.next_offset, begun.end), (210, 230));
    assert_eq!(begun.gap, Some([210, 230]));
    assert_eq!(begun.keys, [names().dead_letters_file(0, 210, 230)]);
}

#[test]
fn the_rest_of_a_gap_stays_in_the_folders_and_columns_of_its_range() {
    let mut pending = pending(210);
    pending.gap = Some([205, 230]);
    let lost = Some([205, 210]);
    let mut held = held(Some(pending.clone()), Task::Replay { lost });
    let roots = (1..=ROOTS_MAX as i64).map(|n| root(n, &format!("data-{n}"), "old-dead"));
    held.checkpoint.roots = roots.collect();
    let before = held.checkpoint.clone();
    let request = Request::Landed {
        last: None,
        next: None,
    };
    let mut configured = terms();
    configured.data = "elsewhere".into();
    configured.dead_letters = "elsewhere-dead".into();
    configured.layout = layout_of(vec![column("new", ColumnType::Bool, false)]);
    let (mut work, action) = Work::new(configured, names(), held, request, &now());
    assert_eq!(action, WorkAction::AskTopic);
    let WorkAction::Swap { checkpoint, .. } = work.step(WorkEvent::Topic(topic()), &now()) else {
        panic!("no swap");
    };
    let begun = checkpoint.pending.unwrap();
    assert_eq!(
        (&checkpoint.roots, &checkpoint.columns),
        (&before.roots, &before.columns)
    );
    assert_eq!(
        (begun.gap, begun.layout),
        (Some([210, 230]), pending.layout)
    );
    let [key] = &begun.keys[..] else {
        panic!("{:?}", begun.keys);
    };
    assert!(key.starts_with("old-dead/iss-"), "{key}");
}

#[test]
fn a_gap_passed_by_the_word_is_replayed_from_behind_the_holes() {
    let mut behind_holes = held(None, Task::Land);
    behind_holes.checkpoint.holes_to = 204;
    let done = won(behind_holes, Request::PassGap { to: 230 });
    let now_held = done.held.unwrap();
    let lost = Some([204, 230]);
    assert_eq!(now_held.task, Task::Replay { lost });
    let begun = now_held.checkpoint.pending.unwrap();
    assert_eq!((begun.end, begun.gap), (230, lost));
    assert_eq!(begun.keys, [names().dead_letters_file(0, 200, 230)]);
    assert_eq!(now_held.checkpoint.roots, [root(100, "data", "dead")]);
}

#[test]
fn a_request_that_lost_its_swap_ends_the_claim_and_holds_nothing() {
    for (outcome, ending) in [
        (SwapOutcome::Fenced, Ending::Fenced),
        (SwapOutcome::Vanished, Ending::Vanished),
    ] {
        let (mut work, _) = swapping(held(None, Task::Land), Request::Begin(intent(200, 210)));
        let done = settled(work.step(WorkEvent::Swapped(outcome), &now()));
        assert_eq!((done.held, done.sealed), (None, false));
        assert_eq!(done.ending, Some(ending));
    }
}

#[test]
fn a_batch_that_does_not_continue_the_checkpoint_is_refused_without_a_swap() {
    let (mut work, _) = ask(held(None, Task::Land), Request::Begin(intent(201, 210)));
    let done = settled(work.step(WorkEvent::Topic(topic()), &now()));
    assert!(matches!(
        done.ending,
        Some(Ending::Refused(BeginRefused::NotNext { .. }))
    ));
    assert!(!done.sealed && done.commit.is_none());
}

#[test]
fn an_upset_stops_with_how_to_go_on_and_a_forced_replay_does_not() {
    let lost = Some([200, 205]);
    let waiting = || held(Some(pending(210)), Task::Replay { lost });
    let (mut work, next) = swapping(waiting(), Request::Upset(UpsetReason::AwaitWord));
    let cause = next.stopped.unwrap().cause;
    assert!(cause.contains("offsets 200 to 204 are lost") && cause.contains("first_offset = 200"));
    let done = settled(work.step(WorkEvent::Swapped(SwapOutcome::Won(etag("2"))), &now()));
    assert_eq!(
        (done.held, done.ending),
        (None, Some(Ending::Stopped(cause)))
    );

    let offsets = OffsetSet::from_range(203, 204);
    let reason = UpsetReason::ReplayForced(offsets.clone());
    let (_, action) = ask(waiting(), Request::Upset(reason));
    assert_eq!(settled(action).ending, Some(Ending::Forced(offsets)));
}

#[test]
fn holes_that_are_known_cost_no_swap() {
    let (_, action) = ask(held(None, Task::Land), Request::Holes { to: 200 });
    let done = settled(action);
    assert!(done.sealed && done.held.is_some() && done.commit.is_none());
    let done = won(held(None, Task::Land), Request::Holes { to: 203 });
    assert_eq!(done.commit, Some(203));
}

#[test]
fn a_range_read_again_from_a_topic_made_anew_is_not_uploaded() {
    let replayed = || held(Some(pending(210)), Task::Replay { lost: None });
    let (mut work, action) = ask(replayed(), Request::Begin(intent(200, 210)));
    assert_eq!(action, WorkAction::AskTopic);
    let done = settled(work.step(WorkEvent::Topic(topic()), &now()));
    assert!(done.sealed && done.ending.is_none());

    let (mut work, _) = ask(replayed(), Request::Begin(intent(200, 210)));
    let mut other = topic();
    other.topic_id = "topic-2".into();
    let done = settled(work.step(WorkEvent::Topic(other), &now()));
    assert!(!done.sealed);
    assert_eq!(done.ending, Some(Ending::Refused(BeginRefused::OtherLog)));
}
