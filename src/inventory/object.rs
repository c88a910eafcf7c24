//! What an object says of itself, and the offsets of its rows.
//!
//! A small object is read whole, by one request. Of a larger one its end is read, which holds the
//! footer, and then the columns of the partition and of the offsets, which lie side by side: one
//! request for each row group whose columns were not in that end. Ours have one row group by
//! default: one or two requests. What is not Parquet by its last bytes is not read further.

use std::collections::BTreeSet;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int32Type, Int64Type};
use bytes::buf::Reader;
use bytes::{Buf, Bytes};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::FOOTER_SIZE;
use parquet::file::metadata::{FooterTail, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};

use super::answered;
use crate::landing::cpu::off_thread_or_never;
use crate::landing::layout::KAFKA_COLUMNS;
use crate::landing::offsets::OffsetSet;
use crate::landing::parquet_file::footer_of;
use crate::landing::protocol::footer::Footer;
use crate::store::{ObjectStore, StoreError};

/// Up to here an object is read whole where its rows are wanted: a second request costs more than
/// the bytes.
pub const WHOLE_BYTES_MAX: u64 = 1024 * 1024;
/// The end that is read of a larger one: the metadata of a file of ours takes 5 to 20 KiB.
const TAIL_BYTES: u64 = 64 * 1024;
/// What says that it has more metadata is not read: ours never has.
const METADATA_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Columns closer than this are read by one request.
const HOLE_BYTES_MAX: u64 = 64 * 1024;
/// `PAR1`, its length and `PAR1`: no Parquet file is shorter.
const PARQUET_BYTES_MIN: u64 = 12;
/// Distinct partitions that are kept of one object: more than one is wrong already.
const PARTITIONS_MAX: usize = 8;

/// How much of an object will be wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// Its footer alone.
    Footer,
    /// Its footer, and most likely its rows.
    Rows,
}

/// Whose an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Ours, by its footer.
    Ours(Box<Footer>),
    /// Somebody else's: it is no Parquet file, or has no footer of ours; in plain words.
    NotOurs(String),
    /// It has a footer of ours that this version cannot read, or whose end is damaged; why.
    Unknown(String),
}

/// An object whose end was read.
#[derive(Debug)]
pub struct Opened {
    /// Whose it is.
    pub said: Said,
    metadata: Option<Arc<ParquetMetaData>>,
    parts: Parts,
}

/// What an object's rows hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rows {
    /// How many there are.
    pub count: u64,
    /// Their offsets.
    pub offsets: OffsetSet,
    /// Offsets that more than one row has.
    pub twice: OffsetSet,
    /// The partitions in the rows; of a file of ours there is one, or none where it is empty.
    pub partitions: BTreeSet<i32>,
}

/// Why an object's rows are not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowsError {
    /// The store has no answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// They cannot be decoded.
    #[error("its rows cannot be read: {0}")]
    Decode(String),
}

/// Reads an object's end, or all of it where that is as cheap and `amount` wants its rows.
///
/// # Errors
/// [`StoreError::NotFound`] where there is no object any more.
pub async fn open(
    store: &dyn ObjectStore,
    key: &str,
    size_bytes: u64,
    amount: Amount,
) -> Result<Opened, StoreError> {
    let mut parts = Parts {
        size_bytes,
        parts: Vec::new(),
    };
    if size_bytes < PARQUET_BYTES_MIN {
        return Ok(Opened::not_ours(parts, "it is no Parquet file"));
    }
    if amount == Amount::Rows && size_bytes <= WHOLE_BYTES_MAX {
        let object = answered(async || store.get(key).await).await?;
        parts.size_bytes = object.body.len() as u64;
        parts.parts.push((0, object.body));
    } else {
        let from = size_bytes.saturating_sub(TAIL_BYTES);
        parts.fetch(store, key, from..size_bytes).await?;
    }
    let length = match metadata_length(&parts) {
        Ok(length) => length,
        Err(why) => return Ok(Opened::not_ours(parts, &why)),
    };
    let end = parts.size_bytes - FOOTER_SIZE as u64;
    let range = end - length..end;
    parts.fetch(store, key, range.clone()).await?;
    let bytes = parts.bytes(range.start, length as usize);
    off_thread_or_never(move || {
        let decoded = caught(move || {
            let metadata = ParquetMetaDataReader::decode_metadata(&bytes?)?;
            check_places(&metadata, end)?;
            Ok(metadata)
        });
        let metadata = match decoded {
            Ok(metadata) => metadata,
            // Whose it is cannot be known then.
            Err(why) => return Ok(Opened::unknown(parts, format!("its end is damaged: {why}"))),
        };
        let said = match footer_of(metadata.file_metadata().key_value_metadata()) {
            Ok(Some(footer)) => Said::Ours(Box::new(footer)),
            Ok(None) => Said::NotOurs("it has no footer of groundtrack's".to_owned()),
            Err(why) => Said::Unknown(why),
        };
        Ok(Opened {
            said,
            metadata: Some(Arc::new(metadata)),
            parts,
        })
    })
    .await
}

