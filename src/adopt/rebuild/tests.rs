use proptest::prelude::*;

use super::*;
use crate::config::PartitionTime;
use crate::landing::offsets::OffsetSet;
use crate::landing::protocol::batch::column_records;
use crate::landing::protocol::footer::{BatchFooter, FOOTER_FORMAT, FileFooter, Identity};
use crate::landing::protocol::upload::{Upload, UploadAction, UploadEvent, UploadPlan};

fn names() -> Names {
    Names {
        data: "data".into(),
        dead_letters: "dead".into(),
        checkpoints: "checkpoints".into(),
        group: "g".into(),
        topic: "iss".into(),
    }
}

fn layout() -> Layout {
    Layout {
        columns: Vec::new(),
        extra: true,
        partition_by: Vec::new(),
        partition_time: PartitionTime::KafkaTimestamp,
    }
}

fn identity() -> Identity {
    Identity {
        cluster_id: "c".into(),
        topic_id: "t".into(),
        topic: "iss".into(),
        partition: 0,
        group: "g".into(),
    }
}

fn sibling() -> Sibling {
    Sibling {
        partitions: 4,
        started_ms: 7,
        adopted: None,
    }
}

/// Keys of so many data files, each in a folder of its own, and of the dead letters.
fn keys(data: usize, start: i64, end: i64) -> Vec<String> {
    let files = (0..data).map(|file| names().data_file(&format!("f={file}/"), 0, start, end));
    files
        .chain([names().dead_letters_file(0, start, end)])
        .collect()
}

/// An object of the batch [start, end).
fn file(
    keys: &[String],
    index: usize,
    start: i64,
    end: i64,
    holds: &OffsetSet,
    read: &OffsetSet,
) -> File {
    let footer = Footer {
        format: FOOTER_FORMAT,
        version: "0".into(),
        identity: identity(),
        fingerprint: String::new(),
        file: FileFooter {
            offsets: holds.digest(),
            rejects: 0,
            gap: None,
        },
        batch: BatchFooter {
            start,
            end,
            keys: keys.to_vec(),
            // The folders are the tests' own: as deep as one unit of time.
            layout: Layout {
                partition_by: vec![crate::config::PartitionUnit::Date],
                ..layout()
            },
            offsets: read.digest(),
        },
    };
    File {
        key: keys[index].clone(),
        named: NamedRange {
            partition: 0,
            first: start,
            last: end - 1,
        },
        footer: Ok(Box::new(footer)),
    }
}

/// A batch of one data file that holds all of it.
fn whole(start: i64, end: i64) -> File {
    let all = OffsetSet::from_range(start, end);
    file(&keys(1, start, end), 0, start, end, &all, &all)
}

fn rebuilt(files: &[File]) -> Result<Checkpoint, Vec<String>> {
    let names = names();
    let mut rebuilder = Rebuilder::new(&names, 0);
    files.iter().cloned().for_each(|file| rebuilder.push(file));
    rebuilder.finish(&sibling(), "me", &Now::at(0))
}

fn refused(files: &[File]) -> String {
    rebuilt(files).unwrap_err().join("\n")
}

fn footer_mut(file: &mut File) -> &mut Footer {
    file.footer.as_mut().unwrap()
}

#[test]
fn batches_that_tile_are_a_checkpoint() {
    let made = rebuilt(&[whole(10, 20), whole(20, 35)]).unwrap();
    assert_eq!((made.first_offset, made.next_offset), (10, 35));
    assert_eq!((made.holes_to, made.epoch, made.revision), (35, 0, 1));
    assert_eq!((made.pending, made.last, made.stopped), (None, None, None));
    assert_eq!((made.partitions, made.started_ms), (4, 7));
    assert_eq!(
        (made.cluster_id.as_str(), made.topic_id.as_str()),
        ("c", "t")
    );
    let root = Root {
        from_offset: 10,
        data: "data".into(),
        dead_letters: "dead".into(),
        columns: Vec::new(),
    };
    assert_eq!(made.roots, [root]);
    assert_eq!(made.columns, column_records(&layout()));
}

#[test]
fn a_break_is_named() {
    let why = refused(&[whole(10, 20), whole(25, 30)]);
    assert!(why.contains("offsets [20, 25)"), "{why}");
}

#[test]
fn an_overlap_is_named() {
    let why = refused(&[whole(10, 20), whole(15, 30)]);
    assert!(why.contains("[10, 20) and [15, 30) overlap"), "{why}");
    let why = refused(&[whole(10, 20), whole(10, 30)]);
    assert!(why.contains("[10, 20) and [10, 30) overlap"), "{why}");
}

#[test]
fn a_batch_before_the_last_that_lacks_a_file_is_named() {
    let all = OffsetSet::from_range(10, 20);
    let keys = keys(2, 10, 20);
    let half = file(&keys, 0, 10, 20, &OffsetSet::from_range(10, 15), &all);
    let why = refused(&[half, whole(20, 30)]);
    assert!(why.contains("[10, 20)") && why.contains(&keys[1]), "{why}");
}

