//! What a bucket says of itself: its versioning, its lifecycle, and its clock.
//!
//! Only `check` asks: the service needs none of it, nor the permission.

use rusoto_core::signature::SignedRequest;

use super::S3Store;
use super::wire::{WireError, header};
use crate::status::now_ms;
use crate::store::StoreError;
use crate::store::answer::Answer;

/// A lifecycle has at most 1,000 rules of some hundred bytes.
const DOCUMENT_BYTES_MAX: usize = 4 << 20;

/// What was asked of a bucket, and what the server's clock said meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The answer's `Date`, in milliseconds since 1970 UTC, whole seconds; an answer that refuses
    /// has one too. `None`: there was none.
    pub server_ms: Option<i64>,
    /// This machine's clock half-way between question and answer, likewise.
    pub our_ms: i64,
    /// The document, or why there is none. [`StoreError::NotFound`]: the bucket has no such
    /// setting.
    pub document: Result<String, StoreError>,
}

impl S3Store {
    /// Asks for `versioning` or `lifecycle`. By its own time-out.
    ///
    /// # Errors
    /// [`StoreError`] where there is no answer at all.
    pub async fn setting(&self, name: &'static str) -> Result<Told, StoreError> {
        let path = &format!("/{}", self.wire.bucket);
        self.signed(0, || async move {
            let mut request = SignedRequest::new("GET", "s3", &self.wire.region, path);
            request.add_param(name, "");
            let asked = now_ms();
            let response = self.wire.send(request).await?;
            let our_ms = i64::midpoint(asked, now_ms());
            let server_ms = header(&response, "date").and_then(|date| http_date_ms(&date));
            let status = response.status();
            let region = header(&response, "x-amz-bucket-region");
            let body = super::body(response).await?;
            if body.len() > DOCUMENT_BYTES_MAX {
                return Err(WireError::Http("the answer is too large".to_owned()));
            }
            let document = match status.is_success() {
                true => Ok(String::from_utf8_lossy(&body).into_owned()),
                false => Err(Answer::new(status.as_u16(), region.as_deref(), &body)
                    .into_error(&self.wire.bucket)),
            };
            Ok(Told {
                server_ms,
                our_ms,
                document,
            })
        })
        .await
    }
}

/// `Wed, 25 Nov 2026 03:10:28 GMT`
fn http_date_ms(text: &str) -> Option<i64> {
    let time = chrono::DateTime::parse_from_rfc2822(text).ok()?;
    Some(time.timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_an_answer_is_read() {
        let ms = http_date_ms("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(ms, Some(784_111_777_000));
        assert_eq!(http_date_ms("yesterday"), None);
    }
}
