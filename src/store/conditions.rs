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
    /// An object was created though `If-Match` demands that one is there. It was removed again.
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

/// Puts with `If-Match` to a key that has no object; removes what came of it.
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
            store.delete(missing_key).await?;
            Err(ConditionsError::CreatesOnIfMatch)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::store::memory::MemoryStore;
    use crate::store::{Object, Page};
    use async_trait::async_trait;

    /// A server that ignores one of the conditions.
    #[derive(Debug)]
    struct Careless {
        store: MemoryStore,
        ignores_absent: bool,
    }

    #[async_trait]
    impl ObjectStore for Careless {
        async fn put(
            &self,
            key: &str,
            body: Bytes,
            condition: Option<Condition>,
        ) -> Result<ETag, StoreError> {
            let honoured = condition
                .filter(|condition| self.ignores_absent != matches!(condition, Condition::Absent));
            self.store.put(key, body, honoured).await
        }
        async fn get(&self, key: &str) -> Result<Object, StoreError> {
            self.store.get(key).await
        }
        async fn head(&self, key: &str) -> Result<(u64, ETag), StoreError> {
            self.store.head(key).await
        }
        async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
            self.store.get_range(key, range).await
        }
        async fn list_page(&self, prefix: &str, from: Option<&str>) -> Result<Page, StoreError> {
            self.store.list_page(prefix, from).await
        }
        async fn delete(&self, key: &str) -> Result<(), StoreError> {
            self.store.delete(key).await
        }
        fn location(&self) -> String {
            self.store.location()
        }
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
        let careless = |ignores_absent| Careless {
            store: MemoryStore::new(),
            ignores_absent,
        };
        assert_eq!(
            probe(&careless(true)).await,
            Err(ConditionsError::IgnoresIfNoneMatch)
        );
        assert_eq!(
            probe(&careless(false)).await,
            Err(ConditionsError::IgnoresIfMatch)
        );
    }

    #[tokio::test]
    async fn a_server_that_creates_on_if_match_is_found_out_and_tidied() {
        let honest = MemoryStore::new();
        assert_eq!(refuses_to_create_on_match(&honest, "k").await, Ok(()));
        let careless = Careless {
            store: MemoryStore::new(),
            ignores_absent: false,
        };
        assert_eq!(
            refuses_to_create_on_match(&careless, "k").await,
            Err(ConditionsError::CreatesOnIfMatch)
        );
        assert_eq!(careless.list("").await, Ok(Vec::new()));
    }
}
