//! Whether brokers answer, and where they can be reached.

use std::time::Duration;

use futures_util::future::join_all;
use rdkafka::error::KafkaError;
use tokio::net::TcpStream;

use super::super::Problem;
use super::super::item::Limit;
use super::client::View;
use crate::config;

/// Of a connection to an address that a broker gives out.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Whether what was heard will not get better by waiting: every broker has refused us.
pub(super) fn is_final(heard: &[String], brokers: usize) -> bool {
    !heard.is_empty() && heard.len() >= brokers.min(2)
}

pub(super) fn no_answer(
    kafka: &config::Kafka,
    error: &KafkaError,
    heard: &[String],
    limit: &Limit,
) -> Problem {
    let answer = match heard {
        [] => format!(
            "{}: no answer within {:.0} s ({error})",
            kafka.brokers.join(", "),
            limit.seconds()
        ),
        heard => heard.join("; "),
    };
    let mend = mend_connection(&answer);
    Problem::new(answer, mend)
}

/// What to do about brokers that do not answer, by librdkafka's words for it.
pub(super) fn mend_connection(words: &str) -> &'static str {
    let words = words.to_lowercase();
    let has = |any: &[&str]| any.iter().any(|word| words.contains(word));
    if has(&["sasl", "authentication"]) {
        "correct sasl.mechanism, sasl.username and sasl.password in [kafka.options]"
    } else if has(&["ssl", "certificate"]) {
        "set security.protocol in [kafka.options] as the listener has it, and ssl.ca.location if its authority is your own"
    } else if has(&["resolve"]) {
        "correct the hosts in kafka.brokers, or this machine's name servers"
    } else if has(&["disconnected", "apiversion"]) {
        "set security.protocol in [kafka.options] as the listener at kafka.brokers has it"
    } else {
        "correct kafka.brokers, start the brokers, or let this machine reach them"
    }
}

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
