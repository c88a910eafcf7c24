//! The command line: what may be written, and which configuration it asks for.

use std::fmt;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use crate::adopt::Place;
use crate::config::{Sources, parse_duration};
use crate::demo::open_notify::Failure;

/// Where the package puts the configuration.
pub const DEFAULT_CONFIG: &str = "/etc/groundtrack/groundtrack.toml";

/// Lands a Kafka topic in an object store as plain Parquet, exactly once.
#[derive(Debug, Parser)]
#[command(name = "groundtrack", version = version(), propagate_version = true)]
pub struct Cli {
    /// What is to be done.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Poll, publish and land until told to stop
    Run(Run),
    /// Show everything on this machine alone: simulated source, embedded broker, files in a folder
    Demo(Demo),
    /// Try the configuration, the source, the brokers, the topic and the bucket
    Check(Check),
    /// Prove from the bucket that each record has landed exactly once
    Verify(Verify),
    /// Propose the table's columns for a sample of JSON lines, or of the topic
    Infer(Infer),
    /// Make checkpoints where a Spark job ended, or from the files where they were lost
    Adopt(Adopt),
    /// Let the running service read its configuration again, and say what became of it
    ///
    /// Asks over the service's local socket and waits until what has changed is in force; SIGHUP
    /// asks without waiting. Prints which keys took effect at once, which groups were restarted by
    /// which keys, and which keys need a restart of the service. A file that is not valid is
    /// refused as a whole, with all of its mistakes, and the old configuration goes on.
    ///
    /// Exit code: 0 applied; 1 no answer, or no permission to ask; 2 refused; 4 not running.
    Reload(Reload),
    /// Show what the running service says of itself: is all well, and if not, what is to be done?
    ///
    /// Asks over the service's local socket, for which root, its user and its group have
    /// permission. Shows groups and actors, partitions with their lag and what is open, the file
    /// that landed last, and what is wrong, the gravest first, each with how to mend it. Many
    /// partitions are folded, the worst shown. Where nothing runs it says so, and what the journal
    /// said last of the unit.
    ///
    /// Exit code: 0 healthy; 1 degraded or unhealthy, no answer, or no permission to ask; 4 not
    /// running.
    Status(Status),
}

/// `groundtrack run`
#[derive(Debug, Args)]
pub struct Run {
    /// Which configuration.
    #[command(flatten)]
    pub settings: Settings,
    /// Land what the topic holds now, poll nothing, then end
    #[arg(long)]
    pub until_caught_up: bool,
}

/// `groundtrack demo`
#[derive(Debug, Args)]
pub struct Demo {
    /// Where the files go; each start makes a topic of its own there
    #[arg(long, value_name = "DIR", default_value = "groundtrack-demo")]
    pub dir: PathBuf,
    /// Where the page listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000")]
    pub listen: std::net::SocketAddr,
    /// End after so long, such as 1m 30s; without it: at Ctrl-C
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Let the simulated source fail in these ways, one after another
    #[arg(
        long,
        value_name = "KIND",
        num_args = 1..,
        value_delimiter = ',',
        value_parser = failures()
    )]
    pub fail: Vec<Failure>,
}

/// `groundtrack check`
#[derive(Debug, Args)]
pub struct Check {
    /// Which configuration.
    #[command(flatten)]
    pub settings: Settings,
    /// Print one JSON document instead of lines for people
    #[arg(long)]
    pub json: bool,
    /// Ask nothing; print the least that has to be allowed instead: all as one JSON document, the
    /// bucket's policy alone (iam), or commands for Kafka's access-control lists (acl)
    #[arg(
        long,
        value_name = "WHICH",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "all",
        conflicts_with = "json"
    )]
    pub policy: Option<PolicyOf>,
}

/// Which part of what has to be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PolicyOf {
    /// Both, as one JSON document.
    All,
    /// The bucket's, as the JSON document that AWS and MinIO take.
    Iam,
    /// Kafka's, as commands for a shell.
    Acl,
}

/// `groundtrack verify`
#[derive(Debug, Args)]
pub struct Verify {
    /// Which configuration.
    #[command(flatten)]
    pub settings: Settings,
    /// Print one JSON document instead of lines for people
    #[arg(long)]
    pub json: bool,
    /// Compare with the records that the topic still holds, too
    #[arg(long)]
    pub topic: bool,
    /// Files older than this may have been removed: a time such as 2026-11-01T00:00:00Z, or how
    /// long ago, such as 30d
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    pub since: Option<Since>,
}

