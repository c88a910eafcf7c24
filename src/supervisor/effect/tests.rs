//! The table holds every key, and each row says what a file with another value does.

use std::collections::BTreeSet;

use super::*;
use crate::config::Sources;

/// For each row a line of a file, and the line that takes its place.
const CHANGES: &[(&str, &str, &str)] = &[
    ("source", "", "source.timeout = '4s'"),
    (
        "source.url",
        "source.url = 'http://a/'",
        "source.url = 'http://b/'",
    ),
    (
        "source.interval",
        "source.interval = '5s'",
        "source.interval = '6s'",
    ),
    (
        "source.timeout",
        "source.timeout = '3s'",
        "source.timeout = '2s'",
    ),
    (
        "source.stale_after",
        "source.stale_after = '60s'",
        "source.stale_after = '61s'",
    ),
    ("kafka.brokers", "", "kafka.brokers = ['a:1']"),
    ("kafka.topic", "", "kafka.topic = 'other'"),
    ("kafka.group", "", "kafka.group = 'other'"),
    ("kafka.instance_id", "", "kafka.instance_id = ''"),
    ("kafka.start", "", "kafka.start = 'latest'"),
    (
        "kafka.options",
        "kafka.options.\"sasl.username\" = 'a'",
        "kafka.options.\"sasl.username\" = 'b'",
    ),
    ("table.extra", "table.extra = true", "table.extra = false"),
    (
        "table.columns",
        "[[table.columns]]\nname = 'a'\ntype = 'string'",
        "[[table.columns]]\nname = 'a'\ntype = 'int64'",
    ),
    ("files.max_rows", "", "files.max_rows = 5"),
    ("files.max_bytes", "", "files.max_bytes = '1MiB'"),
    ("files.max_age", "", "files.max_age = '1m'"),
    ("files.compression", "", "files.compression = 'snappy'"),
    ("files.row_group_rows", "", "files.row_group_rows = 5"),
    ("files.partition_by", "", "files.partition_by = []"),
    (
        "files.partition_time",
        "",
        "files.partition_time = 'timestamp'",
    ),
    ("store.url", "", "store.url = 'file:///elsewhere'"),
    ("store.data", "", "store.data = 'elsewhere'"),
    ("store.checkpoints", "", "store.checkpoints = 'elsewhere'"),
    ("store.dead_letters", "", "store.dead_letters = 'elsewhere'"),
    (
        "store.s3.endpoint",
        "",
        "store.s3.endpoint = 'http://127.0.0.1:9'",
    ),
    ("store.s3.region", "", "store.s3.region = 'eu-west-1'"),
    ("store.s3.path_style", "", "store.s3.path_style = true"),
    ("store.s3.client", "", "store.s3.client = 'object_store'"),
    (
        "store.s3.server_side_encryption",
        "",
        "store.s3.server_side_encryption = 'AES256'",
    ),
    (
        "store.s3.kms_key_id",
        "store.s3.server_side_encryption = 'aws:kms'",
        "store.s3.server_side_encryption = 'aws:kms'\nstore.s3.kms_key_id = 'alias/a'",
    ),
    (
        "store.s3.storage_class",
        "",
        "store.s3.storage_class = 'STANDARD_IA'",
    ),
    ("store.s3.ca_file", "", "store.s3.ca_file = '/ca.pem'"),
    ("store.s3.timeout", "", "store.s3.timeout = '31s'"),
    (
        "store.s3.credentials_file",
        "store.s3.credentials_file = '/a'",
        "store.s3.credentials_file = '/b'",
    ),
    ("store.s3.profile", "", "store.s3.profile = 'a'"),
    (
        "store.s3.access_key_id",
        "store.s3.secret_access_key = 's'\nstore.s3.access_key_id = 'a'",
        "store.s3.secret_access_key = 's'\nstore.s3.access_key_id = 'b'",
    ),
    (
        "store.s3.secret_access_key",
        "store.s3.access_key_id = 'a'\nstore.s3.secret_access_key = 's'",
        "store.s3.access_key_id = 'a'\nstore.s3.secret_access_key = 't'",
    ),
    (
        "store.s3.session_token",
        "store.s3.access_key_id = 'a'\nstore.s3.secret_access_key = 's'",
        "store.s3.access_key_id = 'a'\nstore.s3.secret_access_key = 's'\nstore.s3.session_token = 't'",
    ),
    ("limits.memory", "", "limits.memory = '256MiB'"),
    ("limits.drain", "", "limits.drain = '21s'"),
    ("supervision.backoff", "", "supervision.backoff = '2s'"),
    (
        "supervision.backoff_max",
        "",
        "supervision.backoff_max = '61s'",
    ),
    ("supervision.restarts", "", "supervision.restarts = 11"),
    ("supervision.window", "", "supervision.window = '11m'"),
    ("supervision.heartbeat", "", "supervision.heartbeat = '61s'"),
    (
        "skip",
        "",
        "[[skip]]\ntopic = 'a'\npartition = 0\nfirst_offset = 1",
    ),
    ("web.listen", "", "web.listen = ''"),
    ("web.hosts", "", "web.hosts = ['a.example']"),
    ("status.socket", "", "status.socket = '/a.sock'"),
    ("log.level", "", "log.level = 'debug'"),
    ("log.format", "", "log.format = 'json'"),
];

