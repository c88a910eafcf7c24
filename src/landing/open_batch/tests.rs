use std::collections::BTreeSet;

use arrow::array::{Int32Array, Int64Array, StringArray};
use proptest::prelude::*;

use super::*;
use crate::budget::Budget;
use crate::config::{Compression, PartitionTime, PartitionUnit};
use crate::landing::claims::Replay;
use crate::landing::offsets::OffsetDigest;
use crate::landing::parquet_file::read_back;
use crate::landing::protocol::checkpoint::Pending;
use crate::landing::protocol::footer::Identity;

const CLAIM: ClaimId = ClaimId {
    partition: 0,
    epoch: 1,
};
const DAY_MS: i64 = 86_400_000;

/// A record: its offset, and the day of its timestamp, or that it became a reject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rec {
    Row(i64, i64),
    Bad(i64),
}

impl Rec {
    fn offset(self) -> i64 {
        match self {
            Rec::Row(offset, _) | Rec::Bad(offset) => offset,
        }
    }
}

fn rows(offsets: std::ops::Range<i64>) -> Vec<Rec> {
    offsets.map(|offset| Rec::Row(offset, 0)).collect()
}

fn layout(partition_by: &[PartitionUnit]) -> Arc<Layout> {
    Arc::new(Layout {
        columns: Vec::new(),
        extra: true,
        partition_by: partition_by.to_vec(),
        partition_time: PartitionTime::KafkaTimestamp,
    })
}

fn flat() -> Arc<Layout> {
    layout(&[])
}

fn by_date() -> Arc<Layout> {
    layout(&[PartitionUnit::Date])
}

fn rotation(max_rows: u64) -> Rotation {
    Rotation {
        max_rows,
        max_bytes: u64::MAX,
        max_age: Duration::from_secs(60),
        codec: Codec {
            compression: Compression::Uncompressed,
            row_group_rows: 1000,
        },
        names: Names {
            data: "data".into(),
            dead_letters: "dead".into(),
            checkpoints: "checkpoints".into(),
            group: "g".into(),
            topic: "iss".into(),
        },
    }
}

fn last_of(offset: i64) -> LastRecord {
    LastRecord {
        offset,
        timestamp_ms: 0,
        hash: offset as u64,
    }
}

fn holding(purpose: Purpose) -> Holding {
    let identity = Identity {
        cluster_id: "c".into(),
        topic_id: "t".into(),
        topic: "iss".into(),
        partition: 0,
        group: "g".into(),
    };
    Holding {
        identity: Arc::new(identity),
        purpose,
    }
}

/// What feeds a batch: one clock, one layout, one budget.
struct Feed {
    layout: Arc<Layout>,
    budget: Budget,
    read_at: Instant,
}

impl Feed {
    fn new(layout: Arc<Layout>) -> Self {
        Self {
            layout,
            budget: Budget::new(1 << 30),
            read_at: Instant::now(),
        }
    }

    fn open(&self, start: i64) -> OpenBatch {
        let purpose = Purpose::Land { begin: start };
        let layout = self.layout.clone();
        OpenBatch::new(CLAIM, holding(purpose), layout, start, self.budget.take(0))
    }

    fn replay(&self, start: i64, end: i64, keys: &[String]) -> OpenBatch {
        let pending = Pending {
            end,
            keys: keys.to_vec(),
            layout: (*self.layout).clone(),
            gap: None,
        };
        let purpose = Purpose::Replay(Arc::new(Replay {
            start,
            pending,
            lost: None,
        }));
        let layout = self.layout.clone();
        OpenBatch::new(CLAIM, holding(purpose), layout, start, self.budget.take(0))
    }