impl Opened {
    fn not_ours(parts: Parts, why: &str) -> Self {
        Self {
            said: Said::NotOurs(why.to_owned()),
            metadata: None,
            parts,
        }
    }

    fn unknown(parts: Parts, why: String) -> Self {
        Self {
            said: Said::Unknown(why),
            metadata: None,
            parts,
        }
    }

    /// Reads the partitions and offsets of its rows: one row group at a time is in memory.
    ///
    /// # Errors
    /// See [`RowsError`].
    pub async fn rows(mut self, store: &dyn ObjectStore, key: &str) -> Result<Rows, RowsError> {
        let Some(metadata) = self.metadata.take() else {
            return Err(RowsError::Decode("it is no Parquet file".to_owned()));
        };
        let columns = {
            let schema = metadata.file_metadata().schema_descr();
            let root = |name: &str| {
                let fields = schema.root_schema().get_fields();
                let found = fields.iter().position(|field| field.name() == name);
                found.ok_or_else(|| RowsError::Decode(format!("it has no column {name}")))
            };
            [root(KAFKA_COLUMNS[0])?, root(KAFKA_COLUMNS[1])?]
        };
        let mut rows = Collected::default();
        for group in 0..metadata.num_row_groups() {
            let mut parts = self.parts.clone();
            for range in ranges_of(&metadata, group, columns) {
                parts.fetch(store, key, range).await?;
            }
            let metadata = metadata.clone();
            let decoded = off_thread_or_never(move || {
                caught(move || {
                    decode(&parts, metadata, group, columns, &mut rows)?;
                    Ok(rows)
                })
            });
            rows = decoded.await.map_err(RowsError::Decode)?;
        }
        Ok(rows.finish())
    }
}

/// The bytes that two columns take in a row group.
fn ranges_of(metadata: &ParquetMetaData, group: usize, columns: [usize; 2]) -> Vec<Range<u64>> {
    let schema = metadata.file_metadata().schema_descr();
    let group = metadata.row_group(group);
    let leaves = (0..group.num_columns())
        .filter(|leaf| columns.contains(&schema.get_column_root_idx(*leaf)));
    let mut ranges: Vec<Range<u64>> = leaves
        .map(|leaf| {
            let (start, length) = group.column(leaf).byte_range();
            start..start + length
        })
        .collect();
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, last| {
        let is_near = next.start <= last.end + HOLE_BYTES_MAX;
        if is_near {
            last.end = last.end.max(next.end);
        }
        is_near
    });
    ranges
}

/// The length of the metadata before the last eight bytes; else why this is not ours.
fn metadata_length(parts: &Parts) -> Result<u64, String> {
    let no_parquet = |_| "it is no Parquet file".to_owned();
    let at = parts.size_bytes.saturating_sub(FOOTER_SIZE as u64);
    let bytes = parts.bytes(at, FOOTER_SIZE).map_err(no_parquet)?;
    let tail = FooterTail::try_from(&bytes[..]).map_err(no_parquet)?;
    let length = tail.metadata_length();
    if tail.is_encrypted_footer() {
        return Err("its footer is encrypted, ours never is".to_owned());
    }
    if length > METADATA_BYTES_MAX || length as u64 > at {
        return Err(format!("it is no Parquet file: {length} bytes of metadata"));
    }
    Ok(length as u64)
}

/// Whether all columns lie within the file: what reads them takes that for granted.
fn check_places(metadata: &ParquetMetaData, end: u64) -> Result<(), ParquetError> {
    let is_within = |start: i64, length: i64| {
        let (start, length) = (u64::try_from(start).ok()?, u64::try_from(length).ok()?);
        (start.checked_add(length)? <= end).then_some(())
    };
    for group in metadata.row_groups() {
        for column in group.columns() {
            let start = column
                .dictionary_page_offset()
                .unwrap_or(column.data_page_offset());
            is_within(start, column.compressed_size()).ok_or_else(|| {
                ParquetError::General("a column lies outside of the file".to_owned())
            })?;
        }
    }
    Ok(())
}

