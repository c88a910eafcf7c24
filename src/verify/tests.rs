//! Each way to tamper with a bucket, on a bucket in memory that is written file by file.

use std::ops::Range;

use arrow::array::{
    ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::config::{Compression, PartitionTime};
use crate::landing::layout::Layout;
use crate::landing::ledger::encode;
use crate::landing::offsets::{OffsetDigest, OffsetSet};
use crate::landing::parquet_file::{
    Codec, DEAD_LETTERS_OFFSET_COLUMN, FileWriter, dead_letter_rows, dead_letters_schema,
    fingerprint, read_back,
};
use crate::landing::protocol::checkpoint::{Checkpoint, FORMAT, LastRecord, Pending, Root};
use crate::landing::protocol::footer::{BatchFooter, FOOTER_FORMAT, FileFooter, Footer};
use crate::messages::{Cause, Reject};
use crate::store::StoreError;
use crate::store::memory::MemoryStore;

const CODEC: Codec = Codec {
    compression: Compression::Zstd(1),
    row_group_rows: 1000,
};

fn layout() -> Layout {
    Layout {
        columns: Vec::new(),
        extra: true,
        partition_by: Vec::new(),
        partition_time: PartitionTime::KafkaTimestamp,
    }
}

fn identity(partition: i32) -> Identity {
    Identity {
        cluster_id: "cluster-1".into(),
        topic_id: "topic-1".into(),
        topic: "t-1".into(),
        partition,
        group: "g".into(),
    }
}

fn set(range: Range<i64>) -> OffsetSet {
    OffsetSet::from_range(range.start, range.end)
}

fn rows(partition: i32, offsets: &OffsetSet) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter(offsets.iter().map(|_| None::<&str>))),
        Arc::new(Int32Array::from_iter_values(
            offsets.iter().map(|_| partition),
        )),
        Arc::new(Int64Array::from_iter_values(offsets.iter())),
        Arc::new(TimestampMicrosecondArray::from_iter_values(offsets.iter()).with_timezone("UTC")),
    ];
    RecordBatch::try_new(layout().schema(), columns).unwrap()
}

fn data_body(footer: &Footer, offsets: &OffsetSet) -> Bytes {
    let mut writer = FileWriter::new(layout().schema(), layout().offset_column(), CODEC).unwrap();
    writer
        .push(rows(footer.identity.partition, offsets))
        .unwrap();
    writer.finish(footer).unwrap()
}

fn dead_body(footer: &Footer, offsets: &OffsetSet) -> Bytes {
    let reject = |offset| Reject {
        offset,
        timestamp_ms: 0,
        key: None,
        headers: Vec::new(),
        value: None,
        cause: Cause::Utf8,
        detail: String::new(),
    };
    let rejects: Vec<Reject> = offsets.iter().map(reject).collect();
    let rows = dead_letter_rows("t-1", footer.identity.partition, &rejects).unwrap();
    let mut writer =
        FileWriter::new(dead_letters_schema(), DEAD_LETTERS_OFFSET_COLUMN, CODEC).unwrap();
    writer.push(rows).unwrap();
    writer.finish(footer).unwrap()
}

/// A batch as a writer would place it.
#[derive(Debug, Clone)]
struct Batch {
    partition: i32,
    range: Range<i64>,
    data_root: String,
    dead_root: String,
    /// What each data file holds, by folder.
    data: Vec<(String, OffsetSet)>,
    dead: OffsetSet,
    gap: Option<[i64; 2]>,
}

impl Batch {
    fn names(&self) -> Names {
        Names {
            data: self.data_root.clone(),
            dead_letters: self.dead_root.clone(),
            checkpoints: "checkpoints".into(),
            group: "g".into(),
            topic: "t-1".into(),
        }
    }

    fn keys(&self) -> Vec<String> {
        let (start, end) = (self.range.start, self.range.end);
        let data = self
            .data
            .iter()
            .map(|(folder, _)| self.names().data_file(folder, self.partition, start, end));
        data.chain([self.names().dead_letters_file(self.partition, start, end)])
            .collect()
    }

    fn footer(&self, index: usize) -> Footer {
        let offsets = self
            .data
            .get(index)
            .map_or(&self.dead, |(_, offsets)| offsets);
        let is_dead = index == self.data.len();
        let all = self
            .data
            .iter()
            .fold(self.dead.clone(), |all, (_, offsets)| all.union(offsets));
        Footer {
            format: FOOTER_FORMAT,
            version: "0".into(),
            identity: identity(self.partition),
            fingerprint: fingerprint(&layout().schema()),
            file: FileFooter {
                offsets: offsets.digest(),
                rejects: if is_dead { offsets.len() } else { 0 },
                gap: self.gap,
            },
            batch: BatchFooter {
                start: self.range.start,
                end: self.range.end,
                keys: self.keys(),
                layout: layout(),
                offsets: all.digest(),
            },
        }
    }

    fn objects(&self) -> Vec<(String, Bytes)> {
        let keys = self.keys();
        let data = self.data.iter().enumerate().map(|(index, (_, offsets))| {
            (keys[index].clone(), data_body(&self.footer(index), offsets))
        });
        let last = self.data.len();
        let dead = (!self.dead.is_empty() || self.gap.is_some()).then(|| {
            (
                keys[last].clone(),
                dead_body(&self.footer(last), &self.dead),
            )
        });
        data.chain(dead).collect()
    }
}

