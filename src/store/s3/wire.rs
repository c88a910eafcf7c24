//! How a request of rusoto's is addressed, signed and sent, and its answer looked at.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use hyper::body::HttpBody;
use hyper::client::HttpConnector;
use hyper_tls::HttpsConnector;
use rusoto_core::request::{DispatchSignedRequestFuture, HttpResponse};
use rusoto_core::signature::{SignedRequest, SignedRequestPayload};
use rusoto_core::{ByteStream, DispatchSignedRequest, HttpDispatchError, Region};
use rusoto_credential::AwsCredentials;

use super::{CONNECT_TIMEOUT, POOL_IDLE_TIMEOUT};
use crate::config;
use crate::store::answer::{
    Answer, ERROR_BODY_BYTES_MAX, NO_LISTING, is_listing, note, with_causes,
};
use crate::store::credentials::{Chain, Credentials};
use crate::store::endpoint::{Endpoint, extra_certificates};
use crate::store::{ETag, OpenError};

/// Hashing less than this takes less time than handing it to another thread.
const HASHED_IN_PLACE_BYTES_MAX: usize = 256 * 1024;

/// One pool of connections, and what every request needs to be signed.
#[derive(Clone)]
pub(super) struct Wire {
    http: hyper::Client<HttpsConnector<HttpConnector>>,
    pub(super) credentials: Arc<Chain>,
    pub(super) region: Region,
    pub(super) bucket: String,
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
pub(super) enum WireError {
    #[error("{0}")]
    Http(String),
    #[error("the answer's status is {0}")]
    Status(u16),
    #[error("the answer names no version (ETag)")]
    NoETag,
}

impl Wire {
    /// # Errors
    /// [`OpenError`]
    pub(super) fn new(
        s3: &config::S3,
        bucket: &str,
        credentials: Arc<Chain>,
    ) -> Result<Self, OpenError> {
        let endpoint = Endpoint::new(s3, bucket)?;
        Ok(Self {
            http: http_client(s3)?,
            credentials,
            region: Region::Custom {
                name: s3.region.clone(),
                endpoint: endpoint.service,
            },
            bucket: bucket.to_owned(),
            bucket_host: endpoint.bucket_host,
        })
    }

    /// Signs a request and sends it.
    pub(super) async fn send(
        &self,
        request: SignedRequest,
    ) -> Result<hyper::Response<hyper::Body>, WireError> {
        let found = self
            .credentials
            .current()
            .await
            .map_err(|error| WireError::Http(error.to_string()))?;
        let request = sign(self.address(request), &found.credentials).await?;
        self.http
            .request(request)
            .await
            .map_err(|error| WireError::Http(with_causes(&error)))
    }

    /// [`Self::send`], and notes an answer that is no success.
    pub(super) async fn exchange(
        &self,
        request: SignedRequest,
    ) -> Result<hyper::Response<hyper::Body>, WireError> {
        let response = self.send(request).await?;
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
    pub(super) fn address(&self, mut request: SignedRequest) -> SignedRequest {
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
pub(super) async fn sign(
    mut request: SignedRequest,
    credentials: &Credentials,
) -> Result<hyper::Request<hyper::Body>, WireError> {
    let credentials = AwsCredentials::new(
        credentials.key_id.expose(),
        credentials.secret.expose(),
        credentials
            .token
            .as_ref()
            .map(|token| token.expose().to_owned()),
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

pub(super) fn header(response: &hyper::Response<hyper::Body>, name: &str) -> Option<String> {
    let value = response.headers().get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

pub(super) fn etag(response: &hyper::Response<hyper::Body>) -> Result<ETag, WireError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use rusoto_core::Client;
    use rusoto_s3::{ListObjectsV2Request, S3};
    use std::panic::AssertUnwindSafe;

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
}
