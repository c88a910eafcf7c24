//! What an answer of S3 means, the same for both clients.
//!
//! Either library hides the status behind errors of its own, so the lowest layer, which sees the
//! answer itself, notes every refusal beside the request's future.

use std::cell::RefCell;
use std::future::Future;
use std::time::Duration;

use super::StoreError;
use super::credentials::{Blame, Chain, CredentialsError};

/// An answer that is no success.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// `<Code>` of the XML body; empty: none.
    pub(super) code: String,
    /// `<Message>` of the XML body; empty: none.
    pub(super) message: String,
    /// Where the bucket is, if the answer says so.
    pub(super) region: String,
}

/// An error's body is a few hundred bytes; of a larger one no more than this is looked at.
pub(super) const ERROR_BODY_BYTES_MAX: usize = 64 * 1024;

/// An empty listing lets a partition start anew: what is no listing must never pass for one.
pub(super) const NO_LISTING: &str = "the answer is no whole listing";

/// Whether a body is a whole page of a listing that says how to go on.
pub(super) fn is_listing(body: &[u8]) -> bool {
    let holds = |text: &str| memchr::memmem::find(body, text.as_bytes()).is_some();
    holds("</ListBucketResult>")
        && (holds("<IsTruncated>false<")
            || holds("<IsTruncated>true<") && holds("<NextContinuationToken>"))
}

/// Longer words of a server are cut: they end in logs.
const WORDS_CHARS_MAX: usize = 300;

/// What a large body may take besides the time-out.
const EXTRA_PER_MIB: Duration = Duration::from_secs(1);

impl Answer {
    pub(super) fn new(status: u16, region_header: Option<&str>, body: &[u8]) -> Self {
        let body = &body[..body.len().min(ERROR_BODY_BYTES_MAX)];
        let body = String::from_utf8_lossy(body);
        let region = region_header.map(printable);
        Self {
            status,
            code: element(&body, "Code"),
            message: element(&body, "Message"),
            region: region.unwrap_or_else(|| element(&body, "Region")),
        }
    }

    /// What it means to a request on an object in `bucket`.
    pub(super) fn into_error(self, bucket: &str) -> StoreError {
        match (self.status, self.code.as_str()) {
            (412, _) | (304, _) => StoreError::Precondition,
            (_, "NoSuchBucket") => StoreError::Refused(format!(
                "there is no bucket {bucket}: create it, or name another in store.url"
            )),
            (404, _) => StoreError::NotFound,
            (409, _) => StoreError::Conflict,
            (408 | 429, _) | (400, "RequestTimeout") => StoreError::Unknown(self.words()),
            // 501 is a server that does not know the request; it has done nothing.
            (501, _) => StoreError::Refused(self.words()),
            (500.., _) => StoreError::Unknown(self.words()),
            (300..400, _) if self.region.is_empty() => StoreError::Refused(format!(
                "{}: the bucket is elsewhere: set store.s3.region or store.s3.endpoint",
                self.words()
            )),
            (300..400, _) | (400, "AuthorizationHeaderMalformed") if !self.region.is_empty() => {
                StoreError::Refused(format!(
                    "the bucket {bucket} is in another region: set store.s3.region = {:?}",
                    self.region
                ))
            }
            (403, "RequestTimeTooSkewed") => StoreError::Refused(format!(
                "{}: the clock of this machine is wrong",
                self.words()
            )),
            (401 | 403, _) if self.blame() == Some(Blame::Possible) => {
                StoreError::Refused(format!(
                    "{}: the credentials or their permissions do not suffice",
                    self.words()
                ))
            }
            _ if self.blame() == Some(Blame::Certain) => StoreError::Refused(format!(
                "{}: the credentials are not valid, or not any more",
                self.words()
            )),
            _ => StoreError::Refused(self.words()),
        }
    }

    /// The same to a request that was signed by the credentials of `place`, and what else there is
    /// to say of them.
    fn refused(self, bucket: &str, place: &str, more: &str) -> StoreError {
        let is_credentials = self.blame().is_some();
        match self.into_error(bucket) {
            StoreError::Refused(words) if is_credentials => {
                StoreError::Refused(format!("{words} (those of {place}{more})"))
            }
            error => error,
        }
    }

