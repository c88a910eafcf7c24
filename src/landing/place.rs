//! Where the last row of a block was on the earth, for a table that says so.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, TimestampMicrosecondType};

use crate::status::track::Position;

/// The last row's `latitude` and `longitude`, both `float64`, at its `kafka_timestamp`.
pub(crate) fn last_place(rows: &RecordBatch) -> Option<Position> {
    let row = rows.num_rows().checked_sub(1)?;
    let degrees = |name| {
        let column = rows.column_by_name(name)?;
        let column = column.as_primitive_opt::<Float64Type>()?;
        column.is_valid(row).then(|| column.value(row))
    };
    let time = rows.column_by_name("kafka_timestamp")?;
    let time = time.as_primitive_opt::<TimestampMicrosecondType>()?;
    Some(Position {
        time_ms: time.is_valid(row).then(|| time.value(row) / 1000)?,
        latitude: degrees("latitude")?,
        longitude: degrees("longitude")?,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, StringArray, TimestampMicrosecondArray};

    use super::*;

    fn rows(latitude: ArrayRef) -> RecordBatch {
        let time = TimestampMicrosecondArray::from(vec![1_000_000, 2_000_000]);
        RecordBatch::try_from_iter([
            ("latitude", latitude),
            ("longitude", Arc::new(Float64Array::from(vec![3.0, 4.0]))),
            ("kafka_timestamp", Arc::new(time.with_timezone("UTC"))),
        ])
        .unwrap()
    }

    #[test]
    fn the_last_rows_place_is_told_with_its_time() {
        let place = last_place(&rows(Arc::new(Float64Array::from(vec![1.0, 2.0]))));
        let expected = Position {
            time_ms: 2000,
            latitude: 2.0,
            longitude: 4.0,
        };
        assert_eq!(place, Some(expected));
    }

    #[test]
    fn a_table_of_something_else_has_no_place() {
        assert_eq!(
            last_place(&rows(Arc::new(StringArray::from(vec!["a", "b"])))),
            None
        );
        let nothing = Float64Array::from(vec![Some(1.0), None]);
        assert_eq!(last_place(&rows(Arc::new(nothing))), None);
        let empty = rows(Arc::new(Float64Array::from(vec![1.0, 2.0]))).slice(0, 0);
        assert_eq!(last_place(&empty), None);
    }
}