struct Bucket {
    store: Arc<MemoryStore>,
    config: Config,
}

impl Bucket {
    fn empty() -> Self {
        let mut config = crate::testing::config();
        config.kafka.topic = "t-1".into();
        config.kafka.group = "g".into();
        config.store.data = "data".into();
        config.store.dead_letters = "dead".into();
        Self {
            store: Arc::new(MemoryStore::new()),
            config,
        }
    }

    /// Partition 0: [5, 35) in three batches; the second has two data files, a dead letter and two
    /// holes, and the third lies in other folders. Partition 1: [0, 10), with a gap at [0, 4).
    async fn whole() -> (Self, Vec<Batch>) {
        let bucket = Self::empty();
        let batches = batches();
        for batch in &batches {
            bucket.add(batch).await;
        }
        bucket.checkpoint(&checkpoint(0, 5..35)).await;
        bucket.checkpoint(&checkpoint(1, 0..10)).await;
        (bucket, batches)
    }

    async fn add(&self, batch: &Batch) {
        for (key, body) in batch.objects() {
            self.store.put(&key, body, None).await.unwrap();
        }
    }

    async fn put(&self, key: &str, body: Bytes) {
        self.store.put(key, body, None).await.unwrap();
    }

    async fn remove(&self, key: &str) {
        self.store.get(key).await.unwrap();
        self.store.delete(key).await.unwrap();
    }

    async fn body(&self, key: &str) -> Bytes {
        self.store.get(key).await.unwrap().body
    }

    async fn checkpoint(&self, (partition, checkpoint): &(i32, Checkpoint)) {
        let key = Names::of(&self.config).checkpoint(*partition);
        self.put(&key, encode(checkpoint)).await;
    }

    async fn verify(&self) -> Verdict {
        self.verify_since(None).await
    }

    async fn verify_since(&self, since_ms: Option<i64>) -> Verdict {
        verify_store(self.store.clone(), &self.config, since_ms).await
    }
}

async fn verify_store(store: SharedStore, config: &Config, since_ms: Option<i64>) -> Verdict {
    let question = Question {
        topic: false,
        since_ms,
    };
    let mut heard = Heard::default();
    let summary = verify(config, store, question, &mut heard).await.unwrap();
    let text = summary.to_string();
    let says_proven = text.lines().last().unwrap().starts_with("proven");
    assert_eq!(says_proven, summary.weight() == Weight::Told, "{text}");
    Verdict {
        findings: heard.0,
        summary,
    }
}

#[derive(Default)]
struct Heard(Vec<Finding>);

impl Output for Heard {
    fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        assert!(!finding.to_string().contains('\n'));
        self.0.push(finding.clone());
        Ok(())
    }

    fn progress(&mut self, progress: Progress) {
        assert!(progress.done <= progress.listed);
    }
}

#[derive(Debug)]
struct Verdict {
    findings: Vec<Finding>,
    summary: Summary,
}

impl Verdict {
    #[track_caller]
    fn proven(self) -> Summary {
        assert_eq!(self.summary.weight(), Weight::Told, "{:#?}", self.findings);
        self.summary
    }

    /// It is disproved, and this is among what is found.
    #[track_caller]
    fn disproved(self, kind: Kind, partition: i32, offsets: (i64, i64)) -> Self {
        assert_eq!(self.summary.weight(), Weight::Disproves, "{self:#?}");
        let found = self.findings.iter().any(|finding| {
            finding.kind == kind
                && finding.partition == Some(partition)
                && finding.offsets == Some(offsets)
        });
        assert!(found, "no {kind:?} {offsets:?} in {:#?}", self.findings);
        self
    }

    /// The object is named, by something that disproves.
    #[track_caller]
    fn naming(self, key: &str) -> Self {
        let named = self.findings.iter().any(|finding| {
            finding.kind.weight() == Weight::Disproves && finding.key.as_deref() == Some(key)
        });
        assert!(named, "{key} in {:#?}", self.findings);
        self
    }

    #[track_caller]
    fn unread(self) -> Self {
        assert_eq!(
            self.summary.weight(),
            Weight::Unread,
            "{:#?}",
            self.findings
        );
        self
    }
}

fn batch(
    partition: i32,
    range: Range<i64>,
    data: Vec<(&str, OffsetSet)>,
    dead: OffsetSet,
) -> Batch {
    Batch {
        partition,
        range,
        data_root: "data".into(),
        dead_root: "dead".into(),
        data: data
            .into_iter()
            .map(|(folder, offsets)| (folder.to_owned(), offsets))
            .collect(),
        dead,
        gap: None,
    }
}

fn batches() -> Vec<Batch> {
    let halves = vec![("date=1/", set(10..15)), ("date=2/", set(16..18))];
    let mut third = batch(0, 20..35, vec![("", set(20..35))], OffsetSet::default());
    third.data_root = "data-2".into();
    third.dead_root = "data-2/dead".into();
    let mut gap = batch(
        1,
        0..10,
        vec![("date=1/", set(4..10))],
        OffsetSet::default(),
    );
    gap.gap = Some([0, 4]);
    vec![
        batch(
            0,
            5..10,
            vec![("date=1/", set(5..10))],
            OffsetSet::default(),
        ),
        batch(0, 10..20, halves, set(18..19)),
        third,
        gap,
    ]
}

