//! The names of objects. They sort in the order of landing, and nothing else lies in the folders.

use crate::config::Config;

/// Folders and names of one topic's objects under one configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Names {
    /// Folder of the data files.
    pub data: String,
    /// Folder of the dead letters.
    pub dead_letters: String,
    /// Folder of the checkpoints.
    pub checkpoints: String,
    /// The consumer group.
    pub group: String,
    /// The topic.
    pub topic: String,
}

/// What an object's name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NamedRange {
    /// The partition's number.
    pub partition: i32,
    /// First offset of the batch.
    pub first: i64,
    /// Last offset of the batch.
    pub last: i64,
}

impl Names {
    /// The names under a configuration.
    pub fn of(config: &Config) -> Self {
        Self {
            data: config.store.data.clone(),
            dead_letters: config.store.dead_letters.clone(),
            checkpoints: config.store.checkpoints.clone(),
            group: config.kafka.group.clone(),
            topic: config.kafka.topic.clone(),
        }
    }

    /// Key of a partition's checkpoint.
    pub fn checkpoint(&self, partition: i32) -> String {
        format!("{}{partition}.json", self.checkpoints_of_topic())
    }

    /// Folder, with its slash, of the group's checkpoints of the topic.
    pub fn checkpoints_of_topic(&self) -> String {
        format!(
            "{}/{}/{}/",
            self.checkpoints,
            encoded_group(&self.group),
            self.topic
        )
    }

    /// Key of a data file of the batch [start, end) in a Hive folder ("" or "date=../").
    pub fn data_file(&self, folder: &str, partition: i32, start: i64, end: i64) -> String {
        format!(
            "{}/{folder}{}",
            self.data,
            self.file_name(partition, start, end)
        )
    }

    /// Key of the dead letters of the batch [start, end).
    pub fn dead_letters_file(&self, partition: i32, start: i64, end: i64) -> String {
        format!(
            "{}/{}",
            self.dead_letters,
            self.file_name(partition, start, end)
        )
    }

    /// Whether a key is one of this topic's and partition's objects, by its name. Read from the
    /// right: a topic may hold dashes.
    pub fn range_in(&self, key: &str) -> Option<NamedRange> {
        let name = key.rsplit('/').next()?.strip_suffix(".parquet")?;
        let mut parts = name.rsplitn(4, '-');
        let last = digits(parts.next()?, 20)?;
        let first = digits(parts.next()?, 20)?;
        let partition = digits(parts.next()?, 5)?;
        (parts.next()? == self.topic).then_some(NamedRange {
            partition: i32::try_from(partition).ok()?,
            first,
            last,
        })
    }

    fn file_name(&self, partition: i32, start: i64, end: i64) -> String {
        format!(
            "{}-{partition:05}-{start:020}-{:020}.parquet",
            self.topic,
            end - 1
        )
    }
}

fn digits(text: &str, width_min: usize) -> Option<i64> {
    (text.len() >= width_min && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

/// A group's name as a folder: percent-encoded outside [A-Za-z0-9._-], or if of dots alone.
pub fn encoded_group(group: &str) -> String {
    let only_dots = group.bytes().all(|byte| byte == b'.');
    let mut name = String::with_capacity(group.len());
    for byte in group.bytes() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if plain || (byte == b'.' && !only_dots) {
            name.push(byte as char);
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names {
            data: "parquet_files".into(),
            dead_letters: "dead_letters".into(),
            checkpoints: "checkpoints".into(),
            group: "a/b".into(),
            topic: "my-topic-1".into(),
        }
    }

    #[test]
    fn names_are_read_back_from_the_right() {
        let key = names().data_file("date=2026-11-23/", 3, 1200, 1800);
        assert_eq!(
            key,
            "parquet_files/date=2026-11-23/my-topic-1-00003-00000000000000001200-00000000000000001799.parquet"
        );
        let range = NamedRange {
            partition: 3,
            first: 1200,
            last: 1799,
        };
        assert_eq!(names().range_in(&key), Some(range));
        assert_eq!(names().range_in(&key.replace("my-topic", "other")), None);
        assert_eq!(names().range_in("parquet_files/part-0000.parquet"), None);
        assert_eq!(names().range_in(&key.replace("00003", "3")), None);
    }

    #[test]
    fn a_group_cannot_leave_its_folder() {
        assert_eq!(names().checkpoint(0), "checkpoints/a%2Fb/my-topic-1/0.json");
        assert_eq!(encoded_group(".."), "%2E%2E");
        assert_eq!(encoded_group("a.b-c_D"), "a.b-c_D");
        assert_eq!(encoded_group("ä"), "%C3%A4");
    }
}
