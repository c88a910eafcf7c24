//! The files of a Structured Streaming job, as Spark 3.5.0 writes them.
//!
//! ```text
//! metadata           {"id":"..."}
//! offsets/N          v1, a line of settings, then a line for each source: {"topic":{"0":60}}
//! commits/N          (its name alone says that the batch N ended)
//! sources/I/0        a zero byte, v1, where the source I began: {"topic":{"0":0}}
//! _spark_metadata/N  v1, then a line for each file of the batch N; N.compact: of all up to N
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;

/// The version that all of them carry.
const VERSION: &str = "v1";

/// Offsets behind what was read, by topic and partition.
pub type Positions = BTreeMap<String, BTreeMap<i32, i64>>;

/// What `offsets/N` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchOffsets {
    /// When the batch was planned, milliseconds since 1970 UTC.
    pub time_ms: Option<i64>,
    /// By source; `None`: it has none yet, or is not Kafka.
    pub sources: Vec<Option<Positions>>,
}

/// A file of the sink.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SinkFile {
    /// Its URL.
    pub path: String,
    /// `add`, or `delete` in the logs of older versions.
    pub action: String,
}

impl SinkFile {
    /// Its name without folders: it holds a UUID, and survives a folder that was moved.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// The job's id.
///
/// # Errors
/// Why it is no `metadata`.
pub fn job_id(body: &[u8]) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Metadata {
        id: String,
    }
    let metadata: Metadata = serde_json::from_str(text(body)?.trim()).map_err(no_json)?;
    Ok(metadata.id)
}

/// Of `offsets/N`.
///
/// # Errors
/// Why it cannot be read.
pub fn batch_offsets(body: &[u8]) -> Result<BatchOffsets, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Settings {
        batch_timestamp_ms: i64,
    }
    let mut lines = versioned(body)?;
    let settings = lines.next().ok_or("it ends after its version")?;
    let settings: Option<Settings> = serde_json::from_str(settings).ok();
    let sources: Vec<_> = lines.map(|line| serde_json::from_str(line).ok()).collect();
    if sources.is_empty() {
        return Err("it names no source".to_owned());
    }
    Ok(BatchOffsets {
        time_ms: settings.map(|settings| settings.batch_timestamp_ms),
        sources,
    })
}

/// Of `sources/I/0`.
///
/// # Errors
/// Why it cannot be read.
pub fn initial_offsets(body: &[u8]) -> Result<Positions, String> {
    let text = text(body)?;
    // Spark 2.1 wrote no version here.
    let json = match text.starts_with('v') {
        true => versioned(body)?.collect::<Vec<_>>().join("\n"),
        false => text.to_owned(),
    };
    serde_json::from_str(&json).map_err(no_json)
}

/// Of `_spark_metadata/N` or `N.compact`.
///
/// # Errors
/// Why it cannot be read.
pub fn sink_files(body: &[u8]) -> Result<Vec<SinkFile>, String> {
    versioned(body)?
        .map(|line| serde_json::from_str(line).map_err(no_json))
        .collect()
}

/// The batch that a log's file is of, and whether it holds all up to it; `None`: it is no batch
/// (a checksum, an unfinished file, a folder's marker).
pub fn batch_of(name: &str) -> Option<(u64, bool)> {
    let (number, is_compact) = match name.strip_suffix(".compact") {
        Some(number) => (number, true),
        None => (name, false),
    };
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    Some((number.parse().ok().filter(|_| is_number)?, is_compact))
}

/// The lines after the version.
fn versioned(body: &[u8]) -> Result<impl Iterator<Item = &str>, String> {
    let mut lines = text(body)?.lines();
    match lines.next().map(str::trim) {
        Some(VERSION) => Ok(lines),
        Some(other) => Err(format!(
            "its version is {:?}, not {VERSION}",
            other.chars().take(20).collect::<String>()
        )),
        None => Err("it is empty".to_owned()),
    }
}

