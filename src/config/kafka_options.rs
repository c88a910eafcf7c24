//! `[kafka.options]`: any librdkafka property passes, save those that the guarantees need.
//! librdkafka itself says whether it knows a property and takes its value.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::config::{ClientConfig, NativeClientConfig};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use super::defaults::{LONGEST_POLL_WAIT, SESSION_TIMEOUT_DEFAULT};
use super::mistakes::Mistake;
use super::secrets::{self, Secret};
use super::units::OptionValue;
use super::valid::{Config, NamedFile, Property};
use super::validate::Checks;
use super::written::{Given, Place};

/// The properties that are ours, and why.
const REFUSED: &[(&[&str], &str)] = &[
    (
        &["enable.auto.commit", "auto.commit.enable"],
        "left out: an offset is committed only after its batch has landed",
    ),
    (
        &["enable.auto.offset.store"],
        "left out: the checkpoint decides which offset is stored, not what was read",
    ),
    (
        &["auto.offset.reset"],
        "left out: a position that Kafka no longer has stops the partition instead of jumping; \
         kafka.start says where a new group starts",
    ),
    (
        &["isolation.level"],
        "left out: only committed records are landed",
    ),
    (
        &["enable.partition.eof"],
        "left out: with it on, librdkafka may skip a record after a pause or a rebalance",
    ),
    (
        &["allow.auto.create.topics"],
        "left out: the topic is its owner's to create",
    ),
    (
        &["enable.idempotence", "enable.gapless.guarantee"],
        "left out: the publisher is idempotent, so that a retry doubles nothing",
    ),
    (
        &["acks", "request.required.acks"],
        "left out: a sample is published once all in-sync replicas have it",
    ),
    (
        &["queuing.strategy"],
        "left out: samples are sent in the order in which they were taken",
    ),
    (
        &["delivery.report.only.error"],
        "left out: the publisher waits for the report of each delivery",
    ),
    (
        &["transactional.id"],
        "left out: the publisher opens no transactions",
    ),
    (&["group.id"], "given as kafka.group"),
    (&["group.instance.id"], "given as kafka.instance_id"),
    (
        &["bootstrap.servers", "metadata.broker.list"],
        "given as kafka.brokers",
    ),
    (
        &["plugin.library.paths", "interceptors"],
        "left out: foreign code in the process could take records away",
    ),
    (
        &["enabled_events", "opaque", "default_topic_conf"],
        "left out: the client sets it for its own events",
    ),
];

/// Under KIP-848 the broker decides these, and librdkafka refuses to start with them.
const CLASSIC_ONLY: [&str; 4] = [
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "partition.assignment.strategy",
    "group.protocol.type",
];

/// Puts the checked options into the configuration, whose other parts are valid already.
pub(super) fn check(
    written: BTreeMap<String, Given<OptionValue>>,
    checks: &mut Checks<'_>,
    config: &mut Config,
) {
    let mut client = ClientConfig::new();
    let mut places = BTreeMap::new();
    for (name, Given { value, place }) in written {
        let Some(text) = value.map(OptionValue::into_text) else {
            continue;
        };
        let property = match property(&name, text, &place, checks) {
            Ok(property) => property,
            Err(right) => {
                checks.mistakes.push(place.mistake(right));
                continue;
            }
        };
        match refusal(&name, &property) {
            Some(Refusal::Known(right)) => checks.mistakes.push(place.mistake(right)),
            // Its value may be what a misspelt password holds.
            Some(Refusal::Unknown(right)) => checks.mistakes.push(Mistake {
                value: Some(secrets::HIDDEN.to_owned()),
                ..place.mistake(right)
            }),
            None => {
                client.set(name.as_str(), property.expose());
                config.kafka.options.insert(name.clone(), property);
                places.insert(name, place);
            }
        }
    }
    if let Ok(native) = client.create_native_config() {
        let properties = Properties {
            native,
            places: &places,
        };
        properties.check(config, &mut checks.mistakes);
    }
}

