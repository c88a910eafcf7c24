//! The demo: everything that the service needs, embedded in one process. The data goes through the
//! same actors as in `run`.

pub mod broker;
mod narrator;
pub mod open_notify;
mod orbit;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::cli;
use crate::commands::{self, Error, Service};
use crate::config::{
    Config, Kafka, Log, SOCKET_PATH_MAX, Source, Sources, Store, StoreLocation, Web,
};
use crate::control::place::{SOCKET, Surroundings};
use crate::landing::protocol::keys::encoded_group;
use crate::logging;
use crate::status::Status;
use crate::supervisor::{ExitReason, Group};
use broker::Broker;
use narrator::{Narrator, Places};
use open_notify::Simulator;

/// The consumer group, which names the folder of the checkpoints.
const GROUP: &str = "demo";

/// As often as the real API changes its timestamp: a file of a few seconds holds a few rows.
const INTERVAL: Duration = Duration::from_secs(1);

/// Below the interval; the simulator answers within milliseconds.
const TIMEOUT: Duration = Duration::from_millis(900);

/// Well within the time that a failure asked for lasts, so that a frozen source is seen to be
/// reported.
const STALE_AFTER: Duration = Duration::from_secs(3);

/// A file every few seconds, so that someone who watches sees it happen.
const MAX_AGE: Duration = Duration::from_secs(3);

/// A source that failed on request is polled again soon after it is well, for the same reason.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// `groundtrack demo`, its words on standard output: starts the simulator and the broker and runs
/// these groups (ingest, landing and web) on them until a signal, or until its time is up.
///
/// # Errors
/// [`Error::Start`] where the folder, the simulator or the broker cannot be made,
/// [`Error::Configuration`] where the environment sets the log wrongly.
pub fn run(options: cli::Demo, groups: Vec<Group>) -> Result<ExitReason, Error> {
    run_to(options, groups, io::stdout())
}

/// [`run`], with its words to `out`. It ends when `out` takes no more.
///
/// # Errors
/// As [`run`].
pub fn run_to(
    options: cli::Demo,
    groups: Vec<Group>,
    out: impl Write + Send + 'static,
) -> Result<ExitReason, Error> {
    let log = logging::start(&log_settings()?);
    let dir = make_folder(&options.dir)
        .map_err(|error| start_error("the demo's folder cannot be made", error))?;
    let topic = new_topic(Utc::now(), |topic| checkpoints_of(&dir, topic).exists());
    let simulator = Simulator::start(&log.logger)
        .map_err(|error| start_error("the simulator cannot start", error))?;
    let (_broker, brokers) = start_broker(&log.logger, &topic)
        .map_err(|error| start_error("the embedded broker cannot start", error))?;
    let mut config = Config {
        log: log_settings()?,
        ..configuration(&dir, &brokers, &simulator.url(), &topic, options.listen)
    };
    config.status.socket = socket_in(&dir);
    let status = Status::new();
    let shutdown = CancellationToken::new();
    let places = Places {
        socket: config.status.socket.clone(),
        dir,
        brokers,
        topic,
        url: simulator.url(),
        listen: options.listen,
        ends_after: options.duration,
    };
    let narrator = Narrator::new(places, simulator, options.fail, &status, shutdown.clone());
    let narration = narrator
        .start(out)
        .map_err(|error| start_error("the demo's thread cannot start", error))?;
    let again = config.clone();
    let ended = commands::serve(Service {
        config,
        load: Box::new(move || Ok(again.clone())),
        surroundings: Surroundings::of_process(Some(Path::new(GROUP))),
        groups,
        until_caught_up: false,
        shutdown,
        status: Arc::clone(&status),
        log,
    });
    narration.end();
    ended
}

/// The demo's configuration: all in memory or in `dir`, everything often enough to be watched.
pub fn configuration(
    dir: &Path,
    brokers: &str,
    url: &str,
    topic: &str,
    listen: SocketAddr,
) -> Config {
    let default = Config::default();
    let mut config = Config {
        source: Some(Source {
            url: url.to_owned(),
            interval: INTERVAL,
            timeout: TIMEOUT,
            stale_after: STALE_AFTER,
        }),
        kafka: Kafka {
            brokers: vec![brokers.to_owned()],
            topic: topic.to_owned(),
            group: GROUP.to_owned(),
            // The embedded broker is this process's own and ends with it.
            instance_id: None,
            ..default.kafka
        },
        store: Store {
            location: StoreLocation::File(dir.to_owned()),
            ..default.store
        },
        web: Some(Web {
            listen,
            hosts: Vec::new(),
        }),
        ..default
    };
    config.files.max_age = MAX_AGE;
    config.supervision.backoff_max = BACKOFF_MAX;
    config
}

