//! What is valid: the types that the running process holds. They are made only by the validation
//! of what was written, or by [`Config::default`], which is the configuration of an empty file.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::references::Reference;
use super::secrets::{self, Secret};

/// A whole checked configuration. Immutable for a generation of actors.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What is polled; `None`: nothing, only what others publish is landed.
    pub source: Option<Source>,
    /// The brokers and the topic.
    pub kafka: Kafka,
    /// The columns of the data files.
    pub table: Table,
    /// When a file is closed and how it is written.
    pub files: Files,
    /// Where the objects go.
    pub store: Store,
    /// What the process may use.
    pub limits: Limits,
    /// The restart policy of the groups of actors.
    pub supervision: Supervision,
    /// The operator's words that a gap may be passed.
    pub skip: Vec<Skip>,
    /// The page; `None`: turned off.
    pub web: Option<Web>,
    /// Where `groundtrack status` asks.
    pub status: StatusSocket,
    /// Level and form of the log.
    pub log: Log,
    /// The keys whose values stand elsewhere, and where.
    pub references: BTreeMap<String, Reference>,
}

impl Config {
    /// The keys that name a `credential:`. systemd loads credentials when it starts the service,
    /// so a new content of theirs takes a restart, whatever a reload does.
    pub fn credential_keys(&self) -> impl Iterator<Item = &str> {
        let is_credential = |reference: &Reference| matches!(reference, Reference::Credential(_));
        self.references
            .iter()
            .filter(move |(_, reference)| is_credential(reference))
            .map(|(key, _)| key.as_str())
    }
}

/// `[source]`: the JSON HTTP API that is polled. Its `Debug` hides the userinfo of the address.
#[derive(Clone, PartialEq, Eq)]
pub struct Source {
    /// An http or https address.
    pub url: String,
    /// From the start of one poll to the start of the next.
    pub interval: Duration,
    /// Of a whole request; below `interval`.
    pub timeout: Duration,
    /// A source whose timestamp has not moved for so long is reported as frozen.
    pub stale_after: Duration,
}

/// `[kafka]`: the brokers, the topic and the consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kafka {
    /// `host:port` of the first brokers to ask; at least one.
    pub brokers: Vec<String>,
    /// The topic's name, valid for Kafka.
    pub topic: String,
    /// The consumer group; also names the folder of the checkpoints.
    pub group: String,
    /// `group.instance.id`, placeholders already replaced; `None`: no static membership.
    pub instance_id: Option<String>,
    /// Where a partition without a checkpoint starts.
    pub start: Start,
    /// librdkafka properties passed on as they are; none that the guarantees need.
    pub options: BTreeMap<String, Property>,
}

/// The value of a librdkafka property.
#[derive(Clone, PartialEq, Eq)]
pub enum Property {
    /// One that anybody may see.
    Plain(String),
    /// A file with keys or certificates.
    File(NamedFile),
    /// A password, key material, or whatever stood elsewhere.
    Secret(Secret),
}

impl Property {
    /// As librdkafka takes it, secrets included.
    pub fn expose(&self) -> std::borrow::Cow<'_, str> {
        match self {
            Self::Plain(text) => text.as_str().into(),
            Self::File(file) => file.path.to_string_lossy(),
            Self::Secret(secret) => secret.expose().into(),
        }
    }
}

/// What anybody may see.
impl From<&str> for Property {
    fn from(text: &str) -> Self {
        Self::Plain(text.to_owned())
    }
}

/// Without a URL's userinfo, which may be a password.
impl fmt::Debug for Property {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => secrets::without_userinfo(text).fmt(formatter),
            Self::File(file) => file.fmt(formatter),
            Self::Secret(secret) => secret.fmt(formatter),
        }
    }
}

/// A file by its path. Two are equal only if they had the same content when the configuration was
/// read, so that a reload sees a renewed certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// Absolute where it was checked, else as it was written.
    pub path: PathBuf,
    /// A digest of the content; `None`: it could not be read, or is a folder.
    content: Option<u64>,
}

/// As much of a file is read to know it again: more than all certificates of a system.
const CONTENT_MAX_BYTES: u64 = 1 << 20;

impl NamedFile {
    /// Looks at the file's content. That it cannot be read is for its user to say.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        // A pipe would be waited for.
        let is_file = std::fs::metadata(&path).is_ok_and(|metadata| metadata.is_file());
        let content = is_file.then(|| digest(&path)).flatten();
        Self { path, content }
    }
}

