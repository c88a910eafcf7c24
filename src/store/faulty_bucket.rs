//! The protocol's swap through both S3 clients, against a bucket that answers wrongly, cuts the
//! connection or keeps silent, before and after it did what was asked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use slog::{Discard, Logger, o};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::endpoint::tests::s3;
use super::memory::MemoryStore;
use super::object_store_s3::ObjectStoreS3;
use super::s3::S3Store;
use super::s3::tests::hush;
use super::{Condition, ETag, ObjectStore, SharedStore, StoreError};
use crate::fault::{Step, Stepped};
use crate::landing::ledger::{Ledger, decode};
use crate::landing::patience::{Patience, Place};
use crate::landing::protocol::checkpoint::{Checkpoint, FORMAT};
use crate::landing::protocol::keys::Names;
use crate::landing::protocol::swap::SwapOutcome;
use crate::status::Status;

/// What the server does wrong with one request.
#[derive(Debug, Clone, Copy)]
enum Mishap {
    /// Answers with this status.
    Answers(u16),
    /// Closes the connection.
    Cuts,
    /// Says nothing until the client has given up.
    KeepsSilent,
    /// Answers with half a head.
    Stammers,
}

/// What befalls the first put whose body holds a text.
#[derive(Debug, Default)]
struct Plan {
    text: &'static str,
    mishap: Option<Mishap>,
    /// Whether it comes after the effect.
    is_after: bool,
    /// How many requests came so far.
    requests: usize,
}

const MISHAPS: [Mishap; 8] = [
    Mishap::Answers(409),
    Mishap::Answers(412),
    Mishap::Answers(500),
    Mishap::Answers(503),
    Mishap::Answers(403),
    Mishap::Cuts,
    Mishap::KeepsSilent,
    Mishap::Stammers,
];

const TIMEOUT: Duration = Duration::from_millis(500);

struct Bucket {
    objects: Arc<MemoryStore>,
    plan: Arc<Mutex<Plan>>,
    clients: [SharedStore; 2],
}

impl Bucket {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let objects = Arc::new(MemoryStore::new());
        let plan = Arc::<Mutex<Plan>>::default();
        tokio::spawn({
            let (objects, plan) = (objects.clone(), plan.clone());
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    tokio::spawn(serve(stream, objects.clone(), plan.clone()));
                }
            }
        });
        let mut config = s3(Some(&endpoint), true);
        config.timeout = TIMEOUT;
        let clients: [SharedStore; 2] = [
            Arc::new(S3Store::with_chain(&config, "b", "", hush()).unwrap()),
            Arc::new(ObjectStoreS3::with_chain(&config, "b", "", hush()).unwrap()),
        ];
        Self {
            objects,
            plan,
            clients,
        }
    }
}

impl Plan {
    fn befalls(&mut self, head: &str, body: &[u8]) -> (Option<Mishap>, bool) {
        self.requests += 1;
        let holds_text = memchr::memmem::find(body, self.text.as_bytes()).is_some();
        let is_meant = head.starts_with("PUT") && holds_text;
        let mishap = is_meant.then(|| self.mishap.take()).flatten();
        (mishap, self.is_after)
    }
}

/// One request of a connection.
async fn serve(mut stream: TcpStream, objects: Arc<MemoryStore>, plan: Arc<Mutex<Plan>>) {
    let Some((head, body)) = read_request(&mut stream).await else {
        return;
    };
    let (mishap, is_after) = plan.lock().unwrap().befalls(&head, &body);
    let mut done = Vec::new();
    if mishap.is_none() || is_after {
        done = effect(&head, body, &objects).await;
    }
    let answer = match mishap {
        None => done,
        Some(Mishap::Answers(status)) => answer(status, "", &[]),
        Some(Mishap::Cuts) => return,
        Some(Mishap::KeepsSilent) => {
            tokio::time::sleep(4 * TIMEOUT).await;
            return;
        }
        Some(Mishap::Stammers) => b"HTTP/1.1 200 OK\r\nETa".to_vec(),
    };
    let _ = stream.write_all(&answer).await;
    let _ = stream.shutdown().await;
}

pub(in crate::store) async fn read_request(stream: &mut TcpStream) -> Option<(String, Bytes)> {
    let mut read = Vec::new();
    loop {
        let mut some = [0; 4096];
        let count = stream
            .read(&mut some)
            .await
            .ok()
            .filter(|count| *count > 0)?;
        read.extend_from_slice(&some[..count]);
        let Some(end) = memchr::memmem::find(&read, b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&read[..end]).into_owned();
        let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        if read.len() >= end + 4 + length {
            return Some((head, Bytes::copy_from_slice(&read[end + 4..])));
        }
    }
}

pub(in crate::store) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

