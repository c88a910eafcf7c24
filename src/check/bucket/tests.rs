use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::check::Finding;
use crate::landing::protocol::keys::Names;
use crate::store::faulty::{CarelessStore, Carelessness};
use crate::store::memory::MemoryStore;
use crate::store::{Condition, ETag, Object, ObjectStore, Page};

/// A store whose request of a certain number gets no answer, though it takes effect.
#[derive(Debug)]
struct Mute {
    store: MemoryStore,
    mute_at: usize,
    ignores_conditions: bool,
    requests: AtomicUsize,
}

impl Mute {
    fn new(mute_at: usize) -> Self {
        Self {
            store: MemoryStore::new(),
            mute_at,
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
        let answer = self.store.delete(key).await;
        self.answer(answer)
    }
    fn location(&self) -> String {
        self.store.location()
    }
}

/// As a folder of this machine is tried: by writing.
async fn written(store: &dyn ObjectStore) -> Vec<Item> {
    let settings = crate::testing::config().store;
    folder::ask(&settings, store, &Limit::for_tests()).await
}

fn named<'a>(items: &'a [Item], name: &str) -> &'a Finding {
    &items.iter().find(|item| item.name == name).unwrap().finding
}

/// As a bucket is tried: without a trace.
async fn tried(store: &dyn ObjectStore) -> Finding {
    let folder = Folder {
        name: "data",
        path: "parquet_files",
    };
    let tried = rights::try_folder(store, folder, "probe", &Limit::for_tests()).await;
    tried.item(&place()).finding
}

fn place() -> Place {
    let mut settings = crate::testing::config().store;
    settings.location = config::StoreLocation::S3 {
        bucket: "bucket".to_owned(),
        prefix: "pre".to_owned(),
    };
    Place::of(&settings).unwrap()
}

#[tokio::test]
async fn a_store_that_does_what_it_must_is_well_and_left_empty() {
    let folder = tempfile::tempdir().unwrap();
    let local = crate::store::local::LocalStore::new(folder.path().to_owned());
    let memory = MemoryStore::new();
    for store in [&memory as &dyn ObjectStore, &local] {
        for item in written(store).await {
            assert!(matches!(item.finding, Finding::Well(_)), "{item:?}");
        }
        assert_eq!(store.list("").await, Ok(Vec::new()));
    }
}

#[tokio::test]
async fn whichever_answer_is_lost_nothing_is_left() {
    let whole = Mute::new(usize::MAX);
    written(&whole).await;
    let requests = whole.requests.into_inner();
    assert!(requests > 10);
    for mute_at in 0..requests {
        let store = Mute::new(mute_at);
        let items = written(&store).await;
        assert_eq!(store.store.list("").await, Ok(Vec::new()), "{mute_at}");
        for problem in items.iter().filter_map(|item| item.finding.problem()) {
            assert!(!problem.mend.is_empty());
        }
    }
}

