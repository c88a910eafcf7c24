//! What a user relies on: every mistake is named, once, with its place, and nothing else is.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const WHOLE_FILE: &str = include_str!("../../config/groundtrack.toml");
const SPARK_FILE: &str = include_str!("../../config/spark-compatible.toml");

/// What is read in one test.
#[derive(Default)]
struct Given<'a> {
    text: &'a str,
    sets: Vec<String>,
    environment: Vec<(String, String)>,
    /// What `env:` and `credential:` find.
    variables: Vec<(&'static str, PathBuf)>,
}

impl Given<'_> {
    fn read(&self) -> Result<Config, Mistakes> {
        Config::from_inputs(&Inputs {
            file_name: "test.toml",
            text: self.text,
            sets: &self.sets,
            environment: &self.environment,
            hostname: "host",
            name: "test",
            outside: Outside::new(&|name| {
                let variable = self.variables.iter().find(|(known, _)| *known == name);
                Some(variable?.1.clone().into_os_string())
            }),
        })
    }
}

fn read(text: &str) -> Result<Config, Mistakes> {
    Given {
        text,
        ..Given::default()
    }
    .read()
}

fn read_with(text: &str, sets: &[&str], environment: &[(&str, &str)]) -> Result<Config, Mistakes> {
    let owned = |text: &&str| (*text).to_owned();
    Given {
        text,
        sets: sets.iter().map(owned).collect(),
        environment: environment
            .iter()
            .map(|(name, value)| (owned(name), owned(value)))
            .collect(),
        ..Given::default()
    }
    .read()
}

fn lines(result: Result<Config, Mistakes>) -> Vec<String> {
    match result {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.to_string().lines().map(str::to_owned).collect(),
    }
}

/// The only mistake of a text.
#[track_caller]
fn only(text: &str) -> String {
    let mut lines = lines(read(text));
    assert_eq!(lines.len(), 1, "{text}\n{lines:#?}");
    lines.remove(0)
}

/// The text has one mistake, at this line and key, and its message says this.
#[track_caller]
fn refused(text: &str, line: usize, key: &str, says: &str) {
    let message = only(text);
    let start = format!("test.toml:{line}: {key}");
    assert!(message.starts_with(&start), "{message}");
    assert!(message.contains(says), "{message}");
}

#[track_caller]
fn taken(text: &str) -> Config {
    match read(text) {
        Ok(config) => config,
        Err(mistakes) => panic!("{mistakes}"),
    }
}

// --- defaults and installed files

#[test]
fn the_installed_file_is_the_defaults() {
    let mut defaults = Config::of_host("host", "test");
    defaults.source = Some(Source::default());
    assert_eq!(taken(WHOLE_FILE), defaults);
}

#[test]
fn an_empty_file_is_the_defaults_without_a_source() {
    assert_eq!(taken(""), Config::of_host("host", "test"));
    assert_eq!(Config::default().source, None);
    assert_eq!(taken("[source]").source, Some(Source::default()));
}

/// A default that was only in the code, or only in the file, would pass the comparison above.
#[test]
fn the_installed_file_holds_every_key() {
    let mut given = BTreeSet::new();
    dotted_keys("", &WHOLE_FILE.parse().unwrap(), &mut given);
    let known = written::known_keys();
    // In the file as comments, because the defaults have none of them.
    let commented = [
        "table.columns.from",
        "skip.topic",
        "skip.partition",
        "skip.first_offset",
        "skip",
    ];
    for key in &known {
        assert!(
            given.contains(key) || commented.contains(&key.as_str()),
            "{key} is not in config/groundtrack.toml"
        );
    }
}

fn dotted_keys(path: &str, table: &toml::Table, keys: &mut BTreeSet<String>) {
    for (key, value) in table {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        match value {
            toml::Value::Table(inner) => dotted_keys(&path, inner, keys),
            toml::Value::Array(items) => {
                for item in items.iter().filter_map(toml::Value::as_table) {
                    dotted_keys(&path, item, keys);
                }
            }
            _ => {}
        }
        keys.insert(path);
    }
}

#[test]
fn the_compatible_file_is_the_table_of_the_spark_job() {
    let config = taken(SPARK_FILE);
    let columns: Vec<_> = config
        .table
        .columns
        .iter()
        .map(|column| (column.name.as_str(), column.kind, column.nullable))
        .collect();
    assert_eq!(
        columns,
        [
            ("timestamp", ColumnType::Int64, true),
            ("message", ColumnType::String, true),
            ("longitude", ColumnType::String, true),
            ("latitude", ColumnType::String, true),
        ]
    );
    assert!(!config.table.extra);
    assert!(config.files.partition_by.is_empty());
}