pub(in crate::store) async fn effect(head: &str, body: Bytes, objects: &MemoryStore) -> Vec<u8> {
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let key = path.split('?').next().unwrap().strip_prefix("/b/").unwrap();
    let condition = header(head, "if-match")
        .map(|etag| Condition::Matches(ETag(etag.to_owned())))
        .or(header(head, "if-none-match").map(|_| Condition::Absent));
    let done = match method {
        "PUT" => {
            let put = objects.put(key, body, condition).await;
            put.map(|etag| (etag, Bytes::new()))
        }
        "GET" => objects
            .get(key)
            .await
            .map(|object| (object.etag, object.body)),
        other => panic!("{other}"),
    };
    match done {
        Ok((etag, body)) => answer(200, &etag.0, &body),
        Err(StoreError::Precondition) => answer(412, "", &[]),
        Err(StoreError::NotFound) => answer(404, "", &[]),
        Err(error) => panic!("{error}"),
    }
}

pub(in crate::store) fn answer(status: u16, etag: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} X\r\nETag: {etag}\r\nContent-Length: {length}\r\nConnection: close\r\n\
         Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn checkpoint(revision: u64) -> Checkpoint {
    Checkpoint {
        format: FORMAT,
        revision,
        epoch: 1,
        writer: "w".into(),
        time: String::new(),
        cluster_id: String::new(),
        topic_id: String::new(),
        first_offset: 0,
        next_offset: 0,
        holes_to: 0,
        last: None,
        pending: None,
        partitions: 1,
        started_ms: 0,
        adopted: None,
        columns: Vec::new(),
        roots: Vec::new(),
        stopped: None,
    }
}

fn ledger(store: SharedStore) -> Ledger {
    let (status, log) = (Status::new(), Logger::root(Discard, o!()));
    let pulse = status.group("landing").pulse("checkpoint");
    let names = Names {
        data: "data".into(),
        dead_letters: "dead".into(),
        checkpoints: "checkpoints".into(),
        group: "g".into(),
        topic: "t".into(),
    };
    let patience = Patience::new(Place::Store, status, pulse, log.clone());
    Ledger::new(Stepped::new(store), names, patience, log)
}

/// A create, then a replace; the mishap befalls the first put of that revision.
async fn swaps_whatever_happens(client: usize, mishap: Mishap, is_after: bool, revision: u64) {
    let case = format!("client {client}, revision {revision}: {mishap:?}, after: {is_after}");
    let bucket = Bucket::start().await;
    let texts = ["", "\"revision\": 1", "\"revision\": 2"];
    *bucket.plan.lock().unwrap() = Plan {
        text: texts[revision as usize],
        mishap: Some(mishap),
        is_after,
        requests: 0,
    };
    let ledger = ledger(bucket.clients[client].clone());
    let first = ledger
        .swap(Step::ClaimSwap, 0, &checkpoint(1), Condition::Absent)
        .await;
    // A 412 that is not true means another writer: the claim begins anew, which is safe.
    let lies = matches!(mishap, Mishap::Answers(412)) && !is_after;
    let SwapOutcome::Won(etag) = first else {
        assert!(lies && revision == 1, "{case}: {first:?}");
        return;
    };
    let replaced = ledger
        .swap(Step::BeginSwap, 0, &checkpoint(2), Condition::Matches(etag))
        .await;
    let is_won = matches!(replaced, SwapOutcome::Won(_));
    assert_eq!(is_won, !(lies && revision == 2), "{case}: {replaced:?}");
    assert!(bucket.plan.lock().unwrap().mishap.is_none(), "{case}");
    let held = bucket.objects.get("checkpoints/g/t/0.json").await.unwrap();
    let reached = if is_won { 2 } else { 1 };
    assert_eq!(decode(&held.body).unwrap(), checkpoint(reached), "{case}");
}

#[tokio::test]
async fn a_swap_is_resolved_rightly_whatever_happens_to_its_answer() {
    let mut cases = Vec::new();
    for client in 0..2 {
        for mishap in MISHAPS {
            for is_after in [false, true] {
                for revision in [1, 2] {
                    cases.push(swaps_whatever_happens(client, mishap, is_after, revision));
                }
            }
        }
    }
    join_all(cases).await;
}

/// The clients' own libraries would repeat a put, and tell of the second answer alone.
#[tokio::test]
async fn a_client_makes_one_attempt() {
    for client in 0..2 {
        for mishap in MISHAPS {
            let bucket = Bucket::start().await;
            bucket.plan.lock().unwrap().mishap = Some(mishap);
            let put = bucket.clients[client].put("k", Bytes::new(), Some(Condition::Absent));
            assert!(put.await.is_err(), "{client} {mishap:?}");
            assert_eq!(
                bucket.plan.lock().unwrap().requests,
                1,
                "{client} {mishap:?}"
            );
        }
    }
}
