//! What every Kafka client of this process shares: its properties, and librdkafka's own log in
//! ours.

pub mod retention;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};

use crate::config;
use crate::logging::{Repeated, Say};

/// The properties that every client starts from: the brokers, the options as the operator wrote
/// them, and what holds for all. The caller adds what its own role needs, after these.
pub fn client_config(kafka: &config::Kafka) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("client.id", "groundtrack");
    for (name, value) in &kafka.options {
        client.set(name, value.expose());
    }
    client.set("bootstrap.servers", kafka.brokers.join(","));
    // The topic's partitions and retention are its owner's choice: a client that creates it by a
    // typing error or before its owner chooses for him.
    client.set("allow.auto.create.topics", "false");
    if let Some(path) = ca_path(&client) {
        client.set("ssl.ca.location", path);
    }
    // librdkafka filters before it calls us; ours filters again by the level set at run time.
    client.set_log_level(RDKafkaLogLevel::Info);
    client
}

/// Where the system keeps its CA certificates, for a client that speaks TLS and was not told: the
/// OpenSSL that is compiled in knows of none.
fn ca_path(client: &ClientConfig) -> Option<String> {
    let speaks_tls = client
        .get("security.protocol")
        .is_some_and(|protocol| protocol.to_ascii_lowercase().contains("ssl"));
    let told = ["ssl.ca.location", "ssl.ca.pem"]
        .iter()
        .any(|name| client.get(name).is_some());
    if !speaks_tls || told {
        return None;
    }
    let found = openssl_probe::probe();
    let path = found
        .cert_file
        .or_else(|| found.cert_dir.into_iter().next())?;
    path.into_os_string().into_string().ok()
}

/// Whether an error of a partition says that what is there cannot be read: a checksum, a
/// compression or a format that is wrong.
pub fn is_damage(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::BadMessage
            | RDKafkaErrorCode::InvalidMessage
            | RDKafkaErrorCode::BadCompression
            | RDKafkaErrorCode::InvalidMessageSize
            | RDKafkaErrorCode::NotImplemented
    )
}

/// Hands librdkafka's own log lines and errors to our logger. Enough for a producer too, whose
/// delivery reports are of no interest.
#[derive(Debug)]
pub struct LogContext {
    log: KafkaLog,
    /// The last reason for which no broker could be spoken to, and when it was given.
    complaint: Mutex<Option<(Instant, String)>>,
}

/// librdkafka tries again, and complains again, at least every 30 s.
const COMPLAINT_HOLDS: Duration = Duration::from_secs(60);

impl LogContext {
    /// Writes to this logger, with whatever fields it carries.
    pub fn new(log: slog::Logger) -> Self {
        Self {
            log: KafkaLog::new(log),
            complaint: Mutex::default(),
        }
    }

    /// Why no broker can be spoken to, as far as librdkafka has said so lately: the error of a
    /// call says no more than that it had no answer.
    pub fn complaint(&self) -> Option<String> {
        let complaint = self.complaint.lock();
        let complaint = complaint.unwrap_or_else(PoisonError::into_inner);
        let (at, reason) = complaint.as_ref()?;
        (at.elapsed() < COMPLAINT_HOLDS).then(|| reason.clone())
    }
}

impl ClientContext for LogContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.log.line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(&error, reason);
        let is_of_connecting = matches!(
            error.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::Authentication
                    | RDKafkaErrorCode::SSL
                    | RDKafkaErrorCode::Resolve
                    | RDKafkaErrorCode::BrokerTransportFailure
            )
        );
        if is_of_connecting {
            // How long it took differs each time.
            let reason = reason.split(" (after ").next().unwrap_or(reason);
            let complaint = (Instant::now(), reason.to_owned());
            *self
                .complaint
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(complaint);
        }
    }
}

impl ConsumerContext for LogContext {}

