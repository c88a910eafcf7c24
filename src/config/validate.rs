//! From what is written to what is valid: each value by its rule, then against the others.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Inputs;
use super::defaults::{MEMORY_MIN_BYTES, SYSTEMD_STOP_TIMEOUT};
use super::mistakes::{Mistake, Origin};
use super::references::{Outside, Reference};
use super::rules::{
    KAFKA_NAME_MAX, SOCKET_PATH_MAX, absolute, at_least_one, brokers, folder, group, hosts,
    instance_id, kafka_name, listen_address, not_zero, overlap, source_url, store_location,
    too_long,
};
use super::units::{Size, partition_units};
use super::valid::{Config, Skip, Source, Web};
use super::written::{self, Given, Place, Written};
use super::{columns, kafka_options};

/// Checks all that is written, on top of the defaults. The configuration is meant only if there
/// is no mistake.
pub(super) fn validate(written: Written, inputs: &Inputs<'_>) -> (Config, Vec<Mistake>) {
    let (hostname, name) = (inputs.hostname, inputs.name);
    let mut config = Config::of_host(hostname, name);
    let mut checks = Checks {
        outside: &inputs.outside,
        references: BTreeMap::new(),
        mistakes: Vec::new(),
    };
    if let Some(source) = written.source {
        config.source = Some(checks.source(source));
    }
    checks.kafka(written.kafka, &mut config, hostname, name);
    checks.limits_and_max_bytes(written.limits, &mut config, written.files.max_bytes.clone());
    let partition_time = checks.files(written.files, &mut config);
    checks.store(written.store, &mut config);
    checks.s3(written.s3, &mut config);
    checks.supervision(written.supervision, &mut config);
    config.skip = checks.skips(written.skip);
    checks.web(written.web, &mut config);
    checks.rest(written.status, written.log, &mut config);
    let columns = columns::check(written.extra, written.columns, partition_time, &mut config);
    checks.mistakes.extend(columns);
    kafka_options::check(written.options, &mut checks, &mut config);
    config.references = checks.references;
    (config, checks.mistakes)
}

/// How a key came by its value.
#[derive(Debug)]
pub(super) enum Mark {
    /// By its default.
    Default,
    /// It was written, and is valid by itself.
    Set(Place),
    /// It was written, and is a mistake already.
    Wrong,
}

impl Mark {
    pub(super) fn place(&self) -> Option<&Place> {
        match self {
            Self::Set(place) => Some(place),
            _ => None,
        }
    }
}

/// One side of a comparison.
struct Side<'a> {
    mark: &'a Mark,
    key: &'a str,
    value: String,
}

fn side<'a>(mark: &'a Mark, key: &'a str, value: Duration) -> Side<'a> {
    Side {
        mark,
        key,
        value: humantime::format_duration(value).to_string(),
    }
}

/// What is checked and fetched so far.
pub(super) struct Checks<'a> {
    outside: &'a Outside<'a>,
    references: BTreeMap<String, Reference>,
    pub(super) mistakes: Vec<Mistake>,
}