/// The value of a property, fetched where it may stand elsewhere and does.
fn property(
    name: &str,
    text: String,
    place: &Place,
    checks: &mut Checks<'_>,
) -> Result<Property, String> {
    if is_path(name) {
        let path = checks.path(place, text)?;
        return Ok(Property::File(NamedFile::new(path)));
    }
    let is_secret = secrets::is_secret(name);
    if !is_secret && !is_identity(name) {
        return Ok(Property::Plain(text));
    }
    let (text, is_fetched) = checks.content(place, text, is_secret)?;
    Ok(match is_secret || is_fetched {
        true => Property::Secret(Secret::new(text)),
        false => Property::Plain(text),
    })
}

/// Whether a property names a file with keys or certificates.
fn is_path(name: &str) -> bool {
    [".location", ".file", ".keytab"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// Whether a property that is no secret is kept beside one: certificates, and who the password is
/// of.
fn is_identity(name: &str) -> bool {
    name.ends_with(".pem") || name == "sasl.username"
}

/// What would be right instead of a property.
enum Refusal {
    /// Of one that librdkafka knows.
    Known(String),
    /// Of one that it does not.
    Unknown(String),
}

/// Why a property may not be given, or not with this value.
fn refusal(name: &str, property: &Property) -> Option<Refusal> {
    let value = property.expose();
    if let Some((_, why)) = REFUSED.iter().find(|(names, _)| names.contains(&name)) {
        return Some(Refusal::Known(format!("must be {why}")));
    }
    // Callbacks are functions, and the names of librdkafka's own unit tests take pointers.
    if name.ends_with("_cb") || name.ends_with("_cmp") || name.starts_with("ut_") {
        return Some(Refusal::Known(
            "must be left out: it is a function inside the client, not a text".to_owned(),
        ));
    }
    if name.contains('\0') || value.contains('\0') {
        return Some(Refusal::Unknown("must not hold a NUL byte".to_owned()));
    }
    let refused = ClientConfig::new()
        .set(name, value.as_ref())
        .create_native_config()
        .err()?;
    Some(match refused {
        KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..) => {
            Refusal::Unknown("must be a property that librdkafka knows".to_owned())
        }
        KafkaError::ClientConfig(_, why, _, _) if !matches!(property, Property::Secret(_)) => {
            Refusal::Known(format!("must be a value that librdkafka takes, but: {why}"))
        }
        _ => Refusal::Known("must be a value that librdkafka takes".to_owned()),
    })
}

/// The options together with librdkafka's defaults.
struct Properties<'a> {
    native: NativeClientConfig,
    places: &'a BTreeMap<String, Place>,
}

