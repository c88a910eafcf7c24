//! S3 by rusoto: the default client.
//!
//! `PutObjectRequest` knows no conditions, and the typed answers panic on headers that a server
//! got wrong; so objects are spoken of by rusoto's signed requests, and only listings by
//! `rusoto_s3` itself. The payload's SHA-256 is part of every signature: a body damaged on its
//! way is refused by the server.

pub mod settings;
mod wire;

use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use rusoto_core::Client;
use rusoto_core::signature::SignedRequest;
use rusoto_s3::{ListObjectsV2Request, S3};

use super::answer::{NO_LISTING, deadline, signed, with_causes};
use super::credentials::{Chain, Observer};
use super::endpoint::Prefix;
use super::{
    Condition, ETag, Listed, Object, ObjectStore, OpenError, Page, StoreError, check_key, no_part,
    part_of,
};
use crate::config::{self, Encryption};
use wire::{Wire, WireError, etag, header};

/// Below the 20 s or so after which servers close idle connections.
pub(super) const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// A server that does not take a connection by then is away; the time-out holds besides.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A bucket, spoken to by rusoto.
#[derive(Debug)]
pub struct S3Store {
    wire: Wire,
    prefix: Prefix,
    timeout: Duration,
    /// Added to every put: encryption and storage class.
    put_headers: Vec<(&'static str, String)>,
    page_keys: Option<i64>,
}

impl S3Store {
    /// Sends nothing yet.
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn open(
        s3: &config::S3,
        bucket: &str,
        prefix: &str,
        observer: Option<Observer>,
    ) -> Result<Self, OpenError> {
        Self::with_chain(s3, bucket, prefix, Arc::new(Chain::new(s3, observer)))
    }

    pub(super) fn with_chain(
        s3: &config::S3,
        bucket: &str,
        prefix: &str,
        credentials: Arc<Chain>,
    ) -> Result<Self, OpenError> {
        Ok(Self {
            wire: Wire::new(s3, bucket, credentials)?,
            prefix: Prefix::new(prefix),
            timeout: s3.timeout,
            put_headers: put_headers(s3),
            page_keys: None,
        })
    }

    /// Listings come in pages of so many keys; for tests.
    #[doc(hidden)]
    pub fn with_page_keys(mut self, keys: u16) -> Self {
        self.page_keys = Some(keys.into());
        self
    }

    /// Of a key that was checked.
    fn request(&self, method: &str, key: &str) -> SignedRequest {
        let key = self.prefix.put_before(key);
        let path = format!("/{}/{key}", self.wire.bucket);
        SignedRequest::new(method, "s3", &self.wire.region, &path)
    }

    fn put_request(&self, key: &str, body: &Bytes, condition: Option<&Condition>) -> SignedRequest {
        let mut request = self.request("PUT", key);
        match condition {
            Some(Condition::Absent) => request.add_header("if-none-match", "*"),
            Some(Condition::Matches(etag)) => request.add_header("if-match", &etag.0),
            None => {}
        }
        for (name, value) in &self.put_headers {
            request.add_header(name, value);
        }
        request.set_payload(Some(body.clone()));
        request
    }

    async fn page(
        &self,
        prefix: &str,
        continuation_token: Option<String>,
    ) -> Result<rusoto_s3::ListObjectsV2Output, StoreError> {
        let client = Client::new_not_signing(self.wire.clone());
        let client = rusoto_s3::S3Client::new_with_client(client, self.wire.region.clone());
        let request = &ListObjectsV2Request {
            bucket: self.wire.bucket.clone(),
            prefix: Some(self.prefix.put_before(prefix)),
            continuation_token,
            max_keys: self.page_keys,
            ..ListObjectsV2Request::default()
        };
        let client = &client;
        self.signed(0, || async move {
            // rusoto's parser panics on numbers that are none.
            match AssertUnwindSafe(client.list_objects_v2(request.clone()))
                .catch_unwind()
                .await
            {
                Ok(result) => result.map_err(|error| WireError::Http(error.to_string())),
                Err(_) => Err(WireError::Http(NO_LISTING.to_owned())),
            }
        })
        .await
    }

