//! What every backend keeps, as one suite of checks. Each panics with what does not hold.
//!
//! It is compiled into the library so that the tests against real servers use the same.

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;

use bytes::Bytes;
use futures_util::future::join_all;

use super::conditions::{honours_conditions, refuses_to_create_on_match};
use super::{Condition, ETag, SharedStore, StoreError};

/// All of it, on keys below `folder`, which nobody else may use and which is left empty.
pub async fn all(store: SharedStore, folder: &str) {
    an_object_reads_back_byte_for_byte(&store, &format!("{folder}/bytes")).await;
    what_exists_is_never_created_again(&store, &format!("{folder}/create")).await;
    only_the_named_version_is_replaced(&store, &format!("{folder}/swap")).await;
    conditions_are_honoured(&store, &format!("{folder}/conditions")).await;
    any_name_is_a_key(&store, &format!("{folder}/names")).await;
    what_is_missing_is_said_to_be(&store, &format!("{folder}/missing")).await;
    of_concurrent_creates_one_wins(&store, &format!("{folder}/creates")).await;
    of_concurrent_swaps_one_wins(&store, &format!("{folder}/swaps")).await;
    a_range_is_a_part(&store, &format!("{folder}/ranges")).await;
    a_listing_is_whole_and_in_order(&store, &format!("{folder}/list")).await;
    for object in store.list(&format!("{folder}/")).await.unwrap() {
        store.delete(&object.key).await.unwrap();
    }
    assert_eq!(store.list(&format!("{folder}/")).await.unwrap(), []);
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn absent() -> Option<Condition> {
    Some(Condition::Absent)
}

fn matches(etag: &ETag) -> Option<Condition> {
    Some(Condition::Matches(etag.clone()))
}

async fn an_object_reads_back_byte_for_byte(store: &SharedStore, folder: &str) {
    let all_bytes: Vec<u8> = (0..=u8::MAX).collect();
    for (name, body) in [
        ("empty", Bytes::new()),
        ("bytes", Bytes::from(all_bytes.clone())),
        ("8MiB", Bytes::from(all_bytes.repeat(8 * 4096))),
    ] {
        let key = format!("{folder}/{name}");
        let etag = store.put(&key, body.clone(), absent()).await.unwrap();
        let object = store.get(&key).await.unwrap();
        assert!(object.body == body, "{name} reads back");
        assert_eq!(object.etag, etag, "{name}");
        let head = store.head(&key).await.unwrap();
        assert_eq!(head, (body.len() as u64, etag), "{name}");
    }
}

async fn what_exists_is_never_created_again(store: &SharedStore, folder: &str) {
    let key = format!("{folder}/k");
    let etag = store.put(&key, text("first"), absent()).await.unwrap();
    for body in ["second", "first"] {
        let again = store.put(&key, text(body), absent()).await;
        assert_eq!(again, Err(StoreError::Precondition));
    }
    let object = store.get(&key).await.unwrap();
    assert_eq!((object.body, object.etag), (text("first"), etag));
}

async fn only_the_named_version_is_replaced(store: &SharedStore, folder: &str) {
    let key = format!("{folder}/k");
    let first = store.put(&key, text("1"), absent()).await.unwrap();
    let second = store.put(&key, text("2"), matches(&first)).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(
        store.put(&key, text("3"), matches(&first)).await,
        Err(StoreError::Precondition),
        "an older version"
    );
    assert_eq!(store.get(&key).await.unwrap().body, text("2"));
    store.put(&key, text("4"), None).await.unwrap();
    assert_eq!(
        store.put(&key, text("5"), matches(&second)).await,
        Err(StoreError::Precondition),
        "a version replaced without a condition"
    );
    let object = store.get(&key).await.unwrap();
    assert_eq!(object.body, text("4"));
    store
        .put(&key, text("6"), matches(&object.etag))
        .await
        .unwrap();
    assert_eq!(store.get(&key).await.unwrap().body, text("6"));
}

async fn conditions_are_honoured(store: &SharedStore, folder: &str) {
    let key = format!("{folder}/own");
    store.put(&key, text("own"), absent()).await.unwrap();
    assert_eq!(
        honours_conditions(&**store, &key, text("own")).await,
        Ok(())
    );
    let missing = format!("{folder}/missing");
    assert_eq!(refuses_to_create_on_match(&**store, &missing).await, Ok(()));
    assert_eq!(store.get(&missing).await, Err(StoreError::NotFound));
}

async fn any_name_is_a_key(store: &SharedStore, folder: &str) {
    let names = [
        "date=2026-11-23/hour=03/topic-00000-00000000000000000000-00000000000000000009.parquet",
        "with space",
        "per%20cent%",
        "ünï/cødé/日本",
        "a+b&c=d;e@f,g!h'i(j)k*l",
        "quote\"brace{}tilde~hash#question?pipe|caret^",
        "<&>",
        "back\\slash",
        "..a/b..",
        ".hidden",
        "$dollar:colon",
    ];
    for name in names {
        let key = format!("{folder}/{name}");
        let etag = store.put(&key, text(name), absent()).await;
        let etag = etag.unwrap_or_else(|error| panic!("put {name}: {error}"));
        let object = store.get(&key).await.unwrap();
        assert_eq!((object.body, object.etag), (text(name), etag), "{name}");
    }
    let listed: HashSet<_> = keys(store, &format!("{folder}/"))
        .await
        .into_iter()
        .collect();
    let expected: HashSet<_> = names
        .iter()
        .map(|name| format!("{folder}/{name}"))
        .collect();
    assert_eq!(listed, expected);
    for name in names {
        let key = format!("{folder}/{name}");
        store.delete(&key).await.unwrap();
        assert_eq!(store.head(&key).await, Err(StoreError::NotFound), "{name}");
    }
    for key in ["", "/a", "a/", "a//b", "a/../b", "./a"] {
        let put = store.put(key, Bytes::new(), None).await;
        assert!(
            matches!(put, Err(StoreError::Refused(_))),
            "{key:?}: {put:?}"
        );
    }
}

async fn what_is_missing_is_said_to_be(store: &SharedStore, folder: &str) {
    let key = format!("{folder}/k");
    assert_eq!(store.get(&key).await, Err(StoreError::NotFound));
    assert_eq!(store.head(&key).await, Err(StoreError::NotFound));
    assert_eq!(store.list(&format!("{folder}/")).await, Ok(Vec::new()));
    assert_eq!(store.delete(&key).await, Ok(()));
    let etag = store.put(&key, text("1"), absent()).await.unwrap();
    for _ in 0..2 {
        assert_eq!(store.delete(&key).await, Ok(()));
    }
    let replaced = store.put(&key, text("2"), matches(&etag)).await;
    assert!(
        matches!(
            replaced,
            Err(StoreError::NotFound | StoreError::Precondition)
        ),
        "{replaced:?}"
    );
    assert_eq!(store.get(&key).await, Err(StoreError::NotFound));
    store.put(&key, text("3"), absent()).await.unwrap();
}

/// Enough to meet each other, few enough for a connection each.
const WRITERS: usize = 8;

async fn of_concurrent_creates_one_wins(store: &SharedStore, folder: &str) {
    for round in 0..5 {
        let key = format!("{folder}/{round}");
        let writes = (0..WRITERS).map(|writer| {
            let (store, key) = (store.clone(), key.clone());
            tokio::spawn(async move { store.put(&key, text(&writer.to_string()), absent()).await })
        });
        one_won(store, &key, join_all(writes).await).await;
    }
}

async fn of_concurrent_swaps_one_wins(store: &SharedStore, folder: &str) {
    let key = format!("{folder}/k");
    let mut etag = store.put(&key, text("start"), absent()).await.unwrap();
    for _ in 0..5 {
        let writes = (0..WRITERS).map(|writer| {
            let (store, key, etag) = (store.clone(), key.clone(), etag.clone());
            let body = text(&format!("{writer} after {}", etag.0));
            tokio::spawn(async move { store.put(&key, body, matches(&etag)).await })
        });
        etag = one_won(store, &key, join_all(writes).await).await;
    }
}

type Write = Result<Result<ETag, StoreError>, tokio::task::JoinError>;

/// A loser may also hear of a conflict; the object is the winner's.
async fn one_won(store: &SharedStore, key: &str, writes: Vec<Write>) -> ETag {
    let mut winner = None;
    for write in writes {
        match write.unwrap() {
            Ok(etag) => assert_eq!(winner.replace(etag), None, "two writers won {key}"),
            Err(StoreError::Precondition | StoreError::Conflict) => {}
            Err(error) => panic!("{key}: {error}"),
        }
    }
    let winner = winner.unwrap_or_else(|| panic!("no writer won {key}"));
    assert_eq!(store.get(key).await.unwrap().etag, winner);
    winner
}

async fn a_range_is_a_part(store: &SharedStore, folder: &str) {
    let key = format!("{folder}/k");
    let missing = store.get_range(&key, 0..1).await;
    assert_eq!(missing, Err(StoreError::NotFound));
    store.put(&key, text("0123456789"), absent()).await.unwrap();
    for (range, part) in [
        (0..10, "0123456789"),
        (3..7, "3456"),
        (9..10, "9"),
        (6..1000, "6789"),
    ] {
        let bytes = store.get_range(&key, range.clone()).await.unwrap();
        assert_eq!(bytes, text(part), "{range:?}");
    }
    for range in [10..11, 50..60, 4..4] {
        let part = store.get_range(&key, range.clone()).await;
        assert!(
            matches!(part, Err(StoreError::Refused(_))),
            "{range:?}: {part:?}"
        );
    }
}

/// Above one page of S3.
const LISTED: usize = 1_030;

async fn a_listing_is_whole_and_in_order(store: &SharedStore, folder: &str) {
    // What sorts around a slash, and prefixes that are no whole name.
    let mut expected: Vec<String> = ["a", "a-b", "a/b", "a.b", "a0", "b/ü", "b/z", "B", "~"]
        .iter()
        .map(|name| format!("{folder}/mixed{name}"))
        .collect();
    expected.extend((0..LISTED).map(|n| format!("{folder}/many/n={}/{n}", n % 3)));
    expected.sort_unstable();
    // A file cannot also be a folder: the only name that a local folder cannot hold.
    expected.retain(|key| key != &format!("{folder}/mixeda"));
    for some in expected.chunks(64) {
        let puts = some
            .iter()
            .map(|key| store.put(key, text("12345"), absent()));
        for put in join_all(puts).await {
            put.unwrap();
        }
    }
    assert_eq!(keys(store, &format!("{folder}/")).await, expected);
    for prefix in [
        "many/",
        "many/n=1",
        "many/n=1/1",
        "mixed",
        "mixedb/",
        "mix",
        "none",
    ] {
        let prefix = format!("{folder}/{prefix}");
        let below: Vec<_> = expected
            .iter()
            .filter(|key| key.starts_with(&prefix))
            .cloned()
            .collect();
        assert_eq!(keys(store, &prefix).await, below, "{prefix}");
    }
    let mut paged = Vec::new();
    let mut from = None;
    loop {
        let prefix = format!("{folder}/");
        let page = store.list_page(&prefix, from.as_deref()).await.unwrap();
        paged.extend(page.objects.into_iter().map(|object| object.key));
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    paged.sort_unstable();
    assert_eq!(paged, expected, "all pages");
    let object = &store.list(&format!("{folder}/mixedB")).await.unwrap()[0];
    assert_eq!(object.size_bytes, 5);
    let age_ms = chrono::Utc::now().timestamp_millis() - object.modified_ms;
    assert!(age_ms.abs() < 3_600_000, "modified {age_ms} ms ago");
    for some in expected.chunks(64) {
        let deletes = some.iter().map(|key| store.delete(key));
        for delete in join_all(deletes).await {
            delete.unwrap();
        }
    }
}

async fn keys(store: &SharedStore, prefix: &str) -> Vec<String> {
    let listed = store.list(prefix).await;
    let listed = listed.unwrap_or_else(|error| panic!("list {prefix}: {error}"));
    listed.into_iter().map(|object| object.key).collect()
}