/// Whoever copies one of the examples has a configuration that is taken.
#[test]
fn the_examples_are_valid() {
    for (text, topic, polls) in [
        (
            include_str!("../../config/own-kafka-and-s3.toml"),
            "orders",
            false,
        ),
        (
            include_str!("../../config/minio.toml"),
            "project_topic",
            true,
        ),
        (
            include_str!("../../config/instance.toml"),
            "topic-of-this-instance",
            false,
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "kafka_password",
            "aws",
            "s3_access_key_id",
            "s3_secret_access_key",
        ] {
            let content = "[default]\naws_access_key_id = a\naws_secret_access_key = b\n";
            let content = if name == "aws" { content } else { "secret" };
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let given = Given {
            variables: vec![("CREDENTIALS_DIRECTORY", folder.path().to_owned())],
            text,
            ..Given::default()
        };
        let config = given
            .read()
            .unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
        assert_eq!(config.kafka.topic, topic);
        assert_eq!(config.source.is_some(), polls, "{topic}");
    }
}

// --- all at once

#[test]
fn ten_mistakes_of_ten_kinds_give_ten_lines() {
    let text = r#"[source]
timeout = "6s"
[kafka]
topic = "no spaces"
grup = "a"
brokers = 9092
options."enable.auto.commit" = true
[files]
max_bytes = "100MiB"
[store]
url = "ftp://host/x"
data = "x"
checkpoints = "x/y"
[limits]
drain = "2m"
[log]
level = 
"#;
    let lines = lines(read(text));
    let expected = [
        (
            2,
            "source.timeout = \"6s\": must be below source.interval (5s)",
        ),
        (4, "kafka.topic = \"no spaces\": must be"),
        (
            5,
            "kafka.grup = \"a\": must be a known key: the nearest is kafka.group",
        ),
        (6, "kafka.brokers = 9092: must be a list"),
        (
            7,
            "kafka.options.\"enable.auto.commit\" = true: must be left out: an offset",
        ),
        (
            9,
            "files.max_bytes = \"100MiB\": must be at most half of limits.memory",
        ),
        (11, "store.url = \"ftp://host/x\": must be s3://"),
        (
            13,
            "store.checkpoints = \"x/y\": must be in another folder than store.data",
        ),
        (15, "limits.drain = \"2m\": must be below systemd's"),
        (17, "level: must be TOML"),
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, (number, says)) in lines.iter().zip(expected) {
        assert!(
            line.starts_with(&format!("test.toml:{number}: {says}")),
            "{line}"
        );
    }
}

#[test]
fn a_mistake_in_one_side_of_a_rule_is_not_reported_at_the_other() {
    refused(
        "[source]\ninterval = \"soon\"\ntimeout = \"20s\"",
        2,
        "source.interval",
        "a duration",
    );
}

#[test]
fn each_mistake_in_the_grammar_has_its_line_and_the_rest_is_read() {
    let lines = lines(read(
        "[kafka]\ntopic = a b\ngroup = \"\"\n[log]\nlevel = \"loud\"\n[files\nmax_rows = 0",
    ));
    let expected = [
        "test.toml:2: topic = a b: must be TOML",
        "test.toml:3: kafka.group",
        "test.toml:5: log.level",
        "test.toml:6: must be TOML",
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, start) in lines.iter().zip(expected) {
        assert!(line.starts_with(start), "{line}");
    }
}

/// They would be unknown, or twice, in the table before.
#[test]
fn keys_below_a_header_that_is_no_toml_are_no_mistakes() {
    refused(
        "[kafka]\ntopic = \"a\"\n[sou.\nurl = \"http://x\"\ntopic = 1\n[log]\nlevel = \"info\"",
        3,
        "must be TOML",
        "",
    );
}

#[test]
fn a_key_given_twice_is_named() {
    refused(
        "[kafka]\ntopic = \"a\"\ntopic = \"b\"",
        3,
        "topic = \"b\"",
        "duplicate key",
    );
}

// --- unknown keys

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    for (text, key, nearest) in [
        ("[files]\nmax_row = 1", "files.max_row", "files.max_rows"),
        ("[file]\nmax_rows = 1", "file", "files"),
        (
            "[kafka]\ninterval = \"5s\"",
            "kafka.interval",
            "source.interval",
        ),
        (
            "[store.s3]\nendpont = \"\"",
            "store.s3.endpont",
            "store.s3.endpoint",
        ),
        (
            "[store]\nendpoint = \"\"",
            "store.endpoint",
            "store.s3.endpoint",
        ),
        (
            "[[table.columns]]\nname = \"a\"\ntype = \"json\"\nnulable = true",
            "table.columns.nulable",
            "table.columns.nullable",
        ),
        (
            "[[skip]]\ntopic = \"t\"\npartition = 0\nfirst_offset = 0\nofset = 1",
            "skip.ofset",
            "skip.first_offset",
        ),
        ("topic = \"x\"", "topic", "kafka.topic"),
    ] {
        let message = only(text);
        assert!(
            message.contains(&format!(": {key}"))
                && message.ends_with(&format!("nearest is {nearest}")),
            "{message}"
        );
    }
}

// --- each rule

#[test]
fn the_source_is_checked() {
    refused("[source]\nurl = \"ftp://x\"", 2, "source.url", "http://");
    refused("[source]\nurl = \"x\"", 2, "source.url", "http://");
    refused(
        "[source]\ninterval = \"0s\"",
        2,
        "source.interval",
        "longer",
    );
}

#[test]
fn the_time_outs_of_the_source_are_checked_against_each_other() {
    refused(
        "[source]\ninterval = \"4s\"",
        2,
        "source.interval",
        "above source.timeout (4s)",
    );
    refused(
        "[source]\ntimeout = \"5s\"",
        2,
        "source.timeout",
        "below source.interval (5s)",
    );
    refused(
        "[source]\nstale_after = \"5s\"",
        2,
        "source.stale_after",
        "above source.interval (5s)",
    );
    refused(
        "[source]\ninterval = \"2m\"",
        2,
        "source.interval",
        "below source.stale_after (1m)",
    );
}

#[test]
fn kafka_is_checked() {
    for brokers in [
        "[]",
        "[\"a\"]",
        "[\"a:0\"]",
        "[\"a:b\"]",
        "[\":9092\"]",
        "[\"u@h:1\"]",
    ] {
        refused(
            &format!("[kafka]\nbrokers = {brokers}"),
            2,
            "kafka.brokers",
            "host:port",
        );
    }
    taken("[kafka]\nbrokers = [\"[::1]:9092\", \"kafka-1.example:9093\"]");
    for topic in ["", ".", "..", "a/b", "ä", &"a".repeat(250)] {
        refused(
            &format!("[kafka]\ntopic = \"{topic}\""),
            2,
            "kafka.topic",
            "1 to 249",
        );
    }
    for group in ["", &"ä".repeat(50), "a\\u0000"] {
        refused(
            &format!("[kafka]\ngroup = \"{group}\""),
            2,
            "kafka.group",
            "not empty",
        );
    }
    refused("[kafka]\nstart = \"now\"", 2, "kafka.start", "RFC 3339");
    assert_eq!(
        taken("[kafka]\nstart = 2026-11-23T00:00:00Z").kafka.start,
        taken("[kafka]\nstart = \"2026-11-23T00:00:00Z\"")
            .kafka
            .start,
    );
}

#[test]
fn the_instance_id_takes_the_host_and_the_file() {
    let id = |written: &str| {
        taken(&format!("[kafka]\ninstance_id = \"{written}\""))
            .kafka
            .instance_id
    };
    assert_eq!(taken("").kafka.instance_id.as_deref(), Some("host-test"));
    assert_eq!(id("a-{name}").as_deref(), Some("a-test"));
    assert_eq!(id(""), None);
    assert_eq!(
        rules::instance_id("{hostname}-{name}", "ho st", "näme"),
        Ok(Some("ho-st-n-me".to_owned()))
    );
    let longest = rules::instance_id("{hostname}-{name}", &"h".repeat(300), &"n".repeat(300));
    assert!(longest.is_ok_and(|id| id.is_some()));
    refused(
        "[kafka]\ninstance_id = \"{pid}\"",
        2,
        "kafka.instance_id",
        "{hostname} and {name}",
    );
    refused(
        "[kafka]\ninstance_id = \"a b\"",
        2,
        "kafka.instance_id",
        "1 to 244",
    );
}