    /// The block of these records that ends at `position`.
    fn block(&self, records: &[Rec], position: i64, end: BlockEnd) -> RowBlock {
        let mut offsets = Vec::new();
        let mut times_us = Vec::new();
        let mut rejects = Vec::new();
        for record in records {
            match *record {
                Rec::Row(offset, day) => {
                    offsets.push(offset);
                    times_us.push(day * DAY_MS * 1000);
                }
                Rec::Bad(offset) => rejects.push(Reject {
                    offset,
                    timestamp_ms: 0,
                    key: None,
                    headers: Vec::new(),
                    value: Some(Bytes::from_static(b"{")),
                    cause: Cause::Syntax,
                    detail: "no object".into(),
                }),
            }
        }
        let extra = offsets
            .iter()
            .map(|offset| Some(format!("{{\"n\":{offset}}}")));
        let rows = RecordBatch::try_new(
            self.layout.schema(),
            vec![
                Arc::new(StringArray::from_iter(extra)),
                Arc::new(Int32Array::from_iter_values(offsets.iter().map(|_| 0))),
                Arc::new(Int64Array::from_iter_values(offsets.iter().copied())),
                Arc::new(
                    TimestampMicrosecondArray::from_iter_values(times_us).with_timezone("UTC"),
                ),
            ],
        )
        .unwrap();
        RowBlock {
            claim: CLAIM,
            layout: self.layout.clone(),
            start: 0,
            position,
            read_at: self.read_at,
            rows,
            rejects,
            last: records.last().map(|record| last_of(record.offset())),
            end,
            grant: self.budget.take(1000),
        }
    }

    fn more(&self, records: &[Rec], position: i64) -> RowBlock {
        self.block(records, position, BlockEnd::More)
    }
}

/// What these blocks come to, one after another.
fn absorb_all(
    open: OpenBatch,
    blocks: Vec<RowBlock>,
    rotation: &Rotation,
) -> (Vec<(CloseReason, Batch)>, Option<OpenBatch>) {
    let mut open = Some(open);
    let mut closed = Vec::new();
    for block in blocks {
        let absorbed = open.take().unwrap().absorb(block, rotation).unwrap();
        closed.extend(absorbed.closed);
        open = absorbed.open;
    }
    (closed, open)
}

fn ranges(closed: &[(CloseReason, Batch)]) -> Vec<(CloseReason, i64, i64)> {
    let range = |(reason, batch): &(CloseReason, Batch)| (*reason, batch.start, batch.end);
    closed.iter().map(range).collect()
}

fn set(offsets: &[i64]) -> OffsetSet {
    offsets.iter().copied().collect()
}

/// What the files of a batch hold, read back from their bytes.
fn held(batch: &Batch) -> Vec<OffsetSet> {
    batch
        .data
        .iter()
        .chain(&batch.dead_letters)
        .map(|file| {
            let (footer, offsets) = read_back(file.body.clone()).unwrap();
            let footer = footer.unwrap();
            assert_eq!(footer.batch.keys, batch.keys);
            assert_eq!(
                (footer.batch.start, footer.batch.end),
                (batch.start, batch.end)
            );
            assert_eq!(footer.batch.offsets, batch.read.digest());
            assert_eq!(footer.file.offsets, offsets.digest());
            assert_eq!(file.offsets, offsets);
            offsets
        })
        .collect()
}

fn bodies(batch: &Batch) -> Vec<Bytes> {
    let files = batch.data.iter().chain(&batch.dead_letters);
    files.map(|file| file.body.clone()).collect()
}

#[test]
fn a_batch_is_cut_at_exactly_max_rows_over_the_borders_of_blocks() {
    let feed = Feed::new(flat());
    let blocks = vec![
        feed.more(&rows(0..3), 3),
        feed.more(&rows(3..14), 14),
        feed.more(&rows(14..15), 15),
    ];
    let (closed, open) = absorb_all(feed.open(0), blocks, &rotation(5));
    let rows = CloseReason::Rows;
    assert_eq!(
        ranges(&closed),
        [(rows, 0, 5), (rows, 5, 10), (rows, 10, 15)]
    );
    for (_, batch) in &closed {
        let all = OffsetSet::from_range(batch.start, batch.end);
        assert_eq!((batch.read.clone(), held(batch)), (all.clone(), vec![all]));
        assert!(!batch.closes_claim);
    }
    assert!(!open.unwrap().has_records());
}

