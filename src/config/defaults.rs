//! The configuration of an empty file. `config/groundtrack.toml` shows the same values; a test
//! holds the two equal.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::rules;
use super::valid::{
    Column, ColumnSource, ColumnType, Compression, Config, Files, Kafka, Limits, Log, LogFormat,
    LogLevel, PartitionTime, PartitionUnit, S3, S3Client, S3Credentials, Source, Start,
    StatusSocket, Store, StoreLocation, Supervision, Table, TimeUnit, Web,
};

/// systemd kills a service that has not stopped for so long: its own default of `TimeoutStopSec`,
/// which our unit keeps. A drain ends before, or its last steps would be cut off.
pub const SYSTEMD_STOP_TIMEOUT: Duration = Duration::from_secs(90);

/// The longest that the consumer's thread goes without a poll: it waits so long for the answer to
/// a seek. A session that ends earlier evicts a member that is well.
pub const LONGEST_POLL_WAIT: Duration = Duration::from_secs(5);

/// How long the broker waits for a sign of a member, unless `session.timeout.ms` says otherwise:
/// librdkafka's default.
pub const SESSION_TIMEOUT_DEFAULT: Duration = Duration::from_secs(45);

/// How long a member may take between two polls, unless `max.poll.interval.ms` says otherwise:
/// librdkafka's default.
pub const MAX_POLL_INTERVAL_DEFAULT: Duration = Duration::from_secs(300);

/// The least that `limits.memory` may be: librdkafka's queue, one block at each stage and an
/// encoded file need it.
pub const MEMORY_MIN_BYTES: u64 = 32 << 20;

/// The instance id as it is written.
pub(super) const INSTANCE_ID: &str = "{hostname}-{name}";

/// The configuration of an empty file: nothing is polled, and `{name}` is `groundtrack`.
impl Default for Config {
    fn default() -> Self {
        Self::of_host(&super::hostname(), super::NAME_WITHOUT_FILE)
    }
}

impl Config {
    /// The defaults on this host for a file of this name.
    pub(super) fn of_host(hostname: &str, name: &str) -> Self {
        Self {
            source: None,
            kafka: Kafka {
                brokers: vec!["127.0.0.1:9092".to_owned()],
                topic: "project_topic".to_owned(),
                group: "groundtrack".to_owned(),
                instance_id: rules::instance_id(INSTANCE_ID, hostname, name).unwrap_or_default(),
                start: Start::Earliest,
                options: BTreeMap::new(),
            },
            table: Table::default(),
            files: Files::default(),
            store: Store::default(),
            limits: Limits {
                memory_bytes: 128 << 20,
                drain: Duration::from_secs(20),
            },
            supervision: Supervision {
                backoff: Duration::from_secs(1),
                backoff_max: Duration::from_secs(60),
                restarts: 10,
                window: Duration::from_secs(600),
                heartbeat: Duration::from_secs(60),
            },
            skip: Vec::new(),
            web: Some(Web {
                listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9000)),
                hosts: Vec::new(),
            }),
            status: StatusSocket { socket: None },
            log: Log {
                level: LogLevel::Info,
                format: LogFormat::Auto,
            },
            references: BTreeMap::new(),
        }
    }
}

/// What an empty `[source]` polls: the position of the space station.
impl Default for Source {
    fn default() -> Self {
        Self {
            url: "http://api.open-notify.org/iss-now.json".to_owned(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(4),
            stale_after: Duration::from_secs(60),
        }
    }
}

/// The table of the space station's position.
impl Default for Table {
    fn default() -> Self {
        let column = |name: &str, path: &[&str], kind| Column {
            name: name.to_owned(),
            source: ColumnSource::Path(path.iter().map(|key| (*key).to_owned()).collect()),
            kind,
            nullable: false,
        };
        Self {
            columns: vec![
                column(
                    "timestamp",
                    &["timestamp"],
                    ColumnType::Timestamp(TimeUnit::S),
                ),
                column("message", &["message"], ColumnType::String),
                column(
                    "latitude",
                    &["iss_position", "latitude"],
                    ColumnType::Float64,
                ),
                column(
                    "longitude",
                    &["iss_position", "longitude"],
                    ColumnType::Float64,
                ),
            ],
            extra: true,
        }
    }
}

impl Default for Files {
    fn default() -> Self {
        Self {
            max_rows: 1_000_000,
            max_bytes: 64 << 20,
            max_age: Duration::from_secs(300),
            compression: Compression::Zstd(1),
            row_group_rows: 1_000_000,
            partition_by: vec![PartitionUnit::Date],
            partition_time: PartitionTime::KafkaTimestamp,
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            location: StoreLocation::S3 {
                bucket: "streaming-bucket-1".to_owned(),
                prefix: String::new(),
            },
            data: "parquet_files".to_owned(),
            checkpoints: "checkpoints".to_owned(),
            dead_letters: "dead_letters".to_owned(),
            s3: S3::default(),
        }
    }
}

impl Default for S3 {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: "us-east-1".to_owned(),
            path_style: false,
            client: S3Client::Rusoto,
            server_side_encryption: None,
            storage_class: None,
            ca_file: None,
            credentials: S3Credentials::Found { profile: None },
            timeout: Duration::from_secs(30),
        }
    }
}