fn decode(
    parts: &Parts,
    metadata: Arc<ParquetMetaData>,
    group: usize,
    columns: [usize; 2],
    rows: &mut Collected,
) -> Result<(), ParquetError> {
    let metadata = ArrowReaderMetadata::try_new(metadata, ArrowReaderOptions::new())?;
    let mask = ProjectionMask::roots(metadata.parquet_schema(), columns);
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(parts.clone(), metadata)
        .with_row_groups(vec![group])
        .with_projection(mask)
        .with_batch_size(8192)
        .build()?;
    let wrong = |name| ParquetError::General(format!("its column {name} holds something else"));
    for batch in reader {
        let batch = batch?;
        let column = |name: &str| {
            batch
                .column_by_name(name)
                .ok_or_else(|| wrong(name.to_owned()))
        };
        let partitions = column(KAFKA_COLUMNS[0])?;
        let partitions = partitions
            .as_primitive_opt::<Int32Type>()
            .filter(|array| array.null_count() == 0)
            .ok_or_else(|| wrong(KAFKA_COLUMNS[0].to_owned()))?;
        let offsets = column(KAFKA_COLUMNS[1])?;
        let offsets = offsets
            .as_primitive_opt::<Int64Type>()
            .filter(|array| array.null_count() == 0)
            .ok_or_else(|| wrong(KAFKA_COLUMNS[1].to_owned()))?;
        rows.add(partitions.values(), offsets.values());
    }
    Ok(())
}

/// Runs a decoder over bytes that anybody may have written: its panic is an error.
fn caught<T>(decode: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    match std::panic::catch_unwind(AssertUnwindSafe(decode)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the decoder gave up".to_owned()),
    }
}

/// Rows while they are read: nearly always in rising order.
#[derive(Debug, Default)]
struct Collected {
    rows: Rows,
    last: Option<i64>,
    /// What came out of order.
    late: Vec<i64>,
}

impl Collected {
    fn add(&mut self, partitions: &[i32], offsets: &[i64]) {
        self.rows.count += offsets.len() as u64;
        for partition in partitions {
            if self.rows.partitions.len() < PARTITIONS_MAX {
                self.rows.partitions.insert(*partition);
            }
        }
        for offset in offsets {
            if self.last.is_some_and(|last| *offset <= last) {
                self.late.push(*offset);
            } else {
                self.rows.offsets.insert(*offset);
                self.last = Some(*offset);
            }
        }
    }

    fn finish(mut self) -> Rows {
        self.late.sort_unstable();
        let mut late = OffsetSet::default();
        for offset in self.late {
            if late.contains(offset) || self.rows.offsets.contains(offset) {
                if !self.rows.twice.contains(offset) {
                    self.rows.twice.insert(offset);
                }
            } else {
                late.insert(offset);
            }
        }
        self.rows.offsets = self.rows.offsets.union(&late);
        self.rows
    }
}

/// The parts of an object that were read.
#[derive(Debug, Clone)]
struct Parts {
    size_bytes: u64,
    parts: Vec<(u64, Bytes)>,
}

impl Parts {
    /// Reads a range, unless it is there.
    async fn fetch(
        &mut self,
        store: &dyn ObjectStore,
        key: &str,
        range: Range<u64>,
    ) -> Result<(), StoreError> {
        let length = (range.end - range.start) as usize;
        if length == 0 || self.bytes(range.start, length).is_ok() {
            return Ok(());
        }
        let bytes = answered(async || store.get_range(key, range.clone()).await).await?;
        self.parts.push((range.start, bytes));
        Ok(())
    }

    fn from(&self, start: u64, length_min: usize) -> Result<Bytes, ParquetError> {
        let part = self.parts.iter().find(|(at, bytes)| {
            *at <= start && start + length_min as u64 <= at + bytes.len() as u64
        });
        let (at, bytes) = part.ok_or_else(|| {
            ParquetError::General("it refers to bytes that do not belong to the column".to_owned())
        })?;
        Ok(bytes.slice((start - at) as usize..))
    }

    fn bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        Ok(self.from(start, length)?.slice(..length))
    }
}

impl Length for Parts {
    fn len(&self) -> u64 {
        self.size_bytes
    }
}

