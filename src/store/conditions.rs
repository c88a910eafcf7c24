//! Whether a server honours the conditions that exactly-once rests on: some ignore them in
//! silence, and then two writers replace each other's checkpoints.

use bytes::Bytes;

use super::{Condition, ETag, ObjectStore, StoreError};

/// An ETag that no object ever has: hashes are shorter.
const IMPOSSIBLE_ETAG: &str = "\"groundtrack-no-object-has-this-etag-0123456789\"";

/// Why conditions cannot be relied on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConditionsError {
    /// An object that exists was put again. Its bytes were its own: nothing was lost.
    #[error(
        "the server ignores If-None-Match: * on PUT: two writers would replace each other's objects; use a server or a release that honours it"
    )]
    IgnoresIfNoneMatch,
    /// An object was replaced though its version is another. Its bytes were its own.
    #[error(
        "the server ignores If-Match on PUT: two writers would replace each other's checkpoints; use a server or a release that honours it"
    )]
    IgnoresIfMatch,
    /// An object was created though `If-Match` demands that one is there. Removing it again was
    /// tried once.
    #[error(
        "the server creates an object though If-Match demands that it exists: a checkpoint that was deleted would be made anew; use a server or a release that refuses it"
    )]
    CreatesOnIfMatch,
    /// It could not be found out.
    #[error("whether the server honours conditions could not be found out: {0}")]
    Store(#[from] StoreError),
}

/// Puts an object's own bytes again with both conditions, neither of which can hold. Safe on an
/// object that nobody else writes, such as a checkpoint just claimed.
///
/// # Errors
/// [`ConditionsError`] names the condition that is ignored; [`ConditionsError::Store`] proves
/// nothing and may be tried again.
pub async fn honours_conditions(
    store: &dyn ObjectStore,
    key: &str,
    body: Bytes,
) -> Result<(), ConditionsError> {
    match store.put(key, body.clone(), Some(Condition::Absent)).await {
        Err(StoreError::Precondition) => {}
        Ok(_) => return Err(ConditionsError::IgnoresIfNoneMatch),
        Err(error) => return Err(error.into()),
    }
    let impossible = Condition::Matches(ETag(IMPOSSIBLE_ETAG.to_owned()));
    match store.put(key, body, Some(impossible)).await {
        Err(StoreError::Precondition) => Ok(()),
        Ok(_) => Err(ConditionsError::IgnoresIfMatch),
        Err(error) => Err(error.into()),
    }
}

/// A name for [`refuses_to_create_on_match`] that nobody else has. Spark, pyarrow and shells pass
/// names with a leading dot by.
pub fn probe_name() -> String {
    format!(".check-{:016x}", fastrand::u64(..))
}

/// Puts with `If-Match` to a key that has no object; removes what came of it. Each attempt needs a
/// key of its own: what an unanswered one has made would make the next one look refused.
///
/// # Errors
/// As [`honours_conditions`].
pub async fn refuses_to_create_on_match(
    store: &dyn ObjectStore,
    missing_key: &str,
) -> Result<(), ConditionsError> {
    let impossible = Condition::Matches(ETag(IMPOSSIBLE_ETAG.to_owned()));
    match store
        .put(missing_key, Bytes::from_static(b"probe"), Some(impossible))
        .await
    {
        Err(StoreError::NotFound | StoreError::Precondition) => Ok(()),
        Ok(_) => {
            // The verdict is certain whatever comes of it.
            let _ = store.delete(missing_key).await;
            Err(ConditionsError::CreatesOnIfMatch)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::faulty::{CarelessStore, Carelessness};
    use crate::store::memory::MemoryStore;

    fn careless(breaks: Carelessness) -> Arc<CarelessStore> {
        CarelessStore::new(Arc::new(MemoryStore::new()), breaks)
    }

    async fn probe(store: &dyn ObjectStore) -> Result<(), ConditionsError> {
        let body = Bytes::from_static(b"own");
        store.put("k", body.clone(), None).await.unwrap();
        let result = honours_conditions(store, "k", body).await;
        assert_eq!(store.get("k").await.unwrap().body, "own");
        result
    }

    #[tokio::test]
    async fn the_condition_that_a_server_ignores_is_named() {
        assert_eq!(probe(&MemoryStore::new()).await, Ok(()));
        for (breaks, error) in [
            (
                Carelessness::IgnoresIfNoneMatch,
                ConditionsError::IgnoresIfNoneMatch,
            ),
            (
                Carelessness::IgnoresIfMatch,
                ConditionsError::IgnoresIfMatch,
            ),
        ] {
            assert_eq!(probe(&*careless(breaks)).await, Err(error));
        }
    }

    #[tokio::test]
    async fn a_server_that_creates_on_if_match_is_found_out_and_tidied() {
        let honest = MemoryStore::new();
        assert_eq!(refuses_to_create_on_match(&honest, "k").await, Ok(()));
        let careless = careless(Carelessness::CreatesOnIfMatch);
        assert_eq!(
            refuses_to_create_on_match(&*careless, "k").await,
            Err(ConditionsError::CreatesOnIfMatch)
        );
        assert_eq!(careless.list("").await, Ok(Vec::new()));
    }
}