#[test]
fn the_columns_are_checked() {
    let column = |rest: &str| format!("[[table.columns]]\n{rest}");
    refused(
        &column("type = \"json\""),
        1,
        "table.columns[0].name",
        "given",
    );
    refused(&column("name = \"a\""), 1, "table.columns[0].type", "given");
    refused(
        &column("name = \"a\"\ntype = \"int32\""),
        3,
        "table.columns.type",
        "int64",
    );
    refused(
        &column("name = \"a\"\ntype = \"json\"\npath = \"a..b\""),
        4,
        "table.columns.path",
        "dots",
    );
    refused(
        &column("name = \"a\"\ntype = \"json\"\nfrom = \"value\""),
        4,
        "table.columns.from",
        "header:NAME",
    );
    refused(
        &column("name = \"a\"\ntype = \"json\"\nfrom = \"key\"\npath = \"a\""),
        4,
        "table.columns.from",
        "one source",
    );
    refused(
        &column("name = \"a\"\ntype = \"int64\"\nfrom = \"topic\""),
        3,
        "table.columns.type",
        "string",
    );
    refused(
        &column("name = \"\"\ntype = \"json\""),
        1,
        "table.columns[0].name",
        "not empty",
    );
    refused("table.columns = 5", 1, "table.columns", "list of tables");
    refused(
        "[table]\nextra = false\ncolumns = []",
        2,
        "table.extra",
        "nothing lands",
    );
    let config = taken(&column("name = \"a.b\"\ntype = \"list(int64)\""));
    assert_eq!(
        config.table.columns,
        [Column {
            name: "a.b".to_owned(),
            source: ColumnSource::Path(vec!["a.b".to_owned()]),
            kind: ColumnType::List(ScalarType::Int64),
            nullable: true,
        }]
    );
}

fn columns(names_and_paths: &[(&str, &str)]) -> String {
    names_and_paths
        .iter()
        .map(|(name, path)| {
            format!("[[table.columns]]\nname = '{name}'\npath = '{path}'\ntype = \"json\"\n")
        })
        .collect()
}

#[test]
fn a_name_is_one_columns_whatever_its_case() {
    refused(
        &columns(&[("a", "x"), ("A", "y")]),
        5,
        "table.columns[1].name = \"A\"",
        "table.columns[0].name has it",
    );
    for name in [
        "kafka_partition",
        "Kafka_Offset",
        "kafka_timestamp",
        "_extra",
    ] {
        refused(
            &columns(&[(name, "x")]),
            1,
            "table.columns[0].name",
            "groundtrack itself",
        );
    }
    refused(
        &columns(&[("Date", "x")]),
        1,
        "table.columns[0].name",
        "files.partition_by",
    );
    taken(&columns(&[("hour", "x")]));
    let by_hour = format!(
        "files.partition_by = [\"date\", \"hour\"]\n{}",
        columns(&[("hour", "x")])
    );
    refused(&by_hour, 2, "table.columns[0].name", "files.partition_by");
}

#[test]
fn colliding_paths_are_reported() {
    refused(
        &columns(&[("a", "x.y"), ("b", "x")]),
        1,
        "table.columns[0].path",
        "column b",
    );
    refused(
        &columns(&[("a", "x"), ("b", "x")]),
        5,
        "table.columns[1].path",
        "column a",
    );
    refused(
        &columns(&[("a", "x"), ("c", "x-"), ("b", "x.y.z")]),
        9,
        "table.columns[2].path",
        "column a",
    );
    taken(&columns(&[("a", "x.y"), ("b", "x.z"), ("c", "\"x.y\"")]));
}

#[test]
fn the_time_of_the_folders_is_a_timestamp() {
    refused(
        "[files]\npartition_time = \"message\"",
        2,
        "files.partition_time",
        "timestamp column such as timestamp",
    );
    assert_eq!(
        taken("[files]\npartition_time = \"timestamp\"")
            .files
            .partition_time,
        PartitionTime::Column("timestamp".to_owned())
    );
    let none = format!("files.partition_time = \"a\"\n{}", columns(&[("a", "a")]));
    refused(&none, 1, "files.partition_time", "there is none");
}

#[test]
fn the_files_are_checked() {
    for (key, value, says) in [
        ("max_rows", "0", "at least 1"),
        ("max_rows", "-1", "whole number"),
        ("max_rows", "99999999999999999999", "whole number"),
        ("max_bytes", "0", "at least 1"),
        ("max_bytes", "\"64 bananas\"", "64MiB"),
        ("max_age", "\"0s\"", "longer"),
        ("max_age", "300", "unit"),
        ("compression", "\"gzip\"", "zstd(LEVEL)"),
        ("row_group_rows", "0", "at least 1"),
        ("partition_by", "[\"hour\"]", "[\"date\", \"hour\"]"),
        (
            "partition_by",
            "[\"hour\", \"date\"]",
            "[\"date\", \"hour\"]",
        ),
    ] {
        refused(
            &format!("[files]\n{key} = {value}"),
            2,
            &format!("files.{key} = {value}"),
            says,
        );
    }
}

#[test]
fn a_file_takes_at_most_half_of_the_memory() {
    refused(
        "[files]\nmax_bytes = \"65MiB\"",
        2,
        "files.max_bytes",
        "half of limits.memory (134217728 bytes)",
    );
    refused(
        "[limits]\nmemory = \"127MiB\"",
        2,
        "limits.memory",
        "twice files.max_bytes",
    );
    taken("[files]\nmax_bytes = \"16MiB\"\n[limits]\nmemory = \"32MiB\"");
    refused("[limits]\nmemory = \"31MiB\"", 2, "limits.memory", "32MiB");
}

#[test]
fn a_drain_ends_before_systemd_kills() {
    taken("[limits]\ndrain = \"89s\"");
    refused(
        "[limits]\ndrain = \"90s\"",
        2,
        "limits.drain",
        "TimeoutStopSec (1m 30s)",
    );
}

