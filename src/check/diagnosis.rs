//! From what a library said, or a second look shows, to what is wrong and how it is mended.

use super::Problem;
use super::tls::{Certificate, Look};

/// Whom it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Kafka,
    Store,
    Source,
}

// What OpenSSL calls X509_V_ERR_.
const NOT_YET_VALID: i32 = 9;
const HAS_EXPIRED: i32 = 10;
/// A certificate that signed itself, or one whose issuer is not among those that are believed.
const NOT_BELIEVED: [i32; 5] = [2, 18, 19, 20, 21];
const HOSTNAME_MISMATCH: i32 = 62;
const IP_ADDRESS_MISMATCH: i32 = 64;

impl Peer {
    /// How TLS is turned on.
    fn with_tls(self) -> &'static str {
        match self {
            Self::Kafka => "set security.protocol in [kafka.options] to ssl or sasl_ssl",
            Self::Store => "write https:// in store.s3.endpoint",
            Self::Source => "write https:// in source.url",
        }
    }

    fn without_tls(self) -> &'static str {
        match self {
            Self::Kafka => {
                "set security.protocol in [kafka.options] to plaintext or sasl_plaintext"
            }
            Self::Store => "write http:// in store.s3.endpoint",
            Self::Source => "write http:// in source.url",
        }
    }

    /// Where an authority of one's own is named.
    fn with_authority(self) -> &'static str {
        match self {
            Self::Kafka => {
                "name the PEM file of its authority as ssl.ca.location in [kafka.options]"
            }
            Self::Store => "name the PEM file of its authority as store.s3.ca_file",
            Self::Source => {
                "add the authority to those of this system: copy its PEM file as .crt to \
                 /usr/local/share/ca-certificates and run update-ca-certificates"
            }
        }
    }

    fn address(self) -> &'static str {
        match self {
            Self::Kafka => "kafka.brokers and in the brokers' advertised.listeners",
            Self::Store => {
                "store.s3.endpoint (with path_style = true the bucket is not in the name)"
            }
            Self::Source => "source.url",
        }
    }

    fn with_own_certificate(self) -> &'static str {
        match self {
            Self::Kafka => {
                "set ssl.certificate.location and ssl.key.location in [kafka.options] to a \
                 certificate that the brokers trust"
            }
            Self::Store | Self::Source => {
                "use an address that asks for no certificate of the client: groundtrack has none \
                 for it"
            }
        }
    }
}

/// What a second look tells, where a client `speaks_tls` or not; `None`: nothing is wrong with it.
/// `at` is the server's address for people, `now_s` this machine's clock in seconds since 1970.
pub(super) fn of_look(
    peer: Peer,
    at: &str,
    look: &Look,
    speaks_tls: bool,
    now_s: i64,
) -> Option<Problem> {
    match look {
        Look::Away(_) => None,
        Look::NotTls if speaks_tls => Some(Problem::new(
            format!("{at} does not speak TLS"),
            peer.without_tls(),
        )),
        Look::NotTls => None,
        Look::Refuses(_) | Look::Tls(_) if !speaks_tls => {
            Some(Problem::new(format!("{at} speaks TLS"), peer.with_tls()))
        }
        Look::Refuses(words) => of_words(peer, words).or_else(|| {
            Some(Problem::new(
                format!("{at} ends the TLS handshake: {words}"),
                "look at the server's log: it says why",
            ))
        }),
        Look::Tls(certificate) => of_certificate(peer, at, certificate, now_s),
    }
}

fn of_certificate(peer: Peer, at: &str, seen: &Certificate, now_s: i64) -> Option<Problem> {
    let fault = seen.fault?;
    let Certificate {
        subject, issuer, ..
    } = seen;
    let (begins, ends, now) = (date(seen.not_before_s), date(seen.not_after_s), date(now_s));
    Some(match fault {
        HAS_EXPIRED => Problem::new(
            format!("{at}: the certificate of {subject} expired at {ends}; it is {now} here"),
            "renew it on the server; if the clock here is wrong, set that",
        ),
        NOT_YET_VALID => Problem::new(
            format!("{at}: the certificate of {subject} is valid from {begins}; it is {now} here"),
            "set the clock of this machine if it is wrong (timedatectl set-ntp true), else use a \
             certificate that is valid",
        ),
        HOSTNAME_MISMATCH | IP_ADDRESS_MISMATCH => Problem::new(
            format!("{at}: its certificate is for {}", or_none(&seen.names)),
            format!(
                "write one of its names in {}, or give the server a certificate for this one",
                peer.address()
            ),
        ),
        fault if NOT_BELIEVED.contains(&fault) => Problem::new(
            match subject == issuer {
                true => {
                    format!("{at}: {subject} is not among the authorities that are believed here")
                }
                false => format!(
                    "{at}: the certificate of {subject} was issued by {issuer}, which is not among \
                     the authorities that are believed here"
                ),
            },
            peer.with_authority(),
        ),
        fault => Problem::new(
            format!(
                "{at}: the certificate of {subject} is not believed (OpenSSL's X509_V_ERR {fault})"
            ),
            "use a certificate that is valid",
        ),
    })
}

