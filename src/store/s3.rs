//! S3 by rusoto: the default client.
//!
//! `PutObjectRequest` knows no conditions, and the typed answers panic on headers that a server
//! got wrong; so objects are spoken of by rusoto's signed requests, and only listings by
//! `rusoto_s3` itself. The payload's SHA-256 is part of every signature: a body damaged on its
//! way is refused by the server.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use hyper::body::HttpBody;
use hyper::client::HttpConnector;
use hyper_tls::HttpsConnector;
use rusoto_core::request::{DispatchSignedRequestFuture, HttpResponse};
use rusoto_core::signature::{SignedRequest, SignedRequestPayload};
use rusoto_core::{ByteStream, Client, DispatchSignedRequest, HttpDispatchError, Region};
use rusoto_credential::AwsCredentials;
use rusoto_s3::{ListObjectsV2Request, S3};

use super::answer::{
    Answer, ERROR_BODY_BYTES_MAX, NO_LISTING, deadline, is_listing, note, observe, with_causes,
};
use super::credentials::{Chain, Credentials};
use super::endpoint::{Endpoint, Prefix, extra_certificates};
use super::{Condition, ETag, Listed, Object, ObjectStore, OpenError, StoreError, check_key};
use crate::config::{self, Encryption};

/// Below the 20 s or so after which servers close idle connections.
pub(super) const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// A server that does not take a connection by then is away; the time-out holds besides.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Hashing less than this takes less time than handing it to another thread.
const HASHED_IN_PLACE_BYTES_MAX: usize = 256 * 1024;

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

/// One pool of connections, and what every request needs to be signed.
#[derive(Clone)]
struct Wire {
    http: hyper::Client<HttpsConnector<HttpConnector>>,
    credentials: Arc<Chain>,
    region: Region,
    bucket: String,
    bucket_host: Option<String>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("region", &self.region)
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
enum WireError {
    #[error("{0}")]
    Http(String),
    #[error("the answer's status is {0}")]
    Status(u16),
    #[error("the answer names no version (ETag)")]
    NoETag,
}

impl S3Store {
    /// Sends nothing yet.
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn open(s3: &config::S3, bucket: &str, prefix: &str) -> Result<Self, OpenError> {
        Self::with_chain(s3, bucket, prefix, Arc::default())
    }

