//! The object store: one small trait, and its backends. An object is always one PUT.
//!
//! `s3://` by [`s3`] (rusoto) or [`object_store_s3`], `file://` by [`local`], [`memory`] for
//! tests. What both S3 clients share: [`credentials`], `endpoint` (address, trusted
//! certificates) and `answer` (what an answer means). [`conformance`] is what all of them keep.

use std::fmt::Debug;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::config;

mod answer;
pub mod conditions;
#[doc(hidden)]
pub mod conformance;
mod counting;
pub mod credentials;
mod endpoint;
#[doc(hidden)]
pub mod faulty;
#[cfg(test)]
mod faulty_bucket;
#[cfg(test)]
mod faulty_servers;
pub mod local;
pub mod memory;
pub mod object_store_s3;
pub mod retry;
pub mod s3;

pub use counting::Counted;
pub use credentials::Observer;

/// The version of an object, as the store names it. Opaque, quotes and all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ETag(pub String);

/// On what a put depends.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Condition {
    /// `If-None-Match: *`: only if there is no object of this key.
    Absent,
    /// `If-Match`: only if the object is this version.
    Matches(ETag),
}

/// An object with its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The content.
    pub body: Bytes,
    /// The version.
    pub etag: ETag,
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The full key.
    pub key: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Milliseconds since 1970 UTC.
    pub modified_ms: i64,
}

/// A part of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// As many as the store gives at once: 1,000 of S3's. There may be none though more follow.
    pub objects: Vec<Listed>,
    /// How to ask for what follows; `None`: nothing does. Opaque, and only for the same prefix.
    pub next: Option<String>,
}

/// Why a request has no result. What it says never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// 412: the condition does not hold. Nothing was written by this request.
    #[error("the condition does not hold (412)")]
    Precondition,
    /// 404: no such object (or, for a put with `If-Match`, none to replace).
    #[error("no such object (404)")]
    NotFound,
    /// 409: another request on the same key is under way. Nothing was written by this request.
    #[error("conflicting request under way (409)")]
    Conflict,
    /// The answer never came, or says nothing about the effect (time-out, cut connection, 5xx):
    /// it may have taken effect or may yet.
    #[error("no answer: {0}")]
    Unknown(String),
    /// Refused (credentials, permission, no such bucket, a bad request): nothing was written.
    #[error("refused: {0}")]
    Refused(String),
}

/// What every backend does. All calls have a deadline of their own and make one attempt: who
/// calls knows what may be retried.
#[async_trait]
pub trait ObjectStore: Debug + Send + Sync {
    /// Writes an object in one piece.
    ///
    /// # Errors
    /// See [`StoreError`]; with [`Condition::Absent`] an object that exists is
    /// [`StoreError::Precondition`].
    async fn put(
        &self,
        key: &str,
        body: Bytes,
        condition: Option<Condition>,
    ) -> Result<ETag, StoreError>;

    /// Reads an object whole.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] where there is none.
    async fn get(&self, key: &str) -> Result<Object, StoreError>;

    /// Reads the bytes of an object from `range.start` up to `range.end`, or to its own end where
    /// that comes first, by one request.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] where there is no object; [`StoreError::Refused`] where the range
    /// is empty or begins at or behind the object's end.
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError>;

    /// Size and version of an object.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] where there is none.
    async fn head(&self, key: &str) -> Result<(u64, ETag), StoreError>;

    /// Objects whose key begins with `prefix`, by one request: the first of them, or those that
    /// follow a page whose `next` is given. All pages together hold each object that was there all
    /// the while, once, in whichever order the store has.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn list_page(&self, prefix: &str, from: Option<&str>) -> Result<Page, StoreError>;

    /// Every object whose key begins with `prefix`, in the order of the keys' bytes, held in
    /// memory: for folders of which it is known that they hold little.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let mut listed = Vec::new();
        let mut from = None;
        loop {
            let page = self.list_page(prefix, from.as_deref()).await?;
            listed.extend(page.objects);
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        listed.sort_unstable_by(|a, b| a.key.as_bytes().cmp(b.key.as_bytes()));
        Ok(listed)
    }