fn or_none(names: &[String]) -> String {
    match names {
        [] => "no host at all (it has no subjectAltName)".to_owned(),
        names => names.join(", "),
    }
}

fn date(seconds: i64) -> String {
    let time = chrono::DateTime::from_timestamp(seconds, 0);
    time.map_or_else(
        || seconds.to_string(),
        |time| time.format("%Y-%m-%d %H:%M UTC").to_string(),
    )
}

/// Brokers that speak as they are spoken to, and end the connection all the same: what, and how to
/// mend it.
pub(super) const SASL_WANTED: (&str, &str) = (
    "the brokers end the connection at our first question, as listeners do that ask for SASL",
    "set security.protocol in [kafka.options] to sasl_ssl or sasl_plaintext, with \
     sasl.mechanism, sasl.username and sasl.password",
);

/// What a library's own words tell; `None`: no more than they say.
pub(super) fn of_words(peer: Peer, words: &str) -> Option<Problem> {
    let has = |any: &[&str]| any.iter().any(|word| words.contains(word));
    let mechanisms = words.split_once("broker's supported mechanisms: ");
    let (what, mend): (&str, &str) = if has(&["Unsupported SASL mechanism"]) {
        let offered = mechanisms.map_or("others", |(_, rest)| {
            rest.split_once(" (").map_or(rest, |(names, _)| names)
        });
        return Some(Problem::new(
            format!("the brokers do not take the configured sasl.mechanism, but {offered}"),
            "set sasl.mechanism in [kafka.options] to one that they take",
        ));
    } else if has(&["Request not valid in current SASL state"]) {
        (
            "this listener asks for no SASL",
            "set security.protocol in [kafka.options] to plaintext or ssl, or name the listener \
             that does in kafka.brokers",
        )
    } else if has(&["SASL authentication error", "Authentication failed"]) {
        (
            "the brokers refuse the user or the password",
            "correct sasl.username and sasl.password in [kafka.options]",
        )
    } else if has(&[
        "alert bad certificate",
        "alert certificate required",
        "client SSL authentication might be required",
    ]) {
        (
            "the server asks for a certificate of the client, and does not take what it got",
            peer.with_own_certificate(),
        )
    } else if has(&["unknown ca"]) {
        (
            "the server does not trust the authority of our certificate",
            peer.with_own_certificate(),
        )
    } else if has(&["certificate has expired"]) {
        (
            "the server's certificate has expired",
            "renew it on the server",
        )
    } else if has(&["certificate is not yet valid"]) {
        (
            "the server's certificate is not yet valid by this machine's clock",
            "set the clock, or use a certificate that is valid",
        )
    } else if has(&["hostname mismatch", "IP address mismatch"]) {
        (
            "the server's certificate is for another name",
            "write the name that it is for",
        )
    } else if has(&["certificate verify failed"]) {
        (
            "the server's certificate is not believed here",
            peer.with_authority(),
        )
    } else if has(&["wrong version number", "PLAINTEXT broker listener"]) {
        ("the server does not speak TLS", peer.without_tls())
    } else if has(&[
        "invalid HTTP version parsed",
        "connecting to a SSL listener",
    ]) {
        ("the server speaks TLS", peer.with_tls())
    } else if peer == Peer::Kafka
        && (has(&["might require SASL authentication"])
            || has(&["in state UP"]) && has(&["Broken pipe", "Disconnected", "reset by peer"]))
    {
        SASL_WANTED
    } else if has(&["SignatureDoesNotMatch"]) {
        (
            "the store knows the access key, but not this secret",
            "correct the secret access key",
        )
    } else if has(&["InvalidAccessKeyId"]) {
        (
            "the store does not know the access key",
            "correct the access key's id, or store.s3.endpoint if it is another store's",
        )
    } else if has(&["ExpiredToken"]) {
        (
            "the credentials have expired",
            "renew them where they come from; groundtrack reads them again by itself",
        )
    } else if has(&["InvalidToken"]) {
        (
            "the store does not take the session token",
            "correct the session token, or leave it out with keys that have none",
        )
    } else if has(&[
        "XMinioStorageFull",
        "No space left on device",
        "os error 28",
    ]) {
        (
            "the store is full",
            "make room there; until then nothing lands, and nothing is lost while Kafka keeps it",
        )
    } else if has(&["RequestTimeTooSkewed"]) {
        (
            "this machine's clock is more than 15 minutes off the store's",
            "set the clock: timedatectl set-ntp true",
        )
    } else {
        return None;
    };
    Some(Problem::new(what, mend))
}

/// A problem whose answer also says what the library did.
pub(super) fn with_words(problem: Problem, words: &str) -> Problem {
    Problem {
        answer: format!("{} ({words})", problem.answer),
        ..problem
    }
}

#[cfg(test)]
mod tests;