impl ProducerContext for LogContext {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// Where librdkafka lists what was set, with `debug = "conf"`.
const CONFIGURATION: &str = "CONF";

/// Hides what librdkafka does not by itself, as the extensions of OAuth.
fn without_secret(line: &str) -> Cow<'_, str> {
    match line.split_once(" = ") {
        Some((name, value)) => {
            format!("{name} = {}", config::presentable(name.trim(), value)).into()
        }
        None => line.into(),
    }
}

/// A kind of warning that did not come for so long has ended, and starts anew when it comes again.
/// librdkafka tells of no end (the actor that waited does), but while a broker is away it repeats
/// itself at least every 30 s.
const QUIET: Duration = Duration::from_secs(120);

/// The words of one client of librdkafka's in our log. While no broker answers it says so several
/// times a second: each kind of warning is said when it starts and then at growing intervals, and
/// at debug level in between.
#[derive(Debug)]
pub struct KafkaLog {
    log: slog::Logger,
    /// By facility or error code, of which librdkafka has a few dozen.
    kinds: Mutex<HashMap<String, Kind>>,
}

#[derive(Debug)]
struct Kind {
    repeated: Repeated,
    last: Instant,
}

impl KafkaLog {
    /// Writes to this logger, with whatever fields it carries.
    pub fn new(log: slog::Logger) -> Self {
        Self {
            log,
            kinds: Mutex::default(),
        }
    }

    /// One line of librdkafka's own log. Its errors are warnings here: it retries by itself, and
    /// what is lost for good comes back to the caller as an error of the call.
    pub fn line(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        let line = &*match facility {
            CONFIGURATION => without_secret(line),
            _ => line.into(),
        };
        use RDKafkaLogLevel::{Alert, Critical, Debug, Emerg, Error, Info, Notice, Warning};
        match level {
            Emerg | Alert | Critical => {
                slog::error!(self.log, "librdkafka"; "facility" => facility, "text" => line);
            }
            Error | Warning => match self.say(facility, Instant::now()) {
                Some(Say::Still { count, lasting }) => {
                    slog::warn!(self.log, "librdkafka, again"; "facility" => facility,
                        "text" => line, "failures" => count, "seconds" => lasting.as_secs());
                }
                Some(_) => {
                    slog::warn!(self.log, "librdkafka"; "facility" => facility, "text" => line);
                }
                None => {
                    slog::debug!(self.log, "librdkafka"; "facility" => facility, "text" => line);
                }
            },
            Notice => slog::info!(self.log, "librdkafka"; "facility" => facility, "text" => line),
            // "info" of librdkafka tells of each connection that an idle broker closes.
            Info | Debug => {
                slog::debug!(self.log, "librdkafka"; "facility" => facility, "text" => line);
            }
        }
    }