/// A time in the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// Milliseconds since 1970 UTC.
    At(i64),
    /// So long before the command runs.
    Ago(Duration),
}

impl Since {
    /// Milliseconds since 1970 UTC, where it is now `now_ms`.
    pub fn ms(self, now_ms: i64) -> i64 {
        match self {
            Since::At(ms) => ms,
            Since::Ago(ago) => {
                now_ms.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX))
            }
        }
    }
}

fn parse_since(text: &str) -> Result<Since, String> {
    let time = chrono::DateTime::parse_from_rfc3339(text);
    if let Ok(time) = time {
        return Ok(Since::At(time.timestamp_millis()));
    }
    parse_duration(text).map(Since::Ago).map_err(|_| {
        "must be a time such as 2026-11-01T00:00:00Z, or how long ago, such as 30d".to_owned()
    })
}

/// `groundtrack infer`
#[derive(Debug, Args)]
pub struct Infer {
    /// JSON lines to read; -: standard input
    #[arg(value_name = "FILE", default_value = "-", conflicts_with = "topic")]
    pub file: PathBuf,
    /// Read a sample of the configured topic instead
    #[arg(long)]
    pub topic: bool,
    /// Which configuration; only read with `topic`.
    #[command(flatten)]
    pub settings: Settings,
}

impl Infer {
    /// Whether the sample comes from standard input.
    pub fn reads_stdin(&self) -> bool {
        !self.topic && self.file.as_os_str() == "-"
    }
}

/// `groundtrack adopt`
#[derive(Debug, Args)]
pub struct Adopt {
    /// The checkpoint folder of a Spark Structured Streaming job, which has ended: s3a://, s3://,
    /// file:// or a path
    #[arg(
        value_name = "CHECKPOINT_URL",
        value_parser = Place::parse,
        required_unless_present = "from_files",
        conflicts_with = "from_files"
    )]
    pub checkpoint: Option<Place>,
    /// The folder that the job wrote its files to; default: the checkpoint folder's parent or
    /// parquet_files beside it, whichever has a _spark_metadata
    #[arg(long, value_name = "URL", value_parser = Place::parse, conflicts_with = "from_files")]
    pub sink: Option<Place>,
    /// The job was stopped: do not wait until its last write is old
    #[arg(long, conflicts_with = "from_files")]
    pub job_stopped: bool,
    /// Rebuild lost checkpoints from the footers of groundtrack's own files instead
    #[arg(long)]
    pub from_files: bool,
    /// Print the table of partitions and offsets, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Which configuration.
    #[command(flatten)]
    pub settings: Settings,
}

/// `groundtrack reload`
#[derive(Debug, Args)]
pub struct Reload {
    /// Which configuration the service runs with; only its name and its status.socket are used.
    #[command(flatten)]
    pub settings: Settings,
    /// Print the answer as one JSON document instead of lines for people
    #[arg(long)]
    pub json: bool,
}

/// `groundtrack status`
#[derive(Debug, Args)]
pub struct Status {
    /// Which configuration the service runs with; only its name and its status.socket are used.
    #[command(flatten)]
    pub settings: Settings,
    /// Print the document that the page has under /api/status
    #[arg(long)]
    pub json: bool,
    /// Show it anew each second, until Ctrl-C: in place on a terminal, else one block after
    /// another, with --json one document in each line
    #[arg(long)]
    pub watch: bool,
}

/// Which configuration a command runs with.
#[derive(Args)]
pub struct Settings {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
    /// Override a key of the file and of the environment; may be given again
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub sets: Vec<String>,
}

/// An override may hold a password, so only their number is shown.
impl fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Settings")
            .field("config", &self.config)
            .field("sets", &self.sets.len())
            .finish()
    }
}

impl Settings {
    /// The file and the overrides, with the environment of the process: what
    /// [`Config::load`](crate::config::Config::load) takes.
    pub fn sources(&self) -> Sources {
        Sources::of_process(Some(self.config.clone()), self.sets.clone())
    }
}

/// The failures by their names, of which the help lists all.
fn failures() -> impl TypedValueParser<Value = Failure> {
    PossibleValuesParser::new(Failure::NAMES.map(|(name, _)| name))
        .try_map(|name| name.parse::<Failure>())
}

