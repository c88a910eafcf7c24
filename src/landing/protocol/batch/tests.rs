use super::*;
use crate::config::Column;
use crate::landing::protocol::samples::{
    checkpoint, column, last_record, layout, layout_of, now, pending, root, topic,
};

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

fn pending_of(intent: &Intent) -> Pending {
    Pending {
        end: intent.end,
        keys: intent.keys.clone(),
        layout: intent.layout.clone(),
        gap: intent.gap,
    }
}

fn names(checkpoint: &Checkpoint) -> Vec<&str> {
    checkpoint
        .columns
        .iter()
        .map(|column| column.name.as_str())
        .collect()
}

fn begin(current: &Checkpoint, intent: &Intent) -> Checkpoint {
    begun(current, intent, &topic(), &now()).unwrap()
}

fn refused(columns: Vec<Column>, data: &str, dead_letters: &str) -> Option<String> {
    refused_layout(&checkpoint(), &layout_of(columns), data, dead_letters)
}

#[test]
fn a_begun_batch_is_pending_and_changes_nothing_else() {
    let intent = Intent {
        gap: Some([210, 220]),
        ..intent(200, 300)
    };
    let expected = Checkpoint {
        revision: 6,
        time: now().text,
        pending: Some(pending_of(&intent)),
        ..checkpoint()
    };
    assert_eq!(begin(&checkpoint(), &intent), expected);
}

#[test]
fn a_batch_begins_only_where_the_last_one_ended() {
    for start in [199, 201] {
        let expected = BeginRefused::NotNext {
            start,
            next_offset: 200,
        };
        let begun = begun(&checkpoint(), &intent(start, 300), &topic(), &now());
        assert_eq!(begun, Err(expected));
    }
    let behind_holes = Checkpoint {
        holes_to: 250,
        ..checkpoint()
    };
    assert_eq!(begin(&behind_holes, &intent(200, 300)).holes_to, 250);
}

#[test]
fn a_batch_does_not_begin_while_another_is_pending() {
    let current = Checkpoint {
        pending: Some(pending(300)),
        ..checkpoint()
    };
    let begun = begun(&current, &intent(200, 300), &topic(), &now());
    assert_eq!(begun, Err(BeginRefused::Pending));
}

#[test]
fn a_batch_does_not_begin_on_another_log_and_unknown_ids_are_learned() {
    let other = TopicView {
        topic_id: "topic-2".into(),
        ..topic()
    };
    let begun_there = begun(&checkpoint(), &intent(200, 300), &other, &now());
    assert_eq!(begun_there, Err(BeginRefused::OtherLog));
    let unknown = TopicView {
        cluster_id: String::new(),
        topic_id: "AAAAAAAAAAAAAAAAAAAAAA".into(),
        partitions: 4,
    };
    let kept = begun(&checkpoint(), &intent(200, 300), &unknown, &now()).unwrap();
    assert_eq!(
        (kept.cluster_id, kept.topic_id),
        (topic().cluster_id, topic().topic_id)
    );
    let current = Checkpoint {
        cluster_id: String::new(),
        topic_id: "00000000-0000-0000-0000-000000000000".into(),
        ..checkpoint()
    };
    let learned = begin(&current, &intent(200, 300));
    assert_eq!(
        (learned.cluster_id, learned.topic_id),
        (topic().cluster_id, topic().topic_id)
    );
}

#[test]
fn a_landed_batch_moves_the_checkpoint_to_its_end() {
    let current = Checkpoint {
        pending: Some(pending(300)),
        holes_to: 210,
        ..checkpoint()
    };
    let expected = Checkpoint {
        revision: 6,
        time: now().text,
        next_offset: 300,
        holes_to: 300,
        last: Some(last_record(298)),
        ..checkpoint()
    };
    assert_eq!(
        landed(&current, Some(last_record(298)), None, &now()),
        Ok(expected.clone())
    );
    let without_records = landed(&current, None, None, &now()).unwrap();
    assert_eq!(without_records.last, checkpoint().last);
}

#[test]
fn one_swap_lands_a_batch_and_begins_the_next() {
    let current = Checkpoint {
        pending: Some(pending(300)),
        ..checkpoint()
    };
    let next = intent(300, 400);
    let last = Some(last_record(299));
    let expected = Checkpoint {
        revision: 6,
        time: now().text,
        next_offset: 300,
        holes_to: 300,
        last,
        pending: Some(pending_of(&next)),
        ..checkpoint()
    };
    let both = landed(&current, last, Some((&next, &topic())), &now());
    assert_eq!(both, Ok(expected));

    let elsewhere = intent(301, 400);
    let not_next = BeginRefused::NotNext {
        start: 301,
        next_offset: 300,
    };
    let refused = landed(&current, last, Some((&elsewhere, &topic())), &now());
    assert_eq!(refused, Err(not_next));
    let other = TopicView {
        cluster_id: "cluster-2".into(),
        ..topic()
    };
    let refused = landed(&current, last, Some((&next, &other)), &now());
    assert_eq!(refused, Err(BeginRefused::OtherLog));
}

