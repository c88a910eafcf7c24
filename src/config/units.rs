//! The words in which values are written: durations, sizes, types, addresses. Each says what
//! would be right; serde reads them.

use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::overrides;
use super::secrets::Secret;
use super::valid::{
    ColumnSource, ColumnType, Compression, LogFormat, LogLevel, PartitionUnit, S3Client,
    ScalarType, Start, TimeUnit,
};

/// A type of value that a key can have.
pub(super) trait Leaf: DeserializeOwned {
    /// What would be right, as it follows "must be".
    const RIGHT: &'static str;
}

/// The longest duration: far beyond any sense, and far below what overflows a deadline.
const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// Reads a duration such as `5s`, `1m 30s` or `250ms`; at most 366 days.
///
/// # Errors
/// Says what would be right.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text.trim())
        .ok()
        .filter(|duration| *duration <= DURATION_MAX)
        .ok_or_else(|| format!("must be {}", Period::RIGHT))
}

/// Reads a size such as `64MiB` or `1_000_000`, in bytes; at most 2^63 - 1.
///
/// # Errors
/// Says what would be right.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '_')
        .unwrap_or(text.len());
    let unit: u64 = match text[digits..].trim_start() {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(format!("must be {}", Size::RIGHT)),
    };
    text[..digits]
        .replace('_', "")
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(|| format!("must be {}", Size::RIGHT))
}

impl Leaf for String {
    const RIGHT: &'static str = "a text in quotes";
}
impl Leaf for Secret {
    const RIGHT: &'static str = String::RIGHT;
}
impl Leaf for bool {
    const RIGHT: &'static str = "true or false";
}
impl Leaf for u64 {
    const RIGHT: &'static str = "a whole number, not negative";
}
impl Leaf for u32 {
    const RIGHT: &'static str = "a whole number from 0 to 4294967295";
}
impl Leaf for i64 {
    const RIGHT: &'static str = "a whole number";
}

/// A duration.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Period(pub(super) Duration);

impl TryFrom<String> for Period {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        parse_duration(&text).map(Self)
    }
}

impl Leaf for Period {
    const RIGHT: &'static str =
        "a duration in quotes with its unit, such as \"5s\" or \"1m 30s\", at most 366 days";
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "NumberOrText")]
pub(super) struct Size(pub(super) u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u64),
    Text(String),
}

impl TryFrom<NumberOrText> for Size {
    type Error = String;
    fn try_from(written: NumberOrText) -> Result<Self, String> {
        match written {
            NumberOrText::Number(bytes) => Ok(Self(bytes)),
            NumberOrText::Text(text) => parse_size(&text).map(Self),
        }
    }
}

impl Leaf for Size {
    const RIGHT: &'static str = "a size such as \"64MiB\" or a whole number of bytes";
}

/// A list of words; one text with commas between them does as well, for the environment.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Words {
    List(Vec<String>),
    Text(String),
}

impl Words {
    pub(super) fn into_list(self) -> Vec<String> {
        match self {
            Self::List(list) => list,
            Self::Text(text) => text
                .split(',')
                .map(str::trim)
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect(),
        }
    }
}

impl Leaf for Words {
    const RIGHT: &'static str = "a list of texts, such as [\"one\", \"two\"]";
}

/// A librdkafka property's value, whatever TOML type it is written in.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum OptionValue {
    Text(String),
    Bool(bool),
    Integer(i64),
    Float(f64),
}

impl OptionValue {
    pub(super) fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Bool(yes) => yes.to_string(),
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
        }
    }
}

impl Leaf for OptionValue {
    const RIGHT: &'static str = "a text, a number, true or false";
}

/// A type whose text is read by a function: its words are then a [`Leaf`] by serde.
macro_rules! word {
    ($name:ident, $valid:ty, $read:ident, $right:expr) => {
        /// As it is written.
        #[derive(Debug, Clone, Deserialize)]
        #[serde(try_from = "String")]
        pub(super) struct $name(pub(super) $valid);

        impl TryFrom<String> for $name {
            type Error = &'static str;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                $read(text.trim()).map(Self).ok_or(Self::RIGHT)
            }
        }

        impl Leaf for $name {
            const RIGHT: &'static str = $right;
        }
    };
}