#[test]
fn the_address_of_the_store_is_checked() {
    for url in [
        "",
        "s3://",
        "s3://Bucket",
        "s3://ab",
        "s3://bucket//x",
        "s3://bucket/../x",
        "s3://u:p@bucket",
        "file://x",
        "file:///",
        "file:///a/../b",
        "file:///a%20b",
        "/var/lib",
        "memory",
        "http://x",
    ] {
        let message = only(&format!("[store]\nurl = \"{url}\""));
        assert!(
            message.starts_with("test.toml:2: store.url = "),
            "{message}"
        );
        assert!(!message.contains("u:p"), "{message}");
    }
    for (url, location) in [
        (
            "s3://bucket/a/b/",
            StoreLocation::S3 {
                bucket: "bucket".to_owned(),
                prefix: "a/b".to_owned(),
            },
        ),
        (
            "s3://bucket/",
            StoreLocation::S3 {
                bucket: "bucket".to_owned(),
                prefix: String::new(),
            },
        ),
        (
            "file:///var/lib/x/",
            StoreLocation::File("/var/lib/x".into()),
        ),
        ("memory:", StoreLocation::Memory),
    ] {
        assert_eq!(
            taken(&format!("[store]\nurl = \"{url}\"")).store.location,
            location
        );
    }
}

#[test]
fn names_fit_into_what_holds_them() {
    let topic = "t".repeat(200);
    let text = format!("[kafka]\ntopic = \"{topic}\"\n[store]\nurl = \"file:///x\"");
    refused(&text, 4, "store.url", "a file's name ends at 255");
    let prefix = "p/".repeat(400);
    let text = format!("[kafka]\ntopic = \"{topic}\"\n[store]\nurl = \"s3://bucket/{prefix}\"");
    refused(&text, 4, "store.url", "1024 bytes");
}

#[test]
fn the_folders_are_apart() {
    for folder in ["", "/a", "a/", "a//b", "..", "a/../b", "."] {
        refused(
            &format!("[store]\ndata = \"{folder}\""),
            2,
            "store.data",
            "no slash at its ends",
        );
    }
    refused(
        "[store]\ndata = \"checkpoints\"",
        2,
        "store.data",
        "than store.checkpoints",
    );
    refused(
        "[store]\ndead_letters = \"parquet_files/dead\"",
        2,
        "store.dead_letters",
        "than store.data",
    );
    taken("[store]\ndata = \"a/b\"\ndead_letters = \"a/c\"\ncheckpoints = \"a/bc\"");
}

#[test]
fn s3_is_checked() {
    for (key, value, says) in [
        ("endpoint", "127.0.0.1:9100", "http://"),
        ("endpoint", "http://a:b@host", "credentials"),
        ("region", "", "us-east-1"),
        ("client", "boto", "object_store"),
        ("server_side_encryption", "aes", "AES256"),
        ("storage_class", "cold storage", "STANDARD_IA"),
        ("ca_file", "ca.pem", "absolute"),
        ("timeout", "0s", "longer"),
    ] {
        refused(
            &format!("[store.s3]\n{key} = \"{value}\""),
            2,
            &format!("store.s3.{key}"),
            says,
        );
    }
    refused(
        "[store.s3]\npath_style = \"yes\"",
        2,
        "store.s3.path_style",
        "true or false",
    );
}

#[test]
fn a_kms_key_goes_with_kms() {
    refused(
        "[store.s3]\nkms_key_id = \"k\"",
        2,
        "store.s3.kms_key_id",
        "aws:kms",
    );
    refused(
        "[store.s3]\nserver_side_encryption = \"AES256\"\nkms_key_id = \"k\"",
        3,
        "store.s3.kms_key_id",
        "aws:kms",
    );
    let config = taken("[store.s3]\nserver_side_encryption = \"aws:kms\"\nkms_key_id = \"k\"");
    assert_eq!(
        config.store.s3.server_side_encryption,
        Some(Encryption::Kms(Some("k".to_owned())))
    );
}

#[test]
fn the_restart_policy_is_checked() {
    refused(
        "[supervision]\nbackoff = \"2m\"",
        2,
        "supervision.backoff",
        "at most supervision.backoff_max (1m)",
    );
    refused(
        "[supervision]\nbackoff_max = \"11m\"",
        2,
        "supervision.backoff_max",
        "at most supervision.window (10m)",
    );
    refused(
        "[supervision]\nwindow = \"30s\"",
        2,
        "supervision.window",
        "at least supervision.backoff_max (1m)",
    );
    refused(
        "[supervision]\nrestarts = -1",
        2,
        "supervision.restarts",
        "whole number",
    );
    refused(
        "[supervision]\nheartbeat = \"0s\"",
        2,
        "supervision.heartbeat",
        "longer",
    );
}

#[test]
fn a_skip_is_complete() {
    let lines = lines(read("[[skip]]\ntopic = \"t\""));
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(
        lines
            .iter()
            .all(|line| line.starts_with("test.toml:1: skip[0]."))
    );
    refused(
        "[[skip]]\ntopic = \"t\"\npartition = -1\nfirst_offset = 0",
        3,
        "skip.partition",
        "whole number",
    );
    refused(
        "[[skip]]\ntopic = \"t\"\npartition = 0\nfirst_offset = -1",
        4,
        "skip.first_offset",
        "offset",
    );
    assert_eq!(
        taken("[[skip]]\ntopic = \"t\"\npartition = 3\nfirst_offset = 1200").skip,
        [Skip {
            topic: "t".to_owned(),
            partition: 3,
            first_offset: 1200
        }]
    );
}

#[test]
fn the_page_the_socket_and_the_log_are_checked() {
    refused(
        "[web]\nlisten = \":9000\"",
        2,
        "web.listen",
        "127.0.0.1:9000",
    );
    refused(
        "[web]\nhosts = [\"http://x\"]",
        2,
        "web.hosts",
        "without scheme",
    );
    refused(
        "[status]\nsocket = \"x.sock\"",
        2,
        "status.socket",
        "absolute",
    );
    refused(
        &format!("[status]\nsocket = \"/{}\"", "x".repeat(107)),
        2,
        "status.socket",
        "107",
    );
    refused("[log]\nlevel = \"loud\"", 2, "log.level", "trace");
    refused("[log]\nformat = \"xml\"", 2, "log.format", "json");
    assert_eq!(taken("[web]\nlisten = \"\"").web, None);
}