#[test]
fn rejects_count_as_rows_and_lie_between_them() {
    let feed = Feed::new(flat());
    let records = [
        Rec::Row(0, 0),
        Rec::Bad(1),
        Rec::Row(2, 0),
        Rec::Bad(3),
        Rec::Bad(4),
        Rec::Row(5, 0),
    ];
    let blocks = vec![feed.block(&records, 6, BlockEnd::Close)];
    let (closed, open) = absorb_all(feed.open(0), blocks, &rotation(4));
    assert!(open.is_none());
    assert_eq!(
        ranges(&closed),
        [(CloseReason::Rows, 0, 4), (CloseReason::Claim, 4, 6)]
    );
    assert_eq!(held(&closed[0].1), [set(&[0, 2]), set(&[1, 3])]);
    assert_eq!(held(&closed[1].1), [set(&[5]), set(&[4])]);
    assert_eq!(closed[0].1.read, set(&[0, 1, 2, 3]));
    assert_eq!(closed[0].1.causes, [(Cause::Syntax, 2)]);
    assert_eq!(closed[1].1.last, Some(last_of(5)));
}

#[test]
fn a_batch_of_rejects_alone_has_only_the_dead_letters() {
    let feed = Feed::new(flat());
    let blocks = vec![feed.block(&[Rec::Bad(3), Rec::Bad(7)], 9, BlockEnd::Close)];
    let (closed, _) = absorb_all(feed.open(2), blocks, &rotation(100));
    let batch = &closed[0].1;
    assert_eq!((batch.start, batch.end), (2, 9));
    assert_eq!(batch.keys, [rotation(1).names.dead_letters_file(0, 2, 9)]);
    assert_eq!(held(batch), [set(&[3, 7])]);
}

#[test]
fn a_batch_is_closed_once_its_bytes_are_reached() {
    let feed = Feed::new(flat());
    let limited = Rotation {
        max_bytes: 2 * reject_bytes(&feed.more(&[Rec::Bad(0)], 1).rejects[0]) as u64,
        ..rotation(1000)
    };
    let blocks = (0..5)
        .map(|offset| feed.more(&[Rec::Bad(offset)], offset + 1))
        .collect();
    let (closed, open) = absorb_all(feed.open(0), blocks, &limited);
    let bytes = CloseReason::Bytes;
    assert_eq!(ranges(&closed), [(bytes, 0, 2), (bytes, 2, 4)]);
    assert!(open.unwrap().has_records());
}

#[test]
fn a_batch_has_at_most_64_objects() {
    let feed = Feed::new(by_date());
    let days = |offsets: std::ops::Range<i64>| -> Vec<Rec> {
        offsets.map(|offset| Rec::Row(offset, offset)).collect()
    };
    let mut second = days(40..70);
    second.push(Rec::Row(70, 69));
    second.push(Rec::Bad(71));
    let blocks = vec![
        feed.more(&days(0..40), 40),
        feed.block(&second, 72, BlockEnd::Close),
    ];
    let (closed, _) = absorb_all(feed.open(0), blocks, &rotation(1000));
    assert_eq!(
        ranges(&closed),
        [(CloseReason::Folders, 0, 63), (CloseReason::Claim, 63, 72)]
    );
    assert_eq!(closed[0].1.keys.len(), 64);
    assert_eq!(closed[1].1.keys.len(), 8);
    assert_eq!(closed[1].1.last, Some(last_of(71)));

    let (closed, open) = absorb_all(
        feed.open(0),
        vec![feed.more(&days(0..63), 63)],
        &rotation(99),
    );
    assert!(closed.is_empty() && open.is_some());
}

#[test]
fn both_limits_may_cut_one_block() {
    let feed = Feed::new(by_date());
    let records: Vec<Rec> = (0..150).map(|offset| Rec::Row(offset, offset)).collect();
    let blocks = vec![feed.block(&records, 150, BlockEnd::Close)];
    let (closed, _) = absorb_all(feed.open(0), blocks, &rotation(100));
    let folders = CloseReason::Folders;
    assert_eq!(
        ranges(&closed),
        [
            (folders, 0, 63),
            (folders, 63, 126),
            (CloseReason::Claim, 126, 150)
        ]
    );
    assert_eq!(closed[2].1.read, OffsetSet::from_range(126, 150));
    assert_eq!(closed[2].1.last, Some(last_of(149)));
}