    async fn signed<T, F: Future<Output = Result<T, WireError>>>(
        &self,
        body_bytes: usize,
        request: impl Fn() -> F,
    ) -> Result<T, StoreError> {
        let wire = &self.wire;
        let deadline = deadline(self.timeout, body_bytes);
        signed(&wire.credentials, &wire.bucket, deadline, request).await
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn put(
        &self,
        key: &str,
        body: Bytes,
        condition: Option<Condition>,
    ) -> Result<ETag, StoreError> {
        check_key(key)?;
        let (body, condition) = (&body, condition.as_ref());
        self.signed(body.len(), || async move {
            let request = self.put_request(key, body, condition);
            let response = self.wire.exchange(request).await?;
            etag(&response)
        })
        .await
    }

    async fn get(&self, key: &str) -> Result<Object, StoreError> {
        check_key(key)?;
        self.signed(0, || async move {
            let response = self.wire.exchange(self.request("GET", key)).await?;
            let etag = etag(&response)?;
            let body = body(response).await?;
            Ok(Object { body, etag })
        })
        .await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        if range.is_empty() {
            return Err(no_part(&range));
        }
        check_key(key)?;
        let bytes = &format!("bytes={}-{}", range.start, range.end - 1);
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let (is_part, body) = self
            .signed(length, || async move {
                let mut request = self.request("GET", key);
                request.add_header("range", bytes);
                let response = self.wire.exchange(request).await?;
                let is_part = response.status() == hyper::StatusCode::PARTIAL_CONTENT;
                Ok((is_part, body(response).await?))
            })
            .await?;
        // A server may answer with the whole.
        match is_part {
            true => Ok(body),
            false => part_of(&body, &range),
        }
    }

    async fn head(&self, key: &str) -> Result<(u64, ETag), StoreError> {
        check_key(key)?;
        self.signed(0, || async move {
            let response = self.wire.exchange(self.request("HEAD", key)).await?;
            let size = header(&response, "content-length").and_then(|size| size.parse().ok());
            let size = size.ok_or_else(|| {
                WireError::Http("the answer names no size (Content-Length)".to_owned())
            })?;
            Ok((size, etag(&response)?))
        })
        .await
    }

    async fn list_page(&self, prefix: &str, from: Option<&str>) -> Result<Page, StoreError> {
        let page = self.page(prefix, from.map(str::to_owned)).await?;
        let mut objects = Vec::new();
        for object in page.contents.unwrap_or_default() {
            let key = object.key.unwrap_or_default();
            if let Some(key) = self.prefix.take_off(&key) {
                objects.push(Listed {
                    key: key.to_owned(),
                    size_bytes: object
                        .size
                        .and_then(|size| size.try_into().ok())
                        .unwrap_or(0),
                    modified_ms: object.last_modified.map_or(0, |time| milliseconds(&time)),
                });
            }
        }
        let next = page.next_continuation_token;
        if page.is_truncated == Some(false) {
            return Ok(Page {
                objects,
                next: None,
            });
        }
        if next.is_none() || next.as_deref() == from {
            return Err(StoreError::Unknown("the listing does not go on".to_owned()));
        }
        Ok(Page { objects, next })
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        check_key(key)?;
        let deleted = self
            .signed(0, || async move {
                self.wire
                    .exchange(self.request("DELETE", key))
                    .await
                    .map(drop)
            })
            .await;
        match deleted {
            Err(StoreError::NotFound) => Ok(()),
            result => result,
        }
    }

    async fn identity(&self) -> Result<Option<String>, StoreError> {
        self.wire.credentials.identity().await.map(Some)
    }

    fn location(&self) -> String {
        self.prefix.location(&self.wire.bucket)
    }
}

async fn body(response: hyper::Response<hyper::Body>) -> Result<Bytes, WireError> {
    hyper::body::to_bytes(response.into_body())
        .await
        .map_err(|error| WireError::Http(with_causes(&error)))
}

fn put_headers(s3: &config::S3) -> Vec<(&'static str, String)> {
    let mut headers = Vec::new();
    match &s3.server_side_encryption {
        Some(Encryption::Aes256) => {
            headers.push(("x-amz-server-side-encryption", "AES256".to_owned()));
        }
        Some(Encryption::Kms(key)) => {
            headers.push(("x-amz-server-side-encryption", "aws:kms".to_owned()));
            if let Some(key) = key {
                headers.push(("x-amz-server-side-encryption-aws-kms-key-id", key.clone()));
            }
        }
        None => {}
    }
    if let Some(class) = &s3.storage_class {
        headers.push(("x-amz-storage-class", class.clone()));
    }
    headers
}

fn milliseconds(time: &str) -> i64 {
    chrono::DateTime::parse_from_rfc3339(time).map_or(0, |time| time.timestamp_millis())
}

#[cfg(test)]
pub(super) mod tests {
    use super::wire::sign;
    use super::*;
    use crate::config::Secret;
    use crate::store::endpoint::tests::s3;

