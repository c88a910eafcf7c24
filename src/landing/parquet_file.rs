//! One Parquet file: encoding rows or dead letters, and reading back what an object holds.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryBuilder, BooleanArray, Int32Array, Int64Array, ListBuilder, RecordBatch,
    StringArray, StringBuilder, StructBuilder, TimestampMicrosecondArray,
};
use arrow::compute::{BatchCoalescer, filter_record_batch};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::{Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use crate::config::{Compression, Files};
use crate::fault::{self, Step};
use crate::landing::cpu::Cancelled;
use crate::landing::layout::{KAFKA_COLUMNS, instant};
use crate::landing::offsets::OffsetSet;
use crate::landing::protocol::footer::{FOOTER_FORMAT, FOOTER_KEY, Footer};
use crate::messages::Reject;

/// Rows are handed to the encoder in chunks of exactly this many, whatever blocks they came in:
/// it may end a page after each chunk, and the same records must make the same bytes. Eight of its
/// own mini-batches.
const CHUNK_ROWS: usize = 8192;

/// How files are encoded: what of `[files]` a checkpoint does not pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codec {
    /// Codec of the pages.
    pub compression: Compression,
    /// Rows of a row group.
    pub row_group_rows: usize,
}

/// Why a file cannot be encoded or read.
#[derive(Debug, thiserror::Error)]
#[error("parquet: {0}")]
pub struct ParquetFileError(String);

impl From<parquet::errors::ParquetError> for ParquetFileError {
    fn from(error: parquet::errors::ParquetError) -> Self {
        Self(error.to_string())
    }
}

impl From<Cancelled> for ParquetFileError {
    fn from(cancelled: Cancelled) -> Self {
        Self(cancelled.to_string())
    }
}

impl From<arrow::error::ArrowError> for ParquetFileError {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self(error.to_string())
    }
}

/// A file being written, in memory.
pub struct FileWriter {
    writer: ArrowWriter<Vec<u8>>,
    chunks: BatchCoalescer,
    offset_column: usize,
    offsets: OffsetSet,
}

impl std::fmt::Debug for FileWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("FileWriter")
            .field("offsets", &self.offsets.ranges())
            .finish_non_exhaustive()
    }
}

impl Codec {
    /// Of a configuration.
    pub fn of(files: &Files) -> Self {
        Self {
            compression: files.compression,
            row_group_rows: files.row_group_rows,
        }
    }

    /// Text is tried with a dictionary, which the encoder gives up where it does not pay; numbers
    /// and times go without one, and integers as deltas: a third of the bytes in half the time,
    /// and every reader knows it (`BYTE_STREAM_SPLIT` for floats would be smaller yet, but Spark
    /// 3.5 cannot read it).
    fn properties(self, schema: &Schema) -> WriterProperties {
        let compression = match self.compression {
            Compression::Zstd(level) => {
                parquet::basic::Compression::ZSTD(ZstdLevel::try_new(level).unwrap_or_default())
            }
            Compression::Snappy => parquet::basic::Compression::SNAPPY,
            Compression::Uncompressed => parquet::basic::Compression::UNCOMPRESSED,
        };
        let mut properties = WriterProperties::builder()
            .set_compression(compression)
            .set_max_row_group_row_count(Some(self.row_group_rows))
            .set_created_by(concat!("groundtrack ", env!("CARGO_PKG_VERSION")).to_owned());
        for field in schema.fields() {
            let path = ColumnPath::from(field.name().as_str());
            match field.data_type() {
                DataType::Int32 | DataType::Int64 | DataType::Timestamp(..) => {
                    properties = properties
                        .set_column_dictionary_enabled(path.clone(), false)
                        .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
                }
                DataType::Float64 | DataType::Boolean | DataType::Binary => {
                    properties = properties.set_column_dictionary_enabled(path, false);
                }
                _ => {}
            }
        }
        properties.build()
    }
}

impl FileWriter {
    /// An empty file of this schema, whose column `offset_column` holds the Kafka offsets.
    ///
    /// # Errors
    /// When the schema cannot be written as Parquet.
    pub fn new(
        schema: SchemaRef,
        offset_column: usize,
        codec: Codec,
    ) -> Result<Self, ParquetFileError> {
        let options = ArrowWriterOptions::new()
            .with_properties(codec.properties(&schema))
            .with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(Vec::new(), schema.clone(), options)?;
        let chunks = BatchCoalescer::new(schema, CHUNK_ROWS);
        Ok(Self {
            writer,
            chunks,
            offset_column,
            offsets: OffsetSet::default(),
        })
    }