#[test]
fn holes_move_only_forward_and_never_into_a_pending_range() {
    let expected = Checkpoint {
        revision: 6,
        time: now().text,
        holes_to: 230,
        ..checkpoint()
    };
    assert_eq!(holes(&checkpoint(), 230, &now()), Some(expected.clone()));
    assert_eq!(holes(&expected, 230, &now()), None);
    assert_eq!(holes(&expected, 229, &now()), None);
    let current = Checkpoint {
        pending: Some(pending(300)),
        ..checkpoint()
    };
    assert_eq!(holes(&current, 230, &now()), None);
}

#[test]
fn a_change_of_folders_is_a_root_from_the_next_batch_on() {
    let moved = Intent {
        data: "data-2".into(),
        ..intent(200, 300)
    };
    let begun = begin(&checkpoint(), &moved);
    let left = Root {
        columns: checkpoint().columns,
        ..root(100, "data", "dead")
    };
    assert_eq!(begun.roots, [left, root(200, "data-2", "dead")]);

    let dead_letters_moved = Intent {
        dead_letters: "dead-2".into(),
        ..intent(200, 300)
    };
    let begun = begin(&checkpoint(), &dead_letters_moved);
    let roots = [root(100, "data", "dead"), root(200, "data", "dead-2")];
    assert_eq!(begun.roots, roots);
    assert_eq!(begun.columns, checkpoint().columns);
}

#[test]
fn columns_are_merged_within_a_folder_and_begin_anew_in_another() {
    let renamed = vec![column("m", ColumnType::String, true)];
    let added = Intent {
        layout: layout_of(renamed.clone()),
        ..intent(200, 300)
    };
    assert_eq!(names(&begin(&checkpoint(), &added)), ["n", "_extra", "m"]);
    let moved = Intent {
        data: "data-2".into(),
        ..added
    };
    assert_eq!(names(&begin(&checkpoint(), &moved)), ["m", "_extra"]);
}

#[test]
fn every_write_raises_the_revision_by_one() {
    let mut current = checkpoint();
    let mut revisions = vec![current.revision];
    let mut write = |next: Checkpoint| {
        assert_eq!(next.time, now().text);
        revisions.push(next.revision);
        current = next.clone();
        next
    };
    let at = write(holes(&checkpoint(), 210, &now()).unwrap());
    let at = write(begin(&at, &intent(200, 300)));
    let at = write(with_word(&at, [200, 220], &now()));
    let at = write(stopped(&at, "gap", &now()).unwrap());
    let at = write(landed(&at, None, Some((&intent(300, 310), &topic())), &now()).unwrap());
    write(landed(&at, None, None, &now()).unwrap());
    assert_eq!(revisions, [5, 6, 7, 8, 9, 10, 11]);
    assert_eq!((current.next_offset, current.pending), (310, None));
}

#[test]
fn the_operators_word_is_held_by_the_pending_range() {
    let current = Checkpoint {
        pending: Some(pending(300)),
        ..checkpoint()
    };
    let held = with_word(&current, [205, 320], &now()).pending;
    assert_eq!(held.and_then(|pending| pending.gap), Some([205, 320]));
    assert_eq!(with_word(&checkpoint(), [205, 320], &now()).pending, None);
}

#[test]
fn a_partition_says_once_why_it_stopped() {
    let first = stopped(&checkpoint(), "gap", &now()).unwrap();
    let expected = Stopped {
        cause: "gap".into(),
        since: now().text,
    };
    assert_eq!(first.stopped, Some(expected));
    assert_eq!(
        stopped(&first, "gap", &Now::at(i64::from(i32::MAX) * 1000)),
        None
    );
    let other = stopped(&first, "other log", &now()).unwrap();
    assert_eq!(
        other.stopped.map(|stopped| stopped.cause),
        Some("other log".into())
    );
}

#[test]
fn a_column_keeps_its_type_within_a_folder() {
    let other_type = vec![column("n", ColumnType::Float64, false)];
    let cause = refused(other_type.clone(), "data", "dead").unwrap();
    assert!(
        cause.contains("column n is int64 in data and float64"),
        "{cause}"
    );
    assert_eq!(refused(other_type, "data-2", "dead"), None);
}

#[test]
fn a_column_that_reads_a_time_otherwise_is_stored_as_before() {
    let seconds = layout_of(vec![column("t", ColumnType::Timestamp(TimeUnit::S), true)]);
    let current = Checkpoint {
        columns: column_records(&seconds),
        ..checkpoint()
    };
    let text = layout_of(vec![column(
        "t",
        ColumnType::Timestamp(TimeUnit::Rfc3339),
        true,
    )]);
    assert_eq!(refused_layout(&current, &text, "data", "dead"), None);
}

