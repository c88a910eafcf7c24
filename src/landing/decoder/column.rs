//! One column while a block is decoded: plain vectors that Arrow takes over without a copy, and
//! that can be cut back to a number of rows when a record turns out to be a dead letter.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, ListArray, StringArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field};

use super::number;
use super::scan::{Kind, Scanner, unescape};
use crate::config::{ColumnType, ScalarType, TimeUnit};
use crate::landing::layout::data_type;
use crate::messages::Cause;

/// What a column is given.
#[derive(Debug, Clone, Copy)]
pub(super) enum Input<'a> {
    /// Null, or nothing at all.
    Null,
    /// A JSON value as it is written, already known to be right.
    Json(Kind, &'a str),
    /// A text that is no JSON: a key, a header's value, the topic.
    Text(&'a str),
    /// Bytes that need be no text.
    Bytes(&'a [u8]),
}

/// Why a column cannot hold what it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) cause: Cause,
    /// Which element of a list it was.
    pub(super) element: Option<usize>,
}

impl From<Cause> for Wrong {
    fn from(cause: Cause) -> Self {
        Self {
            cause,
            element: None,
        }
    }
}

/// The values of one column, and which rows have none.
#[derive(Debug)]
pub(super) struct Values {
    kind: ColumnType,
    cells: Cells,
    /// Rows that are null, rising.
    nulls: Vec<u32>,
    /// Content of a string that was written with escapes.
    scratch: String,
}

#[derive(Debug)]
enum Cells {
    Text { bytes: Vec<u8>, ends: Vec<i32> },
    Bool(Vec<bool>),
    Int(Vec<i64>),
    Float(Vec<f64>),
    List { items: Box<Values>, ends: Vec<i32> },
}

impl Values {
    /// An empty column with room for so many rows, and for so many bytes of text.
    pub(super) fn new(kind: ColumnType, rows: usize, text_bytes: usize) -> Self {
        let ends = || {
            let mut ends = Vec::with_capacity(rows + 1);
            ends.push(0);
            ends
        };
        let cells = match kind {
            ColumnType::String | ColumnType::Json | ColumnType::Binary => Cells::Text {
                bytes: Vec::with_capacity(text_bytes),
                ends: ends(),
            },
            ColumnType::Bool => Cells::Bool(Vec::with_capacity(rows)),
            ColumnType::Int64 | ColumnType::Timestamp(_) => Cells::Int(Vec::with_capacity(rows)),
            ColumnType::Float64 => Cells::Float(Vec::with_capacity(rows)),
            ColumnType::List(scalar) => Cells::List {
                items: Box::new(Self::new(item_kind(scalar), 0, 0)),
                ends: ends(),
            },
        };
        Self {
            kind,
            cells,
            nulls: Vec::new(),
            scratch: String::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        match &self.cells {
            Cells::Text { ends, .. } | Cells::List { ends, .. } => ends.len() - 1,
            Cells::Bool(values) => values.len(),
            Cells::Int(values) => values.len(),
            Cells::Float(values) => values.len(),
        }
    }

    /// Bytes of text held.
    pub(super) fn text_bytes(&self) -> usize {
        match &self.cells {
            Cells::Text { bytes, .. } => bytes.len(),
            _ => 0,
        }
    }

    /// The last row's instant; `None`: it is null.
    pub(super) fn last_instant(&self) -> Option<i64> {
        let null = self.nulls.last().map(|row| *row as usize) == Some(self.len().wrapping_sub(1));
        match &self.cells {
            Cells::Int(values) if !null => values.last().copied(),
            _ => None,
        }
    }

    /// Cuts back to so many rows. Rows that are whole or half there go as well.
    pub(super) fn truncate(&mut self, rows: usize) {
        match &mut self.cells {
            Cells::Text { bytes, ends } => {
                ends.truncate(rows + 1);
                bytes.truncate(ends.last().map_or(0, |end| *end as usize));
            }
            Cells::List { items, ends } => {
                ends.truncate(rows + 1);
                items.truncate(ends.last().map_or(0, |end| *end as usize));
            }
            Cells::Bool(values) => values.truncate(rows),
            Cells::Int(values) => values.truncate(rows),
            Cells::Float(values) => values.truncate(rows),
        }
        while self.nulls.last().is_some_and(|row| *row as usize >= rows) {
            self.nulls.pop();
        }
    }

    /// Appends a row, or fails and may leave half of one: the caller cuts back.
    #[inline]
    pub(super) fn push(&mut self, input: Input<'_>) -> Result<(), Wrong> {
        if let Input::Null | Input::Json(Kind::Null, _) = input {
            self.push_null();
            return Ok(());
        }
        match (&mut self.cells, self.kind) {
            (Cells::Text { bytes, ends }, kind) => {
                let text = match kind {
                    ColumnType::Json => json_text(input)?.as_bytes(),
                    ColumnType::Binary => bytes_of(input, &mut self.scratch)?,
                    _ => string(input, &mut self.scratch)?.as_bytes(),
                };
                bytes.extend_from_slice(text);
                ends.push(i32::try_from(bytes.len()).map_err(|_| Cause::Range)?);
            }
            (Cells::Bool(values), _) => values.push(boolean(input)?),
            (Cells::Float(values), _) => values.push(float(input, &mut self.scratch)?),
            (Cells::Int(values), ColumnType::Timestamp(unit)) => {
                values.push(instant(input, unit, &mut self.scratch)?);
            }
            (Cells::Int(values), _) => {
                let value = match input {
                    Input::Json(Kind::Number, text) => number::int64(text),
                    _ => number::int64(string(input, &mut self.scratch)?),
                };
                values.push(value?);
            }
            (Cells::List { items, ends }, _) => {
                push_items(items, json_text(input)?)?;
                ends.push(i32::try_from(items.len()).map_err(|_| Cause::Range)?);
            }
        }
        Ok(())
    }

    /// Appends an instant in microseconds.
    #[inline]
    pub(super) fn push_instant(&mut self, instant_us: i64) {
        if let Cells::Int(values) = &mut self.cells {
            values.push(instant_us);
        }
    }

    pub(super) fn push_null(&mut self) {
        self.nulls.push(self.len() as u32);
        match &mut self.cells {
            Cells::Text { ends, .. } | Cells::List { ends, .. } => {
                ends.push(ends.last().copied().unwrap_or(0));
            }
            Cells::Bool(values) => values.push(false),
            Cells::Int(values) => values.push(0),
            Cells::Float(values) => values.push(0.0),
        }
    }

    /// The column as an Arrow array.
    pub(super) fn finish(self) -> ArrayRef {
        let rows = self.len();
        let nulls = (!self.nulls.is_empty()).then(|| {
            let mut valid = vec![true; rows];
            for row in &self.nulls {
                valid[*row as usize] = false;
            }
            NullBuffer::from(valid)
        });
        match self.cells {
            Cells::Text { bytes, ends } => {
                let ends = OffsetBuffer::new(ScalarBuffer::from(ends));
                let bytes = Buffer::from_vec(bytes);
                match self.kind {
                    ColumnType::Binary => Arc::new(BinaryArray::new(ends, bytes, nulls)),
                    _ => Arc::new(StringArray::new(ends, bytes, nulls)),
                }
            }
            Cells::Bool(values) => Arc::new(BooleanArray::new(BooleanBuffer::from(values), nulls)),
            Cells::Float(values) => Arc::new(Float64Array::new(values.into(), nulls)),
            Cells::Int(values) => match self.kind {
                ColumnType::Timestamp(_) => Arc::new(
                    TimestampMicrosecondArray::new(values.into(), nulls).with_timezone("UTC"),
                ),
                _ => Arc::new(Int64Array::new(values.into(), nulls)),
            },
            Cells::List { items, ends } => {
                let field = match data_type(self.kind) {
                    DataType::List(field) => field,
                    other => Arc::new(Field::new("element", other, true)),
                };
                let ends = OffsetBuffer::new(ScalarBuffer::from(ends));
                Arc::new(ListArray::new(field, ends, items.finish(), nulls))
            }
        }
    }
}

fn item_kind(scalar: ScalarType) -> ColumnType {
    match scalar {
        ScalarType::String => ColumnType::String,
        ScalarType::Bool => ColumnType::Bool,
        ScalarType::Int64 => ColumnType::Int64,
        ScalarType::Float64 => ColumnType::Float64,
        ScalarType::Timestamp(unit) => ColumnType::Timestamp(unit),
        ScalarType::Json => ColumnType::Json,
    }
}

/// The content of a text.
#[inline]
fn string<'a>(input: Input<'a>, scratch: &'a mut String) -> Result<&'a str, Wrong> {
    match input {
        Input::Json(Kind::Plain, text) => Ok(&text[1..text.len() - 1]),
        Input::Json(Kind::Escaped, text) => {
            scratch.clear();
            unescape(&text[1..text.len() - 1], scratch);
            Ok(scratch)
        }
        Input::Text(text) => Ok(text),
        _ => Err(Cause::Type.into()),
    }
}

fn bytes_of<'a>(input: Input<'a>, scratch: &'a mut String) -> Result<&'a [u8], Wrong> {
    match input {
        Input::Bytes(bytes) => Ok(bytes),
        other => string(other, scratch).map(str::as_bytes),
    }
}

/// A JSON value as it is written; a text that is no JSON value yet must be one.
fn json_text(input: Input<'_>) -> Result<&str, Wrong> {
    match input {
        Input::Json(_, text) => Ok(text),
        Input::Text(text) => match Scanner::document(text) {
            Ok(_) => Ok(text),
            Err(_) => Err(Cause::Type.into()),
        },
        _ => Err(Cause::Type.into()),
    }
}

fn boolean(input: Input<'_>) -> Result<bool, Wrong> {
    match input {
        Input::Json(Kind::True, _) | Input::Text("true") => Ok(true),
        Input::Json(Kind::False, _) | Input::Text("false") => Ok(false),
        _ => Err(Cause::Type.into()),
    }
}

#[inline]
fn float(input: Input<'_>, scratch: &mut String) -> Result<f64, Wrong> {
    if let Input::Json(Kind::Number, text) = input {
        return Ok(number::float64(text)?);
    }
    let text = string(input, scratch)?;
    match number::float64(text) {
        Err(Cause::Type) => match text {
            "NaN" => Ok(f64::NAN),
            "Infinity" => Ok(f64::INFINITY),
            "-Infinity" => Ok(f64::NEG_INFINITY),
            _ => Err(Cause::Type.into()),
        },
        other => Ok(other?),
    }
}

fn instant(input: Input<'_>, unit: TimeUnit, scratch: &mut String) -> Result<i64, Wrong> {
    match input {
        // A number is no RFC 3339 text, and is found to be none.
        Input::Json(Kind::Number, text) => Ok(number::instant(text, unit)?),
        other => Ok(number::instant(string(other, scratch)?, unit)?),
    }
}

fn push_items(items: &mut Values, text: &str) -> Result<(), Wrong> {
    let mut scan = Scanner::new(text);
    if scan.space() != Some(b'[') {
        return Err(Cause::Type.into());
    }
    scan.at += 1;
    if scan.space() == Some(b']') {
        return Ok(());
    }
    for element in 0.. {
        let from = scan.at;
        let item = scan
            .value(0)
            .map_err(|_| Wrong::from(Cause::Type))
            .and_then(|kind| items.push(Input::Json(kind, &text[from..scan.at])));
        item.map_err(|wrong| Wrong {
            element: Some(element),
            ..wrong
        })?;
        if scan.space() != Some(b',') {
            break;
        }
        scan.at += 1;
        scan.space();
    }
    Ok(())
}