word!(
    StartWord,
    Start,
    start,
    "\"earliest\", \"latest\", \"committed\" or an RFC 3339 time such as \"2026-11-23T00:00:00Z\""
);
word!(
    TypeWord,
    ColumnType,
    column_type,
    "string, bool, int64, float64, timestamp(s), timestamp(ms), timestamp(us), \
     timestamp(rfc3339), json, list(TYPE) of any of these, or binary"
);
word!(
    PathWord,
    ColumnSource,
    path,
    "keys with dots between them, those that hold a dot in quotes, such as \
     \"iss_position.latitude\" or 'a.\"b.c\"'"
);
word!(
    FromWord,
    ColumnSource,
    from,
    "\"key\", \"header:NAME\" or \"topic\"; a place in the value is given by path"
);
word!(
    CompressionWord,
    Compression,
    compression,
    "\"zstd(LEVEL)\" with a level from 1 to 22, \"snappy\" or \"none\""
);
word!(
    ClientWord,
    S3Client,
    client,
    "\"rusoto\" or \"object_store\""
);
word!(
    LevelWord,
    LogLevel,
    level,
    "\"error\", \"warning\", \"info\", \"debug\" or \"trace\""
);
word!(
    FormatWord,
    LogFormat,
    format_of,
    "\"auto\", \"journal\", \"terminal\" or \"json\""
);

fn start(text: &str) -> Option<Start> {
    match text {
        "earliest" => Some(Start::Earliest),
        "latest" => Some(Start::Latest),
        "committed" => Some(Start::Committed),
        time => chrono::DateTime::parse_from_rfc3339(time)
            .ok()
            .map(|time| time.timestamp_millis())
            // Kafka's own -1 and -2 mean its end and its start.
            .filter(|millis| *millis >= 0)
            .map(Start::Time),
    }
}

fn column_type(text: &str) -> Option<ColumnType> {
    if text == "binary" {
        return Some(ColumnType::Binary);
    }
    if let Some(element) = argument(text, "list") {
        return scalar_type(element).map(ColumnType::List);
    }
    Some(match scalar_type(text)? {
        ScalarType::String => ColumnType::String,
        ScalarType::Bool => ColumnType::Bool,
        ScalarType::Int64 => ColumnType::Int64,
        ScalarType::Float64 => ColumnType::Float64,
        ScalarType::Timestamp(unit) => ColumnType::Timestamp(unit),
        ScalarType::Json => ColumnType::Json,
    })
}

fn scalar_type(text: &str) -> Option<ScalarType> {
    Some(match text {
        "string" => ScalarType::String,
        "bool" => ScalarType::Bool,
        "int64" => ScalarType::Int64,
        "float64" => ScalarType::Float64,
        "json" => ScalarType::Json,
        _ => ScalarType::Timestamp(match argument(text, "timestamp")? {
            "s" => TimeUnit::S,
            "ms" => TimeUnit::Ms,
            "us" => TimeUnit::Us,
            "rfc3339" => TimeUnit::Rfc3339,
            _ => return None,
        }),
    })
}

fn path(text: &str) -> Option<ColumnSource> {
    match overrides::split_key(text) {
        Some((keys, "")) => Some(ColumnSource::Path(keys)),
        _ => None,
    }
}

fn from(text: &str) -> Option<ColumnSource> {
    match text {
        "key" => Some(ColumnSource::Key),
        "topic" => Some(ColumnSource::Topic),
        _ => text
            .strip_prefix("header:")
            .filter(|name| !name.is_empty())
            .map(|name| ColumnSource::Header(name.to_owned())),
    }
}

fn compression(text: &str) -> Option<Compression> {
    match text {
        "snappy" => Some(Compression::Snappy),
        "none" => Some(Compression::Uncompressed),
        _ => i32::from_str(argument(text, "zstd")?)
            .ok()
            .filter(|level| (1..=22).contains(level))
            .map(Compression::Zstd),
    }
}

fn client(text: &str) -> Option<S3Client> {
    match text {
        "rusoto" => Some(S3Client::Rusoto),
        "object_store" => Some(S3Client::ObjectStore),
        _ => None,
    }
}

fn level(text: &str) -> Option<LogLevel> {
    match text {
        "error" => Some(LogLevel::Error),
        "warning" | "warn" => Some(LogLevel::Warning),
        "info" => Some(LogLevel::Info),
        "debug" => Some(LogLevel::Debug),
        "trace" => Some(LogLevel::Trace),
        _ => None,
    }
}

