//! What the rotation costs a day, worst case, while few records come.

use std::time::Duration;

use serde_json::{Value, json};

use crate::config::{Config, Files, PartitionUnit, Store, StoreLocation};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The intent, the object and the proof: what landing one file takes at most, each a PUT.
const REQUESTS_PER_FILE: u64 = 3;

/// What the prices are.
const LIST: &str = "Amazon's list prices for us-east-1 as of 2025";

/// Of a thousand PUT requests, by storage class, in thousandths of a cent. The checkpoints' are
/// taken for as dear as the objects': both are written with the class that is configured.
const PUT_PRICES: [(&str, u64); 7] = [
    ("STANDARD", 500),
    ("INTELLIGENT_TIERING", 500),
    ("REDUCED_REDUNDANCY", 500),
    ("STANDARD_IA", 1000),
    ("ONEZONE_IA", 1000),
    ("GLACIER_IR", 2000),
    ("EXPRESS_ONEZONE", 113),
];

/// Files and requests of a day, at most, while `max_age` is what closes a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// Of the topic; `None`: not known, the figures are for one.
    pub partitions: Option<u64>,
    /// Data files of all partitions.
    pub files_per_day: u64,
    /// Requests to the store for them.
    pub requests_per_day: u64,
    /// What the requests cost a day at list prices, in thousandths of a cent; `None`: nothing is
    /// charged for them, or not by Amazon, or at a price that is not known.
    pub requests_millicents: Option<u64>,
    /// What the figures take for granted, one sentence each.
    pub assumes: Vec<String>,
}

impl Cost {
    /// Of a topic with so many partitions.
    pub fn of(config: &Config, partitions: Option<u64>) -> Self {
        let files = &config.files;
        let batches = DAY.as_millis().div_ceil(files.max_age.as_millis().max(1));
        let batches = u64::try_from(batches).unwrap_or(u64::MAX);
        let boundaries = boundaries_per_day(&files.partition_by);
        let files_per_day = batches
            .saturating_add(boundaries)
            .saturating_mul(partitions.unwrap_or(1));
        let requests_per_day = files_per_day.saturating_mul(REQUESTS_PER_FILE);
        let price = put_price(&config.store);
        Self {
            partitions,
            files_per_day,
            requests_per_day,
            requests_millicents: price.map(|price| requests_per_day.saturating_mul(price) / 1000),
            assumes: assumptions(files, boundaries),
        }
    }

    /// The figures as one sentence that the assumptions end.
    pub(super) fn in_words(&self) -> String {
        let of = match self.partitions {
            Some(1) => "1 partition".to_owned(),
            Some(partitions) => format!("{partitions} partitions"),
            None => "each partition (their number is not known)".to_owned(),
        };
        let price = match self.requests_millicents {
            Some(millicents) => format!(
                " ({} a day, {} a month by {LIST}, storage not included)",
                dollars(millicents),
                dollars(millicents.saturating_mul(30))
            ),
            None => String::new(),
        };
        format!(
            "at most {} files and {} requests to the store a day for {of}{price}, if",
            self.files_per_day, self.requests_per_day
        )
    }

    pub(super) fn to_json(&self) -> Value {
        let usd = self
            .requests_millicents
            .map(|millicents| millicents as f64 / 100_000.0);
        json!({
            "partitions": self.partitions,
            "files_per_day_max": self.files_per_day,
            "requests_per_day_max": self.requests_per_day,
            "requests_usd_per_day_max": usd,
            "prices": usd.map(|_| LIST),
            "assumes": self.assumes,
        })
    }
}

/// In dollars and cents; the cheap end rounded up, so that nothing looks free.
fn dollars(millicents: u64) -> String {
    let cents = millicents.div_ceil(1000);
    format!("${}.{:02}", cents / 100, cents % 100)
}

/// Of a thousand PUTs to Amazon; another server's price is not known.
fn put_price(store: &Store) -> Option<u64> {
    let is_amazon = matches!(store.location, StoreLocation::S3 { .. })
        && store
            .s3
            .endpoint
            .as_ref()
            .is_none_or(|endpoint| endpoint.contains("amazonaws.com"));
    if !is_amazon {
        return None;
    }
    let class = store.s3.storage_class.as_deref().unwrap_or("STANDARD");
    let found = PUT_PRICES.iter().find(|(name, _)| *name == class);
    found.map(|(_, price)| *price)
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
        let mut config = crate::testing::config();
        config.files.max_age = Duration::from_secs(max_age_s);
        config.files.partition_by = partition_by.to_vec();
        let cost = Cost::of(&config, partitions);
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
        let mut config = crate::testing::config();
        config.files.max_age = Duration::ZERO;
        assert_eq!(Cost::of(&config, Some(u64::MAX)).files_per_day, u64::MAX);
    }

    #[test]
    fn only_amazon_is_priced_and_by_the_storage_class() {
        let mut config = crate::testing::config();
        config.files.partition_by = Vec::new();
        assert_eq!(Cost::of(&config, Some(1)).requests_millicents, None);
        config.store.location = StoreLocation::S3 {
            bucket: "b".to_owned(),
            prefix: String::new(),
        };
        config.store.s3.endpoint = Some("http://127.0.0.1:9100".to_owned());
        assert_eq!(Cost::of(&config, Some(1)).requests_millicents, None);
        config.store.s3.endpoint = None;
        // 864 requests a day at half a cent a thousand: 13 cents a month.
        let cost = Cost::of(&config, Some(1));
        assert_eq!(cost.requests_millicents, Some(432));
        let words = cost.in_words();
        assert!(words.contains("$0.01 a day, $0.13 a month"), "{words}");
        config.store.s3.storage_class = Some("STANDARD_IA".to_owned());
        assert_eq!(Cost::of(&config, Some(1)).requests_millicents, Some(864));
        config.store.s3.storage_class = Some("SOMETHING_NEW".to_owned());
        assert_eq!(Cost::of(&config, Some(1)).requests_millicents, None);
    }
}
