//! Asking the source over HTTP: one request, with its limits, and what went wrong in one word.

use std::error::Error as _;
use std::net::IpAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, HeaderMap};
use reqwest::{Client, StatusCode, Url, redirect};

use super::answer::{FailureKind, PollFailure};
use crate::config;

/// The largest body, after decompression: thousands of times a position, and still below what
/// brokers take by default (1,048,588 bytes with the record's overhead).
pub(crate) const MAX_BODY_BYTES: usize = 1024 * 1024 - 4096;

/// Redirects followed: one to another host and one to another scheme happen, more is a loop.
const MAX_REDIRECTS: usize = 5;

/// A connection is there within this or not at all; below any sensible time-out of the whole.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// An HTTP client for one source.
#[derive(Debug)]
pub(crate) struct HttpSource {
    client: Client,
    url: Url,
}

/// A whole answer, whatever it says.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl HttpSource {
    /// A client with the limits of this module and the source's time-out.
    pub(crate) fn new(source: &config::Source) -> Result<Self, String> {
        let url = Url::parse(&source.url).map_err(|error| format!("source.url: {error}"))?;
        let mut builder = Client::builder()
            .user_agent(concat!("groundtrack/", env!("CARGO_PKG_VERSION")))
            .timeout(source.timeout)
            .connect_timeout(CONNECT_TIMEOUT.min(source.timeout))
            .redirect(redirect::Policy::limited(MAX_REDIRECTS))
            // Servers commonly close an idle connection after 5 s, which is when the next poll
            // would use it: a race that would look like a cut answer.
            .pool_max_idle_per_host(0)
            .gzip(true);
        if is_loopback(&url) {
            builder = builder.no_proxy();
        }
        let client = builder
            .build()
            .map_err(|error| format!("no HTTP client: {}", chain(&error)))?;
        Ok(Self { client, url })
    }

    /// The address without credentials and without its query, where keys are wont to be.
    pub(crate) fn name(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        // Both fail only for an address that cannot have credentials.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.to_string()
    }

    /// Asks once. Takes no longer than the source's time-out.
    pub(crate) async fn ask(&self) -> Result<Answer, PollFailure> {
        let mut response = self
            .client
            .get(self.url.clone())
            .header(ACCEPT, "application/json")
            .send()
            .await
            .map_err(failure)?;
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(failure)? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(PollFailure::new(
                    FailureKind::TooLarge,
                    format!("the body is larger than {MAX_BODY_BYTES} bytes"),
                ));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer {
            status: response.status(),
            headers: std::mem::take(response.headers_mut()),
            body: body.freeze(),
        })
    }
}

/// A proxy of the environment's is not asked for what is on this machine.
fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        host == "localhost"
            || host
                .trim_matches(['[', ']'])
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    })
}

fn failure(error: reqwest::Error) -> PollFailure {
    // The address may hold credentials.
    let error = error.without_url();
    let kind = if error.is_dns() {
        FailureKind::Dns
    } else if error.is_timeout() {
        FailureKind::Timeout
    } else if error.is_redirect() {
        FailureKind::Redirect
    } else if is_tls(&error) {
        FailureKind::Tls
    } else if error.is_connect() {
        FailureKind::Connect
    } else if error.is_body() || error.is_decode() || error.is_request() {
        FailureKind::Cut
    } else {
        FailureKind::Other
    };
    PollFailure::new(kind, chain(&error))
}

fn is_tls(error: &reqwest::Error) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.is::<native_tls::Error>() {
            return true;
        }
        source = cause.source();
    }
    false
}

/// An error with all its causes, in one line.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::open_notify::{Failure, Simulator};

    fn source(url: &str) -> HttpSource {
        HttpSource::new(&config::Source {
            url: url.to_owned(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(4),
            stale_after: Duration::from_secs(60),
        })
        .unwrap()
    }

    fn simulator() -> Simulator {
        Simulator::start(&slog::Logger::root(slog::Discard, slog::o!())).unwrap()
    }

    async fn kind(url: &str) -> FailureKind {
        source(url).ask().await.unwrap_err().kind
    }

    #[tokio::test]
    async fn the_body_comes_byte_for_byte_and_failures_have_their_kind() {
        let simulator = simulator();
        simulator.fail(Failure::Frozen);
        let url = simulator.url();
        let first = source(&url).ask().await.unwrap();
        let second = source(&url).ask().await.unwrap();
        assert_eq!(first.status, 200);
        assert!(first.body.starts_with(b"{\""));
        assert_eq!(first.body, second.body);
        for (failure, expected) in [
            (Failure::Cut, FailureKind::Cut),
            (Failure::TooLarge, FailureKind::TooLarge),
            (Failure::RedirectLoop, FailureKind::Redirect),
        ] {
            simulator.fail(failure);
            assert_eq!(kind(&url).await, expected);
        }
        simulator.fail(None);
        let plain = url.replace("http://", "https://");
        assert_eq!(kind(&plain).await, FailureKind::Tls);
        simulator.stop();
        assert_eq!(kind(&url).await, FailureKind::Connect);
        assert_eq!(kind("http://nowhere.invalid/").await, FailureKind::Dns);
    }

    #[tokio::test]
    async fn an_answer_that_never_comes_is_a_timeout() {
        let simulator = simulator();
        simulator.fail(Failure::Timeout);
        let source = HttpSource::new(&config::Source {
            url: simulator.url(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(200),
            stale_after: Duration::from_secs(60),
        })
        .unwrap();
        assert_eq!(source.ask().await.unwrap_err().kind, FailureKind::Timeout);
    }

    #[tokio::test]
    async fn neither_the_name_nor_an_error_shows_credentials() {
        let source = source("http://user:secret@127.0.0.1:1/path?appid=secret#secret");
        assert_eq!(source.name(), "http://127.0.0.1:1/path");
        let error = source.ask().await.unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