fn digest(path: &Path) -> Option<u64> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(CONTENT_MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(xxhash_rust::xxh3::xxh3_64(&bytes))
}

/// The path alone.
impl fmt::Debug for NamedFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(formatter)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Source")
            .field("url", &secrets::without_userinfo(&self.url))
            .field("interval", &self.interval)
            .field("timeout", &self.timeout)
            .field("stale_after", &self.stale_after)
            .finish()
    }
}

impl Kafka {
    /// How long the broker waits for a sign of a member, as far as we decide that: under KIP-848
    /// the broker does, and is to be asked.
    pub fn session_timeout(&self) -> Duration {
        self.millis("session.timeout.ms", super::SESSION_TIMEOUT_DEFAULT)
    }

    /// How long a member may take between two polls, and for its answer to a rebalance.
    pub fn max_poll_interval(&self) -> Duration {
        self.millis("max.poll.interval.ms", super::MAX_POLL_INTERVAL_DEFAULT)
    }

    /// Whether the group is managed by the broker (KIP-848).
    pub fn is_broker_managed(&self) -> bool {
        let protocol = self.options.get("group.protocol");
        protocol.is_some_and(|protocol| protocol.expose().eq_ignore_ascii_case("consumer"))
    }

    fn millis(&self, option: &str, default: Duration) -> Duration {
        let told = self.options.get(option);
        let told = told.and_then(|value| value.expose().parse().ok());
        told.map_or(default, Duration::from_millis)
    }
}

/// `kafka.start`: where a partition without a checkpoint starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Start {
    /// At the log's first offset.
    Earliest,
    /// At the log's end when the group first claimed the topic.
    Latest,
    /// At the offset that the group has committed to Kafka, else at the earliest.
    Committed,
    /// At the first record at or after this time, in milliseconds since 1970 UTC.
    Time(i64),
}

/// `[table]`: the declared columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// In the order of the files. Names are unique and none is reserved.
    pub columns: Vec<Column>,
    /// Whether `_extra` keeps what no column names.
    pub extra: bool,
}

/// One declared column. Also written, as it is, into checkpoints and footers: its JSON form is
/// part of the bucket's format.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Column {
    /// The name in the files.
    pub name: String,
    /// Where the value comes from.
    #[serde(rename = "from")]
    pub source: ColumnSource,
    /// The type in the files, and how the value is read.
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// Whether null or missing is a value; else it makes the record a dead letter.
    pub nullable: bool,
}

/// Where a column's value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnSource {
    /// A path of object keys into the record's JSON value; at least one key.
    Path(Vec<String>),
    /// The record's key.
    Key,
    /// The last header of this name.
    Header(String),
    /// The topic's name.
    Topic,
}

/// A column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// UTF-8 text.
    String,
    /// true or false.
    Bool,
    /// 64-bit signed integer.
    Int64,
    /// 64-bit IEEE 754 number.
    Float64,
    /// An instant, stored in microseconds since 1970 UTC.
    Timestamp(TimeUnit),
    /// Any JSON value, kept as its text.
    Json,
    /// An array of scalars.
    List(ScalarType),
    /// Bytes.
    Binary,
}

/// The unit in which an instant is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeUnit {
    /// Seconds since 1970 UTC.
    S,
    /// Milliseconds since 1970 UTC.
    Ms,
    /// Microseconds since 1970 UTC.
    Us,
    /// RFC 3339 text.
    Rfc3339,
}

/// The element type of a list column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScalarType {
    /// UTF-8 text.
    String,
    /// true or false.
    Bool,
    /// 64-bit signed integer.
    Int64,
    /// 64-bit IEEE 754 number.
    Float64,
    /// An instant.
    Timestamp(TimeUnit),
    /// Any JSON value, as text.
    Json,
}

/// `[files]`: rotation and encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Rows of a batch, rejects included; at least 1.
    pub max_rows: u64,
    /// Encoded bytes of a batch; at most half of `limits.memory`.
    pub max_bytes: u64,
    /// Age of a batch since its first record was read.
    pub max_age: Duration,
    /// Codec of the pages.
    pub compression: Compression,
    /// Rows of a row group; at least 1.
    pub row_group_rows: usize,
    /// Hive folders, from the outermost.
    pub partition_by: Vec<PartitionUnit>,
    /// Which time the folders are made from.
    pub partition_time: PartitionTime,
}

/// Codec of the Parquet pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Zstandard at this level, 1 to 22.
    Zstd(i32),
    /// Snappy.
    Snappy,
    /// None.
    Uncompressed,
}