#[tokio::test]
async fn a_server_that_ignores_conditions_is_named_and_left_empty() {
    let mut store = Mute::new(usize::MAX);
    store.ignores_conditions = true;
    let items = written(&store).await;
    let Finding::Wrong(problem) = named(&items, CONDITIONS) else {
        panic!("{items:?}");
    };
    assert!(problem.answer.contains("If-None-Match"), "{problem:?}");
    assert_eq!(store.store.list("").await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_check_that_is_interrupted_writes_nothing_more() {
    let store = MemoryStore::new();
    let stop = CancellationToken::new();
    stop.cancel();
    let settings = crate::testing::config().store;
    let items = folder::ask(&settings, &store, &Limit::from_now(stop)).await;
    let Finding::Wrong(problem) = named(&items, "data") else {
        panic!("{items:?}");
    };
    assert_eq!(problem.answer, "interrupted");
    assert_eq!(store.list("").await, Ok(Vec::new()));
}

/// A store that refuses some of what is asked, and counts what would leave a trace.
#[derive(Debug, Default)]
struct Strict {
    store: MemoryStore,
    refused: Vec<&'static str>,
    deletes: AtomicUsize,
}

impl Strict {
    fn refusing(refused: &[&'static str]) -> Self {
        Self {
            refused: refused.to_vec(),
            ..Self::default()
        }
    }

    fn allow(&self, action: &str) -> Result<(), StoreError> {
        match self.refused.contains(&action) {
            true => Err(StoreError::Refused(
                "403 AccessDenied Access Denied.".to_owned(),
            )),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl ObjectStore for Strict {
    async fn put(
        &self,
        key: &str,
        body: Bytes,
        condition: Option<Condition>,
    ) -> Result<ETag, StoreError> {
        self.allow("s3:PutObject")?;
        self.store.put(key, body, condition).await
    }
    async fn get(&self, key: &str) -> Result<Object, StoreError> {
        self.allow("s3:GetObject")?;
        let found = self.store.get(key).await;
        if found == Err(StoreError::NotFound) {
            self.allow("404")?;
        }
        found
    }
    async fn head(&self, key: &str) -> Result<(u64, ETag), StoreError> {
        self.allow("s3:GetObject")?;
        self.store.head(key).await
    }
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.allow("s3:GetObject")?;
        self.store.get_range(key, range).await
    }
    async fn list_page(&self, prefix: &str, from: Option<&str>) -> Result<Page, StoreError> {
        self.allow("s3:ListBucket")?;
        self.store.list_page(prefix, from).await
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.deletes.fetch_add(1, Ordering::Relaxed);
        self.store.delete(key).await
    }
    fn location(&self) -> String {
        self.store.location()
    }
}

#[tokio::test]
async fn a_bucket_is_tried_without_writing_to_it() {
    let store = Strict::default();
    let found = tried(&store).await;
    assert!(matches!(found, Finding::Well(_)), "{found:?}");
    assert_eq!(store.store.list("").await, Ok(Vec::new()));
    // In a bucket that keeps versions even removing nothing leaves a mark.
    assert_eq!(store.deletes.into_inner(), 0);
}

#[tokio::test]
async fn each_right_that_is_missing_is_named_with_the_line_that_grants_it() {
    for (action, resource) in [
        ("s3:ListBucket", "arn:aws:s3:::bucket"),
        ("s3:GetObject", "arn:aws:s3:::bucket/pre/parquet_files/*"),
        ("s3:PutObject", "arn:aws:s3:::bucket/pre/parquet_files/*"),
    ] {
        let Finding::Wrong(problem) = tried(&Strict::refusing(&[action])).await else {
            panic!("{action}");
        };
        assert!(
            problem.answer.ends_with(&format!("lack {action}")),
            "{problem:?}"
        );
        let line = problem.command.unwrap();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["Action"], serde_json::json!([action]));
        assert_eq!(line["Resource"], resource);
    }
}

#[tokio::test]
async fn what_one_missing_right_hides_of_others_is_not_claimed() {
    let all = ["s3:ListBucket", "s3:GetObject", "s3:PutObject"];
    for refused in [&all[..], &all[1..], &all[..2]] {
        let Finding::Wrong(problem) = tried(&Strict::refusing(refused)).await else {
            panic!("{refused:?}");
        };
        assert!(
            problem.answer.contains(&format!("lack {} (", refused[0])),
            "{problem:?}"
        );
        let line = problem.command.unwrap();
        assert!(
            line.contains(refused[0]) && !line.contains(refused[1]),
            "{line}"
        );
    }
}

#[tokio::test]
async fn a_store_that_does_not_say_that_an_object_is_absent_is_told() {
    let store = Strict::refusing(&["404"]);
    let body = Bytes::from_static(b"PAR1");
    store.put("parquet_files/a", body, None).await.unwrap();
    let Finding::Wrong(problem) = tried(&store).await else {
        panic!("403 for what is not there");
    };
    assert!(problem.answer.contains("instead of 404"), "{problem:?}");
    assert!(problem.command.unwrap().contains("s3:ListBucket"));
}

#[tokio::test]
async fn an_object_that_is_there_is_read_and_nothing_replaced() {
    let store = Strict::default();
    let body = Bytes::from_static(b"PAR1");
    let etag = store.put("parquet_files/a", body, None).await.unwrap();
    assert!(matches!(tried(&store).await, Finding::Well(_)));
    assert_eq!(store.head("parquet_files/a").await, Ok((4, etag)));
}

#[tokio::test]
async fn a_server_that_creates_what_it_must_not_is_named_and_tidied() {
    let store = CarelessStore::new(Arc::new(MemoryStore::new()), Carelessness::CreatesOnIfMatch);
    let settings = crate::testing::config().store;
    let limit = Limit::for_tests();
    let folder = Folder::of(&settings)[0];
    let tried = [rights::try_folder(&*store, folder, "probe", &limit).await];
    let never = settings::Versions::Never;
    let item = conditions::ask(&settings, &*store, &tried, &never, "probe", &limit).await;
    let Finding::Wrong(problem) = item.finding else {
        panic!("{item:?}");
    };
    assert!(problem.answer.contains("creates an object"), "{problem:?}");
    assert!(!problem.answer.contains("may be left"), "{problem:?}");
    assert_eq!(store.list("").await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_put_that_is_never_answered_is_looked_for_and_removed() {
    let whole = Mute::new(usize::MAX);
    tried(&whole).await;
    for mute_at in 0..whole.requests.into_inner() {
        let mut store = Mute::new(mute_at);
        store.ignores_conditions = true;
        tried(&store).await;
        assert_eq!(store.store.list("").await, Ok(Vec::new()), "{mute_at}");
    }
}

#[tokio::test]
async fn an_object_is_written_only_where_it_leaves_no_trace() {
    let mut settings = crate::testing::config().store;
    let never = settings::Versions::Never;
    let kept = settings::Versions::Kept { is_suspended: true };
    let unknown = settings::Versions::Unknown("403".to_owned());
    settings.s3.endpoint = Some("http://127.0.0.1:9100".to_owned());
    for (versions, endpoint, deletes) in [
        (&never, Some("http://127.0.0.1:9100"), 2),
        (&kept, Some("http://127.0.0.1:9100"), 0),
        (&unknown, Some("http://127.0.0.1:9100"), 0),
        (&never, None, 0),
    ] {
        settings.s3.endpoint = endpoint.map(str::to_owned);
        let store = Strict::default();
        let limit = Limit::for_tests();
        let item = conditions::ask(&settings, &store, &[], versions, "probe", &limit).await;
        assert!(matches!(item.finding, Finding::Well(_)), "{item:?}");
        assert_eq!(store.store.list("").await, Ok(Vec::new()));
        assert_eq!(store.deletes.into_inner(), deletes, "{versions:?}");
    }
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