fn checkpoint(partition: i32, range: Range<i64>) -> (i32, Checkpoint) {
    let root = |from_offset, data: &str, dead: &str| Root {
        from_offset,
        data: data.into(),
        dead_letters: dead.into(),
        columns: Vec::new(),
    };
    let ours = identity(partition);
    let checkpoint = Checkpoint {
        format: FORMAT,
        revision: 5,
        epoch: 1,
        writer: "w".into(),
        time: "2026-01-01T00:00:00.000Z".into(),
        cluster_id: ours.cluster_id,
        topic_id: ours.topic_id,
        first_offset: range.start,
        next_offset: range.end,
        holes_to: range.end,
        last: Some(LastRecord {
            offset: range.end - 1,
            timestamp_ms: 1000,
            hash: 0,
        }),
        pending: None,
        partitions: 2,
        started_ms: 0,
        columns: Vec::new(),
        roots: vec![root(0, "data", "dead"), root(20, "data-2", "data-2/dead")],
        stopped: None,
        adopted: None,
    };
    (partition, checkpoint)
}

#[tokio::test]
async fn a_whole_bucket_is_proven_over_all_its_roots_and_its_holes_and_gaps_are_counted() {
    let (bucket, _) = Bucket::whole().await;
    let verdict = bucket.verify().await;
    let gaps: Vec<_> = verdict
        .findings
        .iter()
        .map(|finding| (finding.kind, finding.offsets))
        .collect();
    assert_eq!(gaps, [(Kind::Gap, Some((0, 4)))]);
    let summary = verdict.proven();
    assert_eq!(summary.folders, ["data-2/", "data/", "dead/"]);
    let [first, second] = &summary.partitions[..] else {
        panic!("{summary:?}");
    };
    assert_eq!(first.range, Some((5, 35)));
    let totals = &first.totals;
    assert_eq!((totals.batches, totals.files, totals.rows), (3, 5, 27));
    assert_eq!((totals.dead_letters, totals.holes, totals.lost), (1, 2, 0));
    let totals = &second.totals;
    assert_eq!((totals.rows, totals.holes, totals.lost), (6, 0, 4));
}

#[tokio::test]
async fn a_removed_file_is_missing() {
    let (bucket, batches) = Bucket::whole().await;
    bucket.remove(&batches[0].keys()[0]).await;
    bucket.verify().await.disproved(Kind::Missing, 0, (5, 10));
    let (bucket, batches) = Bucket::whole().await;
    bucket.remove(&batches[2].keys()[0]).await;
    bucket.verify().await.disproved(Kind::Missing, 0, (20, 35));
}

#[tokio::test]
async fn one_removed_file_of_two_is_missing() {
    for index in [0, 1] {
        let (bucket, batches) = Bucket::whole().await;
        let key = batches[1].keys()[index].clone();
        bucket.remove(&key).await;
        bucket
            .verify()
            .await
            .disproved(Kind::Missing, 0, (10, 20))
            .naming(&key);
    }
}

#[tokio::test]
async fn a_removed_dead_letter_is_missing_by_what_the_footers_name() {
    let (bucket, batches) = Bucket::whole().await;
    let mut dense = batches[1].clone();
    dense.range = 35..38;
    dense.data = vec![("date=1/".into(), set(35..37))];
    dense.dead = set(37..38);
    bucket.add(&dense).await;
    bucket.checkpoint(&checkpoint(0, 5..38)).await;
    bucket.verify().await.proven();
    bucket.remove(&dense.keys()[1]).await;
    // It is certain which.
    bucket.verify().await.disproved(Kind::Missing, 0, (37, 38));
    let (bucket, batches) = Bucket::whole().await;
    bucket.remove(&batches[1].keys()[2]).await;
    // It is one of those that may also be holes.
    bucket.verify().await.disproved(Kind::Missing, 0, (10, 20));
}

#[tokio::test]
async fn a_removed_record_of_a_gap_is_missing() {
    let (bucket, batches) = Bucket::whole().await;
    bucket.remove(&batches[3].keys()[1]).await;
    bucket.verify().await.disproved(Kind::Missing, 1, (0, 10));
}

#[tokio::test]
async fn a_file_under_another_name_is_doubled() {
    let (bucket, batches) = Bucket::whole().await;
    let key = &batches[0].keys()[0];
    let name = key.rsplit('/').next().unwrap();
    for copy in [
        format!("data/date=2/{name}"),
        "data/copy.parquet".to_owned(),
        key.replace("t-1-", "other-topic-"),
        key.replace("t-1-00000", "t-1-00003"),
        key.replace("09.parquet", "07.parquet"),
        key.replace("05-0000", "90-0000")
            .replace("09.parquet", "99.parquet"),
        format!("dead/{name}"),
        format!("data-2/{name}"),
    ] {
        bucket.put(&copy, bucket.body(key).await).await;
        bucket
            .verify()
            .await
            .disproved(Kind::Doubled, 0, (5, 10))
            .naming(&copy);
        bucket.remove(&copy).await;
    }
    bucket.verify().await.proven();
}

/// The file again with other rows under the same footer.
async fn with_rows(bucket: &Bucket, key: &str, offsets: &OffsetSet) {
    let (footer, _) = read_back(bucket.body(key).await).unwrap();
    bucket.put(key, data_body(&footer.unwrap(), offsets)).await;
}