#[test]
fn rows_go_into_the_file_of_their_folder() {
    let feed = Feed::new(by_date());
    let records = [Rec::Row(0, 1), Rec::Row(1, 0), Rec::Row(2, 1)];
    let blocks = vec![feed.block(&records, 3, BlockEnd::Close)];
    let (closed, _) = absorb_all(feed.open(0), blocks, &rotation(100));
    let batch = &closed[0].1;
    let names = rotation(1).names;
    assert_eq!(
        batch.keys,
        [
            names.data_file("date=1970-01-01/", 0, 0, 3),
            names.data_file("date=1970-01-02/", 0, 0, 3),
            names.dead_letters_file(0, 0, 3),
        ]
    );
    assert_eq!(held(batch), [set(&[1]), set(&[0, 2])]);
    assert!(batch.dead_letters.is_none());
}

#[test]
fn the_end_of_a_claim_closes_what_is_open() {
    let feed = Feed::new(flat());
    let blocks = vec![
        feed.more(&rows(0..2), 2),
        feed.block(&[], 2, BlockEnd::Close),
    ];
    let (closed, open) = absorb_all(feed.open(0), blocks, &rotation(5));
    assert!(open.is_none());
    assert_eq!(ranges(&closed), [(CloseReason::Claim, 0, 2)]);
    assert!(closed[0].1.closes_claim);
    assert_eq!(closed[0].1.last, Some(last_of(1)));
}

#[test]
fn an_empty_batch_has_no_keys() {
    let feed = Feed::new(flat());
    let blocks = vec![feed.block(&[], 7, BlockEnd::Close)];
    let (closed, _) = absorb_all(feed.open(4), blocks, &rotation(5));
    let batch = &closed[0].1;
    assert!(batch.keys.is_empty() && batch.data.is_empty() && batch.dead_letters.is_none());
    assert!(batch.read.is_empty() && batch.closes_claim);
}

#[test]
fn a_batch_ends_at_the_position_holes_included() {
    let feed = Feed::new(flat());
    let blocks = vec![
        feed.more(&[Rec::Row(12, 0), Rec::Row(15, 0)], 20),
        feed.more(&[], 25),
        feed.block(&[], 30, BlockEnd::Close),
    ];
    let (closed, _) = absorb_all(feed.open(10), blocks, &rotation(100));
    let batch = &closed[0].1;
    assert_eq!((batch.start, batch.end), (10, 30));
    assert_eq!(batch.read, set(&[12, 15]));
}

#[test]
fn a_cut_within_a_block_leaves_its_holes_to_the_next_batch() {
    let feed = Feed::new(flat());
    let records = [Rec::Row(1, 0), Rec::Row(4, 0), Rec::Row(8, 0)];
    let blocks = vec![feed.block(&records, 12, BlockEnd::Close)];
    let (closed, _) = absorb_all(feed.open(0), blocks, &rotation(2));
    assert_eq!(
        ranges(&closed),
        [(CloseReason::Rows, 0, 5), (CloseReason::Claim, 5, 12)]
    );
}

#[test]
fn holes_alone_are_told_once_they_are_old() {
    let feed = Feed::new(flat());
    let age = Duration::from_secs(60);
    let old = feed.read_at + age;
    let (_, open) = absorb_all(feed.open(0), vec![feed.more(&[], 9)], &rotation(5));
    let mut open = open.unwrap();
    assert_eq!(open.holes_due(age, feed.read_at), None);
    assert_eq!(open.holes_due(age, old), Some(9));
    assert!(!open.is_due(age, old));
    open.holes_noted();
    assert_eq!(open.holes_due(age, old), None);

    let (_, open) = absorb_all(open, vec![feed.more(&rows(9..10), 10)], &rotation(5));
    let open = open.unwrap();
    assert_eq!(open.holes_due(age, old), None);
    assert!(open.is_due(age, old) && !open.is_due(age, feed.read_at));
    assert_eq!(open.close(&rotation(5), false).unwrap().start, 0);
}

#[test]
fn the_same_records_in_other_blocks_make_the_same_files() {
    let feed = Feed::new(by_date());
    let records: Vec<Rec> = (0..300)
        .map(|n| match n % 7 {
            0 => Rec::Bad(n),
            day => Rec::Row(n, day),
        })
        .collect();
    let batch = |sizes: &[usize]| {
        let mut from = 0;
        let mut blocks = Vec::new();
        for size in sizes {
            let part = &records[from..from + size];
            from += size;
            blocks.push(feed.more(part, from as i64));
        }
        assert_eq!(from, records.len());
        blocks.push(feed.block(&[], 300, BlockEnd::Close));
        absorb_all(feed.open(0), blocks, &rotation(1000))
            .0
            .remove(0)
            .1
    };
    let whole = batch(&[300]);
    assert_eq!(held(&whole).len(), 7);
    for sizes in [&[1, 299][..], &[100, 100, 100], &[7, 0, 93, 1, 199]] {
        let other = batch(sizes);
        assert_eq!((&other.keys, bodies(&other)), (&whole.keys, bodies(&whole)));
    }
}

