//! Hive folders: `date=2026-11-23/hour=03/`, in UTC, from a column of instants.

use arrow::array::{Array, TimestampMicrosecondArray};

use crate::config::PartitionUnit;
use crate::landing::decoder::PARTITION_TIMES_US;

/// The folder of records whose time is missing, or is Kafka's and absurd.
pub const DEFAULT_FOLDER: &str = "__HIVE_DEFAULT_PARTITION__";

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;

/// A folder as the number of its hour or day since 1970; `None`: [`DEFAULT_FOLDER`]; always
/// `Some(0)` where there are no folders.
pub type FolderKey = Option<i64>;

/// The smallest unit of the folders, in microseconds; `None`: there are no folders.
fn unit_us(partition_by: &[PartitionUnit]) -> Option<i64> {
    partition_by.last().map(|unit| match unit {
        PartitionUnit::Date => DAY_US,
        PartitionUnit::Hour => HOUR_US,
    })
}

/// The folder of each row.
pub fn keys_of_rows(
    partition_by: &[PartitionUnit],
    times: &TimestampMicrosecondArray,
) -> RowFolders {
    let Some(unit_us) = unit_us(partition_by) else {
        return RowFolders::One(Some(0));
    };
    let key = |row: usize| {
        (!times.is_null(row))
            .then(|| times.value(row))
            .filter(|time| is_sane(*time))
            .map(|time| time.div_euclid(unit_us))
    };
    let mut keys = (0..times.len()).map(key);
    let Some(first) = keys.next() else {
        return RowFolders::One(Some(0));
    };
    if keys.all(|key| key == first) {
        return RowFolders::One(first);
    }
    RowFolders::Many((0..times.len()).map(key).collect())
}

/// Whether a time, in microseconds since 1970 UTC, lies in 1970 to 2100.
pub fn is_sane(time_us: i64) -> bool {
    PARTITION_TIMES_US.contains(&time_us)
}

/// The folders of a block's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowFolders {
    /// All rows are in one: nearly always.
    One(FolderKey),
    /// One for each row.
    Many(Vec<FolderKey>),
}

/// A folder's name with its slash, below the data folder; empty where there are none.
pub fn name(partition_by: &[PartitionUnit], key: FolderKey) -> String {
    let Some(unit_us) = unit_us(partition_by) else {
        return String::new();
    };
    let time_us = key.map(|key| key * unit_us);
    let time = time_us.and_then(chrono::DateTime::from_timestamp_micros);
    let part = |unit: &PartitionUnit| match (unit, &time) {
        (PartitionUnit::Date, Some(time)) => format!("date={}/", time.format("%Y-%m-%d")),
        (PartitionUnit::Hour, Some(time)) => format!("hour={}/", time.format("%H")),
        (PartitionUnit::Date, None) => format!("date={DEFAULT_FOLDER}/"),
        (PartitionUnit::Hour, None) => format!("hour={DEFAULT_FOLDER}/"),
    };
    partition_by.iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [PartitionUnit; 2] = [PartitionUnit::Date, PartitionUnit::Hour];

    fn folder_of(partition_by: &[PartitionUnit], time_us: Option<i64>) -> String {
        let times = TimestampMicrosecondArray::from(vec![time_us]);
        match keys_of_rows(partition_by, &times) {
            RowFolders::One(key) => name(partition_by, key),
            RowFolders::Many(_) => unreachable!("one row has one folder"),
        }
    }

    #[test]
    fn folders_are_utc_dates_and_hours() {
        let time_us = 1_764_000_000_000_000 - 1; // 2025-11-24T15:59:59.999999Z
        assert_eq!(
            folder_of(&[PartitionUnit::Date], Some(time_us)),
            "date=2025-11-24/"
        );
        assert_eq!(folder_of(&BOTH, Some(time_us)), "date=2025-11-24/hour=15/");
        assert_eq!(
            folder_of(&BOTH, Some(time_us + 1)),
            "date=2025-11-24/hour=16/"
        );
        assert_eq!(folder_of(&[], Some(time_us)), "");
    }

    #[test]
    fn missing_and_absurd_times_have_a_folder_of_their_own() {
        for time_us in [
            None,
            Some(-1),
            Some(i64::MAX),
            Some(i64::MIN),
            Some(PARTITION_TIMES_US.end),
        ] {
            let expected = "date=__HIVE_DEFAULT_PARTITION__/hour=__HIVE_DEFAULT_PARTITION__/";
            assert_eq!(folder_of(&BOTH, time_us), expected);
        }
        let last_us = PARTITION_TIMES_US.end - 1;
        assert_eq!(folder_of(&BOTH, Some(last_us)), "date=2099-12-31/hour=23/");
    }

    #[test]
    fn rows_of_several_folders_keep_theirs() {
        let times = TimestampMicrosecondArray::from(vec![Some(0), Some(DAY_US), None, Some(1)]);
        let folders = keys_of_rows(&[PartitionUnit::Date], &times);
        assert_eq!(
            folders,
            RowFolders::Many(vec![Some(0), Some(1), None, Some(0)])
        );
    }
}