#[tokio::test]
async fn a_removed_row_is_missing() {
    let (bucket, batches) = Bucket::whole().await;
    let key = &batches[2].keys()[0];
    with_rows(&bucket, key, &set(20..35).minus(&set(27..28))).await;
    bucket
        .verify()
        .await
        .disproved(Kind::Missing, 0, (27, 28))
        .naming(key);
}

#[tokio::test]
async fn an_added_row_is_foreign() {
    let (bucket, batches) = Bucket::whole().await;
    let keys = batches[1].keys();
    // Into a hole; outside of the batch; what the other file holds; twice in one file.
    with_rows(&bucket, &keys[0], &set(10..16)).await;
    bucket
        .verify()
        .await
        .disproved(Kind::Foreign, 0, (10, 20))
        .naming(&keys[0]);
    with_rows(&bucket, &keys[0], &set(8..15)).await;
    bucket.verify().await.disproved(Kind::Foreign, 0, (8, 10));
    with_rows(&bucket, &keys[0], &set(10..17)).await;
    bucket
        .verify()
        .await
        .disproved(Kind::Doubled, 0, (16, 17))
        .naming(&keys[1]);
    let (footer, _) = read_back(bucket.body(&keys[0]).await).unwrap();
    let body = append_unordered(
        &footer.unwrap(),
        &[rows(0, &set(10..15)), rows(0, &set(12..13))],
    );
    bucket.put(&keys[0], body).await;
    bucket.verify().await.disproved(Kind::Doubled, 0, (12, 13));
}

/// Rows as they are given, in whichever order.
fn append_unordered(footer: &Footer, parts: &[RecordBatch]) -> Bytes {
    let properties = None;
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(Vec::new(), layout().schema(), properties).unwrap();
    for part in parts {
        writer.write(part).unwrap();
    }
    let text = serde_json::to_string(footer).unwrap();
    let entry = parquet::file::metadata::KeyValue::new("groundtrack".to_owned(), text);
    writer.append_key_value_metadata(entry);
    Bytes::from(writer.into_inner().unwrap())
}

#[tokio::test]
async fn rows_of_another_partition_are_foreign() {
    let (bucket, batches) = Bucket::whole().await;
    let footer = batches[0].footer(0);
    let body = append_unordered(&footer, &[rows(1, &set(5..10))]);
    bucket.put(&batches[0].keys()[0], body).await;
    bucket.verify().await.disproved(Kind::Foreign, 0, (5, 10));
}

/// The object again with a footer that says something else.
async fn with_footer(bucket: &Bucket, key: &str, change: impl FnOnce(&mut Footer)) {
    let (footer, offsets) = read_back(bucket.body(key).await).unwrap();
    let mut footer = footer.unwrap();
    let is_dead = footer.batch.keys.last().is_some_and(|last| last == key);
    change(&mut footer);
    let body = match is_dead {
        true => dead_body(&footer, &offsets),
        false => data_body(&footer, &offsets),
    };
    bucket.put(key, body).await;
}

#[tokio::test]
async fn a_file_of_another_group_topic_or_log_is_foreign() {
    type Change = fn(&mut Footer);
    let changes: [Change; 5] = [
        |footer| footer.identity.group = "other".into(),
        |footer| footer.identity.topic = "other".into(),
        |footer| footer.identity.topic_id = "topic-2".into(),
        |footer| footer.identity.cluster_id = "cluster-2".into(),
        |footer| footer.identity.partition = 4,
    ];
    for change in changes {
        let (bucket, batches) = Bucket::whole().await;
        let key = batches[0].keys()[0].clone();
        with_footer(&bucket, &key, change).await;
        bucket
            .verify()
            .await
            .disproved(Kind::Missing, 0, (5, 10))
            .naming(&key);
    }
    // Beside ours, where nothing of ours is missing.
    let (bucket, _) = Bucket::whole().await;
    let theirs = batch(0, 3..7, vec![("date=1/", set(3..7))], OffsetSet::default());
    bucket.add(&theirs).await;
    let key = theirs.keys()[0].clone();
    with_footer(&bucket, &key, |footer| {
        footer.identity.group = "other".into()
    })
    .await;
    bucket
        .verify()
        .await
        .disproved(Kind::Foreign, 0, (3, 7))
        .naming(&key);
}

#[tokio::test]
async fn an_object_replaced_by_another_batchs_is_found() {
    let (bucket, batches) = Bucket::whole().await;
    let (first, second) = (batches[0].keys()[0].clone(), batches[1].keys()[0].clone());
    bucket.put(&first, bucket.body(&second).await).await;
    let verdict = bucket.verify().await.disproved(Kind::Missing, 0, (5, 10));
    verdict.disproved(Kind::Doubled, 0, (10, 20)).naming(&first);
}

