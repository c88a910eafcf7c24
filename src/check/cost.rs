//! What the rotation costs a day, worst case, while few records come.

use std::time::Duration;

use crate::config::{Files, PartitionUnit};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The intent, the object and the proof: what landing one file takes at most.
const REQUESTS_PER_FILE: u64 = 3;

/// Files and requests of a day, at most, while `max_age` is what closes a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// Of the topic; `None`: not known, the figures are for one.
    pub partitions: Option<u64>,
    /// Data files of all partitions.
    pub files_per_day: u64,
    /// Requests to the store for them.
    pub requests_per_day: u64,
    /// What the figures take for granted, one sentence each.
    pub assumes: Vec<String>,
}

impl Cost {
    /// Of a topic with so many partitions.
    pub fn of(files: &Files, partitions: Option<u64>) -> Self {
        let batches = DAY.as_millis().div_ceil(files.max_age.as_millis().max(1));
        let batches = u64::try_from(batches).unwrap_or(u64::MAX);
        let boundaries = boundaries_per_day(&files.partition_by);
        let files_per_day = batches
            .saturating_add(boundaries)
            .saturating_mul(partitions.unwrap_or(1));
        Self {
            partitions,
            files_per_day,
            requests_per_day: files_per_day.saturating_mul(REQUESTS_PER_FILE),
            assumes: assumptions(files, boundaries),
        }
    }
}

/// How often a batch spans two folders, if times rise.
fn boundaries_per_day(partition_by: &[PartitionUnit]) -> u64 {
    match partition_by.last() {
        None => 0,
        Some(PartitionUnit::Date) => 1,
        Some(PartitionUnit::Hour) => 24,
    }
}

fn assumptions(files: &Files, boundaries: u64) -> Vec<String> {
    let max_age = humantime::format_duration(files.max_age);
    let mut assumes = vec![
        format!(
            "each partition gets a record in each max_age ({max_age}); one that gets none costs nothing"
        ),
        format!(
            "in no partition max_rows ({}) or max_bytes ({}) comes before max_age; where they do, \
             files are as many as the records fill",
            files.max_rows, files.max_bytes
        ),
        "no record is a dead letter; a batch with some has one file more".to_owned(),
        format!(
            "a file takes {REQUESTS_PER_FILE} requests; a start takes a few more, listings included"
        ),
    ];
    if boundaries > 0 {
        assumes.push(
            "times rise, so a batch spans two folders only where one ends; late records cost a file \
             for each of their folders"
                .to_owned(),
        );
    }
    assumes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(max_age_s: u64, partition_by: &[PartitionUnit], partitions: Option<u64>) -> (u64, u64) {
        let mut files = crate::testing::config().files;
        files.max_age = Duration::from_secs(max_age_s);
        files.partition_by = partition_by.to_vec();
        let cost = Cost::of(&files, partitions);
        (cost.files_per_day, cost.requests_per_day)
    }

    #[test]
    fn each_partition_closes_a_file_each_max_age_and_where_a_folder_ends() {
        use PartitionUnit::{Date, Hour};
        assert_eq!(cost(300, &[], Some(1)), (288, 864));
        assert_eq!(cost(300, &[Date], Some(4)), (4 * 289, 4 * 289 * 3));
        assert_eq!(cost(3600, &[Date, Hour], Some(1)), (48, 144));
        assert_eq!(cost(7 * 86_400, &[], Some(1)), (1, 3));
        assert_eq!(cost(300, &[], None), (288, 864));
    }

    #[test]
    fn absurd_settings_do_not_overflow() {
        let mut files = crate::testing::config().files;
        files.max_age = Duration::ZERO;
        assert_eq!(Cost::of(&files, Some(u64::MAX)).files_per_day, u64::MAX);
    }
}
