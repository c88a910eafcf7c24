//! What a dead letter says of itself: the column, the value and what would be right.

use std::fmt::Write;

use super::column::Wrong;
use super::scan::Bad;
use crate::config::{Column, ColumnSource, ColumnType, ScalarType, TimeUnit};
use crate::messages::Cause;

/// So many characters of a value are shown: enough to know it again, and a dead letter holds all
/// of it anyway.
const SHOWN_CHARS: usize = 80;

/// A column's type in the words of the configuration.
pub(crate) fn type_words(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::String => "string",
        ColumnType::Bool => "bool",
        ColumnType::Int64 => "int64",
        ColumnType::Float64 => "float64",
        ColumnType::Timestamp(TimeUnit::S) => "timestamp(s)",
        ColumnType::Timestamp(TimeUnit::Ms) => "timestamp(ms)",
        ColumnType::Timestamp(TimeUnit::Us) => "timestamp(us)",
        ColumnType::Timestamp(TimeUnit::Rfc3339) => "timestamp(rfc3339)",
        ColumnType::Json => "json",
        ColumnType::Binary => "binary",
        ColumnType::List(ScalarType::String) => "list(string)",
        ColumnType::List(ScalarType::Bool) => "list(bool)",
        ColumnType::List(ScalarType::Int64) => "list(int64)",
        ColumnType::List(ScalarType::Float64) => "list(float64)",
        ColumnType::List(ScalarType::Timestamp(TimeUnit::S)) => "list(timestamp(s))",
        ColumnType::List(ScalarType::Timestamp(TimeUnit::Ms)) => "list(timestamp(ms))",
        ColumnType::List(ScalarType::Timestamp(TimeUnit::Us)) => "list(timestamp(us))",
        ColumnType::List(ScalarType::Timestamp(TimeUnit::Rfc3339)) => "list(timestamp(rfc3339))",
        ColumnType::List(ScalarType::Json) => "list(json)",
    }
}

/// What a column of this type takes.
fn takes(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::String | ColumnType::Binary => "a string",
        ColumnType::Bool => "true or false",
        ColumnType::Int64 => {
            "a whole number from -9223372036854775808 to 9223372036854775807, or a string that holds one"
        }
        ColumnType::Float64 => {
            "a number that a double can hold, or a string that holds one, NaN, Infinity or -Infinity"
        }
        ColumnType::Timestamp(TimeUnit::Rfc3339) => {
            "a string with an RFC 3339 time from year 1 to 9999"
        }
        ColumnType::Timestamp(_) => {
            "a number since 1970 in that unit, from year 1 to 9999, or a string that holds one"
        }
        ColumnType::Json => "one JSON value",
        ColumnType::List(ScalarType::String) => "an array of strings",
        ColumnType::List(ScalarType::Bool) => "an array of true and false",
        ColumnType::List(ScalarType::Int64) => "an array of 64-bit whole numbers",
        ColumnType::List(ScalarType::Float64) => "an array of numbers",
        ColumnType::List(ScalarType::Timestamp(_)) => "an array of times from year 1 to 9999",
        ColumnType::List(ScalarType::Json) => "an array",
    }
}

fn source_words(source: &ColumnSource) -> String {
    match source {
        ColumnSource::Path(path) => path.join("."),
        ColumnSource::Key => "the key".to_owned(),
        ColumnSource::Header(name) => format!("header {name}"),
        ColumnSource::Topic => "the topic".to_owned(),
    }
}

fn column_words(column: &Column) -> String {
    let source = source_words(&column.source);
    format!(
        "column {} ({source}, {})",
        column.name,
        type_words(column.kind)
    )
}

/// A text made short enough to show, without line breaks or other control characters.
pub(super) fn clip(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(SHOWN_CHARS)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

/// A value that a column cannot hold.
pub(super) fn wrong_value(column: &Column, value: &str, wrong: Wrong) -> String {
    let mut text = format!("{}: {}", column_words(column), clip(value));
    if let Some(element) = wrong.element {
        let _ = write!(text, ", element {element},");
    }
    let problem = match wrong.cause {
        Cause::Range => "is out of range",
        Cause::Utf8 => "is not UTF-8",
        _ => "does not fit",
    };
    let _ = write!(text, " {problem}; it takes {}", takes(column.kind));
    text
}

/// Null or missing where that is no value. `barrier` is the path of the value on the way that is
/// no object.
pub(super) fn no_value(column: &Column, found: bool, barrier: Option<&[String]>) -> String {
    let what = match (found, barrier) {
        (true, _) => "is null".to_owned(),
        (false, None) => "is missing".to_owned(),
        (false, Some(path)) => format!("is missing, {} is no object", path.join(".")),
    };
    format!(
        "{}: {what}; it takes {}, and null only where nullable = true",
        column_words(column),
        takes(column.kind)
    )
}

/// A value that is not JSON, or not all of it.
pub(super) fn bad_json(text: &str, bad: Bad) -> String {
    let mut from = bad.at.min(text.len());
    while !text.is_char_boundary(from) {
        from -= 1;
    }
    let near = match text[from..].chars().next() {
        None => "the value ends".to_owned(),
        Some(_) => format!("found {}", clip(&text[from..])),
    };
    let mark = match text.starts_with('\u{feff}') {
        true => " (the value begins with a byte order mark)",
        false => "",
    };
    format!("byte {}: expected {}, {near}{mark}", bad.at, bad.expected)
}

/// A time that no folder is made for.
pub(super) fn partition_time(column: &Column, value: &str) -> String {
    format!(
        "{}: {} lies outside 1970 to 2100, from which the folders are made",
        column_words(column),
        clip(value)
    )
}