    /// An error of the client as a whole.
    pub fn error(&self, error: &KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        let say = match code {
            // Its own log has the same as a line.
            Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::Resolve) => None,
            _ => self.say(&format!("{code:?}"), Instant::now()),
        };
        match say {
            Some(Say::Still { count, lasting }) => {
                slog::warn!(self.log, "kafka client error, again"; "error" => %error,
                    "reason" => reason, "failures" => count, "seconds" => lasting.as_secs());
            }
            Some(_) => {
                slog::warn!(self.log, "kafka client error"; "error" => %error, "reason" => reason);
            }
            None => {
                slog::debug!(self.log, "kafka client error"; "error" => %error,
                    "reason" => reason);
            }
        }
    }

    /// What is to be said of a warning of this kind that came now, if anything.
    fn say(&self, kind: &str, now: Instant) -> Option<Say> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = kinds.entry(kind.to_owned()).or_insert_with(|| Kind {
            repeated: Repeated::default(),
            last: now,
        });
        if now.saturating_duration_since(kind.last) >= QUIET {
            kind.repeated = Repeated::default();
        }
        kind.last = now;
        kind.repeated.failed(now)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use slog::OwnedKVList;

    use super::*;

    fn with(options: &[(&str, &str)]) -> ClientConfig {
        let kafka = config::Kafka {
            brokers: vec!["a:1".to_owned(), "b:2".to_owned()],
            topic: "t".to_owned(),
            group: "g".to_owned(),
            instance_id: None,
            start: config::Start::Earliest,
            options: options
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).into()))
                .collect(),
        };
        client_config(&kafka)
    }

    #[test]
    fn the_operators_options_reach_the_client_but_no_topic_is_ever_created() {
        let client = with(&[("client.rack", "r1"), ("allow.auto.create.topics", "true")]);
        assert_eq!(client.get("bootstrap.servers"), Some("a:1,b:2"));
        assert_eq!(client.get("client.rack"), Some("r1"));
        assert_eq!(client.get("allow.auto.create.topics"), Some("false"));
        assert_eq!(client.get("ssl.ca.location"), None);
    }

    #[test]
    fn a_ca_file_of_the_operators_is_kept() {
        let client = with(&[
            ("security.protocol", "SASL_SSL"),
            ("ssl.ca.location", "/own.pem"),
        ]);
        assert_eq!(client.get("ssl.ca.location"), Some("/own.pem"));
    }

    #[test]
    fn tls_without_a_ca_file_trusts_what_the_system_trusts() {
        let client = with(&[("security.protocol", "ssl")]);
        let found = openssl_probe::probe();
        let any = found.cert_file.is_some() || !found.cert_dir.is_empty();
        assert_eq!(client.get("ssl.ca.location").is_some(), any);
    }

    /// Counts what is written at warning or above.
    #[derive(Debug, Clone, Default)]
    struct Warnings(Arc<AtomicUsize>);

    impl slog::Drain for Warnings {
        type Ok = ();
        type Err = slog::Never;

        fn log(&self, record: &slog::Record<'_>, _: &OwnedKVList) -> Result<(), slog::Never> {
            if record.level().is_at_least(slog::Level::Warning) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        }
    }

    #[test]
    fn what_librdkafka_lists_is_without_secrets() {
        for (line, shown) in [
            (
                "  sasl.oauthbearer.extensions = a=hush",
                "  sasl.oauthbearer.extensions = (hidden)",
            ),
            ("  client.rack = r = 1", "  client.rack = r = 1"),
            ("Client configuration:", "Client configuration:"),
        ] {
            assert_eq!(without_secret(line), shown);
        }
    }

    #[test]
    fn the_reason_why_no_broker_is_reached_is_kept() {
        let context = LogContext::new(slog::Logger::root(slog::Discard, slog::o!()));
        assert_eq!(context.complaint(), None);
        let refused = KafkaError::Global(RDKafkaErrorCode::Authentication);
        context.error(
            refused,
            "sasl_ssl://a:1: invalid credentials (after 3ms in state AUTH_REQ)",
        );
        let down = KafkaError::Global(RDKafkaErrorCode::AllBrokersDown);
        context.error(down, "1/1 brokers are down");
        let said = context.complaint();
        assert_eq!(said.as_deref(), Some("sasl_ssl://a:1: invalid credentials"));
    }

    #[test]
    fn an_outage_that_librdkafka_repeats_is_one_line_of_each_kind() {
        let warnings = Warnings::default();
        let log = KafkaLog::new(slog::Logger::root(warnings.clone(), slog::o!()));
        for _ in 0..1_000 {
            log.line(RDKafkaLogLevel::Error, "FAIL", "connection refused");
            let refused = KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure);
            log.error(&refused, "connection refused");
            let down = KafkaError::Global(RDKafkaErrorCode::AllBrokersDown);
            log.error(&down, "1/1 brokers are down");
        }
        assert_eq!(warnings.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn an_outage_after_a_quiet_time_is_said_anew() {
        let log = KafkaLog::new(slog::Logger::root(slog::Discard, slog::o!()));
        let start = Instant::now();
        let second = Duration::from_secs(1);
        assert_eq!(log.say("FAIL", start), Some(Say::Started));
        assert_eq!(log.say("FAIL", start + 30 * second), None);
        assert_eq!(log.say("AllBrokersDown", start), Some(Say::Started));
        assert_eq!(log.say("FAIL", start + 150 * second), Some(Say::Started));
    }
}
