//! What makes a value valid on its own. Each rule takes it as it was read and hands back the valid
//! one, or what would be right.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::mistakes::Mistake;
use super::units::Words;
use super::valid::StoreLocation;
use super::written::Place;

/// What Kafka allows in a topic's name and in an instance id, and how much of it.
pub(super) const KAFKA_NAME_MAX: usize = 249;

/// An instance id leaves room for the `-once` that `--until-caught-up` adds.
const INSTANCE_ID_MAX: usize = KAFKA_NAME_MAX - "-once".len();

/// The longest name of a host on Linux.
const HOSTNAME_MAX: usize = 64;

/// As much of a file's name as fits into an instance id behind the host's, with room to spare.
const STEM_MAX: usize = 150;

/// The longest name of a file on Linux.
const FILE_NAME_MAX: usize = 255;

/// What an object's name has beside the topic: dashes, partition, two offsets, `.parquet`. Five
/// digits more than the partition's five allow for Kafka's largest.
const OBJECT_NAME_REST: usize =
    "-00000-00000000000000000000-00000000000000000000.parquet".len() + 5;

/// The longest key of S3, in bytes.
const KEY_MAX: usize = 1024;

/// The Hive folders in front of an object's name, the unknown date being the longest.
const HIVE_FOLDERS: usize =
    "/date=__HIVE_DEFAULT_PARTITION__/hour=__HIVE_DEFAULT_PARTITION__/".len();

/// The longest path of a Unix socket, its end mark not counted.
pub(crate) const SOCKET_PATH_MAX: usize = 107;

pub(super) fn not_zero(duration: Duration) -> Result<Duration, String> {
    if duration.is_zero() {
        return Err("must be longer than nothing".to_owned());
    }
    Ok(duration)
}

pub(super) fn at_least_one(number: u64) -> Result<u64, String> {
    if number == 0 {
        return Err("must be at least 1".to_owned());
    }
    Ok(number)
}

pub(super) fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn is_kafka_name(text: &str) -> bool {
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !matches!(text, "" | "." | "..") && text.chars().all(valid)
}

pub(super) fn kafka_name(text: String, most: usize) -> Result<String, String> {
    if !is_kafka_name(&text) || text.len() > most {
        return Err(format!(
            "must be 1 to {most} of A-Z a-z 0-9 . _ - and not \".\" or \"..\""
        ));
    }
    Ok(text)
}

/// The checkpoints' folder is named for the group, each byte outside `[A-Za-z0-9._-]` as `%XX`.
pub(super) fn group(text: String) -> Result<String, String> {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"._-".contains(b);
    let encoded: usize = text.bytes().map(|b| if plain(&b) { 1 } else { 3 }).sum();
    if text.is_empty() || encoded > FILE_NAME_MAX || text.chars().any(char::is_control) {
        return Err(format!(
            "must be a name, not empty, without control characters, at most {FILE_NAME_MAX} bytes \
             long where all but A-Z a-z 0-9 . _ - count three"
        ));
    }
    Ok(text)
}

pub(super) fn brokers(words: Words) -> Result<Vec<String>, String> {
    let brokers = words.into_list();
    let valid = |broker: &String| {
        broker.rsplit_once(':').is_some_and(|(host, port)| {
            port.parse::<u16>().is_ok_and(|port| port > 0) && (is_host(host) || bracketed(host))
        })
    };
    if brokers.is_empty() || !brokers.iter().all(valid) {
        return Err("must be at least one \"host:port\"".to_owned());
    }
    Ok(brokers)
}

fn is_host(text: &str) -> bool {
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !text.is_empty() && text.chars().all(valid)
}

/// An address of IPv6 as it stands before a port.
fn bracketed(text: &str) -> bool {
    text.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
}

/// The instance id with its placeholders replaced; empty turns static membership off. What Kafka
/// does not allow in a host's or a file's name becomes a dash.
pub(super) fn instance_id(
    text: &str,
    hostname: &str,
    name: &str,
) -> Result<Option<String>, String> {
    let replaced = text
        .replace("{hostname}", &dashed(hostname, HOSTNAME_MAX))
        .replace("{name}", &dashed(name, STEM_MAX));
    if replaced.is_empty() {
        return Ok(None);
    }
    if replaced.contains(['{', '}']) {
        return Err("must hold no placeholders but {hostname} and {name}".to_owned());
    }
    kafka_name(replaced, INSTANCE_ID_MAX).map(Some)
}

fn dashed(text: &str, most: usize) -> String {
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    text.chars()
        .take(most)
        .map(|c| if valid(c) { c } else { '-' })
        .collect()
}

pub(super) fn source_url(text: String) -> Result<String, String> {
    http_url(&text).map(|_| text)
}