fn format_of(text: &str) -> Option<LogFormat> {
    match text {
        "auto" => Some(LogFormat::Auto),
        "journal" => Some(LogFormat::Journal),
        "terminal" => Some(LogFormat::Terminal),
        "json" => Some(LogFormat::Json),
        _ => None,
    }
}

/// The folders: none, by date, or by date and hour.
pub(super) fn partition_units(words: &[String]) -> Option<Vec<PartitionUnit>> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => Some(vec![]),
        ["date"] => Some(vec![PartitionUnit::Date]),
        ["date", "hour"] => Some(vec![PartitionUnit::Date, PartitionUnit::Hour]),
        _ => None,
    }
}

/// What stands in the parentheses of `name(..)`.
fn argument<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.strip_prefix(name)?
        .trim_start()
        .strip_prefix('(')?
        .strip_suffix(')')
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary_or_decimal_by_their_unit() {
        for (text, bytes) in [
            ("64MiB", 64 << 20),
            ("64 MiB", 64 << 20),
            ("1_000_000", 1_000_000),
            ("5MB", 5_000_000),
            ("2kB", 2_000),
            ("0", 0),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "64mib", "-1", "1.5MiB", "99999999999TiB", "9e3"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_have_a_unit_and_an_end() {
        assert_eq!(parse_duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("1m 30s"), Ok(Duration::from_secs(90)));
        for text in ["", "5", "s", "-5s", "400days", "99999999999999999999s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_column_type_is_read() {
        for (text, kind) in [
            ("string", ColumnType::String),
            ("bool", ColumnType::Bool),
            ("int64", ColumnType::Int64),
            ("float64", ColumnType::Float64),
            ("timestamp(s)", ColumnType::Timestamp(TimeUnit::S)),
            ("timestamp(ms)", ColumnType::Timestamp(TimeUnit::Ms)),
            ("timestamp(us)", ColumnType::Timestamp(TimeUnit::Us)),
            (
                "timestamp(rfc3339)",
                ColumnType::Timestamp(TimeUnit::Rfc3339),
            ),
            ("json", ColumnType::Json),
            ("binary", ColumnType::Binary),
            ("list(int64)", ColumnType::List(ScalarType::Int64)),
            (
                "list(timestamp(ms))",
                ColumnType::List(ScalarType::Timestamp(TimeUnit::Ms)),
            ),
        ] {
            assert_eq!(column_type(text), Some(kind), "{text}");
        }
        for text in ["", "int32", "timestamp", "timestamp(ns)", "list", "list()"] {
            assert_eq!(column_type(text), None, "{text}");
        }
        assert_eq!(column_type("list(list(int64))"), None);
        assert_eq!(column_type("list(binary)"), None);
    }

    #[test]
    fn a_path_may_quote_keys_that_hold_dots() {
        let keys = |text: &str| match path(text) {
            Some(ColumnSource::Path(keys)) => Some(keys),
            _ => None,
        };
        let expected = |keys: &[&str]| Some(keys.iter().map(|key| (*key).to_owned()).collect());
        assert_eq!(keys("a.b"), expected(&["a", "b"]));
        assert_eq!(keys("a.\"b.c\".d"), expected(&["a", "b.c", "d"]));
        assert_eq!(keys("'x.y'"), expected(&["x.y"]));
        assert_eq!(keys("größe.@type"), expected(&["größe", "@type"]));
        assert_eq!(keys("\"a\\\"b\""), expected(&["a\"b"]));
        assert_eq!(keys("\"\""), expected(&[""]));
        for text in ["", ".a", "a.", "a..b", "\"a", "\"a\"b", "a=b"] {
            assert_eq!(keys(text), None, "{text}");
        }
    }

    #[test]
    fn a_start_may_be_a_time() {
        assert_eq!(start("1970-01-01T00:00:01+00:00"), Some(Start::Time(1000)));
        assert_eq!(start("1969-12-31T23:59:59Z"), None);
        assert_eq!(start("yesterday"), None);
    }

    #[test]
    fn a_zstd_level_has_its_range() {
        assert_eq!(compression("zstd(22)"), Some(Compression::Zstd(22)));
        assert_eq!(compression("zstd(0)"), None);
        assert_eq!(compression("zstd(23)"), None);
        assert_eq!(compression("gzip"), None);
    }
}
