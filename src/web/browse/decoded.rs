//! What the configured table makes of a record: the row, or why it is a dead letter.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde::Serialize;

use crate::landing::decoder::Decoder;
use crate::landing::layout::Layout;
use crate::landing::offsets::OffsetSet;
use crate::messages::Records;

use super::log::Message;

/// A record as it lands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::web) enum Decoded {
    /// A row: names and values of its columns; `None`: null.
    Row(Vec<(String, Option<String>)>),
    /// A dead letter.
    DeadLetter { cause: &'static str, detail: String },
    /// Neither, which is a fault of ours.
    Unshown(String),
}

/// The record by this layout.
pub(in crate::web) fn decoded(layout: &Layout, topic: &str, message: &Message) -> Decoded {
    let mut records = Records::default();
    let headers = message.headers.iter();
    records.push(
        message.offset,
        message.timestamp_ms,
        message.key.as_deref(),
        message.value.as_deref(),
        headers.map(|(name, value)| (name.as_bytes(), value.as_deref())),
    );
    let mut decoder = Decoder::new(layout, topic);
    let block = decoder.decode(&records, message.partition, &OffsetSet::default());
    if let Some(reject) = block.rejects.first() {
        return Decoded::DeadLetter {
            cause: reject.cause.as_str(),
            detail: reject.detail.clone(),
        };
    }
    let schema = block.rows.schema();
    let columns = schema.fields().iter().zip(block.rows.columns());
    let row: Result<Vec<_>, ArrowError> = columns
        .map(|(field, column)| Ok((field.name().clone(), first(column)?)))
        .collect();
    match row {
        Ok(row) => Decoded::Row(row),
        Err(error) => Decoded::Unshown(error.to_string()),
    }
}

/// The column's first value; `None`: null.
fn first(column: &ArrayRef) -> Result<Option<String>, ArrowError> {
    if column.is_null(0) {
        return Ok(None);
    }
    // The formatter knows zones by their offset only.
    let in_utc = column
        .as_primitive_opt::<TimestampMicrosecondType>()
        .map(|times| times.clone().with_timezone("+00:00"));
    let column: &dyn Array = match &in_utc {
        Some(times) => times,
        None => column.as_ref(),
    };
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(column, &options)?;
    Ok(Some(formatter.value(0).try_to_string()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Column, ColumnSource, ColumnType, TimeUnit};

    fn message(value: &str) -> Message {
        Message {
            partition: 3,
            offset: 41,
            timestamp_ms: 1_000,
            key: None,
            value: Some(value.as_bytes().to_vec()),
            headers: Vec::new(),
        }
    }

    fn of(value: &str) -> Decoded {
        let column = |name: &str, path: &[&str], kind| Column {
            name: name.into(),
            source: ColumnSource::Path(path.iter().map(|key| (*key).into()).collect()),
            kind,
            nullable: false,
        };
        let mut config = crate::testing::config();
        config.table.columns = vec![
            column(
                "timestamp",
                &["timestamp"],
                ColumnType::Timestamp(TimeUnit::S),
            ),
            column(
                "latitude",
                &["iss_position", "latitude"],
                ColumnType::Float64,
            ),
        ];
        let layout = Layout::of(&config);
        decoded(&layout, "iss", &message(value))
    }

    #[test]
    fn a_record_is_shown_as_the_row_that_it_becomes() {
        let value = r#"{"timestamp":1,"message":"success","iss_position":{"latitude":"1.5","longitude":"-2"}}"#;
        let Decoded::Row(row) = of(value) else {
            panic!("{:?}", of(value));
        };
        let column = |name: &str| {
            let found = row.iter().find(|(column, _)| column == name);
            found.unwrap().1.clone()
        };
        assert_eq!(column("latitude").as_deref(), Some("1.5"));
        assert_eq!(column("kafka_offset").as_deref(), Some("41"));
        assert_eq!(column("timestamp").as_deref(), Some("1970-01-01T00:00:01Z"));
    }

    #[test]
    fn a_dead_letter_is_shown_with_its_cause() {
        let Decoded::DeadLetter { cause, .. } = of("{") else {
            panic!("{:?}", of("{"));
        };
        assert_eq!(cause, "syntax");
    }
}