fn http_url(text: &str) -> Result<reqwest::Url, String> {
    reqwest::Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| "must be an address that begins with http:// or https://".to_owned())
}

pub(super) fn endpoint(text: String) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let url = http_url(&text)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must hold no credentials: they come from the environment".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must be an address without ? and #".to_owned());
    }
    Ok(Some(text.trim_end_matches('/').to_owned()))
}

pub(super) fn store_location(text: String) -> Result<StoreLocation, String> {
    const RIGHT: &str = "must be s3://bucket[/prefix], file:///folder or memory:";
    if text == "memory:" {
        return Ok(StoreLocation::Memory);
    }
    if let Some(rest) = text.strip_prefix("s3://") {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        if !is_bucket(bucket) {
            return Err(format!(
                "{RIGHT}, a bucket being 3 to 63 of a-z 0-9 . - with a letter or digit at its ends"
            ));
        }
        let prefix = match prefix {
            "" => String::new(),
            prefix => {
                folder(prefix.to_owned()).map_err(|why| format!("{RIGHT}; the prefix {why}"))?
            }
        };
        return Ok(StoreLocation::S3 {
            bucket: bucket.to_owned(),
            prefix,
        });
    }
    let Some(path) = text.strip_prefix("file://") else {
        return Err(RIGHT.to_owned());
    };
    if !path.starts_with('/') {
        return Err("must have three slashes, file:///folder: the path is absolute".to_owned());
    }
    let inner = path.trim_matches('/');
    if inner.is_empty() || inner.contains(['%', '?', '#']) {
        return Err(format!(
            "{RIGHT}; the folder is written as it is, without % ? #"
        ));
    }
    folder(inner.to_owned()).map_err(|why| format!("{RIGHT}; the folder {why}"))?;
    Ok(StoreLocation::File(PathBuf::from(format!("/{inner}"))))
}

fn is_bucket(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
    let end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (3..=63).contains(&text.len())
        && text.chars().all(inner)
        && text.starts_with(end)
        && text.ends_with(end)
        && !text.contains("..")
}

pub(super) fn folder(text: String) -> Result<String, String> {
    let valid = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= FILE_NAME_MAX;
    if !text.split('/').all(valid) || text.chars().any(char::is_control) {
        return Err(
            "must be a folder such as \"a/b\": no slash at its ends, no empty part, no . or .."
                .to_owned(),
        );
    }
    Ok(text)
}

/// Whether one folder is the other or lies in it.
pub(super) fn overlap(one: &str, other: &str) -> bool {
    let inside = |inner: &str, outer: &str| {
        inner
            .strip_prefix(outer)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    inside(one, other) || inside(other, one)
}

/// The names of the objects must fit into what holds them.
pub(super) fn too_long(
    url: &Place,
    location: &StoreLocation,
    folder_bytes: usize,
    topic_bytes: usize,
) -> Option<Mistake> {
    let name = topic_bytes + OBJECT_NAME_REST;
    match location {
        StoreLocation::File(_) if name > FILE_NAME_MAX => Some(url.mistake(format!(
            "must be an s3:// address for a topic's name of more than {} characters: a file's name \
             ends at {FILE_NAME_MAX}",
            FILE_NAME_MAX - OBJECT_NAME_REST
        ))),
        StoreLocation::S3 { prefix, .. }
            if prefix.len() + 1 + folder_bytes + HIVE_FOLDERS + name > KEY_MAX =>
        {
            Some(url.mistake(format!(
                "must leave room for folders and names: a key of S3 ends at {KEY_MAX} bytes"
            )))
        }
        _ => None,
    }
}

/// A path of this machine; empty is none.
pub(super) fn absolute(text: String, most: usize) -> Result<Option<PathBuf>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    if !text.starts_with('/') || text.contains('\0') {
        return Err("must be an absolute path, or empty".to_owned());
    }
    if text.len() > most {
        return Err(format!("must be a path of at most {most} bytes"));
    }
    Ok(Some(PathBuf::from(text)))
}

pub(super) fn listen_address(text: String) -> Result<Option<SocketAddr>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let port = text
        .strip_prefix("localhost:")
        .and_then(|port| port.parse::<u16>().ok());
    match (text.parse::<SocketAddr>(), port) {
        (Ok(address), _) => Ok(Some(address)),
        (_, Some(port)) => Ok(Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))),
        _ => Err("must be an IP address and a port such as 127.0.0.1:9000, or empty".to_owned()),
    }
}

pub(super) fn hosts(words: Words) -> Result<Vec<String>, String> {
    let hosts = words.into_list();
    if !hosts.iter().all(|host| is_host(host) || bracketed(host)) {
        return Err(
            "must be names as they stand in Host, without scheme, port and path".to_owned(),
        );
    }
    Ok(hosts)
}
