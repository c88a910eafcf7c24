//! What an answer of the source is worth: pure, from status, headers and body to a verdict.

use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde_json::Value;

/// Why a poll gave nothing to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The host's name has no address.
    Dns,
    /// Nobody takes the connection.
    Connect,
    /// The connection is not trusted, or does not speak TLS.
    Tls,
    /// No whole answer in time.
    Timeout,
    /// Too many redirects.
    Redirect,
    /// A status other than 2xx, whatever the body says.
    Status,
    /// The body is larger than the limit.
    TooLarge,
    /// The answer broke off before its end.
    Cut,
    /// The body is no JSON.
    NotJson,
    /// JSON whose `message` is not `success`.
    NotSuccess,
    /// Anything else.
    Other,
}

impl FailureKind {
    /// Its name in `groundtrack_polls_total{result}` and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Redirect => "redirect",
            Self::Status => "status",
            Self::TooLarge => "too_large",
            Self::Cut => "cut",
            Self::NotJson => "not_json",
            Self::NotSuccess => "not_success",
            Self::Other => "other",
        }
    }
}

/// A poll that gave nothing to publish.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", kind.as_str())]
pub struct PollFailure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// More, in words; may quote the source, at most [`QUOTED_CHARS`] characters of it.
    pub detail: String,
}

impl PollFailure {
    /// A failure of this kind.
    pub fn new(kind: FailureKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
        }
    }
}

/// As much of a hostile text is quoted in a log line: enough to know it by.
pub const QUOTED_CHARS: usize = 80;

/// What an answer is worth.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// To be published as it is. Carries its `timestamp`, whatever that is, by which a frozen
    /// source is known; `None`: it has none, and the whole body stands for it.
    Success(Option<Value>),
    /// Never published.
    Failure(PollFailure),
}

/// Judges a whole answer. A success is a 2xx with one JSON document; if that is an object with a
/// `message` that is text, as Open Notify's is, the text must be `success`.
pub fn judge(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Verdict {
    if !status.is_success() {
        return failure(FailureKind::Status, format!("the source answered {status}"));
    }
    let value: Value = match serde_json::from_slice(body) {
        Ok(value) => value,
        Err(error) if error.is_eof() && !body.trim_ascii().is_empty() => {
            return failure(FailureKind::Cut, "the JSON ends before its end");
        }
        Err(error) => {
            let kind = headers
                .get(CONTENT_TYPE)
                .and_then(|value| value.to_str().ok())
                .map_or_else(|| "none".to_owned(), quoted);
            return failure(
                FailureKind::NotJson,
                format!("{error}; content type: {kind}"),
            );
        }
    };
    match value.get("message").and_then(Value::as_str) {
        None | Some("success") => Verdict::Success(value.get("timestamp").cloned()),
        Some(message) => failure(
            FailureKind::NotSuccess,
            format!("its message is {}", quoted(message)),
        ),
    }
}

/// Hostile text, shortened and escaped.
fn quoted(text: &str) -> String {
    let short: String = text.chars().take(QUOTED_CHARS).collect();
    format!("{short:?}")
}

fn failure(kind: FailureKind, detail: impl Into<String>) -> Verdict {
    Verdict::Failure(PollFailure::new(kind, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, body: &[u8]) -> Option<FailureKind> {
        match judge(
            StatusCode::from_u16(status).unwrap(),
            &HeaderMap::new(),
            body,
        ) {
            Verdict::Success(_) => None,
            Verdict::Failure(failure) => Some(failure.kind),
        }
    }

    #[test]
    fn an_answer_of_open_notify_is_a_success_with_its_timestamp() {
        let body = br#"{"iss_position": {"longitude": "1.0", "latitude": "2.0"}, "message": "success", "timestamp": 1735520478}"#;
        assert_eq!(
            judge(StatusCode::OK, &HeaderMap::new(), body),
            Verdict::Success(Some(Value::from(1_735_520_478)))
        );
    }

    #[test]
    fn any_json_without_a_message_is_a_success() {
        for body in ["{}", "[1, 2]", "7", "null", r#"{"message": 5}"#, " {} \n"] {
            assert_eq!(kind(200, body.as_bytes()), None, "{body}");
        }
        assert_eq!(kind(201, b"{}"), None);
    }

    #[test]
    fn what_is_not_a_success_has_its_kind() {
        use FailureKind::{Cut, NotJson, NotSuccess, Status};
        for (status, body, expected) in [
            (503, r#"{"message": "error", "reason": "x"}"#, Status),
            (500, "<html></html>", Status),
            (404, r#"{"message": "success"}"#, Status),
            (304, "", Status),
            (200, r#"{"message": "error"}"#, NotSuccess),
            (200, r#"{"message": "Success"}"#, NotSuccess),
            (200, "<html></html>", NotJson),
            (200, "", NotJson),
            (200, "{} {}", NotJson),
            (200, r#"{"a": nan}"#, NotJson),
            (200, r#"{"message": "succ"#, Cut),
            (200, "[1, ", Cut),
        ] {
            assert_eq!(kind(status, body.as_bytes()), Some(expected), "{body}");
        }
        assert_eq!(kind(200, b"\"\xff\""), Some(NotJson));
        assert_eq!(kind(200, "[".repeat(100_000).as_bytes()), Some(NotJson));
    }

    #[test]
    fn hostile_text_is_shortened_and_escaped() {
        let body = format!(r#"{{"message": "\u001b[31m{}"}}"#, "x".repeat(10_000));
        let Verdict::Failure(failure) = judge(StatusCode::OK, &HeaderMap::new(), body.as_bytes())
        else {
            panic!("a success");
        };
        assert!(failure.detail.len() < 200);
        assert!(!failure.detail.contains('\u{1b}'));
    }
}