    /// Removes an object; one that is not there is no error.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// Where the credentials come from that requests are signed with, for people; `None`: there
    /// are none, as of a folder.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where none are found.
    async fn identity(&self) -> Result<Option<String>, StoreError> {
        Ok(None)
    }

    /// Where keys are, for people: `s3://bucket/prefix` or `file:///folder`.
    fn location(&self) -> String;
}

/// A store that stages share.
pub type SharedStore = Arc<dyn ObjectStore>;

/// Why a store cannot be made from its configuration.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// `store.s3.ca_file` cannot be read, or holds no certificate.
    #[error("store.s3.ca_file {}: {cause}; it has to be a PEM file with certificates", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// `store.s3.endpoint` is no address.
    #[error("store.s3.endpoint {endpoint:?}: {cause}; it has to be like http://127.0.0.1:9100")]
    Endpoint {
        /// As it is written.
        endpoint: String,
        /// What is wrong with it.
        cause: String,
    },
    /// TLS or the client's library cannot be set up.
    #[error("the client cannot be set up: {0}")]
    Client(String),
}

/// Makes the store that the configuration names. The observer is told of its credentials, and its
/// requests are counted in the observer's status. Sends nothing, so that a store that is away is no error here.
///
/// # Errors
/// [`OpenError`]: nothing but another configuration or file mends it.
pub fn open(config: &config::Store, observer: Option<Observer>) -> Result<SharedStore, OpenError> {
    let status = observer.as_ref().map(|observer| observer.status.clone());
    let store: SharedStore = match &config.location {
        config::StoreLocation::Memory => memory::MemoryStore::of_the_process(),
        config::StoreLocation::File(folder) => Arc::new(local::LocalStore::new(folder.clone())),
        config::StoreLocation::S3 { bucket, prefix } => match config.s3.client {
            config::S3Client::Rusoto => {
                Arc::new(s3::S3Store::open(&config.s3, bucket, prefix, observer)?)
            }
            config::S3Client::ObjectStore => Arc::new(object_store_s3::ObjectStoreS3::open(
                &config.s3, bucket, prefix, observer,
            )?),
        },
    };
    Ok(match status {
        Some(status) => Arc::new(Counted::new(store, status)),
        None => store,
    })
}

/// Where a bucket is reached: `scheme://host[:port][/path]`.
pub(crate) fn address_of(s3: &config::S3, bucket: &str) -> Result<String, OpenError> {
    Ok(endpoint::Endpoint::new(s3, bucket)?.bucket)
}

/// The part of an object that a range names.
fn part_of(body: &Bytes, range: &Range<u64>) -> Result<Bytes, StoreError> {
    let length = body.len() as u64;
    if range.start >= range.end.min(length) {
        return Err(no_part(range));
    }
    Ok(body.slice(range.start as usize..range.end.min(length) as usize))
}

fn no_part(range: &Range<u64>) -> StoreError {
    let Range { start, end } = range;
    StoreError::Refused(format!("the object has no bytes from {start} up to {end}"))
}

/// S3's limit.
const KEY_BYTES_MAX: usize = 1024;

/// Whether a key means the same object to every backend: a relative path of proper segments.
fn check_key(key: &str) -> Result<(), StoreError> {
    let fault = if key.is_empty() {
        "is empty"
    } else if key.len() > KEY_BYTES_MAX {
        "is longer than 1024 bytes"
    } else if key.chars().any(char::is_control) {
        "holds a control character"
    } else if key.split('/').any(|part| matches!(part, "" | "." | "..")) {
        "has an empty, a . or a .. segment"
    } else {
        return Ok(());
    };
    Err(StoreError::Refused(format!("the key {key:?} {fault}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_leave_the_folder_are_refused() {
        for key in [
            "", "/a", "a/", "a//b", "../a", "a/../b", "./a", "a\0", "a\nb",
        ] {
            assert!(
                matches!(check_key(key), Err(StoreError::Refused(_))),
                "{key:?}"
            );
        }
        assert!(check_key(&"a".repeat(1025)).is_err());
        for key in ["a", "a/b=c/ü %20.parquet", "...", "a/..b"] {
            assert!(check_key(key).is_ok(), "{key:?}");
        }
    }
}