/// Spark writes a zero byte first where older versions of it would trip over the version.
fn text(body: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(body).map_err(|_| "it is not text".to_owned())?;
    Ok(text.trim_start_matches('\0'))
}

fn no_json(error: serde_json::Error) -> String {
    format!("it is not what Spark writes: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(name: &str) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/spark");
        std::fs::read(format!("{folder}/{name}")).unwrap()
    }

    fn positions(topic: &str, of: &[(i32, i64)]) -> Positions {
        let of = of.iter().copied().collect();
        [(topic.to_owned(), of)].into_iter().collect()
    }

    #[test]
    fn a_captured_checkpoint_is_read() {
        let id = "d92bd669-dcbe-4432-a816-e1a97395575f";
        assert_eq!(job_id(&captured("checkpoints/metadata")).unwrap(), id);
        let offsets = batch_offsets(&captured("checkpoints/offsets/57")).unwrap();
        assert_eq!(offsets.time_ms, Some(1_795_433_555_005));
        assert_eq!(offsets.sources, [Some(positions("iss", &[(0, 61)]))]);
        // It begins with a zero byte.
        let initial = initial_offsets(&captured("checkpoints/sources/0/0")).unwrap();
        assert_eq!(initial, positions("iss", &[(0, 0)]));
    }

    #[test]
    fn a_captured_sinks_log_is_read() {
        let one = sink_files(&captured("parquet_files/_spark_metadata/0")).unwrap();
        let all = sink_files(&captured("parquet_files/_spark_metadata/9.compact")).unwrap();
        assert_eq!((one.len(), all.len()), (1, 10));
        assert_eq!(all[0], one[0]);
        assert_eq!(one[0].action, "add");
        assert_eq!(
            one[0].name(),
            "part-00000-8b1c636a-c539-4797-99e0-128ae556452b-c000.snappy.parquet"
        );
        assert_eq!(sink_files(b"v1").unwrap(), []);
    }

    #[test]
    fn several_sources_keep_their_places() {
        let body = b"v1\n{}\n-\n{\"a\":{\"1\":5,\"0\":7}}\n42\n{\"b\":{\"0\":1},\"c\":{\"0\":2}}";
        let offsets = batch_offsets(body).unwrap();
        assert_eq!(offsets.time_ms, None);
        assert_eq!(offsets.sources.len(), 4);
        assert_eq!(offsets.sources[0], None);
        assert_eq!(offsets.sources[1], Some(positions("a", &[(0, 7), (1, 5)])));
        assert_eq!(offsets.sources[2], None);
        assert_eq!(offsets.sources[3].as_ref().unwrap().len(), 2);
    }

    #[test]
    fn the_first_offsets_of_spark_2_1_have_no_version() {
        let expected = positions("iss", &[(0, 3)]);
        assert_eq!(initial_offsets(b"\0{\"iss\":{\"0\":3}}").unwrap(), expected);
        assert_eq!(
            initial_offsets(b"v1\n{\"iss\":{\"0\":3}}").unwrap(),
            expected
        );
    }

    #[test]
    fn what_spark_does_not_write_is_said() {
        assert!(batch_offsets(b"v2\n{}\n{}").unwrap_err().contains("v2"));
        for body in [&b""[..], b"v1", b"v1\n{}", b"\xff"] {
            assert!(batch_offsets(body).is_err(), "{body:?}");
        }
        assert!(sink_files(b"v1\n{\"path\":\"x\"").is_err());
        assert!(sink_files(b"").is_err());
        assert!(job_id(b"{}").is_err());
        assert!(initial_offsets(b"\0v1\n7").is_err());
    }

    #[test]
    fn only_batches_count_in_a_log() {
        assert_eq!(batch_of("57"), Some((57, false)));
        assert_eq!(batch_of("9.compact"), Some((9, true)));
        for name in ["", ".57.crc", ".57.5f0c.tmp", "57.tmp", "+5", ".compact"] {
            assert_eq!(batch_of(name), None, "{name}");
        }
    }
}