// --- librdkafka's properties

fn option(name: &str, value: &str) -> String {
    format!("[kafka.options]\n\"{name}\" = {value}")
}

#[test]
fn any_property_passes_in_any_type() {
    let config = taken(
        "[kafka.options]\n\"security.protocol\" = \"sasl_ssl\"\n\"sasl.mechanism\" = \"SCRAM-SHA-512\"\n\
         \"sasl.password\" = \"p\"\n\"check.crcs\" = true\n\"session.timeout.ms\" = 6000\nclient.rack = \"r\"",
    );
    let options: Vec<_> = config
        .kafka
        .options
        .iter()
        .map(|(name, value)| (name.as_str(), value.expose()))
        .collect();
    let options: Vec<_> = options
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    assert_eq!(
        options,
        [
            ("check.crcs", "true"),
            ("client.rack", "r"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.password", "p"),
            ("security.protocol", "sasl_ssl"),
            ("session.timeout.ms", "6000"),
        ]
    );
}

#[test]
fn what_the_guarantees_need_is_refused_with_the_reason() {
    for (name, says) in [
        ("enable.auto.commit", "after its batch has landed"),
        ("auto.commit.enable", "after its batch has landed"),
        ("enable.auto.offset.store", "checkpoint decides"),
        ("auto.offset.reset", "kafka.start"),
        ("isolation.level", "committed records"),
        ("enable.partition.eof", "skip a record"),
        ("allow.auto.create.topics", "owner"),
        ("enable.idempotence", "doubles nothing"),
        ("acks", "in-sync"),
        ("request.required.acks", "in-sync"),
        ("queuing.strategy", "order"),
        ("delivery.report.only.error", "each delivery"),
        ("transactional.id", "transactions"),
        ("group.id", "kafka.group"),
        ("group.instance.id", "kafka.instance_id"),
        ("bootstrap.servers", "kafka.brokers"),
        ("metadata.broker.list", "kafka.brokers"),
        ("plugin.library.paths", "foreign code"),
        ("rebalance_cb", "function"),
        ("msg_order_cmp", "function"),
        ("ut_handle_ApiVersionResponse", "function"),
    ] {
        refused(
            &option(name, "\"x\""),
            2,
            &format!("kafka.options.\"{name}\""),
            says,
        );
    }
}

#[test]
fn librdkafka_says_what_it_does_not_take() {
    refused(
        &option("session.timeout", "1"),
        2,
        "kafka.options.\"session.timeout\" = (hidden)",
        "knows",
    );
    refused(
        &option("session.timeout.ms", "\"x\""),
        2,
        "kafka.options.\"session.timeout.ms\" = \"x\"",
        "session.timeout.ms",
    );
    refused(
        &option("security.protocol", "[1]"),
        2,
        "kafka.options.\"security.protocol\"",
        "a text",
    );
    refused(
        &option("client.id", "\"a\\u0000b\""),
        2,
        "kafka.options.\"client.id\"",
        "NUL",
    );
}

#[test]
fn sessions_and_polls_are_checked_against_each_other() {
    refused(
        &option("session.timeout.ms", "5000"),
        2,
        "kafka.options.\"session.timeout.ms\" = 5000",
        "above 5000",
    );
    refused(
        &option("heartbeat.interval.ms", "45000"),
        2,
        "kafka.options.\"heartbeat.interval.ms\"",
        "below session.timeout.ms (45000)",
    );
    refused(
        &option("max.poll.interval.ms", "44000"),
        2,
        "kafka.options.\"max.poll.interval.ms\"",
        "above session.timeout.ms (45000 ms)",
    );
    refused(
        &option("max.poll.interval.ms", "60000"),
        2,
        "kafka.options.\"max.poll.interval.ms\"",
        "above supervision.heartbeat (60000 ms)",
    );
    refused(
        &option("session.timeout.ms", "400000"),
        2,
        "kafka.options.\"session.timeout.ms\"",
        "above session.timeout.ms (400000 ms)",
    );
}

#[test]
fn what_the_broker_decides_is_refused_under_its_own_protocol() {
    for name in [
        "session.timeout.ms",
        "heartbeat.interval.ms",
        "partition.assignment.strategy",
    ] {
        let value = if name.ends_with("ms") {
            "9000"
        } else {
            "\"range\""
        };
        taken(&option(name, value));
        let text = format!("{}\n\"group.protocol\" = \"consumer\"", option(name, value));
        refused(
            &text,
            2,
            &format!("kafka.options.\"{name}\""),
            "group.protocol",
        );
    }
}

#[test]
fn what_librdkafka_holds_fits_into_the_memory() {
    refused(
        &option("queued.max.messages.kbytes", "65537"),
        2,
        "kafka.options.\"queued.max.messages.kbytes\"",
        "at most 65536",
    );
    refused(
        &option("max.partition.fetch.bytes", "70000000"),
        2,
        "kafka.options.\"max.partition.fetch.bytes\"",
        "half of limits.memory",
    );
    refused(
        &option("fetch.max.bytes", "1000"),
        2,
        "kafka.options.\"fetch.max.bytes\"",
        "message.max.bytes",
    );
    refused(
        &option("receive.message.max.bytes", "1000"),
        2,
        "kafka.options.\"receive.message.max.bytes\"",
        "fetch.max.bytes",
    );
}

#[test]
fn what_an_idempotent_producer_cannot_do_is_refused() {
    refused(
        &option("max.in.flight", "6"),
        2,
        "kafka.options.\"max.in.flight\"",
        "1 to 5",
    );
    refused(
        &option("retries", "0"),
        2,
        "kafka.options.\"retries\"",
        "at least 1",
    );
    taken(&option("max.in.flight.requests.per.connection", "5"));
}

// --- overrides

#[test]
fn set_wins_over_the_environment_and_that_over_the_file() {
    let text = "[kafka]\ntopic = \"file\"\ngroup = \"file\"\n[source]\ninterval = \"7s\"";
    let environment = [
        ("GROUNDTRACK_KAFKA__TOPIC", "environment"),
        ("GROUNDTRACK_KAFKA__GROUP", "environment"),
    ];
    let config = read_with(
        text,
        &["kafka.topic=first", "kafka.topic = set"],
        &environment,
    )
    .unwrap();
    assert_eq!(config.kafka.topic, "set");
    assert_eq!(config.kafka.group, "environment");
    assert_eq!(config.source.unwrap().interval, Duration::from_secs(7));
}

#[test]
fn an_override_is_toml_and_text_where_it_is_not() {
    let config = read_with(
        "",
        &[
            "files.max_rows=5",
            "files.max_bytes=1MiB",
            "files.max_age=10s",
            "files.partition_by=[]",
            "table.extra=false",
            "kafka.topic=2024",
            "kafka.brokers=a:1,b:2",
            "store.url=s3://bucket/a=b",
            "table.columns=[{name=\"n\", type=\"int64\"}]",
            "skip=[{topic=\"t\", partition=0, first_offset=1}]",
            "web.listen=",
        ],
        &[
            ("GROUNDTRACK_STORE__S3__PATH_STYLE", "true"),
            ("GROUNDTRACK_STORE__S3__ENDPOINT", "http://127.0.0.1:9100"),
        ],
    )
    .unwrap();
    assert_eq!(config.files.max_rows, 5);
    assert_eq!(config.files.max_bytes, 1 << 20);
    assert!(config.files.partition_by.is_empty());
    assert_eq!(config.kafka.topic, "2024");
    assert_eq!(config.kafka.brokers, ["a:1", "b:2"]);
    assert_eq!(
        config.store.location,
        StoreLocation::S3 {
            bucket: "bucket".to_owned(),
            prefix: "a=b".to_owned()
        }
    );
    assert_eq!(config.table.columns.len(), 1);
    assert_eq!(config.skip.len(), 1);
    assert_eq!(config.web, None);
    assert!(config.store.s3.path_style);
    assert_eq!(
        config.store.s3.endpoint.as_deref(),
        Some("http://127.0.0.1:9100")
    );
}

#[test]
fn keys_with_dots_can_be_overridden() {
    for set in [
        "kafka.options.\"security.protocol\"=ssl",
        "kafka.options.'security.protocol' = \"ssl\"",
        "kafka.options.security.protocol=ssl",
        "kafka.options={\"security.protocol\"=\"ssl\"}",
    ] {
        let config = read_with(&option("security.protocol", "\"plaintext\""), &[set], &[]).unwrap();
        assert_eq!(
            config.kafka.options["security.protocol"],
            "ssl".into(),
            "{set}"
        );
    }
    for (name, key, value) in [
        (
            "GROUNDTRACK_KAFKA__OPTIONS__security.protocol",
            "security.protocol",
            "ssl",
        ),
        (
            "GROUNDTRACK_KAFKA__OPTIONS__SECURITY_PROTOCOL",
            "security.protocol",
            "ssl",
        ),
        ("GROUNDTRACK_KAFKA__OPTIONS__LOG_LEVEL", "log_level", "6"),
    ] {
        let config = read_with("", &[], &[(name, value)]).unwrap();
        assert_eq!(config.kafka.options[key], value.into(), "{name}");
    }
}

#[test]
fn a_mistake_in_an_override_names_it() {
    let lines = lines(read_with(
        "[files]\nmax_age = \"x\"\nmax_rows = 0",
        &[
            "files.max_age=soon",
            "kafka.topc=a",
            "nothing",
            "kafka.topic.x=1",
        ],
        &[
            ("GROUNDTRACK_LOG__LEVEL", "loud"),
            ("GROUNDTRACK_LOGS__LEVEL", "info"),
        ],
    ));
    let expected = [
        "test.toml:3: files.max_rows = 0: ",
        "GROUNDTRACK_LOG__LEVEL: log.level = loud: ",
        "GROUNDTRACK_LOGS__LEVEL: logs: must be a known key: the nearest is log",
        "--set: files.max_age = soon: ",
        "--set: kafka.topc = a: must be a known key: the nearest is kafka.topic",
        "--set: must be written section.key=value",
    ];
    for line in expected {
        assert!(
            lines.iter().any(|given| given.starts_with(line)),
            "{line}\n{lines:#?}"
        );
    }
}

#[test]
fn variables_without_two_underscores_are_no_configuration() {
    let environment = [
        ("GROUNDTRACK_FAULTS", "x"),
        ("GROUNDTRACK_LOG", "debug"),
        ("OTHER__KEY", "x"),
    ];
    assert_eq!(read_with("", &[], &environment).unwrap(), taken(""));
}

#[test]
fn a_rule_between_an_override_and_the_file_is_reported_at_its_low_side() {
    let result = read_with("[source]\ntimeout = \"3s\"", &["source.interval=2s"], &[]);
    assert_eq!(
        lines(result),
        ["test.toml:2: source.timeout = \"3s\": must be below source.interval (2s)"]
    );
}

// --- secrets and hostile text

#[test]
fn no_secret_is_shown() {
    let secret = "hunter2";
    let config = read_with(
        "[source]\nurl = \"http://user:hunter2@host/\"\n[kafka.options]\n\"sasl.password\" = \"hunter2\"",
        &[],
        &[("GROUNDTRACK_KAFKA__OPTIONS__SSL_KEY_PASSWORD", secret)],
    )
    .unwrap();
    for name in ["sasl.password", "ssl.key.password"] {
        let hidden = Property::Secret(Secret::new(secret));
        assert_eq!(config.kafka.options[name], hidden);
    }
    assert!(!format!("{config:?}").contains(secret));
    for (text, set) in [
        (option("sasl.password", "[\"hunter2\"]"), ""),
        (option("sasl.pasword", "\"hunter2\""), ""),
        ("[kafka]\nsasl_password = \"hunter2\"".to_owned(), ""),
        ("[kafka.option]\n\"sasl.x\" = \"hunter2\"".to_owned(), ""),
        (
            "[kafka]\noptions = \"sasl.password=hunter2\"".to_owned(),
            "",
        ),
        (
            "[kafka.options]\n\"sasl.password\" = \"hunter2".to_owned(),
            "",
        ),
        ("[source]\nurl = \"ftp://u:hunter2@x/\"".to_owned(), ""),
        (String::new(), "kafka.options.sasl.password:hunter2"),
        (
            String::new(),
            "kafka.options={\"sasl.password\":\"hunter2\"}",
        ),
        (String::new(), "kafka.password=hunter2"),
    ] {
        let sets: Vec<&str> = Some(set)
            .filter(|set| !set.is_empty())
            .into_iter()
            .collect();
        let mistakes = read_with(&text, &sets, &[]).unwrap_err();
        let shown = format!("{mistakes}{mistakes:?}");
        assert!(!shown.contains(secret), "{shown}");
    }
}

/// A password on a command line is read by everybody from `ps`.
#[test]
fn no_secret_is_taken_from_a_command_line() {
    let place = "name where it stands, credential:NAME, file:PATH or env:NAME";
    for set in [
        "kafka.options.\"sasl.password\"=hunter2",
        "kafka.options={\"sasl.password\"=\"hunter2\"}",
        "store.s3.secret_access_key=hunter2",
        "store.s3.session_token=\"hunter2\"",
    ] {
        let lines = lines(read_with("", &[set], &[]));
        assert!(
            lines.iter().any(|line| line.contains(place)) && !lines.concat().contains("hunter2"),
            "{set}: {lines:#?}"
        );
    }
    assert!(read_with("", &["store.s3.secret_access_key="], &[]).is_ok());
}

const REFERRING: &str = r#"
[kafka.options]
"sasl.username" = "env:WHO"
"sasl.password" = "credential:kafka"
"ssl.key.password" = "file:FOLDER/passphrase"
"ssl.ca.location" = "credential:ca.pem"
"client.rack" = "env:WHO"
[store.s3]
access_key_id = "env:WHO"
secret_access_key = "file:FOLDER/passphrase"
ca_file = "file:FOLDER/passphrase"
"#;

/// A folder with credentials, a passphrase, and what refers to them.
struct Referring {
    folder: tempfile::TempDir,
}

impl Referring {
    fn new() -> Self {
        let referring = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        referring.write("groundtrack_kafka", "hunter2\n");
        referring.write("passphrase", "sesame");
        referring.write("ca.pem", "-----BEGIN");
        referring
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn read(&self, text: &str) -> Result<Config, Mistakes> {
        let folder = self.folder.path();
        let text = text.replace("FOLDER", folder.to_str().unwrap());
        Given {
            text: &text,
            variables: vec![
                ("CREDENTIALS_DIRECTORY", folder.to_owned()),
                ("WHO", "someone".into()),
            ],
            ..Given::default()
        }
        .read()
    }
}

#[test]
fn a_value_may_stand_elsewhere() {
    let referring = Referring::new();
    let config = referring
        .read(REFERRING)
        .unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let options = &config.kafka.options;
    let secret = |text: &str| Property::Secret(Secret::new(text));
    assert_eq!(options["sasl.username"], secret("someone"));
    assert_eq!(options["sasl.password"], secret("hunter2"));
    assert_eq!(options["ssl.key.password"], secret("sesame"));
    // No secret, so a text like any other.
    assert_eq!(
        options["client.rack"],
        Property::Plain("env:WHO".to_owned())
    );
    let path = |name: &str| referring.folder.path().join(name);
    assert_eq!(
        options["ssl.ca.location"],
        Property::File(NamedFile::new(path("ca.pem")))
    );
    let s3 = &config.store.s3;
    assert_eq!(s3.ca_file, Some(NamedFile::new(path("passphrase"))));
    let keys = S3Credentials::Keys {
        key_id: Secret::new("someone"),
        secret: Secret::new("sesame"),
        token: None,
    };
    assert_eq!(s3.credentials, keys);
    let shown = format!("{config:?}");
    for text in ["hunter2", "sesame", "someone"] {
        assert!(!shown.contains(text), "{text}: {shown}");
    }
}

#[test]
fn a_credential_is_known_as_what_takes_a_restart() {
    let config = Referring::new().read(REFERRING).unwrap();
    let keys: Vec<&str> = config.credential_keys().collect();
    assert_eq!(
        keys,
        [
            "kafka.options.\"sasl.password\"",
            "kafka.options.\"ssl.ca.location\""
        ]
    );
    assert_eq!(config.references.len(), 7);
    assert_eq!(
        config.references["store.s3.access_key_id"],
        Reference::Env("WHO".to_owned())
    );
}

/// Whatever is read again at a reload is compared by what it holds.
#[test]
fn what_a_file_holds_now_makes_another_configuration() {
    let referring = Referring::new();
    let before = referring.read(REFERRING).unwrap();
    assert_eq!(referring.read(REFERRING).unwrap(), before);
    referring.write("groundtrack_kafka", "hunter3");
    let password = referring.read(REFERRING).unwrap();
    assert!(password.kafka != before.kafka && password.store == before.store);
    referring.write("ca.pem", "-----BEGIN another");
    let authority = referring.read(REFERRING).unwrap();
    assert!(authority.kafka != password.kafka && authority.store == before.store);
    referring.write("passphrase", "mellon");
    assert!(referring.read(REFERRING).unwrap().store != before.store);
}

#[test]
fn every_reference_that_leads_nowhere_is_named_at_once() {
    let referring = Referring::new();
    let text = REFERRING
        .replace("env:WHO", "env:NOBODY")
        .replace("credential:kafka", "credential:kafak")
        .replace("FOLDER/passphrase", "FOLDER/sesame");
    let lines = lines(referring.read(&text));
    let expected = [
        (
            "3: kafka.options.\"sasl.username\" = \"env:NOBODY\": ",
            "$NOBODY is not set",
        ),
        (
            "4: kafka.options.\"sasl.password\" = \"credential:kafak\": ",
            "neither kafak nor",
        ),
        (
            "5: kafka.options.\"ssl.key.password\" = \"file:/",
            "No such file",
        ),
        (
            "9: store.s3.access_key_id = \"env:NOBODY\": ",
            "$NOBODY is not set",
        ),
        ("10: store.s3.secret_access_key = \"file:/", "No such file"),
        ("11: store.s3.ca_file = \"file:/", "No such file"),
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, (start, says)) in lines.iter().zip(expected) {
        let start = format!("test.toml:{start}");
        assert!(line.starts_with(&start) && line.contains(says), "{line}");
    }
}

/// librdkafka repeats the value that it refuses.
#[test]
fn a_fetched_value_that_is_refused_is_not_repeated() {
    let referring = Referring::new();
    referring.write("passphrase", "hunter2\0");
    let refused = lines(referring.read(REFERRING));
    assert!(
        !refused.is_empty() && !refused.concat().contains("hunter2"),
        "{refused:#?}"
    );
}

#[test]
fn who_signs_is_said_once_and_whole() {
    let s3 = |text: &str| format!("[store.s3]\n{text}");
    for (text, line, key, says) in [
        (
            "access_key_id = \"a\"",
            2,
            "access_key_id = (hidden)",
            "secret_access_key",
        ),
        (
            "secret_access_key = \"a\"",
            2,
            "secret_access_key = (hidden)",
            "access_key_id",
        ),
        (
            "session_token = \"a\"",
            2,
            "session_token = (hidden)",
            "access_key_id and",
        ),
        (
            "secret_access_key = \"a b\"\naccess_key_id = \"a\"",
            2,
            "secret_access_key = (hidden)",
            "one word",
        ),
        (
            "access_key_id = \"a\"\nsecret_access_key = \"b\"\ncredentials_file = \"/f\"",
            4,
            "credentials_file = \"/f\"",
            "left out",
        ),
        (
            "access_key_id = \"a\"\nsecret_access_key = \"b\"\nprofile = \"f\"",
            4,
            "profile = \"f\"",
            "left out",
        ),
        (
            "credentials_file = \"f\"",
            2,
            "credentials_file = \"f\"",
            "absolute",
        ),
        ("profile = \"[f]\"", 2, "profile = \"[f]\"", "profile"),
    ] {
        refused(&s3(text), line, &format!("store.s3.{key}"), says);
    }
    let file = taken(&s3("credentials_file = \"/f\"\nprofile = \"p\""));
    let expected = S3Credentials::File {
        path: "/f".into(),
        profile: Some("p".to_owned()),
    };
    assert_eq!(file.store.s3.credentials, expected);
}

#[test]
fn hostile_text_stays_on_its_line() {
    let message = only("[kafka]\ntopic = \"a\\nERROR\\u001b[31m\"");
    assert_eq!(message.lines().count(), 1);
    let message = only(
        &format!("[kafka]\ntopic = '''a\n\u{1b}{}'''", "x".repeat(9999)).replace('\u{1b}', ""),
    );
    assert_eq!(message.lines().count(), 1);
    assert!(message.len() < 400, "{message}");
    assert!(!only("\"a\\u001b\" = 1").contains('\u{1b}'));
}

#[test]
fn a_file_that_cannot_be_read_is_a_mistake_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let load = |name: &str| {
        let path = Some(folder.path().join(name));
        lines(Config::load(&Sources {
            path,
            ..Sources::default()
        }))
    };
    std::fs::write(folder.path().join("bytes.toml"), b"[kafka]\n# \xff\n").unwrap();
    std::fs::write(folder.path().join("large.toml"), vec![b'\n'; 1 + (1 << 20)]).unwrap();
    std::fs::write(folder.path().join("my file.toml"), "").unwrap();
    assert!(load("none.toml")[0].contains("none.toml: cannot be read: "));
    assert!(load("bytes.toml")[0].contains("line 2"));
    assert!(load("large.toml")[0].contains("at most 1048576 bytes"));
    let path = Some(folder.path().join("my file.toml"));
    let config = Config::load(&Sources {
        path,
        ..Sources::default()
    })
    .unwrap();
    assert!(config.kafka.instance_id.unwrap().ends_with("-my-file"));
}

/// Text that is nearly a configuration.
fn nearly() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "[kafka]",
        "[kafka.options]",
        "[[table.columns]]",
        "[[skip]]",
        "[files]",
        "[store.s3]",
        "[source]",
        "topic",
        "options",
        "columns",
        "\"security.protocol\"",
        "name",
        "path",
        "type",
        "max_bytes",
        "url",
        "start",
        "brokers",
        "interval",
        "partition_by",
        "a.b.c",
        "kafka.options.x",
        "skip",
        "table.columns",
    ]);
    let value = prop::sample::select(vec![
        "",
        "= 1",
        "= \"x\"",
        "= []",
        "= {}",
        "= [[{a=1}]]",
        "= 1979-05-27",
        "= inf",
        "= \"list(int64)\"",
        "= \"a.\\\"b\"",
        "= '''",
        "= \"99999999999999999999TiB\"",
        "= \"s3://\"",
        "= [\"date\"]",
        "= true",
        "= { x = { y = 1 } }",
        "= 0xffffffffffffffffff",
        "= \"1000000000000y\"",
        "= \"{name}{\"",
    ]);
    prop::collection::vec((key, value), 0..12).prop_map(|pairs| {
        pairs
            .iter()
            .map(|(key, value)| format!("{key} {value}\n"))
            .collect()
    })
}