#[tokio::test]
async fn a_footer_that_lies_is_found() {
    type Change = fn(&mut Footer);
    let changes: [Change; 8] = [
        |footer| footer.file.offsets.count += 1,
        |footer| footer.file.offsets.sum += 1,
        |footer| footer.file.rejects = 1,
        |footer| footer.file.gap = Some([10, 11]),
        |footer| footer.batch.end += 1,
        |footer| footer.batch.offsets.count += 1,
        |footer| footer.batch.offsets.sum += 1,
        |footer| footer.batch.keys.truncate(2),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let bucket = Bucket::empty();
        let alone = batch(0, 10..20, vec![("", set(10..20))], set(0..0));
        bucket.add(&alone).await;
        let other = batch(
            0,
            20..25,
            vec![("date=1/", set(20..23)), ("date=2/", set(23..25))],
            set(0..0),
        );
        bucket.add(&other).await;
        let (_, mut checkpoint) = checkpoint(0, 10..25);
        checkpoint.partitions = 1;
        bucket.checkpoint(&(0, checkpoint)).await;
        bucket.verify().await.proven();
        // The batch of one file; of two, where a lie of one alone contradicts the other.
        for key in [&alone.keys()[0], &other.keys()[0]] {
            let whole = bucket.body(key).await;
            with_footer(&bucket, key, change).await;
            // One key less is told by none where there is one file; and that a loss was known to
            // the writer of a file is no loss where the file beside it proves that all is there.
            let is_alone = key == &alone.keys()[0];
            let is_harmless = number == 7 && is_alone || number == 3 && !is_alone;
            let weight = bucket.verify().await.summary.weight();
            assert_eq!(weight == Weight::Told, is_harmless, "{number} of {key}");
            bucket.put(key, whole).await;
        }
    }
}

#[tokio::test]
async fn a_checkpoint_moved_forward_or_back_is_found() {
    for (range, kind, found) in [
        (5..40, Kind::Missing, (35, 40)),
        (2..35, Kind::Missing, (2, 5)),
        (5..20, Kind::Foreign, (20, 35)),
        (5..25, Kind::Foreign, (20, 35)),
        (10..35, Kind::Foreign, (5, 10)),
        (7..35, Kind::Foreign, (5, 10)),
    ] {
        let (bucket, _) = Bucket::whole().await;
        bucket.checkpoint(&checkpoint(0, range)).await;
        bucket.verify().await.disproved(kind, 0, found);
    }
}

#[tokio::test]
async fn a_partition_whose_checkpoint_is_gone_is_found_by_its_objects() {
    let (bucket, _) = Bucket::whole().await;
    let key = Names::of(&bucket.config).checkpoint(0);
    bucket.remove(&key).await;
    bucket
        .verify()
        .await
        .disproved(Kind::Missing, 0, (5, 35))
        .naming(&key);
}

#[tokio::test]
async fn a_partition_of_which_nothing_is_left_is_not_proven() {
    let (bucket, batches) = Bucket::whole().await;
    bucket
        .remove(&Names::of(&bucket.config).checkpoint(1))
        .await;
    for (key, _) in batches[3].objects() {
        bucket.remove(&key).await;
    }
    bucket.verify().await.unread();
    Bucket::empty().verify().await.unread();
}

#[tokio::test]
async fn a_gap_claimed_that_is_none_is_found() {
    // Over offsets that are all there.
    let bucket = Bucket::empty();
    let mut claimed = batch(0, 0..10, vec![("", set(0..10))], OffsetSet::default());
    claimed.gap = Some([2, 4]);
    bucket.add(&claimed).await;
    let (_, mut whole) = checkpoint(0, 0..10);
    whole.partitions = 1;
    bucket.checkpoint(&(0, whole.clone())).await;
    bucket.verify().await.disproved(Kind::Foreign, 0, (2, 4));
    // Over a hole, though a footer of who knew of no loss names all that is there.
    let bucket = Bucket::empty();
    let holes = batch(
        0,
        0..10,
        vec![("", set(0..2).union(&set(4..10)))],
        OffsetSet::default(),
    );
    bucket.add(&holes).await;
    let mut claimed = holes.clone();
    claimed.gap = Some([2, 4]);
    let (key, body) = claimed.objects().pop().unwrap();
    bucket.put(&key, body).await;
    bucket.checkpoint(&(0, whole.clone())).await;
    bucket
        .verify()
        .await
        .disproved(Kind::Foreign, 0, (2, 4))
        .naming(&key);
    // Outside of its batch.
    let bucket = Bucket::empty();
    let mut claimed = holes.clone();
    claimed.gap = Some([2, 14]);
    bucket.add(&claimed).await;
    bucket.checkpoint(&(0, whole.clone())).await;
    bucket.verify().await.disproved(Kind::Foreign, 0, (2, 14));
    // Over fewer offsets than a footer of who knew of no loss says are missing.
    let bucket = Bucket::empty();
    let read = batch(
        0,
        0..10,
        vec![("date=1/", set(0..5)), ("date=2/", set(5..10))],
        OffsetSet::default(),
    );
    let mut lost = read.clone();
    lost.data[1].1 = set(7..10);
    lost.gap = Some([5, 6]);
    bucket.add(&lost).await;
    bucket
        .put(&read.keys()[0], read.objects()[0].1.clone())
        .await;
    bucket.checkpoint(&(0, whole.clone())).await;
    bucket.verify().await.disproved(Kind::Missing, 0, (6, 7));
    // And where the gap says all that is missing, it is one.
    lost.gap = Some([5, 7]);
    bucket.add(&lost).await;
    bucket
        .put(&read.keys()[0], read.objects()[0].1.clone())
        .await;
    bucket.verify().await.proven();
}

#[tokio::test]
async fn a_batch_that_is_nothing_but_a_gap_is_proven() {
    let (bucket, _) = Bucket::whole().await;
    let mut gap = batch(1, 10..50, Vec::new(), OffsetSet::default());
    gap.gap = Some([12, 50]);
    bucket.add(&gap).await;
    bucket.checkpoint(&checkpoint(1, 0..50)).await;
    let summary = bucket.verify().await.proven();
    assert_eq!(
        (
            summary.partitions[1].totals.lost,
            summary.partitions[1].totals.holes
        ),
        (42, 2)
    );
}