#[test]
fn a_column_added_to_a_folder_must_be_nullable() {
    let with = |nullable| {
        vec![
            column("n", ColumnType::Int64, false),
            column("m", ColumnType::Int64, nullable),
        ]
    };
    let cause = refused(with(false), "data", "dead").unwrap();
    assert!(
        cause.contains("column m is new in data and not nullable"),
        "{cause}"
    );
    assert_eq!(refused(with(true), "data", "dead"), None);
    assert_eq!(refused(with(false), "data-2", "dead"), None);
    assert_eq!(refused(Vec::new(), "data", "dead"), None);
}

#[test]
fn the_seventeenth_change_of_folders_is_refused() {
    let with_roots = |count: i64| Checkpoint {
        roots: (0..count)
            .map(|n| root(n, &format!("data-{n}"), "dead"))
            .collect(),
        ..checkpoint()
    };
    let refused = |roots, data: &str, dead| {
        refused_layout(&with_roots(roots), &layout(), data, dead).is_some()
    };
    assert!(!refused(15, "data-new", "dead"));
    assert!(refused(16, "data-new", "dead"));
    assert!(refused(16, "data-15", "dead-new"));
    assert!(!refused(16, "data-15", "dead"));
}

/// Lands one batch of ten records with these columns in this folder.
fn landed_in(current: &Checkpoint, data: &str, columns: Vec<Column>) -> Checkpoint {
    let start = current.next_offset;
    let next = Intent {
        layout: layout_of(columns),
        data: data.into(),
        ..intent(start, start + 10)
    };
    landed(&begin(current, &next), None, None, &now()).unwrap()
}

#[test]
fn who_goes_back_to_an_earlier_folder_meets_its_columns_again() {
    let n = |kind, nullable| vec![column("n", kind, nullable)];
    let refuses = |current: &Checkpoint, columns| {
        refused_layout(current, &layout_of(columns), "data", "dead")
    };
    let mut current = landed_in(&checkpoint(), "data", n(ColumnType::Int64, false));
    current = landed_in(&current, "elsewhere", n(ColumnType::String, false));
    let cause = refuses(&current, n(ColumnType::String, false)).unwrap();
    assert!(cause.contains("column n is int64 in data"), "{cause}");
    let mut more = n(ColumnType::Int64, false);
    more.push(column("added", ColumnType::Bool, false));
    let cause = refuses(&current, more).unwrap();
    assert!(cause.contains("column added is new in data"), "{cause}");
    let mut more = n(ColumnType::Int64, false);
    more.push(column("added", ColumnType::Bool, true));
    assert_eq!(refuses(&current, more.clone()), None);

    current = landed_in(&current, "data", more);
    assert_eq!(names(&current), ["n", "_extra", "added"]);
    let roots: Vec<_> = current
        .roots
        .iter()
        .map(|root| (root.from_offset, root.data.as_str(), root.columns.len()))
        .collect();
    assert_eq!(
        roots,
        [(100, "data", 2), (210, "elsewhere", 2), (220, "data", 0)]
    );
    assert!(refuses(&current, n(ColumnType::String, false)).is_some());
    // And what was left last is known too.
    let cause = refused_layout(
        &current,
        &layout_of(n(ColumnType::Bool, false)),
        "elsewhere",
        "dead",
    );
    assert!(cause.unwrap().contains("column n is string in elsewhere"));
}

#[test]
fn a_folder_that_nothing_was_written_to_binds_nobody() {
    let new = Checkpoint {
        first_offset: 200,
        last: None,
        roots: vec![root(200, "data", "dead")],
        ..checkpoint()
    };
    let other_type = vec![column("n", ColumnType::String, false)];
    assert_eq!(
        refused_layout(&new, &layout_of(other_type.clone()), "data", "dead"),
        None
    );
    let landed = landed_in(&new, "data", other_type);
    let kinds: Vec<_> = landed
        .columns
        .iter()
        .map(|column| column.kind.as_str())
        .collect();
    assert_eq!((kinds, landed.roots.len()), (vec!["string", "string"], 1));
    let moved = landed_in(
        &new,
        "elsewhere",
        vec![column("m", ColumnType::Bool, false)],
    );
    assert_eq!(moved.roots, [root(200, "elsewhere", "dead")]);
    assert_eq!(names(&moved), ["m", "_extra"]);
}

#[test]
fn a_full_list_of_roots_takes_back_the_newest_and_one_without_a_batch() {
    let full = |from_offset: i64| Checkpoint {
        roots: (1..ROOTS_MAX as i64)
            .map(|n| root(n, &format!("data-{n}"), "dead"))
            .chain([root(from_offset, "data", "dead")])
            .collect(),
        ..checkpoint()
    };
    let refuses =
        |current: &Checkpoint, data: &str| refused_layout(current, &layout(), data, "dead");
    assert!(refuses(&full(100), "data-3").is_some_and(|cause| cause.contains("new group")));
    assert_eq!(refuses(&full(100), "data"), None);
    assert_eq!(refuses(&full(200), "elsewhere"), None);
    assert_eq!(
        landed_in(&full(200), "elsewhere", Vec::new()).roots.len(),
        ROOTS_MAX
    );
}
