//! Batches that no client writes by itself, put into the log byte by byte: what a transaction
//! leaves behind, and what a disk has spoiled.

use std::io::{Read, Write};
use std::net::TcpStream;

/// A batch of one record.
struct Batch {
    attributes: i16,
    records: Vec<u8>,
}

const IS_CONTROL: i16 = 1 << 5;
const IS_TRANSACTIONAL: i16 = 1 << 4;
const GZIP: i16 = 1;

/// Puts a control record, as the commit of a transaction is one: an offset that holds nothing.
pub fn commit_marker(servers: &str, topic: &str) {
    // Length, attributes, time and offset after the batch's, key (version 0, type 1: commit),
    // value (version and coordinator epoch), no headers. Lengths are zigzag.
    let body = [
        &[0, 0, 0][..],
        &[8, 0, 0, 0, 1],
        &[12, 0, 0, 0, 0, 0, 0],
        &[0],
    ]
    .concat();
    let length = [2 * body.len() as u8];
    produce(
        servers,
        topic,
        &Batch {
            attributes: IS_CONTROL | IS_TRANSACTIONAL,
            records: [&length[..], &body].concat(),
        },
    );
}

/// Puts a batch that says it is compressed, and is not.
pub fn corrupt(servers: &str, topic: &str) {
    produce(
        servers,
        topic,
        &Batch {
            attributes: GZIP,
            records: b"no gzip at all".to_vec(),
        },
    );
}

/// Puts a batch whose only record goes on behind the batch's end.
pub fn cut_off(servers: &str, topic: &str) {
    produce(
        servers,
        topic,
        &Batch {
            attributes: 0,
            // A length of 200, zigzag.
            records: [&[0x90, 0x03][..], &[0; 20]].concat(),
        },
    );
}

fn produce(servers: &str, topic: &str, batch: &Batch) {
    let batch = batch.encode();
    let mut body = Vec::new();
    // Produce, version 3; then transactional id, acks, time-out in milliseconds.
    body.extend([0, 0, 0, 3, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]);
    body.extend((-1_i16).to_be_bytes());
    body.extend(10_000_i32.to_be_bytes());
    body.extend(1_i32.to_be_bytes());
    body.extend((topic.len() as i16).to_be_bytes());
    body.extend(topic.as_bytes());
    body.extend(1_i32.to_be_bytes());
    body.extend(0_i32.to_be_bytes());
    body.extend((batch.len() as i32).to_be_bytes());
    body.extend(batch);
    let mut broker = TcpStream::connect(servers).unwrap();
    broker
        .write_all(&(body.len() as i32).to_be_bytes())
        .unwrap();
    broker.write_all(&body).unwrap();
    let mut length = [0; 4];
    broker.read_exact(&mut length).unwrap();
    let mut answer = vec![0; i32::from_be_bytes(length) as usize];
    broker.read_exact(&mut answer).unwrap();
    // Correlation id, one topic and its name, one partition and its number, the error.
    let error = 4 + 4 + 2 + topic.len() + 4 + 4;
    assert_eq!(&answer[error..error + 2], [0, 0], "the broker refuses it");
}

impl Batch {
    fn encode(&self) -> Vec<u8> {
        let mut rest = Vec::new();
        // Leader epoch, magic, checksum (which consumers do not check by default).
        rest.extend([0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0]);
        rest.extend(self.attributes.to_be_bytes());
        // Last offset after the first; first and last time; producer, its epoch, sequence.
        rest.extend(0_i32.to_be_bytes());
        for _ in 0..2 {
            rest.extend(1_700_000_000_000_i64.to_be_bytes());
        }
        rest.extend(7_i64.to_be_bytes());
        rest.extend(0_i16.to_be_bytes());
        rest.extend((-1_i32).to_be_bytes());
        rest.extend(1_i32.to_be_bytes());
        rest.extend(&self.records);
        let mut batch = 0_i64.to_be_bytes().to_vec();
        batch.extend((rest.len() as i32).to_be_bytes());
        batch.extend(rest);
        batch
    }
}