    pub(in crate::store) fn hush() -> Arc<Chain> {
        let mut config = s3(None, true);
        config.credentials = config::S3Credentials::Keys {
            key_id: Secret::new("AKIA1"),
            secret: Secret::new("hush"),
            token: Some(Secret::new("hush hush")),
        };
        Arc::new(Chain::new(&config, None))
    }

    /// What both clients send. `put` gives the text of a request for `a=1/b c` below `pre` in
    /// `bucket`: method, address, and headers in small letters.
    pub(in crate::store) async fn put_requests_are_as_configured(
        put: impl AsyncFn(config::S3, Option<Condition>) -> String,
    ) {
        let mut config = s3(Some("http://host:9100/"), true);
        let text = put(config.clone(), Some(Condition::Absent)).await;
        // Hive folders and spaces reach the server in whichever encoding means the same.
        let text = text.replace("a%3D1", "a=1");
        assert!(
            text.starts_with("PUT http://host:9100/bucket/pre/a=1/b%20c\n"),
            "{text}"
        );
        let body = "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5";
        for header in [
            "if-none-match: *".to_owned(),
            format!("x-amz-content-sha256: {body}"),
            "content-length: 4".to_owned(),
            "x-amz-security-token: hush hush".to_owned(),
        ] {
            assert!(text.contains(&format!("\n{header}\n")), "{header}: {text}");
        }
        assert!(
            text.contains("if-none-match;") || text.contains(";if-none-match"),
            "{text}"
        );
        assert!(
            !text.contains("server-side") && !text.contains("storage-class"),
            "{text}"
        );

        config.endpoint = None;
        config.path_style = false;
        config.region = "eu-west-1".to_owned();
        config.server_side_encryption = Some(Encryption::Kms(Some("key-1".to_owned())));
        config.storage_class = Some("STANDARD_IA".to_owned());
        let version = Condition::Matches(ETag("\"v 1\"".to_owned()));
        let text = put(config.clone(), Some(version))
            .await
            .replace("a%3D1", "a=1");
        assert!(
            text.starts_with("PUT https://bucket.s3.eu-west-1.amazonaws.com/pre/a=1/b%20c\n"),
            "{text}"
        );
        for header in [
            "if-match: \"v 1\"",
            "x-amz-server-side-encryption: aws:kms",
            "x-amz-server-side-encryption-aws-kms-key-id: key-1",
            "x-amz-storage-class: STANDARD_IA",
        ] {
            assert!(text.contains(&format!("\n{header}\n")), "{header}: {text}");
        }
        assert!(text.contains("/eu-west-1/s3/aws4_request"), "{text}");

        config.server_side_encryption = Some(Encryption::Aes256);
        let text = put(config, None).await;
        assert!(
            text.contains("\nx-amz-server-side-encryption: AES256\n"),
            "{text}"
        );
        assert!(
            !text.contains("if-match") && !text.contains("if-none-match"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn puts_are_as_configured() {
        put_requests_are_as_configured(async |s3, condition| {
            let store = S3Store::with_chain(&s3, "bucket", "pre", hush()).unwrap();
            let body = Bytes::from_static(b"body");
            let request = store.put_request("a=1/b c", &body, condition.as_ref());
            let found = store.wire.credentials.current().await.unwrap();
            let request = sign(store.wire.address(request), &found.credentials)
                .await
                .unwrap();
            let mut text = format!("{} {}\n", request.method(), request.uri());
            for (name, value) in request.headers() {
                text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
            }
            text
        })
        .await;
    }

    #[test]
    fn no_debug_output_shows_a_secret() {
        let store = S3Store::with_chain(&s3(None, true), "b", "", hush()).unwrap();
        assert!(!format!("{store:#?}").contains("hush"));
    }
}