impl ChunkReader for Parts {
    type T = Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(self.from(start, 1)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.bytes(start, length)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use parquet::arrow::ArrowWriter;
    use parquet::file::metadata::KeyValue;
    use parquet::file::properties::WriterProperties;

    use super::*;
    use crate::landing::protocol::footer::FOOTER_KEY;
    use crate::status::Status;
    use crate::store::memory::MemoryStore;
    use crate::store::{Condition, Counted};

    /// The two columns, and text that does not compress behind them.
    fn file(offsets: &[i64], text_bytes: usize, group_rows: usize, footer: Option<&str>) -> Bytes {
        let schema = Arc::new(Schema::new(vec![
            Field::new(KAFKA_COLUMNS[0], DataType::Int32, false),
            Field::new(KAFKA_COLUMNS[1], DataType::Int64, false),
            Field::new("text", DataType::Utf8, false),
        ]));
        let mut random = fastrand::Rng::with_seed(7);
        let text = offsets.iter().map(|_| {
            let letters = std::iter::repeat_with(|| random.alphanumeric());
            letters.take(text_bytes).collect::<String>()
        });
        let rows = RecordBatch::try_new(
            schema.clone(),
            vec![
                Arc::new(Int32Array::from_iter_values(offsets.iter().map(|_| 3))),
                Arc::new(Int64Array::from_iter_values(offsets.iter().copied())),
                Arc::new(StringArray::from_iter_values(text)),
            ],
        );
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(group_rows))
            .build();
        let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties)).unwrap();
        writer.write(&rows.unwrap()).unwrap();
        if let Some(footer) = footer {
            let entry = KeyValue::new(FOOTER_KEY.to_owned(), footer.to_owned());
            writer.append_key_value_metadata(entry);
        }
        Bytes::from(writer.into_inner().unwrap())
    }

    /// What the rows hold, and the requests that this took.
    async fn read(body: Bytes) -> (Result<Rows, RowsError>, u64) {
        let size_bytes = body.len() as u64;
        let store = Arc::new(MemoryStore::new());
        store.put("k", body, Some(Condition::Absent)).await.unwrap();
        let status = Status::new();
        let store = Counted::new(store, status.clone());
        let opened = open(&store, "k", size_bytes, Amount::Rows).await.unwrap();
        let rows = opened.rows(&store, "k").await;
        (rows, status.counters().iter().map(|(_, count)| count).sum())
    }

    #[tokio::test]
    async fn a_small_object_takes_one_request_and_a_large_one_two() {
        let offsets: Vec<i64> = (5..1005).collect();
        let whole = OffsetSet::from_range(5, 1005);
        for (text_bytes, group_rows, requests) in [(10, 2000, 1), (2000, 2000, 2), (2000, 300, 5)] {
            let (rows, took) = read(file(&offsets, text_bytes, group_rows, None)).await;
            let rows = rows.unwrap();
            assert_eq!((rows.count, &rows.offsets), (1000, &whole));
            assert!(rows.twice.is_empty());
            assert_eq!(rows.partitions, BTreeSet::from([3]));
            assert_eq!(took, requests, "{text_bytes} bytes a row");
        }
    }

    #[tokio::test]
    async fn offsets_out_of_order_and_twice_are_told() {
        let (rows, _) = read(file(&[5, 9, 7, 6, 7, 9], 1, 100, None)).await;
        let rows = rows.unwrap();
        assert_eq!(rows.count, 6);
        assert_eq!(rows.offsets.ranges(), [(5, 8), (9, 10)]);
        assert_eq!(rows.twice.ranges(), [(7, 8), (9, 10)]);
    }

    async fn said(body: Bytes) -> Said {
        let size_bytes = body.len() as u64;
        let store = MemoryStore::new();
        store.put("k", body, None).await.unwrap();
        let opened = open(&store, "k", size_bytes, Amount::Footer).await;
        opened.unwrap().said
    }

    #[tokio::test]
    async fn somebody_elses_and_a_later_versions_files_are_told_apart() {
        for body in [
            &b""[..],
            b"PAR1",
            b"{\"json\": true, \"long\": 1}",
            &[0xff; 100_000],
        ] {
            let said = said(Bytes::copy_from_slice(body)).await;
            assert!(matches!(said, Said::NotOurs(_)), "{said:?}");
        }
        let theirs = file(&[1], 1, 10, None);
        assert!(matches!(said(theirs).await, Said::NotOurs(_)));
        for footer in ["{\"format\": 2}", "{}", "", "{\"format\": 1}"] {
            let body = file(&[1], 1, 10, Some(footer));
            let said = said(body).await;
            assert!(matches!(said, Said::Unknown(_)), "{footer}: {said:?}");
        }
    }

    #[tokio::test]
    async fn no_damage_to_an_object_breaks_more_than_its_own_reading() {
        let body = file(&(0..100).collect::<Vec<_>>(), 10, 30, Some("{}"));
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..500 {
            let mut damaged = body.to_vec();
            for _ in 0..random.usize(1..4) {
                let from_end = random.usize(0..damaged.len().min(900));
                let at = damaged.len() - 1 - from_end;
                damaged[at] = random.u8(..);
            }
            let _ = read(Bytes::from(damaged)).await;
        }
    }
}
