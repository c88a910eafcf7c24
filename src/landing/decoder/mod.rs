//! Records into rows: one pass over each value's bytes, driven by the declared columns, straight
//! into Arrow's vectors, with no tree of values in between.
//!
//! What becomes of every kind of value is in `docs/decoding.md`, which the tests read.

mod column;
mod number;
mod scan;
mod walk;
mod words;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use bytes::Bytes;

use self::column::{Input, Values, Wrong};
use self::scan::Kind;
use self::walk::{Findings, Found, Tree};
use crate::config::{Column, ColumnSource, ColumnType, PartitionTime, TimeUnit};
use crate::generation::panic_message;
use crate::landing::layout::{KAFKA_COLUMNS, Layout};
use crate::landing::offsets::OffsetSet;
use crate::messages::{Cause, RecordSpan, Records, Reject};

pub(crate) use self::number::{float64, instant};
pub(crate) use self::words::type_words;

/// Times that a column may give to the folders: from 1970-01-01 to before 2100-01-01, in
/// microseconds. What lies outside is a unit mistaken or a clock never set.
pub const PARTITION_TIMES_US: Range<i64> = 0..4_102_444_800_000_000;

/// What a block became: every record is in one of the two.
#[derive(Debug)]
pub struct Decoded {
    /// By [`Layout::schema`], in the order of the offsets.
    pub rows: RecordBatch,
    /// In the order of the offsets.
    pub rejects: Vec<Reject>,
}

/// Decodes blocks of one topic by one layout. It keeps memory from block to block.
#[derive(Debug)]
pub struct Decoder {
    columns: Vec<Column>,
    schema: SchemaRef,
    topic: String,
    tree: Tree,
    /// By column: its node in the tree.
    places: Vec<usize>,
    findings: Findings,
    keep_extra: bool,
    /// The column that the folders are made from.
    partition_time: Option<usize>,
    /// By column that holds text: bytes a row in the block before, to reserve by.
    text_bytes_a_row: Vec<usize>,
    #[cfg(test)]
    panic_on: Option<&'static [u8]>,
}

/// The rows of a block while it is decoded.
#[derive(Debug)]
struct Building {
    columns: Vec<Values>,
    extra: Option<Values>,
    offsets: Vec<i64>,
    timestamps: Values,
    rejects: Vec<Reject>,
}

/// Why a record is a dead letter.
type Refused = (Cause, String);

impl Decoder {
    /// A decoder for records of this topic.
    pub fn new(layout: &Layout, topic: &str) -> Self {
        let (tree, places) = Tree::new(&layout.columns);
        let partition_time = match &layout.partition_time {
            PartitionTime::Column(name) if !layout.partition_by.is_empty() => layout
                .columns
                .iter()
                .position(|column| column.name == *name),
            _ => None,
        };
        Self {
            findings: Findings::new(&tree, layout.extra),
            keep_extra: layout.extra,
            text_bytes_a_row: vec![0; layout.columns.len() + 1],
            columns: layout.columns.clone(),
            schema: layout.schema(),
            topic: topic.to_owned(),
            tree,
            places,
            partition_time,
            #[cfg(test)]
            panic_on: None,
        }
    }

    /// Decodes a block. Offsets in `forced` become dead letters, whatever they hold
    /// ([`Cause::Unplaced`]). A record that makes the decoder panic becomes one as well
    /// ([`Cause::Panic`]): the block is then decoded again record by record.
    pub fn decode(&mut self, records: &Records, partition: i32, forced: &OffsetSet) -> Decoded {
        let mut building = self.building(records.spans.len());
        let all = catch_unwind(AssertUnwindSafe(|| {
            let block = Block::new(records, forced);
            for record in &records.spans {
                building.take(self, &block, record);
            }
        }));
        if all.is_err() {
            building = self.decode_one_by_one(records, forced);
        }
        self.finish(building, partition)
    }

    #[cold]
    fn decode_one_by_one(&mut self, records: &Records, forced: &OffsetSet) -> Building {
        let mut building = self.building(records.spans.len());
        let block = Block::new(records, forced);
        for record in &records.spans {
            let rejects = building.rejects.len();
            let one = catch_unwind(AssertUnwindSafe(|| building.take(self, &block, record)));
            if let Err(panic) = one {
                let message = panic_message(panic.as_ref());
                let detail = format!("the decoder panicked: {}", words::clip(message));
                building.rejects.truncate(rejects);
                building.cut_back();
                building
                    .rejects
                    .push(reject(records, record, (Cause::Panic, detail)));
            }
        }
        building
    }

    fn building(&self, rows: usize) -> Building {
        let text_bytes = |at: usize| self.text_bytes_a_row[at] * rows;
        let columns = self.columns.iter().enumerate();
        Building {
            columns: columns
                .map(|(at, column)| Values::new(column.kind, rows, text_bytes(at)))
                .collect(),
            extra: self
                .keep_extra
                .then(|| Values::new(ColumnType::Json, rows, text_bytes(self.columns.len()))),
            offsets: Vec::with_capacity(rows),
            timestamps: Values::new(ColumnType::Timestamp(TimeUnit::Ms), rows, 0),
            rejects: Vec::new(),
        }
    }

