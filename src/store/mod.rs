//! The object store: one small trait, and its backends. An object is always one PUT.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

/// The version of an object, as the store names it. Opaque, quotes and all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ETag(pub String);

/// On what a put depends.
#[derive(Debug, Clone, PartialEq, Eq)]
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

    /// Size and version of an object.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] where there is none.
    async fn head(&self, key: &str) -> Result<(u64, ETag), StoreError>;

    /// Every object whose key begins with `prefix`, in the order of the keys' bytes, page after
    /// page until there is none.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError>;

    /// Removes an object; one that is not there is no error.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// Where keys are, for people: `s3://bucket/prefix` or `file:///folder`.
    fn location(&self) -> String;
}

/// A store that stages share.
pub type SharedStore = Arc<dyn ObjectStore>;