#[tokio::test]
async fn somebody_elses_files_and_other_topics_are_counted_and_named() {
    let (bucket, _) = Bucket::whole().await;
    bucket.put("data/_SUCCESS", Bytes::new()).await;
    bucket
        .put(
            "data/notes.txt",
            Bytes::from_static(b"written by somebody else"),
        )
        .await;
    let other = batch(0, 0..5, vec![("", set(0..5))], OffsetSet::default());
    let mut footer = other.footer(0);
    footer.identity.topic = "t-2".into();
    let key = other.keys()[0].replace("t-1", "t-2");
    bucket.put(&key, data_body(&footer, &set(0..5))).await;
    bucket
        .put("checkpoints/g/t-1/notes.json", Bytes::from_static(b"{}"))
        .await;
    let verdict = bucket.verify().await;
    let others: Vec<_> = verdict
        .findings
        .iter()
        .filter(|finding| finding.kind == Kind::Other)
        .collect();
    let keys: Vec<_> = others
        .iter()
        .filter_map(|finding| finding.key.as_deref())
        .collect();
    assert_eq!(keys, ["data/_SUCCESS", "data/notes.txt", &key]);
    assert_eq!(verdict.proven().found[&Kind::Other], 3);
}

#[tokio::test]
async fn what_is_under_way_is_in_flight() {
    let (bucket, _) = Bucket::whole().await;
    let next = batch(
        0,
        35..40,
        vec![("date=1/", set(35..38)), ("date=2/", set(38..40))],
        OffsetSet::default(),
    );
    let (_, mut begun) = checkpoint(0, 5..35);
    begun.pending = Some(Pending {
        end: 40,
        keys: next.keys(),
        layout: layout(),
        gap: None,
    });
    bucket.checkpoint(&(0, begun)).await;
    bucket.verify().await.proven();
    bucket
        .put(&next.keys()[0], next.objects()[0].1.clone())
        .await;
    let summary = bucket.verify().await.proven();
    assert_eq!(summary.partitions[0].in_flight_to, Some(40));
    assert_eq!(summary.partitions[0].totals.files_in_flight, 1);
    // Another cut of the same range was never begun.
    let other = batch(0, 35..39, vec![("", set(35..39))], OffsetSet::default());
    bucket.add(&other).await;
    bucket.verify().await.disproved(Kind::Foreign, 0, (35, 39));
}

#[tokio::test]
async fn what_this_version_cannot_read_is_not_proven() {
    let (bucket, _) = Bucket::whole().await;
    let key = Names::of(&bucket.config).checkpoint(0);
    bucket
        .put(
            &key,
            Bytes::from_static(b"{\"format\": 2, \"next_offset\": 35}"),
        )
        .await;
    bucket.verify().await.unread();
    let (bucket, batches) = Bucket::whole().await;
    with_footer(&bucket, &batches[0].keys()[0], |footer| footer.format = 2).await;
    bucket.verify().await.unread();
    // Its end is whole, its pages are not.
    let (bucket, batches) = Bucket::whole().await;
    let mut damaged = bucket.body(&batches[0].keys()[0]).await.to_vec();
    damaged[4..200].fill(0xff);
    bucket
        .put(&batches[0].keys()[0], Bytes::from(damaged))
        .await;
    bucket.verify().await.unread();
}

/// A store that refuses to give one object.
#[derive(Debug)]
struct Closed {
    store: Arc<MemoryStore>,
    key: String,
}

#[async_trait::async_trait]
impl ObjectStore for Closed {
    async fn put(
        &self,
        key: &str,
        body: Bytes,
        condition: Option<crate::store::Condition>,
    ) -> Result<crate::store::ETag, StoreError> {
        self.store.put(key, body, condition).await
    }
    async fn get(&self, key: &str) -> Result<crate::store::Object, StoreError> {
        match key == self.key {
            true => Err(StoreError::Refused("403 AccessDenied".to_owned())),
            false => self.store.get(key).await,
        }
    }
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        match key == self.key {
            true => Err(StoreError::Refused("403 AccessDenied".to_owned())),
            false => self.store.get_range(key, range).await,
        }
    }
    async fn head(&self, key: &str) -> Result<(u64, crate::store::ETag), StoreError> {
        self.store.head(key).await
    }
    async fn list_page(
        &self,
        prefix: &str,
        from: Option<&str>,
    ) -> Result<crate::store::Page, StoreError> {
        self.store.list_page(prefix, from).await
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.store.delete(key).await
    }
    fn location(&self) -> String {
        self.store.location()
    }
}

#[tokio::test]
async fn an_object_that_the_store_refuses_to_give_is_not_proven_and_not_missing() {
    let (bucket, batches) = Bucket::whole().await;
    for key in batches
        .iter()
        .flat_map(|batch| batch.objects())
        .map(|(key, _)| key)
    {
        let store = Closed {
            store: bucket.store.clone(),
            key: key.clone(),
        };
        let verdict = verify_store(Arc::new(store), &bucket.config, None).await;
        assert!(
            verdict
                .findings
                .iter()
                .any(|finding| finding.key.as_deref() == Some(&key))
        );
        verdict.unread();
    }
}

const HOUR_MS: i64 = 3_600_000;

