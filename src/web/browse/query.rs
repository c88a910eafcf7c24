//! What is asked for in a query string. Pure: what is wrong with it is said by name.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::log::Which;

/// Of a page; a screen and some more.
const LIMIT_DEFAULT: usize = 50;
/// What a person scrolls through, and four of which are read at once.
const LIMIT_MAX: usize = 500;
/// More than anybody looks for.
const TEXT_BYTES_MAX: usize = 256;

/// What a page or a file of messages is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::web) struct Query {
    pub(in crate::web) partition: Option<i32>,
    pub(in crate::web) offset: Option<i64>,
    /// As it was written, and in milliseconds since 1970 UTC.
    pub(in crate::web) time: Option<(String, i64)>,
    pub(in crate::web) limit: usize,
    /// Only records that hold this text.
    pub(in crate::web) text: Option<String>,
}

impl Query {
    /// Of names and values; an empty value, as a form sends it, is none.
    pub(in crate::web) fn parse(given: &BTreeMap<String, String>) -> Result<Self, String> {
        let of = |name: &str| {
            given
                .get(name)
                .map(|text| text.trim())
                .filter(|text| !text.is_empty())
        };
        let query = Self {
            partition: number(of("partition"), "partition", 0)?,
            offset: number(of("offset"), "offset", 0)?,
            time: of("time").map(time).transpose()?,
            limit: number(of("limit"), "limit", 1)?.unwrap_or(LIMIT_DEFAULT),
            text: of("text").map(str::to_owned),
        };
        if query.limit > LIMIT_MAX {
            return Err(format!(
                "limit: must be at most {LIMIT_MAX}, is {}",
                query.limit
            ));
        }
        if query
            .text
            .as_ref()
            .is_some_and(|text| text.len() > TEXT_BYTES_MAX)
        {
            return Err(format!("text: must have at most {TEXT_BYTES_MAX} bytes"));
        }
        if query.offset.is_some() && query.partition.is_none() {
            return Err("offset: needs a partition beside it".to_owned());
        }
        if query.offset.is_some() && query.time.is_some() {
            return Err("offset and time: one of the two can be asked for".to_owned());
        }
        Ok(query)
    }

    pub(in crate::web) fn which(&self) -> Which {
        match (self.partition, self.offset, &self.time) {
            (partition, _, Some((_, time_ms))) => Which::Since(partition, *time_ms),
            (Some(partition), Some(offset), None) => Which::From(partition, offset),
            (Some(partition), None, None) => Which::NewestOf(partition),
            (None, _, None) => Which::Newest,
        }
    }

    /// The same as a query string.
    pub(in crate::web) fn string(&self) -> String {
        let mut parts = vec![format!("limit={}", self.limit)];
        parts.extend(
            self.partition
                .map(|partition| format!("partition={partition}")),
        );
        parts.extend(self.offset.map(|offset| format!("offset={offset}")));
        // Written as a number it needs no escape.
        parts.extend(
            self.time
                .as_ref()
                .map(|(_, time_ms)| format!("time={time_ms}")),
        );
        parts.extend(
            self.text
                .as_ref()
                .map(|text| format!("text={}", escaped(text))),
        );
        parts.join("&")
    }
}

/// As a value in a query string.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(byte as char);
            }
            // Writing into a string cannot fail.
            byte => drop(write!(escaped, "%{byte:02X}")),
        }
    }
    escaped
}

/// The coordinates of one record.
pub(in crate::web) fn coordinates(given: &BTreeMap<String, String>) -> Result<(i32, i64), String> {
    let query = Query::parse(given)?;
    match (query.partition, query.offset) {
        (Some(partition), Some(offset)) => Ok((partition, offset)),
        _ => Err("partition and offset: both must be given".to_owned()),
    }
}

fn number<T: std::str::FromStr + PartialOrd + From<u8>>(
    text: Option<&str>,
    name: &str,
    least: u8,
) -> Result<Option<T>, String> {
    let Some(text) = text else {
        return Ok(None);
    };
    match text.parse::<T>() {
        Ok(number) if number >= T::from(least) => Ok(Some(number)),
        _ => Err(format!(
            "{name}: must be a number from {least} on, is {text:?}"
        )),
    }
}

/// RFC 3339, with `T` or a space and without a zone too (then UTC), or milliseconds since 1970.
fn time(text: &str) -> Result<(String, i64), String> {
    let written = text.replace(' ', "T");
    let with_zone = |text: &str| {
        let time = chrono::DateTime::parse_from_rfc3339(text).ok()?;
        Some(time.timestamp_millis())
    };
    let found = with_zone(&written)
        .or_else(|| with_zone(&format!("{written}Z")))
        .or_else(|| with_zone(&format!("{written}:00Z")))
        .or_else(|| text.parse().ok());
    match found {
        Some(time_ms) => Ok((text.to_owned(), time_ms)),
        None => Err(format!(
            "time: must be a time such as 2026-11-25T03:00:00Z, is {text:?}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(given: &[(&str, &str)]) -> Result<Query, String> {
        let given = given.iter();
        let owned = given.map(|(name, value)| ((*name).into(), (*value).into()));
        Query::parse(&owned.collect())
    }

    #[test]
    fn an_empty_form_asks_for_the_newest() {
        let query = parse(&[("partition", ""), ("offset", " "), ("time", "")]).unwrap();
        assert_eq!(query.which(), Which::Newest);
        assert_eq!(query.limit, LIMIT_DEFAULT);
    }

    #[test]
    fn partition_offset_and_time_say_where() {
        let which = |given: &[(&str, &str)]| parse(given).unwrap().which();
        assert_eq!(which(&[("partition", "3")]), Which::NewestOf(3));
        assert_eq!(
            which(&[("partition", "3"), ("offset", "9")]),
            Which::From(3, 9)
        );
        let since = Which::Since(None, 1_795_575_600_000);
        for time in [
            "2026-11-25T03:00:00Z",
            "2026-11-25 03:00:00",
            "2026-11-25T03:00",
            "2026-11-25T04:00:00+01:00",
            "1795575600000",
        ] {
            assert_eq!(which(&[("time", time)]), since, "{time}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_by_name_with_what_would_be_right() {
        for (given, words) in [
            (
                &[("partition", "x")][..],
                "partition: must be a number from 0 on, is \"x\"",
            ),
            (
                &[("partition", "-1")],
                "partition: must be a number from 0 on, is \"-1\"",
            ),
            (
                &[("limit", "0")],
                "limit: must be a number from 1 on, is \"0\"",
            ),
            (&[("limit", "9999")], "limit: must be at most 500, is 9999"),
            (&[("offset", "4")], "offset: needs a partition beside it"),
            (
                &[("time", "soon")],
                "time: must be a time such as 2026-11-25T03:00:00Z, is \"soon\"",
            ),
        ] {
            assert_eq!(parse(given).unwrap_err(), words);
        }
    }

    #[test]
    fn a_query_survives_being_written() {
        let given = [
            ("partition", "3"),
            ("time", "2026-11-25 03:00"),
            ("limit", "7"),
            ("text", "a&b ü"),
        ];
        let query = parse(&given).unwrap();
        assert_eq!(
            query.string(),
            "limit=7&partition=3&time=1795575600000&text=a%26b%20%C3%BC"
        );
    }
}