/// Warnings only, beside the demo's own words, unless `GROUNDTRACK_LOG__LEVEL` says otherwise.
fn log_settings() -> Result<Log, Error> {
    let mut sources = Sources::of_process(None, Vec::new());
    sources
        .environment
        .retain(|(name, _)| name.starts_with("GROUNDTRACK_LOG__"));
    let is_level = |(name, _): &(String, String)| name == "GROUNDTRACK_LOG__LEVEL";
    if !sources.environment.iter().any(is_level) {
        sources.sets.push("log.level=warning".to_owned());
    }
    let config = Config::load(&sources).map_err(|mistakes| {
        Error::Configuration(mistakes.iter().map(ToString::to_string).collect())
    })?;
    Ok(config.log)
}

fn start_error(what: &'static str, error: io::Error) -> Error {
    Error::Start { what, error }
}

/// The folder, made where it is not there, by its whole path.
fn make_folder(dir: &Path) -> io::Result<PathBuf> {
    std::fs::create_dir_all(dir)?;
    dir.canonicalize()
}

fn start_broker(log: &slog::Logger, topic: &str) -> io::Result<(Broker, String)> {
    let broker = Broker::start(log).map_err(io::Error::other)?;
    broker.create_topic(topic, 1).map_err(io::Error::other)?;
    let brokers = broker.bootstrap_servers().map_err(io::Error::other)?;
    Ok((broker, brokers))
}

/// Beside the folders of the files; `None`: the path is too long for a socket.
fn socket_in(dir: &Path) -> Option<PathBuf> {
    let path = dir.join(SOCKET);
    (path.as_os_str().len() <= SOCKET_PATH_MAX).then_some(path)
}

fn checkpoints_of(dir: &Path, topic: &str) -> PathBuf {
    let checkpoints = dir.join(Store::default().checkpoints);
    checkpoints.join(encoded_group(GROUP)).join(topic)
}

/// A topic that has landed nothing in the folder: the embedded broker has forgotten the last one,
/// whose checkpoints are still there.
fn new_topic(now: DateTime<Utc>, is_used: impl Fn(&str) -> bool) -> String {
    let first = now.format("iss-%Y%m%d-%H%M%S").to_string();
    let further = (2..).map(|number: u32| format!("{first}-{number}"));
    std::iter::once(first.clone())
        .chain(further)
        .find(|topic| !is_used(topic))
        .unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_has_a_topic_of_its_own() {
        let now = DateTime::from_timestamp(1_795_478_399, 0).unwrap();
        let first = new_topic(now, |_| false);
        assert_eq!(first, "iss-20261123-235959");
        let second = new_topic(now, |topic| topic == first);
        assert_eq!(second, "iss-20261123-235959-2");
        assert_ne!(new_topic(now, |topic| !topic.ends_with("-3")), second);
    }

    #[test]
    fn a_folder_with_a_long_name_goes_without_a_socket_of_its_own() {
        assert_eq!(
            socket_in(Path::new("/demo")),
            Some(PathBuf::from("/demo/groundtrack.sock"))
        );
        assert_eq!(socket_in(Path::new(&format!("/{}", "d".repeat(100)))), None);
    }

    #[test]
    fn the_configuration_keeps_the_rules_that_a_file_is_held_to() {
        let listen = ([127, 0, 0, 1], 9000).into();
        let url = "http://127.0.0.1:8/iss-now.json";
        let ours = configuration(Path::new("/demo"), "127.0.0.1:7", url, "iss-1", listen);
        let set = |text: &str| text.to_owned();
        let written = Config::load(&Sources {
            path: None,
            environment: Vec::new(),
            sets: vec![
                set("source.url=http://127.0.0.1:8/iss-now.json"),
                set("source.interval=1s"),
                set("source.timeout=900ms"),
                set("source.stale_after=3s"),
                set("kafka.brokers=['127.0.0.1:7']"),
                set("kafka.topic=iss-1"),
                set("kafka.group=demo"),
                set("kafka.instance_id="),
                set("files.max_age=3s"),
                set("files.partition_by=['date']"),
                set("store.url=file:///demo"),
                set("supervision.backoff_max=2s"),
            ],
        });
        assert_eq!(written.unwrap(), ours);
    }
}