proptest! {
    #[test]
    fn no_text_panics_the_loader(text in any::<String>(), set in any::<String>(), value in any::<String>()) {
        let _ = read_with(&text, &[&set], &[("GROUNDTRACK_KAFKA__TOPIC", &value)]);
    }

    #[test]
    fn nothing_that_is_nearly_a_configuration_panics_the_loader(
        text in nearly(),
        cut in any::<prop::sample::Index>(),
        byte in any::<char>(),
    ) {
        let position = cut.index(text.len() + 1);
        let mut changed = text.clone();
        changed.insert(position, byte);
        for mistakes in [read(&text), read(&changed)].into_iter().filter_map(Result::err) {
            prop_assert!(mistakes.iter().count() > 0);
            prop_assert_eq!(mistakes.to_string().lines().count(), mistakes.iter().count());
        }
    }

    #[test]
    fn no_option_panics_the_loader(name in "[a-z_.]{1,30}", value in any::<String>()) {
        let set = format!("kafka.options.\"{name}\"={value}");
        let _ = read_with("", &[&set], &[]);
    }

    #[test]
    fn whatever_is_taken_as_a_size_or_a_duration_is_bounded(text in "[0-9]{1,25} ?[a-zA-Z]{0,4}") {
        if let Ok(bytes) = parse_size(&text) {
            prop_assert!(i64::try_from(bytes).is_ok());
        }
        if let Ok(duration) = parse_duration(&text) {
            prop_assert!(duration <= Duration::from_secs(366 * 24 * 3600));
        }
    }
}