/// A unit of the Hive folders, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartitionUnit {
    /// `date=2026-11-23`
    Date,
    /// `hour=03`, below a date.
    Hour,
}

/// Which time the folders are made from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartitionTime {
    /// The record's Kafka timestamp.
    KafkaTimestamp,
    /// A declared timestamp column, by name.
    Column(String),
}

/// `[store]`: where the objects go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// The bucket or folder.
    pub location: StoreLocation,
    /// Folder of the data files, without slashes at its ends.
    pub data: String,
    /// Folder of the checkpoints, likewise.
    pub checkpoints: String,
    /// Folder of the dead letters, likewise.
    pub dead_letters: String,
    /// How S3 is spoken to.
    pub s3: S3,
}

/// `store.url`, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreLocation {
    /// `s3://bucket[/prefix]`
    S3 {
        /// The bucket's name.
        bucket: String,
        /// Put before every key; without slashes at its ends; may be empty.
        prefix: String,
    },
    /// `file:///folder`
    File(PathBuf),
    /// `memory:`, for tests: gone with the process.
    Memory,
}

impl fmt::Display for StoreLocation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(formatter, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(formatter, "s3://{bucket}/{prefix}"),
            Self::File(path) => write!(formatter, "file://{}", path.display()),
            Self::Memory => formatter.write_str("memory:"),
        }
    }
}

/// `[store.s3]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3 {
    /// `None`: AWS of the region.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: String,
    /// Bucket in the path instead of in the host's name.
    pub path_style: bool,
    /// Which library speaks.
    pub client: S3Client,
    /// `x-amz-server-side-encryption`
    pub server_side_encryption: Option<Encryption>,
    /// `x-amz-storage-class`
    pub storage_class: Option<String>,
    /// PEM file with certificates trusted besides the system's.
    pub ca_file: Option<NamedFile>,
    /// Who requests are signed as.
    pub credentials: S3Credentials,
    /// Of one request; a PUT gets 1 s more for each MiB.
    pub timeout: Duration,
}

/// Who requests are signed as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum S3Credentials {
    /// What is found where AWS's tools look.
    Found {
        /// The profile; `None`: that of `AWS_PROFILE`, else `default`.
        profile: Option<String>,
    },
    /// A profile of a file in the format of `~/.aws/credentials`, and nothing else.
    File {
        /// The file; read again while the process runs.
        path: PathBuf,
        /// As above.
        profile: Option<String>,
    },
    /// These.
    Keys {
        /// The access key's id.
        key_id: Secret,
        /// The secret access key.
        secret: Secret,
        /// The session token of temporary credentials.
        token: Option<Secret>,
    },
}

/// Which library speaks S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum S3Client {
    /// rusoto_s3
    Rusoto,
    /// object_store
    ObjectStore,
}

/// Encryption of the objects by the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// `AES256`
    Aes256,
    /// `aws:kms`, with the key's id, or the bucket's default key.
    Kms(Option<String>),
}

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of everything in flight; at least 32 MiB.
    pub memory_bytes: u64,
    /// Deadline of a drain; below systemd's `TimeoutStopSec`.
    pub drain: Duration,
}

/// `[supervision]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supervision {
    /// Before the first restart; doubles with each.
    pub backoff: Duration,
    /// The longest back-off.
    pub backoff_max: Duration,
    /// More restarts of `landing` than this within `window` end the process.
    pub restarts: u32,
    /// See `restarts`.
    pub window: Duration,
    /// An actor with neither progress nor a named wait for so long is hung.
    pub heartbeat: Duration,
}

/// `[[skip]]`: the operator's word that a gap may be passed; void anywhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The checkpoint's `next_offset`, as the message prints it.
    pub first_offset: i64,
}

/// `[web]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Web {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Further names accepted in `Host`; loopback's always are.
    pub hosts: Vec<String>,
}

/// `[status]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusSocket {
    /// `None`: `groundtrack.sock` in the runtime directory.
    pub socket: Option<PathBuf>,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The least severe level that is written.
    pub level: LogLevel,
    /// Where and how it is written.
    pub format: LogFormat,
}

/// `log.level`
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something was lost, or a person must act.
    Error,
    /// Nothing was lost.
    Warning,
    /// One line a landed file.
    Info,
    /// What the actors decide.
    Debug,
    /// A line a record.
    Trace,
}

/// `log.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// The journal where stderr is one, else the terminal.
    Auto,
    /// Native fields of the systemd journal.
    Journal,
    /// Lines for people.
    Terminal,
    /// One JSON object a line.
    Json,
}