// A range that is read again.

fn keys(names: &Names, days: &[&str], start: i64, end: i64) -> Vec<String> {
    let data = |day: &&str| names.data_file(&format!("date={day}/"), 0, start, end);
    let dead = names.dead_letters_file(0, start, end);
    days.iter().map(data).chain([dead]).collect()
}

#[test]
fn a_replay_is_cut_by_nothing_and_uses_the_pinned_keys() {
    let feed = Feed::new(by_date());
    let keys = keys(&rotation(1).names, &["1970-01-02", "1970-01-03"], 5, 20);
    let records: Vec<Rec> = (5..15)
        .map(|offset| Rec::Row(offset, 1 + offset % 2))
        .collect();
    let tight = Rotation {
        max_bytes: 1,
        ..rotation(2)
    };
    let blocks = vec![
        feed.more(&records[..3], 8),
        feed.block(&records[3..], 17, BlockEnd::Close),
    ];
    let (closed, _) = absorb_all(feed.replay(5, 20, &keys), blocks, &tight);
    assert_eq!(ranges(&closed), [(CloseReason::Claim, 5, 20)]);
    let batch = &closed[0].1;
    assert_eq!(batch.keys, keys);
    assert_eq!(
        held(batch),
        [set(&[6, 8, 10, 12, 14]), set(&[5, 7, 9, 11, 13])]
    );
    let open = feed.replay(5, 20, &keys);
    let (_, open) = absorb_all(open, vec![feed.more(&records, 15)], &tight);
    let far = feed.read_at + Duration::from_secs(1_000_000);
    let open = open.unwrap();
    assert!(!open.is_due(Duration::ZERO, far));
    assert_eq!(open.holes_due(Duration::ZERO, far), None);
}

#[test]
fn a_replay_creates_empty_listed_files_and_leaves_out_rows_of_unlisted_folders() {
    let feed = Feed::new(by_date());
    let keys = keys(&rotation(1).names, &["1970-01-02", "1970-01-09"], 0, 4);
    let records = [Rec::Row(0, 1), Rec::Row(1, 2), Rec::Bad(2), Rec::Row(3, 1)];
    let blocks = vec![feed.block(&records, 4, BlockEnd::Close)];
    let (closed, _) = absorb_all(feed.replay(0, 4, &keys), blocks, &rotation(100));
    let batch = &closed[0].1;
    assert_eq!(batch.keys, keys);
    assert_eq!(held(batch), [set(&[0, 3]), set(&[]), set(&[2])]);
    assert_eq!(batch.read, OffsetSet::from_range(0, 4));
}

#[test]
fn a_replay_of_a_range_that_is_gone_still_makes_its_files() {
    let feed = Feed::new(by_date());
    let keys = keys(&rotation(1).names, &["1970-01-02"], 0, 4);
    let blocks = vec![feed.block(&[], 4, BlockEnd::Close)];
    let (closed, _) = absorb_all(feed.replay(0, 4, &keys), blocks, &rotation(100));
    let batch = &closed[0].1;
    assert_eq!((held(batch), &batch.keys), (vec![set(&[])], &keys));
    assert_eq!(batch.read.digest(), OffsetDigest::default());
}

#[test]
fn a_replay_fills_the_pinned_keys_though_the_folders_were_renamed() {
    for (layout, day) in [(flat(), ""), (by_date(), "date=1970-01-02/")] {
        let feed = Feed::new(layout);
        let names = rotation(1).names;
        let keys = [
            names.data_file(day, 0, 0, 2),
            names.dead_letters_file(0, 0, 2),
        ];
        let renamed = Rotation {
            names: Names {
                data: "data-2".into(),
                dead_letters: "dead-2".into(),
                ..names
            },
            ..rotation(100)
        };
        let records = [Rec::Row(0, 1), Rec::Row(1, 1)];
        let blocks = vec![feed.block(&records, 2, BlockEnd::Close)];
        let (closed, _) = absorb_all(feed.replay(0, 2, &keys), blocks, &renamed);
        let batch = &closed[0].1;
        assert_eq!(batch.keys, keys);
        assert_eq!(held(batch), [set(&[0, 1])]);
    }
}

