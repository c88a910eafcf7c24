//! One short exchange with a server that gives out credentials, under a deadline.

use std::time::Duration;

use reqwest::{RequestBuilder, Response, StatusCode};
use serde::Deserialize;

use super::{Credentials, Lasting, Secret};
use crate::config::NamedFile;
use crate::store::answer::{Answer, with_causes};

/// What such a server answers takes a few kilobytes; no more than this is read.
const BODY_MAX_BYTES: usize = 64 << 10;

/// The metadata's servers are on the machine or next to it. Where there are none nobody answers,
/// and the start is to wait no longer for that.
const METADATA_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Of a whole request to one.
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);

/// STS is far away, behind TLS.
const STS_CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// Of a whole request to it. Two roles fit into one look-up.
const STS_TIMEOUT: Duration = Duration::from_secs(7);

/// A client of servers on this machine or next to it, never by a proxy: that would hand our role
/// to whoever runs it.
pub(super) fn metadata_client() -> Result<reqwest::Client, String> {
    let builder = reqwest::Client::builder()
        .no_proxy()
        .connect_timeout(METADATA_CONNECT_TIMEOUT)
        .timeout(METADATA_TIMEOUT);
    built(builder)
}

/// A client of STS, which trusts what the store's client trusts.
pub(super) fn sts_client(ca_file: Option<&NamedFile>) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder()
        .connect_timeout(STS_CONNECT_TIMEOUT)
        .timeout(STS_TIMEOUT);
    if let Some(file) = ca_file {
        let path = file.path.display();
        let pem = std::fs::read(&file.path).map_err(|error| format!("{path}: {error}"))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem)
            .map_err(|error| format!("{path}: {}", with_causes(&error)))?;
        builder = builder.tls_certs_merge(certificates);
    }
    built(builder)
}

fn built(builder: reqwest::ClientBuilder) -> Result<reqwest::Client, String> {
    builder
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .http1_only()
        // It is used once in minutes, and maybe on another runtime.
        .pool_max_idle_per_host(0)
        .build()
        .map_err(|error| with_causes(&error))
}

/// Why there is no answer that helps.
pub(super) enum Unhelpful {
    /// The server answered this.
    Answered(Answer),
    /// There was no answer, or none that could be read.
    Silent(String),
}

impl Unhelpful {
    /// In words, in which a server may not repeat the secrets that it was sent.
    pub(super) fn words(&self, secrets: &[&Secret]) -> String {
        let mut words = match self {
            Self::Answered(answer) => answer.words(),
            Self::Silent(why) => why.clone(),
        };
        for secret in secrets {
            if !secret.expose().is_empty() {
                words = words.replace(secret.expose(), &secret.to_string());
            }
        }
        words
    }
}

/// The body of a successful answer.
pub(super) async fn ask(request: RequestBuilder) -> Result<Vec<u8>, Unhelpful> {
    let silent = |error: reqwest::Error| Unhelpful::Silent(with_causes(&error.without_url()));
    let mut response = request.send().await.map_err(silent)?;
    let status = response.status();
    let body = body(&mut response).await.map_err(silent)?;
    match status {
        StatusCode::OK => Ok(body),
        _ => Err(Unhelpful::Answered(Answer::new(
            status.as_u16(),
            None,
            &body,
        ))),
    }
}

async fn body(response: &mut Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while body.len() < BODY_MAX_BYTES
        && let Some(chunk) = response.chunk().await?
    {
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Credentials as the metadata's servers write them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    /// `Success`, where there is one.
    code: Option<String>,
    message: Option<String>,
    access_key_id: Option<Secret>,
    secret_access_key: Option<Secret>,
    token: Option<Secret>,
    expiration: Option<String>,
}

/// What such a document says.
///
/// # Errors
/// What is wrong with it, without its content.
pub(super) fn document(body: &[u8]) -> Result<(Credentials, Lasting), String> {
    let document: Document = serde_json::from_slice(body).map_err(|error| {
        format!(
            "the answer is no JSON of credentials (line {})",
            error.line()
        )
    })?;
    if let Some(code) = document.code.filter(|code| code != "Success") {
        let message = document.message.unwrap_or_default();
        return Err(format!("the answer is {code} {message}"));
    }
    let (Some(key_id), Some(secret)) = (document.access_key_id, document.secret_access_key) else {
        return Err("the answer has no AccessKeyId and SecretAccessKey".to_owned());
    };
    let credentials = Credentials {
        key_id,
        secret,
        token: document.token,
    };
    Ok((credentials, lasting(document.expiration.as_deref())?))
}

/// Until when, as AWS writes it; without it they are looked up again now and then.
pub(super) fn lasting(expiration: Option<&str>) -> Result<Lasting, String> {
    let Some(text) = expiration else {
        return Ok(Lasting::UntilChanged);
    };
    chrono::DateTime::parse_from_rfc3339(text)
        .map(|time| Lasting::Until(time.timestamp_millis()))
        .map_err(|_| "the answer's Expiration is no time".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_read_or_named_without_its_content() {
        let whole = br#"{"Code":"Success","AccessKeyId":"a","SecretAccessKey":"s","Token":"t","Expiration":"2026-11-25T01:02:03Z"}"#;
        let (credentials, lasting) = document(whole).unwrap();
        assert_eq!(credentials.key_id.expose(), "a");
        assert_eq!(credentials.token.unwrap().expose(), "t");
        assert_eq!(lasting, Lasting::Until(1_795_568_523_000));
        let short = br#"{"AccessKeyId":"a","SecretAccessKey":"s"}"#;
        assert_eq!(document(short).unwrap().1, Lasting::UntilChanged);
        for (body, says) in [
            ("hush", "no JSON"),
            ("[\"hush\"]", "no JSON"),
            (
                r#"{"Code":"AssumeRoleUnauthorizedAccess","Message":"no trust"}"#,
                "no trust",
            ),
            (r#"{"SecretAccessKey":"hush"}"#, "no AccessKeyId"),
            (
                r#"{"AccessKeyId":"a","SecretAccessKey":"hush","Expiration":"hush"}"#,
                "no time",
            ),
            (
                r#"{"AccessKeyId":"a","SecretAccessKey":["hush"]}"#,
                "no JSON",
            ),
        ] {
            let wrong = document(body.as_bytes()).unwrap_err();
            assert!(wrong.contains(says) && !wrong.contains("hush"), "{wrong}");
        }
    }

    #[test]
    fn a_server_that_repeats_a_secret_is_not_repeated() {
        let body = b"<Error><Code>No</Code><Message>hush is no token</Message></Error>";
        let answered = Unhelpful::Answered(Answer::new(400, None, body));
        let words = answered.words(&[&Secret::new("hush"), &Secret::new("")]);
        assert_eq!(words, "400 No (hidden) is no token");
    }
}
