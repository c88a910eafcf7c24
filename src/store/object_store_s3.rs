//! S3 by the `object_store` crate: the client that is still maintained.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use object_store::aws::{
    AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, S3ConditionalPut,
};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, ClientOptions, CredentialProvider, GetOptions, GetRange,
    ObjectStore as _, PutMode, PutOptions, RetryConfig, UpdateVersion,
};

use super::answer::{
    Answer, ERROR_BODY_BYTES_MAX, NO_LISTING, deadline, is_listing, note, signed, with_causes,
};
use super::credentials::{Chain, Observer};
use super::endpoint::{Endpoint, Prefix, extra_certificates};
use super::s3::{CONNECT_TIMEOUT, POOL_IDLE_TIMEOUT};
use super::{
    Condition, ETag, Listed, Object, ObjectStore, OpenError, Page, StoreError, check_key, no_part,
};
use crate::config::{self, Encryption};

/// A bucket, spoken to by `object_store`.
#[derive(Debug)]
pub struct ObjectStoreS3 {
    client: AmazonS3,
    credentials: Arc<Chain>,
    bucket: String,
    prefix: Prefix,
    timeout: Duration,
    put_attributes: Attributes,
    page_keys: Option<usize>,
}

/// The library's errors, in one line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct ClientError(String);

impl From<object_store::Error> for ClientError {
    fn from(error: object_store::Error) -> Self {
        Self(with_causes(&error))
    }
}

impl ObjectStoreS3 {
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
        let http = HttpClient::new(Observed(http_client(s3)?));
        Self::with(s3, bucket, prefix, http, credentials)
    }

    fn with(
        s3: &config::S3,
        bucket: &str,
        prefix: &str,
        http: HttpClient,
        credentials: Arc<Chain>,
    ) -> Result<Self, OpenError> {
        let endpoint = Endpoint::new(s3, bucket)?;
        // It puts the bucket behind an endpoint only in path style.
        let (address, virtual_hosted) = match endpoint.bucket_host {
            Some(_) => (endpoint.bucket, true),
            None => (endpoint.service, false),
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(&s3.region)
            .with_endpoint(address)
            .with_virtual_hosted_style_request(virtual_hosted)
            .with_allow_http(true)
            .with_credentials(Arc::new(Provider(credentials.clone())))
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_disable_bulk_delete(true)
            .with_disable_tagging(true)
            .with_http_connector(Connector(http))
            .with_retry(RetryConfig {
                max_retries: 0,
                ..RetryConfig::default()
            });
        for (name, value) in encryption_settings(s3) {
            let key: AmazonS3ConfigKey = name
                .parse()
                .map_err(|error| OpenError::Client(with_causes(&error)))?;
            builder = builder.with_config(key, value);
        }
        let client = builder
            .build()
            .map_err(|error| OpenError::Client(with_causes(&error)))?;
        Ok(Self {
            client,
            credentials,
            bucket: bucket.to_owned(),
            prefix: Prefix::new(prefix),
            timeout: s3.timeout,
            put_attributes: s3
                .storage_class
                .iter()
                .map(|class| (Attribute::StorageClass, class.clone()))
                .collect(),
            page_keys: None,
        })
    }

    /// Listings come in pages of so many keys; for tests.
    #[doc(hidden)]
    pub fn with_page_keys(mut self, keys: u16) -> Self {
        self.page_keys = Some(keys.into());
        self
    }

    fn path(&self, key: &str) -> Result<Path, StoreError> {
        check_key(key)?;
        Path::parse(self.prefix.put_before(key))
            .map_err(|error| StoreError::Refused(error.to_string()))
    }

    async fn signed<T, F: Future<Output = Result<T, ClientError>>>(
        &self,
        body_bytes: usize,
        request: impl Fn() -> F,
    ) -> Result<T, StoreError> {
        let deadline = deadline(self.timeout, body_bytes);
        signed(&self.credentials, &self.bucket, deadline, request).await
    }
}

fn version(etag: Option<String>) -> Result<ETag, ClientError> {
    etag.map(ETag)
        .ok_or_else(|| ClientError("the answer names no version (ETag)".to_owned()))
}