// The budget.

#[test]
fn the_budget_holds_exactly_what_is_held() {
    let feed = Feed::new(by_date());
    let records: Vec<Rec> = (0..50).map(|offset| Rec::Row(offset, offset % 3)).collect();
    let blocks = vec![feed.more(&records, 50), feed.more(&rows(50..60), 60)];
    let (mut closed, open) = absorb_all(feed.open(0), blocks, &rotation(40));
    let open = open.unwrap();
    let batch = closed.remove(0).1;
    let files = bodies(&batch).iter().map(Bytes::len).sum::<usize>() as u64;
    assert_eq!(batch.grant.bytes(), files.max(BATCH_BYTES_MIN));
    assert_eq!(open.grant.bytes(), open.memory_bytes());
    assert!(open.memory_bytes() > 0);
    let all = batch.grant.bytes() + open.memory_bytes();
    assert_eq!(feed.budget.held_bytes(), all);
    drop(open);
    assert_eq!(feed.budget.held_bytes(), batch.grant.bytes());
    drop(batch);
    assert_eq!(feed.budget.held_bytes(), 0);
}

// Any records in any blocks.

/// Records at rising offsets with holes, each behind a number that ends its block where it is 0.
fn any_records() -> impl Strategy<Value = Vec<(Rec, u8)>> {
    let record = (0i64..4, 0i64..6, prop::bool::weighted(0.2), 0u8..8);
    prop::collection::vec(record, 0..60).prop_map(|records| {
        let mut offset = 0;
        let mut next = |hole: i64| {
            offset += hole + 1;
            offset
        };
        records
            .into_iter()
            .map(|(hole, day, bad, border)| match bad {
                true => (Rec::Bad(next(hole)), border),
                false => (Rec::Row(next(hole), day), border),
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn batches_tile_the_range_and_hold_every_offset_once(
        records in any_records(),
        max_rows in 1u64..20,
        trailing in 0i64..3,
    ) {
        let feed = Feed::new(by_date());
        let end = records.last().map_or(0, |(record, _)| record.offset() + 1) + trailing;
        let mut blocks = Vec::new();
        let mut block: Vec<Rec> = Vec::new();
        for (record, border) in &records {
            block.push(*record);
            if *border == 0 {
                blocks.push(feed.more(&block, record.offset() + 1));
                block.clear();
            }
        }
        blocks.push(feed.block(&block, end, BlockEnd::Close));
        let (closed, open) = absorb_all(feed.open(0), blocks, &rotation(max_rows));
        prop_assert!(open.is_none());

        let mut position = 0;
        let mut rows = BTreeSet::new();
        let mut rejects = BTreeSet::new();
        for (reason, batch) in &closed {
            prop_assert_eq!(batch.start, position);
            position = batch.end;
            prop_assert!(batch.read.len() <= max_rows);
            prop_assert!(*reason == CloseReason::Claim || batch.read.len() == max_rows);
            let files = held(batch);
            let in_files: u64 = files.iter().map(OffsetSet::len).sum();
            let all = files.iter().fold(OffsetSet::default(), |all, file| all.union(file));
            prop_assert_eq!((in_files, &all), (batch.read.len(), &batch.read));
            prop_assert!(all.iter().all(|offset| (batch.start..batch.end).contains(&offset)));
            let dead = batch.dead_letters.iter().flat_map(|file| file.offsets.iter());
            rejects.extend(dead);
            rows.extend(batch.data.iter().flat_map(|file| file.offsets.iter()));
        }
        prop_assert_eq!(position, end);
        let offsets = |bad: bool| -> BTreeSet<i64> {
            let is_bad = |record: &Rec| matches!(record, Rec::Bad(_)) == bad;
            records.iter().map(|(record, _)| *record).filter(is_bad).map(Rec::offset).collect()
        };
        prop_assert_eq!(rows, offsets(false));
        prop_assert_eq!(rejects, offsets(true));
        drop(closed);
        prop_assert_eq!(feed.budget.held_bytes(), 0);
    }
}
