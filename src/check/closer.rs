//! A closer look at a server that a client could not speak to, where its words leave open why.

use std::time::Duration;

use super::Problem;
use super::diagnosis::{Peer, of_look, of_words, with_words};
use super::item::Limit;
use super::tls::{Look, Trust, look};
use crate::status::now_ms;

/// Of each step of a look: a server that is there takes milliseconds.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_millis(1_500);

/// What is wrong with a server of HTTP at this address, whose client said these words; `None`: no
/// more than they say.
pub(super) async fn explain(
    peer: Peer,
    address: &str,
    trust: Trust,
    words: &str,
    limit: &Limit,
) -> Option<Problem> {
    let from_words = || of_words(peer, words).map(|problem| with_words(problem, words));
    let Ok(url) = reqwest::Url::parse(address) else {
        return from_words();
    };
    let speaks_tls = url.scheme() == "https";
    let leaves_open: &[&str] = match speaks_tls {
        true => &["SSL", "certificate"],
        // A server of TLS answers plain HTTP with an alert, or with a bare 400.
        false => &["invalid HTTP version", "400"],
    };
    let (host, port) = (url.host_str(), url.port_or_known_default());
    let (Some(host), Some(port)) = (host, port) else {
        return from_words();
    };
    if !leaves_open.iter().any(|word| words.contains(word)) {
        return from_words();
    }
    let host = host.trim_matches(['[', ']']).to_owned();
    let at = format!("{host}:{port}");
    let looking = tokio::task::spawn_blocking(move || look(&host, port, &trust, STEP_TIMEOUT));
    let Ok(Ok(seen)) = limit.wait(looking).await else {
        return from_words();
    };
    of_look(peer, &at, &seen, speaks_tls, now_ms() / 1000).or_else(from_words)
}

/// What is wrong with one of these brokers, and what the looks were. Blocks.
pub(super) fn look_at_brokers(
    brokers: &[String],
    trust: &Trust,
    speaks_tls: bool,
    limit: &Limit,
) -> (Option<Problem>, Vec<(String, Look)>) {
    let mut seen = Vec::new();
    for broker in brokers {
        if limit.cut().is_some() {
            break;
        }
        let Some((host, port)) = broker.rsplit_once(':') else {
            continue;
        };
        let Ok(port) = port.parse() else { continue };
        let host = host.trim_matches(['[', ']']);
        let shown = look(host, port, trust, limit.left(STEP_TIMEOUT));
        let problem = of_look(Peer::Kafka, broker, &shown, speaks_tls, now_ms() / 1000);
        if problem.is_some() {
            return (problem, seen);
        }
        seen.push((broker.clone(), shown));
    }
    (None, seen)
}