#[async_trait]
impl ObjectStore for ObjectStoreS3 {
    async fn put(
        &self,
        key: &str,
        body: Bytes,
        condition: Option<Condition>,
    ) -> Result<ETag, StoreError> {
        let path = &self.path(key)?;
        let mode = &match condition {
            Some(Condition::Absent) => PutMode::Create,
            Some(Condition::Matches(etag)) => PutMode::Update(UpdateVersion {
                e_tag: Some(etag.0),
                version: None,
            }),
            None => PutMode::Overwrite,
        };
        let body = &body;
        self.signed(body.len(), || async move {
            let options = PutOptions {
                mode: mode.clone(),
                attributes: self.put_attributes.clone(),
                ..PutOptions::default()
            };
            let body = body.clone().into();
            let result = self.client.put_opts(path, body, options).await?;
            version(result.e_tag)
        })
        .await
    }

    async fn get(&self, key: &str) -> Result<Object, StoreError> {
        let path = &self.path(key)?;
        self.signed(0, || async move {
            let result = self.client.get_opts(path, GetOptions::default()).await?;
            let etag = version(result.meta.e_tag.clone())?;
            let body = result.bytes().await?;
            Ok(Object { body, etag })
        })
        .await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        if range.is_empty() {
            return Err(no_part(&range));
        }
        let path = &self.path(key)?;
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let range = &range;
        self.signed(length, || async move {
            let options = GetOptions {
                range: Some(GetRange::Bounded(range.clone())),
                ..GetOptions::default()
            };
            let result = self.client.get_opts(path, options).await?;
            Ok(result.bytes().await?)
        })
        .await
    }

    async fn head(&self, key: &str) -> Result<(u64, ETag), StoreError> {
        let path = &self.path(key)?;
        self.signed(0, || async move {
            let options = GetOptions {
                head: true,
                ..GetOptions::default()
            };
            let meta = self.client.get_opts(path, options).await?.meta;
            Ok((meta.size, version(meta.e_tag)?))
        })
        .await
    }

    async fn list_page(&self, prefix: &str, from: Option<&str>) -> Result<Page, StoreError> {
        let prefix = self.prefix.put_before(prefix);
        let prefix = Some(prefix.as_str()).filter(|prefix| !prefix.is_empty());
        let options = &PaginatedListOptions {
            max_keys: self.page_keys,
            page_token: from.map(str::to_owned),
            ..PaginatedListOptions::default()
        };
        let page = self
            .signed(0, || async move {
                Ok(self.client.list_paginated(prefix, options.clone()).await?)
            })
            .await?;
        if page.page_token.is_some() && page.page_token.as_deref() == from {
            return Err(StoreError::Unknown("the listing does not go on".to_owned()));
        }
        let objects = page.result.objects.into_iter().filter_map(|object| {
            let key = self.prefix.take_off(object.location.as_ref())?;
            Some(Listed {
                key: key.to_owned(),
                size_bytes: object.size,
                modified_ms: object.last_modified.timestamp_millis(),
            })
        });
        Ok(Page {
            objects: objects.collect(),
            next: page.page_token,
        })
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let path = &self.path(key)?;
        let deleted = self
            .signed(0, || async move {
                let paths = futures_util::stream::iter([Ok(path.clone())]).boxed();
                let mut results = self.client.delete_stream(paths);
                while let Some(result) = results.next().await {
                    result?;
                }
                Ok(())
            })
            .await;
        match deleted {
            Err(StoreError::NotFound) => Ok(()),
            result => result,
        }
    }

    async fn identity(&self) -> Result<Option<String>, StoreError> {
        self.credentials.identity().await.map(Some)
    }

    fn location(&self) -> String {
        self.prefix.location(&self.bucket)
    }
}

/// Our chain, in the library's words.
#[derive(Debug)]
struct Provider(Arc<Chain>);

#[async_trait]
impl CredentialProvider for Provider {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let found = self.0.current().await;
        let found = found.map_err(|error| object_store::Error::Generic {
            store: "S3",
            source: Box::new(error),
        })?;
        let credentials = found.credentials;
        Ok(Arc::new(AwsCredential {
            key_id: credentials.key_id.expose().to_owned(),
            secret_key: credentials.secret.expose().to_owned(),
            token: credentials.token.map(|token| token.expose().to_owned()),
        }))
    }
}