/// Reads a file of these lines; it polls unless the source is what changes.
pub(in crate::supervisor) fn read(key: &str, lines: &str) -> Config {
    let source = match key.starts_with("source") {
        true => "",
        false => "source.timeout = '4s'",
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("groundtrack.toml");
    std::fs::write(&path, format!("{source}\n{lines}\n")).unwrap();
    let sources = Sources {
        path: Some(path),
        ..Sources::default()
    };
    Config::load(&sources).unwrap_or_else(|mistakes| panic!("{key}: {mistakes}"))
}

/// Before and after, for each row.
pub(in crate::supervisor) fn changes() -> impl Iterator<Item = (&'static Row, Config, Config)> {
    CHANGES.iter().map(|(key, before, after)| {
        let row = TABLE.iter().find(|row| row.key == *key);
        let row = row.unwrap_or_else(|| panic!("{key} has no row"));
        (row, read(key, before), read(key, after))
    })
}

#[test]
fn every_key_of_the_configuration_has_a_row_and_every_row_a_change() {
    let rows: BTreeSet<&str> = TABLE.iter().map(|row| row.key).collect();
    assert_eq!(rows.len(), TABLE.len(), "a key has two rows");
    let changed: BTreeSet<&str> = CHANGES.iter().map(|(key, ..)| *key).collect();
    assert_eq!(rows, changed);
    let known = crate::config::known_keys();
    for row in &rows {
        assert!(known.iter().any(|key| key == row), "{row} is no key");
    }
    let is_within = |key: &str, table: &str| {
        key.strip_prefix(table)
            .is_some_and(|rest| rest.starts_with('.'))
    };
    // That the table is there is a row of its own; its keys have theirs.
    let whole = rows.iter().filter(|row| **row != "source");
    let whole: Vec<&str> = whole.copied().collect();
    for key in &known {
        let has_row = rows.contains(key.as_str());
        let within = whole.iter().any(|row| is_within(key, row));
        let is_table = known.iter().any(|inner| is_within(inner, key));
        assert!(has_row || within || is_table, "{key} has no row");
    }
}

#[test]
fn a_changed_value_is_one_changed_row() {
    for (row, before, after) in changes() {
        let keys = |rows: Vec<&Row>| rows.iter().map(|row| row.key).collect::<Vec<_>>();
        assert_eq!(keys(changed(&before, &after)), [row.key]);
        assert_eq!(keys(changed(&after, &before)), [row.key]);
        assert_eq!(keys(changed(&after, &after)), [""; 0]);
    }
}

#[test]
fn what_needs_a_restart_is_put_back() {
    for (row, before, mut after) in changes() {
        if let Effect::NeedsRestart(keep) = row.effect {
            keep(&before, &mut after);
            assert_eq!(after, before, "{}", row.key);
        }
    }
}

#[test]
fn the_documentation_is_what_the_table_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reload.md");
    if std::env::var_os("GROUNDTRACK_BLESS").is_some() {
        std::fs::write(path, document()).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap();
    assert!(
        written == document(),
        "docs/reload.md is not what the table says: run this test with GROUNDTRACK_BLESS=1"
    );
}