    /// Adds rows, whose offsets are above all before.
    ///
    /// # Errors
    /// When the rows are not of the schema.
    pub fn push(&mut self, rows: RecordBatch) -> Result<(), ParquetFileError> {
        append_offsets(&mut self.offsets, offsets_of(&rows, self.offset_column)?);
        self.chunks.push_batch(rows)?;
        while let Some(chunk) = self.chunks.next_completed_batch() {
            self.writer.write(&chunk)?;
        }
        Ok(())
    }

    /// The offsets of its rows.
    pub fn offsets(&self) -> &OffsetSet {
        &self.offsets
    }

    /// Bytes of the file so far, as encoded; what waits for a full chunk does not count.
    pub fn encoded_bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// Bytes of memory that it holds.
    pub fn memory_bytes(&self) -> u64 {
        (self.writer.inner().capacity() + self.writer.memory_size() + self.chunks.size()) as u64
    }

    /// The finished file.
    ///
    /// # Errors
    /// When the encoder fails.
    pub fn finish(self, footer: &Footer) -> Result<Bytes, ParquetFileError> {
        fault::on_thread(Step::EncodeFile, || self.encode_end(footer))
    }

    fn encode_end(mut self, footer: &Footer) -> Result<Bytes, ParquetFileError> {
        self.chunks.finish_buffered_batch()?;
        while let Some(chunk) = self.chunks.next_completed_batch() {
            self.writer.write(&chunk)?;
        }
        let text =
            serde_json::to_string(footer).map_err(|error| ParquetFileError(error.to_string()))?;
        self.writer
            .append_key_value_metadata(KeyValue::new(FOOTER_KEY.to_owned(), text));
        let mut body = self.writer.into_inner()?;
        body.shrink_to_fit();
        Ok(Bytes::from(body))
    }
}

/// The schema of a dead-letter file.
pub fn dead_letters_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("topic", DataType::Utf8, false),
        Field::new(KAFKA_COLUMNS[0], DataType::Int32, false),
        Field::new(KAFKA_COLUMNS[1], DataType::Int64, false),
        Field::new(KAFKA_COLUMNS[2], instant(), true),
        Field::new("key", DataType::Binary, true),
        Field::new(
            "headers",
            DataType::List(Arc::new(Field::new(
                "element",
                DataType::Struct(header_fields()),
                false,
            ))),
            false,
        ),
        Field::new("value", DataType::Binary, true),
        Field::new("cause", DataType::Utf8, false),
        Field::new("detail", DataType::Utf8, false),
    ]))
}

/// Position of `kafka_offset` in [`dead_letters_schema`].
pub const DEAD_LETTERS_OFFSET_COLUMN: usize = 2;

fn header_fields() -> Fields {
    Fields::from(vec![
        Field::new("name", DataType::Utf8, false),
        Field::new("value", DataType::Binary, true),
    ])
}

/// Rejects as rows of [`dead_letters_schema`].
///
/// # Errors
/// When the rows cannot be built.
pub fn dead_letter_rows(
    topic: &str,
    partition: i32,
    rejects: &[Reject],
) -> Result<RecordBatch, ParquetFileError> {
    let mut keys = BinaryBuilder::new();
    let mut values = BinaryBuilder::new();
    let element = Field::new("element", DataType::Struct(header_fields()), false);
    let mut headers = ListBuilder::new(StructBuilder::new(
        header_fields(),
        vec![
            Box::new(StringBuilder::new()),
            Box::new(BinaryBuilder::new()),
        ],
    ))
    .with_field(element);
    for reject in rejects {
        keys.append_option(reject.key.as_deref());
        values.append_option(reject.value.as_deref());
        let row = headers.values();
        for (name, value) in &reject.headers {
            if let Some(names) = row.field_builder::<StringBuilder>(0) {
                names.append_value(name);
            }
            if let Some(values) = row.field_builder::<BinaryBuilder>(1) {
                values.append_option(value.as_deref());
            }
            row.append(true);
        }
        headers.append(true);
    }
    let times = rejects.iter().map(|reject| {
        (reject.timestamp_ms >= 0)
            .then(|| reject.timestamp_ms.checked_mul(1000))
            .flatten()
    });
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rejects.iter().map(|_| topic))),
        Arc::new(Int32Array::from_iter_values(
            rejects.iter().map(|_| partition),
        )),
        Arc::new(Int64Array::from_iter_values(
            rejects.iter().map(|reject| reject.offset),
        )),
        Arc::new(TimestampMicrosecondArray::from_iter(times).with_timezone("UTC")),
        Arc::new(keys.finish()),
        Arc::new(headers.finish()),
        Arc::new(values.finish()),
        Arc::new(StringArray::from_iter_values(
            rejects.iter().map(|reject| reject.cause.as_str()),
        )),
        Arc::new(StringArray::from_iter_values(
            rejects.iter().map(|reject| &reject.detail),
        )),
    ];
    Ok(RecordBatch::try_new(dead_letters_schema(), columns)?)
}

