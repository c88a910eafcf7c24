//! Whether brokers answer, and where they can be reached.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::net::TcpStream;

use super::super::Problem;
use super::super::closer::look_at_brokers;
use super::super::diagnosis::{Peer, SASL_WANTED, of_words, with_words};
use super::super::item::Limit;
use super::super::tls::{Look, Trust};
use super::client::View;
use crate::config;

/// Of a connection to an address that a broker gives out.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Whether what was heard will not get better by waiting: every broker has refused us.
pub(super) fn is_final(heard: &[String], brokers: usize) -> bool {
    !heard.is_empty() && heard.len() >= brokers.min(2)
}

/// Looks at what librdkafka leaves open: why it believes no certificate, or, where it says nothing
/// at all, whether the listener speaks TLS.
///
/// # Errors
/// What is wrong; else what the looks were.
pub(super) fn look_closer(
    kafka: &config::Kafka,
    heard: &[String],
    limit: &Limit,
) -> Result<Vec<(String, Look)>, Problem> {
    let is_open = |words: &String| {
        words.contains("certificate verify failed") || of_words(Peer::Kafka, words).is_none()
    };
    if !heard.is_empty() && !heard.iter().any(is_open) {
        return Ok(Vec::new());
    }
    let (problem, looks) = look_at_brokers(&kafka.brokers, &trust(kafka), speaks_tls(kafka), limit);
    match problem {
        Some(problem) => Err(problem),
        None => Ok(looks),
    }
}

fn speaks_tls(kafka: &config::Kafka) -> bool {
    let protocol = kafka.options.get("security.protocol");
    protocol.is_some_and(|protocol| protocol.expose().to_ascii_lowercase().ends_with("ssl"))
}

/// What librdkafka believes by these options.
fn trust(kafka: &config::Kafka) -> Trust {
    let option = |name: &str| kafka.options.get(name).map(|value| value.expose());
    let is = |name: &str, value: &str| option(name).is_some_and(|found| found == value);
    let file = option("ssl.ca.location").map(|path| PathBuf::from(&*path));
    let pem = option("ssl.ca.pem").map(|pem| pem.into_owned());
    Trust {
        is_system_trusted: file.is_none() && pem.is_none(),
        is_anything_trusted: is("enable.ssl.certificate.verification", "false"),
        checks_name: !is("ssl.endpoint.identification.algorithm", "none"),
        file,
        pem,
    }
}

pub(super) fn no_answer(
    kafka: &config::Kafka,
    error: &KafkaError,
    heard: &[String],
    looks: &[(String, Look)],
) -> Problem {
    if let Some(problem) = heard
        .iter()
        .find_map(|words| of_words(Peer::Kafka, words).map(|problem| with_words(problem, words)))
    {
        return problem;
    }
    if !heard.is_empty() {
        return Problem::new(heard.join("; "), AWAY);
    }
    if ends_our_first_question(kafka, error, looks) {
        return Problem::new(SASL_WANTED.0, SASL_WANTED.1);
    }
    let silent = looks.iter().filter_map(|(broker, look)| match look {
        Look::Away(words) => Some(format!("{broker}: {words}")),
        _ => None,
    });
    let silent: Vec<String> = silent.collect();
    match silent.is_empty() {
        false => Problem::new(silent.join("; "), AWAY),
        true => Problem::new(
            format!("{}: no answer ({error})", kafka.brokers.join(", ")),
            "set security.protocol in [kafka.options] as the listener at kafka.brokers has it (with \
             sasl_ or without), and look at the brokers' log",
        ),
    }
}

/// Whether every broker speaks as it is spoken to, and ends the connection without a word of
/// librdkafka's: that has one only where the end meets it in the midst of sending.
fn ends_our_first_question(
    kafka: &config::Kafka,
    error: &KafkaError,
    looks: &[(String, Look)],
) -> bool {
    let protocol = kafka.options.get("security.protocol");
    let is_sasl =
        protocol.is_some_and(|protocol| protocol.expose().to_ascii_lowercase().starts_with("sasl"));
    let speaks_tls = speaks_tls(kafka);
    let fits = |look: &Look| match look {
        Look::NotTls => !speaks_tls,
        Look::Tls(certificate) => speaks_tls && certificate.fault.is_none(),
        Look::Away(_) | Look::Refuses(_) => false,
    };
    let is_ended = error.rdkafka_error_code() == Some(RDKafkaErrorCode::BrokerTransportFailure);
    !is_sasl && is_ended && !looks.is_empty() && looks.iter().all(|(_, look)| fits(look))
}

const AWAY: &str = "correct kafka.brokers, start the brokers, or let this machine reach them";

/// Those that take no connection.
pub(super) async fn unreachable(addresses: &[String], limit: &Limit) -> Vec<String> {
    let tries = addresses.iter().map(|address| async move {
        let wait = limit.left(CONNECT_TIMEOUT);
        let connecting = tokio::time::timeout(wait, TcpStream::connect(address));
        let is_there = matches!(connecting.await, Ok(Ok(_)));
        (!is_there).then(|| address.clone())
    });
    join_all(tries).await.into_iter().flatten().collect()
}

pub(super) fn judge(view: &View, unreachable: &[String]) -> Result<String, Problem> {
    let cluster = view.cluster_id.as_deref().unwrap_or("unknown");
    let answer = format!("cluster {cluster}, brokers {}", view.brokers.join(", "));
    if unreachable.is_empty() {
        return Ok(answer);
    }
    Err(Problem::new(
        format!("{answer}; no connection to {}", unreachable.join(", ")),
        "start these brokers, or let them give out addresses that this machine reaches (advertised.listeners)",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kafka(protocol: &str) -> config::Kafka {
        let mut kafka = crate::testing::config().kafka;
        let protocol = ("security.protocol".to_owned(), protocol.into());
        kafka.options.extend([protocol]);
        kafka
    }

    /// librdkafka says nothing where the end of the connection comes before it sends.
    #[test]
    fn brokers_that_end_the_connection_without_a_word_ask_for_sasl() {
        let ended = KafkaError::MetadataFetch(RDKafkaErrorCode::BrokerTransportFailure);
        let asked = |protocol: &str, error: &KafkaError, look: Look| {
            let looks = [("b:1".to_owned(), look)];
            no_answer(&kafka(protocol), error, &[], &looks).answer
        };
        let said = asked("plaintext", &ended, Look::NotTls);
        assert!(said.contains("ask for SASL"), "{said}");
        let slow = KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut);
        for other in [
            asked("plaintext", &slow, Look::NotTls),
            asked("sasl_plaintext", &ended, Look::NotTls),
            asked("plaintext", &ended, Look::Away("gone".to_owned())),
            asked("ssl", &ended, Look::NotTls),
        ] {
            assert!(!other.contains("ask for SASL"), "{other}");
        }
    }
}
