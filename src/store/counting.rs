//! Counts requests, by operation and result.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Condition, ETag, Object, ObjectStore, Page, SharedStore, StoreError};
use crate::status::Status;

/// `groundtrack_store_requests_total{operation,result}`: one for each request, each page of a
/// listing being one.
const REQUESTS_TOTAL: &str = "groundtrack_store_requests_total";

/// A store whose requests are counted.
#[derive(Debug)]
pub struct Counted {
    store: SharedStore,
    status: Arc<Status>,
}

impl Counted {
    /// Counts the requests to `store` in `status`.
    pub fn new(store: SharedStore, status: Arc<Status>) -> Self {
        Self { store, status }
    }

    fn count<T>(
        &self,
        operation: &'static str,
        result: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let word = match &result {
            Ok(_) => "ok",
            Err(StoreError::Precondition) => "precondition",
            Err(StoreError::NotFound) => "not_found",
            Err(StoreError::Conflict) => "conflict",
            Err(StoreError::Unknown(_)) => "unknown",
            Err(StoreError::Refused(_)) => "refused",
        };
        self.status.count(
            REQUESTS_TOTAL,
            &[("operation", operation), ("result", word)],
            1,
        );
        result
    }
}

#[async_trait]
impl ObjectStore for Counted {
    async fn put(
        &self,
        key: &str,
        body: Bytes,
        condition: Option<Condition>,
    ) -> Result<ETag, StoreError> {
        let result = self.store.put(key, body, condition).await;
        self.count("put", result)
    }

    async fn get(&self, key: &str) -> Result<Object, StoreError> {
        let result = self.store.get(key).await;
        self.count("get", result)
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let result = self.store.get_range(key, range).await;
        self.count("get", result)
    }

    async fn head(&self, key: &str) -> Result<(u64, ETag), StoreError> {
        let result = self.store.head(key).await;
        self.count("head", result)
    }

    async fn list_page(&self, prefix: &str, from: Option<&str>) -> Result<Page, StoreError> {
        let result = self.store.list_page(prefix, from).await;
        self.count("list", result)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let result = self.store.delete(key).await;
        self.count("delete", result)
    }

    async fn identity(&self) -> Result<Option<String>, StoreError> {
        self.store.identity().await
    }

    fn location(&self) -> String {
        self.store.location()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;

    #[tokio::test]
    async fn requests_are_counted_by_operation_and_result() {
        let status = Status::new();
        let store = Counted::new(Arc::new(MemoryStore::new()), status.clone());
        for _ in 0..3 {
            let _ = store.put("a", Bytes::new(), Some(Condition::Absent)).await;
        }
        let _ = store.get("b").await;
        let counters: Vec<_> = status
            .counters()
            .into_iter()
            .map(|(key, count)| {
                assert_eq!(key.name, "groundtrack_store_requests_total");
                (key.labels[0].1.clone(), key.labels[1].1.clone(), count)
            })
            .collect();
        let expected = [
            ("get", "not_found", 1),
            ("put", "ok", 1),
            ("put", "precondition", 2),
        ];
        assert_eq!(
            counters,
            expected.map(|(o, r, n)| (o.to_owned(), r.to_owned(), n))
        );
    }
}
