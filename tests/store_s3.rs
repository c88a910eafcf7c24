//! Both S3 clients against real servers: the suite that every backend keeps, over http and https,
//! and what they say when a server refuses or is away.
//!
//! `tests/servers/servers.py run -- cargo test -- --ignored`

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use groundtrack::config::{NamedFile, S3, S3Client, S3Credentials, Store, StoreLocation};
use groundtrack::store::object_store_s3::ObjectStoreS3;
use groundtrack::store::s3::S3Store;
use groundtrack::store::{Condition, SharedStore, StoreError, conformance, open};

/// Below every listing of the suite, so that each takes many pages.
const PAGE_KEYS: u16 = 100;

const CLIENTS: [S3Client; 2] = [S3Client::Rusoto, S3Client::ObjectStore];

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name}: start it by tests/servers/servers.py"))
}

fn bucket() -> String {
    variable("GROUNDTRACK_TEST_BUCKET")
}

fn s3(endpoint: &str, client: S3Client) -> S3 {
    S3 {
        endpoint: Some(endpoint.to_owned()),
        region: "us-east-1".to_owned(),
        path_style: true,
        client,
        server_side_encryption: None,
        storage_class: None,
        ca_file: None,
        credentials: S3Credentials::Found { profile: None },
        timeout: Duration::from_secs(30),
    }
}

fn store(s3: S3, bucket: String, prefix: &str) -> SharedStore {
    let config = Store {
        location: StoreLocation::S3 {
            bucket,
            prefix: prefix.to_owned(),
        },
        data: "parquet_files".to_owned(),
        checkpoints: "checkpoints".to_owned(),
        dead_letters: "dead_letters".to_owned(),
        s3,
    };
    open(&config, None).unwrap()
}

/// A folder that no other run uses.
fn folder(name: &str) -> String {
    format!("{name}-{}-{:x}", std::process::id(), fastrand::u64(..))
}

fn in_pages(s3: &S3, prefix: &str) -> SharedStore {
    match s3.client {
        S3Client::Rusoto => Arc::new(
            S3Store::open(s3, &bucket(), prefix, None)
                .unwrap()
                .with_page_keys(PAGE_KEYS),
        ),
        S3Client::ObjectStore => Arc::new(
            ObjectStoreS3::open(s3, &bucket(), prefix, None)
                .unwrap()
                .with_page_keys(PAGE_KEYS),
        ),
    }
}

#[tokio::test]
#[ignore = "needs real servers"]
async fn rusoto_keeps_the_contract_on_minio() {
    let s3 = s3(&variable("GROUNDTRACK_TEST_MINIO"), S3Client::Rusoto);
    conformance::all(in_pages(&s3, ""), &folder("rusoto")).await;
}

#[tokio::test]
#[ignore = "needs real servers"]
async fn object_store_keeps_the_contract_on_minio() {
    let s3 = s3(&variable("GROUNDTRACK_TEST_MINIO"), S3Client::ObjectStore);
    conformance::all(in_pages(&s3, ""), &folder("object_store")).await;
}

#[tokio::test]
#[ignore = "needs real servers"]
async fn rusoto_keeps_the_contract_on_versitygw() {
    let s3 = s3(&variable("GROUNDTRACK_TEST_VERSITYGW"), S3Client::Rusoto);
    conformance::all(in_pages(&s3, "with a/prefix"), &folder("rusoto")).await;
}

#[tokio::test]
#[ignore = "needs real servers"]
async fn object_store_keeps_the_contract_on_versitygw() {
    let s3 = s3(
        &variable("GROUNDTRACK_TEST_VERSITYGW"),
        S3Client::ObjectStore,
    );
    conformance::all(in_pages(&s3, "with a/prefix"), &folder("object_store")).await;
}

#[tokio::test]
#[ignore = "needs real servers"]
async fn a_prefix_is_no_part_of_the_keys() {
    for client in CLIENTS {
        let s3 = s3(&variable("GROUNDTRACK_TEST_MINIO"), client);
        let prefix = folder("prefix");
        let inside = store(s3.clone(), bucket(), &format!("{prefix}/in side"));
        let above = store(s3, bucket(), &prefix);
        inside.put("k", Bytes::new(), None).await.unwrap();
        above.put("other", Bytes::new(), None).await.unwrap();
        assert_eq!(inside.list("").await.unwrap()[0].key, "k");
        assert_eq!(inside.list("").await.unwrap().len(), 1);
        let keys: Vec<_> = above
            .list("")
            .await
            .unwrap()
            .into_iter()
            .map(|o| o.key)
            .collect();
        assert_eq!(keys, ["in side/k", "other"]);
        let location = format!("s3://{}/{prefix}/in side", bucket());
        assert_eq!(inside.location(), location);
    }
}

#[tokio::test]
#[ignore = "needs real servers"]
async fn a_certificate_is_trusted_by_the_file_alone() {
    for client in CLIENTS {
        let mut s3 = s3(&variable("GROUNDTRACK_TEST_MINIO_TLS"), client);
        let stranger = store(s3.clone(), bucket(), "");
        let refused = stranger.get("k").await;
        assert!(
            matches!(&refused, Err(StoreError::Unknown(why)) if why.contains("certificate")),
            "{client:?}: {refused:?}"
        );
        s3.ca_file = Some(NamedFile::new(variable("GROUNDTRACK_TEST_MINIO_CA")));
        let trusting = store(s3, bucket(), &folder("tls"));
        let body = Bytes::from(vec![7; 3 << 20]);
        trusting
            .put("k", body.clone(), Some(Condition::Absent))
            .await
            .unwrap();
        assert!(trusting.get("k").await.unwrap().body == body);
    }
}

#[tokio::test]
#[ignore = "needs real servers"]
async fn a_missing_bucket_is_named() {
    for client in CLIENTS {
        for server in ["GROUNDTRACK_TEST_MINIO", "GROUNDTRACK_TEST_VERSITYGW"] {
            let store = store(s3(&variable(server), client), "no-such-bucket".into(), "");
            let put = store.put("k", Bytes::new(), Some(Condition::Absent)).await;
            let list = store.list("").await.map(|_| ());
            for result in [put.map(|_| ()), store.get("k").await.map(|_| ()), list] {
                assert!(
                    matches!(&result, Err(StoreError::Refused(why)) if why.contains("no-such-bucket")),
                    "{client:?} {server}: {result:?}"
                );
            }
        }
    }
}

#[tokio::test]
#[ignore = "needs real servers"]
async fn a_server_that_is_away_leaves_the_effect_unknown() {
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = listener.local_addr().unwrap();
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    for client in CLIENTS {
        for address in [silent, closed] {
            let mut s3 = s3(&format!("http://{address}"), client);
            s3.timeout = Duration::from_millis(300);
            let store = store(s3, bucket(), "");
            let put = store.put("k", Bytes::new(), Some(Condition::Absent)).await;
            assert!(
                matches!(put, Err(StoreError::Unknown(_))),
                "{client:?}: {put:?}"
            );
        }
    }
}

#[test]
#[ignore = "needs real servers"]
fn a_store_outlives_the_runtime_that_first_used_it() {
    for client in CLIENTS {
        let s3 = s3(&variable("GROUNDTRACK_TEST_MINIO"), client);
        let store = store(s3, bucket(), &folder("runtimes"));
        for generation in 0..3 {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let key = format!("k{generation}");
            let put = runtime.block_on(store.put(&key, Bytes::new(), Some(Condition::Absent)));
            assert!(put.is_ok(), "{client:?}, generation {generation}: {put:?}");
        }
    }
}