#[tokio::test]
async fn what_may_have_been_removed_for_its_age_is_said_exactly() {
    let later_ms = chrono::Utc::now().timestamp_millis() + HOUR_MS;
    let unproven = |verdict: &Verdict| -> Vec<(i64, i64)> {
        let found = verdict
            .findings
            .iter()
            .filter(|finding| finding.kind == Kind::Unproven);
        found.filter_map(|finding| finding.offsets).collect()
    };
    let (bucket, batches) = Bucket::whole().await;
    assert_eq!(unproven(&bucket.verify_since(Some(later_ms)).await), []);
    bucket.remove(&batches[0].keys()[0]).await;
    let verdict = bucket.verify_since(Some(later_ms)).await;
    assert_eq!(unproven(&verdict), [(5, 10)]);
    let summary = verdict.proven();
    assert!(summary.to_string().contains("except"), "{summary}");
    // One of the files of a batch, and then its dead letters too.
    bucket.remove(&batches[1].keys()[0]).await;
    let verdict = bucket.verify_since(Some(later_ms)).await;
    assert_eq!(unproven(&verdict), [(5, 10), (10, 20), (10, 20)]);
    verdict.proven();
    // All that is old may be gone, down to the last.
    bucket.remove(&batches[2].keys()[0]).await;
    let verdict = bucket.verify_since(Some(later_ms)).await;
    assert!(unproven(&verdict).contains(&(20, 35)));
    verdict.proven();
    // But not what is younger, nor what was added or doubled.
    bucket
        .verify_since(Some(0))
        .await
        .disproved(Kind::Missing, 0, (20, 35));
    bucket
        .put(
            "data/copy.parquet",
            bucket.body(&batches[1].keys()[1]).await,
        )
        .await;
    bucket
        .verify_since(Some(later_ms))
        .await
        .disproved(Kind::Doubled, 0, (10, 20));
}

#[tokio::test]
async fn behind_a_young_file_none_may_be_missing() {
    let (bucket, batches) = Bucket::whole().await;
    let now_ms = chrono::Utc::now().timestamp_millis();
    bucket.remove(&batches[1].keys()[0]).await;
    // All files are younger: what is before the first of them may be gone, this is behind it.
    bucket
        .verify_since(Some(now_ms - HOUR_MS))
        .await
        .disproved(Kind::Missing, 0, (10, 20));
    let (bucket, batches) = Bucket::whole().await;
    bucket.remove(&batches[0].keys()[0]).await;
    bucket.verify_since(Some(now_ms - HOUR_MS)).await.proven();
    // Of the first batch that is left, what was created before what is left of it.
    bucket.remove(&batches[1].keys()[0]).await;
    bucket.verify_since(Some(now_ms - HOUR_MS)).await.proven();
    let (bucket, batches) = Bucket::whole().await;
    bucket.remove(&batches[0].keys()[0]).await;
    bucket.remove(&batches[1].keys()[1]).await;
    bucket
        .verify_since(Some(now_ms - HOUR_MS))
        .await
        .disproved(Kind::Missing, 0, (10, 20));
}

