use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use super::*;
use crate::landing::protocol::keys::Names;
use crate::store::memory::MemoryStore;
use crate::store::{ETag, Object, Page};

/// A store whose request of a certain number gets no answer, though it takes effect.
#[derive(Debug)]
struct Mute {
    store: MemoryStore,
    mute_at: usize,
    refuses_delete: bool,
    ignores_conditions: bool,
    requests: AtomicUsize,
}

impl Mute {
    fn new(mute_at: usize) -> Self {
        Self {
            store: MemoryStore::new(),
            mute_at,
            refuses_delete: false,
            ignores_conditions: false,
            requests: AtomicUsize::new(0),
        }
    }

    fn answer<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        match self.requests.fetch_add(1, Ordering::Relaxed) == self.mute_at {
            true => Err(StoreError::Unknown("no answer".to_owned())),
            false => answer,
        }
    }
}

#[async_trait]
impl ObjectStore for Mute {
    async fn put(
        &self,
        key: &str,
        body: Bytes,
        condition: Option<Condition>,
    ) -> Result<ETag, StoreError> {
        let condition = condition.filter(|_| !self.ignores_conditions);
        let answer = self.store.put(key, body, condition).await;
        self.answer(answer)
    }
    async fn get(&self, key: &str) -> Result<Object, StoreError> {
        let answer = self.store.get(key).await;
        self.answer(answer)
    }
    async fn head(&self, key: &str) -> Result<(u64, ETag), StoreError> {
        let answer = self.store.head(key).await;
        self.answer(answer)
    }
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let answer = self.store.get_range(key, range).await;
        self.answer(answer)
    }
    async fn list_page(&self, prefix: &str, from: Option<&str>) -> Result<Page, StoreError> {
        let answer = self.store.list_page(prefix, from).await;
        self.answer(answer)
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        if self.refuses_delete {
            return Err(StoreError::Refused("403 AccessDenied".to_owned()));
        }
        let answer = self.store.delete(key).await;
        self.answer(answer)
    }
    fn location(&self) -> String {
        self.store.location()
    }
}

async fn probed(store: &dyn ObjectStore) -> [Item; 2] {
    let settings = crate::testing::config().store;
    probe(&settings, store, &CancellationToken::new()).await
}

#[tokio::test]
async fn a_store_that_does_what_it_must_is_well_and_left_empty() {
    let store = MemoryStore::new();
    let [bucket, conditions] = probed(&store).await;
    assert!(bucket.finding.is_ok(), "{bucket:?}");
    assert!(conditions.finding.is_ok(), "{conditions:?}");
    assert_eq!(store.list("").await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_folder_is_well_and_left_without_files() {
    let folder = tempfile::tempdir().unwrap();
    let store = crate::store::local::LocalStore::new(folder.path().to_owned());
    let [bucket, conditions] = probed(&store).await;
    assert!(bucket.finding.is_ok(), "{bucket:?}");
    assert!(conditions.finding.is_ok(), "{conditions:?}");
    assert_eq!(store.list("").await, Ok(Vec::new()));
}

#[tokio::test]
async fn whichever_answer_is_lost_nothing_is_left() {
    let whole = Mute::new(usize::MAX);
    probed(&whole).await;
    let requests = whole.requests.into_inner();
    assert!(requests > 10);
    for mute_at in 0..requests {
        let store = Mute::new(mute_at);
        let items = probed(&store).await;
        assert_eq!(store.store.list("").await, Ok(Vec::new()), "{mute_at}");
        for problem in items.iter().filter_map(|item| item.finding.as_ref().err()) {
            assert!(!problem.mend.is_empty());
        }
    }
}

#[tokio::test]
async fn a_server_that_ignores_conditions_is_named_and_left_empty() {
    let mut store = Mute::new(usize::MAX);
    store.ignores_conditions = true;
    let [bucket, conditions] = probed(&store).await;
    // The condition of the probe's own creation is ignored unseen.
    assert!(bucket.finding.is_ok(), "{bucket:?}");
    let problem = conditions.finding.unwrap_err();
    assert!(problem.answer.contains("If-None-Match"), "{problem:?}");
    assert_eq!(store.store.list("").await, Ok(Vec::new()));
}

#[tokio::test]
async fn what_could_not_be_removed_is_never_written() {
    let mut store = Mute::new(usize::MAX);
    store.refuses_delete = true;
    let [bucket, conditions] = probed(&store).await;
    let problem = bucket.finding.unwrap_err();
    assert!(problem.mend.contains("s3:DeleteObject"), "{problem:?}");
    assert!(conditions.finding.is_err());
    assert_eq!(store.store.list("").await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_check_that_is_interrupted_writes_nothing_more() {
    let store = MemoryStore::new();
    let stop = CancellationToken::new();
    stop.cancel();
    let settings = crate::testing::config().store;
    let [bucket, _] = probe(&settings, &store, &stop).await;
    assert_eq!(bucket.finding.unwrap_err().answer, "interrupted");
    assert_eq!(store.list("").await, Ok(Vec::new()));
}

#[test]
fn a_probe_is_mistaken_for_no_object_of_ours() {
    let config = crate::testing::config();
    let names = Names::of(&config);
    for folder in [&names.checkpoints, &names.data, &names.dead_letters] {
        let key = format!("{folder}/{}", probe_name());
        assert_eq!(names.range_in(&key), None);
        assert!(!key.starts_with(&names.checkpoints_of_topic()));
        assert!(!key.ends_with(".json") && !key.ends_with(".parquet"));
    }
}