impl Properties<'_> {
    fn number(&self, name: &str) -> Option<u64> {
        self.native.get(name).ok()?.parse().ok()
    }

    fn millis(&self, name: &str) -> Option<Duration> {
        self.number(name).map(Duration::from_millis)
    }

    /// The place of the first of these that was given.
    fn place(&self, names: &[&str]) -> Option<&Place> {
        names.iter().find_map(|name| self.places.get(*name))
    }

    /// KIP-848.
    fn is_broker_managed(&self) -> bool {
        self.native.get("group.protocol").as_deref() == Ok("consumer")
    }

    fn check(&self, config: &Config, mistakes: &mut Vec<Mistake>) {
        if self.is_broker_managed() {
            for name in CLASSIC_ONLY {
                mistakes.extend(self.place(&[name]).map(|place| {
                    place.mistake(
                        "must be left out with group.protocol = \"consumer\": the broker decides it",
                    )
                }));
            }
        } else {
            self.check_session(mistakes);
        }
        self.check_poll_interval(config, mistakes);
        self.check_memory(config, mistakes);
        self.check_producer(mistakes);
    }

    fn check_session(&self, mistakes: &mut Vec<Mistake>) {
        let session = self
            .millis("session.timeout.ms")
            .unwrap_or(SESSION_TIMEOUT_DEFAULT);
        let place = self.place(&["session.timeout.ms"]);
        if session <= LONGEST_POLL_WAIT {
            let wait_ms = LONGEST_POLL_WAIT.as_millis();
            mistakes.extend(place.map(|place| {
                place.mistake(format!(
                    "must be above {wait_ms}, the longest wait between two polls: the broker \
                     would evict a member that is well"
                ))
            }));
        }
        let beat = self.millis("heartbeat.interval.ms").unwrap_or_default();
        if beat >= session {
            let place = self.place(&["heartbeat.interval.ms", "session.timeout.ms"]);
            mistakes.extend(place.map(|place| {
                place.mistake(format!(
                    "must leave heartbeat.interval.ms ({}) below session.timeout.ms ({})",
                    beat.as_millis(),
                    session.as_millis()
                ))
            }));
        }
    }

    /// A member that is away longer than this loses its partitions, whatever it is busy with.
    fn check_poll_interval(&self, config: &Config, mistakes: &mut Vec<Mistake>) {
        let name = "max.poll.interval.ms";
        let Some(interval) = self.millis(name) else {
            return;
        };
        let session = self
            .millis("session.timeout.ms")
            .unwrap_or(SESSION_TIMEOUT_DEFAULT);
        let place = self.place(&[name, "session.timeout.ms"]);
        let too_short = [
            (
                "session.timeout.ms",
                session,
                !self.is_broker_managed() && interval < session,
            ),
            (
                "limits.drain",
                config.limits.drain,
                interval <= config.limits.drain,
            ),
            (
                "supervision.heartbeat",
                config.supervision.heartbeat,
                interval <= config.supervision.heartbeat,
            ),
        ];
        if let Some((other, least, _)) = too_short.into_iter().find(|(_, _, short)| *short) {
            mistakes.extend(place.map(|place| {
                place.mistake(format!(
                    "must leave {name} ({}) above {other} ({} ms)",
                    interval.as_millis(),
                    least.as_millis()
                ))
            }));
        }
    }

    /// What librdkafka holds counts in the budget.
    fn check_memory(&self, config: &Config, mistakes: &mut Vec<Mistake>) {
        let most = config.limits.memory_bytes / 2;
        for (names, unit) in [
            (&["queued.max.messages.kbytes"][..], 1024),
            (&["fetch.max.bytes"], 1),
            (&["fetch.message.max.bytes", "max.partition.fetch.bytes"], 1),
        ] {
            let bytes = self.number(names[0]).unwrap_or(0).saturating_mul(unit);
            if bytes > most {
                mistakes.extend(self.place(names).map(|place| {
                    place.mistake(format!(
                        "must be at most {}, half of limits.memory: what librdkafka fetches ahead \
                         counts in it, beside blocks and files",
                        most / unit
                    ))
                }));
            }
        }
        self.check_message_sizes(mistakes);
    }

    fn check_message_sizes(&self, mistakes: &mut Vec<Mistake>) {
        for (larger, smaller, extra_bytes) in [
            ("fetch.max.bytes", "message.max.bytes", 0),
            ("receive.message.max.bytes", "fetch.max.bytes", 512),
        ] {
            // Left out, librdkafka adapts it.
            let Some(place) = self.place(&[larger]) else {
                continue;
            };
            let least = self.number(smaller).unwrap_or(0) + extra_bytes;
            if self.number(larger).is_some_and(|bytes| bytes < least) {
                mistakes
                    .push(place.mistake(format!("must be at least {least}, because of {smaller}")));
            }
        }
    }

    /// What an idempotent producer refuses to start with.
    fn check_producer(&self, mistakes: &mut Vec<Mistake>) {
        let in_flight = ["max.in.flight.requests.per.connection", "max.in.flight"];
        if let Some(place) = self.place(&in_flight)
            && self.number(in_flight[0]).is_some_and(|number| number > 5)
        {
            mistakes.push(
                place.mistake("must be from 1 to 5: an idempotent producer keeps no more in order"),
            );
        }
        let retries = ["message.send.max.retries", "retries"];
        if let Some(place) = self.place(&retries)
            && self.number(retries[0]) == Some(0)
        {
            mistakes.push(
                place.mistake("must be at least 1: the publisher gives no sample up at once"),
            );
        }
    }
}