#[tokio::test]
async fn the_document_is_whole_and_says_the_same() {
    let (bucket, batches) = Bucket::whole().await;
    bucket.remove(&batches[0].keys()[0]).await;
    for is_whole in [false, true] {
        if is_whole {
            bucket.add(&batches[0]).await;
        }
        let mut out = Vec::new();
        let mut report = JsonReport::new(&mut out, Bar::on_stderr());
        let summary = verify(
            &bucket.config,
            bucket.store.clone(),
            Question::default(),
            &mut report,
        )
        .await;
        report.finish(&summary.unwrap()).unwrap();
        let document: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let verdict = if is_whole { "proven" } else { "disproved" };
        assert_eq!(document["verdict"], verdict, "{document:#}");
        assert_eq!(document["found"]["missing"], u64::from(!is_whole));
        let kinds: Vec<_> = document["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|finding| finding["kind"].as_str().unwrap())
            .collect();
        let expected: &[&str] = if is_whole {
            &["gap"]
        } else {
            &["missing", "gap"]
        };
        assert_eq!(kinds, expected);
        assert_eq!(document["partitions"][0]["next_offset"], 35);
    }
}

/// What is done to a bucket at random.
#[derive(Debug, Clone)]
enum Tamper {
    Remove(usize),
    RemoveRow(usize, u64),
    AddRow(usize, i64),
    Copy(usize, usize),
    Replace(usize, usize),
    Flip(usize, u64),
    Next(i64),
    First(i64),
}

fn tamper() -> impl Strategy<Value = Tamper> {
    let (index, number) = (0usize..100, any::<u64>());
    prop_oneof![
        index.clone().prop_map(Tamper::Remove),
        (index.clone(), number).prop_map(|(index, number)| Tamper::RemoveRow(index, number)),
        (index.clone(), 0i64..200).prop_map(|(index, offset)| Tamper::AddRow(index, offset)),
        (index.clone(), 0usize..100).prop_map(|(index, name)| Tamper::Copy(index, name)),
        (index.clone(), 0usize..100).prop_map(|(index, other)| Tamper::Replace(index, other)),
        (index, number).prop_map(|(index, number)| Tamper::Flip(index, number)),
        prop_oneof![-200i64..0, 1i64..200].prop_map(Tamper::Next),
        prop_oneof![-200i64..0, 1i64..200].prop_map(Tamper::First),
    ]
}

/// Batches of one partition that tile: for each the lengths of runs of (file or hole).
fn random_batches() -> impl Strategy<Value = Vec<Batch>> {
    let run = (0usize..4, 1i64..5);
    let one = prop::collection::vec(run, 1..6);
    prop::collection::vec(one, 1..6).prop_map(|batches| {
        let mut next = 100;
        let mut all = Vec::new();
        for runs in batches {
            let start = next;
            let mut sets = vec![OffsetSet::default(); 4];
            for (place, length) in runs {
                sets[place] = sets[place].union(&set(next..next + length));
                next += length;
            }
            // At least one data file, as a writer makes.
            let folders = ["date=1/", "date=2/"];
            let mut data: Vec<(&str, OffsetSet)> = folders
                .into_iter()
                .zip(sets.drain(..2))
                .filter(|(_, offsets)| !offsets.is_empty())
                .collect();
            if data.is_empty() {
                data.push(("date=1/", OffsetSet::default()));
            }
            all.push(batch(0, start..next, data, sets.remove(0)));
        }
        all
    })
}

/// What of a footer matters to the proof.
fn said(footer: &Footer, key: &String) -> (Identity, FileFooter, (i64, i64), bool, OffsetDigest) {
    let batch = &footer.batch;
    let is_listed = batch.keys.contains(key);
    (
        footer.identity.clone(),
        footer.file.clone(),
        (batch.start, batch.end),
        is_listed,
        batch.offsets,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_tampered_bucket_is_proven(batches in random_batches(), tamper in tamper()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bucket = Bucket::empty();
            let mut objects = Vec::new();
            for batch in &batches {
                bucket.add(batch).await;
                objects.extend(batch.objects());
            }
            let range = 100..batches.last().unwrap().range.end;
            let (_, mut whole) = checkpoint(0, range.clone());
            whole.partitions = 1;
            whole.roots.truncate(1);
            bucket.checkpoint(&(0, whole.clone())).await;
            let summary = bucket.verify().await.proven();
            let held: u64 = summary.partitions.iter().map(|partition| partition.totals.rows + partition.totals.dead_letters).sum();
            let expected: u64 = batches.iter().map(|batch| batch.data.iter().map(|(_, offsets)| offsets.len()).sum::<u64>() + batch.dead.len()).sum();
            assert_eq!(held, expected);

            let index = match tamper {
                Tamper::Remove(index) | Tamper::RemoveRow(index, _) | Tamper::AddRow(index, _) | Tamper::Copy(index, _) | Tamper::Replace(index, _) | Tamper::Flip(index, _) => index,
                Tamper::Next(_) | Tamper::First(_) => 0,
            };
            let (key, body) = objects[index % objects.len()].clone();
            let (footer, offsets) = read_back(body.clone()).unwrap();
            let footer = footer.unwrap();
            let is_dead = footer.batch.keys.last() == Some(&key);
            let rebuilt = |offsets: &OffsetSet| match is_dead {
                true => dead_body(&footer, offsets),
                false => data_body(&footer, offsets),
            };
            let mut is_changed = true;
            match tamper {
                Tamper::Remove(_) => bucket.remove(&key).await,
                Tamper::RemoveRow(_, number) => match offsets.len() {
                    0 => is_changed = false,
                    count => {
                        let row = offsets.iter().nth((number % count) as usize).unwrap();
                        bucket.put(&key, rebuilt(&offsets.minus(&set(row..row + 1)))).await;
                    }
                },
                Tamper::AddRow(_, offset) => {
                    is_changed = !offsets.contains(offset);
                    bucket.put(&key, rebuilt(&offsets.union(&set(offset..offset + 1)))).await;
                }
                Tamper::Copy(_, name) => {
                    let copies = ["data/x.parquet", "dead/y", "data/date=3/t-1-00000-00000000000000000100-00000000000000000100.parquet"];
                    bucket.put(copies[name % copies.len()], body).await;
                }
                Tamper::Replace(_, other) => {
                    let (_, other) = &objects[other % objects.len()];
                    is_changed = *other != body;
                    bucket.put(&key, other.clone()).await;
                }
                Tamper::Flip(_, number) => {
                    // The rows' and the metadata's bytes, wherever they matter; what is proven must
                    // still be what was written.
                    let mut damaged = body.to_vec();
                    let at = (number % damaged.len() as u64) as usize;
                    damaged[at] ^= 1 << (number >> 61);
                    let read = read_back(Bytes::from(damaged.clone()));
                    let is_same = read.is_ok_and(|(found, holds)| {
                        found.is_some_and(|found| said(&found, &key) == said(&footer, &key))
                            && holds == offsets
                    });
                    is_changed = !is_same;
                    bucket.put(&key, Bytes::from(damaged)).await;
                }
                Tamper::Next(by) => {
                    let (_, mut moved) = checkpoint(0, range.start..(range.end + by).max(range.start));
                    moved.partitions = 1;
                    bucket.checkpoint(&(0, moved)).await;
                }
                Tamper::First(by) => {
                    let (_, mut moved) = checkpoint(0, (range.start + by).clamp(0, range.end)..range.end);
                    moved.partitions = 1;
                    bucket.checkpoint(&(0, moved)).await;
                }
            }
            if is_changed {
                let verdict = bucket.verify().await;
                assert_ne!(verdict.summary.weight(), Weight::Told, "{:#?}", verdict.findings);
            }
        });
    }
}