/// What an object holds: its footer, if it is one of ours, and the offsets read from its rows.
///
/// # Errors
/// When it is no Parquet file, or has no column of offsets.
pub fn read_back(body: Bytes) -> Result<(Option<Footer>, OffsetSet), ParquetFileError> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(body)?;
    let entries = reader.metadata().file_metadata().key_value_metadata();
    let footer = footer_of(entries).ok().flatten();
    let column = reader.schema().index_of(KAFKA_COLUMNS[1])?;
    let mask = ProjectionMask::roots(reader.parquet_schema(), [column]);
    let mut offsets = Vec::new();
    for rows in reader.with_projection(mask).build()? {
        offsets.extend_from_slice(offsets_of(&rows?, 0)?);
    }
    let count = offsets.len() as u64;
    let offsets: OffsetSet = offsets.into_iter().collect();
    if offsets.len() != count {
        return Err(ParquetFileError("it holds an offset twice".to_owned()));
    }
    Ok((footer, offsets))
}

/// The same file with only the rows of these offsets, and another footer.
///
/// # Errors
/// When the file cannot be read or written.
pub fn only(
    body: Bytes,
    keep: &OffsetSet,
    codec: Codec,
    footer: &Footer,
) -> Result<Bytes, ParquetFileError> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(body)?;
    let schema = reader.schema().clone();
    let offset_column = schema.index_of(KAFKA_COLUMNS[1])?;
    let mut writer = FileWriter::new(schema, offset_column, codec)?;
    for rows in reader.build()? {
        let rows = rows?;
        let mask: BooleanArray = offsets_of(&rows, offset_column)?
            .iter()
            .map(|offset| Some(keep.contains(*offset)))
            .collect();
        writer.push(filter_record_batch(&rows, &mask)?)?;
    }
    writer.finish(footer)
}

/// The offsets in a column of rows.
///
/// # Errors
/// When the column holds something else.
pub fn offsets_of(rows: &RecordBatch, column: usize) -> Result<&[i64], ParquetFileError> {
    let array = rows.column(column).as_any().downcast_ref::<Int64Array>();
    let array = array.filter(|array| array.null_count() == 0);
    array
        .map(|array| array.values().as_ref())
        .ok_or_else(|| ParquetFileError("its offsets are no integers".to_owned()))
}

/// Adds rising offsets; one step where they are dense.
pub fn append_offsets(set: &mut OffsetSet, offsets: &[i64]) {
    let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else {
        return;
    };
    if (last - first) as usize + 1 == offsets.len() {
        set.append(*first, last + 1);
    } else {
        offsets
            .iter()
            .for_each(|offset| set.append(*offset, offset + 1));
    }
}

/// The footer among a file's key-value metadata; `None`: it is not one of ours.
///
/// # Errors
/// Why a footer of ours is none that this version understands.
pub fn footer_of(entries: Option<&Vec<KeyValue>>) -> Result<Option<Footer>, String> {
    #[derive(serde::Deserialize)]
    struct Format {
        format: u32,
    }
    let entry = entries.and_then(|entries| entries.iter().find(|entry| entry.key == FOOTER_KEY));
    let Some(entry) = entry else {
        return Ok(None);
    };
    let text = entry.value.as_deref().unwrap_or_default();
    let damaged = |error| format!("its footer of groundtrack's is damaged: {error}");
    let Format { format } = serde_json::from_str(text).map_err(damaged)?;
    if format != FOOTER_FORMAT {
        return Err(format!(
            "its footer has format {format}, this version knows {FOOTER_FORMAT}: it was written by another version, upgrade this one"
        ));
    }
    serde_json::from_str(text).map(Some).map_err(damaged)
}