    fn finish(&mut self, building: Building, partition: i32) -> Decoded {
        let rows = building.offsets.len();
        let texts = building.columns.iter().chain(&building.extra);
        for (known, values) in self.text_bytes_a_row.iter_mut().zip(texts) {
            *known = values.text_bytes().div_ceil(rows.max(1));
        }
        let partitions = Int32Array::from(vec![partition; rows]);
        let arrays: Vec<ArrayRef> = building
            .columns
            .into_iter()
            .chain(building.extra)
            .map(Values::finish)
            .chain([
                Arc::new(partitions) as ArrayRef,
                Arc::new(Int64Array::from(building.offsets)),
                building.timestamps.finish(),
            ])
            .collect();
        let rows = RecordBatch::try_new(self.schema.clone(), arrays)
            .expect("the columns are made from the layout that the schema is made from");
        Decoded {
            rows,
            rejects: building.rejects,
        }
    }

    /// Appends a record's values to the columns, or says why not and may leave some appended.
    #[inline]
    fn row(
        &mut self,
        building: &mut Building,
        block: &Block<'_>,
        record: &RecordSpan,
    ) -> Result<(), Refused> {
        #[cfg(test)]
        self.panic_if_asked(block.records, record);
        if !block.forced.is_empty() && block.forced.contains(record.offset) {
            let detail = "the batch that it belongs to was begun without a folder for it";
            return Err((Cause::Unplaced, detail.to_owned()));
        }
        let text = self.read(block, record)?;
        for (at, values) in building.columns.iter_mut().enumerate() {
            self.column(at, values, text, block.records, record)?;
        }
        if let Some(values) = &mut building.extra {
            let extra = match self.findings.extra() {
                Some(extra) => Input::Json(Kind::Object, extra),
                None => Input::Null,
            };
            values
                .push(extra)
                .map_err(|_| full_block("column _extra"))?;
        }
        if let Some(at) = self.partition_time {
            self.check_partition_time(at, &building.columns[at], text)?;
        }
        kafka_timestamp(&mut building.timestamps, record.timestamp_ms)?;
        building.offsets.push(record.offset);
        Ok(())
    }

    /// Reads the record's value into `findings`; returns its text.
    #[inline]
    fn read<'a>(&mut self, block: &Block<'a>, record: &RecordSpan) -> Result<&'a str, Refused> {
        let value = record.value.filter(|span| span.from < span.to);
        if self.tree.is_empty() && (!self.keep_extra || value.is_none()) {
            self.findings.clear();
            return Ok("");
        }
        let Some(span) = value else {
            let what = match record.value {
                Some(_) => "the value is empty",
                None => "the record has no value (a tombstone)",
            };
            let detail = format!("{what}, and a column is taken from it");
            return Err((Cause::Empty, detail));
        };
        let text = block.text(span.range()).map_err(|at| {
            let detail = format!("byte {at} of the value is not UTF-8");
            (Cause::Utf8, detail)
        })?;
        match self.findings.read(&self.tree, text) {
            Ok(Kind::Object) => Ok(text),
            Ok(_) => {
                let detail = format!("{} is no JSON object", words::clip(text));
                Err((Cause::NotAnObject, detail))
            }
            Err(bad) => Err((bad.cause, words::bad_json(text, bad))),
        }
    }

    #[inline]
    fn column(
        &self,
        at: usize,
        values: &mut Values,
        text: &str,
        records: &Records,
        record: &RecordSpan,
    ) -> Result<(), Refused> {
        let column = &self.columns[at];
        let input = match &column.source {
            ColumnSource::Path(_) => match self.findings.found[self.places[at]] {
                Some(found) => Input::Json(found.kind, &text[found.range()]),
                None => Input::Null,
            },
            ColumnSource::Topic => Input::Text(&self.topic),
            ColumnSource::Key => raw(column, record.key.map(|span| records.bytes(span)))?,
            ColumnSource::Header(name) => {
                let last = records
                    .headers_of(record)
                    .rfind(|(known, _)| *known == name.as_bytes());
                raw(column, last.and_then(|(_, value)| value))?
            }
        };
        if !column.nullable && matches!(input, Input::Null | Input::Json(Kind::Null, _)) {
            return Err(self.no_value(at, input));
        }
        values
            .push(input)
            .map_err(|wrong| refused_value(column, input, wrong))
    }

    #[cold]
    fn no_value(&self, at: usize, input: Input<'_>) -> Refused {
        let column = &self.columns[at];
        let found = matches!(input, Input::Json(..));
        let barrier = match &column.source {
            ColumnSource::Path(path) => {
                (1..path.len()).map(|length| &path[..length]).find(|path| {
                    let found: Option<Found> = self.findings.found[self.tree.find(path)];
                    found.is_some_and(|found| found.kind != Kind::Object)
                })
            }
            _ => None,
        };
        (Cause::Null, words::no_value(column, found, barrier))
    }

    #[inline]
    fn check_partition_time(&self, at: usize, values: &Values, text: &str) -> Result<(), Refused> {
        match values.last_instant() {
            Some(time) if !PARTITION_TIMES_US.contains(&time) => {
                let found = self.findings.found[self.places[at]];
                let value = found.map_or("it", |found| &text[found.range()]);
                let detail = words::partition_time(&self.columns[at], value);
                Err((Cause::PartitionTime, detail))
            }
            _ => Ok(()),
        }
    }

    /// Stands for a fault of the decoder's, which no input is known to find.
    #[cfg(test)]
    fn panic_if_asked(&self, records: &Records, record: &RecordSpan) {
        let value = record.value.map(|span| records.bytes(span));
        if self.panic_on.is_some() && value == self.panic_on {
            panic!("planned fault in the decoder");
        }
    }
}