#[test]
fn dead_letters_that_were_removed_before_the_last_batch_are_missed() {
    let all = OffsetSet::from_range(10, 20);
    let keys = keys(1, 10, 20);
    let rows = file(&keys, 0, 10, 20, &OffsetSet::from_range(10, 19), &all);
    let why = refused(&[rows, whole(20, 30)]);
    assert!(why.contains(&keys[1]), "{why}");
}

#[test]
fn files_of_others_are_named_with_their_range() {
    for (what, words) in [
        ("group", "of group other"),
        ("topic", "of topic other"),
        ("partition", "of partition 3"),
        ("cluster", "cluster id other"),
        ("log", "topic id other"),
        ("range", "[10, 21) under another name"),
        ("key", "under another name"),
    ] {
        let mut file = whole(10, 20);
        let footer = footer_mut(&mut file);
        match what {
            "group" => footer.identity.group = "other".into(),
            "topic" => footer.identity.topic = "other".into(),
            "partition" => footer.identity.partition = 3,
            "cluster" => footer.identity.cluster_id = "other".into(),
            "log" => footer.identity.topic_id = "other".into(),
            "range" => footer.batch.end = 21,
            _ => footer.batch.keys = keys(0, 10, 20),
        }
        let why = refused(&[whole(0, 10), file]);
        assert!(
            why.contains("[10, 20)") && why.contains(words),
            "{what}: {why}"
        );
    }
    let mut file = whole(10, 20);
    file.footer = Err("it has no footer of groundtrack's".into());
    let why = refused(&[file]);
    assert!(
        why.contains("[10, 20)") && why.contains("no footer"),
        "{why}"
    );
}

#[test]
fn objects_of_a_batch_that_disagree_are_named() {
    let all = OffsetSet::from_range(10, 20);
    let (two, three) = (keys(2, 10, 20), keys(3, 10, 20));
    let files = [
        file(&two, 0, 10, 20, &all, &all),
        file(&three, 1, 10, 20, &OffsetSet::default(), &all),
    ];
    let why = refused(&files);
    assert!(
        why.contains("[10, 20)") && why.contains("disagree"),
        "{why}"
    );
}

#[test]
fn ids_that_were_unknown_at_first_are_taken_from_later_files() {
    let mut early = whole(0, 10);
    footer_mut(&mut early).identity.topic_id = String::new();
    let made = rebuilt(&[early, whole(10, 20)]).unwrap();
    assert_eq!(made.topic_id, "t");
}

#[test]
fn a_recorded_loss_is_landed_and_one_that_waits_for_the_word_is_pending() {
    let none = OffsetSet::default();
    let keys = keys(0, 20, 30);
    let mut loss = file(&keys, 0, 20, 30, &none, &none);
    footer_mut(&mut loss).file.gap = Some([20, 30]);
    let made = rebuilt(&[whole(10, 20), loss.clone()]).unwrap();
    assert_eq!((made.next_offset, made.pending), (30, None));
    // A gap alone tells of no data folder: the one before it counts on.
    assert_eq!(made.roots.len(), 1);
    assert_eq!(rebuilt(&[loss]).unwrap().roots[0].data, "data");

    let read = OffsetSet::from_range(25, 30);
    let mut rest = file(&self::keys(1, 20, 30), 0, 20, 30, &read, &read);
    footer_mut(&mut rest).file.gap = Some([20, 25]);
    let made = rebuilt(&[whole(10, 20), rest]).unwrap();
    assert_eq!(made.next_offset, 20);
    assert_eq!(made.pending.map(|pending| pending.end), Some(30));
}

#[test]
fn a_loss_before_the_first_data_is_of_the_folder_that_comes() {
    let none = OffsetSet::default();
    let mut loss = file(&keys(0, 0, 10), 0, 0, 10, &none, &none);
    footer_mut(&mut loss).file.gap = Some([0, 10]);
    let mut first = whole(10, 20);
    let keys: Vec<String> = keys(1, 10, 20)
        .iter()
        .map(|key| key.replacen("data/", "older/data/", 1))
        .collect();
    first.key.clone_from(&keys[0]);
    footer_mut(&mut first).batch.keys = keys;
    let made = rebuilt(&[loss, first]).unwrap();
    assert_eq!(made.roots.len(), 1);
    assert_eq!(made.roots[0].data, "older/data");
    assert_eq!(made.roots[0].from_offset, 0);
}

#[test]
fn of_much_that_is_wrong_some_is_said() {
    let files: Vec<File> = (0..100).map(|n| whole(n * 20, n * 20 + 10)).collect();
    let why = rebuilt(&files).unwrap_err();
    assert_eq!(why.len(), SAID_MAX + 1);
    assert!(why.last().unwrap().contains("79 more"), "{why:?}");
}