    /// Whether other credentials might be taken.
    pub(super) fn blame(&self) -> Option<Blame> {
        match (self.status, self.code.as_str()) {
            (
                400 | 401 | 403,
                "ExpiredToken"
                | "ExpiredTokenException"
                | "TokenRefreshRequired"
                | "InvalidToken"
                | "InvalidClientTokenId"
                | "InvalidAccessKeyId"
                | "SignatureDoesNotMatch",
            ) => Some(Blame::Certain),
            (403, "RequestTimeTooSkewed") => None,
            // The answer to a HEAD has no body that would say more.
            (400, "") | (401 | 403, _) => Some(Blame::Possible),
            _ => None,
        }
    }

    /// Status, code and message.
    pub(super) fn words(&self) -> String {
        let mut words = self.status.to_string();
        for part in [&self.code, &self.message] {
            if !part.is_empty() {
                words.push(' ');
                words.push_str(part);
            }
        }
        words
    }
}

/// The text of the first element of this name. Errors of S3 are flat and without attributes.
fn element(xml: &str, name: &str) -> String {
    let open = format!("<{name}>");
    xml.find(&open)
        .map(|at| &xml[at + open.len()..])
        .and_then(|rest| rest.split_once('<'))
        .map(|(text, _)| printable(text))
        .unwrap_or_default()
}

