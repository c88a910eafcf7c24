//! What servers get wrong means the same to both S3 clients, and breaks neither.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::endpoint::tests::s3;
use super::object_store_s3::ObjectStoreS3;
use super::s3::S3Store;
use super::s3::tests::hush;
use super::{Condition, SharedStore, StoreError};

/// A server that gives the same bytes to every request and then cuts the connection.
async fn clients_of(answer: &'static [u8]) -> [SharedStore; 2] {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 16 * 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
        }
    });
    let mut config = s3(Some(&endpoint), true);
    config.timeout = Duration::from_secs(20);
    [
        Arc::new(S3Store::with_chain(&config, "b", "", hush()).unwrap()),
        Arc::new(ObjectStoreS3::with_chain(&config, "b", "", hush()).unwrap()),
    ]
}

#[derive(Debug, PartialEq)]
enum Kind {
    Done,
    Precondition,
    NotFound,
    Conflict,
    Unknown,
    Refused,
}

fn kind<T>(result: &Result<T, StoreError>) -> Kind {
    match result {
        Ok(_) => Kind::Done,
        Err(StoreError::Precondition) => Kind::Precondition,
        Err(StoreError::NotFound) => Kind::NotFound,
        Err(StoreError::Conflict) => Kind::Conflict,
        Err(StoreError::Unknown(_)) => Kind::Unknown,
        Err(StoreError::Refused(_)) => Kind::Refused,
    }
}

async fn puts_mean(answer: &'static [u8], expected: Kind) {
    for store in clients_of(answer).await {
        let put = store
            .put("k", Bytes::from_static(b"x"), Some(Condition::Absent))
            .await;
        let answer = String::from_utf8_lossy(answer);
        assert_eq!(kind(&put), expected, "{store:?} {answer}: {put:?}");
    }
}

#[tokio::test]
async fn a_put_is_unknown_unless_the_answer_says_what_became_of_it() {
    puts_mean(b"", Kind::Unknown).await;
    puts_mean(b"HTTP/1.1 200 OK\r\nETag", Kind::Unknown).await;
    puts_mean(b"SSH-2.0-OpenSSH_9.2\r\n", Kind::Unknown).await;
    puts_mean(
        b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n",
        Kind::Unknown,
    )
    .await;
    puts_mean(
        b"HTTP/1.1 500 No\r\nContent-Length: 999\r\n\r\ncut",
        Kind::Unknown,
    )
    .await;
    // It was written; but as which version?
    puts_mean(
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        Kind::Unknown,
    )
    .await;
    puts_mean(
        b"HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 0\r\n\r\n",
        Kind::Done,
    )
    .await;
    puts_mean(
        b"HTTP/1.1 412 No\r\nContent-Length: 0\r\n\r\n",
        Kind::Precondition,
    )
    .await;
    puts_mean(
        b"HTTP/1.1 409 No\r\nContent-Length: 0\r\n\r\n",
        Kind::Conflict,
    )
    .await;
    puts_mean(
        b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
        Kind::NotFound,
    )
    .await;
    puts_mean(
        b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n",
        Kind::Refused,
    )
    .await;
    puts_mean(
        b"HTTP/1.1 501 No\r\nContent-Length: 0\r\n\r\n",
        Kind::Refused,
    )
    .await;
}

#[tokio::test]
async fn no_redirect_is_followed_and_the_region_is_named() {
    let answer = b"HTTP/1.1 307 Elsewhere\r\nLocation: http://127.0.0.1:1/k\r\n\
        x-amz-bucket-region: eu-west-3\r\nContent-Length: 0\r\n\r\n";
    for store in clients_of(answer).await {
        let put = store.put("k", Bytes::new(), None).await;
        let Err(StoreError::Refused(why)) = put else {
            panic!("{store:?}: {put:?}");
        };
        assert!(why.contains("store.s3.region = \"eu-west-3\""), "{why}");
    }
}

#[tokio::test]
async fn headers_that_are_no_text_break_nothing() {
    let answer = b"HTTP/1.1 200 OK\r\nETag: \"e\"\r\nServer: \xff\xfe\r\n\
        x-amz-missing-meta: many\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n\
        Content-Length: 2\r\n\r\nok";
    for store in clients_of(answer).await {
        let object = store.get("k").await.unwrap();
        assert_eq!(object.body, "ok", "{store:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_cut_is_no_object() {
    let answer = b"HTTP/1.1 200 OK\r\nETag: \"e\"\r\n\
        Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\nContent-Length: 100\r\n\r\nok";
    for store in clients_of(answer).await {
        let object = store.get("k").await;
        assert_eq!(kind(&object), Kind::Unknown, "{store:?}: {object:?}");
    }
}

#[tokio::test]
async fn a_listing_that_cannot_be_read_is_no_empty_one() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
    for body in [
        "",
        "<html>hello</html>",
        "<ListBucketResult><Contents><Key>k</Key><Size>many</Size></Contents></ListBucketResult>",
        "<ListBucketResult><IsTruncated>false</IsTruncated><Contents>",
        // rusoto's parser never returns from these.
        "<ListBucketResult><IsTruncated>false</IsTruncated><Contents></ListBucketResult>",
        "<ListBucketResult><IsTruncated>false</IsTruncated><Contents>&no;</Contents></ListBucketResult>",
        // More follows, but not how to ask for it.
        "<ListBucketResult><Name>b</Name><KeyCount>0</KeyCount><MaxKeys>1</MaxKeys>\
         <IsTruncated>true</IsTruncated></ListBucketResult>",
        // Pages without an end.
        "<ListBucketResult><Name>b</Name><Prefix></Prefix><KeyCount>0</KeyCount>\
         <MaxKeys>1000</MaxKeys><IsTruncated>true</IsTruncated>\
         <NextContinuationToken>t</NextContinuationToken></ListBucketResult>",
    ] {
        let answer: &'static str = Box::leak(format!("{HEAD}{body}").into_boxed_str());
        for store in clients_of(answer.as_bytes()).await {
            let listed = store.list("").await;
            assert_eq!(kind(&listed), Kind::Unknown, "{store:?} {body}: {listed:?}");
        }
    }
}
