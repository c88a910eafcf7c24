//! Objects in memory, for tests: gone with the process.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Condition, ETag, Listed, Object, ObjectStore, Page, StoreError, check_key, part_of};

/// As S3 does.
const PAGE_KEYS: usize = 1000;

/// A map from keys to objects.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<String, Entry>>,
}

#[derive(Debug)]
struct Entry {
    object: Object,
    modified_ms: i64,
}

impl MemoryStore {
    /// An empty one of its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// The one behind `memory:`, which outlives the generations that open it.
    pub fn of_the_process() -> Arc<Self> {
        static STORE: LazyLock<Arc<MemoryStore>> = LazyLock::new(Arc::default);
        STORE.clone()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ObjectStore for MemoryStore {
    async fn put(
        &self,
        key: &str,
        body: Bytes,
        condition: Option<Condition>,
    ) -> Result<ETag, StoreError> {
        check_key(key)?;
        let etag = super::local::etag_of(&body);
        let mut objects = self.objects();
        match (condition, objects.get(key)) {
            (Some(Condition::Absent), Some(_)) => return Err(StoreError::Precondition),
            (Some(Condition::Matches(_)), None) => return Err(StoreError::NotFound),
            (Some(Condition::Matches(wanted)), Some(entry)) if entry.object.etag != wanted => {
                return Err(StoreError::Precondition);
            }
            _ => {}
        }
        let entry = Entry {
            object: Object {
                body,
                etag: etag.clone(),
            },
            modified_ms: chrono::Utc::now().timestamp_millis(),
        };
        objects.insert(key.to_owned(), entry);
        Ok(etag)
    }

    async fn get(&self, key: &str) -> Result<Object, StoreError> {
        check_key(key)?;
        let objects = self.objects();
        let entry = objects.get(key).ok_or(StoreError::NotFound)?;
        Ok(entry.object.clone())
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        part_of(&self.get(key).await?.body, &range)
    }

    async fn head(&self, key: &str) -> Result<(u64, ETag), StoreError> {
        let object = self.get(key).await?;
        Ok((object.body.len() as u64, object.etag))
    }

    async fn list_page(&self, prefix: &str, from: Option<&str>) -> Result<Page, StoreError> {
        let objects = self.objects();
        let start = match from {
            Some(last) => Bound::Excluded(last.to_owned()),
            None => Bound::Included(prefix.to_owned()),
        };
        let listed: Vec<Listed> = objects
            .range((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(PAGE_KEYS)
            .map(|(key, entry)| Listed {
                key: key.clone(),
                size_bytes: entry.object.body.len() as u64,
                modified_ms: entry.modified_ms,
            })
            .collect();
        let last = listed.last().map(|last| last.key.clone());
        Ok(Page {
            next: last.filter(|_| listed.len() == PAGE_KEYS),
            objects: listed,
        })
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        check_key(key)?;
        self.objects().remove(key);
        Ok(())
    }

    fn location(&self) -> String {
        "memory:".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance;

    #[tokio::test]
    async fn memory_keeps_the_contract() {
        conformance::all(Arc::new(MemoryStore::new()), "m").await;
    }
}