/// Hands the library our client, which follows no redirects and notes what is refused.
#[derive(Debug)]
struct Connector(HttpClient);

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(self.0.clone())
    }
}

#[derive(Debug)]
struct Observed(reqwest::Client);

#[async_trait]
impl HttpService for Observed {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let query = request.uri().query().unwrap_or_default();
        let is_list = query.split('&').any(|part| part == "list-type=2");
        let mut response = HttpService::call(&self.0, request).await?;
        let status = response.status();
        if status.is_success() {
            return if is_list {
                checked_listing(response).await
            } else {
                Ok(response)
            };
        }
        let region = response.headers().get("x-amz-bucket-region");
        let region = region.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let mut body = Vec::new();
        let mut chunks = std::mem::replace(response.body_mut(), HttpResponseBody::from(Vec::new()))
            .bytes_stream();
        while body.len() < ERROR_BODY_BYTES_MAX
            && let Some(Ok(chunk)) = chunks.next().await
        {
            body.extend_from_slice(&chunk);
        }
        note(Answer::new(status.as_u16(), region.as_deref(), &body));
        Ok(response)
    }
}

/// The library takes any XML for a listing, and a page without a token for the last.
async fn checked_listing(response: HttpResponse) -> Result<HttpResponse, HttpError> {
    let (parts, body) = response.into_parts();
    let body = body.bytes().await?;
    if !is_listing(&body) {
        let error = ClientError(NO_LISTING.to_owned());
        return Err(HttpError::new(HttpErrorKind::Decode, error));
    }
    Ok(HttpResponse::from_parts(parts, body.into()))
}

/// In the library's words: the keys' own type cannot be named from outside.
fn encryption_settings(s3: &config::S3) -> Vec<(&'static str, String)> {
    let name = "aws_server_side_encryption";
    match &s3.server_side_encryption {
        None => Vec::new(),
        Some(Encryption::Aes256) => vec![(name, "AES256".to_owned())],
        Some(Encryption::Kms(key)) => {
            let mut settings = vec![(name, "aws:kms".to_owned())];
            settings.extend(key.clone().map(|key| ("aws_sse_kms_key_id", key)));
            settings
        }
    }
}

fn http_client(s3: &config::S3) -> Result<reqwest::Client, OpenError> {
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .http1_only()
        .no_gzip()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT);
    if let Some(authorities) = extra_certificates(s3)? {
        let certificates = reqwest::Certificate::from_pem_bundle(&authorities.pem)
            .map_err(|error| OpenError::Client(with_causes(&error)))?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder
        .build()
        .map_err(|error| OpenError::Client(with_causes(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::endpoint::tests::s3;
    use crate::store::s3::tests::{hush, put_requests_are_as_configured};
    use std::sync::Mutex;

    /// Answers every request, and keeps it.
    #[derive(Debug, Clone, Default)]
    struct Recording(Arc<Mutex<Vec<String>>>);

    #[async_trait]
    impl HttpService for Recording {
        async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
            let mut text = format!("{} {}\n", request.method(), request.uri());
            for (name, value) in request.headers() {
                text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
            }
            self.0.lock().unwrap().push(text);
            let mut response = HttpResponse::new(HttpResponseBody::from(Vec::new()));
            let etag = object_store::HeaderValue::from_static("\"e\"");
            response.headers_mut().insert("etag", etag);
            Ok(response)
        }
    }

    #[tokio::test]
    async fn puts_are_as_configured() {
        put_requests_are_as_configured(async |s3, condition| {
            let recording = Recording::default();
            let http = HttpClient::new(recording.clone());
            let store = ObjectStoreS3::with(&s3, "bucket", "pre", http, hush()).unwrap();
            let body = Bytes::from_static(b"body");
            store.put("a=1/b c", body, condition).await.unwrap();
            recording.0.lock().unwrap().concat()
        })
        .await;
    }

    #[test]
    fn no_debug_output_shows_a_secret() {
        let http = HttpClient::new(Recording::default());
        let store = ObjectStoreS3::with(&s3(None, true), "b", "", http, hush()).unwrap();
        assert!(!format!("{store:#?}").contains("hush"));
    }
}