impl Building {
    /// Takes one record, as a row or as a dead letter.
    #[inline]
    fn take(&mut self, decoder: &mut Decoder, block: &Block<'_>, record: &RecordSpan) {
        if let Err(refused) = decoder.row(self, block, record) {
            self.cut_back();
            self.rejects.push(reject(block.records, record, refused));
        }
    }

    /// Takes back what a record that is no row has left. The offsets are appended last.
    #[cold]
    fn cut_back(&mut self) {
        let rows = self.offsets.len();
        let columns = self.columns.iter_mut().chain(&mut self.extra);
        for values in columns.chain([&mut self.timestamps]) {
            values.truncate(rows);
        }
    }
}

/// A block's records, and their buffer as text if all of it is: then one pass has checked all
/// values at once.
struct Block<'a> {
    records: &'a Records,
    forced: &'a OffsetSet,
    text: Option<&'a str>,
}

impl<'a> Block<'a> {
    fn new(records: &'a Records, forced: &'a OffsetSet) -> Self {
        Self {
            records,
            forced,
            text: simdutf8::basic::from_utf8(&records.buffer).ok(),
        }
    }

    /// A part as text, or the position of the first byte that is none.
    #[inline]
    fn text(&self, range: Range<usize>) -> Result<&'a str, usize> {
        // Within a text a part is a text unless a character crosses its ends.
        if let Some(part) = self.text.and_then(|text| text.get(range.clone())) {
            return Ok(part);
        }
        simdutf8::compat::from_utf8(&self.records.buffer[range])
            .map_err(|error| error.valid_up_to())
    }
}

/// What a column is given from a key or a header.
fn raw<'a>(column: &Column, bytes: Option<&'a [u8]>) -> Result<Input<'a>, Refused> {
    let Some(bytes) = bytes else {
        return Ok(Input::Null);
    };
    if column.kind == ColumnType::Binary {
        return Ok(Input::Bytes(bytes));
    }
    simdutf8::basic::from_utf8(bytes)
        .map(Input::Text)
        .map_err(|_| {
            let shown = String::from_utf8_lossy(bytes);
            let wrong = Wrong::from(Cause::Utf8);
            (Cause::Utf8, words::wrong_value(column, &shown, wrong))
        })
}

#[cold]
fn refused_value(column: &Column, input: Input<'_>, wrong: Wrong) -> Refused {
    let value = match input {
        Input::Json(_, text) | Input::Text(text) => text,
        Input::Null | Input::Bytes(_) => "",
    };
    (wrong.cause, words::wrong_value(column, value, wrong))
}

fn full_block(what: &str) -> Refused {
    let detail = format!("{what}: more than 2 GiB in one block");
    (Cause::Range, detail)
}

/// Kafka's own timestamp is no part of the record's value, but it must be one that readers show.
#[inline]
fn kafka_timestamp(values: &mut Values, timestamp_ms: i64) -> Result<(), Refused> {
    if timestamp_ms == -1 {
        values.push_null();
        return Ok(());
    }
    let pushed = timestamp_ms
        .checked_mul(1000)
        .filter(|time| number::INSTANTS_US.contains(time))
        .map(|time| values.push_instant(time));
    pushed.ok_or_else(|| {
        let name = KAFKA_COLUMNS[2];
        let detail = format!("{name}: {timestamp_ms} ms lies outside the years 1 to 9999");
        (Cause::Range, detail)
    })
}

#[cold]
fn reject(records: &Records, record: &RecordSpan, (cause, detail): Refused) -> Reject {
    let copy = Bytes::copy_from_slice;
    Reject {
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        key: record.key.map(|span| copy(records.bytes(span))),
        headers: records
            .headers_of(record)
            .map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), value.map(copy)))
            .collect(),
        value: record.value.map(|span| copy(records.bytes(span))),
        cause,
        detail,
    }
}