/// The version, the commit where one is known, and librdkafka's version.
pub fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| {
        let commit = option_env!("GROUNDTRACK_COMMIT").unwrap_or("unknown");
        let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
        format!(
            "{} (commit {commit}, librdkafka {librdkafka})",
            env!("CARGO_PKG_VERSION")
        )
    });
    VERSION.as_str()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.command)
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn overrides_reach_the_sources_in_their_order() {
        let line = "groundtrack run --config a.toml --set kafka.topic=a --set kafka.topic=b";
        let Ok(Command::Run(run)) = parse(line) else {
            panic!("no run");
        };
        let sources = run.settings.sources();
        assert_eq!(sources.path, Some(PathBuf::from("a.toml")));
        assert_eq!(sources.sets, ["kafka.topic=a", "kafka.topic=b"]);
        assert!(!run.until_caught_up);
    }

    #[test]
    fn the_file_defaults_to_where_the_package_puts_it() {
        let Ok(Command::Check(check)) = parse("groundtrack check --json") else {
            panic!("no check");
        };
        assert_eq!(check.settings.config, PathBuf::from(DEFAULT_CONFIG));
        assert!(check.json);
    }

    #[test]
    fn a_demo_takes_failures_and_an_end() {
        let line = "groundtrack demo --dir d --listen 127.0.0.1:0 --for 20s --fail frozen cut";
        let Ok(Command::Demo(demo)) = parse(line) else {
            panic!("no demo");
        };
        assert_eq!(demo.duration, Some(Duration::from_secs(20)));
        assert_eq!(demo.fail, [Failure::Frozen, Failure::Cut]);
        for (name, failure) in Failure::NAMES {
            let Ok(Command::Demo(demo)) = parse(&format!("groundtrack demo --fail {name}")) else {
                panic!("{name}");
            };
            assert_eq!(demo.fail, [failure]);
        }
        assert!(parse("groundtrack demo --fail nonsense").is_err());
        assert!(parse("groundtrack demo --for 20").is_err());
    }

    #[test]
    fn since_is_a_time_or_how_long_ago() {
        let since = |text: &str| {
            let Ok(Command::Verify(verify)) = parse(&format!("groundtrack verify --since {text}"))
            else {
                return None;
            };
            verify.since
        };
        assert_eq!(since("1970-01-01T00:00:01+00:00"), Some(Since::At(1000)));
        let day = Duration::from_secs(86_400);
        assert_eq!(since("1d"), Some(Since::Ago(day)));
        assert_eq!(since("yesterday"), None);
        assert_eq!(Since::Ago(day).ms(86_400_000), 0);
    }

    #[test]
    fn a_sample_comes_from_one_place() {
        for (line, stdin) in [
            ("groundtrack infer", true),
            ("groundtrack infer -", true),
            ("groundtrack infer a.jsonl", false),
            ("groundtrack infer --topic", false),
        ] {
            let Ok(Command::Infer(infer)) = parse(line) else {
                panic!("{line}");
            };
            assert_eq!(infer.reads_stdin(), stdin, "{line}");
        }
        assert!(parse("groundtrack infer a.jsonl --topic").is_err());
    }

    #[test]
    fn a_takeover_is_of_a_job_or_of_files() {
        let Ok(Command::Adopt(adopt)) = parse("groundtrack adopt s3a://b/c --dry-run") else {
            panic!("no adopt");
        };
        assert_eq!(adopt.checkpoint.unwrap().to_string(), "s3a://b/c");
        assert!(adopt.dry_run && !adopt.from_files && adopt.sink.is_none());
        let Ok(Command::Adopt(adopt)) = parse("groundtrack adopt --from-files") else {
            panic!("no adopt");
        };
        assert!(adopt.from_files);
        for line in [
            "groundtrack adopt",
            "groundtrack adopt hdfs://n/c",
            "groundtrack adopt /c --from-files",
            "groundtrack adopt --from-files --sink /s",
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn the_version_names_commit_and_librdkafka() {
        assert!(version().starts_with(env!("CARGO_PKG_VERSION")));
        assert!(version().contains("(commit "));
        assert!(version().contains("librdkafka 2."));
    }

    #[test]
    fn debug_does_not_show_what_an_override_holds() {
        let line = "groundtrack run --set kafka.options.\"sasl.password\"=hunter2";
        let shown = format!("{:?}", parse(line).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