/// XXH3 (64 bits, hexadecimal) of the names and types of a schema.
pub fn fingerprint(schema: &Schema) -> String {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    for field in schema.fields() {
        hash.update(
            format!(
                "{}\u{0}{}\u{0}{}\u{0}",
                field.name(),
                field.data_type(),
                field.is_nullable()
            )
            .as_bytes(),
        );
    }
    format!("{:016x}", hash.digest())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PartitionTime;
    use crate::landing::layout::Layout;
    use crate::landing::protocol::footer::{BatchFooter, FileFooter, Identity};
    use crate::messages::Cause;

    const CODEC: Codec = Codec {
        compression: Compression::Zstd(1),
        row_group_rows: 20_000,
    };

    fn layout() -> Layout {
        Layout {
            columns: Vec::new(),
            extra: true,
            partition_by: Vec::new(),
            partition_time: PartitionTime::KafkaTimestamp,
        }
    }

    fn footer() -> Footer {
        Footer {
            format: FOOTER_FORMAT,
            version: "1".into(),
            identity: Identity {
                cluster_id: "c".into(),
                topic_id: "t".into(),
                topic: "iss".into(),
                partition: 3,
                group: "g".into(),
            },
            fingerprint: fingerprint(&layout().schema()),
            file: FileFooter {
                offsets: OffsetSet::from_range(0, 3).digest(),
                rejects: 0,
                gap: None,
            },
            batch: BatchFooter {
                start: 0,
                end: 3,
                keys: vec!["k".into()],
                layout: layout(),
                offsets: OffsetSet::from_range(0, 3).digest(),
            },
        }
    }

    fn rows(offsets: std::ops::Range<i64>) -> RecordBatch {
        let extra = offsets
            .clone()
            .map(|offset| Some(format!("{{\"n\":{}}}", offset * 7919)));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter(extra)),
            Arc::new(Int32Array::from_iter_values(offsets.clone().map(|_| 3))),
            Arc::new(Int64Array::from_iter_values(offsets.clone())),
            Arc::new(TimestampMicrosecondArray::from_iter_values(offsets).with_timezone("UTC")),
        ];
        RecordBatch::try_new(layout().schema(), columns).unwrap()
    }

    fn file(blocks: &[std::ops::Range<i64>]) -> Bytes {
        let mut writer = FileWriter::new(layout().schema(), 2, CODEC).unwrap();
        blocks
            .iter()
            .for_each(|block| writer.push(rows(block.clone())).unwrap());
        writer.finish(&footer()).unwrap()
    }

    #[test]
    fn the_same_records_make_the_same_bytes_whatever_the_blocks() {
        let whole = file(std::slice::from_ref(&(0..50_000)));
        assert_eq!(
            whole,
            file(&[0..1, 1..777, 777..30_000, 30_000..30_001, 30_001..50_000])
        );
    }

    #[test]
    fn an_object_tells_its_footer_and_offsets() {
        let body = file(&[0..100, 150..300]);
        let (read, offsets) = read_back(body.clone()).unwrap();
        assert_eq!(read, Some(footer()));
        assert_eq!(offsets.ranges(), [(0, 100), (150, 300)]);
        let keep = OffsetSet::from_range(90, 160);
        let (_, offsets) = read_back(only(body, &keep, CODEC, &footer()).unwrap()).unwrap();
        assert_eq!(offsets.ranges(), [(90, 100), (150, 160)]);
    }

    #[test]
    fn what_is_no_file_of_ours_is_an_error_or_has_no_footer() {
        assert!(read_back(Bytes::from_static(b"PAR1 but not really PAR1")).is_err());
        assert!(read_back(Bytes::new()).is_err());
    }

    #[test]
    fn dead_letters_keep_every_byte() {
        let reject = Reject {
            offset: 5,
            timestamp_ms: -1,
            key: Some(Bytes::from_static(b"\xff")),
            headers: vec![
                ("a".into(), None),
                ("a".into(), Some(Bytes::from_static(b"\0"))),
            ],
            value: Some(Bytes::from_static(b"\xfe{")),
            cause: Cause::Utf8,
            detail: "byte 0".into(),
        };
        let rows = dead_letter_rows("iss", 3, std::slice::from_ref(&reject)).unwrap();
        let mut writer =
            FileWriter::new(dead_letters_schema(), DEAD_LETTERS_OFFSET_COLUMN, CODEC).unwrap();
        writer.push(rows.clone()).unwrap();
        let body = writer.finish(&footer()).unwrap();
        let mut read = ParquetRecordBatchReaderBuilder::try_new(body)
            .unwrap()
            .build()
            .unwrap();
        let read = read.next().unwrap().unwrap();
        assert_eq!(read.columns()[4..], rows.columns()[4..]);
        assert!(read.column(3).is_null(0));
    }
}