fn printable(text: &str) -> String {
    text.trim()
        .chars()
        .take(WORDS_CHARS_MAX)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

tokio::task_local! {
    static NOTED: RefCell<Option<Answer>>;
}

/// Called by the lowest layer, within [`observe`], with every answer that is no success.
pub(super) fn note(answer: Answer) {
    // Outside of `observe` nobody asks.
    let _ = NOTED.try_with(|noted| noted.replace(Some(answer)));
}

/// What became of a request, if it failed.
#[derive(Debug, PartialEq, Eq)]
enum Failed {
    /// The answer says what.
    Answered(Answer),
    /// Nothing does.
    Unknown(String),
}

/// Does one request under its deadline. Whatever error the library makes of it, an answer that was
/// noted decides; without one the request's effect is unknown.
async fn observe<T, E: std::fmt::Display>(
    deadline: Duration,
    request: impl Future<Output = Result<T, E>>,
) -> Result<T, Failed> {
    let request = async {
        let result = request.await;
        let noted = NOTED.with(RefCell::take);
        result.map_err(|error| match noted {
            Some(answer) => Failed::Answered(answer),
            None => Failed::Unknown(printable(&error.to_string())),
        })
    };
    match tokio::time::timeout(deadline, NOTED.scope(RefCell::default(), request)).await {
        Ok(result) => result,
        Err(_) => Err(Failed::Unknown(format!("no answer within {deadline:?}"))),
    }
}

/// Does one request under its deadline, signed by what `chain` holds. Where that is refused and
/// others are found, the request is made once more: a refusal has had no effect.
///
/// # Errors
/// See [`StoreError`]; without credentials nothing is sent, which is a refusal too.
pub(super) async fn signed<T, E: std::fmt::Display, F: Future<Output = Result<T, E>>>(
    chain: &Chain,
    bucket: &str,
    deadline: Duration,
    request: impl Fn() -> F,
) -> Result<T, StoreError> {
    let refused = |error: CredentialsError| StoreError::Refused(error.to_string());
    let found = chain.current().await.map_err(refused)?;
    let answer = match observe(deadline, request()).await {
        Ok(done) => return Ok(done),
        Err(Failed::Unknown(why)) => return Err(StoreError::Unknown(why)),
        Err(Failed::Answered(answer)) => answer,
    };
    let Some(blame) = answer.blame() else {
        return Err(answer.into_error(bucket));
    };
    match chain.renew(&found.credentials, blame).await {
        Ok(true) => match observe(deadline, request()).await {
            Ok(done) => Ok(done),
            Err(Failed::Unknown(why)) => Err(StoreError::Unknown(why)),
            Err(Failed::Answered(answer)) => {
                let place = chain
                    .current()
                    .await
                    .map_or(found.place, |found| found.place);
                Err(answer.refused(bucket, &place, ""))
            }
        },
        Ok(false) => Err(answer.refused(bucket, &found.place, "")),
        Err(error) => Err(answer.refused(bucket, &found.place, &format!("; {error}"))),
    }
}

/// The deadline of a request that sends or may fetch so many bytes.
pub(super) fn deadline(timeout: Duration, body_bytes: usize) -> Duration {
    let mib = u32::try_from(body_bytes >> 20).unwrap_or(u32::MAX);
    timeout.saturating_add(EXTRA_PER_MIB.saturating_mul(mib))
}

/// An error with its causes, which most libraries leave out of the first line.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !words.contains(&more) {
            words.push_str(": ");
            words.push_str(&more);
        }
        cause = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, body: &str) -> StoreError {
        Answer::new(status, None, body.as_bytes()).into_error("b")
    }

    fn coded(status: u16, code: &str) -> StoreError {
        error(
            status,
            &format!(
                "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>why</Message></Error>"
            ),
        )
    }

    #[test]
    fn each_answer_means_what_may_be_done_next() {
        assert_eq!(error(412, ""), StoreError::Precondition);
        assert_eq!(error(404, ""), StoreError::NotFound);
        assert_eq!(coded(404, "NoSuchKey"), StoreError::NotFound);
        assert_eq!(coded(409, "OperationAborted"), StoreError::Conflict);
        for (status, code) in [
            (500, "InternalError"),
            (503, "SlowDown"),
            (504, ""),
            (429, ""),
            (408, ""),
            (400, "RequestTimeout"),
        ] {
            assert!(
                matches!(coded(status, code), StoreError::Unknown(_)),
                "{status} {code}"
            );
        }
        for (status, code) in [
            (400, "InvalidArgument"),
            (401, ""),
            (403, "AccessDenied"),
            (403, "SignatureDoesNotMatch"),
            (405, ""),
            (501, "NotImplemented"),
            (307, "TemporaryRedirect"),
        ] {
            assert!(
                matches!(coded(status, code), StoreError::Refused(_)),
                "{status} {code}"
            );
        }
    }

    #[test]
    fn a_refusal_says_how_to_mend_it() {
        let text = coded(404, "NoSuchBucket").to_string();
        assert!(text.contains("no bucket b"), "{text}");
        let redirect = Answer::new(301, Some("eu-west-1"), b"").into_error("b");
        assert!(
            redirect
                .to_string()
                .contains("store.s3.region = \"eu-west-1\"")
        );
        let malformed = error(
            400,
            "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-north-1</Region></Error>",
        );
        assert!(malformed.to_string().contains("eu-north-1"), "{malformed}");
        let denied = coded(403, "AccessDenied").to_string();
        assert!(denied.contains("403 AccessDenied why"), "{denied}");
    }

    #[test]
    fn no_error_body_breaks_or_floods_the_message() {
        let long = format!("<Code>{}</Code>", "x\n\u{1b}[31m".repeat(10_000));
        for body in [
            long.as_bytes(),
            b"<Code>",
            b"<Code>never closed",
            b"\xff\xfe<Code>\xff</Code>",
            b"<html>nginx</html>",
        ] {
            let text = Answer::new(400, None, body).into_error("b").to_string();
            assert!(
                text.len() < 2_000 && !text.contains(['\n', '\u{1b}']),
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn a_request_without_an_answer_is_unknown() {
        let never = std::future::pending::<Result<(), String>>();
        let late = observe(Duration::from_millis(1), never).await;
        assert!(matches!(late, Err(Failed::Unknown(_))));
        let cut = async { Err::<(), _>("connection closed") };
        let cut = observe(Duration::from_secs(30), cut).await;
        assert_eq!(cut, Err(Failed::Unknown("connection closed".into())));
    }

    #[tokio::test]
    async fn a_noted_answer_outweighs_the_library() {
        let request = async {
            note(Answer::new(412, None, b""));
            Err::<(), _>("something odd")
        };
        let result = observe(Duration::from_secs(30), request).await;
        assert_eq!(result, Err(Failed::Answered(Answer::new(412, None, b""))));
    }

    #[test]
    fn a_large_body_gets_more_time() {
        let timeout = Duration::from_secs(30);
        assert_eq!(deadline(timeout, 1000), timeout);
        assert_eq!(deadline(timeout, 64 << 20), Duration::from_secs(94));
    }
}
