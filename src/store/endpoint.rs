//! Where S3 is, and which certificates are trusted there.

use super::OpenError;
use crate::config;

/// The address of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// `scheme://host[:port][/path]` of the service, without a slash at its end.
    pub(super) service: String,
    /// `Some`: the bucket's own host, with the port; the bucket is then not in the path.
    pub(super) bucket_host: Option<String>,
    /// What the bucket is reached at: [`Self::service`] with the bucket in host or path.
    pub(super) bucket: String,
}

impl Endpoint {
    /// # Errors
    /// [`OpenError::Endpoint`]
    pub(super) fn new(s3: &config::S3, bucket: &str) -> Result<Self, OpenError> {
        let service = match &s3.endpoint {
            Some(endpoint) => endpoint.trim_end_matches('/').to_owned(),
            None => aws(&s3.region),
        };
        let wrong = |cause: &str| OpenError::Endpoint {
            endpoint: service.clone(),
            cause: cause.to_owned(),
        };
        let url = reqwest::Url::parse(&service).map_err(|error| wrong(&error.to_string()))?;
        let host = url.host_str().ok_or_else(|| wrong("it names no host"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("it is neither http nor https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(OpenError::Endpoint {
                endpoint: format!("{}://..@{host}", url.scheme()),
                cause: "credentials do not belong here".to_owned(),
            });
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("it has a query or a fragment"));
        }
        if s3.path_style {
            return Ok(Self {
                bucket: format!("{service}/{bucket}"),
                service,
                bucket_host: None,
            });
        }
        let port = url
            .port()
            .map(|port| format!(":{port}"))
            .unwrap_or_default();
        let bucket_host = format!("{bucket}.{host}{port}");
        let path = url.path().trim_end_matches('/');
        Ok(Self {
            bucket: format!("{}://{bucket_host}{path}", url.scheme()),
            service,
            bucket_host: Some(bucket_host),
        })
    }
}

fn aws(region: &str) -> String {
    let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
    format!("https://s3.{region}.amazonaws.com{suffix}")
}

/// The certificates of a PEM file; at least one.
pub(super) struct Authorities {
    /// As it is written.
    pub(super) pem: Vec<u8>,
    pub(super) certificates: Vec<native_tls::Certificate>,
}

/// What `store.s3.ca_file` holds; `None`: only the system's count. (A vendored OpenSSL knows no place of the system's; native-tls probes for them.)
///
/// # Errors
/// [`OpenError::CaFile`]
pub(super) fn extra_certificates(s3: &config::S3) -> Result<Option<Authorities>, OpenError> {
    let Some(config::NamedFile { path, .. }) = &s3.ca_file else {
        return Ok(None);
    };
    let wrong = |cause: String| OpenError::CaFile {
        path: path.clone(),
        cause,
    };
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let certificates =
        native_tls::Certificate::stack_from_pem(&pem).map_err(|error| wrong(error.to_string()))?;
    if certificates.is_empty() {
        return Err(wrong("no certificate is in it".to_owned()));
    }
    Ok(Some(Authorities { pem, certificates }))
}

/// A prefix of keys, put before every key and taken off again in listings.
#[derive(Debug, Clone)]
pub(super) struct Prefix(String);

impl Prefix {
    /// From the path of `store.url`, without slashes at its ends; may be empty.
    pub(super) fn new(prefix: &str) -> Self {
        match prefix.trim_matches('/') {
            "" => Self(String::new()),
            prefix => Self(format!("{prefix}/")),
        }
    }

    pub(super) fn put_before(&self, key: &str) -> String {
        format!("{}{key}", self.0)
    }

    /// `None`: the key lies outside.
    pub(super) fn take_off<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(&self.0)
    }

    /// `s3://bucket/prefix`
    pub(super) fn location(&self, bucket: &str) -> String {
        let location = format!("s3://{bucket}/{}", self.0);
        location.trim_end_matches('/').to_owned()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::time::Duration;

    pub(in crate::store) fn s3(endpoint: Option<&str>, path_style: bool) -> config::S3 {
        config::S3 {
            endpoint: endpoint.map(str::to_owned),
            region: "us-east-1".into(),
            path_style,
            client: config::S3Client::Rusoto,
            server_side_encryption: None,
            storage_class: None,
            ca_file: None,
            credentials: config::S3Credentials::Found { profile: None },
            timeout: Duration::from_secs(5),
        }
    }

    #[test]
    fn the_bucket_is_in_the_path_or_in_the_host() {
        let bucket = |endpoint, path_style| {
            Endpoint::new(&s3(endpoint, path_style), "b")
                .unwrap()
                .bucket
        };
        assert_eq!(bucket(None, true), "https://s3.us-east-1.amazonaws.com/b");
        assert_eq!(bucket(None, false), "https://b.s3.us-east-1.amazonaws.com");
        let minio = Some("http://127.0.0.1:9100/");
        assert_eq!(bucket(minio, true), "http://127.0.0.1:9100/b");
        assert_eq!(
            bucket(Some("http://s3.local:9100"), false),
            "http://b.s3.local:9100"
        );
        assert_eq!(bucket(Some("https://gate/s3"), true), "https://gate/s3/b");
    }

    #[test]
    fn an_endpoint_that_is_no_address_is_named() {
        for endpoint in ["127.0.0.1:9100", "ftp://x", "http://", "http://a?b"] {
            let error = Endpoint::new(&s3(Some(endpoint), true), "b").unwrap_err();
            assert!(error.to_string().contains("store.s3.endpoint"), "{error}");
        }
        let error = Endpoint::new(&s3(Some("http://user:hush@host"), true), "b").unwrap_err();
        assert!(!error.to_string().contains("hush"), "{error}");
    }

    #[test]
    fn a_file_without_certificates_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut config = s3(None, true);
        config.ca_file = Some(config::NamedFile::new(file.path()));
        assert!(extra_certificates(&config).is_err());
        config.ca_file = Some(config::NamedFile::new("/nowhere/ca.pem"));
        let error = extra_certificates(&config).err().unwrap();
        assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
    }

    #[test]
    fn a_prefix_is_a_folder() {
        let prefix = Prefix::new("a/b");
        assert_eq!(prefix.put_before("k"), "a/b/k");
        assert_eq!(prefix.take_off("a/b/k"), Some("k"));
        assert_eq!(prefix.take_off("a/bc/k"), None);
        assert_eq!(prefix.location("bucket"), "s3://bucket/a/b");
        assert_eq!(Prefix::new("").location("bucket"), "s3://bucket");
    }
}
