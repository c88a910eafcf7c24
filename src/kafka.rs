//! What every Kafka client of this process shares: its properties, and librdkafka's own log in
//! ours.

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::producer::{DeliveryResult, ProducerContext};

use crate::config;

/// The properties that every client starts from: the brokers, the options as the operator wrote
/// them, and what holds for all. The caller adds what its own role needs, after these.
pub fn client_config(kafka: &config::Kafka) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("client.id", "groundtrack");
    for (name, value) in &kafka.options {
        client.set(name, value);
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

/// Hands librdkafka's own log lines and errors to our logger. Enough for a producer too, whose
/// delivery reports are of no interest.
#[derive(Debug, Clone)]
pub struct LogContext {
    log: slog::Logger,
}

impl LogContext {
    /// Writes to this logger, with whatever fields it carries.
    pub fn new(log: slog::Logger) -> Self {
        Self { log }
    }
}

impl ClientContext for LogContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(&self.log, level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&self.log, &error, reason);
    }
}

impl ConsumerContext for LogContext {}

impl ProducerContext for LogContext {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// One line of librdkafka's log, in ours. Its errors are warnings here: it retries by itself, and
/// what is lost for good comes back to the caller as an error of the call.
pub fn log_line(log: &slog::Logger, level: RDKafkaLogLevel, facility: &str, line: &str) {
    use RDKafkaLogLevel::{Alert, Critical, Debug, Emerg, Error, Info, Notice, Warning};
    match level {
        Emerg | Alert | Critical => {
            slog::error!(log, "librdkafka"; "facility" => facility, "text" => line);
        }
        Error | Warning => {
            slog::warn!(log, "librdkafka"; "facility" => facility, "text" => line);
        }
        Notice => slog::info!(log, "librdkafka"; "facility" => facility, "text" => line),
        // "info" of librdkafka tells of each connection that an idle broker closes.
        Info | Debug => slog::debug!(log, "librdkafka"; "facility" => facility, "text" => line),
    }
}

/// An error of a client as a whole, in our log.
pub fn log_error(log: &slog::Logger, error: &KafkaError, reason: &str) {
    slog::warn!(log, "kafka client error"; "error" => %error, "reason" => reason);
}

#[cfg(test)]
mod tests {
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
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
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
}