    pub(super) fn with_chain(
        s3: &config::S3,
        bucket: &str,
        prefix: &str,
        credentials: Arc<Chain>,
    ) -> Result<Self, OpenError> {
        let endpoint = Endpoint::new(s3, bucket)?;
        Ok(Self {
            wire: Wire {
                http: http_client(s3)?,
                credentials,
                region: Region::Custom {
                    name: s3.region.clone(),
                    endpoint: endpoint.service,
                },
                bucket: bucket.to_owned(),
                bucket_host: endpoint.bucket_host,
            },
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

    fn request(&self, method: &str, key: &str) -> Result<SignedRequest, StoreError> {
        check_key(key)?;
        let key = self.prefix.put_before(key);
        let path = format!("/{}/{key}", self.wire.bucket);
        Ok(SignedRequest::new(method, "s3", &self.wire.region, &path))
    }

    fn put_request(
        &self,
        key: &str,
        body: Bytes,
        condition: Option<Condition>,
    ) -> Result<SignedRequest, StoreError> {
        let mut request = self.request("PUT", key)?;
        match condition {
            Some(Condition::Absent) => request.add_header("if-none-match", "*"),
            Some(Condition::Matches(etag)) => request.add_header("if-match", &etag.0),
            None => {}
        }
        for (name, value) in &self.put_headers {
            request.add_header(name, value);
        }
        request.set_payload(Some(body));
        Ok(request)
    }

    async fn page(
        &self,
        prefix: &str,
        continuation_token: Option<String>,
    ) -> Result<rusoto_s3::ListObjectsV2Output, StoreError> {
        let client = Client::new_not_signing(self.wire.clone());
        let client = rusoto_s3::S3Client::new_with_client(client, self.wire.region.clone());
        let request = ListObjectsV2Request {
            bucket: self.wire.bucket.clone(),
            prefix: Some(self.prefix.put_before(prefix)),
            continuation_token,
            max_keys: self.page_keys,
            ..ListObjectsV2Request::default()
        };
        self.observe(0, async {
            // rusoto's parser panics on numbers that are none.
            match AssertUnwindSafe(client.list_objects_v2(request))
                .catch_unwind()
                .await
            {
                Ok(result) => result.map_err(|error| WireError::Http(error.to_string())),
                Err(_) => Err(WireError::Http(NO_LISTING.to_owned())),
            }
        })
        .await
    }

    async fn observe<T>(
        &self,
        body_bytes: usize,
        request: impl Future<Output = Result<T, WireError>>,
    ) -> Result<T, StoreError> {
        // Without credentials nothing is sent: that is no unknown effect.
        self.wire
            .credentials
            .current()
            .await
            .map_err(|error| StoreError::Refused(error.to_string()))?;
        observe(
            &self.wire.bucket,
            deadline(self.timeout, body_bytes),
            request,
        )
        .await
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
        let body_bytes = body.len();
        let request = self.put_request(key, body, condition)?;
        self.observe(body_bytes, async {
            let response = self.wire.exchange(request).await?;
            etag(&response)
        })
        .await
    }

    async fn get(&self, key: &str) -> Result<Object, StoreError> {
        let request = self.request("GET", key)?;
        self.observe(0, async {
            let response = self.wire.exchange(request).await?;
            let etag = etag(&response)?;
            let body = hyper::body::to_bytes(response.into_body())
                .await
                .map_err(|error| WireError::Http(with_causes(&error)))?;
            Ok(Object { body, etag })
        })
        .await
    }

    async fn head(&self, key: &str) -> Result<(u64, ETag), StoreError> {
        let request = self.request("HEAD", key)?;
        self.observe(0, async {
            let response = self.wire.exchange(request).await?;
            let size = header(&response, "content-length").and_then(|size| size.parse().ok());
            let size = size.ok_or_else(|| {
                WireError::Http("the answer names no size (Content-Length)".to_owned())
            })?;
            Ok((size, etag(&response)?))
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let mut listed = Vec::new();
        let mut token = None;
        loop {
            let page = self.page(prefix, token.clone()).await?;
            for object in page.contents.unwrap_or_default() {
                let key = object.key.unwrap_or_default();
                if let Some(key) = self.prefix.take_off(&key) {
                    listed.push(Listed {
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
                break;
            }
            if next.is_none() || next == token {
                return Err(StoreError::Unknown("the listing does not go on".to_owned()));
            }
            token = next;
        }
        listed.sort_unstable_by(|a, b| a.key.as_bytes().cmp(b.key.as_bytes()));
        Ok(listed)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let request = self.request("DELETE", key)?;
        let deleted = self
            .observe(0, async { self.wire.exchange(request).await.map(drop) })
            .await;
        match deleted {
            Err(StoreError::NotFound) => Ok(()),
            result => result,
        }
    }

    fn location(&self) -> String {
        self.prefix.location(&self.wire.bucket)
    }
}

impl Wire {
    /// Signs a request, sends it, and notes an answer that is no success.
    async fn exchange(
        &self,
        request: SignedRequest,
    ) -> Result<hyper::Response<hyper::Body>, WireError> {
        let credentials = self
            .credentials
            .current()
            .await
            .map_err(|error| WireError::Http(error.to_string()))?;
        let request = sign(self.address(request), credentials).await?;
        let response = self
            .http
            .request(request)
            .await
            .map_err(|error| WireError::Http(with_causes(&error)))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let region = header(&response, "x-amz-bucket-region");
        let body = beginning(response.into_body()).await;
        note(Answer::new(status.as_u16(), region.as_deref(), &body));
        Err(WireError::Status(status.as_u16()))
    }

    /// Moves the bucket from the path into the host's name, where that is wanted.
    fn address(&self, mut request: SignedRequest) -> SignedRequest {
        if let Some(host) = &self.bucket_host {
            let in_path = format!("/{}", self.bucket);
            if let Some(rest) = request.path.strip_prefix(&in_path) {
                request.path = if rest.is_empty() {
                    "/".to_owned()
                } else {
                    rest.to_owned()
                };
            }
            request.set_hostname(Some(host.clone()));
        }
        request
    }
}

/// For listings: all else goes by [`Wire::exchange`].
impl DispatchSignedRequest for Wire {
    fn dispatch(
        &self,
        request: SignedRequest,
        _timeout: Option<Duration>,
    ) -> DispatchSignedRequestFuture {
        let wire = self.clone();
        async move {
            let response = wire
                .exchange(request)
                .await
                .map_err(|error| HttpDispatchError::new(error.to_string()))?;
            let status = response.status();
            let headers = response
                .headers()
                .iter()
                .map(|(name, value)| {
                    let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                    (name.clone(), value)
                })
                .collect();
            let body = hyper::body::to_bytes(response.into_body())
                .await
                .map_err(|error| HttpDispatchError::new(with_causes(&error)))?;
            if !is_listing(&body) || !is_well_formed(&body) {
                return Err(HttpDispatchError::new(NO_LISTING.to_owned()));
            }
            Ok(HttpResponse {
                status,
                headers,
                body: ByteStream::from(body.to_vec()),
            })
        }
        .boxed()
    }
}

/// rusoto's parser never returns from XML that ends early or is wrong, which no deadline can cut
/// short; so its reader runs over the body first.
fn is_well_formed(body: &[u8]) -> bool {
    xml::EventReader::new(body)
        .into_iter()
        .all(|event| event.is_ok())
}

/// The request as it is sent. (rusoto's own conversion writes all headers to the log.)
async fn sign(
    mut request: SignedRequest,
    credentials: Credentials,
) -> Result<hyper::Request<hyper::Body>, WireError> {
    let credentials = AwsCredentials::new(
        credentials.key_id,
        credentials.secret,
        credentials.token,
        None,
    );
    let large = matches!(
        &request.payload,
        Some(SignedRequestPayload::Buffer(body)) if body.len() > HASHED_IN_PLACE_BYTES_MAX
    );
    if large {
        let signing = tokio::task::spawn_blocking(move || {
            request.sign(&credentials);
            request
        });
        request = match signing.await {
            Ok(request) => request,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => return Err(WireError::Http("the runtime ends".to_owned())),
            },
        };
    } else {
        request.sign(&credentials);
    }
    let mut address = format!(
        "{}://{}{}",
        request.scheme(),
        request.hostname(),
        request.canonical_path()
    );
    if !request.canonical_query_string().is_empty() {
        address.push('?');
        address.push_str(request.canonical_query_string());
    }
    let mut builder = hyper::Request::builder()
        .method(request.method())
        .uri(address);
    for (name, values) in request.headers() {
        for value in values {
            builder = builder.header(name.as_str(), value.as_slice());
        }
    }
    let body = match request.payload {
        Some(SignedRequestPayload::Buffer(body)) => hyper::Body::from(body),
        _ => hyper::Body::empty(),
    };
    builder
        .body(body)
        .map_err(|error| WireError::Http(error.to_string()))
}

fn http_client(s3: &config::S3) -> Result<hyper::Client<HttpsConnector<HttpConnector>>, OpenError> {
    let mut tls = native_tls::TlsConnector::builder();
    if let Some(authorities) = extra_certificates(s3)? {
        for certificate in authorities.certificates {
            tls.add_root_certificate(certificate);
        }
    }
    let tls = tls
        .build()
        .map_err(|error| OpenError::Client(error.to_string()))?;
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    http.set_nodelay(true);
    Ok(hyper::Client::builder()
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .build(HttpsConnector::from((http, tls.into()))))
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

fn header(response: &hyper::Response<hyper::Body>, name: &str) -> Option<String> {
    let value = response.headers().get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn etag(response: &hyper::Response<hyper::Body>) -> Result<ETag, WireError> {
    header(response, "etag")
        .filter(|etag| !etag.is_empty())
        .map(ETag)
        .ok_or(WireError::NoETag)
}

/// As much of an error's body as is looked at; what cannot be read is left out.
async fn beginning(mut body: hyper::Body) -> Bytes {
    let mut bytes = BytesMut::new();
    while bytes.len() < ERROR_BODY_BYTES_MAX
        && let Some(Ok(chunk)) = body.data().await
    {
        bytes.extend_from_slice(&chunk);
    }
    bytes.freeze()
}

fn milliseconds(time: &str) -> i64 {
    chrono::DateTime::parse_from_rfc3339(time).map_or(0, |time| time.timestamp_millis())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::store::endpoint::tests::s3;

    pub(in crate::store) fn hush() -> Arc<Chain> {
        Arc::new(Chain::of(Credentials {
            key_id: "AKIA1".to_owned(),
            secret: "hush".to_owned(),
            token: Some("hush hush".to_owned()),
        }))
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
            let request = store.put_request("a=1/b c", body, condition).unwrap();
            let credentials = store.wire.credentials.current().await.unwrap();
            let request = sign(store.wire.address(request), credentials)
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

    const LISTING: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
        <ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name>\
        <Prefix></Prefix><KeyCount>2</KeyCount><MaxKeys>2</MaxKeys>\
        <IsTruncated>false</IsTruncated><Contents><Key>a&amp;b</Key>\
        <LastModified>2026-11-23T01:02:03.004Z</LastModified><ETag>&quot;e&quot;</ETag>\
        <Size>5</Size><Owner><ID>i</ID></Owner><StorageClass>STANDARD</StorageClass></Contents>\
        <Contents><Key>c</Key><Size>6</Size></Contents></ListBucketResult>";

    /// Gives rusoto a body that has passed for a listing.
    struct Given(&'static str);

    impl DispatchSignedRequest for Given {
        fn dispatch(
            &self,
            _request: SignedRequest,
            _timeout: Option<Duration>,
        ) -> DispatchSignedRequestFuture {
            let body = ByteStream::from(self.0.as_bytes().to_vec());
            let (parts, ()) = hyper::Response::new(()).into_parts();
            let headers = std::iter::empty().collect();
            let status = parts.status;
            async move {
                Ok(HttpResponse {
                    status,
                    headers,
                    body,
                })
            }
            .boxed()
        }
    }

    /// Whole pieces of XML, so that most of what comes of them is well-formed.
    const INSERTS: &[&str] = &[
        "<Size>many</Size>",
        "<Size/>",
        "<Key><x/></Key>",
        "<Contents/>",
        "<Contents>text</Contents>",
        "<CommonPrefixes><Prefix>p</Prefix></CommonPrefixes>",
        "<IsTruncated>maybe</IsTruncated>",
        "<KeyCount></KeyCount>",
        "<ListBucketResult></ListBucketResult>",
        "<unknown><deep><er/></deep></unknown>",
        "<!-- comment -->",
        "<![CDATA[<]]>",
        "<?instruction?>",
        "text &lt;&#38;",
    ];

    proptest::proptest! {
        /// A parser that spins can be cut short by no deadline.
        #[test]
        fn what_passes_for_a_listing_is_read_to_an_end(
            inserts in proptest::collection::vec((0..INSERTS.len(), 0..50usize), 1..5),
            removed in 0..100usize,
        ) {
            let mut parts: Vec<&str> = LISTING.split_inclusive('>').collect();
            if removed < parts.len() {
                parts.remove(removed);
            }
            for (insert, place) in inserts {
                parts.insert(place % (parts.len() + 1), INSERTS[insert]);
            }
            let body = parts.concat();
            if is_listing(body.as_bytes()) && is_well_formed(body.as_bytes()) {
                let given = Given(Box::leak(body.into_boxed_str()));
                let client = Client::new_not_signing(given);
                let client = rusoto_s3::S3Client::new_with_client(client, Region::UsEast1);
                let listing = client.list_objects_v2(ListObjectsV2Request::default());
                let listing = AssertUnwindSafe(listing).catch_unwind();
                let _ = futures_util::FutureExt::now_or_never(listing);
            }
        }
    }

    #[test]
    fn a_listing_of_amazons_passes() {
        assert!(is_listing(LISTING.as_bytes()) && is_well_formed(LISTING.as_bytes()));
    }

    #[test]
    fn no_debug_output_shows_a_secret() {
        let store = S3Store::with_chain(&s3(None, true), "b", "", hush()).unwrap();
        assert!(!format!("{store:#?}").contains("hush"));
    }
}