#[test]
fn other_folders_from_an_offset_on_are_another_root() {
    let mut moved = whole(10, 20);
    let keys: Vec<String> = keys(1, 10, 20)
        .iter()
        .map(|key| key.replacen("data/", "new/data/", 1))
        .collect();
    moved.key.clone_from(&keys[0]);
    footer_mut(&mut moved).batch.keys = keys;
    footer_mut(&mut moved).batch.layout.extra = false;
    let made = rebuilt(&[whole(0, 10), moved]).unwrap();
    let roots: Vec<(i64, &str)> = made
        .roots
        .iter()
        .map(|root| (root.from_offset, root.data.as_str()))
        .collect();
    assert_eq!(roots, [(0, "data"), (10, "new/data")]);
    assert_eq!(made.columns, []);
}

/// Which key takes each offset: 0 and 1 data, 2 the dead letters, 3: Kafka holds no record there.
fn placed(places: &[usize], start: i64) -> (Vec<OffsetSet>, OffsetSet) {
    let of = |place: usize| -> OffsetSet {
        let here = places.iter().zip(start..).filter(|(at, _)| **at == place);
        here.map(|(_, offset)| offset).collect()
    };
    let planned = vec![of(0), of(1), of(2)];
    let read = planned
        .iter()
        .fold(OffsetSet::default(), |all, part| all.union(part));
    (planned, read)
}

/// The objects of a batch, by index: what each holds, and what its writer had read.
type Objects = BTreeMap<usize, (OffsetSet, OffsetSet)>;

/// Uploads a batch over what is there, until it is done; forced records go to the dead letters.
fn upload(keys: &[String], start: i64, end: i64, places: &[usize], objects: &mut Objects) {
    let (mut planned, read) = placed(places, start);
    'again: loop {
        let (mut upload, mut action) = Upload::new(UploadPlan {
            identity: identity(),
            start,
            end,
            keys: keys.to_vec(),
            planned: planned.clone(),
            read: read.clone(),
            lost: None,
            word: None,
        });
        loop {
            let (index, create) = match action {
                UploadAction::Finished => return,
                UploadAction::ReplayForced(forced) => {
                    planned[2] = planned[2].union(&forced);
                    for data in &mut planned[..2] {
                        *data = data.minus(&forced);
                    }
                    continue 'again;
                }
                UploadAction::Create { index, offsets, .. } => (index, Some(offsets)),
                UploadAction::Look { index } => (index, None),
                other => panic!("{other:?}"),
            };
            let event = match (objects.get(&index), create) {
                (Some((holds, read)), _) => {
                    let found = file(keys, index, start, end, holds, read);
                    UploadEvent::Exists(found.footer, holds.clone())
                }
                (None, Some(offsets)) => {
                    objects.insert(index, (offsets, read.clone()));
                    UploadEvent::Created
                }
                (None, None) => UploadEvent::Absent,
            };
            action = upload.step(event);
        }
    }
}

fn places() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0usize..4, 1..12)
}

proptest! {
    /// Whatever of a batch's objects there are, in the order of their creation: what is rebuilt
    /// goes on, under another decoder too, until each record of the batch is in one object.
    #[test]
    fn any_prefix_of_a_batch_goes_on_to_the_whole(
        before in places(),
        places in places(),
        opinions in prop::collection::vec(0usize..3, 12),
        cut in 0usize..4,
    ) {
        let (start, end) = (100, 100 + places.len() as i64);
        let mut all = vec![{
            let all = OffsetSet::from_range(100 - before.len() as i64, 100);
            let start = 100 - before.len() as i64;
            file(&keys(1, start, 100), 0, start, 100, &all, &all)
        }];
        let keys = keys(2, start, end);
        let mut objects = Objects::new();
        upload(&keys, start, end, &places, &mut objects);
        let whole = objects.len();
        let mut objects: Objects = objects.into_iter().take(cut).collect();
        for (index, (holds, read)) in &objects {
            all.push(file(&keys, *index, start, end, holds, read));
        }
        let made = rebuilt(&all).unwrap();
        prop_assert_eq!(made.first_offset, 100 - before.len() as i64);
        let is_begun = !objects.is_empty();
        match &made.pending {
            Some(pending) => {
                prop_assert!(is_begun && objects.len() < whole);
                prop_assert_eq!(made.next_offset, start);
                prop_assert_eq!(pending.end, end);
                prop_assert_eq!(&pending.keys, &keys);
                // Another version has another opinion on where each record belongs.
                let opinions: Vec<usize> = places
                    .iter()
                    .zip(&opinions)
                    .map(|(place, other)| if *place == 3 { 3 } else { *other })
                    .collect();
                upload(&keys, start, end, &opinions, &mut objects);
            }
            None if is_begun => prop_assert_eq!(made.next_offset, end),
            None => prop_assert_eq!(made.next_offset, start),
        }
        if is_begun {
            let (_, read) = placed(&places, start);
            let held = objects.values().map(|(holds, _)| holds.len()).sum::<u64>();
            let union = objects
                .values()
                .fold(OffsetSet::default(), |all, (holds, _)| all.union(holds));
            prop_assert_eq!(&union, &read);
            prop_assert_eq!(held, read.len());
        }
    }
}