impl Checks<'_> {
    /// Where the text of a key says that its value stands; `Ok(None)`: it is the value itself. A
    /// secret is none of these on a command line, where every user of the machine sees it.
    fn referred(
        &mut self,
        place: &Place,
        text: &str,
        is_secret: bool,
    ) -> Result<Option<Reference>, String> {
        match Reference::parse(text) {
            Some(reference) => {
                let reference = reference?;
                self.references.insert(place.key.clone(), reference.clone());
                Ok(Some(reference))
            }
            None if is_secret && !text.is_empty() && matches!(place.origin, Origin::Set(_)) => Err(
                "must not stand on a command line, where every user of this machine sees it: \
                     name where it stands, credential:NAME, file:PATH or env:NAME"
                    .to_owned(),
            ),
            None => Ok(None),
        }
    }

    /// The text of a key that takes a secret, fetched where it stands elsewhere; whether it was.
    ///
    /// # Errors
    /// Says what would be right.
    pub(super) fn content(
        &mut self,
        place: &Place,
        text: String,
        is_secret: bool,
    ) -> Result<(String, bool), String> {
        match self.referred(place, &text, is_secret)? {
            Some(reference) => Ok((self.outside.content(&reference)?, true)),
            None => Ok((text, false)),
        }
    }

    /// The path of a key that takes one, likewise; a path that is written is handed back as it is.
    ///
    /// # Errors
    /// Says what would be right.
    pub(super) fn path(&mut self, place: &Place, text: String) -> Result<String, String> {
        let Some(reference) = self.referred(place, &text, false)? else {
            return Ok(text);
        };
        let path = self.outside.path(&reference)?.into_os_string();
        path.into_string()
            .map_err(|_| "must name a path of UTF-8 text".to_owned())
    }

    /// As [`Checks::set`], of a value that may stand elsewhere and is fetched first.
    pub(super) fn fetch<T, F, U>(
        &mut self,
        given: Option<Given<T>>,
        fetch: impl FnOnce(&mut Self, &Place, T) -> Result<F, String>,
        target: &mut U,
        check: impl FnOnce(F) -> Result<U, String>,
    ) -> Mark {
        let Some(Given { value, place }) = given else {
            return Mark::Default;
        };
        let fetched = value.map(|value| fetch(self, &place, value));
        let value = match fetched {
            Some(Err(right)) => {
                self.mistakes.push(place.mistake(right));
                None
            }
            fetched => fetched.and_then(Result::ok),
        };
        self.set(Some(Given { value, place }), target, check)
    }

    /// Puts a written value in its place if its check takes it.
    pub(super) fn set<T, U>(
        &mut self,
        given: Option<Given<T>>,
        target: &mut U,
        check: impl FnOnce(T) -> Result<U, String>,
    ) -> Mark {
        let Some(Given { value, place }) = given else {
            return Mark::Default;
        };
        match value.map(check) {
            Some(Ok(valid)) => {
                *target = valid;
                Mark::Set(place)
            }
            Some(Err(right)) => {
                self.mistakes.push(place.mistake(right));
                Mark::Wrong
            }
            None => Mark::Wrong,
        }
    }

    /// A rule between two keys, reported at the one that was written; between defaults, or where
    /// one is a mistake already, there is nothing to say.
    fn compare(&mut self, holds: bool, low: &Side<'_>, below: &str, high: &Side<'_>, above: &str) {
        let wrong = |side: &Side<'_>| matches!(side.mark, Mark::Wrong);
        if holds || wrong(low) || wrong(high) {
            return;
        }
        let mistake = match (low.mark.place(), high.mark.place()) {
            (Some(place), _) => {
                place.mistake(format!("must be {below} {} ({})", high.key, high.value))
            }
            (None, Some(place)) => {
                place.mistake(format!("must be {above} {} ({})", low.key, low.value))
            }
            (None, None) => return,
        };
        self.mistakes.push(mistake);
    }

    fn source(&mut self, written: written::Source) -> Source {
        let mut source = Source::default();
        self.set(written.url, &mut source.url, source_url);
        let interval = self.set(written.interval, &mut source.interval, |p| not_zero(p.0));
        let timeout = self.set(written.timeout, &mut source.timeout, |p| not_zero(p.0));
        let stale = self.set(written.stale_after, &mut source.stale_after, |p| {
            not_zero(p.0)
        });
        let every = side(&interval, "source.interval", source.interval);
        self.compare(
            source.timeout < source.interval,
            &side(&timeout, "source.timeout", source.timeout),
            "below",
            &every,
            "above",
        );
        self.compare(
            source.interval < source.stale_after,
            &every,
            "below",
            &side(&stale, "source.stale_after", source.stale_after),
            "above",
        );
        source
    }

    fn kafka(&mut self, written: written::Kafka, config: &mut Config, hostname: &str, name: &str) {
        let kafka = &mut config.kafka;
        self.set(written.brokers, &mut kafka.brokers, brokers);
        self.set(written.topic, &mut kafka.topic, |topic| {
            kafka_name(topic, KAFKA_NAME_MAX)
        });
        self.set(written.group, &mut kafka.group, group);
        self.set(written.start, &mut kafka.start, |start| Ok(start.0));
        self.set(written.instance_id, &mut kafka.instance_id, |text| {
            instance_id(&text, hostname, name)
        });
    }

    fn limits_and_max_bytes(
        &mut self,
        written: written::Limits,
        config: &mut Config,
        max_bytes: Option<Given<Size>>,
    ) {
        let memory = self.set(written.memory, &mut config.limits.memory_bytes, |size| {
            if size.0 < MEMORY_MIN_BYTES {
                return Err("must be at least 32MiB, or the stages starve each other".to_owned());
            }
            Ok(size.0)
        });
        self.set(written.drain, &mut config.limits.drain, |drain| {
            if drain.0 >= SYSTEMD_STOP_TIMEOUT {
                return Err(format!(
                    "must be below systemd's TimeoutStopSec ({}), or its end is cut off",
                    humantime::format_duration(SYSTEMD_STOP_TIMEOUT)
                ));
            }
            not_zero(drain.0)
        });
        let bytes = self.set(max_bytes, &mut config.files.max_bytes, |size| {
            at_least_one(size.0)
        });
        let half = config.limits.memory_bytes / 2;
        let size = |mark, key, bytes: u64| Side {
            mark,
            key,
            value: format!("{bytes} bytes"),
        };
        self.compare(
            config.files.max_bytes <= half,
            &size(&bytes, "files.max_bytes", config.files.max_bytes),
            "at most half of",
            &size(&memory, "limits.memory", config.limits.memory_bytes),
            "at least twice",
        );
    }

    /// All but `max_bytes`; hands back what needs the columns.
    fn files(&mut self, written: written::Files, config: &mut Config) -> Option<Given<String>> {
        let files = &mut config.files;
        self.set(written.max_rows, &mut files.max_rows, at_least_one);
        self.set(written.max_age, &mut files.max_age, |p| not_zero(p.0));
        self.set(written.compression, &mut files.compression, |c| Ok(c.0));
        self.set(written.row_group_rows, &mut files.row_group_rows, |rows| {
            at_least_one(rows)
                .and_then(|rows| usize::try_from(rows).map_err(|error| error.to_string()))
        });
        self.set(written.partition_by, &mut files.partition_by, |words| {
            partition_units(&words.into_list())
                .ok_or_else(|| "must be [], [\"date\"] or [\"date\", \"hour\"]".to_owned())
        });
        written.partition_time
    }

    fn store(&mut self, written: written::Store, config: &mut Config) {
        let topic_bytes = config.kafka.topic.len();
        let store = &mut config.store;
        let url = self.set(written.url, &mut store.location, store_location);
        let folders = [
            (
                "store.data",
                self.set(written.data, &mut store.data, folder),
                store.data.clone(),
            ),
            (
                "store.checkpoints",
                self.set(written.checkpoints, &mut store.checkpoints, folder),
                store.checkpoints.clone(),
            ),
            (
                "store.dead_letters",
                self.set(written.dead_letters, &mut store.dead_letters, folder),
                store.dead_letters.clone(),
            ),
        ];
        for (number, (key, mark, path)) in folders.iter().enumerate() {
            for (other_key, other_mark, other) in &folders[..number] {
                let apart = "in another folder than";
                let named = |mark, key, path: &str| Side {
                    mark,
                    key,
                    value: format!("{path:?}"),
                };
                self.compare(
                    !overlap(path, other),
                    &named(mark, key, path),
                    apart,
                    &named(other_mark, other_key, other),
                    apart,
                );
            }
        }
        let longest = folders
            .iter()
            .map(|(_, _, path)| path.len())
            .max()
            .unwrap_or(0);
        self.mistakes.extend(
            url.place()
                .and_then(|url| too_long(url, &store.location, longest, topic_bytes)),
        );
    }

    fn supervision(&mut self, written: written::Supervision, config: &mut Config) {
        let policy = &mut config.supervision;
        let first = self.set(written.backoff, &mut policy.backoff, |p| not_zero(p.0));
        let longest = self.set(written.backoff_max, &mut policy.backoff_max, |p| {
            not_zero(p.0)
        });
        let window = self.set(written.window, &mut policy.window, |p| not_zero(p.0));
        self.set(written.restarts, &mut policy.restarts, Ok);
        self.set(written.heartbeat, &mut policy.heartbeat, |p| not_zero(p.0));
        let most = side(&longest, "supervision.backoff_max", policy.backoff_max);
        self.compare(
            policy.backoff <= policy.backoff_max,
            &side(&first, "supervision.backoff", policy.backoff),
            "at most",
            &most,
            "at least",
        );
        // With longer pauses no two restarts fall into one window, and it never gives up.
        self.compare(
            policy.backoff_max <= policy.window,
            &most,
            "at most",
            &side(&window, "supervision.window", policy.window),
            "at least",
        );
    }

    fn skips(&mut self, written: Vec<(Place, written::Skip)>) -> Vec<Skip> {
        let mut skips = Vec::with_capacity(written.len());
        for (place, skip) in written {
            let mut valid = Skip {
                topic: String::new(),
                partition: 0,
                first_offset: 0,
            };
            let marks = [
                (
                    "topic",
                    self.set(skip.topic, &mut valid.topic, |topic| {
                        kafka_name(topic, KAFKA_NAME_MAX)
                    }),
                ),
                (
                    "partition",
                    self.set(skip.partition, &mut valid.partition, |number| {
                        i32::try_from(number).map_err(|_| "must be a partition's number".to_owned())
                    }),
                ),
                (
                    "first_offset",
                    self.set(skip.first_offset, &mut valid.first_offset, |offset| {
                        if offset < 0 {
                            return Err("must be an offset, 0 or more".to_owned());
                        }
                        Ok(offset)
                    }),
                ),
            ];
            for (key, mark) in marks {
                if matches!(mark, Mark::Default) {
                    self.mistakes.push(Mistake {
                        origin: place.origin.clone(),
                        key: format!("{}.{key}", place.key),
                        value: None,
                        right: "must be given, as the message about the gap prints it".to_owned(),
                    });
                }
            }
            skips.push(valid);
        }
        skips
    }

    fn web(&mut self, written: written::Web, config: &mut Config) {
        let mut listen = config.web.as_ref().map(|web| web.listen);
        self.set(written.listen, &mut listen, listen_address);
        let mut names = Vec::new();
        self.set(written.hosts, &mut names, hosts);
        config.web = listen.map(|listen| Web {
            listen,
            hosts: names,
        });
    }

    fn rest(&mut self, status: written::Status, log: written::Log, config: &mut Config) {
        self.set(status.socket, &mut config.status.socket, |path| {
            absolute(path, SOCKET_PATH_MAX)
        });
        self.set(log.level, &mut config.log.level, |level| Ok(level.0));
        self.set(log.format, &mut config.log.format, |format| Ok(format.0));
    }
}
